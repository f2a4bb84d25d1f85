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

use std::collections::BTreeMap;
use std::sync::Arc;

use super::current::Sent;
use super::{Encoded, Incoming, Layer, Model, bias_path, weights_path};
use crate::parallel;
use crate::snn::neurons::Fires;
use crate::snn::scan::{Acts, Reset, Spikes, product_of, spike_product};
use crate::tensor::cpu::gemm::{Matrix, add_product};
use crate::tensor::{Grads, Tensor};
use crate::{Error, Result};

/// Synapses' rows that one task takes on.
const ROWS: usize = 16;

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

/// A layer between two steps.
struct State {
    /// `[B, N]`: potential that the step before left, late reset, synaptic current.
    carry: Vec<f32>,
    fired: Vec<f32>,
    current: Vec<f32>,
    /// What thresholds have been raised by, where they adapt: a.
    adaptation: Vec<f32>,
    /// Potential that was compared, membrane as it is shown.
    potential: Vec<f32>,
    membrane: Vec<f32>,
    /// `σ'` of this step.
    slope: Vec<f32>,
    /// Currents that are the same in every step, where the input is constant.
    held: Option<Vec<f32>>,
    /// Of each incoming projection that learns, then of the recurrent one.
    traces: Vec<Trace>,
}

/// Eligibilities of a projection.
struct Trace {
    name: String,
    /// `[B, K]`, or one number where the input is constant or it is a bias: ι and ε.
    filtered: [Vec<f32>; 2],
    constant: bool,
    /// Where e-prop needs it: `[K, B, N]`, or `[B, N]` of a constant input.
    synapses: Option<Eligibility>,
    /// `Σ_t L ē` `[K, N]`, or before the product with a constant input `[B, N]`.
    sum: Vec<f32>,
    bias: Option<Bias>,
}

/// A source that fires in every step.
struct Bias {
    filtered: [f32; 2],
    /// `[B, N]`
    synapses: Option<Eligibility>,
    sum: Vec<f32>,
}

/// What e-prop keeps of each synapse and sample.
struct Eligibility {
    /// ē
    filtered: Vec<f32>,
    /// ε^a, empty where thresholds stay as they are.
    adaptation: Vec<f32>,
}

/// How the eligibilities of a layer go on.
#[derive(Clone, Copy)]
struct Advance {
    /// Leak κ of the output.
    kappa: f32,
    /// Factor on the input.
    gain: f32,
    /// Factor ρ on the adaptation per step, and b.
    adaptation: Option<(f32, f32)>,
}

/// The numbers of a layer.
#[derive(Clone, Copy)]
struct Numbers {
    decay: f32,
    gain: f32,
    threshold: f32,
    current_decay: Option<f32>,
    /// ρ and b
    adaptation: Option<(f32, f32)>,
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
            if layer.scan.acts == Acts::Corrected {
                return refuse(format!("on `{}`: its reset acts twice in a step", layer.name));
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
            let numbers = numbers(layer)?;
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

    /// The gradient of the mean over steps of the cross-entropy of what the output shows, for labels `[B]`.
    ///
    /// # Errors
    /// As [`check_online`](Self::check_online); input that does not fit, a label that is no class.
    pub fn online(&self, credit: Credit, input: &Encoded, labels: &[u32]) -> Result<Online> {
        self.check_online(credit)?;
        let (steps, batch) = match input {
            Encoded::Spikes(spikes) => (spikes.front()[0], spikes.front()[1]),
            Encoded::Constant(x, steps) => (*steps, x.shape()[0]),
        };
        let last = self.layers.iter().position(|layer| layer.population == self.output);
        let last = last.ok_or_else(|| Error::Internal("the output population did not run".into()))?;
        let classes = self.layers[last].neurons;
        if let Some(label) = labels.iter().find(|&&label| label as usize >= classes) {
            return Err(Error::value("label", label, format!("below {classes}")));
        }
        let kappa = if credit == Credit::Eprop { numbers(&self.layers[last])?.decay } else { 0.0 };
        let mut states = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            states.push(self.begin(layer, input, batch, credit == Credit::Eprop)?);
        }
        let (mut loss, mut outputs) = (0.0, vec![0.0; batch * classes]);
        for t in 0..steps {
            let now = match input {
                Encoded::Spikes(spikes) => Some(Arc::new(spikes.step(t)?)),
                Encoded::Constant(..) => None,
            };
            let mut fired: BTreeMap<usize, Tensor> = BTreeMap::new();
            for (layer, state) in self.layers.iter().zip(&mut states) {
                let mut current = self.currents(layer, state, input, now.as_ref(), &fired, batch)?;
                let before = std::mem::take(&mut state.fired);
                state.advance(layer, &mut current, &before)?;
                if layer.traced {
                    state.filter(layer, now.as_deref(), &fired, &before)?;
                }
                let spikes = Tensor::from_f32(state.fired.clone(), &[batch, layer.neurons])?;
                fired.insert(layer.population, spikes);
            }
            let shown = if self.membrane { &states[last].membrane } else { &states[last].fired };
            outputs.iter_mut().zip(shown).for_each(|(sum, &x)| *sum += x);
            let (value, signal) = cross_entropy(shown, labels, classes, steps);
            loss += value;
            self.give_credit(last, signal, &mut states, batch, kappa)?;
        }
        let mut grads = BTreeMap::new();
        for (layer, state) in self.layers.iter().zip(states) {
            for trace in state.traces {
                trace.finish(layer.neurons, input, &mut grads)?;
            }
        }
        let outputs = Tensor::from_f32(outputs, &[1, batch, classes])?;
        Ok(Online { loss, outputs, grads: grads.into() })
    }

    fn begin(&self, layer: &Layer, input: &Encoded, batch: usize, eprop: bool) -> Result<State> {
        let size = batch * layer.neurons;
        let mut traces = vec![];
        let adapts = layer.numbers.adaptation.is_some();
        let synapses = |len: usize| {
            let adaptation = vec![0.0; if adapts { len } else { 0 }];
            let kept = eprop && layer.population != self.output;
            kept.then(|| Eligibility { filtered: vec![0.0; len], adaptation })
        };
        let mut push = |name: &str, constant: bool, biased: bool| {
            let weights = &self.parameters[&weights_path(name)];
            let sources = weights.shape()[0];
            let per_trace = if constant { size } else { sources * size };
            let filtered = vec![0.0; if constant { 1 } else { batch * sources }];
            traces.push(Trace {
                name: name.into(),
                filtered: [filtered.clone(), filtered],
                constant,
                synapses: synapses(per_trace),
                sum: vec![0.0; if constant { size } else { weights.len() }],
                bias: biased.then(|| Bias {
                    filtered: [0.0; 2],
                    synapses: synapses(size),
                    sum: vec![0.0; layer.neurons],
                }),
            });
        };
        let mut held = true;
        for from in &layer.incoming {
            let constant = self.is_input(from.pre) && matches!(input, Encoded::Constant(..));
            held &= constant;
            if from.frozen.is_none() {
                push(&from.name, constant, from.biased);
            }
        }
        if let Some((name, None)) = &layer.recurrent {
            push(name, false, false);
        }
        let held = match held {
            true => {
                let sent = Sent::of(input, &self.device)?;
                let parts = layer.incoming.iter().map(|from| self.current(from, &sent, None));
                Some(total(parts)?.to_f32()?)
            }
            false => None,
        };
        let zeros = || vec![0.0; size];
        Ok(State {
            carry: vec![layer.scan.rest as f32; size],
            fired: zeros(),
            current: zeros(),
            adaptation: vec![0.0; if adapts { size } else { 0 }],
            potential: zeros(),
            membrane: zeros(),
            slope: zeros(),
            held,
            traces,
        })
    }

    /// Whether a population is where the model begins.
    fn is_input(&self, population: usize) -> bool {
        !self.layers.iter().any(|layer| layer.population == population)
    }

    /// What a layer hears in this step, `[B, N]`.
    fn currents(
        &self,
        layer: &Layer,
        state: &State,
        input: &Encoded,
        now: Option<&Arc<Spikes>>,
        fired: &BTreeMap<usize, Tensor>,
        batch: usize,
    ) -> Result<Vec<f32>> {
        let mut current = match &state.held {
            Some(held) => held.clone(),
            None => {
                total(layer.incoming.iter().map(|from| self.step_current(from, input, now, fired, batch)))?
                    .to_f32()?
            }
        };
        if let Some((name, frozen)) = &layer.recurrent {
            let scaled = frozen.as_ref().map(|frozen| frozen.weights.mul(&frozen.scale)).transpose()?;
            let weights = scaled.as_ref().unwrap_or_else(|| &self.parameters[&weights_path(name)]);
            let weights = weights.buffer()?.slice::<f32>()?;
            let n = layer.neurons;
            let mut heard = vec![0.0; n];
            for (current, before) in current.chunks_exact_mut(n).zip(state.fired.chunks_exact(n)).take(batch)
            {
                heard.fill(0.0);
                for (row, &spike) in weights.chunks_exact(n).zip(before) {
                    if spike != 0.0 {
                        heard.iter_mut().zip(row).for_each(|(sum, &w)| *sum += spike * w);
                    }
                }
                current.iter_mut().zip(&heard).for_each(|(x, &sum)| *x += sum);
            }
        }
        Ok(current)
    }

    fn step_current(
        &self,
        from: &Incoming,
        input: &Encoded,
        now: Option<&Arc<Spikes>>,
        fired: &BTreeMap<usize, Tensor>,
        batch: usize,
    ) -> Result<Tensor> {
        let (weights, bias) = self.weights_of(from);
        let current = match (fired.get(&from.pre), now) {
            (Some(spikes), _) => spike_product(spikes, weights, bias)?,
            (None, Some(now)) => product_of(now, weights, bias)?,
            (None, None) => {
                let current = self.current(from, &Sent::of(input, &self.device)?, None)?;
                return current.reshape(&[batch, current.len() / batch]);
            }
        };
        match &from.frozen {
            Some(frozen) => current.mul(&frozen.scale)?.add(&frozen.bias),
            None => Ok(current),
        }
    }

    /// The learning signals of a step, from the output backwards, each met with its eligibilities.
    fn give_credit(
        &self,
        last: usize,
        signal: Vec<f32>,
        states: &mut [State],
        batch: usize,
        kappa: f32,
    ) -> Result<()> {
        let mut signals: BTreeMap<usize, Tensor> = BTreeMap::new();
        let eprop = states.iter().any(|state| state.traces.iter().any(|trace| trace.synapses.is_some()));
        let shape = |layer: &Layer| [batch, layer.neurons];
        signals.insert(self.output, Tensor::from_f32(signal, &shape(&self.layers[last]))?);
        for (layer, state) in self.layers.iter().zip(states).rev().filter(|(layer, _)| layer.traced) {
            let Some(signal) = signals.remove(&layer.population) else { continue };
            let Numbers { gain, adaptation, .. } = numbers(layer)?;
            let signal = signal.to_f32()?;
            let through = layer.population == self.output && self.membrane;
            // δ, the signal by the current.
            let delta: Vec<f32> = match through {
                true => signal.iter().map(|&l| l * gain).collect(),
                false => signal.iter().zip(&state.slope).map(|(&l, &slope)| l * slope * gain).collect(),
            };
            for trace in &mut state.traces {
                match trace.synapses {
                    None => trace.collect(&delta, layer.neurons),
                    Some(_) => {
                        let advance = Advance { kappa, gain, adaptation };
                        trace.collect_filtered(&signal, &state.slope, advance, layer.neurons);
                    }
                }
            }
            // With e-prop, only the output tells others.
            if eprop && layer.population != self.output {
                continue;
            }
            let delta = Tensor::from_f32(delta, &shape(layer))?;
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

    /// Bytes for a batch at their peak beside parameters and gradients, whatever the number of steps.
    pub fn online_bytes(&self, credit: Credit, constant: bool, batch: usize) -> usize {
        let held = |layer: &Layer| constant && layer.incoming.iter().all(|from| self.is_input(from.pre));
        // Gradients that are there only in the end: in every step the input is the same.
        let mut late = 0;
        let mut kept = 0;
        for layer in &self.layers {
            let size = batch * layer.neurons;
            let adaptive = usize::from(layer.numbers.adaptation.is_some());
            // The state, and the spikes of this step.
            kept += (7 + adaptive + usize::from(held(layer))) * size;
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
                kept += if constant { size } else { 2 * batch * sources };
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
            batch * (3 * layer.neurons + told.max(summed + layer.neurons))
        });
        let passing = passing.max().unwrap_or(0);
        4 * (kept + passing.saturating_sub(late))
    }
}

/// A sum that begins with its first part, as that over all steps.
fn total(parts: impl Iterator<Item = Result<Tensor>>) -> Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for part in parts {
        let part = part?;
        sum = Some(match sum {
            Some(sum) => sum.add(&part)?,
            None => part,
        });
    }
    sum.ok_or_else(|| Error::Internal("a layer without input".into()))
}

fn numbers(layer: &Layer) -> Result<Numbers> {
    let number = |tensor: &Tensor| -> Result<f32> { Ok(tensor.to_scalar()? as f32) };
    let numbers = &layer.numbers;
    Ok(Numbers {
        decay: number(&numbers.decay)?,
        gain: number(&numbers.gain)?,
        threshold: number(&numbers.threshold)?,
        current_decay: numbers.current_decay.as_ref().map(number).transpose()?,
        adaptation: match &numbers.adaptation {
            Some((rho, strength)) => Some((number(rho)?, number(strength)?)),
            None => None,
        },
    })
}

/// Mean over samples and `steps` of the cross-entropy of scores `[B, C]`, and its gradient.
fn cross_entropy(scores: &[f32], labels: &[u32], classes: usize, steps: usize) -> (f64, Vec<f32>) {
    let share = 1.0 / (labels.len() * steps) as f64;
    let mut loss = 0.0;
    let mut gradient = Vec::with_capacity(scores.len());
    for (row, &label) in scores.chunks_exact(classes).zip(labels) {
        let largest = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        let powers: Vec<f64> = row.iter().map(|&x| f64::from(x - largest).exp()).collect();
        let sum: f64 = powers.iter().sum();
        loss += share * (sum.ln() - f64::from(row[label as usize] - largest));
        let right = |j: usize| if j == label as usize { 1.0 } else { 0.0 };
        gradient.extend(powers.iter().enumerate().map(|(j, p)| (share * (p / sum - right(j))) as f32));
    }
    (loss, gradient)
}

impl State {
    /// One step: the equations of [`scan`](crate::snn::scan), in their order. `before` are the spikes of the step before.
    fn advance(&mut self, layer: &Layer, x: &mut [f32], before: &[f32]) -> Result<()> {
        let Numbers { decay, gain, threshold, current_decay, adaptation } = numbers(layer)?;
        let (scan, rest) = (&layer.scan, layer.scan.rest as f32);
        let late = scan.reset == Reset::Subtract && scan.acts == Acts::NextStep;
        for (k, x) in x.iter().enumerate() {
            let mut i = gain * x;
            if let Some(alpha) = current_decay {
                i = alpha * self.current[k] + gain * x;
            }
            self.current[k] = i;
            let mut u = rest + decay * (self.carry[k] - rest) + i;
            if late {
                u -= threshold * before[k];
            } else if let (Reset::To(value), Acts::NextStep) = (scan.reset, scan.acts) {
                u = if before[k] != 0.0 { value as f32 } else { u };
            }
            self.potential[k] = u;
            self.slope[k] = match adaptation {
                Some((_, strength)) => u - threshold - strength * self.adaptation[k],
                None => u - threshold,
            };
        }
        let fires = |above: f32| match scan.fires {
            Fires::Above => above > 0.0,
            Fires::AtOrAbove => above >= 0.0,
        };
        self.fired = self.slope.iter().map(|&above| if fires(above) { 1.0 } else { 0.0 }).collect();
        if let Some((rho, _)) = adaptation {
            self.adaptation.iter_mut().zip(&self.fired).for_each(|(a, s)| *a = rho * *a + s);
        }
        for (k, &u) in self.potential.iter().enumerate() {
            self.carry[k] = match (scan.reset, scan.acts) {
                (Reset::None, _) | (_, Acts::NextStep) => u,
                (Reset::Subtract, _) => u - threshold * self.fired[k],
                (Reset::To(value), _) => {
                    if self.fired[k] != 0.0 {
                        value as f32
                    } else {
                        u
                    }
                }
            };
            self.membrane[k] = if scan.acts == Acts::BeforeNextStep { u } else { self.carry[k] };
        }
        scan.surrogate.at_each(&mut self.slope);
        Ok(())
    }

    /// ι and ε of all that projects to it.
    fn filter(
        &mut self,
        layer: &Layer,
        now: Option<&Spikes>,
        fired: &BTreeMap<usize, Tensor>,
        before: &[f32],
    ) -> Result<()> {
        let Numbers { decay, current_decay, .. } = numbers(layer)?;
        let pass = |[current, trace]: [&mut f32; 2], s: f32| {
            *current = current_decay.unwrap_or(0.0) * *current + s;
            *trace = decay * *trace + *current;
        };
        for trace in &mut self.traces {
            let from = layer.incoming.iter().find(|from| from.name == trace.name);
            if let Some(Bias { filtered: [current, filtered], .. }) = &mut trace.bias {
                pass([current, filtered], 1.0);
            }
            let [current, filtered] = &mut trace.filtered;
            let each = current.iter_mut().zip(filtered.iter_mut());
            match from.map(|from| (fired.get(&from.pre), now)) {
                _ if trace.constant => each.for_each(|(i, e)| pass([i, e], 1.0)),
                None => each.zip(before).for_each(|((i, e), &s)| pass([i, e], s)),
                Some((Some(spikes), _)) => {
                    each.zip(spikes.to_f32()?).for_each(|((i, e), s)| pass([i, e], s));
                }
                Some((None, Some(now))) => each.zip(now.dense()).for_each(|((i, e), s)| pass([i, e], s)),
                Some((None, None)) => return Err(Error::Internal("constant currents are held".into())),
            }
        }
        Ok(())
    }
}

impl Advance {
    /// One step of what some synapses keep whose sources have the trace `epsilon`.
    fn advance(self, filtered: &mut [f32], adaptation: &mut [f32], epsilon: f32, slope: &[f32]) {
        let (kappa, epsilon) = (self.kappa, self.gain * epsilon);
        let each = filtered.iter_mut().zip(slope);
        match self.adaptation {
            None => each.for_each(|(e, &slope)| *e = kappa * *e + epsilon * slope),
            Some((rho, strength)) => each.zip(adaptation).for_each(|((e, &slope), a)| {
                let spike = slope * (epsilon - strength * *a);
                *e = kappa * *e + spike;
                *a = rho * *a + spike;
            }),
        }
    }
}

impl Trace {
    /// `Σ += ε δ`.
    fn collect(&mut self, delta: &[f32], neurons: usize) {
        if let Some(Bias { filtered: [_, filtered], sum, .. }) = &mut self.bias {
            for delta in delta.chunks_exact(neurons) {
                sum.iter_mut().zip(delta).for_each(|(sum, &d)| *sum += *filtered * d);
            }
        }
        let [_, filtered] = &self.filtered;
        if self.constant {
            self.sum.iter_mut().zip(delta).for_each(|(sum, &d)| *sum += filtered[0] * d);
            return;
        }
        let batch = delta.len() / neurons;
        let filtered = Matrix::new(filtered, batch, filtered.len() / batch);
        add_product(filtered.t(), Matrix::new(delta, batch, neurons), 1.0, &mut self.sum);
    }

    /// `ē ← κ ē + g σ' ε`, `Σ += L ē`.
    fn collect_filtered(&mut self, signal: &[f32], slope: &[f32], how: Advance, neurons: usize) {
        if let Some(Bias { filtered: [_, filtered], synapses: Some(synapses), sum }) = &mut self.bias {
            how.advance(&mut synapses.filtered, &mut synapses.adaptation, *filtered, slope);
            for (l, e) in signal.chunks_exact(neurons).zip(synapses.filtered.chunks_exact(neurons)) {
                sum.iter_mut().zip(l.iter().zip(e)).for_each(|(sum, (&l, &e))| *sum += l * e);
            }
        }
        let (Some(synapses), [_, filtered]) = (&mut self.synapses, &self.filtered) else { return };
        if self.constant {
            how.advance(&mut synapses.filtered, &mut synapses.adaptation, filtered[0], slope);
            let each = self.sum.iter_mut().zip(signal.iter().zip(&synapses.filtered));
            each.for_each(|(sum, (&l, &e))| *sum += l * e);
            return;
        }
        let (size, batch) = (signal.len(), signal.len() / neurons);
        let sources = filtered.len() / batch;
        let mut adaptation = synapses.adaptation.chunks_mut(ROWS * size);
        let synapses = synapses.filtered.chunks_mut(ROWS * size);
        let synapses = synapses.map(|e| (e, adaptation.next().unwrap_or_default()));
        let work = synapses.zip(self.sum.chunks_mut(ROWS * neurons)).collect();
        parallel::owned(work, |piece, ((e, a), sums): ((&mut [f32], &mut [f32]), &mut [f32])| {
            let mut a = a.chunks_exact_mut(neurons);
            for (i, (e, sum)) in e.chunks_exact_mut(size).zip(sums.chunks_exact_mut(neurons)).enumerate() {
                for (b, e) in e.chunks_exact_mut(neurons).enumerate() {
                    let here = b * neurons..(b + 1) * neurons;
                    let epsilon = filtered[b * sources + piece * ROWS + i];
                    how.advance(e, a.next().unwrap_or_default(), epsilon, &slope[here.clone()]);
                    sum.iter_mut()
                        .zip(signal[here].iter().zip(&*e))
                        .for_each(|(sum, (&l, &e))| *sum += l * e);
                }
            }
        });
    }

    /// The gradients of weights and bias.
    fn finish(self, neurons: usize, input: &Encoded, grads: &mut BTreeMap<String, Tensor>) -> Result<()> {
        let weights = match (self.constant, input) {
            (true, Encoded::Constant(x, _)) => {
                x.matmul_tn(&Tensor::from_f32(self.sum, &[x.shape()[0], neurons])?)?
            }
            _ => {
                let sources = self.sum.len() / neurons;
                Tensor::from_f32(self.sum, &[sources, neurons])?
            }
        };
        grads.insert(weights_path(&self.name), weights);
        if let Some(bias) = self.bias {
            grads.insert(bias_path(&self.name), Tensor::from_f32(bias.sum, &[neurons])?);
        }
        Ok(())
    }
}
