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

// The cells of a table that a thread visits, row by row: `width` columns in every blockDim.x-th place, the first one in
// place threadIdx.x. An integer division takes some twenty instructions, so only the constructor divides.
struct Cells {
    int row, column;
    int columns, down, right;  // columns of the table; the way to the next place

    __device__ __forceinline__ Cells(int columns, int width = 1)
        : row(threadIdx.x * width / columns), column(threadIdx.x * width % columns), columns(columns),
          down(blockDim.x * width / columns), right(blockDim.x * width % columns) {}
    __device__ __forceinline__ void next() {
        row += down, column += right;
        if (column >= columns) column -= columns, ++row;
    }
};

// The host header of the tests has its own versions of the following definitions.
#ifndef HOST

#define DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) type name[]

// Items of a block whose state a thread keeps in registers. (A thread that plays a whole block keeps them all.)
constexpr int OWN = 1;

// Wait until the first `threads` threads of the block, a multiple of 32, are here.
__device__ __forceinline__ void wait_for_first(int threads) { asm volatile("bar.sync 1, %0;" ::"r"(threads) : "memory"); }

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
