// Dense products, and convolutions as products whose operands are read in place (implicit GEMM).
//
//   matmul       C[z] = alpha A[z] B[z] (+ C) (+ bias by column), operands read through strides: all transpositions, batches
//                with broadcasting; B may be stored as bf16 under a float A
//   convolve     y[s, o, p] = sum over (c, ky, kx) of w[o, c, ky, kx] x[s, c, p stride - padding + k] (+ bias[o])
//   by_input     dx[s, c, q] = sum over (o, ky, kx) of w[o, c, ky, kx] dy[s, o, (q + padding - k) / stride]
//   by_weight    dw[o, c, ky, kx] = sum over (s, p) of dy[s, o, p] x[s, c, p stride - padding + k]
//
// One tile loop for all of them: 64 x 64 outputs a block, 4 x 4 a thread, 16 of k at a time through shared memory; while a
// slab is multiplied, the next one is on its way into registers. Sums run over k in ascending order with fused
// multiply-adds, which is another rounding than the CPU's: results agree to rounding. Where k is long and the output small,
// `splits` blocks share k and their partial products [splits, m, n] are added by sum_columns in a fixed order.
//
// Per slab a block reads 2 x 64 x 16 numbers for 2 x 64 x 64 x 16 operations: 16 operations a byte in f32. This kernel is for
// machines without cuBLAS, for convolutions, and for tests; it reaches no tensor cores.
//
// Geometry: 256 threads; grid: x = column tiles, y = row tiles, z = batch x splits.

#include "tensor.cuh"

#define SIDE 64
#define SLAB 16
#define OWN 4

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(u16 x) { return widen_bf16(x); }

// A matrix in memory, of T or narrower; `at` is called inside of its bounds only.
template <class T, class Stored> struct Strided {
    const Stored *data;
    u64 row_stride, col_stride;
    __device__ __forceinline__ bool along_rows() const { return row_stride == 1 && col_stride != 1; }
    __device__ __forceinline__ T at(u32 row, u64 col) const { return widen(data[row * row_stride + col * col_stride]); }
    __device__ __forceinline__ T at(u64 row, u32 col) const { return widen(data[row * row_stride + col * col_stride]); }
};

// The tile of this block: A is [m, k], B [k, n]; `store(row, col, sum)` takes the results.
template <class T, class A, class B, class Store>
__device__ __forceinline__ void tile(const A &a, const B &b, u32 m, u32 n, u64 first, u64 last, Store store) {
    __shared__ T of_a[SLAB][SIDE + 4], of_b[SLAB][SIDE + 4];
    const u32 top = blockIdx.y * SIDE, left = blockIdx.x * SIDE;
    const u32 ty = threadIdx.x / (SIDE / OWN), tx = threadIdx.x % (SIDE / OWN);
    const bool a_rows = a.along_rows(), b_rows = b.along_rows();
    T next_a[OWN], next_b[OWN], sums[OWN][OWN] = {};

    // Which element of the slab a thread fetches: neighbours in memory by neighbouring threads.
    auto a_place = [=](int i, u32 &row, u32 &k) {
        const u32 at = threadIdx.x + i * THREADS;
        row = a_rows ? at % SIDE : at / SLAB;
        k = a_rows ? at / SIDE : at % SLAB;
    };
    auto b_place = [=](int i, u32 &k, u32 &col) {
        const u32 at = threadIdx.x + i * THREADS;
        col = b_rows ? at / SLAB : at % SIDE;
        k = b_rows ? at % SLAB : at / SIDE;
    };
    auto fetch = [&](u64 from) {
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            u32 row, k, col;
            a_place(i, row, k);
            next_a[i] = top + row < m && from + k < last ? a.at(top + row, from + k) : T(0);
            b_place(i, k, col);
            next_b[i] = left + col < n && from + k < last ? b.at(from + k, left + col) : T(0);
        }
    };

    fetch(first);
    for (u64 from = first; from < last; from += SLAB) {
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            u32 row, k, col;
            a_place(i, row, k);
            of_a[k][row] = next_a[i];
            b_place(i, k, col);
            of_b[k][col] = next_b[i];
        }
        __syncthreads();
        if (from + SLAB < last) fetch(from + SLAB);
#pragma unroll
        for (int k = 0; k < SLAB; ++k) {
            T x[OWN], y[OWN];
#pragma unroll
            for (int i = 0; i < OWN; ++i) {
                x[i] = of_a[k][ty * OWN + i];
                y[i] = of_b[k][tx * OWN + i];
            }
#pragma unroll
            for (int i = 0; i < OWN; ++i) {
#pragma unroll
                for (int j = 0; j < OWN; ++j) sums[i][j] = fused(x[i], y[j], sums[i][j]);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
#pragma unroll
        for (int j = 0; j < OWN; ++j) {
            const u32 row = top + ty * OWN + i, col = left + tx * OWN + j;
            if (row < m && col < n) store(row, col, sums[i][j]);
        }
    }
}

// k of split number z % splits.
__device__ __forceinline__ void part_of_k(u64 k, u64 chunk, u32 split, u64 &first, u64 &last) {
    first = split * chunk < k ? split * chunk : k;
    last = first + chunk < k ? first + chunk : k;
}

template <class T, class Stored>
__device__ __forceinline__ void product(const T *a, const Stored *b, const T *bias, T *c, const Axes &batch, u32 m, u32 n,
                                        u64 k, u64 a_row, u64 a_col, u64 b_row, u64 b_col, double alpha, u32 add, u32 biased,
                                        u64 chunk, u32 splits) {
    const u32 matrix = blockIdx.z / splits;
    u32 at_a, at_b;
    places(batch, matrix, at_a, at_b);
    u64 first, last;
    part_of_k(k, chunk, blockIdx.z % splits, first, last);
    const Strided<T, T> left{a + (u64)at_a * m * k, a_row, a_col};
    const Strided<T, Stored> right{b + (u64)at_b * k * n, b_row, b_col};
    const T factor = (T)alpha;
    c += (u64)blockIdx.z * m * n;
    tile<T>(left, right, m, n, first, last, [=](u32 row, u32 col, T sum) {
        T *to = c + (u64)row * n + col;
        T value = factor * sum;
        if (add) value += *to;
        if (biased) value += bias[col];
        *to = value;
    });
}

template <class T>
__device__ __forceinline__ void matmul(const T *a, const T *b, const T *bias, T *c, const Axes &batch, u32 m, u32 n, u64 k,
                                       u64 a_row, u64 a_col, u64 b_row, u64 b_col, double alpha, u32 add, u32 biased,
                                       u64 chunk, u32 splits) {
    product(a, b, bias, c, batch, m, n, k, a_row, a_col, b_row, b_col, alpha, add, biased, chunk, splits);
}
FLOATS(matmul,
       (const T *a, const T *b, const T *bias, T *c, const __grid_constant__ Axes batch, u32 m, u32 n, u64 k, u64 a_row, u64 a_col, u64 b_row,
        u64 b_col, double alpha, u32 add, u32 biased, u64 chunk, u32 splits),
       (a, b, bias, c, batch, m, n, k, a_row, a_col, b_row, b_col, alpha, add, biased, chunk, splits))

// B stored as bf16.
extern "C" __global__ void __launch_bounds__(THREADS)
    matmul_bf16(const float *a, const u16 *b, const float *bias, float *c, const __grid_constant__ Axes batch, u32 m, u32 n, u64 k, u64 a_row,
                u64 a_col, u64 b_row, u64 b_col, double alpha, u32 add, u32 biased, u64 chunk, u32 splits) {
    product(a, b, bias, c, batch, m, n, k, a_row, a_col, b_row, b_col, alpha, add, biased, chunk, splits);
}

// ---- convolutions

struct Conv {
    u32 channels, height, width, outputs, rows, cols, ky, kx, stride, padding;
    __device__ __forceinline__ u32 taps() const { return ky * kx; }
    // The number of x [s, channels, height, width] under tap (c, i, j) of the window at p; 0 in the padding.
    template <class T> __device__ __forceinline__ T under(const T *x, u64 s, u32 p, u32 tap) const {
        const u32 c = tap / taps(), i = tap / kx % ky, j = tap % kx;
        const u32 y = p / cols * stride + i - padding, at = p % cols * stride + j - padding;
        // Left of the image the difference wraps and is no column.
        return y < height && at < width ? x[((s * channels + c) * height + y) * width + at] : T(0);
    }
};
#define GIVEN_CONV Conv{channels, height, width, outputs, rows, cols, ky, kx, stride, padding}

// x as the matrix [taps of all channels, samples x windows], or its transpose.
template <class T> struct Patches {
    const T *x;
    Conv conv;
    __device__ __forceinline__ bool along_rows() const { return false; }
    __device__ __forceinline__ T at(u64 tap, u32 col) const {
        const u32 windows = conv.rows * conv.cols;
        return conv.under(x, col / windows, col % windows, (u32)tap);
    }
};
template <class T> struct PatchesByTap {
    const T *x;
    Conv conv;
    __device__ __forceinline__ bool along_rows() const { return true; }
    __device__ __forceinline__ T at(u64 row, u32 tap) const {
        const u32 windows = conv.rows * conv.cols;
        return conv.under(x, row / windows, (u32)(row % windows), tap);
    }
};
// dy [s, outputs, rows, cols] as [outputs x taps, samples x pixels]: what reaches a pixel by a tap.
template <class T> struct Reached {
    const T *grad;
    Conv conv;
    __device__ __forceinline__ bool along_rows() const { return false; }
    __device__ __forceinline__ T at(u64 tap, u32 col) const {
        const u32 pixels = conv.height * conv.width, s = col / pixels, pixel = col % pixels;
        const u32 o = (u32)tap / conv.taps(), i = (u32)tap / conv.kx % conv.ky, j = (u32)tap % conv.kx;
        const u32 y = pixel / conv.width + conv.padding - i, x = pixel % conv.width + conv.padding - j;
        if (y % conv.stride != 0 || x % conv.stride != 0) return T(0);
        const u32 row = y / conv.stride, at = x / conv.stride;
        if ((int)y < 0 || (int)x < 0 || row >= conv.rows || at >= conv.cols) return T(0);
        return grad[(((u64)s * conv.outputs + o) * conv.rows + row) * conv.cols + at];
    }
};
// w [outputs, channels, taps] as [channels, outputs x taps].
template <class T> struct WeightsByInput {
    const T *w;
    Conv conv;
    __device__ __forceinline__ bool along_rows() const { return false; }
    __device__ __forceinline__ T at(u32 c, u64 tap) const {
        const u32 taps = conv.taps();
        return w[(tap / taps * conv.channels + c) * taps + tap % taps];
    }
};
// dy as [outputs, samples x windows].
template <class T> struct Slopes {
    const T *grad;
    Conv conv;
    __device__ __forceinline__ bool along_rows() const { return false; }
    __device__ __forceinline__ T at(u32 o, u64 k) const {
        const u32 windows = conv.rows * conv.cols;
        return grad[(k / windows * conv.outputs + o) * windows + k % windows];
    }
};

template <class T>
__device__ __forceinline__ void convolve(const T *x, const T *w, const T *bias, T *y, const Conv &conv, u32 samples,
                                         u32 biased) {
    const u32 windows = conv.rows * conv.cols, k = conv.channels * conv.taps();
    const Strided<T, T> weights{w, k, 1};
    tile<T>(weights, Patches<T>{x, conv}, conv.outputs, samples * windows, 0, k, [=](u32 o, u32 col, T sum) {
        y[((u64)(col / windows) * conv.outputs + o) * windows + col % windows] = biased ? sum + bias[o] : sum;
    });
}
FLOATS(convolve,
       (const T *x, const T *w, const T *bias, T *y, u32 channels, u32 height, u32 width, u32 outputs, u32 rows, u32 cols,
        u32 ky, u32 kx, u32 stride, u32 padding, u32 samples, u32 biased),
       (x, w, bias, y, GIVEN_CONV, samples, biased))

template <class T>
__device__ __forceinline__ void by_input(const T *grad, const T *w, T *dx, const Conv &conv, u32 samples) {
    const u32 pixels = conv.height * conv.width;
    const WeightsByInput<T> weights{w, conv};
    tile<T>(weights, Reached<T>{grad, conv}, conv.channels, samples * pixels, 0, conv.outputs * conv.taps(),
            [=](u32 c, u32 col, T sum) { dx[((u64)(col / pixels) * conv.channels + c) * pixels + col % pixels] = sum; });
}
FLOATS(by_input,
       (const T *grad, const T *w, T *dx, u32 channels, u32 height, u32 width, u32 outputs, u32 rows, u32 cols, u32 ky,
        u32 kx, u32 stride, u32 padding, u32 samples),
       (grad, w, dx, GIVEN_CONV, samples))

template <class T>
__device__ __forceinline__ void by_weight(const T *grad, const T *x, T *dw, const Conv &conv, u32 samples, u64 chunk) {
    const u32 n = conv.channels * conv.taps();
    u64 first, last;
    part_of_k((u64)samples * conv.rows * conv.cols, chunk, blockIdx.z, first, last);
    dw += (u64)blockIdx.z * conv.outputs * n;
    tile<T>(Slopes<T>{grad, conv}, PatchesByTap<T>{x, conv}, conv.outputs, n, first, last,
            [=](u32 o, u32 tap, T sum) { dw[(u64)o * n + tap] = sum; });
}
FLOATS(by_weight,
       (const T *grad, const T *x, T *dw, u32 channels, u32 height, u32 width, u32 outputs, u32 rows, u32 cols, u32 ky, u32 kx,
        u32 stride, u32 padding, u32 samples, u64 chunk),
       (grad, x, dw, GIVEN_CONV, samples, chunk))
