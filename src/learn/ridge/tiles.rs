//! The lower triangle of a symmetric matrix as square tiles: half the memory, and one owner for each tile.
//!
//! Parallel loops hand out whole tiles, and each tile's arithmetic has a fixed order, so that no result can depend
//! on the number of threads.

use crate::error::{Error, Result};

/// Edge of a tile. 256 × 256 numbers of 4 bytes fill half of a usual L2 cache.
pub(super) const TILE: usize = 256;

/// Tiles `(i, j)` with `j ≤ i`, each row-major `[TILE, TILE]`, padded with zeros at the edge of the matrix.
#[derive(Clone, Debug)]
pub(super) struct Tiles<T> {
    blocks: usize,
    tiles: Vec<Vec<T>>,
}

/// Place of tile `(i, j)`, `j ≤ i`.
pub(super) fn index(i: usize, j: usize) -> usize {
    debug_assert!(j <= i);
    i * (i + 1) / 2 + j
}

/// Inverse of [`index`] for all tiles of `blocks` block rows.
pub(super) fn places(blocks: usize) -> Vec<(usize, usize)> {
    (0..blocks).flat_map(|i| (0..=i).map(move |j| (i, j))).collect()
}

impl<T: bytemuck::Pod> Tiles<T> {
    /// A zero matrix of `features` rows.
    pub fn zeros(features: usize) -> Result<Self> {
        let blocks = features.div_ceil(TILE);
        let count = blocks * (blocks + 1) / 2;
        let mut tiles = Vec::with_capacity(count);
        for _ in 0..count {
            let tile =
                bytemuck::allocation::try_zeroed_slice_box(TILE * TILE).map_err(|()| Error::Memory {
                    what: format!("the {features} × {features} matrix of the ridge regression"),
                    needed: (count * TILE * TILE * size_of::<T>()) as u64,
                    available: (tiles.len() * TILE * TILE * size_of::<T>()) as u64,
                })?;
            tiles.push(tile.into_vec());
        }
        Ok(Self { blocks, tiles })
    }

    /// Number of block rows.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// One tile of the lower triangle.
    pub fn tile(&self, i: usize, j: usize) -> &[T] {
        &self.tiles[index(i, j)]
    }

    /// All tiles, in the order of [`places`].
    pub fn all(&self) -> &[Vec<T>] {
        &self.tiles
    }

    /// All tiles, in the order of [`places`].
    pub fn all_mut(&mut self) -> &mut [Vec<T>] {
        &mut self.tiles
    }
}
