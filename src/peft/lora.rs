//! LoRA (Hu et al., arXiv:2106.09685), rsLoRA (Kalajdzievski, arXiv:2312.03732) and DoRA (Liu et al., arXiv:2402.09353).
//!
//! `y = x Wᵀ + s (drop(x) Aᵀ) Bᵀ + b` with A `[r, in]`, B `[out, r]` and `s = α / r`, or `α / √r` with rsLoRA. B begins at
//! zero. DoRA trains the length m of each row as well: `y = (m / n) ⊙ (…) + b`, where n is the length of the rows of
//! `W + s B A`, whose dependence on A and B is left out of the gradient, as in the paper.

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use super::target::Overrides;
use super::{Below, Kind};
use crate::rng::Stream;
use crate::tensor::{Adaptation, DType, Tensor, Trainable};
use crate::{Error, Result};

/// How A begins; B is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Uniform in ±1/√in, as Hugging Face's `true`. In an embedding: A zero, B normal.
    #[default]
    Kaiming,
    /// Normal with deviation 1/r, as Hugging Face's `"gaussian"`.
    Gaussian,
}

/// Settings of LoRA.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    /// r.
    pub rank: usize,
    /// α.
    pub alpha: f64,
    /// Probability that an input of A is dropped in training.
    pub dropout: f64,
    /// Whether `s = α / √r` (rsLoRA) and not `α / r`.
    pub rank_stabilised: bool,
    /// Whether the lengths of rows are trained as well (DoRA).
    pub magnitude: bool,
    /// How A begins.
    pub start: Start,
    /// Other ranks where a pattern matches.
    pub rank_pattern: Overrides<usize>,
    /// Other α where a pattern matches.
    pub alpha_pattern: Overrides<f64>,
}

impl Default for Lora {
    /// Hugging Face's: r 8, α 8.
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 8.0,
            dropout: 0.0,
            rank_stabilised: false,
            magnitude: false,
            start: Start::Kaiming,
            rank_pattern: Overrides::default(),
            alpha_pattern: Overrides::default(),
        }
    }
}

impl Lora {
    /// r and s of the map at a path.
    ///
    /// # Errors
    /// A rank of 0, an α or a dropout that makes no sense.
    pub fn rank_and_scaling(&self, path: &str) -> Result<(usize, f64)> {
        let rank = *self.rank_pattern.get(path).unwrap_or(&self.rank);
        let alpha = *self.alpha_pattern.get(path).unwrap_or(&self.alpha);
        if rank == 0 {
            return Err(Error::value(format!("the rank of `{path}`"), rank, "at least 1"));
        }
        if !alpha.is_finite() {
            return Err(Error::value(format!("alpha of `{path}`"), alpha, "a number"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::value("the dropout of LoRA", self.dropout, "at least 0 and below 1"));
        }
        let divisor = if self.rank_stabilised { (rank as f64).sqrt() } else { rank as f64 };
        Ok((rank, alpha / divisor))
    }

    /// A new adapter for a map.
    ///
    /// # Errors
    /// A rank above what the map has; DoRA on an embedding.
    pub fn adapter(&self, path: &str, weight: &Tensor, kind: Kind, seed: u64) -> Result<LoraAdapter> {
        let (rank, scaling) = self.rank_and_scaling(path)?;
        let (out, inputs) = ends(weight, kind)?;
        if rank > out.max(inputs) {
            let most = format!("at most {}, the larger side of the weight", out.max(inputs));
            return Err(Error::value(format!("the rank of `{path}`"), rank, most));
        }
        let embedding = kind == Kind::Embedding;
        if embedding && self.magnitude {
            return Err(Error::Unsupported { op: "DoRA", on: format!("on the embedding `{path}`") });
        }
        let dtype = adapter_dtype(weight);
        let mut walk = Stream::named(seed, &format!("peft/{path}/lora")).walk(0);
        let count = |shape: [usize; 2]| shape[0] * shape[1];
        let (a_shape, b_shape) = ([rank, inputs], [out, rank]);
        let normal = |shape: [usize; 2], deviation: f64, walk: &mut crate::rng::Walk| {
            let draw = |_| deviation * <StandardNormal as Distribution<f64>>::sample(&StandardNormal, walk);
            Tensor::from_f64((0..count(shape)).map(draw).collect(), &shape)?.to_dtype(dtype)
        };
        let (a, b) = match (self.start, embedding) {
            (Start::Kaiming, false) => {
                let bound = 1.0 / (inputs as f64).sqrt();
                let draw = |_| bound * (2.0 * walk.random::<f64>() - 1.0);
                let a = Tensor::from_f64((0..count(a_shape)).map(draw).collect(), &a_shape)?;
                (a.to_dtype(dtype)?, Tensor::zeros(&b_shape, dtype)?)
            }
            (Start::Gaussian, false) => {
                (normal(a_shape, 1.0 / rank as f64, &mut walk)?, Tensor::zeros(&b_shape, dtype)?)
            }
            (_, true) => (Tensor::zeros(&a_shape, dtype)?, normal(b_shape, 1.0, &mut walk)?),
        };
        let mut adapter =
            LoraAdapter { a, b, scaling, dropout: self.dropout, magnitude: None, begun: None, embedding };
        if self.magnitude {
            adapter.magnitude = Some(adapter.row_lengths(weight)?);
        }
        Ok(adapter)
    }
}

/// The kind of number that adapters are trained in on top of a weight: f64 on f64, else f32.
pub(super) fn adapter_dtype(weight: &Tensor) -> DType {
    if weight.dtype() == DType::F64 { DType::F64 } else { DType::F32 }
}

/// Outputs and inputs of a map; of an embedding width and entries.
pub(super) fn ends(weight: &Tensor, kind: Kind) -> Result<(usize, usize)> {
    match (weight.shape(), kind) {
        (&[entries, width], Kind::Embedding) => Ok((width, entries)),
        (&[out, inputs], _) => Ok((out, inputs)),
        (other, _) => Err(Error::value("the shape of a weight", format!("{other:?}"), "[out, in]")),
    }
}

/// Names of A₀ and B₀ in files.
pub(super) const BEGUN: [&str; 2] = ["lora_A_start.weight", "lora_B_start.weight"];

/// A tensor that is found under a name, refused where it is not like the one that is there.
pub(super) fn like(
    name: &str,
    there: &Tensor,
    find: &mut dyn FnMut(&str) -> Result<Tensor>,
) -> Result<Tensor> {
    let found = find(name)?;
    match found.meta() == there.meta() {
        true => Ok(found),
        false => Err(Error::value(
            format!("the shape of `{name}`"),
            format!("{:?}", found.shape()),
            format!("{:?}", there.shape()),
        )),
    }
}

/// LoRA on one map.
#[derive(Clone, Debug)]
pub struct LoraAdapter {
    /// A `[r, in]`; of an embedding `[r, entries]`.
    pub a: Tensor,
    /// B `[out, r]`; of an embedding `[width, r]`.
    pub b: Tensor,
    /// s.
    pub scaling: f64,
    /// Probability that an input of A is dropped in training.
    pub dropout: f64,
    /// m `[out]` of DoRA.
    pub magnitude: Option<Tensor>,
    /// A₀ and B₀, where the adapter does not begin at zero (LoRA-GA): `s B₀ A₀` is subtracted from the weight.
    pub begun: Option<(Tensor, Tensor)>,
    /// Whether the map is an embedding.
    pub embedding: bool,
}

impl LoraAdapter {
    /// A and B with what they began with taken off: `[A; A₀]` and `[B, −B₀]`, twice the rank.
    pub fn factors(&self) -> Result<(Tensor, Tensor)> {
        match &self.begun {
            None => Ok((self.a.clone(), self.b.clone())),
            Some((a, b)) => {
                // At the start they are the very tensors that are trained: no gradient must pass through the fixed ones.
                let (a, b) = (a.detach()?, b.detach()?.neg()?);
                Ok((Tensor::concat(&[&self.a, &a], 0)?, Tensor::concat(&[&self.b, &b], 1)?))
            }
        }
    }

    /// `s (B A − B₀ A₀)`, `[out, in]`.
    pub fn delta(&self) -> Result<Tensor> {
        let (a, b) = self.factors()?;
        b.mul_scalar(self.scaling)?.matmul(&a)
    }

    pub(super) fn forward(&self, x: &Tensor, below: &Below<'_>, bias: Option<&Tensor>) -> Result<Tensor> {
        let dropout = below.dropout().filter(|_| self.dropout > 0.0);
        if let (Some(weight), None) = (below.base(), dropout) {
            let (a, b) = self.factors()?;
            let scale = self.magnitude_scale(weight)?;
            let low_rank = Some((&a, &b, self.scaling));
            return x.adapted_linear(weight, Adaptation { low_rank, scale: scale.as_ref(), bias });
        }
        let dropped = match dropout {
            Some((stream, call)) => x.dropout(self.dropout, &stream, call)?,
            None => x.clone(),
        };
        // What a base of its own begins with is taken off undropped, so that dropout leaves that base alone.
        let added = dropped.matmul_nt(&self.a)?.matmul_nt(&self.b)?;
        let added = match &self.begun {
            Some((a, b)) => added.sub(&x.matmul_nt(&a.detach()?)?.matmul_nt(&b.detach()?)?)?,
            None => added,
        };
        let y = below.apply(x)?.add(&added.mul_scalar(self.scaling)?)?;
        let y = match self.magnitude {
            Some(_) => {
                let scale = self.magnitude_scale(&below.weight()?.detach()?)?;
                scale.map_or(Ok(y.clone()), |scale| y.mul(&scale))?
            }
            None => y,
        };
        bias.map_or(Ok(y.clone()), |bias| y.add(bias))
    }

    pub(super) fn lookup(&self, ids: &Tensor, below: &Below<'_>) -> Result<Tensor> {
        let added = self.a.transpose(0, 1)?.embedding(ids)?.matmul_nt(&self.b)?;
        below.lookup(ids)?.add(&added.mul_scalar(self.scaling)?)
    }

    /// m / n of DoRA.
    fn magnitude_scale(&self, weight: &Tensor) -> Result<Option<Tensor>> {
        let Some(magnitude) = &self.magnitude else { return Ok(None) };
        magnitude.div(&self.row_lengths(weight)?).map(Some)
    }

    /// ‖row‖ of `W + s B A`, without its gradient.
    fn row_lengths(&self, weight: &Tensor) -> Result<Tensor> {
        let (a, b) = self.factors()?;
        let (sum, _) = weight.to_dtype(self.a.dtype())?.plus_product(&b, &a, self.scaling)?;
        sum.mul(&sum)?.sum(&[1])?.sqrt()
    }

    pub(super) fn merged(&self, weight: &Tensor) -> Result<Tensor> {
        self.sum(weight).map(|(sum, _)| sum)
    }

    /// The merged weight, and whether all of it is finite where that is known.
    pub(super) fn sum(&self, weight: &Tensor) -> Result<(Tensor, Option<bool>)> {
        let (a, b) = self.factors()?;
        let wide = weight.to_dtype(self.a.dtype())?;
        let (sum, finite) = match self.embedding {
            true => wide.plus_product(&a.transpose(0, 1)?, &b.transpose(0, 1)?, self.scaling)?,
            false => wide.plus_product(&b, &a, self.scaling)?,
        };
        match self.magnitude_scale(&wide)? {
            // What was finite may overflow when it is scaled, or in fewer bits.
            Some(scale) => Ok((sum.mul(&scale.reshape(&[scale.len(), 1])?)?.to_dtype(weight.dtype())?, None)),
            None if sum.dtype() != weight.dtype() => Ok((sum.to_dtype(weight.dtype())?, None)),
            None => Ok((sum, finite)),
        }
    }

    /// Where the adapter began; see [`Adapter::memory`](super::Adapter::memory).
    pub(super) fn memory(&self, f: &mut dyn FnMut(&str, &Tensor)) {
        if let Some((a, b)) = &self.begun {
            f(BEGUN[0], a);
            f(BEGUN[1], b);
        }
    }

    pub(super) fn remember(&mut self, find: &mut dyn FnMut(&str) -> Result<Tensor>) -> Result<()> {
        if let Some((a, b)) = &mut self.begun {
            *a = like(BEGUN[0], a, find)?;
            *b = like(BEGUN[1], b, find)?;
        }
        Ok(())
    }

    /// Names of A and B in Hugging Face's files.
    fn names(&self) -> [&'static str; 2] {
        match self.embedding {
            true => ["lora_embedding_A", "lora_embedding_B"],
            false => ["lora_A.weight", "lora_B.weight"],
        }
    }
}

impl Trainable for LoraAdapter {
    fn visit(&self, f: &mut dyn FnMut(&str, &Tensor)) {
        let [a, b] = self.names();
        f(a, &self.a);
        f(b, &self.b);
        self.magnitude.iter().for_each(|m| f("lora_magnitude_vector", m));
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, &mut Tensor)) {
        let [a, b] = self.names();
        f(a, &mut self.a);
        f(b, &mut self.b);
        self.magnitude.iter_mut().for_each(|m| f("lora_magnitude_vector", m));
    }
}
