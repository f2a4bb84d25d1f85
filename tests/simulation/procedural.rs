//! Synapses that are drawn again whenever their source fires: simulations equal those of the CPU and those whose synapses
//! are stored.

use super::{DT, compare_with, plain};
use ransnn::engine::cuda::{Connectivity, Simulator};
use ransnn::snn::neurons::Iaf;
use ransnn::snn::plasticity::Pair;
use ransnn::snn::{Drive, Init, Network, NetworkBuilder, Pop, Rule, Source, standard};
use ransnn::tensor::cuda::Gpu;
use ransnn::units::{Hz, Ms};

fn start<'n>(gpu: &Gpu, net: &'n Network) -> Simulator<'n> {
    Simulator::with_connectivity(gpu, net, Connectivity::Procedural).unwrap()
}

/// Rules that can be drawn again, with empty and full rows among them.
fn rules(pre: usize, post: usize) -> Vec<Rule> {
    let mut rules = vec![
        Rule::Dense,
        Rule::FixedProbability { p: 0.0 },
        Rule::FixedProbability { p: 1e-4 },
        Rule::FixedProbability { p: 0.07 },
        Rule::FixedProbability { p: 0.6 },
        Rule::FixedProbability { p: 1.0 },
        Rule::FixedOutDegree { k: 1 },
        Rule::FixedOutDegree { k: post.div_ceil(3) },
        Rule::FixedOutDegree { k: post },
        Rule::FixedOutDegree { k: (post - 1).max(1) },
        Rule::FixedOutDegreeMultapses { k: 1 },
        Rule::FixedOutDegreeMultapses { k: post + 2 },
        Rule::Gaussian { p_max: 0.9, sigma: 0.1 },
    ];
    if pre == post {
        rules.push(Rule::OneToOne);
    }
    rules
}

/// Populations of these sizes: an input, and neurons that fire by chance and hear both.
fn populations(pre: usize, post: usize) -> (NetworkBuilder, Pop, Pop) {
    let mut net = Network::simulation(DT);
    let input = net.source("input", pre, Source::Poisson { rate: Hz(120.0), from: Ms(0.0), until: Ms(1e9) });
    let cells = net.population("cells", post, plain());
    net.drive(cells, Drive::Poisson { receptor: "jump".into(), rate: Hz(300.0), weight: 0.5 });
    (net, input, cells)
}

/// The edges of warps, and more than one of them.
const SIZES: [(usize, usize); 7] = [(1, 1), (31, 33), (33, 1), (32, 32), (1, 1000), (33, 31), (40, 257)];

/// One weight and one delay a projection: everything equals the CPU's. Returns the spikes of each network.
pub fn equal_the_cpu(gpu: &Gpu) -> Vec<u64> {
    let mut spikes = Vec::new();
    for (i, (pre, post)) in SIZES.into_iter().enumerate() {
        for autapses in [true, false] {
            let (mut net, input, cells) = populations(pre, post);
            for (j, rule) in rules(pre, post).into_iter().enumerate() {
                let weight = [3.0, -1.0, 2.0][j % 3] / 64.0;
                let edge = net.connect(input, cells, rule).name(format!("in{j}"));
                edge.weights(Init::Constant(weight)).delay(Ms(0.5 * [1.0, 4.0, 9.0][(i + j) % 3]));
            }
            for (j, rule) in rules(post, post).into_iter().enumerate() {
                if !autapses && (post == 1 || rule == Rule::OneToOne) {
                    continue; // refused
                }
                let rule = match rule {
                    Rule::FixedOutDegree { k } if !autapses => Rule::FixedOutDegree { k: k.min(post - 1) },
                    rule => rule,
                };
                let edge = net.connect(cells, cells, rule).name(format!("among{j}"));
                let edge = edge.weights(Init::Constant([2.0, -2.0][j % 2] / 64.0));
                let edge = edge.delay(Ms(0.5 * [2.0, 1.0, 20.0][(i + j) % 3]));
                if !autapses {
                    edge.no_autapses();
                }
            }
            let net = net.build(i as u64).unwrap();
            spikes.push(compare_with(start(gpu, &net), &net, &[1, 2, 20, 12]));
        }
    }

    // Neurons on grids, whose distances have two parts; several populations that end on one.
    let mut net = Network::simulation(DT);
    let shapes = [[2, 5, 7], [1, 6, 6], [3, 4, 9]];
    let pops = shapes.map(|shape| net.population(&format!("{shape:?}").replace(' ', ""), shape, plain()));
    for (i, &from) in pops.iter().enumerate() {
        net.drive(from, Drive::Poisson { receptor: "jump".into(), rate: Hz(200.0), weight: 0.75 });
        for &to in &pops {
            let edge = net.connect(from, to, Rule::Gaussian { p_max: 0.8, sigma: 0.25 }).delay(Ms(1.5));
            edge.weights(Init::Constant(0.0625)).no_autapses();
        }
        net.connect(from, pops[i], Rule::FixedProbability { p: 0.2 })
            .weights(Init::Constant(-0.125))
            .delay(Ms(2.0));
    }
    let net = net.build(8).unwrap();
    spikes.push(compare_with(start(gpu, &net), &net, &[60]));

    let net = standard::vogels_abbott_cuba(1).unwrap();
    spikes.push(compare_with(start(gpu, &net), &net, &[150]));
    spikes
}

/// As many different targets as have a bit in shared memory, where numbers near the edge of a range take a second word.
pub fn many_different_targets(gpu: &Gpu) {
    let mut net = Network::simulation(DT);
    let input = net.source("input", 5, Source::Spikes((0..5).map(|i| (u64::from(i) / 2, i)).collect()));
    let cells = net.population("cells", 393_216, Iaf { threshold: 1e6, ..plain() });
    net.connect(input, cells, Rule::FixedOutDegree { k: 100_000 })
        .weights(Init::Constant(0.25))
        .delay(Ms(1.0));
    let net = net.build(4).unwrap();
    compare_with(start(gpu, &net), &net, &[6]);
}

/// Weights and delays of their own: states, spikes and what is on its way equal those of stored synapses, whose sums are
/// those of a GPU. Checkpoints are of either.
pub fn equal_stored(gpu: &Gpu) {
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
    for (i, (pre, post)) in SIZES.into_iter().enumerate() {
        let (mut net, input, cells) = populations(pre, post);
        let size = 0.8 / (post.max(30) as f64);
        let named = |net: &mut NetworkBuilder, pre: Pop, rule: Rule, number: usize| {
            let edge = net.connect(pre, cells, rule).name(format!("{}-{number}", pre.0));
            let edge = edge.weights(match number % 3 {
                0 => Init::Constant(0.3 * size),
                _ => Init::Uniform { low: -0.9 * size, high: size },
            });
            match number % 3 {
                1 => edge.delay(Ms(1.0)),
                _ if number.is_multiple_of(2) => edge.delays(Init::Uniform { low: 0.5, high: 4.2 }),
                _ => edge.delays(Init::Uniform { low: 2.0, high: 150.0 }),
            };
        };
        let unsorted = |rule: &Rule| matches!(rule, Rule::FixedOutDegreeMultapses { .. });
        for (j, rule) in rules(pre, post).into_iter().filter(|rule| !unsorted(rule)).enumerate() {
            named(&mut net, input, rule, j);
        }
        for (j, rule) in rules(post, post).into_iter().filter(|rule| !unsorted(rule)).enumerate() {
            named(&mut net, cells, rule, j + 1);
        }
        let net = net.build(100 + i as u64).unwrap();
        let mut stored = Simulator::new(gpu, &net).unwrap();
        let mut again = start(gpu, &net);
        let counts = |simulator: &Simulator<'_>| simulator.synapses().iter().map(|s| s.0).collect::<Vec<_>>();
        assert_eq!(counts(&again), counts(&stored));
        for simulator in [&mut stored, &mut again] {
            simulator.record_spikes(cells).unwrap();
            simulator.run_steps(30).unwrap();
        }
        // The state in the file has what is in the rings.
        stored.checkpoint(&one).unwrap();
        again.checkpoint(&other).unwrap();
        assert!(std::fs::read(&one).unwrap() == std::fs::read(&other).unwrap(), "{pre} and {post} neurons");
        // Each goes on from the other's.
        stored.restore(&other).unwrap();
        again.restore(&one).unwrap();
        for simulator in [&mut stored, &mut again] {
            simulator.run_steps(20).unwrap();
        }
        assert!(again.spikes(cells).unwrap() == stored.spikes(cells).unwrap(), "{pre} and {post} neurons");
        assert!(
            again.state(cells, "membrane potential").unwrap()
                == stored.state(cells, "membrane potential").unwrap()
        );
        assert_eq!(again.activity().unwrap(), stored.activity().unwrap());
        assert!(again.activity().unwrap().synaptic_events > 0);
        assert!(post < 31 || !again.spikes(cells).unwrap().is_empty());
    }
}

/// What cannot be drawn again is refused, all of it by name and with the reason.
pub fn refusals(gpu: &Gpu) {
    let uniform = || Init::Uniform { low: 0.5, high: 1.0 };
    let normal = || Init::Normal { mean: 1.0, std: 0.1 };
    let degree = Rule::FixedOutDegreeMultapses { k: 2 };
    let mut net = Network::simulation(DT);
    let cells = net.population("cells", 10, plain());
    let constant = || Init::Constant(1.0);
    for (name, rule, weights, delays) in [
        ("good", Rule::Dense, uniform(), uniform()),
        ("target", Rule::FixedInDegree { k: 2 }, constant(), constant()),
        ("multapses", Rule::FixedInDegreeMultapses { k: 2 }, constant(), constant()),
        ("total", Rule::FixedTotal { n: 3 }, constant(), constant()),
        ("pairs", Rule::from_arrays(&[1], &[2]), constant(), constant()),
        ("normal", Rule::Dense, normal(), constant()),
        ("kept", Rule::Dense, uniform().keep_sign(), constant()),
        ("listed", Rule::Dense, Init::Listed(vec![1.0; 100]), constant()),
        ("late", Rule::Dense, constant(), normal()),
        ("unsorted", degree.clone(), uniform(), constant()),
        ("unsorted-late", degree.clone(), constant(), uniform()),
    ] {
        net.connect(cells, cells, rule).name(name).weights(weights).delays(delays);
    }
    net.connect(cells, cells, Rule::Dense)
        .name("plastic")
        .weights(Init::Constant(0.5))
        .delay(DT)
        .plasticity(Pair::default());
    let net = net.build(1).unwrap();
    let error = Simulator::with_connectivity(gpu, &net, Connectivity::Procedural).unwrap_err().to_string();
    for part in [
        "projection `target`: no procedural connectivity: fixed-in-degree draws target by target",
        "projection `multapses`: no procedural connectivity: fixed-in-degree-multapses",
        "projection `total`: no procedural connectivity: fixed-total",
        "projection `pairs`: no procedural connectivity: its pairs are listed",
        "projection `normal`: weights are drawn again until they fit",
        "projection `kept`: weights are drawn again until they fit",
        "projection `listed`: weights are listed",
        "projection `late`: delays are drawn again until they fit",
        "projection `unsorted`: weights are drawn in the order of the sorted targets",
        "projection `unsorted-late`: delays are drawn in the order of the sorted targets",
        "projection `plastic`: its rule of plasticity changes weights",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert!(!error.contains("`good`"), "{error}");
    assert!(Connectivity::Stored.check(&net).is_ok());

    let mut net = Network::simulation(DT);
    let many = net.population("many", 393_217, plain());
    net.connect(many, many, Rule::FixedOutDegree { k: 2 }).weights(constant()).delay(DT);
    let error = Connectivity::Procedural.check(&net.build(1).unwrap()).unwrap_err().to_string();
    assert!(
        error.contains("`many->many`") && error.contains("393217") && error.contains("has 393216"),
        "{error}"
    );
}
