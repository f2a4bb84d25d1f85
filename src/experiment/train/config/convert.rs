//! The schema of `[train.convert]`.

use super::Augment;
use crate::Result;
use crate::learn::convert::{self, Ann, Converted, Description, Options, Spec, Training};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `[train.convert]`: an ordinary network is trained, and becomes a spiking one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Convert {
    /// Shape of a sample.
    pub input: Vec<usize>,
    /// How the ordinary network learns.
    pub fit: Fit,
    /// What rate 1 stands for.
    #[serde(default)]
    pub thresholds: Thresholds,
    /// Each channel, or neuron of a linear layer, has a threshold of its own.
    #[serde(default)]
    pub per_channel: bool,
    /// Membrane before the first step, as a share of the threshold.
    #[serde(default = "half")]
    pub start: f64,
    /// Correct biases so that mean rates become mean activations.
    #[serde(default)]
    pub correct_bias: bool,
    /// First so many training samples that thresholds are found on.
    #[serde(default = "calibration")]
    pub calibration: usize,
    /// Numbers of steps at which the report shows the accuracy, beside that of `encode`.
    #[serde(default)]
    pub steps: Vec<usize>,
    /// The ordinary network, from the input on.
    pub layer: Vec<Spec>,
}

fn half() -> f64 {
    0.5
}

fn calibration() -> usize {
    1000
}

/// `train.convert.fit`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fit {
    /// All layers by AdamW on cross-entropy, the rate falling along half a cosine.
    Gradient {
        /// Learning rate.
        #[serde(default = "rate")]
        lr: f64,
        /// Decoupled weight decay.
        #[serde(default = "decay")]
        weight_decay: f64,
        /// Samples in a mini-batch.
        #[serde(default = "batch")]
        batch: usize,
        /// Passes over the training set.
        #[serde(default = "epochs")]
        epochs: usize,
        /// How images are changed in each pass.
        #[serde(default)]
        augment: Augment,
    },
    /// The last layer by ridge; all others stay random, with `qcfs` activations.
    Ridge {
        /// Strength, on standardised features.
        #[serde(default = "strength")]
        lambda: f64,
    },
    /// Not here: it was trained elsewhere.
    File {
        /// Tensors with the names that PyTorch gives them, see [`Ann::read`]; relative to the working directory.
        path: PathBuf,
    },
}

fn rate() -> f64 {
    Training::default().learning_rate
}

fn decay() -> f64 {
    Training::default().weight_decay
}

fn batch() -> usize {
    Training::default().batch
}

fn epochs() -> usize {
    Training::default().epochs
}

fn strength() -> f64 {
    100.0
}

/// `train.convert.thresholds`: [`convert::Thresholds`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Thresholds {
    /// A factor times a percentile of the activations.
    Percentile {
        /// From 0 to 100.
        #[serde(default = "robust")]
        percent: f64,
        /// Factor.
        #[serde(default = "one")]
        factor: f64,
    },
    /// Twice the mean activation.
    TwiceMean,
    /// Those that `qcfs` activations have learnt.
    Qcfs,
    /// The least squared error of rates after the steps of `encode`.
    LeastSquares,
}

fn robust() -> f64 {
    99.9
}

fn one() -> f64 {
    1.0
}

impl Default for Thresholds {
    fn default() -> Self {
        Self::Percentile { percent: robust(), factor: one() }
    }
}

impl Convert {
    /// The layers, for the library.
    pub fn description(&self) -> Description {
        Description { input: self.input.clone(), layers: self.layer.clone() }
    }

    /// How it is converted for so many steps.
    pub fn options(&self, steps: usize) -> Options {
        Options {
            thresholds: match self.thresholds {
                Thresholds::Percentile { percent, factor } => {
                    convert::Thresholds::Percentile { percent, factor }
                }
                Thresholds::TwiceMean => convert::Thresholds::TwiceMean,
                Thresholds::Qcfs => convert::Thresholds::Qcfs,
                Thresholds::LeastSquares => convert::Thresholds::LeastSquares { steps },
            },
            per_channel: self.per_channel,
            start: self.start as f32,
            correct_bias: self.correct_bias.then_some(steps),
        }
    }

    /// The network before it is trained: with random weights, or those of a file.
    ///
    /// # Errors
    /// A layer that does not fit; a file that is not of these layers.
    pub fn ann(&self, seed: u64) -> Result<Ann> {
        match &self.fit {
            Fit::File { path } => Ann::read(&self.description(), path),
            _ => Ann::draw(&self.description(), seed),
        }
    }

    /// That network, and what it becomes: sizes and refusals before anything is trained.
    ///
    /// # Errors
    /// As [`ann`](Self::ann); a layer that cannot be converted, by name.
    pub fn untrained(&self, seed: u64) -> Result<(Ann, Converted)> {
        let ann = self.ann(seed)?;
        let grey = vec![127; self.input.iter().product()];
        let options = Options { correct_bias: None, ..self.options(1) };
        let converted = convert::convert(&ann, crate::engine::Input::U8(&grey), 1, &options)?;
        Ok((ann, converted))
    }
}

pub(super) const KEYS: &[(&str, &str)] = &[
    ("train.convert.input", "[features] or [channels, height, width] of a sample"),
    ("train.convert.fit.gradient.lr", "largest learning rate; it falls to 0 along half a cosine"),
    ("train.convert.fit.gradient.weight_decay", "decoupled weight decay"),
    ("train.convert.fit.gradient.batch", "samples in a mini-batch"),
    ("train.convert.fit.gradient.epochs", "passes over the training set"),
    ("train.convert.fit.gradient.augment.shift", "most pixels that an image moves in a pass"),
    ("train.convert.fit.gradient.augment.rotation_degrees", "most degrees that it turns"),
    ("train.convert.fit.gradient.augment.elastic", "most pixels that places move by themselves"),
    ("train.convert.fit.ridge.lambda", "only the last layer learns: strength, on standardised features"),
    (
        "train.convert.fit.file.path",
        "not trained here: a .safetensors file with the weights, named as PyTorch does",
    ),
    ("train.convert.thresholds", "qcfs, twice-mean, least-squares, or the table below"),
    ("train.convert.thresholds.percentile.percent", "percentile of the activations, 0 to 100"),
    ("train.convert.thresholds.percentile.factor", "factor on it"),
    ("train.convert.per_channel", "a threshold for each channel, or neuron of a linear layer"),
    ("train.convert.start", "membrane before the first step, as a share of the threshold"),
    ("train.convert.correct_bias", "correct biases so that mean rates become mean activations"),
    ("train.convert.calibration", "training samples that thresholds are found on"),
    ("train.convert.steps", "numbers of steps at which the report shows the accuracy"),
    (
        "train.convert.layer.kind",
        "linear, conv2d, relu, qcfs, batch-norm, avg-pool, flatten; max-pool behind the first conv2d",
    ),
    ("train.convert.layer.name", "path of its tensors; its number if empty"),
    ("train.convert.layer.outputs", "channels or features of the output"),
    ("train.convert.layer.kernel", "side of the kernel"),
    ("train.convert.layer.stride", "step between neighbouring outputs"),
    ("train.convert.layer.padding", "zeros added on each side"),
    ("train.convert.layer.epsilon", "ε of batch normalisation"),
    ("train.convert.layer.levels", "L of qcfs"),
    ("train.convert.layer.threshold", "threshold of qcfs before training"),
    ("train.convert.layer.side", "side of a window"),
];
