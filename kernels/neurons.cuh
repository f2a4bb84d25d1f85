// One step of the neuron models of simulations: those of src/snn/neurons, in single precision and the same order of
// operations, each rounded on its own. A model lists its constants in the order in which its `on_gpu` gives them.
#pragma once

#include "lif.cuh"
#include "math.cuh"

// Numbers of the models; src/snn/neuron.rs has the same.
#define MODEL_IAF_DELTA 0
#define MODEL_IAF_ONE 1
#define MODEL_IAF_TWO 2
#define MODEL_LIF 3
#define MODEL_COND_LIF 4
#define MODEL_ADAPTIVE_LIF 5
#define MODEL_IZHIKEVICH 6
#define MODEL_ALPHA_LIF 7
#define MODEL_ADEX 8

// What the receptors of a neuron get in a step, in the order of the model's receptors.
struct Received {
    float first, second, third;

    __device__ __forceinline__ void add(u32 receptor, float value) {
        if (receptor == 0) first += value;
        else if (receptor == 1) second += value;
        else third += value;
    }
};

// src/snn/neurons/iaf.rs, `Factors::numbers`.
struct Iaf {
    const float *constants;

    // When input acts: 0 first, 1 before the comparison, 2 last.
    __device__ __forceinline__ bool acts(int when) const { return constants[0] == (float)when; }
    __device__ __forceinline__ float leak() const { return constants[1]; }
    __device__ __forceinline__ float level() const { return constants[2]; }
    __device__ __forceinline__ float injected(float current) const { return constants[3] * current; }
    __device__ __forceinline__ float decay(int which) const { return constants[4 + which]; }
    __device__ __forceinline__ float coupling(int which) const { return constants[6 + which]; }

    // Adds input to a current and lets it decay; gives the current that is integrated.
    __device__ __forceinline__ float synapse(int which, float &current, float x) const {
        float before = current;
        if (acts(0)) before = before + x;
        current = acts(0) ? decay(which) * before : decay(which) * before + x;
        return before;
    }

    // Holds the membrane in the refractory period, compares and resets.
    __device__ __forceinline__ bool fire(float driven, float &u, float &hold) const {
        const bool held = hold > 0.0f;
        const float next = held ? u : driven;
        const bool spike = !held && next > constants[8];
        const float less = hold - 1.0f;
        hold = (less > 0.0f ? less : 0.0f) + (spike ? constants[10] : 0.0f);
        u = spike ? constants[9] : next;
        return spike;
    }
};

struct IafDelta {
    static constexpr int STATES = 2;  // membrane, steps left of the refractory period

    static __device__ __forceinline__ bool step(const float *constants, const Received &x, float s[]) {
        const Iaf iaf = {constants};
        const bool held = s[1] > 0.0f;
        const float from = iaf.acts(0) ? s[0] + x.first : s[0];
        float driven = from + iaf.leak() * (iaf.level() - from) + iaf.injected(x.second);
        if (iaf.acts(1)) driven = driven + x.first;
        const bool spike = iaf.fire(driven, s[0], s[1]);
        if (iaf.acts(2) && !spike && !held) s[0] = s[0] + x.first;
        return spike;
    }
};

struct IafOne {
    static constexpr int STATES = 3;  // membrane, current, steps left

    static __device__ __forceinline__ bool step(const float *constants, const Received &x, float s[]) {
        const Iaf iaf = {constants};
        const float before = iaf.synapse(0, s[1], x.first);
        const float driven =
            s[0] + iaf.leak() * (iaf.level() - s[0]) + iaf.coupling(0) * before + iaf.injected(x.second);
        return iaf.fire(driven, s[0], s[2]);
    }
};

struct IafTwo {
    static constexpr int STATES = 4;  // membrane, two currents, steps left

    static __device__ __forceinline__ bool step(const float *constants, const Received &x, float s[]) {
        const Iaf iaf = {constants};
        const float first = iaf.synapse(0, s[1], x.first), second = iaf.synapse(1, s[2], x.second);
        const float driven = s[0] + iaf.leak() * (iaf.level() - s[0]) + iaf.coupling(0) * first +
                             iaf.coupling(1) * second + iaf.injected(x.third);
        return iaf.fire(driven, s[0], s[3]);
    }
};

// decay, gain, rest, threshold, reset value, dialect, refractory steps
struct LifModel {
    static constexpr int STATES = 2;  // membrane, steps left; the second is not stored where there is no such period

    static __device__ __forceinline__ bool step(const float *c, const Received &x, float s[]) {
        const Lif lif = {c[0], c[1], c[2], c[3], c[4], (u32)c[5], (int)c[6]};
        int silent = (int)s[1];
        const bool spike = lif_step(lif, x.first, s[0], silent);
        s[1] = (float)silent;
        return spike;
    }
};

// Whether a neuron is refractory in this step; counts it down.
__device__ __forceinline__ bool held(float &left) {
    const bool yes = left > 0.0f;
    if (yes) left = left - 1.0f;
    return yes;
}

// leak, 1 / C, current, rest, E_e, E_i, threshold, reset, refractory steps, h, 3 decays of g_e, 3 of g_i
struct CondLif {
    static constexpr int STATES = 4;  // membrane, two conductances, steps left

    static __device__ __forceinline__ float rate(const float *c, int stage, float v, float g_e, float g_i, float drive) {
        return c[0] * (c[3] - v) + g_e * c[10 + stage] * (c[4] - v) + g_i * c[13 + stage] * (c[5] - v) + drive;
    }

    static __device__ __forceinline__ bool step(const float *c, const Received &x, float s[]) {
        const float v = s[0], g_e = s[1] * c[1], g_i = s[2] * c[1], h = c[9];
        s[1] = s[1] * c[12] + x.first;
        s[2] = s[2] * c[15] + x.second;
        if (held(s[3])) return false;
        const float drive = c[2] + x.third * c[1], half = h * 0.5f, sixth = h * (1.0f / 6.0f);
        const float k1 = rate(c, 0, v, g_e, g_i, drive), k2 = rate(c, 1, v + half * k1, g_e, g_i, drive);
        const float k3 = rate(c, 1, v + half * k2, g_e, g_i, drive), k4 = rate(c, 2, v + h * k3, g_e, g_i, drive);
        const float next = v + sixth * (k1 + 2.0f * k2 + 2.0f * k3 + k4);
        const bool spike = next >= c[6];
        s[0] = spike ? c[7] : next;
        if (spike) s[3] = c[8];
        return spike;
    }
};

// leak, per current, (decay, response) of g_e, g_i and w, decay of the threshold, rest, threshold, reset, refractory
// steps, current, what a spike adds to w and to the threshold
struct AdaptiveLif {
    static constexpr int STATES = 6;  // membrane, two currents, adaptation, threshold's shift, steps left

    static __device__ __forceinline__ bool step(const float *c, const Received &x, float s[]) {
        const float v = s[0], e = s[1], i = s[2], w = s[3];
        s[1] = c[2] * e + x.first;
        s[2] = c[4] * i + x.second;
        s[3] = c[6] * w;
        s[4] = c[8] * s[4];
        if (held(s[5])) return false;
        const float drive = c[1] * (c[13] + x.third);
        const float next = v + c[0] * (c[9] - v) + c[3] * e + c[5] * i - c[7] * w + drive;
        const bool spike = next >= c[10] + s[4];
        s[0] = spike ? c[11] : next;
        if (spike) {
            s[3] = s[3] + c[14];
            s[4] = s[4] + c[15];
            s[5] = c[12];
        }
        return spike;
    }
};

// h, h / 2, a, b, c, d, threshold, current, published scheme, 0.04, 5, 140
struct Izhikevich {
    static constexpr int STATES = 2;  // membrane, recovery

    static __device__ __forceinline__ float rate(const float *c, float v, float u, float x) {
        return c[9] * v * v + c[10] * v + c[11] - u + x;
    }

    static __device__ __forceinline__ bool step(const float *c, const Received &received, float s[]) {
        const float x = c[7] + received.first, jump = received.second;
        float v = s[0], u = s[1];
        if (c[8] == 0.0f) {
            const float next = v + c[0] * rate(c, v, u, x) + jump;
            u = u + c[0] * c[2] * (c[3] * v - u);
            v = next;
        } else {
            v = v + c[1] * rate(c, v, u, x);
            v = v + c[1] * rate(c, v, u, x);
            u = u + c[0] * c[2] * (c[3] * v - u);
            v = v + jump;
        }
        const bool spike = v >= c[6];
        s[0] = spike ? c[4] : v;
        s[1] = spike ? u + c[5] : u;
        return spike;
    }
};

// decay, parts of current and slope that reach the membrane, jump, of the excitatory and of the inhibitory current; leak,
// per current, current, rest, threshold, reset, refractory steps, h
struct AlphaLif {
    static constexpr int STATES = 6;  // membrane, current and its slope of both receptors, steps left

    static __device__ __forceinline__ void synapse(const float *c, float h, float x, float &current, float &slope) {
        current = c[0] * (current + h * slope);
        slope = c[0] * slope + c[3] * x;
    }

    static __device__ __forceinline__ bool step(const float *c, const Received &x, float s[]) {
        const float v = s[0], synaptic = c[1] * s[1] + c[2] * s[2] + c[5] * s[3] + c[6] * s[4];
        synapse(c, c[15], x.first, s[1], s[2]);
        synapse(c + 4, c[15], x.second, s[3], s[4]);
        if (held(s[5])) return false;
        const float drive = c[9] * (c[10] + x.third);
        const float next = v + c[8] * (c[11] - v) + synaptic + drive;
        const bool spike = next >= c[12];
        s[0] = spike ? c[13] : next;
        if (spike) s[5] = c[14];
        return spike;
    }
};

// Runge-Kutta steps, h, 3 decays of the excitatory synapses, 3 of the inhibitory ones, conductances or currents, E_e, E_i,
// 1 / C, g_L, E_L, V_T, slope, peak, reset, a, b, 1 / tau_w, refractory steps, current
struct AdEx {
    static constexpr int STATES = 5;  // membrane, adaptation current, both synapses, steps left

    const float *c;
    float e, i, drive;
    bool clamped;

    __device__ __forceinline__ float at_most_peak(float v) const { return v < c[16] ? v : c[16]; }

    // Slopes of membrane and adaptation at a stage: 0 start, 1 middle, 2 end.
    __device__ __forceinline__ void rates(int stage, float v, float w, float &dv, float &dw) const {
        v = clamped ? c[17] : at_most_peak(v);
        const float g_e = e * c[2 + stage], g_i = i * c[5 + stage];
        const float synaptic = c[8] == 0.0f ? g_e + g_i : g_e * (c[9] - v) + g_i * (c[10] - v);
        const float upswing = c[12] * c[15] * exponential((v - c[14]) / c[15]);
        const float current = c[12] * (c[13] - v) + upswing - w + synaptic + drive;
        dv = clamped ? 0.0f : current * c[11];
        dw = (c[18] * (v - c[13]) - w) * c[20];
    }

    __device__ __forceinline__ void advance(float &v, float &w) const {
        const float h = c[1], half = h * 0.5f, sixth = h * (1.0f / 6.0f);
        float v1, w1, v2, w2, v3, w3, v4, w4;
        rates(0, v, w, v1, w1);
        rates(1, v + half * v1, w + half * w1, v2, w2);
        rates(1, v + half * v2, w + half * w2, v3, w3);
        rates(2, v + h * v3, w + h * w3, v4, w4);
        v = v + sixth * (v1 + 2.0f * v2 + 2.0f * v3 + v4);
        w = w + sixth * (w1 + 2.0f * w2 + 2.0f * w3 + w4);
    }

    static __device__ __forceinline__ bool step(const float *c, const Received &x, float s[]) {
        bool spike = false;
        for (int k = (int)c[0]; k > 0; --k) {
            // Refractory since an earlier step, or since a spike in this one.
            const bool clamped = s[4] > 0.0f || (spike && c[21] > 0.0f);
            const AdEx neuron = {c, s[2], s[3], c[22] + x.third, clamped};
            float v = s[0], w = s[1];
            neuron.advance(v, w);
            s[2] = s[2] * c[4];
            s[3] = s[3] * c[7];
            const bool fires = v >= c[16] && !spike && !clamped;
            // What would be a second spike in the step waits for the next one.
            s[0] = fires ? c[17] : neuron.at_most_peak(v);
            s[1] = fires ? w + c[19] : w;
            spike = spike || fires;
        }
        s[2] = s[2] + x.first;
        s[3] = s[3] + x.second;
        held(s[4]);
        if (spike) s[4] = c[21];
        return spike;
    }
};
