//! The schema of a simulation: serde types and nothing else. As in training files, units stand in the names of the keys,
//! choices are tagged from outside, and tables are named.

use super::drawn::Drawn;
use super::plastic::{Given, Normalise, Plasticity};
use crate::experiment::config::{Neuron, Shape};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A whole simulation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Version of this schema: 1.
    pub schema: u32,
    /// Names the run directory.
    pub name: String,
    /// Root of every random number.
    #[serde(default)]
    pub seed: u64,
    /// Where it runs.
    #[serde(default)]
    pub run: Run,
    /// How long, and on which clock.
    pub simulate: Simulate,
    /// Populations by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub population: BTreeMap<String, Population>,
    /// Projections by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub projection: BTreeMap<String, Projection>,
    /// What is kept.
    #[serde(default)]
    pub record: Record,
    /// What `ransnn run --check` expects of each population.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expect: BTreeMap<String, Expect>,
}

/// `[run]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    /// `auto`, `cpu`, `cuda` or `cuda:N`. `auto` takes a GPU where there is one, with the kernels and the memory.
    pub device: String,
    /// Threads; 0 takes all cores. Results do not depend on it.
    pub threads: usize,
    /// A network that needs more is refused before anything is allocated.
    pub memory_gib: f64,
}

impl Default for Run {
    fn default() -> Self {
        Self { device: "cpu".into(), threads: 0, memory_gib: 16.0 }
    }
}

/// `[simulate]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simulate {
    /// A network of the literature, instead of populations and projections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Standard>,
    /// Time that is simulated.
    pub duration_ms: f64,
    /// Time at the beginning that statistics leave out; part of the duration.
    #[serde(default)]
    pub warmup_ms: f64,
    /// Time step.
    #[serde(default = "tenth")]
    pub step_ms: f64,
    /// On a grid of time, or without one.
    #[serde(default)]
    pub clock: Clock,
    /// Numbers of the grid; without it they are always `f64`.
    #[serde(default)]
    pub precision: Precision,
    /// Whether synapses are stored, or drawn again whenever their source fires.
    #[serde(default)]
    pub connectivity: Connectivity,
    /// Simulated time between checkpoints; 0 writes one on Ctrl-C only.
    #[serde(default = "ten_seconds")]
    pub checkpoint_every_ms: f64,
    /// Rewards for the projections that wait for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rewards: Vec<Given>,
}

fn tenth() -> f64 {
    0.1
}

fn ten_seconds() -> f64 {
    10_000.0
}

/// `simulate.network`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Standard {
    /// Vogels and Abbott (2005) with currents: benchmark 2 of Brette et al. (2007).
    VogelsAbbottCuba,
    /// The same with conductances: benchmark 1.
    VogelsAbbottCoba,
    /// Brunel (2000), model A.
    Brunel {
        /// Strength of inhibition relative to excitation.
        #[serde(default = "five")]
        g: f64,
        /// External rate relative to the one that reaches the threshold.
        #[serde(default = "two")]
        eta: f64,
    },
    /// Potjans and Diesmann (2014).
    Microcircuit {
        /// Share of the full network's neurons and of the synapses of each.
        #[serde(default = "one")]
        scale: f64,
    },
    /// Poisson sources onto as many neurons.
    Feedforward {
        /// Sources, and neurons.
        size: usize,
    },
}

fn one() -> f64 {
    1.0
}

fn two() -> f64 {
    2.0
}

fn five() -> f64 {
    5.0
}

/// `simulate.clock`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// Every neuron in every step.
    #[default]
    Grid,
    /// Neurons that receive something, with exact spike times.
    Lazy,
}

/// `simulate.precision`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    F32,
    /// 64-bit floating point.
    F64,
}

/// `simulate.connectivity`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connectivity {
    /// In tables.
    #[default]
    Stored,
    /// Drawn again whenever their source fires, in no memory; on a GPU.
    Procedural,
}

/// `[population.NAME]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Population {
    /// Number of neurons, or `[channels, height, width]` for the rule `gaussian`.
    pub size: Shape,
    /// The model, or a source of spikes.
    pub neuron: Neuron,
    /// Membrane potential at the beginning; that of the model if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_mv: Option<Drawn>,
    /// Input from outside, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub drive: BTreeMap<String, Drive>,
}

/// `neuron.poisson`: each neuron fires in each step with probability rate · step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoissonSource {
    /// Rate of each neuron.
    pub rate_hz: f64,
    /// First time.
    #[serde(default)]
    pub from_ms: f64,
    /// First time after; without end if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<f64>,
}

/// `neuron.spikes`: neuron `neurons[i]` fires at `times_ms[i]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpikeList {
    /// Times, multiples of the step.
    pub times_ms: Vec<f64>,
    /// As many neurons.
    pub neurons: Vec<u32>,
}

/// `population.NAME.drive.NAME`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Drive {
    /// Spikes of an independent Poisson train for each neuron.
    Poisson {
        /// Total rate for a neuron.
        rate_hz: f64,
        /// Weight of each spike.
        weight: f64,
        /// The model's first one if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        receptor: Option<String>,
    },
    /// A current.
    Current {
        /// The same for all, or drawn for each neuron.
        amplitude: Drawn,
        /// First time.
        #[serde(default)]
        from_ms: f64,
        /// First time after; without end if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until_ms: Option<f64>,
        /// `current` if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        receptor: Option<String>,
    },
}

/// `[projection.NAME]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Projection {
    /// Source population.
    pub from: String,
    /// Target population.
    pub to: String,
    /// Which pairs are connected.
    pub connect: Connect,
    /// Receptor of the target's model; its first one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receptor: Option<String>,
    /// The same for all, or drawn for each synapse.
    pub weights: Drawn,
    /// Draw weights again that have not the sign of their mean.
    #[serde(default)]
    pub keep_sign: bool,
    /// The same for all, or drawn for each synapse and rounded to the step.
    pub delay_ms: Drawn,
    /// Whether a neuron may be connected to itself.
    #[serde(default = "yes")]
    pub self_connections: bool,
    /// How spikes change the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plasticity: Option<Plasticity>,
    /// Scales plastic weights so that those into a neuron keep their sum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalise: Option<Normalise>,
}

fn yes() -> bool {
    true
}

/// `projection.NAME.connect`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Connect {
    /// Every source to every target.
    #[serde(alias = "all-to-all")]
    Dense,
    /// Source i to target i.
    OneToOne,
    /// Each pair with a probability.
    FixedProbability {
        /// Probability of a pair.
        p: f64,
    },
    /// Each target from `k` random sources.
    FixedInDegree {
        /// Synapses of a target.
        k: usize,
        /// Whether a source may be drawn more than once.
        #[serde(default)]
        multapses: bool,
    },
    /// Each source to `k` random targets.
    FixedOutDegree {
        /// Synapses of a source.
        k: usize,
        /// Whether a target may be drawn more than once.
        #[serde(default)]
        multapses: bool,
    },
    /// So many pairs, drawn independently.
    FixedTotal {
        /// Synapses.
        n: u64,
    },
    /// By distance on a torus of side 1.
    Gaussian {
        /// Probability at distance 0.
        p_max: f64,
        /// Standard deviation, in sides of the torus.
        sigma: f64,
    },
    /// These pairs (source, target).
    Pairs(Vec<(u32, u32)>),
}

/// `[record]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Record {
    /// Populations whose spikes are kept; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spikes: Option<Vec<String>>,
    /// Width of the bins of population rates.
    pub rate_bin_ms: f64,
    /// Files that spikes, variables and rates are written to.
    pub export: Vec<Export>,
    /// State variables, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub trace: BTreeMap<String, Trace>,
    /// Weights of plastic projections over time, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, Weights>,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            spikes: None,
            rate_bin_ms: 5.0,
            export: vec![Export::Npz, Export::Csv],
            trace: BTreeMap::new(),
            weights: BTreeMap::new(),
        }
    }
}

/// `record.export`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Export {
    /// `recordings.npz`.
    Npz,
    /// `spikes.csv`, `traces.csv` and `rates.csv`.
    Csv,
}

/// `record.trace.NAME`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// The population.
    pub population: String,
    /// The state variable.
    #[serde(default = "membrane")]
    pub variable: String,
    /// Its neurons, from 0.
    pub neurons: Vec<u32>,
    /// Time between two values; each step if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<f64>,
}

/// `record.weights.NAME`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// The projection.
    pub projection: String,
    /// Numbers of its synapses, which are counted by source, then by target.
    pub synapses: Vec<u32>,
    /// Time between two values.
    pub every_ms: f64,
}

/// Name of the first variable of every model.
pub(super) const MEMBRANE: &str = "membrane potential";

fn membrane() -> String {
    MEMBRANE.into()
}

/// `expect.NAME`: smallest and largest value that `ransnn run --check` accepts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Mean rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_hz: Option<[f64; 2]>,
    /// Mean coefficient of variation of the intervals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cv: Option<[f64; 2]>,
    /// Mean correlation of pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation: Option<[f64; 2]>,
    /// Variance over mean of the population's spike count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fano: Option<[f64; 2]>,
}
