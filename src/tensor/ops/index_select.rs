//! Selection of slices by index: rows of an embedding table, samples of a batch.

use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut, each_buffer};
use crate::tensor::cuda::{self, Arg};
use crate::tensor::dtype::{Element, each_float};
use crate::tensor::kernels::operations::layout;
use crate::tensor::op::{Backward, Keep, Op, apply1, infer};
use crate::tensor::shape::{self, around, mismatch};
use crate::tensor::{DType, Meta, Tensor};
use crate::{Error, Result};

/// Inputs: values and indices `[K]` (u32); the axis gets size K.
#[derive(Debug)]
struct IndexSelect {
    axis: usize,
}

impl Op for IndexSelect {
    fn name(&self) -> &'static str {
        "index_select"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        if inputs[1].dtype != DType::U32 {
            let on = format!("with indices of {}, only u32", inputs[1].dtype);
            return Err(Error::Unsupported { op: self.name(), on });
        }
        let &[count] = &inputs[1].shape[..] else {
            return Err(mismatch(self.name(), &inputs[0].shape, &inputs[1].shape, "indices have one axis"));
        };
        let mut shape = inputs[0].shape.clone();
        shape[self.axis] = count;
        Ok(vec![Meta::new(shape, inputs[0].dtype)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let (outer, n, inner) = around(inputs[0].shape(), self.axis);
        let indices = inputs[1].slice::<u32>()?;
        if let Some(at) = indices.iter().position(|&i| i as usize >= n) {
            let expected = format!("below {n}, the size of axis {}", self.axis);
            return Err(Error::value(format!("index {at}"), indices[at], expected));
        }
        each_buffer!(inputs[0].data, x => select(x, outputs[0].data.slice_mut()?, indices, (outer, n, inner)));
        Ok(())
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        let (_, n, inner) = around(inputs[0].shape(), self.axis);
        let [out] = outputs else { return Ok(()) };
        let count = out.meta.len();
        let mut args = vec![inputs[0].arg(), inputs[1].arg(), out.arg(), Arg::Fault];
        args.extend(cuda::sizes([n, inputs[1].meta.len(), inner])?);
        gpu.outputs(layout::INDEX_SELECT.words(inputs[0].meta.dtype), count, args)
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING.input(1, true)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let op = IndexAdd { axis: self.axis, size: at.input_meta(0).shape[self.axis] };
        Ok(vec![Some(apply1(op, &[at.grad()?, at.input(1)?])?), None])
    }
}

fn select<T: Element>(x: &[T], out: &mut [T], indices: &[u32], (outer, n, inner): (usize, usize, usize)) {
    if inner == 0 {
        return;
    }
    let mut pieces = out.chunks_mut(inner);
    for o in 0..outer {
        for (&i, piece) in indices.iter().zip(&mut pieces) {
            let at = (o * n + i as usize) * inner;
            piece.copy_from_slice(&x[at..at + inner]);
        }
    }
}

/// Adds slices at their indices, in order, to zeros.
#[derive(Debug)]
struct IndexAdd {
    axis: usize,
    size: usize,
}

impl Op for IndexAdd {
    fn name(&self) -> &'static str {
        "index_select"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::computing(self.name(), inputs[0])?;
        let mut shape = inputs[0].shape.clone();
        shape[self.axis] = self.size;
        Ok(vec![Meta::new(shape, inputs[0].dtype)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let (outer, n, inner) = around(outputs[0].shape(), self.axis);
        let indices = inputs[1].slice::<u32>()?;
        if inner == 0 {
            return Ok(());
        }
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let out = outputs[0].slice::<T>()?;
            let mut pieces = inputs[0].slice::<T>()?.chunks(inner);
            for o in 0..outer {
                for (&i, piece) in indices.iter().zip(&mut pieces) {
                    let at = (o * n + i as usize) * inner;
                    out[at..at + inner].iter_mut().zip(piece).for_each(|(out, &x)| *out += x);
                }
            }
            Ok(())
        })
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        let (outer, n, inner) = around(outputs[0].shape(), self.axis);
        let [out] = outputs else { return Ok(()) };
        let [size, count, of_inner] = cuda::sizes([n, inputs[1].meta.len(), inner])?;
        let mut args = [inputs[0].arg(), inputs[1].arg(), out.arg(), size, count, of_inner];
        let entry = layout::INDEX_ADD.of(self.name(), inputs[0].meta.dtype)?;
        gpu.blocks(entry, [if inner == 0 { 0 } else { outer * n }, 1, 1], 0, &mut args)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

impl Tensor {
    /// The slices along an axis that `indices` `[K]` (u32) name, in their order. Gradient: `g` added up at the indices.
    ///
    /// # Errors
    /// The axis does not exist, or an index is not below its size.
    pub fn index_select(&self, axis: isize, indices: &Self) -> Result<Self> {
        let axis = shape::axis("index_select", self.shape(), axis)?;
        apply1(IndexSelect { axis }, &[self, indices])
    }

    /// Rows of a table `[V, D]` for indices of any shape `S`: `[S.., D]`.
    ///
    /// ```
    /// # use ransnn::tensor::Tensor;
    /// let table = Tensor::from_f32(vec![0.0, 0.1, 1.0, 1.1], &[2, 2])?;
    /// let rows = table.embedding(&Tensor::from_u32(vec![1, 1, 0], &[1, 3])?)?;
    /// assert_eq!(rows.shape(), [1, 3, 2]);
    /// assert_eq!(rows.to_f32()?, [1.0, 1.1, 1.0, 1.1, 0.0, 0.1]);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    pub fn embedding(&self, indices: &Self) -> Result<Self> {
        let rows = self.index_select(0, &indices.reshape(&[indices.len()])?)?;
        rows.reshape(&[indices.shape(), &self.shape()[1..]].concat())
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |(shape, axis, count): (&[usize], usize, usize)| {
        let below = shape[axis] as u32;
        let inputs = check::inputs("index_select", &[shape], -1.0, 1.0);
        Case::new(format!("index_select {shape:?} {axis}"), inputs, move |x| {
            x[0].index_select(axis as isize, &check::beside(&x[0], &check::indices(&[count], below)?)?)
        })
    };
    let cases: [(&[usize], usize, usize); 4] =
        [(&[1], 0, 1), (&[5], 0, 9), (&[4, 3], 0, 6), (&[2, 3, 2], 1, 4)];
    cases.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::tensor::Tensor;

    #[test]
    fn values_and_refusals() {
        let x = Tensor::from_u8((0..6).collect(), &[2, 3]).expect("fits");
        let index = |values: Vec<u32>| Tensor::from_u32(values, &[2]).expect("fits");
        assert_eq!(x.index_select(1, &index(vec![2, 0])).expect("runs").to_u32().expect("u8"), [2, 0, 5, 3]);
        let message = x.index_select(0, &index(vec![0, 2])).expect_err("refused").to_string();
        assert_eq!(message, "index 1 is 2; it must be below 2, the size of axis 0");
        assert!(x.index_select(0, &x).is_err());
    }
}
