//! The neuron models, one a file.

pub mod adaptive_lif;
pub mod adex;
pub mod alif;
pub mod alpha;
pub mod alpha_lif;
pub mod cond_lif;
pub mod current_lif;
pub mod diehl_cook;
pub mod iaf;
pub mod integrator;
pub mod izhikevich;
mod lanes;
pub mod late_lif;
pub mod lif;
pub mod multi_spike;
mod physical;
pub mod synaptic;

pub use adaptive_lif::AdaptiveLif;
pub use adex::{AdEx, Coupling};
pub use alif::Alif;
pub use alpha::Alpha;
pub use alpha_lif::AlphaLif;
pub use cond_lif::CondLif;
pub use current_lif::{CurrentLif, Order};
pub use diehl_cook::{DiehlCookLif, Dynamics};
pub use iaf::{Acts, Iaf, Receptors};
pub use integrator::Integrator;
pub use izhikevich::{Izhikevich, Scheme};
pub use late_lif::LateLif;
pub use lif::{Fires, Lif, Reset, ResetActs};
pub use multi_spike::MultiSpikeLif;
pub use synaptic::Synaptic;
