//! Layer normalisation (Ba et al., arXiv:1607.06450).

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut, loops};
use crate::tensor::dtype::{Element, Float, each_float};
use crate::tensor::op::{Backward, Keep, Op, apply, apply1, infer};
use crate::tensor::shape::mismatch;
use crate::tensor::{Meta, Tensor};

/// Along the last axis.
#[derive(Clone, Copy, Debug)]
struct LayerNorm {
    epsilon: f64,
}

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
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
            let (x, weight, bias) = (inputs[0].slice::<T>()?, inputs[1].slice::<T>()?, inputs[2].slice::<T>()?);
            loops::chunks(outputs[0].slice::<T>()?, n, |start, piece| {
                for (out, x) in piece.chunks_mut(n).zip(x[start..].chunks(n)) {
                    let (mean, scale) = statistics(x, self.epsilon);
                    let row = out.iter_mut().zip(x).zip(weight.iter().zip(bias));
                    row.for_each(|((out, &x), (&w, &b))| *out = (x - mean) * scale * w + b);
                }
            });
            Ok(())
        })
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING.input(0, true).input(1, true)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let grads = apply(Chain(*self), &[at.grad()?, at.input(0)?, at.input(1)?])?;
        Ok(grads.into_iter().map(Some).collect())
    }
}

/// Mean and 1 / √(variance + ε) of a row.
fn statistics<T: Float>(x: &[T], epsilon: f64) -> (T, T) {
    let count = T::of_f64(x.len() as f64);
    let mean = loops::sum(x) / count;
    let variance = loops::dot_by(x, x, |x, _| (x - mean) * (x - mean)) / count;
    (mean, T::ONE / (variance + T::of_f64(epsilon)).sqrt())
}

/// Gradients of all inputs.
#[derive(Debug)]
struct Chain(LayerNorm);

impl Op for Chain {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        Ok(vec![inputs[1].clone(), inputs[2].clone(), inputs[2].clone()])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let n = inputs[2].meta.len();
        let [dx, dweight, dbias] = outputs else { return Ok(()) };
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (grad, x, weight) = (inputs[0].slice::<T>()?, inputs[1].slice::<T>()?, inputs[2].slice::<T>()?);
            // dx = scale (h − mean h − x̂ mean(h x̂)) with h = grad · weight.
            loops::chunks(dx.slice::<T>()?, n, |start, piece| {
                let rows = grad[start..].chunks(n).zip(x[start..].chunks(n));
                for (out, (grad, x)) in piece.chunks_mut(n).zip(rows) {
                    let (mean, scale) = statistics(x, self.0.epsilon);
                    out.iter_mut().zip(grad.iter().zip(weight)).for_each(|(out, (&g, &w))| *out = g * w);
                    let count = T::of_f64(n as f64);
                    let along = loops::dot_by(out, x, |h, x| h * ((x - mean) * scale)) / count;
                    let level = loops::sum(out) / count;
                    let row = out.iter_mut().zip(x);
                    row.for_each(|(h, &x)| *h = scale * (*h - level - (x - mean) * scale * along));
                }
            });
            let (dweight, dbias) = (dweight.slice::<T>()?, dbias.slice::<T>()?);
            for (grad, x) in grad.chunks(n).zip(x.chunks(n)) {
                let (mean, scale) = statistics(x, self.0.epsilon);
                for (i, (&g, &x)) in grad.iter().zip(x).enumerate() {
                    dweight[i] += g * ((x - mean) * scale);
                    dbias[i] += g;
                }
            }
            Ok(())
        })
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

impl Tensor {
    /// `(x − mean) / √(variance + ε) · weight + bias` along the last axis of `[.., N]`, with weight and bias `[N]`; the
    /// variance is that of the population (divided by N), as in PyTorch.
    ///
    /// # Errors
    /// Shapes that do not fit or an empty axis.
    pub fn layer_norm(&self, weight: &Self, bias: &Self, epsilon: f64) -> Result<Self> {
        apply1(LayerNorm { epsilon }, &[self, weight, bias])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |shape: &[usize]| {
        let n = shape[shape.len() - 1];
        let inputs = check::inputs("layer_norm", &[shape, &[n], &[n]], -1.0, 1.5);
        Case::new(format!("layer_norm {shape:?}"), inputs, |x| x[0].layer_norm(&x[1], &x[2], 1e-5))
    };
    [&[3][..], &[2, 5], &[2, 1, 17]].into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::tensor::{DType, Tensor};

    #[test]
    fn values_and_refusals() {
        let x = Tensor::from_f64(vec![1.0, 3.0], &[1, 2]).expect("fits");
        let (w, b) = (
            Tensor::full(&[2], 2.0, DType::F64).expect("fits"),
            Tensor::zeros(&[2], DType::F64).expect("fits"),
        );
        assert_eq!(x.layer_norm(&w, &b, 0.0).expect("runs").to_f64().expect("f64"), [-2.0, 2.0]);
        assert!(x.layer_norm(&x, &b, 0.0).is_err());
    }
}
