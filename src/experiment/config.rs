//! The schema of an experiment file: serde types and nothing else. Meaning is checked in `check.rs`.
//!
//! Units stand in the names of the keys. Choices are tagged from outside (`neuron.lif = { … }`), so that an error
//! can point at the misspelt key. Tables are named, so that random streams and `--set` have a path and reordering
//! changes nothing.

pub use super::unitless::{Alif, Dialect, Lif, Reset, Synaptic};
use super::{neuron, simulate, train};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A whole experiment.
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
    /// Where and how it runs.
    #[serde(default)]
    pub run: Run,
    /// What it learns from.
    pub data: Data,
    /// How samples become input; `train.stdp` does it in its own way.
    #[serde(default, skip_serializing_if = "Encode::is_absent")]
    pub encode: Encode,
    /// Populations by name; `train.convert` and `train.stdp` make their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub population: BTreeMap<String, Population>,
    /// Projections by name.
    #[serde(default)]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub projection: BTreeMap<String, Projection>,
    /// What the readout of `train.ransnn` sees.
    #[serde(default, skip_serializing_if = "Features::is_absent")]
    pub features: Features,
    /// How the trainable part is trained.
    pub train: Train,
    /// How it is judged.
    #[serde(default)]
    pub eval: Eval,
    /// Keys with lists of values: one run for each combination.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sweep: BTreeMap<String, Vec<toml::Value>>,
}

/// `[run]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    /// `auto`, `cpu`, `cuda` or `cuda:N`. `auto` takes a GPU where there is one and it has the kernels. The default is
    /// `cpu` until they have been compared with it on a real GPU.
    pub device: String,
    /// Threads; 0 takes all cores. Results do not depend on it.
    pub threads: usize,
    /// Mini-batches between checkpoints of an iterative solver.
    pub checkpoint_every: usize,
}

impl Default for Run {
    fn default() -> Self {
        Self { device: "cpu".into(), threads: 0, checkpoint_every: 100 }
    }
}

/// `[data]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// A name from `ransnn data list`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// Instead of `dataset`: your own `.csv` or `.npz` file, or recordings of an event camera.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Built-in data to take when the data set cannot be fetched: `none` or `strokes`.
    #[serde(default)]
    pub fallback: Fallback,
    /// Use only the first so many training samples; 0 for all.
    #[serde(default)]
    pub train_limit: usize,
    /// Use only the first so many test samples; 0 for all.
    #[serde(default)]
    pub test_limit: usize,
    /// Samples at the end of the training set held out for `eval.on = "validation"`.
    #[serde(default)]
    pub validation: usize,
    /// Column with the labels of a `.csv` file; empty for the last one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label_column: String,
    /// Share of a file of your own that becomes the test set.
    #[serde(default = "test_share")]
    pub test_share: f64,
}

fn test_share() -> f64 {
    0.2
}

/// What to do without the data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fallback {
    /// Stop.
    #[default]
    None,
    /// Take the built-in digits, and say so everywhere.
    Strokes,
}

/// `[encode.…]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Encode {
    /// Not given.
    #[default]
    #[serde(skip)]
    Absent,
    /// Intensity as a constant input current.
    Constant {
        /// Time steps T.
        steps: usize,
    },
    /// A spike in each step with a probability proportional to the intensity (Bernoulli per step).
    Poisson {
        /// Time steps T.
        steps: usize,
        /// Length of a step.
        #[serde(default = "one")]
        dt_ms: f64,
        /// Rate at full intensity; at most one spike a step.
        #[serde(default = "thousand")]
        max_rate_hz: f64,
    },
    /// One spike, the earlier the brighter; none for zero.
    Latency {
        /// Time steps T.
        steps: usize,
    },
    /// The events of a recording, each a spike of its place.
    Events {
        /// Time steps T.
        steps: usize,
        /// Length of a step.
        step_ms: f64,
    },
}

fn one() -> f64 {
    1.0
}

fn thousand() -> f64 {
    1000.0
}

/// `[population.NAME]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Population {
    /// Number of neurons, or `[channels, height, width]`.
    pub shape: Shape,
    /// The model.
    pub neuron: Neuron,
}

/// A size or an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number of neurons or [channels, height, width]")]
pub enum Shape {
    /// A plain number of neurons.
    Size(usize),
    /// `[channels, height, width]`.
    Image([usize; 3]),
}

impl Shape {
    /// As a list of dimensions.
    pub fn dims(&self) -> Vec<usize> {
        match self {
            Self::Size(n) => vec![*n],
            Self::Image(dims) => dims.to_vec(),
        }
    }
}

/// `population.NAME.neuron`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Neuron {
    /// Takes the encoded samples.
    Input,
    /// Leaky integrate-and-fire.
    Lif(Lif),
    /// snnTorch's second-order LIF, with a synaptic current.
    Synaptic(Synaptic),
    /// LIF with a threshold that adapts.
    Alif(Alif),
    /// LIF whose membrane jumps with each spike.
    DeltaLif(neuron::DeltaLif),
    /// LIF with exponential currents.
    ExpLif(neuron::ExpLif),
    /// LIF with alpha-shaped currents.
    AlphaLif(neuron::AlphaCurrentLif),
    /// LIF with exponential conductances.
    CondLif(neuron::ConductanceLif),
    /// LIF with adapting current and threshold.
    AdaptiveLif(neuron::Adaptive),
    /// Adaptive exponential integrate-and-fire with currents.
    #[serde(rename = "adex")]
    AdEx(neuron::AdExCurrent),
    /// Adaptive exponential integrate-and-fire with conductances.
    #[serde(rename = "adex-cond")]
    AdExCond(neuron::AdExConductance),
    /// Izhikevich's neuron.
    Izhikevich(neuron::IzhikevichNeuron),
    /// Integrate-and-fire without a leak.
    IntegrateFire(neuron::IntegrateFire),
    /// A leaky integrator that never fires.
    LeakyIntegrator(neuron::LeakyIntegrator),
    /// No neurons but random spikes; of simulations.
    Poisson(simulate::config::PoissonSource),
    /// No neurons but listed spikes; of simulations.
    Spikes(simulate::config::SpikeList),
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
    #[serde(default)]
    pub connect: Connect,
    /// What the weights are drawn from.
    pub weights: Weights,
    /// What the biases are drawn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<Weights>,
    /// Subtract from each target's weights their mean.
    #[serde(default)]
    pub zero_mean: bool,
    /// Smooth the kernels of a convolution with a Gaussian of so many pixels; 0 for none.
    #[serde(default)]
    pub smooth: f64,
    /// The second half of the target's channels gets the first half's kernels with the sign turned round.
    #[serde(default)]
    pub mirror: bool,
    /// A share of the sources excitatory, the others inhibitory, with sum zero on average (Dale's law).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excitatory_share: Option<f64>,
    /// Factor on the weights, or how to find it on a calibration batch.
    #[serde(default)]
    pub gain: Gain,
    /// Time from a spike to its effect, a multiple of the time step; none acts in the step of the spike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<f64>,
    /// Never trained.
    #[serde(default = "yes")]
    pub frozen: bool,
    /// How the weights are stored.
    #[serde(default)]
    pub precision: Precision,
}

fn yes() -> bool {
    true
}

/// `projection.NAME.connect`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Connect {
    /// Every source to every target.
    #[default]
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
        /// Fan-in.
        k: usize,
    },
    /// Convolution with square kernels.
    Conv2d {
        /// Side of the kernel.
        kernel: usize,
        /// Step between neighbouring targets.
        #[serde(default = "one_step")]
        stride: usize,
        /// Zeros added on each side.
        #[serde(default)]
        padding: usize,
        /// Side of the windows over which the source is averaged first; 1 for none.
        #[serde(default = "one_step")]
        pool: usize,
        /// Side of the windows whose largest current drives a target; 1 for none.
        #[serde(default = "one_step")]
        max_pool: usize,
    },
    /// Each target from a random square window.
    LocalFields {
        /// Smallest side.
        min: usize,
        /// Largest side.
        max: usize,
    },
}

fn one_step() -> usize {
    1
}

/// A distribution of weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Weights {
    /// Uniform in ±1/√fan-in.
    KaimingUniform,
    /// All the same.
    Constant(f64),
    /// Uniform.
    Uniform {
        /// Lower bound.
        low: f64,
        /// Upper bound.
        high: f64,
    },
    /// Normal.
    Normal {
        /// Mean.
        #[serde(default)]
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
}

/// `projection.NAME.gain`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Gain {
    /// This factor.
    Fixed(f64),
    /// Per channel or neuron: root mean square of the input current over a calibration batch.
    RmsDrive(f64),
    /// Whole projection: mean share of steps with a spike over a calibration batch.
    FiringRate(f64),
}

impl Default for Gain {
    fn default() -> Self {
        Self::Fixed(1.0)
    }
}

/// How weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// `int8` where the weights are frozen, `f32` where they learn.
    #[default]
    Auto,
    /// 8-bit integers and a scale: exact sums, a quarter of the memory.
    Int8,
    /// 32-bit floating point.
    F32,
}

/// `[features]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Features {
    /// Populations, side by side.
    pub from: Vec<String>,
    /// What is recorded of each neuron.
    #[serde(default)]
    pub record: Record,
    /// Sum counts over windows of the image.
    #[serde(default)]
    pub pool: Pool,
    /// Function applied to each count.
    #[serde(default)]
    pub transform: Transform,
    /// Number of levels the transformed count is rounded to; 0 keeps it as it is.
    #[serde(default)]
    pub levels: usize,
}

impl Features {
    fn is_absent(&self) -> bool {
        self.from.is_empty()
    }
}

/// `features.record`
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Record {
    /// Number of spikes.
    #[default]
    Counts,
    /// Membrane potential after the last step.
    Membrane,
    /// Low-pass filtered spikes after the last step.
    Trace {
        /// Factor per step.
        decay: f64,
    },
    /// Counts in so many equal bins of time.
    Bins(usize),
}

/// `features.pool`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// Windows along each side of the image; 0 for no pooling.
    pub cells: usize,
    /// Width of a window as a multiple of the distance between windows: above 1 they overlap.
    pub width: f64,
}

impl Default for Pool {
    fn default() -> Self {
        Self { cells: 0, width: 1.0 }
    }
}

/// `features.transform`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transform {
    /// The count itself.
    #[default]
    None,
    /// Its square root.
    Sqrt,
}

/// `[train.…]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Train {
    /// Random frozen layers, trained readout.
    Ransnn {
        /// How the readout is fitted.
        solver: Solver,
    },
    /// Surrogate gradients: back-propagation through time.
    Surrogate(train::config::Surrogate),
    /// An ordinary network is trained and becomes a spiking one.
    Convert(train::config::Convert),
    /// The network of Diehl & Cook, without labels.
    Stdp(train::config::Stdp),
    /// Random frozen layers, a spiking readout by the times of spikes.
    StdpReadout(train::config::StdpReadout),
}

/// `train.ransnn.solver`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Solver {
    /// Closed form: ridge regression on standardised features.
    Ridge {
        /// Strengths to choose from, on standardised features.
        lambda: Vec<f64>,
        /// Training rows on which leave-one-out chooses; ignored with one strength.
        #[serde(default = "loo_rows")]
        select_rows: usize,
        /// Training samples in the normal equations, from the first; 0 for all. With `hinge`, a part is enough.
        #[serde(default)]
        rows: usize,
        /// Steps of squared-hinge refinement after the ridge; 0 for none.
        #[serde(default)]
        hinge: usize,
        /// Strength of the penalty in the refinement, per sample.
        #[serde(default = "hinge_lambda")]
        hinge_lambda: f64,
    },
    /// Cross-entropy by Adam, as in the RanSNN paper.
    Adam {
        /// Learning rate.
        #[serde(default = "paper_lr")]
        lr: f64,
        /// Samples in a mini-batch.
        #[serde(default = "paper_batch")]
        batch: usize,
        /// Passes over the training set.
        #[serde(default = "one_epoch")]
        epochs: usize,
        /// Stop after so many mini-batches; 0 for whole passes.
        #[serde(default)]
        batches: usize,
    },
}

fn loo_rows() -> usize {
    2000
}

fn hinge_lambda() -> f64 {
    1e-3
}

fn paper_lr() -> f64 {
    5e-4
}

fn paper_batch() -> usize {
    128
}

fn one_epoch() -> usize {
    1
}

/// `[eval]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Eval {
    /// Runs with seeds `seed`, `seed + 1`, …
    pub repeat: usize,
    /// `test`, or `validation` while choosing hyper-parameters.
    pub on: On,
    /// `ransnn run --check` fails below this accuracy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_accuracy: Option<f64>,
}

impl Default for Eval {
    fn default() -> Self {
        Self { repeat: 1, on: On::Test, expect_accuracy: None }
    }
}

/// Which samples judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum On {
    /// The test set.
    Test,
    /// The held-out end of the training set.
    Validation,
}

impl Encode {
    /// Time steps T.
    pub fn steps(&self) -> usize {
        match *self {
            Self::Absent => 0,
            Self::Constant { steps }
            | Self::Poisson { steps, .. }
            | Self::Latency { steps }
            | Self::Events { steps, .. } => steps,
        }
    }

    fn is_absent(&self) -> bool {
        *self == Self::Absent
    }

    /// Length of a step in milliseconds.
    pub fn dt_ms(&self) -> f64 {
        match *self {
            Self::Poisson { dt_ms, .. } => dt_ms,
            Self::Events { step_ms, .. } => step_ms,
            _ => 1.0,
        }
    }
}
