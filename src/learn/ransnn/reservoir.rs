//! A frozen network as a map from samples to features.
//!
//! Spike counts become small integer codes: `code = round(levels − 1) · f(count) / f(largest)`, with `f` the identity
//! or the square root (which evens out the variance of counts), and `largest` the 99.95 % quantile over a calibration
//! batch. Integer codes keep the normal equations of the ridge exact, and a few bits of them are enough.

use crate::engine::{Activity, Input, Presentation, Probe, Recording, Table, cuda};
use crate::error::{Error, Result};
use crate::parallel;
use crate::rng::Stream;
use crate::snn::{Encoding, Network};
use crate::tensor::cuda::Gpu;

/// Function applied to each count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// The count itself.
    Identity,
    /// Its square root.
    Sqrt,
}

/// How counts become codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coding {
    /// Applied before rounding.
    pub transform: Transform,
    /// Number of codes; 0 keeps counts as they are (up to 255).
    pub levels: usize,
}

/// A compiled network with its table of codes.
#[derive(Debug)]
pub struct Reservoir<'n> {
    engine: Presentation<'n>,
    /// Per probe: code of each count; empty where the feature is not a count.
    tables: Vec<Vec<u8>>,
    widths: Vec<usize>,
    /// The same network there, where that is asked for.
    on_gpu: Option<cuda::Features>,
}

/// A batch on its way through the network. A GPU works on it from the start; the CPU when it is collected.
#[derive(Debug)]
pub enum Started<'a> {
    /// On the CPU.
    Cpu {
        /// The samples.
        batch: Input<'a>,
        /// Their numbers.
        ids: &'a [u64],
        /// The encoder's random numbers.
        stream: &'a Stream,
    },
    /// On a GPU.
    Gpu(cuda::Started),
}

/// Share of pooled counts of a calibration batch that the codes resolve; the few above get the largest code.
const QUANTILE: f64 = 0.9995;

impl<'n> Reservoir<'n> {
    /// Compiles the network and finds the range of its counts on a calibration batch of `samples` samples.
    ///
    /// # Errors
    /// Whatever [`Presentation::compile`] refuses; counts above 255 kept without levels.
    pub fn new(
        net: &'n Network,
        encoding: &Encoding,
        probes: &[Probe],
        coding: Coding,
        batch: Input<'_>,
        samples: usize,
    ) -> Result<Self> {
        let engine = Presentation::compile(net, encoding, probes)?;
        let ids: Vec<u64> = (0..samples as u64).collect();
        let mut recording = Recording::default();
        engine.run(batch, &ids, &engine.stream("calibrate", 0), &mut recording)?;
        let tables = recording.tables.iter().map(|table| code_table(table, coding)).collect::<Result<_>>()?;
        Ok(Self { widths: engine.widths(), engine, tables, on_gpu: None })
    }

    /// The same with its batches computed on a GPU: features are equal, bit for bit. The calibration stays what it was.
    ///
    /// # Errors
    /// What has no kernel, by name; not enough memory.
    pub fn on(mut self, gpu: &Gpu) -> Result<Self> {
        self.on_gpu = Some(cuda::Features::new(gpu, &self.engine)?);
        Ok(self)
    }

    /// Starts a batch. On a GPU the work goes on while the caller does something else.
    ///
    /// # Errors
    /// On a GPU, input that does not fit.
    pub fn start<'a>(&self, batch: Input<'a>, ids: &'a [u64], stream: &'a Stream) -> Result<Started<'a>> {
        match &self.on_gpu {
            Some(features) => Ok(Started::Gpu(features.start(batch, ids, stream)?)),
            None => Ok(Started::Cpu { batch, ids, stream }),
        }
    }

    fn run(&self, started: Started<'_>, recording: &mut Recording) -> Result<Activity> {
        match (started, &self.on_gpu) {
            (Started::Cpu { batch, ids, stream }, _) => self.engine.run(batch, ids, stream, recording),
            (Started::Gpu(batch), Some(features)) => features.collect(&batch, recording),
            (Started::Gpu(_), None) => Err(Error::Internal("a batch of another reservoir".into())),
        }
    }

    /// Features per sample.
    pub fn width(&self) -> usize {
        self.widths.iter().sum()
    }

    /// The largest code, where features are codes.
    pub fn code_max(&self) -> Option<u8> {
        self.tables
            .iter()
            .map(|table| table.iter().max().copied())
            .collect::<Option<Vec<u8>>>()?
            .into_iter()
            .max()
    }

    /// Code of each count, per probe.
    pub fn code_tables(&self) -> &[Vec<u8>] {
        &self.tables
    }

    /// The engine underneath.
    pub fn engine(&self) -> &Presentation<'n> {
        &self.engine
    }

    /// Codes of a batch, `[samples, width]`, into `out`.
    ///
    /// # Errors
    /// Input that does not fit; features that are not counts.
    pub fn codes(
        &self,
        batch: Input<'_>,
        ids: &[u64],
        stream: &Stream,
        recording: &mut Recording,
        out: &mut [u8],
    ) -> Result<Activity> {
        self.collect_codes(self.start(batch, ids, stream)?, recording, out)
    }

    /// The codes of a batch that was started, `[samples, width]`, into `out`.
    ///
    /// # Errors
    /// As [`Reservoir::codes`]; what went wrong on the GPU.
    pub fn collect_codes(
        &self,
        started: Started<'_>,
        recording: &mut Recording,
        out: &mut [u8],
    ) -> Result<Activity> {
        let activity = self.run(started, recording)?;
        let (width, tables, widths) = (self.width(), &self.tables, &self.widths);
        let recorded = &recording.tables;
        if self.code_max().is_none() {
            return Err(Error::Unsupported {
                op: "coding features",
                on: "with membranes or traces: they are no counts".into(),
            });
        }
        parallel::chunks_mut(out, width, |sample, row| {
            let mut left = row;
            for ((table, codes), &width) in recorded.iter().zip(tables).zip(widths) {
                let (part, rest) = left.split_at_mut(width);
                let range = sample * width..(sample + 1) * width;
                let last = codes.len() - 1;
                match table {
                    Table::U8(counts) => {
                        part.iter_mut()
                            .zip(&counts[range])
                            .for_each(|(code, &count)| *code = codes[last.min(count.into())]);
                    }
                    Table::U16(counts) => {
                        part.iter_mut()
                            .zip(&counts[range])
                            .for_each(|(code, &count)| *code = codes[last.min(count.into())]);
                    }
                    Table::F32(_) => {}
                }
                left = rest;
            }
        });
        Ok(activity)
    }

    /// Codes of the first `samples` samples of a split ("train", "test") at once.
    ///
    /// # Errors
    /// As [`Reservoir::codes`].
    pub fn codes_of(&self, split: &str, batch: Input<'_>, samples: usize) -> Result<Vec<u8>> {
        let ids: Vec<u64> = (0..samples as u64).collect();
        let mut codes = vec![0; samples * self.width()];
        self.codes(batch, &ids, &self.engine.stream(split, 0), &mut Recording::default(), &mut codes)?;
        Ok(codes)
    }

    /// Features that are numbers (membranes, traces; counts as they are) of a batch that was started, `[samples, width]`.
    ///
    /// # Errors
    /// Input that does not fit.
    pub fn collect_numbers(
        &self,
        started: Started<'_>,
        recording: &mut Recording,
    ) -> Result<(Vec<f32>, Activity)> {
        let activity = self.run(started, recording)?;
        let width = self.width();
        let mut out = vec![0.0; activity.samples as usize * width];
        for (sample, row) in out.chunks_mut(width).enumerate() {
            let mut at = 0;
            for (table, &width) in recording.tables.iter().zip(&self.widths) {
                let (part, range) = (&mut row[at..at + width], sample * width..(sample + 1) * width);
                match table {
                    Table::U8(counts) => {
                        part.iter_mut().zip(&counts[range]).for_each(|(x, &c)| *x = c.into())
                    }
                    Table::U16(counts) => {
                        part.iter_mut().zip(&counts[range]).for_each(|(x, &c)| *x = c.into())
                    }
                    Table::F32(values) => part.copy_from_slice(&values[range]),
                }
                at += width;
            }
        }
        Ok((out, activity))
    }
}

fn code_table(table: &Table, coding: Coding) -> Result<Vec<u8>> {
    let counts: Vec<usize> = match table {
        Table::U8(counts) => counts.iter().map(|&c| c.into()).collect(),
        Table::U16(counts) => counts.iter().map(|&c| c.into()).collect(),
        Table::F32(_) => return Ok(vec![]),
    };
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    if coding.levels == 0 {
        if most > 255 {
            let what = "largest feature count";
            return Err(Error::value(what, most, "at most 255, or rounded: give `features.levels`"));
        }
        // Test samples may count a little higher than the calibration batch did.
        return Ok((0..=255).collect());
    }
    let mut histogram = vec![0usize; most + 1];
    counts.iter().for_each(|&count| histogram[count] += 1);
    let needed = (QUANTILE * counts.len() as f64).ceil() as usize;
    let mut seen = 0;
    let largest = histogram.iter().position(|&n| {
        seen += n;
        seen >= needed
    });
    let largest = largest.unwrap_or(most).max(1) as f64;
    let f = |x: f64| if coding.transform == Transform::Sqrt { x.sqrt() } else { x };
    let top = (coding.levels - 1) as f64;
    Ok((0..=most).map(|count| (top * f(count as f64) / f(largest)).round().min(top) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_monotone_and_reach_the_top() -> Result<()> {
        let table = Table::U8((0..=200).collect());
        let codes = code_table(&table, Coding { transform: Transform::Sqrt, levels: 32 })?;
        assert!(codes.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!((codes[0], codes[200], codes[50]), (0, 31, 16)); // 31 · √(50 / 200) = 15.5
        Ok(())
    }

    #[test]
    fn large_counts_need_levels() {
        let coding = Coding { transform: Transform::Identity, levels: 0 };
        let error = code_table(&Table::U16(vec![300]), coding).expect_err("too large").to_string();
        assert!(error.contains("features.levels"), "{error}");
        assert!(code_table(&Table::U16(vec![200]), coding).is_ok());
    }
}
