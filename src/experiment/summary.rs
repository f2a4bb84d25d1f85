//! The result of a run, as other tools read it (`summary.json`, `ransnn run --json`).

use serde::{Deserialize, Serialize};

/// Version of the layout of [`Summary`].
pub const SCHEMA: u32 = 1;

/// One number, or several over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Stat {
    /// One run.
    One(f64),
    /// Several seeds.
    Many {
        /// Arithmetic mean.
        mean: f64,
        /// Standard deviation of the sample (n − 1).
        std: f64,
        /// In the order of the seeds.
        values: Vec<f64>,
    },
}

impl Stat {
    /// One number stays as it is; several are aggregated.
    ///
    /// ```
    /// use ransnn::experiment::summary::Stat;
    /// assert_eq!(Stat::of(&[0.5]), Stat::One(0.5));
    /// assert_eq!(Stat::of(&[0.25, 0.75]).mean(), 0.5);
    /// ```
    pub fn of(values: &[f64]) -> Self {
        if let [one] = values {
            return Self::One(*one);
        }
        let n = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0).max(1.0);
        Self::Many { mean, std: variance.sqrt(), values: values.to_vec() }
    }

    /// The number, or the mean.
    pub fn mean(&self) -> f64 {
        match self {
            Self::One(value) => *value,
            Self::Many { mean, .. } => *mean,
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// To the end.
    Ok,
    /// With an error.
    Failed,
    /// By the user.
    Interrupted,
}

/// The result of a run. Accuracies are fractions, times seconds over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this layout.
    pub schema: u32,
    /// Name of the experiment.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// The data set that was used.
    pub dataset: String,
    /// Why it is not the one that was asked for.
    pub fallback: Option<String>,
    /// What the reader must know before the numbers, for example that a layer is silent.
    #[serde(default)]
    pub notices: Vec<String>,
    /// What the trainer found beside the accuracy, in words.
    #[serde(default)]
    pub details: Vec<String>,
    /// `test` or `validation`: what `test.accuracy` was measured on.
    pub judged_on: String,
    /// On samples never trained on.
    pub test: Accuracy,
    /// On the training samples.
    pub train: Accuracy,
    /// Wall-clock seconds.
    pub seconds: Seconds,
    /// Spikes of all neurons.
    pub spikes: PerSample,
    /// Spikes delivered to targets, and spikes counted as features, once each.
    pub synaptic_operations: PerSample,
    /// Multiply-accumulates of constant input currents.
    pub analogue_operations: PerSample,
    /// Memory.
    pub memory: Memory,
    /// Sizes.
    pub parameters: Parameters,
    /// Each seed on its own.
    pub seeds: Vec<Seed>,
    /// `cpu` or the GPU's name.
    pub device: String,
    /// Threads used.
    pub threads: usize,
    /// Where everything was written.
    pub run_directory: Option<String>,
}

/// Share of samples classified correctly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// From 0 to 1.
    pub accuracy: Stat,
}

/// Wall-clock seconds by phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Reading the samples.
    pub data: f64,
    /// Running the frozen layers over the training samples, calibration included.
    pub features: f64,
    /// Fitting the readout.
    pub fit: f64,
    /// Running and judging the test samples.
    pub test: f64,
    /// From start to end, report included.
    pub total: f64,
}

/// A count per sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PerSample {
    /// Mean over samples and seeds.
    pub per_sample: f64,
}

/// Memory of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Largest resident set; 0 where the system does not tell.
    pub peak_rss_bytes: u64,
}

/// Numbers of weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// Trained.
    pub trained: usize,
    /// Drawn and frozen.
    pub frozen: usize,
}

/// The result of one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seed {
    /// The seed.
    pub seed: u64,
    /// Accuracy on samples never trained on.
    pub test_accuracy: f64,
    /// Accuracy on the training samples.
    pub train_accuracy: f64,
    /// Strength of the ridge that was chosen.
    pub lambda: Option<f64>,
    /// Spikes per test sample.
    pub spikes_per_sample: f64,
    /// Delivered spikes per test sample.
    pub synaptic_operations_per_sample: f64,
    /// Analogue multiply-accumulates per test sample.
    pub analogue_operations_per_sample: f64,
    /// Times of this seed.
    pub seconds: Seconds,
}

/// Largest resident set of this process in bytes, where the system tells (Linux).
pub fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}
