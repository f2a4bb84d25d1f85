//! A block of neurons: their state, what they receive, and how they go through a few steps alone.

use super::history::History;
use super::masks::Masks;
use super::plastic::Learning;
use super::poisson::Poisson;
use super::simd;
use crate::snn::neurons::Iaf;
use crate::snn::neurons::iaf::Factors;
use crate::snn::synapses::{Block as Table, Delays, Strengths};
use crate::snn::{Neuron, Real};
use std::ops::Range;

/// As many slots as a 16-bit target can name: indices need no check.
pub(super) const SLOTS: usize = 1 << 16;

/// Neurons of one population with consecutive numbers.
pub(super) struct Block<'n, F> {
    /// Their numbers in their population.
    pub range: Range<u32>,
    model: &'n dyn Neuron,
    /// Of the model that most networks are made of: inlined, so that it is compiled for each instruction set.
    fast: Option<Factors<F>>,
    /// `[variables][neurons]`
    pub state: Vec<Vec<F>>,
    /// Projections onto the block: source population and synapses.
    pub tables: Vec<Incoming>,
    /// Those whose weights change, each with the channel of its sums.
    pub plastic: Vec<(usize, Learning)>,
    channels: Vec<Channel<F>>,
    drives: Vec<Drive<F>>,
    /// Of each receptor.
    inputs: Vec<Input<F>>,
    flags: Vec<u8>,
    counts: Vec<u16>,
    /// Spikes of each step of the last run.
    pub spikes: Vec<Vec<u32>>,
    /// Variables that are recorded.
    pub probes: Vec<Probe<F>>,
    /// Synaptic events so far.
    pub events: u64,
}

/// One projection onto a block.
pub(super) struct Incoming {
    pub pre: usize,
    pub table: Table,
    channel: usize,
    /// Largest number of synapses on one target, where they are counted.
    most_per_target: u32,
    /// The targets as bits, where that is better; the table then has no lists.
    masks: Option<Masks>,
}

/// What a receptor gets in a step.
struct Input<F> {
    /// `[neurons]`
    values: Vec<F>,
    /// Whether anything has come in this step.
    used: bool,
    /// Whether anything came in the step before, so that the values are not all 0.
    stale: bool,
}

impl<F: Real> Input<F> {
    fn new(neurons: usize) -> Self {
        Self { values: vec![F::default(); neurons], used: false, stale: false }
    }

    /// Adds one value per neuron. The first of a step overwrites what the step before left; added to 0, so that no −0
    /// shows which one was the first.
    #[inline(always)]
    fn add(&mut self, values: impl Iterator<Item = F>) {
        if self.used {
            self.values.iter_mut().zip(values).for_each(|(x, value)| *x = *x + value);
        } else {
            self.values.iter_mut().zip(values).for_each(|(x, value)| *x = F::default() + value);
        }
        self.used = true;
    }

    /// Empties what nothing came to.
    #[inline(always)]
    fn finish(&mut self) {
        if !self.used && self.stale {
            self.values.fill(F::default());
        }
        self.stale = self.used;
    }
}

/// Where spikes are added up until the neurons take them.
enum Channel<F> {
    /// Spikes of this step, all of one weight: their number.
    Count { receptor: usize, weight: F, counts: Box<[u16; SLOTS]>, used: bool },
    /// Spikes of this step, with their weights.
    Sum { receptor: usize, sums: Box<[F; SLOTS]>, used: bool },
    /// Spikes of steps to come: `[step mod steps][neurons]`.
    Ring { receptor: usize, sums: Vec<F>, steps: usize },
}

/// Input from outside.
pub(super) enum Drive<F> {
    Poisson { receptor: usize, weight: F, poisson: Poisson },
    Current { receptor: usize, amplitude: Vec<F>, steps: Range<u64> },
}

/// A variable of some neurons, recorded before every so many steps.
pub(super) struct Probe<F> {
    /// Of the trace that it is part of.
    pub number: usize,
    pub variable: usize,
    /// Counted from the first of the block.
    pub neurons: Vec<usize>,
    pub every: u64,
    /// What was recorded in the last run.
    pub values: Vec<F>,
}

impl<'n, F: Number> Block<'n, F> {
    pub fn new(range: Range<u32>, model: &'n dyn Neuron, state: Vec<Vec<F>>, drives: Vec<Drive<F>>) -> Self {
        let n = range.len();
        let receptors = model.receptors().len();
        Self {
            range,
            model,
            fast: model.as_any().downcast_ref::<Iaf>().map(Iaf::factors),
            state,
            tables: Vec::new(),
            plastic: Vec::new(),
            channels: Vec::new(),
            drives,
            inputs: (0..receptors).map(|_| Input::new(n)).collect(),
            flags: vec![0; n],
            counts: vec![0; n],
            spikes: Vec::new(),
            probes: Vec::new(),
            events: 0,
        }
    }

    /// Adds a projection; `longest` is the longest delay of it in steps. Gives the bytes that it takes.
    pub fn connect(&mut self, pre: usize, receptor: usize, mut table: Table, longest: u32) -> u64 {
        let same_delay = matches!(table.delays, Delays::Same(_));
        // Only counts have to know it, and it is a walk over all synapses.
        let counted = same_delay && matches!(table.weights, Strengths::Same(_));
        let most_per_target = if counted { table.most_per_target() } else { 0 };
        let channel = match table.weights {
            Strengths::Same(weight) if counted && self.fits_in_counts(weight, receptor, most_per_target) => {
                let weight = F::of(weight);
                let found = self.channels.iter().position(|c| {
                    matches!(c, Channel::Count { receptor: r, weight: w, .. } if *r == receptor && *w == weight)
                });
                found.unwrap_or_else(|| {
                    self.push(Channel::Count { receptor, weight, counts: zeros(), used: false })
                })
            }
            _ if same_delay => self.sum(receptor),
            _ => {
                let found = self
                    .channels
                    .iter()
                    .position(|c| matches!(c, Channel::Ring { receptor: r, .. } if *r == receptor));
                let at = found
                    .unwrap_or_else(|| self.push(Channel::Ring { receptor, sums: Vec::new(), steps: 0 }));
                if let Channel::Ring { sums, steps, .. } = &mut self.channels[at] {
                    *steps = (*steps).max(longest as usize + 1);
                    sums.resize(*steps * self.range.len(), F::default());
                }
                at
            }
        };
        let masks = match self.channels[channel] {
            Channel::Count { .. } => Masks::of(&table),
            _ => None,
        };
        if masks.is_some() {
            (table.targets, table.offsets) = (Vec::new(), Vec::new());
        } else {
            table.targets = simd::in_large_pages(table.targets);
            table.weights = match table.weights {
                Strengths::F32(weights) => Strengths::F32(simd::in_large_pages(weights)),
                Strengths::F64(weights) => Strengths::F64(simd::in_large_pages(weights)),
                same => same,
            };
        }
        let bytes = masks.as_ref().map_or_else(|| table.bytes(), Masks::bytes);
        self.tables.push(Incoming { pre, table, channel, most_per_target, masks });
        bytes
    }

    /// Adds a plastic projection. Gives the bytes that it takes.
    pub fn connect_plastic(&mut self, receptor: usize, mut learning: Learning) -> u64 {
        let bytes = learning.plastic.bytes();
        let channel = self.sum(receptor);
        self.plastic.push((channel, learning));
        bytes
    }

    /// The channel of individual weights.
    fn sum(&mut self, receptor: usize) -> usize {
        let of = |c: &Channel<F>| matches!(c, Channel::Sum { receptor: r, .. } if *r == receptor);
        let found = self.channels.iter().position(of);
        found.unwrap_or_else(|| self.push(Channel::Sum { receptor, sums: zeros(), used: false }))
    }

    fn push(&mut self, channel: Channel<F>) -> usize {
        self.channels.push(channel);
        self.channels.len() - 1
    }

    /// Whether the spikes of a step on one neuron can always be counted in 16 bits, with all projections of the
    /// same weight together.
    fn fits_in_counts(&self, weight: f64, receptor: usize, most_per_target: u32) -> bool {
        let same = |incoming: &&Incoming| {
            let Channel::Count { receptor: r, .. } = &self.channels[incoming.channel] else { return false };
            *r == receptor && incoming.table.weights == Strengths::Same(weight)
        };
        let others: u32 = self.tables.iter().filter(same).map(|i| i.most_per_target).sum();
        others.saturating_add(most_per_target) <= u32::from(u16::MAX)
    }

    /// Goes through `steps`. `history` holds all spikes up to the step before; those from `fresh` on have not been
    /// looked at by projections with individual delays. Everything in it is inlined into what
    /// [`super::simd`] compiles once for each instruction set.
    #[inline(always)]
    pub fn run(&mut self, steps: Range<u64>, fresh: u64, history: &History) {
        self.spikes.resize_with((steps.end - steps.start) as usize, Vec::new);
        self.probes.iter_mut().for_each(|probe| probe.values.clear());
        for emitted in fresh..steps.start {
            self.deliver_ahead(emitted, history);
            self.plastic.iter_mut().for_each(|(_, plastic)| plastic.send(emitted, steps.start, history));
        }
        for step in steps.clone() {
            self.record(step);
            self.deliver(step, history);
            self.deliver_plastic(step, history);
            if !self.advance_counted() {
                self.gather(step);
                self.advance();
            }
            let list = &mut self.spikes[(step - steps.start) as usize];
            list.clear();
            collect(&self.flags, self.range.start, list);
            self.plastic.iter_mut().for_each(|(_, plastic)| plastic.fire(step, list));
        }
    }

    /// Spikes through plastic projections, in the step in which they arrive.
    fn deliver_plastic(&mut self, step: u64, history: &History) {
        for (channel, plastic) in &mut self.plastic {
            if let Channel::Sum { sums, used, .. } = &mut self.channels[*channel] {
                let events = plastic.deliver(step, history, sums);
                *used |= events > 0;
                self.events += events;
            }
        }
    }

    /// Advances the neurons straight from counted spikes, where nothing else comes to them; whether it is so.
    #[inline(always)]
    fn advance_counted(&mut self) -> bool {
        let Some(fast) = self.fast.as_ref().filter(|fast| fast.takes_counts() && self.drives.is_empty())
        else {
            return false;
        };
        let [
            Channel::Count { receptor, weight, counts, .. },
            Channel::Count { receptor: other, weight: other_weight, counts: other_counts, .. },
        ] = &mut self.channels[..]
        else {
            return false;
        };
        let (counts, weights) = match (*receptor, *other) {
            (0, 1) => ([&mut counts[..], &mut other_counts[..]], [*weight, *other_weight]),
            (1, 0) => ([&mut other_counts[..], &mut counts[..]], [*other_weight, *weight]),
            _ => return false,
        };
        let [u, first, second, hold] = &mut self.state[..] else { return false };
        fast.run_counted(counts, weights, [u, first, second, hold], &mut self.flags);
        true
    }

    #[inline(always)]
    fn advance(&mut self) {
        let mut inputs: Vec<&[F]> = self.inputs.iter().map(|input| &input.values[..]).collect();
        let mut state: Vec<&mut [F]> = self.state.iter_mut().map(|s| &mut s[..]).collect();
        match &self.fast {
            Some(fast) => {
                // Injected currents are the last receptor, and rare.
                if let (Some(current), Some(Input { used: false, .. })) =
                    (inputs.last_mut(), self.inputs.last())
                {
                    *current = &[];
                }
                fast.run(&inputs, &mut state, &mut self.flags);
            }
            None => F::advance(self.model, &inputs, &mut state, &mut self.flags),
        }
    }

    fn record(&mut self, step: u64) {
        self.plastic.iter_mut().for_each(|(_, plastic)| plastic.record(step));
        for probe in self.probes.iter_mut().filter(|probe| step.is_multiple_of(probe.every)) {
            let variable = &self.state[probe.variable];
            probe.values.extend(probe.neurons.iter().map(|&n| variable[n]));
        }
    }

    /// Spikes through projections with individual delays, into the steps to come.
    #[inline(always)]
    fn deliver_ahead(&mut self, emitted: u64, history: &History) {
        let n = self.range.len();
        for Incoming { pre, table, channel, .. } in &self.tables {
            let Channel::Ring { sums, steps, .. } = &mut self.channels[*channel] else { continue };
            self.events += rows(table, history.spikes(emitted, *pre), |piece| {
                for place in piece {
                    let slot = ((emitted + u64::from(table.delays.get(place))) % *steps as u64) as usize;
                    let sum = &mut sums[slot * n + usize::from(table.targets[place])];
                    *sum = *sum + F::of(table.weights.get(place));
                }
            });
        }
    }

    /// Spikes through projections with one delay, in the step in which they arrive.
    #[inline(always)]
    fn deliver(&mut self, step: u64, history: &History) {
        for Incoming { pre, table, channel, masks, .. } in &mut self.tables {
            let Delays::Same(delay) = table.delays else { continue };
            let Some(emitted) = step.checked_sub(delay.into()) else { continue };
            let sources = history.spikes(emitted, *pre);
            if sources.is_empty() {
                continue;
            }
            match &mut self.channels[*channel] {
                Channel::Count { counts, used, .. } => {
                    *used = true;
                    if let Some(masks) = masks {
                        self.events += masks.deliver(sources, counts);
                        continue;
                    }
                    self.events += rows(table, sources, |piece| {
                        for &target in &table.targets[piece] {
                            let count = &mut counts[usize::from(target)];
                            *count = count.wrapping_add(1); // cannot happen, see `fits_in_counts`
                        }
                    });
                }
                Channel::Sum { sums, used, .. } => {
                    *used = true;
                    self.events += rows(table, sources, |piece| {
                        F::add_row(&table.weights, piece.clone(), &table.targets[piece], sums);
                    });
                }
                Channel::Ring { .. } => {} // has individual delays
            }
        }
    }

    /// What arrives in a step: channels, then drives, in order.
    #[inline(always)]
    fn gather(&mut self, step: u64) {
        let n = self.range.len();
        self.inputs.iter_mut().for_each(|input| input.used = false);
        for channel in &mut self.channels {
            match channel {
                Channel::Count { receptor, weight, counts, used } => {
                    if std::mem::take(used) {
                        let counts = counts[..n].iter_mut().map(std::mem::take);
                        self.inputs[*receptor].add(counts.map(|count| *weight * F::count(count)));
                    }
                }
                Channel::Sum { receptor, sums, used } => {
                    if std::mem::take(used) {
                        self.inputs[*receptor].add(sums[..n].iter_mut().map(std::mem::take));
                    }
                }
                Channel::Ring { receptor, sums, steps } => {
                    let slot = (step % *steps as u64) as usize;
                    self.inputs[*receptor].add(sums[slot * n..(slot + 1) * n].iter_mut().map(std::mem::take));
                }
            }
        }
        for drive in &self.drives {
            match drive {
                Drive::Poisson { receptor, weight, poisson } => {
                    poisson.draw(step, self.range.start, &mut self.counts);
                    self.inputs[*receptor].add(self.counts.iter().map(|&count| *weight * F::count(count)));
                }
                Drive::Current { receptor, amplitude, steps } if steps.contains(&step) => {
                    self.inputs[*receptor].add(amplitude.iter().copied());
                }
                Drive::Current { .. } => {}
            }
        }
        self.inputs.iter_mut().for_each(Input::finish);
    }

    /// What is on its way to the neurons, for a checkpoint.
    pub fn pending(&mut self) -> impl Iterator<Item = &mut [F]> {
        self.channels.iter_mut().filter_map(|channel| match channel {
            Channel::Ring { sums, .. } => Some(&mut sums[..]),
            _ => None,
        })
    }
}

/// Synapses that are gone through at once: their targets fill a cache line.
const PIECE: usize = 32;

/// Goes through the rows of some sources in pieces, and gives the number of synapses. Rows lie anywhere in a table that
/// is larger than the cache: with each piece comes the hint that the piece below it, in the next row, is wanted soon.
#[inline(always)]
fn rows(table: &Table, sources: &[u32], mut each: impl FnMut(Range<usize>)) -> u64 {
    let begin = |i: usize| sources.get(i).map(|&source| table.offsets[source as usize] as usize);
    let mut events = 0;
    for (i, &source) in sources.iter().enumerate() {
        let row = table.row(source);
        events += row.len() as u64;
        let next = begin(i + 1);
        if let Some(later) = begin(i + 3) {
            prefetch(table, later);
        }
        for start in row.clone().step_by(PIECE) {
            if let Some(next) = next {
                prefetch(table, next + start - row.start);
            }
            each(start..row.end.min(start + PIECE));
        }
    }
    events
}

/// Asks for a piece.
#[inline(always)]
fn prefetch(table: &Table, place: usize) {
    simd::prefetch(&table.targets, place);
    match &table.weights {
        Strengths::F32(weights) => (0..2).for_each(|line| simd::prefetch(weights, place + 16 * line)),
        Strengths::F64(weights) => (0..4).for_each(|line| simd::prefetch(weights, place + 8 * line)),
        Strengths::Same(_) => {}
    }
    match &table.delays {
        Delays::Short(delays) => simd::prefetch(delays, place),
        Delays::Each(delays) => simd::prefetch(delays, place),
        Delays::Same(_) => {}
    }
}

fn zeros<T: Copy + Default>() -> Box<[T; SLOTS]> {
    // Cannot fail: the length is right.
    vec![T::default(); SLOTS]
        .into_boxed_slice()
        .try_into()
        .unwrap_or_else(|_| Box::new([T::default(); SLOTS]))
}

/// Numbers of the neurons whose flag is set.
#[inline(always)]
fn collect(flags: &[u8], first: u32, list: &mut Vec<u32>) {
    let any = |flags: &[u8]| flags.iter().fold(0, |any, flag| any | flag) != 0;
    // Few fire in a step: most of the flags are seen 256 at a time.
    for (i, many) in flags.chunks(256).enumerate().filter(|(_, many)| any(many)) {
        for (j, few) in many.chunks(16).enumerate().filter(|(_, few)| any(few)) {
            let start = first + (256 * i + 16 * j) as u32;
            for (k, &flag) in few.iter().enumerate() {
                // A model may fire several times in a step.
                list.extend((0..flag).map(|_| start + k as u32));
            }
        }
    }
}

/// What differs between the precisions.
pub(super) trait Number: Real {
    /// Advances a model.
    fn advance(model: &dyn Neuron, inputs: &[&[Self]], state: &mut [&mut [Self]], spikes: &mut [u8]);
    /// Adds the weights of a row to the sums of its targets.
    fn add_row(weights: &Strengths, row: Range<usize>, targets: &[u16], sums: &mut [Self; SLOTS]);
}

impl Number for f32 {
    fn advance(model: &dyn Neuron, inputs: &[&[f32]], state: &mut [&mut [f32]], spikes: &mut [u8]) {
        model.advance(inputs, state, spikes);
    }

    #[inline(always)]
    fn add_row(weights: &Strengths, row: Range<usize>, targets: &[u16], sums: &mut [f32; SLOTS]) {
        match weights {
            Strengths::Same(weight) => add(targets, std::iter::repeat(*weight as f32), sums),
            Strengths::F32(weights) => add(targets, weights[row].iter().copied(), sums),
            Strengths::F64(weights) => add(targets, weights[row].iter().map(|&w| w as f32), sums),
        }
    }
}

impl Number for f64 {
    fn advance(model: &dyn Neuron, inputs: &[&[f64]], state: &mut [&mut [f64]], spikes: &mut [u8]) {
        // Cannot fail: whoever made the block has seen that the model has a double precision.
        let _ = model.advance_f64(inputs, state, spikes);
    }

    #[inline(always)]
    fn add_row(weights: &Strengths, row: Range<usize>, targets: &[u16], sums: &mut [f64; SLOTS]) {
        match weights {
            Strengths::Same(weight) => add(targets, std::iter::repeat(*weight), sums),
            Strengths::F32(weights) => add(targets, weights[row].iter().map(|&w| w.into()), sums),
            Strengths::F64(weights) => add(targets, weights[row].iter().copied(), sums),
        }
    }
}

#[inline(always)]
fn add<F: Real>(targets: &[u16], weights: impl Iterator<Item = F>, sums: &mut [F; SLOTS]) {
    for (&target, weight) in targets.iter().zip(weights) {
        let sum = &mut sums[usize::from(target)];
        *sum = *sum + weight;
    }
}
