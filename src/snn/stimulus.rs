//! What a simulation adds to a network: where input populations get their spikes from, what drives neurons from
//! outside, what they start from, and how synapses are wired beyond their rule.

use super::{Init, Population, plasticity::Plasticity};
use crate::error::{Error, Result};
use crate::rng::Stream;
use crate::units::{Hz, Ms};

/// Beyond the model: what a population is told from outside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stimulus {
    /// Spikes of an input population; `None` for one that samples are presented to.
    pub source: Option<Source>,
    /// Input to each neuron from outside the network.
    pub drives: Vec<Drive>,
    /// What state variables start from, by name; the others start from the model's own value.
    pub initial: Vec<(String, Init)>,
}

/// Where the spikes of an input population come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Each neuron fires in each step with probability `rate · dt`, between two times.
    Poisson {
        /// Rate of each neuron.
        rate: Hz,
        /// First time.
        from: Ms,
        /// First time after.
        until: Ms,
    },
    /// These neurons fire in these steps: pairs (step, neuron).
    Spikes(Vec<(u64, u32)>),
}

/// Input to each neuron of a population from outside the network. Random numbers are keyed by the population's name, the
/// position in [`Stimulus::drives`], the step and the neuron.
#[derive(Clone, Debug, PartialEq)]
pub enum Drive {
    /// Spikes of independent Poisson trains with a total rate per neuron, each with this weight: the number in a step
    /// is drawn from a Poisson distribution.
    Poisson {
        /// Name of the receptor.
        receptor: String,
        /// Total rate per neuron.
        rate: Hz,
        /// Weight of each spike.
        weight: f64,
    },
    /// Added to the input of a receptor in every step from one time to another.
    Current {
        /// Name of the receptor.
        receptor: String,
        /// Of each neuron: the same, drawn, or listed.
        amplitude: Init,
        /// First time.
        from: Ms,
        /// First time after.
        until: Ms,
    },
}

/// How synapses are wired beyond their rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Wiring {
    /// Which of the target's [`receptors`](super::Neuron::receptors) they end on.
    pub receptor: usize,
    /// Delays in milliseconds, one per synapse; rounded to the grid.
    pub delays: Option<Init>,
    /// Whether a neuron may be connected to itself.
    pub autapses: bool,
    /// How their weights change; `None` for weights that stay.
    pub plasticity: Option<Plasticity>,
}

impl Default for Wiring {
    fn default() -> Self {
        Self { receptor: 0, delays: None, autapses: true, plasticity: None }
    }
}

impl Stimulus {
    /// Everything that does not fit the population it belongs to.
    pub(super) fn problems(&self, population: &Population, dt: Ms) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(source) = &self.source {
            if population.model.is_some() {
                problems.push("neurons of a model have no source of spikes".into());
            }
            source.problems(population, dt, &mut problems);
        }
        let Some(model) = &population.model else {
            if !self.drives.is_empty() || !self.initial.is_empty() {
                problems.push("an input has no neurons to drive or to initialise".into());
            }
            return problems;
        };
        for drive in &self.drives {
            let receptor = drive.receptor();
            if !model.receptors().contains(&receptor) {
                problems.push(format!(
                    "`{receptor}` is not one of its receptors, {}",
                    model.receptors().join(", ")
                ));
            }
            match drive {
                Drive::Poisson { rate, weight, .. } => {
                    let mean = rate.0 * dt.0 / 1000.0;
                    if !(0.0..=MOST_PER_STEP).contains(&mean) {
                        problems.push(format!("a drive of {rate} is {mean} spikes a step; it must be between 0 and {MOST_PER_STEP}"));
                    }
                    if !weight.is_finite() {
                        problems
                            .push(format!("the weight of a drive is {weight}; it must be a finite number"));
                    }
                }
                Drive::Current { amplitude, from, until, .. } => {
                    window(*from, *until, &mut problems);
                    self::values("the current of a drive", amplitude, population.size(), &mut problems);
                }
            }
        }
        let states = model.state();
        for (variable, init) in &self.initial {
            if !states.iter().any(|state| state.name == variable) {
                let names: Vec<_> = states.iter().map(|state| state.name).collect();
                problems
                    .push(format!("`{variable}` is not one of its state variables, {}", names.join(", ")));
            }
            self::values(&format!("the initial `{variable}`"), init, population.size(), &mut problems);
        }
        problems
    }
}

/// Most spikes of a Poisson drive in a step, on average: beyond, the table of its distribution gets long.
pub(crate) const MOST_PER_STEP: f64 = 64.0;

impl Source {
    fn problems(&self, population: &Population, dt: Ms, problems: &mut Vec<String>) {
        match self {
            Self::Poisson { rate, from, until } => {
                let p = rate.0 * dt.0 / 1000.0;
                if !(0.0..=1.0).contains(&p) {
                    problems
                        .push(format!("a rate of {rate} is {p} spikes a step; it must be between 0 and 1"));
                }
                window(*from, *until, problems);
            }
            Self::Spikes(list) => {
                let outside = list.iter().filter(|(_, neuron)| *neuron as usize >= population.size()).count();
                if outside > 0 {
                    problems
                        .push(format!("{outside} of its listed spikes are of neurons that it does not have"));
                }
            }
        }
    }
}

impl Drive {
    /// Name of the receptor that it ends on.
    pub fn receptor(&self) -> &str {
        match self {
            Self::Poisson { receptor, .. } | Self::Current { receptor, .. } => receptor,
        }
    }
}

fn window(from: Ms, until: Ms, problems: &mut Vec<String>) {
    if from.0.is_nan() || until.0.is_nan() || from.0 < 0.0 || until.0 < from.0 {
        problems.push(format!("it acts from {from} until {until}; they must be in order and not before 0"));
    }
}

/// One number per neuron: what is wrong with what they are drawn from.
fn values(what: &str, init: &Init, neurons: usize, problems: &mut Vec<String>) {
    let listed = match init {
        Init::Listed(list) => Some(list.len()),
        Init::ListedF64(list) => Some(list.len()),
        Init::Constant(_) | Init::Uniform { .. } | Init::Normal { .. } => None,
        _ => {
            problems.push(format!("{what} must be constant, uniform, normal or listed"));
            return;
        }
    };
    if let Err(wrong) = init.recipe() {
        problems.extend(wrong.into_iter().map(|w| format!("{what}: {w}")));
    }
    if let Some(listed) = listed.filter(|&listed| listed != neurons) {
        problems.push(format!("{what} is listed for {listed} neurons; there are {neurons}"));
    }
}

/// One number per neuron, drawn from a stream of that name, whatever is asked for around them.
pub(crate) fn drawn(init: &Init, neurons: usize, stream: &Stream) -> Result<Vec<f64>> {
    let recipe = init.recipe().map_err(Error::Network)?;
    let mut walk = stream.walk(0);
    Ok((0..neurons).map(|n| recipe.base.sample(&mut walk, n)).collect())
}
