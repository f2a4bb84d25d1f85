//! A scan with recurrent weights as products and scans of single steps, in turns: on a GPU, where threads do not see each
//! other's neurons within a launch.

use super::{OP, Operation, Parameters, Scan, Scanned, Sizes, Stretch};
use crate::tensor::{Meta, Op, Tensor};
use crate::{Error, Result};

impl Scan {
    /// Over currents `[T, B, N]`, with weights `[N, N]`.
    pub(super) fn in_turns(
        &self,
        x: &Tensor,
        weights: &Tensor,
        parameters: &Parameters,
        stretch: Option<&Stretch>,
    ) -> Result<Scanned> {
        if stretch.is_some() {
            let on = format!("on {} with recurrent weights, in stretches; use the CPU", x.device());
            return Err(Error::Unsupported { op: OP, on });
        }
        let (operation, inputs) = Operation::new(self, None, x, parameters, None);
        operation.infer(&inputs.iter().map(|input| input.meta()).collect::<Vec<_>>())?;
        let parameters = Parameters { recurrent: None, ..parameters.clone() };
        let (mut spikes, mut potential, mut membrane) = (vec![], vec![], vec![]);
        let mut stretch = Stretch::first();
        let pieces = x.split(&vec![1; x.shape()[0]], 0)?;
        let Sizes { batch, neurons, .. } = Sizes::of(x.meta());
        // Nobody fired before, which is heard, too: the weights of a single step have a gradient of 0.
        let mut before = Tensor::full_on(&Meta::new([batch, neurons], x.dtype()), 0.0, x.device())?;
        for input in &pieces {
            let heard = before.matmul(weights)?.reshape(input.shape())?;
            let now = self.scan(&input.add(&heard)?, None, &parameters, Some(&stretch))?;
            stretch = stretch.next()?;
            before = now.spikes.reshape(&[batch, neurons])?;
            spikes.push(now.spikes);
            potential.push(now.potential);
            membrane.extend(now.membrane);
        }
        let whole = |steps: &[Tensor]| Tensor::concat(&steps.iter().collect::<Vec<_>>(), 0);
        let membrane = if membrane.is_empty() { None } else { Some(whole(&membrane)?) };
        Ok(Scanned { spikes: whole(&spikes)?, potential: whole(&potential)?, membrane })
    }
}
