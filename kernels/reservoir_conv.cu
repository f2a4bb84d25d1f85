// The reservoir pass where a convolution drives the neurons: pixels -> frozen int8 kernels -> LIF over all steps -> counts.
//
//   I[c, y, x] = float(sum over i, dy, dx of pixel[i, y stride + dy - padding, x stride + dx - padding] * w[c, i, dy, dx])
//                * factor[c] + bias[c], the same at every step; zero outside of the image
//   LIF:         `lif_step` of lif.cuh
//   counts[s, c, y, x] = spikes of the neuron while sample s was shown;   activity += all spikes
//
// Sums are exact integers and every float operation is rounded on its own, so that counts equal those of the CPU.
//
// Shapes: pixels [samples, channels_in, height, width], weights [groups, channels_in * kernel * kernel, 8]: the weights
// of eight output channels lie side by side, zero beyond the last one.
//
// Geometry: 256 threads, a thread one position of one sample in eight output channels, whose sums, membranes and counts
// stay in registers. Grid: x = samples * tiles of 256 positions, y = groups. A warp reads neighbouring pixels, and the
// same eight weights: one broadcast of 8 bytes a tap.
//
// Traffic floor: each pixel once and two bytes a neuron written; between them, arithmetic decides: 8 multiply-adds a tap
// for one load of a byte (L1) and one broadcast.

#include "common.cuh"
#include "lif.cuh"

#define GROUP 8

extern "C" __global__ void __launch_bounds__(256) reservoir_conv(
    const u8 *__restrict__ pixels, const i8 *__restrict__ weights, const float *__restrict__ factor,
    const float *__restrict__ bias, float decay, float gain, float rest, float threshold, float reset_value,
    u32 dialect, int refractory_steps, int channels_in, int height, int width, int channels, int rows, int columns,
    int kernel, int stride, int padding, int steps, u16 *__restrict__ counts, u64 *__restrict__ activity) {
    const Lif lif = {decay, gain, rest, threshold, reset_value, dialect, refractory_steps};
    const int positions = rows * columns, tiles = (positions + 255) / 256;
    const u64 sample = blockIdx.x / (u32)tiles;
    const int position = (int)(blockIdx.x % (u32)tiles) * 256 + (int)threadIdx.x, first = (int)blockIdx.y * GROUP;
    const bool inside = position < positions;
    const int top = position / columns * stride - padding, left = position % columns * stride - padding;
    const uint2 *tap = reinterpret_cast<const uint2 *>(weights) + (u64)blockIdx.y * (u64)(channels_in * kernel * kernel);
    const u8 *image = pixels + sample * (u64)(channels_in * height * width);

    int sum[GROUP] = {};
    for (int i = 0; i < channels_in; ++i, image += height * width) {
        for (int dy = 0; dy < kernel; ++dy) {
            const int y = top + dy;
            const bool on_row = inside && y >= 0 && y < height;
            for (int dx = 0; dx < kernel; ++dx, ++tap) {
                const int x = left + dx;
                const int pixel = on_row && x >= 0 && x < width ? (int)__ldg(image + y * width + x) : 0;
                const uint2 eight = __ldg(tap);
#pragma unroll
                for (int k = 0; k < GROUP; ++k) {
                    sum[k] += pixel * (int)(i8)((k < 4 ? eight.x : eight.y) >> (8 * (k % 4)));
                }
            }
        }
    }

    float u[GROUP], current[GROUP];
    int silent[GROUP] = {}, count[GROUP] = {};
#pragma unroll
    for (int k = 0; k < GROUP; ++k) {
        const bool real = first + k < channels;
        u[k] = lif.rest;
        current[k] = __fadd_rn(__fmul_rn(__int2float_rn(sum[k]), real ? factor[first + k] : 0.0f), real ? bias[first + k] : 0.0f);
    }
    for (int t = 0; t < steps; ++t) {
#pragma unroll
        for (int k = 0; k < GROUP; ++k) count[k] += lif_step(lif, current[k], u[k], silent[k]);
    }
    u64 spikes = 0;
#pragma unroll
    for (int k = 0; k < GROUP; ++k) {
        if (inside && first + k < channels) {
            counts[(sample * (u64)channels + (u64)(first + k)) * (u64)positions + position] = (u16)count[k];
            spikes += (u64)count[k];
        }
    }
    add_of_warp(activity, spikes, (int)threadIdx.x % 32);
}
