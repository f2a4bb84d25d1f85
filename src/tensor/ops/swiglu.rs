//! The gate of Llama's feed-forward layers in one pass (Shazeer, arXiv:2002.05202).

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::wide::{self, Width, Work};
use crate::tensor::cpu::{View, ViewMut, loops};
use crate::tensor::cuda;
use crate::tensor::dtype::{Float, each_float};
use crate::tensor::kernels::operations::elementwise;
use crate::tensor::op::{Backward, Keep, Op, apply, apply1, infer};
use crate::tensor::shape::mismatch;
use crate::tensor::{Meta, Tensor};

/// `gate σ(gate) · up`.
#[derive(Debug)]
struct Swiglu;

impl Op for Swiglu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::alike(self.name(), inputs)?;
        match inputs[0].shape == inputs[1].shape {
            true => Ok(vec![inputs[0].clone()]),
            false => {
                Err(mismatch(self.name(), &inputs[0].shape, &inputs[1].shape, "both must have one shape"))
            }
        }
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (gate, up) = (inputs[0].slice::<T>()?, inputs[1].slice::<T>()?);
            loops::map2(gate, up, outputs[0].slice::<T>()?, gated);
            Ok(())
        })
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        gpu.zip(self.name(), 4, [inputs[0], inputs[1]], &mut outputs[0])
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::INPUTS
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let grads = apply(Chain, &[at.grad()?, at.input(0)?, at.input(1)?])?;
        Ok(grads.into_iter().map(Some).collect())
    }
}

#[inline(always)]
fn gated<T: Float>(gate: T, up: T) -> T {
    gate * sigmoid(gate) * up
}

#[inline(always)]
fn sigmoid<T: Float>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp())
}

/// Gradients of a piece.
struct Slopes<'a, T> {
    grad: &'a [T],
    gate: &'a [T],
    up: &'a [T],
    dgate: &'a mut [T],
    dup: &'a mut [T],
}

impl<T: Float> Work for Slopes<'_, T> {
    type Out = ();
    const WIDEST: Width = Width::of::<T>();
    #[inline(always)]
    fn run(self) {
        let inputs = self.grad.iter().zip(self.gate).zip(self.up);
        for ((dgate, dup), ((&g, &x), &up)) in self.dgate.iter_mut().zip(self.dup).zip(inputs) {
            let s = sigmoid(x);
            *dgate = g * up * s * (T::ONE + x * (T::ONE - s));
            *dup = g * x * s;
        }
    }
}

/// Gradients by both.
#[derive(Debug)]
struct Chain;

impl Op for Chain {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        Ok(vec![inputs[1].clone(), inputs[2].clone()])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let [dgate, dup] = outputs else { return Ok(()) };
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (grad, gate, up) = (inputs[0].slice::<T>()?, inputs[1].slice::<T>()?, inputs[2].slice::<T>()?);
            let size = loops::CHUNK;
            let pieces = dgate.slice::<T>()?.chunks_mut(size).zip(dup.slice::<T>()?.chunks_mut(size)).collect();
            crate::parallel::owned(pieces, |i, (dgate, dup): (&mut [T], &mut [T])| {
                let at = i * size;
                wide::run(Slopes { grad: &grad[at..], gate: &gate[at..], up: &up[at..], dgate, dup });
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
        let [dgate, dup] = outputs else { return Ok(()) };
        let n = dgate.meta.len();
        let args = vec![inputs[0].arg(), inputs[1].arg(), inputs[2].arg(), dgate.arg(), dup.arg()];
        gpu.each(elementwise::SWIGLU_CHAIN.of(self.name(), inputs[0].meta.dtype)?, n, args)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

impl Tensor {
    /// `x σ(x) · up` element by element, with this tensor as the gate x.
    ///
    /// # Errors
    /// Two shapes.
    pub fn swiglu(&self, up: &Self) -> Result<Self> {
        apply1(Swiglu, &[self, up])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |shape: &[usize]| {
        let inputs = check::inputs("swiglu", &[shape, shape], -2.0, 2.0);
        Case::new(format!("swiglu {shape:?}"), inputs, |x| x[0].swiglu(&x[1]))
    };
    [&[][..], &[7], &[3, 17]].into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::tensor::check::{Tolerance, assert_close, random};

    #[test]
    fn it_is_silu_times_up() {
        let (a, b) =
            (random("a", &[5, 3], -2.0, 2.0).expect("fits"), random("b", &[5, 3], -2.0, 2.0).expect("fits"));
        let want = a.silu().expect("runs").mul(&b).expect("runs");
        assert_close(&a.swiglu(&b).expect("runs"), &want, Tolerance::new(1e-15, 1e-14));
        assert!(a.swiglu(&b.reshape(&[3, 5]).expect("runs")).is_err());
    }
}
