//! One population with what it receives, compiled.

use super::{
    constant::Constant,
    record::{Feature, What},
    simd::{Simd, TILE},
    synapses::Synapses,
};
use crate::{
    error::{Error, Result},
    snn::{
        Encoding, Network, Neuron, Population,
        neurons::{Lif, ResetActs},
    },
};

/// One population with what it receives.
#[derive(Debug)]
pub(crate) struct Layer<'n> {
    pub population: usize,
    pub neurons: usize,
    /// Whole words of 64 neurons.
    pub padded: usize,
    pub model: Model<'n>,
    pub constant: Vec<Constant>,
    pub synapses: Vec<Synapses>,
    /// Some layer needs its spikes.
    pub sends: bool,
    /// Works tile by tile.
    pub tiled: bool,
    /// Only counts of a constant input are wanted: no stretches, no spikes.
    pub counts_only: bool,
    /// Stretches of time that are counted apart.
    pub bins: usize,
    /// Decays of the traces to record.
    pub traces: Vec<f32>,
    /// Counts under a blank patch, per channel.
    pub blank: Vec<u8>,
}

/// How the neurons of a layer advance.
#[derive(Debug)]
pub(crate) enum Model<'n> {
    /// The fast loops.
    Lif(Lif),
    /// Any other model, through its trait.
    Other(&'n dyn Neuron),
}

impl<'n> Layer<'n> {
    pub fn compile(
        net: &'n Network,
        population: usize,
        encoding: &Encoding,
        input: usize,
        features: &[Feature],
    ) -> Result<Self> {
        let Population { name, model, .. } = &net.populations[population];
        let Some(model) = model.as_deref() else {
            return Err(Error::Internal(format!("`{name}` has no neuron model")));
        };
        model.validate()?;
        let (mut constant, mut synapses) = (Vec::new(), Vec::new());
        for projection in net.projections.iter().filter(|p| p.post.0 == population) {
            if encoding.is_constant() && projection.pre.0 == input {
                if let Some(delay) = projection.delay {
                    let what = format!(
                        "`{}` carries a constant current, which has no delay: {delay}",
                        projection.name
                    );
                    return Err(Error::Network(vec![what]));
                }
                constant.push(Constant::compile(net, projection)?);
            } else {
                synapses.push(Synapses::compile(net, projection)?);
            }
        }
        let mine =
            || features.iter().filter(|feature| feature.population == population).map(|feature| feature.what);
        let bins: Vec<usize> =
            mine().filter_map(|what| if let What::Bins(n) = what { Some(n) } else { None }).collect();
        if bins.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(Error::Network(vec![format!(
                "`{name}` is recorded in time bins of different number: {bins:?}"
            )]));
        }
        let traces =
            mine().filter_map(|what| if let What::Trace { decay } = what { Some(decay) } else { None });
        let traces: Vec<f32> = traces.collect();
        let neurons = net.populations[population].size();
        let lif = plain_lif(model);
        let sends = net.projections.iter().any(|p| p.pre.0 == population);
        let plain = mine().all(|what| match what {
            What::Counts | What::Pool(_) => true,
            What::Membrane => constant.iter().all(|c| c.by_position().is_none()),
            _ => false,
        });
        // A convolution goes from pixels to features in one pass only when nothing else drives its targets.
        let alone = constant.len() == 1 || constant.iter().all(|c| c.by_position().is_none());
        let steps = encoding.steps();
        let counts_only = lif.is_some()
            && !sends
            && plain
            && synapses.is_empty()
            && !constant.is_empty()
            && alone
            && steps <= 255;
        let mut blank = Vec::new();
        if let (true, Some(lif)) = (counts_only, lif) {
            blank = vec![0; constant[0].bias().len()];
            Simd::portable().lif_constant(&lif, steps, constant[0].bias(), &mut blank, &mut []);
        }
        Ok(Self {
            population,
            neurons,
            padded: neurons.next_multiple_of(TILE),
            model: lif.map_or(Model::Other(model), Model::Lif),
            tiled: lif.is_some() && synapses.iter().all(Synapses::is_dense),
            constant,
            synapses,
            sends,
            counts_only,
            bins: bins.first().copied().unwrap_or(1),
            traces,
            blank,
        })
    }

    /// State before the first step.
    pub fn initial(&self) -> Vec<f32> {
        match &self.model {
            Model::Lif(lif) => vec![lif.rest],
            Model::Other(model) => model.state().iter().map(|state| state.initial).collect(),
        }
    }
}

/// The model as a [`Lif`] that the fast loops know: any dialect without a refractory period
/// whose reset does not act between two steps.
pub(crate) fn plain_lif(model: &dyn Neuron) -> Option<Lif> {
    model
        .as_any()
        .downcast_ref::<Lif>()
        .copied()
        .filter(|lif| lif.refractory_steps == 0 && lif.acts != ResetActs::BeforeNextStep)
}

/// Refuses projections that samples cannot be presented to.
pub(crate) fn check(net: &Network) -> Result<()> {
    let mut problems = Vec::new();
    for projection in &net.projections {
        let name = &projection.name;
        let (Some(_), Some(post)) =
            (net.populations.get(projection.pre.0), net.populations.get(projection.post.0))
        else {
            problems.push(format!("`{name}` names a population that is not there"));
            continue;
        };
        if projection.wiring.delays.is_some() {
            problems.push(format!("`{name}` has a delay for each synapse and needs a simulation"));
        }
        if post.model.is_none() {
            problems.push(format!("`{name}` leads to the input `{}`", post.name));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::Network(problems)) }
}
