//! The excitatory neuron of Diehl & Cook (2015), and of BindsNET's `DiehlAndCook2015`: a leaky integrate-and-fire
//! neuron whose threshold is shifted by ϑ. What raises ϑ is training; here it is a number that each neuron has.
//!
//! ```text
//! current:      v ← λ (v − E_L) + E_L;  v ← v + x_e − x_i      (input of refractory neurons is lost)
//! conductance:  g ← g + x;  v ← v + dt/τ · ((E_L − v) + g_e (E_e − v) + g_i (E_i − v));  g ← g − dt/τ_g · g
//!               (v is held while refractory)
//! both:         s ← v ≥ V_th + ϑ, more than `silence` after the last spike;  v ← V_reset where s
//! ```
//!
//! Conductances are multiples of the leak and integrated by Euler's method, as in the authors' script.

use super::physical::{finite, membrane, not_negative, positive, variable};
use crate::error::{Error, Result};
use crate::snn::neuron::{Neuron, Param, StateSpec};
use crate::units::Ms;
use serde::{Deserialize, Serialize};

/// How input acts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Dynamics {
    /// A spike moves the membrane potential by its weight, in mV.
    Current,
    /// A spike opens a conductance that decays exponentially.
    Conductance {
        /// Reversal potentials of excitation and inhibition in mV.
        reversal: [f64; 2],
        /// Time constants of excitation and inhibition.
        tau: [Ms; 2],
    },
}

/// A LIF neuron with a shifted threshold. Receptors: `excitatory` and `inhibitory`; weights of both are positive. State:
/// membrane potential, both conductances, threshold shift ϑ, steps since the last spike.
///
/// ```
/// use ransnn::snn::{Neuron, neurons::DiehlCookLif};
/// let (original, bindsnet) = (DiehlCookLif::original(), DiehlCookLif::bindsnet());
/// assert!(original.validate().is_ok() && bindsnet.validate().is_ok());
/// assert_eq!(original.receptors(), ["excitatory", "inhibitory"]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiehlCookLif {
    /// How input acts.
    pub dynamics: Dynamics,
    /// Time constant of the membrane.
    pub tau_mem: Ms,
    /// Resting potential E_L in mV.
    pub rest: f64,
    /// Threshold V_th in mV; ϑ comes on top.
    pub threshold: f64,
    /// Potential after a spike in mV.
    pub reset: f64,
    /// Refractory period.
    pub refractory: Ms,
    /// No second spike so soon after one, however high the potential.
    pub silence: Ms,
    /// Time step.
    pub dt: Ms,
}

impl DiehlCookLif {
    /// The authors' script: conductances, steps of 0.5 ms. Its ϑ starts at 20 mV, which the threshold here makes up for.
    pub fn original() -> Self {
        Self {
            dynamics: Dynamics::Conductance { reversal: [0.0, -100.0], tau: [Ms(1.0), Ms(2.0)] },
            tau_mem: Ms(100.0),
            rest: -65.0,
            threshold: -72.0,
            reset: -65.0,
            refractory: Ms(5.0),
            silence: Ms(50.0),
            dt: Ms(0.5),
        }
    }

    /// BindsNET's: currents, steps of 1 ms.
    pub fn bindsnet() -> Self {
        Self {
            dynamics: Dynamics::Current,
            tau_mem: Ms(100.0),
            rest: -65.0,
            threshold: -52.0,
            reset: -60.0,
            refractory: Ms(5.0),
            silence: Ms(0.0),
            dt: Ms(1.0),
        }
    }

    /// The factors of a step.
    pub fn kernel(&self) -> Kernel {
        let h = self.dt.0;
        let steps = |time: Ms| (time.0 / h).round() as f32;
        let (reversal, keep) = match self.dynamics {
            Dynamics::Current => ([0.0; 2], [0.0; 2]),
            Dynamics::Conductance { reversal, tau } => {
                (reversal.map(|e| e as f32), tau.map(|tau| (1.0 - h / tau.0) as f32))
            }
        };
        Kernel {
            conductance: self.dynamics != Dynamics::Current,
            decay: (-h / self.tau_mem.0).exp() as f32,
            share: (h / self.tau_mem.0) as f32,
            rest: self.rest as f32,
            reset: self.reset as f32,
            threshold: self.threshold as f32,
            refractory: steps(self.refractory),
            silence: steps(self.silence),
            reversal,
            keep,
        }
    }
}

/// A [`DiehlCookLif`] made ready for loops.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kernel {
    conductance: bool,
    decay: f32,
    share: f32,
    rest: f32,
    reset: f32,
    threshold: f32,
    refractory: f32,
    silence: f32,
    reversal: [f32; 2],
    keep: [f32; 2],
}

/// The state of some neurons, one entry each.
#[derive(Debug)]
pub struct State<'a> {
    /// Membrane potential.
    pub membrane: &'a mut [f32],
    /// Excitatory and inhibitory conductance; not used with currents.
    pub conductance: [&'a mut [f32]; 2],
    /// Steps since the last spike; 0 for those that fire in this step.
    pub since: &'a mut [f32],
}

/// "Long ago", as steps since a spike.
pub const LONG: f32 = 1e6;

impl Kernel {
    /// One step of all neurons with their `shift` ϑ and input to both receptors. Whether any fires: those whose `since`
    /// is 0 afterwards.
    #[inline(always)]
    pub fn advance(&self, input: [&[f32]; 2], shift: &[f32], state: State<'_>) -> bool {
        let n = state.membrane.len();
        let State { membrane: v, conductance: [g_e, g_i], since } = state;
        // One length for all, so that the loops below need no checks.
        let ([x_e, x_i], shift, since) = (input.map(|x| &x[..n]), &shift[..n], &mut since[..n]);
        let mut any = 0u32;
        let mut fire = |v: &mut f32, since: &mut f32, steps: f32, shift: f32| {
            let fires = (*v >= self.threshold + shift) & (steps > self.silence);
            *v = if fires { self.reset } else { *v };
            *since = if fires { 0.0 } else { steps };
            any |= u32::from(fires);
        };
        if self.conductance {
            let (g_e, g_i) = (&mut g_e[..n], &mut g_i[..n]);
            for j in 0..n {
                let steps = (since[j] + 1.0).min(LONG);
                let (e, i) = (g_e[j] + x_e[j], g_i[j] + x_i[j]);
                let pull = e * (self.reversal[0] - v[j]) + i * (self.reversal[1] - v[j]);
                let moved = v[j] + self.share * ((self.rest - v[j]) + pull);
                g_e[j] = e * self.keep[0];
                g_i[j] = i * self.keep[1];
                v[j] = if steps < self.refractory { v[j] } else { moved };
                fire(&mut v[j], &mut since[j], steps, shift[j]);
            }
        } else {
            for j in 0..n {
                let steps = (since[j] + 1.0).min(LONG);
                let x = if steps > self.refractory { x_e[j] - x_i[j] } else { 0.0 };
                v[j] = (self.decay * (v[j] - self.rest) + self.rest) + x;
                fire(&mut v[j], &mut since[j], steps, shift[j]);
            }
        }
        any != 0
    }
}

impl Neuron for DiehlCookLif {
    fn kind(&self) -> &'static str {
        "diehl-cook-lif"
    }

    fn receptors(&self) -> &'static [&'static str] {
        &["excitatory", "inhibitory"]
    }

    fn params(&self) -> Vec<Param> {
        let mut params = vec![
            positive("tau_mem", "ms", self.tau_mem.0, "time constant of the membrane"),
            finite("rest", "mV", self.rest, "resting potential"),
            finite("threshold", "mV", self.threshold, "threshold without its shift"),
            finite("reset", "mV", self.reset, "potential after a spike"),
            not_negative("refractory", "ms", self.refractory.0, "refractory period"),
            not_negative("silence", "ms", self.silence.0, "time after a spike without another one"),
            positive("dt", "ms", self.dt.0, "time step"),
        ];
        if let Dynamics::Conductance { reversal, tau } = self.dynamics {
            params.push(finite("reversal_excitatory", "mV", reversal[0], "excitatory reversal potential"));
            params.push(finite("reversal_inhibitory", "mV", reversal[1], "inhibitory reversal potential"));
            params.push(positive("tau_excitatory", "ms", tau[0].0, "excitatory time constant"));
            params.push(positive("tau_inhibitory", "ms", tau[1].0, "inhibitory time constant"));
        }
        params
    }

    fn state(&self) -> Vec<StateSpec> {
        vec![
            membrane(self.rest),
            variable("excitatory conductance", "1", 0.0),
            variable("inhibitory conductance", "1", 0.0),
            variable("threshold shift", "mV", 0.0),
            variable("steps since the last spike", "1", LONG.into()),
        ]
    }

    fn validate(&self) -> Result<()> {
        self.params().iter().try_for_each(Param::check)?;
        if let Dynamics::Conductance { tau, .. } = self.dynamics
            && let Some(short) = tau.iter().find(|tau| tau.0 < self.dt.0)
        {
            return Err(Error::value(
                "time constant of a conductance",
                short,
                format!("at least dt, {}", self.dt),
            ));
        }
        Ok(())
    }

    fn step(&self, input: &[f32], state: &mut [&mut [f32]], spikes: &mut [u8]) {
        self.advance(&[input], state, spikes);
    }

    fn advance(&self, inputs: &[&[f32]], state: &mut [&mut [f32]], spikes: &mut [u8]) {
        let [membrane, g_e, g_i, shift, since] = state else { return };
        let none = vec![0.0; membrane.len()];
        let input = [0, 1].map(|receptor| inputs.get(receptor).copied().unwrap_or(&none));
        self.kernel().advance(input, shift, State { membrane, conductance: [g_e, g_i], since });
        spikes.iter_mut().zip(since.iter()).for_each(|(spike, since)| *spike = u8::from(*since == 0.0));
    }

    fn time_step(&self) -> Option<Ms> {
        Some(self.dt)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
