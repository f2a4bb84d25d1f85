//! What an experiment will take, before it runs.

use super::{
    build,
    config::{Config, Train},
    train::config::Fit,
};
use crate::engine::Presentation;
use crate::error::Result;
use crate::learn::convert::activation_bytes;
use crate::report::number::{bytes, grouped};
use crate::snn::{Network, Pop};
use crate::tensor::Trainable;
use serde::Serialize;

/// Sizes, memory and operations.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
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
    /// Bytes that a mini-batch keeps until the way back; lists of spikes, 4 bytes each, come on top.
    pub activation_bytes: usize,
}

/// Plans an experiment; draws the network, runs nothing.
///
/// # Errors
/// A network that cannot be built.
pub fn of(config: &Config) -> Result<Plan> {
    let mut plan = Plan { schema: 1, name: config.name.clone(), ..Plan::default() };
    match &config.train {
        Train::Ransnn { .. } => {
            let net = build::network(config, config.seed)?;
            let engine = Presentation::compile(&net, &build::encoding(config), &build::probes(config, &net))?;
            plan.network = engine.plan();
            plan.features = engine.widths().iter().sum();
            plan.normal_equations_bytes = 4 * (plan.features as u64).pow(2);
        }
        Train::Surrogate(train) => {
            let net = build::network(config, config.seed)?;
            let encoding = build::encoding(config);
            plan.network = Presentation::compile(&net, &encoding, &[])?.plan();
            let model = train.model(&net)?;
            plan.features = net.population(&train.output).map_or(0, |output| fan_in(&net, output));
            let activations = train.options().batch_bytes(&model, &encoding);
            plan.training = Some(Training::new(model.size(), 4, activations));
        }
        Train::StdpReadout(train) => {
            let net = build::network(config, config.seed)?;
            plan.network = Presentation::compile(&net, &build::encoding(config), &[])?.plan();
            let output = net.population(&train.output);
            plan.features = output.map_or(0, |output| fan_in(&net, output));
            let classes = output.map_or(0, |output| net.populations[output.0].size());
            let windows = 4 * train.batch * config.encode.steps() * classes;
            plan.training = Some(Training::new(net.parameters().trained, 1, windows));
        }
        Train::Convert(train) => {
            let (ann, converted) = train.untrained(config.seed)?;
            plan.network = Presentation::compile(&converted.net, &build::encoding(config), &[])?.plan();
            plan.features = fan_in(&converted.net, converted.output);
            let mut size = 0;
            ann.visit(&mut |_, tensor| size += tensor.len());
            if let Fit::Gradient { batch, .. } = train.fit {
                plan.training = Some(Training::new(size, 4, activation_bytes(&ann, batch)?));
            }
        }
        Train::Stdp(train) => {
            let (inputs, neurons) = (train.input.iter().product::<usize>(), train.neurons);
            let size = inputs * neurons + neurons;
            plan.network.populations = vec![("input".into(), inputs), ("excitatory".into(), neurons)];
            plan.network.projections =
                vec![("input to excitatory".into(), (inputs * neurons) as u64, 4 * inputs * neurons)];
            plan.network.steps = train.network().steps();
            plan.network.neuron_updates = (neurons * plan.network.steps) as u64;
            plan.network.most_synaptic_operations =
                ((inputs + neurons - 1) * neurons * plan.network.steps) as u64;
            plan.features = neurons;
            // Samples of a batch learn on copies of their own.
            let copies = if train.batch > 1 { train.batch * size * 4 } else { 0 };
            plan.training = Some(Training::new(size, 1, copies));
        }
    }
    Ok(plan)
}

/// Neurons that a population hears.
fn fan_in(net: &Network, pop: Pop) -> usize {
    net.incoming(pop).map(|p| net.populations[p.pre.0].size()).sum()
}

impl Training {
    /// Parameters, how often they are held, and what a mini-batch keeps.
    fn new(parameters: usize, copies: usize, activation_bytes: usize) -> Self {
        Self { parameters, parameter_bytes: 4 * copies * parameters, activation_bytes }
    }
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
                writeln!(f, "    {} for them and what changes them,", bytes(weights as f64))?;
                writeln!(f, "    {} of activations of a mini-batch, and 8 bytes a spike", bytes(tape as f64))
            }
        }
    }
}
