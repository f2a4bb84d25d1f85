//! The two inner loops of a convolution, over tiles of [`LANES`] neighbouring positions that stay in registers.
//!
//! Unsafe because of vector instructions, chosen when the program runs. Cost on AVX2: each tile has 12 accumulators, so
//! that two fused multiply-adds a cycle are in flight; loads (5 to 8 for 12 of them) are below that bound, and so are the
//! checks of their bounds by that count, which is why slices are indexed safely.
#![allow(unsafe_code)]

use crate::tensor::DType;
use crate::tensor::dtype::Float;

/// Neighbouring positions that are computed together.
pub(super) const LANES: usize = 8;

/// Some positions.
pub(super) type Lanes<T> = [T; LANES];

/// `Σₖ panel[k, c] · source[offsets[k] + bases[v] ..][..LANES]` for C channels and V groups of positions.
#[inline]
pub(super) fn tile<T: Float, const C: usize, const V: usize>(
    panel: &[T],
    offsets: &[usize],
    source: &[T],
    bases: &[usize; V],
) -> [[Lanes<T>; V]; C] {
    #[cfg(target_arch = "x86_64")]
    if T::DTYPE == DType::F32 && has_avx2() {
        let (panel, source) = (bytemuck::cast_slice(panel), bytemuck::cast_slice(source));
        // SAFETY: the processor has AVX2 and FMA.
        let sums = unsafe { avx2::tile::<C, V>(panel, offsets, source, bases) };
        return sums.map(|row| row.map(|lanes| bytemuck::cast::<_, [f32; LANES]>(lanes).map(same)));
    }
    let mut sums = [[[T::ZERO; LANES]; V]; C];
    for (weights, &offset) in panel.chunks_exact(C).zip(offsets) {
        for (v, &base) in bases.iter().enumerate() {
            let x = &source[offset + base..][..LANES];
            for (sums, &w) in sums.iter_mut().zip(weights) {
                sums[v].iter_mut().zip(x).for_each(|(sum, &x)| *sum += w * x);
            }
        }
    }
    sums
}

/// One operand of [`dots`]: rows of several samples.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, T, const N: usize> {
    /// All samples.
    pub data: &'a [T],
    /// Distance between samples.
    pub stride: usize,
    /// Where each row begins in a sample.
    pub starts: [usize; N],
    /// Where each group of positions begins in a row.
    pub bases: &'a [usize],
}

/// Products of every row of `a` with every row of `b`, summed over positions and samples.
#[inline]
pub(super) fn dots<T: Float, const A: usize, const B: usize>(
    samples: usize,
    a: Rows<'_, T, A>,
    b: Rows<'_, T, B>,
) -> [[T; B]; A] {
    #[cfg(target_arch = "x86_64")]
    if T::DTYPE == DType::F32 && has_avx2() {
        // SAFETY: the processor has AVX2 and FMA.
        let sums = unsafe { avx2::dots::<A, B>(samples, single(a), single(b)) };
        return sums.map(|row| row.map(same));
    }
    let mut sums = [[[T::ZERO; LANES]; B]; A];
    for sample in 0..samples {
        for (&at_a, &at_b) in a.bases.iter().zip(b.bases) {
            for (i, &start) in a.starts.iter().enumerate() {
                let x = &a.data[sample * a.stride + start + at_a..][..LANES];
                for (j, &start) in b.starts.iter().enumerate() {
                    let y = &b.data[sample * b.stride + start + at_b..][..LANES];
                    let pairs = x.iter().zip(y);
                    sums[i][j].iter_mut().zip(pairs).for_each(|(sum, (&x, &y))| *sum += x * y);
                }
            }
        }
    }
    sums.map(|row| row.map(total))
}

/// The same rows, where `T` is `f32`.
#[cfg(target_arch = "x86_64")]
fn single<T: Float, const N: usize>(rows: Rows<'_, T, N>) -> Rows<'_, f32, N> {
    Rows {
        data: bytemuck::cast_slice(rows.data),
        stride: rows.stride,
        starts: rows.starts,
        bases: rows.bases,
    }
}

/// Lanes added in the order of a binary tree, as [`avx2::dots`] adds them.
fn total<T: Float>(lanes: Lanes<T>) -> T {
    let four: [T; 4] = std::array::from_fn(|i| lanes[i] + lanes[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// A number as `T`, which is `f32`.
fn same<T: Float>(x: f32) -> T {
    T::of_f64(x.into())
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    #![allow(clippy::needless_range_loop)] // indices of registers, side by side in several arrays
    use super::{LANES, Rows};
    use std::arch::x86_64::*;

    #[inline(always)]
    fn load(data: &[f32], at: usize) -> __m256 {
        let lanes = &data[at..at + LANES];
        // SAFETY: the slice holds eight numbers; callers have AVX2.
        unsafe { _mm256_loadu_ps(lanes.as_ptr()) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn tile<const C: usize, const V: usize>(
        panel: &[f32],
        offsets: &[usize],
        source: &[f32],
        bases: &[usize; V],
    ) -> [[__m256; V]; C] {
        let mut sums = [[_mm256_setzero_ps(); V]; C];
        for (weights, &offset) in panel.chunks_exact(C).zip(offsets) {
            let mut x = [_mm256_setzero_ps(); V];
            for v in 0..V {
                x[v] = load(source, offset + bases[v]);
            }
            for c in 0..C {
                let w = _mm256_set1_ps(weights[c]);
                for v in 0..V {
                    sums[c][v] = _mm256_fmadd_ps(w, x[v], sums[c][v]);
                }
            }
        }
        sums
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn dots<const A: usize, const B: usize>(
        samples: usize,
        a: Rows<'_, f32, A>,
        b: Rows<'_, f32, B>,
    ) -> [[f32; B]; A] {
        let mut sums = [[_mm256_setzero_ps(); B]; A];
        for sample in 0..samples {
            let (data_a, data_b) = (&a.data[sample * a.stride..], &b.data[sample * b.stride..]);
            for (&at_a, &at_b) in a.bases.iter().zip(b.bases) {
                let mut y = [_mm256_setzero_ps(); B];
                for j in 0..B {
                    y[j] = load(data_b, b.starts[j] + at_b);
                }
                for i in 0..A {
                    let x = load(data_a, a.starts[i] + at_a);
                    for j in 0..B {
                        sums[i][j] = _mm256_fmadd_ps(x, y[j], sums[i][j]);
                    }
                }
            }
        }
        let mut totals = [[0.0; B]; A];
        for i in 0..A {
            for j in 0..B {
                let four =
                    _mm_add_ps(_mm256_castps256_ps128(sums[i][j]), _mm256_extractf128_ps(sums[i][j], 1));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                totals[i][j] = _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
            }
        }
        totals
    }
}
