//! Loops and delays from an experiment file: a recurrent net in training, a recurrent reservoir with a readout, mistakes.

use crate::trainers::{SURROGATE, accuracy, mistake, summary, verb};
use serde_json::json;

/// [`SURROGATE`] with a hidden population that hears itself and comes late to an output that integrates.
fn recurrent() -> String {
    let around = "[projection.around]\nfrom = \"hidden\"\nto = \"hidden\"\ndelay_ms = 1.0\nweights = \"kaiming-uniform\"\nfrozen = false\n";
    SURROGATE
        .replace("[projection.second]", &format!("{around}[projection.second]\ndelay_ms = 2.0"))
        .replace(
            "shape      = 10\nneuron.lif = { beta = 0.9 }",
            "shape      = 10\nneuron.lif = { beta = 0.9, reset = \"none\" }",
        )
        .replace("output = \"output\"", "output = \"output\"\nloss = \"ce-membrane-last\"")
}

/// 784 - 300 that are connected at random and keep their weights.
const RESERVOIR: &str = r#"
[encode.poisson]
steps       = 20
max_rate_hz = 300.0
[population.pixels]
shape  = [1, 28, 28]
neuron = "input"
[population.reservoir]
shape      = 300
neuron.lif = { beta = 0.9 }
[projection.in]
from    = "pixels"
to      = "reservoir"
weights.normal   = { std = 1.0 }
zero_mean        = true
gain.firing-rate = 0.1
[projection.around]
from     = "reservoir"
to       = "reservoir"
delay_ms = 2.0
connect.fixed-in-degree = { k = 20 }
weights.uniform  = { low = 0.0, high = 0.2 }
excitatory_share = 0.8
[features]
from = ["reservoir"]
[train.ransnn.solver.ridge]
lambda = [10.0]
"#;

#[test]
fn a_recurrent_net_is_trained_and_the_engine_counts_its_spikes() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["data.train_limit=600"];
    for set in [
        &[][..],
        &["projection.around.delay_ms=3.0"],
        &["population.hidden.neuron={alif={beta=0.9,tau_adaptation_ms=20.0,adaptation=0.3}}"],
        &["population.hidden.neuron={synaptic={tau_syn_ms=2.0,beta=0.9}}"],
    ] {
        let summary = summary(folder.path(), &recurrent(), &[&more, set].concat());
        assert!(accuracy(&summary) > 0.6, "{set:?}: {summary}");
        let trained = 784 * 40 + 40 * 40 + 40 * 10 + 10;
        assert_eq!(summary["parameters"], json!({"trained": trained, "frozen": 0}));
        let agreement = summary["notices"].as_array().map_or(0, |notices| {
            notices.iter().filter(|n| n.as_str().is_some_and(|n| n.contains("differ"))).count()
        });
        assert_eq!(agreement, 0, "{summary}");
    }
}

#[test]
fn a_random_recurrent_reservoir_has_a_readout() {
    let folder = tempfile::tempdir().unwrap();
    let with = summary(folder.path(), RESERVOIR, &["data.train_limit=600"]);
    assert!(accuracy(&with) > 0.4, "{with}");
    assert_eq!(with["parameters"]["frozen"], json!(784 * 300 + 300 * 20));
    // What comes back changes what is counted.
    let quiet =
        summary(folder.path(), RESERVOIR, &["data.train_limit=600", "projection.around.gain.fixed=0.0"]);
    assert_ne!(with["spikes"]["per_sample"], quiet["spikes"]["per_sample"]);
    let plan = verb(folder.path(), "plan", RESERVOIR, &[], 0).0;
    assert!(plan.contains("around"), "{plan}");
}

#[test]
fn mistakes_of_loops_and_delays_have_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let recurrent = recurrent();
    for (text, set, says) in [
        (
            recurrent.as_str(),
            "projection.around.delay_ms=0.0",
            &["`projection.around.delay_ms` is 0", "more than 0"][..],
        ),
        (
            recurrent.as_str(),
            "projection.around.delay_ms=0.5",
            &["delay is 0.5 ms", "at least the time step, 1 ms"],
        ),
        (
            recurrent.as_str(),
            "projection.around.delay_ms=1.5",
            &["delay is 1.5 ms", "multiple of the time step"],
        ),
        (
            recurrent.as_str(),
            "projection.first.delay_ms=1.0",
            &["`first` carries a constant current", "encode.poisson"],
        ),
        (
            recurrent.as_str(),
            "train.surrogate.checkpoint=sqrt",
            &[
                "`checkpoint` does not go with the delay of `second`",
                "leave out `train.surrogate.checkpoint`",
            ],
        ),
        (
            recurrent.as_str(),
            "population.hidden.neuron={alif={beta=0.9,adaptation=-1.0}}",
            &["the leak of `hidden` is not given", "give `rho`", "adaptation` is -1", "0 or more"],
        ),
        (
            recurrent.as_str(),
            "population.hidden.neuron={synaptic={alpha=0.5,tau_syn_ms=3.0,beta=2.0}}",
            &["both `alpha` and `tau_syn_ms` are given", "beta` is 2"],
        ),
        (RESERVOIR, "projection.around.delay=1.0", &["unknown key `delay`", "`delay_ms`"]),
    ] {
        mistake(folder.path(), text, &[set], says);
    }
    let endless = recurrent.replace("delay_ms = 1.0\n", "");
    mistake(folder.path(), &endless, &[], &["hidden → hidden is a cycle without a delay"]);
}
