//! What is under [`Simulator`](super::Simulator): blocks that go through stretches of steps, each on its own, and hear of
//! each other's spikes in between.

use super::block::{self, Block, Number, Probe};
use super::checkpoint::Saved;
use super::history::History;
use super::plastic::Learning;
use super::{Activity, Input, Options, Poisson, Precision, SpikeTrain, Trace, inputs, simd};
use crate::engine::plastic::Plastic;
use crate::error::Result;
use crate::parallel;
use crate::rng::Stream;
use crate::snn::{Drive, Network, Neuron, Synapses, stimulus};
use crate::units::Ms;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A simulation in one precision.
pub(super) trait Engine: Send {
    fn now(&self) -> u64;
    fn run(&mut self, steps: u64, trains: &mut [Option<SpikeTrain>], traces: &mut [Trace]);
    fn probe(&mut self, population: usize, variable: usize, neurons: &[u32], every: u64);
    fn state(&self, population: usize, variable: usize) -> Vec<f64>;
    fn activity(&self) -> Activity;
    fn synapses(&self) -> &[(u64, u64)];
    /// Calls `each` with all plastic projections of all blocks, by ascending targets.
    fn plastic(&self, each: &mut dyn FnMut(&mut Plastic<u64>));
    fn save(&self) -> Saved;
    fn restore(&mut self, saved: &Saved) -> Result<(), String>;
}

pub(super) struct Simulation<'n, F> {
    /// In the order of populations and of their neurons.
    blocks: Arc<[Mutex<Block<'n, F>>]>,
    /// Blocks in the order in which threads take them.
    largest_first: Vec<usize>,
    /// Of each population: its blocks.
    of: Vec<Range<usize>>,
    inputs: Vec<(usize, Input)>,
    history: History,
    now: u64,
    /// First step whose spikes projections with individual delays have not seen.
    fresh: u64,
    /// Steps until the earliest arrival of a spike: the shortest delay.
    stretch: u64,
    spikes: Vec<u64>,
    synapses: Vec<(u64, u64)>,
    probes: usize,
    /// Synaptic events before the checkpoint that was restored.
    events: u64,
}

/// What the blocks go through alone.
struct Stretch {
    steps: Range<u64>,
    /// See [`Simulation`].
    fresh: u64,
    history: History,
}

fn locked<'a, T>(mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Most steps of a stretch, where there are no delays that end it.
const LONGEST_STRETCH: u32 = 64;

impl<'n, F: Number> Simulation<'n, F> {
    pub fn new(net: &'n Network, options: &Options) -> Result<Self> {
        let threads = rayon::current_num_threads();
        let mut blocks = Vec::new();
        let mut of = Vec::new();
        for (index, p) in net.populations.iter().enumerate() {
            let start = blocks.len();
            if let Some(model) = p.model.as_deref() {
                let initial = initial(net, index, model)?;
                for range in cut(p.size(), options.block, threads) {
                    let part = range.start as usize..range.end as usize;
                    let state = initial
                        .iter()
                        .map(|all| all[part.clone()].iter().map(|&v| F::of(v)).collect())
                        .collect();
                    let drives = drives(net, index, model, &range)?;
                    blocks.push(Block::new(range, model, state, drives));
                }
            }
            of.push(start..blocks.len());
        }
        let (mut shortest, mut longest) = (LONGEST_STRETCH, 1);
        let mut sizes = Vec::new();
        for (index, p) in net.projections.iter().enumerate() {
            let ranges = cut(net.populations[p.post.0].size(), options.block, threads);
            let synapses = Synapses::draw(net, index, &ranges, options.precision == Precision::Double)?;
            let (count, range) = (synapses.len(), synapses.delay_range());
            let mut bytes = 0;
            if let Some((least, most)) = range {
                (shortest, longest) = (shortest.min(least), longest.max(most));
                for (table, block) in synapses.blocks.into_iter().zip(&mut blocks[of[p.post.0].clone()]) {
                    let receptor = p.wiring.receptor;
                    bytes += match &p.wiring.plasticity {
                        None => block.connect(p.pre.0, receptor, table, most),
                        Some(rule) => {
                            let learning = Learning::new(index, p.pre.0, table, rule, most, net.dt)?;
                            block.connect_plastic(receptor, learning)
                        }
                    };
                }
            }
            sizes.push((count, bytes));
        }
        let mut largest_first: Vec<usize> = (0..blocks.len()).collect();
        largest_first.sort_by_key(|&i| std::cmp::Reverse(blocks[i].range.len()));
        Ok(Self {
            blocks: blocks.into_iter().map(Mutex::new).collect(),
            largest_first,
            of,
            inputs: inputs(net),
            history: History::new((longest + shortest) as usize, net.populations.len()),
            now: 0,
            fresh: 0,
            stretch: shortest.into(),
            spikes: vec![0; net.populations.len()],
            synapses: sizes,
            probes: 0,
            events: 0,
        })
    }

    /// Everybody hears of everybody's spikes, and inputs draw theirs, in the stretch that is over.
    fn exchange(
        &mut self,
        Stretch { steps, history, .. }: &mut Stretch,
        trains: &mut [Option<SpikeTrain>],
        traces: &mut [Trace],
    ) {
        for step in steps.clone() {
            let at = (step - steps.start) as usize;
            for (population, blocks) in self.of.iter().enumerate() {
                let list = history.list(step, population);
                list.clear();
                for block in &self.blocks[blocks.clone()] {
                    list.extend_from_slice(&locked(block).spikes[at]);
                }
            }
            for (population, input) in &mut self.inputs {
                input.draw(step, history.list(step, *population));
            }
            for (population, count) in self.spikes.iter_mut().enumerate() {
                let list = history.spikes(step, population);
                *count += list.len() as u64;
                if let Some(train) = &mut trains[population] {
                    train.neurons.extend_from_slice(list);
                    train.steps.resize(train.neurons.len(), step);
                }
            }
        }
        self.collect_traces(traces);
        self.fresh = self.now;
        self.now = steps.end;
    }

    /// Puts together what the blocks of a population recorded.
    fn collect_traces(&self, traces: &mut [Trace]) {
        for (number, trace) in traces.iter_mut().enumerate() {
            let (start, width) = (trace.values.len(), trace.neurons.len());
            for block in &self.blocks[self.of[trace.population.0].clone()] {
                let block = locked(block);
                let Some(probe) = block.probes.iter().find(|probe| probe.number == number) else { continue };
                let each = probe.neurons.len();
                if each == 0 {
                    continue;
                }
                let rows = probe.values.len() / each;
                trace.values.resize(start + rows * width, 0.0);
                let columns = (0..width).filter(|&column| block.range.contains(&trace.neurons[column]));
                for (k, column) in columns.enumerate() {
                    for row in 0..rows {
                        trace.values[start + row * width + column] = probe.values[row * each + k].to_f64();
                    }
                }
            }
        }
    }
}

/// All numbers that a population holds, in an order that no cut into blocks changes: state variables, then what is on
/// its way, by step.
fn slices<F: Number>(blocks: &mut [MutexGuard<'_, Block<'_, F>>], mut each: impl FnMut(&mut [F])) {
    let variables = blocks.first_mut().map_or(0, |block| block.state().len());
    for variable in 0..variables {
        blocks.iter_mut().for_each(|block| each(&mut block.state()[variable]));
    }
    let rows: Vec<usize> = blocks
        .first_mut()
        .map_or_else(Vec::new, |block| block.later().map(|later| later.sums().len()).collect());
    for (channel, &steps) in rows.iter().enumerate() {
        for step in 0..steps {
            for block in blocks.iter_mut() {
                if let Some(sums) = block.later().nth(channel).and_then(|later| later.sums().nth(step)) {
                    each(sums);
                }
            }
        }
    }
}

/// Below so many neurons a piece is not worth having.
const LEAST: usize = 512;

/// Equal pieces of at most `most` neurons; where they are large enough, as many for each of `threads`.
pub(in crate::engine) fn cut(size: usize, most: usize, threads: usize) -> Vec<Range<u32>> {
    let pieces = size.div_ceil(most).max(1);
    let even = pieces.next_multiple_of(threads);
    let pieces = if size >= even * LEAST { even } else { pieces };
    // At multiples of 32, where Poisson drives are drawn 32 at a time.
    let at = |i: usize| if i == pieces { size as u32 } else { (i * size / pieces / 32 * 32) as u32 };
    (0..pieces).map(|i| at(i)..at(i + 1)).filter(|range| !range.is_empty()).collect()
}

/// Values of all state variables before the first step.
pub(in crate::engine) fn initial(net: &Network, index: usize, model: &dyn Neuron) -> Result<Vec<Vec<f64>>> {
    let p = &net.populations[index];
    let variable = |state: &crate::snn::StateSpec| match p
        .stimulus
        .initial
        .iter()
        .find(|(name, _)| name == state.name)
    {
        None => Ok(vec![state.initial.into(); p.size()]),
        Some((name, init)) => {
            let stream = Stream::named(net.seed, &format!("population/{}/initial/{name}", p.name));
            stimulus::drawn(init, p.size(), &stream)
        }
    };
    model.state().iter().map(variable).collect()
}

fn drives<F: Number>(
    net: &Network,
    index: usize,
    model: &dyn Neuron,
    range: &Range<u32>,
) -> Result<Vec<block::Drive<F>>> {
    let p = &net.populations[index];
    let drive = |(i, drive): (usize, &Drive)| {
        let name = format!("population/{}/drive/{i}", p.name);
        let receptor = model.receptors().iter().position(|r| *r == drive.receptor()).unwrap_or(0);
        Ok(match drive {
            Drive::Poisson { rate, weight, .. } => {
                let poisson = Poisson::new(net.seed, &name, rate.0 * net.dt.0 / 1000.0);
                block::Drive::Poisson { receptor, weight: F::of(*weight), poisson }
            }
            Drive::Current { amplitude, from, until, .. } => {
                let all = stimulus::drawn(amplitude, p.size(), &Stream::named(net.seed, &name))?;
                let part = &all[range.start as usize..range.end as usize];
                let step = |time: &Ms| (time.0 / net.dt.0).round() as u64;
                let steps = step(from)..step(until);
                block::Drive::Current { receptor, amplitude: part.iter().map(|&a| F::of(a)).collect(), steps }
            }
        })
    };
    p.stimulus.drives.iter().enumerate().map(drive).collect()
}

impl<F: Number> Engine for Simulation<'_, F> {
    fn now(&self) -> u64 {
        self.now
    }

    fn run(&mut self, steps: u64, trains: &mut [Option<SpikeTrain>], traces: &mut [Trace]) {
        let end = self.now + steps;
        if steps == 0 {
            return;
        }
        let next = |now: u64, stretch: u64| now..end.min(now + stretch);
        let (blocks, order) = (Arc::clone(&self.blocks), self.largest_first.clone());
        let mut stretch = Stretch {
            steps: next(self.now, self.stretch),
            fresh: self.fresh,
            history: std::mem::take(&mut self.history),
        };
        let work = |stretch: &Stretch, i: usize| {
            simd::run(&mut locked(&blocks[order[i]]), stretch.steps.clone(), stretch.fresh, &stretch.history);
        };
        parallel::rounds(blocks.len(), &mut stretch, work, |stretch| {
            self.exchange(stretch, trains, traces);
            (stretch.steps, stretch.fresh) = (next(self.now, self.stretch), self.fresh);
            self.now < end
        });
        self.history = stretch.history;
    }

    fn probe(&mut self, population: usize, variable: usize, neurons: &[u32], every: u64) {
        let number = self.probes;
        self.probes += 1;
        for block in &self.blocks[self.of[population].clone()] {
            let mut block = locked(block);
            let range = block.range.clone();
            let mine = neurons.iter().filter(|n| range.contains(n)).map(|n| (n - range.start) as usize);
            let neurons = mine.collect();
            block.probes.push(Probe { number, variable, neurons, every, values: Vec::new() });
        }
    }

    fn state(&self, population: usize, variable: usize) -> Vec<f64> {
        let blocks = self.blocks[self.of[population].clone()].iter().map(locked);
        blocks
            .flat_map(|mut block| block.state()[variable].iter().map(|v| v.to_f64()).collect::<Vec<_>>())
            .collect()
    }

    fn activity(&self) -> Activity {
        let synaptic_events: u64 = self.blocks.iter().map(|block| locked(block).events).sum();
        Activity { spikes: self.spikes.clone(), synaptic_events: self.events + synaptic_events }
    }

    fn synapses(&self) -> &[(u64, u64)] {
        &self.synapses
    }

    fn plastic(&self, each: &mut dyn FnMut(&mut Plastic<u64>)) {
        for block in self.blocks.iter() {
            locked(block).plastic.iter_mut().for_each(|(_, learning)| each(&mut learning.plastic));
        }
    }

    fn save(&self) -> Saved {
        let mut saved = Saved {
            now: self.now,
            fresh: self.fresh,
            spikes: self.spikes.clone(),
            events: self.activity().synaptic_events,
            ..Saved::default()
        };
        for blocks in &self.of {
            let mut guards: Vec<_> = self.blocks[blocks.clone()].iter().map(locked).collect();
            let mut numbers = Vec::new();
            slices(&mut guards, |part| numbers.extend(part.iter().map(|v| v.to_f64())));
            saved.populations.push(numbers);
        }
        for step in self.now.saturating_sub(self.history.steps())..self.now {
            for population in 0..self.of.len() {
                saved.history.push(self.history.spikes(step, population).to_vec());
            }
        }
        saved
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), String> {
        let populations = self.of.len();
        let steps = saved.now.saturating_sub(self.history.steps())..saved.now;
        let lists = (steps.end - steps.start) as usize * populations;
        if [saved.populations.len(), saved.spikes.len()] != [populations; 2] || saved.history.len() != lists {
            return Err("it is of another network".into());
        }
        for (blocks, numbers) in self.of.iter().zip(&saved.populations) {
            let mut guards: Vec<_> = self.blocks[blocks.clone()].iter().map(locked).collect();
            let mut held = 0;
            slices(&mut guards, |part| held += part.len());
            if held != numbers.len() {
                return Err(format!(
                    "a population has {} numbers, where this network has {held}",
                    numbers.len()
                ));
            }
        }
        for (blocks, numbers) in self.of.iter().zip(&saved.populations) {
            let mut guards: Vec<_> = self.blocks[blocks.clone()].iter().map(locked).collect();
            let mut numbers = numbers.iter().map(|&v| F::of(v));
            slices(&mut guards, |part| part.iter_mut().zip(&mut numbers).for_each(|(to, v)| *to = v));
            guards.iter_mut().for_each(|block| block.events = 0);
        }
        self.events = saved.events;
        let mut history = saved.history.iter();
        for step in steps.clone() {
            for population in 0..populations {
                let list = self.history.list(step, population);
                list.clear();
                list.extend(history.next().into_iter().flatten());
            }
        }
        let sent = steps.start..saved.fresh.max(steps.start);
        let history = &self.history;
        for block in self.blocks.iter() {
            let mut block = locked(block);
            block.plastic.iter_mut().for_each(|(_, to)| to.resend(sent.clone(), saved.now, history));
        }
        self.inputs.iter_mut().for_each(|(_, input)| input.go_to(saved.now));
        (self.now, self.fresh) = (saved.now, saved.fresh);
        self.spikes.clone_from(&saved.spikes);
        Ok(())
    }
}
