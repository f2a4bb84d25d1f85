//! A linear map with what adapters add to it, in one pass over its output: a product of low rank, a factor for each
//! output, a bias (LoRA, Hu et al., arXiv:2106.09685; DoRA, Liu et al., arXiv:2402.09353; BOFT, arXiv:2311.06243).

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::gemm::{Matrix, add_product, product};
use crate::tensor::cpu::{View, ViewMut, loops};
use crate::tensor::cuda::{self, Product};
use crate::tensor::dtype::{Element, Float, each_float};
use crate::tensor::op::{Backward, Keep, Op, apply, infer};
use crate::tensor::ops::linear::{times, times_transposed};
use crate::tensor::shape::mismatch;
use crate::tensor::{DType, Device, Meta, Tensor};

/// What is added to `x Wᵀ`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Adaptation<'a> {
    /// `(A [r, in], B [out, r], c)`: adds `c (x Aᵀ) Bᵀ`.
    pub low_rank: Option<(&'a Tensor, &'a Tensor, f64)>,
    /// `s [out]`: factor of each output.
    pub scale: Option<&'a Tensor>,
    /// `b [out]`, added last.
    pub bias: Option<&'a Tensor>,
}

/// Inputs: x, W, then A and B, the scale and the bias as far as they are there. Outputs: y, and `x Aᵀ` for the gradient.
#[derive(Clone, Copy, Debug)]
struct AdaptedLinear {
    low_rank: Option<f64>,
    scale: bool,
    bias: bool,
}

impl AdaptedLinear {
    /// Where A (B is next), the scale and the bias stand among the inputs.
    fn places(self) -> (usize, usize, usize) {
        let scale = if self.low_rank.is_some() { 4 } else { 2 };
        (2, scale, scale + usize::from(self.scale))
    }
}

/// A matrix as it lies in memory.
fn matrix<T>(data: &[T], rows: usize, cols: usize) -> Matrix<'_, T> {
    Matrix::new(data, rows, cols)
}

/// The transpose of a matrix that lies in memory as `[cols, rows]`.
fn transposed<T>(data: &[T], rows: usize, cols: usize) -> Matrix<'_, T> {
    Matrix::new(data, cols, rows).t()
}

/// `y[.., o] *= s[o]`.
fn scale_columns<T: Float>(y: &mut [T], s: &[T]) {
    loops::chunks(y, s.len(), |_, piece| {
        piece.chunks_mut(s.len()).for_each(|row| loops::combine(row, s, |y, s| y * s));
    });
}

// Functions of `kernels/elementwise.cu`.
const ADD: u32 = 0;
const MUL: u32 = 2;
const DIV: u32 = 3;

/// `out = f(x, s)` on a GPU for x `[rows, n]` and s `[rows, n]` or `[n]`.
fn by_columns(
    gpu: &cuda::Gpu,
    dtype: DType,
    function: u32,
    shape: [usize; 2],
    x: &cuda::Buffer,
    s: &cuda::Buffer,
    out: &mut cuda::Buffer,
) -> Result<()> {
    let whole = Meta::new(shape, dtype);
    let of_s = if s.len() == whole.len() { whole.clone() } else { Meta::new([shape[1]], dtype) };
    let views = [cuda::View { meta: &whole, data: x }, cuda::View { meta: &of_s, data: s }];
    gpu.zip("adapted_linear", function, views, &mut cuda::ViewMut { meta: &whole, data: out })
}

fn lost() -> crate::Error {
    crate::Error::Internal("adapted_linear: an operand of its gradient was not kept".into())
}

impl Op for AdaptedLinear {
    fn name(&self) -> &'static str {
        "adapted_linear"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        // Weights may be stored in half the width under an x of f32.
        let narrow = inputs[0].dtype == DType::F32 && inputs[1].dtype == DType::Bf16;
        let others: Vec<&Meta> =
            inputs.iter().enumerate().filter(|(i, _)| *i != 1 || !narrow).map(|(_, &meta)| meta).collect();
        infer::alike(self.name(), &others)?;
        let (x, w) = (&inputs[0].shape, &inputs[1].shape);
        let &[out, cols] = &w[..] else { return Err(mismatch(self.name(), x, w, "W is [out, in]")) };
        if x.last() != Some(&cols) {
            return Err(mismatch(self.name(), x, w, "x is [.., in] and W [out, in]"));
        }
        let y = [&x[..x.len() - 1], &[out]].concat();
        let (low, scale, bias) = self.places();
        let mut outputs = vec![Meta::new(y, inputs[0].dtype)];
        if self.low_rank.is_some() {
            let (a, b) = (&inputs[low].shape, &inputs[low + 1].shape);
            match (&a[..], &b[..]) {
                (&[r, n], &[m, r2]) if n == cols && m == out && r == r2 => {
                    outputs.push(Meta::new([&x[..x.len() - 1], &[r]].concat(), inputs[0].dtype));
                }
                _ => return Err(mismatch(self.name(), a, b, format!("A is [r, {cols}] and B [{out}, r]"))),
            }
        }
        for (there, at) in [(self.scale, scale), (self.bias, bias)] {
            if there && inputs[at].shape != [out] {
                return Err(mismatch(self.name(), w, &inputs[at].shape, "scale and bias are [out]"));
            }
        }
        Ok(outputs)
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let (out, cols) = (inputs[1].shape()[0], inputs[1].shape()[1]);
        let rows = inputs[0].meta.len() / cols.max(1);
        let (low, scale, bias) = self.places();
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let x = inputs[0].slice::<T>()?;
            let (y, rest) = outputs.split_at_mut(1);
            let y = y[0].slice::<T>()?;
            times_transposed(x, inputs[1], y)?;
            if let Some(factor) = self.low_rank {
                let (a, b) = (inputs[low].slice::<T>()?, inputs[low + 1].slice::<T>()?);
                let r = inputs[low].shape()[0];
                let h = rest[0].slice::<T>()?;
                product(matrix(x, rows, cols), transposed(a, cols, r), h);
                add_product(matrix(h, rows, r), transposed(b, r, out), T::of_f64(factor), y);
            }
            if self.scale {
                scale_columns(y, inputs[scale].slice::<T>()?);
            }
            if self.bias {
                let b = inputs[bias].slice::<T>()?;
                loops::chunks(y, out, |_, piece| {
                    piece.chunks_mut(out).for_each(|row| loops::combine(row, b, |y, b| y + b));
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
        let (out, cols) = (inputs[1].shape()[0], inputs[1].shape()[1]);
        let (dtype, rows) = (inputs[0].meta.dtype, inputs[0].meta.len() / cols.max(1));
        let (low, scale, bias) = self.places();
        let (y, rest) = outputs.split_at_mut(1);
        let y = &mut *y[0].data;
        let (x, w) = (inputs[0].data, inputs[1].data);
        gpu.product(dtype, &Product::new(x, w, [rows, cols, out]).transposed(false, true), y)?;
        if let Some(factor) = self.low_rank {
            let (a, b, r) = (inputs[low].data, inputs[low + 1].data, inputs[low].shape()[0]);
            let h = &mut *rest[0].data;
            gpu.product(dtype, &Product::new(x, a, [rows, cols, r]).transposed(false, true), h)?;
            let product = Product::new(h, b, [rows, r, out]).transposed(false, true);
            gpu.product(dtype, &Product { alpha: factor, add: true, ..product }, y)?;
        }
        for (there, function, place) in [(self.scale, MUL, scale), (self.bias, ADD, bias)] {
            if there {
                let old = gpu.copy(y)?;
                by_columns(gpu, dtype, function, [rows, out], &old, inputs[place].data, y)?;
            }
        }
        Ok(())
    }

    fn keep(&self, needs: &[bool]) -> Keep {
        let (low, scale, _) = self.places();
        let mut keep = Keep::NOTHING.input(0, needs[1]).input(1, needs[0]);
        if self.low_rank.is_some() {
            let (a, b) = (needs[low], needs[low + 1]);
            keep =
                keep.input(0, needs[1] || a).input(low, needs[0]).input(low + 1, needs[0] || a).output(1, b);
        }
        if self.scale {
            // The scale's gradient takes x Wᵀ as y / s: y is held by whoever uses it anyway.
            keep = keep.input(scale, true).output(0, needs[scale]);
        }
        keep
    }

    /// With g′ = g ⊙ s: dx = g′ W + c (g′ B) A, dW = g′ᵀ x, dA = c (g′ B)ᵀ x, dB = c g′ᵀ (x Aᵀ), ds = Σ g y / s.
    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (low, scale, bias) = self.places();
        let count = bias + usize::from(self.bias);
        let needs: Vec<bool> = (0..count).map(|i| at.needs(i)).collect();
        if at.needs(1) && at.input_meta(1).dtype != at.input_meta(0).dtype {
            return at.none();
        }
        let keep = self.keep(&needs);
        let chain = Chain {
            of: *self,
            shapes: (0..count).map(|i| at.input_meta(i).clone()).collect(),
            needs: needs.clone(),
        };
        // What was kept, in the order in which `Chain` takes it.
        let mut inputs = vec![at.grad()?];
        for i in 0..count {
            if keep.keeps_input(i) {
                inputs.push(at.input(i)?);
            }
        }
        if self.scale && needs[scale] {
            inputs.push(at.output(0)?);
        }
        if self.low_rank.is_some() && needs[low + 1] {
            inputs.push(at.output(1)?);
        }
        let mut grads = apply(chain, &inputs)?.into_iter();
        Ok(needs.into_iter().map(|needed| if needed { grads.next() } else { None }).collect())
    }
}

/// Gradients of the inputs that need one. Inputs: g, the kept inputs, y and `x Aᵀ` as kept.
#[derive(Debug)]
struct Chain {
    of: AdaptedLinear,
    shapes: Vec<Meta>,
    needs: Vec<bool>,
}

impl Op for Chain {
    fn name(&self) -> &'static str {
        "adapted_linear"
    }

    fn infer(&self, _inputs: &[&Meta]) -> Result<Vec<Meta>> {
        Ok(self
            .shapes
            .iter()
            .zip(&self.needs)
            .filter(|(_, needed)| **needed)
            .map(|(m, _)| m.clone())
            .collect())
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let (low, scale, bias) = self.of.places();
        let keep = self.of.keep(&self.needs);
        let (out, cols) = (self.shapes[1].shape[0], self.shapes[1].shape[1]);
        let rows = self.shapes[0].len() / cols.max(1);
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let mut rest = inputs.iter();
            let mut weight = None;
            type Rest<'a, 'b> = std::slice::Iter<'b, View<'a>>;
            fn next<'a, T: Float>(rest: &mut Rest<'a, '_>, there: bool) -> Result<Option<&'a [T]>> {
                if there { rest.next().map(|view| view.slice::<T>()).transpose() } else { Ok(None) }
            }
            let g: &[T] = next(&mut rest, true)?.unwrap_or(&[]);
            let mut kept: Vec<&[T]> = Vec::new();
            for i in 0..self.needs.len() {
                // The weight has a width of its own.
                let there = keep.keeps_input(i) && i != 1;
                if keep.keeps_input(i) && i == 1 {
                    weight = rest.next();
                }
                kept.push(next(&mut rest, there)?.unwrap_or(&[]));
            }
            let y: &[T] = next(&mut rest, self.of.scale && self.needs[scale])?.unwrap_or(&[]);
            let h: &[T] = next(&mut rest, self.of.low_rank.is_some() && self.needs[low + 1])?.unwrap_or(&[]);
            let mut scaled = Vec::new();
            if self.of.scale {
                scaled = g.to_vec();
                scale_columns(&mut scaled, kept[scale]);
            }
            let g_inner = if self.of.scale { &scaled[..] } else { g };

            let factor = T::of_f64(self.of.low_rank.unwrap_or(0.0));
            let r = self.of.low_rank.map_or(0, |_| self.shapes[low].shape[0]);
            // g′ B, which both dx and dA read.
            let mut gb = vec![T::ZERO; if r > 0 && (self.needs[0] || self.needs[low]) { rows * r } else { 0 }];
            if !gb.is_empty() {
                product(matrix(g_inner, rows, out), matrix(kept[low + 1], out, r), &mut gb);
            }
            let mut outputs = outputs.iter_mut();
            for i in 0..self.needs.len() {
                if !self.needs[i] {
                    continue;
                }
                let Some(to) = outputs.next() else { continue };
                let to = to.slice::<T>()?;
                if i == 0 {
                    if let Some(&weight) = weight {
                        times(g_inner, weight, to)?;
                    }
                    if !gb.is_empty() {
                        add_product(matrix(&gb, rows, r), matrix(kept[low], r, cols), factor, to);
                    }
                } else if i == 1 {
                    product(transposed(g_inner, out, rows), matrix(kept[0], rows, cols), to);
                } else if r > 0 && i == low {
                    add_product(transposed(&gb, r, rows), matrix(kept[0], rows, cols), factor, to);
                } else if r > 0 && i == low + 1 {
                    add_product(transposed(g_inner, out, rows), matrix(h, rows, r), factor, to);
                } else if self.of.scale && i == scale {
                    loops::sum_rows((g, y), to, |g, y| g * y);
                    to.iter_mut().zip(kept[scale]).for_each(|(to, &s)| *to /= s);
                } else if self.of.bias && i == bias {
                    loops::sum_rows((g, g), to, |g, _| g);
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
        let (low, scale, bias) = self.of.places();
        let keep = self.of.keep(&self.needs);
        let (out, cols) = (self.shapes[1].shape[0], self.shapes[1].shape[1]);
        let (dtype, rows) = (inputs[0].meta.dtype, self.shapes[0].len() / cols.max(1));
        let mut rest = inputs.iter().map(|view| view.data);
        let g = rest.next().ok_or_else(lost)?;
        let kept: Vec<Option<&cuda::Buffer>> =
            (0..self.needs.len()).map(|i| if keep.keeps_input(i) { rest.next() } else { None }).collect();
        let place = |i: usize| kept[i].ok_or_else(lost);
        let y = if self.of.scale && self.needs[scale] { rest.next() } else { None };
        let h = if self.of.low_rank.is_some() && self.needs[low + 1] { rest.next() } else { None };
        let scaled;
        let inner = match self.of.scale {
            true => {
                let mut to = gpu.empty(dtype.into(), rows * out)?;
                by_columns(gpu, dtype, MUL, [rows, out], g, place(scale)?, &mut to)?;
                scaled = to;
                &scaled
            }
            false => g,
        };
        let factor = self.of.low_rank.unwrap_or(0.0);
        let r = self.of.low_rank.map_or(0, |_| self.shapes[low].shape[0]);
        // g′ B, which both dx and dA read.
        let mut gb = gpu.empty(dtype.into(), rows * r)?;
        let reads_gb = r > 0 && (self.needs[0] || self.needs[low]);
        if reads_gb {
            gpu.product(dtype, &Product::new(inner, place(low + 1)?, [rows, out, r]), &mut gb)?;
        }
        let mut outputs = outputs.iter_mut();
        for i in (0..self.needs.len()).filter(|&i| self.needs[i]) {
            let to = &mut *outputs.next().ok_or_else(lost)?.data;
            if i == 0 {
                gpu.product(dtype, &Product::new(inner, place(1)?, [rows, out, cols]), to)?;
                if reads_gb {
                    let product = Product::new(&gb, place(low)?, [rows, r, cols]);
                    gpu.product(dtype, &Product { alpha: factor, add: true, ..product }, to)?;
                }
            } else if i == 1 {
                let product = Product::new(inner, place(0)?, [out, rows, cols]).transposed(true, false);
                gpu.product(dtype, &product, to)?;
            } else if r > 0 && i == low {
                let product = Product::new(&gb, place(0)?, [r, rows, cols]).transposed(true, false);
                gpu.product(dtype, &Product { alpha: factor, ..product }, to)?;
            } else if r > 0 && i == low + 1 {
                let product =
                    Product::new(inner, h.ok_or_else(lost)?, [out, rows, r]).transposed(true, false);
                gpu.product(dtype, &Product { alpha: factor, ..product }, to)?;
            } else if self.of.scale && i == scale {
                let mut products = gpu.empty(dtype.into(), rows * out)?;
                by_columns(gpu, dtype, MUL, [rows, out], g, y.ok_or_else(lost)?, &mut products)?;
                let mut sum = gpu.empty(dtype.into(), out)?;
                gpu.sum_middle(dtype, &products, [1, rows, out], &mut sum)?;
                by_columns(gpu, dtype, DIV, [1, out], &sum, place(scale)?, to)?;
            } else if self.of.bias && i == bias {
                gpu.sum_middle(dtype, g, [1, rows, out], to)?;
            }
        }
        Ok(())
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

/// Below this, `y / s` may have lost `x Wᵀ` to rounding.
const TINY: f64 = 1e-18;

impl Tensor {
    /// `s ⊙ (x Wᵀ + c (x Aᵀ) Bᵀ) + b` for `x [.., in]` and `W [out, in]`, with what the adaptation has of it.
    ///
    /// The tape keeps x only where W or A are trained; a frozen layer keeps nothing but itself.
    ///
    /// # Errors
    /// Shapes or kinds that do not fit.
    pub fn adapted_linear(&self, weight: &Self, with: Adaptation<'_>) -> Result<Self> {
        let Some(scale) = with.scale else { return fused(self, weight, with) };
        // A bias is added afterwards, so that y / s is x Wᵀ.
        // On a GPU nobody looks, which would wait for it.
        let vanishes = match scale.device() {
            Device::Cpu => scale.dtype().is_computing() && scale.to_f64()?.iter().any(|s| s.abs() < TINY),
            Device::Cuda(_) => true,
        };
        let y = match vanishes {
            true => fused(self, weight, Adaptation { scale: None, bias: None, ..with })?.mul(scale)?,
            false => fused(self, weight, Adaptation { bias: None, ..with })?,
        };
        with.bias.map_or(Ok(y.clone()), |bias| y.add(bias))
    }
}

fn fused(x: &Tensor, weight: &Tensor, with: Adaptation<'_>) -> Result<Tensor> {
    let mut inputs = vec![x, weight];
    if let Some((a, b, _)) = with.low_rank {
        inputs.extend([a, b]);
    }
    inputs.extend(with.scale.iter().chain(&with.bias));
    let op = AdaptedLinear {
        low_rank: with.low_rank.map(|(_, _, factor)| factor),
        scale: with.scale.is_some(),
        bias: with.bias.is_some(),
    };
    Ok(apply(op, &inputs)?.swap_remove(0))
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (shape, out, r) in [(&[5][..], 3, 1), (&[4, 3], 5, 2), (&[2, 3, 4], 3, 2)] {
        let cols = shape[shape.len() - 1];
        for (low, scale, bias) in [
            (false, false, false),
            (true, false, false),
            (false, true, false),
            (true, true, false),
            (false, false, true),
            (true, true, true),
        ] {
            let shapes: [&[usize]; 6] = [shape, &[out, cols], &[r, cols], &[out, r], &[out], &[out]];
            let all = check::inputs("adapted_linear", &shapes, 0.2, 1.0);
            let used = [true, true, low, low, scale, bias];
            let inputs = all.iter().zip(used).filter(|(_, used)| *used).map(|(x, _)| x.clone()).collect();
            let run = move |x: &[Tensor]| {
                let mut rest = x[2..].iter();
                let low_rank =
                    if low { rest.next().zip(rest.next()).map(|(a, b)| (a, b, 0.7)) } else { None };
                let scale = if scale { rest.next() } else { None };
                let bias = if bias { rest.next() } else { None };
                x[0].adapted_linear(&x[1], Adaptation { low_rank, scale, bias })
            };
            cases.push(Case::new(format!("adapted_linear {shape:?} {used:?}"), inputs, run));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{DType, grad, recorded};
    use std::collections::BTreeMap;

    fn tensor(values: &[f64], shape: &[usize]) -> Tensor {
        Tensor::from_f64(values.to_vec(), shape).expect("fits")
    }

    #[test]
    fn values_and_refusals() {
        let x = tensor(&[1.0, 2.0], &[1, 2]);
        let w = tensor(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], &[3, 2]);
        let (a, b) = (tensor(&[1.0, 1.0], &[1, 2]), tensor(&[1.0, 0.0, 2.0], &[3, 1]));
        let (s, bias) = (tensor(&[1.0, 0.0, 2.0], &[3]), tensor(&[0.5, 0.5, 0.5], &[3]));
        let with = Adaptation { low_rank: Some((&a, &b, 0.5)), scale: Some(&s), bias: Some(&bias) };
        let y = x.adapted_linear(&w, with).expect("runs").to_f64().expect("f64");
        assert_eq!(y, [1.0 + 1.5 + 0.5, 0.5, 2.0 * (3.0 + 3.0) + 0.5]);
        let flipped = Adaptation { low_rank: Some((&b, &a, 0.5)), ..Default::default() };
        assert!(x.adapted_linear(&w, flipped).is_err());
        assert!(x.adapted_linear(&a.transpose(0, 1).expect("runs"), Adaptation::default()).is_err());
        let short = Adaptation { bias: Some(&a), ..Default::default() };
        assert!(x.adapted_linear(&w, short).is_err());
    }

    #[test]
    fn a_scale_of_zero_has_its_gradient() {
        let x = tensor(&[1.0, 2.0], &[1, 2]);
        let w = tensor(&[1.0, 3.0], &[1, 2]);
        let params = BTreeMap::from([("s".to_string(), tensor(&[0.0], &[1]))]);
        let with = Adaptation { scale: Some(&params["s"]), ..Default::default() };
        let (_, grads) = grad(&params, || x.adapted_linear(&w, with)?.sum_all()).expect("a gradient");
        assert_eq!(grads.get("s").expect("there").to_f64().expect("f64"), [7.0]);
    }

    #[test]
    fn frozen_maps_keep_no_activations() {
        let x = BTreeMap::from([("x".to_string(), Tensor::full(&[64, 2], 1.0, DType::F64).expect("fits"))]);
        let w = tensor(&[1.0, 3.0], &[1, 2]);
        grad(&x, || {
            let y = x["x"].adapted_linear(&w, Adaptation::default())?;
            assert_eq!(recorded().expect("recording").bytes, 16, "only W");
            y.sum_all()
        })
        .expect("a gradient");
    }
}
