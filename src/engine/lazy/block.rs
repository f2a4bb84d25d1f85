//! A block of neurons: their state, the events on their way to them, and how they go through an epoch alone.

use super::dynamics::{Arrival, Dynamics, Nobody, State};
use super::plastic::{Learning, Listener};
use super::poisson::Trains;
use crate::snn::synapses::Block as Table;

/// A spike of one neuron: its time in steps, and the neuron's number in its population.
pub(super) type Spike = (f64, u32);

/// Something that arrives at a neuron.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Event {
    pub time: f64,
    pub weight: f64,
    /// Counted from the first of the block.
    pub target: u16,
    pub receptor: u8,
    /// As in [`Arrival`].
    pub through: u16,
}

/// Neurons of one population with consecutive numbers.
#[derive(Debug)]
pub(super) struct Block {
    pub population: usize,
    /// Number of the first neuron.
    pub first: u32,
    pub dynamics: Dynamics,
    pub state: State,
    /// Projections onto the block: source population, receptor, synapses.
    pub tables: Vec<(usize, u8, Table)>,
    /// Those whose weights change.
    pub plastic: Vec<Learning>,
    /// Events on their way, `[step of arrival mod steps]`, in the order in which they were sent. A step does not
    /// include its beginning, but its end.
    pub calendar: Vec<Vec<Event>>,
    /// Poisson trains from outside: receptor, weight, times.
    pub drives: Vec<(u8, f64, Trains)>,
    /// What else comes from outside, by time.
    pub switches: Vec<Event>,
    /// How many of them have come.
    pub switched: usize,
    /// Spikes of the last epoch.
    pub spikes: Vec<Spike>,
    /// Neurons whose potential is sampled (column, neuron), every so many steps, for each trace.
    pub probes: Vec<Probe>,
    /// Synaptic events so far.
    pub events: u64,
    lane: Lane,
}

/// Where the potential is sampled.
#[derive(Debug)]
pub(super) struct Probe {
    /// Neurons, counted from the first of the block.
    pub neurons: Vec<u16>,
    pub every: u64,
    /// What was sampled in the last epoch: `[samples, neurons]`.
    pub values: Vec<f64>,
}

/// The events of an epoch, sorted by target, then by time.
#[derive(Debug, Default)]
struct Lane {
    arrived: Vec<Event>,
    ends: Vec<u32>,
    sorted: Vec<Arrival>,
}

impl Lane {
    /// Sorts what arrived; events of the same target and time stay in their order.
    fn sort(&mut self, neurons: usize) {
        self.ends.clear();
        self.ends.resize(neurons, 0);
        self.arrived.iter().for_each(|event| self.ends[usize::from(event.target)] += 1);
        let mut sum = 0;
        for end in &mut self.ends {
            // For now the beginning of each neuron's events; it moves to their end as they are put down.
            (*end, sum) = (sum, sum + *end);
        }
        self.sorted.clear();
        self.sorted.resize(self.arrived.len(), Arrival::default());
        for &Event { time, weight, target, receptor, through } in &self.arrived {
            let end = &mut self.ends[usize::from(target)];
            self.sorted[*end as usize] = Arrival { time, weight, receptor: receptor.into(), through };
            *end += 1;
        }
        let mut start = 0;
        for &end in &self.ends {
            let events = &mut self.sorted[start..end as usize];
            if events.windows(2).any(|pair| pair[0].time > pair[1].time) {
                events.sort_by(|a, b| a.time.total_cmp(&b.time)); // stable
            }
            start = end as usize;
        }
    }
}

impl Block {
    pub fn new(population: usize, first: u32, dynamics: Dynamics, state: State) -> Self {
        Self {
            population,
            first,
            dynamics,
            state,
            tables: Vec::new(),
            plastic: Vec::new(),
            calendar: Vec::new(),
            drives: Vec::new(),
            switches: Vec::new(),
            switched: 0,
            spikes: Vec::new(),
            probes: Vec::new(),
            events: 0,
            lane: Lane::default(),
        }
    }

    /// Number of neurons.
    pub fn neurons(&self) -> usize {
        self.state.membrane.len()
    }

    /// Runs the neurons through the steps `start..end`; what arrives in them is known.
    pub fn run(&mut self, start: u64, end: u64) {
        let neurons = self.neurons();
        self.spikes.clear();
        self.lane.arrived.clear();
        let steps = self.calendar.len() as u64;
        for step in start..end {
            self.lane.arrived.append(&mut self.calendar[(step % steps) as usize]);
        }
        let (until, beyond) = (end as f64, (end as f64).next_up());
        for (receptor, weight, trains) in &mut self.drives {
            let (receptor, weight) = (*receptor, *weight);
            let arrived = &mut self.lane.arrived;
            trains.draw(beyond, |n, time| {
                arrived.push(Event { time, weight, target: n as u16, receptor, through: 0 })
            });
        }
        let switches = self.switches[self.switched..].iter().take_while(|event| event.time < beyond);
        let before = self.lane.arrived.len();
        self.lane.arrived.extend(switches);
        self.switched += self.lane.arrived.len() - before;
        self.lane.sort(neurons);
        self.plastic.iter_mut().for_each(Learning::begin);
        let (dynamics, state) = (&self.dynamics, &self.state);
        let copies = |probe: &Probe| probe.neurons.iter().map(|&n| dynamics.only(state, n.into())).collect();
        let before: Vec<Vec<State>> = self.probes.iter().map(copies).collect();
        let mut from = 0;
        for n in 0..neurons {
            let to = self.lane.ends[n] as usize;
            if from == to && self.state.due[n] > until {
                continue;
            }
            let events = &mut self.lane.sorted[from..to];
            let mut listener = Listener {
                learning: &mut self.plastic,
                spikes: &mut self.spikes,
                number: self.first + n as u32,
                target: n as u32,
            };
            self.dynamics.run(&mut self.state, n, events, until, &mut listener);
            from = to;
        }
        self.plastic.iter_mut().for_each(|learning| learning.end(start, end));
        self.sample(start, end, before);
    }

    /// Samples the potentials of the probes, each on a copy of its neuron from before the epoch, that goes through it
    /// once more in pieces; the weights of what arrived are known by now.
    fn sample(&mut self, start: u64, end: u64, before: Vec<Vec<State>>) {
        for (probe, copies) in self.probes.iter_mut().zip(before) {
            let times = (start.next_multiple_of(probe.every)..end).step_by(probe.every as usize);
            let width = probe.neurons.len();
            probe.values.clear();
            probe.values.resize(width * times.clone().count(), 0.0);
            for ((column, &neuron), mut state) in probe.neurons.iter().enumerate().zip(copies) {
                let n = usize::from(neuron);
                let to = self.lane.ends[n] as usize;
                let mut from = if n == 0 { 0 } else { self.lane.ends[n - 1] as usize };
                for (row, time) in times.clone().enumerate() {
                    let time = time as f64;
                    let next = from + self.lane.sorted[from..to].partition_point(|event| event.time <= time);
                    self.dynamics.run(&mut state, 0, &mut self.lane.sorted[from..next], time, &mut Nobody);
                    from = next;
                    probe.values[row * width + column] =
                        self.dynamics.rest + self.dynamics.membrane(&state, 0, time);
                }
            }
        }
    }

    /// Sends the spikes of an epoch that ended with step `end` on their way; `spikes` has those of each population, by
    /// time.
    pub fn receive(&mut self, spikes: &[Vec<Spike>], end: u64) {
        let steps = self.calendar.len() as u64;
        let Self { tables, plastic, calendar, events, .. } = self;
        // A neuron that starts above its threshold fires at 0, which is in no step.
        let slot = |arrival: f64| ((arrival.ceil() as u64 - 1).max(end) % steps) as usize;
        for (pre, receptor, table) in tables {
            for &(time, source) in &spikes[*pre] {
                let row = table.row(source);
                *events += row.len() as u64;
                for place in row {
                    let time = time + f64::from(table.delays.get(place));
                    let (weight, target) = (table.weights.get(place), table.targets[place]);
                    let event = Event { time, weight, target, receptor: *receptor, through: 0 };
                    calendar[slot(time)].push(event);
                }
            }
        }
        for (i, learning) in plastic.iter_mut().enumerate() {
            let (pre, receptor) = (learning.pre, learning.receptor);
            let table = &learning.plastic().table;
            for &(time, source) in &spikes[pre] {
                let row = table.row(source);
                *events += row.len() as u64;
                for place in row {
                    let time = time + f64::from(table.delays.get(place));
                    let target = table.targets[place];
                    let event = Event::through(time, target, receptor, i as u16, place as u32);
                    calendar[slot(time)].push(event);
                }
            }
        }
    }
}
