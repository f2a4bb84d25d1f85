//! Networks trained by surrogate gradients on a GPU: the same losses and the same network as on the CPU.

use ransnn::Result;
use ransnn::engine::Input;
use ransnn::learn::surrogate::{Checkpoint, Credit, Data, Loss, Method, Options, RatePenalty, Trainer};
use ransnn::snn::builder::Precision;
use ransnn::snn::neurons::{Lif, Reset};
use ransnn::snn::{Encoding, Init, Network, Pop, Rule};
use ransnn::tensor::check::{Tolerance, close};
use ransnn::tensor::cuda::Gpu;
use ransnn::tensor::{Device, Tensor};
use ransnn::units::Ms;
use std::collections::BTreeMap;

const SIDE: usize = 6;
const CLASSES: usize = 4;
const SAMPLES: usize = 48;

/// Class `c` lights the pixels with `i % 4 = c`.
fn data() -> (Vec<u8>, Vec<u16>) {
    let labels: Vec<u16> = (0..SAMPLES).map(|i| (i * 7 % 13 % CLASSES) as u16).collect();
    let bright = |i: usize, label: u16| if i % CLASSES == usize::from(label) { 200 } else { 40 };
    (labels.iter().flat_map(|&l| (0..SIDE * SIDE).map(move |i| bright(i, l))).collect(), labels)
}

/// Pixels, a hidden population behind a dense projection or a convolution, classes.
fn network((convolution, frozen, out): (bool, bool, Lif)) -> Network {
    let mut net = Network::builder(Ms(1.0));
    let (shape, hidden): (Vec<usize>, Vec<usize>) =
        if convolution { (vec![1, SIDE, SIDE], vec![5, 2, 2]) } else { (vec![SIDE * SIDE], vec![70]) };
    let pixels = net.input("pixels", shape);
    let hidden = net.population("hidden", hidden, Lif { decay: 0.9, ..Lif::default() });
    let output = net.population("out", CLASSES, out);
    let rule = if convolution {
        Rule::Conv2d { kernel: 3, stride: 1, padding: 0, pool: 1, max_pool: 2 }
    } else {
        Rule::Dense
    };
    let first =
        net.connect(pixels, hidden, rule).name("first").weights(Init::Normal { mean: 0.05, std: 0.25 });
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

/// Pixels and classes that reach some of the hidden neurons only.
fn some_pairs() -> Network {
    let mut net = Network::builder(Ms(1.0));
    let pixels = net.input("pixels", SIDE * SIDE);
    let hidden = net.population("hidden", 70, Lif { decay: 0.9, ..Lif::default() });
    let output = net.population("out", CLASSES, Lif::default());
    let weights = Init::Normal { mean: 0.05, std: 0.3 };
    for (from, to, rule) in
        [(pixels, hidden, Rule::FixedInDegree { k: 9 }), (hidden, output, Rule::FixedProbability { p: 0.5 })]
    {
        net.connect(from, to, rule).weights(weights.clone()).precision(Precision::F32);
    }
    net.build(3).unwrap()
}

/// A hidden population that hears itself a step later, and with `behind` another one that answers two steps later.
fn loops(frozen: bool, behind: bool) -> Network {
    let mut net = Network::builder(Ms(1.0));
    let pixels = net.input("pixels", SIDE * SIDE);
    let lif = || Lif { decay: 0.9, ..Lif::default() };
    let hidden = net.population("hidden", 40, lif());
    let output = net.population("out", CLASSES, Lif::default());
    let weights = Init::Normal { mean: 0.02, std: 0.2 };
    let mut joins = vec![
        (pixels, hidden, None, false),
        (hidden, hidden, Some(1.0), frozen),
        (hidden, output, None, false),
    ];
    if behind {
        let other = net.population("other", 20, lif());
        joins.extend([(hidden, other, Some(1.0), false), (other, hidden, Some(2.0), false)]);
    }
    for (from, to, delay, frozen) in joins {
        let mut join = net.connect(from, to, Rule::Dense).weights(weights.clone());
        if let Some(delay) = delay {
            join = join.delay(Ms(delay));
        }
        if frozen {
            join.frozen().precision(Precision::Int8)
        } else {
            join.precision(Precision::F32)
        };
    }
    net.build(3).unwrap()
}

/// Trains on a device: losses, accuracies on what was held out, and the numbers in the end.
type Trained = (Vec<f64>, Vec<f64>, BTreeMap<String, Tensor>);

fn train(on: &Device, net: Network, encoding: Encoding, options: Options) -> Result<Trained> {
    let (samples, labels) = data();
    let data = Data { samples: Input::U8(&samples), labels: &labels };
    let mut trainer = Trainer::new(net, encoding, Pop(2), data, options)?;
    trainer.move_to(on)?;
    while trainer.step()?.is_some() {}
    let losses = trainer.curve().iter().map(|&(_, loss, _)| loss).collect();
    let judged = trainer.judged().iter().map(|&(_, accuracy)| accuracy).collect();
    let parameters = &trainer.model().parameters;
    let home = |(name, t): (&String, &Tensor)| Ok((name.clone(), t.to_device(&Device::Cpu)?));
    let numbers = parameters.iter().map(home).collect::<Result<_>>()?;
    Ok((losses, judged, numbers))
}

/// Dense and convolutional networks with every kind of input, loss and term.
pub fn surrogate(gpu: &Gpu) {
    let on = Device::Cuda(gpu.clone());
    let bernoulli = Encoding::Bernoulli { steps: 8, gain: 0.8 };
    let constant = Encoding::Constant { steps: 6 };
    let base = Options { lr: 5e-3, batch: 16, epochs: 3, held_out: 16, ..Options::new() };
    let integrator = Lif { decay: 0.95, reset: Reset::None, ..Lif::default() };
    let learning = ransnn::learn::surrogate::Gradient { decay: true, threshold: true, ..base.gradient };
    let normalized = ransnn::learn::surrogate::Gradient { normalize: true, ..base.gradient };
    let penalty = RatePenalty { sparsity: 1e-4, lower: 0.1, least: 0.3, upper: 0.1, most: 0.1 };
    let cases = [
        ("dense", (false, false, Lif::default()), bernoulli, base),
        ("held, membranes", (false, false, integrator), constant, Options { loss: Loss::CeMembrane, ..base }),
        ("convolution", (true, false, Lif::default()), bernoulli, Options { clip: 0.5, ..base }),
        ("normalised", (true, false, Lif::default()), bernoulli, Options { gradient: normalized, ..base }),
        (
            "frozen",
            (false, true, Lif::default()),
            bernoulli,
            Options { loss: Loss::MseCount { correct: 0.8, incorrect: 0.2 }, ..base },
        ),
        (
            "learning leaks",
            (false, false, Lif::default()),
            bernoulli,
            Options { gradient: learning, penalty, ..base },
        ),
        (
            "dropout, SGD",
            (false, false, Lif::default()),
            bernoulli,
            Options { dropout: 0.2, method: Method::Sgd { momentum: 0.9 }, ..base },
        ),
    ];
    type Make = Box<dyn Fn() -> Network>;
    let plain = || -> Make { Box::new(|| network((false, false, Lif::default()))) };
    let looped = |frozen, behind| -> Make { Box::new(move || loops(frozen, behind)) };
    let sqrt = Options { checkpoint: Checkpoint::Sqrt, ..base };
    let forward = |credit| Options { credit, loss: Loss::CeRate, ..base };
    let (eprop, ottt) = (forward(Credit::Eprop), forward(Credit::Ottt));
    let more = [
        ("in stretches", plain(), bernoulli, sqrt),
        ("some pairs", Box::new(some_pairs), bernoulli, base),
        ("recurrent", looped(false, false), bernoulli, base),
        ("recurrent, held", looped(false, false), constant, base),
        ("recurrent and frozen", looped(true, false), bernoulli, base),
        ("a loop of two", looped(false, true), bernoulli, base),
        ("e-prop", plain(), bernoulli, eprop),
        ("e-prop, recurrent, held", looped(false, false), constant, eprop),
        ("OTTT, recurrent", looped(false, false), bernoulli, ottt),
        ("OTTT, recurrent and frozen, held", looped(true, false), constant, ottt),
        ("OTTT, some pairs", Box::new(some_pairs), bernoulli, Options { clip: 0.5, ..ottt }),
    ];
    let cases = cases.map(|(what, net, encoding, options)| -> (_, Make, _, _) {
        (what, Box::new(move || network(net)), encoding, options)
    });
    for (what, net, encoding, options) in cases.into_iter().chain(more) {
        let of = |device| train(device, net(), encoding, options).unwrap_or_else(|e| panic!("{what}: {e}"));
        let ((losses, judged, numbers), (want, judged_there, there)) = (of(&on), of(&Device::Cpu));
        assert!(losses.len() == 6 && losses[5] < losses[0], "{what}: {losses:?}");
        let allowed = Tolerance::new(1e-4, 1e-4);
        close(&losses, &want, allowed).unwrap_or_else(|why| panic!("{what}: losses: {why}"));
        assert_eq!(judged, judged_there, "{what}");
        assert_eq!(numbers.len(), there.len());
        for (name, tensor) in &numbers {
            let (got, want) = (tensor.to_f64().unwrap(), there[name].to_f64().unwrap());
            // Adam moves a number by lr wherever its gradient has a sign, be it a rounding error.
            close(&got, &want, Tolerance::new(2e-3, 1e-3))
                .unwrap_or_else(|why| panic!("{what}: {name}: {why}"));
        }
    }
    let refused = train(&on, loops(false, false), bernoulli, sqrt).unwrap_err().to_string();
    assert!(refused.contains("`hidden`, which hears itself"), "{refused}");
}
