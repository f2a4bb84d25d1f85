//! Packed spike lists: who fired in each step.

use crate::error::{Error, Result};

/// Spikes of one population over some steps, as a list of neuron indices per step, ascending. A neuron that emits
/// several spikes in a step stands there as often.
///
/// ```
/// use ransnn::engine::Events;
/// let events = Events::new(3, [vec![0, 2], vec![], vec![1]])?;
/// assert_eq!(events.steps(), 3);
/// assert_eq!(events.step(0), [0, 2]);
/// assert_eq!(events.len(), 3);
/// # Ok::<(), ransnn::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    // The loops over events rely on this: every index is less than `sources`, and the offsets ascend.
    sources: usize,
    offsets: Vec<usize>,
    indices: Vec<u32>,
}

impl Events {
    /// Spikes of `sources` neurons, one list a step.
    ///
    /// # Errors
    /// An index that is not less than `sources`, or a list that does not ascend.
    pub fn new(sources: usize, steps: impl IntoIterator<Item = Vec<u32>>) -> Result<Self> {
        let mut events = Self::empty(sources);
        for list in steps {
            if let Some(pair) = list.windows(2).find(|pair| pair[0] > pair[1]) {
                return Err(Error::value("spike list", format!("{pair:?}"), "ascending neuron indices"));
            }
            if let Some(&last) = list.last().filter(|&&last| last as usize >= sources) {
                return Err(Error::value("neuron index", last, format!("less than {sources}")));
            }
            events.indices.extend(list);
            events.offsets.push(events.indices.len());
        }
        Ok(events)
    }

    /// No step yet.
    pub(crate) fn empty(sources: usize) -> Self {
        Self { sources, offsets: vec![0], indices: Vec::new() }
    }

    /// Forgets all steps and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.offsets.truncate(1);
        self.indices.clear();
    }

    /// Appends a step from a mask: bit `i % 64` of word `i / 64` says whether neuron `i` fired.
    pub(crate) fn push_mask(&mut self, words: &[u64]) {
        for (i, &word) in words.iter().enumerate() {
            let mut rest = word;
            while rest != 0 {
                let index = i * 64 + rest.trailing_zeros() as usize;
                if index < self.sources {
                    self.indices.push(index as u32);
                }
                rest &= rest - 1;
            }
        }
        self.offsets.push(self.indices.len());
    }

    /// Appends a step whose indices are known to ascend and to be in range.
    pub(crate) fn push_list(&mut self, list: &[u32]) {
        assert!(list.last().is_none_or(|&last| (last as usize) < self.sources));
        self.indices.extend(list);
        self.offsets.push(self.indices.len());
    }

    /// Appends some steps of another list of the same population.
    pub(crate) fn push_steps(&mut self, other: &Self, steps: std::ops::Range<usize>) {
        steps.for_each(|step| self.push_list(other.step(step)));
    }

    /// Appends a step in which nobody fires.
    pub(crate) fn push_silence(&mut self) {
        self.offsets.push(self.indices.len());
    }

    /// Forgets all but the last steps.
    pub(crate) fn keep_last(&mut self, steps: usize) {
        let Some(forgotten) = self.steps().checked_sub(steps) else { return };
        let spikes = self.offsets[forgotten];
        self.indices.drain(..spikes);
        self.offsets.drain(..forgotten);
        self.offsets.iter_mut().for_each(|offset| *offset -= spikes);
    }

    /// Adds spikes beyond the first of neurons that emit several in a step; `extra` holds (step, neuron).
    pub(crate) fn insert(&mut self, extra: &[(u32, u32)]) {
        if extra.is_empty() {
            return;
        }
        let mut merged = Self::empty(self.sources);
        for step in 0..self.steps() {
            let more = extra.iter().filter(|(at, _)| *at as usize == step).map(|&(_, neuron)| neuron);
            let mut list: Vec<u32> = self.step(step).iter().copied().chain(more).collect();
            list.sort_unstable();
            merged.push_list(&list);
        }
        *self = merged;
    }

    /// Neurons of the population.
    pub fn sources(&self) -> usize {
        self.sources
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Who fired in a step.
    #[inline]
    pub fn step(&self, step: usize) -> &[u32] {
        &self.indices[self.offsets[step]..self.offsets[step + 1]]
    }

    /// Number of spikes in all steps.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether nobody fires.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// All spikes, step after step.
    pub(crate) fn all(&self) -> &[u32] {
        &self.indices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_become_lists() {
        let mut events = Events::empty(130);
        events.push_mask(&[1 | 1 << 63, 0, u64::MAX]); // only two neurons are left in the last word
        events.push_mask(&[0, 2, 0]);
        assert_eq!(events.step(0), [0, 63, 128, 129]);
        assert_eq!(events.step(1), [65]);
        assert_eq!((events.steps(), events.len()), (2, 5));
    }

    #[test]
    fn the_last_steps_are_kept() {
        let mut events = Events::new(4, [vec![0, 1], vec![3], vec![2]]).unwrap();
        events.push_silence();
        let whole = events.clone();
        events.keep_last(9);
        assert_eq!(events, whole);
        events.keep_last(3);
        assert_eq!(events, Events::new(4, [vec![3], vec![2], vec![]]).unwrap());
        events.keep_last(0);
        assert_eq!(events, Events::empty(4));
    }

    #[test]
    fn wrong_lists_are_refused() {
        assert!(Events::new(3, [vec![3]]).unwrap_err().to_string().contains("less than 3"));
        assert!(Events::new(3, [vec![1, 0]]).unwrap_err().to_string().contains("ascending"));
    }
}
