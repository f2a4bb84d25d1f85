//! Products of spikes with weights that cost what the spikes cost.

use std::ops::Range;
use std::sync::Arc;

use super::simd;
use crate::parallel;
use crate::tensor::dtype::{Element, Float, each_float};
use crate::tensor::{Backward, Keep, Meta, Op, Tensor, apply, cpu};
use crate::{Error, Result};

const OP: &str = "spike_product";

/// Rows of the output, or of the weights on the way back, that one task takes on.
const ROWS: usize = 256;
/// Rows of the gradient that stay in the second-level cache with a block of columns.
const CACHED: usize = 512;

/// Which entries of a matrix are not zero, row by row: spikes of `[T · B, K]`, or of any front axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Spikes {
    front: Vec<usize>,
    columns: usize,
    // Loops over entries rely on this: indices are below `columns`, offsets ascend.
    pub(super) offsets: Vec<u32>,
    pub(super) indices: Vec<u32>,
    /// Empty if all entries are 1.
    pub(super) values: Vec<f64>,
}

impl Spikes {
    /// One ascending list of sources for each row of `front` axes.
    ///
    /// # Errors
    /// Another number of rows, or a source that is not below `columns`.
    pub fn from_rows<'a>(
        front: &[usize],
        columns: usize,
        rows: impl IntoIterator<Item = &'a [u32]>,
    ) -> Result<Self> {
        let (mut offsets, mut indices) = (vec![0u32], Vec::new());
        for row in rows {
            if let Some(wrong) = row.iter().find(|&&i| i as usize >= columns) {
                return Err(Error::value("source of a spike", wrong, format!("below {columns}")));
            }
            indices.extend_from_slice(row);
            offsets.push(indices.len() as u32);
        }
        let expected: usize = front.iter().product();
        if offsets.len() - 1 != expected {
            return Err(Error::value("rows of spikes", offsets.len() - 1, format!("{expected}")));
        }
        Ok(Self { front: front.to_vec(), columns, offsets, indices, values: vec![] })
    }

    /// The entries of a tensor that are not zero; the last axis are the columns.
    ///
    /// # Errors
    /// A scalar, a tensor on another device, or one of a kind that is neither f32, f64 nor u8.
    pub fn of(x: &Tensor) -> Result<Self> {
        let Some((&columns, front)) = x.shape().split_last() else {
            return Err(Error::value("spikes", "a scalar", "of at least one axis"));
        };
        match x.buffer()? {
            cpu::Buffer::U8(x) => Ok(Self::collect(x, front, columns)),
            cpu::Buffer::F32(x) => Ok(Self::collect(x, front, columns)),
            cpu::Buffer::F64(x) => Ok(Self::collect(x, front, columns)),
            other => Err(Error::Unsupported { op: OP, on: format!("with {} spikes", other.dtype()) }),
        }
    }

    fn collect<T: Element>(x: &[T], front: &[usize], columns: usize) -> Self {
        let (zero, one) = (T::of_f64(0.0), T::of_f64(1.0));
        let rows = front.iter().product();
        let (mut offsets, mut indices) = (Vec::with_capacity(rows + 1), vec![]);
        offsets.push(0);
        let (mut ones, mut used) = (true, 0);
        for row in x.chunks(columns.max(1)).take(rows) {
            if indices.len() < used + columns {
                indices.resize((2 * indices.len()).max(used + columns), 0);
            }
            // Without a branch, which spikes would mislead: always written, kept where the next one follows.
            for (i, &x) in row.iter().enumerate() {
                indices[used] = i as u32;
                used += usize::from(x != zero);
                ones &= x == zero || x == one;
            }
            offsets.push(used as u32);
        }
        indices.truncate(used);
        indices.shrink_to_fit();
        offsets.resize(rows + 1, used as u32);
        let values = match ones {
            true => vec![],
            false => x.iter().filter(|&&x| x != zero).map(|x| x.to_f64()).collect(),
        };
        Self { front: front.to_vec(), columns, offsets, indices, values }
    }

    /// The axes before the columns.
    pub fn front(&self) -> &[usize] {
        &self.front
    }

    /// The rows of step `t`, of spikes `[T, .., K]`.
    ///
    /// # Errors
    /// No such step.
    pub fn step(&self, t: usize) -> Result<Self> {
        let mut step = self.steps(t..t + 1)?;
        step.front.remove(0);
        Ok(step)
    }

    /// Some of the steps of spikes `[T, .., K]`.
    ///
    /// # Errors
    /// Steps that are not there.
    pub fn steps(&self, range: Range<usize>) -> Result<Self> {
        let front =
            self.front.split_first().filter(|(steps, _)| range.start <= range.end && range.end <= **steps);
        let Some((&steps, front)) = front else {
            let expected = format!("within the {:?} there are", self.front.first());
            return Err(Error::value("steps", format!("{range:?}"), expected));
        };
        let rows = self.rows().checked_div(steps).unwrap_or(0);
        let offsets = &self.offsets[range.start * rows..=range.end * rows];
        let front = [&[range.len()], front].concat();
        let range = offsets[0] as usize..offsets[offsets.len() - 1] as usize;
        Ok(Self {
            front,
            columns: self.columns,
            offsets: offsets.iter().map(|offset| offset - offsets[0]).collect(),
            indices: self.indices[range.clone()].to_vec(),
            values: if self.values.is_empty() { vec![] } else { self.values[range].to_vec() },
        })
    }

    /// Spikes `[T, .., K]` so many steps later; those that would come after the last step are lost.
    ///
    /// # Errors
    /// No axis of steps.
    pub fn late(&self, delay: usize) -> Result<Self> {
        let steps = self.front.first().copied().unwrap_or_default();
        let delay = delay.min(steps);
        let mut late = self.steps(0..steps - delay)?;
        late.front[0] = steps;
        let silent = self.rows().checked_div(steps).unwrap_or(0) * delay;
        late.offsets.splice(0..0, std::iter::repeat_n(0, silent));
        Ok(late)
    }

    /// Some of the samples of spikes `[T, B, K]`, in all steps.
    ///
    /// # Errors
    /// No axis of samples; samples that are not there.
    pub fn samples(&self, range: Range<usize>) -> Result<Self> {
        let &[steps, batch] = self.front.as_slice() else {
            return Err(Error::value("axes of spikes", format!("{:?}", self.front), "[steps, samples]"));
        };
        if range.start > range.end || range.end > batch {
            return Err(Error::value("samples", format!("{range:?}"), format!("within 0..{batch}")));
        }
        let mut part = Self {
            front: vec![steps, range.len()],
            columns: self.columns,
            offsets: vec![0],
            indices: vec![],
            values: vec![],
        };
        for row in (0..steps).flat_map(|t| range.clone().map(move |sample| t * batch + sample)) {
            let (indices, values) = self.row(row);
            part.indices.extend_from_slice(indices);
            part.values.extend_from_slice(values);
            part.offsets.push(part.indices.len() as u32);
        }
        Ok(part)
    }

    /// All entries, zeros included, row after row.
    pub fn dense(&self) -> Vec<f32> {
        let rows = self.offsets.len() - 1;
        let mut all = vec![0.0; rows * self.columns];
        for i in 0..rows {
            let (indices, values) = self.row(i);
            for (k, &column) in indices.iter().enumerate() {
                // A source may be listed twice.
                all[i * self.columns + column as usize] += values.get(k).map_or(1.0, |&x| x as f32);
            }
        }
        all
    }

    /// [`dense`](Self::dense) as a tensor of f32 with the columns as its last axis.
    ///
    /// # Errors
    /// What tensors return.
    pub fn to_tensor(&self) -> Result<Tensor> {
        Tensor::from_f32(self.dense(), &[&self.front[..], &[self.columns]].concat())
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Length of a row.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Whether all entries are 1.
    pub(super) fn is_binary(&self) -> bool {
        self.values.is_empty()
    }

    /// Steps and samples, where the front axes are those two.
    pub(super) fn sequence(&self) -> Option<[usize; 2]> {
        self.front.as_slice().try_into().ok()
    }

    /// From masks of each row: bit i of its word w is column 64 w + i; bits beyond the last column are 0.
    pub(super) fn from_words<R: Iterator<Item = u64>>(
        front: &[usize],
        columns: usize,
        words: impl Fn(usize) -> R + Sync,
    ) -> Self {
        let rows: usize = front.iter().product();
        let parts = parallel::map(rows.div_ceil(ROWS), |part| {
            let (mut ends, mut indices) = (vec![], vec![]);
            for row in part * ROWS..rows.min((part + 1) * ROWS) {
                for (i, mut word) in words(row).enumerate() {
                    while word != 0 {
                        indices.push((64 * i) as u32 + word.trailing_zeros());
                        word &= word - 1;
                    }
                }
                ends.push(indices.len() as u32);
            }
            (ends, indices)
        });
        let (mut offsets, mut indices) = (vec![0u32], vec![]);
        for (ends, part) in parts {
            let start = indices.len() as u32;
            offsets.extend(ends.iter().map(|end| start + end));
            indices.extend_from_slice(&part);
        }
        indices.shrink_to_fit();
        debug_assert!(indices.iter().all(|&i| (i as usize) < columns));
        Self { front: front.to_vec(), columns, offsets, indices, values: vec![] }
    }

    pub(super) fn row(&self, i: usize) -> (&[u32], &[f64]) {
        let range = self.offsets[i] as usize..self.offsets[i + 1] as usize;
        (&self.indices[range.clone()], if self.values.is_empty() { &[] } else { &self.values[range] })
    }

    /// The entries column by column.
    fn transposed(&self) -> Self {
        let mut offsets = vec![0u32; self.columns + 1];
        self.indices.iter().for_each(|&i| offsets[i as usize + 1] += 1);
        for i in 0..self.columns {
            offsets[i + 1] += offsets[i];
        }
        let mut next = offsets.clone();
        let mut indices = vec![0u32; self.indices.len()];
        let mut values = vec![0.0; self.values.len()];
        let rows = self.offsets.len() - 1;
        for row in 0..rows {
            let (columns, row_values) = self.row(row);
            for (i, &column) in columns.iter().enumerate() {
                let place = next[column as usize] as usize;
                next[column as usize] += 1;
                indices[place] = row as u32;
                if let Some(&value) = row_values.get(i) {
                    values[place] = value;
                }
            }
        }
        Self { front: vec![self.columns], columns: rows, offsets, indices, values }
    }
}

/// `x W + b` for spikes `x` `[.., K]`, weights `[K, N]` and a bias `[N]`: for each spike a row of W is added, in the
/// order of sources, then the bias. Entries other than 0 and 1 multiply. The gradient by W is a sum over spikes, too.
///
/// ```
/// use ransnn::snn::scan::spike_product;
/// use ransnn::tensor::Tensor;
/// let x = Tensor::from_f32(vec![1.0, 0.0, 1.0, 0.0, 0.0, 1.0], &[2, 3])?;
/// let w = Tensor::from_f32(vec![1.0, 2.0, 10.0, 20.0, 100.0, 200.0], &[3, 2])?;
/// assert_eq!(spike_product(&x, &w, None)?.to_f32()?, [101.0, 202.0, 100.0, 200.0]);
/// # Ok::<(), ransnn::Error>(())
/// ```
///
/// # Errors
/// Shapes or kinds of number that do not fit.
pub fn spike_product(x: &Tensor, weights: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let spikes = Arc::new(Spikes::of(x)?);
    let inputs: Vec<&Tensor> = [weights].into_iter().chain(bias).chain([x]).collect();
    run(SpikeProduct { spikes, biased: bias.is_some() }, &inputs)
}

/// [`spike_product`] for spikes that need no gradient and never were a tensor.
///
/// # Errors
/// Shapes that do not fit.
pub fn product_of(spikes: &Arc<Spikes>, weights: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let inputs: Vec<&Tensor> = [weights].into_iter().chain(bias).collect();
    run(SpikeProduct { spikes: spikes.clone(), biased: bias.is_some() }, &inputs)
}

fn run(operation: SpikeProduct, inputs: &[&Tensor]) -> Result<Tensor> {
    apply(operation, inputs)?.pop().ok_or_else(|| Error::Internal("spike_product has one output".into()))
}

/// Inputs: weights, bias if there is one, and the spikes where they may need a gradient.
#[derive(Debug)]
struct SpikeProduct {
    spikes: Arc<Spikes>,
    biased: bool,
}

impl Op for SpikeProduct {
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
        if !w.dtype.is_computing() {
            return Err(Error::Unsupported { op: OP, on: format!("with {} weights", w.dtype) });
        }
        let &[sources, targets] = w.shape.as_slice() else {
            return Err(wrong(&[], "weights are [sources, targets]"));
        };
        if self.spikes.columns != sources {
            return Err(wrong(&[self.spikes.columns], "the last axis of the spikes are the sources"));
        }
        if self.biased && (inputs[1].shape != [targets] || inputs[1].dtype != w.dtype) {
            return Err(wrong(
                &inputs[1].shape,
                "a bias is one number per target, of the kind of the weights",
            ));
        }
        let x = inputs.get(1 + usize::from(self.biased));
        if let Some(x) = x.filter(|x| x.dtype != w.dtype && x.dtype.is_computing()) {
            return Err(wrong(&x.shape, &format!("spikes are {}, weights {}", x.dtype, w.dtype)));
        }
        Ok(vec![Meta::new([&self.spikes.front[..], &[targets]].concat(), w.dtype)])
    }

    fn cpu(&self, inputs: &[cpu::View<'_>], outputs: &mut [cpu::ViewMut<'_>]) -> Result<()> {
        each_float!(OP, inputs[0].meta.dtype, F => {
            let targets = inputs[0].meta.shape[1];
            let w = inputs[0].slice::<F>()?;
            let bias = if self.biased { inputs[1].slice::<F>()? } else { &[] };
            let out = outputs[0].slice::<F>()?;
            parallel::chunks_mut(out, ROWS * targets.max(1), |block, out| {
                for from in (0..targets).step_by(simd::COLUMNS) {
                    let columns = from..targets.min(from + simd::COLUMNS);
                    for (i, out) in out.chunks_mut(targets).enumerate() {
                        let (indices, values) = self.spikes.row(block * ROWS + i);
                        let out = &mut out[columns.clone()];
                        simd::add_rows(indices, values, w, (targets, from), out);
                        if self.biased {
                            out.iter_mut().zip(&bias[columns.clone()]).for_each(|(out, &b)| *out += b);
                        }
                    }
                }
            });
            Ok(())
        })
    }

    fn keep(&self, needs: &[bool]) -> Keep {
        Keep::NOTHING.input(0, needs.get(1 + usize::from(self.biased)) == Some(&true))
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let grad = at.grad()?;
        let shape = at.input_meta(0).shape.clone();
        let flat = grad.reshape(&[grad.len() / shape[1].max(1), shape[1]])?;
        let mut results = vec![match at.needs(0) {
            true => {
                let columns = self.spikes.transposed();
                Some(each_float!(OP, grad.dtype(), F => weight_gradient::<F>(&columns, &flat, &shape))?)
            }
            false => None,
        }];
        if self.biased {
            results.push(if at.needs(1) { Some(flat.sum(&[0])?) } else { None });
        }
        if at.input_count() > results.len() {
            let x = results.len();
            results.push(match at.needs(x) {
                true => Some(flat.matmul_nt(at.input(0)?)?.reshape(&at.input_meta(x).shape)?),
                false => None,
            });
        }
        Ok(results)
    }
}

/// For each source, the rows of `g` in which it fired are added, in their order.
fn weight_gradient<F: Float>(columns: &Spikes, grad: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let (sources, targets) = (shape[0], shape[1]);
    let (g, rows) = (grad.buffer()?.slice::<F>()?, columns.columns as u32);
    let mut out = cpu::Buffer::zeros(F::DTYPE, sources * targets);
    parallel::chunks_mut(out.slice_mut::<F>()?, ROWS * targets.max(1), |block, out| {
        let count = out.len() / targets;
        let mut done = vec![0usize; count];
        for from in (0..targets).step_by(simd::COLUMNS) {
            let here = from..targets.min(from + simd::COLUMNS);
            done.fill(0);
            for end in (0..rows).step_by(CACHED).map(|start| start + CACHED as u32) {
                for (i, out) in out.chunks_mut(targets).enumerate() {
                    let (indices, values) = columns.row(block * ROWS + i);
                    let start = done[i];
                    let n = indices[start..].partition_point(|&row| row < end);
                    let values = if values.is_empty() { values } else { &values[start..start + n] };
                    simd::add_rows(
                        &indices[start..start + n],
                        values,
                        g,
                        (targets, from),
                        &mut out[here.clone()],
                    );
                    done[i] += n;
                }
            }
        }
    });
    Tensor::from_buffer(out, shape)
}
