// Pair and triplet STDP inside a simulation (src/snn/plasticity/pair.rs and triplet.rs): two launches a step around
// `simulate_advance`.
//
//   plastic_arrive, before the neurons of step t: for each synapse of a source whose spike arrives
//     sum[target] += round(w * 2^s);   w <- clamp(w - D);   then x(source) <- x + 1, or 1
//   plastic_spikes, after them: for each synapse of a target that fired
//     w <- clamp(w + P);   then y(target) <- y + 1, or 1
//     and for each spike a note of where it arrives: at slot (t + delay) mod slots
//
//   pairs      D = A- (w - min)^mu y             P = A+ (max - w)^mu x             with mu 0 or 1
//   triplets   D = y (A2- + A3- x'(source))      P = x (A2+ + A3+ y'(target))      with slow traces x' and y'
//
// where x' and y' are those before the spike that they multiply. Traces fade when they are read, by factors
// exp(-k dt / tau) from tables that end where the factor is 0. Everything is in double precision in the order of the CPU, and
// weights are rounded to single precision when they are stored; a synapse is touched by one warp in each launch, so that
// weights and traces equal those of the CPU to the last bit.
//
// Shapes: synapses of all tables one after the other, by source: targets, weights, sources; `entering` has their places by
// target. Traces: `values` and the steps at which they were so, `since`, of the sources, then of the targets of each table; the
// slow ones follow, sources before targets again.
//
// Geometry: 256 threads, 8 warps; a warp goes through one source's row, or one target's column, striding over all. Grid: as
// many blocks as stay resident.
//
// Traffic floor: an arriving event reads 2 and reads and writes 4 bytes, and 16 of its target's trace (which stay in the
// cache); a column's event reads 8 bytes of indices, reads and writes 4 scattered ones, and 16 of its source's trace.

#include "common.cuh"

#define PAIRS_ADDITIVE 0
#define PAIRS_MULTIPLICATIVE 1
#define TRIPLETS 2

// Traces that fade alike: the first of them, and their factors decays[from .. until].
struct Fading {
    u32 first, from, until;
};

// The plastic synapses of a projection onto at most 65,536 targets; src/engine/cuda/plastic.rs has the same words.
struct Plastic {
    u32 pre, post, first_target, targets, ring, padded;
    float scale;
    u32 delay, offsets, columns, base, nearest, kind;
    // Fast and slow; pairs have no slow ones.
    Fading sources[2], entered[2];
};

// A rule's numbers; `a_plus` and `a_minus` are A2+ and A2- of triplets.
struct Rule {
    double a_plus, a_minus, least, most, a3_plus, a3_minus;

    __device__ __forceinline__ float within(double weight) const {
        weight = weight < least ? least : weight;
        return (float)(weight > most ? most : weight);
    }

    // By the target's fast trace, and the source's slow one.
    __device__ __forceinline__ float depress(u32 kind, double weight, double fast, double slow) const {
        if (kind == TRIPLETS) return within(weight - fast * (a_minus + a3_minus * slow));
        return within(weight - a_minus * (kind == PAIRS_MULTIPLICATIVE ? weight - least : 1.0) * fast);
    }

    // By the source's fast trace, and the target's slow one.
    __device__ __forceinline__ float potentiate(u32 kind, double weight, double fast, double slow) const {
        if (kind == TRIPLETS) return within(weight + fast * (a_plus + a3_plus * slow));
        return within(weight + a_plus * (kind == PAIRS_MULTIPLICATIVE ? most - weight : 1.0) * fast);
    }
};

struct Traces {
    double *values;
    u64 *since;
    const double *decays;

    // A trace as it is at `step`.
    __device__ __forceinline__ double faded(const Fading &of, u32 neuron, u64 step) const {
        const u64 at = (u64)of.first + neuron, age = step - since[at];
        return values[at] * (age < of.until - of.from ? decays[of.from + age] : 0.0);
    }

    // The slow trace of triplets; 0 for pairs.
    __device__ __forceinline__ double slow(const Plastic &table, const Fading *of, u32 neuron, u64 step) const {
        return table.kind == TRIPLETS ? faded(of[1], neuron, step) : 0.0;
    }

    // A neuron's spike, once all lanes have read its traces: a lane for the fast one, another for the slow one.
    __device__ __forceinline__ void spike(const Plastic &table, const Fading *of, u32 neuron, u64 step, int lane) const {
        __syncwarp();
        if (lane >= (table.kind == TRIPLETS ? 2 : 1)) return;
        const double before = faded(of[lane], neuron, step);
        values[(u64)of[lane].first + neuron] = table.nearest ? 1.0 : before + 1.0;
        since[(u64)of[lane].first + neuron] = step;
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
        const double slow = traces.slow(table, table.sources, source, step);
        for (u32 i = offsets[table.offsets + source] + lane; i < end; i += 32) {
            const u64 place = (u64)table.base + i;
            const u32 target = targets[place];
            const float weight = weights[place];
            atomicAdd(sum + target, (u64)__float2ll_rn(weight * table.scale));
            const double fast = traces.faded(table.entered[0], target, step);
            weights[place] = rule.depress(table.kind, (double)weight, fast, slow);
        }
        traces.spike(table, table.sources, source, step, lane);
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
        const double slow = traces.slow(table, table.entered, target, step);
        for (u32 i = columns[table.columns + target] + lane; i < end; i += 32) {
            const u64 place = (u64)table.base + entering[(u64)table.base + i];
            const double fast = traces.faded(table.sources[0], sources[place], step);
            weights[place] = rule.potentiate(table.kind, (double)weights[place], fast, slow);
        }
        traces.spike(table, table.entered, target, step, lane);
    }
}
