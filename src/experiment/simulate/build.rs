//! From the file to the library's network.

use super::config::{Config, Connect, Drive, Projection, Standard};
use super::drawn::Drawn;
use crate::error::Result;
use crate::experiment::config::Neuron;
use crate::snn::{self, Network, NetworkBuilder, Pop, Rule, Source, standard};
use crate::units::{Hz, Ms};
use std::collections::BTreeMap;

/// The network; its synapses are drawn when a clock is made of it.
///
/// # Errors
/// [`crate::Error::Network`] with every mistake.
pub fn network(config: &Config) -> Result<Network> {
    let seed = config.seed;
    match &config.simulate.network {
        None => builder(config).build(seed),
        Some(Standard::VogelsAbbottCuba) => standard::vogels_abbott_cuba(seed),
        Some(Standard::Brunel { g, eta }) => standard::brunel(*g, *eta, seed),
        Some(Standard::Microcircuit { scale }) => standard::microcircuit(*scale, seed),
        Some(Standard::Feedforward { size }) => standard::feedforward(*size, seed),
    }
}

/// The network of the file's populations and projections. A projection that names a population which is not there is
/// left out.
pub(super) fn builder(config: &Config) -> NetworkBuilder {
    let dt = Ms(config.simulate.step_ms);
    let mut net = Network::simulation(dt);
    // What is too large is refused by the plan, which counts neurons, too.
    net.memory(u64::MAX);
    let mut pops: BTreeMap<&str, Pop> = BTreeMap::new();
    for (name, population) in &config.population {
        let size = population.size.dims();
        let pop = match &population.neuron {
            Neuron::Poisson(source) => {
                let (from, until) = window(source.from_ms, source.until_ms);
                net.source(name, size, Source::Poisson { rate: Hz(source.rate_hz), from, until })
            }
            Neuron::Spikes(list) => {
                let step = |time: f64| (time / dt.0).round() as u64;
                let pairs = list.times_ms.iter().zip(&list.neurons);
                net.source(name, size, Source::Spikes(pairs.map(|(&time, &n)| (step(time), n)).collect()))
            }
            neuron => match neuron.physical(dt) {
                Some(model) => net.population(name, size, model),
                None => net.input(name, size),
            },
        };
        if let Some(initial) = &population.initial_mv {
            net.initial(pop, super::config::MEMBRANE, initial.init());
        }
        let first = first_receptor(&population.neuron, dt);
        population.drive.values().for_each(|drive| net.drive(pop, self::drive(drive, &first)));
        pops.insert(name, pop);
    }
    for (name, projection) in &config.projection {
        if let (Some(&from), Some(&to)) =
            (pops.get(projection.from.as_str()), pops.get(projection.to.as_str()))
        {
            connect(&mut net, name, projection, from, to);
        }
    }
    net
}

fn first_receptor(neuron: &Neuron, dt: Ms) -> String {
    let model = neuron.physical(dt);
    model.and_then(|model| model.receptors().first().copied()).unwrap_or_default().into()
}

/// From one time to another, or without end.
fn window(from: f64, until: Option<f64>) -> (Ms, Ms) {
    // Steps are counted in whole numbers that f64 holds exactly.
    (Ms(from), Ms(until.unwrap_or(1e12)))
}

fn drive(drive: &Drive, first: &str) -> snn::Drive {
    let named = |receptor: &Option<String>, default: &str| receptor.clone().unwrap_or(default.into());
    match drive {
        Drive::Poisson { rate_hz, weight, receptor } => {
            snn::Drive::Poisson { receptor: named(receptor, first), rate: Hz(*rate_hz), weight: *weight }
        }
        Drive::Current { amplitude, from_ms, until_ms, receptor } => {
            let (from, until) = window(*from_ms, *until_ms);
            let receptor = named(receptor, "current");
            snn::Drive::Current { receptor, amplitude: amplitude.init(), from, until }
        }
    }
}

fn connect(net: &mut NetworkBuilder, name: &str, projection: &Projection, from: Pop, to: Pop) {
    let weights = projection.weights.init();
    let weights = match projection.weights {
        Drawn::Uniform { .. } | Drawn::Normal { .. } if projection.keep_sign => weights.keep_sign(),
        _ => weights,
    };
    let mut edge = net.connect(from, to, rule(&projection.connect)).name(name).weights(weights);
    edge = match &projection.delay_ms {
        Drawn::Constant(delay) => edge.delay(Ms(*delay)),
        drawn => edge.delays(drawn.init()),
    };
    if let Some(receptor) = &projection.receptor {
        edge = edge.receptor(receptor);
    }
    if !projection.self_connections {
        edge.no_autapses();
    }
}

fn rule(connect: &Connect) -> Rule {
    match connect {
        Connect::Dense => Rule::Dense,
        Connect::OneToOne => Rule::OneToOne,
        Connect::FixedProbability { p } => Rule::FixedProbability { p: *p },
        Connect::FixedInDegree { k, multapses: false } => Rule::FixedInDegree { k: *k },
        Connect::FixedInDegree { k, multapses: true } => Rule::FixedInDegreeMultapses { k: *k },
        Connect::FixedOutDegree { k, multapses: false } => Rule::FixedOutDegree { k: *k },
        Connect::FixedOutDegree { k, multapses: true } => Rule::FixedOutDegreeMultapses { k: *k },
        Connect::FixedTotal { n } => Rule::FixedTotal { n: *n },
        Connect::Gaussian { p_max, sigma } => Rule::Gaussian { p_max: *p_max, sigma: *sigma },
        Connect::Pairs(edges) => Rule::Explicit { edges: edges.clone() },
    }
}

/// The clock's own check: models that it does not run.
///
/// # Errors
/// [`crate::Error::Network`] with every mistake.
pub(super) fn runs_on_its_clock(config: &Config, net: &Network) -> Result<()> {
    match config.simulate.clock {
        super::config::Clock::Grid => crate::engine::Simulator::check(net, &options(config)),
        super::config::Clock::Lazy => crate::engine::Lazy::check(net),
    }
}

/// How the grid runs.
pub(super) fn options(config: &Config) -> crate::engine::Options {
    use crate::engine::Precision;
    let precision = match config.simulate.precision {
        super::config::Precision::F32 => Precision::Single,
        super::config::Precision::F64 => Precision::Double,
    };
    crate::engine::Options { precision, ..Default::default() }
}
