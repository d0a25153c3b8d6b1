// Point clouds in CUDA C: one block per image, which lights bytes of the image in global memory.
//
// The formulas, the addresses of the randomness and the reasons are in cpu.py; all bytes equal those of cpu.py.
//
// **One chain, many threads.** The chain is sequential: all threads choose the maps of 1,024 steps, then one thread takes
// the steps. It notes where it is at the beginnings of up to 128 segments. The chain is gone through three times more
// (for the frame, the centroid, the pixels), and then each thread replays a segment from its beginning with the same
// choices. Storing the points instead would cost 120 KB per image.
//
// **No bitmap.** 10,000 stores of a byte per image are few, and equal, so their order does not matter. So there are no
// bands, and a canvas of any size is the same kernel.
//
// A launch with one thread per block is correct: every loop strides by blockDim.x, all threads reach every barrier.

#include "device/bitmap.cuh"
#include "device/common.cuh"
#include "philox/philox.cuh"

constexpr int MAX_MAPS = 64;
constexpr int PICKS = 8;     // picks per Philox call, sixteen bits each
constexpr int CALLS = 128;   // per block of steps
constexpr int SEGMENTS = 128;
constexpr float LIMIT = 4.611686018e18f;  // 2^62
constexpr int UNITS = 1 << 20;
constexpr float DISTANCE = 4.0f * (UNITS / 2);
constexpr uint8 WHITE = 255;

struct Place {
    float x, y, z;
};

// x' = (a x + b y) + (c z + j), and so on.
struct __align__(16) Map {
    float a, b, c, d, e, f, g, h, i, j, k, l;
};

// An image's game in shared memory.
struct Game {
    Map maps[MAX_MAPS];
    uint32 thresholds[MAX_MAPS];
    uint32 packed[CALLS * PICKS / 4];  // the maps of a block of steps, four per word
    Place starts[SEGMENTS];            // where the chain is before the first step of each segment
    int low, high;                     // extremes of all coordinates, ordered
    uint64 totals[6];                  // sums of t per axis, and of its squares
    int maps_count, count;             // points: fewer than the steps if the game ends early
};

// The addresses of a game's random words, and the steps of a segment.
struct Chain {
    uint64 number;
    uint32 key0, key1;
    int steps, length;

    __device__ __forceinline__ Four words(int call) const {
        return philox4x32(call, STREAM_POINTS, number, key0, key1);
    }
};

__device__ __forceinline__ Chain chain_of(int points, int64 number, uint32 key0, uint32 key1) {
    int steps = points - 1;
    return {(uint64)number, key0, key1, steps, PICKS * ((steps + PICKS * SEGMENTS - 1) / (PICKS * SEGMENTS))};
}

// --------------------------------------------------------------------------------------------------------- the chain

// Return the map that sixteen bits choose.
__device__ __forceinline__ int choose(const Game& game, uint32 pick) {
    int which = 0;
#pragma unroll 1
    for (int k = 0; k < game.maps_count - 1; ++k) which += pick >= game.thresholds[k];
    return which;
}

__device__ __forceinline__ uint32 choose_two(const Game& game, uint32 word) {
    return choose(game, word & 0xFFFF) | choose(game, word >> 16) << 8;
}

// Apply a map to a place. Return whether the new place is in range, which NaN is not.
__device__ __forceinline__ bool step(const Map& m, Place& p) {
    float x = (m.a * p.x + m.b * p.y) + (m.c * p.z + m.j);
    float y = (m.d * p.x + m.e * p.y) + (m.f * p.z + m.k);
    float z = (m.g * p.x + m.h * p.y) + (m.i * p.z + m.l);
    p = {x, y, z};
    return fabsf(x) <= LIMIT & fabsf(y) <= LIMIT & fabsf(z) <= LIMIT;
}

__device__ __forceinline__ const Map& map_of(const Game& game, int turn) {
    return game.maps[game.packed[turn / 4] >> (8 * (turn % 4)) & 255];
}

// Take the steps first to last - 1 of a block of steps. Return the number of those before the first point out of range.
// Eight steps are taken at a time and then checked, so that their maps are loaded ahead of the dependent points.
__device__ int follow(const Game& game, int first, int last, Place& p) {
    int turn = first;
    for (; turn + PICKS <= last; turn += PICKS) {
        Place before = p;
        bool inside = true;
#pragma unroll
        for (int j = 0; j < PICKS; ++j) inside &= step(map_of(game, turn + j), p);
        if (!inside) {
            p = before;
            break;
        }
    }
    for (; turn < last; ++turn)
        if (!step(map_of(game, turn), p)) break;
    return turn - first;
}

// Play the game of an image: load its system, and find the starts of the segments and the number of points.
__device__ void play(const float* maps, const int* thresholds, int maps_count, const Chain& chain, Game& game) {
    for (int k = threadIdx.x; k < maps_count; k += blockDim.x) {
        const float* m = maps + 12 * k;
        game.maps[k] = {m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], m[8], m[9], m[10], m[11]};
        game.thresholds[k] = thresholds[k];
    }
    if (threadIdx.x == 0) {
        game.maps_count = maps_count;
        game.count = chain.steps;
        game.low = 0x7FFFFFFF, game.high = -0x7FFFFFFF - 1;
        for (int k = 0; k < 6; ++k) game.totals[k] = 0;
    }
    __syncthreads();
    Place p = {0.0f, 0.0f, 0.0f};  // of the first thread, which alone takes the steps
    for (int begin = 0; begin < chain.steps && game.count == chain.steps; begin += CALLS * PICKS) {
        for (int call = threadIdx.x; call < CALLS; call += blockDim.x) {
            Four words = chain.words(begin / PICKS + call);
            game.packed[2 * call] = choose_two(game, words.x) | choose_two(game, words.y) << 16;
            game.packed[2 * call + 1] = choose_two(game, words.z) | choose_two(game, words.w) << 16;
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            int end = min(begin + CALLS * PICKS, chain.steps);
            for (int turn = begin; turn < end;) {  // from the beginning of a segment to that of the next
                int segment = turn / chain.length, next = min((segment + 1) * chain.length, end);
                if (turn % chain.length == 0) game.starts[segment] = p;
                int taken = follow(game, turn - begin, next - begin, p);
                turn += taken;
                if (turn < next) {
                    game.count = turn;
                    break;
                }
            }
        }
        __syncthreads();
    }
}

// Visit every point of the game.
template <class Visit>
__device__ __forceinline__ void replay(const Game& game, const Chain& chain, Visit& visit) {
    const int count = game.count;
    for (int segment = threadIdx.x; segment * chain.length < count; segment += blockDim.x) {
        Place p = game.starts[segment];
        const int end = min((segment + 1) * chain.length, count);
        for (int turn = segment * chain.length; turn < end; turn += PICKS) {
            Four words = chain.words(turn / PICKS);
            const uint32 four[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
            for (int j = 0; j < PICKS; ++j) {
                if (turn + j >= end) break;
                step(game.maps[choose(game, j % 2 ? four[j / 2] >> 16 : four[j / 2] & 0xFFFF)], p);
                visit(p);
            }
        }
    }
}

// ----------------------------------------------------------------------------------------------------- normalisation

// Visit a point: widen the range of a thread's coordinates.
struct Range {
    float low, high;

    __device__ __forceinline__ void operator()(const Place& p) {
        low = fminf(fminf(low, p.x), fminf(p.y, p.z));
        high = fmaxf(fmaxf(high, p.x), fmaxf(p.y, p.z));
    }
};

// The conversion of a coordinate to t.
struct Scale {
    float low, unit;

    __device__ __forceinline__ float operator()(float x) const { return (x - low) * unit; }
    __device__ __forceinline__ int64 rounded(float x) const { return (int)((*this)(x) + 0.5f); }
};

// Visit a point: add up t, or its squares as well.
template <bool SQUARES>
struct Sum {
    Scale scale;
    int64 totals[SQUARES ? 6 : 3];

    __device__ __forceinline__ void operator()(const Place& p) {
        int64 t[3] = {scale.rounded(p.x), scale.rounded(p.y), scale.rounded(p.z)};
#pragma unroll
        for (int axis = 0; axis < 3; ++axis) {
            totals[axis] += t[axis];
            if (SQUARES) totals[3 + axis] += t[axis] * t[axis];
        }
    }
};

// Return the scale of a cloud of one point at least.
__device__ Scale scale_of(Game& game, const Chain& chain) {
    Range range = {__int_as_float(0x7F800000), __int_as_float(0xFF800000)};  // +-infinity
    replay(game, chain, range);
    if (range.low <= range.high) atomicMin(&game.low, ordered(range.low)), atomicMax(&game.high, ordered(range.high));
    __syncthreads();
    float low = unordered(game.low), span = unordered(game.high) - low;
    return {low, span >= MIN_SPAN ? (float)UNITS / span : 0.0f};
}

// Add up the cloud's t into game.totals.
template <bool SQUARES>
__device__ void add_up(Game& game, const Chain& chain, const Scale& scale) {
    Sum<SQUARES> sum = {scale, {}};
    replay(game, chain, sum);
    for (int k = 0; k < (SQUARES ? 6 : 3); ++k) atomicAdd(&game.totals[k], (uint64)sum.totals[k]);
    __syncthreads();
}

// Return the released centroid of one axis.
__device__ __forceinline__ float mean_of(uint64 total, int count) {
    return (float)((double)(int64)(2 * total + UNITS) / (double)(2 * ((int64)count + 1)));
}

// --------------------------------------------------------------------------------------------------------- the camera

// Visit a point: light its pixel.
struct Light {
    Scale scale;
    Place mean;
    float cosine, sine, focal;
    int size;
    uint8* image;

    __device__ __forceinline__ void operator()(const Place& p) {
        float x = scale(p.x) - mean.x, y = scale(p.y) - mean.y, z = scale(p.z) - mean.z;
        float enlarged = focal / (DISTANCE + (x * cosine - z * sine));
        float half = 0.5f * (float)size, side = (float)size;
        float column = (x * sine + z * cosine) * enlarged + half;
        float row = y * enlarged + half;
        if (column >= 0.0f & column < side & row >= 0.0f & row < side) image[(int)row * size + (int)column] = WHITE;
    }
};

// ------------------------------------------------------------------------------------------------------------ kernels

// Render images. blocks = N.
extern "C" __global__ void __launch_bounds__(128, 8)
    point_cloud_render(const float* maps,      // [N, most, 12]
                       const int* thresholds,  // [N, most], units of 2^-16
                       const int* counts,      // [N]
                       int most,               // maps per system, padding included
                       const int64* draw_ids,  // [N]
                       const float* cameras,   // [N, 2], cosine and sine
                       uint32 key0, uint32 key1, int points, int size,
                       float focal,      // (S / 2) cot(22.5 deg)
                       uint8* images) {  // [N, size, size], zeros
    __shared__ Game game;
    int64 n = blockIdx.x;
    const Chain chain = chain_of(points, draw_ids[n], key0, key1);
    play(maps + n * most * 12, thresholds + n * most, counts[n], chain, game);
    const int count = game.count;
    if (count == 0) return;
    const Scale scale = scale_of(game, chain);
    add_up<false>(game, chain, scale);
    const Place mean = {mean_of(game.totals[0], count), mean_of(game.totals[1], count), mean_of(game.totals[2], count)};
    Light light = {scale, mean, cameras[2 * n], cameras[2 * n + 1], focal, size, images + n * size * size};
    replay(game, chain, light);
}

// Measure clouds. blocks = N.
extern "C" __global__ void __launch_bounds__(128)
    point_cloud_moments(const float* maps, const int* thresholds, const int* counts, int most, const int64* draw_ids,
                        uint32 key0, uint32 key1, int points,
                        int64* found) {  // [N, 7]
    __shared__ Game game;
    int64 n = blockIdx.x;
    const Chain chain = chain_of(points, draw_ids[n], key0, key1);
    play(maps + n * most * 12, thresholds + n * most, counts[n], chain, game);
    if (game.count == chain.steps) {
        const Scale scale = scale_of(game, chain);
        add_up<true>(game, chain, scale);
    }
    for (int k = threadIdx.x; k < 7; k += blockDim.x) found[7 * n + k] = k ? (int64)game.totals[k - 1] : game.count;
}
