//! A network as a function of its trained parameters, for back-propagation through time.
//!
//! Populations run in topological order, each over the whole sequence: one product for all steps, then one scan. What
//! stands before the first trained projection has no tape, no gradient and no optimiser state; where it ends in one
//! population, the model begins with that one's spikes, and the engine runs what is before.

mod memory;
mod normalize;
mod online;
mod reach;
mod stretches;
mod weights;

pub use normalize::Statistics;
use normalize::norm_path;
pub use online::{Credit, Online};
use reach::Reach;
use stretches::Place;
pub use stretches::Recomputed;
use weights::{Frozen, trained};

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::rng::Stream;
use crate::snn::neurons::Lif;
use crate::snn::scan::{
    LARGEST_WINDOW, Parameters, Scan, Scanned, Spikes, Stretch, product_of, spike_conv2d, spike_product,
};
use crate::snn::{Conv2d, Network, Pop, Weights};
use crate::tensor::{DType, Device, Meta, Surrogate, Tensor, Trainable};
use crate::{Error, Result};

/// A batch as the population presents it with which the model begins.
#[derive(Clone, Debug)]
pub enum Encoded {
    /// Spikes `[T, B, K]`.
    Spikes(Arc<Spikes>),
    /// Currents `[B, K]` that act in each of so many steps.
    Constant(Tensor, usize),
}

impl Encoded {
    /// Some samples of the batch.
    ///
    /// # Errors
    /// Samples that are not in it.
    pub fn samples(&self, range: Range<usize>) -> Result<Self> {
        Ok(match self {
            Self::Spikes(spikes) => Self::Spikes(Arc::new(spikes.samples(range)?)),
            Self::Constant(x, steps) => Self::Constant(x.narrow(0, range.start, range.len())?, *steps),
        })
    }

    /// Some of the steps.
    ///
    /// # Errors
    /// Steps that are not there.
    pub fn stretch(&self, range: Range<usize>) -> Result<Self> {
        Ok(match self {
            Self::Spikes(spikes) => Self::Spikes(Arc::new(spikes.steps(range)?)),
            Self::Constant(x, steps) if range.end <= *steps => Self::Constant(x.clone(), range.len()),
            Self::Constant(_, steps) => {
                return Err(Error::value("steps", format!("{range:?}"), format!("within 0..{steps}")));
            }
        })
    }

    /// Number of steps and of samples.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Spikes(spikes) => [spikes.front()[0], spikes.front()[1]],
            Self::Constant(x, steps) => [*steps, x.shape()[0]],
        }
    }
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
    /// Whether the currents of hidden populations are normalised over batch and steps (tdBN, arXiv:2011.05280, eq. 5–8):
    /// `θ w (x − mean) / √(variance + ε) + b`, by channel of an image, else by neuron. At work the statistics are
    /// running means, which [`Model::write_back`] folds into weights and biases.
    pub normalize: bool,
}

/// A network, prepared.
#[derive(Debug)]
pub struct Model {
    /// Trained tensors: `projection.NAME.weights` `[sources, targets]` or `[outputs, inputs, k, k]`,
    /// `projection.NAME.bias`, and where they learn `population.NAME.decay`, `population.NAME.threshold` and
    /// `projection.NAME.norm.weight` and `.bias`.
    pub parameters: BTreeMap<String, Tensor>,
    /// Running statistics where currents are normalised: `projection.NAME.norm.mean`, `.variance`.
    pub statistics: BTreeMap<String, Tensor>,
    layers: Vec<Layer>,
    source: Pop,
    /// Whether the source is a frozen population, whose spikes never are held currents.
    behind_frozen: bool,
    output: usize,
    membrane: bool,
    device: Device,
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
    /// Of a convolution.
    geometry: Option<Conv2d>,
    /// Channels of the normalisation, where there is one.
    channels: Option<usize>,
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
    /// Of the normalisations over the batch.
    pub statistics: Statistics,
}

/// Spikes of a population on their way to the next: as a tensor, and as lists where they are known.
struct Sent {
    spikes: Tensor,
    lists: Option<Arc<Spikes>>,
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
        let (mut parameters, mut statistics) = (BTreeMap::new(), BTreeMap::new());
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
                    let geometry = match p.weights {
                        Weights::Conv2d { geometry, .. } => Some(geometry),
                        _ => None,
                    };
                    let mut from = Incoming {
                        name: p.name.clone(),
                        pre: p.pre.0,
                        biased: !p.bias.is_empty(),
                        frozen,
                        geometry,
                        channels: None,
                    };
                    if gradient.normalize && from.frozen.is_none() && index != output.0 {
                        from.normalize(&numbers, population.size(), &mut parameters, &mut statistics)?;
                    }
                    incoming.push(from);
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
        let behind_frozen = source.is_some_and(|Pop(index)| net.populations[index].model.is_some());
        let input = net.populations.iter().position(|p| p.model.is_none()).map(Pop);
        let source =
            source.or(input).ok_or_else(|| Error::Network(vec!["no population is an input".into()]))?;
        let (output, device) = (output.0, Device::Cpu);
        Ok(Self { parameters, statistics, layers, source, behind_frozen, output, membrane, device })
    }

    /// Moves all numbers to a device, where [`forward`](Self::forward) then runs; all of them or none.
    ///
    /// # Errors
    /// Recurrent layers, which have no kernel; what the device reports.
    pub fn move_to(&mut self, device: &Device) -> Result<()> {
        if let (Device::Cuda(_), Some(layer)) = (device, self.layers.iter().find(|l| l.recurrent.is_some())) {
            let on = format!("on {device}, with `{}`, which projects to itself; use the CPU", layer.name);
            return Err(Error::Unsupported { op: "training by surrogate gradients", on });
        }
        let mut tensors: Vec<&mut Tensor> = self.parameters.values_mut().collect();
        tensors.extend(self.statistics.values_mut());
        for layer in &mut self.layers {
            let Parameters { decay, gain, threshold, current_decay, adaptation, recurrent } =
                &mut layer.numbers;
            tensors.extend([decay, gain, threshold]);
            tensors.extend(current_decay.iter_mut().chain(recurrent));
            tensors.extend(adaptation.iter_mut().flat_map(|(rho, strength)| [rho, strength]));
            for Frozen { weights, scale, bias } in
                layer.incoming.iter_mut().filter_map(|from| from.frozen.as_mut())
            {
                tensors.extend([weights, scale, bias]);
            }
        }
        let moved = tensors.iter().map(|t| t.to_device(device)).collect::<Result<Vec<_>>>()?;
        tensors.into_iter().zip(moved).for_each(|(tensor, moved)| *tensor = moved);
        self.device = device.clone();
        Ok(())
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The population whose spikes or currents [`forward`](Self::forward) takes: the last frozen one, where all that is
    /// trained begins there, or the input.
    pub fn source(&self) -> Pop {
        self.source
    }

    /// Runs a batch as the network would at work; inside [`grad`](crate::tensor::grad) of this model it is recorded.
    ///
    /// # Errors
    /// Input that does not fit.
    pub fn forward(&self, input: &Encoded, dropout: Option<Dropout>) -> Result<Pass> {
        self.pass(input, dropout, false, None)
    }

    /// Runs a batch as in training: normalised by its own statistics.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_in_training(&self, input: &Encoded, dropout: Option<Dropout>) -> Result<Pass> {
        self.pass(input, dropout, true, None)
    }

    /// Over some of the steps with a `place` of each layer among the others.
    fn pass(
        &self,
        input: &Encoded,
        dropout: Option<Dropout>,
        training: bool,
        place: Option<&Place>,
    ) -> Result<Pass> {
        let mut sent: BTreeMap<usize, Sent> = BTreeMap::new();
        let (mut hidden, mut statistics) = (vec![], vec![]);
        let mut outputs = None;
        for layer in &self.layers {
            let numbers = self.numbers_of(layer)?;
            let stretch = place.and_then(|place| place.get(&layer.population));
            let (out, lists) = match self.behind(layer, &numbers, input, &sent, stretch)? {
                Some((out, lists)) => (out, Some(lists)),
                None => {
                    let mut current: Option<Tensor> = None;
                    for from in &layer.incoming {
                        let part = self.current(from, input, &sent, training.then_some(&mut statistics))?;
                        current = Some(match current {
                            Some(sum) => sum.add(&part)?,
                            None => part,
                        });
                    }
                    let current = current.ok_or_else(|| Error::Internal("a layer without input".into()))?;
                    (layer.advance(&current, &numbers, input, stretch)?, None)
                }
            };
            if layer.population == self.output {
                let membrane = out.membrane.filter(|_| self.membrane);
                outputs = Some(membrane.unwrap_or_else(|| out.spikes.clone()));
            } else {
                if layer.traced {
                    hidden.push(Trace { name: layer.name.clone(), spikes: out.spikes.clone() });
                }
                let fired = match dropout {
                    Some(dropout) if layer.traced => {
                        Sent { spikes: dropout.apply(&out.spikes, layer)?, lists: None }
                    }
                    _ => Sent { spikes: out.spikes, lists },
                };
                sent.insert(layer.population, fired);
            }
        }
        let outputs = outputs.ok_or_else(|| Error::Internal("the output population did not run".into()))?;
        Ok(Pass { outputs, hidden, statistics })
    }

    /// The numbers of a population with those that learn as they are now.
    fn numbers_of(&self, layer: &Layer) -> Result<Parameters> {
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
        Ok(numbers)
    }

    /// Product and scan in one, where a layer has one trained dense projection from spikes and nothing else.
    fn behind(
        &self,
        layer: &Layer,
        numbers: &Parameters,
        input: &Encoded,
        sent: &BTreeMap<usize, Sent>,
        stretch: Option<&Stretch>,
    ) -> Result<Option<(Scanned, Arc<Spikes>)>> {
        let [from] = layer.incoming.as_slice() else { return Ok(None) };
        if let Device::Cuda(_) = self.device {
            return Ok(None);
        }
        if from.frozen.is_some() || from.geometry.is_some() || from.channels.is_some() {
            return Ok(None);
        }
        let Some((x, lists)) = events(from, input, sent)? else { return Ok(None) };
        if !layer.scan.runs_behind(&lists, numbers) {
            return Ok(None);
        }
        let bias = from.biased.then(|| &self.parameters[&bias_path(&from.name)]);
        let weights = &self.parameters[&weights_path(&from.name)];
        layer.scan.run_behind(&lists, x, (weights, bias), numbers, stretch).map(Some)
    }

    /// Weights, and the bias of those that learn and are not normalised.
    fn weights_of<'m>(&'m self, from: &'m Incoming) -> (&'m Tensor, Option<&'m Tensor>) {
        match &from.frozen {
            Some(frozen) => (&frozen.weights, None),
            None => {
                let biased = from.biased && from.channels.is_none();
                let bias = biased.then(|| &self.parameters[&bias_path(&from.name)]);
                (&self.parameters[&weights_path(&from.name)], bias)
            }
        }
    }

    /// The current `[T, B, N]` of a projection, or `[1, B, N]` where it is held. Normalised, where it is, by the statistics
    /// of the batch, which are noted, or without a place for them by running means.
    fn current(
        &self,
        from: &Incoming,
        input: &Encoded,
        sent: &BTreeMap<usize, Sent>,
        statistics: Option<&mut Statistics>,
    ) -> Result<Tensor> {
        let folded;
        let (weights, bias) = match from.channels {
            Some(_) if statistics.is_none() => {
                folded = self.folded(from)?;
                (&folded.0, Some(&folded.1))
            }
            _ => self.weights_of(from),
        };
        if let (Some(geometry), None, Device::Cpu) = (from.by_events(), &from.frozen, &self.device)
            && let Some((x, lists)) = events(from, input, sent)?
        {
            let weights = (weights, bias);
            let (Some(channels), Some(statistics)) = (from.channels, statistics) else {
                return spike_conv2d(&lists, x, weights, &geometry);
            };
            // What is normalised are all currents.
            let all = Conv2d { output: geometry.currents(), max_pool: 1, ..geometry };
            let current = spike_conv2d(&lists, x, weights, &all)?;
            return largest(&self.normalized(from, channels, &current, statistics)?, &geometry);
        }
        let current = match (sent.get(&from.pre), input, &from.geometry) {
            (Some(sent), _, None) => self.product(&sent.spikes, weights, bias)?,
            (Some(sent), _, Some(geometry)) => convolved(&sent.spikes, geometry, weights, bias)?,
            (None, Encoded::Spikes(spikes), None) => match self.device {
                Device::Cpu => product_of(spikes, weights, bias)?,
                Device::Cuda(_) => dense(&spikes.to_tensor_on(&self.device, DType::F32)?, weights, bias)?,
            },
            (None, Encoded::Spikes(spikes), Some(geometry)) => {
                convolved(&spikes.to_tensor_on(&self.device, DType::F32)?, geometry, weights, bias)?
            }
            (None, Encoded::Constant(x, _), geometry) => {
                let held = x.reshape(&[1, x.shape()[0], x.shape()[1]])?.to_device(&self.device)?;
                match geometry {
                    Some(geometry) => convolved(&held, geometry, weights, bias)?,
                    None => dense(&held, weights, bias)?,
                }
            }
        };
        let current = match (&from.frozen, from.channels, statistics) {
            (Some(frozen), ..) => current.mul(&frozen.scale)?.add(&frozen.bias)?,
            (None, Some(channels), Some(statistics)) => {
                self.normalized(from, channels, &current, statistics)?
            }
            _ => current,
        };
        match &from.geometry {
            Some(geometry) => largest(&current, geometry),
            None => Ok(current),
        }
    }

    /// The current of spikes by dense weights: row by row where that costs what the spikes cost, on a GPU as a product.
    fn product(&self, spikes: &Tensor, weights: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        match self.device {
            Device::Cpu => spike_product(spikes, weights, bias),
            Device::Cuda(_) => dense(spikes, weights, bias),
        }
    }

    /// All numbers that training changes: parameters and running statistics.
    pub(super) fn numbers(&self) -> BTreeMap<String, Tensor> {
        self.parameters.iter().chain(&self.statistics).map(|(name, t)| (name.clone(), t.clone())).collect()
    }

    /// Takes up [`numbers`](Self::numbers) of the same network.
    pub(super) fn set_numbers(&mut self, numbers: BTreeMap<String, Tensor>) -> Result<()> {
        for (name, tensor) in numbers {
            let tensor = tensor.to_device(&self.device)?;
            let place = match self.statistics.contains_key(&name) {
                true => &mut self.statistics,
                false => &mut self.parameters,
            };
            place.insert(name, tensor);
        }
        Ok(())
    }

    /// Puts trained parameters into the network that the model was made of.
    ///
    /// # Errors
    /// Another network.
    pub fn write_back(&self, net: &mut Network) -> Result<()> {
        for p in net.projections.iter_mut().filter(|p| !p.frozen) {
            p.gain = vec![1.0];
        }
        for from in
            self.layers.iter().flat_map(|layer| &layer.incoming).filter(|from| from.channels.is_some())
        {
            let (weights, bias) = self.folded(from)?;
            net.set_tensor(&weights_path(&from.name), weights.shape(), &weights.to_f32()?)?;
            net.set_tensor(&bias_path(&from.name), bias.shape(), &bias.to_f32()?)?;
        }
        let folded = |path: &str| {
            let name = path.strip_prefix("projection.").and_then(|rest| rest.split_once('.'));
            name.is_some_and(|(name, _)| self.parameters.contains_key(&norm_path(name, "weight")))
        };
        for (path, tensor) in self.parameters.iter().filter(|(path, _)| !folded(path)) {
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
            *tensor = tensor.clamp(least, if least == 0.0 { 1.0 } else { f32::MAX.into() })?;
        }
        Ok(())
    }

    fn traced(&self, population: usize) -> bool {
        self.layers.iter().any(|layer| layer.population == population && layer.traced)
    }

    /// Number of trained numbers.
    pub fn size(&self) -> usize {
        self.parameters.values().map(Tensor::len).sum()
    }
}

impl Layer {
    /// Spikes from currents `[T, B, N]`, or `[1, B, N]` where they are held.
    fn advance(
        &self,
        current: &Tensor,
        numbers: &Parameters,
        input: &Encoded,
        stretch: Option<&Stretch>,
    ) -> Result<Scanned> {
        let all;
        let (current, held) = match input {
            // Only currents that are held have one step here.
            Encoded::Constant(_, steps) if current.shape()[0] == 1 && numbers.recurrent.is_none() => {
                (current, Some(*steps))
            }
            Encoded::Constant(_, steps) => {
                all = current.broadcast_to(&[*steps, current.shape()[1], current.shape()[2]])?;
                (&all, None)
            }
            Encoded::Spikes(_) => (current, None),
        };
        match (held, stretch) {
            (_, Some(stretch)) => self.scan.run_stretch(current, held, numbers, stretch),
            (Some(steps), None) => self.scan.run_held(current, steps, numbers),
            (None, None) => self.scan.run(current, numbers),
        }
    }
}

/// `x W + b` for x `[T, B, K]`.
fn dense(x: &Tensor, weights: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let current = x.matmul(weights)?;
    bias.map_or(Ok(current.clone()), |bias| current.add(bias))
}

impl Incoming {
    /// The geometry of a convolution whose currents can be added up spike by spike.
    fn by_events(&self) -> Option<Conv2d> {
        self.geometry.filter(|geometry| geometry.pool == 1 && geometry.max_pool <= LARGEST_WINDOW)
    }
}

/// The spikes that a projection carries as lists, and as a tensor where they have been one; none of a held current.
fn events<'s>(
    from: &Incoming,
    input: &Encoded,
    sent: &'s BTreeMap<usize, Sent>,
) -> Result<Option<(Option<&'s Tensor>, Arc<Spikes>)>> {
    Ok(match (sent.get(&from.pre), input) {
        (Some(Sent { spikes, lists: Some(lists) }), _) => Some((Some(spikes), lists.clone())),
        (Some(Sent { spikes, lists: None }), _) => Some((Some(spikes), Arc::new(Spikes::of(spikes)?))),
        (None, Encoded::Spikes(lists)) => Some((None, lists.clone())),
        (None, Encoded::Constant(..)) => None,
    })
}

/// The largest of each window of currents `[T, B, N]`, where a convolution says so.
fn largest(current: &Tensor, geometry: &Conv2d) -> Result<Tensor> {
    if geometry.max_pool == 1 {
        return Ok(current.clone());
    }
    let [steps, batch] = [current.shape()[0], current.shape()[1]];
    let images = current.reshape(&[&[steps * batch], &geometry.currents()[..]].concat())?;
    let largest = images.max_pool2d(geometry.max_pool, geometry.max_pool)?;
    largest.reshape(&[steps, batch, geometry.output.iter().product()])
}

/// The currents `[T, B, N]` of a convolution of spikes or intensities `[T, B, K]`, averaged first where it says so, before
/// the largest are taken.
fn convolved(x: &Tensor, geometry: &Conv2d, weights: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let [steps, batch] = [x.shape()[0], x.shape()[1]];
    let mut images = x.reshape(&[&[steps * batch], &geometry.input[..]].concat())?;
    if geometry.pool > 1 {
        images = images.avg_pool2d(geometry.pool, geometry.pool)?;
    }
    let current = images.conv2d(weights, bias, geometry.stride, geometry.padding)?;
    current.reshape(&[steps, batch, geometry.currents().iter().product()])
}

impl Dropout {
    fn apply(&self, spikes: &Tensor, layer: &Layer) -> Result<Tensor> {
        let shape = spikes.shape();
        let ones = Meta::new([1, shape[1], shape[2]], DType::F32);
        let ones = Tensor::full_on(&ones, 1.0, spikes.device())?;
        let call = self.call * 64 + layer.population as u64;
        spikes.mul(&ones.dropout(self.share, &self.stream, call)?)
    }
}
