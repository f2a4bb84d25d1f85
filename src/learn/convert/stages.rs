//! What lies between two activations, as one linear map that a projection can be.
//!
//! Average pooling before a convolution is the `pool` of its projection. Before a linear layer, each pixel has the weight
//! of its window over the window's size.
//!
//! Max pooling is exact where currents are the same in every step, which are those of the input: the largest of them is
//! that of the activations, since activations grow with their currents. Further on it is refused. Spikes come and go, and
//! the mean of the largest current of each step is more than the largest mean: two inputs of rate ½ that fire in turn
//! have a maximum of 1 in every step. No number of steps helps against that.

use super::ann::{Ann, Layer};
use crate::error::{Error, Result};
use crate::snn::{Conv2d, Rule};

/// A linear map and the activation after it.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    /// Name of the convolution or linear layer.
    pub name: String,
    /// Shape of what it produces.
    pub shape: Vec<usize>,
    pub rule: Rule,
    /// `[channels_out, channels_in, kernel, kernel]` or `[outputs, inputs]`.
    pub weight: Vec<f32>,
    /// One for each channel or output.
    pub bias: Vec<f32>,
    /// Neurons of one source channel that stand side by side in a linear layer's inputs.
    pub spread: usize,
    /// The activation; `None` at the output.
    pub activation: Option<Layer>,
}

impl Stage {
    /// Weights per output channel.
    pub fn fan_in(&self) -> usize {
        self.weight.len() / self.bias.len()
    }

    /// Source channel of a weight.
    pub fn source(&self, weight: usize) -> usize {
        let within = weight % self.fan_in();
        match self.rule {
            Rule::Conv2d { kernel, .. } => within / (kernel * kernel),
            _ => within / self.spread,
        }
    }
}

/// Cuts a network without batch normalisation into stages.
///
/// # Errors
/// [`Error::Network`] naming the layer that a spiking network cannot express, and why.
pub(super) fn stages(ann: &Ann) -> Result<Vec<Stage>> {
    let refuse = |name: &str, why: &str| {
        Err(Error::Network(vec![format!("layer `{name}` cannot be converted: {why}")]))
    };
    // Shape of the last population, side of the pooling since, and its shape after pooling.
    let (mut source, mut pool, mut shape) = (ann.input.clone(), 1, ann.input.clone());
    let mut stages: Vec<Stage> = Vec::new();
    // Name and map that wait for their activation.
    let mut open: Option<Stage> = None;
    for (name, layer) in &ann.layers {
        if let (Some(stage), Layer::Conv2d { .. } | Layer::Linear { .. } | Layer::AvgPool { .. }) =
            (&open, layer)
        {
            return refuse(name, &format!("there is no activation between `{}` and it", stage.name));
        }
        match layer {
            Layer::BatchNorm(_) => return refuse(name, "batch normalisation must be folded first"),
            Layer::MaxPool { side, stride } => {
                let Some(Stage { rule: Rule::Conv2d { max_pool, .. }, shape, .. }) = &mut open else {
                    return refuse(name, "it does not follow a convolution, with an activation or without");
                };
                if !stages.is_empty() {
                    return refuse(
                        name,
                        "it is not behind the first convolution: the largest current of each step is on average more than the largest rate; train with average pooling",
                    );
                }
                if side != stride || shape[1].min(shape[2]) < *side {
                    return refuse(name, "its windows overlap, leave gaps or do not fit");
                }
                *max_pool *= side;
                *shape = vec![shape[0], shape[1] / side, shape[2] / side];
            }
            Layer::AvgPool { side, stride } => {
                let &[c, h, w] = &shape[..] else { return refuse(name, "it does not follow an image") };
                if side != stride {
                    return refuse(name, "its windows overlap or leave gaps");
                }
                if stages.is_empty() && h.min(w) < *side {
                    return refuse(name, "its window does not fit");
                }
                (pool, shape) = (pool * side, vec![c, h / side, w / side]);
            }
            Layer::Flatten => {
                if let Some(stage) = &open {
                    return refuse(name, &format!("it stands between `{}` and its activation", stage.name));
                }
                shape = vec![shape.iter().product()];
            }
            Layer::Conv2d { weight, bias, stride, padding } => {
                let &[_, h, w] = &source[..] else {
                    return refuse(name, "it does not follow an image");
                };
                let &[outputs, _, k, kx] = weight.shape() else {
                    return refuse(name, "its weight has no kernels");
                };
                if k != kx {
                    return refuse(name, "its kernels are not square");
                }
                let side = |n: usize| Conv2d::side(n / pool, k, *stride, *padding).unwrap_or(0);
                let out = vec![outputs, side(h), side(w)];
                if let Err(why) = Conv2d::new(&source, &out, k, *stride, *padding, pool, 1) {
                    return refuse(name, &why);
                }
                let rule = Rule::Conv2d { kernel: k, stride: *stride, padding: *padding, pool, max_pool: 1 };
                let (name, weight, bias) = (name.clone(), weight.to_f32()?, bias.to_f32()?);
                open = Some(Stage { name, shape: out, rule, weight, bias, spread: 1, activation: None });
            }
            Layer::Linear { weight, bias } => {
                let &[outputs, inputs] = weight.shape() else {
                    return refuse(name, "its weight is no matrix");
                };
                let values = weight.to_f32()?;
                let (weight, spread) = match source[..] {
                    [c, h, w] => {
                        let (rows, columns) = (h / pool, w / pool);
                        if c * rows * columns != inputs {
                            return refuse(name, "it does not follow a flattened image of that size");
                        }
                        let share = ((pool * pool) as f32).recip();
                        let mut wide = vec![0.0; outputs * c * h * w];
                        for (i, wide) in wide.iter_mut().enumerate() {
                            let (o, y, x) = (i / (c * h * w), i / w % h / pool, i % w / pool);
                            if y < rows && x < columns {
                                *wide =
                                    values[o * inputs + (i / (h * w) % c * rows + y) * columns + x] * share;
                            }
                        }
                        (wide, h * w)
                    }
                    _ => (values, 1),
                };
                let (name, bias) = (name.clone(), bias.to_f32()?);
                let (shape, rule) = (vec![outputs], Rule::Dense);
                open = Some(Stage { name, shape, rule, weight, bias, spread, activation: None });
            }
            Layer::Relu | Layer::Qcfs { .. } => {
                let Some(mut stage) = open.take() else {
                    return refuse(name, "it follows no convolution or linear layer directly");
                };
                stage.activation = Some(layer.clone());
                (source, shape, pool) = (stage.shape.clone(), stage.shape.clone(), 1);
                stages.push(stage);
            }
        }
    }
    match open {
        Some(stage) if stage.shape.len() == 1 => stages.push(stage),
        _ => {
            let last = ann.layers.last().map_or("", |(name, _)| name);
            return refuse(last, "the network must end with a linear layer, whose outputs are the classes");
        }
    }
    Ok(stages)
}
