//! Experiments: from a TOML file to a run directory.

pub mod check;
pub mod config;
pub mod diagnose;
