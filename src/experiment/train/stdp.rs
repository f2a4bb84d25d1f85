//! `[train.stdp]`: the network of Diehl & Cook learns without labels; then its neurons are given classes.

use super::config::Stdp;
use super::{Ending, Job, Outcome, Shown, input, share, show};
use crate::engine::Input;
use crate::error::{Error, Result};
use crate::experiment::summary::{Parameters, Seconds};
use crate::learn::stdp::{Labels, Report, Trainer};
use crate::progress::{Progress, Unit};
use crate::report::{Image, Picture, Plot, Series};
use std::time::Instant;

/// Hands progress on, and stops after so many samples, so that the state can be saved.
struct Piece<'a> {
    listener: &'a mut dyn Progress,
    left: u64,
}

impl Progress for Piece<'_> {
    fn start(&mut self, _: &str, _: Option<u64>, _: Unit) {}
    fn advance(&mut self, n: u64) {
        self.left = self.left.saturating_sub(n);
        self.listener.advance(n);
    }
    fn finish(&mut self) {}
    fn interrupted(&self) -> bool {
        self.left == 0 || self.listener.interrupted()
    }
}

impl Job<'_> {
    pub(super) fn stdp(&mut self, train: &Stdp) -> Result<Outcome> {
        let begun = Instant::now();
        let data = self.data;
        let samples = self.samples(&data.train, data.train.len());
        let (trainer, curve) = self.learn(train, samples)?;
        let few = if train.label_samples == 0 { data.train.len() } else { train.label_samples };
        let named = data.train.len().saturating_sub(few)..data.train.len();
        let labels = &data.train.labels[named.clone()];
        self.progress.start("labels", Some(named.len() as u64), Unit::Samples);
        let (responses, _) = trainer.respond(input(&data.train, data.features(), named), "train")?;
        self.progress.finish();
        self.check_interrupt()?;
        let classes = Labels::assign(&responses, labels, data.classes)?;
        let train_accuracy = share(&classes.classify(&responses, train.labels)?, labels);
        let fit = begun.elapsed().as_secs_f64();

        let testing = Instant::now();
        self.progress.start("test", Some(data.test.len() as u64), Unit::Samples);
        let (responses, report) = trainer.respond(self.samples(&data.test, data.test.len()), "test")?;
        let predicted = classes.classify(&responses, train.labels)?;
        self.progress.finish();
        trainer.save(&self.run_dir.file(&format!("model-{}.safetensors", self.seed)))?;
        self.run_dir.write_json(&format!("labels-{}.json", self.seed), &classes)?;
        let silent = classes.assigned().iter().filter(|class| class.is_none()).count();
        let mut notices = vec![];
        if silent > 0 {
            notices.push(format!("{silent} of {} neurons stay silent and stand for no class", train.neurons));
        }
        if report.silent > 0 {
            notices.push(format!(
                "{} of {} test samples leave all neurons silent",
                report.silent, report.samples
            ));
        }
        let shown = if self.is_shown() { self.shown_filters(&trainer, curve) } else { Shown::default() };
        let neurons = train.neurons as u64;
        let test = testing.elapsed().as_secs_f64();
        self.outcome(Ending {
            predicted,
            train_accuracy,
            lambda: None,
            spikes: report.input_spikes + report.spikes,
            // An input reaches all neurons, a neuron inhibits all others.
            synaptic_operations: report.input_spikes * neurons + report.spikes * neurons.saturating_sub(1),
            analogue_operations: 0,
            seconds: Seconds { fit, test, total: begun.elapsed().as_secs_f64(), ..Seconds::default() },
            parameters: Parameters { trained: trainer.weights().len() + train.neurons, frozen: 0 },
            notices,
            details: vec![format!("{} spikes of neurons in {} test samples", report.spikes, report.samples)],
            shown,
        })
    }

    /// Learns from all samples, from the last checkpoint if there is one. Returns spikes per sample by samples seen.
    fn learn(&mut self, train: &Stdp, samples: Input<'_>) -> Result<(Trainer, Vec<(f64, f64)>)> {
        let (data, net) = (self.data, train.network());
        let checkpoint = self.run_dir.file(&format!("checkpoints/stdp-{}.safetensors", self.seed));
        let mut trainer = if checkpoint.is_file() {
            let trainer = Trainer::load(&checkpoint)?;
            if trainer.constants() != &net {
                let what = "it is of a network with other constants; remove it to train from the beginning";
                return Err(Error::data(checkpoint, what));
            }
            trainer
        } else {
            Trainer::new(net, data.features(), self.seed)?
        };
        self.run_dir.forget_metrics(self.seed, trainer.seen() as usize)?;
        let total = (data.train.len() * train.passes) as u64;
        let piece = (self.config.run.checkpoint_every.max(1) * train.batch) as u64;
        self.progress.start("training", Some(total - trainer.seen().min(total)), Unit::Samples);
        let mut curve = vec![];
        while trainer.seen() < total {
            let mut listener = Piece { listener: self.progress, left: piece };
            let Report { samples, spikes, .. } = trainer.train(samples, train.passes, &mut listener)?;
            // What was learnt since the last checkpoint is learnt again, so that pieces end where they would have.
            self.check_interrupt()?;
            let rate = spikes as f64 / samples.max(1) as f64;
            curve.push((trainer.seen() as f64, rate));
            self.run_dir.metric(serde_json::json!({
                "seed": self.seed, "step": trainer.seen(), "epoch": trainer.seen() as f64 / data.train.len() as f64,
                "split": "train", "spikes_per_sample": rate,
            }))?;
            trainer.save(&checkpoint)?;
        }
        self.progress.finish();
        Ok((trainer, curve))
    }

    fn shown_filters(&self, trainer: &Trainer, curve: Vec<(f64, f64)>) -> Shown {
        let neurons = trainer.shift().len();
        let pictures = match self.data.shape.as_slice() {
            &[1, height, width] => {
                let image = mosaic(&trainer.weights(), neurons, [height, width]);
                let caption = format!("What the first {} neurons have learnt", image.1);
                vec![Picture { caption, image: image.0 }]
            }
            _ => vec![],
        };
        let curves = match curve.len() {
            0 | 1 => vec![],
            _ => vec![Plot {
                title: "Spikes of the neurons while they learn".into(),
                x_label: "samples".into(),
                y_label: "spikes per sample".into(),
                log_x: false,
                series: vec![Series::new("training", curve)],
            }],
        };
        let memory = [
            ("training samples", show::sample_bytes(&self.data.train)),
            ("weights", 4 * trainer.weights().len()),
        ];
        Shown {
            subtitle: format!("Diehl & Cook: {neurons} neurons that learn without labels"),
            curves,
            pictures,
            memory: show::parts(&memory),
            ..Shown::default()
        }
    }
}

/// The weights `[pixels, neurons]` of as many neurons as there is room for, side by side, each scaled to its largest.
fn mosaic(weights: &[f32], neurons: usize, [height, width]: [usize; 2]) -> (Image, usize) {
    let (tall, wide) = (height + 1, width + 1);
    let most = [(Image::MAX_SIDE - 1) / tall, (Image::MAX_SIDE - 1) / wide];
    let columns = ((neurons as f64).sqrt().ceil() as usize).clamp(1, most[1].max(1));
    let rows = neurons.div_ceil(columns).clamp(1, most[0].max(1));
    let shown = neurons.min(rows * columns);
    let mut image = Image { width: columns * wide + 1, height: rows * tall + 1, pixels: vec![] };
    image.pixels = vec![96; image.width * image.height];
    for j in 0..shown {
        let filter = || weights[j..].iter().step_by(neurons);
        let largest = filter().fold(f32::MIN_POSITIVE, |largest, &w| largest.max(w));
        let corner = (j / columns * tall + 1) * image.width + j % columns * wide + 1;
        for (i, &w) in filter().enumerate() {
            let place = corner + i / width * image.width + i % width;
            image.pixels[place] = (255.0 * w / largest).round().clamp(0.0, 255.0) as u8;
        }
    }
    (image, shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_stand_side_by_side() {
        // Three neurons of 1 × 2 pixels: weights by pixel, then by neuron.
        let (image, shown) = mosaic(&[1.0, 0.0, 2.0, 0.5, 4.0, 2.0], 3, [1, 2]);
        assert_eq!((image.width, image.height, shown), (7, 5, 3));
        let row = |y: usize| image.pixels[y * 7..(y + 1) * 7].to_vec();
        assert_eq!(row(1), [96, 255, 128, 96, 0, 255, 96]);
        assert_eq!(row(3), [96, 255, 255, 96, 96, 96, 96]);
    }
}
