//! Multiplication by a number and addition of a number.

use crate::Result;
use crate::tensor::check::{Case, unary_cases};
use crate::tensor::cpu::{View, ViewMut, loops};
use crate::tensor::cuda::{self, Arg};
use crate::tensor::dtype::{Element, each_float};
use crate::tensor::kernels::operations::elementwise;
use crate::tensor::op::{Backward, Keep, Op, apply1, infer};
use crate::tensor::{Meta, Tensor};

/// `y = factor · x + offset`.
#[derive(Debug)]
struct Affine {
    factor: f64,
    offset: f64,
}

impl Op for Affine {
    fn name(&self) -> &'static str {
        "affine"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::unary(self.name(), inputs)
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (factor, offset) = (T::of_f64(self.factor), T::of_f64(self.offset));
            loops::map(inputs[0].slice::<T>()?, outputs[0].slice::<T>()?, |x| x * factor + offset);
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
        let args =
            vec![inputs[0].arg(), out.arg(), Arg::U32(0), Arg::F64(self.factor), Arg::F64(self.offset)];
        gpu.each(elementwise::MAP.of(self.name(), inputs[0].meta.dtype)?, n, args)
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(at.grad()?.mul_scalar(self.factor)?)])
    }
}

impl Tensor {
    /// `factor · x + offset` of every element, rounded after each step. Gradient: `factor · g`.
    pub fn affine(&self, factor: f64, offset: f64) -> Result<Self> {
        if factor == 1.0 && offset == 0.0 {
            return Ok(self.clone());
        }
        apply1(Affine { factor, offset }, &[self])
    }

    /// `factor · x`.
    pub fn mul_scalar(&self, factor: f64) -> Result<Self> {
        self.affine(factor, 0.0)
    }

    /// `x + offset`.
    pub fn add_scalar(&self, offset: f64) -> Result<Self> {
        self.affine(1.0, offset)
    }

    /// `−x`.
    pub fn neg(&self) -> Result<Self> {
        self.affine(-1.0, 0.0)
    }
}

pub(super) fn cases() -> Vec<Case> {
    unary_cases("affine", -2.0, 2.0, |x| x.affine(-1.5, 0.25))
}

#[cfg(test)]
mod tests {
    use crate::tensor::Tensor;

    #[test]
    fn values() {
        let x = Tensor::from_f32(vec![1.0, -2.0], &[2]).expect("fits");
        assert_eq!(x.affine(3.0, 1.0).expect("runs").to_f32().expect("f32"), [4.0, -5.0]);
        assert_eq!(x.neg().expect("runs").to_f32().expect("f32"), [-1.0, 2.0]);
    }
}
