//! One adapter on one map, whatever its method.

use super::Below;
use super::boft::BoftAdapter;
use super::full::FullAdapter;
use super::hybrid::HybridAdapter;
use super::lora::LoraAdapter;
use super::urnn::UrnnAdapter;
use crate::tensor::{Device, Tensor, Trainable};
use crate::{Error, Result};

/// An adapter on one map. Its parameters have the names that Hugging Face's files give them.
#[derive(Clone, Debug)]
pub enum Adapter {
    /// LoRA, rsLoRA, DoRA, LoRA-GA.
    Lora(LoraAdapter),
    /// BOFT, OFT.
    Boft(BoftAdapter),
    /// A structured unitary map.
    Urnn(UrnnAdapter),
    /// BOFT and LoRA-GA together.
    Hybrid(Box<HybridAdapter>),
    /// A weight of its own.
    Full(FullAdapter),
}

impl Adapter {
    /// `x [.., in]` to `[.., out]`: the map below with what this adapter changes, and the bias.
    ///
    /// # Errors
    /// Shapes or kinds that do not fit.
    pub fn forward(&self, x: &Tensor, below: &Below<'_>, bias: Option<&Tensor>) -> Result<Tensor> {
        match self {
            Self::Lora(adapter) => adapter.forward(x, below, bias),
            Self::Boft(adapter) => adapter.forward(x, below, bias),
            Self::Urnn(adapter) => adapter.forward(x, below, bias),
            Self::Hybrid(adapter) => adapter.forward(x, below, bias),
            Self::Full(adapter) => adapter.forward(x, bias),
        }
    }

    /// Rows of a table by number.
    ///
    /// # Errors
    /// A method that is not for tables.
    pub fn lookup(&self, ids: &Tensor, below: &Below<'_>) -> Result<Tensor> {
        match self {
            Self::Lora(adapter) => adapter.lookup(ids, below),
            Self::Full(adapter) => adapter.lookup(ids, below),
            _ => Err(Error::Unsupported { op: "an adapter for linear maps", on: "on an embedding".into() }),
        }
    }

    /// The weight that alone gives the same map, in the kind of number of `weight`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn merged(&self, weight: &Tensor) -> Result<Tensor> {
        match self {
            Self::Lora(adapter) => adapter.merged(weight),
            Self::Boft(adapter) => adapter.merged(weight),
            Self::Urnn(adapter) => adapter.merged(weight),
            Self::Hybrid(adapter) => adapter.merged(weight),
            Self::Full(adapter) => adapter.merged(weight),
        }
    }

    /// Shows what has to be kept beside what is trained, so that training goes on as if it had not stopped, or a file gives
    /// the same map: where LoRA-GA began, λ of hybrids and the weight that [`Mode::Accumulate`](super::hybrid::Mode)
    /// changes.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn memory(&self, f: &mut dyn FnMut(&str, &Tensor)) -> Result<()> {
        match self {
            Self::Lora(adapter) => {
                adapter.memory(f);
                Ok(())
            }
            Self::Hybrid(adapter) => adapter.memory(f),
            Self::Boft(_) | Self::Urnn(_) | Self::Full(_) => Ok(()),
        }
    }

    /// Takes up what [`memory`](Self::memory) showed.
    ///
    /// # Errors
    /// Those of `find`; another shape or kind.
    pub fn remember(&mut self, find: &mut dyn FnMut(&str) -> Result<Tensor>) -> Result<()> {
        match self {
            Self::Lora(adapter) => adapter.remember(find),
            Self::Hybrid(adapter) => adapter.remember(find),
            Self::Boft(_) | Self::Urnn(_) | Self::Full(_) => Ok(()),
        }
    }

    /// Every tensor, trained and held.
    fn tensors_mut(&mut self) -> Vec<&mut Tensor> {
        fn lora(adapter: &mut LoraAdapter) -> impl Iterator<Item = &mut Tensor> {
            let begun = adapter.begun.iter_mut().flat_map(|(a, b)| [a, b]);
            [&mut adapter.a, &mut adapter.b].into_iter().chain(&mut adapter.magnitude).chain(begun)
        }
        match self {
            Self::Lora(adapter) => lora(adapter).collect(),
            Self::Boft(adapter) => vec![&mut adapter.r, &mut adapter.s],
            Self::Urnn(UrnnAdapter { phases, reflections, permutation, begun: (a, b) }) => {
                vec![phases, reflections, permutation, a, b]
            }
            Self::Hybrid(adapter) => {
                let HybridAdapter { lora: low_rank, boft, own, .. } = &mut **adapter;
                lora(low_rank).chain([&mut boft.r, &mut boft.s]).chain(own).collect()
            }
            Self::Full(adapter) => vec![&mut adapter.weight],
        }
    }

    /// Moves it to a device.
    ///
    /// # Errors
    /// What the device reports.
    pub(super) fn move_to(&mut self, device: &Device) -> Result<()> {
        for tensor in self.tensors_mut() {
            *tensor = tensor.to_device(device)?;
        }
        Ok(())
    }

    fn part(&self) -> &dyn Trainable {
        match self {
            Self::Lora(adapter) => adapter,
            Self::Boft(adapter) => adapter,
            Self::Urnn(adapter) => adapter,
            Self::Hybrid(adapter) => &**adapter,
            Self::Full(adapter) => adapter,
        }
    }

    fn part_mut(&mut self) -> &mut dyn Trainable {
        match self {
            Self::Lora(adapter) => adapter,
            Self::Boft(adapter) => adapter,
            Self::Urnn(adapter) => adapter,
            Self::Hybrid(adapter) => &mut **adapter,
            Self::Full(adapter) => adapter,
        }
    }

    /// How files name the bias that is trained beside this adapter.
    pub(crate) fn bias_key(&self) -> &'static str {
        if matches!(self, Self::Full(_)) { "bias" } else { "base_layer.bias" }
    }
}

impl Trainable for Adapter {
    fn visit(&self, f: &mut dyn FnMut(&str, &Tensor)) {
        self.part().visit(f);
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, &mut Tensor)) {
        self.part_mut().visit_mut(f);
    }
}
