// Points on a canvas of one bit per pixel: the frame of all points, the pixel of a point, the bits in shared memory.
//
// A kernel visits its points twice: with Widen for the frame, then with Splat (a bit per pixel) or Number (the last
// point on each pixel). device/cpu_bitmap.py is the reference.

#include "device/common.cuh"

constexpr float PAD = 6.0f;                   // pixels between the extreme points and the edge
constexpr float MIN_SPAN = 8.673617380e-19f;  // 2^-60
constexpr int ROWS_ABOVE = 3;                 // rows above a band: a patch reaches 3 rows below its point

// ---------------------------------------------------------------------------------------------------------- the frame

// The extreme coordinates of some points.
struct Frame {
    float min_x, max_x, min_y, max_y;
};

// Visit a point: widen the frame of a thread's points to include the point.
struct Widen {
    static constexpr bool USES_SHARED = false;  // whether visits compete with a walk for shared memory
    Frame* frame;

    __device__ __forceinline__ void operator()(float x, float y, int) const {
        frame->min_x = fminf(frame->min_x, x), frame->max_x = fmaxf(frame->max_x, x);
        frame->min_y = fminf(frame->min_y, y), frame->max_y = fmaxf(frame->max_y, y);
    }
};

// Convert floats to integers of the same order, so that integer atomics find the extremes.
__device__ __forceinline__ int ordered(float value) {
    int bits = __float_as_int(value);
    return bits >= 0 ? bits : bits ^ 0x7FFFFFFF;
}

__device__ __forceinline__ float unordered(int bits) {
    return __int_as_float(bits >= 0 ? bits : bits ^ 0x7FFFFFFF);
}

// The frame of a block's points, in shared memory; barriers must separate reset, include and whole.
struct SharedFrame {
    int min_x, max_x, min_y, max_y;

    __device__ __forceinline__ void reset() { min_x = min_y = 0x7FFFFFFF, max_x = max_y = -0x7FFFFFFF - 1; }
    __device__ __forceinline__ void include(const Frame& frame) {
        atomicMin(&min_x, ordered(frame.min_x)), atomicMax(&max_x, ordered(frame.max_x));
        atomicMin(&min_y, ordered(frame.min_y)), atomicMax(&max_y, ordered(frame.max_y));
    }
    __device__ __forceinline__ Frame whole() const {
        return {unordered(min_x), unordered(max_x), unordered(min_y), unordered(max_y)};
    }
};

// Return pixels per unit along one axis: the span becomes size - 12 pixels, and `high` lands exactly on the last pixel.
__device__ __forceinline__ float pixels_per_unit(float low, float high, int size) {
    float span = high - low;
    if (!(span >= MIN_SPAN)) return 0.0f;
    float room = (float)(size - 2 * (int)PAD);
    float scale = room / span;
    return span * scale < room ? scale * 1.00000011920928955078125f : scale;  // 1 + 2^-23
}

// The conversion of a point to its pixel on the canvas.
struct Viewport {
    float min_x, scale_x, min_y, scale_y;

    __device__ __forceinline__ int column(float x) const { return (int)((x - min_x) * scale_x + PAD); }
    __device__ __forceinline__ int row(float y) const { return (int)((y - min_y) * scale_y + PAD); }
};

__device__ __forceinline__ Viewport viewport_of(const Frame& frame, int size) {
    return {frame.min_x, pixels_per_unit(frame.min_x, frame.max_x, size),  //
            frame.min_y, pixels_per_unit(frame.min_y, frame.max_y, size)};
}

// ----------------------------------------------------------------------------------------------------------- the bits

// The rows of a canvas that a block keeps: rows first - 3 to first + rows - 1; the first three are for the patches.
struct Bitmap {
    uint32* bits;  // [rows + 3, words]; bit k of word j is column 32 j + k. A whole canvas has room for 32 words rows
    int words, first, rows;

    __device__ __forceinline__ uint32* row(int y) const { return bits + (y - first + ROWS_ABOVE) * words; }
    __device__ __forceinline__ int size() const { return (rows + ROWS_ABOVE) * words; }
};

// Return the bitmap of a band of a canvas; every band except the last has `band_rows` rows.
__device__ Bitmap band_of(uint32* bits, int size, int band_rows, int band) {
    int first = band * band_rows;
    return {bits, (size + 31) / 32, first, min(band_rows, size - first)};
}

// Visit a point: set the bit of its pixel. BANDED: skip a point outside the kept rows.
template <bool BANDED>
struct Splat {
    static constexpr bool USES_SHARED = true;
    Viewport viewport;
    SharedWord base;  // row 0 of the canvas; BANDED: the first row kept
    int words, first;  // words per row; the first row kept
    uint32 slots;

    __device__ __forceinline__ Splat(const Bitmap& bitmap, const Viewport& v)
        : viewport(v), base(shared_word(BANDED ? bitmap.bits : bitmap.row(0))), words(bitmap.words),
          first(bitmap.first - ROWS_ABOVE), slots(bitmap.rows + ROWS_ABOVE) {}

    __device__ __forceinline__ void operator()(float x, float y, int) const {
        uint32 column = viewport.column(x), row = viewport.row(y) - (BANDED ? first : 0);
        if (BANDED && row >= slots) return;
        set_bits(base, row * words + (column >> 5), 1u << (column & 31));
    }
};

// A canvas of numbers in global memory: that of the last point on each pixel, counted from 1; 0 where there is none.
struct Numbers {
    int* last;  // [size + 3, size + 3]; the first three rows and columns are empty, for the patches
    int size;

    __device__ __forceinline__ int side() const { return size + ROWS_ABOVE; }
    __device__ __forceinline__ int& at(int y, int x) const {
        return last[(y + ROWS_ABOVE) * side() + x + ROWS_ABOVE];
    }
    __device__ __forceinline__ void clear() const {
        for (int i = threadIdx.x; i < side() * side(); i += blockDim.x) last[i] = 0;
    }
    // Return the number of the newest point on a pixel or, with patches, of the newest patch over it.
    __device__ __forceinline__ int newest(int y, int x, bool patch) const {
        if (!patch) return at(y, x);
        int newest = 0;
        for (int dy = 1; dy <= 3; ++dy)
            for (int dx = 1; dx <= 3; ++dx) newest = max(newest, at(y - dy, x - dx));
        return newest;
    }
};

// Visit a point: keep its number if it is the last one on its pixel.
struct Number {
    static constexpr bool USES_SHARED = false;
    Numbers numbers;
    Viewport viewport;

    __device__ __forceinline__ void operator()(float x, float y, int index) const {
        atomicMax(&numbers.at(viewport.row(y), viewport.column(x)), index + 1);
    }
};
