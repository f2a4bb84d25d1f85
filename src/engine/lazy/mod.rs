//! The same networks without a grid of time: a neuron is touched when something arrives at it, its state is advanced
//! in closed form, and spike times are exact.
//!
//! ```
//! use ransnn::engine::Lazy;
//! use ransnn::snn::{Init, Network, Rule, Source, neurons::Iaf};
//! use ransnn::units::Ms;
//!
//! let dt = Ms(0.1);
//! let mut net = Network::simulation(dt);
//! let input = net.source("input", 1, Source::Spikes(vec![(0, 0), (99, 0)]));
//! let cell = net.population("cell", 1, Iaf::delta(Ms(20.0), dt));
//! net.connect(input, cell, Rule::Dense).weights(Init::Constant(25.0)).delay(Ms(1.5));
//! let net = net.build(7)?;
//! let mut lazy = Lazy::new(&net)?;
//! lazy.record_spikes(cell)?;
//! lazy.run(Ms(20.0))?;
//! let times = &lazy.spikes(cell).expect("recorded").times;
//! assert!((times[0] - 1.6).abs() < 1e-12 && (times[1] - 11.5).abs() < 1e-12);
//! # Ok::<(), ransnn::Error>(())
//! ```
//!
//! **Models** are those that have a closed form, [`Neuron::linear`]: delta, exponential
//! and alpha synapses, any number of them, constant and switched currents. Everything is computed in `f64`.
//!
//! **Time.** Step `t` of the grid ends at `(t + 1) dt`; that is the time of a spike of step `t` of a source, of what
//! arrives in step `t`, and what a spike time here is to be compared with. Times are kept in steps, so that whatever is
//! on the grid is a whole number and exact. Delays are those of the description, whole numbers of steps; Poisson trains
//! have exponential intervals. Currents from outside are switched on and off at the beginning of a step. A step, and
//! a run, include the moment at their end and not the one at their beginning; a neuron that starts at its threshold or
//! above fires at time 0.
//!
//! **What acts together.** Events that arrive at a neuron at exactly the same time are added in the order in which
//! they were sent (by epoch, then by projection as declared, plastic ones after the others, by time and number of the
//! source, and by place in its row; drives from outside come last), and compared with the threshold once. A crossing between events comes first if
//! it is earlier, and the event if they coincide. In the refractory period, its last moment included, jumps of the
//! membrane are lost, currents are not: as in NEST.
//!
//! **Exactness.** Between events nothing is approximated. A crossing is found to within
//! [`TOLERANCE`] of the distance to the threshold, never late, and none is missed, however short the
//! excursion above the threshold (`dynamics`).
//!
//! **Work.** No spike arrives sooner than after the shortest delay. So time is cut into epochs of that length: what
//! arrives in an epoch is known when it begins, each neuron goes through it alone, and spikes are exchanged at its
//! end. Crossings are noticed in hindsight, within the epoch, rather than predicted at each event (Hanuschkin et al.,
//! Front. Neuroinform. 4:113, 2010): after an event, a bound says before which time the neuron cannot fire, and only
//! when an epoch reaches it is the crossing computed. Events wait in a calendar with one list per step.
//!
//! | file | idea |
//! |---|---|
//! | `mod` | the simulator: from the network to blocks, epochs |
//! | `block` | some neurons, the events on their way to them, an epoch |
//! | `dynamics` | closed forms, the first crossing |
//! | `plastic` | projections whose weights change |
//! | `poisson` | trains from outside |
//! | `checkpoint` | state to a file and back |

mod block;
mod checkpoint;
mod dynamics;
mod plastic;
mod poisson;
#[cfg(test)]
mod tests;

use super::clock::{Activity, SpikeTrain, Trace};
use super::weights::{Plastics, WeightTrace};
use crate::error::{Error, Result};
use crate::parallel;
use crate::rng::Stream;
use crate::snn::{Drive, Network, Neuron, Pop, Source, Synapses, stimulus};
use crate::units::Ms;
use block::{Block, Event, Probe, Spike};
use dynamics::Dynamics;
pub use dynamics::TOLERANCE;
use plastic::Learning;
use poisson::Trains;
use std::ops::Range;

/// Neurons of a block; the results do not depend on it.
const BLOCK: usize = 1024;
/// Steps of an epoch where no delay ends it.
const LONGEST_EPOCH: u32 = 64;

/// A network that runs without a grid.
#[derive(Debug)]
pub struct Lazy<'n> {
    net: &'n Network,
    /// In the order of populations and of their neurons.
    blocks: Vec<Block>,
    /// Of each population: its blocks.
    of: Vec<Range<usize>>,
    inputs: Vec<(usize, Input)>,
    now: u64,
    epoch: u64,
    /// Numbers of steps at whose multiples an epoch ends: weights are scaled then.
    ends: Vec<u64>,
    /// Spikes of the last epoch of each population, by time, then neuron.
    spikes: Vec<Vec<Spike>>,
    counts: Vec<u64>,
    synapses: Vec<(u64, u64)>,
    trains: Vec<Option<SpikeTimes>>,
    traces: Vec<Trace>,
    pub(super) weight_traces: Vec<WeightTrace>,
}

/// Spikes of an input population.
#[derive(Debug)]
enum Input {
    Poisson(Trains),
    /// By time, then neuron; how many have come.
    List {
        spikes: Vec<Spike>,
        next: usize,
    },
}

/// Spikes of a population at exact times, ascending by time, then by neuron.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpikeTimes {
    /// In milliseconds.
    pub times: Vec<f64>,
    /// Neuron of each spike.
    pub neurons: Vec<u32>,
}

impl SpikeTimes {
    /// Number of spikes.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The steps of `dt` in which the spikes fall, a spike at the very end of a step counted in it: what the grid
    /// would say if it were exact, and what statistics and export take.
    pub fn on_grid(&self, dt: Ms) -> SpikeTrain {
        // A time within a millionth of a step of the grid is on it.
        let step = |time: f64| ((time / dt.0 - 1e-6).ceil() - 1.0).max(0.0) as u64;
        let mut spikes: Vec<_> =
            self.times.iter().zip(&self.neurons).map(|(&time, &n)| (step(time), n)).collect();
        spikes.sort_unstable();
        let (steps, neurons) = spikes.into_iter().unzip();
        SpikeTrain { steps, neurons }
    }
}

impl<'n> Lazy<'n> {
    /// Draws the synapses and sets the initial state. Synapses, initial values and amplitudes are those of the grid.
    ///
    /// # Errors
    /// Everything by which the network cannot run without a grid, by name.
    pub fn new(net: &'n Network) -> Result<Self> {
        let models = models(net)?;
        let (mut blocks, mut of) = (Vec::new(), Vec::new());
        for (index, model) in models.iter().enumerate() {
            let start = blocks.len();
            if let Some((model, dynamics)) = model {
                populate(net, index, *model, dynamics, &mut blocks)?;
            }
            of.push(start..blocks.len());
        }
        let (mut shortest, mut longest) = (LONGEST_EPOCH, 1);
        let mut sizes = Vec::new();
        for (index, p) in net.projections.iter().enumerate() {
            let ranges: Vec<_> =
                blocks[of[p.post.0].clone()].iter().map(|b| b.first..b.first + b.neurons() as u32).collect();
            let synapses = Synapses::draw(net, index, &ranges, true)?;
            let (count, mut bytes) = (synapses.len(), synapses.bytes());
            if let Some((least, most)) = synapses.delay_range() {
                (shortest, longest) = (shortest.min(least), longest.max(most));
                let (pre, receptor) = (p.pre.0, p.wiring.receptor as u8);
                if p.wiring.plasticity.is_some() {
                    bytes = 0;
                }
                for (table, block) in synapses.blocks.into_iter().zip(&mut blocks[of[p.post.0].clone()]) {
                    let Some(rule) = &p.wiring.plasticity else {
                        block.tables.push((pre, receptor, table));
                        continue;
                    };
                    let mut learning = Learning::new(index, pre, receptor, table, rule, net.dt)?;
                    bytes += learning.plastic().bytes();
                    block.plastic.push(learning);
                    if block.plastic.len() > usize::from(u16::MAX) {
                        let expected = format!("at most {}", u16::MAX);
                        return Err(Error::value("plastic projections onto a population", "more", expected));
                    }
                }
            }
            sizes.push((count, bytes));
        }
        let plasticity = net.projections.iter().filter_map(|p| p.wiring.plasticity);
        let ends = plasticity.filter_map(|p| Some(p.normalise_steps(net.dt)?.1)).collect();
        // What is sent at the end of an epoch arrives at most so many steps after it.
        blocks.iter_mut().for_each(|block| block.calendar = vec![Vec::new(); longest as usize + 2]);
        Ok(Self {
            net,
            blocks,
            of,
            inputs: inputs(net),
            now: 0,
            epoch: shortest.into(),
            ends,
            spikes: vec![Vec::new(); net.populations.len()],
            counts: vec![0; net.populations.len()],
            synapses: sizes,
            trains: vec![None; net.populations.len()],
            traces: Vec::new(),
            weight_traces: Vec::new(),
        })
    }

    /// Keeps the spikes of a population from now on.
    ///
    /// # Errors
    /// A population that the network does not have.
    pub fn record_spikes(&mut self, pop: Pop) -> Result<()> {
        let Some(train) = self.trains.get_mut(pop.0) else {
            return Err(Error::value("population to record", pop.0, "one of the network"));
        };
        train.get_or_insert_with(SpikeTimes::default);
        Ok(())
    }

    /// Keeps the membrane potential of some neurons from now on, at the beginning of every `every`-th step. Returns
    /// the trace's number.
    ///
    /// # Errors
    /// What is not there, by name; a stride of 0.
    pub fn record(&mut self, pop: Pop, neurons: &[u32], every: u64) -> Result<usize> {
        let Some(population) = self.net.populations.get(pop.0).filter(|p| p.model.is_some()) else {
            return Err(Error::value("population to record", pop.0, "one of the network with a model"));
        };
        if let Some(&neuron) = neurons.iter().find(|&&n| n as usize >= population.size()) {
            let expected = format!("below {}, the size of `{}`", population.size(), population.name);
            return Err(Error::value("neuron to record", neuron, expected));
        }
        if every == 0 {
            return Err(Error::value("steps between records", 0, "at least 1"));
        }
        for block in &mut self.blocks {
            let range = block.first..block.first + block.neurons() as u32;
            let mine = neurons.iter().filter(|n| block.population == pop.0 && range.contains(n));
            let neurons = mine.map(|n| (n - range.start) as u16).collect();
            block.probes.push(Probe { neurons, every, values: Vec::new() });
        }
        self.traces.push(Trace {
            population: pop,
            variable: "membrane potential".into(),
            neurons: neurons.to_vec(),
            every,
            first: self.now.next_multiple_of(every),
            values: Vec::new(),
        });
        Ok(self.traces.len() - 1)
    }

    /// Runs for a time, a whole number of steps.
    ///
    /// # Errors
    /// A time that is not a multiple of the step.
    pub fn run(&mut self, time: Ms) -> Result<()> {
        let steps = super::whole_steps(time, self.net.dt)?;
        let end = self.now + steps;
        while self.now < end {
            let next = |every: &u64| (self.now / every + 1) * every;
            let scaled = self.ends.iter().map(next).min().unwrap_or(end);
            self.epoch(end.min(self.now + self.epoch).min(scaled));
        }
        let mut traces = std::mem::take(&mut self.weight_traces);
        self.plastics(|all| all.collect(&mut traces));
        self.weight_traces = traces;
        Ok(())
    }

    /// What `f` makes of the plastic projections.
    pub(super) fn plastics<R>(&self, f: impl FnOnce(Plastics<'_, f64>) -> R) -> R {
        let all = || self.blocks.iter().flat_map(|block| &block.plastic);
        f(Plastics { net: self.net, visit: &|each| all().for_each(|learning| each(&mut learning.shared())) })
    }

    fn epoch(&mut self, end: u64) {
        let start = self.now;
        parallel::owned(self.blocks.iter_mut().collect(), |_, block: &mut Block| block.run(start, end));
        self.spikes.iter_mut().for_each(Vec::clear);
        for block in &self.blocks {
            self.spikes[block.population].extend_from_slice(&block.spikes);
        }
        for (population, input) in &mut self.inputs {
            input.draw((end as f64).next_up(), &mut self.spikes[*population]);
        }
        for (population, spikes) in self.spikes.iter_mut().enumerate() {
            spikes.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            self.counts[population] += spikes.len() as u64;
            if let Some(train) = &mut self.trains[population] {
                train.times.extend(spikes.iter().map(|spike| spike.0 * self.net.dt.0));
                train.neurons.extend(spikes.iter().map(|spike| spike.1));
            }
        }
        let spikes = &self.spikes;
        parallel::owned(self.blocks.iter_mut().collect(), |_, block: &mut Block| block.receive(spikes, end));
        self.collect_traces(start, end);
        self.now = end;
    }

    /// Puts together what the blocks sampled.
    fn collect_traces(&mut self, start: u64, end: u64) {
        for (number, trace) in self.traces.iter_mut().enumerate() {
            let rows = (start.next_multiple_of(trace.every)..end).step_by(trace.every as usize).count();
            let (begin, width) = (trace.values.len(), trace.neurons.len());
            trace.values.resize(begin + rows * width, 0.0);
            for block in &self.blocks[self.of[trace.population.0].clone()] {
                let range = block.first..block.first + block.neurons() as u32;
                let columns = (0..width).filter(|&column| range.contains(&trace.neurons[column]));
                let probe = &block.probes[number];
                for (k, column) in columns.enumerate() {
                    for row in 0..rows {
                        trace.values[begin + row * width + column] =
                            probe.values[row * probe.neurons.len() + k];
                    }
                }
            }
        }
    }

    /// Steps of the description's `dt` done so far.
    pub fn steps(&self) -> u64 {
        self.now
    }

    /// Time simulated so far.
    pub fn time(&self) -> Ms {
        Ms(self.now as f64 * self.net.dt.0)
    }

    /// The recorded spikes of a population.
    pub fn spikes(&self, pop: Pop) -> Option<&SpikeTimes> {
        self.trains.get(pop.0)?.as_ref()
    }

    /// The recorded spikes of a population, taken out, so that a long run does not keep them in memory.
    pub fn take_spikes(&mut self, pop: Pop) -> Option<SpikeTimes> {
        Some(std::mem::take(self.trains.get_mut(pop.0)?.as_mut()?))
    }

    /// The recorded potentials, by the number that [`Lazy::record`] gave.
    pub fn traces(&self) -> &[Trace] {
        &self.traces
    }

    /// The rows of a trace so far, taken out, so that a long run does not keep them in memory.
    pub fn take_trace(&mut self, number: usize) -> Option<Trace> {
        self.traces.get_mut(number).map(Trace::take)
    }

    /// What [`Lazy::new`] checks, without drawing anything.
    ///
    /// # Errors
    /// As [`Lazy::new`].
    pub fn check(net: &Network) -> Result<()> {
        models(net).map(|_| ())
    }

    /// Number of synapses and bytes of their tables, of each projection.
    pub fn synapses(&self) -> &[(u64, u64)] {
        &self.synapses
    }

    /// The membrane potentials of a population, now; empty for what is not there.
    pub fn membrane(&self, pop: Pop) -> Vec<f64> {
        let blocks = self.of.get(pop.0).map_or(&[][..], |range| &self.blocks[range.clone()]);
        let now = self.now as f64;
        let of = |block: &Block| -> Vec<f64> {
            let dynamics = &block.dynamics;
            (0..block.neurons()).map(|n| dynamics.rest + dynamics.membrane(&block.state, n, now)).collect()
        };
        blocks.iter().flat_map(of).collect()
    }

    /// What has happened so far.
    pub fn activity(&self) -> Activity {
        let synaptic_events = self.blocks.iter().map(|block| block.events).sum();
        Activity { spikes: self.counts.clone(), synaptic_events }
    }
}

/// A model and its closed form.
type Closed<'n> = (&'n dyn Neuron, Dynamics);

/// The model of each population, or everything by which there is no closed form of it.
fn models(net: &Network) -> Result<Vec<Option<Closed<'_>>>> {
    let mut problems = Vec::new();
    let mut models = Vec::new();
    for (index, p) in net.populations.iter().enumerate() {
        let Some(model) = p.model.as_deref() else {
            models.push(None);
            if p.stimulus.source.is_none() {
                problems.push(format!("input `{}` has no source of spikes", p.name));
            }
            continue;
        };
        let Some(linear) = model.linear() else {
            let kind = model.kind();
            problems.push(format!("population `{}`: {kind} has no closed form and needs the grid", p.name));
            continue;
        };
        if let Err(e) = linear.validate() {
            problems.push(format!("population `{}`: {e}", p.name));
        }
        if let Some((variable, _)) = p.stimulus.initial.iter().find(|(name, _)| name != "membrane potential")
        {
            problems
                .push(format!("population `{}`: `{variable}` cannot be given an initial value here", p.name));
        }
        let receptor = |name: &str| model.receptors().iter().position(|r| *r == name).unwrap_or(0);
        let mut used: Vec<bool> = model.receptors().iter().map(|_| false).collect();
        for projection in net.incoming(Pop(index)) {
            used[projection.wiring.receptor] = true;
        }
        for drive in &p.stimulus.drives {
            let (at, current) = (receptor(drive.receptor()), matches!(drive, Drive::Current { .. }));
            used[at] = true;
            if current != matches!(linear.receptors[at], crate::snn::Kernel::Constant { .. }) {
                problems.push(format!(
                    "population `{}`: without a grid, currents end on the receptor of currents, and spikes on others",
                    p.name
                ));
            }
        }
        models.push(Some((model, Dynamics::new(&linear, net.dt.0, &used))));
    }
    for p in &net.projections {
        if p.delay.is_none() && p.wiring.delays.is_none() {
            problems.push(format!("projection `{}` has no delay; a simulation needs one", p.name));
        }
        if p.bias.iter().any(|&b| b != 0.0) || matches!(p.weights, crate::snn::Weights::Conv2d { .. }) {
            problems.push(format!("projection `{}`: convolutions and biases are not simulated", p.name));
        }
        let post = &net.populations[p.post.0];
        if let Some(linear) = post.model.as_ref().and_then(|model| model.linear())
            && matches!(linear.receptors.get(p.wiring.receptor), Some(crate::snn::Kernel::Constant { .. }))
        {
            problems
                .push(format!("projection `{}` ends on a current; without a grid, spikes cannot", p.name));
        }
    }
    if problems.is_empty() { Ok(models) } else { Err(Error::Network(problems)) }
}

/// Adds the blocks of a population.
fn populate(
    net: &Network,
    index: usize,
    model: &dyn Neuron,
    dynamics: &Dynamics,
    blocks: &mut Vec<Block>,
) -> Result<()> {
    let p = &net.populations[index];
    let size = p.size();
    let potentials = match p.stimulus.initial.iter().find(|(name, _)| name == "membrane potential") {
        None => None,
        Some((name, init)) => {
            let stream = Stream::named(net.seed, &format!("population/{}/initial/{name}", p.name));
            Some(stimulus::drawn(init, size, &stream)?)
        }
    };
    let pieces = size.div_ceil(BLOCK).max(1);
    let at = |i: usize| i * size / pieces;
    for range in (0..pieces).map(|i| at(i)..at(i + 1)) {
        let mut state = dynamics.initial(range.len());
        if let Some(potentials) = &potentials {
            potentials[range.clone()].iter().enumerate().for_each(|(n, &v)| dynamics.start(&mut state, n, v));
        }
        let mut block = Block::new(index, range.start as u32, dynamics.clone(), state);
        for (i, drive) in p.stimulus.drives.iter().enumerate() {
            let name = format!("population/{}/drive/{i}", p.name);
            let stream = Stream::named(net.seed, &name);
            let receptor = model.receptors().iter().position(|r| *r == drive.receptor()).unwrap_or(0) as u8;
            match drive {
                Drive::Poisson { rate, weight, .. } => {
                    let (per_step, times) = (rate.0 * net.dt.0 / 1000.0, 0.0..f64::INFINITY);
                    let trains = Trains::new(stream, per_step, times, block.first, range.len());
                    block.drives.push((receptor, *weight, trains));
                }
                Drive::Current { amplitude, from, until, .. } => {
                    let all = stimulus::drawn(amplitude, size, &stream)?;
                    for (time, sign) in [(from, 1.0), (until, -1.0)] {
                        let time = (time.0 / net.dt.0).round();
                        let each = all[range.clone()].iter().enumerate();
                        block.switches.extend(each.map(|(n, &amplitude)| Event {
                            time,
                            weight: sign * amplitude,
                            target: n as u16,
                            receptor,
                            through: 0,
                        }));
                    }
                }
            }
        }
        block.switches.sort_by(|a, b| a.time.total_cmp(&b.time));
        blocks.push(block);
    }
    Ok(())
}

fn inputs(net: &Network) -> Vec<(usize, Input)> {
    let input = |(index, p): (usize, &crate::snn::Population)| {
        let input = match p.stimulus.source.as_ref()? {
            Source::Poisson { rate, from, until } => {
                let stream = Stream::named(net.seed, &format!("population/{}/source", p.name));
                let times = from.0 / net.dt.0..until.0 / net.dt.0;
                Input::Poisson(Trains::new(stream, rate.0 * net.dt.0 / 1000.0, times, 0, p.size()))
            }
            Source::Spikes(list) => {
                // A spike of a step is at its end.
                let mut spikes: Vec<Spike> = list.iter().map(|&(step, n)| ((step + 1) as f64, n)).collect();
                spikes.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                Input::List { spikes, next: 0 }
            }
        };
        Some((index, input))
    };
    net.populations.iter().enumerate().filter_map(input).collect()
}

impl Input {
    /// Adds the spikes before `end`.
    fn draw(&mut self, end: f64, spikes: &mut Vec<Spike>) {
        match self {
            Self::Poisson(trains) => trains.draw(end, |n, time| spikes.push((time, n as u32))),
            Self::List { spikes: all, next } => {
                let more = all[*next..].iter().take_while(|spike| spike.0 < end);
                let before = spikes.len();
                spikes.extend(more);
                *next += spikes.len() - before;
            }
        }
    }
}
