//! What the engine makes of a network that was trained: classes, activity, and whether both see the same spikes.

use super::loss::Loss;
use super::trainer::Trainer;
use crate::engine::{Activity, Input, Presentation, Probe, Recording, Table, What};
use crate::snn::{Encoding, Network, Pop};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Samples that the engine judges at once.
const JUDGED: usize = 512;

/// Samples `range` of a table.
pub(super) fn part(samples: Input<'_>, width: usize, range: std::ops::Range<usize>) -> Input<'_> {
    let values = range.start * width..range.end * width;
    match samples {
        Input::U8(all) => Input::U8(&all[values]),
        Input::F32(all) => Input::F32(&all[values]),
        Input::Events(all) => Input::Events(&all[range]),
    }
}

fn largest<T: PartialOrd>(row: impl Iterator<Item = T>) -> usize {
    let mut best: Option<(usize, T)> = None;
    for (i, x) in row.enumerate() {
        if best.as_ref().is_none_or(|(_, largest)| x > *largest) {
            best = Some((i, x));
        }
    }
    best.map_or(0, |(i, _)| i)
}

pub(super) fn count_right(outputs: &Tensor, loss: Loss, labels: &[u32]) -> Result<usize> {
    let (steps, classes) = (outputs.shape()[0], outputs.shape()[2]);
    let scores = match loss {
        Loss::CeMembraneLast => outputs.narrow(0, steps - 1, 1)?,
        Loss::CeMembraneMax => outputs.detach()?.max(0)?,
        _ => outputs.detach()?.sum(&[0])?,
    };
    let scores = scores.to_f32()?;
    let right = scores.chunks(classes).zip(labels).filter(|(row, l)| largest(row.iter()) == **l as usize);
    Ok(right.count())
}

/// What the engine records of the output to judge what was trained with a loss: counts, or the last membrane.
pub fn probe(output: Pop, loss: Loss) -> Probe {
    let what = if loss.reads_membrane() { What::Membrane } else { What::Counts };
    Probe { population: output, what }
}

/// The class of each sample by the engine: the output neuron with the largest count or last membrane.
///
/// # Errors
/// What the engine refuses.
pub fn classify(
    net: &Network,
    encoding: &Encoding,
    probe: Probe,
    samples: Input<'_>,
    count: usize,
    split: &str,
) -> Result<(Vec<u16>, Activity)> {
    let engine = Presentation::compile(net, encoding, &[probe])?;
    let stream = engine.stream(split, 0);
    let mut recording = Recording::default();
    let mut classes = Vec::with_capacity(count);
    let mut activity = Activity { spikes: vec![0; net.populations.len()], ..Activity::default() };
    for start in (0..count).step_by(JUDGED) {
        let range = start..count.min(start + JUDGED);
        let ids: Vec<u64> = range.clone().map(|i| i as u64).collect();
        let batch = part(samples, engine.sample_len(), range);
        activity += &engine.run(batch, &ids, &stream, &mut recording)?;
        let width = recording.widths[0].max(1);
        match &recording.tables[0] {
            Table::U8(rows) => classes.extend(rows.chunks(width).map(|row| largest(row.iter()) as u16)),
            Table::U16(rows) => classes.extend(rows.chunks(width).map(|row| largest(row.iter()) as u16)),
            Table::F32(rows) => classes.extend(rows.chunks(width).map(|row| largest(row.iter()) as u16)),
        }
    }
    Ok((classes, activity))
}

/// Populations that hardly fire or fire all the time, each with its rate in spikes per neuron and step: a sign that
/// weights or thresholds do not fit. Looks at those that project to others, and at those whose spikes are `read`.
pub fn silent_or_saturated(net: &Network, activity: &Activity, steps: usize, read: &[Pop]) -> Vec<String> {
    let presented = (activity.samples * steps as u64).max(1) as f64;
    let rate = |i: usize| activity.spikes[i] as f64 / (presented * net.populations[i].size().max(1) as f64);
    let sends = |i: usize| net.projections.iter().any(|p| p.pre.0 == i && p.post.0 != i);
    let heard = |i: usize| sends(i) || read.contains(&Pop(i));
    let neurons = (0..net.populations.len()).filter(|&i| net.populations[i].model.is_some() && heard(i));
    neurons
        .filter_map(|i| {
            let (name, rate) = (&net.populations[i].name, rate(i));
            match rate {
                _ if rate < 1e-4 => {
                    Some(format!("`{name}` is silent: {rate:.1e} spikes per neuron and step"))
                }
                _ if rate > 0.9 => {
                    Some(format!("`{name}` is saturated: {rate:.2} spikes per neuron and step"))
                }
                _ => None,
            }
        })
        .collect()
}

/// How many spike counts of training and engine differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Counts that differ.
    pub differ: usize,
    /// Counts that were compared: samples times neurons.
    pub of: usize,
}

/// Samples whose spikes are compared together: those of all steps are in memory.
const AT_ONCE: usize = 16;

impl Trainer<'_> {
    /// Compares what training and engine count of every population that training reaches, on the first samples, with the
    /// parameters as they are now. Spikes from the same spikes are equal; a constant input is a sum in another order, so
    /// that a potential within rounding of its threshold may fire on one side only.
    ///
    /// # Errors
    /// Input that does not fit.
    pub fn agreement(&mut self, samples: usize) -> Result<Agreement> {
        self.model.write_back(&mut self.net)?;
        let ids: Vec<u64> = (0..samples.min(self.data.labels.len()) as u64).collect();
        let names: Vec<&str> = self.net.populations.iter().map(|p| p.name.as_str()).collect();
        let stream = self.encoder_stream("train", 0);
        let mut ours: Vec<(Pop, Vec<f32>)> = vec![];
        for ids in ids.chunks(AT_ONCE) {
            let pass = self.model.forward(&self.encode(ids, &stream)?, None)?;
            let mut shown: Vec<(Pop, &Tensor)> = vec![];
            for trace in &pass.hidden {
                let at = names.iter().position(|name| *name == trace.name);
                shown.push((Pop(at.ok_or_else(|| Error::Internal(trace.name.clone()))?), &trace.spikes));
            }
            if !self.options.loss.reads_membrane() {
                shown.push((self.output, &pass.outputs));
            }
            ours.resize_with(shown.len(), || (self.output, vec![]));
            for ((population, counts), (of, spikes)) in ours.iter_mut().zip(shown) {
                *population = of;
                counts.extend(spikes.sum(&[0])?.to_f32()?);
            }
        }
        let probes: Vec<Probe> =
            ours.iter().map(|&(population, _)| Probe { population, what: What::Counts }).collect();
        let engine = Presentation::compile(&self.net, &self.encoding, &probes)?;
        let mut recording = Recording::default();
        engine.run(
            part(self.data.samples, engine.sample_len(), 0..ids.len()),
            &ids,
            &stream,
            &mut recording,
        )?;
        let mut found = Agreement::default();
        for ((_, ours), table) in ours.iter().zip(&recording.tables) {
            let theirs: Vec<f32> = match table {
                Table::U8(counts) => counts.iter().map(|&c| c.into()).collect(),
                Table::U16(counts) => counts.iter().map(|&c| c.into()).collect(),
                Table::F32(values) => values.clone(),
            };
            found.of += ours.len();
            found.differ += ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
        }
        Ok(found)
    }
}
