//! `[train.surrogate]`: back-propagation through time of all projections that are not frozen, judged by the engine.

use super::config::Surrogate;
use super::{Ending, JUDGED, Job, Outcome, Shown, changes, curve_plots, share, show};
use crate::error::{Error, Result};
use crate::experiment::build;
use crate::experiment::summary::{Parameters, Seconds};
use crate::learn::surrogate::{Agreement, Data, Trainer, classify, probe, silent_or_saturated};
use crate::progress::Unit;
use std::time::Instant;

/// Samples on which training and engine are compared.
const COMPARED: usize = 256;
/// Share of spike counts that may differ where a constant input is summed in another order.
const ROUNDING: f64 = 1e-3;

impl Job<'_> {
    pub(super) fn surrogate(&mut self, train: &Surrogate) -> Result<Outcome> {
        let begun = Instant::now();
        let (config, data) = (self.config, self.data);
        let encoding = build::encoding(config);
        let net = self.network()?;
        let output = net.population(&train.output).ok_or_else(|| Error::Internal("no output".into()))?;
        let options = train.options();
        let augment = self.augment(train.augment, "train.surrogate.augment")?.map(changes);
        let all = self.samples(&data.train, data.train.len());
        let samples = Data { samples: all, labels: &data.train.labels };
        let mut trainer = Trainer::new(net, encoding, output, samples, options)?;
        if let Some(augment) = &augment {
            trainer = trainer.augmented(augment);
        }
        let features = begun.elapsed().as_secs_f64();
        let fitting = Instant::now();
        self.train(&mut trainer)?;
        let curves = curve_plots(trainer.curve(), trainer.judged());
        let (trained, activations) = (
            trainer.model().size(),
            trainer.model().activation_bytes(encoding.steps(), train.batch, encoding.is_constant()),
        );
        trainer.take_best()?;
        let agreement = agree(&mut trainer, encoding.is_constant())?;
        let net = trainer.finish()?;
        let fit = fitting.elapsed().as_secs_f64();

        let testing = Instant::now();
        let probe = probe(output, options.loss);
        let judged = data.train.len().min(JUDGED);
        self.progress.start("test", None, Unit::Samples);
        let seen = self.samples(&data.train, judged);
        let (guesses, _) = classify(&net, &encoding, probe, seen, judged, "train")?;
        let train_accuracy = share(&guesses, &data.train.labels[..judged]);
        self.check_interrupt()?;
        let unseen = self.samples(&data.test, data.test.len());
        let (predicted, activity) = classify(&net, &encoding, probe, unseen, data.test.len(), "test")?;
        self.progress.finish();
        let notices = silent_or_saturated(&net, &activity, encoding.steps());
        self.write_model(&net)?;
        let parameters = Parameters { trained, frozen: net.parameters().frozen };
        let shown = if self.is_shown() {
            let hidden = net.incoming(output).next().map_or(output, |p| p.pre);
            let raster = if net.populations[hidden.0].model.is_some() { hidden } else { output };
            let memory = [
                ("training samples", show::sample_bytes(&data.train)),
                ("trained weights, gradients, optimiser", 16 * trained),
                ("activations of a mini-batch", activations),
            ];
            Shown {
                subtitle: format!(
                    "Surrogate gradients: {trained} weights trained, {} frozen",
                    parameters.frozen
                ),
                curves,
                layers: show::layers(&encoding, data, &net)?,
                examples: show::examples(&encoding, data, &net, raster, &predicted)?,
                memory: show::parts(&memory),
                ..Shown::default()
            }
        } else {
            Shown::default()
        };
        let counted = if options.loss.reads_membrane() { 0 } else { activity.spikes[output.0] };
        let test = testing.elapsed().as_secs_f64();
        self.outcome(Ending {
            predicted,
            train_accuracy,
            lambda: None,
            spikes: activity.spikes.iter().sum(),
            synaptic_operations: activity.synaptic_operations + counted,
            analogue_operations: activity.analogue_operations,
            seconds: Seconds {
                features,
                fit,
                test,
                total: begun.elapsed().as_secs_f64(),
                ..Seconds::default()
            },
            parameters,
            notices,
            details: vec![in_words(agreement)],
            shown,
        })
    }

    /// Mini-batch after mini-batch, from the last checkpoint if there is one.
    fn train(&mut self, trainer: &mut Trainer<'_>) -> Result<()> {
        let checkpoint = self.run_dir.file(&format!("checkpoints/surrogate-{}.safetensors", self.seed));
        if checkpoint.is_file() {
            trainer.restore(&checkpoint)?;
        }
        self.run_dir.forget_metrics(self.seed, trainer.iteration())?;
        let left = trainer.total() - trainer.iteration();
        self.progress.start("training", Some(left as u64), Unit::Steps);
        let (per_epoch, every) = (trainer.per_epoch(), self.config.run.checkpoint_every.max(1));
        while let Some(step) = trainer.step()? {
            self.progress.advance(1);
            let last = step.iteration % per_epoch == 0;
            let epoch = step.iteration as f64 / per_epoch as f64;
            if last || step.iteration % 10 == 0 {
                self.run_dir.metric(serde_json::json!({
                    "seed": self.seed, "step": step.iteration, "epoch": epoch, "split": "train", "loss": step.loss,
                    "accuracy": step.accuracy,
                }))?;
            }
            if let Some(accuracy) = step.held_out {
                self.run_dir.metric(serde_json::json!({
                    "seed": self.seed, "step": step.iteration, "epoch": epoch, "split": "held out",
                    "accuracy": accuracy,
                }))?;
            }
            let interrupted = self.progress.interrupted();
            if last || interrupted || step.iteration % every == 0 {
                trainer.save(&checkpoint)?;
            }
            if interrupted {
                return Err(self.interrupted());
            }
        }
        self.progress.finish();
        Ok(())
    }
}

/// Compares the spikes of training and engine.
fn agree(trainer: &mut Trainer<'_>, constant: bool) -> Result<Agreement> {
    let found = trainer.agreement(COMPARED)?;
    let most = if constant { (found.of as f64 * ROUNDING).ceil() as usize } else { 0 };
    if found.differ > most {
        let what = format!("{} of {} spike counts of training and engine differ", found.differ, found.of);
        return Err(Error::Internal(what));
    }
    Ok(found)
}

fn in_words(Agreement { differ, of }: Agreement) -> String {
    match differ {
        0 => format!("spikes in training and engine: all of {of} counts are equal"),
        n => format!(
            "spikes in training and engine: {n} of {of} counts differ, by rounding of constant inputs"
        ),
    }
}
