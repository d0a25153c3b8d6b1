// Warps in CUDA C: a block renders a run of the pixels of a copy, a thread one pixel after another.
//
// The formulas are in cpu.py; all bytes equal those of cpu.py.

#include "device/common.cuh"
#include "device/runs.cuh"

// A polynomial of degree 2 in the plane.
struct Polynomial {
    float c0, c1, c2, c3, c4, c5;

    __device__ __forceinline__ explicit Polynomial(const float* c)
        : c0(c[0]), c1(c[1]), c2(c[2]), c3(c[3]), c4(c[4]), c5(c[5]) {}
    __device__ __forceinline__ float at(float x, float y) const {
        return ((((c0 + c1 * x) + c2 * y) + c3 * (x * x)) + c4 * (x * y)) + c5 * (y * y);
    }
};

// The uniform cubic B-spline of one pixel along one axis: its first control point and the four weights.
struct Spline {
    int first;
    float w0, w1, w2, w3;

    __device__ __forceinline__ Spline(int i, int size, int cells) {
        const int place = (2 * i + 1) * cells;
        first = place / (2 * size);
        const float t = (float)(place % (2 * size)) / (float)(2 * size), s = 1.0f - t;
        w0 = outer(s), w1 = middle(t), w2 = middle(s), w3 = outer(t);
    }
    __device__ __forceinline__ static float outer(float t) { return ((t * t) * t) * (1.0f / 6.0f); }
    __device__ __forceinline__ static float middle(float t) {
        const float square = t * t;
        return ((3.0f * (square * t) - 6.0f * square) + 4.0f) * (1.0f / 6.0f);
    }
    __device__ __forceinline__ float sum(float a, float b, float c, float d) const {
        return ((w0 * a + w1 * b) + w2 * c) + w3 * d;
    }
};

// Return the displacement of a pixel along one axis; control  # [points, points]
__device__ __forceinline__ float displacement(const float* control, int points, const Spline& across,
                                              const Spline& down) {
    const float* rows = control + down.first * points + across.first;
    float sums[4];
#pragma unroll
    for (int g = 0; g < 4; ++g) sums[g] = down.sum(rows[g], rows[points + g], rows[2 * points + g], rows[3 * points + g]);
    return across.sum(sums[0], sums[1], sums[2], sums[3]);
}

// Return a pixel of a channel, 0 beyond its edge.
__device__ __forceinline__ float pixel(const uint8* channel, int size, int row, int column) {
    const bool inside = (unsigned)row < (unsigned)size && (unsigned)column < (unsigned)size;
    return inside ? (float)channel[row * size + column] : 0.0f;
}

// Return what a channel shows at offset (a, b) from the middle of a pixel.
__device__ __forceinline__ uint8 between(const uint8* channel, int size, int row, int column, float a, float b) {
    float left = pixel(channel, size, row, column);
    const float upper = left + (pixel(channel, size, row, column + 1) - left) * a;
    left = pixel(channel, size, row + 1, column);
    const float lower = left + (pixel(channel, size, row + 1, column + 1) - left) * a;
    return (uint8)(int)fminf((upper + (lower - upper) * b) + 0.5f, 255.0f);
}

// Render copies.
extern "C" __global__ void __launch_bounds__(256)
    warp_render(const uint8* image,         // [C, S, S]
                const float* coefficients,  // [N, 2, 6]
                const float* field,         // [N, 2, points, points]
                int points, int channels, int size, int run, int parts,
                uint8* images) {  // [N, C, S, S]
    const int pixels = size * size;
    const Run own(pixels, run, parts);
    const int64 n = own.image;
    const Polynomial across(coefficients + 12 * n), down(coefficients + 12 * n + 6);
    const float unit = 1.0f / (float)size, limit = (float)size;
    uint8* copy = images + n * channels * pixels;
    for (int k = own.first + threadIdx.x; k < own.last; k += blockDim.x) {
        const float x = (float)(2 * (k % size) + 1 - size) * unit, y = (float)(2 * (k / size) + 1 - size) * unit;
        float u = across.at(x, y), v = down.at(x, y);
        if (points) {
            const Spline horizontal(k % size, size, points - 3), vertical(k / size, size, points - 3);
            const float* control = field + n * 2 * points * points;
            u += displacement(control, points, horizontal, vertical);
            v += displacement(control + points * points, points, horizontal, vertical);
        }
        const bool shown = u > -1.0f && u < limit && v > -1.0f && v < limit;
        const int column = shown ? min((int)(u + 1.0f), size) - 1 : 0, row = shown ? min((int)(v + 1.0f), size) - 1 : 0;
        const float a = u - (float)column, b = v - (float)row;
        for (int c = 0; c < channels; ++c) {
            const uint8* channel = image + (int64)c * pixels;
            copy[(int64)c * pixels + k] = shown ? between(channel, size, row, column, a, b) : (uint8)0;
        }
    }
}
