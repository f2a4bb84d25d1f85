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
    /// The index whose row is never trained by looking it up, as PyTorch's `padding_idx`.
    pub padding: Option<u32>,
}

impl Embedding {
    /// Rows for indices (u32) of any shape `S`: `[S.., width]`, widened to f32 where they are stored in bf16. Indices go
    /// where the table is.
    ///
    /// # Errors
    /// An index that is not below the number of entries.
    pub fn forward(&self, indices: &Tensor) -> Result<Tensor> {
        let mut rows = self.slot.lookup(&indices.to_device(self.weight.device())?, &self.weight)?;
        // Below an adapter the table is frozen anyway.
        if let Some(padding) = self.padding.filter(|_| !self.slot.is_active()) {
            rows = without_gradient(&rows, indices, padding)?;
        }
        match rows.dtype() {
            DType::Bf16 => rows.to_dtype(DType::F32),
            _ => Ok(rows),
        }
    }
}

/// `rows` of `indices`, cut off from the gradient where the index is `padding`.
fn without_gradient(rows: &Tensor, indices: &Tensor, padding: u32) -> Result<Tensor> {
    let indices = indices.to_u32()?;
    if !indices.contains(&padding) {
        return Ok(rows.clone());
    }
    let width = rows.len() / indices.len().max(1);
    let mask = indices.iter().flat_map(|&index| std::iter::repeat_n(u8::from(index != padding), width));
    Tensor::from_u8(mask.collect(), rows.shape())?.to_device(rows.device())?.select(rows, &rows.detach()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::grad;
    use std::collections::BTreeMap;

    #[test]
    fn a_row_of_padding_is_not_trained() {
        let weight = Tensor::from_f32(vec![1.0, 2.0, 3.0, 4.0], &[2, 2]).expect("fits");
        let indices = Tensor::from_u32(vec![0, 1, 0], &[3]).expect("fits");
        let params = BTreeMap::from([("weight".to_string(), weight.clone())]);
        let gradient = |padding| {
            let table = Embedding { weight: weight.clone(), slot: Slot::default(), padding };
            let (sum, grads) = grad(&params, || table.forward(&indices)?.sum_all()).expect("runs");
            assert_eq!(sum.to_scalar().expect("one"), 13.0);
            grads.get("weight").expect("there").to_f32().expect("f32")
        };
        assert_eq!(gradient(None), [2.0, 2.0, 1.0, 1.0]);
        assert_eq!(gradient(Some(0)), [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(gradient(Some(7)), [2.0, 2.0, 1.0, 1.0]);
    }
}
