//! Back-propagation through time in the memory of a stretch of steps (Chen et al., arXiv:1604.06174; Gruslys et al.,
//! arXiv:1606.03401): a first pass keeps the state of all neurons before each stretch, and the way back runs one stretch
//! after another a second time, from the last to the first.
//!
//! Spikes, membranes and loss are those of one pass, to the last bit, and so are the gradients that a layer passes to its
//! currents. Products and the gradients of parameters are sums over steps, added up stretch by stretch: equal but for the
//! order of a sum in f32, as those of a mini-batch in pieces.

use std::collections::BTreeMap;

use super::{Dropout, Encoded, Layer, Model, Trace};
use crate::snn::scan::Stretch;
use crate::tensor::{DType, Device, Grads, Meta, Tensor, grad};
use crate::{Error, Result};

/// Where each population is among the stretches.
pub(super) type Place = BTreeMap<usize, Stretch>;

/// The name of the outputs among parameters; no path of a model looks like it.
const OUTPUTS: &str = "<outputs>";

/// What [`Model::grad_in_stretches`] found.
#[derive(Clone, Debug)]
pub struct Recomputed {
    /// One number.
    pub loss: Tensor,
    /// Of all parameters.
    pub grads: Grads,
    /// As [`Pass::outputs`](super::Pass::outputs).
    pub outputs: Tensor,
}

impl Model {
    /// Whether a batch can go backwards in stretches.
    ///
    /// # Errors
    /// Normalised currents, whose statistics are over all steps, and delays but those of a step from a population to itself,
    /// by name.
    pub fn check_stretches(&self) -> Result<()> {
        let refuse = |on: String| Err(Error::Unsupported { op: "steps in stretches", on });
        for from in self.layers.iter().flat_map(|layer| &layer.incoming) {
            if from.channels.is_some() {
                return refuse(format!("on `{}`: it is normalised over all steps", from.name));
            }
            if from.delay > 0 {
                return refuse(format!(
                    "on `{}`: its delay reaches from one stretch into the next",
                    from.name
                ));
            }
        }
        Ok(())
    }

    /// [`check_stretches`](Self::check_stretches), on a device.
    ///
    /// # Errors
    /// As that; on a GPU a population that hears itself, by name.
    pub fn check_stretches_on(&self, device: &Device) -> Result<()> {
        self.check_stretches()?;
        match (device, self.layers.iter().find(|layer| layer.recurrent.is_some())) {
            (Device::Cuda(_), Some(layer)) => {
                let on = format!("on {device}, with `{}`, which hears itself; use the CPU", layer.name);
                Err(Error::Unsupported { op: "steps in stretches", on })
            }
            _ => Ok(()),
        }
    }

    /// Loss and gradients of a batch, `length` steps at a time; a last stretch may be shorter. `loss` is one of the
    /// outputs of all steps; to what it gives, `penalize` adds terms that are sums over the steps of hidden spikes.
    ///
    /// # Errors
    /// As [`check_stretches_on`](Self::check_stretches_on) and [`grad`]; a length of 0.
    pub fn grad_in_stretches(
        &self,
        input: &Encoded,
        dropout: Option<Dropout>,
        length: usize,
        loss: impl Fn(&Tensor) -> Result<Tensor>,
        penalize: impl Fn(Tensor, &[Trace]) -> Result<Tensor>,
    ) -> Result<Recomputed> {
        self.check_stretches_on(&self.device)?;
        if length == 0 {
            return Err(Error::value("steps of a stretch", 0, "at least 1"));
        }
        let [steps, _] = input.shape();
        let mut stretches = vec![];
        let mut place: Place = self.layers.iter().map(|l| (l.population, Stretch::first())).collect();
        let (mut parts, mut penalty) =
            (vec![], Tensor::full_on(&Meta::new([], DType::F32), 0.0, &self.device)?);
        for from in (0..steps).step_by(length) {
            let range = from..steps.min(from + length);
            if from > 0 {
                let next = place.iter().map(|(&population, before)| Ok((population, before.next()?)));
                place = next.collect::<Result<_>>()?;
            }
            let pass = self.pass(&input.stretch(range.clone())?, dropout, true, Some(&place))?;
            penalty = penalize(penalty, &pass.hidden)?;
            parts.push(pass.outputs);
            stretches.push((range, place.clone()));
        }
        let outputs = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)?;
        drop((parts, place));

        let whole = BTreeMap::from([(OUTPUTS.to_string(), outputs.clone())]);
        let (value, mut slopes) = grad(&whole, || loss(&outputs))?;
        let slope = slopes.remove(OUTPUTS).ok_or_else(|| Error::Disconnected { param: OUTPUTS.into() })?;
        let mut sum: Option<Grads> = None;
        while let Some((range, place)) = stretches.pop() {
            let slope = slope.narrow(0, range.start, range.len())?;
            let input = input.stretch(range)?;
            // The gradient of Σ slope · outputs by anything is that of the loss.
            let (_, grads) = grad(self, || {
                let pass = self.pass(&input, dropout, true, Some(&place))?;
                penalize(pass.outputs.mul(&slope)?.sum_all()?, &pass.hidden)
            })?;
            match &mut sum {
                Some(sum) => sum.accumulate(grads)?,
                None => sum = Some(grads),
            }
        }
        let grads = sum.ok_or_else(|| Error::value("steps", 0, "at least 1"))?;
        Ok(Recomputed { loss: value.add(&penalty)?, grads, outputs })
    }

    /// Numbers in the state of all populations for a batch.
    pub(super) fn state(&self, batch: usize) -> usize {
        let of = |l: &Layer| l.scan.state(&l.numbers, l.recurrent.is_some()) * l.neurons;
        batch * self.layers.iter().map(of).sum::<usize>()
    }
}
