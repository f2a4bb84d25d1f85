//! Dense products by the `gemm` crate. Unsafe because that crate takes pointers and strides; sizes are checked here.
//!
//! The summation order depends on the shape and the processor, not on the number of threads (tested).
#![allow(unsafe_code)]

use crate::tensor::dtype::Float;

/// A matrix in row-major memory, or its transpose.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    pub data: &'a [T],
    pub rows: usize,
    pub cols: usize,
    /// Whether `data` holds the transpose, of shape `[cols, rows]`.
    pub transposed: bool,
}

impl<T> Matrix<'_, T> {
    /// Distance between neighbours in a row and in a column.
    fn strides(&self) -> (isize, isize) {
        if self.transposed { (self.rows as isize, 1) } else { (1, self.cols as isize) }
    }
}

/// `out = a · b`, with `out` row-major of shape `[a.rows, b.cols]`.
pub(crate) fn product<T: Float>(a: Matrix<'_, T>, b: Matrix<'_, T>, out: &mut [T]) {
    multiply(a, b, T::ONE, false, out);
}

/// `out += factor · a · b`.
pub(crate) fn add_product<T: Float>(a: Matrix<'_, T>, b: Matrix<'_, T>, factor: T, out: &mut [T]) {
    multiply(a, b, factor, true, out);
}

fn multiply<T: Float>(a: Matrix<'_, T>, b: Matrix<'_, T>, factor: T, add: bool, out: &mut [T]) {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    assert!(b.rows == k && a.data.len() == m * k && b.data.len() == k * n && out.len() == m * n);
    if k == 0 || m == 0 || n == 0 {
        if !add {
            out.fill(T::ZERO);
        }
        return;
    }
    let ((a_col, a_row), (b_col, b_row)) = (a.strides(), b.strides());
    // SAFETY: the assertion above says that each slice holds rows × cols elements, and the strides stay inside them;
    // `out` is borrowed mutably, so it overlaps neither operand, and holds values, so that it may be read.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.data.as_ptr(),
            a_col,
            a_row,
            b.data.as_ptr(),
            b_col,
            b_row,
            if add { T::ONE } else { T::ZERO },
            factor,
            false,
            false,
            false,
            gemm::Parallelism::Rayon(0),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_count_gives_the_same_bits() {
        // Around block edges, thin, and large enough for the threaded path.
        for (m, k, n) in [(1, 2000, 10), (128, 2000, 10), (10, 128, 2000), (257, 513, 129), (300, 1100, 310)]
        {
            for (ta, tb) in [(false, false), (true, false), (false, true), (true, true)] {
                let a: Vec<f32> = (0..m * k).map(|i| ((i * 7919) % 1013) as f32 * 1e-3 - 0.5).collect();
                let b: Vec<f32> = (0..k * n).map(|i| ((i * 104_729) % 997) as f32 * 1e-3 - 0.5).collect();
                let with = |threads| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
                    let mut out = vec![f32::NAN; m * n];
                    let a = Matrix { data: &a, rows: m, cols: k, transposed: ta };
                    let b = Matrix { data: &b, rows: k, cols: n, transposed: tb };
                    pool.install(|| product(a, b, &mut out));
                    out
                };
                let one = with(1);
                assert!(one.iter().any(|x| x.abs() > 0.1), "the product is not trivial");
                for threads in [2, 3, 4] {
                    assert!(one == with(threads), "{m}×{k}×{n} differs with {threads} threads");
                }
            }
        }
    }
}
