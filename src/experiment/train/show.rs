//! What the report shows of a trained network: firing rates, examples with their spikes, where memory went.

use super::input;
use crate::data::{Dataset, Samples, Split};
use crate::engine::{Presentation, Probe, Recording, Table, What};
use crate::error::Result;
use crate::report::{Example, Histogram, Image, Layer, Part, Raster};
use crate::snn::{Encoding, Network, Pop};

/// Test samples whose firing rates are shown.
const RATES: usize = 500;
/// Examples that are shown, and neurons in each of their rasters.
const EXAMPLES: usize = 6;
const RASTER: usize = 80;

/// Bytes of the samples of a split.
pub(super) fn sample_bytes(split: &Split) -> usize {
    match &split.samples {
        Samples::U8(values) => values.len(),
        Samples::F32(values) => 4 * values.len(),
    }
}

/// Purposes that take memory, with their bytes.
pub(super) fn parts(parts: &[(&str, usize)]) -> Vec<Part> {
    let some = parts.iter().filter(|(_, bytes)| *bytes > 0);
    some.map(|(name, bytes)| Part::new(*name, *bytes as f64)).collect()
}

/// Firing rates of every population over some test samples.
pub(super) fn layers(encoding: &Encoding, data: &Dataset, net: &Network) -> Result<Vec<Layer>> {
    let populations: Vec<usize> =
        (0..net.populations.len()).filter(|&i| net.populations[i].model.is_some()).collect();
    let probes: Vec<Probe> =
        populations.iter().map(|&i| Probe { population: Pop(i), what: What::Counts }).collect();
    if data.test.is_empty() {
        return Ok(vec![]);
    }
    let engine = Presentation::compile(net, encoding, &probes)?;
    let samples = RATES.min(data.test.len());
    let steps = encoding.steps() as f64;
    let mut totals: Vec<Vec<u64>> = populations.iter().map(|&i| vec![0; net.populations[i].size()]).collect();
    let mut recording = Recording::default();
    for start in (0..samples).step_by(50) {
        let range = start..(start + 50).min(samples);
        let ids: Vec<u64> = range.clone().map(|i| i as u64).collect();
        engine.run(
            input(&data.test, data.features(), range),
            &ids,
            &engine.stream("test", 0),
            &mut recording,
        )?;
        for (table, total) in recording.tables.iter().zip(&mut totals) {
            let size = total.len();
            let mut add = |i: usize, count: u64| total[i % size] += count;
            match table {
                Table::U8(counts) => counts.iter().enumerate().for_each(|(i, &c)| add(i, c.into())),
                Table::U16(counts) => counts.iter().enumerate().for_each(|(i, &c)| add(i, c.into())),
                Table::F32(_) => {}
            }
        }
    }
    Ok(populations
        .iter()
        .zip(totals)
        .map(|(&i, totals)| {
            let rates: Vec<f64> = totals.iter().map(|&n| n as f64 / (samples as f64 * steps)).collect();
            let high = rates.iter().fold(0.0f64, |a, &b| a.max(b)).max(1e-3);
            let mut counts = vec![0u64; 30];
            rates.iter().for_each(|rate| counts[((rate / high * 30.0) as usize).min(29)] += 1);
            let of = |f: fn(f64) -> bool| {
                rates.iter().filter(|&&rate| f(rate)).count() as f64 / rates.len() as f64
            };
            Layer {
                name: net.populations[i].name.clone(),
                neurons: rates.len() as u64,
                mean_rate: rates.iter().sum::<f64>() / rates.len() as f64,
                silent: of(|rate| rate == 0.0),
                saturated: of(|rate| rate > 0.95),
                rates: Histogram { low: 0.0, high, counts },
            }
        })
        .collect())
}

/// The first test samples, some of them wrong if there are any, and the spikes of a population.
pub(super) fn examples(
    encoding: &Encoding,
    data: &Dataset,
    net: &Network,
    population: Pop,
    predicted: &[u16],
) -> Result<Vec<Example>> {
    let (size, steps) = (net.populations[population.0].size(), encoding.steps());
    let engine = Presentation::compile(net, encoding, &[Probe { population, what: What::Bins(steps) }])?;
    let wrong = (0..data.test.len()).filter(|&i| data.test.labels[i] != predicted[i]).take(2);
    let right = (0..data.test.len()).filter(|&i| data.test.labels[i] == predicted[i]);
    let picks: Vec<usize> = wrong.chain(right).take(EXAMPLES).collect();
    let neurons: Vec<usize> = (0..RASTER.min(size)).map(|i| i * size / RASTER.min(size)).collect();
    let mut examples = vec![];
    for i in picks {
        let mut recording = Recording::default();
        engine.run(
            input(&data.test, data.features(), i..i + 1),
            &[i as u64],
            &engine.stream("test", 0),
            &mut recording,
        )?;
        let fired = |step: usize, neuron: usize| match &recording.tables[0] {
            Table::U8(counts) => counts[step * size + neuron] > 0,
            Table::U16(counts) => counts[step * size + neuron] > 0,
            Table::F32(_) => false,
        };
        let spikes = (0..steps).flat_map(|step| (0..neurons.len()).map(move |n| (step, n)));
        let spikes =
            spikes.filter(|&(step, n)| fired(step, neurons[n])).map(|(step, n)| (step as u32, n as u32));
        let image = match (&data.test.samples, data.shape.as_slice()) {
            (Samples::U8(all), &[1, height, width]) => {
                Some(Image { width, height, pixels: all[i * data.features()..][..data.features()].to_vec() })
            }
            // What happened at each place in all steps.
            (Samples::U8(all), &[_, _, height, width]) => {
                let mut pixels = vec![0u8; height * width];
                for frame in all[i * data.features()..][..data.features()].chunks(height * width) {
                    pixels
                        .iter_mut()
                        .zip(frame)
                        .for_each(|(sum, x)| *sum = sum.saturating_add(x.saturating_mul(32)));
                }
                Some(Image { width, height, pixels })
            }
            _ => None,
        };
        examples.push(Example {
            image,
            raster: Raster {
                layer: net.populations[population.0].name.clone(),
                steps: steps as u32,
                neurons: neurons.len() as u32,
                of: size as u64,
                spikes: spikes.collect(),
            },
            label: data.class_name(data.test.labels[i].into()),
            predicted: data.class_name(predicted[i].into()),
        });
    }
    Ok(examples)
}
