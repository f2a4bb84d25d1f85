//! Connectivity rules: which neurons of two populations are connected.

use serde::{Deserialize, Serialize};

/// A connectivity rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rule {
    /// Every source to every target.
    Dense,
    /// Source i to target i.
    OneToOne,
    /// Each pair independently with probability `p`.
    FixedProbability {
        /// Probability of a pair.
        p: f64,
    },
    /// Each target from `k` distinct random sources.
    FixedInDegree {
        /// Synapses per target (fan-in).
        k: usize,
    },
    /// A convolution with square kernels; populations are `[channels, height, width]`.
    Conv2d {
        /// Side of the kernel.
        kernel: usize,
        /// Step between neighbouring targets.
        stride: usize,
        /// Zeros added on each side.
        padding: usize,
    },
    /// Each target from a random square window of the source image, with sides drawn from `min..=max`.
    LocalFields {
        /// Smallest side.
        min: usize,
        /// Largest side.
        max: usize,
    },
    /// The listed (source, target) pairs.
    Explicit {
        /// Pairs; a pair may stand more than once.
        edges: Vec<(u32, u32)>,
    },
}
