// Lets g++ build a kernel's CUDA C: one block at a time, one or more threads a block. Test code only.
//
// Shared memory is static, blocks follow one another, so it belongs to one block at a time. With several threads a
// block, each is a thread of the process, and a barrier is a barrier.

#include <atomic>
#include <barrier>
#include <cmath>
#include <cstring>
#include <memory>

#define HOST
#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __constant__ static const
#define __align__(n) alignas(n)
#define __launch_bounds__(...)

struct Dim {
    unsigned x, y, z;
};
static thread_local Dim threadIdx;
static Dim blockIdx, blockDim{1, 1, 1}, gridDim;

static std::unique_ptr<std::barrier<>> host_barrier;
alignas(16) static unsigned char host_shared[256 << 10];
#define DYNAMIC_SHARED(type, name) type* name = (type*)host_shared

extern "C" void host_threads(unsigned threads) {
    blockDim.x = threads;
    host_barrier = std::make_unique<std::barrier<>>(threads);
}
extern "C" void host_thread(unsigned thread) { threadIdx.x = thread; }
extern "C" void host_block(unsigned block, unsigned blocks) {
    blockIdx.x = block, gridDim.x = blocks;
    std::memset(host_shared, 0xA5, sizeof host_shared);  // what a block finds there is undefined
}

inline void __syncthreads() {
    if (blockDim.x > 1) host_barrier->arrive_and_wait();
}
constexpr int OWN = 1024;
inline void wait_for_first(unsigned threads) {
    static std::atomic<unsigned> arrived, passes;
    if (threads <= 1) return;
    unsigned pass = passes.load();
    if (arrived.fetch_add(1) + 1 < threads) return passes.wait(pass);
    arrived = 0;
    ++passes;
    passes.notify_all();
}
template <class T>
T atomicOr(T* p, T v) { return __atomic_fetch_or(p, v, __ATOMIC_RELAXED); }
template <class T>
T atomicAdd(T* p, T v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }
template <class T>
T atomicMax(T* p, T v) {
    T old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (old < v && !__atomic_compare_exchange_n(p, &old, v, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return old;
}
template <class T>
T atomicMin(T* p, T v) {
    T old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (v < old && !__atomic_compare_exchange_n(p, &old, v, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return old;
}
typedef unsigned* SharedWord;
inline SharedWord shared_word(unsigned* word) { return word; }
inline void set_bits(SharedWord base, unsigned index, unsigned bits) {
    if ((__atomic_load_n(base + index, __ATOMIC_RELAXED) & bits) != bits) atomicOr(base + index, bits);
}

inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline unsigned __brev(unsigned v) {
    unsigned turned = 0;
    for (int i = 0; i < 32; ++i) turned |= (v >> i & 1) << (31 - i);
    return turned;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned long long)a * b >> 32; }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned __int128)a * b >> 64; }
template <class To, class From>
To host_bits(From value) {
    To bits;
    static_assert(sizeof bits == sizeof value);
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
inline int __float_as_int(float value) { return host_bits<int>(value); }
inline float __int_as_float(int value) { return host_bits<float>(value); }
template <class T>
T min(T a, T b) { return b < a ? b : a; }
template <class T>
T max(T a, T b) { return a < b ? b : a; }
inline int dot(unsigned bytes, unsigned weights, int sum) {
    for (int i = 0; i < 4; ++i) sum += (int)(bytes >> 8 * i & 255) * (signed char)(weights >> 8 * i & 255);
    return sum;
}
inline unsigned saturated(int a, int b, int c, int d) {
    const int four[4] = {a, b, c, d};
    unsigned bytes = 0;
    for (int i = 0; i < 4; ++i) bytes |= (unsigned)min(max(four[i], 0), 255) << 8 * i;
    return bytes;
}
