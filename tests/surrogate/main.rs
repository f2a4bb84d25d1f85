//! Training by surrogate gradients: operations, losses, trajectories, whole networks, online.

mod fixtures;
mod online;
mod scan;
mod training;
