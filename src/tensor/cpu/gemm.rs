//! Dense products by the `gemm` crates, of which only those for real numbers are built. Unsafe because they take pointers and strides; sizes are checked here.
//!
//! The summation order depends on the shape and the processor, not on the number of threads (tested).
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};

use gemm_common::Parallelism;

use super::wide::{self, Width, Work};
use crate::parallel;
use crate::tensor::dtype::Float;

/// A matrix in memory: element `(i, j)` stands at `i · row_stride + j · col_stride`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a, T> {
    data: &'a [T],
    pub rows: usize,
    pub cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Row-major.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Row-major, with rows that begin `row_stride` apart: columns out of a wider matrix.
    pub fn strided(data: &'a [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        let needed = if rows == 0 || cols == 0 { 0 } else { (rows - 1) * row_stride + cols };
        assert!(needed <= data.len() && cols <= row_stride.max(cols), "a matrix inside of its memory");
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose, over the same memory.
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// The product of a `gemm` crate: sizes; destination with the strides of columns and rows, and whether to add to it; both
/// operands with theirs; factors of the destination and of the product; conjugations; threads.
type Product<T> = unsafe fn(
    usize,
    usize,
    usize,
    *mut T,
    isize,
    isize,
    bool,
    *const T,
    isize,
    isize,
    *const T,
    isize,
    isize,
    T,
    T,
    bool,
    bool,
    bool,
    Parallelism,
);

/// Numbers of which there are dense products.
pub(crate) trait Dense: Sized {
    /// For the processor at hand.
    fn product() -> Product<Self>;
}

impl Dense for f32 {
    fn product() -> Product<Self> {
        gemm_f32::gemm::f32::get_gemm_fn()
    }
}

impl Dense for f64 {
    fn product() -> Product<Self> {
        gemm_f64::gemm::f64::get_gemm_fn()
    }
}

/// `out = a · b` on all threads, with `out` row-major of shape `[a.rows, b.cols]`.
pub(crate) fn product<T: Float>(a: Matrix<'_, T>, b: Matrix<'_, T>, out: &mut [T]) {
    run(a, b, T::ONE, false, out, Parallelism::Rayon(0));
}

/// `out = a · b` on the calling thread.
pub(crate) fn product_here<T: Float>(a: Matrix<'_, T>, b: Matrix<'_, T>, out: &mut [T]) {
    run(a, b, T::ONE, false, out, Parallelism::None);
}

/// `out += factor · a · b` on all threads.
pub(crate) fn add_product<T: Float>(a: Matrix<'_, T>, b: Matrix<'_, T>, factor: T, out: &mut [T]) {
    run(a, b, factor, true, out, Parallelism::Rayon(0));
}

/// Elements of a sum with a product that are computed at once: they stay in the cache between the two.
const PIECE: usize = 64 * 1024;

/// `to + factor · a · b` on all threads, row-major, of shapes `[m, n]`, `[m, k]` and `[k, n]`, and whether all of it is finite.
/// Memory is gone through once: each piece is copied, added to and looked at while it is in the cache.
pub(crate) fn sum_with_product<T: Float>(
    to: &[T],
    a: &[T],
    b: &[T],
    [m, k, n]: [usize; 3],
    factor: T,
) -> (Vec<T>, bool) {
    assert!(to.len() == m * n, "{m} × {n}");
    let mut sum = Vec::with_capacity(to.len());
    let rows = (PIECE / n.max(1)).max(1);
    let finite = AtomicBool::new(true);
    let piece = |i: usize, out: &mut [std::mem::MaybeUninit<T>]| {
        let first = i * rows;
        for (out, &to) in out.iter_mut().zip(&to[first * n..]) {
            out.write(to);
        }
        // SAFETY: `to` has as many elements from there on as `out`: all were just written.
        let out = unsafe { &mut *(std::ptr::from_mut(out) as *mut [T]) };
        let m = out.len() / n;
        add_product_here(Matrix::new(&a[first * k..], m, k), Matrix::new(b, k, n), factor, out);
        if !wide::run(Finite(out)) {
            finite.store(false, Ordering::Relaxed);
        }
    };
    parallel::chunks_mut(&mut sum.spare_capacity_mut()[..to.len()], rows * n, piece);
    // SAFETY: every piece wrote its elements, and together they are all of them.
    unsafe { sum.set_len(to.len()) };
    (sum, finite.into_inner())
}

/// Whether there is neither NaN nor infinity: what is finite is 0 times 0.
struct Finite<'a, T>(&'a [T]);

impl<T: Float> Work for Finite<'_, T> {
    type Out = bool;
    const WIDEST: Width = Width::of_memory::<T>();

    #[inline(always)]
    fn run(self) -> bool {
        self.0.iter().fold(true, |finite, &x| finite & (x * T::ZERO == T::ZERO))
    }
}

/// `out += factor · a · b` on the calling thread.
pub(crate) fn add_product_here<T: Float>(a: Matrix<'_, T>, b: Matrix<'_, T>, factor: T, out: &mut [T]) {
    run(a, b, factor, true, out, Parallelism::None);
}

fn run<T: Float>(
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    factor: T,
    add: bool,
    out: &mut [T],
    threads: Parallelism,
) {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    assert!(b.rows == k && out.len() == m * n, "{m} × {k} times {} × {n}", b.rows);
    if k == 0 || m == 0 || n == 0 {
        if !add {
            out.fill(T::ZERO);
        }
        return;
    }
    // The crates write columns: where `out` has rows, the transpose bᵀ · aᵀ is computed.
    let (left, right, m, n, strides) =
        if n > 1 { (b.t(), a.t(), n, m, (n as isize, 1)) } else { (a, b, m, n, (1, 1)) };
    // SAFETY: the constructors of `Matrix` assert that every element lies inside of its slice, and the assertion above
    // that `out` holds m × n; `out` is borrowed mutably, so it overlaps neither operand; it is initialised.
    unsafe {
        T::product()(
            m,
            n,
            k,
            out.as_mut_ptr(),
            strides.0,
            strides.1,
            add,
            left.data.as_ptr(),
            left.col_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.col_stride as isize,
            right.row_stride as isize,
            if add { T::ONE } else { T::ZERO },
            factor,
            false,
            false,
            false,
            threads,
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
                    let a = if ta { Matrix::new(&a, k, m).t() } else { Matrix::new(&a, m, k) };
                    let b = if tb { Matrix::new(&b, n, k).t() } else { Matrix::new(&b, k, n) };
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

    #[test]
    fn sums_with_products_in_pieces() {
        // Smaller than a piece, whole pieces, a rest, rows longer than a piece, nothing.
        for (m, k, n) in
            [(3, 2, 5), (256, 8, 512), (301, 4, 700), (3, 8, 70_000), (0, 4, 3), (5, 0, 4), (4, 2, 0)]
        {
            let numbers =
                |len: usize, by: usize| (0..len).map(move |i| ((i * by) % 1013) as f64 * 1e-3 - 0.5);
            let to: Vec<f64> = numbers(m * n, 31).collect();
            let (a, b): (Vec<_>, Vec<_>) =
                (numbers(m * k, 7919).collect(), numbers(k * n, 104_729).collect());
            let (sum, finite) = sum_with_product(&to, &a, &b, [m, k, n], -0.5);
            assert!(sum.len() == m * n && finite);
            for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let mut to = to.clone();
                if let Some(last) = to.last_mut() {
                    *last = wrong;
                    assert!(!sum_with_product(&to, &a, &b, [m, k, n], -0.5).1, "{wrong}");
                }
            }
            for (at, (&sum, &to)) in sum.iter().zip(&to).enumerate() {
                let (i, j) = (at / n, at % n);
                let want = to - 0.5 * (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum::<f64>();
                assert!((sum - want).abs() < 1e-12, "{m} × {k} × {n}, {i}, {j}: {sum}, want {want}");
            }
        }
    }

    #[test]
    fn columns_of_a_wider_matrix() {
        // [[0 1 2], [3 4 5]]: columns 1 and 2, times their own transpose, added twice over.
        let data: Vec<f64> = (0..6).map(f64::from).collect();
        let part = Matrix::strided(&data[1..], 2, 2, 3);
        let mut out = vec![100.0; 4];
        add_product_here(part, part.t(), 2.0, &mut out);
        assert_eq!(out, [110.0, 128.0, 128.0, 182.0]);
        product_here(part.t(), part, &mut out);
        assert_eq!(out, [17.0, 22.0, 22.0, 29.0]);
    }

    #[test]
    #[should_panic(expected = "inside of its memory")]
    fn memory_is_checked() {
        Matrix::strided(&[0.0f32; 4], 2, 2, 3);
    }
}
