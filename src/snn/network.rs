//! The description of a network: named populations and projections. It holds no state and no device memory.

use super::{Neuron, connect::Rule, init::Init, weights::Weights};
use crate::units::Ms;

/// A population of a [`Network`], by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pop(pub usize);

/// A network: what there is, drawn from its seed and ready to run.
#[derive(Debug)]
pub struct Network {
    /// Length of a time step.
    pub dt: Ms,
    /// Seed of every random number in it.
    pub seed: u64,
    /// In the order of their declaration.
    pub populations: Vec<Population>,
    /// In the order of their declaration.
    pub projections: Vec<Projection>,
}

/// Neurons of one model, or an input.
#[derive(Debug)]
pub struct Population {
    /// Unique name.
    pub name: String,
    /// `[neurons]` or `[channels, height, width]`.
    pub shape: Vec<usize>,
    /// The model; `None` for an input.
    pub model: Option<Box<dyn Neuron>>,
}

/// Synapses from one population to another.
#[derive(Debug)]
pub struct Projection {
    /// Unique name, by which its random streams are keyed.
    pub name: String,
    /// Source.
    pub pre: Pop,
    /// Target.
    pub post: Pop,
    /// Which pairs are connected.
    pub rule: Rule,
    /// What the weights are drawn from.
    pub init: Init,
    /// Delay; `None` delivers in the same step, from population to population in topological order.
    pub delay: Option<Ms>,
    /// Never trained: no gradient, no optimiser state, compact storage.
    pub frozen: bool,
    /// The weights.
    pub weights: Weights,
    /// Constant input to each target (one per target, or one per channel of a convolution); empty for none.
    pub bias: Vec<f32>,
    /// Factor on all weights and biases, set by calibration: one entry, one per target or one per channel.
    pub gain: Vec<f32>,
}

impl Population {
    /// Number of neurons.
    pub fn size(&self) -> usize {
        self.shape.iter().product()
    }
}
