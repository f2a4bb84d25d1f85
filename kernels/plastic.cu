// Pair STDP inside a simulation (src/snn/plasticity/pair.rs): two launches a step around `simulate_advance`.
//
//   plastic_arrive, before the neurons of step t: for each synapse of a source whose spike arrives
//     sum[target] += round(w * 2^s);   w <- clamp(w - A- (w - min)^mu y(target));   then x(source) <- x + 1, or 1
//   plastic_spikes, after them: for each synapse of a target that fired
//     w <- clamp(w + A+ (max - w)^mu x(source));   then y(target) <- y + 1, or 1
//     and for each spike a note of where it arrives: at slot (t + delay) mod slots
//
// with mu 0 or 1. Traces fade when they are read, by factors exp(-k dt / tau) from tables that end where the factor is 0.
// Everything is in double precision in the order of the CPU, and weights are rounded to single precision when they are
// stored; a synapse is touched by one warp in each launch, so that weights and traces equal those of the CPU to the last bit.
//
// Shapes: synapses of all tables one after the other, by source: targets, weights, sources; `entering` has their places by
// target. Traces: `values` and the steps at which they were so, `since`, sources before targets in each table.
//
// Geometry: 256 threads, 8 warps; a warp goes through one source's row, or one target's column, striding over all. Grid: as
// many blocks as stay resident.
//
// Traffic floor: an arriving event reads 2 and reads and writes 4 bytes, and 16 of its target's trace (which stay in the
// cache); a column's event reads 8 bytes of indices, reads and writes 4 scattered ones, and 16 of its source's trace.

#include "common.cuh"

// The plastic synapses of a projection onto at most 65,536 targets; src/engine/cuda/plastic.rs has the same words.
struct Plastic {
    u32 pre, post, first_target, targets, ring, padded;
    float scale;
    u32 delay, offsets, columns, base, pre_traces, post_traces, nearest, multiplicative, plus, plus_end, minus, minus_end,
        unused;
};

// A rule's A+, A-, smallest and largest weight.
struct Rule {
    double a_plus, a_minus, least, most;

    __device__ __forceinline__ float within(double weight) const {
        weight = weight < least ? least : weight;
        return (float)(weight > most ? most : weight);
    }
};

struct Traces {
    double *values;
    u64 *since;
    const double *decays;

    // A trace as it is at `step`; its factors are decays[from .. until].
    __device__ __forceinline__ double faded(u64 at, u32 from, u32 until, u64 step) const {
        const u64 age = step - since[at];
        return values[at] * (age < until - from ? decays[from + age] : 0.0);
    }

    __device__ __forceinline__ void spike(u64 at, u32 from, u32 until, u64 step, bool nearest) const {
        const double before = faded(at, from, until, step);
        values[at] = nearest ? 1.0 : before + 1.0;
        since[at] = step;
    }
};

extern "C" __global__ void __launch_bounds__(256) plastic_arrive(
    const u32 *__restrict__ tables, const double *__restrict__ rules, const double *__restrict__ decays,
    const u32 *__restrict__ offsets, const u16 *__restrict__ targets, const u64 *__restrict__ arrivals,
    const u32 *__restrict__ arrival_count, u32 capacity, u64 step, int slot, float *__restrict__ weights,
    double *__restrict__ values, u64 *__restrict__ since, u64 *__restrict__ sums) {
    const int lane = (int)threadIdx.x % 32;
    const Traces traces = {values, since, decays};
    for (u32 item = blockIdx.x * 8 + threadIdx.x / 32; item < arrival_count[slot]; item += gridDim.x * 8) {
        const u64 arrival = arrivals[(u64)slot * capacity + item];
        const u32 number = (u32)(arrival >> 32), source = (u32)arrival;
        const Plastic &table = reinterpret_cast<const Plastic *>(tables)[number];
        const Rule &rule = reinterpret_cast<const Rule *>(rules)[number];
        const u32 end = offsets[table.offsets + source + 1];
        u64 *const sum = sums + table.ring + (u64)slot * table.padded + table.first_target;
        for (u32 i = offsets[table.offsets + source] + lane; i < end; i += 32) {
            const u64 place = (u64)table.base + i;
            const u32 target = targets[place];
            const float weight = weights[place];
            atomicAdd(sum + target, (u64)__float2ll_rn(weight * table.scale));
            const double post = traces.faded((u64)table.post_traces + target, table.minus, table.minus_end, step);
            const double room = table.multiplicative ? (double)weight - rule.least : 1.0;
            weights[place] = rule.within((double)weight - rule.a_minus * room * post);
        }
        if (lane == 0) traces.spike((u64)table.pre_traces + source, table.plus, table.plus_end, step, table.nearest != 0);
    }
}

extern "C" __global__ void __launch_bounds__(256) plastic_spikes(
    const u32 *__restrict__ tables, int table_count, const double *__restrict__ rules, const double *__restrict__ decays,
    const u32 *__restrict__ offsets, const u32 *__restrict__ columns, const u32 *__restrict__ entering,
    const u32 *__restrict__ sources, const u64 *__restrict__ fired, const u32 *__restrict__ fired_count,
    const u64 *__restrict__ inputs, u32 inputs_from, u32 inputs_until, int list, u32 capacity, u64 step, int slot,
    int slots, float *__restrict__ weights, double *__restrict__ values, u64 *__restrict__ since,
    u64 *__restrict__ arrivals, u32 *__restrict__ arrival_count, u64 *__restrict__ events) {
    const int lane = (int)threadIdx.x % 32;
    const Traces traces = {values, since, decays};
    // What arrived in this step has been worked on; no spike of it arrives a whole ring later.
    if (blockIdx.x == 0 && threadIdx.x == 0) arrival_count[slot] = 0;
    const u64 own = fired_count[list], items = (own + (inputs_until - inputs_from)) * (u64)table_count;
    for (u64 item = (u64)blockIdx.x * 8 + threadIdx.x / 32; item < items; item += (u64)gridDim.x * 8) {
        const u64 at = item / (u64)table_count;
        const u32 number = (u32)(item % (u64)table_count);
        const u64 spike = at < own ? fired[at] : inputs[inputs_from + (at - own)];
        const u32 neuron = (u32)spike, population = (u32)(spike >> 32) & 0xffffu;
        const Plastic &table = reinterpret_cast<const Plastic *>(tables)[number];
        if (table.pre == population && lane == 0) {
            const u32 to = (u32)(((u32)slot + table.delay) % (u32)slots);
            const u32 place = atomicAdd(arrival_count + to, 1u);
            arrivals[(u64)to * capacity + place] = (u64)number << 32 | neuron;
            atomicAdd(events, (u64)(offsets[table.offsets + neuron + 1] - offsets[table.offsets + neuron]));
        }
        const u32 target = neuron - table.first_target;  // wraps for neurons below
        if (table.post != population || target >= table.targets) continue;
        const Rule &rule = reinterpret_cast<const Rule *>(rules)[number];
        const u32 end = columns[table.columns + target + 1];
        for (u32 i = columns[table.columns + target] + lane; i < end; i += 32) {
            const u64 place = (u64)table.base + entering[(u64)table.base + i];
            const double pre = traces.faded((u64)table.pre_traces + sources[place], table.plus, table.plus_end, step);
            const double weight = (double)weights[place];
            const double room = table.multiplicative ? rule.most - weight : 1.0;
            weights[place] = rule.within(weight + rule.a_plus * room * pre);
        }
        if (lane == 0) traces.spike((u64)table.post_traces + target, table.minus, table.minus_end, step, table.nearest != 0);
    }
}
