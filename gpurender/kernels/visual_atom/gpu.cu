// Visual atoms in CUDA C: one block per band of rows of an image, one byte per pixel in shared memory.
//
// The formulas and the addresses of the randomness are in cpu.py; all bytes equal those of cpu.py. Top to bottom: the
// noise, the vertices, and the kernel. The lines between vertices are in device/lines.cuh.
//
// **Rings in order, one barrier each.** A thread moves its vertices, stores their pixel coordinates, waits for the
// other threads, and renders the segments that end at its vertices. All segments of a ring have the same grey, so
// threads may write the same pixel; a barrier separates the pixels of a ring from those of earlier rings. The pixel
// coordinates alternate between two buffers: a thread that still renders ring k reads one, a faster thread writes the
// other for ring k + 1, and no thread can begin ring k + 2 before all threads have passed the barrier of ring k + 1,
// that is, have rendered ring k. So one barrier per ring is enough.
//
// **Why bands.** 512 x 512 bytes exceed the shared memory of a block (227 KB on Hopper, 163 KB on A100, 99 KB on Ada).
// The block of a band plays the whole walk and renders the rows of the band. This repeats the vertices, about 95
// instructions each, but needs no exchange between blocks; the smallest number of bands that fits is the cheapest.
//
// **Why one thread per vertex, up to 1024.** A ring has a few hundred vertices: fewer threads would compute several of
// the noise's long dependency chains one after the other, and with one block per multiprocessor no other block hides
// the latency.
//
// A launch with one thread per block is correct: every loop strides by blockDim.x, all threads reach every barrier.

#include "device/common.cuh"
#include "device/lines.cuh"
#include "philox/philox.cuh"

constexpr int VERTEX_BITS = 12;
constexpr uint32 PERIOD = 10000;
constexpr uint32 CELLS = 32;  // of smooth noise on the circle
constexpr uint32 TABLE = 256;

// The atom of an image, its centre, and the addresses of its randomness.
struct Atom {
    int rings, vertices, n1, n2;
    float axis_x, axis_y, growth, lambda1, lambda2, eta, centre_x, centre_y;
    uint64 number;
    uint32 key0, key1;
    bool smooth;  // orbits only
};

// A vertex, and the direction it moves in.
struct __align__(16) Vertex {
    float x, y, cosine, sine;
};

struct __align__(8) Words {
    uint32 x, y;
};

// The state of a block's vertices, in shared memory, or in global memory for atoms with very many vertices.
struct Vertices {
    Vertex* now;
    Pixel* pixels;  // [2, q]
    Words* next;    // the noise words of the odd rings, drawn together with those of the even ones
    float* wave;
};

constexpr int BYTES_A_VERTEX = sizeof(Vertex) + 2 * sizeof(Pixel) + sizeof(Words) + sizeof(float);

// Return the bytes of `most` vertices, rounded up: every block's part begins where sixteen bytes can be read at once.
__device__ __forceinline__ int64 state_bytes(int most) { return ((int64)most * BYTES_A_VERTEX + 15) / 16 * 16; }

__device__ __forceinline__ Vertices lay_out(uint8* memory, int most) {
    Vertex* now = (Vertex*)memory;
    Pixel* pixels = (Pixel*)(now + most);
    Words* next = (Words*)(pixels + 2 * most);
    return {now, pixels, next, (float*)(next + most)};
}

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

__device__ __forceinline__ void start(const Atom& atom, const float* cosines, const float* sines, const Vertices& v) {
    for (int j = threadIdx.x; j < atom.vertices; j += blockDim.x) {
        float cosine = cosines[j], sine = sines[j];
        float first = sines[atom.n1 * j % atom.vertices], second = sines[atom.n2 * j % atom.vertices];
        v.wave[j] = atom.lambda1 * first + atom.lambda2 * second;
        v.now[j] = {cosine * atom.axis_x + atom.centre_x, sine * atom.axis_y + atom.centre_y, cosine, sine};
    }
}

// Move vertex j to the next ring of the released rule.
__device__ __forceinline__ Vertex walk_out(const Atom& atom, const Cell* cells, const Vertices& v, int ring, int j) {
    Words words;
    if (ring % 2 == 0) {
        Four four = noise_words(atom, ring / 2, j);
        words = {four.x, four.y}, v.next[j] = {four.z, four.w};
    } else {
        words = v.next[j];
    }
    Vertex at = v.now[j];
    float outwards = (atom.eta + atom.growth) + v.wave[j];
    at.x += at.cosine * (outwards - atom.eta * noise(cells, words.x));
    at.y += at.sine * (outwards - atom.eta * noise(cells, words.y));
    v.now[j] = at;
    return at;
}

// Place vertex j on a ring of the paper's rule.
__device__ __forceinline__ Vertex place_orbit(const Atom& atom, const Cell* cells, const Vertices& v, int ring, int j) {
    Four four = noise_words(atom, ring / 4, atom.smooth ? 0 : j);
    uint32 word = ring % 4 == 0 ? four.x : ring % 4 == 1 ? four.y : ring % 4 == 2 ? four.z : four.w;
    Vertex at = v.now[j];
    float grown = atom.growth * (float)ring;
    float epsilon = atom.smooth ? smooth_noise(cells, word, j, atom.vertices) : noise(cells, word);
    float stretch = 1.0f + (v.wave[j] + atom.eta * epsilon);
    at.x = atom.centre_x + (atom.axis_x + grown) * stretch * at.cosine;
    at.y = atom.centre_y + (atom.axis_y + grown) * stretch * at.sine;
    return at;
}

__device__ __forceinline__ uint8 ring_grey(const Atom& atom, int ring, int darkest, int greys, Four& four) {
    if (ring % 4 == 0) four = philox4x32(ring / 4, STREAM_LINE_COLOR, atom.number, atom.key0, atom.key1);
    uint32 word = ring % 4 == 0 ? four.x : ring % 4 == 1 ? four.y : ring % 4 == 2 ? four.z : four.w;
    return (uint8)min(darkest + (int)((uint64)word * greys >> 32), 255);
}

// ------------------------------------------------------------------------------------------------------- the kernel

template <bool WALK>
__device__ __forceinline__ void render_rings(const Atom& atom, const Cell* cells, const Vertices& v, const Band& band,
                                             int darkest, int greys) {
    Four four = {0, 0, 0, 0};
    const int q = atom.vertices;
    for (int ring = 0; ring < atom.rings; ++ring) {
        Pixel* now = v.pixels + ring % 2 * q;
        for (int j = threadIdx.x; j < q; j += blockDim.x) {
            Vertex at = WALK ? walk_out(atom, cells, v, ring, j) : place_orbit(atom, cells, v, ring, j);
            now[j] = {truncate(at.x), truncate(at.y)};
        }
        uint8 grey = ring_grey(atom, ring, darkest, greys, four);
        __syncthreads();
        for (int j = threadIdx.x; j < q; j += blockDim.x) render_segment(band, now[j ? j - 1 : q - 1], now[j], grey);
    }
}

// Render the rings of an atom from the first to the last, by either rule. Inlined once for vertices in shared memory
// and once for vertices in global memory: the compiler addresses the vertices directly only if it knows which memory.
__device__ __forceinline__ void render_atom(const Atom& atom, const float* cosines, const float* sines,
                                            const Cell* cells, const Vertices& v, const Band& band, int darkest,
                                            int greys, bool walk) {
    start(atom, cosines, sines, v);
    __syncthreads();
    if (walk)
        render_rings<true>(atom, cells, v, band, darkest, greys);
    else
        render_rings<false>(atom, cells, v, band, darkest, greys);
}

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
                       uint32 key0, uint32 key1, int walk, int smooth, int ground, int darkest, int greys, int size,
                       int band_rows, int bands,
                       int most,         // maximum vertices of an atom
                       uint8* scratch,   // [blocks, state_bytes(most)]; null: vertices in shared memory, after the band
                       uint8* images) {  // [N, size, size]
    DYNAMIC_SHARED(uint8, memory);
    __shared__ Cell cells[256];
    const int64 n = blockIdx.x / bands;
    const Band band = band_of(memory, size, band_rows, blockIdx.x % bands);
    const uint32 four = (uint32)ground * 0x01010101u;
    const int padded = (band_rows * size + 15) / 16 * 16;
    const int64 k = min(max(which[n], (int64)0), atoms - 1);  // an index out of range reads nothing beyond the table
    const float* half = own_axes ? own_axes + 2 * n : axes + 2 * k;
    const Atom atom = {rings[k], vertices[k], frequencies[2 * k], frequencies[2 * k + 1],
                       half[0], half[1], growth[k], amplitudes[2 * k], amplitudes[2 * k + 1],
                       noise_levels[k], centres[2 * n], centres[2 * n + 1], (uint64)draw_ids[n], key0, key1,
                       smooth != 0};
    for (int i = threadIdx.x; i < padded / 16; i += blockDim.x) ((Sixteen*)memory)[i] = {four, four, four, four};
    for (int i = threadIdx.x; i < 256; i += blockDim.x) cells[i] = {gradients[i], gradients[(i + 1) & 255]};
    const float *own_cosines = cosines + offsets[k], *own_sines = sines + offsets[k];
    if (scratch) {
        const Vertices v = lay_out(scratch + blockIdx.x * state_bytes(most), most);
        render_atom(atom, own_cosines, own_sines, cells, v, band, darkest, greys, walk);
    } else {
        const Vertices v = lay_out(memory + padded, most);
        render_atom(atom, own_cosines, own_sines, cells, v, band, darkest, greys, walk);
    }
    __syncthreads();
    write(band, images + (n * size + band.first) * size);
}
