//! Scaled dot-product attention (Vaswani et al., arXiv:1706.03762) without the matrix of scores: blocks of queries, and
//! for the way back only one number a query is kept (Dao et al., arXiv:2205.14135).

use std::ops::Range;

use crate::parallel;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::gemm::{Matrix, add_product_here as add_product, product_here as product};
use crate::tensor::cpu::wide::{self, Width, Work};
use crate::tensor::cpu::{View, ViewMut, loops};
use crate::tensor::cuda::{self, Arg};
use crate::tensor::dtype::{Float, each_float};
use crate::tensor::kernels::ElementType;
use crate::tensor::kernels::operations::attention;
use crate::tensor::op::{Backward, Keep, Op, apply, infer};
use crate::tensor::shape::mismatch;
use crate::tensor::{DType, Meta, Tensor};
use crate::{Error, Result};

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Factor of the products, usually 1/√D.
    pub scale: f64,
    /// Whether a query sees only keys at its own and earlier positions.
    pub causal: bool,
    /// Causal, and only the latest so many keys.
    pub window: Option<usize>,
    /// How many of the keys are there, where a cache has room for more. The last query stands at the last of them.
    pub keys: Option<usize>,
}

/// Queries that are worked on together.
const BLOCK: usize = 64;

/// Inputs: q `[B, H, T, D]`, k and v `[B, G, S, D]` with G dividing H, and perhaps a mask of keys `[B, S]` (u8).
/// Outputs: `[B, H, T, D]` and the logarithm of each query's sum of exponentials, `[B, H, T]`.
#[derive(Clone, Copy, Debug)]
struct Attend(Attention);

/// Sizes of a case.
#[derive(Clone, Copy)]
struct Sizes {
    heads: usize,
    groups: usize,
    queries: usize,
    /// Keys that are there, and keys there is room for.
    keys: usize,
    room: usize,
    width: usize,
}

impl Attend {
    fn sizes(&self, inputs: &[&Meta]) -> Result<Sizes> {
        let (q, k, v) = (&inputs[0].shape, &inputs[1].shape, &inputs[2].shape);
        let fail = |why: &str| Err(mismatch("attention", q, k, why));
        let (&[b, heads, queries, width], &[b2, groups, room, width2]) = (&q[..], &k[..]) else {
            return fail("queries are [B, H, T, D], keys and values [B, G, S, D]");
        };
        if b != b2 || width != width2 || k != v {
            return fail("queries are [B, H, T, D], keys and values [B, G, S, D]");
        }
        if groups == 0 || heads % groups != 0 {
            return fail("the number of heads must be a multiple of that of the groups");
        }
        let keys = self.0.keys.unwrap_or(room);
        if keys > room || (self.0.causal && queries > keys) {
            return fail("there must be a key for each query");
        }
        if let Some(mask) = inputs.get(3)
            && (mask.dtype != DType::U8 || mask.shape != [b, keys])
        {
            return Err(mismatch("attention", k, &mask.shape, "the mask is [B, keys] of u8"));
        }
        Ok(Sizes { heads, groups, queries, keys, room, width })
    }

    /// Sizes and settings as the kernels take them.
    fn numbers(&self, sizes: &Sizes) -> Result<Vec<Arg<'static>>> {
        let Sizes { heads, groups, queries, keys, room, width } = *sizes;
        let mut all = Vec::from(cuda::sizes([heads, groups, queries, keys, room, width])?);
        let window = self.0.window.unwrap_or(0);
        all.extend([cuda::flag(self.0.causal), cuda::size(window)?, Arg::F64(self.0.scale)]);
        Ok(all)
    }

    /// Memory that a block of the kernels shares: two tiles of 32 rows, and two rows for each of 8 warps.
    fn shared_bytes(&self, sizes: &Sizes, dtype: DType) -> Result<usize> {
        match sizes.width {
            width @ ..=256 => Ok((2 * 32 * (width + 1) + 2 * 8 * width) * dtype.size()),
            width => Err(Error::Unsupported {
                op: "attention",
                on: format!("on a GPU with heads of {width} numbers, at most 256"),
            }),
        }
    }

    /// Keys that a query may see.
    fn visible(&self, sizes: &Sizes, query: usize) -> Range<usize> {
        if !self.0.causal {
            return 0..sizes.keys;
        }
        let end = sizes.keys - sizes.queries + query + 1;
        self.0.window.map_or(0, |window| end.saturating_sub(window))..end
    }

    /// Calls `f(queries, keys they may see)` for every block.
    fn blocks(&self, sizes: &Sizes, mut f: impl FnMut(Range<usize>, Range<usize>)) {
        for from in (0..sizes.queries).step_by(BLOCK) {
            let to = (from + BLOCK).min(sizes.queries);
            f(from..to, self.visible(sizes, from).start..self.visible(sizes, to - 1).end);
        }
    }

    /// Products of queries and keys into `scores`; what a query does not see is −∞.
    fn scores<T: Float>(
        &self,
        sizes: &Sizes,
        rows: &Range<usize>,
        cols: &Range<usize>,
        on: Head<'_, T>,
        scores: &mut [T],
    ) {
        let (d, n) = (sizes.width, cols.len());
        let (q, k) = (&on.q[rows.start * d..rows.end * d], &on.k[cols.start * d..cols.end * d]);
        if rows.len() == 1 {
            k.chunks(d).zip(scores.iter_mut()).for_each(|(k, s)| *s = loops::dot_by(q, k, |a, b| a * b));
        } else {
            product(matrix(q, d), transposed(k, d), scores);
        }
        let hidden = T::of_f64(f64::NEG_INFINITY);
        for (row, scores) in rows.clone().zip(scores.chunks_mut(n)) {
            let seen = self.visible(sizes, row);
            scores[..seen.start - cols.start].fill(hidden);
            scores[seen.end - cols.start..].fill(hidden);
            if let Some(mask) = on.mask {
                let mask = &mask[cols.clone()];
                scores.iter_mut().zip(mask).filter(|(_, mask)| **mask == 0).for_each(|(s, _)| *s = hidden);
            }
        }
    }
}

/// What one head reads.
#[derive(Clone, Copy)]
struct Head<'a, T> {
    q: &'a [T],
    k: &'a [T],
    v: &'a [T],
    mask: Option<&'a [u8]>,
}

fn matrix<T>(data: &[T], cols: usize) -> Matrix<'_, T> {
    Matrix::new(data, data.len() / cols, cols)
}

fn transposed<T>(data: &[T], cols: usize) -> Matrix<'_, T> {
    matrix(data, cols).t()
}

impl Op for Attend {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::alike(self.name(), &inputs[..3])?;
        self.sizes(inputs)?;
        let q = &inputs[0].shape;
        Ok(vec![inputs[0].clone(), Meta::new(&q[..3], inputs[0].dtype)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let sizes = self.sizes(&metas(inputs))?;
        let [out, sums] = outputs else { return Ok(()) };
        let (t, d) = (sizes.queries, sizes.width);
        if t * d == 0 {
            return Ok(());
        }
        let mask = inputs.get(3).map(|mask| mask.slice::<u8>()).transpose()?;
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let [q, k, v] = [inputs[0].slice::<T>()?, inputs[1].slice::<T>()?, inputs[2].slice::<T>()?];
            let items = out.slice::<T>()?.chunks_mut(t * d).zip(sums.slice::<T>()?.chunks_mut(t)).collect();
            each(items, t * sizes.keys * d, |i, (out, sums): (&mut [T], &mut [T])| {
                let (sample, head) = (i / sizes.heads, i % sizes.heads);
                let group = sample * sizes.groups + head / (sizes.heads / sizes.groups);
                let used = group * sizes.room * d..(group * sizes.room + sizes.keys) * d;
                let on = Head {
                    q: &q[i * t * d..(i + 1) * t * d],
                    k: &k[used.clone()],
                    v: &v[used],
                    mask: mask.map(|mask| &mask[sample * sizes.keys..(sample + 1) * sizes.keys]),
                };
                self.forward(&sizes, on, out, sums);
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
        let metas: Vec<&Meta> = inputs.iter().map(|input| input.meta).collect();
        let sizes = self.sizes(&metas)?;
        let [out, sums] = outputs else { return Ok(()) };
        let mut args: Vec<Arg<'_>> = inputs[..3].iter().map(cuda::View::arg).collect();
        // Without a mask, any bytes stand in its place.
        let nothing = gpu.empty(ElementType::U8, 0)?;
        args.push(inputs.get(3).map_or(Arg::In(&nothing), cuda::View::arg));
        args.extend([out.arg(), sums.arg()]);
        args.extend(self.numbers(&sizes)?);
        args.push(cuda::flag(inputs.len() > 3));
        let (batch, entry) =
            (inputs[0].shape()[0], attention::ATTENTION.of(self.name(), inputs[0].meta.dtype)?);
        let shared = self.shared_bytes(&sizes, inputs[0].meta.dtype)?;
        gpu.blocks(entry, [sizes.queries.div_ceil(8), batch * sizes.heads, 1], shared, &mut args)
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::INPUTS.output(1, true)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (Some(grad), None) = (at.grads(0), at.grads(1)) else { return at.none() };
        let mut inputs = vec![at.input(0)?, at.input(1)?, at.input(2)?];
        let masked = at.inputs.len() > 3;
        if masked {
            inputs.push(at.input(3)?);
        }
        inputs.extend([grad, at.output(1)?]);
        let grads = apply(Chain(*self), &inputs)?;
        Ok(grads.into_iter().map(Some).chain(masked.then_some(None)).collect())
    }
}

fn metas<'a>(inputs: &[View<'a>]) -> Vec<&'a Meta> {
    inputs.iter().map(|input| input.meta).collect()
}

/// All items, on all threads where it pays.
fn each<I: Send>(items: Vec<I>, work: usize, f: impl Fn(usize, I) + Sync) {
    match items.len() * work <= loops::CHUNK {
        true => items.into_iter().enumerate().for_each(|(i, item)| f(i, item)),
        false => parallel::owned(items, f),
    }
}

/// Products to shares: softmax of each row times `scale`, and the logarithm of its sum of exponentials.
struct Shares<'a, T> {
    scores: &'a mut [T],
    cols: usize,
    scale: T,
    sums: &'a mut [T],
}

impl<T: Float> Work for Shares<'_, T> {
    type Out = ();
    const WIDEST: Width = Width::of::<T>();
    #[inline(always)]
    fn run(self) {
        let hidden = T::of_f64(f64::NEG_INFINITY);
        for (row, sum) in self.scores.chunks_mut(self.cols).zip(self.sums) {
            for s in row.iter_mut() {
                *s = *s * self.scale;
            }
            let largest = loops::largest(row);
            // NaN is not hidden: it must come out.
            if largest == hidden && row.iter().all(|&s| s == hidden) {
                // Nothing to see: the output is zero, and so is its gradient.
                row.fill(T::ZERO);
                *sum = -hidden;
                continue;
            }
            for s in row.iter_mut() {
                *s = (*s - largest).exp();
            }
            let total = loops::Dot { a: row, b: row, f: &|s, _| s }.run();
            let share = T::ONE / total;
            for s in row.iter_mut() {
                *s = *s * share;
            }
            *sum = largest + total.ln();
        }
    }
}

/// Products to shares by the sums of the way forward.
struct SharesAgain<'a, T> {
    scores: &'a mut [T],
    cols: usize,
    scale: T,
    sums: &'a [T],
}

impl<T: Float> Work for SharesAgain<'_, T> {
    type Out = ();
    const WIDEST: Width = Width::of::<T>();
    #[inline(always)]
    fn run(self) {
        for (row, &sum) in self.scores.chunks_mut(self.cols).zip(self.sums) {
            for s in row {
                *s = (*s * self.scale - sum).exp();
            }
        }
    }
}

/// Gradients of shares to those of products.
struct Slopes<'a, T> {
    shares: &'a [T],
    slopes: &'a mut [T],
    cols: usize,
    scale: T,
}

impl<T: Float> Work for Slopes<'_, T> {
    type Out = ();
    const WIDEST: Width = Width::of::<T>();
    #[inline(always)]
    fn run(self) {
        for (slopes, shares) in self.slopes.chunks_mut(self.cols).zip(self.shares.chunks(self.cols)) {
            let along = loops::Dot { a: slopes, b: shares, f: &|s, p| s * p }.run();
            for (s, &p) in slopes.iter_mut().zip(shares) {
                *s = p * (*s - along) * self.scale;
            }
        }
    }
}

impl Attend {
    fn forward<T: Float>(&self, sizes: &Sizes, on: Head<'_, T>, out: &mut [T], sums: &mut [T]) {
        let d = sizes.width;
        let mut scratch = vec![T::ZERO; BLOCK.min(sizes.queries) * sizes.keys];
        self.blocks(sizes, |rows, cols| {
            let scores = &mut scratch[..rows.len() * cols.len()];
            self.scores(sizes, &rows, &cols, on, scores);
            let sums = &mut sums[rows.clone()];
            wide::run(Shares { scores, cols: cols.len(), scale: T::of_f64(self.0.scale), sums });
            let (v, out) = (&on.v[cols.start * d..cols.end * d], &mut out[rows.start * d..rows.end * d]);
            if rows.len() == 1 {
                for (v, &p) in v.chunks(d).zip(&*scores) {
                    out.iter_mut().zip(v).for_each(|(out, &v)| *out += p * v);
                }
            } else {
                product(matrix(scores, cols.len()), matrix(v, d), out);
            }
        });
    }

    /// With P the shares and G the gradient: dV += Pᵀ G, dS = P ∘ (G Vᵀ − rows of Σ P ∘ G Vᵀ) · scale, dQ = dS K,
    /// dK += dSᵀ Q.
    fn back<T: Float>(
        &self,
        sizes: &Sizes,
        on: Head<'_, T>,
        (grad, sums): (&[T], &[T]),
        [dq, dk, dv]: [&mut [T]; 3],
    ) {
        let d = sizes.width;
        let size = BLOCK.min(sizes.queries) * sizes.keys;
        let (mut shares, mut slopes) = (vec![T::ZERO; size], vec![T::ZERO; size]);
        let scale = T::of_f64(self.0.scale);
        self.blocks(sizes, |rows, cols| {
            let n = cols.len();
            let (p, s) = (&mut shares[..rows.len() * n], &mut slopes[..rows.len() * n]);
            self.scores(sizes, &rows, &cols, on, p);
            wide::run(SharesAgain { scores: p, cols: n, scale, sums: &sums[rows.clone()] });
            let (of_rows, of_cols) = (rows.start * d..rows.end * d, cols.start * d..cols.end * d);
            let grad = &grad[of_rows.clone()];
            add_product(transposed(p, n), matrix(grad, d), T::ONE, &mut dv[of_cols.clone()]);
            product(matrix(grad, d), transposed(&on.v[of_cols.clone()], d), s);
            wide::run(Slopes { shares: p, slopes: s, cols: n, scale });
            product(matrix(s, n), matrix(&on.k[of_cols.clone()], d), &mut dq[of_rows.clone()]);
            add_product(transposed(s, n), matrix(&on.q[of_rows], d), T::ONE, &mut dk[of_cols]);
        });
    }
}

/// Gradients by queries, keys and values.
#[derive(Debug)]
struct Chain(Attend);

impl Op for Chain {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        Ok(inputs[..3].iter().map(|&meta| meta.clone()).collect())
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let (inputs, way) = inputs.split_at(inputs.len() - 2);
        let sizes = self.0.sizes(&metas(inputs))?;
        let [dq, dk, dv] = outputs else { return Ok(()) };
        let (t, d, group) = (sizes.queries, sizes.width, sizes.heads / sizes.groups);
        if t * d == 0 {
            return Ok(());
        }
        let mask = inputs.get(3).map(|mask| mask.slice::<u8>()).transpose()?;
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let [q, k, v] = [inputs[0].slice::<T>()?, inputs[1].slice::<T>()?, inputs[2].slice::<T>()?];
            let (grad, sums) = (way[0].slice::<T>()?, way[1].slice::<T>()?);
            let (side, heads) = (sizes.room * d, t * d * group);
            let sides = dk.slice::<T>()?.chunks_mut(side).zip(dv.slice::<T>()?.chunks_mut(side));
            let items = dq.slice::<T>()?.chunks_mut(heads).zip(sides).collect();
            // The heads of a group add to the same keys: one after the other.
            parallel::owned(items, |i, (dq, (dk, dv)): (&mut [T], (&mut [T], &mut [T]))| {
                let (sample, used) = (i / sizes.groups, i * side..i * side + sizes.keys * d);
                for (j, dq) in dq.chunks_mut(t * d).enumerate() {
                    let head = i * group + j;
                    let on = Head {
                        q: &q[head * t * d..(head + 1) * t * d],
                        k: &k[used.clone()],
                        v: &v[used.clone()],
                        mask: mask.map(|mask| &mask[sample * sizes.keys..(sample + 1) * sizes.keys]),
                    };
                    let way = (&grad[head * t * d..(head + 1) * t * d], &sums[head * t..(head + 1) * t]);
                    self.0.back(&sizes, on, way, [dq, &mut dk[..sizes.keys * d], &mut dv[..sizes.keys * d]]);
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
        let (inputs, way) = inputs.split_at(inputs.len() - 2);
        let metas: Vec<&Meta> = inputs.iter().map(|input| input.meta).collect();
        let (sizes, dtype) = (self.0.sizes(&metas)?, inputs[0].meta.dtype);
        let [dq, dk, dv] = outputs else { return Ok(()) };
        let (batch, shared) = (inputs[0].shape()[0], self.0.shared_bytes(&sizes, dtype)?);
        let nothing = gpu.empty(ElementType::U8, 0)?;
        let mut along = gpu.empty(dtype.into(), batch * sizes.heads * sizes.queries)?;
        let common = || {
            let mut args: Vec<Arg<'_>> = inputs[..3].iter().map(cuda::View::arg).collect();
            args.push(inputs.get(3).map_or(Arg::In(&nothing), cuda::View::arg));
            args.extend(way.iter().map(cuda::View::arg));
            args
        };
        let mut args = common();
        args.extend([Arg::Out(&mut along), dq.arg()]);
        args.extend(self.0.numbers(&sizes)?);
        args.push(cuda::flag(inputs.len() > 3));
        let grid = [sizes.queries.div_ceil(8), batch * sizes.heads, 1];
        gpu.blocks(attention::ATTENTION_QUERY.of(self.name(), dtype)?, grid, shared, &mut args)?;
        let mut args = common();
        args.extend([Arg::In(&along), dk.arg(), dv.arg()]);
        args.extend(self.0.numbers(&sizes)?);
        args.push(cuda::flag(inputs.len() > 3));
        let grid = [sizes.room.div_ceil(8), batch * sizes.groups, 1];
        gpu.blocks(attention::ATTENTION_KEY.of(self.name(), dtype)?, grid, shared, &mut args)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

impl Tensor {
    /// `softmax(scale · Q Kᵀ) V` for queries `[B, H, T, D]` and keys and values `[B, G, S, D]`: `[B, H, T, D]`. Heads
    /// `i H/G … (i + 1) H/G − 1` share keys and values `i` (grouped-query attention).
    ///
    /// Keys where the mask `[B, keys]` (u8) is 0 are not seen. A query that sees nothing gives zeros.
    ///
    /// # Errors
    /// Shapes that do not fit, more causal queries than keys.
    pub fn attention(&self, keys: &Self, values: &Self, mask: Option<&Self>, how: Attention) -> Result<Self> {
        if how.window == Some(0) || (how.window.is_some() && !how.causal) {
            return Err(Error::value(
                "the window of an attention",
                "0 or not causal",
                "at least 1, and causal",
            ));
        }
        let mut inputs = vec![self, keys, values];
        inputs.extend(mask);
        Ok(apply(Attend(how), &inputs)?.swap_remove(0))
    }
}

pub(super) fn cases() -> Vec<Case> {
    let plain = Attention { scale: 0.7, causal: false, window: None, keys: None };
    let causal = Attention { causal: true, ..plain };
    type One = ([usize; 6], Attention, bool);
    let cases: [One; 6] = [
        ([1, 1, 1, 1, 1, 2], plain, false),
        ([2, 4, 2, 3, 5, 3], plain, true),
        ([1, 2, 1, 5, 5, 4], causal, false),
        ([2, 2, 2, 3, 5, 2], causal, true),
        ([1, 2, 1, 5, 5, 4], Attention { window: Some(2), ..causal }, false),
        ([1, 2, 2, 70, 70, 2], causal, false),
    ];
    let case = |([b, h, g, t, s, d], how, masked): One| {
        let inputs = check::inputs("attention", &[&[b, h, t, d], &[b, g, s, d], &[b, g, s, d]], -1.0, 1.0);
        Case::new(format!("attention {:?} {how:?} {masked}", [b, h, g, t, s, d]), inputs, move |x| {
            let mask = Tensor::from_u8((0..b * s).map(|i| u8::from(i % 4 != 1)).collect(), &[b, s])?;
            let mask = check::beside(&x[0], &mask)?;
            x[0].attention(&x[1], &x[2], masked.then_some(&mask), how)
        })
    };
    cases.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::check::{Tolerance, assert_close, random};

    const HOW: Attention = Attention { scale: 0.5, causal: true, window: None, keys: None };

    fn inputs(b: usize, h: usize, g: usize, t: usize, s: usize, d: usize) -> [Tensor; 3] {
        [[b, h, t, d], [b, g, s, d], [b, g, s, d]]
            .map(|shape| random(&format!("{shape:?}"), &shape, -1.0, 1.0).expect("fits"))
    }

    /// The definition, by other operations.
    fn naive(q: &Tensor, k: &Tensor, v: &Tensor, see: impl Fn(usize, usize, usize) -> bool) -> Tensor {
        let (&[b, h, t, _], &[_, g, s, _]) = (q.shape(), k.shape()) else { panic!("four axes") };
        let spread: Vec<u32> = (0..h).map(|i| (i / (h / g)) as u32).collect();
        let spread = Tensor::from_u32(spread, &[h]).expect("fits");
        let (k, v) = (k.index_select(1, &spread).expect("runs"), v.index_select(1, &spread).expect("runs"));
        let hide =
            (0..b * t * s).map(|i| if see(i / (t * s), i / s % t, i % s) { 0.0 } else { -1e30 }).collect();
        let hide = Tensor::from_f64(hide, &[b, 1, t, s]).expect("fits");
        let scores = q.matmul_nt(&k).and_then(|x| x.mul_scalar(0.5)?.add(&hide)?.softmax());
        scores.and_then(|p| p.matmul(&v)).expect("runs")
    }

    #[test]
    fn values_of_the_definition() {
        let close = |got: Result<Tensor>, want: &Tensor| {
            assert!(want.to_f64().expect("f64").iter().any(|x| x.abs() > 0.1));
            assert_close(&got.expect("runs"), want, Tolerance::new(1e-12, 0.0));
        };
        let [q, k, v] = inputs(2, 4, 2, 130, 130, 8);
        close(q.attention(&k, &v, None, HOW), &naive(&q, &k, &v, |_, i, j| j <= i));
        let window = Attention { window: Some(3), ..HOW };
        close(q.attention(&k, &v, None, window), &naive(&q, &k, &v, |_, i, j| j <= i && i < j + 3));
        let both = Attention { causal: false, ..HOW };
        let mask = Tensor::from_u8((0..260).map(|i| u8::from(i % 3 > 0)).collect(), &[2, 130]).expect("fits");
        close(q.attention(&k, &v, Some(&mask), both), &naive(&q, &k, &v, |b, _, j| (b * 130 + j) % 3 > 0));
        // Queries at the end of a cache that has room for more.
        for t in [1, 4] {
            let [q, k, v] = inputs(2, 4, 2, t, 20, 8);
            let how = Attention { keys: Some(9), ..HOW };
            close(q.attention(&k, &v, None, how), &naive(&q, &k, &v, |_, i, j| j <= i + 9 - t));
        }
    }

    #[test]
    fn a_query_that_sees_nothing_is_zero_and_nan_is_not_hidden() {
        let [q, k, v] = inputs(1, 1, 1, 3, 3, 2);
        let mask = Tensor::from_u8(vec![0, 0, 1], &[1, 3]).expect("fits");
        let y = q.attention(&k, &v, Some(&mask), HOW).expect("runs").to_f64().expect("f64");
        assert!(y[..4].iter().all(|&x| x == 0.0) && y[4] != 0.0);
        let nan = Tensor::full(&[1, 1, 3, 2], f64::NAN, DType::F64).expect("fits");
        let y = nan.attention(&k, &v, None, HOW).expect("runs").to_f64().expect("f64");
        assert!(y.iter().all(|x| x.is_nan()));
    }

    #[test]
    fn refusals() {
        let [q, k, v] = inputs(1, 4, 2, 3, 5, 2);
        assert!(q.attention(&k, &v, None, HOW).is_ok());
        assert!(q.attention(&v, &q, None, HOW).is_err());
        assert!(q.attention(&k, &v, None, Attention { keys: Some(6), ..HOW }).is_err());
        assert!(q.attention(&k, &v, None, Attention { keys: Some(2), ..HOW }).is_err());
        assert!(q.attention(&k, &v, None, Attention { window: Some(0), ..HOW }).is_err());
        let mask = Tensor::zeros(&[1, 4], DType::U8).expect("fits");
        assert!(q.attention(&k, &v, Some(&mask), HOW).is_err());
    }
}
