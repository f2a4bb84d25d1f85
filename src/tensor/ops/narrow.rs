//! A range along an axis.

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut, each_buffer};
use crate::tensor::cuda;
use crate::tensor::dtype::Element;
use crate::tensor::op::{Backward, Keep, Op, apply1};
use crate::tensor::shape::{self, around, mismatch};
use crate::tensor::{Meta, Tensor};

/// Elements `start..start + len` along `axis`.
#[derive(Debug)]
struct Narrow {
    axis: usize,
    start: usize,
    len: usize,
}

impl Op for Narrow {
    fn name(&self) -> &'static str {
        "narrow"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        let mut shape = inputs[0].shape.clone();
        if self.start.checked_add(self.len).is_none_or(|end| end > shape[self.axis]) {
            let why = format!("{} elements from {} on leave axis {}", self.len, self.start, self.axis);
            return Err(mismatch(self.name(), &shape, &[], why));
        }
        shape[self.axis] = self.len;
        Ok(vec![Meta::new(shape, inputs[0].dtype)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let (_, n, inner) = around(inputs[0].shape(), self.axis);
        each_buffer!(inputs[0].data, x => {
            copy(x, n * inner, self.start * inner, outputs[0].data.slice_mut()?, self.len * inner, 0, self.len * inner);
        });
        Ok(())
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        let (outer, n, inner) = around(inputs[0].shape(), self.axis);
        let (from, to) = ([n * inner, self.start * inner], [self.len * inner, 0]);
        let (from, to) = ((inputs[0].data, from), (&mut *outputs[0].data, to));
        gpu.copy_rows(inputs[0].meta.dtype, from, to, [outer, self.len * inner])
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let op = Pad { axis: self.axis, start: self.start, size: at.input_meta(0).shape[self.axis] };
        Ok(vec![Some(apply1(op, &[at.grad()?])?)])
    }
}

/// Copies `len` elements of every row from one offset to another.
pub(super) fn copy<T: Element>(
    from: &[T],
    from_row: usize,
    from_offset: usize,
    to: &mut [T],
    to_row: usize,
    to_offset: usize,
    len: usize,
) {
    if len > 0 {
        let rows = to.chunks_mut(to_row).zip(from.chunks(from_row));
        rows.for_each(|(to, from)| to[to_offset..][..len].copy_from_slice(&from[from_offset..][..len]));
    }
}

/// Puts a range back among zeros.
#[derive(Debug)]
struct Pad {
    axis: usize,
    start: usize,
    size: usize,
}

impl Op for Pad {
    fn name(&self) -> &'static str {
        "narrow"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        let mut shape = inputs[0].shape.clone();
        shape[self.axis] = self.size;
        Ok(vec![Meta::new(shape, inputs[0].dtype)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let (_, n, inner) = around(inputs[0].shape(), self.axis);
        each_buffer!(inputs[0].data, x => {
            copy(x, n * inner, 0, outputs[0].data.slice_mut()?, self.size * inner, self.start * inner, n * inner);
        });
        Ok(())
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        let (outer, n, inner) = around(inputs[0].shape(), self.axis);
        gpu.clear(outputs[0].data)?;
        let to = (&mut *outputs[0].data, [self.size * inner, self.start * inner]);
        gpu.copy_rows(inputs[0].meta.dtype, (inputs[0].data, [n * inner, 0]), to, [outer, n * inner])
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

impl Tensor {
    /// Elements `start..start + len` along an axis, copied. Gradient: `g` among zeros.
    ///
    /// # Errors
    /// The axis does not exist, or the range leaves it.
    pub fn narrow(&self, axis: isize, start: usize, len: usize) -> Result<Self> {
        let axis = shape::axis("narrow", self.shape(), axis)?;
        apply1(Narrow { axis, start, len }, &[self])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |(shape, axis, start, len): (&[usize], isize, usize, usize)| {
        let inputs = check::inputs("narrow", &[shape], -1.0, 1.0);
        Case::new(format!("narrow {shape:?} {axis} {start} {len}"), inputs, move |x| {
            x[0].narrow(axis, start, len)
        })
    };
    let cases: [(&[usize], isize, usize, usize); 4] =
        [(&[1], 0, 0, 1), (&[5], 0, 2, 2), (&[2, 3, 4], 1, 1, 2), (&[3, 4], -1, 3, 1)];
    cases.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::tensor::Tensor;

    #[test]
    fn values_and_refusals() {
        let x = Tensor::from_u8((0..6).collect(), &[2, 3]).expect("fits");
        assert_eq!(x.narrow(1, 1, 2).expect("runs").to_u32().expect("u8"), [1, 2, 4, 5]);
        assert!(x.narrow(1, 1, 0).expect("runs").is_empty());
        assert!(x.narrow(1, 2, 2).is_err() && x.narrow(0, usize::MAX, 2).is_err());
    }
}
