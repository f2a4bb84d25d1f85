//! What the verbs do with the file of a simulation.

use super::args::{self, Global};
use super::verbs::{json, kernels, settings, threads, write_json};
use super::{print, progress, render};
use crate::error::{Error, Result};
use crate::experiment::diagnose::Source;
use crate::experiment::run_dir::{RunDir, text_hash};
use crate::experiment::simulate::{self, Config, Summary, check, plan};
use crate::experiment::{annotate, sweep};
use crate::files::read_text;
use std::path::Path;

/// Reads a file with its overrides.
pub(super) fn load(file: &str, text: &str, set: &[String]) -> Result<Config> {
    check::load(&Source::new(file, text, set)?)
}

pub(super) fn run(global: &Global, run: &args::Run, file: &str, text: &str) -> Result<()> {
    let mut console = progress::Console::new(global.progress, global.quiet);
    let (set, swept) = settings(run)?;
    let points = sweep::grid(&swept);
    if points.len() > 1 && run.resume.is_some() {
        return Err(Error::value("--resume", "given with a sweep", "given for a single run"));
    }
    // All of them first: a mistake in the last point of a sweep must not show after hours.
    let with = |point: &sweep::Point| -> Result<_> {
        let set: Vec<String> = set.iter().chain(&point.overrides).cloned().collect();
        Ok((load(file, text, &set)?, set))
    };
    let configs = points.iter().map(with).collect::<Result<Vec<_>>>()?;
    let mut rows = vec![];
    for (point, (config, set)) in points.iter().zip(&configs) {
        let run_dir = match &run.resume {
            Some(path) => resumed(path, config)?,
            None => {
                let resolved = annotate::annotated(config);
                RunDir::create_as(&run.out, [&config.name, &text_hash(&resolved)], &resolved, text, set)?
            }
        };
        console.log_to(&run_dir.file("log.txt"))?;
        if points.len() > 1 {
            console.note(&point.label());
        }
        let threads = threads(global, config.run.threads)?;
        let resume = run.resume.is_some();
        let kernels = kernels();
        let kernels = kernels.as_deref();
        let mut context =
            simulate::Context { run_dir: &run_dir, resume, threads, kernels, progress: &mut console };
        let summary = simulate::run(config, &mut context)?;
        if !global.json {
            print(&render::simulation(&summary))?;
        }
        rows.push((point, summary));
    }
    if let [(_, summary)] = rows.as_slice() {
        if global.json {
            json(summary)?;
        }
    } else {
        sweep_result(global, &run.out.join(&configs[0].0.name), &rows)?;
    }
    if run.check {
        for ((_, summary), (config, _)) in rows.iter().zip(&configs) {
            summary.check(&config.expect)?;
        }
    }
    Ok(())
}

/// The directory of a run of the same configuration.
fn resumed(path: &Path, config: &Config) -> Result<RunDir> {
    let run_dir = RunDir::open(path)?;
    let stored = run_dir.file("config.toml");
    let text = read_text(&stored)?;
    if !simulate::describes(&text) {
        return Err(Error::data(stored, "the run is no simulation"));
    }
    run_dir.must_equal(&load(&stored.display().to_string(), &text, &[])?, config)?;
    Ok(run_dir)
}

fn sweep_result(global: &Global, folder: &Path, rows: &[(&sweep::Point, Summary)]) -> Result<()> {
    let all: Vec<_> = rows.iter().map(|(point, summary)| point.row(summary)).collect();
    let path = folder.join("sweep.json");
    write_json(&path, &all)?;
    if global.json { json(&all) } else { print(&format!("\n{}\n", path.display())) }
}

pub(super) fn plan(global: &Global, config: &Config) -> Result<()> {
    let plan = plan::of(config)?;
    if global.json { json(&plan) } else { print(&plan.to_string()) }
}

/// Whether a summary is of a simulation.
pub(super) fn is_summary(value: &serde_json::Value) -> bool {
    value["kind"] == "simulation"
}

pub(super) fn show(run: &RunDir, csv: bool, value: serde_json::Value) -> Result<()> {
    if csv {
        return print(&read_text(&run.file("rates.csv"))?);
    }
    if value["status"] != "ok" {
        let (status, error) = (value["status"].as_str(), value["error"].as_str());
        let what = format!("the run is {}: {}", status.unwrap_or("unknown"), error.unwrap_or_default());
        return Err(Error::data(run.file("summary.json"), what));
    }
    let summary: Summary = serde_json::from_value(value)
        .map_err(|e| Error::data(run.file("summary.json"), format!("this is not a summary: {e}")))?;
    print(&format!("{}\n\n{}", summary.name, render::simulation(&summary)))
}
