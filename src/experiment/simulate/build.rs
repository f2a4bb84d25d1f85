//! From the file to the library's network.

use super::config::{Config, Connect, Drive, Projection, Standard};
use super::drawn::Drawn;
use crate::engine::cuda::Connectivity;
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
        Some(Standard::VogelsAbbottCoba) => standard::vogels_abbott_coba(seed),
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
    if let Some(plasticity) = &projection.plasticity {
        edge = edge.plasticity(plasticity.rule());
    }
    if let Some(normalise) = &projection.normalise {
        edge = edge.normalise(normalise.total, Ms(normalise.every_ms));
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

/// Whether a GPU stores the synapses.
pub(super) fn connectivity(config: &Config) -> Connectivity {
    match config.simulate.connectivity {
        super::config::Connectivity::Stored => Connectivity::Stored,
        super::config::Connectivity::Procedural => Connectivity::Procedural,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Options, Simulator};
    use crate::experiment::{diagnose, simulate::check};
    use crate::snn::Init;
    use crate::snn::neurons::{CondLif, Iaf, Receptors};

    const FILE: &str = r#"
schema = 1
name = "small"
seed = 11

[simulate]
duration_ms = 300.0
step_ms = 0.1

[population.cells]
size = 60
neuron.exp-lif = { tau_mem_ms = 15.0, capacitance_pf = 150.0, tau_excitatory_ms = 3.0, tau_inhibitory_ms = 6.0 }
initial_mv.uniform = { low = -70.0, high = -56.0 }
drive.a.poisson = { rate_hz = 3000.0, weight = 20.0 }
drive.b.current = { amplitude.normal = { mean = 20.0, std = 5.0 }, from_ms = 50.0, until_ms = 150.0 }

[population.conductances]
size = 20
neuron.cond-lif = {}

[population.sources]
size = 10
neuron.poisson = { rate_hz = 40.0, until_ms = 200.0 }

[projection.cells-cells]
from = "cells"
to = "cells"
connect.fixed-in-degree = { k = 10, multapses = true }
receptor = "inhibitory"
weights.normal = { mean = -40.0, std = 30.0 }
keep_sign = true
delay_ms.uniform = { low = 0.5, high = 2.5 }
self_connections = false

[projection.cells-conductances]
from = "cells"
to = "conductances"
connect.fixed-probability = { p = 0.3 }
weights = 6.0
delay_ms = 1.5

[projection.sources-cells]
from = "sources"
to = "cells"
connect = "all-to-all"
weights = 30.0
delay_ms = 1.0
"#;

    /// The same network, from the library.
    fn by_hand() -> Result<Network> {
        let dt = Ms(0.1);
        let mut net = Network::simulation(dt);
        let model =
            Iaf { receptors: Receptors::Two(Ms(3.0), Ms(6.0)), ..Iaf::psc_exp(Ms(15.0), Ms(1.0), 150.0, dt) };
        let cells = net.population("cells", 60, model);
        net.initial(cells, "membrane potential", Init::Uniform { low: -70.0, high: -56.0 });
        let (rate, weight) = (Hz(3000.0), 20.0);
        net.drive(cells, snn::Drive::Poisson { receptor: "excitatory".into(), rate, weight });
        let amplitude = Init::Normal { mean: 20.0, std: 5.0 };
        let (from, until) = (Ms(50.0), Ms(150.0));
        net.drive(cells, snn::Drive::Current { receptor: "current".into(), amplitude, from, until });
        let conductances = net.population("conductances", 20, CondLif::brette(dt));
        let source = Source::Poisson { rate: Hz(40.0), from: Ms(0.0), until: Ms(200.0) };
        let sources = net.source("sources", 10, source);
        net.connect(cells, cells, Rule::FixedInDegreeMultapses { k: 10 })
            .name("cells-cells")
            .receptor("inhibitory")
            .weights(Init::Normal { mean: -40.0, std: 30.0 }.keep_sign())
            .delays(Init::Uniform { low: 0.5, high: 2.5 })
            .no_autapses();
        net.connect(cells, conductances, Rule::FixedProbability { p: 0.3 })
            .name("cells-conductances")
            .weights(Init::Constant(6.0))
            .delay(Ms(1.5));
        net.connect(sources, cells, Rule::Dense)
            .name("sources-cells")
            .weights(Init::Constant(30.0))
            .delay(Ms(1.0));
        net.build(11)
    }

    #[test]
    fn a_file_is_the_network_that_the_library_builds() -> Result<()> {
        let config = check::load(&diagnose::Source::new("small.toml", FILE, &[])?)?;
        let nets = [network(&config)?, by_hand()?];
        let mut results = vec![];
        for net in &nets {
            let mut simulator = Simulator::new(net, Options::default())?;
            for pop in 0..3 {
                simulator.record_spikes(Pop(pop))?;
            }
            simulator.record(Pop(1), "membrane potential", &[0, 19], 1)?;
            simulator.run(Ms(300.0))?;
            let trains: Vec<_> = (0..3).map(|pop| simulator.take_spikes(Pop(pop))).collect();
            results.push((trains, simulator.traces().to_vec(), simulator.synapses().to_vec()));
        }
        let spikes: Vec<usize> =
            results[0].0.iter().map(|train| train.as_ref().map_or(0, |t| t.len())).collect();
        assert!(spikes.iter().all(|&n| n > 20), "{spikes:?}");
        assert_eq!(results[0], results[1]);
        Ok(())
    }
}
