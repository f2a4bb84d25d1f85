//! Spyx' `LIF`: it fires from the membrane potential of the step before.
//!
//! ```text
//! s ← u > θ
//! u ← β u + x − θ s
//! ```
//!
//! The membrane is that of snnTorch's `Leaky`; the spike comes one step later.

use super::lif::Lif;
use crate::snn::neuron::{Neuron, Param, StateSpec};
use serde::{Deserialize, Serialize};

/// A LIF neuron whose spike leaves one step after the membrane crossed the threshold.
///
/// ```
/// use ransnn::snn::{Neuron, neurons::Lif};
/// let (mut u, mut spikes, mut train) = (vec![0.0f32; 1], vec![0u8; 1], vec![]);
/// for x in [1.5, 0.0, 0.0] {
///     Lif::spyx(0.5).step(&[x], &mut [&mut u], &mut spikes);
///     train.push((spikes[0], u[0]));
/// }
/// assert_eq!(train, [(0, 1.5), (1, -0.25), (0, -0.125)]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LateLif {
    /// Factor on the membrane potential per step, β.
    pub decay: f32,
    /// Firing threshold θ, subtracted by a spike.
    pub threshold: f32,
}

impl Lif {
    /// Spyx' `LIF(beta)`: threshold 1, strict comparison, subtracting, spike and reset one step late.
    pub fn spyx(beta: f32) -> LateLif {
        LateLif { decay: beta, threshold: 1.0 }
    }
}

impl Neuron for LateLif {
    fn kind(&self) -> &'static str {
        "late-lif"
    }

    fn params(&self) -> Vec<Param> {
        vec![
            Param::ranged("decay", self.decay, 0.0, 1.0, "factor on the membrane potential per step"),
            Param::positive("threshold", self.threshold, "firing threshold"),
        ]
    }

    fn state(&self) -> Vec<StateSpec> {
        vec![StateSpec::membrane(0.0)]
    }

    fn step(&self, input: &[f32], state: &mut [&mut [f32]], spikes: &mut [u8]) {
        for ((u, &x), s) in state[0].iter_mut().zip(input).zip(spikes) {
            let fired = *u > self.threshold;
            let next = self.decay * *u + x;
            *u = if fired { next - self.threshold } else { next };
            *s = fired.into();
        }
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
