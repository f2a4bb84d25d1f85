//! The loops that operations share: map, broadcasted zip, sums along axes, copies through strides.

use super::wide::{self, Width, Work};
use crate::parallel;
use crate::tensor::dtype::{Element, Float};
use crate::tensor::shape::{broadcast_strides, strides};

/// Elements a task takes on. Fixed: the grouping of sums must not depend on the number of threads.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Calls `work(index of the first element, piece)` for consecutive pieces of `out`, each a multiple of `unit` long.
pub(crate) fn chunks<T: Send>(out: &mut [T], unit: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let unit = unit.max(1);
    let size = (CHUNK / unit).max(1) * unit;
    if out.len() <= size {
        work(0, out);
    } else {
        parallel::chunks_mut(out, size, |i, piece| work(i * size, piece));
    }
}

/// `out[i] = f(x[i])`.
pub(crate) fn map<T: Element, U: Element>(x: &[T], out: &mut [U], f: impl Fn(T) -> U + Sync) {
    chunks(out, 1, |start, piece| wide::run(Map { x: &x[start..], out: piece, f: &f }));
}

/// `out[i] = f(x[i])`.
struct Map<'a, T, U, F> {
    x: &'a [T],
    out: &'a mut [U],
    f: &'a F,
}

impl<T: Element, U: Element, F: Fn(T) -> U> Work for Map<'_, T, U, F> {
    type Out = ();
    const WIDEST: Width = Width::of_memory::<T>();
    #[inline(always)]
    fn run(self) {
        for (out, &x) in self.out.iter_mut().zip(self.x) {
            *out = (self.f)(x);
        }
    }
}

/// `out[i] = f(a[i], b[i])`, both of the shape of `out`.
pub(crate) fn map2<T: Element>(a: &[T], b: &[T], out: &mut [T], f: impl Fn(T, T) -> T + Sync) {
    chunks(out, 1, |start, piece| wide::run(Map2 { a: &a[start..], b: &b[start..], out: piece, f: &f }));
}

/// `out[i] = f(a[i], b[i])`.
struct Map2<'a, T, U, F> {
    a: &'a [T],
    b: &'a [T],
    out: &'a mut [U],
    f: &'a F,
}

impl<T: Element, U: Element, F: Fn(T, T) -> U> Work for Map2<'_, T, U, F> {
    type Out = ();
    const WIDEST: Width = Width::of_memory::<T>();
    #[inline(always)]
    fn run(self) {
        for (out, (&a, &b)) in self.out.iter_mut().zip(self.a.iter().zip(self.b)) {
            *out = (self.f)(a, b);
        }
    }
}

/// `to[i] = f(to[i], from[i])`.
pub(crate) fn combine<T: Element>(to: &mut [T], from: &[T], f: impl Fn(T, T) -> T + Sync) {
    chunks(to, 1, |start, piece| wide::run(Combine { to: piece, from: &from[start..], f: &f }));
}

/// `to[i] = f(to[i], from[i])`.
struct Combine<'a, T, F> {
    to: &'a mut [T],
    from: &'a [T],
    f: &'a F,
}

impl<T: Element, F: Fn(T, T) -> T> Work for Combine<'_, T, F> {
    type Out = ();
    const WIDEST: Width = Width::of_memory::<T>();
    #[inline(always)]
    fn run(self) {
        for (to, &from) in self.to.iter_mut().zip(self.from) {
            *to = (self.f)(*to, from);
        }
    }
}

/// Axes of an operand read through strides, neighbours merged where memory allows.
struct Walk<const N: usize> {
    /// Sizes of all axes but the last.
    outer: Vec<usize>,
    outer_strides: [Vec<usize>; N],
    inner: usize,
    inner_strides: [usize; N],
}

impl<const N: usize> Walk<N> {
    fn new(shape: &[usize], operands: [Vec<usize>; N]) -> Self {
        let mut sizes: Vec<usize> = Vec::new();
        let mut merged: [Vec<usize>; N] = std::array::from_fn(|_| Vec::new());
        for (i, &size) in shape.iter().enumerate() {
            if size == 1 {
                continue;
            }
            // Two axes are one where stepping over the outer is the same as `size` steps of the inner.
            let fits = !sizes.is_empty()
                && (0..N).all(|n| merged[n].last().is_some_and(|&outer| outer == operands[n][i] * size));
            if fits {
                if let Some(last) = sizes.last_mut() {
                    *last *= size;
                }
                for n in 0..N {
                    if let Some(last) = merged[n].last_mut() {
                        *last = operands[n][i];
                    }
                }
            } else {
                sizes.push(size);
                (0..N).for_each(|n| merged[n].push(operands[n][i]));
            }
        }
        let inner = sizes.pop().unwrap_or(1);
        let inner_strides = std::array::from_fn(|n| merged[n].pop().unwrap_or(0));
        Self { outer: sizes, outer_strides: merged, inner, inner_strides }
    }

    /// Where row `row` begins in each operand.
    fn offsets(&self, row: usize) -> [usize; N] {
        let mut offsets = [0; N];
        let mut rest = row;
        for (axis, &size) in self.outer.iter().enumerate().rev() {
            let at = rest % size;
            rest /= size;
            for (offset, strides) in offsets.iter_mut().zip(&self.outer_strides) {
                *offset += at * strides[axis];
            }
        }
        offsets
    }
}

/// `out = f(a, b)` with both broadcast to `shape`, the shape of `out`.
pub(crate) fn zip<T: Element, U: Element>(
    (a, a_shape): (&[T], &[usize]),
    (b, b_shape): (&[T], &[usize]),
    (out, shape): (&mut [U], &[usize]),
    f: impl Fn(T, T) -> U + Sync,
) {
    if out.is_empty() {
        return;
    }
    let walk = Walk::new(shape, [broadcast_strides(a_shape, shape), broadcast_strides(b_shape, shape)]);
    let inner = walk.inner;
    let run = |start: [usize; 2], piece: &mut [U]| {
        let n = piece.len();
        match walk.inner_strides {
            [0, 0] => piece.fill(f(a[start[0]], b[start[1]])),
            [1, 0] => {
                let b = b[start[1]];
                wide::run(Map { x: &a[start[0]..start[0] + n], out: piece, f: &|a| f(a, b) });
            }
            [0, 1] => {
                let a = a[start[0]];
                wide::run(Map { x: &b[start[1]..start[1] + n], out: piece, f: &|b| f(a, b) });
            }
            // Row-major operands have no other inner strides.
            _ => {
                let (a, b) = (&a[start[0]..start[0] + n], &b[start[1]..start[1] + n]);
                wide::run(Map2 { a, b, out: piece, f: &f });
            }
        }
    };
    if walk.outer.is_empty() {
        let [sa, sb] = walk.inner_strides;
        chunks(out, 1, |start, piece| run([start * sa, start * sb], piece));
    } else {
        chunks(out, inner, |start, piece| {
            piece
                .chunks_mut(inner)
                .enumerate()
                .for_each(|(i, row)| run(walk.offsets(start / inner + i), row));
        });
    }
}

/// Copies `x`, read through `strides`, into `out` of shape `shape`: broadcasts and permutations.
pub(crate) fn gather_strided<T: Element>(x: &[T], read: Vec<usize>, out: &mut [T], shape: &[usize]) {
    if out.is_empty() {
        return;
    }
    let walk = Walk::new(shape, [read]);
    let (inner, [step]) = (walk.inner, walk.inner_strides);
    chunks(out, inner, |start, piece| {
        for (i, row) in piece.chunks_mut(inner).enumerate() {
            let [at] = walk.offsets(start / inner + i);
            match step {
                0 => row.fill(x[at]),
                1 => row.copy_from_slice(&x[at..at + row.len()]),
                _ => row.iter_mut().zip(x[at..].iter().step_by(step)).for_each(|(out, &x)| *out = x),
            }
        }
    });
}

/// Sum of a slice: sixteen partial sums, so that it vectorises, over pieces of [`CHUNK`], added in order.
pub(crate) fn sum<T: Float>(x: &[T]) -> T {
    dot_by(x, x, |a, _| a)
}

/// Σ f(aᵢ, bᵢ) in the grouping of [`sum`].
pub(crate) fn dot_by<T: Float>(a: &[T], b: &[T], f: impl Fn(T, T) -> T + Sync) -> T {
    if a.len() <= CHUNK {
        return wide::run(Dot { a, b, f: &f });
    }
    let parts = parallel::map(a.len().div_ceil(CHUNK), |i| {
        let range = i * CHUNK..((i + 1) * CHUNK).min(a.len());
        wide::run(Dot { a: &a[range.clone()], b: &b[range], f: &f })
    });
    parts.into_iter().fold(T::ZERO, |total, part| total + part)
}

/// Partial sums of a row.
pub(crate) const LANES: usize = 16;

/// Σ f(aᵢ, bᵢ) by lanes.
pub(crate) struct Dot<'a, T, F> {
    pub a: &'a [T],
    pub b: &'a [T],
    pub f: &'a F,
}

impl<T: Float, F: Fn(T, T) -> T> Work for Dot<'_, T, F> {
    type Out = T;
    const WIDEST: Width = Width::of::<T>();
    #[inline(always)]
    fn run(self) -> T {
        sum_by(self.a, self.b, self.f)
    }
}

/// Σ f(aᵢ, bᵢ) by lanes.
#[inline(always)]
pub(crate) fn sum_by<T: Float, A: Copy, B: Copy>(a: &[A], b: &[B], f: impl Fn(A, B) -> T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (whole_a, rest_a) = a.as_chunks::<LANES>();
    let (whole_b, rest_b) = b.as_chunks::<LANES>();
    for (a, b) in whole_a.iter().zip(whole_b) {
        for lane in 0..LANES {
            lanes[lane] += f(a[lane], b[lane]);
        }
    }
    let mut last = [T::ZERO; LANES];
    for (last, (&a, &b)) in last.iter_mut().zip(rest_a.iter().zip(rest_b)) {
        *last = f(a, b);
    }
    total(lanes, last)
}

/// Sum of lanes, halves on halves. Apart from the loop before it, which is compiled to whole vectors only where all lanes
/// have one fate.
#[inline(never)]
fn total<T: Float>(mut lanes: [T; LANES], last: [T; LANES]) -> T {
    for lane in 0..LANES {
        lanes[lane] += last[lane];
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            let other = lanes[lane + width];
            lanes[lane] += other;
        }
        width /= 2;
    }
    lanes[0]
}

/// The largest number, −∞ of none; NaN is passed over. By lanes, because a single chain of comparisons is slow.
#[inline(always)]
pub(crate) fn largest<T: Float>(x: &[T]) -> T {
    let none = T::of_f64(f64::NEG_INFINITY);
    let mut lanes = [none; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    let mut last = [none; LANES];
    last[..rest.len()].copy_from_slice(rest);
    for x in whole.iter().chain([&last]) {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], x[lane]);
        }
    }
    most(lanes)
}

#[inline(always)]
fn larger<T: Float>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

/// The largest lane; apart for the reason of [`total`].
#[inline(never)]
fn most<T: Float>(lanes: [T; LANES]) -> T {
    lanes[1..].iter().fold(lanes[0], |a, &b| larger(a, b))
}

/// Sums the middle axis of `[outer, n, inner]` into `out` of `[outer, inner]`.
pub(crate) fn sum_middle<T: Float>(x: &[T], n: usize, inner: usize, out: &mut [T]) {
    if n == 0 || out.is_empty() {
        return out.fill(T::ZERO);
    }
    if inner == 1 {
        // Rows of few elements are grouped into one task by the cost of reading them.
        let rows = (CHUNK / n).max(1);
        let work = |i, piece: &mut [T]| {
            for (j, out) in piece.iter_mut().enumerate() {
                let row = i * rows + j;
                *out = sum(&x[row * n..(row + 1) * n]);
            }
        };
        return match out.len() <= rows {
            true => work(0, out),
            false => parallel::chunks_mut(out, rows, work),
        };
    }
    // Columns are cut into strips: each strip is summed from top to bottom by one task.
    const STRIP: usize = 512;
    let strips = |o, row: &mut [T]| {
        let sum_strip = |s, strip: &mut [T]| {
            strip.fill(T::ZERO);
            for k in 0..n {
                let at = (o * n + k) * inner + s * STRIP;
                strip.iter_mut().zip(&x[at..]).for_each(|(out, &x)| *out += x);
            }
        };
        match n * inner <= CHUNK {
            true => row.chunks_mut(STRIP).enumerate().for_each(|(s, strip)| sum_strip(s, strip)),
            false => parallel::chunks_mut(row, STRIP, sum_strip),
        }
    };
    match out.len() * n <= CHUNK {
        true => out.chunks_mut(inner).enumerate().for_each(|(o, row)| strips(o, row)),
        false => parallel::chunks_mut(out, inner, strips),
    }
}

/// `out[j] = Σᵢ f(a[i, j], b[i, j])` over rows as long as `out`, from top to bottom.
pub(crate) fn sum_rows<T: Float>((a, b): (&[T], &[T]), out: &mut [T], f: impl Fn(T, T) -> T + Sync) {
    let n = out.len();
    if a.is_empty() {
        return out.fill(T::ZERO);
    }
    // Columns are cut into strips, each summed by one task.
    const STRIP: usize = 128;
    let strip = |s: usize, out: &mut [T]| {
        wide::run(SumRows { a: &a[s * STRIP..], b: &b[s * STRIP..], n, out, f: &f });
    };
    match a.len() <= CHUNK {
        true => out.chunks_mut(STRIP).enumerate().for_each(|(s, out)| strip(s, out)),
        false => parallel::chunks_mut(out, STRIP, strip),
    }
}

/// A strip of columns, out of rows of n.
struct SumRows<'a, T, F> {
    a: &'a [T],
    b: &'a [T],
    n: usize,
    out: &'a mut [T],
    f: &'a F,
}

impl<T: Float, F: Fn(T, T) -> T> Work for SumRows<'_, T, F> {
    type Out = ();
    const WIDEST: Width = Width::of_memory::<T>();
    #[inline(always)]
    fn run(self) {
        self.out.fill(T::ZERO);
        for (a, b) in self.a.chunks(self.n).zip(self.b.chunks(self.n)) {
            for (out, (&a, &b)) in self.out.iter_mut().zip(a.iter().zip(b)) {
                *out += (self.f)(a, b);
            }
        }
    }
}

/// Sums over `axes` (sorted) of `x`; `out` has the other axes in their order.
pub(crate) fn sum_axes<T: Float>(x: &[T], shape: &[usize], axes: &[usize], out: &mut [T]) {
    // Runs of neighbouring axes are one axis; the last run first, so that earlier axes keep their numbers.
    let mut shape = shape.to_vec();
    let mut groups: Vec<std::ops::Range<usize>> = Vec::new();
    for &axis in axes {
        match groups.last_mut() {
            Some(group) if group.end == axis => group.end += 1,
            _ => groups.push(axis..axis + 1),
        }
    }
    let Some(first) = groups.first().cloned() else { return out.copy_from_slice(x) };
    let mut current: Option<Vec<T>> = None;
    for group in groups[1..].iter().rev() {
        let source = current.as_deref().unwrap_or(x);
        let (outer, n, inner) = split(&shape, group);
        let mut next = vec![T::ZERO; outer * inner];
        sum_middle(source, n, inner, &mut next);
        shape.drain(group.clone());
        current = Some(next);
    }
    let (_, n, inner) = split(&shape, &first);
    sum_middle(current.as_deref().unwrap_or(x), n, inner, out);
}

fn split(shape: &[usize], group: &std::ops::Range<usize>) -> (usize, usize, usize) {
    let product = |part: &[usize]| part.iter().product();
    (product(&shape[..group.start]), product(&shape[group.clone()]), product(&shape[group.end..]))
}

/// Strides that read a row-major `shape` with its axes in another order.
pub(crate) fn permuted_strides(shape: &[usize], order: &[usize]) -> Vec<usize> {
    let own = strides(shape);
    order.iter().map(|&axis| own[axis]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zip_broadcasts_every_inner_case() {
        let a: Vec<f32> = (0..6).map(|x| x as f32).collect();
        let mut out = [0.0; 6];
        zip((&a, &[2, 3]), (&[10.0, 20.0, 30.0], &[3]), (&mut out, &[2, 3]), |a, b| a + b);
        assert_eq!(out, [10.0, 21.0, 32.0, 13.0, 24.0, 35.0]);
        zip((&a, &[2, 3]), (&[10.0, 20.0], &[2, 1]), (&mut out, &[2, 3]), |a, b| a + b);
        assert_eq!(out, [10.0, 11.0, 12.0, 23.0, 24.0, 25.0]);
        zip((&[1.0, 2.0], &[2, 1]), (&[10.0, 20.0, 30.0], &[3]), (&mut out, &[2, 3]), |a, b| a * b);
        assert_eq!(out, [10.0, 20.0, 30.0, 20.0, 40.0, 60.0]);
    }

    #[test]
    fn sums_over_any_axes() {
        let x: Vec<f64> = (0..24).map(f64::from).collect();
        let mut out = [0.0; 3];
        sum_axes(&x, &[2, 3, 4], &[0, 2], &mut out);
        assert_eq!(out, [60.0, 92.0, 124.0]);
        let mut out = [0.0; 1];
        sum_axes(&x, &[2, 3, 4], &[0, 1, 2], &mut out);
        assert_eq!(out, [276.0]);
    }

    #[test]
    fn permutations_copy() {
        let x: Vec<u8> = (0..6).collect();
        let mut out = [0; 6];
        gather_strided(&x, permuted_strides(&[2, 3], &[1, 0]), &mut out, &[3, 2]);
        assert_eq!(out, [0, 3, 1, 4, 2, 5]);
    }

    #[test]
    fn sums_do_not_depend_on_threads() {
        let x: Vec<f32> = (0..300_000u64).map(|i| ((i * 7919) % 1013) as f32 * 1e-3 - 0.4).collect();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(|| {
                let mut columns = vec![0.0; 1000];
                sum_middle(&x, 300, 1000, &mut columns);
                let mut rows = vec![0.0; 300];
                sum_middle(&x, 1000, 1, &mut rows);
                (sum(&x), columns, rows)
            })
        };
        assert_eq!(with(1), with(2));
        assert_eq!(with(1), with(3));
    }
}
