//! Layers described in TOML; their weights drawn, or read from a file of tensors.

use std::collections::BTreeSet;
use std::path::Path;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::ann::{Ann, Layer, Norm};
use crate::document;
use crate::error::{Error, Result};
use crate::rng::Stream;
use crate::tensor::{DType, Tensor, safetensors};

/// What an ordinary network is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Shape of a sample: `[features]` or `[channels, height, width]`.
    pub input: Vec<usize>,
    /// Layers from the input on.
    #[serde(rename = "layer")]
    pub layers: Vec<Spec>,
}

/// A layer. `name` is its path in a file of tensors; by default its number, as in PyTorch's `Sequential`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Spec {
    /// Convolution with square kernels.
    Conv2d {
        #[serde(default)]
        /// Path of its tensors.
        name: String,
        /// Channels of the output.
        outputs: usize,
        /// Side of the kernel.
        kernel: usize,
        #[serde(default = "one")]
        /// Step between outputs.
        stride: usize,
        #[serde(default)]
        /// Zeros on each side.
        padding: usize,
    },
    /// Fully connected.
    Linear {
        #[serde(default)]
        /// Path of its tensors.
        name: String,
        /// Features of the output.
        outputs: usize,
    },
    /// Batch normalisation.
    BatchNorm {
        #[serde(default)]
        /// Path of its tensors.
        name: String,
        #[serde(default = "epsilon")]
        /// ε
        epsilon: f64,
    },
    /// `max(0, x)`
    Relu,
    /// Quantisation clip-floor-shift with a trained threshold.
    Qcfs {
        #[serde(default)]
        /// Path of its threshold.
        name: String,
        #[serde(default = "levels")]
        /// L.
        levels: u32,
        #[serde(default = "theta")]
        /// Threshold before training.
        threshold: f32,
    },
    /// Mean over windows.
    AvgPool {
        /// Side of a window, and the step between two.
        side: usize,
    },
    /// Maximum over windows; can be converted behind the first convolution.
    MaxPool {
        /// Side of a window, and the step between two.
        side: usize,
    },
    /// `[channels, height, width]` to `[features]`.
    Flatten,
}

fn one() -> usize {
    1
}
fn epsilon() -> f64 {
    1e-5
}
fn levels() -> u32 {
    8
}
fn theta() -> f32 {
    4.0
}

impl std::str::FromStr for Description {
    type Err = Error;

    /// From TOML.
    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            |mistake: document::Mistake| Error::value("description of layers", mistake, "as documented");
        document::parse(text).map_err(wrong)
    }
}

impl Spec {
    fn name(&self, index: usize) -> String {
        match self {
            Self::Conv2d { name, .. }
            | Self::Linear { name, .. }
            | Self::BatchNorm { name, .. }
            | Self::Qcfs { name, .. }
                if !name.is_empty() =>
            {
                name.clone()
            }
            _ => index.to_string(),
        }
    }
}

impl Ann {
    /// A network with weights and biases uniform in ±√(6 / inputs) (He et al. 2015) and 0, each tensor from the stream
    /// `ann/<name>`.
    ///
    /// # Errors
    /// [`Error::Network`] naming a layer that does not fit the one before, or a name that is used twice.
    pub fn draw(description: &Description, seed: u64) -> Result<Self> {
        let weight = |name: &str, shape: &[usize]| {
            let mut walk = Stream::named(seed, &format!("ann/{name}")).walk(0);
            let inputs: usize = shape[1..].iter().product();
            let bound = (6.0 / inputs as f64).sqrt();
            let len = shape.iter().product();
            Tensor::from_f32(
                (0..len).map(|_| (bound * (2.0 * walk.random::<f64>() - 1.0)) as f32).collect(),
                shape,
            )
        };
        build(description, |name, what, shape| match what {
            "weight" if shape.len() > 1 => weight(name, shape),
            "weight" | "running_var" => Tensor::full(shape, 1.0, DType::F32),
            _ => Tensor::zeros(shape, DType::F32),
        })
    }

    /// A trained network: `<name>.weight`, `.bias`, `.running_mean`, `.running_var` and, for QCFS, `.theta`, as PyTorch
    /// names them. A bias that is not there is 0; a threshold that is not there is that of the description.
    ///
    /// # Errors
    /// What [`draw`](Self::draw) refuses; a tensor that is missing, of another shape, not finite, or that no layer takes.
    pub fn read(description: &Description, path: &Path) -> Result<Self> {
        let file = safetensors::File::open(path)?;
        let mut left: BTreeSet<String> = file.names().map(String::from).collect();
        // Counts batches; says nothing about the function.
        left.retain(|name| !name.ends_with(".num_batches_tracked"));
        let ann = build(description, |name, what, shape| {
            let full = format!("{name}.{what}");
            if !left.remove(&full) && (what == "bias" || what == "theta") {
                return Tensor::zeros(shape, DType::F32);
            }
            let tensor = file.tensor(&full)?.to_dtype(DType::F32)?;
            if tensor.shape() != shape {
                let what =
                    format!("tensor `{full}` is {:?}; the description makes it {shape:?}", tensor.shape());
                return Err(Error::data(path, what));
            }
            if tensor.to_f32()?.iter().any(|x| !x.is_finite()) {
                return Err(Error::data(path, format!("tensor `{full}` is not finite")));
            }
            Ok(tensor)
        })?;
        match left.first() {
            None => Ok(ann),
            Some(first) => {
                let what = format!("{} tensors belong to no layer, the first is `{first}`", left.len());
                Err(Error::data(path, what))
            }
        }
    }
}

/// Walks through the layers; `tensor(name, what, shape)` makes each parameter.
fn build(
    description: &Description,
    mut tensor: impl FnMut(&str, &str, &[usize]) -> Result<Tensor>,
) -> Result<Ann> {
    let mut shape = description.input.clone();
    if !matches!(shape.len(), 1 | 3) || shape.contains(&0) {
        return Err(Error::value(
            "input of the network",
            format!("{shape:?}"),
            "[features] or [channels, height, width]",
        ));
    }
    let (mut layers, mut names) = (Vec::new(), BTreeSet::new());
    for (i, spec) in description.layers.iter().enumerate() {
        let name = spec.name(i);
        let wrong = |what: String| Err(Error::Network(vec![format!("layer `{name}`: {what}")]));
        if !names.insert(name.clone()) {
            return wrong("there is another of that name".into());
        }
        let image = || match shape[..] {
            [c, h, w] => Ok([c, h, w]),
            _ => Err(Error::Network(vec![format!("layer `{name}`: it needs an image, not {shape:?}")])),
        };
        let pooled = |side: usize| {
            let [c, h, w] = image()?;
            match side > 0 && h >= side && w >= side {
                true => Ok(vec![c, h / side, w / side]),
                false => Err(Error::Network(vec![format!("layer `{name}`: windows of {side} in {h} × {w}")])),
            }
        };
        let layer = match *spec {
            Spec::Conv2d { outputs, kernel, stride, padding, .. } => {
                let [c, h, w] = image()?;
                let side = |side| crate::snn::Conv2d::side(side, kernel, stride, padding);
                let (Some(rows), Some(columns), true) = (side(h), side(w), outputs > 0) else {
                    return wrong(format!(
                        "kernel {kernel}, stride {stride}, padding {padding} in {h} × {w}"
                    ));
                };
                shape = vec![outputs, rows, columns];
                let weight = tensor(&name, "weight", &[outputs, c, kernel, kernel])?;
                Layer::Conv2d { weight, bias: tensor(&name, "bias", &[outputs])?, stride, padding }
            }
            Spec::Linear { outputs, .. } => {
                let &[inputs] = &shape[..] else {
                    return wrong(format!("it needs features, not {shape:?}; flatten them first"));
                };
                if outputs == 0 {
                    return wrong("it has no outputs".into());
                }
                shape = vec![outputs];
                let weight = tensor(&name, "weight", &[outputs, inputs])?;
                Layer::Linear { weight, bias: tensor(&name, "bias", &[outputs])? }
            }
            Spec::BatchNorm { epsilon, .. } => {
                let of = [shape[0]];
                Layer::BatchNorm(Norm {
                    weight: tensor(&name, "weight", &of)?,
                    bias: tensor(&name, "bias", &of)?,
                    mean: tensor(&name, "running_mean", &of)?,
                    variance: tensor(&name, "running_var", &of)?,
                    epsilon,
                })
            }
            Spec::Relu => Layer::Relu,
            Spec::Qcfs { levels, threshold, .. } => {
                let given = tensor(&name, "theta", &[1])?;
                let theta =
                    if given.to_scalar()? > 0.0 { given } else { Tensor::from_f32(vec![threshold], &[1])? };
                Layer::Qcfs { theta, levels }
            }
            Spec::AvgPool { side } => {
                shape = pooled(side)?;
                Layer::AvgPool { side, stride: side }
            }
            Spec::MaxPool { side } => {
                shape = pooled(side)?;
                Layer::MaxPool { side, stride: side }
            }
            Spec::Flatten => {
                shape = vec![shape.iter().product()];
                Layer::Flatten
            }
        };
        layers.push((name, layer));
    }
    Ok(Ann { input: description.input.clone(), layers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let wrong = |text: &str| match text.parse().and_then(|d| Ann::draw(&d, 0)) {
            Ok(_) => panic!("{text} was accepted"),
            Err(error) => error.to_string(),
        };
        let conv = "[[layer]]\nkind = \"conv2d\"\nname = \"c1\"\noutputs = 2\nkernel = 5\n";
        assert!(wrong(&format!("input = [1, 4, 4]\n{conv}")).contains("layer `c1`: kernel 5"));
        assert!(wrong(&format!("input = [16]\n{conv}")).contains("layer `c1`: it needs an image"));
        assert!(wrong(&format!("input = [1, 9, 9]\n{conv}{conv}")).contains("layer `c1`: there is another"));
        let linear = "[[layer]]\nkind = \"linear\"\noutputs = 2\n";
        assert!(wrong(&format!("input = [1, 9, 9]\n{linear}")).contains("layer `0`: it needs features"));
        assert!(wrong("input = [2, 3]\nlayer = []").contains("input of the network"));
        assert!(wrong("input = [2]\n[[layer]]\nkind = \"tanh\"").contains("tanh"));
    }
}
