//! Training whole networks by surrogate gradients, and running what comes out: the workloads that other frameworks
//! are measured on, see `benches/peers.md`.

use super::{Floor, Scale, Unit, measure::Measured, measure::Timer};
use crate::engine::{Input, Presentation, Probe, Recording, What};
use crate::error::{Error, Result};
use crate::learn::surrogate::{
    Checkpoint, Credit, Data, Encoded, Gradient, Loss, Method, Options, RatePenalty, Trainer,
};
use crate::rng::Stream;
use crate::snn::neurons::{Fires, Lif};
use crate::snn::{Encoding, Init, Network, Pop, Rule};
use crate::tensor::Surrogate;
use crate::units::Ms;

const INPUTS: usize = 784;
const CLASSES: usize = 10;
/// Largest probability of an input to fire in a step.
const RATE: f32 = 0.25;
/// Weights are uniform in ± GAIN/√fan-in: about 7 % of the hidden neurons fire in a step.
const GAIN: f64 = 2.0;

/// Weights added a cycle for spikes: two loads and two sums of 8 lanes.
const SUMS_PER_CYCLE: f64 = 16.0;
/// Multiplications with additions a cycle: two of 8 lanes.
const PRODUCTS_PER_CYCLE: f64 = 16.0;
/// Samples of a conv net whose activations are in memory together.
const PIECE: usize = 8;
/// Bytes a cycle between a core and memory beyond its caches.
const BYTES_PER_CYCLE: f64 = 4.0;

/// 784-HIDDEN-10, all to all.
struct Mlp {
    net: Network,
    hidden: Pop,
    output: Pop,
    neurons: usize,
    steps: usize,
    batch: usize,
    /// Probability of each input, `[batch, INPUTS]`, as a share of [`RATE`].
    rates: Vec<f32>,
    labels: Vec<u16>,
}

impl Mlp {
    fn new(scale: Scale) -> Result<Self> {
        let (neurons, steps, batch) = (scale.pick(1000, 65), scale.pick(25, 8), scale.pick(128, 3));
        let lif = Lif { decay: 0.95, fires: Fires::Above, ..Lif::default() };
        let mut builder = Network::builder(Ms(1.0));
        let pixels = builder.input("pixels", INPUTS);
        let hidden = builder.population("hidden", neurons, lif);
        let output = builder.population("output", CLASSES, lif);
        for (pre, post, fan_in) in [(pixels, hidden, INPUTS), (hidden, output, neurons)] {
            let bound = GAIN / (fan_in as f64).sqrt();
            let init = Init::Uniform { low: -bound, high: bound };
            builder.connect(pre, post, Rule::Dense).weights(init).bias(Init::Constant(0.0));
        }
        Ok(Self {
            net: builder.build(1)?,
            hidden,
            output,
            neurons,
            steps,
            batch,
            rates: uniform(batch * INPUTS),
            labels: (0..batch).map(|i| (i * 7 % CLASSES) as u16).collect(),
        })
    }

    fn encoding(&self) -> Encoding {
        Encoding::Bernoulli { steps: self.steps, gain: RATE }
    }
}

/// Numbers of 0 to 1.
fn uniform(n: usize) -> Vec<f32> {
    let draw = Stream::named(2, "bench/rates");
    (0..n).map(|i| (draw.block([i as u32, 0, 0, 0])[0] >> 8) as f32 / (1 << 24) as f32).collect()
}

fn options(batch: usize) -> Options {
    Options {
        loss: Loss::CeCount,
        penalty: RatePenalty::default(),
        gradient: Gradient::of(Surrogate::FastSigmoid { slope: 25.0 }),
        credit: Credit::Bptt,
        method: Method::Adam,
        // Training goes nowhere, so that every step has the same spikes.
        lr: 0.0,
        weight_decay: 0.0,
        cosine: false,
        warmup: 0,
        clip: 0.0,
        dropout: 0.0,
        batch,
        micro_batch: 0,
        checkpoint: Checkpoint::None,
        epochs: 1,
        held_out: 0,
        patience: 0,
    }
}

/// A training step on spikes that were drawn before: forward, backward, Adam.
pub(super) fn mlp(scale: Scale, timer: &Timer) -> Result<Measured> {
    let mlp = Mlp::new(scale)?;
    let (neurons, steps, batch, output) = (mlp.neurons, mlp.steps, mlp.batch, mlp.output);
    let encoding = mlp.encoding();
    let data = Data { samples: Input::F32(&mlp.rates), labels: &mlp.labels };
    let mut trainer = Trainer::new(mlp.net, encoding, output, data, options(batch))?;
    let ids: Vec<u64> = (0..batch as u64).collect();
    let input = trainer.encode(&ids, &Stream::named(1, "bench/spikes"))?;
    let labels: Vec<u32> = mlp.labels.iter().map(|&label| label.into()).collect();
    let Encoded::Spikes(spikes) = &input else {
        return Err(Error::Internal("the inputs of this benchmark spike".into()));
    };
    let first = spikes.len() as f64 * neurons as f64;
    let hidden = fired(&trainer.model().forward(&input, None)?.hidden[0].spikes)?;
    let second = hidden * CLASSES as f64;
    let times = timer.measure(|| trainer.update(&input, &labels).map(|_| ()))?;

    // Forward and by the weights: a sum for each spike and target. By the hidden spikes: a product for each neuron and
    // class.
    let sums = 2.0 * (first + second);
    let products = (steps * batch * neurons * CLASSES) as f64;
    // Currents, potentials and their gradient are written and read once; Adam reads four numbers and writes three.
    let bytes = 4.0 * (6 * steps * batch * neurons + 7 * trainer.model().size()) as f64;
    let what = format!(
        "{:.0} M weights and gradients added for spikes, {SUMS_PER_CYCLE} a cycle, {:.0} M products, {PRODUCTS_PER_CYCLE} a cycle, and {:.0} MB moved, {BYTES_PER_CYCLE} bytes a cycle",
        sums / 1e6,
        products / 1e6,
        bytes / 1e6
    );
    let cycles = sums / SUMS_PER_CYCLE + products / PRODUCTS_PER_CYCLE + bytes / BYTES_PER_CYCLE;
    Ok(Measured { times, unit: Unit::SamplesPerSecond, amount: batch as f64, floor: Floor::of(cycles, what) })
}

/// A training step of 12c5-mp2-64c5-mp2-10 on images that act as constant currents: the largest current of 2 × 2 drives a
/// neuron.
pub(super) fn conv(scale: Scale, timer: &Timer) -> Result<Measured> {
    let (maps, parts) = (12, 64);
    let (steps, batch) = (scale.pick(25, 8), scale.pick(128, 3));
    let lif = Lif { decay: 0.5, fires: Fires::Above, ..Lif::default() };
    let mut builder = Network::builder(Ms(1.0));
    let pixels = builder.input("pixels", [1, 28, 28]);
    let first = builder.population("maps", [maps, 12, 12], lif);
    let second = builder.population("parts", [parts, 4, 4], lif);
    let output = builder.population("output", CLASSES, lif);
    let kernel = Rule::Conv2d { kernel: 5, stride: 1, padding: 0, pool: 1, max_pool: 2 };
    for (pre, post, fan_in, rule) in [
        (pixels, first, 25, kernel.clone()),
        (first, second, maps * 25, kernel),
        (second, output, parts * 16, Rule::Dense),
    ] {
        let bound = GAIN / (fan_in as f64).sqrt();
        let init = Init::Uniform { low: -bound, high: bound };
        builder.connect(pre, post, rule).weights(init).bias(Init::Constant(0.0));
    }
    let net = builder.build(1)?;
    let (sources, targets) = (maps * 144, parts * 16);
    // Targets that a spike of the first layer reaches, those with less than a whole kernel counted.
    let reached = net.projections[1].weights.synapses() as f64 / sources as f64;
    let images = digit_like(batch);
    let labels: Vec<u16> = (0..batch).map(|i| (i * 7 % CLASSES) as u16).collect();
    let data = Data { samples: Input::F32(&images), labels: &labels };
    let options = Options { micro_batch: PIECE, ..options(batch) };
    let mut trainer = Trainer::new(net, Encoding::Constant { steps }, output, data, options)?;
    let ids: Vec<u64> = (0..batch as u64).collect();
    let input = trainer.encode(&ids, &Stream::named(1, "bench/spikes"))?;
    let mut spikes = [0.0; 2];
    for start in (0..batch).step_by(PIECE) {
        let pass = trainer.model().forward(&input.samples(start..batch.min(start + PIECE))?, None)?;
        for (spikes, layer) in spikes.iter_mut().zip(&pass.hidden) {
            *spikes += fired(&layer.spikes)?;
        }
    }
    let labels: Vec<u32> = labels.iter().map(|&label| label.into()).collect();
    let times = timer.measure(|| trainer.update(&input, &labels).map(|_| ()))?;

    // The first layer acts on the image once for all steps: a product each, forward and by the weights. After it spikes
    // are added, and by the inputs there is a product for each current that was the largest.
    let sums = 2.0 * (spikes[0] * reached + spikes[1] * CLASSES as f64);
    let held = 2 * batch * maps * 24 * 24 * 25;
    let products = held + steps * batch * targets * (maps * 25 + CLASSES);
    let rate = |i: usize, neurons: usize| 100.0 * spikes[i] / (steps * batch * neurons) as f64;
    let what = format!(
        "{:.0} M weights and gradients added for spikes ({:.1} and {:.1} % fire), {SUMS_PER_CYCLE} a cycle, and {:.0} M products, {PRODUCTS_PER_CYCLE} a cycle",
        sums / 1e6,
        rate(0, sources),
        rate(1, targets),
        products as f64 / 1e6
    );
    let floor = Floor::of(sums / SUMS_PER_CYCLE + products as f64 / PRODUCTS_PER_CYCLE, what);
    Ok(Measured { times, unit: Unit::SamplesPerSecond, amount: batch as f64, floor })
}

/// Images of 28 × 28 with a digit's statistics: about a fifth of the pixels lit, mean 0.13.
fn digit_like(images: usize) -> Vec<f32> {
    let (level, lit) = (uniform(images * INPUTS), uniform(2 * images * INPUTS).split_off(images * INPUTS));
    let pixel = |i: usize| {
        let (y, x) = (i % INPUTS / 28, i % 28);
        let inside = (5..23).contains(&y) && (8..20).contains(&x);
        if inside && lit[i] < 0.7 { 0.35 + 0.65 * level[i] } else { 0.0 }
    };
    (0..images * INPUTS).map(pixel).collect()
}

/// Number of ones; a silent layer would be measured as a very fast one.
fn fired(spikes: &crate::tensor::Tensor) -> Result<f64> {
    match spikes.sum_all()?.to_scalar()? {
        0.0 => Err(Error::Internal("the benchmark's layer is silent".into())),
        n => Ok(n),
    }
}

/// Spike counts of the outputs of the same network, from spikes that were drawn before.
pub(super) fn infer(scale: Scale, timer: &Timer) -> Result<Measured> {
    let mlp = Mlp::new(scale)?;
    let encoding = mlp.encoding();
    let ids: Vec<u64> = (0..mlp.batch as u64).collect();
    let stream = Stream::named(1, "bench/spikes");
    let lists = crate::engine::encode(&encoding, INPUTS, Input::F32(&mlp.rates), &ids, &stream)?;
    let probes = [Probe { population: mlp.output, what: What::Counts }];
    let engine = Presentation::compile(&mlp.net, &encoding, &probes)?;
    let mut recording = Recording::default();
    let mut activity = Default::default();
    let times = timer.measure(|| {
        activity = engine.run(Input::Events(&lists), &ids, &stream, &mut recording)?;
        Ok(())
    })?;
    if activity.spikes[mlp.hidden.0] == 0 {
        return Err(Error::Internal("the benchmark's layer is silent".into()));
    }
    let sums = activity.synaptic_operations as f64;
    let what = format!("{:.0} M weights added for spikes, {SUMS_PER_CYCLE} a cycle", sums / 1e6);
    let floor = Floor::of(sums / SUMS_PER_CYCLE, what);
    Ok(Measured { times, unit: Unit::SamplesPerSecond, amount: mlp.batch as f64, floor })
}
