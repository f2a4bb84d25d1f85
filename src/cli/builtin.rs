//! The experiments that `ransnn init` writes for somebody who has only the binary.

/// Name, path relative to the repository, and text of each.
pub const EXPERIMENTS: &[(&str, &str, &str)] = &[
    ("mnist", "mnist.toml", include_str!("../../mnist.toml")),
    ("fashion", "experiments/fashion.toml", include_str!("../../experiments/fashion.toml")),
    (
        "ladder/mnist-1",
        "experiments/ladder/mnist-1.toml",
        include_str!("../../experiments/ladder/mnist-1.toml"),
    ),
    (
        "ladder/mnist-2",
        "experiments/ladder/mnist-2.toml",
        include_str!("../../experiments/ladder/mnist-2.toml"),
    ),
    (
        "ladder/mnist-3",
        "experiments/ladder/mnist-3.toml",
        include_str!("../../experiments/ladder/mnist-3.toml"),
    ),
    (
        "ladder/mnist-4",
        "experiments/ladder/mnist-4.toml",
        include_str!("../../experiments/ladder/mnist-4.toml"),
    ),
    (
        "ladder/mnist-5",
        "experiments/ladder/mnist-5.toml",
        include_str!("../../experiments/ladder/mnist-5.toml"),
    ),
    (
        "ladder/mnist-7",
        "experiments/ladder/mnist-7.toml",
        include_str!("../../experiments/ladder/mnist-7.toml"),
    ),
    ("strokes", "experiments/strokes.toml", include_str!("../../experiments/strokes.toml")),
    (
        "trainers/surrogate-mlp-mnist",
        "experiments/trainers/surrogate-mlp-mnist.toml",
        include_str!("../../experiments/trainers/surrogate-mlp-mnist.toml"),
    ),
    (
        "trainers/surrogate-mlp-fashion",
        "experiments/trainers/surrogate-mlp-fashion.toml",
        include_str!("../../experiments/trainers/surrogate-mlp-fashion.toml"),
    ),
    (
        "trainers/ransnn-surrogate-readout",
        "experiments/trainers/ransnn-surrogate-readout.toml",
        include_str!("../../experiments/trainers/ransnn-surrogate-readout.toml"),
    ),
    (
        "trainers/ransnn-ridge",
        "experiments/trainers/ransnn-ridge.toml",
        include_str!("../../experiments/trainers/ransnn-ridge.toml"),
    ),
    (
        "trainers/ransnn-adam",
        "experiments/trainers/ransnn-adam.toml",
        include_str!("../../experiments/trainers/ransnn-adam.toml"),
    ),
    (
        "trainers/convert-mnist",
        "experiments/trainers/convert-mnist.toml",
        include_str!("../../experiments/trainers/convert-mnist.toml"),
    ),
    (
        "trainers/ransnn-convert",
        "experiments/trainers/ransnn-convert.toml",
        include_str!("../../experiments/trainers/ransnn-convert.toml"),
    ),
    (
        "trainers/stdp-mnist",
        "experiments/trainers/stdp-mnist.toml",
        include_str!("../../experiments/trainers/stdp-mnist.toml"),
    ),
    ("paper/mnist", "experiments/paper/mnist.toml", include_str!("../../experiments/paper/mnist.toml")),
    ("paper/fashion", "experiments/paper/fashion.toml", include_str!("../../experiments/paper/fashion.toml")),
    (
        "paper/sweep-beta",
        "experiments/paper/sweep-beta.toml",
        include_str!("../../experiments/paper/sweep-beta.toml"),
    ),
    (
        "paper/sweep-width",
        "experiments/paper/sweep-width.toml",
        include_str!("../../experiments/paper/sweep-width.toml"),
    ),
    (
        "paper/sweep-steps",
        "experiments/paper/sweep-steps.toml",
        include_str!("../../experiments/paper/sweep-steps.toml"),
    ),
    (
        "paper/sweep-weights",
        "experiments/paper/sweep-weights.toml",
        include_str!("../../experiments/paper/sweep-weights.toml"),
    ),
    (
        "sim/vogels-abbott-cuba",
        "experiments/sim/vogels-abbott-cuba.toml",
        include_str!("../../experiments/sim/vogels-abbott-cuba.toml"),
    ),
    (
        "sim/vogels-abbott-coba",
        "experiments/sim/vogels-abbott-coba.toml",
        include_str!("../../experiments/sim/vogels-abbott-coba.toml"),
    ),
    ("sim/brunel-ai", "experiments/sim/brunel-ai.toml", include_str!("../../experiments/sim/brunel-ai.toml")),
    ("sim/brunel-sr", "experiments/sim/brunel-sr.toml", include_str!("../../experiments/sim/brunel-sr.toml")),
    (
        "sim/brunel-si-fast",
        "experiments/sim/brunel-si-fast.toml",
        include_str!("../../experiments/sim/brunel-si-fast.toml"),
    ),
    (
        "sim/brunel-si-slow",
        "experiments/sim/brunel-si-slow.toml",
        include_str!("../../experiments/sim/brunel-si-slow.toml"),
    ),
    (
        "sim/microcircuit",
        "experiments/sim/microcircuit.toml",
        include_str!("../../experiments/sim/microcircuit.toml"),
    ),
    (
        "sim/feedforward",
        "experiments/sim/feedforward.toml",
        include_str!("../../experiments/sim/feedforward.toml"),
    ),
    ("sim/stdp", "experiments/sim/stdp.toml", include_str!("../../experiments/sim/stdp.toml")),
    (
        "sim/two-populations",
        "experiments/sim/two-populations.toml",
        include_str!("../../experiments/sim/two-populations.toml"),
    ),
];

/// The first comment line of an experiment file.
pub fn about(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_start_matches('#').trim()
}
