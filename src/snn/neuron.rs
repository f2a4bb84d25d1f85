//! What a neuron model is: parameters with units and ranges, state variables, and one step of time.

use crate::error::{Error, Result};
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

/// A neuron model on the time grid.
///
/// One step does, in this order: decay, add input, compare with the threshold, reset. The input of a step acts in
/// the same step.
pub trait Neuron: Debug + Send + Sync {
    /// Name of the model in experiment files: "lif".
    fn kind(&self) -> &'static str;
    /// Parameters with their values and ranges.
    fn params(&self) -> Vec<Param>;
    /// State variables, in the order of `step`'s `state`.
    fn state(&self) -> Vec<StateSpec>;
    /// Advances `input.len()` neurons by one step. `state` holds one slice per variable; `spikes` is told how many
    /// spikes each neuron emits (0 or 1 for all models but the multi-spike ones). Indices of `input`, `state` and
    /// `spikes` agree.
    fn step(&self, input: &[f32], state: &mut [&mut [f32]], spikes: &mut [u8]);
    /// For fast paths that know a model.
    fn as_any(&self) -> &dyn std::any::Any;

    /// Checks every parameter against its range.
    ///
    /// # Errors
    /// Names the first parameter that is outside.
    fn validate(&self) -> Result<()> {
        for p in self.params() {
            if !(p.min..=p.max).contains(&p.value) {
                let range = format!("between {} and {} {}", p.min, p.max, if p.unit == "1" { "" } else { p.unit });
                return Err(Error::value(p.name, p.value, range.trim_end()));
            }
        }
        Ok(())
    }
}
