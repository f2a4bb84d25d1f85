//! The currents of a projection, from what its source sends.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::normalize::Statistics;
use super::{Encoded, Incoming, Model};
use crate::snn::Conv2d;
use crate::snn::scan::{LARGEST_WINDOW, Spikes, product_of, spike_conv2d, spike_product};
use crate::tensor::{DType, Device, Meta, Tensor};
use crate::{Error, Result};

/// What a population sends over some steps.
#[derive(Clone)]
pub(super) enum Sent {
    /// A current `[1, B, K]` that is the same in all steps.
    Held(Tensor),
    /// Spikes `[T, B, K]` of the input.
    Lists(Arc<Spikes>),
    /// Spikes `[T, B, K]` of a layer, as lists too where those are known.
    Spikes { tensor: Tensor, lists: Option<Arc<Spikes>> },
}

impl Sent {
    /// Of the input.
    pub fn of(input: &Encoded, device: &Device) -> Result<Self> {
        Ok(match input {
            Encoded::Spikes(lists) => Self::Lists(lists.clone()),
            Encoded::Constant(x, _) => {
                Self::Held(x.reshape(&[1, x.shape()[0], x.shape()[1]])?.to_device(device)?)
            }
        })
    }

    /// The same, so many steps later.
    pub fn late(&self, delay: usize) -> Result<Self> {
        Ok(match self {
            _ if delay == 0 => self.clone(),
            Self::Held(_) => {
                return Err(Error::Unsupported { op: "a delay", on: "on a constant current".into() });
            }
            Self::Lists(lists) => Self::Lists(Arc::new(lists.late(delay)?)),
            Self::Spikes { tensor, lists } => Self::Spikes {
                tensor: late(tensor, delay)?,
                lists: lists.as_ref().map(|lists| lists.late(delay).map(Arc::new)).transpose()?,
            },
        })
    }

    /// Spikes as lists, and as a tensor where they have been one; none of a held current.
    pub fn events(&self) -> Result<Option<(Option<&Tensor>, Arc<Spikes>)>> {
        Ok(match self {
            Self::Held(_) => None,
            Self::Lists(lists) => Some((None, lists.clone())),
            Self::Spikes { tensor, lists: Some(lists) } => Some((Some(tensor), lists.clone())),
            Self::Spikes { tensor, lists: None } => Some((Some(tensor), Arc::new(Spikes::of(tensor)?))),
        })
    }

    /// As a tensor with one row a sample and a step, or a sample.
    pub fn tensor(&self, device: &Device) -> Result<Tensor> {
        match self {
            Self::Held(tensor) | Self::Spikes { tensor, .. } => Ok(tensor.clone()),
            Self::Lists(lists) => lists.to_tensor_on(device, DType::F32),
        }
    }
}

/// Spikes `[T, B, K]` so many steps later.
fn late(spikes: &Tensor, delay: usize) -> Result<Tensor> {
    let mut shape = spikes.shape().to_vec();
    let steps = shape[0];
    shape[0] = delay.min(steps);
    let silence = Tensor::full_on(&Meta::new(shape, spikes.dtype()), 0.0, spikes.device())?;
    if delay >= steps {
        return Ok(silence);
    }
    Tensor::concat(&[&silence, &spikes.narrow(0, 0, steps - delay)?], 0)
}

impl Incoming {
    /// What it carries of all that is sent.
    pub(super) fn carries(&self, sent: &BTreeMap<usize, Sent>) -> Result<Sent> {
        let sent = sent.get(&self.pre);
        let sent =
            sent.ok_or_else(|| Error::Network(vec![format!("`{}` begins at a second input", self.name)]))?;
        sent.late(self.delay)
    }

    /// The geometry of a convolution whose currents can be added up spike by spike.
    pub(super) fn by_events(&self) -> Option<Conv2d> {
        self.geometry.filter(|geometry| geometry.pool == 1 && geometry.max_pool <= LARGEST_WINDOW)
    }
}

impl Model {
    /// The current `[T, B, N]` of a projection, or `[1, B, N]` where it is held. Normalised, where it is, by the statistics
    /// of the batch, which are noted, or without a place for them by running means.
    pub(super) fn current(
        &self,
        from: &Incoming,
        sent: &Sent,
        statistics: Option<&mut Statistics>,
    ) -> Result<Tensor> {
        let folded;
        let (weights, bias) = match from.channels {
            Some(_) if statistics.is_none() => {
                folded = self.folded(from)?;
                (&folded.0, Some(&folded.1))
            }
            _ => self.weights_of(from),
        };
        if let (Some(geometry), None, Device::Cpu) = (from.by_events(), &from.frozen, &self.device)
            && let Some((x, lists)) = sent.events()?
        {
            let weights = (weights, bias);
            let (Some(channels), Some(statistics)) = (from.channels, statistics) else {
                return spike_conv2d(&lists, x, weights, &geometry);
            };
            // What is normalised are all currents.
            let all = Conv2d { output: geometry.currents(), max_pool: 1, ..geometry };
            let current = spike_conv2d(&lists, x, weights, &all)?;
            return largest(&self.normalized(from, channels, &current, statistics)?, &geometry);
        }
        let current = match &from.geometry {
            Some(geometry) => convolved(&sent.tensor(&self.device)?, geometry, weights, bias)?,
            None => product(sent, weights, bias, &self.device)?,
        };
        let current = match (&from.frozen, from.channels, statistics) {
            (Some(frozen), ..) => current.mul(&frozen.scale)?.add(&frozen.bias)?,
            (None, Some(channels), Some(statistics)) => {
                self.normalized(from, channels, &current, statistics)?
            }
            _ => current,
        };
        match &from.geometry {
            Some(geometry) => largest(&current, geometry),
            None => Ok(current),
        }
    }
}

/// `x W + b` for what was sent, x `[.., K]`.
pub(super) fn product(
    sent: &Sent,
    weights: &Tensor,
    bias: Option<&Tensor>,
    device: &Device,
) -> Result<Tensor> {
    match (sent, device) {
        // Row by row, which costs what the spikes cost.
        (Sent::Spikes { tensor, .. }, Device::Cpu) => spike_product(tensor, weights, bias),
        (Sent::Lists(lists), Device::Cpu) => product_of(lists, weights, bias),
        _ => {
            let current = sent.tensor(device)?.matmul(weights)?;
            bias.map_or(Ok(current.clone()), |bias| current.add(bias))
        }
    }
}

/// The largest of each window of currents `[T, B, N]`, where a convolution says so.
fn largest(current: &Tensor, geometry: &Conv2d) -> Result<Tensor> {
    if geometry.max_pool == 1 {
        return Ok(current.clone());
    }
    let [steps, batch] = [current.shape()[0], current.shape()[1]];
    let images = current.reshape(&[&[steps * batch], &geometry.currents()[..]].concat())?;
    let largest = images.max_pool2d(geometry.max_pool, geometry.max_pool)?;
    largest.reshape(&[steps, batch, geometry.output.iter().product()])
}

/// The currents `[T, B, N]` of a convolution of spikes or intensities `[T, B, K]`, averaged first where it says so, before
/// the largest are taken.
fn convolved(x: &Tensor, geometry: &Conv2d, weights: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let [steps, batch] = [x.shape()[0], x.shape()[1]];
    let mut images = x.reshape(&[&[steps * batch], &geometry.input[..]].concat())?;
    if geometry.pool > 1 {
        images = images.avg_pool2d(geometry.pool, geometry.pool)?;
    }
    let current = images.conv2d(weights, bias, geometry.stride, geometry.padding)?;
    current.reshape(&[steps, batch, geometry.currents().iter().product()])
}
