//! What a user sees of plastic projections, on either clock: weights now and over time, rewards; and their state for a
//! checkpoint.
//!
//! A synapse has a number in its projection: they are counted by source, then by target, whatever the cut into blocks.

use super::plastic::{Plastic, State, WeightProbe};
use super::{Lazy, Simulator};
use crate::error::{Error, Result};
use crate::snn::plasticity::{Moment, Rule};
use crate::snn::{Network, Projection};

/// The synapses of a projection, ascending by source, then by target; the place in the list is a synapse's number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Connections {
    /// Source of each synapse.
    pub sources: Vec<u32>,
    /// Target of each synapse.
    pub targets: Vec<u32>,
    /// Weight of each synapse, with its sign.
    pub weights: Vec<f64>,
}

/// Weights of some synapses over time.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightTrace {
    /// Name of the projection.
    pub projection: String,
    /// Numbers of the synapses, as in [`Simulator::weights`].
    pub synapses: Vec<usize>,
    /// Steps between two rows.
    pub every: u64,
    /// Step before which the first row was taken.
    pub first: u64,
    /// `[rows, synapses]`, row-major; each row is what the weights were before its step.
    pub values: Vec<f64>,
}

impl WeightTrace {
    /// The rows so far, taken out.
    fn take(&mut self) -> Self {
        let rows = self.values.len() / self.synapses.len().max(1);
        let taken = Self { values: std::mem::take(&mut self.values), ..self.clone() };
        self.first += rows as u64 * self.every;
        taken
    }

    /// Begins anew at step `now`.
    pub(super) fn restart(&mut self, now: u64) {
        self.values.clear();
        self.first = now.next_multiple_of(self.every);
    }
}

impl Simulator<'_> {
    /// The synapses of a plastic projection, with their weights now.
    ///
    /// ```
    /// use ransnn::engine::{Options, Simulator};
    /// use ransnn::snn::{Init, Network, Rule, Source, neurons::Iaf, plasticity::Pair};
    /// use ransnn::units::Ms;
    ///
    /// let dt = Ms(0.1);
    /// let mut net = Network::simulation(dt);
    /// let (early, late) = (Source::Spikes(vec![(0, 0)]), Source::Spikes(vec![(50, 0)]));
    /// let (input, teacher) = (net.source("input", 1, early), net.source("teacher", 1, late));
    /// let cell = net.population("cell", 1, Iaf::delta(Ms(20.0), dt));
    /// net.connect(teacher, cell, Rule::Dense).weights(Init::Constant(30.0)).delay(Ms(1.0));
    /// net.connect(input, cell, Rule::Dense)
    ///     .name("learns")
    ///     .weights(Init::Constant(0.5))
    ///     .delay(Ms(1.0))
    ///     .plasticity(Pair::default());
    /// let net = net.build(1)?;
    /// let mut simulator = Simulator::new(&net, Options::default())?;
    /// simulator.run(Ms(10.0))?;
    /// // The input arrived 5 ms before the cell fired: + 0.01 · exp(−5 / 20).
    /// assert!((simulator.weights("learns")?.weights[0] - 0.507_788).abs() < 1e-6);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// A projection that is not there or not plastic; those that stay are as
    /// [`Synapses::draw`](crate::snn::Synapses::draw) gives them.
    pub fn weights(&self, projection: &str) -> Result<Connections> {
        self.plastics(|all| all.weights(projection))
    }

    /// Keeps the weights of some synapses of a plastic projection, by their numbers in [`Simulator::weights`], from now
    /// on, before every `every`-th step. Returns the trace's number.
    ///
    /// # Errors
    /// A projection that is not there or not plastic, a synapse that it does not have, a stride of 0.
    pub fn record_weights(&mut self, projection: &str, synapses: &[usize], every: u64) -> Result<usize> {
        let number = self.weight_traces.len();
        let trace = self.plastics(|all| all.record(number, projection, synapses, every, self.steps()))?;
        self.weight_traces.push(trace);
        Ok(number)
    }

    /// The recorded weights, by the number that [`Simulator::record_weights`] gave.
    pub fn weight_traces(&self) -> &[WeightTrace] {
        &self.weight_traces
    }

    /// The rows of recorded weights so far, taken out, so that a long run does not keep them in memory.
    pub fn take_weight_trace(&mut self, number: usize) -> Option<WeightTrace> {
        self.weight_traces.get_mut(number).map(WeightTrace::take)
    }

    /// Gives a reward now, after the spikes of the last step, to all projections whose rule waits for one.
    ///
    /// # Errors
    /// A reward that is not a number, or a network without such a projection.
    pub fn reward(&mut self, reward: f64) -> Result<()> {
        self.plastics(|all| all.reward(self.steps().saturating_sub(1), reward))
    }
}

impl Lazy<'_> {
    /// The synapses of a plastic projection, with their weights now, as [`Simulator::weights`] gives them.
    ///
    /// # Errors
    /// A projection that is not there or not plastic.
    pub fn weights(&self, projection: &str) -> Result<Connections> {
        self.plastics(|all| all.weights(projection))
    }

    /// Keeps the weights of some synapses of a plastic projection, by their numbers in [`Lazy::weights`], from now on,
    /// at the beginning of every `every`-th step. Returns the trace's number.
    ///
    /// # Errors
    /// A projection that is not there or not plastic, a synapse that it does not have, a stride of 0.
    pub fn record_weights(&mut self, projection: &str, synapses: &[usize], every: u64) -> Result<usize> {
        let number = self.weight_traces.len();
        let trace = self.plastics(|all| all.record(number, projection, synapses, every, self.steps()))?;
        self.weight_traces.push(trace);
        Ok(number)
    }

    /// The recorded weights, by the number that [`Lazy::record_weights`] gave.
    pub fn weight_traces(&self) -> &[WeightTrace] {
        &self.weight_traces
    }

    /// The rows of recorded weights so far, taken out, so that a long run does not keep them in memory.
    pub fn take_weight_trace(&mut self, number: usize) -> Option<WeightTrace> {
        self.weight_traces.get_mut(number).map(WeightTrace::take)
    }

    /// Gives a reward now to all projections whose rule waits for one.
    ///
    /// # Errors
    /// A reward that is not a number, or a network without such a projection.
    pub fn reward(&mut self, reward: f64) -> Result<()> {
        self.plastics(|all| all.reward(self.steps() as f64, reward))
    }
}

/// Calls a function with the pieces of all plastic projections, by ascending targets.
type Visit<'a, T> = &'a dyn Fn(&mut dyn FnMut(&mut Plastic<T>));

/// The plastic projections of a simulation.
pub(super) struct Plastics<'a, T> {
    pub net: &'a Network,
    pub visit: Visit<'a, T>,
}

impl<T: Moment> Plastics<'_, T> {
    fn weights(&self, projection: &str) -> Result<Connections> {
        let index = self.find(projection)?;
        let (mut next, count) = self.numbering(index);
        let (sources, targets, weights) = (vec![0; count], vec![0; count], vec![0.0; count]);
        let mut all = Connections { sources, targets, weights };
        self.of(index, &mut |plastic| {
            plastic.each(|source, target, weight, _| {
                let number = take(&mut next, source);
                all.sources[number] = source;
                all.targets[number] = target;
                all.weights[number] = weight;
            });
        });
        Ok(all)
    }

    fn record(
        &self,
        number: usize,
        projection: &str,
        synapses: &[usize],
        every: u64,
        now: u64,
    ) -> Result<WeightTrace> {
        let index = self.find(projection)?;
        let (mut next, count) = self.numbering(index);
        if let Some(&synapse) = synapses.iter().find(|&&synapse| synapse >= count) {
            let expected = format!("below {count}, the number of `{projection}`");
            return Err(Error::value("synapse to record", synapse, expected));
        }
        if every == 0 {
            return Err(Error::value("steps between records", 0, "at least 1"));
        }
        let mut wanted: Vec<(usize, usize)> = synapses.iter().copied().zip(0..).collect();
        wanted.sort_unstable();
        self.of(index, &mut |plastic| {
            let (mut columns, mut places) = (Vec::new(), Vec::new());
            plastic.each(|source, _, _, place| {
                let number = take(&mut next, source);
                let from = wanted.partition_point(|&(synapse, _)| synapse < number);
                for &(_, column) in wanted[from..].iter().take_while(|&&(synapse, _)| synapse == number) {
                    columns.push(column);
                    places.push(place);
                }
            });
            if !columns.is_empty() {
                plastic.probes.push(WeightProbe { number, columns, places, every, values: Vec::new() });
            }
        });
        let (projection, synapses) = (projection.into(), synapses.to_vec());
        Ok(WeightTrace {
            projection,
            synapses,
            every,
            first: now.next_multiple_of(every),
            values: Vec::new(),
        })
    }

    fn reward(&self, step: T, reward: f64) -> Result<()> {
        let waits = |p: &Projection| matches!(&p.wiring.plasticity, Some(plasticity) if matches!(plasticity.rule, Rule::Reward(_)));
        if !self.net.projections.iter().any(waits) {
            return Err(Error::value(
                "reward",
                reward,
                "given to a network with a projection that waits for it",
            ));
        }
        let mut outcome = Ok(());
        (self.visit)(&mut |plastic| {
            if plastic.waits_for_reward() && outcome.is_ok() {
                outcome = plastic.reward(step, reward);
            }
        });
        outcome
    }

    /// Puts together what the blocks recorded in the last run.
    pub fn collect(&self, traces: &mut [WeightTrace]) {
        let starts: Vec<usize> = traces.iter().map(|trace| trace.values.len()).collect();
        (self.visit)(&mut |plastic| {
            for probe in &mut plastic.probes {
                let (trace, start) = (&mut traces[probe.number], starts[probe.number]);
                let (width, each) = (trace.synapses.len(), probe.columns.len());
                trace.values.resize(start + probe.values.len() / each * width, 0.0);
                for (row, values) in probe.values.chunks_exact(each).enumerate() {
                    for (&column, &value) in probe.columns.iter().zip(values) {
                        trace.values[start + row * width + column] = value;
                    }
                }
                probe.values.clear();
            }
        });
    }

    /// Hands over the state of all plastic projections as arrays with names.
    ///
    /// # Errors
    /// Those of `put`.
    pub fn save(&self, mut put: impl FnMut(String, Vec<f64>) -> Result<()>) -> Result<()> {
        for (i, (index, mut state)) in self.empty().into_iter().enumerate() {
            self.exchange(index, &mut state, |here, there| *there = *here);
            for (name, values) in state.arrays() {
                put(array(i, name), std::mem::take(values))?;
            }
        }
        Ok(())
    }

    /// Reads what [`Plastics::save`] handed over, at step `now`, and changes nothing yet.
    ///
    /// # Errors
    /// Those of `get`; by `bad`, what does not fit.
    pub fn load(
        &self,
        now: u64,
        get: impl Fn(&str) -> Result<Vec<f64>>,
        bad: impl Fn(String) -> Error,
    ) -> Result<Vec<State>> {
        let mut states = Vec::new();
        for (i, (_, mut state)) in self.empty().into_iter().enumerate() {
            for (name, numbers) in state.arrays() {
                let name = array(i, name);
                let read = get(&name)?;
                if read.len() != numbers.len() {
                    let (got, held) = (read.len(), numbers.len());
                    return Err(bad(format!("`{name}` has {got} numbers, where this network has {held}")));
                }
                *numbers = read;
            }
            if !state.is_of(now) {
                return Err(bad("it has traces of spikes that are still to come".into()));
            }
            states.push(state);
        }
        Ok(states)
    }

    /// Takes up what [`Plastics::load`] read.
    pub fn set(&self, states: Vec<State>) {
        for ((index, _), mut state) in self.empty().into_iter().zip(states) {
            self.exchange(index, &mut state, |here, there| *here = *there);
        }
    }

    /// States of the right sizes, with the number of each plastic projection in the network.
    fn empty(&self) -> Vec<(usize, State)> {
        let state = |(index, p): (usize, &Projection)| {
            let plasticity = p.wiring.plasticity?;
            let [sources, targets] = [p.pre, p.post].map(|pop| self.net.populations[pop.0].size());
            let (_, synapses) = self.numbering(index);
            let mut by_synapse = false;
            self.of(index, &mut |plastic| by_synapse |= plastic.by_synapse());
            let owed = matches!(plasticity.rule, Rule::Reward(_));
            Some((index, State::zeros(sources, targets, synapses, by_synapse, owed)))
        };
        self.net.projections.iter().enumerate().filter_map(state).collect()
    }

    fn exchange(&self, projection: usize, state: &mut State, swap: fn(&mut f64, &mut f64)) {
        let (mut next, _) = self.numbering(projection);
        self.of(projection, &mut |plastic| {
            let mut numbers = Vec::new();
            plastic.each(|source, _, _, _| numbers.push(take(&mut next, source)));
            plastic.exchange(&numbers, state, swap);
        });
    }

    /// Calls `each` with the pieces of one projection.
    fn of(&self, projection: usize, each: &mut dyn FnMut(&mut Plastic<T>)) {
        (self.visit)(&mut |plastic| {
            if plastic.projection == projection {
                each(plastic);
            }
        });
    }

    fn find(&self, name: &str) -> Result<usize> {
        let plastic = |p: &Projection| p.name == name && p.wiring.plasticity.is_some();
        let found = self.net.projections.iter().position(plastic);
        found.ok_or_else(|| Error::value("projection", name, "a plastic one of the network"))
    }

    /// The number of each source's first synapse, and the number of synapses.
    fn numbering(&self, projection: usize) -> (Vec<usize>, usize) {
        let pre = self.net.projections[projection].pre;
        let mut first = vec![0; self.net.populations[pre.0].size()];
        self.of(projection, &mut |plastic| {
            first.iter_mut().zip(plastic.rows()).for_each(|(count, row)| *count += row);
        });
        let mut sum = 0;
        first.iter_mut().for_each(|count| (*count, sum) = (sum, sum + *count));
        (first, sum)
    }
}

/// Name of an array of the `i`-th plastic projection.
fn array(i: usize, name: &str) -> String {
    format!("plastic.{i:08}.{name}")
}

/// The next number of a source; blocks are asked by ascending target.
fn take(next: &mut [usize], source: u32) -> usize {
    let number = next[source as usize];
    next[source as usize] += 1;
    number
}
