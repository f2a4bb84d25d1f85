//! Experiments: from a TOML file to a run directory.

pub mod annotate;
pub mod check;
pub mod config;
pub mod diagnose;
pub mod run_dir;
pub mod summary;
pub mod sweep;

