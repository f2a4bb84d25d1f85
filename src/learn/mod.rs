//! Trainers.

pub mod adam;
pub mod convert;
pub mod ransnn;
pub mod ridge;
pub mod stdp;
pub mod surrogate;
