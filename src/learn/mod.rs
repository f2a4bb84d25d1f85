//! Trainers.

pub mod adam;
pub mod convert;
pub mod ransnn;
pub mod ridge;
pub mod stdp;
pub mod surrogate;

/// Changes the intensities of a sample in a pass: `augment(pass, sample, intensities)`.
pub type Augment<'a> = &'a (dyn Fn(usize, u64, &mut [f32]) + Sync);
