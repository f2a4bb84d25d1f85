//! What a simulation will take, before anything is drawn.

use super::build;
use super::config::{Config, Precision};
use crate::engine::cuda::{Connectivity, planned_bytes};
use crate::error::Result;
use crate::report::number::{bytes, grouped};
use crate::snn::{Init, Network};
use crate::units::Ms;
use serde::Serialize;

/// Sizes and memory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Version of this layout.
    pub schema: u32,
    /// Name of the experiment.
    pub name: String,
    /// Steps of the grid.
    pub steps: u64,
    /// Updates of a neuron, which the lazy clock does without.
    pub neuron_updates: u64,
    /// In the order of the network.
    pub populations: Vec<Population>,
    /// In the order of the network.
    pub projections: Vec<Projection>,
    /// All neurons.
    pub neurons: u64,
    /// All synapses, as expected.
    pub synapses: u64,
    /// Bytes of everything, as expected.
    pub bytes: u64,
    /// Bytes on a GPU, as expected.
    pub device_bytes: u64,
    /// Bytes that synapses would take, as expected, if they were stored and not drawn again.
    pub saved_bytes: u64,
}

/// A population.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Population {
    /// Its name.
    pub name: String,
    /// Its size.
    pub neurons: u64,
    /// State, initial values and pending input.
    pub bytes: u64,
}

/// A projection.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Projection {
    /// Its name.
    pub name: String,
    /// Expected number.
    pub synapses: u64,
    /// Tables of synapses; 0 where they are drawn again.
    pub bytes: u64,
}

/// Plans a simulation.
///
/// # Errors
/// A network that cannot be built.
pub fn of(config: &Config) -> Result<Plan> {
    Ok(of_network(config, &build::network(config)?))
}

pub(super) fn of_network(config: &Config, net: &Network) -> Plan {
    let steps = (config.simulate.duration_ms / config.simulate.step_ms).round() as u64;
    let number = if config.simulate.precision == Precision::F64 { 8 } else { 4 };
    let population = |(index, p): (usize, &crate::snn::Population)| {
        let neurons = p.size() as u64;
        let each = p.model.as_ref().map_or(0, |model| {
            let (variables, receptors) = (model.state().len() as u64, model.receptors().len() as u64);
            let incoming = net.projections.iter().filter(|edge| edge.post.0 == index);
            let waiting: u64 = incoming.map(|edge| longest(edge.wiring.delays.as_ref(), net.dt.0)).sum();
            // Initial values are drawn in f64.
            variables * (number + 8) + (receptors + waiting) * number
        });
        Population { name: p.name.clone(), neurons, bytes: neurons.saturating_mul(each) }
    };
    let populations: Vec<_> = net.populations.iter().enumerate().map(population).collect();
    let (expected, connectivity) = (net.expected_synapses(), build::connectivity(config));
    let sum = |values: &mut dyn Iterator<Item = u64>| values.fold(0, u64::saturating_add);
    let stored = sum(&mut expected.iter().map(|(_, bytes)| *bytes));
    let projections: Vec<_> = net
        .projections
        .iter()
        .zip(expected)
        .map(|(p, (synapses, bytes))| Projection {
            name: p.name.clone(),
            synapses,
            bytes: if connectivity == Connectivity::Stored { bytes } else { 0 },
        })
        .collect();
    let neurons = sum(&mut populations.iter().map(|p| p.neurons));
    let modelled: Vec<bool> = net.populations.iter().map(|p| p.model.is_some()).collect();
    let updated = sum(&mut populations.iter().zip(modelled).filter(|(_, m)| *m).map(|(p, _)| p.neurons));
    Plan {
        schema: 1,
        name: config.name.clone(),
        steps,
        neuron_updates: updated.saturating_mul(steps),
        neurons,
        synapses: sum(&mut projections.iter().map(|p| p.synapses)),
        bytes: sum(&mut populations.iter().map(|p| p.bytes).chain(projections.iter().map(|p| p.bytes))),
        device_bytes: planned_bytes(net, waits(net), connectivity),
        saved_bytes: if connectivity == Connectivity::Stored { 0 } else { stored },
        populations,
        projections,
    }
}

/// Steps that any spike waits at most.
fn waits(net: &Network) -> u64 {
    let same = |delay: Ms| (delay.0 / net.dt.0).round() as u64;
    let each = net
        .projections
        .iter()
        .map(|p| longest(p.wiring.delays.as_ref(), net.dt.0).max(p.delay.map_or(0, same)));
    each.max().unwrap_or(0)
}

/// Steps that input waits at most, where each synapse has a delay of its own.
fn longest(delays: Option<&Init>, dt: f64) -> u64 {
    let ms = match delays {
        Some(Init::Uniform { high, .. }) => *high,
        Some(Init::Normal { mean, std }) => mean + 4.0 * std,
        Some(Init::ListedF64(all)) => all.iter().copied().fold(0.0, f64::max),
        _ => return 1,
    };
    (ms / dt).ceil() as u64 + 1
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.name)?;
        let names = self.populations.iter().map(|p| &p.name).chain(self.projections.iter().map(|p| &p.name));
        let width = names.map(|name| name.chars().count()).max().unwrap_or(0);
        let mut line = |kind: &str, name: &str, amount: u64, what: &str, size: u64| {
            let (amount, size) = (grouped(amount), bytes(size as f64));
            writeln!(f, "  {kind} {name:<width$} {amount:>14} {what:<8}  {size:>12}")
        };
        for p in &self.populations {
            line("population", &p.name, p.neurons, "neurons", p.bytes)?;
        }
        for p in &self.projections {
            line("projection", &p.name, p.synapses, "synapses", p.bytes)?;
        }
        writeln!(
            f,
            "  {} neurons, {} synapses, {} in all, {} on a GPU",
            grouped(self.neurons),
            grouped(self.synapses),
            bytes(self.bytes as f64),
            bytes(self.device_bytes as f64)
        )?;
        if self.saved_bytes > 0 {
            let saved = bytes(self.saved_bytes as f64);
            writeln!(f, "  synapses are drawn again whenever their source fires, which saves {saved}")?;
        }
        writeln!(f, "  {} steps, {} updates of a neuron", grouped(self.steps), grouped(self.neuron_updates))
    }
}
