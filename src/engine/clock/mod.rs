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
//! | `mod` | the simulator |
//! | `simulation` | from the network to blocks, stretches of steps |
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
mod simulation;
pub mod statistics;

use crate::engine::weights::{Plastics, WeightTrace};
use crate::error::{Error, Result};
use crate::snn::{Network, Pop};
use crate::units::Ms;
pub(in crate::engine) use input::{Input, inputs};
pub(in crate::engine) use poisson::Poisson;
pub use record::{SpikeTrain, Trace};
use simulation::{Engine, Simulation};
pub(in crate::engine) use simulation::{cut, initial};

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
            Precision::Single => Box::new(Simulation::<f32>::new(net, &options)?),
            Precision::Double => Box::new(Simulation::<f64>::new(net, &options)?),
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
