// The reservoir pass of a RanSNN: encoder -> frozen int8 weights -> LIF over all time steps -> spike counts, one launch.
//
//   Bernoulli:  pixel j of sample s fires at step t  <=>  word(j, t, s) < threshold[pixel]
//               I[k] = float(sum over fired j of w[j, k]) * factor[k] + bias[k]
//   Constant:   I[k] = float(sum over j of pixel[j] * w[j, k]) * factor[k] + bias[k], the same at every step
//   LIF:        u <- rest + decay * (u - rest) + gain * I;   spike, reset: see `lif_step` and src/snn/neurons/lif.rs
//   counts[s, k] = spikes of neuron k while sample s was shown
//   activity += spikes of the neurons, spikes of the pixels, synapses that these went through
//
// Sums are exact integers and every float operation is rounded on its own, so that counts equal those of the CPU spike
// for spike. Random numbers: `word(j, t, s)` is 16-bit word j % 8 of the Philox block at counter
// (j / 8, t, s low, s high).
//
// Geometry: 256 threads = 8 warps; a warp runs one sample against one tile of 256 targets, 8 neighbouring targets a
// lane, membranes and counts in registers for all steps. Grid: x = groups of 8 samples, y = tiles. Blocks that run
// together share a tile (x runs fastest), so its rows stay in L1 while samples stream past. No block-wide barrier.
//
// A step walks the sources in chunks of 256: each lane draws one Philox block (8 pixels), the warp compacts what fired
// into a list of at most 256 one-byte events in shared memory, and only the rows of these events are read.
//
// Dense rows are stored with 128 added, as unsigned bytes. Two of them are summed per 32-bit addition: 256 events of at
// most 255 stay within 16 bits, which is why a chunk has 256 sources; 128 per event is subtracted once per chunk.
//
// Sparse rows are stored per tile: entries of (tile, source) at offsets[tile * sources + source] ..., each a 16-bit word
// of the target within the tile (low byte) and the weight (high byte). Eight lanes share a row, four rows at a time.

#include "common.cuh"
#include "lif.cuh"

#define WARPS 8
#define CHUNK 256
#define TILE 256
#define LANE_TARGETS 8

// Which of the lane's eight pixels are not zero.
__device__ __forceinline__ u32 nonzero_octet(const u8 *pixels, int source, int sources) {
    u32 mask = 0;
#pragma unroll
    for (int bit = 0; bit < 8; ++bit) {
        if (source + bit < sources && pixels[source + bit] != 0) mask |= 1u << bit;
    }
    return mask;
}

// Which of the lane's eight pixels fire at step `t`: draws one Philox block.
__device__ __forceinline__ u32 bernoulli_octet(const u8 *pixels, int source, int sources, const u32 *thresholds, int t,
                                               u64 sample_id, u32 key0, u32 key1) {
    u32 words[4] = {(u32)source / 8u, (u32)t, (u32)sample_id, (u32)(sample_id >> 32)};
    philox(words, key0, key1);
    u32 mask = 0;
#pragma unroll
    for (int bit = 0; bit < 8; ++bit) {
        const u32 word = words[bit / 2] >> (16 * (bit % 2)) & 0xffffu;
        if (source + bit < sources && word < __ldg(thresholds + pixels[source + bit])) mask |= 1u << bit;
    }
    return mask;
}

struct DenseRows {
    static constexpr bool SHARED_SUMS = false;
    const u8 *weights;  // [sources, tiles * TILE], weight + 128
    u64 stride;
    int tile;
    u32 targets;

    // Adds the rows of the listed sources to the lane's sums; returns the synapses that the lane answers for.
    __device__ __forceinline__ u32 add(const u8 *list, int events, int base, int lane, int *, int sum[LANE_TARGETS]) const {
        u32 even[2] = {0, 0}, odd[2] = {0, 0};
#pragma unroll 4
        for (int e = 0; e < events; ++e) {
            const uint2 row = load(base + list[e], lane);
            even[0] += row.x & 0x00ff00ffu;
            odd[0] += row.x >> 8 & 0x00ff00ffu;
            even[1] += row.y & 0x00ff00ffu;
            odd[1] += row.y >> 8 & 0x00ff00ffu;
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            sum[4 * half + 0] += (int)(even[half] & 0xffffu) - 128 * events;
            sum[4 * half + 1] += (int)(odd[half] & 0xffffu) - 128 * events;
            sum[4 * half + 2] += (int)(even[half] >> 16) - 128 * events;
            sum[4 * half + 3] += (int)(odd[half] >> 16) - 128 * events;
        }
        return lane == 0 ? (u32)events * min(targets - (u32)tile * TILE, (u32)TILE) : 0u;
    }

    // Adds the rows of the listed sources, each times its pixel.
    __device__ __forceinline__ void add_scaled(const u8 *list, int events, int base, int lane, const u8 *pixels, int *,
                                               int sum[LANE_TARGETS]) const {
        for (int e = 0; e < events; ++e) {
            const int source = base + list[e], pixel = pixels[source];
            const uint2 row = load(source, lane);
#pragma unroll
            for (int k = 0; k < LANE_TARGETS; ++k) {
                const u32 word = k < 4 ? row.x : row.y;
                sum[k] += pixel * ((int)(word >> (8 * (k % 4)) & 0xffu) - 128);
            }
        }
    }

    __device__ __forceinline__ void collect(int *, int, int *) const {}

    __device__ __forceinline__ uint2 load(int source, int lane) const {
        const u8 *row = weights + (u64)source * stride + (u64)tile * TILE;
        return __ldg(reinterpret_cast<const uint2 *>(row) + lane);
    }
};

struct SparseRows {
    static constexpr bool SHARED_SUMS = true;
    const u32 *offsets;  // [tiles * sources + 1]
    const u16 *entries;  // [synapses]
    int sources, tile;

    __device__ __forceinline__ u32 add(const u8 *list, int events, int base, int lane, int *sums, int *) const {
        return visit(list, events, base, lane, sums, (const u8 *)0);
    }

    __device__ __forceinline__ void add_scaled(const u8 *list, int events, int base, int lane, const u8 *pixels, int *sums,
                                               int *) const {
        visit(list, events, base, lane, sums, pixels);
    }

    // Moves the lane's sums from shared memory to registers and clears them.
    __device__ __forceinline__ void collect(int *sums, int lane, int sum[LANE_TARGETS]) const {
        __syncwarp();
#pragma unroll
        for (int k = 0; k < LANE_TARGETS; ++k) {
            sum[k] = sums[slot(lane * LANE_TARGETS + k)];
            sums[slot(lane * LANE_TARGETS + k)] = 0;
        }
        __syncwarp();
    }

    __device__ __forceinline__ u32 visit(const u8 *list, int events, int base, int lane, int *sums, const u8 *pixels) const {
        u32 synapses = 0;
        for (int e = lane / 8; e < events; e += 4) {
            const int source = base + list[e], times = pixels ? pixels[source] : 1;
            const u32 *row = offsets + (u64)tile * (u64)sources + source;
            for (u32 i = row[0] + lane % 8; i < row[1]; i += 8) {
                const u32 entry = entries[i];
                atomicAdd(sums + slot(entry & 0xffu), times * (int)(i8)(entry >> 8));
                ++synapses;
            }
        }
        return synapses;
    }

    // One word of padding after every eight, so that a lane's eight neighbours fall into different banks than others'.
    static __device__ __forceinline__ int slot(int target) { return target + target / LANE_TARGETS; }
};

template <bool Bernoulli, class Rows>
__device__ __forceinline__ void reservoir(const u8 *pixels, const u64 *sample_ids, const u32 *thresholds, u32 key0, u32 key1,
                                          const Rows &rows, const float *factor, const float *bias, const Lif &lif,
                                          int samples, int sources, int targets, int steps, u16 *counts, u64 *activity) {
    __shared__ u8 lists[WARPS][CHUNK];
    __shared__ int shared_sums[Rows::SHARED_SUMS ? WARPS : 1][TILE + TILE / LANE_TARGETS];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int sample = blockIdx.x * WARPS + warp;
    if (sample >= samples) return;  // the whole warp leaves: nothing below waits for other warps

    u8 *list = lists[warp];
    int *sums = shared_sums[Rows::SHARED_SUMS ? warp : 0];
    const u8 *image = pixels + (u64)sample * (u64)sources;
    const int first = rows.tile * TILE + lane * LANE_TARGETS;
    float u[LANE_TARGETS], scale[LANE_TARGETS], offset[LANE_TARGETS];
    int silent[LANE_TARGETS], count[LANE_TARGETS], sum[LANE_TARGETS];
#pragma unroll
    for (int k = 0; k < LANE_TARGETS; ++k) {
        u[k] = lif.rest;
        scale[k] = first + k < targets ? factor[first + k] : 0.0f;
        offset[k] = first + k < targets ? bias[first + k] : 0.0f;
        silent[k] = count[k] = sum[k] = 0;
        if (Rows::SHARED_SUMS) sums[SparseRows::slot(lane * LANE_TARGETS + k)] = 0;
    }
    __syncwarp();

    if (!Bernoulli) {
        for (int base = 0; base < sources; base += CHUNK) {
            const int events = compact_octets(nonzero_octet(image, base + 8 * lane, sources), lane, list);
            __syncwarp();
            rows.add_scaled(list, events, base, lane, image, sums, sum);
            __syncwarp();
        }
        rows.collect(sums, lane, sum);
    }
    const u64 id = Bernoulli ? sample_ids[sample] : 0;
    u32 inputs = 0;  // of the lane: below 2^32 for 2^24 pixels over 65,535 steps in 32 lanes
    u64 synapses = 0;
    for (int t = 0; t < steps; ++t) {
        if (Bernoulli) {
#pragma unroll
            for (int k = 0; k < LANE_TARGETS; ++k) sum[k] = 0;
            for (int base = 0; base < sources; base += CHUNK) {
                const u32 mask = bernoulli_octet(image, base + 8 * lane, sources, thresholds, t, id, key0, key1);
                const int events = compact_octets(mask, lane, list);
                __syncwarp();
                inputs += (u32)__popc(mask);
                synapses += rows.add(list, events, base, lane, sums, sum);
                __syncwarp();
            }
            rows.collect(sums, lane, sum);
        }
#pragma unroll
        for (int k = 0; k < LANE_TARGETS; ++k) {
            const float current = __fadd_rn(__fmul_rn(__int2float_rn(sum[k]), scale[k]), offset[k]);
            count[k] += lif_step(lif, current, u[k], silent[k]);
        }
    }
    u64 spikes = 0;
    for (int k = 0; k < LANE_TARGETS && first + k < targets; ++k) {
        counts[(u64)sample * (u64)targets + first + k] = (u16)count[k];
        spikes += (u64)count[k];
    }
    add_of_warp(activity, spikes, lane);
    if (Bernoulli) {
        if (rows.tile == 0) add_of_warp(activity + 1, inputs, lane);
        add_of_warp(activity + 2, synapses, lane);
    }
}

extern "C" __global__ void __launch_bounds__(256) reservoir_bernoulli_dense(
    const u8 *__restrict__ pixels, const u64 *__restrict__ sample_ids, const u32 *__restrict__ thresholds,
    u32 key0, u32 key1, const u8 *__restrict__ weights, const float *__restrict__ factor,
    const float *__restrict__ bias, float decay, float gain, float rest, float threshold, float reset_value,
    u32 dialect, int refractory_steps, int samples, int sources, int targets, int steps,
    u16 *__restrict__ counts, u64 *__restrict__ activity) {
    const Lif lif = {decay, gain, rest, threshold, reset_value, dialect, refractory_steps};
    const DenseRows rows = {weights, (u64)gridDim.y * TILE, (int)blockIdx.y, (u32)targets};
    reservoir<true>(pixels, sample_ids, thresholds, key0, key1, rows, factor, bias, lif, samples, sources, targets, steps,
                    counts, activity);
}

extern "C" __global__ void __launch_bounds__(256, 3) reservoir_bernoulli_sparse(
    const u8 *__restrict__ pixels, const u64 *__restrict__ sample_ids, const u32 *__restrict__ thresholds,
    u32 key0, u32 key1, const u32 *__restrict__ offsets, const u16 *__restrict__ entries,
    const float *__restrict__ factor, const float *__restrict__ bias, float decay, float gain, float rest,
    float threshold, float reset_value, u32 dialect, int refractory_steps, int samples, int sources,
    int targets, int steps, u16 *__restrict__ counts, u64 *__restrict__ activity) {
    const Lif lif = {decay, gain, rest, threshold, reset_value, dialect, refractory_steps};
    const SparseRows rows = {offsets, entries, sources, (int)blockIdx.y};
    reservoir<true>(pixels, sample_ids, thresholds, key0, key1, rows, factor, bias, lif, samples, sources, targets, steps,
                    counts, activity);
}

extern "C" __global__ void __launch_bounds__(256) reservoir_constant_dense(
    const u8 *__restrict__ pixels, const u8 *__restrict__ weights, const float *__restrict__ factor,
    const float *__restrict__ bias, float decay, float gain, float rest, float threshold, float reset_value,
    u32 dialect, int refractory_steps, int samples, int sources, int targets, int steps,
    u16 *__restrict__ counts, u64 *__restrict__ activity) {
    const Lif lif = {decay, gain, rest, threshold, reset_value, dialect, refractory_steps};
    const DenseRows rows = {weights, (u64)gridDim.y * TILE, (int)blockIdx.y, (u32)targets};
    reservoir<false>(pixels, (const u64 *)0, (const u32 *)0, 0u, 0u, rows, factor, bias, lif, samples, sources, targets, steps,
                     counts, activity);
}

extern "C" __global__ void __launch_bounds__(256) reservoir_constant_sparse(
    const u8 *__restrict__ pixels, const u32 *__restrict__ offsets, const u16 *__restrict__ entries,
    const float *__restrict__ factor, const float *__restrict__ bias, float decay, float gain, float rest,
    float threshold, float reset_value, u32 dialect, int refractory_steps, int samples, int sources,
    int targets, int steps, u16 *__restrict__ counts, u64 *__restrict__ activity) {
    const Lif lif = {decay, gain, rest, threshold, reset_value, dialect, refractory_steps};
    const SparseRows rows = {offsets, entries, sources, (int)blockIdx.y};
    reservoir<false>(pixels, (const u64 *)0, (const u32 *)0, 0u, 0u, rows, factor, bias, lif, samples, sources, targets, steps,
                     counts, activity);
}
