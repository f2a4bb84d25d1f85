// A step of the neurons that training runs, in every dialect of src/snn/scan: the equations of src/snn/scan/kernel.rs in their
// order, each operation rounded on its own.
#pragma once

#include "tensor.cuh"

// Settings; src/snn/scan/cuda.rs sets them.
#define RESET_NONE 0u
#define RESET_SUBTRACT 1u
#define RESET_TO 2u
#define SAME_STEP 0u
#define NEXT_STEP 1u
#define BEFORE_NEXT_STEP 2u
#define CORRECTED 3u
#define HAS_ABOVE 1u
#define HAS_CURRENT 2u
#define HAS_ADAPTATION 4u
#define HAS_MEMBRANE 8u
#define HAS_HELD 16u
#define HAS_GRAD_SPIKE 32u
#define HAS_GRAD_POTENTIAL 64u
#define HAS_GRAD_MEMBRANE 128u
#define HAS_DETACHED 256u
#define HAS_STRETCH 512u
#define HAS_PAST 1024u
#define HAS_FUTURE 2048u

template <class T> struct Neuron {
    u32 reset, acts, flags;
    T rest, value, decay, gain, theta, alpha, rho, strength;

    __device__ __forceinline__ bool has(u32 flag) const { return (flags & flag) != 0; }
    // Whether the spike of a step acts on the potential of the step after.
    __device__ __forceinline__ bool late() const {
        return reset != RESET_NONE && (acts == NEXT_STEP || acts == CORRECTED);
    }
    // Whether gradients go through a late reset to a value.
    __device__ __forceinline__ bool pulls() const {
        return reset == RESET_TO && acts == NEXT_STEP && !has(HAS_DETACHED);
    }
    __device__ __forceinline__ T fire(T above) const {
        return (has(HAS_ABOVE) ? above > T(0) : above >= T(0)) ? T(1) : T(0);
    }
    // a where s is 0, b where it is 1, exactly.
    static __device__ __forceinline__ T blend(T a, T b, T s) { return (T(1) - s) * a + s * b; }
    // The potential that is carried on after spike s; r is the late reset that took place before.
    __device__ __forceinline__ T after(T u, T s, T r) const {
        if (reset == RESET_NONE || acts == NEXT_STEP) return u;
        if (reset == RESET_SUBTRACT) return acts == CORRECTED ? u - theta * (s - r) : u - theta * s;
        return acts == CORRECTED ? u + (s - r) * (value - u) : blend(u, value, s);
    }
};

#define NUMBERS const T *decay, const T *gain, const T *theta, const T *alpha, const T *rho, const T *strength

template <class T>
__device__ __forceinline__ Neuron<T> neuron(u32 j, u32 spread, u32 reset, u32 acts, u32 flags, double rest, double value,
                                            NUMBERS) {
    auto of = [=](const T *all, int p) { return all[spread >> p & 1u ? j : 0]; };
    return {reset,       acts,         flags,        (T)rest,     (T)value,       of(decay, 0),
            of(gain, 1), of(theta, 2), of(alpha, 3), of(rho, 4), of(strength, 5)};
}

// `Past`, or `Future` of scan.cu, from their planes and back: `each` names those that there are, in order.
template <class T, class State>
__device__ __forceinline__ void load_planes(State &state, const Neuron<T> &n, const T *planes, u64 all, u64 at) {
    state.each(n, [&](T &value) {
        value = planes[at];
        at += all;
    });
}
template <class T, class State>
__device__ __forceinline__ void store_planes(State &state, const Neuron<T> &n, T *planes, u64 all, u64 at) {
    state.each(n, [&](T &value) {
        planes[at] = value;
        at += all;
    });
}

// What the steps before leave: at first nothing but the potential at rest.
template <class T> struct Past {
    T carry, late, current, adaptation, spike;

    // After a step that was kept piece by piece; a late reset is that of its spike.
    __device__ __forceinline__ Past(T carry, T spike, T current, T adaptation)
        : carry(carry), late(spike), current(current), adaptation(adaptation), spike(spike) {}
    __device__ __forceinline__ Past(const Neuron<T> &n, const T *planes, u64 all, u64 at)
        : carry(n.rest), late(T(0)), current(T(0)), adaptation(T(0)), spike(T(0)) {
        if (n.has(HAS_PAST)) load_planes<T>(*this, n, planes, all, at);
    }
    __device__ __forceinline__ void leave(const Neuron<T> &n, T *planes, u64 all, u64 at) {
        if (n.has(HAS_STRETCH)) store_planes<T>(*this, n, planes, all, at);
    }
    // Those that there are, in the order of their planes.
    template <class Each> __device__ __forceinline__ void each(const Neuron<T> &n, Each plane) {
        plane(carry);
        if (n.late()) plane(late);
        if (n.has(HAS_CURRENT)) plane(current);
        if (!n.has(HAS_ADAPTATION)) return;
        plane(adaptation);
        plane(spike);
    }
};

// One step on an input: `now` becomes what it leaves, u the potential that was compared; returns how far that is above the
// threshold. `begun` says whether there was a step before.
template <class T> __device__ __forceinline__ T advance(const Neuron<T> &n, Past<T> &now, T input, bool begun, T &u) {
    now.current = n.has(HAS_CURRENT) ? n.alpha * now.current + n.gain * input : n.gain * input;
    if (n.reset == RESET_TO && n.acts == CORRECTED) now.carry = n.blend(now.carry, n.value, now.late);
    u = n.rest + n.decay * (now.carry - n.rest) + now.current;
    if (n.reset == RESET_SUBTRACT && (n.acts == NEXT_STEP || n.acts == CORRECTED)) u -= n.theta * now.late;
    if (n.reset == RESET_TO && n.acts == NEXT_STEP) u = n.blend(u, n.value, now.late);
    T above = u - n.theta;
    if (n.has(HAS_ADAPTATION)) {
        if (begun) now.adaptation = n.rho * now.adaptation + now.spike;
        above -= n.strength * now.adaptation;
    }
    now.spike = n.fire(above);
    now.carry = n.after(u, now.spike, now.late);
    if (n.acts == NEXT_STEP) now.late = now.spike;
    if (n.acts == CORRECTED) now.late = n.fire(now.carry - n.theta);
    return above;
}
