//! A structured unitary map before a weight, after Arjovsky, Shah and Bengio (arXiv:1511.06464).
//!
//! `y = ((x U(φ)) U(φ₀)ᴴ) Wᵀ + b`, where U has 7 numbers φ for two real inputs ([`Tensor::unitary`]) and φ₀ is a frozen
//! copy of where φ begins: the map is the identity at the start, and a rotation of the inputs always. An odd last input
//! is left alone. How the paper on the hybrid (arXiv:2507.18076) places such maps is not known; this is a
//! reconstruction, in the place where BOFT has its rotation.

use rand::RngExt;

use super::lora::adapter_dtype;
use super::{Below, Kind};
use crate::rng::Stream;
use crate::tensor::{DType, Tensor, Trainable};
use crate::{Error, Result};

/// Settings: none but the placement, which targets say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Urnn;

impl Urnn {
    /// A new adapter for a map: phases uniform in ±π, reflections in ±√(6 / (2 + 2n)), a random permutation.
    ///
    /// # Errors
    /// An embedding, or fewer than two inputs.
    pub fn adapter(&self, path: &str, weight: &Tensor, kind: Kind, seed: u64) -> Result<UrnnAdapter> {
        let inputs = weight.shape().last().copied().unwrap_or(0);
        if inputs < 2 || kind == Kind::Embedding {
            return Err(Error::Unsupported {
                op: "uRNN",
                on: format!("on `{path}`: it needs a linear map of 2 inputs"),
            });
        }
        let k = inputs / 2;
        let dtype = adapter_dtype(weight);
        let mut walk = Stream::named(seed, &format!("peft/{path}/urnn")).walk(0);
        let mut draw = |shape: &[usize], bound: f64| {
            let values =
                (0..shape.iter().product()).map(|_| bound * (2.0 * walk.random::<f64>() - 1.0)).collect();
            Tensor::from_f64(values, shape)?.to_dtype(dtype)
        };
        let phases = draw(&[3, k], std::f64::consts::PI)?;
        let reflections = draw(&[2, k, 2], (6.0 / (2.0 + 2.0 * k as f64)).sqrt())?;
        let mut order: Vec<u32> = (0..k as u32).collect();
        for i in 0..k {
            order.swap(i, walk.random_range(i..k));
        }
        let permutation = Tensor::from_u32(order, &[k])?;
        Ok(UrnnAdapter { begun: (phases.clone(), reflections.clone()), phases, reflections, permutation })
    }
}

/// A structured unitary map on the inputs of one map.
#[derive(Clone, Debug)]
pub struct UrnnAdapter {
    /// θ `[3, k]`, radians.
    pub phases: Tensor,
    /// v `[2, k, 2]`, complex.
    pub reflections: Tensor,
    /// Π `[k]` (u32).
    pub permutation: Tensor,
    /// φ₀: phases and reflections at the start.
    pub begun: (Tensor, Tensor),
}

impl UrnnAdapter {
    pub(super) fn forward(&self, x: &Tensor, below: &Below<'_>, bias: Option<&Tensor>) -> Result<Tensor> {
        // At the start they are the very tensors that are trained: no gradient must pass through the fixed ones.
        let (theta, v) = (&self.begun.0.detach()?, &self.begun.1.detach()?);
        let turned = self.pairs(x, &|x| {
            x.unitary(&self.phases, &self.reflections, &self.permutation)?.unitary_inverse(
                theta,
                v,
                &self.permutation,
            )
        })?;
        below.apply_with(&turned, bias)
    }

    /// Rows of W by the inverse map.
    pub(super) fn merged(&self, weight: &Tensor) -> Result<Tensor> {
        let (theta, v) = (&self.begun.0, &self.begun.1);
        let turned = self.pairs(&compute(weight, self.phases.dtype())?, &|w| {
            w.unitary(theta, v, &self.permutation)?.unitary_inverse(
                &self.phases,
                &self.reflections,
                &self.permutation,
            )
        })?;
        turned.to_dtype(weight.dtype())
    }

    /// Applies a map of pairs; an odd last element passes by.
    fn pairs(&self, x: &Tensor, map: &dyn Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let even = 2 * self.permutation.len();
        match x.shape().last() {
            Some(&n) if n == even + 1 => {
                let rest = x.narrow(-1, even, 1)?;
                Tensor::concat(&[&map(&x.narrow(-1, 0, even)?)?, &rest], -1)
            }
            _ => map(x),
        }
    }

    /// Constants that files need beside what is trained.
    pub(super) fn constants(&self, f: &mut dyn FnMut(&str, &Tensor)) {
        f("urnn_permutation", &self.permutation);
        f("urnn_phases_start", &self.begun.0);
        f("urnn_reflections_start", &self.begun.1);
    }
}

fn compute(weight: &Tensor, dtype: DType) -> Result<Tensor> {
    if weight.dtype() == dtype { Ok(weight.clone()) } else { weight.to_dtype(dtype) }
}

impl Trainable for UrnnAdapter {
    fn visit(&self, f: &mut dyn FnMut(&str, &Tensor)) {
        f("urnn_phases", &self.phases);
        f("urnn_reflections", &self.reflections);
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, &mut Tensor)) {
        f("urnn_phases", &mut self.phases);
        f("urnn_reflections", &mut self.reflections);
    }
}
