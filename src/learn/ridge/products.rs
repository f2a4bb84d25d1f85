//! Products of all features with a few vectors, `X W` and `Xᵀ R`, without a copy of the features in 32 bits.
//!
//! Small tiles of rows are converted and multiplied while they are in the cache. Tiles are the same for any number of
//! threads, and each output is summed in one fixed order, so results are too.

use super::Feature;
use super::tiles::TILE;
use crate::parallel;
use crate::tensor::gemm::{Matrix, add_product_here, product_here};

/// Rows of a tile.
const ROWS: usize = 128;

/// `out = rows · weightsᵀ + bias` for rows `[n, features]`, weights `[outputs, features]`, `out` `[n, outputs]`.
pub(super) fn scores<T: Feature>(rows: &[T], weights: &[f32], bias: &[f32], out: &mut [f32]) {
    let k = bias.len();
    let features = weights.len() / k;
    parallel::chunks_mut(out, ROWS * k, |at, out| {
        for out in out.chunks_mut(k) {
            out.copy_from_slice(bias);
        }
        let rows = &rows[at * ROWS * features..][..out.len() / k * features];
        let mut tile = Vec::new();
        for first in (0..features).step_by(TILE) {
            let width = TILE.min(features - first);
            let weights = Matrix::strided(&weights[first..], k, width, features).t();
            add_product_here(convert(rows, features, first, width, &mut tile), weights, 1.0, out);
        }
    });
}

/// `out = rowsᵀ · right` for rows `[n, features]`, right `[n, outputs]`, `out` `[padded features, outputs]`, of which
/// the padding is left alone. Sums of a tile are in 32 bits, their sums in 64.
pub(super) fn transposed<T: Feature>(rows: &[T], features: usize, right: &[f32], k: usize, out: &mut [f64]) {
    parallel::chunks_mut(out, TILE * k, |block, out| {
        let first = block * TILE;
        let width = TILE.min(features - first);
        let out = &mut out[..width * k];
        out.fill(0.0);
        let (mut tile, mut product) = (Vec::new(), vec![0.0f32; width * k]);
        for (rows, right) in rows.chunks(ROWS * features).zip(right.chunks(ROWS * k)) {
            let tile = convert(rows, features, first, width, &mut tile);
            product_here(tile.t(), Matrix::new(right, tile.rows, k), &mut product);
            for (out, product) in out.iter_mut().zip(&product) {
                *out += f64::from(*product);
            }
        }
    });
}

/// Columns `first..first + width` of some rows.
fn convert<'a, T: Feature>(
    rows: &[T],
    features: usize,
    first: usize,
    width: usize,
    tile: &'a mut Vec<f32>,
) -> Matrix<'a, f32> {
    let count = rows.len() / features;
    tile.resize(ROWS * TILE, 0.0);
    let tile = &mut tile[..count * width];
    for (tile, row) in tile.chunks_exact_mut(width).zip(rows.chunks_exact(features)) {
        for (tile, x) in tile.iter_mut().zip(&row[first..first + width]) {
            *tile = x.single();
        }
    }
    Matrix::new(tile, count, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_the_sums_term_by_term() {
        // Past one tile in both directions, and with incomplete ones.
        let (n, features, k) = (ROWS + 7, TILE + 5, 3);
        let rows: Vec<u8> = (0..n * features).map(|i| (i * 7919 % 32) as u8).collect();
        // Small integers, so that every sum is exact.
        let weights: Vec<f32> = (0..k * features).map(|i| (i * 31 % 9) as f32 - 4.0).collect();
        let right: Vec<f32> = (0..n * k).map(|i| (i * 17 % 7) as f32 - 3.0).collect();
        let bias = [0.5, 1.5, -2.5];
        let mut out = vec![f32::NAN; n * k];
        scores(&rows, &weights, &bias, &mut out);
        let mut back = vec![f64::NAN; features.next_multiple_of(TILE) * k];
        transposed(&rows, features, &right, k, &mut back);
        for c in 0..k {
            for i in 0..n {
                let row = &rows[i * features..][..features];
                let dot: f32 = row.iter().zip(&weights[c * features..]).map(|(&x, w)| f32::from(x) * w).sum();
                assert_eq!(out[i * k + c], dot + bias[c]);
            }
            for f in 0..features {
                let dot: f32 = (0..n).map(|i| f32::from(rows[i * features + f]) * right[i * k + c]).sum();
                assert_eq!(back[f * k + c], f64::from(dot));
            }
        }
        assert!(back[features * k..].iter().all(|x| x.is_nan()), "the padding is left alone");
    }
}
