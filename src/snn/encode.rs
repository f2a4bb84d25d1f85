//! How numbers become spikes or currents.
//!
//! Intensities lie in 0 to 1; 8-bit ones mean `value / 255`.
//!
//! | encoding | input `j` of a sample, intensity `x` | as in |
//! |---|---|---|
//! | constant | current `w · x` in every step, no spikes | direct coding |
//! | Bernoulli | fires in each step with probability `gain · x` | snnTorch `spikegen.rate` |
//! | latency | fires once, at step `round((1 − x)(T − 1))`, ties to even; never for `x = 0` | snnTorch `spikegen.latency(linear=True, tau=T-1)` |
//! | frames | fires in each step in which its number is above 0: a sample is `[steps, inputs]` | recordings of event cameras |
//! | delta | fires when its signal rose by at least `threshold` since the step before | snnTorch `spikegen.delta` |
//!
//! The random numbers of the Bernoulli encoder are a pure function of (stream, sample, step, input), so that every
//! device, batch size and thread count draws the same: input `j` at step `t` of sample `s` uses the 16-bit word
//! `j % 8` of `stream.block([j / 8, t, s, s >> 32])`, whose four words split into eight, low half first. It fires
//! when that word is less than [`bernoulli_threshold`].

use crate::{
    error::{Error, Result},
    rng::Stream,
};
use serde::{Deserialize, Serialize};

/// A way to present a sample to a network. See the [module](self) for the formulas.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Encoding {
    /// The intensities act as currents, the same in every step.
    Constant {
        /// Steps to run.
        steps: usize,
    },
    /// Random spikes, independent in each step.
    Bernoulli {
        /// Steps to run.
        steps: usize,
        /// Factor on the intensity; the probability is cut off at 1.
        #[serde(default = "one")]
        gain: f32,
    },
    /// One spike per input, early for strong inputs.
    Latency {
        /// Steps to run.
        steps: usize,
    },
    /// Spikes that are given. A sample is `[steps, inputs]`: above 0 where an input fires.
    Frames {
        /// Steps to run, and values per input.
        steps: usize,
    },
    /// Changes of a signal. A sample is `[steps, signals]`; the value before the first is 0.
    Delta {
        /// Steps to run, and values per signal.
        steps: usize,
        /// Least change that makes a spike.
        threshold: f32,
        /// Falls fire too, through a second half of the inputs: `signals + j`.
        #[serde(default)]
        off: bool,
    },
}

fn one() -> f32 {
    1.0
}

impl Encoding {
    /// Steps that the network runs for each sample.
    pub fn steps(&self) -> usize {
        match *self {
            Self::Constant { steps }
            | Self::Bernoulli { steps, .. }
            | Self::Latency { steps }
            | Self::Frames { steps }
            | Self::Delta { steps, .. } => steps,
        }
    }

    /// Numbers in one sample for a network with `inputs` input neurons.
    pub fn sample_len(&self, inputs: usize) -> usize {
        match *self {
            Self::Delta { steps, off, .. } => steps * if off { inputs / 2 } else { inputs },
            Self::Frames { steps } => steps * inputs,
            _ => inputs,
        }
    }

    /// Whether inputs are currents and not spikes.
    pub fn is_constant(&self) -> bool {
        matches!(self, Self::Constant { .. })
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// A gain that is negative or not finite, or a threshold that is not positive.
    pub fn validate(&self) -> Result<()> {
        match *self {
            Self::Bernoulli { gain, .. } if !(gain.is_finite() && gain >= 0.0) => {
                Err(Error::value("gain of the Bernoulli encoder", gain, "finite and not negative"))
            }
            Self::Delta { threshold, .. } if !(threshold.is_finite() && threshold > 0.0) => {
                Err(Error::value("threshold of the delta encoder", threshold, "finite and above 0"))
            }
            _ => Ok(()),
        }
    }
}

/// `round(p · 65536)` for `p = gain · x` within 0 to 1: an input fires when a random 16-bit word is less.
///
/// ```
/// use ransnn::snn::encode::bernoulli_threshold;
/// assert_eq!([0.0, 0.5, 1.0, 9.0].map(|x| bernoulli_threshold(x, 1.0)), [0, 32768, 65536, 65536]);
/// ```
pub fn bernoulli_threshold(x: f32, gain: f32) -> u32 {
    // In f64 the product of two f32 is exact: nobody who repeats this can round differently.
    ((f64::from(x) * f64::from(gain)).clamp(0.0, 1.0) * 65536.0).round() as u32
}

/// Whether an input fires: the definition, one draw at a time. The engine does the same in bulk.
pub fn bernoulli(stream: &Stream, threshold: u32, sample: u64, step: u32, input: u32) -> bool {
    let words = stream.block([input / 8, step, sample as u32, (sample >> 32) as u32]);
    let k = input as usize % 8;
    u32::from((words[k / 2] >> (16 * (k % 2))) as u16) < threshold
}

/// The step in which an input of intensity `x` fires, if it does.
pub fn latency(x: f32, steps: usize) -> Option<usize> {
    (x > 0.0 && steps > 0).then(|| ((1.0 - x.min(1.0)) * (steps - 1) as f32).round_ties_even() as usize)
}

/// The change of a signal: 1 for a rise of at least `threshold`, −1 for such a fall, else 0.
pub fn delta(before: f32, now: f32, threshold: f32) -> i8 {
    let change = now - before;
    i8::from(change >= threshold) - i8::from(change <= -threshold)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bernoulli_rates_are_within_bounds() {
        let stream = Stream::named(3, "encode/input/train/0");
        for p in [0.1f32, 0.5, 0.9] {
            let (n, threshold) = (40_000u32, bernoulli_threshold(p, 1.0));
            let fired = (0..n).filter(|&i| bernoulli(&stream, threshold, 5, i / 100, i % 100)).count();
            let (mean, deviation) = (f64::from(p), (f64::from(p * (1.0 - p)) / f64::from(n)).sqrt());
            assert!((fired as f64 / f64::from(n) - mean).abs() < 4.0 * deviation, "{p}: {fired}");
        }
        assert!((0..999).all(|i| bernoulli(&stream, 65536, 0, 0, i) && !bernoulli(&stream, 0, 0, 0, i)));
    }

    #[test]
    fn latency_is_linear_and_silent_at_zero() {
        assert_eq!(latency(1.0, 10), Some(0));
        assert_eq!(latency(0.5, 10), Some(4)); // 4.5, ties to even
        assert_eq!(latency(1e-6, 10), Some(9));
        assert_eq!([0.0, -1.0, f32::NAN].map(|x| latency(x, 10)), [None; 3]);
        assert_eq!(latency(1.0, 0), None);
    }

    #[test]
    fn delta_fires_at_the_threshold() {
        assert_eq!([0.25, -0.25, 0.24].map(|x| delta(0.0, x, 0.25)), [1, -1, 0]);
    }

    #[test]
    fn parameters_are_checked() {
        assert!(Encoding::Bernoulli { steps: 1, gain: f32::NAN }.validate().is_err());
        assert!(Encoding::Delta { steps: 1, threshold: 0.0, off: false }.validate().is_err());
        assert!(Encoding::Bernoulli { steps: 0, gain: 1.0 }.validate().is_ok());
    }
}
