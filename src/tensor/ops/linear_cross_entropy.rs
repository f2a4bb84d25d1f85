//! The head of a language model and its loss in one operation: logits exist for a few rows at a time.
//!
//! For a vocabulary of many thousands, logits and their gradient would be the largest tensors of a step. Here each block of
//! rows is multiplied, its loss taken, and its gradient multiplied back at once, as Liger does (arXiv:2410.10989).

use crate::tensor::check::{self, Case};
use crate::tensor::cpu::gemm::{Matrix, add_product, product};
use crate::tensor::cpu::wide::{self, Width, Work};
use crate::tensor::cpu::{View, ViewMut, loops};
use crate::tensor::cuda::{self, Arg, Product};
use crate::tensor::dtype::{Element, Float, each_float};
use crate::tensor::kernels::ElementType;
use crate::tensor::kernels::operations::softmax;
use crate::tensor::op::{Backward, Keep, Op, apply, infer};
use crate::tensor::ops::cross_entropy::{IGNORE, cuda_counted, cuda_mean};
use crate::tensor::ops::linear::with_weight;
use crate::tensor::shape::mismatch;
use crate::tensor::{DType, Meta, Tensor, tape};
use crate::{Error, Result};

/// Logits that are held at a time.
const LOGITS: usize = 1 << 20;
/// The same on a GPU, where a product needs more rows to be fast.
const CUDA_LOGITS: usize = 1 << 26;

/// Inputs: x `[R, in]`, W `[V, in]` (or bf16), labels `[R]` (u32). Outputs: the mean loss and its gradients by x and W,
/// as far as they are asked for; otherwise empty.
#[derive(Debug)]
struct LinearCrossEntropy {
    wanted: [bool; 2],
}

impl Op for LinearCrossEntropy {
    fn name(&self) -> &'static str {
        "linear_cross_entropy"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        let (x, w, labels) = (inputs[0], inputs[1], inputs[2]);
        infer::computing(self.name(), x)?;
        if labels.dtype != DType::U32 {
            return Err(infer::unsupported(self.name(), labels));
        }
        let narrow = w.dtype == DType::Bf16 && x.dtype == DType::F32;
        if (w.dtype != x.dtype && !narrow) || (narrow && self.wanted[1]) {
            return Err(infer::unsupported(self.name(), w));
        }
        match (&x.shape[..], &w.shape[..], &labels.shape[..]) {
            (&[rows, k], &[v, k2], &[rows2]) if k == k2 && rows == rows2 && v > 0 => {
                let grad = |meta: &Meta, wanted| {
                    Meta::new(if wanted { meta.shape.clone() } else { vec![0] }, x.dtype)
                };
                Ok(vec![Meta::new([], x.dtype), grad(x, self.wanted[0]), grad(w, self.wanted[1])])
            }
            (x, w, _) => Err(mismatch(self.name(), x, w, "x is [R, in], the weight [V, in], labels are [R]")),
        }
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let (rows, k, v) = (inputs[0].shape()[0], inputs[0].shape()[1], inputs[1].shape()[0]);
        let labels = inputs[2].slice::<u32>()?;
        if let Some(row) = labels.iter().position(|&label| label != IGNORE && label as usize >= v) {
            let expected = format!("below {v}, the number of classes");
            return Err(Error::value(format!("label {row}"), labels[row], expected));
        }
        let counted = labels.iter().filter(|&&label| label != IGNORE).count();
        if counted == 0 {
            return Err(Error::value("the number of labels that count", 0, "at least 1"));
        }
        let [loss, dx, dw] = outputs else { return Ok(()) };
        let block = (LOGITS / v).clamp(16, 1024).min(rows);
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (x, dx, dw) = (inputs[0].slice::<T>()?, dx.slice::<T>()?, dw.slice::<T>()?);
            let mut logits = vec![T::ZERO; block * v];
            let mut losses = vec![0f64; block];
            let mut total = 0f64;
            let scale = T::of_f64(1.0 / counted as f64);
            with_weight(inputs[1], |w: &[T]| {
                for (i, labels) in labels.chunks(block).enumerate() {
                    // A block whose rows do not count: prompts that are masked, padding.
                    if labels.iter().all(|&label| label == IGNORE) {
                        continue;
                    }
                    let n = labels.len();
                    let range = i * block * k..(i * block + n) * k;
                    let x = &x[range.clone()];
                    let logits = &mut logits[..n * v];
                    product(Matrix::new(x, n, k), Matrix::new(w, v, k).t(), logits);
                    let items = logits.chunks_mut(v).zip(&mut losses).zip(labels).collect();
                    crate::parallel::owned(items, |_, ((row, loss), &label): ((&mut [T], &mut f64), &u32)| {
                        *loss = wide::run(Slope { row, label, scale });
                    });
                    total += losses[..n].iter().sum::<f64>();
                    let slopes = Matrix::new(&*logits, n, v);
                    if self.wanted[0] {
                        product(slopes, Matrix::new(w, v, k), &mut dx[range]);
                    }
                    if self.wanted[1] {
                        add_product(slopes.t(), Matrix::new(x, n, k), T::ONE, dw);
                    }
                }
            })?;
            loss.slice::<T>()?[0] = T::of_f64(total / counted as f64);
            Ok(())
        })
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        let (rows, k, v) = (inputs[0].shape()[0], inputs[0].shape()[1], inputs[1].shape()[0]);
        let [loss, dx, dw] = outputs else { return Ok(()) };
        let (dtype, block) = (inputs[0].meta.dtype, (CUDA_LOGITS / v).clamp(16, 8192).min(rows));
        let counted = cuda_counted(gpu, inputs[2], rows)?;
        let mut losses = gpu.empty(ElementType::F64, rows)?;
        let mut logits = gpu.empty(dtype.into(), block * v)?;
        if self.wanted[1] {
            gpu.clear(dw.data)?;
        }
        for start in (0..rows).step_by(block) {
            let n = block.min(rows - start);
            // Rows are copied out and back: kernels take whole buffers.
            let mut x = gpu.empty(dtype.into(), n * k)?;
            gpu.copy_rows(dtype, (inputs[0].data, [0, start * k]), (&mut x, [0, 0]), [1, n * k])?;
            let mut labels = gpu.empty(ElementType::U32, n)?;
            gpu.copy_rows(DType::U32, (inputs[2].data, [0, start]), (&mut labels, [0, 0]), [1, n])?;
            gpu.product(
                dtype,
                &Product::new(&x, inputs[1].data, [n, k, v]).transposed(false, true),
                &mut logits,
            )?;
            let mut of_block = gpu.empty(ElementType::F64, n)?;
            let mut args = vec![Arg::In(&labels), Arg::In(&counted), Arg::Out(&mut logits)];
            args.extend([Arg::Out(&mut of_block), Arg::Fault]);
            gpu.rows(softmax::SLOPES.of(self.name(), dtype)?, [n, v], args, [])?;
            gpu.copy_rows(DType::F64, (&of_block, [0, 0]), (&mut losses, [0, start]), [1, n])?;
            if self.wanted[0] {
                gpu.product(dtype, &Product::new(&logits, inputs[1].data, [n, v, k]), &mut x)?;
                gpu.copy_rows(dtype, (&x, [0, 0]), (dx.data, [0, start * k]), [1, n * k])?;
            }
            if self.wanted[1] {
                let mut x = gpu.empty(dtype.into(), n * k)?;
                gpu.copy_rows(dtype, (inputs[0].data, [0, start * k]), (&mut x, [0, 0]), [1, n * k])?;
                let product = Product::new(&logits, &x, [v, n, k]).transposed(true, false);
                gpu.product(dtype, &Product { add: true, ..product }, dw.data)?;
            }
        }
        cuda_mean(gpu, &losses, &counted, loss)
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING.output(1, true).output(2, true)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let grad = at.grad()?;
        let scaled = |i: usize| at.needs(i).then(|| at.output(i + 1)?.mul(grad)).transpose();
        Ok(vec![scaled(0)?, scaled(1)?, None])
    }
}

/// Turns logits into their gradient `(softmax − 1[label]) · scale` and returns the loss of the row.
struct Slope<'a, T> {
    row: &'a mut [T],
    label: u32,
    scale: T,
}

impl<T: Float> Work for Slope<'_, T> {
    type Out = f64;
    const WIDEST: Width = Width::of::<T>();
    #[inline(always)]
    fn run(self) -> f64 {
        let Self { row, label, scale } = self;
        if label == IGNORE {
            row.fill(T::ZERO);
            return 0.0;
        }
        let label = label as usize;
        let largest = loops::largest(row);
        let at_label = row[label] - largest;
        for x in row.iter_mut() {
            *x = (*x - largest).exp();
        }
        let sum = loops::sum(row);
        let factor = scale / sum;
        for x in row.iter_mut() {
            *x = *x * factor;
        }
        row[label] -= scale;
        (sum.ln() - at_label).to_f64()
    }
}

impl Tensor {
    /// `−mean ln softmax(x Wᵀ)[label]` over the rows of x `[R, in]` whose label `[R]` (u32) is not [`IGNORE`]; W is
    /// `[V, in]`, or bf16 and then without a gradient. The logits never exist as a whole.
    ///
    /// ```
    /// # use ransnn::tensor::{Tensor, IGNORE};
    /// let x = Tensor::from_f64(vec![0.0, 0.0, 5.0, 5.0], &[2, 2])?;
    /// let w = Tensor::from_f64(vec![1.0, 2.0, 3.0, 4.0], &[2, 2])?;
    /// let loss = x.linear_cross_entropy(&w, &Tensor::from_u32(vec![1, IGNORE], &[2])?)?;
    /// assert!((loss.to_scalar()? - 2f64.ln()).abs() < 1e-15);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Shapes that do not fit, a label that is not below V, no label that counts.
    pub fn linear_cross_entropy(&self, weight: &Self, labels: &Self) -> Result<Self> {
        let wanted = [tape::tracks(self), tape::tracks(weight)];
        Ok(apply(LinearCrossEntropy { wanted }, &[self, weight, labels])?.swap_remove(0))
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |(rows, k, v, ignored): (usize, usize, u32, usize)| {
        let inputs = check::inputs("linear_cross_entropy", &[&[rows, k], &[v as usize, k]], -1.0, 1.0);
        Case::new(format!("linear_cross_entropy {rows} {k} {v} {ignored}"), inputs, move |x| {
            let mut labels = check::indices(&[rows], v)?.to_u32()?;
            labels[..ignored].fill(IGNORE);
            let labels = check::beside(&x[0], &Tensor::from_u32(labels, &[rows])?)?;
            x[0].linear_cross_entropy(&x[1], &labels)?.powf(2.0)
        })
    };
    [(1, 3, 2, 0), (3, 2, 5, 1), (20, 3, 4, 17), (1030, 2, 3, 4)].into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::check::{Tolerance, assert_close, random};

    #[test]
    fn it_is_the_cross_entropy_of_the_product() {
        let (x, w) = (
            random("x", &[1100, 6], -1.0, 1.0).expect("fits"),
            random("w", &[9, 6], -1.0, 1.0).expect("fits"),
        );
        let labels = check::indices(&[1100], 9).expect("fits");
        let want = x.matmul_nt(&w).and_then(|logits| logits.cross_entropy(&labels)).expect("runs");
        assert!(want.to_scalar().expect("one") > 0.5);
        assert_close(&x.linear_cross_entropy(&w, &labels).expect("runs"), &want, Tolerance::new(1e-13, 0.0));
    }

    #[test]
    fn refusals() {
        let x = Tensor::zeros(&[2, 3], DType::F32).expect("fits");
        let w = Tensor::zeros(&[4, 3], DType::F32).expect("fits");
        let loss = |labels: [u32; 2]| x.linear_cross_entropy(&w, &Tensor::from_u32(labels.into(), &[2])?);
        assert!((loss([3, IGNORE]).expect("runs").to_scalar().expect("one") - 4f64.ln()).abs() < 1e-6);
        let message = loss([0, 4]).expect_err("refused").to_string();
        assert_eq!(message, "label 1 is 4; it must be below 4, the number of classes");
        assert!(loss([IGNORE, IGNORE]).is_err());
        assert!(x.linear_cross_entropy(&Tensor::zeros(&[4, 2], DType::F32).expect("fits"), &x).is_err());
    }
}
