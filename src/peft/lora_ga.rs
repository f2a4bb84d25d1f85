//! LoRA-GA: LoRA that begins where its first step is nearest to that of full fine-tuning (Wang, Yu and Li,
//! arXiv:2407.05000).
//!
//! With the gradient `G = U Σ Vᵀ` of a weight over some batches, A₀ and B₀ are r right and r other left singular vectors
//! of the largest 2r: one step then moves `s B A` along the best approximation of −G of rank 2r. So that the model
//! does not change, `s B₀ A₀` is taken off the weight: here as a second pair of factors beside the trained ones, so that the
//! base stays untouched and a saved adapter fits the base that everybody has.
//!
//! Hugging Face's flavour puts Σ into B, so that the start depends on the size of the gradient, and scales only B.

use std::collections::BTreeMap;

use rand::RngExt;

use super::lora::{LoraAdapter, adapter_dtype};
use super::manage::{self, Report};
use super::svd::Svd;
use super::{Host, Kind, Lora, Method, Targets};
use crate::rng::Stream;
use crate::tensor::{Tensor, grad};
use crate::{Error, Result};

/// Whose factors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    /// The paper's and its authors'.
    #[default]
    Paper,
    /// Those of Hugging Face PEFT 0.21.
    HuggingFace,
}

/// Which singular vectors A and B get, of the 2r largest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// A the first r, B the second.
    #[default]
    ArB2r,
    /// A the second r, B the first.
    A2rBr,
    /// A the odd ones, B the even ones, counted from 0.
    ArBr,
    /// Halves drawn at random.
    Random,
}

/// How long the vectors are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// `out^¼ / √γ`.
    Stable(f64),
    /// 1.
    Unit,
    /// Divided by s, so that the first step does not depend on it.
    GradientDescent,
    /// By the singular values of the weight: `mean √(σᵢ / s)` over the r largest; Hugging Face: `σ₁ / Σ_B₁` on B.
    Weight,
}

/// Settings of LoRA-GA.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraGa {
    /// Rank, α and so on. How A begins is not used.
    pub lora: Lora,
    /// Whose factors.
    pub flavour: Flavour,
    /// Which vectors.
    pub direction: Direction,
    /// How long they are.
    pub length: Length,
    /// Whether factors are shortened so that no entry of `s B₀ A₀` exceeds the largest of the weight.
    pub clip: bool,
}

impl Default for LoraGa {
    /// `ArB2r`, stable with γ = 16.
    fn default() -> Self {
        Self {
            lora: Lora::default(),
            flavour: Flavour::Paper,
            direction: Direction::ArB2r,
            length: Length::Stable(16.0),
            clip: false,
        }
    }
}

impl LoraGa {
    /// The adapter of a map from the mean gradient of its weight `[out, in]`.
    ///
    /// # Errors
    /// A rank of which twice is more than the smaller side of the weight, an embedding, DoRA, a gradient that is zero or not
    /// finite.
    pub fn start(
        &self,
        path: &str,
        weight: &Tensor,
        gradient: &Tensor,
        kind: Kind,
        seed: u64,
    ) -> Result<LoraAdapter> {
        let (r, scaling) = self.lora.rank_and_scaling(path)?;
        let (&[out, inputs], false, false) = (weight.shape(), kind == Kind::Embedding, self.lora.magnitude)
        else {
            return Err(Error::Unsupported {
                op: "LoRA-GA",
                on: format!("on `{path}`: it needs a linear map without DoRA"),
            });
        };
        if 2 * r > out.min(inputs) {
            let most = format!("at most {}, half of the smaller side of the weight", out.min(inputs) / 2);
            return Err(Error::value(format!("the rank of LoRA-GA on `{path}`"), r, most));
        }
        let svd = Svd::top(gradient, 2 * r)?;
        if svd.s[0] == 0.0 {
            return Err(Error::value(
                format!("the gradient of `{path}`"),
                "zero",
                "one that has a direction",
            ));
        }
        let (of_a, of_b) = self.choose(r, path, seed);
        let mut b: Vec<Vec<f64>> = of_b.iter().map(|&j| svd.u[j].clone()).collect();
        let mut a: Vec<Vec<f64>> = of_a.iter().map(|&j| svd.v[j].clone()).collect();
        let (mut length_a, mut length_b) = (1.0, 1.0);
        let hugging_face = self.flavour == Flavour::HuggingFace;
        if hugging_face {
            for (b, &j) in b.iter_mut().zip(&of_b) {
                b.iter_mut().for_each(|x| *x *= svd.s[j]);
            }
        }
        match self.length {
            Length::Unit => {}
            Length::Stable(gamma) => {
                // Hugging Face takes the first axis for the outputs; GPT-2's layers store the inputs there.
                let width = if hugging_face && kind == Kind::Conv1D { inputs } else { out };
                length_b = (width as f64).powf(0.25) / gamma.sqrt();
                length_a = if hugging_face { 1.0 } else { length_b };
            }
            Length::GradientDescent => (length_a, length_b) = (1.0 / scaling, 1.0 / scaling),
            Length::Weight if hugging_face => {
                let first = svd.s[of_b[0]];
                length_b = if first > 0.0 { Svd::top(weight, 1)?.s[0] / first } else { 1.0 };
            }
            Length::Weight => {
                let s = Svd::top(weight, r)?.s;
                length_a = s.iter().map(|s| (s / scaling).sqrt()).sum::<f64>() / r as f64;
                length_b = length_a;
            }
        }
        a.iter_mut().flatten().for_each(|x| *x *= length_a);
        b.iter_mut().flatten().for_each(|x| *x *= length_b);

        let dtype = adapter_dtype(weight);
        let mut a = Tensor::from_f64(a.concat(), &[r, inputs])?.to_dtype(dtype)?;
        let mut b = Tensor::from_f64(b.concat(), &[r, out])?.transpose(0, 1)?.to_dtype(dtype)?;
        if self.clip {
            let largest =
                |x: &Tensor| -> Result<f64> { Ok(x.to_f64()?.iter().fold(0.0, |m, x| x.abs().max(m))) };
            let ratio = largest(weight)? / largest(&b.matmul(&a)?.mul_scalar(scaling)?)?;
            if ratio < 1.0 {
                (a, b) = (a.mul_scalar(ratio.sqrt())?, b.mul_scalar(ratio.sqrt())?);
            }
        }
        let begun = Some((a.clone(), b.clone()));
        let dropout = self.lora.dropout;
        Ok(LoraAdapter { a, b, scaling, dropout, magnitude: None, begun, embedding: false })
    }

    /// Numbers of the singular vectors of A and of B.
    fn choose(&self, r: usize, path: &str, seed: u64) -> (Vec<usize>, Vec<usize>) {
        match self.direction {
            Direction::ArB2r => ((0..r).collect(), (r..2 * r).collect()),
            Direction::A2rBr => ((r..2 * r).collect(), (0..r).collect()),
            Direction::ArBr => ((0..r).map(|j| 2 * j + 1).collect(), (0..r).map(|j| 2 * j).collect()),
            Direction::Random => {
                let mut walk = Stream::named(seed, &format!("peft/{path}/lora_ga")).walk(0);
                let mut order: Vec<usize> = (0..2 * r).collect();
                for i in 0..2 * r {
                    order.swap(i, walk.random_range(i..2 * r));
                }
                let rest = order.split_off(r);
                // Hugging Face gives A and B the same ones, which loses half of the rank.
                if self.flavour == Flavour::HuggingFace { (order.clone(), order) } else { (order, rest) }
            }
        }
    }
}

/// Gradients of the targeted weights, handed one after another to `each`: the mean over batches of `loss`. As many are
/// in memory at a time as the calibration allows; each such group needs its own passes, one for a batch.
///
/// # Errors
/// No map is meant; a weight that the loss does not depend on.
pub fn gradients<H: Host>(
    host: &mut H,
    targets: &Targets,
    Calibration { batches, bytes }: Calibration,
    loss: &mut dyn FnMut(&H, usize) -> Result<Tensor>,
    each: &mut dyn FnMut(&str, &Tensor, Kind, &Tensor) -> Result<()>,
) -> Result<()> {
    if batches == 0 {
        return Err(Error::value("batches of a calibration", 0, "at least 1"));
    }
    let matcher = targets.matcher()?;
    let mut all = Vec::new();
    host.visit_sites(&mut |site| {
        if matcher.matches(site.path, site.kind) {
            all.push((site.path.to_string(), site.kind, size_of::<f32>() * site.weight.len()));
        }
    });
    let mut rest = &all[..];
    while !rest.is_empty() {
        let mut held = 0;
        let fit = rest.iter().take_while(|(.., size)| {
            held += size;
            held <= bytes
        });
        let group;
        (group, rest) = rest.split_at(fit.count().max(1));
        // The tensors that the model computes with, so that the tape finds them.
        let mut weights = BTreeMap::new();
        host.visit_sites(&mut |site| {
            if group.iter().any(|(path, ..)| path == site.path) {
                weights.insert(site.path.to_string(), site.weight.clone());
            }
        });
        let mut sum = None;
        for batch in 0..batches {
            let (_, grads) = grad(&weights, || loss(host, batch))?;
            match &mut sum {
                None => sum = Some(grads),
                Some(sum) => sum.accumulate(grads)?,
            }
        }
        let Some(sum) = sum else { continue };
        for (path, kind, _) in group {
            let mean = sum.get(path)?.mul_scalar(1.0 / batches as f64)?;
            each(path, &weights[path], *kind, &mean)?;
        }
    }
    Ok(())
}

/// When and how long [`attach_calibrated`] looks at gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calibration {
    /// Batches whose gradients are averaged.
    pub batches: usize,
    /// Gradients in memory at a time take no more bytes than these, or one of them does.
    pub bytes: usize,
}

impl Default for Calibration {
    /// The paper's eight batches; 64 MiB of gradients, which are one pass for a small model and a layer of a large one.
    fn default() -> Self {
        Self { batches: 8, bytes: 64 << 20 }
    }
}

/// Attaches any method; those that begin by the gradient get it from `loss`, called with the number of a batch. With the
/// other methods `loss` is not called.
///
/// # Errors
/// As [`gradients`] and [`attach`](super::attach).
pub fn attach_calibrated<H: Host>(
    host: &mut H,
    method: &Method,
    targets: &Targets,
    name: &str,
    seed: u64,
    calibration: Calibration,
    loss: &mut dyn FnMut(&H, usize) -> Result<Tensor>,
) -> Result<Report> {
    if !method.needs_gradient() {
        return manage::attach(host, method, targets, name, seed);
    }
    let mut adapters = BTreeMap::new();
    gradients(host, targets, calibration, loss, &mut |path, weight, kind, gradient| {
        adapters.insert(path.to_string(), method.adapter(path, weight, Some(gradient), kind, seed)?);
        Ok(())
    })?;
    manage::attach_with(host, targets, name, &mut |site| {
        adapters.remove(site.path).ok_or_else(|| Error::Internal(format!("no factors for {}", site.path)))
    })
}
