//! The kernels compiled once for the least processor and once for AVX2; unsafe because the second may only run where
//! AVX2 is. Neither fuses products with sums, so that both give the same bits.
#![allow(unsafe_code)]

use super::kernel::{Feedback, PARAMETERS, Rows, Rule, Scratch};
use crate::tensor::dtype::Float;

macro_rules! twice {
    ($(#[$doc:meta])* $name:ident, $avx2:ident, ($($arg:ident: $type:ty),*)) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments, reason = "those of the kernel and the rule")]
        pub(super) fn $name<F: Float>(rule: &Rule<F>, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has AVX2, as was just asked.
                return unsafe { $avx2(rule, $($arg),*) };
            }
            rule.$name($($arg),*);
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2")]
        #[allow(clippy::too_many_arguments, reason = "those of the kernel and the rule")]
        fn $avx2<F: Float>(rule: &Rule<F>, $($arg: $type),*) {
            rule.$name($($arg),*);
        }
    };
}

twice! {
    /// [`Rule::forward`].
    forward, forward_avx2,
    (rows: &Rows<'_, F>, feedback: Feedback<'_, F>, x: &mut [F], out: (&mut [F], &mut [F], &mut [F]),
     scratch: &mut Scratch<F>)
}

twice! {
    /// [`Rule::backward`].
    backward, backward_avx2,
    (rows: &Rows<'_, F>, feedback: Feedback<'_, F>, saved: (&[F], &[F]), grads: [&[F]; 3], gx: &mut [F],
     sums: &mut [Vec<F>; PARAMETERS], scratch: &mut Scratch<F>)
}

/// Columns that [`add_rows`] takes at a time at most.
pub(super) const COLUMNS: usize = 64;

/// Adds to `sums`, at most [`COLUMNS`], the rows `indices` of `matrix` from column `from` on, one after another, each
/// times its value or 1. `(width, from)`: numbers in a row of the matrix, first column.
pub(super) fn add_rows<F: Float>(
    indices: &[u32],
    values: &[f64],
    matrix: &[F],
    (width, from): (usize, usize),
    sums: &mut [F],
) {
    let n = sums.len();
    #[cfg(target_arch = "x86_64")]
    if let (true, true, Ok(matrix), Ok(sums)) = (
        F::DTYPE == crate::tensor::DType::F32 && values.is_empty(),
        n == COLUMNS && std::arch::is_x86_feature_detected!("avx2"),
        bytemuck::try_cast_slice::<F, f32>(matrix),
        bytemuck::try_cast_slice_mut::<F, f32>(sums),
    ) {
        let rows = matrix.len() / width;
        assert!(from + COLUMNS <= width && indices.iter().all(|&k| (k as usize) < rows));
        // SAFETY: the processor has AVX2; every row is inside the matrix, and its columns inside the row.
        return unsafe { add_64(indices, &matrix[from..], width, sums) };
    }
    if values.is_empty() {
        for &k in indices {
            let row = &matrix[k as usize * width + from..][..n];
            sums.iter_mut().zip(row).for_each(|(sum, &w)| *sum += w);
        }
    } else {
        for (&k, &value) in indices.iter().zip(values) {
            let (row, value) = (&matrix[k as usize * width + from..][..n], F::of_f64(value));
            sums.iter_mut().zip(row).for_each(|(sum, &w)| *sum += value * w);
        }
    }
}

/// 64 sums in eight registers.
///
/// # Safety
/// `matrix` holds 64 numbers from `k · width` on for each index `k`, and `sums` has 64.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn add_64(indices: &[u32], matrix: &[f32], width: usize, sums: &mut [f32]) {
    use std::arch::x86_64::{_mm256_add_ps, _mm256_loadu_ps, _mm256_storeu_ps};
    // SAFETY: the caller promises that all 64 numbers are there, on both sides.
    unsafe {
        let out = sums.as_mut_ptr();
        let mut s: [_; 8] = std::array::from_fn(|i| _mm256_loadu_ps(out.add(8 * i)));
        for &k in indices {
            let row = matrix.as_ptr().add(k as usize * width);
            for (i, s) in s.iter_mut().enumerate() {
                *s = _mm256_add_ps(*s, _mm256_loadu_ps(row.add(8 * i)));
            }
        }
        for (i, s) in s.iter().enumerate() {
            _mm256_storeu_ps(out.add(8 * i), *s);
        }
    }
}
