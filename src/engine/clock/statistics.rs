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
    /// Variance of the population's spike count in bins of 2 ms over its mean: 1 for independent Poisson neurons.
    pub fano: Option<f64>,
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
        }
    }
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
    fn silence_has_no_statistics() {
        let s = Statistics::of(&SpikeTrain::default(), 5, 0, 1000, Ms(0.1));
        assert_eq!((s.rate, s.cv, s.correlation, s.fano), (Hz(0.0), None, None, None));
    }
}
