//! snnTorch's `Alpha`: the membrane potential is the difference of two exponential traces of the input.
//!
//! ```text
//! e ← α e + x          n ← β n − x          u ← κ (e + n),   κ = ln α / (ln β − ln α) + 1
//! ```
//!
//! A spike in the step before clears them (`zero`), or (`subtract`) takes θ from `e`, clears `n`, and adds the `n` of
//! before to `u`: the library's rule, reproduced to the letter.

use super::lif::Reset;
use crate::error::{Error, Result};
use crate::snn::neuron::{Neuron, Param, StateSpec};
use serde::{Deserialize, Serialize};

/// snnTorch's alpha-function neuron. State: membrane potential, excitatory trace, inhibitory trace.
///
/// ```
/// use ransnn::snn::{Neuron, neurons::Alpha};
/// assert!(Alpha::new(0.85, 0.6).validate().is_ok());
/// assert!(Alpha::new(0.6, 0.85).validate().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alpha {
    /// Factor on the excitatory trace per step, α.
    pub alpha: f32,
    /// Factor on the inhibitory trace per step, β < α.
    pub beta: f32,
    /// Firing threshold θ.
    pub threshold: f32,
    /// Subtract, to 0, or none; acts one step late.
    pub reset: Reset,
}

impl Alpha {
    /// snnTorch's `Alpha(alpha, beta)`: threshold 1, subtracting.
    pub fn new(alpha: f32, beta: f32) -> Self {
        Self { alpha, beta, threshold: 1.0, reset: Reset::Subtract }
    }
}

impl Neuron for Alpha {
    fn kind(&self) -> &'static str {
        "alpha"
    }

    fn params(&self) -> Vec<Param> {
        let tiny = f32::MIN_POSITIVE.into();
        vec![
            Param::ranged("alpha", self.alpha, tiny, 1.0, "factor on the excitatory trace per step"),
            Param::ranged("beta", self.beta, tiny, 1.0, "factor on the inhibitory trace per step"),
            Param::positive("threshold", self.threshold, "firing threshold"),
        ]
    }

    fn state(&self) -> Vec<StateSpec> {
        let trace = |name| StateSpec { name, unit: "1", initial: 0.0 };
        vec![StateSpec::membrane(0.0), trace("excitatory trace"), trace("inhibitory trace")]
    }

    fn step(&self, input: &[f32], state: &mut [&mut [f32]], spikes: &mut [u8]) {
        let [membrane, excitatory, inhibitory] = state else { return };
        let factor = self.alpha.ln() / (self.beta.ln() - self.alpha.ln()) + 1.0;
        let traces = excitatory.iter_mut().zip(inhibitory.iter_mut());
        for (((u, (e, n)), &x), s) in membrane.iter_mut().zip(traces).zip(input).zip(spikes) {
            let fired_before = *u > self.threshold;
            let n_before = *n;
            *e = self.alpha * *e + x;
            *n = self.beta * *n - x;
            *u = factor * (*e + *n);
            if fired_before {
                match self.reset {
                    Reset::Subtract => {
                        *e -= self.threshold;
                        *n = 0.0;
                        *u += n_before;
                    }
                    Reset::To(_) => (*e, *n, *u) = (0.0, 0.0, 0.0),
                    Reset::None => {}
                }
            }
            *s = (*u > self.threshold).into();
        }
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn validate(&self) -> Result<()> {
        self.params().iter().try_for_each(Param::check)?;
        match self.reset {
            Reset::To(value) if value != 0.0 => Err(Error::value("reset", value, "0, as in snnTorch")),
            _ if self.alpha <= self.beta => {
                Err(Error::value("alpha", self.alpha, format!("above beta, {}", self.beta)))
            }
            _ => Ok(()),
        }
    }
}
