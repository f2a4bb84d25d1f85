//! The spikes of the last steps, by population.

/// A ring of steps.
#[derive(Debug, Default)]
pub(super) struct History {
    /// `[step mod steps][population]`: neurons, ascending.
    lists: Vec<Vec<Vec<u32>>>,
}

impl History {
    /// Room for this many steps.
    pub fn new(steps: usize, populations: usize) -> Self {
        Self { lists: vec![vec![Vec::new(); populations]; steps] }
    }

    /// Steps that it remembers.
    pub fn steps(&self) -> u64 {
        self.lists.len() as u64
    }

    /// Who fired in a step.
    pub fn spikes(&self, step: u64, population: usize) -> &[u32] {
        &self.lists[(step % self.steps()) as usize][population]
    }

    /// The list of a step, to be written.
    pub fn list(&mut self, step: u64, population: usize) -> &mut Vec<u32> {
        let slot = (step % self.steps()) as usize;
        &mut self.lists[slot][population]
    }
}
