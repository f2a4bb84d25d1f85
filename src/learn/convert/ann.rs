//! An ordinary feed-forward network: layers one after another.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::tensor::{Tensor, Trainable};

/// A feed-forward network.
#[derive(Clone, Debug)]
pub struct Ann {
    /// Shape of a sample: `[features]` or `[channels, height, width]`.
    pub input: Vec<usize>,
    /// Layers with their names, which are unique.
    pub layers: Vec<(String, Layer)>,
}

/// A layer. Tensors are laid out as PyTorch's.
#[derive(Clone, Debug)]
pub enum Layer {
    /// Cross-correlation.
    Conv2d {
        /// `[outputs, channels, kernel, kernel]`
        weight: Tensor,
        /// `[outputs]`
        bias: Tensor,
        /// Step between outputs.
        stride: usize,
        /// Zeros on each side.
        padding: usize,
    },
    /// `y = x Wᵀ + b`
    Linear {
        /// `[outputs, inputs]`
        weight: Tensor,
        /// `[outputs]`
        bias: Tensor,
    },
    /// Batch normalisation of each channel or feature.
    BatchNorm(Norm),
    /// `max(0, x)`
    Relu,
    /// [`Tensor::qcfs`].
    Qcfs {
        /// θ, `[1]`, trained.
        theta: Tensor,
        /// L.
        levels: u32,
    },
    /// Mean over windows.
    AvgPool {
        /// Side of a window.
        side: usize,
        /// Step between windows.
        stride: usize,
    },
    /// Maximum over windows; can be converted behind the first convolution.
    MaxPool {
        /// Side of a window.
        side: usize,
        /// Step between windows.
        stride: usize,
    },
    /// `[channels, height, width]` to `[features]`.
    Flatten,
}

/// Parameters and running statistics of batch normalisation, `[channels]` each.
#[derive(Clone, Debug)]
pub struct Norm {
    /// γ
    pub weight: Tensor,
    /// β
    pub bias: Tensor,
    /// Running mean.
    pub mean: Tensor,
    /// Running variance.
    pub variance: Tensor,
    /// ε
    pub epsilon: f64,
}

/// Share that the statistics of a batch have in the running ones (PyTorch's default).
const MOMENTUM: f64 = 0.1;

impl Layer {
    /// Whether neurons will stand for its output.
    pub fn is_activation(&self) -> bool {
        matches!(self, Self::Relu | Self::Qcfs { .. })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Conv2d { weight, bias, stride, padding } => x.conv2d(weight, Some(bias), *stride, *padding),
            Self::Linear { weight, bias } => x.matmul_nt(weight)?.add(bias),
            Self::BatchNorm(n) => x.batch_norm_with(&n.mean, &n.variance, &n.weight, &n.bias, n.epsilon),
            Self::Relu => x.relu(),
            Self::Qcfs { theta, levels } => x.qcfs(theta, *levels),
            Self::AvgPool { side, stride } => x.avg_pool2d(*side, *stride),
            Self::MaxPool { side, stride } => x.max_pool2d(*side, *stride),
            Self::Flatten => {
                let samples = x.shape().first().copied().unwrap_or(0);
                x.reshape(&[samples, x.shape().iter().skip(1).product()])
            }
        }
    }
}

impl Ann {
    /// Logits `[samples, classes]` of `[samples, ..input]`, with the running statistics.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(x.clone(), |x, (_, layer)| layer.forward(&x))
    }

    /// Outputs of the activations in order, then the logits.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn activations(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let (mut x, mut found) = (x.clone(), Vec::new());
        for (_, layer) in &self.layers {
            x = layer.forward(&x)?;
            if layer.is_activation() {
                found.push(x.clone());
            }
        }
        found.push(x);
        Ok(found)
    }

    /// Logits with the statistics of the batch, and these statistics by layer.
    pub(super) fn forward_training(
        &self,
        x: &Tensor,
        statistics: &RefCell<Vec<(usize, Tensor, Tensor)>>,
    ) -> Result<Tensor> {
        let mut x = x.clone();
        for (i, (_, layer)) in self.layers.iter().enumerate() {
            x = match layer {
                Layer::BatchNorm(n) => {
                    let [y, mean, variance] = x.batch_norm(&n.weight, &n.bias, n.epsilon)?;
                    // The running variance is the unbiased one, as in PyTorch.
                    let count = (x.len() / mean.len()) as f64;
                    let unbiased = variance.mul_scalar(count / (count - 1.0).max(1.0))?;
                    statistics.borrow_mut().push((i, mean.detach()?, unbiased.detach()?));
                    y
                }
                layer => layer.forward(&x)?,
            };
        }
        Ok(x)
    }

    /// Moves the running statistics towards those of a batch.
    pub(super) fn take_statistics(&mut self, statistics: Vec<(usize, Tensor, Tensor)>) -> Result<()> {
        for (i, mean, variance) in statistics {
            if let Layer::BatchNorm(n) = &mut self.layers[i].1 {
                let blend = |old: &Tensor, new: &Tensor| {
                    old.mul_scalar(1.0 - MOMENTUM)?.add(&new.mul_scalar(MOMENTUM)?)
                };
                (n.mean, n.variance) = (blend(&n.mean, &mean)?, blend(&n.variance, &variance)?);
            }
        }
        Ok(())
    }

    /// The same function without batch normalisation, `W' = W γ / √(var + ε)`, `b' = β + (b − μ) γ / √(var + ε)`, and with
    /// max pooling before activations: they grow with their inputs.
    ///
    /// # Errors
    /// Names a batch normalisation that does not follow a convolution or linear layer directly.
    pub fn fold(&self) -> Result<Self> {
        let mut layers: Vec<(String, Layer)> = Vec::new();
        for (name, layer) in &self.layers {
            let Layer::BatchNorm(n) = layer else {
                let behind = matches!(layer, Layer::MaxPool { .. })
                    && layers.last().is_some_and(|(_, last)| last.is_activation());
                layers.insert(layers.len() - usize::from(behind), (name.clone(), layer.clone()));
                continue;
            };
            let Some((_, Layer::Conv2d { weight, bias, .. } | Layer::Linear { weight, bias })) =
                layers.last_mut()
            else {
                let what = "it does not follow a convolution or linear layer, into which it could be folded";
                return Err(Error::Network(vec![format!("layer `{name}` cannot be converted: {what}")]));
            };
            let scale = n.weight.div(&n.variance.add_scalar(n.epsilon)?.sqrt()?)?;
            let rows: Vec<usize> = (0..weight.rank()).map(|i| if i == 0 { scale.len() } else { 1 }).collect();
            *weight = weight.mul(&scale.reshape(&rows)?)?;
            *bias = bias.sub(&n.mean)?.mul(&scale)?.add(&n.bias)?;
        }
        Ok(Self { input: self.input.clone(), layers })
    }

    /// Share of samples whose largest logit is that of their label.
    ///
    /// # Errors
    /// Input that does not fit.
    pub fn accuracy(&self, input: crate::engine::Input<'_>, labels: &[u16]) -> Result<f64> {
        let mut right = 0;
        for start in (0..labels.len()).step_by(super::BATCH) {
            let range = start..labels.len().min(start + super::BATCH);
            let guesses = self.forward(&super::tensor_of(input, range.clone(), &self.input)?)?.argmax(-1)?;
            let pairs = guesses.to_u32()?.into_iter().zip(&labels[range]);
            right += pairs.filter(|(guess, label)| *guess == u32::from(**label)).count();
        }
        Ok(right as f64 / labels.len().max(1) as f64)
    }

    /// Every array of the network, named as [`Ann::read`] expects them.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        let mut all: BTreeMap<String, Tensor> =
            self.params().map(|(name, tensor)| (name, tensor.clone())).collect();
        for (name, layer) in &self.layers {
            if let Layer::BatchNorm(n) = layer {
                all.insert(format!("{name}.running_mean"), n.mean.clone());
                all.insert(format!("{name}.running_var"), n.variance.clone());
            }
        }
        all
    }

    /// Takes the arrays of [`Ann::tensors`].
    ///
    /// # Errors
    /// Names an array that is missing or has another shape.
    pub fn set_tensors(&mut self, all: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut wrong = None;
        let mut take = |name: &str, tensor: &mut Tensor| match all.get(name) {
            Some(found) if found.meta() == tensor.meta() => *tensor = found.clone(),
            _ => wrong = Some(name.to_string()),
        };
        self.visit_mut(&mut take);
        for (name, layer) in &mut self.layers {
            if let Layer::BatchNorm(n) = layer {
                take(&format!("{name}.running_mean"), &mut n.mean);
                take(&format!("{name}.running_var"), &mut n.variance);
            }
        }
        match wrong {
            None => Ok(()),
            Some(name) => {
                Err(Error::value("array", format!("`{name}`"), "there, and of the shape of its layer"))
            }
        }
    }

    fn params(&self) -> impl Iterator<Item = (String, &Tensor)> {
        self.layers.iter().flat_map(|(name, layer)| {
            let params: Vec<(&str, &Tensor)> = match layer {
                Layer::Conv2d { weight, bias, .. } | Layer::Linear { weight, bias } => {
                    vec![("weight", weight), ("bias", bias)]
                }
                Layer::BatchNorm(n) => vec![("weight", &n.weight), ("bias", &n.bias)],
                Layer::Qcfs { theta, .. } => vec![("theta", theta)],
                _ => vec![],
            };
            params.into_iter().map(move |(what, tensor)| (format!("{name}.{what}"), tensor))
        })
    }
}

impl Trainable for Ann {
    fn visit(&self, f: &mut dyn FnMut(&str, &Tensor)) {
        self.params().for_each(|(path, tensor)| f(&path, tensor));
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, &mut Tensor)) {
        for (name, layer) in &mut self.layers {
            match layer {
                Layer::Conv2d { weight, bias, .. } | Layer::Linear { weight, bias } => {
                    f(&format!("{name}.weight"), weight);
                    f(&format!("{name}.bias"), bias);
                }
                Layer::BatchNorm(n) => {
                    f(&format!("{name}.weight"), &mut n.weight);
                    f(&format!("{name}.bias"), &mut n.bias);
                }
                Layer::Qcfs { theta, .. } => f(&format!("{name}.theta"), theta),
                _ => {}
            }
        }
    }
}
