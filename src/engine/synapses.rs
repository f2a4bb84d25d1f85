//! Projections compiled for events: a spike touches the row of its source and nothing else.

use super::{
    events::Events,
    simd::{Currents, Simd, TILE, Tile},
};
use crate::{
    error::{Error, Result},
    snn::{Conv2d, Network, Projection, Values, Weights},
};
use std::ops::Range;

/// One projection, ready for [`Synapses::deliver`].
#[derive(Debug)]
pub(crate) struct Synapses {
    /// Position of the source population.
    pub pre: usize,
    /// Steps from a spike to its effect; 0 in the same step.
    pub delay: usize,
    /// Padded to whole tiles; one entry per target, or per channel of a convolution.
    scale: Vec<f32>,
    bias: Vec<f32>,
    table: Table,
}

#[derive(Debug)]
enum Table {
    /// `[tiles, sources, TILE]` in the byte order of [`Tile`].
    DenseI8 {
        sources: usize,
        tiles: Vec<u8>,
    },
    /// `[tiles, sources, TILE]`
    DenseF32 {
        sources: usize,
        tiles: Vec<f32>,
    },
    SparseI8 {
        offsets: Vec<usize>,
        targets: Vec<u32>,
        quanta: Vec<i8>,
    },
    SparseF32 {
        offsets: Vec<usize>,
        targets: Vec<u32>,
        values: Vec<f32>,
    },
    /// `[channels in, kernel, kernel, channels out]`
    ConvI8 {
        geometry: Conv2d,
        quanta: Vec<i8>,
    },
    ConvF32 {
        geometry: Conv2d,
        values: Vec<f32>,
    },
}

/// Accumulators of the projections that are not dense.
#[derive(Default, Debug)]
pub(crate) struct Sums {
    integers: Vec<i32>,
    floats: Vec<f32>,
}

/// Scale and bias of a projection, calibration gain included: `current = sum · scale + bias`, where the sum is that of
/// the table [without pooling](Weights::without_pooling).
///
/// One entry per target, or per output channel of a convolution.
pub(crate) fn scale_and_bias(net: &Network, projection: &Projection) -> Result<(Vec<f32>, Vec<f32>)> {
    let post = &net.populations[projection.post.0];
    let (entries, channels) = match (&projection.weights, post.shape.as_slice()) {
        (Weights::Conv2d { geometry, .. }, _) => (geometry.output[0], geometry.output[0]),
        (_, &[channels, _, _]) => (post.size(), channels),
        _ => (post.size(), post.size()),
    };
    let spread = |what: &str, given: &[f32], default: f32| match given.len() {
        0 => Ok(vec![default; entries]),
        1 => Ok(vec![given[0]; entries]),
        n if n == entries => Ok(given.to_vec()),
        n if n == channels => Ok((0..entries).map(|i| given[i / (entries / channels)]).collect()),
        n => Err(Error::Network(vec![format!(
            "`{}`: {n} entries of {what}, where 1 or {entries} would fit",
            projection.name
        )])),
    };
    let gain = spread("gain", &projection.gain, 1.0)?;
    let share = match projection.weights {
        Weights::Conv2d { geometry, .. } => ((geometry.pool * geometry.pool) as f32).recip(),
        _ => 1.0,
    };
    let quantum = match values_of(&projection.weights) {
        Values::Int8 { scale, .. } => spread("scale", scale, 1.0)?,
        Values::F32(_) => vec![1.0; entries],
    };
    let bias = spread("bias", &projection.bias, 0.0)?;
    let times =
        |values: Vec<f32>, all: f32| values.into_iter().zip(&gain).map(|(a, b)| a * b * all).collect();
    Ok((times(quantum, share), times(bias, 1.0)))
}

/// The table of numbers of a projection.
pub(crate) fn values_of(weights: &Weights) -> &Values {
    match weights {
        Weights::Dense { values, .. } | Weights::Sparse { values, .. } | Weights::Conv2d { values, .. } => {
            values
        }
    }
}

/// Checks that a table fits the populations it connects.
pub(crate) fn check(net: &Network, projection: &Projection) -> Result<()> {
    let (pre, post) = (net.populations[projection.pre.0].size(), net.populations[projection.post.0].size());
    let fail = |what: String| Err(Error::Network(vec![format!("`{}`: {what}", projection.name)]));
    let synapses = match &projection.weights {
        Weights::Dense { sources, targets, .. } => {
            if (*sources, *targets) != (pre, post) {
                return fail(format!("weights are {sources} × {targets}, the populations {pre} × {post}"));
            }
            sources * targets
        }
        Weights::Sparse { offsets, targets, .. } => {
            let ascending = offsets.first() == Some(&0) && offsets.windows(2).all(|pair| pair[0] <= pair[1]);
            if offsets.len() != pre + 1 || !ascending || offsets.last() != Some(&targets.len()) {
                return fail(format!(
                    "the row offsets do not describe {pre} rows of {} synapses",
                    targets.len()
                ));
            }
            if let Some(target) = targets.iter().find(|&&target| target as usize >= post) {
                return fail(format!("target {target} of {post}"));
            }
            targets.len()
        }
        Weights::Conv2d { geometry: g, .. } => {
            if g.kernel == 0 {
                return fail(format!("the geometry {g:?} contradicts itself"));
            }
            if let Err(why) =
                Conv2d::new(&g.input, &g.output, g.kernel, g.stride, g.padding, g.pool, g.max_pool)
            {
                return fail(why);
            }
            if g.input.iter().product::<usize>() != pre || g.output.iter().product::<usize>() != post {
                return fail(format!("{g:?} does not fit populations of {pre} and {post} neurons"));
            }
            g.output[0] * g.input[0] * g.kernel * g.kernel
        }
    };
    let values = values_of(&projection.weights);
    if values.len() != synapses {
        return fail(format!("{} weights for {synapses} synapses", values.len()));
    }
    if matches!(values, Values::Int8 { quanta, .. } if quanta.contains(&i8::MIN)) {
        return fail("a quantum is -128; the range is -127 to 127".into());
    }
    Ok(())
}

impl Synapses {
    /// Lays the weights out for delivery.
    pub fn compile(net: &Network, projection: &Projection) -> Result<Self> {
        check(net, projection)?;
        let (mut scale, mut bias) = scale_and_bias(net, projection)?;
        let padded = scale.len().next_multiple_of(TILE);
        scale.resize(padded, 0.0);
        bias.resize(padded, 0.0);
        let table = match &*projection.weights.without_pooling() {
            &Weights::Dense { sources, targets, ref values } => match values {
                Values::Int8 { quanta, .. } => {
                    Table::DenseI8 { sources, tiles: interleave(quanta, sources, targets) }
                }
                Values::F32(values) => {
                    Table::DenseF32 { sources, tiles: tile(values, sources, targets, 0.0) }
                }
            },
            Weights::Sparse { offsets, targets, values } => {
                let (offsets, targets) = (offsets.clone(), targets.clone());
                match values {
                    Values::Int8 { quanta, .. } => {
                        Table::SparseI8 { offsets, targets, quanta: quanta.clone() }
                    }
                    Values::F32(values) => Table::SparseF32 { offsets, targets, values: values.clone() },
                }
            }
            &Weights::Conv2d { geometry, ref values } => match values {
                Values::Int8 { quanta, .. } => {
                    Table::ConvI8 { geometry, quanta: channels_last(geometry, quanta) }
                }
                Values::F32(values) => Table::ConvF32 { geometry, values: channels_last(geometry, values) },
            },
        };
        Ok(Self { pre: projection.pre.0, delay: projection.delay_steps(net.dt), scale, bias, table })
    }

    /// Whether [`Synapses::deliver_tile`] works.
    pub fn is_dense(&self) -> bool {
        matches!(self.table, Table::DenseI8 { .. } | Table::DenseF32 { .. })
    }

    /// Bytes of the compiled table.
    pub fn bytes(&self) -> usize {
        4 * (self.scale.len() + self.bias.len())
            + match &self.table {
                Table::DenseI8 { tiles, .. } => tiles.len(),
                Table::DenseF32 { tiles, .. } => 4 * tiles.len(),
                Table::SparseI8 { offsets, targets, quanta } => {
                    8 * offsets.len() + 4 * targets.len() + quanta.len()
                }
                Table::SparseF32 { offsets, targets, values } => {
                    8 * offsets.len() + 4 * (targets.len() + values.len())
                }
                Table::ConvI8 { quanta, .. } => quanta.len(),
                Table::ConvF32 { values, .. } => 4 * values.len(),
            }
    }

    /// Synaptic operations of some spikes: targets reached, summed over the spikes.
    pub fn operations(&self, targets: usize, events: &Events) -> u64 {
        let fan_out = |source: u32| match &self.table {
            Table::DenseI8 { .. } | Table::DenseF32 { .. } => targets,
            Table::SparseI8 { offsets, .. } | Table::SparseF32 { offsets, .. } => {
                offsets[source as usize + 1] - offsets[source as usize]
            }
            Table::ConvI8 { geometry, .. } | Table::ConvF32 { geometry, .. } => {
                let g = geometry.before_max_pool();
                let (_, y, x) = place(&g, source);
                let taps = |at, size| g.reached(at, size).len();
                taps(y, g.output[1]) * taps(x, g.output[2]) * g.output[0]
            }
        };
        if self.is_dense() {
            return events.len() as u64 * targets as u64;
        }
        events.all().iter().map(|&source| fan_out(source) as u64).sum()
    }

    /// Input currents of one tile of a dense projection.
    pub fn deliver_tile(
        &self,
        simd: Simd,
        index: usize,
        events: &Events,
        steps: Range<usize>,
        out: Currents,
    ) {
        let range = index * TILE..(index + 1) * TILE;
        let (scale, bias) = (&self.scale[range.clone()], &self.bias[range]);
        match &self.table {
            Table::DenseI8 { sources, tiles } => {
                let rows = &tiles[index * sources * TILE..][..sources * TILE];
                simd.dense_i8(Tile { rows, scale, bias }, events, steps, out);
            }
            Table::DenseF32 { sources, tiles } => {
                let rows = &tiles[index * sources * TILE..][..sources * TILE];
                simd.dense_f32(rows, scale, bias, events, steps, out);
            }
            _ => unreachable!("only dense projections are delivered by tiles"),
        }
    }

    /// Input currents of all targets: step `i` of the call at `out.values[i * out.stride..]`.
    pub fn deliver(&self, simd: Simd, events: &Events, steps: Range<usize>, out: Currents, sums: &mut Sums) {
        let Currents { values, stride, add } = out;
        if self.is_dense() {
            for index in 0..self.scale.len() / TILE {
                let values = &mut values[index * TILE..];
                self.deliver_tile(simd, index, events, steps.clone(), Currents { values, stride, add });
            }
            return;
        }
        for (i, step) in steps.enumerate() {
            let current = &mut values[i * stride..];
            match &self.table {
                Table::SparseI8 { offsets, targets, quanta } => {
                    let sums = cleared(&mut sums.integers, self.scale.len());
                    for &source in events.step(step) {
                        let row = offsets[source as usize]..offsets[source as usize + 1];
                        for (&target, &quantum) in targets[row.clone()].iter().zip(&quanta[row]) {
                            sums[target as usize] += i32::from(quantum);
                        }
                    }
                    self.finish(sums.iter().map(|&sum| sum as f32), add, current);
                }
                Table::SparseF32 { offsets, targets, values } => {
                    let sums = cleared(&mut sums.floats, self.scale.len());
                    for &source in events.step(step) {
                        let row = offsets[source as usize]..offsets[source as usize + 1];
                        for (&target, &value) in targets[row.clone()].iter().zip(&values[row]) {
                            sums[target as usize] += value;
                        }
                    }
                    self.finish(sums.iter().copied(), add, current);
                }
                Table::ConvI8 { geometry, quanta } => {
                    let g = geometry.before_max_pool();
                    let sums = cleared(&mut sums.integers, g.output.iter().product());
                    scatter(&g, quanta, events.step(step), sums, |sum, quantum| *sum += i32::from(quantum));
                    self.finish_conv(geometry, |i| sums[i] as f32, add, current);
                }
                Table::ConvF32 { geometry, values } => {
                    let g = geometry.before_max_pool();
                    let sums = cleared(&mut sums.floats, g.output.iter().product());
                    scatter(&g, values, events.step(step), sums, |sum, value| *sum += value);
                    self.finish_conv(geometry, |i| sums[i], add, current);
                }
                Table::DenseI8 { .. } | Table::DenseF32 { .. } => {}
            }
        }
    }

    fn finish(&self, sums: impl Iterator<Item = f32>, add: bool, current: &mut [f32]) {
        for (((sum, scale), bias), current) in sums.zip(&self.scale).zip(&self.bias).zip(current) {
            let x = sum * scale + bias;
            *current = if add { *current + x } else { x };
        }
    }

    /// Sums are `[positions, channels]`, currents `[channels, positions]`: the largest of each window of positions.
    fn finish_conv(&self, g: &Conv2d, sum: impl Fn(usize) -> f32, add: bool, current: &mut [f32]) {
        let ([channels, rows, columns], side) = (g.output, g.max_pool);
        for channel in 0..channels {
            for target in 0..rows * columns {
                let corner = target / columns * side * (columns * side) + target % columns * side;
                let window = (0..side * side).map(|i| corner + i / side * (columns * side) + i % side);
                let each =
                    window.map(|at| sum(at * channels + channel) * self.scale[channel] + self.bias[channel]);
                let x = each.reduce(f32::max).unwrap_or_default();
                let current = &mut current[channel * rows * columns + target];
                *current = if add { *current + x } else { x };
            }
        }
    }
}

fn cleared<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    buffer.clear();
    buffer.resize(len, T::default());
    buffer
}

/// Channel, row and column of a source neuron.
fn place(g: &Conv2d, source: u32) -> (usize, usize, usize) {
    let (source, [_, height, width]) = (source as usize, g.input);
    (source / (height * width), source / width % height, source % width)
}

/// Adds each event's kernel to `sums`, which are `[positions, channels]`.
fn scatter<W: Copy, S>(g: &Conv2d, weights: &[W], events: &[u32], sums: &mut [S], add: impl Fn(&mut S, W)) {
    let [channels, height, width] = g.output;
    for &event in events {
        let (input, y, x) = place(g, event);
        for row in g.reached(y, height) {
            for column in g.reached(x, width) {
                let (ky, kx) = (y + g.padding - row * g.stride, x + g.padding - column * g.stride);
                let tap = ((input * g.kernel + ky) * g.kernel + kx) * channels;
                let sums = &mut sums[(row * width + column) * channels..][..channels];
                for (sum, &weight) in sums.iter_mut().zip(&weights[tap..tap + channels]) {
                    add(sum, weight);
                }
            }
        }
    }
}

/// `[sources, targets]` to `[tiles, sources, TILE]`.
fn tile<T: Copy>(values: &[T], sources: usize, targets: usize, padding: T) -> Vec<T> {
    let mut tiles = vec![padding; targets.div_ceil(TILE) * sources * TILE];
    for source in 0..sources {
        for (index, row) in values[source * targets..(source + 1) * targets].chunks(TILE).enumerate() {
            tiles[(index * sources + source) * TILE..][..row.len()].copy_from_slice(row);
        }
    }
    tiles
}

/// The byte order of [`Tile`].
fn interleave(quanta: &[i8], sources: usize, targets: usize) -> Vec<u8> {
    let tiles = tile(quanta, sources, targets, 0);
    let mut bytes = Vec::with_capacity(tiles.len());
    for half in tiles.chunks_exact(32) {
        for k in 0..16 {
            bytes.extend([(half[k] as u8) ^ 0x80, half[16 + k] as u8]);
        }
    }
    bytes
}

/// `[out, in, kernel, kernel]` to `[in, kernel, kernel, out]`.
pub(crate) fn channels_last<T: Copy>(g: Conv2d, values: &[T]) -> Vec<T> {
    let taps = g.input[0] * g.kernel * g.kernel;
    (0..taps).flat_map(|tap| (0..g.output[0]).map(move |channel| values[channel * taps + tap])).collect()
}
