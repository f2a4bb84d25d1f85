//! A scan as an operation on tensors: which inputs it has, shapes, the loops over samples and tiles of neurons, and gradients.

use super::kept::{self, Kept, Room};
use super::kernel::{PARAMETERS, Rule, Scratch};
use super::stretch::{Planes, Stretch};
use super::{Fires, OP, Parameters, Scan, simd};
use crate::parallel;
use crate::tensor::cuda::Gpu;
use crate::tensor::dtype::{Float, each_float};
use crate::tensor::{self, Backward, Device, Keep, Meta, Op, Tensor, cpu};
use crate::{Error, Result};

/// Neurons that advance together in the first-level cache.
const TILE: usize = 64;

/// A scan with the inputs that it has.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub scan: Scan,
    /// Steps over which the input is held, where it is the same in all of them.
    pub held: Option<usize>,
    pub current: bool,
    pub adaptive: bool,
    pub recurrent: bool,
    /// Where it is one of several over steps that follow one another.
    pub stretch: Option<Stretch>,
}

/// Sizes of a sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub steps: usize,
    pub batch: usize,
    pub neurons: usize,
}

impl Sizes {
    pub fn of(meta: &Meta) -> Self {
        let shape = &meta.shape;
        Self { steps: shape[0], batch: shape[1], neurons: shape[2..].iter().product() }
    }
}

impl Operation {
    /// The operation and its inputs, `first` before the parameters.
    pub fn new<'a>(
        scan: &Scan,
        held: Option<usize>,
        first: &'a Tensor,
        parameters: &'a Parameters,
        stretch: Option<&Stretch>,
    ) -> (Self, Vec<&'a Tensor>) {
        let Parameters { decay, gain, threshold, current_decay, adaptation, recurrent } = parameters;
        let mut inputs = vec![first, decay, gain, threshold];
        inputs.extend(current_decay);
        inputs.extend(adaptation.iter().flat_map(|(rho, strength)| [rho, strength]));
        inputs.extend(recurrent);
        let operation = Self {
            scan: *scan,
            held,
            current: current_decay.is_some(),
            adaptive: adaptation.is_some(),
            recurrent: recurrent.is_some(),
            stretch: stretch.cloned(),
        };
        (operation, inputs)
    }

    pub fn rule<F: Float>(&self) -> Rule<F> {
        let scan = &self.scan;
        Rule {
            reset: scan.reset,
            acts: scan.acts,
            above: scan.fires == Fires::Above,
            kappa: if scan.detach { F::ZERO } else { F::ONE },
            rest: F::of_f64(scan.rest),
            surrogate: scan.surrogate,
            smooth: scan.smooth,
            current: self.current,
            adaptive: self.adaptive,
        }
    }

    /// Which input is parameter `p` of the kernel.
    pub fn place(&self, p: usize) -> Option<usize> {
        match p {
            0..3 => Some(1 + p),
            3 => self.current.then_some(4),
            _ => self.adaptive.then_some(4 + usize::from(self.current) + p - 4),
        }
    }

    pub fn feedback_place(&self) -> usize {
        4 + usize::from(self.current) + 2 * usize::from(self.adaptive)
    }

    /// Whether the gradient reads the input.
    pub fn reads_input(&self, needs: &[bool]) -> bool {
        let needed = |p| self.place(p).is_some_and(|i| needs[i]);
        needed(1) || needed(3) || self.rule::<f32>().pulls()
    }

    /// Parameters with one number per neuron.
    pub fn spread<'a, F: Float>(
        &self,
        neurons: usize,
        input: impl Fn(usize) -> Result<&'a [F]>,
    ) -> Result<[Vec<F>; PARAMETERS]> {
        let mut rows: [Vec<F>; PARAMETERS] = Default::default();
        for (p, row) in rows.iter_mut().enumerate() {
            if let Some(place) = self.place(p) {
                let given = input(place)?;
                *row = if given.len() == 1 { vec![given[0]; neurons] } else { given.to_vec() };
            }
        }
        Ok(rows)
    }

    /// Width of the tiles: neurons that are connected go together.
    pub fn tile(&self, neurons: usize) -> usize {
        if self.recurrent { neurons } else { TILE.min(neurons) }
    }
}

/// For each sample, its rows of a sequence `[T, B, N]`, in the order of steps.
pub(super) fn rows_of<F>(all: &mut [F], sizes: Sizes) -> Vec<Vec<&mut [F]>> {
    by_sample(all.chunks_mut(sizes.neurons.max(1)), sizes.batch)
}

fn by_sample<R>(all: impl IntoIterator<Item = R>, batch: usize) -> Vec<Vec<R>> {
    let mut rows: Vec<Vec<R>> = (0..batch).map(|_| Vec::new()).collect();
    all.into_iter().enumerate().for_each(|(i, row)| rows[i % batch].push(row));
    rows
}

/// For each sample, its rows of what stretches hand on, where there are any.
pub(super) fn rows_of_planes<'r, F: Float, const K: usize>(
    planes: Option<&Planes<'_, F, K>>,
    room: Option<&'r mut cpu::Buffer>,
) -> Result<std::vec::IntoIter<Vec<&'r mut [F]>>> {
    let rows = planes.zip(room).map(|(planes, room)| planes.rows(room)).transpose()?;
    Ok(rows.unwrap_or_default().into_iter())
}

/// Columns `from..from + n` of sample `b` as a tile `[T, n]`; `held` ones are the same in each step.
fn gather_input<F: Copy>(
    all: &[F],
    held: bool,
    sizes: Sizes,
    b: usize,
    (from, n): (usize, usize),
    tile: &mut Vec<F>,
) {
    if !held {
        return gather(all, sizes, b, from, n, tile);
    }
    tile.clear();
    for _ in 0..sizes.steps {
        tile.extend_from_slice(&all[b * sizes.neurons + from..][..n]);
    }
}

/// Columns `from..from + n` of sample `b` as a tile `[T, n]`.
fn gather<F: Copy>(all: &[F], sizes: Sizes, b: usize, from: usize, n: usize, tile: &mut Vec<F>) {
    tile.clear();
    for t in 0..sizes.steps {
        tile.extend_from_slice(&all[(t * sizes.batch + b) * sizes.neurons + from..][..n]);
    }
}

fn scatter<F: Copy>(tile: &[F], from: usize, n: usize, rows: &mut [&mut [F]]) {
    rows.iter_mut()
        .zip(tile.chunks_exact(n))
        .for_each(|(row, piece)| row[from..from + n].copy_from_slice(piece));
}

pub(super) fn part<F>(rows: &[Vec<F>; PARAMETERS], from: usize, n: usize) -> [&[F]; PARAMETERS] {
    rows.each_ref().map(|row| if row.is_empty() { &[][..] } else { &row[from..from + n] })
}

impl Op for Operation {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        let x = inputs[0];
        let wrong = |other: &Meta, why: &str| Error::Shape {
            op: OP,
            lhs: x.shape.clone(),
            rhs: other.shape.clone(),
            why: why.into(),
        };
        if !x.dtype.is_computing() {
            return Err(Error::Unsupported { op: OP, on: format!("with {} values", x.dtype) });
        }
        if x.shape.len() < 3 || x.is_empty() || self.held == Some(0) {
            return Err(wrong(x, "currents are [steps, batch, neurons], none of them 0"));
        }
        if self.held.is_some() && x.shape[0] != 1 {
            return Err(wrong(x, "currents that are held are [1, batch, neurons]"));
        }
        let neurons = Sizes::of(x).neurons;
        for (i, other) in inputs.iter().enumerate().skip(1) {
            if other.dtype != x.dtype {
                return Err(wrong(other, &format!("one holds {}, the other {}", x.dtype, other.dtype)));
            }
            if self.recurrent && i == self.feedback_place() {
                if other.shape != [neurons, neurons] {
                    return Err(wrong(other, "recurrent weights are [neurons, neurons]"));
                }
            } else if other.len() != 1 && other.len() != neurons {
                return Err(wrong(other, "a parameter is one number or one per neuron"));
            }
        }
        let mut out = x.clone();
        out.shape[0] = self.held.unwrap_or(out.shape[0]);
        kept::check(OP, self.scan.half, x)?;
        let mut all = vec![out; if self.scan.membrane { 3 } else { 2 }];
        all[1].dtype = kept::dtype(self.scan.half, x.dtype);
        Ok(all)
    }

    fn cpu(&self, inputs: &[cpu::View<'_>], outputs: &mut [cpu::ViewMut<'_>]) -> Result<()> {
        each_float!(OP, inputs[0].meta.dtype, F => {
            let sizes = Sizes::of(outputs[0].meta);
            let x = inputs[0].slice::<F>()?;
            let parameters = self.spread::<F>(sizes.neurons, |i| inputs[i].slice::<F>())?;
            let feedback = match self.recurrent {
                true => Some(inputs[self.feedback_place()].slice::<F>()?),
                false => None,
            };
            let [spikes, potentials, membranes @ ..] = outputs else {
                return Err(Error::Internal("a scan has two outputs".into()));
            };
            let potentials = Room::of(potentials, self.scan.half)?.pieces(sizes.neurons);
            let rows = rows_of(spikes.slice::<F>()?, sizes).into_iter().zip(by_sample(potentials, sizes.batch));
            let mut membranes = match membranes.first_mut() {
                Some(membranes) => rows_of(membranes.slice::<F>()?, sizes).into_iter(),
                None => vec![].into_iter(),
            };
            let past = self.past::<F>(sizes)?;
            let mut room = past.as_ref().map(Planes::room);
            let mut left = rows_of_planes(past.as_ref(), room.as_mut())?;
            type Job<'a, F> = ((Vec<&'a mut [F]>, Vec<Room<'a, F>>), [Vec<&'a mut [F]>; 2]);
            let jobs = rows.map(|rows| (rows, [&mut membranes, &mut left].map(|of| of.next().unwrap_or_default())));
            let jobs = jobs.collect();
            let rule = self.rule::<F>();
            let width = self.tile(sizes.neurons);
            parallel::owned(jobs, |b, ((mut spikes, mut kept), [mut membranes, mut left]): Job<'_, F>| {
                let mut scratch = Scratch::default();
                let [mut tile, mut u, mut s, mut v] = [const { Vec::new() }; 4];
                for from in (0..sizes.neurons).step_by(width) {
                    let n = width.min(sizes.neurons - from);
                    gather_input(x, self.held.is_some(), sizes, b, (from, n), &mut tile);
                    for values in [&mut u, &mut s] {
                        values.resize(tile.len(), F::ZERO);
                    }
                    v.resize(if self.scan.membrane { tile.len() } else { 0 }, F::ZERO);
                    let rows = part(&parameters, from, n);
                    scratch.past = past.as_ref().map(|past| past.read(b, (from, n), n));
                    simd::forward(&rule, &rows, feedback, &mut tile, (&mut u, &mut s, &mut v), &mut scratch);
                    if let (Some(past), Some(rows)) = (&past, &scratch.past) {
                        past.write(past.kept(rows), (from, n), &mut left);
                    }
                    for (kept, row) in kept.iter_mut().zip(u.chunks_exact(n).zip(s.chunks_exact(n))) {
                        kept.keep(from, row, rows[2], rule.above);
                    }
                    scatter(&s, from, n, &mut spikes);
                    scatter(&v, from, n, &mut membranes);
                }
            });
            if let (Some(past), Some(room)) = (&past, room) {
                self.leave(past.tensor(room)?);
            }
            Ok(())
        })
    }

    fn cuda(
        &self,
        gpu: &Gpu,
        inputs: &[tensor::cuda::View<'_>],
        outputs: &mut [tensor::cuda::ViewMut<'_>],
    ) -> Result<()> {
        self.run_on(gpu, inputs, outputs)
    }

    fn keep(&self, needs: &[bool]) -> Keep {
        let mut keep = Keep::NOTHING.output(1, true).input(0, self.reads_input(needs));
        for i in 1..needs.len() {
            keep = keep.input(i, true);
        }
        // Recurrent weights: their gradient, and the input that includes what they deliver, read the spikes.
        keep.output(0, self.recurrent)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let meta = at.output_meta(0);
        if let Device::Cuda(_) = at.output(1)?.device() {
            return self.gradients_on_gpu(at, Sizes::of(meta));
        }
        each_float!(OP, meta.dtype, F => self.gradients::<F>(at, Sizes::of(meta)))
    }
}

impl Operation {
    fn gradients<F: Float>(&self, at: &Backward<'_>, sizes: Sizes) -> Result<Vec<Option<Tensor>>> {
        let parameters = self.spread::<F>(sizes.neurons, |i| at.input(i)?.buffer()?.slice::<F>())?;
        let kept = Kept::of(at.output(1)?.buffer()?, self.scan.half)?;
        let count = self.feedback_place() + usize::from(self.recurrent);
        let needs: Vec<bool> = (0..count).map(|i| at.needs(i)).collect();
        let reads = self.reads_input(&needs);
        let x = if reads { at.input(0)?.buffer()?.slice::<F>()? } else { &[] };
        let feedback = match self.recurrent {
            true => Some(at.input(self.feedback_place())?.buffer()?.slice::<F>()?),
            false => None,
        };
        let grads = [0, 1, 2].map(|i| if i < 2 || self.scan.membrane { at.grads(i) } else { None });
        let mut slices: [&[F]; 3] = [&[]; 3];
        for (slice, grad) in slices.iter_mut().zip(&grads) {
            if let Some(grad) = grad {
                *slice = grad.buffer()?.slice::<F>()?;
            }
        }
        let spikes = if self.recurrent { at.output(0)?.buffer()?.slice::<F>()? } else { &[] };
        let rows = Sizes { steps: if self.held.is_some() { 1 } else { sizes.steps }, ..sizes };
        let mut gx = cpu::Buffer::zeros(F::DTYPE, rows.steps * rows.batch * rows.neurons);
        // Partial sums of each sample are added in the order of samples, whoever computed them.
        let mut partial: Vec<[Vec<F>; PARAMETERS]> = (0..sizes.batch).map(|_| Default::default()).collect();
        let wanted: [bool; PARAMETERS] = std::array::from_fn(|p| self.place(p).is_some_and(|i| needs[i]));
        let (past, handed_back, before) = (self.past::<F>(sizes)?, self.handed_back(), self.spikes_before()?);
        let future = self.future::<F>(handed_back.as_ref(), sizes)?;
        let mut room = future.as_ref().map(Planes::room);
        let mut back = rows_of_planes(future.as_ref(), room.as_mut())?;
        let fired: &[F] = match &before {
            Some(before) => before.buffer()?.slice::<F>()?,
            None => &[],
        };
        type Job<'a, F> = (Vec<&'a mut [F]>, &'a mut [Vec<F>; PARAMETERS], Vec<&'a mut [F]>);
        let jobs = rows_of(gx.slice_mut::<F>()?, rows).into_iter().zip(&mut partial);
        let jobs = jobs.map(|(out, total)| (out, total, back.next().unwrap_or_default())).collect();
        let rule = self.rule::<F>();
        let width = self.tile(sizes.neurons);
        parallel::owned(jobs, |b, (mut out, total, mut back): Job<'_, F>| {
            let mut scratch = Scratch::default();
            let [mut tile_x, mut tile_u, mut tile_gx] = [const { Vec::new() }; 3];
            let mut tiles: [Vec<F>; 3] = Default::default();
            let mut sums: [Vec<F>; PARAMETERS] = Default::default();
            for from in (0..sizes.neurons).step_by(width) {
                let n = width.min(sizes.neurons - from);
                if reads {
                    gather_input(x, self.held.is_some(), sizes, b, (from, n), &mut tile_x);
                    if let Some(weights) = feedback {
                        add_feedback(&mut tile_x, weights, (fired, spikes), sizes, b);
                    }
                }
                tile_u.resize(sizes.steps * n, F::ZERO);
                for (t, row) in tile_u.chunks_exact_mut(n).enumerate() {
                    kept.read((t * sizes.batch + b) * sizes.neurons + from, row);
                }
                for (tile, slice) in tiles.iter_mut().zip(slices) {
                    if !slice.is_empty() {
                        gather(slice, sizes, b, from, n, tile);
                    }
                }
                tile_gx.resize(tile_u.len(), F::ZERO);
                for (sum, wanted) in sums.iter_mut().zip(wanted) {
                    sum.clear();
                    sum.resize(if wanted { n } else { 0 }, F::ZERO);
                }
                let grads = tiles.each_ref().map(Vec::as_slice);
                let rows = part(&parameters, from, n);
                let saved = (tile_x.as_slice(), tile_u.as_slice());
                scratch.past = past.as_ref().map(|past| past.read(b, (from, n), n));
                scratch.future = future.as_ref().map(|future| future.read(b, (from, n), n));
                simd::backward(&rule, &rows, feedback, saved, grads, &mut tile_gx, &mut sums, &mut scratch);
                if let (Some(future), Some(rows)) = (&future, &scratch.future) {
                    future.write(future.kept(rows), (from, n), &mut back);
                }
                if self.held.is_some() {
                    let (first, later) = tile_gx.split_at_mut(n);
                    for step in later.chunks_exact(n) {
                        first.iter_mut().zip(step).for_each(|(sum, &g)| *sum += g);
                    }
                    tile_gx.truncate(n);
                }
                scatter(&tile_gx, from, n, &mut out);
                total.iter_mut().zip(&sums).for_each(|(total, sum)| total.extend_from_slice(sum));
            }
        });
        if let (Some(future), Some(room)) = (&future, room) {
            self.hand_back(future.tensor(room)?);
        }
        let gx = Tensor::from_buffer(gx, &at.input_meta(0).shape)?;
        let mut results: Vec<Option<Tensor>> = vec![None; count];
        for (p, wanted) in wanted.into_iter().enumerate() {
            if let (true, Some(place)) = (wanted, self.place(p)) {
                let meta = at.input_meta(place);
                let sums =
                    (0..sizes.neurons).map(|j| partial.iter().map(|sums| sums[p][j].to_f64()).sum::<f64>());
                let values: Vec<f64> = if meta.len() == 1 { vec![sums.sum()] } else { sums.collect() };
                results[place] = Some(Tensor::from_f64(values, &meta.shape)?.to_dtype(meta.dtype)?);
            }
        }
        let place = self.feedback_place();
        if self.recurrent && needs[place] {
            results[place] = Some(self.recurrent_gradient(before.as_ref(), at.output(0)?, &gx, sizes)?);
        }
        results[0] = Some(gx);
        Ok(results)
    }

    /// Σ over steps and samples of (spikes of a step)ᵀ (gradient by the input of the step after); `before` are the spikes
    /// of the step before the first.
    fn recurrent_gradient(
        &self,
        before: Option<&Tensor>,
        spikes: &Tensor,
        gx: &Tensor,
        sizes: Sizes,
    ) -> Result<Tensor> {
        let Sizes { steps, batch, neurons } = sizes;
        let flat = |all: &Tensor, from, steps| {
            all.reshape(&[all.shape()[0], batch * neurons])?
                .narrow(0, from, steps)?
                .reshape(&[steps * batch, neurons])
        };
        let first = before.map(|before| flat(before, 0, 1)?.matmul_tn(&flat(gx, 0, 1)?)).transpose()?;
        if steps == 1 {
            return first.map_or_else(|| Tensor::zeros(&[neurons, neurons], gx.dtype()), Ok);
        }
        let sum = flat(spikes, 0, steps - 1)?.matmul_tn(&flat(gx, 1, steps - 1)?)?;
        first.map_or(Ok(sum.clone()), |first| sum.add(&first))
    }
}

/// Adds to the input of one sample what the recurrent weights delivered, at first of the spikes of the step before.
fn add_feedback<F: Float>(
    x: &mut [F],
    weights: &[F],
    (before, spikes): (&[F], &[F]),
    sizes: Sizes,
    b: usize,
) {
    let n = sizes.neurons;
    let mut heard = vec![F::ZERO; n];
    for t in usize::from(before.is_empty())..sizes.steps {
        let fired = match t {
            0 => &before[b * n..][..n],
            _ => &spikes[((t - 1) * sizes.batch + b) * n..][..n],
        };
        heard.fill(F::ZERO);
        for (row, &spike) in weights.chunks_exact(n).zip(fired) {
            if spike != F::ZERO {
                heard.iter_mut().zip(row).for_each(|(sum, &w)| *sum += spike * w);
            }
        }
        x[t * n..][..n].iter_mut().zip(&heard).for_each(|(x, &sum)| *x += sum);
    }
}
