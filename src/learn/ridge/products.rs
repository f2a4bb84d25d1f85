//! Products of all features with a few vectors, `X W` and `Xᵀ R`, without a copy of the features in 32 bits.
//!
//! Small tiles of rows are converted and multiplied while they are in the cache. Tiles are the same for any number of
//! threads, and each output is summed in one fixed order, so results are too.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::Feature;
use super::tiles::TILE;

/// Rows of a tile.
const ROWS: usize = 128;

/// `out = rows · weightsᵀ + bias` for rows `[n, features]`, weights `[outputs, features]`, `out` `[n, outputs]`.
pub(super) fn scores<T: Feature>(rows: &[T], weights: &[f32], bias: &[f32], out: &mut [f32]) {
    let k = bias.len();
    let features = weights.len() / k;
    let weights = MatRef::from_row_major_slice(weights, k, features).transpose();
    out.par_chunks_mut(ROWS * k).zip(rows.par_chunks(ROWS * features)).for_each_init(
        Vec::new,
        |tile, (out, rows)| {
            for out in out.chunks_mut(k) {
                out.copy_from_slice(bias);
            }
            for first in (0..features).step_by(TILE) {
                let width = TILE.min(features - first);
                let tile = convert(rows, features, first, width, tile);
                let mut out = MatMut::from_row_major_slice_mut(out, tile.nrows(), k);
                matmul(&mut out, Accum::Add, tile, weights.subrows(first, width), 1.0, Par::Seq);
            }
        },
    );
}

/// `out = rowsᵀ · right` for rows `[n, features]`, right `[n, outputs]`, `out` `[padded features, outputs]`, of which
/// the padding is left alone. Sums of a tile are in 32 bits, their sums in 64.
pub(super) fn transposed<T: Feature>(rows: &[T], features: usize, right: &[f32], k: usize, out: &mut [f64]) {
    out.par_chunks_mut(TILE * k).enumerate().for_each_init(
        || (Vec::new(), vec![0.0; TILE * k]),
        |(tile, product), (block, out)| {
            let first = block * TILE;
            let width = TILE.min(features - first);
            let out = &mut out[..width * k];
            out.fill(0.0);
            for (rows, right) in rows.chunks(ROWS * features).zip(right.chunks(ROWS * k)) {
                let tile = convert(rows, features, first, width, tile);
                let right = MatRef::from_row_major_slice(right, tile.nrows(), k);
                let product = &mut product[..width * k];
                let into = MatMut::from_row_major_slice_mut(product, width, k);
                matmul(into, Accum::Replace, tile.transpose(), right, 1.0f32, Par::Seq);
                for (out, product) in out.iter_mut().zip(product) {
                    *out += f64::from(*product);
                }
            }
        },
    );
}

/// Columns `first..first + width` of some rows.
fn convert<'a, T: Feature>(
    rows: &[T],
    features: usize,
    first: usize,
    width: usize,
    tile: &'a mut Vec<f32>,
) -> MatRef<'a, f32> {
    let count = rows.len() / features;
    tile.resize(ROWS * TILE, 0.0);
    let tile = &mut tile[..count * width];
    for (tile, row) in tile.chunks_exact_mut(width).zip(rows.chunks_exact(features)) {
        for (tile, x) in tile.iter_mut().zip(&row[first..first + width]) {
            *tile = x.single();
        }
    }
    MatRef::from_row_major_slice(tile, count, width)
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
