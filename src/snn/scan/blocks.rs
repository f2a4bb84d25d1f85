//! Lists of spikes cut into blocks, so that the rows of the other factor that a block reads stay in the first-level
//! cache.

use std::ops::Range;

use super::product::Spikes;

/// The spikes of a group of samples as entries of a matrix, block of columns after block of columns, in each row after row.
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

/// The spikes of some samples, sample after sample, so that every list ascends.
fn rows_of(
    spikes: &Spikes,
    [steps, batch]: [usize; 2],
    samples: Range<usize>,
) -> impl Iterator<Item = (usize, &[u32])> {
    let rows = samples.flat_map(move |b| (0..steps).map(move |t| t * batch + b));
    rows.map(|row| spikes.row(row).0).enumerate()
}

impl Blocks {
    /// Spikes of some samples of a sequence `[T, B, K]`: a row for each sample and step, columns are sources.
    pub fn by_row(spikes: &Spikes, shape: [usize; 2], samples: Range<usize>, width: usize) -> Self {
        let (rows, width) = (samples.len() * shape[0], width.max(1));
        Self::sorted([rows, spikes.columns()], width, || {
            rows_of(spikes, shape, samples.clone()).flat_map(move |(row, sources)| {
                let (mut list, mut first) = (row, 0);
                sources.iter().map(move |&source| {
                    // Lists ascend as a rule, but nobody promises it.
                    if (source as usize) < first {
                        (list, first) = (row, 0);
                    }
                    while source as usize >= first + width {
                        (list, first) = (list + rows, first + width);
                    }
                    (list, source - first as u32)
                })
            })
        })
    }

    /// The same turned around, in one block: a row for each source, columns are samples and steps.
    pub fn by_source(spikes: &Spikes, shape: [usize; 2], samples: Range<usize>) -> Self {
        let columns = samples.len() * shape[0];
        Self::sorted([spikes.columns(), columns], columns.max(1), || {
            rows_of(spikes, shape, samples.clone()).flat_map(|(column, sources)| {
                sources.iter().map(move |&source| (source as usize, column as u32))
            })
        })
    }

    /// A counting sort of entries, each with the list that it is in and its place within the block.
    fn sorted<E: Iterator<Item = (usize, u32)>>(
        [rows, columns]: [usize; 2],
        width: usize,
        entries: impl Fn() -> E,
    ) -> Self {
        let mut offsets = vec![0u32; columns.div_ceil(width) * rows + 1];
        entries().for_each(|(list, _)| offsets[list + 1] += 1);
        for i in 1..offsets.len() {
            offsets[i] += offsets[i - 1];
        }
        let mut next = offsets.clone();
        let mut indices = vec![0u32; offsets[offsets.len() - 1] as usize];
        entries().for_each(|(list, place)| {
            indices[next[list] as usize] = place;
            next[list] += 1;
        });
        Self { rows, columns, width, offsets, indices }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
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
        let lists = |blocks: &Blocks, block: usize, n: usize| -> Vec<Vec<u32>> {
            (0..n).map(|row| blocks.list(block, row).to_vec()).collect()
        };
        let blocks = Blocks::by_row(&spikes, [3, 2], 0..2, 2);
        assert_eq!((blocks.len(), blocks.start(2)), (3, 4));
        // Sample 0 at its three steps, then sample 1.
        let empty: Vec<u32> = vec![];
        assert_eq!(
            lists(&blocks, 0, 6),
            [vec![0], vec![1], vec![0], empty.clone(), empty.clone(), vec![0, 1]]
        );
        assert_eq!(blocks.list(2, 5), [0]);
        assert_eq!(blocks.below(2), 1);
        let turned = Blocks::by_source(&spikes, [3, 2], 0..2);
        assert_eq!(lists(&turned, 0, 5), [vec![0, 2, 5], vec![1, 5], vec![1, 5], vec![1, 5], vec![0, 4, 5]]);
        let jumbled = Spikes::from_rows(&[1, 1], 5, [&[4, 0, 3, 2, 1][..]])?;
        let blocks = Blocks::by_row(&jumbled, [1, 1], 0..1, 2);
        assert_eq!([0, 1, 2].map(|block| blocks.list(block, 0).to_vec()), [vec![0, 1], vec![1, 0], vec![0]]);
        // Sample 1 alone.
        let blocks = Blocks::by_row(&spikes, [3, 2], 1..2, 2);
        assert_eq!(lists(&blocks, 0, 3), [empty.clone(), empty, vec![0, 1]]);
        assert_eq!(lists(&blocks, 2, 3), [vec![], vec![0], vec![0]]);
        let turned = Blocks::by_source(&spikes, [3, 2], 1..2);
        assert_eq!(lists(&turned, 0, 5), [vec![2], vec![2], vec![2], vec![2], vec![1, 2]]);
        Ok(())
    }
}
