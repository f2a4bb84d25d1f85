//! Losses on spikes and membranes of an output population, and terms that keep firing rates in bounds.

use crate::tensor::{DType, Device, Tensor};
use crate::{Error, Result};

/// What training makes small. Spikes `s` and membranes `u` are `[T, B, C]`; CE is cross-entropy with the softmax.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Mean over steps of `CE(s[t])`: snnTorch's `ce_rate_loss`.
    CeRate,
    /// `CE(Σ s[t])`: `ce_count_loss`.
    CeCount,
    /// `CE(mean of s[t])`: SpikingJelly's examples.
    CeMeanRate,
    /// Mean over steps of `CE(u[t])`.
    CeMembrane,
    /// CE(max over steps of u); the gradient goes to that step: `ce_max_membrane_loss`.
    CeMembraneMax,
    /// CE(u of the last step).
    CeMembraneLast,
    /// CE(mean of u).
    CeMembraneMean,
    /// Mean over steps of `(1 − λ) CE(u[t]) + λ · mean over outputs of (u[t] − target)²`: temporal efficient training
    /// (Deng et al. 2022, arXiv:2202.11946, eq. 12).
    Tet {
        /// λ, 0 to 1.
        lambda: f64,
        /// What all outputs are drawn to, the threshold as a rule.
        target: f64,
    },
    /// Squared distance of counts from those of a right and of a wrong class, mean over outputs, over T:
    /// `mse_count_loss`. Wanted counts are rates times T, rounded down.
    MseCount {
        /// Rate of the right class.
        correct: f64,
        /// Rate of the others.
        incorrect: f64,
    },
    /// Squared distance of mean rates from one-hot.
    MseRate,
}

impl Loss {
    /// Whether it reads membranes and not spikes.
    pub fn reads_membrane(self) -> bool {
        match self {
            Self::CeMembrane | Self::CeMembraneMax | Self::CeMembraneLast | Self::CeMembraneMean => true,
            Self::Tet { .. } => true,
            Self::CeRate | Self::CeCount | Self::CeMeanRate | Self::MseCount { .. } | Self::MseRate => false,
        }
    }

    /// The loss of outputs `[T, B, C]`, membranes or spikes as [`reads_membrane`](Self::reads_membrane) says, for labels
    /// `[B]` of u32.
    ///
    /// ```
    /// use ransnn::{learn::surrogate::Loss, tensor::Tensor};
    /// let spikes = Tensor::from_f32(vec![1.0, 0.0, 1.0, 1.0], &[2, 1, 2])?;
    /// let labels = Tensor::from_u32(vec![0], &[1])?;
    /// let loss = Loss::CeCount.of(&spikes, &labels)?.to_scalar()?;
    /// assert!((loss - (1.0 + (-1f64).exp()).ln()).abs() < 1e-6); // counts 2 and 1
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Shapes that do not fit, a label that is no class.
    pub fn of(self, outputs: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let &[steps, batch, classes] = outputs.shape() else {
            return Err(Error::value("shape of the outputs", format!("{:?}", outputs.shape()), "[T, B, C]"));
        };
        match self {
            Self::CeRate | Self::CeMembrane => {
                // The mean over all steps and samples, with the labels of the batch at every step.
                let labels = labels.reshape(&[1, batch])?.broadcast_to(&[steps, batch])?;
                outputs.reshape(&[steps * batch, classes])?.cross_entropy(&labels.reshape(&[steps * batch])?)
            }
            Self::Tet { lambda, target } => {
                let entropy = Self::CeMembrane.of(outputs, labels)?.mul_scalar(1.0 - lambda)?;
                let difference = outputs.affine(1.0, -target)?;
                entropy.add(&difference.mul(&difference)?.mean_all()?.mul_scalar(lambda)?)
            }
            Self::CeCount => outputs.sum(&[0])?.cross_entropy(labels),
            Self::CeMeanRate | Self::CeMembraneMean => outputs.mean(&[0])?.cross_entropy(labels),
            Self::CeMembraneMax => outputs.max(0)?.cross_entropy(labels),
            Self::CeMembraneLast => {
                outputs.narrow(0, steps - 1, 1)?.reshape(&[batch, classes])?.cross_entropy(labels)
            }
            Self::MseCount { correct, incorrect } => {
                let counts = [correct, incorrect].map(|rate| (rate * steps as f64).floor());
                let target = targets(labels, classes, counts, outputs.dtype())?;
                let difference = outputs.sum(&[0])?.sub(&target)?;
                difference.mul(&difference)?.mean_all()?.mul_scalar(1.0 / steps as f64)
            }
            Self::MseRate => {
                let target = targets(labels, classes, [1.0, 0.0], outputs.dtype())?;
                let difference = outputs.mean(&[0])?.sub(&target)?;
                difference.mul(&difference)?.mean_all()
            }
        }
    }
}

/// `[B, C]` with one number at the label and another elsewhere.
fn targets(labels: &Tensor, classes: usize, [right, wrong]: [f64; 2], dtype: DType) -> Result<Tensor> {
    if let Device::Cuda(_) = labels.device() {
        // Rows of a table, chosen where the labels are.
        let table =
            (0..classes * classes).map(|i| if i / classes == i % classes { right } else { wrong }).collect();
        let table =
            Tensor::from_f64(table, &[classes, classes])?.to_dtype(dtype)?.to_device(labels.device())?;
        return table.index_select(0, labels);
    }
    let labels = labels.to_u32()?;
    let mut values = vec![wrong; labels.len() * classes];
    for (row, &label) in values.chunks_mut(classes).zip(&labels) {
        *row.get_mut(label as usize)
            .ok_or_else(|| Error::value("label", label, format!("below {classes}")))? = right;
    }
    Tensor::from_f64(values, &[labels.len(), classes])?.to_dtype(dtype)
}

/// Terms on the spikes of hidden populations, added to the loss; 0 leaves them out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RatePenalty {
    /// λ of λ · mean number of spikes per sample, over all neurons.
    pub sparsity: f64,
    /// λ of λ · mean over neurons of `max(0, least − rate)²`: wakes silent neurons.
    pub lower: f64,
    /// Least rate, spikes per step.
    pub least: f64,
    /// λ of λ · mean over neurons of `max(0, rate − most)²`.
    pub upper: f64,
    /// Largest rate, spikes per step.
    pub most: f64,
}

impl RatePenalty {
    /// Whether there is anything to add.
    pub fn is_active(&self) -> bool {
        self.sparsity > 0.0 || self.lower > 0.0 || self.upper > 0.0
    }

    /// The terms for spikes `[T, B, N]`.
    ///
    /// # Errors
    /// What tensor operations return.
    pub fn of(&self, spikes: &Tensor) -> Result<Tensor> {
        let batch = spikes.shape()[1] as f64;
        let rate = spikes.mean(&[0, 1])?;
        let over = |excess: Tensor, weight: f64| {
            let excess = excess.relu()?;
            excess.mul(&excess)?.mean_all()?.mul_scalar(weight)
        };
        let mut sum = spikes.sum_all()?.mul_scalar(self.sparsity / batch)?;
        if self.lower > 0.0 {
            sum = sum.add(&over(rate.affine(-1.0, self.least)?, self.lower)?)?;
        }
        if self.upper > 0.0 {
            sum = sum.add(&over(rate.affine(1.0, -self.most)?, self.upper)?)?;
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporal_efficient_training_is_a_mean_over_steps() -> Result<()> {
        let membranes = [[0.5f32, -1.0], [2.0, 0.25]];
        let outputs = Tensor::from_f32(membranes.concat(), &[2, 1, 2])?;
        let labels = Tensor::from_u32(vec![1], &[1])?;
        let (lambda, target) = (0.3, 1.5);
        let step = |u: [f32; 2]| {
            let [a, b] = u.map(f64::from);
            let entropy = (a.exp() + b.exp()).ln() - b;
            let square = ((a - target).powi(2) + (b - target).powi(2)) / 2.0;
            (1.0 - lambda) * entropy + lambda * square
        };
        let want = membranes.map(step).iter().sum::<f64>() / 2.0;
        let loss = Loss::Tet { lambda, target };
        let got = loss.of(&outputs, &labels)?.to_scalar()?;
        assert!((got - want).abs() < 1e-6 && loss.reads_membrane(), "{got}, not {want}");
        Ok(())
    }
}
