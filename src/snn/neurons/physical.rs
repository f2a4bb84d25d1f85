//! What the models in physical units (ms, mV, pA, pF, nS) share: parameters with units, refractory steps, and one
//! generic body for both precisions.

use crate::snn::neuron::{Param, StateSpec};
use crate::snn::real::Real;
use crate::units::Ms;

/// Methods of [`Neuron`](crate::snn::Neuron) of a model with a field `dt`, whose `lanes` gives its
/// [`Lanes`](super::lanes::Lanes) for either precision.
macro_rules! both_precisions {
    () => {
        fn step(&self, input: &[f32], state: &mut [&mut [f32]], spikes: &mut [u8]) {
            crate::snn::neurons::lanes::run(&self.lanes(), &[input], state, spikes);
        }

        fn advance(&self, inputs: &[&[f32]], state: &mut [&mut [f32]], spikes: &mut [u8]) {
            crate::snn::neurons::lanes::run(&self.lanes(), inputs, state, spikes);
        }

        fn advance_f64(
            &self,
            inputs: &[&[f64]],
            state: &mut [&mut [f64]],
            spikes: &mut [u8],
        ) -> crate::error::Result<()> {
            crate::snn::neurons::lanes::run(&self.lanes(), inputs, state, spikes);
            Ok(())
        }

        fn time_step(&self) -> Option<crate::units::Ms> {
            Some(self.dt)
        }

        fn as_any(&self) -> &dyn std::any::Any {
            self
        }
    };
}
pub(super) use both_precisions;

/// Receptors of models with exponential synapses.
pub(super) const EXCITATORY_INHIBITORY: &[&str] = &["excitatory", "inhibitory", "current"];

const LARGEST: f64 = f32::MAX as f64;
const SMALLEST: f64 = f32::MIN_POSITIVE as f64;

/// A quantity above zero.
pub(super) fn positive(name: &'static str, unit: &'static str, value: f64, doc: &'static str) -> Param {
    Param { name, unit, value, min: SMALLEST, max: LARGEST, doc }
}

/// A quantity of at least zero.
pub(super) fn not_negative(name: &'static str, unit: &'static str, value: f64, doc: &'static str) -> Param {
    Param { name, unit, value, min: 0.0, max: LARGEST, doc }
}

/// Any finite quantity.
pub(super) fn finite(name: &'static str, unit: &'static str, value: f64, doc: &'static str) -> Param {
    Param { name, unit, value, min: -LARGEST, max: LARGEST, doc }
}

/// A state variable with its unit.
pub(super) fn variable(name: &'static str, unit: &'static str, initial: f64) -> StateSpec {
    StateSpec { name, unit, initial: initial as f32 }
}

/// The membrane potential, in mV.
pub(super) fn membrane(initial: f64) -> StateSpec {
    variable("membrane potential", "mV", initial)
}

/// Steps of a refractory period, as NEST counts them: those after the step of the spike.
pub(super) fn refractory_steps<R: Real>(period: Ms, dt: Ms) -> R {
    R::of((period.0 / dt.0).round())
}

/// Whether a neuron with so many refractory steps left is held in this step, and how many are left after it.
#[inline(always)]
pub(super) fn held<R: Real>(left: R) -> (bool, R) {
    let held = left > R::default();
    (held, if held { left - R::of(1.0) } else { left })
}

/// One step of the classical Runge–Kutta method for `N` variables; `rates` gets the stage (0 start, 1 middle, 2 end).
#[inline(always)]
pub(super) fn runge_kutta<R: Real, const N: usize>(
    y: [R; N],
    h: R,
    rates: impl Fn(usize, [R; N]) -> [R; N],
) -> [R; N] {
    let (half, sixth, two) = (h * R::of(0.5), h * R::of(1.0 / 6.0), R::of(2.0));
    let along = |k: [R; N], h: R| std::array::from_fn(|i| y[i] + h * k[i]);
    let k1 = rates(0, y);
    let k2 = rates(1, along(k1, half));
    let k3 = rates(1, along(k2, half));
    let k4 = rates(2, along(k3, h));
    std::array::from_fn(|i| y[i] + sixth * (k1[i] + two * k2[i] + two * k3[i] + k4[i]))
}
