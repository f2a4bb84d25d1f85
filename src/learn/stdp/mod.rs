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
//! | `readout` | spiking readouts of frozen layers, with labels or rewards |
//! | `reference` | the same network written plainly, with its inhibitory neurons; tests only |
//!
//! On MNIST, one pass over the 60,000 training images with 400 neurons, classes by the last 10,000 of them, tested on all
//! 10,000 test images, three seeds: with BindsNET's constants 91.7 to 92.0 % by proportions (91.5 to 91.6 % by all
//! activity), with the authors' 89.2 to 90.4 % (88.5 to 90.0 %).

mod checkpoint;
mod diehl_cook;
mod labels;
mod present;
pub mod readout;
#[cfg(test)]
mod reference;
mod simd;
mod spikes;
mod trainer;

pub use diehl_cook::{DiehlCook, INHIBITION_DELAY, Merge, Plasticity, Retry};
pub use labels::{Labels, Vote};
pub use trainer::{Report, Trainer};
