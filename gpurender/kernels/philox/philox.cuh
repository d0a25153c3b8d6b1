// Philox4x32-10, the only generator of the library, in CUDA C; the formula is in kernels/philox/cpu.py.

#include "device/common.cuh"

struct Four {
    uint32 x, y, z, w;
};

__device__ __forceinline__ Four philox4x32(uint32 block, uint32 stream, uint64 number, uint32 key0, uint32 key1) {
    uint32 c0 = block, c1 = stream, c2 = (uint32)number, c3 = (uint32)(number >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        uint64 product0 = (uint64)0xD2511F53u * c0;  // one wide multiplication: high and low word at once
        uint64 product1 = (uint64)0xCD9E8D57u * c2;
        c0 = (uint32)(product1 >> 32) ^ c1 ^ key0;
        c1 = (uint32)product1;
        c2 = (uint32)(product0 >> 32) ^ c3 ^ key1;
        c3 = (uint32)product0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return {c0, c1, c2, c3};
}
