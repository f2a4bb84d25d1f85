//! Two-dimensional convolution (cross-correlation, as in PyTorch).

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::conv::{self, Sizes};
use crate::tensor::cpu::{View, ViewMut};
use crate::tensor::cuda::{self, Arg};
use crate::tensor::dtype::each_float;
use crate::tensor::kernels::operations::matmul;
use crate::tensor::op::{Backward, Keep, Op, apply1, infer};
use crate::tensor::shape::mismatch;
use crate::tensor::{Meta, Tensor};

/// What a convolution is, beside its sizes.
#[derive(Clone, Copy, Debug)]
struct Window {
    stride: usize,
    padding: usize,
}

impl Window {
    /// The sizes of `[samples, channels, height, width]` under `[outputs, channels, ky, kx]`.
    fn sizes(self, op: &'static str, x: &[usize], w: &[usize]) -> Result<Sizes> {
        let wrong = |why: String| Err(mismatch(op, x, w, why));
        let (&[_, channels, height, width], &[outputs, over, ky, kx]) = (x, w) else {
            return wrong(
                "x is [samples, channels, height, width], the weight [outputs, channels, ky, kx]".into(),
            );
        };
        if channels != over {
            return wrong(format!("x has {channels} channels, the weight {over}"));
        }
        let Self { stride, padding } = self;
        let fits = |side: usize, k: usize| k > 0 && k > padding && side > 0 && side + 2 * padding >= k;
        if stride == 0 || outputs == 0 || channels == 0 || !fits(height, ky) || !fits(width, kx) {
            return wrong(format!(
                "stride {stride} must be at least 1, padding {padding} less than the kernel, and the kernel inside of x"
            ));
        }
        let side = |side: usize, k: usize| (side + 2 * padding - k) / stride + 1;
        let output = [outputs, side(height, ky), side(width, kx)];
        Ok(Sizes { input: [channels, height, width], output, kernel: [ky, kx], stride, padding })
    }
}

/// Sizes as the kernels take them.
fn numbers(sizes: Sizes) -> Result<[Arg<'static>; 10]> {
    let ([channels, height, width], [outputs, rows, cols], [ky, kx]) =
        (sizes.input, sizes.output, sizes.kernel);
    cuda::sizes([channels, height, width, outputs, rows, cols, ky, kx, sizes.stride, sizes.padding])
}

/// Inputs: x, weight and perhaps a bias.
#[derive(Debug)]
struct Conv2d(Window);

impl Op for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::alike(self.name(), inputs)?;
        let (x, w) = (&inputs[0].shape, &inputs[1].shape);
        let sizes = self.0.sizes(self.name(), x, w)?;
        if let Some(bias) = inputs.get(2).filter(|bias| bias.shape != [w[0]]) {
            return Err(mismatch(self.name(), w, &bias.shape, "the bias has one number for each output"));
        }
        Ok(vec![Meta::new([&x[..1], &sizes.output].concat(), inputs[0].dtype)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let sizes = self.0.sizes(self.name(), inputs[0].shape(), inputs[1].shape())?;
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (x, w) = (inputs[0].slice::<T>()?, inputs[1].slice::<T>()?);
            let bias = inputs.get(2).map(View::slice::<T>).transpose()?;
            conv::forward(sizes, x, w, bias, outputs[0].slice::<T>()?);
            Ok(())
        })
    }

    fn cuda(
        &self,
        gpu: &cuda::Gpu,
        inputs: &[cuda::View<'_>],
        outputs: &mut [cuda::ViewMut<'_>],
    ) -> Result<()> {
        let sizes = self.0.sizes(self.name(), inputs[0].shape(), inputs[1].shape())?;
        let (samples, bias) = (inputs[0].shape()[0], inputs.get(2));
        let [out] = outputs else { return Ok(()) };
        let mut args = vec![inputs[0].arg(), inputs[1].arg(), bias.unwrap_or(&inputs[0]).arg(), out.arg()];
        args.extend(numbers(sizes)?);
        args.extend([cuda::size(samples)?, cuda::flag(bias.is_some())]);
        let [outputs, rows, cols] = sizes.output;
        let entry = matmul::CONVOLVE.of(self.name(), inputs[0].meta.dtype)?;
        let grid = [cuda::tiles(samples * rows * cols), cuda::tiles(outputs), 1];
        gpu.blocks(entry, grid, 0, &mut args)
    }

    fn keep(&self, needs: &[bool]) -> Keep {
        Keep::NOTHING.input(0, needs[1]).input(1, needs[0])
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let grad = at.grad()?;
        let back = |of, like: usize, other: usize| {
            let shape = at.input_meta(like).shape.clone();
            apply1(Back { window: self.0, of, shape }, &[grad, at.input(other)?])
        };
        let mut grads = vec![
            at.needs(0).then(|| back(Of::Input, 0, 1)).transpose()?,
            at.needs(1).then(|| back(Of::Weight, 1, 0)).transpose()?,
        ];
        if at.inputs.len() > 2 {
            let [_, outputs, ..] = grad.shape()[..] else { return at.none() };
            let sum = || grad.sum_to(&[1, outputs, 1, 1])?.reshape(&[outputs]);
            grads.push(at.needs(2).then(sum).transpose()?);
        }
        Ok(grads)
    }
}

#[derive(Clone, Copy, Debug)]
enum Of {
    Input,
    Weight,
}

/// The gradient of x from those of the outputs and the weight; of the weight from those of the outputs and x.
#[derive(Debug)]
struct Back {
    window: Window,
    of: Of,
    shape: Vec<usize>,
}

impl Op for Back {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        Ok(vec![Meta::new(self.shape.clone(), inputs[0].dtype)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let other = inputs[1].shape();
        let (x, w) =
            if let Of::Input = self.of { (&self.shape[..], other) } else { (other, &self.shape[..]) };
        let sizes = self.window.sizes(self.name(), x, w)?;
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (grad, other) = (inputs[0].slice::<T>()?, inputs[1].slice::<T>()?);
            let out = outputs[0].slice::<T>()?;
            match self.of {
                Of::Input => conv::by_input(sizes, grad, other, out),
                Of::Weight => conv::by_weight(sizes, other, grad, out),
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
        let (other, dtype) = (inputs[1].shape(), inputs[0].meta.dtype);
        let (x, w) =
            if let Of::Input = self.of { (&self.shape[..], other) } else { (other, &self.shape[..]) };
        let sizes = self.window.sizes(self.name(), x, w)?;
        let ([channels, height, width], [outs, rows, cols]) = (sizes.input, sizes.output);
        let samples = x[0];
        let run = |entry, to: &mut cuda::Buffer, grid, last: Option<usize>| {
            let mut args = vec![inputs[0].arg(), inputs[1].arg(), Arg::Out(to)];
            args.extend(numbers(sizes)?);
            args.push(cuda::size(samples)?);
            args.extend(last.map(|chunk| Arg::U64(chunk as u64)));
            gpu.blocks(entry, grid, 0, &mut args)
        };
        let to = &mut *outputs[0].data;
        if let Of::Input = self.of {
            let grid = [cuda::tiles(samples * height * width), cuda::tiles(channels), 1];
            return run(matmul::BY_INPUT.of(self.name(), dtype)?, to, grid, None);
        }
        // Few outputs, and a sum over all windows of all samples: it is cut into pieces that are added in order.
        let (n, k) = (channels * sizes.kernel[0] * sizes.kernel[1], samples * rows * cols);
        let tiles = [cuda::tiles(n), cuda::tiles(outs)];
        let splits = cuda::splits(tiles[0] * tiles[1], k);
        let (entry, chunk) =
            (matmul::BY_WEIGHT.of(self.name(), dtype)?, k.div_ceil(splits).next_multiple_of(16));
        if splits == 1 {
            return run(entry, to, [tiles[0], tiles[1], 1], Some(chunk));
        }
        let mut partial = gpu.empty(dtype.into(), splits * outs * n)?;
        run(entry, &mut partial, [tiles[0], tiles[1], splits], Some(chunk))?;
        gpu.sum_middle(dtype, &partial, [1, splits, outs * n], to)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

impl Tensor {
    /// `y[n, o, y, x] = b[o] + Σ w[o, c, ky, kx] x[n, c, y s + ky − p, x s + kx − p]` with zeros around: `self` is
    /// `[samples, channels, height, width]`, the weight `[outputs, channels, ky, kx]`, the bias `[outputs]`.
    ///
    /// The order of additions depends on shapes and processor, not on the number of threads.
    ///
    /// ```
    /// # use ransnn::tensor::Tensor;
    /// let x = Tensor::from_f32((0..9).map(|x| x as f32).collect(), &[1, 1, 3, 3])?;
    /// let w = Tensor::from_f32(vec![1.0, 0.0, 0.0, 10.0], &[1, 1, 2, 2])?;
    /// assert_eq!(x.conv2d(&w, None, 1, 0)?.to_f32()?, [40.0, 51.0, 73.0, 84.0]);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Shapes or kinds that do not fit, a stride of 0, a padding as wide as the kernel.
    pub fn conv2d(&self, weight: &Self, bias: Option<&Self>, stride: usize, padding: usize) -> Result<Self> {
        let inputs: Vec<&Self> = [self, weight].into_iter().chain(bias).collect();
        apply1(Conv2d(Window { stride, padding }), &inputs)
    }
}

pub(super) fn cases() -> Vec<Case> {
    type Sizes = (&'static [usize], &'static [usize], bool, usize, usize);
    let case = |(x, w, bias, stride, padding): Sizes| {
        let (bias, shapes) = (bias.then_some(2), [x, w, &w[..1]]);
        let inputs = check::inputs("conv2d", &shapes[..if bias.is_some() { 3 } else { 2 }], -1.0, 1.0);
        let what = format!("conv2d {x:?} {w:?} stride {stride} padding {padding}");
        Case::new(what, inputs, move |x| x[0].conv2d(&x[1], bias.map(|i| &x[i]), stride, padding))
    };
    let cases: [Sizes; 5] = [
        (&[1, 1, 1, 1], &[1, 1, 1, 1], false, 1, 0),
        (&[2, 2, 5, 4], &[3, 2, 3, 2], true, 1, 1),
        (&[2, 3, 6, 7], &[2, 3, 3, 3], true, 2, 1),
        (&[1, 1, 12, 11], &[2, 1, 2, 4], false, 1, 0),
        (&[1, 2, 7, 5], &[1, 2, 4, 4], true, 3, 2),
    ];
    cases.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::tensor::{DType, Tensor};

    #[test]
    fn refusals() {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32).expect("fits");
        let (x, w) = (zeros(&[2, 3, 8, 8]), zeros(&[4, 3, 5, 5]));
        assert_eq!(x.conv2d(&w, None, 1, 2).expect("runs").shape(), [2, 4, 8, 8]);
        assert_eq!(zeros(&[0, 3, 8, 8]).conv2d(&w, None, 1, 0).expect("runs").shape(), [0, 4, 4, 4]);
        for (w, stride, padding) in [
            (zeros(&[4, 2, 5, 5]), 1, 0),
            (zeros(&[4, 3, 9, 5]), 1, 0),
            (zeros(&[4, 3, 5]), 1, 0),
            (w.clone(), 0, 0),
            (w.clone(), 1, 5),
        ] {
            assert!(x.conv2d(&w, None, stride, padding).is_err());
        }
        assert!(x.conv2d(&w, Some(&zeros(&[3])), 1, 0).is_err());
    }
}
