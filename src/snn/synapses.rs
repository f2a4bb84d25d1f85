//! The synapses of a projection of a simulation, drawn straight into compact tables that are cut by target.
//!
//! A table belongs to a block of consecutive targets and is sorted by source, so that a spike touches one short row
//! in each block, and whoever owns a block owns everything that its neurons receive. Targets are 16-bit offsets into
//! the block. A synapse takes 2 bytes where weights and delays are the same for all, and 7 or 8 where each has its
//! own, besides 4 bytes per source and block.
//!
//! What is drawn depends on the seed and the projection's name only, not on how targets are cut into blocks: rules
//! that fix something per target draw target by target, the others source by source, each from its own counters.

use super::init::{Base, Init, Recipe};
use super::plasticity::Plasticity;
use crate::units::Ms;
use std::ops::Range;

mod draw;
pub(crate) mod procedural;
mod torus;

/// Most targets of a block.
pub const MOST_TARGETS: usize = 1 << 16;

/// The synapses of one projection, cut by target.
#[derive(Clone, Debug, PartialEq)]
pub struct Synapses {
    /// One table per block of targets, in order.
    pub blocks: Vec<Block>,
}

/// The synapses of one projection onto one block of targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// The targets.
    pub range: Range<u32>,
    /// `[sources + 1]`: where the row of each source begins.
    pub offsets: Vec<u32>,
    /// `[synapses]`: targets, counted from the first of the block.
    pub targets: Vec<u16>,
    /// Weights.
    pub weights: Strengths,
    /// Delays in steps.
    pub delays: Delays,
}

/// Weights of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Strengths {
    /// The same for all.
    Same(f64),
    /// One per synapse.
    F32(Vec<f32>),
    /// One per synapse, for simulations in double precision.
    F64(Vec<f64>),
}

/// Delays of a table, in steps.
#[derive(Clone, Debug, PartialEq)]
pub enum Delays {
    /// The same for all.
    Same(u32),
    /// One per synapse, all below 256.
    Short(Vec<u8>),
    /// One per synapse.
    Each(Vec<u16>),
}

impl Synapses {
    /// Number of synapses.
    pub fn len(&self) -> u64 {
        self.blocks.iter().map(|block| block.targets.len() as u64).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the tables.
    pub fn bytes(&self) -> u64 {
        self.blocks.iter().map(Block::bytes).sum()
    }

    /// Shortest and longest delay, in steps.
    pub fn delay_range(&self) -> Option<(u32, u32)> {
        let ranges = self.blocks.iter().filter_map(|block| block.delays.range());
        ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Calls `synapse(target, weight, delay in steps)` for every synapse of a source, ascending by target.
    pub fn each(&self, source: u32, mut synapse: impl FnMut(u32, f64, u32)) {
        for block in &self.blocks {
            for place in block.row(source) {
                let target = block.range.start + u32::from(block.targets[place]);
                synapse(target, block.weights.get(place), block.delays.get(place));
            }
        }
    }
}

impl Block {
    /// Where the synapses of a source are.
    #[inline]
    pub fn row(&self, source: u32) -> Range<usize> {
        self.offsets[source as usize] as usize..self.offsets[source as usize + 1] as usize
    }

    /// Largest number of synapses that end on one target.
    pub fn most_per_target(&self) -> u32 {
        let mut counts = vec![0u32; self.range.len()];
        self.targets.iter().for_each(|&target| counts[usize::from(target)] += 1);
        counts.into_iter().max().unwrap_or(0)
    }

    /// Bytes of the table.
    pub fn bytes(&self) -> u64 {
        let weights = match &self.weights {
            Strengths::Same(_) => 0,
            Strengths::F32(values) => size_of_val(&values[..]),
            Strengths::F64(values) => size_of_val(&values[..]),
        };
        let delays = match &self.delays {
            Delays::Same(_) => 0,
            Delays::Short(values) => size_of_val(&values[..]),
            Delays::Each(values) => size_of_val(&values[..]),
        };
        (size_of_val(&self.offsets[..]) + size_of_val(&self.targets[..]) + weights + delays) as u64
    }
}

impl Strengths {
    /// The weight at a place.
    #[inline]
    pub fn get(&self, place: usize) -> f64 {
        match self {
            Self::Same(weight) => *weight,
            Self::F32(weights) => weights[place].into(),
            Self::F64(weights) => weights[place],
        }
    }

    fn push(&mut self, weight: f64) {
        match self {
            Self::Same(_) => {}
            Self::F32(weights) => weights.push(weight as f32),
            Self::F64(weights) => weights.push(weight),
        }
    }

    pub(crate) fn set(&mut self, place: usize, weight: f64) {
        match self {
            Self::Same(_) => {}
            Self::F32(weights) => weights[place] = weight as f32,
            Self::F64(weights) => weights[place] = weight,
        }
    }

    fn resize(&mut self, len: usize) {
        match self {
            Self::Same(_) => {}
            Self::F32(weights) => weights.resize(len, 0.0),
            Self::F64(weights) => weights.resize(len, 0.0),
        }
    }

    fn extend(&mut self, from: &Self, places: Range<usize>) {
        match (self, from) {
            (Self::F32(to), Self::F32(from)) => to.extend_from_slice(&from[places]),
            (Self::F64(to), Self::F64(from)) => to.extend_from_slice(&from[places]),
            _ => {}
        }
    }
}

impl Delays {
    /// The delay at a place.
    #[inline]
    pub fn get(&self, place: usize) -> u32 {
        match self {
            Self::Same(steps) => *steps,
            Self::Short(steps) => steps[place].into(),
            Self::Each(steps) => steps[place].into(),
        }
    }

    /// Shortest and longest.
    pub fn range(&self) -> Option<(u32, u32)> {
        match self {
            Self::Same(steps) => Some((*steps, *steps)),
            Self::Short(all) => Some((u32::from(*all.iter().min()?), u32::from(*all.iter().max()?))),
            Self::Each(all) => Some((u32::from(*all.iter().min()?), u32::from(*all.iter().max()?))),
        }
    }

    fn push(&mut self, delay: u32) {
        match self {
            Self::Same(_) => {}
            Self::Short(steps) => steps.push(delay as u8),
            Self::Each(steps) => steps.push(delay as u16),
        }
    }

    fn set(&mut self, place: usize, delay: u32) {
        match self {
            Self::Same(_) => {}
            Self::Short(steps) => steps[place] = delay as u8,
            Self::Each(steps) => steps[place] = delay as u16,
        }
    }

    fn resize(&mut self, len: usize) {
        match self {
            Self::Same(_) => {}
            Self::Short(steps) => steps.resize(len, 0),
            Self::Each(steps) => steps.resize(len, 0),
        }
    }

    fn extend(&mut self, from: &Self, places: Range<usize>) {
        match (self, from) {
            (Self::Short(to), Self::Short(from)) => to.extend_from_slice(&from[places]),
            (Self::Each(to), Self::Each(from)) => to.extend_from_slice(&from[places]),
            _ => {}
        }
    }
}

/// Bytes of a projection, estimated before it is drawn.
pub(super) fn bytes(
    weights: &Init,
    delays: &Delays,
    plastic: Option<&Plasticity>,
    synapses: f64,
    sources: usize,
) -> f64 {
    let own_delays = !matches!(delays, Delays::Same(_));
    let weight = if matches!(weights, Init::Constant(_)) && plastic.is_none() { 0.0 } else { 4.0 };
    let delay = if own_delays { 2.0 } else { 0.0 };
    let plastic = plastic.map_or(0.0, |plastic| plastic.bytes_per_synapse(own_delays));
    // Rows are drawn with 4 bytes a target; the rest is where the rows begin.
    (synapses * (2.0 + weight + delay + plastic) + 4.0 * (sources + 1) as f64).ceil()
}

/// Whether weights of a simulation can be drawn from this.
pub(super) fn fits(weights: &Init) -> bool {
    match weights {
        Init::KeepSign(inner) => matches!(**inner, Init::Uniform { .. } | Init::Normal { .. }),
        Init::Constant(_)
        | Init::Uniform { .. }
        | Init::Normal { .. }
        | Init::Listed(_)
        | Init::ListedF64(_) => true,
        _ => false,
    }
}

/// Why delays cannot be drawn from this.
pub(super) fn delay_problem(recipe: &Recipe<'_>, dt: Ms) -> Option<String> {
    let steps = |ms: f64| (ms / dt.0).round();
    let (least, most) = match recipe.base {
        Base::Constant(ms) => (ms, ms),
        Base::Uniform { low, high } => (low, high),
        Base::Normal { mean, std } => (mean.max(dt.0 * f64::from(u8::from(mean > 0.0))), mean + 8.0 * std),
        Base::Listed(all) => {
            all.iter().fold((f64::MAX, 0.0), |(a, b), &d| (f64::min(a, d.into()), f64::max(b, d.into())))
        }
        Base::ListedF64(all) => all.iter().fold((f64::MAX, 0.0), |(a, b), &d| (a.min(d), f64::max(b, d))),
        Base::Kaiming => return Some("delays cannot be drawn from it".into()),
    };
    let most_steps = f64::from(u16::MAX);
    if steps(least) < 1.0 || least.is_nan() {
        return Some(format!("a delay is {}; it must be at least the time step, {dt}", Ms(least)));
    }
    (steps(most) > most_steps)
        .then(|| format!("a delay is {}; it must be at most {}", Ms(most), Ms(most_steps * dt.0)))
}
