//! Scans over some of the steps, one after another: what a stretch of steps leaves to the next one, and on the way back
//! to the one before. Taken together they compute what one scan over all steps does, to the last bit.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::kernel::{Acts, Reset};
use super::{OP, Operation, Parameters, Scan, Sizes, rows_of};
use crate::tensor::dtype::Float;
use crate::tensor::{Tensor, cpu};
use crate::{Error, Result};

/// The place of a scan among those over the steps before and after.
///
/// The way forth goes through stretches in their order, the way back in the opposite one. A stretch may run a second time,
/// so that its gradient can be taken when those after it are done and nothing of them is in memory but this.
#[derive(Clone, Debug, Default)]
pub struct Stretch {
    /// State in the beginning, `[planes, B, N]`; none at rest.
    past: Option<Tensor>,
    left: Arc<OnceLock<Tensor>>,
    /// Gradients by the state in the end, of the stretch whose way back comes next.
    future: Arc<Mutex<Option<Tensor>>>,
}

impl Stretch {
    /// Of the first steps.
    pub fn first() -> Self {
        Self::default()
    }

    /// Of the steps after this one's.
    ///
    /// # Errors
    /// This one has not run.
    pub fn next(&self) -> Result<Self> {
        let left = self.left.get().ok_or_else(|| Error::Internal("a stretch before has not run".into()))?;
        Ok(Self { past: Some(left.clone()), left: Arc::default(), future: self.future.clone() })
    }
}

impl Scan {
    /// Numbers of a neuron that a stretch leaves to the next one.
    pub fn state(&self, parameters: &Parameters, recurrent: bool) -> usize {
        let (operation, _) = Operation::new(self, None, &parameters.decay, parameters, None);
        Operation { recurrent, ..operation }.left()
    }
}

/// Rows that stretches hand on: of `K` planes `[B, N]` those that are kept; the others begin as they always do.
pub(super) struct Planes<'a, F, const K: usize> {
    kept: Vec<usize>,
    /// Those that were handed on; empty where nothing was.
    given: &'a [F],
    initial: [F; K],
    /// With planes in the place of steps.
    sizes: Sizes,
}

impl<'a, F: Float, const K: usize> Planes<'a, F, K> {
    fn new(kept: [bool; K], given: Option<&'a Tensor>, initial: [F; K], sizes: Sizes) -> Result<Self> {
        let kept: Vec<usize> = (0..K).filter(|&k| kept[k]).collect();
        let sizes = Sizes { steps: kept.len(), ..sizes };
        let given = match given {
            Some(given) => fitting(given, sizes)?.buffer()?.slice::<F>()?,
            None => &[],
        };
        Ok(Self { kept, given, initial, sizes })
    }

    /// Those of sample `b` from neuron `from` on, `width` numbers each, of which `n` are there.
    pub fn read(&self, b: usize, (from, n): (usize, usize), width: usize) -> [Vec<F>; K] {
        let mut rows = self.initial.map(|initial| vec![initial; width]);
        for (given, &k) in self.given.chunks_exact(self.sizes.batch * self.sizes.neurons).zip(&self.kept) {
            rows[k][..n].copy_from_slice(&given[b * self.sizes.neurons + from..][..n]);
        }
        rows
    }

    /// Those of such rows that are kept.
    pub fn kept<'r>(&self, rows: &'r [Vec<F>; K]) -> impl Iterator<Item = &'r [F]> {
        self.kept.iter().map(|&k| rows[k].as_slice())
    }

    /// Puts kept rows among those of a sample, as [`rows`](Self::rows) gives them.
    pub fn write<'r>(
        &self,
        kept: impl Iterator<Item = &'r [F]>,
        (from, n): (usize, usize),
        all: &mut [&mut [F]],
    ) {
        all.iter_mut().zip(kept).for_each(|(all, row)| all[from..from + n].copy_from_slice(&row[..n]));
    }

    /// Room for what is handed on.
    pub fn room(&self) -> cpu::Buffer {
        let Sizes { steps, batch, neurons } = self.sizes;
        cpu::Buffer::zeros(F::DTYPE, steps * batch * neurons)
    }

    /// For each sample, its rows of such room.
    pub fn rows<'r>(&self, room: &'r mut cpu::Buffer) -> Result<Vec<Vec<&'r mut [F]>>> {
        Ok(rows_of(room.slice_mut::<F>()?, self.sizes))
    }

    /// Such room as it is handed on.
    pub fn tensor(&self, room: cpu::Buffer) -> Result<Tensor> {
        let Sizes { steps, batch, neurons } = self.sizes;
        Tensor::from_buffer(room, &[steps, batch, neurons])
    }
}

/// What was handed on, where it is of such planes.
fn fitting(given: &Tensor, Sizes { steps: planes, batch, neurons }: Sizes) -> Result<&Tensor> {
    let shape = [planes, batch, neurons];
    if given.shape() != shape {
        let why = "stretches that follow one another are of the same neurons and samples".into();
        return Err(Error::Shape { op: OP, lhs: given.shape().to_vec(), rhs: shape.to_vec(), why });
    }
    Ok(given)
}

impl Operation {
    /// Which of [`Past`](super::kernel::Past) a stretch leaves.
    fn kept_past(&self) -> [bool; 5] {
        let late = self.rule::<f32>().late();
        [true, late, self.current, self.adaptive, self.adaptive || self.recurrent]
    }

    /// Number of planes that a stretch leaves to the next one.
    pub(super) fn left(&self) -> usize {
        self.kept_past().into_iter().filter(|&kept| kept).count()
    }

    /// The state before, where it is a stretch.
    pub(super) fn past<F: Float>(&self, sizes: Sizes) -> Result<Option<Planes<'_, F, 5>>> {
        let initial = [F::of_f64(self.scan.rest), F::ZERO, F::ZERO, F::ZERO, F::ZERO];
        let Some(stretch) = &self.stretch else { return Ok(None) };
        Planes::new(self.kept_past(), stretch.past.as_ref(), initial, sizes).map(Some)
    }

    /// Which of [`Future`](super::kernel::Future) a stretch hands back.
    fn kept_future(&self) -> [bool; 6] {
        let late = self.scan.acts == Acts::NextStep && self.scan.reset != Reset::None;
        [late, true, self.current, self.adaptive, self.recurrent, self.rule::<f32>().pulls()]
    }

    /// Number of planes that a stretch hands back to the one before.
    pub(super) fn returned(&self) -> usize {
        self.kept_future().into_iter().filter(|&kept| kept).count()
    }

    /// The state before, on a GPU; none at rest.
    pub(super) fn past_on_gpu(&self, sizes: Sizes) -> Result<Option<&Tensor>> {
        let past = self.stretch.as_ref().and_then(|stretch| stretch.past.as_ref());
        past.map(|past| fitting(past, Sizes { steps: self.left(), ..sizes })).transpose()
    }

    /// The gradients after, on a GPU, taken.
    pub(super) fn future_on_gpu(&self, sizes: Sizes) -> Result<Option<Tensor>> {
        let back = self.handed_back();
        if let Some(back) = &back {
            fitting(back, Sizes { steps: self.returned(), ..sizes })?;
        }
        Ok(back)
    }

    /// What the stretch after handed back.
    pub(super) fn handed_back(&self) -> Option<Tensor> {
        let stretch = self.stretch.as_ref()?;
        stretch.future.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The gradients after, where it is a stretch: those [handed back](Self::handed_back).
    pub(super) fn future<'a, F: Float>(
        &self,
        back: Option<&'a Tensor>,
        sizes: Sizes,
    ) -> Result<Option<Planes<'a, F, 6>>> {
        let kept = self.kept_future();
        self.stretch.is_some().then(|| Planes::new(kept, back, [F::ZERO; 6], sizes)).transpose()
    }

    /// Leaves the state to the stretch after.
    pub(super) fn leave(&self, state: Tensor) {
        if let Some(stretch) = &self.stretch {
            // A second run leaves the same.
            let _ = stretch.left.set(state);
        }
    }

    /// Leaves the gradients to the stretch before.
    pub(super) fn hand_back(&self, gradients: Tensor) {
        if let Some(stretch) = &self.stretch {
            *stretch.future.lock().unwrap_or_else(PoisonError::into_inner) = Some(gradients);
        }
    }

    /// The spikes of the step before, `[1, B, N]`, where there is one and anybody hears them.
    pub(super) fn spikes_before(&self) -> Result<Option<Tensor>> {
        let past = self.stretch.as_ref().and_then(|stretch| stretch.past.as_ref());
        past.filter(|_| self.recurrent).map(|past| past.narrow(0, self.left() - 1, 1)).transpose()
    }
}
