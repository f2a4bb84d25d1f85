//! Leaky integrate-and-fire with exact integration, for simulations: Brian2 with `method="exact"`, NEST `iaf_psc_exp`
//! and `iaf_psc_delta`.
//!
//! ```text
//! τ dV/dt = E − V + R (Σ I_k + I_ext)      dI_k/dt = −I_k / τ_k
//! ```
//!
//! One step of length h multiplies the exact propagators:
//!
//! ```text
//! V ← V + (1 − e^{−h/τ}) (V∞ − V) + Σ c_k I_k      V∞ = E + R I,  c_k = R τ_k / (τ_k − τ) (e^{−h/τ_k} − e^{−h/τ})
//! I_k ← e^{−h/τ_k} I_k + x_k
//! V > θ: a spike; V ← V_reset, held for the refractory period
//! ```
//!
//! Currents go on during the refractory period; jumps of the membrane (delta synapses) that arrive in it are lost.
//! Each product and sum is rounded on its own, in this order.

use super::lif::Fires;
use crate::error::{Error, Result};
use crate::snn::linear::{Kernel, Linear};
use crate::snn::neuron::{GpuModel, Neuron, Param, StateSpec};
use crate::snn::real::Real;
use crate::units::Ms;
use serde::{Deserialize, Serialize};

/// What arriving spikes act on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Receptors {
    /// The membrane jumps by the weight: receptor "jump".
    Delta,
    /// A current that decays with this time constant jumps: receptor "synapse".
    Exponential(Ms),
    /// Two of them: receptors "excitatory" and "inhibitory".
    Two(Ms, Ms),
}

/// When the input of a step acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Acts {
    /// Before the step: it is part of what is integrated. A delay of d then is a delay of d − 1 in the other orders.
    First,
    /// After the integration and before the comparison, as in NEST.
    BeforeComparison,
    /// After comparison and reset, as in Brian2: what arrives in the step of a spike is lost if it is a jump.
    Last,
}

/// A leaky integrate-and-fire neuron with exact integration.
///
/// State: membrane potential, the currents, and the steps left of the refractory period.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Iaf {
    /// Membrane time constant τ.
    pub tau_mem: Ms,
    /// Membrane potential per unit of current, R: 1 where currents are given in millivolts; τ / C otherwise.
    pub resistance: f64,
    /// Resting potential E.
    pub rest: f64,
    /// Firing threshold θ.
    pub threshold: f64,
    /// Comparison with the threshold.
    pub fires: Fires,
    /// Membrane potential after a spike.
    pub reset: f64,
    /// Steps in which the membrane is held after the step of a spike: NEST's `t_ref / h`, Brian2's less one.
    pub refractory_steps: u32,
    /// Constant current I.
    pub current: f64,
    /// What spikes act on.
    pub receptors: Receptors,
    /// When they act.
    pub acts: Acts,
    /// Time step h.
    pub dt: Ms,
}

impl Iaf {
    /// Delta synapses as Brunel (2000) has them: rest 0, threshold 20, reset 10 mV, 2 ms refractory.
    pub fn delta(tau_mem: Ms, dt: Ms) -> Self {
        Self {
            tau_mem,
            resistance: 1.0,
            rest: 0.0,
            threshold: 20.0,
            fires: Fires::AtOrAbove,
            reset: 10.0,
            refractory_steps: (2.0 / dt.0).round() as u32,
            current: 0.0,
            receptors: Receptors::Delta,
            acts: Acts::BeforeComparison,
            dt,
        }
    }

    /// Exponential currents in picoampere on a capacitance in picofarad, as NEST's `iaf_psc_exp` has them by default:
    /// rest and reset −70, threshold −55 mV, 2 ms refractory.
    pub fn psc_exp(tau_mem: Ms, tau_syn: Ms, capacitance: f64, dt: Ms) -> Self {
        Self {
            resistance: tau_mem.0 / capacitance,
            rest: -70.0,
            threshold: -55.0,
            reset: -70.0,
            receptors: Receptors::Exponential(tau_syn),
            ..Self::delta(tau_mem, dt)
        }
    }

    /// The numbers of a step, computed once.
    pub(crate) fn factors<F: Real>(&self) -> Factors<F> {
        let (h, tau) = (self.dt.0, self.tau_mem.0);
        let synapse = |tau_syn: f64| {
            // expm1(d) / d does not lose digits where the two time constants are close.
            let d = h / tau_syn - h / tau;
            let ratio = if d == 0.0 { 1.0 } else { d.exp_m1() / d };
            let coupling = self.resistance * h / tau * (-h / tau_syn).exp() * ratio;
            ((-h / tau_syn).exp(), coupling)
        };
        let (kind, first, second) = match self.receptors {
            Receptors::Delta => (Kind::Delta, (0.0, 0.0), (0.0, 0.0)),
            Receptors::Exponential(tau_syn) => (Kind::One, synapse(tau_syn.0), (0.0, 0.0)),
            Receptors::Two(a, b) => (Kind::Two, synapse(a.0), synapse(b.0)),
        };
        let leak = -(-h / tau).exp_m1();
        let threshold = F::of(self.threshold);
        Factors {
            kind,
            acts: self.acts,
            leak: F::of(leak),
            level: F::of(self.rest + self.resistance * self.current),
            injected: F::of(self.resistance * leak),
            decay: [F::of(first.0), F::of(second.0)],
            coupling: [F::of(first.1), F::of(second.1)],
            threshold: if self.fires == Fires::Above { threshold } else { threshold.below() },
            reset: F::of(self.reset),
            hold: F::of(self.refractory_steps.into()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Delta,
    One,
    Two,
}

/// What one step computes with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factors<F> {
    kind: Kind,
    acts: Acts,
    leak: F,
    level: F,
    injected: F,
    decay: [F; 2],
    coupling: [F; 2],
    /// A neuron above it fires.
    pub(crate) threshold: F,
    pub(crate) reset: F,
    /// Steps of the refractory period.
    pub(crate) hold: F,
}

impl<F: Real> Factors<F> {
    /// The kernel that takes these steps, and its constants; see `kernels/neurons.cuh`.
    fn numbers(&self) -> (GpuModel, Vec<F>) {
        let model = match self.kind {
            Kind::Delta => GpuModel::IafDelta,
            Kind::One => GpuModel::IafOne,
            Kind::Two => GpuModel::IafTwo,
        };
        let acts = match self.acts {
            Acts::First => 0.0,
            Acts::BeforeComparison => 1.0,
            Acts::Last => 2.0,
        };
        let ([decay, other_decay], [coupling, other_coupling]) = (self.decay, self.coupling);
        let membrane = [F::of(acts), self.leak, self.level, self.injected];
        let synapses = [decay, other_decay, coupling, other_coupling];
        (model, [&membrane[..], &synapses, &[self.threshold, self.reset, self.hold]].concat())
    }

    /// One step; see the file's documentation. An empty slice of injected currents means none. Inlined, so that it
    /// is compiled for each instruction set.
    #[inline(always)]
    pub(crate) fn run(&self, inputs: &[&[F]], state: &mut [&mut [F]], spikes: &mut [u8]) {
        let n = spikes.len();
        match (self.kind, inputs, state) {
            (Kind::Delta, [jump, current, ..], [u, hold, ..]) => {
                let (x, u, hold) = (&jump[..n], &mut u[..n], &mut hold[..n]);
                for i in 0..n {
                    let injected = current.get(i).map_or(F::default(), |&c| self.injected * c);
                    let from = if self.acts == Acts::First { u[i] + x[i] } else { u[i] };
                    let integrated = self.leaked(from) + injected;
                    let jumped = self.acts == Acts::BeforeComparison;
                    let driven = if jumped { integrated + x[i] } else { integrated };
                    let held = hold[i] > F::default();
                    let (next, spike) = self.fire(driven, u[i], &mut hold[i]);
                    let jumps = self.acts == Acts::Last && !spike && !held;
                    u[i] = if jumps { next + x[i] } else { next };
                    spikes[i] = u8::from(spike);
                }
            }
            (Kind::One, [synapse, current, ..], [u, g, hold, ..]) => {
                let (x, u, g, hold) = (&synapse[..n], &mut u[..n], &mut g[..n], &mut hold[..n]);
                for i in 0..n {
                    let before = self.synapse(0, &mut g[i], x[i]);
                    let injected = current.get(i).map_or(F::default(), |&c| self.injected * c);
                    let driven = self.leaked(u[i]) + self.coupling[0] * before + injected;
                    let (next, spike) = self.fire(driven, u[i], &mut hold[i]);
                    u[i] = next;
                    spikes[i] = u8::from(spike);
                }
            }
            (Kind::Two, [excitatory, inhibitory, current, ..], [u, a, b, hold, ..]) => {
                let (x, y) = (&excitatory[..n], &inhibitory[..n]);
                let (u, a, b, hold) = (&mut u[..n], &mut a[..n], &mut b[..n], &mut hold[..n]);
                for i in 0..n {
                    let before = (self.synapse(0, &mut a[i], x[i]), self.synapse(1, &mut b[i], y[i]));
                    let injected = current.get(i).map_or(F::default(), |&c| self.injected * c);
                    let driven = self.leaked(u[i])
                        + self.coupling[0] * before.0
                        + self.coupling[1] * before.1
                        + injected;
                    let (next, spike) = self.fire(driven, u[i], &mut hold[i]);
                    u[i] = next;
                    spikes[i] = u8::from(spike);
                }
            }
            _ => {}
        }
    }

    /// Whether a step integrates, then adds input, then compares: what [`Factors::jumps`] and the like do.
    pub(crate) fn input_comes_second(&self) -> bool {
        match self.kind {
            Kind::Delta => self.acts == Acts::BeforeComparison,
            // The comparison does not see what a current gets in this step.
            Kind::One | Kind::Two => self.acts != Acts::First,
        }
    }

    /// The state variable that a receptor of synapses acts on.
    pub(crate) fn target(&self, receptor: usize) -> usize {
        receptor + usize::from(self.kind != Kind::Delta)
    }

    /// Integrates membranes that are not refractory and adds jumps, all of them or none, which become 0. Whether one is
    /// above the threshold.
    #[inline(always)]
    pub(crate) fn jumps(&self, u: &mut [F], x: &mut [F]) -> bool {
        let mut over = false;
        if x.is_empty() {
            for u in u {
                *u = self.leaked(*u);
                over |= *u > self.threshold;
            }
            return over;
        }
        for (u, x) in u.iter_mut().zip(x) {
            *u = self.leaked(*u) + std::mem::take(x);
            over |= *u > self.threshold;
        }
        over
    }

    /// The same with a current each, which decays.
    #[inline(always)]
    pub(crate) fn one_current(&self, u: &mut [F], a: &mut [F]) -> bool {
        let mut over = false;
        for (u, a) in u.iter_mut().zip(a) {
            let (before, next) = (*a, self.leaked(*u) + self.coupling[0] * *a);
            (*u, *a) = (next, self.decay[0] * before);
            over |= next > self.threshold;
        }
        over
    }

    /// The same with two currents each.
    #[inline(always)]
    pub(crate) fn two_currents(&self, u: &mut [F], a: &mut [F], b: &mut [F]) -> bool {
        let mut over = false;
        for (u, (a, b)) in u.iter_mut().zip(a.iter_mut().zip(b)) {
            let before = (*a, *b);
            let next = self.leaked(*u) + self.coupling[0] * before.0 + self.coupling[1] * before.1;
            (*u, *a, *b) = (next, self.decay[0] * before.0, self.decay[1] * before.1);
            over |= next > self.threshold;
        }
        over
    }

    #[inline(always)]
    fn leaked(&self, u: F) -> F {
        u + self.leak * (self.level - u)
    }

    /// Adds input to a current and lets it decay; gives the current that is integrated.
    #[inline(always)]
    fn synapse(&self, which: usize, current: &mut F, x: F) -> F {
        if self.acts == Acts::First {
            let before = *current + x;
            *current = self.decay[which] * before;
            return before;
        }
        let before = *current;
        *current = self.decay[which] * before + x;
        before
    }

    /// Holds the membrane in the refractory period, compares and resets, without branches.
    #[inline(always)]
    fn fire(&self, driven: F, before: F, hold: &mut F) -> (F, bool) {
        let (none, one) = (F::default(), F::of(1.0));
        let held = *hold > none;
        let next = if held { before } else { driven };
        let spike = !held & (next > self.threshold);
        // Selected by arithmetic: a choice would become a masked store, which some processors are slow at. Both are
        // whole numbers, one of which is 0.
        let less = *hold - one;
        let left = if less > none { less } else { none };
        *hold = left + self.hold * if spike { one } else { none };
        (if spike { self.reset } else { next }, spike)
    }
}

impl Neuron for Iaf {
    fn kind(&self) -> &'static str {
        "iaf"
    }

    fn params(&self) -> Vec<Param> {
        let ms = |name, value: f64, doc| Param { unit: "ms", value, ..Param::positive(name, 1.0, doc) };
        let finite = |name, value: f64, doc| Param { value, ..Param::finite(name, 0.0, doc) };
        let mut params = vec![
            ms("tau_mem", self.tau_mem.0, "membrane time constant"),
            finite("resistance", self.resistance, "membrane potential per unit of current"),
            finite("rest", self.rest, "resting potential"),
            finite("threshold", self.threshold, "firing threshold"),
            finite("reset", self.reset, "membrane potential after a spike"),
            super::lif::refractory(self.refractory_steps),
            finite("current", self.current, "constant current"),
        ];
        match self.receptors {
            Receptors::Delta => {}
            Receptors::Exponential(tau) => params.push(ms("tau_syn", tau.0, "synaptic time constant")),
            Receptors::Two(a, b) => {
                params.push(ms("tau_exc", a.0, "excitatory time constant"));
                params.push(ms("tau_inh", b.0, "inhibitory time constant"));
            }
        }
        params
    }

    fn state(&self) -> Vec<StateSpec> {
        let mut state = vec![StateSpec::membrane(self.rest as f32)];
        let current = |name| StateSpec { name, ..StateSpec::current() };
        match self.receptors {
            Receptors::Delta => {}
            Receptors::Exponential(_) => state.push(StateSpec::current()),
            Receptors::Two(..) => {
                state.push(current("excitatory current"));
                state.push(current("inhibitory current"));
            }
        }
        state.push(StateSpec::refractory());
        state
    }

    fn receptors(&self) -> &'static [&'static str] {
        match self.receptors {
            Receptors::Delta => &["jump", "current"],
            Receptors::Exponential(_) => &["synapse", "current"],
            Receptors::Two(..) => &["excitatory", "inhibitory", "current"],
        }
    }

    fn linear(&self) -> Option<Linear> {
        let gain = self.resistance / self.tau_mem.0;
        let synapse = |tau: Ms| Kernel::Exponential { tau: tau.0, gain };
        let mut receptors = match self.receptors {
            Receptors::Delta => vec![Kernel::Jump { gain: 1.0 }],
            Receptors::Exponential(tau) => vec![synapse(tau)],
            Receptors::Two(a, b) => vec![synapse(a), synapse(b)],
        };
        receptors.push(Kernel::Constant { gain });
        Some(Linear {
            tau: self.tau_mem.0,
            rest: self.rest,
            drive: self.current * gain,
            threshold: self.threshold,
            reset: self.reset,
            refractory: f64::from(self.refractory_steps) * self.dt.0,
            receptors,
            adaptation: vec![],
        })
    }

    fn time_step(&self) -> Option<Ms> {
        Some(self.dt)
    }

    fn on_gpu(&self) -> Option<(GpuModel, Vec<f32>)> {
        Some(self.factors().numbers())
    }

    fn step(&self, input: &[f32], state: &mut [&mut [f32]], spikes: &mut [u8]) {
        let none = vec![0.0; input.len()];
        self.factors().run(&[input, &none, &none], state, spikes);
    }

    fn advance(&self, inputs: &[&[f32]], state: &mut [&mut [f32]], spikes: &mut [u8]) {
        self.factors().run(inputs, state, spikes);
    }

    fn advance_f64(&self, inputs: &[&[f64]], state: &mut [&mut [f64]], spikes: &mut [u8]) -> Result<()> {
        self.factors().run(inputs, state, spikes);
        Ok(())
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn validate(&self) -> Result<()> {
        self.params().iter().try_for_each(Param::check)?;
        if self.reset > self.threshold {
            return Err(Error::value(
                "reset",
                self.reset,
                format!("at most the threshold, {}", self.threshold),
            ));
        }
        Ok(())
    }
}
