//! Tensors one after another along an axis.

use super::narrow::copy;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut, each_buffer};
use crate::tensor::cuda;
use crate::tensor::op::{Backward, Keep, Op, apply1};
use crate::tensor::shape::{self, around, mismatch};
use crate::tensor::{Meta, Tensor};
use crate::{Error, Result};

#[derive(Debug)]
struct Concat {
    axis: usize,
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        let mut shape = inputs[0].shape.clone();
        for input in &inputs[1..] {
            let same = |(i, (a, b)): (usize, (&usize, &usize))| i == self.axis || a == b;
            let others =
                shape.len() == input.shape.len() && shape.iter().zip(&input.shape).enumerate().all(same);
            if !others || input.dtype != inputs[0].dtype {
                let why = format!("all must be alike but for the size of axis {}", self.axis);
                return Err(mismatch(self.name(), &inputs[0].shape, &input.shape, why));
            }
            shape[self.axis] += input.shape[self.axis];
        }
        Ok(vec![Meta::new(shape, inputs[0].dtype)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let (_, total, inner) = around(outputs[0].shape(), self.axis);
        let mut offset = 0;
        for input in inputs {
            let row = input.shape()[self.axis] * inner;
            each_buffer!(input.data, x => {
                copy(x, row, 0, outputs[0].data.slice_mut()?, total * inner, offset, row);
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
        let (outer, total, inner) = around(outputs[0].shape(), self.axis);
        let mut offset = 0;
        for input in inputs {
            let row = input.shape()[self.axis] * inner;
            let to = (&mut *outputs[0].data, [total * inner, offset]);
            gpu.copy_rows(input.meta.dtype, (input.data, [row, 0]), to, [outer, row])?;
            offset += row;
        }
        Ok(())
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let mut start = 0;
        (0..at.inputs.len())
            .map(|i| {
                let len = at.input_meta(i).shape[self.axis];
                start += len;
                at.needs(i).then(|| at.grad()?.narrow(self.axis as isize, start - len, len)).transpose()
            })
            .collect()
    }
}

impl Tensor {
    /// Tensors one after another along an axis. Gradients: the ranges of `g`.
    ///
    /// # Errors
    /// None are given, or they differ in kind or along another axis.
    pub fn concat(tensors: &[&Self], axis: isize) -> Result<Self> {
        let first = tensors.first().ok_or_else(|| Error::value("the number of tensors", 0, "at least 1"))?;
        let axis = shape::axis("concat", first.shape(), axis)?;
        apply1(Concat { axis }, tensors)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |(a, b, axis): (&[usize], &[usize], isize)| {
        let inputs = check::inputs("concat", &[a, b, a], -1.0, 1.0);
        let run = move |x: &[Tensor]| Tensor::concat(&[&x[0], &x[1], &x[2], &x[0]], axis);
        Case::new(format!("concat {a:?} {b:?} {axis}"), inputs, run)
    };
    let cases: [(&[usize], &[usize], isize); 3] =
        [(&[1], &[2], 0), (&[2, 3], &[2, 1], 1), (&[1, 2, 3], &[4, 2, 3], 0)];
    cases.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::tensor::{DType, Tensor};

    #[test]
    fn values_and_refusals() {
        let a = Tensor::from_u8(vec![1, 2], &[2, 1]).expect("fits");
        let b = Tensor::from_u8(vec![3, 4, 5, 6], &[2, 2]).expect("fits");
        let joined = Tensor::concat(&[&a, &b], -1).expect("runs");
        assert_eq!(joined.to_u32().expect("u8"), [1, 3, 4, 2, 5, 6]);
        assert!(Tensor::concat(&[&a, &b], 0).is_err() && Tensor::concat(&[], 0).is_err());
        assert!(Tensor::concat(&[&a, &Tensor::zeros(&[2, 1], DType::F32).expect("fits")], 0).is_err());
    }
}
