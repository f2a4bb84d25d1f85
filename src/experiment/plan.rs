//! What an experiment will take, before it runs.

use super::{
    build,
    config::{Config, Train},
};
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
    /// Bytes of the normal equations and their factor (ridge); 0 for other trainers.
    pub normal_equations_bytes: u64,
    /// What training by gradients takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
}

/// What training by gradients takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Training {
    /// Numbers that are trained.
    pub parameters: usize,
    /// Bytes of parameters, gradients and the state of the optimiser.
    pub parameter_bytes: usize,
    /// Bytes that the tape keeps of a mini-batch until the way back; lists of spikes, 4 bytes each, come on top.
    pub activation_bytes: usize,
}

/// Plans an experiment; draws the network, runs nothing.
///
/// # Errors
/// A network that cannot be built.
pub fn of(config: &Config) -> Result<Plan> {
    let net = build::network(config, config.seed)?;
    let encoding = build::encoding(config);
    let engine = Feedforward::compile(&net, &encoding, &build::probes(config, &net))?;
    let mut plan = Plan {
        schema: 1,
        name: config.name.clone(),
        network: engine.plan(),
        features: engine.widths().iter().sum(),
        normal_equations_bytes: 0,
        training: None,
    };
    match &config.train {
        Train::Ransnn { .. } => plan.normal_equations_bytes = 4 * (plan.features as u64).pow(2),
        Train::Surrogate(train) => {
            let model = train.model(&net)?;
            let output = net.population(&train.output);
            let sources = output.into_iter().flat_map(|output| net.incoming(output)).map(|p| p.pre.0);
            plan.features = sources.map(|i| net.populations[i].size()).sum();
            plan.training = Some(Training {
                parameters: model.size(),
                parameter_bytes: 16 * model.size(),
                activation_bytes: model.activation_bytes(encoding.steps(), train.batch),
            });
        }
    }
    Ok(plan)
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
        let features = of(self.features as u64);
        match &self.training {
            None => {
                let square = bytes(self.normal_equations_bytes as f64);
                writeln!(f, "  {features} features; normal equations and factor {square}")
            }
            Some(training) => {
                let [weights, tape] = [training.parameter_bytes, training.activation_bytes];
                let trained = of(training.parameters as u64);
                writeln!(f, "  {features} features; {trained} numbers are trained:")?;
                writeln!(f, "    {} for them, their gradients and the optimiser,", bytes(weights as f64))?;
                writeln!(f, "    {} of activations of a mini-batch, and 4 bytes a spike", bytes(tape as f64))
            }
        }
    }
}
