//! `[train.surrogate]`: gradients of all projections that are not frozen, backwards through time or forward, judged by the
//! engine.

use super::config::Surrogate;
use super::{COMPARED, Ending, Job, Outcome, Shown, Verdict, agree, changes, curve_plots, in_words, show};
use crate::error::{Error, Result};
use crate::experiment::build;
use crate::experiment::device::Device;
use crate::experiment::summary::{Parameters, Seconds};
use crate::learn::surrogate::{Data, Trainer, probe};
use crate::tensor;
use std::time::Instant;

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
        let moved = self.device.try_gpu(|gpu| trainer.move_to(&tensor::Device::Cuda(gpu.clone())))?;
        if moved.is_none() {
            self.device = Device::Cpu;
        }
        let features = begun.elapsed().as_secs_f64();
        let fitting = Instant::now();
        self.each_step(&mut trainer, "surrogate")?;
        let curves = curve_plots(trainer.curve(), trainer.judged());
        let (trained, activations) = (trainer.model().size(), trainer.batch_bytes());
        trainer.take_best()?;
        let agreement = agree(trainer.agreement(COMPARED)?, encoding.is_constant())?;
        let net = trainer.finish()?;
        let fit = fitting.elapsed().as_secs_f64();

        let testing = Instant::now();
        let probe = probe(output, options.loss);
        let Verdict { train_accuracy, predicted, activity, notices } = self.judge(&net, &encoding, probe)?;
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
}
