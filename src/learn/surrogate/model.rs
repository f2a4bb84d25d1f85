//! A network as a function of its trained parameters, for back-propagation through time.
//!
//! Populations run in topological order, each over the whole sequence: one product for all steps, then one scan. What
//! stands before the first trained projection has no tape, no gradient and no optimiser state; where it ends in one
//! population, the model begins with that one's spikes, and the engine runs what is before.

mod online;

pub use online::{Credit, Online};

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::rng::Stream;
use crate::snn::neurons::Lif;
use crate::snn::scan::{Parameters, Scan, Spikes, product_of, spike_product};
use crate::snn::{Network, Pop, Projection, Values, Weights};
use crate::tensor::{DType, Surrogate, Tensor, Trainable};
use crate::{Error, Result};

/// A batch as the population presents it with which the model begins.
#[derive(Clone, Debug)]
pub enum Encoded {
    /// Spikes `[T, B, K]`.
    Spikes(Arc<Spikes>),
    /// Currents `[B, K]` that act in each of so many steps.
    Constant(Tensor, usize),
}

/// What is differentiated, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gradient {
    /// The derivative of the spike.
    pub surrogate: Surrogate,
    /// Whether resets are left out of the gradient.
    pub detach: bool,
    /// Whether the leak of each population learns.
    pub decay: bool,
    /// Whether the threshold of each population learns.
    pub threshold: bool,
}

/// A network, prepared.
#[derive(Debug)]
pub struct Model {
    /// Trained tensors: `projection.NAME.weights` `[sources, targets]`, `projection.NAME.bias`, and where they learn
    /// `population.NAME.decay` and `population.NAME.threshold`.
    pub parameters: BTreeMap<String, Tensor>,
    layers: Vec<Layer>,
    source: Pop,
    output: usize,
    membrane: bool,
}

#[derive(Debug)]
struct Layer {
    population: usize,
    name: String,
    neurons: usize,
    scan: Scan,
    numbers: Parameters,
    incoming: Vec<Incoming>,
    /// Name of the projection onto itself.
    recurrent: Option<(String, Option<Frozen>)>,
    /// Whether anything before or in it is trained.
    traced: bool,
}

#[derive(Debug)]
struct Incoming {
    name: String,
    pre: usize,
    biased: bool,
    frozen: Option<Frozen>,
}

/// Weights `[sources, targets]`, scale and bias `[targets]` of a projection that is not trained:
/// `current = sum · scale + bias`, as in the engine.
#[derive(Clone, Debug)]
struct Frozen {
    weights: Tensor,
    scale: Tensor,
    bias: Tensor,
}

/// What a population did.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Name of the population.
    pub name: String,
    /// Spikes `[T, B, N]`.
    pub spikes: Tensor,
}

/// A pass over a batch.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Spikes or membranes of the output population, `[T, B, C]`.
    pub outputs: Tensor,
    /// The hidden populations that training reaches, in topological order.
    pub hidden: Vec<Trace>,
}

/// Random silencing of hidden neurons, the same in all steps of a sample.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Share of the neurons.
    pub share: f64,
    /// Where it is drawn from.
    pub stream: Stream,
    /// Number of the call: the training step.
    pub call: u64,
}

impl Trainable for Model {
    fn visit(&self, f: &mut dyn FnMut(&str, &Tensor)) {
        self.parameters.visit(f);
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, &mut Tensor)) {
        self.parameters.visit_mut(f);
    }
}

fn weights_path(projection: &str) -> String {
    format!("projection.{projection}.weights")
}

fn bias_path(projection: &str) -> String {
    format!("projection.{projection}.bias")
}

impl Model {
    /// Prepares a network whose population `output` is read, its membranes or its spikes.
    ///
    /// # Errors
    /// Names what cannot be trained: a network without trained projections, trained sparse projections, models
    /// without a gradient, delays.
    pub fn new(net: &Network, output: Pop, membrane: bool, gradient: Gradient) -> Result<Self> {
        let mut parameters = BTreeMap::new();
        let mut layers: Vec<Layer> = vec![];
        let refuse = |on: String| Error::Unsupported { op: "training by surrogate gradients", on };
        if net.projections.iter().all(|p| p.frozen) {
            let what = "no projection is trained: write `frozen = false` where training is to act";
            return Err(Error::Network(vec![what.into()]));
        }
        if net.populations.get(output.0).is_none_or(|p| p.model.is_none()) {
            return Err(Error::value("output population", output.0, "one with neurons"));
        }
        let order = net.order()?;
        let Reach { traced, needed, source } = Reach::of(net, &order, output);
        for &Pop(index) in &order {
            let population = &net.populations[index];
            let Some(model) = population.model.as_deref() else { continue };
            if !needed[index] {
                match net.incoming(Pop(index)).find(|p| !p.frozen) {
                    Some(p) => return Err(Error::Disconnected { param: weights_path(&p.name) }),
                    None => continue,
                }
            }
            if source.is_some() && !traced[index] {
                continue;
            }
            let (scan, mut numbers) = Scan::of(model, gradient.surrogate, gradient.detach, DType::F32)?;
            let (mut incoming, mut recurrent) = (vec![], None);
            for p in net.incoming(Pop(index)) {
                let own = p.pre == p.post;
                if let Some(delay) = p.delay.filter(|&delay| !own || delay != net.dt) {
                    let expected = "only one step, from a population to itself";
                    return Err(refuse(format!("on the delay of {delay} of `{}` ({expected})", p.name)));
                }
                let frozen = match p.frozen {
                    true => Some(Frozen::of(p, population.size())?),
                    false => {
                        trained(p, population.size(), &mut parameters)?;
                        None
                    }
                };
                if own {
                    if recurrent.is_some() {
                        return Err(refuse(format!("on two projections of `{}` to itself", population.name)));
                    }
                    recurrent = Some((p.name.clone(), frozen));
                } else {
                    let biased = !p.bias.is_empty();
                    incoming.push(Incoming { name: p.name.clone(), pre: p.pre.0, biased, frozen });
                }
            }
            if incoming.is_empty() {
                return Err(Error::Network(vec![format!("nothing projects to `{}`", population.name)]));
            }
            if gradient.decay || gradient.threshold {
                if !model.as_any().is::<Lif>() {
                    return Err(refuse(format!(
                        "on the leak and threshold of `{}`: only of LIF neurons",
                        population.name
                    )));
                }
                // What is not traced cannot learn.
                for (wanted, what, number) in [
                    (gradient.decay, "decay", &mut numbers.decay),
                    (gradient.threshold && index != output.0, "threshold", &mut numbers.threshold),
                ] {
                    if wanted && traced[index] {
                        parameters.insert(format!("population.{}.{what}", population.name), number.clone());
                    }
                }
            }
            let (neurons, name) = (population.size(), population.name.clone());
            let traced = traced[index];
            layers.push(Layer {
                population: index,
                name,
                neurons,
                scan,
                numbers,
                incoming,
                recurrent,
                traced,
            });
        }
        if let Some(last) = layers.iter_mut().find(|layer| layer.population == output.0) {
            last.scan.membrane = membrane;
        }
        let input = net.populations.iter().position(|p| p.model.is_none()).map(Pop);
        let source =
            source.or(input).ok_or_else(|| Error::Network(vec!["no population is an input".into()]))?;
        Ok(Self { parameters, layers, source, output: output.0, membrane })
    }

    /// The population whose spikes or currents [`forward`](Self::forward) takes: the last frozen one, where all that is
    /// trained begins there, or the input.
    pub fn source(&self) -> Pop {
        self.source
    }

    /// Runs a batch; inside [`grad`](crate::tensor::grad) of this model it is recorded.
    ///
    /// # Errors
    /// Input that does not fit.
    pub fn forward(&self, input: &Encoded, dropout: Option<Dropout>) -> Result<Pass> {
        let mut spikes: BTreeMap<usize, Tensor> = BTreeMap::new();
        let mut hidden = vec![];
        let mut outputs = None;
        for layer in &self.layers {
            let mut current: Option<Tensor> = None;
            for from in &layer.incoming {
                let part = self.current(from, input, &spikes)?;
                current = Some(match current {
                    Some(sum) => sum.add(&part)?,
                    None => part,
                });
            }
            let current = current.ok_or_else(|| Error::Internal("a layer without input".into()))?;
            let mut numbers = layer.numbers.clone();
            let learned = |what: &str| self.parameters.get(&format!("population.{}.{what}", layer.name));
            if let Some(decay) = learned("decay") {
                numbers.decay = decay.clone();
            }
            if let Some(threshold) = learned("threshold") {
                numbers.threshold = threshold.clone();
            }
            if let Some((name, frozen)) = &layer.recurrent {
                numbers.recurrent = Some(match frozen {
                    Some(frozen) => frozen.weights.mul(&frozen.scale)?,
                    None => self.parameters[&weights_path(name)].clone(),
                });
            }
            let out = match input {
                // Only currents that are held have one step here.
                Encoded::Constant(_, steps) if current.shape()[0] == 1 && numbers.recurrent.is_none() => {
                    layer.scan.run_held(&current, *steps, &numbers)?
                }
                Encoded::Constant(_, steps) => {
                    let shape = [*steps, current.shape()[1], current.shape()[2]];
                    layer.scan.run(&current.broadcast_to(&shape)?, &numbers)?
                }
                Encoded::Spikes(_) => layer.scan.run(&current, &numbers)?,
            };
            if layer.population == self.output {
                let membrane = out.membrane.filter(|_| self.membrane);
                outputs = Some(membrane.unwrap_or_else(|| out.spikes.clone()));
            } else {
                if layer.traced {
                    hidden.push(Trace { name: layer.name.clone(), spikes: out.spikes.clone() });
                }
                let fired = match dropout {
                    Some(dropout) if layer.traced => dropout.apply(&out.spikes, layer)?,
                    _ => out.spikes,
                };
                spikes.insert(layer.population, fired);
            }
        }
        let outputs = outputs.ok_or_else(|| Error::Internal("the output population did not run".into()))?;
        Ok(Pass { outputs, hidden })
    }

    /// Weights, and the bias of those that learn.
    fn weights_of<'m>(&'m self, from: &'m Incoming) -> (&'m Tensor, Option<&'m Tensor>) {
        match &from.frozen {
            Some(frozen) => (&frozen.weights, None),
            None => {
                let bias = from.biased.then(|| &self.parameters[&bias_path(&from.name)]);
                (&self.parameters[&weights_path(&from.name)], bias)
            }
        }
    }

    fn current(&self, from: &Incoming, input: &Encoded, spikes: &BTreeMap<usize, Tensor>) -> Result<Tensor> {
        let (weights, bias) = self.weights_of(from);
        let current = match (spikes.get(&from.pre), input) {
            (Some(spikes), _) => spike_product(spikes, weights, bias)?,
            (None, Encoded::Spikes(spikes)) => product_of(spikes, weights, bias)?,
            (None, Encoded::Constant(x, _)) => {
                let mut current = x.matmul(weights)?;
                if let Some(bias) = bias {
                    current = current.add(bias)?;
                }
                if let Some(frozen) = &from.frozen {
                    current = current.mul(&frozen.scale)?.add(&frozen.bias)?;
                }
                let shape = [1, current.shape()[0], current.shape()[1]];
                return current.reshape(&shape);
            }
        };
        match &from.frozen {
            Some(frozen) => current.mul(&frozen.scale)?.add(&frozen.bias),
            None => Ok(current),
        }
    }

    /// Puts trained parameters into the network that the model was made of.
    ///
    /// # Errors
    /// Another network.
    pub fn write_back(&self, net: &mut Network) -> Result<()> {
        for p in net.projections.iter_mut().filter(|p| !p.frozen) {
            p.gain = vec![1.0];
        }
        for (path, tensor) in &self.parameters {
            let values = tensor.to_f32()?;
            let Some(rest) = path.strip_prefix("population.") else {
                net.set_tensor(path, tensor.shape(), &values)?;
                continue;
            };
            let (name, what) = rest.rsplit_once('.').unwrap_or((rest, ""));
            let population = net.populations.iter_mut().find(|p| p.name == name);
            let model = population.and_then(|p| p.model.as_mut());
            let lif = model.as_ref().and_then(|m| m.as_any().downcast_ref::<Lif>()).copied();
            let (Some(model), Some(mut lif)) = (model, lif) else {
                return Err(Error::value("population", name, "LIF neurons of this network"));
            };
            match what {
                "decay" => lif.decay = values[0],
                _ => lif.threshold = values[0],
            }
            *model = Box::new(lif);
        }
        Ok(())
    }

    /// Keeps leaks in 0 to 1 and thresholds above 0, after a step of the optimiser.
    ///
    /// # Errors
    /// What tensors return.
    pub fn clamp(&mut self) -> Result<()> {
        for (path, tensor) in &mut self.parameters {
            let least = match path.strip_prefix("population.") {
                Some(rest) if rest.ends_with(".decay") => 0.0,
                Some(_) => 1e-3,
                None => continue,
            };
            let most = if least == 0.0 { 1.0 } else { f32::MAX };
            let values = tensor.to_f32()?.into_iter().map(|x| x.clamp(least, most)).collect();
            *tensor = Tensor::from_f32(values, tensor.shape())?;
        }
        Ok(())
    }

    /// Bytes that the tape keeps of a batch until the way back: the potential of every population that training
    /// reaches, 4 T B N, the weights that gradients pass through, and what the loss keeps. Lists of spikes come on top,
    /// 4 bytes a spike.
    pub fn activation_bytes(&self, steps: usize, batch: usize) -> usize {
        let traced = self.layers.iter().filter(|layer| layer.traced);
        let potentials: usize = traced
            .map(|layer| {
                let copies = if layer.recurrent.is_some() { 2 } else { 1 };
                4 * copies * steps * batch * layer.neurons
            })
            .sum();
        let needed = |layer: &&Layer| layer.traced && layer.incoming.iter().any(|from| self.traced(from.pre));
        let weights = self.layers.iter().filter(needed).flat_map(|layer| {
            layer.incoming.iter().filter(|from| self.traced(from.pre)).map(|from| match &from.frozen {
                Some(frozen) => frozen.weights.len(),
                None => self.parameters[&weights_path(&from.name)].len(),
            })
        });
        let outputs = self.layers.iter().find(|layer| layer.population == self.output);
        let loss = outputs.map_or(0, |layer| 4 * batch * (layer.neurons + 1));
        potentials + 4 * weights.sum::<usize>() + loss
    }

    fn traced(&self, population: usize) -> bool {
        self.layers.iter().any(|layer| layer.population == population && layer.traced)
    }

    /// Number of trained numbers.
    pub fn size(&self) -> usize {
        self.parameters.values().map(Tensor::len).sum()
    }
}

/// What training reaches in a network.
struct Reach {
    /// Populations with something trained before or in them.
    traced: Vec<bool>,
    /// Populations on the way to the output.
    needed: Vec<bool>,
    /// The one population from which all untrained activity comes, where there is one.
    source: Option<Pop>,
}

impl Reach {
    fn of(net: &Network, order: &[Pop], output: Pop) -> Self {
        let mut traced = vec![false; net.populations.len()];
        for &Pop(index) in order {
            traced[index] = net.incoming(Pop(index)).any(|p| !p.frozen || traced[p.pre.0]);
        }
        let mut needed = vec![false; net.populations.len()];
        needed[output.0] = true;
        for &Pop(index) in order.iter().rev() {
            if needed[index] {
                net.incoming(Pop(index)).for_each(|p| needed[p.pre.0] = true);
            }
        }
        let reached = |p: &&Projection| needed[p.post.0] && traced[p.post.0] && !traced[p.pre.0];
        let mut borders: Vec<usize> = net.projections.iter().filter(reached).map(|p| p.pre.0).collect();
        borders.sort_unstable();
        borders.dedup();
        let source = if let [one] = borders[..] { Some(Pop(one)) } else { None };
        Self { traced, needed, source }
    }
}

impl Dropout {
    fn apply(&self, spikes: &Tensor, layer: &Layer) -> Result<Tensor> {
        let shape = spikes.shape();
        let ones = Tensor::full(&[1, shape[1], shape[2]], 1.0, DType::F32)?;
        let call = self.call * 64 + layer.population as u64;
        spikes.mul(&ones.dropout(self.share, &self.stream, call)?)
    }
}

impl Frozen {
    fn of(p: &Projection, targets: usize) -> Result<Self> {
        let (values, quantum) = match p.weights.values() {
            Values::F32(values) => (values.clone(), vec![1.0]),
            Values::Int8 { quanta, scale } => (quanta.iter().map(|&q| f32::from(q)).collect(), scale.clone()),
        };
        let (sources, weights) = match &p.weights {
            Weights::Dense { sources, .. } => (*sources, values),
            Weights::Sparse { offsets, targets: to, .. } => {
                let sources = offsets.len() - 1;
                let mut dense = vec![0.0; sources * targets];
                for source in 0..sources {
                    for i in offsets[source]..offsets[source + 1] {
                        dense[source * targets + to[i] as usize] += values[i];
                    }
                }
                (sources, dense)
            }
            Weights::Conv2d { .. } => {
                let on = format!("on the convolution `{}`", p.name);
                return Err(Error::Unsupported { op: "training by surrogate gradients", on });
            }
        };
        let spread = |given: &[f32], default: f32| -> Result<Vec<f32>> {
            match given.len() {
                0 => Ok(vec![default; targets]),
                1 => Ok(vec![given[0]; targets]),
                // One per target, or one per channel of targets.
                n if targets.is_multiple_of(n) => {
                    Ok((0..targets).map(|i| given[i / (targets / n)]).collect())
                }
                n => Err(Error::Network(vec![format!("`{}`: {n} numbers for {targets} targets", p.name)])),
            }
        };
        let (gain, quantum, bias) = (spread(&p.gain, 1.0)?, spread(&quantum, 1.0)?, spread(&p.bias, 0.0)?);
        let times = |values: Vec<f32>| values.into_iter().zip(&gain).map(|(a, g)| a * g).collect();
        Ok(Self {
            weights: Tensor::from_f32(weights, &[sources, targets])?,
            scale: Tensor::from_f32(times(quantum), &[targets])?,
            bias: Tensor::from_f32(times(bias), &[targets])?,
        })
    }
}

/// Adds the parameters of a trained projection, its gain included.
fn trained(p: &Projection, targets: usize, parameters: &mut BTreeMap<String, Tensor>) -> Result<()> {
    let (Weights::Dense { sources, .. }, Values::F32(values)) = (&p.weights, p.weights.values()) else {
        let what = match (&p.weights, p.weights.values()) {
            (_, Values::Int8 { .. }) => "weights are 8-bit integers; write `precision = \"f32\"`",
            (Weights::Sparse { .. }, _) => "connections are sparse, where trained ones are dense so far",
            _ => "connections are a convolution, where trained ones are dense so far",
        };
        let on = format!("on `{}`: its {what}", p.name);
        return Err(Error::Unsupported { op: "training by surrogate gradients", on });
    };
    let gain = |i: usize| match p.gain.len() {
        0 => 1.0,
        1 => p.gain[0],
        n => p.gain[i * n / targets],
    };
    let weights = values.iter().enumerate().map(|(i, w)| w * gain(i % targets)).collect();
    parameters.insert(weights_path(&p.name), Tensor::from_f32(weights, &[*sources, targets])?);
    if !p.bias.is_empty() && p.bias.len() != targets {
        return Err(Error::Network(vec![format!(
            "`{}`: {} biases for {targets} targets",
            p.name,
            p.bias.len()
        )]));
    }
    if !p.bias.is_empty() {
        let bias = p.bias.iter().enumerate().map(|(i, b)| b * gain(i)).collect();
        parameters.insert(bias_path(&p.name), Tensor::from_f32(bias, &[targets])?);
    }
    Ok(())
}
