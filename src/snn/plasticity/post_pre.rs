//! BindsNET's rules for dense connections, as data.
//!
//! ```text
//! PostPre:                 w ← w − ν₀ Σ_b s_pre x_post + ν₁ Σ_b x_pre s_post
//! WeightDependentPostPre:  w ← w − ν₀ (w − w_min) Σ_b s_pre x_post + ν₁ (w_max − w) Σ_b x_pre s_post
//! then                     w ← (1 − decay) w,   then w ← clip(w)
//! ```
//!
//! Sums over the batch `b`. Traces are set to 1 by a spike, or add 1 with [`Pairing::AllToAll`] (`traces_additive`),
//! and already contain the spikes of the step.

use super::{check_bounds, finite, tau, trace::Pairing};
use crate::{error::Result, snn::neuron::Param, units::Ms};
use serde::{Deserialize, Serialize};

/// `PostPre` or `WeightDependentPostPre`, driven by [`super::Synchronous`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostPre {
    /// Rates of depression (on presynaptic spikes) and of potentiation (on postsynaptic ones).
    pub nu: [f32; 2],
    /// Time constants of the presynaptic and the postsynaptic trace.
    pub tau: [Ms; 2],
    /// What a spike does to its trace.
    pub pairing: Pairing,
    /// Changes shrink with the distance to the bound (`WeightDependentPostPre`).
    pub weight_dependent: bool,
    /// Share of every weight that is lost in each step.
    pub decay: f32,
    /// Smallest and largest weight.
    pub bounds: [f32; 2],
}

impl Default for PostPre {
    fn default() -> Self {
        Self {
            nu: [1e-4, 1e-2],
            tau: [Ms(20.0); 2],
            pairing: Pairing::Nearest,
            weight_dependent: false,
            decay: 0.0,
            bounds: [0.0, 1.0],
        }
    }
}

impl PostPre {
    /// Parameters with their ranges.
    pub fn params(&self) -> Vec<Param> {
        vec![
            finite("nu of presynaptic spikes", self.nu[0].into(), "rate of depression"),
            finite("nu of postsynaptic spikes", self.nu[1].into(), "rate of potentiation"),
            tau("tau of presynaptic traces", self.tau[0], "time constant of the presynaptic trace"),
            tau("tau of postsynaptic traces", self.tau[1], "time constant of the postsynaptic trace"),
            Param::ranged("decay", self.decay, 0.0, 1.0, "share of a weight lost in each step"),
        ]
    }

    /// Checks every parameter.
    ///
    /// # Errors
    /// Names the first parameter outside its range.
    pub fn validate(&self) -> Result<()> {
        self.params().iter().try_for_each(Param::check)?;
        check_bounds(self.bounds.map(f64::from))
    }

    /// The weight after depression and potentiation, before decay and bounds. `depression` is Σ s_pre x_post and
    /// `potentiation` Σ x_pre s_post.
    #[inline]
    pub fn change(&self, weight: f32, depression: f32, potentiation: f32) -> f32 {
        let [min, max] = self.bounds;
        if self.weight_dependent {
            let loss = self.nu[0] * depression * (weight - min);
            let gain = self.nu[1] * potentiation * (max - weight);
            weight + (gain - loss)
        } else {
            weight - self.nu[0] * depression + self.nu[1] * potentiation
        }
    }

    /// The weight within its bounds.
    #[inline]
    pub fn clip(&self, weight: f32) -> f32 {
        weight.max(self.bounds[0]).min(self.bounds[1])
    }
}
