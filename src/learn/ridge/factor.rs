//! Cholesky factorisation `M = L Lᵀ` over tiles.
//!
//! Right-looking: factor the diagonal tile, solve the tiles below it, subtract their products from the rest. Only
//! whole tiles are handed to threads and each product is computed by one of them, so the factor is the same bit for
//! bit on any number of threads.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{LltParams, cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::{Accum, MatMut, MatRef, Par, Spec};
use rayon::prelude::*;

use super::Number;
use super::tiles::{TILE, Tiles, index, places};

/// The lower factor; above the diagonal of diagonal tiles stands whatever stood there before.
#[derive(Debug)]
pub(super) struct Cholesky<T> {
    lower: Tiles<T>,
}

fn square<T>(tile: &[T]) -> MatRef<'_, T> {
    MatRef::from_row_major_slice(tile, TILE, TILE)
}

/// `x -= factor · y`
fn subtract_product<T: Number>(x: MatMut<'_, T>, factor: MatRef<'_, T>, y: MatRef<'_, T>) {
    matmul(x, Accum::Add, factor, y, T::from_f64(-1.0), Par::Seq);
}

impl<T: Number> Cholesky<T> {
    /// Factors in place. `None` when the matrix is not positive definite in this precision.
    pub fn new(mut matrix: Tiles<T>) -> Option<Self> {
        let blocks = matrix.blocks();
        let places = places(blocks);
        let params = Spec::<LltParams, T>::default();
        let mut memory = MemBuffer::new(cholesky_in_place_scratch::<T>(TILE, Par::Seq, params));
        for k in 0..blocks {
            let mut pivot = std::mem::take(&mut matrix.all_mut()[index(k, k)]);
            let in_place = MatMut::from_row_major_slice_mut(&mut pivot, TILE, TILE);
            cholesky_in_place(in_place, Default::default(), Par::Seq, MemStack::new(&mut memory), params)
                .ok()?;
            // Taken out, so that the tiles that are changed and those that are read are different variables.
            let mut panel: Vec<Vec<T>> =
                (k + 1..blocks).map(|i| std::mem::take(&mut matrix.all_mut()[index(i, k)])).collect();
            panel.par_iter_mut().for_each(|tile| {
                let transposed = MatMut::from_row_major_slice_mut(tile, TILE, TILE).transpose_mut();
                solve_lower_triangular_in_place(square(&pivot), transposed, Par::Seq);
            });
            let rest = index(k, k) + 1;
            matrix.all_mut()[rest..].par_iter_mut().zip(&places[rest..]).with_max_len(1).for_each(
                |(tile, &(i, j))| {
                    if j > k {
                        let tile = MatMut::from_row_major_slice_mut(tile, TILE, TILE);
                        subtract_product(
                            tile,
                            square(&panel[i - k - 1]),
                            square(&panel[j - k - 1]).transpose(),
                        );
                    }
                },
            );
            matrix.all_mut()[index(k, k)] = pivot;
            for (tile, i) in panel.into_iter().zip(k + 1..) {
                matrix.all_mut()[index(i, k)] = tile;
            }
        }
        Some(Self { lower: matrix })
    }

    /// `x ← L⁻¹ x` for `x` of `[padded features, columns]`, of which rows before block `first` are zero.
    pub fn solve_lower(&self, x: &mut [T], columns: usize, first: usize) {
        let size = TILE * columns;
        for j in first..self.lower.blocks() {
            let (head, tail) = x.split_at_mut((j + 1) * size);
            let head = &mut head[j * size..];
            let pivot = square(self.lower.tile(j, j));
            solve_lower_triangular_in_place(
                pivot,
                MatMut::from_row_major_slice_mut(head, TILE, columns),
                Par::Seq,
            );
            let head = MatRef::from_row_major_slice(head, TILE, columns);
            tail.par_chunks_mut(size).enumerate().for_each(|(i, x)| {
                let tile = square(self.lower.tile(j + 1 + i, j));
                subtract_product(MatMut::from_row_major_slice_mut(x, TILE, columns), tile, head);
            });
        }
    }

    /// `x ← L⁻ᵀ x`
    pub fn solve_upper(&self, x: &mut [T], columns: usize) {
        let size = TILE * columns;
        for j in (0..self.lower.blocks()).rev() {
            let (head, tail) = x.split_at_mut(j * size);
            let tail = &mut tail[..size];
            let pivot = square(self.lower.tile(j, j)).transpose();
            solve_upper_triangular_in_place(
                pivot,
                MatMut::from_row_major_slice_mut(tail, TILE, columns),
                Par::Seq,
            );
            let tail = MatRef::from_row_major_slice(tail, TILE, columns);
            head.par_chunks_mut(size).enumerate().for_each(|(i, x)| {
                let tile = square(self.lower.tile(j, i)).transpose();
                subtract_product(MatMut::from_row_major_slice_mut(x, TILE, columns), tile, tail);
            });
        }
    }

    /// `tr M⁻¹ = ‖L⁻¹‖²`, as many operations as the factorisation.
    pub fn inverse_trace(&self) -> f64 {
        let mut trace = 0.0;
        let blocks = self.lower.blocks();
        let mut x = vec![T::from_f64(0.0); blocks * TILE * TILE];
        for first in 0..blocks {
            x.fill(T::from_f64(0.0));
            for c in 0..TILE {
                x[(first * TILE + c) * TILE + c] = T::from_f64(1.0);
            }
            self.solve_lower(&mut x, TILE, first);
            trace += x[first * TILE * TILE..].iter().map(|x| x.to_f64().powi(2)).sum::<f64>();
        }
        trace
    }
}
