//! Scales a layer by what a batch of data does in it: the arithmetic; running the batch is the caller's.
//!
//! Two rules. [`rms_gain`] sets the root mean square of the drive of each channel to a share of the threshold, which
//! costs one pass. [`rate_gain`] searches the one gain at which the layer fires at a given rate.

use crate::error::{Error, Result};

/// The mean firing rate that [`rate_gain`] is as a rule asked for, in spikes per neuron and step.
pub const DEFAULT_RATE: f64 = 0.05;

/// Gains at which the drive of each channel (or neuron) has the root mean square `target`.
///
/// `squares[c]` is the sum over a calibration batch of the squared drive of channel `c` (weights and bias, gain 1),
/// of `count` drives. A channel that nothing drives keeps gain 1. Random convolutions want 0.5 to 0.8 of the threshold
/// (measured on MNIST).
///
/// ```
/// // Drives 3, 4 and 0, 0: r.m.s. √12.5 and 0.
/// let gain = ransnn::snn::calibrate::rms_gain(&[25.0, 0.0], 2, 0.5)?;
/// assert_eq!(gain, [(0.5 / 12.5f64.sqrt()) as f32, 1.0]);
/// # Ok::<(), ransnn::Error>(())
/// ```
///
/// # Errors
/// [`Error::Value`] where the batch is empty, `target` is not above 0, or a sum is negative or not finite.
pub fn rms_gain(squares: &[f64], count: u64, target: f64) -> Result<Vec<f32>> {
    if count == 0 {
        return Err(Error::value("calibration batch", "empty", "at least one sample"));
    }
    if !(target > 0.0 && target.is_finite()) {
        return Err(Error::value("target of the drive", target, "above 0"));
    }
    let gain = |(channel, &sum): (usize, &f64)| {
        if !(sum >= 0.0 && sum.is_finite()) {
            return Err(Error::value(
                format!("squared drive of channel {channel}"),
                sum,
                "finite and at least 0",
            ));
        }
        let gain = target / (sum / count as f64).sqrt();
        // A drive below what f32 can scale up is none.
        Ok(if gain <= f64::from(f32::MAX) { gain as f32 } else { 1.0 })
    };
    squares.iter().enumerate().map(gain).collect()
}

/// A gain found by [`rate_gain`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuned {
    /// The gain.
    pub gain: f32,
    /// The mean rate at it.
    pub rate: f64,
    /// How often the batch was run.
    pub runs: usize,
}

/// Bisects for the gain at which `rate(gain)`, the mean number of spikes per neuron and step over a calibration batch,
/// is `target` ± `tolerance`. Starts at gain 1 and looks from 2⁻²⁰ to 2²⁰.
///
/// ```
/// use ransnn::snn::calibrate::rate_gain;
/// let tuned = rate_gain(0.05, 0.001, |gain| Ok(1.0 - (-0.3 * f64::from(gain)).exp()))?;
/// assert!((tuned.rate - 0.05).abs() <= 0.001);
/// # Ok::<(), ransnn::Error>(())
/// ```
///
/// # Errors
/// [`Error::Value`] that says which rates can be reached, where the target is not among them; whatever `rate` fails
/// with.
pub fn rate_gain(target: f64, tolerance: f64, mut rate: impl FnMut(f32) -> Result<f64>) -> Result<Tuned> {
    if !(target > 0.0 && target.is_finite()) {
        return Err(Error::value("target rate", target, "above 0"));
    }
    if tolerance.is_nan() || tolerance <= 0.0 {
        return Err(Error::value("tolerance of the rate", tolerance, "above 0"));
    }
    let mut runs = 0;
    let mut at = |exponent: f64| -> Result<Tuned> {
        runs += 1;
        let gain = exponent.exp2() as f32;
        Ok(Tuned { gain, rate: rate(gain)?, runs })
    };
    let hit = |tuned: &Tuned| (tuned.rate - target).abs() <= tolerance;
    // Widen from gain 1 in the direction of the target until it lies between two gains. Exponents are of 2.
    let first = at(0.0)?;
    if hit(&first) {
        return Ok(first);
    }
    let direction = if first.rate < target { 1.0f64 } else { -1.0 };
    let (mut near, mut far) = ((0.0f64, first), (0.0f64, first));
    while (far.1.rate < target) == (direction > 0.0) {
        near = far;
        let next = near.0 + direction * if near.0 == 0.0 { 1.0 } else { near.0.abs().min(4.0) };
        if next.abs() > 20.0 {
            return Err(unreachable(target, first, near.1));
        }
        far = (next, at(next)?);
        if hit(&far.1) {
            return Ok(far.1);
        }
    }
    while (far.0 - near.0).abs() > 1e-6 {
        let middle = 0.5 * (near.0 + far.0);
        let tuned = at(middle)?;
        if hit(&tuned) {
            return Ok(tuned);
        }
        if (tuned.rate < target) == (direction > 0.0) {
            near = (middle, tuned)
        } else {
            far = (middle, tuned)
        }
    }
    // The rate jumps over the target: few neurons, or a batch of equal samples.
    Err(unreachable(target, near.1, far.1))
}

fn unreachable(target: f64, a: Tuned, b: Tuned) -> Error {
    let (low, high) = if a.rate <= b.rate { (a, b) } else { (b, a) };
    Error::value(
        "target rate",
        target,
        format!(
            "one that the layer can reach: gain {} gives {:.6}, gain {} gives {:.6} spikes per neuron and step",
            low.gain, low.rate, high.gain, high.rate
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snn::{Neuron, neurons::Lif};

    #[test]
    fn scaled_drives_have_the_target() {
        let drives = [[1.0, -2.0, 0.5], [10.0, 0.0, -30.0]];
        let squares: Vec<f64> = drives.iter().map(|d| d.iter().map(|x| x * x).sum()).collect();
        let gain = rms_gain(&squares, 3, 0.7).unwrap();
        for (drive, gain) in drives.iter().zip(gain) {
            let rms = (drive.iter().map(|x| (x * f64::from(gain)).powi(2)).sum::<f64>() / 3.0).sqrt();
            assert!((rms - 0.7).abs() < 1e-6, "{rms}");
        }
        assert!(rms_gain(&[1.0], 0, 0.7).is_err());
        assert!(rms_gain(&[f64::NAN], 1, 0.7).is_err());
        assert!(rms_gain(&[1.0], 1, -1.0).is_err());
    }

    /// Mean rate of 400 LIF neurons with constant currents spread evenly over −1..=1.
    fn layer(gain: f32) -> f64 {
        let input: Vec<f32> = (0..400).map(|i| gain * (i as f32 / 200.0 - 1.0)).collect();
        let (mut u, mut spikes, mut total) = (vec![0.0; 400], vec![0; 400], 0u64);
        for _ in 0..25 {
            Lif::default().step(&input, &mut [&mut u], &mut spikes);
            total += spikes.iter().map(|&s| u64::from(s)).sum::<u64>();
        }
        total as f64 / (400.0 * 25.0)
    }

    #[test]
    fn rate_is_reached_from_above_and_below() {
        for target in [0.002, 0.05, 0.3, 0.45] {
            let tuned = rate_gain(target, 0.001, |gain| Ok(layer(gain))).unwrap();
            assert!((layer(tuned.gain) - target).abs() <= 0.001, "{target}: {tuned:?}");
            assert!(tuned.runs < 40);
        }
    }

    #[test]
    fn unreachable_rates_say_what_can_be_reached() {
        // Half of the neurons are inhibited: no gain makes more than half of them fire.
        let error = rate_gain(0.9, 0.01, |gain| Ok(layer(gain))).unwrap_err().to_string();
        assert!(error.contains("0.9") && error.contains("gives 0.4"), "{error}");
        // A step function.
        let error = rate_gain(0.5, 0.1, |gain| Ok(f64::from(u8::from(gain > 3.0)))).unwrap_err().to_string();
        assert!(error.contains("gives 0.0") && error.contains("gives 1.0"), "{error}");
        assert!(rate_gain(0.5, 0.1, |_| Err(Error::Internal("x".into()))).is_err());
        assert!(rate_gain(f64::NAN, 0.1, |_| Ok(0.5)).is_err());
    }
}
