//! The program as it is typed: verbs, streams, exit codes, run directories, resuming, bad input.

mod bad_data;
mod bad_input;
mod loops;
mod peft;
mod run;
mod simulate;
mod trainers;
mod verbs;

use assert_cmd::Command;
use std::path::{Path, PathBuf};
use std::process::Output;

/// The program in an empty folder, away from the data, runs and settings of whoever runs the tests.
pub fn ransnn(folder: &Path) -> Command {
    let mut command = Command::cargo_bin("ransnn").expect("cargo has built it");
    isolate(folder, |key, value| {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    });
    command.current_dir(folder);
    command
}

/// Calls `set` with the environment that a test needs.
pub fn isolate(folder: &Path, mut set: impl FnMut(&str, Option<&Path>)) {
    set("RANSNN_DATA", Some(&folder.join("data")));
    for name in ["RANSNN_THREADS", "RANSNN_RUNS", "RANSNN_DEVICE", "CLICOLOR_FORCE"] {
        set(name, None);
    }
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The `strokes` experiment.
pub fn strokes() -> String {
    repository("experiments/strokes.toml").display().to_string()
}

/// `ransnn run strokes.toml` on few samples, and more arguments.
pub fn run_small(folder: &Path, more: &[&str]) -> Output {
    let small = ["--set", "data.train_limit=600", "--set", "data.test_limit=200"];
    ransnn(folder).arg("run").arg(strokes()).args(small).args(more).output().expect("it starts")
}

/// Runs and expects an exit code; returns stdout and stderr.
pub fn outcome(mut command: Command, code: i32) -> (String, String) {
    texts(&command.output().expect("it starts"), code)
}

/// Expects an exit code and no panic; returns stdout and stderr.
pub fn texts(output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    assert!(!err.contains("panicked"), "{err}");
    (out, err)
}

/// The only run directory under `runs/NAME`.
pub fn run_directory(folder: &Path, name: &str) -> PathBuf {
    folder.join("runs").join(name).join("latest").canonicalize().expect("a link to the latest run")
}

/// A JSON file.
pub fn read_json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).expect("it is there")).expect("it is JSON")
}
