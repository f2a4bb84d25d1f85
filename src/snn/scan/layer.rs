//! A layer of neurons behind spikes as one operation: the currents of a tile of neurons are added up, scanned and
//! forgotten while they are in the cache, and on the way back so are their gradients.
//!
//! A tile is 64 neurons. What the tape keeps are the potentials, `[B, tiles, T, 64]`, in the order in which both ways
//! go through them. On the way back a tile goes through all samples in their order, so that sums do not depend on
//! threads.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::blocks::Blocks;
use super::kept::{self, Kept, Room};
use super::kernel::{PARAMETERS, Scratch};
use super::product::Spikes;
use super::simd::{self, COLUMNS as TILE};
use super::stretch::{Planes, Stretch};
use super::{Operation, Parameters, Scan, Sizes, part, rows_of, rows_of_planes};
use crate::parallel;
use crate::tensor::dtype::{Float, each_float};
use crate::tensor::{Backward, Keep, Meta, Op, Tensor, apply, cpu};
use crate::{Error, Result};

const OP: &str = "spiking_layer";

/// Rows of sample and step whose currents are in the cache together.
const ROWS: usize = 256;
/// Sources whose weights are in the first-level cache together, 64 columns of them.
const SOURCES: usize = 96;
/// Samples that one task takes at least.
const SAMPLES: usize = 16;

impl Scan {
    /// Whether [`run_behind`](Self::run_behind) can take the place of a product and a scan.
    pub fn runs_behind(&self, spikes: &Spikes, parameters: &Parameters) -> bool {
        !self.smooth && parameters.recurrent.is_none() && spikes.is_binary() && spikes.sequence().is_some()
    }

    /// What [`run`](Self::run) makes of the currents `x W + b`, and its spikes as lists: without the currents ever being
    /// in memory. `x` are the spikes as the tensor by which they may need a gradient; with a `stretch`, they are of some
    /// of the steps. The potentials are not those of `run`: they are `[B, tiles, T, 64]`.
    ///
    /// # Errors
    /// Shapes that do not fit, and spikes that [`runs_behind`](Self::runs_behind) refuses.
    pub fn run_behind(
        &self,
        spikes: &Arc<Spikes>,
        x: Option<&Tensor>,
        (weights, bias): (&Tensor, Option<&Tensor>),
        parameters: &Parameters,
        stretch: Option<&Stretch>,
    ) -> Result<(super::Scanned, Arc<Spikes>)> {
        let shape = spikes.sequence().filter(|_| self.runs_behind(spikes, parameters));
        let Some(shape) = shape else {
            return Err(Error::Unsupported { op: OP, on: "on these spikes".into() });
        };
        self.check_half(parameters)?;
        let (operation, mut inputs) = Operation::new(self, None, weights, parameters, stretch);
        inputs.extend(bias);
        inputs.extend(x);
        let fired = Arc::new(OnceLock::new());
        let layer =
            Layer { operation, spikes: spikes.clone(), shape, biased: bias.is_some(), fired: fired.clone() };
        let mut outputs = apply(layer, &inputs)?.into_iter();
        let lost = || Error::Internal("a layer lost an output".into());
        let (spikes, potential) = outputs.next().zip(outputs.next()).ok_or_else(lost)?;
        let words = fired.get().ok_or_else(lost)?;
        let lists = lists(words, shape, weights.shape()[1]);
        Ok((super::Scanned { spikes, potential, membrane: outputs.next() }, Arc::new(lists)))
    }
}

/// Words `[B, tiles, T]` of 64 neurons as lists.
fn lists(words: &[u64], [steps, batch]: [usize; 2], neurons: usize) -> Spikes {
    let tiles = neurons.div_ceil(TILE);
    let words_of = |row: usize| {
        let (t, b) = (row / batch, row % batch);
        (0..tiles).map(move |tile| words[(b * tiles + tile) * steps + t])
    };
    Spikes::from_words(&[steps, batch], neurons, words_of)
}

/// Inputs: weights, the parameters of a scan, perhaps a bias, perhaps the spikes.
#[derive(Debug)]
struct Layer {
    operation: Operation,
    spikes: Arc<Spikes>,
    /// Steps and samples.
    shape: [usize; 2],
    biased: bool,
    /// Who fired, `[B, tiles, T]`, left by the forward pass.
    fired: Arc<OnceLock<Vec<u64>>>,
}

/// What both passes need of a layer, in tiles.
struct Tiled<'a, F> {
    layer: &'a Layer,
    /// `[tiles, sources, 64]`
    weights: Vec<F>,
    /// `[tiles, 64]`
    bias: Vec<F>,
    parameters: [Vec<F>; PARAMETERS],
    /// One for each group of samples.
    blocks: Vec<Blocks>,
    sources: usize,
    neurons: usize,
}

impl Layer {
    fn bias_place(&self) -> usize {
        self.operation.feedback_place()
    }

    fn spikes_place(&self) -> usize {
        self.bias_place() + usize::from(self.biased)
    }

    /// Samples whose currents are in the cache together: an equal share of those of a task.
    fn group(&self) -> usize {
        let [steps, batch] = self.shape;
        let task = batch.div_ceil(batch.div_ceil(SAMPLES));
        task.div_ceil((task * steps).div_ceil(ROWS))
    }

    /// The spikes of each group of samples.
    fn of_groups(&self, blocks: impl Fn(Range<usize>) -> Blocks + Sync) -> Vec<Blocks> {
        let ([_, batch], group) = (self.shape, self.group());
        parallel::map(batch.div_ceil(group), |i| blocks(i * group..batch.min((i + 1) * group)))
    }

    fn parameters<'a, F: Float>(
        &self,
        neurons: usize,
        input: impl Fn(usize) -> Result<&'a [F]>,
    ) -> Result<[Vec<F>; PARAMETERS]> {
        let mut parameters = self.operation.spread::<F>(neurons, input)?;
        for row in parameters.iter_mut().filter(|row| !row.is_empty()) {
            let last = row[neurons - 1];
            row.resize(neurons.next_multiple_of(TILE), last);
        }
        Ok(parameters)
    }

    fn tiled<'a, F: Float>(
        &self,
        [sources, neurons]: [usize; 2],
        input: impl Fn(usize) -> Result<&'a [F]>,
    ) -> Result<Tiled<'_, F>> {
        let parameters = self.parameters(neurons, &input)?;
        let w = input(0)?;
        let tiles = neurons.div_ceil(TILE);
        let mut weights = vec![F::ZERO; tiles * sources * TILE];
        parallel::chunks_mut(&mut weights, (sources * TILE).max(1), |tile, rows| {
            let n = TILE.min(neurons - tile * TILE);
            for (row, w) in rows.chunks_exact_mut(TILE).zip(w.chunks_exact(neurons)) {
                row[..n].copy_from_slice(&w[tile * TILE..][..n]);
            }
        });
        let mut bias = if self.biased { input(self.bias_place())?.to_vec() } else { vec![] };
        bias.resize(tiles * TILE, F::ZERO);
        let blocks = self.of_groups(|samples| Blocks::by_row(&self.spikes, self.shape, samples, SOURCES));
        Ok(Tiled { layer: self, weights, bias, parameters, blocks, sources, neurons })
    }
}

impl<F: Float> Tiled<'_, F> {
    fn tiles(&self) -> usize {
        self.neurons.div_ceil(TILE)
    }

    /// Currents `[samples, T, 64]` of a tile and a group of samples.
    fn currents(&self, tile: usize, group: usize, out: &mut Vec<F>) {
        let blocks = &self.blocks[group];
        out.clear();
        out.resize(blocks.rows() * TILE, F::ZERO);
        let weights = &self.weights[tile * self.sources * TILE..][..self.sources * TILE];
        for block in 0..blocks.len() {
            simd::add_block(blocks, block, &weights[blocks.start(block) * TILE..], out);
        }
        if self.layer.biased {
            let bias = &self.bias[tile * TILE..][..TILE];
            for sums in out.chunks_exact_mut(TILE) {
                sums.iter_mut().zip(bias).for_each(|(sum, &b)| *sum += b);
            }
        }
    }
}

impl Op for Layer {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        let w = inputs[0];
        let wrong = |other: &[usize], why: &str| Error::Shape {
            op: OP,
            lhs: w.shape.clone(),
            rhs: other.to_vec(),
            why: why.into(),
        };
        let &[sources, neurons] = w.shape.as_slice() else {
            return Err(wrong(&[], "weights are [sources, targets]"));
        };
        if !w.dtype.is_computing() || sources != self.spikes.columns() || w.is_empty() {
            return Err(wrong(&[self.spikes.columns()], "the last axis of the spikes are the sources"));
        }
        for (i, other) in inputs.iter().enumerate().skip(1).take(self.bias_place() - 1) {
            if other.dtype != w.dtype || other.len() != 1 && other.len() != neurons {
                return Err(wrong(&inputs[i].shape, "a parameter is one number or one per neuron"));
            }
        }
        if self.biased && *inputs[self.bias_place()] != Meta::new(vec![neurons], w.dtype) {
            return Err(wrong(&inputs[self.bias_place()].shape, "a bias is one number per target"));
        }
        let [steps, batch] = self.shape;
        if steps == 0 || batch == 0 {
            return Err(wrong(&self.shape, "spikes are [steps, batch, sources], none of them 0"));
        }
        let out = Meta::new(vec![steps, batch, neurons], w.dtype);
        let half = self.operation.scan.half;
        kept::check(OP, half, w)?;
        let shape = vec![batch, neurons.div_ceil(TILE), steps, TILE];
        let potentials = Meta::new(shape, kept::dtype(half, w.dtype));
        let membrane = self.operation.scan.membrane.then(|| out.clone());
        Ok([out, potentials].into_iter().chain(membrane).collect())
    }

    fn cpu(&self, inputs: &[cpu::View<'_>], outputs: &mut [cpu::ViewMut<'_>]) -> Result<()> {
        each_float!(OP, inputs[0].meta.dtype, F => {
            let &[sources, neurons] = inputs[0].shape() else { return Ok(()) };
            let tiled = self.tiled::<F>([sources, neurons], |i| inputs[i].slice::<F>())?;
            let words = forward(&tiled, outputs)?;
            // Another pass of the same operation would find the same.
            let _ = self.fired.set(words);
            Ok(())
        })
    }

    fn keep(&self, needs: &[bool]) -> Keep {
        let wants_x = needs.get(self.spikes_place()) == Some(&true);
        let mut keep = Keep::NOTHING.output(1, true);
        keep = keep.input(0, wants_x || self.operation.reads_input(needs));
        for i in 1..self.bias_place() {
            keep = keep.input(i, true);
        }
        keep.input(self.bias_place(), self.biased && self.operation.reads_input(needs))
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        each_float!(OP, at.output_meta(0).dtype, F => self.gradients::<F>(at))
    }
}

fn forward<F: Float>(tiled: &Tiled<'_, F>, outputs: &mut [cpu::ViewMut<'_>]) -> Result<Vec<u64>> {
    let layer = tiled.layer;
    let ([steps, batch], neurons, tiles) = (layer.shape, tiled.neurons, tiled.tiles());
    let (rule, shows) = (layer.operation.rule::<F>(), layer.operation.scan.membrane);
    let sizes = Sizes { steps, batch, neurons };
    let group = layer.group();
    let task = group * SAMPLES.div_ceil(group);
    let mut words = vec![0u64; batch * tiles * steps];
    let [spikes, potentials, rest @ ..] = outputs else {
        return Err(Error::Internal("a layer has two outputs".into()));
    };
    let mut spikes = rows_of(spikes.slice::<F>()?, sizes).into_iter();
    let mut membranes = match rest.first_mut() {
        Some(membranes) => rows_of(membranes.slice::<F>()?, sizes).into_iter(),
        None => vec![].into_iter(),
    };
    let past = layer.operation.past::<F>(sizes)?;
    let mut room = past.as_ref().map(Planes::room);
    let mut left = rows_of_planes(past.as_ref(), room.as_mut())?;
    let pieces = Room::of(potentials, layer.operation.scan.half)?.pieces(task * tiles * steps * TILE);
    let jobs: Vec<_> = pieces
        .into_iter()
        .zip(words.chunks_mut(task * tiles * steps))
        .map(|(u, words)| {
            let rows =
                [&mut spikes, &mut membranes, &mut left].map(|rows| rows.by_ref().take(task).collect());
            (u, words, rows)
        })
        .collect();
    type Job<'a, F> = (Room<'a, F>, &'a mut [u64], [Vec<Vec<&'a mut [F]>>; 3]);
    parallel::owned(jobs, |i, (mut kept, words, [mut spikes, mut membranes, mut left]): Job<'_, F>| {
        let mut scratch = Scratch::default();
        let (mut currents, mut s) = (vec![], vec![F::ZERO; steps * TILE]);
        let mut room = s.clone();
        let mut v = vec![F::ZERO; if shows { steps * TILE } else { 0 }];
        for tile in 0..tiles {
            let (from, n) = (tile * TILE, TILE.min(neurons - tile * TILE));
            let rows = part(&tiled.parameters, from, TILE);
            for start in (0..spikes.len()).step_by(group) {
                let end = spikes.len().min(start + group);
                tiled.currents(tile, (i * task + start) / group, &mut currents);
                for (b, x) in (start..end).zip(currents.chunks_exact_mut(steps * TILE)) {
                    let at = (b * tiles + tile) * steps;
                    scratch.past = past.as_ref().map(|past| past.read(i * task + b, (from, n), TILE));
                    let u = kept.place(at * TILE, &mut room);
                    simd::forward(&rule, &rows, None, x, (u, &mut s, &mut v), &mut scratch);
                    if let Room::Half(_) = kept {
                        kept.keep(at * TILE, (&room, &s), rows[2], rule.above);
                    }
                    if let (Some(past), Some(rows)) = (&past, &scratch.past) {
                        past.write(past.kept(rows), (from, n), &mut left[b]);
                    }
                    for (t, s) in s.chunks_exact(TILE).enumerate() {
                        // Neurons that fill up the last tile are not there.
                        words[at + t] = simd::mask(s) & u64::MAX >> (TILE - n);
                        spikes[b][t][from..from + n].copy_from_slice(&s[..n]);
                    }
                    for (t, v) in v.chunks_exact(TILE).enumerate() {
                        membranes[b][t][from..from + n].copy_from_slice(&v[..n]);
                    }
                }
            }
        }
    });
    if let (Some(past), Some(room)) = (&past, room) {
        layer.operation.leave(past.tensor(room)?);
    }
    Ok(words)
}

/// Gradients of a tile.
struct TileGradient<F> {
    /// `[sources, 64]`
    weights: Vec<F>,
    bias: [f64; TILE],
    parameters: [Vec<f64>; PARAMETERS],
    /// By the currents, `[B, T, 64]`, where the spikes need a gradient.
    currents: Vec<F>,
    /// What the stretch before gets of each sample, rows of 64.
    back: Vec<F>,
}

impl Layer {
    fn gradients<F: Float>(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let ([steps, batch], shape) = (self.shape, &at.input_meta(0).shape);
        let (sources, neurons) = (shape[0], shape[1]);
        let needs: Vec<bool> = (0..at.input_count()).map(|i| at.needs(i)).collect();
        let wants_x = needs.get(self.spikes_place()) == Some(&true);
        let input = |i: usize| at.input(i)?.buffer()?.slice::<F>();
        let tiled = match self.operation.reads_input(&needs) {
            true => Some(self.tiled::<F>([sources, neurons], input)?),
            false => None,
        };
        let own;
        let parameters = match &tiled {
            Some(tiled) => &tiled.parameters,
            None => {
                own = self.parameters::<F>(neurons, input)?;
                &own
            }
        };
        let kept = Kept::of(at.output(1)?.buffer()?, self.operation.scan.half)?;
        let mut slices: [&[F]; 2] = [&[]; 2];
        for (slice, i) in slices.iter_mut().zip([0, 2]) {
            let shown = i == 0 || self.operation.scan.membrane;
            if let Some(grad) = if shown { at.grads(i) } else { None } {
                *slice = grad.buffer()?.slice::<F>()?;
            }
        }
        let wanted: [bool; PARAMETERS] =
            std::array::from_fn(|p| self.operation.place(p).is_some_and(|i| needs[i]));
        let group = self.group();
        let columns =
            needs[0].then(|| self.of_groups(|samples| Blocks::by_source(&self.spikes, self.shape, samples)));
        let rule = self.operation.rule::<F>();
        let tiles = neurons.div_ceil(TILE);
        let sizes = Sizes { steps, batch, neurons };
        let (past, handed_back) = (self.operation.past::<F>(sizes)?, self.operation.handed_back());
        let future = self.operation.future::<F>(handed_back.as_ref(), sizes)?;
        let one = |tile: usize| {
            let (from, n) = (tile * TILE, TILE.min(neurons - tile * TILE));
            let rows = part(parameters, from, TILE);
            let mut sum = TileGradient {
                weights: vec![F::ZERO; if needs[0] { sources * TILE } else { 0 }],
                bias: [0.0; TILE],
                parameters: wanted.map(|wanted| vec![0.0; if wanted { TILE } else { 0 }]),
                currents: vec![],
                back: vec![],
            };
            let mut scratch = Scratch::default();
            let mut grads: [Vec<F>; 2] =
                slices.map(|slice| vec![F::ZERO; if slice.is_empty() { 0 } else { steps * TILE }]);
            let mut sums: [Vec<F>; PARAMETERS] = Default::default();
            let (mut x, mut gx) = (vec![], vec![F::ZERO; group * steps * TILE]);
            let mut room = vec![F::ZERO; steps * TILE];
            for (i, start) in (0..batch).step_by(group).enumerate() {
                let end = batch.min(start + group);
                if let Some(tiled) = &tiled {
                    tiled.currents(tile, i, &mut x);
                }
                let gx = &mut gx[..(end - start) * steps * TILE];
                for (b, gx) in (start..end).zip(gx.chunks_exact_mut(steps * TILE)) {
                    for (grad, slice) in grads.iter_mut().zip(slices).filter(|(_, slice)| !slice.is_empty()) {
                        for (t, row) in grad.chunks_exact_mut(TILE).enumerate() {
                            row[..n].copy_from_slice(&slice[(t * batch + b) * neurons + from..][..n]);
                        }
                    }
                    for (sum, total) in sums.iter_mut().zip(&sum.parameters) {
                        sum.clear();
                        sum.resize(total.len(), F::ZERO);
                    }
                    let u = kept.slice((b * tiles + tile) * steps * TILE, &mut room);
                    let x =
                        if tiled.is_some() { &x[(b - start) * steps * TILE..][..steps * TILE] } else { &[] };
                    let grads = [grads[0].as_slice(), &[], grads[1].as_slice()];
                    scratch.past = past.as_ref().map(|past| past.read(b, (from, n), TILE));
                    scratch.future = future.as_ref().map(|future| future.read(b, (from, n), TILE));
                    simd::backward(&rule, &rows, None, (x, u), grads, gx, &mut sums, &mut scratch);
                    if let (Some(future), Some(rows)) = (&future, &scratch.future) {
                        future.kept(rows).for_each(|row| sum.back.extend_from_slice(row));
                    }
                    for (total, sums) in sum.parameters.iter_mut().zip(&sums) {
                        total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum.to_f64());
                    }
                }
                if let Some(columns) = &columns {
                    simd::add_block(&columns[i], 0, gx, &mut sum.weights);
                }
                if self.biased && needs[self.bias_place()] {
                    for row in gx.chunks_exact(TILE) {
                        sum.bias.iter_mut().zip(row).for_each(|(sum, g)| *sum += g.to_f64());
                    }
                }
                if wants_x {
                    sum.currents.extend_from_slice(gx);
                }
            }
            sum
        };
        let parts = parallel::map(tiles, one);
        if let Some(future) = &future {
            let mut room = future.room();
            for (b, mut rows) in future.rows(&mut room)?.into_iter().enumerate() {
                let size = rows.len() * TILE;
                for (tile, part) in parts.iter().enumerate() {
                    let (from, n) = (tile * TILE, TILE.min(neurons - tile * TILE));
                    let kept = part.back[b * size..][..size].chunks_exact(TILE);
                    future.write(kept, (from, n), &mut rows);
                }
            }
            self.operation.hand_back(future.tensor(room)?);
        }
        let mut results: Vec<Option<Tensor>> = vec![None; at.input_count()];
        if needs[0] {
            let mut out = cpu::Buffer::zeros(F::DTYPE, sources * neurons);
            parallel::chunks_mut(out.slice_mut::<F>()?, neurons, |k, row| {
                for (row, part) in row.chunks_mut(TILE).zip(&parts) {
                    row.copy_from_slice(&part.weights[k * TILE..][..row.len()]);
                }
            });
            results[0] = Some(Tensor::from_buffer(out, shape)?);
        }
        let tensor =
            |values: Vec<f64>, meta: &Meta| Tensor::from_f64(values, &meta.shape)?.to_dtype(meta.dtype);
        for (p, wanted) in wanted.into_iter().enumerate() {
            if let (true, Some(place)) = (wanted, self.operation.place(p)) {
                let meta = at.input_meta(place);
                let sums = (0..neurons).map(|j| parts[j / TILE].parameters[p][j % TILE]);
                results[place] =
                    Some(tensor(if meta.len() == 1 { vec![sums.sum()] } else { sums.collect() }, meta)?);
            }
        }
        if self.biased && needs[self.bias_place()] {
            let sums = (0..neurons).map(|j| parts[j / TILE].bias[j % TILE]).collect();
            results[self.bias_place()] = Some(tensor(sums, at.input_meta(self.bias_place()))?);
        }
        if wants_x {
            let mut flat = cpu::Buffer::zeros(F::DTYPE, steps * batch * neurons);
            parallel::chunks_mut(flat.slice_mut::<F>()?, neurons, |row, out| {
                let at = (row % batch * steps + row / batch) * TILE;
                for (out, part) in out.chunks_mut(TILE).zip(&parts) {
                    out.copy_from_slice(&part.currents[at..][..out.len()]);
                }
            });
            let flat = Tensor::from_buffer(flat, &[steps * batch, neurons])?;
            let place = self.spikes_place();
            results[place] = Some(flat.matmul_nt(at.input(0)?)?.reshape(&at.input_meta(place).shape)?);
        }
        Ok(results)
    }
}
