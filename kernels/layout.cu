// Memory that is moved: permutation, broadcast, ranges, selection by index, conversion, windows of images.
//
//   gather         out[i] = x[place of i through strides]: permutation and broadcast; floor: read n, write n
//   transpose      the same where both sides have an axis of neighbours: tiles of 32 x 32 through shared memory, so that
//                  reads and writes are coalesced
//   copy_rows      rows of `len` between two pitches: narrow, pad, concat
//   index_select   out[o, k, i] = x[o, index[k], i]
//   index_add      its way back: a block a row of the output adds what names it in the order of k, without atomics
//   cast           between all kinds of number, through double as on the CPU
//   pools          means and largest of windows, each with its way back as a gather
//
// Kernels of words exist for 1, 2, 4 and 8 bytes: what a word means does not matter.
// Geometry: 256 threads; a thread an output, neighbours along the last axis, grid x = outputs / 256. transpose: blocks of
// 32 x 8 threads as one line of 256, grid x = column tiles, y = row tiles, z = batch. index_add: grid x = rows.

#include "tensor.cuh"

#define AT ((u64)blockIdx.x * THREADS + threadIdx.x)

template <class T> __device__ __forceinline__ void gather(const T *x, T *out, const Axes &axes, u32 n) {
    if (AT >= n) return;
    u32 a, b;
    places(axes, (u32)AT, a, b);
    out[AT] = x[a];
}
WORDS(gather, (const T *x, T *out, const __grid_constant__ Axes axes, u32 n), (x, out, axes, n))

// x [batch, rows, cols] -> out [batch, cols, rows]
template <class T> __device__ __forceinline__ void transpose(const T *x, T *out, u32 rows, u32 cols) {
    __shared__ T tile[32][33];  // 33: no two lanes of a column share a bank
    const u32 lane = threadIdx.x % 32, line = threadIdx.x / 32;
    const u64 matrix = (u64)blockIdx.z * rows * cols;
    for (u32 j = line; j < 32; j += THREADS / 32) {
        const u32 row = blockIdx.y * 32 + j, col = blockIdx.x * 32 + lane;
        if (row < rows && col < cols) tile[j][lane] = x[matrix + (u64)row * cols + col];
    }
    __syncthreads();
    for (u32 j = line; j < 32; j += THREADS / 32) {
        const u32 col = blockIdx.x * 32 + j, row = blockIdx.y * 32 + lane;
        if (row < rows && col < cols) out[matrix + (u64)col * rows + row] = tile[lane][j];
    }
}
WORDS(transpose, (const T *x, T *out, u32 rows, u32 cols), (x, out, rows, cols))

template <class T>
__device__ __forceinline__ void copy_rows(const T *x, T *out, u64 from_pitch, u64 from_start, u64 to_pitch, u64 to_start,
                                          u64 len, u64 n) {
    if (AT >= n) return;
    const u64 row = AT / len, at = AT % len;
    out[row * to_pitch + to_start + at] = x[row * from_pitch + from_start + at];
}
WORDS(copy_rows, (const T *x, T *out, u64 from_pitch, u64 from_start, u64 to_pitch, u64 to_start, u64 len, u64 n),
      (x, out, from_pitch, from_start, to_pitch, to_start, len, n))

template <class T>
__device__ __forceinline__ void index_select(const T *x, const u32 *index, T *out, u32 *fault, u32 size, u32 count,
                                             u32 inner, u64 n) {
    if (AT >= n) return;
    const u64 k = AT / inner % count, o = AT / inner / count;
    const u32 at = index[k];
    if (at >= size) {
        raise(fault, FAULT_INDEX, (u32)k, at, size);
        out[AT] = T(0);
        return;
    }
    out[AT] = x[(o * size + at) * inner + AT % inner];
}
WORDS(index_select, (const T *x, const u32 *index, T *out, u32 *fault, u32 size, u32 count, u32 inner, u64 n),
      (x, index, out, fault, size, count, inner, n))

// The block of row (o, r) looks through the indices 256 at a time and adds the rows of `grad` that name r.
template <class T>
__device__ __forceinline__ void index_add(const T *grad, const u32 *index, T *out, u32 size, u32 count, u32 inner) {
    __shared__ u32 found[THREADS];
    __shared__ u32 of_warp[THREADS / WARP];
    const u32 row = blockIdx.x % size, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const u64 o = blockIdx.x / size;
    T *to = out + (u64)blockIdx.x * inner;
    for (u32 i = threadIdx.x; i < inner; i += THREADS) to[i] = T(0);
    for (u32 start = 0; start < count; start += THREADS) {
        const u32 k = start + threadIdx.x;
        const u32 hits = __ballot_sync(ALL_LANES, k < count && index[k] == row);
        if (lane == 0) of_warp[warp] = __popc(hits);
        __syncthreads();
        u32 before = 0, all = 0;
        for (u32 w = 0; w < THREADS / WARP; ++w) {
            before += w < warp ? of_warp[w] : 0;
            all += of_warp[w];
        }
        if (hits >> lane & 1u) found[before + __popc(hits & ((1u << lane) - 1u))] = k;
        __syncthreads();
        for (u32 i = threadIdx.x; all > 0 && i < inner; i += THREADS) {
            T sum = to[i];
            for (u32 j = 0; j < all; ++j) sum += grad[(o * count + found[j]) * inner + i];
            to[i] = sum;
        }
        __syncthreads();
    }
}
FLOATS(index_add, (const T *grad, const u32 *index, T *out, u32 size, u32 count, u32 inner),
       (grad, index, out, size, count, inner))

// ---- conversion: kinds in the order of `DType`

struct OfF32 {
    typedef float Bits;
    static __device__ double load(float x) { return x; }
    static __device__ float store(double x) { return (float)x; }
};
struct OfF64 {
    typedef double Bits;
    static __device__ double load(double x) { return x; }
    static __device__ double store(double x) { return x; }
};
struct OfBf16 {
    typedef u16 Bits;
    static __device__ double load(u16 x) { return widen_bf16(x); }
    static __device__ u16 store(double x) { return narrow_float<8, 7>(x); }
};
struct OfF16 {
    typedef u16 Bits;
    static __device__ double load(u16 x) { return widen_f16(x); }
    static __device__ u16 store(double x) { return narrow_float<5, 10>(x); }
};
// Integers saturate, NaN becomes 0.
struct OfU8 {
    typedef u8 Bits;
    static __device__ double load(u8 x) { return x; }
    static __device__ u8 store(double x) { return x > 0.0 ? x < 255.0 ? (u8)x : 255 : 0; }
};
struct OfU32 {
    typedef u32 Bits;
    static __device__ double load(u32 x) { return x; }
    static __device__ u32 store(double x) { return x > 0.0 ? x < 4294967295.0 ? (u32)x : 0xffffffffu : 0; }
};
struct OfI64 {
    typedef i64 Bits;
    static __device__ double load(i64 x) { return (double)x; }
    static __device__ i64 store(double x) {
        if (x >= 9223372036854775808.0) return 0x7fffffffffffffffll;
        if (x < -9223372036854775808.0) return -0x7fffffffffffffffll - 1;
        return x == x ? (i64)x : 0;
    }
};

template <class From, class To> __device__ __forceinline__ void convert(const u8 *x, u8 *y, u64 n) {
    elementwise(n, [](typename From::Bits x) -> typename To::Bits { return To::store(From::load(x)); },
                (typename To::Bits *)y, (const typename From::Bits *)x);
}
template <class From> __device__ __forceinline__ void convert_to(const u8 *x, u8 *y, u32 to, u64 n) {
    switch (to) {
        case 0: return convert<From, OfF32>(x, y, n);
        case 1: return convert<From, OfF64>(x, y, n);
        case 2: return convert<From, OfBf16>(x, y, n);
        case 3: return convert<From, OfF16>(x, y, n);
        case 4: return convert<From, OfU8>(x, y, n);
        case 5: return convert<From, OfU32>(x, y, n);
        default: return convert<From, OfI64>(x, y, n);
    }
}
// Geometry: as elementwise.cu. `x` and `y` are memory of any kind.
extern "C" __global__ void __launch_bounds__(THREADS) cast(const u8 *x, u8 *y, u32 from, u32 to, u64 n) {
    switch (from) {
        case 0: return convert_to<OfF32>(x, y, to, n);
        case 1: return convert_to<OfF64>(x, y, to, n);
        case 2: return convert_to<OfBf16>(x, y, to, n);
        case 3: return convert_to<OfF16>(x, y, to, n);
        case 4: return convert_to<OfU8>(x, y, to, n);
        case 5: return convert_to<OfU32>(x, y, to, n);
        default: return convert_to<OfI64>(x, y, to, n);
    }
}

// ---- windows of images [images, height, width] -> [images, rows, cols]

struct Windows {
    u32 height, width, rows, cols, side, stride;
};
#define GIVEN_WINDOWS Windows{height, width, rows, cols, side, stride}

template <class T> __device__ __forceinline__ void avg_pool(const T *x, T *y, const Windows &w, u64 n) {
    if (AT >= n) return;
    const u64 image = AT / w.cols / w.rows;
    const T *from = x + (image * w.height + AT / w.cols % w.rows * w.stride) * w.width + AT % w.cols * w.stride;
    T sum = T(0);
    for (u32 i = 0; i < w.side; ++i) {
        T line = T(0);
        for (u32 j = 0; j < w.side; ++j) line += from[i * w.width + j];
        sum += line;
    }
    y[AT] = sum * (T)(1.0 / (double)(w.side * w.side));
}
FLOATS(avg_pool, (const T *x, T *y, u32 height, u32 width, u32 rows, u32 cols, u32 side, u32 stride, u64 n),
       (x, y, GIVEN_WINDOWS, n))

// Windows that hold line or column i: [first, last).
__device__ __forceinline__ u32 first_window(u32 i, u32 side, u32 stride) { return i < side ? 0 : (i - side) / stride + 1; }
__device__ __forceinline__ u32 last_window(u32 i, u32 count, u32 stride) {
    const u32 last = i / stride + 1;
    return last < count ? last : count;
}

template <class T> __device__ __forceinline__ void avg_pool_chain(const T *grad, T *dx, const Windows &w, u64 n) {
    if (AT >= n) return;
    const u32 x = (u32)(AT % w.width), y = (u32)(AT / w.width % w.height);
    const u64 image = AT / w.width / w.height;
    const T share = (T)(1.0 / (double)(w.side * w.side));
    T sum = T(0);
    for (u32 row = first_window(y, w.side, w.stride); row < last_window(y, w.rows, w.stride); ++row) {
        for (u32 col = first_window(x, w.side, w.stride); col < last_window(x, w.cols, w.stride); ++col) {
            sum += grad[(image * w.rows + row) * w.cols + col] * share;
        }
    }
    dx[AT] = sum;
}
FLOATS(avg_pool_chain, (const T *grad, T *dx, u32 height, u32 width, u32 rows, u32 cols, u32 side, u32 stride, u64 n),
       (grad, dx, GIVEN_WINDOWS, n))

template <class T> __device__ __forceinline__ void max_pool(const T *x, T *y, u32 *where, const Windows &w, u64 n) {
    if (AT >= n) return;
    const T *image = x + AT / w.cols / w.rows * w.height * w.width;
    u32 at = (u32)(AT / w.cols % w.rows * w.stride * w.width + AT % w.cols * w.stride), best = at;
    for (u32 i = 0; i < w.side; ++i) {
        for (u32 j = 0; j < w.side; ++j) {
            const T value = image[at + i * w.width + j], old = image[best];
            if (value > old || (value != value && old == old)) best = at + i * w.width + j;
        }
    }
    y[AT] = image[best];
    where[AT] = best;
}
FLOATS(max_pool, (const T *x, T *y, u32 *where, u32 height, u32 width, u32 rows, u32 cols, u32 side, u32 stride, u64 n),
       (x, y, where, GIVEN_WINDOWS, n))

template <class T>
__device__ __forceinline__ void max_pool_chain(const T *grad, const u32 *where, T *dx, const Windows &w, u64 n) {
    if (AT >= n) return;
    const u32 x = (u32)(AT % w.width), y = (u32)(AT / w.width % w.height);
    const u64 image = AT / w.width / w.height;
    T sum = T(0);
    for (u32 row = first_window(y, w.side, w.stride); row < last_window(y, w.rows, w.stride); ++row) {
        for (u32 col = first_window(x, w.side, w.stride); col < last_window(x, w.cols, w.stride); ++col) {
            const u64 window = (image * w.rows + row) * w.cols + col;
            if (where[window] == y * w.width + x) sum += grad[window];
        }
    }
    dx[AT] = sum;
}
FLOATS(max_pool_chain,
       (const T *grad, const u32 *where, T *dx, u32 height, u32 width, u32 rows, u32 cols, u32 side, u32 stride, u64 n),
       (grad, where, dx, GIVEN_WINDOWS, n))
