//! Neurons without synaptic dynamics: the perfect integrator that fires (NIR `IF`, the "IF" of the textbooks) and the
//! leaky one that does not (NIR `LI`, Norse `LICell` without a current), in physical units.
//!
//! ```text
//! C v̇ = −C/τ (v − E_L) + I_e + x_c
//!
//! v ← v + λ (E_L − v) + P_0 (I_e + x_c) + x_j          (held while refractory; λ = 0 without a leak)
//! s ← v ≥ V_th;   v ← V_reset where s                  (where there is a threshold)
//! ```

use super::lanes::{Lane, Lanes};
use super::physical::{both_precisions, finite, held, membrane, not_negative, positive, refractory_steps};
use crate::error::{Error, Result};
use crate::snn::linear::{Kernel, Linear, constant_response};
use crate::snn::neuron::{Neuron, Param, StateSpec};
use crate::snn::real::Real;
use crate::units::Ms;
use serde::{Deserialize, Serialize};

/// An integrator. Receptors: `jump` (mV, added to the membrane in the step), `current` (pA, during the step). State:
/// membrane potential, refractory steps left.
///
/// ```
/// use ransnn::snn::{Neuron, neurons::Integrator};
/// use ransnn::units::Ms;
/// assert_eq!(Integrator::fire(Ms(0.1)).kind(), "integrate-fire");
/// assert_eq!(Integrator::leaky(Ms(20.0), Ms(0.1)).kind(), "leaky-integrator");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Integrator {
    /// Time constant of the membrane; `None` without a leak.
    pub tau_mem: Option<Ms>,
    /// Capacitance C in pF.
    pub capacitance: f64,
    /// Resting potential E_L, and the initial one, in mV.
    pub rest: f64,
    /// Threshold V_th in mV; `None` for an integrator that never fires.
    pub threshold: Option<f64>,
    /// Potential after a spike, V_reset, in mV.
    pub reset: f64,
    /// Refractory period.
    pub refractory: Ms,
    /// Constant current I_e in pA.
    pub current: f64,
    /// Time step.
    pub dt: Ms,
}

impl Integrator {
    /// Integrate-and-fire: no leak, 250 pF, from −70 to −55 mV.
    pub fn fire(dt: Ms) -> Self {
        Self {
            tau_mem: None,
            capacitance: 250.0,
            rest: -70.0,
            threshold: Some(-55.0),
            reset: -70.0,
            refractory: Ms(0.0),
            current: 0.0,
            dt,
        }
    }

    /// A leaky integrator without a threshold, at rest at 0 mV; 250 pF.
    pub fn leaky(tau_mem: Ms, dt: Ms) -> Self {
        Self { tau_mem: Some(tau_mem), rest: 0.0, reset: 0.0, threshold: None, ..Self::fire(dt) }
    }

    fn lanes<R: Real>(&self) -> Step<R> {
        let (h, leak) = (self.dt.0, self.tau_mem.map_or(0.0, |tau| 1.0 / tau.0));
        Step {
            to_rest: R::of(-(-h * leak).exp_m1()),
            per_current: R::of(constant_response(h, leak) / self.capacitance),
            rest: R::of(self.rest),
            reset: R::of(self.reset),
            current: R::of(self.current),
            threshold: R::of(self.threshold.unwrap_or(f64::INFINITY)),
            pause: refractory_steps(self.refractory, self.dt),
        }
    }
}

/// What a step computes with.
struct Step<R> {
    to_rest: R,
    per_current: R,
    rest: R,
    reset: R,
    current: R,
    /// Infinite where there is none.
    threshold: R,
    pause: R,
}

impl<R: Real> Lanes<R, 2, 2> for Step<R> {
    #[inline(always)]
    fn step(&self, n: usize, input: &[Lane<R>; 2], state: &mut [Lane<R>; 2], spikes: &mut Lane<u8>) {
        let [membrane, left] = state;
        let Self { to_rest, per_current, rest, reset, current, threshold, pause } = *self;
        for n in 0..n {
            let before = membrane[n];
            let drive = per_current * (current + input[1][n]);
            let v = before + to_rest * (rest - before) + drive + input[0][n];
            let (held, less) = held(left[n]);
            let fires = !held & (v >= threshold);
            let v = if held { before } else { v };
            membrane[n] = if fires { reset } else { v };
            left[n] = if fires { pause } else { less };
            spikes[n] = fires.into();
        }
    }
}

impl Neuron for Integrator {
    fn kind(&self) -> &'static str {
        if self.threshold.is_some() { "integrate-fire" } else { "leaky-integrator" }
    }

    fn receptors(&self) -> &'static [&'static str] {
        &["jump", "current"]
    }

    fn params(&self) -> Vec<Param> {
        let mut params = vec![
            positive("capacitance", "pF", self.capacitance, "capacitance"),
            finite("rest", "mV", self.rest, "resting and initial potential"),
            finite("reset", "mV", self.reset, "potential after a spike"),
            not_negative("refractory", "ms", self.refractory.0, "refractory period"),
            finite("current", "pA", self.current, "constant current"),
            positive("dt", "ms", self.dt.0, "time step"),
        ];
        params.extend(
            self.tau_mem.map(|tau| positive("tau_mem", "ms", tau.0, "time constant of the membrane")),
        );
        params
            .extend(self.threshold.map(|threshold| finite("threshold", "mV", threshold, "firing threshold")));
        params
    }

    fn state(&self) -> Vec<StateSpec> {
        vec![membrane(self.rest), StateSpec::refractory()]
    }

    fn linear(&self) -> Option<Linear> {
        let gain = 1.0 / self.capacitance;
        Some(Linear {
            tau: self.tau_mem.map_or(f64::INFINITY, |tau| tau.0),
            rest: self.rest,
            drive: self.current * gain,
            threshold: self.threshold.unwrap_or(f64::INFINITY),
            reset: self.reset,
            refractory: self.refractory.0,
            receptors: vec![Kernel::Jump { gain: 1.0 }, Kernel::Constant { gain }],
            adaptation: vec![],
        })
    }

    fn validate(&self) -> Result<()> {
        self.params().iter().try_for_each(Param::check)?;
        match self.threshold {
            Some(threshold) if self.reset >= threshold => {
                Err(Error::value("reset", self.reset, format!("below the threshold, {threshold}")))
            }
            _ => Ok(()),
        }
    }

    both_precisions!();
}
