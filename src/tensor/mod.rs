//! Tensors with automatic differentiation, on CPU and GPU.
