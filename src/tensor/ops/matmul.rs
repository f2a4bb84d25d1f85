//! Products of matrices, single and in batches, of operands as they are or transposed without a copy.

use crate::Result;
use crate::parallel;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::gemm::{Matrix, product};
use crate::tensor::cpu::{View, ViewMut, loops::CHUNK};
use crate::tensor::cuda::{self, Product};
use crate::tensor::dtype::each_float;
use crate::tensor::op::{Backward, Keep, Op, apply1, infer};
use crate::tensor::shape::{broadcast, broadcast_strides, mismatch};
use crate::tensor::{Meta, Tensor};

/// `[.., m, k] · [.., k, n] = [.., m, n]`; a transposed operand is stored with its last two axes exchanged. Leading axes
/// broadcast.
#[derive(Debug)]
struct Matmul {
    /// Whether the first, the second operand is stored transposed.
    transposed: [bool; 2],
}

impl Matmul {
    /// Rows and columns of operand `i` as it is multiplied.
    fn size(&self, i: usize, shape: &[usize]) -> (usize, usize) {
        let (rows, cols) = (shape[shape.len() - 2], shape[shape.len() - 1]);
        if self.transposed[i] { (cols, rows) } else { (rows, cols) }
    }
}

fn leading(shape: &[usize]) -> &[usize] {
    &shape[..shape.len() - 2]
}

impl Op for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::alike(self.name(), inputs)?;
        let (a, b) = (&inputs[0].shape, &inputs[1].shape);
        if a.len() < 2 || b.len() < 2 {
            return Err(mismatch(self.name(), a, b, "both need at least two axes"));
        }
        let ((m, k), (k2, n)) = (self.size(0, a), self.size(1, b));
        if k != k2 {
            let stored = ["", " (transposed)"];
            let [ta, tb] = self.transposed.map(|t| stored[usize::from(t)]);
            let why = format!("the first{ta} has {k} columns, the second{tb} {k2} rows");
            return Err(mismatch(self.name(), a, b, why));
        }
        let mut shape = broadcast(self.name(), leading(a), leading(b))?;
        shape.extend([m, n]);
        Ok(vec![Meta::new(shape, inputs[0].dtype)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let (a_shape, b_shape) = (inputs[0].shape(), inputs[1].shape());
        let ((m, k), (_, n)) = (self.size(0, a_shape), self.size(1, b_shape));
        let batch = leading(outputs[0].shape()).to_vec();
        let strides = [a_shape, b_shape].map(|shape| broadcast_strides(leading(shape), &batch));
        // Number of the matrix that batch entry `at` reads.
        let which = |strides: &[usize], at: usize| {
            let walk = batch
                .iter()
                .zip(strides)
                .rev()
                .fold((at, 0), |(rest, sum), (&size, &stride)| (rest / size, sum + rest % size * stride));
            walk.1
        };
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (a, b) = (inputs[0].slice::<T>()?, inputs[1].slice::<T>()?);
            let out = outputs[0].slice::<T>()?;
            if m * n == 0 {
                return Ok(());
            }
            let matrix = |data, rows, cols, transposed| match transposed {
                true => Matrix::new(data, cols, rows).t(),
                false => Matrix::new(data, rows, cols),
            };
            let one = |i, out: &mut [T]| {
                let (i, j) = (which(&strides[0], i) * m * k, which(&strides[1], i) * k * n);
                let a = matrix(&a[i..i + m * k], m, k, self.transposed[0]);
                let b = matrix(&b[j..j + k * n], k, n, self.transposed[1]);
                product(a, b, out);
            };
            match out.len().saturating_mul(k) <= CHUNK {
                true => out.chunks_mut(m * n).enumerate().for_each(|(i, out)| one(i, out)),
                false => parallel::chunks_mut(out, m * n, one),
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
        let (a, b) = (inputs[0], inputs[1]);
        let ((m, k), (_, n)) = (self.size(0, a.shape()), self.size(1, b.shape()));
        let batch = leading(outputs[0].shape());
        let product = Product {
            transposed: self.transposed,
            batch: batch.iter().product(),
            axes: cuda::broadcast_axes(self.name(), batch, leading(a.shape()), leading(b.shape()))?,
            ..Product::new(a.data, b.data, [m, k, n])
        };
        gpu.product(a.meta.dtype, &product, outputs[0].data)
    }

    fn keep(&self, needs: &[bool]) -> Keep {
        Keep::NOTHING.input(0, needs[1]).input(1, needs[0])
    }

    /// With A and B as multiplied: dA = G Bᵀ, dB = Aᵀ G, each transposed back where it is stored so.
    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let grad = at.grad()?;
        let [ta, tb] = self.transposed;
        let times = |a: &Tensor, b: &Tensor, transposed| apply1(Matmul { transposed }, &[a, b]);
        let first = || {
            let b = at.input(1)?;
            let full = if ta { times(b, grad, [tb, true]) } else { times(grad, b, [false, !tb]) }?;
            full.sum_to(&at.input_meta(0).shape)
        };
        let second = || {
            let a = at.input(0)?;
            let full = if tb { times(grad, a, [true, ta]) } else { times(a, grad, [!ta, false]) }?;
            full.sum_to(&at.input_meta(1).shape)
        };
        Ok(vec![at.needs(0).then(first).transpose()?, at.needs(1).then(second).transpose()?])
    }
}

impl Tensor {
    /// `A B` of `[.., m, k]` and `[.., k, n]`; leading axes broadcast. Gradients: `G Bᵀ` and `Aᵀ G`.
    ///
    /// The order of additions depends on shapes and processor, not on the number of threads.
    ///
    /// # Errors
    /// Shapes or kinds that do not fit.
    pub fn matmul(&self, other: &Self) -> Result<Self> {
        multiply(self, other, [false, false])
    }

    /// `A Bᵀ` of `[.., m, k]` and `[.., n, k]`, without transposing in memory: a linear layer with its weight `[out, in]`.
    pub fn matmul_nt(&self, other: &Self) -> Result<Self> {
        multiply(self, other, [false, true])
    }

    /// `Aᵀ B` of `[.., k, m]` and `[.., k, n]`, without transposing in memory.
    pub fn matmul_tn(&self, other: &Self) -> Result<Self> {
        multiply(self, other, [true, false])
    }
}

fn multiply(a: &Tensor, b: &Tensor, transposed: [bool; 2]) -> Result<Tensor> {
    // A batch times one matrix is one taller product: faster, and the gradient of the matrix needs no sum over the batch.
    if let (&[ref batch @ .., rows, k], 2, false) = (a.shape(), b.rank(), transposed[0])
        && !batch.is_empty()
    {
        let flat = a.reshape(&[batch.iter().product::<usize>() * rows, k])?;
        let product = apply1(Matmul { transposed }, &[&flat, b])?;
        let cols = product.shape()[1];
        return product.reshape(&[batch, &[rows, cols]].concat());
    }
    apply1(Matmul { transposed }, &[a, b])
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    type Sizes = (&'static [usize], usize, usize, usize, &'static [usize]);
    let sizes: [Sizes; 6] = [
        (&[], 1, 1, 1, &[]),
        (&[], 2, 3, 4, &[]),
        (&[], 1, 5, 3, &[]),
        (&[3], 2, 3, 4, &[]),
        (&[2], 2, 3, 1, &[2]),
        (&[2, 1], 2, 3, 2, &[3]),
    ];
    for (a_batch, m, k, n, b_batch) in sizes {
        for transposed in [[false, false], [false, true], [true, false], [true, true]] {
            let a = [a_batch, &if transposed[0] { [k, m] } else { [m, k] }].concat();
            let b = [b_batch, &if transposed[1] { [n, k] } else { [k, n] }].concat();
            let inputs = check::inputs("matmul", &[&a, &b], -1.0, 1.0);
            let run = move |x: &[Tensor]| multiply(&x[0], &x[1], transposed);
            cases.push(Case::new(format!("matmul {a:?} {b:?} {transposed:?}"), inputs, run));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use crate::tensor::{DType, Tensor};

    #[test]
    fn values_of_all_orientations() {
        let a = Tensor::from_f32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]).expect("fits");
        let b = Tensor::from_f32(vec![1.0, 0.0, 2.0, 1.0, 0.0, 3.0], &[3, 2]).expect("fits");
        let want = [5.0, 11.0, 14.0, 23.0];
        let t = |x: &Tensor| x.transpose(0, 1).expect("runs");
        for product in [a.matmul(&b), a.matmul_nt(&t(&b)), t(&a).matmul_tn(&b)] {
            assert_eq!(product.expect("runs").to_f32().expect("f32"), want);
        }
        let stack = Tensor::concat(&[&a.reshape(&[1, 2, 3]).expect("runs"); 2], 0).expect("runs");
        let product = stack.matmul(&b).expect("runs");
        assert_eq!((product.shape(), &product.to_f32().expect("f32")[4..]), (&[2, 2, 2][..], &want[..]));
    }

    #[test]
    fn refusals_and_empty_sizes() {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32).expect("fits");
        let message = zeros(&[2, 3]).matmul(&zeros(&[2, 3])).expect_err("refused").to_string();
        let want =
            "matmul: shapes [2, 3] and [2, 3] do not match: the first has 3 columns, the second 2 rows";
        assert_eq!(message, want);
        assert!(zeros(&[3]).matmul(&zeros(&[3, 1])).is_err());
        assert!(zeros(&[2, 2, 3]).matmul(&zeros(&[3, 3, 1])).is_err());
        let empty = zeros(&[2, 0]).matmul(&zeros(&[0, 2])).expect("runs").to_f32().expect("f32");
        assert_eq!(empty, [0.0; 4]);
        assert!(zeros(&[0, 2]).matmul(&zeros(&[2, 3])).expect("runs").is_empty());
    }
}
