//! Losses: scalars that training makes small.

use crate::Result;
use crate::tensor::Tensor;

/// Mean of `−ln softmax(logits)[label]`; logits `[B, C]`, labels `[B]` of u32.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    logits.cross_entropy(labels)
}

/// Mean of the squared differences of two tensors of one shape.
///
/// ```
/// use ransnn::{nn::loss, tensor::Tensor};
/// let (a, b) = (Tensor::from_f32(vec![1.0, 2.0], &[2])?, Tensor::from_f32(vec![1.0, 4.0], &[2])?);
/// assert_eq!(loss::mean_squared_error(&a, &b)?.to_scalar()?, 2.0);
/// # Ok::<(), ransnn::Error>(())
/// ```
pub fn mean_squared_error(output: &Tensor, target: &Tensor) -> Result<Tensor> {
    let difference = output.sub(target)?;
    difference.mul(&difference)?.mean_all()
}
