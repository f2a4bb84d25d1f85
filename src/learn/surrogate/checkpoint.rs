//! The state of a training in a file: what goes on from it is as if it had not been interrupted.

use std::collections::BTreeMap;
use std::path::Path;

use super::trainer::Trainer;
use crate::tensor::{Tensor, safetensors};
use crate::{Error, Result};

impl Trainer<'_> {
    /// Writes parameters, optimiser and curves.
    ///
    /// # Errors
    /// Unwritable, disk full.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        let mut tensors = BTreeMap::new();
        for (name, tensor) in self.model.numbers() {
            tensors.insert(format!("parameter/{name}"), tensor);
        }
        for (name, tensor) in self.optimizer.state()? {
            tensors.insert(format!("optimizer/{name}"), tensor);
        }
        if let Some((accuracy, best)) = &self.best {
            best.iter().for_each(|(name, tensor)| _ = tensors.insert(format!("best/{name}"), tensor.clone()));
            tensors.insert("best_accuracy".into(), Tensor::from_f64(vec![*accuracy], &[1])?);
        }
        let curve: Vec<f64> = self.curve.iter().flat_map(|&(i, l, a)| [i as f64, l, a]).collect();
        tensors.insert("curve".into(), Tensor::from_f64(curve, &[self.curve.len(), 3])?);
        let judged: Vec<f64> = self.judged.iter().flat_map(|&(i, a)| [i as f64, a]).collect();
        tensors.insert("judged".into(), Tensor::from_f64(judged, &[self.judged.len(), 2])?);
        let about = BTreeMap::from([
            ("kind".to_string(), "ransnn-surrogate".to_string()),
            ("iteration".to_string(), self.iteration.to_string()),
        ]);
        safetensors::write_summed(path, &tensors, &about)?;
        self.checkpoint = Some(path.into());
        Ok(())
    }

    /// Continues from a saved state, as if training had not been interrupted.
    ///
    /// # Errors
    /// Damaged, be it by one bit, or of another network.
    pub fn restore(&mut self, path: &Path) -> Result<()> {
        let damaged = |what: &str| {
            Error::data(
                path,
                format!("this checkpoint does not fit ({what}); remove it to train from the beginning"),
            )
        };
        let file = safetensors::File::open(path)?;
        file.check_sum()?;
        let about = file.metadata();
        let iteration = about.get("iteration").and_then(|i| i.parse::<usize>().ok());
        let iteration = iteration.filter(|_| about.get("kind").is_some_and(|k| k == "ransnn-surrogate"));
        let iteration = iteration.filter(|&i| i <= self.total()).ok_or_else(|| damaged("its header"))?;
        let numbers = self.model.numbers();
        let fits = |found: &BTreeMap<String, Tensor>| {
            found.len() == numbers.len()
                && numbers.iter().all(|(name, t)| found.get(name).is_some_and(|f| f.meta() == t.meta()))
        };
        let parameters = file.group("parameter/")?;
        if !fits(&parameters) {
            return Err(damaged("other parameters"));
        }
        let best = file.group("best/")?;
        let best = match best.is_empty() {
            true => None,
            false if fits(&best) => Some((file.tensor("best_accuracy")?.to_scalar()?, best)),
            false => return Err(damaged("other parameters")),
        };
        let (curve, judged) = (file.tensor("curve")?.to_f64()?, file.tensor("judged")?.to_f64()?);
        let mut optimizer = self.options.optimizer();
        optimizer.as_dyn().load_state(&file.group("optimizer/")?)?;
        self.optimizer = optimizer;
        self.model.set_numbers(parameters)?;
        self.best = best;
        self.curve = curve.chunks_exact(3).map(|c| (c[0] as usize, c[1], c[2])).collect();
        self.judged = judged.chunks_exact(2).map(|c| (c[0] as usize, c[1])).collect();
        self.iteration = iteration;
        self.order.clear();
        self.ahead.clear();
        if iteration % self.per_epoch() != 0 {
            self.shuffle((iteration / self.per_epoch()) as u64);
        }
        self.stopped = self.is_stopped();
        self.checkpoint = Some(path.into());
        Ok(())
    }
}
