//! The CUDA backend of a build without the feature `cuda`: the same names on types without values.

use super::{Arg, Geometry, Product, Unusable, Version};
use crate::error::{Error, Result};
use crate::tensor::kernels::{Element, ElementType, Kernel, Source};
use crate::tensor::{DType, Device};
use std::path::Path;

/// A GPU. There is none in this build.
#[derive(Clone, Debug, PartialEq)]
pub enum Gpu {}

/// Device memory. There is none in this build.
#[derive(Clone, Debug, PartialEq)]
pub enum Buffer {}

#[expect(missing_docs, reason = "the documentation is that of the real backend")]
impl Gpu {
    /// # Errors
    /// Always: the program was built without CUDA.
    pub fn open(index: usize, _cache: Option<&Path>) -> Result<Self> {
        Err(Error::Cuda { call: format!("opening cuda:{index}"), message: Unusable::NotBuilt.to_string() })
    }

    pub fn index(&self) -> usize {
        match *self {}
    }

    pub fn name(&self) -> &str {
        match *self {}
    }

    pub(crate) fn device(&self) -> Device {
        match *self {}
    }

    pub fn compute_capability(&self) -> Version {
        match *self {}
    }

    pub fn multiprocessors(&self) -> u32 {
        match *self {}
    }

    pub fn memory(&self) -> Result<(u64, u64)> {
        match *self {}
    }

    pub fn uses_cublas(&self) -> bool {
        match *self {}
    }

    pub fn use_cublas(&self, _on: bool) {
        match *self {}
    }

    pub(super) fn product_by_blas(&self, _: DType, _: &Product<'_>, _: &mut Buffer) -> Result<bool> {
        match *self {}
    }

    pub fn zeros(&self, _element: ElementType, _len: usize) -> Result<Buffer> {
        match *self {}
    }

    pub fn upload<T: Element>(&self, _values: &[T]) -> Result<Buffer> {
        match *self {}
    }

    pub(crate) fn empty(&self, _element: ElementType, _len: usize) -> Result<Buffer> {
        match *self {}
    }

    pub(crate) fn clear(&self, _buffer: &mut Buffer) -> Result<()> {
        match *self {}
    }

    pub(crate) fn copy(&self, _from: &Buffer) -> Result<Buffer> {
        match *self {}
    }

    pub fn launch(
        &self,
        _: &'static Source,
        _: &'static Kernel,
        _: Geometry,
        _: &mut [Arg<'_>],
    ) -> Result<()> {
        match *self {}
    }

    pub fn synchronize(&self) -> Result<()> {
        match *self {}
    }
}

#[expect(missing_docs, reason = "the documentation is that of the real backend")]
impl Buffer {
    pub fn element(&self) -> ElementType {
        match *self {}
    }

    pub fn len(&self) -> usize {
        match *self {}
    }

    pub fn is_empty(&self) -> bool {
        match *self {}
    }

    pub fn gpu(&self) -> &Gpu {
        match *self {}
    }

    pub(crate) fn is_unique(&self) -> bool {
        match *self {}
    }

    pub fn download<T: Element>(&self) -> Result<Vec<T>> {
        match *self {}
    }
}
