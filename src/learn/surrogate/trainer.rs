//! The loop: shuffled mini-batches, an optimiser, a validation split, checkpoints.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use rand::RngExt;

use super::judge::{classify, count_right, part, probe};
use super::model::{Credit, Dropout, Encoded, Model, Statistics, Trace};
use super::options::{AnyOptimizer, Checkpoint, Options};
use crate::engine::{Events, Input, Presentation, Probe, Recording, Table, What, encode};
use crate::learn::Augment;
use crate::nn::Schedule;
use crate::parallel;
use crate::rng::Stream;
use crate::snn::scan::Spikes;
use crate::snn::{Encoding, Network, Pop};
use crate::tensor::{Device, Grads, Tensor, grad};
use crate::{Error, Result};

/// Mini-batches that pass the frozen layers together: the engine compiles them for each piece of work.
const AHEAD: usize = 16;

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
pub struct Trainer<'a> {
    pub(super) net: Network,
    pub(super) model: Model,
    pub(super) options: Options,
    pub(super) encoding: Encoding,
    pub(super) output: Pop,
    pub(super) data: Data<'a>,
    trained_on: usize,
    pub(super) optimizer: AnyOptimizer,
    pub(super) iteration: usize,
    pub(super) order: Vec<u32>,
    pub(super) curve: Vec<(usize, f64, f64)>,
    pub(super) judged: Vec<(usize, f64)>,
    pub(super) best: Option<(f64, BTreeMap<String, Tensor>)>,
    pub(super) stopped: bool,
    pub(super) checkpoint: Option<PathBuf>,
    augment: Option<Augment<'a>>,
    /// The next mini-batches, as the model takes them.
    pub(super) ahead: VecDeque<Encoded>,
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
        Presentation::compile(&net, &encoding, &[])?;
        let model = Model::new(&net, output, options.loss.reads_membrane(), options.gradient)?;
        if options.credit != Credit::Bptt {
            options.check_online()?;
            model.check_online(options.credit)?;
        }
        if options.piece(options.batch) < options.batch {
            options.check_pieces()?;
        }
        if options.checkpoint != Checkpoint::None {
            options.check_stretches()?;
            model.check_stretches()?;
        }
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
            augment: None,
            ahead: VecDeque::new(),
        })
    }

    /// Changes the intensities of every sample before each presentation in training.
    pub fn augmented(self, augment: Augment<'a>) -> Self {
        Self { augment: Some(augment), ..self }
    }

    /// Goes on training on a device; the engine still judges, and the trained network comes back to main memory.
    ///
    /// # Errors
    /// Potentials in 16 bits; checkpoints in time with populations that hear themselves; as [`Model::move_to`]. The trainer
    /// stays where it was.
    pub fn move_to(&mut self, device: &Device) -> Result<()> {
        if let (Device::Cuda(_), true) = (device, self.options.gradient.half) {
            let on = format!("on {device}, with potentials in 16 bits; use the CPU");
            return Err(Error::Unsupported { op: "training by surrogate gradients", on });
        }
        if self.options.checkpoint != Checkpoint::None {
            self.model.check_stretches_on(device)?;
        }
        self.model.move_to(device)
    }

    /// Number of mini-batches in all.
    pub fn total(&self) -> usize {
        self.options.epochs * self.per_epoch()
    }

    /// Number of mini-batches that are done.
    pub fn iteration(&self) -> usize {
        self.iteration
    }

    /// Number of mini-batches of a pass.
    pub fn per_epoch(&self) -> usize {
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
        let picked = &self.order[place * batch..(place + 1) * batch];
        let labels: Vec<u32> = picked.iter().map(|&i| self.data.labels[i as usize].into()).collect();
        if self.ahead.is_empty() {
            let many = if self.is_behind() { AHEAD.min(self.per_epoch() - place) } else { 1 };
            let picked = &self.order[place * batch..(place + many) * batch];
            let picked: Vec<u64> = picked.iter().map(|&i| u64::from(i)).collect();
            let stream = self.encoder_stream("train", epoch as u64);
            self.ahead =
                self.present(&picked, batch, &stream, self.augment.map(|augment| (augment, epoch)))?;
        }
        let none = || Error::Internal("a mini-batch was not encoded".into());
        let input = self.ahead.pop_front().ok_or_else(none)?;
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
        let options = &self.options;
        let (loss, mut grads, right, statistics) = match options.credit {
            Credit::Bptt => self.backwards(input, labels)?,
            credit => {
                let found = self.model.online(credit, input, labels)?;
                let right = count_right(&found.outputs, options.loss, labels)?;
                (found.loss, found.grads, right, vec![])
            }
        };
        self.model.keep_synapses(&mut grads)?;
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
        self.model.absorb(&statistics)?;
        if self.options.gradient.decay || self.options.gradient.threshold {
            self.model.clamp()?;
        }
        Ok((loss, right as f64 / labels.len().max(1) as f64))
    }

    /// Loss, gradients, number of right samples and statistics of the batch, by back-propagation through time.
    fn backwards(&self, input: &Encoded, labels: &[u32]) -> Result<(f64, Grads, usize, Statistics)> {
        let (batch, piece) = (labels.len(), self.options.piece(labels.len()));
        if piece == batch {
            return self.through(input, labels, self.iteration as u64);
        }
        let mut all: Option<(f64, Grads, usize, Statistics)> = None;
        let count = batch.div_ceil(piece);
        for (k, labels) in labels.chunks(piece).enumerate() {
            let part = input.samples(k * piece..k * piece + labels.len())?;
            let call = (self.iteration * count + k) as u64;
            let (loss, mut grads, right, statistics) = self.through(&part, labels, call)?;
            // Losses are means over samples.
            let share = labels.len() as f64 / batch as f64;
            grads.scale(share)?;
            all = Some(match all {
                None => (loss * share, grads, right, statistics),
                Some((sum, mut grads_before, right_before, statistics)) => {
                    grads_before.accumulate(grads)?;
                    (sum + loss * share, grads_before, right_before + right, statistics)
                }
            });
        }
        all.ok_or_else(|| Error::value("mini-batch", 0, "at least 1 sample"))
    }

    /// The same of some samples at once; `call` is the number of their dropout.
    fn through(&self, input: &Encoded, labels: &[u32], call: u64) -> Result<(f64, Grads, usize, Statistics)> {
        let (options, model) = (&self.options, &self.model);
        let targets = Tensor::from_u32(labels.to_vec(), &[labels.len()])?.to_device(model.device())?;
        let dropout = (options.dropout > 0.0).then(|| Dropout {
            share: options.dropout,
            stream: Stream::named(self.net.seed, "train/dropout"),
            call,
        });
        let penalize = |loss: Tensor, hidden: &[Trace]| -> Result<Tensor> {
            let active = hidden.iter().filter(|_| options.penalty.is_active());
            active.map(|trace| options.penalty.of(&trace.spikes)).try_fold(loss, |sum, term| sum.add(&term?))
        };
        if let Some(length) = options.checkpoint.stretch(input.shape()[0]) {
            let of = |outputs: &Tensor| options.loss.of(outputs, &targets);
            let found = model.grad_in_stretches(input, dropout, length, of, penalize)?;
            let right = count_right(&found.outputs, options.loss, labels)?;
            return Ok((found.loss.to_scalar()?, found.grads, right, vec![]));
        }
        let (mut outputs, mut statistics) = (None, vec![]);
        let (loss, grads) = grad(model, || {
            let pass = model.forward_in_training(input, dropout)?;
            statistics = pass.statistics;
            outputs = Some(pass.outputs.clone());
            penalize(options.loss.of(&pass.outputs, &targets)?, &pass.hidden)
        })?;
        // After the way back is queued: only here does anybody wait for a GPU.
        let outputs = outputs.ok_or_else(|| Error::Internal("a pass had no outputs".into()))?;
        let right = count_right(&outputs, options.loss, labels)?;
        Ok((loss.to_scalar()?, grads, right, statistics))
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

    pub(super) fn shuffle(&mut self, epoch: u64) {
        self.order = (0..self.trained_on as u32).collect();
        let mut walk = Stream::named(self.net.seed, "train/order").walk(epoch);
        for last in (1..self.order.len()).rev() {
            self.order.swap(last, walk.random_range(0..=last));
        }
    }

    pub(super) fn input_population(&self) -> usize {
        self.net.populations.iter().position(|p| p.model.is_none()).unwrap_or(0)
    }

    /// That of the engine: trained and judged networks see the same spikes of a sample.
    pub(super) fn encoder_stream(&self, split: &str, epoch: u64) -> Stream {
        let name = &self.net.populations[self.input_population()].name;
        Stream::named(self.net.seed, &format!("encode/{name}/{split}/{epoch}"))
    }

    /// Some samples as the model takes them.
    ///
    /// # Errors
    /// Input that does not fit.
    pub fn encode(&self, samples: &[u64], stream: &Stream) -> Result<Encoded> {
        let mut all = self.present(samples, samples.len(), stream, None)?;
        all.pop_front().ok_or_else(|| Error::value("samples", 0, "at least 1"))
    }

    /// Whether the model begins behind frozen layers, which the engine runs.
    fn is_behind(&self) -> bool {
        self.model.source().0 != self.input_population()
    }

    /// Some samples, changed as in a pass, as the model takes them; behind frozen layers, `piece` by `piece`.
    fn present(
        &self,
        samples: &[u64],
        piece: usize,
        stream: &Stream,
        augment: Option<(Augment<'_>, usize)>,
    ) -> Result<VecDeque<Encoded>> {
        let inputs = self.net.populations[self.input_population()].size();
        let len = self.encoding.sample_len(inputs);
        let rows = |i: &u64| *i as usize * len..(*i as usize + 1) * len;
        let (source, steps, behind) = (self.model.source(), self.encoding.steps(), self.is_behind());
        let (mut bytes, mut numbers) = (vec![], vec![]);
        match self.data.samples {
            Input::Events(all) if !behind && !self.encoding.is_constant() => {
                let lists: Vec<_> = samples.iter().map(|&i| &all[i as usize]).collect();
                return Ok([self.spikes(&lists, inputs)?].into());
            }
            Input::Events(_) => {
                let expected = "intensities: the encoding is constant, or frozen layers come first";
                return Err(Error::value("training samples", "spike lists", expected));
            }
            Input::U8(all) if augment.is_some() || self.encoding.is_constant() && !behind => {
                let values = samples.iter().flat_map(|i| &all[rows(i)]);
                numbers = values.map(|&x| f32::from(x) / 255.0).collect();
            }
            Input::U8(all) => bytes = samples.iter().flat_map(|i| &all[rows(i)]).copied().collect(),
            Input::F32(all) => numbers = samples.iter().flat_map(|i| &all[rows(i)]).copied().collect(),
        }
        if let Some((augment, pass)) = augment {
            parallel::chunks_mut(&mut numbers, len, |i, x| augment(pass, samples[i], x));
        }
        let input = if bytes.is_empty() { Input::F32(&numbers) } else { Input::U8(&bytes) };
        if behind {
            let lists = spikes_of(&self.net, &self.encoding, source, input, samples, stream)?;
            let lists: Vec<&Events> = lists.iter().collect();
            let neurons = self.net.populations[source.0].size();
            return lists.chunks(piece).map(|lists| self.spikes(lists, neurons)).collect();
        }
        if self.encoding.is_constant() {
            let numbers = Tensor::from_f32(numbers, &[samples.len(), inputs])?;
            return Ok([Encoded::Constant(numbers, steps)].into());
        }
        let made = encode(&self.encoding, inputs, input, samples, stream)?;
        Ok([self.spikes(&made.iter().collect::<Vec<_>>(), inputs)?].into())
    }

    /// One list of spikes per sample as the model takes them.
    fn spikes(&self, lists: &[&Events], columns: usize) -> Result<Encoded> {
        let steps = self.encoding.steps();
        let rows = (0..steps).flat_map(|t| lists.iter().map(move |list| list.step(t)));
        Ok(Encoded::Spikes(Arc::new(Spikes::from_rows(&[steps, lists.len()], columns, rows)?)))
    }

    /// Judges the held-out samples by the engine and keeps the best parameters.
    fn judge(&mut self) -> Result<f64> {
        self.model.write_back(&mut self.net)?;
        let range = self.trained_on..self.data.labels.len();
        let labels = &self.data.labels[range.clone()];
        let inputs = self.net.populations[self.input_population()].size();
        let samples = part(self.data.samples, self.encoding.sample_len(inputs), range);
        let probe = probe(self.output, self.options.loss);
        let (classes, _) = classify(&self.net, &self.encoding, probe, samples, labels.len(), "train")?;
        let right = classes.iter().zip(labels).filter(|(a, b)| a == b).count();
        let accuracy = right as f64 / labels.len().max(1) as f64;
        if self.best.as_ref().is_none_or(|(best, _)| accuracy > *best) {
            self.best = Some((accuracy, self.model.numbers()));
        }
        self.judged.push((self.iteration, accuracy));
        self.stopped = self.is_stopped();
        Ok(accuracy)
    }

    /// Whether no better network was found for as long as was agreed.
    pub(super) fn is_stopped(&self) -> bool {
        // Of equals, the first one is kept.
        let best = self.judged.iter().fold(f64::NEG_INFINITY, |best, (_, accuracy)| best.max(*accuracy));
        let since = self.judged.iter().skip_while(|(_, accuracy)| *accuracy < best).skip(1).count();
        self.options.patience > 0 && since >= self.options.patience
    }

    /// Bytes that a mini-batch takes beside parameters and gradients: of the tape, or of the traces of online training.
    pub fn batch_bytes(&self) -> usize {
        self.options.batch_bytes(&self.model, &self.encoding)
    }

    /// (iteration, loss, accuracy) of the mini-batches.
    pub fn curve(&self) -> &[(usize, f64, f64)] {
        &self.curve
    }

    /// (iteration, accuracy on the held-out samples) after each pass.
    pub fn judged(&self) -> &[(usize, f64)] {
        &self.judged
    }

    /// Goes back to the parameters that were best on held-out samples, where there are some.
    ///
    /// # Errors
    /// What tensors return.
    pub fn take_best(&mut self) -> Result<()> {
        if let Some((_, best)) = self.best.take() {
            self.model.set_numbers(best)?;
        }
        self.model.write_back(&mut self.net)
    }

    /// The trained network: the best on held-out samples where there are some, else the last.
    ///
    /// # Errors
    /// What tensors return.
    pub fn finish(mut self) -> Result<Network> {
        self.take_best()?;
        Ok(self.net)
    }
}

/// The spikes of a population behind frozen layers, one list per sample, from the engine.
pub(in crate::learn) fn spikes_of(
    net: &Network,
    encoding: &Encoding,
    source: Pop,
    input: Input<'_>,
    samples: &[u64],
    stream: &Stream,
) -> Result<Vec<Events>> {
    let probe = Probe { population: source, what: What::Bins(encoding.steps()) };
    let engine = Presentation::compile(net, encoding, &[probe])?;
    let mut recording = Recording::default();
    engine.run(input, samples, stream, &mut recording)?;
    events_of(&recording.tables[0], encoding.steps(), net.populations[source.0].size())
}

/// Tables `[samples, steps, neurons]` of counts as one list of spikes per sample.
fn events_of(table: &Table, steps: usize, neurons: usize) -> Result<Vec<Events>> {
    /// Most neurons are silent in most steps: so many are skipped at once.
    const TOGETHER: usize = 32;
    fn row<C: Copy + Into<usize> + PartialEq + Default>(counts: &[C]) -> Vec<u32> {
        let mut fired = vec![];
        for (block, counts) in counts.chunks(TOGETHER).enumerate() {
            if counts.iter().any(|&count| count != C::default()) {
                let each = |(i, &count): (usize, &C)| {
                    std::iter::repeat_n((block * TOGETHER + i) as u32, count.into())
                };
                fired.extend(counts.iter().enumerate().flat_map(each));
            }
        }
        fired
    }
    fn lists<C>(counts: &[C], [steps, neurons]: [usize; 2]) -> Result<Vec<Events>>
    where
        C: Copy + Into<usize> + PartialEq + Default + Sync,
    {
        let sample = |i: usize| {
            let counts = &counts[i * steps * neurons..(i + 1) * steps * neurons];
            Events::new(neurons, counts.chunks_exact(neurons).map(row))
        };
        parallel::map(counts.len() / (steps * neurons), sample).into_iter().collect()
    }
    match table {
        Table::U8(counts) => lists(counts, [steps, neurons]),
        Table::U16(counts) => lists(counts, [steps, neurons]),
        Table::F32(_) => Err(Error::Internal("spikes of single steps are counts".into())),
    }
}
