//! The inner loops with AVX2.
#![allow(unsafe_code)] // Intrinsics read and write through pointers; lengths are checked by `Simd`'s methods.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::needless_range_loop)] // Indices name registers here.

use super::{
    BLOCK, Block, Currents, Dialect, Draw, Packed, RUN, TILE, Tile, portable, reset_value, with_dialect,
};
use crate::{engine::events::Events, snn::neurons::Lif};
use std::{arch::x86_64::*, ops::Range};

/// See [`super::Simd::dense_i8`].
#[target_feature(enable = "avx2")]
pub(crate) fn dense_i8(tile: Tile, events: &Events, steps: Range<usize>, out: Currents) {
    let Currents { values: current, stride, add } = out;
    for (i, step) in steps.enumerate() {
        let current = &mut current[i * stride..][..TILE];
        let list = events.step(step);
        if list.len() <= RUN {
            let halves = sum_run(tile.rows, list);
            for (v, [even, odd]) in halves.into_iter().enumerate() {
                for (half, sums) in [even, odd].into_iter().enumerate() {
                    let at = 32 * v + 16 * half;
                    finish(tile, at, _mm256_cvtepi16_epi32(_mm256_castsi256_si128(sums)), add, current);
                    finish(
                        tile,
                        at + 8,
                        _mm256_cvtepi16_epi32(_mm256_extracti128_si256::<1>(sums)),
                        add,
                        current,
                    );
                }
            }
        } else {
            let mut total = [_mm256_setzero_si256(); TILE / 8];
            for run in list.chunks(RUN) {
                for (v, [even, odd]) in sum_run(tile.rows, run).into_iter().enumerate() {
                    for (half, sums) in [even, odd].into_iter().enumerate() {
                        let at = 4 * v + 2 * half;
                        let low = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(sums));
                        let high = _mm256_cvtepi16_epi32(_mm256_extracti128_si256::<1>(sums));
                        total[at] = _mm256_add_epi32(total[at], low);
                        total[at + 1] = _mm256_add_epi32(total[at + 1], high);
                    }
                }
            }
            for (i, &sums) in total.iter().enumerate() {
                finish(tile, 8 * i, sums, add, current);
            }
        }
    }
}

/// Sums of at most [`RUN`] rows: for each half of the tile `[even, odd]` in 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn sum_run(rows: &[u8], list: &[u32]) -> [[__m256i; 2]; 2] {
    let zero = _mm256_setzero_si256();
    let (mut all0, mut all1, mut odd0, mut odd1) = (zero, zero, zero, zero);
    for &source in list {
        // SAFETY: `Events` holds no source beyond its number of sources, for which `Simd::dense_i8` found rows.
        let (r0, r1) = unsafe {
            let row = rows.as_ptr().add(source as usize * TILE).cast::<__m256i>();
            (_mm256_loadu_si256(row), _mm256_loadu_si256(row.add(1)))
        };
        all0 = _mm256_add_epi16(all0, r0);
        all1 = _mm256_add_epi16(all1, r1);
        odd0 = _mm256_add_epi16(odd0, _mm256_srai_epi16::<8>(r0));
        odd1 = _mm256_add_epi16(odd1, _mm256_srai_epi16::<8>(r1));
    }
    let bias = _mm256_set1_epi16((128 * list.len()) as i16);
    let even = |all, odd| _mm256_sub_epi16(_mm256_sub_epi16(all, _mm256_slli_epi16::<8>(odd)), bias);
    [[even(all0, odd0), odd0], [even(all1, odd1), odd1]]
}

#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn finish(tile: Tile, at: usize, sums: __m256i, add: bool, current: &mut [f32]) {
    let (scale, bias, current) = (&tile.scale[at..at + 8], &tile.bias[at..at + 8], &mut current[at..at + 8]);
    // SAFETY: each slice has eight elements.
    unsafe {
        let x = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_loadu_ps(scale.as_ptr()));
        let mut x = _mm256_add_ps(x, _mm256_loadu_ps(bias.as_ptr()));
        if add {
            x = _mm256_add_ps(_mm256_loadu_ps(current.as_ptr()), x);
        }
        _mm256_storeu_ps(current.as_mut_ptr(), x);
    }
}

/// See [`super::Simd::dense_f32`].
#[target_feature(enable = "avx2")]
pub(crate) fn dense_f32(
    rows: &[f32],
    scale: &[f32],
    bias: &[f32],
    events: &Events,
    steps: Range<usize>,
    out: Currents,
) {
    portable::dense_f32(rows, scale, bias, events, steps, out)
}

/// Constants of a [`Lif`], one value in all lanes.
#[derive(Clone, Copy)]
struct Constants {
    decay: __m256,
    gain: __m256,
    rest: __m256,
    threshold: __m256,
    reset: __m256,
}

#[inline]
#[target_feature(enable = "avx2")]
fn constants(lif: &Lif) -> Constants {
    Constants {
        decay: _mm256_set1_ps(lif.decay),
        gain: _mm256_set1_ps(lif.gain),
        rest: _mm256_set1_ps(lif.rest),
        threshold: _mm256_set1_ps(lif.threshold),
        reset: _mm256_set1_ps(reset_value(lif)),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn fires<D: Dialect>(c: &Constants, u: __m256) -> __m256 {
    if D::ABOVE {
        _mm256_cmp_ps::<_CMP_GT_OQ>(u, c.threshold)
    } else {
        _mm256_cmp_ps::<_CMP_GE_OQ>(u, c.threshold)
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn after<D: Dialect>(c: &Constants, u: __m256, fired: __m256) -> __m256 {
    match D::RESET {
        0 => _mm256_sub_ps(u, _mm256_and_ps(fired, c.threshold)),
        1 => _mm256_blendv_ps(u, c.reset, fired),
        _ => u,
    }
}

/// One step of eight neurons; gives the new membrane and who fired. `AT_ZERO`: the rest is 0, which leaves it out.
#[inline]
#[target_feature(enable = "avx2")]
fn lif_step<D: Dialect, const AT_ZERO: bool>(c: &Constants, u: __m256, drive: __m256) -> (__m256, __m256) {
    let decayed = if AT_ZERO {
        _mm256_mul_ps(c.decay, u)
    } else {
        _mm256_add_ps(c.rest, _mm256_mul_ps(c.decay, _mm256_sub_ps(u, c.rest)))
    };
    let mut next = _mm256_add_ps(decayed, drive);
    if D::LATE {
        next = after::<D>(c, next, fires::<D>(c, u));
    }
    let fired = fires::<D>(c, next);
    (if D::LATE { next } else { after::<D>(c, next, fired) }, fired)
}

/// See [`super::Simd::lif`].
#[target_feature(enable = "avx2")]
pub(crate) fn lif(lif: &Lif, block: Block) {
    with_dialect!(lif, lif_as(lif, block))
}

#[target_feature(enable = "avx2")]
fn lif_as<D: Dialect>(lif: &Lif, block: Block) {
    let c = constants(lif);
    let n = block.membrane.len();
    for step in 0..block.steps {
        let current = &block.current[step * n..][..n];
        let words = &mut block.words[step * block.stride..][..n / TILE];
        for (i, word) in words.iter_mut().enumerate() {
            let mut bits = 0u64;
            for lane in 0..TILE / 8 {
                let at = i * TILE + lane * 8;
                // SAFETY: `at + 8 <= n`, the length of all three slices.
                unsafe {
                    let x = _mm256_loadu_ps(current.as_ptr().add(at));
                    let u = _mm256_loadu_ps(block.membrane.as_ptr().add(at));
                    let (u, fired) = lif_step::<D, false>(&c, u, _mm256_mul_ps(c.gain, x));
                    _mm256_storeu_ps(block.membrane.as_mut_ptr().add(at), u);
                    let counts = block.counts.as_mut_ptr().add(at).cast::<__m256i>();
                    let sum = _mm256_sub_epi32(_mm256_loadu_si256(counts), _mm256_castps_si256(fired));
                    _mm256_storeu_si256(counts, sum);
                    bits |= u64::from(_mm256_movemask_ps(fired) as u32) << (8 * lane);
                }
            }
            *word = bits;
        }
    }
}

/// See [`super::Simd::lif_constant`].
#[target_feature(enable = "avx2")]
pub(crate) fn lif_constant(
    lif: &Lif,
    steps: usize,
    current: &[f32],
    counts: &mut [u8],
    membrane: &mut [f32],
) {
    if lif.rest == 0.0 && lif.threshold > 0.0 {
        with_dialect!(lif, constant_at_zero(lif, steps, current, counts, membrane))
    } else {
        with_dialect!(lif, constant_at_rest(lif, steps, current, counts, membrane))
    }
}

#[target_feature(enable = "avx2")]
fn constant_at_zero<D: Dialect>(lif: &Lif, steps: usize, x: &[f32], counts: &mut [u8], membrane: &mut [f32]) {
    constant_as::<D, true>(lif, steps, x, counts, membrane)
}

#[target_feature(enable = "avx2")]
fn constant_at_rest<D: Dialect>(lif: &Lif, steps: usize, x: &[f32], counts: &mut [u8], membrane: &mut [f32]) {
    constant_as::<D, false>(lif, steps, x, counts, membrane)
}

#[inline]
#[target_feature(enable = "avx2")]
fn constant_as<D: Dialect, const AT_ZERO: bool>(
    lif: &Lif,
    steps: usize,
    current: &[f32],
    counts: &mut [u8],
    membrane: &mut [f32],
) {
    let n = current.len();
    let whole = n / 32 * 32;
    for at in (0..whole).step_by(32) {
        constant_lanes::<D, AT_ZERO, 4>(lif, steps, current, counts, membrane, at);
    }
    for at in (whole..n).step_by(8) {
        constant_lanes::<D, AT_ZERO, 1>(lif, steps, current, counts, membrane, at);
    }
}

/// `V` vectors of eight neurons side by side, to hide the latency of the additions.
#[inline]
#[target_feature(enable = "avx2")]
fn constant_lanes<D: Dialect, const AT_ZERO: bool, const V: usize>(
    lif: &Lif,
    steps: usize,
    current: &[f32],
    counts: &mut [u8],
    membrane: &mut [f32],
    at: usize,
) {
    let c = constants(lif);
    let (current, counts) = (&current[at..at + 8 * V], &mut counts[at..at + 8 * V]);
    let mut drive = [c.rest; V];
    for (v, drive) in drive.iter_mut().enumerate() {
        // SAFETY: `current` has `8 V` elements.
        *drive = _mm256_mul_ps(c.gain, unsafe { _mm256_loadu_ps(current.as_ptr().add(8 * v)) });
    }
    let mut u = [c.rest; V];
    let mut sum = [_mm256_setzero_si256(); V];
    let mut count = |v: usize, fired| sum[v] = _mm256_sub_epi32(sum[v], _mm256_castps_si256(fired));
    let mut left = steps;
    if AT_ZERO && left > 0 {
        // From zero, the first step leaves the drive alone.
        left -= 1;
        for v in 0..V {
            let fired = fires::<D>(&c, drive[v]);
            u[v] = if D::LATE { drive[v] } else { after::<D>(&c, drive[v], fired) };
            count(v, fired);
        }
    }
    for _ in 0..left {
        for v in 0..V {
            let (next, fired) = lif_step::<D, AT_ZERO>(&c, u[v], drive[v]);
            u[v] = next;
            count(v, fired);
        }
    }
    for v in 0..V {
        let words = _mm256_packus_epi32(sum[v], sum[v]);
        let bytes = _mm256_packus_epi16(words, words);
        let low = _mm256_extract_epi32::<0>(bytes) as u32;
        let high = _mm256_extract_epi32::<4>(bytes) as u32;
        let eight = u64::from(low) | u64::from(high) << 32;
        counts[8 * v..8 * v + 8].copy_from_slice(&eight.to_le_bytes());
    }
    if !membrane.is_empty() {
        let membrane = &mut membrane[at..at + 8 * V];
        for (v, &u) in u.iter().enumerate() {
            // SAFETY: `membrane` has `8 V` elements.
            unsafe { _mm256_storeu_ps(membrane.as_mut_ptr().add(8 * v), u) };
        }
    }
}

/// See [`super::Simd::product_u8`].
#[target_feature(enable = "avx2")]
pub(crate) fn product_u8(intensities: &[u8], packed: &Packed, rows: usize, out: &mut [i32]) {
    match packed.run {
        4 => product_runs::<4>(intensities, packed, rows, out),
        2 => product_runs::<2>(intensities, packed, rows, out),
        _ => product_runs::<1>(intensities, packed, rows, out),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn product_runs<const RUN: usize>(intensities: &[u8], packed: &Packed, rows: usize, out: &mut [i32]) {
    for block in 0..packed.blocks {
        let whole = rows / 4 * 4;
        for row in (0..whole).step_by(4) {
            product_rows::<RUN, 4>(intensities, packed, block, row, out);
        }
        for row in whole..rows {
            product_rows::<RUN, 1>(intensities, packed, block, row, out);
        }
    }
}

/// `R` rows by one block of sixteen columns.
///
/// Four products of each column are added in pairs in 16 bits (`vpmaddubsw`), `RUN` such vectors on top of each
/// other, then widened to 32 bits (`vpmaddwd` with ones). `Packed::run` promises that 16 bits are enough.
#[inline]
#[target_feature(enable = "avx2")]
fn product_rows<const RUN: usize, const R: usize>(
    intensities: &[u8],
    packed: &Packed,
    block: usize,
    row: usize,
    out: &mut [i32],
) {
    let (groups, columns) = (packed.groups, packed.blocks * BLOCK);
    let k = groups * 4;
    let x = &intensities[row * k..(row + R) * k];
    let weights = &packed.bytes[block * k * BLOCK..(block + 1) * k * BLOCK];
    let ones = _mm256_set1_epi16(1);
    let mut sums = [[_mm256_setzero_si256(); 2]; R];
    let (x, w) = (x.as_ptr(), weights.as_ptr());
    // SAFETY: `g` below stays under `groups`, `r` under `R`: inside `x` and `weights`.
    let four = |r: usize, g: usize| unsafe {
        _mm256_set1_epi32(x.add(r * k + 4 * g).cast::<i32>().read_unaligned())
    };
    // SAFETY: as above.
    let weight = |g: usize, half: usize| unsafe { _mm256_loadu_si256(w.add(g * 64 + half * 32).cast()) };
    let whole = groups / RUN * RUN;
    for g in (0..whole).step_by(RUN) {
        for r in 0..R {
            let mut pair = [_mm256_setzero_si256(); 2];
            for i in 0..RUN {
                let x = four(r, g + i);
                for half in 0..2 {
                    let product = _mm256_maddubs_epi16(x, weight(g + i, half));
                    pair[half] = if i == 0 { product } else { _mm256_add_epi16(pair[half], product) };
                }
            }
            for half in 0..2 {
                sums[r][half] = _mm256_add_epi32(sums[r][half], _mm256_madd_epi16(pair[half], ones));
            }
        }
    }
    for g in whole..groups {
        for r in 0..R {
            let x = four(r, g);
            for half in 0..2 {
                let product = _mm256_maddubs_epi16(x, weight(g, half));
                sums[r][half] = _mm256_add_epi32(sums[r][half], _mm256_madd_epi16(product, ones));
            }
        }
    }
    for (r, sums) in sums.into_iter().enumerate() {
        let out = &mut out[(row + r) * columns + block * BLOCK..][..BLOCK];
        // SAFETY: `out` has sixteen elements.
        unsafe {
            _mm256_storeu_si256(out.as_mut_ptr().cast(), sums[0]);
            _mm256_storeu_si256(out.as_mut_ptr().add(8).cast(), sums[1]);
        }
    }
}

/// See [`super::Simd::product_f32`].
#[target_feature(enable = "avx2")]
pub(crate) fn product_f32(x: &[f32], weights: &[f32], rows: usize, k: usize, out: &mut [f32]) {
    portable::product_f32(x, weights, rows, k, out)
}

/// See [`super::Simd::affine_i32`].
#[target_feature(enable = "avx2")]
pub(crate) fn affine_i32(sums: &[i32], scale: &[f32], bias: &[f32], out: &mut [f32]) {
    portable::affine_i32(sums, scale, bias, out)
}

/// See [`super::Simd::bernoulli`]. Eight Philox blocks at a time.
#[target_feature(enable = "avx2")]
pub(crate) fn bernoulli(draw: &Draw, key: [u32; 2], step: u32, sample: u64, bytes: &mut [u8]) {
    let set = |x: u32| _mm256_set1_epi32(x as i32);
    // Lanes in this order come out of the transposition below as 0, 1, …, 7.
    let order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    for (at, blocks) in draw.blocks.chunks_exact(8).enumerate() {
        // SAFETY: a chunk has eight elements.
        let block = unsafe { _mm256_loadu_si256(blocks.as_ptr().cast()) };
        let counter = [
            _mm256_permutevar8x32_epi32(block, order),
            set(step),
            set(sample as u32),
            set((sample >> 32) as u32),
        ];
        let [o0, o1, o2, o3] = philox(counter, key);
        let (a, b) = (_mm256_unpacklo_epi32(o0, o1), _mm256_unpacklo_epi32(o2, o3));
        let (c, d) = (_mm256_unpackhi_epi32(o0, o1), _mm256_unpackhi_epi32(o2, o3));
        let words = [
            _mm256_unpacklo_epi64(a, b),
            _mm256_unpackhi_epi64(a, b),
            _mm256_unpacklo_epi64(c, d),
            _mm256_unpackhi_epi64(c, d),
        ];
        let (at_most, can_fire) =
            (&draw.at_most[at * 64..at * 64 + 64], &draw.can_fire[at * 64..at * 64 + 64]);
        let mut fired = [_mm256_setzero_si256(); 4];
        for i in 0..4 {
            // SAFETY: both slices have 64 elements.
            let (most, can) = unsafe {
                (
                    _mm256_loadu_si256(at_most.as_ptr().add(16 * i).cast()),
                    _mm256_loadu_si256(can_fire.as_ptr().add(16 * i).cast()),
                )
            };
            fired[i] = _mm256_and_si256(_mm256_cmpeq_epi16(_mm256_min_epu16(words[i], most), words[i]), can);
        }
        let mask = |low, high| {
            let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi16(low, high));
            _mm256_movemask_epi8(packed) as u32
        };
        let masks = u64::from(mask(fired[0], fired[1])) | u64::from(mask(fired[2], fired[3])) << 32;
        let used = (draw.used - at * 8).min(8);
        for (&block, byte) in blocks[..used].iter().zip(masks.to_le_bytes()) {
            bytes[block as usize] = byte;
        }
    }
}

/// [`crate::rng::philox`] in eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn philox(mut counter: [__m256i; 4], mut key: [u32; 2]) -> [__m256i; 4] {
    let multiply = |x: __m256i, by: u32| {
        let by = _mm256_set1_epi32(by as i32);
        let even = _mm256_mul_epu32(x, by);
        let odd = _mm256_mul_epu32(_mm256_srli_epi64::<32>(x), by);
        let low = _mm256_blend_epi32::<0b1010_1010>(even, _mm256_slli_epi64::<32>(odd));
        let high = _mm256_blend_epi32::<0b1010_1010>(_mm256_srli_epi64::<32>(even), odd);
        (low, high)
    };
    for _ in 0..10 {
        let (low0, high0) = multiply(counter[0], 0xD251_1F53);
        let (low1, high1) = multiply(counter[2], 0xCD9E_8D57);
        let mix = |high, other, key: u32| {
            _mm256_xor_si256(_mm256_xor_si256(high, other), _mm256_set1_epi32(key as i32))
        };
        counter = [mix(high1, counter[1], key[0]), low1, mix(high0, counter[3], key[1]), low0];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}
