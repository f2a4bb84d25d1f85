//! The experiments of the repository, and the documentation of every key.

use ransnn::experiment::{annotate, check, config::Config, diagnose::Source, plan, simulate};
use std::path::{Path, PathBuf};

fn toml_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            toml_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            found.push(path);
        }
    }
}

fn experiments() -> Vec<(String, Config)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("mnist.toml")];
    toml_files(&root.join("experiments"), &mut files);
    // Fine-tuning and simulations have schemas of their own.
    files.retain(|path| {
        !["peft", "sim"].iter().any(|own| path.starts_with(root.join("experiments").join(own)))
    });
    files.sort();
    assert!(files.len() > 5);
    let load = |path: PathBuf| {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).expect("text");
        let config = Source::new(&name, &text, &[]).and_then(|source| check::load(&source));
        (name, config.expect("it is right"))
    };
    files.into_iter().map(load).collect()
}

#[test]
fn every_fine_tuning_is_right() {
    let mut files = vec![];
    toml_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/peft"), &mut files);
    assert!(!files.is_empty());
    for path in files {
        let text = std::fs::read_to_string(&path).expect("text");
        let source = Source::new(&path.display().to_string(), &text, &[]).expect("parses");
        let config = ransnn::experiment::peft::config::Config::load(&source).expect("it is right");
        let again =
            Source::new("resolved", &ransnn::document::text(&config).expect("TOML"), &[]).expect("parses");
        assert_eq!(ransnn::experiment::peft::config::Config::load(&again).expect("it is right"), config);
    }
}

fn simulations() -> Vec<(String, simulate::Config)> {
    let mut files = vec![];
    toml_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/sim"), &mut files);
    assert!(files.len() > 5);
    let load = |path: PathBuf| {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(simulate::describes(&text), "{name}");
        let config = Source::new(&name, &text, &[]).and_then(|source| simulate::check::load(&source));
        (name, config.expect("it is right"))
    };
    files.into_iter().map(load).collect()
}

#[test]
fn every_simulation_can_be_planned_read_back_and_is_documented() {
    for (name, config) in simulations() {
        let plan = simulate::plan::of(&config).expect("it can be built");
        assert!(plan.neurons > 0 && plan.synapses > 0 && plan.bytes > plan.synapses, "{name}");
        let text = annotate::annotated(&config);
        assert!(simulate::describes(&text));
        let again = Source::new("resolved", &text, &[]).and_then(|source| simulate::check::load(&source));
        assert_eq!(again.expect("resolved text is right"), config, "{name}");
        documented(&name, &text);
    }
}

/// Every line with a key says what it is.
fn documented(name: &str, text: &str) {
    let keys = text.lines().filter(|line| !line.starts_with('[') && line.contains(" = "));
    for line in keys {
        assert!(line.contains("  # "), "{name}: `{line}` has no documentation");
    }
}

#[test]
fn every_experiment_can_be_planned_and_read_back() {
    for (name, config) in experiments() {
        let plan = plan::of(&config).expect("it can be built");
        assert!(plan.features > 0, "{name}");
        let text = annotate::annotated(&config);
        let again = Source::new("resolved", &text, &[]).and_then(|source| check::load(&source));
        assert_eq!(again.expect("resolved text is right"), config, "{name}");
    }
}

#[test]
fn every_key_of_a_resolved_configuration_is_documented() {
    for (name, config) in experiments() {
        documented(&name, &annotate::annotated(&config));
    }
}

/// A value that the schema takes at each documented key is not known here; but a key that it does not know is
/// reported as such, whatever its value.
#[test]
fn every_documented_key_is_known_to_the_schema() {
    known::<Config>("experiments/strokes.toml", &mut annotate::all());
    known::<simulate::Config>("experiments/sim/two-populations.toml", &mut simulate::KEYS.iter());
}

fn known<C: serde::de::DeserializeOwned>(file: &str, keys: &mut dyn Iterator<Item = &(&str, &str)>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(root).expect("text");
    let unknown =
        |key: &str| match Source::new("x", &text, &[format!("{key}=true")]).and_then(|s| s.parse_as::<C>()) {
            Ok(_) => false,
            Err(ransnn::Error::Config { problems, .. }) => {
                problems.iter().any(|problem| problem.message.starts_with("unknown"))
            }
            Err(error) => panic!("{error}"),
        };
    assert!(unknown("run.bogus"));
    for (key, _) in keys {
        if key.starts_with("sweep.") {
            continue;
        }
        let key = key.replace('*', "new");
        assert!(!unknown(&key), "`{key}` is documented, but the schema does not know it");
    }
}
