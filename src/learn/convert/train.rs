//! Training of an ordinary network: cross-entropy, Adam with decoupled decay, a cosine of the learning rate.

use std::cell::RefCell;

use rand::seq::SliceRandom;

use super::ann::Ann;
use super::tensor_of;
use crate::engine::Input;
use crate::error::{Error, Result};
use crate::learn::Augment;
use crate::nn::{Adam, Optimizer, Schedule, loss};
use crate::progress::Progress;
use crate::rng::Stream;
use crate::tensor::{Tensor, grad};

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

/// Trains in place. Returns the mean loss of each pass.
///
/// # Errors
/// Input that does not fit; labels beyond the outputs; [`Error::Diverged`] where the loss is not a number any more.
pub fn train(
    ann: &mut Ann,
    input: Input<'_>,
    labels: &[u16],
    training: &Training,
    augment: Option<Augment<'_>>,
    progress: &mut dyn Progress,
) -> Result<Vec<f64>> {
    let Training { epochs, batch, learning_rate, weight_decay, seed } = *training;
    if batch == 0 || batch > labels.len() {
        return Err(Error::value(
            "samples per step",
            batch,
            format!("1 to the {} training samples", labels.len()),
        ));
    }
    let (steps, len) = (labels.len() / batch, ann.input.iter().product::<usize>());
    let schedule = Schedule::Cosine { warmup: 0, total: (epochs * steps) as u64, floor: 0.0 };
    let mut adam = Adam::decoupled(learning_rate, weight_decay);
    let mut order: Vec<u32> = (0..labels.len() as u32).collect();
    let mut curve = Vec::new();
    progress.start("training", Some((epochs * steps) as u64), crate::progress::Unit::Steps);
    for epoch in 0..epochs {
        order.shuffle(&mut Stream::named(seed, "train/order").walk(epoch as u64));
        let mut sum = 0.0;
        for (step, batch_ids) in order.chunks_exact(batch).enumerate() {
            let mut pixels = Vec::with_capacity(batch * len);
            for &id in batch_ids {
                let id = id as usize;
                pixels.extend(tensor_of(input, id..id + 1, &ann.input)?.to_f32()?);
            }
            if let Some(augment) = augment {
                crate::parallel::chunks_mut(&mut pixels, len, |i, x| augment(epoch, batch_ids[i].into(), x));
            }
            let x = Tensor::from_f32(pixels, &[&[batch], &ann.input[..]].concat())?;
            let targets = batch_ids.iter().map(|&id| labels[id as usize].into()).collect();
            let targets = Tensor::from_u32(targets, &[batch])?;
            let statistics = RefCell::new(Vec::new());
            let (value, grads) =
                grad(&*ann, || loss::cross_entropy(&ann.forward_training(&x, &statistics)?, &targets))?;
            let value = value.to_scalar()?;
            if !value.is_finite() {
                let at = format!("pass {} and step {}", epoch + 1, step + 1);
                let what = format!(
                    "the loss is {value} in {at}; a smaller learning rate than {learning_rate} may help"
                );
                return Err(Error::Diverged(what));
            }
            sum += value;
            adam.set_learning_rate(learning_rate * schedule.factor((epoch * steps + step) as u64));
            adam.step(ann, &grads)?;
            ann.take_statistics(statistics.into_inner())?;
            keep_thresholds_positive(ann)?;
            progress.advance(1);
        }
        curve.push(sum / steps as f64);
    }
    progress.finish();
    Ok(curve)
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
