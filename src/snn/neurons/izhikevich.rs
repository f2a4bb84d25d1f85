//! Izhikevich's neuron (IEEE Trans. Neural Netw. 14, 2003): NEST `izhikevich`, Brian2's and Norse's examples.
//!
//! ```text
//! v̇ = 0.04 v² + 5 v + 140 − u + I          u̇ = a (b v − u)          v in mV, t in ms
//!
//! euler (NEST's default):   v, u ← v + dt v̇(v, u), u + dt u̇(v, u);   v ← v + x_j
//! published:                v ← v + dt/2 v̇(v, u), twice;   u ← u + dt u̇(v, u)
//! s ← v ≥ 30;   v ← c, u ← u + d where s
//! ```
//!
//! Both are first-order schemes whose spikes depend on dt; results are stated with scheme and step. The published
//! script uses dt = 1 ms.

use super::lanes::{Lane, Lanes};
use super::physical::{both_precisions, finite, membrane, positive, variable};
use crate::error::{Error, Result};
use crate::snn::neuron::{GpuModel, Neuron, Param, StateSpec};
use crate::snn::real::Real;
use crate::units::Ms;
use serde::{Deserialize, Serialize};

/// An Izhikevich neuron. Receptors: `current` (in the model's own unit, mV/ms, during the step) and `jump` (mV, added
/// to the membrane in the step). State: membrane potential and recovery variable.
///
/// It begins at its stable fixed point, where it has one, and else at `c`.
///
/// ```
/// use ransnn::snn::{Neuron, neurons::Izhikevich};
/// use ransnn::units::Ms;
/// let regular = Izhikevich::regular_spiking(Ms(0.1));
/// assert_eq!(regular.state()[0].initial, -70.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Izhikevich {
    /// Rate of the recovery variable in 1/ms.
    pub a: f64,
    /// Its sensitivity to the membrane potential.
    pub b: f64,
    /// Potential after a spike in mV.
    pub c: f64,
    /// What a spike adds to the recovery variable.
    pub d: f64,
    /// Potential at which a spike is counted, in mV.
    pub threshold: f64,
    /// Constant current, in mV/ms.
    pub current: f64,
    /// Order and size of the updates.
    pub scheme: Scheme,
    /// Time step.
    pub dt: Ms,
}

/// How the equations are stepped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// Forward Euler of both variables at once (NEST with `consistent_integration`).
    Euler,
    /// Two half steps of the membrane, then the recovery variable, as in the script published with the paper.
    Published,
}

impl Izhikevich {
    /// Regular spiking: a 0.02, b 0.2, c −65, d 8.
    pub fn regular_spiking(dt: Ms) -> Self {
        Self { a: 0.02, b: 0.2, c: -65.0, d: 8.0, threshold: 30.0, current: 0.0, scheme: Scheme::Euler, dt }
    }

    /// Fast spiking: a 0.1, b 0.2, c −65, d 2.
    pub fn fast_spiking(dt: Ms) -> Self {
        Self { a: 0.1, d: 2.0, ..Self::regular_spiking(dt) }
    }

    /// Intrinsically bursting: a 0.02, b 0.2, c −55, d 4.
    pub fn intrinsically_bursting(dt: Ms) -> Self {
        Self { c: -55.0, d: 4.0, ..Self::regular_spiking(dt) }
    }

    /// Chattering: a 0.02, b 0.2, c −50, d 2.
    pub fn chattering(dt: Ms) -> Self {
        Self { c: -50.0, d: 2.0, ..Self::regular_spiking(dt) }
    }

    /// The stable fixed point: 0.04 v² + (5 − b) v + 140 + I = 0, the lower root; `c` where there is none.
    fn fixed_point(&self) -> f64 {
        let slope = 5.0 - self.b;
        let root = (slope * slope - 0.16 * (140.0 + self.current)).sqrt();
        if root.is_nan() { self.c } else { (-slope - root) / 0.08 }
    }

    /// What a step computes with, in the order of `kernels/neurons.cuh`.
    fn constants<R: Real>(&self) -> [R; 12] {
        let h = self.dt.0;
        let published = if self.scheme == Scheme::Published { 1.0 } else { 0.0 };
        let (a, b, c, d) = (self.a, self.b, self.c, self.d);
        [h, 0.5 * h, a, b, c, d, self.threshold, self.current, published, 0.04, 5.0, 140.0].map(R::of)
    }

    fn lanes<R: Real>(&self) -> Step<R> {
        Step { scheme: self.scheme, constants: self.constants() }
    }
}

/// What a step computes with.
struct Step<R> {
    scheme: Scheme,
    constants: [R; 12],
}

impl<R: Real> Lanes<R, 2, 2> for Step<R> {
    #[inline(always)]
    fn step(&self, n: usize, input: &[Lane<R>; 2], state: &mut [Lane<R>; 2], spikes: &mut Lane<u8>) {
        let [membrane, recovery] = state;
        let [h, half, a, b, c, d, threshold, current, _, square, linear, offset] = self.constants;
        let rate = |v: R, u: R, x: R| square * v * v + linear * v + offset - u + x;
        for n in 0..n {
            let (mut v, mut u) = (membrane[n], recovery[n]);
            let (x, jump) = (current + input[0][n], input[1][n]);
            match self.scheme {
                Scheme::Euler => {
                    (v, u) = (v + h * rate(v, u, x) + jump, u + h * a * (b * v - u));
                }
                Scheme::Published => {
                    v = v + half * rate(v, u, x);
                    v = v + half * rate(v, u, x);
                    u = u + h * a * (b * v - u);
                    v = v + jump;
                }
            }
            let fires = v >= threshold;
            (membrane[n], recovery[n]) = if fires { (c, u + d) } else { (v, u) };
            spikes[n] = fires.into();
        }
    }
}

impl Neuron for Izhikevich {
    fn kind(&self) -> &'static str {
        "izhikevich"
    }

    fn receptors(&self) -> &'static [&'static str] {
        &["current", "jump"]
    }

    fn params(&self) -> Vec<Param> {
        vec![
            positive("a", "1/ms", self.a, "rate of the recovery variable"),
            finite("b", "1/ms", self.b, "sensitivity of the recovery variable"),
            finite("c", "mV", self.c, "potential after a spike"),
            finite("d", "mV/ms", self.d, "what a spike adds to the recovery variable"),
            finite("threshold", "mV", self.threshold, "potential at which a spike is counted"),
            finite("current", "mV/ms", self.current, "constant current"),
            positive("dt", "ms", self.dt.0, "time step"),
        ]
    }

    fn state(&self) -> Vec<StateSpec> {
        let v = self.fixed_point();
        vec![membrane(v), variable("recovery variable", "mV/ms", self.b * v)]
    }

    fn validate(&self) -> Result<()> {
        self.params().iter().try_for_each(Param::check)?;
        if self.c >= self.threshold {
            return Err(Error::value("c", self.c, format!("below the threshold, {}", self.threshold)));
        }
        Ok(())
    }

    fn on_gpu(&self) -> Option<(GpuModel, Vec<f32>)> {
        Some((GpuModel::Izhikevich, self.constants().to_vec()))
    }

    both_precisions!();
}
