//! Training by surrogate gradients: operations, losses, trajectories, whole networks.

mod fixtures;
mod scan;
mod training;
