//! Adapters on the linear maps of a Llama block: width 512, keys and values of 256, feed-forward of 1376, 1024 tokens.

use super::{Floor, Scale, Unit, measure::Measured, measure::Timer};
use crate::error::Result;
use crate::nn::{Adam, Optimizer};
use crate::peft::{self, Boft, Host, Kind, Method, Site, Slot, Targets};
use crate::tensor::{DType, Tensor, check, grad};

/// Multiply-accumulates in 32-bit floating point a cycle: two fused instructions of 8 lanes.
const MACS_PER_CYCLE: f64 = 16.0;

/// A path, a weight, its adapters.
struct Maps(Vec<(&'static str, Tensor, Slot)>);

impl Host for Maps {
    fn visit_sites(&mut self, f: &mut dyn FnMut(Site<'_>)) {
        for (path, weight, slot) in &mut self.0 {
            f(Site { path, weight, bias: None, slot, kind: Kind::Linear });
        }
    }
}

impl Maps {
    fn new(scale: Scale) -> Result<Self> {
        let (width, narrow, wide) = (scale.pick(512, 16), scale.pick(256, 8), scale.pick(1376, 32));
        let shapes = [
            ("q_proj", width, width),
            ("k_proj", narrow, width),
            ("v_proj", narrow, width),
            ("o_proj", width, width),
            ("gate_proj", wide, width),
            ("up_proj", wide, width),
            ("down_proj", width, wide),
        ];
        let map = |(path, out, inputs): (&'static str, usize, usize)| {
            let weight = check::random(path, &[out, inputs], -0.05, 0.05)?.to_dtype(DType::F32)?;
            Ok((path, weight, Slot::default()))
        };
        Ok(Self(shapes.into_iter().map(map).collect::<Result<_>>()?))
    }

    fn attach(&mut self) -> Result<()> {
        let method = Method::from(Boft { factors: 2, ..Boft::default() });
        peft::attach(self, &method, &Targets::all_linear(), "default", 0).map(|_| ())
    }

    /// Multiply-accumulates of one row through all weights, and numbers that go in.
    fn sizes(&self) -> (f64, f64) {
        let of = |f: fn(&Tensor) -> usize| self.0.iter().map(|(_, weight, _)| f(weight) as f64).sum();
        (of(Tensor::len), of(|weight| weight.shape()[1]))
    }
}

/// Forward, backward and AdamW on BOFT of two factors of blocks of 4, on all seven maps.
pub(super) fn boft(scale: Scale, timer: &Timer) -> Result<Measured> {
    let mut maps = Maps::new(scale)?;
    maps.attach()?;
    let (macs, inputs) = maps.sizes();
    let tokens = scale.pick(1024, 8);
    let x = |maps: &Maps, i: usize| {
        let inputs = maps.0[i].1.shape()[1];
        check::random("x", &[tokens, inputs], -1.0, 1.0)?.to_dtype(DType::F32)
    };
    let all = (0..maps.0.len()).map(|i| x(&maps, i)).collect::<Result<Vec<_>>>()?;
    let mut adam = Adam::decoupled(1e-4, 0.01);
    let mut params = peft::parameters(&mut maps);
    let times = timer.measure(|| {
        let mut inputs = params.clone();
        // Inputs need gradients as they do inside of a model.
        inputs.extend(all.iter().enumerate().map(|(i, x)| (format!("x{i}"), x.clone())));
        let (_, grads) = grad(&inputs, || {
            let mut sum: Option<Tensor> = None;
            for ((_, weight, slot), x) in maps.0.iter().zip(&all) {
                let loss = slot.apply(x, weight, None)?.mean_all()?;
                sum = Some(match sum {
                    Some(sum) => sum.add(&loss)?,
                    None => loss,
                });
            }
            sum.ok_or_else(|| crate::Error::Internal("there are maps".into()))
        })?;
        adam.step(&mut params, &grads)?;
        peft::store(&mut maps, &params)
    })?;
    // Two factors of 4: 8 a number, forward, again in the gradient of the rotation, and once more for the input.
    let turns = 3.0 * 8.0 * inputs;
    let total = tokens as f64 * (2.0 * macs + turns);
    let what = format!("{:.2} G multiply-accumulates, {MACS_PER_CYCLE} a cycle", total / 1e9);
    Ok(Measured {
        times,
        unit: Unit::SecondsPerStep,
        amount: 1.0,
        floor: Floor::of(total / MACS_PER_CYCLE, what),
    })
}

/// Merging and unmerging the same; a step is all seven maps.
pub(super) fn merge(scale: Scale, timer: &Timer) -> Result<Measured> {
    let mut maps = Maps::new(scale)?;
    maps.attach()?;
    let (weights, _) = maps.sizes();
    let times = timer.measure(|| {
        peft::merge(&mut maps)?;
        peft::unmerge(&mut maps);
        Ok(())
    })?;
    let total = 8.0 * weights;
    let what = format!("{:.1} M multiply-accumulates, {MACS_PER_CYCLE} a cycle", total / 1e6);
    Ok(Measured {
        times,
        unit: Unit::SecondsPerStep,
        amount: 1.0,
        floor: Floor::of(total / MACS_PER_CYCLE, what),
    })
}
