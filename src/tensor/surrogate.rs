//! Surrogate derivatives of the spike, with the smooth functions that they are the derivatives of.

use std::f64::consts::PI;

use super::dtype::Float;
use super::unary::Code;

/// The derivative that stands in for that of the step, as a function of x = membrane − threshold.
///
/// | name | derivative | usual |
/// |---|---|---|
/// | fast sigmoid | `1 / (1 + k |x|)²` | snnTorch k = 25; SuperSpike k = 100 |
/// | arctangent | `(α/2) / (1 + (π α x / 2)²)` | snnTorch, SpikingJelly α = 2 |
/// | sigmoid | `k σ(k x) (1 − σ(k x))` | snnTorch k = 25, SpikingJelly k = 4 |
/// | triangle | `max(0, α − α² |x|)` | SpikingJelly `PiecewiseQuadratic` α = 1 |
/// | scaled triangle | `(γ/θ) max(0, 1 − |x| / θ)` | e-prop γ = 0.3 |
/// | boxcar | `1 / 2w` where `|x| < w`, else 0 | SpikingJelly `Rect` w = 1/2 |
/// | leaky boxcar | `1 / 2w` where `|x| < w`, else c | SpikingJelly `PiecewiseLeakyReLU` w = 1, c = 0.01 |
/// | exponential | `(α/2) e^(−α |x|)` | SpikingJelly `PiecewiseExp` α = 1 |
/// | soft sign | `1 / (2 α (1/α + |x|)²)` | SpikingJelly α = 2 |
/// | Gaussian | `(α/√π) e^(−α² x²)` | SpikingJelly `Erf` α = 2 |
/// | straight through | 1 | snnTorch |
/// | signed step | `h` where `x < 0`, else `−h` | what snnTorch calls `triangular` |
///
/// The areas differ: 1 for most, 2/k for the fast sigmoid, γ for the scaled triangle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Surrogate {
    /// `1 / (1 + k |x|)²`.
    FastSigmoid {
        /// k, above 0.
        slope: f64,
    },
    /// `(α/2) / (1 + (π α x / 2)²)`.
    Arctan {
        /// α, above 0.
        alpha: f64,
    },
    /// `k σ(k x) (1 − σ(k x))`.
    Sigmoid {
        /// k, above 0.
        slope: f64,
    },
    /// `max(0, α − α² |x|)`.
    Triangle {
        /// α, above 0.
        alpha: f64,
    },
    /// `(γ/θ) max(0, 1 − |x| / θ)`.
    ScaledTriangle {
        /// γ: height times θ, and area.
        gamma: f64,
        /// θ: half the width, the firing threshold in e-prop.
        threshold: f64,
    },
    /// `1 / 2w` where `|x| < w`, else 0.
    Boxcar {
        /// w, above 0.
        width: f64,
    },
    /// `1 / 2w` where `|x| < w`, else c.
    LeakyBoxcar {
        /// w, above 0.
        width: f64,
        /// c.
        outside: f64,
    },
    /// `(α/2) e^(−α |x|)`.
    Exponential {
        /// α, above 0.
        alpha: f64,
    },
    /// `1 / (2 α (1/α + |x|)²)`.
    SoftSign {
        /// α, above 0.
        alpha: f64,
    },
    /// `(α/√π) e^(−α² x²)`.
    Gaussian {
        /// α, above 0.
        alpha: f64,
    },
    /// 1.
    StraightThrough,
    /// `h` where `x < 0`, else `−h`: not a triangle, but what snnTorch computes under that name.
    SignedStep {
        /// h.
        height: f64,
    },
}

impl Surrogate {
    /// One of each, with the usual constants.
    pub const ALL: [Self; 12] = [
        Self::FastSigmoid { slope: 25.0 },
        Self::Arctan { alpha: 2.0 },
        Self::Sigmoid { slope: 4.0 },
        Self::Triangle { alpha: 1.0 },
        Self::ScaledTriangle { gamma: 0.3, threshold: 1.0 },
        Self::Boxcar { width: 1.0 },
        Self::LeakyBoxcar { width: 1.0, outside: 0.01 },
        Self::Exponential { alpha: 1.0 },
        Self::SoftSign { alpha: 2.0 },
        Self::Gaussian { alpha: 2.0 },
        Self::StraightThrough,
        Self::SignedStep { height: 1.0 },
    ];

    /// The derivative at x.
    ///
    /// ```
    /// use ransnn::tensor::Surrogate;
    /// assert_eq!(Surrogate::Arctan { alpha: 2.0 }.derivative(0.0), 1.0);
    /// assert_eq!(Surrogate::FastSigmoid { slope: 25.0 }.derivative(0.04), 0.25);
    /// ```
    pub fn derivative(self, x: f64) -> f64 {
        self.at(x)
    }

    /// The smooth function with this derivative, from 0 to 1 wherever the area is 1: what differences can be taken of.
    ///
    /// ```
    /// use ransnn::tensor::Surrogate;
    /// let (s, h) = (Surrogate::Arctan { alpha: 2.0 }, 1e-6);
    /// let slope = (s.smooth(0.3 + h) - s.smooth(0.3 - h)) / (2.0 * h);
    /// assert!((slope - s.derivative(0.3)).abs() < 1e-8);
    /// ```
    pub fn smooth(self, x: f64) -> f64 {
        let a = x.abs();
        match self {
            Self::FastSigmoid { slope } => 0.5 + x / (1.0 + slope * a),
            Self::Arctan { alpha } => 0.5 + (PI * alpha / 2.0 * x).atan() / PI,
            Self::Sigmoid { slope } => 1.0 / (1.0 + (-slope * x).exp()),
            Self::Triangle { alpha } => 0.5 + x.signum() * half_triangle(a * alpha),
            Self::ScaledTriangle { gamma, threshold } => {
                0.5 + gamma * x.signum() * half_triangle(a / threshold)
            }
            Self::Boxcar { width } => 0.5 + x.clamp(-width, width) / (2.0 * width),
            Self::LeakyBoxcar { width, outside } => {
                0.5 + x.clamp(-width, width) / (2.0 * width) + outside * (x - x.clamp(-width, width))
            }
            Self::Exponential { alpha } => 0.5 + x.signum() * 0.5 * (1.0 - (-alpha * a).exp()),
            Self::SoftSign { alpha } => 0.5 + 0.5 * alpha * x / (1.0 + alpha * a),
            Self::Gaussian { alpha } => 0.5 + 0.5 * Float::erf(alpha * x),
            Self::StraightThrough => x,
            Self::SignedStep { height } => -height * a,
        }
    }

    /// As the kernels know it: the numbers of `kernels/math.cuh` and its constants there.
    pub(crate) fn code(self) -> Code {
        let (function, numbers) = match self {
            Self::FastSigmoid { slope } => (32, [slope, 0.0, 0.0]),
            Self::Arctan { alpha } => (33, [alpha / 2.0, PI * alpha / 2.0, 0.0]),
            Self::Sigmoid { slope } => (34, [slope, 0.0, 0.0]),
            Self::Triangle { alpha } => (35, [alpha, alpha * alpha, 0.0]),
            Self::ScaledTriangle { gamma, threshold } => (36, [gamma / threshold, threshold, 0.0]),
            Self::Boxcar { width } => (37, [width, 0.5 / width, 0.0]),
            Self::LeakyBoxcar { width, outside } => (37, [width, 0.5 / width, outside]),
            Self::Exponential { alpha } => (38, [alpha / 2.0, alpha, 0.0]),
            Self::SoftSign { alpha } => (39, [2.0 * alpha, 1.0 / alpha, 0.0]),
            Self::Gaussian { alpha } => (40, [alpha / PI.sqrt(), alpha * alpha, 0.0]),
            Self::StraightThrough => (41, [0.0; 3]),
            Self::SignedStep { height } => (42, [height, 0.0, 0.0]),
        };
        Code { function, numbers }
    }

    #[inline(always)]
    pub(crate) fn at<T: Float>(self, x: T) -> T {
        let c = T::of_f64;
        let positive = |y: T| if y > T::ZERO { y } else { T::ZERO };
        let square = |y: T| y * y;
        match self {
            Self::FastSigmoid { slope } => T::ONE / square(T::ONE + c(slope) * x.abs()),
            Self::Arctan { alpha } => c(alpha / 2.0) / (T::ONE + square(c(PI * alpha / 2.0) * x)),
            Self::Sigmoid { slope } => {
                // Even in x, and in this form without overflow or loss of digits.
                let e = (-(c(slope) * x.abs())).exp();
                c(slope) * e / square(T::ONE + e)
            }
            Self::Triangle { alpha } => positive(c(alpha) - c(alpha * alpha) * x.abs()),
            Self::ScaledTriangle { gamma, threshold } => {
                c(gamma / threshold) * positive(T::ONE - x.abs() / c(threshold))
            }
            Self::Boxcar { width } => {
                if x.abs() < c(width) {
                    c(0.5 / width)
                } else {
                    T::ZERO
                }
            }
            Self::LeakyBoxcar { width, outside } => {
                if x.abs() < c(width) {
                    c(0.5 / width)
                } else {
                    c(outside)
                }
            }
            Self::Exponential { alpha } => c(alpha / 2.0) * (-(c(alpha) * x.abs())).exp(),
            Self::SoftSign { alpha } => T::ONE / (c(2.0 * alpha) * square(c(1.0 / alpha) + x.abs())),
            Self::Gaussian { alpha } => c(alpha / PI.sqrt()) * (-(c(alpha * alpha) * x * x)).exp(),
            Self::StraightThrough => T::ONE,
            Self::SignedStep { height } => {
                if x < T::ZERO {
                    c(height)
                } else {
                    c(-height)
                }
            }
        }
    }

    /// The derivative at every element, in place: the choice is made once and not in the loop.
    #[inline(always)]
    pub(crate) fn at_each<T: Float>(self, x: &mut [T]) {
        macro_rules! each {
            ($($name:ident { $($field:ident),* })*) => {
                match self {
                    $(Self::$name { $($field),* } => {
                        let fixed = Self::$name { $($field),* };
                        // A loop and no closure, which would not be inlined, and so look at the choice each time.
                        for x in &mut *x {
                            *x = fixed.at(*x);
                        }
                    })*
                    Self::StraightThrough => x.fill(T::ONE),
                }
            };
        }
        each! {
            FastSigmoid { slope } Arctan { alpha } Sigmoid { slope } Triangle { alpha }
            ScaledTriangle { gamma, threshold } Boxcar { width } LeakyBoxcar { width, outside }
            Exponential { alpha } SoftSign { alpha } Gaussian { alpha } SignedStep { height }
        }
    }
}

/// ∫₀ᵃ max(0, 1 − t) dt.
fn half_triangle(a: f64) -> f64 {
    let a = a.min(1.0);
    a - a * a / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surrogates_have_their_published_height_at_threshold() {
        let heights = Surrogate::ALL.map(|s| s.derivative(0.0));
        let want = [1.0, 1.0, 1.0, 1.0, 0.3, 0.5, 0.5, 0.5, 1.0, 2.0 / PI.sqrt(), 1.0, -1.0];
        assert!(heights.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-15), "{heights:?}");
    }

    #[test]
    fn each_is_the_derivative_of_its_smooth_function() {
        for s in Surrogate::ALL {
            for i in -40..40 {
                let (x, h) = (f64::from(i) * 0.0531 + 0.0013, 1e-6);
                let slope = (s.smooth(x + h) - s.smooth(x - h)) / (2.0 * h);
                assert!((slope - s.derivative(x)).abs() < 1e-6, "{s:?} at {x}: {slope}");
                let (mut one, wide) = ([x as f32], s.at(x as f32));
                s.at_each(&mut one);
                assert_eq!(one[0], wide, "{s:?}");
            }
        }
    }
}
