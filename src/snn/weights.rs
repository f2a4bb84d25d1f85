//! The weights of a projection, stored by source so that a spike touches one row.

use std::borrow::Cow;
use std::ops::Range;

/// The weights of one projection, ready to be used.
///
/// Rows are by source neuron. Frozen weights are as a rule [`Values::Int8`]: sums of them are exact in integers, so
/// the spikes do not depend on instruction set, thread count or device.
#[derive(Clone, Debug, PartialEq)]
pub enum Weights {
    /// Every source reaches every target: `values[source * targets + target]`.
    Dense {
        /// Number of source neurons.
        sources: usize,
        /// Number of target neurons.
        targets: usize,
        /// `[sources, targets]`
        values: Values,
    },
    /// Compressed rows: source `i` reaches `targets[offsets[i]..offsets[i + 1]]`.
    Sparse {
        /// `[sources + 1]`
        offsets: Vec<usize>,
        /// `[synapses]`, ascending within a row.
        targets: Vec<u32>,
        /// `[synapses]`
        values: Values,
    },
    /// One kernel per pair of channels, shared by all positions.
    Conv2d {
        /// Geometry.
        geometry: Conv2d,
        /// `[channels_out, channels_in, kernel, kernel]`
        values: Values,
    },
}

/// Geometry of a two-dimensional convolution with square kernels; padding with zeros.
///
/// With `pool` above 1 the source is averaged over windows of that side first. To spikes this is one convolution with
/// every weight spread over a window (see [`Weights::without_pooling`]), so that pooling takes no neurons and no step.
///
/// With `max_pool` above 1 a target's current is in each step the largest of a window of that side of what the convolution
/// makes in that step, bias and gain included. Rows and columns that fill no window are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// `[channels, height, width]` of the source population.
    pub input: [usize; 3],
    /// `[channels, height, width]` of the target population.
    pub output: [usize; 3],
    /// Side of the kernel.
    pub kernel: usize,
    /// Step between neighbouring targets.
    pub stride: usize,
    /// Zeros added on each side.
    pub padding: usize,
    /// Side of the windows over which the source is averaged first; 1 for none.
    pub pool: usize,
    /// Side of the windows whose largest current drives a target; 1 for none.
    pub max_pool: usize,
}

impl Conv2d {
    /// The geometry between two populations, or why there is none.
    ///
    /// ```
    /// use ransnn::snn::Conv2d;
    /// assert!(Conv2d::new(&[1, 28, 28], &[8, 24, 24], 5, 1, 0, 1, 1).is_ok());
    /// assert!(Conv2d::new(&[8, 24, 24], &[16, 8, 8], 5, 1, 0, 2, 1).is_ok());
    /// assert!(Conv2d::new(&[1, 28, 28], &[8, 12, 12], 5, 1, 0, 1, 2).is_ok());
    /// assert_eq!(Conv2d::side(28, 5, 2, 2), Some(14));
    /// ```
    pub fn new(
        pre: &[usize],
        post: &[usize],
        kernel: usize,
        stride: usize,
        padding: usize,
        pool: usize,
        max_pool: usize,
    ) -> Result<Self, String> {
        let (&[c_in, h_in, w_in], &[c_out, h_out, w_out]) = (pre, post) else {
            return Err(format!(
                "a convolution needs populations [channels, height, width], not {pre:?} and {post:?}"
            ));
        };
        if pool == 0 || max_pool == 0 {
            return Err("pooling over windows of 0; 1 is none".into());
        }
        let (rows, columns) = (h_in / pool, w_in / pool);
        let source = match pool {
            1 => format!("{h_in} × {w_in}"),
            _ => format!("{h_in} × {w_in}, pooled to {rows} × {columns},"),
        };
        let sides =
            Self::side(rows, kernel, stride, padding).zip(Self::side(columns, kernel, stride, padding));
        let Some((height, width)) = sides else {
            return Err(format!(
                "kernel {kernel}, stride {stride} and padding {padding} do not fit a source of {source}"
            ));
        };
        if max_pool > height.min(width) {
            return Err(format!(
                "windows of {max_pool} × {max_pool} do not fit the {height} × {width} currents"
            ));
        }
        if [height / max_pool, width / max_pool] != [h_out, w_out] {
            let largest = match max_pool {
                1 => String::new(),
                _ => format!(", pooled to {} × {}", height / max_pool, width / max_pool),
            };
            return Err(format!(
                "the target is {h_out} × {w_out}; kernel {kernel}, stride {stride} and padding {padding} make {source} into {height} × {width}{largest}"
            ));
        }
        let (input, output) = ([c_in, h_in, w_in], [c_out, h_out, w_out]);
        let geometry = Self { input, output, kernel, stride, padding, pool, max_pool };
        let wide = geometry.without_pooling();
        // What pooling leaves over at an edge must neither stand in for its padding nor make room for a target.
        let exact = |side: usize, out: usize| {
            let kept = padding == 0 || side.is_multiple_of(pool);
            kept && Self::side(side, wide.kernel, wide.stride, wide.padding) == Some(out)
        };
        match exact(h_in, height) && exact(w_in, width) {
            true => Ok(geometry),
            false => Err(format!(
                "pooling {h_in} × {w_in} by {pool} leaves pixels over that the convolution would reach; multiples of {pool} have none"
            )),
        }
    }

    /// The convolution of the unpooled source that sums the same: kernel, stride and padding times `pool`.
    pub fn without_pooling(&self) -> Self {
        let Self { kernel, stride, padding, pool, .. } = *self;
        Self { kernel: kernel * pool, stride: stride * pool, padding: padding * pool, pool: 1, ..*self }
    }

    /// The convolution of those currents of which the largest are taken.
    pub fn before_max_pool(&self) -> Self {
        let ([channels, height, width], side) = (self.output, self.max_pool);
        Self { output: [channels, height * side, width * side], max_pool: 1, ..*self }
    }

    /// Positions along one axis of `size` whose window holds the source at `at`; without pooling.
    pub(crate) fn reached(&self, at: usize, size: usize) -> Range<usize> {
        let padded = at + self.padding;
        let first = (padded + 1).saturating_sub(self.kernel).div_ceil(self.stride);
        first..(padded / self.stride + 1).min(size).max(first)
    }

    /// `[channels, height, width]` of all currents of which the largest are taken, those that fill no window included.
    pub fn currents(&self) -> [usize; 3] {
        let [_, rows, columns] = self.pooled();
        let side = |side, targets| {
            Self::side(side, self.kernel, self.stride, self.padding).unwrap_or(targets * self.max_pool)
        };
        [self.output[0], side(rows, self.output[1]), side(columns, self.output[2])]
    }

    /// `[channels, height, width]` of the source after pooling.
    pub fn pooled(&self) -> [usize; 3] {
        let [channels, height, width] = self.input;
        [channels, height / self.pool, width / self.pool]
    }

    /// Targets along one side, ⌊(side + 2 padding − kernel) / stride⌋ + 1; `None` where the kernel does not fit.
    pub fn side(side: usize, kernel: usize, stride: usize, padding: usize) -> Option<usize> {
        let room = side.checked_add(padding.checked_mul(2)?)?.checked_sub(kernel)?;
        // A padding as wide as the kernel would make targets that see nothing but zeros.
        (kernel > padding && stride > 0).then(|| room / stride + 1)
    }

    /// Synapses, those with the padding not counted.
    pub fn synapses(&self) -> usize {
        let Self {
            input: [c_in, h_in, w_in], output: [c_out, h_out, w_out], kernel, stride, padding, ..
        } = self.without_pooling().before_max_pool();
        let along = |side_in: usize, side_out: usize| -> usize {
            let reach = |o: usize| {
                let start = o * stride;
                (start + kernel).min(side_in + padding).saturating_sub(start.max(padding))
            };
            (0..side_out).map(reach).sum()
        };
        c_in * c_out * along(h_in, h_out) * along(w_in, w_out)
    }
}

impl Weights {
    /// Of a network that is simulated: drawn when a simulator is made (see
    /// [`Network::simulation`](super::Network::simulation)).
    pub fn deferred() -> Self {
        Self::Sparse { offsets: Vec::new(), targets: Vec::new(), values: Values::F32(Vec::new()) }
    }

    /// Whether the weights are still to be drawn.
    pub fn is_deferred(&self) -> bool {
        matches!(self, Self::Sparse { offsets, .. } if offsets.is_empty())
    }

    /// The numbers.
    pub fn values(&self) -> &Values {
        match self {
            Self::Dense { values, .. } | Self::Sparse { values, .. } | Self::Conv2d { values, .. } => values,
        }
    }

    /// The numbers, to be changed.
    pub fn values_mut(&mut self) -> &mut Values {
        match self {
            Self::Dense { values, .. } | Self::Sparse { values, .. } | Self::Conv2d { values, .. } => values,
        }
    }

    /// Shape of the table: `[sources, targets]`, `[synapses]` or `[channels_out, channels_in, kernel, kernel]`.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::Dense { sources, targets, .. } => vec![*sources, *targets],
            Self::Sparse { targets, .. } => vec![targets.len()],
            Self::Conv2d { geometry: g, .. } => vec![g.output[0], g.input[0], g.kernel, g.kernel],
        }
    }

    /// The same table with every weight of a [pooled](Conv2d::pool) convolution repeated over its window; the mean is
    /// then 1 / `pool`² of the sum. Borrowed where nothing is pooled.
    ///
    /// ```
    /// use ransnn::snn::{Conv2d, Values, Weights};
    /// let geometry = Conv2d::new(&[1, 4, 4], &[1, 2, 2], 1, 1, 0, 2, 1)?;
    /// let weights = Weights::Conv2d { geometry, values: Values::F32(vec![0.5]) };
    /// let wide = weights.without_pooling();
    /// assert_eq!((wide.shape(), wide.values()), (vec![1, 1, 2, 2], &Values::F32(vec![0.5; 4])));
    /// # Ok::<(), String>(())
    /// ```
    pub fn without_pooling(&self) -> Cow<'_, Self> {
        let Self::Conv2d { geometry: g, values } = self else { return Cow::Borrowed(self) };
        if g.pool == 1 {
            return Cow::Borrowed(self);
        }
        let values = match values {
            Values::Int8 { quanta, scale } => {
                Values::Int8 { quanta: spread(g, quanta), scale: scale.clone() }
            }
            Values::F32(values) => Values::F32(spread(g, values)),
        };
        Cow::Owned(Self::Conv2d { geometry: g.without_pooling(), values })
    }

    /// Number of synapses: pairs of neurons that are connected.
    pub fn synapses(&self) -> usize {
        match self {
            Self::Conv2d { geometry, .. } => geometry.synapses(),
            _ => self.values().len(),
        }
    }

    /// Bytes of weights and connectivity.
    pub fn bytes(&self) -> usize {
        let connectivity = match self {
            Self::Sparse { offsets, targets, .. } => size_of_val(&offsets[..]) + size_of_val(&targets[..]),
            _ => 0,
        };
        connectivity + self.values().bytes()
    }
}

/// Kernels with every tap repeated over a window of `pool` × `pool`.
fn spread<T: Copy>(g: &Conv2d, kernels: &[T]) -> Vec<T> {
    let rows = kernels.chunks_exact(g.kernel);
    let wide = |row: &[T]| row.iter().flat_map(|&tap| std::iter::repeat_n(tap, g.pool)).collect::<Vec<T>>();
    rows.flat_map(|row| wide(row).repeat(g.pool)).collect()
}

/// Numbers of a weight table.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// `weight = quantum · scale[target]`, where `scale` has one entry, one per target, or one per output channel.
    Int8 {
        /// The integers. Convolution kernels stay within ±63, so that products with 8-bit intensities cannot
        /// saturate in 16 bits when added in pairs.
        quanta: Vec<i8>,
        /// Weight of one quantum.
        scale: Vec<f32>,
    },
    /// Plain numbers.
    F32(Vec<f32>),
}

impl Values {
    /// Number of weights.
    pub fn len(&self) -> usize {
        match self {
            Self::Int8 { quanta, .. } => quanta.len(),
            Self::F32(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the table.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Int8 { quanta, scale } => quanta.len() + 4 * scale.len(),
            Self::F32(values) => 4 * values.len(),
        }
    }
}
