//! What training forward in time takes, before it runs.

use super::super::{Incoming, Layer, Model, weights_path};
use super::Credit;

impl Model {
    /// Bytes for a batch at their peak beside parameters and gradients, whatever the number of steps.
    pub fn online_bytes(&self, credit: Credit, constant: bool, batch: usize) -> usize {
        let held = |layer: &Layer| constant && layer.incoming.iter().all(|from| self.is_input(from.pre));
        // Gradients that are there only in the end: in every step the input is the same.
        let mut late = 0;
        let mut kept = 0;
        for layer in &self.layers {
            let size = batch * layer.neurons;
            let [adaptive, synaptic] =
                [layer.numbers.adaptation.is_some(), layer.numbers.current_decay.is_some()].map(usize::from);
            let shown = usize::from(layer.scan.membrane);
            kept += (3 + shown + synaptic + adaptive + usize::from(held(layer))) * size;
            let learning = layer.incoming.iter().filter(|from| from.frozen.is_none());
            let learning =
                learning.map(|from| (&from.name, constant && self.is_input(from.pre), from.biased));
            let own = layer.recurrent.iter().filter(|(_, frozen)| frozen.is_none());
            for (name, constant, biased) in learning.chain(own.map(|(name, _)| (name, false, false))) {
                let weights = &self.parameters[&weights_path(name)];
                let sources = weights.shape()[0];
                let eligibilities = match credit == Credit::Eprop && layer.population != self.output {
                    true => 1 + adaptive,
                    false => 0,
                };
                let of_weights = if constant { size } else { sources * size };
                let of_bias = if biased { size } else { 0 };
                kept += eligibilities * (of_weights + of_bias);
                kept += if constant { size } else { (1 + synaptic) * batch * sources };
                late += if constant { weights.len() } else { 0 };
            }
        }
        // What comes and goes in a step: currents, or a signal, its product with slopes, and then either what it tells those
        // before or both sides of a sum over samples, packed.
        let passing = self.layers.iter().map(|layer| {
            let pre = |from: &Incoming| self.weights_of(from).0.shape()[0];
            let before = |filter: &dyn Fn(&Incoming) -> bool| {
                layer.incoming.iter().filter(|from| filter(from)).map(pre).max().unwrap_or(0)
            };
            let told = before(&|from| self.traced(from.pre) && credit != Credit::Eprop);
            let summed = before(&|from| from.frozen.is_none() && !(constant && self.is_input(from.pre)));
            batch * (2 * layer.neurons + told.max(summed + layer.neurons))
        });
        let passing = passing.max().unwrap_or(0);
        4 * (kept + passing.saturating_sub(late))
    }
}
