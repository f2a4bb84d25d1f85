//! One presentation of one sample, in steps. Only rows of inputs that fire and columns of neurons that fire are touched.
//!
//! Order of step `t`:
//! 1. neurons advance with the input spikes of step `t − 1` and the inhibition by spikes of step `t − 2`;
//! 2. neurons that cross raise their ϑ; those that fire (all of them, or one winner) are known;
//! 3. traces take in the spikes of the step on both sides; inputs that fire depress, neurons that fire potentiate;
//! 4. the weights of the inputs that fire are summed, ascending, for step `t + 1`.

use super::diehl_cook::{DiehlCook, Plasticity};
use super::spikes::{Key, Spikes};
use crate::rng::Stream;
use crate::snn::neurons::diehl_cook::{Kernel, LONG, State};
use crate::units::Ms;

/// Neurons that are summed at a time; the width of a row of weights is a multiple.
pub(super) const LANES: usize = 32;

/// The constants, ready for loops.
#[derive(Debug)]
pub(super) struct Constants {
    pub kernel: Kernel,
    pub neurons: usize,
    pub stride: usize,
    pub steps: usize,
    rest: f32,
    inhibition: f32,
    one_winner: bool,
    rise: f32,
    most: f32,
    rule: Rule,
    winner: Stream,
}

/// A rule with its traces as tables over the steps since the last spike.
#[derive(Debug)]
enum Rule {
    Pair { rates: [f32; 2], pre: Vec<f32>, post: Vec<f32> },
    Triplet { rates: [f32; 2], pre: Vec<f32>, post: [Vec<f32>; 2] },
    PostOnly { rate: f32, offset: f32, pre: Vec<f32> },
}

impl Constants {
    pub fn new(net: &DiehlCook, seed: u64) -> Self {
        let steps = net.steps();
        // By products, as a trace that decays step by step is.
        let table = |tau: Ms| {
            let factor = (-net.neuron.dt.0 / tau.0).exp() as f32;
            std::iter::successors(Some(1.0f32), |x| Some(x * factor)).take(steps + 1).collect::<Vec<_>>()
        };
        let rule = match net.plasticity {
            Plasticity::Pair { rates, tau } => Rule::Pair { rates, pre: table(tau[0]), post: table(tau[1]) },
            Plasticity::Triplet { rates, tau_pre, tau_post } => {
                Rule::Triplet { rates, pre: table(tau_pre), post: tau_post.map(table) }
            }
            Plasticity::PostOnly { rate, offset, tau_pre } => {
                Rule::PostOnly { rate, offset, pre: table(tau_pre) }
            }
        };
        Self {
            kernel: net.neuron.kernel(),
            neurons: net.neurons,
            stride: net.neurons.next_multiple_of(LANES),
            steps,
            rest: net.neuron.rest as f32,
            inhibition: net.inhibition,
            one_winner: net.one_winner,
            rise: net.threshold.plus,
            most: net.most,
            rule,
            winner: Stream::named(seed, "stdp/winner"),
        }
    }

    /// Whether a rule changes weights of inputs that are silent.
    pub fn touches_silent(&self) -> bool {
        matches!(self.rule, Rule::PostOnly { .. })
    }
}

/// The weights that a presentation reads, and writes if it learns; row `a` begins at `rows[a]`.
pub(super) struct Table<'a> {
    pub weights: Weights<'a>,
    pub rows: &'a [u32],
}

pub(super) enum Weights<'a> {
    Frozen(&'a [f32]),
    Plastic(&'a mut [f32]),
}

/// What a presentation leaves, and its working memory.
#[derive(Debug, Default)]
pub(super) struct Layer {
    membrane: Vec<f32>,
    conductance: [Vec<f32>; 2],
    since: Vec<f32>,
    drive: Vec<f32>,
    lateral: Vec<f32>,
    /// Step of the last spike of each row, of each neuron; `NEVER` for none.
    last_pre: Vec<u32>,
    last_post: Vec<u32>,
    depression: Vec<(u32, f32)>,
    /// Spikes of the step, of the last and of the one before.
    lists: [Vec<u32>; 3],
    /// Neurons that have fired in this presentation.
    active: Vec<u32>,
    /// Neurons that have fired since the caller emptied this: columns that may have changed.
    pub fired: Vec<u32>,
    /// Spikes of each neuron.
    pub counts: Vec<u32>,
}

const NEVER: u32 = u32::MAX;

impl Layer {
    fn reset(&mut self, constants: &Constants, rows: usize) {
        let n = constants.stride;
        let fill = |values: &mut Vec<f32>, value| {
            values.clear();
            values.resize(n, value);
        };
        fill(&mut self.membrane, constants.rest);
        self.conductance.iter_mut().for_each(|g| fill(g, 0.0));
        fill(&mut self.since, LONG);
        fill(&mut self.drive, 0.0);
        fill(&mut self.lateral, 0.0);
        for (values, len, value) in
            [(&mut self.last_pre, rows, NEVER), (&mut self.last_post, n, NEVER), (&mut self.counts, n, 0)]
        {
            values.clear();
            values.resize(len, value);
        }
        self.lists.iter_mut().for_each(Vec::clear);
        self.active.clear();
    }

    /// Total number of spikes.
    pub fn spikes(&self) -> u32 {
        self.counts.iter().sum()
    }

    /// Presents; `shift` is ϑ, infinite for neurons that only fill up a row.
    #[inline(always)]
    pub fn present(
        &mut self,
        constants: &Constants,
        spikes: &Spikes,
        key: Key,
        mut table: Table<'_>,
        shift: &mut [f32],
    ) {
        self.reset(constants, table.rows.len());
        let learns = matches!(table.weights, Weights::Plastic(_));
        let mut inhibited = false;
        for t in 0..constants.steps {
            self.lists.rotate_right(1);
            let [now, _, before] = &mut self.lists;
            // 1.
            if !before.is_empty() || inhibited {
                inhibited = !before.is_empty();
                let others = before.len() as f32;
                self.lateral.fill(constants.inhibition * others);
                let own = constants.inhibition * (others - 1.0);
                before.iter().for_each(|&j| self.lateral[j as usize] = own);
            }
            let [g_e, g_i] = &mut self.conductance;
            let state =
                State { membrane: &mut self.membrane, conductance: [g_e, g_i], since: &mut self.since };
            now.clear();
            // 2.
            if constants.kernel.advance([&self.drive, &self.lateral], shift, state) {
                let crossed = (0..constants.neurons as u32).filter(|&j| self.since[j as usize] == 0.0);
                now.extend(crossed);
                if learns {
                    now.iter().for_each(|&j| shift[j as usize] += constants.rise);
                }
                if constants.one_winner && now.len() > 1 {
                    let word = key.block(&constants.winner, t as u32, 0)[0];
                    let winner = now[((u64::from(word) * now.len() as u64) >> 32) as usize];
                    now.clear();
                    now.push(winner);
                }
                now.iter().for_each(|&j| self.counts[j as usize] += 1);
            }
            let firing = spikes.step(t);
            // 3.
            if let Weights::Plastic(weights) = &mut table.weights {
                for &a in firing {
                    self.last_pre[a as usize] = t as u32;
                }
                self.learn(constants, t as u32, firing, weights, table.rows);
            }
            // 4.
            let weights: &[f32] = match &table.weights {
                Weights::Frozen(weights) => weights,
                Weights::Plastic(weights) => weights,
            };
            sum_rows(weights, table.rows, firing, &mut self.drive);
        }
    }

    #[inline(always)]
    fn learn(&mut self, constants: &Constants, t: u32, firing: &[u32], weights: &mut [f32], rows: &[u32]) {
        let most = constants.most;
        let now = &self.lists[0];
        let trace = |table: &[f32], last: u32| if last == NEVER { 0.0 } else { table[(t - last) as usize] };
        // Depression of the columns that do not fire in this step.
        if let Rule::Pair { rates, post, .. } | Rule::Triplet { rates, post: [post, _], .. } = &constants.rule
        {
            self.depression.clear();
            for &j in self.active.iter().filter(|j| !now.contains(j)) {
                self.depression.push((j, rates[0] * trace(post, self.last_post[j as usize])));
            }
            for &a in firing {
                let row = &mut weights[rows[a as usize] as usize..][..constants.stride];
                for &(j, amount) in &self.depression {
                    let w = &mut row[j as usize];
                    *w = (*w - amount).max(0.0).min(most);
                }
            }
        }
        // All of those that do.
        for &j in now {
            let last = self.last_post[j as usize];
            let column = rows.iter().zip(&self.last_pre);
            match &constants.rule {
                Rule::Pair { rates, pre, .. } => {
                    for (&row, &last) in column.filter(|&(_, &last)| last != NEVER) {
                        let w = &mut weights[row as usize + j as usize];
                        let depression = if last == t { rates[0] } else { 0.0 };
                        *w = (*w - depression + rates[1] * pre[(t - last) as usize]).max(0.0).min(most);
                    }
                }
                Rule::Triplet { rates, pre, post } => {
                    let [first, second] = [0, 1].map(|k| trace(&post[k], last));
                    for (&row, &last) in column.filter(|&(_, &last)| last != NEVER) {
                        let w = &mut weights[row as usize + j as usize];
                        let depression = if last == t { rates[0] * first } else { 0.0 };
                        let rise = rates[1] * pre[(t - last) as usize] * second;
                        *w = (*w - depression + rise).max(0.0).min(most);
                    }
                }
                Rule::PostOnly { rate, offset, pre } => {
                    for (&row, &last) in column {
                        let w = &mut weights[row as usize + j as usize];
                        *w = (*w + rate * (trace(pre, last) - offset) * (most - *w)).max(0.0).min(most);
                    }
                }
            }
            if last == NEVER {
                self.active.push(j);
                if !self.fired.contains(&j) {
                    self.fired.push(j);
                }
            }
            self.last_post[j as usize] = t;
        }
    }
}

/// The sum of the rows that fire, ascending, from 0.
#[inline(always)]
fn sum_rows(weights: &[f32], rows: &[u32], firing: &[u32], sums: &mut [f32]) {
    for (tile, sums) in sums.chunks_exact_mut(LANES).enumerate() {
        let mut sum = [0.0f32; LANES];
        for &a in firing {
            let from = rows[a as usize] as usize + tile * LANES;
            if let Some(row) = weights[from..].first_chunk::<LANES>() {
                for (sum, w) in sum.iter_mut().zip(row) {
                    *sum += w;
                }
            }
        }
        sums.copy_from_slice(&sum);
    }
}
