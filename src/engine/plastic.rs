//! The synapses of a plastic projection onto a block of neurons, on either clock: weights, the rule that changes them,
//! and what it remembers. When spikes arrive is the clock's business: `clock::plastic` and `lazy::plastic`.

use crate::error::Result;
use crate::snn::plasticity::event_driven::{Owed, Traces};
use crate::snn::plasticity::{EventDriven, Incidence, Moment, Normalise, Plasticity, Rule};
use crate::snn::synapses::{Block as Table, Strengths};
use crate::units::Ms;

/// The synapses of a plastic projection onto one block.
pub(super) struct Plastic<T> {
    /// Which of the network's projections.
    pub projection: usize,
    pub table: Table,
    rule: EventDriven<T>,
    /// And after how many steps it is done again.
    normalise: Option<(Normalise, u64)>,
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

impl<T: Moment> Plastic<T> {
    /// Of a projection whose weights are in `table`; `drive` chooses how the rule keeps its traces.
    ///
    /// # Errors
    /// A rule whose parameters are out of range.
    pub fn new(
        projection: usize,
        mut table: Table,
        plasticity: &Plasticity,
        dt: Ms,
        drive: fn(Rule, Ms, Incidence) -> Result<EventDriven<T>>,
    ) -> Result<Self> {
        let offsets: Vec<usize> = table.offsets.iter().map(|&at| at as usize).collect();
        let targets: Vec<u32> = table.targets.iter().map(|&target| target.into()).collect();
        let synapses = Incidence::new(&offsets, &targets, table.range.len())?;
        let [min, max] = plasticity.rule.bounds();
        for place in 0..targets.len() {
            table.weights.set(place, table.weights.get(place).max(min).min(max));
        }
        let rule = drive(plasticity.rule, dt, synapses)?;
        let normalise = plasticity.normalise_steps(dt);
        Ok(Self { projection, table, rule, normalise, probes: Vec::new() })
    }

    /// Bytes that it takes: the table, its columns, and what the rule remembers.
    pub fn bytes(&mut self) -> u64 {
        let synapses = self.table.targets.len();
        let memory = self.rule.memory();
        let columns = 12 * synapses + 8 * (memory.post.len() + self.table.offsets.len());
        let remembered = size_of_val(memory.pre) + size_of_val(memory.post) + size_of_val(memory.owed);
        self.table.bytes() + (columns + remembered) as u64
    }

    /// The spike of a source arrives at all of its synapses.
    pub fn arrive_from(&mut self, step: T, source: u32) {
        match &mut self.table.weights {
            Strengths::F32(weights) => self.rule.arrive_from(step, source, weights),
            Strengths::F64(weights) => self.rule.arrive_from(step, source, weights),
            Strengths::Same(_) => {} // plastic weights are drawn one by one
        }
    }

    /// A spike arrives at one synapse.
    pub fn arrive_through(&mut self, step: T, place: usize) {
        match &mut self.table.weights {
            Strengths::F32(weights) => self.rule.arrive_through(step, place, &mut weights[place]),
            Strengths::F64(weights) => self.rule.arrive_through(step, place, &mut weights[place]),
            Strengths::Same(_) => {}
        }
    }

    /// A neuron fires; `target` is counted from the first of the block.
    pub fn fire(&mut self, step: T, target: u32) {
        match &mut self.table.weights {
            Strengths::F32(weights) => self.rule.fire_one(step, target, weights),
            Strengths::F64(weights) => self.rule.fire_one(step, target, weights),
            Strengths::Same(_) => {}
        }
    }

    /// After so many steps: scales the weights into each neuron, where it is time for that.
    pub fn normalise(&mut self, steps: u64) {
        let Some((normalise, every)) = &self.normalise else { return };
        if !steps.is_multiple_of(*every) {
            return;
        }
        for target in 0..self.table.range.len() as u32 {
            let places = self.rule.synapses().entering(target);
            match &mut self.table.weights {
                Strengths::F32(weights) => normalise.places(weights, places),
                Strengths::F64(weights) => normalise.places(weights, places),
                Strengths::Same(_) => {}
            }
        }
    }

    /// Places of the synapses that enter a neuron.
    pub fn entering(&self, target: u32) -> &[u32] {
        self.rule.synapses().entering(target)
    }

    /// Whether presynaptic traces are kept for each synapse.
    pub fn by_synapse(&self) -> bool {
        self.rule.by_synapse()
    }

    /// Whether the rule waits for rewards.
    pub fn waits_for_reward(&self) -> bool {
        matches!(self.rule.rule(), Rule::Reward(_))
    }

    /// A reward after the spikes of a step.
    ///
    /// # Errors
    /// A rule without reward, a reward that is not a number.
    pub fn reward(&mut self, step: T, reward: f64) -> Result<()> {
        match &mut self.table.weights {
            Strengths::F32(weights) => self.rule.reward(step, reward, weights),
            Strengths::F64(weights) => self.rule.reward(step, reward, weights),
            Strengths::Same(_) => Ok(()),
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
        let step = |at: &mut T, there: &mut f64| {
            let mut here = at.steps();
            swap(&mut here, there);
            *at = T::at(here);
        };
        let traces = |traces: &mut Traces<T>, there: &mut [f64]| {
            swap(&mut traces.value[0], &mut there[0]);
            swap(&mut traces.value[1], &mut there[1]);
            step(&mut traces.at, &mut there[2]);
        };
        let by_synapse = self.by_synapse();
        let memory = self.rule.memory();
        for (i, pre) in memory.pre.iter_mut().enumerate() {
            let i = if by_synapse { numbers[i] } else { i };
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
