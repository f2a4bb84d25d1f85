//! The schema of `[train.stdp]`.

use crate::learn::stdp::{DiehlCook, Vote};
use serde::{Deserialize, Serialize};

/// `[train.stdp]`: the network of Diehl & Cook (2015) learns without labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stdp {
    /// Shape of a sample.
    pub input: Vec<usize>,
    /// Excitatory neurons.
    pub neurons: usize,
    /// Whose constants.
    #[serde(default)]
    pub constants: Constants,
    /// Samples that learn from the same weights.
    #[serde(default = "one")]
    pub batch: usize,
    /// Passes over the training set.
    #[serde(default = "one")]
    pub passes: usize,
    /// How neurons vote for classes.
    #[serde(default = "vote")]
    pub labels: Vote,
    /// Training samples at the end that say what neurons stand for; 0 for all.
    #[serde(default = "label_samples")]
    pub label_samples: usize,
}

fn one() -> usize {
    1
}

fn vote() -> Vote {
    Vote::Proportion
}

fn label_samples() -> usize {
    10_000
}

/// `train.stdp.constants`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Constants {
    /// Of the authors' script.
    Original,
    /// Of BindsNET.
    #[default]
    Bindsnet,
}

impl Stdp {
    /// For the library.
    pub fn network(&self) -> DiehlCook {
        let net = match self.constants {
            Constants::Original => DiehlCook::original(self.neurons),
            Constants::Bindsnet => DiehlCook::bindsnet(self.neurons),
        };
        DiehlCook { batch: self.batch, ..net }
    }
}

pub(super) const KEYS: &[(&str, &str)] = &[
    ("train.stdp.input", "[features] or [channels, height, width] of a sample"),
    ("train.stdp.neurons", "excitatory neurons"),
    ("train.stdp.constants", "original (of the authors' script) or bindsnet"),
    ("train.stdp.batch", "samples that learn from the same weights"),
    ("train.stdp.passes", "passes over the training set"),
    ("train.stdp.labels", "how neurons vote: all-activity or proportion"),
    ("train.stdp.label_samples", "training samples at the end that say what neurons stand for; 0 for all"),
];
