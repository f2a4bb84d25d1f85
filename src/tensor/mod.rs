//! Tensors with automatic differentiation, on CPU and GPU.

pub mod cuda;
pub mod kernels;
