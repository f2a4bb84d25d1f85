//! Frozen layers, one behind the other, on a GPU: what [`Presentation`] records of 8-bit samples, bit for bit.
//!
//! Each population has one projection, from the input. A batch is started and collected in two calls: between them the
//! GPU works, and the caller's thread is free.

use super::reservoir::{Batch, Launched, Reservoir};
use crate::engine::record::{Feature, Slice};
use crate::engine::{Activity, Input, Presentation, Recording, What};
use crate::error::{Error, Result};
use crate::rng::Stream;
use crate::tensor::cuda::{Arg, Buffer, Geometry, Gpu};
use crate::tensor::kernels::{self, ElementType};
use std::ops::Range;

/// A network on a GPU, compiled for one encoding and some probes.
#[derive(Debug)]
pub struct Features {
    gpu: Gpu,
    input: usize,
    populations: usize,
    layers: Vec<Layer>,
    /// In the order of the probes.
    features: Vec<Feature>,
}

/// One population.
#[derive(Debug)]
struct Layer {
    population: usize,
    reservoir: Reservoir,
    /// Multiply-accumulates of a constant input, per sample.
    operations: u64,
    /// Windows of the features that pool, by the number of the feature.
    windows: Vec<(usize, Windows)>,
}

/// Begins and ends of windows along both axes, `[windows, 2]`.
#[derive(Debug)]
struct Windows {
    rows: Buffer,
    columns: Buffer,
}

/// A batch that is being worked on.
pub struct Started {
    samples: usize,
    layers: Vec<Launched>,
    /// The pooled counts of each feature; `None` where the counts themselves are the feature.
    pooled: Vec<Option<Buffer>>,
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started").field("samples", &self.samples).finish_non_exhaustive()
    }
}

impl Features {
    /// Uploads a compiled network.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what has no kernel, by name; not enough memory.
    pub fn new(gpu: &Gpu, engine: &Presentation<'_>) -> Result<Self> {
        let net = engine.net;
        let mut layers = Vec::new();
        for layer in &engine.layers {
            let name = &net.populations[layer.population].name;
            let mut onto = net.projections.iter().filter(|p| p.post.0 == layer.population);
            let (Some(projection), None) = (onto.next(), onto.next()) else {
                return Err(lacks(format!("with not exactly one projection onto `{name}`")));
            };
            if let Some(delay) = projection.delay {
                return Err(lacks(format!("with the delay of {delay} of `{}`", projection.name)));
            }
            let mut windows = Vec::new();
            for (number, feature) in engine.features.iter().enumerate() {
                match feature.what {
                    _ if feature.population != layer.population => {}
                    What::Counts => {}
                    What::Pool(_) => windows.push((number, Windows::new(gpu, feature)?)),
                    What::Bins(_) | What::Membrane | What::Trace { .. } => {
                        let what = format!("with anything but spike counts recorded of `{name}`");
                        return Err(lacks(what));
                    }
                }
            }
            layers.push(Layer {
                population: layer.population,
                reservoir: Reservoir::of_projection(gpu, net, &engine.encoding, projection)?,
                operations: layer.constant.iter().map(|constant| constant.operations).sum(),
                windows,
            });
        }
        Ok(Self {
            gpu: gpu.clone(),
            input: engine.input,
            populations: net.populations.len(),
            layers,
            features: engine.features.clone(),
        })
    }

    /// The GPU.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Queues a batch and returns; arguments as for [`Presentation::run`].
    ///
    /// # Errors
    /// Samples that are not 8-bit or do not fit; not enough memory; what the GPU reports.
    pub fn start(&self, input: Input<'_>, sample_ids: &[u64], stream: &Stream) -> Result<Started> {
        let Input::U8(pixels) = input else {
            return Err(lacks("on samples that are not 8-bit numbers".into()));
        };
        let mut started = Started {
            samples: sample_ids.len(),
            layers: Vec::new(),
            pooled: self.features.iter().map(|_| None).collect(),
        };
        let mut batch: Option<Batch> = None;
        for layer in &self.layers {
            let batch = match &mut batch {
                Some(batch) => batch,
                None => batch.insert(layer.reservoir.upload(pixels, sample_ids, stream)?),
            };
            let launched = layer.reservoir.launch(batch)?;
            for (number, windows) in &layer.windows {
                started.pooled[*number] =
                    Some(self.pool(&self.features[*number], windows, &launched.counts, batch.samples)?);
            }
            started.layers.push(launched);
        }
        Ok(started)
    }

    /// Waits for a batch; `recording` gets one row per sample.
    ///
    /// # Errors
    /// What went wrong on the GPU.
    pub fn collect(&self, started: &Started, recording: &mut Recording) -> Result<Activity> {
        let Started { samples, .. } = *started;
        let mut old = std::mem::take(&mut recording.tables).into_iter();
        recording.tables = self.features.iter().map(|f| f.prepare(old.next(), samples)).collect();
        recording.widths = self.features.iter().map(|f| f.width).collect();
        for ((feature, table), pooled) in self.features.iter().zip(&mut recording.tables).zip(&started.pooled)
        {
            let place = self.layers.iter().position(|layer| layer.population == feature.population);
            let counts = pooled.as_ref().or_else(|| place.map(|i| &started.layers[i].counts));
            let Some(counts) = counts.filter(|counts| !counts.is_empty()) else { continue };
            let counts = counts.download::<u16>()?;
            let all: Vec<Slice<'_>> = table.chunks(samples, feature.width);
            for mut rows in all {
                rows.counts(0, 1, counts.iter().map(|&count| count.into()));
            }
        }
        let mut activity =
            Activity { spikes: vec![0; self.populations], samples: samples as u64, ..Activity::default() };
        for (layer, launched) in self.layers.iter().zip(&started.layers) {
            let [spikes, inputs, synaptic] = launched.activity.download::<u64>()?[..] else {
                return Err(Error::Internal("a launch counts three things".into()));
            };
            activity.spikes[layer.population] += spikes;
            activity.spikes[self.input] = inputs; // every layer draws the same
            activity.synaptic_operations += synaptic;
            activity.analogue_operations += layer.operations * samples as u64;
        }
        Ok(activity)
    }

    fn pool(&self, feature: &Feature, windows: &Windows, counts: &Buffer, samples: usize) -> Result<Buffer> {
        let [channels, height, width] = feature.image;
        let sums = samples * feature.width;
        let mut pooled = self.gpu.zeros(ElementType::U16, sums)?;
        if sums == 0 {
            return Ok(pooled);
        }
        let (rows, columns) = (feature.rows.len(), feature.columns.len());
        let mut args = [
            Arg::In(counts),
            Arg::In(&windows.rows),
            Arg::In(&windows.columns),
            Arg::U64((samples * channels) as u64),
            Arg::I32(height as i32), // below 2³¹: the reservoir pass has checked the product
            Arg::I32(width as i32),
            Arg::I32(rows as i32),
            Arg::I32(columns as i32),
            Arg::Out(&mut pooled),
        ];
        let geometry =
            Geometry { grid: [sums.div_ceil(256) as u32, 1, 1], block: [256, 1, 1], shared_bytes: 0 };
        self.gpu.launch(&kernels::POOL, &kernels::POOL_COUNTS, geometry, &mut args)?;
        Ok(pooled)
    }
}

impl Windows {
    fn new(gpu: &Gpu, feature: &Feature) -> Result<Self> {
        let ends = |ranges: &[Range<usize>]| {
            let ends: Vec<u32> = ranges.iter().flat_map(|r| [r.start as u32, r.end as u32]).collect();
            gpu.upload(&ends)
        };
        Ok(Self { rows: ends(&feature.rows)?, columns: ends(&feature.columns)? })
    }
}

fn lacks(why: String) -> Error {
    Error::Unsupported { op: "a reservoir", on: format!("on a GPU {why}") }
}
