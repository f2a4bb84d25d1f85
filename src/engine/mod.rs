//! How a network runs: spikes are events.
//!
//! [`Presentation`] presents a batch of samples to a network, with loops and delays or without, lets it
//! run for some steps, and hands back features (spike counts and the like) and the [`Activity`] that they cost.
//! Only the rows of neurons that fired are touched, memory does not grow with the number of steps, samples run in
//! parallel, and the result is the same, bit for bit, on any number of threads and with any instruction set.
//!
//! | file | idea |
//! |---|---|
//! | `presentation` | samples presented: layers in order, chunks of samples, stretches of steps |
//! | `layer` | one population, compiled |
//! | `encoder` | samples to spikes |
//! | `events` | packed spike lists |
//! | `synapses` | projections compiled for events |
//! | `constant` | projections from an input that is a constant current |
//! | `record` | features and activity |
//! | `plan` | sizes and operations before anything runs |
//! | `cuda` | the engine on a GPU |
//! | `clock` | simulations without samples, each synapse with a delay of its own, on a grid of time |
//! | `lazy` | the same without a grid: exact spike times |
//! | `plastic` | projections whose weights change, on either clock |
//! | `weights` | their weights now and over time, rewards |
//! | `simd` | the inner loops, once per instruction set |

pub mod clock;
mod constant;
pub mod cuda;
mod encoder;
pub mod events;
mod layer;
pub mod lazy;
pub mod plan;
mod plastic;
pub mod presentation;
pub mod record;
pub mod simd;
mod synapses;
mod weights;

pub use clock::{Options, Precision, Simulator};
pub use encoder::encode;
pub use events::Events;
pub use lazy::{Lazy, SpikeTimes};
pub use plan::Plan;
pub use presentation::{Input, Presentation};
pub use record::{Activity, Pool, Probe, Recording, Table, What};
pub use simd::Simd;
pub use weights::{Connections, WeightTrace};

/// A time to run as a number of steps.
pub(crate) fn whole_steps(time: crate::units::Ms, dt: crate::units::Ms) -> crate::Result<u64> {
    let steps = (time.0 / dt.0).round();
    let off = (time.0 / dt.0 - steps).abs();
    // A whole number of steps must stay exact in f64, with room for the time between.
    if !(steps >= 0.0 && off <= 1e-6 * steps.max(1.0) && steps < 1e15) {
        return Err(crate::Error::value("time to run", time, format!("a multiple of the time step, {dt}")));
    }
    Ok(steps as u64)
}
