//! Gradients that go forward in time with the network: memory that does not depend on the number of steps.
//!
//! Both rules sum, over steps, a learning signal of each neuron times an eligibility of each synapse. `s_i` are
//! presynaptic spikes (a neuron's own projection: those of the step before), `σ'` the surrogate, β the leak of the
//! postsynaptic neurons, `L` the loss of the step; resets are left out of the gradient.
//!
//! ```text
//! ε_i[t]  = β ε_i[t−1] + s_i[t]            with a synaptic current, of α ι_i[t−1] + s_i[t] instead of s_i[t]
//! L_j[t]  = ∂L[t]/∂s_j[t]                  by the weights of the same step, from the output backwards
//! ```
//!
//! **OTTT** (Xiao et al., NeurIPS 2022): `∂L/∂w_ij = Σ_t L_j[t] σ'_j[t] ε_i[t]`. One trace per neuron. With a single layer
//! it is back-propagation through time; with more it leaves out that a spike acts through later potentials.
//!
//! **e-prop** (Bellec et al., Nature Communications 11:3625, 2020) with symmetric feedback: hidden populations project to
//! the output, whose leak κ filters their eligibilities: `∂L/∂w_ij = Σ_t L_j[t] ē_ij[t]`,
//! `ē_ij[t] = κ ē_ij[t−1] + σ'_j[t] ε_i[t]`. Of feed-forward hidden populations it is back-propagation through time; of
//! recurrent ones it leaves out what a spike does to other neurons. One trace per synapse and sample, but one per neuron
//! where the input is constant: there `ε_i[t]` is the input times a number. A threshold `θ + b a` that adapts has a second
//! trace (eq. 24 and 25): `σ'_j (ε_i − b ε^a_ij)` in place of `σ'_j ε_i`, and `ε^a_ij ← ρ ε^a_ij + σ'_j (ε_i − b ε^a_ij)`.
//!
//! The order of things stands here, what is kept between steps in `state`, and the loops over neurons and synapses in `cpu` and
//! `cuda`: the same operations in the same order, so that spikes are equal wherever currents are.

mod cpu;
mod cuda;
mod memory;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::current::{Sent, product};
use super::{Encoded, Layer, Model};
use crate::snn::scan::{Acts, Reset};
use crate::tensor::{DType, Device, Grads, Tensor};
use crate::{Error, Result};
use cpu::Cpu;
use state::{Loops, State, Total};

/// How credit for the loss is given to what happened before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Credit {
    /// Back-propagation through time.
    #[default]
    Bptt,
    /// e-prop: traces of synapses, forward in time.
    Eprop,
    /// Online training through time: traces of neurons, forward in time.
    Ottt,
}

/// What [`Model::online`] found.
#[derive(Clone, Debug)]
pub struct Online {
    /// Mean over steps and samples.
    pub loss: f64,
    /// Spikes or membranes of the output, summed over steps, `[1, B, C]`.
    pub outputs: Tensor,
    /// Of all parameters.
    pub grads: Grads,
}

impl Model {
    /// Whether gradients can go forward in time.
    ///
    /// # Errors
    /// Names a population that resets to a value, or that has no way to the output where e-prop needs one, and parameters
    /// other than weights.
    pub fn check_online(&self, credit: Credit) -> Result<()> {
        let refuse = |on: String| Err(Error::Unsupported { op: "online training", on });
        if let Some(path) = self.parameters.keys().find(|path| path.starts_with("population.")) {
            return refuse(format!("on `{path}`: only weights and biases learn"));
        }
        for from in self.layers.iter().flat_map(|layer| &layer.incoming) {
            if from.geometry.is_some() {
                return refuse(format!("on `{}`: it is a convolution", from.name));
            }
            if from.channels.is_some() {
                return refuse(format!("on `{}`: it is normalised over all steps", from.name));
            }
            if from.delay > 0 {
                let expected = "it has a delay, which must be one step from a population to itself alone";
                return refuse(format!("on `{}`: {expected}", from.name));
            }
        }
        if let Some(layer) = self.layers.iter().find(|layer| layer.scan.acts == Acts::Corrected) {
            return refuse(format!("on `{}`: its reset acts twice in a step", layer.name));
        }
        for layer in self.layers.iter().filter(|layer| layer.traced) {
            if matches!(layer.scan.reset, Reset::To(_)) {
                return refuse(format!(
                    "on `{}`: its reset must subtract the threshold, or be none",
                    layer.name
                ));
            }
            if layer.numbers.adaptation.is_some() && credit == Credit::Ottt {
                return refuse(format!("on `{}`: its threshold adapts; take `eprop`", layer.name));
            }
            if !layer.scan.detach {
                return refuse(format!("on `{}`: resets must be left out of the gradient", layer.name));
            }
            if credit == Credit::Eprop {
                self.check_feedback(layer)?;
            }
        }
        Ok(())
    }

    fn check_feedback(&self, layer: &Layer) -> Result<()> {
        let refuse = |on: String| Err(Error::Unsupported { op: "e-prop", on });
        let output = self.layers.iter().find(|other| other.population == self.output);
        let Some(output) = output else { return Ok(()) };
        if layer.population == output.population {
            let numbers = &layer.numbers;
            let unlike = [
                (layer.recurrent.is_some(), "is recurrent"),
                (numbers.current_decay.is_some(), "has synaptic currents"),
                (numbers.adaptation.is_some(), "has thresholds that adapt"),
            ];
            return match unlike.iter().find(|(is, _)| *is) {
                Some((_, what)) => refuse(format!("on `{}`: the output {what}", layer.name)),
                None => Ok(()),
            };
        }
        if !output.incoming.iter().any(|from| from.pre == layer.population) {
            let what = "it does not project to the output, so that it has no learning signal; take `ottt`";
            return refuse(format!("on `{}`: {what}", layer.name));
        }
        Ok(())
    }

    /// The gradient of the mean over steps of the cross-entropy of what the output shows, for labels `[B]`, where the model
    /// is. On a GPU the host waits once, for the loss in the end.
    ///
    /// # Errors
    /// As [`check_online`](Self::check_online); input that does not fit, a label that is no class; what a GPU reports.
    pub fn online(&self, credit: Credit, input: &Encoded, labels: &[u32]) -> Result<Online> {
        self.check_online(credit)?;
        let ([steps, batch], device) = (input.shape(), &self.device);
        let last = self.layers.iter().position(|layer| layer.population == self.output);
        let last = last.ok_or_else(|| Error::Internal("the output population did not run".into()))?;
        let classes = self.layers[last].neurons;
        if let Some(label) = labels.iter().find(|&&label| label as usize >= classes) {
            return Err(Error::value("label", label, format!("below {classes}")));
        }
        if labels.len() != batch {
            return Err(Error::value("labels", labels.len(), format!("{batch}, one for each sample")));
        }
        let loops: &dyn Loops = match device {
            Device::Cpu => &Cpu,
            Device::Cuda(gpu) => gpu,
        };
        let labels = Tensor::from_u32(labels.to_vec(), &[batch])?.to_device(device)?;
        let share = 1.0 / (batch * steps) as f64;
        let mut sent = BTreeMap::new();
        if let Encoded::Constant(..) = input {
            sent.insert(self.source.0, Sent::of(input, device)?);
        }
        let mut states = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            states.push(self.begin(layer, &sent, batch, credit)?);
        }
        let mut total = Total::new([batch, classes], device)?;
        for t in 0..steps {
            if let Encoded::Spikes(spikes) = input {
                let (now, lists) = (Arc::new(spikes.step(t)?), None);
                let now = match device {
                    Device::Cpu => Sent::Lists(now),
                    Device::Cuda(_) => Sent::Spikes { tensor: now.to_tensor_on(device, DType::F32)?, lists },
                };
                sent.insert(self.source.0, now);
            }
            for (layer, state) in self.layers.iter().zip(&mut states) {
                let currents = self.currents(layer, state, &sent)?;
                let before = loops.advance(layer, state, &currents)?;
                if layer.traced {
                    state.filter(loops, &layer.numbers, &sent, &before)?;
                }
                let tensor = state.spikes.clone();
                sent.insert(layer.population, Sent::Spikes { tensor, lists: None });
            }
            let shown = if self.membrane { &states[last].membrane } else { &states[last].spikes };
            let signal = loops.loss(shown, &labels, share, &mut total)?;
            self.give_credit(loops, last, signal, &mut states, credit)?;
        }
        let mut grads = BTreeMap::new();
        for trace in states.into_iter().flat_map(|state| state.traces) {
            let (path, gradient) = trace.finish(&sent)?;
            grads.insert(path, gradient);
        }
        let loss = total.losses.sum_all()?.to_scalar()?;
        Ok(Online { loss, outputs: total.outputs, grads: grads.into() })
    }

    /// Whether a population is where the model begins.
    fn is_input(&self, population: usize) -> bool {
        !self.layers.iter().any(|layer| layer.population == population)
    }

    /// What a layer hears in this step, `[B, N]`.
    fn currents(&self, layer: &Layer, state: &State, sent: &BTreeMap<usize, Sent>) -> Result<Tensor> {
        let current = match &state.held {
            Some(held) => held.clone(),
            None => self.total(layer, sent)?,
        };
        let Some(weights) = &state.recurrent else { return Ok(current) };
        let before = Sent::Spikes { tensor: state.spikes.clone(), lists: None };
        product(&before, weights, None, &self.device)?.accumulate(current)
    }

    /// The sum over projections, which begins with the first, as that over all steps.
    fn total(&self, layer: &Layer, sent: &BTreeMap<usize, Sent>) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for from in &layer.incoming {
            let part = self.current(from, &from.carries(sent)?, None)?;
            let part = part.reshape(&[part.len() / layer.neurons, layer.neurons])?;
            sum = Some(match sum {
                Some(sum) => sum.add(&part)?,
                None => part,
            });
        }
        sum.ok_or_else(|| Error::Internal("a layer without input".into()))
    }

    /// The learning signals of a step, from the output backwards, each met with its eligibilities.
    fn give_credit(
        &self,
        loops: &dyn Loops,
        last: usize,
        signal: Tensor,
        states: &mut [State],
        credit: Credit,
    ) -> Result<()> {
        let mut signals = BTreeMap::from([(self.output, signal)]);
        let kappa = &self.layers[last].numbers.decay;
        for (layer, state) in self.layers.iter().zip(states).rev().filter(|(layer, _)| layer.traced) {
            let Some(signal) = signals.remove(&layer.population) else { continue };
            // With e-prop, only the output tells others.
            if credit == Credit::Eprop && layer.population != self.output {
                state.collect_filtered(loops, &signal, (kappa, &layer.numbers))?;
                continue;
            }
            let through = layer.population == self.output && self.membrane;
            let slope = (!through).then_some(&state.slope);
            // δ, the signal by the current.
            let delta = loops.delta(&signal, slope, &layer.numbers.gain)?;
            state.collect(loops, &delta)?;
            for from in layer.incoming.iter().filter(|from| self.traced(from.pre)) {
                let (weights, _) = self.weights_of(from);
                let part = match &from.frozen {
                    Some(frozen) => delta.mul(&frozen.scale)?.matmul_nt(weights)?,
                    None => delta.matmul_nt(weights)?,
                };
                let sum = match signals.remove(&from.pre) {
                    Some(sum) => sum.add(&part)?,
                    None => part,
                };
                signals.insert(from.pre, sum);
            }
        }
        Ok(())
    }
}
