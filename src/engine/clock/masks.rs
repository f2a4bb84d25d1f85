//! Synapses of one weight and one delay as bits, one for each target: where a source reaches many of its targets,
//! adding up whole rows of bits is faster than following a list of them.
//!
//! The rows of a step are added in counters that are cut into bits: plane `p` holds bit `p` of the counts of 512
//! neurons, and eight rows at a time go through a tree of full adders (a Wallace tree; Warren, Hacker's Delight,
//! chapter 5, has it for counting the bits of an array). The counts are exact, so they are those of the list.
//!
//! Target `t` of a row is bit `8 (t mod 8) + t / 64 mod 8` of word `t / 8 mod 8` of chunk `t / 512`: so that turning
//! eight planes into a byte for each neuron takes three exchanges between planes.

use super::simd::{advise_large_pages, prefetch};
use crate::snn::synapses::Block as Table;

/// Eight words of bits.
type Chunk = [u64; 8];

const TARGETS_PER_CHUNK: usize = 512;
/// Rows that go through the adders together.
const GROUP: usize = 8;
/// Rows after which the planes would overflow: 31 groups.
const ROWS: usize = 248;

/// The synapses of a table.
pub(super) struct Masks {
    /// Chunks of a row.
    width: usize,
    /// `[sources + 1][width]`: the last row is empty, for groups that are not full.
    rows: Vec<Chunk>,
    /// `[sources + 1]`
    places: Vec<Place>,
    /// Targets of the synapses that do not fit into bits, as their targets have one of the same source already.
    again: Vec<u16>,
    /// `[width]`: counts of the step, in bits; all 0 between steps.
    planes: Vec<[Chunk; 8]>,
}

/// What belongs to a source besides its row.
struct Place {
    /// Number of its synapses.
    synapses: u32,
    /// Where it begins in `again`.
    again: u32,
}

impl Masks {
    /// The synapses of a table, or nothing where lists are better: bits have to take at most one and a half times
    /// their memory.
    pub fn of(table: &Table) -> Option<Self> {
        let rows = table.offsets.len() * table.range.len().div_ceil(TARGETS_PER_CHUNK);
        (2 * rows * size_of::<Chunk>() <= 3 * size_of_val(&table.targets[..])).then(|| Self::new(table))
    }

    fn new(table: &Table) -> Self {
        let sources = table.offsets.len() - 1;
        let width = table.range.len().div_ceil(TARGETS_PER_CHUNK);
        let mut rows = vec![[0; 8]; (sources + 1) * width];
        advise_large_pages(&mut rows);
        let (mut places, mut again) = (Vec::with_capacity(sources + 1), Vec::new());
        for source in 0..sources {
            let row = table.row(source as u32);
            places.push(Place { synapses: row.len() as u32, again: again.len() as u32 });
            for &target in &table.targets[row] {
                let t = usize::from(target);
                let word = &mut rows[source * width + t / TARGETS_PER_CHUNK][t / 8 % 8];
                let bit = 1 << (8 * (t % 8) + t / 64 % 8);
                if *word & bit == 0 {
                    *word |= bit;
                } else {
                    again.push(target);
                }
            }
        }
        places.push(Place { synapses: 0, again: again.len() as u32 });
        Self { width, rows, places, again, planes: vec![[[0; 8]; 8]; width] }
    }

    /// Bytes of the synapses.
    pub fn bytes(&self) -> u64 {
        let lists = size_of_val(&self.places[..]) + size_of_val(&self.again[..]);
        (size_of_val(&self.rows[..]) + lists) as u64
    }

    /// Adds a spike of each source to the counts of its targets; gives the number of synapses.
    #[inline(always)]
    pub fn deliver<const SLOTS: usize>(&mut self, sources: &[u32], counts: &mut [u16; SLOTS]) -> u64 {
        sources.iter().for_each(|&source| prefetch(&self.places, source as usize));
        for part in sources.chunks(ROWS) {
            for (i, group) in part.chunks(GROUP).enumerate() {
                let next = part.chunks(GROUP).nth(i + 1).unwrap_or(&[]);
                self.add(group, next);
            }
            self.spread(counts);
        }
        for &source in sources {
            let again = self.places[source as usize].again as usize;
            prefetch(&self.again, again);
            prefetch(&self.again, again + 32);
        }
        let again = &self.again[..];
        let mut events = 0;
        for &source in sources {
            let [place, next] = &self.places[source as usize..source as usize + 2] else { continue };
            events += u64::from(place.synapses);
            for &target in &again[place.again as usize..next.again as usize] {
                let count = &mut counts[usize::from(target)];
                *count = count.wrapping_add(1); // cannot happen: the block has seen that counts fit
            }
        }
        events
    }

    /// Adds the rows of at most eight sources to the planes, and fetches those of `next`.
    #[inline(always)]
    fn add(&mut self, group: &[u32], next: &[u32]) {
        let empty = self.places.len() - 1;
        let row = |list: &[u32], i: usize| {
            let at = list.get(i).map_or(empty, |&source| source as usize) * self.width;
            &self.rows[at..at + self.width]
        };
        let rows: [&[Chunk]; GROUP] = std::array::from_fn(|i| row(group, i));
        let ahead: [&[Chunk]; GROUP] = std::array::from_fn(|i| row(next, i));
        for (c, planes) in self.planes.iter_mut().enumerate() {
            if !next.is_empty() {
                ahead.iter().for_each(|row| prefetch(row, c));
            }
            add_chunks(planes, &std::array::from_fn(|i| &rows[i][c]));
        }
    }

    /// Adds the planes to the counts, and empties them.
    #[allow(clippy::needless_range_loop)] // two rows at one index
    #[inline(always)]
    fn spread<const SLOTS: usize>(&mut self, counts: &mut [u16; SLOTS]) {
        for (planes, counts) in self.planes.iter_mut().zip(counts.chunks_mut(TARGETS_PER_CHUNK)) {
            let mut bytes = std::mem::take(planes);
            for (stride, mask) in
                [(1, 0x5555_5555_5555_5555), (2, 0x3333_3333_3333_3333), (4, 0x0f0f_0f0f_0f0f_0f0f)]
            {
                for low in (0..8).filter(|i| i & stride == 0) {
                    for w in 0..8 {
                        let other = ((bytes[low][w] >> stride) ^ bytes[low + stride][w]) & mask;
                        bytes[low + stride][w] ^= other;
                        bytes[low][w] ^= other << stride;
                    }
                }
            }
            for (counts, bytes) in counts.chunks_exact_mut(64).zip(&bytes) {
                let bytes = bytes.map(u64::to_le_bytes);
                for (count, byte) in counts.iter_mut().zip(bytes.as_flattened()) {
                    *count = count.wrapping_add(u16::from(*byte));
                }
            }
        }
    }
}

/// Adds eight rows to the planes. One loop over words, which becomes vector instructions.
#[inline(always)]
fn add_chunks(planes: &mut [Chunk; 8], rows: &[&Chunk; GROUP]) {
    for w in 0..8 {
        let (ones, twos_a) = full_adder(planes[0][w], rows[0][w], rows[1][w]);
        let (ones, twos_b) = full_adder(ones, rows[2][w], rows[3][w]);
        let (twos, fours_a) = full_adder(planes[1][w], twos_a, twos_b);
        let (ones, twos_a) = full_adder(ones, rows[4][w], rows[5][w]);
        let (ones, twos_b) = full_adder(ones, rows[6][w], rows[7][w]);
        let (twos, fours_b) = full_adder(twos, twos_a, twos_b);
        let (fours, mut carry) = full_adder(planes[2][w], fours_a, fours_b);
        (planes[0][w], planes[1][w], planes[2][w]) = (ones, twos, fours);
        for plane in &mut planes[3..] {
            (plane[w], carry) = (plane[w] ^ carry, plane[w] & carry);
        }
    }
}

/// The lower and the upper bit of `a + b + c`.
#[inline(always)]
fn full_adder(a: u64, b: u64, c: u64) -> (u64, u64) {
    let half = a ^ b;
    (half ^ c, (a & b) | (half & c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;
    use crate::snn::synapses::{Delays, Strengths};
    use rand::RngExt;

    #[test]
    fn counts_are_those_of_the_lists() {
        let mut walk = Stream::named(1, "masks").walk(0);
        for (sources, targets) in [(3, 1), (20, 63), (20, 513), (300, 1500), (700, 40)] {
            let (mut offsets, mut all) = (vec![0u32], Vec::new());
            for _ in 0..sources {
                // With multapses, and up to all targets.
                let mut row: Vec<u16> =
                    (0..walk.random_range(0..=targets)).map(|_| walk.random_range(0..targets)).collect();
                row.sort_unstable();
                all.extend(row);
                offsets.push(all.len() as u32);
            }
            let table = Table {
                range: 0..u32::from(targets),
                offsets,
                targets: all,
                weights: Strengths::Same(1.0),
                delays: Delays::Same(1),
            };
            let mut masks = Masks::new(&table);
            for spikes in [0, 1, 7, 8, 9, sources.min(255), sources] {
                let spikes: Vec<u32> = (0..spikes.min(sources)).collect();
                let (mut got, mut expected) = ([3u16; 2048], [3u16; 2048]);
                let mut events = 0;
                for &source in &spikes {
                    for &target in &table.targets[table.row(source)] {
                        expected[usize::from(target)] += 1;
                        events += 1;
                    }
                }
                assert_eq!(masks.deliver(&spikes, &mut got), events);
                assert!(got == expected, "{sources}, {targets}, {} spikes", spikes.len());
            }
        }
    }

    #[test]
    fn sparse_tables_stay_lists() {
        let table = Table {
            range: 0..1000,
            offsets: vec![0, 10],
            targets: (0..10).collect(),
            weights: Strengths::Same(1.0),
            delays: Delays::Same(1),
        };
        assert!(Masks::of(&table).is_none());
    }
}
