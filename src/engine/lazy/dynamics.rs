//! One population of linear neurons in continuous time: the state at an event, and the first crossing after it.
//!
//! Time is counted in steps of the network's `dt`, as `f64`: what lies on the grid is a whole number and exact.
//! Potentials are relative to rest.
//!
//! ## First crossing
//!
//! Let I⁺ be an upper bound of the drive over a window. As long as the potential stays below
//! `v + (I⁺ − λ v) K₀(t)`, the solution for a constant I⁺, it cannot reach the threshold before that solution does.
//! So the search marches from one such bound to the next. It never steps over a crossing, however short the excursion,
//! and it ends where the potential is within [`TOLERANCE`] (relative to the distances from rest to threshold and
//! reset) of the threshold; the spike is then early by at most that distance over the slope. With the drive as its own
//! bound this is Newton's method from below, and the windows shrink with its steps. For a constant drive (delta
//! synapses) the first bound is the crossing, in closed form.
//!
//! ## Threshold that moves
//!
//! With a shift ϑ̇ = −μ ϑ of the threshold, what is kept is y = v − ϑ and not v: `v̇ = −λ v + I` becomes
//! `ẏ = −λ y + I + (μ − λ) ϑ`. The threshold then stands still, and ϑ is one more exponential current; the search for
//! crossings knows nothing of it. A spike that raises ϑ lowers y by as much.

use crate::snn::linear::{
    Adaptation, Kernel, Linear, alpha_response, constant_response, exponential_response,
};
use crate::tensor::cpu::math::f64::{exp, ln};

/// How near to the threshold is a crossing.
pub const TOLERANCE: f64 = 1e-12;

/// A [`Linear`] model in units of steps.
#[derive(Clone, Debug)]
pub struct Dynamics {
    leak: f64,
    drive: f64,
    /// Relative to rest.
    pub threshold: f64,
    reset: f64,
    refractory: f64,
    /// Resting potential, to be added to what is shown.
    pub rest: f64,
    tolerance: f64,
    currents: Vec<Current>,
    receptors: Vec<Effect>,
    /// What a spike adds to currents.
    after_spike: Vec<(usize, f64)>,
    /// Of these currents, the first that shifts the threshold; the others follow.
    shifts: usize,
}

/// A current i(t) = (i + j t) e^(−mu t), by synapses or adaptation.
#[derive(Clone, Copy, Debug)]
struct Current {
    mu: f64,
    /// Drive for i = 1.
    factor: f64,
    /// 1 / (mu − leak) where the two differ enough for differences of exponentials; 0 otherwise.
    inverse: f64,
}

/// What an event of unit weight adds to.
#[derive(Clone, Copy, Debug)]
enum Effect {
    Membrane(f64),
    /// i of a current.
    Jump(usize, f64),
    /// j of a current.
    Ramp(usize, f64),
}

/// The neurons of a population, or a piece of it.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Potential at `at`, less the shift of the threshold.
    pub membrane: Vec<f64>,
    /// Time of the state; the end of the refractory period as long as that lies ahead.
    pub at: Vec<f64>,
    /// End of the last refractory period.
    pub until: Vec<f64>,
    /// No crossing before, if nothing arrives.
    pub due: Vec<f64>,
    /// `[neurons, currents]`, (i, j) each.
    pub currents: Vec<[f64; 2]>,
}

/// Something that arrives at a neuron.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Arrival {
    pub time: f64,
    /// Of a plastic synapse, its place until it arrives.
    pub weight: f64,
    pub receptor: u16,
    /// Plastic projection through which it comes, counted from 1; 0 for others.
    pub through: u16,
}

/// Who is told what happens to a neuron, in order of time.
pub trait Listener {
    /// An event acts now: its weight.
    fn weight(&mut self, event: &mut Arrival) -> f64;
    /// The neuron fires.
    fn spike(&mut self, time: f64);
}

/// Listens to nothing.
pub struct Nobody;

impl Listener for Nobody {
    fn weight(&mut self, event: &mut Arrival) -> f64 {
        event.weight
    }
    fn spike(&mut self, _: f64) {}
}

impl Dynamics {
    /// The model at a step of `dt` ms, with the receptors that are used.
    pub fn new(linear: &Linear, dt: f64, used: &[bool]) -> Self {
        let leak = dt / linear.tau;
        let (threshold, reset) = (linear.threshold - linear.rest, linear.reset - linear.rest);
        let scale = if threshold.is_finite() { threshold.abs().max(reset.abs()) } else { 0.0 };
        let mut dynamics = Self {
            leak,
            drive: linear.drive * dt,
            threshold,
            reset,
            refractory: linear.refractory / dt,
            rest: linear.rest,
            tolerance: TOLERANCE * scale,
            currents: Vec::new(),
            receptors: Vec::new(),
            after_spike: Vec::new(),
            shifts: 0,
        };
        for (kernel, used) in linear.receptors.iter().zip(used) {
            let index = dynamics.currents.len();
            let effect = match *kernel {
                _ if !used => Effect::Membrane(0.0),
                Kernel::Jump { gain } => Effect::Membrane(gain),
                Kernel::Constant { gain } => {
                    dynamics.currents.push(Current::new(0.0, leak));
                    Effect::Jump(index, gain * dt)
                }
                Kernel::Exponential { tau, gain } => {
                    dynamics.currents.push(Current::new(dt / tau, leak));
                    Effect::Jump(index, gain * dt)
                }
                Kernel::Alpha { tau, gain } => {
                    dynamics.currents.push(Current::new(dt / tau, leak));
                    Effect::Ramp(index, gain * dt * std::f64::consts::E * dt / tau)
                }
            };
            dynamics.receptors.push(effect);
        }
        for adaptation in &linear.adaptation {
            if let Adaptation::Current { tau, size } = *adaptation {
                dynamics.after_spike.push((dynamics.currents.len(), -size * dt));
                dynamics.currents.push(Current::new(dt / tau, leak));
            }
        }
        dynamics.shifts = dynamics.currents.len();
        for adaptation in &linear.adaptation {
            if let Adaptation::Threshold { tau, size } = *adaptation {
                dynamics.after_spike.push((dynamics.currents.len(), size));
                let mu = dt / tau;
                dynamics.currents.push(Current { factor: mu - leak, ..Current::new(mu, leak) });
            }
        }
        dynamics
    }

    /// `neurons` neurons at rest at time 0.
    pub fn initial(&self, neurons: usize) -> State {
        let mut state = State {
            membrane: vec![0.0; neurons],
            at: vec![0.0; neurons],
            until: vec![f64::NEG_INFINITY; neurons],
            due: vec![f64::INFINITY; neurons],
            currents: vec![[0.0; 2]; neurons * self.currents.len()],
        };
        (0..neurons).for_each(|n| self.foresee(&mut state, n));
        state
    }

    /// Number of receptors.
    pub fn receptors(&self) -> usize {
        self.receptors.len()
    }

    /// A copy of the state of neuron `n`.
    pub fn only(&self, state: &State, n: usize) -> State {
        State {
            membrane: vec![state.membrane[n]],
            at: vec![state.at[n]],
            until: vec![state.until[n]],
            due: vec![state.due[n]],
            currents: self.currents_of(state, n).to_vec(),
        }
    }

    /// Sets the potential of neuron `n`, not relative to rest, before anything has happened.
    pub fn start(&self, state: &mut State, n: usize, potential: f64) {
        state.membrane[n] = potential - self.rest;
        self.foresee(state, n);
    }

    /// The potential of neuron `n` at `t`, relative to rest; without events since `at`.
    pub fn membrane(&self, state: &State, n: usize, t: f64) -> f64 {
        let s = (t - state.at[n]).max(0.0);
        let membrane = if s == 0.0 { state.membrane[n] } else { self.after(state, n, s).0 };
        membrane + self.shift(state, n, s)
    }

    /// The shift of the threshold of neuron `n`, `s` after its state.
    fn shift(&self, state: &State, n: usize, s: f64) -> f64 {
        let shifts = self.currents.iter().zip(self.currents_of(state, n)).skip(self.shifts);
        shifts.map(|(current, &[shift, _])| shift * exp(-current.mu * s)).sum()
    }

    /// Potential and bound of the drive over the window that begins `s` after the state, and is `window` long.
    fn outlook(&self, state: &State, n: usize, s: f64, window: f64) -> (f64, f64) {
        let mut bound = self.drive;
        for (current, &[i, j]) in self.currents.iter().zip(self.currents_of(state, n)) {
            let decay = exp(-current.mu * s) * current.factor;
            bound += current.highest((i + j * s) * decay, j * decay, window);
        }
        (self.after(state, n, s).0, bound)
    }

    /// Potential after `s`, and the decay of the membrane.
    fn after(&self, state: &State, n: usize, s: f64) -> (f64, f64) {
        let decay = exp(-self.leak * s);
        let constant = if self.drive == 0.0 { 0.0 } else { self.drive * constant_response(s, self.leak) };
        let mut membrane = state.membrane[n] * decay + constant;
        for (current, &[i, j]) in self.currents.iter().zip(self.currents_of(state, n)) {
            if i != 0.0 || j != 0.0 {
                membrane += current.response(i * current.factor, j * current.factor, s, self.leak, decay);
            }
        }
        (membrane, decay)
    }

    fn currents_of<'a>(&self, state: &'a State, n: usize) -> &'a [[f64; 2]] {
        let each = self.currents.len();
        &state.currents[n * each..(n + 1) * each]
    }

    /// Moves the state of neuron `n` to `t`; not back, where a refractory period ends later.
    fn advance(&self, state: &mut State, n: usize, t: f64) {
        let s = t - state.at[n];
        if s > 0.0 {
            state.membrane[n] = self.after(state, n, s).0;
            self.decay(state, n, s);
            state.at[n] = t;
        }
    }

    fn decay(&self, state: &mut State, n: usize, s: f64) {
        let each = self.currents.len();
        for (current, value) in self.currents.iter().zip(&mut state.currents[n * each..(n + 1) * each]) {
            let decay = exp(-current.mu * s);
            *value = [(value[0] + value[1] * s) * decay, value[1] * decay];
        }
    }

    /// A spike of neuron `n` at `t`, where its state is: the membrane is reset, and stays so until the refractory
    /// period is over.
    fn fire(&self, state: &mut State, n: usize, t: f64) {
        let each = self.currents.len();
        for &(current, size) in &self.after_spike {
            state.currents[n * each + current][0] += size;
        }
        self.decay(state, n, self.refractory);
        state.membrane[n] = self.reset - self.shift(state, n, 0.0);
        state.at[n] = t + self.refractory;
        state.until[n] = state.at[n];
    }

    /// Renews `due` after a change of the state.
    fn foresee(&self, state: &mut State, n: usize) {
        let mut bound = self.drive;
        for (current, &[i, j]) in self.currents.iter().zip(self.currents_of(state, n)) {
            bound += current.highest(i * current.factor, j * current.factor, f64::INFINITY);
        }
        state.due[n] = state.at[n] + self.time_to_threshold(state.membrane[n], bound);
    }

    /// Time from `membrane` to the threshold under a constant drive, infinite where it is never reached.
    fn time_to_threshold(&self, membrane: f64, drive: f64) -> f64 {
        let (gap, slope) = (self.threshold - membrane, drive - self.leak * membrane);
        if gap <= 0.0 {
            return 0.0;
        }
        // gap = slope (1 − e^(−λt)) / λ
        let share = self.leak * gap / slope;
        if slope <= 0.0 || share >= 1.0 || share.is_nan() {
            return f64::INFINITY;
        }
        gap / slope * stretch(share)
    }

    /// Brings neuron `n` to `end`, which is included, through `events` in order of time.
    ///
    /// Events of the same time act together: their effects are added in the order given, then the potential is
    /// compared with the threshold once. A jump of the membrane in the refractory period is lost, its end included.
    pub fn run(
        &self,
        state: &mut State,
        n: usize,
        events: &mut [Arrival],
        end: f64,
        listener: &mut impl Listener,
    ) {
        let mut next = 0;
        while next < events.len() {
            let t = events[next].time;
            self.cross(state, n, t, listener);
            self.advance(state, n, t);
            let held = t <= state.until[n];
            let each = self.currents.len();
            // In the refractory period the state lies ahead of the event.
            let ahead = (state.at[n] - t).max(0.0);
            while let Some(event) = events.get_mut(next).filter(|event| event.time == t) {
                let weight = listener.weight(event);
                match self.receptors[usize::from(event.receptor)] {
                    Effect::Membrane(gain) if !held => state.membrane[n] += gain * weight,
                    Effect::Membrane(_) => {}
                    Effect::Jump(index, gain) => {
                        let decay = if ahead > 0.0 { exp(-self.currents[index].mu * ahead) } else { 1.0 };
                        state.currents[n * each + index][0] += gain * weight * decay;
                    }
                    Effect::Ramp(index, gain) => {
                        let decay = if ahead > 0.0 { exp(-self.currents[index].mu * ahead) } else { 1.0 };
                        let current = &mut state.currents[n * each + index];
                        current[0] += gain * weight * ahead * decay;
                        current[1] += gain * weight * decay;
                    }
                }
                next += 1;
            }
            if !held && state.membrane[n] >= self.threshold {
                listener.spike(t);
                self.fire(state, n, t);
            }
            self.foresee(state, n);
        }
        self.cross(state, n, end.next_up(), listener);
    }

    /// Fires at the crossings before `end`.
    fn cross(&self, state: &mut State, n: usize, end: f64, listener: &mut impl Listener) {
        while state.due[n] < end {
            let Some(t) = self.crossing(state, n, end) else { return };
            self.advance(state, n, t);
            listener.spike(t);
            self.fire(state, n, t);
            self.foresee(state, n);
        }
    }

    /// The first crossing before `end`; where there is none, `due` is moved to `end` or beyond.
    fn crossing(&self, state: &mut State, n: usize, end: f64) -> Option<f64> {
        let (start, mut window) = (state.at[n], f64::INFINITY);
        let mut t = state.due[n];
        while t < end {
            let (membrane, drive) = self.outlook(state, n, t - start, window);
            if membrane >= self.threshold - self.tolerance {
                return Some(t);
            }
            let step = self.time_to_threshold(membrane, drive);
            if step >= window {
                // No crossing in the window; the next one may be wider.
                t += window;
                window *= 4.0;
            } else if t + step == t {
                return Some(t);
            } else {
                t += step;
                window = 2.0 * step;
            }
        }
        state.due[n] = t;
        None
    }
}

impl Current {
    fn new(mu: f64, leak: f64) -> Self {
        let difference = mu - leak;
        let apart = difference.abs() > 0.1 * mu.max(leak);
        Self { mu, factor: 1.0, inverse: if apart { 1.0 / difference } else { 0.0 } }
    }

    /// What the current adds to the membrane within `s`; `membrane` is the decay of the membrane.
    fn response(&self, i: f64, j: f64, s: f64, leak: f64, membrane: f64) -> f64 {
        if self.inverse == 0.0 {
            let alpha = if j == 0.0 { 0.0 } else { j * alpha_response(s, leak, self.mu) };
            return i * exponential_response(s, leak, self.mu) + alpha;
        }
        let decay = exp(-self.mu * s);
        let exponential = (membrane - decay) * self.inverse;
        i * exponential + j * (exponential - s * decay) * self.inverse
    }

    /// An upper bound of (i + j s) e^(−mu s) for s in `0..=window`, at most second order in the window above it.
    fn highest(&self, i: f64, j: f64, window: f64) -> f64 {
        if j == 0.0 {
            // e^(−x) ≥ 1 − x
            return if i >= 0.0 || self.mu == 0.0 { i } else { i * (1.0 - self.mu * window).max(0.0) };
        }
        let peak = 1.0 / self.mu - i / j;
        let end = |s: f64| if s == f64::INFINITY { 0.0 } else { (i + j * s) * exp(-self.mu * s) };
        match j > 0.0 {
            true if peak <= 0.0 => i,
            true if peak < window => j / self.mu * exp(-self.mu * peak),
            true => end(window),
            false => i.max(end(window)),
        }
    }
}

/// −ln(1 − x) / x for 0 ≤ x < 1.
fn stretch(x: f64) -> f64 {
    // Kahan's correction of the rounding of 1 − x.
    let rounded = 1.0 - x;
    if rounded == 1.0 { 1.0 } else { -ln(rounded) / (1.0 - rounded) }
}
