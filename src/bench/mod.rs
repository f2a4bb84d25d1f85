//! The benchmark suite behind `ransnn bench`.
