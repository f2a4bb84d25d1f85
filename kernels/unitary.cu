// The structured unitary map of uRNN adapters (Arjovsky, Shah and Bengio, arXiv:1511.06464) on rows of k complex numbers, each a
// pair of neighbours: D3 R2 F^-1 D2 P R1 F D1 with phases D, reflections R, the unitary Fourier transform F, a permutation P.
//
//   unitary_plan   what every row needs: cosine and sine of the phases [3, k, 2], the roots of unity [k, 2], and 2 / |v|^2 of both
//                  reflections, one after another in `plan`
//   unitary        rows through all stages, `inverse` back through their inverses
//   unitary_chain  dx, and for each chunk of rows its sums of the gradients by phases [3, k] and reflections [2, k, 2]: what a
//                  row was before each stage is computed from the output. sum_columns adds the chunks
//
// The Fourier transform goes by mixed radices from one row of memory into another in an order that ends sorted (Stockham), with
// the products and sums of the CPU; a prime factor p costs k p. Sums along a row are in another order than the CPU's.
// Floor: read and write the rows once; what is between stages stays in L2.
//
// Geometry: 256 threads. unitary_plan: grid x = ceil(3 k / 256), at least 2. The others: a block a chunk of rows, grid x =
// chunks; `work` [chunks, 2 (unitary_chain: 3), 2 k].

#include "tensor.cuh"

template <class T> struct Complex {
    T re, im;
};
template <class T> __device__ __forceinline__ Complex<T> operator+(Complex<T> a, Complex<T> b) {
    return {a.re + b.re, a.im + b.im};
}
template <class T> __device__ __forceinline__ Complex<T> operator-(Complex<T> a, Complex<T> b) {
    return {a.re - b.re, a.im - b.im};
}
template <class T> __device__ __forceinline__ Complex<T> operator*(Complex<T> a, Complex<T> b) {
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

// The Fourier transform of R numbers, R = 2, 3 or 4; `sign` -1 for its inverse.
template <class T, int R> __device__ __forceinline__ void small(Complex<T> *z, T sign) {
    if (R == 2) {
        const Complex<T> a = z[0], b = z[1];
        z[0] = a + b;
        z[1] = a - b;
    } else if (R == 3) {
        const Complex<T> sum = z[1] + z[2], difference = z[1] - z[2];
        const Complex<T> half = z[0] + sum * Complex<T>{T(-0.5), T(0)};
        const Complex<T> turned = difference * Complex<T>{T(0), -sign * T(0.86602540378443864676)};
        z[0] = z[0] + sum;
        z[1] = half + turned;
        z[2] = half - turned;
    } else {
        const Complex<T> even = z[0] + z[2], odd = z[1] + z[3], rest = z[0] - z[2];
        const Complex<T> turned = (z[1] - z[3]) * Complex<T>{T(0), -sign};
        z[0] = even + odd;
        z[1] = rest + turned;
        z[2] = even - odd;
        z[3] = rest - turned;
    }
}

// In the order in which a row meets them.
enum Stage { PHASE_1, FOURIER, REFLECT_1, PERMUTE, PHASE_2, FOURIER_BACK, REFLECT_2, PHASE_3, STAGES };

template <class T> struct Map {
    u32 k;
    const Complex<T> *turns, *roots;
    const T *gains;
    const Complex<T> *v;
    const u32 *from;
    T *shared;

    __device__ __forceinline__ Map(const T *plan, const T *reflections, const u32 *permutation, u32 size, T *memory)
        : k(size), turns((const Complex<T> *)plan), roots(turns + 3 * (u64)size), gains((const T *)(roots + size)),
          v((const Complex<T> *)reflections), from(permutation), shared(memory) {}

    __device__ __forceinline__ Complex<T> sum(Complex<T> part) const {
        const T re = block_reduce(part.re, shared, Plus());
        return {re, block_reduce(part.im, shared, Plus())};
    }
    // z . v of reflection i, in all threads.
    __device__ __forceinline__ Complex<T> along(u32 i, const Complex<T> *z) const {
        Complex<T> part = {T(0), T(0)};
        for (u32 j = threadIdx.x; j < k; j += THREADS) part = part + z[j] * v[i * (u64)k + j];
        return sum(part);
    }
    __device__ __forceinline__ void phase(u32 i, bool back, Complex<T> *z) const {
        for (u32 j = threadIdx.x; j < k; j += THREADS) {
            const Complex<T> turn = turns[i * (u64)k + j];
            z[j] = z[j] * Complex<T>{turn.re, back ? -turn.im : turn.im};
        }
    }
    // z - (2 / |v|^2) (z . v) v': its own inverse.
    __device__ __forceinline__ void reflect(u32 i, Complex<T> *z) const {
        const Complex<T> a = along(i, z);
        const T gain = gains[i];
        for (u32 j = threadIdx.x; j < k; j += THREADS) {
            const Complex<T> of = v[i * (u64)k + j];
            z[j] = z[j] + a * Complex<T>{-gain * of.re, gain * of.im};
        }
    }
    __device__ __forceinline__ void permute(bool back, const Complex<T> *z, Complex<T> *out, u32 *fault) const {
        for (u32 j = threadIdx.x; j < k; j += THREADS) {
            const u32 at = from[j];
            if (at >= k) {
                raise(fault, FAULT_INDEX, j, at, k);
            } else if (back) {
                out[at] = z[j];
            } else {
                out[j] = z[at];
            }
        }
    }
    __device__ __forceinline__ Complex<T> root(u32 j, bool inverse) const {
        const Complex<T> at = roots[j];
        return {at.re, inverse ? -at.im : at.im};
    }
    template <int R>
    __device__ __forceinline__ void butterflies(const Complex<T> *z, u32 stride, Complex<T> *out, bool inverse) const {
        const u32 apart = k / R;
        for (u32 at = threadIdx.x; at < apart; at += THREADS) {
            const u32 q = at / stride, j = at % stride;
            Complex<T> parts[R];
#pragma unroll
            for (u32 i = 0; i < R; ++i) parts[i] = z[at + apart * i];
            small<T, R>(parts, inverse ? T(-1) : T(1));
            Complex<T> *to = out + j + stride * R * q;
            to[0] = parts[0];
#pragma unroll
            for (u32 t = 1; t < R; ++t) to[t * stride] = parts[t] * root(q * t * stride, inverse);
        }
    }
    __device__ __forceinline__ void any_radix(u32 radix, const Complex<T> *z, u32 stride, Complex<T> *out, bool inverse) const {
        const u32 apart = k / radix;
        for (u32 at = threadIdx.x; at < k; at += THREADS) {
            const u32 place = at % apart, t = at / apart, q = place / stride, j = place % stride;
            Complex<T> sum = z[place];
            for (u32 i = 1; i < radix; ++i) {
                sum = sum + z[place + apart * i] * root((u32)((u64)i * t % radix) * apart, inverse);
            }
            out[j + stride * (radix * q + t)] = sum * root(q * t * stride, inverse);
        }
    }
    // Fours first, then primes, ascending.
    __device__ __forceinline__ static u32 radix_of(u32 rest) {
        if (rest % 4 == 0) return 4;
        for (u32 prime = 2; (u64)prime * prime <= rest; ++prime) {
            if (rest % prime == 0) return prime;
        }
        return rest;
    }
    __device__ __forceinline__ void fourier(bool inverse, Complex<T> *&z, Complex<T> *&spare) const {
        for (u32 stride = 1; stride < k;) {
            const u32 radix = radix_of(k / stride);
            switch (radix) {
            case 2: butterflies<2>(z, stride, spare, inverse); break;
            case 3: butterflies<3>(z, stride, spare, inverse); break;
            case 4: butterflies<4>(z, stride, spare, inverse); break;
            default: any_radix(radix, z, stride, spare, inverse);
            }
            __syncthreads();
            Complex<T> *old = z;
            z = spare;
            spare = old;
            stride *= radix;
        }
        const T scale = (T)(1.0 / ::root((double)k));
        for (u32 j = threadIdx.x; j < k; j += THREADS) z[j] = {z[j].re * scale, z[j].im * scale};
    }

    // One stage, or its inverse; all threads of the block.
    __device__ __forceinline__ void run(u32 stage, bool back, Complex<T> *&z, Complex<T> *&spare, u32 *fault) const {
        switch (stage) {
        case PHASE_1: phase(0, back, z); break;
        case PHASE_2: phase(1, back, z); break;
        case PHASE_3: phase(2, back, z); break;
        case REFLECT_1: reflect(0, z); break;
        case REFLECT_2: reflect(1, z); break;
        case FOURIER: fourier(back, z, spare); break;
        case FOURIER_BACK: fourier(!back, z, spare); break;
        default: {
            permute(back, z, spare, fault);
            Complex<T> *old = z;
            z = spare;
            spare = old;
        }
        }
        __syncthreads();
    }
};

template <class T> __device__ __forceinline__ void unitary_plan(const T *theta, const T *v, T *plan, u32 k) {
    __shared__ double shared[THREADS / WARP];
    const double whole = 6.283185307179586476925;
    const u64 i = (u64)blockIdx.x * THREADS + threadIdx.x;
    Complex<T> *turns = (Complex<T> *)plan, *roots = turns + 3 * (u64)k;
    if (i < 3 * (u64)k) turns[i] = {(T)cos((double)theta[i]), (T)sin((double)theta[i])};
    if (i < k) roots[i] = {(T)cos(-whole * (double)i / k), (T)sin(-whole * (double)i / k)};
    if (blockIdx.x < 2) {
        double norm = 0;
        for (u32 j = threadIdx.x; j < 2 * k; j += THREADS) {
            const double x = v[blockIdx.x * 2 * (u64)k + j];
            norm += x * x;
        }
        norm = block_reduce(norm, shared, Plus());
        if (threadIdx.x == 0) ((T *)(roots + k))[blockIdx.x] = (T)(2.0 / norm);
    }
}
FLOATS(unitary_plan, (const T *theta, const T *v, T *plan, u32 k), (theta, v, plan, k))

template <class T>
__device__ __forceinline__ void unitary(const T *x, const T *plan, const T *v, const u32 *from, T *out, T *work, u32 *fault,
                                        u32 k, u32 rows, u32 chunk, u32 inverse) {
    __shared__ T shared[THREADS / WARP];
    const Map<T> map(plan, v, from, k, shared);
    Complex<T> *z = (Complex<T> *)work + (u64)blockIdx.x * 2 * k, *spare = z + k;
    const u32 first = blockIdx.x * chunk, last = first + chunk < rows ? first + chunk : rows;
    for (u32 r = first; r < last; ++r) {
        const Complex<T> *row = (const Complex<T> *)x + (u64)r * k;
        for (u32 j = threadIdx.x; j < k; j += THREADS) z[j] = row[j];
        __syncthreads();
        for (u32 step = 0; step < STAGES; ++step) map.run(inverse ? STAGES - 1 - step : step, inverse != 0, z, spare, fault);
        Complex<T> *to = (Complex<T> *)out + (u64)r * k;
        for (u32 j = threadIdx.x; j < k; j += THREADS) to[j] = z[j];
        __syncthreads();
    }
}
FLOATS(unitary,
       (const T *x, const T *plan, const T *v, const u32 *from, T *out, T *work, u32 *fault, u32 k, u32 rows, u32 chunk,
        u32 inverse),
       (x, plan, v, from, out, work, fault, k, rows, chunk, inverse))

template <class T>
__device__ __forceinline__ void unitary_chain(const T *grad, const T *y, const T *plan, const T *v, const u32 *from, T *dx,
                                              T *dtheta, T *dv_of, T *work, u32 *fault, u32 k, u32 rows, u32 chunk,
                                              u32 inverse) {
    __shared__ T shared[THREADS / WARP];
    const Map<T> map(plan, v, from, k, shared);
    Complex<T> *z = (Complex<T> *)work + (u64)blockIdx.x * 3 * k, *g = z + k, *spare = g + k;
    T *theta = dtheta + (u64)blockIdx.x * 3 * k;
    Complex<T> *dv = (Complex<T> *)dv_of + (u64)blockIdx.x * 2 * k;
    for (u32 j = threadIdx.x; j < 3 * k; j += THREADS) theta[j] = T(0);
    for (u32 j = threadIdx.x; j < 2 * k; j += THREADS) dv[j] = {T(0), T(0)};
    double first_along = 0, second_along = 0;
    const u32 first = blockIdx.x * chunk, last = first + chunk < rows ? first + chunk : rows;
    for (u32 r = first; r < last; ++r) {
        const u64 row = (u64)r * k;
        for (u32 j = threadIdx.x; j < k; j += THREADS) {
            z[j] = ((const Complex<T> *)y)[row + j];
            g[j] = ((const Complex<T> *)grad)[row + j];
        }
        __syncthreads();
        for (u32 step = STAGES; step-- > 0;) {
            const u32 stage = inverse ? STAGES - 1 - step : step;
            if (stage == PHASE_1 || stage == PHASE_2 || stage == PHASE_3) {
                // Re(g' i z), with z after the stage; the inverse turns the other way.
                T *to = theta + (stage == PHASE_1 ? 0 : stage == PHASE_2 ? k : 2 * k);
                for (u32 j = threadIdx.x; j < k; j += THREADS) to[j] += g[j].im * z[j].re - g[j].re * z[j].im;
            }
            map.run(stage, inverse == 0, z, spare, fault);
            if (stage == REFLECT_1 || stage == REFLECT_2) {
                // With z before it, g after it, a = z . v, q = g . v: q z' + a g', and Re(a q').
                const u32 i = stage == REFLECT_2;
                const Complex<T> a = map.along(i, z), q = map.along(i, g);
                for (u32 j = threadIdx.x; j < k; j += THREADS) {
                    Complex<T> &to = dv[i * (u64)k + j];
                    to.re += q.re * z[j].re + q.im * z[j].im + a.re * g[j].re + a.im * g[j].im;
                    to.im += q.im * z[j].re - q.re * z[j].im + a.im * g[j].re - a.re * g[j].im;
                }
                (i ? second_along : first_along) += (double)(a.re * q.re + a.im * q.im);
            }
            map.run(stage, inverse == 0, g, spare, fault);
        }
        for (u32 j = threadIdx.x; j < k; j += THREADS) ((Complex<T> *)dx)[row + j] = g[j];
        __syncthreads();
    }
    if (inverse) {
        for (u32 j = threadIdx.x; j < 3 * k; j += THREADS) theta[j] = -theta[j];
    }
    for (u32 at = threadIdx.x; at < 2 * k; at += THREADS) {
        const double gain = map.gains[at / k], factor = gain * gain * (at < k ? first_along : second_along);
        dv[at].re = (T)(factor * map.v[at].re - gain * dv[at].re);
        dv[at].im = (T)(factor * map.v[at].im - gain * dv[at].im);
    }
}
FLOATS(unitary_chain,
       (const T *grad, const T *y, const T *plan, const T *v, const u32 *from, T *dx, T *dtheta, T *dv, T *work, u32 *fault,
        u32 k, u32 rows, u32 chunk, u32 inverse),
       (grad, y, plan, v, from, dx, dtheta, dv, work, fault, k, rows, chunk, inverse))
