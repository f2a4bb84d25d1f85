//! A choice between two tensors by a mask.

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut, loops};
use crate::tensor::cuda;
use crate::tensor::dtype::each_float;
use crate::tensor::kernels::operations::elementwise;
use crate::tensor::op::{Backward, Keep, Op, apply1, infer};
use crate::tensor::shape::mismatch;
use crate::tensor::{DType, Meta, Tensor};

/// Inputs: mask (u8) and two tensors, all of one shape.
#[derive(Debug)]
struct Select;

impl Op for Select {
    fn name(&self) -> &'static str {
        "select"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::alike(self.name(), &inputs[1..])?;
        for other in [inputs[0], inputs[2]] {
            if other.shape != inputs[1].shape {
                return Err(mismatch(self.name(), &inputs[1].shape, &other.shape, "all must be equal"));
            }
        }
        match inputs[0].dtype {
            DType::U8 => Ok(vec![inputs[1].clone()]),
            _ => Err(infer::unsupported("select by a mask", inputs[0])),
        }
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let mask = inputs[0].slice::<u8>()?;
        each_float!(self.name(), inputs[1].meta.dtype, T => {
            let (a, b) = (inputs[1].slice::<T>()?, inputs[2].slice::<T>()?);
            loops::chunks(outputs[0].slice::<T>()?, 1, |start, piece| {
                let values = a[start..].iter().zip(&b[start..]).zip(&mask[start..]);
                piece.iter_mut().zip(values).for_each(|(out, ((&a, &b), &m))| *out = if m != 0 { a } else { b });
            });
            Ok(())
        })
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        let [out] = outputs else { return Ok(()) };
        let n = out.meta.len();
        let args = vec![inputs[0].arg(), inputs[1].arg(), inputs[2].arg(), out.arg()];
        gpu.each(elementwise::SELECT.of(self.name(), inputs[1].meta.dtype)?, n, args)
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING.input(0, true)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (grad, mask) = (at.grad()?, at.input(0)?);
        let zeros = Tensor::full_on(grad.meta(), 0.0, grad.device())?;
        Ok(vec![None, Some(mask.select(grad, &zeros)?), Some(mask.select(&zeros, grad)?)])
    }
}

impl Tensor {
    /// With this tensor as the mask (u8): `a` where it is not zero, `b` elsewhere; all of one shape. Gradients: `g` where
    /// chosen, else 0; the mask has none.
    ///
    /// # Errors
    /// Shapes or kinds that do not fit.
    pub fn select(&self, a: &Self, b: &Self) -> Result<Self> {
        apply1(Select, &[self, a, b])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |shape: &'static [usize]| {
        let inputs = check::inputs("select", &[shape, shape], -1.0, 1.0);
        let run = move |x: &[Tensor]| {
            let mask = check::indices(shape, 2)?.to_dtype(DType::U8)?;
            check::beside(&x[0], &mask)?.select(&x[0], &x[1])
        };
        Case::new(format!("select {shape:?}"), inputs, run)
    };
    [&[1][..], &[7], &[2, 3]].into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::tensor::Tensor;

    #[test]
    fn values_and_refusals() {
        let mask = Tensor::from_u8(vec![1, 0], &[2]).expect("fits");
        let a = Tensor::from_f32(vec![1.0, 2.0], &[2]).expect("fits");
        let b = Tensor::from_f32(vec![f32::NAN, 4.0], &[2]).expect("fits");
        assert_eq!(mask.select(&a, &b).expect("runs").to_f32().expect("f32"), [1.0, 4.0]);
        assert!(a.select(&a, &b).is_err() && mask.select(&a, &a.reshape(&[2, 1]).expect("runs")).is_err());
    }
}
