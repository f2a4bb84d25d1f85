//! NVIDIA GPUs, found at run time: this folder alone names `cudarc`, and its `unsafe` is all here.
//!
//! The CUDA libraries are loaded dynamically, so that building needs no toolkit and a machine without a GPU runs
//! everything else. [`probe`] says what there is and, where it cannot be used, why. [`Gpu`] compiles the kernels of
//! [`kernels`](super::kernels) on first use with NVRTC for the GPU found, keeps the result on disk, and launches them
//! on one stream. Without the feature `cuda`, `Gpu` and `Buffer` are types without values, so that code that matches
//! on a device needs no conditional compilation.
//!
//! ```
//! use ransnn::tensor::cuda;
//! let probe = cuda::probe();
//! match &probe.unusable {
//!     Some(reason) => assert!(!reason.to_string().is_empty()),
//!     None => assert!(!probe.devices.is_empty()),
//! }
//! ```

mod launch;
mod probe;

#[cfg(feature = "cuda")]
mod blas;
#[cfg(feature = "cuda")]
mod compile;
#[cfg(feature = "cuda")]
mod driver;
#[cfg(feature = "cuda")]
pub use compile::{Compiled, compile};
#[cfg(feature = "cuda")]
pub use driver::{Buffer, Gpu};

#[cfg(not(feature = "cuda"))]
mod absent;
#[cfg(not(feature = "cuda"))]
pub use absent::{Buffer, Gpu};

pub(crate) use launch::{Product, THREADS, broadcast_axes, flag, size, sizes, splits, tiles};
pub use launch::{View, ViewMut};
pub use probe::{DeviceInfo, Probe, Unusable, Version, probe};

/// Shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks: x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block: x, y, z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory of a block.
    pub shared_bytes: u32,
}

/// One argument of a launch.
#[derive(Debug)]
pub enum Arg<'a> {
    /// Device memory that the kernel reads.
    In(&'a Buffer),
    /// Device memory that the kernel writes; nothing else may hold it.
    Out(&'a mut Buffer),
    /// A number by value.
    U32(u32),
    /// A number by value.
    I32(i32),
    /// A number by value.
    U64(u64),
    /// A number by value.
    F32(f32),
    /// A number by value.
    F64(f64),
    /// Axes by value.
    Axes(Axes),
    /// Where the kernel says what is wrong with its data: the GPU's own memory for that.
    Fault,
}

/// Sizes of the axes of an output, and the strides with which up to two operands are read along them: `Axes` of
/// `kernels/tensor.cuh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Axes {
    /// Number of axes, at least 1.
    pub rank: u32,
    /// Sizes.
    pub size: [u32; 8],
    /// Strides of the first operand.
    pub a: [u32; 8],
    /// Strides of the second.
    pub b: [u32; 8],
}
