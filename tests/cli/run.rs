//! Running: what is printed and written, repeating, sweeping, expecting, resuming.

use crate::{isolate, outcome, ransnn, read_json, repository, run_directory, run_small, strokes, texts};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn a_run_prints_a_table_and_writes_its_directory() {
    let folder = tempfile::tempdir().unwrap();
    let (out, err) = texts(&run_small(folder.path(), &[]), 0);
    for part in ["seed", "train", "test", "spikes/sample", "2 570 weights trained, 400 random and frozen"] {
        assert!(out.contains(part), "{part} in {out}");
    }
    assert!(err.contains("frozen layers") && err.contains("readout"), "{err}");
    let run = run_directory(folder.path(), "strokes");
    assert_eq!(std::fs::read(run.join("source.toml")).unwrap(), std::fs::read(strokes()).unwrap());
    let overrides = std::fs::read_to_string(run.join("overrides.txt")).unwrap();
    assert_eq!(overrides, "data.train_limit=600\ndata.test_limit=200\n");
    for file in
        ["config.toml", "env.json", "metrics.jsonl", "report.html", "report.json", "model-0.safetensors"]
    {
        assert!(run.join(file).metadata().unwrap().len() > 0, "{file}");
    }
    let summary = read_json(&run.join("summary.json"));
    assert_eq!((summary["status"].as_str(), summary["dataset"].as_str()), (Some("ok"), Some("strokes")));
    let left: Vec<_> = std::fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with('.')), "{left:?}");
}

#[test]
fn json_is_one_object_with_every_key_of_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let (out, _) = texts(&run_small(folder.path(), &["--json", "--set", "eval.repeat=2"]), 0);
    let summary: Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!(summary["schema"], 1);
    assert_eq!((&summary["name"], &summary["status"]), (&"strokes".into(), &"ok".into()));
    assert_eq!(summary["dataset"], "strokes");
    for split in ["test", "train"] {
        let accuracy = &summary[split]["accuracy"];
        let values: Vec<f64> =
            accuracy["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        assert_eq!(values.len(), 2);
        assert!(values.iter().all(|v| (0.7..=1.0).contains(v)), "{values:?}");
        let mean = (values[0] + values[1]) / 2.0;
        let std = (values[0] - values[1]).abs() / 2f64.sqrt();
        assert!((accuracy["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
        assert!((accuracy["std"].as_f64().unwrap() - std).abs() < 1e-12);
    }
    for path in [
        "/seconds/data",
        "/seconds/features",
        "/seconds/fit",
        "/seconds/test",
        "/seconds/total",
        "/spikes/per_sample",
        "/synaptic_operations/per_sample",
        "/memory/peak_rss_bytes",
        "/parameters/trained",
        "/parameters/frozen",
    ] {
        assert!(summary.pointer(path).is_some_and(Value::is_number), "{path} in {out}");
    }
    assert_eq!(summary["parameters"]["frozen"], 400);
    let first = texts(&run_small(folder.path(), &["--json", "-q"]), 0);
    assert!(serde_json::from_str::<Value>(&first.0).unwrap()["test"]["accuracy"].is_number());
    assert_eq!(first.1, "");
}

/// What must not differ between equal runs: the model, and the metrics without their times.
fn result(run: &Path) -> (Vec<u8>, Vec<Value>) {
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = metrics.lines().map(|line| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        assert!(value.as_object_mut().unwrap().remove("t").is_some_and(|t| t.as_f64().unwrap() > 1e9));
        value
    });
    (std::fs::read(run.join("model-0.safetensors")).unwrap(), lines.collect())
}

#[test]
fn the_resolved_configuration_and_any_number_of_threads_give_the_same_result() {
    for solver in [vec![], ADAM.to_vec()] {
        let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let with = |threads| [&["--threads", threads], solver.as_slice()].concat();
        texts(&run_small(folders[0].path(), &with("1")), 0);
        texts(&run_small(folders[1].path(), &with("2")), 0);
        let one = run_directory(folders[0].path(), "strokes");
        let two = run_directory(folders[1].path(), "strokes");
        assert!(result(&one) == result(&two), "threads");
        let mut again = ransnn(folders[2].path());
        again.arg("run").arg(one.join("config.toml"));
        outcome(again, 0);
        let again = run_directory(folders[2].path(), "strokes");
        assert!(result(&one) == result(&again), "resolved configuration");
        let config = |run: &Path| std::fs::read_to_string(run.join("config.toml")).unwrap();
        assert_eq!(config(&one), config(&again));
    }
}

#[test]
fn a_sweep_runs_each_value_and_compares_them() {
    let folder = tempfile::tempdir().unwrap();
    let (out, _) = texts(&run_small(folder.path(), &["--set", "features.levels=8,32", "--json"]), 0);
    let rows: Value = serde_json::from_str(&out).expect("one JSON document");
    let levels: Vec<_> = (0..2).map(|i| rows[i]["values"]["features.levels"].as_str().unwrap()).collect();
    assert_eq!(levels, ["8", "32"]);
    let home = folder.path().join("runs/strokes");
    assert_eq!(read_json(&home.join("sweep.json")), rows);
    assert!(std::fs::read_to_string(home.join("sweep.svg")).unwrap().starts_with("<svg"));
}

#[test]
fn a_sweep_with_a_bad_last_value_does_not_begin() {
    let folder = tempfile::tempdir().unwrap();
    let (out, err) = texts(&run_small(folder.path(), &["--set", "features.levels=8,300"]), 1);
    assert!(err.contains("`features.levels` is 300") && err.contains("from 2 to 256"), "{err}");
    assert_eq!(out, "");
    assert!(!folder.path().join("runs").exists());
}

#[test]
fn an_expectation_that_is_missed_is_a_failure_only_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let expect = ["--set", "eval.expect_accuracy=1.0"];
    texts(&run_small(folder.path(), &expect), 0);
    let (_, err) = texts(&run_small(folder.path(), &[&expect[..], &["--check"]].concat()), 1);
    assert!(err.contains("is below the expected 1.0000"), "{err}");
    texts(&run_small(folder.path(), &["--set", "eval.expect_accuracy=0.5", "--check"]), 0);
}

#[test]
fn without_the_data_the_fallback_is_taken_only_where_the_file_says_so_and_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let small = ["--set", "data.train_limit=600", "--set", "data.test_limit=200"];
    let cheap = ["--set", "train.ransnn.solver={ridge={lambda=[600.0]}}", "--set", "encode.constant.steps=2"];
    let mut run = ransnn(folder.path());
    run.arg("run").arg(repository("mnist.toml")).arg("--offline").args(small).args(cheap);
    let (out, _) = outcome(run, 0);
    assert!(out.contains("NOTE: these results are on `strokes`: mnist could not be had"), "{out}");
    let run = run_directory(folder.path(), "mnist");
    let summary = read_json(&run.join("summary.json"));
    assert_eq!(summary["dataset"], "strokes");
    assert!(summary["fallback"].as_str().unwrap().contains("mnist is not in"), "{summary}");
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("not on what was asked for"), "the page tells it");

    let mut run = ransnn(folder.path());
    run.arg("run").arg(repository("mnist.toml")).args(["--offline", "--set", "data.fallback=none"]);
    let (out, err) = outcome(run, 1);
    assert_eq!(out, "");
    for part in
        ["mnist is not in", "network use is forbidden", "ransnn data fetch mnist", "ransnn data add mnist"]
    {
        assert!(err.contains(part), "{part} in {err}");
    }
}

/// An iterative solver that takes about a second.
const ADAM: [&str; 4] =
    ["--set", "train.ransnn.solver={adam={batch=64, batches=3000}}", "--set", "run.checkpoint_every=200"];

/// Starts the Adam run in the background and waits until `file` of its run directory is there.
fn start(folder: &Path, file: &str) -> (Child, PathBuf) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ransnn"));
    isolate(folder, |key, value| {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    });
    let small = ["--set", "data.train_limit=600", "--set", "data.test_limit=200"];
    command.arg("run").arg(strokes()).args(small).args(ADAM).current_dir(folder);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let begun = Instant::now();
    let there = || folder.join("runs/strokes/latest").join(file).is_file();
    while !there() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it wrote {file}");
        assert!(begun.elapsed() < Duration::from_secs(120), "no {file}");
        std::thread::sleep(Duration::from_millis(2));
    }
    (child, run_directory(folder, "strokes"))
}

fn signal(child: &mut Child, name: &str) -> std::process::ExitStatus {
    let done = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill");
    assert!(done.success());
    child.wait().unwrap()
}

#[cfg(unix)]
#[test]
fn an_interrupted_and_a_killed_run_end_as_if_they_had_not_been_stopped() {
    let whole = tempfile::tempdir().unwrap();
    texts(&run_small(whole.path(), &ADAM), 0);
    let expected = result(&run_directory(whole.path(), "strokes"));
    assert!(expected.1.len() > 300);
    for (name, code) in [("-INT", Some(130)), ("-KILL", None)] {
        let folder = tempfile::tempdir().unwrap();
        let (mut child, run) = start(folder.path(), "checkpoints/adam-0.safetensors");
        assert_eq!(signal(&mut child, name).code(), code);
        assert!(!run.join("model-0.safetensors").exists(), "it was stopped in time");
        if code.is_some() {
            assert_eq!(read_json(&run.join("summary.json"))["status"], "interrupted");
        }
        // What a killed process may leave at the end.
        let mut metrics = std::fs::OpenOptions::new().append(true).open(run.join("metrics.jsonl")).unwrap();
        std::io::Write::write_all(&mut metrics, b"{\"seed\":0,\"st").unwrap();
        let resume = ["--resume", run.to_str().unwrap()];

        let other = [&ADAM[..], &resume, &["--set", "features.levels=16"]].concat();
        let (_, err) = texts(&run_small(folder.path(), &other), 1);
        assert!(err.contains("another configuration") && err.contains("features.levels = 16"), "{err}");

        texts(&run_small(folder.path(), &[&ADAM[..], &resume].concat()), 0);
        assert!(result(&run) == expected, "{name}");
        assert_eq!(read_json(&run.join("summary.json"))["status"], "ok");
    }
}

#[cfg(unix)]
#[test]
fn a_damaged_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, run) = start(folder.path(), "checkpoints/adam-0.safetensors");
    signal(&mut child, "-KILL");
    let path = run.join("checkpoints/adam-0.safetensors");
    let good = std::fs::read(&path).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() - 100] ^= 1;
    for bad in [&good[..good.len() / 2], &flipped, b"", b"garbage"] {
        std::fs::write(&path, bad).unwrap();
        let (out, err) =
            texts(&run_small(folder.path(), &[&ADAM[..], &["--resume", run.to_str().unwrap()]].concat()), 1);
        assert!(err.contains("adam-0.safetensors: this checkpoint is damaged"), "{err}");
        assert!(err.contains("remove it to train from the beginning"), "{err}");
        assert_eq!(out, "");
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::write(run.join("checkpoints/seed-0.json"), "{").unwrap();
    let (_, err) =
        texts(&run_small(folder.path(), &[&ADAM[..], &["--resume", run.to_str().unwrap()]].concat()), 1);
    assert!(err.contains("seed-0.json: this checkpoint is damaged"), "{err}");
}
