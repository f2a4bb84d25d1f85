//! Triplet STDP (Pfister & Gerstner, J. Neurosci. 26, 2006, eqs. 3 and 4).
//!
//! ```text
//! presynaptic spike:   w ← w − o₁ (A₂⁻ + A₃⁻ r₂),   then r₁, r₂ ← + 1 or 1
//! postsynaptic spike:  w ← w + r₁ (A₂⁺ + A₃⁺ o₂),   then o₁, o₂ ← + 1 or 1
//! ```
//!
//! with r₁ decaying with τ₊, r₂ with τₓ, o₁ with τ₋ and o₂ with τ_y. With A₃± = 0 it is additive pair STDP.

use super::{
    Stdp, finite, tau,
    trace::{Pairing, Trace},
};
use crate::{snn::neuron::Param, units::Ms};
use serde::{Deserialize, Serialize};

/// Triplet STDP.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Triplet {
    /// Time constant of the fast presynaptic trace r₁.
    pub tau_plus: Ms,
    /// Time constant of the fast postsynaptic trace o₁.
    pub tau_minus: Ms,
    /// Time constant of the slow presynaptic trace r₂.
    pub tau_x: Ms,
    /// Time constant of the slow postsynaptic trace o₂.
    pub tau_y: Ms,
    /// Potentiation of a pair.
    pub a2_plus: f64,
    /// Potentiation of a triplet.
    pub a3_plus: f64,
    /// Depression of a pair.
    pub a2_minus: f64,
    /// Depression of a triplet.
    pub a3_minus: f64,
    /// Which spikes count.
    #[serde(default)]
    pub pairing: Pairing,
    /// Smallest and largest weight.
    #[serde(default = "unit")]
    pub bounds: [f64; 2],
}

fn unit() -> [f64; 2] {
    [0.0, 1.0]
}

impl Triplet {
    /// The minimal model fitted to hippocampal culture, all-to-all (Pfister & Gerstner 2006, table 4).
    pub fn hippocampal() -> Self {
        Self {
            tau_plus: Ms(16.8),
            tau_minus: Ms(33.7),
            tau_x: Ms(946.0),
            tau_y: Ms(27.0),
            a2_plus: 6.1e-3,
            a3_plus: 6.7e-3,
            a2_minus: 1.6e-3,
            a3_minus: 1.4e-3,
            pairing: Pairing::AllToAll,
            bounds: unit(),
        }
    }

    /// The full model fitted to visual cortex, all-to-all (Pfister & Gerstner 2006, table 3).
    pub fn visual() -> Self {
        Self {
            tau_x: Ms(101.0),
            tau_y: Ms(125.0),
            a2_plus: 5e-10,
            a3_plus: 6.2e-3,
            a2_minus: 7e-3,
            a3_minus: 2.3e-4,
            ..Self::hippocampal()
        }
    }

    /// The full model fitted to visual cortex, nearest spikes only (Pfister & Gerstner 2006, table 3).
    pub fn visual_nearest() -> Self {
        Self {
            tau_x: Ms(714.0),
            tau_y: Ms(40.0),
            a2_plus: 8.8e-11,
            a3_plus: 5.3e-2,
            a2_minus: 6.6e-3,
            a3_minus: 3.1e-3,
            pairing: Pairing::Nearest,
            ..Self::hippocampal()
        }
    }

    /// Parameters with their ranges.
    pub fn params(&self) -> Vec<Param> {
        vec![
            tau("tau_plus", self.tau_plus, "time constant of the fast presynaptic trace"),
            tau("tau_minus", self.tau_minus, "time constant of the fast postsynaptic trace"),
            tau("tau_x", self.tau_x, "time constant of the slow presynaptic trace"),
            tau("tau_y", self.tau_y, "time constant of the slow postsynaptic trace"),
            finite("a2_plus", self.a2_plus, "potentiation of a pair"),
            finite("a3_plus", self.a3_plus, "potentiation of a triplet"),
            finite("a2_minus", self.a2_minus, "depression of a pair"),
            finite("a3_minus", self.a3_minus, "depression of a triplet"),
        ]
    }
}

impl Stdp for Triplet {
    fn pre(&self) -> [Trace; 2] {
        [self.tau_plus, self.tau_x].map(|tau| Trace { tau, pairing: self.pairing })
    }

    fn post(&self) -> [Trace; 2] {
        [self.tau_minus, self.tau_y].map(|tau| Trace { tau, pairing: self.pairing })
    }

    #[inline]
    fn depress(&self, weight: f64, [_, r2]: [f64; 2], [o1, _]: [f64; 2]) -> f64 {
        let [min, max] = self.bounds;
        (weight - o1 * (self.a2_minus + self.a3_minus * r2)).max(min).min(max)
    }

    #[inline]
    fn potentiate(&self, weight: f64, [r1, _]: [f64; 2], [_, o2]: [f64; 2]) -> f64 {
        let [min, max] = self.bounds;
        (weight + r1 * (self.a2_plus + self.a3_plus * o2)).max(min).min(max)
    }
}
