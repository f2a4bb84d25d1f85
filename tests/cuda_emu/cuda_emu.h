// CUDA C on a CPU, for tests: kernels/*.cu compile against this header as C++.
//
// A block runs on one thread of the operating system, each of its CUDA threads on a stack of its own. Barriers and warp
// collectives are the points where another CUDA thread continues; a barrier that is never reached, or a collective
// called with different masks, ends the program with a message instead of hanging. See runtime.cpp.
#pragma once

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct uint3 { unsigned x, y, z; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };

namespace emu {

struct Warp {
    uint64_t deposit[32];   // what each lane brought to the collective
    uint64_t snapshot[32];  // the deposits of the last completed one
    unsigned mask[32];      // the mask each lane called it with
    unsigned waiting;       // lanes that have arrived
};

enum class State : uint8_t { fresh, ready, at_barrier, at_collective, done };

struct Thread {
    uint3 index;
    int lane;
    Warp *warp;
    void *stack, *stack_pointer;
    State state;
    bool predicate;
};

struct Block {
    dim3 grid, shape;
    uint3 index;
    void *dynamic_shared;
    int count;      // __syncthreads_count
    bool all, any;  // __syncthreads_and, __syncthreads_or
};

extern __thread Thread *thread;
extern __thread Block *block;

void barrier(bool predicate);
const uint64_t *collective(unsigned mask, uint64_t deposit);  // the deposits of all lanes in the mask
[[noreturn]] void die(const char *what);

// Calls a kernel with arguments that are given as pointers to them, as the driver does.
using Caller = void (*)(void *kernel, void **arguments);
struct Registration { Registration(const char *name, void *kernel, Caller caller); };
bool known(const char *name);
int launch(const char *name, dim3 grid, dim3 shape, size_t dynamic_shared, void **arguments);  // a CUresult

template <class Kernel> struct Signature;
template <class... A> struct Signature<void (*)(A...)> {
    template <size_t... I> static void spread(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
        kernel(*static_cast<std::remove_cv_t<A> *>(arguments[I])...);
    }
    static void call(void *kernel, void **arguments) {
        spread(reinterpret_cast<void (*)(A...)>(kernel), arguments, std::index_sequence_for<A...>{});
    }
};

template <class T> uint64_t to_bits(T value) {
    static_assert(sizeof(T) <= 8);
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    return bits;
}
template <class T> T from_bits(uint64_t bits) {
    T value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// Atomic read-modify-write of 4 or 8 bytes, floats included.
template <class T, class F> T modify(T *place, F change) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8);
    using Word = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
    Word *word = reinterpret_cast<Word *>(place);
    Word before = __atomic_load_n(word, __ATOMIC_RELAXED), after;
    do {
        after = static_cast<Word>(to_bits(static_cast<T>(change(from_bits<T>(before)))));
    } while (!__atomic_compare_exchange_n(word, &before, after, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return from_bits<T>(before);
}

}  // namespace emu

#define EMU_KERNEL(name)                                                                       \
    static emu::Registration emu_registration_##name(#name, reinterpret_cast<void *>(&name),   \
                                                     emu::Signature<decltype(&name)>::call);

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __grid_constant__
#define __shared__ static thread_local
#define DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(emu::block->dynamic_shared)
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define threadIdx (emu::thread->index)
#define blockIdx (emu::block->index)
#define blockDim (emu::block->shape)
#define gridDim (emu::block->grid)
#define warpSize 32

template <class T> T __ldg(const T *place) {
    if (reinterpret_cast<uintptr_t>(place) % alignof(T) != 0) emu::die("misaligned load");
    return *place;
}

// ---- barriers and warp collectives

static inline void __syncthreads() { emu::barrier(false); }
static inline int __syncthreads_count(int p) { emu::barrier(p != 0); return emu::block->count; }
static inline int __syncthreads_and(int p) { emu::barrier(p != 0); return emu::block->all; }
static inline int __syncthreads_or(int p) { emu::barrier(p != 0); return emu::block->any; }
static inline void __syncwarp(unsigned mask = ~0u) { emu::collective(mask, 0); }
static inline void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
static inline void __threadfence_block() {}

static inline unsigned __ballot_sync(unsigned mask, int predicate) {
    const uint64_t *all = emu::collective(mask, predicate != 0);
    unsigned lanes = 0;
    for (int lane = 0; lane < 32; ++lane) {
        if ((mask >> lane & 1) && all[lane]) lanes |= 1u << lane;
    }
    return lanes;
}
static inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
static inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }

namespace emu {
template <class T> T shuffle(unsigned mask, T value, int source, bool inside) {
    const uint64_t *all = collective(mask, to_bits(value));
    return inside && (mask >> source & 1) ? from_bits<T>(all[source]) : value;
}
}  // namespace emu
template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    const int first = emu::thread->lane & ~(width - 1);
    return emu::shuffle(mask, value, first + (source & (width - 1)), true);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
    const int lane = emu::thread->lane;
    return emu::shuffle(mask, value, (lane + by) & 31, (lane & (width - 1)) + static_cast<int>(by) < width);
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
    const int lane = emu::thread->lane;
    return emu::shuffle(mask, value, (lane - by) & 31, (lane & (width - 1)) >= static_cast<int>(by));
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32) {
    const int lane = emu::thread->lane, source = lane ^ with;
    return emu::shuffle(mask, value, source & 31, (source & ~(width - 1)) == (lane & ~(width - 1)));
}
template <class T> unsigned __match_any_sync(unsigned mask, T value) {
    const uint64_t *all = emu::collective(mask, emu::to_bits(value)), own = all[emu::thread->lane];
    unsigned lanes = 0;
    for (int lane = 0; lane < 32; ++lane) {
        if ((mask >> lane & 1) && all[lane] == own) lanes |= 1u << lane;
    }
    return lanes;
}
static inline int __reduce_add_sync(unsigned mask, int value) {
    const uint64_t *all = emu::collective(mask, emu::to_bits(value));
    int sum = 0;
    for (int lane = 0; lane < 32; ++lane) {
        if (mask >> lane & 1) sum += emu::from_bits<int>(all[lane]);
    }
    return sum;
}

// ---- atomics

template <class T, class U> T atomicAdd(T *p, U v) { return emu::modify(p, [&](T old) { return old + static_cast<T>(v); }); }
template <class T, class U> T atomicSub(T *p, U v) { return emu::modify(p, [&](T old) { return old - static_cast<T>(v); }); }
template <class T, class U> T atomicMax(T *p, U v) { return emu::modify(p, [&](T old) { return old > static_cast<T>(v) ? old : static_cast<T>(v); }); }
template <class T, class U> T atomicMin(T *p, U v) { return emu::modify(p, [&](T old) { return old < static_cast<T>(v) ? old : static_cast<T>(v); }); }
template <class T, class U> T atomicOr(T *p, U v) { return emu::modify(p, [&](T old) { return old | static_cast<T>(v); }); }
template <class T, class U> T atomicAnd(T *p, U v) { return emu::modify(p, [&](T old) { return old & static_cast<T>(v); }); }
template <class T, class U> T atomicExch(T *p, U v) { return emu::modify(p, [&](T) { return static_cast<T>(v); }); }
template <class T> T atomicCAS(T *p, T compare, T v) { return emu::modify(p, [&](T old) { return old == compare ? v : old; }); }

// ---- arithmetic; the test compiles with -ffp-contract=off, so that plain operators round once each

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(uint64_t x) { return __builtin_popcountll(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
static inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __int2float_rn(int x) { return static_cast<float>(x); }
static inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
static inline float __ll2float_rn(long long x) { return static_cast<float>(x); }
static inline long long __float2ll_rn(float x) { return std::llrint(x); }
static inline int __float_as_int(float x) { return emu::from_bits<int>(emu::to_bits(x)); }
static inline unsigned __float_as_uint(float x) { return emu::from_bits<unsigned>(emu::to_bits(x)); }
static inline float __int_as_float(int x) { return emu::from_bits<float>(emu::to_bits(x)); }
static inline float __uint_as_float(unsigned x) { return emu::from_bits<float>(emu::to_bits(x)); }
static inline long long __double_as_longlong(double x) { return emu::from_bits<long long>(emu::to_bits(x)); }
static inline double __longlong_as_double(long long x) { return emu::from_bits<double>(emu::to_bits(x)); }
static inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
template <class T> T min(T a, T b) { return a < b ? a : b; }
template <class T> T max(T a, T b) { return a > b ? a : b; }
