//! sinabs' `LIF` and `IAF`: several spikes in one step, and a floor under the membrane potential.
//!
//! ```text
//! u ← β u + g x
//! n ← ⌊u / θ⌋ where u > 0, at most n_max
//! u ← max(u − n θ, u_min)
//! ```

use super::lif::Lif;
use crate::error::{Error, Result};
use crate::snn::neuron::{Neuron, Param, StateSpec};
use serde::{Deserialize, Serialize};

/// A LIF neuron that may emit several spikes in a step and subtracts the threshold once for each.
///
/// ```
/// use ransnn::snn::{Neuron, neurons::Lif};
/// let iaf = Lif::sinabs_iaf();
/// let (mut u, mut spikes) = (vec![0.0f32; 1], vec![0u8; 1]);
/// iaf.step(&[3.5], &mut [&mut u], &mut spikes);
/// assert_eq!((spikes[0], u[0]), (3, 0.5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MultiSpikeLif {
    /// Factor on the membrane potential per step, β = exp(−1 / τ).
    pub decay: f32,
    /// Factor on the input.
    pub gain: f32,
    /// Firing threshold θ.
    pub threshold: f32,
    /// Most spikes in a step: 1 for sinabs' `SingleSpike`. What is not emitted stays in the membrane.
    pub max_spikes: u8,
    /// Floor of the membrane potential after the reset (sinabs' `min_v_mem`).
    pub min: Option<f32>,
}

impl Lif {
    /// sinabs' `LIF(tau_mem, norm_input)` with `MultiSpike`: τ in steps, gain 1 − β with `norm_input`, threshold 1.
    pub fn sinabs(tau_mem: f64, norm_input: bool) -> MultiSpikeLif {
        MultiSpikeLif {
            decay: (-1.0 / tau_mem).exp() as f32,
            gain: if norm_input { -(-1.0 / tau_mem).exp_m1() as f32 } else { 1.0 },
            threshold: 1.0,
            max_spikes: u8::MAX,
            min: None,
        }
    }

    /// sinabs' `IAF` with `MultiSpike`: no leak.
    pub fn sinabs_iaf() -> MultiSpikeLif {
        MultiSpikeLif { decay: 1.0, ..Self::sinabs(1.0, false) }
    }
}

impl Neuron for MultiSpikeLif {
    fn kind(&self) -> &'static str {
        "multi-spike-lif"
    }

    fn params(&self) -> Vec<Param> {
        let mut params = vec![
            Param::ranged("decay", self.decay, 0.0, 1.0, "factor on the membrane potential per step"),
            Param::finite("gain", self.gain, "factor on the input"),
            Param::positive("threshold", self.threshold, "firing threshold, subtracted for each spike"),
            Param::ranged("max_spikes", self.max_spikes.into(), 1.0, 255.0, "most spikes in a step"),
        ];
        params.extend(self.min.map(|min| Param::finite("min", min, "floor of the membrane potential")));
        params
    }

    fn state(&self) -> Vec<StateSpec> {
        vec![StateSpec::membrane(0.0)]
    }

    fn step(&self, input: &[f32], state: &mut [&mut [f32]], spikes: &mut [u8]) {
        let floor = self.min.unwrap_or(f32::NEG_INFINITY);
        for ((u, &x), s) in state[0].iter_mut().zip(input).zip(spikes) {
            let next = self.decay * *u + self.gain * x;
            // A float-to-integer cast saturates: negative potentials give 0, huge ones 255.
            let count = ((next / self.threshold) as u8).min(self.max_spikes);
            *u = (next - f32::from(count) * self.threshold).max(floor);
            *s = count;
        }
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn validate(&self) -> Result<()> {
        self.params().iter().try_for_each(Param::check)?;
        match self.min {
            Some(min) if min >= self.threshold => {
                Err(Error::value("min", min, format!("below the threshold, {}", self.threshold)))
            }
            _ => Ok(()),
        }
    }
}
