//! What a user sees of plastic projections: weights now and over time, rewards; and their state for a checkpoint.
//!
//! A synapse has a number in its projection: they are counted by source, then by target, whatever the cut into blocks.

use super::Simulator;
use super::plastic::{Plastic, State, WeightProbe};
use crate::error::{Error, Result};
use crate::snn::plasticity::Rule;

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
        let index = self.plastic_projection(projection)?;
        let (mut next, count) = self.numbering(index);
        let (sources, targets, weights) = (vec![0; count], vec![0; count], vec![0.0; count]);
        let mut all = Connections { sources, targets, weights };
        self.core.plastic(&mut |plastic| {
            if plastic.projection == index {
                plastic.each(|source, target, weight, _| {
                    let number = take(&mut next, source);
                    all.sources[number] = source;
                    all.targets[number] = target;
                    all.weights[number] = weight;
                });
            }
        });
        Ok(all)
    }

    /// Keeps the weights of some synapses of a plastic projection, by their numbers in [`Simulator::weights`], from now
    /// on, before every `every`-th step. Returns the trace's number.
    ///
    /// # Errors
    /// A projection that is not there or not plastic, a synapse that it does not have, a stride of 0.
    pub fn record_weights(&mut self, projection: &str, synapses: &[usize], every: u64) -> Result<usize> {
        let index = self.plastic_projection(projection)?;
        let (mut next, count) = self.numbering(index);
        if let Some(&synapse) = synapses.iter().find(|&&synapse| synapse >= count) {
            let expected = format!("below {count}, the number of `{projection}`");
            return Err(Error::value("synapse to record", synapse, expected));
        }
        if every == 0 {
            return Err(Error::value("steps between records", 0, "at least 1"));
        }
        let number = self.weight_traces.len();
        let mut wanted: Vec<(usize, usize)> = synapses.iter().copied().zip(0..).collect();
        wanted.sort_unstable();
        self.core.plastic(&mut |plastic| {
            if plastic.projection != index {
                return;
            }
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
        self.weight_traces.push(WeightTrace {
            projection: projection.into(),
            synapses: synapses.to_vec(),
            every,
            first: self.core.now().next_multiple_of(every),
            values: Vec::new(),
        });
        Ok(number)
    }

    /// The recorded weights, by the number that [`Simulator::record_weights`] gave.
    pub fn weight_traces(&self) -> &[WeightTrace] {
        &self.weight_traces
    }

    /// The rows of recorded weights so far, taken out, so that a long run does not keep them in memory.
    pub fn take_weight_trace(&mut self, number: usize) -> Option<WeightTrace> {
        let trace = self.weight_traces.get_mut(number)?;
        let rows = trace.values.len() / trace.synapses.len().max(1);
        let taken = WeightTrace { values: std::mem::take(&mut trace.values), ..trace.clone() };
        trace.first += rows as u64 * trace.every;
        Some(taken)
    }

    /// Gives a reward now, after the spikes of the last step, to all projections whose rule waits for one.
    ///
    /// # Errors
    /// A reward that is not a number, or a network without such a projection.
    pub fn reward(&mut self, reward: f64) -> Result<()> {
        let waits = |p: &crate::snn::Projection| matches!(&p.wiring.plasticity, Some(plasticity) if matches!(plasticity.rule, Rule::Reward(_)));
        if !self.net.projections.iter().any(waits) {
            return Err(Error::value(
                "reward",
                reward,
                "given to a network with a projection that waits for it",
            ));
        }
        let step = self.core.now().saturating_sub(1);
        let mut outcome = Ok(());
        self.core.plastic(&mut |plastic| {
            if plastic.waits_for_reward() && outcome.is_ok() {
                outcome = plastic.reward(step, reward);
            }
        });
        outcome
    }

    /// Puts together what the blocks recorded in the last run.
    pub(super) fn collect_weights(&mut self) {
        let traces = &mut self.weight_traces;
        let starts: Vec<usize> = traces.iter().map(|trace| trace.values.len()).collect();
        self.core.plastic(&mut |plastic| {
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

    /// States of all plastic projections, in the order of the network.
    pub(super) fn plastic_states(&self) -> Vec<State> {
        let mut states = self.empty_states();
        for (index, state) in &mut states {
            self.exchange(*index, state, |here, there| *there = *here);
        }
        states.into_iter().map(|(_, state)| state).collect()
    }

    /// The other way round; the sizes must fit those of [`Simulator::empty_states`].
    pub(super) fn set_plastic_states(&mut self, states: Vec<State>) {
        for ((index, _), mut state) in self.empty_states().into_iter().zip(states) {
            self.exchange(index, &mut state, |here, there| *here = *there);
        }
    }

    /// States of the right sizes, with the number of each plastic projection in the network.
    pub(super) fn empty_states(&self) -> Vec<(usize, State)> {
        let projections = self.net.projections.iter().enumerate();
        let state = |(index, p): (usize, &crate::snn::Projection)| {
            let plasticity = p.wiring.plasticity?;
            let [sources, targets] = [p.pre, p.post].map(|pop| self.net.populations[pop.0].size());
            let (_, synapses) = self.numbering(index);
            let mut own_delays = false;
            self.core
                .plastic(&mut |plastic| own_delays |= plastic.projection == index && plastic.own_delays());
            let owed = matches!(plasticity.rule, Rule::Reward(_));
            Some((index, State::zeros(sources, targets, synapses, own_delays, owed)))
        };
        projections.filter_map(state).collect()
    }

    fn exchange(&self, projection: usize, state: &mut State, swap: fn(&mut f64, &mut f64)) {
        let (mut next, _) = self.numbering(projection);
        self.core.plastic(&mut |plastic: &mut Plastic| {
            if plastic.projection == projection {
                let mut numbers = Vec::new();
                plastic.each(|source, _, _, _| numbers.push(take(&mut next, source)));
                plastic.exchange(&numbers, state, swap);
            }
        });
    }

    fn plastic_projection(&self, name: &str) -> Result<usize> {
        let plastic = |p: &crate::snn::Projection| p.name == name && p.wiring.plasticity.is_some();
        let found = self.net.projections.iter().position(plastic);
        found.ok_or_else(|| Error::value("projection", name, "a plastic one of the network"))
    }

    /// The number of each source's first synapse, and the number of synapses.
    fn numbering(&self, projection: usize) -> (Vec<usize>, usize) {
        let pre = self.net.projections[projection].pre;
        let mut first = vec![0; self.net.populations[pre.0].size()];
        self.core.plastic(&mut |plastic| {
            if plastic.projection == projection {
                first.iter_mut().zip(plastic.rows()).for_each(|(count, row)| *count += row);
            }
        });
        let mut sum = 0;
        first.iter_mut().for_each(|count| (*count, sum) = (sum, sum + *count));
        (first, sum)
    }
}

/// The next number of a source; blocks are asked by ascending target.
fn take(next: &mut [usize], source: u32) -> usize {
    let number = next[source as usize];
    next[source as usize] += 1;
    number
}
