//! One adapter on one map, whatever its method.

use super::{Below, LoraAdapter};
use crate::Result;
use crate::tensor::{Tensor, Trainable};

/// An adapter on one map. Its parameters have the names that Hugging Face's files give them.
#[derive(Clone, Debug)]
pub enum Adapter {
    /// LoRA and DoRA.
    Lora(LoraAdapter),
}

impl Adapter {
    /// `x [.., in]` to `[.., out]`: the map below with what this adapter changes, and the bias.
    pub fn forward(&self, x: &Tensor, below: &Below<'_>, bias: Option<&Tensor>) -> Result<Tensor> {
        match self {
            Self::Lora(adapter) => adapter.forward(x, below, bias),
        }
    }

    /// Rows of a table by number; refused by methods that are not for tables.
    pub fn lookup(&self, ids: &Tensor, below: &Below<'_>) -> Result<Tensor> {
        match self {
            Self::Lora(adapter) => adapter.lookup(ids, below),
        }
    }

    /// The weight that alone gives the same map.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn merged(&self, weight: &Tensor) -> Result<Tensor> {
        match self {
            Self::Lora(adapter) => adapter.merged(weight),
        }
    }
}

impl Trainable for Adapter {
    fn visit(&self, f: &mut dyn FnMut(&str, &Tensor)) {
        match self {
            Self::Lora(adapter) => adapter.visit(f),
        }
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, &mut Tensor)) {
        match self {
            Self::Lora(adapter) => adapter.visit_mut(f),
        }
    }
}
