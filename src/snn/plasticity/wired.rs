//! Plasticity as part of the description of a projection: a rule, and whether weights keep their sum.

use super::{Normalise, Rule};
use crate::snn::init::Base;
use crate::units::Ms;

/// How the weights of a projection of a simulation change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plasticity {
    /// What spikes do to them.
    pub rule: Rule,
    /// Scales the weights into each neuron at the end of every so much time.
    pub normalise: Option<(Normalise, Ms)>,
}

impl Plasticity {
    /// Everything that is wrong with it, on a grid of `dt` and for weights that are drawn from `weights`.
    pub(in crate::snn) fn problems(&self, weights: Option<Base<'_>>, dt: Ms) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(e) = self.rule.validate() {
            return vec![format!("its rule {}: {e}", self.rule.kind())];
        }
        let [min, max] = self.rule.bounds();
        let ends = |all: &mut dyn Iterator<Item = f64>| {
            all.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), w| (a.min(w), b.max(w)))
        };
        let (least, most) = match weights {
            Some(Base::Constant(weight)) => (weight, weight),
            Some(Base::Uniform { low, high }) => (low, high),
            Some(Base::Listed(all)) => ends(&mut all.iter().map(|&w| w.into())),
            Some(Base::ListedF64(all)) => ends(&mut all.iter().copied()),
            _ => (min, max),
        };
        if least < min || most > max {
            let outside = if least < min { least } else { most };
            problems.push(format!("a weight is {outside}; its rule keeps weights between {min} and {max}"));
        }
        if let Some((Normalise { total }, every)) = self.normalise {
            if !(total.is_finite() && total > 0.0) {
                problems.push(format!("weights are normalised to a sum of {total}; it must be above 0"));
            }
            let steps = every.0 / dt.0;
            let whole = (steps - steps.round()).abs() <= 1e-6 * steps;
            if !(whole && (1.0 - 1e-6..1e15).contains(&steps)) {
                problems.push(format!(
                    "weights are normalised every {every}; it must be a multiple of the time step, {dt}"
                ));
            }
        }
        problems
    }

    /// How weights are scaled, and after how many steps again.
    pub(crate) fn normalise_steps(&self, dt: Ms) -> Option<(Normalise, u64)> {
        self.normalise.map(|(normalise, every)| (normalise, (every.0 / dt.0).round() as u64))
    }

    /// Bytes of a synapse beside its target, weight and delay.
    pub(in crate::snn) fn bytes_per_synapse(&self, own_delays: bool) -> f64 {
        let traces = if own_delays { 24.0 } else { 0.0 };
        let owed = if matches!(self.rule, Rule::Reward(_)) { 16.0 } else { 0.0 };
        12.0 + traces + owed
    }
}
