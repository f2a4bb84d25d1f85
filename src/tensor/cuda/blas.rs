//! Dense products by cuBLAS, where it is installed.
#![allow(unsafe_code)] // calls into cuBLAS's C interface

use super::{Buffer, Gpu, Product};
use crate::error::{Error, Result};
use crate::tensor::DType;
use crate::tensor::kernels::ElementType;
use cudarc::cublas::{result, sys};
use cudarc::driver::CudaStream;
use std::sync::Mutex;

/// A handle of the library, bound to the stream of a GPU.
pub(super) struct Blas(Mutex<Handle>);

struct Handle(sys::cublasHandle_t);

// SAFETY: cuBLAS allows a handle to be used by any thread, one at a time; the mutex above sees to that.
unsafe impl Send for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: created by `create_handle` and destroyed only here. Nobody is left to hear of an error.
        let _ = unsafe { result::destroy_handle(self.0) };
    }
}

impl Blas {
    /// The library's handle for a stream.
    pub fn open(stream: &CudaStream) -> std::result::Result<Self, String> {
        stream.context().bind_to_thread().map_err(super::driver::describe)?;
        let handle = Handle(result::create_handle().map_err(|error| format!("{error:?}"))?);
        // SAFETY: handle and stream are alive; cuBLAS's stream is the driver's.
        unsafe { result::set_stream(handle.0, stream.cu_stream().cast()) }
            .map_err(|error| format!("{error:?}"))?;
        Ok(Self(Mutex::new(handle)))
    }
}

impl Gpu {
    /// The product by cuBLAS; whether it was made. In full precision: TF32 is not used. What cuBLAS has no call for (operands
    /// of two kinds, batches that step through an operand unevenly, empty sums) is left to the kernel.
    pub(super) fn product_by_blas(
        &self,
        dtype: DType,
        product: &Product<'_>,
        out: &mut Buffer,
    ) -> Result<bool> {
        let ([m, k, n], uneven) = (product.sizes, product.axes.rank > 1);
        if !self.uses_cublas() || uneven || k == 0 || product.b.element() != ElementType::from(dtype) {
            return Ok(false);
        }
        let fits = |n: usize| i32::try_from(n);
        let (Ok(m32), Ok(k32), Ok(n32), Ok(batch)) = (fits(m), fits(k), fits(n), fits(product.batch)) else {
            return Ok(false);
        };
        if let Some(bias) = product.bias {
            // Every row begins as the bias, and the product is added.
            self.gather("linear", dtype, bias, &[0, 1], out, &[m * product.batch, n])?;
        }
        let add = product.add || product.bias.is_some();
        // Row-major C = A B is column-major C' = B' A': operands change places, and what is stored transposed stays so.
        let [ta, tb] = product.transposed;
        let operation =
            |t| if t { sys::cublasOperation_t::CUBLAS_OP_T } else { sys::cublasOperation_t::CUBLAS_OP_N };
        let (lda, ldb) = (if ta { m32 } else { k32 }, if tb { k32 } else { n32 });
        let stride = |step: u32, len: usize| i64::from(step) * len as i64;
        let (of_a, of_b, of_c) =
            (stride(product.axes.a[0], m * k), stride(product.axes.b[0], k * n), (m * n) as i64);
        let (a, b, c) = (product.a.address(), product.b.address(), out.address());
        let handle = self.blas()?.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.bind()?;
        macro_rules! gemm {
            ($call:ident, $float:ty) => {{
                let (alpha, beta) = (product.alpha as $float, if add { 1.0 } else { 0.0 });
                // SAFETY: the buffers are alive and as long as their shapes, which `infer` has checked; the handle is used by
                // this thread alone; numbers are passed by addresses that outlive the call.
                unsafe {
                    result::$call(
                        handle.0,
                        operation(tb),
                        operation(ta),
                        n32,
                        m32,
                        k32,
                        &alpha,
                        b as *const $float,
                        ldb,
                        of_b,
                        a as *const $float,
                        lda,
                        of_a,
                        &beta,
                        c as *mut $float,
                        n32,
                        of_c,
                        batch,
                    )
                }
            }};
        }
        let done = match dtype {
            DType::F32 => gemm!(sgemm_strided_batched, f32),
            DType::F64 => gemm!(dgemm_strided_batched, f64),
            _ => return Ok(false),
        };
        let call = || format!("cuBLAS of [{m}, {k}] and [{k}, {n}] on cuda:{}", self.index());
        done.map(|()| true).map_err(|error| Error::Cuda { call: call(), message: format!("{error:?}") })
    }
}
