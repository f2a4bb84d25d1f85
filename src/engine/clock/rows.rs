//! The synapses of a table while a simulation runs: everything about a row stands together, so that a spike waits for as
//! few lines and pages of memory as there can be.
//!
//! A row of `k` synapses is `k` weights, then `k` targets, then `k` delays, without gaps and in the byte order of the
//! machine. What all synapses have in common is left out.

use super::simd::{advise_large_pages, in_large_pages, prefetch};
use crate::snn::Real;
use crate::snn::synapses::{Block as Table, Delays, Strengths};
use std::ops::Range;

/// Weights of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Weight {
    Same(f64),
    F32,
    F64,
}

/// Delays of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Delay {
    Same(u32),
    Short,
    Each,
}

impl Weight {
    pub fn of(weights: &Strengths) -> Self {
        match weights {
            Strengths::Same(weight) => Self::Same(*weight),
            Strengths::F32(_) => Self::F32,
            Strengths::F64(_) => Self::F64,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Same(_) => 0,
            Self::F32 => size_of::<f32>(),
            Self::F64 => size_of::<f64>(),
        }
    }
}

impl Delay {
    pub fn of(delays: &Delays) -> Self {
        match delays {
            Delays::Same(steps) => Self::Same(*steps),
            Delays::Short(_) => Self::Short,
            Delays::Each(_) => Self::Each,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Same(_) => 0,
            Self::Short => size_of::<u8>(),
            Self::Each => size_of::<u16>(),
        }
    }
}

/// The bytes of a 16-bit number.
pub(super) type Short = [u8; size_of::<u16>()];

/// Synapses of a projection onto a block.
pub(super) struct Rows {
    /// `[sources + 1]`: synapses before the row of each source.
    offsets: Vec<u32>,
    bytes: Vec<u8>,
    weight: Weight,
    delay: Delay,
}

/// Who gets spikes with delays of their own.
pub(super) trait Receive<F> {
    /// One of them; to be inlined.
    fn receive(&mut self, target: u16, delay: usize, weight: F);
}

/// Some synapses of a row.
pub(super) struct Piece<'r> {
    weight: Weight,
    delay: Delay,
    weights: &'r [u8],
    /// Numbers of the targets in the block.
    pub targets: &'r [Short],
    delays: &'r [u8],
}

impl Rows {
    pub fn new(table: Table) -> Self {
        let Table { offsets, targets, weights, delays, .. } = table;
        let (weight, delay) = (Weight::of(&weights), Delay::of(&delays));
        let mut bytes =
            Vec::with_capacity(targets.len() * (weight.bytes() + size_of::<Short>() + delay.bytes()));
        advise_large_pages(bytes.spare_capacity_mut());
        for ends in offsets.windows(2) {
            let row = ends[0] as usize..ends[1] as usize;
            match &weights {
                Strengths::Same(_) => {}
                Strengths::F32(weights) => {
                    bytes.extend_from_slice(bytemuck::cast_slice(&weights[row.clone()]))
                }
                Strengths::F64(weights) => {
                    bytes.extend_from_slice(bytemuck::cast_slice(&weights[row.clone()]))
                }
            }
            bytes.extend_from_slice(bytemuck::cast_slice(&targets[row.clone()]));
            match &delays {
                Delays::Same(_) => {}
                Delays::Short(delays) => bytes.extend_from_slice(&delays[row]),
                Delays::Each(delays) => bytes.extend_from_slice(bytemuck::cast_slice(&delays[row])),
            }
        }
        Self { offsets: in_large_pages(offsets), bytes, weight, delay }
    }

    /// Bytes of the synapses.
    pub fn bytes(&self) -> u64 {
        (size_of_val(&self.offsets[..]) + self.bytes.len()) as u64
    }

    /// Synapses of a source, on average.
    pub fn mean(&self) -> f64 {
        self.offsets.last().map_or(0.0, |&all| f64::from(all) / (self.offsets.len() - 1).max(1) as f64)
    }

    /// Bytes of a synapse.
    #[inline(always)]
    fn synapse(&self) -> usize {
        self.weight.bytes() + size_of::<Short>() + self.delay.bytes()
    }

    #[inline(always)]
    fn row(&self, source: u32) -> Range<usize> {
        self.offsets[source as usize] as usize..self.offsets[source as usize + 1] as usize
    }

    /// Goes through the rows of some sources in pieces, and gives the number of synapses. Rows lie anywhere in a table
    /// that is larger than the cache: with each piece comes the hint that as much of a row some places below is wanted
    /// soon, and before that, where that row begins.
    #[inline(always)]
    pub fn pieces(&self, sources: &[u32], mut each: impl FnMut(Piece<'_>)) -> u64 {
        let synapse = self.synapse();
        let ahead = 1 + AHEAD / (self.mean() as usize).max(AHEAD / 16);
        let lines_of_piece = (PIECE * synapse).div_ceil(LINE);
        let mut events = 0;
        for i in 0..sources.len() {
            if let Some(&later) = sources.get(i + 2 * ahead) {
                prefetch(&self.offsets, later as usize);
            }
            let row = self.row(sources[i]);
            let next = sources.get(i + ahead).map_or(0..0, |&source| self.row(source));
            let next = synapse * next.start..synapse * next.end;
            let mut lines = next.clone().step_by(LINE);
            let k = row.len();
            let (weights, rest) =
                self.bytes[synapse * row.start..synapse * row.end].split_at(k * self.weight.bytes());
            let (targets, delays) = rest.split_at(k * size_of::<Short>());
            let targets = targets.as_chunks().0;
            for start in (0..k).step_by(PIECE) {
                for at in lines.by_ref().take(lines_of_piece) {
                    prefetch(&self.bytes, at);
                }
                let end = k.min(start + PIECE);
                each(Piece {
                    weight: self.weight,
                    delay: self.delay,
                    weights: &weights[start * self.weight.bytes()..end * self.weight.bytes()],
                    targets: &targets[start..end],
                    delays: &delays[start * self.delay.bytes()..end * self.delay.bytes()],
                });
            }
            // It may be longer, and end in one line more.
            for at in lines.chain([next.end.saturating_sub(1)]) {
                prefetch(&self.bytes, at);
            }
            events += k as u64;
        }
        events
    }
}

/// Synapses that are gone through at once: their targets fill a cache line.
const PIECE: usize = 32;

/// Synapses between those that are read and those that are asked for: they take about as long as memory does.
const AHEAD: usize = 256;

/// Bytes of a cache line.
const LINE: usize = 64;

impl Piece<'_> {
    /// Calls `add(target, weight)` for each synapse.
    #[inline(always)]
    pub fn weighted<F: Real>(&self, mut add: impl FnMut(usize, F)) {
        let targets = self.targets.iter().map(|&target| usize::from(u16::from_ne_bytes(target)));
        match self.weight {
            Weight::Same(weight) => {
                for target in targets {
                    add(target, F::of(weight));
                }
            }
            Weight::F32 => {
                for (target, &weight) in targets.zip(self.weights.as_chunks().0) {
                    add(target, F::of(f32::from_ne_bytes(weight).into()));
                }
            }
            Weight::F64 => {
                for (target, &weight) in targets.zip(self.weights.as_chunks().0) {
                    add(target, F::of(f64::from_ne_bytes(weight)));
                }
            }
        }
    }

    /// Sends a spike through each synapse with its own delay.
    #[inline(always)]
    pub fn send<F: Real>(&self, to: &mut impl Receive<F>) {
        match self.delay {
            Delay::Same(_) => {} // is the projection's
            Delay::Short => self.send_after(self.delays.iter().map(|&delay| delay.into()), to),
            Delay::Each => {
                let delays = self.delays.as_chunks().0.iter();
                self.send_after(delays.map(|&delay| u16::from_ne_bytes(delay).into()), to);
            }
        }
    }

    // Loops and no closures, which would be compiled once and for any processor, and called for each synapse.
    #[inline(always)]
    fn send_after<F: Real>(&self, delays: impl Iterator<Item = usize>, to: &mut impl Receive<F>) {
        let synapses = self.targets.iter().map(|&target| u16::from_ne_bytes(target)).zip(delays);
        match self.weight {
            Weight::Same(weight) => {
                for (target, delay) in synapses {
                    to.receive(target, delay, F::of(weight));
                }
            }
            Weight::F32 => {
                for ((target, delay), &weight) in synapses.zip(self.weights.as_chunks().0) {
                    to.receive(target, delay, F::of(f32::from_ne_bytes(weight).into()));
                }
            }
            Weight::F64 => {
                for ((target, delay), &weight) in synapses.zip(self.weights.as_chunks().0) {
                    to.receive(target, delay, F::of(f64::from_ne_bytes(weight)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Receive<f64> for Vec<(usize, f64, u32)> {
        fn receive(&mut self, target: u16, delay: usize, weight: f64) {
            self.push((target.into(), weight, delay as u32));
        }
    }

    /// Every synapse of a table as its rows give it.
    fn all(rows: &Rows, sources: &[u32]) -> Vec<(usize, f64, u32)> {
        let mut synapses = Vec::new();
        let events = rows.pieces(sources, |piece| match piece.delay {
            Delay::Same(steps) => {
                piece.weighted(|target, weight: f64| synapses.push((target, weight, steps)))
            }
            _ => piece.send(&mut synapses),
        });
        assert_eq!(events, synapses.len() as u64);
        synapses
    }

    #[test]
    fn rows_are_those_of_the_table() {
        let lengths = [0, 1, 2, 31, 0, 32, 33, 100, 3];
        let offsets: Vec<u32> = (0..=lengths.len()).map(|i| lengths[..i].iter().sum()).collect();
        let n = 202;
        let weights = || (0..n).map(|i| f64::from(i) / 8.0 - 9.0);
        let kinds = [
            Strengths::Same(1.5),
            Strengths::F32(weights().map(|w| w as f32).collect()),
            Strengths::F64(weights().collect()),
        ];
        for weights in kinds {
            let delays = [
                Delays::Same(7),
                Delays::Short((0..n).map(|i| i as u8).collect()),
                Delays::Each((0..n).map(|i| 300 * i as u16).collect()),
            ];
            for delays in delays {
                let targets = (0..n).map(|i| (i * 317 % 65_536) as u16).collect();
                let range = 0..65_536;
                let table =
                    Table { range, offsets: offsets.clone(), targets, weights: weights.clone(), delays };
                let rows = Rows::new(table.clone());
                assert_eq!(rows.bytes(), table.bytes());
                let sources = [7, 3, 3, 0, 8, 1, 4, 6, 5, 2];
                let want = sources
                    .iter()
                    .flat_map(|&source| table.row(source))
                    .map(|i| (usize::from(table.targets[i]), table.weights.get(i), table.delays.get(i)));
                assert_eq!(all(&rows, &sources), want.collect::<Vec<_>>(), "{weights:?}");
            }
        }
    }
}
