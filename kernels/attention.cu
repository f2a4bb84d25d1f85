// Scaled dot-product attention without the matrix of scores (Dao et al., arXiv:2205.14135), grouped queries, causal and
// windowed, with a mask of keys; and rotary embedding.
//
//   attention         out = softmax(scale Q K') V and, for the way back, the logarithm of each query's sum of exponentials
//   attention_query   along[q] = sum over keys of p dp, and dQ = scale sum over keys of p (dp - along) K
//   attention_key     dK = scale sum over queries of p (dp - along) Q, dV = sum over queries of p dO, heads of a group in order
//   rope              pairs (i, i + D/2) turned by the angle of their position; heads before times (or back)
//
//   Q [B, H, T, D], K and V [B, G, room, D] of which `keys` are there, mask [B, keys], D at most 256
//
// A warp is one query (key), 8 of them share tiles of 32 keys (queries) in shared memory. Lanes are keys while scores are
// computed and dimensions while they are used, so that nothing is reduced but one maximum and one sum a tile. Sums run over
// tiles in order: no atomics. Another order than the CPU's: results agree to rounding. A query that sees nothing gives zeros.
//
// Geometry: 256 threads; grid: x = queries (keys) / 8, y = batch x heads (groups). Dynamic shared memory:
// (2 x 32 x (D + 1) + 16 x D) numbers. rope: a thread a pair, grid x = pairs / 256.

#include "tensor.cuh"

#define WARPS_PER_BLOCK (THREADS / WARP)
#define PER_LANE 8  // dimensions, for D up to 256

struct Sizes {
    u32 heads, groups, queries, keys, room, width, causal, window;
    // Keys that a query sees: [first, last).
    __device__ __forceinline__ u32 last(u32 query) const { return causal ? keys - queries + query + 1 : keys; }
    __device__ __forceinline__ u32 first(u32 query) const {
        return causal && window && last(query) > window ? last(query) - window : 0;
    }
    __device__ __forceinline__ bool sees(u32 query, u32 key) const { return key >= first(query) && key < last(query); }
};
#define GIVEN_SIZES Sizes{heads, groups, queries, keys, room, width, causal, window}

// What a block keeps in shared memory: two tiles of 32 rows, and two rows for each warp.
template <class T> struct Tiles {
    T *first, *second, *mine, *other;
    u32 width;
    __device__ __forceinline__ Tiles(T *memory, u32 width)
        : first(memory), second(memory + WARP * (width + 1)), mine(memory + 2 * WARP * (width + 1)),
          other(mine + WARPS_PER_BLOCK * width), width(width) {}
    // Rows [from, from + 32) of two matrices of which `count` rows exist.
    __device__ __forceinline__ void load(const T *a, const T *b, u32 from, u32 count) const {
        __syncthreads();
        for (u32 i = threadIdx.x; i < WARP * width; i += THREADS) {
            const u32 row = i / width, d = i % width;
            const bool there = from + row < count;
            first[row * (width + 1) + d] = there ? a[(u64)(from + row) * width + d] : T(0);
            second[row * (width + 1) + d] = there ? b[(u64)(from + row) * width + d] : T(0);
        }
        __syncthreads();
    }
    // Puts a row of two matrices where this warp's lanes all read it.
    __device__ __forceinline__ void own(const T *a, const T *b, bool there) const {
        const u32 warp = threadIdx.x / WARP;
        for (u32 d = threadIdx.x % WARP; d < width; d += WARP) {
            mine[warp * width + d] = there ? a[d] : T(0);
            other[warp * width + d] = there ? b[d] : T(0);
        }
        __syncwarp();
    }
    // Of this warp's row with the lane's row of a tile.
    __device__ __forceinline__ T dot(const T *row, const T *tile) const {
        const u32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
        T sum = T(0);
        for (u32 d = 0; d < width; ++d) sum = fused(row[warp * width + d], tile[lane * (width + 1) + d], sum);
        return sum;
    }
    // sums[d] += share of each lane times its row of a tile.
    __device__ __forceinline__ void add(T share, const T *tile, T *sums) const {
        const u32 lane = threadIdx.x % WARP;
        for (u32 row = 0; row < WARP; ++row) {
            const T p = __shfl_sync(ALL_LANES, share, row);
#pragma unroll
            for (int i = 0; i < PER_LANE; ++i) {
                const u32 d = lane + i * WARP;
                if (d < width) sums[i] = fused(p, tile[row * (width + 1) + d], sums[i]);
            }
        }
    }
};

template <class T> __device__ __forceinline__ T *shared_memory() {
    DYNAMIC_SHARED(double, memory);
    return (T *)memory;
}

template <class T>
__device__ __forceinline__ void attention(const T *q, const T *k, const T *v, const u8 *mask, T *out, T *sums,
                                          const Sizes &sizes, double scale, u32 masked) {
    const Tiles<T> tiles(shared_memory<T>(), sizes.width);
    const u32 lane = threadIdx.x % WARP, d = sizes.width, sample = blockIdx.y / sizes.heads, head = blockIdx.y % sizes.heads;
    const u32 block = blockIdx.x * WARPS_PER_BLOCK, query = block + threadIdx.x / WARP;
    const u64 row = (u64)blockIdx.y * sizes.queries + query;
    const u64 group = (u64)sample * sizes.groups + head / (sizes.heads / sizes.groups);
    const bool there = query < sizes.queries;
    k += group * sizes.room * d;
    v += group * sizes.room * d;
    tiles.own(q + row * d, q + row * d, there);

    const T hidden = -Float<T>::infinity();
    T largest = hidden, total = T(0), acc[PER_LANE] = {};
    const u32 end = block + WARPS_PER_BLOCK < sizes.queries ? block + WARPS_PER_BLOCK : sizes.queries;
    for (u32 from = sizes.first(block) / WARP * WARP; from < sizes.last(end - 1); from += WARP) {
        tiles.load(k, v, from, sizes.keys);
        const u32 key = from + lane;
        const bool seen = there && sizes.sees(query, key) && (!masked || mask[(u64)sample * sizes.keys + key] != 0);
        const T score = seen ? tiles.dot(tiles.mine, tiles.first) * (T)scale : hidden;
        const T now = Larger()(largest, warp_reduce(score, Larger()));
        const T shrink = largest == hidden ? T(0) : exponential(largest - now);
        const T share = seen ? exponential(score - now) : T(0);
        total = total * shrink + warp_reduce(share, Plus());
#pragma unroll
        for (int i = 0; i < PER_LANE; ++i) acc[i] *= shrink;
        tiles.add(share, tiles.second, acc);
        largest = now;
    }
    if (!there) return;
    const bool blind = total == T(0);
    const T share = blind ? T(0) : T(1) / total;
#pragma unroll
    for (int i = 0; i < PER_LANE; ++i) {
        if (lane + i * WARP < d) out[row * d + lane + i * WARP] = acc[i] * share;
    }
    if (lane == 0) sums[row] = blind ? -hidden : largest + logarithm(total);
}
FLOATS(attention,
       (const T *q, const T *k, const T *v, const u8 *mask, T *out, T *sums, u32 heads, u32 groups, u32 queries, u32 keys,
        u32 room, u32 width, u32 causal, u32 window, double scale, u32 masked),
       (q, k, v, mask, out, sums, GIVEN_SIZES, scale, masked))

// p of a product of query and key by the sums of the way forward, and the gradient by p.
template <class T> __device__ __forceinline__ T again(T score, T scale, T sum, bool seen) {
    return seen ? exponential(score * scale - sum) : T(0);
}

template <class T>
__device__ __forceinline__ void attention_query(const T *q, const T *k, const T *v, const u8 *mask, const T *grad,
                                                const T *sums, T *along, T *dq, const Sizes &sizes, double scale, u32 masked) {
    const Tiles<T> tiles(shared_memory<T>(), sizes.width);
    const u32 lane = threadIdx.x % WARP, d = sizes.width, sample = blockIdx.y / sizes.heads, head = blockIdx.y % sizes.heads;
    const u32 block = blockIdx.x * WARPS_PER_BLOCK, query = block + threadIdx.x / WARP;
    const u64 row = (u64)blockIdx.y * sizes.queries + query;
    const u64 group = (u64)sample * sizes.groups + head / (sizes.heads / sizes.groups);
    const bool there = query < sizes.queries;
    k += group * sizes.room * d;
    v += group * sizes.room * d;
    tiles.own(q + row * d, grad + row * d, there);
    const T sum = there ? sums[row] : T(0);
    const u32 end = block + WARPS_PER_BLOCK < sizes.queries ? block + WARPS_PER_BLOCK : sizes.queries;
    const u32 begin = sizes.first(block) / WARP * WARP, last = sizes.last(end - 1);
    T mean = T(0), acc[PER_LANE] = {};
    // Twice over the keys: the mean must be known before it is taken off.
    for (int pass = 0; pass < 2; ++pass) {
        T part = T(0);
        for (u32 from = begin; from < last; from += WARP) {
            tiles.load(k, v, from, sizes.keys);
            const u32 key = from + lane;
            const bool seen = there && sizes.sees(query, key) && (!masked || mask[(u64)sample * sizes.keys + key] != 0);
            const T p = again(tiles.dot(tiles.mine, tiles.first), (T)scale, sum, seen);
            const T slope = tiles.dot(tiles.other, tiles.second);
            if (pass == 0) {
                part += p * slope;
            } else {
                tiles.add(seen ? p * (slope - mean) * (T)scale : T(0), tiles.first, acc);
            }
        }
        if (pass == 0) mean = warp_reduce(part, Plus());
    }
    if (!there) return;
    if (lane == 0) along[row] = mean;
#pragma unroll
    for (int i = 0; i < PER_LANE; ++i) {
        if (lane + i * WARP < d) dq[row * d + lane + i * WARP] = acc[i];
    }
}
FLOATS(attention_query,
       (const T *q, const T *k, const T *v, const u8 *mask, const T *grad, const T *sums, T *along, T *dq, u32 heads,
        u32 groups, u32 queries, u32 keys, u32 room, u32 width, u32 causal, u32 window, double scale, u32 masked),
       (q, k, v, mask, grad, sums, along, dq, GIVEN_SIZES, scale, masked))

template <class T>
__device__ __forceinline__ void attention_key(const T *q, const T *k, const T *v, const u8 *mask, const T *grad,
                                              const T *sums, const T *along, T *dk, T *dv, const Sizes &sizes, double scale,
                                              u32 masked) {
    const Tiles<T> tiles(shared_memory<T>(), sizes.width);
    const u32 lane = threadIdx.x % WARP, d = sizes.width, sample = blockIdx.y / sizes.groups;
    const u32 key = blockIdx.x * WARPS_PER_BLOCK + threadIdx.x / WARP, heads = sizes.heads / sizes.groups;
    const u64 row = (u64)blockIdx.y * sizes.room + key;
    const bool there = key < sizes.keys && (!masked || mask[(u64)sample * sizes.keys + key] != 0);
    tiles.own(k + row * d, v + row * d, there);
    T of_k[PER_LANE] = {}, of_v[PER_LANE] = {};
    for (u32 h = 0; h < heads; ++h) {
        const u64 head = (u64)blockIdx.y * heads + h;
        for (u32 from = 0; from < sizes.queries; from += WARP) {
            tiles.load(q + head * sizes.queries * d, grad + head * sizes.queries * d, from, sizes.queries);
            const u32 query = from + lane;
            const bool seen = there && query < sizes.queries && sizes.sees(query, key);
            const u64 at = head * sizes.queries + query;
            const T p = again(tiles.dot(tiles.mine, tiles.first), (T)scale, seen ? sums[at] : T(0), seen);
            const T slope = seen ? p * (tiles.dot(tiles.other, tiles.second) - along[at]) * (T)scale : T(0);
            tiles.add(slope, tiles.first, of_k);
            tiles.add(p, tiles.second, of_v);
        }
    }
    if (key >= sizes.room) return;
#pragma unroll
    for (int i = 0; i < PER_LANE; ++i) {
        if (lane + i * WARP < d) {
            dk[row * d + lane + i * WARP] = of_k[i];
            dv[row * d + lane + i * WARP] = of_v[i];
        }
    }
}
FLOATS(attention_key,
       (const T *q, const T *k, const T *v, const u8 *mask, const T *grad, const T *sums, const T *along, T *dk, T *dv,
        u32 heads, u32 groups, u32 queries, u32 keys, u32 room, u32 width, u32 causal, u32 window, double scale, u32 masked),
       (q, k, v, mask, grad, sums, along, dk, dv, GIVEN_SIZES, scale, masked))

// x [B, T, H, D] -> [B, H, T, D], or back with the opposite turn; tables [1 or B, T, D/2] (Su et al., arXiv:2104.09864).
template <class T>
__device__ __forceinline__ void rope(const T *x, const T *cos, const T *sin, T *out, u32 batch, u32 times, u32 heads,
                                     u32 width, u32 shared, u32 back) {
    const u32 half = width / 2;
    const u64 at = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (at >= (u64)batch * times * heads * half) return;
    const u32 i = (u32)(at % half), h = (u32)(at / half % heads), t = (u32)(at / half / heads % times);
    const u64 b = at / half / heads / times;
    const u64 by_time = ((b * times + t) * heads + h) * width, by_head = ((b * heads + h) * times + t) * width;
    const u64 from = back ? by_head : by_time, to = back ? by_time : by_head;
    const u64 angle = (shared ? t : b * times + t) * half + i;
    const T c = cos[angle], s = back ? -T(1) * sin[angle] : sin[angle];
    const T x1 = x[from + i], x2 = x[from + half + i];
    out[to + i] = x1 * c - x2 * s;
    out[to + half + i] = x2 * c + x1 * s;
}
FLOATS(rope,
       (const T *x, const T *cos, const T *sin, T *out, u32 batch, u32 times, u32 heads, u32 width, u32 shared, u32 back),
       (x, cos, sin, out, batch, times, heads, width, shared, back))
