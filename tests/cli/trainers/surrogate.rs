//! Training by surrogate gradients from an experiment file.

use super::{CONVERT, READOUT, SURROGATE, accuracy, mistake, summary, verb, write};
use crate::{outcome, ransnn, run_directory};
use serde_json::Value;

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
fn time_constants_16_bits_and_a_loss_of_each_step() {
    let folder = tempfile::tempdir().unwrap();
    let set = [
        "train.surrogate.learn_tau=true",
        "train.surrogate.storage=bf16",
        "train.surrogate.loss.tet.lambda=0.1",
        "population.output.neuron.lif={beta=0.5, dialect='spikingjelly'}",
    ];
    let summary = summary(folder.path(), SURROGATE, &set);
    assert_eq!(summary["parameters"]["trained"], 784 * 40 + 40 * 10 + 10 + 2);
    let bytes = |storage: &str| {
        let mut json = ransnn(folder.path());
        let storage = format!("train.surrogate.storage={storage}");
        let set = ["--json", "--set", &storage, "--set", "encode.constant.steps=200"];
        json.arg("plan").arg(write(folder.path(), SURROGATE)).args(set);
        let plan: Value = serde_json::from_str(&outcome(json, 0).0).unwrap();
        plan["training"]["activation_bytes"].as_u64().unwrap()
    };
    // Two bytes of four for each potential, of 50 neurons, 200 steps and 20 samples.
    assert!(bytes("f32") - bytes("bf16") >= 2 * 50 * 200 * 20);
    let derivatives = [
        "arctan",
        "fast-sigmoid",
        "sigmoid",
        "triangle",
        "scaled-triangle",
        "boxcar",
        "leaky-boxcar",
        "exponential",
        "soft-sign",
        "gaussian",
        "signed-step",
    ];
    for derivative in derivatives {
        let set = format!("train.surrogate.surrogate={{{derivative}={{}}}}");
        verb(folder.path(), "plan", SURROGATE, &[&set], 0);
    }
    for (set, says) in [
        (&["train.surrogate.loss.tet.lambda=1.5"][..], &["loss.tet.lambda", "from 0 to 1"][..]),
        (
            &["train.surrogate.learn_tau=true", "train.surrogate.learn_beta=true"],
            &["`learn_beta` is the same number", "leave out one"],
        ),
        (
            &["train.surrogate.surrogate={scaled-triangle={threshold=0.0}}"],
            &["scaled-triangle.threshold", "more than 0"],
        ),
        (
            &["train.surrogate.surrogate={leaky-boxcar={outside=-1.0}}"],
            &["leaky-boxcar.outside", "0 or more"],
        ),
        (
            &[
                "train.surrogate.gradient=ottt",
                "train.surrogate.loss=ce-rate",
                "train.surrogate.storage=bf16",
            ],
            &["`storage` cannot be as it is"],
        ),
    ] {
        mistake(folder.path(), SURROGATE, set, says);
    }
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
