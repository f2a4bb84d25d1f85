//! How much memory a batch takes on its way forth and back, from the sizes of the layers alone.

use super::{Incoming, Layer, Model, weights_path};
use crate::tensor::Tensor;

impl Layer {
    /// Numbers of 4 bytes that so many kept potentials take.
    fn potentials(&self, count: usize) -> usize {
        if self.scan.half { count.div_ceil(2) } else { count }
    }
}

impl Model {
    /// Bytes that the tape keeps of a batch until the way back: the potential of every population that training
    /// reaches, 4 T B N (behind spikes, N in whole tiles of 64), what convolutions and normalisations read, and what the
    /// loss keeps. Lists of spikes come on top, 4 bytes a spike.
    pub fn activation_bytes(&self, steps: usize, batch: usize, held: bool) -> usize {
        let held = held && !self.behind_frozen;
        let traced = self.layers.iter().filter(|layer| layer.traced);
        let numbers: usize = traced.map(|layer| self.kept(layer, steps, batch, held)).sum();
        4 * (numbers + batch * (self.classes() + 1))
    }

    /// Bytes that a batch takes at most at a time on its way forth and back beside parameters and gradients, all of its steps
    /// at once or, with a number of them, in stretches: what is [kept](Self::activation_bytes), what comes and goes beside
    /// it, and in stretches the states before each, the outputs of all steps and their gradients. Lists of spikes come on
    /// top, 8 bytes a spike, about 0.1 MiB for each thread, and what a product packs, which is a matter of the processor.
    pub fn peak_bytes(&self, steps: usize, batch: usize, held: bool, stretch: Option<usize>) -> usize {
        4 * match stretch {
            None => self.most(steps, batch, held, false).saturating_sub(self.size()),
            Some(stretch) => {
                // Those of a stretch come beside the sum of those after it.
                let states = self.state(batch) * steps.div_ceil(stretch);
                states + 2 * steps * batch * self.classes() + self.most(stretch, batch, held, true)
            }
        }
    }

    /// Numbers that are there at a time at most, gradients included; `between` others, where it is a stretch of steps.
    fn most(&self, steps: usize, batch: usize, held: bool, between: bool) -> usize {
        let all = |neurons: usize| steps * batch * neurons;
        let (mut kept, mut sent, mut most) = (0, 0, 0);
        let mut back = vec![];
        let held = held && !self.behind_frozen;
        for layer in &self.layers {
            let n = all(layer.neurons);
            let is_held = |from: &Incoming| held && from.pre == self.source.0;
            let alike = layer.incoming.iter().all(is_held) && !layer.hears_itself();
            let currents = if alike { batch * layer.neurons } else { n };
            // A layer behind spikes has weights and potentials in tiles.
            let (behind, width) = (self.is_behind(layer, held), layer.neurons.next_multiple_of(64));
            let weights = self.incoming_size(layer) / layer.neurons * width;
            // Forth: currents or weights, potentials, spikes and what is shown.
            let shown = if layer.scan.membrane { 2 * n } else { n };
            let forth = match behind {
                true => weights + layer.potentials(all(width)),
                false => currents * layer.incoming.len().min(2) + layer.potentials(n),
            };
            most = most.max(kept + sent + forth + shown);
            sent += n;
            if !layer.traced {
                continue;
            }
            kept += self.kept(layer, steps, batch, held);
            // Back: the gradient by the spikes, by the currents, and by the spikes before.
            let sources: usize = layer
                .incoming
                .iter()
                .filter(|from| self.traced(from.pre))
                .filter_map(|from| self.layers.iter().find(|other| other.population == from.pre))
                .map(|other| all(other.neurons))
                .sum();
            let through = match behind {
                true if sources > 0 => weights + all(width) + n,
                true => weights,
                false => currents + self.around(layer, n, between),
            };
            back.push((kept + n + through + sources, behind, self.incoming_size(layer)));
        }
        // Gradients gather on the way: in a layer behind spikes beside all else, else when the scan's way back is over.
        let mut gradients = 0;
        for (there, behind, size) in back.into_iter().rev() {
            most = most.max(there + gradients + if behind { size } else { 0 });
            gradients += size;
        }
        most = most.max(gradients);
        most
    }

    fn classes(&self) -> usize {
        self.layers.iter().filter(|layer| layer.population == self.output).map(|layer| layer.neurons).sum()
    }

    fn weights_len(&self, projection: &str) -> usize {
        self.parameters.get(&weights_path(projection)).map_or(0, Tensor::len)
    }

    /// Number of trained weights onto a layer.
    fn incoming_size(&self, layer: &Layer) -> usize {
        let around = layer.recurrent.iter().map(|(name, _)| self.weights_len(name));
        layer.incoming.iter().map(|from| self.weights_len(&from.name)).chain(around).sum()
    }

    /// Numbers of the way back through weights that go along with a scan: the product of spikes and gradients that they come
    /// from, both copied, and where there is a step before the first, that one's product and the sum of both.
    fn around(&self, layer: &Layer, n: usize, between: bool) -> usize {
        let size = layer.recurrent.as_ref().map_or(0, |(name, _)| self.weights_len(name));
        match size {
            0 => 0,
            size if between => size + (2 * size).max(2 * n),
            size => size + 2 * n,
        }
    }

    /// Whether a layer is run [behind](Self::behind) spikes.
    fn is_behind(&self, layer: &Layer, held: bool) -> bool {
        let [from] = layer.incoming.as_slice() else { return false };
        let plain = from.frozen.is_none() && from.geometry.is_none() && from.channels.is_none();
        plain && !(held && from.pre == self.source.0) && !layer.hears_itself()
    }

    /// Numbers that the tape keeps of a layer.
    fn kept(&self, layer: &Layer, steps: usize, batch: usize, held: bool) -> usize {
        let from_input = |from: &Incoming| from.pre == self.source.0 && held;
        let behind = self.is_behind(layer, held);
        let neurons = if behind { layer.neurons.next_multiple_of(64) } else { layer.neurons };
        let all = steps * batch * neurons;
        // Weights that go along with the scan read the spikes.
        let mut kept = layer.potentials(all) + if layer.recurrent.is_some() { all } else { 0 };
        for from in &layer.incoming {
            let rows = if from_input(from) { batch } else { steps * batch };
            let by_events = from.by_events().is_some() && !from_input(from) && from.frozen.is_none();
            if let Some(geometry) = from.geometry {
                let [pooled, currents] =
                    [geometry.pooled(), geometry.currents()].map(|shape| shape.iter().product::<usize>());
                kept += match (&from.frozen, from.channels) {
                    (None, None) if by_events => 0,
                    (None, Some(_)) if by_events => rows * currents,
                    (None, None) => rows * pooled,
                    (None, Some(_)) => rows * (pooled + currents),
                    (Some(_), _) => 0,
                };
                // Which of a window was the largest.
                kept += match geometry.max_pool > 1 && (from.frozen.is_none() || self.traced(from.pre)) {
                    // A byte each, of channels in whole groups of 16.
                    true if by_events && from.channels.is_none() => {
                        let channels = geometry.output[0];
                        rows * (layer.neurons / channels) * channels.next_multiple_of(16) / 4
                    }
                    true => rows * layer.neurons,
                    false => 0,
                };
            } else if from.channels.is_some() {
                kept += rows * layer.neurons;
            }
        }
        kept
    }
}
