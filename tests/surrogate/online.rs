//! Gradients forward in time: equal to those backwards where theory says so, and to the papers' sums elsewhere.

use rand::RngExt;
use ransnn::engine::Input;
use ransnn::learn::surrogate::{
    Credit, Data, Encoded, Gradient, Loss, Model, Options, RatePenalty, Trainer, classify, probe,
};
use ransnn::rng::Stream;
use ransnn::snn::builder::Precision;
use ransnn::snn::neurons::{Alif, Lif, Reset, ResetActs, Synaptic};
use ransnn::snn::scan::Spikes;
use ransnn::snn::{Encoding, Init, Network, Neuron, Pop, Rule};
use ransnn::tensor::{Surrogate, Tensor, grad};
use ransnn::units::Ms;
use std::sync::Arc;

const INPUTS: usize = 11;
const CLASSES: usize = 4;
const BATCH: usize = 5;
const LABELS: [u32; BATCH] = [0, 3, 1, 1, 2];

fn gradient() -> Gradient {
    let surrogate = Surrogate::Arctan { alpha: 2.0 };
    Gradient::of(surrogate)
}

/// Sizes of the hidden populations, one behind the other; `recurrent` in the first.
fn network(
    hidden: &[usize],
    recurrent: bool,
    neuron: impl Fn() -> Box<dyn Neuron>,
    output: impl Into<Box<dyn Neuron>>,
) -> Network {
    let mut net = Network::builder(Ms(1.0));
    let mut before = net.input("pixels", INPUTS);
    let weights = Init::Normal { mean: 0.08, std: 0.35 };
    for (i, &size) in hidden.iter().enumerate() {
        let layer = net.population(format!("hidden{i}").as_str(), size, neuron());
        net.connect(before, layer, Rule::Dense)
            .name(format!("in{i}"))
            .weights(weights.clone())
            .bias(Init::Constant(0.07))
            .precision(Precision::F32);
        if recurrent && i == 0 {
            net.connect(layer, layer, Rule::Dense)
                .name("again")
                .delay(Ms(1.0))
                .weights(weights.clone())
                .precision(Precision::F32);
        }
        before = layer;
    }
    let out = net.population("out", CLASSES, output);
    net.connect(before, out, Rule::Dense)
        .name("out")
        .weights(weights)
        .bias(Init::Constant(0.03))
        .precision(Precision::F32);
    net.build(5).unwrap()
}

fn inputs(steps: usize) -> [Encoded; 2] {
    let mut walk = Stream::named(3, "x").walk(0);
    let rows: Vec<Vec<u32>> =
        (0..steps * BATCH).map(|_| (0..INPUTS as u32).filter(|_| walk.random_bool(0.3)).collect()).collect();
    let rows = rows.iter().map(Vec::as_slice);
    let spikes = Spikes::from_rows(&[steps, BATCH], INPUTS, rows).unwrap();
    let x: Vec<f32> = (0..BATCH * INPUTS).map(|_| walk.random::<f32>() * 0.4).collect();
    [
        Encoded::Spikes(Arc::new(spikes)),
        Encoded::Constant(Tensor::from_f32(x, &[BATCH, INPUTS]).unwrap(), steps),
    ]
}

fn loss_of(membrane: bool) -> Loss {
    if membrane { Loss::CeMembrane } else { Loss::CeRate }
}

/// Loss and gradients backwards through time.
fn backwards(model: &Model, input: &Encoded, membrane: bool) -> (f64, ransnn::tensor::Grads) {
    let labels = Tensor::from_u32(LABELS.to_vec(), &[BATCH]).unwrap();
    let (loss, grads) = grad(model, || {
        let pass = model.forward(input, None)?;
        loss_of(membrane).of(&pass.outputs, &labels)
    })
    .unwrap();
    (loss.to_scalar().unwrap(), grads)
}

/// Largest difference of a gradient from another, as a share of its largest entry.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    assert!(largest > 1e-4, "there is a gradient");
    let most = a.iter().zip(b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    f64::from(most / largest)
}

fn integrator() -> Lif {
    Lif { decay: 0.93, reset: Reset::None, ..Lif::default() }
}

fn lif() -> Box<dyn Neuron> {
    Lif { decay: 0.9, gain: 0.8, ..Lif::default() }.into()
}

/// The largest distance over all parameters, per parameter.
fn compare(net: &Network, credit: Credit, membrane: bool, input: &Encoded) -> Vec<(String, f64)> {
    let output = Pop(net.populations.len() - 1);
    let model = Model::new(net, output, membrane, gradient()).unwrap();
    let (loss, expected) = backwards(&model, input, membrane);
    let found = model.online(credit, input, &LABELS).unwrap();
    assert!((found.loss - loss).abs() < 1e-6 * loss, "{} for {loss}", found.loss);
    let values = |t: &Tensor| t.to_f32().unwrap();
    let one = |(name, g): (&str, &Tensor)| {
        (name.to_string(), distance(&values(found.grads.get(name).unwrap()), &values(g)))
    };
    expected.iter().map(one).collect()
}

/// Sums of some tens of numbers of 32 bits, in other orders.
const ROUNDING: f64 = 3e-6;

#[test]
fn one_layer_has_the_gradient_of_back_propagation() {
    for steps in [1, 2, 9] {
        for (k, input) in inputs(steps).iter().enumerate() {
            for out in [lif(), Lif::snntorch(0.8).into(), Synaptic::new(0.7, 0.9).into()] {
                let net = network(&[], false, lif, out);
                for (name, distance) in compare(&net, Credit::Ottt, false, input) {
                    assert!(distance < ROUNDING, "{name}, input {k}, {steps} steps: {distance}");
                }
            }
            let net = network(&[], false, lif, integrator());
            for credit in [Credit::Ottt, Credit::Eprop] {
                for (name, distance) in compare(&net, credit, true, input) {
                    assert!(distance < ROUNDING, "{name}, input {k}, {steps} steps: {distance}");
                }
            }
        }
    }
}

#[test]
fn eprop_of_a_feed_forward_layer_is_back_propagation() {
    let synaptic = || Synaptic::new(0.6, 0.85).into();
    for input in &inputs(12) {
        for membrane in [true, false] {
            let out = || if membrane { integrator() } else { Lif { decay: 0.9, ..Lif::default() } };
            for net in [network(&[17], false, lif, out()), network(&[17], false, synaptic, out())] {
                for (name, distance) in compare(&net, Credit::Eprop, membrane, input) {
                    assert!(distance < ROUNDING, "{name}: {distance}");
                }
                // OTTT leaves out later potentials of the output, but of the output's own weights nothing.
                for (name, distance) in compare(&net, Credit::Ottt, membrane, input) {
                    let exact = name.contains(".out.");
                    assert_eq!(distance < ROUNDING, exact, "{name}: {distance}");
                    assert!(distance < 1.0);
                }
            }
        }
    }
}

/// Thresholds that adapt have eligibilities of their own. (Resets are left out of the gradient; what a spike does to the
/// threshold is not.)
#[test]
fn eprop_of_adapting_thresholds_is_back_propagation() {
    let alif = || Alif::new(0.85, 0.96, 0.3).into();
    for input in &inputs(12) {
        for membrane in [true, false] {
            let out = || if membrane { integrator() } else { Lif { decay: 0.9, ..Lif::default() } };
            let net = network(&[17], false, alif, out());
            for (name, distance) in compare(&net, Credit::Eprop, membrane, input) {
                assert!(distance < ROUNDING, "{name}: {distance}");
            }
        }
        let fixed = || Alif::new(0.85, 0.96, 0.0).into();
        let hidden = |neuron: &dyn Fn() -> Box<dyn Neuron>| {
            let net = network(&[17], false, neuron, integrator());
            let model = Model::new(&net, Pop(2), true, gradient()).unwrap();
            let found = model.online(Credit::Eprop, input, &LABELS).unwrap();
            found.grads.get("projection.in0.weights").unwrap().to_f32().unwrap()
        };
        let [with, without] = [hidden(&alif), hidden(&fixed)];
        assert!(distance(&with, &without) > 0.05, "adaptation matters to the gradient");
    }
}

/// The input reaches the output past the hidden population, too.
#[test]
fn an_input_may_reach_several_layers() {
    let mut net = Network::builder(Ms(1.0));
    let pixels = net.input("pixels", INPUTS);
    let hidden = net.population("hidden", 9, lif());
    let out = net.population("out", CLASSES, integrator());
    for (from, to) in [(pixels, hidden), (pixels, out), (hidden, out)] {
        let weights = Init::Normal { mean: 0.08, std: 0.35 };
        net.connect(from, to, Rule::Dense).weights(weights).precision(Precision::F32);
    }
    let net = net.build(5).unwrap();
    for input in &inputs(9) {
        let found = compare(&net, Credit::Eprop, true, input);
        assert_eq!(found.len(), 3);
        found.iter().for_each(|(name, distance)| assert!(*distance < ROUNDING, "{name}: {distance}"));
    }
}

/// e-prop and OTTT written as the sums of the papers, in f64, for pixels → hidden (recurrent) → output.
fn naive(model: &Model, input: &Spikes, steps: usize, credit: Credit) -> Vec<(&'static str, Vec<f32>)> {
    let matrix = |name: &str| -> Vec<Vec<f64>> {
        let t = &model.parameters[name];
        let n = *t.shape().last().unwrap();
        let values: Vec<f64> = t.to_f32().unwrap().iter().map(|&x| x.into()).collect();
        values.chunks(n).map(<[f64]>::to_vec).collect()
    };
    let (w, b) = (matrix("projection.in0.weights"), matrix("projection.in0.bias").concat());
    let v = matrix("projection.again.weights");
    let (w_out, b_out) = (matrix("projection.out.weights"), matrix("projection.out.bias").concat());
    let n = b.len();
    let (beta, gain, kappa) = (f64::from(0.9f32), f64::from(0.8f32), f64::from(0.93f32));
    let slope = |u: f64| 1.0 / (1.0 + (std::f64::consts::PI * (u - 1.0)).powi(2));
    let mut g_w = vec![0.0; INPUTS * n];
    let mut g_v = vec![0.0; n * n];
    let mut g_out = vec![0.0; n * CLASSES];
    for (sample, &label) in LABELS.iter().enumerate() {
        let x: Vec<Vec<f64>> = (0..steps)
            .map(|t| {
                let dense = input.step(t).unwrap().dense();
                dense[sample * INPUTS..][..INPUTS].iter().map(|&x| x.into()).collect()
            })
            .collect();
        let (mut c, mut z, mut y) = (vec![0.0; n], vec![vec![0.0; n]], vec![0.0; CLASSES]);
        let (mut psi, mut error) = (vec![], vec![]);
        for x in &x {
            let mut fired = vec![0.0; n];
            let mut slopes = vec![0.0; n];
            for j in 0..n {
                let mut current = b[j];
                (0..INPUTS).for_each(|i| current += x[i] * w[i][j]);
                (0..n).for_each(|i| current += z.last().unwrap()[i] * v[i][j]);
                let u = beta * c[j] + gain * current;
                fired[j] = if u >= 1.0 { 1.0 } else { 0.0 };
                slopes[j] = slope(u);
                c[j] = u - fired[j];
            }
            for k in 0..CLASSES {
                y[k] = kappa * y[k] + b_out[k] + (0..n).map(|j| fired[j] * w_out[j][k]).sum::<f64>();
            }
            let sum: f64 = y.iter().map(|y| y.exp()).sum();
            let right = |k: usize| if k == label as usize { 1.0 } else { 0.0 };
            error.push(
                (0..CLASSES)
                    .map(|k| (y[k].exp() / sum - right(k)) / (steps * BATCH) as f64)
                    .collect::<Vec<f64>>(),
            );
            z.push(fired);
            psi.push(slopes);
        }
        assert!(z.iter().flatten().sum::<f64>() > 5.0, "the hidden population fires");
        // Σ over t' ≤ t of factor^(t − t') of what happened in t'.
        let filter = |factor: f64, t: usize, of: &dyn Fn(usize) -> f64| {
            (0..=t).map(|s| factor.powi((t - s) as i32) * of(s)).sum::<f64>()
        };
        for t in 0..steps {
            for j in 0..n {
                let signal: f64 = (0..CLASSES).map(|k| error[t][k] * w_out[j][k]).sum();
                let eligible = |source: &dyn Fn(usize) -> f64| match credit {
                    Credit::Ottt => gain * psi[t][j] * filter(beta, t, source),
                    _ => filter(kappa, t, &|s| gain * psi[s][j] * filter(beta, s, source)),
                };
                (0..INPUTS).for_each(|i| g_w[i * n + j] += signal * eligible(&|s| x[s][i]));
                (0..n).for_each(|i| g_v[i * n + j] += signal * eligible(&|s| z[s][i]));
                (0..CLASSES)
                    .for_each(|k| g_out[j * CLASSES + k] += error[t][k] * filter(kappa, t, &|s| z[s + 1][j]));
            }
        }
    }
    [("projection.in0.weights", g_w), ("projection.again.weights", g_v), ("projection.out.weights", g_out)]
        .map(|(name, g)| (name, g.iter().map(|&g| g as f32).collect()))
        .into()
}

#[test]
fn recurrent_gradients_are_the_sums_of_the_papers() {
    let steps = 14;
    let net = network(&[9], true, lif, integrator());
    let model = Model::new(&net, Pop(2), true, gradient()).unwrap();
    let [input, _] = inputs(steps);
    let Encoded::Spikes(spikes) = &input else { unreachable!() };
    let (_, exact) = backwards(&model, &input, true);
    for credit in [Credit::Eprop, Credit::Ottt] {
        let found = model.online(credit, &input, &LABELS).unwrap();
        for (name, expected) in naive(&model, spikes, steps, credit) {
            let values = found.grads.get(name).unwrap().to_f32().unwrap();
            let off = distance(&values, &expected);
            assert!(off < 1e-5, "{credit:?} {name}: {off}");
            // What they leave out is there: the tests above would not see it.
            if name.contains("again") {
                assert!(distance(&values, &exact.get(name).unwrap().to_f32().unwrap()) > 1e-2);
            }
        }
    }
}

#[test]
fn online_training_learns_and_the_engine_agrees() {
    let labels: Vec<u16> = (0..200).map(|i| (i * 7 % 13 % CLASSES) as u16).collect();
    let bright = |i: usize, label: u16| if i % CLASSES == usize::from(label) { 220 } else { 30 };
    let samples: Vec<u8> = labels.iter().flat_map(|&l| (0..INPUTS).map(move |i| bright(i, l))).collect();
    let data = Data { samples: Input::U8(&samples), labels: &labels };
    type Hidden = fn() -> Box<dyn Neuron>;
    let cases: [(Credit, Vec<usize>, bool, Hidden); 4] = [
        (Credit::Ottt, vec![40, 30], false, lif),
        (Credit::Eprop, vec![40], false, lif),
        (Credit::Eprop, vec![40], true, lif),
        (Credit::Eprop, vec![40], true, || Alif::new(0.9, 0.95, 0.2).into()),
    ];
    for (credit, hidden, recurrent, neuron) in cases {
        for encoding in [Encoding::Bernoulli { steps: 10, gain: 0.8 }, Encoding::Constant { steps: 8 }] {
            let net = network(&hidden, recurrent, neuron, integrator());
            let output = Pop(hidden.len() + 1);
            let options =
                Options { credit, loss: Loss::CeMembrane, lr: 5e-3, batch: 20, epochs: 6, ..Options::new() };
            let mut trainer = Trainer::new(net, encoding, output, data, options).unwrap();
            while trainer.step().unwrap().is_some() {}
            let found = trainer.agreement(40).unwrap();
            assert_eq!(found.differ, 0, "{credit:?} {encoding:?}: {found:?}");
            let net = trainer.finish().unwrap();
            let probe = probe(output, options.loss);
            let (classes, _) = classify(&net, &encoding, probe, data.samples, 200, "train").unwrap();
            let right = classes.iter().zip(&labels).filter(|(a, b)| a == b).count();
            assert!(right > 150, "{credit:?} {encoding:?}, recurrent {recurrent}: {right} of 200");
        }
    }
}

#[test]
fn what_only_goes_backwards_is_refused_by_name() {
    let refused = |net: &Network, credit, gradient| {
        let output = Pop(net.populations.len() - 1);
        let model = Model::new(net, output, true, gradient).unwrap();
        model.online(credit, &inputs(3)[0], &LABELS).unwrap_err().to_string()
    };
    let hard = || Lif { reset: Reset::To(0.0), ..Lif::default() }.into();
    let net = network(&[7], false, hard, integrator());
    assert!(refused(&net, Credit::Ottt, gradient()).contains("`hidden0`: its reset"));
    let net = network(&[7, 6], false, lif, integrator());
    let error = refused(&net, Credit::Eprop, gradient());
    assert!(error.contains("`hidden0`") && error.contains("take `ottt`"), "{error}");
    let alif = || -> Box<dyn Neuron> { Alif::new(0.9, 0.9, 0.1).into() };
    let error = refused(&network(&[7], false, alif, integrator()), Credit::Ottt, gradient());
    assert!(error.contains("`hidden0`: its threshold adapts; take `eprop`"), "{error}");
    let error = refused(&network(&[7], false, lif, alif()), Credit::Eprop, gradient());
    assert!(error.contains("the output has thresholds that adapt"), "{error}");
    assert!(refused(&net, Credit::Ottt, Gradient { detach: false, ..gradient() }).contains("resets must be"));
    assert!(refused(&net, Credit::Ottt, Gradient { decay: true, ..gradient() }).contains("only weights"));
    let model = Model::new(&net, Pop(3), true, gradient()).unwrap();
    let error = |labels: &[u32]| model.online(Credit::Ottt, &inputs(3)[0], labels).unwrap_err().to_string();
    assert_eq!(error(&[0, 1, 2, 4, 0]), "label is 4; it must be below 4");
    assert_eq!(error(&[0; 4]), "labels is 4; it must be 5, one for each sample");
    // Of a frozen population, too: a step forward in time has one reset.
    let mut net = Network::builder(Ms(1.0));
    let pixels = net.input("pixels", INPUTS);
    let twice = Synaptic { acts: ResetActs::SameStep, ..Synaptic::new(0.6, 0.85) };
    let (hidden, out) = (net.population("twice", 7, twice), net.population("out", CLASSES, integrator()));
    for (from, to) in [(pixels, hidden), (hidden, out), (pixels, out)] {
        net.connect(from, to, Rule::Dense).precision(Precision::F32);
    }
    let mut net = net.build(5).unwrap();
    net.projections[0].frozen = true;
    assert!(refused(&net, Credit::Ottt, gradient()).contains("`twice`: its reset acts twice"));

    let labels = [0u16; 10];
    let data = Data { samples: Input::U8(&[9; 10 * INPUTS]), labels: &labels };
    let refused = |options: Options| {
        let options = Options { credit: Credit::Ottt, batch: 5, ..options };
        let net = network(&[7], false, lif, integrator());
        let encoding = Encoding::Constant { steps: 3 };
        Trainer::new(net, encoding, Pop(2), data, options).map(drop).unwrap_err().to_string()
    };
    let good = Options { loss: Loss::CeMembrane, ..Options::new() };
    assert!(refused(Options { loss: Loss::CeCount, ..good }).contains("loss of the whole sequence"));
    assert!(refused(Options { dropout: 0.5, ..good }).contains("dropout"));
    let penalty = RatePenalty { sparsity: 1.0, ..RatePenalty::default() };
    assert!(refused(Options { penalty, ..good }).contains("penalty"));
}
