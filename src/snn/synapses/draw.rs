//! Drawing the synapses of a projection: by target where the rule fixes something per target, else by source.

use super::torus::Near;
use super::{Block, Delays, Strengths, Synapses};
use crate::error::{Error, Result};
use crate::parallel;
use crate::rng::Stream;
use crate::snn::connect::{Rule, distinct, with_probability};
use crate::snn::init::{Base, Init, Recipe};
use crate::snn::network::{Network, Projection};
use crate::snn::weights::{Values, Weights};
use rand::RngExt;
use rand_distr::{Binomial, Distribution};
use std::ops::Range;

/// Sources whose rows are drawn at once, before they are cut by target.
const SOURCES_AT_ONCE: usize = 1 << 14;
/// Sources of one piece of parallel work.
pub(super) const SOURCES_PER_PIECE: usize = 64;

impl Synapses {
    /// Draws a projection, for targets cut into `blocks`; `double` keeps individual weights in `f64`.
    ///
    /// # Errors
    /// Weights that are stored in a form that simulations do not have, or too many synapses in one block.
    pub fn draw(net: &Network, projection: usize, blocks: &[Range<u32>], double: bool) -> Result<Self> {
        let p = &net.projections[projection];
        let (sources, targets) = (net.populations[p.pre.0].size(), net.populations[p.post.0].size());
        let pen = Pen::new(net, p, double)?;
        let self_connected = p.wiring.autapses || p.pre != p.post;
        let blocks = match p.rule {
            Rule::FixedInDegree { .. } | Rule::FixedInDegreeMultapses { .. } | Rule::FixedTotal { .. }
                if p.weights.is_deferred() =>
            {
                by_target(p, &pen, net.seed, sources, targets, blocks, self_connected)
            }
            _ => by_source(net, p, &pen, blocks, self_connected),
        };
        Ok(Self { blocks: blocks? })
    }
}

/// Draws weights and delays, and knows how they are kept.
pub(super) struct Pen<'a> {
    /// `None` where all are `same`.
    pub weights: Option<Recipe<'a>>,
    pub same: f64,
    double: bool,
    /// `None` where all are `delay`, in steps.
    pub delays: Option<Recipe<'a>>,
    pub delay: u32,
    short: bool,
    dt: f64,
    pub weight_stream: Stream,
    pub delay_stream: Stream,
}

impl<'a> Pen<'a> {
    pub fn new(net: &'a Network, p: &'a Projection, double: bool) -> Result<Self> {
        let stream = |of: &str| Stream::named(net.seed, &format!("projection/{}/{of}", p.name));
        let recipe = p.init.recipe().map_err(Error::Network)?;
        let (mut weights, mut same) = (Some(recipe), 0.0);
        // Weights that change are kept one by one, even where they begin equal.
        let stay = p.weights.is_deferred() && p.wiring.plasticity.is_none();
        if let (Base::Constant(weight), true) = (weights.as_ref().map_or(Base::Kaiming, |r| r.base), stay) {
            (weights, same) = (None, weight);
        }
        let steps = |ms: f64| (ms / net.dt.0).round() as u32;
        let mut delays = p.wiring.delays.as_ref().map(Init::recipe).transpose().map_err(Error::Network)?;
        let mut delay = p.delay.map_or(0, |delay| steps(delay.0));
        if let Some(Recipe { base: Base::Constant(ms), .. }) = delays {
            (delays, delay) = (None, steps(ms));
        }
        if delays.is_none() && delay == 0 {
            let what = format!(
                "projection `{}` has no delay; a simulation needs one of at least a time step",
                p.name
            );
            return Err(Error::Network(vec![what]));
        }
        let longest = match delays.as_ref().map(|recipe| recipe.base) {
            Some(Base::Uniform { high, .. }) => high,
            Some(Base::Normal { mean, std }) => mean + 8.0 * std,
            Some(Base::Listed(all)) => all.iter().fold(0.0, |a, &b| f64::max(a, b.into())),
            Some(Base::ListedF64(all)) => all.iter().fold(0.0, |a, &b| f64::max(a, b)),
            _ => 0.0,
        };
        Ok(Self {
            weights,
            same,
            double,
            delays,
            delay,
            short: steps(longest) <= u32::from(u8::MAX),
            dt: net.dt.0,
            weight_stream: stream("weights"),
            delay_stream: stream("delays"),
        })
    }

    fn no_weights(&self) -> Strengths {
        match (&self.weights, self.double) {
            (None, _) => Strengths::Same(self.same),
            (_, false) => Strengths::F32(Vec::new()),
            (_, true) => Strengths::F64(Vec::new()),
        }
    }

    fn no_delays(&self) -> Delays {
        match (&self.delays, self.short) {
            (None, _) => Delays::Same(self.delay),
            (_, true) => Delays::Short(Vec::new()),
            (_, false) => Delays::Each(Vec::new()),
        }
    }

    /// The weights of one row or column, whose synapses stand at these places of a listed table.
    fn weights(&self, index: u64, places: impl Iterator<Item = usize>, mut weight: impl FnMut(f64)) {
        let Some(recipe) = &self.weights else { return };
        let mut walk = self.weight_stream.walk(index);
        for place in places {
            weight(match recipe.keep_sign {
                true => recipe.base.sample_signed(&mut walk, place),
                false => recipe.base.sample(&mut walk, place),
            });
        }
    }

    /// The delays of one row or column, in steps.
    fn delays(&self, index: u64, places: impl Iterator<Item = usize>, mut delay: impl FnMut(u32)) {
        let Some(recipe) = &self.delays else { return };
        let most = f64::from(if self.short { u8::MAX.into() } else { u16::MAX });
        let mut walk = self.delay_stream.walk(index);
        for place in places {
            let steps = loop {
                let steps = (recipe.base.sample(&mut walk, place) / self.dt).round();
                // Only a normal distribution reaches beyond; the others were checked.
                if (1.0..=most).contains(&steps) || !matches!(recipe.base, Base::Normal { .. }) {
                    break steps.clamp(1.0, most);
                }
            };
            delay(steps as u32);
        }
    }
}

/// Rules that fix something per target: column by column, then sorted by source.
fn by_target(
    p: &Projection,
    pen: &Pen<'_>,
    seed: u64,
    sources: usize,
    targets: usize,
    blocks: &[Range<u32>],
    self_connected: bool,
) -> Result<Vec<Block>> {
    let stream = Stream::named(seed, &format!("projection/{}/connect", p.name));
    // Where the synapses of each target begin in the whole projection.
    let begins: Vec<u64> = match p.rule {
        Rule::FixedInDegree { k } | Rule::FixedInDegreeMultapses { k } => {
            (0..=targets as u64).map(|target| target * k as u64).collect()
        }
        Rule::FixedTotal { n } => totals(n, targets, seed, &p.name)?,
        _ => return Err(Error::Internal("this rule is drawn by source".into())),
    };
    let draw = |range: &Range<u32>| -> Result<Block> {
        let begin = begins[range.start as usize];
        let len = begins[range.end as usize] - begin;
        let len = u32::try_from(len).map_err(|_| too_many(&p.name, len))? as usize;
        let mut drawn: Vec<u32> = Vec::with_capacity(len);
        let choices = if self_connected { sources } else { sources - 1 };
        let distinct_sources = matches!(p.rule, Rule::FixedInDegree { .. });
        let mut taken = vec![false; if distinct_sources { choices } else { 0 }];
        for target in range.clone() {
            let start = drawn.len();
            if distinct_sources {
                let k = (begins[target as usize + 1] - begins[target as usize]) as usize;
                drawn.extend(distinct(k.min(choices), &mut taken, &stream, target.into()));
            } else {
                let mut walk = stream.walk(target.into());
                let n = begins[target as usize + 1] - begins[target as usize];
                drawn.extend((0..n).map(|_| below(walk.random(), choices)));
            }
            if !self_connected {
                drawn[start..].iter_mut().for_each(|source| *source += u32::from(*source >= target));
            }
        }
        let mut block = Block::new(range.clone(), sources, pen);
        block.offsets.resize(sources + 1, 0);
        drawn.iter().for_each(|&source| block.offsets[source as usize + 1] += 1);
        (0..sources).for_each(|i| block.offsets[i + 1] += block.offsets[i]);
        block.targets.resize(drawn.len(), 0);
        block.weights.resize(drawn.len());
        block.delays.resize(drawn.len());
        let mut next = block.offsets.clone();
        let mut places: Vec<u32> = Vec::new();
        for target in range.clone() {
            let first = (begins[target as usize] - begin) as usize;
            let column = first..((begins[target as usize + 1] - begin) as usize).min(drawn.len());
            places.clear();
            for &source in &drawn[column.clone()] {
                let place = &mut next[source as usize];
                block.targets[*place as usize] = (target - range.start) as u16;
                places.push(*place);
                *place += 1;
            }
            let listed = begin as usize + column.start;
            let mut at = places.iter();
            pen.weights(target.into(), listed..listed + places.len(), |weight| {
                if let Some(&place) = at.next() {
                    block.weights.set(place as usize, weight);
                }
            });
            let mut at = places.iter();
            pen.delays(target.into(), listed..listed + places.len(), |delay| {
                if let Some(&place) = at.next() {
                    block.delays.set(place as usize, delay);
                }
            });
        }
        Ok(block)
    };
    parallel::map(blocks.len(), |i| draw(&blocks[i])).into_iter().collect()
}

/// A number below `n` from 32 random bits: off by less than `n` / 2³² from uniform.
fn below(word: u32, n: usize) -> u32 {
    ((u64::from(word) * n as u64) >> 32) as u32
}

/// How many of `n` pairs end on each target, as running sums: binomial, given what is left.
fn totals(n: u64, targets: usize, seed: u64, name: &str) -> Result<Vec<u64>> {
    let mut walk = Stream::named(seed, &format!("projection/{name}/totals")).walk(0);
    let mut begins = Vec::with_capacity(targets + 1);
    let mut sum = 0;
    for target in 0..targets {
        begins.push(sum);
        let share = 1.0 / (targets - target) as f64;
        let draw = Binomial::new(n - sum, share).map_err(|e| Error::Internal(e.to_string()))?;
        sum += draw.sample(&mut walk);
    }
    begins.push(sum);
    Ok(begins)
}

fn too_many(name: &str, got: u64) -> Error {
    Error::value(format!("synapses of `{name}` onto one block of neurons"), got, "below 2^32")
}

/// Rows of a few sources.
pub(super) struct Rows {
    pub targets: Vec<u32>,
    ends: Vec<usize>,
    pub weights: Strengths,
    pub delays: Delays,
}

/// All other rules: row by row, then cut by target.
fn by_source(
    net: &Network,
    p: &Projection,
    pen: &Pen<'_>,
    ranges: &[Range<u32>],
    self_connected: bool,
) -> Result<Vec<Block>> {
    let sources = net.populations[p.pre.0].size();
    let edges = match &p.rule {
        Rule::Explicit { edges } if p.weights.is_deferred() => {
            let mut order: Vec<u32> = (0..edges.len() as u32).collect();
            order.sort_by_key(|&e| edges[e as usize]); // stable: equal pairs stay in the order of the list
            order
        }
        _ => Vec::new(),
    };
    let mut blocks: Vec<Block> = ranges.iter().map(|range| Block::new(range.clone(), sources, pen)).collect();
    for start in (0..sources).step_by(SOURCES_AT_ONCE) {
        let end = (start + SOURCES_AT_ONCE).min(sources);
        let pieces = (end - start).div_ceil(SOURCES_PER_PIECE);
        let pieces = parallel::map(pieces, |piece| {
            let first = start + piece * SOURCES_PER_PIECE;
            rows(net, p, pen, &edges, first..(first + SOURCES_PER_PIECE).min(end), self_connected)
        });
        parallel::owned(blocks.iter_mut().collect(), |_, block: &mut Block| {
            for rows in &pieces {
                block.append(rows);
            }
        });
        if let Some(full) = blocks.iter().find(|block| u32::try_from(block.targets.len()).is_err()) {
            return Err(too_many(&p.name, full.targets.len() as u64));
        }
    }
    parallel::owned(blocks.iter_mut().collect(), |_, block: &mut Block| block.targets.shrink_to_fit());
    Ok(blocks)
}

impl Block {
    fn new(range: Range<u32>, sources: usize, pen: &Pen) -> Self {
        let mut offsets = Vec::with_capacity(sources + 1);
        offsets.push(0);
        Self { range, offsets, targets: Vec::new(), weights: pen.no_weights(), delays: pen.no_delays() }
    }

    fn append(&mut self, rows: &Rows) {
        let mut start = 0;
        for &end in &rows.ends {
            let row = &rows.targets[start..end];
            let from = start + row.partition_point(|&target| target < self.range.start);
            let to = start + row.partition_point(|&target| target < self.range.end);
            self.targets.extend(rows.targets[from..to].iter().map(|&t| (t - self.range.start) as u16));
            self.weights.extend(&rows.weights, from..to);
            self.delays.extend(&rows.delays, from..to);
            self.offsets.push(self.targets.len() as u32);
            start = end;
        }
    }
}

pub(super) fn rows(
    net: &Network,
    p: &Projection,
    pen: &Pen<'_>,
    edges: &[u32],
    sources: Range<usize>,
    self_connected: bool,
) -> Rows {
    let (pre, post) = (&net.populations[p.pre.0], &net.populations[p.post.0]);
    let targets = post.size();
    let choices = if self_connected { targets } else { targets - 1 };
    let stream = Stream::named(net.seed, &format!("projection/{}/connect", p.name));
    let mut rows = Rows {
        targets: Vec::new(),
        ends: Vec::with_capacity(sources.len()),
        weights: pen.no_weights(),
        delays: pen.no_delays(),
    };
    let (mut taken, mut near) = (Vec::new(), None);
    for source in sources {
        let start = rows.targets.len();
        // Where the row begins in a listed table.
        let mut first = source;
        let at = source as u64;
        let mut places: Option<Vec<usize>> = None;
        match (&p.weights, &p.rule) {
            (Weights::Sparse { offsets, targets, .. }, _) if !p.weights.is_deferred() => {
                first = offsets[source];
                rows.targets.extend_from_slice(&targets[offsets[source]..offsets[source + 1]]);
            }
            (Weights::Dense { .. }, _) => {
                first = source * targets;
                rows.targets.extend(0..targets as u32);
            }
            (_, Rule::Dense) => {
                first = source * choices;
                rows.targets.extend(0..choices as u32);
            }
            (_, Rule::OneToOne) => rows.targets.push(source as u32),
            (_, Rule::FixedProbability { p }) => {
                rows.targets.extend(with_probability(*p, choices, &stream, at));
            }
            (_, Rule::FixedOutDegree { k }) => {
                first = source * k;
                taken.resize(choices, false);
                rows.targets.extend(distinct((*k).min(choices), &mut taken, &stream, at));
            }
            (_, Rule::FixedOutDegreeMultapses { k }) => {
                first = source * k;
                let mut walk = stream.walk(at);
                rows.targets.extend((0..*k).map(|_| below(walk.random(), choices)));
                rows.targets[start..].sort_unstable();
            }
            (_, Rule::Gaussian { p_max, sigma }) => {
                let near = near.get_or_insert_with(|| Near::new(*p_max, *sigma, &pre.shape, &post.shape));
                near.row(source, !self_connected, &stream, &mut rows.targets);
            }
            (_, Rule::Explicit { edges: list }) => {
                let row = edges.partition_point(|&e| (list[e as usize].0 as usize) < source)
                    ..edges.partition_point(|&e| list[e as usize].0 as usize <= source);
                rows.targets.extend(edges[row.clone()].iter().map(|&e| list[e as usize].1));
                places = Some(edges[row].iter().map(|&e| e as usize).collect());
            }
            _ => {} // refused when the network was built
        }
        if !self_connected {
            rows.targets[start..].iter_mut().for_each(|t| *t += u32::from(*t as usize >= source));
        }
        let len = rows.targets.len() - start;
        let places = places.unwrap_or_else(|| (first..first + len).collect());
        match p.weights.is_deferred() {
            true => pen.weights(at, places.iter().copied(), |weight| rows.weights.push(weight)),
            false => {
                let row = &rows.targets[start..];
                places.iter().zip(row).for_each(|(&i, &t)| rows.weights.push(stored(p, i, t as usize)));
            }
        }
        pen.delays(at, places.iter().copied(), |delay| rows.delays.push(delay));
        rows.ends.push(rows.targets.len());
    }
    rows
}

/// A weight of a network that holds its weights.
fn stored(p: &Projection, place: usize, target: usize) -> f64 {
    let of = |each: &[f32]| f64::from(*each.get(target).or(each.first()).unwrap_or(&1.0));
    let weight = match p.weights.values() {
        Values::F32(values) => values[place].into(),
        Values::Int8 { quanta, scale } => f64::from(quanta[place]) * of(scale),
    };
    weight * of(&p.gain)
}
