//! Adaptive exponential integrate-and-fire (Brette & Gerstner, J. Neurophysiol. 94, 2005): NEST `aeif_psc_exp` and
//! `aeif_cond_exp`.
//!
//! ```text
//! C v̇ = −g_L (v − E_L) + g_L Δ_T e^((v − V_T)/Δ_T) − w + I_syn + I_e + x_c          v at most V_peak on the right
//! τ_w ẇ = a (v − E_L) − w
//! I_syn = i_e + i_i   or   g_e (E_e − v) + g_i (E_i − v)          both exponential
//!
//! as often as `substeps` says:
//!     v, w ← one Runge–Kutta step of 4th order, the synapses in closed form at its stages   (v held while refractory)
//!     where v ≥ V_peak, once in a step: s ← 1, v ← V_reset, w ← w + b
//! i, g ← e^(−dt/τ) i + x
//! ```
//!
//! NEST takes adaptive steps (RKF45) that begin at 0.01 ms; `substeps` = dt / 0.01 ms is the default here.

use super::physical::{
    EXCITATORY_INHIBITORY, at, both_precisions, finite, membrane, not_negative, positive, refractory_steps,
    runge_kutta, variable,
};
use crate::error::{Error, Result};
use crate::snn::neuron::{Neuron, Param, StateSpec};
use crate::snn::real::Real;
use crate::units::Ms;
use serde::{Deserialize, Serialize};

/// An adaptive exponential integrate-and-fire neuron. Receptors: `excitatory` and `inhibitory` (pA with their sign, or
/// positive nS), `current` (pA, during the step). State: membrane potential, adaptation current, both synapses,
/// refractory steps left.
///
/// ```
/// use ransnn::snn::{Neuron, neurons::AdEx};
/// use ransnn::units::Ms;
/// let bursting = AdEx { reset: -47.0, tau_w: Ms(120.0), current: 800.0, ..AdEx::nest(Ms(0.1)) };
/// assert!(bursting.validate().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdEx {
    /// Capacitance C in pF.
    pub capacitance: f64,
    /// Leak conductance g_L in nS.
    pub leak: f64,
    /// Resting potential E_L in mV.
    pub rest: f64,
    /// Spike initiation threshold V_T in mV.
    pub threshold: f64,
    /// Slope factor Δ_T in mV.
    pub slope: f64,
    /// Potential at which a spike is counted, V_peak, in mV.
    pub peak: f64,
    /// Potential after a spike, V_reset, in mV.
    pub reset: f64,
    /// Subthreshold adaptation a in nS.
    pub a: f64,
    /// Spike-triggered adaptation b in pA.
    pub b: f64,
    /// Time constant of the adaptation.
    pub tau_w: Ms,
    /// Refractory period.
    pub refractory: Ms,
    /// Time constant of the excitatory synapses.
    pub tau_excitatory: Ms,
    /// Time constant of the inhibitory synapses.
    pub tau_inhibitory: Ms,
    /// Currents, or conductances with their reversal potentials.
    pub synapses: Coupling,
    /// Constant current I_e in pA.
    pub current: f64,
    /// Runge–Kutta steps in a time step.
    pub substeps: u32,
    /// Time step.
    pub dt: Ms,
}

/// What exponential synapses are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Coupling {
    /// Currents in pA.
    Current,
    /// Conductances in nS.
    Conductance {
        /// Excitatory reversal potential in mV.
        excitatory: f64,
        /// Inhibitory reversal potential in mV.
        inhibitory: f64,
    },
}

impl AdEx {
    /// The default parameters of NEST's `aeif_psc_exp`, those of Brette & Gerstner (2005).
    pub fn nest(dt: Ms) -> Self {
        Self {
            capacitance: 281.0,
            leak: 30.0,
            rest: -70.6,
            threshold: -50.4,
            slope: 2.0,
            peak: 0.0,
            reset: -60.0,
            a: 4.0,
            b: 80.5,
            tau_w: Ms(144.0),
            refractory: Ms(0.0),
            tau_excitatory: Ms(0.2),
            tau_inhibitory: Ms(2.0),
            synapses: Coupling::Current,
            current: 0.0,
            substeps: (dt.0 / 0.01).round().clamp(1.0, 1e4) as u32,
            dt,
        }
    }

    /// The default parameters of NEST's `aeif_cond_exp`.
    pub fn nest_cond(dt: Ms) -> Self {
        Self { synapses: Coupling::Conductance { excitatory: 0.0, inhibitory: -85.0 }, ..Self::nest(dt) }
    }

    fn run<R: Real>(&self, inputs: &[&[R]], state: &mut [&mut [R]], spikes: &mut [u8]) {
        let [membrane, adaptation, excitatory, inhibitory, left] = state else { return };
        let h = self.dt.0 / f64::from(self.substeps);
        let decays = |tau: Ms| [0.0, 0.5, 1.0].map(|share| R::of((-share * h / tau.0).exp()));
        let (decay_e, decay_i) = (decays(self.tau_excitatory), decays(self.tau_inhibitory));
        let inverse = R::of(1.0 / self.capacitance);
        let (leak, rest, onset, slope) =
            (R::of(self.leak), R::of(self.rest), R::of(self.threshold), R::of(self.slope));
        let (peak, reset) = (R::of(self.peak), R::of(self.reset));
        let (a, b, rate_w) = (R::of(self.a), R::of(self.b), R::of(1.0 / self.tau_w.0));
        let pause = refractory_steps(self.refractory, self.dt);
        let zero = R::of(0.0);
        for (n, spike) in spikes.iter_mut().enumerate() {
            let (mut v, mut w) = (membrane[n], adaptation[n]);
            let (mut x_e, mut x_i) = (excitatory[n], inhibitory[n]);
            let drive = R::of(self.current) + at(inputs, 2, n);
            let mut clamped = left[n] > zero;
            let mut fired = false;
            for _ in 0..self.substeps {
                let rates = |stage: usize, [v, w]: [R; 2]| {
                    let v = if clamped {
                        reset
                    } else if v < peak {
                        v
                    } else {
                        peak
                    };
                    let (e, i) = (x_e * decay_e[stage], x_i * decay_i[stage]);
                    let synaptic = match self.synapses {
                        Coupling::Current => e + i,
                        Coupling::Conductance { excitatory, inhibitory } => {
                            e * (R::of(excitatory) - v) + i * (R::of(inhibitory) - v)
                        }
                    };
                    let upswing = leak * slope * ((v - onset) / slope).exp();
                    let current = leak * (rest - v) + upswing - w + synaptic + drive;
                    [if clamped { zero } else { current * inverse }, (a * (v - rest) - w) * rate_w]
                };
                [v, w] = runge_kutta([v, w], R::of(h), rates);
                (x_e, x_i) = (x_e * decay_e[2], x_i * decay_i[2]);
                if v >= peak && !fired && !clamped {
                    (fired, v, w) = (true, reset, w + b);
                    clamped = pause > zero;
                }
                // What would be a second spike in the step waits for the next one.
                v = if v < peak { v } else { peak };
            }
            (membrane[n], adaptation[n]) = (v, w);
            excitatory[n] = x_e + at(inputs, 0, n);
            inhibitory[n] = x_i + at(inputs, 1, n);
            left[n] = match fired {
                true => pause,
                false if left[n] > zero => left[n] - R::of(1.0),
                false => zero,
            };
            *spike = fired.into();
        }
    }
}

impl Neuron for AdEx {
    fn kind(&self) -> &'static str {
        "adex"
    }

    fn receptors(&self) -> &'static [&'static str] {
        EXCITATORY_INHIBITORY
    }

    fn params(&self) -> Vec<Param> {
        let mut params = vec![
            positive("capacitance", "pF", self.capacitance, "capacitance"),
            positive("leak", "nS", self.leak, "leak conductance"),
            finite("rest", "mV", self.rest, "resting potential"),
            finite("threshold", "mV", self.threshold, "spike initiation threshold"),
            positive("slope", "mV", self.slope, "slope factor"),
            finite("peak", "mV", self.peak, "potential at which a spike is counted"),
            finite("reset", "mV", self.reset, "potential after a spike"),
            finite("a", "nS", self.a, "subthreshold adaptation"),
            finite("b", "pA", self.b, "spike-triggered adaptation"),
            positive("tau_w", "ms", self.tau_w.0, "time constant of the adaptation"),
            not_negative("refractory", "ms", self.refractory.0, "refractory period"),
            positive("tau_excitatory", "ms", self.tau_excitatory.0, "excitatory time constant"),
            positive("tau_inhibitory", "ms", self.tau_inhibitory.0, "inhibitory time constant"),
            finite("current", "pA", self.current, "constant current"),
            Param {
                min: 1.0,
                max: 1e4,
                ..finite("substeps", "1", self.substeps.into(), "Runge–Kutta steps in a step")
            },
            positive("dt", "ms", self.dt.0, "time step"),
        ];
        if let Coupling::Conductance { excitatory, inhibitory } = self.synapses {
            params.push(finite("reversal_excitatory", "mV", excitatory, "excitatory reversal potential"));
            params.push(finite("reversal_inhibitory", "mV", inhibitory, "inhibitory reversal potential"));
        }
        params
    }

    fn state(&self) -> Vec<StateSpec> {
        let unit = if self.synapses == Coupling::Current { "pA" } else { "nS" };
        vec![
            membrane(self.rest),
            variable("adaptation current", "pA", 0.0),
            variable("excitatory synapses", unit, 0.0),
            variable("inhibitory synapses", unit, 0.0),
            StateSpec::refractory(),
        ]
    }

    fn validate(&self) -> Result<()> {
        self.params().iter().try_for_each(Param::check)?;
        if self.reset >= self.peak {
            return Err(Error::value("reset", self.reset, format!("below the peak, {}", self.peak)));
        }
        if self.threshold > self.peak {
            return Err(Error::value(
                "threshold",
                self.threshold,
                format!("at most the peak, {}", self.peak),
            ));
        }
        // The largest exponential must leave room in f32 for what it is multiplied with.
        if (self.peak - self.threshold) / self.slope > 60.0 {
            let least = (self.peak - self.threshold) / 60.0;
            return Err(Error::value(
                "slope",
                self.slope,
                format!("at least {least}, or the upswing overflows"),
            ));
        }
        Ok(())
    }

    both_precisions!();
}
