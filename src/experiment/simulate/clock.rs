//! One of the two clocks, or the grid on a GPU, behind what a run needs of any.

use super::build;
use super::config::{self, Config};
use crate::engine::clock::{Activity, Trace};
use crate::engine::{Connections, Lazy, Precision, Simulator, WeightTrace, cuda};
use crate::error::{Error, Result};
use crate::experiment::device::{self, Device};
use crate::snn::{Network, Pop};
use crate::tensor::cuda::Gpu;
use crate::units::Ms;
use std::path::Path;

/// A network that runs.
pub(super) enum Clock<'n> {
    Grid(Box<Simulator<'n>>),
    Lazy(Box<Lazy<'n>>),
    Gpu(Box<cuda::Simulator<'n>>),
}

impl<'n> Clock<'n> {
    /// Draws the synapses, or, for a GPU that draws them again, counts them.
    pub fn new(net: &'n Network, config: &Config, device: &Device) -> Result<Self> {
        if config.simulate.clock == config::Clock::Lazy {
            return Ok(Self::Lazy(Box::new(Lazy::new(net)?)));
        }
        let options = build::options(config);
        let lacks = |what: &str| Error::Unsupported { op: "a simulation", on: format!("on a GPU {what}") };
        let connectivity = build::connectivity(config);
        let work = |gpu: &Gpu| match options.precision {
            Precision::Double => Err(lacks("in double precision")),
            _ if !config.record.weights.is_empty() => Err(lacks("with weights that are recorded")),
            Precision::Single => cuda::Simulator::with_connectivity(gpu, net, connectivity),
        };
        let on_gpu = match (connectivity, device) {
            (cuda::Connectivity::Stored, _) => device.try_gpu(work)?,
            // Asked for by name: `auto` leaves nothing of it to the CPU.
            (cuda::Connectivity::Procedural, Device::Gpu { gpu, .. }) => Some(work(gpu)?),
            (cuda::Connectivity::Procedural, Device::Cpu) => {
                let on = "on the CPU, and there is no GPU that can be used (`ransnn devices` says why); take connectivity = \"stored\"";
                return Err(Error::Unsupported { op: "procedural connectivity", on: on.into() });
            }
        };
        Ok(match on_gpu {
            Some(clock) => Self::Gpu(Box::new(clock)),
            None => Self::Grid(Box::new(Simulator::new(net, options)?)),
        })
    }

    /// Where it runs.
    pub fn device(&self) -> String {
        match self {
            Self::Grid(_) | Self::Lazy(_) => Device::Cpu.to_string(),
            Self::Gpu(clock) => device::describe(clock.gpu()),
        }
    }

    pub fn record_spikes(&mut self, pop: Pop) -> Result<()> {
        match self {
            Self::Grid(clock) => clock.record_spikes(pop),
            Self::Lazy(clock) => clock.record_spikes(pop),
            Self::Gpu(clock) => clock.record_spikes(pop),
        }
    }

    pub fn record(&mut self, pop: Pop, variable: &str, neurons: &[u32], every: u64) -> Result<usize> {
        match self {
            Self::Grid(clock) => clock.record(pop, variable, neurons, every),
            Self::Lazy(clock) => clock.record(pop, neurons, every),
            Self::Gpu(clock) => clock.record(pop, variable, neurons, every),
        }
    }

    pub fn run(&mut self, steps: u64, dt: Ms) -> Result<()> {
        match self {
            Self::Grid(clock) => {
                clock.run_steps(steps);
                Ok(())
            }
            Self::Lazy(clock) => clock.run(Ms(steps as f64 * dt.0)),
            Self::Gpu(clock) => clock.run_steps(steps),
        }
    }

    pub fn steps(&self) -> u64 {
        match self {
            Self::Grid(clock) => clock.steps(),
            Self::Lazy(clock) => clock.steps(),
            Self::Gpu(clock) => clock.steps(),
        }
    }

    /// Spikes since the last call: times, and neurons. Times are steps on the grid, and else the bits of milliseconds.
    pub fn take_spikes(&mut self, pop: Pop) -> Option<(Vec<u64>, Vec<u32>)> {
        match self {
            Self::Grid(clock) => clock.take_spikes(pop).map(|train| (train.steps, train.neurons)),
            Self::Gpu(clock) => clock.take_spikes(pop).map(|train| (train.steps, train.neurons)),
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
            Self::Gpu(clock) => clock.take_trace(number),
        }
    }

    pub fn record_weights(&mut self, projection: &str, synapses: &[u32], every: u64) -> Result<usize> {
        let synapses: Vec<usize> = synapses.iter().map(|&synapse| synapse as usize).collect();
        match self {
            Self::Grid(clock) => clock.record_weights(projection, &synapses, every),
            Self::Lazy(clock) => clock.record_weights(projection, &synapses, every),
            Self::Gpu(_) => Err(Error::Unsupported { op: "recording weights", on: "on a GPU".into() }),
        }
    }

    /// Weights since the last call.
    pub fn take_weights(&mut self, number: usize) -> Option<WeightTrace> {
        match self {
            Self::Grid(clock) => clock.take_weight_trace(number),
            Self::Lazy(clock) => clock.take_weight_trace(number),
            Self::Gpu(_) => None,
        }
    }

    /// The synapses of a plastic projection.
    pub fn weights(&self, projection: &str) -> Result<Connections> {
        match self {
            Self::Grid(clock) => clock.weights(projection),
            Self::Lazy(clock) => clock.weights(projection),
            Self::Gpu(clock) => clock.weights(projection),
        }
    }

    /// Gives a reward now.
    pub fn reward(&mut self, amount: f64) -> Result<()> {
        match self {
            Self::Grid(clock) => clock.reward(amount),
            Self::Lazy(clock) => clock.reward(amount),
            Self::Gpu(_) => Err(Error::Unsupported { op: "a reward", on: "on a GPU".into() }),
        }
    }

    pub fn activity(&self) -> Result<Activity> {
        match self {
            Self::Grid(clock) => Ok(clock.activity()),
            Self::Lazy(clock) => Ok(clock.activity()),
            Self::Gpu(clock) => clock.activity(),
        }
    }

    /// Synapses and bytes of their tables.
    pub fn synapses(&self) -> (u64, u64) {
        let each = match self {
            Self::Grid(clock) => clock.synapses(),
            Self::Lazy(clock) => clock.synapses(),
            Self::Gpu(clock) => clock.synapses(),
        };
        each.iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }

    pub fn checkpoint(&self, path: &Path) -> Result<()> {
        match self {
            Self::Grid(clock) => clock.checkpoint(path),
            Self::Lazy(clock) => clock.checkpoint(path),
            Self::Gpu(clock) => clock.checkpoint(path),
        }
    }

    pub fn restore(&mut self, path: &Path) -> Result<()> {
        match self {
            Self::Grid(clock) => clock.restore(path),
            Self::Lazy(clock) => clock.restore(path),
            Self::Gpu(clock) => clock.restore(path),
        }
    }
}
