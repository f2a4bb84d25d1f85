//! What a neuron model is: parameters with units and ranges, state variables, and one step of time.

use crate::error::{Error, Result};
use crate::snn::linear::Linear;
use crate::units::Ms;
use std::fmt::Debug;

/// Documentation and range of one parameter of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Param {
    /// Name, as in the experiment file.
    pub name: &'static str,
    /// Unit: "ms", "mV", or "1" for a pure number.
    pub unit: &'static str,
    /// Current value.
    pub value: f64,
    /// Smallest allowed value.
    pub min: f64,
    /// Largest allowed value.
    pub max: f64,
    /// One line of documentation.
    pub doc: &'static str,
}

impl Param {
    /// A pure number in `min..=max`.
    pub fn ranged(name: &'static str, value: f32, min: f64, max: f64, doc: &'static str) -> Self {
        Self { name, unit: "1", value: value.into(), min, max, doc }
    }

    /// A pure number; any finite one.
    pub fn finite(name: &'static str, value: f32, doc: &'static str) -> Self {
        Self::ranged(name, value, f32::MIN.into(), f32::MAX.into(), doc)
    }

    /// A pure number above zero.
    pub fn positive(name: &'static str, value: f32, doc: &'static str) -> Self {
        Self::ranged(name, value, f32::MIN_POSITIVE.into(), f32::MAX.into(), doc)
    }

    /// Whether the value is in its range; not a number never is.
    ///
    /// # Errors
    /// Says the name, the value and the range.
    pub fn check(&self) -> Result<()> {
        if (self.min..=self.max).contains(&self.value) {
            return Ok(());
        }
        let unit = if self.unit == "1" { String::new() } else { format!(" {}", self.unit) };
        let (smallest, largest) = (f64::from(f32::MIN), f64::from(f32::MAX));
        let range = match (self.min, self.max) {
            (min, max) if min == smallest && max == largest => "a finite number".into(),
            (min, max) if min == f64::from(f32::MIN_POSITIVE) && max == largest => "above 0".into(),
            (min, max) if max == largest => format!("at least {min}{unit}"),
            (min, max) => format!("between {min} and {max}{unit}"),
        };
        // Most parameters are f32: 1.2 is to be shown as 1.2, not as the f64 next to it.
        let short = self.value as f32;
        let value = if f64::from(short) == self.value { short.to_string() } else { self.value.to_string() };
        Err(Error::value(self.name, value + &unit, range))
    }
}

/// Documentation of one state variable of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StateSpec {
    /// Name: "membrane potential", "synaptic current", …
    pub name: &'static str,
    /// Unit.
    pub unit: &'static str,
    /// Value before the first step.
    pub initial: f32,
}

impl StateSpec {
    /// The membrane potential, the first variable of every model.
    pub fn membrane(initial: f32) -> Self {
        Self { name: "membrane potential", unit: "1", initial }
    }

    /// The synaptic current.
    pub fn current() -> Self {
        Self { name: "synaptic current", unit: "1", initial: 0.0 }
    }

    /// Steps of the refractory period that are still to come.
    pub fn refractory() -> Self {
        Self { name: "refractory steps left", unit: "1", initial: 0.0 }
    }
}

/// The models that `kernels/neurons.cuh` has, by their numbers there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names are those of the models")]
pub enum GpuModel {
    IafDelta = 0,
    IafOne = 1,
    IafTwo = 2,
    Lif = 3,
    CondLif = 4,
    AdaptiveLif = 5,
    Izhikevich = 6,
    AlphaLif = 7,
    AdEx = 8,
}

/// A neuron model on the time grid.
///
/// One step does, in this order: decay, add input, compare with the threshold, reset. The input of a step acts in
/// the same step. Models that differ say so.
pub trait Neuron: Debug + Send + Sync {
    /// Name of the model in experiment files: "lif".
    fn kind(&self) -> &'static str;
    /// Parameters with their values and ranges.
    fn params(&self) -> Vec<Param>;
    /// State variables, in the order of `step`'s `state`; the membrane potential comes first.
    fn state(&self) -> Vec<StateSpec>;
    /// Advances `input.len()` neurons by one step. `state` holds one slice per variable; `spikes` is told how many
    /// spikes each neuron emits (0 or 1 for all models but the multi-spike ones). Indices of `input`, `state` and
    /// `spikes` agree.
    fn step(&self, input: &[f32], state: &mut [&mut [f32]], spikes: &mut [u8]);
    /// Names of the inputs that the model keeps apart, for example excitatory and inhibitory ones. Each projection of
    /// a simulation ends on one of them.
    fn receptors(&self) -> &'static [&'static str] {
        &["input"]
    }

    /// The time step that the model's factors were computed for, where it knows one.
    fn time_step(&self) -> Option<Ms> {
        None
    }

    /// One step of a simulation: as [`Neuron::step`], with one slice of input for each receptor.
    fn advance(&self, inputs: &[&[f32]], state: &mut [&mut [f32]], spikes: &mut [u8]) {
        if let Some(input) = inputs.first() {
            self.step(input, state, spikes);
        }
    }

    /// [`Neuron::advance`] in double precision.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a model that has none.
    fn advance_f64(&self, _inputs: &[&[f64]], _state: &mut [&mut [f64]], _spikes: &mut [u8]) -> Result<()> {
        Err(Error::Unsupported { op: "this neuron model", on: "in double precision".into() })
    }

    /// The model in closed form, for the lazy clock; `None` where its equations are not linear between events.
    fn linear(&self) -> Option<Linear> {
        None
    }

    /// The kernel that takes the same steps on a GPU, to the last bit, and its constants in the kernel's order; `None` for
    /// a model that has none.
    fn on_gpu(&self) -> Option<(GpuModel, Vec<f32>)> {
        None
    }

    /// For fast paths that know a model.
    fn as_any(&self) -> &dyn std::any::Any;

    /// Checks every parameter against its range, and what else the model demands of them together.
    ///
    /// # Errors
    /// Names the first parameter that is outside.
    fn validate(&self) -> Result<()> {
        self.params().iter().try_for_each(Param::check)
    }
}

impl<N: Neuron + 'static> From<N> for Box<dyn Neuron> {
    fn from(model: N) -> Self {
        Box::new(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_said_in_words() {
        let said = |p: Param| p.check().unwrap_err().to_string();
        assert_eq!(
            said(Param::ranged("decay", 1.2, 0.0, 1.0, "")),
            "decay is 1.2; it must be between 0 and 1"
        );
        assert_eq!(said(Param::finite("gain", f32::NAN, "")), "gain is NaN; it must be a finite number");
        assert_eq!(said(Param::positive("threshold", 0.0, "")), "threshold is 0; it must be above 0");
        let tau = Param { unit: "ms", max: f32::MAX.into(), ..Param::ranged("tau", -1.0, 0.5, 0.0, "") };
        assert_eq!(said(tau), "tau is -1 ms; it must be at least 0.5 ms");
        assert!(Param::ranged("decay", 1.0, 0.0, 1.0, "").check().is_ok());
    }
}
