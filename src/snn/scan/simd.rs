//! The kernels compiled once for the least processor and once for AVX2; unsafe because the second may only run where
//! AVX2 is. Neither fuses products with sums, so that both give the same bits.
#![allow(unsafe_code)]

use super::blocks::Blocks;
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

/// For each row of a block, and with it of `sums`, `[rows, 64]`: adds the rows of `matrix`, `[.., 64]`, that its list
/// names, one after another.
pub(super) fn add_block<F: Float>(blocks: &Blocks, block: usize, matrix: &[F], sums: &mut [F]) {
    assert!(matrix.len() >= blocks.below(block) * COLUMNS && sums.len().is_multiple_of(COLUMNS));
    #[cfg(target_arch = "x86_64")]
    if let (true, true, Ok(matrix), Ok(sums)) = (
        F::DTYPE == crate::tensor::DType::F32,
        std::arch::is_x86_feature_detected!("avx2"),
        bytemuck::try_cast_slice::<F, f32>(matrix),
        bytemuck::try_cast_slice_mut::<F, f32>(sums),
    ) {
        let mut pairs = sums.chunks_exact_mut(2 * COLUMNS);
        let mut row = 0;
        for sums in pairs.by_ref() {
            let lists = [blocks.list(block, row), blocks.list(block, row + 1)];
            row += 2;
            if std::arch::is_x86_feature_detected!("avx512f") {
                // SAFETY: the processor has AVX-512; a list holds no index beyond `below`, for which there are rows.
                unsafe { add_64_twice(lists, matrix, sums) };
            } else {
                let (upper, lower) = sums.split_at_mut(COLUMNS);
                // SAFETY: the processor has AVX2; the rest is as above.
                unsafe {
                    add_64(lists[0], matrix, COLUMNS, upper);
                    add_64(lists[1], matrix, COLUMNS, lower);
                }
            }
        }
        let last = pairs.into_remainder();
        if !last.is_empty() {
            // SAFETY: as above.
            unsafe { add_64(blocks.list(block, row), matrix, COLUMNS, last) };
        }
        return;
    }
    for (i, sums) in sums.chunks_exact_mut(COLUMNS).enumerate() {
        for &k in blocks.list(block, i) {
            let row = &matrix[k as usize * COLUMNS..][..COLUMNS];
            sums.iter_mut().zip(row).for_each(|(sum, &w)| *sum += w);
        }
    }
}

/// Which of 64 numbers are not zero: bit i is number i.
pub(super) fn mask<F: Float>(numbers: &[F]) -> u64 {
    debug_assert!(numbers.len() == COLUMNS);
    #[cfg(target_arch = "x86_64")]
    if let (true, Ok(numbers)) =
        (std::arch::is_x86_feature_detected!("avx2"), bytemuck::try_cast_slice::<F, f32>(numbers))
        && F::DTYPE == crate::tensor::DType::F32
    {
        // SAFETY: the processor has AVX2, as was just asked.
        return unsafe { mask_avx2(numbers) };
    }
    numbers.iter().enumerate().fold(0, |mask, (i, &x)| mask | u64::from(x != F::ZERO) << i)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn mask_avx2(numbers: &[f32]) -> u64 {
    use std::arch::x86_64::{
        _CMP_NEQ_UQ, _mm256_cmp_ps, _mm256_loadu_ps, _mm256_movemask_ps, _mm256_setzero_ps,
    };
    let eight = |numbers: &[f32]| {
        // SAFETY: exactly eight numbers are in a chunk.
        let numbers = unsafe { _mm256_loadu_ps(numbers.as_ptr()) };
        _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NEQ_UQ>(numbers, _mm256_setzero_ps()))
    };
    let chunks = numbers.chunks_exact(8).enumerate();
    chunks.fold(0, |mask, (i, numbers)| mask | (eight(numbers) as u64) << (8 * i))
}

/// Twice 64 sums in eight registers, so that twice four additions are under way at a time.
///
/// # Safety
/// `matrix` holds 64 numbers from `64 k` on for each index `k`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[allow(clippy::needless_range_loop, reason = "indices name registers")]
unsafe fn add_64_twice(lists: [&[u32]; 2], matrix: &[f32], sums: &mut [f32]) {
    use std::arch::x86_64::{_mm512_add_ps, _mm512_loadu_ps, _mm512_setzero_ps, _mm512_storeu_ps};
    assert!(sums.len() == 2 * COLUMNS);
    let mut s = [[_mm512_setzero_ps(); 4]; 2];
    // SAFETY: 128 sums are there, as was just asked, and rows as the caller promises.
    unsafe {
        for i in 0..8 {
            s[i / 4][i % 4] = _mm512_loadu_ps(sums.as_ptr().add(16 * i));
        }
        let both = lists[0].len().min(lists[1].len());
        for (&a, &b) in lists[0].iter().zip(lists[1]) {
            for (s, k) in s.iter_mut().zip([a, b]) {
                let row = matrix.as_ptr().add(k as usize * COLUMNS);
                for i in 0..4 {
                    s[i] = _mm512_add_ps(s[i], _mm512_loadu_ps(row.add(16 * i)));
                }
            }
        }
        for (s, list) in s.iter_mut().zip(lists) {
            for &k in &list[both..] {
                let row = matrix.as_ptr().add(k as usize * COLUMNS);
                for i in 0..4 {
                    s[i] = _mm512_add_ps(s[i], _mm512_loadu_ps(row.add(16 * i)));
                }
            }
        }
        for i in 0..8 {
            _mm512_storeu_ps(sums.as_mut_ptr().add(16 * i), s[i / 4][i % 4]);
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

/// Adds to `sums` the rows of `matrix`, as wide as they, that are named, each times its value, one after another.
#[inline]
pub(super) fn add_products<F: Float>(rows: &[u32], values: &[F], matrix: &[F], sums: &mut [F]) {
    let width = sums.len();
    #[cfg(target_arch = "x86_64")]
    if let (true, Ok(values), Ok(matrix), Ok(sums)) = (
        F::DTYPE == crate::tensor::DType::F32 && std::arch::is_x86_feature_detected!("avx512f"),
        bytemuck::try_cast_slice::<F, f32>(values),
        bytemuck::try_cast_slice::<F, f32>(matrix),
        bytemuck::try_cast_slice_mut::<F, f32>(sums),
    ) {
        let below = matrix.len().checked_div(width).unwrap_or(0);
        // A fold and no `all`, which would look at them one by one.
        let last = rows.iter().fold(0, |last, &row| row.max(last));
        assert!(values.len() >= below && (rows.is_empty() || (last as usize) < below));
        let mut from = 0;
        while from < width {
            let sums = &mut sums[from..];
            // SAFETY: the processor has AVX-512; the rows are inside the matrix, and these columns inside a row.
            from += unsafe {
                match sums.len() {
                    64.. => products::<4>(rows, values, &matrix[from..], width, sums),
                    16.. => products::<1>(rows, values, &matrix[from..], width, sums),
                    _ => break,
                }
            };
        }
        return add_columns(rows, values, matrix, from, sums);
    }
    add_columns(rows, values, matrix, 0, sums);
}

fn add_columns<F: Float>(rows: &[u32], values: &[F], matrix: &[F], from: usize, sums: &mut [F]) {
    let width = sums.len();
    if from < width {
        for &row in rows {
            let (row, value) = (&matrix[row as usize * width..][from..width], values[row as usize]);
            sums[from..].iter_mut().zip(row).for_each(|(sum, &w)| *sum += value * w);
        }
    }
}

/// 16 N sums in N registers. Gives their number.
///
/// # Safety
/// `matrix` holds 16 N numbers from `row · width` on for each row, `values` one for each row of the matrix, and `sums` has
/// 16 N.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn products<const N: usize>(
    rows: &[u32],
    values: &[f32],
    matrix: &[f32],
    width: usize,
    sums: &mut [f32],
) -> usize {
    use std::arch::x86_64::{
        _mm512_add_ps, _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_storeu_ps,
    };
    // SAFETY: the caller promises that all numbers are there.
    unsafe {
        let out = sums.as_mut_ptr();
        let mut s: [_; N] = std::array::from_fn(|i| _mm512_loadu_ps(out.add(16 * i)));
        for &row in rows {
            let value = _mm512_set1_ps(*values.get_unchecked(row as usize));
            let row = matrix.as_ptr().add(row as usize * width);
            for (i, s) in s.iter_mut().enumerate() {
                *s = _mm512_add_ps(*s, _mm512_mul_ps(value, _mm512_loadu_ps(row.add(16 * i))));
            }
        }
        for (i, s) in s.iter().enumerate() {
            _mm512_storeu_ps(out.add(16 * i), *s);
        }
    }
    16 * N
}
