//! BOFT: orthogonal fine-tuning by butterfly factors (Liu et al., arXiv:2311.06243); with one factor, OFT (Qiu et al.,
//! arXiv:2306.07280).
//!
//! `y = s ⊙ ((x R) Wᵀ) + b`, where R = B_{m−1} ⋯ B_0 is a product of m permuted block-diagonal rotations of b × b blocks,
//! each the Cayley transform of free numbers, and s is a factor for each output. Merged: `s ⊙ (W Rᵀ)`.
//!
//! R is never written out. Either the T rows of x are rotated (`T · n · b · m` multiplications, three times that with
//! their gradients), or the rows of W once (`out · n · b · m`), which in training costs another product for the gradient
//! of the rotated weight, `T · out · n`. The cheaper one is taken: W is rotated iff `3 b m (T − out) > T · out`, which
//! only large blocks ever satisfy.

use super::lora::adapter_dtype;
use super::{Below, Kind};
use crate::rng::Stream;
use crate::tensor::{Adaptation, DType, Meta, Tensor, Trainable};
use crate::{Error, Result};
use rand::RngExt;

/// How the inputs of a map are cut into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// Blocks of this size.
    Size(usize),
    /// This many blocks.
    Count(usize),
}

/// Settings of BOFT.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Boft {
    /// Blocks.
    pub blocks: Blocks,
    /// m, the number of butterfly factors.
    pub factors: usize,
    /// Share of the blocks of one factor, drawn in each step, that are left out in training.
    pub dropout: f64,
}

impl Default for Boft {
    /// Hugging Face's: blocks of 4, one factor.
    fn default() -> Self {
        Self { blocks: Blocks::Size(4), factors: 1, dropout: 0.0 }
    }
}

impl Boft {
    /// `[m, blocks, b, b]` for a map with so many inputs.
    ///
    /// # Errors
    /// Blocks that do not divide the inputs; with more than one factor, an odd block size, or a number of blocks that
    /// 2^(m−1) does not divide.
    pub fn shape(&self, path: &str, inputs: usize) -> Result<[usize; 4]> {
        let what = |name: &str| format!("the {name} of BOFT on `{path}`, which has {inputs} inputs,");
        let (blocks, size) = match self.blocks {
            Blocks::Size(size) if size > 0 && inputs.is_multiple_of(size) => (inputs / size, size),
            Blocks::Count(count) if count > 0 && inputs.is_multiple_of(count) => (count, inputs / count),
            Blocks::Size(size) => {
                return Err(Error::value(what("block size"), size, "a divisor of the inputs"));
            }
            Blocks::Count(count) => {
                return Err(Error::value(what("number of blocks"), count, "a divisor of the inputs"));
            }
        };
        let group =
            u32::try_from(self.factors).ok().filter(|&m| m > 0).and_then(|m| 1usize.checked_shl(m - 1));
        let fits = group.is_some_and(|group| blocks.is_multiple_of(group))
            && (self.factors == 1 || size.is_multiple_of(2));
        if !fits {
            let expected = format!(
                "at least 1, above 1 only with an even block size (it is {size}) and 2^(factors − 1) a divisor of the number of blocks ({blocks})"
            );
            return Err(Error::value(what("number of factors"), self.factors, expected));
        }
        Ok([self.factors, blocks, size, size])
    }

    /// A new adapter for a map: R = I, s = 1.
    ///
    /// # Errors
    /// As [`shape`](Self::shape); an embedding; a dropout outside 0 ≤ p < 1.
    pub fn adapter(&self, path: &str, weight: &Tensor, kind: Kind) -> Result<BoftAdapter> {
        let (&[out, inputs], false) = (weight.shape(), kind == Kind::Embedding) else {
            return Err(Error::Unsupported { op: "BOFT", on: format!("on `{path}`: it needs a linear map") });
        };
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::value("the dropout of BOFT", self.dropout, "at least 0 and below 1"));
        }
        let dtype = adapter_dtype(weight);
        let r = Tensor::zeros(&self.shape(path, inputs)?, dtype)?;
        Ok(BoftAdapter { r, s: Tensor::full(&[out, 1], 1.0, dtype)?, dropout: self.dropout })
    }
}

/// BOFT on one map.
#[derive(Clone, Debug)]
pub struct BoftAdapter {
    /// R `[m, blocks, b, b]`, free numbers of which the skew part counts.
    pub r: Tensor,
    /// s `[out, 1]`.
    pub s: Tensor,
    /// Share of the blocks of one factor that are left out in training.
    pub dropout: f64,
}

impl BoftAdapter {
    /// The rotations of all blocks, `[m, blocks, b, b]`.
    pub fn rotations(&self) -> Result<Tensor> {
        self.r.cayley()
    }

    /// The rotations in training: some blocks of one factor stay where they are.
    fn dropped(&self, dropout: Option<(Stream, u64)>) -> Result<Tensor> {
        let Some((stream, call)) = dropout.filter(|_| self.dropout > 0.0) else { return self.rotations() };
        let (&[factors, blocks, b, _], mut walk) = (self.r.shape(), stream.walk(call)) else {
            return Err(Error::Internal("R of BOFT has four axes".into()));
        };
        // The first of a shuffled list of blocks.
        let factor = walk.random_range(0..factors);
        let mut order: Vec<usize> = (0..blocks).collect();
        let count = (self.dropout * blocks as f64) as usize;
        for i in 0..count {
            order.swap(i, walk.random_range(i..blocks));
        }
        let mut keep = vec![1.0; factors * blocks];
        order[..count].iter().for_each(|&block| keep[factor * blocks + block] = 0.0);
        let dtype = self.r.dtype();
        let device = self.r.device();
        let keep = Tensor::from_f64(keep, &[factors, blocks, 1, 1])?.to_dtype(dtype)?.to_device(device)?;
        let identity = Tensor::full_on(&Meta::new([b, b], dtype), 0.0, device)?.cayley()?;
        let left_out = identity.mul(&keep.affine(-1.0, 1.0)?)?;
        self.rotations()?.mul(&keep)?.add(&left_out)
    }

    pub(super) fn forward(&self, x: &Tensor, below: &Below<'_>, bias: Option<&Tensor>) -> Result<Tensor> {
        self.forward_with(x, below, None, bias)
    }

    /// With a product of low rank beside the weight below, as the hybrid has it.
    pub(super) fn forward_with(
        &self,
        x: &Tensor,
        below: &Below<'_>,
        low_rank: Option<(&Tensor, &Tensor, f64)>,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        let rotations = self.dropped(below.dropout())?;
        let scale = self.s.reshape(&[self.s.len()])?;
        let (out, inputs, size) = (self.s.len(), x.shape().last().copied().unwrap_or(0), self.r.shape());
        let rows = x.len() / inputs.max(1);
        if let (Some(weight), None, true) = (below.base(), low_rank, weight_side(rows, out, size[0], size[2]))
        {
            let turned = compute(weight, self.r.dtype())?.butterfly_transposed(&rotations)?.mul(&self.s)?;
            return x.adapted_linear(&turned, Adaptation { bias, ..Adaptation::default() });
        }
        let z = x.butterfly(&rotations)?;
        if let Some(weight) = below.base() {
            return z.adapted_linear(weight, Adaptation { low_rank, scale: Some(&scale), bias });
        }
        let y = below.apply(&z)?;
        let y = match low_rank {
            Some((a, b, factor)) => y.add(&z.matmul_nt(a)?.matmul_nt(b)?.mul_scalar(factor)?)?,
            None => y,
        };
        let y = y.mul(&scale)?;
        bias.map_or(Ok(y.clone()), |bias| y.add(bias))
    }

    pub(super) fn merged(&self, weight: &Tensor) -> Result<Tensor> {
        let turned =
            compute(weight, self.r.dtype())?.butterfly_transposed(&self.rotations()?)?.mul(&self.s)?;
        turned.to_dtype(weight.dtype())
    }
}

/// Whether rotating the weight costs less than rotating the inputs, gradients included.
fn weight_side(rows: usize, out: usize, factors: usize, b: usize) -> bool {
    let (rows, out) = (rows as f64, out as f64);
    3.0 * (b * factors) as f64 * (rows - out) > rows * out
}

/// A weight in the kind of number that adapters compute in.
fn compute(weight: &Tensor, dtype: DType) -> Result<Tensor> {
    if weight.dtype() == dtype { Ok(weight.clone()) } else { weight.to_dtype(dtype) }
}

impl Trainable for BoftAdapter {
    fn visit(&self, f: &mut dyn FnMut(&str, &Tensor)) {
        f("boft_R", &self.r);
        f("boft_s", &self.s);
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, &mut Tensor)) {
        f("boft_R", &mut self.r);
        f("boft_s", &mut self.s);
    }
}
