// Training forward in time, e-prop and OTTT, a step at a time: src/learn/surrogate/model/online.rs has the equations.
//
//   online_step      currents [B, N] -> spikes, s'(u - theta - b a) and, where asked for, membranes [B, N]; the state of the
//                    neurons in place
//   online_filter    i <- alpha i + s,  e <- beta e + i                              of spikes [B, K], or of one number
//   online_loss      signal = share (softmax(scores) - 1[label]),  outputs += scores [B, C]; a loss [B] for every sample
//   online_delta     delta = signal s' g, or signal g [B, N]
//   online_collect   sum_j += e sum_r delta_rj                                       e one number, delta [R, N], sum [N]
//   online_synapses  E <- kappa E + s' g e,  sum_ij += sum_b signal_bj E_ibj         E [K, B, N], e [B, K] or one number
//                    with a threshold that adapts  E <- kappa E + p,  A <- rho A + p,  p = s' (g e - b A)
//
// sum_ij += sum_b e_bi delta_bj is a dense product. Numbers of a population are read from memory, one each, so that the host
// need not know them. Every operation on f32 is that of the CPU, in its order; the softmax is in f64 as there, its sum in
// another order. Floor: online_step reads x and the state, writes the state, s and the slope; online_synapses reads and
// writes E (and A) once, and signal and slope come from the cache.
//
// Geometry: 256 threads, a thread an element, grid x = elements / 256: neurons and samples of online_step and online_delta,
// traces of online_filter, sums of online_collect and online_synapses, which go over the batch in order. online_loss: a warp
// a row where rows have at most 1024 elements (`wide` = 0, grid x = rows / 8), else a block a row (grid x = rows).

#include "scan.cuh"

extern "C" __global__ void __launch_bounds__(THREADS)
    online_step(const float *x, const float *decay, const float *gain, const float *theta, const float *alpha,
                const float *rho, const float *strength, const float *before, float *carry, float *current,
                float *adaptation, float *spikes, float *membranes, float *slope, u32 reset, u32 acts, u32 flags, double rest,
                double value, u32 kind, double a, double b, double c, u64 n) {
    const u64 at = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (at >= n) return;
    const Neuron<float> of =
        neuron<float>(0, 0, reset, acts, flags, rest, value, decay, gain, theta, alpha, rho, strength);
    Past<float> now(carry[at], before[at], of.has(HAS_CURRENT) ? current[at] : 0.0f,
                    of.has(HAS_ADAPTATION) ? adaptation[at] : 0.0f);
    float u;
    const float above = advance(of, now, x[at], true, u);
    carry[at] = now.carry;
    if (of.has(HAS_CURRENT)) current[at] = now.current;
    if (of.has(HAS_ADAPTATION)) adaptation[at] = now.adaptation;
    spikes[at] = now.spike;
    slope[at] = surrogate(kind, (float)a, (float)b, (float)c, above);
    if (of.has(HAS_MEMBRANE)) membranes[at] = acts == BEFORE_NEXT_STEP ? u : now.carry;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    online_filter(const float *spikes, const float *decay, const float *alpha, float *current, float *trace, u32 filters,
                  u64 n) {
    const u64 at = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (at >= n) return;
    float heard = spikes[at];
    if (filters) current[at] = heard = alpha[0] * current[at] + heard;
    trace[at] = decay[0] * trace[at] + heard;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    online_loss(const float *scores, const u32 *labels, float *signal, float *outputs, double *losses, u32 rows, u32 n,
                u32 wide, double share) {
    __shared__ double sums[THREADS / WARP];
    __shared__ float most[THREADS / WARP];
    const Team team(wide);
    if (team.row >= rows) return;
    const u64 first = (u64)team.row * n;
    const u32 label = labels[team.row];
    float largest = scores[first];
    for (u32 i = team.rank; i < n; i += team.size) largest = Larger()(largest, scores[first + i]);
    largest = team.reduce(largest, Larger(), most);
    double sum = 0.0;
    for (u32 i = team.rank; i < n; i += team.size) sum += exponential((double)(scores[first + i] - largest));
    sum = team.reduce(sum, Plus(), sums);
    for (u32 i = team.rank; i < n; i += team.size) {
        const float score = scores[first + i];
        const double p = exponential((double)(score - largest)) / sum;
        signal[first + i] = (float)(share * (p - (i == label ? 1.0 : 0.0)));
        outputs[first + i] += score;
    }
    if (team.rank == 0) losses[team.row] += share * (logarithm(sum) - (double)(scores[first + label] - largest));
}

extern "C" __global__ void __launch_bounds__(THREADS)
    online_delta(const float *signal, const float *slope, const float *gain, float *delta, u32 through, u64 n) {
    const u64 at = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (at < n) delta[at] = through ? signal[at] * gain[0] : signal[at] * slope[at] * gain[0];
}

extern "C" __global__ void __launch_bounds__(THREADS)
    online_collect(const float *trace, const float *delta, float *sum, u32 rows, u64 n) {
    const u64 at = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (at >= n) return;
    const float epsilon = trace[0];
    float total = sum[at];
#pragma unroll 4
    for (u32 r = 0; r < rows; ++r) total += epsilon * delta[r * n + at];
    sum[at] = total;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    online_synapses(const float *trace, const float *signal, const float *slope, const float *kappa, const float *gain,
                    const float *rho, const float *strength, float *filtered, float *adaptation, float *sum, u32 sources,
                    u32 batch, u32 neurons, u32 shared, u32 adapts) {
    const u64 at = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (at >= (u64)sources * neurons) return;
    const u64 i = at / neurons, j = at - i * neurons;
    const float keep = kappa[0], g = gain[0], r = rho[0], s = strength[0];
    float total = sum[at];
#pragma unroll 4
    for (u32 b = 0; b < batch; ++b) {
        const u64 place = (i * batch + b) * neurons + j, here = (u64)b * neurons + j;
        const float epsilon = g * trace[shared ? 0 : (u64)b * sources + i];
        float spike;
        if (adapts) {
            const float a = adaptation[place];
            spike = slope[here] * (epsilon - s * a);
            adaptation[place] = r * a + spike;
        } else {
            spike = epsilon * slope[here];
        }
        const float e = keep * filtered[place] + spike;
        filtered[place] = e;
        total += signal[here] * e;
    }
    sum[at] = total;
}
