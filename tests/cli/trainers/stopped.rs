//! Trainings that are stopped and taken up again, and checkpoints that are damaged.

use super::{CONVERT, READOUT, STDP, SURROGATE, verb, write};
use crate::{isolate, outcome, ransnn, run_directory};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What must not differ between equal runs: the model, and the metrics without their times.
fn result(run: &Path) -> (Vec<u8>, Vec<Value>) {
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = metrics.lines().map(|line| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        value.as_object_mut().unwrap().remove("t");
        value
    });
    (std::fs::read(run.join("model-0.safetensors")).unwrap(), lines.collect())
}

/// Starts a run, stops it when a checkpoint is there, resumes it, and compares it with one that was never stopped.
#[cfg(unix)]
fn stops_and_goes_on(text: &str, set: &[&str], checkpoint: &str) {
    let whole = tempfile::tempdir().unwrap();
    verb(whole.path(), "run", text, set, 0);
    let expected = result(&run_directory(whole.path(), "small"));
    for signal in ["-INT", "-KILL"] {
        let folder = tempfile::tempdir().unwrap();
        let file = write(folder.path(), text);
        let mut command = Command::new(env!("CARGO_BIN_EXE_ransnn"));
        isolate(folder.path(), |key, value| {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        });
        command.arg("run").arg(&file).args(["--threads", "1"]).current_dir(folder.path());
        set.iter().for_each(|set| _ = command.args(["--set", set]));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let begun = Instant::now();
        while !folder.path().join("runs/small/latest").join(checkpoint).is_file() {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it wrote {checkpoint}");
            assert!(begun.elapsed() < Duration::from_secs(120), "no {checkpoint}");
            std::thread::sleep(Duration::from_millis(2));
        }
        let run = run_directory(folder.path(), "small");
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let code = child.wait().unwrap().code();
        assert_eq!(code, if signal == "-INT" { Some(130) } else { None });
        assert!(!run.join("model-0.safetensors").exists(), "it was stopped in time");
        let mut resume = ransnn(folder.path());
        resume.arg("run").arg(&file).args(["--resume", run.to_str().unwrap()]);
        set.iter().for_each(|set| _ = resume.args(["--set", set]));
        outcome(resume, 0);
        assert!(result(&run) == expected, "{signal}");
    }
}

#[cfg(unix)]
#[test]
fn a_surrogate_training_that_was_stopped_ends_as_if_it_had_not_been() {
    let set = [
        "train.surrogate.epochs=40",
        "train.surrogate.held_out=60",
        "train.surrogate.dropout=0.1",
        "train.surrogate.schedule=cosine",
        "run.checkpoint_every=7",
    ];
    stops_and_goes_on(SURROGATE, &set, "checkpoints/surrogate-0.safetensors");
    let frozen =
        [&set[..], &["projection.first.frozen=true", "projection.first.gain={rms-drive=0.7}"]].concat();
    stops_and_goes_on(SURROGATE, &frozen, "checkpoints/surrogate-0.safetensors");
}

#[cfg(unix)]
#[test]
fn a_readout_that_was_stopped_ends_as_if_it_had_not_been() {
    let set =
        ["train.stdp-readout.epochs=200", "train.stdp-readout.schedule=cosine", "run.checkpoint_every=7"];
    stops_and_goes_on(READOUT, &set, "checkpoints/stdp-readout-0.safetensors");
}

#[cfg(unix)]
#[test]
fn conversion_and_stdp_that_were_stopped_end_as_if_they_had_not_been() {
    let epochs = ["train.convert.fit.gradient.epochs=60", "train.convert.fit.gradient.augment.shift=1.0"];
    stops_and_goes_on(CONVERT, &epochs, "checkpoints/convert-0.safetensors");
    let set = ["run.checkpoint_every=20", "train.stdp.passes=2"];
    stops_and_goes_on(STDP, &set, "checkpoints/stdp-0.safetensors");
}

#[test]
fn a_flipped_bit_in_a_checkpoint_is_noticed() {
    for (text, name) in
        [(SURROGATE, "surrogate"), (READOUT, "stdp-readout"), (CONVERT, "convert"), (STDP, "stdp")]
    {
        let folder = tempfile::tempdir().unwrap();
        verb(folder.path(), "run", text, &["run.checkpoint_every=5"], 0);
        let run = run_directory(folder.path(), "small");
        let checkpoint = run.join(format!("checkpoints/{name}-0.safetensors"));
        let mut bytes = std::fs::read(&checkpoint).unwrap();
        *bytes.last_mut().unwrap() ^= 4;
        std::fs::write(&checkpoint, bytes).unwrap();
        // As if it had been stopped before its end.
        for entry in std::fs::read_dir(run.join("checkpoints")).unwrap() {
            let path = entry.unwrap().path();
            if path != checkpoint {
                std::fs::remove_file(path).unwrap();
            }
        }
        let mut resume = ransnn(folder.path());
        resume.arg("run").arg(write(folder.path(), text)).args(["--resume", run.to_str().unwrap()]);
        resume.args(["--set", "run.checkpoint_every=5"]);
        let (_, err) = outcome(resume, 1);
        let says = "does not have the SHA-256 that it states";
        assert!(err.contains(says) && err.contains(&format!("{name}-0.safetensors")), "{err}");
    }
}
