//! A block of neurons: their state, the events on their way to them, and how they go through an epoch alone.

use super::dynamics::{Dynamics, State};
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
    sorted: Vec<(f64, u32, f64)>,
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
        self.sorted.resize(self.arrived.len(), (0.0, 0, 0.0));
        for event in &self.arrived {
            let end = &mut self.ends[usize::from(event.target)];
            self.sorted[*end as usize] = (event.time, event.receptor.into(), event.weight);
            *end += 1;
        }
        let mut start = 0;
        for &end in &self.ends {
            let events = &mut self.sorted[start..end as usize];
            if events.windows(2).any(|pair| pair[0].0 > pair[1].0) {
                events.sort_by(|a, b| a.0.total_cmp(&b.0)); // stable
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
            trains.draw(beyond, |n, time| arrived.push(Event { time, weight, target: n as u16, receptor }));
        }
        let switches = self.switches[self.switched..].iter().take_while(|event| event.time < beyond);
        let before = self.lane.arrived.len();
        self.lane.arrived.extend(switches);
        self.switched += self.lane.arrived.len() - before;
        self.lane.sort(neurons);
        self.sample(start, end);
        let mut from = 0;
        for n in 0..neurons {
            let to = self.lane.ends[n] as usize;
            if from == to && self.state.due[n] > until {
                continue;
            }
            let events = &self.lane.sorted[from..to];
            let number = self.first + n as u32;
            let spikes = &mut self.spikes;
            self.dynamics.run(&mut self.state, n, events, until, &mut |t| spikes.push((t, number)));
            from = to;
        }
    }

    /// Samples the potentials of the probes, each on a copy of its neuron that goes through the epoch in pieces.
    fn sample(&mut self, start: u64, end: u64) {
        for probe in &mut self.probes {
            let times = (start.next_multiple_of(probe.every)..end).step_by(probe.every as usize);
            let width = probe.neurons.len();
            probe.values.clear();
            probe.values.resize(width * times.clone().count(), 0.0);
            for (column, &neuron) in probe.neurons.iter().enumerate() {
                let n = usize::from(neuron);
                let mut state = self.dynamics.only(&self.state, n);
                let to = self.lane.ends[n] as usize;
                let mut from = if n == 0 { 0 } else { self.lane.ends[n - 1] as usize };
                for (row, time) in times.clone().enumerate() {
                    let time = time as f64;
                    let next = from + self.lane.sorted[from..to].partition_point(|event| event.0 <= time);
                    self.dynamics.run(&mut state, 0, &self.lane.sorted[from..next], time, &mut |_| {});
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
        for (pre, receptor, table) in &self.tables {
            for &(time, source) in &spikes[*pre] {
                let row = table.row(source);
                self.events += row.len() as u64;
                for place in row {
                    let arrival = time + f64::from(table.delays.get(place));
                    let event = Event {
                        time: arrival,
                        weight: table.weights.get(place),
                        target: table.targets[place],
                        receptor: *receptor,
                    };
                    // A neuron that starts above its threshold fires at 0, which is in no step.
                    let step = (arrival.ceil() as u64 - 1).max(end);
                    self.calendar[(step % steps) as usize].push(event);
                }
            }
        }
    }
}
