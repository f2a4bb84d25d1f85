//! Weights of a neuron that keep their sum (synaptic scaling; Diehl & Cook 2015, BindsNET `norm`).

use super::event_driven::Weight;
use serde::{Deserialize, Serialize};

/// Scales the weights into each neuron so that their magnitudes add up to `total`; a neuron whose weights are all 0
/// is left as it is.
///
/// ```
/// use ransnn::snn::plasticity::Normalise;
/// let mut weights = [1.0f32, 0.0, 3.0, 0.0]; // [sources 2, targets 2]
/// Normalise { total: 2.0 }.dense(&mut weights, 2);
/// assert_eq!(weights, [0.5, 0.0, 1.5, 0.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalise {
    /// Sum of the magnitudes afterwards.
    pub total: f32,
}

impl Normalise {
    /// Every target of a dense table, `[sources, stride]`.
    pub fn dense(&self, weights: &mut [f32], stride: usize) {
        (0..stride).for_each(|target| self.column(weights, stride, target));
    }

    /// One target of a dense table, `[sources, stride]`.
    pub fn column(&self, weights: &mut [f32], stride: usize, target: usize) {
        let sum: f32 = weights[target..].iter().step_by(stride).map(|w| w.abs()).sum();
        if sum > 0.0 {
            let factor = self.total / sum;
            weights[target..].iter_mut().step_by(stride).for_each(|w| *w *= factor);
        }
    }

    /// The weights at some places, those of the synapses of one target; summed in `f64`.
    pub fn places<W: Weight>(&self, weights: &mut [W], places: &[u32]) {
        let sum: f64 = places.iter().map(|&place| weights[place as usize].get().abs()).sum();
        if sum > 0.0 {
            let factor = f64::from(self.total) / sum;
            for &place in places {
                let weight = &mut weights[place as usize];
                *weight = W::put(weight.get() * factor);
            }
        }
    }
}
