//! How a network runs: spikes are events.
