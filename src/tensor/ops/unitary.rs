//! The structured unitary map of Arjovsky, Shah and Bengio (arXiv:1511.06464) on rows of complex numbers:
//! `D₃ R₂ F⁻¹ D₂ Π R₁ F D₁` with diagonal phases D, reflections R, the discrete Fourier transform F (unitary) and a fixed
//! permutation Π. A row of k numbers costs O(k log k) where k has small prime factors.
//!
//! Real rows are read as pairs: elements 2j and 2j + 1 are the real and the imaginary part of number j. The map is then a
//! rotation of 2k real numbers.

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut};
use crate::tensor::dtype::{Element, Float, each_float};
use crate::tensor::op::{Backward, Keep, Op, apply, apply1, infer};
use crate::tensor::shape::mismatch;
use crate::tensor::{DType, Meta, Tensor};

/// Rows that are worked on together: number j of all of them lies side by side, so that loops over rows vectorise.
const LANES: usize = 8;
/// Rows of a piece of work; fixed, so that sums do not depend on the number of threads.
const ROWS: usize = 64;

/// `LANES` complex numbers, one of each row: real parts, imaginary parts.
type Lanes<T> = [[T; LANES]; 2];

/// Inputs: x `[.., 2k]`, phases `[3, k]`, reflections `[2, k, 2]`, permutation `[k]` (u32). Backwards: the inverse.
#[derive(Clone, Copy, Debug)]
struct Unitary {
    inverse: bool,
}

/// What one row meets, in order.
#[derive(Clone, Copy)]
enum Stage {
    Phase(usize),
    Fourier(bool),
    Reflect(usize),
    Permute,
}

const STAGES: [Stage; 8] = [
    Stage::Phase(0),
    Stage::Fourier(false),
    Stage::Reflect(0),
    Stage::Permute,
    Stage::Phase(1),
    Stage::Fourier(true),
    Stage::Reflect(1),
    Stage::Phase(2),
];

/// Everything a row needs, computed once.
struct Plan<'a, T> {
    k: usize,
    /// cos θ and sin θ, `[3, k]`.
    phases: Vec<[T; 2]>,
    v: &'a [T],
    /// 2 / ‖v‖².
    gain: [T; 2],
    from: &'a [u32],
    roots: Vec<[T; 2]>,
    primes: Vec<usize>,
}

impl<'a, T: Float> Plan<'a, T> {
    fn new(theta: &[T], v: &'a [T], from: &'a [u32]) -> Self {
        let k = from.len();
        let turn = |angle: f64| {
            let (sin, cos) = sin_cos(angle);
            [T::of_f64(cos), T::of_f64(sin)]
        };
        let norm = |i: usize| v[i * 2 * k..(i + 1) * 2 * k].iter().map(|v| v.to_f64().powi(2)).sum::<f64>();
        Self {
            k,
            phases: theta.iter().map(|theta| turn(theta.to_f64())).collect(),
            v,
            gain: [0, 1].map(|i| T::of_f64(2.0 / norm(i))),
            from,
            roots: (0..k).map(|j| turn(-std::f64::consts::TAU * j as f64 / k as f64)).collect(),
            primes: primes(k),
        }
    }

    fn v(&self, i: usize, j: usize) -> [T; 2] {
        let at = 2 * (i * self.k + j);
        [self.v[at], self.v[at + 1]]
    }

    /// One stage; backwards its inverse, which is also its transpose for gradients.
    fn run(&self, stage: Stage, backwards: bool, z: &mut Vec<Lanes<T>>, spare: &mut Vec<Lanes<T>>) {
        match stage {
            Stage::Phase(i) => {
                for (z, &[cos, sin]) in z.iter_mut().zip(&self.phases[i * self.k..]) {
                    *z = times(z, [cos, if backwards { -sin } else { sin }]);
                }
            }
            Stage::Fourier(inverse) => {
                let inverse = inverse != backwards;
                self.fourier(z, spare, inverse);
                std::mem::swap(z, spare);
            }
            Stage::Reflect(i) => {
                // z − (2 / ‖v‖²) (z · v) v̄: its own inverse.
                let mut along = [[T::ZERO; LANES]; 2];
                for (j, z) in z.iter().enumerate() {
                    add(&mut along, &times(z, self.v(i, j)));
                }
                let gain = self.gain[i];
                for (j, z) in z.iter_mut().enumerate() {
                    let [re, im] = self.v(i, j);
                    add(z, &times(&along, [-gain * re, gain * im]));
                }
            }
            Stage::Permute => {
                for (j, &from) in self.from.iter().enumerate() {
                    match backwards {
                        true => spare[from as usize] = z[j],
                        false => spare[j] = z[from as usize],
                    }
                }
                std::mem::swap(z, spare);
            }
        }
    }

    /// The unitary discrete Fourier transform by mixed radices; a prime factor p costs k · p.
    fn fourier(&self, z: &[Lanes<T>], out: &mut [Lanes<T>], inverse: bool) {
        self.step(z, 1, out, &self.primes, inverse);
        let scale = T::of_f64(1.0 / (self.k as f64).sqrt());
        for z in out.as_flattened_mut().iter_mut().flatten() {
            *z = *z * scale;
        }
    }

    /// Transforms every `stride`-th number of `z` into `out`.
    fn step(&self, z: &[Lanes<T>], stride: usize, out: &mut [Lanes<T>], primes: &[usize], inverse: bool) {
        let Some((&p, rest)) = primes.split_first() else {
            out[0] = z[0];
            return;
        };
        let (n, m) = (out.len(), out.len() / p);
        for (q, out) in out.chunks_exact_mut(m).enumerate() {
            self.step(&z[q * stride..], stride * p, out, rest, inverse);
        }
        let root = |j: usize| {
            let [re, im] = self.roots[j % n * (self.k / n)];
            [re, if inverse { -im } else { im }]
        };
        let mut parts = vec![[[T::ZERO; LANES]; 2]; p];
        for j in 0..m {
            for (q, part) in parts.iter_mut().enumerate() {
                *part = times(&out[q * m + j], root(q * j));
            }
            for s in 0..p {
                let mut sum = parts[0];
                for (q, part) in parts.iter().enumerate().skip(1) {
                    match (p, s) {
                        (2, 1) => add(&mut sum, &times(part, [-T::ONE, T::ZERO])),
                        (_, 0) => add(&mut sum, part),
                        _ => add(&mut sum, &times(part, root(q * s * m))),
                    }
                }
                out[s * m + j] = sum;
            }
        }
    }
}

/// Sine and cosine; the standard library's, whose last bits may differ between platforms.
fn sin_cos(angle: f64) -> (f64, f64) {
    angle.sin_cos()
}

fn primes(mut n: usize) -> Vec<usize> {
    let (mut primes, mut p) = (vec![], 2);
    while n > 1 {
        while n.is_multiple_of(p) {
            primes.push(p);
            n /= p;
        }
        p = if p * p > n { n } else { p + 1 };
    }
    primes
}

fn times<T: Float>(z: &Lanes<T>, [re, im]: [T; 2]) -> Lanes<T> {
    let mut out = [[T::ZERO; LANES]; 2];
    for lane in 0..LANES {
        out[0][lane] = z[0][lane] * re - z[1][lane] * im;
        out[1][lane] = z[0][lane] * im + z[1][lane] * re;
    }
    out
}

fn add<T: Float>(to: &mut Lanes<T>, z: &Lanes<T>) {
    for part in 0..2 {
        for lane in 0..LANES {
            to[part][lane] += z[part][lane];
        }
    }
}

/// Up to [`LANES`] rows side by side; missing rows are zero.
fn load<T: Float>(rows: &[T], n: usize, z: &mut [Lanes<T>]) {
    for (j, z) in z.iter_mut().enumerate() {
        *z = [[T::ZERO; LANES]; 2];
        for (lane, row) in rows.chunks_exact(n).enumerate() {
            (z[0][lane], z[1][lane]) = (row[2 * j], row[2 * j + 1]);
        }
    }
}

fn save<T: Float>(z: &[Lanes<T>], n: usize, rows: &mut [T]) {
    for (j, z) in z.iter().enumerate() {
        for (lane, row) in rows.chunks_exact_mut(n).enumerate() {
            (row[2 * j], row[2 * j + 1]) = (z[0][lane], z[1][lane]);
        }
    }
}

impl Unitary {
    /// Stages in the order in which a row meets them.
    fn stages(self) -> Vec<Stage> {
        match self.inverse {
            true => STAGES.into_iter().rev().collect(),
            false => STAGES.to_vec(),
        }
    }
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
            let stages = self.stages();
            crate::parallel::chunks_mut(outputs[0].slice::<T>()?, ROWS * n, |at, piece| {
                let mut z = vec![[[T::ZERO; LANES]; 2]; plan.k];
                let mut spare = z.clone();
                for (rows, x) in piece.chunks_mut(LANES * n).zip(x[at * ROWS * n..].chunks(LANES * n)) {
                    load(x, n, &mut z);
                    for &stage in &stages {
                        plan.run(stage, self.inverse, &mut z, &mut spare);
                    }
                    save(&z, n, rows);
                }
            });
            Ok(())
        })
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
            let stages = self.0.stages();
            let pieces: Vec<&mut [T]> = dx.slice::<T>()?.chunks_mut(ROWS * n).collect();
            let mut sums = vec![(vec![0.0f64; 3 * k], vec![0.0f64; 4 * k]); pieces.len()];
            let work = pieces.into_iter().zip(&mut sums).collect();
            type Sums = (Vec<f64>, Vec<f64>);
            crate::parallel::owned(work, |at, (piece, (dtheta, dv)): (&mut [T], &mut Sums)| {
                let mut z = vec![[[T::ZERO; LANES]; 2]; k];
                let (mut g, mut spare) = (z.clone(), z.clone());
                let from = at * ROWS * n;
                let both = y[from..].chunks(LANES * n).zip(grad[from..].chunks(LANES * n));
                for (rows, (y, grad)) in piece.chunks_mut(LANES * n).zip(both) {
                    load(y, n, &mut z);
                    load(grad, n, &mut g);
                    for &stage in stages.iter().rev() {
                        if let Stage::Phase(i) = stage {
                            // dθ = Re(ḡ i z), with z after the stage; the inverse turns the other way.
                            let sign = if backwards { -1.0 } else { 1.0 };
                            for (j, (z, g)) in z.iter().zip(&g).enumerate() {
                                let turn: T = (0..LANES).map(|l| g[1][l] * z[0][l] - g[0][l] * z[1][l]).sum();
                                dtheta[i * k + j] += sign * turn.to_f64();
                            }
                        }
                        plan.run(stage, !backwards, &mut z, &mut spare);
                        if let Stage::Reflect(i) = stage {
                            reflect_gradient(&plan, i, &z, &g, dv);
                        }
                        plan.run(stage, !backwards, &mut g, &mut spare);
                    }
                    save(&g, n, rows);
                }
            });
            let (dtheta, dv) = (dtheta.slice::<T>()?, dv.slice::<T>()?);
            let mut total = vec![0.0; 7 * k];
            for (theta, v) in &sums {
                total.iter_mut().zip(theta.iter().chain(v)).for_each(|(total, x)| *total += x);
            }
            dtheta.iter_mut().zip(&total).for_each(|(d, &x)| *d = T::of_f64(x));
            dv.iter_mut().zip(&total[3 * k..]).for_each(|(d, &x)| *d = T::of_f64(x));
            Ok(())
        })
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

/// dv of a reflection, from z before it and g after it: with a = z · v and q = g · v,
/// `dv = −(2/N) q z̄ − (2/N) a ḡ + (4/N²) Re(a q̄) v` summed over rows, N = ‖v‖².
fn reflect_gradient<T: Float>(plan: &Plan<'_, T>, i: usize, z: &[Lanes<T>], g: &[Lanes<T>], dv: &mut [f64]) {
    let (mut a, mut q) = ([[T::ZERO; LANES]; 2], [[T::ZERO; LANES]; 2]);
    for (j, (z, g)) in z.iter().zip(g).enumerate() {
        add(&mut a, &times(z, plan.v(i, j)));
        add(&mut q, &times(g, plan.v(i, j)));
    }
    let gain = plan.gain[i].to_f64();
    let common: T = (0..LANES).map(|l| a[0][l] * q[0][l] + a[1][l] * q[1][l]).sum();
    let common = gain * gain * common.to_f64();
    for (j, (z, g)) in z.iter().zip(g).enumerate() {
        let (mut re, mut im) = (T::ZERO, T::ZERO);
        for l in 0..LANES {
            // q z̄ + a ḡ
            re += q[0][l] * z[0][l] + q[1][l] * z[1][l] + a[0][l] * g[0][l] + a[1][l] * g[1][l];
            im += q[1][l] * z[0][l] - q[0][l] * z[1][l] + a[1][l] * g[0][l] - a[0][l] * g[1][l];
        }
        let [v_re, v_im] = plan.v(i, j);
        let at = 2 * (i * plan.k + j);
        dv[at] += common * v_re.to_f64() - gain * re.to_f64();
        dv[at + 1] += common * v_im.to_f64() - gain * im.to_f64();
    }
}

impl Tensor {
    /// `x U` for x `[.., 2k]` read as k complex numbers a row, with phases `[3, k]` (radians), reflections `[2, k, 2]` (complex, of
    /// any length but zero) and a permutation `[k]` (u32; number j comes from there).
    ///
    /// # Errors
    /// Shapes or kinds that do not fit, a list that is no permutation, a reflection of length zero.
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
    fn the_fourier_transform_is_the_sum_it_stands_for() {
        for k in [2, 5, 12, 14] {
            let order: Vec<u32> = (0..k as u32).collect();
            let (theta, v) = (vec![0.0; 3 * k], vec![1.0; 4 * k]);
            let plan = Plan::<f64>::new(&theta, &v, &order);
            let z: Vec<Lanes<f64>> =
                (0..k).map(|j| [[(j * j) as f64; LANES], [1.0 - j as f64; LANES]]).collect();
            let mut out = z.clone();
            plan.fourier(&z, &mut out, false);
            for (s, out) in out.iter().enumerate() {
                let (mut re, mut im) = (0.0, 0.0);
                for (j, z) in z.iter().enumerate() {
                    let (sin, cos) = (-std::f64::consts::TAU * (s * j) as f64 / k as f64).sin_cos();
                    re += z[0][0] * cos - z[1][0] * sin;
                    im += z[0][0] * sin + z[1][0] * cos;
                }
                let scale = (k as f64).sqrt();
                assert!(
                    (out[0][0] - re / scale).abs() < 1e-10 && (out[1][0] - im / scale).abs() < 1e-10,
                    "{k} {s}"
                );
            }
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
