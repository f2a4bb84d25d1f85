//! The loops of a convolution of spikes, one sample and step at a time.
//!
//! Images have their channels last, padded to whole groups of [`LANES`]: what a row of a kernel does is then one run of
//! vectors. A spike adds the kernel around it to the currents; backwards, the gradient around it is added to that of the
//! kernel. By the spikes, each current that has a gradient adds its kernel times that: with max pooling those are the
//! largest of the windows alone.

use super::simd;
use crate::lines::Lines;
use crate::snn::Conv2d;
use crate::tensor::cpu::wide::{Width, Work};
use crate::tensor::dtype::Float;

/// Numbers in a group of channels.
pub(super) const LANES: usize = 16;

/// Where everything lies.
#[derive(Debug)]
pub(super) struct Patches {
    /// Of the currents of which the largest are taken.
    inner: Conv2d,
    /// Side of those windows.
    side: usize,
    /// Channels of the target, and numbers in a row of a kernel over all channels of the source: in whole groups.
    channels: usize,
    row: usize,
    /// Where each tap of a row of the kernel stands: those that meet neighbouring targets, from the last one down.
    order: Vec<usize>,
    /// `[sources]`
    reach: Vec<Reach>,
}

/// What a source reaches: in each row of targets one run.
#[derive(Clone, Copy, Debug)]
struct Reach {
    /// Where the first run begins, in the kernels and in the currents.
    kernel: u32,
    current: u32,
    rows: u32,
    /// Numbers in a run.
    len: u32,
}

impl Patches {
    /// Of a convolution that does not average first.
    pub fn new(geometry: &Conv2d) -> Self {
        let inner = geometry.before_max_pool();
        let Conv2d { input: [inputs, height, width], output, kernel: k, stride, padding, .. } = inner;
        let channels = output[0].next_multiple_of(LANES);
        let mut taps: Vec<usize> = (0..k).collect();
        taps.sort_by_key(|&tap| (tap % stride, k - tap));
        let mut order = vec![0; k];
        taps.iter().enumerate().for_each(|(place, &tap)| order[tap] = place);
        let one = |source: usize| {
            let (input, y, x) = (source / (height * width), source / width % height, source % width);
            let (rows, columns) = (inner.reached(y, output[1]), inner.reached(x, output[2]));
            if rows.is_empty() || columns.is_empty() {
                return Reach { kernel: 0, current: 0, rows: 0, len: 0 };
            }
            let (ky, kx) = (y + padding - rows.start * stride, x + padding - columns.start * stride);
            Reach {
                kernel: (((input * k + ky) * k + order[kx]) * channels) as u32,
                current: ((rows.start * output[2] + columns.start) * channels) as u32,
                rows: rows.len() as u32,
                len: (columns.len() * channels) as u32,
            }
        };
        let reach = (0..inputs * height * width).map(one).collect();
        let row = (k * inputs).next_multiple_of(LANES);
        Self { inner, side: geometry.max_pool, channels, row, order, reach }
    }

    fn targets(&self) -> usize {
        self.inner.output[0]
    }

    /// Windows of a channel.
    fn windows(&self) -> usize {
        self.inner.output[1] / self.side * (self.inner.output[2] / self.side)
    }

    /// Positions of a window: that of its first, and how far each is from it.
    fn corner(&self, window: usize) -> usize {
        let columns = self.inner.output[2];
        let across = columns / self.side;
        (window / across * columns + window % across) * self.side
    }

    fn offset(&self, place: usize) -> usize {
        place / self.side * self.inner.output[2] + place % self.side
    }

    /// Numbers of the currents of a sample and step.
    pub fn currents(&self) -> usize {
        self.inner.output[1] * self.inner.output[2] * self.channels
    }

    /// Numbers that say which of each window was the largest: none where all go on.
    pub fn places(&self) -> usize {
        if self.side == 1 { 0 } else { self.windows() * self.channels }
    }

    /// Numbers of [`by_tap`](Self::by_tap).
    pub fn kernels(&self) -> usize {
        self.inner.input[0] * self.inner.kernel * self.inner.kernel * self.channels
    }

    /// Kernels `[outputs, inputs, k, k]` as what spikes add: `[inputs, k, k, outputs]`, taps in their order.
    pub fn by_tap<F: Float>(&self, weights: &[F]) -> Lines<F> {
        let mut kernels = Lines::zeros(self.kernels());
        self.each_tap(|weight, place| kernels[place] = weights[weight]);
        kernels
    }

    /// The other way round, added to `weights`.
    pub fn add_taps<F: Float>(&self, kernels: &[F], weights: &mut [F]) {
        self.each_tap(|weight, place| weights[weight] += kernels[place]);
    }

    fn each_tap(&self, mut visit: impl FnMut(usize, usize)) {
        let Conv2d { input: [inputs, ..], kernel: k, .. } = self.inner;
        for output in 0..self.targets() {
            for row in 0..inputs * k {
                for (kx, place) in self.order.iter().enumerate() {
                    visit((output * inputs * k + row) * k + kx, (row * k + place) * self.channels + output);
                }
            }
        }
    }

    /// Kernels `[outputs, inputs, k, k]` as what gradients add: `[k, outputs, k, inputs]`.
    pub fn by_row<F: Float>(&self, weights: &[F]) -> Lines<F> {
        let (k, inputs, outputs) = (self.inner.kernel, self.inner.input[0], self.targets());
        let mut rows = Lines::zeros(k * outputs * self.row);
        for (i, &w) in weights.iter().enumerate() {
            let (output, input, ky, kx) = (i / (inputs * k * k), i / (k * k) % inputs, i / k % k, i % k);
            rows[(ky * outputs + output) * self.row + kx * inputs + input] = w;
        }
        rows
    }

    /// Numbers of the gradient by a sample and step of the source, its padding included.
    fn image(&self) -> usize {
        let Conv2d { input: [inputs, height, width], padding, .. } = self.inner;
        (height + 2 * padding) * (width + 2 * padding) * inputs + LANES
    }

    /// Calls `run(first in the kernels, first in the currents, numbers, value)` for each run that some spikes reach.
    #[inline(always)]
    fn each_run<F: Float>(
        &self,
        (indices, values): (&[u32], &[f64]),
        mut run: impl FnMut(usize, usize, usize, Option<F>),
    ) {
        let kernel_step = self.inner.stride * self.inner.kernel * self.channels;
        let current_step = self.inner.output[2] * self.channels;
        for (i, &source) in indices.iter().enumerate() {
            let Reach { kernel, current, rows, len } = self.reach[source as usize];
            let value = if values.is_empty() { None } else { Some(F::of_f64(values[i])) };
            for row in 0..rows as usize {
                run(
                    kernel as usize - row * kernel_step,
                    current as usize + row * current_step,
                    len as usize,
                    value,
                );
            }
        }
    }
}

/// Adds `from`, times `value` if there is one.
#[inline(always)]
fn add<F: Float>(to: &mut [F], from: &[F], value: Option<F>) {
    let groups = to.as_chunks_mut::<LANES>().0.iter_mut().zip(from.as_chunks::<LANES>().0);
    match value {
        None => groups.for_each(|(to, from)| (0..LANES).for_each(|i| to[i] += from[i])),
        Some(value) => groups.for_each(|(to, from)| (0..LANES).for_each(|i| to[i] += value * from[i])),
    }
}

/// The currents of a sample and step.
pub(super) struct Forward<'a, F> {
    pub patches: &'a Patches,
    /// [`Patches::by_tap`], and a bias for each padded channel.
    pub kernels: &'a [F],
    pub bias: &'a [F],
    /// Sources that fired, and what they count, if that is not 1.
    pub spikes: (&'a [u32], &'a [f64]),
    /// [`Patches::currents`] to work in.
    pub sums: &'a mut [F],
    /// `[channels, windows]`
    pub out: &'a mut [F],
    /// [`Patches::places`]
    pub places: &'a mut [u8],
}

impl<F: Float> Work for Forward<'_, F> {
    type Out = ();
    const WIDEST: Width = Width::of::<F>();

    #[inline(always)]
    fn run(self) {
        let Self { patches, kernels, bias, spikes, sums, out, places } = self;
        sums.fill(F::ZERO);
        patches.each_run(spikes, |kernel, current, len, value| {
            add(&mut sums[current..current + len], &kernels[kernel..kernel + len], value);
        });
        let (windows, channels) = (patches.windows(), patches.channels);
        for window in 0..windows {
            let corner = patches.corner(window);
            for (group, bias) in bias.as_chunks::<LANES>().0.iter().enumerate() {
                let current = |place: usize| -> [F; LANES] {
                    let at = (corner + patches.offset(place)) * channels + group * LANES;
                    let sums = &sums[at..at + LANES];
                    std::array::from_fn(|i| sums[i] + bias[i])
                };
                let (mut best, mut at) = (current(0), [0u32; LANES]);
                for place in 1..patches.side * patches.side {
                    let x = current(place);
                    for i in 0..LANES {
                        // As PyTorch: the first of the largest, and a NaN wins.
                        #[allow(clippy::eq_op)]
                        let wins = x[i] > best[i] || x[i] != x[i];
                        best[i] = if wins { x[i] } else { best[i] };
                        at[i] = if wins { place as u32 } else { at[i] };
                    }
                }
                if patches.side > 1 {
                    let places = &mut places[window * channels + group * LANES..][..LANES];
                    places.iter_mut().zip(at).for_each(|(place, at)| *place = at as u8);
                }
                let targets = out.chunks_exact_mut(windows).skip(group * LANES);
                targets.zip(best).for_each(|(out, best)| out[window] = best);
            }
        }
    }
}

/// Working memory of the way back.
#[derive(Debug)]
pub(super) struct Scratch<F> {
    /// Gradient by the currents, `[positions, channels]`.
    dense: Lines<F>,
    /// For each position the channels that have one, and how many.
    from: Vec<u32>,
    count: Vec<usize>,
    /// Gradient of a window by channel, and by the source.
    window: Lines<F>,
    image: Lines<F>,
}

/// The gradients of a sample and step.
pub(super) struct Backward<'a, F> {
    pub patches: &'a Patches,
    pub spikes: (&'a [u32], &'a [f64]),
    /// By the outputs, `[channels, windows]`.
    pub grad: &'a [F],
    pub places: &'a [u8],
    /// [`Patches::by_row`]; empty where the spikes need no gradient.
    pub rows: &'a [F],
    /// By the source.
    pub source: &'a mut [F],
    /// By the kernels, in the order of [`Patches::by_tap`]; empty where they need none.
    pub kernels: &'a mut [F],
    pub scratch: &'a mut Scratch<F>,
}

impl<F: Float> Work for Backward<'_, F> {
    type Out = ();
    const WIDEST: Width = Width::of::<F>();

    #[inline(always)]
    fn run(self) {
        let Self { patches, spikes, grad, places, rows, source, kernels, scratch } = self;
        scratch.gather(patches, grad, places);
        if !kernels.is_empty() {
            let dense: &[F] = &scratch.dense;
            patches.each_run(spikes, |kernel, current, len, value| {
                add(&mut kernels[kernel..kernel + len], &dense[current..current + len], value);
            });
        }
        if !rows.is_empty() {
            scratch.by_source(patches, rows, source);
        }
    }
}

impl<F: Float> Scratch<F> {
    pub fn new(patches: &Patches) -> Self {
        Self {
            dense: Lines::zeros(patches.currents()),
            from: vec![0; patches.currents()],
            count: vec![0; patches.currents() / patches.channels],
            window: Lines::zeros(patches.channels),
            image: Lines::zeros(patches.image()),
        }
    }

    /// Puts each gradient where its current was.
    #[inline(always)]
    fn gather(&mut self, patches: &Patches, grad: &[F], places: &[u8]) {
        let (windows, channels, targets) = (patches.windows(), patches.channels, patches.targets());
        for window in 0..windows {
            let each = grad.iter().skip(window).step_by(windows);
            self.window.iter_mut().zip(each).for_each(|(to, &g)| *to = g);
            let places = if patches.side == 1 { &[] } else { &places[window * channels..][..channels] };
            for place in 0..patches.side * patches.side {
                let position = patches.corner(window) + patches.offset(place);
                let range = position * channels..(position + 1) * channels;
                let (dense, from) = (&mut self.dense[range.clone()], &mut self.from[range]);
                if places.is_empty() {
                    dense.copy_from_slice(&self.window);
                    (0..).zip(from).for_each(|(i, from)| *from = i);
                    self.count[position] = targets;
                    continue;
                }
                for ((to, &g), &at) in dense.iter_mut().zip(self.window.iter()).zip(places) {
                    *to = if at == place as u8 { g } else { F::ZERO };
                }
                let mut used = 0;
                // Without a branch: always written, kept where the next one follows.
                for (i, &at) in (0..).zip(&places[..targets]) {
                    if let Some(from) = from.get_mut(used) {
                        *from = i;
                    }
                    used += usize::from(at == place as u8);
                }
                self.count[position] = used;
            }
        }
    }

    #[inline(always)]
    fn by_source(&mut self, patches: &Patches, rows: &[F], source: &mut [F]) {
        let Conv2d {
            input: [inputs, height, width], output: [_, _, columns], kernel, stride, padding, ..
        } = patches.inner;
        let (across, channels, len) = (width + 2 * padding, patches.channels, patches.row);
        self.image.fill(F::ZERO);
        for (ky, rows) in rows.chunks_exact(patches.targets() * len).enumerate().take(kernel) {
            for (position, &count) in self.count.iter().enumerate() {
                let (y, x) = (position / columns * stride + ky, position % columns * stride);
                let to = &mut self.image[(y * across + x) * inputs..][..len];
                let (from, values) = (&self.from[position * channels..], &self.dense[position * channels..]);
                simd::add_products(&from[..count], &values[..channels], rows, to);
            }
        }
        for (i, row) in source.chunks_exact_mut(width).enumerate() {
            let (input, y) = (i / height, i % height);
            let from = &self.image[((y + padding) * across + padding) * inputs + input..];
            for (g, &sum) in row.iter_mut().zip(from.iter().step_by(inputs)) {
                *g = sum;
            }
        }
    }
}
