//! What an experiment will take, before it runs.

use super::{build, config::Config};
use crate::engine::Feedforward;
use crate::error::Result;
use crate::report::number::{bytes, grouped};
use serde::Serialize;

/// Sizes, memory and operations.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Version of this layout.
    pub schema: u32,
    /// Name of the experiment.
    pub name: String,
    /// The network.
    pub network: crate::engine::Plan,
    /// Features that the readout sees.
    pub features: usize,
    /// Bytes of the normal equations and their factor (ridge).
    pub normal_equations_bytes: u64,
}

/// Plans an experiment; draws the network, runs nothing.
///
/// # Errors
/// A network that cannot be built.
pub fn of(config: &Config) -> Result<Plan> {
    let net = build::network(config, config.seed)?;
    let engine = Feedforward::compile(&net, &build::encoding(config), &build::probes(config, &net))?;
    let features: usize = engine.widths().iter().sum();
    let square = features as u64 * features as u64;
    Ok(Plan {
        schema: 1,
        name: config.name.clone(),
        network: engine.plan(),
        features,
        normal_equations_bytes: 4 * square,
    })
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plan = &self.network;
        writeln!(f, "{}", self.name)?;
        for (name, neurons) in &plan.populations {
            writeln!(f, "  population {name:<16} {:>12} neurons", grouped(*neurons as u64))?;
        }
        for (name, weights, size) in &plan.projections {
            let (weights, bytes) = (grouped(*weights), bytes(*size as f64));
            writeln!(f, "  projection {name:<16} {weights:>12} weights  {bytes:>12}")?;
        }
        let of = grouped;
        writeln!(f, "  per sample: {} steps, {} neuron updates,", plan.steps, of(plan.neuron_updates))?;
        writeln!(f, "    {} multiply-accumulates of constant currents,", of(plan.analogue_operations))?;
        writeln!(f, "    at most {} synaptic operations", of(plan.most_synaptic_operations))?;
        let square = bytes(self.normal_equations_bytes as f64);
        writeln!(f, "  {} features; normal equations and factor {square}", of(self.features as u64))
    }
}
