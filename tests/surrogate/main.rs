//! Training by surrogate gradients: operations, losses, trajectories, whole networks.

mod events;
mod fixtures;
mod layer;
mod scan;
mod training;
