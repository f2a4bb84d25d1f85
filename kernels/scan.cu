// A population of neurons over all steps in one launch, and its way back: src/snn/scan/kernel.rs has the equations.
//
//   scan        x [T, B, N] (or [1, B, N], held) -> spikes, potentials and, where asked for, membranes [T, B, N]
//   scan_chain  gradients by spikes, potentials and membranes -> gradient by x, and of each parameter one sum over time
//               for every neuron of every sample, [B, N]
//
// A thread is one neuron of one sample; its state stays in registers for all steps, and neighbouring threads are
// neighbouring neurons, so that every access is coalesced. Floor: read x, write s and u (back: read the gradients and u,
// write dx); adaptive thresholds and synaptic currents, which the way back replays, add one write and one read each.
// Every float operation is that of the CPU, rounded alike and in its order: results are equal in every bit, but for held
// input, whose gradient is summed from the last step to the first.
//
// Over some of the steps between others it begins with what the steps before left and leaves its own: planes [.., B, N],
// those that there are, in the order of `Past` and `Future` of src/snn/scan/kernel.rs.
//
// Parameters are one number or one per neuron: bit p of `spread` says which. Absent ones are given as any memory.
//
// Geometry: 256 threads, a thread a neuron, grid x = B N / 256.

#include "scan.cuh"

// What the steps after hand back, at first nothing: gradients by the potential, by what it decays from, by the current and
// by the adaptation, and the potential before a late reset to a value.
template <class T> struct Future {
    T delta, big, e, h, unreset;

    __device__ __forceinline__ Future(const Neuron<T> &n, const T *planes, u64 all, u64 at)
        : delta(T(0)), big(T(0)), e(T(0)), h(T(0)), unreset(n.value) {
        if (n.has(HAS_FUTURE)) load_planes<T>(*this, n, planes, all, at);
    }
    __device__ __forceinline__ void hand_back(const Neuron<T> &n, T *planes, u64 all, u64 at) {
        if (n.has(HAS_STRETCH)) store_planes<T>(*this, n, planes, all, at);
    }
    template <class Each> __device__ __forceinline__ void each(const Neuron<T> &n, Each plane) {
        if (n.acts == NEXT_STEP && n.reset != RESET_NONE) plane(delta);
        plane(big);
        if (n.has(HAS_CURRENT)) plane(e);
        if (n.has(HAS_ADAPTATION)) plane(h);
        if (n.pulls()) plane(unreset);
    }
};

template <class T>
__device__ __forceinline__ void scan(const T *x, NUMBERS, const T *before, T *spikes, T *potentials, T *membranes, T *left,
                                     u32 steps, u32 batch, u32 neurons, u32 spread, u32 reset, u32 acts, u32 flags,
                                     double rest, double value) {
    const u64 all = (u64)batch * neurons, at = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (at >= all) return;
    const Neuron<T> n =
        neuron((u32)(at % neurons), spread, reset, acts, flags, rest, value, decay, gain, theta, alpha, rho, strength);
    Past<T> now(n, before, all, at);
    for (u32 t = 0; t < steps; ++t) {
        T u;
        advance(n, now, x[n.has(HAS_HELD) ? at : t * all + at], t > 0 || n.has(HAS_PAST), u);
        spikes[t * all + at] = now.spike;
        potentials[t * all + at] = u;
        if (n.has(HAS_MEMBRANE)) membranes[t * all + at] = acts == BEFORE_NEXT_STEP ? u : now.carry;
    }
    now.leave(n, left, all, at);
}
FLOATS(scan,
       (const T *x, const T *decay, const T *gain, const T *theta, const T *alpha, const T *rho, const T *strength,
        const T *before, T *spikes, T *potentials, T *membranes, T *left, u32 steps, u32 batch, u32 neurons, u32 spread,
        u32 reset, u32 acts, u32 flags, double rest, double value),
       (x, decay, gain, theta, alpha, rho, strength, before, spikes, potentials, membranes, left, steps, batch, neurons,
        spread, reset, acts, flags, rest, value))

// Planes [T, B, N] of `history`: what the way back cannot find from potentials alone, as far as there is such a thing.
// Adaptation, current, and for a corrected reset the potential that decays and the late reset.
struct History {
    u32 adaptation, current, carry, late;
    __device__ __forceinline__ explicit History(u32 flags) {
        adaptation = 0;
        current = (flags & HAS_ADAPTATION) != 0;
        carry = current + ((flags & HAS_CURRENT) != 0);
        late = carry + 1;
    }
};

template <class T>
__device__ __forceinline__ void scan_chain(const T *x, NUMBERS, const T *before, const T *potentials, const T *grad_s,
                                           const T *grad_u, const T *grad_v, const T *after, T *dx, T *sums, T *back,
                                           T *history, u32 steps, u32 batch, u32 neurons, u32 spread, u32 reset, u32 acts,
                                           u32 flags, u32 wanted, double rest, double value, u32 kind, double a, double b,
                                           double c) {
    const u64 all = (u64)batch * neurons, at = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (at >= all) return;
    const Neuron<T> n =
        neuron((u32)(at % neurons), spread, reset, acts, flags, rest, value, decay, gain, theta, alpha, rho, strength);
    const T p = (T)a, q = (T)b, r = (T)c;
    const Past<T> first(n, before, all, at);
    const History planes(flags);
    auto past = [=](u32 plane, u32 t) -> T & { return history[((u64)plane * steps + t) * all + at]; };
    auto input = [=](u32 t) { return x[n.has(HAS_HELD) ? at : t * all + at]; };
    auto potential = [=](u32 t) { return potentials[t * all + at]; };
    auto above = [=](u32 t, T u) {
        const T above = u - n.theta;
        return n.has(HAS_ADAPTATION) ? above - n.strength * past(planes.adaptation, t) : above;
    };
    const T kappa = n.has(HAS_DETACHED) ? T(0) : T(1);
    const bool pulls = n.pulls();
    const bool keeps_current = n.has(HAS_CURRENT) && ((wanted >> 3 & 1u) || pulls);

    if (n.has(HAS_ADAPTATION) || keeps_current || acts == CORRECTED) {
        T adaptation = first.adaptation, current = first.current, late = first.late, s = first.spike;
        T carry = reset == RESET_TO && acts == CORRECTED ? n.blend(first.carry, n.value, late) : first.carry;
        for (u32 t = 0; t < steps; ++t) {
            const T u = potential(t);
            if (n.has(HAS_ADAPTATION)) {
                if (t > 0 || n.has(HAS_PAST)) adaptation = n.rho * adaptation + s;
                past(planes.adaptation, t) = adaptation;
            }
            s = n.fire(above(t, u));
            if (keeps_current) {
                current = n.alpha * current + n.gain * input(t);
                past(planes.current, t) = current;
            }
            if (acts == CORRECTED) {
                past(planes.carry, t) = carry;
                past(planes.late, t) = late;
                carry = n.after(u, s, late);
                late = reset == RESET_NONE ? T(0) : n.fire(carry - n.theta);
                if (reset == RESET_TO) carry = n.blend(carry, n.value, late);
            }
        }
    }

    Future<T> next(n, after, all, at);
    T &delta = next.delta, &big = next.big, &e = next.e, &h = next.h, held = T(0);
    T d_decay = T(0), d_gain = T(0), d_theta = T(0), d_alpha = T(0), d_rho = T(0), d_strength = T(0);
    T u = steps > 0 ? potential(steps - 1) : T(0), over = steps > 0 ? above(steps - 1, u) : T(0), s = n.fire(over);
    for (u32 t = steps; t-- > 0;) {
        // Of the step before, which this one's late reset and decaying potential come from.
        const T u_before = t > 0 ? potential(t - 1) : T(0);
        const T over_before = t > 0 ? above(t - 1, u_before) : T(0);
        const T s_before = t > 0 ? n.fire(over_before) : T(0);
        const T late = acts == CORRECTED ? past(planes.late, t) : t > 0 ? s_before : first.late;
        const T slope = surrogate(kind, p, q, r, over);
        T g = n.has(HAS_GRAD_SPIKE) ? grad_s[t * all + at] : T(0);
        if (n.has(HAS_ADAPTATION)) g += h;
        const bool shows_carry = acts != BEFORE_NEXT_STEP;
        if (n.has(HAS_GRAD_MEMBRANE) && shows_carry) big += grad_v[t * all + at];
        T along;
        if (reset == RESET_NONE) {
            along = g * slope;
            delta = along + big;
        } else if (acts == NEXT_STEP && reset == RESET_SUBTRACT) {
            d_theta -= delta * s;
            along = (g - kappa * n.theta * delta) * slope;
            delta = along + big;
        } else if (acts == NEXT_STEP) {
            T pull = T(0);
            if (pulls && t + 1 < steps) {
                const T current = n.has(HAS_CURRENT) ? past(planes.current, t + 1) : n.gain * input(t + 1);
                pull = n.value - (n.rest + n.decay * (u - n.rest) + current);
            } else if (pulls) {
                pull = n.value - next.unreset;
            }
            along = (g + kappa * pull * delta) * slope;
            delta = along + big;
        } else if (acts == CORRECTED && reset == RESET_SUBTRACT) {
            along = (g - n.theta * big) * slope;
            delta = along + big;
            d_theta -= big * (s - late) + delta * late;
        } else if (acts == CORRECTED) {
            along = (g + (n.value - u) * big) * slope;
            delta = along + big * (T(1) - (s - late));
        } else if (reset == RESET_SUBTRACT) {
            d_theta -= big * s;
            along = (g - kappa * n.theta * big) * slope;
            delta = along + big;
        } else {
            along = (g + kappa * (n.value - u) * big) * slope;
            delta = along + n.blend(big, T(0), s);
        }
        if (n.has(HAS_GRAD_POTENTIAL)) delta += grad_u[t * all + at];
        if (n.has(HAS_GRAD_MEMBRANE) && !shows_carry) delta += grad_v[t * all + at];
        d_theta -= along;
        if (n.has(HAS_ADAPTATION)) {
            h = n.rho * h - n.strength * along;
            d_strength -= along * past(planes.adaptation, t);
            if (t > 0 || n.has(HAS_PAST)) d_rho += h * (t > 0 ? past(planes.adaptation, t - 1) : first.adaptation);
        }
        // What a late reset to a value overwrites reaches neither the input nor the past.
        g = reset == RESET_TO && acts == NEXT_STEP ? n.blend(delta, T(0), late) : delta;
        if (wanted & 1u) {
            const T carry =
                acts == CORRECTED ? past(planes.carry, t) : t > 0 ? n.after(u_before, s_before, T(0)) : first.carry;
            d_decay += g * (carry - n.rest);
        }
        big = n.decay * g;
        if (reset == RESET_TO && acts == CORRECTED) big = n.blend(big, T(0), late);
        if (n.has(HAS_CURRENT)) {
            e = g + n.alpha * e;
            if ((t > 0 || n.has(HAS_PAST)) && (wanted >> 3 & 1u)) {
                d_alpha += e * (t > 0 ? past(planes.current, t - 1) : first.current);
            }
        } else {
            e = g;
        }
        if (wanted >> 1 & 1u) d_gain += e * input(t);
        if (n.has(HAS_HELD)) {
            held += n.gain * e;
        } else {
            dx[t * all + at] = n.gain * e;
        }
        u = u_before;
        over = over_before;
        s = s_before;
    }
    if (n.has(HAS_HELD)) dx[at] = held;
    if (n.has(HAS_STRETCH) && pulls) {
        const T current = n.has(HAS_CURRENT) ? past(planes.current, 0) : n.gain * input(0);
        next.unreset = n.rest + n.decay * (first.carry - n.rest) + current;
    }
    next.hand_back(n, back, all, at);
    const T found[6] = {d_decay, d_gain, d_theta, d_alpha, d_rho, d_strength};
    u64 plane = 0;
#pragma unroll
    for (int i = 0; i < 6; ++i) {
        if (wanted >> i & 1u) sums[plane++ * all + at] = found[i];
    }
}
FLOATS(scan_chain,
       (const T *x, const T *decay, const T *gain, const T *theta, const T *alpha, const T *rho, const T *strength,
        const T *before, const T *potentials, const T *grad_s, const T *grad_u, const T *grad_v, const T *after, T *dx,
        T *sums, T *back, T *history, u32 steps, u32 batch, u32 neurons, u32 spread, u32 reset, u32 acts, u32 flags,
        u32 wanted, double rest, double value, u32 kind, double a, double b, double c),
       (x, decay, gain, theta, alpha, rho, strength, before, potentials, grad_s, grad_u, grad_v, after, dx, sums, back,
        history, steps, batch, neurons, spread, reset, acts, flags, wanted, rest, value, kind, a, b, c))

// Lists of spikes as a matrix [rows, columns] of zeros and ones (or values): a warp a row. The matrix begins as zeros.
// A source that is listed twice counts twice; entries of a row ascend, so that equal ones are neighbours.
template <class T>
__device__ __forceinline__ void spread_spikes(const u32 *offsets, const u32 *indices, const double *values, T *out, u32 rows,
                                              u32 columns, u32 binary) {
    const u32 row = blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP;
    if (row >= rows) return;
    const u32 last = offsets[row + 1];
    for (u32 i = offsets[row] + threadIdx.x % WARP; i < last; i += WARP) {
        if (i > offsets[row] && indices[i - 1] == indices[i]) continue;
        T sum = T(0);
        for (u32 k = i; k < last && indices[k] == indices[i]; ++k) sum += binary ? T(1) : (T)values[k];
        out[(u64)row * columns + indices[i]] = sum;
    }
}
FLOATS(spread_spikes,
       (const u32 *offsets, const u32 *indices, const double *values, T *out, u32 rows, u32 columns, u32 binary),
       (offsets, indices, values, out, rows, columns, binary))
