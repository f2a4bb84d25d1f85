//! Products of spikes with weights that cost what the spikes cost.

use crate::parallel;
use crate::tensor::dtype::{Element, Float, each_float};
use crate::tensor::{Backward, Keep, Meta, Op, Tensor, apply, cpu};
use crate::{Error, Result};

const OP: &str = "spike_product";

/// Rows whose events one task takes on.
const ROWS: usize = 64;
/// Columns of the weights that stay in registers.
const COLUMNS: usize = 64;

/// `x W` for spikes `x` `[.., K]` and weights `[K, N]`: for each spike a row of W is added, in the order of sources.
/// Entries other than 0 and 1 multiply.
///
/// `x` holds f32 or f64 like W, or bytes, which need no gradient. The gradient by W is a sum over spikes, too.
///
/// ```
/// use ransnn::snn::scan::spike_product;
/// use ransnn::tensor::Tensor;
/// let x = Tensor::from_u8(vec![1, 0, 1, 0, 0, 1], &[2, 3])?;
/// let w = Tensor::from_f32(vec![1.0, 2.0, 10.0, 20.0, 100.0, 200.0], &[3, 2])?;
/// assert_eq!(spike_product(&x, &w)?.to_f32()?, [101.0, 202.0, 100.0, 200.0]);
/// # Ok::<(), ransnn::Error>(())
/// ```
///
/// # Errors
/// Shapes or kinds of number that do not fit.
pub fn spike_product(x: &Tensor, weights: &Tensor) -> Result<Tensor> {
    apply(SpikeProduct, &[x, weights])?
        .pop()
        .ok_or_else(|| Error::Internal("spike_product has one output".into()))
}

#[derive(Debug)]
struct SpikeProduct;

/// Entries that are not zero, row by row.
struct Entries<F> {
    offsets: Vec<usize>,
    indices: Vec<u32>,
    /// Empty if all are 1.
    values: Vec<F>,
}

impl<F: Float> Entries<F> {
    fn of(x: &cpu::Buffer, columns: usize) -> Result<Self> {
        match x {
            cpu::Buffer::U8(x) => Ok(Self::collect(x, columns)),
            other => Ok(Self::collect(other.slice::<F>()?, columns)),
        }
    }

    fn collect<T: Element>(x: &[T], columns: usize) -> Self {
        let (zero, value) = (T::of_f64(0.0), |x: T| F::of_f64(x.to_f64()));
        let count = x.iter().filter(|&&x| x != zero).count();
        let (mut offsets, mut indices) = (vec![0], Vec::with_capacity(count));
        let mut ones = true;
        for row in x.chunks(columns.max(1)) {
            for (i, &x) in row.iter().enumerate() {
                if x != zero {
                    indices.push(i as u32);
                    ones &= value(x) == F::ONE;
                }
            }
            offsets.push(indices.len());
        }
        let values = if ones { vec![] } else { x.iter().filter(|&&x| x != zero).map(|&x| value(x)).collect() };
        Self { offsets, indices, values }
    }

    fn row(&self, i: usize) -> (&[u32], &[F]) {
        let range = self.offsets[i]..self.offsets[i + 1];
        (&self.indices[range.clone()], if self.values.is_empty() { &[] } else { &self.values[range] })
    }
}

impl Op for SpikeProduct {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        let (x, w) = (inputs[0], inputs[1]);
        let wrong =
            |why: &str| Error::Shape { op: OP, lhs: x.shape.clone(), rhs: w.shape.clone(), why: why.into() };
        if !w.dtype.is_computing() {
            return Err(Error::Unsupported { op: OP, on: format!("with {} weights", w.dtype) });
        }
        if x.dtype != w.dtype && x.dtype != crate::tensor::DType::U8 {
            return Err(wrong(&format!("spikes are {}, weights {}", x.dtype, w.dtype)));
        }
        match (x.shape.split_last(), w.shape.as_slice()) {
            (Some((last, front)), [sources, targets]) if last == sources => {
                Ok(vec![Meta::new([front, &[*targets]].concat(), w.dtype)])
            }
            _ => Err(wrong("the last axis of the spikes must be the rows of the weights")),
        }
    }

    fn cpu(&self, inputs: &[cpu::View<'_>], outputs: &mut [cpu::ViewMut<'_>]) -> Result<()> {
        each_float!(OP, inputs[1].meta.dtype, F => {
            let [sources, targets] = inputs[1].meta.shape[..] else {
                return Err(Error::Internal("weights were checked to be a matrix".into()));
            };
            let (entries, w) = (Entries::<F>::of(inputs[0].data, sources)?, inputs[1].slice::<F>()?);
            let out = outputs[0].slice::<F>()?;
            parallel::chunks_mut(out, ROWS * targets, |block, out| {
                for from in (0..targets).step_by(COLUMNS) {
                    let n = COLUMNS.min(targets - from);
                    for (i, out) in out.chunks_mut(targets).enumerate() {
                        let (indices, values) = entries.row(block * ROWS + i);
                        let mut sums = [F::ZERO; COLUMNS];
                        let sums = &mut sums[..n];
                        add_rows(indices, values, |k| &w[k as usize * targets + from..][..n], sums);
                        out[from..from + n].copy_from_slice(sums);
                    }
                }
            });
            Ok(())
        })
    }

    fn keep(&self, needs: &[bool]) -> Keep {
        Keep::NOTHING.input(0, needs[1]).input(1, needs[0])
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let grad = at.grad()?;
        let shape = at.input_meta(1).shape.clone();
        let flat = grad.reshape(&[grad.len() / shape[1].max(1), shape[1]])?;
        let by_x = match at.needs(0) {
            true => Some(flat.matmul_nt(at.input(1)?)?.reshape(&at.input_meta(0).shape)?),
            false => None,
        };
        let by_w = match at.needs(1) {
            true => {
                let x = at.input(0)?;
                Some(each_float!(OP, grad.dtype(), F => weight_gradient::<F>(x, &flat, &shape))?)
            }
            false => None,
        };
        Ok(vec![by_x, by_w])
    }
}

/// Adds rows, each times its value or 1.
fn add_rows<'a, F: Float>(indices: &[u32], values: &[F], row: impl Fn(u32) -> &'a [F], sums: &mut [F]) {
    if values.is_empty() {
        for &k in indices {
            sums.iter_mut().zip(row(k)).for_each(|(sum, &w)| *sum += w);
        }
    } else {
        for (&k, &value) in indices.iter().zip(values) {
            sums.iter_mut().zip(row(k)).for_each(|(sum, &w)| *sum += value * w);
        }
    }
}

/// `xᵀ g`: for each source, the rows of `g` in which it fired are added, in their order.
fn weight_gradient<F: Float>(x: &Tensor, grad: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let (sources, targets) = (shape[0], shape[1]);
    let entries = transposed(Entries::<F>::of(x.buffer()?, sources)?, sources);
    let g = grad.buffer()?.slice::<F>()?;
    let mut out = cpu::Buffer::zeros(F::DTYPE, sources * targets);
    parallel::chunks_mut(out.slice_mut::<F>()?, ROWS * targets, |block, out| {
        for from in (0..targets).step_by(COLUMNS) {
            let n = COLUMNS.min(targets - from);
            for (i, out) in out.chunks_mut(targets).enumerate() {
                let (indices, values) = entries.row(block * ROWS + i);
                add_rows(indices, values, |k| &g[k as usize * targets + from..][..n], &mut out[from..from + n]);
            }
        }
    });
    Tensor::from_buffer(out, shape)
}

/// The entries column by column.
fn transposed<F: Float>(entries: Entries<F>, columns: usize) -> Entries<F> {
    let mut offsets = vec![0usize; columns + 1];
    entries.indices.iter().for_each(|&i| offsets[i as usize + 1] += 1);
    for i in 0..columns {
        offsets[i + 1] += offsets[i];
    }
    let mut next = offsets.clone();
    let mut indices = vec![0u32; entries.indices.len()];
    let mut values = vec![F::ZERO; entries.values.len()];
    for row in 0..entries.offsets.len() - 1 {
        let (columns, row_values) = entries.row(row);
        for (i, &column) in columns.iter().enumerate() {
            let place = next[column as usize];
            next[column as usize] += 1;
            indices[place] = row as u32;
            if let Some(&value) = row_values.get(i) {
                values[place] = value;
            }
        }
    }
    Entries { offsets, indices, values }
}
