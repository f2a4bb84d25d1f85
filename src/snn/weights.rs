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
