//! Between main memory and a GPU's, for whole tensors.

use super::cuda::{Gpu, self};
use super::kernels::ElementType;
use super::{DType, cpu};
use crate::Result;

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

/// A copy on the GPU.
pub(super) fn upload(gpu: &Gpu, buffer: &cpu::Buffer) -> Result<cuda::Buffer> {
    cpu::each_buffer!(buffer, values => gpu.upload(values))
}

/// A copy in main memory.
pub(super) fn download(buffer: &cuda::Buffer, dtype: DType) -> Result<cpu::Buffer> {
    Ok(match dtype {
        DType::F32 => cpu::Buffer::F32(buffer.download()?),
        DType::F64 => cpu::Buffer::F64(buffer.download()?),
        DType::Bf16 => cpu::Buffer::Bf16(buffer.download()?),
        DType::F16 => cpu::Buffer::F16(buffer.download()?),
        DType::U8 => cpu::Buffer::U8(buffer.download()?),
        DType::U32 => cpu::Buffer::U32(buffer.download()?),
        DType::I64 => cpu::Buffer::I64(buffer.download()?),
    })
}
