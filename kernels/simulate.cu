// A recurrent network with delays on a grid of time: two launches for each stretch of steps, no word from the host.
//
//   simulate_advance: each step of the stretch: x[receptor] = sum over channels (weight * count, or sum / 2^s), then
//     Poisson counts and currents from outside; the neuron's step (neurons.cuh); spikes into a list and a bit mask
//   simulate_deliver: every spike of the stretch into the rings: at (emitted + delay) mod slots, for each synapse,
//     count[target] += 1                       channels whose spikes all have one weight
//     sum[target]   += round(weight * 2^s)     the others, as 64-bit integers
//
// A stretch is as long as the shortest delay, at most 16 steps: no spike arrives in the stretch in which it is emitted.
//
// Additions are of integers, so their order does not matter, and runs are equal bit for bit on any GPU. A sum has 2^-54
// of the largest possible one as its unit and is rounded to single precision once. Where the CPU's sums are exact, so is
// everything equal to the CPU.
//
// Layout (src/engine/cuda/layout.rs): `layout` holds small tables behind a header of offsets. Neurons of all populations
// lie one after the other, each population padded to whole blocks of 256. Synapses are rows of 16-bit targets, weights
// and delays, by source, in tables of at most 65,536 targets.
//
// Geometry: deliver: 256 threads, 8 warps; a warp goes through one source's row of one table, or, where there are few
// spikes, through one of up to 16 interleaved parts of it; as many blocks as stay resident, striding. advance: 256
// threads, a thread one neuron for all steps of the stretch, with its state in registers; a block belongs to one population.
//
// Traffic floor: deliver reads 2 bytes a synaptic event (+ 4 with a weight, + 1 or 2 with a delay of its own) and adds 4
// or 8 bytes in the L2 cache; advance moves 8 bytes a state variable a stretch and, a step, 8 or 16 bytes a channel.

#include "common.cuh"
#include "neurons.cuh"

// Header of `layout`: where its tables begin.
#define AT_BLOCKS 0
#define AT_POPULATIONS 1
#define AT_CHANNELS 2
#define AT_DRIVES 3
#define AT_FANS 4
#define AT_TABLES 5

// A population.
struct Population {
    u32 size, padded, first, number, model, constants, state, states, channel, channels_end, drive, drives_end;
};
// Where spikes are added up: the ring begins at `ring` and has `padded` places a slot.
struct Channel {
    u32 receptor, sums, ring, padded;
    float factor;  // weight of a counted spike; 2^-s of a sum
    float scale;   // 2^s
};
// Input from outside.
struct Drive {
    u32 receptor, poisson, key0, key1, edges, edges_end, amplitudes;
    float weight;
    u32 from_low, from_high, until_low, until_high;
};
// The synapses of a projection onto at most 65,536 targets. `delays`: 0 all `delay`, 1 bytes, 2 words.
struct Table {
    u32 channel, own_weights, delays, delay, first_target;
    float weight;
    u32 offsets, unused;
};

template <class T> __device__ __forceinline__ const T &entry(const u32 *layout, int table, u32 number) {
    return reinterpret_cast<const T *>(layout + layout[table])[number];
}

// A spike: neuron (32 bits), population (16), step within the stretch (16).
__device__ __forceinline__ u64 spike_of(u32 neuron, u32 population, u32 step) {
    return (u64)neuron | (u64)population << 32 | (u64)step << 48;
}

extern "C" __global__ void __launch_bounds__(256, 2) simulate_deliver(
    const u32 *__restrict__ layout, const u64 *__restrict__ bases, const u32 *__restrict__ offsets,
    const u16 *__restrict__ targets, const float *__restrict__ weights, const u8 *__restrict__ delays,
    const u16 *__restrict__ long_delays, const u64 *__restrict__ fired, const u32 *__restrict__ fired_count,
    const u64 *__restrict__ inputs, u32 inputs_from, u32 inputs_until, int list, int slot, int slots, int fan,
    u32 *__restrict__ counts, u64 *__restrict__ sums, u64 *__restrict__ events) {
    const int lane = (int)threadIdx.x % 32;
    const u64 warps = (u64)gridDim.x * 8, own = fired_count[list], spikes = own + (inputs_until - inputs_from);
    const u64 rows = spikes * (u64)fan;
    const u64 parts = rows == 0 || warps / rows <= 1 ? 1 : min(warps / rows, (u64)16);
    u64 delivered = 0;
    for (u64 item = (u64)blockIdx.x * 8 + threadIdx.x / 32; item < rows * parts; item += warps) {
        const u64 row = item / parts, number = row / (u64)fan;
        const u64 spike = number < own ? fired[number] : inputs[inputs_from + (number - own)];
        const u32 neuron = (u32)spike, population = (u32)(spike >> 32) & 0xffffu;
        const u32 *fans = layout + layout[AT_FANS] + population;
        const u32 which = fans[0] + (u32)(row % (u64)fan);
        if (which >= fans[1]) continue;

        const Table &table = entry<Table>(layout, AT_TABLES, which);
        const Channel &channel = entry<Channel>(layout, AT_CHANNELS, table.channel);
        const u32 begin = offsets[table.offsets + neuron], end = offsets[table.offsets + neuron + 1];
        const u64 base = bases[4 * which], base_weights = bases[4 * which + 1], base_delays = bases[4 * which + 2];
        const u32 emitted = ((u32)slot + (u32)(spike >> 48)) % (u32)slots;
        const u32 first = channel.ring + table.first_target;
        if (lane == 0 && item % parts == 0) delivered += end - begin;
#pragma unroll 4
        for (u64 i = begin + 32 * (item % parts) + lane; i < end; i += 32 * parts) {
            u32 delay = table.delay;
            if (table.delays == 1) delay = delays[base_delays + i];
            if (table.delays == 2) delay = long_delays[base_delays + i];
            u32 at = emitted + delay;  // both are below `slots`
            if (at >= (u32)slots) at -= (u32)slots;
            const u64 place = first + (u64)at * channel.padded + targets[base + i];
            if (channel.sums) {
                const float weight = table.own_weights ? weights[base_weights + i] : table.weight;
                atomicAdd(sums + place, (u64)__float2ll_rn(weight * channel.scale));
            } else {
                atomicAdd(counts + place, 1u);
            }
        }
    }
    if (delivered != 0) atomicAdd(events, delivered);
}

// Spikes of a Poisson train in a step: as src/engine/clock/poisson.rs draws them.
__device__ __forceinline__ float poisson(const u32 *layout, const Drive &drive, u32 neuron, u64 step) {
    u32 words[4] = {neuron / 32 * 8 + neuron % 8, (u32)step, (u32)(step >> 32), 0};
    philox(words, drive.key0, drive.key1);
    const u32 j = neuron % 32 / 8;
    const u32 word = j == 0 ? words[0] : j == 1 ? words[1] : j == 2 ? words[2] : words[3];
    u32 edge = drive.edges;
    while (edge < drive.edges_end && word >= layout[edge]) ++edge;
    return __uint2float_rn(edge - drive.edges);
}

struct Stretch {
    u64 step;
    int steps, slots, list;
};

struct Written {
    float *state;
    u32 *counts;
    u64 *sums, *fired;
    u32 *fired_count;
    u64 *spikes;
    u32 *masks;
    int mask_row, mask_words;
    float *traces;
};

struct Probes {
    const u32 *offsets, *entries;
    u64 from;
    int any;
};

template <class Model>
__device__ __forceinline__ void advance(const u32 *layout, const float *constants, const Population &pop, u32 neuron,
                                        const Stretch &stretch, const Probes &probes, const Written &out) {
    const int lane = (int)threadIdx.x % 32;
    const bool real = neuron < pop.size;
    const u32 global = pop.first + neuron;
    float s[Model::STATES] = {};
#pragma unroll
    for (u32 v = 0; v < Model::STATES; ++v) {
        if (real && v < pop.states) s[v] = out.state[pop.state + v * pop.padded + neuron];
    }
    const u32 probe = probes.any && real ? probes.offsets[global] : 0;
    const u32 probes_end = probes.any && real ? probes.offsets[global + 1] : 0;
    u64 total = 0;
    u32 slot = (u32)(stretch.step % (u64)stretch.slots);
    for (int k = 0; k < stretch.steps; ++k, slot = slot + 1 == (u32)stretch.slots ? 0 : slot + 1) {
        const u64 step = stretch.step + (u64)k;
        // What is recorded is the state before the step: variable, stride, first place, width.
        for (u32 p = probe; p < probes_end; ++p) {
            const u32 *entry = probes.entries + 4 * p;
            const u64 every = entry[1];
            if (step % every == 0) {
                const u64 row = step / every - (probes.from + every - 1) / every;
                float value = 0.0f;
#pragma unroll
                for (u32 v = 0; v < Model::STATES; ++v) value = entry[0] == v ? s[v] : value;
                out.traces[entry[2] + row * entry[3]] = value;
            }
        }
        bool spike = false;
        if (real) {
            Received x = {};
            for (u32 c = pop.channel; c < pop.channels_end; ++c) {
                const Channel &channel = entry<Channel>(layout, AT_CHANNELS, c);
                const u64 place = channel.ring + (u64)slot * channel.padded + neuron;
                float value;
                if (channel.sums) {
                    value = __ll2float_rn((i64)out.sums[place]) * channel.factor;
                    out.sums[place] = 0;
                } else {
                    value = channel.factor * __uint2float_rn(out.counts[place]);
                    out.counts[place] = 0;
                }
                x.add(channel.receptor, value);
            }
            for (u32 d = pop.drive; d < pop.drives_end; ++d) {
                const Drive &drive = entry<Drive>(layout, AT_DRIVES, d);
                const u64 from = (u64)drive.from_high << 32 | drive.from_low;
                const u64 until = (u64)drive.until_high << 32 | drive.until_low;
                if (drive.poisson) x.add(drive.receptor, drive.weight * poisson(layout, drive, neuron, step));
                else if (from <= step && step < until) x.add(drive.receptor, constants[drive.amplitudes + neuron]);
            }
            spike = Model::step(constants + pop.constants, x, s);
        }
        const u32 all = __ballot_sync(ALL_LANES, spike);
        if (lane == 0 && out.mask_row >= 0 && real) {
            out.masks[(u64)(out.mask_row + k) * (u64)out.mask_words + global / 32] = all;
        }
        if (all == 0) continue;
        u32 place = 0;
        if (lane == 0) {
            place = atomicAdd(out.fired_count + stretch.list, (u32)__popc(all));
            total += (u64)__popc(all);
        }
        place = __shfl_sync(ALL_LANES, place, 0);
        if (spike) out.fired[place + __popc(all & ((1u << lane) - 1u))] = spike_of(neuron, pop.number, (u32)k);
    }
#pragma unroll
    for (u32 v = 0; v < Model::STATES; ++v) {
        if (real && v < pop.states) out.state[pop.state + v * pop.padded + neuron] = s[v];
    }
    if (total != 0) atomicAdd(out.spikes + pop.number, total);
}

extern "C" __global__ void __launch_bounds__(256, 3) simulate_advance(
    const u32 *__restrict__ layout, const float *__restrict__ constants, const u32 *__restrict__ probe_offsets,
    const u32 *__restrict__ probe_entries, u64 probe_from, int probed, u64 step, int steps, int slots, int list,
    int mask_row, int mask_words, float *__restrict__ state, u32 *__restrict__ counts, u64 *__restrict__ sums,
    u64 *__restrict__ fired, u32 *__restrict__ fired_count, u64 *__restrict__ spikes, u32 *__restrict__ masks,
    float *__restrict__ traces) {
    const u32 *block = layout + layout[AT_BLOCKS] + 2 * blockIdx.x;
    const Population &pop = entry<Population>(layout, AT_POPULATIONS, block[0]);
    const u32 neuron = block[1] + threadIdx.x;
    const Stretch stretch = {step, steps, slots, list};
    const Probes probes = {probe_offsets, probe_entries, probe_from, probed};
    const Written out = {state, counts, sums, fired, fired_count, spikes, masks, mask_row, mask_words, traces};
    // The list of the next stretch begins empty; that of the last one has been delivered.
    if (blockIdx.x == 0 && threadIdx.x == 0) fired_count[1 - list] = 0;
    switch (pop.model) {
        case MODEL_IAF_DELTA: return advance<IafDelta>(layout, constants, pop, neuron, stretch, probes, out);
        case MODEL_IAF_ONE: return advance<IafOne>(layout, constants, pop, neuron, stretch, probes, out);
        case MODEL_IAF_TWO: return advance<IafTwo>(layout, constants, pop, neuron, stretch, probes, out);
        case MODEL_LIF: return advance<LifModel>(layout, constants, pop, neuron, stretch, probes, out);
        case MODEL_COND_LIF: return advance<CondLif>(layout, constants, pop, neuron, stretch, probes, out);
        case MODEL_ADAPTIVE_LIF: return advance<AdaptiveLif>(layout, constants, pop, neuron, stretch, probes, out);
        case MODEL_IZHIKEVICH: return advance<Izhikevich>(layout, constants, pop, neuron, stretch, probes, out);
        case MODEL_ALPHA_LIF: return advance<AlphaLif>(layout, constants, pop, neuron, stretch, probes, out);
        case MODEL_ADEX: return advance<AdEx>(layout, constants, pop, neuron, stretch, probes, out);
    }
}
