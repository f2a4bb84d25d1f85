//! The tables of the trainers: serde types, their documentation, and what they mean to the library.

mod convert;
mod stdp;
mod stdp_readout;
mod surrogate;

pub use convert::{Convert, Fit, Thresholds};
pub use stdp::{Constants, Stdp};
pub use stdp_readout::{Rule, StdpReadout};
pub use surrogate::{Checkpoint, Credit, Derivative, Loss, Optimizer, Rates, Schedule, Storage, Surrogate};

use serde::{Deserialize, Serialize};

/// `train.….augment`: [`crate::data::Augment`], keyed by the seed of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Most pixels that an image moves along each axis.
    pub shift: f64,
    /// Most degrees that it turns.
    pub rotation_degrees: f64,
    /// Most pixels that places move by themselves.
    pub elastic: f64,
}

impl Augment {
    /// For the library, where there is anything to do.
    pub(in crate::experiment) fn of_library(self, seed: u64) -> Option<crate::data::Augment> {
        (self != Self::default()).then_some(crate::data::Augment {
            shift: self.shift as f32,
            rotation_degrees: self.rotation_degrees as f32,
            elastic: self.elastic as f32,
            seed,
        })
    }
}

/// Documentation by key path.
pub fn keys() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    surrogate::KEYS.iter().chain(convert::KEYS).chain(stdp::KEYS).chain(stdp_readout::KEYS)
}
