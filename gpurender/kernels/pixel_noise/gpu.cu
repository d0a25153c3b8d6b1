// Noise of independent pixels in CUDA C: a block renders a run of the pixels of an image, a thread one pixel after another.
//
// The formulas and the addresses of the randomness are in cpu.py; all bytes equal those of cpu.py.

#include "device/common.cuh"
#include "device/runs.cuh"
#include "philox/philox.cuh"

// Return the standard normal variate of a word. The cell of x = (word mod 2^31) + 1 in the table, and the offset in the
// cell, are bits of x as a float.
__device__ __forceinline__ float normal_variate(uint32 word, const float* table) {
    const int bits = __float_as_int((float)((word & 0x7FFFFFFFu) + 1u)), cell = (bits >> 16) - 127 * 128;
    const float low = table[cell];
    const float z = low + (table[cell + 1] - low) * ((float)(bits & 0xFFFF) * 1.52587890625e-5f);  // 2^-16
    return word >> 31 ? -z : z;
}

__device__ __forceinline__ float uniform_variate(uint32 word) {
    return (float)((int)(word >> 8) - (1 << 23)) * 1.1920928955078125e-7f;  // 2^-23
}

__device__ __forceinline__ uint8 level(const float* law, float z0, float z1, float z2) {
    const float v = ((law[0] + law[1] * z0) + law[2] * z1) + law[3] * z2 + 0.5f;
    return (uint8)(int)fminf(fmaxf(v, 0.0f), 255.0f);
}

// Render images.
extern "C" __global__ void __launch_bounds__(256)
    pixel_noise_render(const float* coefficients,  // [N, 3, 4]
                       const int64* numbers,       // [N]
                       int normal,
                       const float* table,  // quantiles of the normal distribution
                       uint32 key0, uint32 key1, int pixels, int run, int parts,
                       uint8* images) {  // [N, 3, pixels]
    const Run own(pixels, run, parts);
    const int64 n = own.image;
    const float* law = coefficients + 12 * n;
    uint8* image = images + 3 * n * pixels;
    for (int p = own.first + threadIdx.x; p < own.last; p += blockDim.x) {
        const Four words = philox4x32(p, STREAM_PIXEL_NOISE, (uint64)numbers[n], key0, key1);
        float z0, z1, z2;
        if (normal) {
            z0 = normal_variate(words.x, table), z1 = normal_variate(words.y, table);
            z2 = normal_variate(words.z, table);
        } else {
            z0 = uniform_variate(words.x), z1 = uniform_variate(words.y), z2 = uniform_variate(words.z);
        }
        image[p] = level(law, z0, z1, z2);
        image[pixels + p] = level(law + 4, z0, z1, z2);
        image[2 * (int64)pixels + p] = level(law + 8, z0, z1, z2);
    }
}
