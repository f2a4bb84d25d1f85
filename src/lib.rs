//! Spiking neural networks whose hidden weights are random and frozen: simulate, train, measure.
//!
//! A whole RanSNN from the library:
//!
//! ```
#![doc = include_str!("../examples/05_ransnn.rs")]
//! ```
#![deny(unsafe_code)]
// Here and not in Cargo.toml, because examples do print.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod bench;
pub mod cli;
pub mod data;
pub mod document;
pub mod engine;
pub mod error;
pub mod experiment;
pub mod files;
pub mod learn;
mod lines;
pub mod models;
pub mod nn;
pub mod parallel;
pub mod peft;
pub mod progress;
pub mod report;
pub mod rng;
pub mod snn;
pub mod tensor;
pub mod units;

pub use error::{Error, Result};
