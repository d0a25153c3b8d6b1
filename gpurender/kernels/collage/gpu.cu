// Collages in CUDA C: one kernel pastes, one blurs; a thread computes pixels, in all channels.
//
// The formulas are in cpu.py; all bytes equal those of cpu.py. A pixel of the canvas looks at the objects from the last
// to the first, and takes the first that is not black there. An object is never stored in colour: each pixel looks up
// the densities that it is made of, four or, where the object has its own size, one.

#include "device/common.cuh"
#include "device/hsv.cuh"
#include "device/runs.cuh"

constexpr int WEIGHT = 2048;

// What an object's colours are made of.
struct Object {
    const float* density;  // [height, height]
    int height, orientation;
    float hue, saturation, value, unit;

    // Return the colour of a pixel of the turned object; black where the density is 0.
    __device__ __forceinline__ Rgb at(int y, int x) const {
        int row = orientation & 4 ? x : y, column = orientation & 4 ? y : x;
        row = orientation & 1 ? height - 1 - row : row;
        column = orientation & 2 ? height - 1 - column : column;
        float d = density[row * height + column];
        if (!(d > 0.0f)) return {0, 0, 0};
        return rgb_of((int)(d * 255.0f + hue) & 255, saturation, value, unit);
    }
};

// The pixels that a pixel of a resized axis is made of, and the weight of the second.
struct Tap {
    int first, second, weight;
};

__device__ __forceinline__ Tap tap(int d, int height, int side) {
    int place = max(0, (2 * d + 1) * height - side);
    int i = place / (2 * side), rest = WEIGHT * (place % (2 * side));
    if (i >= height - 1) return {height - 1, height - 1, 0};
    int weight = rest / (2 * side), beyond = rest % (2 * side);
    return {i, i + 1, weight + (beyond > side || (beyond == side && (weight & 1)))};
}

__device__ __forceinline__ uint8 between(const Tap& y, const Tap& x, uint8 a, uint8 b, uint8 c, uint8 d) {
    int upper = a * (WEIGHT - x.weight) + b * x.weight, lower = c * (WEIGHT - x.weight) + d * x.weight;
    return (uint8)((((WEIGHT - y.weight) * (upper >> 4) >> 16) + (y.weight * (lower >> 4) >> 16) + 2) >> 2);
}

// Return the colour of a pixel of the object resized to `side`.
__device__ Rgb resized(const Object& object, int side, int row, int column) {
    if (side == object.height) return object.at(row, column);
    Tap y = tap(row, object.height, side), x = tap(column, object.height, side);
    Rgb a = object.at(y.first, x.first), b = object.at(y.first, x.second);
    Rgb c = object.at(y.second, x.first), d = object.at(y.second, x.second);
    return {between(y, x, a.red, b.red, c.red, d.red), between(y, x, a.green, b.green, c.green, d.green),
            between(y, x, a.blue, b.blue, c.blue, d.blue)};
}

// Paste objects on backgrounds.
extern "C" __global__ void __launch_bounds__(256)
    collage_paste(const float* densities,     // [N K, height, height]
                  const uint8* orientations,  // [N K]
                  const float* colours,       // [N K, 3]
                  const int* places,          // [N K, 3]
                  int each, int height, float unit,
                  const uint8* backgrounds,  // [N, 3, size, size]
                  int size, int run, int parts,
                  uint8* images) {  // [N, 3, size, size]
    const Run own(size * size, run, parts);
    const int64 n = own.image, pixels = (int64)size * size;
    const uint8* ground = backgrounds + 3 * n * pixels;
    uint8* image = images + 3 * n * pixels;
    for (int p = own.first + threadIdx.x; p < own.last; p += blockDim.x) {
        Rgb colour = {ground[p], ground[pixels + p], ground[2 * pixels + p]};
        for (int k = each - 1; k >= 0; --k) {
            const int64 number = n * each + k;
            const int row = p / size - places[3 * number], column = p % size - places[3 * number + 1];
            const int side = places[3 * number + 2];
            if (row < 0 || column < 0 || row >= side || column >= side) continue;
            const Object object = {densities + number * height * height, height, orientations[number],
                                   colours[3 * number], colours[3 * number + 1], colours[3 * number + 2], unit};
            Rgb found = resized(object, side, row, column);
            if (found.any()) {
                colour = found;
                break;
            }
        }
        image[p] = colour.red, image[pixels + p] = colour.green, image[2 * pixels + p] = colour.blue;
    }
}

// Blur canvases.
extern "C" __global__ void __launch_bounds__(256)
    collage_blur(const uint8* canvases,  // [N, 3, size, size]
                 const int* weights,     // [N]
                 int size, int run, int parts,
                 uint8* images) {  // [N, 3, size, size]
    const Run own(size * size, run, parts);
    const int64 n = own.image, pixels = (int64)size * size;
    const uint32 side = weights[n], centre = 256 - 2 * side;
    for (int p = own.first + threadIdx.x; p < own.last; p += blockDim.x) {
        const int y = p / size, x = p % size;
        const int above = (y ? y - 1 : 1) * size, here = y * size, below = (y < size - 1 ? y + 1 : size - 2) * size;
        const int left = x ? x - 1 : 1, right = x < size - 1 ? x + 1 : size - 2;
        for (int c = 0; c < 3; ++c) {
            const uint8* from = canvases + (3 * n + c) * pixels;
            uint32 middle = from[p];
            if (side) {
                uint32 upper = centre * from[above + x] + side * (from[above + left] + from[above + right]);
                uint32 lower = centre * from[below + x] + side * (from[below + left] + from[below + right]);
                middle = centre * from[here + x] + side * (from[here + left] + from[here + right]);
                middle = (centre * middle + side * (upper + lower) + (1u << 15)) >> 16;
            }
            images[(3 * n + c) * pixels + p] = (uint8)middle;
        }
    }
}
