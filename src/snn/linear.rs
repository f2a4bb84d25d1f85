//! Neurons whose equations are linear between events, in closed form.
//!
//! With the leak λ = 1/τ and the rates μ of the synaptic currents, in mV and ms:
//!
//! ```text
//! v̇ = −λ (v − rest) + drive + Σ i        i̇ = −μ i + j        j̇ = −μ j
//!
//! v(t) = rest + (v − rest) e^(−λt) + drive K₀(t) + Σ i K₁(t) + j K₂(t)
//! K₀(t) = ∫₀ᵗ e^(−λ(t−s)) ds      K₁(t) = ∫₀ᵗ e^(−λ(t−s)) e^(−μs) ds      K₂(t) = ∫₀ᵗ e^(−λ(t−s)) s e^(−μs) ds
//! ```
//!
//! The models take their propagators over a time step from here (Rotter & Diesmann, Biol. Cybern. 81, 1999), the lazy
//! clock the potential at any time. The textbook forms divide small differences where τ_syn ≈ τ; these do not.

use crate::error::{Error, Result};
use crate::tensor::cpu::math::f64::exp;

/// A model in closed form: what it does between events, and what events and spikes do to it.
///
/// Models that return one from [`Neuron::linear`](super::Neuron::linear) run on the lazy clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// Time constant of the membrane in ms; infinite without a leak.
    pub tau: f64,
    /// Potential that the leak pulls to, and the initial one, in mV.
    pub rest: f64,
    /// Constant drive in mV/ms.
    pub drive: f64,
    /// Firing threshold in mV; infinite for one that never fires.
    pub threshold: f64,
    /// Potential after a spike and during the refractory period, in mV.
    pub reset: f64,
    /// Length of the refractory period in ms.
    pub refractory: f64,
    /// What an event does, by receptor.
    pub receptors: Vec<Kernel>,
    /// What a spike leaves behind.
    pub adaptation: Vec<Adaptation>,
}

/// What a spike of the neuron itself adds to; both decay exponentially, and go on to in the refractory period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Adaptation {
    /// A current against the drive.
    Current {
        /// Time constant in ms.
        tau: f64,
        /// In mV/ms.
        size: f64,
    },
    /// The threshold.
    Threshold {
        /// Time constant in ms.
        tau: f64,
        /// In mV, at least 0.
        size: f64,
    },
}

/// What an event of unit weight does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kernel {
    /// Adds to the membrane potential; lost during the refractory period.
    Jump {
        /// In mV.
        gain: f64,
    },
    /// Adds to a current that decays exponentially: `i ← i + gain`.
    Exponential {
        /// Time constant in ms.
        tau: f64,
        /// In mV/ms.
        gain: f64,
    },
    /// Adds an alpha function whose peak, after τ, is `gain`: `j ← j + gain · e / τ`.
    Alpha {
        /// Time to the peak in ms.
        tau: f64,
        /// In mV/ms.
        gain: f64,
    },
    /// Adds to a current that stays as it is: what currents from outside switch on and off.
    Constant {
        /// In mV/ms.
        gain: f64,
    },
}

impl Linear {
    /// Checks what the closed forms need.
    ///
    /// # Errors
    /// Names the first quantity that is not finite, or whose range is wrong.
    pub fn validate(&self) -> Result<()> {
        let positive = |what: &str, value: f64| match value > 0.0 {
            true => Ok(()),
            false => Err(Error::value(what, value, "above 0")),
        };
        positive("tau", self.tau)?;
        for (what, value) in [("rest", self.rest), ("drive", self.drive), ("reset", self.reset)] {
            if !value.is_finite() {
                return Err(Error::value(what, value, "a finite number"));
            }
        }
        // A distance that rounding could bridge would make it fire without end.
        let scale = (self.threshold - self.rest).abs().max((self.reset - self.rest).abs()).min(f64::MAX);
        let apart = self.threshold - self.reset;
        if apart.is_nan() || apart <= 1e-9 * scale {
            return Err(Error::value(
                "reset",
                self.reset,
                format!("below the threshold, {}", self.threshold),
            ));
        }
        if !(self.refractory >= 0.0 && self.refractory.is_finite()) {
            return Err(Error::value("refractory", self.refractory, "a finite number of at least 0"));
        }
        for adaptation in &self.adaptation {
            let (Adaptation::Current { tau, size } | Adaptation::Threshold { tau, size }) = *adaptation;
            positive("tau of an adaptation", tau)?;
            let rises = matches!(adaptation, Adaptation::Threshold { .. });
            if !size.is_finite() || rises && size < 0.0 {
                return Err(Error::value("size of an adaptation", size, "finite; of a threshold at least 0"));
            }
        }
        self.receptors.iter().try_for_each(|kernel| match *kernel {
            Kernel::Jump { gain }
            | Kernel::Constant { gain }
            | Kernel::Exponential { gain, .. }
            | Kernel::Alpha { gain, .. }
                if !gain.is_finite() =>
            {
                Err(Error::value("gain of a receptor", gain, "a finite number"))
            }
            Kernel::Exponential { tau, .. } | Kernel::Alpha { tau, .. } => positive("tau of a receptor", tau),
            Kernel::Jump { .. } | Kernel::Constant { .. } => Ok(()),
        })
    }
}

/// K₀: the potential after `t` under a unit drive from rest.
///
/// ```
/// use ransnn::snn::linear::constant_response;
/// assert!((constant_response(1e3, 0.1) - 10.0).abs() < 1e-12); // τ, when all is over
/// assert_eq!(constant_response(3.0, 0.0), 3.0); // no leak
/// ```
pub fn constant_response(t: f64, leak: f64) -> f64 {
    t * mean_decay(leak * t)
}

/// K₁: the potential after `t` from a current that starts at 1 and decays at the rate `mu`.
///
/// ```
/// use ransnn::snn::linear::exponential_response;
/// // Equal rates: t e^(−t/τ), the limit that the difference of two exponentials misses.
/// assert!((exponential_response(2.0, 0.1, 0.1) - 2.0 * (-0.2f64).exp()).abs() < 1e-15);
/// assert!((exponential_response(2.0, 0.1, 0.1 + 1e-13) - 2.0 * (-0.2f64).exp()).abs() < 1e-12);
/// ```
pub fn exponential_response(t: f64, leak: f64, mu: f64) -> f64 {
    // The slower of the two exponentials stands in front, so that nothing overflows.
    t * exp(-leak.min(mu) * t) * mean_decay((mu - leak).abs() * t)
}

/// K₂: the potential after `t` from a current `s e^(−mu s)`.
///
/// ```
/// use ransnn::snn::linear::alpha_response;
/// // Equal rates: t²/2 e^(−t/τ).
/// assert!((alpha_response(2.0, 0.1, 0.1) - 2.0 * (-0.2f64).exp()).abs() < 1e-15);
/// ```
pub fn alpha_response(t: f64, leak: f64, mu: f64) -> f64 {
    let x = (mu - leak) * t;
    let (front, integral) = if x.abs() < SERIES {
        // ∫₀¹ s e^(−xs) ds = Σ (−x)ᵏ / (k! (k + 2))
        (leak, series(-x, |k| 1.0 / f64::from(k + 2)))
    } else if x > 0.0 {
        (leak, (1.0 - (1.0 + x) * exp(-x)) / (x * x))
    } else {
        (mu, (exp(x) - 1.0 - x) / (x * x))
    };
    t * t * exp(-front * t) * integral
}

/// ∫₀¹ e^(−xs) ds = (1 − e^(−x)) / x = Σ (−x)ᵏ / (k! (k + 1)), for x ≥ 0.
fn mean_decay(x: f64) -> f64 {
    if x < SERIES { series(-x, |k| 1.0 / f64::from(k + 1)) } else { (1.0 - exp(-x)) / x }
}

/// Below, differences of exponentials lose digits.
const SERIES: f64 = 0.5;

/// Σ factor(k) xᵏ / k!; for |x| < [`SERIES`], 15 terms leave less than 1e-17.
fn series(x: f64, factor: impl Fn(u32) -> f64) -> f64 {
    let (mut term, mut sum) = (1.0, 0.0);
    for k in 0..15 {
        sum += term * factor(k);
        term *= x / f64::from(k + 1);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ∫₀ᵗ e^(−λ(t−s)) f(s) ds by Simpson's rule on many pieces.
    fn integral(t: f64, leak: f64, f: impl Fn(f64) -> f64) -> f64 {
        let n = 20_000;
        let h = t / f64::from(n);
        let at = |k: i32| (-leak * (t - h * f64::from(k))).exp() * f(h * f64::from(k));
        let inner: f64 = (1..n).map(|k| at(k) * if k % 2 == 1 { 4.0 } else { 2.0 }).sum();
        h / 3.0 * (at(0) + inner + at(n))
    }

    #[test]
    fn responses_are_the_integrals_they_stand_for() {
        for (leak, mu) in
            [(0.05, 0.2), (0.2, 0.05), (0.05, 0.05), (0.05, 0.05 + 1e-9), (0.0, 0.3), (0.1, 2.0)]
        {
            for t in [1e-6, 0.1, 1.0, 7.5, 20.0] {
                let near = |got: f64, want: f64, what: &str| {
                    let close = (got - want).abs() <= 1e-9 * want.abs();
                    assert!(close, "{what} at {t} with {leak}, {mu}: {got}, want {want}");
                };
                near(constant_response(t, leak), integral(t, leak, |_| 1.0), "constant");
                near(
                    exponential_response(t, leak, mu),
                    integral(t, leak, |s| (-mu * s).exp()),
                    "exponential",
                );
                near(alpha_response(t, leak, mu), integral(t, leak, |s| s * (-mu * s).exp()), "alpha");
            }
        }
    }

    #[test]
    fn responses_are_smooth_where_formulas_change_and_finite_far_out() {
        for t in [0.5f64, 3.0] {
            for x in [-0.5, 0.5] {
                let at = |x: f64| alpha_response(t, 1.0, 1.0 + x / t);
                let (below, above) = (at(x - 1e-12), at(x + 1e-12));
                assert!((below - above).abs() < 1e-11 * above, "{t} {x}: {below} {above}");
            }
        }
        for (leak, mu) in [(1.0, 3.0), (3.0, 1.0), (1.0, 1.0)] {
            for response in [exponential_response, alpha_response] {
                let far = response(1e5, leak, mu);
                assert!((0.0..1e-300).contains(&far), "{far}");
            }
        }
    }

    #[test]
    fn impossible_descriptions_are_refused() {
        let good = Linear {
            tau: 20.0,
            rest: -65.0,
            drive: 0.0,
            threshold: -50.0,
            reset: -65.0,
            refractory: 2.0,
            receptors: vec![Kernel::Jump { gain: 1.0 }, Kernel::Exponential { tau: 5.0, gain: 1.0 }],
            adaptation: vec![],
        };
        assert!(good.validate().is_ok());
        assert!(Linear { tau: f64::INFINITY, threshold: f64::INFINITY, ..good.clone() }.validate().is_ok());
        let bad = [
            Linear { tau: 0.0, ..good.clone() },
            Linear { tau: f64::NAN, ..good.clone() },
            Linear { adaptation: vec![Adaptation::Threshold { tau: 50.0, size: -1.0 }], ..good.clone() },
            Linear { adaptation: vec![Adaptation::Current { tau: 0.0, size: 1.0 }], ..good.clone() },
            Linear { rest: f64::INFINITY, ..good.clone() },
            Linear { reset: -50.0, ..good.clone() },
            Linear { reset: -50.0 - 1e-12, ..good.clone() },
            Linear { threshold: f64::NAN, ..good.clone() },
            Linear { refractory: -1.0, ..good.clone() },
            Linear { receptors: vec![Kernel::Alpha { tau: 0.0, gain: 1.0 }], ..good.clone() },
            Linear { receptors: vec![Kernel::Jump { gain: f64::NAN }], ..good },
        ];
        bad.iter().for_each(|linear| assert!(linear.validate().is_err(), "{linear:?}"));
    }
}
