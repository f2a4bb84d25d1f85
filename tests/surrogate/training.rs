//! Whole networks in training: agreement with the engine, resuming, refusals.

use ransnn::engine::{Input, Presentation, Probe, Recording, Table, What};
use ransnn::learn::surrogate::{
    Data, Encoded, Gradient, Loss, Method, Model, Options, RatePenalty, Trainer, classify,
    silent_or_saturated,
};
use ransnn::snn::builder::Precision;
use ransnn::snn::neurons::{Lif, Reset};
use ransnn::snn::{Encoding, Init, Network, Pop, Rule};
use ransnn::tensor::{Surrogate, Tensor, grad, recorded};
use ransnn::units::Ms;

const INPUTS: usize = 30;
const CLASSES: usize = 4;

/// Class `c` lights the inputs with `i % 4 = c`.
fn data(samples: usize) -> (Vec<u8>, Vec<u16>) {
    let labels: Vec<u16> = (0..samples).map(|i| (i * 7 % 13 % CLASSES) as u16).collect();
    let bright = |i: usize, label: u16| if i % CLASSES == usize::from(label) { 200 } else { 40 };
    (labels.iter().flat_map(|&l| (0..INPUTS).map(move |i| bright(i, l))).collect(), labels)
}

/// 30 - 70 - 4, with a frozen first projection if wanted.
fn network(frozen: bool, out: Lif) -> Network {
    let mut net = Network::builder(Ms(1.0));
    let pixels = net.input("pixels", INPUTS);
    let hidden = net.population("hidden", 70, Lif { decay: 0.9, ..Lif::default() });
    let output = net.population("out", CLASSES, out);
    let first = net
        .connect(pixels, hidden, Rule::Dense)
        .name("first")
        .weights(Init::Normal { mean: 0.02, std: 0.25 });
    if frozen {
        first.frozen().precision(Precision::Int8);
    } else {
        first.bias(Init::Constant(0.01)).precision(Precision::F32);
    }
    net.connect(hidden, output, Rule::Dense)
        .name("second")
        .weights(Init::Normal { mean: 0.03, std: 0.2 })
        .bias(Init::Constant(0.0))
        .precision(Precision::F32);
    net.build(3).unwrap()
}

const OUT: Pop = Pop(2);
const BERNOULLI: Encoding = Encoding::Bernoulli { steps: 12, gain: 0.8 };

fn options() -> Options {
    Options { lr: 5e-3, batch: 20, epochs: 6, ..Options::new() }
}

fn integrator() -> Lif {
    Lif { decay: 0.95, reset: Reset::None, ..Lif::default() }
}

#[test]
fn training_and_engine_see_the_same_spikes() {
    let (samples, labels) = data(40);
    let ids: Vec<u64> = (0..40).collect();
    for (frozen, encoding) in
        [(false, BERNOULLI), (true, BERNOULLI), (false, Encoding::Latency { steps: 12 })]
    {
        let net = network(frozen, Lif::default());
        let data = Data { samples: Input::U8(&samples), labels: &labels };
        let trainer = Trainer::new(net, encoding, OUT, data, options()).unwrap();
        let net = network(frozen, Lif::default());
        let engine = Presentation::compile(
            &net,
            &encoding,
            &[Pop(1), OUT].map(|population| Probe { population, what: What::Counts }),
        )
        .unwrap();
        let stream = engine.stream("train", 0);
        let mut recording = Recording::default();
        engine.run(data.samples, &ids, &stream, &mut recording).unwrap();
        let pass = trainer.model().forward(&trainer.encode(&ids, &stream).unwrap(), None).unwrap();
        let ours: Vec<u8> =
            pass.outputs.sum(&[0]).unwrap().to_f32().unwrap().iter().map(|&c| c as u8).collect();
        let Table::U8(theirs) = &recording.tables[1] else { panic!("counts are bytes") };
        assert!(ours.iter().any(|&c| c > 0), "the output fires");
        assert_eq!(&ours, theirs, "frozen {frozen}, {encoding:?}");
        if !frozen {
            let hidden = pass.hidden[0].spikes.sum(&[0]).unwrap().to_f32().unwrap();
            let Table::U8(theirs) = &recording.tables[0] else { panic!("counts are bytes") };
            assert!(hidden.iter().zip(theirs).all(|(&a, &b)| a as u8 == b));
        }
    }
}

#[test]
fn every_kind_of_network_learns() {
    let (samples, labels) = data(200);
    let cases = [
        (false, Lif::default(), BERNOULLI, Loss::CeCount),
        (true, integrator(), BERNOULLI, Loss::CeMembraneLast),
        (false, integrator(), Encoding::Constant { steps: 8 }, Loss::CeMembraneLast),
        (
            false,
            Lif::default(),
            Encoding::Latency { steps: 8 },
            Loss::MseCount { correct: 0.8, incorrect: 0.1 },
        ),
    ];
    for (frozen, out, encoding, loss) in cases {
        let data = Data { samples: Input::U8(&samples), labels: &labels };
        let options = Options { loss, clip: 1.0, ..options() };
        let mut trainer = Trainer::new(network(frozen, out), encoding, OUT, data, options).unwrap();
        let first = trainer.step().unwrap().unwrap().loss;
        let mut last = first;
        while let Some(step) = trainer.step().unwrap() {
            last = step.loss;
        }
        assert!(last < 0.7 * first, "{encoding:?} {loss:?}: {first} to {last}");
        let net = trainer.finish().unwrap();
        let what = if loss.reads_membrane() { What::Membrane } else { What::Counts };
        let (classes, activity) =
            classify(&net, &encoding, Probe { population: OUT, what }, data.samples, 200, "train").unwrap();
        let right = classes.iter().zip(&labels).filter(|(a, b)| a == b).count();
        assert!(right > 150, "{encoding:?} {loss:?}: {right} of 200");
        assert!(activity.spikes[1] > 0);
        assert_eq!(silent_or_saturated(&net, &activity, encoding.steps(), &[]), Vec::<String>::new());
        if frozen {
            assert_eq!(net.projections[0].weights, network(frozen, out).projections[0].weights);
        }
    }
}

#[test]
fn a_resumed_training_is_the_same() {
    let (samples, labels) = data(100);
    let data = Data { samples: Input::U8(&samples), labels: &labels };
    let options = Options { held_out: 20, dropout: 0.2, cosine: true, ..options() };
    let new = || Trainer::new(network(false, Lif::default()), BERNOULLI, OUT, data, options).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let mut whole = new();
    for _ in 0..whole.total() {
        whole.step().unwrap().unwrap();
        if whole.iteration() == 6 {
            whole.save(&path).unwrap();
        }
    }
    let mut resumed = new();
    resumed.restore(&path).unwrap();
    assert_eq!(resumed.iteration(), 6);
    while resumed.step().unwrap().is_some() {}
    assert_eq!(resumed.curve(), whole.curve());
    assert_eq!(resumed.judged(), whole.judged());
    assert_eq!(whole.judged().len(), 6);
    assert_eq!(resumed.finish().unwrap().tensors(), whole.finish().unwrap().tensors());
    // One bit flipped in the values, or cut off.
    let bytes = std::fs::read(&path).unwrap();
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    let error = new().restore(&path).unwrap_err().to_string();
    assert!(error.contains("does not have the SHA-256 that it states"), "{error}");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(new().restore(&path).is_err());
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let (samples, mut labels) = data(40);
    let all = |net, labels: &[u16], options| {
        let data = Data { samples: Input::U8(&samples), labels };
        Trainer::new(net, BERNOULLI, OUT, data, options).map(drop).unwrap_err().to_string()
    };
    let mut frozen = network(true, Lif::default());
    frozen.projections[1].frozen = true;
    assert!(all(frozen, &labels, options()).contains("no projection is trained"));
    let mut int8 = network(true, Lif::default());
    int8.projections[0].frozen = false;
    assert!(all(int8, &labels, options()).contains("`first`"));
    assert!(
        all(network(false, Lif::default()), &labels, Options { batch: 41, ..options() })
            .contains("mini-batch")
    );
    labels[5] = 4;
    assert!(all(network(false, Lif::default()), &labels, options()).contains("label of training sample 5"));
}

#[test]
fn an_exploding_loss_stops_and_names_the_checkpoint() {
    let (samples, labels) = data(40);
    let data = Data { samples: Input::U8(&samples), labels: &labels };
    let options =
        Options { lr: 3e38, loss: Loss::CeMembraneLast, method: Method::Sgd { momentum: 0.9 }, ..options() };
    let mut trainer = Trainer::new(network(false, integrator()), BERNOULLI, OUT, data, options).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("good.safetensors");
    trainer.save(&path).unwrap();
    let error = loop {
        match trainer.step() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it did not explode"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("smaller learning rate") && error.contains("good.safetensors"), "{error}");
}

/// Frozen layers that end in one population are run by the engine; where they end in two, training runs them.
#[test]
fn behind_one_or_two_frozen_layers_training_counts_what_the_engine_counts() {
    let (samples, labels) = data(40);
    for hidden in [1, 2] {
        let mut net = Network::builder(Ms(1.0));
        let pixels = net.input("pixels", INPUTS);
        let layers: Vec<Pop> = (0..hidden)
            .map(|i| {
                let layer = net.population(format!("hidden{i}").as_str(), 50, Lif::default());
                let init = Init::Normal { mean: 0.02, std: 0.25 };
                net.connect(pixels, layer, Rule::Dense).name(format!("first{i}")).weights(init).frozen();
                layer
            })
            .collect();
        let output = net.population("out", CLASSES, Lif::default());
        for (i, &layer) in layers.iter().enumerate() {
            let init = Init::Normal { mean: 0.03, std: 0.2 };
            net.connect(layer, output, Rule::Dense)
                .name(format!("second{i}"))
                .weights(init)
                .precision(Precision::F32);
        }
        let net = net.build(3).unwrap();
        let data = Data { samples: Input::U8(&samples), labels: &labels };
        let mut trainer = Trainer::new(net, BERNOULLI, output, data, options()).unwrap();
        assert_eq!(trainer.model().source(), if hidden == 1 { layers[0] } else { pixels });
        while trainer.step().unwrap().is_some() {}
        let found = trainer.agreement(40).unwrap();
        assert_eq!((found.differ, found.of), (0, 40 * CLASSES));
    }
}

#[test]
fn silent_layers_are_named() {
    let mut net = network(false, Lif::default());
    net.set_gain("first", vec![1e-6]).unwrap();
    let (samples, labels) = data(40);
    let probe = Probe { population: OUT, what: What::Counts };
    let (_, activity) =
        classify(&net, &BERNOULLI, probe, Input::U8(&samples), labels.len(), "train").unwrap();
    let found = silent_or_saturated(&net, &activity, 12, &[]);
    assert!(found.len() == 1 && found[0].contains("`hidden` is silent"), "{found:?}");
}

#[test]
fn memory_is_what_was_planned() {
    let (samples, labels) = data(64);
    let data = Data { samples: Input::U8(&samples), labels: &labels };
    for frozen in [false, true] {
        let trainer = Trainer::new(network(frozen, Lif::default()), BERNOULLI, OUT, data, options()).unwrap();
        let ids: Vec<u64> = (0..64).collect();
        let input = trainer.encode(&ids, &ransnn::rng::Stream::named(1, "x")).unwrap();
        let targets = Tensor::from_u32(labels.iter().map(|&l| l.into()).collect(), &[64]).unwrap();
        let mut kept = 0;
        grad(trainer.model(), || {
            let pass = trainer.model().forward(&input, None)?;
            let loss = Loss::CeCount.of(&pass.outputs, &targets)?;
            kept = recorded().unwrap().bytes;
            Ok(loss)
        })
        .unwrap();
        let planned = trainer.model().activation_bytes(12, 64, false);
        assert!((kept as f64 / planned as f64 - 1.0).abs() < 0.1, "{kept} kept, {planned} planned");
    }
}

#[test]
fn a_mini_batch_in_pieces_has_the_same_gradients_in_less_memory() {
    let (samples, labels) = data(70);
    let data = Data { samples: Input::U8(&samples), labels: &labels };
    let all: Vec<u32> = labels.iter().map(|&label| label.into()).collect();
    for encoding in [BERNOULLI, Encoding::Constant { steps: 12 }] {
        let train = |micro_batch: usize| {
            let options =
                Options { batch: 70, micro_batch, method: Method::Sgd { momentum: 0.0 }, ..options() };
            let mut trainer =
                Trainer::new(network(false, Lif::default()), encoding, OUT, data, options).unwrap();
            let ids: Vec<u64> = (0..70).collect();
            let input = trainer.encode(&ids, &ransnn::rng::Stream::named(1, "x")).unwrap();
            let before = trainer.model().parameters.clone();
            let told = trainer.update(&input, &all).unwrap();
            let after = trainer.model().parameters.clone();
            let moved: Vec<f32> = before
                .iter()
                .flat_map(|(name, old)| after[name].sub(old).unwrap().to_f32().unwrap())
                .collect();
            (told, moved, trainer.batch_bytes())
        };
        let ((loss, right), whole, bytes) = train(0);
        assert!(whole.iter().any(|x| x.abs() > 1e-4));
        // The last piece is a smaller one.
        for micro_batch in [16, 1] {
            let (told, pieces, less) = train(micro_batch);
            assert!(
                (told.0 - loss).abs() < 1e-6 && (told.1 - right).abs() < 1e-12,
                "{told:?} {loss} {right}"
            );
            let largest = whole.iter().fold(0f32, |most, x| most.max(x.abs()));
            assert!(whole.iter().zip(&pieces).all(|(a, b)| (a - b).abs() < 1e-5 * largest));
            assert!(less * 4 < bytes, "{less} of {bytes}");
        }
    }
    let (net, options) = convolution(true, true);
    let error = Trainer::new(net, BERNOULLI, OUT, data, Options { batch: 70, micro_batch: 8, ..options });
    assert!(error.err().unwrap().to_string().contains("normalisation over the mini-batch"));
}

#[test]
fn leaks_thresholds_and_rates_learn() {
    let (samples, labels) = data(100);
    let data = Data { samples: Input::U8(&samples), labels: &labels };
    let gradient = Gradient {
        detach: false,
        decay: true,
        threshold: true,
        ..Gradient::of(Surrogate::FastSigmoid { slope: 10.0 })
    };
    let penalty = RatePenalty { upper: 50.0, most: 0.01, ..RatePenalty::default() };
    let options = Options { gradient, penalty, ..options() };
    let mut trainer = Trainer::new(network(false, Lif::default()), BERNOULLI, OUT, data, options).unwrap();
    let rate = |net: &Network| {
        let probe = Probe { population: OUT, what: What::Counts };
        classify(net, &BERNOULLI, probe, data.samples, 100, "train").unwrap().1.spikes[1]
    };
    let before = rate(&network(false, Lif::default()));
    while trainer.step().unwrap().is_some() {}
    let net = trainer.finish().unwrap();
    let lif = net.populations[1].model.as_ref().unwrap().as_any().downcast_ref::<Lif>().unwrap();
    assert!(lif.decay != 0.9 && (0.0..=1.0).contains(&lif.decay) && lif.threshold != 1.0, "{lif:?}");
    assert!(rate(&net) < before, "the penalty lowers {before} spikes");
}

#[test]
fn time_constants_learn_with_potentials_in_16_bits() {
    let (samples, labels) = data(100);
    let data = Data { samples: Input::U8(&samples), labels: &labels };
    let learning = Gradient { time_constant: true, half: true, ..options().gradient };
    let loss = Loss::Tet { lambda: 0.05, target: 1.0 };
    let options = Options { gradient: learning, loss, ..options() };
    let out = Lif { decay: 0.6, gain: 0.4, reset: Reset::None, ..Lif::default() };
    let mut trainer = Trainer::new(network(false, out), BERNOULLI, OUT, data, options).unwrap();
    let first = trainer.step().unwrap().unwrap().loss;
    let mut last = first;
    while let Some(step) = trainer.step().unwrap() {
        last = step.loss;
    }
    assert!(last < 0.7 * first, "{first} to {last}");
    let agreement = trainer.agreement(100).unwrap();
    assert!(agreement.of > 0 && agreement.differ == 0, "{agreement:?}");
    let net = trainer.finish().unwrap();
    let lif = |i: usize| *net.populations[i].model.as_ref().unwrap().as_any().downcast_ref::<Lif>().unwrap();
    // The gain of the first is 1 and stays; that of the second is 1/τ and goes along.
    assert!(lif(1).decay != 0.9 && lif(1).gain == 1.0, "{:?}", lif(1));
    let [of_hidden, of_output] = [lif(1), lif(2)];
    assert!(of_output.decay != 0.6 && (of_output.decay + of_output.gain - 1.0).abs() < 1e-6, "{of_output:?}");
    assert!((0.0..1.0).contains(&of_hidden.decay) && (0.0..1.0).contains(&of_output.decay));

    let model = |net: &Network, gradient: Gradient| Model::new(net, OUT, true, gradient);
    let refused = |net: &Network, gradient| model(net, gradient).err().unwrap().to_string();
    assert!(refused(&net, Gradient { decay: true, ..learning }).contains("learns as its leak"));
    // A population without a leak has no time constant.
    let forever = Lif { decay: 1.0, ..Lif::default() };
    let rates = |net: &Network| {
        let learned = model(net, learning).unwrap();
        learned.parameters.into_keys().filter(|path| path.ends_with(".rate")).collect::<Vec<_>>()
    };
    assert_eq!(rates(&network(false, forever)), ["population.hidden.rate"]);
    assert!(refused(&network(true, forever), learning).contains("no population that is trained has one"));
}

#[test]
fn recurrent_networks_have_gradients() {
    let mut net = Network::builder(Ms(1.0));
    let pixels = net.input("pixels", INPUTS);
    let hidden = net.population("hidden", 20, Lif::default());
    let out = net.population("out", CLASSES, Lif::default());
    let f32s = Precision::F32;
    net.connect(pixels, hidden, Rule::Dense).weights(Init::Normal { mean: 0.05, std: 0.2 }).precision(f32s);
    net.connect(hidden, hidden, Rule::Dense).name("recurrent").delay(Ms(1.0)).precision(f32s);
    net.connect(hidden, out, Rule::Dense).precision(f32s);
    let net = net.build(1).unwrap();
    let gradient = options().gradient;
    let model = Model::new(&net, Pop(2), false, gradient).unwrap();
    let x = Tensor::full(&[2, INPUTS], 0.3, ransnn::tensor::DType::F32).unwrap();
    let (_, grads) =
        grad(&model, || model.forward(&Encoded::Constant(x.clone(), 6), None)?.outputs.sum_all()).unwrap();
    let recurrent = grads.get("projection.recurrent.weights").unwrap().to_f32().unwrap();
    assert!(recurrent.iter().any(|&g| g != 0.0));
}

/// 1 × 6 × 5 pixels - 3 maps of 4 × 3 - 4, normalised if wanted.
fn convolution(normalize: bool, biased: bool) -> (Network, Options) {
    let out = (Rule::Dense, vec![CLASSES]);
    images(
        Rule::Conv2d { kernel: 3, stride: 1, padding: 0, pool: 1, max_pool: 1 },
        [3, 4, 3],
        out,
        normalize,
        biased,
    )
}

/// 1 × 6 × 5 pixels - 3 maps of 4 × 4, averaged to 2 × 2 - 4.
fn pooling(normalize: bool) -> (Network, Options) {
    let out = (Rule::Conv2d { kernel: 2, stride: 1, padding: 0, pool: 2, max_pool: 1 }, vec![CLASSES, 1, 1]);
    images(
        Rule::Conv2d { kernel: 3, stride: 2, padding: 2, pool: 1, max_pool: 1 },
        [3, 4, 4],
        out,
        normalize,
        true,
    )
}

/// 1 × 6 × 5 pixels - 3 maps of 3 × 3, each the largest of 2 × 2 - 4, each the largest of 3 × 3.
fn largest(normalize: bool) -> (Network, Options) {
    let out = (Rule::Conv2d { kernel: 2, stride: 1, padding: 1, pool: 1, max_pool: 3 }, vec![CLASSES, 1, 1]);
    let kernel = Rule::Conv2d { kernel: 2, stride: 1, padding: 1, pool: 1, max_pool: 2 };
    images(kernel, [3, 3, 3], out, normalize, true)
}

fn images(
    kernel: Rule,
    maps: [usize; 3],
    out: (Rule, Vec<usize>),
    normalize: bool,
    biased: bool,
) -> (Network, Options) {
    let mut net = Network::builder(Ms(1.0));
    let (rule, shape) = out;
    let pixels = net.input("pixels", [1, 6, 5]);
    let maps = net.population("maps", maps, Lif { decay: 0.9, ..Lif::default() });
    let out = net.population("out", shape, Lif { decay: 0.9, ..Lif::default() });
    let first =
        net.connect(pixels, maps, kernel).name("first").weights(Init::Normal { mean: 0.05, std: 0.3 });
    let first = if biased { first.bias(Init::Constant(0.05)) } else { first };
    first.precision(Precision::F32);
    net.connect(maps, out, rule)
        .name("second")
        .weights(Init::Normal { mean: 0.05, std: 0.3 })
        .precision(Precision::F32);
    let gradient = Gradient { normalize, ..options().gradient };
    (net.build(5).unwrap(), Options { gradient, lr: 2e-2, ..options() })
}

const NETWORKS: [fn() -> (Network, Options); 6] = [
    || convolution(false, true),
    || convolution(true, true),
    || pooling(false),
    || pooling(true),
    || largest(false),
    || largest(true),
];

#[test]
fn convolutions_learn_and_the_engine_sees_the_same_spikes() {
    let (samples, labels) = data(120);
    let data = Data { samples: Input::U8(&samples), labels: &labels };
    for network in NETWORKS {
        for encoding in [BERNOULLI, Encoding::Constant { steps: 12 }] {
            let (net, options) = network();
            let hidden = net.populations[1].size();
            let mut trainer = Trainer::new(net, encoding, OUT, data, options).unwrap();
            let mut losses = vec![];
            while let Some(step) = trainer.step().unwrap() {
                losses.push(step.loss);
            }
            assert!(losses.last().unwrap() < &(0.8 * losses[0]), "{losses:?}");
            let found = trainer.agreement(120).unwrap();
            assert_eq!(found.of, 120 * (hidden + CLASSES));
            // A constant input is summed in another order.
            let most = if encoding.is_constant() { 2 } else { 0 };
            assert!(found.differ <= most, "{found:?}");
        }
    }
}

#[test]
fn what_convolutions_and_normalisations_keep_was_planned() {
    let (samples, labels) = data(64);
    let data = Data { samples: Input::U8(&samples), labels: &labels };
    for network in NETWORKS {
        for encoding in [BERNOULLI, Encoding::Constant { steps: 12 }] {
            let (net, options) = network();
            let trainer = Trainer::new(net, encoding, OUT, data, options).unwrap();
            let ids: Vec<u64> = (0..64).collect();
            let input = trainer.encode(&ids, &ransnn::rng::Stream::named(1, "x")).unwrap();
            let targets = Tensor::from_u32(labels.iter().map(|&l| l.into()).collect(), &[64]).unwrap();
            let mut kept = 0;
            grad(trainer.model(), || {
                let pass = trainer.model().forward_in_training(&input, None)?;
                let loss = Loss::CeCount.of(&pass.outputs, &targets)?;
                kept = recorded().unwrap().bytes;
                Ok(loss)
            })
            .unwrap();
            let planned = trainer.model().activation_bytes(12, 64, encoding.is_constant());
            assert!((kept as f64 / planned as f64 - 1.0).abs() < 0.1, "{kept} kept, {planned} planned");
        }
    }
}

#[test]
fn a_normalised_projection_needs_a_bias() {
    let (net, options) = convolution(true, false);
    let error = Model::new(&net, OUT, false, options.gradient).unwrap_err().to_string();
    assert!(error.contains("`first` needs a `bias`"), "{error}");
}

#[test]
fn running_statistics_survive_an_interruption() {
    let (samples, labels) = data(60);
    let data = Data { samples: Input::U8(&samples), labels: &labels };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let start = || {
        let (net, options) = convolution(true, true);
        Trainer::new(net, BERNOULLI, OUT, data, Options { held_out: 20, ..options }).unwrap()
    };
    let mut whole = start();
    while whole.step().unwrap().is_some() {}
    let mut first = start();
    for _ in 0..5 {
        first.step().unwrap();
    }
    first.save(&path).unwrap();
    let mut second = start();
    second.restore(&path).unwrap();
    while second.step().unwrap().is_some() {}
    assert_eq!(whole.finish().unwrap().tensors(), second.finish().unwrap().tensors());
}
