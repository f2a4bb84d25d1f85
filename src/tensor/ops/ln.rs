//! The natural logarithm.

use crate::Result;
use crate::tensor::Tensor;
use crate::tensor::check::{Case, unary_cases};
use crate::tensor::dtype::Float;
use crate::tensor::op::apply1;
use crate::tensor::unary::{Code, From, Map, Unary};

#[derive(Clone, Copy, Debug)]
struct Ln;

impl Unary for Ln {
    const NAME: &'static str = "ln";
    const SLOPE_FROM: From = From::Input;

    fn code(&self) -> Code {
        Code::plain(5)
    }

    #[inline(always)]
    fn value<T: Float>(&self, x: T) -> T {
        x.ln()
    }

    #[inline(always)]
    fn slope<T: Float>(&self, x: T) -> T {
        T::ONE / x
    }
}

impl Tensor {
    /// `ln x` of every element; −∞ at 0 and NaN below. Gradient: `g / x`.
    ///
    /// ```
    /// # use ransnn::tensor::Tensor;
    /// let x = Tensor::from_f32(vec![1.0], &[1])?;
    /// assert_eq!(x.ln()?.to_f32()?, [0.0]);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    pub fn ln(&self) -> Result<Self> {
        apply1(Map(Ln), &[self])
    }
}

pub(super) fn cases() -> Vec<Case> {
    unary_cases("ln", 0.3, 3.0, |x| x.ln())
}

#[cfg(test)]
mod tests {
    use crate::tensor::Tensor;

    #[test]
    fn values() {
        let of = |x: f64| {
            Tensor::from_f64(vec![x], &[1]).expect("fits").ln().expect("runs").to_scalar().expect("one")
        };
        assert!((of(2.0) - std::f64::consts::LN_2).abs() < 1e-15);
        assert!(of(-1.0).is_nan());
    }
}
