//! Random spikes from outside: a pure function of seed, name, step and neuron.

use crate::rng::Stream;

/// Numbers of spikes in a step, by the inverse of their distribution at 32 bits.
#[derive(Clone, Debug)]
pub(super) struct Poisson {
    stream: Stream,
    /// `P(count ≤ k) · 2³²`: the number of entries that a random word reaches is the count.
    pub cumulative: Vec<u32>,
}

impl Poisson {
    /// Counts with this mean, from a stream of that name.
    pub fn new(seed: u64, name: &str, mean: f64) -> Self {
        let mut cumulative = Vec::new();
        let (mut term, mut sum) = ((-mean).exp(), 0.0);
        for k in 0.. {
            sum += term;
            let scaled = (sum * 4_294_967_296.0).round();
            if scaled >= 4_294_967_296.0 || k > 10_000 {
                break;
            }
            cumulative.push(scaled as u32);
            // Behind the mean the tail must end, even where the sum falls short of 1 by rounding.
            if k as f64 > mean && term < 1e-12 {
                break;
            }
            term *= mean / f64::from(k + 1);
        }
        Self { stream: Stream::named(seed, name), cumulative }
    }

    /// Counts of neurons `first..first + counts.len()` in a step.
    pub fn draw(&self, step: u64, first: u32, counts: &mut [u16]) {
        let mut words = [0; 4];
        let mut held = u32::MAX;
        for (i, count) in counts.iter_mut().enumerate() {
            let neuron = first + i as u32;
            if held != neuron / 4 {
                held = neuron / 4;
                words = self.stream.block([held, step as u32, (step >> 32) as u32, 0]);
            }
            let word = words[neuron as usize % 4];
            *count = self.cumulative.iter().map(|&edge| u16::from(word >= edge)).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_mean_and_variance_of_their_distribution() {
        for mean in [0.0, 0.01, 2.0, 30.0] {
            let poisson = Poisson::new(1, "drive", mean);
            let mut counts = vec![0; 1003];
            let all: Vec<f64> = (0..200)
                .flat_map(|step| {
                    poisson.draw(step, 5, &mut counts);
                    counts.iter().map(|&n| f64::from(n)).collect::<Vec<_>>()
                })
                .collect();
            let n = all.len() as f64;
            let got = all.iter().sum::<f64>() / n;
            let variance = all.iter().map(|x| (x - got).powi(2)).sum::<f64>() / n;
            assert!((got - mean).abs() <= 4.0 * (mean / n).sqrt(), "{mean}: {got}");
            let spread = ((mean + 2.0 * mean * mean) / n).sqrt();
            assert!((variance - mean).abs() <= 5.0 * spread, "{mean}: {variance}");
        }
    }

    #[test]
    fn pieces_draw_what_the_whole_does() {
        let poisson = Poisson::new(1, "drive", 1.3);
        let (mut whole, mut piece) = (vec![0; 50], vec![0; 13]);
        poisson.draw(9, 0, &mut whole);
        poisson.draw(9, 17, &mut piece);
        assert_eq!(whole[17..30], piece);
        assert!(whole.iter().any(|&n| n > 1));
    }
}
