//! Trainers.

pub mod adam;
pub mod convert;
pub mod ransnn;
pub mod ridge;
pub mod surrogate;
