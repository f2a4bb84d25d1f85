//! Plastic projections without a grid: a neuron goes through an epoch alone, and what arrives at it and when it fires
//! changes the weights that end on it.
//!
//! In order of time: a spike that arrives delivers its weight, then acts on weight and trace; a spike of the neuron acts
//! after everything that arrived by then. This is the order of the grid, so that both clocks agree where both are
//! exact. As neurons do not go in step, presynaptic traces are kept for each synapse.

use super::block::{Event, Spike};
use crate::engine::plastic::Plastic;
use crate::error::Result;
use crate::snn::plasticity::{EventDriven, Plasticity};
use crate::snn::synapses::Block as Table;
use crate::units::Ms;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A plastic projection onto one block.
pub(super) struct Learning {
    pub pre: usize,
    pub receptor: u8,
    /// Shared with whoever reads weights between runs.
    plastic: Mutex<Plastic<f64>>,
    /// Places whose weights are recorded, ascending.
    watched: Vec<u32>,
    /// Of each of them, when it changed in this epoch and to what.
    changes: Vec<(f64, u32, f64)>,
    /// Of each of them, the weight when the epoch began.
    before: Vec<f64>,
}

impl std::fmt::Debug for Learning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Learning").field("pre", &self.pre).field("receptor", &self.receptor).finish()
    }
}

impl Learning {
    /// Of one of the network's projections.
    ///
    /// # Errors
    /// A rule whose parameters are out of range.
    pub fn new(
        projection: usize,
        pre: usize,
        receptor: u8,
        table: Table,
        plasticity: &Plasticity,
        dt: Ms,
    ) -> Result<Self> {
        let plastic = Plastic::new(projection, table, plasticity, dt, EventDriven::continuous)?;
        Ok(Self {
            pre,
            receptor,
            plastic: Mutex::new(plastic),
            watched: Vec::new(),
            changes: Vec::new(),
            before: Vec::new(),
        })
    }

    /// The synapses, for whoever has only a reference.
    pub fn shared(&self) -> MutexGuard<'_, Plastic<f64>> {
        self.plastic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn plastic(&mut self) -> &mut Plastic<f64> {
        self.plastic.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// An epoch begins.
    pub fn begin(&mut self) {
        let plastic = self.plastic.get_mut().unwrap_or_else(PoisonError::into_inner);
        let places = plastic.probes.iter().flat_map(|probe| &probe.places);
        self.watched.clear();
        self.watched.extend(places);
        self.watched.sort_unstable();
        self.watched.dedup();
        self.before.clear();
        self.before.extend(self.watched.iter().map(|&place| plastic.table.weights.get(place as usize)));
        self.changes.clear();
    }

    /// A spike arrives at a synapse. Gives the weight that it delivers.
    pub fn arrive(&mut self, time: f64, place: u32) -> f64 {
        let plastic = self.plastic();
        let weight = plastic.table.weights.get(place as usize);
        plastic.arrive_through(time, place as usize);
        self.note(time, place);
        weight
    }

    /// A neuron of the block fires.
    pub fn fire(&mut self, time: f64, target: u32) {
        self.plastic().fire(time, target);
        if !self.watched.is_empty() {
            for i in 0..self.plastic().entering(target).len() {
                let place = self.plastic().entering(target)[i];
                self.note(time, place);
            }
        }
    }

    fn note(&mut self, time: f64, place: u32) {
        if self.watched.binary_search(&place).is_ok() {
            let weight = self.plastic().table.weights.get(place as usize);
            self.changes.push((time, place, weight));
        }
    }

    /// An epoch of the steps `start..end` is over: records what was watched, and scales weights.
    pub fn end(&mut self, start: u64, end: u64) {
        let Self { plastic, watched, changes, before, .. } = self;
        let plastic = plastic.get_mut().unwrap_or_else(PoisonError::into_inner);
        changes.sort_by(|a, b| a.0.total_cmp(&b.0)); // stable: changes of one time stay in order
        for probe in &mut plastic.probes {
            let mut weights = before.clone();
            let mut next = changes.iter().peekable();
            for step in (start.next_multiple_of(probe.every)..end).step_by(probe.every as usize) {
                while let Some(&&(_, place, weight)) = next.peek().filter(|change| change.0 <= step as f64) {
                    if let Ok(i) = watched.binary_search(&place) {
                        weights[i] = weight;
                    }
                    next.next();
                }
                let column = |place| watched.binary_search(place).map_or(f64::NAN, |i| weights[i]);
                probe.values.extend(probe.places.iter().map(column));
            }
        }
        plastic.normalise(end);
    }
}

/// What listens to a neuron of a block while it goes through its events.
pub(super) struct Listener<'a> {
    pub learning: &'a mut [Learning],
    pub spikes: &'a mut Vec<Spike>,
    /// Of the neuron, in its population and in its block.
    pub number: u32,
    pub target: u32,
}

impl super::dynamics::Listener for Listener<'_> {
    #[inline]
    fn weight(&mut self, event: &mut super::dynamics::Arrival) -> f64 {
        if let Some(learning) =
            event.through.checked_sub(1).and_then(|i| self.learning.get_mut(usize::from(i)))
        {
            // From here on it is an event like others.
            event.weight = learning.arrive(event.time, event.weight as u32);
            event.through = 0;
        }
        event.weight
    }

    #[inline]
    fn spike(&mut self, time: f64) {
        self.spikes.push((time, self.number));
        self.learning.iter_mut().for_each(|learning| learning.fire(time, self.target));
    }
}

impl Event {
    /// Through a plastic synapse: its weight is read when it arrives, until then it holds the place in the table.
    pub fn through(time: f64, target: u16, receptor: u8, projection: u16, place: u32) -> Self {
        Self { time, weight: place.into(), target, receptor, through: projection + 1 }
    }
}
