//! Synapses of a simulation on a GPU that are not stored: rows are drawn again whenever their source fires, and are those
//! that the CPU draws. `kernels/procedural.cu` has the formulas.

use super::layout::word;
use super::plastic::Spikes;
use crate::error::{Error, Result};
use crate::rng::Stream;
use crate::snn::Network;
use crate::snn::synapses::procedural::{self as rows, Numbers, Targets};
use crate::tensor::cuda::{Arg, Buffer, Geometry, Gpu};
use crate::tensor::kernels;

/// Most targets, and most synapses of a row.
const MOST_TARGETS: usize = 1 << 30;
/// Bytes of shared memory that a block has on any GPU.
const SHARED_BYTES: usize = 48 << 10;
/// Warps of a block.
const WARPS: usize = 8;

/// Whether the synapses of a simulation on a GPU are in its memory. The network, and what it does, are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connectivity {
    /// They are.
    #[default]
    Stored,
    /// Each row is drawn again when its source fires: the largest networks fit, and take more arithmetic.
    Procedural,
}

impl Connectivity {
    /// Whether a network can have it: rows are drawn again where the rule draws them source by source (dense,
    /// one-to-one, fixed-probability, fixed-out-degree, gaussian), and weights and delays are constant or uniform.
    ///
    /// # Errors
    /// [`Error::Network`] with every projection that cannot, and why.
    pub fn check(self, net: &Network) -> Result<()> {
        if self == Self::Stored {
            return Ok(());
        }
        let mut problems = rows::problems(net);
        if problems.is_empty() {
            for (index, p) in net.projections.iter().enumerate() {
                let row = rows::Procedural::new(net, index)?;
                let limit =
                    |what: String| format!("projection `{}`: no procedural connectivity: {what}", p.name);
                let degree = if let Targets::Repeated { k } = row.targets { k } else { 0 };
                if row.choices.max(degree) > MOST_TARGETS {
                    problems.push(limit(format!("a row of more than {MOST_TARGETS} synapses")));
                } else if 4 * taken_words(&row) > SHARED_BYTES {
                    let most = 8 * SHARED_BYTES;
                    problems.push(limit(format!(
                        "different targets among {} take a bit each of a block's shared memory, which has {most}; fixed-out-degree with multapses takes none",
                        row.choices
                    )));
                }
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Network(problems)) }
    }
}

/// A projection that is drawn again, and where its spikes are added up.
#[derive(Debug)]
pub(super) struct Spec {
    pub pre: usize,
    pub post: usize,
    /// Of the target's channels; then, what it is.
    pub channel: usize,
    pub sums: u32,
    pub ring: u32,
    pub padded: u32,
    pub scale: f32,
    pub row: rows::Procedural,
}

const TABLE_WORDS: usize = 22;
const NUMBERS: usize = 7;
/// Bytes of a projection, whatever its number of synapses.
pub(super) const BYTES: u64 = (4 * TABLE_WORDS + 8 * NUMBERS) as u64;

/// Words of a bit for each target, where these are different.
fn taken_words(row: &rows::Procedural) -> usize {
    if let Targets::Distinct { .. } = row.targets { row.choices.div_ceil(32) } else { 0 }
}

impl Spec {
    fn words(&self, dt: f64) -> Result<([u32; TABLE_WORDS], [f64; NUMBERS])> {
        let row = &self.row;
        let (mut degree, mut rule, mut places) = (0, [0.0; 2], [0; 4]);
        let targets = match row.targets {
            Targets::All => 0,
            Targets::Same => 1,
            Targets::Jumps { miss } => {
                rule[0] = miss;
                2
            }
            Targets::Distinct { k } => {
                degree = k;
                3
            }
            Targets::Repeated { k } => {
                degree = k;
                4
            }
            Targets::Near { p_max, spread, from, to } => {
                rule = [p_max, spread];
                places = [from.height, from.width, to.height, to.width];
                5
            }
        };
        let drawn = |numbers: &Numbers| match *numbers {
            Numbers::Same(value) => (0, [0; 2], value, [0.0; 2]),
            Numbers::Uniform { low, span, stream } => (1, Stream::key(&stream), 0.0, [low, span]),
        };
        let [key0, key1] = row.connect.key();
        let (own_weights, [weight_key0, weight_key1], weight, [weight_low, weight_span]) =
            drawn(&row.weights);
        let (own_delays, [delay_key0, delay_key1], delay, [delay_low, delay_span]) = drawn(&row.delays);
        let [from_height, from_width, to_height, to_width] = places.map(|side| side as u32);
        let words = [
            targets,
            word(row.choices, "targets")?,
            u32::from(row.skips_itself),
            word(degree, "synapses of a source")?,
            key0,
            key1,
            self.sums,
            self.ring,
            self.padded,
            self.scale.to_bits(),
            own_weights,
            weight_key0,
            weight_key1,
            (weight as f32).to_bits(),
            own_delays,
            delay_key0,
            delay_key1,
            delay as u32,
            from_height,
            from_width,
            to_height,
            to_width,
        ];
        Ok((words, [rule[0], rule[1], weight_low, weight_span, delay_low, delay_span, dt]))
    }
}

/// All projections that are drawn again.
pub(super) struct Procedural {
    fans: Buffer,
    tables: Buffer,
    numbers: Buffer,
    /// Most tables that begin at one population.
    fan: usize,
    /// Words of a warp's shared memory.
    taken: usize,
}

impl Procedural {
    /// What the kernel has to know of the projections, to the GPU.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn new(gpu: &Gpu, mut specs: Vec<Spec>, net: &Network) -> Result<Self> {
        specs.sort_by_key(|spec| spec.pre); // stable
        let (mut fans, mut fan, mut tables, mut numbers) = (vec![0u32], 0, Vec::new(), Vec::new());
        for pre in 0..net.populations.len() {
            let of = specs.iter().filter(|spec| spec.pre == pre).count();
            fans.push(fans[pre] + of as u32);
            fan = fan.max(of);
        }
        for spec in &specs {
            let (words, own) = spec.words(net.dt.0)?;
            tables.extend(words);
            numbers.extend(own);
        }
        Ok(Self {
            fans: gpu.upload(&fans)?,
            tables: gpu.upload(&tables)?,
            numbers: gpu.upload(&numbers)?,
            fan,
            taken: specs.iter().map(|spec| taken_words(&spec.row)).max().unwrap_or(0),
        })
    }

    /// The spikes of a stretch into the rings of as many slots, from the slot of its first step on.
    pub fn deliver(
        &self,
        spikes: Spikes<'_>,
        [slot, slots]: [u64; 2],
        [counts, sums, events]: [&mut Buffer; 3],
    ) -> Result<()> {
        let gpu = self.fans.gpu().clone();
        let warps = SHARED_BYTES.checked_div(4 * self.taken).map_or(WARPS, |room| room.clamp(1, WARPS));
        let mut args = [
            Arg::In(&self.fans),
            Arg::In(&self.tables),
            Arg::In(&self.numbers),
            Arg::In(spikes.fired),
            Arg::In(spikes.fired_count),
            Arg::In(spikes.inputs),
            Arg::U32(spikes.range.start),
            Arg::U32(spikes.range.end),
            Arg::I32(spikes.list),
            Arg::I32(slot as i32),
            Arg::I32(slots as i32),
            Arg::I32(self.fan as i32),
            Arg::I32(self.taken as i32),
            Arg::Out(counts),
            Arg::Out(sums),
            Arg::Out(events),
        ];
        let geometry = Geometry {
            grid: [8 * gpu.multiprocessors().max(1), 1, 1],
            block: [32 * warps as u32, 1, 1],
            shared_bytes: (4 * warps * self.taken) as u32,
        };
        gpu.launch(&kernels::PROCEDURAL, &kernels::PROCEDURAL_DELIVER, geometry, &mut args)
    }
}
