//! The state of a simulation on a GPU in a file, and back: it continues bit for bit, on any GPU.
//!
//! Between stretches, all that is on its way is in the rings. What follows from the network and its seed is not stored,
//! nor are recordings.

use super::simulator::Simulator;
use crate::error::{Error, Result};
use crate::tensor::{Tensor, safetensors};
use std::collections::BTreeMap;
use std::path::Path;

impl Simulator<'_> {
    /// Writes the state.
    ///
    /// # Errors
    /// What went wrong on the GPU; the file cannot be written.
    pub fn checkpoint(&self, path: &Path) -> Result<()> {
        let mut tensors = BTreeMap::new();
        let state = self.moving.state.download::<f32>()?;
        let len = state.len();
        tensors.insert("state".to_string(), Tensor::from_f32(state, &[len])?);
        let counts = self.moving.counts.download::<u32>()?;
        let mut put = |name: &str, values: Vec<u32>| -> Result<()> {
            let len = values.len();
            tensors.insert(name.into(), Tensor::from_u32(values, &[len])?);
            Ok(())
        };
        put("counts", counts)?;
        put("sums", halves(&self.moving.sums.download::<u64>()?))?;
        put("spikes", halves(&self.moving.spikes.download::<u64>()?))?;
        put("input_spikes", halves(&self.input_spikes))?;
        put("events", halves(&self.moving.events.download::<u64>()?))?;
        if let Some(plastic) = &self.plastic {
            put("since", halves(&plastic.since.download::<u64>()?))?;
            put("arrivals", halves(&plastic.arrivals.download::<u64>()?))?;
            put("arrival_count", plastic.arrival_count.download::<u32>()?)?;
            let (weights, values) = (plastic.weights.download::<f32>()?, plastic.values.download::<f64>()?);
            let (n, m) = (weights.len(), values.len());
            tensors.insert("weights".into(), Tensor::from_f32(weights, &[n])?);
            tensors.insert("values".into(), Tensor::from_f64(values, &[m])?);
        }
        let mut metadata = self.identity();
        metadata.insert("now".into(), self.now.to_string());
        safetensors::write(path, &tensors, &metadata)
    }

    /// Takes up the state of a checkpoint of the same network and seed.
    ///
    /// # Errors
    /// A file that is damaged or of something else; the simulator is then unchanged.
    pub fn restore(&mut self, path: &Path) -> Result<()> {
        let file = safetensors::File::open(path)?;
        let bad = |what: String| Error::data(path, what);
        let metadata = file.metadata();
        if self.identity().iter().any(|(key, ours)| metadata.get(key) != Some(ours)) {
            let what = "it is not a checkpoint of this network and seed on a GPU";
            return Err(bad(what.into()));
        }
        let now = metadata.get("now").and_then(|now| now.parse().ok());
        let now = now.ok_or_else(|| bad("it does not say how far it is".into()))?;
        let numbers = |name: &str, len: usize| -> Result<Tensor> {
            let tensor = file.tensor(name)?;
            if tensor.len() != len {
                return Err(bad(format!("`{name}` has {} numbers instead of {len}", tensor.len())));
            }
            Ok(tensor)
        };
        let words = |name: &str, len: usize| -> Result<Vec<u32>> {
            numbers(name, len)?.to_u32().map_err(|e| bad(format!("`{name}`: {e}")))
        };
        let moving = &self.moving;
        let state = numbers("state", moving.state.len())?.to_f32()?;
        let counts = words("counts", moving.counts.len())?;
        let sums = wholes(&words("sums", 2 * moving.sums.len())?);
        let spikes = wholes(&words("spikes", 2 * moving.spikes.len())?);
        let input_spikes = wholes(&words("input_spikes", 2 * self.input_spikes.len())?);
        let events = wholes(&words("events", 2)?);
        let learned = match &self.plastic {
            None => None,
            Some(plastic) => Some((
                numbers("weights", plastic.weights.len())?.to_f32()?,
                numbers("values", plastic.values.len())?.to_f64()?,
                wholes(&words("since", 2 * plastic.since.len())?),
                wholes(&words("arrivals", 2 * plastic.arrivals.len())?),
                words("arrival_count", plastic.arrival_count.len())?,
            )),
        };
        if let (Some(plastic), Some((weights, values, since, arrivals, counts))) =
            (&mut self.plastic, learned)
        {
            plastic.weights = self.gpu.upload(&weights)?;
            plastic.values = self.gpu.upload(&values)?;
            plastic.since = self.gpu.upload(&since)?;
            plastic.arrivals = self.gpu.upload(&arrivals)?;
            plastic.arrival_count = self.gpu.upload(&counts)?;
        }
        self.moving.state = self.gpu.upload(&state)?;
        self.moving.counts = self.gpu.upload(&counts)?;
        self.moving.sums = self.gpu.upload(&sums)?;
        self.moving.spikes = self.gpu.upload(&spikes)?;
        self.moving.events = self.gpu.upload(&events)?;
        self.moving.fired_count = self.gpu.upload(&[0u32, 0])?;
        (self.now, self.input_spikes) = (now, input_spikes);
        self.inputs.iter_mut().for_each(|(_, input)| input.go_to(now));
        Ok(())
    }

    /// What a checkpoint has to be of.
    fn identity(&self) -> BTreeMap<String, String> {
        let parts = [
            ("kind", "simulation on a GPU".to_string()),
            ("version", "1".into()),
            ("seed", self.network().seed.to_string()),
            ("dt_ms", self.network().dt.0.to_string()),
            ("network", self.network().describe()),
        ];
        parts.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
    }
}

/// Low and high halves.
fn halves(values: &[u64]) -> Vec<u32> {
    values.iter().flat_map(|&value| [value as u32, (value >> 32) as u32]).collect()
}

fn wholes(halves: &[u32]) -> Vec<u64> {
    halves.chunks_exact(2).map(|half| u64::from(half[0]) | u64::from(half[1]) << 32).collect()
}
