//! Simulations on a GPU against the grid clock of the CPU: spikes, states and traces of random small networks, equal.
//!
//! Weights are multiples of 1/64, so that sums are exact in any order.

#![allow(clippy::single_range_in_vec_init, reason = "a list of blocks may have one")]

pub mod plastic;
pub mod procedural;

use rand::RngExt;
use ransnn::engine::clock::SpikeTrain;
use ransnn::engine::{Options, Precision, Simulator, cuda};
use ransnn::rng::{Stream, Walk};
use ransnn::snn::neurons::{
    Acts, AdEx, AdaptiveLif, AlphaLif, CondLif, Iaf, Izhikevich, Lif, Receptors, Reset, ResetActs, Scheme,
};
use ransnn::snn::plasticity::Reward;
use ransnn::snn::{Drive, Init, Network, Neuron, Pop, Rule, Source, Synapses, standard};
use ransnn::tensor::cuda::Gpu;
use ransnn::units::{Hz, Ms};

const DT: Ms = Ms(0.5);

/// A model, and what a weight has to be multiplied by to matter to it.
fn model(draw: &mut Walk) -> (Box<dyn Neuron>, f64) {
    let refractory_steps = draw.random_range(0..4);
    let iaf = Iaf { threshold: 1.0, reset: 0.0, refractory_steps, ..Iaf::delta(Ms(10.0), DT) };
    let acts = [Acts::First, Acts::BeforeComparison, Acts::Last][draw.random_range(0..3)];
    let one = Receptors::Exponential(Ms(4.0));
    let two = Receptors::Two(Ms(3.0), Ms(10.0));
    let late = Lif { reset: Reset::To(-0.25), acts: ResetActs::BeforeNextStep, ..Lif::default() };
    let scheme = if draw.random_bool(0.5) { Scheme::Euler } else { Scheme::Published };
    match draw.random_range(0..12) {
        0 => (Box::new(Iaf { acts, ..iaf }), 1.0),
        1 => (Box::new(Iaf { acts, receptors: one, resistance: 6.0, ..iaf }), 1.0),
        2 => (Box::new(Iaf { acts, receptors: two, resistance: 6.0, ..iaf }), 1.0),
        3 => (Box::new(Lif::default()), 1.0),
        4 => (Box::new(Lif { refractory_steps: 2, ..Lif::default() }), 1.0),
        5 => (Box::new(late), 1.0),
        6 => (Box::new(CondLif { refractory: Ms(1.0), ..CondLif::brette(DT) }), 16.0),
        7 => (Box::new(AdaptiveLif::new(DT)), 1024.0),
        8 => (Box::new(AlphaLif::nest(DT)), 512.0),
        9 => (Box::new(AdEx { refractory: Ms(1.0), substeps: 10, ..AdEx::nest(DT) }), 4096.0),
        10 => (Box::new(AdEx { substeps: 5, ..AdEx::nest_cond(DT) }), 64.0),
        _ => (Box::new(Izhikevich { scheme, ..Izhikevich::regular_spiking(DT) }), 32.0),
    }
}

fn rule(draw: &mut Walk, pre: usize, post: usize) -> Rule {
    match draw.random_range(0..7) {
        0 => Rule::Dense,
        1 if pre == post => Rule::OneToOne,
        2 => Rule::FixedInDegree { k: 1 + draw.random_range(0..pre) },
        3 => Rule::FixedInDegreeMultapses { k: 1 + draw.random_range(0..2 * pre) },
        4 => Rule::FixedOutDegree { k: 1 + draw.random_range(0..post) },
        5 => Rule::FixedTotal { n: draw.random_range(0..3 * pre as u64) },
        _ => Rule::FixedProbability { p: 0.3 },
    }
}

/// A random network: an input, and populations connected at random.
fn network(case: u64) -> Network {
    let mut draw = Stream::named(case, "networks").walk(0);
    let mut net = Network::simulation(DT);
    // 256 neurons fill a block of threads.
    let size = |draw: &mut Walk| match draw.random_range(0..8) {
        0 => 1,
        1 => 256,
        2 => 257,
        _ => 2 + draw.random_range(0..60usize),
    };
    let inputs = size(&mut draw);
    let source = match case % 2 {
        0 => Source::Poisson { rate: Hz(150.0), from: Ms(2.0), until: Ms(50.0) },
        _ => Source::Spikes(
            (0..300).map(|_| (draw.random_range(0..100), draw.random_range(0..inputs as u32))).collect(),
        ),
    };
    let mut pops = vec![(net.source("input", inputs, source), inputs, None)];
    for i in 0..1 + draw.random_range(0..3usize) {
        let (n, (model, unit)) = (size(&mut draw), model(&mut draw));
        let synaptic: Vec<&str> = model.receptors().iter().copied().filter(|&r| r != "current").collect();
        let current = model.receptors().contains(&"current");
        let pop = net.population(&format!("pop{i}"), n, model);
        if current && draw.random_bool(0.5) {
            let amplitude = Init::Uniform { low: 0.0, high: unit };
            let (from, until) = (Ms(5.0), Ms(45.0));
            net.drive(pop, Drive::Current { receptor: "current".into(), amplitude, from, until });
        }
        if draw.random_bool(0.5) {
            let (rate, weight) = (Hz(if draw.random_bool(0.5) { 400.0 } else { 6000.0 }), unit / 16.0);
            net.drive(pop, Drive::Poisson { receptor: synaptic[0].into(), rate, weight });
        }
        pops.push((pop, n, Some((synaptic, unit))));
    }
    for (post, n, receptors) in &pops {
        let Some((receptors, unit)) = receptors else { continue };
        for &(pre, m, _) in &pops {
            let rule = rule(&mut draw, m, *n);
            let mut weight = || f64::from(draw.random_range(-9..24i32)) / 64.0 * unit;
            // Individual weights where it is known how many there are.
            let weights = match rule {
                Rule::Dense => Init::Listed((0..m * n).map(|_| weight() as f32).collect()),
                _ => Init::Constant(weight()),
            };
            let receptor = receptors[draw.random_range(0..receptors.len())];
            let edge = net.connect(pre, *post, rule).weights(weights).receptor(receptor);
            match draw.random_range(0..4) {
                0 => edge.delay(Ms(0.5)),
                1 => edge.delay(Ms(0.5 * f64::from(draw.random_range(1..9)))),
                2 => edge.delays(Init::Uniform { low: 0.5, high: 150.0 }),
                _ => edge.delays(Init::Uniform { low: 1.5, high: 6.0 }),
            };
        }
    }
    net.build(case).unwrap()
}

/// Spikes times the synapses that they were sent through.
fn events(net: &Network, trains: &[SpikeTrain]) -> u64 {
    let of = |index: usize| {
        let p = &net.projections[index];
        let targets = net.populations[p.post.0].size() as u32;
        let synapses = Synapses::draw(net, index, &[0..targets], false).unwrap();
        let fired = trains[p.pre.0].neurons.iter();
        fired.map(|&neuron| synapses.blocks[0].row(neuron).len() as u64).sum::<u64>()
    };
    (0..net.projections.len()).map(of).sum()
}

/// Equal values of a variable; no number is equal to no number.
fn same(net: &Network, pop: Pop, variable: &str, found: &[f64], wanted: &[f64]) {
    assert_eq!(found.len(), wanted.len());
    let differs = |i: &usize| found[*i] != wanted[*i] && !(found[*i].is_nan() && wanted[*i].is_nan());
    if let Some(i) = (0..found.len()).find(differs) {
        let model = &net.populations[pop.0].model;
        panic!("{variable} {i}: {} instead of {} in {model:?}", found[i], wanted[i]);
    }
}

/// Runs both in uneven pieces and compares everything; returns the spikes of the neurons.
fn compare(gpu: &Gpu, net: &Network, pieces: &[u64]) -> u64 {
    compare_with(cuda::Simulator::new(gpu, net).unwrap(), net, pieces)
}

fn compare_with(mut device: cuda::Simulator<'_>, net: &Network, pieces: &[u64]) -> u64 {
    let mut cpu = Simulator::new(net, Options::default()).unwrap();
    let neurons = |p: usize| net.populations[p].model.as_ref().map(|model| (Pop(p), model.state()));
    for (p, population) in net.populations.iter().enumerate() {
        cpu.record_spikes(Pop(p)).unwrap();
        device.record_spikes(Pop(p)).unwrap();
        let Some((pop, states)) = neurons(p) else { continue };
        let last = population.size() as u32 - 1;
        for (state, every) in states.iter().zip([1, 3, 20, 1, 7, 2]) {
            cpu.record(pop, state.name, &[last, 0, last / 2], every).unwrap();
            device.record(pop, state.name, &[last, 0, last / 2], every).unwrap();
        }
    }
    for &piece in pieces {
        cpu.run_steps(piece);
        device.run_steps(piece).unwrap();
        assert_eq!(cpu.steps(), device.steps());
    }
    let trains: Vec<SpikeTrain> =
        (0..net.populations.len()).map(|p| device.spikes(Pop(p)).unwrap().clone()).collect();
    for (p, train) in trains.iter().enumerate() {
        let name = &net.populations[p].name;
        let model = &net.populations[p].model;
        assert!(train == cpu.spikes(Pop(p)).unwrap(), "spikes of `{name}`: {model:?}");
    }
    for (found, wanted) in device.traces().iter().zip(cpu.traces()) {
        assert_eq!((found.every, found.first), (wanted.every, wanted.first));
        same(net, wanted.population, &wanted.variable, &found.values, &wanted.values);
    }
    for (pop, states) in (0..net.populations.len()).filter_map(neurons) {
        for state in states {
            same(net, pop, state.name, &device.state(pop, state.name).unwrap(), &cpu.state(pop, state.name));
        }
    }
    let activity = device.activity().unwrap();
    assert_eq!(activity.spikes, cpu.activity().spikes);
    assert_eq!(activity.synaptic_events, events(net, &trains));
    assert_eq!(
        device.synapses().iter().map(|s| s.0).sum::<u64>(),
        cpu.synapses().iter().map(|s| s.0).sum::<u64>()
    );
    let inputs = net.populations.iter().zip(&activity.spikes).filter(|(p, _)| p.model.is_some());
    inputs.map(|(_, spikes)| spikes).sum()
}

/// Compares random networks; returns the spikes of each.
pub fn compare_random(gpu: &Gpu, cases: std::ops::Range<u64>) -> Vec<u64> {
    cases.map(|case| compare(gpu, &network(case), &[0, 1, 2, 7, 40, 50])).collect()
}

fn plain() -> Iaf {
    Iaf { threshold: 1.0, reset: 0.0, refractory_steps: 0, ..Iaf::delta(Ms(10.0), DT) }
}

/// What is special: nothing to do, nobody fires, everybody does in every step, more targets than 16 bits, several batches.
pub fn compare_special(gpu: &Gpu) {
    let silent = |size: usize, rule: Rule, current: f64| {
        let mut net = Network::simulation(DT);
        let cells = net.population("cells", size, Iaf { current, ..plain() });
        net.connect(cells, cells, rule).weights(Init::Constant(0.25)).delay(Ms(1.5));
        net.build(3).unwrap()
    };
    assert_eq!(compare(gpu, &silent(40, Rule::Dense, 0.0), &[20]), 0);
    assert_eq!(compare(gpu, &silent(40, Rule::FixedTotal { n: 0 }, 0.0), &[5]), 0);
    assert_eq!(compare(gpu, &silent(300, Rule::Dense, 1000.0), &[1, 2, 17]), 300 * 20);
    assert_eq!(compare(gpu, &silent(300, Rule::Dense, 1000.0), &[]), 0);

    // Two tables of targets, and stretches of 16 steps.
    let mut net = Network::simulation(DT);
    let cells = net.population("cells", 70_000, plain());
    net.drive(cells, Drive::Poisson { receptor: "jump".into(), rate: Hz(100.0), weight: 0.75 });
    let weights = Init::Listed((0..70_000).map(|i| (i % 64) as f32 / 64.0).collect());
    net.connect(cells, cells, Rule::OneToOne).weights(weights).delay(Ms(10.0));
    net.connect(cells, cells, Rule::FixedInDegreeMultapses { k: 2 })
        .weights(Init::Constant(0.5))
        .delay(Ms(8.5));
    assert!(compare(gpu, &net.build(5).unwrap(), &[33, 3]) > 10_000);

    // An input that nobody listens to, and neurons that nobody drives.
    let mut net = Network::simulation(DT);
    net.source("input", 5, Source::Poisson { rate: Hz(400.0), from: Ms(0.0), until: Ms(1e9) });
    net.population("cells", 5, plain());
    assert_eq!(compare(gpu, &net.build(1).unwrap(), &[10]), 0);

    // Networks from the literature whose spikes are counted.
    assert!(compare(gpu, &standard::vogels_abbott_cuba(1).unwrap(), &[150]) > 100);
    assert!(compare(gpu, &standard::vogels_abbott_coba(1).unwrap(), &[150]) > 100);

    // Models that fire by an injected current, and hear each other.
    let models: [(Box<dyn Neuron>, f64); 3] = [
        (Box::new(AlphaLif::nest(DT)), 16.0),
        (Box::new(AdEx { refractory: Ms(2.0), ..AdEx::nest(DT) }), 16.0),
        (Box::new(AdEx::nest_cond(DT)), 0.25),
    ];
    for (model, weight) in models {
        let kind = model.kind();
        let mut net = Network::simulation(DT);
        let cells = net.population("cells", 300, model);
        net.initial(cells, "membrane potential", Init::Uniform { low: -70.0, high: -55.0 });
        let (amplitude, from, until) = (Init::Constant(1000.0), Ms(0.0), Ms(1e9));
        net.drive(cells, Drive::Current { receptor: "current".into(), amplitude, from, until });
        for (name, receptor) in [("among-cells", "excitatory"), ("against", "inhibitory")] {
            let rule = Rule::FixedInDegree { k: 20 };
            let edge = net.connect(cells, cells, rule).name(name).weights(Init::Constant(weight));
            edge.receptor(receptor).delay(Ms(1.5));
        }
        assert!(compare(gpu, &net.build(2).unwrap(), &[200, 40]) > 600, "{kind} hardly fires");
    }

    // More steps than the host waits for at once.
    let long = compare(gpu, &network(6), &[1500]);
    assert!(long > 0);
}

/// Drawn weights, whose sums depend on their order where each addition is rounded: on a GPU they do not, and they are
/// nearer to those in double precision than the CPU's.
pub fn sums_are_exact(gpu: &Gpu, mut reorder: impl FnMut(u32)) {
    let mut net = Network::simulation(DT);
    let source = Source::Poisson { rate: Hz(200.0), from: Ms(0.0), until: Ms(1e9) };
    let input = net.source("input", 300, source);
    let cells = net.population("cells", 40, Iaf { threshold: 1e6, ..plain() });
    let drawn = || Init::Normal { mean: 0.1, std: 1.0 };
    net.connect(input, cells, Rule::Dense).weights(drawn()).delay(Ms(0.5));
    let delays = Init::Uniform { low: 0.5, high: 4.0 };
    net.connect(input, cells, Rule::Dense).name("slow").weights(drawn()).delays(delays);
    let net = net.build(11).unwrap();
    let state = |seed: u32| {
        reorder(seed);
        let mut device = cuda::Simulator::new(gpu, &net).unwrap();
        device.run_steps(60).unwrap();
        device.state(cells, "membrane potential").unwrap()
    };
    let found: Vec<Vec<f64>> = [0, 1, 77].map(state).to_vec();
    assert!(found[0] == found[1] && found[1] == found[2], "the order shows");
    let on_cpu = |precision| {
        let mut cpu = Simulator::new(&net, Options { precision, ..Options::default() }).unwrap();
        cpu.run_steps(60);
        cpu.state(cells, "membrane potential")
    };
    let (single, double) = (on_cpu(Precision::Single), on_cpu(Precision::Double));
    let error = |x: &[f64]| x.iter().zip(&double).map(|(a, b)| (a - b).abs()).sum::<f64>() / 40.0;
    assert!(single != found[0], "nothing was rounded");
    assert!(
        error(&found[0]) < 2e-5 && error(&found[0]) <= error(&single),
        "{} {}",
        error(&found[0]),
        error(&single)
    );
}

/// What has no kernel, or no room, is refused.
pub fn refusals(gpu: &Gpu) {
    let mut net = Network::simulation(DT);
    let cells = net.population("cells", 10, plain());
    net.connect(cells, cells, Rule::Dense)
        .weights(Init::Constant(0.1))
        .delay(DT)
        .plasticity(Reward::default());
    let error = cuda::Simulator::new(gpu, &net.build(1).unwrap()).unwrap_err().to_string();
    assert!(
        error.contains(
            "cannot run on a GPU with a rule that waits for rewards, in the plastic projection `cells->cells`"
        ),
        "{error}"
    );

    let mut net = Network::simulation(DT);
    let cells = net.population("cells", 10, plain());
    net.connect(cells, cells, Rule::Dense).weights(Init::Constant(0.1)).delay(DT);
    let net = net.build(1).unwrap();
    let mut device = cuda::Simulator::new(gpu, &net).unwrap();
    assert!(device.record_spikes(Pop(3)).is_err());
    let error = device.record(cells, "charge", &[0], 1).unwrap_err().to_string();
    assert!(error.contains("membrane potential"), "{error}");
    assert!(device.record(cells, "membrane potential", &[10], 1).is_err());
    assert!(device.record(cells, "membrane potential", &[0], 0).is_err());
    assert!(device.run(Ms(0.3)).unwrap_err().to_string().contains("multiple of the time step"));
    device.run(Ms(1.0)).unwrap();
    assert_eq!(device.steps(), 2);
}

/// A simulation that is stopped and taken up from a file goes on as if nothing had happened.
pub fn checkpoints(gpu: &Gpu) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    for case in [1, 2, 7] {
        let net = network(case);
        let start = || {
            let mut device = cuda::Simulator::new(gpu, &net).unwrap();
            (0..net.populations.len()).for_each(|p| device.record_spikes(Pop(p)).unwrap());
            device
        };
        let mut whole = start();
        whole.run_steps(37).unwrap();
        whole.checkpoint(&path).unwrap();
        whole.run_steps(40).unwrap();
        let mut rest = start();
        rest.run_steps(3).unwrap();
        rest.restore(&path).unwrap();
        assert_eq!(rest.steps(), 37);
        (0..net.populations.len()).for_each(|p| _ = rest.take_spikes(Pop(p)));
        rest.run_steps(40).unwrap();
        assert_eq!(rest.activity().unwrap(), whole.activity().unwrap());
        for p in 0..net.populations.len() {
            let (all, rest) = (whole.spikes(Pop(p)).unwrap(), rest.spikes(Pop(p)).unwrap());
            let late: Vec<_> = all.iter().filter(|(step, _)| *step >= 37).collect();
            assert!(late == rest.iter().collect::<Vec<_>>(), "{case}");
        }
        let other = network(case + 100);
        let error = cuda::Simulator::new(gpu, &other).unwrap().restore(&path).unwrap_err().to_string();
        assert!(error.contains("not a checkpoint of this network"), "{error}");
    }
}
