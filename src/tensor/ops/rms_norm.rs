//! Root-mean-square normalisation (Zhang and Sennrich, arXiv:1910.07467).

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::wide::{self, Width, Work};
use crate::tensor::cpu::{View, ViewMut, loops};
use crate::tensor::cuda::{self, Arg};
use crate::tensor::dtype::{Float, each_float};
use crate::tensor::kernels::operations::norm;
use crate::tensor::op::{Backward, Keep, Op, apply, apply1, infer};
use crate::tensor::shape::mismatch;
use crate::tensor::{Meta, Tensor};

/// Along the last axis.
#[derive(Clone, Copy, Debug)]
struct RmsNorm {
    epsilon: f64,
}

impl Op for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::alike(self.name(), inputs)?;
        let x = &inputs[0].shape;
        for scale in &inputs[1..] {
            if x.last().is_none_or(|&n| n == 0 || scale.shape != [n]) {
                return Err(mismatch(
                    self.name(),
                    x,
                    &scale.shape,
                    "x is [.., N] with N > 0, its scales are [N]",
                ));
            }
        }
        Ok(vec![inputs[0].clone()])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let n = inputs[1].meta.len();
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (x, weight) = (inputs[0].slice::<T>()?, inputs[1].slice::<T>()?);
            loops::chunks(outputs[0].slice::<T>()?, n, |start, piece| {
                wide::run(Rows { x: &x[start..], weight, epsilon: self.epsilon, out: piece });
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
        let (n, dtype) = (inputs[1].meta.len(), out.meta.dtype);
        let rows = out.meta.len() / n;
        let args = vec![inputs[0].arg(), inputs[1].arg(), out.arg(), Arg::F64(self.epsilon)];
        gpu.rows(norm::RMS_NORM.of(self.name(), dtype)?, [rows, n], args, [])
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING.input(0, true).input(1, true)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let chain = Chain { of: *self, scales: at.needs(1) };
        let mut grads = apply(chain, &[at.grad()?, at.input(0)?, at.input(1)?])?.into_iter();
        Ok(vec![grads.next(), grads.next()])
    }
}

/// 1 / √(mean x² + ε) of a row.
#[inline(always)]
fn inverse_rms<T: Float>(x: &[T], epsilon: f64) -> T {
    let mean = loops::dot_by(x, x, |x, y| x * y) / T::of_f64(x.len() as f64);
    T::ONE / (mean + T::of_f64(epsilon)).sqrt()
}

/// Some rows.
struct Rows<'a, T> {
    x: &'a [T],
    weight: &'a [T],
    epsilon: f64,
    out: &'a mut [T],
}

impl<T: Float> Work for Rows<'_, T> {
    type Out = ();
    const WIDEST: Width = Width::of::<T>();
    #[inline(always)]
    fn run(self) {
        let n = self.weight.len();
        for (out, x) in self.out.chunks_mut(n).zip(self.x.chunks(n)) {
            let scale = inverse_rms(x, self.epsilon);
            for (out, (&x, &w)) in out.iter_mut().zip(x.iter().zip(self.weight)) {
                *out = x * scale * w;
            }
        }
    }
}

/// Gradients of some rows: scale (h − x̂ mean(h x̂)) with h = grad · weight.
struct Slopes<'a, T> {
    grad: &'a [T],
    x: &'a [T],
    weight: &'a [T],
    epsilon: f64,
    out: &'a mut [T],
}

impl<T: Float> Work for Slopes<'_, T> {
    type Out = ();
    const WIDEST: Width = Width::of::<T>();
    #[inline(always)]
    fn run(self) {
        let n = self.weight.len();
        let rows = self.grad.chunks(n).zip(self.x.chunks(n));
        for (out, (grad, x)) in self.out.chunks_mut(n).zip(rows) {
            let scale = inverse_rms(x, self.epsilon);
            for (h, (&g, &w)) in out.iter_mut().zip(grad.iter().zip(self.weight)) {
                *h = g * w;
            }
            let along = loops::dot_by(out, x, |h, x| h * (x * scale)) / T::of_f64(n as f64);
            for (h, &x) in out.iter_mut().zip(x) {
                *h = scale * (*h - x * scale * along);
            }
        }
    }
}

/// Gradients of x and, if they are trained, of the scales.
#[derive(Debug)]
struct Chain {
    of: RmsNorm,
    scales: bool,
}

impl Op for Chain {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        Ok(inputs[1..2 + usize::from(self.scales)].iter().map(|&meta| meta.clone()).collect())
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let n = inputs[2].meta.len();
        let Some((dx, dweight)) = outputs.split_first_mut() else { return Ok(()) };
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (grad, x, weight) = (inputs[0].slice::<T>()?, inputs[1].slice::<T>()?, inputs[2].slice::<T>()?);
            loops::chunks(dx.slice::<T>()?, n, |start, piece| {
                let (grad, x) = (&grad[start..], &x[start..]);
                wide::run(Slopes { grad, x, weight, epsilon: self.of.epsilon, out: piece });
            });
            let Some(dweight) = dweight.first_mut() else { return Ok(()) };
            let dweight = dweight.slice::<T>()?;
            for (grad, x) in grad.chunks(n).zip(x.chunks(n)) {
                let scale = inverse_rms(x, self.of.epsilon);
                for (out, (&g, &x)) in dweight.iter_mut().zip(grad.iter().zip(x)) {
                    *out += g * (x * scale);
                }
            }
            Ok(())
        })
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        let Some((dx, scales)) = outputs.split_first_mut() else { return Ok(()) };
        let (n, dtype) = (inputs[2].meta.len(), dx.meta.dtype);
        let rows = dx.meta.len() / n;
        // dy x̂, whose sums over rows are the gradient of the scales.
        let mut products = gpu.empty(dtype.into(), if self.scales { rows * n } else { 0 })?;
        let mut args = vec![inputs[0].arg(), inputs[1].arg(), inputs[2].arg()];
        args.extend([dx.arg(), Arg::Out(&mut products), Arg::F64(self.of.epsilon)]);
        let entry = norm::RMS_NORM_CHAIN.of(self.name(), dtype)?;
        gpu.rows(entry, [rows, n], args, [cuda::flag(self.scales)])?;
        if let [dweight] = scales {
            gpu.sum_middle(dtype, &products, [1, rows, n], dweight.data)?;
        }
        Ok(())
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

impl Tensor {
    /// `x / √(mean x² + ε) · weight` along the last axis of `[.., N]`, with weight `[N]`.
    ///
    /// # Errors
    /// Shapes that do not fit or an empty axis.
    pub fn rms_norm(&self, weight: &Self, epsilon: f64) -> Result<Self> {
        apply1(RmsNorm { epsilon }, &[self, weight])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |shape: &[usize]| {
        let inputs = check::inputs("rms_norm", &[shape, &[shape[shape.len() - 1]]], -1.0, 1.5);
        Case::new(format!("rms_norm {shape:?}"), inputs, |x| x[0].rms_norm(&x[1], 1e-5))
    };
    [&[3][..], &[2, 5], &[2, 1, 17]].into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::tensor::{DType, Tensor};

    #[test]
    fn values_and_refusals() {
        let x = Tensor::from_f64(vec![3.0, 4.0], &[2]).expect("fits");
        let w = Tensor::full(&[2], 12.5f64.sqrt(), DType::F64).expect("fits");
        let y = x.rms_norm(&w, 0.0).expect("runs").to_f64().expect("f64");
        assert!((y[0] - 3.0).abs() < 1e-14 && (y[1] - 4.0).abs() < 1e-14, "{y:?}");
        assert!(x.rms_norm(&Tensor::zeros(&[3], DType::F64).expect("fits"), 0.0).is_err());
    }
}
