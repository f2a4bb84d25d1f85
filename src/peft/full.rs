//! A map that is trained as a whole beside adapters, as Hugging Face's `modules_to_save`: heads on top of a model.

use super::Below;
use crate::Result;
use crate::tensor::{Adaptation, Tensor, Trainable};

/// A weight of its own in the place of the weight below.
#[derive(Clone, Debug)]
pub struct FullAdapter {
    /// `[out, in]`, as the weight that it replaces.
    pub weight: Tensor,
}

impl FullAdapter {
    /// Begins as the weight.
    pub fn of(weight: &Tensor) -> Self {
        Self { weight: weight.clone() }
    }

    pub(super) fn forward(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        x.adapted_linear(&self.weight, Adaptation { bias, ..Adaptation::default() })
    }

    pub(super) fn lookup(&self, ids: &Tensor, _below: &Below<'_>) -> Result<Tensor> {
        self.weight.embedding(ids)
    }

    pub(super) fn merged(&self, weight: &Tensor) -> Result<Tensor> {
        self.weight.to_dtype(weight.dtype())
    }
}

impl Trainable for FullAdapter {
    fn visit(&self, f: &mut dyn FnMut(&str, &Tensor)) {
        f("weight", &self.weight);
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, &mut Tensor)) {
        f("weight", &mut self.weight);
    }
}
