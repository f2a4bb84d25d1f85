// Softmax along rows, its logarithm, cross-entropy of logits against labels, and their ways back.
//
//   softmax        y = exp(x - max) / sum              back: dx = y (dy - sum dy y)
//   log_softmax    y = x - (max + ln sum exp(x - max)) back: dx = dy - exp(y) sum dy
//   cross_entropy  loss = -mean ln p[label] over the rows whose label counts; p is kept for the way back
//   slopes         (p - 1[label]) scale in the place of logits: the head of a language model never keeps its logits
//
// A row is read twice (three times for softmax) and written once; rows that fit the caches are read from memory once, so
// the floor is read n, write n. Sums within a row are in another order than the CPU's.
//
// A label that is no class raises a fault, which the next copy to the host turns into an error; the row counts as 0.
//
// Geometry: 256 threads; a warp a row where rows have at most 1024 elements (`wide` = 0, grid x = rows / 8), else a block a
// row (grid x = rows). counted and mean_loss: one block.

#include "tensor.cuh"

#define IGNORE 0xffffffffu

template <class T> __device__ __forceinline__ T largest_of(const Team &team, const T *x, u32 n, T *shared) {
    T largest = x[0];
    for (u32 i = team.rank; i < n; i += team.size) largest = Larger()(largest, x[i]);
    return team.reduce(largest, Larger(), shared);
}

template <class T> __device__ __forceinline__ T exponentials_of(const Team &team, const T *x, T largest, u32 n, T *shared) {
    T sum = T(0);
    for (u32 i = team.rank; i < n; i += team.size) sum += exponential(x[i] - largest);
    return team.reduce(sum, Plus(), shared);
}

template <class T> __device__ __forceinline__ void softmax(const T *x, T *y, u32 rows, u32 n, u32 wide) {
    __shared__ T shared[THREADS / WARP];
    const Team team(wide);
    if (team.row >= rows) return;
    x += (u64)team.row * n;
    y += (u64)team.row * n;
    const T largest = largest_of(team, x, n, shared);
    const T scale = T(1) / exponentials_of(team, x, largest, n, shared);
    for (u32 i = team.rank; i < n; i += team.size) y[i] = exponential(x[i] - largest) * scale;
}
FLOATS(softmax, (const T *x, T *y, u32 rows, u32 n, u32 wide), (x, y, rows, n, wide))

template <class T>
__device__ __forceinline__ void softmax_chain(const T *grad, const T *y, T *dx, u32 rows, u32 n, u32 wide) {
    __shared__ T shared[THREADS / WARP];
    const Team team(wide);
    if (team.row >= rows) return;
    const u64 row = (u64)team.row * n;
    T along = T(0);
    for (u32 i = team.rank; i < n; i += team.size) along += grad[row + i] * y[row + i];
    along = team.reduce(along, Plus(), shared);
    for (u32 i = team.rank; i < n; i += team.size) dx[row + i] = y[row + i] * (grad[row + i] - along);
}
FLOATS(softmax_chain, (const T *grad, const T *y, T *dx, u32 rows, u32 n, u32 wide), (grad, y, dx, rows, n, wide))

template <class T> __device__ __forceinline__ void log_softmax(const T *x, T *y, u32 rows, u32 n, u32 wide) {
    __shared__ T shared[THREADS / WARP];
    const Team team(wide);
    if (team.row >= rows) return;
    x += (u64)team.row * n;
    y += (u64)team.row * n;
    const T largest = largest_of(team, x, n, shared);
    const T shift = largest + logarithm(exponentials_of(team, x, largest, n, shared));
    for (u32 i = team.rank; i < n; i += team.size) y[i] = x[i] - shift;
}
FLOATS(log_softmax, (const T *x, T *y, u32 rows, u32 n, u32 wide), (x, y, rows, n, wide))

template <class T>
__device__ __forceinline__ void log_softmax_chain(const T *grad, const T *y, T *dx, u32 rows, u32 n, u32 wide) {
    __shared__ T shared[THREADS / WARP];
    const Team team(wide);
    if (team.row >= rows) return;
    const u64 row = (u64)team.row * n;
    T total = T(0);
    for (u32 i = team.rank; i < n; i += team.size) total += grad[row + i];
    total = team.reduce(total, Plus(), shared);
    for (u32 i = team.rank; i < n; i += team.size) dx[row + i] = grad[row + i] - exponential(y[row + i]) * total;
}
FLOATS(log_softmax_chain, (const T *grad, const T *y, T *dx, u32 rows, u32 n, u32 wide), (grad, y, dx, rows, n, wide))

// The label of a row that counts; others are IGNORE, those that are no class after a fault.
__device__ __forceinline__ u32 valid_label(const u32 *labels, u32 row, u32 classes, u32 *fault) {
    const u32 label = labels[row];
    if (label == IGNORE || label < classes) return label;
    raise(fault, FAULT_LABEL, row, label, classes);
    return IGNORE;
}

// p = softmax(x), and the loss of each row in double precision.
template <class T>
__device__ __forceinline__ void cross_entropy(const T *x, const u32 *labels, T *p, double *losses, u32 *fault, u32 rows,
                                              u32 n, u32 wide) {
    __shared__ T shared[THREADS / WARP];
    const Team team(wide);
    if (team.row >= rows) return;
    const u32 label = valid_label(labels, team.row, n, fault);
    x += (u64)team.row * n;
    p += (u64)team.row * n;
    const T largest = largest_of(team, x, n, shared);
    const T shift = largest + logarithm(exponentials_of(team, x, largest, n, shared));
    if (team.rank == 0) losses[team.row] = label == IGNORE ? 0.0 : -(double)(x[label] - shift);
    for (u32 i = team.rank; i < n; i += team.size) p[i] = exponential(x[i] - shift);
}
FLOATS(cross_entropy, (const T *x, const u32 *labels, T *p, double *losses, u32 *fault, u32 rows, u32 n, u32 wide),
       (x, labels, p, losses, fault, rows, n, wide))

// Logits become (softmax - 1[label]) / counted; rows whose label does not count become 0.
template <class T>
__device__ __forceinline__ void slopes(const u32 *labels, const double *counted, T *x, double *losses, u32 *fault, u32 rows,
                                       u32 n, u32 wide) {
    __shared__ T shared[THREADS / WARP];
    const Team team(wide);
    if (team.row >= rows) return;
    const u32 label = valid_label(labels, team.row, n, fault);
    x += (u64)team.row * n;
    if (label == IGNORE) {
        for (u32 i = team.rank; i < n; i += team.size) x[i] = T(0);
        if (team.rank == 0) losses[team.row] = 0.0;
        return;
    }
    const T largest = largest_of(team, x, n, shared);
    const T sum = exponentials_of(team, x, largest, n, shared), scale = (T)(1.0 / counted[0]);
    if (team.rank == 0) losses[team.row] = (double)(logarithm(sum) - (x[label] - largest));
    // A lane's own elements only, and the label's loss above reads before its lane writes: see the barrier.
    if (team.block) __syncthreads(); else __syncwarp();
    const T factor = scale / sum;
    for (u32 i = team.rank; i < n; i += team.size) {
        const T share = exponential(x[i] - largest) * factor;
        x[i] = i == label ? share - scale : share;
    }
}
FLOATS(slopes, (const u32 *labels, const double *counted, T *x, double *losses, u32 *fault, u32 rows, u32 n, u32 wide),
       (labels, counted, x, losses, fault, rows, n, wide))

// How many labels count; none is a fault.
extern "C" __global__ void __launch_bounds__(THREADS) counted(const u32 *labels, double *count, u32 *fault, u32 rows) {
    __shared__ double shared[THREADS / WARP];
    double sum = 0.0;
    for (u32 i = threadIdx.x; i < rows; i += THREADS) sum += labels[i] == IGNORE ? 0.0 : 1.0;
    sum = block_reduce(sum, shared, Plus());
    if (threadIdx.x == 0) {
        count[0] = sum;
        if (sum == 0.0) raise(fault, FAULT_NO_LABEL, 0, 0, 0);
    }
}

template <class T>
__device__ __forceinline__ void mean_loss(const double *losses, const double *counted, T *loss, u32 rows) {
    __shared__ double shared[THREADS / WARP];
    double sum = 0.0;
    for (u32 i = threadIdx.x; i < rows; i += THREADS) sum += losses[i];
    sum = block_reduce(sum, shared, Plus());
    if (threadIdx.x == 0) loss[0] = (T)(sum / counted[0]);
}
FLOATS(mean_loss, (const double *losses, const double *counted, T *loss, u32 rows), (losses, counted, loss, rows))

// g (p - 1[label]) / counted, a thread an element.
template <class T>
__device__ __forceinline__ void cross_entropy_chain(const T *grad, const T *p, const u32 *labels, const double *counted,
                                                    T *dx, u32 n, u64 all) {
    const u64 i = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (i >= all) return;
    const u32 label = labels[i / n];
    const T scale = grad[0] / (T)counted[0], value = p[i] * scale;
    dx[i] = label == IGNORE ? T(0) : i % n == label ? value - scale : value;
}
FLOATS(cross_entropy_chain, (const T *grad, const T *p, const u32 *labels, const double *counted, T *dx, u32 n, u64 all),
       (grad, p, labels, counted, dx, n, all))
