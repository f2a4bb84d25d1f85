//! Training by the times of spikes.
//!
//! | file | idea |
//! |---|---|
//! | `diehl_cook` | the network of Diehl & Cook (2015) and every constant of it, as data |
//! | `trainer` | learning without labels: batches, scaling, progress |
//! | `present` | one presentation: the order of a step, event by event |
//! | `spikes` | input spikes of a presentation |
//! | `simd` | the presentation compiled for each instruction set |
//! | `checkpoint` | files; the network for the engine |
//! | `labels` | classes for neurons that learnt without labels |
//! | `reference` | the same network written plainly, with its inhibitory neurons; tests only |

mod checkpoint;
mod diehl_cook;
mod labels;
mod present;
#[cfg(test)]
mod reference;
mod simd;
mod spikes;
mod trainer;

pub use diehl_cook::{DiehlCook, INHIBITION_DELAY, Merge, Plasticity, Retry};
pub use labels::{Labels, Vote};
pub use trainer::{Report, Trainer};
