//! Poisson trains in continuous time: intervals are drawn from the exponential distribution.

use crate::rng::Stream;
use crate::tensor::cpu::math::f64::ln;

/// Independent trains of one rate, one per neuron.
#[derive(Clone, Debug)]
pub(super) struct Trains {
    stream: Stream,
    /// Mean interval in steps.
    interval: f64,
    /// No spike at or after this time.
    until: f64,
    /// Number of the first neuron.
    first: u32,
    /// Of each neuron: its next spike, and how many it has had.
    pub next: Vec<(f64, u64)>,
}

impl Trains {
    /// Trains of neurons `first..first + neurons` with this many spikes per step, between two times.
    pub fn new(
        stream: Stream,
        per_step: f64,
        times: std::ops::Range<f64>,
        first: u32,
        neurons: usize,
    ) -> Self {
        let interval = if per_step > 0.0 { 1.0 / per_step } else { f64::INFINITY };
        let mut trains =
            Self { stream, interval, until: times.end, first, next: vec![(times.start, 0); neurons] };
        (0..neurons).for_each(|n| trains.step(n));
        trains
    }

    /// Moves neuron `n` to its next spike.
    fn step(&mut self, n: usize) {
        let (time, count) = self.next[n];
        let words = self.stream.block([self.first + n as u32, count as u32, (count >> 32) as u32, 1]);
        // In (0, 1], from 53 bits.
        let bits = u64::from(words[0]) << 21 | u64::from(words[1]) >> 11;
        let uniform = (bits + 1) as f64 / 9_007_199_254_740_992.0;
        let after = time - self.interval * ln(uniform);
        self.next[n] = (if after < self.until { after } else { f64::INFINITY }, count + 1);
    }

    /// Tells `spike` the neurons and times before `end`.
    pub fn draw(&mut self, end: f64, mut spike: impl FnMut(usize, f64)) {
        for n in 0..self.next.len() {
            while self.next[n].0 < end {
                spike(n, self.next[n].0);
                self.step(n);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(trains: &mut Trains, end: f64) -> Vec<(usize, f64)> {
        let mut all = Vec::new();
        trains.draw(end, |n, t| all.push((n, t)));
        all
    }

    #[test]
    fn intervals_are_exponential() {
        let mut trains = Trains::new(Stream::named(1, "drive"), 0.2, 0.0..f64::INFINITY, 0, 50);
        let all = draw(&mut trains, 10_000.0);
        // 100,000 expected; four standard deviations.
        assert!((all.len() as f64 - 1e5).abs() < 4.0 * 1e5f64.sqrt(), "{}", all.len());
        let mut intervals: Vec<f64> =
            all.windows(2).filter(|w| w[0].0 == w[1].0).map(|w| w[1].1 - w[0].1).collect();
        let n = intervals.len() as f64;
        let mean = intervals.iter().sum::<f64>() / n;
        let variance = intervals.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        assert!((variance.sqrt() / mean - 1.0).abs() < 4.0 / n.sqrt() * 2.0, "{mean} {variance}");
        // Kolmogorov–Smirnov at 0.1 %.
        intervals.sort_by(f64::total_cmp);
        let distance =
            intervals.iter().enumerate().map(|(i, x)| ((1.0 - (-x / 5.0).exp()) - i as f64 / n).abs());
        assert!(distance.fold(0.0, f64::max) < 1.95 / n.sqrt());
    }

    #[test]
    fn pieces_of_time_and_of_neurons_draw_the_same() {
        let stream = Stream::named(1, "drive");
        let trains = |first, neurons| Trains::new(stream, 0.1, 10.0..200.0, first, neurons);
        let mut whole = draw(&mut trains(0, 20), 300.0);
        let mut part = trains(5, 10);
        let mut pieces = draw(&mut part, 70.0);
        pieces.extend(draw(&mut part, 300.0));
        assert!(pieces.len() > 100);
        whole.retain(|&(n, _)| (5..15).contains(&n));
        pieces.sort_by_key(|&(n, _)| n);
        assert_eq!(pieces, whole.iter().map(|&(n, t)| (n - 5, t)).collect::<Vec<_>>());
        assert!(whole.iter().all(|&(_, t)| (10.0..200.0).contains(&t)));
        assert!(draw(&mut Trains::new(stream, 0.0, 0.0..f64::INFINITY, 0, 3), 1e6).is_empty());
    }
}
