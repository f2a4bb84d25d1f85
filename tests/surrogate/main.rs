//! Training by surrogate gradients: operations, losses, trajectories, whole networks, online.

mod convolution;
mod events;
mod fixtures;
mod layer;
mod loops;
mod online;
mod scan;
mod sparse;
mod stretches;
mod training;
