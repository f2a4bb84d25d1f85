//! The largest element along an axis, and where it is.

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut};
use crate::tensor::cuda;
use crate::tensor::dtype::{Float, each_float};
use crate::tensor::kernels::operations::reduce;
use crate::tensor::op::{Backward, Keep, Op, apply, apply1, infer};
use crate::tensor::shape::{self, around, mismatch};
use crate::tensor::{DType, Meta, Tensor};

/// Outputs: values and, as u32, their places; the axis disappears. The first of equals; a NaN wins.
#[derive(Debug)]
struct Max {
    axis: usize,
}

impl Op for Max {
    fn name(&self) -> &'static str {
        "max"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::computing(self.name(), inputs[0])?;
        let mut shape = inputs[0].shape.clone();
        if shape.remove(self.axis) == 0 {
            return Err(mismatch(self.name(), &inputs[0].shape, &[], "there is no element to choose"));
        }
        Ok(vec![Meta::new(shape.clone(), inputs[0].dtype), Meta::new(shape, DType::U32)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let (outer, n, inner) = around(inputs[0].shape(), self.axis);
        let [values, places] = outputs else { return Ok(()) };
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (x, places) = (inputs[0].slice::<T>()?, places.slice::<u32>()?);
            let values = values.slice::<T>()?;
            for o in 0..outer {
                for i in 0..inner {
                    let place = first_of_largest((0..n).map(|k| x[(o * n + k) * inner + i]));
                    values[o * inner + i] = x[(o * n + place) * inner + i];
                    places[o * inner + i] = place as u32;
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
        let (outer, n, inner) = around(inputs[0].shape(), self.axis);
        let [values, places] = outputs else { return Ok(()) };
        let [a, b, c] = cuda::sizes([outer, n, inner])?;
        let mut args = [inputs[0].arg(), values.arg(), places.arg(), a, b, c];
        let entry = reduce::MAX_AXIS.of(self.name(), inputs[0].meta.dtype)?;
        gpu.blocks(entry, [(outer * inner).div_ceil(cuda::THREADS), 1, 1], 0, &mut args)
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING.output(1, true)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        if at.grads(0).is_none() {
            return at.none();
        }
        let op = Put { axis: self.axis, size: at.input_meta(0).shape[self.axis] };
        Ok(vec![Some(apply1(op, &[at.grad()?, at.output(1)?])?)])
    }
}

fn first_of_largest<T: Float>(values: impl Iterator<Item = T>) -> usize {
    let mut best: Option<(usize, T)> = None;
    for (i, x) in values.enumerate() {
        let is_nan = |x: T| x.partial_cmp(&x).is_none();
        if best.is_none_or(|(_, b)| x > b || (is_nan(x) && !is_nan(b))) {
            best = Some((i, x));
        }
    }
    best.map_or(0, |(i, _)| i)
}

/// Zero but for the places along a new axis where the values are put.
#[derive(Debug)]
struct Put {
    axis: usize,
    size: usize,
}

impl Op for Put {
    fn name(&self) -> &'static str {
        "max"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        let mut shape = inputs[0].shape.clone();
        shape.insert(self.axis, self.size);
        Ok(vec![Meta::new(shape, inputs[0].dtype)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let (_, n, inner) = around(outputs[0].shape(), self.axis);
        let places = inputs[1].slice::<u32>()?;
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let out = outputs[0].slice::<T>()?;
            for (at, (&x, &place)) in inputs[0].slice::<T>()?.iter().zip(places).enumerate() {
                out[(at / inner * n + place as usize) * inner + at % inner] = x;
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
        let [a, b, c] = cuda::sizes([outer, n, inner])?;
        let mut args = [inputs[0].arg(), inputs[1].arg(), out.arg(), a, b, c];
        let entry = reduce::PUT.of(self.name(), inputs[0].meta.dtype)?;
        gpu.blocks(entry, [(outer * n * inner).div_ceil(cuda::THREADS), 1, 1], 0, &mut args)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

impl Tensor {
    /// Largest element along an axis, which disappears. Gradient: `g` at the first of the largest, else 0.
    ///
    /// # Errors
    /// The axis does not exist or is empty.
    pub fn max(&self, axis: isize) -> Result<Self> {
        let axis = shape::axis("max", self.shape(), axis)?;
        Ok(apply(Max { axis }, &[self])?.swap_remove(0))
    }

    /// Where the largest element along an axis is, as u32; the first of equals. It has no gradient.
    ///
    /// ```
    /// # use ransnn::tensor::Tensor;
    /// let x = Tensor::from_f32(vec![1.0, 5.0, 5.0, 9.0, 0.0, 2.0], &[2, 3])?;
    /// assert_eq!(x.argmax(-1)?.to_u32()?, [1, 0]);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    pub fn argmax(&self, axis: isize) -> Result<Self> {
        let axis = shape::axis("argmax", self.shape(), axis)?;
        Ok(apply(Max { axis }, &[self])?.swap_remove(1))
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |(shape, axis): (&[usize], isize)| {
        let inputs = check::inputs("max", &[shape], -1.0, 1.0);
        Case::new(format!("max {shape:?} {axis}"), inputs, move |x| x[0].max(axis))
    };
    let cases: [(&[usize], isize); 4] = [(&[1], 0), (&[7], -1), (&[2, 3, 4], 1), (&[3, 5], 0)];
    cases.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::tensor::{DType, Tensor};

    #[test]
    fn values_ties_and_nan() {
        let x = Tensor::from_f32(vec![1.0, 3.0, 3.0, 2.0, f32::NAN, 7.0], &[2, 3]).expect("fits");
        assert_eq!(x.max(0).expect("runs").to_f32().expect("f32")[0], 2.0);
        assert_eq!(x.argmax(1).expect("runs").to_u32().expect("u32"), [1, 1]);
        assert!(Tensor::zeros(&[2, 0], DType::F32).expect("fits").max(1).is_err());
    }
}
