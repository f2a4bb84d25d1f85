//! Every example runs and says something. `cargo test` has built them beside this test.

use std::path::{Path, PathBuf};
use std::process::Command;

/// `target/PROFILE/examples`: this test is in `target/PROFILE/deps`.
fn built() -> PathBuf {
    let this = std::env::current_exe().expect("this program has a path");
    let profile = this.ancestors().nth(2).expect("two folders up");
    profile.join("examples")
}

#[test]
fn every_example_runs() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let sources =
        std::fs::read_dir(sources).expect("a folder of examples").map(|entry| entry.expect("a file").path());
    let mut names: Vec<String> = sources
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no examples");
    for name in names {
        let program = built().join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        assert!(
            program.is_file(),
            "{name} is not built: run `cargo test`, or `cargo build --examples` before"
        );
        let folder = tempfile::tempdir().expect("temporary folder");
        let output = Command::new(program)
            .current_dir(&folder)
            // An example works without data sets, and leaves nothing elsewhere.
            .env("RANSNN_DATA", folder.path())
            .env("XDG_CACHE_HOME", folder.path())
            .output()
            .expect("starts");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name}: {}\n{out}{err}", output.status);
        assert!(!out.trim().is_empty(), "{name} printed nothing");
    }
}

#[test]
fn the_readme_shows_an_example_that_runs() {
    let read = |path: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let readme = read("README.md");
    let shown = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    assert!(read("examples/05_ransnn.rs").ends_with(shown), "README.md and examples/05_ransnn.rs differ");
}
