//! One population that an input drives: encoder, frozen int8 weights, LIF over all time steps, spike counts, in one launch.
//!
//! Counts equal those of the CPU spike for spike: sums are integers, random numbers are a pure function of (stream,
//! sample, step, pixel), and every float operation is rounded on its own. `kernels/reservoir.cu` and
//! `kernels/reservoir_conv.cu` have the formulas.

use crate::engine::synapses;
use crate::error::{Error, Result};
use crate::rng::Stream;
use crate::snn::encode::bernoulli_threshold;
use crate::snn::neurons::lif::Lif;
use crate::snn::{Conv2d, Encoding, Network, Projection, Values, Weights};
use crate::tensor::cuda::{Arg, Buffer, Geometry, Gpu};
use crate::tensor::kernels::{self, ElementType};

/// Targets of a tile: what one warp computes.
const TILE: usize = 256;
/// Samples of a block, one a warp.
const WARPS: usize = 8;
/// Output channels of a convolution that a thread computes.
const GROUP: usize = 8;
/// Positions of a block of a convolution.
const POSITIONS: usize = 256;
/// Sources up to which `sum of pixel · quantum` fits 32 bits: `255 · 128 · n < 2³¹`.
const MOST_CONSTANT_SOURCES: usize = 65_793;

/// How 8-bit pixels become input.
#[derive(Clone, Debug, PartialEq)]
pub enum Encoder {
    /// A pixel of value `x` fires in a step where its 16-bit random word is below `thresholds[x]`.
    Bernoulli {
        /// 256 entries; 65536 always fires.
        thresholds: Vec<u32>,
    },
    /// Every step's input is `pixel / 255`.
    Constant,
}

/// A reservoir whose weights are on a GPU.
#[derive(Clone, Debug)]
pub struct Reservoir {
    rows: Rows,
    factor: Buffer,
    bias: Buffer,
    /// Bernoulli only.
    thresholds: Option<Buffer>,
    lif: Lif,
    dialect: u32,
    sources: usize,
    targets: usize,
    steps: usize,
}

#[derive(Clone, Debug)]
enum Rows {
    Dense(Buffer),
    Sparse { offsets: Buffer, entries: Buffer },
    Conv(Buffer, Conv2d),
}

/// Samples on a GPU.
pub(super) struct Batch {
    pixels: Buffer,
    /// Bernoulli only.
    ids: Option<Buffer>,
    key: [u32; 2],
    pub samples: usize,
}

/// What a launch will have written.
pub(super) struct Launched {
    /// `[samples, neurons]`
    pub counts: Buffer,
    /// Spikes of the neurons, spikes of the input, synaptic operations.
    pub activity: Buffer,
}

impl Reservoir {
    /// Uploads a reservoir of `scale.len()` neurons, or output channels of a convolution.
    ///
    /// `weights` are int8; `scale` (the weight of one quantum) and `bias` have one entry per target or channel: current =
    /// sum of quanta · scale + bias. A convolution takes a constant current only.
    ///
    /// # Errors
    /// Shapes that do not fit; weights that are not int8, convolutions of spikes and dialects of LIF that the kernels
    /// lack; more steps than a 16-bit count holds; not enough memory.
    pub fn new(
        gpu: &Gpu,
        weights: &Weights,
        scale: &[f32],
        bias: &[f32],
        lif: &Lif,
        encoder: &Encoder,
        steps: usize,
    ) -> Result<Self> {
        let constant = *encoder == Encoder::Constant;
        if steps > usize::from(u16::MAX) {
            return Err(Error::value("steps", steps, "at most 65535 on a GPU, where counts have 16 bits"));
        }
        if bias.len() != scale.len() {
            return Err(shapes(
                scale.len(),
                bias.len(),
                "scale and bias have one entry per neuron or channel",
            ));
        }
        let (sources, rows) = upload_rows(gpu, weights, scale.len())?;
        let (targets, summed) = match &rows {
            Rows::Conv(..) if !constant => {
                return Err(unsupported("a convolution of spikes"));
            }
            Rows::Conv(_, g) => (g.output.iter().product(), g.input[0] * g.kernel * g.kernel),
            _ => (scale.len(), sources),
        };
        if constant && summed > MOST_CONSTANT_SOURCES {
            let most = format!("at most {MOST_CONSTANT_SOURCES}, so that sums fit 32 bits");
            return Err(Error::value("number of inputs with constant current", summed, most));
        }
        let thresholds = match encoder {
            Encoder::Constant => None,
            Encoder::Bernoulli { thresholds } if thresholds.len() == 256 => Some(gpu.upload(thresholds)?),
            Encoder::Bernoulli { thresholds } => {
                return Err(shapes(256, thresholds.len(), "there is one threshold per value of a pixel"));
            }
        };
        let factor: Vec<f32> =
            scale.iter().map(|&scale| if constant { scale / 255.0 } else { scale }).collect();
        Ok(Self {
            rows,
            factor: gpu.upload(&factor)?,
            bias: gpu.upload(bias)?,
            thresholds,
            lif: *lif,
            dialect: dialect(lif)?,
            sources,
            targets,
            steps,
        })
    }

    /// Uploads a network of one input and one population of LIF neurons, connected by one int8 projection. Its counts
    /// are those that [`Presentation`](crate::engine::Presentation) records for 8-bit pixels.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for other networks and encodings, with the reason; as [`Reservoir::new`].
    pub fn of_network(gpu: &Gpu, net: &Network, encoding: &Encoding) -> Result<Self> {
        let ([_, _], [projection]) = (net.populations.as_slice(), net.projections.as_slice()) else {
            let (populations, projections) = (net.populations.len(), net.projections.len());
            return Err(lacks(format!("it has {populations} populations and {projections} projections")));
        };
        Self::of_projection(gpu, net, encoding, projection)
    }

    /// As [`Reservoir::of_network`], of the one projection that leads to a population.
    pub(super) fn of_projection(
        gpu: &Gpu,
        net: &Network,
        encoding: &Encoding,
        projection: &Projection,
    ) -> Result<Self> {
        encoding.validate()?;
        let model = |pop: usize| net.populations.get(pop).map(|population| population.model.as_deref());
        let (Some(None), Some(Some(neuron))) = (model(projection.pre.0), model(projection.post.0)) else {
            return Err(lacks(format!("`{}` does not lead from an input to neurons", projection.name)));
        };
        if let Some(delay) = projection.delay {
            return Err(lacks(format!("`{}` has a delay of {delay}", projection.name)));
        }
        let Some(lif) = neuron.as_any().downcast_ref::<Lif>() else {
            let name = &net.populations[projection.post.0].name;
            return Err(lacks(format!("the neurons of `{name}` are not plain LIF")));
        };
        let encoder = match *encoding {
            Encoding::Constant { .. } => Encoder::Constant,
            Encoding::Bernoulli { gain, .. } => {
                let threshold = |x: u8| bernoulli_threshold(f32::from(x) / 255.0, gain);
                Encoder::Bernoulli { thresholds: (0..=255).map(threshold).collect() }
            }
            Encoding::Latency { .. } | Encoding::Frames { .. } | Encoding::Delta { .. } => {
                return Err(unsupported("the latency, frames or delta encoder"));
            }
        };
        if let Weights::Conv2d { geometry: Conv2d { max_pool: 2.., .. }, .. } = projection.weights {
            return Err(lacks(format!("`{}` takes the largest current of each window", projection.name)));
        }
        synapses::check(net, projection)?;
        let (scale, bias) = synapses::scale_and_bias(net, projection)?;
        Self::new(gpu, &projection.weights.without_pooling(), &scale, &bias, lif, &encoder, encoding.steps())
    }

    /// Copies samples to the GPU; see [`Reservoir::counts`].
    pub(super) fn upload(&self, pixels: &[u8], sample_ids: &[u64], stream: &Stream) -> Result<Batch> {
        let samples = sample_ids.len();
        if samples.checked_mul(self.sources) != Some(pixels.len()) {
            return Err(shapes(
                pixels.len(),
                samples.saturating_mul(self.sources),
                "pixels are [samples, sources]",
            ));
        }
        let gpu = self.factor.gpu();
        let ids = if self.thresholds.is_some() { Some(gpu.upload(sample_ids)?) } else { None };
        Ok(Batch { pixels: gpu.upload(pixels)?, ids, key: stream.key(), samples })
    }

    /// Spike counts `[samples, targets]` of `pixels` `[samples, sources]`. Random numbers are those of `stream` at
    /// `sample_ids` `[samples]`; a constant current uses neither.
    ///
    /// # Errors
    /// Shapes that do not fit; more samples than a launch can have; what the GPU reports.
    pub fn counts(&self, pixels: &[u8], sample_ids: &[u64], stream: &Stream) -> Result<Vec<u16>> {
        self.launch(&self.upload(pixels, sample_ids, stream)?)?.counts.download()
    }

    /// Queues the pass of a batch.
    pub(super) fn launch(&self, batch: &Batch) -> Result<Launched> {
        let (gpu, samples) = (self.factor.gpu(), batch.samples);
        let mut counts = gpu.zeros(ElementType::U16, samples * self.targets)?;
        let mut activity = gpu.zeros(ElementType::U64, 3)?;
        if samples == 0 || self.targets == 0 {
            return Ok(Launched { counts, activity });
        }
        let mut args = vec![Arg::In(&batch.pixels)];
        if let (Some(ids), Some(thresholds)) = (&batch.ids, &self.thresholds) {
            let [key0, key1] = batch.key;
            args.extend([Arg::In(ids), Arg::In(thresholds), Arg::U32(key0), Arg::U32(key1)]);
        }
        match &self.rows {
            Rows::Dense(weights) | Rows::Conv(weights, _) => args.push(Arg::In(weights)),
            Rows::Sparse { offsets, entries } => args.extend([Arg::In(offsets), Arg::In(entries)]),
        }
        args.extend([
            Arg::In(&self.factor),
            Arg::In(&self.bias),
            Arg::F32(self.lif.decay),
            Arg::F32(self.lif.gain),
            Arg::F32(self.lif.rest),
            Arg::F32(self.lif.threshold),
            Arg::F32(self.lif.reset_value()),
            Arg::U32(self.dialect),
            Arg::I32(int(self.lif.refractory_steps as usize, "refractory steps")?),
        ]);
        let sizes = match &self.rows {
            Rows::Conv(_, g) => {
                let ([channels_in, height, width], [channels, rows, columns]) = (g.input, g.output);
                vec![channels_in, height, width, channels, rows, columns, g.kernel, g.stride, g.padding]
            }
            _ => vec![samples, self.sources, self.targets],
        };
        for size in sizes.into_iter().chain([self.steps]) {
            args.push(Arg::I32(int(size, "samples, neurons or steps")?));
        }
        args.extend([Arg::Out(&mut counts), Arg::Out(&mut activity)]);
        let (source, kernel) = match (&self.rows, &self.thresholds) {
            (Rows::Dense(_), Some(_)) => (&kernels::RESERVOIR, &kernels::RESERVOIR_BERNOULLI_DENSE),
            (Rows::Dense(_), None) => (&kernels::RESERVOIR, &kernels::RESERVOIR_CONSTANT_DENSE),
            (Rows::Sparse { .. }, Some(_)) => (&kernels::RESERVOIR, &kernels::RESERVOIR_BERNOULLI_SPARSE),
            (Rows::Sparse { .. }, None) => (&kernels::RESERVOIR, &kernels::RESERVOIR_CONSTANT_SPARSE),
            (Rows::Conv(..), _) => (&kernels::RESERVOIR_CONV, &kernels::RESERVOIR_CONV_COUNTS),
        };
        let grid = match &self.rows {
            Rows::Conv(_, Conv2d { output: [channels, rows, columns], .. }) => {
                let tiles = (rows * columns).div_ceil(POSITIONS);
                [int(samples.saturating_mul(tiles), "blocks")? as u32, channels.div_ceil(GROUP) as u32, 1]
            }
            _ => [samples.div_ceil(WARPS) as u32, self.targets.div_ceil(TILE) as u32, 1],
        };
        gpu.launch(source, kernel, Geometry { grid, block: [256, 1, 1], shared_bytes: 0 }, &mut args)?;
        Ok(Launched { counts, activity })
    }
}

/// Lays weights out as the kernel reads them; the number of sources.
fn upload_rows(gpu: &Gpu, weights: &Weights, targets: usize) -> Result<(usize, Rows)> {
    match weights {
        Weights::Dense { sources, targets: columns, values } => {
            let quanta = quanta(values)?;
            if *columns != targets || sources * columns != quanta.len() {
                return Err(shapes(quanta.len(), sources * targets, "dense weights are [sources, targets]"));
            }
            Ok((*sources, Rows::Dense(gpu.upload(&padded_rows(quanta, *sources, targets))?)))
        }
        Weights::Sparse { offsets, targets: list, values } => {
            let quanta = quanta(values)?;
            let ascending =
                offsets.first() == Some(&0) && offsets.is_sorted() && offsets.last() == Some(&list.len());
            if !ascending || quanta.len() != list.len() {
                return Err(shapes(offsets.len(), list.len(), "offsets end with the number of synapses"));
            }
            if let Some(&target) = list.iter().find(|&&target| target as usize >= targets) {
                return Err(Error::value("a synapse's target", target, format!("below {targets}")));
            }
            let (offsets, entries) = tiled_rows(offsets, list, quanta, targets)?;
            let rows = Rows::Sparse { offsets: gpu.upload(&offsets.0)?, entries: gpu.upload(&entries)? };
            Ok((offsets.1, rows))
        }
        Weights::Conv2d { geometry, values } => {
            let taps = geometry.input[0] * geometry.kernel * geometry.kernel;
            let quanta = quanta(values)?;
            if geometry.output[0] != targets || taps * targets != quanta.len() {
                return Err(shapes(quanta.len(), taps * targets, "kernels are [channels, taps]"));
            }
            let weights = gpu.upload(&grouped(quanta, taps))?;
            Ok((geometry.input.iter().product(), Rows::Conv(weights, *geometry)))
        }
    }
}

/// `[channels, taps]` as `[groups, taps, 8]`, zero beyond the last channel.
fn grouped(quanta: &[i8], taps: usize) -> Vec<i8> {
    let channels = quanta.len().checked_div(taps).unwrap_or(0);
    let mut groups = vec![0; channels.next_multiple_of(GROUP) * taps];
    for (channel, kernel) in quanta.chunks_exact(taps.max(1)).enumerate() {
        let first = channel / GROUP * GROUP * taps + channel % GROUP;
        groups[first..].iter_mut().step_by(GROUP).zip(kernel).for_each(|(place, &quantum)| *place = quantum);
    }
    groups
}

fn quanta(values: &Values) -> Result<&[i8]> {
    match values {
        Values::Int8 { quanta, .. } => Ok(quanta),
        Values::F32(_) => Err(unsupported("the reservoir pass with f32 weights")),
    }
}

/// Rows padded to whole tiles, 128 added so that two of them can be summed in one 32-bit word.
fn padded_rows(quanta: &[i8], sources: usize, targets: usize) -> Vec<u8> {
    let stride = targets.next_multiple_of(TILE);
    let mut rows = vec![128u8; sources * stride];
    if targets > 0 {
        for (row, quanta) in rows.chunks_exact_mut(stride).zip(quanta.chunks_exact(targets)) {
            row.iter_mut().zip(quanta).for_each(|(place, &quantum)| *place = quantum as u8 ^ 128);
        }
    }
    rows
}

/// `[tiles · sources + 1]`, and the number of sources.
type TiledOffsets = (Vec<u32>, usize);

/// Rows cut into tiles of targets; an entry is the target within the tile (low byte) and the weight (high byte).
fn tiled_rows(
    offsets: &[usize],
    targets: &[u32],
    quanta: &[i8],
    count: usize,
) -> Result<(TiledOffsets, Vec<u16>)> {
    if u32::try_from(targets.len()).is_err() {
        return Err(Error::value("number of synapses", targets.len(), "below 2³² on a GPU"));
    }
    let sources = offsets.len() - 1;
    let mut tiled = vec![0u32];
    let mut entries = Vec::with_capacity(targets.len());
    for tile in 0..count.div_ceil(TILE) {
        for row in offsets.windows(2) {
            let synapses = (row[0]..row[1]).filter(|&i| targets[i] as usize / TILE == tile);
            entries.extend(
                synapses.map(|i| (targets[i] as usize % TILE) as u16 | u16::from(quanta[i] as u8) << 8),
            );
            tiled.push(entries.len() as u32);
        }
    }
    Ok(((tiled, sources), entries))
}

/// Bits of the kernel's `dialect`.
fn dialect(lif: &Lif) -> Result<u32> {
    lif.dialect().ok_or_else(|| unsupported("a refractory period with a delayed reset"))
}

fn int(value: usize, what: &str) -> Result<i32> {
    i32::try_from(value).map_err(|_| Error::value(format!("number of {what}"), value, "below 2³¹ on a GPU"))
}

fn lacks(why: String) -> Error {
    Error::Unsupported {
        op: "this network",
        on: format!(
            "on a GPU: {why}, where the reservoir pass takes one projection from the input to each population"
        ),
    }
}

fn shapes(lhs: usize, rhs: usize, why: &str) -> Error {
    Error::Shape { op: "reservoir pass", lhs: vec![lhs], rhs: vec![rhs], why: why.into() }
}

fn unsupported(op: &'static str) -> Error {
    Error::Unsupported { op, on: "on a GPU".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snn::neurons::lif::{Fires, Reset, ResetActs};

    #[test]
    fn dense_rows_are_padded_with_zero_weights() {
        let rows = padded_rows(&[-128, 127, 0, 1], 2, 2);
        assert_eq!(
            (rows.len(), &rows[..3], &rows[TILE..TILE + 3]),
            (2 * TILE, &[0, 255, 128][..], &[128, 129, 128][..])
        );
        assert!(padded_rows(&[], 0, 5).is_empty());
        assert!(padded_rows(&[], 5, 0).is_empty());
    }

    #[test]
    fn sparse_rows_are_cut_into_tiles() {
        // Source 0 reaches 1 and 300, source 1 nothing, source 2 reaches 299.
        let ((offsets, sources), entries) =
            tiled_rows(&[0, 2, 2, 3], &[1, 300, 299], &[-1, 2, 3], 301).unwrap();
        assert_eq!(sources, 3);
        assert_eq!(offsets, [0, 1, 1, 1, 2, 2, 3]);
        assert_eq!(entries, [1 | 0xff00, 44 | 0x0200, 43 | 0x0300]);
    }

    #[test]
    fn kernels_of_eight_channels_lie_side_by_side() {
        let quanta: Vec<i8> = (0..18).collect(); // 9 channels of 2 taps
        let groups = grouped(&quanta, 2);
        assert_eq!(groups[..16], [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15]);
        assert_eq!(groups[16..], [16, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0]);
        assert!(grouped(&[], 0).is_empty());
    }

    #[test]
    fn dialects_have_their_bits() {
        // The kernel's own numbers, so that the two files cannot drift apart.
        let bit = |name: &str| -> u32 {
            let define = format!("#define {name} ");
            let (_, text) = kernels::HEADERS.iter().find(|(name, _)| *name == "lif.cuh").expect("a header");
            let line = text.lines().find_map(|line| line.strip_prefix(define.as_str()));
            line.and_then(|value| value.strip_suffix('u')?.parse().ok()).expect("the kernel defines it")
        };
        let [at, subtracts, to, next, before] = [
            "FIRES_AT_THRESHOLD",
            "RESET_SUBTRACTS",
            "RESET_TO_VALUE",
            "RESET_NEXT_STEP",
            "RESET_BEFORE_NEXT_STEP",
        ]
        .map(bit);
        assert_eq!((at | subtracts | to | next | before).count_ones(), 5);
        let lif = Lif::default();
        assert_eq!(dialect(&lif).unwrap(), at | subtracts);
        assert_eq!(dialect(&Lif::snntorch(0.9)).unwrap(), subtracts | next);
        assert_eq!(dialect(&Lif::snntorch_zero(0.9)).unwrap(), to | before);
        assert_eq!(dialect(&Lif { reset: Reset::To(0.5), fires: Fires::Above, ..lif }).unwrap(), to);
        assert_eq!(dialect(&Lif { reset: Reset::None, fires: Fires::Above, ..lif }).unwrap(), 0);
        for acts in [ResetActs::NextStep, ResetActs::BeforeNextStep] {
            assert!(dialect(&Lif { refractory_steps: 1, acts, ..lif }).is_err());
        }
    }
}
