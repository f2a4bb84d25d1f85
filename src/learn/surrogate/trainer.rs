//! The loop: shuffled mini-batches, an optimiser, a validation split, checkpoints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::RngExt;

use super::loss::{Loss, RatePenalty};
use super::model::{Dropout, Encoded, Gradient, Model};
use crate::engine::{Activity, Feedforward, Input, Probe, Recording, Table, What, encode};
use crate::nn::{Adam, Optimizer, Schedule, Sgd};
use crate::rng::Stream;
use crate::snn::scan::Spikes;
use crate::snn::{Encoding, Network, Pop};
use crate::tensor::{Tensor, grad, safetensors};
use crate::{Error, Result};

/// Samples that the engine judges at once.
const JUDGED: usize = 512;

/// Who changes the parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Adam.
    Adam,
    /// Adam with decoupled weight decay.
    AdamW,
    /// Gradient descent with momentum.
    Sgd {
        /// μ.
        momentum: f64,
    },
}

/// How to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// What is made small.
    pub loss: Loss,
    /// Terms on the rates of hidden populations.
    pub penalty: RatePenalty,
    /// What is differentiated.
    pub gradient: Gradient,
    /// Who changes parameters.
    pub method: Method,
    /// Learning rate.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Whether the rate falls along half a cosine to 1 % at the end.
    pub cosine: bool,
    /// Mini-batches over which the rate rises in the beginning.
    pub warmup: usize,
    /// Gradients are scaled down to this norm; 0 leaves them.
    pub clip: f64,
    /// Share of hidden neurons that are silent in a training step.
    pub dropout: f64,
    /// Samples in a mini-batch; a last incomplete one of a pass is left out.
    pub batch: usize,
    /// Passes over the samples.
    pub epochs: usize,
    /// Samples at the end that are not trained on but judged after each pass; the best network is kept. 0 for none.
    pub held_out: usize,
    /// Passes without a better network after which training ends; 0 for never.
    pub patience: usize,
}

/// Samples with labels.
#[derive(Clone, Copy, Debug)]
pub struct Data<'a> {
    /// `[samples, numbers per sample]`.
    pub samples: Input<'a>,
    /// Classes.
    pub labels: &'a [u16],
}

/// What one mini-batch did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Counted from 1.
    pub iteration: usize,
    /// Before the update.
    pub loss: f64,
    /// Share of the mini-batch that was right before the update.
    pub accuracy: f64,
    /// On the held-out samples, after the last mini-batch of a pass.
    pub held_out: Option<f64>,
}

/// A network in training. Between any two steps it can be saved and restored.
#[derive(Debug)]
pub struct Trainer<'a> {
    net: Network,
    model: Model,
    options: Options,
    encoding: Encoding,
    output: Pop,
    data: Data<'a>,
    trained_on: usize,
    optimizer: AnyOptimizer,
    iteration: usize,
    order: Vec<u32>,
    curve: Vec<(usize, f64, f64)>,
    judged: Vec<(usize, f64)>,
    best: Option<(f64, BTreeMap<String, Tensor>)>,
    stopped: bool,
    checkpoint: Option<PathBuf>,
}

#[derive(Debug)]
enum AnyOptimizer {
    Adam(Adam),
    Sgd(Sgd),
}

impl AnyOptimizer {
    fn as_dyn(&mut self) -> &mut dyn Optimizer {
        match self {
            Self::Adam(adam) => adam,
            Self::Sgd(sgd) => sgd,
        }
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        match self {
            Self::Adam(adam) => adam.state(),
            Self::Sgd(sgd) => sgd.state(),
        }
    }
}

impl Options {
    /// Cross-entropy of counts, arctangent, Adam with 1e-3, mini-batches of 128, one pass.
    pub fn new() -> Self {
        Self {
            loss: Loss::CeCount,
            penalty: RatePenalty::default(),
            gradient: Gradient {
                surrogate: crate::tensor::Surrogate::Arctan { alpha: 2.0 },
                detach: true,
                decay: false,
                threshold: false,
            },
            method: Method::Adam,
            lr: 1e-3,
            weight_decay: 0.0,
            cosine: false,
            warmup: 0,
            clip: 0.0,
            dropout: 0.0,
            batch: 128,
            epochs: 1,
            held_out: 0,
            patience: 0,
        }
    }

    fn optimizer(&self) -> AnyOptimizer {
        match self.method {
            Method::AdamW => AnyOptimizer::Adam(Adam::decoupled(self.lr, self.weight_decay)),
            Method::Adam => {
                let mut adam = Adam::new(self.lr);
                adam.weight_decay = self.weight_decay;
                AnyOptimizer::Adam(adam)
            }
            Method::Sgd { momentum } => {
                let mut sgd = Sgd::new(self.lr, momentum);
                sgd.weight_decay = self.weight_decay;
                AnyOptimizer::Sgd(sgd)
            }
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Trainer<'a> {
    /// Begins to train `net`, whose population `output` has a neuron per class.
    ///
    /// # Errors
    /// Labels out of range, too few samples, and whatever [`Model::new`] refuses.
    pub fn new(
        net: Network,
        encoding: Encoding,
        output: Pop,
        data: Data<'a>,
        options: Options,
    ) -> Result<Self> {
        let classes = net.populations.get(output.0).map_or(0, |p| p.size());
        if let Some((i, label)) = data.labels.iter().enumerate().find(|&(_, &l)| usize::from(l) >= classes) {
            let what = format!("label of training sample {i}");
            return Err(Error::value(what, label, format!("below {classes}, the neurons of the output")));
        }
        let trained_on = data.labels.len().saturating_sub(options.held_out);
        if options.batch == 0 || trained_on < options.batch {
            let expected = format!("1 to the {trained_on} samples that are trained on");
            return Err(Error::value("mini-batch", options.batch, expected));
        }
        if let Encoding::Delta { .. } = encoding {
            return Err(Error::Unsupported {
                op: "training by surrogate gradients",
                on: "on signals yet".into(),
            });
        }
        // The engine refuses what it cannot run in the end; better now than after training.
        Feedforward::compile(&net, &encoding, &[])?;
        let model = Model::new(&net, output, options.loss.reads_membrane(), options.gradient)?;
        let optimizer = options.optimizer();
        Ok(Self {
            net,
            model,
            options,
            encoding,
            output,
            data,
            trained_on,
            optimizer,
            iteration: 0,
            order: vec![],
            curve: vec![],
            judged: vec![],
            best: None,
            stopped: false,
            checkpoint: None,
        })
    }

    /// Number of mini-batches in all.
    pub fn total(&self) -> usize {
        self.options.epochs * self.per_epoch()
    }

    /// Number of mini-batches that are done.
    pub fn iteration(&self) -> usize {
        self.iteration
    }

    fn per_epoch(&self) -> usize {
        self.trained_on / self.options.batch
    }

    /// The model in training.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The next mini-batch; `None` when all are done, or when no better network was found for long.
    ///
    /// # Errors
    /// [`Error::Diverged`] where the loss is not a number, with what might help and the last good checkpoint.
    pub fn step(&mut self) -> Result<Option<Step>> {
        if self.stopped || self.iteration == self.total() {
            return Ok(None);
        }
        let (place, epoch) = (self.iteration % self.per_epoch(), self.iteration / self.per_epoch());
        if place == 0 || self.order.is_empty() {
            self.shuffle(epoch as u64);
        }
        let batch = self.options.batch;
        let picked: Vec<u64> =
            self.order[place * batch..(place + 1) * batch].iter().map(|&i| u64::from(i)).collect();
        let labels: Vec<u32> = picked.iter().map(|&i| self.data.labels[i as usize].into()).collect();
        let stream = self.encoder_stream("train", epoch as u64);
        let input = self.encode(&picked, &stream)?;
        let (loss, accuracy) = self.update(&input, &labels)?;
        self.curve.push((self.iteration, loss, accuracy));
        let mut held_out = None;
        if self.iteration.is_multiple_of(self.per_epoch()) && self.options.held_out > 0 {
            held_out = Some(self.judge()?);
        }
        Ok(Some(Step { iteration: self.iteration, loss, accuracy, held_out }))
    }

    /// One step on a batch that is encoded already. Returns loss and accuracy before it.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn update(&mut self, input: &Encoded, labels: &[u32]) -> Result<(f64, f64)> {
        let (options, model) = (&self.options, &self.model);
        let targets = Tensor::from_u32(labels.to_vec(), &[labels.len()])?;
        let dropout = (options.dropout > 0.0).then(|| Dropout {
            share: options.dropout,
            stream: Stream::named(self.net.seed, "train/dropout"),
            call: self.iteration as u64,
        });
        let mut right = 0;
        let (loss, mut grads) = grad(model, || {
            let pass = model.forward(input, dropout)?;
            right = count_right(&pass.outputs, options.loss, labels)?;
            let mut loss = options.loss.of(&pass.outputs, &targets)?;
            if options.penalty.is_active() {
                for trace in &pass.hidden {
                    loss = loss.add(&options.penalty.of(&trace.spikes)?)?;
                }
            }
            Ok(loss)
        })?;
        let loss = loss.to_scalar()?;
        let norm = if options.clip > 0.0 { grads.clip_norm(options.clip)? } else { 0.0 };
        self.iteration += 1;
        if !loss.is_finite() || !norm.is_finite() {
            return Err(self.diverged(loss, norm));
        }
        let schedule = match options.cosine || options.warmup > 0 {
            true => Schedule::Cosine {
                warmup: options.warmup as u64,
                total: if options.cosine { self.total() as u64 } else { u64::MAX },
                floor: 0.01,
            },
            false => Schedule::Constant,
        };
        let optimizer = self.optimizer.as_dyn();
        optimizer.set_learning_rate(self.options.lr * schedule.factor(self.iteration as u64 - 1));
        optimizer.step(&mut self.model, &grads)?;
        if self.options.gradient.decay || self.options.gradient.threshold {
            self.model.clamp()?;
        }
        Ok((loss, right as f64 / labels.len().max(1) as f64))
    }

    fn diverged(&self, loss: f64, norm: f64) -> Error {
        let what = if loss.is_finite() {
            format!("the gradient's norm is {norm}")
        } else {
            format!("the loss is {loss}")
        };
        let kept = match &self.checkpoint {
            Some(path) => format!("the last good checkpoint is {}", path.display()),
            None => "no checkpoint was written before".into(),
        };
        Error::Diverged(format!(
            "{what} at mini-batch {}; a smaller learning rate than {} or `clip = 1.0` may help; {kept}",
            self.iteration, self.options.lr
        ))
    }

    fn shuffle(&mut self, epoch: u64) {
        self.order = (0..self.trained_on as u32).collect();
        let mut walk = Stream::named(self.net.seed, "train/order").walk(epoch);
        for last in (1..self.order.len()).rev() {
            self.order.swap(last, walk.random_range(0..=last));
        }
    }

    fn input_population(&self) -> usize {
        self.net.populations.iter().position(|p| p.model.is_none()).unwrap_or(0)
    }

    /// That of the engine: trained and judged networks see the same spikes of a sample.
    fn encoder_stream(&self, split: &str, epoch: u64) -> Stream {
        let name = &self.net.populations[self.input_population()].name;
        Stream::named(self.net.seed, &format!("encode/{name}/{split}/{epoch}"))
    }

    /// Some samples as the input population presents them.
    ///
    /// # Errors
    /// Input that does not fit.
    pub fn encode(&self, samples: &[u64], stream: &Stream) -> Result<Encoded> {
        let inputs = self.net.populations[self.input_population()].size();
        let rows = |i: &u64| *i as usize * inputs..(*i as usize + 1) * inputs;
        if let Encoding::Constant { steps } = self.encoding {
            let values: Vec<f32> = match self.data.samples {
                Input::U8(all) => {
                    samples.iter().flat_map(|i| &all[rows(i)]).map(|&x| f32::from(x) / 255.0).collect()
                }
                Input::F32(all) => samples.iter().flat_map(|i| &all[rows(i)]).copied().collect(),
                Input::Events(_) => {
                    return Err(Error::value(
                        "training samples",
                        "spike lists",
                        "intensities: the encoding is constant",
                    ));
                }
            };
            return Ok(Encoded::Constant(Tensor::from_f32(values, &[samples.len(), inputs])?, steps));
        }
        let made;
        let lists: Vec<_> = match self.data.samples {
            Input::Events(all) => samples.iter().map(|&i| &all[i as usize]).collect(),
            Input::U8(all) => {
                let some: Vec<u8> = samples.iter().flat_map(|i| &all[rows(i)]).copied().collect();
                made = encode(&self.encoding, inputs, Input::U8(&some), samples, stream)?;
                made.iter().collect()
            }
            Input::F32(all) => {
                let some: Vec<f32> = samples.iter().flat_map(|i| &all[rows(i)]).copied().collect();
                made = encode(&self.encoding, inputs, Input::F32(&some), samples, stream)?;
                made.iter().collect()
            }
        };
        let steps = self.encoding.steps();
        let rows = (0..steps).flat_map(|t| lists.iter().map(move |list| list.step(t)));
        Ok(Encoded::Spikes(Arc::new(Spikes::from_rows(&[steps, samples.len()], inputs, rows)?)))
    }

    /// Judges the held-out samples by the engine and keeps the best parameters.
    fn judge(&mut self) -> Result<f64> {
        self.model.write_back(&mut self.net)?;
        let range = self.trained_on..self.data.labels.len();
        let labels = &self.data.labels[range.clone()];
        let what = if self.options.loss.reads_membrane() { What::Membrane } else { What::Counts };
        let inputs = self.net.populations[self.input_population()].size();
        let samples = part(self.data.samples, inputs, range);
        let probe = Probe { population: self.output, what };
        let (classes, _) = classify(&self.net, &self.encoding, probe, samples, labels.len(), "train")?;
        let right = classes.iter().zip(labels).filter(|(a, b)| a == b).count();
        let accuracy = right as f64 / labels.len().max(1) as f64;
        if self.best.as_ref().is_none_or(|(best, _)| accuracy > *best) {
            self.best = Some((accuracy, self.model.parameters.clone()));
        }
        self.judged.push((self.iteration, accuracy));
        let since = self
            .judged
            .iter()
            .rev()
            .take_while(|(_, a)| self.best.as_ref().is_some_and(|(b, _)| a < b))
            .count();
        self.stopped = self.options.patience > 0 && since >= self.options.patience;
        Ok(accuracy)
    }

    /// (iteration, loss, accuracy) of the mini-batches.
    pub fn curve(&self) -> &[(usize, f64, f64)] {
        &self.curve
    }

    /// (iteration, accuracy on the held-out samples) after each pass.
    pub fn judged(&self) -> &[(usize, f64)] {
        &self.judged
    }

    /// The trained network: the best on held-out samples where there are some, else the last.
    ///
    /// # Errors
    /// What tensors return.
    pub fn finish(mut self) -> Result<Network> {
        if let Some((_, best)) = self.best.take() {
            self.model.parameters = best;
        }
        self.model.write_back(&mut self.net)?;
        Ok(self.net)
    }

    /// Writes parameters, optimiser and curves.
    ///
    /// # Errors
    /// Unwritable, disk full.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        let mut tensors = BTreeMap::new();
        for (name, tensor) in &self.model.parameters {
            tensors.insert(format!("parameter/{name}"), tensor.clone());
        }
        for (name, tensor) in self.optimizer.state()? {
            tensors.insert(format!("optimizer/{name}"), tensor);
        }
        if let Some((accuracy, best)) = &self.best {
            best.iter().for_each(|(name, tensor)| _ = tensors.insert(format!("best/{name}"), tensor.clone()));
            tensors.insert("best_accuracy".into(), Tensor::from_f64(vec![*accuracy], &[1])?);
        }
        let curve: Vec<f64> = self.curve.iter().flat_map(|&(i, l, a)| [i as f64, l, a]).collect();
        tensors.insert("curve".into(), Tensor::from_f64(curve, &[self.curve.len(), 3])?);
        let judged: Vec<f64> = self.judged.iter().flat_map(|&(i, a)| [i as f64, a]).collect();
        tensors.insert("judged".into(), Tensor::from_f64(judged, &[self.judged.len(), 2])?);
        let about = BTreeMap::from([
            ("kind".to_string(), "ransnn-surrogate".to_string()),
            ("iteration".to_string(), self.iteration.to_string()),
        ]);
        safetensors::write(path, &tensors, &about)?;
        self.checkpoint = Some(path.into());
        Ok(())
    }

    /// Continues from a saved state, as if training had not been interrupted.
    ///
    /// # Errors
    /// Damaged, or of another network.
    pub fn restore(&mut self, path: &Path) -> Result<()> {
        let damaged = |what: &str| {
            Error::data(
                path,
                format!("this checkpoint does not fit ({what}); remove it to train from the beginning"),
            )
        };
        let file = safetensors::File::open(path)?;
        let about = file.metadata();
        let iteration = about.get("iteration").and_then(|i| i.parse::<usize>().ok());
        let iteration = iteration.filter(|_| about.get("kind").is_some_and(|k| k == "ransnn-surrogate"));
        let iteration = iteration.filter(|&i| i <= self.total()).ok_or_else(|| damaged("its header"))?;
        let group = |prefix: &str| -> Result<BTreeMap<String, Tensor>> {
            let names = file.names().filter_map(|name| Some((name, name.strip_prefix(prefix)?.to_string())));
            names.map(|(name, short)| Ok((short, file.tensor(name)?))).collect()
        };
        let fits = |found: &BTreeMap<String, Tensor>| {
            found.len() == self.model.parameters.len()
                && self
                    .model
                    .parameters
                    .iter()
                    .all(|(name, t)| found.get(name).is_some_and(|f| f.meta() == t.meta()))
        };
        let parameters = group("parameter/")?;
        if !fits(&parameters) {
            return Err(damaged("other parameters"));
        }
        let best = group("best/")?;
        let best = match best.is_empty() {
            true => None,
            false if fits(&best) => Some((file.tensor("best_accuracy")?.to_scalar()?, best)),
            false => return Err(damaged("other parameters")),
        };
        let (curve, judged) = (file.tensor("curve")?.to_f64()?, file.tensor("judged")?.to_f64()?);
        let mut optimizer = self.options.optimizer();
        optimizer.as_dyn().load_state(&group("optimizer/")?)?;
        self.optimizer = optimizer;
        self.model.parameters = parameters;
        self.best = best;
        self.curve = curve.chunks_exact(3).map(|c| (c[0] as usize, c[1], c[2])).collect();
        self.judged = judged.chunks_exact(2).map(|c| (c[0] as usize, c[1])).collect();
        self.iteration = iteration;
        self.order.clear();
        if iteration % self.per_epoch() != 0 {
            self.shuffle((iteration / self.per_epoch()) as u64);
        }
        self.checkpoint = Some(path.into());
        Ok(())
    }
}

/// Samples `range` of a table.
fn part(samples: Input<'_>, width: usize, range: std::ops::Range<usize>) -> Input<'_> {
    let values = range.start * width..range.end * width;
    match samples {
        Input::U8(all) => Input::U8(&all[values]),
        Input::F32(all) => Input::F32(&all[values]),
        Input::Events(all) => Input::Events(&all[range]),
    }
}

fn largest<T: PartialOrd>(row: impl Iterator<Item = T>) -> usize {
    let mut best: Option<(usize, T)> = None;
    for (i, x) in row.enumerate() {
        if best.as_ref().is_none_or(|(_, largest)| x > *largest) {
            best = Some((i, x));
        }
    }
    best.map_or(0, |(i, _)| i)
}

fn count_right(outputs: &Tensor, loss: Loss, labels: &[u32]) -> Result<usize> {
    let (steps, classes) = (outputs.shape()[0], outputs.shape()[2]);
    let scores = match loss {
        Loss::CeMembraneLast => outputs.narrow(0, steps - 1, 1)?,
        Loss::CeMembraneMax => outputs.detach()?.max(0)?,
        _ => outputs.detach()?.sum(&[0])?,
    };
    let scores = scores.to_f32()?;
    let right = scores.chunks(classes).zip(labels).filter(|(row, l)| largest(row.iter()) == **l as usize);
    Ok(right.count())
}

/// The class of each sample by the engine: the output neuron with the largest count or last membrane.
///
/// # Errors
/// What the engine refuses.
pub fn classify(
    net: &Network,
    encoding: &Encoding,
    probe: Probe,
    samples: Input<'_>,
    count: usize,
    split: &str,
) -> Result<(Vec<u16>, Activity)> {
    let engine = Feedforward::compile(net, encoding, &[probe])?;
    let stream = engine.stream(split, 0);
    let mut recording = Recording::default();
    let mut classes = Vec::with_capacity(count);
    let mut activity = Activity { spikes: vec![0; net.populations.len()], ..Activity::default() };
    for start in (0..count).step_by(JUDGED) {
        let range = start..count.min(start + JUDGED);
        let ids: Vec<u64> = range.clone().map(|i| i as u64).collect();
        let batch = part(samples, engine.sample_len(), range);
        activity += &engine.run(batch, &ids, &stream, &mut recording)?;
        let width = recording.widths[0].max(1);
        match &recording.tables[0] {
            Table::U8(rows) => classes.extend(rows.chunks(width).map(|row| largest(row.iter()) as u16)),
            Table::U16(rows) => classes.extend(rows.chunks(width).map(|row| largest(row.iter()) as u16)),
            Table::F32(rows) => classes.extend(rows.chunks(width).map(|row| largest(row.iter()) as u16)),
        }
    }
    Ok((classes, activity))
}

/// Populations that hardly fire or fire all the time, each with its rate in spikes per neuron and step: a sign that
/// weights or thresholds do not fit.
pub fn silent_or_saturated(net: &Network, activity: &Activity, steps: usize) -> Vec<String> {
    let presented = (activity.samples * steps as u64).max(1) as f64;
    let rate = |i: usize| activity.spikes[i] as f64 / (presented * net.populations[i].size().max(1) as f64);
    let sends = |i: usize| net.projections.iter().any(|p| p.pre.0 == i && p.post.0 != i);
    let neurons = (0..net.populations.len()).filter(|&i| net.populations[i].model.is_some() && sends(i));
    neurons
        .filter_map(|i| {
            let (name, rate) = (&net.populations[i].name, rate(i));
            match rate {
                _ if rate < 1e-4 => {
                    Some(format!("`{name}` is silent: {rate:.1e} spikes per neuron and step"))
                }
                _ if rate > 0.9 => {
                    Some(format!("`{name}` is saturated: {rate:.2} spikes per neuron and step"))
                }
                _ => None,
            }
        })
        .collect()
}
