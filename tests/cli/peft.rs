//! `ransnn peft`: train, resume, judge, merge, show, plan.

use super::{outcome, ransnn, repository};

const FILE: &str = "schema = 1\nname = \"tiny\"\n[model]\npath = \"config.json\"\nrandom = true\n[data]\ntrain = \"text.txt\"\n\
                    tokenizer = \"bytes\"\nlength = 16\nvalidation_share = 0.2\n[adapt]\nmethod.lora = { rank = 2 }\n\
                    [train]\nsteps = 6\nbatch = 2\nlearning_rate = 0.01\n";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let config =
        std::fs::read_to_string(repository("tests/fixtures/models/llama3/config.json")).expect("there");
    let config = config.replace("\"vocab_size\": 40", "\"vocab_size\": 257");
    std::fs::write(folder.path().join("config.json"), config).expect("written");
    std::fs::write(folder.path().join("text.txt"), "to be or not to be, ".repeat(20)).expect("written");
    std::fs::write(folder.path().join("tiny.toml"), FILE).expect("written");
    folder
}

#[test]
fn from_a_file_to_a_merged_model() {
    let folder = folder();
    let at = |args: &[&str], code| {
        let mut command = ransnn(folder.path());
        command.arg("peft").args(args);
        outcome(command, code)
    };
    let (out, _) = at(&["train", "tiny.toml", "--json"], 0);
    let summary: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((summary["status"].as_str(), summary["steps"].as_u64()), (Some("done"), Some(6)));
    assert!(summary["after"]["loss"].as_f64() < summary["before"]["loss"].as_f64(), "{summary}");
    let run = "runs/tiny/latest";
    for file in ["summary.json", "report.html", "metrics.jsonl", "adapter/adapter_config.json"] {
        assert!(folder.path().join(run).join(file).is_file(), "{file}");
    }
    let (eval, _) = at(&["eval", run, "--json"], 0);
    let eval: serde_json::Value = serde_json::from_str(&eval).expect("JSON");
    let difference =
        eval["loss"].as_f64().expect("a number") - summary["after"]["loss"].as_f64().expect("a number");
    assert!(difference.abs() < 1e-6, "{eval}");
    at(&["merge", run, "--to", "merged"], 0);
    at(&["merge", run, "--to", "merged"], 1);
    let (shown, _) = at(&["show", "merged"], 0);
    assert!(shown.contains("2 blocks of 16 wide"), "{shown}");
    let (text, _) = at(&["generate", "merged", "to be", "--tokenizer", "bytes", "--tokens", "4"], 0);
    assert!(!text.is_empty());
}

#[test]
fn plans_and_refusals() {
    let folder = folder();
    let at = |args: &[&str], code| {
        let mut command = ransnn(folder.path());
        command.arg("peft").args(args);
        outcome(command, code)
    };
    let (plan, _) = at(&["plan", "llama3.1-8b", "--json"], 0);
    let plan: serde_json::Value = serde_json::from_str(&plan).expect("JSON");
    assert_eq!(plan["trained"].as_u64(), Some(20_971_520));
    assert!(at(&["plan", "llama9"], 1).1.contains("llama2-7b"));
    assert!(at(&["plan", "llama2-7b", "--method", "lorra"], 1).1.contains("did you mean `lora`?"));
    assert!(at(&["train", "tiny.toml", "--set", "train.stepz=3"], 1).1.contains("did you mean `steps`?"));
    assert!(at(&["train", "tiny.toml", "--set", "adapt.targets=[\"nothing\"]"], 1).1.contains("nothing"));
    let model = repository("tests/fixtures/models/hostile/index_traversal").display().to_string();
    assert!(at(&["generate", &model, "x"], 1).1.contains("not the name of a file in the folder"));
    let any = repository("tests/fixtures/models/llama3").display().to_string();
    assert!(at(&["eval", &any, "--task", "humaneval"], 1).1.contains("--allow-code-execution"));
}
