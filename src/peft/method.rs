//! A method with its settings: what makes adapters.

use super::{Adapter, Kind, Lora};
use crate::Result;
use crate::tensor::Tensor;

/// A method with its settings.
#[derive(Clone, Debug)]
pub enum Method {
    /// LoRA, rsLoRA, DoRA.
    Lora(Lora),
}

impl From<Lora> for Method {
    fn from(lora: Lora) -> Self {
        Self::Lora(lora)
    }
}

impl Method {
    /// What `peft_type` is in an adapter's configuration.
    pub fn peft_type(&self) -> &'static str {
        match self {
            Self::Lora(_) => "LORA",
        }
    }

    /// A new adapter for the map at `path`. Random numbers depend on the seed and the path alone.
    ///
    /// # Errors
    /// Settings that do not fit the map.
    pub fn adapter(&self, path: &str, weight: &Tensor, kind: Kind, seed: u64) -> Result<Adapter> {
        match self {
            Self::Lora(lora) => lora.adapter(path, weight, kind, seed).map(Adapter::Lora),
        }
    }
}
