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

use super::lanes::{LANES, Lane, Lanes};
use super::physical::{
    EXCITATORY_INHIBITORY, both_precisions, finite, held, membrane, not_negative, positive, refractory_steps,
    runge_kutta, variable,
};
use crate::error::{Error, Result};
use crate::snn::neuron::{GpuModel, Neuron, Param, StateSpec};
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

    fn lanes<R: Real>(&self) -> Step<R> {
        let h = self.dt.0 / f64::from(self.substeps);
        let decays = |tau: Ms| [0.0, 0.5, 1.0].map(|share| R::of((-share * h / tau.0).exp()));
        Step {
            substeps: self.substeps,
            h: R::of(h),
            decay_excitatory: decays(self.tau_excitatory),
            decay_inhibitory: decays(self.tau_inhibitory),
            reversal: match self.synapses {
                Coupling::Current => None,
                Coupling::Conductance { excitatory, inhibitory } => {
                    Some((R::of(excitatory), R::of(inhibitory)))
                }
            },
            inverse: R::of(1.0 / self.capacitance),
            leak: R::of(self.leak),
            rest: R::of(self.rest),
            onset: R::of(self.threshold),
            slope: R::of(self.slope),
            peak: R::of(self.peak),
            reset: R::of(self.reset),
            a: R::of(self.a),
            b: R::of(self.b),
            rate_w: R::of(1.0 / self.tau_w.0),
            pause: refractory_steps(self.refractory, self.dt),
            current: R::of(self.current),
        }
    }
}

/// What a step computes with.
struct Step<R> {
    substeps: u32,
    h: R,
    decay_excitatory: [R; 3],
    decay_inhibitory: [R; 3],
    /// Reversal potentials where synapses are conductances.
    reversal: Option<(R, R)>,
    inverse: R,
    leak: R,
    rest: R,
    onset: R,
    slope: R,
    peak: R,
    reset: R,
    a: R,
    b: R,
    rate_w: R,
    pause: R,
    current: R,
}

impl<R: Real> Step<R> {
    /// What drives the membrane through synapses with conductances or currents `e` and `i`.
    #[inline(always)]
    fn synaptic(&self, e: R, i: R, v: R) -> R {
        match self.reversal {
            None => e + i,
            Some((excitatory, inhibitory)) => e * (excitatory - v) + i * (inhibitory - v),
        }
    }

    #[inline(always)]
    fn at_most_peak(&self, v: R) -> R {
        if v < self.peak { v } else { self.peak }
    }

    /// Membrane potential and adaptation current after one step of Runge and Kutta. The membrane is held at the reset
    /// where it is clamped.
    #[inline(always)]
    fn advance(&self, v: R, w: R, e: R, i: R, drive: R, clamped: bool) -> [R; 2] {
        let Self { leak, rest, slope, .. } = *self;
        runge_kutta([v, w], self.h, |stage, [v, w]| {
            let v = if clamped { self.reset } else { self.at_most_peak(v) };
            let synaptic =
                self.synaptic(e * self.decay_excitatory[stage], i * self.decay_inhibitory[stage], v);
            let upswing = leak * slope * ((v - self.onset) / slope).exp();
            let current = leak * (rest - v) + upswing - w + synaptic + drive;
            let rate = if clamped { R::default() } else { current * self.inverse };
            [rate, (self.a * (v - rest) - w) * self.rate_w]
        })
    }
}

impl<R: Real> Lanes<R, 3, 5> for Step<R> {
    #[inline(always)]
    fn step(&self, n: usize, input: &[Lane<R>; 3], state: &mut [Lane<R>; 5], spikes: &mut Lane<u8>) {
        let [membrane, adaptation, excitatory, inhibitory, left] = state;
        let none = R::default();
        *spikes = [0; LANES];
        for _ in 0..self.substeps {
            for n in 0..n {
                let (e, i) = (excitatory[n], inhibitory[n]);
                // Refractory since an earlier step, or since a spike in this one.
                let fired = spikes[n] != 0;
                let clamped = (left[n] > none) | (fired & (self.pause > none));
                let drive = self.current + input[2][n];
                let [v, w] = self.advance(membrane[n], adaptation[n], e, i, drive, clamped);
                excitatory[n] = e * self.decay_excitatory[2];
                inhibitory[n] = i * self.decay_inhibitory[2];
                let fires = (v >= self.peak) & !fired & !clamped;
                // What would be a second spike in the step waits for the next one.
                membrane[n] = if fires { self.reset } else { self.at_most_peak(v) };
                adaptation[n] = if fires { w + self.b } else { w };
                spikes[n] |= u8::from(fires);
            }
        }
        for n in 0..n {
            excitatory[n] = excitatory[n] + input[0][n];
            inhibitory[n] = inhibitory[n] + input[1][n];
            let (_, less) = held(left[n]);
            left[n] = if spikes[n] != 0 { self.pause } else { less };
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

    fn on_gpu(&self) -> Option<(GpuModel, Vec<f32>)> {
        let step = self.lanes::<f32>();
        let (conductances, (e_e, e_i)) = match step.reversal {
            None => (0.0, (0.0, 0.0)),
            Some(reversal) => (1.0, reversal),
        };
        let mut constants = vec![step.substeps as f32, step.h];
        constants.extend(step.decay_excitatory.into_iter().chain(step.decay_inhibitory));
        constants.extend([
            conductances,
            e_e,
            e_i,
            step.inverse,
            step.leak,
            step.rest,
            step.onset,
            step.slope,
        ]);
        constants.extend([step.peak, step.reset, step.a, step.b, step.rate_w, step.pause, step.current]);
        Some((GpuModel::AdEx, constants))
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
