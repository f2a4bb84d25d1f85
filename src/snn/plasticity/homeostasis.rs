//! A threshold that rises with every spike, so that no neuron wins always (Diehl & Cook 2015).

use crate::units::Ms;
use serde::{Deserialize, Serialize};

/// ϑ ← ϑ + `plus` with every spike of the neuron, and ϑ ← ϑ · exp(−dt / τ) always. The threshold is its fixed part
/// plus ϑ.
///
/// ```
/// use ransnn::{snn::plasticity::AdaptiveThreshold, units::Ms};
/// let adapt = AdaptiveThreshold { plus: 0.05, tau: Ms(1e7) };
/// let mut theta = [1.0f32, 0.0];
/// adapt.decay(&mut theta, Ms(1e7));
/// adapt.spikes(&mut theta[1], 2.0);
/// assert!((theta[0] - 0.367_879_4).abs() < 1e-6 && theta[1] == 0.1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveThreshold {
    /// Rise of ϑ with a spike.
    pub plus: f32,
    /// Time constant of its return.
    pub tau: Ms,
}

impl AdaptiveThreshold {
    /// Lets some time pass.
    pub fn decay(&self, theta: &mut [f32], time: Ms) {
        let factor = (-time.0 / self.tau.0).exp() as f32;
        theta.iter_mut().for_each(|theta| *theta *= factor);
    }

    /// Counts spikes of one neuron (a share of one, where a batch is averaged).
    pub fn spikes(&self, theta: &mut f32, spikes: f32) {
        *theta += self.plus * spikes;
    }
}
