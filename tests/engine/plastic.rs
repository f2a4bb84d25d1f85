//! Plastic projections inside the grid clock against the rules that are driven by hand with the spikes of the run.

#![allow(clippy::single_range_in_vec_init, reason = "a list of blocks may have one")]

use ransnn::Error;
use ransnn::engine::{Connections, Lazy, Options, Precision, Simulator};
use ransnn::rng::Stream;
use ransnn::snn::neurons::Iaf;
use ransnn::snn::plasticity::{self, EventDriven, Incidence, Normalise, Pair, Pairing, Reward, Triplet};
use ransnn::snn::{Drive, Init, Network, Pop, Rule, Source, Synapses};
use ransnn::units::{Hz, Ms};

const DT: Ms = Ms(0.1);
pub(crate) const BOUNDS: [f64; 2] = [0.0, 2.0];

/// Rules of every kind, with changes large enough to matter for the spikes of a short run.
pub(crate) fn rules() -> Vec<plasticity::Rule> {
    let pair = Pair { a_plus: 0.05, a_minus: 0.04, bounds: BOUNDS, ..Pair::default() };
    let nearest = Pairing::Nearest;
    let triplet =
        Triplet { a2_plus: 0.02, a3_plus: 0.05, a2_minus: 0.04, a3_minus: 0.01, ..Triplet::visual() };
    vec![
        pair.into(),
        Pair { mu: 1.0, pairing: nearest, ..pair }.into(),
        Pair { mu: 0.4, ..pair }.into(),
        Triplet { bounds: BOUNDS, ..triplet }.into(),
        Triplet { bounds: BOUNDS, pairing: nearest, ..triplet }.into(),
        Reward { pair, rate: 0.05, ..Reward::default() }.into(),
    ]
}

/// Driven neurons whose recurrent synapses, and those from an input, are plastic.
fn network(rule: plasticity::Rule, own_delays: bool, normalise: bool) -> Network {
    let mut net = Network::simulation(DT);
    let input = net.source("input", 50, Source::Poisson { rate: Hz(60.0), from: Ms(0.0), until: Ms(1e4) });
    let cells = net.population("cells", 200, Iaf::delta(Ms(20.0), DT));
    net.drive(cells, Drive::Poisson { receptor: "jump".into(), rate: Hz(9000.0), weight: 0.2 });
    net.initial(cells, "membrane potential", Init::Uniform { low: 0.0, high: 20.0 });
    for (pre, name) in [(input, "in"), (cells, "recurrent")] {
        let mut edge = net
            .connect(pre, cells, Rule::FixedInDegreeMultapses { k: 20 })
            .name(name)
            .weights(Init::Normal { mean: 0.5, std: 0.3 })
            .plasticity(rule);
        edge = match own_delays {
            true => edge.delays(Init::Uniform { low: 0.5, high: 4.0 }),
            false => edge.delay(Ms(1.5)),
        };
        if normalise {
            edge.normalise(12.0, Ms(20.0));
        }
    }
    net.build(11).unwrap()
}

fn kinds() -> impl Iterator<Item = Network> {
    let cases = rules().into_iter().zip([false, true, true, false, true, false]).enumerate();
    cases.map(|(i, (rule, own_delays))| network(rule, own_delays, i % 2 == 1))
}

/// Runs a while, with a reward now and then for networks that want one.
fn run(simulator: &mut Simulator<'_>, pieces: u64) {
    for _ in 0..pieces {
        simulator.run_steps(250);
        let _ = simulator.reward(0.5); // an error for rules without reward
    }
}

fn simulator(net: &Network, block: usize) -> Simulator<'_> {
    let mut simulator = Simulator::new(net, Options { block, ..Options::default() }).unwrap();
    (0..2).for_each(|pop| simulator.record_spikes(Pop(pop)).unwrap());
    simulator
}

pub(crate) fn bits(connections: &Connections) -> Vec<u64> {
    connections.weights.iter().map(|w| w.to_bits()).collect()
}

/// Weights after the same spikes, from the rule alone: one table, no blocks, no stretches.
fn by_hand(net: &Network, name: &str, trains: &[Vec<(u64, u32)>], steps: u64) -> Vec<f32> {
    let index = net.projections.iter().position(|p| p.name == name).unwrap();
    let p = &net.projections[index];
    let plasticity = p.wiring.plasticity.unwrap();
    let [sources, targets] = [p.pre, p.post].map(|pop| net.populations[pop.0].size());
    let drawn = Synapses::draw(net, index, &[0..targets as u32], false).unwrap();
    let (mut offsets, mut ends, mut delays, mut weights) = (vec![0], vec![], vec![], vec![]);
    for source in 0..sources as u32 {
        drawn.each(source, |target, weight, delay| {
            ends.push(target);
            delays.push(u64::from(delay));
            weights.push((weight as f32).clamp(BOUNDS[0] as f32, BOUNDS[1] as f32));
        });
        offsets.push(ends.len());
    }
    let synapses = Incidence::new(&offsets, &ends, targets).unwrap();
    // Every synapse on its own; where all delays are equal, that is the same as by source.
    let mut rule = EventDriven::per_synapse(plasticity.rule, DT, synapses.clone()).unwrap();
    for step in 0..steps {
        let mut arriving: Vec<u32> = Vec::new();
        for &(emitted, source) in trains[p.pre.0].iter().filter(|s| s.0 < step && s.0 + 50 > step) {
            let through = synapses.leaving(source).filter(|&s| emitted + delays[s] == step);
            arriving.extend(through.map(|s| s as u32));
        }
        rule.arrive_at(step, &arriving, &mut weights).unwrap();
        let fired = trains[p.post.0].iter().filter(|s| s.0 == step).map(|s| s.1).collect::<Vec<_>>();
        rule.fire(step, &fired, &mut weights).unwrap();
        if let Some((Normalise { total }, every)) = plasticity.normalise
            && (step + 1) % (every.0 / DT.0).round() as u64 == 0
        {
            for target in 0..targets as u32 {
                let of: Vec<usize> = (0..ends.len()).filter(|&s| ends[s] == target).collect();
                let sum: f64 = of.iter().map(|&s| f64::from(weights[s].abs())).sum();
                // Where all are 0, they stay.
                let factor = if sum > 0.0 { f64::from(total) / sum } else { 1.0 };
                of.iter().for_each(|&s| weights[s] = (f64::from(weights[s]) * factor) as f32);
            }
        }
        if (step + 1) % 250 == 0 && matches!(plasticity.rule, plasticity::Rule::Reward(_)) {
            rule.reward(step, 0.5, &mut weights).unwrap();
        }
    }
    weights
}

#[test]
fn weights_are_those_of_the_rules_bit_for_bit() {
    for net in kinds() {
        let mut simulator = simulator(&net, 70);
        let names = ["in", "recurrent"];
        let before = names.map(|name| simulator.weights(name).unwrap());
        run(&mut simulator, 8);
        let trains: Vec<Vec<_>> =
            (0..2).map(|p| simulator.spikes(Pop(p)).unwrap().iter().collect()).collect();
        assert!(trains[0].len() > 300 && trains[1].len() > 500, "{} spikes", trains[1].len());
        for (name, before) in names.iter().zip(before) {
            let after = simulator.weights(name).unwrap();
            let moved = before.weights.iter().zip(&after.weights).filter(|(a, b)| a != b).count();
            assert!(2 * moved > before.weights.len(), "{moved} weights of {name} moved");
            let want: Vec<f64> =
                by_hand(&net, name, &trains, simulator.steps()).iter().map(|&w| w.into()).collect();
            let first = want.iter().zip(&after.weights).position(|(a, b)| a != b);
            assert_eq!((first, want.len()), (None, after.weights.len()), "{name} of {}", net.describe());
        }
    }
}

/// The sum over all pairs, from the definition of additive STDP.
#[test]
fn additive_weights_are_sums_over_pairs() {
    let (bounds, steps) = ([-1e3, 1e3], 4000);
    let mut draw = Stream::named(3, "trains").walk(0);
    let mut times =
        |n| -> Vec<u64> { (0..n).map(|_| rand::RngExt::random_range(&mut draw, 0..steps)).collect() };
    let (mut pre, mut post) = (times(60), times(40));
    pre.sort_unstable();
    pre.dedup();
    post.sort_unstable();
    post.dedup();
    let mut net = Network::simulation(DT);
    let listed = |times: &[u64]| Source::Spikes(times.iter().map(|&t| (t, 0)).collect());
    let input = net.source("input", 1, listed(&pre));
    let teacher = net.source("teacher", 1, listed(&post));
    // Without a memory and a refractory time, it fires when the teacher says so.
    let cell = net.population("cell", 1, Iaf { refractory_steps: 0, ..Iaf::delta(Ms(0.01), DT) });
    net.connect(teacher, cell, Rule::Dense).weights(Init::Constant(100.0)).delay(DT);
    let pair = Pair { tau_minus: Ms(30.0), bounds, ..Pair::default() };
    net.connect(input, cell, Rule::Dense)
        .name("learns")
        .weights(Init::Constant(0.0))
        .delay(Ms(0.7))
        .plasticity(pair);
    let net = net.build(1).unwrap();
    let options = Options { precision: Precision::Double, ..Options::default() };
    let mut simulator = Simulator::new(&net, options).unwrap();
    simulator.record_spikes(cell).unwrap();
    simulator.run_steps(steps);
    let fired = &simulator.spikes(cell).unwrap().steps;
    assert!(fired.len() > 35);
    let mut want = 0.0;
    for arrival in pre.iter().map(|t| t + 7).filter(|&t| t < steps) {
        for &fired in fired {
            let lag = (fired as f64 - arrival as f64) * DT.0;
            want += if lag >= 0.0 { 0.01 * (-lag / 20.0).exp() } else { -0.0105 * (lag / 30.0).exp() };
        }
    }
    let got = simulator.weights("learns").unwrap().weights[0];
    assert!(want.abs() > 1e-3 && (got - want).abs() < 1e-12, "{got}, want {want}");
}

/// A spike delivers the weight as it was before its arrival, with one delay and with own ones.
#[test]
fn a_spike_delivers_the_weight_that_it_finds() {
    for own_delays in [false, true] {
        let mut net = Network::simulation(DT);
        let input = net.source("input", 1, Source::Spikes(vec![(0, 0), (100, 0)]));
        let teacher = net.source("teacher", 1, Source::Spikes(vec![(20, 0)]));
        let cell = net.population("cell", 1, Iaf { refractory_steps: 0, ..Iaf::delta(Ms(0.5), DT) });
        net.connect(teacher, cell, Rule::Dense).weights(Init::Constant(30.0)).delay(Ms(1.0));
        let edge = net.connect(input, cell, Rule::Dense).weights(Init::Constant(0.5));
        let edge = match own_delays {
            true => edge.delays(Init::Listed(vec![1.0])),
            false => edge.delay(Ms(1.0)),
        };
        edge.name("learns").plasticity(Pair { a_plus: 0.2, a_minus: 0.3, ..Pair::default() });
        let net = net.build(1).unwrap();
        let mut simulator = Simulator::new(&net, Options::default()).unwrap();
        let weight = simulator.record_weights("learns", &[0], 1).unwrap();
        let membrane = simulator.record(cell, "membrane potential", &[0], 1).unwrap();
        simulator.run(Ms(12.0)).unwrap();
        let weights = &simulator.weight_traces()[weight].values;
        // The input arrives in step 10, the cell fires in step 30, the second spike arrives in step 110.
        let learnt = 0.5 + 0.2 * (-2.0f64 / 20.0).exp();
        let forgot = learnt - 0.3 * (-8.0f64 / 20.0).exp();
        for (step, want) in [(0, 0.5), (30, 0.5), (31, learnt), (110, learnt), (111, forgot), (119, forgot)] {
            assert!((weights[step] - want).abs() < 1e-6, "{} before step {step}, want {want}", weights[step]);
        }
        let potentials = &simulator.traces()[membrane].values;
        let jump = potentials[111] - potentials[110] * (-0.1f64 / 0.5).exp();
        assert!((jump - learnt).abs() < 1e-5, "a jump of {jump}, want {learnt}");
    }
}

#[test]
fn threads_and_blocks_do_not_show() {
    for net in kinds() {
        let outcome = |threads: usize, block| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut simulator = simulator(&net, block);
                let recorded = [3990, 0, 17, 17, 2044];
                simulator.record_weights("recurrent", &recorded, 70).unwrap();
                run(&mut simulator, 4);
                let spikes: Vec<_> = simulator.spikes(Pop(1)).unwrap().iter().collect();
                let all = ["in", "recurrent"].map(|name| bits(&simulator.weights(name).unwrap()));
                (spikes, all, simulator.weight_traces().to_vec(), simulator.activity())
            })
        };
        let one = outcome(1, 0);
        assert!(one.0.len() > 200);
        assert!(one == outcome(2, 64) && one == outcome(2, 0) && one == outcome(1, 96));
        let trace = &one.2[0];
        assert_eq!(trace.values.len(), 5 * 1000usize.div_ceil(70));
        assert!(trace.values.chunks_exact(5).all(|row| row[2] == row[3]));
        let last = trace.values.len() - 5;
        assert_ne!(trace.values[..5], trace.values[last..]);
    }
}

#[test]
fn a_restored_simulation_learns_on_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    for net in kinds() {
        for at in [1, 333] {
            let mut whole = simulator(&net, 0);
            whole.run_steps(at);
            whole.checkpoint(&path).unwrap();
            run(&mut whole, 3);
            let mut restored = simulator(&net, 96);
            let trace = restored.record_weights("in", &[5], 10).unwrap();
            restored.run_steps(47); // is overwritten
            restored.restore(&path).unwrap();
            run(&mut restored, 3);
            for name in ["in", "recurrent"] {
                let [a, b] = [&whole, &restored].map(|s| s.weights(name).unwrap());
                assert!(a == b && bits(&a) == bits(&b), "{name} from step {at}");
            }
            assert_eq!(whole.activity(), restored.activity());
            let trace = &restored.weight_traces()[trace];
            assert_eq!((trace.first, trace.values.len()), (at.next_multiple_of(10), 75));
        }
    }
}

#[test]
fn normalised_weights_keep_their_sum() {
    let net = network(rules()[0], true, true);
    let mut simulator = simulator(&net, 0);
    simulator.run(Ms(40.0)).unwrap();
    let Connections { targets, weights, .. } = simulator.weights("recurrent").unwrap();
    let mut sums = vec![0.0; 200];
    targets.iter().zip(weights).for_each(|(&target, weight)| sums[target as usize] += weight);
    // Only a neuron that has forgotten all its inputs is left as it is.
    let kept = sums.iter().filter(|sum| (*sum - 12.0f64).abs() < 1e-5).count();
    assert!(kept > 190 && sums.iter().all(|&sum| sum == 0.0 || (sum - 12.0f64).abs() < 1e-5), "{sums:?}");
}

#[test]
fn mistakes_are_named() {
    let mut net = Network::simulation(DT);
    let cells = net.population("cells", 4, Iaf::delta(Ms(20.0), DT));
    let edges = [
        ("tau", Init::Constant(0.5), Pair { tau_plus: Ms(0.0), ..Pair::default() }),
        ("high", Init::Uniform { low: 0.5, high: 1.5 }, Pair::default()),
        ("low", Init::Listed(vec![-0.5; 16]), Pair::default()),
        ("often", Init::Constant(0.5), Pair::default()),
    ];
    for (name, weights, rule) in edges {
        let edge =
            net.connect(cells, cells, Rule::Dense).weights(weights).delay(DT).name(name).plasticity(rule);
        if name == "often" {
            edge.normalise(-1.0, Ms(0.25));
        }
    }
    net.connect(cells, cells, Rule::Dense)
        .weights(Init::Constant(0.5))
        .delay(DT)
        .name("still")
        .normalise(1.0, DT);
    let Err(Error::Network(problems)) = net.build(1) else { panic!("it was built") };
    let expected = [
        "projection `tau`: its rule pair: tau_plus is 0 ms; it must be at least 0.000001 ms",
        "projection `high`: a weight is 1.5; its rule keeps weights between 0 and 1",
        "projection `low`: a weight is -0.5; its rule keeps weights between 0 and 1",
        "projection `often`: weights are normalised to a sum of -1; it must be above 0",
        "projection `often`: weights are normalised every 0.25 ms; it must be a multiple of the time step, 0.1 ms",
        "projection `still`: weights that no rule of plasticity changes are not normalised",
    ];
    assert_eq!(problems, expected);

    let mut trained = Network::builder(DT);
    let cells = trained.population("cells", 4, Iaf::delta(Ms(20.0), DT));
    trained.connect(cells, cells, Rule::Dense).delay(DT).plasticity(Pair::default());
    assert!(trained.build(1).unwrap_err().to_string().contains("plasticity are of simulations"));

    let net = network(rules()[0], false, false);
    let mut lazy = Lazy::new(&net).unwrap();
    assert!(lazy.weights("out").unwrap_err().to_string().contains("a plastic one of the network"));
    assert!(lazy.record_weights("in", &[4000], 1).unwrap_err().to_string().contains("below 4000"));
    assert!(lazy.reward(1.0).unwrap_err().to_string().contains("waits for it"));
    let mut simulator = simulator(&net, 0);
    assert!(simulator.weights("out").unwrap_err().to_string().contains("a plastic one of the network"));
    let error = simulator.record_weights("in", &[3999, 4000], 1).unwrap_err().to_string();
    assert!(error.contains("4000") && error.contains("below 4000"), "{error}");
    assert!(simulator.record_weights("in", &[0], 0).is_err());
    assert!(simulator.reward(1.0).unwrap_err().to_string().contains("waits for it"));
    let net = network(rules()[5], false, false);
    assert!(Simulator::new(&net, Options::default()).unwrap().reward(f64::NAN).is_err());
}
