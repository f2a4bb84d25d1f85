//! The Gaussian error linear unit (Hendrycks and Gimpel, arXiv:1606.08415), exact and by tanh.

use crate::Result;
use crate::tensor::Tensor;
use crate::tensor::check::{Case, unary_cases};
use crate::tensor::dtype::Float;
use crate::tensor::op::apply1;
use crate::tensor::unary::{Code, From, Map, Unary};

/// `x Φ(x)` with the normal distribution Φ.
#[derive(Clone, Copy, Debug)]
struct Gelu;

impl Unary for Gelu {
    const NAME: &'static str = "gelu";
    const SLOPE_FROM: From = From::Input;

    fn code(&self) -> Code {
        Code::plain(3)
    }

    #[inline(always)]
    fn value<T: Float>(&self, x: T) -> T {
        x * normal(x)
    }

    #[inline(always)]
    fn slope<T: Float>(&self, x: T) -> T {
        // 1/√(2π)
        let density = T::of_f64(0.398_942_280_401_432_7) * (T::of_f64(-0.5) * x * x).exp();
        normal(x) + x * density
    }
}

#[inline(always)]
fn normal<T: Float>(x: T) -> T {
    T::of_f64(0.5) * (T::ONE + (x * T::of_f64(std::f64::consts::FRAC_1_SQRT_2)).erf())
}

/// `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
#[derive(Clone, Copy, Debug)]
struct GeluTanh;

const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;

impl Unary for GeluTanh {
    const NAME: &'static str = "gelu_tanh";
    const SLOPE_FROM: From = From::Input;

    fn code(&self) -> Code {
        Code::plain(4)
    }

    #[inline(always)]
    fn value<T: Float>(&self, x: T) -> T {
        let inner = T::of_f64(SQRT_2_OVER_PI) * (x + T::of_f64(0.044_715) * x * x * x);
        T::of_f64(0.5) * x * (T::ONE + inner.tanh())
    }

    #[inline(always)]
    fn slope<T: Float>(&self, x: T) -> T {
        let half = T::of_f64(0.5);
        let square = T::of_f64(0.044_715) * x * x;
        let t = (T::of_f64(SQRT_2_OVER_PI) * x * (T::ONE + square)).tanh();
        let inner_slope = T::of_f64(SQRT_2_OVER_PI) * (T::ONE + T::of_f64(3.0) * square);
        half * (T::ONE + t) + half * x * (T::ONE - t * t) * inner_slope
    }
}

impl Tensor {
    /// `x Φ(x)` of every element with the normal distribution Φ: PyTorch's default, BERT's activation.
    /// Gradient: `g (Φ(x) + x φ(x))`.
    pub fn gelu(&self) -> Result<Self> {
        apply1(Map(Gelu), &[self])
    }

    /// The approximation by tanh that GPT-2 was trained with (`gelu_new`).
    pub fn gelu_tanh(&self) -> Result<Self> {
        apply1(Map(GeluTanh), &[self])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = unary_cases("gelu", -3.0, 3.0, |x| x.gelu());
    cases.extend(unary_cases("gelu_tanh", -3.0, 3.0, |x| x.gelu_tanh()));
    cases
}

#[cfg(test)]
mod tests {
    use crate::tensor::Tensor;

    #[test]
    fn values_of_pytorch() {
        let x = Tensor::from_f64(vec![1.0, -2.0], &[2]).expect("fits");
        let close = |got: Tensor, want: [f64; 2]| {
            let got = got.to_f64().expect("f64");
            assert!((got[0] - want[0]).abs() < 1e-12 && (got[1] - want[1]).abs() < 1e-12, "{got:?}");
        };
        close(x.gelu().expect("runs"), [0.841_344_746_068_543, -0.045_500_263_896_358_4]);
        close(x.gelu_tanh().expect("runs"), [0.841_191_990_608_276_5, -0.045_402_305_912_417_5]);
    }
}
