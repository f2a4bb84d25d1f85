//! The hyperbolic tangent.

use crate::Result;
use crate::tensor::Tensor;
use crate::tensor::check::{Case, unary_cases};
use crate::tensor::dtype::Float;
use crate::tensor::op::apply1;
use crate::tensor::unary::{Code, From, Map, Unary};

#[derive(Clone, Copy, Debug)]
struct Tanh;

impl Unary for Tanh {
    const NAME: &'static str = "tanh";
    const SLOPE_FROM: From = From::Output;

    fn code(&self) -> Code {
        Code::plain(13)
    }

    #[inline(always)]
    fn value<T: Float>(&self, x: T) -> T {
        x.tanh()
    }

    #[inline(always)]
    fn slope<T: Float>(&self, y: T) -> T {
        T::ONE - y * y
    }
}

impl Tensor {
    /// `tanh x` of every element. Gradient: `g (1 − y²)`.
    ///
    /// ```
    /// # use ransnn::tensor::Tensor;
    /// let x = Tensor::from_f32(vec![0.0], &[1])?;
    /// assert_eq!(x.tanh()?.to_f32()?, [0.0]);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    pub fn tanh(&self) -> Result<Self> {
        apply1(Map(Tanh), &[self])
    }
}

pub(super) fn cases() -> Vec<Case> {
    unary_cases("tanh", -2.0, 2.0, |x| x.tanh())
}

#[cfg(test)]
mod tests {
    use crate::tensor::Tensor;

    #[test]
    fn values() {
        let of = |x: f64| {
            Tensor::from_f64(vec![x], &[1]).expect("fits").tanh().expect("runs").to_scalar().expect("one")
        };
        assert!((of(0.5) - 0.5f64.tanh()).abs() < 1e-15);
    }
}
