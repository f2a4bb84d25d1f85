//! What a network is: populations of neurons, projections between them, and the random numbers they are drawn from.

pub mod builder;
pub mod calibrate;
pub mod component;
pub mod connect;
mod draw;
pub mod encode;
pub mod init;
pub mod linear;
pub mod network;
pub mod neuron;
pub mod neurons;
pub mod plasticity;
pub mod real;
pub mod scan;
pub mod standard;
pub mod stimulus;
pub mod synapses;
pub mod weights;

pub use builder::{Edge, NetworkBuilder, Precision, Shape};
pub use component::Component;
pub use connect::Rule;
pub use encode::Encoding;
pub use init::Init;
pub use linear::{Adaptation, Kernel, Linear};
pub use network::{Network, Parameters, Pop, Population, Projection, TensorRef};
pub use neuron::{GpuModel, Neuron, Param, StateSpec};
pub use real::Real;
pub use stimulus::{Drive, Source, Stimulus, Wiring};
pub use synapses::Synapses;
pub use weights::{Conv2d, Values, Weights};
