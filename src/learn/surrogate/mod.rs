//! Training by surrogate gradients: back-propagation through time, as in snnTorch and SpikingJelly, or forward in time.
//!
//! [`Trainer`] changes the trained projections of a [`Network`](crate::snn::Network) and ends in a network that the
//! engine runs: with the same input, training and engine see the same spikes.
//!
//! | file | idea |
//! |---|---|
//! | `model` | the network as a function of its trained parameters |
//! | `model::prepare` | which populations training runs, and what they hear |
//! | `model::current` | the currents of a projection |
//! | `model::feedback` | populations in a loop |
//! | `model::sparse` | projections that connect some of the pairs |
//! | `model::memory` | how much memory a batch takes |
//! | `model::normalize` | normalisation over the batch, and how it ends in weights |
//! | `model::online` | e-prop and OTTT: gradients forward in time, on CPU and GPU |
//! | `model::stretches` | gradients backwards in the memory of some of the steps |
//! | `loss` | what is made small |
//! | `options` | how it is trained, and what does not go together |
//! | `trainer` | mini-batches, optimiser, held-out samples |
//! | `judge` | what the engine makes of it |
//! | `checkpoint` | files |

mod checkpoint;
mod judge;
mod loss;
mod model;
mod options;
mod trainer;

pub use judge::{Agreement, classify, probe, silent_or_saturated};
pub use loss::{Loss, RatePenalty};
pub use model::{Credit, Dropout, Encoded, Gradient, Model, Online, Pass, Recomputed, Statistics, Trace};
pub use options::{Checkpoint, Method, Options};
pub(super) use trainer::spikes_of;
pub use trainer::{Data, Step, Trainer};
