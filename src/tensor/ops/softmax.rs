//! Softmax along the last axis.

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut, loops};
use crate::tensor::cuda;
use crate::tensor::dtype::{Float, each_float};
use crate::tensor::kernels::operations::softmax;
use crate::tensor::op::{Backward, Keep, Op, apply1, infer};
use crate::tensor::shape::mismatch;
use crate::tensor::{Meta, Tensor};

/// Along the last axis.
#[derive(Debug)]
struct Softmax;

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        if inputs[0].shape.last().is_none_or(|&n| n == 0) {
            return Err(mismatch(self.name(), &inputs[0].shape, &[], "the last axis must have elements"));
        }
        infer::unary(self.name(), inputs)
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let n = inputs[0].shape().last().copied().unwrap_or(1);
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let x = inputs[0].slice::<T>()?;
            loops::chunks(outputs[0].slice::<T>()?, n, |start, piece| {
                let rows = x[start..start + piece.len()].chunks(n);
                piece.chunks_mut(n).zip(rows).for_each(|(out, x)| row(x, out));
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
        gpu.last_axis(self.name(), &softmax::SOFTMAX, inputs, outputs)
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::OUTPUTS
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(apply1(Chain, &[at.grad()?, at.output(0)?])?)])
    }
}

fn row<T: Float>(x: &[T], out: &mut [T]) {
    let largest = x.iter().copied().fold(x[0], |a, b| if b > a { b } else { a });
    out.iter_mut().zip(x).for_each(|(out, &x)| *out = (x - largest).exp());
    let scale = T::ONE / loops::sum(out);
    out.iter_mut().for_each(|out| *out = *out * scale);
}

#[derive(Debug)]
struct Chain;

impl Op for Chain {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::unary(self.name(), inputs)
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let n = inputs[0].shape().last().copied().unwrap_or(1);
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (grad, y) = (inputs[0].slice::<T>()?, inputs[1].slice::<T>()?);
            loops::chunks(outputs[0].slice::<T>()?, n, |start, piece| {
                let rows = grad[start..].chunks(n).zip(y[start..].chunks(n));
                for (out, (grad, y)) in piece.chunks_mut(n).zip(rows) {
                    let mean = loops::dot_by(grad, y, |grad, y| grad * y);
                    out.iter_mut().zip(grad.iter().zip(y)).for_each(|(out, (&grad, &y))| *out = y * (grad - mean));
                }
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
        gpu.last_axis(self.name(), &softmax::SOFTMAX_CHAIN, inputs, outputs)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

impl Tensor {
    /// `eˣⁱ / Σ eˣʲ` along the last axis, without overflow. Gradient: `y (g − Σ g y)`.
    ///
    /// # Errors
    /// There is no last axis, or it is empty.
    pub fn softmax(&self) -> Result<Self> {
        apply1(Softmax, &[self])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |shape: &[usize]| {
        // The sum of the outputs alone may not depend on the input: the check weighs them unevenly.
        let inputs = check::inputs("softmax", &[shape], -2.0, 2.0);
        Case::new(format!("softmax {shape:?}"), inputs, |x| x[0].softmax())
    };
    [&[2][..], &[7], &[2, 3], &[2, 1, 17]].into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::tensor::{DType, Tensor};

    #[test]
    fn values_and_refusals() {
        let x = Tensor::from_f64(vec![1000.0, 1000.0 + 3f64.ln()], &[1, 2]).expect("fits");
        let y = x.softmax().expect("runs").to_f64().expect("f64");
        assert!((y[0] - 0.25).abs() < 1e-12 && (y[1] - 0.75).abs() < 1e-12, "{y:?}");
        assert!(Tensor::zeros(&[2, 0], DType::F32).expect("fits").softmax().is_err());
        assert!(Tensor::zeros(&[], DType::F32).expect("fits").softmax().is_err());
    }
}
