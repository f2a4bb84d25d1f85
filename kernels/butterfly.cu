// The maps of orthogonal adapters: butterflies (BOFT, arXiv:2311.06243) and the Cayley transform.
//
//   butterfly        rows of n through factors; block d of factor i takes b / 2 elements of each half of a group of b 2^i
//                    neighbours: y[k] = sum over e of z[e] q[i, d, e, k], transposed q[i, d, k, e]
//   butterfly_chain  dx, and for each chunk of rows its sum of z' g for every number of q; sum_columns adds the chunks
//   cayley           Q = (I - S) (I + S)^-1, S = (R - R') / 2: elimination without pivoting in double precision (the symmetric
//                    part of I + S is I, so that no pivot is below 1)
//   cayley_chain     dR = (dS - dS') / 2 with dS = -1/2 (I + Q)' dQ (I + Q)'
//
// Products are added in the order of e, each rounded, as on the CPU: a row's way forward is equal in every bit. Rows stay in
// L1 between factors; floor: read and write the rows once, and q once a block.
//
// Geometry: 256 threads. butterfly: a block a row, grid x = rows, dynamic shared memory 2 n numbers. butterfly_chain: a block
// a chunk of rows, grid x = chunks, the same shared memory; `before` [chunks, factors, n] is memory to work in.
// cayley: a block a matrix, grid x = matrices; `work` [matrices, 2, b, b].

#include "tensor.cuh"

struct Factors {
    u32 n, factors, b, transposed;
    // Where element e of block d of factor i stands in a row.
    __device__ __forceinline__ u32 place(u32 i, u32 d, u32 e) const {
        const u32 half = b / 2, group = d >> i, j = d & ((1u << i) - 1u), width = b << i;
        const u32 start = group * width + j * half;
        return e < half ? start + e : start + width / 2 + e - half;
    }
    // Number of the factor that acts in step `step`.
    __device__ __forceinline__ u32 factor(u32 step) const { return transposed ? step : factors - 1 - step; }
    // z times factor i (or its transpose) into y; all threads of the block.
    template <class T> __device__ __forceinline__ void turn(const T *q, u32 i, bool flip, const T *z, T *y) const {
        q += (u64)i * n * b;
        for (u32 at = threadIdx.x; at < n; at += THREADS) {
            const u32 d = at / b, k = at % b;
            const T *block = q + (u64)d * b * b;
            T sum = T(0);
            for (u32 e = 0; e < b; ++e) sum += z[place(i, d, e)] * (flip ? block[k * b + e] : block[e * b + k]);
            y[place(i, d, k)] = sum;
        }
        __syncthreads();
    }
};

template <class T> __device__ __forceinline__ T *row_memory() {
    DYNAMIC_SHARED(double, memory);
    return (T *)memory;
}

template <class T> __device__ __forceinline__ void butterfly(const T *x, const T *q, T *out, const Factors &f) {
    T *z = row_memory<T>(), *y = z + f.n;
    const u64 row = (u64)blockIdx.x * f.n;
    for (u32 i = threadIdx.x; i < f.n; i += THREADS) z[i] = x[row + i];
    __syncthreads();
    for (u32 step = 0; step < f.factors; ++step) {
        f.turn(q, f.factor(step), f.transposed != 0, z, y);
        T *old = z;
        z = y;
        y = old;
    }
    for (u32 i = threadIdx.x; i < f.n; i += THREADS) out[row + i] = z[i];
}
FLOATS(butterfly, (const T *x, const T *q, T *out, u32 n, u32 factors, u32 b, u32 transposed),
       (x, q, out, Factors{n, factors, b, transposed}))

template <class T>
__device__ __forceinline__ void butterfly_chain(const T *grad, const T *x, const T *q, T *dx, T *dq, T *before,
                                                const Factors &f, u32 rows, u32 chunk) {
    T *g = row_memory<T>(), *y = g + f.n;
    const u32 numbers = f.n * f.b * f.factors;
    dq += (u64)blockIdx.x * numbers;
    before += (u64)blockIdx.x * f.factors * f.n;
    for (u32 i = threadIdx.x; i < numbers; i += THREADS) dq[i] = T(0);
    const u32 first = blockIdx.x * chunk, last = first + chunk < rows ? first + chunk : rows;
    for (u32 r = first; r < last; ++r) {
        const u64 row = (u64)r * f.n;
        for (u32 i = threadIdx.x; i < f.n; i += THREADS) {
            before[i] = x[row + i];
            g[i] = grad[row + i];
        }
        __syncthreads();
        for (u32 step = 0; step + 1 < f.factors; ++step) {
            f.turn(q, f.factor(step), f.transposed != 0, before + step * f.n, before + (step + 1) * f.n);
        }
        for (u32 step = f.factors; step-- > 0;) {
            const u32 i = f.factor(step);
            const T *z = before + step * f.n;
            T *to = dq + (u64)i * f.n * f.b;
            for (u32 at = threadIdx.x; at < f.n * f.b; at += THREADS) {
                const u32 d = at / (f.b * f.b), e = f.place(i, d, at / f.b % f.b), k = f.place(i, d, at % f.b);
                to[at] += f.transposed ? g[e] * z[k] : z[e] * g[k];
            }
            __syncthreads();
            f.turn(q, i, f.transposed == 0, g, y);
            T *old = g;
            g = y;
            y = old;
        }
        for (u32 i = threadIdx.x; i < f.n; i += THREADS) dx[row + i] = g[i];
        __syncthreads();
    }
}
FLOATS(butterfly_chain,
       (const T *grad, const T *x, const T *q, T *dx, T *dq, T *before, u32 n, u32 factors, u32 b, u32 transposed, u32 rows,
        u32 chunk),
       (grad, x, q, dx, dq, before, Factors{n, factors, b, transposed}, rows, chunk))

template <class T> __device__ __forceinline__ void cayley(const T *r, T *q, double *work, u32 b) {
    const u32 all = b * b;
    r += (u64)blockIdx.x * all;
    q += (u64)blockIdx.x * all;
    double *left = work + (u64)blockIdx.x * 2 * all, *right = left + all;
    for (u32 at = threadIdx.x; at < all; at += THREADS) {
        const u32 i = at / b, j = at % b;
        const double s = 0.5 * ((double)r[at] - (double)r[j * b + i]), one = i == j ? 1.0 : 0.0;
        left[at] = one + s;
        right[at] = one - s;
    }
    __syncthreads();
    for (u32 pivot = 0; pivot < b; ++pivot) {
        const double inverse = 1.0 / left[pivot * b + pivot];
        __syncthreads();
        for (u32 j = threadIdx.x; j < b; j += THREADS) {
            left[pivot * b + j] *= inverse;
            right[pivot * b + j] *= inverse;
        }
        __syncthreads();
        // A warp a row: all of its lanes have read the factor before one of them changes it.
        for (u32 i = threadIdx.x / WARP; i < b; i += THREADS / WARP) {
            const double factor = left[i * b + pivot];
            __syncwarp();
            if (i == pivot || factor == 0.0) continue;
            for (u32 j = threadIdx.x % WARP; j < b; j += WARP) {
                left[i * b + j] -= factor * left[pivot * b + j];
                right[i * b + j] -= factor * right[pivot * b + j];
            }
        }
        __syncthreads();
    }
    for (u32 at = threadIdx.x; at < all; at += THREADS) q[at] = (T)right[at];
}
FLOATS(cayley, (const T *r, T *q, double *work, u32 b), (r, q, work, b))

template <class T> __device__ __forceinline__ void cayley_chain(const T *grad, const T *q, T *dr, T *work, u32 b) {
    const u32 all = b * b;
    grad += (u64)blockIdx.x * all;
    q += (u64)blockIdx.x * all;
    dr += (u64)blockIdx.x * all;
    T *half = work + (u64)blockIdx.x * 2 * all, *ds = half + all;
    // (I + Q)'
    auto p = [=](u32 i, u32 j) { return q[j * b + i] + (i == j ? T(1) : T(0)); };
    for (u32 at = threadIdx.x; at < all; at += THREADS) {
        T sum = T(0);
        for (u32 k = 0; k < b; ++k) sum += p(at / b, k) * grad[k * b + at % b];
        half[at] = sum;
    }
    __syncthreads();
    for (u32 at = threadIdx.x; at < all; at += THREADS) {
        T sum = T(0);
        for (u32 k = 0; k < b; ++k) sum += half[at / b * b + k] * p(k, at % b);
        ds[at] = sum;
    }
    __syncthreads();
    for (u32 at = threadIdx.x; at < all; at += THREADS) dr[at] = T(0.25) * (ds[at % b * b + at / b] - ds[at]);
}
FLOATS(cayley_chain, (const T *grad, const T *q, T *dr, T *work, u32 b), (grad, q, dr, work, b))
