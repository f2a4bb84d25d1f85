//! The networks that simulators are compared on, with the parameters of their papers.

use super::neurons::{CondLif, Fires, Iaf, Receptors};
use super::{Drive, Init, Network, Rule, Source};
use crate::error::{Error, Result};
use crate::units::{Hz, Ms};

/// Time step of all of them.
pub const DT: Ms = Ms(0.1);

/// Vogels and Abbott (2005) with current-based synapses, as benchmark 2 of Brette et al. (2007): 4000 neurons,
/// connected with probability 0.02; no input but an intrinsic drive above the threshold.
///
/// # Errors
/// None that a caller can cause.
pub fn vogels_abbott_cuba(seed: u64) -> Result<Network> {
    let mut net = Network::simulation(DT);
    let model = Iaf {
        rest: -49.0,
        threshold: -50.0,
        reset: -60.0,
        fires: Fires::Above,
        refractory_steps: 49,
        receptors: Receptors::Two(Ms(5.0), Ms(10.0)),
        ..Iaf::delta(Ms(20.0), DT)
    };
    let [exc, inh] = [("exc", 3200), ("inh", 800)].map(|(name, size)| net.population(name, size, model));
    for post in [exc, inh] {
        net.initial(post, "membrane potential", Init::Uniform { low: -60.0, high: -50.0 });
        for (pre, weight, receptor) in [(exc, 1.62, "excitatory"), (inh, -9.0, "inhibitory")] {
            let rule = Rule::FixedProbability { p: 0.02 };
            net.connect(pre, post, rule).weights(Init::Constant(weight)).delay(DT).receptor(receptor);
        }
    }
    net.build(seed)
}

/// Vogels and Abbott (2005) with conductances, as benchmark 1 of Brette et al. (2007): 4000 neurons, connected with
/// probability 0.02. Spikes of 50 sources at 300 Hz, for the first 50 ms, set it going.
///
/// # Errors
/// None that a caller can cause.
pub fn vogels_abbott_coba(seed: u64) -> Result<Network> {
    let mut net = Network::simulation(DT);
    let model = CondLif::brette(DT);
    let [exc, inh] = [("exc", 3200), ("inh", 800)].map(|(name, size)| net.population(name, size, model));
    let (rate, from, until) = (Hz(300.0), Ms(1.0), Ms(51.0));
    let kick = net.source("kick", 50, Source::Poisson { rate, from, until });
    // Nanosiemens.
    let (excitatory, inhibitory) = (6.0, 67.0);
    let edges = (0..50).map(|n| (n, n)).collect();
    net.connect(kick, exc, Rule::Explicit { edges }).weights(Init::Constant(excitatory)).delay(DT);
    for post in [exc, inh] {
        for (pre, weight, receptor) in [(exc, excitatory, "excitatory"), (inh, inhibitory, "inhibitory")] {
            let rule = Rule::FixedProbability { p: 0.02 };
            net.connect(pre, post, rule).weights(Init::Constant(weight)).delay(DT).receptor(receptor);
        }
    }
    net.build(seed)
}

/// Brunel (2000), model A: 10,000 excitatory and 2500 inhibitory neurons with jumps of 0.1 mV and −`g` · 0.1 mV after
/// 1.5 ms, 1250 synapses each, and a Poisson drive of `eta` times the rate that reaches the threshold.
///
/// Figure 8 of the paper: synchronous regular (`g` 3, `eta` 2), asynchronous irregular (5, 2), synchronous irregular
/// and fast (6, 4), synchronous irregular and slow (4.5, 0.9).
///
/// # Errors
/// `g` or `eta` that are no numbers or below 0.
pub fn brunel(g: f64, eta: f64, seed: u64) -> Result<Network> {
    let mut net = Network::simulation(DT);
    let model = Iaf::delta(Ms(20.0), DT);
    let [exc, inh] = [("exc", 10_000), ("inh", 2500)].map(|(name, size)| net.population(name, size, model));
    let jump = 0.1;
    for post in [exc, inh] {
        net.initial(post, "membrane potential", Init::Uniform { low: 0.0, high: 20.0 });
        net.drive(post, Drive::Poisson { receptor: "jump".into(), rate: Hz(10_000.0 * eta), weight: jump });
        for (pre, k, weight) in [(exc, 1000, jump), (inh, 250, -g * jump)] {
            net.connect(pre, post, Rule::FixedInDegreeMultapses { k })
                .weights(Init::Constant(weight))
                .delay(Ms(1.5));
        }
    }
    net.build(seed)
}

/// `size` Poisson sources of 10 Hz, each with 1000 synapses of individual weight onto `size` neurons.
///
/// # Errors
/// A size of 0, or one that does not fit in memory.
pub fn feedforward(size: usize, seed: u64) -> Result<Network> {
    let mut net = Network::simulation(DT);
    net.memory(64 << 30);
    let (from, until) = (Ms(0.0), Ms(1e12));
    let sources = net.source("sources", size, Source::Poisson { rate: Hz(10.0), from, until });
    let model = Iaf {
        threshold: 15.0,
        reset: 0.0,
        receptors: Receptors::Exponential(Ms(5.0)),
        ..Iaf::delta(Ms(20.0), DT)
    };
    let targets = net.population("targets", size, model);
    net.connect(sources, targets, Rule::FixedOutDegreeMultapses { k: 1000 })
        .weights(Init::Normal { mean: 0.27, std: 0.027 })
        .delay(Ms(1.0));
    net.build(seed)
}

const LAYERS: [&str; 8] = ["L23E", "L23I", "L4E", "L4I", "L5E", "L5I", "L6E", "L6I"];
const SIZES: [f64; 8] = [20_683.0, 5834.0, 21_915.0, 5479.0, 4850.0, 1065.0, 14_395.0, 2948.0];
/// By target, then source.
const PROBABILITIES: [[f64; 8]; 8] = [
    [0.1009, 0.1689, 0.0437, 0.0818, 0.0323, 0.0, 0.0076, 0.0],
    [0.1346, 0.1371, 0.0316, 0.0515, 0.0755, 0.0, 0.0042, 0.0],
    [0.0077, 0.0059, 0.0497, 0.135, 0.0067, 0.0003, 0.0453, 0.0],
    [0.0691, 0.0029, 0.0794, 0.1597, 0.0033, 0.0, 0.1057, 0.0],
    [0.1004, 0.0622, 0.0505, 0.0057, 0.0831, 0.3726, 0.0204, 0.0],
    [0.0548, 0.0269, 0.0257, 0.0022, 0.06, 0.3158, 0.0086, 0.0],
    [0.0156, 0.0066, 0.0211, 0.0166, 0.0572, 0.0197, 0.0396, 0.2252],
    [0.0364, 0.001, 0.0034, 0.0005, 0.0277, 0.008, 0.0658, 0.1443],
];
const EXTERNAL: [f64; 8] = [1600.0, 1500.0, 2100.0, 1900.0, 2000.0, 1900.0, 2900.0, 2100.0];
/// Mean and standard deviation of the initial membrane potential.
const INITIAL: [(f64, f64); 8] = [
    (-68.28, 5.36),
    (-63.16, 4.57),
    (-63.33, 4.74),
    (-63.45, 4.94),
    (-63.11, 4.94),
    (-61.66, 4.55),
    (-66.72, 5.46),
    (-61.43, 4.48),
];
/// Rates of the full network, in hertz, from which a smaller one is compensated.
const RATES: [f64; 8] = [0.903, 2.965, 4.414, 5.876, 7.569, 8.633, 1.105, 7.829];

/// The cortical microcircuit of Potjans and Diesmann (2014), at a scale above 0 up to 1 (77,169 neurons, 0.3 billion
/// synapses), driven by Poisson trains of 8 Hz. A smaller one has fewer neurons and synapses per neuron; weights are
/// divided by √scale, and a current replaces the mean of what is missing.
///
/// # Errors
/// A scale out of range.
pub fn microcircuit(scale: f64, seed: u64) -> Result<Network> {
    if !(scale > 0.0 && scale <= 1.0) {
        return Err(Error::value("scale", scale, "above 0 and at most 1"));
    }
    let mut net = Network::simulation(DT);
    let (tau_syn, jump) = (0.5, 87.81);
    let size = |p: usize| (SIZES[p] * scale).round().max(1.0);
    // Psc amplitude from a source to a target, and synapses of the full network.
    let weight = |post: usize, pre: usize| match (post, pre) {
        (0, 2) => 2.0 * jump,
        _ if pre % 2 == 1 => -4.0 * jump,
        _ => jump,
    };
    let synapses = |post: usize, pre: usize| {
        let c = PROBABILITIES[post][pre];
        ((1.0 - c).ln() / (-1.0 / (SIZES[post] * SIZES[pre])).ln_1p()).round()
    };
    let pops: Vec<_> = (0..8)
        .map(|p| {
            let missing: f64 =
                (0..8).map(|pre| weight(p, pre) * synapses(p, pre) / SIZES[p] * RATES[pre]).sum();
            let external = jump * EXTERNAL[p] * 8.0;
            let current = 0.001 * tau_syn * (1.0 - scale.sqrt()) * (external + missing);
            let model = Iaf {
                rest: -65.0,
                reset: -65.0,
                threshold: -50.0,
                current,
                ..Iaf::psc_exp(Ms(10.0), Ms(tau_syn), 250.0, DT)
            };
            let pop = net.population(LAYERS[p], size(p) as usize, model);
            let (mean, std) = INITIAL[p];
            net.initial(pop, "membrane potential", Init::Normal { mean, std });
            let (rate, weight) = (Hz(8.0 * EXTERNAL[p] * scale), jump / scale.sqrt());
            net.drive(pop, Drive::Poisson { receptor: "synapse".into(), rate, weight });
            pop
        })
        .collect();
    for post in 0..8 {
        for pre in (0..8).filter(|&pre| PROBABILITIES[post][pre] > 0.0) {
            let n = (synapses(post, pre) * scale * scale).round() as u64;
            let mean = weight(post, pre) / scale.sqrt();
            let delay = if pre % 2 == 0 { 1.5 } else { 0.75 };
            net.connect(pops[pre], pops[post], Rule::FixedTotal { n })
                .weights(Init::Normal { mean, std: 0.1 * mean.abs() }.keep_sign())
                .delays(Init::Normal { mean: delay, std: 0.5 * delay });
        }
    }
    net.build(seed)
}
