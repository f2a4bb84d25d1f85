//! The structured unitary map of Arjovsky, Shah and Bengio (arXiv:1511.06464) on rows of complex numbers:
//! `D₃ R₂ F⁻¹ D₂ Π R₁ F D₁` with diagonal phases D, reflections R, the discrete Fourier transform F (unitary) and a fixed
//! permutation Π. A row of k numbers costs O(k log k) where k has small prime factors.
//!
//! Real rows are read as pairs: elements 2j and 2j + 1 are the real and the imaginary part of number j. The map is then a
//! rotation of 2k real numbers.

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::wide::{self, Width, Work};
use crate::tensor::cpu::{View, ViewMut};
use crate::tensor::cuda::{self, Arg};
use crate::tensor::dtype::{Element, Float, each_float};
use crate::tensor::kernels::operations::unitary;
use crate::tensor::op::{Backward, Keep, Op, apply, apply1, infer};
use crate::tensor::shape::mismatch;
use crate::tensor::{DType, Device, Meta, Tensor};

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
    radices: Vec<usize>,
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
            radices: radices(k),
        }
    }

    #[inline(always)]
    fn v(&self, i: usize, j: usize) -> [T; 2] {
        let at = 2 * (i * self.k + j);
        [self.v[at], self.v[at + 1]]
    }

    /// One stage; backwards its inverse, which is also its transpose for gradients.
    #[inline(always)]
    fn run(&self, stage: Stage, backwards: bool, z: &mut Vec<Lanes<T>>, spare: &mut Vec<Lanes<T>>) {
        match stage {
            Stage::Phase(i) => {
                for (z, &[cos, sin]) in z.iter_mut().zip(&self.phases[i * self.k..]) {
                    *z = times(z, [cos, if backwards { -sin } else { sin }]);
                }
            }
            Stage::Fourier(inverse) => {
                self.fourier(z, spare, inverse != backwards);
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

    /// The unitary discrete Fourier transform by mixed radices, each from one buffer into the other in an order that ends
    /// sorted (Stockham); a prime factor p costs k · p.
    #[inline(always)]
    fn fourier(&self, z: &mut Vec<Lanes<T>>, spare: &mut Vec<Lanes<T>>, inverse: bool) {
        let mut stride = 1;
        for &radix in &self.radices {
            match radix {
                2 => self.butterflies::<2>(z, stride, spare, inverse),
                3 => self.butterflies::<3>(z, stride, spare, inverse),
                4 => self.butterflies::<4>(z, stride, spare, inverse),
                _ => self.any_radix(radix, z, stride, spare, inverse),
            }
            std::mem::swap(z, spare);
            stride *= radix;
        }
        let scale = T::of_f64(1.0 / (self.k as f64).sqrt());
        for [re, im] in z.iter_mut() {
            for lane in 0..LANES {
                (re[lane], im[lane]) = (re[lane] * scale, im[lane] * scale);
            }
        }
    }

    /// `exp(∓2πi j / k)`.
    #[inline(always)]
    fn root(&self, j: usize, inverse: bool) -> [T; 2] {
        let [re, im] = self.roots[j];
        [re, if inverse { -im } else { im }]
    }

    /// One factor of the transform: R numbers that lie k / R apart become R neighbours, `stride` apart.
    #[inline(always)]
    fn butterflies<const R: usize>(
        &self,
        z: &[Lanes<T>],
        stride: usize,
        out: &mut [Lanes<T>],
        inverse: bool,
    ) {
        let apart = self.k / R;
        for q in 0..apart / stride {
            let turns: [[T; 2]; R] = std::array::from_fn(|t| self.root(q * t * stride, inverse));
            for j in 0..stride {
                let parts: [Lanes<T>; R] = std::array::from_fn(|i| z[j + stride * q + apart * i]);
                let sums = small(parts, inverse);
                let out = &mut out[j + stride * R * q..];
                out[0] = sums[0];
                for t in 1..R {
                    out[t * stride] = times(&sums[t], turns[t]);
                }
            }
        }
    }

    /// [`butterflies`](Self::butterflies) of a radix that has no code of its own.
    #[inline(always)]
    fn any_radix(&self, radix: usize, z: &[Lanes<T>], stride: usize, out: &mut [Lanes<T>], inverse: bool) {
        let apart = self.k / radix;
        for q in 0..apart / stride {
            for j in 0..stride {
                for t in 0..radix {
                    let mut sum = z[j + stride * q];
                    for i in 1..radix {
                        add(
                            &mut sum,
                            &times(&z[j + stride * q + apart * i], self.root(i * t % radix * apart, inverse)),
                        );
                    }
                    out[j + stride * (radix * q + t)] = times(&sum, self.root(q * t * stride, inverse));
                }
            }
        }
    }
}

/// The Fourier transform of two, three or four numbers.
#[inline(always)]
fn small<T: Float, const R: usize>(z: [Lanes<T>; R], inverse: bool) -> [Lanes<T>; R] {
    let sign = if inverse { -T::ONE } else { T::ONE };
    let mut out = z;
    match R {
        2 => (out[0], out[1]) = (plus(&z[0], &z[1]), minus(&z[0], &z[1])),
        3 => {
            let (sum, difference) = (plus(&z[1], &z[2]), minus(&z[1], &z[2]));
            let half = plus(&z[0], &times(&sum, [T::of_f64(-0.5), T::ZERO]));
            // exp(∓2πi/3) = −1/2 ∓ i √3/2
            let turned = times(&difference, [T::ZERO, -sign * T::of_f64(0.75f64.sqrt())]);
            out[0] = plus(&z[0], &sum);
            (out[1], out[2]) = (plus(&half, &turned), minus(&half, &turned));
        }
        _ => {
            let (even, odd) = (plus(&z[0], &z[2]), plus(&z[1], &z[3]));
            let turned = times(&minus(&z[1], &z[3]), [T::ZERO, -sign]);
            let rest = minus(&z[0], &z[2]);
            (out[0], out[2]) = (plus(&even, &odd), minus(&even, &odd));
            (out[1], out[3]) = (plus(&rest, &turned), minus(&rest, &turned));
        }
    }
    out
}

/// Sine and cosine; the standard library's, whose last bits may differ between platforms.
fn sin_cos(angle: f64) -> (f64, f64) {
    angle.sin_cos()
}

/// Factors: fours, then primes, ascending.
fn radices(mut n: usize) -> Vec<usize> {
    let (mut radices, mut prime) = (vec![], 2);
    while n.is_multiple_of(4) {
        radices.push(4);
        n /= 4;
    }
    while n > 1 {
        while n.is_multiple_of(prime) {
            radices.push(prime);
            n /= prime;
        }
        prime = if prime * prime > n { n } else { prime + 1 };
    }
    radices
}

/// Multiplies by a number.
#[inline(always)]
fn times<T: Float>(z: &Lanes<T>, [re, im]: [T; 2]) -> Lanes<T> {
    let mut out = [[T::ZERO; LANES]; 2];
    for lane in 0..LANES {
        out[0][lane] = z[0][lane] * re - z[1][lane] * im;
        out[1][lane] = z[0][lane] * im + z[1][lane] * re;
    }
    out
}

#[inline(always)]
fn add<T: Float>(to: &mut Lanes<T>, z: &Lanes<T>) {
    for part in 0..2 {
        for lane in 0..LANES {
            to[part][lane] += z[part][lane];
        }
    }
}

#[inline(always)]
fn plus<T: Float>(a: &Lanes<T>, b: &Lanes<T>) -> Lanes<T> {
    let mut sum = *a;
    add(&mut sum, b);
    sum
}

#[inline(always)]
fn minus<T: Float>(a: &Lanes<T>, b: &Lanes<T>) -> Lanes<T> {
    let mut out = *a;
    for part in 0..2 {
        for lane in 0..LANES {
            out[part][lane] = a[part][lane] - b[part][lane];
        }
    }
    out
}

/// Up to [`LANES`] rows side by side; missing rows are zero.
#[inline(always)]
fn load<T: Float>(rows: &[T], n: usize, z: &mut [Lanes<T>]) {
    let mut tiles = z.chunks_exact_mut(LANES / 2);
    for (i, z) in tiles.by_ref().enumerate() {
        let mut tile = [[T::ZERO; LANES]; LANES];
        for (tile, row) in tile.iter_mut().zip(rows.chunks_exact(n)) {
            tile.copy_from_slice(&row[i * LANES..(i + 1) * LANES]);
        }
        z.as_flattened_mut().copy_from_slice(&transpose(tile));
    }
    let rest = tiles.into_remainder();
    let first = n - 2 * rest.len();
    for (j, z) in rest.iter_mut().enumerate() {
        *z = [[T::ZERO; LANES]; 2];
        for (lane, row) in rows.chunks_exact(n).enumerate() {
            (z[0][lane], z[1][lane]) = (row[first + 2 * j], row[first + 2 * j + 1]);
        }
    }
}

/// The way back; missing rows are left out.
#[inline(always)]
fn save<T: Float>(z: &[Lanes<T>], n: usize, rows: &mut [T]) {
    let tiles = z.chunks_exact(LANES / 2);
    let rest = tiles.remainder();
    for (i, z) in tiles.enumerate() {
        let mut tile = [[T::ZERO; LANES]; LANES];
        tile.copy_from_slice(z.as_flattened());
        for (tile, row) in transpose(tile).iter().zip(rows.chunks_exact_mut(n)) {
            row[i * LANES..(i + 1) * LANES].copy_from_slice(tile);
        }
    }
    let first = n - 2 * rest.len();
    for (j, z) in rest.iter().enumerate() {
        for (lane, row) in rows.chunks_exact_mut(n).enumerate() {
            (row[first + 2 * j], row[first + 2 * j + 1]) = (z[0][lane], z[1][lane]);
        }
    }
}

/// Columns become rows: exchanges of halves, then quarters, which are moves within vectors and no single numbers.
#[inline(always)]
fn transpose<T: Float>(tile: [[T; LANES]; LANES]) -> [[T; LANES]; LANES] {
    exchange::<T, 1>(exchange::<T, 2>(exchange::<T, 4>(tile)))
}

/// Exchanges what is `STEP` to the right in one row with what is as far to the left in the row `STEP` below.
#[inline(always)]
fn exchange<T: Float, const STEP: usize>(tile: [[T; LANES]; LANES]) -> [[T; LANES]; LANES] {
    std::array::from_fn(|i| {
        std::array::from_fn(|j| match (i & STEP == 0, j & STEP == 0) {
            (true, false) => tile[i + STEP][j - STEP],
            (false, true) => tile[i - STEP][j + STEP],
            _ => tile[i][j],
        })
    })
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
            let stages = self.0.stages();
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

/// Rows through all stages.
struct Forward<'a, T> {
    plan: &'a Plan<'a, T>,
    stages: &'a [Stage],
    backwards: bool,
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Float> Work for Forward<'_, T> {
    type Out = ();
    // Wider ones are no faster: numbers of one place are eight.
    const WIDEST: Width = Width::of_memory::<T>();

    #[inline(always)]
    fn run(self) {
        let n = 2 * self.plan.k;
        let mut z = vec![[[T::ZERO; LANES]; 2]; self.plan.k];
        let mut spare = z.clone();
        for (y, x) in self.y.chunks_mut(LANES * n).zip(self.x.chunks(LANES * n)) {
            load(x, n, &mut z);
            for &stage in self.stages {
                self.plan.run(stage, self.backwards, &mut z, &mut spare);
            }
            save(&z, n, y);
        }
    }
}

/// Rows back through all stages, with their gradients. Gives the sums over rows: dθ `[3, k]`, dv `[2, k, 2]`.
struct Back<'a, T> {
    plan: &'a Plan<'a, T>,
    stages: &'a [Stage],
    backwards: bool,
    y: &'a [T],
    grad: &'a [T],
    dx: &'a mut [T],
}

impl<T: Float> Work for Back<'_, T> {
    type Out = Vec<f64>;
    const WIDEST: Width = Width::of_memory::<T>();

    #[inline(always)]
    fn run(self) -> Vec<f64> {
        let Self { plan, stages, backwards, y, grad, dx } = self;
        let (k, n) = (plan.k, 2 * plan.k);
        let mut z = vec![[[T::ZERO; LANES]; 2]; k];
        let (mut g, mut spare) = (z.clone(), z.clone());
        // By row of the lanes.
        let mut theta = vec![[T::ZERO; LANES]; 3 * k];
        let mut v = vec![[[T::ZERO; LANES]; 2]; 2 * k];
        let mut along = [0.0; 2];
        for (dx, (y, grad)) in dx.chunks_mut(LANES * n).zip(y.chunks(LANES * n).zip(grad.chunks(LANES * n))) {
            load(y, n, &mut z);
            load(grad, n, &mut g);
            for &stage in stages.iter().rev() {
                if let Stage::Phase(i) = stage {
                    // dθ = Re(ḡ i z), with z after the stage; the inverse turns the other way.
                    for (sum, (z, g)) in theta[i * k..].iter_mut().zip(z.iter().zip(&g)) {
                        for lane in 0..LANES {
                            sum[lane] += g[1][lane] * z[0][lane] - g[0][lane] * z[1][lane];
                        }
                    }
                }
                plan.run(stage, !backwards, &mut z, &mut spare);
                if let Stage::Reflect(i) = stage {
                    along[i] += reflect_gradient(plan, i, &z, &g, &mut v[i * k..(i + 1) * k]);
                }
                plan.run(stage, !backwards, &mut g, &mut spare);
            }
            save(&g, n, dx);
        }
        let sum = |lanes: &[T; LANES]| lanes.iter().map(|x| x.to_f64()).sum::<f64>();
        let sign = if backwards { -1.0 } else { 1.0 };
        let theta = theta.iter().map(|lanes| sign * sum(lanes));
        let v = v.iter().enumerate().flat_map(|(at, lanes)| {
            let (i, gain) = (at / k, plan.gain[at / k].to_f64());
            let [re, im] = plan.v(i, at % k).map(|v| gain * gain * along[i] * v.to_f64());
            [re - gain * sum(&lanes[0]), im - gain * sum(&lanes[1])]
        });
        theta.chain(v).collect()
    }
}

/// dv of a reflection, from z before it and g after it: with a = z · v and q = g · v,
/// `dv = −(2/N) q z̄ − (2/N) a ḡ + (4/N²) Re(a q̄) v` summed over rows, N = ‖v‖². Adds q z̄ + a ḡ to `dv`, gives Re(a q̄).
#[inline(always)]
fn reflect_gradient<T: Float>(
    plan: &Plan<'_, T>,
    i: usize,
    z: &[Lanes<T>],
    g: &[Lanes<T>],
    dv: &mut [Lanes<T>],
) -> f64 {
    let (mut a, mut q) = ([[T::ZERO; LANES]; 2], [[T::ZERO; LANES]; 2]);
    for (j, (z, g)) in z.iter().zip(g).enumerate() {
        add(&mut a, &times(z, plan.v(i, j)));
        add(&mut q, &times(g, plan.v(i, j)));
    }
    for (dv, (z, g)) in dv.iter_mut().zip(z.iter().zip(g)) {
        for l in 0..LANES {
            dv[0][l] += q[0][l] * z[0][l] + q[1][l] * z[1][l] + a[0][l] * g[0][l] + a[1][l] * g[1][l];
            dv[1][l] += q[1][l] * z[0][l] - q[0][l] * z[1][l] + a[1][l] * g[0][l] - a[0][l] * g[1][l];
        }
    }
    (0..LANES).map(|l| (a[0][l] * q[0][l] + a[1][l] * q[1][l]).to_f64()).sum()
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
    fn the_fourier_transform_is_the_sum_it_stands_for() {
        for k in [1, 2, 5, 8, 12, 14, 27, 64, 86, 96] {
            let order: Vec<u32> = (0..k as u32).collect();
            let (theta, v) = (vec![0.0; 3 * k], vec![1.0; 4 * k]);
            let plan = Plan::<f64>::new(&theta, &v, &order);
            let z: Vec<Lanes<f64>> =
                (0..k).map(|j| [[(j * j % 11) as f64; LANES], [1.0 - (j % 5) as f64; LANES]]).collect();
            let (mut out, mut spare) = (z.clone(), z.clone());
            plan.fourier(&mut out, &mut spare, false);
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
