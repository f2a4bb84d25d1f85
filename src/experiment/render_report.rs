//! Collects what the report of a run shows.

use super::config::Config;
use super::execute::{Outcome, input, network};
use super::run_dir::RunDir;
use super::summary::Summary;
use super::{annotate, build};
use crate::data::{Dataset, Samples};
use crate::engine::{Feedforward, Probe, Recording, Table, What};
use crate::error::{Error, Result};
use crate::report::{
    Confusion, Energy, Example, FileRecord, Histogram, Image, Layer, Page, Parameters, Part, Plot, Raster,
    Run, Series,
};
use crate::snn::{Network, Pop};

/// Test samples whose firing rates are shown.
const RATES: usize = 500;
/// Examples that are shown, and neurons in each of their rasters.
const EXAMPLES: usize = 6;
const RASTER: usize = 80;

/// The page of a run.
pub(super) fn page(
    config: &Config,
    data: &Dataset,
    summary: &Summary,
    outcomes: &[Outcome],
    run: &RunDir,
) -> Result<Page> {
    let first = &outcomes[0];
    let net = network(config, data, first.result.seed)?;
    let (layers, examples) = if data.test.is_empty() {
        (vec![], vec![])
    } else {
        (layers(config, data, &net)?, examples(config, data, &net, first)?)
    };
    let runs = summary.seeds.iter().map(|seed| Run {
        seed: seed.seed,
        train_accuracy: seed.train_accuracy,
        test_accuracy: seed.test_accuracy,
        spikes_per_sample: seed.spikes_per_sample,
        seconds: seed.seconds.total,
    });
    let mut curves = vec![];
    if !first.curve.is_empty() {
        let of = |f: fn(&(usize, f64, f64)) -> f64| -> Vec<(f64, f64)> {
            first.curve.iter().map(|p| (p.0 as f64, f(p))).collect()
        };
        curves.push(Plot {
            title: "Loss of the mini-batches".into(),
            x_label: "iteration".into(),
            y_label: "cross-entropy".into(),
            log_x: false,
            series: vec![Series::new("training", of(|p| p.1))],
        });
        curves.push(Plot {
            title: "Accuracy on the mini-batches".into(),
            x_label: "iteration".into(),
            y_label: "accuracy / %".into(),
            log_x: false,
            series: vec![Series::new("training", of(|p| 100.0 * p.2))],
        });
    }
    let chosen: Vec<(f64, f64)> =
        first.selection.iter().filter_map(|(l, e, _)| e.map(|e| (*l, 100.0 * e))).collect();
    if chosen.len() > 1 {
        curves.push(Plot {
            title: "Choice of λ".into(),
            x_label: "λ".into(),
            y_label: "leave-one-out error / %".into(),
            log_x: true,
            series: vec![Series::new("kept training samples", chosen)],
        });
    }
    let mut confusion = vec![0u64; data.classes * data.classes];
    for outcome in outcomes {
        confusion.iter_mut().zip(&outcome.confusion).for_each(|(sum, n)| *sum += n);
    }
    let seconds = &summary.seconds;
    let time = [
        ("data", seconds.data),
        ("frozen layers", seconds.features),
        ("readout", seconds.fit),
        ("test", seconds.test),
    ];
    let samples = match &data.train.samples {
        Samples::U8(values) => values.len(),
        Samples::F32(values) => 4 * values.len(),
    };
    let plan = Feedforward::compile(&net, &build::encoding(config), &build::probes(config, &net))?;
    let width: usize = plan.widths().iter().sum();
    let memory = [
        ("training samples", samples),
        ("frozen weights, compiled", plan.plan().table_bytes),
        ("features as codes", data.train.len() * width),
        ("normal equations and factor", if first.curve.is_empty() { 4 * width * width } else { 0 }),
    ];
    let env: serde_json::Value = serde_json::from_slice(
        &std::fs::read(run.file("env.json")).map_err(Error::io("read", run.file("env.json")))?,
    )
    .map_err(|e| Error::data(run.file("env.json"), e.to_string()))?;
    let environment =
        env.as_object().into_iter().flatten().map(|(key, value)| {
            (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_string))
        });
    Ok(Page {
        title: config.name.clone(),
        subtitle: format!(
            "RanSNN: {} random frozen weights, {} trained",
            summary.parameters.frozen, summary.parameters.trained
        ),
        status: "done".into(),
        dataset: data.name.clone(),
        notices: summary
            .fallback
            .iter()
            .map(|reason| {
                format!(
                    "These results are on the built-in `strokes` digits, not on what was asked for. {reason}"
                )
            })
            .collect(),
        runs: runs.collect(),
        parameters: Some(Parameters {
            trained: summary.parameters.trained as u64,
            frozen: summary.parameters.frozen as u64,
        }),
        curves,
        confusion: Some(Confusion {
            classes: (0..data.classes).map(|class| data.class_name(class)).collect(),
            counts: confusion,
        }),
        examples,
        layers,
        time: time.iter().map(|(name, value)| Part::new(*name, *value)).collect(),
        memory: memory
            .iter()
            .filter(|(_, bytes)| *bytes > 0)
            .map(|(name, bytes)| Part::new(*name, *bytes as f64))
            .collect(),
        peak_rss_bytes: Some(summary.memory.peak_rss_bytes).filter(|&bytes| bytes > 0),
        energy: Some(Energy {
            synaptic_operations_per_sample: summary.synaptic_operations.per_sample,
            dense_macs_per_sample: Some(summary.analogue_operations.per_sample as u64).filter(|&n| n > 0),
            measured: None,
        }),
        files: data
            .origin
            .files
            .iter()
            .map(|file| FileRecord {
                name: file.name.clone(),
                bytes: file.bytes,
                sha256: file.sha256.clone(),
            })
            .collect(),
        config: annotate::annotated(config),
        environment: environment.collect(),
        ..Page::default()
    })
}

/// Firing rates of every population over some test samples.
fn layers(config: &Config, data: &Dataset, net: &Network) -> Result<Vec<Layer>> {
    let populations: Vec<usize> =
        (0..net.populations.len()).filter(|&i| net.populations[i].model.is_some()).collect();
    let probes: Vec<Probe> =
        populations.iter().map(|&i| Probe { population: Pop(i), what: What::Counts }).collect();
    let encoding = build::encoding(config);
    let engine = Feedforward::compile(net, &encoding, &probes)?;
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

/// The first test samples, some of them wrong if there are any.
fn examples(config: &Config, data: &Dataset, net: &Network, outcome: &Outcome) -> Result<Vec<Example>> {
    let Some(population) = config.features.from.first().and_then(|name| net.population(name)) else {
        return Ok(vec![]);
    };
    let encoding = build::encoding(config);
    let (size, steps) = (net.populations[population.0].size(), encoding.steps());
    let engine = Feedforward::compile(net, &encoding, &[Probe { population, what: What::Bins(steps) }])?;
    let wrong = (0..data.test.len()).filter(|&i| data.test.labels[i] != outcome.predicted[i]).take(2);
    let right = (0..data.test.len()).filter(|&i| data.test.labels[i] == outcome.predicted[i]);
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
            predicted: data.class_name(outcome.predicted[i].into()),
        });
    }
    Ok(examples)
}
