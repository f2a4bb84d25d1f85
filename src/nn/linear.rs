//! The fully connected layer.

use rand::RngExt;

use crate::peft::Slot;
use crate::rng::Stream;
use crate::tensor::{DType, Tensor, Trainable};
use crate::{Error, Result};

/// `y = x Wᵀ + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// W, `[outputs, inputs]`, as PyTorch stores it.
    pub weight: Tensor,
    /// b, `[outputs]`.
    pub bias: Option<Tensor>,
    /// Adapters on top; empty unless a method was attached.
    pub slot: Slot,
}

impl Linear {
    /// PyTorch's default: weight and bias uniform in ±1/√inputs. The weight is drawn at index 0 of the stream, the bias at
    /// index 1, element by element, so a layer is the same in f32 and f64 up to rounding.
    ///
    /// # Errors
    /// No inputs, or a kind of number that operations do not compute in.
    pub fn new(inputs: usize, outputs: usize, bias: bool, stream: &Stream, dtype: DType) -> Result<Self> {
        if inputs == 0 {
            return Err(Error::value("the number of inputs of a linear layer", inputs, "at least 1"));
        }
        if !dtype.is_computing() {
            return Err(Error::Unsupported { op: "linear", on: format!("with {dtype} values") });
        }
        let bound = 1.0 / (inputs as f64).sqrt();
        let draw = |index, shape: &[usize]| {
            let mut walk = stream.walk(index);
            let values =
                (0..shape.iter().product()).map(|_| bound * (2.0 * walk.random::<f64>() - 1.0)).collect();
            Tensor::from_f64(values, shape)?.to_dtype(dtype)
        };
        let bias = bias.then(|| draw(1, &[outputs])).transpose()?;
        Ok(Self { weight: draw(0, &[outputs, inputs])?, bias, slot: Slot::default() })
    }

    /// `[.., inputs]` to `[.., outputs]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.slot.apply(x, &self.weight, self.bias.as_ref())
    }
}

impl Trainable for Linear {
    fn visit(&self, f: &mut dyn FnMut(&str, &Tensor)) {
        f("weight", &self.weight);
        self.bias.iter().for_each(|bias| f("bias", bias));
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, &mut Tensor)) {
        f("weight", &mut self.weight);
        self.bias.iter_mut().for_each(|bias| f("bias", bias));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_distribution() {
        let stream = Stream::named(1, "layer");
        let layer = Linear::new(400, 50, true, &stream, DType::F64).expect("a layer");
        let w = layer.weight.to_f64().expect("f64");
        let variance = w.iter().map(|w| w * w).sum::<f64>() / w.len() as f64;
        // Uniform in ±b: variance b²/3, here 1/1200; its estimate from 20,000 values scatters by 0.6 %.
        assert!((variance * 1200.0 - 1.0).abs() < 0.03, "{variance}");
        assert!(w.iter().all(|w| w.abs() <= 0.05));
        let x = Tensor::full(&[2, 3, 400], 1.0, DType::F64).expect("fits");
        let y = layer.forward(&x).expect("runs");
        assert_eq!(y.shape(), [2, 3, 50]);
        let want: f64 = w[..400].iter().sum::<f64>() + layer.bias.expect("there").to_f64().expect("f64")[0];
        assert!((y.to_f64().expect("f64")[0] - want).abs() < 1e-12);
        assert!(Linear::new(0, 1, true, &stream, DType::F32).is_err());
        assert!(Linear::new(1, 1, true, &stream, DType::U8).is_err());
    }
}
