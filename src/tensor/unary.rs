//! Operations on one number at a time: value and derivative stand side by side, the rest is shared.

use std::fmt::Debug;

use super::cpu::{View, ViewMut, loops};
use super::dtype::{Float, each_float};
use super::op::{Backward, Keep, Op, apply1, infer};
use super::{Meta, Tensor};
use crate::Result;

/// What the derivative is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Input,
    Output,
}

/// A function of one number.
pub(crate) trait Unary: Copy + Debug + Send + Sync + 'static {
    const NAME: &'static str;
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
            loops::map(inputs[0].slice::<T>()?, outputs[0].slice::<T>()?, |x| self.0.value(x));
            Ok(())
        })
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
            loops::map2(grad, saved, outputs[0].slice::<T>()?, |grad, saved| grad * self.0.slope(saved));
            Ok(())
        })
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}
