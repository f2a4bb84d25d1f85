//! The grid clock against a simulator that is written for clarity: every neuron by itself, every synapse in a list.
//!
//! Weights are multiples of 1/64, so that sums are exact in any order, and spikes and states must be equal.

#![allow(clippy::single_range_in_vec_init, reason = "a list of blocks may have one")]
#![allow(clippy::type_complexity, reason = "a synapse is four numbers")]

use rand::RngExt;
use ransnn::Error;
use ransnn::engine::clock::Activity;
use ransnn::engine::{Options, Precision, Simulator};
use ransnn::rng::{Stream, Walk};
use ransnn::snn::neurons::{Acts, Iaf, Lif, Receptors};
use ransnn::snn::{Drive, Init, Network, NetworkBuilder, Neuron, Pop, Rule, Source, Synapses};
use ransnn::units::{Hz, Ms};

const DT: Ms = Ms(0.5);

fn model(draw: &mut Walk) -> Box<dyn Neuron> {
    let iaf = Iaf {
        threshold: 1.0,
        reset: 0.0,
        refractory_steps: draw.random_range(0..4),
        ..Iaf::delta(Ms(10.0), DT)
    };
    let acts = [Acts::First, Acts::BeforeComparison, Acts::Last][draw.random_range(0..3)];
    match draw.random_range(0..4) {
        0 => Box::new(Iaf { acts, ..iaf }),
        1 => Box::new(Iaf { acts, receptors: Receptors::Exponential(Ms(4.0)), resistance: 6.0, ..iaf }),
        2 => Box::new(Iaf { acts, receptors: Receptors::Two(Ms(3.0), Ms(10.0)), resistance: 6.0, ..iaf }),
        _ => Box::new(Lif::default()),
    }
}

fn rule(draw: &mut Walk, pre: usize, post: usize) -> Rule {
    match draw.random_range(0..9) {
        0 => Rule::Dense,
        1 if pre == post => Rule::OneToOne,
        2 => Rule::FixedInDegree { k: 1 + draw.random_range(0..pre) },
        3 => Rule::FixedInDegreeMultapses { k: 1 + draw.random_range(0..2 * pre) },
        4 => Rule::FixedOutDegree { k: 1 + draw.random_range(0..post) },
        5 => Rule::FixedOutDegreeMultapses { k: 1 + draw.random_range(0..2 * post) },
        6 => Rule::FixedTotal { n: draw.random_range(0..3 * pre as u64) },
        7 => Rule::Gaussian { p_max: 0.8, sigma: 0.2 },
        _ => Rule::FixedProbability { p: 0.3 },
    }
}

/// A random network: an input, and populations connected at random.
fn network(case: u64) -> Network {
    let mut draw = Stream::named(case, "networks").walk(0);
    let mut net = Network::simulation(DT);
    let size = |draw: &mut Walk| 2 + draw.random_range(0..60usize);
    let inputs = size(&mut draw);
    let source = match case % 2 {
        0 => Source::Poisson { rate: Hz(150.0), from: Ms(5.0), until: Ms(200.0) },
        _ => Source::Spikes(
            (0..900).map(|_| (draw.random_range(0..300), draw.random_range(0..inputs as u32))).collect(),
        ),
    };
    let mut pops = vec![(net.source("input", inputs, source), inputs, None)];
    for i in 0..1 + draw.random_range(0..3usize) {
        let (n, model) = (size(&mut draw), model(&mut draw));
        let receptors = model.receptors();
        let synaptic: Vec<&str> = receptors.iter().copied().filter(|&r| r != "current").collect();
        let pop = net.population(&format!("pop{i}"), n, model);
        net.initial(pop, "membrane potential", Init::Uniform { low: 0.0, high: 0.9 });
        if receptors.contains(&"current") && draw.random_bool(0.3) {
            let amplitude = Init::Uniform { low: 0.0, high: 0.2 };
            net.drive(
                pop,
                Drive::Current { receptor: "current".into(), amplitude, from: Ms(10.0), until: Ms(90.0) },
            );
        }
        if draw.random_bool(0.5) {
            net.drive(pop, Drive::Poisson { receptor: synaptic[0].into(), rate: Hz(400.0), weight: 0.125 });
        }
        pops.push((pop, n, Some(synaptic)));
    }
    for &(post, n, ref receptors) in &pops {
        let Some(receptors) = receptors else { continue };
        for &(pre, m, _) in &pops {
            let rule = rule(&mut draw, m, n);
            let own = rule != Rule::OneToOne && draw.random_bool(0.3);
            let sixty_fourths = draw.random_range(-9..20i32);
            let edge = net
                .connect(pre, post, rule)
                .weights(Init::Constant(f64::from(sixty_fourths) / 64.0))
                .receptor(receptors[draw.random_range(0..receptors.len())]);
            let edge = match draw.random_range(0..3) {
                0 => edge.delay(Ms(0.5)),
                1 => edge.delay(Ms(0.5 * f64::from(draw.random_range(1..9)))),
                _ => edge.delays(Init::Uniform { low: 0.5, high: 6.0 }),
            };
            if own && pre == post {
                edge.no_autapses();
            }
        }
    }
    net.build(case).unwrap()
}

/// Spikes of each population as (step, neuron), and the final state: `[population][variable][neuron]`.
type Outcome = (Vec<Vec<(u64, u32)>>, Vec<Vec<Vec<f64>>>);

/// One neuron after the other, one synapse after the other.
fn naive(
    net: &Network,
    steps: u64,
    inputs: &[Vec<(u64, u32)>],
    drives: &dyn Fn(usize, u64, usize) -> Vec<f32>,
) -> Outcome {
    let mut spikes: Vec<Vec<(u64, u32)>> = vec![Vec::new(); net.populations.len()];
    let mut state: Vec<Vec<Vec<f32>>> = Vec::new();
    // What arrives: [population][receptor][step][neuron].
    let mut arriving: Vec<Vec<Vec<Vec<f32>>>> = Vec::new();
    for (p, population) in net.populations.iter().enumerate() {
        let n = population.size();
        let receptors = population.model.as_ref().map_or(0, |m| m.receptors().len());
        arriving.push(vec![vec![vec![0.0; n]; steps as usize + 100]; receptors]);
        let simulator = Simulator::new(net, Options::default()).unwrap();
        let states = population.model.as_ref().map_or_else(Vec::new, |m| m.state());
        let now = |s: &ransnn::snn::StateSpec| {
            simulator.state(Pop(p), s.name).into_iter().map(|v| v as f32).collect()
        };
        state.push(states.iter().map(now).collect());
    }
    let synapses: Vec<Synapses> = (0..net.projections.len())
        .map(|i| {
            let n = net.populations[net.projections[i].post.0].size() as u32;
            Synapses::draw(net, i, &[0..n], false).unwrap()
        })
        .collect();
    for step in 0..steps {
        let mut fired: Vec<Vec<u32>> = Vec::new();
        for (p, population) in net.populations.iter().enumerate() {
            let Some(model) = &population.model else {
                fired.push(inputs[p].iter().filter(|s| s.0 == step).map(|s| s.1).collect());
                continue;
            };
            let mut list = Vec::new();
            for n in 0..population.size() {
                let outside = drives(p, step, n);
                let input: Vec<[f32; 1]> = outside
                    .iter()
                    .zip(&arriving[p])
                    .map(|(&drive, receptor)| [receptor[step as usize][n] + drive])
                    .collect();
                let input: Vec<&[f32]> = input.iter().map(|x| &x[..]).collect();
                let mut one: Vec<&mut [f32]> = state[p].iter_mut().map(|v| &mut v[n..=n]).collect();
                let mut spike = [0];
                model.advance(&input, &mut one, &mut spike);
                list.extend((0..spike[0]).map(|_| n as u32));
            }
            fired.push(list);
        }
        for (projection, synapses) in net.projections.iter().zip(&synapses) {
            for &source in &fired[projection.pre.0] {
                synapses.each(source, |target, weight, delay| {
                    let receptor = &mut arriving[projection.post.0][projection.wiring.receptor];
                    receptor[step as usize + delay as usize][target as usize] += weight as f32;
                });
            }
        }
        for (all, list) in spikes.iter_mut().zip(fired) {
            all.extend(list.into_iter().map(|n| (step, n)));
        }
    }
    let state =
        state.into_iter().map(|p| p.into_iter().map(|v| v.into_iter().map(f64::from).collect()).collect());
    (spikes, state.collect())
}

fn outcome(simulator: &Simulator<'_>, net: &Network) -> Outcome {
    let pops = || (0..net.populations.len()).map(Pop);
    let states = |pop: Pop| {
        let model = net.populations[pop.0].model.as_ref();
        let names = model.map_or_else(Vec::new, |m| m.state());
        names.iter().map(|s| simulator.state(pop, s.name)).collect()
    };
    (
        pops().map(|pop| simulator.spikes(pop).unwrap().iter().collect()).collect(),
        pops().map(states).collect(),
    )
}

fn simulator(net: &Network, block: usize) -> Simulator<'_> {
    let mut simulator = Simulator::new(net, Options { block, ..Options::default() }).unwrap();
    (0..net.populations.len()).for_each(|p| simulator.record_spikes(Pop(p)).unwrap());
    simulator
}

fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// Drives as the engine draws them, recorded from neurons without a threshold or anything else.
fn drives_of(net: &Network, steps: u64) -> Vec<Vec<Vec<Vec<f32>>>> {
    let mut all = Vec::new();
    for population in &net.populations {
        let receptors = population.model.as_ref().map_or(0, |m| m.receptors().len());
        let mut mine = vec![vec![vec![0.0f32; population.size()]; steps as usize]; receptors];
        for (i, drive) in population.stimulus.drives.iter().enumerate() {
            let model = population.model.as_ref().unwrap();
            let r = model.receptors().iter().position(|r| *r == drive.receptor()).unwrap();
            let name = format!("population/{}/drive/{i}", population.name);
            let stream = Stream::named(net.seed, &name);
            match drive {
                Drive::Poisson { rate, weight, .. } => {
                    let mean = rate.0 * DT.0 / 1000.0;
                    for (step, row) in mine[r].iter_mut().enumerate() {
                        for (n, x) in row.iter_mut().enumerate() {
                            let (group, j, i) = (n as u32 / 32, n % 32 / 8, n as u32 % 8);
                            let word = stream.block([8 * group + i, step as u32, 0, 0])[j];
                            // The inverse of the distribution at (word + ½) / 2³².
                            let (mut count, mut term, mut sum) = (0, (-mean).exp(), (-mean).exp());
                            while f64::from(word) + 0.5 > sum * 4_294_967_296.0 && count < 60 {
                                count += 1;
                                term *= mean / f64::from(count);
                                sum += term;
                            }
                            *x += *weight as f32 * count as f32;
                        }
                    }
                }
                Drive::Current { amplitude: Init::Uniform { low, high }, from, until, .. } => {
                    let mut walk = stream.walk(0);
                    for n in 0..population.size() {
                        let amplitude = low + (high - low) * walk.random::<f64>();
                        let window =
                            (from.0 / DT.0) as usize..((until.0 / DT.0) as usize).min(steps as usize);
                        mine[r][window].iter_mut().for_each(|row| row[n] += amplitude as f32);
                    }
                }
                Drive::Current { .. } => unreachable!("the tests draw them uniformly"),
            }
        }
        all.push(mine);
    }
    all
}

#[test]
fn random_networks_fire_as_the_naive_simulator_says() {
    let (steps, mut busy) = (120, 0);
    for case in 0..40 {
        let net = network(case);
        let mut reference = simulator(&net, 0);
        reference.run_steps(steps);
        let expected = outcome(&reference, &net);
        let drives = drives_of(&net, steps);
        let (spikes, states) = naive(&net, steps, &expected.0, &|p, step, n| {
            drives[p].iter().map(|receptor| receptor[step as usize][n]).collect()
        });
        assert_eq!(spikes, expected.0, "case {case}");
        assert_eq!(states, expected.1, "case {case}");
        busy += usize::from(spikes[1..].iter().any(|list| list.len() > 50));
        for (block, threads) in [(32, 1), (33, 2), (1, 2)] {
            let cut = with_threads(threads, || {
                let mut simulator = simulator(&net, block);
                // In uneven parts: where a run is cut must not show.
                [1, 0, 7, 50, steps - 58].into_iter().for_each(|part| simulator.run_steps(part));
                outcome(&simulator, &net)
            });
            assert!(cut == expected, "case {case} in blocks of {block}");
        }
    }
    assert!(busy > 25, "{busy} of 40 networks are busy");
}

fn balanced(weights: Init, delays: Option<Init>) -> NetworkBuilder {
    let mut net = Network::simulation(Ms(0.1));
    let model = Iaf::delta(Ms(20.0), Ms(0.1));
    let exc = net.population("exc", 400, model);
    let inh = net.population("inh", 100, model);
    for (pre, factor) in [(exc, 1.0), (inh, -5.0)] {
        for post in [exc, inh] {
            let weights = match &weights {
                Init::Normal { mean, std } => {
                    Init::Normal { mean: mean * factor, std: std * 2.0 }.keep_sign()
                }
                Init::Constant(w) => Init::Constant(w * factor),
                other => other.clone(),
            };
            let edge = net.connect(pre, post, Rule::FixedProbability { p: 0.1 }).weights(weights);
            match &delays {
                Some(delays) => edge.delays(delays.clone()),
                None => edge.delay(Ms(1.5)),
            };
        }
    }
    for pop in [exc, inh] {
        net.drive(pop, Drive::Poisson { receptor: "jump".into(), rate: Hz(9000.0), weight: 0.2 });
        net.initial(pop, "membrane potential", Init::Uniform { low: 0.0, high: 20.0 });
    }
    net
}

fn kinds() -> Vec<Network> {
    let normal = || Init::Normal { mean: 0.3, std: 0.05 };
    let delays = || Some(Init::Normal { mean: 1.5, std: 0.75 });
    [(Init::Constant(0.3), None), (Init::Constant(0.3), delays()), (normal(), None), (normal(), delays())]
        .into_iter()
        .map(|(weights, delays)| balanced(weights, delays).build(5).unwrap())
        .collect()
}

#[test]
fn threads_and_blocks_do_not_show_with_weights_that_round() {
    for net in kinds() {
        let run = |threads, block| {
            with_threads(threads, || {
                let mut simulator = simulator(&net, block);
                simulator.run(Ms(100.0)).unwrap();
                (outcome(&simulator, &net), simulator.activity())
            })
        };
        let one = run(1, 0);
        assert!(one.0.0[0].len() > 400, "{}", one.0.0[0].len());
        assert!(one == run(2, 0) && one == run(2, 40) && one == run(1, 150));
    }
}

#[test]
fn a_restored_simulation_continues_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    for net in kinds() {
        for at in [1, 20, 333] {
            let mut whole = simulator(&net, 0);
            whole.run_steps(at);
            whole.checkpoint(&path).unwrap();
            let before: Vec<_> = whole.take_spikes(Pop(0)).unwrap().iter().collect();
            whole.run_steps(700);
            let mut restored = simulator(&net, 96);
            restored.run_steps(9); // is overwritten
            restored.restore(&path).unwrap();
            assert_eq!(restored.steps(), at);
            restored.run_steps(700);
            let (a, b) = (outcome(&whole, &net), outcome(&restored, &net));
            assert_eq!((&a.0[0], &a.1), (&b.0[0], &b.1));
            assert_eq!(whole.activity(), restored.activity());
            assert!(a.0[0].len() > 300 && before.iter().all(|s| s.0 < at));
        }
    }
    let nets = kinds();
    let refused = |net: &Network, options| match Simulator::new(net, options).unwrap().restore(&path) {
        Err(Error::Data { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&nets[0], Options::default()), "it is of another network");
    let double = Options { precision: Precision::Double, ..Options::default() };
    assert_eq!(refused(&nets[3], double), "its precision is f32, that of this simulation is f64");
    std::fs::write(&path, b"no").unwrap();
    assert!(Simulator::new(&nets[0], Options::default()).unwrap().restore(&path).is_err());
}

#[test]
fn traces_have_a_row_before_every_so_many_steps() {
    let net = kinds().remove(0);
    let mut simulator = simulator(&net, 64);
    simulator.run_steps(3);
    let trace = simulator.record(Pop(0), "membrane potential", &[399, 0, 70], 4).unwrap();
    simulator.run_steps(1);
    let now = simulator.state(Pop(0), "membrane potential");
    simulator.run_steps(40);
    let trace = &simulator.traces()[trace];
    assert_eq!((trace.first, trace.values.len()), (4, 3 * 10));
    assert_eq!(trace.values[..3], [now[399], now[0], now[70]]);
    assert_ne!(trace.values[3], trace.values[0]);
}

#[test]
fn synapses_are_what_their_rule_says_whatever_the_cut() {
    let rules = [
        (Rule::FixedInDegree { k: 30 }, 30 * 300),
        (Rule::FixedInDegreeMultapses { k: 500 }, 500 * 300),
        (Rule::FixedOutDegree { k: 40 }, 40 * 300),
        (Rule::FixedOutDegreeMultapses { k: 400 }, 400 * 300),
        (Rule::FixedTotal { n: 12_345 }, 12_345),
        (Rule::Dense, 299 * 300),
    ];
    for (rule, synapses) in rules {
        let mut net = Network::simulation(Ms(0.1));
        let pop = net.population("pop", 300, Iaf::delta(Ms(20.0), Ms(0.1)));
        net.connect(pop, pop, rule.clone())
            .weights(Init::Normal { mean: 1.0, std: 0.5 }.keep_sign())
            .delays(Init::Normal { mean: 1.5, std: 0.75 })
            .no_autapses();
        let net = net.build(3).unwrap();
        let list = |blocks: &[std::ops::Range<u32>]| {
            let synapses = Synapses::draw(&net, 0, blocks, false).unwrap();
            let mut all = Vec::new();
            (0..300).for_each(|i| synapses.each(i, |j, w, d| all.push((i, j, w.to_bits(), d))));
            all
        };
        let all = list(&[0..300]);
        assert_eq!(all.len(), synapses, "{rule:?}");
        assert_eq!(all, list(&[0..64, 64..65, 65..300]), "{rule:?}");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(all, pool.install(|| list(&[0..100, 100..300])), "{rule:?}");
        assert!(all.iter().all(|&(i, j, w, d)| i != j && f64::from_bits(w) > 0.0 && d >= 1));
        let mean = all.iter().map(|s| f64::from(s.3)).sum::<f64>() / all.len() as f64;
        assert!((mean - 15.6).abs() < 0.6, "{mean}"); // a little above 15: the part below a step is drawn again
        let degree = |of: &dyn Fn(&(u32, u32, u64, u32)) -> u32| {
            let mut counts = vec![0usize; 300];
            all.iter().for_each(|s| counts[of(s) as usize] += 1);
            counts
        };
        match rule {
            Rule::FixedInDegree { k } | Rule::FixedInDegreeMultapses { k } => {
                assert!(degree(&|s| s.1).iter().all(|&n| n == k));
            }
            Rule::FixedOutDegree { k } | Rule::FixedOutDegreeMultapses { k } => {
                assert!(degree(&|s| s.0).iter().all(|&n| n == k));
            }
            _ => {}
        }
        let mut pairs: Vec<_> = all.iter().map(|s| (s.0, s.1)).collect();
        pairs.sort_unstable();
        pairs.dedup();
        let distinct = pairs.len() == all.len();
        let multapses = matches!(
            rule,
            Rule::FixedInDegreeMultapses { .. }
                | Rule::FixedOutDegreeMultapses { .. }
                | Rule::FixedTotal { .. }
        );
        assert_eq!(distinct, !multapses, "{rule:?}");
    }
}

#[test]
fn a_constant_weight_takes_less_than_four_bytes_and_an_individual_one_less_than_nine() {
    for (net, most) in kinds().iter().zip([4.0, 5.0, 8.0, 9.0]) {
        let simulator = Simulator::new(net, Options::default()).unwrap();
        let (synapses, bytes) = simulator.synapses().iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        let each = bytes as f64 / synapses as f64;
        assert!(synapses > 20_000 && each < most, "{each}");
    }
}

#[test]
fn every_mistake_of_a_simulation_is_reported_by_name() {
    let mut net = Network::simulation(Ms(0.1));
    let model = Iaf::psc_exp(Ms(10.0), Ms(0.5), 250.0, Ms(0.1));
    let a = net.population("a", 10, model);
    let b = net.population("b", 10, Iaf { dt: Ms(0.2), ..model });
    let spikes = net.source("spikes", 3, Source::Spikes(vec![(0, 3)]));
    net.source("fast", 3, Source::Poisson { rate: Hz(20_000.0), from: Ms(3.0), until: Ms(1.0) });
    net.connect(a, a, Rule::Dense).weights(Init::Constant(f64::NAN)).delay(Ms(0.05)).name("nan");
    net.connect(a, b, Rule::Dense).weights(Init::Constant(1.0)).name("none");
    net.connect(a, a, Rule::Dense)
        .weights(Init::Constant(1.0))
        .delay(Ms(0.1))
        .receptor("gaba")
        .name("receptor");
    net.connect(a, a, Rule::Dense)
        .weights(Init::Constant(1.0))
        .delays(Init::Uniform { low: 0.01, high: 1.0 })
        .name("short");
    net.connect(a, spikes, Rule::FixedOutDegree { k: 4 })
        .weights(Init::Constant(1.0))
        .delay(Ms(1.0))
        .name("degree");
    net.connect(a, a, Rule::Dense).weights(Init::KaimingUniform).delay(Ms(1.0)).name("kaiming");
    net.drive(a, Drive::Poisson { receptor: "ampa".into(), rate: Hz(-1.0), weight: 1.0 });
    net.initial(a, "voltage", Init::Constant(0.0));
    let Err(Error::Network(problems)) = net.build(1) else { panic!("it was built") };
    let expected = [
        "population `a`: `ampa` is not one of its receptors, synapse, current",
        "population `a`: a drive of -1 Hz is -0.0001 spikes a step; it must be between 0 and 64",
        "population `a`: `voltage` is not one of its state variables, membrane potential, synaptic current, refractory steps left",
        "population `b`: its model was made for steps of 0.2 ms; those of the network are 0.1 ms",
        "population `spikes`: 1 of its listed spikes are of neurons that it does not have",
        "population `fast`: a rate of 20000 Hz is 2 spikes a step; it must be between 0 and 1",
        "population `fast`: it acts from 3 ms until 1 ms; they must be in order and not before 0",
        "projection `nan`: delay is 0.05 ms; it must be at least the time step, 0.1 ms",
        "projection `nan`: weight is NaN; it must be a finite number",
        "projection `none`: it has no delay; it must be at least the time step, 0.1 ms",
        "projection `receptor`: `gaba` is not a receptor of its target, which has synapse, current",
        "projection `short`: a delay is 0.01 ms; it must be at least the time step, 0.1 ms",
        "projection `degree`: its target `spikes` is an input",
        "projection `degree`: fan-out is 4; it must be between 1 and the size of the target, 3",
        "projection `kaiming`: weights of a simulation are constant, uniform, normal or listed, without modifiers but keep-sign",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn what_does_not_fit_in_memory_is_refused_with_its_size() {
    let mut net = Network::simulation(Ms(0.1));
    let pop = net.population("pop", 4_000_000, Iaf::delta(Ms(20.0), Ms(0.1)));
    net.connect(pop, pop, Rule::FixedOutDegree { k: 2000 }).weights(Init::Constant(1.0)).delay(Ms(1.0));
    match net.build(1) {
        Err(Error::Memory { needed, available, .. }) => {
            assert_eq!((needed, available), (16_016_000_004, 16 << 30))
        }
        // Eight billion synapses of two bytes fit in the default of 16 GiB.
        Ok(net) => assert_eq!(net.projections.len(), 1),
        other => panic!("{other:?}"),
    }
    let mut net = Network::simulation(Ms(0.1));
    net.memory(1_000_000);
    let pop = net.population("pop", 1000, Iaf::delta(Ms(20.0), Ms(0.1)));
    net.connect(pop, pop, Rule::Dense).weights(Init::Normal { mean: 1.0, std: 0.1 }).delay(Ms(1.0));
    match net.build(1) {
        Err(Error::Memory { needed, .. }) => assert_eq!(needed, 6_004_004),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_be_run_or_recorded_is_refused() {
    let net = kinds().remove(0);
    let mut simulator = simulator(&net, 0);
    assert!(
        simulator.run(Ms(0.15)).is_err()
            && simulator.run(Ms(-1.0)).is_err()
            && simulator.run(Ms(f64::NAN)).is_err()
    );
    assert!(simulator.record(Pop(0), "voltage", &[0], 1).is_err());
    assert!(simulator.record(Pop(0), "membrane potential", &[400], 1).is_err());
    assert!(simulator.record(Pop(0), "membrane potential", &[0], 0).is_err());
    assert!(simulator.record_spikes(Pop(9)).is_err() && simulator.spikes(Pop(9)).is_none());
    assert_eq!(simulator.activity(), Activity { spikes: vec![0, 0], synaptic_events: 0 });
    let mut plain = Network::builder(Ms(1.0));
    let input = plain.input("input", 3);
    let out = plain.population("out", 3, Lif::default());
    plain.connect(input, out, Rule::Dense);
    let plain = plain.build(1).unwrap();
    let double = Options { precision: Precision::Double, ..Options::default() };
    let message = Simulator::new(&plain, double).unwrap_err().to_string();
    for part in [
        "input `input` has no source",
        "`out`: this neuron model cannot run in double",
        "`input->out` has no delay",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_trained_network_can_be_simulated() {
    let mut net = Network::builder(Ms(1.0));
    let spikes = net.input("spikes", 4);
    let out = net.population("out", 5, Lif::default());
    net.connect(spikes, out, Rule::Dense).weights(Init::Constant(0.4)).delay(Ms(2.0)).frozen();
    let mut net = net.build(1).unwrap();
    net.populations[0].stimulus.source = Some(Source::Spikes((0..4).map(|n| (3, n)).collect()));
    let mut simulator = simulator(&net, 0);
    simulator.run_steps(10);
    let spikes: Vec<_> = simulator.spikes(out).unwrap().iter().collect();
    assert_eq!(spikes, (0..5).map(|n| (5, n)).collect::<Vec<_>>()); // 1.6 at once, two steps later
}
