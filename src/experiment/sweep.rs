//! Sweeps: one experiment file, one run for each combination of values.

use super::config::Config;
use super::diagnose::Source;
use crate::error::{Error, Result};

/// One point of a sweep: the overrides that make it, and what to call it.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// `key=value`, to be put behind the overrides of the command line.
    pub overrides: Vec<String>,
    /// The values by key, for tables and plots.
    pub values: Vec<(String, String)>,
}

impl Point {
    /// `key = value, key = value`
    pub fn label(&self) -> String {
        let values: Vec<String> = self.values.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        values.join(", ")
    }

    /// Its values beside what came of it, as `sweep.json` has them.
    pub fn row(&self, summary: &impl serde::Serialize) -> serde_json::Value {
        let values: serde_json::Map<_, _> =
            self.values.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        serde_json::json!({ "values": values, "summary": summary })
    }
}

/// A key (or several, separated by commas) and the values that it takes.
pub type Axis = (String, Vec<String>);

/// Splits `--set` arguments into plain overrides and swept ones (`key=1,2,3`).
///
/// A value with brackets, braces or quotes is plain, whatever it holds.
pub fn split(set: &[String]) -> Result<(Vec<String>, Vec<Axis>)> {
    let (mut plain, mut swept) = (vec![], vec![]);
    for text in set {
        let (key, value) = text.split_once('=').ok_or_else(|| Error::value("--set", text, "key=value"))?;
        let values: Vec<String> = value.split(',').map(|v| v.trim().to_string()).collect();
        if values.len() > 1 && !value.contains(['[', '{', '"', '\'']) {
            swept.push((key.trim().to_string(), values));
        } else {
            plain.push(text.clone());
        }
    }
    Ok((plain, swept))
}

/// The points of `[sweep]` in the file and of the command line, as a grid.
pub fn points(config: &Config, swept: Vec<Axis>) -> Vec<Point> {
    let mut axes = swept;
    for (key, values) in &config.sweep {
        if !axes.iter().any(|(known, _)| known == key) {
            axes.push((key.clone(), values.iter().map(ToString::to_string).collect()));
        }
    }
    grid(&axes)
}

/// Every combination of values.
pub fn grid(axes: &[Axis]) -> Vec<Point> {
    let mut points = vec![Point { overrides: vec![], values: vec![] }];
    for (key, values) in axes.iter().filter(|(_, values)| !values.is_empty()) {
        points = points
            .iter()
            .flat_map(|point| {
                values.iter().map(|value| {
                    let mut point = point.clone();
                    // Several keys that move together stand side by side.
                    point.overrides.extend(key.split(',').map(|key| format!("{}={value}", key.trim())));
                    point.values.push((key.clone(), value.clone()));
                    point
                })
            })
            .collect();
    }
    points
}

/// The configuration of one point, without its sweep.
///
/// # Errors
/// A value that the key does not take.
pub fn at(file: &str, text: &str, set: &[String], point: &Point) -> Result<(Config, Vec<String>)> {
    let overrides: Vec<String> = set.iter().chain(&point.overrides).cloned().collect();
    let mut config = super::check::load(&Source::new(file, text, &overrides)?)?;
    config.sweep.clear();
    Ok((config, overrides))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_of_overrides() -> Result<()> {
        let set = [
            "seed=1,2".to_string(),
            "features.levels=16,32".into(),
            "train.ransnn.solver.ridge.lambda=[1.0,2.0]".into(),
        ];
        let (plain, swept) = split(&set)?;
        assert_eq!(plain, ["train.ransnn.solver.ridge.lambda=[1.0,2.0]"]);
        let text = include_str!("../../experiments/strokes.toml");
        let config = super::super::check::load(&Source::new("x", text, &plain)?)?;
        let points = points(&config, swept);
        assert_eq!(points.len(), 4);
        let (config, overrides) = at("x", text, &plain, &points[3])?;
        assert_eq!((config.seed, config.features.levels), (2, 32));
        assert_eq!(overrides.len(), 3);
        Ok(())
    }

    #[test]
    fn keys_that_move_together() {
        let text = include_str!("../../experiments/paper/sweep-beta.toml");
        let config =
            super::super::check::load(&Source::new("x", text, &[]).expect("parses")).expect("is right");
        let points = points(&config, vec![]);
        assert_eq!(points[0].overrides.len(), 2);
        let (config, _) = at("x", text, &[], &points[0]).expect("is right");
        let betas: Vec<f64> = config
            .population
            .values()
            .filter_map(|p| match &p.neuron {
                super::super::config::Neuron::Lif(lif) => lif.beta,
                _ => None,
            })
            .collect();
        assert_eq!(betas, [0.8, 0.8]);
    }
}
