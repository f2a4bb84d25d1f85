//! Pair STDP with bounds from hard to soft.
//!
//! ```text
//! presynaptic spike:   w ← w − A₋ · (w − w_min)^μ · y,   then x ← x + 1 or 1
//! postsynaptic spike:  w ← w + A₊ · (w_max − w)^μ · x,   then y ← y + 1 or 1
//! ```
//!
//! with `x` decaying with τ₊ and `y` with τ₋. μ = 0 is additive (Song, Miller & Abbott 2000), μ = 1 multiplicative
//! (van Rossum, Bi & Turrigiano 2000; Rubin, Lee & Sompolinsky 2001), and what lies between is Gütig et al. 2003.

use super::{
    Stdp, finite, tau,
    trace::{Pairing, Trace},
};
use crate::{snn::neuron::Param, units::Ms};
use serde::{Deserialize, Serialize};

/// Pair STDP. The default is Song, Miller & Abbott's, with weights in units of the largest one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pair {
    /// Time constant of the presynaptic trace.
    pub tau_plus: Ms,
    /// Time constant of the postsynaptic trace.
    pub tau_minus: Ms,
    /// Potentiation of a pair without distance.
    pub a_plus: f64,
    /// Depression of a pair without distance.
    pub a_minus: f64,
    /// Exponent μ of the distance to the bound: 0 additive, 1 multiplicative.
    pub mu: f64,
    /// Which pairs count.
    pub pairing: Pairing,
    /// Smallest and largest weight.
    pub bounds: [f64; 2],
}

impl Default for Pair {
    fn default() -> Self {
        Self {
            tau_plus: Ms(20.0),
            tau_minus: Ms(20.0),
            a_plus: 0.01,
            a_minus: 0.0105,
            mu: 0.0,
            pairing: Pairing::AllToAll,
            bounds: [0.0, 1.0],
        }
    }
}

impl Pair {
    /// Parameters with their ranges.
    pub fn params(&self) -> Vec<Param> {
        vec![
            tau("tau_plus", self.tau_plus, "time constant of the presynaptic trace"),
            tau("tau_minus", self.tau_minus, "time constant of the postsynaptic trace"),
            finite("a_plus", self.a_plus, "potentiation of a pair without distance"),
            finite("a_minus", self.a_minus, "depression of a pair without distance"),
            Param { min: 0.0, max: 10.0, ..finite("mu", self.mu, "exponent of the distance to the bound") },
        ]
    }

    /// `room^μ`, exact for the two usual exponents.
    #[inline]
    fn soft(&self, room: f64) -> f64 {
        match self.mu {
            0.0 => 1.0,
            1.0 => room,
            mu => room.max(0.0).powf(mu),
        }
    }
}

impl Stdp for Pair {
    fn pre(&self) -> [Trace; 2] {
        [Trace { tau: self.tau_plus, pairing: self.pairing }; 2]
    }

    fn post(&self) -> [Trace; 2] {
        [Trace { tau: self.tau_minus, pairing: self.pairing }; 2]
    }

    #[inline]
    fn depress(&self, weight: f64, _: [f64; 2], [post, _]: [f64; 2]) -> f64 {
        let [min, max] = self.bounds;
        (weight - self.a_minus * self.soft(weight - min) * post).max(min).min(max)
    }

    #[inline]
    fn potentiate(&self, weight: f64, [pre, _]: [f64; 2], _: [f64; 2]) -> f64 {
        let [min, max] = self.bounds;
        (weight + self.a_plus * self.soft(max - weight) * pre).max(min).min(max)
    }
}
