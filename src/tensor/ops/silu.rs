//! The sigmoid-weighted linear unit (Elfwing et al. 2018), also called swish; the gate of Llama.

use crate::Result;
use crate::tensor::Tensor;
use crate::tensor::check::{Case, unary_cases};
use crate::tensor::dtype::Float;
use crate::tensor::op::apply1;
use crate::tensor::unary::{Code, From, Map, Unary};

#[derive(Clone, Copy, Debug)]
struct Silu;

impl Unary for Silu {
    const NAME: &'static str = "silu";
    const SLOPE_FROM: From = From::Input;

    fn code(&self) -> Code {
        Code::plain(9)
    }

    #[inline(always)]
    fn value<T: Float>(&self, x: T) -> T {
        x / (T::ONE + (-x).exp())
    }

    #[inline(always)]
    fn slope<T: Float>(&self, x: T) -> T {
        let s = T::ONE / (T::ONE + (-x).exp());
        s * (T::ONE + x * (T::ONE - s))
    }
}

impl Tensor {
    /// `x σ(x)` of every element. Gradient: `g σ(x) (1 + x (1 − σ(x)))`.
    ///
    /// ```
    /// # use ransnn::tensor::Tensor;
    /// let x = Tensor::from_f32(vec![0.0], &[1])?;
    /// assert_eq!(x.silu()?.to_f32()?, [0.0]);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    pub fn silu(&self) -> Result<Self> {
        apply1(Map(Silu), &[self])
    }
}

pub(super) fn cases() -> Vec<Case> {
    unary_cases("silu", -3.0, 3.0, |x| x.silu())
}

#[cfg(test)]
mod tests {
    use crate::tensor::Tensor;

    #[test]
    fn values() {
        let of = |x: f64| {
            Tensor::from_f64(vec![x], &[1]).expect("fits").silu().expect("runs").to_scalar().expect("one")
        };
        assert!((of(2.0) - 1.761_594_155_955_764_7).abs() < 1e-15);
    }
}
