//! `[train.stdp-readout]`: a spiking readout of frozen layers learns by the times of spikes, judged by the engine.

use super::config::StdpReadout;
use super::{COMPARED, Ending, Job, Outcome, Shown, Verdict, agree, curve_plots, in_words, show};
use crate::engine::{Probe, What};
use crate::error::{Error, Result};
use crate::experiment::build;
use crate::experiment::summary::{Parameters, Seconds};
use crate::learn::stdp::readout::Trainer;
use crate::learn::surrogate::Data;
use std::time::Instant;

impl Job<'_> {
    pub(super) fn stdp_readout(&mut self, train: &StdpReadout) -> Result<Outcome> {
        let begun = Instant::now();
        let (config, data) = (self.config, self.data);
        let encoding = build::encoding(config);
        let net = self.network()?;
        let output = net.population(&train.output).ok_or_else(|| Error::Internal("no output".into()))?;
        let all = self.samples(&data.train, data.train.len());
        let samples = Data { samples: all, labels: &data.train.labels };
        let mut trainer = Trainer::new(net, encoding, output, samples, train.options())?;
        let features = begun.elapsed().as_secs_f64();
        let fitting = Instant::now();
        self.each_step(&mut trainer, "stdp-readout")?;
        let curves = curve_plots(trainer.curve(), &[]);
        let trained = trainer.size();
        // The readout sums the same spikes in the same order as the engine.
        let agreement = agree(trainer.agreement(COMPARED)?, false)?;
        let net = trainer.finish()?;
        let fit = fitting.elapsed().as_secs_f64();

        let testing = Instant::now();
        let probe = Probe { population: output, what: What::Counts };
        let Verdict { train_accuracy, predicted, activity, notices } = self.judge(&net, &encoding, probe)?;
        self.write_model(&net)?;
        let parameters = Parameters { trained, frozen: net.parameters().frozen };
        let shown = if self.is_shown() {
            let hidden = net.incoming(output).next().map_or(output, |p| p.pre);
            let windows = 4 * train.batch * encoding.steps() * net.populations[output.0].size();
            let memory = [
                ("training samples", show::sample_bytes(&data.train)),
                ("trained weights", 4 * trained),
                ("windows of a mini-batch", windows),
            ];
            Shown {
                subtitle: format!(
                    "RanSNN: {} random frozen weights, {trained} trained by spike times",
                    parameters.frozen
                ),
                curves,
                layers: show::layers(&encoding, data, &net)?,
                examples: show::examples(&encoding, data, &net, hidden, &predicted)?,
                memory: show::parts(&memory),
                ..Shown::default()
            }
        } else {
            Shown::default()
        };
        let test = testing.elapsed().as_secs_f64();
        self.outcome(Ending {
            predicted,
            train_accuracy,
            lambda: None,
            spikes: activity.spikes.iter().sum(),
            synaptic_operations: activity.synaptic_operations + activity.spikes[output.0],
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
