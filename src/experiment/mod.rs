//! Experiments: from a TOML file to a run directory.

pub mod annotate;
pub mod build;
pub mod check;
pub mod compare;
pub mod config;
pub mod device;
pub mod diagnose;
pub mod execute;
mod model_file;
pub mod neuron;
pub mod peft;
pub mod plan;
mod render_report;
pub mod run_dir;
pub mod simulate;
pub mod summary;
pub mod sweep;
pub mod train;
pub mod unitless;
