//! Leaky integrate-and-fire, in the dialects of the frameworks that people come from.
//!
//! One step, with input current `x`, membrane potential `u`, decay `β`, gain `g`, rest `u₀` and threshold `θ`:
//!
//! ```text
//! u ← u₀ + β (u − u₀) + g x        (delayed reset: and − θ where the neuron fired in the step before)
//! s ← u > θ  or  u ≥ θ
//! u ← u − θ s  or  u_reset         (same-step reset)
//! ```
//!
//! Every product and sum is rounded on its own (no fused multiply-add), so that spikes are the same on every
//! instruction set and on the GPU.

use crate::snn::neuron::{Neuron, Param, StateSpec};
use serde::{Deserialize, Serialize};

/// How the membrane potential is compared with the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fires {
    /// `u > θ` (snnTorch, Norse).
    Above,
    /// `u ≥ θ` (SpikingJelly, sinabs, NEST).
    AtOrAbove,
}

/// What a spike does to the membrane potential.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reset {
    /// Subtracts the threshold ("soft reset").
    Subtract,
    /// Sets it to a value ("hard reset").
    To(f32),
    /// Nothing.
    None,
}

/// When the reset acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResetActs {
    /// In the step of the spike.
    SameStep,
    /// One step later (snnTorch's default).
    NextStep,
}

/// A leaky integrate-and-fire neuron. [`Lif::default`] is ours: β 0.95, gain 1, threshold 1, `≥`, subtracting, same step.
///
/// ```
/// use ransnn::snn::{Neuron, neurons::Lif};
/// let lif = Lif::snntorch(0.9);
/// let (mut u, mut spikes) = (vec![0.0f32; 1], vec![0u8; 1]);
/// for _ in 0..2 {
///     lif.step(&[0.6], &mut [&mut u], &mut spikes);
/// }
/// assert_eq!(spikes, [1]); // 0.6, then 0.9 · 0.6 + 0.6 = 1.14 > 1
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lif {
    /// Factor on the membrane potential per step, β = exp(−dt / τ).
    pub decay: f32,
    /// Factor on the input.
    pub gain: f32,
    /// Resting potential.
    pub rest: f32,
    /// Firing threshold θ.
    pub threshold: f32,
    /// Comparison with the threshold.
    pub fires: Fires,
    /// Effect of a spike.
    pub reset: Reset,
    /// Time of the reset.
    pub acts: ResetActs,
    /// Steps after a spike during which the membrane stays where the reset put it.
    pub refractory_steps: u32,
}

impl Default for Lif {
    fn default() -> Self {
        Self {
            decay: 0.95,
            gain: 1.0,
            rest: 0.0,
            threshold: 1.0,
            fires: Fires::AtOrAbove,
            reset: Reset::Subtract,
            acts: ResetActs::SameStep,
            refractory_steps: 0,
        }
    }
}

impl Lif {
    /// snnTorch's `Leaky(beta)`: strict comparison, subtracting reset one step late.
    pub fn snntorch(beta: f32) -> Self {
        Self { decay: beta, fires: Fires::Above, acts: ResetActs::NextStep, ..Self::default() }
    }

    fn fired(&self, u: f32) -> bool {
        match self.fires {
            Fires::Above => u > self.threshold,
            Fires::AtOrAbove => u >= self.threshold,
        }
    }
}

impl Neuron for Lif {
    fn kind(&self) -> &'static str {
        "lif"
    }

    fn params(&self) -> Vec<Param> {
        let p = |name, value: f32, min, max, doc| Param { name, unit: "1", value: value.into(), min, max, doc };
        vec![
            p("decay", self.decay, 0.0, 1.0, "factor on the membrane potential per step"),
            p("gain", self.gain, f64::MIN, f64::MAX, "factor on the input"),
            p("rest", self.rest, f64::MIN, f64::MAX, "resting potential"),
            p("threshold", self.threshold, f64::MIN_POSITIVE, f64::MAX, "firing threshold"),
        ]
    }

    fn state(&self) -> Vec<StateSpec> {
        vec![StateSpec { name: "membrane potential", unit: "1", initial: self.rest }]
    }

    fn step(&self, input: &[f32], state: &mut [&mut [f32]], spikes: &mut [u8]) {
        let membrane = &mut *state[0];
        for ((u, &x), s) in membrane.iter_mut().zip(input).zip(spikes) {
            // With a delayed reset, the spike of the step before is read off the membrane it left above threshold.
            let late = self.acts == ResetActs::NextStep && self.fired(*u);
            let mut next = self.rest + self.decay * (*u - self.rest) + self.gain * x;
            if late {
                next = self.after_spike(next);
            }
            let fired = self.fired(next);
            if fired && self.acts == ResetActs::SameStep {
                next = self.after_spike(next);
            }
            *u = next;
            *s = fired.into();
        }
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

impl Lif {
    fn after_spike(&self, u: f32) -> f32 {
        match self.reset {
            Reset::Subtract => u - self.threshold,
            Reset::To(value) => value,
            Reset::None => u,
        }
    }
}
