//! The few inner loops that the engine's speed hangs on, once per instruction set.
//!
//! [`Simd::best`] picks a path when the program runs, so that the plain release build is the fast one. Every path
//! gives the same bits: sums are integers, and floating-point products and sums are rounded one by one in a fixed
//! order (never fused). [`Simd::available`] lists the paths of this machine, for tests and benchmarks.
#![allow(unsafe_code)] // Calls functions that need an instruction set, which was found first.

pub(crate) mod avx2;
pub(crate) mod avx512;
pub(crate) mod portable;

use super::events::Events;
use crate::snn::neurons::{Fires, Lif, Reset, ResetActs};
use std::ops::Range;

/// Targets per tile of a dense table, and neurons per word of a spike mask.
pub(crate) const TILE: usize = 64;
/// Output columns per block of a [`Packed`] matrix.
pub(crate) const BLOCK: usize = 16;
/// Rows that are summed in 16 bits before they are widened; 256 · 127 still fits.
pub(crate) const RUN: usize = 256;

/// A set of inner loops that this machine can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simd(Path);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// One tile of a dense table of 8-bit weights: [`TILE`] targets, all sources.
///
/// A row is 64 bytes; byte `32 v + 2 k` is the weight of target `32 v + k` plus 128, and the byte after it is the
/// weight of target `32 v + 16 + k` in two's complement. Read as 16-bit words, a row then adds up in both halves at
/// once: with `A = Σ word` and `O = Σ (word >> 8)`, the odd targets are `O` and the even ones `A − 256 O − 128 n`,
/// all modulo 2¹⁶.
#[derive(Clone, Copy)]
pub(crate) struct Tile<'a> {
    /// `[sources, TILE]`
    pub rows: &'a [u8],
    /// `[TILE]`
    pub scale: &'a [f32],
    /// `[TILE]`
    pub bias: &'a [f32],
}

/// Where the input currents of one tile go: step `i` of the call to `values[i * stride..][..TILE]`.
pub(crate) struct Currents<'a> {
    /// The currents, from the first target of the tile on.
    pub values: &'a mut [f32],
    /// Distance between steps.
    pub stride: usize,
    /// Add to what is there; else overwrite.
    pub add: bool,
}

impl Currents<'_> {
    fn fits(&self, steps: usize) -> bool {
        steps == 0 || self.stride >= TILE && self.values.len() >= (steps - 1) * self.stride + TILE
    }
}

/// A matrix of 8-bit weights for products with 8-bit intensities, `[k, columns]`.
///
/// `bytes[block][k / 4][half][column % 8][k % 4]`: four neighbouring `k` of eight columns make one vector.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    /// Groups of four `k`, after padding.
    pub groups: usize,
    /// Blocks of [`BLOCK`] columns, after padding.
    pub blocks: usize,
    /// Products of neighbouring groups that may be added in 16 bits: 1, 2 or 4.
    pub run: usize,
    /// The weights.
    pub bytes: Vec<i8>,
}

/// Neurons of a block over some steps: what [`Simd::lif`] reads and writes. `n` is a multiple of [`TILE`].
pub(crate) struct Block<'a> {
    /// `[steps, n]`
    pub current: &'a [f32],
    /// `[n]`
    pub membrane: &'a mut [f32],
    /// `[n]`, spikes are added.
    pub counts: &'a mut [u32],
    /// Word `first + step * stride + i` gets the spikes of neurons `64 i ..`.
    pub words: &'a mut [u64],
    /// Distance between steps in `words`.
    pub stride: usize,
    /// Steps to do.
    pub steps: usize,
}

/// Thresholds of a Bernoulli encoder, eight inputs a block; only blocks where something can fire.
#[derive(Default, Debug)]
pub(crate) struct Draw {
    /// Indices of blocks, padded to a multiple of eight.
    pub blocks: Vec<u32>,
    /// Blocks before padding.
    pub used: usize,
    /// `[blocks, 8]`: an input fires when its 16-bit word is at most this …
    pub at_most: Vec<u16>,
    /// … and this is all ones rather than zero.
    pub can_fire: Vec<u16>,
}

macro_rules! dispatch {
    ($self:ident, $function:ident($($argument:expr),*)) => {
        match $self.0 {
            Path::Portable => portable::$function($($argument),*),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this path is only made where the CPU has the instructions.
            Path::Avx2 => unsafe { avx2::$function($($argument),*) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Path::Avx512 => unsafe { avx512::$function($($argument),*) },
        }
    };
}

impl Simd {
    /// The fastest path of this machine.
    pub fn best() -> Self {
        Self::available().pop().unwrap_or(Self(Path::Portable))
    }

    /// The plain loops, which run everywhere.
    pub fn portable() -> Self {
        Self(Path::Portable)
    }

    /// All paths of this machine, slowest first.
    pub fn available() -> Vec<Self> {
        let mut paths = vec![Self(Path::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                paths.push(Self(Path::Avx2));
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
                    paths.push(Self(Path::Avx512));
                }
            }
        }
        paths
    }

    /// "portable", "avx2" or "avx512".
    pub fn name(&self) -> &'static str {
        match self.0 {
            Path::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => "avx512",
        }
    }

    /// Input current of one tile: `current[step][i] (+)= (Σ weights of the sources that fired) · scale + bias`.
    pub(crate) fn dense_i8(self, tile: Tile, events: &Events, steps: Range<usize>, out: Currents) {
        assert!(events.sources() * TILE <= tile.rows.len(), "events of more sources than the table has rows");
        assert!(tile.scale.len() >= TILE && tile.bias.len() >= TILE);
        assert!(steps.end <= events.steps() && out.fits(steps.len()));
        dispatch!(self, dense_i8(tile, events, steps, out))
    }

    /// The same with plain weights `[sources, TILE]`, added in the order of `events`.
    pub(crate) fn dense_f32(
        self,
        rows: &[f32],
        scale: &[f32],
        bias: &[f32],
        events: &Events,
        steps: Range<usize>,
        out: Currents,
    ) {
        dispatch!(self, dense_f32(rows, scale, bias, events, steps, out))
    }

    /// Leaky integrate-and-fire over some steps. Only for neurons without a refractory period.
    pub(crate) fn lif(self, lif: &Lif, block: Block) {
        let n = block.membrane.len();
        assert!(n.is_multiple_of(TILE) && block.counts.len() == n && block.current.len() >= block.steps * n);
        assert!(block.steps == 0 || block.words.len() >= (block.steps - 1) * block.stride + n / TILE);
        assert!(block.steps < 2 || block.stride >= n / TILE);
        dispatch!(self, lif(lif, block))
    }

    /// Leaky integrate-and-fire from rest under constant current, `steps` ≤ 255: counts, and the last membrane if
    /// `membrane` is not empty. The lengths of `current` and `counts` are equal multiples of 8.
    pub(crate) fn lif_constant(
        self,
        lif: &Lif,
        steps: usize,
        current: &[f32],
        counts: &mut [u8],
        membrane: &mut [f32],
    ) {
        assert!(steps <= 255 && current.len() == counts.len() && current.len().is_multiple_of(8));
        assert!(membrane.is_empty() || membrane.len() == current.len());
        dispatch!(self, lif_constant(lif, steps, current, counts, membrane))
    }

    /// `out[row][column] = Σ_k intensities[row][k] · weight[k][column]`, exactly; `out` is `[rows, 16 · blocks]`.
    pub(crate) fn product_u8(self, intensities: &[u8], packed: &Packed, rows: usize, out: &mut [i32]) {
        assert!(intensities.len() >= rows * packed.groups * 4);
        assert!(packed.bytes.len() == packed.blocks * packed.groups * 4 * BLOCK);
        assert!(out.len() >= rows * packed.blocks * BLOCK);
        dispatch!(self, product_u8(intensities, packed, rows, out))
    }

    /// `out[row][column] = Σ_k x[row][k] · weight[k][column]` in the order of `k`; zeros of `x` are left out.
    pub(crate) fn product_f32(self, x: &[f32], weights: &[f32], rows: usize, k: usize, out: &mut [f32]) {
        dispatch!(self, product_f32(x, weights, rows, k, out))
    }

    /// `out[i] = (sums[i] as f32) · scale[i % n] + bias[i % n]`, where `n` is the length of `scale`.
    pub(crate) fn affine_i32(self, sums: &[i32], scale: &[f32], bias: &[f32], out: &mut [f32]) {
        assert!(scale.len() == bias.len() && sums.len() == out.len());
        dispatch!(self, affine_i32(sums, scale, bias, out))
    }

    /// One step of a Bernoulli encoder: bit `j % 8` of `bytes[j / 8]` says whether input `j` fires. Blocks that
    /// cannot fire are not touched.
    pub(crate) fn bernoulli(self, draw: &Draw, key: [u32; 2], step: u32, sample: u64, bytes: &mut [u8]) {
        let padded = draw.blocks.len();
        assert!(
            padded.is_multiple_of(8) && draw.at_most.len() == padded * 8 && draw.can_fire.len() == padded * 8
        );
        dispatch!(self, bernoulli(draw, key, step, sample, bytes))
    }
}

/// The dialect of a [`Lif`] as constants of a loop.
pub(crate) trait Dialect {
    /// Fires above, not at, the threshold.
    const ABOVE: bool;
    /// The reset acts one step late.
    const LATE: bool;
    /// 0 subtracts the threshold, 1 sets a value, 2 does nothing.
    const RESET: u8;
}

/// A [`Dialect`].
pub(crate) struct Of<const ABOVE: bool, const LATE: bool, const RESET: u8>;

impl<const ABOVE: bool, const LATE: bool, const RESET: u8> Dialect for Of<ABOVE, LATE, RESET> {
    const ABOVE: bool = ABOVE;
    const LATE: bool = LATE;
    const RESET: u8 = RESET;
}

/// Calls `$run::<Dialect>($args)` for the dialect of a [`Lif`].
macro_rules! with_dialect {
    ($lif:expr, $run:ident($($argument:expr),*)) => {{
        use crate::engine::simd::{Of, of_lif};
        match of_lif($lif) {
            (false, false, 0) => $run::<Of<false, false, 0>>($($argument),*),
            (false, false, 1) => $run::<Of<false, false, 1>>($($argument),*),
            (false, false, _) => $run::<Of<false, false, 2>>($($argument),*),
            (false, true, 0) => $run::<Of<false, true, 0>>($($argument),*),
            (false, true, 1) => $run::<Of<false, true, 1>>($($argument),*),
            (false, true, _) => $run::<Of<false, true, 2>>($($argument),*),
            (true, false, 0) => $run::<Of<true, false, 0>>($($argument),*),
            (true, false, 1) => $run::<Of<true, false, 1>>($($argument),*),
            (true, false, _) => $run::<Of<true, false, 2>>($($argument),*),
            (true, true, 0) => $run::<Of<true, true, 0>>($($argument),*),
            (true, true, 1) => $run::<Of<true, true, 1>>($($argument),*),
            (true, true, _) => $run::<Of<true, true, 2>>($($argument),*),
        }
    }};
}
pub(crate) use with_dialect;

/// `(above, late, reset)` as in [`Dialect`].
pub(crate) fn of_lif(lif: &Lif) -> (bool, bool, u8) {
    let reset = match lif.reset {
        Reset::Subtract => 0,
        Reset::To(_) => 1,
        Reset::None => 2,
    };
    (lif.fires == Fires::Above, lif.acts == ResetActs::NextStep, reset)
}

/// What `u` becomes after a spike when the reset sets a value.
pub(crate) fn reset_value(lif: &Lif) -> f32 {
    if let Reset::To(value) = lif.reset { value } else { 0.0 }
}
