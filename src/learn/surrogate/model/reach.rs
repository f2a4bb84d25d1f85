//! What training reaches in a network, and where that begins.

use crate::snn::{Network, Pop, Projection};

/// What training reaches in a network.
pub(super) struct Reach {
    /// Populations with something trained before or in them.
    pub traced: Vec<bool>,
    /// Populations on the way to the output.
    pub needed: Vec<bool>,
    /// The one population from which all untrained activity comes, where there is one.
    pub source: Option<Pop>,
}

impl Reach {
    pub fn of(net: &Network, output: Pop) -> Self {
        let mut traced = vec![false; net.populations.len()];
        let mut needed = traced.clone();
        needed[output.0] = true;
        // Loops take several rounds, at most one for each population.
        for _ in &net.populations {
            for p in &net.projections {
                traced[p.post.0] |= !p.frozen || traced[p.pre.0];
                needed[p.pre.0] |= needed[p.post.0];
            }
        }
        let reached = |p: &&Projection| needed[p.post.0] && traced[p.post.0] && !traced[p.pre.0];
        let mut borders: Vec<usize> = net.projections.iter().filter(reached).map(|p| p.pre.0).collect();
        borders.sort_unstable();
        borders.dedup();
        let source = if let [one] = borders[..] { Some(Pop(one)) } else { None };
        Self { traced, needed, source }
    }
}
