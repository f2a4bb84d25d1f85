//! `ransnn peft`: train, compare, resume, judge, merge, show, plan.

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
fn a_built_in_experiment_brings_its_model() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("text.txt"), "to be or not to be, ".repeat(40)).expect("written");
    let run = |args: &[&str], code| {
        let mut command = ransnn(folder.path());
        command.args(args);
        outcome(command, code)
    };
    let (path, _) = run(&["init", "peft/shakespeare-small", "--to", "a \"folder\""], 0);
    let path = path.trim();
    assert_eq!(path, "a \"folder\"/peft-shakespeare-small.toml");
    let set =
        ["data.train=text.txt", "data.length=32", "train.steps=3", "train.batch=2", "train.warmup_steps=1"];
    let set: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).collect();
    let (out, _) = run(&[&["peft", "train", path, "--json"], &set[..]].concat(), 0);
    let summary: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((summary["status"].as_str(), summary["steps"].as_u64()), (Some("done"), Some(3)));
    for verb in ["run", "plan", "config"] {
        let (_, err) = run(&[verb, path], 1);
        assert!(err.contains("describes fine-tuning") && err.contains("ransnn peft train"), "{verb}: {err}");
    }
    let (_, err) = run(&["init", "peft/shakespeare-small", "--to", "a \"folder\""], 1);
    assert!(err.contains("peft-shakespeare-small.json") && err.contains("never overwritten"), "{err}");
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
    // A question whose answer is anything, and a judge that is a script.
    let question = r#"{"question_id":1,"category":"any","turns":["to be?","or not?"]}"#;
    let problem = r#"{"task_id":"HumanEval/0","prompt":"def f():\n    return 1\n","test":"check = print","entry_point":"f","canonical_solution":""}"#;
    let judge = "grep -c question_id";
    for (name, text) in [("mt_bench/question.jsonl", question), ("humaneval/HumanEval.jsonl", problem)] {
        let path = folder.path().join("data").join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(path, text).expect("written");
    }
    let usual =
        ["eval", "merged", "--data", "data", "--tokenizer", "bytes", "--tokens", "4", "--json", "--task"];
    let eval = |more: &[&str]| -> serde_json::Value {
        serde_json::from_str(&at(&[&usual[..], more].concat(), 0).0).expect("JSON")
    };
    let rated = eval(&["mt-bench", "--judge", judge]);
    assert_eq!((&rated["mean"]["rating"], &rated["mean"]["turns"]), (&1.0.into(), &vec![1.0, 1.0].into()));
    let answers = |seed: &str| {
        eval(&["mt-bench", "--temperature", "1", "--seed", seed]);
        let text = std::fs::read_to_string(folder.path().join("answers.jsonl")).expect("written");
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["choices"].clone()
    };
    assert!(answers("1") == answers("1") && answers("1") != answers("2"));
    let several = ["--allow-code-execution", "--samples", "20", "--k", "1,5", "--temperature", "1"];
    let passes = || eval(&[&["humaneval"], &several[..]].concat());
    let found = passes();
    assert!(found["pass@1"].as_f64() <= found["pass@5"].as_f64() && found["pass@5"].is_number(), "{found}");
    assert_eq!(passes(), found);
    let refused = [&usual[..], &["humaneval"], &several[..3]].concat();
    assert!(at(&refused, 1).1.contains("all samples are the same"));
    let refused = |more: &[&str]| at(&[&usual[..], more].concat(), 1).1;
    assert!(refused(&["humaneval", "--k", "2"]).contains("from 1 to the number of samples, 1"));
    assert!(refused(&["gsm8k", "--samples", "2"]).contains("only HumanEval"));
    assert!(refused(&["gsm8k", "--judge", judge]).contains("only answers to MT-Bench"));
}

#[test]
fn a_new_head_is_trained_as_a_whole_and_not_adapted() {
    let folder = folder();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    let config =
        std::fs::read_to_string(repository("tests/fixtures/models/bert/config.json")).expect("there");
    write("config.json", &config.replace("\"vocab_size\": 40", "\"vocab_size\": 257"));
    write("text.tsv", &format!("sentence\tlabel\n{}", "aaaa\t0\nbbbb\t1\ncccc\t2\n".repeat(10)));
    let file = FILE.replace("random = true", "random = true\nlabels = 3");
    let file = file.replace("text.txt\"", "text.tsv\"\ntext = \"sentence\"\nlabel = \"label\"");
    write("tiny.toml", &file.replace("steps = 6", "steps = 40"));
    let mut command = ransnn(folder.path());
    command.args(["peft", "train", "tiny.toml", "--json"]);
    let summary: serde_json::Value = serde_json::from_str(&outcome(command, 0).0).expect("JSON");
    assert_eq!(summary["after"]["accuracy"].as_f64(), Some(1.0), "{summary}");
    let adapter = folder.path().join("runs/tiny/latest/adapter");
    let settings = std::fs::read_to_string(adapter.join("adapter_config.json")).expect("there");
    let settings: serde_json::Value = serde_json::from_str(&settings).expect("JSON");
    let head = serde_json::json!(["bert.pooler.dense", "classifier"]);
    assert_eq!((&settings["modules_to_save"], &settings["exclude_modules"]), (&head, &head));
    let mut command = ransnn(folder.path());
    command.args(["peft", "eval", "runs/tiny/latest", "--json"]);
    let eval: serde_json::Value = serde_json::from_str(&outcome(command, 0).0).expect("JSON");
    let difference = |name: &str| {
        (eval[name].as_f64().expect("a number") - summary["after"][name].as_f64().expect("a number")).abs()
    };
    assert!(difference("loss") < 1e-6, "{eval} {summary}");
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

#[test]
fn methods_side_by_side() {
    let folder = folder();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    let file = FILE.replace("validation_share = 0.2", "validation_share = 0.1\ntest_share = 0.1");
    let other = file.replace("\"tiny\"", "\"turned\"").replace("lora = { rank = 2 }", "boft = {}");
    let hybrid = "hybrid = { lora = { rank = 2 }, boft = { block = 4 } }";
    let both = file.replace("\"tiny\"", "\"both\"").replace("lora = { rank = 2 }", hybrid);
    for (name, text) in [("a.toml", &file), ("b.toml", &other), ("c.toml", &both)] {
        write(name, &text.replace("steps = 6", "steps = 4\nevaluate_every = 2"));
    }
    let at = |args: &[&str], code| {
        let mut command = ransnn(folder.path());
        command.args(["peft", "compare"]).args(args);
        outcome(command, code)
    };
    let usual = ["a.toml", "b.toml", "c.toml", "--learning-rates", "0.01,0.03", "--seeds", "0,1", "--json"];
    let compare = || -> serde_json::Value { serde_json::from_str(&at(&usual, 0).0).expect("JSON") };
    let runs = |name: &str| {
        let entries = std::fs::read_dir(folder.path().join("runs").join(name)).expect("there");
        let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut paths: Vec<_> = folders.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let first = compare();
    assert_eq!(first["judged_on"], "test");
    let methods = first["methods"].as_array().expect("a list");
    let names: Vec<_> = methods.iter().map(|method| method["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["tiny", "turned", "both"]);
    for method in methods {
        // Both seeds of every method reach what the worst of them ends with.
        assert_eq!(
            (method["reached"].as_u64(), method["at_edge"].as_bool()),
            (Some(2), Some(true)),
            "{method}"
        );
        let runs = method["runs"].as_array().expect("a list");
        let mean = |rate: f64| {
            let of_rate = runs.iter().filter(|run| run["learning_rate"].as_f64() == Some(rate));
            of_rate.map(|run| run["summary"]["after"]["loss"].as_f64().expect("a number")).sum::<f64>() / 2.0
        };
        let best = if mean(0.01) < mean(0.03) { 0.01 } else { 0.03 };
        assert_eq!(method["learning_rate"].as_f64(), Some(best), "{method}");
        assert!((method["validation_loss"]["mean"].as_f64().expect("a number") - mean(best)).abs() < 1e-12);
        assert!(method["quality"]["loss"]["mean"].as_f64().expect("a number") > 0.0);
        assert!(method["peak_rss_bytes"].as_u64() > Some(1_000_000));
    }
    let files =
        ["comparison.json", "comparison.csv", "comparison.html", "loss-steps.svg", "loss-seconds.svg"];
    for name in files.iter().chain(&["loss-rates.svg", "lambda-both.svg"]) {
        assert!(folder.path().join("comparison").join(name).is_file(), "{name}");
    }
    // What is finished is kept; what was stopped goes on where it was.
    let before = runs("turned");
    assert_eq!(before.len(), 4);
    let summary = before[1].join("summary.json");
    let text = std::fs::read_to_string(&summary).expect("there");
    std::fs::write(&summary, text.replace("\"done\"", "\"interrupted\"")).expect("written");
    assert_eq!(compare()["methods"][1]["validation_loss"], first["methods"][1]["validation_loss"]);
    assert_eq!(runs("turned"), before);
    assert!(std::fs::read_to_string(&summary).expect("there").contains("\"done\""));
    // On another base nothing is kept.
    let config = std::fs::read_to_string(folder.path().join("config.json")).expect("there");
    write("config.json", &config.replace("\"initializer_range\": 0.02", "\"initializer_range\": 0.05"));
    compare();
    assert_eq!(runs("turned").len(), 8);
    // A rate that diverges is a result; files that differ in more than their method are a mistake.
    let diverging = ["a.toml", "--learning-rates", "1e30", "--seeds", "0", "--set", "train.clip_norm=0"];
    assert!(at(&diverging, 0).0.contains("all diverged"));
    write("d.toml", &file.replace("\"tiny\"", "\"long\""));
    assert!(at(&["a.toml", "d.toml"], 1).1.contains("train.steps = 6"));
    assert!(at(&["a.toml", "a.toml"], 1).1.contains("`tiny` is the name of another file"));
    assert!(at(&["a.toml", "--learning-rates", "0"], 1).1.contains("above 0"));
    let alone = ["a.toml", "--set", "data.validation_share=0.0", "--seeds", "0"];
    assert!(at(&alone, 1).1.contains("nothing is held out"));
}
