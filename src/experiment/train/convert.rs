//! `[train.convert]`: an ordinary network is trained, or only its last layer is fitted; it becomes a spiking one, which
//! the engine judges.

use super::config::{Convert, Fit};
use super::{Ending, JUDGED, Job, Outcome, Shown, changes, share, show};
use crate::engine::Input;
use crate::error::{Error, Result};
use crate::experiment::summary::{Parameters, Seconds};
use crate::learn::convert::{
    Ann, Converted, Report, Trainer, Training, activation_bytes, convert, fit_readout, report,
};
use crate::learn::surrogate::silent_or_saturated;
use crate::progress::Unit;
use crate::report::{Plot, Series};
use crate::snn::Encoding;
use crate::tensor::{Tensor, Trainable, safetensors};
use std::collections::BTreeMap;
use std::time::Instant;

impl Job<'_> {
    pub(super) fn convert(&mut self, train: &Convert) -> Result<Outcome> {
        let begun = Instant::now();
        let data = self.data;
        let steps = self.config.encode.steps();
        let (samples, labels) = (self.samples(&data.train, data.train.len()), &data.train.labels);
        let calibration = train.calibration.min(data.train.len());
        let mut ann = train.ann(self.seed)?;
        let mut losses = vec![];
        match train.fit {
            Fit::Gradient { .. } => (ann, losses) = self.fit_ann(ann, train, samples)?,
            Fit::Ridge { lambda } => {
                self.progress.start("readout", None, Unit::Steps);
                fit_readout(&mut ann, samples, labels, calibration, lambda)?;
                self.progress.finish();
            }
            Fit::File { .. } => {}
        }
        self.check_interrupt()?;
        let snn = convert(&ann, samples, calibration, &train.options(steps))?;
        let fit = begun.elapsed().as_secs_f64();

        let testing = Instant::now();
        let test = self.samples(&data.test, data.test.len());
        let mut numbers = train.steps.clone();
        numbers.push(steps);
        numbers.sort_unstable();
        numbers.dedup();
        self.progress.start("test", None, Unit::Samples);
        let judged = data.train.len().min(JUDGED);
        let (guesses, _) = snn.classify(self.samples(&data.train, judged), judged, steps)?;
        let mut found = report(&ann, &snn, test, &data.test.labels, &numbers)?;
        self.progress.finish();
        self.write_findings(&found)?;
        let at = found.at.iter_mut().find(|at| at.steps == steps);
        let at = at.ok_or_else(|| Error::Internal(format!("no report on {steps} steps")))?;
        let (predicted, activity) = (std::mem::take(&mut at.guesses), std::mem::take(&mut at.activity));
        self.write_model(&snn.net)?;
        let kind = BTreeMap::from([("kind".to_string(), "ann".to_string())]);
        safetensors::write(
            &self.run_dir.file(&format!("ann-{}.safetensors", self.seed)),
            &ann.tensors(),
            &kind,
        )?;

        let mut all = 0;
        ann.visit(&mut |_, tensor: &Tensor| all += tensor.len());
        let readout = ann.layers.last().map_or(0, |(name, _)| {
            let mut size = 0;
            ann.visit(&mut |path, tensor| {
                if path.rsplit_once('.').is_some_and(|(layer, _)| layer == name) {
                    size += tensor.len();
                }
            });
            size
        });
        let parameters = match train.fit {
            Fit::Gradient { .. } => Parameters { trained: all, frozen: 0 },
            Fit::Ridge { .. } => Parameters { trained: readout, frozen: all - readout },
            Fit::File { .. } => Parameters { trained: 0, frozen: all },
        };
        let shown = if self.is_shown() {
            self.shown(train, &ann, &snn, &found, &losses, &predicted)?
        } else {
            Shown::default()
        };
        let notices = silent_or_saturated(&snn.net, &activity, steps, &[]);
        let test = testing.elapsed().as_secs_f64();
        self.outcome(Ending {
            predicted,
            train_accuracy: share(&guesses, &labels[..judged]),
            lambda: None,
            spikes: activity.spikes.iter().sum(),
            synaptic_operations: activity.synaptic_operations,
            analogue_operations: activity.analogue_operations,
            seconds: Seconds { fit, test, total: begun.elapsed().as_secs_f64(), ..Seconds::default() },
            parameters,
            notices,
            details: found.to_string().lines().map(str::to_string).collect(),
            shown,
        })
    }

    /// Pass after pass, from the last checkpoint if there is one.
    fn fit_ann(&mut self, ann: Ann, train: &Convert, samples: Input<'_>) -> Result<(Ann, Vec<f64>)> {
        let Fit::Gradient { lr, weight_decay, batch, epochs, augment } = train.fit else {
            return Ok((ann, vec![]));
        };
        let training = Training { epochs, batch, learning_rate: lr, weight_decay, seed: self.seed };
        let augment = self.augment(augment, "train.convert.fit.gradient.augment")?.map(changes);
        let change = augment.as_ref().map(|f| f as crate::learn::Augment<'_>);
        let mut trainer = Trainer::new(ann, samples, &self.data.train.labels, training, change)?;
        let checkpoint = self.run_dir.file(&format!("checkpoints/convert-{}.safetensors", self.seed));
        if checkpoint.is_file() {
            trainer.restore(&checkpoint)?;
        }
        let (steps, done) = (trainer.per_epoch(), trainer.curve().len());
        self.run_dir.forget_metrics(self.seed, done * steps)?;
        self.progress.start("training", Some(((epochs - done) * steps) as u64), Unit::Steps);
        loop {
            match trainer.pass(self.progress) {
                Ok(Some(loss)) => {
                    let epoch = trainer.curve().len();
                    self.run_dir.metric(serde_json::json!({
                        "seed": self.seed, "step": epoch * steps, "epoch": epoch, "split": "train", "loss": loss,
                    }))?;
                    trainer.save(&checkpoint)?;
                }
                Ok(None) => break,
                Err(Error::Interrupted { .. }) => return Err(self.interrupted()),
                Err(Error::Diverged(what)) => {
                    let kept = match trainer.curve().len() {
                        0 => "no checkpoint was written before".into(),
                        _ => format!("the last good checkpoint is {}", checkpoint.display()),
                    };
                    return Err(Error::Diverged(format!("{what}; {kept}")));
                }
                Err(error) => return Err(error),
            }
        }
        self.progress.finish();
        let losses = trainer.curve().to_vec();
        Ok((trainer.ann, losses))
    }

    /// Accuracy against steps and errors of layers, as lines of the metrics.
    fn write_findings(&self, found: &Report) -> Result<()> {
        for at in &found.at {
            self.run_dir.metric(serde_json::json!({
                "seed": self.seed, "split": self.judged_on(), "time_steps": at.steps, "accuracy": at.accuracy,
                "ann_accuracy": found.ann_accuracy, "spikes_per_sample": at.spikes,
            }))?;
        }
        for layer in &found.layers {
            self.run_dir.metric(serde_json::json!({
                "seed": self.seed, "layer": layer.name, "rate_error": layer.rate, "clipped": layer.clipped,
                "rounded": layer.rounded,
            }))?;
        }
        Ok(())
    }

    fn shown(
        &self,
        train: &Convert,
        ann: &Ann,
        snn: &Converted,
        found: &Report,
        losses: &[f64],
        predicted: &[u16],
    ) -> Result<Shown> {
        let encoding = Encoding::Constant { steps: self.config.encode.steps() };
        let mut curves = vec![];
        if !losses.is_empty() {
            let points = losses.iter().enumerate().map(|(i, &loss)| ((i + 1) as f64, loss));
            let series = vec![Series::new("training", points.collect::<Vec<_>>())];
            curves.push(Plot {
                title: "Loss of the ordinary network".into(),
                x_label: "pass".into(),
                y_label: "cross-entropy".into(),
                log_x: false,
                series,
            });
        }
        let line = |f: &dyn Fn(&crate::learn::convert::At) -> f64| -> Vec<(f64, f64)> {
            found.at.iter().map(|at| (at.steps as f64, 100.0 * f(at))).collect()
        };
        curves.push(Plot {
            title: "Accuracy against time".into(),
            x_label: "steps".into(),
            y_label: "accuracy / %".into(),
            log_x: true,
            series: vec![
                Series::new("spiking", line(&|at| at.accuracy)),
                Series::new("ordinary", line(&|_| found.ann_accuracy)),
            ],
        });
        let activations = match train.fit {
            Fit::Gradient { batch, .. } => activation_bytes(ann, batch)?,
            Fit::Ridge { .. } | Fit::File { .. } => 0,
        };
        let memory = [
            ("training samples", show::sample_bytes(&self.data.train)),
            ("activations of a mini-batch", activations),
        ];
        let population = snn.layers.first().map_or(snn.output, |layer| layer.population);
        Ok(Shown {
            subtitle: format!("An ordinary network of {} layers, converted", ann.layers.len()),
            curves,
            layers: show::layers(&encoding, self.data, &snn.net)?,
            examples: show::examples(&encoding, self.data, &snn.net, population, predicted)?,
            memory: show::parts(&memory),
            ..Shown::default()
        })
    }
}
