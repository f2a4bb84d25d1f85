//! The inner loops in plain Rust: what the other paths must equal.

use super::{BLOCK, Block, Currents, Dialect, Draw, Packed, RUN, TILE, Tile, reset_value, with_dialect};
use crate::{engine::events::Events, rng::philox, snn::neurons::Lif};
use std::ops::Range;

/// See [`super::Simd::dense_i8`].
pub(crate) fn dense_i8(tile: Tile, events: &Events, steps: Range<usize>, out: Currents) {
    let Currents { values: current, stride, add } = out;
    for (i, step) in steps.enumerate() {
        let current = &mut current[i * stride..][..TILE];
        let mut sums = [0i32; TILE];
        for run in events.step(step).chunks(RUN) {
            let (mut all, mut odd) = ([0u16; TILE / 2], [0u16; TILE / 2]);
            for &source in run {
                let row = &tile.rows[source as usize * TILE..][..TILE];
                for (i, word) in row.chunks_exact(2).enumerate() {
                    let word = u16::from_le_bytes([word[0], word[1]]);
                    all[i] = all[i].wrapping_add(word);
                    odd[i] = odd[i].wrapping_add((word as i16 >> 8) as u16);
                }
            }
            for i in 0..TILE / 2 {
                let even = all[i].wrapping_sub(odd[i] << 8).wrapping_sub(128 * run.len() as u16);
                let at = i / 16 * 32 + i % 16;
                sums[at] += i32::from(even as i16);
                sums[at + 16] += i32::from(odd[i] as i16);
            }
        }
        finish(&sums.map(|sum| sum as f32), tile.scale, tile.bias, add, current);
    }
}

/// See [`super::Simd::dense_f32`].
#[inline(always)]
pub(crate) fn dense_f32(
    rows: &[f32],
    scale: &[f32],
    bias: &[f32],
    events: &Events,
    steps: Range<usize>,
    out: Currents,
) {
    let Currents { values: current, stride, add } = out;
    for (i, step) in steps.enumerate() {
        let current = &mut current[i * stride..][..TILE];
        let mut sums = [0f32; TILE];
        for &source in events.step(step) {
            let row: &[f32; TILE] = rows[source as usize * TILE..][..TILE].try_into().unwrap_or(&[0.0; TILE]);
            for i in 0..TILE {
                sums[i] += row[i];
            }
        }
        finish(&sums, scale, bias, add, current);
    }
}

#[inline(always)]
pub(super) fn finish(sums: &[f32; TILE], scale: &[f32], bias: &[f32], add: bool, current: &mut [f32]) {
    let (scale, bias, current) = (&scale[..TILE], &bias[..TILE], &mut current[..TILE]);
    for i in 0..TILE {
        let x = sums[i] * scale[i] + bias[i];
        current[i] = if add { current[i] + x } else { x };
    }
}

/// See [`super::Simd::lif`].
pub(crate) fn lif(lif: &Lif, block: Block) {
    with_dialect!(lif, lif_as(lif, block))
}

fn lif_as<D: Dialect>(lif: &Lif, block: Block) {
    let n = block.membrane.len();
    for step in 0..block.steps {
        let current = &block.current[step * n..][..n];
        for (i, word) in block.words[step * block.stride..][..n / TILE].iter_mut().enumerate() {
            *word = 0;
            for bit in 0..TILE {
                let at = i * TILE + bit;
                let fired = lif_step::<D>(lif, &mut block.membrane[at], lif.gain * current[at]);
                block.counts[at] += u32::from(fired);
                *word |= u64::from(fired) << bit;
            }
        }
    }
}

/// One neuron, one step, in the order of `snn::neurons::lif`; `drive` is gain times current.
#[inline(always)]
fn lif_step<D: Dialect>(lif: &Lif, u: &mut f32, drive: f32) -> bool {
    let fires = |u: f32| if D::ABOVE { u > lif.threshold } else { u >= lif.threshold };
    let after = |u: f32| match D::RESET {
        0 => u - lif.threshold,
        1 => reset_value(lif),
        _ => u,
    };
    let late = D::LATE && fires(*u);
    let mut next = lif.rest + lif.decay * (*u - lif.rest) + drive;
    if late {
        next = after(next);
    }
    let fired = fires(next);
    *u = if fired && !D::LATE { after(next) } else { next };
    fired
}

/// See [`super::Simd::lif_constant`].
pub(crate) fn lif_constant(
    lif: &Lif,
    steps: usize,
    current: &[f32],
    counts: &mut [u8],
    membrane: &mut [f32],
) {
    with_dialect!(lif, lif_constant_as(lif, steps, current, counts, membrane))
}

fn lif_constant_as<D: Dialect>(
    lif: &Lif,
    steps: usize,
    current: &[f32],
    counts: &mut [u8],
    membrane: &mut [f32],
) {
    for (i, (count, &x)) in counts.iter_mut().zip(current).enumerate() {
        let (mut u, drive) = (lif.rest, lif.gain * x);
        *count = (0..steps).map(|_| u8::from(lif_step::<D>(lif, &mut u, drive))).sum();
        if let Some(last) = membrane.get_mut(i) {
            *last = u;
        }
    }
}

/// See [`super::Simd::product_u8`].
pub(crate) fn product_u8(intensities: &[u8], packed: &Packed, rows: usize, out: &mut [i32]) {
    let (k, columns) = (packed.groups * 4, packed.blocks * BLOCK);
    for row in 0..rows {
        let x = &intensities[row * k..][..k];
        let out = &mut out[row * columns..][..columns];
        for (block, out) in out.chunks_exact_mut(BLOCK).enumerate() {
            out.fill(0);
            let weights = &packed.bytes[block * k * BLOCK..][..k * BLOCK];
            for (x, weights) in x.chunks_exact(4).zip(weights.chunks_exact(4 * BLOCK)) {
                for (out, weights) in out.iter_mut().zip(weights.chunks_exact(4)) {
                    *out += x.iter().zip(weights).map(|(&x, &w)| i32::from(x) * i32::from(w)).sum::<i32>();
                }
            }
        }
    }
}

/// See [`super::Simd::product_f32`].
#[inline(always)]
pub(crate) fn product_f32(x: &[f32], weights: &[f32], rows: usize, k: usize, out: &mut [f32]) {
    let columns = out.len().checked_div(rows).unwrap_or(0);
    for (x, out) in x.chunks_exact(k.max(1)).zip(out.chunks_exact_mut(columns.max(1))).take(rows) {
        out.fill(0.0);
        for (&x, weights) in x.iter().zip(weights.chunks_exact(columns)) {
            if x != 0.0 {
                for (out, &w) in out.iter_mut().zip(weights) {
                    *out += x * w;
                }
            }
        }
    }
}

/// See [`super::Simd::affine_i32`].
#[inline(always)]
pub(crate) fn affine_i32(sums: &[i32], scale: &[f32], bias: &[f32], out: &mut [f32]) {
    let n = scale.len().max(1);
    for (sums, out) in sums.chunks(n).zip(out.chunks_mut(n)) {
        for (((&sum, out), &scale), &bias) in sums.iter().zip(out).zip(scale).zip(bias) {
            *out = sum as f32 * scale + bias;
        }
    }
}

/// See [`super::Simd::bernoulli`].
pub(crate) fn bernoulli(draw: &Draw, key: [u32; 2], step: u32, sample: u64, bytes: &mut [u8]) {
    let used = draw.blocks[..draw.used].iter();
    for ((&block, at_most), can_fire) in
        used.zip(draw.at_most.chunks_exact(8)).zip(draw.can_fire.chunks_exact(8))
    {
        let words = philox([block, step, sample as u32, (sample >> 32) as u32], key);
        bytes[block as usize] = (0..8).fold(0, |byte, k| {
            let word = (words[k / 2] >> (16 * (k % 2))) as u16;
            byte | u8::from(word <= at_most[k] && can_fire[k] != 0) << k
        });
    }
}
