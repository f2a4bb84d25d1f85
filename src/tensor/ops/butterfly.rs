//! Products of permuted block-diagonal matrices, applied without ever being written out (Liu et al., BOFT,
//! arXiv:2311.06243; Dao et al., butterfly factorisations, arXiv:1903.05895).
//!
//! Factor i works in groups of `b · 2ⁱ` neighbours: block j of a group reads and writes `b / 2` elements at `j · b / 2` of
//! the first half of the group and as many of the second half. Factor 0 is block-diagonal. A row of n costs `n · b · m`
//! multiplications for m factors, where a dense matrix costs n².

use crate::tensor::check::{self, Case};
use crate::tensor::cpu::rotate::Factor;
use crate::tensor::cpu::{View, ViewMut};
use crate::tensor::cuda::{self, Arg};
use crate::tensor::dtype::{Float, each_float};
use crate::tensor::kernels::operations::butterfly;
use crate::tensor::op::{Backward, Keep, Op, apply, apply1, infer};
use crate::tensor::shape::mismatch;
use crate::tensor::{DType, Meta, Tensor};
use crate::{Error, Result};

/// Rows that go through a block together: its numbers stay in registers, and rows whose distance is a power of two still
/// fit the first-level cache.
const TILE: usize = 8;
/// Rows of a piece of work; fixed, so that sums do not depend on the number of threads.
const ROWS: usize = 256;
/// Pieces of the rows whose gradients by the factors a GPU adds up apart; fixed, so that sums do not depend on it.
const CUDA_CHUNKS: usize = 128;

/// Sizes of the factors.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    n: usize,
    factors: usize,
    b: usize,
}

impl Sizes {
    fn new(op: &'static str, x: &Meta, q: &Meta) -> Result<Self> {
        let wrong = |why: String| Err(mismatch(op, &x.shape, &q.shape, why));
        let &[factors, blocks, b, b2] = &q.shape[..] else {
            return wrong("the factors are [m, blocks, b, b]".into());
        };
        let n = x.shape.last().copied().unwrap_or(0);
        if b == 0 || b != b2 || blocks.checked_mul(b) != Some(n) || factors == 0 {
            return wrong(format!("blocks of [b, b] must cover the {n} elements of a row"));
        }
        let group = u32::try_from(factors - 1).ok().and_then(|i| 1usize.checked_shl(i));
        if factors > 1 && (b % 2 != 0 || group.is_none_or(|group| blocks % group != 0)) {
            return wrong(format!(
                "{factors} factors need an even b and blocks that are a multiple of 2^{}",
                factors - 1
            ));
        }
        Ok(Self { n, factors, b })
    }

    /// As the kernels take them.
    fn numbers(&self, transposed: bool) -> Result<[Arg<'static>; 4]> {
        let [n, factors, b] = cuda::sizes([self.n, self.factors, self.b])?;
        Ok([n, factors, b, cuda::flag(transposed)])
    }

    /// Memory that a block of the kernels shares: a row and what becomes of it.
    fn shared_bytes(&self, dtype: DType) -> Result<usize> {
        const MOST: usize = 96 << 10;
        match 2 * self.n * dtype.size() {
            bytes @ ..=MOST => Ok(bytes),
            bytes => Err(Error::Unsupported {
                op: "butterfly",
                on: format!(
                    "on a GPU with rows of {} numbers: two need {bytes} bytes of at most {MOST}",
                    self.n
                ),
            }),
        }
    }

    /// Where the two halves of block `d` of factor `i` lie in a row.
    fn halves(&self, i: usize, d: usize) -> (usize, usize) {
        let (group, j) = (d >> i, d & ((1 << i) - 1));
        let width = self.b << i;
        let start = group * width + j * (self.b / 2);
        (start, start + width / 2)
    }
}

/// The numbers of one factor, ready to be multiplied with.
enum Turn<'a, T> {
    /// By the plain loops, perhaps transposed.
    Plain { q: &'a [T], i: usize, transposed: bool },
    /// By vectors of f32.
    Wide { factor: Box<Factor>, packed: Vec<f32> },
}

impl<'a, T: Float> Turn<'a, T> {
    fn new(q: &'a [T], sizes: Sizes, i: usize, transposed: bool) -> Self {
        match (Factor::new(sizes.n, sizes.b, i), bytemuck::try_cast_slice::<T, f32>(q), T::DTYPE) {
            (Some(factor), Ok(q), DType::F32) => {
                let packed = factor.pack(q, transposed);
                Self::Wide { factor: Box::new(factor), packed }
            }
            _ => Self::Plain { q, i, transposed },
        }
    }

    /// `z ← z Q` for rows of `n`.
    fn rotate(&self, rows: &mut [T], sizes: Sizes) {
        match self {
            Self::Plain { q, i, transposed } => rotate(rows, q, sizes, *i, *transposed),
            Self::Wide { factor, packed } => factor.rotate(bytemuck::cast_slice_mut(rows), packed),
        }
    }

    /// Adds `Σ z[e] g[k]` over rows to sums in an order of its own, see [`finish`](Self::finish).
    fn outer(&self, z: &[T], g: &[T], sums: &mut [T], sizes: Sizes) {
        match self {
            Self::Plain { i, .. } => outer(z, g, sums, sizes, *i),
            Self::Wide { factor, .. } => {
                factor.outer(
                    bytemuck::cast_slice(z),
                    bytemuck::cast_slice(g),
                    bytemuck::cast_slice_mut(sums),
                );
            }
        }
    }

    /// Adds sums to `dQ[e][k]`.
    fn finish(&self, sums: &[T], dq: &mut [T]) {
        match self {
            Self::Plain { .. } => dq.iter_mut().zip(sums).for_each(|(dq, &sum)| *dq += sum),
            Self::Wide { factor, .. } => {
                factor.unpack(bytemuck::cast_slice(sums), bytemuck::cast_slice_mut(dq));
            }
        }
    }
}

/// `z ← z Q` (or `z Qᵀ`) for rows of `n`, by factor `i`.
fn rotate<T: Float>(rows: &mut [T], q: &[T], sizes: Sizes, i: usize, transposed: bool) {
    match sizes.b {
        2 => rotate_by::<T, 2>(rows, q, sizes, i, transposed),
        4 => rotate_by::<T, 4>(rows, q, sizes, i, transposed),
        8 => rotate_by::<T, 8>(rows, q, sizes, i, transposed),
        _ => rotate_any(rows, q, sizes, i, transposed),
    }
}

fn rotate_by<T: Float, const B: usize>(rows: &mut [T], q: &[T], sizes: Sizes, i: usize, transposed: bool) {
    let half = B / 2;
    for (d, q) in q.chunks_exact(B * B).enumerate() {
        let q: [[T; B]; B] = std::array::from_fn(|e| {
            std::array::from_fn(|k| if transposed { q[k * B + e] } else { q[e * B + k] })
        });
        let (first, second) = sizes.halves(i, d);
        for row in rows.chunks_exact_mut(sizes.n) {
            let mut z = [T::ZERO; B];
            z[..half].copy_from_slice(&row[first..first + half]);
            z[half..].copy_from_slice(&row[second..second + half]);
            let mut y: [T; B] = std::array::from_fn(|k| z[0] * q[0][k]);
            for e in 1..B {
                for k in 0..B {
                    y[k] += z[e] * q[e][k];
                }
            }
            row[first..first + half].copy_from_slice(&y[..half]);
            row[second..second + half].copy_from_slice(&y[half..]);
        }
    }
}

fn rotate_any<T: Float>(rows: &mut [T], q: &[T], sizes: Sizes, i: usize, transposed: bool) {
    let (b, half) = (sizes.b, sizes.b / 2);
    let (mut z, mut y, mut turned) = (vec![T::ZERO; b], vec![T::ZERO; b], vec![T::ZERO; b * b]);
    for (d, q) in q.chunks_exact(b * b).enumerate() {
        let q = match transposed {
            true => {
                (0..b * b).for_each(|at| turned[at] = q[at % b * b + at / b]);
                &turned
            }
            false => q,
        };
        let (first, second) = sizes.halves(i, d);
        for row in rows.chunks_exact_mut(sizes.n) {
            z[..half].copy_from_slice(&row[first..first + half]);
            z[half..].copy_from_slice(&row[second..second + b - half]);
            y.fill(T::ZERO);
            for (&z, q) in z.iter().zip(q.chunks_exact(b)) {
                y.iter_mut().zip(q).for_each(|(y, &q)| *y += z * q);
            }
            row[first..first + half].copy_from_slice(&y[..half]);
            row[second..second + b - half].copy_from_slice(&y[half..]);
        }
    }
}

/// `dQ[e][k] += Σ z[e] g[k]` over rows, by factor `i`.
fn outer<T: Float>(z: &[T], g: &[T], dq: &mut [T], sizes: Sizes, i: usize) {
    match sizes.b {
        2 => outer_by::<T, 2>(z, g, dq, sizes, i),
        4 => outer_by::<T, 4>(z, g, dq, sizes, i),
        8 => outer_by::<T, 8>(z, g, dq, sizes, i),
        _ => outer_any(z, g, dq, sizes, i),
    }
}

fn outer_by<T: Float, const B: usize>(z: &[T], g: &[T], dq: &mut [T], sizes: Sizes, i: usize) {
    let half = B / 2;
    for (d, dq) in dq.chunks_exact_mut(B * B).enumerate() {
        let (first, second) = sizes.halves(i, d);
        let read = |row: &[T]| {
            let mut block = [T::ZERO; B];
            block[..half].copy_from_slice(&row[first..first + half]);
            block[half..].copy_from_slice(&row[second..second + half]);
            block
        };
        let mut sum = [[T::ZERO; B]; B];
        for (z, g) in z.chunks_exact(sizes.n).zip(g.chunks_exact(sizes.n)) {
            let (z, g) = (read(z), read(g));
            for e in 0..B {
                for k in 0..B {
                    sum[e][k] += z[e] * g[k];
                }
            }
        }
        dq.iter_mut().zip(sum.as_flattened()).for_each(|(dq, &sum)| *dq += sum);
    }
}

fn outer_any<T: Float>(z: &[T], g: &[T], dq: &mut [T], sizes: Sizes, i: usize) {
    let (b, half) = (sizes.b, sizes.b / 2);
    let (mut zs, mut gs) = (vec![T::ZERO; b], vec![T::ZERO; b]);
    for (d, dq) in dq.chunks_exact_mut(b * b).enumerate() {
        let (first, second) = sizes.halves(i, d);
        for (z, g) in z.chunks_exact(sizes.n).zip(g.chunks_exact(sizes.n)) {
            for (to, row) in [(&mut zs, z), (&mut gs, g)] {
                to[..half].copy_from_slice(&row[first..first + half]);
                to[half..].copy_from_slice(&row[second..second + b - half]);
            }
            for (&z, dq) in zs.iter().zip(dq.chunks_exact_mut(b)) {
                dq.iter_mut().zip(&gs).for_each(|(dq, &g)| *dq += z * g);
            }
        }
    }
}

/// `x B_{m−1} ⋯ B_0`, or transposed `x B_0ᵀ ⋯ B_{m−1}ᵀ`.
#[derive(Clone, Copy, Debug)]
struct Butterfly {
    transposed: bool,
}

impl Butterfly {
    /// The factors in the order in which a row meets them.
    fn order(self, factors: usize) -> Vec<usize> {
        match self.transposed {
            true => (0..factors).collect(),
            false => (0..factors).rev().collect(),
        }
    }
}

impl Op for Butterfly {
    fn name(&self) -> &'static str {
        "butterfly"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::alike(self.name(), inputs)?;
        Sizes::new(self.name(), inputs[0], inputs[1])?;
        Ok(vec![inputs[0].clone()])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let sizes = Sizes::new(self.name(), inputs[0].meta, inputs[1].meta)?;
        let factor = sizes.n * sizes.b;
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (x, q) = (inputs[0].slice::<T>()?, inputs[1].slice::<T>()?);
            let turn = |i: usize| Turn::new(&q[i * factor..(i + 1) * factor], sizes, i, self.transposed);
            let turns: Vec<Turn<'_, T>> = self.order(sizes.factors).into_iter().map(turn).collect();
            crate::parallel::chunks_mut(outputs[0].slice::<T>()?, ROWS * sizes.n, |at, piece| {
                let x = x[at * ROWS * sizes.n..].chunks(TILE * sizes.n);
                for (rows, x) in piece.chunks_mut(TILE * sizes.n).zip(x) {
                    rows.copy_from_slice(x);
                    turns.iter().for_each(|turn| turn.rotate(rows, sizes));
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
        let sizes = Sizes::new(self.name(), inputs[0].meta, inputs[1].meta)?;
        let [out] = outputs else { return Ok(()) };
        let (dtype, rows) = (out.meta.dtype, out.meta.len() / sizes.n.max(1));
        let mut args = vec![inputs[0].arg(), inputs[1].arg(), out.arg()];
        args.extend(sizes.numbers(self.transposed)?);
        let shared = sizes.shared_bytes(dtype)?;
        gpu.blocks(butterfly::BUTTERFLY.of(self.name(), dtype)?, [rows, 1, 1], shared, &mut args)
    }

    fn keep(&self, needs: &[bool]) -> Keep {
        Keep::NOTHING.input(0, needs[1]).input(1, true)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (grad, q) = (at.grad()?, at.input(1)?);
        if !at.needs(1) {
            let back = Self { transposed: !self.transposed };
            return Ok(vec![Some(apply1(back, &[grad, q])?), None]);
        }
        let grads = apply(Chain(*self), &[grad, at.input(0)?, q])?;
        Ok(grads.into_iter().map(Some).collect())
    }
}

/// Gradients of both inputs. What a row was before each factor is computed again: that is cheaper than keeping it.
#[derive(Debug)]
struct Chain(Butterfly);

impl Op for Chain {
    fn name(&self) -> &'static str {
        "butterfly"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        Ok(vec![inputs[1].clone(), inputs[2].clone()])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let sizes = Sizes::new(self.name(), inputs[1].meta, inputs[2].meta)?;
        let (n, factor, transposed) = (sizes.n, sizes.n * sizes.b, self.0.transposed);
        let order = self.0.order(sizes.factors);
        let [dx, dq] = outputs else { return Ok(()) };
        each_float!(self.name(), inputs[1].meta.dtype, T => {
            let (grad, x, q) = (inputs[0].slice::<T>()?, inputs[1].slice::<T>()?, inputs[2].slice::<T>()?);
            let of = |i: usize| i * factor..(i + 1) * factor;
            let turns = |transposed: bool| -> Vec<Turn<'_, T>> {
                order.iter().map(|&i| Turn::new(&q[of(i)], sizes, i, transposed)).collect()
            };
            let (there, back) = (turns(transposed), turns(!transposed));
            let pieces: Vec<&mut [T]> = dx.slice::<T>()?.chunks_mut(ROWS * n).collect();
            let mut sums = vec![vec![T::ZERO; q.len()]; pieces.len()];
            let work = pieces.into_iter().zip(&mut sums).collect();
            crate::parallel::owned(work, |at, (piece, sum): (&mut [T], &mut Vec<T>)| {
                let mut before = vec![vec![T::ZERO; TILE * n]; sizes.factors];
                let from = at * ROWS * n;
                let both = x[from..].chunks(TILE * n).zip(grad[from..].chunks(TILE * n));
                for (g, (x, grad)) in piece.chunks_mut(TILE * n).zip(both) {
                    g.copy_from_slice(grad);
                    before[0][..x.len()].copy_from_slice(x);
                    for (step, turn) in there.iter().enumerate().take(sizes.factors - 1) {
                        let (done, next) = before.split_at_mut(step + 1);
                        next[0][..x.len()].copy_from_slice(&done[step][..x.len()]);
                        turn.rotate(&mut next[0][..x.len()], sizes);
                    }
                    for (step, (turn, &i)) in back.iter().zip(&order).enumerate().rev() {
                        let z = &before[step][..x.len()];
                        match transposed {
                            true => turn.outer(g, z, &mut sum[of(i)], sizes),
                            false => turn.outer(z, g, &mut sum[of(i)], sizes),
                        }
                        turn.rotate(g, sizes);
                    }
                }
            });
            let dq = dq.slice::<T>()?;
            for sum in sums {
                back.iter().zip(&order).for_each(|(turn, &i)| turn.finish(&sum[of(i)], &mut dq[of(i)]));
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
        let sizes = Sizes::new(self.name(), inputs[1].meta, inputs[2].meta)?;
        let [dx, dq] = outputs else { return Ok(()) };
        let (dtype, rows) = (dx.meta.dtype, dx.meta.len() / sizes.n.max(1));
        if rows == 0 {
            return gpu.clear(dq.data);
        }
        let chunk = rows.div_ceil(CUDA_CHUNKS);
        let chunks = rows.div_ceil(chunk);
        let mut before = gpu.empty(dtype.into(), chunks * sizes.factors * sizes.n)?;
        let mut sums = gpu.empty(dtype.into(), chunks * dq.meta.len())?;
        let mut args = vec![inputs[0].arg(), inputs[1].arg(), inputs[2].arg(), dx.arg()];
        args.extend([Arg::Out(&mut sums), Arg::Out(&mut before)]);
        args.extend(sizes.numbers(self.0.transposed)?);
        args.extend(cuda::sizes([rows, chunk])?);
        let shared = sizes.shared_bytes(dtype)?;
        gpu.blocks(butterfly::BUTTERFLY_CHAIN.of(self.name(), dtype)?, [chunks, 1, 1], shared, &mut args)?;
        gpu.sum_middle(dtype, &sums, [1, chunks, dq.meta.len()], dq.data)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

impl Tensor {
    /// `x B_{m−1} ⋯ B_0` for `x [.., n]` and blocks `[m, n/b, b, b]`.
    ///
    /// # Errors
    /// Blocks that do not cover a row; with more than one factor, an odd b or a number of blocks that `2^{m−1}` does not divide.
    pub fn butterfly(&self, blocks: &Self) -> Result<Self> {
        apply1(Butterfly { transposed: false }, &[self, blocks])
    }

    /// `x (B_{m−1} ⋯ B_0)ᵀ`; errors as [`butterfly`](Self::butterfly). For orthogonal blocks its inverse.
    pub fn butterfly_transposed(&self, blocks: &Self) -> Result<Self> {
        apply1(Butterfly { transposed: true }, &[self, blocks])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    type Shapes = (&'static [usize], [usize; 4]);
    let shapes: [Shapes; 6] = [
        (&[3, 8], [1, 2, 4, 4]),
        (&[2, 2, 16], [3, 4, 4, 4]),
        (&[9, 8], [3, 4, 2, 2]),
        (&[2, 24], [1, 3, 8, 8]),
        (&[3, 12], [2, 2, 6, 6]),
        (&[4, 9], [1, 3, 3, 3]),
    ];
    for (x, q) in shapes {
        let inputs = || check::inputs("butterfly", &[x, &q], -1.0, 1.0);
        cases.push(Case::new(format!("butterfly {x:?} {q:?}"), inputs(), |x| x[0].butterfly(&x[1])));
        let what = format!("butterfly transposed {x:?} {q:?}");
        cases.push(Case::new(what, inputs(), |x| x[0].butterfly_transposed(&x[1])));
        let fixed = inputs().swap_remove(1);
        let what = format!("butterfly {x:?}, fixed {q:?}");
        cases.push(Case::new(what, vec![inputs().swap_remove(0)], move |x| {
            x[0].butterfly(&check::beside(&x[0], &fixed)?)
        }));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::check::{Tolerance, assert_close, random};
    use crate::tensor::grad;
    use std::collections::BTreeMap;

    /// The factor as a dense matrix, after the paper: P blockdiag Pᵀ, where P moves even half-blocks of a group before odd ones.
    fn dense(q: &[f64], n: usize, b: usize, i: usize, permute: bool) -> Vec<f64> {
        let half = if permute { b / 2 } else { b };
        let group = b << i;
        let mut source = Vec::new();
        for start in (0..n).step_by(group) {
            let halves = group / half;
            let order = (0..halves).step_by(2).chain((1..halves).step_by(2));
            source.extend(order.flat_map(|h| start + h * half..start + (h + 1) * half));
        }
        if !permute {
            source = (0..n).collect();
        }
        let mut matrix = vec![0.0; n * n];
        for (k, &from) in source.iter().enumerate() {
            for (l, &to) in source.iter().enumerate() {
                if from / b == to / b {
                    // Row `from` and column `to` of the block-diagonal matrix lie at k and l.
                    matrix[k * n + l] = q[from / b * b * b + from % b * b + to % b];
                }
            }
        }
        matrix
    }

    #[test]
    fn equals_the_dense_product() {
        for (n, m, b) in [(16, 1, 4), (16, 2, 4), (16, 3, 4), (16, 4, 2), (32, 3, 8), (48, 2, 12), (15, 1, 5)]
        {
            let q = random("q", &[m, n / b, b, b], -1.0, 1.0).expect("fits");
            let x = random("x", &[300, n], -1.0, 1.0).expect("fits");
            let values = q.to_f64().expect("f64");
            let mut want = x.clone();
            for i in (0..m).rev() {
                let matrix = dense(&values[i * n * b..(i + 1) * n * b], n, b, i, m > 1);
                want = want.matmul(&Tensor::from_f64(matrix, &[n, n]).expect("fits")).expect("runs");
            }
            assert_close(&x.butterfly(&q).expect("runs"), &want, Tolerance::new(1e-12, 1e-12));
        }
    }

    #[test]
    fn vectors_of_f32_agree_with_the_plain_loops_of_f64() {
        for (n, m, b) in [(64, 1, 4), (64, 3, 4), (256, 4, 4), (64, 2, 8), (32, 3, 2)] {
            let x = random("x", &[21, n], -1.0, 1.0).expect("fits");
            let q = random("q", &[m, n / b, b, b], -1.0, 1.0).expect("fits");
            for transposed in [false, true] {
                let grads = |dtype| {
                    let of = |tensor: &Tensor| tensor.to_dtype(dtype).expect("converts");
                    let params = BTreeMap::from([("x".to_string(), of(&x)), ("q".to_string(), of(&q))]);
                    let loss = || {
                        let y = Butterfly { transposed };
                        apply1(y, &[&params["x"], &params["q"]])?.powf(2.0)?.sum_all()
                    };
                    grad(&params, loss).expect("runs").1
                };
                let (narrow, wide) = (grads(DType::F32), grads(DType::F64));
                for (path, want) in wide.iter() {
                    let got = narrow.get(path).and_then(|got| got.to_dtype(DType::F64)).expect("there");
                    assert_close(&got, want, Tolerance::new(1e-4, 1e-4));
                }
            }
        }
    }

    #[test]
    fn rotations_keep_lengths_and_are_undone_by_the_transpose() {
        let q = random("r", &[3, 8, 4, 4], -2.0, 2.0).expect("fits").cayley().expect("runs");
        let x = random("x", &[5, 32], -1.0, 1.0).expect("fits");
        let y = x.butterfly(&q).expect("runs");
        let squares = |x: &Tensor| x.mul(x).expect("runs").sum(&[-1]).expect("runs");
        assert_close(&squares(&y), &squares(&x), Tolerance::new(1e-13, 1e-13));
        assert!(y.sub(&x).expect("runs").to_f64().expect("f64").iter().any(|d| d.abs() > 0.1));
        assert_close(&y.butterfly_transposed(&q).expect("runs"), &x, Tolerance::new(1e-14, 1e-13));
    }

    #[test]
    fn each_row_reaches_b_times_two_to_the_factors() {
        let q = random("q", &[2, 8, 4, 4], 0.5, 1.0).expect("fits");
        let mut unit = vec![0.0; 32];
        unit[5] = 1.0;
        let y = Tensor::from_f64(unit, &[1, 32]).expect("fits").butterfly(&q).expect("runs");
        let reached: Vec<usize> =
            y.to_f64().expect("f64").iter().enumerate().filter(|(_, y)| **y != 0.0).map(|(i, _)| i).collect();
        assert_eq!(reached, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32).expect("fits");
        for (x, q) in [
            (&[2, 8][..], &[1, 3, 4, 4][..]),
            (&[2, 12], &[3, 3, 4, 4]),
            (&[2, 12], &[2, 3, 4, 4]),
            (&[2, 9], &[2, 3, 3, 3]),
            (&[2, 8], &[1, 2, 4, 2]),
            (&[2, 8], &[0, 2, 4, 4]),
            (&[2, 8], &[100, 2, 4, 4]),
            (&[2, 8], &[2, 4, 4]),
            (&[], &[1, 1, 1, 1]),
        ] {
            assert!(zeros(x).butterfly(&zeros(q)).is_err(), "{x:?} {q:?}");
        }
    }
}
