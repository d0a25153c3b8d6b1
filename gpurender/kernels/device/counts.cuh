// Points counted on the pixels of a view, and the density under a patch; device/cpu_counts.py is the reference.

#include "device/bitmap.cuh"
#include "device/common.cuh"

// One axis of a view: where it begins, and its pixels per unit.
struct AxisOfView {
    float begin, scale;

    __device__ __forceinline__ int pixel(float x) const { return (int)((x - begin) * scale); }
};

__device__ __forceinline__ AxisOfView axis_of_view(float low, float high, float shift, float zoom, int size) {
    float extent = high - low;
    float centre = (low + high) * 0.5f + extent * shift, half = extent * zoom;
    float begin = centre - half, span = (centre + half) - begin;
    return {begin, (float)(size - 1) / (span >= MIN_SPAN ? span : 1.0f)};
}

// Visit a point: count it on its pixel, or drop it.
struct Count {
    static constexpr bool USES_SHARED = false;
    int* counts;  // [size + 2, size + 2]
    uint32 side;  // size + 2
    AxisOfView x, y;

    __device__ __forceinline__ void operator()(float px, float py, int) const {
        uint32 row = x.pixel(px) + 1, column = y.pixel(py) + 1;
        if (row < side && column < side) atomicAdd(&counts[row * side + column], 1);
    }
};

// Return the number of patches that cover a pixel.
__device__ __forceinline__ int covered(const int* counts, int side, int patch, int row, int column) {
    int sum = 0;
#pragma unroll
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j)
            if (patch >> (3 * i + j) & 1) sum += counts[(row + 2 - i) * side + column + 2 - j];
    return sum;
}
