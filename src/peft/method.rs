//! A method with its settings: what makes adapters.

use super::{Adapter, Boft, Hybrid, Kind, Lora, LoraGa, Urnn};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// A method with its settings.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// LoRA, rsLoRA, DoRA.
    Lora(Lora),
    /// LoRA-GA: needs a gradient, [`attach_calibrated`](super::lora_ga::attach_calibrated).
    LoraGa(LoraGa),
    /// BOFT, OFT.
    Boft(Boft),
    /// A structured unitary map.
    Urnn(Urnn),
    /// BOFT and LoRA-GA together: needs a gradient, [`attach_calibrated`](super::attach_calibrated).
    Hybrid(Box<Hybrid>),
}

macro_rules! from {
    ($($method:ident)*) => {$(
        impl From<$method> for Method {
            fn from(method: $method) -> Self {
                Self::$method(method)
            }
        }
    )*};
}
from!(Lora LoraGa Boft Urnn);

impl From<Hybrid> for Method {
    fn from(method: Hybrid) -> Self {
        Self::Hybrid(Box::new(method))
    }
}

impl Method {
    /// What `peft_type` is in an adapter's configuration.
    pub fn peft_type(&self) -> &'static str {
        match self {
            Self::Lora(_) | Self::LoraGa(_) => "LORA",
            Self::Boft(_) => "BOFT",
            Self::Urnn(_) => "URNN",
            Self::Hybrid(_) => "HYBRID",
        }
    }

    /// Whether adapters begin by the gradient of the weight.
    pub fn needs_gradient(&self) -> bool {
        matches!(self, Self::LoraGa(_) | Self::Hybrid(_))
    }

    /// A new adapter for the map at `path`; `gradient` for methods that need it. Random numbers depend on the seed and the
    /// path alone.
    ///
    /// # Errors
    /// Settings that do not fit the map, a gradient that is missing.
    pub fn adapter(
        &self,
        path: &str,
        weight: &Tensor,
        gradient: Option<&Tensor>,
        kind: Kind,
        seed: u64,
    ) -> Result<Adapter> {
        let gradient = || {
            gradient.ok_or_else(|| {
                Error::value(
                    "the gradient of the weight",
                    "missing",
                    "given: LoRA-GA and the hybrid begin by it",
                )
            })
        };
        Ok(match self {
            Self::Lora(method) => Adapter::Lora(method.adapter(path, weight, kind, seed)?),
            Self::LoraGa(method) => Adapter::Lora(method.start(path, weight, gradient()?, kind, seed)?),
            Self::Boft(method) => Adapter::Boft(method.adapter(path, weight, kind)?),
            Self::Urnn(method) => Adapter::Urnn(method.adapter(path, weight, kind, seed)?),
            Self::Hybrid(method) => {
                Adapter::Hybrid(Box::new(method.start(path, weight, gradient()?, kind, seed)?))
            }
        })
    }
}
