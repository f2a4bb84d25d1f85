// Synapses that are not stored: the row of a source that fired is drawn again from its counters, and delivered.
//
// A row is the one that src/snn/synapses/draw.rs draws, synapse by synapse. With u(i) the i-th uniform number, and w(i) the
// i-th word, of the row's walk (src/rng.rs), of n targets:
//   all          every target
//   same         the target of the source's number
//   jumps        t(i) = t(i - 1) + 1 + floor(ln(1 - u(i)) / ln(1 - p)), t(-1) = -1, until n
//   repeated     t(i) = floor(w(i) n / 2^32), i < k
//   distinct     for last = n - k .. n - 1: a number of 0 ..= last, or `last` where that one is taken (Floyd)
//   near         t where u(t) < p_max exp(-d(source, t)^2 / spread) on a torus
// and t + 1 for t >= source where no neuron is connected to itself. Synapse i of the row, in ascending order, has the weight
// low + span u(i) and the delay round((low + span u(i)) / step), each from a walk of its own, or constants. Spikes are then
// added up as in simulate.cu. Functions and their order are those of the CPU, so that the synapses are.
//
// Shapes: `tables` by source, those of population p from fans[p] to fans[p + 1], with as many `numbers`
// (src/engine/cuda/procedural.rs).
//
// Geometry: a warp a row, its lanes the counters: 64 jumps, 128 words or 64 pairs at a time. Up to 8 warps a block, as many
// as have room for a bit a target in shared memory where targets are distinct; as many blocks as stay resident, striding.
//
// Traffic floor: no memory but the rings, 4 or 8 bytes a synaptic event in the L2 cache; a block of Philox and a
// logarithm or two for two events stand where 2 bytes were read.

#include "common.cuh"
#include "math.cuh"

#define TARGETS_ALL 0
#define TARGETS_SAME 1
#define TARGETS_JUMPS 2
#define TARGETS_DISTINCT 3
#define TARGETS_REPEATED 4
#define TARGETS_NEAR 5

// A projection; sizes are below 2^30.
struct Table {
    u32 targets, choices, skips_itself, degree, key0, key1;
    // The channel that its spikes are added up in.
    u32 sums, ring, padded;
    float scale;
    u32 weights_drawn, weight_key0, weight_key1;
    float weight;
    u32 delays_drawn, delay_key0, delay_key1, delay;
    u32 from_height, from_width, to_height, to_width;
};
struct Numbers {
    double rule;    // ln(1 - p), or p_max
    double spread;  // 2 sigma^2
    double weight_low, weight_span, delay_low, delay_span, step;
};

struct Row {
    const Table &table;
    const Numbers &numbers;
    u32 source, emitted, slots;
    u32 *counts;
    u64 *sums;
};

// Four words of the row's walk.
__device__ __forceinline__ void draw(u32 words[4], u32 block, u32 row, u32 key0, u32 key1) {
    words[0] = block;
    words[1] = 0;
    words[2] = row;
    words[3] = 0;
    philox(words, key0, key1);
}

// A uniform number below 1 from two words, as rand makes it.
__device__ __forceinline__ double uniform(u32 low, u32 high) {
    return (double)(((u64)high << 32 | low) >> 11) * 1.1102230246251565e-16;  // 2^-53
}

__device__ __forceinline__ double uniform_at(u32 place, u32 row, u32 key0, u32 key1) {
    u32 words[4];
    draw(words, place / 2, row, key0, key1);
    return place % 2 == 0 ? uniform(words[0], words[1]) : uniform(words[2], words[3]);
}

// Synapse `place` of the row, onto `target`.
__device__ __forceinline__ void deliver(const Row &row, u32 place, u32 target) {
    const Table &table = row.table;
    const Numbers &numbers = row.numbers;
    if (table.skips_itself && target >= row.source) ++target;
    u32 delay = table.delay;
    if (table.delays_drawn) {
        const double u = uniform_at(place, row.source, table.delay_key0, table.delay_key1);
        delay = max((u32)round((numbers.delay_low + numbers.delay_span * u) / numbers.step), 1u);
    }
    u32 at = row.emitted + delay;  // both are below `slots`
    if (at >= row.slots) at -= row.slots;
    const u64 to = table.ring + (u64)at * table.padded + target;
    if (table.sums) {
        float weight = table.weight;
        if (table.weights_drawn) {
            const double u = uniform_at(place, row.source, table.weight_key0, table.weight_key1);
            weight = (float)(numbers.weight_low + numbers.weight_span * u);
        }
        atomicAdd(row.sums + to, (u64)__float2ll_rn(weight * table.scale));
    } else {
        atomicAdd(row.counts + to, 1u);
    }
}

// The sum of the lanes up to this one, cut off at `most`, which is at most 2^30.
__device__ __forceinline__ u32 sum_up_to(u32 value, u32 most, int lane) {
#pragma unroll
    for (int by = 1; by < 32; by *= 2) {
        const u32 before = __shfl_up_sync(ALL_LANES, value, by);
        if (lane >= by) value = min(value + before, most);
    }
    return value;
}

__device__ __forceinline__ u32 jump(double u, double miss, u32 choices) {
    const double length = floor(logarithm(1.0 - u) / miss);
    return length < (double)choices ? (u32)length : choices;
}

// Each returns how many synapses this lane has delivered.
__device__ __forceinline__ u32 jumps(const Row &row, int lane) {
    const Table &table = row.table;
    const u32 choices = table.choices;
    u32 delivered = 0;
    for (u32 block = lane, start = 0; start < choices; block += 32) {
        u32 words[4];
        draw(words, block, row.source, table.key0, table.key1);
        const u32 first = jump(uniform(words[0], words[1]), row.numbers.rule, choices);
        const u32 second = jump(uniform(words[2], words[3]), row.numbers.rule, choices);
        const u32 own = min(first + second + 2, choices);
        const u32 until = sum_up_to(own, choices, lane);
        u32 target = __shfl_up_sync(ALL_LANES, until, 1);
        target = start + (lane == 0 ? 0 : target) + first;
        if (target < choices) {
            deliver(row, 2 * block, target);
            ++delivered;
            target += 1 + second;
            if (target < choices) {
                deliver(row, 2 * block + 1, target);
                ++delivered;
            }
        }
        start = min(start + __shfl_sync(ALL_LANES, until, 31), choices);
    }
    return delivered;
}

__device__ __forceinline__ u32 repeated(const Row &row, int lane) {
    const Table &table = row.table;
    u32 delivered = 0;
    for (u32 block = lane; 4 * block < table.degree; block += 32) {
        u32 words[4];
        draw(words, block, row.source, table.key0, table.key1);
#pragma unroll
        for (u32 i = 0; i < 4; ++i) {
            if (4 * block + i < table.degree) {
                deliver(row, 4 * block + i, __umulhi(words[i], table.choices));
                ++delivered;
            }
        }
    }
    return delivered;
}

__device__ __forceinline__ u32 word_at(const Row &row, u32 place) {
    u32 words[4];
    draw(words, place / 4, row.source, row.table.key0, row.table.key1);
    const u32 low = place % 2 == 0 ? words[0] : words[1], high = place % 2 == 0 ? words[2] : words[3];
    return place % 4 < 2 ? low : high;
}

// `taken` has a bit for each target, all 0 before and after.
__device__ __forceinline__ u32 distinct(const Row &row, u32 *taken, int lane) {
    const u32 choices = row.table.choices, degree = row.table.degree, below = (1u << lane) - 1u;
    u32 word = 0;
    for (u32 drawn = 0; drawn < degree;) {
        const u32 first = choices - degree + drawn, last = first + lane;
        const u32 product = word_at(row, word + lane), range = last + 1;
        u32 target = __umulhi(product, range);
        const u32 rest = product * range;
        // rand corrects a number near its edge by a second word, which moves those after it: they are left to the next round.
        const bool corrected = drawn + lane < degree && rest > 0u - range;
        const u32 corrections = __ballot_sync(ALL_LANES, corrected);
        const u32 size = min(corrections == 0 ? 32u : (u32)__ffs((int)corrections), degree - drawn);
        if (corrected) target += rest + __umulhi(word_at(row, word + lane + 1), range) < rest;
        const bool mine = lane < (int)size;
        // Taken before, or by an earlier lane; or it is the `last` of an earlier lane that found its own taken.
        const u32 alike = __match_any_sync(ALL_LANES, mine ? target : 0xffffffffu);
        bool again = mine && ((alike & below) != 0 || (taken[target / 32] >> target % 32 & 1u) != 0);
        const u32 other = target - first;
        for (;;) {
            const u32 all = __ballot_sync(ALL_LANES, again);
            const bool chain = mine && !again && other < (u32)lane && (all >> other & 1u) != 0;
            again = again || chain;
            if (!__any_sync(ALL_LANES, chain)) break;
        }
        if (again) target = last;
        if (mine) atomicOr(taken + target / 32, 1u << target % 32);
        __syncwarp();
        drawn += size;
        word += size + (corrections != 0);
    }
    u32 delivered = 0, place = 0;
    for (u32 from = 0; 32 * from < choices; from += 32) {
        const u32 at = from + lane;
        u32 bits = 0;
        if (32 * at < choices) {
            bits = taken[at];
            taken[at] = 0;
        }
        const u32 own = (u32)__popc(bits), until = sum_up_to(own, choices, lane);
        for (u32 i = place + until - own; bits != 0; ++i, bits &= bits - 1) {
            deliver(row, i, 32 * at + (u32)__ffs((int)bits) - 1);
        }
        delivered += own;
        place += __shfl_sync(ALL_LANES, until, 31);
    }
    __syncwarp();
    return delivered;
}

// The middle of a neuron's square on the unit torus.
struct Position {
    double y, x;

    __device__ __forceinline__ Position(u32 neuron, u32 height, u32 width) {
        const u32 place = neuron % (height * width);
        y = ((double)(place / width) + 0.5) / (double)height;
        x = ((double)(place % width) + 0.5) / (double)width;
    }
};

__device__ __forceinline__ double squared_along(double a, double b) {
    const double far = fabs(a - b), round_about = 1.0 - far;
    const double shortest = far < round_about ? far : round_about;
    return shortest * shortest;
}

__device__ __forceinline__ u32 near(const Row &row, int lane) {
    const Table &table = row.table;
    const Position here(row.source, table.from_height, table.from_width);
    const u32 below = (1u << lane) - 1u;
    u32 delivered = 0, place = 0;
    for (u32 from = 0; from < table.choices; from += 64) {
        const u32 pair = from / 2 + (u32)lane;
        u32 words[4];
        draw(words, pair, row.source, table.key0, table.key1);
        bool hit[2];
#pragma unroll
        for (u32 i = 0; i < 2; ++i) {
            const u32 target = 2 * pair + i;
            const Position there(target + (table.skips_itself && target >= row.source), table.to_height, table.to_width);
            const double distance = squared_along(here.y, there.y) + squared_along(here.x, there.x);
            const double probability = row.numbers.rule * exponential(-distance / row.numbers.spread);
            hit[i] = target < table.choices && uniform(words[2 * i], words[2 * i + 1]) < probability;
        }
        const u32 even = __ballot_sync(ALL_LANES, hit[0]), odd = __ballot_sync(ALL_LANES, hit[1]);
        u32 own = place + (u32)__popc(even & below) + (u32)__popc(odd & below);
        if (hit[0]) deliver(row, own++, 2 * pair);
        if (hit[1]) deliver(row, own, 2 * pair + 1);
        delivered += hit[0] + hit[1];
        place += (u32)__popc(even) + (u32)__popc(odd);
    }
    return delivered;
}

extern "C" __global__ void __launch_bounds__(256, 2) procedural_deliver(
    const u32 *__restrict__ fans, const u32 *__restrict__ tables, const double *__restrict__ numbers,
    const u64 *__restrict__ fired, const u32 *__restrict__ fired_count, const u64 *__restrict__ inputs, u32 inputs_from,
    u32 inputs_until, int list, int slot, int slots, int fan, int words, u32 *__restrict__ counts,
    u64 *__restrict__ sums, u64 *__restrict__ events) {
    DYNAMIC_SHARED(u32, bits);
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, warps = (int)blockDim.x / 32;
    u32 *const taken = bits + warp * words;
    for (int i = lane; i < words; i += 32) taken[i] = 0;
    __syncwarp();
    const u64 own = fired_count[list], rows = (own + (inputs_until - inputs_from)) * (u64)fan;
    u64 delivered = 0;
    for (u64 item = (u64)blockIdx.x * warps + warp; item < rows; item += (u64)gridDim.x * warps) {
        const u64 number = item / (u64)fan;
        const u64 spike = number < own ? fired[number] : inputs[inputs_from + (number - own)];
        const u32 neuron = (u32)spike, population = (u32)(spike >> 32) & 0xffffu;
        const u32 which = fans[population] + (u32)(item % (u64)fan);
        if (which >= fans[population + 1]) continue;
        const u32 emitted = ((u32)slot + (u32)(spike >> 48)) % (u32)slots;
        const Table &table = reinterpret_cast<const Table *>(tables)[which];
        const Row row = {table, reinterpret_cast<const Numbers *>(numbers)[which], neuron, emitted, (u32)slots, counts, sums};
        switch (table.targets) {
            case TARGETS_ALL:
                for (u32 i = lane; i < table.choices; i += 32, ++delivered) deliver(row, i, i);
                break;
            case TARGETS_SAME:
                if (lane == 0) {
                    deliver(row, 0, neuron);
                    ++delivered;
                }
                break;
            case TARGETS_JUMPS: delivered += jumps(row, lane); break;
            case TARGETS_DISTINCT: delivered += distinct(row, taken, lane); break;
            case TARGETS_REPEATED: delivered += repeated(row, lane); break;
            case TARGETS_NEAR: delivered += near(row, lane); break;
        }
    }
    add_of_warp(events, delivered, lane);
}
