//! The structured unitary map of Arjovsky, Shah and Bengio (arXiv:1511.06464) on rows of complex numbers:
//! `D₃ R₂ F⁻¹ D₂ Π R₁ F D₁` with diagonal phases D, reflections R, the discrete Fourier transform F (unitary) and a fixed
//! permutation Π. A row of k numbers costs O(k log k) where k has small prime factors.
//!
//! Real rows are read as pairs: elements 2j and 2j + 1 are the real and the imaginary part of number j. The map is then a
//! rotation of 2k real numbers.

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::unitary::{Back, Forward, Plan, ROWS, stages};
use crate::tensor::cpu::wide;
use crate::tensor::cpu::{View, ViewMut};
use crate::tensor::cuda::{self, Arg};
use crate::tensor::dtype::{Element, each_float};
use crate::tensor::kernels::operations::unitary;
use crate::tensor::op::{Backward, Keep, Op, apply, apply1, infer};
use crate::tensor::shape::mismatch;
use crate::tensor::{DType, Device, Meta, Tensor};

/// Inputs: x `[.., 2k]`, phases `[3, k]`, reflections `[2, k, 2]`, permutation `[k]` (u32). Backwards: the inverse.
#[derive(Clone, Copy, Debug)]
struct Unitary {
    inverse: bool,
}

fn sizes(op: &'static str, inputs: &[&Meta]) -> Result<usize> {
    let (x, theta, v, order) = (&inputs[0].shape, &inputs[1].shape, &inputs[2].shape, &inputs[3].shape);
    let k = x.last().copied().unwrap_or(0) / 2;
    if k == 0 || x.last() != Some(&(2 * k)) || theta[..] != [3, k] || v[..] != [2, k, 2] || order[..] != [k] {
        let why = "x is [.., 2k] with k > 0, phases [3, k], reflections [2, k, 2], the permutation [k]";
        return Err(mismatch(op, x, theta, why));
    }
    Ok(k)
}

impl Op for Unitary {
    fn name(&self) -> &'static str {
        "unitary"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::alike(self.name(), &inputs[..3])?;
        sizes(self.name(), inputs)?;
        if inputs[3].dtype != DType::U32 {
            return Err(infer::unsupported(self.name(), inputs[3]));
        }
        Ok(vec![inputs[0].clone()])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let from = inputs[3].slice::<u32>()?;
        let n = 2 * from.len();
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let x = inputs[0].slice::<T>()?;
            let plan = Plan::new(inputs[1].slice::<T>()?, inputs[2].slice::<T>()?, from);
            let stages = stages(self.inverse);
            crate::parallel::chunks_mut(outputs[0].slice::<T>()?, ROWS * n, |at, y| {
                let x = &x[at * ROWS * n..][..y.len()];
                wide::run(Forward { plan: &plan, stages: &stages, backwards: self.inverse, x, y });
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
        let [x, theta, v, order] = inputs else { return Ok(()) };
        let [out] = outputs else { return Ok(()) };
        let (op, dtype, k) = (self.name(), out.meta.dtype, order.meta.len());
        let [rows, chunk, chunks] = chunks(out.meta, BLOCKS);
        let plan = plan_on(gpu, theta, v, k)?;
        let mut work = gpu.empty(dtype.into(), chunks * 2 * 2 * k)?;
        let mut args = vec![x.arg(), Arg::In(&plan), v.arg(), order.arg(), out.arg(), Arg::Out(&mut work)];
        args.push(Arg::Fault);
        args.extend(cuda::sizes([k, rows, chunk, self.inverse.into()])?);
        gpu.blocks(unitary::UNITARY.of(op, dtype)?, [chunks, 1, 1], 0, &mut args)
    }

    fn keep(&self, needs: &[bool]) -> Keep {
        let trained = needs[1] || needs[2];
        Keep::NOTHING.input(1, true).input(2, true).input(3, true).output(0, trained)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (grad, theta, v, order) = (at.grad()?, at.input(1)?, at.input(2)?, at.input(3)?);
        if !at.needs(1) && !at.needs(2) {
            let back = Self { inverse: !self.inverse };
            return Ok(vec![Some(apply1(back, &[grad, theta, v, order])?), None, None, None]);
        }
        let grads = apply(Chain(*self), &[grad, at.output(0)?, theta, v, order])?;
        Ok(grads.into_iter().map(Some).chain([None]).collect())
    }
}

/// Gradients of x, phases and reflections. A unitary map can be undone: what a row was before each stage is computed from
/// the output, and nothing else is kept.
#[derive(Debug)]
struct Chain(Unitary);

impl Op for Chain {
    fn name(&self) -> &'static str {
        "unitary"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        Ok(inputs[1..4].iter().map(|&meta| meta.clone()).collect())
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let from = inputs[4].slice::<u32>()?;
        let (k, n) = (from.len(), 2 * from.len());
        let backwards = self.0.inverse;
        let [dx, dtheta, dv] = outputs else { return Ok(()) };
        each_float!(self.name(), inputs[1].meta.dtype, T => {
            let (grad, y) = (inputs[0].slice::<T>()?, inputs[1].slice::<T>()?);
            let plan = Plan::new(inputs[2].slice::<T>()?, inputs[3].slice::<T>()?, from);
            let stages = stages(self.0.inverse);
            let pieces: Vec<&mut [T]> = dx.slice::<T>()?.chunks_mut(ROWS * n).collect();
            let mut sums = vec![vec![0.0f64; 7 * k]; pieces.len()];
            let work = pieces.into_iter().zip(&mut sums).collect();
            crate::parallel::owned(work, |at, (dx, sums): (&mut [T], &mut Vec<f64>)| {
                let rows = at * ROWS * n..at * ROWS * n + dx.len();
                let (y, grad) = (&y[rows.clone()], &grad[rows]);
                *sums = wide::run(Back { plan: &plan, stages: &stages, backwards, y, grad, dx });
            });
            let (dtheta, dv) = (dtheta.slice::<T>()?, dv.slice::<T>()?);
            let mut total = vec![0.0; 7 * k];
            for sums in &sums {
                total.iter_mut().zip(sums).for_each(|(total, x)| *total += x);
            }
            dtheta.iter_mut().zip(&total).for_each(|(d, &x)| *d = T::of_f64(x));
            dv.iter_mut().zip(&total[3 * k..]).for_each(|(d, &x)| *d = T::of_f64(x));
            Ok(())
        })
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        let [grad, y, theta, v, order] = inputs else { return Ok(()) };
        let [dx, dtheta, dv] = outputs else { return Ok(()) };
        let (op, dtype, k) = (self.name(), dx.meta.dtype, order.meta.len());
        let [rows, chunk, chunks] = chunks(dx.meta, CHAINS);
        if rows == 0 {
            gpu.clear(dtheta.data)?;
            return gpu.clear(dv.data);
        }
        let plan = plan_on(gpu, theta, v, k)?;
        let [mut of_theta, mut of_v] =
            [gpu.empty(dtype.into(), chunks * 3 * k)?, gpu.empty(dtype.into(), chunks * 4 * k)?];
        let mut work = gpu.empty(dtype.into(), chunks * 3 * 2 * k)?;
        let mut args = vec![grad.arg(), y.arg(), Arg::In(&plan), v.arg(), order.arg(), dx.arg()];
        args.extend([Arg::Out(&mut of_theta), Arg::Out(&mut of_v), Arg::Out(&mut work), Arg::Fault]);
        args.extend(cuda::sizes([k, rows, chunk, self.0.inverse.into()])?);
        gpu.blocks(unitary::UNITARY_CHAIN.of(op, dtype)?, [chunks, 1, 1], 0, &mut args)?;
        gpu.sum_middle(dtype, &of_theta, [1, chunks, 3 * k], dtheta.data)?;
        gpu.sum_middle(dtype, &of_v, [1, chunks, 4 * k], dv.data)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

/// Blocks of a launch at most: each has memory for two rows.
const BLOCKS: usize = 1024;
/// Chunks of rows whose gradients are summed apart.
const CHAINS: usize = 128;

/// Rows, those of a chunk, and chunks, at most so many.
fn chunks(x: &Meta, most: usize) -> [usize; 3] {
    let rows = x.len() / x.shape.last().map_or(1, |&n| n.max(1));
    let chunk = rows.div_ceil(most).max(1);
    [rows, chunk, rows.div_ceil(chunk)]
}

/// [`Plan`] on a GPU, but for what is read as it is.
fn plan_on(gpu: &cuda::Gpu, theta: &cuda::View<'_>, v: &cuda::View<'_>, k: usize) -> Result<cuda::Buffer> {
    let dtype = theta.meta.dtype;
    let mut plan = gpu.empty(dtype.into(), 8 * k + 2)?;
    let mut args = [theta.arg(), v.arg(), Arg::Out(&mut plan), cuda::size(k)?];
    let blocks = (3 * k).div_ceil(cuda::THREADS).max(2);
    gpu.blocks(unitary::UNITARY_PLAN.of("unitary", dtype)?, [blocks, 1, 1], 0, &mut args)?;
    Ok(plan)
}

impl Tensor {
    /// `x U` for x `[.., 2k]` read as k complex numbers a row, with phases `[3, k]` (radians), reflections `[2, k, 2]` (complex, of
    /// any length but zero) and a permutation `[k]` (u32; number j comes from there).
    ///
    /// # Errors
    /// Shapes or kinds that do not fit, a list that is no permutation, a reflection of length zero.
    ///
    /// On a GPU, where looking would mean waiting, a number of the list that is none is reported when values are read, and
    /// a list with repetitions or a reflection of length zero gives wrong or no numbers.
    pub fn unitary(&self, phases: &Self, reflections: &Self, permutation: &Self) -> Result<Self> {
        checked(reflections, permutation)?;
        apply1(Unitary { inverse: false }, &[self, phases, reflections, permutation])
    }

    /// `x U⁻¹`; errors as [`unitary`](Self::unitary).
    pub fn unitary_inverse(&self, phases: &Self, reflections: &Self, permutation: &Self) -> Result<Self> {
        checked(reflections, permutation)?;
        apply1(Unitary { inverse: true }, &[self, phases, reflections, permutation])
    }
}

fn checked(reflections: &Tensor, permutation: &Tensor) -> Result<()> {
    if let Device::Cuda(_) = permutation.device() {
        return Ok(());
    }
    let mut order = permutation.to_u32()?;
    order.sort_unstable();
    if order.iter().enumerate().any(|(i, &at)| i != at as usize) {
        return Err(crate::Error::value(
            "the permutation",
            "a list with repetitions or gaps",
            "each number once",
        ));
    }
    let v = reflections.to_f64()?;
    let zero = |half: &[f64]| half.iter().all(|&v| v == 0.0);
    if !v.is_empty() && v.chunks((v.len() / 2).max(1)).any(zero) {
        return Err(crate::Error::value("the length of a reflection", 0, "above 0"));
    }
    Ok(())
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (shape, k) in [(&[2, 8][..], 4usize), (&[3, 12], 6), (&[2, 1, 14], 7), (&[1, 2], 1)] {
        let all = check::inputs("unitary", &[shape, &[3, k], &[2, k, 2]], 0.2, 1.5);
        let order: Vec<u32> = (0..k as u32).rev().collect();
        let order = move || Tensor::from_u32(order.clone(), &[k]);
        let back = order.clone();
        let run = move |x: &[Tensor]| x[0].unitary(&x[1], &x[2], &check::beside(&x[0], &order()?)?);
        cases.push(Case::new(format!("unitary {shape:?}"), all.clone(), run));
        let run = move |x: &[Tensor]| x[0].unitary_inverse(&x[1], &x[2], &check::beside(&x[0], &back()?)?);
        cases.push(Case::new(format!("unitary inverse {shape:?}"), all, run));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::check::{Tolerance, assert_close, random};

    fn parts(k: usize) -> [Tensor; 3] {
        let order = (0..k as u32).map(|j| (j + 3) % k as u32).collect();
        [
            random("theta", &[3, k], -3.0, 3.0).expect("fits"),
            random("v", &[2, k, 2], -1.0, 1.0).expect("fits"),
            Tensor::from_u32(order, &[k]).expect("fits"),
        ]
    }

    #[test]
    fn keeps_lengths_and_is_undone_by_its_inverse_at_any_size() {
        for k in [1, 2, 3, 8, 12, 30, 37, 86] {
            let [theta, v, order] = parts(k);
            let x = random("x", &[11, 2 * k], -1.0, 1.0).expect("fits");
            let y = x.unitary(&theta, &v, &order).expect("runs");
            assert!(y.sub(&x).expect("runs").to_f64().expect("f64").iter().any(|d| d.abs() > 0.1), "{k}");
            let squares = |x: &Tensor| x.mul(x).expect("runs").sum(&[-1]).expect("runs");
            assert_close(&squares(&y), &squares(&x), Tolerance::new(1e-12, 1e-12));
            let back = y.unitary_inverse(&theta, &v, &order).expect("runs");
            assert_close(&back, &x, Tolerance::new(1e-13, 1e-12));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let [theta, v, order] = parts(4);
        let x = random("x", &[2, 8], -1.0, 1.0).expect("fits");
        assert!(x.unitary(&v, &theta, &order).is_err());
        let twice = Tensor::from_u32(vec![0, 0, 1, 2], &[4]).expect("fits");
        assert!(x.unitary(&theta, &v, &twice).is_err());
        let zero = Tensor::zeros(&[2, 4, 2], DType::F64).expect("fits");
        assert!(x.unitary(&theta, &zero, &order).is_err());
    }
}
