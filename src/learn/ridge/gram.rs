//! Gram matrices, added up block by block: `A += XᵀX`.

use super::simd::{LANES, LINES, Line, Packing, Simd};
use super::tiles::{TILE, Tiles, places};
use super::{Feature, Number};
use crate::error::Result;
use crate::parallel;
use crate::tensor::gemm::{Matrix, product_here};

/// Samples that go through the sums while these stay in registers and the panels in the first cache.
const CHUNK: usize = 256;

/// A Gram matrix under construction.
pub(super) trait Gram<T>: Sized + Send + Sync {
    /// Rows of a full block. Sums of real numbers depend on where blocks end, so this is fixed.
    const BLOCK: usize;

    /// Adds at most [`Gram::BLOCK`] rows, `[rows, features]`.
    fn add(&mut self, rows: &[T]) -> Result<()>;

    /// Tile `(i, j)`, `j ≤ i`, row-major and complete, also on the diagonal.
    fn tile(&self, i: usize, j: usize, out: &mut [f64]);
}

/// Exact integer sums. 32 bits a sum; before they could overflow they are moved to 64 bits.
#[derive(Debug)]
pub(super) struct IntegerGram {
    pub features: usize,
    pub code_max: u8,
    pub sums: Tiles<u32>,
    /// Samples in `sums`.
    pub samples: u64,
    /// What was moved out of `sums`; there only for more samples than 32 bits can take.
    pub moved: Option<Tiles<u64>>,
    simd: Simd,
    /// `[panels][lines]`
    packed: Vec<Line>,
}

impl IntegerGram {
    pub fn new(features: usize, code_max: u8) -> Result<Self> {
        let simd = Simd::available()[0];
        Ok(Self {
            features,
            code_max,
            sums: Tiles::zeros(features)?,
            samples: 0,
            moved: None,
            simd,
            packed: Vec::new(),
        })
    }

    #[cfg(test)]
    pub fn with_simd(features: usize, code_max: u8, simd: Simd) -> Result<Self> {
        Ok(Self { simd, ..Self::new(features, code_max)? })
    }

    fn make_room(&mut self, samples: usize) -> Result<()> {
        let square = u64::from(self.code_max).pow(2);
        if (self.samples + samples as u64) * square <= u64::from(u32::MAX) {
            return Ok(());
        }
        let moved = match &mut self.moved {
            Some(moved) => moved,
            none => none.insert(Tiles::zeros(self.features)?),
        };
        let pairs = moved.all_mut().iter_mut().zip(self.sums.all_mut()).collect();
        parallel::owned(pairs, |_, (wide, narrow): (&mut Vec<u64>, &mut Vec<u32>)| {
            for (wide, narrow) in wide.iter_mut().zip(narrow) {
                *wide += u64::from(std::mem::take(narrow));
            }
        });
        self.samples = 0;
        Ok(())
    }

    /// Packs rows into panels of 16 features, and returns the lines of a panel.
    fn pack(&mut self, rows: &[u8]) -> usize {
        let (features, packing) = (self.features, Packing::of(self.code_max));
        let samples = rows.len() / features;
        let lines = samples.div_ceil(packing.samples()).next_multiple_of(LINES);
        let panels = features.div_ceil(LANES);
        self.packed.resize(panels * lines, bytemuck::Zeroable::zeroed());
        parallel::chunks_mut(&mut self.packed, lines, |panel, lines| {
            let first = panel * LANES;
            let width = LANES.min(features - first);
            let mut groups = rows.chunks(packing.samples() * features);
            for line in lines {
                let mut codes = [[0u8; LANES]; 4];
                let group = groups.next().unwrap_or_default();
                for (codes, row) in codes.iter_mut().zip(group.chunks_exact(features)) {
                    // A copy of constant length is one instruction; all panels but the last take it.
                    match row[first..].first_chunk::<LANES>() {
                        Some(row) => *codes = *row,
                        None => codes[..width].copy_from_slice(&row[first..]),
                    }
                }
                let [a, b, c, d] = codes.map(|codes| codes.map(u32::from));
                let words: [u32; LANES] = std::array::from_fn(|f| match packing {
                    Packing::Bytes { .. } => a[f] | b[f] << 8 | c[f] << 16 | d[f] << 24,
                    Packing::Words => a[f] | b[f] << 16,
                });
                *line = bytemuck::cast(words.map(u32::to_le));
            }
        });
        lines
    }
}

impl Gram<u8> for IntegerGram {
    // The whole matrix is read and written once a block: 2,048 samples make that a small part of the time.
    const BLOCK: usize = 2048;

    fn add(&mut self, rows: &[u8]) -> Result<()> {
        let samples = rows.len() / self.features;
        if samples == 0 {
            return Ok(());
        }
        self.make_room(samples)?;
        self.samples += samples as u64;
        let lines = self.pack(rows);
        let (packed, simd, packing) = (&self.packed, self.simd, Packing::of(self.code_max));
        let panels = self.features.div_ceil(LANES);
        let chunk = CHUNK / packing.samples();
        let places = places(self.sums.blocks());
        parallel::owned(self.sums.all_mut().iter_mut().collect(), |at, tile: &mut Vec<u32>| {
            let (i, j) = places[at];
            let block = |i: usize| i * (TILE / LANES)..((i + 1) * (TILE / LANES)).min(panels);
            for start in (0..lines).step_by(chunk) {
                let end = (start + chunk).min(lines);
                let panel = |p: usize| &packed[p * lines + start..p * lines + end];
                for (c, column) in block(j).enumerate() {
                    for (r, row) in block(i).enumerate().filter(|&(_, row)| row >= column) {
                        let corner = (r * TILE + c) * LANES;
                        simd.accumulate(packing, panel(row), panel(column), &mut tile[corner..], TILE);
                    }
                }
            }
        });
        Ok(())
    }

    fn tile(&self, i: usize, j: usize, out: &mut [f64]) {
        match &self.moved {
            None => {
                for (out, &sum) in out.iter_mut().zip(self.sums.tile(i, j)) {
                    *out = f64::from(sum);
                }
            }
            Some(moved) => {
                for ((out, &low), &high) in out.iter_mut().zip(self.sums.tile(i, j)).zip(moved.tile(i, j)) {
                    *out = (high + u64::from(low)) as f64;
                }
            }
        }
        if i == j {
            // Only panels on and below the diagonal were computed.
            for r in 0..TILE {
                for c in r + 1..TILE {
                    out[r * TILE + c] = out[c * TILE + r];
                }
            }
        }
    }
}

/// Sums of real numbers: products of a block in the precision of the features, added up in 64 bits.
#[derive(Debug)]
pub(super) struct RealGram {
    pub features: usize,
    pub sums: Tiles<f64>,
}

impl RealGram {
    pub fn new(features: usize) -> Result<Self> {
        Ok(Self { features, sums: Tiles::zeros(features)? })
    }
}

impl<T: Number + Feature> Gram<T> for RealGram {
    // An f32 sum of 256 products keeps six digits; longer sums would lose more.
    const BLOCK: usize = 256;

    fn add(&mut self, rows: &[T]) -> Result<()> {
        let features = self.features;
        let samples = rows.len() / features;
        let places = places(self.sums.blocks());
        parallel::owned(self.sums.all_mut().iter_mut().collect(), |at, tile: &mut Vec<f64>| {
            let columns = |i: usize| {
                let first = i * TILE;
                Matrix::strided(&rows[first..], samples, TILE.min(features - first), features)
            };
            let (left, right) = (columns(places[at].0), columns(places[at].1));
            let mut product = vec![T::ZERO; left.cols * right.cols];
            product_here(left.t(), right, &mut product);
            for (tile, product) in tile.chunks_mut(TILE).zip(product.chunks(right.cols)) {
                for (sum, product) in tile.iter_mut().zip(product) {
                    *sum += product.to_f64();
                }
            }
        });
        Ok(())
    }

    fn tile(&self, i: usize, j: usize, out: &mut [f64]) {
        out.copy_from_slice(self.sums.tile(i, j));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;
    use rand::RngExt;

    pub fn codes(samples: usize, features: usize, code_max: u8, seed: u64) -> Vec<u8> {
        let mut walk = Stream::named(seed, "codes").walk(0);
        (0..samples * features).map(|_| walk.random_range(0..=code_max)).collect()
    }

    fn check(gram: &IntegerGram, rows: &[u8], features: usize) {
        let mut tile = vec![0.0; TILE * TILE];
        for (i, j) in places(features.div_ceil(TILE)) {
            gram.tile(i, j, &mut tile);
            for r in 0..TILE.min(features - i * TILE) {
                for c in 0..TILE.min(features - j * TILE) {
                    let (p, q) = (i * TILE + r, j * TILE + c);
                    let naive: u64 = rows.chunks(features).map(|x| u64::from(x[p]) * u64::from(x[q])).sum();
                    assert_eq!(tile[r * TILE + c], naive as f64, "{:?} features {p}, {q}", gram.simd);
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_equals_the_naive_sum() {
        for simd in Simd::available() {
            for features in [1, 7, 16, 31, 33, 257] {
                for samples in [0, 1, 2, 63, 65] {
                    for code_max in [1, 31, 45, 63, 90, 127, 255] {
                        let mut rows = codes(samples, features, code_max, 1);
                        // The largest codes side by side are what would overflow.
                        let half = rows.len() / 2;
                        rows[..half].fill(code_max);
                        let mut gram = IntegerGram::with_simd(features, code_max, simd).unwrap();
                        gram.add(&rows).unwrap();
                        check(&gram, &rows, features);
                    }
                }
            }
        }
    }

    #[test]
    fn a_full_block_of_the_largest_codes_is_exact() {
        for simd in Simd::available() {
            for code_max in [31, 45, 63, 90, 255] {
                let (features, samples) = (17, <IntegerGram as Gram<u8>>::BLOCK);
                let rows = vec![code_max; features * samples];
                let mut gram = IntegerGram::with_simd(features, code_max, simd).unwrap();
                gram.add(&rows).unwrap();
                check(&gram, &rows, features);
            }
        }
    }

    #[test]
    fn sums_move_to_64_bits_before_they_overflow() {
        let (features, block) = (3, <IntegerGram as Gram<u8>>::BLOCK);
        let rows = vec![255; features * block];
        let mut gram = IntegerGram::new(features, 255).unwrap();
        let blocks = 33; // 33 · 2048 · 255² = 4.39e9 > 2³²
        for _ in 0..blocks {
            gram.add(&rows).unwrap();
        }
        assert!(gram.moved.is_some());
        let mut tile = vec![0.0; TILE * TILE];
        gram.tile(0, 0, &mut tile);
        assert_eq!(tile[1], (blocks * block * 255 * 255) as f64);
        assert!(tile[1] > f64::from(u32::MAX));
    }
}
