//! The schema of `[train.surrogate]`.

use super::Augment;
use crate::learn::surrogate::{self, Gradient, Method, RatePenalty};
use crate::snn::Network;
use serde::{Deserialize, Serialize};

/// `[train.surrogate]`: every projection with `frozen = false` learns by surrogate gradients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Surrogate {
    /// Population with a neuron per class.
    pub output: String,
    /// What is made small.
    #[serde(default)]
    pub loss: Loss,
    /// Backwards through time, or forward with traces.
    #[serde(default)]
    pub gradient: Credit,
    /// Derivative of the spike.
    #[serde(default)]
    pub surrogate: Derivative,
    /// Leave resets out of the gradient.
    #[serde(default = "yes")]
    pub detach_reset: bool,
    /// The leak of each population learns.
    #[serde(default)]
    pub learn_beta: bool,
    /// The time constant of each population that leaks learns: 1/τ = σ(w).
    #[serde(default)]
    pub learn_tau: bool,
    /// The threshold of each hidden population learns.
    #[serde(default)]
    pub learn_threshold: bool,
    /// How potentials are kept between the way forth and the way back.
    #[serde(default)]
    pub storage: Storage,
    /// Normalise the currents of hidden populations over the batch; folded into the weights in the end.
    #[serde(default)]
    pub batch_norm: bool,
    /// Who changes the parameters.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// Learning rate.
    #[serde(default = "rate")]
    pub lr: f64,
    /// Weight decay.
    #[serde(default)]
    pub weight_decay: f64,
    /// How the learning rate goes on.
    #[serde(default)]
    pub schedule: Schedule,
    /// Mini-batches over which the learning rate rises in the beginning.
    #[serde(default)]
    pub warmup: usize,
    /// Largest norm of a gradient; 0 for any.
    #[serde(default)]
    pub clip: f64,
    /// Share of the hidden neurons that are silenced in a training step.
    #[serde(default)]
    pub dropout: f64,
    /// Samples in a mini-batch.
    #[serde(default = "batch")]
    pub batch: usize,
    /// Samples of a mini-batch that go forwards and backwards together; 0 for all.
    #[serde(default)]
    pub micro_batch: usize,
    /// What is kept of a sequence between the way forth and the way back.
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// Passes over the training set.
    #[serde(default = "epochs")]
    pub epochs: usize,
    /// Training samples at the end that are judged after each pass; the best network is kept.
    #[serde(default)]
    pub held_out: usize,
    /// Passes without a better network after which training ends; 0 for never.
    #[serde(default)]
    pub patience: usize,
    /// Terms on the rates of hidden populations.
    #[serde(default)]
    pub rates: Rates,
    /// How images are changed in each pass.
    #[serde(default)]
    pub augment: Augment,
}

fn yes() -> bool {
    true
}

fn rate() -> f64 {
    1e-3
}

fn batch() -> usize {
    128
}

fn epochs() -> usize {
    10
}

/// `train.surrogate.loss`: [`surrogate::Loss`]. CE is cross-entropy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Loss {
    /// CE of spike counts.
    #[default]
    CeCount,
    /// Mean over steps of the CE of spikes.
    CeRate,
    /// CE of mean rates.
    CeMeanRate,
    /// Mean over steps of the CE of membranes.
    CeMembrane,
    /// CE of the largest membrane of each output.
    CeMembraneMax,
    /// CE of the last membrane.
    CeMembraneLast,
    /// CE of the mean membrane.
    CeMembraneMean,
    /// Squared distance of mean rates from one-hot.
    MseRate,
    /// CE of membranes in each step, and their squared distance from a target: temporal efficient training.
    Tet {
        /// Share of the squared distance.
        #[serde(default = "share")]
        lambda: f64,
        /// What all membranes are drawn to.
        #[serde(default = "one")]
        target: f64,
    },
    /// Squared distance of counts from those wanted.
    MseCount {
        /// Rate of the right class, spikes per step.
        #[serde(default = "correct")]
        correct: f64,
        /// Rate of the others.
        #[serde(default = "incorrect")]
        incorrect: f64,
    },
}

fn correct() -> f64 {
    0.8
}

fn incorrect() -> f64 {
    0.2
}

fn share() -> f64 {
    0.05
}

/// `train.surrogate.storage`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Storage {
    /// 4 bytes each.
    #[default]
    F32,
    /// 2 bytes each.
    Bf16,
}

/// `train.surrogate.gradient`: [`surrogate::Credit`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Credit {
    /// Back-propagation through time.
    #[default]
    Bptt,
    /// e-prop.
    Eprop,
    /// Online training through time.
    Ottt,
}

/// `train.surrogate.checkpoint`: [`surrogate::Checkpoint`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checkpoint {
    /// All steps.
    #[default]
    None,
    /// Stretches of √T steps.
    Sqrt,
    /// Stretches of so many steps.
    Every(usize),
}

/// `train.surrogate.surrogate`: [`crate::tensor::Surrogate`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Derivative {
    /// `(α/2) / (1 + (π α x / 2)²)`.
    Arctan {
        /// α.
        #[serde(default = "two")]
        alpha: f64,
    },
    /// `1 / (1 + k |x|)²`.
    FastSigmoid {
        /// k.
        #[serde(default = "steep")]
        slope: f64,
    },
    /// `k σ(k x) (1 − σ(k x))`.
    Sigmoid {
        /// k.
        #[serde(default = "four")]
        slope: f64,
    },
    /// `max(0, α − α² |x|)`.
    Triangle {
        /// α.
        #[serde(default = "one")]
        alpha: f64,
    },
    /// `(γ/θ) max(0, 1 − |x| / θ)`.
    ScaledTriangle {
        /// γ.
        #[serde(default = "third")]
        gamma: f64,
        /// θ.
        #[serde(default = "one")]
        threshold: f64,
    },
    /// `1 / 2w` where `|x| < w`.
    Boxcar {
        /// w.
        #[serde(default = "half")]
        width: f64,
    },
    /// `1 / 2w` where `|x| < w`, else c.
    LeakyBoxcar {
        /// w.
        #[serde(default = "one")]
        width: f64,
        /// c.
        #[serde(default = "hundredth")]
        outside: f64,
    },
    /// `(α/2) e^(−α |x|)`.
    Exponential {
        /// α.
        #[serde(default = "one")]
        alpha: f64,
    },
    /// `1 / (2 α (1/α + |x|)²)`.
    SoftSign {
        /// α.
        #[serde(default = "two")]
        alpha: f64,
    },
    /// `(α/√π) e^(−α² x²)`.
    Gaussian {
        /// α.
        #[serde(default = "two")]
        alpha: f64,
    },
    /// `h` where `x < 0`, else `−h`: snnTorch's `triangular`.
    SignedStep {
        /// h.
        #[serde(default = "one")]
        height: f64,
    },
    /// 1.
    StraightThrough,
}

fn hundredth() -> f64 {
    0.01
}

fn third() -> f64 {
    0.3
}

fn half() -> f64 {
    0.5
}

fn one() -> f64 {
    1.0
}

fn two() -> f64 {
    2.0
}

fn four() -> f64 {
    4.0
}

fn steep() -> f64 {
    25.0
}

impl Default for Derivative {
    fn default() -> Self {
        Self::Arctan { alpha: two() }
    }
}

impl Derivative {
    /// The constants that are above 0, with their names.
    pub(in crate::experiment) fn constants(self) -> Vec<(&'static str, f64)> {
        match self {
            Self::Arctan { alpha } => vec![("arctan.alpha", alpha)],
            Self::FastSigmoid { slope } => vec![("fast-sigmoid.slope", slope)],
            Self::Sigmoid { slope } => vec![("sigmoid.slope", slope)],
            Self::Triangle { alpha } => vec![("triangle.alpha", alpha)],
            Self::ScaledTriangle { gamma, threshold } => {
                vec![("scaled-triangle.gamma", gamma), ("scaled-triangle.threshold", threshold)]
            }
            Self::Boxcar { width } => vec![("boxcar.width", width)],
            Self::LeakyBoxcar { width, .. } => vec![("leaky-boxcar.width", width)],
            Self::Exponential { alpha } => vec![("exponential.alpha", alpha)],
            Self::SoftSign { alpha } => vec![("soft-sign.alpha", alpha)],
            Self::Gaussian { alpha } => vec![("gaussian.alpha", alpha)],
            Self::SignedStep { height } => vec![("signed-step.height", height)],
            Self::StraightThrough => vec![],
        }
    }

    fn of_library(self) -> crate::tensor::Surrogate {
        use crate::tensor::Surrogate as Of;
        match self {
            Self::Arctan { alpha } => Of::Arctan { alpha },
            Self::FastSigmoid { slope } => Of::FastSigmoid { slope },
            Self::Sigmoid { slope } => Of::Sigmoid { slope },
            Self::Triangle { alpha } => Of::Triangle { alpha },
            Self::ScaledTriangle { gamma, threshold } => Of::ScaledTriangle { gamma, threshold },
            Self::Boxcar { width } => Of::Boxcar { width },
            Self::LeakyBoxcar { width, outside } => Of::LeakyBoxcar { width, outside },
            Self::Exponential { alpha } => Of::Exponential { alpha },
            Self::SoftSign { alpha } => Of::SoftSign { alpha },
            Self::Gaussian { alpha } => Of::Gaussian { alpha },
            Self::SignedStep { height } => Of::SignedStep { height },
            Self::StraightThrough => Of::StraightThrough,
        }
    }
}

/// `train.surrogate.optimizer`
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Optimizer {
    /// Adam; weight decay is part of the gradient.
    #[default]
    Adam,
    /// Adam with decoupled weight decay.
    #[serde(rename = "adamw")]
    AdamW,
    /// Gradient descent.
    Sgd {
        /// μ.
        #[serde(default = "momentum")]
        momentum: f64,
    },
}

fn momentum() -> f64 {
    0.9
}

/// `train.surrogate.schedule`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The same rate all the time.
    #[default]
    Constant,
    /// Down to 1 % along half a cosine.
    Cosine,
}

/// `train.surrogate.rates`: [`RatePenalty`]. Rates are spikes per step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// λ of the mean number of spikes per sample.
    pub sparsity: f64,
    /// λ of squared shortfalls below `least`.
    pub lower: f64,
    /// Least rate of a neuron.
    pub least: f64,
    /// λ of squared excesses above `most`.
    pub upper: f64,
    /// Largest rate of a neuron.
    pub most: f64,
}

impl Surrogate {
    /// For the library.
    pub fn options(&self) -> surrogate::Options {
        let rates = self.rates;
        surrogate::Options {
            loss: match self.loss {
                Loss::CeCount => surrogate::Loss::CeCount,
                Loss::CeRate => surrogate::Loss::CeRate,
                Loss::CeMeanRate => surrogate::Loss::CeMeanRate,
                Loss::CeMembrane => surrogate::Loss::CeMembrane,
                Loss::CeMembraneMax => surrogate::Loss::CeMembraneMax,
                Loss::CeMembraneLast => surrogate::Loss::CeMembraneLast,
                Loss::CeMembraneMean => surrogate::Loss::CeMembraneMean,
                Loss::MseRate => surrogate::Loss::MseRate,
                Loss::Tet { lambda, target } => surrogate::Loss::Tet { lambda, target },
                Loss::MseCount { correct, incorrect } => surrogate::Loss::MseCount { correct, incorrect },
            },
            penalty: RatePenalty {
                sparsity: rates.sparsity,
                lower: rates.lower,
                least: rates.least,
                upper: rates.upper,
                most: rates.most,
            },
            gradient: Gradient {
                surrogate: self.surrogate.of_library(),
                detach: self.detach_reset,
                decay: self.learn_beta,
                time_constant: self.learn_tau,
                threshold: self.learn_threshold,
                normalize: self.batch_norm,
                half: self.storage == Storage::Bf16,
            },
            credit: match self.gradient {
                Credit::Bptt => surrogate::Credit::Bptt,
                Credit::Eprop => surrogate::Credit::Eprop,
                Credit::Ottt => surrogate::Credit::Ottt,
            },
            method: match self.optimizer {
                Optimizer::Adam => Method::Adam,
                Optimizer::AdamW => Method::AdamW,
                Optimizer::Sgd { momentum } => Method::Sgd { momentum },
            },
            lr: self.lr,
            weight_decay: self.weight_decay,
            cosine: self.schedule == Schedule::Cosine,
            warmup: self.warmup,
            clip: self.clip,
            dropout: self.dropout,
            batch: self.batch,
            micro_batch: self.micro_batch,
            checkpoint: match self.checkpoint {
                Checkpoint::None => surrogate::Checkpoint::None,
                Checkpoint::Sqrt => surrogate::Checkpoint::Sqrt,
                Checkpoint::Every(steps) => surrogate::Checkpoint::Every(steps),
            },
            epochs: self.epochs,
            held_out: self.held_out,
            patience: self.patience,
        }
    }

    /// The network prepared for training.
    ///
    /// # Errors
    /// What cannot be trained, by name.
    pub fn model(&self, net: &Network) -> crate::Result<surrogate::Model> {
        let options = self.options();
        let output = net.population(&self.output).ok_or_else(|| {
            crate::Error::value("train.surrogate.output", &self.output, "a population of the network")
        })?;
        surrogate::Model::new(net, output, options.loss.reads_membrane(), options.gradient)
    }
}

pub(super) const KEYS: &[(&str, &str)] = &[
    ("train.surrogate.output", "population with a neuron per class"),
    (
        "train.surrogate.loss",
        "ce-count, ce-rate, ce-mean-rate, ce-membrane, -max, -last, -mean, mse-rate, or one of the tables below",
    ),
    (
        "train.surrogate.loss.tet.lambda",
        "(1 − λ) CE of membranes in each step + λ of their squared distance to",
    ),
    ("train.surrogate.loss.tet.target", "this, the threshold as a rule"),
    ("train.surrogate.loss.mse-count.correct", "rate of the right class, spikes per step"),
    ("train.surrogate.loss.mse-count.incorrect", "rate of the others"),
    (
        "train.surrogate.gradient",
        "bptt (backwards through time), or in memory that does not grow with the steps: eprop, ottt",
    ),
    ("train.surrogate.surrogate", "derivative of the spike: straight-through, or one of the tables below"),
    ("train.surrogate.surrogate.arctan.alpha", "(α/2) / (1 + (π α x / 2)²)"),
    ("train.surrogate.surrogate.fast-sigmoid.slope", "k of 1 / (1 + k |x|)²"),
    ("train.surrogate.surrogate.sigmoid.slope", "k of k σ(k x) (1 − σ(k x))"),
    ("train.surrogate.surrogate.triangle.alpha", "max(0, α − α² |x|)"),
    ("train.surrogate.surrogate.scaled-triangle.gamma", "γ of (γ/θ) max(0, 1 − |x| / θ), as in e-prop"),
    ("train.surrogate.surrogate.scaled-triangle.threshold", "θ of it"),
    ("train.surrogate.surrogate.boxcar.width", "w of 1 / 2w where |x| < w"),
    ("train.surrogate.surrogate.leaky-boxcar.width", "w of 1 / 2w where |x| < w, else c"),
    ("train.surrogate.surrogate.leaky-boxcar.outside", "c of it"),
    ("train.surrogate.surrogate.exponential.alpha", "(α/2) exp(−α |x|)"),
    ("train.surrogate.surrogate.soft-sign.alpha", "1 / (2 α (1/α + |x|)²)"),
    ("train.surrogate.surrogate.gaussian.alpha", "(α/√π) exp(−α² x²)"),
    (
        "train.surrogate.surrogate.signed-step.height",
        "h where x < 0, else −h: what snnTorch calls triangular",
    ),
    ("train.surrogate.detach_reset", "leave resets out of the gradient"),
    ("train.surrogate.learn_beta", "the leak of each population learns"),
    (
        "train.surrogate.learn_tau",
        "the time constant of each population that leaks learns, 1/τ = σ(w); a gain of 1/τ goes along",
    ),
    ("train.surrogate.learn_threshold", "the threshold of each hidden population learns"),
    (
        "train.surrogate.storage",
        "potentials between the way forth and the way back: f32, or bf16 (half the memory, same spikes)",
    ),
    (
        "train.surrogate.batch_norm",
        "normalise the currents of hidden populations over the batch; folded into the weights in the end",
    ),
    ("train.surrogate.optimizer", "adam, adamw, or sgd = { … }"),
    ("train.surrogate.optimizer.sgd.momentum", "μ"),
    ("train.surrogate.lr", "learning rate"),
    ("train.surrogate.weight_decay", "weight decay"),
    ("train.surrogate.schedule", "learning rate: constant, or cosine down to 1 %"),
    ("train.surrogate.warmup", "mini-batches over which the learning rate rises"),
    ("train.surrogate.clip", "largest norm of a gradient; 0 for any"),
    ("train.surrogate.dropout", "share of hidden neurons silenced in a training step"),
    ("train.surrogate.batch", "samples in a mini-batch"),
    (
        "train.surrogate.micro_batch",
        "samples of it that go forwards and backwards together, which activation memory is for; 0 for all",
    ),
    (
        "train.surrogate.checkpoint",
        "activations are kept of all steps (none), or of √T at a time (sqrt) and computed twice, or every = steps",
    ),
    ("train.surrogate.checkpoint.every", "steps at a time"),
    ("train.surrogate.epochs", "passes over the training set"),
    (
        "train.surrogate.held_out",
        "training samples at the end judged after each pass; the best network is kept",
    ),
    ("train.surrogate.patience", "passes without a better network after which training ends; 0 for never"),
    ("train.surrogate.rates.sparsity", "strength of a penalty on spikes per sample"),
    ("train.surrogate.rates.lower", "strength of a penalty on rates below `least`"),
    ("train.surrogate.rates.least", "least rate, spikes per step"),
    ("train.surrogate.rates.upper", "strength of a penalty on rates above `most`"),
    ("train.surrogate.rates.most", "largest rate, spikes per step"),
    ("train.surrogate.augment.shift", "most pixels that an image moves in a pass"),
    ("train.surrogate.augment.rotation_degrees", "most degrees that it turns"),
    ("train.surrogate.augment.elastic", "most pixels that places move by themselves"),
];
