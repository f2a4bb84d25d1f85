//! The inner loops with AVX-512 where it helps most; the others are those of AVX2.
#![allow(unsafe_code)] // Intrinsics read through pointers; lengths are checked by `Simd`'s methods.
#![cfg(target_arch = "x86_64")]

pub(crate) use super::avx2::{affine_i32, bernoulli, lif, lif_constant, product_f32, product_u8};
use super::{Currents, RUN, TILE, Tile, avx2, portable};
use crate::engine::events::Events;
use std::{arch::x86_64::*, ops::Range};

/// See [`super::Simd::dense_i8`]: a row of the tile is one vector.
#[target_feature(enable = "avx512f,avx512bw,avx2")]
pub(crate) fn dense_i8(tile: Tile, events: &Events, steps: Range<usize>, out: Currents) {
    let Currents { values: current, stride, add } = out;
    for (i, step) in steps.enumerate() {
        let current = &mut current[i * stride..][..TILE];
        let list = events.step(step);
        let mut total = [_mm512_setzero_si512(); TILE / 16];
        for run in list.chunks(RUN) {
            let (mut all, mut odd) = (_mm512_setzero_si512(), _mm512_setzero_si512());
            for &source in run {
                // SAFETY: `Events` holds no source beyond its number of sources, for which there are rows.
                let row =
                    unsafe { _mm512_loadu_si512(tile.rows.as_ptr().add(source as usize * TILE).cast()) };
                all = _mm512_add_epi16(all, row);
                odd = _mm512_add_epi16(odd, _mm512_srai_epi16::<8>(row));
            }
            let even = _mm512_sub_epi16(all, _mm512_slli_epi16::<8>(odd));
            let even = _mm512_sub_epi16(even, _mm512_set1_epi16((128 * run.len()) as i16));
            for (i, half) in [
                _mm512_castsi512_si256(even),
                _mm512_castsi512_si256(odd),
                _mm512_extracti64x4_epi64::<1>(even),
                _mm512_extracti64x4_epi64::<1>(odd),
            ]
            .into_iter()
            .enumerate()
            {
                total[i] = _mm512_add_epi32(total[i], _mm512_cvtepi16_epi32(half));
            }
        }
        for (i, &sums) in total.iter().enumerate() {
            avx2::finish(tile, 16 * i, _mm512_castsi512_si256(sums), add, current);
            avx2::finish(tile, 16 * i + 8, _mm512_extracti64x4_epi64::<1>(sums), add, current);
        }
    }
}

/// See [`super::Simd::dense_f32`]: two steps at a time, so that eight additions are under way.
#[target_feature(enable = "avx512f,avx2")]
pub(crate) fn dense_f32(
    rows: &[f32],
    scale: &[f32],
    bias: &[f32],
    events: &Events,
    steps: Range<usize>,
    out: Currents,
) {
    /// `rows` has one for each source.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn add_row(rows: &[f32], sums: &mut [__m512; WIDE], source: u32) {
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `Events` holds no source beyond its number of sources, for which there are rows.
            let row = unsafe { _mm512_loadu_ps(rows.as_ptr().add(source as usize * TILE + 16 * i)) };
            *sum = _mm512_add_ps(*sum, row);
        }
    }
    const WIDE: usize = TILE / 16;
    let Currents { values: current, stride, add } = out;
    assert!(rows.len() >= events.sources() * TILE);
    let first = steps.start;
    for at in steps.clone().step_by(2) {
        let lists = [events.step(at), if at + 1 < steps.end { events.step(at + 1) } else { &[] }];
        let both = lists[0].len().min(lists[1].len());
        let mut sums = [[_mm512_setzero_ps(); WIDE]; 2];
        for (&a, &b) in lists[0].iter().zip(lists[1]) {
            add_row(rows, &mut sums[0], a);
            add_row(rows, &mut sums[1], b);
        }
        for (sums, list) in sums.iter_mut().zip(lists) {
            for &source in &list[both..] {
                add_row(rows, sums, source);
            }
        }
        for (i, sums) in sums.iter().enumerate().take(steps.end - at) {
            let mut numbers = [0f32; TILE];
            for (numbers, &sum) in numbers.chunks_exact_mut(16).zip(sums) {
                // SAFETY: the piece has 16 numbers.
                unsafe { _mm512_storeu_ps(numbers.as_mut_ptr(), sum) };
            }
            let current = &mut current[(at - first + i) * stride..][..TILE];
            portable::finish(&numbers, scale, bias, add, current);
        }
    }
}
