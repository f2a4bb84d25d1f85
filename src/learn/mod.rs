//! Trainers.

pub mod ridge;
