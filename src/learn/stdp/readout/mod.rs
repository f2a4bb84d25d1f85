//! Spiking readouts of frozen layers, trained by the times of spikes: the trainable part of a RanSNN.
//!
//! The frozen layers run in the engine; their spikes reach one population with a neuron per class through one dense
//! projection. Only that projection learns, by a [`Rule`]: supervised by ReSuMe, or by rewards alone.
//!
//! | file | idea |
//! |---|---|
//! | `rule` | the rules, and what a presentation makes of them |
//! | `layer` | the neurons: a presentation, a change of the weights |
//! | `trainer` | mini-batches, frozen spikes, agreement with the engine |
//! | `checkpoint` | files |
//! | `reference` | the same written plainly; tests only |

mod checkpoint;
mod layer;
#[cfg(test)]
mod reference;
mod rule;
mod trainer;

pub use rule::{Reward, Rule, Supervised};
pub use trainer::{Options, Trainer};
