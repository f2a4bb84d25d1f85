//! Trainers.

pub mod adam;
pub mod ransnn;
pub mod ridge;
pub mod surrogate;
