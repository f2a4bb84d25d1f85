//! Finished runs side by side: a table, and accuracy against time and energy, or the cost of events, as plots.

use super::simulate::summary::Summary as Simulation;
use super::summary::{Stat, Summary};
use crate::error::{Error, Result};
use crate::report::{
    ADDITION_PICOJOULES, MULTIPLY_ADD_PICOJOULES, Plot, Point, Series,
    number::{bytes, fixed, grouped, prefixed, seconds, significant},
};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Results of one kind.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Runs {
    /// Of trainings.
    Trained(Vec<Summary>),
    /// Of simulations.
    Simulated(Vec<Simulation>),
}

/// The results of run directories.
///
/// # Errors
/// One that is none, or whose run did not end well; simulations among trainings.
pub fn read(runs: &[PathBuf]) -> Result<Runs> {
    let (mut trained, mut simulated) = (Vec::new(), Vec::new());
    for run in runs {
        let path = run.join("summary.json");
        let value = finished(&path)?;
        let broken = |e| Error::data(&path, format!("this is not a summary: {e}"));
        match value["kind"] == "simulation" {
            true => simulated.push(serde_json::from_value(value).map_err(broken)?),
            false => trained.push(serde_json::from_value(value).map_err(broken)?),
        }
        if !trained.is_empty() && !simulated.is_empty() {
            let why =
                "one of the runs is a simulation and the other is not: only runs of one kind are compared";
            return Err(Error::data(&path, why));
        }
    }
    Ok(if simulated.is_empty() { Runs::Trained(trained) } else { Runs::Simulated(simulated) })
}

/// The summary of a run that has a result.
fn finished(path: &Path) -> Result<serde_json::Value> {
    let value: serde_json::Value = serde_json::from_str(&crate::files::read_text(path)?)
        .map_err(|e| Error::data(path, format!("this is not a summary: {e}")))?;
    if value["status"] != "ok" {
        let status = value["status"].as_str().unwrap_or("unknown");
        return Err(Error::data(path, format!("the run has no result: its status is `{status}`")));
    }
    Ok(value)
}

impl Runs {
    /// A line for each run, as Markdown.
    pub fn table(&self) -> String {
        match self {
            Self::Trained(all) => table(all),
            Self::Simulated(all) => cost_table(all),
        }
    }

    /// File names and SVG documents: accuracy against seconds and against joules; or the cost of an event. Runs whose names
    /// differ only in the number at the end are one line.
    ///
    /// # Errors
    /// As [`Plot::svg`].
    pub fn plots(&self) -> Result<Vec<(&'static str, String)>> {
        match self {
            Self::Trained(all) => plots(all),
            Self::Simulated(all) => Ok(vec![("cost.svg", cost_plot(all)?)]),
        }
    }
}

/// Energy of one sample in joules: analogue multiply-accumulates and additions of spikes in 45 nm logic
/// (Horowitz, ISSCC 2014). What it leaves out stands in `docs/energy.md`.
pub fn joules(summary: &Summary) -> f64 {
    let analogue = summary.analogue_operations.per_sample * MULTIPLY_ADD_PICOJOULES;
    (analogue + summary.synaptic_operations.per_sample * ADDITION_PICOJOULES) * 1e-12
}

fn table(all: &[Summary]) -> String {
    let mut text = String::from(
        "| run | data | accuracy | seconds | peak memory | trained | energy a sample |\n|---|---|---|---|---|---|---|\n",
    );
    for summary in all {
        let accuracy = match &summary.test.accuracy {
            Stat::One(accuracy) => format!("{:.2} %", 100.0 * accuracy),
            Stat::Many { mean, std, .. } => format!("{:.2} ± {:.2} %", 100.0 * mean, 100.0 * std),
        };
        text += &format!(
            "| {} | {} | {accuracy} | {} | {} | {} | {} |\n",
            summary.name,
            summary.dataset,
            seconds(summary.seconds.total / summary.seeds.len().max(1) as f64),
            bytes(summary.memory.peak_rss_bytes as f64),
            grouped(summary.parameters.trained as u64),
            prefixed(joules(summary), "J"),
        );
    }
    text
}

fn plots(all: &[Summary]) -> Result<Vec<(&'static str, String)>> {
    let draw = |title: &str, x_label: &str, x: &dyn Fn(&Summary) -> f64| {
        let points = all.iter().map(|summary| {
            let (y, spread) = match &summary.test.accuracy {
                Stat::One(accuracy) => (*accuracy, 0.0),
                Stat::Many { mean, std, .. } => (*mean, *std),
            };
            (&summary.name[..], Point { x: x(summary), y: 100.0 * y, spread: 100.0 * spread })
        });
        let (title, x_label) = (title.into(), x_label.into());
        Plot { title, x_label, y_label: "test accuracy / %".into(), log_x: true, series: lines(points) }.svg()
    };
    let time = |s: &Summary| s.seconds.total / s.seeds.len().max(1) as f64;
    Ok(vec![
        ("accuracy-seconds.svg", draw("Accuracy against time", "seconds, raw files to tested model", &time)?),
        ("accuracy-energy.svg", draw("Accuracy against energy", "µJ per sample", &|s| 1e6 * joules(s))?),
    ])
}

fn cost_table(all: &[Simulation]) -> String {
    let mut text = String::from(
        "| run | neurons | synapses | bytes a synapse | built in | real-time factor | synaptic events/s | peak memory |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for summary in all {
        text += &format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
            summary.name,
            grouped(summary.neurons),
            grouped(summary.synapses),
            fixed(summary.bytes_per_synapse, 2),
            seconds(summary.seconds.build),
            significant(summary.real_time_factor, 3),
            grouped(summary.synaptic_events_per_second as u64),
            bytes(summary.memory.peak_rss_bytes as f64),
        );
    }
    text
}

/// What an event costs against how many there are: a level line where cost grows as the events do.
fn cost_plot(all: &[Simulation]) -> Result<String> {
    let points = all.iter().filter(|summary| summary.synaptic_events > 0).map(|summary| {
        let x = summary.synaptic_events as f64 / (summary.duration_ms / 1000.0);
        (&summary.name[..], Point { x, y: 1e9 / summary.synaptic_events_per_second, spread: 0.0 })
    });
    let plot = Plot {
        title: "Cost of a synaptic event".into(),
        x_label: "synaptic events per simulated second".into(),
        y_label: "ns per event".into(),
        log_x: true,
        series: lines(points),
    };
    plot.svg()
}

/// Points by the line that their names stand for, ascending.
fn lines<'a>(points: impl Iterator<Item = (&'a str, Point)>) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for (name, point) in points {
        let line = line(name);
        let at = series.iter().position(|s| s.name == line).unwrap_or_else(|| {
            series.push(Series::new(line, []));
            series.len() - 1
        });
        series[at].points.push(point);
    }
    for series in &mut series {
        series.points.sort_by(|a, b| a.x.total_cmp(&b.x));
    }
    series
}

/// The name without a number at its end: `mnist` for `mnist-3`.
fn line(name: &str) -> &str {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    stem.strip_suffix('-').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_names_are_one_line() {
        assert_eq!(["mnist-3", "mnist", "mnist-", "k49"].map(line), ["mnist", "mnist", "mnist", "k49"]);
    }
}
