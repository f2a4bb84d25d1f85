// Functions of one, two and three numbers, element by element.
//
//   map      y = f(x)                         floor: read n, write n
//   chain    dx = dy f'(x or y)               floor: read 2n, write n
//   zip      z = f(x, y), both of the shape of z, or read through strides (broadcasting)
//   ternary  select by a mask; SwiGLU's gradient has two outputs and a kernel of its own
//
// One entry point for all functions: the choice is uniform over a launch and made once before the loads, so it costs a
// branch, and a table of functions replaces forty entry points. Registers are those of the hungriest function (powers in
// double precision), which still leaves enough warps to saturate memory. Results equal the CPU's in every bit.
//
// Geometry: 256 threads, 4 elements each, a block's elements neighbours; grid: x = n / 1024. With strides: one division
// per axis and element, in 32 bits.

#include "tensor.cuh"

// Functions; src/tensor/unary.rs and src/tensor/cuda/launch.rs know them by these numbers. Slopes of spikes are the
// surrogates of math.cuh.
#define AFFINE 0u
#define CLAMP 1u
#define EXP 2u
#define GELU 3u
#define GELU_TANH 4u
#define LN 5u
#define POWF 6u
#define RELU 7u
#define SIGMOID 8u
#define SILU 9u
#define SPIKE 10u
#define SPIKE_ABOVE 11u
#define SQRT 12u
#define TANH 13u

#define ADD 0u
#define SUB 1u
#define MUL 2u
#define DIV 3u
#define SWIGLU 4u
#define KEEP_FIRST 5u

template <class T> __device__ __forceinline__ T normal(T x) {
    return T(0.5) * (T(1) + error_function(x * T(0.70710678118654752)));
}

template <class T> __device__ __forceinline__ T sigmoid(T x) { return T(1) / (T(1) + exponential(-x)); }

template <class T>
__device__ __forceinline__ void map(const T *x, T *y, u32 function, double a, double b, u64 n) {
    const T p = (T)a, q = (T)b;
#define CASE(name, value)                                                                    \
    case name: elementwise(n, [=](T x) -> T { return value; }, y, x); return
    switch (function) {
        CASE(AFFINE, x * p + q);
        CASE(CLAMP, x < p ? p : x > q ? q : x);
        CASE(EXP, exponential(x));
        CASE(GELU, x * normal(x));
        CASE(GELU_TANH, T(0.5) * x * (T(1) + hyperbolic_tangent(T(0.7978845608028654) * (x + T(0.044715) * x * x * x))));
        CASE(LN, logarithm(x));
        CASE(POWF, power(x, p));
        CASE(RELU, x > T(0) ? x : T(0));
        CASE(SIGMOID, sigmoid(x));
        CASE(SILU, x / (T(1) + exponential(-x)));
        CASE(SPIKE, x >= T(0) ? T(1) : T(0));
        CASE(SPIKE_ABOVE, x > T(0) ? T(1) : T(0));
        CASE(SQRT, root(x));
        CASE(TANH, hyperbolic_tangent(x));
    }
#undef CASE
}
FLOATS(map, (const T *x, T *y, u32 function, double a, double b, u64 n), (x, y, function, a, b, n))

template <class T> __device__ __forceinline__ T gelu_slope(T x) {
    return normal(x) + x * (T(0.3989422804014327) * exponential(T(-0.5) * x * x));
}

template <class T> __device__ __forceinline__ T gelu_tanh_slope(T x) {
    const T square = T(0.044715) * x * x;
    const T t = hyperbolic_tangent(T(0.7978845608028654) * x * (T(1) + square));
    const T inner = T(0.7978845608028654) * (T(1) + T(3) * square);
    return T(0.5) * (T(1) + t) + T(0.5) * x * (T(1) - t * t) * inner;
}

template <class T> __device__ __forceinline__ T silu_slope(T x) {
    const T s = sigmoid(x);
    return s * (T(1) + x * (T(1) - s));
}

// `at` is the input or the output of the function, whichever its derivative is written in.
template <class T>
__device__ __forceinline__ void chain(const T *grad, const T *saved, T *out, u32 function, double a, double b, double c,
                                      u64 n) {
    const T p = (T)a, q = (T)b, r = (T)c;
#define CASE(name, slope)                                                                    \
    case name: elementwise(n, [=](T g, T at) -> T { return g * (slope); }, out, grad, saved); return
    switch (function) {
        CASE(CLAMP, at >= p && at <= q ? T(1) : T(0));
        CASE(EXP, at);
        CASE(GELU, gelu_slope(at));
        CASE(GELU_TANH, gelu_tanh_slope(at));
        CASE(LN, T(1) / at);
        CASE(POWF, p * power(at, q));
        CASE(RELU, at > T(0) ? T(1) : T(0));
        CASE(SIGMOID, at * (T(1) - at));
        CASE(SILU, silu_slope(at));
        CASE(SQRT, T(0.5) / at);
        CASE(TANH, T(1) - at * at);
        default: elementwise(n, [=](T g, T at) -> T { return g * surrogate(function, p, q, r, at); }, out, grad, saved);
    }
#undef CASE
}
FLOATS(chain, (const T *grad, const T *saved, T *out, u32 function, double a, double b, double c, u64 n),
       (grad, saved, out, function, a, b, c, n))

template <class T> __device__ __forceinline__ T binary(u32 function, T x, T y) {
    switch (function) {
        case ADD: return x + y;
        case SUB: return x - y;
        case MUL: return x * y;
        case DIV: return x / y;
        case SWIGLU: return x * sigmoid(x) * y;
        default: return x;  // KEEP_FIRST
    }
}

template <class T> __device__ __forceinline__ void zip(const T *x, const T *y, T *z, u32 function, u64 n) {
    elementwise(n, [=](T x, T y) -> T { return binary(function, x, y); }, z, x, y);
}
FLOATS(zip, (const T *x, const T *y, T *z, u32 function, u64 n), (x, y, z, function, n))

template <class T, class Out, class F>
__device__ __forceinline__ void walk(const T *x, const T *y, Out *z, const Axes &axes, u32 n, F f) {
    const u64 first = (u64)blockIdx.x * (EACH * THREADS) + threadIdx.x;
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
        const u64 i = first + j * THREADS;
        if (i >= n) return;
        u32 a, b;
        places(axes, (u32)i, a, b);
        z[i] = f(x[a], y[b]);
    }
}

template <class T>
__device__ __forceinline__ void zip_strided(const T *x, const T *y, T *z, u32 function, const Axes &axes, u32 n) {
    walk(x, y, z, axes, n, [=](T x, T y) -> T { return binary(function, x, y); });
}
FLOATS(zip_strided, (const T *x, const T *y, T *z, u32 function, const __grid_constant__ Axes axes, u32 n), (x, y, z, function, axes, n))

template <class T>
__device__ __forceinline__ void greater_equal(const T *x, const T *y, u8 *z, const Axes &axes, u32 n) {
    walk(x, y, z, axes, n, [=](T x, T y) -> u8 { return x >= y; });
}
FLOATS(greater_equal, (const T *x, const T *y, u8 *z, const __grid_constant__ Axes axes, u32 n), (x, y, z, axes, n))

// out = mask ? a : b
template <class T> __device__ __forceinline__ void select(const u8 *mask, const T *a, const T *b, T *out, u64 n) {
    elementwise(n, [=](u8 m, T a, T b) -> T { return m != 0 ? a : b; }, out, mask, a, b);
}
FLOATS(select, (const u8 *mask, const T *a, const T *b, T *out, u64 n), (mask, a, b, out, n))

template <class T> __device__ __forceinline__ void fill(T *out, double value, u64 n) {
    const T v = (T)value;
    elementwise(n, [=]() -> T { return v; }, out);
}
FLOATS(fill, (T *out, double value, u64 n), (out, value, n))

// Gradients of x sigmoid(x) up by both: floor: read 3n, write 2n.
template <class T>
__device__ __forceinline__ void swiglu_chain(const T *grad, const T *gate, const T *up, T *dgate, T *dup, u64 n) {
    for (u64 i = (u64)blockIdx.x * (EACH * THREADS) + threadIdx.x, end = i + EACH * THREADS; i < end && i < n; i += THREADS) {
        const T g = grad[i], x = gate[i], s = sigmoid(x);
        dgate[i] = g * up[i] * s * (T(1) + x * (T(1) - s));
        dup[i] = g * x * s;
    }
}
FLOATS(swiglu_chain, (const T *grad, const T *gate, const T *up, T *dgate, T *dup, u64 n),
       (grad, gate, up, dgate, dup, n))

// theta floor(clip(x / theta, 0, 1) L + 1/2) / L, Bu et al., arXiv:2303.04347; `theta` is one number in memory.
template <class T> __device__ __forceinline__ T qcfs_level(T x, T theta, T levels) {
    T share = x / theta;
    share = share < T(0) ? T(0) : share;
    share = share > T(1) ? T(1) : share;
    return (T)floor((double)(share * levels + T(0.5))) / levels;
}

template <class T> __device__ __forceinline__ void qcfs(const T *x, const T *theta, T *y, u32 levels, u64 n) {
    const T t = theta[0], l = (T)levels;
    elementwise(n, [=](T x) -> T { return t * qcfs_level(x, t, l); }, y, x);
}
FLOATS(qcfs, (const T *x, const T *theta, T *y, u32 levels, u64 n), (x, theta, y, levels, n))

// Gradients by x and, element by element, by theta.
template <class T>
__device__ __forceinline__ void qcfs_chain(const T *grad, const T *x, const T *theta, T *dx, T *dtheta, u32 levels, u64 n) {
    const T t = theta[0], l = (T)levels;
    for (u64 i = (u64)blockIdx.x * (EACH * THREADS) + threadIdx.x, end = i + EACH * THREADS; i < end && i < n; i += THREADS) {
        const T g = grad[i], at = x[i];
        const bool inside = at > T(0) && at < t;
        dx[i] = inside ? g : T(0);
        dtheta[i] = g * (qcfs_level(at, t, l) - (inside ? at / t : T(0)));
    }
}
FLOATS(qcfs_chain, (const T *grad, const T *x, const T *theta, T *dx, T *dtheta, u32 levels, u64 n),
       (grad, x, theta, dx, dtheta, levels, n))

// Kept where word i % 4 of the Philox block (i / 4 low, high, call low, high) is at least `threshold`, times `scale`; a
// thread draws one block for its four neighbours. Geometry: 256 threads, 4 neighbours each.
template <class T>
__device__ __forceinline__ void dropout(const T *x, T *y, double scale, u64 threshold, u32 key0, u32 key1, u64 call, u64 n) {
    const u64 block = (u64)blockIdx.x * THREADS + threadIdx.x;
    u32 words[4] = {(u32)block, (u32)(block >> 32), (u32)call, (u32)(call >> 32)};
    philox(words, key0, key1);
    const T factor = (T)scale;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        const u64 i = 4 * block + j;
        if (i < n) y[i] = words[j] >= threshold ? x[i] * factor : T(0);
    }
}
FLOATS(dropout, (const T *x, T *y, double scale, u64 threshold, u32 key0, u32 key1, u64 call, u64 n),
       (x, y, scale, threshold, key0, key1, call, n))
