//! Plastic projections of a simulation on a GPU: pair and triplet STDP with one delay for all synapses of a projection.
//! Weights and traces equal those of the CPU to the last bit; `kernels/plastic.cu` has the formulas.

use super::layout::{lacks, word};
use crate::engine::Connections;
use crate::error::Result;
use crate::snn::plasticity::{Decay, Pairing, Plasticity, Rule};
use crate::snn::synapses::{Block, Delays};
use crate::snn::{Projection, Source};
use crate::tensor::cuda::{Arg, Buffer, Geometry, Gpu};
use crate::tensor::kernels::{self, ElementType};
use crate::units::Ms;
use std::ops::Range;

/// Most factors of a trace that are kept: time constants up to 11,200 steps.
const MOST_FACTORS: usize = 1 << 23;

/// The plastic synapses of a projection onto a block of targets.
#[derive(Debug)]
pub(super) struct Spec {
    pub projection: usize,
    pub pre: usize,
    pub post: usize,
    /// Of the target's channels; then, where the ring is, its width and its scale.
    pub channel: usize,
    pub ring: u32,
    pub padded: u32,
    pub scale: f32,
    pub rule: Rule,
    pub block: Block,
}

impl Spec {
    /// The rule of a projection, or why it has no kernel.
    pub fn rule(p: &Projection, plasticity: &Plasticity, source: Option<&Source>) -> Result<Rule> {
        let lacks = |why: &str| Err(lacks(format!("with {why}, in the plastic projection `{}`", p.name)));
        match plasticity.rule {
            Rule::Pair(rule) if ![0.0, 1.0].contains(&rule.mu) => {
                return lacks("an exponent of the rule other than 0 and 1");
            }
            Rule::Reward(_) => return lacks("a rule that waits for rewards"),
            Rule::Pair(_) | Rule::Triplet(_) => {}
        }
        if plasticity.normalise.is_some() {
            return lacks("weights that are normalised");
        }
        if p.wiring.delays.is_some() {
            return lacks("a delay for each synapse");
        }
        if let Some(Source::Spikes(list)) = source {
            let mut list = list.clone();
            list.sort_unstable();
            if list.windows(2).any(|pair| pair[0] == pair[1]) {
                return lacks("sources that fire several times in a step");
            }
        }
        Ok(plasticity.rule)
    }

    fn delay(&self) -> u32 {
        if let Delays::Same(steps) = self.block.delays { steps } else { 0 }
    }
}

/// All plastic synapses of a network.
pub(super) struct Plastic {
    /// Projection, sources and targets of each table, and where its synapses begin.
    tables: Vec<Table>,
    words: Buffer,
    rules: Buffer,
    decays: Buffer,
    offsets: Buffer,
    columns: Buffer,
    targets: Buffer,
    sources: Buffer,
    entering: Buffer,
    /// Most arrivals of a step.
    capacity: u32,
    slots: u64,
    pub weights: Buffer,
    pub values: Buffer,
    pub since: Buffer,
    pub arrivals: Buffer,
    pub arrival_count: Buffer,
}

struct Table {
    projection: usize,
    base: usize,
    sources: Vec<u32>,
    /// Numbers in the population.
    targets: Vec<u32>,
}

/// Bytes of the plastic synapses on a GPU, in steps of `dt`.
pub(super) fn bytes(specs: &[Spec], slots: u64, dt: Ms) -> u64 {
    let of = |spec: &Spec| {
        let (sources, targets) = (spec.block.offsets.len() as u64, spec.block.range.len() as u64);
        let traces = if let Rule::Triplet(_) = spec.rule { 32 } else { 16 };
        14 * spec.block.targets.len() as u64 + (4 + traces + 8 * slots) * sources + (4 + traces) * targets
    };
    let rules = specs.iter().filter_map(|spec| Parameters::of(&spec.rule).ok());
    let mut taus: Vec<f64> = rules.flat_map(|rule| rule.taus.concat()).map(|tau| tau.0).collect();
    taus.sort_by(f64::total_cmp);
    taus.dedup();
    specs.iter().map(of).sum::<u64>() + taus.iter().map(|&tau| Factors::bytes(Ms(tau), dt)).sum::<u64>()
}

impl Plastic {
    /// Takes the synapses to the GPU.
    ///
    /// # Errors
    /// Time constants that are too long; not enough memory.
    pub fn new(gpu: &Gpu, specs: Vec<Spec>, dt: Ms, slots: u64) -> Result<Self> {
        let (mut words, mut rules, mut decays) = (Vec::new(), Vec::new(), Factors::default());
        let (mut offsets, mut columns, mut entering) = (Vec::new(), Vec::new(), Vec::new());
        let (mut targets, mut sources, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        let (mut tables, mut traces, mut capacity) = (Vec::new(), 0, 0);
        for spec in &specs {
            let block = &spec.block;
            let (rows, width) = (block.offsets.len() - 1, block.range.len());
            let Parameters { kind, taus, pairing, numbers } = Parameters::of(&spec.rule)?;
            let [min, max] = spec.rule.bounds();
            let base = weights.len();
            words.extend([
                spec.pre as u32,
                spec.post as u32,
                block.range.start,
                width as u32,
                spec.ring,
                spec.padded,
                spec.scale.to_bits(),
                spec.delay(),
                word(offsets.len(), "plastic sources")?,
                word(columns.len(), "plastic targets")?,
                word(base, "plastic synapses")?,
                u32::from(pairing == Pairing::Nearest),
                kind,
            ]);
            // Fast, then slow ones; sources before targets in both.
            let both = rows + width;
            for (side, first) in taus.into_iter().zip([traces, traces + rows]) {
                for (tau, first) in side.into_iter().zip([first, first + both]) {
                    let factors = decays.of(tau, dt)?;
                    words.extend([word(first, "traces")?, factors.start, factors.end]);
                }
            }
            rules.extend(numbers);
            traces += if kind == TRIPLETS { 2 * both } else { both };
            capacity += rows;
            let mut of: Vec<u32> = Vec::with_capacity(block.targets.len());
            for source in 0..rows as u32 {
                of.resize(of.len() + block.row(source).len(), source);
            }
            let mut places: Vec<u32> = (0..block.targets.len() as u32).collect();
            places.sort_by_key(|&place| block.targets[place as usize]); // stable: ascending within a target
            let mut starts = vec![0u32; width + 1];
            block.targets.iter().for_each(|&target| starts[usize::from(target) + 1] += 1);
            (0..width).for_each(|i| starts[i + 1] += starts[i]);
            let in_population = |&target: &u16| block.range.start + u32::from(target);
            tables.push(Table {
                projection: spec.projection,
                base,
                sources: of.clone(),
                targets: block.targets.iter().map(in_population).collect(),
            });
            offsets.extend_from_slice(&block.offsets);
            columns.extend(starts);
            entering.extend(places);
            targets.extend_from_slice(&block.targets);
            sources.extend(of);
            let weight = |place| block.weights.get(place).max(min).min(max) as f32;
            weights.extend((0..block.targets.len()).map(weight));
        }
        word(weights.len(), "plastic synapses")?;
        Ok(Self {
            tables,
            words: gpu.upload(&words)?,
            rules: gpu.upload(&rules)?,
            decays: gpu.upload(&decays.all)?,
            offsets: gpu.upload(&offsets)?,
            columns: gpu.upload(&columns)?,
            targets: gpu.upload(&targets)?,
            sources: gpu.upload(&sources)?,
            entering: gpu.upload(&entering)?,
            capacity: word(capacity, "plastic sources")?,
            slots,
            weights: gpu.upload(&weights)?,
            values: gpu.zeros(ElementType::F64, traces)?,
            since: gpu.zeros(ElementType::U64, traces)?,
            arrivals: gpu.zeros(ElementType::U64, capacity * slots as usize)?,
            arrival_count: gpu.zeros(ElementType::U32, slots as usize)?,
        })
    }

    /// The spikes that arrive in a step, before the neurons.
    pub fn arrive(&mut self, step: u64, sums: &mut Buffer) -> Result<()> {
        let gpu = self.words.gpu().clone();
        let slot = (step % self.slots) as i32;
        let mut args = [
            Arg::In(&self.words),
            Arg::In(&self.rules),
            Arg::In(&self.decays),
            Arg::In(&self.offsets),
            Arg::In(&self.targets),
            Arg::In(&self.arrivals),
            Arg::In(&self.arrival_count),
            Arg::U32(self.capacity),
            Arg::U64(step),
            Arg::I32(slot),
            Arg::Out(&mut self.weights),
            Arg::Out(&mut self.values),
            Arg::Out(&mut self.since),
            Arg::Out(sums),
        ];
        gpu.launch(&kernels::PLASTIC, &kernels::PLASTIC_ARRIVE, geometry(&gpu), &mut args)
    }

    /// The spikes of a step, after the neurons.
    pub fn spikes(&mut self, step: u64, spikes: Spikes<'_>, events: &mut Buffer) -> Result<()> {
        let gpu = self.words.gpu().clone();
        let mut args = [
            Arg::In(&self.words),
            Arg::I32(self.tables.len() as i32),
            Arg::In(&self.rules),
            Arg::In(&self.decays),
            Arg::In(&self.offsets),
            Arg::In(&self.columns),
            Arg::In(&self.entering),
            Arg::In(&self.sources),
            Arg::In(spikes.fired),
            Arg::In(spikes.fired_count),
            Arg::In(spikes.inputs),
            Arg::U32(spikes.range.start),
            Arg::U32(spikes.range.end),
            Arg::I32(spikes.list),
            Arg::U32(self.capacity),
            Arg::U64(step),
            Arg::I32((step % self.slots) as i32),
            Arg::I32(self.slots as i32),
            Arg::Out(&mut self.weights),
            Arg::Out(&mut self.values),
            Arg::Out(&mut self.since),
            Arg::Out(&mut self.arrivals),
            Arg::Out(&mut self.arrival_count),
            Arg::Out(events),
        ];
        gpu.launch(&kernels::PLASTIC, &kernels::PLASTIC_SPIKES, geometry(&gpu), &mut args)
    }

    /// The synapses of a projection, ascending by source, then by target.
    pub fn connections(&self, projection: usize) -> Result<Connections> {
        let weights = self.weights.download::<f32>()?;
        let mut all: Vec<(u32, u32, f64)> = Vec::new();
        for table in self.tables.iter().filter(|table| table.projection == projection) {
            let own = weights[table.base..].iter().map(|&weight| weight.into());
            let pairs = table.sources.iter().zip(&table.targets);
            all.extend(pairs.zip(own).map(|((&source, &target), weight)| (source, target, weight)));
        }
        all.sort_by_key(|&(source, target, _)| (source, target));
        Ok(Connections {
            sources: all.iter().map(|s| s.0).collect(),
            targets: all.iter().map(|s| s.1).collect(),
            weights: all.iter().map(|s| s.2).collect(),
        })
    }
}

/// Who fired in a step, as the kernel reads it.
pub(super) struct Spikes<'a> {
    pub fired: &'a Buffer,
    pub fired_count: &'a Buffer,
    pub list: i32,
    pub inputs: &'a Buffer,
    pub range: Range<u32>,
}

fn geometry(gpu: &Gpu) -> Geometry {
    let grid = [8 * gpu.multiprocessors().max(1), 1, 1];
    Geometry { grid, block: [256, 1, 1], shared_bytes: 0 }
}

/// Kinds of rules, as the kernel numbers them.
const PAIRS_ADDITIVE: u32 = 0;
const PAIRS_MULTIPLICATIVE: u32 = 1;
const TRIPLETS: u32 = 2;

/// A rule as the kernel reads it.
struct Parameters {
    kind: u32,
    /// Of the fast and the slow trace of sources, and of targets; pairs do not read the slow ones.
    taus: [[Ms; 2]; 2],
    pairing: Pairing,
    /// A+, A−, smallest and largest weight, A₃+, A₃−.
    numbers: [f64; 6],
}

impl Parameters {
    fn of(rule: &Rule) -> Result<Self> {
        let [min, max] = rule.bounds();
        Ok(match rule {
            Rule::Pair(rule) => Self {
                kind: if rule.mu == 1.0 { PAIRS_MULTIPLICATIVE } else { PAIRS_ADDITIVE },
                taus: [[rule.tau_plus; 2], [rule.tau_minus; 2]],
                pairing: rule.pairing,
                numbers: [rule.a_plus, rule.a_minus, min, max, 0.0, 0.0],
            },
            Rule::Triplet(rule) => Self {
                kind: TRIPLETS,
                taus: [[rule.tau_plus, rule.tau_x], [rule.tau_minus, rule.tau_y]],
                pairing: rule.pairing,
                numbers: [rule.a2_plus, rule.a2_minus, min, max, rule.a3_plus, rule.a3_minus],
            },
            Rule::Reward(_) => return Err(lacks("with a rule that waits for rewards".into())),
        })
    }
}

/// Factors of traces until they are 0, one time constant after the other.
#[derive(Default)]
struct Factors {
    all: Vec<f64>,
    known: Vec<(Ms, Range<u32>)>,
}

impl Factors {
    /// Bytes of those of a time constant: in double precision a factor is above 0 for 745.13 of them.
    fn bytes(tau: Ms, dt: Ms) -> u64 {
        8 * (745.2 * tau.0 / dt.0).ceil() as u64
    }

    /// Where those of a time constant are.
    fn of(&mut self, tau: Ms, dt: Ms) -> Result<Range<u32>> {
        if let Some((_, range)) = self.known.iter().find(|(known, _)| *known == tau) {
            return Ok(range.clone());
        }
        let (decay, start) = (Decay::new(tau, dt), self.all.len());
        let factors = (0..).map(|steps| decay.over(steps)).take_while(|&factor| factor > 0.0);
        self.all.extend(factors.take(MOST_FACTORS));
        if self.all.len() - start == MOST_FACTORS {
            return Err(lacks(format!("with a trace of {tau} in steps of {dt}")));
        }
        let range = start as u32..word(self.all.len(), "factors of traces")?;
        self.known.push((tau, range.clone()));
        Ok(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_take_what_was_planned() -> Result<()> {
        for (tau, dt) in [(20.0, 0.1), (946.0, 0.1), (3.0, 1.0)] {
            let mut factors = Factors::default();
            factors.of(Ms(tau), Ms(dt))?;
            assert_eq!(factors.of(Ms(tau), Ms(dt))?, 0..factors.all.len() as u32);
            let (planned, taken) = (Factors::bytes(Ms(tau), Ms(dt)), 8 * factors.all.len() as u64);
            assert!(taken <= planned && planned <= taken + taken / 1000 + 8, "{planned} for {taken}");
        }
        assert!(Factors::default().of(Ms(1200.0), Ms(0.1)).is_err());
        Ok(())
    }
}
