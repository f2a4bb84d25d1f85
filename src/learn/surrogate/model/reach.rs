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
    pub fn of(net: &Network, order: &[Pop], output: Pop) -> Self {
        let mut traced = vec![false; net.populations.len()];
        for &Pop(index) in order {
            traced[index] = net.incoming(Pop(index)).any(|p| !p.frozen || traced[p.pre.0]);
        }
        let mut needed = vec![false; net.populations.len()];
        needed[output.0] = true;
        for &Pop(index) in order.iter().rev() {
            if needed[index] {
                net.incoming(Pop(index)).for_each(|p| needed[p.pre.0] = true);
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
