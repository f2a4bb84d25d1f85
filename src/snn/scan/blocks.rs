//! Lists of spikes cut into blocks, so that the rows of the other factor that a block reads stay in the first-level
//! cache.

use super::product::Spikes;

/// The entries of a matrix of zeros and ones, block of columns after block of columns, in each row after row.
#[derive(Debug)]
pub(super) struct Blocks {
    rows: usize,
    columns: usize,
    /// Columns of a block; the last one may have fewer.
    width: usize,
    /// `[blocks · rows + 1]`
    offsets: Vec<u32>,
    // Loops over entries rely on this: an index is below the width of its block, counted from its first column.
    indices: Vec<u32>,
}

/// Row of a sequence `[T, B]` as a row of samples one after another.
fn by_sample(row: usize, [steps, batch]: [usize; 2]) -> usize {
    row % batch * steps + row / batch
}

impl Blocks {
    /// Spikes of a sequence `[T, B, K]` by sample and step: a row for each, columns are sources.
    pub fn by_row(spikes: &Spikes, shape: [usize; 2], width: usize) -> Self {
        Self::sorted(spikes, [spikes.rows(), spikes.columns()], width, |row, k| (by_sample(row, shape), k))
    }

    /// The same turned around: a row for each source, columns are samples and steps.
    pub fn by_source(spikes: &Spikes, shape: [usize; 2], width: usize) -> Self {
        Self::sorted(spikes, [spikes.columns(), spikes.rows()], width, |row, k| (k, by_sample(row, shape)))
    }

    /// A counting sort: rows of the spikes are visited sample after sample, so that every list ascends.
    fn sorted(
        spikes: &Spikes,
        [rows, columns]: [usize; 2],
        width: usize,
        place: impl Fn(usize, usize) -> (usize, usize),
    ) -> Self {
        let width = width.max(1);
        let mut offsets = vec![0u32; columns.div_ceil(width) * rows + 1];
        let key = |row: usize, k: u32| {
            let (row, column) = place(row, k as usize);
            (column / width * rows + row, column % width)
        };
        for row in 0..spikes.rows() {
            spikes.row(row).0.iter().for_each(|&k| offsets[key(row, k).0 + 1] += 1);
        }
        for i in 1..offsets.len() {
            offsets[i] += offsets[i - 1];
        }
        let mut next = offsets.clone();
        let mut indices = vec![0u32; spikes.len()];
        for row in spikes.sample_by_sample() {
            for &k in spikes.row(row).0 {
                let (list, column) = key(row, k);
                indices[next[list] as usize] = column as u32;
                next[list] += 1;
            }
        }
        Self { rows, columns, width, offsets, indices }
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.columns.div_ceil(self.width)
    }

    /// Where a block begins.
    pub fn start(&self, block: usize) -> usize {
        block * self.width
    }

    /// What every index of a block is below.
    pub fn below(&self, block: usize) -> usize {
        self.width.min(self.columns - block * self.width)
    }

    /// The entries of a row in a block.
    pub fn list(&self, block: usize, row: usize) -> &[u32] {
        let at = block * self.rows + row;
        &self.indices[self.offsets[at] as usize..self.offsets[at + 1] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Result;

    #[test]
    fn every_spike_is_in_its_block() -> Result<()> {
        // [T, B, K] = [3, 2, 5]
        let rows: [&[u32]; 6] = [&[0, 4], &[], &[1, 2, 3], &[4], &[0], &[0, 1, 2, 3, 4]];
        let spikes = Spikes::from_rows(&[3, 2], 5, rows)?;
        let blocks = Blocks::by_row(&spikes, [3, 2], 2);
        assert_eq!((blocks.len(), blocks.start(2)), (3, 4));
        let lists = |blocks: &Blocks, block: usize, n: usize| -> Vec<Vec<u32>> {
            (0..n).map(|row| blocks.list(block, row).to_vec()).collect()
        };
        // Sample 0 at its three steps, then sample 1.
        let empty: Vec<u32> = vec![];
        assert_eq!(
            lists(&blocks, 0, 6),
            [vec![0], vec![1], vec![0], empty.clone(), empty.clone(), vec![0, 1]]
        );
        assert_eq!(blocks.list(2, 5), [0]);
        assert_eq!(blocks.below(2), 1);
        let turned = Blocks::by_source(&spikes, [3, 2], 3);
        assert_eq!(lists(&turned, 0, 5), [vec![0, 2], vec![1], vec![1], vec![1], vec![0]]);
        assert_eq!(lists(&turned, 1, 5), [vec![2], vec![2], vec![2], vec![2], vec![1, 2]]);
        Ok(())
    }
}
