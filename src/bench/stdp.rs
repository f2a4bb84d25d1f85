//! Training by STDP: the network of Diehl & Cook with 400 neurons.

use super::{Floor, Scale, Unit, measure::Measured, measure::Timer};
use crate::engine::Input;
use crate::error::Result;
use crate::learn::stdp::{DiehlCook, Trainer};
use crate::rng::Stream;
use rand::RngExt;

/// Weights summed a cycle: a load and a sum of 8 lanes, two in a cycle.
const SUMS_PER_CYCLE: f64 = 16.0;
/// Instructions on 8 neurons in a step: two factors, three sums, two comparisons, three choices, four loads and stores.
const NEURON_INSTRUCTIONS: f64 = 14.0;
const INSTRUCTIONS_PER_CYCLE: f64 = 4.0;

/// Pictures about as bright as digits: 100 of 784 pixels lit on average.
fn pictures(samples: usize) -> Vec<u8> {
    let mut walk = Stream::named(1, "bench/pictures").walk(0);
    let pixel = |_| match walk.random::<f32>() < 0.19 {
        true => walk.random_range(90..=255u8),
        false => 0,
    };
    (0..samples * 784).map(pixel).collect()
}

fn train(scale: Scale, timer: &Timer, batch: usize) -> Result<Measured> {
    let (samples, neurons) = (scale.pick(64, 4), scale.pick(400, 10));
    let images = pictures(samples);
    let net = DiehlCook { batch, ..DiehlCook::bindsnet(neurons) };
    let (steps, mut trainer) = (net.steps(), Trainer::new(net, 784, 1)?);
    let mut passes = 0;
    let mut input_spikes = 0;
    let times = timer.measure(|| {
        passes += 1;
        input_spikes = trainer.train(Input::U8(&images), passes, &mut ())?.input_spikes;
        Ok(())
    })?;
    let sums = input_spikes as f64 * neurons as f64;
    let updates = (samples * steps * neurons) as f64;
    let what = format!(
        "{:.0} M weights summed, {SUMS_PER_CYCLE} a cycle, and {:.1} M neurons updated, {NEURON_INSTRUCTIONS} instructions for 8 of them, {INSTRUCTIONS_PER_CYCLE} a cycle",
        sums / 1e6,
        updates / 1e6
    );
    let cycles = sums / SUMS_PER_CYCLE + updates / 8.0 * NEURON_INSTRUCTIONS / INSTRUCTIONS_PER_CYCLE;
    let amount = samples as f64;
    Ok(Measured { times, unit: Unit::SamplesPerSecond, amount, floor: Floor::of(cycles, what) })
}

/// One sample after another.
pub(super) fn sequential(scale: Scale, timer: &Timer) -> Result<Measured> {
    train(scale, timer, 1)
}

/// Sixteen samples from the same weights.
pub(super) fn batch(scale: Scale, timer: &Timer) -> Result<Measured> {
    train(scale, timer, 16)
}
