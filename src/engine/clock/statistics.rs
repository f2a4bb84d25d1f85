//! What is said about the activity of a population: rate, regularity, correlation.

use super::SpikeTrain;
use crate::units::{Hz, Ms};

/// Statistics of a population over a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Mean rate of a neuron.
    pub rate: Hz,
    /// Mean over neurons of the coefficient of variation of the intervals between spikes; neurons with fewer than
    /// five intervals are left out.
    pub cv: Option<f64>,
    /// Mean correlation of the spike counts of pairs of neurons in bins of 2 ms; silent neurons are left out.
    pub correlation: Option<f64>,
    /// Rate of each neuron, in hertz.
    pub rates: Vec<f64>,
    /// Coefficients of variation of the neurons that [`Statistics::cv`] is the mean of.
    pub cvs: Vec<f64>,
    /// Variance of the population's spike count in bins of 2 ms over its mean: 1 for independent Poisson neurons.
    pub fano: Option<f64>,
    /// Where the population's activity, in bins of 1 ms, has most power: by windows of 200 ms, from 10 Hz up.
    pub oscillation: Option<Hz>,
}

/// Neurons among which correlations are computed.
const PAIRED: usize = 250;
/// Least intervals for a coefficient of variation.
const INTERVALS: usize = 5;

impl Statistics {
    /// Of the spikes of `neurons` neurons in steps `from..until`.
    pub fn of(train: &SpikeTrain, neurons: usize, from: u64, until: u64, dt: Ms) -> Self {
        let seconds = until.saturating_sub(from) as f64 * dt.0 / 1000.0;
        let mut counts = vec![0u64; neurons];
        let mut last = vec![None; neurons];
        let mut sums = vec![(0.0f64, 0.0f64, 0usize); neurons];
        let inside = || train.iter().filter(|(step, _)| (from..until).contains(step));
        for (step, neuron) in inside() {
            let n = neuron as usize;
            counts[n] += 1;
            if let Some(before) = last[n].replace(step) {
                let interval = (step - before) as f64;
                let (sum, squares, many) = &mut sums[n];
                (*sum, *squares, *many) = (*sum + interval, *squares + interval * interval, *many + 1);
            }
        }
        let enough = sums.iter().filter(|(.., many)| *many >= INTERVALS);
        let cvs: Vec<f64> = enough
            .map(|&(sum, squares, many)| {
                let mean = sum / many as f64;
                (squares / many as f64 - mean * mean).max(0.0).sqrt() / mean
            })
            .collect();
        let total: u64 = counts.iter().sum();
        let bin = ((2.0 / dt.0).round() as u64).max(1);
        let bins = (until.saturating_sub(from) / bin) as usize;
        let binned = |chosen: &dyn Fn(usize) -> Option<usize>, rows: usize| {
            let mut table = vec![0.0f64; rows * bins];
            for (step, neuron) in inside() {
                let at = ((step - from) / bin) as usize;
                if let (Some(row), true) = (chosen(neuron as usize), at < bins) {
                    table[row * bins + at] += 1.0;
                }
            }
            table
        };
        let active: Vec<usize> = (0..neurons).filter(|&n| counts[n] > 0).take(PAIRED).collect();
        let correlation = (active.len() > 1 && bins > 1).then(|| {
            let table = binned(&|n| active.binary_search(&n).ok(), active.len());
            mean_correlation(&table, bins)
        });
        let all = binned(&|_| Some(0), 1);
        Self {
            rate: Hz(total as f64 / neurons.max(1) as f64 / seconds.max(f64::MIN_POSITIVE)),
            cv: (!cvs.is_empty()).then(|| cvs.iter().sum::<f64>() / cvs.len() as f64),
            correlation: correlation.flatten(),
            rates: counts.iter().map(|&n| n as f64 / seconds.max(f64::MIN_POSITIVE)).collect(),
            fano: (total > 0 && bins > 1).then(|| {
                let (mean, variance) = moments(&all);
                variance / mean
            }),
            oscillation: strongest(train, from, until, dt),
            cvs,
        }
    }
}

/// Milliseconds of a window of the spectrum: 1000 over it is the distance of frequencies.
const WINDOW_MS: usize = 200;

/// The frequency of the largest value of the power spectrum (Welch 1967: windows of Hann that overlap by half).
fn strongest(train: &SpikeTrain, from: u64, until: u64, dt: Ms) -> Option<Hz> {
    let bins = (until.saturating_sub(from) as f64 * dt.0) as usize;
    let mut counts = vec![0.0f64; bins];
    for &step in train.steps.iter().filter(|step| (from..until).contains(step)) {
        if let Some(count) = counts.get_mut(((step - from) as f64 * dt.0 + 1e-9) as usize) {
            *count += 1.0;
        }
    }
    let angle = |i: usize| 2.0 * std::f64::consts::PI * i as f64 / WINDOW_MS as f64;
    let waves: Vec<(f64, f64)> = (0..WINDOW_MS).map(|i| angle(i).sin_cos()).collect();
    let mut power = [0.0f64; WINDOW_MS / 2];
    for start in (0..bins.saturating_sub(WINDOW_MS - 1)).step_by(WINDOW_MS / 2) {
        let window = &counts[start..start + WINDOW_MS];
        let mean = window.iter().sum::<f64>() / WINDOW_MS as f64;
        let hann = |i: usize| 0.5 * (1.0 - waves[i].1);
        let shaped: Vec<f64> = window.iter().enumerate().map(|(i, x)| (x - mean) * hann(i)).collect();
        for (k, power) in power.iter_mut().enumerate() {
            let (mut sine, mut cosine) = (0.0, 0.0);
            for (i, x) in shaped.iter().enumerate() {
                let (s, c) = waves[k * i % WINDOW_MS];
                (sine, cosine) = (sine + s * x, cosine + c * x);
            }
            *power += sine * sine + cosine * cosine;
        }
    }
    // The first lines are the mean and its leakage.
    let best = (2..power.len()).max_by(|&a, &b| power[a].total_cmp(&power[b]))?;
    (power[best] > 0.0).then_some(Hz(best as f64 * 1000.0 / WINDOW_MS as f64))
}

/// Result of a two-sample Kolmogorov–Smirnov test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KolmogorovSmirnov {
    /// Largest distance between the two distributions, 0 to 1.
    pub distance: f64,
    /// Probability of such a distance, or a larger one, of samples from one distribution; by the asymptotic formula
    /// with the correction of Stephens (1970), good from about four values on.
    pub probability: f64,
}

/// Compares two samples: per-neuron rates or CVs of two simulations, for example. `None` for an empty one, or for numbers
/// that are none.
///
/// ```
/// use ransnn::engine::clock::statistics::kolmogorov_smirnov;
/// let test = kolmogorov_smirnov(&[1.0, 2.0, 3.0, 4.0], &[3.0, 4.0, 5.0, 6.0]).expect("numbers");
/// assert_eq!(test.distance, 0.5);
/// ```
pub fn kolmogorov_smirnov(a: &[f64], b: &[f64]) -> Option<KolmogorovSmirnov> {
    if a.is_empty() || b.is_empty() || a.iter().chain(b).any(|x| x.is_nan()) {
        return None;
    }
    let sorted = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_unstable_by(f64::total_cmp);
        values
    };
    let (a, b) = (sorted(a), sorted(b));
    let (n, m) = (a.len() as f64, b.len() as f64);
    let (mut i, mut j, mut distance) = (0, 0, 0.0f64);
    while i < a.len() && j < b.len() {
        let at = a[i].min(b[j]);
        i += a[i..].iter().take_while(|&&x| x <= at).count();
        j += b[j..].iter().take_while(|&&x| x <= at).count();
        distance = distance.max((i as f64 / n - j as f64 / m).abs());
    }
    let root = (n * m / (n + m)).sqrt();
    let probability = kolmogorov_tail((root + 0.12 + 0.11 / root) * distance);
    Some(KolmogorovSmirnov { distance, probability })
}

/// Probability that a variable of Kolmogorov's distribution is above `x`.
fn kolmogorov_tail(x: f64) -> f64 {
    if x < 0.2 {
        return 1.0; // within 1e-11; the series below converges slowly there
    }
    let term = |k: i32| {
        let sign = if k % 2 == 1 { 2.0 } else { -2.0 };
        sign * (-2.0 * f64::from(k * k) * x * x).exp()
    };
    (1..=100).map(term).sum::<f64>().clamp(0.0, 1.0)
}

fn moments(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64)
}

/// Mean over all pairs of rows, from the variance of the sum of the standardised rows: Σᵢⱼ rᵢⱼ = n + 2 Σ pairs.
fn mean_correlation(table: &[f64], bins: usize) -> Option<f64> {
    let mut sum = vec![0.0; bins];
    let mut rows = 0.0;
    for row in table.chunks(bins) {
        let (mean, variance) = moments(row);
        if variance > 0.0 {
            rows += 1.0;
            sum.iter_mut().zip(row).for_each(|(s, v)| *s += (v - mean) / variance.sqrt());
        }
    }
    let all = sum.iter().map(|s| s * s).sum::<f64>() / bins as f64;
    (rows > 1.0).then(|| (all - rows) / (rows * (rows - 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn train(spikes: impl IntoIterator<Item = (u64, u32)>) -> SpikeTrain {
        let mut all: Vec<_> = spikes.into_iter().collect();
        all.sort_unstable();
        let (steps, neurons) = all.into_iter().unzip();
        SpikeTrain { steps, neurons }
    }

    #[test]
    fn clocks_are_regular_and_in_step() {
        let clocks = train((0..100).flat_map(|k| [(k * 10, 0), (k * 10, 1)]));
        let s = Statistics::of(&clocks, 3, 0, 1000, Ms(1.0));
        assert_eq!((s.rate, s.cv), (Hz(200.0 / 3.0), Some(0.0)));
        assert!((s.correlation.expect("two are active") - 1.0).abs() < 1e-12);
        assert_eq!(s.rates, [100.0, 100.0, 0.0]);
    }

    #[test]
    fn alternating_intervals_have_the_cv_of_two_numbers() {
        let times = (0..40u64).map(|k| (k / 2 * 40 + k % 2 * 10, 0));
        let s = Statistics::of(&train(times), 1, 0, 1000, Ms(1.0));
        assert!((s.cv.expect("enough") - 0.5).abs() < 0.02, "{s:?}"); // intervals 10 and 30: 10 / 20
    }

    #[test]
    fn the_oscillation_of_a_population_is_found() {
        // Five neurons, more of which fire in the upper half of a sine; three times a millisecond.
        let of = |hz: f64| {
            let spikes = (0..3000u64).flat_map(|k| {
                let phase = k as f64 / 3000.0 * hz * std::f64::consts::TAU;
                (0..(2.5 + 2.4 * phase.sin()).round() as u32).map(move |n| (k * 10 / 3, n))
            });
            Statistics::of(&train(spikes), 5, 0, 10_000, Ms(0.1)).oscillation
        };
        for hz in [20.0, 40.0, 185.0] {
            assert_eq!(of(hz), Some(Hz(hz)));
        }
        let short = Statistics::of(&train([(0, 0), (50, 0)]), 1, 0, 100, Ms(1.0));
        assert_eq!(short.oscillation, None);
    }

    #[test]
    fn kolmogorov_and_smirnov() {
        let test = |a: &[f64], b: &[f64]| kolmogorov_smirnov(a, b).expect("numbers");
        let same = test(&[1.0, 2.0, 2.0], &[2.0, 1.0, 2.0]);
        assert_eq!((same.distance, same.probability), (0.0, 1.0));
        assert_eq!(test(&[1.0, 2.0], &[3.0, 4.0, 5.0]).distance, 1.0);
        // By hand: after 2, one half against none; after 3, three quarters against one third.
        let by_hand = test(&[1.0, 2.0, 3.0, 9.0], &[3.0, 4.0, 10.0]);
        assert!((by_hand.distance - 0.5).abs() < 1e-12);
        assert_eq!(kolmogorov_smirnov(&[], &[1.0]), None);
        assert_eq!(kolmogorov_smirnov(&[f64::NAN], &[1.0]), None);
        // Tables of Kolmogorov's distribution (Smirnov 1948).
        for (x, tail) in [(0.5, 0.963_945), (1.0, 0.269_999_7), (1.36, 0.049_5), (1.63, 0.009_8)] {
            assert!((kolmogorov_tail(x) - tail).abs() < 2e-4, "{x}: {}", kolmogorov_tail(x));
        }
        assert!(kolmogorov_tail(0.2) > 1.0 - 1e-9);
    }

    #[test]
    fn silence_has_no_statistics() {
        let s = Statistics::of(&SpikeTrain::default(), 5, 0, 1000, Ms(0.1));
        assert_eq!((s.rate, s.cv, s.correlation, s.fano), (Hz(0.0), None, None, None));
    }
}
