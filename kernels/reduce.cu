// Sums, the largest element along an axis, and sums by channel for batch normalisation.
//
//   sum      x [outer, n, inner] -> [outer, pieces, inner], each the sum of up to `piece` neighbours along n; launched again
//            on its output until one piece is left (src/tensor/cuda/launch.rs). Floor: read the input once.
//   max      x [outer, n, inner] -> values and places [outer, inner]; the first of equals, a NaN wins
//   put      the way back: zero but for the places
//
// The order of a sum is fixed by its sizes: lanes of a warp stride through a piece and are added by halves, or a thread
// adds a column from top to bottom. It is another order than the CPU's, so sums agree to rounding and not in bits.
//
// Geometry: 256 threads. sum_rows (inner = 1): a warp a piece, grid x = pieces of all rows / 8. Others: a thread an
// output, neighbours along inner, so that reads are coalesced; grid x = outputs / 256. Statistics of a channel: a block.

#include "tensor.cuh"

template <class T> __device__ __forceinline__ void sum_rows(const T *x, T *out, u32 rows, u64 n, u32 piece, u32 pieces) {
    const u64 at = (u64)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP;
    if (at >= (u64)rows * pieces) return;
    const u64 row = at / pieces, first = at % pieces * piece;
    const u64 last = first + piece < n ? first + piece : n;
    T sum = T(0);
#pragma unroll 4
    for (u64 i = first + threadIdx.x % WARP; i < last; i += WARP) sum += x[row * n + i];
    sum = warp_reduce(sum, Plus());
    if (threadIdx.x % WARP == 0) out[at] = sum;
}
FLOATS(sum_rows, (const T *x, T *out, u32 rows, u64 n, u32 piece, u32 pieces), (x, out, rows, n, piece, pieces))

template <class T>
__device__ __forceinline__ void sum_columns(const T *x, T *out, u32 outer, u32 n, u32 inner, u32 piece, u32 pieces) {
    const u64 at = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (at >= (u64)outer * pieces * inner) return;
    const u32 column = (u32)(at % inner), part = (u32)(at / inner % pieces);
    const u64 row = at / inner / pieces;
    const u32 first = part * piece, last = first + piece < n ? first + piece : n;
    T sum = T(0);
#pragma unroll 4
    for (u32 k = first; k < last; ++k) sum += x[(row * n + k) * inner + column];
    out[at] = sum;
}
FLOATS(sum_columns, (const T *x, T *out, u32 outer, u32 n, u32 inner, u32 piece, u32 pieces),
       (x, out, outer, n, inner, piece, pieces))

// Whether x comes before `best`: it is larger, or the first that is not a number.
template <class T> __device__ __forceinline__ bool beats(T x, T best) { return x > best || (x != x && best == best); }

template <class T>
__device__ __forceinline__ void max_axis(const T *x, T *values, u32 *where, u32 outer, u32 n, u32 inner) {
    const u64 at = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (at >= (u64)outer * inner) return;
    const T *from = x + at / inner * n * inner + at % inner;
    T best = from[0];
    u32 place = 0;
    for (u32 k = 1; k < n; ++k) {
        const T value = from[(u64)k * inner];
        if (beats(value, best)) {
            best = value;
            place = k;
        }
    }
    values[at] = best;
    where[at] = place;
}
FLOATS(max_axis, (const T *x, T *values, u32 *where, u32 outer, u32 n, u32 inner), (x, values, where, outer, n, inner))

template <class T>
__device__ __forceinline__ void put(const T *x, const u32 *where, T *out, u32 outer, u32 n, u32 inner) {
    const u64 at = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (at >= (u64)outer * n * inner) return;
    const u64 from = at / inner / n * inner + at % inner;
    out[at] = where[from] == at / inner % n ? x[from] : T(0);
}
FLOATS(put, (const T *x, const u32 *where, T *out, u32 outer, u32 n, u32 inner), (x, where, out, outer, n, inner))

// ---- batch normalisation of x [samples, channels, inner] (arXiv:1502.03167): a block a channel

// Sum of f over the elements of this block's channel.
template <class T, class F> __device__ __forceinline__ T of_channel(u32 samples, u32 channels, u32 inner, F f) {
    __shared__ T shared[THREADS / WARP];
    const u64 count = (u64)samples * inner;
    T sum = T(0);
    for (u64 i = threadIdx.x; i < count; i += THREADS) sum += f((i / inner * channels + blockIdx.x) * inner + i % inner);
    return block_reduce(sum, shared, Plus());
}

// Mean and variance about it: two passes over the channel.
template <class T>
__device__ __forceinline__ void channel_statistics(const T *x, T *mean, T *variance, u32 samples, u32 channels, u32 inner) {
    const T count = (T)((u64)samples * inner);
    const T level = of_channel<T>(samples, channels, inner, [=](u64 i) { return x[i]; }) / count;
    const T spread = of_channel<T>(samples, channels, inner, [=](u64 i) { return (x[i] - level) * (x[i] - level); });
    if (threadIdx.x == 0) {
        mean[blockIdx.x] = level;
        variance[blockIdx.x] = spread / count;
    }
}
FLOATS(channel_statistics, (const T *x, T *mean, T *variance, u32 samples, u32 channels, u32 inner),
       (x, mean, variance, samples, channels, inner))

template <class T>
__device__ __forceinline__ void batch_norm(const T *x, const T *weight, const T *bias, const T *mean, const T *variance, T *y,
                                           double epsilon, u32 channels, u32 inner, u64 n) {
    const u64 i = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    const u32 c = (u32)(i / inner % channels);
    const T scale = weight[c] / root(variance[c] + (T)epsilon);
    y[i] = (x[i] - mean[c]) * scale + bias[c];
}
FLOATS(batch_norm,
       (const T *x, const T *weight, const T *bias, const T *mean, const T *variance, T *y, double epsilon, u32 channels,
        u32 inner, u64 n),
       (x, weight, bias, mean, variance, y, epsilon, channels, inner, n))

template <class T>
__device__ __forceinline__ void channel_slopes(const T *grad, const T *x, const T *mean, const T *variance, T *dweight,
                                               T *dbias, double epsilon, u32 samples, u32 channels, u32 inner) {
    const T level = mean[blockIdx.x], scale = T(1) / root(variance[blockIdx.x] + (T)epsilon);
    const T along = of_channel<T>(samples, channels, inner, [=](u64 i) { return grad[i] * (x[i] - level); });
    const T total = of_channel<T>(samples, channels, inner, [=](u64 i) { return grad[i]; });
    if (threadIdx.x == 0) {
        dweight[blockIdx.x] = along * scale;
        dbias[blockIdx.x] = total;
    }
}
FLOATS(channel_slopes,
       (const T *grad, const T *x, const T *mean, const T *variance, T *dweight, T *dbias, double epsilon, u32 samples,
        u32 channels, u32 inner),
       (grad, x, mean, variance, dweight, dbias, epsilon, samples, channels, inner))

// dx = weight scale (g - mean g - (x - mean) scale mean(g x^))
template <class T>
__device__ __forceinline__ void batch_norm_chain(const T *grad, const T *x, const T *weight, const T *mean,
                                                 const T *variance, const T *dweight, const T *dbias, T *dx, double epsilon,
                                                 u32 channels, u32 inner, u64 n) {
    const u64 i = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    const u32 c = (u32)(i / inner % channels);
    const T count = (T)(n / channels), scale = T(1) / root(variance[c] + (T)epsilon);
    const T level = dbias[c] / count, along = dweight[c] / count * scale;
    dx[i] = weight[c] * scale * (grad[i] - level - (x[i] - mean[c]) * along);
}
FLOATS(batch_norm_chain,
       (const T *grad, const T *x, const T *weight, const T *mean, const T *variance, const T *dweight, const T *dbias, T *dx,
        double epsilon, u32 channels, u32 inner, u64 n),
       (grad, x, weight, mean, variance, dweight, dbias, dx, epsilon, channels, inner, n))
