//! The table of vectors.

use crate::Result;
use crate::peft::Slot;
use crate::tensor::{DType, Tensor};

/// Rows of a table by index.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// `[entries, width]`.
    pub weight: Tensor,
    /// Adapters of the look-up; empty at first.
    pub slot: Slot,
}

impl Embedding {
    /// Rows for indices (u32) of any shape `S`: `[S.., width]`, widened to f32 where they are stored in bf16.
    ///
    /// # Errors
    /// An index that is not below the number of entries.
    pub fn forward(&self, indices: &Tensor) -> Result<Tensor> {
        let rows = self.slot.lookup(indices, &self.weight)?;
        match rows.dtype() {
            DType::Bf16 => rows.to_dtype(DType::F32),
            _ => Ok(rows),
        }
    }
}
