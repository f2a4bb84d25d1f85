//! Logarithm of the softmax along the last axis.

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
struct LogSoftmax;

impl Op for LogSoftmax {
    fn name(&self) -> &'static str {
        "log_softmax"
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
        gpu.last_axis(self.name(), &softmax::LOG_SOFTMAX, inputs, outputs)
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
    let shift = largest + loops::dot_by(x, x, |x, _| (x - largest).exp()).ln();
    out.iter_mut().zip(x).for_each(|(out, &x)| *out = x - shift);
}

#[derive(Debug)]
struct Chain;

impl Op for Chain {
    fn name(&self) -> &'static str {
        "log_softmax"
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
                    let total = loops::sum(grad);
                    out.iter_mut()
                        .zip(grad.iter().zip(y))
                        .for_each(|(out, (&grad, &y))| *out = grad - y.exp() * total);
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
        gpu.last_axis(self.name(), &softmax::LOG_SOFTMAX_CHAIN, inputs, outputs)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

impl Tensor {
    /// `x − ln Σ eˣʲ` along the last axis, without overflow. Gradient: `g − eʸ Σ g`.
    ///
    /// # Errors
    /// There is no last axis, or it is empty.
    pub fn log_softmax(&self) -> Result<Self> {
        apply1(LogSoftmax, &[self])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |shape: &[usize]| {
        // The sum of the outputs alone may not depend on the input: the check weighs them unevenly.
        let inputs = check::inputs("log_softmax", &[shape], -2.0, 2.0);
        Case::new(format!("log_softmax {shape:?}"), inputs, |x| x[0].log_softmax())
    };
    [&[2][..], &[7], &[2, 3], &[2, 1, 17]].into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::tensor::{DType, Tensor};

    #[test]
    fn values_and_refusals() {
        let x = Tensor::from_f64(vec![-1000.0, -1000.0 + 3f64.ln()], &[1, 2]).expect("fits");
        let y = x.log_softmax().expect("runs").to_f64().expect("f64");
        assert!((y[0] - 0.25f64.ln()).abs() < 1e-12 && (y[1] - 0.75f64.ln()).abs() < 1e-12, "{y:?}");
        assert!(Tensor::zeros(&[2, 0], DType::F32).expect("fits").log_softmax().is_err());
        assert!(Tensor::zeros(&[], DType::F32).expect("fits").log_softmax().is_err());
    }
}
