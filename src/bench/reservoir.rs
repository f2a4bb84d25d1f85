//! Features of frozen layers. The reasoning behind the floors stands in `benches/reservoir.rs`.

use super::{Floor, Scale, Unit, measure::Measured, measure::Timer};
use crate::engine::{Activity, Events, Input, Presentation, Probe, Recording, What, cuda};
use crate::error::{Error, Result};
use crate::experiment::{build, check, diagnose::Source};
use crate::learn::ransnn::{Reservoir, calibrate};
use crate::rng::Stream;
use crate::snn::encode::{bernoulli, bernoulli_threshold};
use crate::snn::neurons::{Fires, Lif};
use crate::snn::{Encoding, Init, Network, Pop, Rule};
use crate::tensor::cuda::Gpu;
use crate::units::Ms;

const INPUTS: usize = 784;
/// Largest probability of an input to fire in a step.
const GAIN: f32 = 0.25;

/// Delivered spikes a cycle: 64 targets take 10 instructions, of which a core starts six a cycle.
const EVENTS_PER_CYCLE: f64 = 38.0;
/// Random 16-bit numbers a cycle: 64 of them take ten rounds of Philox on 8 lanes, about 180 vector instructions, of
/// which a core starts three a cycle.
const DRAWS_PER_CYCLE: f64 = 1.0;
/// Instructions of a GPU's lane for a delivered spike: two targets are added at once, unpacked by a mask or a shift.
const GPU_INSTRUCTIONS_PER_EVENT: f64 = 1.25;
/// Instructions for a random number: ten rounds of Philox of six, for eight numbers, and a comparison.
const GPU_INSTRUCTIONS_PER_DRAW: f64 = 9.0;
/// Instructions for a multiply-accumulate: a byte is unpacked first.
const GPU_INSTRUCTIONS_PER_MAC: f64 = 2.0;
/// Multiply-accumulates of bytes a cycle: two 32-byte multipliers, and the additions between.
const MACS_PER_CYCLE: f64 = 42.0;

/// The workload that other frameworks are measured on: see `benches/peers.md`.
pub(super) fn features(scale: Scale, timer: &Timer) -> Result<Measured> {
    frozen_layer(scale, timer, true)
}

/// The same without the encoder.
pub(super) fn features_events(scale: Scale, timer: &Timer) -> Result<Measured> {
    frozen_layer(scale, timer, false)
}

/// On a GPU, from 8-bit intensities.
pub(super) fn features_on_gpu(scale: Scale, timer: &Timer, gpu: &Gpu) -> Result<Measured> {
    let layer = Layer::new(scale)?;
    let engine = layer.engine()?;
    let pixels: Vec<u8> = layer.x.iter().map(|x| (255.0 * x).round() as u8).collect();
    let (batch, stream) = (layer.ids.len(), engine.stream("train", 0));
    let features = cuda::Features::new(gpu, &engine)?;
    let (mut recording, mut activity) = (Recording::default(), Activity::default());
    let times = timer.measure(|| {
        let started = features.start(Input::U8(&pixels), &layer.ids, &stream)?;
        activity = features.collect(&started, &mut recording)?;
        Ok(())
    })?;
    must_spike(activity.spikes[layer.hidden.0])?;
    let events = activity.synaptic_operations as f64;
    // Every tile of 256 targets draws for itself.
    let tiles = layer.net.populations[layer.hidden.0].size().div_ceil(256);
    let draws = (batch * INPUTS * layer.steps * tiles) as f64;
    let instructions = events * GPU_INSTRUCTIONS_PER_EVENT + draws * GPU_INSTRUCTIONS_PER_DRAW;
    let what = format!(
        "{:.0} M delivered spikes of {GPU_INSTRUCTIONS_PER_EVENT} instructions and {:.1} M random numbers of {GPU_INSTRUCTIONS_PER_DRAW}",
        events / 1e6,
        draws / 1e6
    );
    let floor = Floor::of_gpu_instructions(gpu, instructions, what);
    Ok(Measured { times, unit: Unit::SamplesPerSecond, amount: batch as f64, floor })
}

/// The layer, and a batch of samples.
struct Layer {
    net: Network,
    hidden: Pop,
    steps: usize,
    x: Vec<f32>,
    ids: Vec<u64>,
}

impl Layer {
    fn new(scale: Scale) -> Result<Self> {
        let (neurons, steps, batch) = (scale.pick(2000, 65), scale.pick(50, 20), scale.pick(128, 3));
        let lif = Lif { fires: Fires::Above, ..Lif::default() };
        let mut builder = Network::builder(Ms(1.0));
        let pixels = builder.input("pixels", INPUTS);
        let hidden = builder.population("hidden", neurons, lif);
        let std = (INPUTS as f64).powf(-0.5);
        builder.connect(pixels, hidden, Rule::Dense).weights(Init::Normal { mean: 0.0, std }).frozen();
        let draw = Stream::named(2, "bench/rates");
        let unit = |i: usize| (draw.block([i as u32, 0, 0, 0])[0] >> 8) as f32 / (1 << 24) as f32;
        let x = (0..batch * INPUTS).map(unit).collect();
        Ok(Self { net: builder.build(1)?, hidden, steps, x, ids: (0..batch as u64).collect() })
    }

    fn engine(&self) -> Result<Presentation<'_>> {
        let encoding = Encoding::Bernoulli { steps: self.steps, gain: GAIN };
        let probes = [Probe { population: self.hidden, what: What::Counts }];
        Presentation::compile(&self.net, &encoding, &probes)
    }
}

fn frozen_layer(scale: Scale, timer: &Timer, encode: bool) -> Result<Measured> {
    let layer = Layer::new(scale)?;
    let engine = layer.engine()?;
    let Layer { hidden, steps, ref x, ref ids, .. } = layer;
    let (batch, stream) = (ids.len(), engine.stream("train", 0));
    let lists = if encode { vec![] } else { drawn(x, &stream, batch, steps)? };
    let input = if encode { Input::F32(x) } else { Input::Events(&lists) };
    let (mut recording, mut activity) = (Recording::default(), Activity::default());
    let times = timer.measure(|| {
        activity = engine.run(input, ids, &stream, &mut recording)?;
        Ok(())
    })?;
    must_spike(activity.spikes[hidden.0])?;

    let events = activity.synaptic_operations as f64;
    let mut cycles = events / EVENTS_PER_CYCLE;
    let mut what = format!("{:.0} M delivered spikes, {EVENTS_PER_CYCLE} a cycle", events / 1e6);
    if encode {
        let draws = (batch * INPUTS * steps) as f64;
        cycles += draws / DRAWS_PER_CYCLE;
        what += &format!(", and {:.1} M random numbers, {DRAWS_PER_CYCLE} a cycle", draws / 1e6);
    }
    Ok(Measured { times, unit: Unit::SamplesPerSecond, amount: batch as f64, floor: Floor::of(cycles, what) })
}

/// The spikes that the encoder would draw.
fn drawn(x: &[f32], stream: &Stream, batch: usize, steps: usize) -> Result<Vec<Events>> {
    let fires = |sample: usize, step: usize, j: u32| {
        let threshold = bernoulli_threshold(x[sample * INPUTS + j as usize], GAIN);
        bernoulli(stream, threshold, sample as u64, step as u32, j)
    };
    let list = |sample, step| (0..INPUTS as u32).filter(|&j| fires(sample, step, j)).collect();
    (0..batch).map(|sample| Events::new(INPUTS, (0..steps).map(|step| list(sample, step)))).collect()
}

/// The features of `mnist.toml` as its run computes them, on the built-in digits.
pub(super) fn conv(scale: Scale, timer: &Timer) -> Result<Measured> {
    convolutions(scale, timer, None)
}

/// The same on a GPU.
pub(super) fn conv_on_gpu(scale: Scale, timer: &Timer, gpu: &Gpu) -> Result<Measured> {
    convolutions(scale, timer, Some(gpu))
}

fn convolutions(scale: Scale, timer: &Timer, gpu: Option<&Gpu>) -> Result<Measured> {
    let batch = scale.pick(128, 2);
    let text = include_str!("../../mnist.toml");
    let config = check::load(&Source::new("mnist.toml", text, &[])?)?;
    let data = crate::data::strokes(1, scale.pick(500, 10), 1);
    let crate::data::Samples::U8(pixels) = &data.train.samples else {
        return Err(Error::Internal("the built-in digits are 8-bit images".into()));
    };
    let features = data.features();
    let first = |samples: usize| Input::U8(&pixels[..samples * features]);
    let mut net = build::network(&config, config.seed)?;
    let encoding = build::encoding(&config);
    calibrate(&mut net, &encoding, &build::tuning(&config), first(data.train.len()), data.train.len())?;
    let probes = build::probes(&config, &net);
    let coding = build::coding(&config);
    let reservoir =
        Reservoir::new(&net, &encoding, &probes, coding, first(data.train.len()), data.train.len())?;
    let reservoir = match gpu {
        Some(gpu) => reservoir.on(gpu)?,
        None => reservoir,
    };

    let ids: Vec<u64> = (0..batch as u64).collect();
    let stream = reservoir.engine().stream("train", 0);
    let mut codes = vec![0; batch * reservoir.width()];
    let (mut recording, mut activity) = (Recording::default(), Activity::default());
    let times = timer.measure(|| {
        activity = reservoir.codes(first(batch), &ids, &stream, &mut recording, &mut codes)?;
        Ok(())
    })?;
    must_spike(activity.spikes.iter().sum())?;
    let macs = activity.analogue_operations as f64;
    let what = format!("{:.0} M multiply-accumulates of bytes, those of blank patches included", macs / 1e6);
    let floor = match gpu {
        Some(gpu) => Floor::of_gpu_instructions(gpu, macs * GPU_INSTRUCTIONS_PER_MAC, what),
        None => Floor::of(macs / MACS_PER_CYCLE, format!("{what}, {MACS_PER_CYCLE} a cycle")),
    };
    Ok(Measured { times, unit: Unit::SamplesPerSecond, amount: batch as f64, floor })
}

/// A silent layer would be measured as a very fast one.
fn must_spike(spikes: u64) -> Result<()> {
    if spikes > 0 { Ok(()) } else { Err(Error::Internal("the benchmark's layer is silent".into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_events_are_those_of_the_encoder() -> Result<()> {
        let mut builder = Network::builder(Ms(1.0));
        let pixels = builder.input("pixels", INPUTS);
        let hidden = builder.population("hidden", 70, Lif::default());
        builder.connect(pixels, hidden, Rule::Dense).frozen();
        let net = builder.build(3)?;
        let probes = [Probe { population: hidden, what: What::Counts }];
        let engine = Presentation::compile(&net, &Encoding::Bernoulli { steps: 9, gain: GAIN }, &probes)?;
        let x: Vec<f32> = (0..2 * INPUTS).map(|i| (i % 97) as f32 / 96.0).collect();
        let stream = engine.stream("train", 0);
        let lists = drawn(&x, &stream, 2, 9)?;
        let mut tables = vec![];
        for input in [Input::F32(&x), Input::Events(&lists)] {
            let mut recording = Recording::default();
            let activity = engine.run(input, &[0, 1], &stream, &mut recording)?;
            assert!(activity.spikes[1] > 0, "{activity:?}");
            tables.push((recording.tables, activity));
        }
        assert_eq!(tables[0], tables[1]);
        Ok(())
    }
}
