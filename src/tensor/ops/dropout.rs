//! Dropout with counter-based random numbers: no mask is stored, and the same call gives the same mask anywhere.

use crate::rng::Stream;
use crate::tensor::check::{self, Case};
use crate::tensor::cpu::{View, ViewMut, loops};
use crate::tensor::cuda::{self, Arg};
use crate::tensor::dtype::{Element, Float, each_float};
use crate::tensor::kernels::operations::elementwise;
use crate::tensor::op::{Backward, Keep, Op, apply1, infer};
use crate::tensor::{Meta, Tensor};
use crate::{Error, Result};

/// Element `i` uses word `i % 4` of the block at `[i / 4 (two words), call (two words)]` and is kept if it is at least
/// `p · 2³²`.
#[derive(Clone, Debug)]
struct Dropout {
    probability: f64,
    stream: Stream,
    call: u64,
}

impl Dropout {
    /// Words from here on keep their element.
    fn threshold(&self) -> u64 {
        (self.probability * 4_294_967_296.0).round() as u64
    }
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn infer(&self, inputs: &[&Meta]) -> Result<Vec<Meta>> {
        if !(0.0..1.0).contains(&self.probability) {
            return Err(Error::value("the dropout probability", self.probability, "at least 0 and below 1"));
        }
        infer::unary(self.name(), inputs)
    }

    fn cpu(&self, inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<()> {
        let threshold = self.threshold();
        each_float!(self.name(), inputs[0].meta.dtype, T => {
            let x = inputs[0].slice::<T>()?;
            let scale = T::of_f64(1.0 / (1.0 - self.probability));
            loops::chunks(outputs[0].slice::<T>()?, 4, |start, piece| {
                for (block, four) in piece.chunks_mut(4).enumerate() {
                    let counter = (start / 4 + block) as u64;
                    let (low, high) = (counter as u32, (counter >> 32) as u32);
                    let words = self.stream.block([low, high, self.call as u32, (self.call >> 32) as u32]);
                    let values = x[start + 4 * block..].iter().zip(words);
                    four.iter_mut().zip(values).for_each(|(out, (&x, word))| {
                        *out = if u64::from(word) >= threshold { x * scale } else { T::ZERO };
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
        let [out] = outputs else { return Ok(()) };
        let (n, [key0, key1]) = (out.meta.len(), self.stream.key());
        let scale = Arg::F64(1.0 / (1.0 - self.probability));
        let mut args = vec![inputs[0].arg(), out.arg(), scale, Arg::U64(self.threshold())];
        args.extend([Arg::U32(key0), Arg::U32(key1), Arg::U64(self.call)]);
        gpu.each(elementwise::DROPOUT.of(self.name(), inputs[0].meta.dtype)?, n, args)
    }

    fn keep(&self, _needs: &[bool]) -> Keep {
        Keep::NOTHING
    }

    /// The same elements of the gradient, drawn again.
    fn backward(&self, at: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(apply1(self.clone(), &[at.grad()?])?)])
    }
}

impl Tensor {
    /// Zero with a probability, else `x / (1 − p)`; which elements depends on the stream and the number of the call (the
    /// training step). Gradient: `g` treated in the same way.
    ///
    /// # Errors
    /// A probability outside 0 ≤ p < 1.
    pub fn dropout(&self, probability: f64, stream: &Stream, call: u64) -> Result<Self> {
        apply1(Dropout { probability, stream: *stream, call }, &[self])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |shape: &[usize]| {
        let stream = Stream::named(1, "dropout");
        let inputs = check::inputs("dropout", &[shape], -2.0, 2.0);
        Case::new(format!("dropout {shape:?}"), inputs, move |x| x[0].dropout(0.3, &stream, 5))
    };
    [&[1][..], &[7], &[3, 17]].into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use crate::rng::Stream;
    use crate::tensor::{DType, Tensor};

    #[test]
    fn rate_scale_and_reproducibility() {
        let x = Tensor::full(&[100_001], 1.0, DType::F32).expect("fits");
        let stream = Stream::named(7, "test");
        let y = x.dropout(0.25, &stream, 3).expect("runs").to_f32().expect("f32");
        let dropped = y.iter().filter(|&&y| y == 0.0).count() as f64 / 1e5;
        assert!((dropped - 0.25).abs() < 4.0 * (0.25 * 0.75 / 1e5f64).sqrt(), "{dropped}");
        assert!(y.iter().all(|&y| y == 0.0 || (y - 4.0 / 3.0).abs() < 1e-6));
        assert_eq!(y, x.dropout(0.25, &stream, 3).expect("runs").to_f32().expect("f32"));
        assert_ne!(y, x.dropout(0.25, &stream, 4).expect("runs").to_f32().expect("f32"));
        assert!(x.dropout(1.0, &stream, 0).is_err() && x.dropout(f64::NAN, &stream, 0).is_err());
    }
}
