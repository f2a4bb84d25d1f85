//! Batch normalisation (Ioffe and Szegedy, arXiv:1502.03167).

use crate::Result;
use crate::parallel;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::loops;
use crate::tensor::cpu::{View, ViewMut};
use crate::tensor::cuda::{self, Arg};
use crate::tensor::dtype::{Element, Float, each_float};
use crate::tensor::kernels::operations::reduce;
use crate::tensor::op::{Backward, Keep, Op, apply, infer};
use crate::tensor::shape::mismatch;
use crate::tensor::{Meta, Tensor};

/// Inputs: x `[samples, channels, ..]`, weight, bias. Outputs: y, and mean and variance of each channel.
#[derive(Clone, Copy, Debug)]
struct BatchNorm {
    epsilon: f64,
}

/// Samples, channels and numbers of one channel of one sample.
fn sizes(shape: &[usize]) -> (usize, usize, usize) {
    (shape[0], shape[1], shape[2..].iter().product())
}

impl Op for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        infer::alike(self.name(), inputs)?;
        let x = &inputs[0].shape;
        for scale in &inputs[1..] {
            if x.len() < 2 || inputs[0].is_empty() || scale.shape != [x[1]] {
                let why = "x is [samples, channels, ..], not empty, and its scales are [channels]";
                return Err(mismatch(self.name(), x, &scale.shape, why));
            }
        }
        Ok(vec![inputs[0].clone(), inputs[1].clone(), inputs[1].clone()])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let (samples, channels, inner) = sizes(inputs[0].shape());
        let [y, mean, variance] = outputs else { return Ok(()) };
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (x, weight, bias) = (inputs[0].slice::<T>()?, inputs[1].slice::<T>()?, inputs[2].slice::<T>()?);
            let (mean, variance) = (mean.slice::<T>()?, variance.slice::<T>()?);
            let count = T::of_f64((samples * inner) as f64);
            let statistics = parallel::map(channels, |c| {
                let mean = of_channel(x, x, [samples, channels, inner], c, |x, _| x) / count;
                let square = |x: T, _| (x - mean) * (x - mean);
                (mean, of_channel(x, x, [samples, channels, inner], c, square) / count)
            });
            for (c, found) in statistics.into_iter().enumerate() {
                (mean[c], variance[c]) = found;
            }
            let epsilon = T::of_f64(self.epsilon);
            loops::chunks(y.slice::<T>()?, inner, |start, piece| {
                for (i, y) in piece.chunks_exact_mut(inner).enumerate() {
                    let row = start / inner + i;
                    let c = row % channels;
                    let scale = weight[c] / (variance[c] + epsilon).sqrt();
                    let x = &x[row * inner..][..inner];
                    y.iter_mut().zip(x).for_each(|(y, &x)| *y = (x - mean[c]) * scale + bias[c]);
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
        let (samples, channels, inner) = sizes(inputs[0].shape());
        let [y, mean, variance] = outputs else { return Ok(()) };
        let (dtype, n) = (inputs[0].meta.dtype, y.meta.len());
        let [samples, of_channels, of_inner] = cuda::sizes([samples, channels, inner])?;
        let mut args = [inputs[0].arg(), mean.arg(), variance.arg(), samples, of_channels, of_inner];
        gpu.blocks(reduce::CHANNEL_STATISTICS.of(self.name(), dtype)?, [channels, 1, 1], 0, &mut args)?;
        let mut args = vec![inputs[0].arg(), inputs[1].arg(), inputs[2].arg()];
        args.extend([Arg::In(mean.data), Arg::In(variance.data), y.arg(), Arg::F64(self.epsilon)]);
        args.extend(cuda::sizes([channels, inner])?);
        gpu.outputs(reduce::BATCH_NORM.of(self.name(), dtype)?, n, args)
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING.input(0, true).input(1, true).output(1, true).output(2, true)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        if at.grads(1).is_some() || at.grads(2).is_some() {
            return at.none();
        }
        let kept = [at.grad()?, at.input(0)?, at.input(1)?, at.output(1)?, at.output(2)?];
        Ok(apply(Chain(*self), &kept)?.into_iter().map(Some).collect())
    }
}

/// `Σ f(a, b)` over a channel, sample after sample.
fn of_channel<T: Float>(
    a: &[T],
    b: &[T],
    [samples, channels, inner]: [usize; 3],
    channel: usize,
    f: impl Fn(T, T) -> T + Copy + Sync,
) -> T {
    let at = |sample: usize| (sample * channels + channel) * inner;
    // Where a sample has one number, sums of pieces keep the error as small as those of long rows.
    let mut total = T::ZERO;
    for piece in (0..samples).step_by(256) {
        let range = piece..samples.min(piece + 256);
        let part = match inner {
            1 => range.map(|s| f(a[at(s)], b[at(s)])).sum::<T>(),
            _ => range.map(|s| loops::dot_by(&a[at(s)..][..inner], &b[at(s)..][..inner], f)).sum(),
        };
        total += part;
    }
    total
}

/// Gradients of all inputs.
#[derive(Debug)]
struct Chain(BatchNorm);

impl Op for Chain {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        Ok(vec![inputs[1].clone(), inputs[2].clone(), inputs[2].clone()])
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let (samples, channels, inner) = sizes(inputs[1].shape());
        let [dx, dweight, dbias] = outputs else { return Ok(()) };
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let (grad, x, weight) = (inputs[0].slice::<T>()?, inputs[1].slice::<T>()?, inputs[2].slice::<T>()?);
            let (mean, variance) = (inputs[3].slice::<T>()?, inputs[4].slice::<T>()?);
            let (dweight, dbias) = (dweight.slice::<T>()?, dbias.slice::<T>()?);
            let scale = |c: usize| T::ONE / (variance[c] + T::of_f64(self.0.epsilon)).sqrt();
            let sums = parallel::map(channels, |c| {
                let (level, of) = (mean[c], [samples, channels, inner]);
                let along = of_channel(grad, x, of, c, |g, x| g * (x - level));
                (along * scale(c), of_channel(grad, grad, of, c, |g, _| g))
            });
            for (c, sums) in sums.into_iter().enumerate() {
                (dweight[c], dbias[c]) = sums;
            }
            // dx = weight · scale · (g − mean g − x̂ mean(g x̂))
            let count = T::of_f64((samples * inner) as f64);
            loops::chunks(dx.slice::<T>()?, inner, |start, piece| {
                for (i, dx) in piece.chunks_exact_mut(inner).enumerate() {
                    let row = start / inner + i;
                    let c = row % channels;
                    let factor = weight[c] * scale(c);
                    let (level, along) = (dbias[c] / count, dweight[c] / count * scale(c));
                    let pairs = grad[row * inner..].iter().zip(&x[row * inner..]);
                    dx.iter_mut().zip(pairs).for_each(|(dx, (&g, &x))| {
                        *dx = factor * (g - level - (x - mean[c]) * along);
                    });
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
        let (samples, channels, inner) = sizes(inputs[1].shape());
        let [dx, dweight, dbias] = outputs else { return Ok(()) };
        let (dtype, n) = (inputs[0].meta.dtype, dx.meta.len());
        let [grad, x, weight, mean, variance] = [0, 1, 2, 3, 4].map(|i| inputs[i].data);
        let epsilon = || Arg::F64(self.0.epsilon);
        let mut args = vec![Arg::In(grad), Arg::In(x), Arg::In(mean), Arg::In(variance)];
        args.extend([dweight.arg(), dbias.arg(), epsilon()]);
        args.extend(cuda::sizes([samples, channels, inner])?);
        gpu.blocks(reduce::CHANNEL_SLOPES.of(self.name(), dtype)?, [channels, 1, 1], 0, &mut args)?;
        let mut args: Vec<Arg<'_>> = [grad, x, weight, mean, variance].into_iter().map(Arg::In).collect();
        args.extend([Arg::In(dweight.data), Arg::In(dbias.data), dx.arg(), epsilon()]);
        args.extend(cuda::sizes([channels, inner])?);
        gpu.outputs(reduce::BATCH_NORM_CHAIN.of(self.name(), dtype)?, n, args)
    }

    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        at.none()
    }
}

impl Tensor {
    /// `(x − mean) / √(variance + ε) · weight + bias` for each channel of `[samples, channels, ..]`, with weight and bias
    /// `[channels]` and the statistics of this batch, which are returned as well: `[y, mean, variance]`. The variance is
    /// that of the population. The statistics have no gradient of their own.
    ///
    /// ```
    /// # use ransnn::tensor::{DType, Tensor};
    /// let x = Tensor::from_f32(vec![1.0, 10.0, 3.0, 30.0], &[2, 2])?;
    /// let (one, zero) = (Tensor::full(&[2], 1.0, DType::F32)?, Tensor::zeros(&[2], DType::F32)?);
    /// let [y, mean, variance] = x.batch_norm(&one, &zero, 0.0)?;
    /// assert_eq!(y.to_f32()?, [-1.0, -1.0, 1.0, 1.0]);
    /// assert_eq!((mean.to_f32()?, variance.to_f32()?), (vec![2.0, 20.0], vec![1.0, 100.0]));
    /// assert_eq!(x.batch_norm_with(&mean, &variance, &one, &zero, 0.0)?.to_f32()?, y.to_f32()?);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Shapes that do not fit or an empty batch.
    pub fn batch_norm(&self, weight: &Self, bias: &Self, epsilon: f64) -> Result<[Self; 3]> {
        let outputs = apply(BatchNorm { epsilon }, &[self, weight, bias])?;
        outputs.try_into().map_err(|_| crate::Error::Internal("batch_norm has three outputs".into()))
    }

    /// [`batch_norm`](Self::batch_norm) with given statistics, as in inference.
    pub fn batch_norm_with(
        &self,
        mean: &Self,
        variance: &Self,
        weight: &Self,
        bias: &Self,
        epsilon: f64,
    ) -> Result<Self> {
        let channels = self.shape().get(1).copied().unwrap_or(0);
        let shape: Vec<usize> = (1..self.rank()).map(|axis| if axis == 1 { channels } else { 1 }).collect();
        let scale = weight.div(&variance.add_scalar(epsilon)?.sqrt()?)?.reshape(&shape)?;
        self.sub(&mean.reshape(&shape)?)?.mul(&scale)?.add(&bias.reshape(&shape)?)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |shape: &[usize]| {
        let n = shape[1];
        let inputs = check::inputs("batch_norm", &[shape, &[n], &[n]], -1.0, 1.5);
        Case::new(format!("batch_norm {shape:?}"), inputs, |x| {
            let [y, _, _] = x[0].batch_norm(&x[1], &x[2], 1e-5)?;
            Ok(y)
        })
    };
    [&[5, 1][..], &[4, 3], &[2, 3, 2, 3], &[3, 2, 5]].into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::tensor::{DType, Tensor};

    #[test]
    fn refusals_and_many_samples() {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32).expect("fits");
        assert!(zeros(&[3]).batch_norm(&zeros(&[3]), &zeros(&[3]), 1e-5).is_err());
        assert!(zeros(&[0, 3]).batch_norm(&zeros(&[3]), &zeros(&[3]), 1e-5).is_err());
        assert!(zeros(&[2, 3]).batch_norm(&zeros(&[2]), &zeros(&[2]), 1e-5).is_err());
        let x: Vec<f32> = (0..3000).map(|i| 100.0 + (i % 7) as f32).collect();
        let x = Tensor::from_f32(x, &[3000, 1]).expect("fits");
        let one = Tensor::full(&[1], 1.0, DType::F32).expect("fits");
        let [_, mean, variance] = x.batch_norm(&one, &zeros(&[1]), 1e-5).expect("runs");
        let exact = |f: &dyn Fn(f64) -> f64| (0..3000).map(|i| f(f64::from(i % 7))).sum::<f64>() / 3000.0;
        let want = exact(&|x| x);
        assert!((mean.to_scalar().expect("one") - 100.0 - want).abs() < 1e-4);
        assert!((variance.to_scalar().expect("one") - exact(&|x| (x - want).powi(2))).abs() < 1e-4);
    }
}
