//! How big a network is and what a sample costs, before anything runs.

use super::{
    Events, Presentation,
    presentation::{CHUNK, STRETCH},
    synapses::values_of,
};
use serde::Serialize;

/// Sizes and operations of a compiled network.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// Populations, inputs included: name and number of neurons.
    pub populations: Vec<(String, usize)>,
    /// Projections: name, synapses, bytes of the compiled table.
    pub projections: Vec<(String, u64, usize)>,
    /// Steps per sample.
    pub steps: usize,
    /// Updates of one neuron by one step, per sample.
    pub neuron_updates: u64,
    /// Multiply-accumulates for constant currents, per sample.
    pub analogue_operations: u64,
    /// Synaptic operations per sample if every neuron fired in every step; real ones are a few per cent of it.
    pub most_synaptic_operations: u64,
    /// Bytes of all compiled tables.
    pub table_bytes: usize,
    /// Bytes of working memory per thread, without spike lists.
    pub scratch_bytes: usize,
    /// Bytes of recorded features per sample.
    pub feature_bytes: usize,
}

impl Presentation<'_> {
    /// Sizes and operations.
    pub fn plan(&self) -> Plan {
        let mut plan = Plan { steps: self.encoding.steps(), ..Plan::default() };
        for population in &self.net.populations {
            plan.populations.push((population.name.clone(), population.size()));
        }
        let mut bytes = vec![0; self.net.projections.len()];
        for layer in &self.layers {
            let incoming = |constant: bool| {
                let all =
                    self.net.projections.iter().enumerate().filter(|(_, p)| p.post.0 == layer.population);
                let kind = move |pre: usize| self.encoding.is_constant() && pre == self.input;
                all.filter(move |(_, p)| kind(p.pre.0) == constant).map(|(i, _)| i)
            };
            incoming(true).zip(&layer.constant).for_each(|(i, constant)| bytes[i] = constant.bytes());
            incoming(false).zip(&layer.synapses).for_each(|(i, synapses)| bytes[i] = synapses.bytes());
            for synapses in &layer.synapses {
                let size = self.net.populations[synapses.pre].size() as u32;
                let everyone = Events::new(size as usize, [(0..size).collect()]).unwrap_or(Events::empty(0));
                let once = synapses.operations(layer.neurons, &everyone);
                plan.most_synaptic_operations += once * plan.steps as u64;
            }
            plan.analogue_operations +=
                layer.constant.iter().map(|constant| constant.operations).sum::<u64>();
            plan.neuron_updates += (layer.neurons * plan.steps) as u64;
            let states = layer.initial().len()
                + layer.traces.len()
                + layer.bins
                + usize::from(!layer.constant.is_empty());
            plan.scratch_bytes += CHUNK * layer.padded * 4 * states;
            if layer.sends || !layer.traces.is_empty() {
                plan.scratch_bytes += CHUNK * STRETCH * layer.padded / 8;
            }
        }
        for (projection, bytes) in self.net.projections.iter().zip(bytes) {
            let synapses = values_of(&projection.weights).len() as u64;
            plan.projections.push((projection.name.clone(), synapses, bytes));
            plan.table_bytes += bytes;
        }
        plan.feature_bytes = self.features.iter().map(|feature| feature.width * feature.bytes()).sum();
        plan
    }
}
