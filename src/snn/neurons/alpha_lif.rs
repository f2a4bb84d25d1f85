//! Leaky integrate-and-fire with alpha-shaped synaptic currents and exact integration: NEST `iaf_psc_alpha`.
//!
//! ```text
//! C v̇ = −C/τ (v − E_L) + i_e + i_i + I_e + x_c          i(t) = w (t/τ_syn) e^(1 − t/τ_syn) after a spike of weight w
//!
//! v ← v + λ (E_L − v) + P i + Q j (of both receptors) + P_0 (I_e + x_c)          (held while refractory)
//! i ← α (i + dt j);   j ← α j + x e/τ_syn
//! s ← v ≥ V_th;   v ← V_reset where s
//! ```
//!
//! The current peaks at `w` after τ_syn. Input acts from the next step on.

use super::lanes::{Lane, Lanes};
use super::physical::{
    EXCITATORY_INHIBITORY, both_precisions, finite, held, membrane, not_negative, positive, refractory_steps,
    variable,
};
use crate::error::{Error, Result};
use crate::snn::linear::{Kernel, Linear, alpha_response, constant_response, exponential_response};
use crate::snn::neuron::{GpuModel, Neuron, Param, StateSpec};
use crate::snn::real::Real;
use crate::units::Ms;
use serde::{Deserialize, Serialize};

/// A LIF neuron with alpha synapses. Receptors: `excitatory` and `inhibitory` (peak currents in pA with their sign),
/// `current` (pA, during the step). State: membrane potential, current and its slope for both receptors, refractory
/// steps left.
///
/// ```
/// use ransnn::snn::{Neuron, neurons::AlphaLif};
/// use ransnn::units::Ms;
/// let hpc = AlphaLif { tau_excitatory: Ms(0.3258), ..AlphaLif::nest(Ms(0.1)) };
/// assert!(hpc.validate().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlphaLif {
    /// Time constant of the membrane.
    pub tau_mem: Ms,
    /// Capacitance C in pF.
    pub capacitance: f64,
    /// Resting potential E_L in mV.
    pub rest: f64,
    /// Threshold V_th in mV.
    pub threshold: f64,
    /// Potential after a spike, V_reset, in mV.
    pub reset: f64,
    /// Refractory period.
    pub refractory: Ms,
    /// Time to the peak of the excitatory current.
    pub tau_excitatory: Ms,
    /// Time to the peak of the inhibitory current.
    pub tau_inhibitory: Ms,
    /// Constant current I_e in pA.
    pub current: f64,
    /// Time step.
    pub dt: Ms,
}

impl AlphaLif {
    /// The default parameters of NEST's `iaf_psc_alpha`.
    pub fn nest(dt: Ms) -> Self {
        Self {
            tau_mem: Ms(10.0),
            capacitance: 250.0,
            rest: -70.0,
            threshold: -55.0,
            reset: -70.0,
            refractory: Ms(2.0),
            tau_excitatory: Ms(2.0),
            tau_inhibitory: Ms(2.0),
            current: 0.0,
            dt,
        }
    }

    fn lanes<R: Real>(&self) -> Step<R> {
        let (h, leak) = (self.dt.0, 1.0 / self.tau_mem.0);
        let scaled = |response: f64| R::of(response / self.capacitance);
        let receptor = |tau: Ms| {
            let mu = 1.0 / tau.0;
            Receptor {
                decay: R::of((-h * mu).exp()),
                current: scaled(exponential_response(h, leak, mu)),
                slope: scaled(alpha_response(h, leak, mu)),
                jump: R::of(std::f64::consts::E * mu),
            }
        };
        Step {
            to_rest: R::of(-(-h * leak).exp_m1()),
            per_current: scaled(constant_response(h, leak)),
            excitatory: receptor(self.tau_excitatory),
            inhibitory: receptor(self.tau_inhibitory),
            current: R::of(self.current),
            rest: R::of(self.rest),
            threshold: R::of(self.threshold),
            reset: R::of(self.reset),
            pause: refractory_steps(self.refractory, self.dt),
            h: R::of(h),
        }
    }
}

/// What a step computes with.
struct Step<R> {
    to_rest: R,
    per_current: R,
    excitatory: Receptor<R>,
    inhibitory: Receptor<R>,
    current: R,
    rest: R,
    threshold: R,
    reset: R,
    pause: R,
    h: R,
}

struct Receptor<R> {
    decay: R,
    /// What a unit of current, and one of its slope, add to the membrane potential in a step.
    current: R,
    slope: R,
    /// The slope of a current of unit peak.
    jump: R,
}

impl<R: Real> Receptor<R> {
    /// What the current and its slope become where `x` arrives.
    #[inline(always)]
    fn step(&self, h: R, current: R, slope: R, x: R) -> (R, R) {
        (self.decay * (current + h * slope), self.decay * slope + self.jump * x)
    }
}

impl<R: Real> Lanes<R, 3, 6> for Step<R> {
    #[inline(always)]
    fn step(&self, n: usize, input: &[Lane<R>; 3], state: &mut [Lane<R>; 6], spikes: &mut Lane<u8>) {
        let [membrane, e, e_slope, i, i_slope, left] = state;
        let (excitatory, inhibitory) = (&self.excitatory, &self.inhibitory);
        for n in 0..n {
            let synaptic = excitatory.current * e[n]
                + excitatory.slope * e_slope[n]
                + inhibitory.current * i[n]
                + inhibitory.slope * i_slope[n];
            (e[n], e_slope[n]) = excitatory.step(self.h, e[n], e_slope[n], input[0][n]);
            (i[n], i_slope[n]) = inhibitory.step(self.h, i[n], i_slope[n], input[1][n]);
            let (held, less) = held(left[n]);
            let drive = self.per_current * (self.current + input[2][n]);
            let v = membrane[n] + self.to_rest * (self.rest - membrane[n]) + synaptic + drive;
            let fires = !held & (v >= self.threshold);
            let v = if held { membrane[n] } else { v };
            membrane[n] = if fires { self.reset } else { v };
            left[n] = if fires { self.pause } else { less };
            spikes[n] = fires.into();
        }
    }
}

impl Neuron for AlphaLif {
    fn kind(&self) -> &'static str {
        "alpha-lif"
    }

    fn receptors(&self) -> &'static [&'static str] {
        EXCITATORY_INHIBITORY
    }

    fn params(&self) -> Vec<Param> {
        vec![
            positive("tau_mem", "ms", self.tau_mem.0, "time constant of the membrane"),
            positive("capacitance", "pF", self.capacitance, "capacitance"),
            finite("rest", "mV", self.rest, "resting potential"),
            finite("threshold", "mV", self.threshold, "firing threshold"),
            finite("reset", "mV", self.reset, "potential after a spike"),
            not_negative("refractory", "ms", self.refractory.0, "refractory period"),
            positive("tau_excitatory", "ms", self.tau_excitatory.0, "time to the excitatory peak"),
            positive("tau_inhibitory", "ms", self.tau_inhibitory.0, "time to the inhibitory peak"),
            finite("current", "pA", self.current, "constant current"),
            positive("dt", "ms", self.dt.0, "time step"),
        ]
    }

    fn state(&self) -> Vec<StateSpec> {
        vec![
            membrane(self.rest),
            variable("excitatory current", "pA", 0.0),
            variable("excitatory slope", "pA/ms", 0.0),
            variable("inhibitory current", "pA", 0.0),
            variable("inhibitory slope", "pA/ms", 0.0),
            StateSpec::refractory(),
        ]
    }

    fn linear(&self) -> Option<Linear> {
        let gain = 1.0 / self.capacitance;
        Some(Linear {
            tau: self.tau_mem.0,
            rest: self.rest,
            drive: self.current * gain,
            threshold: self.threshold,
            reset: self.reset,
            refractory: self.refractory.0,
            receptors: vec![
                Kernel::Alpha { tau: self.tau_excitatory.0, gain },
                Kernel::Alpha { tau: self.tau_inhibitory.0, gain },
                Kernel::Constant { gain },
            ],
            adaptation: vec![],
        })
    }

    fn on_gpu(&self) -> Option<(GpuModel, Vec<f32>)> {
        let step = self.lanes::<f32>();
        let of = |r: &Receptor<f32>| [r.decay, r.current, r.slope, r.jump];
        let rest = [step.to_rest, step.per_current, step.current, step.rest];
        let spike = [step.threshold, step.reset, step.pause, step.h];
        Some((GpuModel::AlphaLif, [of(&step.excitatory), of(&step.inhibitory), rest, spike].concat()))
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

    both_precisions!();
}
