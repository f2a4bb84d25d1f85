//! Simulations: what a run prints and writes, repeating, mistakes, interrupting and resuming.

use crate::{isolate, outcome, ransnn, read_json, repository, run_directory, run_small, texts};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Every part of the schema, in a fifth of its time.
const SHORT: [&str; 6] = [
    "--set",
    "simulate.duration_ms=300",
    "--set",
    "simulate.warmup_ms=20",
    "--set",
    "record.trace.membrane.every_ms=1.0",
];

fn file() -> String {
    repository("experiments/sim/two-populations.toml").display().to_string()
}

fn run(folder: &Path, more: &[&str]) -> Output {
    ransnn(folder).arg("run").arg(file()).args(SHORT).args(more).output().expect("it starts")
}

fn home(folder: &Path) -> PathBuf {
    run_directory(folder, "two-populations")
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What must not differ between equal runs.
fn result(run: &Path) -> (Vec<String>, Vec<Value>) {
    let mut files = ["spikes.csv", "traces.csv", "rates.csv"].map(|name| read(run.join(name))).to_vec();
    let plastic = ["weights.csv", "synapses.csv"].map(|name| run.join(name));
    files.extend(plastic.into_iter().filter(|path| path.is_file()).map(read));
    let summary = read_json(&run.join("summary.json"));
    let keys = ["spikes", "synaptic_events", "synapses", "populations"].map(|key| summary[key].clone());
    (files, keys.to_vec())
}

#[test]
fn a_simulation_prints_a_table_and_writes_its_directory() {
    let folder = tempfile::tempdir().unwrap();
    let (out, err) = texts(&run(folder.path(), &["--check"]), 0);
    for part in ["population", "exc", "rate / Hz", "CV", "real-time factor", "synaptic events/s"] {
        assert!(out.contains(part), "{part} in {out}");
    }
    assert!(err.contains("simulate") && err.contains("statistics"), "{err}");
    let run = home(folder.path());
    for name in ["config.toml", "source.toml", "env.json", "recordings.npz", "report.html", "log.txt"] {
        assert!(run.join(name).metadata().unwrap().len() > 0, "{name}");
    }
    assert!(!run.join("streams").exists() && !run.join("checkpoints/position.json").exists());
    let spikes = read(run.join("spikes.csv"));
    let summary = read_json(&run.join("summary.json"));
    assert_eq!(spikes.lines().count() as u64 - 1, summary["spikes"].as_u64().unwrap());
    assert!(spikes.starts_with("time_ms,population,neuron\n"));
    let traces = read(run.join("traces.csv"));
    // 300 values of three neurons, and 3000 of one.
    assert_eq!(traces.lines().count(), 1 + 900 + 3000);
    let rates = read(run.join("rates.csv"));
    assert_eq!((rates.lines().next(), rates.lines().count()), (Some("time_ms,exc,inh,noise,volley"), 61));
    let page = read(run.join("report.html"));
    for part in ["Population rates", "Statistics of each population", "intervals between spikes", "membrane"]
    {
        assert!(page.contains(part), "{part}");
    }
    let mut show = ransnn(folder.path());
    show.arg("show").arg(&run);
    assert!(outcome(show, 0).0.contains("real-time factor"));
    let mut show = ransnn(folder.path());
    show.args(["show", "--csv"]).arg(&run);
    assert_eq!(outcome(show, 0).0, rates);
    let mut report = ransnn(folder.path());
    report.arg("report").arg(&run);
    outcome(report, 0);
    assert_eq!(read(run.join("report.html")), page);
    let mut compare = ransnn(folder.path());
    compare.arg("compare").arg(&run).args(["--to", "plots"]);
    let (table, _) = outcome(compare, 0);
    assert!(table.contains("real-time factor") && table.contains("cost.svg"), "{table}");
    assert!(read(folder.path().join("plots/cost.svg")).contains("ns per event"));
    // What is no summary, and a training among simulations.
    let trained = folder.path().join("trained");
    std::fs::create_dir(&trained).unwrap();
    std::fs::write(trained.join("summary.json"), "{\"status\": \"ok\"}").unwrap();
    let mut compare = ransnn(folder.path());
    compare.arg("compare").args([&trained]);
    assert!(outcome(compare, 1).1.contains("not a summary"));
    let strokes = run_small(folder.path(), &["--out", "runs"]);
    texts(&strokes, 0);
    let mut compare = ransnn(folder.path());
    compare.arg("compare").args([&folder.path().join("runs/strokes/latest"), &run]);
    assert!(outcome(compare, 1).1.contains("only runs of one kind"));
}

#[test]
fn json_is_one_object_with_every_key_of_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let (out, err) = texts(&run(folder.path(), &["--json", "-q"]), 0);
    assert_eq!(err, "");
    let summary: Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!(summary, read_json(&home(folder.path()).join("summary.json")));
    assert_eq!((&summary["schema"], &summary["kind"]), (&1.into(), &"simulation".into()));
    assert_eq!((&summary["status"], &summary["clock"]), (&"ok".into(), &"grid".into()));
    for path in [
        "/seed",
        "/step_ms",
        "/duration_ms",
        "/warmup_ms",
        "/neurons",
        "/synapses",
        "/bytes_per_synapse",
        "/spikes",
        "/synaptic_events",
        "/synaptic_events_per_second",
        "/real_time_factor",
        "/seconds/build",
        "/seconds/simulate",
        "/seconds/write",
        "/seconds/total",
        "/memory/peak_rss_bytes",
        "/threads",
        "/populations/exc/neurons",
        "/populations/exc/spikes",
        "/populations/exc/rate_hz",
        "/populations/exc/rate_std_hz",
        "/populations/exc/correlation",
        "/populations/exc/fano",
        "/populations/exc/oscillation_hz",
    ] {
        let number = summary.pointer(path).and_then(Value::as_f64);
        assert!(number.is_some_and(f64::is_finite), "{path} in {out}");
    }
    assert_eq!(summary["neurons"], 1103);
    let rate = |name: &str| summary["populations"][name]["rate_hz"].as_f64().unwrap();
    assert!(rate("exc") > 1.0, "something happens: {out}");
    // 100 sources of 20 Hz from 200 ms on, in 280 ms.
    let expected = 20.0 * 100.0 / 280.0;
    assert!((rate("noise") - expected).abs() < 4.0 * (expected / 28.0).sqrt(), "{}", rate("noise"));
}

#[test]
fn any_number_of_threads_and_the_resolved_configuration_give_the_same_spikes() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    texts(&run(folders[0].path(), &["--threads", "1"]), 0);
    texts(&run(folders[1].path(), &["--threads", "2", "--set", "simulate.checkpoint_every_ms=50"]), 0);
    let one = home(folders[0].path());
    assert!(result(&one) == result(&home(folders[1].path())), "threads");
    let mut again = ransnn(folders[2].path());
    again.arg("run").arg(one.join("config.toml"));
    outcome(again, 0);
    assert!(result(&one) == result(&home(folders[2].path())), "resolved configuration");
}

#[test]
fn a_sweep_runs_each_seed() {
    let folder = tempfile::tempdir().unwrap();
    let (out, _) = texts(&run(folder.path(), &["--set", "seed=1,2", "--json"]), 0);
    let rows: Value = serde_json::from_str(&out).expect("one JSON document");
    assert_eq!((&rows[0]["values"]["seed"], &rows[1]["values"]["seed"]), (&"1".into(), &"2".into()));
    assert_ne!(rows[0]["summary"]["spikes"], rows[1]["summary"]["spikes"]);
    assert_eq!(read_json(&folder.path().join("runs/two-populations/sweep.json")), rows);
}

#[test]
fn an_expectation_that_is_missed_is_a_failure_only_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let expect = ["--set", "expect.exc.rate_hz=[500.0, 600.0]"];
    texts(&run(folder.path(), &expect), 0);
    let (_, err) = texts(&run(folder.path(), &[&expect[..], &["--check"]].concat()), 1);
    assert!(err.contains("rate of `exc` is") && err.contains("expected 500 to 600"), "{err}");
}

#[test]
fn mistakes_are_named_with_their_place_and_nothing_is_written() {
    for (set, says) in [
        ("projection.exc-inh.delay_ms=0.05", &["delay is 0.05 ms", "at least the time step, 0.1 ms"][..]),
        ("projection.exc-inh.weights=nan", &["weight is NaN"]),
        ("projection.exc-inh.from=exx", &["no population `exx`", "did you mean `exc`?"]),
        ("population.exc.nueron={}", &["unknown key `nueron`", "did you mean `neuron`?"]),
        ("population.inh.neuron={adx={}}", &["unknown choice `adx`", "did you mean `adex`?"]),
        ("population.exc.size=4000000000", &["needs", "bytes, but `run.memory_gib` allows 4294967296"]),
        ("projection.exc-inh.weights={gamma=1}", &["unknown choice `gamma`", "`normal`"]),
        ("simulate.clock=lasy", &["unknown choice `lasy`", "did you mean `lazy`?"]),
        ("simulate.connectivity=procedual", &["unknown choice `procedual`", "did you mean `procedural`?"]),
        (
            "simulate.connectivity=procedural",
            &[
                "procedural connectivity is of GPUs, but `run.device` is `cpu`",
                "set `run.device = \"cuda\"`, or take `connectivity = \"stored\"`",
                "projection `exc-exc`: weights are drawn again until they fit",
                "projection `exc-inh`: no procedural connectivity: fixed-in-degree-multapses draws target by target",
            ],
        ),
        ("data.dataset=mnist", &["unknown key `data`"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (out, err) = texts(&run(folder.path(), &["--set", set]), 1);
        assert_eq!(out, "");
        assert!(err.contains("two-populations.toml:") && err.contains("━"), "{set}: the place in {err}");
        says.iter().for_each(|part| assert!(err.contains(part), "{set}: {part} in {err}"));
        assert!(!folder.path().join("runs").exists(), "{set}: nothing is written");
    }
}

#[test]
fn the_other_verbs_know_simulations() {
    let folder = tempfile::tempdir().unwrap();
    let ok = |arguments: &[&str]| {
        let mut command = ransnn(folder.path());
        command.args(arguments);
        outcome(command, 0).0
    };
    assert!(ok(&["check", &file()]).ends_with(": good\n"));
    assert!(ok(&["config", &file()]).contains("delay_ms"));
    assert!(ok(&["config"]).contains("projection.NAME.delay_ms"));
    let plan: Value = serde_json::from_str(&ok(&["plan", &file(), "--json"])).unwrap();
    let (synapses, bytes) = (plan["synapses"].as_u64().unwrap(), plan["bytes"].as_u64().unwrap());
    assert_eq!((&plan["neurons"], &plan["steps"]), (&1103.into(), &10_000.into()));
    assert!(ok(&["plan", &file()]).contains("synapses"));
    assert_eq!(plan["saved_bytes"], 0);
    // Synapses that a GPU draws again take nothing, and the plan says what they would have taken.
    let network = repository("experiments/sim/vogels-abbott-cuba.toml").display().to_string();
    let planned = |set: &[&str]| ok(&[&["plan", &network, "--set", "run.device=cuda"], set].concat());
    let of =
        |set: &[&str]| -> Value { serde_json::from_str(&planned(&[set, &["--json"]].concat())).unwrap() };
    let again = ["--set", "simulate.connectivity=procedural"];
    let (stored, procedural) = (of(&[]), of(&again));
    let saved = procedural["saved_bytes"].as_u64().unwrap();
    assert!(saved > 600_000, "{procedural}");
    assert_eq!(stored["bytes"].as_u64().unwrap() - procedural["bytes"].as_u64().unwrap(), saved);
    let device = |plan: &Value| plan["device_bytes"].as_u64().unwrap();
    assert!((device(&stored) - device(&procedural)).abs_diff(saved) < 1000);
    assert!(planned(&again).contains("drawn again whenever their source fires, which saves"));
    // The plan is what the run then has.
    let summary: Value = serde_json::from_str(&texts(&run(folder.path(), &["--json"]), 0).0).unwrap();
    let drawn = summary["synapses"].as_u64().unwrap();
    assert!(synapses.abs_diff(drawn) * 50 < drawn, "{synapses} planned, {drawn} drawn");
    assert!(bytes as f64 > summary["bytes_per_synapse"].as_f64().unwrap() * drawn as f64);
}

/// A run that takes seconds, on the clock; and its overrides.
#[test]
fn rewards_come_when_the_file_says() {
    for clock in ["grid", "lazy"] {
        let folder = tempfile::tempdir().unwrap();
        let mut set = vec![
            format!("simulate.clock={clock}"),
            "projection.exc-inh.plasticity.reward={rate=5.0, bounds=[0.0, 40.0]}".to_string(),
            "simulate.rewards=[{at_ms=105.5, amount=1.0, every_ms=100.0}, {at_ms=250.0, amount=0.0}]".into(),
            "record.weights.some={projection=\"exc-inh\", synapses=[0, 50, 9999], every_ms=1.0}".into(),
        ];
        set.extend(if clock == "lazy" { lazy() } else { vec![] });
        let arguments: Vec<&str> = set.iter().flat_map(|set| ["--set", set.as_str()]).collect();
        texts(&run(folder.path(), &arguments), 0);
        let table = read(home(folder.path()).join("weights.csv"));
        // Time, name, synapse, weight: each synapse beside itself, three rows on.
        let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split(',').collect()).collect();
        let after = rows.iter().zip(&rows[3..]).filter(|(before, after)| before[3] != after[3]);
        let mut changed: Vec<f64> = after.map(|(_, after)| after[0].parse().unwrap()).collect();
        changed.dedup();
        assert_eq!(changed, [106.0, 206.0], "{clock}");
    }
}

/// The lazy clock's models are linear, and of their variables it records one.
fn lazy() -> Vec<String> {
    ["population.inh.neuron={exp-lif={}}", "record.trace.current={population=\"exc\", neurons=[0]}"]
        .map(String::from)
        .to_vec()
}

fn long(clock: &str) -> Vec<String> {
    let mut set = vec!["simulate.checkpoint_every_ms=20".to_string(), format!("simulate.clock={clock}")];
    // Some weights learn.
    set.push("projection.exc-inh.plasticity.pair={a_plus=2.0, a_minus=2.1, bounds=[0.0, 40.0]}".into());
    set.push("projection.exc-inh.normalise={total=1600.0, every_ms=50.0}".into());
    set.push("projection.volley-inh.plasticity.reward={rate=5.0, bounds=[0.0, 5000.0]}".into());
    set.push("simulate.rewards=[{at_ms=501.5, amount=1.0, every_ms=10.5}]".into());
    set.push("record.weights.some={projection=\"exc-inh\", synapses=[0, 9999], every_ms=1.0}".into());
    set.extend(if clock == "lazy" { lazy() } else { vec![] });
    set.iter().flat_map(|set| ["--set".to_string(), set.clone()]).collect()
}

/// Starts it in the background and waits until its first checkpoint is there.
fn start(folder: &Path, set: &[String]) -> (Child, PathBuf) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ransnn"));
    isolate(folder, |key, value| {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    });
    command.arg("run").arg(file()).args(set).current_dir(folder);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let begun = Instant::now();
    while !folder.join("runs/two-populations/latest/checkpoints/position.json").is_file() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it wrote a checkpoint");
        assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint");
        std::thread::sleep(Duration::from_millis(2));
    }
    (child, home(folder))
}

#[cfg(unix)]
#[test]
fn an_interrupted_and_a_killed_run_end_as_if_they_had_not_been_stopped() {
    for clock in ["grid", "lazy"] {
        let set = long(clock);
        let run = |folder: &Path, more: &[&str]| {
            ransnn(folder).arg("run").arg(file()).args(&set).args(more).output().expect("it starts")
        };
        let whole = tempfile::tempdir().unwrap();
        texts(&run(whole.path(), &[]), 0);
        let expected = result(&home(whole.path()));
        assert!(expected.0[0].lines().count() > 1000);
        assert_eq!(
            (expected.0.len(), expected.0[3].lines().count(), expected.0[4].lines().count()),
            (5, 2001, 16_005)
        );
        for (name, code) in [("-INT", Some(130)), ("-KILL", None)] {
            let folder = tempfile::tempdir().unwrap();
            let (mut child, directory) = start(folder.path(), &set);
            let done = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill");
            assert!(done.success());
            assert_eq!(child.wait().unwrap().code(), code);
            assert!(!directory.join("spikes.csv").exists(), "it was stopped in time");
            if code.is_some() {
                assert_eq!(read_json(&directory.join("summary.json"))["status"], "interrupted");
            }
            let resume = ["--resume", directory.to_str().unwrap()];
            let (_, err) = texts(&run(folder.path(), &[&resume[..], &["--set", "seed=7"]].concat()), 1);
            assert!(err.contains("another configuration") && err.contains("seed = 7"), "{err}");
            texts(&run(folder.path(), &resume), 0);
            assert!(result(&directory) == expected, "{clock} {name}");
            // A finished run is not repeated.
            let summary = read(directory.join("summary.json"));
            texts(&run(folder.path(), &resume), 0);
            assert_eq!(read(directory.join("summary.json")), summary);
        }
    }
}

#[cfg(unix)]
#[test]
fn a_damaged_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let set = long("grid");
    let (mut child, run) = start(folder.path(), &set);
    child.kill().unwrap();
    child.wait().unwrap();
    let resume = || {
        let mut command = ransnn(folder.path());
        command.arg("run").arg(file()).args(&set).arg("--resume").arg(&run);
        outcome(command, 1).1
    };
    let position = run.join("checkpoints/position.json");
    let good = read(position.clone());
    std::fs::write(&position, &good[..good.len() / 2]).unwrap();
    let err = resume();
    assert!(err.contains("position.json: this checkpoint is damaged"), "{err}");
    std::fs::write(&position, &good).unwrap();
    let state = run.join(serde_json::from_str::<Value>(&good).unwrap()["state"].as_str().unwrap());
    let bytes = std::fs::read(&state).unwrap();
    std::fs::write(&state, &bytes[..bytes.len() / 2]).unwrap();
    assert!(resume().contains(".safetensors"));
    std::fs::write(&state, &bytes).unwrap();
    std::fs::write(run.join("streams/spikes.exc.times"), b"").unwrap();
    let err = resume();
    assert!(err.contains("spikes.exc.times") && err.contains("the checkpoint needs"), "{err}");
}
