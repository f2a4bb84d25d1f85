//! Cross-entropy of logits against labels.

use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut, loops};
use crate::tensor::cuda::{self, Arg};
use crate::tensor::dtype::{Element, Float, each_float};
use crate::tensor::kernels::ElementType;
use crate::tensor::kernels::operations::softmax;
use crate::tensor::op::{Backward, Keep, Op, apply, apply1, infer};
use crate::tensor::shape::mismatch;
use crate::tensor::{DType, Meta, Tensor};
use crate::{Error, Result};

/// The label of a row that does not count.
pub const IGNORE: u32 = u32::MAX;

/// Inputs: logits `[B, C]` and labels `[B]` (u32). Outputs: the mean loss and the probabilities, which the way back reads.
#[derive(Debug)]
struct CrossEntropy;

impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        let (logits, labels) = (inputs[0], inputs[1]);
        infer::computing(self.name(), logits)?;
        if labels.dtype != DType::U32 {
            return Err(Error::Unsupported {
                op: self.name(),
                on: format!("with labels of {}, only u32", labels.dtype),
            });
        }
        match (&logits.shape[..], &labels.shape[..]) {
            (&[b, c], &[n]) if b == n && b > 0 && c > 0 => {
                Ok(vec![Meta::new([], logits.dtype), logits.clone()])
            }
            (a, b) => {
                Err(mismatch(self.name(), a, b, "logits are [B, C] and labels [B], none of them empty"))
            }
        }
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let classes = inputs[0].shape()[1];
        let labels = inputs[1].slice::<u32>()?;
        if let Some(row) = labels.iter().position(|&label| label != IGNORE && label as usize >= classes) {
            let expected = format!("below {classes}, the number of classes");
            return Err(Error::value(format!("label {row}"), labels[row], expected));
        }
        let counted = counted(labels)?;
        let [loss, probabilities] = outputs else { return Ok(()) };
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (x, y) = (inputs[0].slice::<T>()?, probabilities.slice::<T>()?);
            loops::chunks(y, classes, |start, piece| {
                let x = x[start..start + piece.len()].chunks(classes);
                piece.chunks_mut(classes).zip(x).for_each(|(y, x)| log_softmax(x, y));
            });
            // In double precision: the mean of many rows is then right to the last digit.
            let count = |(row, &l): (usize, &u32)| (l != IGNORE).then(|| y[row * classes + l as usize].to_f64());
            let total: f64 = labels.iter().enumerate().filter_map(count).sum();
            loss.slice::<T>()?[0] = T::of_f64(-total / counted as f64);
            loops::chunks(y, 1, |_, piece| piece.iter_mut().for_each(|y| *y = y.exp()));
            Ok(())
        })
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        let (rows, classes) = (inputs[0].shape()[0], inputs[0].shape()[1]);
        let [loss, probabilities] = outputs else { return Ok(()) };
        let dtype = inputs[0].meta.dtype;
        let counted = cuda_counted(gpu, inputs[1], rows)?;
        let mut losses = gpu.empty(ElementType::F64, rows)?;
        let args =
            vec![inputs[0].arg(), inputs[1].arg(), probabilities.arg(), Arg::Out(&mut losses), Arg::Fault];
        gpu.rows(softmax::CROSS_ENTROPY.of(self.name(), dtype)?, [rows, classes], args, [])?;
        cuda_mean(gpu, &losses, &counted, loss)
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING.input(1, true).output(1, true)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        match (at.grads(0), at.grads(1)) {
            (Some(grad), None) => Ok(vec![Some(apply1(Chain, &[grad, at.output(1)?, at.input(1)?])?), None]),
            _ => at.none(),
        }
    }
}

fn log_softmax<T: Float>(x: &[T], out: &mut [T]) {
    let largest = x.iter().copied().fold(x[0], |a, b| if b > a { b } else { a });
    let shift = largest + loops::dot_by(x, x, |x, _| (x - largest).exp()).ln();
    out.iter_mut().zip(x).for_each(|(out, &x)| *out = x - shift);
}

/// Labels that count; their mean is taken.
fn counted(labels: &[u32]) -> Result<usize> {
    match labels.iter().filter(|&&label| label != IGNORE).count() {
        0 => Err(Error::value("the number of labels that count", 0, "at least 1")),
        n => Ok(n),
    }
}

/// The number of labels that count, on a GPU: nobody waits for it.
pub(super) fn cuda_counted(gpu: &cuda::Gpu, labels: cuda::View<'_>, rows: usize) -> Result<cuda::Buffer> {
    let mut counted = gpu.empty(ElementType::F64, 1)?;
    let mut args = [labels.arg(), Arg::Out(&mut counted), Arg::Fault, cuda::size(rows)?];
    gpu.blocks(softmax::COUNTED.only(), [1, 1, 1], 0, &mut args)?;
    Ok(counted)
}

/// The sum of the losses of rows, over how many count.
pub(super) fn cuda_mean(
    gpu: &cuda::Gpu,
    losses: &cuda::Buffer,
    counted: &cuda::Buffer,
    loss: &mut cuda::ViewMut<'_>,
) -> Result<()> {
    let entry = softmax::MEAN_LOSS.of("cross_entropy", loss.meta.dtype)?;
    let mut args = [Arg::In(losses), Arg::In(counted), loss.arg(), cuda::size(losses.len())?];
    gpu.blocks(entry, [1, 1, 1], 0, &mut args)
}

/// `g (p − 1[label]) / B`.
#[derive(Debug)]
struct Chain;

impl Op for Chain {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        Ok(vec![inputs[1].clone()])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let classes = inputs[1].shape()[1];
        let labels = inputs[2].slice::<u32>()?;
        let counted = counted(labels)?;
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let scale = inputs[0].slice::<T>()?[0] / T::of_f64(counted as f64);
            let out = outputs[0].slice::<T>()?;
            loops::map(inputs[1].slice::<T>()?, out, |p| p * scale);
            for (row, &label) in labels.iter().enumerate() {
                match label {
                    IGNORE => out[row * classes..(row + 1) * classes].fill(T::ZERO),
                    label => out[row * classes + label as usize] -= scale,
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
        let (rows, classes) = (inputs[1].shape()[0], inputs[1].shape()[1]);
        let [out] = outputs else { return Ok(()) };
        let counted = cuda_counted(gpu, inputs[2], rows)?;
        let n = out.meta.len();
        let mut args = vec![inputs[0].arg(), inputs[1].arg(), inputs[2].arg(), Arg::In(&counted), out.arg()];
        args.push(cuda::size(classes)?);
        gpu.outputs(softmax::CROSS_ENTROPY_CHAIN.of(self.name(), inputs[0].meta.dtype)?, n, args)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

impl Tensor {
    /// `−mean ln softmax(x)[label]` of logits `[B, C]` and labels `[B]` of u32, a scalar: PyTorch's `cross_entropy`. Rows
    /// labelled [`IGNORE`] do not count, also not in the mean.
    /// Gradient: `g (softmax(x) − 1[label]) / B`.
    ///
    /// ```
    /// # use ransnn::tensor::Tensor;
    /// let logits = Tensor::from_f64(vec![0.0, 0.0], &[1, 2])?;
    /// let loss = logits.cross_entropy(&Tensor::from_u32(vec![1], &[1])?)?;
    /// assert!((loss.to_scalar()? - 2f64.ln()).abs() < 1e-15);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Shapes that do not fit, an empty batch, a label that is not below C.
    pub fn cross_entropy(&self, labels: &Self) -> Result<Self> {
        Ok(apply(CrossEntropy, &[self, labels])?.swap_remove(0))
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |(rows, classes): (usize, u32)| {
        let inputs = check::inputs("cross_entropy", &[&[rows, classes as usize]], -2.0, 2.0);
        Case::new(format!("cross_entropy {rows} × {classes}"), inputs, move |x| {
            x[0].cross_entropy(&check::beside(&x[0], &check::indices(&[rows], classes)?)?)?.powf(2.0)
        })
    };
    let mut cases: Vec<Case> = [(1, 2), (3, 4), (17, 10)].into_iter().map(case).collect();
    let inputs = check::inputs("cross_entropy", &[&[3, 4]], -2.0, 2.0);
    cases.push(Case::new("cross_entropy, one row ignored", inputs, |x| {
        x[0].cross_entropy(&check::beside(&x[0], &Tensor::from_u32(vec![3, IGNORE, 0], &[3])?)?)
    }));
    cases
}

#[cfg(test)]
mod tests {
    use super::IGNORE;
    use crate::tensor::{DType, Tensor};

    #[test]
    fn bad_labels_are_refused() {
        let logits = Tensor::zeros(&[2, 3], DType::F32).expect("fits");
        let loss =
            |labels: Vec<u32>| logits.cross_entropy(&Tensor::from_u32(labels.clone(), &[labels.len()])?);
        assert!((loss(vec![0, 2]).expect("runs").to_scalar().expect("one") - 3f64.ln()).abs() < 1e-7);
        let message = loss(vec![0, 3]).expect_err("refused").to_string();
        assert_eq!(message, "label 1 is 3; it must be below 3, the number of classes");
        assert!(loss(vec![0]).is_err() && loss(vec![IGNORE, IGNORE]).is_err());
        assert!((loss(vec![IGNORE, 2]).expect("runs").to_scalar().expect("one") - 3f64.ln()).abs() < 1e-7);
        let wrong = Tensor::zeros(&[2], DType::F32).expect("fits");
        assert!(logits.cross_entropy(&wrong).is_err());
    }
}
