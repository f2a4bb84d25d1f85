//! The neuron models, one a file.

pub mod alpha;
pub mod current_lif;
pub mod iaf;
pub mod late_lif;
pub mod lif;
pub mod multi_spike;
pub mod synaptic;

pub use alpha::Alpha;
pub use current_lif::{CurrentLif, Order};
pub use iaf::{Acts, Iaf, Receptors};
pub use late_lif::LateLif;
pub use lif::{Fires, Lif, Reset, ResetActs};
pub use multi_spike::MultiSpikeLif;
pub use synaptic::Synaptic;
