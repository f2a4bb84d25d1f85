//! Every trainer from an experiment file: running, mistakes, resuming, what is written.

mod convert;
mod stdp;
mod stopped;
mod surrogate;

use crate::{outcome, ransnn, run_directory};
use serde_json::Value;
use std::path::{Path, PathBuf};

const DATA: &str = r#"
schema = 1
name   = "small"
[data]
dataset     = "strokes"
train_limit = 300
test_limit  = 100
"#;

/// 784 - 40 - 10.
pub const SURROGATE: &str = r#"
[encode.constant]
steps = 5
[population.pixels]
shape  = [1, 28, 28]
neuron = "input"
[population.hidden]
shape      = 40
neuron.lif = { beta = 0.9 }
[population.output]
shape      = 10
neuron.lif = { beta = 0.9 }
[projection.first]
from    = "pixels"
to      = "hidden"
weights = "kaiming-uniform"
frozen  = false
[projection.second]
from    = "hidden"
to      = "output"
weights = "kaiming-uniform"
bias    = "kaiming-uniform"
frozen  = false
[train.surrogate]
output = "output"
lr     = 5e-3
batch  = 20
epochs = 6
"#;

/// 784 - 40 - 10 with rectified activations.
const CONVERT: &str = r#"
[encode.constant]
steps = 16
[train.convert]
input = [1, 28, 28]
steps = [2, 4]
fit.gradient = { lr = 5e-3, batch = 20, epochs = 5 }
[[train.convert.layer]]
kind = "flatten"
[[train.convert.layer]]
kind    = "linear"
outputs = 40
[[train.convert.layer]]
kind = "relu"
[[train.convert.layer]]
kind    = "linear"
outputs = 10
"#;

const STDP: &str = r#"
[train.stdp]
input   = [1, 28, 28]
neurons = 60
"#;

/// 784 - 60 frozen - 10.
const READOUT: &str = r#"
[encode.constant]
steps = 8
[population.pixels]
shape  = [1, 28, 28]
neuron = "input"
[population.hidden]
shape      = 60
neuron.lif = { beta = 0.9 }
[population.output]
shape      = 10
neuron.lif = { beta = 0.9 }
[projection.random]
from           = "pixels"
to             = "hidden"
weights.normal = { std = 1.0 }
zero_mean      = true
gain.rms-drive = 0.7
[projection.readout]
from    = "hidden"
to      = "output"
weights = "kaiming-uniform"
bias    = "kaiming-uniform"
frozen  = false
[train.stdp-readout]
output = "output"
lr     = 5e-2
batch  = 10
epochs = 20
rule.supervised = { tau_ms = 5.0 }
"#;

/// Writes the experiment and returns its path.
fn write(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("small.toml");
    std::fs::write(&path, format!("{DATA}{text}")).unwrap();
    path
}

/// Runs a verb with overrides; returns stdout and stderr.
pub fn verb(folder: &Path, verb: &str, text: &str, set: &[&str], code: i32) -> (String, String) {
    let mut command = ransnn(folder);
    command.arg(verb).arg(write(folder, text));
    set.iter().for_each(|set| _ = command.args(["--set", set]));
    outcome(command, code)
}

/// Runs, checks that the JSON has what others rely on, and returns it.
pub fn summary(folder: &Path, text: &str, set: &[&str]) -> Value {
    let mut command = ransnn(folder);
    command.arg("run").arg(write(folder, text)).arg("--json");
    set.iter().for_each(|set| _ = command.args(["--set", set]));
    let (out, _) = outcome(command, 0);
    let summary: Value = serde_json::from_str(&out).expect("one JSON object");
    for path in [
        "/schema",
        "/seconds/data",
        "/seconds/fit",
        "/seconds/total",
        "/spikes/per_sample",
        "/synaptic_operations/per_sample",
        "/memory/peak_rss_bytes",
        "/parameters/trained",
        "/parameters/frozen",
    ] {
        assert!(summary.pointer(path).is_some_and(Value::is_number), "{path} in {out}");
    }
    assert_eq!((&summary["status"], &summary["dataset"]), (&"ok".into(), &"strokes".into()));
    let run = run_directory(folder, "small");
    for file in ["metrics.jsonl", "report.html", "summary.json", "model-0.safetensors"] {
        assert!(run.join(file).metadata().unwrap().len() > 0, "{file}");
    }
    summary
}

/// Runs and expects one error that names its place, says what is wrong and what would be right.
pub fn mistake(folder: &Path, text: &str, set: &[&str], says: &[&str]) {
    let (out, err) = verb(folder, "run", text, set, 1);
    assert_eq!(out, "");
    assert!(err.contains("small.toml"), "{set:?}: the place in {err}");
    says.iter().for_each(|part| assert!(err.contains(part), "{set:?}: {part} in {err}"));
}

pub fn accuracy(summary: &Value) -> f64 {
    summary["test"]["accuracy"].as_f64().unwrap()
}

#[test]
fn plan_and_config_know_the_trainers() {
    let folder = tempfile::tempdir().unwrap();
    let (out, _) = verb(folder.path(), "plan", SURROGATE, &[], 0);
    assert!(out.contains("numbers are trained") && out.contains("of activations"), "{out}");
    let mut json = ransnn(folder.path());
    let steps = ["--json", "--set", "encode.constant.steps=900"];
    json.arg("plan").arg(write(folder.path(), SURROGATE)).args(steps);
    let plan: Value = serde_json::from_str(&outcome(json, 0).0).unwrap();
    assert_eq!(plan["training"]["parameters"], 31770);
    // What comes beside the gradients: with so many steps at least the potentials of 50 neurons and 20 samples.
    assert!(plan["training"]["activation_bytes"].as_u64().unwrap() >= 4 * 50 * 900 * 20);
    let (out, _) = verb(folder.path(), "config", SURROGATE, &[], 0);
    assert!(out.contains("detach_reset = true  # leave resets out of the gradient"), "{out}");
}

#[test]
fn an_exploding_loss_is_explained_and_silent_layers_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let explode = [
        "train.surrogate.lr=3e38",
        "train.surrogate.optimizer.sgd.momentum=0.9",
        "train.surrogate.loss=ce-membrane-last",
        "run.checkpoint_every=1",
    ];
    let (_, err) = verb(folder.path(), "run", SURROGATE, &explode, 1);
    for part in ["mini-batch", "a smaller learning rate", "clip = 1.0", "checkpoint"] {
        assert!(err.contains(part), "{part} in {err}");
    }
    let (_, err) = verb(folder.path(), "run", CONVERT, &["train.convert.fit.gradient.lr=1e30"], 1);
    for part in ["the loss is", "in pass", "a smaller learning rate", "checkpoint"] {
        assert!(err.contains(part), "{part} in {err}");
    }
    let silent = ["population.hidden.neuron.lif.threshold=1000.0", "train.surrogate.epochs=1"];
    let (out, _) = verb(folder.path(), "run", SURROGATE, &silent, 0);
    assert!(out.contains("NOTE: `hidden` is silent"), "{out}");
    let saturated = ["projection.first.weights={constant=0.5}", "projection.first.frozen=true"];
    let (out, _) = verb(folder.path(), "run", SURROGATE, &saturated, 0);
    assert!(out.contains("NOTE: `hidden` is saturated"), "{out}");
    let drive = |rms: &str| format!("projection.random.gain={{rms-drive={rms}}}");
    let (out, _) = verb(folder.path(), "run", READOUT, &[&drive("1e-4"), "train.stdp-readout.epochs=1"], 0);
    assert!(out.contains("NOTE: `hidden` is silent"), "{out}");
    let ridge = READOUT[..READOUT.find("[population.output]").unwrap()].to_string()
        + &READOUT
            [READOUT.find("[projection.random]").unwrap()..READOUT.find("[projection.readout]").unwrap()]
        + "[features]\nfrom = [\"hidden\"]\n[train.ransnn]\nsolver.ridge = { lambda = [1.0] }\n";
    let (out, _) = verb(folder.path(), "run", &ridge, &[&drive("1e-4")], 0);
    assert!(out.contains("NOTE: `hidden` is silent"), "{out}");
}

/// Recordings of an event camera, left and right, by a random layer and by surrogate gradients.
#[test]
fn recordings_are_learnt() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..300u16 {
        let class = folder.path().join("recordings").join(["left", "right"][usize::from(i % 2)]);
        std::fs::create_dir_all(&class).unwrap();
        let event = |k: u16| {
            let (x, time) = (i % 2 * 4 + (i / 2 + k) % 4, 200 * k);
            [x as u8, (k % 6) as u8, ((k % 2) as u8) << 7, (time >> 8) as u8, time as u8]
        };
        std::fs::write(class.join(format!("{i}.bin")), (0..40).flat_map(event).collect::<Vec<u8>>()).unwrap();
    }
    const EVENTS: &str = r#"
schema = 1
name   = "events"
[data]
path = "recordings"
[encode.events]
steps   = 8
step_ms = 1.0
[population.pixels]
shape  = [2, 6, 8]
neuron = "input"
[population.hidden]
shape      = 40
neuron.lif = { beta = 0.9 }
"#;
    const RIDGE: &str = r#"
[projection.random]
from           = "pixels"
to             = "hidden"
weights.normal = { std = 0.3 }
[features]
from = ["hidden"]
[train.ransnn.solver.ridge]
lambda = [1.0]
"#;
    let (_, learnt) = SURROGATE.split_once("[population.output]").unwrap();
    let learnt = format!("[population.output]\n{learnt}").replace("shape      = 10", "shape      = 2");
    for trainer in [RIDGE, &learnt] {
        std::fs::write(folder.path().join("events.toml"), format!("{EVENTS}{trainer}")).unwrap();
        let mut command = ransnn(folder.path());
        command.args(["run", "events.toml"]);
        outcome(command, 0);
        let summary = std::fs::read_to_string(folder.path().join("runs/events/latest/summary.json")).unwrap();
        let summary: Value = serde_json::from_str(&summary).unwrap();
        assert_eq!(summary["test"]["accuracy"], 1.0, "{trainer}");
        assert!(summary["spikes"]["per_sample"].as_f64().unwrap() > 1.0);
    }
    // A population without places, and one that is too small.
    for (set, says) in [
        ("population.pixels.shape=96", "takes events, which have a place"),
        ("population.pixels.shape=[2,6,7]", "is outside of 7 × 6 places"),
    ] {
        let mut command = ransnn(folder.path());
        command.args(["run", "events.toml", "--set", set]);
        let (_, err) = outcome(command, 1);
        assert!(err.contains(says), "{err}");
    }
}
