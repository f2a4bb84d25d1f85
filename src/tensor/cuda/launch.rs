//! Launches as operations on tensors need them: by elements, outputs, rows; sums and products with their strategies.
//!
//! Every size that decides how a sum is grouped is a constant, so that results do not depend on the GPU.

use super::{Arg, Axes, Buffer, Geometry, Gpu};
use crate::tensor::kernels::ElementType;
use crate::tensor::kernels::operations::{Entry, Family, elementwise, layout, matmul, reduce};
use crate::tensor::shape::broadcast_strides;
use crate::tensor::{DType, Meta};
use crate::{Error, Result};

/// Threads of a block, of every kernel here.
pub(crate) const THREADS: usize = 256;
/// Elements that a block of an elementwise kernel works on.
const BLOCK: usize = 4 * THREADS;
/// Rows longer than this are shared by a block and not by a warp.
const WARP_ROW: usize = 1024;
/// Warps of a block.
const WARPS: usize = THREADS / 32;
/// Neighbours that a warp adds up.
const PIECE: usize = 2048;
/// Rows that a thread adds up.
const COLUMN: usize = 128;
/// Side of a tile of a product.
const SIDE: usize = 64;

/// An input of an operation on a GPU.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Its shape and kind of number.
    pub meta: &'a Meta,
    /// Its elements.
    pub data: &'a Buffer,
}

/// An output of an operation on a GPU: allocated, not initialised.
#[derive(Debug)]
pub struct ViewMut<'a> {
    /// Its shape and kind of number.
    pub meta: &'a Meta,
    /// Its elements.
    pub data: &'a mut Buffer,
}

impl<'a> View<'a> {
    /// Its shape.
    pub fn shape(&self) -> &'a [usize] {
        &self.meta.shape
    }

    pub(crate) fn arg(&self) -> Arg<'a> {
        Arg::In(self.data)
    }
}

impl ViewMut<'_> {
    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.meta.shape
    }

    pub(crate) fn arg(&mut self) -> Arg<'_> {
        Arg::Out(self.data)
    }
}

/// A size as kernels take it.
pub(crate) fn size(n: usize) -> Result<Arg<'static>> {
    number(n).map(Arg::U32)
}

fn number(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| Error::value("a size on a GPU", n, "below 2³²"))
}

pub(crate) fn flag(on: bool) -> Arg<'static> {
    Arg::U32(on.into())
}

/// Several sizes.
pub(crate) fn sizes<const N: usize>(n: [usize; N]) -> Result<[Arg<'static>; N]> {
    let mut all = [const { Arg::U32(0) }; N];
    for (place, n) in all.iter_mut().zip(n) {
        *place = size(n)?;
    }
    Ok(all)
}

impl Axes {
    /// Axes of a shape with the strides of up to two operands, neighbours merged where both read them as one.
    ///
    /// # Errors
    /// More than eight axes that cannot be merged; sizes that do not fit 32 bits.
    pub(crate) fn new(op: &'static str, shape: &[usize], a: &[usize], b: &[usize]) -> Result<Self> {
        let mut merged: Vec<(usize, usize, usize)> = vec![];
        for ((&n, &a), &b) in shape.iter().zip(a).zip(b).filter(|((n, _), _)| **n != 1) {
            match merged.last_mut() {
                Some(last) if last.1 == n * a && last.2 == n * b => *last = (last.0 * n, a, b),
                _ => merged.push((n, a, b)),
            }
        }
        if merged.is_empty() {
            merged.push((1, 0, 0));
        }
        if merged.len() > 8 {
            return Err(Error::Unsupported { op, on: format!("on a GPU with {} axes", merged.len()) });
        }
        let mut axes = Self { rank: merged.len() as u32, size: [1; 8], a: [0; 8], b: [0; 8] };
        for (i, (n, a, b)) in merged.into_iter().enumerate() {
            (axes.size[i], axes.a[i], axes.b[i]) = (number(n)?, number(a)?, number(b)?);
        }
        Ok(axes)
    }
}

/// A product of matrices, `[m, k] · [k, n]`, perhaps many; transposed operands are read in place.
pub(crate) struct Product<'a> {
    /// `[.., m, k]`, or `[.., k, m]` if it is transposed.
    pub a: &'a Buffer,
    /// `[.., k, n]`, or `[.., n, k]`; of the kind of a or, under f32, bf16.
    pub b: &'a Buffer,
    pub transposed: [bool; 2],
    /// m, k, n.
    pub sizes: [usize; 3],
    /// Matrices of the output, and which of each operand they read.
    pub batch: usize,
    pub axes: Axes,
    /// Added to every row.
    pub bias: Option<&'a Buffer>,
    pub alpha: f64,
    /// Added to what the output holds.
    pub add: bool,
}

impl<'a> Product<'a> {
    /// A single product.
    pub fn new(a: &'a Buffer, b: &'a Buffer, sizes: [usize; 3]) -> Self {
        let axes = Axes { rank: 1, size: [1; 8], a: [0; 8], b: [0; 8] };
        Self { a, b, transposed: [false; 2], sizes, batch: 1, axes, bias: None, alpha: 1.0, add: false }
    }

    /// With operands that are stored transposed.
    pub fn transposed(self, a: bool, b: bool) -> Self {
        Self { transposed: [a, b], ..self }
    }
}

impl Gpu {
    /// Launches blocks of 256 threads; nothing where there are none.
    pub(crate) fn blocks(
        &self,
        entry: Entry,
        grid: [usize; 3],
        shared: usize,
        args: &mut [Arg<'_>],
    ) -> Result<()> {
        if grid.contains(&0) {
            return Ok(());
        }
        if grid[0] > i32::MAX as usize || grid[1] > 65_535 || grid[2] > 65_535 {
            let what = format!("blocks of {}", entry.kernel.name);
            return Err(Error::value(what, format!("{grid:?}"), "at most 2³¹ − 1, 65535 and 65535"));
        }
        let geometry = Geometry {
            grid: grid.map(|n| n as u32),
            block: [THREADS as u32, 1, 1],
            shared_bytes: number(shared)?,
        };
        self.launch(entry.source, entry.kernel, geometry, args)
    }

    /// An elementwise kernel over n elements; its last argument, their number, is added here.
    pub(crate) fn each(&self, entry: Entry, n: usize, args: Vec<Arg<'_>>) -> Result<()> {
        self.counted(entry, n, n.div_ceil(BLOCK), args)
    }

    /// A kernel of one thread an output; its last argument, their number, is added here.
    pub(crate) fn outputs(&self, entry: Entry, n: usize, args: Vec<Arg<'_>>) -> Result<()> {
        self.counted(entry, n, n.div_ceil(THREADS), args)
    }

    fn counted(&self, entry: Entry, n: usize, blocks: usize, mut args: Vec<Arg<'_>>) -> Result<()> {
        args.push(Arg::U64(n as u64));
        self.blocks(entry, [blocks, 1, 1], 0, &mut args)
    }

    /// A kernel of one team a row; number and length of rows and the kind of team are added to the arguments, before
    /// `rest`.
    pub(crate) fn rows<'a>(
        &self,
        entry: Entry,
        [rows, n]: [usize; 2],
        mut args: Vec<Arg<'a>>,
        rest: impl IntoIterator<Item = Arg<'a>>,
    ) -> Result<()> {
        let wide = n > WARP_ROW;
        args.extend(sizes([rows, n])?);
        args.push(flag(wide));
        args.extend(rest);
        self.blocks(entry, [if wide { rows } else { rows.div_ceil(WARPS) }, 1, 1], 0, &mut args)
    }

    /// A kernel of one team a row along the last axis, which reads all inputs and writes the only output.
    pub(crate) fn last_axis(
        &self,
        op: &'static str,
        kernels: &Family,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
    ) -> Result<()> {
        let [out] = outputs else { return Ok(()) };
        let (entry, n) = (kernels.of(op, out.meta.dtype)?, out.shape().last().copied().unwrap_or(1).max(1));
        let shape = [out.meta.len() / n, n];
        let args = inputs.iter().map(View::arg).chain([out.arg()]).collect();
        self.rows(entry, shape, args, [])
    }

    /// All `value`.
    pub(crate) fn full(&self, dtype: DType, value: f64, len: usize) -> Result<Buffer> {
        if !dtype.is_computing() || value == 0.0 {
            return match value == 0.0 {
                true => self.zeros(dtype.into(), len),
                false => Err(Error::Unsupported { op: "full", on: format!("with {dtype} values on a GPU") }),
            };
        }
        let mut out = self.empty(dtype.into(), len)?;
        self.each(elementwise::FILL.of("full", dtype)?, len, vec![Arg::Out(&mut out), Arg::F64(value)])?;
        Ok(out)
    }

    /// `out` `[outer, inner]`, the sums of x `[outer, n, inner]` over n.
    pub(crate) fn sum_middle(
        &self,
        dtype: DType,
        x: &Buffer,
        [outer, n, inner]: [usize; 3],
        out: &mut Buffer,
    ) -> Result<()> {
        let piece = if inner == 1 { PIECE } else { COLUMN };
        let pieces = n.div_ceil(piece).max(1);
        let once = |to: &mut Buffer| match inner {
            1 => {
                let [rows, piece, pieces] = sizes([outer, piece, pieces])?;
                let blocks = (outer * n.div_ceil(PIECE).max(1)).div_ceil(WARPS);
                let mut args = [Arg::In(x), Arg::Out(to), rows, Arg::U64(n as u64), piece, pieces];
                self.blocks(reduce::SUM_ROWS.of("sum", dtype)?, [blocks, 1, 1], 0, &mut args)
            }
            _ => {
                let blocks = (outer * pieces * inner).div_ceil(THREADS);
                let [outer, n, inner, piece, pieces] = sizes([outer, n, inner, piece, pieces])?;
                let mut args = [Arg::In(x), Arg::Out(to), outer, n, inner, piece, pieces];
                self.blocks(reduce::SUM_COLUMNS.of("sum", dtype)?, [blocks, 1, 1], 0, &mut args)
            }
        };
        if pieces == 1 {
            return once(out);
        }
        let mut partial = self.empty(dtype.into(), outer * pieces * inner)?;
        once(&mut partial)?;
        self.sum_middle(dtype, &partial, [outer, pieces, inner], out)
    }

    /// `out` of a shape, x read through strides; for any kind of number.
    pub(crate) fn gather(
        &self,
        op: &'static str,
        dtype: DType,
        x: &Buffer,
        strides: &[usize],
        out: &mut Buffer,
        shape: &[usize],
    ) -> Result<()> {
        let n: usize = shape.iter().product();
        let axes = Axes::new(op, shape, strides, strides)?;
        // [batch, rows, cols] read as [batch, cols, rows]: neighbours on both sides, so tiles.
        let (rank, side, stride) =
            (axes.rank as usize, axes.size.map(|n| n as usize), axes.a.map(|n| n as usize));
        let turned = rank >= 2 && stride[rank - 2] == 1 && stride[rank - 1] == side[rank - 2];
        let whole = match rank {
            2 => turned,
            3 => turned && stride[0] == side[1] * side[2],
            _ => false,
        };
        if whole && side[rank - 1] > 1 && (rank == 2 || side[0] <= 65_535) {
            let (batch, rows, cols) = (if rank == 3 { side[0] } else { 1 }, side[rank - 1], side[rank - 2]);
            let grid = [cols.div_ceil(32), rows.div_ceil(32), batch];
            if grid[1] <= 65_535 {
                let [rows, cols] = sizes([rows, cols])?;
                let mut args = [Arg::In(x), Arg::Out(out), rows, cols];
                return self.blocks(layout::TRANSPOSE.words(dtype), grid, 0, &mut args);
            }
        }
        let mut args = [Arg::In(x), Arg::Out(out), Arg::Axes(axes), size(n)?];
        self.blocks(layout::GATHER.words(dtype), [n.div_ceil(THREADS), 1, 1], 0, &mut args)
    }

    /// Rows of `len` elements between two pitches, each with a start.
    pub(crate) fn copy_rows(
        &self,
        dtype: DType,
        (x, from): (&Buffer, [usize; 2]),
        (out, to): (&mut Buffer, [usize; 2]),
        [rows, len]: [usize; 2],
    ) -> Result<()> {
        let numbers = [from[0], from[1], to[0], to[1], len].map(|n| Arg::U64(n as u64));
        let args = [Arg::In(x), Arg::Out(out)].into_iter().chain(numbers).collect();
        self.outputs(layout::COPY_ROWS.words(dtype), rows * len, args)
    }

    /// A function of two operands with broadcasting; see the codes in `kernels/elementwise.cu`.
    pub(crate) fn zip(
        &self,
        op: &'static str,
        function: u32,
        [a, b]: [View<'_>; 2],
        out: &mut ViewMut<'_>,
    ) -> Result<()> {
        let (n, dtype) = (out.meta.len(), a.meta.dtype);
        if a.shape() == out.shape() && b.shape() == out.shape() {
            let args = vec![a.arg(), b.arg(), out.arg(), Arg::U32(function)];
            return self.each(elementwise::ZIP.of(op, dtype)?, n, args);
        }
        let axes = broadcast_axes(op, out.shape(), a.shape(), b.shape())?;
        let entry = elementwise::ZIP_STRIDED.of(op, dtype)?;
        let mut args = [a.arg(), b.arg(), out.arg(), Arg::U32(function), Arg::Axes(axes), size(n)?];
        self.blocks(entry, [n.div_ceil(BLOCK), 1, 1], 0, &mut args)
    }

    /// The product into `out` `[batch, m, n]`, by cuBLAS where it is installed and has a call for it. Else by a kernel;
    /// where k is long and the output small, k is cut into pieces whose products are added in order.
    pub(crate) fn product(&self, dtype: DType, product: &Product<'_>, out: &mut Buffer) -> Result<()> {
        let [m, k, n] = product.sizes;
        if m * n * product.batch == 0 {
            return Ok(());
        }
        if self.product_by_blas(dtype, product, out)? {
            return Ok(());
        }
        let narrow = product.b.element() == ElementType::Bf16;
        let count = tiles(m) * tiles(n) * product.batch;
        let plain = product.bias.is_none() && !product.add;
        let splits = if plain && product.batch == 1 { splits(count, k) } else { 1 };
        let chunk = k.div_ceil(splits).next_multiple_of(16);
        let [ta, tb] = product.transposed;
        let strides = |t: bool, rows: usize, cols: usize| if t { [1, rows] } else { [cols, 1] };
        let (of_a, of_b) = (strides(ta, m, k), strides(tb, k, n));
        let once = |to: &mut Buffer| {
            let bias = product.bias.unwrap_or(product.a);
            let mut args = vec![Arg::In(product.a), Arg::In(product.b), Arg::In(bias), Arg::Out(to)];
            args.push(Arg::Axes(product.axes));
            args.extend(sizes([m, n])?);
            args.extend([k, of_a[0], of_a[1], of_b[0], of_b[1]].map(|n| Arg::U64(n as u64)));
            args.extend([Arg::F64(product.alpha), flag(product.add), flag(product.bias.is_some())]);
            args.extend([Arg::U64(chunk as u64), size(splits)?]);
            let entry =
                if narrow { matmul::MATMUL_BF16.only() } else { matmul::MATMUL.of("matmul", dtype)? };
            self.blocks(entry, [tiles(n), tiles(m), product.batch * splits], 0, &mut args)
        };
        if splits == 1 {
            return once(out);
        }
        let mut partial = self.empty(dtype.into(), splits * m * n)?;
        once(&mut partial)?;
        self.sum_middle(dtype, &partial, [1, splits, m * n], out)
    }
}

/// Tiles of a product along a side.
pub(crate) fn tiles(n: usize) -> usize {
    n.div_ceil(SIDE)
}

/// Pieces of k for a product of so many tiles.
pub(crate) fn splits(tiles: usize, k: usize) -> usize {
    /// Blocks that fill the larger GPUs.
    const BLOCKS: usize = 256;
    /// Below this, adding the parts costs more than it gains.
    const SHORTEST: usize = 512;
    (BLOCKS / tiles.max(1)).min(k / SHORTEST).clamp(1, 64)
}

pub(crate) fn broadcast_axes(op: &'static str, shape: &[usize], a: &[usize], b: &[usize]) -> Result<Axes> {
    Axes::new(op, shape, &broadcast_strides(a, shape), &broadcast_strides(b, shape))
}
