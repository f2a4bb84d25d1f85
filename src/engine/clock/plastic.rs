//! Plastic projections on the grid: spikes are delivered when they arrive, and what arrives and who fires changes the
//! weights.
//!
//! The whole delay of a synapse lies before it (it is axonal): a spike of step `t` with a delay of `d` steps delivers
//! its weight in step `t + d` and acts on weight and trace there, in this order. A spike of the target acts in its own
//! step, after what arrived in it. So a block owns all weights of its neurons and whatever changes them, and neither
//! threads nor the cut into blocks show. Traces are advanced when they are read.

use super::block::{Number, SLOTS, add_row};
use super::history::History;
use crate::engine::plastic::Plastic;
use crate::error::Result;
use crate::snn::plasticity::{EventDriven, Plasticity};
use crate::snn::synapses::{Block as Table, Delays};
use crate::units::Ms;
use std::ops::Range;

/// A plastic projection onto one block, and what is on its way to it.
pub(super) struct Learning {
    pub plastic: Plastic<u64>,
    pre: usize,
    /// Where synapses have their own delays: those at which a spike arrives, `[step mod steps]`, in the order in which
    /// the spikes were sent. Empty for one delay.
    calendar: Vec<Vec<u32>>,
}

impl Learning {
    /// Of a projection from population `pre`, whose longest delay is of `longest` steps.
    ///
    /// # Errors
    /// A rule whose parameters are out of range.
    pub fn new(
        projection: usize,
        pre: usize,
        table: Table,
        plasticity: &Plasticity,
        longest: u32,
        dt: Ms,
    ) -> Result<Self> {
        let same = matches!(table.delays, Delays::Same(_));
        let drive = if same { EventDriven::new } else { EventDriven::per_synapse };
        let calendar = if same { 0 } else { longest as usize + 1 };
        let plastic = Plastic::new(projection, table, plasticity, dt, drive)?;
        Ok(Self { plastic, pre, calendar: vec![Vec::new(); calendar] })
    }

    /// Synapses with their own delays: notes where the spikes of a step will arrive, from step `now` on.
    pub fn send(&mut self, emitted: u64, now: u64, history: &History) {
        let steps = self.calendar.len() as u64;
        if steps == 0 {
            return;
        }
        let table = &self.plastic.table;
        for &source in history.spikes(emitted, self.pre) {
            for place in table.row(source) {
                let arrival = emitted + u64::from(table.delays.get(place));
                if arrival >= now {
                    self.calendar[(arrival % steps) as usize].push(place as u32);
                }
            }
        }
    }

    /// Forgets what is on its way, and notes the spikes of these steps again.
    pub fn resend(&mut self, emitted: Range<u64>, now: u64, history: &History) {
        self.calendar.iter_mut().for_each(Vec::clear);
        emitted.for_each(|step| self.send(step, now, history));
    }

    /// Adds what arrives in a step to the sums of the targets, and lets it act on the weights. Gives the number of
    /// synaptic events.
    pub fn deliver<F: Number>(&mut self, step: u64, history: &History, sums: &mut [F; SLOTS]) -> u64 {
        let Self { plastic, pre, calendar } = self;
        let mut events = 0;
        if let Delays::Same(delay) = plastic.table.delays {
            let Some(emitted) = step.checked_sub(delay.into()) else { return 0 };
            for &source in history.spikes(emitted, *pre) {
                let row = plastic.table.row(source);
                events += row.len() as u64;
                add_row(&plastic.table.weights, row.clone(), &plastic.table.targets[row], sums);
                plastic.arrive_from(step, source);
            }
            return events;
        }
        let slot = (step % calendar.len() as u64) as usize;
        for place in calendar[slot].drain(..) {
            let place = place as usize;
            events += 1;
            let sum = &mut sums[usize::from(plastic.table.targets[place])];
            *sum = *sum + F::of(plastic.table.weights.get(place));
            plastic.arrive_through(step, place);
        }
        events
    }

    /// The end of a step in which these neurons fired, by their numbers in the population.
    pub fn fire(&mut self, step: u64, spikes: &[u32]) {
        let first = self.plastic.table.range.start;
        spikes.iter().for_each(|&neuron| self.plastic.fire(step, neuron - first));
        self.plastic.normalise(step + 1);
    }

    /// Records weights before a step.
    pub fn record(&mut self, step: u64) {
        let Plastic { table, probes, .. } = &mut self.plastic;
        for probe in probes.iter_mut().filter(|probe| step.is_multiple_of(probe.every)) {
            probe.values.extend(probe.places.iter().map(|&place| table.weights.get(place as usize)));
        }
    }
}
