//! Drives `PostPre` rules over a batch, step by step, in BindsNET's order: see the [module](super).
//!
//! Weights are shared by the batch and dense, `[sources, targets]`. Only rows of sources that fire and columns of
//! targets that fire are touched, unless weights decay.

use super::{Pairing, PostPre};
use crate::error::{Error, Result};
use crate::units::Ms;

/// A `PostPre` rule at work on a dense projection.
///
/// ```
/// use ransnn::{snn::plasticity::{PostPre, Synchronous}, units::Ms};
/// let mut rule = Synchronous::new(PostPre { nu: [0.1, 0.2], ..PostPre::default() }, Ms(1.0), 1, 1, 1)?;
/// let mut weights = [0.5f32];
/// rule.step(&[vec![0]], &[vec![0]], &mut weights)?; // in the same step both: − 0.1 + 0.2
/// assert!((weights[0] - 0.6).abs() < 1e-6);
/// # Ok::<(), ransnn::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Synchronous {
    rule: PostPre,
    decay: [f32; 2],
    sources: usize,
    targets: usize,
    /// `[batch, sources]`
    pre: Vec<f32>,
    /// `[batch, targets]`
    post: Vec<f32>,
}

impl Synchronous {
    /// A rule for so many sources and targets, and samples in a batch.
    ///
    /// # Errors
    /// Parameters outside their range.
    pub fn new(rule: PostPre, dt: Ms, sources: usize, targets: usize, batch: usize) -> Result<Self> {
        rule.validate()?;
        Ok(Self {
            rule,
            decay: rule.tau.map(|tau| (-dt.0 / tau.0).exp() as f32),
            sources,
            targets,
            pre: vec![0.0; batch * sources],
            post: vec![0.0; batch * targets],
        })
    }

    /// Traces `[batch, sources]` and `[batch, targets]`.
    pub fn traces(&self) -> (&[f32], &[f32]) {
        (&self.pre, &self.post)
    }

    /// One step: who fires on both sides, a list for each sample of the batch.
    ///
    /// # Errors
    /// Another number of samples or weights, or a neuron that is not there.
    pub fn step(&mut self, pre: &[Vec<u32>], post: &[Vec<u32>], weights: &mut [f32]) -> Result<()> {
        let (rule, sources, targets) = (self.rule, self.sources, self.targets);
        let batch = self.pre.len() / sources.max(1);
        if [pre.len(), post.len()] != [batch; 2] || weights.len() != sources * targets {
            let got = format!("{} and {} samples, {} weights", pre.len(), post.len(), weights.len());
            return Err(Error::value("step of a plastic projection", got, format!("for a batch of {batch}")));
        }
        advance(&mut self.pre, sources, self.decay[0], rule.pairing, pre)?;
        advance(&mut self.post, targets, self.decay[1], rule.pairing, post)?;
        let fired = |lists: &[Vec<u32>], size: usize| {
            let mut fired = vec![false; size];
            lists.iter().flatten().for_each(|&i| fired[i as usize] = true);
            fired
        };
        let (rows, columns) = (fired(pre, sources), fired(post, targets));
        let spikes = |lists: &[Vec<u32>], i: usize| -> Vec<bool> {
            lists.iter().map(|list| list.contains(&(i as u32))).collect()
        };
        let sum = |traces: &[f32], size: usize, i: usize, fires: &[bool]| -> f32 {
            let of = fires.iter().enumerate().filter(|(_, fires)| **fires);
            of.map(|(b, _)| traces[b * size + i]).sum()
        };
        let now: Vec<(usize, Vec<bool>)> =
            (0..targets).filter(|&j| columns[j]).map(|j| (j, spikes(post, j))).collect();
        let clip = |w: f32| if rule.decay == 0.0 { rule.clip(w) } else { w };
        for i in 0..sources {
            let row = &mut weights[i * targets..(i + 1) * targets];
            let arrived = if rows[i] { spikes(pre, i) } else { vec![] };
            let depression = |j: usize| sum(&self.post, targets, j, &arrived);
            if rows[i] {
                for (j, w) in row.iter_mut().enumerate().filter(|(j, _)| !columns[*j]) {
                    *w = clip(rule.change(*w, depression(j), 0.0));
                }
            }
            for (j, fires) in &now {
                let potentiation = sum(&self.pre, sources, i, fires);
                row[*j] = clip(rule.change(row[*j], depression(*j), potentiation));
            }
        }
        if rule.decay != 0.0 {
            weights.iter_mut().for_each(|w| *w = rule.clip(*w * (1.0 - rule.decay)));
        }
        Ok(())
    }

    /// Forgets all spikes; weights stay.
    pub fn reset(&mut self) {
        self.pre.fill(0.0);
        self.post.fill(0.0);
    }
}

fn advance(traces: &mut [f32], size: usize, decay: f32, pairing: Pairing, spikes: &[Vec<u32>]) -> Result<()> {
    traces.iter_mut().for_each(|x| *x *= decay);
    for (row, list) in traces.chunks_exact_mut(size.max(1)).zip(spikes) {
        for &i in list {
            let x = row.get_mut(i as usize);
            let x = x.ok_or_else(|| Error::value("index of a spike", i, format!("less than {size}")))?;
            *x = pairing.spike((*x).into()) as f32;
        }
    }
    Ok(())
}
