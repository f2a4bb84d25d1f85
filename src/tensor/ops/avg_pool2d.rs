//! Means over windows of an image.

use crate::Result;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut, loops};
use crate::tensor::cuda;
use crate::tensor::dtype::{Element, each_float};
use crate::tensor::kernels::operations::layout;
use crate::tensor::op::{Backward, Keep, Op, apply1, infer};
use crate::tensor::shape::mismatch;
use crate::tensor::{Meta, Tensor};

/// Square windows of `side`, `stride` apart, without padding: what is left over at the edges is not looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    pub side: usize,
    pub stride: usize,
}

impl Windows {
    /// `[samples, channels, rows, columns]` of the windows in an image of this shape.
    pub fn over(self, op: &'static str, shape: &[usize]) -> Result<Vec<usize>> {
        let &[samples, channels, height, width] = shape else {
            return Err(mismatch(op, shape, &[], "images are [samples, channels, height, width]"));
        };
        let Self { side, stride } = self;
        if side == 0 || stride == 0 || height < side || width < side {
            let why = format!("windows of {side} × {side} every {stride} must fit, and both be at least 1");
            return Err(mismatch(op, shape, &[], why));
        }
        Ok(vec![samples, channels, (height - side) / stride + 1, (width - side) / stride + 1])
    }

    /// As the kernels take them: sides of an image and of its windows, side and stride.
    pub fn sizes(self, image: &[usize], windows: &[usize]) -> Result<[cuda::Arg<'static>; 6]> {
        let ([.., height, width], [.., rows, columns]) = (image, windows) else {
            return Err(mismatch("pooling", image, windows, "images have two sides"));
        };
        cuda::sizes([*height, *width, *rows, *columns, self.side, self.stride])
    }
}

#[derive(Debug)]
struct AvgPool2d(Windows);

impl Op for AvgPool2d {
    fn name(&self) -> &'static str {
        "avg_pool2d"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::computing(self.name(), inputs[0])?;
        Ok(vec![Meta::new(self.0.over(self.name(), &inputs[0].shape)?, inputs[0].dtype)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let Windows { side, stride } = self.0;
        let (&[.., height, width], &[.., rows, columns]) = (inputs[0].shape(), outputs[0].shape()) else {
            return Ok(());
        };
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let x = inputs[0].slice::<T>()?;
            let share = T::of_f64(1.0 / (side * side) as f64);
            loops::chunks(outputs[0].slice::<T>()?, columns, |start, piece| {
                for (i, out) in piece.chunks_exact_mut(columns).enumerate() {
                    let row = start / columns + i;
                    let top = (row / rows * height + row % rows * stride) * width;
                    for ky in 0..side {
                        let line = &x[top + ky * width..][..width];
                        for (out, window) in out.iter_mut().zip(line.windows(side).step_by(stride)) {
                            *out += window.iter().copied().sum::<T>();
                        }
                    }
                    out.iter_mut().for_each(|out| *out *= share);
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
        let windows = self.0.sizes(inputs[0].shape(), outputs[0].shape())?;
        let n = outputs[0].meta.len();
        let mut args = vec![inputs[0].arg()];
        args.extend(outputs.iter_mut().map(cuda::ViewMut::arg));
        args.extend(windows);
        gpu.outputs(layout::AVG_POOL.of(self.name(), inputs[0].meta.dtype)?, n, args)
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let op = Share { windows: self.0, shape: at.input_meta(0).shape.clone() };
        Ok(vec![Some(apply1(op, &[at.grad()?])?)])
    }
}

/// Gives every element of a window its share of the gradient.
#[derive(Debug)]
struct Share {
    windows: Windows,
    shape: Vec<usize>,
}

impl Op for Share {
    fn name(&self) -> &'static str {
        "avg_pool2d"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        Ok(vec![Meta::new(self.shape.clone(), inputs[0].dtype)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let Windows { side, stride } = self.windows;
        let (&[.., rows, columns], &[.., height, width]) = (inputs[0].shape(), outputs[0].shape()) else {
            return Ok(());
        };
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let grad = inputs[0].slice::<T>()?;
            let share = T::of_f64(1.0 / (side * side) as f64);
            loops::chunks(outputs[0].slice::<T>()?, height * width, |start, piece| {
                for (i, image) in piece.chunks_exact_mut(height * width).enumerate() {
                    let first = (start / (height * width) + i) * rows;
                    for row in 0..rows {
                        let grad = &grad[(first + row) * columns..][..columns];
                        for ky in 0..side {
                            let line = &mut image[(row * stride + ky) * width..][..width];
                            for (x, &g) in grad.iter().enumerate() {
                                line[x * stride..][..side].iter_mut().for_each(|out| *out += g * share);
                            }
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
        let windows = self.windows.sizes(outputs[0].shape(), inputs[0].shape())?;
        let n = outputs[0].meta.len();
        let mut args: Vec<_> = inputs.iter().map(cuda::View::arg).collect();
        args.push(outputs[0].arg());
        args.extend(windows);
        gpu.outputs(layout::AVG_POOL_CHAIN.of(self.name(), inputs[0].meta.dtype)?, n, args)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

impl Tensor {
    /// Mean over square windows of `side`, `stride` apart, of `[samples, channels, height, width]`, without padding, as
    /// PyTorch's `avg_pool2d`. Gradient: `g / side²` to each element of a window.
    ///
    /// ```
    /// # use ransnn::tensor::Tensor;
    /// let x = Tensor::from_f32((0..8).map(|x| x as f32).collect(), &[1, 1, 2, 4])?;
    /// assert_eq!(x.avg_pool2d(2, 2)?.to_f32()?, [2.5, 4.5]);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Windows that do not fit.
    pub fn avg_pool2d(&self, side: usize, stride: usize) -> Result<Self> {
        apply1(AvgPool2d(Windows { side, stride }), &[self])
    }
}

/// Windows that touch, overlap, leave gaps and leave something over.
pub(super) const SHAPES: [(&[usize], usize, usize); 4] =
    [(&[1, 1, 1, 1], 1, 1), (&[2, 3, 4, 6], 2, 2), (&[1, 2, 7, 5], 3, 2), (&[2, 1, 5, 8], 2, 3)];

pub(super) fn cases() -> Vec<Case> {
    let case = |(shape, side, stride): (&[usize], usize, usize)| {
        let inputs = check::inputs("avg_pool2d", &[shape], -1.0, 1.0);
        Case::new(format!("avg_pool2d {shape:?} {side} {stride}"), inputs, move |x| {
            x[0].avg_pool2d(side, stride)
        })
    };
    SHAPES.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::tensor::{DType, Tensor};

    #[test]
    fn windows_that_do_not_fit_are_refused() {
        let x = Tensor::full(&[1, 2, 3, 3], 2.0, DType::F32).expect("fits");
        assert_eq!(x.avg_pool2d(2, 1).expect("runs").to_f32().expect("f32"), [2.0; 8]);
        for (side, stride) in [(4, 1), (0, 1), (1, 0)] {
            assert!(x.avg_pool2d(side, stride).is_err() && x.max_pool2d(side, stride).is_err());
        }
        assert!(x.reshape(&[2, 9]).expect("runs").avg_pool2d(1, 1).is_err());
    }
}
