//! The exponential function.

use crate::Result;
use crate::tensor::Tensor;
use crate::tensor::check::{Case, unary_cases};
use crate::tensor::dtype::Float;
use crate::tensor::op::apply1;
use crate::tensor::unary::{Code, From, Map, Unary};

#[derive(Clone, Copy, Debug)]
struct Exp;

impl Unary for Exp {
    const NAME: &'static str = "exp";
    const SLOPE_FROM: From = From::Output;

    fn code(&self) -> Code {
        Code::plain(2)
    }

    #[inline(always)]
    fn value<T: Float>(&self, x: T) -> T {
        x.exp()
    }

    #[inline(always)]
    fn slope<T: Float>(&self, y: T) -> T {
        y
    }
}

impl Tensor {
    /// `eˣ` of every element. Gradient: `g y`.
    ///
    /// ```
    /// # use ransnn::tensor::Tensor;
    /// let x = Tensor::from_f32(vec![0.0], &[1])?;
    /// assert_eq!(x.exp()?.to_f32()?, [1.0]);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    pub fn exp(&self) -> Result<Self> {
        apply1(Map(Exp), &[self])
    }
}

pub(super) fn cases() -> Vec<Case> {
    unary_cases("exp", -2.0, 2.0, |x| x.exp())
}

#[cfg(test)]
mod tests {
    use crate::tensor::Tensor;

    #[test]
    fn values() {
        let of = |x: f64| {
            Tensor::from_f64(vec![x], &[1]).expect("fits").exp().expect("runs").to_scalar().expect("one")
        };
        assert!((of(1.0) - std::f64::consts::E).abs() < 1e-15);
    }
}
