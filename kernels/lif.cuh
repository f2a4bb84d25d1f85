// One step of a leaky integrate-and-fire neuron in every dialect that src/snn/neurons/lif.rs has.
#pragma once

// Bits of `dialect`; `Lif::dialect` sets them.
#define FIRES_AT_THRESHOLD 1u
#define RESET_SUBTRACTS 2u
#define RESET_TO_VALUE 4u
#define RESET_NEXT_STEP 8u
#define RESET_BEFORE_NEXT_STEP 16u

struct Lif {
    float decay, gain, rest, threshold, reset_value;
    u32 dialect;
    int refractory_steps;
};

__device__ __forceinline__ bool fired(const Lif &lif, float u) {
    return lif.dialect & FIRES_AT_THRESHOLD ? u >= lif.threshold : u > lif.threshold;
}

__device__ __forceinline__ float after_spike(const Lif &lif, float u) {
    if (lif.dialect & RESET_SUBTRACTS) return __fsub_rn(u, lif.threshold);
    return lif.dialect & RESET_TO_VALUE ? lif.reset_value : u;
}

// One step of one neuron; returns whether it spikes. The order of operations is that of `Lif::step`.
__device__ __forceinline__ bool lif_step(const Lif &lif, float current, float &u, int &silent) {
    if (silent > 0) {
        --silent;
        return false;
    }
    // With a delayed reset, the spike of the step before is read off the membrane it left above threshold.
    const u32 delayed = lif.dialect & (RESET_NEXT_STEP | RESET_BEFORE_NEXT_STEP);
    const bool late = delayed && fired(lif, u);
    if (late && delayed == RESET_BEFORE_NEXT_STEP) u = after_spike(lif, u);
    u = __fadd_rn(__fadd_rn(lif.rest, __fmul_rn(lif.decay, __fsub_rn(u, lif.rest))), __fmul_rn(lif.gain, current));
    if (late && delayed == RESET_NEXT_STEP) u = after_spike(lif, u);
    const bool spike = fired(lif, u);
    if (spike && !delayed) u = after_spike(lif, u);
    if (spike) silent = lif.refractory_steps;
    return spike;
}
