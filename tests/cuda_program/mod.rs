//! The program as it is typed, with a GPU: under the stand-in driver of `cuda_emu`, the same results as on the CPU.

use crate::cuda_emu;
use assert_cmd::Command;
use serde_json::Value;
use std::path::Path;

/// Runs the program in `folder`, where it finds a GPU; stdout, or stderr where it fails.
fn ransnn(folder: &Path, args: &[&str]) -> Result<String, String> {
    let libraries = &cuda_emu::load().expect("there is a stand-in").folder;
    let mut command = Command::cargo_bin("ransnn").expect("cargo has built it");
    command.current_dir(folder).env("LD_LIBRARY_PATH", libraries).env("XDG_CACHE_HOME", folder.join("cache"));
    for name in ["RANSNN_THREADS", "RANSNN_RUNS", "RANSNN_DEVICE", "RANSNN_DATA"] {
        command.env_remove(name);
    }
    let output = command.args(args).output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(!err.contains("panicked"), "{err}");
    if output.status.success() { Ok(out) } else { Err(err) }
}

fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}

/// A run on a device: its summary without times and places, and its model.
fn strokes(device: &str, set: &[&str]) -> (Value, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let file = repository("experiments/strokes.toml");
    let mut args = vec!["run", &file, "--json", "--device", device];
    for pair in ["data.train_limit=1100", "data.test_limit=100"].iter().chain(set) {
        args.extend(["--set", pair]);
    }
    let mut summary: Value = serde_json::from_str(&ransnn(folder.path(), &args).unwrap()).unwrap();
    let run = Path::new(summary["run_directory"].as_str().unwrap());
    let model = std::fs::read(folder.path().join(run).join("model-0.safetensors")).unwrap();
    for seed in summary["seeds"].as_array_mut().unwrap() {
        seed.as_object_mut().unwrap().remove("seconds");
    }
    for key in ["seconds", "memory", "run_directory"] {
        summary.as_object_mut().unwrap().remove(key);
    }
    (summary, model)
}

/// Takes the device out of a summary.
fn device(summary: &mut Value) -> String {
    summary["device"].take().as_str().unwrap().to_string()
}

#[test]
fn a_run_on_a_gpu_is_the_run_on_the_cpu() {
    if cuda_emu::load().is_none() {
        return;
    }
    let adam = ["train.ransnn.solver={adam={batches=60}}"];
    for set in [&[][..], &adam] {
        let (mut cpu, model) = strokes("cpu", set);
        assert_eq!(device(&mut cpu), "cpu");
        assert!(cpu["test"]["accuracy"].as_f64().unwrap() > 0.3, "{cpu}");
        for name in ["cuda", "cuda:0", "auto"] {
            let (mut gpu, same) = strokes(name, set);
            assert_eq!(device(&mut gpu), "cuda:0 (CPU under the stand-in driver)", "{name}");
            assert_eq!(gpu, cpu, "{name}");
            assert!(same == model, "{name}: another model");
        }
    }
}

#[test]
fn what_has_no_kernels_is_refused_by_name_and_left_to_the_cpu_under_auto() {
    if cuda_emu::load().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = repository("experiments/strokes.toml");
    let run = |device: &str, set: &[&str]| {
        let mut args = vec!["run", &file, "--device", device];
        for pair in ["data.train_limit=300", "data.test_limit=100"].iter().chain(set) {
            args.extend(["--set", pair]);
        }
        ransnn(folder.path(), &args)
    };
    let out = run("cuda", &[]).unwrap();
    assert!(out.contains("cuda:0 (CPU under the stand-in driver) on"), "{out}");
    let report = folder.path().join("runs/strokes/latest/report.html");
    assert!(std::fs::read_to_string(report).unwrap().contains("CPU under the stand-in driver"));
    // Spikes into a convolution: the kernel takes a constant current.
    let spikes = ["encode={poisson={steps=4}}", "projection.random.gain={fixed=1.0}"];
    let err = run("cuda", &spikes).unwrap_err();
    assert!(err.contains("a convolution of spikes cannot run on a GPU"), "{err}");
    let out = run("auto", &spikes).unwrap();
    assert!(out.contains("cpu on"), "{out}");
    let err = run("cuda:1", &[]).unwrap_err();
    assert!(err.contains("no such GPU"), "{err}");
}

/// A network whose sums are exact: the weights are small whole numbers.
const NETWORK: &str = r#"
schema = 1
name   = "small"
seed   = 3

[simulate]
duration_ms = 100.0
warmup_ms   = 10.0
step_ms     = 0.1

[population.exc]
size = 80
neuron.exp-lif = { tau_mem_ms = 20.0, capacitance_pf = 200.0, refractory_ms = 2.0 }
initial_mv.uniform = { low = -70.0, high = -55.0 }

[population.exc.drive.background]
poisson = { rate_hz = 2000.0, weight = 64.0, receptor = "excitatory" }

[population.noise]
size = 20
neuron.poisson = { rate_hz = 50.0 }

[projection.exc-exc]
from     = "exc"
to       = "exc"
connect.fixed-probability = { p = 0.1 }
receptor = "inhibitory"
weights  = -32.0
delay_ms.uniform = { low = 0.5, high = 3.0 }

[projection.noise-exc]
from     = "noise"
to       = "exc"
connect.fixed-out-degree = { k = 20 }
receptor = "excitatory"
weights  = 128.0
delay_ms = 1.0

[record]
spikes = ["exc", "noise"]
export = ["npz"]

[record.trace.membrane]
population = "exc"
neurons    = [0, 79]
every_ms   = 0.3
"#;

/// The network on a device: its summary without times and places, and what was recorded.
fn simulation(device: &str, set: &[&str]) -> Result<(Value, Vec<u8>), String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("small.toml");
    std::fs::write(&file, NETWORK).unwrap();
    let mut args = vec!["run", "small.toml", "--json", "--device", device];
    set.iter().for_each(|pair| args.extend(["--set", pair]));
    let mut summary: Value = serde_json::from_str(&ransnn(folder.path(), &args)?).unwrap();
    let run = folder.path().join(summary["run_directory"].as_str().unwrap());
    let recordings = std::fs::read(run.join("recordings.npz")).unwrap();
    for file in ["env.json", "report.html"] {
        let text = std::fs::read_to_string(run.join(file)).unwrap();
        assert!(text.contains(summary["device"].as_str().unwrap()), "{file}");
    }
    // Events are counted when they are sent on a GPU, and when they arrive on the CPU.
    let events = ["synaptic_events", "synaptic_events_per_second"];
    for key in ["seconds", "memory", "run_directory", "real_time_factor"].iter().chain(&events) {
        summary.as_object_mut().unwrap().remove(*key);
    }
    Ok((summary, recordings))
}

#[test]
fn a_simulation_on_a_gpu_is_the_one_on_the_cpu() {
    if cuda_emu::load().is_none() {
        return;
    }
    let (mut cpu, recordings) = simulation("cpu", &[]).unwrap();
    assert_eq!(device(&mut cpu), "cpu");
    assert!(cpu["spikes"].as_u64().unwrap() > 100, "{cpu}");
    for name in ["cuda", "auto"] {
        let (mut gpu, same) = simulation(name, &[]).unwrap();
        assert_eq!(device(&mut gpu), "cuda:0 (CPU under the stand-in driver)", "{name}");
        assert_eq!(gpu, cpu, "{name}");
        assert!(same == recordings, "{name}: other recordings");
    }
    // Synapses that are drawn again are the same; only their tables are not there.
    let per_synapse = |summary: &mut Value| summary["bytes_per_synapse"].take().as_f64().unwrap();
    let stored = per_synapse(&mut cpu);
    for name in ["cuda", "auto"] {
        let (mut gpu, same) = simulation(name, &["simulate.connectivity=procedural"]).unwrap();
        assert_eq!(device(&mut gpu), "cuda:0 (CPU under the stand-in driver)", "{name}");
        let procedural = per_synapse(&mut gpu);
        assert!(procedural < 0.3 && 2.0 < stored, "{procedural} instead of {stored}");
        assert_eq!(gpu, cpu, "{name}");
        assert!(same == recordings, "{name}: other recordings");
    }
    let double = ["simulate.precision=f64"];
    assert!(simulation("cuda", &double).unwrap_err().contains("in double precision"));
    assert_eq!(device(&mut simulation("auto", &double).unwrap().0), "cpu");
    let lazy = ["simulate.clock=lazy"];
    assert!(simulation("cuda", &lazy).unwrap_err().contains("[simulate] on the lazy clock has no kernels"));
}

#[test]
fn benchmarks_that_run_on_no_gpu_say_so() {
    if cuda_emu::load().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bench =
        |device| ransnn(folder.path(), &["bench", "readout/ridge", "--repeats", "1", "--device", device]);
    assert!(bench("cuda").unwrap_err().contains("the case readout/ridge has no kernels"));
    assert!(bench("auto").unwrap().contains("cpu, threads"));
    let error = ransnn(folder.path(), &["bench", "sim/brunel", "--device", "cuda:3"]).unwrap_err();
    assert!(error.contains("no such GPU"), "{error}");
}

/// 784 - 40 - 10, all weights trained.
const SURROGATE: &str = r#"
schema = 1
name   = "small"
[data]
dataset     = "strokes"
train_limit = 200
test_limit  = 100
[encode.constant]
steps = 5
[population.pixels]
shape  = [1, 28, 28]
neuron = "input"
[population.hidden]
shape      = 40
neuron.lif = { beta = 0.9 }
[population.output]
shape      = 10
neuron.lif = { beta = 0.9 }
[projection.first]
from    = "pixels"
to      = "hidden"
weights = "kaiming-uniform"
frozen  = false
[projection.second]
from    = "hidden"
to      = "output"
weights = "kaiming-uniform"
bias    = "kaiming-uniform"
frozen  = false
[train.surrogate]
output = "output"
lr     = 5e-3
batch  = 20
epochs = 3
"#;

#[test]
fn training_by_surrogate_gradients_on_a_gpu_is_that_on_the_cpu() {
    if cuda_emu::load().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("small.toml"), SURROGATE).unwrap();
    let run = |file: &str, options: &[&str]| -> Result<(Value, Vec<f64>), String> {
        let args = [&["run", file, "--json"], options].concat();
        let summary: Value = serde_json::from_str(&ransnn(folder.path(), &args)?).unwrap();
        let metrics = folder.path().join(summary["run_directory"].as_str().unwrap()).join("metrics.jsonl");
        let lines = std::fs::read_to_string(metrics).unwrap();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        Ok((summary, lines.filter_map(|line| line["loss"].as_f64()).collect()))
    };
    let on = |device| run("small.toml", &["--device", device]).unwrap();
    let ((mut cpu, want), (mut gpu, losses)) = (on("cpu"), on("cuda"));
    assert_eq!(
        (device(&mut cpu), device(&mut gpu)),
        ("cpu".into(), "cuda:0 (CPU under the stand-in driver)".into())
    );
    assert!(
        losses.len() > 2 && losses.len() == want.len() && losses[losses.len() - 1] < losses[0],
        "{losses:?}"
    );
    for (got, want) in losses.iter().zip(&want) {
        assert!((got - want).abs() < 1e-3 * want, "{losses:?} and {want:?}");
    }
    let accuracy = |summary: &Value| summary["test"]["accuracy"].as_f64().unwrap();
    assert!((accuracy(&cpu) - accuracy(&gpu)).abs() < 0.03 && accuracy(&gpu) > 0.3, "{cpu} and {gpu}");

    // Forward in time, with the device in the file.
    for gradient in ["eprop", "ottt"] {
        let of = |device: &str| {
            let more =
                format!("gradient = \"{gradient}\"\nloss = \"ce-rate\"\n[run]\ndevice = \"{device}\"\n");
            std::fs::write(folder.path().join("online.toml"), [SURROGATE, &more].concat()).unwrap();
            run("online.toml", &[]).unwrap()
        };
        let ((mut cpu, want), (mut gpu, losses)) = (of("cpu"), of("cuda"));
        assert_eq!(device(&mut cpu), "cpu");
        assert!(device(&mut gpu).starts_with("cuda:0"));
        assert!(losses.len() == want.len() && losses[losses.len() - 1] < losses[0], "{losses:?}");
        for (got, want) in losses.iter().zip(&want) {
            assert!((got - want).abs() < 1e-3 * want, "{gradient}: {losses:?} and {want:?}");
        }
        assert!((accuracy(&cpu) - accuracy(&gpu)).abs() < 0.03 && accuracy(&gpu) > 0.3, "{cpu} and {gpu}");
    }
}

const FINE_TUNING: &str = "schema = 1\nname = \"tiny\"\n[model]\npath = \"config.json\"\nrandom = true\n[data]\ntrain = \"text.txt\"\n\
                           tokenizer = \"bytes\"\nlength = 16\nvalidation_share = 0.2\n[adapt]\nmethod.lora = { rank = 2 }\n\
                           [train]\nsteps = 6\nbatch = 2\nlearning_rate = 0.01\n";

#[test]
fn fine_tuning_on_a_gpu_is_that_on_the_cpu() {
    if cuda_emu::load().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(repository("tests/fixtures/models/llama3/config.json")).unwrap();
    let config = config.replace("\"vocab_size\": 40", "\"vocab_size\": 257");
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    std::fs::write(folder.path().join("text.txt"), "to be or not to be, ".repeat(20)).unwrap();
    std::fs::write(folder.path().join("tiny.toml"), FINE_TUNING).unwrap();
    let run = |set: &[&str]| -> Result<(Value, String), String> {
        let mut args = vec!["peft", "train", "tiny.toml", "--json"];
        set.iter().for_each(|pair| args.extend(["--set", pair]));
        let summary: Value = serde_json::from_str(&ransnn(folder.path(), &args)?).unwrap();
        let env = std::fs::read_to_string(folder.path().join("runs/tiny/latest/env.json")).unwrap();
        let env: Value = serde_json::from_str(&env).unwrap();
        Ok((summary, env["device"].as_str().unwrap().to_string()))
    };
    let (cpu, gpu) = (run(&["train.device=cpu"]).unwrap(), run(&["train.device=cuda"]).unwrap());
    assert_eq!((cpu.1.as_str(), gpu.1.as_str()), ("cpu", "cuda:0 (CPU under the stand-in driver)"));
    let loss = |summary: &Value| summary["after"]["loss"].as_f64().unwrap();
    assert!((loss(&cpu.0) - loss(&gpu.0)).abs() < 1e-4 * loss(&cpu.0), "{} and {}", cpu.0, gpu.0);
    let unitary = "adapt.method={urnn={}}";
    let (cpu, gpu) =
        (run(&["train.device=cpu", unitary]).unwrap(), run(&["train.device=auto", unitary]).unwrap());
    assert!(gpu.1.starts_with("cuda:0"), "{}", gpu.1);
    assert!((loss(&cpu.0) - loss(&gpu.0)).abs() < 1e-4 * loss(&cpu.0), "{} and {}", cpu.0, gpu.0);
}
