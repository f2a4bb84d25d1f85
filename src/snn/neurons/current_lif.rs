//! Leaky integrate-and-fire with an exponential synaptic current: Norse `LIFCell` and `LIFRefrac`, SpikingJelly
//! `CUBALIFNode`, sinabs `LIF` with `tau_syn`, NEST `iaf_psc_exp`, Brian2 with exact integration.
//!
//! They share two linear recurrences and differ in their order, which [`Order`] names:
//!
//! ```text
//! add:    i ← i + x
//! decay:  i ← α i
//! drive:  u ← u + λ (u₀ − u) + c i + b
//! ```
//!
//! The leak λ = 1 − β is what is stored: at a step of 0.1 ms, β in `f32` would keep five digits of it.

use super::lif::{Fires, Lif, Reset, ResetActs, check_reset, refractory};
use crate::error::Result;
use crate::snn::neuron::{Neuron, Param, StateSpec};
use crate::units::Ms;
use serde::{Deserialize, Serialize};

/// In which order the input is added, the current decays and the membrane is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Input acts in its own step, undecayed; the stored current has decayed (Norse).
    AddDriveDecay,
    /// Input acts in its own step, undecayed; the stored current has not decayed (SpikingJelly).
    DecayAddDrive,
    /// Input decays once before it acts in its own step (sinabs).
    AddDecayDrive,
    /// Input acts from the next step on (NEST, Brian2).
    DriveDecayAdd,
}

/// A LIF neuron whose input charges a current that decays exponentially.
///
/// State: membrane potential, synaptic current, and the refractory steps left where there is a refractory period.
/// The current goes on during it; the membrane is held.
///
/// ```
/// use ransnn::{snn::{Neuron, neurons::Lif}, units::Ms};
/// let nest = Lif::nest(Ms(10.0), Ms(2.0), 250.0, Ms(2.0), Ms(0.1));
/// assert_eq!((nest.kind(), nest.refractory_steps, nest.rest), ("current-lif", 20, -70.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurrentLif {
    /// Share of the way to rest per step, λ = 1 − β = 1 − exp(−dt / τ).
    pub leak: f32,
    /// Factor on the synaptic current per step, α.
    pub current_decay: f32,
    /// What a unit of current adds to the membrane potential in a step.
    pub coupling: f32,
    /// Constant addition to the membrane potential in a step.
    pub bias: f32,
    /// Resting potential.
    pub rest: f32,
    /// Firing threshold θ.
    pub threshold: f32,
    /// Comparison with the threshold.
    pub fires: Fires,
    /// Effect of a spike, in the same step.
    pub reset: Reset,
    /// Steps after a spike during which the membrane stays where the reset put it.
    pub refractory_steps: u32,
    /// Order of the three updates.
    pub order: Order,
}

impl Lif {
    /// Norse's `LIFCell` (explicit Euler): threshold 1, rest and reset 0. With `refractory_steps` it is `LIFRefrac`.
    pub fn norse(tau_mem: Ms, tau_syn: Ms, dt: Ms) -> CurrentLif {
        let step = dt.0 / tau_mem.0;
        CurrentLif {
            leak: step as f32,
            current_decay: (1.0 - dt.0 / tau_syn.0) as f32,
            coupling: step as f32,
            bias: 0.0,
            rest: 0.0,
            threshold: 1.0,
            fires: Fires::Above,
            reset: Reset::To(0.0),
            refractory_steps: 0,
            order: Order::AddDriveDecay,
        }
    }

    /// SpikingJelly's `CUBALIFNode(c_decay, v_decay, v_reset)`: threshold 1; `v_reset: None` subtracts it.
    pub fn spikingjelly_cuba(c_decay: f32, v_decay: f32, v_reset: Option<f32>) -> CurrentLif {
        CurrentLif {
            leak: 1.0 - v_decay,
            current_decay: c_decay,
            coupling: 1.0,
            fires: Fires::AtOrAbove,
            reset: v_reset.map_or(Reset::Subtract, Reset::To),
            order: Order::DecayAddDrive,
            ..Self::norse(Ms(1.0), Ms(1.0), Ms(1.0))
        }
    }

    /// sinabs' `LIF(tau_mem, tau_syn, norm_input)` with at most one spike a step; time constants in steps.
    pub fn sinabs_current(tau_mem: f64, tau_syn: f64, norm_input: bool) -> CurrentLif {
        let leak = -(-1.0 / tau_mem).exp_m1() as f32;
        CurrentLif {
            leak,
            coupling: if norm_input { leak } else { 1.0 },
            order: Order::AddDecayDrive,
            ..Self::spikingjelly_cuba((-1.0 / tau_syn).exp() as f32, 1.0, None)
        }
    }

    /// NEST's `iaf_psc_exp` in mV, pA, pF and ms: exact propagators, rest and reset −70 mV, threshold −55 mV; input
    /// is the summed synaptic weight in pA. A constant current `I_e` is `bias` = [`psc_bias`]`(…)`.
    pub fn nest(tau_m: Ms, tau_syn: Ms, c_m: f64, t_ref: Ms, dt: Ms) -> CurrentLif {
        CurrentLif {
            leak: -(-dt.0 / tau_m.0).exp_m1() as f32,
            current_decay: (-dt.0 / tau_syn.0).exp() as f32,
            coupling: psc_coupling(tau_m, tau_syn, c_m, dt) as f32,
            bias: 0.0,
            rest: -70.0,
            threshold: -55.0,
            fires: Fires::AtOrAbove,
            reset: Reset::To(-70.0),
            refractory_steps: (t_ref.0 / dt.0).round() as u32,
            order: Order::DriveDecayAdd,
        }
    }
}

/// P21 of `iaf_psc_exp`: what a unit of exponential current adds to the membrane potential within `dt`.
///
/// The textbook form divides two small differences where τ_syn ≈ τ_m; `expm1(d) / d` does not lose digits there.
pub fn psc_coupling(tau_m: Ms, tau_syn: Ms, c_m: f64, dt: Ms) -> f64 {
    let d = dt.0 / tau_syn.0 - dt.0 / tau_m.0;
    let ratio = if d == 0.0 { 1.0 } else { d.exp_m1() / d };
    dt.0 / c_m * (-dt.0 / tau_syn.0).exp() * ratio
}

/// P20 I_e of `iaf_psc_exp`: what a constant current `i_e` adds to the membrane potential within `dt`.
pub fn psc_bias(i_e: f64, tau_m: Ms, c_m: f64, dt: Ms) -> f64 {
    -i_e * tau_m.0 / c_m * (-dt.0 / tau_m.0).exp_m1()
}

impl Neuron for CurrentLif {
    fn kind(&self) -> &'static str {
        "current-lif"
    }

    fn params(&self) -> Vec<Param> {
        let mut params = vec![
            Param::ranged("leak", self.leak, 0.0, 1.0, "share of the way to rest per step"),
            Param::ranged(
                "current_decay",
                self.current_decay,
                0.0,
                1.0,
                "factor on the synaptic current per step",
            ),
            Param::finite("coupling", self.coupling, "what a unit of current adds to the membrane in a step"),
            Param::finite("bias", self.bias, "constant addition to the membrane in a step"),
            Param::finite("rest", self.rest, "resting potential"),
            Param::finite("threshold", self.threshold, "firing threshold"),
            refractory(self.refractory_steps),
        ];
        params.extend(self.reset.param());
        params
    }

    fn state(&self) -> Vec<StateSpec> {
        let mut state = vec![StateSpec::membrane(self.rest), StateSpec::current()];
        state.extend((self.refractory_steps > 0).then(StateSpec::refractory));
        state
    }

    fn step(&self, input: &[f32], state: &mut [&mut [f32]], spikes: &mut [u8]) {
        let (membrane, rest) = state.split_at_mut(1);
        let (current, left) = rest.split_at_mut(1);
        for (n, &x) in input.iter().enumerate() {
            let (u, i) = (&mut membrane[0][n], &mut current[0][n]);
            let drive = match self.order {
                Order::AddDriveDecay => {
                    let jumped = *i + x;
                    *i = self.current_decay * jumped;
                    jumped
                }
                Order::DecayAddDrive => {
                    *i = self.current_decay * *i + x;
                    *i
                }
                Order::AddDecayDrive => {
                    *i = self.current_decay * (*i + x);
                    *i
                }
                Order::DriveDecayAdd => {
                    let before = *i;
                    *i = self.current_decay * before + x;
                    before
                }
            };
            spikes[n] = 0;
            if let Some(left) = left.first_mut().map(|left| &mut left[n])
                && *left > 0.0
            {
                *left -= 1.0;
                continue;
            }
            *u = *u + self.leak * (self.rest - *u) + self.coupling * drive + self.bias;
            if self.fires.crosses(*u, self.threshold) {
                *u = self.reset.apply(*u, self.threshold);
                spikes[n] = 1;
                if let Some(left) = left.first_mut() {
                    left[n] = self.refractory_steps as f32;
                }
            }
        }
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn validate(&self) -> Result<()> {
        self.params().iter().try_for_each(Param::check)?;
        check_reset(self.reset, ResetActs::SameStep, self.refractory_steps, self.threshold)
    }
}
