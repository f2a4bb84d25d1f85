//! Samples to spikes, in bulk: what `snn::encode` defines, for a stretch of steps.

use super::{
    constant::Rows,
    events::Events,
    simd::{Draw, Simd},
};
use crate::{
    error::{Error, Result},
    rng::Stream,
    snn::encode::{Encoding, bernoulli_threshold, delta, latency},
};
use std::ops::Range;

/// One sample of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample<'a> {
    /// The batch.
    pub samples: Rows<'a>,
    /// Its place there.
    pub row: usize,
    /// Key of its random numbers.
    pub id: u64,
}

/// An encoding for `inputs` neurons, with buffers.
#[derive(Debug)]
pub(crate) struct Encoder {
    encoding: Encoding,
    inputs: usize,
    /// Bernoulli thresholds of 8-bit intensities.
    thresholds: Vec<u32>,
    draw: Draw,
    bytes: Vec<u8>,
    words: Vec<u64>,
    lists: Vec<Vec<u32>>,
}

impl Encoder {
    pub fn new(encoding: Encoding, inputs: usize) -> Self {
        let thresholds = match encoding {
            Encoding::Bernoulli { gain, .. } => {
                (0..=255u8).map(|x| bernoulli_threshold(f32::from(x) / 255.0, gain)).collect()
            }
            _ => Vec::new(),
        };
        let (draw, bytes, words, lists) = Default::default();
        Self { encoding, inputs, thresholds, draw, bytes, words, lists }
    }

    /// The spikes of one sample during `steps`.
    pub fn encode(
        &mut self,
        simd: Simd,
        stream: &Stream,
        sample: Sample,
        steps: Range<usize>,
        out: &mut Events,
    ) {
        let Sample { samples, row, id } = sample;
        out.clear();
        let len = self.encoding.sample_len(self.inputs);
        let at = |i: usize| match samples {
            Rows::U8(x) => f32::from(x[row * len + i]) / 255.0,
            Rows::F32(x) => x[row * len + i],
        };
        match self.encoding {
            Encoding::Constant { .. } => steps.for_each(|_| out.push_mask(&[])),
            Encoding::Bernoulli { gain, .. } => {
                match samples {
                    Rows::U8(x) => {
                        let x = &x[row * len..][..len];
                        self.draw.fill(x.iter().map(|&x| self.thresholds[usize::from(x)]));
                    }
                    Rows::F32(x) => {
                        let x = &x[row * len..][..len];
                        self.draw.fill(x.iter().map(|&x| bernoulli_threshold(x, gain)));
                    }
                }
                self.bytes.clear();
                self.bytes.resize(self.inputs.div_ceil(64) * 8, 0);
                for step in steps {
                    simd.bernoulli(&self.draw, stream.key(), step as u32, id, &mut self.bytes);
                    self.words.clear();
                    let eight = self.bytes.chunks_exact(8);
                    self.words.extend(
                        eight.map(|b| u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])),
                    );
                    out.push_mask(&self.words);
                }
            }
            Encoding::Latency { steps: total } => {
                self.lists.iter_mut().for_each(Vec::clear);
                self.lists.resize(steps.len(), Vec::new());
                for i in 0..self.inputs {
                    if let Some(step) = latency(at(i), total).filter(|step| steps.contains(step)) {
                        self.lists[step - steps.start].push(i as u32);
                    }
                }
                self.lists.iter().for_each(|list| out.push_list(list));
            }
            Encoding::Frames { .. } => {
                self.lists.resize(1, Vec::new());
                let list = &mut self.lists[0];
                for step in steps {
                    let frame = row * len + step * self.inputs..row * len + (step + 1) * self.inputs;
                    list.clear();
                    match samples {
                        Rows::U8(x) => fired(&x[frame], list),
                        Rows::F32(x) => fired(&x[frame], list),
                    }
                    out.push_list(list);
                }
            }
            Encoding::Delta { threshold, off, .. } => {
                let signals = if off { self.inputs / 2 } else { self.inputs };
                self.lists.resize(1, Vec::new());
                let list = &mut self.lists[0];
                for step in steps {
                    let change = |j: usize| {
                        let before = if step == 0 { 0.0 } else { at((step - 1) * signals + j) };
                        delta(before, at(step * signals + j), threshold)
                    };
                    list.clear();
                    list.extend((0..signals).filter(|&j| change(j) > 0).map(|j| j as u32));
                    if off {
                        list.extend((0..signals).filter(|&j| change(j) < 0).map(|j| (signals + j) as u32));
                    }
                    out.push_list(list);
                }
            }
        }
    }
}

/// Appends the places that are above 0.
fn fired<T: Copy + Default + PartialOrd>(frame: &[T], list: &mut Vec<u32>) {
    list.extend(frame.iter().enumerate().filter(|(_, x)| **x > T::default()).map(|(i, _)| i as u32));
}

/// The spikes of some samples, one list each: those that a network of `inputs` input neurons is shown.
///
/// # Errors
/// Input that does not fit, or that is no intensities.
pub fn encode(
    encoding: &Encoding,
    inputs: usize,
    samples: super::Input<'_>,
    ids: &[u64],
    stream: &Stream,
) -> Result<Vec<Events>> {
    encoding.validate()?;
    let (rows, len) = match samples {
        super::Input::U8(x) => (Rows::U8(x), x.len()),
        super::Input::F32(x) => (Rows::F32(x), x.len()),
        super::Input::Events(_) => return Err(Error::value("samples", "spike lists", "intensities")),
    };
    let expected = ids.len() * encoding.sample_len(inputs);
    if len != expected {
        return Err(Error::value("length of the samples", len, format!("{expected}")));
    }
    /// Samples that one encoder takes on.
    const EACH: usize = 8;
    let simd = Simd::best();
    let pieces = crate::parallel::map(ids.len().div_ceil(EACH), |piece| {
        let mut encoder = Encoder::new(*encoding, inputs);
        let all = piece * EACH..ids.len().min((piece + 1) * EACH);
        let one = |row: usize| {
            let mut events = Events::empty(inputs);
            encoder.encode(
                simd,
                stream,
                Sample { samples: rows, row, id: ids[row] },
                0..encoding.steps(),
                &mut events,
            );
            events
        };
        all.map(one).collect::<Vec<_>>()
    });
    Ok(pieces.into_iter().flatten().collect())
}

impl Draw {
    /// Takes `threshold(p)` of every input; blocks of eight inputs that never fire are left out.
    pub fn fill(&mut self, thresholds: impl Iterator<Item = u32>) {
        self.blocks.clear();
        self.at_most.clear();
        self.can_fire.clear();
        let mut block = [0u32; 8];
        let (mut n, mut thresholds) = (0u32, thresholds.peekable());
        while thresholds.peek().is_some() {
            block.fill(0);
            block.iter_mut().zip(thresholds.by_ref()).for_each(|(place, threshold)| *place = threshold);
            if block != [0; 8] {
                self.blocks.push(n);
                self.at_most.extend(block.map(|threshold| threshold.saturating_sub(1) as u16));
                self.can_fire.extend(block.map(|threshold| if threshold == 0 { 0 } else { u16::MAX }));
            }
            n += 1;
        }
        self.used = self.blocks.len();
        let padded = self.used.next_multiple_of(8);
        self.blocks.resize(padded, 0);
        self.at_most.resize(padded * 8, 0);
        self.can_fire.resize(padded * 8, 0);
    }
}
