//! Two-dimensional convolutions without copying patches together.
//!
//! A sample is copied once, with its padding, into planes: one per channel and, with a stride s, per remainder of row and
//! column modulo s. There, what a tap of the kernel sees at neighbouring outputs are neighbouring numbers. The three
//! passes are then sums over taps, outputs or positions of products of whole groups of positions:
//!
//! - forward: `y[o, p] = Σₖ w[o, k] x[k + p]`
//! - by the input: `dx[k + p] += Σₒ w[o, k] g[o, p]`
//! - by the weight: `dw[o, k] = Σₚ g[o, p] x[k + p]`

mod kernel;

use crate::parallel;
use crate::tensor::dtype::Float;
use kernel::{LANES, Rows, dots, tile};

/// Samples that one task works on.
const TASK: usize = 8;
/// Pieces of a batch whose gradients by the weight are summed apart, so that the sum does not depend on threads.
const PIECES: usize = 16;

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// `[channels, height, width]` of the input.
    pub input: [usize; 3],
    /// `[channels, height, width]` of the output.
    pub output: [usize; 3],
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    pub stride: usize,
    pub padding: usize,
}

impl Sizes {
    fn input_len(&self) -> usize {
        self.input.iter().product()
    }

    fn output_len(&self) -> usize {
        self.output.iter().product()
    }

    fn taps(&self) -> usize {
        self.input[0] * self.kernel[0] * self.kernel[1]
    }
}

/// Where everything lies.
struct Layout {
    sizes: Sizes,
    /// Height and width of a plane.
    plane: [usize; 2],
    /// Length of a packed sample, with room for the last group of positions.
    packed: usize,
    /// Where each tap of the kernel begins in a packed sample.
    taps: Vec<usize>,
    /// Where each group of positions begins in a plane.
    bases: Vec<usize>,
    /// Where it begins in a row of outputs: multiples of [`LANES`].
    groups: Vec<usize>,
    /// Distance between rows of outputs, so that a row begins where its first group does.
    pitch: usize,
}

impl Layout {
    fn new(sizes: Sizes) -> Self {
        let Sizes { input: [channels, h, w], output: [_, rows, columns], kernel, stride: s, padding } = sizes;
        let plane = [(h + 2 * padding).div_ceil(s), (w + 2 * padding).div_ceil(s)];
        let area = plane[0] * plane[1];
        let tap = |(c, ky, kx): (usize, usize, usize)| {
            ((c * s + ky % s) * s + kx % s) * area + ky / s * plane[1] + kx / s
        };
        let each = (0..channels)
            .flat_map(|c| (0..kernel[0]).flat_map(move |ky| (0..kernel[1]).map(move |kx| (c, ky, kx))));
        let taps: Vec<usize> = each.map(tap).collect();
        // Either every row of outputs begins a group, or groups run through rows and the gaps between them: whichever
        // needs fewer.
        let whole = columns.div_ceil(LANES);
        let (by_row, through) = (rows * whole, ((rows - 1) * plane[1] + columns).div_ceil(LANES));
        let (bases, pitch): (Vec<usize>, usize) = match by_row <= through {
            true => {
                let base = |v: usize| v / whole * plane[1] + v % whole * LANES;
                ((0..by_row).map(base).collect(), whole * LANES)
            }
            false => ((0..through).map(|v| v * LANES).collect(), plane[1]),
        };
        let last = bases.last().copied().unwrap_or(0) + LANES;
        let packed = taps.iter().max().copied().unwrap_or(0) + last;
        let packed = packed.max(channels * s * s * area);
        let groups = (0..bases.len()).map(|v| v * LANES).collect();
        Self { sizes, plane, packed, taps, bases, groups, pitch }
    }

    /// Length of the outputs of one channel, gaps included.
    fn row(&self) -> usize {
        self.bases.len() * LANES
    }

    /// Whether outputs have no gaps.
    fn is_compact(&self) -> bool {
        let [_, rows, columns] = self.sizes.output;
        self.row() == rows * columns && self.pitch == columns
    }

    /// Calls `copy(place in the sample, place in the packed sample, length)` for runs with a distance of `stride` in the
    /// sample.
    fn runs(&self, mut copy: impl FnMut(usize, usize, usize)) {
        let Sizes { input: [channels, h, w], stride: s, padding: p, .. } = self.sizes;
        let [rows, columns] = self.plane;
        for c in 0..channels {
            for y in 0..h {
                let (py, sy) = ((y + p) / s, (y + p) % s);
                for sx in 0..s {
                    // The first column x ≥ 0 with (x + p) % s = sx.
                    let x = (sx + s - p % s) % s;
                    if x < w {
                        let at = (((c * s + sy) * s + sx) * rows + py) * columns + (x + p) / s;
                        copy((c * h + y) * w + x, at, (w - x).div_ceil(s));
                    }
                }
            }
        }
    }

    /// `packed` must be zero where the padding is; it stays so.
    fn pack<T: Float>(&self, sample: &[T], packed: &mut [T]) {
        let stride = self.sizes.stride;
        self.runs(|from, to, n| match stride {
            1 => packed[to..to + n].copy_from_slice(&sample[from..from + n]),
            _ => packed[to..to + n]
                .iter_mut()
                .zip(sample[from..].iter().step_by(stride))
                .for_each(|(to, &x)| *to = x),
        });
    }

    fn unpack<T: Float>(&self, packed: &[T], sample: &mut [T]) {
        let stride = self.sizes.stride;
        self.runs(|to, from, n| match stride {
            1 => sample[to..to + n].copy_from_slice(&packed[from..from + n]),
            _ => sample[to..]
                .iter_mut()
                .step_by(stride)
                .zip(&packed[from..from + n])
                .for_each(|(to, &x)| *to = x),
        });
    }

    /// Outputs of one sample with the gaps of [`row`](Self::row), which must be zero and stay so.
    fn spread<T: Float>(&self, outputs: &[T], spread: &mut [T]) {
        let [channels, rows, columns] = self.sizes.output;
        for (i, row) in outputs.chunks_exact(columns).enumerate().take(channels * rows) {
            let at = i / rows * self.row() + i % rows * self.pitch;
            spread[at..at + columns].copy_from_slice(row);
        }
    }

    fn close<T: Float>(&self, spread: &[T], outputs: &mut [T]) {
        let [_, rows, columns] = self.sizes.output;
        for (i, row) in outputs.chunks_exact_mut(columns).enumerate() {
            let at = i / rows * self.row() + i % rows * self.pitch;
            row.copy_from_slice(&spread[at..at + columns]);
        }
    }

    /// Whether tiles of 6 × 2 waste less than tiles of 4 × 3 for `rows` weights an output.
    fn is_narrow(&self, rows: usize) -> bool {
        let groups = self.bases.len();
        let cost = |c: usize, v: usize| rows.next_multiple_of(c) * groups.next_multiple_of(v);
        cost(6, 2) <= cost(4, 3)
    }
}

/// `[rows, k]` in blocks of C rows: `[blocks, k, C]`, the last one filled up with zeros.
fn panels<T: Float>(rows: usize, k: usize, block: usize, at: impl Fn(usize, usize) -> T) -> Vec<T> {
    let mut panels = vec![T::ZERO; rows.next_multiple_of(block) * k];
    for row in 0..rows {
        for i in 0..k {
            panels[(row / block * k + i) * block + row % block] = at(row, i);
        }
    }
    panels
}

/// `y = w ∗ x + b` for a batch: `x` is `[samples, channels, height, width]`, `w` `[outputs, channels, ky, kx]`.
pub(crate) fn forward<T: Float>(sizes: Sizes, x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T]) {
    let layout = Layout::new(sizes);
    match layout.is_narrow(sizes.output[0]) {
        true => forward_in::<T, 6, 2>(&layout, x, w, bias, y),
        false => forward_in::<T, 4, 3>(&layout, x, w, bias, y),
    }
}

fn forward_in<T: Float, const C: usize, const V: usize>(
    layout: &Layout,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    y: &mut [T],
) {
    let (sizes, k) = (layout.sizes, layout.taps.len());
    let (from, to, outputs) = (sizes.input_len(), sizes.output_len(), sizes.output[0]);
    let panels = panels(outputs, k, C, |o, tap| w[o * k + tap]);
    parallel::chunks_mut(y, to * TASK, |task, y| {
        let mut packed = vec![T::ZERO; layout.packed];
        let mut spread = vec![T::ZERO; if layout.is_compact() { 0 } else { outputs * layout.row() }];
        for (i, y) in y.chunks_exact_mut(to).enumerate() {
            layout.pack(&x[(task * TASK + i) * from..][..from], &mut packed);
            let out = if layout.is_compact() { &mut *y } else { &mut spread[..] };
            for (block, panel) in panels.chunks_exact(k * C).enumerate() {
                let channels = block * C..outputs.min((block + 1) * C);
                for (group, bases) in groups_of::<V>(&layout.bases) {
                    let sums = tile::<T, C, V>(panel, &layout.taps, &packed, &bases);
                    for (o, sums) in channels.clone().zip(sums) {
                        let level = bias.map_or(T::ZERO, |bias| bias[o]);
                        for (v, lanes) in sums.iter().enumerate().take(layout.bases.len() - group) {
                            let at = o * layout.row() + (group + v) * LANES;
                            out[at..at + LANES].iter_mut().zip(lanes).for_each(|(y, &sum)| *y = sum + level);
                        }
                    }
                }
            }
            if !layout.is_compact() {
                layout.close(&spread, y);
            }
        }
    });
}

/// Groups of V, and the number of the first: the last group repeats its first entry where there are not enough.
fn groups_of<const V: usize>(bases: &[usize]) -> impl Iterator<Item = (usize, [usize; V])> {
    bases
        .chunks(V)
        .enumerate()
        .map(|(i, some)| (i * V, std::array::from_fn(|v| some.get(v).or(some.first()).copied().unwrap_or(0))))
}

/// `dx` of a batch from the gradient `g` of its outputs.
pub(crate) fn by_input<T: Float>(sizes: Sizes, g: &[T], w: &[T], dx: &mut [T]) {
    let layout = Layout::new(sizes);
    match layout.is_narrow(sizes.taps()) {
        true => by_input_in::<T, 6, 2>(&layout, g, w, dx),
        false => by_input_in::<T, 4, 3>(&layout, g, w, dx),
    }
}

fn by_input_in<T: Float, const C: usize, const V: usize>(layout: &Layout, g: &[T], w: &[T], dx: &mut [T]) {
    let (sizes, k) = (layout.sizes, layout.taps.len());
    let (from, to, outputs) = (sizes.output_len(), sizes.input_len(), sizes.output[0]);
    let panels = panels(k, outputs, C, |tap, o| w[o * k + tap]);
    let rows: Vec<usize> = (0..outputs).map(|o| o * layout.row()).collect();
    parallel::chunks_mut(dx, to * TASK, |task, dx| {
        let mut packed = vec![T::ZERO; layout.packed];
        let mut spread = vec![T::ZERO; if layout.is_compact() { 0 } else { outputs * layout.row() }];
        for (i, dx) in dx.chunks_exact_mut(to).enumerate() {
            let g = &g[(task * TASK + i) * from..][..from];
            if !layout.is_compact() {
                layout.spread(g, &mut spread);
            }
            let g = if layout.is_compact() { g } else { &spread };
            packed.fill(T::ZERO);
            for (taps, panel) in layout.taps.chunks(C).zip(panels.chunks_exact(outputs * C)) {
                for (group, starts) in groups_of::<V>(&layout.groups) {
                    let sums = tile::<T, C, V>(panel, &rows, g, &starts);
                    for (&tap, sums) in taps.iter().zip(&sums) {
                        for (&base, lanes) in layout.bases[group..].iter().zip(sums) {
                            let to = &mut packed[tap + base..][..LANES];
                            to.iter_mut().zip(lanes).for_each(|(to, &sum)| *to += sum);
                        }
                    }
                }
            }
            layout.unpack(&packed, dx);
        }
    });
}

/// `dw` of a batch, `[outputs, channels, ky, kx]`.
pub(crate) fn by_weight<T: Float>(sizes: Sizes, x: &[T], g: &[T], dw: &mut [T]) {
    /// Outputs and taps that are summed together.
    const O: usize = 4;
    const K: usize = 3;
    let layout = Layout::new(sizes);
    let (from, to, k) = (sizes.input_len(), sizes.output_len(), layout.taps.len());
    let (outputs, samples) = (sizes.output[0], x.len() / sizes.input_len().max(1));
    // Rows that are asked for beyond the last one repeat the first of their block.
    let filled = |some: &[usize], i: usize| some.get(i).or(some.first()).copied().unwrap_or(0);
    let size = samples.div_ceil(PIECES).max(1);
    let partial = parallel::map(samples.div_ceil(size), |piece| {
        let mut dw = vec![T::ZERO; outputs * k];
        let (row, wide) = (layout.row(), outputs * layout.row());
        let mut packed = vec![T::ZERO; TASK * layout.packed];
        let mut spread = vec![T::ZERO; TASK * wide];
        let range = piece * size..samples.min((piece + 1) * size);
        for start in range.clone().step_by(TASK) {
            let n = TASK.min(range.end - start);
            for i in 0..n {
                layout.pack(
                    &x[(start + i) * from..][..from],
                    &mut packed[i * layout.packed..][..layout.packed],
                );
                layout.spread(&g[(start + i) * to..][..to], &mut spread[i * wide..][..wide]);
            }
            for first in (0..outputs).step_by(O) {
                let rows: Vec<usize> = (first..outputs.min(first + O)).map(|o| o * row).collect();
                let starts = std::array::from_fn(|i| filled(&rows, i));
                let a = Rows { data: &spread, stride: wide, starts, bases: &layout.groups };
                for (block, taps) in layout.taps.chunks(K).enumerate() {
                    let starts = std::array::from_fn(|i| filled(taps, i));
                    let b = Rows { data: &packed, stride: layout.packed, starts, bases: &layout.bases };
                    let sums = dots::<T, O, K>(n, a, b);
                    for (i, sums) in sums.iter().enumerate().take(rows.len()) {
                        let at = (first + i) * k + block * K;
                        dw[at..at + taps.len()].iter_mut().zip(sums).for_each(|(dw, &sum)| *dw += sum);
                    }
                }
            }
        }
        dw
    });
    dw.fill(T::ZERO);
    partial.iter().for_each(|part| dw.iter_mut().zip(part).for_each(|(dw, &part)| *dw += part));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: usize) -> Vec<f64> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 1013) as f64 / 506.5 - 1.0).collect()
    }

    /// The definition: `add(output, input, weight)` for every product, by place.
    fn products(s: Sizes, samples: usize, mut add: impl FnMut(usize, usize, usize)) {
        let [o_n, rows, columns] = s.output;
        let [c_n, h, w] = s.input;
        for n in 0..samples {
            for (o, c) in (0..o_n).flat_map(|o| (0..c_n).map(move |c| (o, c))) {
                for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                    for (ky, kx) in (0..s.kernel[0]).flat_map(|ky| (0..s.kernel[1]).map(move |kx| (ky, kx))) {
                        let (iy, ix) = (y * s.stride + ky, x * s.stride + kx);
                        let inside =
                            iy >= s.padding && ix >= s.padding && iy - s.padding < h && ix - s.padding < w;
                        if inside {
                            let input = ((n * c_n + c) * h + iy - s.padding) * w + ix - s.padding;
                            let output = ((n * o_n + o) * rows + y) * columns + x;
                            add(output, input, ((o * c_n + c) * s.kernel[0] + ky) * s.kernel[1] + kx);
                        }
                    }
                }
            }
        }
    }

    fn sizes(input: [usize; 3], outputs: usize, kernel: [usize; 2], stride: usize, padding: usize) -> Sizes {
        let side = |i: usize| (input[i] + 2 * padding - kernel[i - 1]) / stride + 1;
        Sizes { input, output: [outputs, side(1), side(2)], kernel, stride, padding }
    }

    #[test]
    fn all_passes_equal_the_definition() {
        let cases = [
            (sizes([1, 1, 1], 1, [1, 1], 1, 0), 1),
            (sizes([1, 28, 28], 12, [5, 5], 1, 0), 3),
            (sizes([12, 12, 12], 64, [5, 5], 1, 0), 9),
            (sizes([3, 9, 17], 5, [3, 2], 1, 1), 2),
            (sizes([2, 11, 10], 7, [3, 3], 2, 1), 33),
            (sizes([2, 13, 7], 4, [4, 4], 3, 2), 2),
            (sizes([1, 5, 9], 6, [5, 3], 1, 2), 17),
        ];
        for (s, n) in cases {
            let (x, w) = (numbers(n * s.input_len(), 1), numbers(s.output[0] * s.taps(), 2));
            let (bias, g) = (numbers(s.output[0], 3), numbers(n * s.output_len(), 4));
            let area = s.output[1] * s.output[2];
            let mut want_y: Vec<f64> = (0..g.len()).map(|i| bias[i / area % s.output[0]]).collect();
            let (mut want_dx, mut want_dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
            products(s, n, |o, i, k| {
                want_y[o] += w[k] * x[i];
                want_dx[i] += w[k] * g[o];
                want_dw[k] += x[i] * g[o];
            });
            let (mut y, mut dx, mut dw) = (vec![9.0; g.len()], vec![9.0; x.len()], vec![9.0; w.len()]);
            forward(s, &x, &w, Some(&bias), &mut y);
            by_input(s, &g, &w, &mut dx);
            by_weight(s, &x, &g, &mut dw);
            let near = |got: &[f64], want: &[f64], allowed: f64| {
                got.iter().zip(want).all(|(a, b)| (a - b).abs() <= allowed * (1.0 + b.abs()))
            };
            assert!(
                near(&y, &want_y, 1e-12) && near(&dx, &want_dx, 1e-12) && near(&dw, &want_dw, 1e-12),
                "{s:?}"
            );
            // The fast loops are those of f32: hundreds of products, each off by at most 6e-8 of terms near 1.
            let single = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<f32>>();
            let double = |x: Vec<f32>| x.into_iter().map(f64::from).collect::<Vec<f64>>();
            let (x, w, bias, g) = (single(&x), single(&w), single(&bias), single(&g));
            let (mut y, mut dx, mut dw) = (single(&y), single(&dx), single(&dw));
            forward(s, &x, &w, Some(&bias), &mut y);
            by_input(s, &g, &w, &mut dx);
            by_weight(s, &x, &g, &mut dw);
            assert!(near(&double(y), &want_y, 3e-5) && near(&double(dx), &want_dx, 3e-5), "{s:?}");
            assert!(near(&double(dw), &want_dw, 1e-4), "{s:?}");
        }
    }

    #[test]
    fn every_thread_count_gives_the_same_bits() {
        let s = sizes([2, 9, 9], 5, [3, 3], 1, 1);
        let n = 50;
        let single = |n: usize, seed| numbers(n, seed).iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let (x, g) = (single(n * s.input_len(), 1), single(n * s.output_len(), 2));
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            let mut dw = vec![0f32; s.output[0] * s.taps()];
            pool.install(|| by_weight(s, &x, &g, &mut dw));
            dw
        };
        assert!(with(1).iter().any(|x| x.abs() > 0.1), "it is not trivial");
        assert!(with(1) == with(2) && with(1) == with(3));
    }
}
