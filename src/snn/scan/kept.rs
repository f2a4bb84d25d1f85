//! Potentials as they are kept between the way forth and the way back: whole, or in 16 bits.
//!
//! In 16 bits (bf16: the 8 leading digits of f32) a potential is rounded to the neighbour on its own side of the threshold,
//! so that the way back finds the same spikes; what it loses is precision of the surrogate's argument and of what resets
//! and leaks multiply.

use half::bf16;

use crate::tensor::cpu::wide::{self, Width, Work};
use crate::tensor::dtype::Float;
use crate::tensor::{DType, Meta, cpu};
use crate::{Error, Result};

/// Kept potentials, to be read.
#[derive(Clone, Copy)]
pub(super) enum Kept<'a, F> {
    Whole(&'a [F]),
    Half(&'a [bf16]),
}

/// Room for potentials that are to be kept.
pub(super) enum Room<'a, F> {
    Whole(&'a mut [F]),
    Half(&'a mut [bf16]),
}

/// The kind of number of kept potentials, for currents of a kind.
pub(super) fn dtype(half: bool, currents: DType) -> DType {
    if half { DType::Bf16 } else { currents }
}

/// Refuses what cannot be kept in 16 bits.
pub(super) fn check(op: &'static str, half: bool, currents: &Meta) -> Result<()> {
    match half && currents.dtype != DType::F32 {
        true => {
            Err(Error::Unsupported { op, on: format!("keeping {} potentials in 16 bits", currents.dtype) })
        }
        false => Ok(()),
    }
}

impl<'a, F: Float> Kept<'a, F> {
    pub fn of(buffer: &'a cpu::Buffer, half: bool) -> Result<Self> {
        Ok(if half { Self::Half(buffer.slice()?) } else { Self::Whole(buffer.slice()?) })
    }

    /// So many numbers from `from` on; in `room`, where they are not there as they are.
    pub fn slice<'s>(&'s self, from: usize, room: &'s mut [F]) -> &'s [F] {
        match self {
            Self::Whole(all) => &all[from..][..room.len()],
            Self::Half(_) => {
                self.read(from, room);
                room
            }
        }
    }

    /// The numbers `from..from + out.len()`.
    pub fn read(&self, from: usize, out: &mut [F]) {
        match self {
            Self::Whole(all) => out.copy_from_slice(&all[from..][..out.len()]),
            Self::Half(all) => {
                let all = &all[from..][..out.len()];
                out.iter_mut().zip(all).for_each(|(u, kept)| *u = F::of_f32(kept.to_f32()));
            }
        }
    }
}

impl<'a, F: Float> Room<'a, F> {
    pub fn of(output: &'a mut cpu::ViewMut<'_>, half: bool) -> Result<Self> {
        Ok(if half { Self::Half(output.slice()?) } else { Self::Whole(output.slice()?) })
    }

    /// In pieces of `size`.
    pub fn pieces(self, size: usize) -> Vec<Room<'a, F>> {
        match self {
            Self::Whole(all) => all.chunks_mut(size).map(Room::Whole).collect(),
            Self::Half(all) => all.chunks_mut(size).map(Room::Half).collect(),
        }
    }

    /// Where to write as many numbers as there are in `room`, which are to be the kept ones from `from` on: there, or in
    /// `room` for [`keep`](Self::keep) to take.
    pub fn place<'s>(&'s mut self, from: usize, room: &'s mut [F]) -> &'s mut [F] {
        match self {
            Self::Whole(all) => &mut all[from..][..room.len()],
            Self::Half(_) => room,
        }
    }

    /// Keeps rows of potentials, `[.., n]` of thresholds `[n]`, as numbers from `from` on; `fired` are their spikes, which
    /// come of `u > θ` or, not `above`, of `u ≥ θ`.
    pub fn keep(&mut self, from: usize, (u, fired): (&[F], &[F]), theta: &[F], above: bool) {
        match self {
            Self::Whole(all) => all[from..][..u.len()].copy_from_slice(u),
            Self::Half(all) => {
                wide::run(Shorten { u, fired, theta, above, out: &mut all[from..][..u.len()] })
            }
        }
    }
}

struct Shorten<'a, F> {
    u: &'a [F],
    fired: &'a [F],
    theta: &'a [F],
    above: bool,
    out: &'a mut [bf16],
}

impl<F: Float> Work for Shorten<'_, F> {
    type Out = ();
    const WIDEST: Width = Width::of_memory::<F>();

    #[inline(always)]
    fn run(self) {
        let n = self.theta.len();
        let rows = self.u.chunks_exact(n).zip(self.fired.chunks_exact(n));
        for (out, (u, fired)) in self.out.chunks_exact_mut(n).zip(rows) {
            for (((out, &u), &fired), &theta) in out.iter_mut().zip(u).zip(fired).zip(self.theta) {
                *out = shorten(u.to_f64() as f32, fired != F::ZERO, theta.to_f64() as f32, self.above);
            }
        }
    }
}

/// The nearer of the two neighbours of `u`, or the other one where only that one fires as `u` does.
#[inline(always)]
fn shorten(u: f32, fired: bool, theta: f32, above: bool) -> bf16 {
    let below = u.to_bits() >> 16;
    // To the nearest, of two as near to the even one. The sum cannot overflow but for NaN.
    let nearest = u.to_bits().wrapping_add(0x7fff + (below & 1)) >> 16;
    let value = f32::from_bits(nearest << 16);
    let fires = if above { value > theta } else { value >= theta };
    // `nearest` is `below` or the one after: this is the other.
    let other = 2 * below + 1 - nearest.min(below + 1);
    let kept = if fires == fired { nearest } else { other };
    bf16::from_bits(if u.is_nan() { 0x7fc0 } else { kept as u16 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_potential_is_a_neighbour_on_its_side_of_the_threshold() {
        let draw = crate::rng::Stream::named(3, "test");
        for i in 0..20_000u32 {
            let [a, b, c, _] = draw.block([i, 0, 0, 0]);
            let theta = 1.0 + (b >> 8) as f32 / (1 << 24) as f32;
            // Most are within some roundings of the threshold, on both sides, and some are equal to it.
            let u = match c % 8 {
                0 => theta,
                1 => f32::from_bits(a).clamp(-1e30, 1e30),
                _ => theta + (a as i32 as f32 / i32::MAX as f32) * 0.02,
            };
            for above in [false, true] {
                let fires = |u: f32| if above { u > theta } else { u >= theta };
                let kept = shorten(u, fires(u), theta, above).to_f32();
                if u.is_nan() {
                    assert!(kept.is_nan());
                    continue;
                }
                assert_eq!(fires(kept), fires(u), "{u} at {theta} became {kept}");
                assert!((kept - u).abs() <= u.abs() / 128.0 + f32::MIN_POSITIVE, "{u} became {kept}");
                let nearest = bf16::from_f32(u).to_f32();
                assert!(
                    kept == nearest || fires(nearest) != fires(u),
                    "{u} at {theta}: {kept}, not {nearest}"
                );
            }
        }
        assert!(shorten(f32::NAN, false, 1.0, true).is_nan());
        assert_eq!(shorten(-0.0, false, 1.0, true).to_bits(), 0x8000);
    }
}
