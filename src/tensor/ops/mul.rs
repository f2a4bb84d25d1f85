//! Multiplication with broadcasting.

use crate::Result;
use crate::tensor::check::{Case, binary_cases};
use crate::tensor::cpu::{View, ViewMut, loops};
use crate::tensor::cuda;
use crate::tensor::dtype::each_float;
use crate::tensor::op::{Backward, Keep, Op, apply1, infer};
use crate::tensor::{Meta, Tensor, shape};

#[derive(Debug)]
struct Mul;

impl Op for Mul {
    fn name(&self) -> &'static str {
        "mul"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::alike(self.name(), inputs)?;
        let shape = shape::broadcast(self.name(), &inputs[0].shape, &inputs[1].shape)?;
        Ok(vec![Meta::new(shape, inputs[0].dtype)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (a, b) = ((inputs[0].slice::<T>()?, inputs[0].shape()), (inputs[1].slice::<T>()?, inputs[1].shape()));
            let shape = &outputs[0].meta.shape;
            loops::zip(a, b, (outputs[0].data.slice_mut::<T>()?, shape), |a, b| a * b);
            Ok(())
        })
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        gpu.zip(self.name(), 2, [inputs[0], inputs[1]], &mut outputs[0])
    }

    fn keep(&self, needs: &[bool]) -> Keep {
        Keep::NOTHING.input(0, needs[1]).input(1, needs[0])
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let to = |i: usize| {
            let grad = || at.grad()?.mul(at.input(1 - i)?)?.sum_to(&at.input_meta(i).shape);
            at.needs(i).then(grad).transpose()
        };
        Ok(vec![to(0)?, to(1)?])
    }
}

impl Tensor {
    /// `a b`, element by element, broadcast. Gradients: `g b` and `g a` summed to each shape.
    ///
    /// # Errors
    /// Shapes that do not broadcast (NumPy's rule) or different kinds of number.
    pub fn mul(&self, other: &Self) -> Result<Self> {
        apply1(Mul, &[self, other])
    }
}

pub(super) fn cases() -> Vec<Case> {
    binary_cases("mul", -2.0, |a, b| a.mul(b))
}

#[cfg(test)]
mod tests {
    use crate::tensor::{DType, Tensor};

    #[test]
    fn values_and_refusals() {
        let a = Tensor::from_f32(vec![6.0, 8.0], &[2, 1]).expect("fits");
        let b = Tensor::from_f32(vec![2.0, 4.0], &[2]).expect("fits");
        assert_eq!(a.mul(&b).expect("runs").to_f32().expect("f32"), [12.0, 24.0, 16.0, 32.0]);
        let other = Tensor::zeros(&[3], DType::F32).expect("fits");
        assert_eq!(
            b.mul(&other).expect_err("refused").to_string(),
            "mul: shapes [2] and [3] do not match: sizes must be equal or 1, counted from the last axis"
        );
        assert!(b.mul(&Tensor::zeros(&[2], DType::F64).expect("fits")).is_err(), "kinds are not mixed");
    }
}
