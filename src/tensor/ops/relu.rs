//! The rectifier.

use crate::Result;
use crate::tensor::Tensor;
use crate::tensor::check::{Case, unary_cases};
use crate::tensor::dtype::Float;
use crate::tensor::op::apply1;
use crate::tensor::unary::{Code, From, Map, Unary};

#[derive(Clone, Copy, Debug)]
struct Relu;

impl Unary for Relu {
    const NAME: &'static str = "relu";
    const SLOPE_FROM: From = From::Output;

    fn code(&self) -> Code {
        Code::plain(7)
    }

    #[inline(always)]
    fn value<T: Float>(&self, x: T) -> T {
        if x > T::ZERO { x } else { T::ZERO }
    }

    #[inline(always)]
    fn slope<T: Float>(&self, y: T) -> T {
        if y > T::ZERO { T::ONE } else { T::ZERO }
    }
}

impl Tensor {
    /// `max(0, x)` of every element. Gradient: `g` where `x > 0`, else 0 (also at 0).
    ///
    /// ```
    /// # use ransnn::tensor::Tensor;
    /// let x = Tensor::from_f32(vec![-1.0, 2.0], &[2])?;
    /// assert_eq!(x.relu()?.to_f32()?, [0.0, 2.0]);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    pub fn relu(&self) -> Result<Self> {
        apply1(Map(Relu), &[self])
    }
}

pub(super) fn cases() -> Vec<Case> {
    unary_cases("relu", -2.0, 2.0, |x| x.relu())
}

#[cfg(test)]
mod tests {
    use crate::tensor::Tensor;

    #[test]
    fn values() {
        let of = |x: f64| {
            Tensor::from_f64(vec![x], &[1]).expect("fits").relu().expect("runs").to_scalar().expect("one")
        };
        assert_eq!((of(-1.0), of(0.0), of(2.5)), (0.0, 0.0, 2.5));
    }
}
