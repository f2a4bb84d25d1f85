//! Every kernel compiles for every supported architecture: needs NVRTC, but neither driver nor GPU.
//!
//! `RANSNN_NVRTC` names the folder that holds `libnvrtc.so.*`; `.ci/nvrtc.sh` fetches one and prints the path. Run with
//! `--nocapture` to see registers and spills.
#![cfg(all(feature = "cuda", target_os = "linux"))]
#![allow(unsafe_code)] // loads NVRTC from a folder where the program would not look for it
#![allow(clippy::print_stdout, clippy::print_stderr)] // reports, and says what is skipped

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use ransnn::tensor::cuda::{Version, compile};
use ransnn::tensor::kernels::{Kernel, SOURCES, Source};
use rayon::prelude::*;
use std::path::Path;

const ARCHITECTURES: [(u32, u32); 7] = [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)];

/// The files of NVRTC in `folder`, builtins first; once loaded, requests for their names are answered with them.
fn preload(folder: &Path) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names
        .filter(|name| name.starts_with("libnvrtc") && name.contains(".so") && !name.contains(".alt."))
        .collect();
    names.sort(); // "libnvrtc-builtins…" before "libnvrtc.so…"
    assert!(
        names.iter().any(|name| name.starts_with("libnvrtc.so")),
        "no libnvrtc.so in {}",
        folder.display()
    );
    for name in names {
        // SAFETY: NVRTC's initialisers have no requirements.
        let library = unsafe { Library::open(Some(folder.join(&name)), RTLD_NOW | RTLD_GLOBAL) };
        std::mem::forget(library.unwrap_or_else(|error| panic!("{name}: {error}")));
    }
}

/// "80 registers, 0 bytes stack frame, 0 bytes spill stores, …" of one kernel, from the assembler's report.
fn resources(log: &str, kernel: &str) -> Option<String> {
    let report = log.split_once(&format!("Compiling entry function '{kernel}'"))?.1;
    let report = report.split("Compiling entry function").next()?;
    let line = |marker: &str| report.lines().find(|line| line.contains(marker));
    let used = line("Used ")?.split_once("Used ")?.1.split(',').next()?;
    Some(format!("{used:13} {}", line("spill stores")?.rsplit("  ").next()?.trim_start_matches(['.', ' '])))
}

/// Compiles a source for an architecture; registers and spills of its kernels, a line each.
fn report(source: &'static Source, (major, minor): (u32, u32)) -> String {
    let compiled = compile(source, Version { major, minor }, &["--ptxas-options=-v"]).unwrap();
    assert!(compiled.image.starts_with(b"\x7fELF"), "not machine code: {}", source.file);
    let line = |kernel: &&Kernel| {
        let resources = resources(&compiled.log, kernel.name);
        let resources =
            resources.unwrap_or_else(|| panic!("no report of {}:\n{}", kernel.name, compiled.log));
        format!("sm_{major}{minor:<2} {:30} {resources}\n", kernel.name)
    };
    source.kernels.iter().map(line).collect()
}

#[test]
fn every_kernel_for_every_architecture() {
    let Some(folder) = std::env::var_os("RANSNN_NVRTC") else {
        eprintln!("skipped: RANSNN_NVRTC is not set");
        return;
    };
    preload(Path::new(&folder));
    let all: Vec<_> = SOURCES.iter().flat_map(|source| ARCHITECTURES.map(|of| (source, of))).collect();
    let reports: Vec<String> = all.into_par_iter().map(|(source, of)| report(source, of)).collect();
    reports.iter().for_each(|report| print!("{report}"));

    static WRONG: Source = Source {
        file: "wrong.cu",
        text: "extern \"C\" __global__ void wrong(int n) { n = undeclared_name; }",
        options: &[],
        kernels: &[&Kernel { name: "wrong", arguments: &[] }],
    };
    let error = compile(&WRONG, Version { major: 9, minor: 0 }, &[]).unwrap_err().to_string();
    assert!(error.contains("wrong.cu") && error.contains("undeclared_name"), "{error}");
}
