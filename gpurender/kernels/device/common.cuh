// Types and shared memory of every kernel.
//
// gpurender/runtime/cuda.py prepends a STREAM_... constant for every purpose of numerics/streams.py to a gpu.cu and
// expands its includes: `#include "..."` names a file below gpurender/kernels, which is included once.

typedef unsigned char uint8;
typedef unsigned int uint32;
typedef unsigned long long uint64;
typedef long long int64;

struct __align__(16) Sixteen {  // sixteen bytes, moved by one load or store
    uint32 x, y, z, w;
};

// The host header of the tests has its own versions of the following definitions.
#ifndef HOST

#define DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) type name[]

typedef uint32 SharedWord;  // the address of a word in shared memory

__device__ __forceinline__ SharedWord shared_word(uint32* word) { return (uint32)__cvta_generic_to_shared(word); }

// Set bits of the word of shared memory `index` words after `base`, unless they are set already. Most are, and reading
// is cheaper than the atomic. In PTX, because the compiler would compute the window's address again for every word.
__device__ __forceinline__ void set_bits(SharedWord base, uint32 index, uint32 bits) {
    asm volatile(
        "{\n\t"
        ".reg .pred clear;\n\t"
        ".reg .u32 found;\n\t"
        "ld.relaxed.cta.shared.u32 found, [%0];\n\t"
        "and.b32 found, found, %1;\n\t"
        "setp.ne.u32 clear, found, %1;\n\t"
        "@clear red.shared.or.b32 [%0], %1;\n\t"
        "}" ::"r"(base + 4 * index), "r"(bits) : "memory");
}

// Return the sum plus the products of four unsigned bytes and four signed bytes. In PTX, because the intrinsic wants both
// unsigned or both signed.
__device__ __forceinline__ int dot(uint32 bytes, uint32 weights, int sum) {
    asm("dp4a.u32.s32 %0, %1, %2, %0;" : "+r"(sum) : "r"(bytes), "r"(weights));
    return sum;
}

// Return four integers as bytes, clamped to 0 .. 255, the first one lowest: two instructions.
__device__ __forceinline__ uint32 saturated(int a, int b, int c, int d) {
    uint32 four;
    asm("{\n\t"
        ".reg .b32 upper;\n\t"
        "cvt.pack.sat.u8.s32.b32 upper, %4, %3, 0;\n\t"
        "cvt.pack.sat.u8.s32.b32 %0, %2, %1, upper;\n\t"
        "}" : "=r"(four) : "r"(a), "r"(b), "r"(c), "r"(d));
    return four;
}

#endif
