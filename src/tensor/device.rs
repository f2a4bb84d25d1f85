//! Where a tensor lives.

use super::cuda;

/// Where a tensor lives and its operations run. Nothing moves by itself: see [`Tensor::to_device`](super::Tensor::to_device).
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Device {
    /// Main memory.
    #[default]
    Cpu,
    /// An NVIDIA GPU.
    Cuda(cuda::Gpu),
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(gpu) => write!(f, "cuda:{}", gpu.index()),
        }
    }
}
