//! RanSNN (arXiv:2505.13622): random frozen spiking layers, features of their spikes, a trained readout.
//!
//! [`Reservoir`] turns samples into features; `calibrate` sets the gains of its layers; the readouts are
//! [`crate::learn::ridge`] (closed form) and [`crate::learn::adam`] (cross-entropy, as in the paper).

pub mod calibrate;
pub mod reservoir;

pub use calibrate::{Tune, calibrate};
pub use reservoir::{Coding, Reservoir, Started, Transform};
