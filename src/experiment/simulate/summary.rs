//! The result of a simulation, as other tools read it (`summary.json`, `ransnn run --json`).

use super::config::{Clock, Expect, Precision};
use crate::error::{Error, Result};
use crate::experiment::summary::{Memory, Status};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the layout of [`Summary`].
pub const SCHEMA: u32 = 1;

/// The result of a simulation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this layout.
    pub schema: u32,
    /// `simulation`, by which it is told from the result of a training.
    pub kind: Kind,
    /// Name of the experiment.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// The seed.
    pub seed: u64,
    /// On a grid of time, or without one.
    pub clock: Clock,
    /// Numbers of the grid.
    pub precision: Precision,
    /// Time step.
    pub step_ms: f64,
    /// Simulated time.
    pub duration_ms: f64,
    /// Part of it that statistics leave out.
    pub warmup_ms: f64,
    /// Neurons and sources.
    pub neurons: u64,
    /// Synapses.
    pub synapses: u64,
    /// Bytes of their tables for each of them; 0 where there are none.
    pub bytes_per_synapse: f64,
    /// Spikes of all populations in the whole time.
    pub spikes: u64,
    /// Spikes times the synapses that each went through.
    pub synaptic_events: u64,
    /// The same in a second of `seconds.simulate`.
    pub synaptic_events_per_second: f64,
    /// Seconds of wall-clock time in a second of simulated time; below 1 it is faster than nature.
    pub real_time_factor: f64,
    /// Wall-clock seconds.
    pub seconds: Seconds,
    /// Each population, after the warm-up.
    pub populations: BTreeMap<String, Population>,
    /// Memory.
    pub memory: Memory,
    /// `cpu`.
    pub device: String,
    /// Threads used.
    pub threads: usize,
    /// Where everything was written.
    pub run_directory: String,
}

/// What the summary is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A simulation.
    Simulation,
}

/// Wall-clock seconds by phase; of a resumed run, those of all its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Drawing synapses and initial values.
    pub build: f64,
    /// Time steps, without writing recordings.
    pub simulate: f64,
    /// Recordings, checkpoints, statistics and report.
    pub write: f64,
    /// All of it.
    pub total: f64,
}

/// A population after the warm-up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Population {
    /// Its size.
    pub neurons: u64,
    /// Its spikes.
    pub spikes: u64,
    /// Mean rate of a neuron.
    pub rate_hz: f64,
    /// Standard deviation of the rates over neurons; null where spikes are not recorded, as all that follows.
    pub rate_std_hz: Option<f64>,
    /// Mean coefficient of variation of the intervals between spikes, over neurons with five of them; or null.
    pub cv: Option<f64>,
    /// Mean correlation of the spike counts of pairs in bins of 2 ms; or null.
    pub correlation: Option<f64>,
    /// Variance over mean of the population's spike count in bins of 2 ms; or null.
    pub fano: Option<f64>,
    /// Frequency at which the population's activity has most power; or null.
    pub oscillation_hz: Option<f64>,
}

impl Population {
    /// What is outside of what was expected, in words.
    pub fn missed(&self, name: &str, expected: &Expect) -> Vec<String> {
        let measured = [
            ("rate", Some(self.rate_hz), expected.rate_hz),
            ("CV", self.cv, expected.cv),
            ("correlation", self.correlation, expected.correlation),
            ("Fano factor", self.fano, expected.fano),
        ];
        let missed = |(what, got, range): (&str, Option<f64>, Option<[f64; 2]>)| {
            let [low, high] = range?;
            let got = match got {
                Some(got) if (low..=high).contains(&got) => return None,
                Some(got) => format!("{got:.4}"),
                None => "not known".into(),
            };
            Some(format!("{what} of `{name}` is {got}, expected {low} to {high}"))
        };
        measured.into_iter().filter_map(missed).collect()
    }
}

impl Summary {
    /// Compares with what the file expects.
    ///
    /// # Errors
    /// [`Error::Missed`] with everything that is outside.
    pub fn check(&self, expected: &BTreeMap<String, Expect>) -> Result<()> {
        let missed: Vec<String> = expected
            .iter()
            .flat_map(|(name, expected)| {
                self.populations
                    .get(name)
                    .map_or_else(Vec::new, |population| population.missed(name, expected))
            })
            .collect();
        if missed.is_empty() { Ok(()) } else { Err(Error::Missed(missed.join("; "))) }
    }
}
