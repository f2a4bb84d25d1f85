//! ALIF, the neuron of the LSNN: a LIF neuron whose threshold rises with each of its spikes and comes down slowly, so that it
//! remembers for longer than its membrane does. (Bellec et al. 2018, arXiv:1803.09574; 2020, eq. 6–8. In physical units:
//! [`AdaptiveLif`](super::AdaptiveLif).)
//!
//! ```text
//! u ← β u + x
//! s ← u ≥ θ + b a
//! u ← u − θ  or  u_r  where s
//! a ← ρ a + s          (acts from the next step on)
//! ```

use super::lif::Reset;
use crate::error::Result;
use crate::snn::neuron::{Neuron, Param, StateSpec};
use serde::{Deserialize, Serialize};

/// A LIF neuron with an adaptive threshold, without units. State: membrane potential, adaptation a.
///
/// ```
/// use ransnn::snn::{Neuron, neurons::Alif};
/// let (mut u, mut a, mut spikes) = (vec![0.0f32; 1], vec![0.0f32; 1], vec![0u8; 1]);
/// let neuron = Alif::new(0.5, 0.5, 0.75);
/// let mut fired = vec![];
/// for _ in 0..4 {
///     neuron.step(&[1.25], &mut [&mut u, &mut a], &mut spikes);
///     fired.push(spikes[0]);
/// }
/// // Potentials 1.25, 1.375, 1.9375, 1.71875 against thresholds 1, 1.75, 1.375, 1.9375.
/// assert_eq!(fired, [1, 0, 1, 0]);
/// # Ok::<(), ransnn::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alif {
    /// Factor on the membrane potential per step, β.
    pub decay: f32,
    /// Factor on the adaptation per step, ρ.
    pub adaptation_decay: f32,
    /// What a spike adds to the threshold, b.
    pub strength: f32,
    /// Firing threshold θ of a neuron that has not fired.
    pub threshold: f32,
    /// What a spike does to the potential.
    pub reset: Reset,
}

impl Alif {
    /// Threshold 1, which a spike subtracts.
    pub fn new(decay: f32, adaptation_decay: f32, strength: f32) -> Self {
        Self { decay, adaptation_decay, strength, threshold: 1.0, reset: Reset::Subtract }
    }
}

impl Neuron for Alif {
    fn kind(&self) -> &'static str {
        "alif"
    }

    fn params(&self) -> Vec<Param> {
        let mut params = vec![
            Param::ranged("decay", self.decay, 0.0, 1.0, "factor on the membrane potential per step"),
            Param::ranged(
                "adaptation_decay",
                self.adaptation_decay,
                0.0,
                1.0,
                "factor on the adaptation per step",
            ),
            Param::ranged("strength", self.strength, 0.0, f64::MAX, "what a spike adds to the threshold"),
            Param::positive("threshold", self.threshold, "firing threshold"),
        ];
        params.extend(self.reset.param());
        params
    }

    fn state(&self) -> Vec<StateSpec> {
        let adaptation = StateSpec { name: "adaptation", unit: "1", initial: 0.0 };
        vec![StateSpec::membrane(0.0), adaptation]
    }

    fn step(&self, input: &[f32], state: &mut [&mut [f32]], spikes: &mut [u8]) {
        let [membrane, adaptation] = state else { return };
        for (((u, a), &x), s) in membrane.iter_mut().zip(adaptation.iter_mut()).zip(input).zip(spikes) {
            *u = self.decay * *u + x;
            // In the order in which training computes it, so that both round alike.
            let fired = *u - self.threshold - self.strength * *a >= 0.0;
            if fired {
                *u = self.reset.apply(*u, self.threshold);
            }
            *a = self.adaptation_decay * *a + f32::from(fired);
            *s = fired.into();
        }
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn validate(&self) -> Result<()> {
        self.params().iter().try_for_each(Param::check)
    }
}
