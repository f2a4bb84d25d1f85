//! Tensors with automatic differentiation, on CPU and GPU.
//!
//! A [`Tensor`] is an immutable value that is cheap to clone. Every operation passes through [`apply`] and is one file in
//! `ops/`, with its rule for shapes, its definition, its gradient and their tests. [`grad`] records while a closure
//! runs; outside of it nothing is recorded.
//!
//! ```
//! use ransnn::tensor::Tensor;
//! let x = Tensor::from_f32(vec![1.0, 2.0, 3.0, 4.0], &[2, 2])?;
//! let y = x.matmul(&x)?.add_scalar(1.0)?;
//! assert_eq!(y.to_f32()?, [8.0, 11.0, 16.0, 23.0]);
//! # Ok::<(), ransnn::Error>(())
//! ```
//!
//! The gradient of every operation is compared with central differences by a test that walks [`check::registry`].

pub mod check;
pub mod cpu;
pub mod cuda;
mod device;
pub(crate) mod dtype;
pub mod kernels;
mod mmap;
mod op;
pub mod ops;
pub mod safetensors;
mod shape;
mod storage;
mod surrogate;
mod tape;
mod unary;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use device::Device;
pub use dtype::DType;
// What the layers above compute with outside of the tape.
pub(crate) use cpu::gemm;
pub(crate) use dtype::{Element, Float};
pub use op::{Backward, Keep, Op, apply};
pub use ops::adapted_linear::Adaptation;
pub use ops::attention::Attention;
pub use ops::cross_entropy::IGNORE;
pub use shape::Meta;
pub use storage::Storage;
pub use surrogate::Surrogate;
pub use tape::{Grads, Recorded, Trainable, grad, recorded, visit_in, visit_in_mut};

use crate::{Error, Result};
use cpu::{Buffer, each_buffer};
use half::{bf16, f16};

/// An immutable array of numbers, row-major, cheap to clone. The operations on it stand in [`ops`].
#[derive(Clone)]
pub struct Tensor(Arc<Inner>);

struct Inner {
    /// Unique, growing with time; what the tape knows a tensor by.
    id: u64,
    meta: Meta,
    device: Device,
    storage: Arc<Storage>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Creation from and conversion to plain vectors.
impl Tensor {
    /// From values in row-major order.
    ///
    /// # Errors
    /// The number of values is not that of the shape.
    pub fn from_f32(values: Vec<f32>, shape: &[usize]) -> Result<Self> {
        Self::from_buffer(Buffer::F32(values), shape)
    }

    /// From values in row-major order; errors as [`from_f32`](Self::from_f32).
    pub fn from_f64(values: Vec<f64>, shape: &[usize]) -> Result<Self> {
        Self::from_buffer(Buffer::F64(values), shape)
    }

    /// From values in row-major order; errors as [`from_f32`](Self::from_f32).
    pub fn from_u32(values: Vec<u32>, shape: &[usize]) -> Result<Self> {
        Self::from_buffer(Buffer::U32(values), shape)
    }

    /// From values in row-major order; errors as [`from_f32`](Self::from_f32).
    pub fn from_u8(values: Vec<u8>, shape: &[usize]) -> Result<Self> {
        Self::from_buffer(Buffer::U8(values), shape)
    }

    /// From memory of any kind of number; errors as [`from_f32`](Self::from_f32).
    pub fn from_buffer(buffer: Buffer, shape: &[usize]) -> Result<Self> {
        let len = shape::checked_len("from_buffer", shape)?;
        if len != buffer.len() {
            let why = format!("the shape has {len} elements, but {} are given", buffer.len());
            return Err(shape::mismatch("from_buffer", shape, &[buffer.len()], why));
        }
        Ok(Self::of_storage(Meta::new(shape, buffer.dtype()), Device::Cpu, Storage::Cpu(buffer)))
    }

    /// All zero, in main memory.
    pub fn zeros(shape: &[usize], dtype: DType) -> Result<Self> {
        let len = shape::checked_len("zeros", shape)?;
        Self::from_buffer(Buffer::zeros(dtype, len), shape)
    }

    /// All `value`, rounded to `dtype`, in main memory.
    pub fn full(shape: &[usize], value: f64, dtype: DType) -> Result<Self> {
        let mut buffer = Buffer::zeros(dtype, shape::checked_len("full", shape)?);
        each_buffer!(&mut buffer, v => fill(v, value));
        Self::from_buffer(buffer, shape)
    }

    /// The values as f32, converted if they are of another kind.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        self.to_vec()
    }

    /// The values as f64, converted if they are of another kind.
    pub fn to_f64(&self) -> Result<Vec<f64>> {
        self.to_vec()
    }

    /// The values as u32, converted if they are of another kind.
    pub fn to_u32(&self) -> Result<Vec<u32>> {
        self.to_vec()
    }

    /// The only value.
    ///
    /// # Errors
    /// There is not exactly one.
    pub fn to_scalar(&self) -> Result<f64> {
        match self.len() {
            1 => Ok(self.to_f64()?[0]),
            _ => Err(shape::mismatch("to_scalar", self.shape(), &[], "there must be exactly one element")),
        }
    }

    /// The values in place.
    ///
    /// # Errors
    /// They are not f32 in main memory.
    pub fn as_f32(&self) -> Result<&[f32]> {
        match self.buffer()? {
            Buffer::F32(values) => Ok(values),
            other => Err(Error::Unsupported { op: "as_f32", on: format!("with {} values", other.dtype()) }),
        }
    }

    /// The memory itself.
    ///
    /// # Errors
    /// The tensor is not in main memory.
    pub fn buffer(&self) -> Result<&Buffer> {
        match &*self.0.storage {
            Storage::Cpu(buffer) => Ok(buffer),
            Storage::Cuda(_) => Err(Error::Unsupported { op: "buffer", on: format!("on {}", self.device()) }),
        }
    }

    /// A copy on another device, or the same tensor if it is there already. Cuts the gradient.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        if self.device() == device {
            return Ok(self.clone());
        }
        let here = match &*self.0.storage {
            Storage::Cpu(buffer) => buffer,
            Storage::Cuda(buffer) => &Storage::download(buffer)?,
        };
        let storage = match device {
            Device::Cpu => Storage::Cpu(here.clone()),
            Device::Cuda(gpu) => Storage::upload(gpu, here)?,
        };
        Ok(Self::of_storage(self.meta().clone(), device.clone(), storage))
    }
}

/// What a tensor is.
impl Tensor {
    /// Shape and kind of number.
    pub fn meta(&self) -> &Meta {
        &self.0.meta
    }

    /// Size of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.0.meta.shape
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape().len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.0.meta.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Kind of number.
    pub fn dtype(&self) -> DType {
        self.0.meta.dtype
    }

    /// Where it lives.
    pub fn device(&self) -> &Device {
        &self.0.device
    }
}

impl Tensor {
    pub(crate) fn of_storage(meta: Meta, device: Device, storage: Storage) -> Self {
        Self::of(meta, device, Arc::new(storage))
    }

    fn of(meta: Meta, device: Device, storage: Arc<Storage>) -> Self {
        // Only uniqueness and growth matter, which a single atomic gives under any ordering.
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Inner { id, meta, device, storage }))
    }

    /// The same memory under another shape of equal length.
    pub(crate) fn share(&self, meta: Meta) -> Self {
        Self::of(meta, self.device().clone(), self.0.storage.clone())
    }

    pub(crate) fn id(&self) -> u64 {
        self.0.id
    }

    /// Where the memory is; equal for tensors that share it.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0.storage).addr()
    }

    pub(crate) fn cuda_buffer(&self) -> Result<&cuda::Buffer> {
        match &*self.0.storage {
            Storage::Cuda(buffer) => Ok(buffer),
            Storage::Cpu(_) => Err(Error::Internal("a tensor in main memory was handed to a GPU".into())),
        }
    }

    pub(crate) fn ones_like(&self) -> Result<Self> {
        Self::full_on(self.meta(), 1.0, self.device())
    }

    /// All `value`, made where it is used.
    pub(crate) fn full_on(meta: &Meta, value: f64, device: &Device) -> Result<Self> {
        match device {
            Device::Cpu => Self::full(&meta.shape, value, meta.dtype),
            Device::Cuda(gpu) => {
                let storage = Storage::Cuda(gpu.full(meta.dtype, value, meta.len())?);
                Ok(Self::of_storage(meta.clone(), device.clone(), storage))
            }
        }
    }

    fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        let here = self.to_device(&Device::Cpu)?;
        let buffer = here.buffer()?;
        match buffer.dtype() == T::DTYPE {
            true => Ok(buffer.slice()?.to_vec()),
            false => Ok(each_buffer!(buffer, v => v.iter().map(|x| T::of_f64(x.to_f64())).collect())),
        }
    }

    /// The memory, to be changed; copied first if somebody else sees it. For optimisers, between two [`grad`]s.
    pub(crate) fn buffer_mut(&mut self) -> Result<&mut Buffer> {
        if !self.is_unique() {
            *self = Self::from_buffer(self.buffer()?.clone(), self.shape())?;
        }
        let storage = Arc::get_mut(&mut self.0).and_then(|inner| Arc::get_mut(&mut inner.storage));
        match storage {
            Some(Storage::Cpu(buffer)) => Ok(buffer),
            _ => Err(Error::Internal("memory that is to be changed is shared or not in main memory".into())),
        }
    }

    /// The memory on a GPU, to be changed; copied first if somebody else sees it.
    pub(crate) fn cuda_buffer_mut(&mut self) -> Result<&mut cuda::Buffer> {
        let shared = !self.is_unique() || !self.cuda_buffer()?.is_unique();
        if let (true, Device::Cuda(gpu)) = (shared, self.device()) {
            let copy = Storage::Cuda(gpu.copy(self.cuda_buffer()?)?);
            *self = Self::of_storage(self.meta().clone(), self.device().clone(), copy);
        }
        let storage = Arc::get_mut(&mut self.0).and_then(|inner| Arc::get_mut(&mut inner.storage));
        match storage {
            Some(Storage::Cuda(buffer)) => Ok(buffer),
            _ => Err(Error::Internal("memory that is to be changed is shared or not on a GPU".into())),
        }
    }

    fn is_unique(&mut self) -> bool {
        Arc::get_mut(&mut self.0).is_some_and(|inner| Arc::get_mut(&mut inner.storage).is_some())
    }

    /// `self + factor · a · b` of matrices of one type, without gradients, and where that costs nothing whether all of it is
    /// finite: in main memory, where the product is never there by itself.
    pub(crate) fn plus_product(&self, a: &Self, b: &Self, factor: f64) -> Result<(Self, Option<bool>)> {
        let (a, b) = (a.detach()?, b.detach()?);
        let in_steps = || Ok((a.mul_scalar(factor)?.matmul(&b)?.accumulate(self.detach()?)?, None));
        if *self.device() != Device::Cpu {
            return in_steps();
        }
        let (&[m, k], &[_, n]) = (a.shape(), b.shape()) else {
            return Err(Error::Internal("a sum with a product of other things than matrices".into()));
        };
        let (buffer, finite) = match (self.buffer()?, a.buffer()?, b.buffer()?) {
            (Buffer::F32(to), Buffer::F32(a), Buffer::F32(b)) => {
                let (sum, finite) = cpu::gemm::sum_with_product(to, a, b, [m, k, n], factor as f32);
                (Buffer::F32(sum), finite)
            }
            (Buffer::F64(to), Buffer::F64(a), Buffer::F64(b)) => {
                let (sum, finite) = cpu::gemm::sum_with_product(to, a, b, [m, k, n], factor);
                (Buffer::F64(sum), finite)
            }
            _ => return in_steps(),
        };
        Ok((Self::from_buffer(buffer, self.shape())?, Some(finite)))
    }

    /// Whether no value is NaN or infinite: each times zero is zero then.
    pub(crate) fn is_finite(&self) -> Result<bool> {
        let wide = self.to_dtype(DType::F32)?;
        let values = wide.as_f32()?;
        Ok(cpu::loops::dot_by(values, values, |x, _| x * 0.0) == 0.0)
    }

    /// The sum of two tensors of one shape, in the memory of one of them where nobody else sees it.
    pub(crate) fn accumulate(mut self, mut other: Self) -> Result<Self> {
        if *self.device() != Device::Cpu || *other.device() != Device::Cpu {
            return self.add(&other);
        }
        if !self.is_unique() && other.is_unique() {
            std::mem::swap(&mut self, &mut other);
        }
        let from = other.buffer()?;
        match (self.buffer_mut()?, from) {
            (Buffer::F32(to), Buffer::F32(from)) => add_into(to, from, |a, b| a + b),
            (Buffer::F64(to), Buffer::F64(from)) => add_into(to, from, |a, b| a + b),
            (Buffer::Bf16(to), Buffer::Bf16(from)) => add_into(to, from, |a: bf16, b| a + b),
            (Buffer::F16(to), Buffer::F16(from)) => add_into(to, from, |a: f16, b| a + b),
            (a, b) => {
                return Err(Error::Internal(format!(
                    "gradients of {} and {} do not add",
                    a.dtype(),
                    b.dtype()
                )));
            }
        }
        Ok(self)
    }
}

fn fill<T: Element>(values: &mut [T], value: f64) {
    values.fill(T::of_f64(value));
}

fn add_into<T: Element>(to: &mut [T], from: &[T], add: impl Fn(T, T) -> T + Sync) {
    cpu::loops::combine(to, from, add);
}

impl std::fmt::Debug for Tensor {
    /// Kind, shape, device and the first values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?}", self.dtype(), self.shape())?;
        match &*self.0.storage {
            Storage::Cpu(buffer) => {
                f.write_str(" ")?;
                each_buffer!(buffer, v => f.debug_list().entries(v.iter().take(8)).finish())?;
                if buffer.len() > 8 { f.write_str("…") } else { Ok(()) }
            }
            Storage::Cuda(_) => write!(f, " on {}", self.device()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_shapes_must_agree() {
        assert!(matches!(Tensor::from_f32(vec![0.0; 5], &[2, 3]), Err(Error::Shape { .. })));
        assert!(Tensor::zeros(&[usize::MAX, 4], DType::U8).is_err());
        let empty = Tensor::zeros(&[0, 3], DType::F32).expect("fits");
        assert!(empty.is_empty() && empty.exp().expect("runs").is_empty());
    }

    #[test]
    fn conversions() {
        let x = Tensor::from_f32(vec![1.5, -2.0], &[2]).expect("fits");
        assert_eq!(x.to_f64().expect("converts"), [1.5, -2.0]);
        assert_eq!(x.to_u32().expect("converts"), [1, 0]);
        assert!(x.to_scalar().is_err());
        assert_eq!(format!("{x:?}"), "f32[2] [1.5, -2.0]");
    }

    #[test]
    fn changing_copies_what_others_see() {
        let mut x = Tensor::from_f32(vec![1.0, 2.0], &[2]).expect("fits");
        let (clone, reshaped) = (x.clone(), x.reshape(&[2, 1]).expect("fits"));
        assert_eq!(x.address(), reshaped.address(), "reshape shares memory");
        x.buffer_mut().expect("there").slice_mut::<f32>().expect("f32")[0] = 9.0;
        assert_eq!(x.to_f32().expect("f32"), [9.0, 2.0]);
        assert_eq!(clone.to_f32().expect("f32"), [1.0, 2.0]);
        assert_eq!(reshaped.to_f32().expect("f32"), [1.0, 2.0]);
    }
}
