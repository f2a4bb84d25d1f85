//! Plastic projections onto a block: spikes are delivered when they arrive, and what arrives and who fires changes
//! the weights.
//!
//! The whole delay of a synapse lies before it (it is axonal): a spike of step `t` with a delay of `d` steps delivers
//! its weight in step `t + d` and acts on weight and trace there, in this order. A spike of the target acts in its own
//! step, after what arrived in it. So a block owns all weights of its neurons and whatever changes them, and neither
//! threads nor the cut into blocks show. Traces are advanced when they are read.

use super::block::{Number, SLOTS};
use super::history::History;
use crate::error::Result;
use crate::snn::plasticity::event_driven::{Owed, Traces};
use crate::snn::plasticity::{EventDriven, Incidence, Normalise, Plasticity, Rule};
use crate::snn::synapses::{Block as Table, Delays, Strengths};
use crate::units::Ms;
use std::ops::Range;

/// The synapses of a plastic projection onto one block.
pub(super) struct Plastic {
    /// Which of the network's projections.
    pub projection: usize,
    pre: usize,
    table: Table,
    rule: EventDriven,
    /// And after how many steps it is done again.
    normalise: Option<(Normalise, u64)>,
    /// Where synapses have their own delays: those at which a spike arrives, `[step mod steps]`, in the order in which
    /// the spikes were sent. Empty for one delay.
    calendar: Vec<Vec<u32>>,
    pub probes: Vec<WeightProbe>,
}

/// Weights that are recorded before every so many steps.
pub(super) struct WeightProbe {
    /// Of the trace that it is part of.
    pub number: usize,
    /// Columns of the trace.
    pub columns: Vec<usize>,
    /// Their places in the table.
    pub places: Vec<u32>,
    pub every: u64,
    /// `[rows, columns]`, of the last run.
    pub values: Vec<f64>,
}

/// What changes in a plastic projection, in an order that no cut into blocks changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    /// By synapse.
    pub weights: Vec<f64>,
    /// Three numbers by source, or by synapse where each has its delay: both traces and their step.
    pub pre: Vec<f64>,
    /// The same by target.
    pub post: Vec<f64>,
    /// By synapse, two numbers: what is owed and its step.
    pub owed: Vec<f64>,
}

impl State {
    /// Room for so many sources, targets and synapses.
    pub fn zeros(sources: usize, targets: usize, synapses: usize, own_delays: bool, owed: bool) -> Self {
        Self {
            weights: vec![0.0; synapses],
            pre: vec![0.0; 3 * if own_delays { synapses } else { sources }],
            post: vec![0.0; 3 * targets],
            owed: vec![0.0; if owed { 2 * synapses } else { 0 }],
        }
    }

    /// Its arrays by name.
    pub fn arrays(&mut self) -> [(&'static str, &mut Vec<f64>); 4] {
        let Self { weights, pre, post, owed } = self;
        [("weights", weights), ("pre", pre), ("post", post), ("owed", owed)]
    }

    /// Whether everything happened before step `now`.
    pub fn is_of(&self, now: u64) -> bool {
        let traces = self.pre.chunks_exact(3).chain(self.post.chunks_exact(3)).map(|t| t[2]);
        let mut steps = traces.chain(self.owed.chunks_exact(2).map(|o| o[1]));
        steps.all(|step| (0.0..=now as f64).contains(&step))
    }
}

impl Plastic {
    /// Of a projection from population `pre`, whose longest delay is of `longest` steps.
    ///
    /// # Errors
    /// A rule whose parameters are out of range.
    pub fn new(
        projection: usize,
        pre: usize,
        mut table: Table,
        plasticity: &Plasticity,
        longest: u32,
        dt: Ms,
    ) -> Result<Self> {
        let offsets: Vec<usize> = table.offsets.iter().map(|&at| at as usize).collect();
        let targets: Vec<u32> = table.targets.iter().map(|&target| target.into()).collect();
        let synapses = Incidence::new(&offsets, &targets, table.range.len())?;
        let [min, max] = plasticity.rule.bounds();
        for place in 0..targets.len() {
            table.weights.set(place, table.weights.get(place).max(min).min(max));
        }
        let (rule, steps) = match table.delays {
            Delays::Same(_) => (EventDriven::new(plasticity.rule, dt, synapses)?, 0),
            _ => (EventDriven::per_synapse(plasticity.rule, dt, synapses)?, longest as usize + 1),
        };
        let steps_of = |(normalise, every): (Normalise, Ms)| (normalise, (every.0 / dt.0).round() as u64);
        let normalise = plasticity.normalise.map(steps_of);
        let calendar = vec![Vec::new(); steps];
        Ok(Self { projection, pre, table, rule, normalise, calendar, probes: Vec::new() })
    }

    /// Bytes that it takes: the table, its columns, and what the rule remembers.
    pub fn bytes(&mut self) -> u64 {
        let synapses = self.table.targets.len();
        let memory = self.rule.memory();
        let columns = 12 * synapses + 8 * (memory.post.len() + self.table.offsets.len());
        let remembered = size_of_val(memory.pre) + size_of_val(memory.post) + size_of_val(memory.owed);
        self.table.bytes() + (columns + remembered) as u64
    }

    /// Synapses with their own delays: notes where the spikes of a step will arrive, from step `now` on.
    pub fn send(&mut self, emitted: u64, now: u64, history: &History) {
        let steps = self.calendar.len() as u64;
        if steps == 0 {
            return;
        }
        for &source in history.spikes(emitted, self.pre) {
            for place in self.table.row(source) {
                let arrival = emitted + u64::from(self.table.delays.get(place));
                if arrival >= now {
                    self.calendar[(arrival % steps) as usize].push(place as u32);
                }
            }
        }
    }

    /// Forgets what is on its way, and notes the spikes of these steps again.
    pub fn resend(&mut self, emitted: Range<u64>, now: u64, history: &History) {
        self.calendar.iter_mut().for_each(Vec::clear);
        emitted.for_each(|step| self.send(step, now, history));
    }

    /// Adds what arrives in a step to the sums of the targets, and lets it act on the weights. Gives the number of
    /// synaptic events.
    pub fn deliver<F: Number>(&mut self, step: u64, history: &History, sums: &mut [F; SLOTS]) -> u64 {
        let Self { pre, table, rule, calendar, .. } = self;
        let mut events = 0;
        if let Delays::Same(delay) = table.delays {
            let Some(emitted) = step.checked_sub(delay.into()) else { return 0 };
            for &source in history.spikes(emitted, *pre) {
                let row = table.row(source);
                events += row.len() as u64;
                F::add_row(&table.weights, row.clone(), &table.targets[row], sums);
                match &mut table.weights {
                    Strengths::F32(weights) => rule.arrive_from(step, source, weights),
                    Strengths::F64(weights) => rule.arrive_from(step, source, weights),
                    Strengths::Same(_) => {} // plastic weights are drawn one by one
                }
            }
            return events;
        }
        let slot = (step % calendar.len() as u64) as usize;
        for place in calendar[slot].drain(..) {
            let place = place as usize;
            events += 1;
            let sum = &mut sums[usize::from(table.targets[place])];
            *sum = *sum + F::of(table.weights.get(place));
            match &mut table.weights {
                Strengths::F32(weights) => rule.arrive_through(step, place, &mut weights[place]),
                Strengths::F64(weights) => rule.arrive_through(step, place, &mut weights[place]),
                Strengths::Same(_) => {}
            }
        }
        events
    }

    /// The end of a step in which these neurons fired, by their numbers in the population.
    pub fn fire(&mut self, step: u64, spikes: &[u32]) {
        let Self { table, rule, normalise, .. } = self;
        let first = table.range.start;
        for &neuron in spikes {
            match &mut table.weights {
                Strengths::F32(weights) => rule.fire_one(step, neuron - first, weights),
                Strengths::F64(weights) => rule.fire_one(step, neuron - first, weights),
                Strengths::Same(_) => {}
            }
        }
        if let Some((normalise, every)) = normalise
            && (step + 1).is_multiple_of(*every)
        {
            for target in 0..table.range.len() as u32 {
                let places = rule.synapses().entering(target);
                match &mut table.weights {
                    Strengths::F32(weights) => normalise.places(weights, places),
                    Strengths::F64(weights) => normalise.places(weights, places),
                    Strengths::Same(_) => {}
                }
            }
        }
    }

    /// Whether each synapse has a delay of its own.
    pub fn own_delays(&self) -> bool {
        !self.calendar.is_empty()
    }

    /// Whether the rule waits for rewards.
    pub fn waits_for_reward(&self) -> bool {
        matches!(self.rule.rule(), Rule::Reward(_))
    }

    /// A reward after the spikes of a step.
    ///
    /// # Errors
    /// A rule without reward, a reward that is not a number.
    pub fn reward(&mut self, step: u64, reward: f64) -> Result<()> {
        match &mut self.table.weights {
            Strengths::F32(weights) => self.rule.reward(step, reward, weights),
            Strengths::F64(weights) => self.rule.reward(step, reward, weights),
            Strengths::Same(_) => Ok(()),
        }
    }

    /// Records weights before a step.
    pub fn record(&mut self, step: u64) {
        for probe in self.probes.iter_mut().filter(|probe| step.is_multiple_of(probe.every)) {
            probe.values.extend(probe.places.iter().map(|&place| self.table.weights.get(place as usize)));
        }
    }

    /// Synapses of each source.
    pub fn rows(&self) -> impl Iterator<Item = usize> {
        self.table.offsets.windows(2).map(|row| (row[1] - row[0]) as usize)
    }

    /// Calls `each(source, target, weight, place)` for the synapses here, by source, then by target.
    pub fn each(&self, mut each: impl FnMut(u32, u32, f64, u32)) {
        for source in 0..self.table.offsets.len() as u32 - 1 {
            for place in self.table.row(source) {
                let target = self.table.range.start + u32::from(self.table.targets[place]);
                each(source, target, self.table.weights.get(place), place as u32);
            }
        }
    }

    /// Calls `swap` with every number that changes here and its place in `state`; `numbers` has the number in the
    /// projection of each synapse.
    pub fn exchange(&mut self, numbers: &[usize], state: &mut State, swap: fn(&mut f64, &mut f64)) {
        let step = |at: &mut u64, there: &mut f64| {
            let mut here = *at as f64; // steps below 2^53 are exact
            swap(&mut here, there);
            *at = here as u64;
        };
        let traces = |traces: &mut Traces, there: &mut [f64]| {
            swap(&mut traces.value[0], &mut there[0]);
            swap(&mut traces.value[1], &mut there[1]);
            step(&mut traces.at, &mut there[2]);
        };
        let own_delays = self.own_delays();
        let memory = self.rule.memory();
        for (i, pre) in memory.pre.iter_mut().enumerate() {
            let i = if own_delays { numbers[i] } else { i };
            traces(pre, &mut state.pre[3 * i..3 * i + 3]);
        }
        for (i, post) in memory.post.iter_mut().enumerate() {
            let i = i + self.table.range.start as usize;
            traces(post, &mut state.post[3 * i..3 * i + 3]);
        }
        for (Owed { value, at }, &i) in memory.owed.iter_mut().zip(numbers) {
            swap(value, &mut state.owed[2 * i]);
            step(at, &mut state.owed[2 * i + 1]);
        }
        for (place, &i) in numbers.iter().enumerate() {
            let mut weight = self.table.weights.get(place);
            swap(&mut weight, &mut state.weights[i]);
            self.table.weights.set(place, weight);
        }
    }
}
