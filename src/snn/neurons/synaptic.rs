//! snnTorch's `Synaptic`: a LIF neuron with a synaptic current and snnTorch's rules of reset.
//!
//! ```text
//! r ← u > θ                        (the spike of the step before)
//! i ← α i + x
//! u ← β u + i − θ r  or  0 where r ("zero" drops the input of the step after a spike)
//! s ← u > θ
//! u ← u − θ (s − r)  or  u − u (s − r)      (reset_delay = False)
//! ```
//!
//! With α = 0 the current is the input, which gives `RLeaky` (its recurrent input is a projection), and `Leaky` with
//! `reset_delay = False` to the last detail: where a membrane is still above threshold after its reset, the library
//! takes back the reset of the step before.

use super::lif::{Reset, ResetActs};
use crate::error::{Error, Result};
use crate::snn::neuron::{Neuron, Param, StateSpec};
use serde::{Deserialize, Serialize};

/// snnTorch's second-order LIF neuron. State: membrane potential, synaptic current.
///
/// ```
/// use ransnn::snn::{Neuron, neurons::Synaptic};
/// let (mut u, mut i, mut spikes) = (vec![0.0f32; 1], vec![0.0f32; 1], vec![0u8; 1]);
/// Synaptic::new(0.5, 0.9).step(&[2.0], &mut [&mut u, &mut i], &mut spikes);
/// assert_eq!((u[0], i[0], spikes[0]), (2.0, 2.0, 1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Synaptic {
    /// Factor on the synaptic current per step, α.
    pub alpha: f32,
    /// Factor on the membrane potential per step, β.
    pub beta: f32,
    /// Firing threshold θ.
    pub threshold: f32,
    /// Subtract, to 0, or none.
    pub reset: Reset,
    /// Next step (the library's default) or same step (`reset_delay=False`).
    pub acts: ResetActs,
}

impl Synaptic {
    /// snnTorch's `Synaptic(alpha, beta)`: threshold 1, subtracting one step late.
    pub fn new(alpha: f32, beta: f32) -> Self {
        Self { alpha, beta, threshold: 1.0, reset: Reset::Subtract, acts: ResetActs::NextStep }
    }
}

impl Neuron for Synaptic {
    fn kind(&self) -> &'static str {
        "synaptic"
    }

    fn params(&self) -> Vec<Param> {
        vec![
            Param::ranged("alpha", self.alpha, 0.0, 1.0, "factor on the synaptic current per step"),
            Param::ranged("beta", self.beta, 0.0, 1.0, "factor on the membrane potential per step"),
            Param::positive("threshold", self.threshold, "firing threshold"),
        ]
    }

    fn state(&self) -> Vec<StateSpec> {
        vec![StateSpec::membrane(0.0), StateSpec::current()]
    }

    fn step(&self, input: &[f32], state: &mut [&mut [f32]], spikes: &mut [u8]) {
        let [membrane, current] = state else { return };
        for (((u, i), &x), s) in membrane.iter_mut().zip(current.iter_mut()).zip(input).zip(spikes) {
            let before = *u > self.threshold;
            *i = self.alpha * *i + x;
            let mut next = self.beta * *u + *i;
            if before {
                next = self.reset.apply(next, self.threshold);
            }
            let fired = next > self.threshold;
            if self.acts == ResetActs::SameStep {
                let resets = f32::from(fired) - f32::from(before);
                next -= resets
                    * match self.reset {
                        Reset::Subtract => self.threshold,
                        Reset::To(_) => next,
                        Reset::None => 0.0,
                    };
            }
            *u = next;
            *s = fired.into();
        }
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn validate(&self) -> Result<()> {
        self.params().iter().try_for_each(Param::check)?;
        match (self.reset, self.acts) {
            (Reset::To(value), _) if value != 0.0 => Err(Error::value("reset", value, "0, as in snnTorch")),
            (_, ResetActs::BeforeNextStep) => {
                Err(Error::value("acts", "before-next-step", "same-step or next-step, as in snnTorch"))
            }
            _ => Ok(()),
        }
    }
}
