// Spike counts summed over windows of an image.
//
//   pooled[m, r, c] = sum over y in rows[r], x in columns[c] of counts[m, y, x]
//
// Shapes: counts [maps, height, width], rows [windows_y, 2] and columns [windows_x, 2] begin and end, pooled [maps,
// windows_y, windows_x]; a map is one channel of one sample. Sums fit 16 bits: the CPU's engine checks the largest one.
//
// Geometry: 256 threads, a thread one sum; grid: x = sums / 256. Neighbouring threads read neighbouring windows.
//
// Traffic floor: 2 bytes a count read once, 2 bytes a sum written; windows that overlap are read again from the cache.

#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256) pool_counts(
    const u16 *__restrict__ counts, const u32 *__restrict__ rows, const u32 *__restrict__ columns, u64 maps, int height,
    int width, int windows_y, int windows_x, u16 *__restrict__ pooled) {
    const u64 at = (u64)blockIdx.x * 256 + threadIdx.x, windows = (u64)windows_y * (u64)windows_x;
    if (at >= maps * windows) return;
    const u32 window = (u32)(at % windows), r = window / (u32)windows_x, c = window % (u32)windows_x;
    const u16 *map = counts + at / windows * (u64)(height * width);
    u32 sum = 0;
    for (u32 y = rows[2 * r]; y < rows[2 * r + 1]; ++y) {
        for (u32 x = columns[2 * c]; x < columns[2 * c + 1]; ++x) sum += map[y * (u32)width + x];
    }
    pooled[at] = (u16)sum;
}
