//! Neurons without synaptic dynamics: the perfect integrator that fires (NIR `IF`, the "IF" of the textbooks) and the
//! leaky one that does not (NIR `LI`, Norse `LICell` without a current), in physical units.
//!
//! ```text
//! C v̇ = −C/τ (v − E_L) + I_e + x_c
//!
//! v ← v + λ (E_L − v) + P_0 (I_e + x_c) + x_j          (held while refractory; λ = 0 without a leak)
//! s ← v ≥ V_th;   v ← V_reset where s                  (where there is a threshold)
//! ```

use super::physical::{
    at, both_precisions, finite, held, membrane, not_negative, positive, refractory_steps,
};
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

    fn run<R: Real>(&self, inputs: &[&[R]], state: &mut [&mut [R]], spikes: &mut [u8]) {
        let [membrane, left] = state else { return };
        let (h, leak) = (self.dt.0, self.tau_mem.map_or(0.0, |tau| 1.0 / tau.0));
        let to_rest = R::of(-(-h * leak).exp_m1());
        let per_current = R::of(constant_response(h, leak) / self.capacitance);
        let (rest, reset, current) = (R::of(self.rest), R::of(self.reset), R::of(self.current));
        let threshold = self.threshold.map(R::of);
        let pause = refractory_steps(self.refractory, self.dt);
        for (n, spike) in spikes.iter_mut().enumerate() {
            *spike = 0;
            if held(&mut left[n]) {
                continue;
            }
            let v = membrane[n];
            let v = v + to_rest * (rest - v) + per_current * (current + at(inputs, 1, n)) + at(inputs, 0, n);
            let fires = threshold.is_some_and(|threshold| v >= threshold);
            membrane[n] = if fires { reset } else { v };
            if fires {
                left[n] = pause;
                *spike = 1;
            }
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
