//! The largest element of windows of an image.

use crate::Result;
use crate::parallel;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::loops::CHUNK;
use crate::tensor::cpu::{View, ViewMut};
use crate::tensor::cuda;
use crate::tensor::dtype::{Float, each_float};
use crate::tensor::kernels::operations::layout;
use crate::tensor::op::{Backward, Keep, Op, apply, apply1, infer};
use crate::tensor::ops::avg_pool2d::{SHAPES, Windows};
use crate::tensor::{DType, Meta, Tensor};

/// Outputs: values and, as u32, their places in the image of their channel. The first of equals; a NaN wins.
#[derive(Debug)]
struct MaxPool2d(Windows);

impl Op for MaxPool2d {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::computing(self.name(), inputs[0])?;
        let shape = self.0.over(self.name(), &inputs[0].shape)?;
        Ok(vec![Meta::new(shape.clone(), inputs[0].dtype), Meta::new(shape, DType::U32)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let (&[.., height, width], &[.., rows, columns]) = (inputs[0].shape(), outputs[0].shape()) else {
            return Ok(());
        };
        let [values, places] = outputs else { return Ok(()) };
        let (from, to) = (height * width, rows * columns);
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let x = inputs[0].slice::<T>()?;
            let (values, places) = (values.slice::<T>()?, places.slice::<u32>()?);
            // Images of a channel that one task works on.
            let some = (CHUNK / from.max(1)).max(1);
            let pieces = values.chunks_mut(to * some).zip(places.chunks_mut(to * some)).collect();
            parallel::owned(pieces, |piece, (values, places): (&mut [T], &mut [u32])| {
                let images = x[piece * some * from..].chunks_exact(from);
                for (image, (values, places)) in
                    images.zip(values.chunks_exact_mut(to).zip(places.chunks_exact_mut(to)))
                {
                    largest(self.0, image, width, columns, values, places);
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
        gpu.outputs(layout::MAX_POOL.of(self.name(), inputs[0].meta.dtype)?, n, args)
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING.output(1, true)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let op = Put { windows: self.0, shape: at.input_meta(0).shape.clone() };
        Ok(vec![Some(apply1(op, &[at.grad()?, at.output(1)?])?)])
    }
}

fn largest<T: Float>(
    Windows { side, stride }: Windows,
    image: &[T],
    width: usize,
    columns: usize,
    values: &mut [T],
    places: &mut [u32],
) {
    let rows = values.chunks_exact_mut(columns).zip(places.chunks_exact_mut(columns));
    for (row, (values, places)) in rows.enumerate() {
        let top = row * stride * width;
        if side == 2 {
            let (upper, lower) = (&image[top..top + width], &image[top + width..top + 2 * width]);
            for (i, (value, place)) in values.iter_mut().zip(places).enumerate() {
                let x = i * stride;
                let (a, b, c, d) = (upper[x], upper[x + 1], lower[x], lower[x + 1]);
                let (mut best, mut at) = (a, 0);
                for (x, place) in [(b, 1), (c, width), (d, width + 1)] {
                    let wins = beats(x, best);
                    (best, at) = (if wins { x } else { best }, if wins { place } else { at });
                }
                (*value, *place) = (best, (top + x + at) as u32);
            }
            continue;
        }
        for (i, (value, place)) in values.iter_mut().zip(places).enumerate() {
            let mut at = top + i * stride;
            for ky in 0..side {
                let line = top + ky * width + i * stride;
                at = (line..line + side).fold(at, |at, x| if beats(image[x], image[at]) { x } else { at });
            }
            (*value, *place) = (image[at], at as u32);
        }
    }
}

/// Whether `x` comes before `best`: it is larger, or the first that is not a number.
#[inline(always)]
fn beats<T: Float>(x: T, best: T) -> bool {
    #[allow(clippy::eq_op)]
    let (nan, best_is_nan) = (x != x, best != best);
    x > best || (nan && !best_is_nan)
}

/// Zero but for the places where the values are added.
#[derive(Debug)]
struct Put {
    windows: Windows,
    shape: Vec<usize>,
}

impl Op for Put {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        Ok(vec![Meta::new(self.shape.clone(), inputs[0].dtype)])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let (&[.., rows, columns], &[.., height, width]) = (inputs[0].shape(), outputs[0].shape()) else {
            return Ok(());
        };
        let (from, to) = (rows * columns, height * width);
        let places = inputs[1].slice::<u32>()?;
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let grad = inputs[0].slice::<T>()?;
            let some = (CHUNK / to.max(1)).max(1);
            parallel::chunks_mut(outputs[0].slice::<T>()?, to * some, |piece, out| {
                for (i, image) in out.chunks_exact_mut(to).enumerate() {
                    let range = (piece * some + i) * from..(piece * some + i + 1) * from;
                    let each = grad[range.clone()].iter().zip(&places[range]);
                    each.for_each(|(&g, &place)| image[place as usize] += g);
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
        gpu.outputs(layout::MAX_POOL_CHAIN.of(self.name(), inputs[0].meta.dtype)?, n, args)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

impl Tensor {
    /// Largest element of square windows of `side`, `stride` apart, of `[samples, channels, height, width]`, without
    /// padding, as PyTorch's `max_pool2d`. Gradient: `g` to the first of the largest.
    ///
    /// ```
    /// # use ransnn::tensor::Tensor;
    /// let x = Tensor::from_f32(vec![1.0, 5.0, 0.0, 2.0, 3.0, 4.0, 9.0, 8.0], &[1, 1, 2, 4])?;
    /// assert_eq!(x.max_pool2d(2, 2)?.to_f32()?, [5.0, 9.0]);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Windows that do not fit.
    pub fn max_pool2d(&self, side: usize, stride: usize) -> Result<Self> {
        Ok(apply(MaxPool2d(Windows { side, stride }), &[self])?.swap_remove(0))
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |(shape, side, stride): (&[usize], usize, usize)| {
        let inputs = check::inputs("max_pool2d", &[shape], -1.0, 1.0);
        Case::new(format!("max_pool2d {shape:?} {side} {stride}"), inputs, move |x| {
            x[0].max_pool2d(side, stride)
        })
    };
    SHAPES.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::tensor::Tensor;
    use std::collections::BTreeMap;

    #[test]
    fn ties_go_to_the_first_and_nan_wins() {
        for side in [2, 3] {
            let mut values = vec![1.0; side * side * 2];
            values[side * side] = f32::NAN;
            let x = Tensor::from_f32(values, &[2, 1, side, side]).expect("fits");
            let x = BTreeMap::from([("x".to_string(), x)]);
            let (loss, grads) = crate::tensor::grad(&x, || {
                let y = x["x"].max_pool2d(side, 1)?;
                assert!(y.to_f32()?[1].is_nan());
                y.narrow(0, 0, 1)?.sum_all()
            })
            .expect("a gradient");
            assert_eq!(loss.to_scalar().expect("one"), 1.0);
            let grad = grads.get("x").expect("there").to_f32().expect("f32");
            assert_eq!((grad[0], grad.iter().sum::<f32>()), (1.0, 1.0));
        }
    }
}
