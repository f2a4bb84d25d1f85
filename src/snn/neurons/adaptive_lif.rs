//! Leaky integrate-and-fire with exponential synapses and two kinds of adaptation: a current and a threshold that each
//! spike raises and that decay exponentially. (Treves 1993; Brette & Gerstner 2005 without the upswing; the threshold
//! as in Bellec et al. 2018, ALIF, and NEST's `mat2_psc_exp` with one component and a reset.)
//!
//! Everything is linear between spikes, and is integrated exactly:
//!
//! ```text
//! τ v̇ = −(v − E_L) + τ/C (i_e + i_i − w + I_e + x_c)      i̇ = −i/τ_syn      ẇ = −w/τ_w      ϑ̇ = −ϑ/τ_ϑ
//!
//! v ← v + λ (E_L − v) + P_e i_e + P_i i_i − P_w w + P_0 (I_e + x_c)      (held while refractory)
//! w ← α_w w;   ϑ ← α_ϑ ϑ;   i ← α i + x
//! s ← v ≥ V_th + ϑ;   v ← V_reset, w ← w + b, ϑ ← ϑ + a where s
//! ```

use super::lanes::{Lane, Lanes};
use super::physical::{
    EXCITATORY_INHIBITORY, both_precisions, finite, held, membrane, not_negative, positive, refractory_steps,
    variable,
};
use crate::error::{Error, Result};
use crate::snn::linear::{Adaptation, Kernel, Linear, constant_response, exponential_response};
use crate::snn::neuron::{GpuModel, Neuron, Param, StateSpec};
use crate::snn::real::Real;
use crate::units::Ms;
use serde::{Deserialize, Serialize};

/// A LIF neuron that adapts. Receptors: `excitatory` and `inhibitory` (pA with their sign), `current` (pA, during the
/// step). State: membrane potential, both currents, adaptation current, threshold shift, refractory steps left.
///
/// ```
/// use ransnn::snn::{Neuron, neurons::AdaptiveLif};
/// use ransnn::units::Ms;
/// let adapting = AdaptiveLif { spike_current: 0.0, spike_threshold: 5.0, ..AdaptiveLif::new(Ms(0.1)) };
/// assert!(adapting.validate().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveLif {
    /// Time constant of the membrane.
    pub tau_mem: Ms,
    /// Capacitance C in pF.
    pub capacitance: f64,
    /// Resting potential E_L in mV.
    pub rest: f64,
    /// Threshold V_th of a neuron that has not fired, in mV.
    pub threshold: f64,
    /// Potential after a spike in mV.
    pub reset: f64,
    /// Refractory period.
    pub refractory: Ms,
    /// Time constant of the excitatory current.
    pub tau_excitatory: Ms,
    /// Time constant of the inhibitory current.
    pub tau_inhibitory: Ms,
    /// What a spike adds to the adaptation current, b, in pA.
    pub spike_current: f64,
    /// Time constant of the adaptation current.
    pub tau_current: Ms,
    /// What a spike adds to the threshold, a, in mV.
    pub spike_threshold: f64,
    /// Time constant of the threshold.
    pub tau_threshold: Ms,
    /// Constant current I_e in pA.
    pub current: f64,
    /// Time step.
    pub dt: Ms,
}

impl AdaptiveLif {
    /// The membrane and synapses of NEST's `iaf_psc_exp`; a spike adds 40 pA for 100 ms and 2 mV for 50 ms.
    pub fn new(dt: Ms) -> Self {
        Self {
            tau_mem: Ms(10.0),
            capacitance: 250.0,
            rest: -70.0,
            threshold: -55.0,
            reset: -70.0,
            refractory: Ms(2.0),
            tau_excitatory: Ms(2.0),
            tau_inhibitory: Ms(2.0),
            spike_current: 40.0,
            tau_current: Ms(100.0),
            spike_threshold: 2.0,
            tau_threshold: Ms(50.0),
            current: 0.0,
            dt,
        }
    }

    /// What a step computes with, in the order of `kernels/neurons.cuh`.
    fn constants<R: Real>(&self) -> [R; 16] {
        let h = self.dt.0;
        let decay = |tau: Ms| R::of((-h / tau.0).exp());
        let response =
            |tau: Ms| R::of(exponential_response(h, 1.0 / self.tau_mem.0, 1.0 / tau.0) / self.capacitance);
        let to_rest = R::of(-(-h / self.tau_mem.0).exp_m1());
        let per_current = R::of(constant_response(h, 1.0 / self.tau_mem.0) / self.capacitance);
        let [decay_e, decay_i, decay_w] =
            [self.tau_excitatory, self.tau_inhibitory, self.tau_current].map(decay);
        let [p_e, p_i, p_w] = [self.tau_excitatory, self.tau_inhibitory, self.tau_current].map(response);
        let decay_t = decay(self.tau_threshold);
        let [rest, threshold, reset] = [self.rest, self.threshold, self.reset].map(R::of);
        let pause = refractory_steps(self.refractory, self.dt);
        let [current, b, a] = [self.current, self.spike_current, self.spike_threshold].map(R::of);
        [
            to_rest,
            per_current,
            decay_e,
            p_e,
            decay_i,
            p_i,
            decay_w,
            p_w,
            decay_t,
            rest,
            threshold,
            reset,
            pause,
            current,
            b,
            a,
        ]
    }

    fn lanes<R: Real>(&self) -> Step<R> {
        Step(self.constants())
    }
}

/// What a step computes with.
struct Step<R>([R; 16]);

impl<R: Real> Lanes<R, 3, 6> for Step<R> {
    #[inline(always)]
    fn step(&self, n: usize, input: &[Lane<R>; 3], state: &mut [Lane<R>; 6], spikes: &mut Lane<u8>) {
        let [membrane, excitatory, inhibitory, adaptation, shift, left] = state;
        let [to_rest, per_current, decay_e, p_e, decay_i, p_i, decay_w, p_w, decay_t, more @ ..] = self.0;
        let [rest, threshold, reset, pause, current, spike_current, spike_threshold] = more;
        let none = R::default();
        for n in 0..n {
            let (before, e, i, w) = (membrane[n], excitatory[n], inhibitory[n], adaptation[n]);
            excitatory[n] = decay_e * e + input[0][n];
            inhibitory[n] = decay_i * i + input[1][n];
            let (held, less) = held(left[n]);
            let drive = per_current * (current + input[2][n]);
            let v = before + to_rest * (rest - before) + p_e * e + p_i * i - p_w * w + drive;
            let lower = decay_t * shift[n];
            let fires = !held & (v >= threshold + lower);
            let v = if held { before } else { v };
            membrane[n] = if fires { reset } else { v };
            adaptation[n] = decay_w * w + if fires { spike_current } else { none };
            shift[n] = lower + if fires { spike_threshold } else { none };
            left[n] = if fires { pause } else { less };
            spikes[n] = fires.into();
        }
    }
}

impl Neuron for AdaptiveLif {
    fn kind(&self) -> &'static str {
        "adaptive-lif"
    }

    fn receptors(&self) -> &'static [&'static str] {
        EXCITATORY_INHIBITORY
    }

    fn params(&self) -> Vec<Param> {
        vec![
            positive("tau_mem", "ms", self.tau_mem.0, "time constant of the membrane"),
            positive("capacitance", "pF", self.capacitance, "capacitance"),
            finite("rest", "mV", self.rest, "resting potential"),
            finite("threshold", "mV", self.threshold, "threshold without adaptation"),
            finite("reset", "mV", self.reset, "potential after a spike"),
            not_negative("refractory", "ms", self.refractory.0, "refractory period"),
            positive("tau_excitatory", "ms", self.tau_excitatory.0, "excitatory time constant"),
            positive("tau_inhibitory", "ms", self.tau_inhibitory.0, "inhibitory time constant"),
            finite("spike_current", "pA", self.spike_current, "what a spike adds to the adaptation current"),
            positive("tau_current", "ms", self.tau_current.0, "time constant of the adaptation current"),
            not_negative("spike_threshold", "mV", self.spike_threshold, "what a spike adds to the threshold"),
            positive("tau_threshold", "ms", self.tau_threshold.0, "time constant of the threshold"),
            finite("current", "pA", self.current, "constant current"),
            positive("dt", "ms", self.dt.0, "time step"),
        ]
    }

    fn state(&self) -> Vec<StateSpec> {
        vec![
            membrane(self.rest),
            variable("excitatory current", "pA", 0.0),
            variable("inhibitory current", "pA", 0.0),
            variable("adaptation current", "pA", 0.0),
            variable("threshold shift", "mV", 0.0),
            StateSpec::refractory(),
        ]
    }

    fn linear(&self) -> Option<Linear> {
        let gain = 1.0 / self.capacitance;
        let synapse = |tau: Ms| Kernel::Exponential { tau: tau.0, gain };
        Some(Linear {
            tau: self.tau_mem.0,
            rest: self.rest,
            drive: self.current * gain,
            threshold: self.threshold,
            reset: self.reset,
            refractory: self.refractory.0,
            receptors: vec![
                synapse(self.tau_excitatory),
                synapse(self.tau_inhibitory),
                Kernel::Constant { gain },
            ],
            adaptation: vec![
                Adaptation::Current { tau: self.tau_current.0, size: self.spike_current * gain },
                Adaptation::Threshold { tau: self.tau_threshold.0, size: self.spike_threshold },
            ],
        })
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
        Some((GpuModel::AdaptiveLif, self.constants().to_vec()))
    }

    both_precisions!();
}
