//! Any network with delays, on a grid of time: neurons are updated in every step, spikes travel as events.
//!
//! ```
//! use ransnn::engine::{Options, Simulator};
//! use ransnn::snn::{Drive, Init, Network, Rule, neurons::Iaf};
//! use ransnn::units::{Hz, Ms};
//!
//! let mut net = Network::simulation(Ms(0.1));
//! let exc = net.population("exc", 100, Iaf::delta(Ms(20.0), Ms(0.1)));
//! net.drive(exc, Drive::Poisson { receptor: "jump".into(), rate: Hz(20_000.0), weight: 0.1 });
//! net.connect(exc, exc, Rule::FixedProbability { p: 0.1 }).weights(Init::Constant(-0.5)).delay(Ms(1.5));
//! let net = net.build(7)?;
//! let mut simulator = Simulator::new(&net, Options::default())?;
//! simulator.record_spikes(exc)?;
//! simulator.run(Ms(200.0))?;
//! let train = simulator.spikes(exc).expect("recorded");
//! assert!(train.len() > 100);
//! # Ok::<(), ransnn::Error>(())
//! ```
//!
//! **Time.** Step `t` takes the state from `t · dt` to `(t + 1) · dt`. A neuron that crosses its threshold in step `t`
//! emits a spike of step `t`; with a delay of `d` steps it is part of the input of step `t + d`. What a model does with
//! the input of a step, it says itself (see [`Iaf`](crate::snn::neurons::Iaf)).
//!
//! **Input** of a receptor is summed in a fixed order: spikes that share one weight and one delay are counted, and
//! the count is multiplied; then come individual weights, those that change last, then drives; each in the order of
//! declaration, and spikes by source. So results are equal on any number of threads and for any cut into blocks.
//!
//! **Work** is cut by target. A block of neurons owns its state and all synapses that end on it; as no spike arrives
//! sooner than after the shortest delay, a block goes through that many steps before it has to hear from the others.
//!
//! | file | idea |
//! |---|---|
//! | `mod` | the simulator: from the network to blocks, stretches of steps |
//! | `block` | some neurons of a population and what they receive |
//! | `iaf` | the step of the most common model |
//! | `counts` | how many spikes of one weight a neuron got |
//! | `later` | spikes with delays of their own, on their way |
//! | `masks` | dense projections as bits, added up in carry-save adders |
//! | `plastic` | projections whose weights change with the spikes |
//! | `history` | spikes of the last steps |
//! | `input` | populations that are sources of spikes |
//! | `poisson` | spikes from outside |
//! | `rows` | synapses as they lie in memory |
//! | `simd` | the same code for each instruction set |
//! | `record` | spike trains and variables, export |
//! | `statistics` | rates, regularity, correlation |
//! | `checkpoint` | state to a file and back |

mod block;
mod checkpoint;
mod counts;
mod history;
mod iaf;
mod input;
mod later;
mod masks;
mod plastic;
mod poisson;
pub mod record;
mod rows;
mod simd;
pub mod statistics;

use crate::engine::plastic::Plastic;
use crate::engine::weights::{Plastics, WeightTrace};
use crate::error::{Error, Result};
use crate::parallel;
use crate::rng::Stream;
use crate::snn::{Drive, Network, Neuron, Pop, Synapses, stimulus};
use crate::units::Ms;
use block::{Block, Number, Probe};
use checkpoint::Saved;
use history::History;
pub(in crate::engine) use input::{Input, inputs};
use plastic::Learning;
pub(in crate::engine) use poisson::Poisson;
pub use record::{SpikeTrain, Trace};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// In which numbers state and input are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// `f32`.
    #[default]
    Single,
    /// `f64`, for models that have it.
    Double,
}

/// How a simulation runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// In which numbers.
    pub precision: Precision,
    /// Most neurons of a block, 0 for a good number; the results do not depend on it.
    pub block: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { precision: Precision::Single, block: 0 }
    }
}

/// A network that runs.
pub struct Simulator<'n> {
    net: &'n Network,
    options: Options,
    core: Box<dyn Engine + 'n>,
    trains: Vec<Option<SpikeTrain>>,
    traces: Vec<Trace>,
    pub(super) weight_traces: Vec<WeightTrace>,
}

impl<'n> Simulator<'n> {
    /// Draws the synapses and sets the initial state.
    ///
    /// # Errors
    /// Everything by which the network cannot be simulated: projections without a delay, models without the
    /// precision that is asked for, inputs without a source.
    pub fn new(net: &'n Network, mut options: Options) -> Result<Self> {
        if options.block == 0 {
            options.block = good_block(net, rayon::current_num_threads());
        }
        check(net, &options)?;
        let core: Box<dyn Engine + 'n> = match options.precision {
            Precision::Single => Box::new(Core::<f32>::new(net, &options)?),
            Precision::Double => Box::new(Core::<f64>::new(net, &options)?),
        };
        let trains = net.populations.iter().map(|_| None).collect();
        Ok(Self { net, options, core, trains, traces: Vec::new(), weight_traces: Vec::new() })
    }

    /// The network.
    pub fn network(&self) -> &'n Network {
        self.net
    }

    /// Keeps the spikes of a population from now on.
    ///
    /// # Errors
    /// A population that the network does not have.
    pub fn record_spikes(&mut self, pop: Pop) -> Result<()> {
        let Some(train) = self.trains.get_mut(pop.0) else {
            return Err(Error::value("population to record", pop.0, "one of the network"));
        };
        train.get_or_insert_with(SpikeTrain::default);
        Ok(())
    }

    /// Keeps a state variable of some neurons from now on, before every `every`-th step. Returns the trace's number.
    ///
    /// # Errors
    /// What is not there, by name; a stride of 0.
    pub fn record(&mut self, pop: Pop, variable: &str, neurons: &[u32], every: u64) -> Result<usize> {
        let index = variable_to_record(self.net, pop, variable, neurons, every)?;
        self.traces.push(Trace {
            population: pop,
            variable: variable.into(),
            neurons: neurons.to_vec(),
            every,
            first: self.core.now().next_multiple_of(every),
            values: Vec::new(),
        });
        self.core.probe(pop.0, index, neurons, every);
        Ok(self.traces.len() - 1)
    }

    /// Runs for a time, a whole number of steps.
    ///
    /// # Errors
    /// A time that is not a multiple of the step.
    pub fn run(&mut self, time: Ms) -> Result<()> {
        let steps = super::whole_steps(time, self.net.dt)?;
        self.run_steps(steps);
        Ok(())
    }

    /// Runs so many steps.
    pub fn run_steps(&mut self, steps: u64) {
        self.core.run(steps, &mut self.trains, &mut self.traces);
        let mut traces = std::mem::take(&mut self.weight_traces);
        self.plastics(|all| all.collect(&mut traces));
        self.weight_traces = traces;
    }

    /// Steps done so far.
    pub fn steps(&self) -> u64 {
        self.core.now()
    }

    /// Time simulated so far.
    pub fn time(&self) -> Ms {
        Ms(self.core.now() as f64 * self.net.dt.0)
    }

    /// The recorded spikes of a population.
    pub fn spikes(&self, pop: Pop) -> Option<&SpikeTrain> {
        self.trains.get(pop.0)?.as_ref()
    }

    /// The recorded spikes of a population, taken out, so that a long run does not keep them in memory.
    pub fn take_spikes(&mut self, pop: Pop) -> Option<SpikeTrain> {
        Some(std::mem::take(self.trains.get_mut(pop.0)?.as_mut()?))
    }

    /// The recorded variables, by the number that [`Simulator::record`] gave.
    pub fn traces(&self) -> &[Trace] {
        &self.traces
    }

    /// The rows of a trace so far, taken out, so that a long run does not keep them in memory.
    pub fn take_trace(&mut self, number: usize) -> Option<Trace> {
        self.traces.get_mut(number).map(Trace::take)
    }

    /// What `f` makes of the plastic projections.
    pub(super) fn plastics<R>(&self, f: impl FnOnce(Plastics<'_, u64>) -> R) -> R {
        f(Plastics { net: self.net, visit: &|each| self.core.plastic(each) })
    }

    /// What [`Simulator::new`] checks, without drawing anything.
    ///
    /// # Errors
    /// As [`Simulator::new`].
    pub fn check(net: &Network, options: &Options) -> Result<()> {
        check(net, options)
    }

    /// A state variable of all neurons of a population, now; empty for what is not there.
    pub fn state(&self, pop: Pop, variable: &str) -> Vec<f64> {
        let model = self.net.populations.get(pop.0).and_then(|p| p.model.as_ref());
        let index = model.and_then(|model| model.state().iter().position(|state| state.name == variable));
        index.map_or_else(Vec::new, |index| self.core.state(pop.0, index))
    }

    /// What has happened so far.
    pub fn activity(&self) -> Activity {
        self.core.activity()
    }

    /// Number of synapses and bytes of their tables, of each projection.
    pub fn synapses(&self) -> &[(u64, u64)] {
        self.core.synapses()
    }
}

impl std::fmt::Debug for Simulator<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulator").field("options", &self.options).field("steps", &self.steps()).finish()
    }
}

/// Most neurons of a block: one for each thread, as few blocks have long rows.
fn good_block(net: &Network, threads: usize) -> usize {
    let largest = net.populations.iter().filter(|p| p.model.is_some()).map(|p| p.size()).max().unwrap_or(0);
    (largest / threads).clamp(4096, crate::snn::synapses::MOST_TARGETS)
}

/// What happened in a simulation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Spikes of each population, in the order of the network.
    pub spikes: Vec<u64>,
    /// Spikes times the synapses that each one was delivered through.
    pub synaptic_events: u64,
}

/// The index of a state variable that is to be recorded.
pub(in crate::engine) fn variable_to_record(
    net: &Network,
    pop: Pop,
    variable: &str,
    neurons: &[u32],
    every: u64,
) -> Result<usize> {
    let Some(population) = net.populations.get(pop.0) else {
        return Err(Error::value("population to record", pop.0, "one of the network"));
    };
    let states = population.model.as_ref().map_or_else(Vec::new, |model| model.state());
    let Some(index) = states.iter().position(|state| state.name == variable) else {
        let names: Vec<_> = states.iter().map(|state| state.name).collect();
        let expected = format!("one of those of `{}`: {}", population.name, names.join(", "));
        return Err(Error::value("variable to record", variable, expected));
    };
    if let Some(&neuron) = neurons.iter().find(|&&n| n as usize >= population.size()) {
        let expected = format!("below {}, the size of `{}`", population.size(), population.name);
        return Err(Error::value("neuron to record", neuron, expected));
    }
    if every == 0 {
        return Err(Error::value("steps between records", 0, "at least 1"));
    }
    Ok(index)
}

/// Reports everything by which a network cannot be simulated.
pub(in crate::engine) fn check(net: &Network, options: &Options) -> Result<()> {
    let mut problems = Vec::new();
    if options.block > crate::snn::synapses::MOST_TARGETS {
        let expected = format!("at most {}", crate::snn::synapses::MOST_TARGETS);
        return Err(Error::value("neurons of a block", options.block, expected));
    }
    for p in &net.populations {
        match (&p.model, &p.stimulus.source) {
            (None, None) => problems.push(format!("input `{}` has no source of spikes", p.name)),
            (Some(model), _) if options.precision == Precision::Double => {
                let receptors: Vec<&[f64]> = model.receptors().iter().map(|_| &[][..]).collect();
                let mut state: Vec<&mut [f64]> = model.state().iter().map(|_| &mut [][..]).collect();
                if let Err(e) = model.advance_f64(&receptors, &mut state, &mut []) {
                    problems.push(format!("population `{}`: {e}", p.name));
                }
            }
            _ => {}
        }
    }
    for p in &net.projections {
        if p.delay.is_none() && p.wiring.delays.is_none() {
            problems.push(format!(
                "projection `{}` has no delay; a simulation needs one of at least a time step, {}",
                p.name, net.dt
            ));
        }
        if p.bias.iter().any(|&b| b != 0.0) || matches!(p.weights, crate::snn::Weights::Conv2d { .. }) {
            problems.push(format!("projection `{}`: convolutions and biases are not simulated", p.name));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::Network(problems)) }
}

/// A simulation in one precision.
trait Engine: Send {
    fn now(&self) -> u64;
    fn run(&mut self, steps: u64, trains: &mut [Option<SpikeTrain>], traces: &mut [Trace]);
    fn probe(&mut self, population: usize, variable: usize, neurons: &[u32], every: u64);
    fn state(&self, population: usize, variable: usize) -> Vec<f64>;
    fn activity(&self) -> Activity;
    fn synapses(&self) -> &[(u64, u64)];
    /// Calls `each` with all plastic projections of all blocks, by ascending targets.
    fn plastic(&self, each: &mut dyn FnMut(&mut Plastic<u64>));
    fn save(&self) -> Saved;
    fn restore(&mut self, saved: &Saved) -> Result<(), String>;
}

struct Core<'n, F> {
    /// In the order of populations and of their neurons.
    blocks: Arc<[Mutex<Block<'n, F>>]>,
    /// Blocks in the order in which threads take them.
    largest_first: Vec<usize>,
    /// Of each population: its blocks.
    of: Vec<Range<usize>>,
    inputs: Vec<(usize, Input)>,
    history: History,
    now: u64,
    /// First step whose spikes projections with individual delays have not seen.
    fresh: u64,
    /// Steps until the earliest arrival of a spike: the shortest delay.
    stretch: u64,
    spikes: Vec<u64>,
    synapses: Vec<(u64, u64)>,
    probes: usize,
    /// Synaptic events before the checkpoint that was restored.
    events: u64,
}

/// What the blocks go through alone.
struct Stretch {
    steps: Range<u64>,
    /// See [`Core`].
    fresh: u64,
    history: History,
}

fn locked<'a, T>(mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Most steps of a stretch, where there are no delays that end it.
const LONGEST_STRETCH: u32 = 64;

impl<'n, F: Number> Core<'n, F> {
    fn new(net: &'n Network, options: &Options) -> Result<Self> {
        let threads = rayon::current_num_threads();
        let mut blocks = Vec::new();
        let mut of = Vec::new();
        for (index, p) in net.populations.iter().enumerate() {
            let start = blocks.len();
            if let Some(model) = p.model.as_deref() {
                let initial = initial(net, index, model)?;
                for range in cut(p.size(), options.block, threads) {
                    let part = range.start as usize..range.end as usize;
                    let state = initial
                        .iter()
                        .map(|all| all[part.clone()].iter().map(|&v| F::of(v)).collect())
                        .collect();
                    let drives = drives(net, index, model, &range)?;
                    blocks.push(Block::new(range, model, state, drives));
                }
            }
            of.push(start..blocks.len());
        }
        let (mut shortest, mut longest) = (LONGEST_STRETCH, 1);
        let mut sizes = Vec::new();
        for (index, p) in net.projections.iter().enumerate() {
            let ranges = cut(net.populations[p.post.0].size(), options.block, threads);
            let synapses = Synapses::draw(net, index, &ranges, options.precision == Precision::Double)?;
            let (count, range) = (synapses.len(), synapses.delay_range());
            let mut bytes = 0;
            if let Some((least, most)) = range {
                (shortest, longest) = (shortest.min(least), longest.max(most));
                for (table, block) in synapses.blocks.into_iter().zip(&mut blocks[of[p.post.0].clone()]) {
                    let receptor = p.wiring.receptor;
                    bytes += match &p.wiring.plasticity {
                        None => block.connect(p.pre.0, receptor, table, most),
                        Some(rule) => {
                            let learning = Learning::new(index, p.pre.0, table, rule, most, net.dt)?;
                            block.connect_plastic(receptor, learning)
                        }
                    };
                }
            }
            sizes.push((count, bytes));
        }
        let mut largest_first: Vec<usize> = (0..blocks.len()).collect();
        largest_first.sort_by_key(|&i| std::cmp::Reverse(blocks[i].range.len()));
        Ok(Self {
            blocks: blocks.into_iter().map(Mutex::new).collect(),
            largest_first,
            of,
            inputs: inputs(net),
            history: History::new((longest + shortest) as usize, net.populations.len()),
            now: 0,
            fresh: 0,
            stretch: shortest.into(),
            spikes: vec![0; net.populations.len()],
            synapses: sizes,
            probes: 0,
            events: 0,
        })
    }

    /// Everybody hears of everybody's spikes, and inputs draw theirs, in the stretch that is over.
    fn exchange(
        &mut self,
        Stretch { steps, history, .. }: &mut Stretch,
        trains: &mut [Option<SpikeTrain>],
        traces: &mut [Trace],
    ) {
        for step in steps.clone() {
            let at = (step - steps.start) as usize;
            for (population, blocks) in self.of.iter().enumerate() {
                let list = history.list(step, population);
                list.clear();
                for block in &self.blocks[blocks.clone()] {
                    list.extend_from_slice(&locked(block).spikes[at]);
                }
            }
            for (population, input) in &mut self.inputs {
                input.draw(step, history.list(step, *population));
            }
            for (population, count) in self.spikes.iter_mut().enumerate() {
                let list = history.spikes(step, population);
                *count += list.len() as u64;
                if let Some(train) = &mut trains[population] {
                    train.neurons.extend_from_slice(list);
                    train.steps.resize(train.neurons.len(), step);
                }
            }
        }
        self.collect_traces(traces);
        self.fresh = self.now;
        self.now = steps.end;
    }

    /// Puts together what the blocks of a population recorded.
    fn collect_traces(&self, traces: &mut [Trace]) {
        for (number, trace) in traces.iter_mut().enumerate() {
            let (start, width) = (trace.values.len(), trace.neurons.len());
            for block in &self.blocks[self.of[trace.population.0].clone()] {
                let block = locked(block);
                let Some(probe) = block.probes.iter().find(|probe| probe.number == number) else { continue };
                let each = probe.neurons.len();
                if each == 0 {
                    continue;
                }
                let rows = probe.values.len() / each;
                trace.values.resize(start + rows * width, 0.0);
                let columns = (0..width).filter(|&column| block.range.contains(&trace.neurons[column]));
                for (k, column) in columns.enumerate() {
                    for row in 0..rows {
                        trace.values[start + row * width + column] = probe.values[row * each + k].to_f64();
                    }
                }
            }
        }
    }
}

/// All numbers that a population holds, in an order that no cut into blocks changes: state variables, then what is on
/// its way, by step.
fn slices<F: Number>(blocks: &mut [MutexGuard<'_, Block<'_, F>>], mut each: impl FnMut(&mut [F])) {
    let variables = blocks.first_mut().map_or(0, |block| block.state().len());
    for variable in 0..variables {
        blocks.iter_mut().for_each(|block| each(&mut block.state()[variable]));
    }
    let rows: Vec<usize> = blocks
        .first_mut()
        .map_or_else(Vec::new, |block| block.later().map(|later| later.sums().len()).collect());
    for (channel, &steps) in rows.iter().enumerate() {
        for step in 0..steps {
            for block in blocks.iter_mut() {
                if let Some(sums) = block.later().nth(channel).and_then(|later| later.sums().nth(step)) {
                    each(sums);
                }
            }
        }
    }
}

/// Below so many neurons a piece is not worth having.
const LEAST: usize = 512;

/// Equal pieces of at most `most` neurons; where they are large enough, as many for each of `threads`.
pub(in crate::engine) fn cut(size: usize, most: usize, threads: usize) -> Vec<Range<u32>> {
    let pieces = size.div_ceil(most).max(1);
    let even = pieces.next_multiple_of(threads);
    let pieces = if size >= even * LEAST { even } else { pieces };
    // At multiples of 32, where Poisson drives are drawn 32 at a time.
    let at = |i: usize| if i == pieces { size as u32 } else { (i * size / pieces / 32 * 32) as u32 };
    (0..pieces).map(|i| at(i)..at(i + 1)).filter(|range| !range.is_empty()).collect()
}

/// Values of all state variables before the first step.
pub(in crate::engine) fn initial(net: &Network, index: usize, model: &dyn Neuron) -> Result<Vec<Vec<f64>>> {
    let p = &net.populations[index];
    let variable = |state: &crate::snn::StateSpec| match p
        .stimulus
        .initial
        .iter()
        .find(|(name, _)| name == state.name)
    {
        None => Ok(vec![state.initial.into(); p.size()]),
        Some((name, init)) => {
            let stream = Stream::named(net.seed, &format!("population/{}/initial/{name}", p.name));
            stimulus::drawn(init, p.size(), &stream)
        }
    };
    model.state().iter().map(variable).collect()
}

fn drives<F: Number>(
    net: &Network,
    index: usize,
    model: &dyn Neuron,
    range: &Range<u32>,
) -> Result<Vec<block::Drive<F>>> {
    let p = &net.populations[index];
    let drive = |(i, drive): (usize, &Drive)| {
        let name = format!("population/{}/drive/{i}", p.name);
        let receptor = model.receptors().iter().position(|r| *r == drive.receptor()).unwrap_or(0);
        Ok(match drive {
            Drive::Poisson { rate, weight, .. } => {
                let poisson = Poisson::new(net.seed, &name, rate.0 * net.dt.0 / 1000.0);
                block::Drive::Poisson { receptor, weight: F::of(*weight), poisson }
            }
            Drive::Current { amplitude, from, until, .. } => {
                let all = stimulus::drawn(amplitude, p.size(), &Stream::named(net.seed, &name))?;
                let part = &all[range.start as usize..range.end as usize];
                let step = |time: &Ms| (time.0 / net.dt.0).round() as u64;
                let steps = step(from)..step(until);
                block::Drive::Current { receptor, amplitude: part.iter().map(|&a| F::of(a)).collect(), steps }
            }
        })
    };
    p.stimulus.drives.iter().enumerate().map(drive).collect()
}

impl<F: Number> Engine for Core<'_, F> {
    fn now(&self) -> u64 {
        self.now
    }

    fn run(&mut self, steps: u64, trains: &mut [Option<SpikeTrain>], traces: &mut [Trace]) {
        let end = self.now + steps;
        if steps == 0 {
            return;
        }
        let next = |now: u64, stretch: u64| now..end.min(now + stretch);
        let (blocks, order) = (Arc::clone(&self.blocks), self.largest_first.clone());
        let mut stretch = Stretch {
            steps: next(self.now, self.stretch),
            fresh: self.fresh,
            history: std::mem::take(&mut self.history),
        };
        let work = |stretch: &Stretch, i: usize| {
            simd::run(&mut locked(&blocks[order[i]]), stretch.steps.clone(), stretch.fresh, &stretch.history);
        };
        parallel::rounds(blocks.len(), &mut stretch, work, |stretch| {
            self.exchange(stretch, trains, traces);
            (stretch.steps, stretch.fresh) = (next(self.now, self.stretch), self.fresh);
            self.now < end
        });
        self.history = stretch.history;
    }

    fn probe(&mut self, population: usize, variable: usize, neurons: &[u32], every: u64) {
        let number = self.probes;
        self.probes += 1;
        for block in &self.blocks[self.of[population].clone()] {
            let mut block = locked(block);
            let range = block.range.clone();
            let mine = neurons.iter().filter(|n| range.contains(n)).map(|n| (n - range.start) as usize);
            let neurons = mine.collect();
            block.probes.push(Probe { number, variable, neurons, every, values: Vec::new() });
        }
    }

    fn state(&self, population: usize, variable: usize) -> Vec<f64> {
        let blocks = self.blocks[self.of[population].clone()].iter().map(locked);
        blocks
            .flat_map(|mut block| block.state()[variable].iter().map(|v| v.to_f64()).collect::<Vec<_>>())
            .collect()
    }

    fn activity(&self) -> Activity {
        let synaptic_events: u64 = self.blocks.iter().map(|block| locked(block).events).sum();
        Activity { spikes: self.spikes.clone(), synaptic_events: self.events + synaptic_events }
    }

    fn synapses(&self) -> &[(u64, u64)] {
        &self.synapses
    }

    fn plastic(&self, each: &mut dyn FnMut(&mut Plastic<u64>)) {
        for block in self.blocks.iter() {
            locked(block).plastic.iter_mut().for_each(|(_, learning)| each(&mut learning.plastic));
        }
    }

    fn save(&self) -> Saved {
        let mut saved = Saved {
            now: self.now,
            fresh: self.fresh,
            spikes: self.spikes.clone(),
            events: self.activity().synaptic_events,
            ..Saved::default()
        };
        for blocks in &self.of {
            let mut guards: Vec<_> = self.blocks[blocks.clone()].iter().map(locked).collect();
            let mut numbers = Vec::new();
            slices(&mut guards, |part| numbers.extend(part.iter().map(|v| v.to_f64())));
            saved.populations.push(numbers);
        }
        for step in self.now.saturating_sub(self.history.steps())..self.now {
            for population in 0..self.of.len() {
                saved.history.push(self.history.spikes(step, population).to_vec());
            }
        }
        saved
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), String> {
        let populations = self.of.len();
        let steps = saved.now.saturating_sub(self.history.steps())..saved.now;
        let lists = (steps.end - steps.start) as usize * populations;
        if [saved.populations.len(), saved.spikes.len()] != [populations; 2] || saved.history.len() != lists {
            return Err("it is of another network".into());
        }
        for (blocks, numbers) in self.of.iter().zip(&saved.populations) {
            let mut guards: Vec<_> = self.blocks[blocks.clone()].iter().map(locked).collect();
            let mut held = 0;
            slices(&mut guards, |part| held += part.len());
            if held != numbers.len() {
                return Err(format!(
                    "a population has {} numbers, where this network has {held}",
                    numbers.len()
                ));
            }
        }
        for (blocks, numbers) in self.of.iter().zip(&saved.populations) {
            let mut guards: Vec<_> = self.blocks[blocks.clone()].iter().map(locked).collect();
            let mut numbers = numbers.iter().map(|&v| F::of(v));
            slices(&mut guards, |part| part.iter_mut().zip(&mut numbers).for_each(|(to, v)| *to = v));
            guards.iter_mut().for_each(|block| block.events = 0);
        }
        self.events = saved.events;
        let mut history = saved.history.iter();
        for step in steps.clone() {
            for population in 0..populations {
                let list = self.history.list(step, population);
                list.clear();
                list.extend(history.next().into_iter().flatten());
            }
        }
        let sent = steps.start..saved.fresh.max(steps.start);
        let history = &self.history;
        for block in self.blocks.iter() {
            let mut block = locked(block);
            block.plastic.iter_mut().for_each(|(_, to)| to.resend(sent.clone(), saved.now, history));
        }
        self.inputs.iter_mut().for_each(|(_, input)| input.go_to(saved.now));
        (self.now, self.fresh) = (saved.now, saved.fresh);
        self.spikes.clone_from(&saved.spikes);
        Ok(())
    }
}
