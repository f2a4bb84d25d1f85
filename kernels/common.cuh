// Shared by all kernels: fixed-width names, event lists of a warp, the counter-based random numbers of src/rng.rs.
//
// No header of the toolkit is needed: the text compiles with NVRTC alone, and as C++ under tests/cuda_emu.
#pragma once

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#define ALL_LANES 0xffffffffu

// Dynamic shared memory; tests/cuda_emu has a definition of its own.
#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif

// One block of Philox 4x32-10 (Salmon et al., SC 2011): the same words as `ransnn::rng::philox`.
__device__ __forceinline__ void philox(u32 counter[4], u32 key0, u32 key1) {
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const u32 high0 = __umulhi(0xD2511F53u, counter[0]), low0 = 0xD2511F53u * counter[0];
        const u32 high1 = __umulhi(0xCD9E8D57u, counter[2]), low1 = 0xCD9E8D57u * counter[2];
        counter[0] = high1 ^ counter[1] ^ key0;
        counter[1] = low1;
        counter[2] = high0 ^ counter[3] ^ key1;
        counter[3] = low0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

// Appends `lane * 8 + bit` to `list` for every bit set in the lanes' `mask` of eight; returns how many there are.
// All 32 lanes call it together. The order is by bit, then by lane: fixed, but not ascending.
__device__ __forceinline__ int compact_octets(u32 mask, int lane, u8 *list) {
    const u32 below = (1u << lane) - 1u;
    int events = 0;
#pragma unroll
    for (int bit = 0; bit < 8; ++bit) {
        const u32 lanes = __ballot_sync(ALL_LANES, mask >> bit & 1u);
        if (mask >> bit & 1u) {
            list[events + __popc(lanes & below)] = (u8)(lane * 8 + bit);
        }
        events += __popc(lanes);
    }
    return events;
}

// Adds the sum of a warp's values to `total`. All 32 lanes call it together.
__device__ __forceinline__ void add_of_warp(u64 *total, u64 value, int lane) {
#pragma unroll
    for (int by = 16; by > 0; by /= 2) value += __shfl_down_sync(ALL_LANES, value, by);
    if (lane == 0 && value != 0) atomicAdd(total, value);
}
