//! How a network runs: spikes are events.

pub mod cuda;
