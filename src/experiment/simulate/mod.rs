//! Simulations as experiments: a TOML file with a table `[simulate]`, a run directory, spikes and statistics at its end.
//!
//! | file | idea |
//! |---|---|
//! | `config` | the schema of the file |
//! | `drawn` | a number, or what it is drawn from |
//! | `plastic` | how weights change |
//! | `keys` | a line of documentation for each key |
//! | `check` | every mistake, each with its place |
//! | `build` | from the file to the library's network |
//! | `plan` | sizes before anything is drawn |
//! | `clock` | one of the two clocks, with what is recorded |
//! | `streams` | recordings on their way to the disk, and as `.npz` and CSV |
//! | `run` | what happens, in order |
//! | `summary` | the result |
//! | `page` | the report |

pub mod build;
pub mod check;
mod clock;
pub mod config;
mod drawn;
mod keys;
mod page;
pub mod plan;
mod plastic;
mod run;
mod streams;
pub mod summary;

pub use config::Config;
pub use drawn::Drawn;
pub use keys::KEYS;
pub use plastic::{Given, Normalise, Plasticity, Reward};
pub use run::{Context, run};
pub use summary::Summary;

/// Whether a text is the file of a simulation: it has a table `[simulate]`.
pub fn describes(text: &str) -> bool {
    super::diagnose::has_table(text, "simulate")
}
