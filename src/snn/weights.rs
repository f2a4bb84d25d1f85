//! The weights of a projection, stored by source so that a spike touches one row.

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
}

impl Conv2d {
    /// The geometry between two populations, or why there is none.
    ///
    /// ```
    /// use ransnn::snn::Conv2d;
    /// assert!(Conv2d::new(&[1, 28, 28], &[8, 24, 24], 5, 1, 0).is_ok());
    /// assert_eq!(Conv2d::side(28, 5, 2, 2), Some(14));
    /// ```
    pub fn new(
        pre: &[usize],
        post: &[usize],
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Result<Self, String> {
        let (&[c_in, h_in, w_in], &[c_out, h_out, w_out]) = (pre, post) else {
            return Err(format!(
                "a convolution needs populations [channels, height, width], not {pre:?} and {post:?}"
            ));
        };
        let sides = Self::side(h_in, kernel, stride, padding).zip(Self::side(w_in, kernel, stride, padding));
        let Some((height, width)) = sides else {
            return Err(format!(
                "kernel {kernel}, stride {stride} and padding {padding} do not fit a source of {h_in} × {w_in}"
            ));
        };
        if [height, width] != [h_out, w_out] {
            return Err(format!(
                "the target is {h_out} × {w_out}; kernel {kernel}, stride {stride} and padding {padding} make {h_in} × {w_in} into {height} × {width}"
            ));
        }
        Ok(Self { input: [c_in, h_in, w_in], output: [c_out, h_out, w_out], kernel, stride, padding })
    }

    /// Targets along one side, ⌊(side + 2 padding − kernel) / stride⌋ + 1; `None` where the kernel does not fit.
    pub fn side(side: usize, kernel: usize, stride: usize, padding: usize) -> Option<usize> {
        let room = side.checked_add(padding.checked_mul(2)?)?.checked_sub(kernel)?;
        // A padding as wide as the kernel would make targets that see nothing but zeros.
        (kernel > padding && stride > 0).then(|| room / stride + 1)
    }

    /// Synapses, those with the padding not counted.
    pub fn synapses(&self) -> usize {
        let along = |side_in: usize, side_out: usize| -> usize {
            let reach = |o: usize| {
                let start = o * self.stride;
                (start + self.kernel).min(side_in + self.padding).saturating_sub(start.max(self.padding))
            };
            (0..side_out).map(reach).sum()
        };
        let ([c_in, h_in, w_in], [c_out, h_out, w_out]) = (self.input, self.output);
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
