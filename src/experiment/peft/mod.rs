//! Fine-tuning as an experiment: a TOML file, a run directory, a model or an adapter at its end.
//!
//! | file | idea |
//! |---|---|
//! | `config` | the schema of the file |
//! | `run` | what happens, in order |
//! | `curves` | the course of a run, read from its metrics |
//! | `compare` | files with several learning rates and seeds, side by side |
//! | `code` | generated programs, in a process with limits, only where it was allowed; pass@k |
//! | `judge` | ratings of answers by a command of the user's |

pub mod code;
pub mod compare;
pub mod config;
mod curves;
pub mod judge;
mod run;

pub use curves::{Curves, Moment};
pub use run::{Context, Summary, evaluate, fingerprint, merge, prepare, train};

/// Whether a text is the file of a fine-tuning: it has a table `[adapt]`.
pub fn describes(text: &str) -> bool {
    super::diagnose::has_table(text, "adapt")
}
