//! A tensor cut into pieces along an axis.

use super::narrow::copy;
use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut, each_buffer};
use crate::tensor::cuda;
use crate::tensor::op::{Backward, Keep, Op, apply};
use crate::tensor::shape::{self, around, mismatch};
use crate::tensor::{Meta, Tensor};

#[derive(Debug)]
struct Split {
    axis: usize,
    lengths: Vec<usize>,
}

impl Op for Split {
    fn name(&self) -> &'static str {
        "split"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        let shape = &inputs[0].shape;
        let total = self.lengths.iter().try_fold(0usize, |sum, &length| sum.checked_add(length));
        if total != Some(shape[self.axis]) || self.lengths.is_empty() {
            let why = format!("pieces of {:?} are not the whole of axis {}", self.lengths, self.axis);
            return Err(mismatch(self.name(), shape, &[], why));
        }
        let piece = |&length: &usize| {
            let mut shape = shape.clone();
            shape[self.axis] = length;
            Meta::new(shape, inputs[0].dtype)
        };
        Ok(self.lengths.iter().map(piece).collect())
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let (_, total, inner) = around(inputs[0].shape(), self.axis);
        let mut offset = 0;
        for (output, length) in outputs.iter_mut().zip(&self.lengths) {
            let row = length * inner;
            each_buffer!(inputs[0].data, x => {
                copy(x, total * inner, offset, output.data.slice_mut()?, row, 0, row);
            });
            offset += row;
        }
        Ok(())
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        let (outer, total, inner) = around(inputs[0].shape(), self.axis);
        let mut offset = 0;
        for (output, length) in outputs.iter_mut().zip(&self.lengths) {
            let row = length * inner;
            let from = (inputs[0].data, [total * inner, offset]);
            gpu.copy_rows(inputs[0].meta.dtype, from, (&mut *output.data, [row, 0]), [outer, row])?;
            offset += row;
        }
        Ok(())
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let given: Vec<Option<&Tensor>> = (0..self.lengths.len()).map(|i| at.grads(i)).collect();
        let device = given.iter().flatten().next().map(|grad| grad.device());
        let mut grads = vec![];
        for (i, grad) in given.iter().enumerate() {
            grads.push(match (grad, device) {
                (Some(grad), _) => (*grad).clone(),
                // Nothing came back through this piece.
                (None, Some(device)) => Tensor::full_on(at.output_meta(i), 0.0, device)?,
                (None, None) => return at.none(),
            });
        }
        Ok(vec![Some(Tensor::concat(&grads.iter().collect::<Vec<_>>(), self.axis as isize)?)])
    }
}

impl Tensor {
    /// Pieces of these lengths, one after another along an axis, copied. Gradient: those of the pieces, joined.
    ///
    /// ```
    /// use ransnn::tensor::Tensor;
    /// let x = Tensor::from_f32(vec![1.0, 2.0, 3.0], &[3])?;
    /// let pieces = x.split(&[1, 2], 0)?;
    /// assert_eq!(pieces[1].to_f32()?, [2.0, 3.0]);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// The axis does not exist, or the pieces are not the whole of it.
    pub fn split(&self, lengths: &[usize], axis: isize) -> Result<Vec<Self>> {
        let axis = shape::axis("split", self.shape(), axis)?;
        apply(Split { axis, lengths: lengths.to_vec() }, &[self])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |(shape, lengths, axis): (&[usize], &'static [usize], isize)| {
        let inputs = check::inputs("split", &[shape], -1.0, 1.0);
        // The last piece before the first, and nothing of those between.
        let run = move |x: &[Tensor]| {
            let pieces = x[0].split(lengths, axis)?;
            Tensor::concat(&[&pieces[pieces.len() - 1], &pieces[0]], axis)
        };
        Case::new(format!("split {shape:?} {lengths:?} {axis}"), inputs, run)
    };
    let cases: [(&[usize], &[usize], isize); 4] =
        [(&[3], &[3], 0), (&[5], &[2, 2, 1], 0), (&[2, 3, 4], &[1, 2], 1), (&[3, 4], &[1, 1, 2], -1)];
    cases.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::tensor::Tensor;

    #[test]
    fn values_and_refusals() {
        let x = Tensor::from_u8((0..6).collect(), &[2, 3]).expect("fits");
        let pieces = x.split(&[1, 0, 2], 1).expect("runs");
        let values: Vec<Vec<u32>> = pieces.iter().map(|piece| piece.to_u32().expect("u8")).collect();
        assert_eq!(values, [vec![0, 3], vec![], vec![1, 2, 4, 5]]);
        assert!(x.split(&[1, 1], 1).is_err() && x.split(&[3], 2).is_err() && x.split(&[], 0).is_err());
        assert!(x.split(&[usize::MAX, 4], 1).is_err());
    }
}
