//! Finished runs side by side: a table, and accuracy against time and energy as plots.

use super::summary::{Stat, Summary};
use crate::error::{Error, Result};
use crate::report::{
    ADDITION_PICOJOULES, MULTIPLY_ADD_PICOJOULES, Plot, Point, Series,
    number::{bytes, grouped, prefixed, seconds},
};
use std::path::Path;

/// The result of a run directory.
///
/// # Errors
/// Not a run directory, or the run did not end well.
pub fn read(run: &Path) -> Result<Summary> {
    let path = run.join("summary.json");
    let value: serde_json::Value = serde_json::from_str(&crate::files::read_text(&path)?)
        .map_err(|e| Error::data(&path, format!("this is not a summary: {e}")))?;
    if value["status"] != "ok" {
        let status = value["status"].as_str().unwrap_or("unknown");
        return Err(Error::data(&path, format!("the run has no result: its status is `{status}`")));
    }
    serde_json::from_value(value).map_err(|e| Error::data(&path, format!("this is not a summary: {e}")))
}

/// Energy of one sample in joules: analogue multiply-accumulates and additions of spikes in 45 nm logic
/// (Horowitz, ISSCC 2014). What it leaves out stands in `docs/energy.md`.
pub fn joules(summary: &Summary) -> f64 {
    let analogue = summary.analogue_operations.per_sample * MULTIPLY_ADD_PICOJOULES;
    (analogue + summary.synaptic_operations.per_sample * ADDITION_PICOJOULES) * 1e-12
}

/// A line for each run, as Markdown.
pub fn table(all: &[Summary]) -> String {
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

/// Accuracy against seconds and against joules: file names and SVG documents. Runs whose names differ only in the number
/// at the end are one line.
///
/// # Errors
/// As [`Plot::svg`].
pub fn plots(all: &[Summary]) -> Result<[(&'static str, String); 2]> {
    let draw = |title: &str, x_label: &str, x: &dyn Fn(&Summary) -> f64| {
        let mut series: Vec<Series> = Vec::new();
        for summary in all {
            let line = line(&summary.name);
            let at = series.iter().position(|s| s.name == line).unwrap_or_else(|| {
                series.push(Series::new(line, []));
                series.len() - 1
            });
            let (y, spread) = match &summary.test.accuracy {
                Stat::One(accuracy) => (*accuracy, 0.0),
                Stat::Many { mean, std, .. } => (*mean, *std),
            };
            series[at].points.push(Point { x: x(summary), y: 100.0 * y, spread: 100.0 * spread });
        }
        for series in &mut series {
            series.points.sort_by(|a, b| a.x.total_cmp(&b.x));
        }
        let (title, x_label) = (title.into(), x_label.into());
        Plot { title, x_label, y_label: "test accuracy / %".into(), log_x: true, series }.svg()
    };
    let time = |s: &Summary| s.seconds.total / s.seeds.len().max(1) as f64;
    Ok([
        ("accuracy-seconds.svg", draw("Accuracy against time", "seconds, raw files to tested model", &time)?),
        ("accuracy-energy.svg", draw("Accuracy against energy", "µJ per sample", &|s| 1e6 * joules(s))?),
    ])
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
