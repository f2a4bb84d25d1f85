//! The loop: shuffled mini-batches of frozen spikes, presented together, changed together.
//!
//! The samples of a mini-batch begin from the same weights; the mean of their changes is added after it. Results do not
//! depend on the number of threads.

use std::collections::VecDeque;

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use super::layer::{Bench, Layer, projection};
use super::rule::Rule;
use crate::engine::{Events, Input, Presentation, Probe, Recording, Table, What};
use crate::error::{Error, Result};
use crate::learn::surrogate::{Agreement, Data, Step, spikes_of};
use crate::nn::Schedule;
use crate::parallel;
use crate::rng::Stream;
use crate::snn::plasticity::check_bounds;
use crate::snn::{Encoding, Network, Neuron, Pop};

/// Samples that pass the frozen layers together.
const AHEAD: usize = 512;
/// Samples of a mini-batch that one task presents.
const TOGETHER: usize = 4;

/// How to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// How weights change.
    pub rule: Rule,
    /// Factor on every change.
    pub rate: f64,
    /// Whether it falls along half a cosine to 1 % at the end.
    pub cosine: bool,
    /// Smallest and largest weight.
    pub bounds: [f32; 2],
    /// Samples in a mini-batch; a last incomplete one of a pass is left out.
    pub batch: usize,
    /// Passes over the samples.
    pub epochs: usize,
}

/// A readout in training. Between any two steps it can be saved and restored.
///
/// ```
/// use ransnn::{data, engine::Input, learn::{stdp::readout::{Options, Rule, Supervised, Trainer}, surrogate::Data}};
/// use ransnn::snn::{Encoding, Init, Network, Rule as Connect, builder::Precision, neurons::Lif};
/// use ransnn::units::Ms;
///
/// let mut net = Network::builder(Ms(1.0));
/// let pixels = net.input("pixels", 784);
/// let hidden = net.population("hidden", 100, Lif::default());
/// let output = net.population("output", 10, Lif::default());
/// net.connect(pixels, hidden, Connect::Dense).weights(Init::Normal { mean: 0.0, std: 0.1 }).frozen();
/// net.connect(hidden, output, Connect::Dense).precision(Precision::F32);
/// let digits = data::strokes(0, 100, 10);
/// let data::Samples::U8(images) = &digits.train.samples else { unreachable!() };
/// let data = Data { samples: Input::U8(images), labels: &digits.train.labels };
/// let rule = Rule::Supervised(Supervised::default());
/// let options = Options { rule, rate: 2e-3, cosine: true, bounds: [-1.0, 1.0], batch: 10, epochs: 2 };
/// let mut trainer = Trainer::new(net.build(1)?, Encoding::Constant { steps: 8 }, output, data, options)?;
/// while trainer.step()?.is_some() {}
/// assert_eq!(trainer.iteration(), 20);
/// let net = trainer.finish()?; // for the engine
/// # Ok::<(), ransnn::Error>(())
/// ```
pub struct Trainer<'a> {
    net: Network,
    encoding: Encoding,
    output: Pop,
    projection: usize,
    options: Options,
    data: Data<'a>,
    pub(super) layer: Layer,
    pub(super) iteration: usize,
    pub(super) curve: Vec<(usize, f64, f64)>,
    /// Of the last samples, r̄.
    pub(super) mean_reward: f64,
    /// Share of the first samples in which a source fires, `[T, sources]`, where the rule subtracts it.
    pub(super) means: Vec<f32>,
    order: Vec<u32>,
    /// Frozen spikes of the samples that come next.
    ahead: VecDeque<Events>,
}

/// What a sample of a mini-batch did.
struct Shown {
    windows: Vec<f32>,
    right: bool,
    /// Wrong spikes, or 1 − reward.
    loss: f64,
    reward: f64,
    counts: Vec<u32>,
}

impl<'a> Trainer<'a> {
    /// Prepares the readout `output` of a network whose other layers are frozen. `data` is what it learns from.
    ///
    /// # Errors
    /// By name: anything else that is trained, a projection that is not dense and f32 or, for rewards, has no bias; labels
    /// that are no neurons of the output, constants that make no sense; and what the engine refuses.
    pub fn new(
        net: Network,
        encoding: Encoding,
        output: Pop,
        data: Data<'a>,
        options: Options,
    ) -> Result<Self> {
        options.rule.validate()?;
        let projection = projection(&net, output)?;
        let layer = Layer::of(&net, projection)?;
        if let Some(i) = data.labels.iter().position(|&label| usize::from(label) >= layer.neurons) {
            let expected = format!("below {}, the neurons of the output", layer.neurons);
            return Err(Error::value(format!("label of training sample {i}"), data.labels[i], expected));
        }
        if options.batch == 0 || data.labels.len() < options.batch {
            let expected = format!("1 to the {} training samples", data.labels.len());
            return Err(Error::value("mini-batch", options.batch, expected));
        }
        if !(options.rate > 0.0 && options.rate.is_finite()) {
            return Err(Error::value("rate", options.rate, "more than 0"));
        }
        check_bounds(options.bounds.map(f64::from))?;
        if matches!(options.rule, Rule::Reward(_)) && layer.bias.is_empty() {
            let what = format!(
                "projection `{}`: it has no bias, with which learning by rewards keeps rates in balance",
                net.projections[projection].name
            );
            return Err(Error::Network(vec![what]));
        }
        Presentation::compile(&net, &encoding, &[])?;
        let classes = layer.neurons as f64;
        let mut trainer = Self {
            net,
            encoding,
            output,
            projection,
            options,
            data,
            layer,
            iteration: 0,
            curve: vec![],
            // By chance.
            mean_reward: 2.0 / classes - 1.0,
            means: vec![],
            order: vec![],
            ahead: VecDeque::new(),
        };
        if let Rule::Reward(_) = options.rule {
            trainer.means = trainer.means()?;
        }
        Ok(trainer)
    }

    fn means(&self) -> Result<Vec<f32>> {
        let samples: Vec<u64> = (0..self.data.labels.len().min(AHEAD) as u64).collect();
        let sources = self.layer.weights.len() / self.layer.stride;
        let mut means = vec![0.0; self.encoding.steps() * sources];
        for events in self.frozen(&samples, 0)? {
            for (t, means) in means.chunks_exact_mut(sources).enumerate() {
                events.step(t).iter().for_each(|&i| means[i as usize] += 1.0);
            }
        }
        means.iter_mut().for_each(|mean| *mean /= samples.len() as f32);
        Ok(means)
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
        self.data.labels.len() / self.options.batch
    }

    /// Number of trained weights and biases.
    pub fn size(&self) -> usize {
        let biased = usize::from(!self.layer.bias.is_empty());
        (self.layer.weights.len() / self.layer.stride + biased) * self.layer.neurons
    }

    /// (iteration, loss, accuracy) of the mini-batches; the loss of a sample is the number of spikes that are missing or
    /// too many, or 1 − reward.
    pub fn curve(&self) -> &[(usize, f64, f64)] {
        &self.curve
    }

    pub(super) fn go_on_at(&mut self, iteration: usize) {
        self.iteration = iteration;
        self.order.clear();
        self.ahead.clear();
    }

    /// The next mini-batch; `None` when all are done. Its accuracy is that before its change, with noise where there is some.
    ///
    /// # Errors
    /// Input that does not fit.
    pub fn step(&mut self) -> Result<Option<Step>> {
        if self.iteration == self.total() {
            return Ok(None);
        }
        let (batch, place) = (self.options.batch, self.iteration % self.per_epoch());
        let epoch = (self.iteration / self.per_epoch()) as u64;
        if place == 0 || self.order.is_empty() {
            self.order = self.shuffled(epoch);
            self.ahead.clear();
        }
        if self.ahead.is_empty() {
            let many = AHEAD.div_ceil(batch).min(self.per_epoch() - place) * batch;
            let picked: Vec<u64> = self.order[place * batch..][..many].iter().map(|&i| i.into()).collect();
            self.ahead = self.frozen(&picked, epoch)?.into();
        }
        let inputs: Vec<Events> = self.ahead.drain(..batch).collect();
        let labels: Vec<usize> = self.order[place * batch..][..batch]
            .iter()
            .map(|&i| usize::from(self.data.labels[i as usize]))
            .collect();
        let (loss, accuracy) = self.update(&inputs, &labels)?;
        Ok(Some(Step { iteration: self.iteration, loss, accuracy, held_out: None }))
    }

    /// One step on frozen spikes; returns loss and accuracy before it.
    pub(super) fn update(&mut self, inputs: &[Events], labels: &[usize]) -> Result<(f64, f64)> {
        let model = self.model()?;
        let this = &*self;
        let pieces = parallel::map(inputs.len().div_ceil(TOGETHER), |piece| {
            let mut bench = Bench::new(model);
            let range = piece * TOGETHER..inputs.len().min((piece + 1) * TOGETHER);
            range.map(|i| this.show(&inputs[i], labels[i], i, &mut bench)).collect::<Vec<Shown>>()
        });
        let shown: Vec<Shown> = pieces.into_iter().flatten().collect();
        let mean = |f: fn(&Shown) -> f64| shown.iter().map(f).sum::<f64>() / shown.len() as f64;
        let (loss, right) = (mean(|s| s.loss), mean(|s| f64::from(u8::from(s.right))));
        if let Rule::Reward(rule) = self.options.rule {
            let share = (shown.len() as f64 / rule.window as f64).min(1.0);
            self.mean_reward += share * (mean(|s| s.reward) - self.mean_reward);
        }
        let schedule = match self.options.cosine {
            true => Schedule::Cosine { warmup: 0, total: self.total() as u64, floor: 0.01 },
            false => Schedule::Constant,
        };
        let rate = self.options.rate * schedule.factor(self.iteration as u64) / inputs.len() as f64;
        let mut spikes = vec![0u32; self.layer.neurons];
        shown.iter().for_each(|s| spikes.iter_mut().zip(&s.counts).for_each(|(sum, &count)| *sum += count));
        let windows: Vec<Vec<f32>> = shown.into_iter().map(|s| s.windows).collect();
        let batch: Vec<&Events> = inputs.iter().collect();
        self.layer.learn(&batch, &windows, &self.means, rate as f32, self.options.bounds);
        if let Rule::Reward(rule) = self.options.rule {
            let steps = (inputs.len() * self.encoding.steps()) as f32;
            let rates: Vec<f32> = spikes.iter().map(|&count| count as f32 / steps).collect();
            self.layer.balance(&rates, rule.homeostasis);
        }
        self.iteration += 1;
        self.curve.push((self.iteration, loss, right));
        Ok((loss, right))
    }

    /// Presents sample `place` of the mini-batch.
    fn show(&self, input: &Events, label: usize, place: usize, bench: &mut Bench<'_>) -> Shown {
        let (n, steps, dt) = (self.layer.neurons, input.steps(), self.net.dt);
        let mut windows = vec![0.0; steps * self.layer.stride];
        match self.options.rule {
            Rule::Supervised(rule) => {
                let spikes = self.layer.present(input, &[], bench);
                let wrong = rule.windows(dt, label, &spikes, n, &mut windows);
                let counts = counts(&spikes, n);
                let right = most(&counts, |ties| ties[0]) == label;
                Shown { windows, right, loss: wrong.into(), reward: 0.0, counts }
            }
            Rule::Reward(rule) => {
                let number = self.iteration * self.options.batch + place;
                let mut walk = Stream::named(self.net.seed, "train/noise").walk(number as u64);
                let mut noise = vec![];
                if rule.noise > 0.0 {
                    let draw = || -> f32 { StandardNormal.sample(&mut walk) };
                    noise = std::iter::repeat_with(draw).take(steps * n).map(|z| rule.noise * z).collect();
                }
                let spikes = self.layer.present(input, &noise, bench);
                let counts = counts(&spikes, n);
                let chosen = most(&counts, |ties| ties[walk.random_range(0..ties.len())]);
                let reward = if chosen == label { 1.0 } else { -1.0 };
                let modulation = (reward - self.mean_reward) as f32;
                rule.windows(dt, chosen, modulation, &spikes, &counts, &mut windows);
                Shown { windows, right: chosen == label, loss: 1.0 - reward, reward, counts }
            }
        }
    }

    fn model(&self) -> Result<&dyn Neuron> {
        let model = self.net.populations[self.output.0].model.as_deref();
        model.ok_or_else(|| Error::Internal("the output has no neurons".into()))
    }

    fn shuffled(&self, epoch: u64) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.data.labels.len() as u32).collect();
        let mut walk = Stream::named(self.net.seed, "train/order").walk(epoch);
        for last in (1..order.len()).rev() {
            order.swap(last, walk.random_range(0..=last));
        }
        order
    }

    /// Spikes of the last frozen layer on some samples.
    fn frozen(&self, samples: &[u64], epoch: u64) -> Result<Vec<Events>> {
        let engine = Presentation::compile(&self.net, &self.encoding, &[])?;
        let (stream, width) = (engine.stream("train", epoch), engine.sample_len());
        let rows = |i: &u64| *i as usize * width..(*i as usize + 1) * width;
        let source = self.net.projections[self.projection].pre;
        let run = |input| spikes_of(&self.net, &self.encoding, source, input, samples, &stream);
        match self.data.samples {
            Input::U8(all) => {
                run(Input::U8(&samples.iter().flat_map(|i| &all[rows(i)]).copied().collect::<Vec<u8>>()))
            }
            Input::F32(all) => {
                run(Input::F32(&samples.iter().flat_map(|i| &all[rows(i)]).copied().collect::<Vec<f32>>()))
            }
            Input::Events(all) => {
                run(Input::Events(&samples.iter().map(|&i| all[i as usize].clone()).collect::<Vec<_>>()))
            }
        }
    }

    /// Compares what training and engine count of the readout on the first samples, without noise.
    ///
    /// # Errors
    /// Input that does not fit.
    pub fn agreement(&mut self, samples: usize) -> Result<Agreement> {
        self.layer.write_back(&mut self.net, self.projection)?;
        let ids: Vec<u64> = (0..samples.min(self.data.labels.len()) as u64).collect();
        let mut bench = Bench::new(self.model()?);
        let mut ours = vec![];
        for input in self.frozen(&ids, 0)? {
            ours.extend(counts(&self.layer.present(&input, &[], &mut bench), self.layer.neurons));
        }
        let probe = Probe { population: self.output, what: What::Counts };
        let engine = Presentation::compile(&self.net, &self.encoding, &[probe])?;
        let values = ids.len() * engine.sample_len();
        let input = match self.data.samples {
            Input::U8(all) => Input::U8(&all[..values]),
            Input::F32(all) => Input::F32(&all[..values]),
            Input::Events(all) => Input::Events(&all[..ids.len()]),
        };
        let mut recording = Recording::default();
        engine.run(input, &ids, &engine.stream("train", 0), &mut recording)?;
        let theirs: Vec<u32> = match &recording.tables[0] {
            Table::U8(counts) => counts.iter().map(|&c| c.into()).collect(),
            Table::U16(counts) => counts.iter().map(|&c| c.into()).collect(),
            Table::F32(_) => return Err(Error::Internal("counts are whole numbers".into())),
        };
        let differ = ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
        Ok(Agreement { differ, of: ours.len() })
    }

    /// The network with the trained readout.
    ///
    /// # Errors
    /// None that is not ours.
    pub fn finish(mut self) -> Result<Network> {
        self.layer.write_back(&mut self.net, self.projection)?;
        Ok(self.net)
    }
}

/// Spikes of each neuron over all steps.
fn counts(spikes: &[u8], neurons: usize) -> Vec<u32> {
    let mut counts = vec![0; neurons];
    spikes.chunks_exact(neurons).for_each(|step| {
        counts.iter_mut().zip(step).for_each(|(count, &spike)| *count += u32::from(spike));
    });
    counts
}

/// The neuron with the most spikes; where several have as many, the one that is picked.
fn most(counts: &[u32], pick: impl FnOnce(&[usize]) -> usize) -> usize {
    let largest = counts.iter().max().copied().unwrap_or(0);
    let ties: Vec<usize> = (0..counts.len()).filter(|&j| counts[j] == largest).collect();
    pick(&ties)
}
