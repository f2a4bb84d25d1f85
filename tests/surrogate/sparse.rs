//! Projections that connect some of the pairs and learn.

use ransnn::engine::Input;
use ransnn::learn::surrogate::{Credit, Data, Loss, Method, Options, Trainer};
use ransnn::snn::builder::Precision;
use ransnn::snn::neurons::{Lif, Reset};
use ransnn::snn::{Encoding, Init, Network, Pop, Rule, Weights};
use ransnn::units::Ms;

const INPUTS: usize = 24;
const HIDDEN: usize = 40;
const CLASSES: usize = 4;

/// 24 - 40 - 4: six inputs for each hidden neuron, which hears itself and nobody else of its kind.
fn network(recurrent: bool) -> Network {
    let mut net = Network::builder(Ms(1.0));
    let pixels = net.input("pixels", INPUTS);
    let hidden = net.population("hidden", HIDDEN, Lif { decay: 0.9, ..Lif::default() });
    let out = net.population("out", CLASSES, Lif { decay: 0.95, reset: Reset::None, ..Lif::default() });
    let f32s = Precision::F32;
    net.connect(pixels, hidden, Rule::FixedInDegree { k: 6 })
        .name("in")
        .weights(Init::Normal { mean: 0.1, std: 0.4 })
        .bias(Init::Constant(0.02))
        .precision(f32s);
    if recurrent {
        net.connect(hidden, hidden, Rule::OneToOne)
            .name("self")
            .weights(Init::Constant(-0.2))
            .delay(Ms(1.0))
            .precision(f32s);
    }
    net.connect(hidden, out, Rule::FixedProbability { p: 0.5 })
        .name("out")
        .weights(Init::Normal { mean: 0.0, std: 0.3 })
        .precision(f32s);
    net.build(11).unwrap()
}

/// Weights of a projection `[sources][targets]`; `None` where nothing is connected.
fn table(net: &Network, name: &str, targets: usize) -> Vec<Option<f32>> {
    let Weights::Sparse { offsets, targets: to, .. } = &net.projection(name).unwrap().weights else {
        panic!("{name} is not sparse")
    };
    let tensors = net.tensors();
    let values = tensors.iter().find(|t| t.name == format!("projection.{name}.weights")).unwrap().values;
    let mut table = vec![None; (offsets.len() - 1) * targets];
    for source in 0..offsets.len() - 1 {
        for i in offsets[source]..offsets[source + 1] {
            table[source * targets + to[i] as usize] = Some(values[i]);
        }
    }
    table
}

#[test]
fn synapses_learn_and_nothing_else_grows() {
    let labels: Vec<u16> = (0..100).map(|i| (i * 7 % 13 % CLASSES) as u16).collect();
    let bright = |i: usize, label: u16| if i % CLASSES == usize::from(label) { 200 } else { 40 };
    let samples: Vec<u8> = labels.iter().flat_map(|&l| (0..INPUTS).map(move |i| bright(i, l))).collect();
    let data = Data { samples: Input::U8(&samples), labels: &labels };
    for (recurrent, credit) in [(false, Credit::Bptt), (true, Credit::Bptt), (true, Credit::Ottt)] {
        let net = network(recurrent);
        let before = [table(&net, "in", HIDDEN), table(&net, "out", CLASSES)];
        let counted = net.parameters().trained;
        let options = Options {
            credit,
            loss: Loss::CeMembrane,
            lr: 1e-2,
            batch: 20,
            epochs: 6,
            clip: 1.0,
            method: Method::AdamW,
            ..Options::new()
        };
        let encoding = Encoding::Bernoulli { steps: 10, gain: 0.8 };
        let mut trainer = Trainer::new(net, encoding, Pop(2), data, options).unwrap();
        assert_eq!(trainer.model().size(), counted);
        let mut losses = vec![];
        while let Some(step) = trainer.step().unwrap() {
            losses.push(step.loss);
        }
        assert!(losses[losses.len() - 1] < 0.6 * losses[0], "{losses:?}");
        let found = trainer.agreement(40).unwrap();
        assert_eq!(found.differ, 0, "{found:?}");
        let all = trainer.model().parameters["projection.in.weights"].to_f32().unwrap();
        let net = trainer.finish().unwrap();
        for (before, (name, targets)) in before.iter().zip([("in", HIDDEN), ("out", CLASSES)]) {
            let after = table(&net, name, targets);
            let pairs = before.iter().zip(&after);
            assert!(pairs.clone().all(|(a, b)| a.is_some() == b.is_some()));
            let moved = pairs.filter(|(a, b)| a != b).count();
            assert!(2 * moved > before.iter().flatten().count(), "{moved}");
        }
        let kept = table(&net, "in", HIDDEN);
        assert!(all.iter().zip(&kept).all(|(w, kept)| *w == kept.unwrap_or(0.0)));
    }
}
