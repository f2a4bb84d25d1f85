//! Leaky integrate-and-fire, in the dialects of the frameworks that people come from.
//!
//! One step, with input current `x`, membrane potential `u`, decay `β`, gain `g`, rest `u₀` and threshold `θ`:
//!
//! ```text
//! u ← u_reset                      (reset before the next step, where the neuron fired in the step before)
//! u ← u₀ + β (u − u₀) + g x
//! u ← u − θ  or  u_reset           (reset in the next step, where the neuron fired in the step before)
//! s ← u > θ  or  u ≥ θ
//! u ← u − θ s  or  u_reset         (same-step reset)
//! ```
//!
//! Every product and sum is rounded on its own (no fused multiply-add), so that spikes are the same on every
//! instruction set and on the GPU.
//!
//! | constructor | reproduces |
//! |---|---|
//! | [`Lif::default`], [`Lif::with_tau`], [`Lif::physical`] | ours: exact decay, `≥`, subtracts in the same step |
//! | [`Lif::snntorch`], [`Lif::snntorch_zero`], [`Lif::lapicque`] | snnTorch `Leaky`, `Lapicque` |
//! | [`Lif::spikingjelly`], [`Lif::spikingjelly_if`] | SpikingJelly `LIFNode`, `ParametricLIFNode`, `IFNode` |
//! | [`Lif::norse_box`] | Norse `LIFBoxCell` |
//! | [`Lif::mlgenn`] | mlGeNN `LeakyIntegrateFire` |
//! | [`Lif::nir`] | NIR `LIF`, solved exactly over a step |
//! | [`Lif::norse`], [`Lif::nest`], [`Lif::spikingjelly_cuba`], [`Lif::sinabs_current`] | with a synaptic current: [`CurrentLif`](super::CurrentLif) |
//! | [`Lif::sinabs`], [`Lif::sinabs_iaf`] | several spikes a step: [`MultiSpikeLif`](super::MultiSpikeLif) |
//! | [`Lif::spyx`] | spikes one step late: [`LateLif`](super::LateLif) |

use crate::error::{Error, Result};
use crate::snn::neuron::{GpuModel, Neuron, Param, StateSpec};
use crate::units::Ms;
use serde::{Deserialize, Serialize};

/// How the membrane potential is compared with the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fires {
    /// `u > θ` (snnTorch, Norse, NIR, Brian).
    Above,
    /// `u ≥ θ` (SpikingJelly, sinabs, mlGeNN, NEST).
    AtOrAbove,
}

impl Fires {
    /// Whether `u` crosses `threshold`.
    #[inline]
    pub fn crosses(self, u: f32, threshold: f32) -> bool {
        match self {
            Self::Above => u > threshold,
            Self::AtOrAbove => u >= threshold,
        }
    }
}

/// What a spike does to the membrane potential.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reset {
    /// Subtracts the threshold ("soft reset").
    Subtract,
    /// Sets it to a value ("hard reset").
    To(f32),
    /// Nothing.
    None,
}

impl Reset {
    /// The membrane potential after a spike at `u`.
    #[inline]
    pub fn apply(self, u: f32, threshold: f32) -> f32 {
        match self {
            Self::Subtract => u - threshold,
            Self::To(value) => value,
            Self::None => u,
        }
    }

    /// The value of a hard reset as a parameter, to have its range checked.
    pub(super) fn param(self) -> Option<Param> {
        match self {
            Self::To(value) => Some(Param::finite("reset", value, "membrane potential after a spike")),
            _ => None,
        }
    }
}

/// When the reset acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResetActs {
    /// In the step of the spike.
    SameStep,
    /// At the end of the step after (snnTorch's default for `subtract`); with a hard reset that step's input is lost.
    NextStep,
    /// At the beginning of the step after, before decay and input (snnTorch's `Leaky` with `zero`).
    BeforeNextStep,
}

/// A leaky integrate-and-fire neuron. [`Lif::default`] is ours: β 0.95, gain 1, threshold 1, `≥`, subtracting, same step.
///
/// ```
/// use ransnn::snn::{Neuron, neurons::Lif};
/// let lif = Lif::snntorch(0.9);
/// let (mut u, mut spikes) = (vec![0.0f32; 1], vec![0u8; 1]);
/// for _ in 0..2 {
///     lif.step(&[0.6], &mut [&mut u], &mut spikes);
/// }
/// assert_eq!(spikes, [1]); // 0.6, then 0.9 · 0.6 + 0.6 = 1.14 > 1
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lif {
    /// Factor on the membrane potential per step, β = exp(−dt / τ).
    pub decay: f32,
    /// Factor on the input.
    pub gain: f32,
    /// Resting potential.
    pub rest: f32,
    /// Firing threshold θ.
    pub threshold: f32,
    /// Comparison with the threshold.
    pub fires: Fires,
    /// Effect of a spike.
    pub reset: Reset,
    /// Time of the reset.
    pub acts: ResetActs,
    /// Steps after a spike during which the membrane stays where the reset put it and input is lost. Above 0 it
    /// needs a same-step reset, and adds a state variable that counts down.
    pub refractory_steps: u32,
}

impl Default for Lif {
    fn default() -> Self {
        Self {
            decay: 0.95,
            gain: 1.0,
            rest: 0.0,
            threshold: 1.0,
            fires: Fires::AtOrAbove,
            reset: Reset::Subtract,
            acts: ResetActs::SameStep,
            refractory_steps: 0,
        }
    }
}

impl Lif {
    /// Ours with a time constant: β = exp(−dt / τ), gain 1.
    ///
    /// ```
    /// use ransnn::{snn::neurons::Lif, units::Ms};
    /// assert!((Lif::with_tau(Ms(19.5), Ms(1.0)).decay - 0.95).abs() < 1e-4);
    /// ```
    pub fn with_tau(tau: Ms, dt: Ms) -> Self {
        Self { decay: (-dt.0 / tau.0).exp() as f32, ..Self::default() }
    }

    /// Ours in physical form: gain R (1 − β), so that a constant current `I` drives the membrane to `R I`.
    pub fn physical(tau: Ms, resistance: f64, dt: Ms) -> Self {
        // exp_m1 keeps the digits of 1 − β where τ is long.
        Self { gain: (-resistance * (-dt.0 / tau.0).exp_m1()) as f32, ..Self::with_tau(tau, dt) }
    }

    /// snnTorch's `Leaky(beta)`: strict comparison, subtracting reset one step late.
    pub fn snntorch(beta: f32) -> Self {
        Self { decay: beta, fires: Fires::Above, acts: ResetActs::NextStep, ..Self::default() }
    }

    /// snnTorch's `Leaky(beta, reset_mechanism="zero")`: the membrane is zeroed before the step after a spike.
    pub fn snntorch_zero(beta: f32) -> Self {
        Self { reset: Reset::To(0.0), acts: ResetActs::BeforeNextStep, ..Self::snntorch(beta) }
    }

    /// snnTorch's `Lapicque(R, C, time_step)`: explicit Euler; with `Reset::To(0.0)` the input of the step after a
    /// spike is lost.
    pub fn lapicque(r: f64, c: f64, time_step: f64) -> Self {
        let decay = (1.0 - time_step / (r * c)) as f32;
        Self { gain: (time_step / c) as f32, ..Self::snntorch(decay) }
    }

    /// SpikingJelly's `LIFNode(tau, decay_input, v_reset)`; `ParametricLIFNode` is the same with the learned τ.
    ///
    /// `v_reset: None` subtracts the threshold; a value is also the leak's target and the initial membrane potential.
    pub fn spikingjelly(tau: f64, decay_input: bool, v_reset: Option<f32>) -> Self {
        Self {
            decay: (1.0 - 1.0 / tau) as f32,
            gain: if decay_input { (1.0 / tau) as f32 } else { 1.0 },
            rest: v_reset.unwrap_or(0.0),
            reset: v_reset.map_or(Reset::Subtract, Reset::To),
            ..Self::default()
        }
    }

    /// SpikingJelly's `IFNode(v_reset)`: no leak.
    pub fn spikingjelly_if(v_reset: Option<f32>) -> Self {
        Self { decay: 1.0, gain: 1.0, ..Self::spikingjelly(1.0, false, v_reset) }
    }

    /// Norse's `LIFBoxCell`: explicit Euler with `tau_mem_inv` = 1/τ, strict comparison. Norse's `reset="value"` is
    /// `Reset::To(v_reset)`.
    pub fn norse_box(tau_mem: Ms, dt: Ms) -> Self {
        let step = dt.0 / tau_mem.0;
        Self { decay: (1.0 - step) as f32, gain: step as f32, fires: Fires::Above, ..Self::default() }
    }

    /// mlGeNN's `LeakyIntegrateFire`: `≥`, subtracting, gain 1, or 1 − β with `scale_i`.
    pub fn mlgenn(tau_mem: Ms, scale_i: bool, dt: Ms) -> Self {
        if scale_i { Self::physical(tau_mem, 1.0, dt) } else { Self::with_tau(tau_mem, dt) }
    }

    /// NIR's `LIF`: τ v̇ = (v_leak − v) + R I, solved exactly for a current that is constant over the step; strict
    /// comparison, reset to `v_reset`.
    pub fn nir(tau: Ms, r: f64, v_leak: f32, v_threshold: f32, v_reset: f32, dt: Ms) -> Self {
        Self {
            rest: v_leak,
            threshold: v_threshold,
            fires: Fires::Above,
            reset: Reset::To(v_reset),
            ..Self::physical(tau, r, dt)
        }
    }

    /// Bits by which `kernels/lif.cuh` knows the dialect; `None` for one that it lacks.
    pub(crate) fn dialect(&self) -> Option<u32> {
        let fires = if self.fires == Fires::AtOrAbove { 1 } else { 0 };
        let reset = match self.reset {
            Reset::Subtract => 2,
            Reset::To(_) => 4,
            Reset::None => 0,
        };
        let acts = match self.acts {
            ResetActs::SameStep => 0,
            ResetActs::NextStep => 8,
            ResetActs::BeforeNextStep => 16,
        };
        (self.refractory_steps == 0 || acts == 0).then_some(fires | reset | acts)
    }

    /// The value of a hard reset; 0 where there is none.
    pub(crate) fn reset_value(&self) -> f32 {
        if let Reset::To(value) = self.reset { value } else { 0.0 }
    }

    #[inline]
    fn fired(&self, u: f32) -> bool {
        self.fires.crosses(u, self.threshold)
    }

    #[inline]
    fn integrate(&self, u: f32, x: f32) -> f32 {
        self.rest + self.decay * (u - self.rest) + self.gain * x
    }

    fn step_refractory(&self, input: &[f32], membrane: &mut [f32], left: &mut [f32], spikes: &mut [u8]) {
        for (((u, &x), left), s) in membrane.iter_mut().zip(input).zip(left).zip(spikes) {
            *s = 0;
            if *left > 0.0 {
                *left -= 1.0;
                continue;
            }
            *u = self.integrate(*u, x);
            if self.fired(*u) {
                *u = self.reset.apply(*u, self.threshold);
                *left = self.refractory_steps as f32;
                *s = 1;
            }
        }
    }
}

impl Neuron for Lif {
    fn kind(&self) -> &'static str {
        "lif"
    }

    fn params(&self) -> Vec<Param> {
        let mut params = vec![
            Param::ranged("decay", self.decay, 0.0, 1.0, "factor on the membrane potential per step"),
            Param::finite("gain", self.gain, "factor on the input"),
            Param::finite("rest", self.rest, "resting potential"),
            Param::finite("threshold", self.threshold, "firing threshold"),
            refractory(self.refractory_steps),
        ];
        params.extend(self.reset.param());
        params
    }

    fn state(&self) -> Vec<StateSpec> {
        let mut state = vec![StateSpec::membrane(self.rest)];
        state.extend((self.refractory_steps > 0).then(StateSpec::refractory));
        state
    }

    fn step(&self, input: &[f32], state: &mut [&mut [f32]], spikes: &mut [u8]) {
        if let [membrane, left] = state {
            return self.step_refractory(input, membrane, left, spikes);
        }
        let membrane = &mut *state[0];
        for ((u, &x), s) in membrane.iter_mut().zip(input).zip(spikes) {
            // With a delayed reset, the spike of the step before is read off the membrane it left above threshold.
            let late = self.acts != ResetActs::SameStep && self.fired(*u);
            if late && self.acts == ResetActs::BeforeNextStep {
                *u = self.reset.apply(*u, self.threshold);
            }
            let mut next = self.integrate(*u, x);
            if late && self.acts == ResetActs::NextStep {
                next = self.reset.apply(next, self.threshold);
            }
            let fired = self.fired(next);
            if fired && self.acts == ResetActs::SameStep {
                next = self.reset.apply(next, self.threshold);
            }
            *u = next;
            *s = fired.into();
        }
    }

    fn on_gpu(&self) -> Option<(GpuModel, Vec<f32>)> {
        let (decay, gain, rest, threshold) = (self.decay, self.gain, self.rest, self.threshold);
        let (dialect, silent) = (self.dialect()? as f32, self.refractory_steps as f32);
        let constants = vec![decay, gain, rest, threshold, self.reset_value(), dialect, silent];
        Some((GpuModel::Lif, constants))
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn validate(&self) -> Result<()> {
        self.params().iter().try_for_each(Param::check)?;
        check_reset(self.reset, self.acts, self.refractory_steps, self.threshold)
    }
}

/// Most steps of a refractory period: counted exactly in `f32`.
const LONGEST_REFRACTORY: f64 = 16_777_216.0;

pub(super) fn refractory(steps: u32) -> Param {
    Param {
        name: "refractory_steps",
        unit: "1",
        value: steps.into(),
        min: 0.0,
        max: LONGEST_REFRACTORY,
        doc: "steps after a spike without integration",
    }
}

/// What reset, threshold and refractory period demand of each other.
pub(super) fn check_reset(
    reset: Reset,
    acts: ResetActs,
    refractory_steps: u32,
    threshold: f32,
) -> Result<()> {
    if refractory_steps > 0 && acts != ResetActs::SameStep {
        return Err(Error::value(
            "refractory_steps",
            refractory_steps,
            "0 with a reset that acts a step late",
        ));
    }
    match reset {
        Reset::Subtract if threshold <= 0.0 => {
            Err(Error::value("threshold", threshold, "above 0 with a reset that subtracts it"))
        }
        Reset::To(value) if value > threshold => {
            Err(Error::value("reset", value, format!("at most the threshold, {threshold}")))
        }
        _ => Ok(()),
    }
}
