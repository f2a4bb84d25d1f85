//! The spike: a step forward, a surrogate derivative backward (Neftci, Mostafa and Zenke, arXiv:1901.09948).

use std::f64::consts::PI;

use crate::Result;
use crate::tensor::Tensor;
use crate::tensor::check::{self, Case};
use crate::tensor::dtype::Float;
use crate::tensor::op::apply1;
use crate::tensor::unary::{From, Map, Unary};

/// The derivative that stands in for that of the step, as a function of x = membrane − threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Surrogate {
    /// `1 / (1 + k |x|)²`: snnTorch's `fast_sigmoid` (k = 25), SuperSpike (k = 100).
    FastSigmoid {
        /// k, above 0.
        slope: f64,
    },
    /// `(α/2) / (1 + (π α x / 2)²)`: `atan` of snnTorch and SpikingJelly (α = 2).
    Arctan {
        /// α, above 0.
        alpha: f64,
    },
    /// `k σ(k x) (1 − σ(k x))`: snnTorch (k = 25), SpikingJelly (k = 4).
    Sigmoid {
        /// k, above 0.
        slope: f64,
    },
    /// `max(0, α − α² |x|)`: SpikingJelly's `PiecewiseQuadratic` (α = 1).
    Triangle {
        /// α, above 0.
        alpha: f64,
    },
    /// `1 / 2w` where `|x| < w`, else 0.
    Boxcar {
        /// w, above 0.
        width: f64,
    },
    /// `(α/√π) e^(−α² x²)`: SpikingJelly's `Erf` (α = 2).
    Gaussian {
        /// α, above 0.
        alpha: f64,
    },
    /// 1.
    StraightThrough,
}

impl Surrogate {
    /// The derivative at x.
    pub fn derivative(self, x: f64) -> f64 {
        self.at(x)
    }

    #[inline(always)]
    fn at<T: Float>(self, x: T) -> T {
        let c = T::of_f64;
        match self {
            Self::FastSigmoid { slope } => {
                let d = T::ONE + c(slope) * x.abs();
                T::ONE / (d * d)
            }
            Self::Arctan { alpha } => {
                let z = c(PI * alpha / 2.0) * x;
                c(alpha / 2.0) / (T::ONE + z * z)
            }
            Self::Sigmoid { slope } => {
                let s = T::ONE / (T::ONE + (-(c(slope) * x)).exp());
                c(slope) * s * (T::ONE - s)
            }
            Self::Triangle { alpha } => {
                let y = c(alpha) - c(alpha * alpha) * x.abs();
                if y > T::ZERO { y } else { T::ZERO }
            }
            Self::Boxcar { width } => {
                if x.abs() < c(width) {
                    c(0.5 / width)
                } else {
                    T::ZERO
                }
            }
            Self::Gaussian { alpha } => c(alpha / PI.sqrt()) * (-(c(alpha * alpha) * x * x)).exp(),
            Self::StraightThrough => T::ONE,
        }
    }

    /// The smooth function whose derivative this is, from tensor operations: what differences can be taken of.
    fn integral(self, x: &Tensor) -> Result<Tensor> {
        let abs = || x.mul(x)?.sqrt();
        match self {
            // x / (1 + k |x|)
            Self::FastSigmoid { slope } => x.div(&abs()?.affine(slope, 1.0)?),
            // arctan(π α x / 2) / π, with the arctangent by std: operations have none.
            Self::Arctan { alpha } => each(x, |x| (PI * alpha / 2.0 * x).atan() / PI),
            Self::Sigmoid { slope } => x.mul_scalar(slope)?.sigmoid(),
            Self::Triangle { alpha } => each(x, |x| {
                let a = x.abs().min(1.0 / alpha);
                x.signum() * (alpha * a - alpha * alpha * a * a / 2.0)
            }),
            Self::Boxcar { width } => each(x, |x| x.clamp(-width, width) / (2.0 * width)),
            // (1 + erf(α x)) / 2 = gelu(√2 α x) / (√2 α x)
            Self::Gaussian { alpha } => {
                let z = x.mul_scalar(2f64.sqrt() * alpha)?;
                z.gelu()?.div(&z)
            }
            Self::StraightThrough => Ok(x.clone()),
        }
    }
}

fn each(x: &Tensor, f: impl Fn(f64) -> f64) -> Result<Tensor> {
    Tensor::from_f64(x.to_f64()?.into_iter().map(f).collect(), x.shape())
}

/// `x ≥ 0`.
#[derive(Clone, Copy, Debug)]
struct Spike(Surrogate);

impl Unary for Spike {
    const NAME: &'static str = "spike";
    const SLOPE_FROM: From = From::Input;

    #[inline(always)]
    fn value<T: Float>(&self, x: T) -> T {
        if x >= T::ZERO { T::ONE } else { T::ZERO }
    }

    #[inline(always)]
    fn slope<T: Float>(&self, x: T) -> T {
        self.0.at(x)
    }
}

/// `x > 0`: as in snnTorch, a membrane at the threshold does not fire.
#[derive(Clone, Copy, Debug)]
struct SpikeAbove(Surrogate);

impl Unary for SpikeAbove {
    const NAME: &'static str = "spike_above";
    const SLOPE_FROM: From = From::Input;

    #[inline(always)]
    fn value<T: Float>(&self, x: T) -> T {
        if x > T::ZERO { T::ONE } else { T::ZERO }
    }

    #[inline(always)]
    fn slope<T: Float>(&self, x: T) -> T {
        self.0.at(x)
    }
}

impl Tensor {
    /// 1 where `x ≥ 0`, else 0, with x = membrane − threshold (SpikingJelly, Brian2 use ≥). Gradient: `g` times the
    /// surrogate at x.
    ///
    /// ```
    /// # use ransnn::tensor::{Surrogate, Tensor};
    /// let x = Tensor::from_f32(vec![-0.5, 0.0, 0.5], &[3])?;
    /// assert_eq!(x.spike(Surrogate::Arctan { alpha: 2.0 })?.to_f32()?, [0.0, 1.0, 1.0]);
    /// assert_eq!(x.spike_above(Surrogate::Arctan { alpha: 2.0 })?.to_f32()?, [0.0, 0.0, 1.0]);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    pub fn spike(&self, surrogate: Surrogate) -> Result<Self> {
        apply1(Map(Spike(surrogate)), &[self])
    }

    /// 1 where `x > 0`, else 0 (snnTorch, norse). Gradient as for [`spike`](Self::spike).
    pub fn spike_above(&self, surrogate: Surrogate) -> Result<Self> {
        apply1(Map(SpikeAbove(surrogate)), &[self])
    }
}

const ALL: [Surrogate; 7] = [
    Surrogate::FastSigmoid { slope: 25.0 },
    Surrogate::Arctan { alpha: 2.0 },
    Surrogate::Sigmoid { slope: 4.0 },
    Surrogate::Triangle { alpha: 1.0 },
    Surrogate::Boxcar { width: 1.0 },
    Surrogate::Gaussian { alpha: 2.0 },
    Surrogate::StraightThrough,
];

pub(super) fn cases() -> Vec<Case> {
    let case = |surrogate: Surrogate, shape: &[usize]| {
        let inputs = check::inputs("spike", &[shape], -0.8, 0.8);
        let what = format!("spike {surrogate:?} {shape:?}");
        let mut case = Case::new(what, inputs, move |x| x[0].spike(surrogate));
        case.twin = Some(Box::new(move |x| surrogate.integral(&x[0])));
        case
    };
    let mut cases: Vec<Case> = ALL.into_iter().flat_map(|s| [case(s, &[1]), case(s, &[3, 17])]).collect();
    let above =
        ALL.into_iter().map(|s| Case { run: Box::new(move |x| x[0].spike_above(s)), ..case(s, &[7]) });
    cases.extend(above);
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surrogates_have_their_published_height_at_threshold() {
        let heights = ALL.map(|s| s.derivative(0.0));
        let want = [1.0, 1.0, 1.0, 1.0, 0.5, 2.0 / PI.sqrt(), 1.0];
        assert!(heights.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-15), "{heights:?}");
    }
}
