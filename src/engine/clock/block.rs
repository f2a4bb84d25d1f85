//! A block of neurons: their state, what they receive, and how they go through a few steps alone.

use super::counts::Counts;
use super::history::History;
use super::iaf::Together;
use super::later::Later;
use super::masks::Masks;
use super::plastic::Learning;
use super::poisson::Poisson;
use super::rows::{Delay, Rows, Weight};
use crate::lines::Lines;
use crate::snn::neurons::Iaf;
use crate::snn::synapses::{Block as Table, Strengths};
use crate::snn::{Neuron, Real};
use std::ops::Range;

/// As many slots as a 16-bit target can name: indices need no check.
pub(super) const SLOTS: usize = 1 << 16;

/// Neurons of one population with consecutive numbers.
pub(super) struct Block<'n, F> {
    /// Their numbers in their population.
    pub range: Range<u32>,
    model: &'n dyn Neuron,
    /// The faster way through a step, for the model that most networks are made of.
    together: Option<Together<F>>,
    /// `[variables][neurons]`
    state: Vec<Lines<F>>,
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
    channel: usize,
    weight: Weight,
    delay: Delay,
    /// Largest number of synapses on one target, where they are counted.
    most_per_target: u32,
    synapses: Stored,
}

enum Stored {
    /// Targets as bits, for spikes that are counted.
    Bits(Masks),
    Rows(Rows),
}

/// What a receptor gets in a step.
struct Input<F> {
    /// `[neurons]`: zeros where nothing has come.
    values: Lines<F>,
    /// Whether anything has come in this step.
    used: bool,
}

impl<F: Real> Input<F> {
    fn new(neurons: usize) -> Self {
        Self { values: Lines::zeros(neurons), used: false }
    }

    /// Adds one value per neuron. The first of a step is added to 0, so that no −0 shows which one was the first.
    #[inline(always)]
    fn add(&mut self, values: impl Iterator<Item = F>) {
        if self.used {
            self.values.iter_mut().zip(values).for_each(|(x, value)| *x = *x + value);
        } else {
            self.values.iter_mut().zip(values).for_each(|(x, value)| *x = F::default() + value);
        }
        self.used = true;
    }
}

/// Where spikes are added up until the neurons take them.
struct Channel<F> {
    receptor: usize,
    /// Whether nothing else comes to the receptor.
    alone: bool,
    waiting: Waiting<F>,
}

enum Waiting<F> {
    /// Spikes of this step, all of one weight.
    Count { weight: F, counts: Counts },
    /// Spikes of this step, with their weights: `[SLOTS]`; and those of steps to come, where delays are individual.
    Sum { sums: Lines<F>, used: bool, later: Option<Later<F>> },
}

impl<F: Real> Waiting<F> {
    fn sum(later: Option<Later<F>>) -> Self {
        Self::Sum { sums: Lines::zeros(SLOTS), used: false, later }
    }
}

/// Input from outside.
pub(super) enum Drive<F> {
    Poisson { receptor: usize, weight: F, poisson: Poisson },
    Current { receptor: usize, amplitude: Vec<F>, steps: Range<u64> },
}

impl<F> Drive<F> {
    fn receptor(&self) -> usize {
        match self {
            Self::Poisson { receptor, .. } | Self::Current { receptor, .. } => *receptor,
        }
    }

    /// Whether it does anything in a step.
    fn acts(&self, step: u64) -> bool {
        match self {
            Self::Poisson { .. } => true,
            Self::Current { steps, .. } => steps.contains(&step),
        }
    }
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
    pub fn new(
        range: Range<u32>,
        model: &'n dyn Neuron,
        state: Vec<Lines<F>>,
        drives: Vec<Drive<F>>,
    ) -> Self {
        let n = range.len();
        let receptors = model.receptors().len();
        Self {
            range,
            model,
            together: model.as_any().downcast_ref::<Iaf>().and_then(Together::new),
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
    pub fn connect(&mut self, pre: usize, receptor: usize, table: Table, longest: u32) -> u64 {
        let (weight, delay) = (Weight::of(&table.weights), Delay::of(&table.delays));
        let mut most_per_target = 0;
        let channel = match (weight, delay) {
            (Weight::Same(same), Delay::Same(_)) => {
                // Only counts have to know it, and it is a walk over all synapses.
                most_per_target = table.most_per_target();
                match self.fits_in_counts(weight, receptor, most_per_target) {
                    true => self.count(receptor, F::of(same)),
                    false => self.sum(receptor),
                }
            }
            (_, Delay::Same(_)) => self.sum(receptor),
            _ => self.ahead(receptor, longest),
        };
        let masks = match self.channels[channel].waiting {
            Waiting::Count { .. } => Masks::of(&table),
            _ => None,
        };
        let synapses = masks.map_or_else(|| Stored::Rows(Rows::new(table)), Stored::Bits);
        let bytes = match &synapses {
            Stored::Bits(masks) => masks.bytes(),
            Stored::Rows(rows) => rows.bytes(),
        };
        self.tables.push(Incoming { pre, channel, weight, delay, most_per_target, synapses });
        bytes
    }

    /// Adds a plastic projection. Gives the bytes that it takes.
    pub fn connect_plastic(&mut self, receptor: usize, mut learning: Learning) -> u64 {
        let bytes = learning.plastic.bytes();
        let channel = self.sum(receptor);
        self.plastic.push((channel, learning));
        bytes
    }

    /// The channel of one weight.
    fn count(&mut self, receptor: usize, weight: F) -> usize {
        let of = |waiting: &Waiting<F>| matches!(waiting, Waiting::Count { weight: w, .. } if *w == weight);
        self.find(receptor, of)
            .unwrap_or_else(|| self.push(receptor, Waiting::Count { weight, counts: Counts::new() }))
    }

    /// The channel of individual weights.
    fn sum(&mut self, receptor: usize) -> usize {
        self.find(receptor, |waiting| matches!(waiting, Waiting::Sum { later: None, .. }))
            .unwrap_or_else(|| self.push(receptor, Waiting::sum(None)))
    }

    /// The channel of individual delays up to `longest`.
    fn ahead(&mut self, receptor: usize, longest: u32) -> usize {
        let at = self
            .find(receptor, |waiting| matches!(waiting, Waiting::Sum { later: Some(_), .. }))
            .unwrap_or_else(|| self.push(receptor, Waiting::sum(Some(Later::new(self.range.len())))));
        if let Waiting::Sum { later: Some(later), .. } = &mut self.channels[at].waiting {
            later.reach(longest);
        }
        at
    }

    fn find(&self, receptor: usize, of: impl Fn(&Waiting<F>) -> bool) -> Option<usize> {
        self.channels.iter().position(|channel| channel.receptor == receptor && of(&channel.waiting))
    }

    fn push(&mut self, receptor: usize, waiting: Waiting<F>) -> usize {
        let mut alone = self.drives.iter().all(|drive| drive.receptor() != receptor);
        for other in self.channels.iter_mut().filter(|other| other.receptor == receptor) {
            (alone, other.alone) = (false, false);
        }
        self.channels.push(Channel { receptor, alone, waiting });
        self.channels.len() - 1
    }

    /// Whether the spikes of a step on one neuron can always be counted in 16 bits, with all projections of the
    /// same weight together.
    fn fits_in_counts(&self, weight: Weight, receptor: usize, most_per_target: u32) -> bool {
        let same = |incoming: &&Incoming| {
            let channel = &self.channels[incoming.channel];
            let counts = matches!(channel.waiting, Waiting::Count { .. });
            counts && channel.receptor == receptor && incoming.weight == weight
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
            self.arrive(step);
            self.deliver(step, history);
            self.deliver_plastic(step, history);
            let at = (step - steps.start) as usize;
            self.spikes[at].clear();
            if self.goes_together(step) {
                self.gather(step, true);
                self.advance_together(step, at);
            } else {
                self.gather(step, false);
                self.advance(at);
            }
            let list = &self.spikes[at];
            self.plastic.iter_mut().for_each(|(_, plastic)| plastic.fire(step, list));
        }
    }

    /// Spikes through plastic projections, in the step in which they arrive.
    fn deliver_plastic(&mut self, step: u64, history: &History) {
        for (channel, plastic) in &mut self.plastic {
            let Waiting::Sum { sums, used, .. } = &mut self.channels[*channel].waiting else { continue };
            if let Some(sums) = sums.first_chunk_mut() {
                let events = plastic.deliver(step, history, sums);
                *used |= events > 0;
                self.events += events;
            }
        }
    }

    /// Whether neurons can be advanced together: if nothing but synapses acts in this step. Injected currents are the
    /// last receptor, and rare.
    fn goes_together(&self, step: u64) -> bool {
        let injected = self.inputs.len() - 1;
        self.together.is_some()
            && self.channels.iter().all(|channel| channel.receptor != injected)
            && self.drives.iter().all(|drive| drive.receptor() != injected || !drive.acts(step))
    }

    #[inline(always)]
    fn advance_together(&mut self, step: u64, at: usize) {
        let Self { together: Some(together), state, inputs, channels, .. } = self else { return };
        let n = self.range.len();
        let mut arriving: [&mut [F]; 2] = [&mut [], &mut []];
        for (input, values) in inputs.iter_mut().zip(&mut arriving).filter(|(input, _)| input.used) {
            (input.used, *values) = (false, &mut input.values);
        }
        let mut later = [None, None];
        for channel in channels.iter_mut().filter(|channel| channel.alone) {
            match &mut channel.waiting {
                Waiting::Count { weight, counts } => later[channel.receptor] = Some((*weight, counts)),
                Waiting::Sum { sums, used, .. } => {
                    if std::mem::take(used) {
                        arriving[channel.receptor] = &mut sums[..n];
                    }
                }
            }
        }
        together.step(step, state, &mut arriving, self.range.start, &mut self.spikes[at]);
        for (receptor, counted) in later.into_iter().enumerate() {
            if let (Some((weight, counts)), Some(current)) = (counted, together.current(receptor)) {
                let current = &mut state[current][..];
                for (neuron, count) in counts.take_listed() {
                    current[neuron] = current[neuron] + weight * F::count(count);
                }
            }
        }
    }

    #[inline(always)]
    fn advance(&mut self, at: usize) {
        let inputs: Vec<&[F]> = self.inputs.iter().map(|input| &input.values[..]).collect();
        if let Some(together) = &mut self.together {
            together.settle(&mut self.state);
        }
        let mut state: Vec<&mut [F]> = self.state.iter_mut().map(|s| &mut s[..]).collect();
        match self.model.as_any().downcast_ref::<Iaf>() {
            // Inlined, so that it is compiled for each instruction set.
            Some(model) => model.factors().run(&inputs, &mut state, &mut self.flags),
            None => F::advance(self.model, &inputs, &mut state, &mut self.flags),
        }
        collect(&self.flags, self.range.start, &mut self.spikes[at]);
        for input in self.inputs.iter_mut().filter(|input| input.used) {
            input.values.fill(F::default());
            input.used = false;
        }
    }

    /// State variables, as they are between steps.
    pub fn state(&mut self) -> &mut [Lines<F>] {
        if let Some(together) = &mut self.together {
            together.settle(&mut self.state);
        }
        &mut self.state
    }

    fn record(&mut self, step: u64) {
        self.plastic.iter_mut().for_each(|(_, plastic)| plastic.record(step));
        if self.probes.iter().any(|probe| step.is_multiple_of(probe.every)) {
            self.state();
        }
        for probe in self.probes.iter_mut().filter(|probe| step.is_multiple_of(probe.every)) {
            let variable = &self.state[probe.variable];
            probe.values.extend(probe.neurons.iter().map(|&n| variable[n]));
        }
    }

    /// Spikes through projections with individual delays, into the steps to come.
    #[inline(always)]
    fn deliver_ahead(&mut self, emitted: u64, history: &History) {
        for Incoming { pre, channel, synapses, .. } in &self.tables {
            let (Waiting::Sum { later: Some(later), .. }, Stored::Rows(rows)) =
                (&mut self.channels[*channel].waiting, synapses)
            else {
                continue;
            };
            let mut sending = later.from(emitted);
            self.events += rows.pieces(history.spikes(emitted, *pre), |piece| piece.send(&mut sending));
        }
    }

    /// Spikes that were sent ahead, in the step in which they arrive.
    #[inline(always)]
    fn arrive(&mut self, step: u64) {
        for channel in &mut self.channels {
            let Waiting::Sum { sums, used, later: Some(later) } = &mut channel.waiting else { continue };
            if let Some(sums) = sums.first_chunk_mut() {
                *used |= later.take(step, sums);
            }
        }
    }

    /// Spikes through projections with one delay, in the step in which they arrive.
    #[inline(always)]
    fn deliver(&mut self, step: u64, history: &History) {
        for Incoming { pre, channel, delay, synapses, .. } in &mut self.tables {
            let Delay::Same(delay) = *delay else { continue };
            let Some(emitted) = step.checked_sub(delay.into()) else { continue };
            let sources = history.spikes(emitted, *pre);
            if sources.is_empty() {
                continue;
            }
            let Channel { alone, waiting, .. } = &mut self.channels[*channel];
            self.events += match (waiting, synapses) {
                (Waiting::Count { counts, .. }, Stored::Bits(masks)) => match counts.unlisted() {
                    Some(counts) => masks.deliver(sources, counts),
                    None => 0,
                },
                (Waiting::Count { counts, .. }, Stored::Rows(rows)) => {
                    // A list costs a little for each spike, and saves a pass over the neurons.
                    let synapses = (sources.len() as f64 * rows.mean()) as usize;
                    if !*alone || synapses > self.range.len() / 8 {
                        counts.without_list();
                    }
                    rows.pieces(sources, |piece| counts.count(piece.targets))
                }
                (Waiting::Sum { sums, used, .. }, Stored::Rows(rows)) => {
                    let Some(sums) = sums.first_chunk_mut::<SLOTS>() else { continue };
                    *used = true;
                    rows.pieces(sources, |piece| {
                        piece.weighted(|target, weight: F| {
                            let sum = &mut sums[target];
                            *sum = *sum + weight;
                        });
                    })
                }
                // Bits are counted.
                (Waiting::Sum { .. }, _) => 0,
            };
        }
    }

    /// What arrives in a step: channels, then drives, in order. Where neurons are advanced together, a channel that is
    /// alone is left as it is.
    #[inline(always)]
    fn gather(&mut self, step: u64, together: bool) {
        let n = self.range.len();
        let jumps = self.together.as_ref().is_some_and(|together| together.current(0).is_none());
        for Channel { receptor, alone, waiting } in &mut self.channels {
            let input = &mut self.inputs[*receptor];
            let left = together && *alone;
            match waiting {
                Waiting::Count { counts, .. } if !counts.any() || left && !jumps && counts.are_listed() => {}
                Waiting::Count { weight, counts } => {
                    input.add(counts.take(n).map(|count| *weight * F::count(count)));
                }
                Waiting::Sum { .. } if left => {}
                Waiting::Sum { sums, used, .. } => {
                    if std::mem::take(used) {
                        input.add(sums[..n].iter_mut().map(std::mem::take));
                    }
                }
            }
        }
        for drive in self.drives.iter().filter(|drive| drive.acts(step)) {
            match drive {
                Drive::Poisson { receptor, weight, poisson } => {
                    poisson.draw(step, self.range.start, &mut self.counts);
                    self.inputs[*receptor].add(self.counts.iter().map(|&count| *weight * F::count(count)));
                }
                Drive::Current { receptor, amplitude, .. } => {
                    self.inputs[*receptor].add(amplitude.iter().copied());
                }
            }
        }
    }

    /// What is on its way to the neurons, for a checkpoint.
    pub fn later(&mut self) -> impl Iterator<Item = &mut Later<F>> {
        self.channels.iter_mut().filter_map(|channel| match &mut channel.waiting {
            Waiting::Sum { later, .. } => later.as_mut(),
            Waiting::Count { .. } => None,
        })
    }
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
}

impl Number for f32 {
    fn advance(model: &dyn Neuron, inputs: &[&[f32]], state: &mut [&mut [f32]], spikes: &mut [u8]) {
        model.advance(inputs, state, spikes);
    }
}

impl Number for f64 {
    fn advance(model: &dyn Neuron, inputs: &[&[f64]], state: &mut [&mut [f64]], spikes: &mut [u8]) {
        // Cannot fail: whoever made the block has seen that the model has a double precision.
        let _ = model.advance_f64(inputs, state, spikes);
    }
}

/// Adds the weights of a row to the sums of its targets.
#[inline(always)]
pub(super) fn add_row<F: Real>(
    weights: &Strengths,
    row: Range<usize>,
    targets: &[u16],
    sums: &mut [F; SLOTS],
) {
    let mut add = |target: u16, weight: F| {
        let sum = &mut sums[usize::from(target)];
        *sum = *sum + weight;
    };
    match weights {
        Strengths::Same(weight) => targets.iter().for_each(|&target| add(target, F::of(*weight))),
        Strengths::F32(weights) => {
            targets
                .iter()
                .zip(&weights[row])
                .for_each(|(&target, &weight)| add(target, F::of(weight.into())));
        }
        Strengths::F64(weights) => {
            targets.iter().zip(&weights[row]).for_each(|(&target, &weight)| add(target, F::of(weight)));
        }
    }
}
