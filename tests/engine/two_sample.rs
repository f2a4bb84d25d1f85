//! The standard networks beside NEST: distributions over neurons of rates and of irregularity, and means over them.
//! `tests/fixtures/snn/nest/make.py` ran the same parameters with draws of its own.

use ransnn::engine::clock::statistics::{Statistics, kolmogorov_smirnov};
use ransnn::engine::{Options, Simulator};
use ransnn::snn::{Network, Pop, standard};
use ransnn::units::Ms;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What NEST says of a network.
#[derive(Deserialize)]
struct Reference {
    begin_ms: f64,
    end_ms: f64,
    populations: BTreeMap<String, Population>,
}

/// Means over all neurons, one for each seed; counts and coefficients of variation of the first neurons, for the first
/// seed.
#[derive(Deserialize)]
struct Population {
    rate_hz: Vec<f64>,
    cv: Vec<f64>,
    correlation: Vec<f64>,
    counts: Vec<f64>,
    cvs: Vec<f64>,
}

/// Neurons that the reference keeps of each population.
const KEPT: usize = 500;
/// Mean correlation of neurons in 2 ms from which on a network is called synchronous.
const SYNCHRONOUS: f64 = 0.03;
/// Samples whose difference is less probable than this are of different distributions.
const LEAST: f64 = 1e-3;

fn references() -> BTreeMap<String, Reference> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/snn/nest/statistics.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Statistics of each population.
fn ours(net: &Network, begin: f64, end: f64) -> BTreeMap<String, Statistics> {
    let mut simulator = Simulator::new(net, Options::default()).unwrap();
    let cells: Vec<Pop> =
        (0..net.populations.len()).map(Pop).filter(|pop| net.populations[pop.0].model.is_some()).collect();
    cells.iter().for_each(|&pop| simulator.record_spikes(pop).unwrap());
    simulator.run(Ms(end)).unwrap();
    let step = |ms: f64| (ms / net.dt.0).round() as u64;
    let of = |pop: &Pop| {
        let (p, train) = (&net.populations[pop.0], simulator.spikes(*pop).unwrap());
        (p.name.clone(), Statistics::of(train, p.size(), step(begin), step(end), net.dt))
    };
    cells.iter().map(of).collect()
}

/// What is compared of each neuron: counts over so many seconds, and coefficients of variation.
fn samples(s: &Statistics, seconds: f64) -> [(&'static str, Vec<f64>); 2] {
    let rates = &s.rates[..KEPT.min(s.rates.len())];
    let counts = rates.iter().map(|rate| (rate * seconds).round()).collect();
    [("counts", counts), ("CVs", s.cvs[..KEPT.min(s.cvs.len())].to_vec())]
}

/// What is different, of all that is compared.
fn differences(reference: &Reference, net: &Network) -> Vec<String> {
    let statistics = ours(net, reference.begin_ms, reference.end_ms);
    let seconds = (reference.end_ms - reference.begin_ms) / 1000.0;
    let mut wrong = vec![];
    for (name, theirs) in &reference.populations {
        let s = &statistics[name];
        for ((what, ours), theirs) in samples(s, seconds).iter().zip([&theirs.counts, &theirs.cvs]) {
            let test = kolmogorov_smirnov(ours, theirs).unwrap();
            // Neurons that oscillate together are no independent samples: see `brunels_oscillating_networks`.
            if test.probability < LEAST && s.correlation.is_some_and(|r| r < SYNCHRONOUS) {
                wrong.push(format!("{what} of {name}: {test:?}"));
            }
        }
        // Networks differ from draw to draw: by 12 % in the rate where activity is about to die out (cuba).
        for (what, ours, theirs, share, least) in [
            ("rate", Some(s.rate.0), &theirs.rate_hz, 0.08, 0.02),
            ("CV", s.cv, &theirs.cv, 0.08, 0.02),
            ("correlation", s.correlation, &theirs.correlation, 0.25, 0.002),
        ] {
            let (low, high) = theirs.iter().fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
            let inside = ours
                .is_some_and(|v| v > low - (share * low).max(least) && v < high + (share * high).max(least));
            if !inside {
                wrong.push(format!("{what} of {name}: {ours:?}, NEST {theirs:?}"));
            }
        }
    }
    wrong
}

fn compare(name: &str, net: &Network) {
    let wrong = differences(&references()[name], net);
    assert!(wrong.is_empty(), "{name}: {wrong:#?}");
}

#[test]
fn vogels_and_abbotts_networks_are_those_of_nest() {
    compare("cuba", &standard::vogels_abbott_cuba(1).unwrap());
    compare("coba", &standard::vogels_abbott_coba(1).unwrap());
}

#[test]
fn brunels_networks_are_those_of_nest() {
    for (name, g, eta) in [
        ("brunel-sr", 3.0, 2.0),
        ("brunel-ai", 5.0, 2.0),
        ("brunel-si-fast", 6.0, 4.0),
        ("brunel-si-slow", 4.5, 0.9),
    ] {
        compare(name, &standard::brunel(g, eta, 1).unwrap());
    }
}

/// Where the whole network oscillates, draws of it differ more than neurons that are independent would. NEST's draw is as
/// far from ours as ours are from each other.
#[test]
fn brunels_oscillating_networks_are_those_of_nest() {
    for (name, g, eta) in [("brunel-si-fast", 6.0, 4.0), ("brunel-si-slow", 4.5, 0.9)] {
        let reference = &references()[name];
        let (begin, end) = (reference.begin_ms, reference.end_ms);
        let draw = |seed| ours(&standard::brunel(g, eta, seed).unwrap(), begin, end);
        let draws = [1, 2, 3].map(draw);
        for (population, theirs) in &reference.populations {
            let all: Vec<_> = draws.iter().map(|s| samples(&s[population], (end - begin) / 1000.0)).collect();
            for (i, theirs) in [&theirs.counts, &theirs.cvs].into_iter().enumerate() {
                let distance = |a: &[f64], b: &[f64]| kolmogorov_smirnov(a, b).unwrap().distance;
                let own = [(0, 1), (0, 2), (1, 2)].map(|(a, b)| distance(&all[a][i].1, &all[b][i].1));
                let most = own.into_iter().fold(0.0, f64::max);
                let others: Vec<f64> = all.iter().map(|ours| distance(&ours[i].1, theirs)).collect();
                let mean = others.iter().sum::<f64>() / 3.0;
                assert!(mean < 1.25 * most && most < 0.3, "{name} {population}: {others:?}, ours {own:?}");
            }
        }
    }
}

#[test]
fn the_microcircuit_is_that_of_nest() {
    compare("microcircuit", &standard::microcircuit(0.1, 1).unwrap());
}

/// The comparison would tell networks apart that differ a little.
#[test]
fn a_drive_that_is_five_percent_weaker_is_noticed() {
    let net = standard::brunel(5.0, 1.9, 1).unwrap();
    let wrong = differences(&references()["brunel-ai"], &net);
    assert!(wrong.iter().any(|what| what.starts_with("counts of exc")), "{wrong:#?}");
}
