//! A convolution of spikes, with max pooling, as one operation that costs what the spikes cost.

use std::sync::Arc;

use super::patches::{Backward as Back, Forward, LANES, Patches, Scratch};
use super::product::Spikes;
use crate::lines::Lines;
use crate::parallel;
use crate::snn::Conv2d;
use crate::tensor::cpu::wide;
use crate::tensor::dtype::{Float, each_float};
use crate::tensor::{Backward, DType, Keep, Meta, Op, Tensor, apply, cpu};
use crate::{Error, Result};

const OP: &str = "spike_conv2d";

/// Rows of spikes that one task takes on.
const ROWS: usize = 32;
/// Pieces of many rows whose gradients by the weights are summed apart, so that the sum does not depend on threads.
const PIECES: usize = 16;

/// The currents of a convolution of spikes `[.., C H W]`, and where it says so the largest of each window of them, by
/// kernels `[outputs, C, k, k]` and a bias `[outputs]`: `[.., outputs h w]`. Equal to `conv2d` and then `max_pool2d`, whose
/// gradient goes to the first of the largest. `x` are the same spikes where they may need a gradient.
///
/// ```
/// use ransnn::snn::{Conv2d, scan::{Spikes, spike_conv2d}};
/// use ransnn::tensor::Tensor;
/// use std::sync::Arc;
/// let geometry = Conv2d::new(&[1, 3, 3], &[1, 1, 1], 2, 1, 0, 1, 2)?;
/// let spikes = Arc::new(Spikes::from_rows(&[1], 9, [&[0, 4][..]])?);
/// let weights = Tensor::from_f32(vec![1.0, 2.0, 3.0, 4.0], &[1, 1, 2, 2])?;
/// // Currents 1 + 4, 3, 2 and 1.
/// assert_eq!(spike_conv2d(&spikes, None, (&weights, None), &geometry)?.to_f32()?, [5.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Shapes or kinds of number that do not fit; a source that is averaged first; windows of more than
/// [`LARGEST_WINDOW`] a side.
pub fn spike_conv2d(
    spikes: &Arc<Spikes>,
    x: Option<&Tensor>,
    (weights, bias): (&Tensor, Option<&Tensor>),
    geometry: &Conv2d,
) -> Result<Tensor> {
    if geometry.pool > 1 || geometry.max_pool > LARGEST_WINDOW {
        let on = format!("on windows of {} averaged and {} compared", geometry.pool, geometry.max_pool);
        return Err(Error::Unsupported { op: OP, on });
    }
    let inputs: Vec<&Tensor> = [weights].into_iter().chain(bias).chain(x).collect();
    let patches = Patches::new(geometry);
    let operation =
        SpikeConv2d { spikes: spikes.clone(), geometry: *geometry, patches, biased: bias.is_some() };
    Ok(apply(operation, &inputs)?.swap_remove(0))
}

/// Side of the largest window of max pooling: a place in it is a byte.
pub const LARGEST_WINDOW: usize = 16;

/// Inputs: weights, bias if there is one, and the spikes where they may need a gradient. Outputs: currents, and where
/// windows are compared the places of the largest.
#[derive(Debug)]
struct SpikeConv2d {
    spikes: Arc<Spikes>,
    geometry: Conv2d,
    patches: Patches,
    biased: bool,
}

impl SpikeConv2d {
    fn targets(&self) -> usize {
        self.geometry.output.iter().product()
    }
}

impl Op for SpikeConv2d {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        let (w, g) = (inputs[0], &self.geometry);
        let wrong = |other: &[usize], why: &str| Error::Shape {
            op: OP,
            lhs: w.shape.clone(),
            rhs: other.to_vec(),
            why: why.into(),
        };
        if !w.dtype.is_computing() {
            return Err(Error::Unsupported { op: OP, on: format!("with {} weights", w.dtype) });
        }
        let kernels = [g.output[0], g.input[0], g.kernel, g.kernel];
        if w.shape != kernels {
            return Err(wrong(&kernels, "weights are [outputs, inputs, kernel, kernel]"));
        }
        if self.spikes.columns() != g.input.iter().product::<usize>() {
            return Err(wrong(&[self.spikes.columns()], "the last axis of the spikes are the sources"));
        }
        if self.biased && *inputs[1] != Meta::new(vec![g.output[0]], w.dtype) {
            return Err(wrong(
                &inputs[1].shape,
                "a bias is one number per channel, of the kind of the weights",
            ));
        }
        let x = inputs.get(1 + usize::from(self.biased));
        if let Some(x) = x.filter(|x| x.dtype != w.dtype) {
            return Err(wrong(&x.shape, &format!("spikes are {}, weights {}", x.dtype, w.dtype)));
        }
        let of = |last: usize, dtype| Meta::new([self.spikes.front(), &[last]].concat(), dtype);
        let places = (g.max_pool > 1).then(|| of(self.patches.places(), DType::U8));
        Ok([of(self.targets(), w.dtype)].into_iter().chain(places).collect())
    }

    fn cpu(&self, inputs: &[cpu::View<'_>], outputs: &mut [cpu::ViewMut<'_>]) -> Result<()> {
        each_float!(OP, inputs[0].meta.dtype, F => {
            let kernels = self.patches.by_tap(inputs[0].slice::<F>()?);
            let mut bias = if self.biased { inputs[1].slice::<F>()?.to_vec() } else { vec![] };
            bias.resize(self.geometry.output[0].next_multiple_of(LANES), F::ZERO);
            let (targets, places) = (self.targets(), self.patches.places());
            let [out, rest @ ..] = outputs else { return Ok(()) };
            let mut rest = match rest.first_mut() {
                Some(places) => places.slice::<u8>()?,
                None => &mut [],
            }
            .chunks_mut((ROWS * places).max(1));
            let tasks = out.slice::<F>()?.chunks_mut(ROWS * targets);
            let tasks = tasks.map(|out| (out, rest.next().unwrap_or_default())).collect();
            parallel::owned(tasks, |task, (out, at): (&mut [F], &mut [u8])| {
                let mut sums = Lines::zeros(self.patches.currents());
                for (i, out) in out.chunks_exact_mut(targets).enumerate() {
                    wide::run(Forward {
                        patches: &self.patches,
                        kernels: &kernels,
                        bias: &bias,
                        spikes: self.spikes.row(task * ROWS + i),
                        sums: &mut sums,
                        out,
                        places: &mut at[i * places..][..places],
                    });
                }
            });
            Ok(())
        })
    }

    fn keep(&self, needs: &[bool]) -> Keep {
        let wants_x = needs.get(1 + usize::from(self.biased)) == Some(&true);
        Keep::NOTHING.input(0, wants_x).output(1, self.geometry.max_pool > 1)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        each_float!(OP, at.output_meta(0).dtype, F => self.gradients::<F>(at))
    }
}

impl SpikeConv2d {
    fn gradients<F: Float>(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (patches, spikes, grad) = (&self.patches, &self.spikes, at.grad()?);
        let (sources, targets, places) = (spikes.columns(), self.targets(), patches.places());
        let x = 1 + usize::from(self.biased);
        let wants_x = at.input_count() > x && at.needs(x);
        let g = grad.buffer()?.slice::<F>()?;
        let chosen;
        let largest: &[u8] = match self.geometry.max_pool {
            1 => &[],
            _ => {
                chosen = at.output(1)?;
                chosen.buffer()?.slice::<u8>()?
            }
        };
        let by_row = match wants_x {
            true => patches.by_row(at.input(0)?.buffer()?.slice::<F>()?),
            false => Lines::zeros(0),
        };
        let size = spikes.rows().div_ceil(PIECES).max(ROWS);
        let pieces = spikes.rows().div_ceil(size);
        let mut gx = cpu::Buffer::zeros(F::DTYPE, if wants_x { spikes.rows() * sources } else { 0 });
        let wanted = if at.needs(0) { patches.kernels() } else { 0 };
        let mut parts: Vec<Lines<F>> = (0..pieces).map(|_| Lines::zeros(wanted)).collect();
        let mut rest = gx.slice_mut::<F>()?.chunks_mut((size * sources).max(1));
        let tasks = parts.iter_mut().map(|part| (part, rest.next().unwrap_or_default())).collect();
        parallel::owned(tasks, |piece, (part, gx): (&mut Lines<F>, &mut [F])| {
            let mut scratch = Scratch::new(patches);
            let mut gx = gx.chunks_exact_mut(sources);
            for row in piece * size..spikes.rows().min((piece + 1) * size) {
                wide::run(Back {
                    patches,
                    spikes: spikes.row(row),
                    grad: &g[row * targets..][..targets],
                    places: &largest[row * places..][..places],
                    rows: &by_row,
                    source: gx.next().unwrap_or_default(),
                    kernels: part,
                    scratch: &mut scratch,
                });
            }
        });
        let mut results: Vec<Option<Tensor>> = vec![None; at.input_count()];
        if at.needs(0) {
            let shape = &at.input_meta(0).shape;
            let mut sum = vec![F::ZERO; patches.kernels()];
            for part in &parts {
                sum.iter_mut().zip(part.iter()).for_each(|(sum, &part)| *sum += part);
            }
            let mut out = cpu::Buffer::zeros(F::DTYPE, shape.iter().product());
            patches.add_taps(&sum, out.slice_mut::<F>()?);
            results[0] = Some(Tensor::from_buffer(out, shape)?);
        }
        if self.biased && at.needs(1) {
            let channels = self.geometry.output[0];
            let each = grad.reshape(&[spikes.rows(), channels, targets / channels])?;
            results[1] = Some(each.sum(&[0, 2])?);
        }
        if wants_x {
            results[x] = Some(Tensor::from_buffer(gx, &at.input_meta(x).shape)?);
        }
        Ok(results)
    }
}
