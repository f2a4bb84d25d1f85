//! Comparison with broadcasting.

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut, loops};
use crate::tensor::cuda::{self, Arg};
use crate::tensor::dtype::each_float;
use crate::tensor::kernels::operations::elementwise;
use crate::tensor::op::{Backward, Keep, Op, apply1, infer};
use crate::tensor::{DType, Meta, Tensor, shape};

#[derive(Debug)]
struct GreaterEqual;

impl Op for GreaterEqual {
    fn name(&self) -> &'static str {
        "greater_equal"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::alike(self.name(), inputs)?;
        Ok(vec![Meta::new(shape::broadcast(self.name(), &inputs[0].shape, &inputs[1].shape)?, DType::U8)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (a, b) = ((inputs[0].slice::<T>()?, inputs[0].shape()), (inputs[1].slice::<T>()?, inputs[1].shape()));
            let shape = &outputs[0].meta.shape;
            loops::zip(a, b, (outputs[0].data.slice_mut::<u8>()?, shape), |a, b| u8::from(a >= b));
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
        let axes = cuda::broadcast_axes(self.name(), out.shape(), inputs[0].shape(), inputs[1].shape())?;
        let entry = elementwise::GREATER_EQUAL.of(self.name(), inputs[0].meta.dtype)?;
        let mut args = [inputs[0].arg(), inputs[1].arg(), out.arg(), Arg::Axes(axes), cuda::size(n)?];
        gpu.blocks(entry, [n.div_ceil(4 * cuda::THREADS), 1, 1], 0, &mut args)
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

impl Tensor {
    /// 1 where `a ≥ b`, else 0, as u8, broadcast. It has no gradient: see [`spike`](Self::spike).
    pub fn greater_equal(&self, other: &Self) -> Result<Self> {
        apply1(GreaterEqual, &[self, other])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let inputs = check::inputs("greater_equal", &[&[3], &[3]], -1.0, 1.0);
    vec![Case::new("greater_equal", inputs, |x| x[0].greater_equal(&x[1])?.to_dtype(check::CHECKED))]
}

#[cfg(test)]
mod tests {
    use crate::tensor::Tensor;

    #[test]
    fn values() {
        let a = Tensor::from_f32(vec![1.0, 2.0, f32::NAN], &[3]).expect("fits");
        let b = Tensor::from_f32(vec![2.0], &[1]).expect("fits");
        assert_eq!(a.greater_equal(&b).expect("runs").to_u32().expect("u8"), [0, 1, 0]);
    }
}
