//! What weights are drawn from.

use serde::{Deserialize, Serialize};

/// A distribution of weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Init {
    /// All the same.
    Constant(f64),
    /// Uniform in `low..high`.
    Uniform {
        /// Lower bound.
        low: f64,
        /// Upper bound.
        high: f64,
    },
    /// Normal.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
    /// Uniform in ±1/√fan-in, PyTorch's default for `Linear`.
    KaimingUniform,
    /// As listed, in the order of the rule's synapses (by source, then target).
    Listed(Vec<f32>),
}
