//! The rule `gaussian`: neurons on a grid over the unit torus, and whom a source reaches from its place.

use crate::rng::Stream;
use crate::tensor::cpu::math::f64::exp;
use crate::tensor::cpu::wide::{self, Width, Work};

/// Pairs that are looked at together.
const PAIRS: usize = 64;

/// Positions on a grid over the unit torus.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Torus {
    pub height: usize,
    pub width: usize,
}

impl Torus {
    /// `[channels, height, width]`, or neurons on a ring.
    pub fn of(shape: &[usize]) -> Self {
        match *shape {
            [_, height, width] => Self { height, width },
            _ => Self { height: 1, width: shape.iter().product() },
        }
    }

    fn position(&self, neuron: usize) -> [f64; 2] {
        let place = neuron % (self.height * self.width);
        let along = |i: usize, n: usize| (i as f64 + 0.5) / n as f64;
        [along(place / self.width, self.height), along(place % self.width, self.width)]
    }
}

/// Draws the rows of sources.
pub(super) struct Near {
    p_max: f64,
    sigma: f64,
    from: Torus,
    /// Of each target.
    positions: Vec<[f64; 2]>,
}

impl Near {
    pub fn new(p_max: f64, sigma: f64, pre: &[usize], post: &[usize]) -> Self {
        let (from, to) = (Torus::of(pre), Torus::of(post));
        let positions = (0..post.iter().product()).map(|target| to.position(target)).collect();
        Self { p_max, sigma, from, positions }
    }

    /// Appends the targets of a source, each with p_max · exp(−d² / 2σ²); one that is left out of its own row is counted
    /// past. Every pair has its own number, connected or not, so that no pair moves another.
    pub fn row(&self, source: usize, left_out: bool, stream: &Stream, targets: &mut Vec<u32>) {
        let choices = self.positions.len() - usize::from(left_out);
        let mut there = [[0.0; PAIRS]; 2];
        let mut hits = [0u8; PAIRS];
        for first in (0..choices).step_by(PAIRS) {
            let size = (choices - first).min(PAIRS);
            let [ys, xs] = &mut there;
            for (target, (y, x)) in (first..first + size).zip(ys.iter_mut().zip(xs)) {
                [*y, *x] = self.positions[target + usize::from(left_out && target >= source)];
            }
            let here = self.from.position(source);
            let (row, block) = (source as u64, first as u64 / 2);
            wide::run(Pairs { of: self, here, there: &there, stream, row, block, hits: &mut hits });
            targets.extend((0..size).filter(|&i| hits[i] != 0).map(|i| (first + i) as u32));
        }
    }
}

/// Which of some pairs are connected.
struct Pairs<'a> {
    of: &'a Near,
    here: [f64; 2],
    there: &'a [[f64; PAIRS]; 2],
    stream: &'a Stream,
    row: u64,
    block: u64,
    hits: &'a mut [u8; PAIRS],
}

impl Work for Pairs<'_> {
    type Out = ();
    const WIDEST: Width = Width::Avx512;

    #[inline(always)]
    fn run(self) {
        let mut uniform = [0.0; PAIRS];
        self.stream.uniform(self.row, self.block, &mut uniform);
        let Near { p_max, sigma, .. } = *self.of;
        let spread = 2.0 * sigma * sigma;
        // The short way round.
        let along = |a: f64, b: f64| {
            let far = (a - b).abs();
            let short = if far < 1.0 - far { far } else { 1.0 - far };
            short * short
        };
        for (i, hit) in self.hits.iter_mut().enumerate() {
            let squared = along(self.here[0], self.there[0][i]) + along(self.here[1], self.there[1][i]);
            *hit = u8::from(uniform[i] < p_max * exp(-squared / spread));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn pairs_at_once_are_those_of_a_walk() {
        let stream = Stream::named(3, "c");
        for (pre, post) in [(vec![2, 3, 5], vec![1, 9, 15]), (vec![7], vec![64]), (vec![65], vec![65])] {
            let near = Near::new(0.9, 0.3, &pre, &post);
            let (from, to) = (Torus::of(&pre), Torus::of(&post));
            for left_out in [false, pre == post] {
                for source in 0..pre.iter().product() {
                    let mut walk = stream.walk(source as u64);
                    let mut wanted = vec![];
                    for i in 0..post.iter().product::<usize>() - usize::from(left_out) {
                        let target = i + usize::from(left_out && i >= source);
                        let squared: f64 = (from.position(source).iter().zip(to.position(target)))
                            .map(|(a, b)| (a - b).abs().min(1.0 - (a - b).abs()).powi(2))
                            .sum();
                        if walk.random::<f64>() < 0.9 * exp(-squared / (2.0 * 0.3 * 0.3)) {
                            wanted.push(i as u32);
                        }
                    }
                    let mut targets = vec![];
                    near.row(source, left_out, &stream, &mut targets);
                    assert_eq!(targets, wanted, "{pre:?} to {post:?}, {source}");
                    assert!(!targets.is_empty());
                }
            }
        }
    }
}
