//! The neuron models, one a file.

pub mod lif;

pub use lif::{Fires, Lif, Reset, ResetActs};
