//! Tells the program of its making, for `env.json`: the compiler, and the revision where it is known for certain.
//!
//! A published package holds its revision in a file; whoever builds from a checkout may give it in RANSNN_REVISION.
//! Asking git here would rebuild everything after each commit.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RANSNN_REVISION");
    let compiler =
        std::env::var_os("RUSTC").and_then(|rustc| Command::new(rustc).arg("--version").output().ok());
    if let Some(version) = compiler.and_then(|output| String::from_utf8(output.stdout).ok()) {
        println!("cargo:rustc-env=RANSNN_RUSTC={}", version.trim());
    }
    let packaged = std::fs::read_to_string(".cargo_vcs_info.json").ok();
    let packaged = packaged.as_deref().and_then(|text| text.split('"').find(|part| part.len() == 40));
    if let Some(revision) = std::env::var("RANSNN_REVISION").ok().or(packaged.map(String::from)) {
        println!("cargo:rustc-env=RANSNN_BUILT_FROM={revision}");
    }
}
