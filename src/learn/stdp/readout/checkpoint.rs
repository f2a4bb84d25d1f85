//! The state of a training in a file.

use std::collections::BTreeMap;
use std::path::Path;

use super::trainer::Trainer;
use crate::error::{Error, Result};
use crate::tensor::{Tensor, safetensors};

const KIND: &str = "ransnn-stdp-readout";

impl Trainer<'_> {
    /// Writes weights, the mean reward and the curve.
    ///
    /// # Errors
    /// Unwritable, disk full.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        let curve: Vec<f64> = self.curve.iter().flat_map(|&(i, l, a)| [i as f64, l, a]).collect();
        let list = |values: &[f32]| Tensor::from_f32(values.to_vec(), &[values.len()]);
        let tensors = BTreeMap::from([
            ("weights".to_string(), list(&self.layer.weights)?),
            ("bias".to_string(), list(&self.layer.bias)?),
            ("mean_reward".to_string(), Tensor::from_f64(vec![self.mean_reward], &[1])?),
            ("curve".to_string(), Tensor::from_f64(curve, &[self.curve.len(), 3])?),
        ]);
        let about = BTreeMap::from([
            ("kind".to_string(), KIND.to_string()),
            ("iteration".to_string(), self.iteration.to_string()),
        ]);
        safetensors::write_summed(path, &tensors, &about)
    }

    /// Continues from a saved state, as if training had not been interrupted.
    ///
    /// # Errors
    /// Damaged, be it by one bit, or of another readout.
    pub fn restore(&mut self, path: &Path) -> Result<()> {
        let damaged = |what: &str| {
            let help = "remove it to train from the beginning";
            Error::data(path, format!("this checkpoint does not fit ({what}); {help}"))
        };
        let file = safetensors::File::open(path)?;
        file.check_sum()?;
        let about = file.metadata();
        let iteration = about.get("iteration").and_then(|i| i.parse::<usize>().ok());
        let iteration =
            iteration.filter(|&i| i <= self.total() && about.get("kind").is_some_and(|k| k == KIND));
        let iteration = iteration.ok_or_else(|| damaged("its header"))?;
        let (weights, bias) = (file.tensor("weights")?.to_f32()?, file.tensor("bias")?.to_f32()?);
        if weights.len() != self.layer.weights.len() || bias.len() != self.layer.bias.len() {
            return Err(damaged("other weights"));
        }
        (self.layer.weights, self.layer.bias) = (weights, bias);
        self.mean_reward = file.tensor("mean_reward")?.to_scalar()?;
        let curve = file.tensor("curve")?.to_f64()?;
        self.curve = curve.chunks_exact(3).map(|c| (c[0] as usize, c[1], c[2])).collect();
        self.go_on_at(iteration);
        Ok(())
    }
}
