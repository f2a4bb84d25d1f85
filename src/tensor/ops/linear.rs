//! The linear layer as one operation: product, bias, and weights that are stored in half the width.

use half::bf16;

use crate::Result;
use crate::parallel;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::gemm::{Matrix, product};
use crate::tensor::cpu::wide::{self, Width, Work};
use crate::tensor::cpu::{Buffer, View, ViewMut, loops, loops::CHUNK};
use crate::tensor::cuda::{self, Product};
use crate::tensor::dtype::{Float, each_float};
use crate::tensor::op::{Backward, Keep, Op, apply1, infer};
use crate::tensor::shape::mismatch;
use crate::tensor::{DType, Meta, Tensor};

/// Up to so many rows, reading the weights once costs less than a product in blocks.
const FEW: usize = 4;

/// Inputs: x `[R, in]`, W `[out, in]` of the kind of x or bf16, and perhaps b `[out]`. Output `[R, out]`.
#[derive(Debug)]
struct Linear;

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        let (x, w) = (inputs[0], inputs[1]);
        infer::computing(self.name(), x)?;
        match (&x.shape[..], &w.shape[..]) {
            (&[rows, k], &[out, k2]) if k == k2 => {
                if w.dtype != x.dtype && !(w.dtype == DType::Bf16 && x.dtype == DType::F32) {
                    return Err(infer::unsupported(self.name(), w));
                }
                if let Some(bias) = inputs.get(2) {
                    infer::alike(self.name(), &[x, bias])?;
                    if bias.shape != [out] {
                        return Err(mismatch(self.name(), &w.shape, &bias.shape, "the bias is [out]"));
                    }
                }
                Ok(vec![Meta::new([rows, out], x.dtype)])
            }
            (x, w) => Err(mismatch(self.name(), x, w, "x is [.., in] and the weight [out, in]")),
        }
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let n = inputs[1].shape()[0];
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (x, out) = (inputs[0].slice::<T>()?, outputs[0].slice::<T>()?);
            times_transposed(x, inputs[1], out)?;
            if let Some(bias) = inputs.get(2) {
                let bias = bias.slice::<T>()?;
                loops::chunks(out, n, |_, piece| {
                    piece.chunks_mut(n).for_each(|row| loops::combine(row, bias, |y, b| y + b));
                });
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
        let (x, w) = (inputs[0], inputs[1]);
        let product = Product {
            bias: inputs.get(2).map(|bias| bias.data),
            ..Product::new(x.data, w.data, [x.shape()[0], x.shape()[1], w.shape()[0]]).transposed(false, true)
        };
        gpu.product(x.meta.dtype, &product, outputs[0].data)
    }

    fn keep(&self, needs: &[bool]) -> Keep {
        Keep::NOTHING.input(0, needs[1]).input(1, needs[0])
    }

    /// dx = G W, dW = Gᵀ x, db = Σ G.
    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let grad = at.grad()?;
        let dx = at.needs(0).then(|| apply1(Back, &[grad, at.input(1)?])).transpose()?;
        let dw = match at.needs(1) {
            true if at.input_meta(1).dtype != grad.dtype() => return at.none(),
            true => Some(grad.matmul_tn(at.input(0)?)?),
            false => None,
        };
        let mut grads = vec![dx, dw];
        if at.inputs.len() > 2 {
            grads.push(at.needs(2).then(|| grad.sum_to(&at.input_meta(2).shape)).transpose()?);
        }
        Ok(grads)
    }
}

/// `G W` of `[R, out]` and `[out, in]`.
#[derive(Debug)]
struct Back;

impl Op for Back {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        Ok(vec![Meta::new([inputs[0].shape[0], inputs[1].shape[1]], inputs[0].dtype)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            times(inputs[0].slice::<T>()?, inputs[1], outputs[0].slice::<T>()?)
        })
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        let (grad, w) = (inputs[0], inputs[1]);
        let sizes = [grad.shape()[0], w.shape()[0], w.shape()[1]];
        gpu.product(grad.meta.dtype, &Product::new(grad.data, w.data, sizes), outputs[0].data)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

/// `x Wᵀ` of rows x and a weight `[out, in]` of any width.
pub(super) fn times_transposed<T: Float>(x: &[T], weight: View<'_>, out: &mut [T]) -> Result<()> {
    let (n, k) = (weight.shape()[0], weight.shape()[1]);
    if out.is_empty() {
        return Ok(());
    }
    let rows = out.len() / n;
    if rows > FEW {
        return with_weight(weight, |w: &[T]| {
            product(Matrix::new(x, rows, k), Matrix::new(w, n, k).t(), out);
        });
    }
    match weight.data {
        Buffer::Bf16(w) => few(x, k, out, n, |i, x| wide::run(DotBf16 { w: &w[i * k..(i + 1) * k], x })),
        w => {
            let w = w.slice::<T>()?;
            few(x, k, out, n, |i, x| loops::dot_by(&w[i * k..(i + 1) * k], x, |a, b| a * b));
        }
    }
    Ok(())
}

/// `g W` of rows g and a weight `[out, in]` of any width.
pub(super) fn times<T: Float>(g: &[T], weight: View<'_>, out: &mut [T]) -> Result<()> {
    let (k, n) = (weight.shape()[0], weight.shape()[1]);
    let rows = out.len() / n.max(1);
    with_weight(weight, |w: &[T]| {
        product(Matrix::new(g, rows, k), Matrix::new(w, k, n), out);
    })
}

/// The weights as numbers to compute with; wide copies of narrow ones live only as long as `f` runs.
pub(super) fn with_weight<T: Float>(weight: View<'_>, f: impl FnOnce(&[T])) -> Result<()> {
    match weight.data {
        Buffer::Bf16(narrow) => {
            let mut wide = vec![T::ZERO; narrow.len()];
            loops::map(narrow, &mut wide, widen);
            f(&wide);
        }
        buffer => f(buffer.slice()?),
    }
    Ok(())
}

/// Exact; and unlike the conversion of the `half` crate without a branch, so that it vectorises.
#[inline(always)]
fn widen<T: Float>(x: bf16) -> T {
    T::of_f32(f32::from_bits(u32::from(x.to_bits()) << 16))
}

/// `out[r, i] = dot(i, x[r])`, weights read once for all rows.
fn few<T: Float>(x: &[T], k: usize, out: &mut [T], n: usize, dot: impl Fn(usize, &[T]) -> T + Sync) {
    let rows = out.len() / n;
    let columns = (CHUNK / k.max(1)).clamp(1, n);
    if rows == 1 {
        return parallel::chunks_mut(out, columns, |c, piece| {
            piece.iter_mut().enumerate().for_each(|(i, y)| *y = dot(c * columns + i, x));
        });
    }
    let parts = parallel::map(n.div_ceil(columns), |c| {
        let range = c * columns..((c + 1) * columns).min(n);
        range
            .flat_map(|i| (0..rows).map(move |r| (i, r)))
            .map(|(i, r)| dot(i, &x[r * k..(r + 1) * k]))
            .collect::<Vec<T>>()
    });
    for (i, y) in parts.iter().flatten().enumerate() {
        out[i % rows * n + i / rows] = *y;
    }
}

/// Sum of products in the grouping of [`loops::sum`].
struct DotBf16<'a, T> {
    w: &'a [bf16],
    x: &'a [T],
}

impl<T: Float> Work for DotBf16<'_, T> {
    type Out = T;
    const WIDEST: Width = Width::of::<T>();
    #[inline(always)]
    fn run(self) -> T {
        loops::sum_by(self.w, self.x, |w, x| widen::<T>(w) * x)
    }
}

impl Tensor {
    /// `x Wᵀ + b` of `[.., in]`, `[out, in]` and `[out]`: a linear layer. Gradients: `G W`, `Gᵀ x`, `Σ G`.
    ///
    /// The weight may be stored in bf16 under an x of f32: it is then widened where it is read, and has no gradient.
    ///
    /// ```
    /// # use ransnn::tensor::Tensor;
    /// let x = Tensor::from_f32(vec![1.0, 2.0], &[1, 2])?;
    /// let w = Tensor::from_f32(vec![1.0, 0.0, 1.0, 1.0, 0.0, 3.0], &[3, 2])?;
    /// let b = Tensor::from_f32(vec![0.5, 0.0, 0.0], &[3])?;
    /// assert_eq!(x.linear(&w, Some(&b))?.to_f32()?, [1.5, 3.0, 6.0]);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Shapes or kinds that do not fit.
    pub fn linear(&self, weight: &Self, bias: Option<&Self>) -> Result<Self> {
        let Some((&k, batch)) = self.shape().split_last() else {
            return Err(mismatch("linear", self.shape(), weight.shape(), "x needs an axis"));
        };
        let flat = self.reshape(&[batch.iter().product(), k])?;
        let y = match bias {
            Some(bias) => apply1(Linear, &[&flat, weight, bias]),
            None => apply1(Linear, &[&flat, weight]),
        }?;
        let out = y.shape()[1];
        y.reshape(&[batch, &[out]].concat())
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |(batch, k, out, bias): (&[usize], usize, usize, bool)| {
        let (x, bias_shape) = ([batch, &[k]].concat(), [out]);
        let mut shapes: Vec<&[usize]> = vec![&x];
        let weight = [out, k];
        shapes.push(&weight);
        if bias {
            shapes.push(&bias_shape);
        }
        let inputs = check::inputs("linear", &shapes, -1.0, 1.0);
        Case::new(format!("linear {x:?} {out} {bias}"), inputs, |x| x[0].linear(&x[1], x.get(2)))
    };
    let cases: [(&[usize], usize, usize, bool); 5] = [
        (&[], 3, 2, true),
        (&[1], 1, 1, false),
        (&[2], 17, 3, true),
        (&[2, 3], 4, 5, true),
        (&[9], 5, 4, false),
    ];
    cases.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::check::{Tolerance, assert_close, random};

    #[test]
    fn few_and_many_rows_of_narrow_and_wide_weights_agree() {
        for rows in [1, 2, 4, 5, 33] {
            let x = random("x", &[rows, 70], -1.0, 1.0).expect("fits").to_dtype(DType::F32).expect("f32");
            let narrow =
                random("w", &[300, 70], -1.0, 1.0).expect("fits").to_dtype(DType::Bf16).expect("bf16");
            let wide = narrow.to_dtype(DType::F32).expect("f32");
            let want = x.matmul_nt(&wide).expect("runs");
            assert!(want.to_f32().expect("f32").iter().any(|y| y.abs() > 1.0));
            for w in [&narrow, &wide] {
                assert_close(&x.linear(w, None).expect("runs"), &want, Tolerance::new(1e-5, 1e-5));
            }
        }
    }

    #[test]
    fn refusals() {
        let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype).expect("fits");
        let x = zeros(&[2, 3], DType::F32);
        assert!(x.linear(&zeros(&[4, 2], DType::F32), None).is_err());
        assert!(x.linear(&zeros(&[4, 3], DType::F16), None).is_err());
        assert!(x.linear(&zeros(&[4, 3], DType::F32), Some(&zeros(&[3], DType::F32))).is_err());
        assert!(zeros(&[], DType::F32).linear(&zeros(&[4, 3], DType::F32), None).is_err());
        assert!(
            zeros(&[0, 3], DType::F32).linear(&zeros(&[4, 3], DType::F32), None).expect("runs").is_empty()
        );
    }
}
