// What the kernels behind operations on tensors share: entry points for both widths, reductions, walks over axes.
//
// Every kernel has blocks of 256 threads and is launched through a helper of src/tensor/cuda/launch.rs. Reductions have a
// fixed order (lanes of a warp by halves, then warps by halves) and there are no float atomics, so that results do not
// depend on scheduling.
#pragma once

#include "math.cuh"

#define THREADS 256
#define WARP 32

// Entry points name_f32 and name_f64 of the template `name`; its parameters are written with T.
#define FLOATS(name, parameters, arguments)                                                            \
    namespace of_f32 { typedef float T; ENTRY(name##_f32, parameters) { name<T> arguments; } }         \
    namespace of_f64 { typedef double T; ENTRY(name##_f64, parameters) { name<T> arguments; } }        \
    using of_f32::name##_f32;                                                                          \
    using of_f64::name##_f64;
// Entry points name_8 to name_64 for memory that is moved and not computed with; T is an unsigned integer.
#define WORDS(name, parameters, arguments)                                                             \
    namespace of_8 { typedef u8 T; ENTRY(name##_8, parameters) { name<T> arguments; } }                \
    namespace of_16 { typedef u16 T; ENTRY(name##_16, parameters) { name<T> arguments; } }             \
    namespace of_32 { typedef u32 T; ENTRY(name##_32, parameters) { name<T> arguments; } }             \
    namespace of_64 { typedef u64 T; ENTRY(name##_64, parameters) { name<T> arguments; } }             \
    using of_8::name##_8;                                                                              \
    using of_16::name##_16;                                                                            \
    using of_32::name##_32;                                                                            \
    using of_64::name##_64;
#define ENTRY(name, parameters) extern "C" __global__ void __launch_bounds__(THREADS) name parameters

// Sizes of the axes of an output, and the strides with which up to two operands are read along them. As a parameter it is
// a __grid_constant__: indexed where it lies, without a copy for each thread.
struct Axes {
    u32 rank, size[8], a[8], b[8];
};

// Where the operands stand for element i of the output.
__device__ __forceinline__ void places(const Axes &axes, u32 i, u32 &a, u32 &b) {
    a = b = 0;
    for (int axis = (int)axes.rank - 1; axis > 0; --axis) {
        const u32 rest = i / axes.size[axis], at = i - rest * axes.size[axis];
        a += at * axes.a[axis];
        b += at * axes.b[axis];
        i = rest;
    }
    a += i * axes.a[0];
    b += i * axes.b[0];
}

// Elements of an elementwise kernel that a thread works on: their loads are in flight together.
#define EACH 4

// out[i] = f(in[i]...): a block takes EACH * 256 neighbours, every access is coalesced.
template <class Out, class F, class... In>
__device__ __forceinline__ void elementwise(u64 n, F f, Out *__restrict__ out, const In *__restrict__... in) {
    const u64 first = (u64)blockIdx.x * (EACH * THREADS) + threadIdx.x;
    Out values[EACH];
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
        const u64 i = first + j * THREADS;
        if (i < n) values[j] = f(in[i]...);
    }
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
        const u64 i = first + j * THREADS;
        if (i < n) out[i] = values[j];
    }
}

struct Plus {
    template <class T> __device__ __forceinline__ T operator()(T a, T b) const { return a + b; }
};
struct Larger {
    template <class T> __device__ __forceinline__ T operator()(T a, T b) const { return b > a ? b : a; }
};

// The reduction over a warp, in all of its lanes.
template <class T, class F> __device__ __forceinline__ T warp_reduce(T value, F f) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        value = f(value, __shfl_xor_sync(ALL_LANES, value, distance));
    }
    return value;
}

// The reduction over a block, in all of its threads; `shared` has 8 places and is free again afterwards.
template <class T, class F> __device__ __forceinline__ T block_reduce(T value, T *shared, F f) {
    value = warp_reduce(value, f);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    __syncthreads();
    if (lane == 0) shared[warp] = value;
    __syncthreads();
    value = shared[lane % (THREADS / WARP)];
    // Lanes repeat the 8 values: three halvings are enough.
#pragma unroll
    for (int distance = THREADS / WARP / 2; distance > 0; distance /= 2) {
        value = f(value, __shfl_xor_sync(ALL_LANES, value, distance));
    }
    return value;
}

// A team of threads that shares a row: a warp where rows are short, else the block. One choice for a whole launch.
struct Team {
    bool block;
    u32 size, rank, row;

    __device__ __forceinline__ explicit Team(u32 wide) {
        block = wide != 0;
        size = block ? THREADS : WARP;
        rank = threadIdx.x % size;
        row = block ? blockIdx.x : blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP;
    }
    template <class T, class F> __device__ __forceinline__ T reduce(T value, F f, T *shared) const {
        return block ? block_reduce(value, shared, f) : warp_reduce(value, f);
    }
};

// What a kernel found wrong with its data, kept until the host asks: code, place, value, bound. The first one stays.
#define FAULT_LABEL 1u
#define FAULT_INDEX 2u
#define FAULT_NO_LABEL 3u
__device__ __forceinline__ void raise(u32 *fault, u32 code, u32 place, u32 value, u32 bound) {
    if (atomicCAS(fault, 0u, code) == 0u) {
        fault[1] = place;
        fault[2] = value;
        fault[3] = bound;
    }
}
