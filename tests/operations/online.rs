//! Gradients forward in time on a GPU against those on the CPU, for every kind of layer, from currents whose sums are exact.

use ransnn::learn::surrogate::{Credit, Encoded, Gradient, Model};
use ransnn::snn::builder::Precision;
use ransnn::snn::neurons::{Alif, Lif, Reset, ResetActs, Synaptic};
use ransnn::snn::scan::Spikes;
use ransnn::snn::{Init, Network, Neuron, Pop, Rule};
use ransnn::tensor::check::{Tolerance, close};
use ransnn::tensor::cuda::Gpu;
use ransnn::tensor::{Device, Surrogate, Tensor};
use ransnn::units::Ms;
use std::sync::Arc;

type Make = fn() -> Box<dyn Neuron>;

/// What it is, rules, wiring, hidden neurons, the output's, and whether its membranes are read.
type Case<'a> = (&'a str, &'a [Credit], Wiring, Make, Make, bool);

/// Populations one behind the other, with biases, and what else there is.
#[derive(Clone, Copy)]
struct Wiring {
    inputs: usize,
    hidden: &'static [usize],
    classes: usize,
    /// The first hidden population hears itself, through frozen weights or others.
    again: Option<bool>,
    /// Number of a projection that is frozen.
    frozen: Option<usize>,
    /// The input reaches the output past the others, too.
    past: bool,
}

const WIRING: Wiring =
    Wiring { inputs: 11, hidden: &[17], classes: 4, again: None, frozen: None, past: false };

const BOTH: &[Credit] = &[Credit::Ottt, Credit::Eprop];

fn lif() -> Box<dyn Neuron> {
    Lif { decay: 0.9, gain: 0.8, ..Lif::default() }.into()
}

fn resting() -> Box<dyn Neuron> {
    Lif { decay: 0.85, rest: 0.05, acts: ResetActs::BeforeNextStep, ..Lif::snntorch(0.8) }.into()
}

/// Resets to a value, which only neurons do whose input is frozen.
fn hard() -> Box<dyn Neuron> {
    Lif { decay: 0.9, reset: Reset::To(0.1), ..Lif::default() }.into()
}

fn hard_later() -> Box<dyn Neuron> {
    Lif { reset: Reset::To(0.1), ..Lif::snntorch(0.8) }.into()
}

fn snntorch() -> Box<dyn Neuron> {
    Lif::snntorch(0.8).into()
}

fn integrator() -> Box<dyn Neuron> {
    Lif { decay: 0.93, reset: Reset::None, ..Lif::default() }.into()
}

fn synaptic() -> Box<dyn Neuron> {
    Synaptic::new(0.6, 0.85).into()
}

fn adapting() -> Box<dyn Neuron> {
    Alif::new(0.85, 0.96, 0.3).into()
}

/// Weights and biases are multiples of 1/64, so that sums of them are the same in any order.
fn network(wiring: Wiring, neuron: Make, output: Make) -> Network {
    let Wiring { inputs, hidden, classes, again, frozen, past } = wiring;
    let mut net = Network::builder(Ms(1.0));
    let mut populations = vec![net.input("pixels", inputs)];
    for (i, &size) in hidden.iter().enumerate() {
        populations.push(net.population(format!("hidden{i}").as_str(), size, neuron()));
    }
    populations.push(net.population("out", classes, output()));
    let mut joins: Vec<_> =
        populations.windows(2).enumerate().map(|(i, pair)| (format!("{i}"), [pair[0], pair[1]])).collect();
    if past {
        joins.push(("past".into(), [populations[0], populations[populations.len() - 1]]));
    }
    for (name, [from, to]) in &joins {
        net.connect(*from, *to, Rule::Dense)
            .name(name.as_str())
            .weights(Init::Constant(0.0))
            .bias(Init::Constant(0.0))
            .precision(Precision::F32);
    }
    if again.is_some() {
        let around = net.connect(populations[1], populations[1], Rule::Dense).name("again").delay(Ms(1.0));
        around.weights(Init::Constant(0.0)).precision(Precision::F32);
    }
    let mut net = net.build(5).unwrap();
    let places: Vec<_> =
        net.projections.iter().map(|p| (p.name.clone(), p.weights.shape(), p.bias.len())).collect();
    for (k, (name, shape, biases)) in places.iter().enumerate() {
        let values = |n: usize, most: usize| -> Vec<f32> {
            (0..n).map(|i| (i * 29 % 31 * 13 + k * 17) % most).map(|i| (i as f32 - 9.0) / 64.0).collect()
        };
        let weights = values(shape.iter().product(), 33);
        net.set_tensor(&format!("projection.{name}.weights"), shape, &weights).unwrap();
        if *biases > 0 {
            net.set_tensor(&format!("projection.{name}.bias"), &[*biases], &values(*biases, 20)).unwrap();
        }
    }
    for p in &mut net.projections {
        p.frozen = again == Some(true) && p.name == "again"
            || frozen.is_some_and(|number| p.name == number.to_string());
    }
    net
}

/// Spikes, as many in each row where the inputs are a multiple of 4, and constant currents.
fn inputs(steps: usize, batch: usize, inputs: usize) -> [Encoded; 2] {
    let row =
        |r: usize| (0..inputs as u32).filter(move |i| (*i as usize + r * 7).is_multiple_of(4)).collect();
    let rows: Vec<Vec<u32>> = (0..steps * batch).map(row).collect();
    let spikes = Spikes::from_rows(&[steps, batch], inputs, rows.iter().map(Vec::as_slice)).unwrap();
    let x: Vec<f32> = (0..batch * inputs).map(|i| (i * 13 % 7) as f32 / 16.0).collect();
    let x = Tensor::from_f32(x, &[batch, inputs]).unwrap();
    [Encoded::Spikes(Arc::new(spikes)), Encoded::Constant(x, steps)]
}

fn labels(batch: usize, classes: usize) -> Vec<u32> {
    (0..batch).map(|b| ((b * 3 + 1) % classes) as u32).collect()
}

/// Loss, outputs and gradients of one batch on both devices; the smallest of the gradients' largest numbers.
fn compare(
    what: &str,
    on: &Device,
    net: &Network,
    (credit, membrane, surrogate): (Credit, bool, Surrogate),
    input: &Encoded,
) -> f64 {
    let output = Pop(net.populations.len() - 1);
    let labels = labels(input.shape()[1], net.populations[output.0].size());
    let of = |device: &Device| {
        let mut model = Model::new(net, output, membrane, Gradient::of(surrogate)).unwrap();
        model.move_to(device).unwrap();
        model.online(credit, input, &labels).unwrap_or_else(|error| panic!("{what}: {error}"))
    };
    let (got, want) = (of(on), of(&Device::Cpu));
    assert_eq!(got.outputs.device(), on);
    assert_eq!(got.outputs.to_f32().unwrap(), want.outputs.to_f32().unwrap(), "{what}: outputs");
    close(&[got.loss], &[want.loss], Tolerance::DEVICE_F64).unwrap_or_else(|e| panic!("{what}: loss: {e}"));
    assert_eq!(got.grads.iter().count(), want.grads.iter().count(), "{what}");
    let mut least = f64::INFINITY;
    for (name, want) in want.grads.iter() {
        let got = got.grads.get(name).unwrap();
        assert_eq!((got.shape(), got.device()), (want.shape(), on), "{what}: {name}");
        let [got, want] = [got, want].map(|t| t.to_f64().unwrap());
        let largest = want.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
        least = least.min(largest);
        // Of the size of 1, for which the tolerance is made.
        let scaled = |all: &[f64]| all.iter().map(|x| x / largest.max(1e-30)).collect::<Vec<_>>();
        close(&scaled(&got), &scaled(&want), Tolerance::DEVICE_F32)
            .unwrap_or_else(|why| panic!("{what}: {name}: {why}"));
    }
    least
}

/// Every kind of layer, reset and wiring, from spikes and constant currents, over steps, samples and sizes around the edges.
pub fn online(gpu: &Gpu) {
    let on = Device::Cuda(gpu.clone());
    let arctan = Surrogate::Arctan { alpha: 2.0 };
    let single = Wiring { hidden: &[], ..WIRING };
    let around = |frozen| Wiring { again: Some(frozen), ..WIRING };
    let past = Wiring { past: true, ..WIRING };
    let behind = Wiring { frozen: Some(0), ..past };
    let deep = Wiring { hidden: &[17, 9], ..WIRING };
    let (ottt, eprop) = (&BOTH[..1], &BOTH[1..]);
    let cases: [Case<'_>; 22] = [
        ("one layer", BOTH, single, lif, integrator, true),
        ("one layer, spikes", BOTH, single, lif, lif, false),
        ("one layer, reset a step later", BOTH, single, lif, snntorch, true),
        ("one layer, reset before the next step", BOTH, single, lif, resting, true),
        ("one layer, synaptic", ottt, single, lif, synaptic, false),
        ("hidden", BOTH, WIRING, lif, integrator, true),
        ("hidden, spikes", BOTH, WIRING, lif, lif, false),
        ("hidden, reset a step later", BOTH, WIRING, snntorch, snntorch, false),
        ("hidden, reset before the next step", BOTH, WIRING, resting, resting, true),
        ("hidden, no reset", BOTH, WIRING, integrator, integrator, true),
        ("hidden, synaptic", BOTH, WIRING, synaptic, integrator, true),
        ("adapting", eprop, WIRING, adapting, integrator, true),
        ("adapting, recurrent, spikes", eprop, around(false), adapting, lif, false),
        ("recurrent", BOTH, around(false), lif, integrator, true),
        ("recurrent, synaptic", BOTH, around(false), synaptic, lif, false),
        ("recurrent and frozen", BOTH, around(true), snntorch, integrator, true),
        ("past the others", BOTH, past, lif, integrator, true),
        ("behind a frozen one", BOTH, behind, snntorch, integrator, true),
        ("behind a frozen one that resets to a value", BOTH, behind, hard, integrator, true),
        ("behind a frozen one that resets to a value later", ottt, behind, hard_later, lif, false),
        ("deep", ottt, deep, lif, integrator, true),
        ("through a frozen one", ottt, Wiring { frozen: Some(1), ..deep }, synaptic, lif, false),
    ];
    for (what, credits, wiring, neuron, output, membrane) in cases {
        let net = network(wiring, neuron, output);
        for &credit in credits {
            for (steps, batch) in [(1, 1), (1, 5), (2, 5), (9, 1), (9, 5)] {
                for (k, input) in inputs(steps, batch, wiring.inputs).iter().enumerate() {
                    let what = format!("{what}, {credit:?}, {steps} steps of {batch}, input {k}");
                    let least = compare(&what, &on, &net, (credit, membrane, arctan), input);
                    assert!(least > 1e-5 || steps < 9, "{what}: a gradient is {least}");
                }
            }
        }
    }
    // A warp and a block for the classes of a sample; a neuron, and more than fit a block.
    for (inputs_of, hidden, classes, batch) in
        [(1, &[1][..], 2, 1), (70, &[33], 3, 7), (257, &[3], 33, 2), (7, &[300], 1100, 3)]
    {
        let wiring = Wiring { inputs: inputs_of, hidden, classes, ..around(false) };
        let net = network(wiring, lif, integrator);
        for &credit in BOTH {
            for input in &inputs(5, batch, inputs_of) {
                let what = format!("{inputs_of} {hidden:?} {classes}, {credit:?}");
                compare(&what, &on, &net, (credit, true, arctan), input);
            }
        }
    }
    let net = network(WIRING, lif, integrator);
    for surrogate in Surrogate::ALL {
        let [input, _] = inputs(4, 3, WIRING.inputs);
        compare(&format!("{surrogate:?}"), &on, &net, (Credit::Eprop, true, surrogate), &input);
    }
}

/// A batch of so many steps, which finds gradients on a GPU.
pub struct Batch {
    model: Model,
    input: Encoded,
    labels: Vec<u32>,
}

impl Batch {
    /// Of spikes, as many in each step, or a constant current, through a recurrent population.
    pub fn new(gpu: &Gpu, constant: bool, steps: usize) -> Self {
        let wiring = Wiring { inputs: 16, again: Some(false), ..WIRING };
        let net = network(wiring, adapting, integrator);
        let arctan = Surrogate::Arctan { alpha: 2.0 };
        let mut model = Model::new(&net, Pop(2), true, Gradient::of(arctan)).unwrap();
        model.move_to(&Device::Cuda(gpu.clone())).unwrap();
        let [spikes, held] = inputs(steps, 6, wiring.inputs);
        Self { model, input: if constant { held } else { spikes }, labels: labels(6, wiring.classes) }
    }

    /// The loss.
    pub fn gradients(&self) -> f64 {
        self.model.online(Credit::Eprop, &self.input, &self.labels).unwrap().loss
    }
}
