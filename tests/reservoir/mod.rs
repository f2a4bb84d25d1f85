//! The reservoir pass on a GPU against a reference that is as plain as possible, and (`engine`) against the CPU engine.

pub mod engine;
pub mod features;

use ransnn::engine::cuda::{Encoder, Reservoir};
use ransnn::rng::Stream;
use ransnn::snn::neurons::lif::{Fires, Lif, Reset, ResetActs};
use ransnn::snn::{Neuron, Values, Weights};
use ransnn::tensor::cuda::Gpu;

/// What one comparison needs.
#[derive(Clone, Debug)]
pub struct Case {
    pub sources: usize,
    pub targets: usize,
    pub samples: usize,
    pub steps: usize,
    /// Probability of a synapse; `None` for dense rows.
    pub density: Option<f64>,
    pub bernoulli: bool,
    pub pixels: Pixels,
    pub weights: Quanta,
    pub lif: Lif,
}

#[derive(Clone, Copy, Debug)]
pub enum Pixels {
    /// Half of them zero, the others anything.
    Mixed,
    All(u8),
}

#[derive(Clone, Copy, Debug)]
pub enum Quanta {
    Random,
    All(i8),
}

impl Default for Case {
    fn default() -> Self {
        Self {
            sources: 300,
            targets: 33,
            samples: 3,
            steps: 25,
            density: None,
            bernoulli: true,
            pixels: Pixels::Mixed,
            weights: Quanta::Random,
            lif: Lif::default(),
        }
    }
}

/// Every size at which tiles, warps, chunks and octets of pixels begin or end; every number of steps that is special.
pub fn sizes() -> Vec<Case> {
    let sources = [300, 1, 7, 8, 9, 255, 256, 257, 784, 0];
    let mut cases = Vec::new();
    for targets in [1, 31, 32, 33, 255, 256, 257, 2000] {
        for steps in [0, 1, 2, 25] {
            for (bernoulli, density) in [(true, None), (true, Some(0.1)), (false, None), (false, Some(0.1))] {
                let n = cases.len();
                let case = Case { targets, steps, bernoulli, density, ..Case::default() };
                // 10 and 4 numbers share a divisor with the loops above: stepping by the loop round visits all pairs.
                cases.push(Case { sources: sources[(n + n / 20) % 10], samples: [1, 9, 3][n % 3], ..case });
            }
        }
    }
    cases
}

/// Every dialect of the neuron.
pub fn dialects() -> Vec<Case> {
    let mut cases = Vec::new();
    for fires in [Fires::Above, Fires::AtOrAbove] {
        for reset in [Reset::Subtract, Reset::To(-0.25), Reset::None] {
            for (acts, refractory_steps) in [
                (ResetActs::SameStep, 0),
                (ResetActs::SameStep, 2),
                (ResetActs::NextStep, 0),
                (ResetActs::BeforeNextStep, 0),
            ] {
                for rest in [0.0, 0.125] {
                    let lif = Lif {
                        fires,
                        reset,
                        acts,
                        refractory_steps,
                        rest,
                        gain: 1.5,
                        threshold: 0.75,
                        decay: 0.9,
                    };
                    cases.push(Case { lif, bernoulli: cases.len() % 2 == 0, ..Case::default() });
                }
            }
        }
    }
    cases
}

/// The largest sums, no input at all, and rows without synapses.
pub fn extremes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (bernoulli, density) in [(true, None), (true, Some(0.5)), (false, None), (false, Some(0.5))] {
        let case = Case { bernoulli, density, sources: 784, steps: 4, targets: 260, ..Case::default() };
        for quantum in [-128, 127] {
            cases.push(Case { pixels: Pixels::All(255), weights: Quanta::All(quantum), ..case.clone() });
        }
        cases.push(Case { pixels: Pixels::All(0), ..case.clone() });
        cases.push(Case { density: density.and(Some(0.0)), pixels: Pixels::All(255), ..case.clone() });
        cases.push(Case { samples: 1, ..case.clone() });
        cases.push(Case { samples: 0, ..case });
    }
    cases
}

/// Compares counts; returns how many spikes there were.
pub fn compare(gpu: &Gpu, case: &Case) -> u64 {
    let draw = Draw(Stream::named(1, "test/reservoir"));
    let weights = draw.weights(case);
    let scale: Vec<f32> = (0..case.targets)
        .map(|k| {
            (1.0 + draw.unit(3, k))
                / (40.0 * (case.sources as f32 * case.density.unwrap_or(1.0) as f32).max(1.0).sqrt())
        })
        .collect();
    let bias: Vec<f32> = (0..case.targets).map(|k| 0.4 * draw.unit(4, k) - 0.1).collect();
    let pixels: Vec<u8> = (0..case.samples * case.sources)
        .map(|i| match case.pixels {
            Pixels::All(value) => value,
            Pixels::Mixed => (draw.unit(5, i) * 512.0 - 256.0).max(0.0) as u8,
        })
        .collect();
    let ids: Vec<u64> = (0..case.samples as u64).map(|s| s * 0x1_0000_0003 + 5).collect();
    let stream = Stream::named(7, "encode/pixels/train/0");
    let thresholds: Vec<u32> = (0..256).map(|x| (f64::from(x) / 255.0 * 65536.0).round() as u32).collect();

    let encoder = if case.bernoulli {
        Encoder::Bernoulli { thresholds: thresholds.clone() }
    } else {
        Encoder::Constant
    };
    let reservoir = Reservoir::new(gpu, &weights, &scale, &bias, &case.lif, &encoder, case.steps).unwrap();
    let counts = reservoir.counts(&pixels, &ids, &stream).unwrap();

    let reference = Reference {
        case,
        weights: dense(&weights, case),
        scale: &scale,
        bias: &bias,
        thresholds: &thresholds,
    };
    assert_eq!(counts.len(), case.samples * case.targets);
    for (s, &id) in ids.iter().enumerate() {
        let expected = reference.counts(&pixels[s * case.sources..][..case.sources], id, &stream);
        let got = &counts[s * case.targets..][..case.targets];
        if let Some(k) = (0..case.targets).find(|&k| got[k] != expected[k]) {
            panic!("{case:?}: sample {s}, neuron {k}: {} spikes instead of {}", got[k], expected[k]);
        }
    }
    counts.iter().map(|&count| u64::from(count)).sum()
}

/// Neurons whose membrane reaches the threshold exactly, in the second step, and only if every product and sum is rounded
/// on its own: with a fused multiply-add anywhere, the last bit is missing and the spike with it.
pub fn rounding(gpu: &Gpu) {
    let draw = Draw(Stream::named(1, "test/rounding"));
    let mut fused_would_miss = [0; 2];
    for i in 0..1000 {
        let [scale, bias, decay, rest] = [0, 1, 2, 3].map(|what| draw.unit(what, i) + 0.01);
        let (sum, factor) = (255.0 * 101.0f32, scale / 255.0);
        let current = sum * factor + bias;
        let step = |u: f32| (rest + decay * (u - rest)) + current;
        let threshold = step(step(rest));
        let fused = [
            {
                let current = sum.mul_add(factor, bias);
                let step = |u: f32| (rest + decay * (u - rest)) + current;
                step(step(rest))
            },
            {
                let step = |u: f32| decay.mul_add(u - rest, rest) + current;
                step(step(rest))
            },
        ];
        if fused.iter().all(|&u| u >= threshold) || step(rest) >= threshold {
            continue;
        }
        fused_would_miss.iter_mut().zip(fused).for_each(|(n, u)| *n += u32::from(u < threshold));
        let lif = Lif { decay, rest, threshold, reset: Reset::None, ..Lif::default() };
        let values = Values::Int8 { quanta: vec![101], scale: vec![1.0] };
        let weights = Weights::Dense { sources: 1, targets: 1, values };
        let reservoir =
            Reservoir::new(gpu, &weights, &[scale], &[bias], &lif, &Encoder::Constant, 2).unwrap();
        let counts = reservoir.counts(&[255], &[0], &Stream::named(0, "unused")).unwrap();
        assert_eq!(counts, [1], "scale {scale}, bias {bias}, decay {decay}, rest {rest}");
    }
    assert!(fused_would_miss.iter().all(|&n| n > 20), "{fused_would_miss:?}");
}

struct Draw(Stream);

impl Draw {
    /// Uniform in [0, 1).
    fn unit(&self, what: u32, index: usize) -> f32 {
        (self.0.block([index as u32, what, 0, 0])[0] >> 8) as f32 / (1 << 24) as f32
    }

    fn weights(&self, case: &Case) -> Weights {
        let (sources, targets) = (case.sources, case.targets);
        let quantum = |i: usize| match case.weights {
            Quanta::Random => (self.unit(1, i) * 256.0 - 128.0).floor() as i8,
            Quanta::All(value) => value,
        };
        let int8 = |quanta| Values::Int8 { quanta, scale: vec![1.0] };
        let Some(density) = case.density else {
            return Weights::Dense {
                sources,
                targets,
                values: int8((0..sources * targets).map(quantum).collect()),
            };
        };
        let (mut offsets, mut list, mut quanta) = (vec![0], Vec::new(), Vec::new());
        for source in 0..sources {
            for target in 0..targets {
                let i = source * targets + target;
                // Every fifth row is empty.
                if source % 5 != 4 && f64::from(self.unit(2, i)) < density {
                    list.push(target as u32);
                    quanta.push(quantum(i));
                }
            }
            offsets.push(list.len());
        }
        Weights::Sparse { offsets, targets: list, values: int8(quanta) }
    }
}

/// `[sources, targets]`
fn dense(weights: &Weights, case: &Case) -> Vec<i32> {
    let mut matrix = vec![0; case.sources * case.targets];
    match weights {
        Weights::Dense { values: Values::Int8 { quanta, .. }, .. } => {
            matrix.iter_mut().zip(quanta).for_each(|(place, &quantum)| *place = i32::from(quantum));
        }
        Weights::Sparse { offsets, targets, values: Values::Int8 { quanta, .. } } => {
            for source in 0..case.sources {
                for i in offsets[source]..offsets[source + 1] {
                    matrix[source * case.targets + targets[i] as usize] += i32::from(quanta[i]);
                }
            }
        }
        _ => unreachable!("the cases have int8 weights, dense or sparse"),
    }
    matrix
}

struct Reference<'a> {
    case: &'a Case,
    weights: Vec<i32>,
    scale: &'a [f32],
    bias: &'a [f32],
    thresholds: &'a [u32],
}

impl Reference<'_> {
    fn counts(&self, pixels: &[u8], id: u64, stream: &Stream) -> Vec<u16> {
        let Case { targets, steps, lif, bernoulli, .. } = *self.case;
        let (mut u, mut silent, mut counts) = (vec![lif.rest; targets], vec![0; targets], vec![0; targets]);
        let mut spikes = vec![0u8; 1];
        for t in 0..steps {
            let mut sums = vec![0i32; targets];
            for (j, &pixel) in pixels.iter().enumerate() {
                let words = stream.block([(j / 8) as u32, t as u32, id as u32, (id >> 32) as u32]);
                let word = words[j % 8 / 2] >> (16 * (j % 2)) & 0xffff;
                let times = match bernoulli {
                    true => i32::from(word < self.thresholds[usize::from(pixel)]),
                    false => i32::from(pixel),
                };
                if times != 0 {
                    let row = &self.weights[j * targets..][..targets];
                    sums.iter_mut().zip(row).for_each(|(sum, &weight)| *sum += times * weight);
                }
            }
            for k in 0..targets {
                if silent[k] > 0 {
                    silent[k] -= 1;
                    continue;
                }
                let scale = if bernoulli { self.scale[k] } else { self.scale[k] / 255.0 };
                let current = sums[k] as f32 * scale + self.bias[k];
                let step = Lif { refractory_steps: 0, ..lif };
                step.step(&[current], &mut [&mut u[k..=k]], &mut spikes);
                counts[k] += u16::from(spikes[0]);
                silent[k] = if spikes[0] > 0 { lif.refractory_steps } else { 0 };
            }
        }
        counts
    }
}
