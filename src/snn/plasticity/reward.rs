//! Reward-modulated STDP: pairs leave an eligibility, a reward turns it into a change of the weight.
//!
//! ```text
//! eligibility:  E ← E · exp(−dt / τ), and each pair adds what additive pair STDP would have changed
//! reward r:     w ← clip(w + rate · r · E)
//! ```
//!
//! This is Florian's MSTDPET (Neural Computation 19, 2007) and Izhikevich's (Cerebral Cortex 17, 2007) with the
//! reward at the moments when it is given. BindsNET's `MSTDPET` divides each contribution by τ: there,
//! `a_plus = 1 / τ`.

use super::{Pair, finite, tau};
use crate::{snn::neuron::Param, units::Ms};
use serde::{Deserialize, Serialize};

/// Reward-modulated pair STDP.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reward {
    /// What makes synapses eligible. Its μ is not used: eligibilities add up whatever the weight is.
    pub pair: Pair,
    /// Time constant of the eligibility.
    pub tau: Ms,
    /// Change of the weight for an eligibility of 1 and a reward of 1.
    pub rate: f64,
}

impl Default for Reward {
    fn default() -> Self {
        Self { pair: Pair { a_plus: 1.0, a_minus: 1.0, ..Pair::default() }, tau: Ms(25.0), rate: 0.01 }
    }
}

impl Reward {
    /// Parameters with their ranges.
    pub fn params(&self) -> Vec<Param> {
        let mut params = self.pair.params();
        params.push(tau("tau", self.tau, "time constant of the eligibility"));
        params.push(finite("rate", self.rate, "change of the weight for an eligibility and a reward of 1"));
        params
    }
}
