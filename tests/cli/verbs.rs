//! The other verbs, help, and a reader that goes away.

use crate::{outcome, ransnn, repository, run_directory, run_small, strokes, texts};
use serde_json::Value;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

fn ok(folder: &Path, arguments: &[&str]) -> String {
    let mut command = ransnn(folder);
    command.args(arguments);
    outcome(command, 0).0
}

fn fails(folder: &Path, code: i32, arguments: &[&str]) -> String {
    let mut command = ransnn(folder);
    command.args(arguments);
    let (out, err) = outcome(command, code);
    assert_eq!(out, "");
    err
}

#[test]
fn every_command_and_option_has_help_and_the_short_one_is_short() {
    fn walk(command: &mut clap::Command, path: &str) {
        let help = command.render_help().to_string();
        assert!(help.lines().count() < 40, "{path}:\n{help}");
        assert!(command.get_about().is_some(), "{path} says what it is");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path} {}", argument.get_id());
        }
        for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
            walk(sub, &format!("{path} {}", sub.get_name().to_owned()));
        }
    }
    let mut command = ransnn::cli::command();
    command.build();
    walk(&mut command, "ransnn");
}

#[test]
fn usage_errors_are_two_and_help_is_none() {
    let folder = tempfile::tempdir().unwrap();
    assert!(fails(folder.path(), 2, &["frobnicate"]).contains("unrecognized subcommand"));
    assert!(fails(folder.path(), 2, &["run", "a.toml", "--bogus"]).contains("--bogus"));
    assert!(fails(folder.path(), 2, &["run"]).contains("<FILE>"));
    assert!(ok(folder.path(), &["--version"]).starts_with("ransnn "));
    assert!(ok(folder.path(), &["--help"]).contains("Usage:"));
}

#[test]
fn init_lists_writes_and_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    let list = ok(folder.path(), &["init"]);
    let names: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains(&"mnist") && names.contains(&"paper/mnist"), "{list}");
    for name in names {
        let path = ok(folder.path(), &["init", name, "--to", "here"]);
        ok(folder.path(), &["check", path.trim()]);
    }
    let again = fails(folder.path(), 1, &["init", "mnist", "--to", "here"]);
    assert!(again.contains("never overwritten"), "{again}");
    assert_eq!(
        std::fs::read(folder.path().join("here/mnist.toml")).unwrap(),
        std::fs::read(repository("mnist.toml")).unwrap()
    );
    assert!(fails(folder.path(), 1, &["init", "mnits"]).contains("did you mean `mnist`?"));
}

#[test]
fn check_plan_and_config_run_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = strokes();
    assert!(ok(folder.path(), &["check", &file]).ends_with("strokes.toml: good\n"));
    assert!(ok(folder.path(), &["plan", &file]).contains("population maps"));
    let plan: Value = serde_json::from_str(&ok(folder.path(), &["plan", &file, "--json"])).unwrap();
    assert_eq!((&plan["schema"], &plan["features"]), (&1.into(), &256.into()));
    let config = ok(folder.path(), &["config", &file, "--set", "seed=7"]);
    assert!(config.contains("seed = 7  # root of every random number"), "{config}");
    assert!(ok(folder.path(), &["config"]).contains("encode.poisson.max_rate_hz"));
    assert!(!folder.path().join("runs").exists());
    std::fs::write(folder.path().join("bad.toml"), "schema = 1\nnmae = \"x\"\n").unwrap();
    let mut both = ransnn(folder.path());
    both.args(["check", "bad.toml", &file]);
    let (out, err) = outcome(both, 1);
    assert!(out.ends_with("strokes.toml: good\n"), "{out}");
    assert!(err.contains("bad.toml:2:1") && err.contains("did you mean `name`?"), "{err}");
}

#[test]
fn a_run_can_be_shown_and_reported_again() {
    let folder = tempfile::tempdir().unwrap();
    let (table, _) = texts(&run_small(folder.path(), &[]), 0);
    let run = run_directory(folder.path(), "strokes");
    let shown = ok(folder.path(), &["show", "runs/strokes/latest"]);
    assert!(shown.starts_with("strokes  on strokes") && shown.ends_with(&table), "{shown}");
    let json: Value =
        serde_json::from_str(&ok(folder.path(), &["show", "runs/strokes/latest", "--json"])).unwrap();
    assert_eq!(json["status"], "ok");
    let csv = ok(folder.path(), &["show", "runs/strokes/latest", "--csv"]);
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("t,seed,step,epoch,split,loss,accuracy,spikes_per_sample,time_steps"));
    assert!(lines.next().is_some_and(|line| line.contains(",0,,,test,,0.")), "{csv}");
    let log = std::fs::read_to_string(folder.path().join("runs/strokes/latest/log.txt")).unwrap();
    assert!(log.lines().any(|line| line.starts_with("20") && line.contains("test")), "{log}");
    let table = ok(folder.path(), &["compare", "runs/strokes/latest", "--to", "plots"]);
    assert!(table.starts_with("| run |") && table.contains("| strokes | strokes | "), "{table}");
    for plot in ["accuracy-seconds.svg", "accuracy-energy.svg"] {
        assert!(std::fs::read_to_string(folder.path().join("plots").join(plot)).unwrap().starts_with("<svg"));
    }
    let none = fails(folder.path(), 1, &["compare", "plots"]);
    assert!(none.contains("cannot read plots/summary.json"), "{none}");
    let page = std::fs::read(run.join("report.html")).unwrap();
    std::fs::remove_file(run.join("report.html")).unwrap();
    ok(folder.path(), &["report", "runs/strokes/latest"]);
    assert_eq!(std::fs::read(run.join("report.html")).unwrap(), page);
    for verb in ["show", "report"] {
        assert!(fails(folder.path(), 1, &[verb, "."]).contains("not a run directory"));
    }
}

#[test]
fn data_is_listed_added_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let list: Value = serde_json::from_str(&ok(folder.path(), &["data", "list", "--json"])).unwrap();
    assert_eq!((&list[0]["name"], &list[0]["present"]), (&"strokes".into(), &true.into()));
    assert!(ok(folder.path(), &["data", "verify", "strokes"]).contains("built in"));
    let missing = fails(folder.path(), 1, &["data", "verify", "mnist"]);
    assert!(missing.contains("train-images-idx3-ubyte[.gz] is not there"), "{missing}");
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let empty = fails(folder.path(), 1, &["data", "add", "mnist", "--from", "empty"]);
    assert!(empty.contains("mnist is not in empty"), "{empty}");
    assert!(!folder.path().join("data").exists(), "nothing is added");
    assert!(fails(folder.path(), 1, &["data", "add", "strokes", "--from", "empty"]).contains("built in"));
    assert!(
        fails(folder.path(), 1, &["data", "fetch", "mnits", "--offline"]).contains("did you mean `mnist`?")
    );
}

#[test]
fn completions_and_manual_pages_name_the_verbs() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let text = ok(folder.path(), &["completions", shell]);
        assert!(text.contains("checkpoint") || text.contains("resume"), "{shell}");
    }
    ok(folder.path(), &["man", "pages"]);
    for page in ["ransnn.1", "ransnn-run.1", "ransnn-data-add.1"] {
        let text = std::fs::read_to_string(folder.path().join("pages").join(page)).unwrap();
        assert!(text.contains(".SH"), "{page}");
    }
    ok(folder.path(), &["devices"]);
    serde_json::from_str::<Value>(&ok(folder.path(), &["devices", "--json"])).expect("JSON");
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    // Longer than a pipe holds, so that the program is still writing when the reader goes.
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_ransnn"))
        .args(["completions", "bash"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 16];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), [].as_slice()));
}
