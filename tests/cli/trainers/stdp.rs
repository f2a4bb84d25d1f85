//! Training by the times of spikes from an experiment file: the network of Diehl & Cook, and readouts.

use super::{READOUT, STDP, accuracy, mistake, summary, verb};
use crate::run_directory;
use serde_json::Value;

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
