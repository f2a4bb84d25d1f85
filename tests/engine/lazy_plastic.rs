//! Plastic projections without a grid: against the grid where both are exact, and against the rules driven by hand.

#![allow(clippy::single_range_in_vec_init, reason = "a list of blocks may have one")]

use crate::plastic::{BOUNDS, bits, rules};
use ransnn::engine::{Lazy, Options, Precision, Simulator, WeightTrace};
use ransnn::rng::Stream;
use ransnn::snn::neurons::{Iaf, Receptors};
use ransnn::snn::plasticity::{self, EventDriven, Incidence};
use ransnn::snn::{Drive, Init, Network, Pop, Rule, Source, Synapses};
use ransnn::units::{Hz, Ms};

/// A power of two, so that times are exact in milliseconds, too.
const DT: Ms = Ms(0.125);
const NAMES: [&str; 2] = ["in", "recurrent"];

/// Cells driven by an input, all of whose synapses are plastic but those that keep them firing.
fn network(model: Iaf, rule: plasticity::Rule, own_delays: bool, normalise: bool) -> Network {
    let mut draw = Stream::named(5, "spikes").walk(0);
    let mut number = |below: u64| rand::RngExt::random_range(&mut draw, 0..below);
    let mut list: Vec<(u64, u32)> = (0..4000).map(|_| (number(2000), number(40) as u32)).collect();
    list.sort_unstable();
    list.dedup();
    let mut net = Network::simulation(DT);
    let input = net.source("input", 40, Source::Spikes(list));
    let cells = net.population("cells", 60, model);
    let receptor = if model.receptors == Receptors::Delta { "jump" } else { "synapse" };
    net.connect(input, cells, Rule::FixedInDegreeMultapses { k: 8 })
        .name("drive")
        .weights(Init::Uniform { low: 4.0, high: 9.0 })
        .delay(Ms(0.5))
        .receptor(receptor);
    for (pre, name) in [(input, NAMES[0]), (cells, NAMES[1])] {
        let mut edge = net
            .connect(pre, cells, Rule::FixedInDegreeMultapses { k: 20 })
            .name(name)
            .weights(Init::Normal { mean: 0.8, std: 0.4 })
            .receptor(receptor)
            .plasticity(rule);
        edge = match own_delays {
            true => edge.delays(Init::Uniform { low: 0.5, high: 4.0 }),
            false => edge.delay(Ms(1.5)),
        };
        if normalise {
            edge.normalise(14.0, Ms(7.5));
        }
    }
    if receptor == "synapse" {
        net.drive(cells, Drive::Poisson { receptor: receptor.into(), rate: Hz(3000.0), weight: 2.0 });
    }
    net.build(11).unwrap()
}

fn kinds(model: Iaf) -> impl Iterator<Item = Network> {
    let cases = rules().into_iter().zip([false, true, true, false, true, false]).enumerate();
    cases.map(move |(i, (rule, own_delays))| network(model, rule, own_delays, i % 2 == 1))
}

/// Each spike where it is exact: delta synapses, and everything on the grid.
fn jumps() -> Iaf {
    Iaf::delta(Ms(20.0), DT)
}

/// Spikes at any time.
fn currents() -> Iaf {
    Iaf { receptors: Receptors::Exponential(Ms(3.0)), ..jumps() }
}

/// Runs a while, with a reward now and then for networks that want one.
fn run(lazy: &mut Lazy<'_>, pieces: usize) {
    for _ in 0..pieces {
        lazy.run(Ms(25.0)).unwrap();
        let _ = lazy.reward(0.5); // an error for rules without reward
    }
}

fn lazy(net: &Network) -> Lazy<'_> {
    let mut lazy = Lazy::new(net).unwrap();
    (0..2).for_each(|pop| lazy.record_spikes(Pop(pop)).unwrap());
    lazy
}

#[test]
fn both_clocks_learn_the_same_where_both_are_exact() {
    for net in kinds(jumps()) {
        let options = Options { precision: Precision::Double, ..Options::default() };
        let mut grid = Simulator::new(&net, options).unwrap();
        let mut lazy = lazy(&net);
        grid.record_spikes(Pop(1)).unwrap();
        let watched = [7, 1199, 0, 7, 500];
        let [a, b] = [
            grid.record_weights(NAMES[1], &watched, 3).unwrap(),
            lazy.record_weights(NAMES[1], &watched, 3).unwrap(),
        ];
        let before = lazy.weights(NAMES[1]).unwrap();
        for _ in 0..8 {
            grid.run(Ms(25.0)).unwrap();
            let _ = grid.reward(0.5);
        }
        run(&mut lazy, 8);
        let want: Vec<_> = grid.spikes(Pop(1)).unwrap().iter().collect();
        let got: Vec<_> = lazy.spikes(Pop(1)).unwrap().on_grid(DT).iter().collect();
        assert!(want.len() > 300, "{} spikes", want.len());
        assert!(got == want, "spikes of {}", net.describe());
        for name in NAMES {
            let [a, b] = [grid.weights(name).unwrap(), lazy.weights(name).unwrap()];
            assert!(a == b && bits(&a) == bits(&b), "{name} of {}", net.describe());
        }
        let after = lazy.weights(NAMES[1]).unwrap();
        let moved = before.weights.iter().zip(&after.weights).filter(|(a, b)| a != b).count();
        assert!(2 * moved > after.weights.len(), "{moved} weights moved");
        let [a, b]: [&WeightTrace; 2] = [&grid.weight_traces()[a], &lazy.weight_traces()[b]];
        assert!(a == b, "recorded weights of {}", net.describe());
        assert_eq!(a.values.len(), 5 * 1600usize.div_ceil(3));
    }
}

/// Weights after the spikes of a run, from the rule alone.
fn by_hand(net: &Network, name: &str, lazy: &Lazy<'_>) -> Vec<f64> {
    let index = net.projections.iter().position(|p| p.name == name).unwrap();
    let p = &net.projections[index];
    let plasticity = p.wiring.plasticity.unwrap();
    let [sources, targets] = [p.pre, p.post].map(|pop| net.populations[pop.0].size());
    let drawn = Synapses::draw(net, index, &[0..targets as u32], true).unwrap();
    let (mut offsets, mut ends, mut delays, mut weights) = (vec![0], vec![], vec![], vec![]);
    for source in 0..sources as u32 {
        drawn.each(source, |target, weight, delay| {
            ends.push(target);
            delays.push(f64::from(delay));
            weights.push(weight.clamp(BOUNDS[0], BOUNDS[1]));
        });
        offsets.push(ends.len());
    }
    let synapses = Incidence::new(&offsets, &ends, targets).unwrap();
    let mut rule = EventDriven::continuous(plasticity.rule, DT, synapses.clone()).unwrap();
    // What happens: at a time, first arrivals at synapses, then spikes of targets, then rewards.
    let mut happens: Vec<(f64, u8, u32)> = Vec::new();
    let steps = |pop: Pop| {
        let train = lazy.spikes(pop).unwrap();
        train.times.iter().map(|t| t / DT.0).zip(train.neurons.clone()).collect::<Vec<_>>()
    };
    for (time, source) in steps(p.pre) {
        happens.extend(synapses.leaving(source).map(|s| (time + delays[s], 0, s as u32)));
    }
    happens.extend(steps(p.post).into_iter().map(|(time, target)| (time, 1, target)));
    if matches!(plasticity.rule, plasticity::Rule::Reward(_)) {
        happens.extend((1..=8).map(|k| (f64::from(200 * k), 2, 0)));
    }
    if let Some((_, every)) = plasticity.normalise {
        let every = every.0 / DT.0;
        happens.extend((1..=(1600.0 / every) as u32).map(|k| (f64::from(k) * every, 3, 0)));
    }
    happens.retain(|&(time, ..)| time <= 1600.0);
    happens.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    for (time, what, number) in happens {
        match what {
            0 => rule.arrive_at(time, &[number], &mut weights).unwrap(),
            1 => rule.fire(time, &[number], &mut weights).unwrap(),
            2 => rule.reward(time, 0.5, &mut weights).unwrap(),
            _ => {
                let (normalise, _) = plasticity.normalise.unwrap();
                for target in 0..targets as u32 {
                    let of: Vec<usize> = (0..ends.len()).filter(|&s| ends[s] == target).collect();
                    let sum: f64 = of.iter().map(|&s| weights[s].abs()).sum();
                    let factor = if sum > 0.0 { f64::from(normalise.total) / sum } else { 1.0 };
                    of.iter().for_each(|&s| weights[s] *= factor);
                }
            }
        }
    }
    weights
}

#[test]
fn weights_off_the_grid_are_those_of_the_rules() {
    for net in kinds(currents()) {
        let mut lazy = lazy(&net);
        run(&mut lazy, 8);
        let times = &lazy.spikes(Pop(1)).unwrap().times;
        let off = times.iter().filter(|t| (*t / DT.0).fract() != 0.0).count();
        assert!(off > 300, "{off} spikes off the grid");
        for name in NAMES {
            let want = by_hand(&net, name, &lazy);
            let got = lazy.weights(name).unwrap().weights;
            let worst = want.iter().zip(&got).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(want.len() == got.len() && worst < 1e-12, "{name} of {}: {worst:e}", net.describe());
        }
    }
}

#[test]
fn threads_and_records_do_not_show_and_a_restored_simulation_learns_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    for net in kinds(currents()) {
        let outcome = |threads: usize, record: bool| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut lazy = lazy(&net);
                if record {
                    lazy.record_weights(NAMES[0], &[3, 1000], 7).unwrap();
                    lazy.record(Pop(1), &[0, 59], 5).unwrap();
                }
                run(&mut lazy, 4);
                (lazy.spikes(Pop(1)).unwrap().clone(), NAMES.map(|name| bits(&lazy.weights(name).unwrap())))
            })
        };
        let one = outcome(1, false);
        assert!(one.0.len() > 150 && one == outcome(2, false) && one == outcome(2, true));

        let mut whole = lazy(&net);
        whole.run(Ms(13.125)).unwrap();
        whole.checkpoint(&path).unwrap();
        run(&mut whole, 3);
        let mut restored = lazy(&net);
        restored.run(Ms(4.0)).unwrap(); // is overwritten
        restored.restore(&path).unwrap();
        run(&mut restored, 3);
        for name in NAMES {
            let [a, b] = [&whole, &restored].map(|s| s.weights(name).unwrap());
            assert!(a == b && bits(&a) == bits(&b), "{name} of {}", net.describe());
        }
        assert_eq!(whole.activity(), restored.activity());
    }
}

/// Potentials are sampled on copies of the neurons, with the weights that were delivered.
#[test]
fn recorded_potentials_are_those_of_the_grid() {
    let net = network(jumps(), rules()[0], true, false);
    let options = Options { precision: Precision::Double, ..Options::default() };
    let mut grid = Simulator::new(&net, options).unwrap();
    let mut lazy = lazy(&net);
    grid.record(Pop(1), "membrane potential", &[0, 31], 3).unwrap();
    lazy.record(Pop(1), &[0, 31], 3).unwrap();
    grid.run(Ms(50.0)).unwrap();
    lazy.run(Ms(50.0)).unwrap();
    let [a, b] = [&grid.traces()[0].values, &lazy.traces()[0].values];
    assert!(a.len() == b.len() && a.iter().any(|v| v.abs() > 1.0));
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-9, "{worst:e}");
}
