//! The trainers of an experiment: one file each, and what they share.
//!
//! | file | idea |
//! |---|---|
//! | `ransnn` | frozen layers, a readout on their features |
//! | `surrogate` | back-propagation through time |
//! | `convert` | an ordinary network that becomes a spiking one |
//! | `stdp` | Diehl & Cook, without labels |
//! | `stdp_readout` | a spiking readout of frozen layers by the times of spikes |
//! | `config`, `check` | the tables of an experiment file |
//! | `show` | what the report shows of a network |

mod check;
pub mod config;
mod convert;
mod ransnn;
mod show;
mod stdp;
mod stdp_readout;
mod surrogate;

use super::build;
use super::config::{Config, Neuron, On, Train};
use super::device::Device;
use super::run_dir::RunDir;
use super::summary::{Parameters, Seconds, Seed};
use crate::data::{self, Dataset, Samples, Split};
use crate::engine::{Activity, Input, Probe};
use crate::error::{Error, Result};
use crate::learn::ransnn::calibrate;
use crate::learn::surrogate::{Agreement, Step, classify, silent_or_saturated};
use crate::progress::{Progress, Unit};
use crate::report::{Example, Layer, Part, Picture, Plot, Series, Tile};
use crate::snn::neurons::Lif;
use crate::snn::{Encoding, Network};
use crate::tensor::{Tensor, safetensors};
use config::Augment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Samples on which gains and the range of counts are calibrated.
const CALIBRATION: usize = 256;
/// Samples that go through the engine at once.
const BATCH: usize = 512;
/// Samples on which training and engine are compared.
const COMPARED: usize = 256;
/// Share of spike counts that may differ where a constant input is summed in another order.
const ROUNDING: f64 = 1e-3;
/// Training samples whose accuracy is measured where all of them would take long.
const JUDGED: usize = 10_000;

/// One seed of an experiment.
pub(super) struct Job<'a> {
    pub config: &'a Config,
    pub data: &'a Dataset,
    pub seed: u64,
    pub run_dir: &'a RunDir,
    pub progress: &'a mut (dyn Progress + Send),
    /// What the run has; what a trainer makes no use of, it sets to the CPU.
    pub device: Device,
}

/// The result of one seed, as it is kept for resuming and for the report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub result: Seed,
    pub parameters: Parameters,
    /// `[true class, predicted class]`, row-major.
    pub confusion: Vec<u64>,
    /// What the reader must know.
    pub notices: Vec<String>,
    /// What the trainer found beside the accuracy, line by line.
    pub details: Vec<String>,
    /// Where the work was done.
    pub device: String,
    pub shown: Shown,
}

/// What the report shows of a seed beside its figures; empty for all seeds but the first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Shown {
    pub subtitle: String,
    pub tiles: Vec<Tile>,
    pub curves: Vec<Plot>,
    pub pictures: Vec<Picture>,
    pub layers: Vec<Layer>,
    pub examples: Vec<Example>,
    pub memory: Vec<Part>,
}

/// What a trainer hands over at its end. Counts are over all test samples.
struct Ending {
    predicted: Vec<u16>,
    train_accuracy: f64,
    lambda: Option<f64>,
    spikes: u64,
    synaptic_operations: u64,
    analogue_operations: u64,
    seconds: Seconds,
    parameters: Parameters,
    notices: Vec<String>,
    details: Vec<String>,
    shown: Shown,
}

/// What the engine makes of a trained network.
struct Verdict {
    train_accuracy: f64,
    /// Of the test samples.
    predicted: Vec<u16>,
    activity: Activity,
    notices: Vec<String>,
}

impl Job<'_> {
    pub(super) fn run(&mut self) -> Result<Outcome> {
        match &self.config.train {
            Train::Ransnn { solver } => self.ransnn(solver),
            Train::Surrogate(train) => self.surrogate(train),
            Train::Convert(train) => self.convert(train),
            Train::Stdp(train) => self.stdp(train),
            Train::StdpReadout(train) => self.stdp_readout(train),
        }
    }

    /// The network of the experiment, drawn and calibrated.
    fn network(&self) -> Result<Network> {
        let (config, data) = (self.config, self.data);
        let mut net = build::network(config, self.seed)?;
        let samples = CALIBRATION.min(data.train.len());
        let batch = input(&data.train, data.features(), 0..samples);
        calibrate(&mut net, &build::encoding(config), &build::tuning(config), batch, samples)?;
        Ok(net)
    }

    /// Whether the report shows this seed.
    fn is_shown(&self) -> bool {
        self.seed == self.config.seed
    }

    /// What is called test here.
    fn judged_on(&self) -> &'static str {
        if self.config.eval.on == On::Test { "test" } else { "validation" }
    }

    /// The first samples of a split.
    fn samples<'s>(&self, split: &'s Split, count: usize) -> Input<'s> {
        input(split, self.data.features(), 0..count)
    }

    /// Judges a trained network by the largest number that `probe` reads, on some training samples and on the test set.
    fn judge(&mut self, net: &Network, encoding: &Encoding, probe: Probe) -> Result<Verdict> {
        let data = self.data;
        let judged = data.train.len().min(JUDGED);
        self.progress.start("test", None, Unit::Samples);
        let seen = self.samples(&data.train, judged);
        let (guesses, _) = classify(net, encoding, probe, seen, judged, "train")?;
        let train_accuracy = share(&guesses, &data.train.labels[..judged]);
        self.check_interrupt()?;
        let unseen = self.samples(&data.test, data.test.len());
        let (predicted, activity) = classify(net, encoding, probe, unseen, data.test.len(), "test")?;
        self.progress.finish();
        let notices = silent_or_saturated(net, &activity, encoding.steps(), &[]);
        Ok(Verdict { train_accuracy, predicted, activity, notices })
    }

    fn check_interrupt(&self) -> Result<()> {
        if self.progress.interrupted() { Err(self.interrupted()) } else { Ok(()) }
    }

    fn interrupted(&self) -> Error {
        Error::Interrupted { checkpoint: Some(self.run_dir.path().to_path_buf()) }
    }

    /// Writes `model-<seed>.safetensors`: trained weights, gains, and leaks and thresholds, `population.NAME.decay` and
    /// `.threshold`.
    fn write_model(&self, net: &Network) -> Result<()> {
        let mut tensors = BTreeMap::new();
        for tensor in net.tensors() {
            tensors.insert(tensor.name.clone(), Tensor::from_f32(tensor.values.to_vec(), &tensor.shape)?);
        }
        for population in &net.populations {
            let lif = population.model.as_ref().and_then(|model| model.as_any().downcast_ref::<Lif>());
            if let Some(lif) = lif {
                for (what, value) in [("decay", lif.decay), ("threshold", lif.threshold)] {
                    let name = format!("population.{}.{what}", population.name);
                    tensors.insert(name, Tensor::from_f32(vec![value], &[1])?);
                }
            }
        }
        let about = serde_json::json!({
            "kind": "ransnn-network", "version": env!("CARGO_PKG_VERSION"), "seed": self.seed
        });
        let about = BTreeMap::from([("ransnn".to_string(), about.to_string())]);
        safetensors::write(&self.run_dir.file(&format!("model-{}.safetensors", self.seed)), &tensors, &about)
    }

    /// How images are changed in training, and their shape; nothing where the file says nothing.
    ///
    /// # Errors
    /// Samples that are no images.
    fn augment(&self, augment: Augment, path: &str) -> Result<Option<(data::Augment, [usize; 3])>> {
        let Some(augment) = augment.of_library(self.seed) else { return Ok(None) };
        match *self.data.shape.as_slice() {
            [channels, height, width] => Ok(Some((augment, [channels, height, width]))),
            _ => {
                let what = format!("samples of shape {:?}", self.data.shape);
                Err(Error::value(path, what, "for [channels, height, width]"))
            }
        }
    }

    /// Compares predictions with labels; writes the last line of the metrics.
    fn outcome(&self, ending: Ending) -> Result<Outcome> {
        let (data, classes) = (self.data, self.data.classes);
        let mut confusion = vec![0u64; classes * classes];
        for (&label, &class) in data.test.labels.iter().zip(&ending.predicted) {
            confusion[usize::from(label) * classes + usize::from(class)] += 1;
        }
        let per_sample = |total: u64| total as f64 / data.test.len().max(1) as f64;
        let result = Seed {
            seed: self.seed,
            test_accuracy: share(&ending.predicted, &data.test.labels),
            train_accuracy: ending.train_accuracy,
            lambda: ending.lambda,
            spikes_per_sample: per_sample(ending.spikes),
            synaptic_operations_per_sample: per_sample(ending.synaptic_operations),
            analogue_operations_per_sample: per_sample(ending.analogue_operations),
            seconds: ending.seconds,
        };
        self.run_dir.metric(serde_json::json!({
            "seed": self.seed, "split": self.judged_on(),
            "accuracy": result.test_accuracy, "spikes_per_sample": result.spikes_per_sample,
        }))?;
        let Ending { parameters, notices, details, shown, .. } = ending;
        let device = self.device.to_string();
        Ok(Outcome { result, parameters, confusion, notices, details, device, shown })
    }
}

/// For a trainer.
fn changes((augment, shape): (data::Augment, [usize; 3])) -> impl Fn(usize, u64, &mut [f32]) + Sync {
    // Bounds were checked with the file, and the shape is that of the data.
    move |pass, sample, pixels| _ = augment.apply(shape, pass, sample, pixels)
}

/// The table of a trainer in an experiment file, and whether a GPU can do its work.
pub(super) fn trainer(train: &Train) -> (&'static str, bool) {
    match train {
        Train::Ransnn { .. } => ("[train.ransnn]", true),
        Train::Surrogate(_) => ("[train.surrogate]", true),
        Train::Convert(_) => ("[train.convert]", false),
        Train::Stdp(_) => ("[train.stdp]", false),
        Train::StdpReadout(_) => ("[train.stdp-readout]", false),
    }
}

/// What says how many numbers a sample has, and how many.
pub(super) fn input_size(config: &Config) -> Option<(String, usize)> {
    match &config.train {
        Train::Ransnn { .. } | Train::Surrogate(_) | Train::StdpReadout(_) => {
            let mut inputs = config.population.iter().filter(|(_, p)| p.neuron == Neuron::Input);
            let (name, population) = inputs.next()?;
            Some((format!("population.{name}"), population.shape.dims().iter().product()))
        }
        Train::Convert(train) => Some(("train.convert.input".into(), train.input.iter().product())),
        Train::Stdp(train) => Some(("train.stdp.input".into(), train.input.iter().product())),
    }
}

/// A training in mini-batches that can be saved and restored.
trait Steps {
    fn total(&self) -> usize;
    fn iteration(&self) -> usize;
    fn per_epoch(&self) -> usize;
    fn step(&mut self) -> Result<Option<Step>>;
    fn save(&mut self, path: &Path) -> Result<()>;
    fn restore(&mut self, path: &Path) -> Result<()>;
}

macro_rules! steps {
    ($trainer:ty) => {
        impl Steps for $trainer {
            fn total(&self) -> usize {
                self.total()
            }
            fn iteration(&self) -> usize {
                self.iteration()
            }
            fn per_epoch(&self) -> usize {
                self.per_epoch()
            }
            fn step(&mut self) -> Result<Option<Step>> {
                self.step()
            }
            fn save(&mut self, path: &Path) -> Result<()> {
                self.save(path)
            }
            fn restore(&mut self, path: &Path) -> Result<()> {
                self.restore(path)
            }
        }
    };
}

steps!(crate::learn::surrogate::Trainer<'_>);
steps!(crate::learn::stdp::readout::Trainer<'_>);

impl Job<'_> {
    /// Mini-batch after mini-batch, from the last checkpoint if there is one.
    fn each_step(&mut self, trainer: &mut dyn Steps, name: &str) -> Result<()> {
        let checkpoint = self.run_dir.file(&format!("checkpoints/{name}-{}.safetensors", self.seed));
        if checkpoint.is_file() {
            trainer.restore(&checkpoint)?;
        }
        self.run_dir.forget_metrics(self.seed, trainer.iteration())?;
        let left = trainer.total() - trainer.iteration();
        self.progress.start("training", Some(left as u64), Unit::Steps);
        let (per_epoch, every) = (trainer.per_epoch(), self.config.run.checkpoint_every.max(1));
        while let Some(step) = trainer.step()? {
            self.progress.advance(1);
            let last = step.iteration % per_epoch == 0;
            let epoch = step.iteration as f64 / per_epoch as f64;
            if last || step.iteration % 10 == 0 {
                self.run_dir.metric(serde_json::json!({
                    "seed": self.seed, "step": step.iteration, "epoch": epoch, "split": "train", "loss": step.loss,
                    "accuracy": step.accuracy,
                }))?;
            }
            if let Some(accuracy) = step.held_out {
                self.run_dir.metric(serde_json::json!({
                    "seed": self.seed, "step": step.iteration, "epoch": epoch, "split": "held out",
                    "accuracy": accuracy,
                }))?;
            }
            let interrupted = self.progress.interrupted();
            if last || interrupted || step.iteration % every == 0 {
                trainer.save(&checkpoint)?;
            }
            if interrupted {
                return Err(self.interrupted());
            }
        }
        self.progress.finish();
        Ok(())
    }
}

/// Part of a split, as the engine takes it.
fn input(split: &Split, features: usize, range: std::ops::Range<usize>) -> Input<'_> {
    let values = range.start * features..range.end * features;
    match &split.samples {
        Samples::U8(all) => Input::U8(&all[values]),
        Samples::F32(all) => Input::F32(&all[values]),
    }
}

/// Share of predictions that are right.
fn share(predicted: &[u16], labels: &[u16]) -> f64 {
    let right = predicted.iter().zip(labels).filter(|(a, b)| a == b).count();
    right as f64 / labels.len().max(1) as f64
}

/// Refuses what training and engine count differently, but for rounding where a `constant` input is summed.
fn agree(found: Agreement, constant: bool) -> Result<Agreement> {
    let most = if constant { (found.of as f64 * ROUNDING).ceil() as usize } else { 0 };
    if found.differ > most {
        let what = format!("{} of {} spike counts of training and engine differ", found.differ, found.of);
        return Err(Error::Internal(what));
    }
    Ok(found)
}

fn in_words(Agreement { differ, of }: Agreement) -> String {
    match differ {
        0 => format!("spikes in training and engine: all of {of} counts are equal"),
        n => format!(
            "spikes in training and engine: {n} of {of} counts differ, by rounding of constant inputs"
        ),
    }
}

/// Loss and accuracy of mini-batches (iteration, loss, accuracy), and of held-out samples (iteration, accuracy).
fn curve_plots(curve: &[(usize, f64, f64)], held_out: &[(usize, f64)]) -> Vec<Plot> {
    /// More points than this cannot be told apart.
    const POINTS: usize = 400;
    if curve.is_empty() {
        return vec![];
    }
    let piece = curve.len().div_ceil(POINTS);
    let of = |f: fn(&(usize, f64, f64)) -> f64| -> Vec<(f64, f64)> {
        let mean = |some: &[(usize, f64, f64)]| some.iter().map(f).sum::<f64>() / some.len() as f64;
        curve.chunks(piece).map(|some| (some[some.len() - 1].0 as f64, mean(some))).collect()
    };
    let plot = |title: &str, y_label: &str, series| Plot {
        title: title.into(),
        x_label: "iteration".into(),
        y_label: y_label.into(),
        log_x: false,
        series,
    };
    let mut accuracy = vec![Series::new("training", of(|p| 100.0 * p.2))];
    if !held_out.is_empty() {
        let points = held_out.iter().map(|&(i, a)| (i as f64, 100.0 * a));
        accuracy.push(Series::new("held out", points.collect::<Vec<_>>()));
    }
    vec![
        plot("Loss of the mini-batches", "loss", vec![Series::new("training", of(|p| p.1))]),
        plot("Accuracy on the mini-batches", "accuracy / %", accuracy),
    ]
}
