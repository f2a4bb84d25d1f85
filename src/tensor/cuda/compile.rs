//! Kernels compiled at run time by NVRTC for the GPU found, and kept on disk.
#![allow(unsafe_code)] // NVRTC's C interface

use super::Version;
use super::probe::nvrtc_version;
use crate::error::{Error, Result};
use crate::tensor::kernels::{HEADERS, OPTIONS, Source};
use cudarc::nvrtc::{result::NvrtcError, sys};
use sha2::{Digest, Sha256};
use std::ffi::{CStr, CString, c_char, c_int};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What NVRTC made of a source.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Machine code (a cubin), or PTX with its final zero where NVRTC is older than the GPU.
    pub image: Vec<u8>,
    /// What the compiler said; registers and spills with the option `--ptxas-options=-v`.
    pub log: String,
}

/// Compiles `source` for a compute capability; needs NVRTC but neither driver nor GPU.
///
/// # Errors
/// [`Error::Cuda`] with the compiler's log; also where NVRTC is missing or knows no architecture for the GPU.
pub fn compile(source: &Source, capability: Version, extra: &[&str]) -> Result<Compiled> {
    nvrtc_version()
        .ok_or_else(|| Error::Cuda { call: "loading NVRTC".into(), message: "it was not found".into() })?;
    let target = Target::choose(capability, &supported()?)?;
    let options = options(source, target, extra);
    let program = Program::new(source)?;
    program.compile(source, &options)?;
    Ok(Compiled { image: program.image(target)?, log: program.log() })
}

/// As [`compile`], but takes the image from `cache` where it is there and puts it there where it is not.
///
/// A file that is damaged counts as absent. That the cache cannot be written costs time at the next start and is no
/// error.
pub(super) fn compile_cached(source: &Source, capability: Version, cache: Option<&Path>) -> Result<Vec<u8>> {
    let Some(cache) = cache else { return Ok(compile(source, capability, &[])?.image) };
    let path = cache_file(cache, source, capability)?;
    if let Some(image) = std::fs::read(&path).ok().and_then(unseal) {
        return Ok(image);
    }
    let image = compile(source, capability, &[])?.image;
    let _ = store(cache, &path, &image);
    Ok(image)
}

/// `<sha256 of everything that the image depends on>.cubin`
fn cache_file(cache: &Path, source: &Source, capability: Version) -> Result<PathBuf> {
    let target = Target::choose(capability, &supported()?)?;
    let nvrtc = nvrtc_version().map(|v| v.to_string()).unwrap_or_default();
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    part("ransnn kernel 1");
    part(&nvrtc);
    options(source, target, &[]).iter().for_each(|option| part(option));
    for (name, text) in HEADERS.iter().chain([&(source.file, source.text)]) {
        part(name);
        part(text);
    }
    Ok(cache.join(format!("{}.cubin", hex(&hash.finalize()))))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes the image behind its own checksum, in one move.
fn store(folder: &Path, path: &Path, image: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&Sha256::digest(image))?;
    file.write_all(image)?;
    file.persist(path)?;
    Ok(())
}

/// The image of a cache file whose checksum is right.
fn unseal(file: Vec<u8>) -> Option<Vec<u8>> {
    let (sum, image) = file.split_first_chunk::<32>()?;
    (Sha256::digest(image)[..] == sum[..] && !image.is_empty()).then(|| image.to_vec())
}

/// What NVRTC compiles for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    /// Machine code of this architecture (`sm_90`).
    Machine(u32),
    /// PTX of this architecture (`compute_90`), which the driver translates for a GPU newer than the compiler.
    Virtual(u32),
}

impl Target {
    fn choose(capability: Version, supported: &[u32]) -> Result<Self> {
        let wanted = capability.major * 10 + capability.minor;
        match supported.iter().copied().filter(|&known| known <= wanted).max() {
            Some(known) if known == wanted => Ok(Self::Machine(wanted)),
            Some(known) => Ok(Self::Virtual(known)),
            None => Err(Error::Cuda {
                call: "choosing an architecture".into(),
                message: format!("NVRTC no longer compiles for GPUs of compute capability {capability}"),
            }),
        }
    }
}

fn options(source: &Source, target: Target, extra: &[&str]) -> Vec<String> {
    let architecture = match target {
        Target::Machine(number) => format!("--gpu-architecture=sm_{number}"),
        Target::Virtual(number) => format!("--gpu-architecture=compute_{number}"),
    };
    let listed = OPTIONS.iter().chain(source.options).chain(extra).map(|option| option.to_string());
    std::iter::once(architecture).chain(listed).collect()
}

/// Architectures that NVRTC compiles for, as 10 · major + minor.
fn supported() -> Result<Vec<u32>> {
    let mut count = 0;
    // SAFETY: writes one integer.
    check("nvrtcGetNumSupportedArchs", unsafe { sys::nvrtcGetNumSupportedArchs(&mut count) })?;
    let mut numbers = vec![0 as c_int; count as usize];
    // SAFETY: writes `count` integers, which is the length of `numbers`.
    check("nvrtcGetSupportedArchs", unsafe { sys::nvrtcGetSupportedArchs(numbers.as_mut_ptr()) })?;
    Ok(numbers.into_iter().map(|number| number as u32).collect())
}

/// A program being compiled; destroyed with this value.
struct Program(sys::nvrtcProgram);

impl Program {
    fn new(source: &Source) -> Result<Self> {
        let headers = HEADERS.iter().map(|(_, text)| c_string(text)).collect::<Result<Vec<_>>>()?;
        let names = HEADERS.iter().map(|(name, _)| c_string(name)).collect::<Result<Vec<_>>>()?;
        let (text, file) = (c_string(source.text)?, c_string(source.file)?);
        let mut program = std::ptr::null_mut();
        // SAFETY: all strings end with zero and live until the call returns; NVRTC copies them.
        check("nvrtcCreateProgram", unsafe {
            sys::nvrtcCreateProgram(
                &mut program,
                text.as_ptr(),
                file.as_ptr(),
                headers.len() as c_int,
                pointers(&headers).as_ptr(),
                pointers(&names).as_ptr(),
            )
        })?;
        Ok(Self(program))
    }

    fn compile(&self, source: &Source, options: &[String]) -> Result<()> {
        let strings = options.iter().map(|option| c_string(option)).collect::<Result<Vec<_>>>()?;
        // SAFETY: the program is alive; the options end with zero and live until the call returns.
        let status =
            unsafe { sys::nvrtcCompileProgram(self.0, strings.len() as c_int, pointers(&strings).as_ptr()) };
        status.result().map_err(|error| Error::Cuda {
            call: format!("compiling {} ({})", source.file, options.join(" ")),
            message: format!("{}\n{}", describe(error), self.log()),
        })
    }

    fn image(&self, target: Target) -> Result<Vec<u8>> {
        match target {
            Target::Machine(_) => self.bytes("nvrtcGetCUBIN", sys::nvrtcGetCUBINSize, sys::nvrtcGetCUBIN),
            Target::Virtual(_) => self.bytes("nvrtcGetPTX", sys::nvrtcGetPTXSize, sys::nvrtcGetPTX),
        }
    }

    fn log(&self) -> String {
        let bytes = self.bytes("nvrtcGetProgramLog", sys::nvrtcGetProgramLogSize, sys::nvrtcGetProgramLog);
        String::from_utf8_lossy(&bytes.unwrap_or_default()).trim_end_matches(['\0', '\n']).to_string()
    }

    /// Asks for a size, then for that many bytes.
    fn bytes(
        &self,
        call: &str,
        size: unsafe fn(sys::nvrtcProgram, *mut usize) -> sys::nvrtcResult,
        get: unsafe fn(sys::nvrtcProgram, *mut c_char) -> sys::nvrtcResult,
    ) -> Result<Vec<u8>> {
        let mut len = 0;
        // SAFETY: the program is alive; the call writes one integer.
        check(call, unsafe { size(self.0, &mut len) })?;
        let mut bytes = vec![0u8; len];
        // SAFETY: the program is alive; the call writes `len` bytes.
        check(call, unsafe { get(self.0, bytes.as_mut_ptr().cast()) })?;
        Ok(bytes)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: created by `nvrtcCreateProgram` and destroyed only here.
        unsafe { sys::nvrtcDestroyProgram(&mut self.0) };
    }
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::Internal("a kernel source or option contains a zero byte".into()))
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).collect()
}

fn check(call: &str, status: sys::nvrtcResult) -> Result<()> {
    status.result().map_err(|error| Error::Cuda { call: call.into(), message: describe(error) })
}

fn describe(error: NvrtcError) -> String {
    // SAFETY: NVRTC returns a constant string that ends with zero.
    unsafe { CStr::from_ptr(sys::nvrtcGetErrorString(error.0)) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_code_where_known_else_ptx() {
        let choose = |major, minor, known: &[u32]| Target::choose(Version { major, minor }, known);
        assert_eq!(choose(9, 0, &[75, 90, 100]).unwrap(), Target::Machine(90));
        assert_eq!(choose(12, 1, &[75, 90, 120]).unwrap(), Target::Virtual(120));
        assert_eq!(choose(8, 7, &[75, 90, 120]).unwrap(), Target::Virtual(75));
        assert!(choose(7, 0, &[75, 90]).unwrap_err().to_string().contains("7.0"));
    }

    #[test]
    fn damaged_cache_files_are_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("a.cubin");
        store(path.parent().unwrap(), &path, b"image").unwrap();
        let sealed = std::fs::read(&path).unwrap();
        assert_eq!(unseal(sealed.clone()).unwrap(), b"image");
        assert_eq!(unseal(sealed[..sealed.len() - 1].to_vec()), None);
        assert_eq!(unseal(sealed[..32].to_vec()), None);
        assert_eq!(unseal(vec![]), None);
        let mut flipped = sealed;
        flipped[33] ^= 1;
        assert_eq!(unseal(flipped), None);
    }
}
