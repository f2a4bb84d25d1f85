//! The experiments that `ransnn init` writes for somebody who has only the binary.

macro_rules! experiments {
    ($($name:literal)*) => {
        &[
            ("mnist", "mnist.toml", include_str!("../../mnist.toml")),
            $((
                $name,
                concat!("experiments/", $name, ".toml"),
                include_str!(concat!("../../experiments/", $name, ".toml")),
            ),)*
        ]
    };
}

/// Name, path relative to the repository, and text of each.
pub const EXPERIMENTS: &[(&str, &str, &str)] = experiments![
    "fashion"
    "events"
    "reservoir"
    "strokes"
    "ladder/mnist-1"
    "ladder/mnist-2"
    "ladder/mnist-3"
    "ladder/mnist-4"
    "ladder/mnist-5"
    "ladder/mnist-7"
    "ladder/fashion-1"
    "trainers/ransnn-ridge"
    "trainers/ransnn-adam"
    "trainers/ransnn-surrogate-readout"
    "trainers/ransnn-stdp-supervised"
    "trainers/ransnn-stdp-reward"
    "trainers/ransnn-convert"
    "trainers/surrogate-mlp-mnist"
    "trainers/surrogate-mlp-fashion"
    "trainers/surrogate-conv-mnist"
    "trainers/surrogate-events"
    "trainers/surrogate-recurrent-events"
    "trainers/surrogate-eprop-mnist"
    "trainers/surrogate-ottt-mnist"
    "trainers/convert-mnist"
    "trainers/stdp-mnist"
    "paper/mnist"
    "paper/fashion"
    "paper/sweep-beta"
    "paper/sweep-width"
    "paper/sweep-steps"
    "paper/sweep-weights"
    "paper/sweep-uniform"
    "paper/sweep-mean"
    "paper/sweep-shift"
    "sim/vogels-abbott-cuba"
    "sim/vogels-abbott-coba"
    "sim/brunel-ai"
    "sim/brunel-sr"
    "sim/brunel-si-fast"
    "sim/brunel-si-slow"
    "sim/microcircuit"
    "sim/feedforward"
    "sim/stdp"
    "sim/two-populations"
    "peft/shakespeare"
    "peft/shakespeare-small"
    "peft/compare/full"
    "peft/compare/lora"
    "peft/compare/lora-ga"
    "peft/compare/boft"
    "peft/compare/urnn"
    "peft/compare/hybrid"
    "peft/minilm/full"
    "peft/minilm/lora"
    "peft/minilm/lora-ga"
    "peft/minilm/boft"
    "peft/minilm/urnn"
    "peft/minilm/hybrid"
];

/// Descriptions of models that experiments begin from nothing with: where those name them, and text.
pub const MODELS: &[(&str, &str)] = &[
    ("experiments/peft/shakespeare.json", include_str!("../../experiments/peft/shakespeare.json")),
    (
        "experiments/peft/shakespeare-small.json",
        include_str!("../../experiments/peft/shakespeare-small.json"),
    ),
];

/// The first comment line of an experiment file.
pub fn about(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_start_matches('#').trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_experiment_is_built_in() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for folder in [
            ".",
            "experiments",
            "experiments/ladder",
            "experiments/paper",
            "experiments/peft",
            "experiments/peft/compare",
            "experiments/peft/minilm",
            "experiments/sim",
            "experiments/trainers",
        ] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                let file = entry.unwrap().file_name().into_string().unwrap();
                let path = if folder == "." { file.clone() } else { format!("{folder}/{file}") };
                if file.ends_with(".toml")
                    && !["Cargo.toml", "rustfmt.toml", "clippy.toml"].contains(&file.as_str())
                {
                    assert!(EXPERIMENTS.iter().any(|(_, known, _)| *known == path), "{path}");
                }
                if file.ends_with(".json") {
                    let named = |text: &str| text.contains(&format!("\"{path}\""));
                    assert!(MODELS.iter().any(|(known, _)| *known == path), "{path}");
                    assert!(EXPERIMENTS.iter().any(|(.., text)| named(text)), "{path}");
                }
            }
        }
        assert!(EXPERIMENTS.iter().all(|(_, _, text)| text.starts_with("# ")));
    }
}
