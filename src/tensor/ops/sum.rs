//! Sums and means along axes.

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut, loops};
use crate::tensor::cuda;
use crate::tensor::dtype::each_float;
use crate::tensor::op::{Backward, Keep, Op, apply1, infer};
use crate::tensor::shape::{self, mismatch};
use crate::tensor::{Meta, Tensor};

/// Sums over `axes` (sorted, each once), which disappear.
#[derive(Debug)]
struct Sum {
    axes: Vec<usize>,
}

impl Sum {
    /// The input's shape with the summed axes as 1.
    fn kept(&self, shape: &[usize]) -> Vec<usize> {
        shape.iter().enumerate().map(|(i, &size)| if self.axes.contains(&i) { 1 } else { size }).collect()
    }
}

impl Op for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::computing(self.name(), inputs[0])?;
        let left = inputs[0].shape.iter().enumerate().filter(|(i, _)| !self.axes.contains(i));
        Ok(vec![Meta::new(left.map(|(_, &size)| size).collect::<Vec<_>>(), inputs[0].dtype)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            loops::sum_axes(inputs[0].slice::<T>()?, inputs[0].shape(), &self.axes, outputs[0].slice::<T>()?);
            Ok(())
        })
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        let (dtype, mut shape) = (inputs[0].meta.dtype, inputs[0].meta.shape.clone());
        // Runs of neighbouring axes, the last one first, so that earlier axes keep their numbers.
        let mut runs: Vec<std::ops::Range<usize>> = vec![];
        for &axis in &self.axes {
            match runs.last_mut() {
                Some(run) if run.end == axis => run.end += 1,
                _ => runs.push(axis..axis + 1),
            }
        }
        let mut current = None;
        for (left, run) in runs.into_iter().enumerate().rev() {
            let product = |range: std::ops::Range<usize>| shape[range].iter().product::<usize>();
            let sizes = [product(0..run.start), product(run.clone()), product(run.end..shape.len())];
            let source = current.as_ref().unwrap_or(inputs[0].data);
            match left {
                0 => return gpu.sum_middle(dtype, source, sizes, outputs[0].data),
                _ => {
                    let mut next = gpu.empty(dtype.into(), sizes[0] * sizes[2])?;
                    gpu.sum_middle(dtype, source, sizes, &mut next)?;
                    current = Some(next);
                }
            }
            shape.drain(run);
        }
        // A scalar is its own sum.
        gpu.copy_rows(dtype, (inputs[0].data, [1, 0]), (outputs[0].data, [1, 0]), [1, 1])
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let shape = &at.input_meta(0).shape;
        Ok(vec![Some(at.grad()?.reshape(&self.kept(shape))?.broadcast_to(shape)?)])
    }
}

impl Tensor {
    /// Sum over axes, which disappear; negative axes count from the back. The order of additions is fixed, whatever the
    /// number of threads. Gradient: `g` repeated along the axes.
    ///
    /// ```
    /// # use ransnn::tensor::Tensor;
    /// let x = Tensor::from_f32(vec![1.0, 2.0, 3.0, 4.0], &[2, 2])?;
    /// assert_eq!(x.sum(&[-1])?.to_f32()?, [3.0, 7.0]);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// An axis that does not exist or is named twice.
    pub fn sum(&self, axes: &[isize]) -> Result<Self> {
        let mut found =
            axes.iter().map(|&a| shape::axis("sum", self.shape(), a)).collect::<Result<Vec<_>>>()?;
        found.sort_unstable();
        if found.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(mismatch("sum", self.shape(), &found, "an axis is named twice"));
        }
        match found.is_empty() {
            true => Ok(self.clone()),
            false => apply1(Sum { axes: found }, &[self]),
        }
    }

    /// Sum of all elements, a scalar.
    pub fn sum_all(&self) -> Result<Self> {
        apply1(Sum { axes: (0..self.rank()).collect() }, &[self])
    }

    /// Mean over axes, which disappear. NaN over no elements, as in NumPy.
    pub fn mean(&self, axes: &[isize]) -> Result<Self> {
        let sum = self.sum(axes)?;
        sum.mul_scalar(if sum.is_empty() { 1.0 } else { sum.len() as f64 / self.len() as f64 })
    }

    /// Mean of all elements, a scalar.
    pub fn mean_all(&self) -> Result<Self> {
        self.sum_all()?.mul_scalar(1.0 / self.len() as f64)
    }

    /// Sums what broadcasting from `shape` repeated: its way back.
    pub fn sum_to(&self, shape: &[usize]) -> Result<Self> {
        if self.shape() == shape {
            return Ok(self.clone());
        }
        if shape::broadcast("sum_to", self.shape(), shape)? != self.shape() {
            return Err(mismatch(
                "sum_to",
                self.shape(),
                shape,
                "the second does not broadcast to the first",
            ));
        }
        let skip = self.rank() - shape.len();
        let repeated = |&i: &usize| i < skip || (shape[i - skip] == 1 && self.shape()[i] != 1);
        let axes: Vec<usize> = (0..self.rank()).filter(repeated).collect();
        apply1(Sum { axes }, &[self])?.reshape(shape)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |(shape, axes): (&[usize], &'static [isize])| {
        let inputs = check::inputs("sum", &[shape], -1.0, 1.0);
        Case::new(format!("sum {shape:?} {axes:?}"), inputs, move |x| x[0].sum(axes)?.mul(&x[0].sum_all()?))
    };
    let cases: [(&[usize], &[isize]); 6] = [
        (&[1], &[0]),
        (&[5], &[-1]),
        (&[2, 3, 4], &[1]),
        (&[2, 3, 4], &[0, 2]),
        (&[2, 3, 4], &[0, 1, 2]),
        (&[3, 1], &[1]),
    ];
    let mut all: Vec<Case> = cases.into_iter().map(case).collect();
    all.push(Case::new("sum (mean)", check::inputs("mean", &[&[3, 4]], -1.0, 1.0), |x| x[0].mean(&[0])));
    all.push(Case::new("sum (sum_to)", check::inputs("sum_to", &[&[3, 4]], -1.0, 1.0), |x| {
        x[0].sum_to(&[3, 1])
    }));
    all
}

#[cfg(test)]
mod tests {
    use crate::tensor::{DType, Tensor};

    #[test]
    fn values_and_refusals() {
        let x = Tensor::from_f32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]).expect("fits");
        assert_eq!(x.sum(&[0]).expect("runs").to_f32().expect("f32"), [5.0, 7.0, 9.0]);
        assert_eq!(x.mean(&[1]).expect("runs").to_f32().expect("f32"), [2.0, 5.0]);
        assert_eq!(x.mean_all().expect("runs").to_scalar().expect("one"), 3.5);
        assert_eq!(x.sum_to(&[2, 1]).expect("runs").to_f32().expect("f32"), [6.0, 15.0]);
        assert!(x.sum(&[2]).is_err() && x.sum(&[0, -2]).is_err() && x.sum_to(&[4]).is_err());
        assert!(Tensor::zeros(&[2], DType::U8).expect("fits").sum_all().is_err());
        let empty = Tensor::zeros(&[0, 2], DType::F32).expect("fits");
        assert_eq!(empty.sum(&[0]).expect("runs").to_f32().expect("f32"), [0.0, 0.0]);
        assert!(empty.mean_all().expect("runs").to_scalar().expect("one").is_nan());
    }
}
