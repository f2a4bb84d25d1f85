//! From what a user describes to a [`Network`]: checked as a whole, then the weights are drawn.

use super::connect::Rule;
use super::draw::Draw;
use super::init::Init;
use super::network::{Network, Pop, Population, Projection};
use super::neuron::Neuron;
use super::plasticity::{self, Normalise, Plasticity};
use super::stimulus::{Drive, Source, Stimulus, Wiring};
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::units::Ms;

mod check;

/// Most memory that the weights of a network may take unless [`NetworkBuilder::memory`] says otherwise: 16 GiB.
pub const DEFAULT_MEMORY: u64 = 16 << 30;

/// `[neurons]` or `[channels, height, width]`; made from a number or an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape(pub Vec<usize>);

impl From<usize> for Shape {
    fn from(size: usize) -> Self {
        Self(vec![size])
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(shape: [usize; N]) -> Self {
        Self(shape.to_vec())
    }
}

impl From<&[usize]> for Shape {
    fn from(shape: &[usize]) -> Self {
        Self(shape.to_vec())
    }
}

impl From<Vec<usize>> for Shape {
    fn from(shape: Vec<usize>) -> Self {
        Self(shape)
    }
}

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Eight-bit integers times a scale: for frozen projections, whose default it is.
    Int8,
    /// Single precision: the default of trainable projections.
    F32,
}

/// A network in the making; see [`Network::builder`].
#[derive(Debug)]
pub struct NetworkBuilder {
    dt: Ms,
    memory: u64,
    simulation: bool,
    populations: Vec<Population>,
    edges: Vec<Spec>,
}

#[derive(Debug)]
struct Spec {
    name: Option<String>,
    pre: Pop,
    post: Pop,
    rule: Rule,
    weights: Init,
    bias: Option<Init>,
    delay: Option<Ms>,
    frozen: bool,
    precision: Option<Precision>,
    receptor: Option<String>,
    delays: Option<Init>,
    autapses: bool,
    plasticity: Option<plasticity::Rule>,
    normalise: Option<(Normalise, Ms)>,
}

/// A projection in the making.
#[derive(Debug)]
pub struct Edge<'a>(&'a mut Spec);

impl Edge<'_> {
    /// Names it; "pre->post" otherwise, with "#2" and so on for further ones.
    pub fn name(self, name: impl Into<String>) -> Self {
        self.0.name = Some(name.into());
        self
    }

    /// Draws the weights from this; [`Init::KaimingUniform`] otherwise.
    pub fn weights(self, init: Init) -> Self {
        self.0.weights = init;
        self
    }

    /// Adds a constant input to each target (each channel of a convolution), drawn from this; none otherwise.
    pub fn bias(self, init: Init) -> Self {
        self.0.bias = Some(init);
        self
    }

    /// Delivers spikes that much later: a multiple of the time step. Without, they arrive in the same step.
    pub fn delay(self, delay: Ms) -> Self {
        self.0.delay = Some(delay);
        self
    }

    /// Delivers the spikes of each synapse with a delay of its own, in milliseconds: drawn or listed, and rounded to
    /// the time step. What a normal distribution draws below one step is drawn again. Of simulations.
    pub fn delays(self, delays: Init) -> Self {
        self.0.delays = Some(delays);
        self
    }

    /// Ends on this receptor of the target's model; on its first one otherwise. Of simulations.
    pub fn receptor(self, name: impl Into<String>) -> Self {
        self.0.receptor = Some(name.into());
        self
    }

    /// Never connects a neuron to itself. Of simulations.
    pub fn no_autapses(self) -> Self {
        self.0.autapses = false;
        self
    }

    /// Lets spikes change the weights by this rule, a [`Pair`](plasticity::Pair), [`Triplet`](plasticity::Triplet) or
    /// [`Reward`](plasticity::Reward). Weights are in units of the target's model, with their sign, as are the bounds
    /// of the rule; what a normal distribution draws outside of them is cut to them. Of simulations.
    pub fn plasticity(self, rule: impl Into<plasticity::Rule>) -> Self {
        self.0.plasticity = Some(rule.into());
        self
    }

    /// Scales the plastic weights into each neuron so that their magnitudes add up to `total`, at the end of every so
    /// much time. The bounds of the rule do not limit it; they act with the next change.
    pub fn normalise(self, total: f32, every: Ms) -> Self {
        self.0.normalise = Some((Normalise { total }, every));
        self
    }

    /// Never trains it.
    pub fn frozen(self) -> Self {
        self.0.frozen = true;
        self
    }

    /// Stores the weights like this.
    pub fn precision(self, precision: Precision) -> Self {
        self.0.precision = Some(precision);
        self
    }
}

impl NetworkBuilder {
    pub(super) fn new(dt: Ms, simulation: bool) -> Self {
        Self { dt, memory: DEFAULT_MEMORY, simulation, populations: Vec::new(), edges: Vec::new() }
    }

    /// Declares an input population whose spikes come from `source`; see [`Network::simulation`].
    pub fn source(&mut self, name: &str, shape: impl Into<Shape>, source: Source) -> Pop {
        let pop = self.add(name, shape.into(), None);
        self.populations[pop.0].stimulus.source = Some(source);
        pop
    }

    /// Drives each neuron of a population from outside; see [`Network::simulation`].
    pub fn drive(&mut self, pop: Pop, drive: Drive) {
        if let Some(population) = self.populations.get_mut(pop.0) {
            population.stimulus.drives.push(drive);
        }
    }

    /// Draws what a state variable of a population starts from; see [`Network::simulation`].
    pub fn initial(&mut self, pop: Pop, variable: &str, init: Init) {
        if let Some(population) = self.populations.get_mut(pop.0) {
            population.stimulus.initial.push((variable.into(), init));
        }
    }

    /// Refuses networks whose weights take more bytes than this while they are drawn.
    pub fn memory(&mut self, bytes: u64) {
        self.memory = bytes;
    }

    /// Declares an input.
    pub fn input(&mut self, name: &str, shape: impl Into<Shape>) -> Pop {
        self.add(name, shape.into(), None)
    }

    /// Declares neurons of a model; a `Box<dyn Neuron>` is one, too.
    pub fn population(
        &mut self,
        name: &str,
        shape: impl Into<Shape>,
        model: impl Into<Box<dyn Neuron>>,
    ) -> Pop {
        self.add(name, shape.into(), Some(model.into()))
    }

    fn add(&mut self, name: &str, shape: Shape, model: Option<Box<dyn Neuron>>) -> Pop {
        self.populations.push(Population {
            name: name.into(),
            shape: shape.0,
            model,
            stimulus: Stimulus::default(),
        });
        Pop(self.populations.len() - 1)
    }

    /// Declares synapses, trainable unless said otherwise.
    pub fn connect(&mut self, pre: Pop, post: Pop, rule: Rule) -> Edge<'_> {
        let (name, bias, delay, precision) = (None, None, None, None);
        let weights = Init::KaimingUniform;
        let (receptor, delays, autapses) = (None, None, true);
        let (plasticity, normalise) = (None, None);
        let frozen = self.simulation;
        self.edges.push(Spec {
            name,
            pre,
            post,
            rule,
            weights,
            bias,
            delay,
            frozen,
            precision,
            receptor,
            delays,
            autapses,
            plasticity,
            normalise,
        });
        let last = self.edges.len() - 1;
        Edge(&mut self.edges[last])
    }

    /// Checks everything and draws the weights from `seed`. The same description and seed give the same network; the
    /// weights of a projection depend on its own name and nothing else in the network.
    ///
    /// # Errors
    /// [`Error::Network`] with every mistake, by name; [`Error::Memory`] where there is nothing else wrong, before
    /// anything is allocated.
    pub fn build(self, seed: u64) -> Result<Network> {
        self.check()?;
        let names = self.projection_names();
        let mut projections = Vec::with_capacity(self.edges.len());
        for (spec, name) in self.edges.into_iter().zip(names) {
            projections.push(draw(spec, name, seed, &self.populations, self.simulation)?);
        }
        Ok(Network { dt: self.dt, seed, populations: self.populations, projections })
    }

    fn projection_names(&self) -> Vec<String> {
        let given = |name: &String| self.edges.iter().any(|spec| spec.name.as_ref() == Some(name));
        let of = |pop: Pop| self.populations.get(pop.0).map_or("?", |p| &p.name);
        let mut names: Vec<String> = Vec::new();
        for spec in &self.edges {
            let base = format!("{}->{}", of(spec.pre), of(spec.post));
            let default = || {
                let numbered = (2..).map(|n| format!("{base}#{n}"));
                let free = |name: &String| !names.contains(name) && !given(name);
                std::iter::once(base.clone()).chain(numbered).find(free).unwrap_or_default()
            };
            let name = spec.name.clone().unwrap_or_else(default);
            names.push(name);
        }
        names
    }
}

impl Spec {
    fn precision_or_default(&self) -> Precision {
        self.precision.unwrap_or(if self.frozen { Precision::Int8 } else { Precision::F32 })
    }

    fn wired(&self) -> Option<Plasticity> {
        self.plasticity.map(|rule| Plasticity { rule, normalise: self.normalise })
    }
}

fn draw(
    spec: Spec,
    name: String,
    seed: u64,
    populations: &[Population],
    simulation: bool,
) -> Result<Projection> {
    let (pre, post) = (&populations[spec.pre.0].shape, &populations[spec.post.0].shape);
    let draw = Draw { name: &name, seed, rule: &spec.rule, pre, post };
    let int8 = spec.precision_or_default() == Precision::Int8;
    let weights = match simulation {
        true => Weights::deferred(),
        false => draw.weights(&spec.weights.recipe().map_err(Error::Network)?, int8),
    };
    let receptors = populations[spec.post.0].model.as_ref().map_or(&[][..], |model| model.receptors());
    let receptor = receptors.iter().position(|r| Some(*r) == spec.receptor.as_deref()).unwrap_or(0);
    let plasticity = spec.wired();
    let wiring = Wiring { receptor, delays: spec.delays.clone(), autapses: spec.autapses, plasticity };
    let bias = match &spec.bias {
        Some(bias) => draw.bias(&bias.recipe().map_err(Error::Network)?),
        None => Vec::new(),
    };
    let Spec { pre, post, rule, weights: init, delay, frozen, .. } = spec;
    Ok(Projection { name, pre, post, rule, init, delay, frozen, weights, bias, gain: vec![1.0], wiring })
}
