//! From the configuration to the objects of the library.

use super::config::{self, Config, Connect, Encode, Gain, Neuron, Record};
use crate::engine::{Pool, Probe, What};
use crate::error::Result;
use crate::learn::ransnn::{Coding, Transform, Tune};
use crate::snn::builder::{NetworkBuilder, Precision};
use crate::snn::{Encoding, Init, Network, Pop, Rule};
use crate::units::Ms;
use std::collections::BTreeMap;

/// The network, with its weights drawn from `seed`.
///
/// # Errors
/// [`crate::Error::Network`] with every mistake.
pub fn network(config: &Config, seed: u64) -> Result<Network> {
    let mut net = builder(config).build(seed)?;
    for (name, projection) in &config.projection {
        if let Gain::Fixed(gain) = projection.gain
            && gain != 1.0
        {
            net.set_gain(name, vec![gain as f32])?;
        }
    }
    Ok(net)
}

/// The description of the network; the populations it names are there.
pub(super) fn builder(config: &Config) -> NetworkBuilder {
    let dt = Ms(config.encode.dt_ms());
    let mut builder = Network::builder(dt);
    let mut pops: BTreeMap<&str, Pop> = BTreeMap::new();
    for (name, population) in &config.population {
        let shape = population.shape.dims();
        let pop = match &population.neuron {
            Neuron::Input => builder.input(name, shape),
            neuron => match neuron.unitless(dt).or_else(|| neuron.physical(dt)) {
                Some(model) => builder.population(name, shape, model),
                None => builder.input(name, shape),
            },
        };
        pops.insert(name, pop);
    }
    for (name, projection) in &config.projection {
        let edge = builder.connect(
            pops[projection.from.as_str()],
            pops[projection.to.as_str()],
            rule(&projection.connect),
        );
        let mut edge = edge.name(name).weights(init(projection));
        if let Some(bias) = &projection.bias {
            edge = edge.bias(distribution(bias));
        }
        if let Some(delay) = projection.delay_ms {
            edge = edge.delay(Ms(delay));
        }
        if projection.frozen {
            edge = edge.frozen();
        }
        edge.precision(match projection.precision {
            config::Precision::Auto if !projection.frozen => Precision::F32,
            config::Precision::Auto | config::Precision::Int8 => Precision::Int8,
            config::Precision::F32 => Precision::F32,
        });
    }
    builder
}

fn rule(connect: &Connect) -> Rule {
    match *connect {
        Connect::Dense => Rule::Dense,
        Connect::OneToOne => Rule::OneToOne,
        Connect::FixedProbability { p } => Rule::FixedProbability { p },
        Connect::FixedInDegree { k } => Rule::FixedInDegree { k },
        Connect::Conv2d { kernel, stride, padding, pool, max_pool } => {
            Rule::Conv2d { kernel, stride, padding, pool, max_pool }
        }
        Connect::LocalFields { min, max } => Rule::LocalFields { min, max },
    }
}

fn init(projection: &config::Projection) -> Init {
    let mut init = distribution(&projection.weights);
    if projection.smooth > 0.0 {
        init = init.smoothed(projection.smooth);
    }
    if let Some(excitatory) = projection.excitatory_share {
        init = Init::Dale { excitatory, magnitude: Box::new(init) };
    }
    if projection.zero_mean {
        init = init.zero_mean();
    }
    if projection.mirror {
        init = init.mirrored();
    }
    init
}

fn distribution(weights: &config::Weights) -> Init {
    match *weights {
        config::Weights::KaimingUniform => Init::KaimingUniform,
        config::Weights::Constant(value) => Init::Constant(value),
        config::Weights::Uniform { low, high } => Init::Uniform { low, high },
        config::Weights::Normal { mean, std } => Init::Normal { mean, std },
    }
}

/// The encoding.
pub fn encoding(config: &Config) -> Encoding {
    match config.encode {
        // Checked before: what needs an encoding has one.
        Encode::Absent => Encoding::Constant { steps: 0 },
        Encode::Constant { steps } => Encoding::Constant { steps },
        Encode::Latency { steps } => Encoding::Latency { steps },
        Encode::Events { steps, .. } => Encoding::Frames { steps },
        Encode::Poisson { steps, dt_ms, max_rate_hz } => {
            Encoding::Bernoulli { steps, gain: (max_rate_hz * dt_ms / 1000.0) as f32 }
        }
    }
}

/// What is recorded.
pub fn probes(config: &Config, net: &Network) -> Vec<Probe> {
    let features = &config.features;
    let what = match features.record {
        Record::Counts if features.pool.cells > 0 => {
            let percent = (100.0 * features.pool.width).round() as usize;
            What::Pool(Pool::Overlapping { cells: features.pool.cells, percent })
        }
        Record::Counts => What::Counts,
        Record::Membrane => What::Membrane,
        Record::Trace { decay } => What::Trace { decay: decay as f32 },
        Record::Bins(n) => What::Bins(n),
    };
    let probe = |name: &String| net.population(name).map(|population| Probe { population, what });
    features.from.iter().filter_map(probe).collect()
}

/// How counts become codes.
pub fn coding(config: &Config) -> Coding {
    let transform = match config.features.transform {
        config::Transform::None => Transform::Identity,
        config::Transform::Sqrt => Transform::Sqrt,
    };
    Coding { transform, levels: config.features.levels }
}

/// The gains that a calibration batch sets.
pub fn tuning(config: &Config) -> Vec<(String, Tune)> {
    let tune = |(name, projection): (&String, &config::Projection)| match projection.gain {
        Gain::Fixed(_) => None,
        Gain::RmsDrive(rms) => Some((name.clone(), Tune::RmsDrive(rms))),
        Gain::FiringRate(rate) => Some((name.clone(), Tune::FiringRate(rate))),
    };
    config.projection.iter().filter_map(tune).collect()
}
