//! Leaky integrate-and-fire with exponential synaptic conductances: NEST `iaf_cond_exp`, Brette et al. (2007)
//! benchmark 1 (COBA), Vogels & Abbott (2005).
//!
//! ```text
//! C v̇ = −g_L (v − E_L) − g_e (v − E_e) − g_i (v − E_i) + I_e + x_c      ġ = −g / τ
//!
//! v ← one Runge–Kutta step of 4th order, with g(t) in closed form at its stages     (held while refractory)
//! g ← g e^(−dt/τ) + x
//! s ← v ≥ V_th;  v ← V_reset where s
//! ```
//!
//! The method's error is of fifth order in dt · (g_L + g_e + g_i) / C, about 1e-9 of the membrane's excursion for the
//! benchmark at 0.1 ms; NEST solves the same equations adaptively (RKF45, 1e-3 relative) on the same grid of spikes.

use super::lanes::{Lane, Lanes};
use super::physical::{
    EXCITATORY_INHIBITORY, both_precisions, finite, held, membrane, not_negative, positive, refractory_steps,
    runge_kutta, variable,
};
use crate::error::{Error, Result};
use crate::snn::neuron::{GpuModel, Neuron, Param, StateSpec};
use crate::snn::real::Real;
use crate::units::Ms;
use serde::{Deserialize, Serialize};

/// A conductance-based LIF neuron. Receptors: `excitatory` and `inhibitory` (nS, weights of both are positive),
/// `current` (pA, during the step). State: membrane potential, both conductances, refractory steps left.
///
/// ```
/// use ransnn::snn::{Neuron, neurons::CondLif};
/// use ransnn::units::Ms;
/// let coba = CondLif::brette(Ms(0.1));
/// assert!(coba.validate().is_ok());
/// let tonic = CondLif { current: 200.0, ..coba };
/// assert_eq!(tonic.receptors(), ["excitatory", "inhibitory", "current"]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CondLif {
    /// Capacitance C in pF.
    pub capacitance: f64,
    /// Leak conductance g_L in nS.
    pub leak: f64,
    /// Resting potential E_L in mV.
    pub rest: f64,
    /// Threshold V_th in mV.
    pub threshold: f64,
    /// Potential after a spike, V_reset, in mV.
    pub reset: f64,
    /// Refractory period.
    pub refractory: Ms,
    /// Reversal potential E_e of excitatory synapses in mV.
    pub reversal_excitatory: f64,
    /// Reversal potential E_i of inhibitory synapses in mV.
    pub reversal_inhibitory: f64,
    /// Time constant of the excitatory conductance.
    pub tau_excitatory: Ms,
    /// Time constant of the inhibitory conductance.
    pub tau_inhibitory: Ms,
    /// Constant current I_e in pA.
    pub current: f64,
    /// Time step.
    pub dt: Ms,
}

impl CondLif {
    /// The neuron of Brette et al. (2007), benchmark 1: τ 20 ms, rest and reset −60 mV, threshold −50 mV, 5 ms
    /// refractory, reversal potentials 0 and −80 mV, time constants 5 and 10 ms.
    pub fn brette(dt: Ms) -> Self {
        Self {
            capacitance: 200.0,
            leak: 10.0,
            rest: -60.0,
            threshold: -50.0,
            reset: -60.0,
            refractory: Ms(5.0),
            reversal_excitatory: 0.0,
            reversal_inhibitory: -80.0,
            tau_excitatory: Ms(5.0),
            tau_inhibitory: Ms(10.0),
            current: 0.0,
            dt,
        }
    }

    /// The default parameters of NEST's `iaf_cond_exp`.
    pub fn nest(dt: Ms) -> Self {
        Self {
            capacitance: 250.0,
            leak: 16.6667,
            rest: -70.0,
            threshold: -55.0,
            reset: -60.0,
            refractory: Ms(2.0),
            reversal_excitatory: 0.0,
            reversal_inhibitory: -85.0,
            tau_excitatory: Ms(0.2),
            tau_inhibitory: Ms(2.0),
            ..Self::brette(dt)
        }
    }

    /// What a step computes with, in the order of `kernels/neurons.cuh`.
    fn constants<R: Real>(&self) -> [R; 16] {
        let h = self.dt.0;
        let decay = |tau: Ms, share: f64| R::of((-share * h / tau.0).exp());
        // At the start, the middle and the end of the step.
        let [e0, e1, e2] = [0.0, 0.5, 1.0].map(|share| decay(self.tau_excitatory, share));
        let [i0, i1, i2] = [0.0, 0.5, 1.0].map(|share| decay(self.tau_inhibitory, share));
        let per_capacitance = |value: f64| R::of(value / self.capacitance);
        let [leak, inverse, current] = [self.leak, 1.0, self.current].map(per_capacitance);
        let [rest, e_e, e_i] = [self.rest, self.reversal_excitatory, self.reversal_inhibitory].map(R::of);
        let [threshold, reset, h] = [self.threshold, self.reset, h].map(R::of);
        let pause = refractory_steps(self.refractory, self.dt);
        [leak, inverse, current, rest, e_e, e_i, threshold, reset, pause, h, e0, e1, e2, i0, i1, i2]
    }

    fn lanes<R: Real>(&self) -> Step<R> {
        Step(self.constants())
    }
}

/// What a step computes with.
struct Step<R>([R; 16]);

impl<R: Real> Lanes<R, 3, 4> for Step<R> {
    #[inline(always)]
    fn step(&self, n: usize, input: &[Lane<R>; 3], state: &mut [Lane<R>; 4], spikes: &mut Lane<u8>) {
        let [membrane, excitatory, inhibitory, left] = state;
        let [leak, inverse, current, rest, e_e, e_i, threshold, reset, pause, h, e0, e1, e2, i0, i1, i2] =
            self.0;
        let (decay_e, decay_i) = ([e0, e1, e2], [i0, i1, i2]);
        for n in 0..n {
            let (before, g_e, g_i) = (membrane[n], excitatory[n] * inverse, inhibitory[n] * inverse);
            excitatory[n] = excitatory[n] * e2 + input[0][n];
            inhibitory[n] = inhibitory[n] * i2 + input[1][n];
            let (held, less) = held(left[n]);
            let drive = current + input[2][n] * inverse;
            let [v] = runge_kutta([before], h, |stage, [v]| {
                [leak * (rest - v)
                    + g_e * decay_e[stage] * (e_e - v)
                    + g_i * decay_i[stage] * (e_i - v)
                    + drive]
            });
            let fires = !held & (v >= threshold);
            let v = if held { before } else { v };
            membrane[n] = if fires { reset } else { v };
            left[n] = if fires { pause } else { less };
            spikes[n] = fires.into();
        }
    }
}

impl Neuron for CondLif {
    fn kind(&self) -> &'static str {
        "cond-lif"
    }

    fn receptors(&self) -> &'static [&'static str] {
        EXCITATORY_INHIBITORY
    }

    fn params(&self) -> Vec<Param> {
        vec![
            positive("capacitance", "pF", self.capacitance, "capacitance"),
            positive("leak", "nS", self.leak, "leak conductance"),
            finite("rest", "mV", self.rest, "resting potential"),
            finite("threshold", "mV", self.threshold, "firing threshold"),
            finite("reset", "mV", self.reset, "potential after a spike"),
            not_negative("refractory", "ms", self.refractory.0, "refractory period"),
            finite("reversal_excitatory", "mV", self.reversal_excitatory, "excitatory reversal potential"),
            finite("reversal_inhibitory", "mV", self.reversal_inhibitory, "inhibitory reversal potential"),
            positive("tau_excitatory", "ms", self.tau_excitatory.0, "excitatory time constant"),
            positive("tau_inhibitory", "ms", self.tau_inhibitory.0, "inhibitory time constant"),
            finite("current", "pA", self.current, "constant current"),
            positive("dt", "ms", self.dt.0, "time step"),
        ]
    }

    fn state(&self) -> Vec<StateSpec> {
        vec![
            membrane(self.rest),
            variable("excitatory conductance", "nS", 0.0),
            variable("inhibitory conductance", "nS", 0.0),
            StateSpec::refractory(),
        ]
    }

    fn validate(&self) -> Result<()> {
        self.params().iter().try_for_each(Param::check)?;
        if self.reset >= self.threshold {
            return Err(Error::value(
                "reset",
                self.reset,
                format!("below the threshold, {}", self.threshold),
            ));
        }
        Ok(())
    }

    fn on_gpu(&self) -> Option<(GpuModel, Vec<f32>)> {
        Some((GpuModel::CondLif, self.constants().to_vec()))
    }

    both_precisions!();
}
