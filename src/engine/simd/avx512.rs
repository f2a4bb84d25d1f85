//! The inner loops with AVX-512 where it helps most; the others are those of AVX2.
#![allow(unsafe_code)] // Intrinsics read through pointers; lengths are checked by `Simd`'s methods.
#![cfg(target_arch = "x86_64")]

pub(crate) use super::avx2::{affine_i32, bernoulli, dense_f32, lif, lif_constant, product_f32, product_u8};
use super::{Currents, RUN, TILE, Tile, avx2};
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
