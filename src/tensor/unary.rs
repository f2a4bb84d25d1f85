//! Operations on one number at a time: value and derivative stand side by side, the rest is shared.

use std::fmt::Debug;

use super::cpu::wide::{self, Width, Work};
use super::cpu::{View, ViewMut, loops};
use super::cuda::{self, Arg, Gpu};
use super::dtype::{Float, each_float};
use super::kernels::operations::elementwise;
use super::op::{Backward, Keep, Op, apply1, infer};
use super::{Meta, Tensor};
use crate::Result;

/// What the derivative is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Input,
    Output,
}

/// A function of one number as `kernels/elementwise.cu` knows it: its number there and its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Code {
    pub function: u32,
    pub numbers: [f64; 3],
}

impl Code {
    /// A function without constants.
    pub const fn plain(function: u32) -> Self {
        Self { function, numbers: [0.0; 3] }
    }
}

/// A function of one number.
pub(crate) trait Unary: Copy + Debug + Send + Sync + 'static {
    const NAME: &'static str;
    /// On a GPU.
    fn code(&self) -> Code;
    /// The derivative on a GPU, where it is not numbered like the function.
    fn slope_code(&self) -> Code {
        self.code()
    }
    /// What [`slope`](Self::slope) is given.
    const SLOPE_FROM: From;
    fn value<T: Float>(&self, x: T) -> T;
    /// The derivative.
    fn slope<T: Float>(&self, at: T) -> T;
}

/// `y = f(x)` for every element.
#[derive(Debug)]
pub(crate) struct Map<F>(pub F);

impl<F: Unary> Op for Map<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::unary(F::NAME, inputs)
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        each_float!(F::NAME, inputs[0].meta.dtype, T => {
            let x = inputs[0].slice::<T>()?;
            loops::chunks(outputs[0].slice::<T>()?, 1, |start, out| {
                wide::run(Values { of: self.0, x: &x[start..], out });
            });
            Ok(())
        })
    }

    fn cuda(&self, gpu: &Gpu, inputs: &[cuda::View<'_>], outputs: &mut [cuda::ViewMut<'_>]) -> Result<()> {
        let [out] = outputs else { return Ok(()) };
        let (n, Code { function, numbers: [a, b, _] }) = (out.meta.len(), self.0.code());
        let args = vec![inputs[0].arg(), out.arg(), Arg::U32(function), Arg::F64(a), Arg::F64(b)];
        gpu.each(elementwise::MAP.of(F::NAME, inputs[0].meta.dtype)?, n, args)
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        match F::SLOPE_FROM {
            From::Input => Keep::INPUTS,
            From::Output => Keep::OUTPUTS,
        }
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let saved = match F::SLOPE_FROM {
            From::Input => at.input(0)?,
            From::Output => at.output(0)?,
        };
        Ok(vec![Some(apply1(Chain(self.0), &[at.grad()?, saved])?)])
    }
}

/// Values of a piece; the function is called by name, so that it is inlined however long it is.
struct Values<'a, F, T> {
    of: F,
    x: &'a [T],
    out: &'a mut [T],
}

impl<F: Unary, T: Float> Work for Values<'_, F, T> {
    type Out = ();
    const WIDEST: Width = Width::of::<T>();
    #[inline(always)]
    fn run(self) {
        for (out, &x) in self.out.iter_mut().zip(self.x) {
            *out = self.of.value(x);
        }
    }
}

/// Gradient × slope of a piece.
struct Slopes<'a, F, T> {
    of: F,
    grad: &'a [T],
    saved: &'a [T],
    out: &'a mut [T],
}

impl<F: Unary, T: Float> Work for Slopes<'_, F, T> {
    type Out = ();
    const WIDEST: Width = Width::of::<T>();
    #[inline(always)]
    fn run(self) {
        for (out, (&grad, &saved)) in self.out.iter_mut().zip(self.grad.iter().zip(self.saved)) {
            *out = grad * self.of.slope(saved);
        }
    }
}

/// The chain rule in one pass: gradient × slope.
#[derive(Debug)]
struct Chain<F>(F);

impl<F: Unary> Op for Chain<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::unary(F::NAME, inputs)
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        each_float!(F::NAME, inputs[0].meta.dtype, T => {
            let (grad, saved) = (inputs[0].slice::<T>()?, inputs[1].slice::<T>()?);
            loops::chunks(outputs[0].slice::<T>()?, 1, |start, out| {
                wide::run(Slopes { of: self.0, grad: &grad[start..], saved: &saved[start..], out });
            });
            Ok(())
        })
    }

    fn cuda(&self, gpu: &Gpu, inputs: &[cuda::View<'_>], outputs: &mut [cuda::ViewMut<'_>]) -> Result<()> {
        let [out] = outputs else { return Ok(()) };
        let (n, Code { function, numbers }) = (out.meta.len(), self.0.slope_code());
        let mut args = vec![inputs[0].arg(), inputs[1].arg(), out.arg(), Arg::U32(function)];
        args.extend(numbers.map(Arg::F64));
        gpu.each(elementwise::CHAIN.of(F::NAME, inputs[0].meta.dtype)?, n, args)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}
