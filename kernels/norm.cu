// Normalisation along rows of n and its way back.
//
//   layer_norm  y = (x - mean) scale w + b,  scale = 1 / sqrt(variance + epsilon)     arXiv:1607.06450
//               dx = scale (h - mean h - x^ mean(h x^)),  h = dy w,  x^ = (x - mean) scale
//   rms_norm    y = x scale w,  scale = 1 / sqrt(mean x^2 + epsilon)                  arXiv:1910.07467
//               dx = scale (h - x^ mean(h x^)),  x^ = x scale
//
// `products` = dy x^ is written where the gradient of w is wanted; its sum over rows is that gradient. Floor: read n, write
// n (back: read 2n, write n). Sums within a row are in another order than the CPU's.
//
// Geometry: 256 threads; a warp a row where n is at most 1024 (`wide` = 0, grid x = rows / 8), else a block (grid x = rows).

#include "tensor.cuh"

// x^ = (x - mean) scale
template <class T> struct Row {
    T mean, scale;
    __device__ __forceinline__ T of(T x) const { return (x - mean) * scale; }
};

template <class T, class F> __device__ __forceinline__ T sum_of(const Team &team, u32 n, T *shared, F f) {
    T sum = T(0);
    for (u32 i = team.rank; i < n; i += team.size) sum += f(i);
    return team.reduce(sum, Plus(), shared);
}

template <class T> __device__ __forceinline__ Row<T> centred(const Team &team, const T *x, double epsilon, u32 n, T *shared) {
    const T mean = sum_of(team, n, shared, [=](u32 i) { return x[i]; }) / (T)n;
    const T variance = sum_of(team, n, shared, [=](u32 i) { return (x[i] - mean) * (x[i] - mean); }) / (T)n;
    return {mean, T(1) / root(variance + (T)epsilon)};
}

template <class T> __device__ __forceinline__ Row<T> scaled(const Team &team, const T *x, double epsilon, u32 n, T *shared) {
    const T mean = sum_of(team, n, shared, [=](u32 i) { return x[i] * x[i]; }) / (T)n;
    return {T(0), T(1) / root(mean + (T)epsilon)};
}

template <class T>
__device__ __forceinline__ void layer_norm(const T *x, const T *weight, const T *bias, T *y, double epsilon, u32 rows, u32 n,
                                           u32 wide) {
    __shared__ T shared[THREADS / WARP];
    const Team team(wide);
    if (team.row >= rows) return;
    x += (u64)team.row * n;
    y += (u64)team.row * n;
    const Row<T> row = centred(team, x, epsilon, n, shared);
    for (u32 i = team.rank; i < n; i += team.size) y[i] = row.of(x[i]) * weight[i] + bias[i];
}
FLOATS(layer_norm, (const T *x, const T *weight, const T *bias, T *y, double epsilon, u32 rows, u32 n, u32 wide),
       (x, weight, bias, y, epsilon, rows, n, wide))

template <class T>
__device__ __forceinline__ void layer_norm_chain(const T *grad, const T *x, const T *weight, T *dx, T *products,
                                                 double epsilon, u32 rows, u32 n, u32 wide, u32 scales) {
    __shared__ T shared[THREADS / WARP];
    const Team team(wide);
    if (team.row >= rows) return;
    const u64 at = (u64)team.row * n;
    grad += at;
    x += at;
    const Row<T> row = centred(team, x, epsilon, n, shared);
    const T along = sum_of(team, n, shared, [=](u32 i) { return grad[i] * weight[i] * row.of(x[i]); }) / (T)n;
    const T level = sum_of(team, n, shared, [=](u32 i) { return grad[i] * weight[i]; }) / (T)n;
    for (u32 i = team.rank; i < n; i += team.size) {
        dx[at + i] = row.scale * (grad[i] * weight[i] - level - row.of(x[i]) * along);
        if (scales) products[at + i] = grad[i] * row.of(x[i]);
    }
}
FLOATS(layer_norm_chain,
       (const T *grad, const T *x, const T *weight, T *dx, T *products, double epsilon, u32 rows, u32 n, u32 wide, u32 scales),
       (grad, x, weight, dx, products, epsilon, rows, n, wide, scales))

template <class T>
__device__ __forceinline__ void rms_norm(const T *x, const T *weight, T *y, double epsilon, u32 rows, u32 n, u32 wide) {
    __shared__ T shared[THREADS / WARP];
    const Team team(wide);
    if (team.row >= rows) return;
    x += (u64)team.row * n;
    y += (u64)team.row * n;
    const Row<T> row = scaled(team, x, epsilon, n, shared);
    for (u32 i = team.rank; i < n; i += team.size) y[i] = x[i] * row.scale * weight[i];
}
FLOATS(rms_norm, (const T *x, const T *weight, T *y, double epsilon, u32 rows, u32 n, u32 wide),
       (x, weight, y, epsilon, rows, n, wide))

template <class T>
__device__ __forceinline__ void rms_norm_chain(const T *grad, const T *x, const T *weight, T *dx, T *products,
                                               double epsilon, u32 rows, u32 n, u32 wide, u32 scales) {
    __shared__ T shared[THREADS / WARP];
    const Team team(wide);
    if (team.row >= rows) return;
    const u64 at = (u64)team.row * n;
    grad += at;
    x += at;
    const Row<T> row = scaled(team, x, epsilon, n, shared);
    const T along = sum_of(team, n, shared, [=](u32 i) { return grad[i] * weight[i] * (x[i] * row.scale); }) / (T)n;
    for (u32 i = team.rank; i < n; i += team.size) {
        dx[at + i] = row.scale * (grad[i] * weight[i] - x[i] * row.scale * along);
        if (scales) products[at + i] = grad[i] * (x[i] * row.scale);
    }
}
FLOATS(rms_norm_chain,
       (const T *grad, const T *x, const T *weight, T *dx, T *products, double epsilon, u32 rows, u32 n, u32 wide, u32 scales),
       (grad, x, weight, dx, products, epsilon, rows, n, wide, scales))
