// Visual atoms in CUDA C: one block per band of rows of an image's window, one byte per pixel in shared memory.
//
// The formulas and the addresses of the randomness are in cpu.py; all bytes equal those of cpu.py. Top to bottom: the
// noise, the vertices, the rings, and the kernels. The lines between vertices are in device/lines.cuh.
//
// **Rings in order, one barrier each.** A thread moves its vertices, stores their pixels, waits for the other threads
// that have vertices, and renders the segments that end at its vertices. All segments of a ring have the same grey, so
// threads may write the same pixel; a barrier separates the pixels of a ring from those of earlier rings. The vertices'
// pixels alternate between two buffers: a thread that still renders ring k reads one, a faster thread writes the other
// for ring k + 1, and no thread can begin ring k + 2 before all threads have passed the barrier of ring k + 1, that is,
// have rendered ring k. So one barrier per ring is enough.
//
// **Why bands.** 512 x 512 bytes exceed the shared memory of a block (227 KB on Hopper, 163 KB on A100, 99 KB on Ada).
// The block of a band plays the whole walk and renders the rows of the band. This repeats the vertices but needs no
// exchange between blocks, so the fewest bands that fit are the cheapest: of 512 x 512 pixels two on Hopper and A100,
// three on Ada. Only the window that a crop reads must fit: of 512 x 512 pixels, 94 % of the random resized crops take
// one band on Hopper, 64 % on A100. Blocks whose band has no rows return at once, so that every batch has the same launch.
//
// **Why one thread per vertex, up to 1024.** A ring has a few hundred vertices: fewer threads would compute several of
// the noise's long dependency chains one after the other, and with one block per multiprocessor no other block hides
// the latency. Warps beyond the vertices of an atom (13 of 32, if it has 600 of 1,000) end before the first ring; they
// would execute the loop over the rings and its barrier.
//
// **Where the vertices are.** Their state is in registers and their pixels are in shared memory, 16 bits per coordinate,
// so a vertex takes eight bytes that a band cannot have. Atoms with more than 1,024 vertices (a thread has one) or with
// vertices beyond +-8191 pixels have both in global memory.
//
// A launch with one thread per block is correct: every loop strides by the number of threads.

#include "device/common.cuh"
#include "device/lines.cuh"
#include "philox/philox.cuh"

constexpr int VERTEX_BITS = 12;
constexpr uint32 PERIOD = 10000;
constexpr int MAX_RINGS = 2048;
constexpr int NEAR = (1 << 13) - 1;  // pixels; lines between such points are shorter than FAR
constexpr uint32 CELLS = 32;  // of smooth noise on the circle
constexpr uint32 TABLE = 256;

// The released programs' rule; the paper's rule with noise of its own for each vertex, and with smooth noise.
enum Rule { WALK, ORBITS, SMOOTH_ORBITS };

// The atom of an image, its centre, and the addresses of its randomness.
struct Atom {
    int rings, vertices, n1, n2;
    float axis_x, axis_y, growth, lambda1, lambda2, eta, centre_x, centre_y;
    uint64 number;
    uint32 key0, key1;
};

// A vertex: the direction from the centre, the waves there, where the walk is, and the noise words of the present rings.
struct __align__(16) Vertex {
    float cosine, sine, wave, x, y;
    Four words;
};

// The pixel of a vertex within +-NEAR, counted from a band's corner, in half of the bytes.
struct __align__(4) NearPixel {
    static constexpr int LIMIT = NEAR;
    short x, y;
};

// The pixel of any vertex, counted from a band's corner.
struct __align__(8) AnyPixel {
    static constexpr int LIMIT = MAX_COORDINATE;
    int x, y;
};

// The vertices of a thread, j = threadIdx.x + i blockDim.x: in registers, of a block that has a thread per vertex ...
struct InRegisters {
    Vertex own[OWN];
    __device__ __forceinline__ Vertex& operator[](int j) { return own[OWN == 1 ? 0 : j / blockDim.x]; }
    __device__ __forceinline__ int after(int j) const { return OWN == 1 ? 0x7FFFFFFF : j + blockDim.x; }
};

// ... or, of a block with any number of vertices, in global memory.
struct InMemory {
    Vertex* all;
    __device__ __forceinline__ Vertex& operator[](int j) { return all[j]; }
    __device__ __forceinline__ int after(int j) const { return j + blockDim.x; }
};

// Return the bytes of `most` vertices and their pixels in global memory, a multiple of sixteen.
__device__ __forceinline__ int64 state_bytes(int most) { return most * (int64)(sizeof(Vertex) + 2 * sizeof(AnyPixel)); }

// -------------------------------------------------------------------------------------------------------- the noise

// The gradients at both ends of a cell.
struct __align__(8) Cell {
    float left, right;
};

// Return the noise at t of a cell, from the gradients at its ends.
__device__ __forceinline__ float blend(float first, float second, float t) {
    float left = first * t;
    float right = second * (t - 1.0f);
    float fade = t * t * t * (t * (t * 6.0f - 15.0f) + 10.0f);
    return (left + fade * (right - left)) * 0.4f;
}

// Return 1-D Perlin noise at the abscissa 10000 word / 2^32, whose fraction is cut to 24 bits.
__device__ __forceinline__ float noise(const Cell* cells, uint32 word) {
    uint64 abscissa = (uint64)word * PERIOD;
    Cell cell = cells[(uint32)(abscissa >> 32) & 255];
    return blend(cell.left, cell.right, (float)((uint32)abscissa >> 8) * 5.9604644775390625e-8f);  // 2^-24
}

// Return the noise of vertex j of q on the circle of a word, in q-th parts of a cell.
__device__ __forceinline__ float smooth_noise(const Cell* cells, uint32 word, uint32 j, uint32 q) {
    uint32 turn = CELLS * q, place = (uint32)((uint64)word * (TABLE * turn) >> 32);  // at most 2^25
    uint32 first = place / turn, along = (place % turn + CELLS * j) % turn, cell = along / q;
    float left = cells[(first + cell) & 255].left, right = cells[(first + (cell + 1) % CELLS) & 255].left;
    return blend(left, right, (float)(along % q) / (float)q);
}

__device__ __forceinline__ Four noise_words(const Atom& atom, int group, int vertex) {
    return philox4x32((uint32)group << VERTEX_BITS | vertex, STREAM_NOISE, atom.number, atom.key0, atom.key1);
}

// ----------------------------------------------------------------------------------------------------- the vertices

// Return vertex j before the first ring: on the ellipse where the walk starts.
__device__ __forceinline__ Vertex start(const Atom& atom, const float* cosines, const float* sines, int j) {
    float cosine = cosines[j], sine = sines[j];
    float first = sines[atom.n1 * j % atom.vertices], second = sines[atom.n2 * j % atom.vertices];
    return {cosine, sine, atom.lambda1 * first + atom.lambda2 * second,
            cosine * atom.axis_x + atom.centre_x, sine * atom.axis_y + atom.centre_y, {0, 0, 0, 0}};
}

// Move a vertex to the next ring of the released rule, with words x and y; words z and w are for the ring after it.
__device__ __forceinline__ void walk_out(const Atom& atom, const Cell* cells, Vertex& at) {
    float outwards = (atom.eta + atom.growth) + at.wave;
    at.x += at.cosine * (outwards - atom.eta * noise(cells, at.words.x));
    at.y += at.sine * (outwards - atom.eta * noise(cells, at.words.y));
    at.words.x = at.words.z, at.words.y = at.words.w;
}

// Place vertex j on a ring of the paper's rule, with word x; the other words are for the rings after it.
template <bool SMOOTH>
__device__ __forceinline__ void place_orbit(const Atom& atom, const Cell* cells, int ring, int j, Vertex& at) {
    float grown = atom.growth * (float)ring;
    float epsilon = SMOOTH ? smooth_noise(cells, at.words.x, j, atom.vertices) : noise(cells, at.words.x);
    float stretch = 1.0f + (at.wave + atom.eta * epsilon);
    at.x = atom.centre_x + (atom.axis_x + grown) * stretch * at.cosine;
    at.y = atom.centre_y + (atom.axis_y + grown) * stretch * at.sine;
    at.words = {at.words.y, at.words.z, at.words.w, 0};
}

// -------------------------------------------------------------------------------------------------------- the rings

// Draw the greys of all rings; a thread draws four at a time.
__device__ __forceinline__ void draw_greys(const Atom& atom, int darkest, int greys, uint8* ring_greys) {
    for (int four = threadIdx.x; 4 * four < atom.rings; four += blockDim.x) {
        Four words = philox4x32(four, STREAM_LINE_COLOR, atom.number, atom.key0, atom.key1);
        for (int i = 0; i < 4; ++i) {
            uint32 word = i == 0 ? words.x : i == 1 ? words.y : i == 2 ? words.z : words.w;
            ring_greys[4 * four + i] = (uint8)min(darkest + (int)((uint64)word * greys >> 32), 255);
        }
    }
}

// Render the rings from the first to the last, with the first `busy` threads of the block; pixels: [2, q].
template <Rule RULE, class Place, class State>
__device__ __forceinline__ void render_rings(const Atom& atom, const float* cosines, const float* sines,
                                             const Cell* cells, const uint8* ring_greys, const Band& band, int busy,
                                             State& vertices, Place* pixels) {
    constexpr int RINGS = RULE == WALK ? 2 : 4;  // that share a Philox call
    const int q = atom.vertices;
    for (int j = threadIdx.x; j < q; j = vertices.after(j)) vertices[j] = start(atom, cosines, sines, j);
    for (int group = 0; group * RINGS < atom.rings; ++group) {
        for (int j = threadIdx.x; j < q; j = vertices.after(j))
            vertices[j].words = noise_words(atom, group, RULE == SMOOTH_ORBITS ? 0 : j);
        for (int ring = group * RINGS; ring < min(group * RINGS + RINGS, atom.rings); ++ring) {
            Place* now = pixels + ring % 2 * q;
            for (int j = threadIdx.x; j < q; j = vertices.after(j)) {
                Vertex& vertex = vertices[j];
                if (RULE == WALK)
                    walk_out(atom, cells, vertex);
                else
                    place_orbit<RULE == SMOOTH_ORBITS>(atom, cells, ring, j, vertex);
                Pixel at = in_band(band, {truncate<Place::LIMIT>(vertex.x), truncate<Place::LIMIT>(vertex.y)});
                now[j].x = at.x, now[j].y = at.y;
            }
            uint8 grey = ring_greys[ring];
            wait_for_first(busy);
            for (int j = threadIdx.x; j < q; j = vertices.after(j)) {
                Place from = now[j ? j - 1 : q - 1], to = now[j];
                render_line<Place::LIMIT>(band, {from.x, from.y}, {to.x, to.y}, grey);
            }
        }
    }
}

// ------------------------------------------------------------------------------------------------------- the kernel

// Render images of atoms. blocks = N x bands.
extern "C" __global__ void __launch_bounds__(1024)
    visual_atom_render(const int* rings,           // [K]; the tables of the atoms, up to offsets
                       const int* vertices,        // [K]
                       const int* frequencies,     // [K, 2]
                       const float* axes,          // [K, 2]
                       const float* growth,        // [K]
                       const float* amplitudes,    // [K, 2]
                       const float* noise_levels,  // [K]
                       const int64* offsets,       // [K], start of an atom's table in cosines and sines
                       const float* cosines, const float* sines,
                       const float* gradients,  // [256]
                       int64 atoms,             // K
                       const int64* which,      // [N], the atom of each image
                       const float* own_axes,   // [N, 2], of the images; null: those of their atoms
                       const float* centres,    // [N, 2]
                       const int64* draw_ids,   // [N]
                       const int* windows,      // [N, 4]: top, left, height, width; null: whole canvases
                       uint32 key0, uint32 key1, int walk, int smooth, int ground, int darkest, int greys,
                       int size, int bands,
                       int room,         // bytes of a band, a multiple of sixteen
                       int most,         // maximum vertices of an atom
                       uint8* scratch,   // [blocks, state_bytes(most)]; null: vertices in registers and after the band
                       uint8* images) {  // [N, size, size]
    DYNAMIC_SHARED(uint8, memory);
    __shared__ Cell cells[256];
    __shared__ uint8 ring_greys[MAX_RINGS];
    const int64 n = blockIdx.x / bands;
    const Band band = band_of(memory, room, size, window_of(windows, n, size), blockIdx.x % bands);
    if (band.rows <= 0) return;
    const int64 k = min(max(which[n], (int64)0), atoms - 1);  // an index out of range reads nothing beyond the table
    const float* half = own_axes ? own_axes + 2 * n : axes + 2 * k;
    const Atom atom = {rings[k], vertices[k], frequencies[2 * k], frequencies[2 * k + 1],
                       half[0], half[1], growth[k], amplitudes[2 * k], amplitudes[2 * k + 1], noise_levels[k],
                       centres[2 * n], centres[2 * n + 1], (uint64)draw_ids[n], key0, key1};
    const float *own_cosines = cosines + offsets[k], *own_sines = sines + offsets[k];
    fill(band, ground);
    for (int i = threadIdx.x; i < 256; i += blockDim.x) cells[i] = {gradients[i], gradients[(i + 1) & 255]};
    draw_greys(atom, darkest, greys, ring_greys);
    __syncthreads();
    const int busy = min((atom.vertices + 31) / 32 * 32, (int)blockDim.x);
    if (threadIdx.x >= busy) return;
    if (!scratch) {
        InRegisters state;
        NearPixel* pixels = (NearPixel*)(memory + room);
        if (walk)
            render_rings<WALK>(atom, own_cosines, own_sines, cells, ring_greys, band, busy, state, pixels);
        else if (smooth)
            render_rings<SMOOTH_ORBITS>(atom, own_cosines, own_sines, cells, ring_greys, band, busy, state, pixels);
        else
            render_rings<ORBITS>(atom, own_cosines, own_sines, cells, ring_greys, band, busy, state, pixels);
    } else {
        InMemory state = {(Vertex*)(scratch + blockIdx.x * state_bytes(most))};
        AnyPixel* pixels = (AnyPixel*)(state.all + most);
        if (walk)
            render_rings<WALK>(atom, own_cosines, own_sines, cells, ring_greys, band, busy, state, pixels);
        else if (smooth)
            render_rings<SMOOTH_ORBITS>(atom, own_cosines, own_sines, cells, ring_greys, band, busy, state, pixels);
        else
            render_rings<ORBITS>(atom, own_cosines, own_sines, cells, ring_greys, band, busy, state, pixels);
    }
    wait_for_first(busy);
    write(band, images + n * size * size, busy);
}
