//! Cholesky factorisation `M = L Lᵀ` over tiles.
//!
//! Right-looking: factor the diagonal tile, multiply the tiles below it by its inverse, subtract their products from the
//! rest. Only whole tiles are handed to threads and each product is computed by one of them, so the factor is the same
//! bit for bit on any number of threads. All but the diagonal tiles is dense products.

use nalgebra::{Cholesky as Dense, DMatrix};

use super::Number;
use super::tiles::{TILE, Tiles, index, places};
use crate::parallel;
use crate::tensor::gemm::{Matrix, add_product_here, product_here};

/// The lower factor, but with the inverse of each diagonal tile in its place: solutions are products, too.
#[derive(Debug)]
pub(super) struct Cholesky<T> {
    lower: Tiles<T>,
}

fn square<T>(tile: &[T]) -> Matrix<'_, T> {
    Matrix::new(tile, TILE, TILE)
}

/// The inverse of the lower factor of a tile. `None` when it is not positive definite in this precision.
fn inverse_factor<T: Number>(tile: &[T]) -> Option<Vec<T>> {
    let lower = Dense::new(DMatrix::from_row_slice(TILE, TILE, tile))?.unpack();
    let inverse = lower.solve_lower_triangular(&DMatrix::identity(TILE, TILE))?;
    let inverse = inverse.transpose().data.as_vec().clone();
    inverse.iter().all(|x| x.to_f64().is_finite()).then_some(inverse)
}

impl<T: Number> Cholesky<T> {
    /// Factors in place. `None` when the matrix is not positive definite in this precision.
    pub fn new(mut matrix: Tiles<T>) -> Option<Self> {
        let blocks = matrix.blocks();
        let places = places(blocks);
        for k in 0..blocks {
            let pivot = inverse_factor(matrix.tile(k, k))?;
            // Taken out, so that the tiles that are changed and those that are read are different variables.
            let panel: Vec<Vec<T>> =
                (k + 1..blocks).map(|i| std::mem::take(&mut matrix.all_mut()[index(i, k)])).collect();
            let panel = parallel::map(panel.len(), |i| {
                let mut solved = vec![T::ZERO; TILE * TILE];
                product_here(square(&panel[i]), square(&pivot).t(), &mut solved);
                solved
            });
            let rest = index(k, k) + 1;
            parallel::owned(matrix.all_mut()[rest..].iter_mut().collect(), |at, tile: &mut Vec<T>| {
                let (i, j) = places[rest + at];
                if j > k {
                    let (left, right) = (square(&panel[i - k - 1]), square(&panel[j - k - 1]).t());
                    add_product_here(left, right, -T::ONE, tile);
                }
            });
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
            self.solve_tile(square(self.lower.tile(j, j)), head, columns);
            parallel::chunks_mut(tail, size, |i, x| {
                let tile = square(self.lower.tile(j + 1 + i, j));
                add_product_here(tile, Matrix::new(head, TILE, columns), -T::ONE, x);
            });
        }
    }

    /// `x ← L⁻ᵀ x`
    pub fn solve_upper(&self, x: &mut [T], columns: usize) {
        let size = TILE * columns;
        for j in (0..self.lower.blocks()).rev() {
            let (head, tail) = x.split_at_mut(j * size);
            let tail = &mut tail[..size];
            self.solve_tile(square(self.lower.tile(j, j)).t(), tail, columns);
            parallel::chunks_mut(head, size, |i, x| {
                let tile = square(self.lower.tile(j, i)).t();
                add_product_here(tile, Matrix::new(tail, TILE, columns), -T::ONE, x);
            });
        }
    }

    /// `x ← inverse · x` for the rows of one tile.
    fn solve_tile(&self, inverse: Matrix<'_, T>, x: &mut [T], columns: usize) {
        let right = x.to_vec();
        product_here(inverse, Matrix::new(&right, TILE, columns), x);
    }

    /// `tr M⁻¹ = ‖L⁻¹‖²`, as many operations as the factorisation.
    pub fn inverse_trace(&self) -> f64 {
        let mut trace = 0.0;
        let blocks = self.lower.blocks();
        let mut x = vec![T::ZERO; blocks * TILE * TILE];
        for first in 0..blocks {
            x.fill(T::ZERO);
            for c in 0..TILE {
                x[(first * TILE + c) * TILE + c] = T::ONE;
            }
            self.solve_lower(&mut x, TILE, first);
            trace += x[first * TILE * TILE..].iter().map(|x| x.to_f64().powi(2)).sum::<f64>();
        }
        trace
    }
}
