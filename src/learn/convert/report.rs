//! What conversion costs, and where.

use std::fmt::Write;

use super::ann::Ann;
use super::spiking::{Converted, activations};
use crate::engine::{Activity, Input};
use crate::error::Result;

/// What a converted network does beside the one it stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Accuracy of the ordinary network.
    pub ann_accuracy: f64,
    /// The converted network after some numbers of steps.
    pub at: Vec<At>,
    /// Errors of its layers after the largest number of steps.
    pub layers: Vec<LayerError>,
}

/// After some steps.
#[derive(Clone, Debug, PartialEq)]
pub struct At {
    /// T.
    pub steps: usize,
    /// Share of samples that are right.
    pub accuracy: f64,
    /// Spikes of one sample.
    pub spikes: f64,
    /// Synaptic operations of one sample.
    pub synaptic_operations: f64,
    /// The class of each sample.
    pub guesses: Vec<u16>,
    /// What happened in all of them.
    pub activity: Activity,
}

/// Errors of one layer: mean absolute differences, as shares of the mean activation.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerError {
    /// Name of the layer.
    pub name: String,
    /// Of rates from activations: everything together.
    pub rate: f64,
    /// What activations have above the threshold, and no rate can show.
    pub clipped: f64,
    /// What rounding to T levels costs neurons whose input is exact and constant.
    pub rounded: f64,
}

/// Compares both networks on labelled samples; layers on the first 256 of them.
///
/// # Errors
/// Input that does not fit.
pub fn report(
    ann: &Ann,
    snn: &Converted,
    input: Input<'_>,
    labels: &[u16],
    steps: &[usize],
) -> Result<Report> {
    let mut at = Vec::new();
    for &steps in steps {
        let (guesses, activity) = snn.classify(input, labels.len(), steps)?;
        let n = labels.len().max(1) as f64;
        let right = guesses.iter().zip(labels).filter(|(a, b)| a == b).count();
        let spikes = activity.spikes.iter().sum::<u64>() as f64 / n;
        let synaptic_operations = activity.synaptic_operations as f64 / n;
        let accuracy = right as f64 / n;
        at.push(At { steps, accuracy, spikes, synaptic_operations, guesses, activity });
    }
    let (most, few) = (steps.iter().copied().max().unwrap_or(1), labels.len().min(super::BATCH));
    let wanted = activations(&ann.fold()?, few_of(input, few, ann), few)?;
    let mut layers = Vec::new();
    for (i, (layer, wanted)) in snn.layers.iter().zip(&wanted).enumerate() {
        let rates = snn.rates(i, few_of(input, few, ann), few, most)?;
        let shape = &snn.net.populations[layer.population.0].shape;
        let (neurons, inner) = (shape.iter().product::<usize>(), shape[1..].iter().product::<usize>());
        let theta =
            |i: usize| layer.thresholds[if layer.thresholds.len() == 1 { 0 } else { i % neurons / inner }];
        let mean = wanted.iter().map(|&a| f64::from(a)).sum::<f64>().max(1e-12);
        let share = |miss: &dyn Fn(usize, f32) -> f32| {
            wanted.iter().enumerate().map(|(i, &a)| f64::from(miss(i, a))).sum::<f64>() / mean
        };
        let t = most as f32;
        layers.push(LayerError {
            name: layer.name.clone(),
            rate: share(&|i, a| (rates[i] - a).abs()),
            clipped: share(&|i, a| (a - theta(i)).max(0.0)),
            rounded: share(&|i, a| {
                let seen = a.min(theta(i));
                ((seen * t / theta(i) + 0.5).floor() / t * theta(i) - seen).abs()
            }),
        });
    }
    Ok(Report { ann_accuracy: ann.accuracy(input, labels)?, at, layers })
}

/// The first samples of a batch.
pub(super) fn few_of<'a>(input: Input<'a>, few: usize, ann: &Ann) -> Input<'a> {
    let len = few * ann.input.iter().product::<usize>();
    match input {
        Input::U8(x) => Input::U8(&x[..len.min(x.len())]),
        Input::F32(x) => Input::F32(&x[..len.min(x.len())]),
        Input::Events(x) => Input::Events(&x[..few.min(x.len())]),
    }
}

impl Report {
    /// The layer at which the rate error grows most, and by how much: where conversion loses.
    pub fn worst(&self) -> Option<(&LayerError, f64)> {
        let before = std::iter::once(0.0).chain(self.layers.iter().map(|layer| layer.rate));
        self.layers
            .iter()
            .zip(before)
            .map(|(l, before)| (l, l.rate - before))
            .max_by(|a, b| a.1.total_cmp(&b.1))
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = format!("ordinary network: {:.2} %\n", 100.0 * self.ann_accuracy);
        let _ = writeln!(
            text,
            "{:>6} {:>9} {:>9} {:>12} {:>16}",
            "steps", "accuracy", "gap", "spikes", "synaptic ops"
        );
        for at in &self.at {
            let (accuracy, gap) = (100.0 * at.accuracy, 100.0 * (self.ann_accuracy - at.accuracy));
            let _ = writeln!(
                text,
                "{:>6} {accuracy:>8.2}% {gap:>9.2} {:>12.0} {:>16.0}",
                at.steps, at.spikes, at.synaptic_operations
            );
        }
        for layer in &self.layers {
            let percent = [layer.rate, layer.clipped, layer.rounded].map(|x| 100.0 * x);
            let [rate, clipped, rounded] = percent;
            let _ = writeln!(
                text,
                "layer {}: rates are off by {rate:.1} % of the mean activation (clipping {clipped:.1} %, rounding {rounded:.1} %)",
                layer.name
            );
        }
        if let Some((layer, by)) = self.worst() {
            let _ = writeln!(text, "most is lost in {}: {:.1} points of rate error", layer.name, 100.0 * by);
        }
        f.write_str(&text)
    }
}
