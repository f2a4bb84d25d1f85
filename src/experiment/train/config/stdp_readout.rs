//! The schema of `[train.stdp-readout]`.

use super::Schedule;
use crate::learn::stdp::readout::{self, Options};
use crate::units::Ms;
use serde::{Deserialize, Serialize};

/// `[train.stdp-readout]`: the one projection with `frozen = false` learns by the times of spikes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StdpReadout {
    /// Population with a neuron per class.
    pub output: String,
    /// How weights change.
    pub rule: Rule,
    /// Factor on every change.
    #[serde(default = "rate")]
    pub lr: f64,
    /// How the factor goes on.
    #[serde(default)]
    pub schedule: Schedule,
    /// Smallest and largest weight.
    #[serde(default = "bounds")]
    pub bounds: [f64; 2],
    /// Samples in a mini-batch.
    #[serde(default = "batch")]
    pub batch: usize,
    /// Passes over the training set.
    #[serde(default = "epochs")]
    pub epochs: usize,
}

fn rate() -> f64 {
    1e-3
}

fn bounds() -> [f64; 2] {
    [-1.0, 1.0]
}

fn batch() -> usize {
    32
}

fn epochs() -> usize {
    5
}

/// `train.stdp-readout.rule`: [`readout::Rule`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rule {
    /// ReSuMe, towards desired spikes.
    Supervised {
        /// Of the presynaptic trace.
        #[serde(default = "ten")]
        tau_ms: f64,
        /// The neuron of the right class is to fire in every so many-th step.
        #[serde(default = "one")]
        every: usize,
    },
    /// Reward-modulated STDP.
    Reward {
        /// Of the presynaptic trace.
        #[serde(default = "two")]
        tau_ms: f64,
        /// Of the eligibility.
        #[serde(default = "thousand")]
        tau_eligibility_ms: f64,
        /// Standard deviation of the noise in the current of a step.
        #[serde(default = "noise")]
        noise: f64,
        /// Samples over which rewards are averaged.
        #[serde(default = "window")]
        window: usize,
        /// What a mini-batch takes from a bias for each spike per step above the neuron's share.
        #[serde(default = "tenth")]
        homeostasis: f64,
    },
}

fn one() -> usize {
    1
}

fn window() -> usize {
    1000
}

fn tenth() -> f64 {
    0.1
}

fn two() -> f64 {
    2.0
}

fn noise() -> f64 {
    0.3
}

fn ten() -> f64 {
    10.0
}

fn thousand() -> f64 {
    1e3
}

impl StdpReadout {
    /// For the library.
    pub fn options(&self) -> Options {
        let rule = match self.rule {
            Rule::Supervised { tau_ms, every } => {
                readout::Rule::Supervised(readout::Supervised { tau: Ms(tau_ms), every })
            }
            Rule::Reward { tau_ms, tau_eligibility_ms, noise, window, homeostasis } => {
                readout::Rule::Reward(readout::Reward {
                    tau: Ms(tau_ms),
                    tau_eligibility: Ms(tau_eligibility_ms),
                    noise: noise as f32,
                    window,
                    homeostasis: homeostasis as f32,
                })
            }
        };
        Options {
            rule,
            rate: self.lr,
            cosine: self.schedule == Schedule::Cosine,
            bounds: self.bounds.map(|bound| bound as f32),
            batch: self.batch,
            epochs: self.epochs,
        }
    }
}

pub(super) const KEYS: &[(&str, &str)] = &[
    ("train.stdp-readout.output", "population with a neuron per class"),
    ("train.stdp-readout.rule", "supervised = { … } (ReSuMe), or reward = { … }"),
    ("train.stdp-readout.rule.supervised.tau_ms", "time constant of the presynaptic trace"),
    (
        "train.stdp-readout.rule.supervised.every",
        "the neuron of the right class is to fire in every so many-th step",
    ),
    ("train.stdp-readout.rule.reward.tau_ms", "time constant of the presynaptic trace"),
    ("train.stdp-readout.rule.reward.tau_eligibility_ms", "time constant of the eligibility"),
    ("train.stdp-readout.rule.reward.noise", "standard deviation of the noise in the current of a step"),
    ("train.stdp-readout.rule.reward.window", "samples over which rewards are averaged"),
    (
        "train.stdp-readout.rule.reward.homeostasis",
        "what a mini-batch takes from a bias for each spike per step above the neuron's share",
    ),
    ("train.stdp-readout.lr", "factor on every change"),
    ("train.stdp-readout.schedule", "the factor: constant, or cosine down to 1 %"),
    ("train.stdp-readout.bounds", "smallest and largest weight"),
    ("train.stdp-readout.batch", "samples in a mini-batch"),
    ("train.stdp-readout.epochs", "passes over the training set"),
];
