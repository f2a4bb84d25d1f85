//! Fine-tuning, and training from nothing: one loop for all of a model or for adapters on it.
//!
//! | file | idea |
//! |---|---|
//! | `data` | from files of text to batches |
//! | `trained` | what of a model is trained |
//! | `run` | the loop: accumulation, clipping, schedule, evaluation, checkpoints |
//! | `score` | accuracy, F1, Matthews correlation |

pub mod data;
mod run;
pub mod score;
mod trained;

pub use data::{Example, Target};
pub use run::{Decay, Evaluation, Event, FineTune, State, evaluate};
pub use trained::{Part, Trained};
