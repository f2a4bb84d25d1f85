//! A GPU, its memory, and launches.
#![allow(unsafe_code)] // launches and raw allocations of the driver

use super::blas::Blas;
use super::compile::compile_cached;
use super::probe::{DeviceInfo, Version, probe};
use super::{Arg, Axes, Geometry};
use crate::error::{Error, Result};
use crate::tensor::Device;
use crate::tensor::kernels::{Argument, Element, ElementType, Kernel, Source};
use cudarc::driver::sys::{CUfunction_attribute as Attribute, CUresult};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr, DeviceRepr, DriverError,
    LaunchConfig, PushKernelArg, result, sys,
};
use cudarc::nvrtc::Ptx;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A GPU with one stream of work. Clones are the same GPU; two `open`s of one index are not.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

struct Inner {
    info: DeviceInfo,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    cache: Option<PathBuf>,
    /// Loaded sources, by file name.
    modules: Mutex<BTreeMap<&'static str, Arc<CudaModule>>>,
    /// Functions in them, by name.
    functions: Mutex<BTreeMap<&'static str, CudaFunction>>,
    /// What a kernel found wrong with its data: code, place, value, bound. 0 is nothing.
    fault: Mutex<CudaSlice<u8>>,
    /// Whether cuBLAS is installed, and whether it is to be used.
    cublas: (bool, AtomicBool),
    /// Opened by the first product: it takes a while and some memory.
    blas: OnceLock<std::result::Result<Blas, String>>,
}

// SAFETY: 25 integers without padding, as in the kernels.
unsafe impl DeviceRepr for Axes {}

impl Gpu {
    /// Opens GPU `index`. Compiled kernels are kept in the folder `cache`.
    ///
    /// # Errors
    /// Where CUDA is not usable, with the reason of [`probe`]; where there is no such GPU.
    pub fn open(index: usize, cache: Option<&Path>) -> Result<Self> {
        let probe = probe();
        let fail = |message| Error::Cuda { call: format!("opening cuda:{index}"), message };
        if let Some(reason) = probe.unusable {
            return Err(fail(reason.to_string()));
        }
        let (count, cublas) = (probe.devices.len(), (probe.cublas, AtomicBool::new(true)));
        let Some(info) = probe.devices.into_iter().nth(index) else {
            return Err(fail(format!("there is no such GPU, only {count}")));
        };
        let open = |call: &str, error| fail(format!("{call}: {}", describe(error)));
        let context = CudaContext::new(index).map_err(|error| open("creating the context", error))?;
        // SAFETY: everything that this module allocates, copies and launches goes through the one stream below, so the
        // order of the stream is all the synchronisation there has to be.
        unsafe { context.disable_event_tracking() };
        // Not the default stream: work on that cannot be captured into a graph.
        let stream = context.new_stream().map_err(|error| open("creating a stream", error))?;
        keep_freed_memory(&context).map_err(|error| open("setting up the memory pool", error))?;
        let fault = stream.alloc_zeros(FAULT_BYTES).map_err(|error| open("allocating memory", error))?;
        let cache = cache.map(Path::to_path_buf);
        let (modules, functions) = (Mutex::default(), Mutex::default());
        Ok(Self(Arc::new(Inner {
            info,
            context,
            stream,
            cache,
            modules,
            functions,
            fault: Mutex::new(fault),
            cublas,
            blas: OnceLock::new(),
        })))
    }

    /// Number of the GPU, as in `cuda:0`.
    pub fn index(&self) -> usize {
        self.0.info.index
    }

    /// Name, as the driver reports it.
    pub fn name(&self) -> &str {
        &self.0.info.name
    }

    /// Compute capability.
    pub fn compute_capability(&self) -> Version {
        self.0.info.compute_capability
    }

    /// Streaming multiprocessors.
    pub fn multiprocessors(&self) -> u32 {
        self.0.info.multiprocessors
    }

    /// Whether dense products are made by cuBLAS.
    pub fn uses_cublas(&self) -> bool {
        self.0.cublas.0 && self.0.cublas.1.load(Ordering::Relaxed)
    }

    /// Chooses cuBLAS, where it is installed, or the kernel of this crate for dense products.
    pub fn use_cublas(&self, on: bool) {
        self.0.cublas.1.store(on, Ordering::Relaxed);
    }

    pub(super) fn blas(&self) -> Result<&Blas> {
        let blas = self.0.blas.get_or_init(|| Blas::open(&self.0.stream)).as_ref();
        let call = || format!("opening cuBLAS on cuda:{}", self.index());
        blas.map_err(|message| Error::Cuda { call: call(), message: message.clone() })
    }

    /// Makes the context that of this thread.
    pub(super) fn bind(&self) -> Result<()> {
        self.0.context.bind_to_thread().map_err(|e| self.error("choosing the context", e))
    }

    /// Where tensors on it live.
    pub(crate) fn device(&self) -> Device {
        Device::Cuda(self.clone())
    }

    /// Bytes of memory: free, total.
    ///
    /// # Errors
    /// What the driver says.
    pub fn memory(&self) -> Result<(u64, u64)> {
        let (free, total) =
            self.0.context.mem_get_info().map_err(|e| self.error("asking for free memory", e))?;
        Ok((free as u64, total as u64))
    }

    /// `len` elements, all bytes zero.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is not enough.
    pub fn zeros(&self, element: ElementType, len: usize) -> Result<Buffer> {
        let mut buffer = self.empty(element, len)?;
        self.clear(&mut buffer)?;
        Ok(buffer)
    }

    /// `len` elements that a kernel is to write before anything reads them.
    pub(crate) fn empty(&self, element: ElementType, len: usize) -> Result<Buffer> {
        Ok(self.buffer(self.allocate(element, len)?, element, len))
    }

    /// Makes all bytes zero.
    pub(crate) fn clear(&self, buffer: &mut Buffer) -> Result<()> {
        let memory = Arc::get_mut(&mut buffer.memory)
            .ok_or_else(|| Error::Internal("memory that is to be cleared is shared".into()))?;
        self.0.stream.memset_zeros(memory).map_err(|e| self.error("clearing memory", e))
    }

    /// A copy in memory of its own.
    pub(crate) fn copy(&self, from: &Buffer) -> Result<Buffer> {
        let mut memory = self.allocate(from.element, from.len)?;
        self.0
            .stream
            .memcpy_dtod(&*from.memory, &mut memory)
            .map_err(|e| self.error("copying on the GPU", e))?;
        Ok(self.buffer(memory, from.element, from.len))
    }

    /// Copies from main memory.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is not enough.
    pub fn upload<T: Element>(&self, values: &[T]) -> Result<Buffer> {
        let mut memory = self.allocate(T::TYPE, values.len())?;
        let bytes: &[u8] = bytemuck::cast_slice(values);
        self.0.stream.memcpy_htod(bytes, &mut memory).map_err(|e| self.error("copying to the GPU", e))?;
        Ok(self.buffer(memory, T::TYPE, values.len()))
    }

    /// Launches a kernel of `source`, which is compiled and loaded on first use. Returns when the launch is queued.
    ///
    /// Number, order and kinds of the arguments are checked against the table. That buffers are long enough for what
    /// the kernel reads and writes is for the caller to see to, and covered by the tests under a stand-in driver with
    /// guard pages and by compute-sanitizer.
    ///
    /// # Errors
    /// Where the arguments do not fit the table, the source does not compile, or the driver refuses.
    pub fn launch(
        &self,
        source: &'static Source,
        kernel: &'static Kernel,
        geometry: Geometry,
        args: &mut [Arg<'_>],
    ) -> Result<()> {
        self.check_arguments(kernel, args)?;
        let function = self.function(source, kernel)?;
        let call = || format!("launching {}", kernel.name);
        if geometry.shared_bytes > 48 << 10 {
            let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let bytes = geometry.shared_bytes as i32;
            function.set_attribute(attribute, bytes).map_err(|e| self.error(call(), e))?;
        }
        let fault = self.fault();
        let mut launch = self.0.stream.launch_builder(&function);
        for arg in args.iter() {
            match arg {
                Arg::In(buffer) => launch.arg(&*buffer.memory),
                Arg::Out(buffer) => launch.arg(&*buffer.memory),
                Arg::U32(value) => launch.arg(value),
                Arg::I32(value) => launch.arg(value),
                Arg::U64(value) => launch.arg(value),
                Arg::F32(value) => launch.arg(value),
                Arg::F64(value) => launch.arg(value),
                Arg::Axes(axes) => launch.arg(axes),
                Arg::Fault => launch.arg(&*fault),
            };
        }
        let ([gx, gy, gz], [bx, by, bz]) = (geometry.grid, geometry.block);
        let config = LaunchConfig {
            grid_dim: (gx, gy, gz),
            block_dim: (bx, by, bz),
            shared_mem_bytes: geometry.shared_bytes,
        };
        // SAFETY: the arguments have the kinds that the kernel declares, and what is written is held by nobody else.
        unsafe { launch.launch(config) }.map_err(|e| self.error(call(), e))?;
        Ok(())
    }

    /// Waits until all queued work is done.
    ///
    /// # Errors
    /// What went wrong in it.
    pub fn synchronize(&self) -> Result<()> {
        self.0.stream.synchronize().map_err(|e| self.error("waiting for the GPU", e))
    }

    fn check_arguments(&self, kernel: &Kernel, args: &[Arg<'_>]) -> Result<()> {
        let wrong = |what: String| Err(Error::Internal(format!("{}: {what}", kernel.name)));
        if args.len() != kernel.arguments.len() {
            return wrong(format!("{} arguments instead of {}", args.len(), kernel.arguments.len()));
        }
        for (arg, expected) in args.iter().zip(kernel.arguments) {
            let (fits, name) = match *expected {
                Argument::In(name, kind) => (matches!(arg, Arg::In(b) if b.element == kind), name),
                Argument::Out(name, kind) => (matches!(arg, Arg::Out(b) if b.element == kind), name),
                Argument::AnyIn(name, kind) => {
                    (matches!(arg, Arg::In(b) if is_as_long(b.element, kind)), name)
                }
                Argument::AnyOut(name, kind) => {
                    (matches!(arg, Arg::Out(b) if is_as_long(b.element, kind)), name)
                }
                Argument::Scalar(name, kind) => (scalar_type(arg) == Some(kind), name),
                Argument::Strides(name) => (matches!(arg, Arg::Axes(_)), name),
                Argument::Fault => (matches!(arg, Arg::Fault), "fault"),
            };
            if !fits {
                return wrong(format!("argument `{name}` is {arg:?}, expected {expected:?}"));
            }
            match arg {
                Arg::In(buffer) if buffer.gpu != *self => {
                    return wrong(format!("`{name}` is on another GPU"));
                }
                Arg::Out(buffer) if buffer.gpu != *self => {
                    return wrong(format!("`{name}` is on another GPU"));
                }
                Arg::Out(buffer) if Arc::strong_count(&buffer.memory) > 1 => {
                    return wrong(format!("`{name}` would be written while others hold it"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn function(&self, source: &'static Source, kernel: &'static Kernel) -> Result<CudaFunction> {
        let mut functions = self.0.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(kernel.name) {
            return Ok(function.clone());
        }
        let function = self.find(source, kernel)?;
        functions.insert(kernel.name, function.clone());
        Ok(function)
    }

    fn find(&self, source: &'static Source, kernel: &Kernel) -> Result<CudaFunction> {
        let mut modules = self.0.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let module = match modules.get(source.file) {
            Some(module) => module.clone(),
            None => {
                let image = compile_cached(source, self.0.info.compute_capability, self.0.cache.as_deref())?;
                let loaded = self.0.context.load_module(Ptx::from_binary(image));
                let module = loaded.map_err(|e| self.error(format!("loading {}", source.file), e))?;
                modules.insert(source.file, module.clone());
                module
            }
        };
        module.load_function(kernel.name).map_err(|e| self.error(format!("finding {}", kernel.name), e))
    }

    /// Bytes that a buffer could have: free ones, and those that the pool holds for reuse.
    fn available(&self) -> Result<u64> {
        Ok(self.memory()?.0 + unused_in_pool(&self.0.context).unwrap_or(0))
    }

    /// Memory for `len` elements, uninitialised; at least one byte, so that an empty buffer has an address.
    fn allocate(&self, element: ElementType, len: usize) -> Result<CudaSlice<u8>> {
        let too_large = |available| Error::Memory {
            what: format!("a buffer on cuda:{}", self.index()),
            needed: (len as u64).saturating_mul(element.size() as u64),
            available,
        };
        let Some(bytes) = len.checked_mul(element.size()) else { return Err(too_large(self.available()?)) };
        // SAFETY: the callers write the memory, on the same stream, before handing it out.
        match unsafe { self.0.stream.alloc(bytes.max(1)) } {
            Ok(memory) => Ok(memory),
            Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Err(too_large(self.available()?)),
            Err(error) => Err(self.error(format!("allocating {bytes} bytes"), error)),
        }
    }

    fn buffer(&self, memory: CudaSlice<u8>, element: ElementType, len: usize) -> Buffer {
        Buffer { gpu: self.clone(), memory: Arc::new(memory), element, len }
    }

    fn fault(&self) -> MutexGuard<'_, CudaSlice<u8>> {
        self.0.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a kernel found wrong with its data since the last time, read with results that are on their way to the host.
    fn take_fault(&self, words: [u32; 4]) -> Result<()> {
        let [code, place, value, bound] = words;
        if code == 0 {
            return Ok(());
        }
        self.0.stream.memset_zeros(&mut *self.fault()).map_err(|e| self.error("clearing memory", e))?;
        Err(match code {
            1 => {
                Error::value(format!("label {place}"), value, format!("below {bound}, the number of classes"))
            }
            2 => {
                Error::value(format!("index {place}"), value, format!("below {bound}, the size of the axis"))
            }
            _ => Error::value("the number of labels that count", 0, "at least 1"),
        })
    }

    fn error(&self, call: impl Into<String>, error: DriverError) -> Error {
        Error::Cuda { call: format!("{} on cuda:{}", call.into(), self.index()), message: describe(error) }
    }
}

impl PartialEq for Gpu {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu(cuda:{}, {})", self.index(), self.name())
    }
}

const FAULT_BYTES: usize = 16;

/// Device memory of one kind of number. Clones share the memory; equality is identity.
#[derive(Clone)]
pub struct Buffer {
    gpu: Gpu,
    memory: Arc<CudaSlice<u8>>,
    element: ElementType,
    len: usize,
}

impl Buffer {
    /// Kind of number.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it is.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Copies to main memory, after all queued work.
    ///
    /// # Errors
    /// Where `T` is not what the buffer holds; what went wrong in the queued work.
    pub fn download<T: Element>(&self) -> Result<Vec<T>> {
        if T::TYPE != self.element {
            return Err(Error::Internal(format!("a buffer of {:?} was read as {:?}", self.element, T::TYPE)));
        }
        let mut values = vec![T::zeroed(); self.len];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
        if !bytes.is_empty() {
            let stream = &self.gpu.0.stream;
            let mut fault = [0u32; 4];
            stream
                .memcpy_dtoh(&*self.memory, bytes)
                .and_then(|()| stream.memcpy_dtoh(&*self.gpu.fault(), bytemuck::bytes_of_mut(&mut fault)))
                .map_err(|e| self.gpu.error("copying from the GPU", e))?;
            self.gpu.synchronize()?;
            self.gpu.take_fault(fault)?;
        }
        Ok(values)
    }

    /// Where the memory is, for libraries that take addresses.
    pub(super) fn address(&self) -> u64 {
        let (address, _guard) = self.memory.device_ptr(&self.gpu.0.stream);
        address
    }

    /// Whether nobody else holds the memory.
    pub(crate) fn is_unique(&self) -> bool {
        Arc::strong_count(&self.memory) == 1
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.memory, &other.memory)
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({:?} × {} on cuda:{})", self.element, self.len, self.gpu.index())
    }
}

fn scalar_type(arg: &Arg<'_>) -> Option<ElementType> {
    match arg {
        Arg::U32(_) => Some(ElementType::U32),
        Arg::I32(_) => Some(ElementType::I32),
        Arg::U64(_) => Some(ElementType::U64),
        Arg::F32(_) => Some(ElementType::F32),
        Arg::F64(_) => Some(ElementType::F64),
        Arg::In(_) | Arg::Out(_) | Arg::Axes(_) | Arg::Fault => None,
    }
}

/// Whether a kernel of words takes a buffer; one of bytes takes any.
fn is_as_long(element: ElementType, word: ElementType) -> bool {
    element.size() == word.size() || word == ElementType::U8
}

/// The driver's pool of memory keeps what is freed, so that allocating it again is no call to the operating system and no
/// synchronisation. Devices without pools allocate each time.
fn keep_freed_memory(context: &CudaContext) -> std::result::Result<(), DriverError> {
    let Some(pool) = pool(context)? else { return Ok(()) };
    let mut all = u64::MAX;
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the attribute is one 64-bit number.
    unsafe { result::mem_pool::set_attribute(pool, attribute, (&raw mut all).cast()) }
}

/// Bytes that the pool holds and nobody uses.
fn unused_in_pool(context: &CudaContext) -> std::result::Result<u64, DriverError> {
    let Some(pool) = pool(context)? else { return Ok(0) };
    let read = |attribute| {
        let mut bytes = 0u64;
        // SAFETY: both attributes are one 64-bit number.
        unsafe { result::mem_pool::get_attribute(pool, attribute, (&raw mut bytes).cast()) }.map(|()| bytes)
    };
    let reserved = read(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?;
    Ok(reserved.saturating_sub(read(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?))
}

fn pool(context: &CudaContext) -> std::result::Result<Option<sys::CUmemoryPool>, DriverError> {
    let supported = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED;
    if context.attribute(supported)? == 0 {
        return Ok(None);
    }
    // SAFETY: the device of a context that is alive.
    unsafe { result::device::get_default_mem_pool(context.cu_device()) }.map(Some)
}

/// The driver's words for an error.
pub(super) fn describe(error: DriverError) -> String {
    let name = error.error_name().map(|name| name.to_string_lossy().into_owned());
    let text = error.error_string().map(|text| text.to_string_lossy().into_owned());
    match (name, text) {
        (Ok(name), Ok(text)) => format!("{text} ({name})"),
        _ => format!("{:?}", error.0),
    }
}
