//! Frozen feed-forward networks on a GPU: the recording and the activity of the CPU engine.

use ransnn::engine::cuda::Features;
use ransnn::engine::{Activity, Input, Pool, Presentation, Probe, Recording, What};
use ransnn::rng::Stream;
use ransnn::snn::neurons::lif::{Fires, Lif, Reset, ResetActs};
use ransnn::snn::{Encoding, Init, Network, Pop, Rule};
use ransnn::tensor::cuda::Gpu;
use ransnn::units::Ms;

const IMAGE: [usize; 3] = [2, 15, 19];

/// Three convolutions, as `mnist.toml` has: 9 channels begin a second group of 8, 15 × 19 positions a second block.
fn convolutions(lif: Lif, seed: u64) -> Network {
    let mut builder = Network::builder(Ms(1.0));
    let image = builder.input("image", IMAGE);
    let weights = || Init::Normal { mean: 0.0, std: 0.25 };
    let strided = builder.population("strided", [9, 8, 10], lif);
    let rule = Rule::Conv2d { kernel: 3, stride: 2, padding: 1, pool: 1, max_pool: 1 };
    let bias = Init::Uniform { low: -0.1, high: 0.2 };
    builder.connect(image, strided, rule).weights(weights()).frozen().bias(bias);
    let padded = builder.population("padded", [3, 15, 19], lif);
    let rule = Rule::Conv2d { kernel: 5, stride: 1, padding: 2, pool: 1, max_pool: 1 };
    builder.connect(image, padded, rule).weights(weights()).frozen();
    let pooled = builder.population("pooled", [4, 5, 7], lif);
    let rule = Rule::Conv2d { kernel: 3, stride: 1, padding: 0, pool: 2, max_pool: 1 };
    builder.connect(image, pooled, rule).weights(weights()).frozen();
    builder.build(seed).unwrap()
}

/// All to all onto an image, and some synapses onto plain neurons.
fn dense_and_sparse(lif: Lif, seed: u64) -> Network {
    let mut builder = Network::builder(Ms(1.0));
    let image = builder.input("image", IMAGE);
    let weights = || Init::Normal { mean: 0.0, std: 0.1 };
    let dense = builder.population("dense", [3, 9, 10], lif);
    builder.connect(image, dense, Rule::Dense).weights(weights()).frozen();
    let sparse = builder.population("sparse", 300, lif);
    builder.connect(image, sparse, Rule::FixedProbability { p: 0.2 }).weights(weights()).frozen();
    builder.build(seed).unwrap()
}

/// Every way to count spikes: `first` is an image.
fn probes(first: Pop, second: Pop) -> Vec<Probe> {
    let pools = [
        Pool::Grid { cells: 3 },
        Pool::Overlapping { cells: 4, percent: 130 },
        Pool::Windows { side: 4, stride: 3, offset: (-2, 1) },
    ];
    let mut all: Vec<What> = pools.into_iter().map(What::Pool).collect();
    all.push(What::Counts);
    let mut probes: Vec<_> = all.into_iter().map(|what| Probe { population: first, what }).collect();
    probes.push(Probe { population: second, what: What::Counts });
    probes
}

fn lifs() -> [Lif; 3] {
    [
        Lif::default(),
        Lif { acts: ResetActs::BeforeNextStep, fires: Fires::Above, ..Lif::default() },
        Lif { reset: Reset::To(-0.25), rest: 0.125, refractory_steps: 2, ..Lif::default() },
    ]
}

/// Compares networks, encodings, numbers of steps and of samples; returns the spikes of each comparison.
pub fn compare_all(gpu: &Gpu) -> Vec<u64> {
    let mut spikes = Vec::new();
    for (i, lif) in lifs().into_iter().enumerate() {
        for steps in [1, 2, 20, 260] {
            let net = convolutions(lif, i as u64);
            let mut probes = probes(net.population("padded").unwrap(), net.population("strided").unwrap());
            probes.push(Probe { population: net.population("pooled").unwrap(), what: What::Counts });
            spikes.push(compare(gpu, &net, &Encoding::Constant { steps }, &probes, 3));
        }
        let net = dense_and_sparse(lif, i as u64);
        let probes = probes(net.population("dense").unwrap(), net.population("sparse").unwrap());
        for encoding in [Encoding::Constant { steps: 12 }, Encoding::Bernoulli { steps: 12, gain: 0.5 }] {
            for samples in [0, 1, 9] {
                spikes.push(compare(gpu, &net, &encoding, &probes, samples));
            }
        }
    }
    spikes
}

fn compare(gpu: &Gpu, net: &Network, encoding: &Encoding, probes: &[Probe], samples: usize) -> u64 {
    let draw = Stream::named(5, "test/pixels");
    let pixel = |i: usize| draw.block([i as u32, 0, 0, 0])[0] as u8;
    // Every third one is dark.
    let pixels: Vec<u8> = (0..samples * IMAGE.iter().product::<usize>())
        .map(|i| if i % 3 == 0 { 0 } else { pixel(i) })
        .collect();
    let ids: Vec<u64> = (0..samples as u64).map(|s| s * 0x1_0000_0003 + 5).collect();

    let engine = Presentation::compile(net, encoding, probes).unwrap();
    let stream = engine.stream("train", 0);
    let mut expected = Recording::default();
    let activity = engine.run(Input::U8(&pixels), &ids, &stream, &mut expected).unwrap();

    let features = Features::new(gpu, &engine).unwrap();
    // Two batches on the way at once, and memory that is used again.
    let mut recording = Recording::default();
    let first = features.start(Input::U8(&pixels), &ids, &stream).unwrap();
    let second = features.start(Input::U8(&pixels), &ids, &stream).unwrap();
    for started in [first, second] {
        let found: Activity = features.collect(&started, &mut recording).unwrap();
        assert_eq!(found, activity, "{encoding:?}");
        for ((found, wanted), probe) in recording.tables.iter().zip(&expected.tables).zip(probes) {
            assert!(found == wanted, "{probe:?} of {samples} samples, {encoding:?}, {:?}", net.populations);
        }
        assert_eq!(recording.widths, expected.widths);
    }
    activity.spikes.iter().sum()
}

/// What has no kernel is refused by name.
pub fn refusals(gpu: &Gpu) {
    let constant = Encoding::Constant { steps: 3 };
    let refused = |net: &Network, encoding: &Encoding, what: What, why: &str| {
        let probes = [Probe { population: Pop(1), what }];
        let engine = Presentation::compile(net, encoding, &probes).unwrap();
        let error = Features::new(gpu, &engine).unwrap_err().to_string();
        assert!(error.contains("cannot run on a GPU") && error.contains(why), "{why}: {error}");
    };
    let net = convolutions(Lif::default(), 0);
    refused(&net, &constant, What::Membrane, "but spike counts recorded of `strided`");
    refused(&net, &constant, What::Bins(3), "but spike counts");
    refused(&net, &Encoding::Bernoulli { steps: 3, gain: 0.5 }, What::Counts, "convolution of spikes");

    let mut builder = Network::builder(Ms(1.0));
    let pixels = builder.input("pixels", 4);
    let [first, second] = ["first", "second"].map(|name| builder.population(name, 4, Lif::default()));
    for (pre, post) in [(pixels, first), (pixels, second), (first, second)] {
        builder.connect(pre, post, Rule::Dense).frozen();
    }
    refused(&builder.build(0).unwrap(), &constant, What::Counts, "not exactly one projection onto `second`");

    let mut builder = Network::builder(Ms(1.0));
    let pixels = builder.input("pixels", [1, 4, 4]);
    let pooled = builder.population("pooled", [2, 1, 1], Lif::default());
    let largest = Rule::Conv2d { kernel: 3, stride: 1, padding: 0, pool: 1, max_pool: 2 };
    builder.connect(pixels, pooled, largest).frozen();
    let why = "`pixels->pooled` takes the largest current of each window";
    refused(&builder.build(0).unwrap(), &constant, What::Counts, why);

    let engine =
        Presentation::compile(&net, &constant, &[Probe { population: Pop(1), what: What::Counts }]).unwrap();
    let features = Features::new(gpu, &engine).unwrap();
    let floats = vec![0.5; IMAGE.iter().product()];
    let stream = engine.stream("train", 0);
    let error = features.start(Input::F32(&floats), &[0], &stream).unwrap_err().to_string();
    assert!(error.contains("not 8-bit"), "{error}");
    let error = features.start(Input::U8(&[1, 2, 3]), &[0], &stream).unwrap_err().to_string();
    assert!(error.contains("[samples, sources]"), "{error}");
}
