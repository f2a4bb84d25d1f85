//! Fine-tuning as an experiment: a TOML file, a run directory, a model or an adapter at its end.
//!
//! | file | idea |
//! |---|---|
//! | `config` | the schema of the file |
//! | `run` | what happens, in order |
//! | `code` | generated programs, in a process with limits, only where it was allowed |

pub mod code;
pub mod config;
mod run;

pub use run::{Context, Summary, evaluate, merge, prepare, train};
