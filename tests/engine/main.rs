//! The engine against a naive simulator, spike for spike, on every instruction set of this machine.

mod brian;
mod clock;
mod lazy_plastic;
mod loops;
mod naive;
mod plastic;
mod regimes;
mod two_sample;

use rand::RngExt;
use ransnn::{
    engine::{Events, Input, Pool, Presentation, Probe, Recording, Simd, Table, What},
    rng::{Stream, Walk},
    snn::{
        Conv2d, Encoding, Init, Network, Neuron, Param, Pop, Population, Projection, Rule, StateSpec, Values,
        Weights,
        neurons::{Fires, Lif, Reset, ResetActs},
    },
    units::Ms,
};

fn population(name: &str, shape: &[usize], model: Option<Box<dyn Neuron>>) -> Population {
    Population { name: name.into(), shape: shape.to_vec(), model, stimulus: Default::default() }
}

fn lif(name: &str, shape: &[usize], lif: Lif) -> Population {
    population(name, shape, Some(Box::new(lif)))
}

fn projection(name: &str, pre: usize, post: usize, weights: Weights) -> Projection {
    Projection {
        name: name.into(),
        pre: Pop(pre),
        post: Pop(post),
        rule: Rule::Dense,
        init: Init::Constant(0.0),
        delay: None,
        frozen: true,
        weights,
        bias: vec![],
        gain: vec![],
        wiring: Default::default(),
    }
}

fn network(populations: Vec<Population>, projections: Vec<Projection>) -> Network {
    Network { dt: Ms(1.0), seed: 11, populations, projections }
}

/// Random numbers of one test case.
struct Draw(Walk);

impl Draw {
    fn new(case: u64) -> Self {
        Self(Stream::named(42, "engine tests").walk(case))
    }

    fn below(&mut self, n: usize) -> usize {
        (self.0.random::<u32>() as usize) % n.max(1)
    }

    fn float(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.0.random::<f32>()
    }

    fn floats(&mut self, n: usize, low: f32, high: f32) -> Vec<f32> {
        (0..n).map(|_| self.float(low, high)).collect()
    }

    fn quanta(&mut self, n: usize, most: i32) -> Vec<i8> {
        (0..n).map(|_| (self.below(2 * most as usize + 1) as i32 - most) as i8).collect()
    }

    /// Weights that make neurons with a threshold near 1 fire now and then.
    fn values(&mut self, n: usize, fan_in: usize, most: i32, targets: usize, plain: bool) -> Values {
        let size = 3.0 / (fan_in as f32 + 1.0).sqrt();
        if plain {
            return Values::F32(self.floats(n, -size, size * 1.3));
        }
        let mut quanta = self.quanta(n, most);
        quanta.iter_mut().filter(|q| **q < 0).for_each(|q| *q = (i32::from(*q) * 3 / 4) as i8);
        let entries = if self.below(2) == 0 { 1 } else { targets };
        Values::Int8 {
            quanta,
            scale: self.floats(entries, 0.8, 1.2).iter().map(|s| s * size / most as f32).collect(),
        }
    }

    fn dense(&mut self, sources: usize, targets: usize, plain: bool) -> Weights {
        let values = self.values(sources * targets, sources, 127, targets, plain);
        Weights::Dense { sources, targets, values }
    }

    fn sparse(&mut self, sources: usize, targets: usize, plain: bool) -> Weights {
        let mut offsets = vec![0];
        let mut list = Vec::new();
        for _ in 0..sources {
            let mut row: Vec<u32> = (0..self.below(7)).map(|_| self.below(targets) as u32).collect();
            row.sort_unstable();
            list.extend(row);
            offsets.push(list.len());
        }
        let values = self.values(list.len(), 4, 127, targets, plain);
        Weights::Sparse { offsets, targets: list, values }
    }

    fn conv(&mut self, input: [usize; 3], channels: usize, plain: bool, most: i32) -> (Weights, [usize; 3]) {
        let even = input[1].is_multiple_of(2) && input[2].is_multiple_of(2);
        let pool = if even { 1 + self.below(2) } else { 1 };
        let kernel = 1 + self.below((input[1].min(input[2]) / pool).min(5));
        let (stride, padding) = (1 + self.below(2), self.below(2).min(kernel - 1));
        let side = |size: usize| (size / pool + 2 * padding - kernel) / stride + 1;
        // The probes of some tests need maps of at least 4 × 4, or all that there is.
        let max_pool = 1 + self.below((side(input[1]).min(side(input[2])) / 4).clamp(1, 3));
        let output = [channels, side(input[1]) / max_pool, side(input[2]) / max_pool];
        let taps = input[0] * kernel * kernel;
        let values = self.values(channels * taps, taps, most, channels, plain);
        (
            Weights::Conv2d {
                geometry: Conv2d { input, output, kernel, stride, padding, pool, max_pool },
                values,
            },
            output,
        )
    }

    fn dialect(&mut self) -> Lif {
        let reset = [Reset::Subtract, Reset::To(self.float(-0.3, 0.3)), Reset::None][self.below(3)];
        let unit = self.below(2) == 0;
        Lif {
            decay: self.float(0.5, 1.0),
            gain: if unit { 1.0 } else { self.float(0.8, 1.5) },
            rest: if unit { 0.0 } else { self.float(-0.2, 0.2) },
            threshold: self.float(0.6, 1.4),
            fires: [Fires::Above, Fires::AtOrAbove][self.below(2)],
            reset,
            acts: [ResetActs::SameStep, ResetActs::NextStep, ResetActs::BeforeNextStep][self.below(3)],
            refractory_steps: 0,
        }
    }

    fn pixels(&mut self, n: usize) -> Vec<u8> {
        // A third dark, a few saturated.
        (0..n)
            .map(|_| [0, 0, self.below(256), self.below(256), self.below(256), 255][self.below(6)] as u8)
            .collect()
    }
}

/// Runs on every instruction set and compares every feature of every sample. Gives the spikes of non-inputs.
fn compare(net: &Network, encoding: &Encoding, probes: &[Probe], input: Input, samples: usize) -> u64 {
    let ids: Vec<u64> = (0..samples as u64).map(|i| i * 3 + (i << 33)).collect();
    let mut spikes = 0;
    let engine = Presentation::compile(net, encoding, probes).unwrap();
    let stream = engine.stream("train", 2);
    let naive: Vec<_> =
        ids.iter().enumerate().map(|(row, &id)| naive::run(net, encoding, input, row, id, &stream)).collect();
    for simd in Simd::available() {
        let engine = Presentation::compile(net, encoding, probes).unwrap().with_simd(simd);
        let mut recording = Recording::default();
        let activity = engine.run(input, &ids, &stream, &mut recording).unwrap();
        for ((probe, table), &width) in probes.iter().zip(&recording.tables).zip(&recording.widths) {
            let got: Vec<f32> = match table {
                Table::U8(x) => x.iter().map(|&x| x.into()).collect(),
                Table::U16(x) => x.iter().map(|&x| x.into()).collect(),
                Table::F32(x) => x.clone(),
            };
            let shape = &net.populations[probe.population.0].shape;
            for (row, run) in naive.iter().enumerate() {
                let want = naive::feature(run, probe.population.0, shape, probe.what);
                assert_eq!(
                    got[row * width..(row + 1) * width],
                    want,
                    "{} {probe:?} sample {row}",
                    simd.name()
                );
            }
        }
        let total = |p: usize| {
            naive.iter().flat_map(|run| run.spikes[p].iter().flatten()).map(|&s| u64::from(s)).sum()
        };
        let want: Vec<u64> = (0..net.populations.len()).map(total).collect();
        assert_eq!(activity.spikes, want, "{}", simd.name());
        assert_eq!(activity.synaptic_operations, naive.iter().map(|run| run.operations).sum::<u64>());
        assert_eq!(activity.samples, samples as u64);
        spikes = want[1..].iter().sum();
    }
    spikes
}

fn all(population: usize) -> Vec<Probe> {
    let probe = |what| Probe { population: Pop(population), what };
    vec![probe(What::Counts), probe(What::Membrane), probe(What::Bins(2)), probe(What::Trace { decay: 0.8 })]
}

fn counts(population: usize) -> Probe {
    Probe { population: Pop(population), what: What::Counts }
}

#[test]
fn every_dialect_on_random_dense_networks() {
    let mut spikes = 0;
    for case in 0..40 {
        let mut draw = Draw::new(case);
        let sizes: Vec<usize> = (0..3).map(|_| [1, 7, 63, 64, 65, 100][draw.below(6)]).collect();
        let net = network(
            vec![
                population("in", &[sizes[0]], None),
                lif("a", &[sizes[1]], draw.dialect()),
                lif("b", &[sizes[2]], draw.dialect()),
            ],
            vec![
                projection("in-a", 0, 1, draw.dense(sizes[0], sizes[1], false)),
                Projection {
                    bias: draw.floats(sizes[2], -0.1, 0.2),
                    gain: vec![draw.float(0.5, 2.0)],
                    ..projection("a-b", 1, 2, draw.dense(sizes[1], sizes[2], case % 3 == 0))
                },
                projection("in-b", 0, 2, draw.dense(sizes[0], sizes[2], case % 4 == 0)),
            ],
        );
        let steps = [2, 3, 17, 63, 64, 65, 130][draw.below(7)];
        let encoding = match case % 3 {
            0 => Encoding::Bernoulli { steps, gain: draw.float(0.3, 1.5) },
            1 => Encoding::Constant { steps },
            _ => Encoding::Latency { steps },
        };
        let samples = 1 + draw.below(11);
        let probes = [all(1), all(2)].concat();
        if case % 2 == 0 {
            let x = draw.pixels(samples * sizes[0]);
            spikes += compare(&net, &encoding, &probes, Input::U8(&x), samples);
        } else {
            let x = draw.floats(samples * sizes[0], -0.1, 1.1);
            spikes += compare(&net, &encoding, &probes, Input::F32(&x), samples);
        }
    }
    assert!(spikes > 50_000, "{spikes}");
}

#[test]
fn sparse_and_convolutional_networks() {
    let mut spikes = 0;
    for case in 0..60 {
        let mut draw = Draw::new(1000 + case);
        let input = [1 + draw.below(2), 5 + draw.below(6), 5 + draw.below(6)];
        let inputs = input.iter().product();
        let (plain, plain2) = (case % 5 == 0, case % 4 == 1);
        let channels = [1, 3, 16, 17][draw.below(4)];
        let (first, shape) = draw.conv(input, channels, plain, 63);
        let (second, shape2) = draw.conv(shape, 4, plain2, 127);
        let size = [5, 64, 70][draw.below(3)];
        let net = network(
            vec![
                population("in", &input, None),
                lif("conv", &shape, draw.dialect()),
                lif("conv2", &shape2, draw.dialect()),
                lif("sparse", &[size], draw.dialect()),
            ],
            vec![
                Projection { gain: draw.floats(channels, 0.8, 1.2), ..projection("k", 0, 1, first) },
                Projection { bias: draw.floats(4, 0.0, 0.1), ..projection("k2", 1, 2, second) },
                projection("s", 0, 3, draw.sparse(inputs, size, plain)),
                projection("s2", 1, 3, draw.sparse(shape.iter().product(), size, plain2)),
                projection("d", 2, 3, draw.dense(shape2.iter().product(), size, plain2)),
            ],
        );
        let steps = 2 + draw.below(20);
        let encoding = if case % 2 == 0 {
            Encoding::Constant { steps }
        } else {
            Encoding::Bernoulli { steps, gain: 1.0 }
        };
        let pool = match draw.below(2) {
            0 => Pool::Grid { cells: 2 },
            _ => Pool::Windows { side: 3, stride: 2, offset: (-1, 0) },
        };
        let mut probes = [all(1), all(3), vec![counts(2)]].concat();
        probes.push(Probe { population: Pop(1), what: What::Pool(pool) });
        let x = draw.pixels(3 * inputs);
        spikes += compare(&net, &encoding, &probes, Input::U8(&x), 3);
    }
    assert!(spikes > 50_000, "{spikes}");
}

/// The one-pass way of a layer that sees only a constant input: convolutions, dense and sparse tables.
#[test]
fn constant_current_layers() {
    let mut spikes = 0;
    for case in 0..28 {
        let mut draw = Draw::new(2000 + case);
        let input = [1 + draw.below(2), 6 + draw.below(15), 6 + draw.below(15)];
        let inputs = input.iter().product();
        let (most, plain) = ([15, 31, 63, 127][draw.below(4)], case % 7 == 0);
        let channels = [1, 8, 16, 33][draw.below(4)];
        let (weights, shape) = draw.conv(input, channels, plain, most);
        let bias = if case % 3 == 0 { draw.floats(shape[0], 0.0, 0.5) } else { vec![] };
        let net = network(
            vec![
                population("in", &input, None),
                lif("conv", &shape, draw.dialect()),
                lif("dense", &[65], draw.dialect()),
                lif("sparse", &[70], draw.dialect()),
            ],
            vec![
                Projection { bias, ..projection("k", 0, 1, weights) },
                projection("d", 0, 2, draw.dense(inputs, 65, plain)),
                projection("s", 0, 3, draw.sparse(inputs, 70, plain)),
            ],
        );
        let steps = [0, 1, 2, 4, 9, 30, 255, 256][if case < 2 { 6 + case as usize } else { draw.below(6) }];
        let pools = [
            Pool::Grid { cells: 3 },
            Pool::Overlapping { cells: 3, percent: 140 },
            Pool::Windows { side: 4, stride: 3, offset: (1, -2) },
        ];
        let mut probes = vec![counts(1), counts(2), counts(3)];
        probes.extend(pools.map(|pool| Probe { population: Pop(1), what: What::Pool(pool) }));
        probes.push(Probe { population: Pop(2), what: What::Membrane });
        let mut x = draw.pixels(9 * inputs);
        x[..inputs * 2 + inputs / 2].fill(0); // blank patches
        let x_f32: Vec<f32> = x.iter().map(|&x| f32::from(x) / 255.0).collect();
        let encoding = Encoding::Constant { steps };
        if case % 4 == 3 {
            spikes += compare(&net, &encoding, &probes, Input::F32(&x_f32), 9);
        } else {
            spikes += compare(&net, &encoding, &probes, Input::U8(&x), 9);
        }
    }
    assert!(spikes > 50_000, "{spikes}");
}

/// The largest sums there are: 2000 sources that all fire with weights of ±127, and full intensity.
#[test]
fn saturated_input_does_not_overflow() {
    for quantum in [127i8, -127] {
        for encoding in [Encoding::Bernoulli { steps: 3, gain: 1.0 }, Encoding::Constant { steps: 3 }] {
            let mut draw = Draw::new(3);
            let mut quanta = vec![quantum; 2000 * 66];
            (0..2000).for_each(|i| quanta[i * 66 + 5] = draw.quanta(1, 127)[0]);
            let values = Values::Int8 { quanta, scale: vec![1e-4] };
            let net = network(
                vec![population("in", &[2000], None), lif("out", &[66], Lif { rest: 0.5, ..Lif::default() })],
                vec![projection("w", 0, 1, Weights::Dense { sources: 2000, targets: 66, values })],
            );
            let spikes = compare(&net, &encoding, &[counts(1), all(1)[1]], Input::U8(&[255; 4000]), 2);
            assert!(quantum < 0 || spikes > 300, "{spikes}");
        }
    }
}

#[test]
fn wide_layers_and_no_steps() {
    let mut draw = Draw::new(4);
    let net = network(
        vec![
            population("in", &[30], None),
            lif("wide", &[2000], draw.dialect()),
            lif("out", &[3], Lif::default()),
        ],
        vec![
            projection("a", 0, 1, draw.dense(30, 2000, false)),
            projection("b", 1, 2, draw.dense(2000, 3, false)),
        ],
    );
    let x = draw.pixels(60);
    for steps in [0, 1, 2] {
        let probes = [counts(1), all(1)[1], all(2)[3], counts(2)];
        let spikes = compare(&net, &Encoding::Bernoulli { steps, gain: 1.0 }, &probes, Input::U8(&x), 2);
        assert_eq!(spikes > 0, steps > 0);
    }
    let engine = Presentation::compile(&net, &Encoding::Constant { steps: 3 }, &[counts(2)]).unwrap();
    let mut recording = Recording::default();
    let activity = engine.run(Input::U8(&[]), &[], &engine.stream("test", 0), &mut recording).unwrap();
    assert_eq!((activity.samples, &recording.tables[0]), (0, &Table::U8(vec![])));
    // Nothing connected, nothing but rest.
    let net = network(vec![population("in", &[2], None), lif("alone", &[65], Lif::default())], vec![]);
    assert_eq!(compare(&net, &Encoding::Constant { steps: 70 }, &all(1), Input::U8(&[1, 2]), 1), 0);
}

/// A model that the fast loops do not know, with two variables and several spikes a step.
#[derive(Debug)]
struct Stairs;

impl Neuron for Stairs {
    fn kind(&self) -> &'static str {
        "stairs"
    }
    fn params(&self) -> Vec<Param> {
        vec![]
    }
    fn state(&self) -> Vec<StateSpec> {
        ["level", "steps"].map(|name| StateSpec { name, unit: "1", initial: 0.25 }).to_vec()
    }
    fn step(&self, input: &[f32], state: &mut [&mut [f32]], spikes: &mut [u8]) {
        for i in 0..input.len() {
            state[0][i] += input[i];
            spikes[i] = state[0][i].clamp(0.0, 3.0) as u8;
            state[0][i] -= f32::from(spikes[i]);
            state[1][i] += 1.0;
        }
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

#[test]
fn other_models_and_refractory_periods() {
    for case in 0..20 {
        let mut draw = Draw::new(5000 + case);
        let refractory = Lif { refractory_steps: 2, acts: ResetActs::SameStep, ..draw.dialect() };
        let net = network(
            vec![
                population("in", &[20], None),
                population("stairs", &[66], Some(Box::new(Stairs))),
                lif("late", &[64], draw.dialect()),
                lif("tired", &[9], refractory),
            ],
            vec![
                projection("a", 0, 1, draw.dense(20, 66, false)),
                projection("b", 1, 2, draw.dense(66, 64, case % 2 == 0)),
                projection("c", 2, 3, draw.sparse(64, 9, false)),
            ],
        );
        let probes = [all(1), all(2), all(3)].concat();
        let x = draw.pixels(40);
        let spikes = compare(&net, &Encoding::Bernoulli { steps: 70, gain: 1.0 }, &probes, Input::U8(&x), 2);
        assert!(spikes > 500, "{spikes}");
    }
}

#[test]
fn delta_encoding_and_given_events() {
    let mut draw = Draw::new(6);
    let net = network(
        vec![population("in", &[10], None), lif("out", &[20], Lif::default())],
        vec![projection("w", 0, 1, draw.dense(10, 20, false))],
    );
    for off in [false, true] {
        let encoding = Encoding::Delta { steps: 80, threshold: 0.3, off };
        let x = draw.floats(2 * encoding.sample_len(10), 0.0, 1.0);
        assert!(compare(&net, &encoding, &all(1), Input::F32(&x), 2) > 100);
    }
    let lists =
        |draw: &mut Draw| Events::new(10, (0..80).map(|_| (0..10).filter(|_| draw.below(3) == 0).collect()));
    let events = [lists(&mut draw).unwrap(), lists(&mut draw).unwrap()];
    let encoding = Encoding::Bernoulli { steps: 80, gain: 1.0 };
    assert!(compare(&net, &encoding, &all(1), Input::Events(&events), 2) > 100);
}

#[test]
fn threads_and_batches_do_not_matter() {
    let mut draw = Draw::new(7);
    let (weights, shape) = draw.conv([1, 12, 12], 6, false, 63);
    let net = network(
        vec![
            population("in", &[1, 12, 12], None),
            lif("conv", &shape, Lif::default()),
            lif("h", &[130], Lif::snntorch(0.9)),
        ],
        vec![projection("k", 0, 1, weights), projection("w", 0, 2, draw.dense(144, 130, false))],
    );
    let x = draw.pixels(50 * 144);
    for encoding in [Encoding::Bernoulli { steps: 20, gain: 1.0 }, Encoding::Constant { steps: 20 }] {
        let engine = Presentation::compile(&net, &encoding, &[counts(1), counts(2)]).unwrap();
        let ids: Vec<u64> = (100..150).collect();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut recording = Recording::default();
            let activity = pool
                .install(|| engine.run(Input::U8(&x), &ids, &engine.stream("test", 1), &mut recording))
                .unwrap();
            (activity, recording)
        };
        let (activity, whole) = run(1);
        assert!(activity.spikes[1] > 100 && activity.spikes[2] > 100);
        assert_eq!(run(2), (activity, whole.clone()));
        // Sample 33 alone gives its row of the batch.
        let mut alone = Recording::default();
        engine.run(Input::U8(&x[33 * 144..34 * 144]), &[133], &engine.stream("test", 1), &mut alone).unwrap();
        let (Table::U8(all), Table::U8(one)) = (&whole.tables[1], &alone.tables[1]) else {
            panic!("counts are u8")
        };
        assert_eq!(all[33 * 130..34 * 130], one[..]);
        let other = run_stream(&engine, &x, &ids);
        assert_eq!(other == whole, encoding.is_constant(), "another epoch draws other numbers");
    }
}

fn run_stream(engine: &Presentation, x: &[u8], ids: &[u64]) -> Recording {
    let mut recording = Recording::default();
    engine.run(Input::U8(x), ids, &engine.stream("test", 2), &mut recording).unwrap();
    recording
}

#[test]
fn mistakes_are_named() {
    let mut draw = Draw::new(8);
    let good = |draw: &mut Draw| {
        network(
            vec![
                population("in", &[4], None),
                lif("a", &[5], Lif::default()),
                lif("b", &[5], Lif::default()),
            ],
            vec![
                projection("in-a", 0, 1, draw.dense(4, 5, false)),
                projection("a-b", 1, 2, draw.dense(5, 5, false)),
            ],
        )
    };
    let encoding = Encoding::Bernoulli { steps: 5, gain: 1.0 };
    let error = |net: &Network, probes: &[Probe]| {
        Presentation::compile(net, &encoding, probes).unwrap_err().to_string()
    };

    let mut net = good(&mut draw);
    net.projections.push(projection("back", 2, 1, draw.dense(5, 5, false)));
    assert!(error(&net, &[]).contains("a → b → a is a cycle without a delay"));
    net.projections[2].delay = Some(Ms(2.0));
    assert!(Presentation::compile(&net, &encoding, &[]).is_ok());
    net.projections[2].wiring.delays = Some(Init::Uniform { low: 1.0, high: 3.0 });
    assert!(error(&net, &[]).contains("`back` has a delay for each synapse and needs a simulation"));
    let mut net = good(&mut draw);
    net.projections[0].delay = Some(Ms(1.0));
    let constant = Presentation::compile(&net, &Encoding::Constant { steps: 5 }, &[]).unwrap_err();
    assert!(constant.to_string().contains("`in-a` carries a constant current, which has no delay: 1 ms"));

    let mut net = good(&mut draw);
    net.projections[0].weights = draw.dense(3, 5, false);
    assert!(error(&net, &[]).contains("`in-a`: weights are 3 × 5"));
    net = good(&mut draw);
    net.projections[1].gain = vec![1.0; 3];
    assert!(error(&net, &[]).contains("`a-b`: 3 entries of gain"));
    net = good(&mut draw);
    net.populations[0].model = Some(Box::new(Lif::default()));
    assert!(error(&net, &[]).contains("0 input populations"));
    net = good(&mut draw);
    assert!(error(&net, &[Probe { population: Pop(1), what: What::Bins(9) }]).contains("bins"));
    assert!(error(&net, &[counts(0)]).contains("`in` is an input"));
    let pool = What::Pool(Pool::Grid { cells: 2 });
    assert!(error(&net, &[Probe { population: Pop(1), what: pool }]).contains("`a` has no height"));
    net.populations[1].model = Some(Box::new(Lif { decay: 2.0, ..Lif::default() }));
    assert!(error(&net, &[]).contains("decay"));

    let net = good(&mut draw);
    let engine = Presentation::compile(&net, &encoding, &[]).unwrap();
    let run = |input: Input, ids: &[u64]| {
        engine.run(input, ids, &engine.stream("train", 0), &mut Recording::default()).unwrap_err().to_string()
    };
    assert!(run(Input::U8(&[0; 7]), &[0, 1]).contains("length of the input of `in` is 7; it must be 8"));
    assert!(run(Input::F32(&[0.0, f32::NAN, 0.0, 0.0]), &[0]).contains("input 1 of `in` is NaN"));
    let short = Events::new(4, [vec![0]]).unwrap();
    assert!(run(Input::Events(&[short]), &[0]).contains("4 neurons over 1 steps"));
    assert!(Presentation::compile(&net, &Encoding::Constant { steps: 70_000 }, &[]).is_err());
}

#[test]
fn the_plan_adds_up() {
    let mut draw = Draw::new(9);
    let (weights, shape) = draw.conv([1, 8, 8], 4, false, 63);
    let taps = match &weights {
        Weights::Conv2d { geometry, .. } => geometry.kernel * geometry.kernel,
        _ => 0,
    };
    let neurons: usize = shape.iter().product();
    let net = network(
        vec![
            population("in", &[1, 8, 8], None),
            lif("conv", &shape, Lif::default()),
            lif("out", &[10], Lif::default()),
        ],
        vec![projection("k", 0, 1, weights), projection("w", 1, 2, draw.dense(neurons, 10, false))],
    );
    let plan = Presentation::compile(&net, &Encoding::Constant { steps: 6 }, &[counts(1), all(2)[1]])
        .unwrap()
        .plan();
    assert_eq!(plan.analogue_operations as usize, neurons * taps);
    assert_eq!(plan.most_synaptic_operations as usize, neurons * 10 * 6);
    assert_eq!(plan.neuron_updates as usize, (neurons + 10) * 6);
    assert_eq!(plan.feature_bytes, neurons + 4 * 10);
    assert_eq!(plan.projections[1].1 as usize, neurons * 10);
    assert_eq!(plan.table_bytes, plan.projections.iter().map(|p| p.2).sum::<usize>());
}
