//! Thresholds of the neurons: what rate 1 stands for.

use super::ann::Layer;
use crate::error::{Error, Result};
use crate::parallel;

/// How thresholds are found from activations on a calibration batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Thresholds {
    /// `factor` times the percentile of all activations, zeros included, interpolated linearly (Diehl et al. 2015, 100;
    /// Rueckauer et al. 2017, 99.9).
    Percentile {
        /// From 0 to 100.
        percent: f64,
        /// 1 as a rule.
        factor: f64,
    },
    /// Twice the mean activation: one pass of SpikingJelly's local threshold balancing from 0.
    TwiceMean,
    /// The trained thresholds of QCFS activations (Bu et al. 2022).
    Qcfs,
    /// The candidate `largest · (1 − i / 100)` with the least squared error of `θ clip(⌊a T / θ + ½⌋ / T, 0, 1)` (Li et
    /// al. 2021).
    LeastSquares {
        /// T.
        steps: usize,
    },
}

/// As SpikingJelly: a neuron that was never active fires at once where it becomes so, and its spikes weigh nothing.
const SMALLEST: f64 = 1e-6;
const CANDIDATES: usize = 95;

impl Thresholds {
    /// Thresholds of one layer, one or one per channel, from activations `[samples, channels, inner]`.
    pub(super) fn of(
        self,
        name: &str,
        activation: &Layer,
        values: &[f32],
        [channels, inner]: [usize; 2],
        per_channel: bool,
    ) -> Result<Vec<f32>> {
        if let Self::Qcfs = self {
            return match activation {
                Layer::Qcfs { theta, .. } => Ok(vec![theta.to_scalar()? as f32]),
                _ => Err(Error::Network(vec![format!(
                    "the activation after `{name}` has no trained threshold"
                )])),
            };
        }
        let one = |mut values: Vec<f32>| -> Result<f32> {
            if values.is_empty() || values.iter().any(|x| !x.is_finite()) {
                return Err(Error::value(
                    format!("activations after `{name}`"),
                    "none, or not finite",
                    "finite numbers",
                ));
            }
            let theta = match self {
                Self::Percentile { percent, factor } => factor * percentile(&mut values, percent)?,
                Self::TwiceMean => {
                    2.0 * values.iter().map(|&x| f64::from(x)).sum::<f64>() / values.len() as f64
                }
                Self::LeastSquares { steps } => least_squares(&values, steps),
                Self::Qcfs => 1.0,
            };
            Ok(theta.max(SMALLEST) as f32)
        };
        if !per_channel {
            return Ok(vec![one(values.to_vec())?]);
        }
        let of_channel = |c: usize| {
            let images = values.chunks_exact(channels * inner);
            one(images.flat_map(|image| &image[c * inner..(c + 1) * inner]).copied().collect())
        };
        parallel::map(channels, of_channel).into_iter().collect()
    }
}

fn percentile(values: &mut [f32], percent: f64) -> Result<f64> {
    if !(0.0..=100.0).contains(&percent) {
        return Err(Error::value("percentile", percent, "between 0 and 100"));
    }
    let place = percent / 100.0 * (values.len() - 1) as f64;
    let (lower, share) = (place.floor() as usize, place.fract());
    let (_, &mut low, above) = values.select_nth_unstable_by(lower, f32::total_cmp);
    let next = above.iter().copied().min_by(f32::total_cmp).unwrap_or(low);
    Ok(f64::from(low) + share * (f64::from(next) - f64::from(low)))
}

fn least_squares(values: &[f32], steps: usize) -> f64 {
    let largest = f64::from(values.iter().copied().fold(0.0, f32::max));
    // A few thousand values say as much as all.
    let some: Vec<f64> = values
        .iter()
        .step_by(values.len().div_ceil(20_000))
        .map(|&x| x.into())
        .filter(|&x| x > 0.0)
        .collect();
    let t = steps as f64;
    let error = |theta: f64| {
        let miss = |a: f64| a - theta * ((a * t / theta + 0.5).floor() / t).clamp(0.0, 1.0);
        some.iter().map(|&a| miss(a).powi(2)).sum::<f64>()
    };
    let candidates = (0..CANDIDATES).map(|i| largest * (1.0 - 0.01 * i as f64)).filter(|&theta| theta > 0.0);
    candidates
        .map(|theta| (error(theta), theta))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(0.0, |best| best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_interpolate() {
        let mut values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(percentile(&mut values, 100.0).unwrap(), 4.0);
        assert_eq!(percentile(&mut values, 50.0).unwrap(), 2.5);
        assert_eq!(percentile(&mut values, 0.0).unwrap(), 1.0);
        assert!(percentile(&mut values, 101.0).is_err());
    }

    #[test]
    fn least_squares_clips_an_outlier() {
        let mut values: Vec<f32> = (0..1000).map(|i| (i % 100) as f32 / 100.0).collect();
        values.push(3.0);
        let (few, many) = (least_squares(&values, 4), least_squares(&values, 64));
        assert!(few < 1.5 && many > few, "{few} {many}");
    }
}
