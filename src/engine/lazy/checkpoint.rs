//! The state of a lazy simulation in a file, and back: it continues bit for bit.
//!
//! What follows from the network and its seed is not stored: synapses, and random numbers, of which a counter is kept.
//! Recordings are not stored either; they begin anew.

use super::block::{Block, Event};
use super::dynamics::State;
use super::poisson::Trains;
use super::{Input, Lazy, SpikeTimes};
use crate::error::{Error, Result};
use crate::tensor::{Tensor, safetensors};
use std::collections::BTreeMap;
use std::path::Path;

/// What changes in a block.
struct Changes {
    state: State,
    calendar: Vec<Vec<Event>>,
    /// Of each drive.
    next: Vec<Vec<(f64, u64)>>,
    switched: usize,
    events: u64,
}

impl Lazy<'_> {
    /// Writes the state.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn checkpoint(&self, path: &Path) -> Result<()> {
        let mut tensors = BTreeMap::new();
        let mut put = |name: String, values: Vec<f64>| -> Result<()> {
            let len = values.len();
            tensors.insert(name, Tensor::from_f64(values, &[len])?);
            Ok(())
        };
        for (i, block) in self.blocks.iter().enumerate() {
            put(format!("block.{i:08}"), save(block))?;
        }
        for (i, (_, input)) in self.inputs.iter().enumerate() {
            let values = match input {
                Input::Poisson(trains) => pairs(trains).collect(),
                Input::List { next, .. } => vec![*next as f64],
            };
            put(format!("input.{i:08}"), values)?;
        }
        self.plastics(|all| all.save(&mut put))?;
        // Counts below 2^53 are exact in f64.
        put("spikes".into(), self.counts.iter().map(|&n| n as f64).collect())?;
        let metadata = self.identity().into_iter().chain([("now", self.now.to_string())]);
        let metadata = metadata.map(|(key, value)| (key.to_string(), value)).collect();
        safetensors::write(path, &tensors, &metadata)
    }

    fn identity(&self) -> [(&'static str, String); 5] {
        [
            ("kind", "lazy simulation".into()),
            ("version", "2".into()),
            ("seed", self.net.seed.to_string()),
            ("dt_ms", self.net.dt.0.to_string()),
            ("network", self.net.describe()),
        ]
    }

    /// Takes up the state of a checkpoint of the same network and seed. Recordings begin anew.
    ///
    /// # Errors
    /// A file that is damaged or of something else; the simulation is then unchanged.
    pub fn restore(&mut self, path: &Path) -> Result<()> {
        let file = safetensors::File::open(path)?;
        let bad = |what: String| Error::data(path, what);
        let metadata = file.metadata();
        let text = |key: &str| metadata.get(key).map_or("", String::as_str);
        for (key, ours) in self.identity() {
            if text(key) != ours {
                return Err(bad(match key {
                    "network" => "it is of another network".into(),
                    _ => format!("its {key} is `{}`; here it is `{ours}`", text(key)),
                }));
            }
        }
        let values = |name: &str| -> Result<Vec<f64>> {
            file.tensor(name)?.to_f64().map_err(|e| bad(format!("`{name}`: {e}")))
        };
        let now: u64 = text("now").parse().map_err(|_| bad("`now` is not a number".into()))?;
        let counts = values("spikes")?;
        if counts.len() != self.counts.len() {
            return Err(bad("its populations do not fit".into()));
        }
        let mut blocks = Vec::new();
        for (i, block) in self.blocks.iter().enumerate() {
            let name = format!("block.{i:08}");
            let changes = parse(block, &values(&name)?);
            blocks.push(changes.ok_or_else(|| bad(format!("`{name}` does not fit")))?);
        }
        let mut inputs = Vec::new();
        for (i, (_, input)) in self.inputs.iter().enumerate() {
            let name = format!("input.{i:08}");
            let values = values(&name)?;
            let fits = match input {
                Input::Poisson(trains) => values.len() == 2 * trains.next.len(),
                Input::List { spikes, .. } => values.len() == 1 && values[0] <= spikes.len() as f64,
            };
            if !fits {
                return Err(bad(format!("`{name}` does not fit")));
            }
            inputs.push(values);
        }
        let plastic = self.plastics(|all| all.load(now, values, bad))?;
        for (block, changes) in self.blocks.iter_mut().zip(blocks) {
            (block.state, block.calendar) = (changes.state, changes.calendar);
            (block.switched, block.events) = (changes.switched, changes.events);
            block.drives.iter_mut().zip(changes.next).for_each(|((_, _, trains), next)| trains.next = next);
        }
        for ((_, input), values) in self.inputs.iter_mut().zip(inputs) {
            match input {
                Input::Poisson(trains) => trains.next = unpair(&values),
                Input::List { next, .. } => *next = values[0] as usize,
            }
        }
        self.counts = counts.into_iter().map(|n| n as u64).collect();
        self.now = now;
        self.plastics(|all| all.set(plastic));
        self.trains.iter_mut().flatten().for_each(|train| *train = SpikeTimes::default());
        for trace in &mut self.traces {
            trace.values.clear();
            trace.first = now.next_multiple_of(trace.every);
        }
        self.weight_traces.iter_mut().for_each(|trace| trace.restart(now));
        Ok(())
    }
}

fn pairs(trains: &Trains) -> impl Iterator<Item = f64> {
    trains.next.iter().flat_map(|&(time, count)| [time, count as f64])
}

fn unpair(values: &[f64]) -> Vec<(f64, u64)> {
    values.chunks_exact(2).map(|pair| (pair[0], pair[1] as u64)).collect()
}

/// Everything of a block in one row of numbers.
fn save(block: &Block) -> Vec<f64> {
    let state = &block.state;
    let mut values = vec![block.switched as f64, block.events as f64];
    for variable in [&state.membrane, &state.at, &state.until, &state.due] {
        values.extend_from_slice(variable);
    }
    values.extend(state.currents.iter().flatten());
    block.drives.iter().for_each(|(_, _, trains)| values.extend(pairs(trains)));
    for events in &block.calendar {
        values.push(events.len() as f64);
        let each = events.iter();
        let numbers = |e: &Event| [e.time, e.weight, e.target.into(), e.receptor.into(), e.through.into()];
        values.extend(each.flat_map(numbers));
    }
    values
}

/// The other way round; `None` for what is not from such a block.
fn parse(block: &Block, values: &[f64]) -> Option<Changes> {
    let mut rest = values;
    let mut take = |len: usize| -> Option<&[f64]> {
        let (taken, after) = rest.split_at_checked(len)?;
        rest = after;
        Some(taken)
    };
    let neurons = block.neurons();
    let head = take(2)?;
    let (switched, events) = (head[0] as usize, head[1] as u64);
    let mut variable = || take(neurons).map(<[f64]>::to_vec);
    let (membrane, at, until, due) = (variable()?, variable()?, variable()?, variable()?);
    let currents = take(2 * block.state.currents.len())?;
    let currents = currents.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect();
    let state = State { membrane, at, until, due, currents };
    let next = block.drives.iter().map(|_| take(2 * neurons).map(unpair)).collect::<Option<_>>()?;
    let mut calendar = Vec::new();
    for _ in &block.calendar {
        let len = take(1)?[0] as usize;
        let events = take(len.checked_mul(5)?)?.chunks_exact(5).map(|e| Event {
            time: e[0],
            weight: e[1],
            target: e[2] as u16,
            receptor: e[3] as u8,
            through: e[4] as u16,
        });
        calendar.push(events.collect::<Vec<_>>());
    }
    let receptors = block.dynamics.receptors();
    let places: Vec<usize> = block.plastic.iter().map(|l| l.shared().table.targets.len()).collect();
    let known = |e: &Event| {
        let there = match usize::from(e.through).checked_sub(1) {
            None => true,
            Some(i) => places.get(i).is_some_and(|&places| (0.0..places as f64).contains(&e.weight)),
        };
        there && usize::from(e.target) < neurons && usize::from(e.receptor) < receptors
    };
    let fits = rest.is_empty() && switched <= block.switches.len() && calendar.iter().flatten().all(known);
    fits.then_some(Changes { state, calendar, next, switched, events })
}
