//! The square root.

use crate::Result;
use crate::tensor::Tensor;
use crate::tensor::check::{Case, unary_cases};
use crate::tensor::dtype::Float;
use crate::tensor::op::apply1;
use crate::tensor::unary::{Code, From, Map, Unary};

#[derive(Clone, Copy, Debug)]
struct Sqrt;

impl Unary for Sqrt {
    const NAME: &'static str = "sqrt";
    const SLOPE_FROM: From = From::Output;

    fn code(&self) -> Code {
        Code::plain(12)
    }

    #[inline(always)]
    fn value<T: Float>(&self, x: T) -> T {
        x.sqrt()
    }

    #[inline(always)]
    fn slope<T: Float>(&self, y: T) -> T {
        T::of_f64(0.5) / y
    }
}

impl Tensor {
    /// `√x` of every element; NaN below 0. Gradient: `g / 2y`.
    ///
    /// ```
    /// # use ransnn::tensor::Tensor;
    /// let x = Tensor::from_f32(vec![4.0], &[1])?;
    /// assert_eq!(x.sqrt()?.to_f32()?, [2.0]);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    pub fn sqrt(&self) -> Result<Self> {
        apply1(Map(Sqrt), &[self])
    }
}

pub(super) fn cases() -> Vec<Case> {
    unary_cases("sqrt", 0.3, 3.0, |x| x.sqrt())
}

#[cfg(test)]
mod tests {
    use crate::tensor::Tensor;

    #[test]
    fn values() {
        let of = |x: f64| {
            Tensor::from_f64(vec![x], &[1]).expect("fits").sqrt().expect("runs").to_scalar().expect("one")
        };
        assert_eq!(of(9.0), 3.0);
    }
}
