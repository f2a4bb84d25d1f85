//! Every trainer from an experiment file: running, mistakes, resuming, what is written.

use crate::{isolate, outcome, ransnn, run_directory};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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
fn a_network_trained_by_surrogate_gradients() {
    let folder = tempfile::tempdir().unwrap();
    let summary = summary(folder.path(), SURROGATE, &["train.surrogate.held_out=60", "data.train_limit=600"]);
    assert!(accuracy(&summary) > 0.7, "{summary}");
    assert_eq!(summary["parameters"], serde_json::json!({"trained": 784 * 40 + 40 * 10 + 10, "frozen": 0}));
    let run = run_directory(folder.path(), "small");
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let held_out = lines.iter().filter(|line| line["split"] == "held out").count();
    assert_eq!(held_out, 6, "once a pass");
    assert!(lines.iter().any(|line| line["split"] == "train" && line["loss"].is_number()));
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    for part in
        ["Loss of the mini-batches", "Confusion matrix", "spikes in training and engine: ", "held out"]
    {
        assert!(page.contains(part), "{part}");
    }
    // What is in the model file is what the run says it trained.
    let model = ransnn::tensor::safetensors::File::open(&run.join("model-0.safetensors")).unwrap();
    assert_eq!(model.tensor("projection.first.weights").unwrap().shape(), [784, 40]);
    assert_eq!(model.tensor("projection.second.bias").unwrap().shape(), [10]);
}

#[test]
fn a_readout_of_frozen_layers_by_surrogate_gradients_over_two_seeds() {
    let folder = tempfile::tempdir().unwrap();
    // Frozen convolutions: training never sees them, the engine runs them.
    let set = [
        "population.hidden.shape=[8,24,24]",
        "projection.first.connect.conv2d.kernel=5",
        "projection.first.weights={normal={std=1.0}}",
        "projection.first.gain={rms-drive=0.7}",
        "projection.first.frozen=true",
        "train.surrogate.lr=1e-3",
        "data.train_limit=1200",
        "eval.repeat=2",
    ];
    let summary = summary(folder.path(), SURROGATE, &set);
    let readout = 8 * 24 * 24 * 10 + 10;
    assert_eq!(summary["parameters"], serde_json::json!({"trained": readout, "frozen": 8 * 25}));
    let values = summary["test"]["accuracy"]["values"].as_array().unwrap();
    assert!(values.len() == 2 && values.iter().all(|v| v.as_f64().unwrap() > 0.7), "{values:?}");
}

#[test]
fn a_readout_of_frozen_layers_by_the_times_of_spikes() {
    let reward = READOUT.replace("rule.supervised = { tau_ms = 5.0 }", "rule.reward = { noise = 0.2 }");
    for (text, least) in [(READOUT, 0.6), (reward.as_str(), 0.5)] {
        let folder = tempfile::tempdir().unwrap();
        let set = ["data.train_limit=1200", "population.hidden.shape=200", "train.stdp-readout.lr=2e-2"];
        let summary = summary(folder.path(), text, &set);
        assert!(accuracy(&summary) > least, "{summary}");
        assert_eq!(summary["parameters"], serde_json::json!({"trained": 2010, "frozen": 784 * 200}));
        let details = summary["details"].to_string();
        assert!(details.contains("spikes in training and engine: all of 2560 counts are equal"), "{details}");
        let model = run_directory(folder.path(), "small").join("model-0.safetensors");
        let model = ransnn::tensor::safetensors::File::open(&model).unwrap();
        assert_eq!(model.tensor("projection.readout.weights").unwrap().shape(), [200, 10]);
    }
    let folder = tempfile::tempdir().unwrap();
    let (out, _) = verb(folder.path(), "plan", READOUT, &[], 0);
    assert!(out.contains("610 numbers are trained"), "{out}");
}

#[test]
fn mistakes_of_the_readout_table_have_a_place_and_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    for (set, says) in [
        (
            &["train.stdp-readout.output=outptu"][..],
            &["no population `outptu`", "did you mean `output`?"][..],
        ),
        (&["train.stdp-readout.lr=0.0"], &["`train.stdp-readout.lr` is 0", "more than 0"]),
        (&["train.stdp-readout.rule.supervised.tau_ms=-1.0"], &["tau_ms` is -1", "more than 0"]),
        (&["train.stdp-readout.rule.supervised.every=0"], &["every` is 0", "at least 1"]),
        (&["train.stdp-readout.rule={rewrad={}}"], &["unknown choice `rewrad`", "did you mean `reward`?"]),
        (&["train.stdp-readout.rule={reward={noise=-1.0}}"], &["noise` is -1", "0 or more"]),
        (&["train.stdp-readout.bounds=[1.0,0.5]"], &["bounds` is 1", "below the second bound"]),
        (&["projection.readout.frozen=true"], &["nothing can be trained", "`frozen = false`"]),
        (&["projection.random.frozen=false"], &["`random` learns, and does not end in `output`"]),
        (&["projection.readout.from=pixels"], &["begins at the input", "put a frozen layer between"]),
        (&["features.from=[\"hidden\"]"], &["no features are recorded", "train.stdp-readout.output"]),
    ] {
        mistake(folder.path(), READOUT, set, says);
    }
}

#[test]
fn labels_beyond_the_output_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for text in [SURROGATE, READOUT] {
        let (_, err) = verb(folder.path(), "run", text, &["population.output.shape=5"], 1);
        assert!(err.contains("label of training sample") && err.contains("below 5"), "{err}");
    }
    let few = CONVERT.replace("outputs = 10", "outputs = 5");
    let (_, err) = verb(folder.path(), "run", &few, &[], 1);
    assert!(err.contains("label") && err.contains('5'), "{err}");
}

#[test]
fn gradients_forward_in_time() {
    let folder = tempfile::tempdir().unwrap();
    for gradient in ["ottt", "eprop"] {
        let set = [
            &format!("train.surrogate.gradient={gradient}"),
            "train.surrogate.loss=ce-membrane",
            "population.output.neuron.lif.reset=none",
            "data.train_limit=600",
        ];
        let summary = summary(folder.path(), SURROGATE, &set);
        assert!(accuracy(&summary) > 0.7, "{gradient}: {summary}");
        // Neither the plan nor the traces grow with the steps.
        let bytes = |steps: &str| {
            let mut command = ransnn(folder.path());
            command.arg("plan").arg(write(folder.path(), SURROGATE)).arg("--json");
            set.iter().for_each(|set| _ = command.args(["--set", set]));
            command.args(["--set", &format!("encode.constant.steps={steps}")]);
            let plan: Value = serde_json::from_str(&outcome(command, 0).0).unwrap();
            plan["training"]["activation_bytes"].as_u64().unwrap()
        };
        assert_eq!(bytes("5"), bytes("500"));
    }
    for (set, says) in [
        (&["train.surrogate.gradient=ottt"][..], &["need a loss of every step", "ce-membrane"][..]),
        (
            &[
                "train.surrogate.gradient=eprop",
                "train.surrogate.loss=ce-rate",
                "train.surrogate.dropout=0.2",
            ],
            &["`dropout` cannot be as it is", "gradient = \"bptt\""],
        ),
        (&["train.surrogate.gradient=e-prop"], &["unknown choice `e-prop`", "did you mean `eprop`?"]),
    ] {
        mistake(folder.path(), SURROGATE, set, says);
    }
}

#[test]
fn learnt_leaks_augmentation_poisson_and_early_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let set = [
        "encode={poisson={steps=6}}",
        "train.surrogate.learn_beta=true",
        "train.surrogate.learn_threshold=true",
        "train.surrogate.optimizer.sgd.momentum=0.5",
        "train.surrogate.lr=1e-9",
        "train.surrogate.surrogate.fast-sigmoid.slope=10.0",
        "train.surrogate.augment.shift=1.0",
        "train.surrogate.rates.sparsity=1e-6",
        "train.surrogate.held_out=40",
        "train.surrogate.patience=1",
        "train.surrogate.epochs=300",
    ];
    let summary = summary(folder.path(), SURROGATE, &set);
    // Leak of two populations and threshold of the hidden one.
    assert_eq!(summary["parameters"]["trained"], 784 * 40 + 40 * 10 + 10 + 3);
    let metrics =
        std::fs::read_to_string(run_directory(folder.path(), "small").join("metrics.jsonl")).unwrap();
    assert!(metrics.matches("held out").count() < 100, "it stops when nothing gets better");
}

#[test]
fn checkpoints_in_time_take_less_memory() {
    let folder = tempfile::tempdir().unwrap();
    let steps = "encode.constant.steps=100";
    let bytes = |checkpoint: &str| {
        let mut command = ransnn(folder.path());
        command.arg("plan").arg(write(folder.path(), SURROGATE)).args(["--json", "--set", steps]);
        command.args(["--set", &format!("train.surrogate.checkpoint={checkpoint}")]);
        let plan: Value = serde_json::from_str(&outcome(command, 0).0).unwrap();
        plan["training"]["activation_bytes"].as_u64().unwrap()
    };
    let [all, sqrt, every] = ["none", "sqrt", "{every=10}"].map(bytes);
    assert!(sqrt * 2 < all && sqrt == every, "{all} {sqrt} {every}");
    let set = ["train.surrogate.checkpoint=sqrt", "data.train_limit=600"];
    let parts = summary(folder.path(), SURROGATE, &set);
    let whole = summary(folder.path(), SURROGATE, &set[1..]);
    assert!(accuracy(&parts) > 0.7 && (accuracy(&parts) - accuracy(&whole)).abs() < 0.03, "{parts}");
}

#[test]
fn mistakes_of_the_surrogate_table_have_a_place_and_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    for (set, says) in [
        (&["train.surrogate.output=outptu"][..], &["no population `outptu`", "did you mean `output`?"][..]),
        (&["train.surrogate.lr=0.0"], &["`train.surrogate.lr` is 0", "more than 0"]),
        (&["train.surrogate.batch=0"], &["`train.surrogate.batch` is 0", "at least 1"]),
        (&["train.surrogate.checkpoint=sqrd"], &["unknown choice `sqrd`", "did you mean `sqrt`?"]),
        (&["train.surrogate.checkpoint={every=0}"], &["checkpoint.every` is 0", "at least 1"]),
        (
            &["train.surrogate.checkpoint=sqrt", "train.surrogate.rates.lower=1.0"],
            &["`rates` needs all steps at once", "leave it out"],
        ),
        (
            &[
                "train.surrogate.checkpoint=sqrt",
                "train.surrogate.gradient=ottt",
                "train.surrogate.loss=ce-membrane",
            ],
            &["`checkpoint` cannot be as it is", "gradient = \"bptt\""],
        ),
        (&["train.surrogate.los=ce-count"], &["unknown key `los`", "did you mean `loss`?"]),
        (&["train.surrogate.loss=ce-cuont"], &["unknown choice `ce-cuont`", "did you mean `ce-count`?"]),
        (&["train.surrogate.patience=2"], &["nothing is held out", "held_out = 5000"]),
        (&["projection.first.precision=int8"], &["`first` learns, and 8-bit integers cannot", "f32"]),
        (&["projection.second.to=pixels"], &["`second` learns, and only what projects to `lif`"]),
        (
            &["projection.first.frozen=true", "projection.second.frozen=true"],
            &["nothing can be trained", "`frozen = false`"],
        ),
        (
            &["population.pixels.shape=784", "train.surrogate.augment.shift=1.0"],
            &["only images can be moved", "[channels, height, width]"],
        ),
        (&["features.from=[\"hidden\"]"], &["no features are recorded", "train.surrogate.output"]),
    ] {
        mistake(folder.path(), SURROGATE, set, says);
    }
    let large = ["train.surrogate.batch=400"];
    let (_, err) = verb(folder.path(), "run", SURROGATE, &large, 1);
    assert!(err.contains("mini-batch is 400") && err.contains("300 samples"), "{err}");
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

/// What must not differ between equal runs: the model, and the metrics without their times.
fn result(run: &Path) -> (Vec<u8>, Vec<Value>) {
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = metrics.lines().map(|line| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        value.as_object_mut().unwrap().remove("t");
        value
    });
    (std::fs::read(run.join("model-0.safetensors")).unwrap(), lines.collect())
}

/// Starts a run, stops it when a checkpoint is there, resumes it, and compares it with one that was never stopped.
#[cfg(unix)]
fn stops_and_goes_on(text: &str, set: &[&str], checkpoint: &str) {
    let whole = tempfile::tempdir().unwrap();
    verb(whole.path(), "run", text, set, 0);
    let expected = result(&run_directory(whole.path(), "small"));
    for signal in ["-INT", "-KILL"] {
        let folder = tempfile::tempdir().unwrap();
        let file = write(folder.path(), text);
        let mut command = Command::new(env!("CARGO_BIN_EXE_ransnn"));
        isolate(folder.path(), |key, value| {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        });
        command.arg("run").arg(&file).args(["--threads", "1"]).current_dir(folder.path());
        set.iter().for_each(|set| _ = command.args(["--set", set]));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let begun = Instant::now();
        while !folder.path().join("runs/small/latest").join(checkpoint).is_file() {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it wrote {checkpoint}");
            assert!(begun.elapsed() < Duration::from_secs(120), "no {checkpoint}");
            std::thread::sleep(Duration::from_millis(2));
        }
        let run = run_directory(folder.path(), "small");
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let code = child.wait().unwrap().code();
        assert_eq!(code, if signal == "-INT" { Some(130) } else { None });
        assert!(!run.join("model-0.safetensors").exists(), "it was stopped in time");
        let mut resume = ransnn(folder.path());
        resume.arg("run").arg(&file).args(["--resume", run.to_str().unwrap()]);
        set.iter().for_each(|set| _ = resume.args(["--set", set]));
        outcome(resume, 0);
        assert!(result(&run) == expected, "{signal}");
    }
}

#[cfg(unix)]
#[test]
fn a_surrogate_training_that_was_stopped_ends_as_if_it_had_not_been() {
    let set = [
        "train.surrogate.epochs=40",
        "train.surrogate.held_out=60",
        "train.surrogate.dropout=0.1",
        "train.surrogate.schedule=cosine",
        "run.checkpoint_every=7",
    ];
    stops_and_goes_on(SURROGATE, &set, "checkpoints/surrogate-0.safetensors");
    let frozen =
        [&set[..], &["projection.first.frozen=true", "projection.first.gain={rms-drive=0.7}"]].concat();
    stops_and_goes_on(SURROGATE, &frozen, "checkpoints/surrogate-0.safetensors");
}

#[test]
fn an_ordinary_network_is_trained_and_converted() {
    let folder = tempfile::tempdir().unwrap();
    for set in [
        &["train.convert.thresholds.percentile.percent=99.9"][..],
        &["train.convert.thresholds=least-squares", "train.convert.correct_bias=true"],
    ] {
        let summary = summary(folder.path(), CONVERT, &[&["data.train_limit=600"], set].concat());
        assert!(accuracy(&summary) > 0.7, "{summary}");
        assert_eq!(
            summary["parameters"],
            serde_json::json!({"trained": 784 * 40 + 40 + 400 + 10, "frozen": 0})
        );
        let details = summary["details"].as_array().unwrap();
        let says = |part: &str| details.iter().any(|line| line.as_str().unwrap().contains(part));
        assert!(says("ordinary network: ") && says("layer 1: rates are off by"), "{details:?}");
        let run = run_directory(folder.path(), "small");
        let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let lines: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let at: Vec<u64> = lines.iter().filter_map(|line| line["time_steps"].as_u64()).collect();
        assert_eq!(at, [2, 4, 16]);
        assert!(lines.iter().any(|line| line["rate_error"].is_number()));
        let last = lines.iter().rfind(|line| line["time_steps"] == 16).unwrap();
        assert_eq!(last["accuracy"], summary["test"]["accuracy"]);
        let gap = last["ann_accuracy"].as_f64().unwrap() - accuracy(&summary);
        assert!(gap < 0.05, "{gap}");
        assert!(std::fs::read_to_string(run.join("report.html")).unwrap().contains("Accuracy against time"));
        // The ordinary network can be read again.
        let ann = ransnn::tensor::safetensors::File::open(&run.join("ann-0.safetensors")).unwrap();
        assert_eq!(ann.tensor("1.weight").unwrap().shape(), [40, 784]);
    }
}

#[test]
fn a_ransnn_is_converted() {
    let folder = tempfile::tempdir().unwrap();
    let text = CONVERT
        .replace(
            "fit.gradient = { lr = 5e-3, batch = 20, epochs = 5 }",
            "fit.ridge = {}\nthresholds = \"qcfs\"",
        )
        .replace("steps = 16", "steps = 8")
        .replace("outputs = 40", "outputs = 200")
        .replace("\"relu\"", "\"qcfs\"");
    let summary = summary(folder.path(), &text, &["data.train_limit=1200"]);
    assert!(accuracy(&summary) > 0.7, "{summary}");
    let frozen = 784 * 200 + 200 + 1;
    assert_eq!(summary["parameters"], serde_json::json!({"trained": 2010, "frozen": frozen}));
    mistake(
        folder.path(),
        &text.replace(
            "kind = \"qcfs\"\n[[train.convert.layer]]\nkind    = \"linear\"\noutputs = 10",
            "kind = \"qcfs\"",
        ),
        &[],
        &["must end with a linear layer"],
    );
}

#[test]
fn mistakes_of_the_convert_table_have_a_place_and_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    for (set, says) in [
        (
            &["train.convert.fit={gradeint={}}"][..],
            &["unknown choice `gradeint`", "did you mean `gradient`?"][..],
        ),
        (&["train.convert.fit.gradient.batch=0"], &["batch` is 0", "at least 1"]),
        (&["train.convert.start=1.0"], &["`train.convert.start` is 1", "from 0 to below 1"]),
        (
            &["train.convert.input=[28,28]"],
            &["`train.convert.input` is [28, 28]", "[channels, height, width]"],
        ),
        (&["encode={poisson={steps=8}}"], &["converted networks take constant currents", "encode.constant"]),
        (&["features.from=[\"hidden\"]"], &["makes its own network", "remove `[features]`"]),
        (&["train.convert.thresholds=qcfs"], &["has no trained threshold"]),
    ] {
        mistake(folder.path(), CONVERT, set, says);
    }
    let max = CONVERT.replace(
        "kind = \"flatten\"",
        "kind = \"max-pool\"\nside = 2\n[[train.convert.layer]]\nkind = \"flatten\"",
    );
    mistake(folder.path(), &max, &[], &["layer `0` cannot be converted"]);
    let (_, err) = verb(folder.path(), "run", CONVERT, &["train.convert.input=[1,20,20]"], 1);
    assert!(err.contains("`train.convert.input` is 400 values") && err.contains("784 of strokes"), "{err}");
    let none = CONVERT.replace("[encode.constant]\nsteps = 16", "");
    mistake(folder.path(), &none, &[], &["the key `encode` is missing", "encode.constant"]);
}

#[test]
fn a_network_learns_without_labels() {
    let folder = tempfile::tempdir().unwrap();
    for set in
        [&["train.stdp.constants=original", "train.stdp.labels=all-activity"][..], &["train.stdp.batch=4"]]
    {
        let summary = summary(folder.path(), STDP, &[&["data.train_limit=600"], set].concat());
        // Few samples for this network; a tenth would be chance.
        assert!(accuracy(&summary) > 0.3, "{summary}");
        assert!(summary["spikes"]["per_sample"].as_f64().unwrap() > 1.0);
        let run = run_directory(folder.path(), "small");
        let page = std::fs::read_to_string(run.join("report.html")).unwrap();
        assert!(page.contains("neurons have learnt") && page.contains("data:image/png;base64"), "filters");
        let labels: Value =
            serde_json::from_slice(&std::fs::read(run.join("labels-0.json")).unwrap()).unwrap();
        assert_eq!(labels["assigned"].as_array().unwrap().len(), 60);
        assert_eq!(summary["parameters"]["trained"], 784 * 60 + 60);
    }
    for (set, says) in [
        (
            &["train.stdp.constants=orignal"][..],
            &["unknown choice `orignal`", "did you mean `original`?"][..],
        ),
        (&["train.stdp.neurons=0"], &["`train.stdp.neurons` is 0", "at least 1"]),
        (&["encode.constant.steps=8"], &["encodes samples in its own way", "remove it"]),
        (
            &["population.extra={shape=3,neuron=\"input\"}"],
            &["makes its own network", "remove `[population]`"],
        ),
    ] {
        mistake(folder.path(), STDP, set, says);
    }
    let (out, _) = verb(folder.path(), "plan", STDP, &[], 0);
    assert!(out.contains("excitatory"), "{out}");
}

#[cfg(unix)]
#[test]
fn a_readout_that_was_stopped_ends_as_if_it_had_not_been() {
    let set =
        ["train.stdp-readout.epochs=200", "train.stdp-readout.schedule=cosine", "run.checkpoint_every=7"];
    stops_and_goes_on(READOUT, &set, "checkpoints/stdp-readout-0.safetensors");
}

#[test]
fn a_flipped_bit_in_a_checkpoint_is_noticed() {
    for (text, name) in
        [(SURROGATE, "surrogate"), (READOUT, "stdp-readout"), (CONVERT, "convert"), (STDP, "stdp")]
    {
        let folder = tempfile::tempdir().unwrap();
        verb(folder.path(), "run", text, &["run.checkpoint_every=5"], 0);
        let run = run_directory(folder.path(), "small");
        let checkpoint = run.join(format!("checkpoints/{name}-0.safetensors"));
        let mut bytes = std::fs::read(&checkpoint).unwrap();
        *bytes.last_mut().unwrap() ^= 4;
        std::fs::write(&checkpoint, bytes).unwrap();
        // As if it had been stopped before its end.
        for entry in std::fs::read_dir(run.join("checkpoints")).unwrap() {
            let path = entry.unwrap().path();
            if path != checkpoint {
                std::fs::remove_file(path).unwrap();
            }
        }
        let mut resume = ransnn(folder.path());
        resume.arg("run").arg(write(folder.path(), text)).args(["--resume", run.to_str().unwrap()]);
        resume.args(["--set", "run.checkpoint_every=5"]);
        let (_, err) = outcome(resume, 1);
        let says = "does not have the SHA-256 that it states";
        assert!(err.contains(says) && err.contains(&format!("{name}-0.safetensors")), "{err}");
    }
}

#[cfg(unix)]
#[test]
fn conversion_and_stdp_that_were_stopped_end_as_if_they_had_not_been() {
    let epochs = ["train.convert.fit.gradient.epochs=60", "train.convert.fit.gradient.augment.shift=1.0"];
    stops_and_goes_on(CONVERT, &epochs, "checkpoints/convert-0.safetensors");
    let set = ["run.checkpoint_every=20", "train.stdp.passes=2"];
    stops_and_goes_on(STDP, &set, "checkpoints/stdp-0.safetensors");
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
