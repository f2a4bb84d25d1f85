//! Builds the stand-in for the CUDA driver from `kernels/*.cu` and loads it before anything looks for the real one.
//!
//! The libraries bear the names `libcuda.so` and `libnvrtc.so`: once they are loaded, the dynamic loader answers a
//! request for these names with them, so that the program under test runs its whole path, from probing to copying
//! results back, and knows nothing of it. Only for test binaries of their own: the stand-in stays for the process.

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use ransnn::tensor::kernels::{HEADERS, SOURCES};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const HEADER: &str = include_str!("cuda_emu.h");
const RUNTIME: &str = include_str!("runtime.cpp");
const DRIVER: &str = include_str!("driver.cpp");
const NVRTC: &str = include_str!("nvrtc.cpp");
/// One rounding per operation, as in the kernels; `-O1` because compiling takes longer than running.
const FLAGS: &str =
    "-std=c++20 -O1 -ffp-contract=off -fPIC -shared -pthread -Wall -Wextra -Werror -Wno-unknown-pragmas";

/// The stand-in, loaded.
pub struct Emulator {
    /// Where its libraries are: a program that is started with this folder in `LD_LIBRARY_PATH` finds them, too.
    pub folder: PathBuf,
    set_order: unsafe extern "C" fn(u32),
    compilations: unsafe extern "C" fn() -> i32,
}

impl Emulator {
    /// Chooses the order in which the threads of a block run between barriers.
    pub fn set_order(&self, seed: u32) {
        // SAFETY: stores one integer.
        unsafe { (self.set_order)(seed) }
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
    let (cuda, nvrtc) = (open("libcuda.so"), open("libnvrtc.so"));
    // SAFETY: these functions have these types in runtime.cpp and nvrtc.cpp.
    let emulator = unsafe {
        Emulator {
            folder,
            set_order: *cuda.get(b"emu_set_order").unwrap(),
            compilations: *nvrtc.get(b"emu_compilations").unwrap(),
        }
    };
    std::mem::forget((cuda, nvrtc)); // they stay for the process: cudarc holds on to their functions
    Some(emulator)
}

fn compiler() -> Option<String> {
    let named = std::env::var("CXX").ok();
    let candidates = named.into_iter().chain(["c++", "g++", "clang++"].map(String::from));
    candidates
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success()))
}

/// The folder of the two libraries, named by a hash of what they are made of.
fn build(compiler: &str) -> PathBuf {
    let registry: String = SOURCES
        .iter()
        .flat_map(|source| {
            let include = format!("#include \"{}\"\n", source.file);
            let kernels = source.kernels.iter().map(|kernel| format!("EMU_KERNEL({})\n", kernel.name));
            std::iter::once(include).chain(kernels)
        })
        .collect();
    let mut hash = Sha256::new();
    let texts = SOURCES.iter().map(|source| source.text).chain(HEADERS.iter().map(|(_, text)| *text));
    for part in [HEADER, RUNTIME, DRIVER, NVRTC, FLAGS, compiler, &registry].into_iter().chain(texts) {
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
        ("kernels.cpp", &registry),
    ] {
        std::fs::write(aside.path().join(name), text).unwrap();
    }
    for (name, text) in SOURCES.iter().map(|s| (s.file, s.text)).chain(HEADERS.iter().copied()) {
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
    link("libcuda.so", &["kernels.cpp", "runtime.cpp", "driver.cpp"]);
    link("libnvrtc.so", &["nvrtc.cpp"]);
    if std::fs::rename(aside.keep(), &folder).is_err() {
        assert!(folder.is_dir(), "cannot move the stand-in to {}", folder.display());
    }
    folder
}
