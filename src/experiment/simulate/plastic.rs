//! How the weights of a projection change: `projection.NAME.plasticity` and `.normalise`.

use crate::snn::plasticity::{self, Pairing, Rule};
use crate::units::Ms;
use serde::{Deserialize, Serialize};

/// `projection.NAME.plasticity`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Plasticity {
    /// Pair STDP.
    Pair(Pair),
    /// Triplet STDP.
    Triplet(Triplet),
    /// Pair STDP that waits for `simulate.rewards`.
    Reward(Reward),
}

/// `plasticity.pair`; what is absent is Song, Miller and Abbott's (2000).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pair {
    /// Time constant of the presynaptic trace.
    pub tau_plus_ms: f64,
    /// Time constant of the postsynaptic trace.
    pub tau_minus_ms: f64,
    /// Potentiation of a pair without distance.
    pub a_plus: f64,
    /// Depression of a pair without distance.
    pub a_minus: f64,
    /// Exponent of the distance to the bound: 0 additive, 1 multiplicative.
    pub mu: f64,
    /// Which pairs count.
    pub pairing: Pairing,
    /// Smallest and largest weight.
    pub bounds: [f64; 2],
}

impl Default for Pair {
    fn default() -> Self {
        let plasticity::Pair { tau_plus, tau_minus, a_plus, a_minus, mu, pairing, bounds } =
            plasticity::Pair::default();
        Self { tau_plus_ms: tau_plus.0, tau_minus_ms: tau_minus.0, a_plus, a_minus, mu, pairing, bounds }
    }
}

/// `plasticity.triplet`; what is absent is Pfister and Gerstner's (2006) fit to visual cortex, all-to-all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Triplet {
    /// Time constant of the fast presynaptic trace.
    pub tau_plus_ms: f64,
    /// Time constant of the fast postsynaptic trace.
    pub tau_minus_ms: f64,
    /// Time constant of the slow presynaptic trace.
    pub tau_x_ms: f64,
    /// Time constant of the slow postsynaptic trace.
    pub tau_y_ms: f64,
    /// Potentiation of a pair.
    pub a2_plus: f64,
    /// Potentiation of a triplet.
    pub a3_plus: f64,
    /// Depression of a pair.
    pub a2_minus: f64,
    /// Depression of a triplet.
    pub a3_minus: f64,
    /// Which spikes count.
    pub pairing: Pairing,
    /// Smallest and largest weight.
    pub bounds: [f64; 2],
}

impl Default for Triplet {
    fn default() -> Self {
        let fit = plasticity::Triplet::visual();
        Self {
            tau_plus_ms: fit.tau_plus.0,
            tau_minus_ms: fit.tau_minus.0,
            tau_x_ms: fit.tau_x.0,
            tau_y_ms: fit.tau_y.0,
            a2_plus: fit.a2_plus,
            a3_plus: fit.a3_plus,
            a2_minus: fit.a2_minus,
            a3_minus: fit.a3_minus,
            pairing: fit.pairing,
            bounds: fit.bounds,
        }
    }
}

/// `plasticity.reward`: additive pair STDP into an eligibility, which a reward turns into a change of the weight (Florian
/// 2007, Izhikevich 2007).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reward {
    /// Time constant of the eligibility.
    pub tau_ms: f64,
    /// Change of the weight for an eligibility of 1 and a reward of 1.
    pub rate: f64,
    /// Time constant of the presynaptic trace.
    pub tau_plus_ms: f64,
    /// Time constant of the postsynaptic trace.
    pub tau_minus_ms: f64,
    /// Eligibility of a pair without distance, the presynaptic spike first.
    pub a_plus: f64,
    /// Of a pair without distance, the postsynaptic spike first.
    pub a_minus: f64,
    /// Which pairs count.
    pub pairing: Pairing,
    /// Smallest and largest weight.
    pub bounds: [f64; 2],
}

impl Default for Reward {
    fn default() -> Self {
        let plasticity::Reward { pair, tau, rate } = plasticity::Reward::default();
        Self {
            tau_ms: tau.0,
            rate,
            tau_plus_ms: pair.tau_plus.0,
            tau_minus_ms: pair.tau_minus.0,
            a_plus: pair.a_plus,
            a_minus: pair.a_minus,
            pairing: pair.pairing,
            bounds: pair.bounds,
        }
    }
}

/// One of `simulate.rewards`: given to all projections that wait for one, after the spikes of that time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// When.
    pub at_ms: f64,
    /// Time after which it is given again; without it, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<f64>,
    /// How much; below 0 for a punishment.
    pub amount: f64,
}

/// `projection.NAME.normalise`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalise {
    /// Sum of the magnitudes of the weights into each neuron.
    pub total: f32,
    /// Time after which it is done again.
    pub every_ms: f64,
}

impl Plasticity {
    /// The library's rule.
    pub(super) fn rule(&self) -> Rule {
        match self {
            Self::Pair(pair) => {
                let Pair { tau_plus_ms, tau_minus_ms, a_plus, a_minus, mu, pairing, bounds } = *pair;
                let (tau_plus, tau_minus) = (Ms(tau_plus_ms), Ms(tau_minus_ms));
                Rule::Pair(plasticity::Pair { tau_plus, tau_minus, a_plus, a_minus, mu, pairing, bounds })
            }
            Self::Triplet(triplet) => Rule::Triplet(plasticity::Triplet {
                tau_plus: Ms(triplet.tau_plus_ms),
                tau_minus: Ms(triplet.tau_minus_ms),
                tau_x: Ms(triplet.tau_x_ms),
                tau_y: Ms(triplet.tau_y_ms),
                a2_plus: triplet.a2_plus,
                a3_plus: triplet.a3_plus,
                a2_minus: triplet.a2_minus,
                a3_minus: triplet.a3_minus,
                pairing: triplet.pairing,
                bounds: triplet.bounds,
            }),
            Self::Reward(reward) => Rule::Reward(plasticity::Reward {
                pair: plasticity::Pair {
                    tau_plus: Ms(reward.tau_plus_ms),
                    tau_minus: Ms(reward.tau_minus_ms),
                    a_plus: reward.a_plus,
                    a_minus: reward.a_minus,
                    pairing: reward.pairing,
                    bounds: reward.bounds,
                    ..plasticity::Pair::default()
                },
                tau: Ms(reward.tau_ms),
                rate: reward.rate,
            }),
        }
    }
}
