//! How spikes change weights: rules as plain data, and the two orders in which they are driven.
//!
//! | file | idea | source |
//! |---|---|---|
//! | [`trace`] | an exponential trace of spikes, brought up to date only when it is read | |
//! | [`pair`] | pair STDP: additive to multiplicative, all-to-all or nearest | Song, Miller & Abbott 2000; van Rossum et al. 2000 |
//! | [`triplet`] | triplet STDP with the fits to hippocampus and visual cortex | Pfister & Gerstner 2006 |
//! | [`post_pre`] | BindsNET's `PostPre` and `WeightDependentPostPre` | BindsNET 0.3 |
//! | [`reward`] | reward × eligibility trace | Florian 2007; Izhikevich 2007 |
//! | [`homeostasis`] | a threshold that rises with every spike | Diehl & Cook 2015 |
//! | [`normalise`] | weights of a neuron that keep their sum | Diehl & Cook 2015 |
//! | [`wired`] | plasticity of a projection of a simulation | |
//! | [`event_driven`] | drives pair, triplet and reward rules synapse by synapse, as Brian2 and NEST do | |
//! | [`synchronous`] | drives `PostPre` rules step by step over a batch, as BindsNET does | |
//!
//! **Order of one step with [`EventDriven`].** Presynaptic spikes that arrive come first: each changes its weights by what
//! the postsynaptic traces were, then its own trace. Postsynaptic spikes follow: each changes the weights of all its
//! inputs by the presynaptic traces, those of the same step included, then its own trace. So a pair in the same step
//! potentiates by exactly A₊ and does not depress. Weights are cut to their bounds at every change.
//!
//! **Order of one step with [`Synchronous`].** Both sides' traces take in the spikes of the step; then depression,
//! then potentiation, each summed over the batch; then decay of the weights; then the bounds. A pair in the same step
//! does both.

pub mod event_driven;
pub mod homeostasis;
pub mod normalise;
pub mod pair;
pub mod post_pre;
pub mod reward;
pub mod synchronous;
pub mod trace;
pub mod triplet;
pub mod wired;

pub use event_driven::{EventDriven, Incidence};
pub use homeostasis::AdaptiveThreshold;
pub use normalise::Normalise;
pub use pair::Pair;
pub use post_pre::PostPre;
pub use reward::Reward;
pub use synchronous::Synchronous;
pub use trace::{Decay, Moment, Pairing, Trace};
pub use triplet::Triplet;
pub use wired::Plasticity;

use super::neuron::Param;
use crate::error::{Error, Result};
use crate::units::Ms;
use serde::{Deserialize, Serialize};

/// A rule that [`EventDriven`] drives: what the spikes on both sides of a synapse do to its weight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Pair STDP.
    Pair(Pair),
    /// Triplet STDP.
    Triplet(Triplet),
    /// Pair STDP that waits for a reward.
    Reward(Reward),
}

impl Rule {
    /// Name in experiment files.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Pair(_) => "pair",
            Self::Triplet(_) => "triplet",
            Self::Reward(_) => "reward",
        }
    }

    /// Parameters with their values and ranges.
    pub fn params(&self) -> Vec<Param> {
        match self {
            Self::Pair(rule) => rule.params(),
            Self::Triplet(rule) => rule.params(),
            Self::Reward(rule) => rule.params(),
        }
    }

    /// Smallest and largest weight.
    pub fn bounds(&self) -> [f64; 2] {
        match self {
            Self::Pair(rule) => rule.bounds,
            Self::Triplet(rule) => rule.bounds,
            Self::Reward(rule) => rule.pair.bounds,
        }
    }

    /// Checks every parameter, and that the bounds are in order.
    ///
    /// # Errors
    /// Names the first parameter outside its range.
    pub fn validate(&self) -> Result<()> {
        self.params().iter().try_for_each(Param::check)?;
        check_bounds(self.bounds())
    }
}

impl From<Pair> for Rule {
    fn from(rule: Pair) -> Self {
        Self::Pair(rule)
    }
}

impl From<Triplet> for Rule {
    fn from(rule: Triplet) -> Self {
        Self::Triplet(rule)
    }
}

impl From<Reward> for Rule {
    fn from(rule: Reward) -> Self {
        Self::Reward(rule)
    }
}

/// A rule of two weight changes and up to two traces on each side, read in milliseconds.
pub(super) trait Stdp {
    /// Presynaptic traces that matter to the rule.
    fn pre(&self) -> [Trace; 2];
    /// Postsynaptic ones.
    fn post(&self) -> [Trace; 2];
    /// The weight after a presynaptic spike; traces as they were before it.
    fn depress(&self, weight: f64, pre: [f64; 2], post: [f64; 2]) -> f64;
    /// The weight after a postsynaptic spike; traces as they were before it.
    fn potentiate(&self, weight: f64, pre: [f64; 2], post: [f64; 2]) -> f64;
}

/// A time constant as a parameter.
pub(super) fn tau(name: &'static str, tau: Ms, doc: &'static str) -> Param {
    Param { name, unit: "ms", value: tau.0, min: 1e-6, max: f32::MAX.into(), doc }
}

/// A real number as a parameter.
pub(super) fn finite(name: &'static str, value: f64, doc: &'static str) -> Param {
    Param { name, unit: "1", value, min: f32::MIN.into(), max: f32::MAX.into(), doc }
}

/// That smallest and largest weight are numbers in this order.
pub(crate) fn check_bounds(bounds: [f64; 2]) -> Result<()> {
    if bounds[0] < bounds[1] {
        return Ok(());
    }
    Err(Error::value("bounds of the weights", format!("{bounds:?}"), "the smaller one first"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_rules_are_refused_by_name() {
        let wrong = |rule: Rule| rule.validate().unwrap_err().to_string();
        let pair = Pair::default();
        assert!(wrong(Pair { tau_plus: Ms(0.0), ..pair }.into()).starts_with("tau_plus is 0 ms"));
        assert!(wrong(Pair { mu: -1.0, ..pair }.into()).starts_with("mu is -1"));
        assert!(wrong(Pair { bounds: [1.0, 0.0], ..pair }.into()).contains("smaller one first"));
        assert!(wrong(Pair { bounds: [0.0, f64::NAN], ..pair }.into()).contains("smaller one first"));
        assert!(
            wrong(Triplet { a3_plus: f64::NAN, ..Triplet::visual() }.into()).starts_with("a3_plus is NaN")
        );
        assert!(wrong(Reward { tau: Ms(-3.0), ..Reward::default() }.into()).starts_with("tau is -3 ms"));
        for rule in [pair.into(), Triplet::hippocampal().into(), Reward::default().into()] {
            Rule::validate(&rule).unwrap();
        }
    }

    #[test]
    fn rules_are_data() {
        for rule in [Rule::Pair(Pair::default()), Triplet::visual().into(), Reward::default().into()] {
            let text = serde_json::to_string(&rule).unwrap();
            assert_eq!(serde_json::from_str::<Rule>(&text).unwrap(), rule, "{text}");
        }
    }
}
