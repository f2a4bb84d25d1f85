//! The memory behind a tensor.

use super::kernels::ElementType;
use super::{DType, cpu, cuda};
use crate::{Error, Result};

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
    /// A copy on a GPU.
    pub(crate) fn upload(gpu: &cuda::Gpu, from: &cpu::Buffer) -> Result<Self> {
        Ok(Self::Cuda(cpu::each_buffer!(from, values => gpu.upload(values))?))
    }

    /// A copy in main memory.
    pub(crate) fn download(from: &cuda::Buffer) -> Result<cpu::Buffer> {
        Ok(match from.element() {
            ElementType::F32 => cpu::Buffer::F32(from.download()?),
            ElementType::F64 => cpu::Buffer::F64(from.download()?),
            ElementType::Bf16 => cpu::Buffer::Bf16(from.download()?),
            ElementType::F16 => cpu::Buffer::F16(from.download()?),
            ElementType::U8 => cpu::Buffer::U8(from.download()?),
            ElementType::U32 => cpu::Buffer::U32(from.download()?),
            ElementType::I64 => cpu::Buffer::I64(from.download()?),
            other => return Err(Error::Internal(format!("a tensor of {other:?} on a GPU"))),
        })
    }
}

impl From<DType> for ElementType {
    fn from(dtype: DType) -> Self {
        match dtype {
            DType::F32 => Self::F32,
            DType::F64 => Self::F64,
            DType::Bf16 => Self::Bf16,
            DType::F16 => Self::F16,
            DType::U8 => Self::U8,
            DType::U32 => Self::U32,
            DType::I64 => Self::I64,
        }
    }
}
