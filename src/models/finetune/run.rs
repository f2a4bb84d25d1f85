//! The loop of fine-tuning.

use std::collections::BTreeMap;
use std::path::Path;

use super::data::{Example, Target, batch, order};
use super::score;
use super::trained::{Part, Trained};
use crate::models::{Labels, Model};
use crate::nn::{Adam, Optimizer};
use crate::peft;
use crate::progress::{Progress, Unit};
use crate::tensor::{Grads, IGNORE, Tensor, Trainable, grad, safetensors};
use crate::{Error, Result};

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decay {
    /// Not at all.
    Constant,
    /// Along a line to zero.
    Linear,
    /// Along half a cosine to zero.
    #[default]
    Cosine,
}

/// Settings of the loop: AdamW.
#[derive(Clone, Debug, PartialEq)]
pub struct FineTune {
    /// Updates.
    pub steps: u64,
    /// Examples of a pass.
    pub batch: usize,
    /// Passes of an update; their gradients are averaged.
    pub accumulate: usize,
    /// Learning rate after the warm-up.
    pub learning_rate: f64,
    /// Updates over which it rises.
    pub warmup: u64,
    /// How it falls.
    pub decay: Decay,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// β₁ and β₂ of Adam.
    pub betas: [f64; 2],
    /// Largest norm of the gradient; `None` for any.
    pub clip: Option<f64>,
    /// Compute blocks a second time on the way back, and keep only their inputs.
    pub recompute: bool,
    /// Root of all random numbers.
    pub seed: u64,
    /// Updates between evaluations; 0 for only one at the end.
    pub evaluate_every: u64,
    /// Token that fills up a batch.
    pub pad: i64,
}

impl Default for FineTune {
    fn default() -> Self {
        Self {
            steps: 100,
            batch: 8,
            accumulate: 1,
            learning_rate: 2e-4,
            warmup: 0,
            decay: Decay::Cosine,
            weight_decay: 0.01,
            betas: [0.9, 0.999],
            clip: Some(1.0),
            recompute: false,
            seed: 0,
            evaluate_every: 0,
            pad: 0,
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An update was made.
    Step {
        /// Updates so far.
        step: u64,
        /// Mean loss of its passes, before the update.
        loss: f64,
        /// Its learning rate.
        learning_rate: f64,
        /// Norm of the gradient before clipping.
        grad_norm: f64,
        /// Share of LoRA in each map of a hybrid.
        lambdas: BTreeMap<String, f64>,
    },
    /// The validation examples were judged.
    Evaluation {
        /// Updates so far.
        step: u64,
        /// What came out.
        evaluation: Evaluation,
    },
}

/// How good a model is on examples.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Evaluation {
    /// Mean loss: over tokens, or over examples.
    pub loss: f64,
    /// e^loss, for next tokens.
    pub perplexity: Option<f64>,
    /// Share of classes that are right.
    pub accuracy: Option<f64>,
    /// F1 of class 1, where there are two.
    pub f1: Option<f64>,
    /// Matthews correlation, where there are two classes.
    pub matthews: Option<f64>,
}

/// Where training stands: saved to go on later.
#[derive(Debug)]
pub struct State {
    /// Updates that were made.
    pub step: u64,
    adam: Adam,
}

impl FineTune {
    /// A state before the first update.
    pub fn start(&self) -> State {
        let mut adam = Adam::decoupled(self.learning_rate, self.weight_decay);
        [adam.beta1, adam.beta2] = self.betas;
        State { step: 0, adam }
    }

    /// The factor of the learning rate at an update, counted from 0.
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.warmup {
            return (step + 1) as f64 / self.warmup as f64;
        }
        let span = self.steps.saturating_sub(self.warmup).max(1) as f64;
        let gone = ((step - self.warmup) as f64 / span).min(1.0);
        match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - gone,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * gone).cos()),
        }
    }

    /// Whether the validation examples are judged after so many updates.
    pub fn judges_after(&self, steps: u64) -> bool {
        steps == self.steps || (self.evaluate_every > 0 && steps.is_multiple_of(self.evaluate_every))
    }

    /// Trains from `state` to the end or an interrupt, after which `state` can go on: what follows is the same as if it
    /// had not stopped. `heard` is told of every update and evaluation.
    ///
    /// # Errors
    /// No examples; labels that do not fit the model; [`Error::Diverged`]; [`Error::Interrupted`]; what `heard` returns.
    pub fn run(
        &self,
        trained: &mut Trained<'_>,
        [examples, validation]: [&[Example]; 2],
        state: &mut State,
        progress: &mut dyn Progress,
        heard: &mut dyn FnMut(&Event, &Trained<'_>, &State) -> Result<()>,
    ) -> Result<()> {
        if examples.is_empty() || self.batch == 0 || self.accumulate == 0 {
            return Err(Error::value("the number of examples or the size of a batch", 0, "at least 1"));
        }
        progress.start("train", Some(self.steps - state.step.min(self.steps)), Unit::Steps);
        while state.step < self.steps {
            if progress.interrupted() {
                return Err(Error::Interrupted { checkpoint: None });
            }
            let event = self.update(trained, examples, state)?;
            progress.advance(1);
            heard(&event, trained, state)?;
            if self.judges_after(state.step) && !validation.is_empty() {
                let evaluation = evaluate(trained.model, validation, self.batch, self.pad)?;
                if !evaluation.loss.is_finite() {
                    let what = format!("validation loss {} at step {}", evaluation.loss, state.step);
                    return Err(diverged(&what));
                }
                heard(&Event::Evaluation { step: state.step, evaluation }, trained, state)?;
            }
        }
        progress.finish();
        Ok(())
    }

    /// The examples of a pass: epochs one after another, each in an order of its own.
    fn pick<'a>(&self, examples: &'a [Example], pass: u64) -> Vec<&'a Example> {
        let n = examples.len() as u64;
        let first = pass * self.batch as u64;
        let mut epoch = (u64::MAX, vec![]);
        (first..first + self.batch as u64)
            .map(|at| {
                if epoch.0 != at / n {
                    epoch = (at / n, order(examples.len(), self.seed, at / n));
                }
                &examples[epoch.1[(at % n) as usize]]
            })
            .collect()
    }

    fn update(&self, trained: &mut Trained<'_>, examples: &[Example], state: &mut State) -> Result<Event> {
        peft::train(trained.model, self.seed, state.step);
        let (mut sum, mut grads) = (0.0, Grads::default());
        for i in 0..self.accumulate as u64 {
            let pass = state.step * self.accumulate as u64 + i;
            let (batch, labels) = batch(&self.pick(examples, pass), self.pad)?;
            let share = 1.0 / self.accumulate as f64;
            let (loss, mut more) = match self.recompute {
                true => trained.model.grad_recomputed(&trained.tensors(), &batch, &labels)?,
                false => grad(&*trained, || trained.model.loss(&batch, &labels))?,
            };
            sum += share * loss.to_scalar()?;
            if self.accumulate > 1 {
                more.scale(share)?;
            }
            grads.accumulate(more)?;
        }
        peft::evaluate(trained.model);
        let grad_norm = match self.clip {
            Some(limit) => grads.clip_norm(limit)?,
            None => grads.norm()?,
        };
        if !sum.is_finite() || !grad_norm.is_finite() {
            let what = format!("loss {sum}, norm of the gradient {grad_norm} at step {}", state.step + 1);
            return Err(diverged(&what));
        }
        let learning_rate = self.learning_rate * self.factor(state.step);
        state.adam.set_learning_rate(learning_rate);
        let adam = &mut state.adam;
        let lambdas = match trained.part {
            Part::All => {
                adam.step(trained, &grads)?;
                BTreeMap::new()
            }
            // Hybrids weigh their steps by the gradients before clipping; a common factor changes no weight.
            Part::Adapters => {
                let mut params = trained.tensors();
                peft::step(trained.model, &mut params, &grads, state.step, &mut |params| {
                    adam.step(params, &grads)
                })?
            }
        };
        state.step += 1;
        Ok(Event::Step { step: state.step, loss: sum, learning_rate, grad_norm, lambdas })
    }
}

fn diverged(what: &str) -> Error {
    Error::Diverged(format!("training diverged: {what}; a lower learning rate may help"))
}

/// Judges a model on examples.
///
/// # Errors
/// No examples, labels that do not fit the model.
pub fn evaluate(model: &Model, examples: &[Example], size: usize, pad: i64) -> Result<Evaluation> {
    let (mut sum, mut count) = (0.0, 0.0);
    let (mut predicted, mut truth) = (vec![], vec![]);
    for examples in examples.chunks(size.max(1)) {
        let examples: Vec<&Example> = examples.iter().collect();
        let (batch, labels) = batch(&examples, pad)?;
        let weight = match &labels {
            Labels::Tokens(labels) => labels.to_u32()?.iter().filter(|&&label| label != IGNORE).count(),
            _ => examples.len(),
        } as f64;
        if let Labels::Classes(classes) = &labels {
            let scores = model.logits(&batch)?;
            predicted.extend(scores.argmax(-1)?.to_u32()?);
            truth.extend(classes.to_u32()?);
            sum += weight * scores.cross_entropy(&classes.to_device(scores.device())?)?.to_scalar()?;
        } else {
            sum += weight * model.loss(&batch, &labels)?.to_scalar()?;
        }
        count += weight;
    }
    if count == 0.0 {
        return Err(Error::value("the number of examples", 0, "at least 1"));
    }
    let loss = sum / count;
    let tokens = matches!(examples.first().map(|e| &e.target), Some(Target::Tokens(_)));
    let (judged, two) = (!truth.is_empty(), truth.iter().all(|&label| label < 2));
    Ok(Evaluation {
        loss,
        perplexity: tokens.then(|| loss.exp()),
        accuracy: judged.then(|| score::accuracy(&predicted, &truth)),
        f1: (judged && two).then(|| score::f1(&predicted, &truth)),
        matthews: (judged && two).then(|| score::matthews(&predicted, &truth)),
    })
}

/// In a checkpoint, what belongs to the optimiser.
const OPTIMISER: &str = "optimiser.";
/// To the model.
const MODEL: &str = "model.";
/// And to adapters, beside what is trained of them.
const MEMORY: &str = "memory.";
/// Among the words of a checkpoint: updates so far,
const STEP: &str = "ransnn.step";
/// and the fingerprint of the model below adapters, which is not in the file.
const BASE: &str = "ransnn.base";

/// The fingerprint of what is not trained; nothing where all is.
fn frozen(trained: &Trained<'_>) -> String {
    match trained.part {
        Part::All => String::new(),
        Part::Adapters => trained.model.fingerprint(),
    }
}

impl State {
    /// Writes what is trained and where training stands.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path, trained: &Trained<'_>) -> Result<()> {
        let mut all = BTreeMap::new();
        trained.visit(&mut |name, tensor| _ = all.insert(format!("{MODEL}{name}"), tensor.clone()));
        all.extend(
            self.adam.state()?.into_iter().map(|(name, tensor)| (format!("{OPTIMISER}{name}"), tensor)),
        );
        let mut result = Ok(());
        trained.model.visit_slots(&mut |path, slot| {
            for entry in slot.entries().iter().filter(|entry| entry.enabled) {
                let put = &mut |key: &str, tensor: &Tensor| {
                    all.insert(format!("{MEMORY}{path}.{key}"), tensor.clone());
                };
                if result.is_ok() {
                    result = entry.adapter.memory(put);
                }
            }
        });
        result?;
        let metadata =
            BTreeMap::from([(STEP.to_string(), self.step.to_string()), (BASE.to_string(), frozen(trained))]);
        safetensors::write(path, &all, &metadata)
    }

    /// Takes up what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// Not such a file, or of other adapters, or of adapters on another model.
    pub fn load(&mut self, path: &Path, trained: &mut Trained<'_>) -> Result<()> {
        let file = safetensors::File::open(path)?;
        let wrong = |what: String| Error::data(path, what);
        let step = file.metadata().get(STEP).and_then(|step| step.parse().ok());
        let step = step.ok_or_else(|| wrong(format!("this is no checkpoint: `{STEP}` is missing")))?;
        if file.metadata().get(BASE) != Some(&frozen(trained)) {
            return Err(wrong("the checkpoint belongs to adapters on another base model".into()));
        }
        let mut result = Ok(());
        trained.visit_mut(&mut |name, tensor| {
            if result.is_ok() {
                result = file.tensor(&format!("{MODEL}{name}")).and_then(|new| {
                    match new.meta() == tensor.meta() {
                        true => {
                            *tensor = new;
                            Ok(())
                        }
                        false => {
                            Err(wrong(format!("`{name}` is {:?}, not {:?}", new.shape(), tensor.shape())))
                        }
                    }
                });
            }
        });
        result?;
        let mut result = Ok(());
        trained.model.visit_slots_mut(&mut |path, slot| {
            for entry in slot.entries_mut().iter_mut().filter(|entry| entry.enabled) {
                let find = &mut |key: &str| file.tensor(&format!("{MEMORY}{path}.{key}"));
                if result.is_ok() {
                    result = entry.adapter.remember(find);
                }
            }
        });
        result?;
        let optimiser = file
            .names()
            .filter_map(|name| Some((name.strip_prefix(OPTIMISER)?.to_string(), name)))
            .map(|(short, name)| Ok((short, file.tensor(name)?)))
            .collect::<Result<BTreeMap<String, Tensor>>>()?;
        self.adam.load_state(&optimiser)?;
        self.step = step;
        Ok(())
    }
}

impl Part {
    /// What is trained with a method of this name.
    pub fn of(method: &str) -> Self {
        if method == "full" { Self::All } else { Self::Adapters }
    }
}
