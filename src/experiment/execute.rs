//! Runs an experiment: data, frozen layers, readout, test, run directory.

use super::config::{Config, Encode, Fallback, Neuron, On, Shape};
use super::device::device;
use super::summary::{self, Accuracy, Memory, PerSample, Seconds, Seed, Stat, Status, Summary};
use super::train::{Job, Outcome};
use super::{render_report, run_dir::RunDir, run_dir::environment};
use crate::data::events::Frames;
use crate::data::{Dataset, Holdout, OriginKind, OwnData, STROKES, Store};
use crate::error::{Error, Result};
use crate::progress::Progress;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a run needs from outside.
pub struct Context<'a> {
    /// Where data sets are.
    pub store: &'a Store,
    /// Where everything is written.
    pub run_dir: &'a RunDir,
    /// Threads.
    pub threads: usize,
    /// Where compiled kernels of a GPU are kept.
    pub kernels: Option<&'a Path>,
    /// Who listens.
    pub progress: &'a mut (dyn Progress + Send),
}

/// Runs all seeds of an experiment; seeds that the run directory holds already are not repeated.
///
/// # Errors
/// Whatever goes wrong; [`Error::Interrupted`] after Ctrl-C. The run directory's `summary.json` says how it ended.
pub fn run(config: &Config, context: &mut Context<'_>) -> Result<Summary> {
    let started = Instant::now();
    let (run_dir, threads) = (context.run_dir, context.threads);
    let head = serde_json::json!({ "schema": summary::SCHEMA, "name": config.name });
    supervised(run_dir, threads, head, || all_seeds(config, context, started))
}

/// Does the work of a run on so many threads. Where it fails, `summary.json` says so: `head`, how it ended, and why.
pub(super) fn supervised<T: Send>(
    run_dir: &RunDir,
    threads: usize,
    mut head: serde_json::Value,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|e| Error::Internal(e.to_string()))?;
    run_dir.write_json("env.json", &environment(threads, "cpu", None))?;
    let result = pool.install(work);
    if let Err(error) = &result {
        let interrupted = matches!(error, Error::Interrupted { .. });
        let status = if interrupted { Status::Interrupted } else { Status::Failed };
        head["status"] = serde_json::json!(status);
        head["error"] = with_causes(error).into();
        // The first error is the one to report.
        let _ = run_dir.write_json("summary.json", &head);
    }
    result
}

/// An error and what caused it, on one line.
fn with_causes(error: &Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn all_seeds(config: &Config, context: &mut Context<'_>, started: Instant) -> Result<Summary> {
    let (trainer, has_kernels) = super::train::trainer(&config.train);
    let device = device(&config.run.device, trainer, has_kernels, context.kernels)?;
    let data = data(config, context)?;
    let environment = |device: &str| environment(context.threads, device, Some(&data));
    context.run_dir.write_json("env.json", &environment(&device.to_string()))?;
    let data_seconds = started.elapsed().as_secs_f64();
    let mut outcomes: Vec<Outcome> = vec![];
    for seed in (0..config.eval.repeat as u64).map(|i| config.seed + i) {
        let file = format!("checkpoints/seed-{seed}.json");
        let outcome = match finished(&context.run_dir.file(&file))? {
            Some(outcome) => outcome,
            None => {
                let run_dir = context.run_dir;
                let progress = &mut *context.progress;
                let mut job = Job { config, data: &data, seed, run_dir, progress, device: device.clone() };
                let outcome = job.run()?;
                run_dir.write_json(&file, &outcome)?;
                outcome
            }
        };
        outcomes.push(outcome);
    }
    let mut devices: Vec<&str> = outcomes.iter().map(|outcome| outcome.device.as_str()).collect();
    devices.dedup(); // several only where a run is resumed elsewhere
    let device = devices.join(", ");
    context.run_dir.write_json("env.json", &environment(&device))?;
    let judged_on = if config.eval.on == On::Test { "test" } else { "validation" };
    let seeds: Vec<Seed> = outcomes.iter().map(|outcome| outcome.result.clone()).collect();
    let mean =
        |f: fn(&Seed) -> f64| PerSample { per_sample: seeds.iter().map(f).sum::<f64>() / seeds.len() as f64 };
    let total = |f: fn(&Seconds) -> f64| seeds.iter().map(|seed| f(&seed.seconds)).sum::<f64>();
    let mut summary = Summary {
        schema: summary::SCHEMA,
        name: config.name.clone(),
        status: Status::Ok,
        dataset: data.name.clone(),
        fallback: match &data.origin.kind {
            OriginKind::Fallback { wanted, reason } => Some(format!("{wanted} could not be had: {reason}")),
            OriginKind::Files | OriginKind::BuiltIn => None,
        },
        judged_on: judged_on.into(),
        test: Accuracy { accuracy: Stat::of(&seeds.iter().map(|s| s.test_accuracy).collect::<Vec<_>>()) },
        train: Accuracy { accuracy: Stat::of(&seeds.iter().map(|s| s.train_accuracy).collect::<Vec<_>>()) },
        seconds: Seconds {
            data: data_seconds,
            features: total(|s| s.features),
            fit: total(|s| s.fit),
            test: total(|s| s.test),
            total: 0.0,
        },
        spikes: mean(|s| s.spikes_per_sample),
        synaptic_operations: mean(|s| s.synaptic_operations_per_sample),
        analogue_operations: mean(|s| s.analogue_operations_per_sample),
        memory: Memory { peak_rss_bytes: summary::peak_rss_bytes() },
        parameters: outcomes[0].parameters,
        notices: remarks(&outcomes, |outcome| &outcome.notices),
        details: remarks(&outcomes, |outcome| &outcome.details),
        seeds,
        device,
        threads: context.threads,
        run_directory: Some(context.run_dir.path().display().to_string()),
    };
    let page = render_report::page(config, &data, &summary, &outcomes, context.run_dir)?;
    page.write_json(&context.run_dir.file("report.json"))?;
    page.write_html(&context.run_dir.file("report.html"))?;
    summary.memory.peak_rss_bytes = summary::peak_rss_bytes();
    summary.seconds.total = started.elapsed().as_secs_f64();
    context.run_dir.write_json("summary.json", &summary)?;
    Ok(summary)
}

/// Remarks on all seeds, with the seed where there are several.
fn remarks(outcomes: &[Outcome], of: fn(&Outcome) -> &[String]) -> Vec<String> {
    let line = |outcome: &Outcome, text: &String| match outcomes {
        [_] => text.clone(),
        _ => format!("seed {}: {text}", outcome.result.seed),
    };
    let all = outcomes.iter().flat_map(|outcome| of(outcome).iter().map(move |text| (outcome, text)));
    all.map(|(outcome, text)| line(outcome, text)).collect()
}

fn finished(path: &Path) -> Result<Option<Outcome>> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = crate::files::read_text(path)?;
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|e| Error::data(path, format!("this checkpoint is damaged: {e}")))
}

/// Reads the data, with the fallback that the configuration asks for.
fn data(config: &Config, context: &mut Context<'_>) -> Result<Dataset> {
    let all = |limit: usize| if limit == 0 { usize::MAX } else { limit };
    // Drawn, not read: what the limits leave out is not worth the time.
    let strokes = || {
        let test = if config.eval.on == On::Test { all(config.data.test_limit) } else { 0 };
        let (train, test) = (all(config.data.train_limit).min(STROKES.0), test.min(STROKES.1));
        crate::data::strokes(0, train, test)
    };
    let mut data = match (&config.data.dataset, &config.data.path) {
        (Some(name), _) if name == "strokes" => strokes(),
        (Some(name), _) => match context.store.open(name, context.progress) {
            Err(error @ Error::Missing { .. }) if config.data.fallback == Fallback::Strokes => {
                let mut data = strokes();
                data.origin.kind = OriginKind::Fallback { wanted: name.clone(), reason: error.to_string() };
                data
            }
            result => result?,
        },
        (None, Some(path)) => {
            let label = Some(config.data.label_column.clone()).filter(|label| !label.is_empty());
            let options = OwnData {
                label,
                test_fraction: config.data.test_share,
                seed: config.seed,
                frames: frames(config),
                ..OwnData::default()
            };
            crate::data::open_path(&crate::data::find(path, &context.store.dir), &options)?
        }
        (None, None) => return Err(Error::value("data", "missing", "a data set or a path")),
    };
    data.truncate(all(config.data.train_limit), usize::MAX);
    if config.eval.on == On::Validation {
        data = data.validation(Holdout::Count(config.data.validation))?;
    }
    data.truncate(usize::MAX, all(config.data.test_limit));
    if let Some((name, size)) = super::train::input_size(config)
        && super::build::encoding(config).sample_len(size) != data.features()
    {
        let expected = format!("the {} of {}", data.features(), data.name);
        return Err(Error::value(format!("the size of `{name}`"), format!("{size} values"), expected));
    }
    Ok(data)
}

/// What recordings become, where the experiment takes events.
fn frames(config: &Config) -> Option<Frames> {
    let Encode::Events { steps, step_ms } = config.encode else { return None };
    let input = config.population.values().find(|population| population.neuron == Neuron::Input)?;
    let Shape::Image(shape) = input.shape else { return None };
    Some(Frames { shape, steps, step_us: (1000.0 * step_ms).round() as u64 })
}

/// Writes the report of a run again, from what the run directory holds.
///
/// # Errors
/// Not a finished run, unwritable.
pub fn write_report(run: &RunDir) -> Result<PathBuf> {
    let page = crate::report::Page::read_json(&run.file("report.json"))?;
    let path = run.file("report.html");
    page.write_html(&path)?;
    Ok(path)
}

/// `metrics.jsonl` as CSV; a value that a line lacks is empty.
///
/// # Errors
/// The file is missing or damaged.
pub fn metrics_csv(run: &RunDir) -> Result<String> {
    const COLUMNS: [&str; 9] =
        ["t", "seed", "step", "epoch", "split", "loss", "accuracy", "spikes_per_sample", "time_steps"];
    let path = run.file("metrics.jsonl");
    let text = crate::files::read_text(&path)?;
    let mut out = csv::Writer::from_writer(vec![]);
    let fail = |e: csv::Error| Error::Internal(e.to_string());
    out.write_record(COLUMNS).map_err(fail)?;
    for (i, line) in text.lines().enumerate() {
        let value: serde_json::Value =
            serde_json::from_str(line).map_err(|e| Error::data(&path, format!("line {}: {e}", i + 1)))?;
        let cell = |name: &&str| match &value[*name] {
            serde_json::Value::Null => String::new(),
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        out.write_record(COLUMNS.iter().map(cell)).map_err(fail)?;
    }
    let bytes = out.into_inner().map_err(|e| Error::Internal(e.to_string()))?;
    String::from_utf8(bytes).map_err(|e| Error::Internal(e.to_string()))
}

/// Accuracy against the first swept value.
///
/// # Errors
/// As [`crate::report::line_plot`].
pub fn sweep_plot(points: &[super::sweep::Point], all: &[Summary]) -> Result<String> {
    let key = points[0].values.first().map_or("", |(key, _)| key.split(',').next().unwrap_or_default());
    let x = |i: usize, point: &super::sweep::Point| {
        point.values.first().and_then(|(_, value)| value.parse::<f64>().ok()).unwrap_or(i as f64)
    };
    let line = points.iter().zip(all).enumerate();
    let line = line.map(|(i, (point, summary))| (x(i, point), 100.0 * summary.test.accuracy.mean()));
    let series = crate::report::Series::new("accuracy", line.collect::<Vec<_>>());
    crate::report::line_plot(&all[0].name, key, "accuracy / %", &[series], false)
}
