//! The Cayley transform: orthogonal matrices from free numbers (Cayley, 1846; Qiu et al., arXiv:2306.07280).

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut};
use crate::tensor::cuda::{self, Arg};
use crate::tensor::dtype::{Element, Float, each_float};
use crate::tensor::kernels::ElementType;
use crate::tensor::kernels::operations::butterfly;
use crate::tensor::op::{Backward, Keep, Op, apply1, infer};
use crate::tensor::shape::mismatch;
use crate::tensor::{Meta, Tensor};

/// `Q = (I − S) (I + S)⁻¹` with `S = (R − Rᵀ) / 2` for each of `[.., b, b]`.
#[derive(Debug)]
struct Cayley;

fn side(op: &'static str, meta: &Meta) -> Result<usize> {
    match meta.shape[..] {
        [.., b, b2] if b == b2 && b > 0 => Ok(b),
        _ => Err(mismatch(op, &meta.shape, &[], "the last two axes must be equal and not empty")),
    }
}

/// Solves `(I + S) Q = I − S` by elimination. Without pivoting: the symmetric part of I + S is I, which elimination
/// preserves up to growth, so that no pivot is below 1.
fn transform<T: Float>(r: &[T], b: usize, work: &mut [f64], q: &mut [T]) {
    let (left, right) = work.split_at_mut(b * b);
    for i in 0..b {
        for j in 0..b {
            let s = 0.5 * (r[i * b + j].to_f64() - r[j * b + i].to_f64());
            let one = if i == j { 1.0 } else { 0.0 };
            left[i * b + j] = one + s;
            right[i * b + j] = one - s;
        }
    }
    for pivot in 0..b {
        let inverse = 1.0 / left[pivot * b + pivot];
        for j in 0..b {
            left[pivot * b + j] *= inverse;
            right[pivot * b + j] *= inverse;
        }
        for i in (0..b).filter(|&i| i != pivot) {
            let factor = left[i * b + pivot];
            if factor != 0.0 {
                for j in 0..b {
                    left[i * b + j] -= factor * left[pivot * b + j];
                    right[i * b + j] -= factor * right[pivot * b + j];
                }
            }
        }
    }
    q.iter_mut().zip(&*right).for_each(|(q, &x)| *q = T::of_f64(x));
}

impl Op for Cayley {
    fn name(&self) -> &'static str {
        "cayley"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        side(self.name(), inputs[0])?;
        infer::unary(self.name(), inputs)
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let b = side(self.name(), inputs[0].meta)?;
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let r = inputs[0].slice::<T>()?;
            // Elimination is b³; about 2¹⁸ operations are a piece of work.
            let blocks = ((1 << 18) / (b * b * b)).max(1);
            crate::parallel::chunks_mut(outputs[0].slice::<T>()?, blocks * b * b, |at, piece| {
                let mut work = vec![0.0; 2 * b * b];
                let r = r[at * blocks * b * b..].chunks(b * b);
                for (q, r) in piece.chunks_mut(b * b).zip(r) {
                    transform(r, b, &mut work, q);
                }
            });
            Ok(())
        })
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        let b = side(self.name(), inputs[0].meta)?;
        let [out] = outputs else { return Ok(()) };
        let (count, dtype) = (out.meta.len() / (b * b), out.meta.dtype);
        let mut work = gpu.empty(ElementType::F64, 2 * out.meta.len())?;
        let mut args = [inputs[0].arg(), out.arg(), Arg::Out(&mut work), cuda::size(b)?];
        gpu.blocks(butterfly::CAYLEY.of(self.name(), dtype)?, [count, 1, 1], 0, &mut args)
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::OUTPUTS
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(apply1(Chain, &[at.grad()?, at.output(0)?])?)])
    }
}

/// `dS = −½ (I + Q)ᵀ dQ (I + Q)ᵀ`, as `(I + S)⁻¹ = (I + Q) / 2`, and `dR = (dS − dSᵀ) / 2`.
#[derive(Debug)]
struct Chain;

impl Op for Chain {
    fn name(&self) -> &'static str {
        "cayley"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        Ok(vec![inputs[1].clone()])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let b = side(self.name(), inputs[1].meta)?;
        each_float!(self.name(), inputs[1].meta.dtype, T => {
            let (grad, q) = (inputs[0].slice::<T>()?, inputs[1].slice::<T>()?);
            let blocks = ((1 << 18) / (b * b * b)).max(1);
            crate::parallel::chunks_mut(outputs[0].slice::<T>()?, blocks * b * b, |at, piece| {
                let (mut p, mut half, mut ds) = (vec![T::ZERO; b * b], vec![T::ZERO; b * b], vec![T::ZERO; b * b]);
                let from = at * blocks * b * b;
                let both = grad[from..].chunks(b * b).zip(q[from..].chunks(b * b));
                for (out, (grad, q)) in piece.chunks_mut(b * b).zip(both) {
                    // p = (I + Q)ᵀ
                    for i in 0..b {
                        for j in 0..b {
                            p[i * b + j] = q[j * b + i] + if i == j { T::ONE } else { T::ZERO };
                        }
                    }
                    multiply(&p, grad, b, &mut half);
                    multiply(&half, &p, b, &mut ds);
                    // −½ from dS, ½ from dR.
                    let quarter = T::of_f64(0.25);
                    for i in 0..b {
                        for j in 0..b {
                            out[i * b + j] = quarter * (ds[j * b + i] - ds[i * b + j]);
                        }
                    }
                }
            });
            Ok(())
        })
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        let b = side(self.name(), inputs[1].meta)?;
        let [out] = outputs else { return Ok(()) };
        let (count, dtype) = (out.meta.len() / (b * b), out.meta.dtype);
        let mut work = gpu.empty(dtype.into(), 2 * out.meta.len())?;
        let mut args = [inputs[0].arg(), inputs[1].arg(), out.arg(), Arg::Out(&mut work), cuda::size(b)?];
        gpu.blocks(butterfly::CAYLEY_CHAIN.of(self.name(), dtype)?, [count, 1, 1], 0, &mut args)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

/// `out = x y` of small square matrices.
fn multiply<T: Float>(x: &[T], y: &[T], b: usize, out: &mut [T]) {
    out.fill(T::ZERO);
    for i in 0..b {
        for k in 0..b {
            let factor = x[i * b + k];
            let (out, y) = (&mut out[i * b..(i + 1) * b], &y[k * b..(k + 1) * b]);
            out.iter_mut().zip(y).for_each(|(out, &y)| *out += factor * y);
        }
    }
}

impl Tensor {
    /// The Cayley transform `(I − S) (I + S)⁻¹` with `S = (R − Rᵀ) / 2` of each of `[.., b, b]`: a rotation, and I for R = 0.
    /// Solved in f64. It reaches every rotation without an angle of 180°.
    ///
    /// # Errors
    /// The last two axes differ or are empty.
    pub fn cayley(&self) -> Result<Self> {
        apply1(Cayley, &[self])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |shape: &[usize]| {
        Case::new(format!("cayley {shape:?}"), check::inputs("cayley", &[shape], -1.0, 1.0), |x| {
            x[0].cayley()
        })
    };
    [&[2, 2][..], &[3, 4, 4], &[2, 1, 5, 5]].into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::tensor::check::{Tolerance, assert_close, random};
    use crate::tensor::{DType, Tensor};

    #[test]
    fn two_by_two_is_a_rotation_by_twice_the_arc_tangent() {
        let r = Tensor::from_f64(vec![9.0, 2.0, 0.0, -3.0], &[2, 2]).expect("fits"); // S = [[0, 1], [−1, 0]]
        let q = r.cayley().expect("runs").to_f64().expect("f64");
        // 2 atan 1 = 90°, and only the skew part counts.
        for (got, want) in q.iter().zip([0.0, -1.0, 1.0, 0.0]) {
            assert!((got - want).abs() < 1e-15, "{q:?}");
        }
    }

    #[test]
    fn orthogonal_and_exactly_one_at_zero() {
        for scale in [0.1, 1.0, 50.0] {
            let r = random("r", &[4, 6, 6], -scale, scale).expect("fits").to_dtype(DType::F32).expect("runs");
            let q = r.cayley().expect("runs");
            let identity = Tensor::zeros(&[4, 6, 6], DType::F32).expect("fits").cayley().expect("runs");
            let want: Vec<f64> = (0..36).map(|i| f64::from(u8::from(i % 7 == 0))).collect();
            assert_eq!(identity.to_f64().expect("f64")[..36], want);
            assert_close(&q.matmul_nt(&q).expect("runs"), &identity, Tolerance::new(1e-6, 0.0));
        }
        assert!(Tensor::zeros(&[2, 3], DType::F32).expect("fits").cayley().is_err());
    }
}
