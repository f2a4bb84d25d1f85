//! Builds the stand-in for the CUDA driver from `kernels/*.cu` and loads it before anything looks for the real one.
//!
//! The libraries bear the names `libcuda.so` and `libnvrtc.so`: once they are loaded, the dynamic loader answers a
//! request for these names with them, so that the program under test runs its whole path, from probing to copying
//! results back, and knows nothing of it. Only for test binaries of their own: the stand-in stays for the process.

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use ransnn::tensor::kernels::{HEADERS, SOURCES, Source};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const HEADER: &str = include_str!("cuda_emu.h");
const RUNTIME: &str = include_str!("runtime.cpp");
const DRIVER: &str = include_str!("driver.cpp");
const NVRTC: &str = include_str!("nvrtc.cpp");
const CUBLAS: &str = include_str!("cublas.cpp");
/// One rounding per operation, as in the kernels; `-O1` because compiling takes longer than running.
const FLAGS: &str = "-std=c++20 -O1 -ffp-contract=off -fPIC -shared -pthread -Wall -Wextra -Werror -Wno-unknown-pragmas -Wno-unused-function";

/// The stand-in, loaded.
pub struct Emulator {
    /// Where its libraries are: a program that is started with this folder in `LD_LIBRARY_PATH` finds them, too.
    pub folder: PathBuf,
    set_order: unsafe extern "C" fn(u32),
    compilations: unsafe extern "C" fn() -> i32,
    synchronizations: unsafe extern "C" fn() -> i32,
    launches: unsafe extern "C" fn() -> i32,
    products: unsafe extern "C" fn() -> i32,
    unpooled: unsafe extern "C" fn() -> i32,
    most_memory: unsafe extern "C" fn() -> u64,
}

impl Emulator {
    /// Chooses the order in which the threads of a block run between barriers.
    pub fn set_order(&self, seed: u32) {
        // SAFETY: stores one integer.
        unsafe { (self.set_order)(seed) }
    }

    /// How often somebody has waited for the GPU.
    pub fn synchronizations(&self) -> i32 {
        // SAFETY: reads one integer.
        unsafe { (self.synchronizations)() }
    }

    /// How many kernels have been launched.
    pub fn launches(&self) -> i32 {
        // SAFETY: reads one integer.
        unsafe { (self.launches)() }
    }

    /// How many allocations had to wait for the GPU.
    pub fn unpooled(&self) -> i32 {
        // SAFETY: reads one integer.
        unsafe { (self.unpooled)() }
    }

    /// Most bytes in use at a time since the last call.
    pub fn most_memory(&self) -> u64 {
        // SAFETY: reads and writes integers under a lock.
        unsafe { (self.most_memory)() }
    }

    /// How many products cuBLAS has been asked for.
    pub fn products(&self) -> i32 {
        // SAFETY: reads one integer.
        unsafe { (self.products)() }
    }

    /// How often the compiler has been called.
    pub fn compilations(&self) -> i32 {
        // SAFETY: reads one integer.
        unsafe { (self.compilations)() }
    }
}

/// The stand-in; `None`, with a note, where there is no C++ compiler. On CI that is a failure.
pub fn load() -> Option<&'static Emulator> {
    static EMULATOR: OnceLock<Option<Emulator>> = OnceLock::new();
    EMULATOR.get_or_init(build_and_open).as_ref()
}

fn build_and_open() -> Option<Emulator> {
    let Some(compiler) = compiler() else {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI needs a C++ compiler for the kernels' tests on the CPU"
        );
        eprintln!("skipped: no C++ compiler, so the kernels cannot run on the CPU");
        return None;
    };
    let folder = build(&compiler);
    // SAFETY: loads libraries that were just built from this repository; their initialisers register kernels.
    let open = |name| unsafe { Library::open(Some(folder.join(name)), RTLD_NOW | RTLD_GLOBAL) }.unwrap();
    let (cuda, nvrtc, cublas) = (open("libcuda.so"), open("libnvrtc.so"), open("libcublas.so"));
    // SAFETY: these functions have these types in runtime.cpp and nvrtc.cpp.
    let emulator = unsafe {
        Emulator {
            folder,
            set_order: *cuda.get(b"emu_set_order").unwrap(),
            compilations: *nvrtc.get(b"emu_compilations").unwrap(),
            synchronizations: *cuda.get(b"emu_synchronizations").unwrap(),
            launches: *cuda.get(b"emu_launches").unwrap(),
            unpooled: *cuda.get(b"emu_unpooled").unwrap(),
            most_memory: *cuda.get(b"emu_most_memory").unwrap(),
            products: *cublas.get(b"emu_products").unwrap(),
        }
    };
    std::mem::forget((cuda, nvrtc, cublas)); // they stay for the process: cudarc holds on to their functions
    Some(emulator)
}

fn compiler() -> Option<String> {
    let named = std::env::var("CXX").ok();
    let candidates = named.into_iter().chain(["c++", "g++", "clang++"].map(String::from));
    candidates
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success()))
}

/// A source and its kernels as a translation unit of its own; helpers of two files may share a name.
fn unit(source: &Source) -> String {
    let kernels: String =
        source.kernels.iter().map(|kernel| format!("EMU_KERNEL({})\n", kernel.name)).collect();
    format!("namespace {{\n#include \"{}\"\n}}\n{kernels}", source.file)
}

/// The folder of the two libraries, named by a hash of what they are made of.
fn build(compiler: &str) -> PathBuf {
    let units: Vec<(String, String)> =
        SOURCES.iter().map(|source| (format!("{}.cpp", source.file), unit(source))).collect();
    let mut hash = Sha256::new();
    let texts = SOURCES.iter().map(|source| source.text).chain(HEADERS.iter().map(|(_, text)| *text));
    let units_text = units.iter().map(|(_, text)| text.as_str());
    for part in
        [HEADER, RUNTIME, DRIVER, NVRTC, CUBLAS, FLAGS, compiler].into_iter().chain(texts).chain(units_text)
    {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let hash: String = hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = root.join(format!("cuda_emu-{hash}"));
    if folder.is_dir() {
        return folder;
    }

    // Built aside and moved, so that two test binaries that start together do not see half a library.
    std::fs::create_dir_all(root).unwrap();
    let aside = tempfile::tempdir_in(root).unwrap();
    for (name, text) in [
        ("cuda_emu.h", HEADER),
        ("runtime.cpp", RUNTIME),
        ("driver.cpp", DRIVER),
        ("nvrtc.cpp", NVRTC),
        ("cublas.cpp", CUBLAS),
    ] {
        std::fs::write(aside.path().join(name), text).unwrap();
    }
    let units_text = units.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let sources = SOURCES.iter().map(|s| (s.file, s.text)).chain(HEADERS.iter().copied()).chain(units_text);
    for (name, text) in sources {
        std::fs::write(aside.path().join(name), text).unwrap();
    }
    let link = |library: &str, sources: &[&str]| {
        let output = Command::new(compiler)
            .current_dir(aside.path())
            .args(FLAGS.split(' '))
            .args(["-include", "cuda_emu.h", "-I."])
            .args(sources)
            .arg(format!("-Wl,-soname,{library}"))
            .args(["-o", library])
            .output()
            .unwrap();
        assert!(output.status.success(), "{library}:\n{}", String::from_utf8_lossy(&output.stderr));
    };
    let mut parts: Vec<&str> = units.iter().map(|(name, _)| name.as_str()).collect();
    parts.extend(["runtime.cpp", "driver.cpp"]);
    link("libcuda.so", &parts);
    link("libnvrtc.so", &["nvrtc.cpp"]);
    link("libcublas.so", &["cublas.cpp"]);
    if std::fs::rename(aside.keep(), &folder).is_err() {
        assert!(folder.is_dir(), "cannot move the stand-in to {}", folder.display());
    }
    folder
}
