//! Fits of the readout on features of the usual size.

use super::{Floor, Scale, Unit, measure::Measured, measure::Timer};
use crate::error::Result;
use crate::learn::adam::{Options, Rows, Trainer};
use crate::learn::ridge::NormalEquations;
use crate::rng::Stream;
use rand::RngExt;

const CLASSES: usize = 10;
const CODE_MAX: u8 = 31;

/// Products of codes a cycle: two `vpmaddubsw` of 32 products each.
const PRODUCTS_PER_CYCLE: f64 = 64.0;
/// Multiply-accumulates in 32-bit floating point a cycle: two products and two sums of 8 lanes.
const FLOAT_MACS_PER_CYCLE: f64 = 16.0;
/// Cycles that Adam spends on one parameter: 8 lanes wait for a square root and a division, 10 cycles.
const UPDATE_CYCLES: f64 = 10.0 / 8.0;

/// Codes that have something to do with their labels, as those of a reservoir have.
fn codes(samples: usize, features: usize) -> (Vec<u8>, Vec<u16>) {
    let mut walk = Stream::named(1, "bench/codes").walk(0);
    let labels: Vec<u16> = (0..samples).map(|_| walk.random_range(0..CLASSES as u16)).collect();
    let mut rows = Vec::with_capacity(samples * features);
    for &label in &labels {
        for feature in 0..features {
            let bright = feature % CLASSES == usize::from(label);
            rows.push(walk.random_range(0..=if bright { CODE_MAX } else { CODE_MAX - 5 }));
        }
    }
    (rows, labels)
}

/// Normal equations and one solution.
pub(super) fn ridge(scale: Scale, timer: &Timer) -> Result<Measured> {
    let (samples, features) = (scale.pick(10_000, 100), scale.pick(2000, 20));
    let (rows, labels) = codes(samples, features);
    let times = timer.measure(|| {
        let mut equations = NormalEquations::new(features, CLASSES, CODE_MAX)?;
        equations.add(&rows, &labels)?;
        std::hint::black_box(equations.solve(100.0)?);
        Ok(())
    })?;
    let (n, h) = (samples as f64, features as f64);
    let (products, solve) = (n * h * (h + 1.0) / 2.0, h * h * h / 6.0);
    let what = format!(
        "{:.1} G products of codes, {PRODUCTS_PER_CYCLE} a cycle, and {:.1} G floating-point multiply-accumulates of a Cholesky factorisation, {FLOAT_MACS_PER_CYCLE} a cycle",
        products / 1e9,
        solve / 1e9
    );
    let floor = Floor::of(products / PRODUCTS_PER_CYCLE + solve / FLOAT_MACS_PER_CYCLE, what);
    Ok(Measured { times, unit: Unit::SamplesPerSecond, amount: n, floor })
}

/// The paper's readout phase: one pass over the samples.
pub(super) fn adam(scale: Scale, timer: &Timer) -> Result<Measured> {
    let (steps, batch, features) = (scale.pick(400, 3), scale.pick(128, 16), scale.pick(2000, 20));
    let (rows, labels) = codes(steps * batch, features);
    let rows = Rows::U8(rows);
    let options = Options { lr: 5e-4, batch, epochs: 1, batches: steps };
    let times = timer.measure(|| {
        let stream = Stream::named(1, "bench/adam");
        let mut trainer = Trainer::new(&rows, &labels, CLASSES, options, stream)?;
        while trainer.step()?.is_some() {}
        std::hint::black_box(trainer.finish());
        Ok(())
    })?;
    // Forwards and for the gradient.
    let macs = 2.0 * (steps * batch * features * CLASSES) as f64;
    let updates = (steps * CLASSES * (features + 1)) as f64;
    let what = format!(
        "{:.2} G floating-point multiply-accumulates, {FLOAT_MACS_PER_CYCLE} a cycle, and {:.1} M updates, {UPDATE_CYCLES} cycles each",
        macs / 1e9,
        updates / 1e6
    );
    let floor = Floor::of(macs / FLOAT_MACS_PER_CYCLE + updates * UPDATE_CYCLES, what);
    Ok(Measured { times, unit: Unit::SecondsPerStep, amount: steps as f64, floor })
}
