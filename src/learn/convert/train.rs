//! Training of an ordinary network: cross-entropy, Adam with decoupled decay, a cosine of the learning rate.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use rand::seq::SliceRandom;

use super::ann::Ann;
use super::tensor_of;
use crate::engine::Input;
use crate::error::{Error, Result};
use crate::learn::Augment;
use crate::nn::{Adam, Optimizer, Schedule, loss};
use crate::progress::{Progress, Unit};
use crate::rng::Stream;
use crate::tensor::{DType, Tensor, grad, recorded, safetensors};

/// How long and how fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    /// Passes over the samples.
    pub epochs: usize,
    /// Samples per step; what is left over at the end of a pass is not used in it.
    pub batch: usize,
    /// Largest learning rate; it falls to 0 along half a cosine.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Keys the order of the samples.
    pub seed: u64,
}

impl Default for Training {
    fn default() -> Self {
        Self { epochs: 10, batch: 128, learning_rate: 2e-3, weight_decay: 1e-4, seed: 0 }
    }
}

/// An ordinary network in training. Between any two passes it can be saved and restored.
pub struct Trainer<'a> {
    /// As it is now.
    pub ann: Ann,
    input: Input<'a>,
    labels: &'a [u16],
    training: Training,
    augment: Option<Augment<'a>>,
    adam: Adam,
    curve: Vec<f64>,
}

impl<'a> Trainer<'a> {
    /// Begins to train a network.
    ///
    /// # Errors
    /// A mini-batch larger than the training set, or of no samples.
    pub fn new(
        ann: Ann,
        input: Input<'a>,
        labels: &'a [u16],
        training: Training,
        augment: Option<Augment<'a>>,
    ) -> Result<Self> {
        if training.batch == 0 || training.batch > labels.len() {
            let expected = format!("1 to the {} training samples", labels.len());
            return Err(Error::value("samples per step", training.batch, expected));
        }
        let adam = Adam::decoupled(training.learning_rate, training.weight_decay);
        Ok(Self { ann, input, labels, training, augment, adam, curve: vec![] })
    }

    /// Number of steps in a pass.
    pub fn per_epoch(&self) -> usize {
        self.labels.len() / self.training.batch
    }

    /// Mean loss of each pass so far.
    pub fn curve(&self) -> &[f64] {
        &self.curve
    }

    /// The next pass; returns its mean loss, or nothing when all are done.
    ///
    /// # Errors
    /// Input that does not fit; labels beyond the outputs; [`Error::Diverged`] where the loss is not a number any more;
    /// [`Error::Interrupted`] where the listener asks for it: the pass is then to be begun again, from what was saved.
    pub fn pass(&mut self, progress: &mut dyn Progress) -> Result<Option<f64>> {
        let Training { epochs, batch, learning_rate, seed, .. } = self.training;
        let (epoch, steps) = (self.curve.len(), self.per_epoch());
        if epoch == epochs {
            return Ok(None);
        }
        let schedule = Schedule::Cosine { warmup: 0, total: (epochs * steps) as u64, floor: 0.0 };
        let mut order: Vec<u32> = (0..self.labels.len() as u32).collect();
        order.shuffle(&mut Stream::named(seed, "train/order").walk(epoch as u64));
        let mut sum = 0.0;
        for (step, ids) in order.chunks_exact(batch).enumerate() {
            if progress.interrupted() {
                return Err(Error::Interrupted { checkpoint: None });
            }
            let x = self.samples(ids, epoch)?;
            let targets = ids.iter().map(|&id| self.labels[id as usize].into()).collect();
            let targets = Tensor::from_u32(targets, &[batch])?;
            let statistics = RefCell::new(Vec::new());
            let ann = &self.ann;
            let (value, grads) =
                grad(ann, || loss::cross_entropy(&ann.forward_training(&x, &statistics)?, &targets))?;
            let value = value.to_scalar()?;
            if !value.is_finite() {
                let at = format!("pass {} and step {}", epoch + 1, step + 1);
                let what = format!(
                    "the loss is {value} in {at}; a smaller learning rate than {learning_rate} may help"
                );
                return Err(Error::Diverged(what));
            }
            sum += value;
            self.adam.set_learning_rate(learning_rate * schedule.factor((epoch * steps + step) as u64));
            self.adam.step(&mut self.ann, &grads)?;
            self.ann.take_statistics(statistics.into_inner())?;
            keep_thresholds_positive(&mut self.ann)?;
            progress.advance(1);
        }
        self.curve.push(sum / steps as f64);
        Ok(self.curve.last().copied())
    }

    /// Some samples, changed as in a pass.
    fn samples(&self, ids: &[u32], pass: usize) -> Result<Tensor> {
        let shape = &self.ann.input;
        let len = shape.iter().product::<usize>();
        let mut pixels = Vec::with_capacity(ids.len() * len);
        for &id in ids {
            let id = id as usize;
            pixels.extend(tensor_of(self.input, id..id + 1, shape)?.to_f32()?);
        }
        if let Some(augment) = self.augment {
            crate::parallel::chunks_mut(&mut pixels, len, |i, x| augment(pass, ids[i].into(), x));
        }
        Tensor::from_f32(pixels, &[&[ids.len()], &shape[..]].concat())
    }

    /// Writes parameters, statistics, the optimiser and the losses.
    ///
    /// # Errors
    /// Unwritable, disk full.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut tensors = BTreeMap::new();
        for (name, tensor) in self.ann.tensors() {
            tensors.insert(format!("ann/{name}"), tensor);
        }
        for (name, tensor) in self.adam.state()? {
            tensors.insert(format!("optimizer/{name}"), tensor);
        }
        tensors.insert("curve".into(), Tensor::from_f64(self.curve.clone(), &[self.curve.len()])?);
        let about = BTreeMap::from([("kind".to_string(), "ransnn-ann".to_string())]);
        safetensors::write_summed(path, &tensors, &about)
    }

    /// Continues from a saved state, as if training had not been interrupted.
    ///
    /// # Errors
    /// Damaged, be it by one bit, or of another network.
    pub fn restore(&mut self, path: &Path) -> Result<()> {
        let damaged = |what: &str| {
            let help = "remove it to train from the beginning";
            Error::data(path, format!("this checkpoint does not fit ({what}); {help}"))
        };
        let file = safetensors::File::open(path)?;
        file.check_sum()?;
        if file.metadata().get("kind").is_none_or(|kind| kind != "ransnn-ann") {
            return Err(damaged("its header"));
        }
        let curve = file.tensor("curve")?.to_f64()?;
        if curve.len() > self.training.epochs {
            return Err(damaged("more passes than there are"));
        }
        self.ann.set_tensors(&file.group("ann/")?).map_err(|_| damaged("other parameters"))?;
        self.adam.load_state(&file.group("optimizer/")?)?;
        self.curve = curve;
        Ok(())
    }
}

/// Trains in place. Returns the mean loss of each pass.
///
/// # Errors
/// As [`Trainer::new`] and [`Trainer::pass`].
pub fn train(
    ann: &mut Ann,
    input: Input<'_>,
    labels: &[u16],
    training: &Training,
    augment: Option<Augment<'_>>,
    progress: &mut dyn Progress,
) -> Result<Vec<f64>> {
    let mut trainer = Trainer::new(ann.clone(), input, labels, *training, augment)?;
    progress.start("training", Some((training.epochs * trainer.per_epoch()) as u64), Unit::Steps);
    while trainer.pass(progress)?.is_some() {}
    progress.finish();
    *ann = trainer.ann;
    Ok(trainer.curve)
}

/// Bytes that the tape keeps of a mini-batch until the way back.
///
/// # Errors
/// Layers that do not fit.
pub fn activation_bytes(ann: &Ann, batch: usize) -> Result<usize> {
    let x = Tensor::zeros(&[&[batch], &ann.input[..]].concat(), DType::F32)?;
    let targets = Tensor::from_u32(vec![0; batch], &[batch])?;
    let (statistics, mut kept) = (RefCell::new(Vec::new()), 0);
    grad(ann, || {
        let loss = loss::cross_entropy(&ann.forward_training(&x, &statistics)?, &targets)?;
        kept = recorded().map_or(0, |tape| tape.bytes);
        Ok(loss)
    })?;
    Ok(kept)
}

/// A threshold at or below 0 would turn its layer off for good.
fn keep_thresholds_positive(ann: &mut Ann) -> Result<()> {
    for (_, layer) in &mut ann.layers {
        if let super::Layer::Qcfs { theta, .. } = layer
            && theta.to_scalar()? < 1e-3
        {
            *theta = Tensor::from_f32(vec![1e-3], &[1])?;
        }
    }
    Ok(())
}
