//! The weights of a projection as tensors: frozen ones, and those that learn.

use std::collections::BTreeMap;

use super::sparse::Sparse;
use super::{bias_path, weights_path};
use crate::snn::{Projection, Values, Weights};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Weights `[sources, targets]`, scale and bias `[targets]` of a projection that is not trained:
/// `current = sum · scale + bias`, as in the engine; of a convolution before the largest currents are taken.
#[derive(Clone, Debug)]
pub(super) struct Frozen {
    /// Of a convolution `[outputs, inputs, k, k]`.
    pub weights: Tensor,
    pub scale: Tensor,
    pub bias: Tensor,
}

impl Frozen {
    pub fn of(p: &Projection, targets: usize) -> Result<Self> {
        let targets = match &p.weights {
            Weights::Conv2d { geometry, .. } => geometry.currents().iter().product(),
            _ => targets,
        };
        let (values, quantum) = match p.weights.values() {
            Values::F32(values) => (values.clone(), vec![1.0]),
            Values::Int8 { quanta, scale } => (quanta.iter().map(|&q| f32::from(q)).collect(), scale.clone()),
        };
        let (sources, weights) = match &p.weights {
            Weights::Dense { sources, .. } => (*sources, values),
            Weights::Sparse { offsets, targets: to, .. } => {
                let sources = offsets.len() - 1;
                let mut dense = vec![0.0; sources * targets];
                for source in 0..sources {
                    for i in offsets[source]..offsets[source + 1] {
                        dense[source * targets + to[i] as usize] += values[i];
                    }
                }
                (sources, dense)
            }
            Weights::Conv2d { .. } => (0, values),
        };
        let spread = |given: &[f32], default: f32| -> Result<Vec<f32>> {
            match given.len() {
                0 => Ok(vec![default; targets]),
                1 => Ok(vec![given[0]; targets]),
                // One per target, or one per channel of targets.
                n if targets.is_multiple_of(n) => {
                    Ok((0..targets).map(|i| given[i / (targets / n)]).collect())
                }
                n => Err(Error::Network(vec![format!("`{}`: {n} numbers for {targets} targets", p.name)])),
            }
        };
        let (gain, quantum, bias) = (spread(&p.gain, 1.0)?, spread(&quantum, 1.0)?, spread(&p.bias, 0.0)?);
        let times = |values: Vec<f32>| values.into_iter().zip(&gain).map(|(a, g)| a * g).collect();
        let shape = match &p.weights {
            Weights::Conv2d { .. } => p.weights.shape(),
            _ => vec![sources, targets],
        };
        Ok(Self {
            weights: Tensor::from_f32(weights, &shape)?,
            scale: Tensor::from_f32(times(quantum), &[targets])?,
            bias: Tensor::from_f32(times(bias), &[targets])?,
        })
    }
}

/// Adds the parameters of a trained projection, its gain included; says where its synapses are, where they are not all.
pub(super) fn trained(
    p: &Projection,
    targets: usize,
    parameters: &mut BTreeMap<String, Tensor>,
) -> Result<Option<Sparse>> {
    let refuse = |what: &str| {
        let on = format!("on `{}`: its {what}", p.name);
        Err(Error::Unsupported { op: "training by surrogate gradients", on })
    };
    let Values::F32(values) = p.weights.values() else {
        return refuse("weights are 8-bit integers; write `precision = \"f32\"`");
    };
    // Channels of a convolution, else targets, and which of them each weight belongs to.
    let (channels, channel): (usize, Box<dyn Fn(usize) -> usize>) = match &p.weights {
        &Weights::Dense { targets, .. } => (targets, Box::new(move |i| i % targets)),
        Weights::Conv2d { geometry: g, .. } => {
            let taps = g.input[0] * g.kernel * g.kernel;
            (g.output[0], Box::new(move |i| i / taps))
        }
        Weights::Sparse { targets: to, .. } => (targets, Box::new(|i| to[i] as usize)),
    };
    let gain = |i: usize| match p.gain.len() {
        0 => 1.0,
        1 => p.gain[0],
        n => p.gain[i * n / channels],
    };
    let weights: Vec<f32> = values.iter().enumerate().map(|(i, w)| w * gain(channel(i))).collect();
    let (sparse, weights) = match &p.weights {
        Weights::Sparse { offsets, targets: to, .. } => {
            let (sparse, weights) = Sparse::new(offsets, to, &weights, targets)?;
            (Some(sparse), weights)
        }
        _ => (None, Tensor::from_f32(weights, &p.weights.shape())?),
    };
    parameters.insert(weights_path(&p.name), weights);
    if !p.bias.is_empty() && p.bias.len() != channels {
        return Err(Error::Network(vec![format!(
            "`{}`: {} biases for {channels} of {targets} targets",
            p.name,
            p.bias.len()
        )]));
    }
    if !p.bias.is_empty() {
        let bias = p.bias.iter().enumerate().map(|(i, b)| b * gain(i)).collect();
        parameters.insert(bias_path(&p.name), Tensor::from_f32(bias, &[channels])?);
    }
    Ok(sparse)
}
