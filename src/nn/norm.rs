//! Normalisation of the last axis with trained scales.

use crate::Result;
use crate::tensor::Tensor;

/// Layer normalisation, or without a bias root-mean-square normalisation.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Scales, `[N]`.
    pub weight: Tensor,
    /// Shifts, `[N]`; with them the mean is taken off as well.
    pub bias: Option<Tensor>,
    /// Added to the variance.
    pub epsilon: f64,
}

impl Norm {
    /// `[.., N]` to `[.., N]`.
    ///
    /// # Errors
    /// Another last axis.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.bias {
            Some(bias) => x.layer_norm(&self.weight, bias, self.epsilon),
            None => x.rms_norm(&self.weight, self.epsilon),
        }
    }
}
