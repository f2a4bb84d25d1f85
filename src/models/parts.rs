//! The layers of a model as a list, from which names, parameters, sites for adapters and files follow; and how a layer
//! comes from a file or from random numbers.

use rand::RngExt;

use super::weights::Weights;
use crate::Result;
use crate::nn::{Embedding, Linear, Norm};
use crate::peft::{Kind, Site, Slot};
use crate::rng::Stream;
use crate::tensor::{DType, Tensor};

/// A layer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part<'a> {
    Linear(&'a Linear),
    /// `[in, out]` in files.
    Conv1D(&'a Linear),
    Embedding(&'a Embedding),
    Norm(&'a Norm),
}

/// A layer, lent.
#[derive(Debug)]
pub(crate) enum PartMut<'a> {
    Linear(&'a mut Linear),
    Conv1D(&'a mut Linear),
    Embedding(&'a mut Embedding),
    Norm(&'a mut Norm),
}

impl<'a> Part<'a> {
    pub fn weight(self) -> &'a Tensor {
        match self {
            Self::Linear(part) | Self::Conv1D(part) => &part.weight,
            Self::Embedding(part) => &part.weight,
            Self::Norm(part) => &part.weight,
        }
    }

    pub fn bias(self) -> Option<&'a Tensor> {
        match self {
            Self::Linear(part) | Self::Conv1D(part) => part.bias.as_ref(),
            Self::Embedding(_) => None,
            Self::Norm(part) => part.bias.as_ref(),
        }
    }

    pub fn slot(self) -> Option<&'a Slot> {
        match self {
            Self::Linear(part) | Self::Conv1D(part) => Some(&part.slot),
            Self::Embedding(part) => Some(&part.slot),
            Self::Norm(_) => None,
        }
    }
}

impl<'a> PartMut<'a> {
    /// Weight and bias.
    pub fn tensors(self) -> (&'a mut Tensor, Option<&'a mut Tensor>) {
        match self {
            Self::Linear(part) | Self::Conv1D(part) => (&mut part.weight, part.bias.as_mut()),
            Self::Embedding(part) => (&mut part.weight, None),
            Self::Norm(part) => (&mut part.weight, part.bias.as_mut()),
        }
    }

    pub fn slot(self) -> Option<&'a mut Slot> {
        match self {
            Self::Linear(part) | Self::Conv1D(part) => Some(&mut part.slot),
            Self::Embedding(part) => Some(&mut part.slot),
            Self::Norm(_) => None,
        }
    }

    /// As a site for adapters; a norm is none.
    pub fn site(self, path: &'a str) -> Option<Site<'a>> {
        let (part, kind) = match self {
            Self::Linear(part) => (part, Kind::Linear),
            Self::Conv1D(part) => (part, Kind::Conv1D),
            Self::Embedding(Embedding { weight, slot, .. }) => {
                return Some(Site { path, weight, bias: None, slot, kind: Kind::Embedding });
            }
            Self::Norm(_) => return None,
        };
        let Linear { weight, bias, slot } = part;
        Some(Site { path, weight, bias: bias.as_mut(), slot, kind })
    }
}

/// Where layers come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    /// A file, whose names begin with `prefix` where ours do with `ours`.
    File { weights: &'a Weights, ours: &'static str, prefix: &'static str },
    /// Random numbers: normal with a standard deviation for matrices, zero biases, norms that change nothing.
    Random { seed: u64, deviation: f64 },
}

/// Makes layers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maker<'a> {
    pub source: Source<'a>,
    /// What matrices are stored as; everything else is f32.
    pub dtype: DType,
}

impl Maker<'_> {
    fn tensor(&self, name: &str, shape: &[usize], fill: Option<f64>) -> Result<Tensor> {
        match (self.source, fill) {
            (Source::File { weights, ours, prefix }, _) => {
                let theirs = match name.strip_prefix(ours) {
                    Some(rest) => format!("{prefix}{rest}"),
                    None => name.to_string(),
                };
                weights.tensor(&theirs, shape)
            }
            (Source::Random { .. }, Some(value)) => Tensor::full(shape, value, DType::F32),
            (Source::Random { seed, deviation }, None) => normal(seed, name, shape, deviation),
        }
    }

    pub fn linear(&self, path: &str, [out, input]: [usize; 2], bias: bool) -> Result<Linear> {
        let weight = self.tensor(&format!("{path}.weight"), &[out, input], None)?.to_dtype(self.dtype)?;
        self.with_bias(path, weight, bias)
    }

    /// Stored `[in, out]`.
    pub fn conv1d(&self, path: &str, [out, input]: [usize; 2]) -> Result<Linear> {
        let weight = self.tensor(&format!("{path}.weight"), &[input, out], None)?;
        self.with_bias(path, weight.transpose(0, 1)?.to_dtype(self.dtype)?, true)
    }

    fn with_bias(&self, path: &str, weight: Tensor, bias: bool) -> Result<Linear> {
        let out = weight.shape()[0];
        let bias = bias.then(|| self.vector(&format!("{path}.bias"), out, 0.0)).transpose()?;
        Ok(Linear { weight, bias, slot: Slot::default() })
    }

    pub fn embedding(&self, path: &str, shape: [usize; 2]) -> Result<Embedding> {
        let weight = self.tensor(&format!("{path}.weight"), &shape, None)?.to_dtype(self.dtype)?;
        Ok(Embedding { weight, slot: Slot::default(), padding: None })
    }

    pub fn norm(&self, path: &str, width: usize, bias: bool, epsilon: f64) -> Result<Norm> {
        let weight = self.vector(&format!("{path}.weight"), width, 1.0)?;
        let bias = bias.then(|| self.vector(&format!("{path}.bias"), width, 0.0)).transpose()?;
        Ok(Norm { weight, bias, epsilon })
    }

    fn vector(&self, name: &str, width: usize, fill: f64) -> Result<Tensor> {
        self.tensor(name, &[width], Some(fill))?.to_dtype(DType::F32)
    }
}

fn normal(seed: u64, name: &str, shape: &[usize], deviation: f64) -> Result<Tensor> {
    let mut walk = Stream::named(seed, &format!("model/{name}")).walk(0);
    let standard = rand_distr::StandardNormal;
    let values =
        (0..shape.iter().product()).map(|_| (deviation * walk.sample::<f64, _>(standard)) as f32).collect();
    Tensor::from_f32(values, shape)
}
