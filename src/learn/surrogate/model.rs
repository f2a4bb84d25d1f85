//! A network as a function of its trained parameters, for back-propagation through time.
//!
//! Populations run with sources before targets, each over the whole sequence: one product for all steps, then one scan;
//! those in a loop take turns over some steps. What stands before the first trained projection has no tape, no gradient and no optimiser state; where it ends in one
//! population, the model begins with that one's spikes, and the engine runs what is before.

mod current;
mod feedback;
mod memory;
mod normalize;
mod online;
mod prepare;
mod reach;
mod sparse;
mod stretches;
mod weights;

use current::Sent;
pub use normalize::Statistics;
use normalize::norm_path;
pub use online::{Credit, Online};
use sparse::Sparse;
use stretches::Place;
pub use stretches::Recomputed;
use weights::Frozen;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::rng::Stream;
use crate::snn::neurons::Lif;
use crate::snn::scan::{Parameters, Scan, Scanned, Spikes, Stretch};
use crate::snn::{Component, Conv2d, Network, Pop};
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
    /// Whether the time constant of each population that has one (a leak between 0 and 1) learns, as `1/τ = σ(w)` (Fang
    /// et al. 2021, arXiv:2007.05785): the leak is `1 − 1/τ`, and a gain that is `1/τ` goes along.
    pub time_constant: bool,
    /// Whether the threshold of each population learns.
    pub threshold: bool,
    /// Whether the currents of hidden populations are normalised over batch and steps (tdBN, arXiv:2011.05280, eq. 5–8):
    /// `θ w (x − mean) / √(variance + ε) + b`, by channel of an image, else by neuron. At work the statistics are
    /// running means, which [`Model::write_back`] folds into weights and biases.
    pub normalize: bool,
    /// Whether potentials are kept in 16 bits for the way back, see [`Scan::half`].
    pub half: bool,
}

impl Gradient {
    /// With this derivative of the spike, without resets; weights and biases alone learn.
    pub const fn of(surrogate: Surrogate) -> Self {
        Self {
            surrogate,
            detach: true,
            decay: false,
            time_constant: false,
            threshold: false,
            normalize: false,
            half: false,
        }
    }
}

/// A network, prepared.
#[derive(Debug)]
pub struct Model {
    /// Trained tensors: `projection.NAME.weights` `[sources, targets]` or `[outputs, inputs, k, k]`,
    /// `projection.NAME.bias`, and where they learn `population.NAME.decay`, `.rate` (w of `1/τ = σ(w)`), `.threshold`
    /// and `projection.NAME.norm.weight` and `.bias`. Weights of pairs that are not connected are 0; their gradients are
    /// for [`keep_synapses`](Self::keep_synapses) to take out.
    pub parameters: BTreeMap<String, Tensor>,
    /// Running statistics where currents are normalised: `projection.NAME.norm.mean`, `.variance`.
    pub statistics: BTreeMap<String, Tensor>,
    /// Of the weights that do not connect all pairs.
    sparse: BTreeMap<String, Sparse>,
    /// Sources before targets.
    layers: Vec<Layer>,
    /// Which of the layers run together.
    components: Vec<(Component, Range<usize>)>,
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
    /// A projection onto itself with a delay of a step, which the scan takes along.
    recurrent: Option<(String, Option<Frozen>)>,
    /// Whether the gain is 1/τ and learns with it.
    tied: bool,
    /// Whether anything before or in it is trained.
    traced: bool,
}

#[derive(Debug)]
struct Incoming {
    name: String,
    pre: usize,
    /// Steps from a spike to its effect; 0 in the same step.
    delay: usize,
    /// Whether the source runs together with the target.
    looped: bool,
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
    /// The hidden populations that training reaches, sources before targets.
    pub hidden: Vec<Trace>,
    /// Of the normalisations over the batch.
    pub statistics: Statistics,
}

/// What a layer did in all steps.
struct Ran {
    spikes: Tensor,
    /// As it is shown, where it is the output's.
    membrane: Option<Tensor>,
    /// The spikes as lists, where they are known.
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
    /// Moves all numbers to a device, where [`forward`](Self::forward) then runs; all of them or none.
    ///
    /// # Errors
    /// What the device reports.
    pub fn move_to(&mut self, device: &Device) -> Result<()> {
        let mut tensors: Vec<&mut Tensor> = self.parameters.values_mut().collect();
        tensors.extend(self.statistics.values_mut());
        tensors.extend(self.sparse.values_mut().map(|sparse| &mut sparse.mask));
        for layer in &mut self.layers {
            let Parameters { decay, gain, threshold, current_decay, adaptation, recurrent } =
                &mut layer.numbers;
            tensors.extend([decay, gain, threshold]);
            tensors.extend(current_decay.iter_mut().chain(recurrent));
            tensors.extend(adaptation.iter_mut().flat_map(|(rho, strength)| [rho, strength]));
            let own = layer.recurrent.iter_mut().filter_map(|(_, frozen)| frozen.as_mut());
            let frozen = layer.incoming.iter_mut().filter_map(|from| from.frozen.as_mut()).chain(own);
            for Frozen { weights, scale, bias } in frozen {
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
        let mut sent = BTreeMap::from([(self.source.0, Sent::of(input, &self.device)?)]);
        let (mut hidden, mut statistics) = (vec![], vec![]);
        let mut outputs = None;
        for (component, range) in &self.components {
            let layers = &self.layers[range.clone()];
            let noted = training.then_some(&mut statistics);
            let ran = match layers {
                [layer] if !layer.is_looped() => {
                    let stretch = place.and_then(|place| place.get(&layer.population));
                    vec![self.run(layer, input, &sent, noted, stretch)?]
                }
                _ => self.run_loop((component, layers), input, &sent, dropout, noted)?,
            };
            for (layer, Ran { spikes, membrane, lists }) in layers.iter().zip(ran) {
                if layer.population == self.output {
                    outputs = Some(membrane.filter(|_| self.membrane).unwrap_or_else(|| spikes.clone()));
                } else if layer.traced {
                    hidden.push(Trace { name: layer.name.clone(), spikes: spikes.clone() });
                }
                let fired = match self.silences(dropout, layer) {
                    Some(dropout) => Sent::Spikes { tensor: dropout.apply(&spikes, layer)?, lists: None },
                    None => Sent::Spikes { tensor: spikes, lists },
                };
                sent.insert(layer.population, fired);
            }
        }
        let outputs = outputs.ok_or_else(|| Error::Internal("the output population did not run".into()))?;
        Ok(Pass { outputs, hidden, statistics })
    }

    /// The dropout of a layer, where it has one.
    fn silences(&self, dropout: Option<Dropout>, layer: &Layer) -> Option<Dropout> {
        dropout.filter(|_| layer.traced && layer.population != self.output)
    }

    /// The numbers of a population with those that learn as they are now.
    fn numbers_of(&self, layer: &Layer) -> Result<Parameters> {
        let mut numbers = layer.numbers.clone();
        let learned = |what: &str| self.parameters.get(&format!("population.{}.{what}", layer.name));
        if let Some(decay) = learned("decay") {
            numbers.decay = decay.clone();
        }
        if let Some(rate) = learned("rate") {
            let rate = rate.sigmoid()?;
            numbers.decay = rate.affine(-1.0, 1.0)?;
            if layer.tied {
                numbers.gain = rate;
            }
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

    /// Runs a layer that takes turns with nobody over all steps.
    fn run(
        &self,
        layer: &Layer,
        input: &Encoded,
        sent: &BTreeMap<usize, Sent>,
        mut statistics: Option<&mut Statistics>,
        stretch: Option<&Stretch>,
    ) -> Result<Ran> {
        let numbers = self.numbers_of(layer)?;
        if let Some((Scanned { spikes, membrane, .. }, lists)) =
            self.behind(layer, &numbers, sent, stretch)?
        {
            return Ok(Ran { spikes, membrane, lists: Some(lists) });
        }
        let mut current: Option<Tensor> = None;
        for from in layer.added_in_order(sent) {
            let part = self.current(from, &from.carries(sent)?, statistics.as_deref_mut())?;
            current = Some(match current {
                Some(sum) => sum.add(&part)?,
                None => part,
            });
        }
        let current = current.ok_or_else(|| Error::Internal("a layer without input".into()))?;
        let Scanned { spikes, membrane, .. } = layer.advance(&current, &numbers, input, stretch)?;
        Ok(Ran { spikes, membrane, lists: None })
    }

    /// Product and scan in one, where a layer has one trained dense projection from spikes and nothing else.
    fn behind(
        &self,
        layer: &Layer,
        numbers: &Parameters,
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
        let sent = from.carries(sent)?;
        let Some((x, lists)) = sent.events()? else { return Ok(None) };
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
            self.put(net, &weights_path(&from.name), &weights)?;
            net.set_tensor(&bias_path(&from.name), bias.shape(), &bias.to_f32()?)?;
        }
        let folded = |path: &str| {
            let name = path.strip_prefix("projection.").and_then(|rest| rest.split_once('.'));
            name.is_some_and(|(name, _)| self.parameters.contains_key(&norm_path(name, "weight")))
        };
        for (path, tensor) in self.parameters.iter().filter(|(path, _)| !folded(path)) {
            let Some(rest) = path.strip_prefix("population.") else {
                self.put(net, path, tensor)?;
                continue;
            };
            let (name, what) = rest.rsplit_once('.').unwrap_or((rest, ""));
            let population = net.populations.iter_mut().find(|p| p.name == name);
            let model = population.and_then(|p| p.model.as_mut());
            let lif = model.as_ref().and_then(|m| m.as_any().downcast_ref::<Lif>()).copied();
            let (Some(model), Some(mut lif)) = (model, lif) else {
                return Err(Error::value("population", name, "LIF neurons of this network"));
            };
            let layer = self.layers.iter().find(|layer| layer.name == name);
            let layer = layer.ok_or_else(|| Error::Internal(format!("`{name}` is not trained")))?;
            let numbers = self.numbers_of(layer)?;
            match what {
                "threshold" => lif.threshold = numbers.threshold.to_f32()?[0],
                _ => {
                    lif.decay = numbers.decay.to_f32()?[0];
                    lif.gain = numbers.gain.to_f32()?[0];
                }
            }
            *model = Box::new(lif);
        }
        Ok(())
    }

    /// Puts a tensor into a network, of weights that do not connect all pairs those of the synapses.
    fn put(&self, net: &mut Network, path: &str, tensor: &Tensor) -> Result<()> {
        let values = tensor.to_f32()?;
        match self.sparse.get(path).map(|sparse| sparse.gather(&values)) {
            Some(synapses) => net.set_tensor(path, &[synapses.len()], &synapses),
            None => net.set_tensor(path, tensor.shape(), &values),
        }
    }

    /// Keeps leaks in 0 to 1 and thresholds above 0, after a step of the optimiser.
    ///
    /// # Errors
    /// What tensors return.
    pub fn clamp(&mut self) -> Result<()> {
        for (path, tensor) in &mut self.parameters {
            let range = match path.strip_prefix("population.") {
                Some(rest) if rest.ends_with(".decay") => [0.0, 1.0],
                Some(rest) if rest.ends_with(".threshold") => [1e-3, f32::MAX.into()],
                _ => continue,
            };
            *tensor = tensor.clamp(range[0], range[1])?;
        }
        Ok(())
    }

    fn traced(&self, population: usize) -> bool {
        self.layers.iter().any(|layer| layer.population == population && layer.traced)
    }

    /// Number of trained numbers.
    pub fn size(&self) -> usize {
        let of = |(path, tensor): (&String, &Tensor)| self.sparse.get(path).map_or(tensor.len(), Sparse::len);
        self.parameters.iter().map(of).sum()
    }
}

impl Layer {
    /// Whether it takes turns with populations of a loop, itself perhaps.
    fn is_looped(&self) -> bool {
        self.incoming.iter().any(|from| from.looped)
    }

    /// What it hears in the order in which the engine adds it up: constant currents first.
    fn added_in_order(&self, sent: &BTreeMap<usize, Sent>) -> Vec<&Incoming> {
        let mut incoming: Vec<&Incoming> = self.incoming.iter().collect();
        incoming.sort_by_key(|from| !matches!(sent.get(&from.pre), Some(Sent::Held(_))));
        incoming
    }

    /// Whether its spikes come back to it.
    fn hears_itself(&self) -> bool {
        self.is_looped() || self.recurrent.is_some()
    }

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

impl Dropout {
    fn apply(&self, spikes: &Tensor, layer: &Layer) -> Result<Tensor> {
        let shape = spikes.shape();
        let ones = Meta::new([1, shape[1], shape[2]], DType::F32);
        let ones = Tensor::full_on(&ones, 1.0, spikes.device())?;
        let call = self.call * 64 + layer.population as u64;
        spikes.mul(&ones.dropout(self.share, &self.stream, call)?)
    }
}
