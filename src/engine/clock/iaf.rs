//! Steps of the model that most networks are made of, [`Iaf`](crate::snn::neurons::Iaf), that look at few neurons alone.
//!
//! All neurons are integrated alike, some at a time, and only where one of them is above the threshold anybody is looked
//! at. Refractory neurons are integrated, too, and what became of them is thrown away when their time is over: a queue
//! says when, and at which potential they were held. So there is no refractory state to go through in each step, and the
//! results are those of [`Neuron::advance`](crate::snn::Neuron::advance).

use super::block::Number;
use crate::lines::Lines;
use crate::snn::neurons::Iaf;
use crate::snn::neurons::iaf::Factors;
use std::collections::VecDeque;
use std::ops::Range;

/// Neurons that are integrated together: their state stays in the nearest cache until they are compared.
const MANY: usize = 256;
/// Neurons that are looked at together, where there is something to see.
const FEW: usize = 16;

/// The neurons of a block.
pub(super) struct Together<F> {
    factors: Factors<F>,
    /// Who is refractory, by the end of it. Nothing where the state itself says it.
    held: Option<VecDeque<Held<F>>>,
    /// The step to come.
    next: u64,
}

/// A refractory neuron.
struct Held<F> {
    /// The first step in which it is not.
    until: u64,
    neuron: usize,
    potential: F,
}

impl<F: Number> Together<F> {
    /// Nothing where the order of a step is another one.
    pub fn new(model: &Iaf) -> Option<Self> {
        let factors = model.factors();
        factors.input_comes_second().then_some(Self { factors, held: None, next: 0 })
    }

    /// The current that a receptor acts on. What arrives at it can as well be added when the step is over.
    pub fn current(&self, receptor: usize) -> Option<usize> {
        Some(self.factors.target(receptor)).filter(|&variable| variable > 0)
    }

    /// One step. Takes what arrives at each receptor of synapses, one value per neuron or none for nothing, and leaves
    /// zeros. Writes who fires, counted from `first`.
    #[inline(always)]
    pub fn step(
        &mut self,
        step: u64,
        state: &mut [Lines<F>],
        arriving: &mut [&mut [F]; 2],
        first: u32,
        spikes: &mut Vec<u32>,
    ) {
        let Some((hold, variables)) = state.split_last_mut() else { return };
        self.release(step, &mut variables[0], hold);
        // A copy, which nothing that is written can change.
        let factors = self.factors;
        let n = hold.len();
        for start in (0..n).step_by(MANY) {
            let many = start..n.min(start + MANY);
            if integrate(&factors, many.clone(), variables, arriving) {
                let u = &mut variables[0][..];
                let rest = many.end - many.len() % FEW;
                for start in (many.start..rest).step_by(FEW) {
                    let few = start..start + FEW;
                    if u[few.clone()].iter().fold(false, |any, &u| any | (u > factors.threshold)) {
                        self.fire(step, few, u, hold, first, spikes);
                    }
                }
                self.fire(step, rest..many.end, u, hold, first, spikes);
            }
        }
        self.next = step + 1;
    }

    /// Lets go of those whose refractory period is over.
    fn release(&mut self, step: u64, u: &mut [F], hold: &mut [F]) {
        let held = self.held.get_or_insert_with(|| {
            let holds = hold.iter().enumerate().filter(|(_, left)| **left > F::default());
            let mut held: Vec<_> = holds
                .map(|(neuron, left)| {
                    let until = step.saturating_add(left.to_f64().ceil() as u64);
                    Held { until, neuron, potential: u[neuron] }
                })
                .collect();
            held.sort_by_key(|held| held.until);
            held.into()
        });
        while let Some(free) = held.front().filter(|held| held.until <= step) {
            (u[free.neuron], hold[free.neuron]) = (free.potential, F::default());
            held.pop_front();
        }
    }

    /// Looks at some neurons of which at least one is above the threshold.
    fn fire(
        &mut self,
        step: u64,
        part: Range<usize>,
        u: &mut [F],
        hold: &mut [F],
        first: u32,
        spikes: &mut Vec<u32>,
    ) {
        let Factors { threshold, reset, hold: steps, .. } = self.factors;
        for neuron in part {
            if u[neuron] > threshold {
                u[neuron] = reset;
                if hold[neuron] > F::default() {
                    continue;
                }
                spikes.push(first + neuron as u32);
                if steps > F::default() {
                    hold[neuron] = steps;
                    let until = step + 1 + steps.to_f64() as u64;
                    if let Some(held) = &mut self.held {
                        held.push_back(Held { until, neuron, potential: reset });
                    }
                }
            }
        }
    }

    /// Writes into the state who is refractory, and forgets it.
    pub fn settle(&mut self, state: &mut [Lines<F>]) {
        let Some((hold, [u, ..])) = state.split_last_mut() else { return };
        for held in self.held.take().into_iter().flatten() {
            u[held.neuron] = held.potential;
            hold[held.neuron] = F::of(held.until.saturating_sub(self.next) as f64);
        }
    }
}

/// Integrates some neurons and adds what arrives; whether one of them is above the threshold.
#[inline(always)]
fn integrate<F: Number>(
    factors: &Factors<F>,
    some: Range<usize>,
    variables: &mut [Lines<F>],
    arriving: &mut [&mut [F]; 2],
) -> bool {
    // Empty where nothing arrives.
    let [x, y] = arriving.each_mut().map(|values| values.get_mut(some.clone()).unwrap_or_default());
    match variables {
        [u] => factors.jumps(&mut u[some], x),
        [u, a] => {
            let over = factors.one_current(&mut u[some.clone()], &mut a[some.clone()]);
            add(&mut a[some], x);
            over
        }
        [u, a, b, ..] => {
            let over = factors.two_currents(&mut u[some.clone()], &mut a[some.clone()], &mut b[some.clone()]);
            add(&mut a[some.clone()], x);
            add(&mut b[some], y);
            over
        }
        [] => false,
    }
}

#[inline(always)]
fn add<F: Number>(variable: &mut [F], arriving: &mut [F]) {
    variable.iter_mut().zip(arriving).for_each(|(x, value)| *x = *x + std::mem::take(value));
}
