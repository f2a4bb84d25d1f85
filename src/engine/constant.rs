//! Projections from an input that is the same in every step: one matrix product per sample, before the steps.

use super::{
    simd::{BLOCK, Packed, Simd},
    synapses,
};
use crate::{
    error::Result,
    snn::{Conv2d, Network, Projection, Values, Weights},
};
use std::sync::OnceLock;

/// Patches that are multiplied in one go.
const BATCH: usize = 32;

/// Samples, one a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rows<'a> {
    /// Intensities times 255.
    U8(&'a [u8]),
    /// Intensities.
    F32(&'a [f32]),
}

/// One projection from the constant input.
#[derive(Debug)]
pub(crate) struct Constant {
    /// One entry per column: target, or channel of a convolution; padded to whole blocks.
    scale: Vec<f32>,
    /// `scale / 255`, for 8-bit intensities.
    scale_u8: Vec<f32>,
    bias: Vec<f32>,
    shape: Shape,
    /// Multiply-accumulates per sample.
    pub operations: u64,
}

#[derive(Debug)]
enum Shape {
    /// Samples by weights.
    Matrix(Matrix),
    /// Patches of a sample by kernels.
    Conv(Conv2d, Matrix),
    /// Compressed by target.
    Sparse { offsets: Vec<usize>, sources: Vec<u32>, weights: SparseWeights },
}

#[derive(Debug)]
enum SparseWeights {
    Int8(Vec<i8>),
    F32(Vec<f32>),
}

/// `[k, columns]`; what is summed over comes first.
#[derive(Debug)]
struct Matrix {
    k: usize,
    /// Whose sum the weights are; empty for plain weights.
    packed: Vec<Packed>,
    /// The weights as numbers, `[k, padded columns]`; for 8-bit weights made when first needed.
    floats: OnceLock<Vec<f32>>,
}

/// Buffers.
#[derive(Default, Debug)]
pub(crate) struct Work {
    image: Vec<u8>,
    image_f32: Vec<f32>,
    patches: Vec<u8>,
    patches_f32: Vec<f32>,
    positions: Vec<usize>,
    lit: Vec<u32>,
    sums: Vec<i32>,
    more_sums: Vec<i32>,
    currents: Vec<f32>,
    largest: Vec<f32>,
}

impl Constant {
    /// Lays the weights out.
    pub fn compile(net: &Network, projection: &Projection) -> Result<Self> {
        synapses::check(net, projection)?;
        let (mut scale, mut bias) = synapses::scale_and_bias(net, projection)?;
        let columns = scale.len();
        let padded = columns.next_multiple_of(BLOCK);
        scale.resize(padded, 0.0);
        bias.resize(padded, 0.0);
        let (shape, operations) = match &*projection.weights.without_pooling() {
            &Weights::Dense { sources, ref values, .. } => {
                (Shape::Matrix(Matrix::new(sources, columns, values)), values.len())
            }
            &Weights::Conv2d { geometry, ref values } => {
                let last = match values {
                    Values::Int8 { quanta, .. } => {
                        let quanta = synapses::channels_last(geometry, quanta);
                        Values::Int8 { quanta, scale: Vec::new() }
                    }
                    Values::F32(values) => Values::F32(synapses::channels_last(geometry, values)),
                };
                let k = geometry.input[0] * geometry.kernel * geometry.kernel;
                let [_, height, width] = geometry.before_max_pool().output;
                (Shape::Conv(geometry, Matrix::new(k, columns, &last)), values.len() * height * width)
            }
            Weights::Sparse { offsets, targets, values } => {
                (by_target(offsets, targets, values, columns), targets.len())
            }
        };
        let scale_u8 = scale.iter().map(|scale| scale / 255.0).collect();
        Ok(Self { scale, scale_u8, bias, shape, operations: operations as u64 })
    }

    /// Geometry of a convolution whose every position drives a target of its own.
    pub fn by_position(&self) -> Option<&Conv2d> {
        match &self.shape {
            Shape::Conv(geometry, _) if geometry.max_pool == 1 => Some(geometry),
            _ => None,
        }
    }

    /// Input currents in the order of the population: row `i` at `out[i * stride..]`, added to what is there.
    pub fn add_currents(
        &self,
        simd: Simd,
        samples: Rows,
        rows: usize,
        stride: usize,
        out: &mut [f32],
        work: &mut Work,
    ) {
        match &self.shape {
            Shape::Matrix(matrix) => {
                match samples {
                    Rows::U8(x) => {
                        let k = matrix.k.next_multiple_of(4);
                        let patches = &mut work.patches;
                        patches.clear();
                        for x in x.chunks_exact(matrix.k) {
                            patches.extend(x);
                            patches.resize(patches.len().next_multiple_of(k), 0);
                        }
                    }
                    Rows::F32(x) => {
                        work.patches_f32.clear();
                        work.patches_f32.extend(x);
                    }
                }
                self.multiply(simd, matrix, matches!(samples, Rows::U8(_)), rows, work);
                for (out, currents) in
                    out.chunks_mut(stride).zip(work.currents.chunks_exact(self.scale.len()))
                {
                    out.iter_mut().zip(currents).for_each(|(out, x)| *out += x);
                }
            }
            Shape::Conv(geometry, _) => {
                let ([channels, height, width], side) = (geometry.output, geometry.max_pool);
                let (targets, columns) = (height * width, self.scale.len());
                let mut largest = std::mem::take(&mut work.largest);
                for (row, out) in out.chunks_mut(stride).enumerate().take(rows) {
                    largest.clear();
                    largest.resize(channels * targets, f32::NEG_INFINITY);
                    let mut put = |position: usize, currents: &[f32]| {
                        let (y, x) = (position / (width * side), position % (width * side));
                        let target = y / side * width + x / side;
                        for (channel, &x) in currents.iter().enumerate().take(channels) {
                            let largest = &mut largest[channel * targets + target];
                            *largest = if side == 1 { x } else { largest.max(x) };
                        }
                    };
                    self.patches(simd, samples, row, work, |place, currents| match place {
                        Place::Blank(position) => put(position, &self.bias),
                        Place::At(list) => {
                            list.iter().zip(currents.chunks_exact(columns)).for_each(|(&p, x)| put(p, x));
                        }
                    });
                    out.iter_mut().zip(&largest).for_each(|(out, x)| *out += x);
                }
                work.largest = largest;
            }
            Shape::Sparse { offsets, sources, weights } => {
                let features = match samples {
                    Rows::U8(x) => x.len(),
                    Rows::F32(x) => x.len(),
                } / rows.max(1);
                for target in 0..offsets.len() - 1 {
                    let range = offsets[target]..offsets[target + 1];
                    let synapses = || sources[range.clone()].iter().map(|&source| source as usize);
                    for row in 0..rows {
                        let at = row * features;
                        let (sum, scale) = match (samples, weights) {
                            (Rows::U8(x), SparseWeights::Int8(w)) => {
                                let w = w[range.clone()].iter();
                                let sum = synapses()
                                    .zip(w)
                                    .map(|(s, &w)| i32::from(x[at + s]) * i32::from(w))
                                    .sum::<i32>();
                                (sum as f32, self.scale_u8[target])
                            }
                            (_, weights) => {
                                let x = |s: usize| match samples {
                                    Rows::U8(x) => f32::from(x[at + s]) / 255.0,
                                    Rows::F32(x) => x[at + s],
                                };
                                let w = |i: usize| match weights {
                                    SparseWeights::Int8(w) => f32::from(w[i]),
                                    SparseWeights::F32(w) => w[i],
                                };
                                let sum =
                                    synapses().zip(range.clone()).fold(0.0, |sum, (s, i)| sum + x(s) * w(i));
                                (sum, self.scale[target])
                            }
                        };
                        out[row * stride + target] += sum * scale + self.bias[target];
                    }
                }
            }
        }
    }

    /// The patches of sample `row` under a convolution. `visit` gets the currents `[patches, padded channels]` of a
    /// few positions, or one position that sees only zeros, where the current is the bias.
    pub fn patches(
        &self,
        simd: Simd,
        samples: Rows,
        row: usize,
        work: &mut Work,
        mut visit: impl FnMut(Place, &[f32]),
    ) {
        let Shape::Conv(g, matrix) = &self.shape else { return };
        let size = g.input.iter().product::<usize>();
        let bytes = match samples {
            Rows::U8(x) => {
                pad(g, &x[row * size..][..size], &mut work.image);
                work.image.resize(work.image.len() + 16, 0);
                !matrix.packed.is_empty()
            }
            Rows::F32(x) => {
                pad(g, &x[row * size..][..size], &mut work.image_f32);
                false
            }
        };
        if matches!(samples, Rows::U8(_)) && !bytes {
            work.image_f32 = work.image.iter().map(|&x| f32::from(x) / 255.0).collect();
        }
        if bytes {
            lit(g, &work.image, &mut work.lit);
        } else {
            lit(g, &work.image_f32, &mut work.lit);
        }
        let lit_width = g.input[2] + 2 * g.padding + 1;
        let k = matrix.k.next_multiple_of(4);
        work.patches.clear();
        work.patches.resize(BATCH * k + 16, 0);
        work.patches_f32.clear();
        work.positions.clear();
        let [_, height, width] = g.before_max_pool().output;
        for position in 0..height * width {
            let (y, x) = (position / width * g.stride, position % width * g.stride);
            let corner = |dy: usize, dx: usize| work.lit[(y + dy) * lit_width + x + dx];
            if corner(g.kernel, g.kernel) + corner(0, 0) == corner(0, g.kernel) + corner(g.kernel, 0) {
                visit(Place::Blank(position), &[]);
                continue;
            }
            if bytes {
                copy_bytes(g, &work.image, y, x, &mut work.patches[work.positions.len() * k..][..k + 16]);
            } else {
                copy_floats(g, &work.image_f32, y, x, &mut work.patches_f32);
            }
            work.positions.push(position);
            if work.positions.len() == BATCH {
                self.multiply(simd, matrix, bytes, BATCH, work);
                visit(Place::At(&work.positions), &work.currents);
                work.positions.clear();
                work.patches_f32.clear();
            }
        }
        if !work.positions.is_empty() {
            self.multiply(simd, matrix, bytes, work.positions.len(), work);
            visit(Place::At(&work.positions), &work.currents);
        }
    }

    /// `work.currents = patches · weights`, scale and bias applied.
    fn multiply(&self, simd: Simd, matrix: &Matrix, bytes: bool, rows: usize, work: &mut Work) {
        let columns = self.scale.len();
        work.currents.resize(rows * columns, 0.0);
        if let (true, [first, rest @ ..]) = (bytes, matrix.packed.as_slice()) {
            work.sums.resize(rows * columns, 0);
            simd.product_u8(&work.patches, first, rows, &mut work.sums);
            for packed in rest {
                work.more_sums.resize(rows * columns, 0);
                simd.product_u8(&work.patches, packed, rows, &mut work.more_sums);
                work.sums.iter_mut().zip(&work.more_sums).for_each(|(sum, more)| *sum += more);
            }
            simd.affine_i32(&work.sums, &self.scale_u8, &self.bias, &mut work.currents);
            return;
        }
        if bytes {
            work.patches_f32.clear();
            let k = matrix.k.next_multiple_of(4);
            let rows = work.patches.chunks_exact(k).take(rows);
            work.patches_f32.extend(rows.flat_map(|row| &row[..matrix.k]).map(|&x| f32::from(x) / 255.0));
        }
        simd.product_f32(&work.patches_f32, matrix.floats(columns), rows, matrix.k, &mut work.currents);
        for row in work.currents.chunks_exact_mut(columns) {
            for ((x, scale), bias) in row.iter_mut().zip(&self.scale).zip(&self.bias) {
                *x = *x * scale + bias;
            }
        }
    }

    /// Current of a column under a patch of zeros.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Bytes of the compiled table.
    pub fn bytes(&self) -> usize {
        let matrix = |m: &Matrix| {
            m.packed.iter().map(|p| p.bytes.len()).sum::<usize>() + m.floats.get().map_or(0, |f| 4 * f.len())
        };
        12 * self.scale.len()
            + match &self.shape {
                Shape::Matrix(m) | Shape::Conv(_, m) => matrix(m),
                Shape::Sparse { offsets, sources, weights } => {
                    let each = if matches!(weights, SparseWeights::Int8(_)) { 5 } else { 8 };
                    8 * offsets.len() + each * sources.len()
                }
            }
    }
}

/// Where some patches lie.
pub(crate) enum Place<'a> {
    /// A position that sees only zeros.
    Blank(usize),
    /// Positions, one per row of the currents.
    At(&'a [usize]),
}

impl Matrix {
    fn new(k: usize, columns: usize, values: &Values) -> Self {
        let padded = columns.next_multiple_of(BLOCK);
        match values {
            Values::Int8 { quanta, .. } => {
                Self { k, packed: pack(quanta, k, columns), floats: OnceLock::new() }
            }
            Values::F32(values) => {
                let mut floats = Vec::with_capacity(k * padded);
                for row in values.chunks_exact(columns.max(1)) {
                    floats.extend(row);
                    floats.resize(floats.len().next_multiple_of(padded), 0.0);
                }
                Self { k, packed: Vec::new(), floats: OnceLock::from(floats) }
            }
        }
    }

    fn floats(&self, padded: usize) -> &[f32] {
        self.floats.get_or_init(|| {
            let weight =
                |k: usize, column: usize| self.packed.iter().map(|p| f32::from(p.weight(k, column))).sum();
            (0..self.k)
                .flat_map(|k| (0..padded).map(move |column| (k, column)))
                .map(|(k, c)| weight(k, c))
                .collect()
        })
    }
}

impl Packed {
    fn at(&self, k: usize, column: usize) -> usize {
        let (block, half, lane) = (column / BLOCK, column / 8 % 2, column % 8);
        ((block * self.groups + k / 4) * 2 + half) * 32 + lane * 4 + k % 4
    }

    fn weight(&self, k: usize, column: usize) -> i8 {
        self.bytes[self.at(k, column)]
    }

    /// Whether `run` neighbouring groups can be added in 16 bits under intensities up to 255.
    fn allows(&self, run: usize) -> bool {
        let fits = |sum: i32| 255 * sum <= 32767;
        self.bytes.chunks(self.groups.max(1) * 64).all(|block| {
            block.chunks(64 * run).all(|groups| {
                (0..32).all(|pair| {
                    let weights = groups.chunks_exact(64).flat_map(|group| &group[2 * pair..2 * pair + 2]);
                    let (up, down) = weights.fold((0, 0), |(up, down), &w| {
                        (up + i32::from(w.max(0)), down - i32::from(w.min(0)))
                    });
                    fits(up) && fits(down)
                })
            })
        })
    }
}

/// Packs `[k, columns]`; where two products could overflow 16 bits, the weights are halved into two tables.
fn pack(quanta: &[i8], k: usize, columns: usize) -> Vec<Packed> {
    let table = |value: &dyn Fn(i8) -> i8| {
        let (groups, blocks) = (k.div_ceil(4), columns.div_ceil(BLOCK));
        let mut packed = Packed { groups, blocks, run: 1, bytes: vec![0; groups * blocks * 4 * BLOCK] };
        for (i, &quantum) in quanta.iter().enumerate() {
            let at = packed.at(i / columns, i % columns);
            packed.bytes[at] = value(quantum);
        }
        packed.run = [4, 2].into_iter().find(|&run| packed.allows(run)).unwrap_or(1);
        packed
    };
    let whole = table(&|quantum| quantum);
    if whole.allows(1) { vec![whole] } else { vec![table(&|q| q / 2), table(&|q| q - q / 2)] }
}

fn by_target(offsets: &[usize], targets: &[u32], values: &Values, columns: usize) -> Shape {
    let mut starts = vec![0usize; columns + 1];
    targets.iter().for_each(|&target| starts[target as usize + 1] += 1);
    for i in 0..columns {
        starts[i + 1] += starts[i];
    }
    let (mut next, mut order, mut sources) = (starts.clone(), vec![0; targets.len()], vec![0; targets.len()]);
    for (source, row) in offsets.windows(2).enumerate() {
        for synapse in row[0]..row[1] {
            let place = &mut next[targets[synapse] as usize];
            (order[*place], sources[*place]) = (synapse, source as u32);
            *place += 1;
        }
    }
    let weights = match values {
        Values::Int8 { quanta, .. } => SparseWeights::Int8(order.iter().map(|&i| quanta[i]).collect()),
        Values::F32(values) => SparseWeights::F32(order.iter().map(|&i| values[i]).collect()),
    };
    Shape::Sparse { offsets: starts, sources, weights }
}

/// The image with its zeros around.
fn pad<T: Copy + Default>(g: &Conv2d, image: &[T], out: &mut Vec<T>) {
    let ([channels, height, width], p) = (g.input, g.padding);
    out.clear();
    out.resize(channels * (height + 2 * p) * (width + 2 * p), T::default());
    for (i, row) in image.chunks_exact(width.max(1)).enumerate() {
        let at = (i / height * (height + 2 * p) + i % height + p) * (width + 2 * p) + p;
        out[at..at + width].copy_from_slice(row);
    }
}

/// Calls `row(i, start)` for each row of a patch: its number, and where it starts in the padded image.
fn patch_rows(g: &Conv2d, y: usize, x: usize, mut row: impl FnMut(usize, usize)) {
    let (height, width) = (g.input[1] + 2 * g.padding, g.input[2] + 2 * g.padding);
    for channel in 0..g.input[0] {
        for ky in 0..g.kernel {
            row(channel * g.kernel + ky, (channel * height + y + ky) * width + x);
        }
    }
}

/// Copies a patch. `image` and `patch` have 16 bytes to spare.
fn copy_bytes(g: &Conv2d, image: &[u8], y: usize, x: usize, patch: &mut [u8]) {
    if g.kernel > 16 {
        return patch_rows(g, y, x, |i, at| {
            patch[i * g.kernel..][..g.kernel].copy_from_slice(&image[at..at + g.kernel]);
        });
    }
    // Sixteen bytes at once: the next row overwrites what is too much, and behind the last one all weights are zero.
    patch_rows(g, y, x, |i, at| patch[i * g.kernel..][..16].copy_from_slice(&image[at..at + 16]));
}

fn copy_floats(g: &Conv2d, image: &[f32], y: usize, x: usize, patches: &mut Vec<f32>) {
    patch_rows(g, y, x, |_, at| patches.extend_from_slice(&image[at..at + g.kernel]));
}

/// Summed-area table of the pixels that are not zero, over all channels: `[height + 1, width + 1]`.
fn lit<T: Copy + Default + PartialEq>(g: &Conv2d, image: &[T], table: &mut Vec<u32>) {
    let (height, width) = (g.input[1] + 2 * g.padding, g.input[2] + 2 * g.padding);
    table.clear();
    table.resize((height + 1) * (width + 1), 0);
    for y in 0..height {
        let mut row = 0;
        for x in 0..width {
            let at = y * width + x;
            row += (0..g.input[0]).filter(|c| image[c * height * width + at] != T::default()).count() as u32;
            table[(y + 1) * (width + 1) + x + 1] = table[y * (width + 1) + x + 1] + row;
        }
    }
}
