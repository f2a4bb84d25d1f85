//! Random spikes from outside: a pure function of seed, name, step and neuron.

use crate::rng::Stream;

/// Numbers of spikes in a step, by the inverse of their distribution at 32 bits.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Poisson {
    pub stream: Stream,
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

    /// Counts of neurons `first..first + counts.len()` in a step. Word `j` of the random block at counter
    /// `(8 g + i, step)` belongs to neuron `32 g + 8 j + i`.
    #[inline(always)]
    pub fn draw(&self, step: u64, first: u32, counts: &mut [u16]) {
        let mut at = 0;
        while at < counts.len() {
            let neuron = first + at as u32;
            let drawn = self.some(neuron / 32, step);
            let from = neuron as usize % 32;
            let len = (4 * LANES - from).min(counts.len() - at);
            counts[at..at + len].copy_from_slice(&drawn[from..from + len]);
            at += len;
        }
    }

    /// Counts of neurons from `32 group` on.
    #[inline(always)]
    fn some(&self, group: u32, step: u64) -> [u16; 4 * LANES] {
        let words = blocks(self.stream.key(), 8 * group, step);
        let mut counts = [[0u32; LANES]; 4];
        let largest = words.as_flattened().iter().fold(0, |a, &b| a.max(b));
        for &edge in &self.cumulative {
            if largest < edge {
                break; // edges ascend: no word reaches the others
            }
            for (count, &word) in counts.as_flattened_mut().iter_mut().zip(words.as_flattened()) {
                *count += u32::from(word >= edge);
            }
        }
        let mut ordered = [0; 4 * LANES];
        for (j, counts) in counts.iter().enumerate() {
            for (group, counts) in counts.chunks_exact(8).enumerate() {
                let at = 32 * group + 8 * j;
                ordered[at..at + 8].iter_mut().zip(counts).for_each(|(to, &count)| *to = count as u16);
            }
        }
        ordered
    }
}

/// Random blocks that are drawn together: enough that the loops over them become vector instructions.
const LANES: usize = 32;

/// Philox blocks at consecutive counters: `[word][block]`, as [`crate::rng::philox`].
#[allow(clippy::needless_range_loop)] // four rows at one index
#[inline(always)]
fn blocks(key: [u32; 2], first: u32, step: u64) -> [[u32; LANES]; 4] {
    // In the lower halves of wide lanes, whose products then need no conversion.
    let mut c: [[u64; LANES]; 4] = [[0; LANES], [step & LOW; LANES], [step >> 32; LANES], [0; LANES]];
    for (i, lane) in c[0].iter_mut().enumerate() {
        *lane = first.wrapping_add(i as u32).into();
    }
    let mut key = key;
    for _ in 0..10 {
        let [key0, key1] = key.map(u64::from);
        for i in 0..LANES {
            let product0 = 0xD251_1F53 * (c[0][i] & LOW);
            let product1 = 0xCD9E_8D57 * (c[2][i] & LOW);
            (c[0][i], c[1][i]) = ((product1 >> 32) ^ c[1][i] ^ key0, product1);
            (c[2][i], c[3][i]) = ((product0 >> 32) ^ c[3][i] ^ key1, product0);
        }
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    let mut words = [[0; LANES]; 4];
    for (word, &lane) in words.as_flattened_mut().iter_mut().zip(c.as_flattened()) {
        *word = lane as u32;
    }
    words
}

const LOW: u64 = 0xFFFF_FFFF;

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
        let (mut whole, mut piece) = (vec![0; 300], vec![0; 213]);
        poisson.draw(9, 0, &mut whole);
        poisson.draw(9, 17, &mut piece);
        assert_eq!(whole[17..230], piece);
        assert!(whole.iter().any(|&n| n > 1));
    }

    #[test]
    #[allow(clippy::needless_range_loop)] // the other index
    fn lanes_are_the_generator() {
        let stream = Stream::named(3, "x");
        let words = blocks(stream.key(), 40, (7 << 32) | 5);
        for i in 0..LANES {
            let block = stream.block([40 + i as u32, 5, 7, 0]);
            assert_eq!(block, std::array::from_fn(|j| words[j][i]));
        }
    }
}
