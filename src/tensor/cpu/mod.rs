//! Computing in main memory: buffers, what operations see of them, and loops that use all threads.
//!
//! Work is cut into chunks of fixed size, never by the number of threads, so results do not depend on it.

pub(crate) mod conv;
pub(crate) mod gemm;
pub(crate) mod loops;
pub(crate) mod math;
pub(crate) mod rotate;
pub(crate) mod unitary;
pub(crate) mod wide;

use half::{bf16, f16};

use super::dtype::Element;
use super::{DType, Meta};
use crate::{Error, Result};

/// Elements in main memory, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Buffer {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit floats.
    F64(Vec<f64>),
    /// Brain floats.
    Bf16(Vec<bf16>),
    /// Half-precision floats.
    F16(Vec<f16>),
    /// Bytes.
    U8(Vec<u8>),
    /// Unsigned integers.
    U32(Vec<u32>),
    /// Signed integers.
    I64(Vec<i64>),
}

/// Runs a body with `$v` bound to the vector inside a [`Buffer`].
macro_rules! each_buffer {
    ($buffer:expr, $v:ident => $body:expr) => {
        match $buffer {
            $crate::tensor::cpu::Buffer::F32($v) => $body,
            $crate::tensor::cpu::Buffer::F64($v) => $body,
            $crate::tensor::cpu::Buffer::Bf16($v) => $body,
            $crate::tensor::cpu::Buffer::F16($v) => $body,
            $crate::tensor::cpu::Buffer::U8($v) => $body,
            $crate::tensor::cpu::Buffer::U32($v) => $body,
            $crate::tensor::cpu::Buffer::I64($v) => $body,
        }
    };
}
pub(crate) use each_buffer;

impl Buffer {
    /// `len` zeros.
    pub fn zeros(dtype: DType, len: usize) -> Self {
        match dtype {
            DType::F32 => Self::F32(vec![0.0; len]),
            DType::F64 => Self::F64(vec![0.0; len]),
            DType::Bf16 => Self::Bf16(vec![bf16::ZERO; len]),
            DType::F16 => Self::F16(vec![f16::ZERO; len]),
            DType::U8 => Self::U8(vec![0; len]),
            DType::U32 => Self::U32(vec![0; len]),
            DType::I64 => Self::I64(vec![0; len]),
        }
    }

    /// Kind of number.
    pub fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
            Self::Bf16(_) => DType::Bf16,
            Self::F16(_) => DType::F16,
            Self::U8(_) => DType::U8,
            Self::U32(_) => DType::U32,
            Self::I64(_) => DType::I64,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        each_buffer!(self, v => v.len())
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as they stand in memory.
    pub fn bytes(&self) -> &[u8] {
        each_buffer!(self, v => bytemuck::cast_slice(v))
    }

    /// The elements as they stand in memory, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        each_buffer!(self, v => bytemuck::cast_slice_mut(v))
    }

    /// The elements as `T`, which must be what they are.
    pub(crate) fn slice<T: Element>(&self) -> Result<&[T]> {
        let found = self.dtype();
        each_buffer!(self, v => (v as &dyn std::any::Any).downcast_ref::<Vec<T>>())
            .map(Vec::as_slice)
            .ok_or_else(|| wrong_type(found, T::DTYPE))
    }

    /// The elements as `T`, to be written.
    pub(crate) fn slice_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        let found = self.dtype();
        each_buffer!(self, v => (v as &mut dyn std::any::Any).downcast_mut::<Vec<T>>())
            .map(Vec::as_mut_slice)
            .ok_or_else(|| wrong_type(found, T::DTYPE))
    }
}

fn wrong_type(found: DType, wanted: DType) -> Error {
    Error::Internal(format!("{found} memory was read as {wanted}"))
}

/// An input of an operation.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Its shape and kind of number.
    pub meta: &'a Meta,
    /// Its elements.
    pub data: &'a Buffer,
}

impl<'a> View<'a> {
    /// Its shape.
    pub fn shape(&self) -> &'a [usize] {
        &self.meta.shape
    }

    pub(crate) fn slice<T: Element>(&self) -> Result<&'a [T]> {
        self.data.slice()
    }
}

/// An output of an operation: allocated, all zero.
#[derive(Debug)]
pub struct ViewMut<'a> {
    /// Its shape and kind of number.
    pub meta: &'a Meta,
    /// Its elements.
    pub data: &'a mut Buffer,
}

impl ViewMut<'_> {
    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.meta.shape
    }

    pub(crate) fn slice<T: Element>(&mut self) -> Result<&mut [T]> {
        self.data.slice_mut()
    }
}
