//! Features of frozen random layers, one thread: samples per second.
//!
//! `reservoir/*` is the workload that other frameworks are measured on: 784 inputs whose rates are uniform in 0 to
//! 0.25, a frozen dense layer of 2000 LIF neurons (weights N(0, 1/784) as 8-bit numbers, β 0.95, threshold 1,
//! subtracting), T = 50, batch 128; `events` starts from spikes that were drawn before, `encode` draws them too.
//!
//! The floor: 784 · 0.125 · 2000 · 50 = 9.8 million synaptic events a sample. A tile of 64 targets takes one row of
//! 64 bytes an event: 2 loads, 2 shifts, 4 additions and the address, about 10 instructions, so a core that starts
//! six a cycle can do 38 events a cycle, and the two 32-byte loads a cycle from L1 allow 64. The table of a tile
//! (50 KB) streams from L2 to a part: 32 bytes a cycle allow 32 events a cycle for what misses L1.
//!
//! Measured on an AMD EPYC 7003 core (AVX2, about 3.1 GHz, other work on the machine), CPU seconds: 5900 samples/s
//! from given events and 5100 with encoding, 58 G synaptic events/s or 19 a cycle, half of the floor; the same work in
//! the fastest of the other frameworks: 258 samples/s.
//!
//! `conv/*` is the constant-current convolution of the best MNIST recipe: 28 × 28 pixels, kernels 7 and 11, 80
//! channels each, T = 4, counts summed over a 7 × 7 grid; 5.0 million multiply-accumulates a sample, of which a core
//! with two 32-byte multipliers can do 32 to 42 a cycle. Measured, all steps included: 7500 samples/s, 38 G a second or
//! 12 a cycle; patches of zeros are skipped.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand_distr::{Distribution, Normal};
use ransnn::{
    engine::{Events, Input, Pool, Presentation, Probe, Recording, Simd, What},
    rng::Stream,
    snn::{
        Conv2d, Encoding, Init, Network, Neuron, Pop, Population, Projection, Rule, Values, Weights, encode,
        neurons::Lif,
    },
    units::Ms,
};

const BATCH: usize = 128;

fn normal(name: &str, n: usize, std: f32, most: f32) -> Values {
    let mut walk = Stream::named(1, name).walk(0);
    let distribution = Normal::new(0.0f32, std).expect("a valid distribution");
    let weights: Vec<f32> = (0..n).map(|_| distribution.sample(&mut walk)).collect();
    let scale = weights.iter().fold(0.0f32, |max, w| max.max(w.abs())) / most;
    Values::Int8 { quanta: weights.iter().map(|w| (w / scale).round() as i8).collect(), scale: vec![scale] }
}

fn population(name: &str, shape: &[usize], lif: Option<Lif>) -> Population {
    Population {
        name: name.into(),
        shape: shape.to_vec(),
        model: lif.map(|lif| Box::new(lif) as Box<dyn Neuron>),
        stimulus: Default::default(),
    }
}

fn projection(name: &str, post: usize, weights: Weights) -> Projection {
    Projection {
        name: name.into(),
        pre: Pop(0),
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

fn reservoir(c: &mut Criterion) {
    let values = normal("reservoir", 784 * 2000, 784f32.powf(-0.5), 127.0);
    let net = Network {
        dt: Ms(1.0),
        seed: 1,
        populations: vec![
            population("pixels", &[784], None),
            population("hidden", &[2000], Some(Lif::default())),
        ],
        projections: vec![projection("random", 1, Weights::Dense { sources: 784, targets: 2000, values })],
    };
    let draw = Stream::named(2, "rates");
    let x: Vec<f32> =
        (0..BATCH as u32 * 784).map(|i| (draw.block([i, 0, 0, 0])[0] >> 8) as f32 / 16_777_216.0).collect();
    let encoding = Encoding::Bernoulli { steps: 50, gain: 0.25 };
    let probes = [Probe { population: Pop(1), what: What::Counts }];
    let ids: Vec<u64> = (0..BATCH as u64).collect();
    let mut group = c.benchmark_group("reservoir");
    group.throughput(Throughput::Elements(BATCH as u64));
    for simd in Simd::available() {
        let engine =
            Presentation::compile(&net, &encoding, &probes).expect("a valid network").with_simd(simd);
        let stream = engine.stream("train", 0);
        let fires = |sample: usize, step: u32, j: u32| {
            let threshold = encode::bernoulli_threshold(x[sample * 784 + j as usize], 0.25);
            encode::bernoulli(&stream, threshold, sample as u64, step, j)
        };
        let list = |sample| (0..50).map(move |step| (0..784).filter(|&j| fires(sample, step, j)).collect());
        let events: Vec<Events> =
            (0..BATCH).map(|s| Events::new(784, list(s)).expect("valid events")).collect();
        let mut recording = Recording::default();
        for (name, input) in [("events", Input::Events(&events)), ("encode", Input::F32(&x))] {
            group.bench_function(format!("{name}/{}", simd.name()), |b| {
                b.iter(|| engine.run(input, &ids, &stream, &mut recording).expect("a valid run"));
            });
        }
    }
    group.finish();
}

fn conv(c: &mut Criterion) {
    let mut populations = vec![population("pixels", &[1, 28, 28], None)];
    let (mut projections, mut probes) = (Vec::new(), Vec::new());
    for (i, kernel) in [7, 11].into_iter().enumerate() {
        let output = [80, 29 - kernel, 29 - kernel];
        populations.push(population(
            &format!("conv{kernel}"),
            &output,
            Some(Lif { decay: 0.9, ..Lif::default() }),
        ));
        let geometry =
            Conv2d { input: [1, 28, 28], output, kernel, stride: 1, padding: 0, pool: 1, max_pool: 1 };
        let values = normal(&format!("kernels {kernel}"), 80 * kernel * kernel, 1.8 / kernel as f32, 63.0);
        projections.push(projection(
            &format!("kernels{kernel}"),
            i + 1,
            Weights::Conv2d { geometry, values },
        ));
        probes.push(Probe { population: Pop(i + 1), what: What::Pool(Pool::Grid { cells: 7 }) });
    }
    let net = Network { dt: Ms(1.0), seed: 1, populations, projections };
    // A digit's statistics: 70 % of the pixels of a box of 18 × 12 are lit.
    let draw = Stream::named(3, "digits");
    let pixel = |i: u32| {
        let (place, words) = (i % 784, draw.block([i, 0, 0, 0]));
        let inside = (5..23).contains(&(place / 28)) && (8..20).contains(&(place % 28));
        if inside && words[0] % 10 < 7 { 90 + (words[1] % 166) as u8 } else { 0 }
    };
    let x: Vec<u8> = (0..BATCH as u32 * 784).map(pixel).collect();
    let ids: Vec<u64> = (0..BATCH as u64).collect();
    let mut group = c.benchmark_group("conv");
    group.throughput(Throughput::Elements(BATCH as u64));
    for simd in Simd::available() {
        let encoding = Encoding::Constant { steps: 4 };
        let engine =
            Presentation::compile(&net, &encoding, &probes).expect("a valid network").with_simd(simd);
        let (stream, mut recording) = (engine.stream("train", 0), Recording::default());
        group.bench_function(format!("7-11x80/{}", simd.name()), |b| {
            b.iter(|| engine.run(Input::U8(&x), &ids, &stream, &mut recording).expect("a valid run"));
        });
    }
    group.finish();
}

fn one_thread(c: &mut Criterion) {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("the first pool of this program");
    reservoir(c);
    conv(c);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = one_thread
}
criterion_main!(benches);
