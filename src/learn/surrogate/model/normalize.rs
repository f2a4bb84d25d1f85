//! Currents normalised over batch and steps, tdBN (arXiv:2011.05280): by the batch's own statistics in training, by running
//! means at work, which end in weights and biases.

use std::collections::BTreeMap;

use super::{Incoming, Model, bias_path, weights_path};
use crate::snn::scan::Parameters;
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// ε of the normalisation.
const EPSILON: f64 = 1e-5;
/// Weight of a batch in the running statistics.
const MOMENTUM: f64 = 0.1;

/// Name, mean, variance and numbers of a channel of each normalisation over a batch.
pub type Statistics = Vec<(String, Tensor, Tensor, usize)>;

pub(super) fn norm_path(projection: &str, what: &str) -> String {
    format!("projection.{projection}.norm.{what}")
}

impl Incoming {
    /// Adds the parameters and statistics of a normalisation. Its weight begins as the threshold.
    pub(super) fn normalize(
        &mut self,
        numbers: &Parameters,
        targets: usize,
        parameters: &mut BTreeMap<String, Tensor>,
        statistics: &mut BTreeMap<String, Tensor>,
    ) -> Result<()> {
        if !self.biased {
            let what = format!("`{}` needs a `bias`, which takes up what is normalised", self.name);
            return Err(Error::Network(vec![what]));
        }
        parameters.remove(&bias_path(&self.name));
        let channels = self.geometry.map_or(targets, |geometry| geometry.output[0]);
        let all = |x: f64| Tensor::full(&[channels], x, DType::F32);
        let threshold = numbers.threshold.to_f64()?[0];
        parameters.insert(norm_path(&self.name, "weight"), all(threshold)?);
        parameters.insert(norm_path(&self.name, "bias"), all(0.0)?);
        statistics.insert(norm_path(&self.name, "mean"), all(0.0)?);
        statistics.insert(norm_path(&self.name, "variance"), all(1.0)?);
        self.channels = Some(channels);
        Ok(())
    }
}

impl Model {
    /// The current of a projection normalised by its own statistics, which are noted.
    pub(super) fn normalized(
        &self,
        from: &Incoming,
        channels: usize,
        current: &Tensor,
        statistics: &mut Statistics,
    ) -> Result<Tensor> {
        let shape = current.shape();
        let each = shape[2] / channels;
        let [weight, bias] = ["weight", "bias"].map(|what| &self.parameters[&norm_path(&from.name, what)]);
        let rows = current.reshape(&[shape[0] * shape[1], channels, each])?;
        let [y, mean, variance] = rows.batch_norm(weight, bias, EPSILON)?;
        statistics.push((from.name.clone(), mean, variance, shape[0] * shape[1] * each));
        y.reshape(shape)
    }

    /// Weights and biases of a normalised projection with the running statistics in them.
    pub(super) fn folded(&self, from: &Incoming) -> Result<(Tensor, Tensor)> {
        let of = |map: &BTreeMap<String, Tensor>, what: &str| map[&norm_path(&from.name, what)].clone();
        let deviation = of(&self.statistics, "variance").add_scalar(EPSILON)?.sqrt()?;
        let factor = of(&self.parameters, "weight").div(&deviation)?;
        let bias = of(&self.parameters, "bias").sub(&of(&self.statistics, "mean").mul(&factor)?)?;
        let weights = &self.parameters[&weights_path(&from.name)];
        let factor = match from.geometry {
            Some(_) => factor.reshape(&[factor.len(), 1, 1, 1])?,
            // A channel of targets has one factor.
            None => {
                let (targets, channels) = (weights.shape()[1], factor.len());
                let each = factor.reshape(&[channels, 1])?.broadcast_to(&[channels, targets / channels])?;
                each.reshape(&[targets])?
            }
        };
        Ok((weights.mul(&factor)?, bias))
    }

    /// Moves the running statistics towards those of a batch.
    ///
    /// # Errors
    /// What tensors return.
    pub fn absorb(&mut self, statistics: &[(String, Tensor, Tensor, usize)]) -> Result<()> {
        for (name, mean, variance, count) in statistics {
            // As PyTorch: the running variance is that of a sample.
            let unbiased = *count as f64 / (*count as f64 - 1.0).max(1.0);
            for (what, new, factor) in [("mean", mean, 1.0), ("variance", variance, unbiased)] {
                let running = self.statistics.get_mut(&norm_path(name, what));
                let running = running.ok_or_else(|| Error::Internal("statistics were lost".into()))?;
                *running = running.mul_scalar(1.0 - MOMENTUM)?.add(&new.mul_scalar(MOMENTUM * factor)?)?;
            }
        }
        Ok(())
    }
}
