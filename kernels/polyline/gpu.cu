// Visual atoms in CUDA C: a block a band of rows of an image, one byte a pixel in shared memory.
//
// The formulas, the addresses of the randomness and the rules of the lines stand in cpu.py; every byte equals its
// bytes. Top to bottom: noise, where the vertices go, how a segment is drawn, and the kernel.
//
// **Rings in order, a barrier each.** A thread moves its vertices, writes them down whole-numbered, waits for the
// others, and draws the segments that end there. All segments of a ring have one grey, so threads may write the same
// pixel; what an earlier ring wrote lies behind a barrier. The written-down vertices have two places in turn: a thread
// that is still drawing ring k reads one, a thread ahead of it writes the other for ring k + 1, and nobody can begin
// ring k + 2 before all have passed the barrier of ring k + 1, that is, have drawn ring k. So one barrier is enough.
//
// **Why bands.** 512 x 512 bytes are more than a block may have (227 KB on Hopper, 163 on A100, 99 on Ada). A band
// plays the whole walk and draws what it sees. That repeats the vertices, about 90 instructions each, but needs nothing
// between blocks; the fewest bands that fit are the cheapest.
//
// **Why a thread a vertex, up to 1024.** A ring is a few hundred vertices: fewer threads would take turns at the long
// chain of the noise, and one block a multiprocessor has no other to hide it.
//
// One thread a block is a correct program: every loop strides by blockDim.x, every barrier is reached by all threads.

constexpr int VERTEX_BITS = 12;
constexpr uint32 PERIOD = 10000;
constexpr float LIMIT = 1048576.0f;  // 2^20

struct Pixel {
    int x, y;
};

// The atom of an image, and where it is drawn.
struct Atom {
    int rings, vertices, n1, n2;
    float axis_x, axis_y, growth, lambda1, lambda2, eta, centre_x, centre_y;
    uint64 number;
    uint32 key0, key1;
};

// What a block holds for each vertex: in shared memory, or in global memory for atoms of very many vertices.
struct Vertices {
    float *x, *y, *cosine, *sine, *wave;
    uint32 *next_x, *next_y;  // the noise words of the odd rings, drawn together with those of the even ones
    Pixel* pixels;            // [2, q]
};

constexpr int BYTES_A_VERTEX = 7 * 4 + 2 * 8;

__device__ Vertices lay_out(uint8* memory, int most) {
    float* f = (float*)(memory + 16 * (size_t)most);
    uint32* u = (uint32*)(f + 5 * most);
    return {f, f + most, f + 2 * most, f + 3 * most, f + 4 * most, u, u + most, (Pixel*)memory};
}

// -------------------------------------------------------------------------------------------------------- the noise

// Perlin noise on a line at the abscissa 10000 word / 2^32, its fraction cut to 24 bits.
__device__ __forceinline__ float noise(const float* gradients, uint32 word) {
    uint64 abscissa = (uint64)word * PERIOD;
    uint32 cell = (uint32)(abscissa >> 32);
    float t = (float)((uint32)abscissa >> 8) * 5.9604644775390625e-8f;  // 2^-24
    float left = gradients[cell & 255] * t;
    float right = gradients[(cell + 1) & 255] * (t - 1.0f);
    float fade = t * t * t * (t * (t * 6.0f - 15.0f) + 10.0f);
    return (left + fade * (right - left)) * 0.4f;
}

__device__ __forceinline__ Four noise_words(const Atom& atom, int group, int vertex) {
    return philox4x32((uint32)group << VERTEX_BITS | vertex, STREAM_NOISE, atom.number, atom.key0, atom.key1);
}

// ----------------------------------------------------------------------------------------------------- the vertices

__device__ void start(const Atom& atom, const float* cosines, const float* sines, const Vertices& v) {
    for (int j = threadIdx.x; j < atom.vertices; j += blockDim.x) {
        v.cosine[j] = cosines[j], v.sine[j] = sines[j];
        float first = sines[atom.n1 * j % atom.vertices], second = sines[atom.n2 * j % atom.vertices];
        v.wave[j] = atom.lambda1 * first + atom.lambda2 * second;
        v.x[j] = cosines[j] * atom.axis_x + atom.centre_x;
        v.y[j] = sines[j] * atom.axis_y + atom.centre_y;
    }
}

// The next ring of the released rule.
__device__ __forceinline__ void walk_out(const Atom& atom, const float* gradients, const Vertices& v, int ring, int j) {
    uint32 word_x, word_y;
    if (ring % 2 == 0) {
        Four words = noise_words(atom, ring / 2, j);
        word_x = words.x, word_y = words.y, v.next_x[j] = words.z, v.next_y[j] = words.w;
    } else {
        word_x = v.next_x[j], word_y = v.next_y[j];
    }
    float outwards = (atom.eta + atom.growth) + v.wave[j];
    v.x[j] += v.cosine[j] * (outwards - atom.eta * noise(gradients, word_x));
    v.y[j] += v.sine[j] * (outwards - atom.eta * noise(gradients, word_y));
}

// A ring of the paper's rule.
__device__ __forceinline__ void place_orbit(const Atom& atom, const float* gradients, const Vertices& v, int ring, int j) {
    Four words = noise_words(atom, ring / 4, j);
    uint32 word = ring % 4 == 0 ? words.x : ring % 4 == 1 ? words.y : ring % 4 == 2 ? words.z : words.w;
    float grown = atom.growth * (float)ring;
    float stretch = 1.0f + (v.wave[j] + atom.eta * noise(gradients, word));
    v.x[j] = atom.centre_x + (atom.axis_x + grown) * stretch * v.cosine[j];
    v.y[j] = atom.centre_y + (atom.axis_y + grown) * stretch * v.sine[j];
}

__device__ __forceinline__ int truncate(float coordinate) { return (int)fminf(fmaxf(coordinate, -LIMIT), LIMIT); }

__device__ __forceinline__ uint8 ring_grey(const Atom& atom, int ring, int darkest, int greys, Four& four) {
    if (ring % 4 == 0) four = philox4x32(ring / 4, STREAM_LINE_COLOR, atom.number, atom.key0, atom.key1);
    uint32 word = ring % 4 == 0 ? four.x : ring % 4 == 1 ? four.y : ring % 4 == 2 ? four.z : four.w;
    return (uint8)(darkest + (uint32)((uint64)word * greys >> 32));
}

// -------------------------------------------------------------------------------------------------------- the lines

// The rows that a block draws, as bytes [rows, size].
struct Band {
    uint8* bytes;
    int size, first, rows;
};

// The first i with floor((2 short i + long) / (2 long)) >= m, for 0 <= m <= short.
__device__ __forceinline__ int64 reach(int64 m, int64 length, int64 across) {
    return m > 0 ? (length * (2 * m - 1) + 2 * across - 1) / (2 * across) : 0;
}

// Pixels first to last of a segment: `along` and `across` are the steps in bytes, m and rest Bresenham's at the first.
template <class Integer>
__device__ __forceinline__ void run(uint8* pixel, Integer count, int along, int across, Integer rest, Integer twice_short,
                                    Integer twice_long, uint8 grey) {
    for (Integer i = 0; i < count; ++i) {
        *pixel = grey;
        pixel += along;
        rest += twice_short;
        if (rest >= twice_long) rest -= twice_long, pixel += across;
    }
}

// A segment that leaves the band: from its first visible pixel to its last, both in closed form.
__device__ void draw_crossing(const Band& band, Pixel from, Pixel to, uint8 grey) {
    from.y -= band.first, to.y -= band.first;
    bool flat = abs(to.x - from.x) > abs(to.y - from.y);
    int64 u0 = flat ? from.x : from.y, v0 = flat ? from.y : from.x;
    int64 du = (flat ? to.x : to.y) - u0, dv = (flat ? to.y : to.x) - v0;
    int u_end = flat ? band.size : band.rows, v_end = flat ? band.rows : band.size;
    int u_step = du >= 0 ? 1 : -1, v_step = dv >= 0 ? 1 : -1;
    int64 full = du >= 0 ? du : -du, across = dv >= 0 ? dv : -dv, length = full > 0 ? full : 1;
    int64 first = u_step > 0 ? -u0 : u0 - u_end + 1, last = u_step > 0 ? u_end - 1 - u0 : u0;
    int64 low = v_step > 0 ? -v0 : v0 - v_end + 1, high = v_step > 0 ? v_end - 1 - v0 : v0;
    first = first > 0 ? first : 0, low = low > 0 ? low : 0;
    last = last < full ? last : full;
    if (low > across || high < 0) return;  // beside the band all the way
    int64 enters = reach(low, length, across);
    first = first > enters ? first : enters;
    if (high < across) {
        int64 leaves = reach(high + 1, length, across) - 1;
        last = last < leaves ? last : leaves;
    }
    if (first > last) return;
    int64 height = 2 * across * first + length, m = height / (2 * length), rest = height - 2 * length * m;
    int along = u_step * (flat ? 1 : band.size), sideways = v_step * (flat ? band.size : 1);
    int64 u = u0 + u_step * first, v = v0 + v_step * m;
    uint8* pixel = band.bytes + (flat ? v * band.size + u : u * band.size + v);
    run<int64>(pixel, last - first + 1, along, sideways, rest, 2 * across, 2 * length, grey);
}

__device__ __forceinline__ void draw_segment(const Band& band, Pixel from, Pixel to, uint8 grey) {
    int y0 = from.y - band.first, y1 = to.y - band.first;
    if (max(y0, y1) < 0 || min(y0, y1) >= band.rows) return;
    int last_x = band.size - 1, last_y = band.rows - 1;
    bool leaves = (from.x | to.x | y0 | y1 | (last_x - from.x) | (last_x - to.x) | (last_y - y0) | (last_y - y1)) < 0;
    if (leaves) {
        if (max(from.x, to.x) >= 0 && min(from.x, to.x) < band.size) draw_crossing(band, from, to, grey);
        return;
    }
    int dx = abs(to.x - from.x), dy = abs(to.y - from.y);
    int step_x = to.x >= from.x ? 1 : -1, step_y = y1 >= y0 ? band.size : -band.size;
    bool flat = dx > dy;
    int length = max(max(dx, dy), 1), across = min(dx, dy);
    run<int>(band.bytes + y0 * band.size + from.x, max(dx, dy) + 1, flat ? step_x : step_y, flat ? step_y : step_x,
             length, 2 * across, 2 * length, grey);
}

// ------------------------------------------------------------------------------------------------------- the kernel

struct __align__(16) Sixteen {
    uint32 x, y, z, w;
};

// Copy bytes from shared to global memory, in words as wide as both ends allow.
template <class Word>
__device__ __forceinline__ void copy(const uint8* from, uint8* to, int bytes) {
    for (int i = threadIdx.x; i < bytes / (int)sizeof(Word); i += blockDim.x) ((Word*)to)[i] = ((const Word*)from)[i];
}

template <bool WALK>
__device__ __forceinline__ void draw_rings(const Atom& atom, const float* gradients, const Vertices& v, const Band& band,
                                           int darkest, int greys) {
    Four four = {0, 0, 0, 0};
    const int q = atom.vertices;
    for (int ring = 0; ring < atom.rings; ++ring) {
        Pixel* now = v.pixels + ring % 2 * q;
        for (int j = threadIdx.x; j < q; j += blockDim.x) {
            if (WALK)
                walk_out(atom, gradients, v, ring, j);
            else
                place_orbit(atom, gradients, v, ring, j);
            now[j] = {truncate(v.x[j]), truncate(v.y[j])};
        }
        uint8 grey = ring_grey(atom, ring, darkest, greys, four);
        __syncthreads();
        for (int j = threadIdx.x; j < q; j += blockDim.x) draw_segment(band, now[j ? j - 1 : q - 1], now[j], grey);
    }
}

// blocks = N x bands.
extern "C" __global__ void __launch_bounds__(1024)
    polyline_draw(const int* rings,           // [K], as all that follows up to offsets: the atoms
                  const int* vertices,        //
                  const int* frequencies,     // [K, 2]
                  const float* axes,          // [K, 2]
                  const float* growth,        //
                  const float* amplitudes,    // [K, 2]
                  const float* noise_levels,  //
                  const int64* offsets,       // of an atom's table in the two that follow
                  const float* cosines, const float* sines,
                  const float* gradients,  // [256]
                  int64 atoms,             // K
                  const int64* which,      // [N], the atom of each image
                  const float* centres,    // [N, 2]
                  const int64* numbers,    // [N]
                  uint32 key0, uint32 key1, int walk, int darkest, int greys, int size, int band_rows, int bands,
                  int most,         // vertices of any atom
                  uint8* scratch,   // [blocks, most * BYTES_A_VERTEX], or null: in shared memory, behind the band
                  uint8* images) {  // [N, size, size]
    DYNAMIC_SHARED(uint8, memory);
    __shared__ float table[256];
    const int64 n = blockIdx.x / bands;
    const int first = blockIdx.x % bands * band_rows, rows = min(band_rows, size - first);
    const int bytes = rows * size, padded = (band_rows * size + 15) / 16 * 16;
    const int64 k = min(max(which[n], (int64)0), atoms - 1);  // a number that is none reads nothing beyond the table
    const Atom atom = {rings[k], vertices[k], frequencies[2 * k], frequencies[2 * k + 1],
                       axes[2 * k], axes[2 * k + 1], growth[k], amplitudes[2 * k], amplitudes[2 * k + 1],
                       noise_levels[k], centres[2 * n], centres[2 * n + 1], (uint64)numbers[n], key0, key1};
    const Vertices v =
        lay_out(scratch ? scratch + blockIdx.x * (int64)most * BYTES_A_VERTEX : memory + padded, most);
    const Band band = {memory, size, first, rows};
    for (int i = threadIdx.x; i < padded / 16; i += blockDim.x) ((Sixteen*)memory)[i] = {0, 0, 0, 0};
    for (int i = threadIdx.x; i < 256; i += blockDim.x) table[i] = gradients[i];
    start(atom, cosines + offsets[k], sines + offsets[k], v);
    __syncthreads();
    if (walk)
        draw_rings<true>(atom, table, v, band, darkest, greys);
    else
        draw_rings<false>(atom, table, v, band, darkest, greys);
    __syncthreads();
    uint8* image = images + (n * size + first) * size;
    if (size % 4 == 0 && bytes % 16 == 0)
        copy<Sixteen>(memory, image, bytes);
    else if (size % 2 == 0 && bytes % 4 == 0)
        copy<uint32>(memory, image, bytes);
    else
        copy<uint8>(memory, image, bytes);
}
