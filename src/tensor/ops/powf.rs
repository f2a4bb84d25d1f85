//! Powers with a fixed exponent.

use crate::Result;
use crate::tensor::Tensor;
use crate::tensor::check::{Case, unary_cases};
use crate::tensor::dtype::Float;
use crate::tensor::op::apply1;
use crate::tensor::unary::{Code, From, Map, Unary};

#[derive(Clone, Copy, Debug)]
struct Powf(f64);

impl Unary for Powf {
    const NAME: &'static str = "powf";
    const SLOPE_FROM: From = From::Input;

    fn code(&self) -> Code {
        Code { function: 6, numbers: [self.0, self.0 - 1.0, 0.0] }
    }

    #[inline(always)]
    fn value<T: Float>(&self, x: T) -> T {
        x.powf(T::of_f64(self.0))
    }

    #[inline(always)]
    fn slope<T: Float>(&self, x: T) -> T {
        T::of_f64(self.0) * x.powf(T::of_f64(self.0 - 1.0))
    }
}

impl Tensor {
    /// `xᵉ` of every element; NaN for a negative base with a broken exponent. Gradient: `g e xᵉ⁻¹`.
    pub fn powf(&self, exponent: f64) -> Result<Self> {
        apply1(Map(Powf(exponent)), &[self])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = unary_cases("powf(1.7)", 0.3, 3.0, |x| x.powf(1.7));
    cases.extend(unary_cases("powf(3)", -2.0, 2.0, |x| x.powf(3.0)));
    cases.extend(unary_cases("powf(-1)", 0.5, 2.0, |x| x.powf(-1.0)));
    cases
}

#[cfg(test)]
mod tests {
    use crate::tensor::Tensor;

    #[test]
    fn values() {
        let x = Tensor::from_f64(vec![4.0, -2.0], &[2]).expect("fits");
        assert_eq!(x.powf(2.0).expect("runs").to_f64().expect("f64"), [16.0, 4.0]);
        let root = x.powf(0.5).expect("runs").to_f64().expect("f64");
        assert!((root[0] - 2.0).abs() < 1e-14 && root[1].is_nan());
    }
}
