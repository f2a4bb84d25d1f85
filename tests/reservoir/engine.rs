//! The reservoir pass on a GPU against the CPU engine: one network, one encoding, the same counts.

use ransnn::engine::cuda::Reservoir;
use ransnn::engine::{Input, Presentation, Probe, Recording, Table, What};
use ransnn::rng::Stream;
use ransnn::snn::neurons::lif::{Fires, Lif, Reset, ResetActs};
use ransnn::snn::{Encoding, Init, Network, Rule};
use ransnn::tensor::cuda::Gpu;
use ransnn::units::Ms;

const SOURCES: usize = 300;
const SAMPLES: usize = 11;

/// Dialects that differ in when and how a spike resets; ours, snnTorch's two, SpikingJelly's, and one with everything.
fn dialects() -> [Lif; 7] {
    let before = Lif { acts: ResetActs::BeforeNextStep, fires: Fires::Above, ..Lif::default() };
    [
        Lif::default(),
        Lif::snntorch(0.9),
        Lif::snntorch_zero(0.9),
        before,
        Lif { reset: Reset::To(-0.25), rest: 0.125, gain: 1.5, threshold: 0.75, ..before },
        Lif { reset: Reset::None, rest: -0.125, ..Lif::default() },
        Lif { refractory_steps: 2, ..Lif::default() },
    ]
}

/// Every dialect by encoder, connectivity, and with or without gain and bias.
fn networks() -> Vec<(Network, Encoding)> {
    let mut all = Vec::new();
    for lif in dialects() {
        for encoding in [Encoding::Constant { steps: 25 }, Encoding::Bernoulli { steps: 25, gain: 0.25 }] {
            for sparse in [false, true] {
                // 257 begins a second tile; 64 and 40 are a whole and a part of one.
                let targets = [257, 64, 40][all.len() % 3];
                let adjusted = all.len() % 2 == 0 || sparse;
                all.push((network(lif, targets, sparse, adjusted, all.len() as u64), encoding));
            }
        }
    }
    all
}

fn network(lif: Lif, targets: usize, sparse: bool, adjusted: bool, seed: u64) -> Network {
    let mut builder = Network::builder(Ms(1.0));
    let pixels = builder.input("pixels", SOURCES);
    let hidden = builder.population("hidden", targets, lif);
    let (rule, std) = if sparse { (Rule::FixedProbability { p: 0.1 }, 0.2) } else { (Rule::Dense, 0.06) };
    let edge = builder.connect(pixels, hidden, rule).name("random").frozen();
    let edge = edge.weights(Init::Normal { mean: 0.0, std });
    if adjusted {
        edge.bias(Init::Uniform { low: -0.1, high: 0.2 });
    }
    let mut net = builder.build(seed).unwrap();
    if adjusted {
        let gain = (0..targets).map(|k| 0.7 + 0.1 * (k % 7) as f32).collect();
        net.set_gain("random", gain).unwrap();
    }
    net
}

/// Compares counts on every network; returns the spikes of each.
pub fn compare_all(gpu: &Gpu) -> Vec<u64> {
    networks().iter().map(|(net, encoding)| compare(gpu, net, encoding)).collect()
}

fn compare(gpu: &Gpu, net: &Network, encoding: &Encoding) -> u64 {
    let hidden = net.population("hidden").unwrap();
    let draw = Stream::named(5, "test/pixels");
    let pixel = |i: usize| draw.block([i as u32, 0, 0, 0])[0] as u8;
    // Every third one is dark.
    let pixels: Vec<u8> = (0..SAMPLES * SOURCES).map(|i| if i % 3 == 0 { 0 } else { pixel(i) }).collect();
    let ids: Vec<u64> = (0..SAMPLES as u64).map(|s| s * 0x1_0000_0003 + 5).collect();

    let probes = [Probe { population: hidden, what: What::Counts }];
    let engine = Presentation::compile(net, encoding, &probes).unwrap();
    let stream = engine.stream("train", 0);
    let mut recording = Recording::default();
    let activity = engine.run(Input::U8(&pixels), &ids, &stream, &mut recording).unwrap();
    let expected: Vec<u16> = match &recording.tables[..] {
        [Table::U8(counts)] => counts.iter().map(|&count| count.into()).collect(),
        [Table::U16(counts)] => counts.clone(),
        other => panic!("{other:?}"),
    };

    let reservoir = Reservoir::of_network(gpu, net, encoding).unwrap();
    let counts = reservoir.counts(&pixels, &ids, &stream).unwrap();
    assert_eq!(counts.len(), expected.len());
    if let Some(i) = (0..counts.len()).find(|&i| counts[i] != expected[i]) {
        let (sample, neuron) = (i / (counts.len() / SAMPLES), i % (counts.len() / SAMPLES));
        let (got, wanted, model) = (counts[i], expected[i], &net.populations[hidden.0].model);
        panic!("sample {sample}, neuron {neuron}: {got} spikes instead of {wanted}; {encoding:?}, {model:?}");
    }
    let spikes = counts.iter().map(|&count| u64::from(count)).sum();
    assert_eq!(spikes, activity.spikes[hidden.0]);
    spikes
}

/// What the kernel lacks is an error that says why.
pub fn refusals(gpu: &Gpu) {
    let constant = Encoding::Constant { steps: 3 };
    let refused = |net: Network, encoding: Encoding, why: &str| {
        let error = Reservoir::of_network(gpu, &net, &encoding).unwrap_err().to_string();
        assert!(error.contains("cannot run on a GPU") && error.contains(why), "{why}: {error}");
    };
    let plain = || network(Lif::default(), 40, false, false, 0);
    assert!(Reservoir::of_network(gpu, &plain(), &constant).is_ok());
    refused(plain(), Encoding::Latency { steps: 3 }, "latency");

    let mut builder = Network::builder(Ms(1.0));
    let pixels = builder.input("pixels", 4);
    let [first, second] = ["first", "second"].map(|name| builder.population(name, 4, Lif::default()));
    builder.connect(pixels, first, Rule::Dense).frozen();
    builder.connect(first, second, Rule::Dense).frozen();
    refused(builder.build(0).unwrap(), constant, "3 populations and 2 projections");

    let mut builder = Network::builder(Ms(1.0));
    let pixels = builder.input("pixels", 4);
    let hidden = builder.population("hidden", 4, Lif::default());
    builder.connect(pixels, hidden, Rule::Dense);
    refused(builder.build(0).unwrap(), constant, "f32 weights");

    let mut delayed = plain();
    delayed.projections[0].delay = Some(Ms(1.0));
    refused(delayed, constant, "delay");
}
