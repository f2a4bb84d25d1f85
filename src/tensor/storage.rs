//! The memory behind a tensor.

use super::{DType, cpu, cuda};
use crate::Result;

/// The memory behind a tensor, shared by every tensor that is a reshape of it.
#[derive(Debug)]
pub enum Storage {
    /// Main memory.
    Cpu(cpu::Buffer),
    /// Memory of a GPU.
    Cuda(cuda::Buffer),
}

/// All traffic with a GPU, for every kind of number.
impl Storage {
    /// `len` zeros on a GPU.
    pub(crate) fn cuda_zeros(gpu: &cuda::Gpu, dtype: DType, len: usize) -> Result<cuda::Buffer> {
        gpu.zeros(dtype, len)
    }

    /// A copy on a GPU.
    pub(crate) fn upload(gpu: &cuda::Gpu, from: &cpu::Buffer) -> Result<Self> {
        Ok(Self::Cuda(gpu.upload(from)?))
    }

    /// A copy in main memory.
    pub(crate) fn download(from: &cuda::Buffer) -> Result<cpu::Buffer> {
        from.download()
    }
}
