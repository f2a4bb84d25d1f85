//! Numbers of spikes on the neurons of a block in a step, and, where they are few, a list of who got one.

use super::block::SLOTS;
use super::rows::Short;
use crate::lines::Lines;

/// Counts of a step.
pub(super) struct Counts {
    /// `[SLOTS]`: of each target.
    counts: Lines<u16>,
    /// The targets whose count is not 0: so many of them, or nothing where that is not known.
    listed: Option<usize>,
    /// `[SLOTS]`
    list: Lines<u16>,
}

impl Counts {
    pub fn new() -> Self {
        Self { counts: Lines::zeros(SLOTS), listed: Some(0), list: Lines::zeros(SLOTS) }
    }

    /// Whether spikes have come.
    pub fn any(&self) -> bool {
        self.listed != Some(0)
    }

    /// Whether the list is complete.
    pub fn are_listed(&self) -> bool {
        self.listed.is_some()
    }

    /// Makes no list in this step.
    pub fn without_list(&mut self) {
        self.listed = None;
    }

    /// The counts, to be added to without a list. Never nothing.
    #[inline(always)]
    pub fn unlisted(&mut self) -> Option<&mut [u16; SLOTS]> {
        self.listed = None;
        self.counts.first_chunk_mut()
    }

    /// Counts a spike on each target. It cannot overflow: the block has seen that counts fit.
    #[inline(always)]
    pub fn count(&mut self, targets: &[Short]) {
        let Some(counts) = self.counts.first_chunk_mut::<SLOTS>() else { return };
        let (Some(listed), Some(list)) = (&mut self.listed, self.list.first_chunk_mut::<SLOTS>()) else {
            for &target in targets {
                let count = &mut counts[usize::from(u16::from_ne_bytes(target))];
                *count = count.wrapping_add(1);
            }
            return;
        };
        let mut end = *listed;
        for &target in targets {
            let target = u16::from_ne_bytes(target);
            let count = &mut counts[usize::from(target)];
            // Behind the last entry, and overwritten by the next one where the target has an entry already.
            list[end % SLOTS] = target;
            end += usize::from(*count == 0);
            *count = count.wrapping_add(1);
        }
        *listed = end;
    }

    /// The counts of the first `n` neurons, which become 0.
    #[inline(always)]
    pub fn take(&mut self, n: usize) -> impl Iterator<Item = u16> {
        self.listed = Some(0);
        self.counts[..n].iter_mut().map(std::mem::take)
    }

    /// Neurons and their counts, which become 0, where they are listed.
    #[inline(always)]
    pub fn take_listed(&mut self) -> impl Iterator<Item = (usize, u16)> {
        let listed = self.listed.replace(0).unwrap_or(0);
        let counts = &mut self.counts[..];
        self.list[..listed].iter().map(|&target| {
            let target = usize::from(target);
            (target, std::mem::take(&mut counts[target]))
        })
    }
}
