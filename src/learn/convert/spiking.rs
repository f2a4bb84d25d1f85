//! The spiking network that stands for an ordinary one.

use super::ann::Ann;
use super::stages::{Stage, stages};
use super::thresholds::Thresholds;
use super::{BATCH, tensor_of};
use crate::engine::{Activity, Input, Presentation, Probe, Recording, Table, What};
use crate::error::{Error, Result};
use crate::snn::neurons::{Lif, Reset};
use crate::snn::{Encoding, Init, Network, Pop, Precision, Rule};
use crate::units::Ms;

/// How a network is converted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// What rate 1 stands for.
    pub thresholds: Thresholds,
    /// Whether each channel (each neuron of a linear layer) has its own threshold.
    pub per_channel: bool,
    /// Membrane before the first step, as a share of the threshold: ½ rounds rates to the nearest, 0 rounds down.
    pub start: f32,
    /// Corrects biases, layer after layer, so that mean rates over this many steps are the mean activations of the
    /// calibration batch (Li et al. 2021, "light"); `None` leaves them.
    pub correct_bias: Option<usize>,
}

impl Default for Options {
    /// Percentile 99.9 per layer, a start of ½, no correction.
    fn default() -> Self {
        let thresholds = Thresholds::Percentile { percent: 99.9, factor: 1.0 };
        Self { thresholds, per_channel: false, start: 0.5, correct_bias: None }
    }
}

/// A population that stands for an activation.
#[derive(Clone, Debug, PartialEq)]
pub struct Spiking {
    /// Name of the layer before the activation, and of population and projection.
    pub name: String,
    /// Its population.
    pub population: Pop,
    /// What a rate of 1 stands for: one number, or one per channel.
    pub thresholds: Vec<f32>,
}

/// A converted network.
#[derive(Debug)]
pub struct Converted {
    /// Runs on the engine with [`Encoding::Constant`].
    pub net: Network,
    /// Its spiking layers in order.
    pub layers: Vec<Spiking>,
    /// The population that integrates the outputs and never fires.
    pub output: Pop,
}

/// Converts a network; `samples` samples of `batch` calibrate it.
///
/// # Errors
/// [`Error::Network`] naming a layer that cannot be expressed; input that does not fit; options that make no sense.
pub fn convert(ann: &Ann, batch: Input<'_>, samples: usize, options: &Options) -> Result<Converted> {
    let ann = ann.fold()?;
    let stages = stages(&ann)?;
    if samples == 0 || !(0.0..1.0).contains(&options.start) {
        let got = format!("{samples} samples and a start of {}", options.start);
        return Err(Error::value("calibration", got, "at least one sample, and a start from 0 to below 1"));
    }
    let batch = super::report::few_of(batch, samples, &ann);
    let activations = activations(&ann, batch, samples)?;
    let mut thresholds: Vec<Vec<f32>> = Vec::new();
    for (stage, values) in stages.iter().zip(&activations) {
        if let Some(activation) = &stage.activation {
            let size = [stage.shape[0], stage.shape[1..].iter().product()];
            let found = options.thresholds.of(&stage.name, activation, values, size, options.per_channel)?;
            thresholds.push(found);
        }
    }
    let mut converted = build(&ann, &stages, &thresholds, options.start)?;
    if let Some(steps) = options.correct_bias {
        for (i, values) in activations.iter().enumerate() {
            converted.correct(i, values, batch, samples, steps)?;
        }
    }
    Ok(converted)
}

/// Outputs of every activation, and the logits, `[samples, neurons]`.
pub(super) fn activations(ann: &Ann, batch: Input<'_>, samples: usize) -> Result<Vec<Vec<f32>>> {
    let mut all: Vec<Vec<f32>> = Vec::new();
    for start in (0..samples).step_by(BATCH) {
        let x = tensor_of(batch, start..samples.min(start + BATCH), &ann.input)?;
        let found = ann.activations(&x)?;
        all.resize_with(found.len(), Vec::new);
        for (all, found) in all.iter_mut().zip(found) {
            all.extend(found.to_f32()?);
        }
    }
    Ok(all)
}

fn build(ann: &Ann, stages: &[Stage], thresholds: &[Vec<f32>], start: f32) -> Result<Converted> {
    let mut net = Network::builder(Ms(1.0));
    let mut source = net.input("input", &ann.input[..]);
    let (mut layers, unit) = (Vec::new(), vec![1.0]);
    for (i, stage) in stages.iter().enumerate() {
        let before = if i == 0 { &unit } else { &thresholds[i - 1] };
        let theta = thresholds.get(i).unwrap_or(&unit);
        let of = |all: &[f32], channel: usize| all[if all.len() == 1 { 0 } else { channel }];
        let fan_in = stage.fan_in();
        let scale = |w: usize| of(before, stage.source(w)) / of(theta, w / fan_in);
        let weight: Vec<f32> = stage.weight.iter().enumerate().map(|(w, &value)| value * scale(w)).collect();
        let bias = stage.bias.iter().enumerate().map(|(o, &bias)| bias / of(theta, o)).collect();
        // Weights of a linear layer are listed by source.
        let weight = match stage.rule {
            Rule::Dense => (0..weight.len())
                .map(|at| weight[at % stage.bias.len() * fan_in + at / stage.bias.len()])
                .collect(),
            _ => weight,
        };
        // Without a leak, the resting potential is where the membrane starts and nothing else.
        let integrate = Lif { decay: 1.0, rest: start, ..Lif::default() };
        let model = match stage.activation {
            Some(_) => integrate,
            None => Lif { rest: 0.0, threshold: f32::MAX, reset: Reset::None, ..integrate },
        };
        // Names become paths in files, where dots separate.
        let name = stage.name.replace(['.', '/'], "-");
        let target = net.population(&name, &stage.shape[..], model);
        net.connect(source, target, stage.rule.clone())
            .name(name.clone())
            .weights(Init::Listed(weight))
            .bias(Init::Listed(bias))
            .precision(Precision::F32);
        if stage.activation.is_some() {
            layers.push(Spiking { name, population: target, thresholds: theta.clone() });
        }
        source = target;
    }
    Ok(Converted { net: net.build(0)?, layers, output: source })
}

impl Converted {
    /// Runs some samples; returns one table per probe and what happened.
    pub(super) fn run(
        &self,
        input: Input<'_>,
        samples: usize,
        steps: usize,
        probes: &[Probe],
    ) -> Result<(Vec<Table>, Activity)> {
        let engine = Presentation::compile(&self.net, &Encoding::Constant { steps }, probes)?;
        let ids: Vec<u64> = (0..samples as u64).collect();
        let mut recording = Recording::default();
        let activity = engine.run(input, &ids, &engine.stream("test", 0), &mut recording)?;
        Ok((recording.tables, activity))
    }

    /// Mean outputs over the steps, `[samples, classes]`, comparable to the logits.
    ///
    /// # Errors
    /// Input that does not fit; no steps.
    pub fn outputs(&self, input: Input<'_>, samples: usize, steps: usize) -> Result<(Vec<f32>, Activity)> {
        if steps == 0 {
            return Err(Error::value("steps", steps, "at least 1"));
        }
        let probe = Probe { population: self.output, what: What::Membrane };
        let (mut tables, activity) = self.run(input, samples, steps, &[probe])?;
        let sums = match tables.pop() {
            Some(Table::F32(sums)) => sums,
            _ => return Err(Error::Internal("a membrane was not recorded as numbers".into())),
        };
        Ok((sums.into_iter().map(|sum| sum / steps as f32).collect(), activity))
    }

    /// Class of each sample: the largest output.
    ///
    /// # Errors
    /// As [`outputs`](Self::outputs).
    pub fn classify(&self, input: Input<'_>, samples: usize, steps: usize) -> Result<(Vec<u16>, Activity)> {
        let (outputs, activity) = self.outputs(input, samples, steps)?;
        let classes = self.net.populations[self.output.0].size();
        let largest =
            |row: &[f32]| (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }) as u16;
        Ok((outputs.chunks_exact(classes.max(1)).map(largest).collect(), activity))
    }

    /// Rates of a spiking layer, as activations, `[samples, neurons]`.
    pub(super) fn rates(
        &self,
        layer: usize,
        input: Input<'_>,
        samples: usize,
        steps: usize,
    ) -> Result<Vec<f32>> {
        let Spiking { population, thresholds, .. } = &self.layers[layer];
        let (tables, _) =
            self.run(input, samples, steps, &[Probe { population: *population, what: What::Counts }])?;
        let shape = &self.net.populations[population.0].shape;
        let (neurons, inner) = (shape.iter().product::<usize>(), shape[1..].iter().product::<usize>());
        let theta = |i: usize| thresholds[if thresholds.len() == 1 { 0 } else { i % neurons / inner }];
        let rate = |(i, count): (usize, f32)| count * theta(i) / steps as f32;
        Ok(match tables.into_iter().next() {
            Some(Table::U8(counts)) => counts.into_iter().map(f32::from).enumerate().map(rate).collect(),
            Some(Table::U16(counts)) => counts.into_iter().map(f32::from).enumerate().map(rate).collect(),
            _ => Vec::new(),
        })
    }

    /// Moves the biases of a stage so that its mean rates, or outputs, become the mean activations.
    fn correct(
        &mut self,
        stage: usize,
        wanted: &[f32],
        input: Input<'_>,
        samples: usize,
        steps: usize,
    ) -> Result<()> {
        let (got, theta) = match self.layers.get(stage) {
            Some(layer) => (self.rates(stage, input, samples, steps)?, layer.thresholds.clone()),
            None => (self.outputs(input, samples, steps)?.0, vec![1.0]),
        };
        let projection = &mut self.net.projections[stage];
        let channels = projection.bias.len();
        let inner = wanted.len() / samples / channels;
        for (c, bias) in projection.bias.iter_mut().enumerate() {
            let mean = |all: &[f32]| {
                let images = all.chunks_exact(channels * inner);
                let sum = images.flat_map(|image| &image[c * inner..(c + 1) * inner]).map(|&x| f64::from(x));
                sum.sum::<f64>() / (samples * inner) as f64
            };
            let theta = theta[if theta.len() == 1 { 0 } else { c }];
            *bias += ((mean(wanted) - mean(&got)) / f64::from(theta)) as f32;
        }
        Ok(())
    }
}
