//! Training by surrogate gradients: operations, layers, losses, trajectories.

mod scan;
