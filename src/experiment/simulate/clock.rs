//! One of the two clocks, behind what a run needs of either.

use super::build;
use super::config::{self, Config};
use crate::engine::clock::{Activity, Trace};
use crate::engine::{Connections, Lazy, Simulator, WeightTrace};
use crate::error::Result;
use crate::snn::{Network, Pop};
use crate::units::Ms;
use std::path::Path;

/// A network that runs.
pub(super) enum Clock<'n> {
    Grid(Box<Simulator<'n>>),
    Lazy(Box<Lazy<'n>>),
}

impl<'n> Clock<'n> {
    /// Draws the synapses.
    pub fn new(net: &'n Network, config: &Config) -> Result<Self> {
        Ok(match config.simulate.clock {
            config::Clock::Grid => Self::Grid(Box::new(Simulator::new(net, build::options(config))?)),
            config::Clock::Lazy => Self::Lazy(Box::new(Lazy::new(net)?)),
        })
    }

    pub fn record_spikes(&mut self, pop: Pop) -> Result<()> {
        match self {
            Self::Grid(clock) => clock.record_spikes(pop),
            Self::Lazy(clock) => clock.record_spikes(pop),
        }
    }

    pub fn record(&mut self, pop: Pop, variable: &str, neurons: &[u32], every: u64) -> Result<usize> {
        match self {
            Self::Grid(clock) => clock.record(pop, variable, neurons, every),
            Self::Lazy(clock) => clock.record(pop, neurons, every),
        }
    }

    pub fn run(&mut self, steps: u64, dt: Ms) -> Result<()> {
        match self {
            Self::Grid(clock) => {
                clock.run_steps(steps);
                Ok(())
            }
            Self::Lazy(clock) => clock.run(Ms(steps as f64 * dt.0)),
        }
    }

    pub fn steps(&self) -> u64 {
        match self {
            Self::Grid(clock) => clock.steps(),
            Self::Lazy(clock) => clock.steps(),
        }
    }

    /// Spikes since the last call: times, and neurons. Times are steps on the grid, and else the bits of milliseconds.
    pub fn take_spikes(&mut self, pop: Pop) -> Option<(Vec<u64>, Vec<u32>)> {
        match self {
            Self::Grid(clock) => clock.take_spikes(pop).map(|train| (train.steps, train.neurons)),
            Self::Lazy(clock) => clock
                .take_spikes(pop)
                .map(|train| (train.times.into_iter().map(f64::to_bits).collect(), train.neurons)),
        }
    }

    /// Values since the last call.
    pub fn take_trace(&mut self, number: usize) -> Option<Trace> {
        match self {
            Self::Grid(clock) => clock.take_trace(number),
            Self::Lazy(clock) => clock.take_trace(number),
        }
    }

    pub fn record_weights(&mut self, projection: &str, synapses: &[u32], every: u64) -> Result<usize> {
        let synapses: Vec<usize> = synapses.iter().map(|&synapse| synapse as usize).collect();
        match self {
            Self::Grid(clock) => clock.record_weights(projection, &synapses, every),
            Self::Lazy(clock) => clock.record_weights(projection, &synapses, every),
        }
    }

    /// Weights since the last call.
    pub fn take_weights(&mut self, number: usize) -> Option<WeightTrace> {
        match self {
            Self::Grid(clock) => clock.take_weight_trace(number),
            Self::Lazy(clock) => clock.take_weight_trace(number),
        }
    }

    /// The synapses of a plastic projection.
    pub fn weights(&self, projection: &str) -> Result<Connections> {
        match self {
            Self::Grid(clock) => clock.weights(projection),
            Self::Lazy(clock) => clock.weights(projection),
        }
    }

    /// Gives a reward now.
    pub fn reward(&mut self, amount: f64) -> Result<()> {
        match self {
            Self::Grid(clock) => clock.reward(amount),
            Self::Lazy(clock) => clock.reward(amount),
        }
    }

    pub fn activity(&self) -> Activity {
        match self {
            Self::Grid(clock) => clock.activity(),
            Self::Lazy(clock) => clock.activity(),
        }
    }

    /// Synapses and bytes of their tables.
    pub fn synapses(&self) -> (u64, u64) {
        let each = match self {
            Self::Grid(clock) => clock.synapses(),
            Self::Lazy(clock) => clock.synapses(),
        };
        each.iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }

    pub fn checkpoint(&self, path: &Path) -> Result<()> {
        match self {
            Self::Grid(clock) => clock.checkpoint(path),
            Self::Lazy(clock) => clock.checkpoint(path),
        }
    }

    pub fn restore(&mut self, path: &Path) -> Result<()> {
        match self {
            Self::Grid(clock) => clock.restore(path),
            Self::Lazy(clock) => clock.restore(path),
        }
    }
}
