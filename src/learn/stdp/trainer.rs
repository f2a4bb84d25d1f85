//! Training without labels: batches of samples, their changes brought together, weights scaled.
//!
//! **Batches.** With a batch of 1, each sample learns on the weights that the one before left. With a batch of `B`, `B`
//! samples begin from the same weights and ϑ; each learns on a copy of its own, over all its steps; then the changes of
//! all copies are summed or averaged, in the order of the samples. (BindsNET brings changes together after every step;
//! between two samples of a batch, both do without what the other has learnt.) After each batch, weights are cut to
//! their bounds, and those of neurons that fired are scaled to their sum. Results do not depend on the number of threads.

use super::diehl_cook::{DiehlCook, Merge};
use super::present::{Constants, Layer, Table, Weights};
use super::simd::present;
use super::spikes::{Key, Spikes};
use crate::engine::Input;
use crate::error::{Error, Result};
use crate::parallel;
use crate::progress::{Progress, Unit};
use crate::rng::Stream;
use crate::snn::plasticity::Normalise;
use rand::RngExt;

/// A Diehl & Cook network in training, or trained. Between any two batches it can be saved and restored.
///
/// ```
/// use ransnn::{engine::Input, learn::stdp::{DiehlCook, Trainer}};
/// let mut trainer = Trainer::new(DiehlCook::bindsnet(16), 28 * 28, 7)?;
/// let digits = ransnn::data::strokes(0, 20, 0);
/// let ransnn::data::Samples::U8(images) = &digits.train.samples else { unreachable!() };
/// let report = trainer.train(Input::U8(images), 1, &mut ())?;
/// assert_eq!((report.samples, trainer.seen()), (20, 20));
/// assert!(report.spikes > 0);
/// # Ok::<(), ransnn::Error>(())
/// ```
#[derive(Debug)]
pub struct Trainer {
    pub(super) net: DiehlCook,
    pub(super) inputs: usize,
    pub(super) seed: u64,
    /// `[inputs, stride]`
    pub(super) weights: Vec<f32>,
    /// `[stride]`, infinite behind the last neuron.
    pub(super) shift: Vec<f32>,
    pub(super) seen: u64,
    pub(super) constants: Constants,
}

/// What happened while training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Samples presented.
    pub samples: u64,
    /// Presentations: more than samples where some were shown again.
    pub presentations: u64,
    /// Spikes of the inputs.
    pub input_spikes: u64,
    /// Spikes of the neurons, in the last presentation of each sample.
    pub spikes: u64,
    /// Samples that left all neurons silent.
    pub silent: u64,
    /// Whether the listener stopped it.
    pub interrupted: bool,
}

/// A sample and the memory to present it.
#[derive(Default)]
struct Bench {
    layer: Layer,
    spikes: Spikes,
    /// Inputs that can fire, where their weights begin, and their chances in each step.
    active: Vec<u32>,
    rows: Vec<u32>,
    intensities: Vec<f32>,
    chances: Vec<f32>,
}

/// What one sample of a batch changes.
struct Change {
    active: Vec<u32>,
    fired: Vec<u32>,
    /// `[fired, active]`
    weights: Vec<f32>,
    /// `[stride]`
    shift: Vec<f32>,
    report: Report,
}

impl Trainer {
    /// A network with random weights for so many inputs.
    ///
    /// # Errors
    /// Constants that make no sense, by name; no inputs, or more than 2³² weights.
    pub fn new(net: DiehlCook, inputs: usize, seed: u64) -> Result<Self> {
        net.validate()?;
        let constants = Constants::new(&net, seed);
        let stride = constants.stride;
        if inputs == 0 || inputs.saturating_mul(stride) > u32::MAX as usize {
            return Err(Error::value("inputs", inputs, format!("1 to {}", u32::MAX as usize / stride)));
        }
        let mut walk = Stream::named(seed, "stdp/weights").walk(0);
        let mut weights = vec![0.0; inputs * stride];
        for row in weights.chunks_exact_mut(stride) {
            row[..net.neurons].iter_mut().for_each(|w| *w = 0.3 * walk.random::<f32>());
        }
        let mut shift = vec![f32::INFINITY; stride];
        shift[..net.neurons].fill(net.first_shift);
        let mut trainer = Self { net, inputs, seed, weights, shift, seen: 0, constants };
        trainer.scale(&(0..trainer.net.neurons as u32).collect::<Vec<_>>());
        Ok(trainer)
    }

    /// The constants.
    pub fn constants(&self) -> &DiehlCook {
        &self.net
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Samples that it has learnt from.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The weights, `[inputs, neurons]`.
    pub fn weights(&self) -> Vec<f32> {
        let rows = self.weights.chunks_exact(self.constants.stride);
        rows.flat_map(|row| &row[..self.net.neurons]).copied().collect()
    }

    /// ϑ of each neuron, in mV.
    pub fn shift(&self) -> &[f32] {
        &self.shift[..self.net.neurons]
    }

    /// Learns from `images`, `[samples, inputs]`, until it has seen each `passes` times, in an order that the seed
    /// shuffles anew for each pass. A trainer that was restored goes on where it stood, with the same images. Stops
    /// after the batch in which `progress` is interrupted, and says so.
    ///
    /// # Errors
    /// Images of another size, intensities outside 0 to 1, or a network that stayed silent all the time.
    pub fn train(&mut self, images: Input<'_>, passes: usize, progress: &mut dyn Progress) -> Result<Report> {
        let n = self.samples(images)?;
        let total = n as u64 * passes as u64;
        progress.start("stdp", Some(total.saturating_sub(self.seen)), Unit::Samples);
        let mut report = Report::default();
        let mut order: Vec<u32> = vec![];
        let mut benches: Vec<Bench> = vec![];
        while self.seen < total && !report.interrupted {
            let place = (self.seen % n as u64) as usize;
            if place == 0 || order.is_empty() {
                order = self.order(n, self.seen / n as u64);
            }
            // A batch never spans two passes.
            let batch = &order[place..n.min(place + self.net.batch)];
            report += self.learn(images, batch, &mut benches);
            self.seen += batch.len() as u64;
            progress.advance(batch.len() as u64);
            report.interrupted = progress.interrupted();
        }
        progress.finish();
        if report.samples >= 100 && report.silent == report.samples {
            let text = format!(
                "no neuron fired on any of {} samples: the input is too weak for the thresholds; raise `rate`",
                report.samples
            );
            return Err(Error::Diverged(text));
        }
        Ok(report)
    }

    /// Spikes of each neuron on each of `images`, `[samples, neurons]`, without learning. `split` names the random
    /// numbers of the input spikes.
    ///
    /// # Errors
    /// As [`Trainer::train`].
    pub fn responses(&self, images: Input<'_>, split: &str) -> Result<Vec<u32>> {
        Ok(self.respond(images, split)?.0)
    }

    /// [`responses`](Self::responses), and what happened.
    ///
    /// # Errors
    /// As [`Trainer::train`].
    pub fn respond(&self, images: Input<'_>, split: &str) -> Result<(Vec<u32>, Report)> {
        const TOGETHER: usize = 32;
        let (n, neurons) = (self.samples(images)?, self.net.neurons);
        let stream = Stream::named(self.seed, &format!("stdp/input/{split}"));
        let pieces = parallel::map(n.div_ceil(TOGETHER), |piece| {
            let (mut bench, mut shift) = (Bench::default(), self.shift.clone());
            let (mut counts, mut report) = (Vec::with_capacity(TOGETHER * neurons), Report::default());
            for sample in piece * TOGETHER..n.min((piece + 1) * TOGETHER) {
                bench.choose(images, sample, self.inputs, false);
                bench.rows(|a| a * self.constants.stride as u32);
                let weights = Weights::Frozen(&self.weights);
                report += self.show(&mut bench, &stream, sample as u64, weights, &mut shift);
                counts.extend_from_slice(&bench.layer.counts[..neurons]);
            }
            (counts, report)
        });
        let (mut counts, mut report) = (Vec::with_capacity(n * neurons), Report::default());
        for (some, one) in pieces {
            counts.extend(some);
            report += one;
        }
        Ok((counts, report))
    }

    /// How many samples there are, if they are well formed.
    fn samples(&self, images: Input<'_>) -> Result<usize> {
        let len = match images {
            Input::U8(values) => values.len(),
            Input::F32(values) => {
                if let Some(at) = values.iter().position(|x| !(0.0..=1.0).contains(x)) {
                    let what = format!("intensity {} of sample {}", at % self.inputs, at / self.inputs);
                    return Err(Error::value(what, values[at], "within 0 to 1"));
                }
                values.len()
            }
            Input::Events(_) => {
                return Err(Error::Unsupported {
                    op: "the Diehl & Cook network",
                    on: "on events; give intensities".into(),
                });
            }
        };
        if len == 0 || !len.is_multiple_of(self.inputs) {
            let expected = format!("a multiple of {}, the inputs of the network", self.inputs);
            return Err(Error::value("intensities", len, expected));
        }
        Ok(len / self.inputs)
    }

    pub(super) fn order(&self, samples: usize, pass: u64) -> Vec<u32> {
        let mut order: Vec<u32> = (0..samples as u32).collect();
        let mut walk = Stream::named(self.seed, "stdp/order").walk(pass);
        for last in (1..samples).rev() {
            order.swap(last, walk.random_range(0..=last));
        }
        order
    }

    /// One batch.
    fn learn(&mut self, images: Input<'_>, batch: &[u32], benches: &mut Vec<Bench>) -> Report {
        let stream = Stream::named(self.seed, "stdp/input/train");
        benches.resize_with(benches.len().max(batch.len()), Bench::default);
        let stride = self.constants.stride;
        let mut report = Report::default();
        let mut fired: Vec<u32>;
        if let &[sample] = batch {
            let bench = &mut benches[0];
            bench.choose(images, sample as usize, self.inputs, self.constants.touches_silent());
            bench.rows(|a| a * stride as u32);
            let (mut weights, mut shift) =
                (std::mem::take(&mut self.weights), std::mem::take(&mut self.shift));
            report += self.show(bench, &stream, self.seen, Weights::Plastic(&mut weights), &mut shift);
            (self.weights, self.shift) = (weights, shift);
            fired = bench.layer.fired.clone();
            fired.sort_unstable();
        } else {
            let this = &*self;
            let mut changes: Vec<Option<Change>> = batch.iter().map(|_| None).collect();
            let work = benches.iter_mut().zip(&mut changes).zip(batch).collect();
            parallel::owned(
                work,
                |i, ((bench, change), &sample): ((&mut Bench, &mut Option<Change>), &u32)| {
                    *change = Some(this.change(bench, images, sample, &stream, this.seen + i as u64));
                },
            );
            let changes: Vec<Change> = changes.into_iter().flatten().collect();
            changes.iter().for_each(|change| report += change.report);
            fired = changes.iter().flat_map(|change| change.fired.iter().copied()).collect();
            fired.sort_unstable();
            fired.dedup();
            self.merge(&changes);
        }
        let time = self.net.presentation.0 + self.net.rest.0;
        self.net.threshold.decay(&mut self.shift[..self.net.neurons], crate::units::Ms(time));
        self.scale(&fired);
        report
    }

    /// Learns on a copy.
    fn change(
        &self,
        bench: &mut Bench,
        images: Input<'_>,
        sample: u32,
        stream: &Stream,
        number: u64,
    ) -> Change {
        let stride = self.constants.stride;
        bench.choose(images, sample as usize, self.inputs, self.constants.touches_silent());
        let mut copy = Vec::with_capacity(bench.active.len() * stride);
        bench
            .active
            .iter()
            .for_each(|&i| copy.extend_from_slice(&self.weights[i as usize * stride..][..stride]));
        bench.rows = (0..bench.active.len() as u32).map(|a| a * stride as u32).collect();
        let mut shift = self.shift.clone();
        let report = self.show(bench, stream, number, Weights::Plastic(&mut copy), &mut shift);
        shift.iter_mut().zip(&self.shift).for_each(|(new, old)| *new -= old);
        let fired = bench.layer.fired.clone();
        let mut weights = Vec::with_capacity(fired.len() * bench.active.len());
        for &j in &fired {
            let column = bench.active.iter().enumerate().map(|(a, &i)| {
                copy[a * stride + j as usize] - self.weights[i as usize * stride + j as usize]
            });
            weights.extend(column);
        }
        Change { active: bench.active.clone(), fired, weights, shift, report }
    }

    /// Adds all changes, in the order of the samples.
    fn merge(&mut self, changes: &[Change]) {
        let factor = match self.net.merge {
            Merge::Sum => 1.0,
            Merge::Mean => 1.0 / changes.len() as f32,
        };
        let stride = self.constants.stride;
        for change in changes {
            let columns = change.weights.chunks_exact(change.active.len().max(1));
            for (&j, column) in change.fired.iter().zip(columns) {
                for (&i, delta) in change.active.iter().zip(column) {
                    self.weights[i as usize * stride + j as usize] += factor * delta;
                }
            }
            let shift = &mut self.shift[..self.net.neurons];
            shift.iter_mut().zip(&change.shift).for_each(|(shift, delta)| *shift += factor * delta);
        }
    }

    /// Shows a sample, again and brighter where it is needed.
    fn show(
        &self,
        bench: &mut Bench,
        stream: &Stream,
        sample: u64,
        mut weights: Weights<'_>,
        shift: &mut [f32],
    ) -> Report {
        let mut report = Report { samples: 1, ..Report::default() };
        let chance = (self.net.rate.0 * self.net.neuron.dt.0 / 1000.0) as f32;
        bench.layer.fired.clear();
        for attempt in 0.. {
            let raised = self.net.retry.map_or(1.0, |retry| 1.0 + retry.raise * attempt as f32);
            bench.chances.clear();
            bench.chances.extend(bench.intensities.iter().map(|x| (x * chance * raised).min(1.0)));
            let key = Key { sample, attempt };
            bench.spikes.draw(stream, key, &bench.active, &bench.chances, self.constants.steps);
            let weights = match &mut weights {
                Weights::Frozen(weights) => Weights::Frozen(weights),
                Weights::Plastic(weights) => Weights::Plastic(weights),
            };
            let table = Table { weights, rows: &bench.rows };
            present(&mut bench.layer, &self.constants, &bench.spikes, key, table, shift);
            report.presentations += 1;
            report.input_spikes += bench.spikes.len() as u64;
            report.spikes = bench.layer.spikes().into();
            let again = |retry: super::diehl_cook::Retry| {
                report.spikes < u64::from(retry.least) && attempt < retry.most && bench.spikes.len() > 0
            };
            if !self.net.retry.is_some_and(again) {
                break;
            }
        }
        report.silent = u64::from(report.spikes == 0);
        report
    }

    /// Cuts and scales the weights of some neurons.
    fn scale(&mut self, columns: &[u32]) {
        let (stride, most) = (self.constants.stride, self.net.most);
        let rule = Normalise { total: self.net.total };
        for &j in columns {
            let cut = |weights: &mut [f32]| {
                weights[j as usize..].iter_mut().step_by(stride).for_each(|w| *w = w.max(0.0).min(most));
            };
            cut(&mut self.weights);
            rule.column(&mut self.weights, stride, j as usize);
            cut(&mut self.weights);
        }
    }
}

impl Bench {
    /// Takes in a sample: its inputs above 0, or all of them.
    fn choose(&mut self, images: Input<'_>, sample: usize, inputs: usize, all: bool) {
        self.active.clear();
        self.intensities.clear();
        let range = sample * inputs..(sample + 1) * inputs;
        let mut take = |i: usize, x: f32| {
            if all || x > 0.0 {
                self.active.push(i as u32);
                self.intensities.push(x);
            }
        };
        match images {
            Input::U8(values) => {
                values[range].iter().enumerate().for_each(|(i, &x)| take(i, f32::from(x) / 255.0));
            }
            Input::F32(values) => values[range].iter().enumerate().for_each(|(i, &x)| take(i, x)),
            Input::Events(_) => {}
        }
    }

    fn rows(&mut self, row: impl Fn(u32) -> u32) {
        self.rows.clear();
        self.rows.extend(self.active.iter().map(|&i| row(i)));
    }
}

impl std::ops::AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.samples += other.samples;
        self.presentations += other.presentations;
        self.input_spikes += other.input_spikes;
        self.spikes += other.spikes;
        self.silent += other.silent;
    }
}
