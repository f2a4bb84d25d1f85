//! Stand-in for the CUDA backend: the same names on uninhabited types, so that no arm for it can ever run.
//!
//! The file that talks to the driver replaces this one and offers at least what is here.

use super::{DType, cpu};
use crate::Result;

/// A GPU.
#[derive(Clone, Debug, PartialEq)]
pub enum Gpu {}

impl Gpu {
    /// Number of the GPU, as in `cuda:0`.
    pub fn index(&self) -> usize {
        match *self {}
    }

    /// `len` elements of GPU memory, all bytes zero.
    pub fn zeros(&self, _dtype: DType, _len: usize) -> Result<Buffer> {
        match *self {}
    }

    /// Copies from main memory.
    pub fn upload(&self, _from: &cpu::Buffer) -> Result<Buffer> {
        match *self {}
    }
}

/// Memory of a GPU.
#[derive(Debug)]
pub enum Buffer {}

impl Buffer {
    /// Copies to main memory.
    pub fn download(&self) -> Result<cpu::Buffer> {
        match *self {}
    }
}
