//! The benchmark suite behind `ransnn bench`: what users do, timed, each case beside the least time it could take.
//!
//! | file | idea |
//! |---|---|
//! | `reservoir` | features of frozen layers: samples per second |
//! | `readout` | the fits on such features |
//! | `lazy` | a simulation without a grid of time |
//! | `peft` | language models, whole or by adapters: training steps, merging, generation |
//! | `stdp` | learning without labels |
//! | `train` | surrogate gradients through whole networks, and what comes out at work |
//! | `sim` | the networks that simulators are compared on |
//! | `measure` | warm-up, repeats, median and spread |
//! | `devices` | what this machine offers |
//!
//! A floor counts the operations that the work cannot do without and divides them by what cores of [`CLOCK_HZ`] with
//! 256-bit vectors could start in a cycle; on a GPU, by what its multiprocessors, its memory and its launches allow. It is
//! an estimate to compare with, the same on every machine.

mod devices;
mod lazy;
mod measure;
mod peft;
mod readout;
mod reservoir;
mod sim;
mod stdp;
mod train;

pub use devices::{Cpu, Cuda, CudaDevice, Devices, devices};

use crate::error::{Error, Result};
use crate::experiment::device::Device;
use crate::experiment::summary::peak_rss_bytes;
use crate::tensor::cuda::Gpu;
use measure::{Measured, Timer};
use serde::Serialize;
use std::fmt;

/// Version of the layout of [`Outcome`].
pub const SCHEMA: u32 = 1;
/// The clock that floors assume.
pub const CLOCK_HZ: f64 = 3e9;
/// The clock of a GPU that floors assume; each of its multiprocessors starts [`GPU_LANES`] instructions a cycle.
const GPU_CLOCK_HZ: f64 = 1.7e9;
/// Lanes of a multiprocessor that compute with integers.
const GPU_LANES: f64 = 64.0;
/// Bytes a second of a GPU's memory that floors assume.
const GPU_BYTES_PER_SECOND: f64 = 4e12;
/// Seconds from one launch to the next that floors assume.
const GPU_LAUNCH_SECONDS: f64 = 2e-6;

/// One thing to measure.
#[derive(Debug, Serialize)]
pub struct Case {
    /// Name, as in `ransnn bench NAME`.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    #[serde(skip)]
    work: fn(Scale, &Timer) -> Result<Measured>,
}

/// All cases.
pub const CASES: &[Case] = &[
    Case {
        name: "reservoir/features",
        about: "784 Bernoulli inputs of at most 0.25 to counts of 2000 frozen LIF, T = 50, batch 128, encoding included",
        work: reservoir::features,
    },
    Case {
        name: "reservoir/features-events",
        about: "the same from input spikes that were drawn before",
        work: reservoir::features_events,
    },
    Case {
        name: "reservoir/conv",
        about: "pixels to codes by the frozen convolutions of mnist.toml, batch 128",
        work: reservoir::conv,
    },
    Case {
        name: "readout/ridge",
        about: "normal equations of 10,000 samples of 2000 codes below 32, and their solution for 10 classes",
        work: readout::ridge,
    },
    Case {
        name: "readout/adam",
        about: "400 mini-batches of 128 samples of 2000 counts, 10 classes; a step is one mini-batch",
        work: readout::adam,
    },
    Case {
        name: "sim/lazy",
        about: "500 ms of 10,000 LIF with exponential currents at 1 Hz, 100 synapses each, without a grid",
        work: lazy::exponential,
    },
    Case {
        name: "peft/llama-whole",
        about: "a training step of a Llama of 32 M weights, 4 × 256 tokens: all weights",
        work: |scale, timer| peft::step(peft::Shape::Llama, peft::Tuned::Whole, scale, timer),
    },
    Case {
        name: "peft/llama-lora-qv",
        about: "the same: LoRA of rank 8 on queries and values",
        work: |scale, timer| peft::step(peft::Shape::Llama, peft::Tuned::Lora(peft::Maps::Qv), scale, timer),
    },
    Case {
        name: "peft/llama-lora-all",
        about: "the same: LoRA on every linear map of the blocks",
        work: |scale, timer| peft::step(peft::Shape::Llama, peft::Tuned::Lora(peft::Maps::All), scale, timer),
    },
    Case {
        name: "peft/llama-dora-qv",
        about: "the same: DoRA on queries and values",
        work: |scale, timer| peft::step(peft::Shape::Llama, peft::Tuned::Dora(peft::Maps::Qv), scale, timer),
    },
    Case {
        name: "peft/llama-boft1-all",
        about: "the same: BOFT of one factor of blocks of 4 on every linear map",
        work: |scale, timer| {
            peft::step(peft::Shape::Llama, peft::Tuned::Boft(1, peft::Maps::All), scale, timer)
        },
    },
    Case {
        name: "peft/llama-boft2-all",
        about: "the same: BOFT of two factors",
        work: |scale, timer| {
            peft::step(peft::Shape::Llama, peft::Tuned::Boft(2, peft::Maps::All), scale, timer)
        },
    },
    Case {
        name: "peft/bert-whole",
        about: "a training step of an encoder of MiniLM's shape, 16 × 128 tokens: all weights",
        work: |scale, timer| peft::step(peft::Shape::Bert, peft::Tuned::Whole, scale, timer),
    },
    Case {
        name: "peft/bert-lora-qv",
        about: "the same: LoRA of rank 8 on queries and values",
        work: |scale, timer| peft::step(peft::Shape::Bert, peft::Tuned::Lora(peft::Maps::Qv), scale, timer),
    },
    Case {
        name: "peft/bert-lora-all",
        about: "the same: LoRA on every linear map of the blocks",
        work: |scale, timer| peft::step(peft::Shape::Bert, peft::Tuned::Lora(peft::Maps::All), scale, timer),
    },
    Case {
        name: "peft/bert-dora-qv",
        about: "the same: DoRA on queries and values",
        work: |scale, timer| peft::step(peft::Shape::Bert, peft::Tuned::Dora(peft::Maps::Qv), scale, timer),
    },
    Case {
        name: "peft/bert-boft1-all",
        about: "the same: BOFT of one factor of blocks of 4 on every linear map",
        work: |scale, timer| {
            peft::step(peft::Shape::Bert, peft::Tuned::Boft(1, peft::Maps::All), scale, timer)
        },
    },
    Case {
        name: "peft/bert-boft2-all",
        about: "the same: BOFT of two factors",
        work: |scale, timer| {
            peft::step(peft::Shape::Bert, peft::Tuned::Boft(2, peft::Maps::All), scale, timer)
        },
    },
    Case {
        name: "peft/merge-lora",
        about: "LoRA on every linear map of that Llama, computed into the weights and out again",
        work: |scale, timer| peft::merge(peft::Tuned::Lora(peft::Maps::All), scale, timer),
    },
    Case {
        name: "peft/merge-boft1",
        about: "the same of BOFT with one factor",
        work: |scale, timer| peft::merge(peft::Tuned::Boft(1, peft::Maps::All), scale, timer),
    },
    Case {
        name: "peft/merge-boft2",
        about: "the same of BOFT with two factors",
        work: |scale, timer| peft::merge(peft::Tuned::Boft(2, peft::Maps::All), scale, timer),
    },
    Case {
        name: "peft/generate",
        about: "128 tokens behind 16 by that Llama, one text, keys and values cached",
        work: |scale, timer| peft::generate(peft::Tuned::Whole, scale, timer),
    },
    Case {
        name: "peft/generate-lora",
        about: "the same through LoRA on every linear map, not merged",
        work: |scale, timer| peft::generate(peft::Tuned::Lora(peft::Maps::All), scale, timer),
    },
    Case {
        name: "peft/generate-boft1",
        about: "the same through BOFT of one factor",
        work: |scale, timer| peft::generate(peft::Tuned::Boft(1, peft::Maps::All), scale, timer),
    },
    Case {
        name: "stdp/diehl-cook-400",
        about: "training on pictures of 784 pixels for 250 ms each, BindsNET's constants, one after another",
        work: stdp::sequential,
    },
    Case { name: "stdp/diehl-cook-400-batch", about: "the same in batches of 16", work: stdp::batch },
    Case {
        name: "train/mlp-bptt",
        about: "training steps of 784-1000-10 LIF on Bernoulli spikes of at most 0.25, T = 25, batch 128, Adam",
        work: train::mlp,
    },
    Case {
        name: "train/conv-bptt",
        about: "training steps of 12c5-mp2-64c5-mp2-10 LIF on constant images, T = 25, batch 128, Adam",
        work: train::conv,
    },
    Case {
        name: "infer/mlp",
        about: "the same network by the engine, from input spikes to counts",
        work: train::infer,
    },
    Case {
        name: "sim/vogels-abbott-cuba",
        about: "4000 neurons with exponential currents, 0.5 s at 0.1 ms; the connectivity is built before",
        work: |scale, timer| sim::on_cpu(sim::cuba(scale)?, timer),
    },
    Case {
        name: "sim/vogels-abbott-coba",
        about: "4000 neurons with exponential conductances, 0.5 s at 0.1 ms; the connectivity is built before",
        work: |scale, timer| sim::on_cpu(sim::coba(scale)?, timer),
    },
    Case {
        name: "sim/brunel",
        about: "12,500 neurons, 15.6 M synapses with jumps, Poisson drive, 0.2 s at 0.1 ms",
        work: |scale, timer| sim::on_cpu(sim::brunel(scale)?, timer),
    },
    Case {
        name: "sim/feedforward",
        about: "10,000 Poisson sources with 1000 weights each onto 10,000 neurons, 0.5 s at 0.1 ms",
        work: |scale, timer| sim::on_cpu(sim::feedforward(scale)?, timer),
    },
    Case {
        name: "sim/microcircuit",
        about: "the cortical microcircuit at a tenth of its size, 0.2 s at 0.1 ms",
        work: |scale, timer| sim::on_cpu(sim::microcircuit(scale, 100)?, timer),
    },
    Case {
        name: "sim/microcircuit-full",
        about: "the same at full size: 77,169 neurons, 0.3 G synapses",
        work: |scale, timer| sim::on_cpu(sim::microcircuit(scale, 1000)?, timer),
    },
    Case {
        name: "sim/plastic",
        about: "1000 Poisson sources at 10 Hz onto 1000 neurons, all to all, additive STDP, 0.5 s at 0.1 ms",
        work: |scale, timer| sim::on_cpu(sim::plastic(scale)?, timer),
    },
];

/// What a case does on a GPU.
type OnGpu = fn(Scale, &Timer, &Gpu) -> Result<Measured>;

/// Cases that a GPU runs, too.
const ON_GPU: &[(&str, OnGpu)] = &[
    ("reservoir/features", reservoir::features_on_gpu),
    ("reservoir/conv", reservoir::conv_on_gpu),
    ("sim/vogels-abbott-cuba", |scale, timer, gpu| sim::on_gpu(sim::cuba(scale)?, timer, gpu)),
    ("sim/vogels-abbott-coba", |scale, timer, gpu| sim::on_gpu(sim::coba(scale)?, timer, gpu)),
    ("sim/brunel", |scale, timer, gpu| sim::on_gpu(sim::brunel(scale)?, timer, gpu)),
    ("sim/feedforward", |scale, timer, gpu| sim::on_gpu(sim::feedforward(scale)?, timer, gpu)),
    ("sim/microcircuit", |scale, timer, gpu| sim::on_gpu(sim::microcircuit(scale, 100)?, timer, gpu)),
    ("sim/microcircuit-full", |scale, timer, gpu| sim::on_gpu(sim::microcircuit(scale, 1000)?, timer, gpu)),
    ("sim/plastic", |scale, timer, gpu| sim::on_gpu(sim::plastic(scale)?, timer, gpu)),
];

impl Case {
    /// The case on a GPU, where there is one.
    fn on_gpu(&self) -> Option<OnGpu> {
        ON_GPU.iter().find(|(name, _)| *name == self.name).map(|(_, work)| *work)
    }

    /// Whether a GPU runs it, too.
    pub fn runs_on_gpu(&self) -> bool {
        self.on_gpu().is_some()
    }
}

/// How much work: tests run a tiny form of each case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Full,
    #[cfg(test)]
    Tiny,
}

impl Scale {
    /// `full`, or the other number in tests.
    fn pick(self, full: usize, _tiny: usize) -> usize {
        match self {
            Self::Full => full,
            #[cfg(test)]
            Self::Tiny => _tiny,
        }
    }
}

/// The unit of [`Outcome::value`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Samples per second: more is better.
    #[serde(rename = "samples/s")]
    SamplesPerSecond,
    /// Tokens per second: more is better.
    #[serde(rename = "tokens/s")]
    TokensPerSecond,
    /// Spikes times the synapses they reach, per second: more is better.
    #[serde(rename = "synaptic_events/s")]
    SynapticEventsPerSecond,
    /// Seconds per training step: less is better.
    #[serde(rename = "s/step")]
    SecondsPerStep,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SamplesPerSecond => "samples/s",
            Self::TokensPerSecond => "tokens/s",
            Self::SynapticEventsPerSecond => "synaptic_events/s",
            Self::SecondsPerStep => "s/step",
        })
    }
}

/// The least time that the work of one call could take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Floor {
    /// To be compared with [`Outcome::median_seconds`].
    pub seconds: f64,
    /// The operations counted and the rate assumed.
    pub what: String,
}

impl Floor {
    /// `cycles` spread over the threads of this pool.
    fn of(cycles: f64, what: impl fmt::Display) -> Self {
        let threads = rayon::current_num_threads();
        let cores = if threads == 1 { "one core".into() } else { format!("{threads} cores") };
        Self {
            seconds: cycles / CLOCK_HZ / threads as f64,
            what: format!("{what}; {cores} of {:.0} GHz with 256-bit vectors", CLOCK_HZ / 1e9),
        }
    }

    /// `instructions` of one lane, spread over a GPU.
    fn of_gpu_instructions(gpu: &Gpu, instructions: f64, what: impl fmt::Display) -> Self {
        let multiprocessors = f64::from(gpu.multiprocessors());
        Self {
            seconds: instructions / (multiprocessors * GPU_LANES * GPU_CLOCK_HZ),
            what: format!(
                "{what}; {multiprocessors} multiprocessors of {GPU_LANES} lanes at {} GHz",
                GPU_CLOCK_HZ / 1e9
            ),
        }
    }

    /// `bytes` that have to move in `launches`.
    fn of_gpu_bytes(bytes: f64, launches: f64, what: impl fmt::Display) -> Self {
        Self {
            seconds: (bytes / GPU_BYTES_PER_SECOND).max(launches * GPU_LAUNCH_SECONDS),
            what: format!(
                "{what}: {:.2} GB at {} TB/s, or {launches} launches of {} µs, whichever is longer",
                bytes / 1e9,
                GPU_BYTES_PER_SECOND / 1e12,
                GPU_LAUNCH_SECONDS * 1e6
            ),
        }
    }
}

/// The result of a case. `Display` is for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Version of this layout.
    pub schema: u32,
    /// Name of the case.
    pub case: &'static str,
    /// Where it ran.
    pub device: String,
    /// Threads used.
    pub threads: usize,
    /// The result, from the median.
    pub value: f64,
    /// Its unit.
    pub unit: Unit,
    /// Timed repeats, each of as many calls as take 0.3 s.
    pub repeats: usize,
    /// Median over the repeats of the seconds of one call (one batch, one fit).
    pub median_seconds: f64,
    /// Slowest repeat less fastest, as a share of the median.
    pub spread: f64,
    /// Processor time of one call over all threads, mean over the repeats, where the system tells; steadier than
    /// wall-clock time when others use the machine.
    pub cpu_seconds: Option<f64>,
    /// Largest resident set of the process so far, other cases before this one included.
    pub peak_rss_bytes: u64,
    /// What it is measured against.
    pub floor: Floor,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = match self.unit {
            Unit::SamplesPerSecond | Unit::TokensPerSecond | Unit::SynapticEventsPerSecond => {
                format!("{:.0}", self.value)
            }
            Unit::SecondsPerStep => format!("{:.6}", self.value),
        };
        writeln!(
            f,
            "{:<26} {value:>10} {}   {}, threads {}, spread {:.1} % of {} repeats",
            self.case,
            self.unit,
            self.device,
            self.threads,
            100.0 * self.spread,
            self.repeats
        )?;
        let times = self.median_seconds / self.floor.seconds;
        let floor = &self.floor;
        writeln!(
            f,
            "    {:.6} s a call, {times:.1} times the floor of {:.6} s",
            self.median_seconds, floor.seconds
        )?;
        write!(f, "    floor: {}\n    {:.0} MB at most", floor.what, self.peak_rss_bytes as f64 / 1e6)
    }
}

/// Runs a case: one warm-up, then `repeats` timed repeats.
///
/// # Errors
/// No repeats, threads that cannot be started, a GPU for a case that runs on none, or what the work itself reports.
pub fn run(case: &Case, threads: usize, repeats: usize, device: &Device) -> Result<Outcome> {
    run_at(case, threads, Timer { repeats, least_seconds: 0.3 }, Scale::Full, device)
}

fn run_at(case: &Case, threads: usize, timer: Timer, scale: Scale, device: &Device) -> Result<Outcome> {
    if timer.repeats == 0 {
        return Err(Error::value("repeats", 0, "at least 1"));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|e| Error::Internal(e.to_string()))?;
    let measured = pool.install(|| match (device, case.on_gpu()) {
        (Device::Cpu, _) => (case.work)(scale, &timer),
        (Device::Gpu { gpu, .. }, Some(work)) => work(scale, &timer, gpu),
        (Device::Gpu { .. }, None) => {
            Err(Error::Unsupported { op: case.name, on: format!("on {device}: it has no kernels yet") })
        }
    })?;
    let Measured { times, unit, amount, floor } = measured;
    let median_seconds = times.median();
    Ok(Outcome {
        schema: SCHEMA,
        case: case.name,
        device: device.to_string(),
        threads: pool.current_num_threads(),
        value: match unit {
            Unit::SamplesPerSecond | Unit::TokensPerSecond | Unit::SynapticEventsPerSecond => {
                amount / median_seconds
            }
            Unit::SecondsPerStep => median_seconds / amount,
        },
        unit,
        repeats: timer.repeats,
        median_seconds,
        spread: times.spread(),
        cpu_seconds: times.cpu_seconds,
        peak_rss_bytes: peak_rss_bytes(),
        floor,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_runs_and_its_json_has_every_key() -> Result<()> {
        for case in CASES {
            let outcome =
                run_at(case, 2, Timer { repeats: 2, least_seconds: 0.0 }, Scale::Tiny, &Device::Cpu)?;
            let json = serde_json::to_value(&outcome).expect("plain data");
            assert_eq!((&json["schema"], &json["case"]), (&1.into(), &case.name.into()));
            assert_eq!((&json["threads"], &json["repeats"]), (&2.into(), &2.into()));
            assert_eq!(json["device"], "cpu");
            let units = ["samples/s", "synaptic_events/s", "tokens/s", "s/step"];
            assert!(units.contains(&json["unit"].as_str().expect("text")), "{json}");
            for number in [&json["value"], &json["median_seconds"], &json["floor"]["seconds"]] {
                assert!(number.as_f64().is_some_and(|x| x.is_finite() && x > 0.0), "{json}");
            }
            assert!(json["spread"].as_f64().is_some_and(|x| (0.0..1e6).contains(&x)), "{json}");
            assert!(json["peak_rss_bytes"].is_u64(), "{json}");
            assert!(json["floor"]["what"].as_str().is_some_and(|text| text.contains("2 cores of 3 GHz")));
            let text = outcome.to_string();
            assert!(text.starts_with(case.name) && text.contains("times the floor"), "{text}");
        }
        Ok(())
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = CASES.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), CASES.len());
        assert!(ON_GPU.iter().all(|(name, _)| names.contains(name)));
    }

    #[test]
    fn no_repeats_are_refused() {
        let error = run(&CASES[0], 1, 0, &Device::Cpu).expect_err("refused").to_string();
        assert_eq!(error, "repeats is 0; it must be at least 1");
    }
}
