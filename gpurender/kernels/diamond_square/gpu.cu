// Diamond-square textures in CUDA C: one block per texture, the heights in global memory, a barrier after every step.
//
// The formulas and the addresses of the randomness are in cpu.py; all bytes equal those of cpu.py. A thread computes the
// four points of a step that share a Philox call. Points of one step do not read each other.

#include "device/common.cuh"
#include "device/hsv.cuh"
#include "philox/philox.cuh"

constexpr int STEP_BITS = 27;
constexpr uint32 CORNERS = 31;

// The heights of a texture, and the addresses of its noise.
struct Grid {
    float* heights;  // [side, side]
    int side;
    uint64 number;
    uint32 key0, key1;

    __device__ __forceinline__ float& at(int row, int column) const { return heights[row * side + column]; }
    __device__ __forceinline__ Four words(uint32 step, uint32 block) const {
        return philox4x32((step << STEP_BITS) + block, STREAM_BACKGROUND, number, key0, key1);
    }
};

__device__ __forceinline__ float noise(uint32 word, float amplitude) {
    return ((float)((int)(word >> 8) - (1 << 23)) * 1.1920928955078125e-7f) * amplitude;  // 2^-23
}

__device__ __forceinline__ float mean(float a, float b, float c, float d) { return (((a + b) + c) + d) * 0.25f; }

// Compute number `i` of the centres of the squares of a level, at distance d of their corners.
__device__ __forceinline__ void diamond(const Grid& grid, int level, int d, int i, uint32 word, float amplitude) {
    const int across = 1 << (level - 1), row = (2 * (i / across) + 1) * d, column = (2 * (i % across) + 1) * d;
    if (row >= grid.side) return;
    float height = mean(grid.at(row - d, column - d), grid.at(row - d, column + d), grid.at(row + d, column - d),
                        grid.at(row + d, column + d));
    grid.at(row, column) = height + noise(word, amplitude);
}

// Compute number `i` of the centres of the edges of a level in the first `rows` rows.
__device__ __forceinline__ void square(const Grid& grid, int level, int d, int rows, int i, uint32 word,
                                       float amplitude) {
    const int across = 1 << level, width = (across >> 1) + 1, last = grid.side - 1;
    const int r = i / width, c = 2 * (i % width) + 1 - r % 2, row = r * d, column = c * d;
    if (r > across || c > across || row >= rows) return;
    float above = grid.at(r > 0 ? row - d : last - d, column), left = grid.at(row, c > 0 ? column - d : last - d);
    float right = grid.at(row, c < across ? column + d : d), below = grid.at(r < across ? row + d : d, column);
    grid.at(row, column) = mean(above, left, right, below) + noise(word, amplitude);
}

// Compute a step: `diamonds` or squares. Block q has the words of the points 4 q to 4 q + 3.
__device__ void step(const Grid& grid, int level, int d, bool diamonds, int rows, int count, float amplitude) {
    const uint32 number = 2 * level - (diamonds ? 2 : 1);
    for (int q = threadIdx.x; q < (count + 3) / 4; q += blockDim.x) {
        Four words = grid.words(number, q);
        const uint32 four[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            if (diamonds)
                diamond(grid, level, d, 4 * q + j, four[j], amplitude);
            else
                square(grid, level, d, rows, 4 * q + j, four[j], amplitude);
        }
    }
    __syncthreads();
}

__device__ __forceinline__ int wrapped(float x) { return (int)x & 255; }

// Render textures. A block renders texture after texture.
extern "C" __global__ void __launch_bounds__(256)
    diamond_square_render(const float* parameters,  // [N, 7]
                          const int64* numbers,     // [N]
                          uint32 key0, uint32 key1, int size, int levels, float unit, int64 count,
                          float* scratch,    // [blocks, side, side]
                          uint8* images) {   // [N, 3, size, size]
    const int side = (1 << levels) + 1, pixels = size * size;
    for (int64 n = blockIdx.x; n < count; n += gridDim.x) {
        const float* law = parameters + 7 * n;
        const Grid grid = {scratch + (int64)blockIdx.x * side * side, side, (uint64)numbers[n], key0, key1};
        if (threadIdx.x == 0) {
            Four words = grid.words(CORNERS, 0);
            const float per_word = 5.9604644775390625e-8f;  // 2^-24
            grid.at(0, 0) = (float)(words.x >> 8) * per_word;
            grid.at(0, side - 1) = (float)(words.y >> 8) * per_word;
            grid.at(side - 1, 0) = (float)(words.z >> 8) * per_word;
            grid.at(side - 1, side - 1) = (float)(words.w >> 8) * per_word;
        }
        __syncthreads();
        float amplitude = 0.5f;
        for (int level = 1; level <= levels; ++level) {
            const int across = 1 << level, d = (side - 1) >> level, last = level == levels;
            step(grid, level, d, true, side, across * across / 4, amplitude);
            const int rows = last ? size : side;
            step(grid, level, d, false, rows, (last ? size : across + 1) * (across / 2 + 1), amplitude);
            amplitude *= law[0];
        }
        for (int p = threadIdx.x; p < pixels; p += blockDim.x) {
            float x = grid.at(p / size, p % size);
            int hue = wrapped(law[1] * x + law[2]);
            int saturation = wrapped(fminf(law[3] * x + law[4], 255.0f));
            int value = wrapped(fminf(law[5] * x + law[6], 255.0f));
            Rgb colour = rgb_of(hue, (float)saturation, (float)value, unit);
            uint8* image = images + 3 * n * pixels;
            image[p] = colour.red, image[pixels + p] = colour.green, image[2 * pixels + p] = colour.blue;
        }
        __syncthreads();  // all have read before the next texture overwrites
    }
}
