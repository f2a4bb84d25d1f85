//! Projections that connect some of the pairs and learn: dense weights, of which the others are 0 and have no gradient.

use super::Model;
use crate::tensor::{Grads, Tensor};
use crate::{Error, Result};

/// Where the synapses of a projection are among dense weights `[sources, targets]`.
#[derive(Clone, Debug)]
pub(super) struct Sparse {
    /// 1 where a pair is connected, else 0.
    pub mask: Tensor,
    /// Of each synapse; `None` where the pair has had one.
    places: Vec<Option<usize>>,
}

impl Sparse {
    /// Of rows of synapses `offsets[source]..offsets[source + 1]` onto `to`, with the dense weights.
    pub fn new(offsets: &[usize], to: &[u32], values: &[f32], targets: usize) -> Result<(Self, Tensor)> {
        let sources = offsets.len() - 1;
        let (mut dense, mut mask) = (vec![0.0; sources * targets], vec![0.0; sources * targets]);
        let mut places = Vec::with_capacity(to.len());
        for source in 0..sources {
            for i in offsets[source]..offsets[source + 1] {
                let place = source * targets + to[i] as usize;
                dense[place] += values[i];
                places.push((mask[place] == 0.0).then_some(place));
                mask[place] = 1.0;
            }
        }
        let [dense, mask] = [dense, mask].map(|numbers| Tensor::from_f32(numbers, &[sources, targets]));
        Ok((Self { mask: mask?, places }, dense?))
    }

    /// Dense weights as those of the synapses; of several between a pair the first has it all.
    pub fn gather(&self, dense: &[f32]) -> Vec<f32> {
        self.places.iter().map(|place| place.map_or(0.0, |place| dense[place])).collect()
    }

    /// Number of connected pairs.
    pub fn len(&self) -> usize {
        self.places.iter().flatten().count()
    }
}

impl Model {
    /// Takes out the gradients of pairs that no synapse connects.
    ///
    /// # Errors
    /// Gradients of another model.
    pub fn keep_synapses(&self, grads: &mut Grads) -> Result<()> {
        for (path, sparse) in &self.sparse {
            let grad = grads.get_mut(path).ok_or_else(|| Error::Disconnected { param: path.clone() })?;
            *grad = grad.mul(&sparse.mask)?;
        }
        Ok(())
    }
}
