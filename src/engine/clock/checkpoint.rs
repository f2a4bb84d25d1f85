//! The state of a simulation in a file, and back: it continues bit for bit.
//!
//! What follows from the network and its seed is not stored: synapses whose weights stay, and all random numbers, which
//! have no state.
//! Recordings are not stored either; they begin anew.

use super::{Precision, Simulator};
use crate::error::{Error, Result};
use crate::tensor::{Tensor, safetensors};
use std::collections::BTreeMap;
use std::path::Path;

/// State in numbers: `f32` fits into `f64` exactly.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Saved {
    pub now: u64,
    pub fresh: u64,
    pub spikes: Vec<u64>,
    /// Synaptic events.
    pub events: u64,
    /// State and pending input of each population.
    pub populations: Vec<Vec<f64>>,
    /// Last steps, by step and population.
    pub history: Vec<Vec<u32>>,
}

impl Simulator<'_> {
    /// Writes the state.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn checkpoint(&self, path: &Path) -> Result<()> {
        let saved = self.core.save();
        let mut tensors = BTreeMap::new();
        let mut put = |name: String, values: Vec<f64>| -> Result<()> {
            let len = values.len();
            tensors.insert(name, Tensor::from_f64(values, &[len])?);
            Ok(())
        };
        for (i, numbers) in saved.populations.into_iter().enumerate() {
            put(format!("population.{i:08}"), numbers)?;
        }
        self.plastics(|all| all.save(&mut put))?;
        // Neuron numbers and counts below 2^53 are exact in f64.
        let numbers = |values: &[u64]| values.iter().map(|&n| n as f64).collect();
        put("spikes".into(), numbers(&saved.spikes))?;
        put("history.lengths".into(), saved.history.iter().map(|list| list.len() as f64).collect())?;
        put("history.neurons".into(), saved.history.iter().flatten().map(|&n| n.into()).collect())?;
        let metadata = [
            ("kind", "simulation".to_string()),
            ("version", "1".into()),
            ("now", saved.now.to_string()),
            ("fresh", saved.fresh.to_string()),
            ("events", saved.events.to_string()),
            ("seed", self.net.seed.to_string()),
            ("dt_ms", self.net.dt.0.to_string()),
            ("precision", precision(self.options.precision).into()),
            ("network", self.net.describe()),
        ];
        let metadata = metadata.into_iter().map(|(key, value)| (key.to_string(), value)).collect();
        safetensors::write(path, &tensors, &metadata)
    }

    /// Takes up the state of a checkpoint of the same network, seed and precision.
    ///
    /// # Errors
    /// A file that is damaged or of something else; the simulator is then unchanged.
    pub fn restore(&mut self, path: &Path) -> Result<()> {
        let file = safetensors::File::open(path)?;
        let bad = |what: String| Error::data(path, what);
        let metadata = file.metadata();
        let text = |key: &str| metadata.get(key).map_or("", String::as_str);
        if (text("kind"), text("version")) != ("simulation", "1") {
            return Err(bad("it is not a checkpoint of a simulation that this program reads".into()));
        }
        let same = [
            ("seed", self.net.seed.to_string()),
            ("dt_ms", self.net.dt.0.to_string()),
            ("precision", precision(self.options.precision).into()),
            ("network", self.net.describe()),
        ];
        for (key, ours) in same {
            if text(key) != ours {
                let (theirs, ours) = (text(key), ours.as_str());
                let what = if key == "network" {
                    "it is of another network".into()
                } else {
                    format!("its {key} is {theirs}, that of this simulation is {ours}")
                };
                return Err(bad(what));
            }
        }
        let number =
            |key: &str| text(key).parse::<u64>().map_err(|_| bad(format!("`{key}` is not a number")));
        let values = |name: &str| -> Result<Vec<f64>> {
            file.tensor(name)?.to_f64().map_err(|e| bad(format!("`{name}`: {e}")))
        };
        let names: Vec<String> = {
            let mut names: Vec<_> =
                file.names().filter(|n| n.starts_with("population.")).map(String::from).collect();
            names.sort();
            names
        };
        let lengths = values("history.lengths")?;
        let neurons = values("history.neurons")?;
        if lengths.iter().sum::<f64>() != neurons.len() as f64 {
            return Err(bad("the lengths of its spike lists do not fit".into()));
        }
        let mut at = neurons.iter().map(|&n| n as u32);
        let saved = Saved {
            now: number("now")?,
            fresh: number("fresh")?,
            spikes: values("spikes")?.into_iter().map(|n| n as u64).collect(),
            events: number("events")?,
            populations: names.iter().map(|name| values(name)).collect::<Result<_>>()?,
            history: lengths.iter().map(|&n| at.by_ref().take(n as usize).collect()).collect(),
        };
        let sources = self.net.populations.iter().cycle().map(|p| p.size() as u64);
        let outside = |(list, size): (&Vec<u32>, u64)| list.iter().any(|&n| u64::from(n) >= size);
        if saved.history.iter().zip(sources).any(outside) {
            return Err(bad("it has spikes of neurons that there are not".into()));
        }
        if saved.fresh > saved.now {
            return Err(bad("its steps are not in order".into()));
        }
        let plastic = self.plastics(|all| all.load(saved.now, values, bad))?;
        self.core.restore(&saved).map_err(bad)?;
        self.plastics(|all| all.set(plastic));
        for train in self.trains.iter_mut().flatten() {
            *train = super::SpikeTrain::default();
        }
        for trace in &mut self.traces {
            trace.values.clear();
            trace.first = saved.now.next_multiple_of(trace.every);
        }
        self.weight_traces.iter_mut().for_each(|trace| trace.restart(saved.now));
        Ok(())
    }
}

fn precision(precision: Precision) -> &'static str {
    match precision {
        Precision::Single => "f32",
        Precision::Double => "f64",
    }
}
