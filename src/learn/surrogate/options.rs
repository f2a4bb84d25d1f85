//! How a network is trained: loss, gradient, optimiser, mini-batches, memory; and what of it does not go together.

use std::collections::BTreeMap;

use super::loss::{Loss, RatePenalty};
use super::model::{Credit, Gradient, Model};
use crate::nn::{Adam, Optimizer, Sgd};
use crate::snn::Encoding;
use crate::tensor::{Surrogate, Tensor};
use crate::{Error, Result};

/// Who changes the parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Adam.
    Adam,
    /// Adam with decoupled weight decay.
    AdamW,
    /// Gradient descent with momentum.
    Sgd {
        /// μ.
        momentum: f64,
    },
}

/// How much of a sequence is kept between the way forth and the way back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checkpoint {
    /// All steps.
    #[default]
    None,
    /// The states before stretches of so many steps, at least 1, and one stretch.
    Every(usize),
    /// Stretches of √T steps, rounded up: about as many stretches as a stretch has steps.
    Sqrt,
}

impl Checkpoint {
    /// Steps of a stretch of so many; none where all go together.
    pub fn stretch(self, steps: usize) -> Option<usize> {
        let length = match self {
            Self::None => return None,
            Self::Every(length) => length,
            Self::Sqrt => (steps as f64).sqrt().ceil() as usize,
        };
        Some(length).filter(|&length| length < steps)
    }
}

/// How to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// What is made small.
    pub loss: Loss,
    /// Terms on the rates of hidden populations.
    pub penalty: RatePenalty,
    /// What is differentiated.
    pub gradient: Gradient,
    /// Backwards through time, or forward with traces.
    pub credit: Credit,
    /// Who changes parameters.
    pub method: Method,
    /// Learning rate.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Whether the rate falls along half a cosine to 1 % at the end.
    pub cosine: bool,
    /// Mini-batches over which the rate rises in the beginning.
    pub warmup: usize,
    /// Gradients are scaled down to this norm; 0 leaves them.
    pub clip: f64,
    /// Share of hidden neurons that are silent in a training step.
    pub dropout: f64,
    /// Samples in a mini-batch; a last incomplete one of a pass is left out.
    pub batch: usize,
    /// Samples of a mini-batch that go forwards and backwards together, 0 for all: what the tape keeps is for these alone,
    /// and their gradients are added up.
    pub micro_batch: usize,
    /// Whether activations are kept for some of the steps at a time, and computed a second time on the way back.
    pub checkpoint: Checkpoint,
    /// Passes over the samples.
    pub epochs: usize,
    /// Samples at the end that are not trained on but judged after each pass; the best network is kept. 0 for none.
    pub held_out: usize,
    /// Passes without a better network after which training ends; 0 for never.
    pub patience: usize,
}

#[derive(Debug)]
pub(super) enum AnyOptimizer {
    Adam(Adam),
    Sgd(Sgd),
}

impl AnyOptimizer {
    pub(super) fn as_dyn(&mut self) -> &mut dyn Optimizer {
        match self {
            Self::Adam(adam) => adam,
            Self::Sgd(sgd) => sgd,
        }
    }

    pub(super) fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        match self {
            Self::Adam(adam) => adam.state(),
            Self::Sgd(sgd) => sgd.state(),
        }
    }
}

impl Options {
    /// Cross-entropy of counts, arctangent, Adam with 1e-3, mini-batches of 128, one pass.
    pub fn new() -> Self {
        Self {
            loss: Loss::CeCount,
            penalty: RatePenalty::default(),
            gradient: Gradient::of(Surrogate::Arctan { alpha: 2.0 }),
            credit: Credit::Bptt,
            method: Method::Adam,
            lr: 1e-3,
            weight_decay: 0.0,
            cosine: false,
            warmup: 0,
            clip: 0.0,
            dropout: 0.0,
            batch: 128,
            micro_batch: 0,
            checkpoint: Checkpoint::None,
            epochs: 1,
            held_out: 0,
            patience: 0,
        }
    }

    /// Bytes that a mini-batch of a model takes beside parameters and gradients.
    pub fn batch_bytes(&self, model: &Model, encoding: &Encoding) -> usize {
        match self.credit {
            Credit::Bptt => {
                let (steps, piece) = (encoding.steps(), self.piece(self.batch));
                model.peak_bytes(steps, piece, encoding.is_constant(), self.checkpoint.stretch(steps))
            }
            credit => model.online_bytes(credit, encoding.is_constant(), self.batch),
        }
    }

    /// Samples that go backwards together, of so many.
    pub(super) fn piece(&self, batch: usize) -> usize {
        if self.micro_batch == 0 { batch } else { self.micro_batch.min(batch) }
    }

    /// What looks at a mini-batch as a whole.
    pub(super) fn check_pieces(&self) -> Result<()> {
        let refuse = |on: &str| Err(Error::Unsupported { op: "a mini-batch in pieces", on: on.into() });
        if self.gradient.normalize {
            return refuse("with normalisation over the mini-batch");
        }
        if self.penalty.lower > 0.0 || self.penalty.upper > 0.0 {
            return refuse("with bounds on the rates of the mini-batch");
        }
        if self.credit != Credit::Bptt {
            return refuse("forward in time, where memory does not grow with the steps");
        }
        Ok(())
    }

    /// What looks at all steps at once.
    pub(super) fn check_stretches(&self) -> Result<()> {
        let refuse = |on: &str| Err(Error::Unsupported { op: "checkpoints in time", on: on.into() });
        if self.checkpoint == Checkpoint::Every(0) {
            return Err(Error::value("steps between checkpoints", 0, "at least 1"));
        }
        if self.gradient.normalize {
            return refuse("with normalisation over all steps");
        }
        if self.penalty.lower > 0.0 || self.penalty.upper > 0.0 {
            return refuse("with bounds on the rates over all steps");
        }
        if self.credit != Credit::Bptt {
            return refuse("forward in time, where memory does not grow with the steps");
        }
        Ok(())
    }

    /// What only goes backwards in time.
    pub(super) fn check_online(&self) -> Result<()> {
        let refuse = |on: &str| Err(Error::Unsupported { op: "online training", on: on.into() });
        if !matches!(self.loss, Loss::CeRate | Loss::CeMembrane) {
            return refuse(
                "on a loss of the whole sequence; take `CeRate` or `CeMembrane`, which each step has",
            );
        }
        if self.penalty.is_active() {
            return refuse("with a penalty on rates");
        }
        if self.dropout > 0.0 {
            return refuse("with dropout");
        }
        if self.gradient.half {
            return refuse("with potentials in 16 bits: none are kept");
        }
        Ok(())
    }

    pub(super) fn optimizer(&self) -> AnyOptimizer {
        match self.method {
            Method::AdamW => AnyOptimizer::Adam(Adam::decoupled(self.lr, self.weight_decay)),
            Method::Adam => {
                let mut adam = Adam::new(self.lr);
                adam.weight_decay = self.weight_decay;
                AnyOptimizer::Adam(adam)
            }
            Method::Sgd { momentum } => {
                let mut sgd = Sgd::new(self.lr, momentum);
                sgd.weight_decay = self.weight_decay;
                AnyOptimizer::Sgd(sgd)
            }
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
