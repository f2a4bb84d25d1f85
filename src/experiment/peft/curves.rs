//! The course of a run, as `metrics.jsonl` tells it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::experiment::run_dir::RunDir;
use crate::files::read_text;
use crate::{Error, Result};

/// A loss at a time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Moment {
    /// Updates so far.
    pub step: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// The loss; not a number if the file has none.
    pub loss: f64,
}

/// What a run wrote on its way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curves {
    /// Of each update, before it.
    pub training: Vec<Moment>,
    /// On what is held out; the first one before training.
    pub validation: Vec<Moment>,
    /// Step and share of LoRA in each map of a hybrid, by path.
    pub lambdas: BTreeMap<String, Vec<(f64, f64)>>,
}

impl Curves {
    /// Reads what a run wrote; empty if it wrote nothing yet.
    ///
    /// # Errors
    /// A line that is not JSON.
    pub fn read(run: &RunDir) -> Result<Self> {
        let path = run.file("metrics.jsonl");
        let mut curves = Self::default();
        if !path.is_file() {
            return Ok(curves);
        }
        for (i, line) in read_text(&path)?.lines().enumerate() {
            let value: serde_json::Value =
                serde_json::from_str(line).map_err(|e| Error::data(&path, format!("line {}: {e}", i + 1)))?;
            let number = |name: &str| value[name].as_f64().unwrap_or(f64::NAN);
            let step = value["step"].as_u64().unwrap_or(0);
            let moment = Moment { step, seconds: number("seconds"), loss: number("loss") };
            match value["split"] == "train" {
                true => curves.training.push(moment),
                false => curves.validation.push(moment),
            }
            for (path, lambda) in value["lambda"].as_object().into_iter().flatten() {
                let lambda = lambda.as_f64().unwrap_or(f64::NAN);
                curves.lambdas.entry(path.clone()).or_default().push((step as f64, lambda));
            }
        }
        Ok(curves)
    }

    /// Seconds of training until the last update.
    pub fn seconds(&self) -> Option<f64> {
        self.training.last().map(|moment| moment.seconds)
    }

    /// Median of the seconds of an update. The first one is left out: it begins with attaching adapters.
    pub fn step_seconds(&self) -> Option<f64> {
        let mut steps: Vec<f64> =
            self.training.windows(2).map(|pair| pair[1].seconds - pair[0].seconds).collect();
        steps.sort_by(f64::total_cmp);
        steps.get(steps.len() / 2).copied()
    }

    /// The first time that the loss on what is held out is at most `loss`.
    pub fn reaches(&self, loss: f64) -> Option<Moment> {
        self.validation.iter().find(|moment| moment.loss <= loss).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_what_it_tells() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = RunDir::create_as(folder.path(), ["x", "abcd"], "", "", &[]).expect("created");
        assert_eq!(Curves::read(&run).expect("reads"), Curves::default());
        for (step, seconds, loss) in [(1, 5.0, 4.0), (2, 6.0, 3.0), (3, 8.0, 2.0), (4, 9.0, 1.0)] {
            let line = serde_json::json!({ "split": "train", "step": step, "seconds": seconds, "loss": loss, "lambda": { "a": 0.5 } });
            run.metric(line).expect("written");
            let line = serde_json::json!({ "split": "validation", "step": step, "seconds": seconds, "loss": loss + 1.0 });
            run.metric(line).expect("written");
        }
        let curves = Curves::read(&run).expect("reads");
        assert_eq!((curves.seconds(), curves.step_seconds()), (Some(9.0), Some(1.0)));
        assert_eq!(curves.reaches(3.5).map(|moment| (moment.step, moment.seconds)), Some((3, 8.0)));
        assert_eq!(curves.reaches(1.5), None);
        assert_eq!(curves.lambdas["a"].len(), 4);
        run.write("metrics.jsonl", b"{\n").expect("written");
        assert!(Curves::read(&run).expect_err("refused").to_string().contains("line 1"));
    }
}
