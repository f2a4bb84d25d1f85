//! The memory behind a tensor.

use super::{cpu, cuda};

/// The memory behind a tensor, shared by every tensor that is a reshape of it.
#[derive(Debug)]
pub enum Storage {
    /// Main memory.
    Cpu(cpu::Buffer),
    /// Memory of a GPU.
    Cuda(cuda::Buffer),
}
