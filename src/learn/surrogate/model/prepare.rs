//! From a network to its [`Model`]: which populations training runs, in which order, and what each of them hears.

use std::collections::BTreeMap;

use super::reach::Reach;
use super::sparse::Sparse;
use super::weights::{Frozen, trained};
use super::{Gradient, Incoming, Layer, Model, weights_path};
use crate::snn::neurons::Lif;
use crate::snn::scan::Scan;
use crate::snn::{Component, Network, Pop, Projection, Weights};
use crate::tensor::{DType, Device, Tensor};
use crate::{Error, Result};

fn refuse(on: String) -> Error {
    Error::Unsupported { op: "training by surrogate gradients", on }
}

/// What learns, gathered layer by layer.
#[derive(Default)]
struct Learned {
    parameters: BTreeMap<String, Tensor>,
    statistics: BTreeMap<String, Tensor>,
    sparse: BTreeMap<String, Sparse>,
}

impl Model {
    /// Prepares a network whose population `output` is read, its membranes or its spikes.
    ///
    /// # Errors
    /// Names what cannot be trained: a network without trained projections, models without a gradient, delays of single
    /// synapses, normalised currents in a loop.
    pub fn new(net: &Network, output: Pop, membrane: bool, gradient: Gradient) -> Result<Self> {
        if net.projections.iter().all(|p| p.frozen) {
            let what = "no projection is trained: write `frozen = false` where training is to act";
            return Err(Error::Network(vec![what.into()]));
        }
        if net.populations.get(output.0).is_none_or(|p| p.model.is_none()) {
            return Err(Error::value("output population", output.0, "one with neurons"));
        }
        if let Some(p) = net.projections.iter().find(|p| p.wiring.delays.is_some()) {
            return Err(refuse(format!("on `{}`, which has a delay for each synapse", p.name)));
        }
        let Reach { traced, needed, source } = Reach::of(net, output);
        let lost = |p: &&Projection| !p.frozen && !needed[p.post.0];
        if let Some(p) = net.projections.iter().find(lost) {
            return Err(Error::Disconnected { param: weights_path(&p.name) });
        }
        let has_neurons = |index: usize| net.populations[index].model.is_some();
        let runs = |index: usize| has_neurons(index) && needed[index] && (source.is_none() || traced[index]);
        let mut learned = Learned::default();
        let (mut layers, mut components) = (vec![], vec![]);
        for component in net.components()? {
            let first = layers.len();
            for &pop in component.populations.iter().filter(|pop| runs(pop.0)) {
                // The output is read, nothing asks how often it fires.
                let own = if pop == output {
                    Gradient { normalize: false, threshold: false, ..gradient }
                } else {
                    gradient
                };
                let mut layer = Layer::new(net, pop, &component, own, traced[pop.0], &mut learned)?;
                layer.scan.membrane = membrane && pop == output;
                layers.push(layer);
            }
            if layers.len() > first {
                components.push((component, first..layers.len()));
            }
        }
        if gradient.time_constant && !learned.parameters.keys().any(|path| path.ends_with(".rate")) {
            return Err(refuse("on time constants: no population that is trained has one".into()));
        }
        let input = net.populations.iter().position(|p| p.model.is_none()).map(Pop);
        let behind_frozen = source.is_some_and(|Pop(index)| has_neurons(index));
        let source =
            source.or(input).ok_or_else(|| Error::Network(vec!["no population is an input".into()]))?;
        let Learned { parameters, statistics, sparse } = learned;
        let (output, device) = (output.0, Device::Cpu);
        Ok(Self {
            parameters,
            statistics,
            sparse,
            layers,
            components,
            source,
            behind_frozen,
            output,
            membrane,
            device,
        })
    }
}

impl Layer {
    fn new(
        net: &Network,
        pop: Pop,
        component: &Component,
        gradient: Gradient,
        traced: bool,
        learned: &mut Learned,
    ) -> Result<Self> {
        let population = &net.populations[pop.0];
        let model = population.model.as_deref();
        let model = model.ok_or_else(|| Error::Internal(format!("`{}` has no neurons", population.name)))?;
        let (scan, mut numbers) = Scan::of(model, gradient.surrogate, gradient.detach, DType::F32)?;
        // What is not traced keeps nothing.
        let scan = Scan { half: gradient.half && traced, ..scan };
        if scan.half && !scan.keeps_half(&numbers) {
            let what = "keeping potentials in 16 bits: its threshold adapts, or its reset acts twice";
            return Err(refuse(format!("on `{}`, {what}", population.name)));
        }
        let (mut incoming, mut recurrent) = (vec![], None);
        for p in net.incoming(pop) {
            let mut frozen = None;
            match p.frozen {
                true => frozen = Some(Frozen::of(p, population.size())?),
                false => {
                    if let Some(sparse) = trained(p, population.size(), &mut learned.parameters)? {
                        learned.sparse.insert(weights_path(&p.name), sparse);
                    }
                }
            }
            if goes_with_scan(net, p, component) {
                recurrent = Some((p.name.clone(), frozen));
                continue;
            }
            let mut from = Incoming {
                name: p.name.clone(),
                pre: p.pre.0,
                delay: p.delay_steps(net.dt),
                looped: component.populations.contains(&p.pre),
                biased: !p.bias.is_empty(),
                frozen,
                geometry: match p.weights {
                    Weights::Conv2d { geometry, .. } => Some(geometry),
                    _ => None,
                },
                channels: None,
            };
            if gradient.normalize && from.frozen.is_none() {
                if from.looped {
                    let why = "it is normalised over all steps, which in a loop are not there at once";
                    return Err(refuse(format!("on `{}`: {why}", p.name)));
                }
                let Learned { parameters, statistics, .. } = learned;
                from.normalize(&numbers, population.size(), parameters, statistics)?;
            }
            incoming.push(from);
        }
        if incoming.is_empty() {
            return Err(Error::Network(vec![format!("nothing projects to `{}`", population.name)]));
        }
        let lif = model.as_any().downcast_ref::<Lif>();
        if (gradient.decay || gradient.time_constant || gradient.threshold) && lif.is_none() {
            let what = format!("on the leak and threshold of `{}`: only of LIF neurons", population.name);
            return Err(refuse(what));
        }
        let mut tied = false;
        if let (true, true, Some(lif)) = (gradient.time_constant, traced, lif) {
            if gradient.decay {
                let what = "which learns as its leak";
                return Err(refuse(format!("on the time constant of `{}`, {what}", population.name)));
            }
            // 1/τ, of which the logarithm of the odds learns. Without a leak, or a memory, there is none.
            let rate = 1.0 - f64::from(lif.decay);
            if rate > 0.0 && rate < 1.0 {
                tied = (f64::from(lif.gain) - rate).abs() <= 1e-6;
                let odds = Tensor::from_f32(vec![(rate / (1.0 - rate)).ln() as f32], &[1])?;
                learned.parameters.insert(format!("population.{}.rate", population.name), odds);
            }
        }
        // What is not traced cannot learn.
        for (wanted, what, number) in [
            (gradient.decay, "decay", &mut numbers.decay),
            (gradient.threshold, "threshold", &mut numbers.threshold),
        ] {
            if wanted && traced {
                let path = format!("population.{}.{what}", population.name);
                learned.parameters.insert(path, number.clone());
            }
        }
        Ok(Self {
            population: pop.0,
            name: population.name.clone(),
            neurons: population.size(),
            scan,
            numbers,
            incoming,
            recurrent,
            tied,
            traced,
        })
    }
}

/// Whether a projection goes along with the scan of its population: dense, onto itself, a step later, the only one in the
/// loop, and where sums are those of the engine: the last to be added, or one of two.
fn goes_with_scan(net: &Network, p: &Projection, component: &Component) -> bool {
    let within = |pop: &Pop| component.populations.contains(pop);
    let inside = net.projections.iter().filter(|p| within(&p.pre) && within(&p.post)).count();
    let last = net.incoming(p.post).last().is_some_and(|last| last.name == p.name);
    p.pre == p.post
        && p.delay_steps(net.dt) == 1
        && p.bias.is_empty()
        && !matches!(p.weights, Weights::Conv2d { .. })
        && inside == 1
        && (last || net.incoming(p.post).count() == 2)
}
