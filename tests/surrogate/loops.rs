//! Networks whose spikes come late, or come back.

use std::collections::BTreeMap;
use std::sync::Arc;

use ransnn::Result;
use ransnn::engine::Input;
use ransnn::learn::surrogate::{
    Checkpoint, Credit, Data, Dropout, Encoded, Gradient, Loss, Model, Options, Trainer,
};
use ransnn::rng::Stream;
use ransnn::snn::builder::Precision;
use ransnn::snn::neurons::{Alif, Lif, Reset, Synaptic};
use ransnn::snn::scan::Spikes;
use ransnn::snn::{Encoding, Init, Network, NetworkBuilder, Neuron, Pop, Rule};
use ransnn::tensor::{DType, Surrogate, Tensor, check, grad};
use ransnn::units::Ms;

const INPUTS: usize = 20;
const CLASSES: usize = 4;
const SAMPLES: usize = 5;
const GRADIENT: Gradient = Gradient::of(Surrogate::FastSigmoid { slope: 5.0 });

fn integrator() -> Lif {
    Lif { decay: 0.95, reset: Reset::None, ..Lif::default() }
}

/// Source, target and delay in steps of each projection; population 0 is the input, the last one the output.
type Edges = &'static [(usize, usize, usize)];

/// Loops of one, of two with a delay on both ways, of three with one delay, delays of inputs and onto the output.
const TOPOLOGIES: [Edges; 4] = [
    &[(0, 1, 0), (1, 1, 3), (1, 2, 2)],
    &[(0, 1, 0), (0, 2, 4), (1, 2, 2), (2, 1, 3), (1, 1, 1), (2, 2, 2), (1, 3, 0), (2, 3, 1)],
    &[(0, 1, 0), (1, 2, 0), (2, 3, 0), (3, 1, 2), (3, 4, 0), (2, 4, 5)],
    &[(0, 1, 2), (1, 2, 30), (1, 3, 0), (2, 3, 0), (3, 3, 1)],
];

/// Sizes are 30, 33, … of hidden populations.
fn described(edges: Edges) -> NetworkBuilder {
    let last = edges.iter().map(|&(_, post, _)| post).max().unwrap();
    let mut net = Network::builder(Ms(0.5));
    let mut pops = vec![net.input("pixels", INPUTS)];
    for i in 1..last {
        pops.push(net.population(&format!("p{i}"), 27 + 3 * i, Lif { decay: 0.9, ..Lif::default() }));
    }
    pops.push(net.population("out", CLASSES, integrator()));
    for &(pre, post, delay) in edges {
        let fan_in = if pre == 0 { INPUTS } else { 30 } as f64;
        let edge = net
            .connect(pops[pre], pops[post], Rule::Dense)
            .name(format!("{pre}-{post}"))
            .weights(Init::Normal { mean: 0.4 / fan_in, std: 1.5 / fan_in.sqrt() })
            .precision(Precision::F32);
        let edge = if post % 2 == 1 { edge.bias(Init::Constant(0.02)) } else { edge };
        if delay > 0 {
            edge.delay(Ms(0.5 * delay as f64));
        }
    }
    net
}

/// Numbers from 0 to 1.
fn random(name: &str, shape: &[usize]) -> Result<Tensor> {
    check::random(name, shape, 0.0, 1.0)?.to_dtype(DType::F32)
}

/// Spikes of the input, three in ten.
fn spikes(steps: usize) -> Result<Tensor> {
    let x = random("x", &[steps, SAMPLES, INPUTS])?;
    x.greater_equal(&Tensor::full(&[1], 0.7, DType::F32)?)?.to_dtype(DType::F32)
}

/// The membranes `[T, B, C]` of the output: one step after another, one population after another, nothing taken together.
fn reference(net: &Network, parameters: &BTreeMap<String, Tensor>, x: &Tensor) -> Result<Tensor> {
    let [steps, batch] = [x.shape()[0], x.shape()[1]];
    let mut spikes: Vec<Vec<Tensor>> = vec![vec![]; net.populations.len()];
    let mut carried: Vec<Option<Tensor>> = vec![None; net.populations.len()];
    let mut shown = vec![];
    for t in 0..steps {
        for pop in net.order()? {
            let population = &net.populations[pop.0];
            let Some(model) = &population.model else {
                spikes[pop.0].push(x.narrow(0, t, 1)?.reshape(&[batch, population.size()])?);
                continue;
            };
            let lif = model.as_any().downcast_ref::<Lif>().unwrap();
            let mut u = Tensor::zeros(&[batch, population.size()], DType::F32)?;
            if let Some(carried) = &carried[pop.0] {
                u = carried.mul_scalar(lif.decay.into())?;
            }
            for p in net.incoming(pop) {
                let delay = p.delay.map_or(0, |delay| (delay.0 / net.dt.0).round() as usize);
                if t >= delay {
                    let weights = &parameters[&format!("projection.{}.weights", p.name)];
                    u = u.add(&spikes[p.pre.0][t - delay].matmul(weights)?)?;
                }
                if let Some(bias) = parameters.get(&format!("projection.{}.bias", p.name)) {
                    u = u.add(bias)?;
                }
            }
            let fired = u.add_scalar(-f64::from(lif.threshold))?.spike(GRADIENT.surrogate)?;
            if lif.reset == Reset::None {
                shown.push(u.reshape(&[1, batch, population.size()])?);
                carried[pop.0] = Some(u);
            } else {
                carried[pop.0] = Some(u.sub(&fired.detach()?.mul_scalar(lif.threshold.into())?)?);
            }
            spikes[pop.0].push(fired);
        }
    }
    Tensor::concat(&shown.iter().collect::<Vec<_>>(), 0)
}

/// Largest difference, as a share of the largest number.
fn difference(a: &Tensor, b: &Tensor) -> f32 {
    let [a, b] = [a, b].map(|t| t.to_f32().unwrap());
    assert_eq!(a.len(), b.len());
    let largest = a.iter().fold(0f32, |most, x| most.max(x.abs()));
    assert!(largest > 0.0, "all is zero");
    a.iter().zip(&b).fold(0f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

#[test]
fn gradients_are_those_of_the_plain_program() -> Result<()> {
    let mut compared = 0;
    for edges in TOPOLOGIES {
        let net = described(edges).build(3)?;
        let output = Pop(net.populations.len() - 1);
        let model = Model::new(&net, output, true, GRADIENT)?;
        assert_eq!(model.parameters.keys().filter(|name| name.ends_with("weights")).count(), edges.len());
        for steps in [1, 7, 40] {
            let x = spikes(steps)?;
            let by = random("by", &[steps, SAMPLES, CLASSES])?;
            let loss = |membranes: &Tensor| membranes.mul(&by)?.sum_all();
            let input = Encoded::Spikes(Arc::new(Spikes::of(&x)?));
            let plain = grad(&model.parameters, || loss(&reference(&net, &model.parameters, &x)?));
            let ours = grad(&model, || loss(&model.forward(&input, None)?.outputs));
            // What comes too late to count has no gradient.
            let (Ok((plain, expected)), Ok((ours, found))) = (plain, ours) else {
                assert!(steps < 40, "{edges:?}");
                continue;
            };
            compared += 1;
            assert!(difference(&plain, &ours) < 1e-5, "{edges:?} {steps}");
            for (name, expected) in expected.iter() {
                if expected.to_f32()?.iter().any(|&g| g != 0.0) {
                    let apart = difference(expected, found.get(name)?);
                    assert!(apart < 1e-4, "{edges:?} {steps} {name}: {apart}");
                }
            }
        }
    }
    assert!(compared >= 6, "{compared}");
    Ok(())
}

/// Class `c` lights the inputs with `i % 4 = c`.
fn data(samples: usize) -> (Vec<u8>, Vec<u16>) {
    let labels: Vec<u16> = (0..samples).map(|i| (i * 7 % 13 % CLASSES) as u16).collect();
    let bright = |i: usize, label: u16| if i % CLASSES == usize::from(label) { 200 } else { 40 };
    (labels.iter().flat_map(|&l| (0..INPUTS).map(move |i| bright(i, l))).collect(), labels)
}

fn options() -> Options {
    Options { gradient: GRADIENT, loss: Loss::CeMembrane, lr: 5e-3, batch: 20, epochs: 4, ..Options::new() }
}

/// Trains for some steps; gives the loss before and after.
fn learns(net: Network, encoding: Encoding, options: Options) -> [f64; 2] {
    let (samples, labels) = data(100);
    let data = Data { samples: Input::U8(&samples), labels: &labels };
    let output = Pop(net.populations.len() - 1);
    let mut trainer = Trainer::new(net, encoding, output, data, options).unwrap();
    let mut losses = vec![];
    while let Some(step) = trainer.step().unwrap() {
        losses.push(step.loss);
    }
    let found = trainer.agreement(40).unwrap();
    assert_eq!(found.differ, 0, "{found:?}");
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    [mean(&losses[..3]), mean(&losses[losses.len() - 3..])]
}

#[test]
fn the_engine_runs_what_was_trained() {
    for edges in TOPOLOGIES {
        for encoding in [Encoding::Bernoulli { steps: 14, gain: 0.8 }, Encoding::Constant { steps: 10 }] {
            let delayed_input = edges.iter().any(|&(pre, _, delay)| pre == 0 && delay > 0);
            if !(encoding.is_constant() && delayed_input) {
                let [before, after] = learns(described(edges).build(4).unwrap(), encoding, options());
                assert!(after < 0.8 * before, "{edges:?} {encoding:?}: {before} {after}");
            }
        }
    }
}

#[test]
fn adapting_and_second_order_neurons_learn_in_loops() {
    let synaptic = Synaptic { reset: Reset::Subtract, ..Synaptic::new(0.6, 0.9) };
    for edges in [TOPOLOGIES[0], TOPOLOGIES[1], &[(0, 1, 0), (1, 1, 1), (1, 2, 0)]] {
        for (kind, model) in [0, 1].map(|i| -> (&str, Box<dyn Neuron>) {
            match i {
                0 => ("alif", Box::new(Alif::new(0.9, 0.95, 0.2))),
                _ => ("synaptic", Box::new(synaptic)),
            }
        }) {
            let mut net = described(edges).build(6).unwrap();
            net.populations[1].model = Some(model);
            let encoding = Encoding::Bernoulli { steps: 14, gain: 0.8 };
            let [before, after] = learns(net, encoding, options());
            assert!(after < 0.8 * before, "{kind} {edges:?}: {before} {after}");
        }
    }
}

#[test]
fn feedback_of_convolutions_and_through_frozen_layers() {
    let conv = |kernel| Rule::Conv2d { kernel, stride: 1, padding: kernel / 2, pool: 1, max_pool: 1 };
    let lif = Lif { decay: 0.9, ..Lif::default() };
    let build = |frozen: bool| {
        let mut net = Network::builder(Ms(1.0));
        let pixels = net.input("pixels", [1, 4, 5]);
        let maps = net.population("maps", [3, 4, 5], lif);
        let above = net.population("above", [2, 4, 5], lif);
        let out = net.population("out", CLASSES, integrator());
        let all = [
            (pixels, maps, conv(3), 0.0),
            (maps, maps, conv(3), 1.0),
            (maps, above, conv(3), 0.0),
            (above, maps, conv(1), 2.0),
        ];
        for (from, to, rule, delay) in all {
            let edge = net.connect(from, to, rule).weights(Init::Normal { mean: 0.05, std: 0.3 });
            let edge = if delay > 0.0 { edge.delay(Ms(delay)) } else { edge };
            if frozen {
                edge.frozen().precision(Precision::Int8);
            } else {
                edge.precision(Precision::F32);
            }
        }
        net.connect(above, out, Rule::Dense).precision(Precision::F32);
        net.build(9).unwrap()
    };
    for frozen in [false, true] {
        // Frozen layers run in the engine, and training begins with their spikes.
        let [before, after] = learns(build(frozen), Encoding::Bernoulli { steps: 9, gain: 0.7 }, options());
        assert!(after < 0.9 * before, "{frozen}: {before} {after}");
    }
}

#[test]
fn a_frozen_loop_within_what_learns() {
    let mut net = Network::builder(Ms(1.0));
    let lif = Lif { decay: 0.9, ..Lif::default() };
    let pixels = net.input("pixels", INPUTS);
    let first = net.population("first", 30, lif);
    let reservoir = net.population("reservoir", 64, lif);
    let out = net.population("out", CLASSES, integrator());
    let weights = |std| Init::Normal { mean: 0.02, std };
    net.connect(pixels, first, Rule::Dense).weights(weights(0.3)).precision(Precision::F32);
    net.connect(first, reservoir, Rule::FixedInDegree { k: 10 }).weights(weights(0.4)).frozen();
    net.connect(reservoir, reservoir, Rule::FixedInDegree { k: 6 })
        .weights(weights(0.3))
        .delay(Ms(2.0))
        .frozen();
    net.connect(reservoir, out, Rule::Dense).precision(Precision::F32);
    let encoding = Encoding::Bernoulli { steps: 12, gain: 0.8 };
    let [before, after] = learns(net.build(2).unwrap(), encoding, options());
    assert!(after < 0.8 * before, "{before} {after}");
}

#[test]
fn silenced_neurons_stay_silent_in_a_loop() -> Result<()> {
    let net = described(TOPOLOGIES[1]).build(3)?;
    let model = Model::new(&net, Pop(3), true, GRADIENT)?;
    let x = Encoded::Constant(random("x", &[SAMPLES, INPUTS])?, 20);
    let Err(delayed) = model.forward(&x, None) else { panic!("a constant current was late") };
    assert!(delayed.to_string().contains("constant current"), "{delayed}");
    let input = Encoded::Spikes(Arc::new(Spikes::of(&spikes(20)?)?));
    let run = |share: f64| {
        let dropout = Dropout { share, stream: Stream::named(1, "dropout"), call: 3 };
        model.forward(&input, Some(dropout))?.outputs.to_f32()
    };
    assert_eq!(run(0.0)?, model.forward(&input, None)?.outputs.to_f32()?);
    assert_ne!(run(0.5)?, run(0.0)?);
    Ok(())
}

#[test]
fn what_has_no_gradient_is_refused_by_name() {
    let (samples, labels) = data(40);
    let data = Data { samples: Input::U8(&samples), labels: &labels };
    let refused = |net: NetworkBuilder, encoding: Encoding, options: Options| {
        Trainer::new(net.build(1).unwrap(), encoding, Pop(2), data, options).err().unwrap().to_string()
    };
    let edges = TOPOLOGIES[0];
    let bernoulli = Encoding::Bernoulli { steps: 12, gain: 0.8 };
    let pieces = refused(described(edges), bernoulli, Options { checkpoint: Checkpoint::Sqrt, ..options() });
    assert!(pieces.contains("`1-1`: its delay reaches from one stretch into the next"), "{pieces}");
    let online = refused(described(edges), bernoulli, Options { credit: Credit::Ottt, ..options() });
    assert!(online.contains("`1-1`: it has a delay"), "{online}");
    let mut normalized = options();
    normalized.gradient.normalize = true;
    let normalized = refused(described(edges), bernoulli, normalized);
    assert!(normalized.contains("`1-1`: it is normalised over all steps"), "{normalized}");
    const LATE: Edges = &[(0, 1, 1), (1, 2, 0)];
    let constant = refused(described(LATE), Encoding::Constant { steps: 4 }, options());
    assert!(constant.contains("`0-1` carries a constant current"), "{constant}");
}
