// The chaos game in CUDA C: one block per image, its bitmap of one bit per pixel in shared memory.
//
// The formulas, the addresses of the randomness and the reasons are in cpu.py; all bytes equal those of cpu.py. Top to
// bottom: the system, the pilot, the walk, the frame, and the kernels, which combine these. The visits of a point
// (Widen, Splat, Number) are in device/bitmap.cuh; patches, mask, orientation and bytes are in device/texture.cuh.
//
// **Two walks.** The pixel of a point depends on the extreme points, so the walk is done twice: once for the frame,
// once for the pixels. Storing the points would cost 800 KB per image, and walking again is cheaper than reading them.
// (Folding the frame into the maps would save six instructions per point but change the rounding, and so pixels.)
//
// **What makes it deterministic.** float32 with no contraction (--fmad=false); min, max, OR and "latest point" do not
// depend on the order; barriers separate the operations that do.
//
// **Why 128 threads.** One per walker. Shared memory decides how many images a multiprocessor renders at once: at
// 512 x 512, 33 KB for the bits and 3 KB for the system and the starts, so an H100 (228 KB) holds six blocks, 24 warps;
// 80 registers per thread allow six as well. So many warps hide the latency of a walk's dependent operations, and the
// issue slots bind. Few images leave the GPU idle; more blocks per image would not shorten the chain.
//
// **What an image costs**: thousands of issue slots on each of the four schedulers of a multiprocessor, read from
// machine code for sm_90 (python -m bench.machine_code), 100,000 points, 512 x 512; a model, not measured on a GPU:
//
//                       2 maps   3 or 4   5 to 8
//     pilot                  9        9        9     17.5 slots a step, 2,048 steps, in one warp
//     frame                 18       23       27     24, 30 and 35 slots a point; the ALU pipe takes 22, 26 and 34
//     bits                  32       35       39     41, 45 and 50 slots a point; shared memory takes 20, 44 and 44
//     patches and mask       8        8        8     70 slots a word of 32 pixels, 64 a Philox call for four of them
//     bytes                  5        5        5     39 to 42 slots a store of sixteen pixels; 2 more if transposed
//
// **Large canvases** are rendered in bands of rows, one block per band. A block plays the whole game and keeps the
// points in its rows.
//
// A launch with one thread per block is correct: every loop strides by blockDim.x, all threads reach every barrier.

#include "device/bitmap.cuh"
#include "device/common.cuh"
#include "device/counts.cuh"
#include "device/texture.cuh"
#include "philox/philox.cuh"

constexpr int MAX_MAPS = 64;
constexpr int MAX_WALKERS = 128;
constexpr int STEPS_A_WALKER = 64;
constexpr int PILOT_STEPS = 16;
constexpr uint32 PILOT_BLOCKS = 1u << 31;
constexpr int PICKS = 8;                  // picks per Philox call, sixteen bits each
constexpr float LIMIT = 4.611686018e18f;  // 2^62
constexpr uint32 NEVER = 0xFFFFFFFFu;

struct __align__(16) Linear {
    float a, b, c, d;
};

struct __align__(8) Point {
    float x, y;
};

// An iterated function system in shared memory: x' = a x + b y + e, y' = c x + d y + f.
struct System {
    Linear linear[MAX_MAPS];
    Point shift[MAX_MAPS];
    uint32 limits[MAX_MAPS + 8];  // a word (pick in its upper half) passes map k if greater; NEVER: no word passes
    int first;                    // number of leading maps of probability 0
    int count;
};

// The parameters of an image's game, its system included.
struct Game {
    const System* system;
    const Point* starts;  // of the walkers
    int points, walkers;
    uint64 number;
    uint32 key0, key1;
};

// ------------------------------------------------------------------------------------------------------ the system

// Load maps [most, 6] and thresholds [most] of one image into shared memory.
__device__ void load_system(const float* maps, const int* thresholds, int count, System& system) {
    for (int k = threadIdx.x; k < 8; k += blockDim.x) system.limits[MAX_MAPS + k] = NEVER;
    for (int k = threadIdx.x; k < MAX_MAPS; k += blockDim.x) {
        const float* map = maps + 6 * (k < count ? k : count - 1);
        system.linear[k] = {map[0], map[1], map[2], map[3]};
        system.shift[k] = {map[4], map[5]};
        int threshold = k < count - 1 ? thresholds[k] : 65536;
        // pick >= threshold, as (pick << 16) > (threshold << 16) - 1; thresholds of 0 are counted in `first` instead
        system.limits[k] = threshold == 0 || threshold == 65536 ? NEVER : ((uint32)threshold << 16) - 1;
    }
    if (threadIdx.x == 0) {
        int first = 0;
        while (first < count - 1 && thresholds[first] == 0) ++first;
        system.first = first;
        system.count = count;
    }
    __syncthreads();
}

// Return the map that the upper half of a word chooses.
__device__ __forceinline__ int choose(const System& system, uint32 word) {
    int which = system.first;
#pragma unroll 1
    for (int k = 0; k < system.count - 1; ++k) which += word > system.limits[k];
    return which;
}

// Apply a map to (x, y). CHECKED: to the origin if the point leaves +-LIMIT or is NaN. Return whether it stayed inside.
template <bool CHECKED>
__device__ __forceinline__ bool step(const Linear& m, const Point& shift, float& x, float& y) {
    float next_x = m.a * x + m.b * y + shift.x;
    float next_y = m.c * x + m.d * y + shift.y;
    bool inside = fabsf(next_x) <= LIMIT & fabsf(next_y) <= LIMIT;
    x = CHECKED && !inside ? 0.0f : next_x;
    y = CHECKED && !inside ? 0.0f : next_y;
    return inside;
}

// ------------------------------------------------------------------------------------------------------- the pilot

__device__ __forceinline__ int walker_count(int points) {
    int walkers = 1;
    while (walkers < MAX_WALKERS && walkers * 2 * STEPS_A_WALKER <= points) walkers *= 2;
    return walkers;
}

// Advance the pilot by sixteen steps from (x, y); `packed` has four maps per word. Return whether every point stayed in
// range.
template <bool CHECKED>
__device__ __forceinline__ bool follow(const System& system, const uint32* packed, float& x, float& y) {
    bool inside = true;
#pragma unroll 8  // the maps of eight steps are loaded while the dependent points are computed
    for (int i = 0; i < PILOT_STEPS; ++i) {
        int k = packed[i / 4] >> (8 * (i % 4)) & 255;
        inside &= step<CHECKED>(system.linear[k], system.shift[k], x, y);
    }
    return inside;
}

// Compute the walkers' starts: every sixteenth point of a sequential game from the origin. All threads choose the maps,
// into `packed`; then one thread walks, 2,048 dependent steps. This thread leaves out the range check, a third of the
// latency, and repeats with the check the rare sixteen steps that need it.
//
// Its warp differs from block to block. Warp w runs on scheduler w % 4 of a multiprocessor, and the pilot takes 35,800
// issue slots there, where the rest of an image takes some 63,000 on each: always on one scheduler, the pilots would
// make it the slowest by half. Blocks of a multiprocessor are neighbours, or as far apart as there are multiprocessors,
// 132 on an H100: both get different warps. (A kernel of its own, one lane per image, would take a thirtieth of the
// slots, but some 100,000 cycles before an image can begin: a loss for fewer than about 2,000 images a launch.)
__device__ void pilot(const System& system, const Game& game, uint32* packed, Point* starts) {
    for (int call = threadIdx.x; call < game.walkers * PILOT_STEPS / PICKS; call += blockDim.x) {
        Four words = philox4x32(PILOT_BLOCKS + call, STREAM_POINTS, game.number, game.key0, game.key1);
        packed[2 * call] = choose(system, words.x << 16) | choose(system, words.x) << 8 |
                           choose(system, words.y << 16) << 16 | choose(system, words.y) << 24;
        packed[2 * call + 1] = choose(system, words.z << 16) | choose(system, words.z) << 8 |
                               choose(system, words.w << 16) << 16 | choose(system, words.w) << 24;
    }
    __syncthreads();
    const int warp = (blockIdx.x + blockIdx.x / 4) % 4;
    if (threadIdx.x == 32 * warp % blockDim.x) {
        float x = 0.0f, y = 0.0f;
        for (int w = 0; w < game.walkers; ++w) {
            starts[w] = {x, y};
            const uint32* maps = packed + w * (PILOT_STEPS / 4);
            if (!follow<false>(system, maps, x, y)) {
                x = starts[w].x, y = starts[w].y;
                follow<true>(system, maps, x, y);
            }
        }
    }
    __syncthreads();
}

// -------------------------------------------------------------------------------------------------------- the walk

// The step of a walker, specialised by the number of maps: 2, 4 or 8, of which the last ones may be missing. The limits
// stay in registers, and a tree of comparisons chooses: among 8 maps, 12 instructions instead of one comparison, one
// addition and one selection for each limit, 21.
template <int MAPS>
struct Mover {
    const System& system;
    uint32 limits[MAPS - 1];
    int first;

    __device__ __forceinline__ Mover(const System& s) : system(s), first(s.first) {
#pragma unroll
        for (int k = 0; k < MAPS - 1; ++k) limits[k] = s.limits[first + k];
    }
    __device__ __forceinline__ int choose(uint32 word) const {
        uint32 left[MAPS - 1];  // the limits that are still in question, ascending: 2 half - 1 of them
#pragma unroll
        for (int k = 0; k < MAPS - 1; ++k) left[k] = limits[k];
        int which = first;
#pragma unroll
        for (int half = MAPS / 2; half > 0; half /= 2) {
            const bool passes = word > left[half - 1];
            which += passes ? half : 0;
#pragma unroll
            for (int k = 0; k < half - 1; ++k) left[k] = passes ? left[half + k] : left[k];
        }
        return which;
    }
    template <bool CHECKED, bool LOADS>
    __device__ __forceinline__ void move(uint32 word, float& x, float& y) const {
        const int which = choose(word);
        step<CHECKED>(system.linear[which], system.shift[which], x, y);
    }
};

// Two maps stay in registers while the points' bits are set in shared memory: loads of a map would take six of the 40
// cycles in four warps that share that memory. A walk that leaves it alone LOADS the linear part: one instruction for
// four selections, which take the ALU pipe (half rate) to 27.5 cycles a step; so it takes 22, and the issue slots 24.
template <>
struct Mover<2> {
    const Linear* first;  // of the two maps, in shared memory
    Linear linear[2];     // the same in registers
    Point shift[2];
    uint32 limit;

    __device__ __forceinline__ Mover(const System& s) : first(s.linear + s.first), limit(s.limits[s.first]) {
        for (int k = 0; k < 2; ++k) linear[k] = s.linear[s.first + k], shift[k] = s.shift[s.first + k];
    }
    template <bool CHECKED, bool LOADS>
    __device__ __forceinline__ void move(uint32 word, float& x, float& y) const {
        const bool second = word > limit;
        const Point t = {second ? shift[1].x : shift[0].x, second ? shift[1].y : shift[0].y};
        if (LOADS) {
            step<CHECKED>(second ? first[1] : first[0], t, x, y);
        } else {
            const Linear m = {second ? linear[1].a : linear[0].a, second ? linear[1].b : linear[0].b,
                              second ? linear[1].c : linear[0].c, second ? linear[1].d : linear[0].d};
            step<CHECKED>(m, t, x, y);
        }
    }
};

template <>
struct Mover<MAX_MAPS> {
    const System& system;

    __device__ __forceinline__ Mover(const System& s) : system(s) {}
    template <bool CHECKED, bool LOADS>
    __device__ __forceinline__ void move(uint32 word, float& x, float& y) const {
        int which = choose(system, word);
        step<CHECKED>(system.linear[which], system.shift[which], x, y);
    }
};

// Move a thread's walkers, eight points per Philox call: visit the point, then step.
template <int MAPS, bool CHECKED, class Visit>
__device__ __forceinline__ void walk(const Game& game, const Visit& visit) {
    const Mover<MAPS> mover(*game.system);
    for (int w = threadIdx.x; w < game.walkers; w += blockDim.x) {
        float x = game.starts[w].x, y = game.starts[w].y;
        int index = w;
        // visit the next point, and step by the map that the upper half of a word chooses
        auto turn = [&](uint32 word) {
            visit(x, y, index);
            mover.template move<CHECKED, !Visit::USES_SHARED>(word, x, y);
            index += game.walkers;
        };
        for (uint32 block = w; index < game.points; block += game.walkers) {
            Four words = philox4x32(block, STREAM_POINTS, game.number, game.key0, game.key1);
            if (index + (PICKS - 1) * game.walkers >= game.points) {  // the last, incomplete group of eight
                for (; index < game.points; words = {words.y, words.z, words.w, 0}) {
                    turn(words.x << 16);
                    if (index < game.points) turn(words.x);
                }
                break;
            }
            turn(words.x << 16), turn(words.x), turn(words.y << 16), turn(words.y);
            turn(words.z << 16), turn(words.z), turn(words.w << 16), turn(words.w);
        }
    }
}

// Visit every point of the game. `escapes`: some point leaves the range, so every step is checked.
template <class Visit>
__device__ void play(const Game& game, bool escapes, const Visit& visit) {
    int maps = game.system->count - game.system->first;
    if (escapes || maps > 8)
        walk<MAX_MAPS, true>(game, visit);
    else if (maps > 4)
        walk<8, false>(game, visit);
    else if (maps > 2)
        walk<4, false>(game, visit);
    else
        walk<2, false>(game, visit);
}

// ------------------------------------------------------------------------------------------------------- the frame

// Compute the extreme coordinates of all points, and set `escapes` if a point was out of range. The extremes show such
// a point: the first one is finite, as |map| < 2^31 and the point before it lies within 2^62.
__device__ Frame frame_of(const Game& game, bool& escapes, SharedFrame& shared) {
    for (escapes = false;; escapes = true) {
        if (threadIdx.x == 0) shared.reset();
        __syncthreads();
        if (threadIdx.x < game.walkers) {
            Point own = game.starts[threadIdx.x];
            Frame frame = {own.x, own.x, own.y, own.y};
            play(game, escapes, Widen{&frame});
            shared.include(frame);
        }
        __syncthreads();
        Frame all = shared.whole();
        bool inside = all.min_x >= -LIMIT & all.max_x <= LIMIT & all.min_y >= -LIMIT & all.max_y <= LIMIT;
        if (inside || escapes) return all;
        __syncthreads();  // all have read before the first thread starts again
    }
}

// --------------------------------------------------------------------------------------------------------- kernels

struct Shared {
    System system;
    Point starts[MAX_WALKERS];
    SharedFrame frame;
};

// Prepare the game of image n: its system and the walkers' starts; `scratch` holds MAX_WALKERS * 16 bytes.
__device__ Game begin(const float* maps, const int* thresholds, const int* counts, int most, int64 n, int64 number,
                      uint32 key0, uint32 key1, int points, Shared& shared, uint32* scratch) {
    load_system(maps + n * most * 6, thresholds + n * most, counts[n], shared.system);
    Game game = {&shared.system, shared.starts, points, walker_count(points), (uint64)number, key0, key1};
    pilot(shared.system, game, scratch, shared.starts);
    return game;
}

// Render the bitmap of an image's points in this block's band.
__device__ void cover(const Game& game, int size, const Bitmap& bitmap, Shared& shared) {
    bool escapes;
    Frame frame = frame_of(game, escapes, shared.frame);
    for (int i = threadIdx.x; i < bitmap.size(); i += blockDim.x) bitmap.bits[i] = 0;
    __syncthreads();
    const Viewport viewport = viewport_of(frame, size);
    if (bitmap.rows == size)
        play(game, escapes, Splat<false>(bitmap, viewport));
    else
        walk<MAX_MAPS, true>(game, Splat<true>(bitmap, viewport));  // the walk that is valid for every system
    __syncthreads();
}

// Number the points of an image: each pixel keeps the last point on it.
__device__ void number(const Game& game, const Numbers& numbers, Shared& shared) {
    bool escapes;
    Frame frame = frame_of(game, escapes, shared.frame);
    play(game, escapes, Number{numbers, viewport_of(frame, numbers.size)});
    __syncthreads();
}

// Render grey images. blocks = N x bands.
extern "C" __global__ void __launch_bounds__(128, 6)
    chaos_game_grey(const float* maps,           // [N, most, 6]
                    const int* thresholds,       // [N, most], units of 2^-16
                    const int* counts,           // [N]
                    int most,                    // maps per system, padding included
                    const int64* point_ids,  // [N]
                    const int64* mask_ids,   // [N]
                    const uint8* orientations,   // [N]
                    uint32 key0, uint32 key1, int points, int size, int patch, int masked,
                    const uint32* survival,  // [size + 1]
                    int band_rows, int bands,
                    uint8* images) {  // [N, size, size]
    DYNAMIC_SHARED(uint32, bits);
    __shared__ Shared shared;
    int64 n = blockIdx.x / bands;
    Game game = begin(maps, thresholds, counts, most, n, point_ids[n], key0, key1, points, shared, bits);
    Bitmap bitmap = band_of(bits, size, band_rows, blockIdx.x % bands);
    cover(game, size, bitmap, shared);
    if (patch) texture(bitmap, size, {masked != 0, (uint64)mask_ids[n], key0, key1, survival});
    write(bitmap, {orientations[n], size}, images + n * size * size);
}

// Compute bitmaps of points or of masked patches, and the number of bits set. blocks = N x bands.
extern "C" __global__ void __launch_bounds__(128, 6)
    chaos_game_cover(const float* maps, const int* thresholds, const int* counts, int most, const int64* point_ids,
                     const int64* mask_ids,  // [N], or null: points
                     uint32 key0, uint32 key1, int points, int size, int masked, const uint32* survival, int band_rows,
                     int bands,
                     uint32* bitmaps,           // [N, size, words], or null
                     unsigned int* covered) {   // [N] zeros, or null
    DYNAMIC_SHARED(uint32, bits);
    __shared__ Shared shared;
    int64 n = blockIdx.x / bands;
    Game game = begin(maps, thresholds, counts, most, n, point_ids[n], key0, key1, points, shared, bits);
    Bitmap bitmap = band_of(bits, size, band_rows, blockIdx.x % bands);
    cover(game, size, bitmap, shared);
    if (mask_ids) texture(bitmap, size, {masked != 0, (uint64)mask_ids[n], key0, key1, survival});
    uint32* own = bitmap.row(bitmap.first);
    uint32 set = 0;
    for (int i = threadIdx.x; i < bitmap.rows * bitmap.words; i += blockDim.x) {
        if (bitmaps) bitmaps[(n * size + bitmap.first) * bitmap.words + i] = own[i];
        set += __popc(own[i]);
    }
    if (covered) atomicAdd(&covered[n], set);
}

// Copy the band of a stored bitmap, and the rows above it, into shared memory.
__device__ void load_band(const uint32* kept, const Bitmap& bitmap) {
    for (int i = threadIdx.x; i < bitmap.size(); i += blockDim.x) {
        int64 from = (int64)(bitmap.first - ROWS_ABOVE) * bitmap.words + i;
        bitmap.bits[i] = from < 0 ? 0 : kept[from];
    }
    __syncthreads();
}

// Apply patches and masks to stored bitmaps. blocks = N x bands.
extern "C" __global__ void __launch_bounds__(128, 6)
    chaos_game_mask(const uint32* bitmaps,  // [K, size, words]
                    const int64* which,     // [N], bitmap of each image
                    const int64* mask_ids,  // [N]
                    uint32 key0, uint32 key1, int size, int masked, const uint32* survival, int band_rows, int bands,
                    uint32* lit) {  // [N, size, words]
    DYNAMIC_SHARED(uint32, bits);
    int64 n = blockIdx.x / bands;
    Bitmap bitmap = band_of(bits, size, band_rows, blockIdx.x % bands);
    load_band(bitmaps + which[n] * size * bitmap.words, bitmap);
    texture(bitmap, size, {masked != 0, (uint64)mask_ids[n], key0, key1, survival});
    const uint32* own = bitmap.row(bitmap.first);
    for (int i = threadIdx.x; i < bitmap.rows * bitmap.words; i += blockDim.x)
        lit[(n * size + bitmap.first) * bitmap.words + i] = own[i];
}

// Render grey images from stored bitmaps: patches, mask, orientation. blocks = N x bands.
extern "C" __global__ void __launch_bounds__(128, 6)
    chaos_game_paint(const uint32* bitmaps,  // [K, size, words]
                     const int64* which,     // [N], bitmap of each image
                     const int64* mask_ids, const uint8* orientations, uint32 key0, uint32 key1, int size,
                     int patch, int masked, const uint32* survival, int band_rows, int bands, uint8* images) {
    DYNAMIC_SHARED(uint32, bits);
    int64 n = blockIdx.x / bands;
    Bitmap bitmap = band_of(bits, size, band_rows, blockIdx.x % bands);
    load_band(bitmaps + which[n] * size * bitmap.words, bitmap);
    if (patch) texture(bitmap, size, {masked != 0, (uint64)mask_ids[n], key0, key1, survival});
    write(bitmap, {orientations[n], size}, images + n * size * size);
}

// Render coloured images: a pixel takes the colour of the last point on it. The numbers of the points take four bytes
// per pixel, too much for shared memory: they stay in global memory, one canvas per block, and a block renders image
// after image. Shared memory holds the masks of `mask_rows` rows at a time.
extern "C" __global__ void __launch_bounds__(128, 6)
    chaos_game_color(const float* maps, const int* thresholds, const int* counts, int most, const int64* point_ids,
                     const int64* mask_ids, const uint8* orientations, uint32 key0, uint32 key1, int points,
                     int size, int patch, int masked, const uint32* survival,
                     const uint8* colors,  // [hues, 3]
                     int hues, int mask_rows, int64 count,
                     int* scratch,     // [blocks, size + 3, size + 3]
                     uint8* images) {  // [N, 3, size, size]
    DYNAMIC_SHARED(uint32, bits);
    __shared__ Shared shared;
    Numbers numbers = {scratch, size};
    numbers.last += (int64)blockIdx.x * numbers.side() * numbers.side();
    for (int64 n = blockIdx.x; n < count; n += gridDim.x) {
        numbers.clear();
        Game game = begin(maps, thresholds, counts, most, n, point_ids[n], key0, key1, points, shared, bits);
        number(game, numbers, shared);
        const Mask mask = {patch && masked, (uint64)mask_ids[n], key0, key1, survival};
        const Palette palette = {colors, hues, game.walkers, (points + game.walkers - 1) / game.walkers};
        for (int first = 0; first < size; first += mask_rows) {
            const int rows = min(mask_rows, size - first);
            if (mask.on) draw_mask(mask, first, rows, size, bits);
            write_colors(numbers, patch, first, rows, mask.on ? bits : nullptr, palette, {orientations[n], size},
                         images + 3 * n * size * size);
            __syncthreads();
        }
    }
}

// Compute densities: the number of points whose patch covers a pixel, divided by the largest number. Counts take four
// bytes per pixel, too much for shared memory: they stay in global memory, one canvas per block, and a block renders
// view after view.
extern "C" __global__ void __launch_bounds__(128, 6)
    chaos_game_density(const float* maps, const int* thresholds, const int* counts, int most, const int64* point_ids,
                       uint32 key0, uint32 key1, int points, int size,
                       const float* views,  // [N, 4]
                       const int* patches,  // [N]
                       int64 count,
                       int* scratch,        // [blocks, size + 2, size + 2]
                       float* densities) {  // [N, size, size]
    DYNAMIC_SHARED(uint32, bits);
    __shared__ Shared shared;
    __shared__ int most_covered;
    const int side = size + 2, pixels = size * size;
    int* counted = scratch + (int64)blockIdx.x * side * side;
    for (int64 n = blockIdx.x; n < count; n += gridDim.x) {
        const int patch = patches[n] & 511;
        float* density = densities + n * pixels;
        if (patch == 0) {  // the same for all threads
            for (int p = threadIdx.x; p < pixels; p += blockDim.x) density[p] = 0.0f;
            continue;
        }
        for (int i = threadIdx.x; i < side * side; i += blockDim.x) counted[i] = 0;
        if (threadIdx.x == 0) most_covered = 1;
        Game game = begin(maps, thresholds, counts, most, n, point_ids[n], key0, key1, points, shared, bits);
        bool escapes;
        const Frame frame = frame_of(game, escapes, shared.frame);
        const float* view = views + 4 * n;
        const AxisOfView x = axis_of_view(frame.min_x, frame.max_x, view[0], view[2], size);
        const AxisOfView y = axis_of_view(frame.min_y, frame.max_y, view[1], view[3], size);
        play(game, escapes, Count{counted, (uint32)side, x, y});
        __syncthreads();
        int own = 0;
        for (int p = threadIdx.x; p < pixels; p += blockDim.x)
            own = max(own, covered(counted, side, patch, p / size, p % size));
        atomicMax(&most_covered, own);
        __syncthreads();
        const float largest = (float)most_covered;
        for (int p = threadIdx.x; p < pixels; p += blockDim.x)
            density[p] = (float)covered(counted, side, patch, p / size, p % size) / largest;
        __syncthreads();  // all have read before the next view overwrites
    }
}
