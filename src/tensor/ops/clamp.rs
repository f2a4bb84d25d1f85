//! Cutting off at two bounds.

use crate::Result;
use crate::tensor::Tensor;
use crate::tensor::check::{Case, unary_cases};
use crate::tensor::dtype::Float;
use crate::tensor::op::apply1;
use crate::tensor::unary::{Code, From, Map, Unary};

#[derive(Clone, Copy, Debug)]
struct Clamp {
    low: f64,
    high: f64,
}

impl Unary for Clamp {
    const NAME: &'static str = "clamp";
    const SLOPE_FROM: From = From::Input;

    fn code(&self) -> Code {
        Code { function: 1, numbers: [self.low, self.high, 0.0] }
    }

    #[inline(always)]
    fn value<T: Float>(&self, x: T) -> T {
        let (low, high) = (T::of_f64(self.low), T::of_f64(self.high));
        if x < low {
            low
        } else if x > high {
            high
        } else {
            x
        }
    }

    #[inline(always)]
    fn slope<T: Float>(&self, x: T) -> T {
        if x >= T::of_f64(self.low) && x <= T::of_f64(self.high) { T::ONE } else { T::ZERO }
    }
}

impl Tensor {
    /// Every element cut off at `low` and `high`; a NaN stays. Gradient: `g` between the bounds and at them, else 0.
    ///
    /// ```
    /// # use ransnn::tensor::Tensor;
    /// let x = Tensor::from_f32(vec![-1.0, 0.5, 2.0], &[3])?;
    /// assert_eq!(x.clamp(0.0, 1.0)?.to_f32()?, [0.0, 0.5, 1.0]);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Bounds that are not in order.
    pub fn clamp(&self, low: f64, high: f64) -> Result<Self> {
        if low.is_nan() || high.is_nan() || low > high {
            return Err(crate::Error::value("bounds of clamp", format!("{low} and {high}"), "in order"));
        }
        apply1(Map(Clamp { low, high }), &[self])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = unary_cases("clamp", -2.0, 2.0, |x| x.clamp(-0.7, 1.1));
    cases.extend(unary_cases("clamp open", -2.0, 2.0, |x| x.clamp(-1.9, f64::INFINITY)));
    cases
}

#[cfg(test)]
mod tests {
    use crate::tensor::Tensor;

    #[test]
    fn values_and_refusals() {
        let x = Tensor::from_f64(vec![f64::NAN, -9.0, 9.0], &[3]).expect("fits");
        let y = x.clamp(-1.0, 1.0).expect("runs").to_f64().expect("f64");
        assert!(y[0].is_nan() && y[1..] == [-1.0, 1.0]);
        assert!(x.clamp(1.0, 0.0).is_err() && x.clamp(f64::NAN, 0.0).is_err());
    }
}
