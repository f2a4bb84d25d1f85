//! The logistic function.

use crate::Result;
use crate::tensor::Tensor;
use crate::tensor::check::{Case, unary_cases};
use crate::tensor::dtype::Float;
use crate::tensor::op::apply1;
use crate::tensor::unary::{Code, From, Map, Unary};

#[derive(Clone, Copy, Debug)]
struct Sigmoid;

impl Unary for Sigmoid {
    const NAME: &'static str = "sigmoid";
    const SLOPE_FROM: From = From::Output;

    fn code(&self) -> Code {
        Code::plain(8)
    }

    #[inline(always)]
    fn value<T: Float>(&self, x: T) -> T {
        T::ONE / (T::ONE + (-x).exp())
    }

    #[inline(always)]
    fn slope<T: Float>(&self, y: T) -> T {
        y * (T::ONE - y)
    }
}

impl Tensor {
    /// `1 / (1 + e⁻ˣ)` of every element. Gradient: `g y (1 − y)`.
    ///
    /// ```
    /// # use ransnn::tensor::Tensor;
    /// let x = Tensor::from_f32(vec![0.0], &[1])?;
    /// assert_eq!(x.sigmoid()?.to_f32()?, [0.5]);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    pub fn sigmoid(&self) -> Result<Self> {
        apply1(Map(Sigmoid), &[self])
    }
}

pub(super) fn cases() -> Vec<Case> {
    unary_cases("sigmoid", -3.0, 3.0, |x| x.sigmoid())
}

#[cfg(test)]
mod tests {
    use crate::tensor::Tensor;

    #[test]
    fn values() {
        let of = |x: f64| {
            Tensor::from_f64(vec![x], &[1]).expect("fits").sigmoid().expect("runs").to_scalar().expect("one")
        };
        assert!((of(2.0) - 0.880_797_077_977_882_3).abs() < 1e-15);
        assert_eq!((of(-800.0), of(800.0)), (0.0, 1.0));
    }
}
