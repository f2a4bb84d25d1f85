//! Runs an experiment: data, frozen layers, readout, test, run directory.

use super::config::{Config, Fallback, On, Solver, Train};
use super::summary::{self, Accuracy, Memory, Parameters, PerSample, Seconds, Seed, Stat, Status, Summary};
use super::{build, render_report, run_dir::RunDir, run_dir::environment};
use crate::data::{Dataset, Holdout, OriginKind, OwnData, STROKES, Samples, Split, Store};
use crate::engine::{Activity, Input, Recording};
use crate::error::{Error, Result};
use crate::learn::adam::{self, Softmax};
use crate::learn::ransnn::{Reservoir, calibrate};
use crate::learn::ridge::{Criterion, Features, NormalEquations, Refine, Score};
use crate::progress::{Progress, Unit};
use crate::rng::Stream;
use crate::snn::Network;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Samples on which gains and the range of counts are calibrated.
const CALIBRATION: usize = 256;
/// Samples that go through the engine at once.
const BATCH: usize = 512;
/// Codes of the training set are kept while they fit in this many bytes.
const KEPT_CODES: usize = 560_000_000;

/// What a run needs from outside.
pub struct Context<'a> {
    /// Where data sets are.
    pub store: &'a Store,
    /// Where everything is written.
    pub run_dir: &'a RunDir,
    /// Threads.
    pub threads: usize,
    /// Who listens.
    pub progress: &'a mut (dyn Progress + Send),
}

/// The result of one seed, as it is kept for resuming and for the report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub result: Seed,
    pub parameters: Parameters,
    /// `[true class, predicted class]`, row-major.
    pub confusion: Vec<u64>,
    /// Predicted class of each test sample.
    pub predicted: Vec<u16>,
    /// (λ, leave-one-out error rate, squared error).
    pub selection: Vec<(f64, Option<f64>, f64)>,
    /// Loss and accuracy on the mini-batch, by iteration.
    pub curve: Vec<(usize, f64, f64)>,
}

/// Runs all seeds of an experiment; seeds that the run directory holds already are not repeated.
///
/// # Errors
/// Whatever goes wrong; [`Error::Interrupted`] after Ctrl-C. The run directory's `summary.json` says how it ended.
pub fn run(config: &Config, context: &mut Context<'_>) -> Result<Summary> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(context.threads).build();
    let pool = pool.map_err(|e| Error::Internal(e.to_string()))?;
    let started = Instant::now();
    let env = environment(context.threads, "cpu", None);
    context.run_dir.write_json("env.json", &env)?;
    let result = pool.install(|| all_seeds(config, context, started));
    if let Err(error) = &result {
        let status =
            if matches!(error, Error::Interrupted { .. }) { Status::Interrupted } else { Status::Failed };
        let value = serde_json::json!({
            "schema": summary::SCHEMA, "name": config.name, "status": status, "error": with_causes(error)
        });
        // The first error is the one to report.
        let _ = context.run_dir.write_json("summary.json", &value);
    }
    result
}

/// An error and what caused it, on one line.
pub(super) fn with_causes(error: &Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn all_seeds(config: &Config, context: &mut Context<'_>, started: Instant) -> Result<Summary> {
    device(&config.run.device)?;
    let data = data(config, context)?;
    context.run_dir.write_json("env.json", &environment(context.threads, "cpu", Some(&data)))?;
    let data_seconds = started.elapsed().as_secs_f64();
    let mut outcomes: Vec<Outcome> = vec![];
    for seed in (0..config.eval.repeat as u64).map(|i| config.seed + i) {
        let file = format!("checkpoints/seed-{seed}.json");
        let outcome = match finished(&context.run_dir.file(&file))? {
            Some(outcome) => outcome,
            None => {
                let run_dir = context.run_dir;
                let mut one = One { config, data: &data, seed, run_dir, progress: &mut *context.progress };
                let outcome = one.run()?;
                run_dir.write_json(&file, &outcome)?;
                outcome
            }
        };
        outcomes.push(outcome);
    }
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
        seeds,
        device: "cpu".into(),
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

/// Everything runs on the CPU so far; a GPU that was asked for by name and is not used would be a silent fallback.
pub(super) fn device(name: &str) -> Result<()> {
    if name.starts_with("cuda") {
        return Err(Error::Unsupported {
            op: "an experiment",
            on: format!(
                "on `{name}` yet: only the reservoir pass has a kernel; use device = \"cpu\" or \"auto\""
            ),
        });
    }
    Ok(())
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
                ..OwnData::default()
            };
            crate::data::open_path(Path::new(path), &options)?
        }
        (None, None) => return Err(Error::value("data", "missing", "a data set or a path")),
    };
    data.truncate(all(config.data.train_limit), usize::MAX);
    if config.eval.on == On::Validation {
        data = data.validation(Holdout::Count(config.data.validation))?;
    }
    data.truncate(usize::MAX, all(config.data.test_limit));
    let input = config.population.iter().find(|(_, p)| p.neuron == super::config::Neuron::Input);
    if let Some((name, population)) = input
        && population.shape.dims().iter().product::<usize>() != data.features()
    {
        let got = format!("{} values", population.shape.dims().iter().product::<usize>());
        return Err(Error::value(
            format!("the size of `population.{name}`"),
            got,
            format!("the {} of {}", data.features(), data.name),
        ));
    }
    Ok(data)
}

/// Part of a split, as the engine takes it.
pub(super) fn input(split: &Split, features: usize, range: std::ops::Range<usize>) -> Input<'_> {
    let values = range.start * features..range.end * features;
    match &split.samples {
        Samples::U8(all) => Input::U8(&all[values]),
        Samples::F32(all) => Input::F32(&all[values]),
    }
}

/// A network of the experiment, drawn and calibrated.
pub(super) fn network(config: &Config, data: &Dataset, seed: u64) -> Result<Network> {
    let mut net = build::network(config, seed)?;
    let samples = CALIBRATION.min(data.train.len());
    let batch = input(&data.train, data.features(), 0..samples);
    calibrate(&mut net, &build::encoding(config), &build::tuning(config), batch, samples)?;
    Ok(net)
}

/// One seed.
struct One<'a> {
    config: &'a Config,
    data: &'a Dataset,
    seed: u64,
    run_dir: &'a RunDir,
    progress: &'a mut (dyn Progress + Send),
}

/// A readout of either kind.
enum Readout {
    Ridge(crate::learn::ridge::Ridge),
    Softmax(Softmax),
}

impl Readout {
    fn classify<'f>(&self, features: impl Into<Features<'f>>) -> Result<Vec<u16>> {
        match self {
            Self::Ridge(ridge) => ridge.classify(features),
            Self::Softmax(softmax) => softmax.classify(features),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Ridge(ridge) => ridge.weights.len() + ridge.bias.len(),
            Self::Softmax(softmax) => softmax.size(),
        }
    }
}

impl One<'_> {
    fn run(&mut self) -> Result<Outcome> {
        let begun = Instant::now();
        let (config, data) = (self.config, self.data);
        let net = network(config, data, self.seed)?;
        let encoding = build::encoding(config);
        let probes = build::probes(config, &net);
        let samples = CALIBRATION.min(data.train.len());
        let batch = input(&data.train, data.features(), 0..samples);
        let reservoir = Reservoir::new(&net, &encoding, &probes, build::coding(config), batch, samples)?;
        let Train::Ransnn { solver } = &config.train;
        let mut fitted = match solver {
            Solver::Ridge { lambda, select_rows, rows, hinge, hinge_lambda } => {
                let rows = if *rows == 0 { data.train.len() } else { data.train.len().min(*rows) };
                let plan = RidgePlan {
                    lambda,
                    select_rows: *select_rows,
                    rows,
                    hinge: *hinge,
                    penalty: *hinge_lambda,
                };
                self.ridge(&reservoir, &plan, begun)?
            }
            Solver::Adam { lr, batch, epochs, batches } => {
                let options = adam::Options { lr: *lr, batch: *batch, epochs: *epochs, batches: *batches };
                self.adam(&reservoir, options, begun)?
            }
        };
        let testing = Instant::now();
        self.progress.start("test", Some(data.test.len() as u64), Unit::Samples);
        let (predicted, activity) =
            self.predict(&reservoir, &fitted.readout, &data.test, "test", data.test.len())?;
        self.progress.finish();
        let classes = data.classes;
        let mut confusion = vec![0u64; classes * classes];
        for (&label, &class) in data.test.labels.iter().zip(&predicted) {
            confusion[usize::from(label) * classes + usize::from(class)] += 1;
        }
        fitted.seconds.test = testing.elapsed().as_secs_f64();
        fitted.seconds.total = begun.elapsed().as_secs_f64();
        // A spike that is only counted costs one addition, too.
        let counted: u64 = probes.iter().map(|probe| activity.spikes[probe.population.0]).sum();
        let per_sample = |total: u64| total as f64 / activity.samples.max(1) as f64;
        let outcome = Outcome {
            result: Seed {
                seed: self.seed,
                test_accuracy: share(&predicted, &data.test.labels),
                train_accuracy: fitted.train_accuracy,
                lambda: match &fitted.readout {
                    Readout::Ridge(ridge) => Some(ridge.lambda),
                    Readout::Softmax(_) => None,
                },
                spikes_per_sample: per_sample(activity.spikes.iter().sum()),
                synaptic_operations_per_sample: per_sample(activity.synaptic_operations + counted),
                analogue_operations_per_sample: per_sample(activity.analogue_operations),
                seconds: fitted.seconds,
            },
            parameters: Parameters { trained: fitted.readout.size(), frozen: net.parameters().frozen },
            confusion,
            predicted,
            selection: fitted.selection,
            curve: fitted.curve,
        };
        super::model_file::write(self.run_dir, self.seed, &net, &reservoir, &fitted.readout.tensors())?;
        self.run_dir.metric(serde_json::json!({
            "seed": self.seed, "split": if config.eval.on == On::Test { "test" } else { "validation" },
            "accuracy": outcome.result.test_accuracy, "spikes_per_sample": outcome.result.spikes_per_sample,
        }))?;
        Ok(outcome)
    }

    fn check_interrupt(&self) -> Result<()> {
        if self.progress.interrupted() {
            return Err(Error::Interrupted { checkpoint: Some(self.run_dir.path().to_path_buf()) });
        }
        Ok(())
    }

    /// Runs samples through the reservoir batch by batch and hands their codes on.
    fn each_batch(
        &mut self,
        reservoir: &Reservoir<'_>,
        split: &Split,
        name: &str,
        samples: usize,
        mut take: impl FnMut(Features<'_>, std::ops::Range<usize>) -> Result<()>,
    ) -> Result<Activity> {
        let stream = reservoir.engine().stream(name, 0);
        let mut activity = Activity::default();
        let mut recording = Recording::default();
        let mut codes = vec![0u8; BATCH * reservoir.width()];
        for start in (0..samples).step_by(BATCH) {
            self.check_interrupt()?;
            let range = start..(start + BATCH).min(samples);
            let ids: Vec<u64> = range.clone().map(|i| i as u64).collect();
            let batch = input(split, self.data.features(), range.clone());
            if reservoir.code_max().is_some() {
                let codes = &mut codes[..ids.len() * reservoir.width()];
                activity += &reservoir.codes(batch, &ids, &stream, &mut recording, codes)?;
                take(Features::U8(codes), range.clone())?;
            } else {
                let (numbers, one) = reservoir.numbers(batch, &ids, &stream, &mut recording)?;
                activity += &one;
                take(Features::F32(&numbers), range.clone())?;
            }
            self.progress.advance(range.len() as u64);
        }
        Ok(activity)
    }

    fn predict(
        &mut self,
        reservoir: &Reservoir<'_>,
        readout: &Readout,
        split: &Split,
        name: &str,
        samples: usize,
    ) -> Result<(Vec<u16>, Activity)> {
        let mut predicted = Vec::with_capacity(samples);
        let activity = self.each_batch(reservoir, split, name, samples, |features, _| {
            predicted.extend(readout.classify(features)?);
            Ok(())
        })?;
        Ok((predicted, activity))
    }

    fn ridge(&mut self, reservoir: &Reservoir<'_>, plan: &RidgePlan<'_>, begun: Instant) -> Result<Fitted> {
        let data = self.data;
        // Without refinement, samples outside the normal equations would be of no use.
        let samples = if plan.hinge > 0 { data.train.len() } else { plan.rows };
        let width = reservoir.width();
        let mut equations = match reservoir.code_max() {
            Some(code_max) => NormalEquations::new(width, data.classes, code_max.max(1))?,
            None => NormalEquations::with_f32(width, data.classes)?,
        };
        if plan.lambda.len() > 1 {
            equations = equations.keep_rows(plan.select_rows, self.seed);
        }
        let keep = reservoir.code_max().is_some() && samples * width <= KEPT_CODES;
        if plan.hinge > 0 && !keep {
            let expected = "0: the features of the training set do not fit in memory, or are no counts";
            return Err(Error::value("train.ransnn.solver.ridge.hinge", plan.hinge, expected));
        }
        let mut kept: Vec<u8> = Vec::with_capacity(if keep { samples * width } else { 0 });
        self.progress.start("frozen layers", Some(samples as u64), Unit::Samples);
        let mut gram_seconds = 0.0;
        self.each_batch(reservoir, &data.train, "train", samples, |features, range| {
            let adding = Instant::now();
            let rows = plan.rows.saturating_sub(range.start).min(range.len());
            let labels = &data.train.labels[range.start..range.start + rows];
            match features {
                Features::U8(codes) => {
                    equations.add(&codes[..rows * width], labels)?;
                    if keep {
                        kept.extend_from_slice(codes);
                    }
                }
                Features::F32(numbers) => equations.add(&numbers[..rows * width], labels)?,
                Features::F64(_) => return Err(Error::Internal("features of 64 bits".into())),
            }
            gram_seconds += adding.elapsed().as_secs_f64();
            Ok(())
        })?;
        self.progress.finish();
        let features_seconds = begun.elapsed().as_secs_f64() - gram_seconds;
        let fitting = Instant::now();
        self.progress.start("readout", None, Unit::Steps);
        let (mut ridge, scores) = match plan.lambda {
            [one] => (equations.solve(*one)?, vec![]),
            many => equations.select(many, Criterion::LeaveOneOutErrorRate)?,
        };
        if plan.hinge > 0 {
            let options = Refine { iterations: plan.hinge, penalty: plan.penalty };
            (ridge, _) = equations.refine(&ridge, &kept, &data.train.labels, options)?;
        }
        self.progress.finish();
        let fit = gram_seconds + fitting.elapsed().as_secs_f64();
        let readout = Readout::Ridge(ridge);
        let train_accuracy = if keep {
            share(&readout.classify(&kept)?, &data.train.labels[..samples])
        } else {
            let some = samples.min(10_000);
            self.progress.start("training accuracy", Some(some as u64), Unit::Samples);
            let (predicted, _) = self.predict(reservoir, &readout, &data.train, "train", some)?;
            self.progress.finish();
            share(&predicted, &data.train.labels[..some])
        };
        let selection = scores.iter().map(|s: &Score| (s.lambda, s.error_rate, s.squared_error)).collect();
        let seconds = Seconds { features: features_seconds, fit, ..Seconds::default() };
        Ok(Fitted { readout, seconds, train_accuracy, selection, curve: vec![] })
    }

    fn adam(&mut self, reservoir: &Reservoir<'_>, options: adam::Options, begun: Instant) -> Result<Fitted> {
        let data = self.data;
        let (width, samples) = (reservoir.width(), data.train.len());
        let mut rows = match reservoir.code_max() {
            Some(_) => adam::Rows::U8(Vec::with_capacity(samples * width)),
            None => adam::Rows::F32(Vec::with_capacity(samples * width)),
        };
        self.progress.start("frozen layers", Some(samples as u64), Unit::Samples);
        self.each_batch(reservoir, &data.train, "train", samples, |features, _| {
            match (&mut rows, features) {
                (adam::Rows::U8(all), Features::U8(some)) => all.extend_from_slice(some),
                (adam::Rows::F32(all), Features::F32(some)) => all.extend_from_slice(some),
                _ => return Err(Error::Internal("features changed their type".into())),
            }
            Ok(())
        })?;
        self.progress.finish();
        let features = begun.elapsed().as_secs_f64();
        let fitting = Instant::now();
        let stream = Stream::named(self.seed, "train/adam");
        let mut trainer = adam::Trainer::new(&rows, &data.train.labels, data.classes, options, stream)?;
        let checkpoint = self.run_dir.file(&format!("checkpoints/adam-{}.safetensors", self.seed));
        if checkpoint.is_file() {
            trainer.restore(&checkpoint)?;
        }
        self.run_dir.forget_metrics(self.seed, trainer.iteration())?;
        self.progress.start("readout", Some(trainer.total() as u64), Unit::Steps);
        let per_epoch = trainer.per_epoch() as f64;
        while let Some(step) = trainer.step()? {
            self.progress.advance(1);
            let last = step.iteration == trainer.total();
            if step.iteration % 10 == 0 || last {
                let epoch = step.iteration as f64 / per_epoch;
                self.run_dir.metric(serde_json::json!({
                    "seed": self.seed, "step": step.iteration, "epoch": epoch, "split": "train", "loss": step.loss, "accuracy": step.accuracy,
                }))?;
            }
            let interrupted = self.progress.interrupted();
            if interrupted || step.iteration % self.config.run.checkpoint_every.max(1) == 0 {
                trainer.save(&checkpoint)?;
            }
            if interrupted {
                return Err(Error::Interrupted { checkpoint: Some(self.run_dir.path().to_path_buf()) });
            }
        }
        self.progress.finish();
        let curve = trainer.curve().to_vec();
        let readout = Readout::Softmax(trainer.finish());
        let fit = fitting.elapsed().as_secs_f64();
        let predicted = match &rows {
            adam::Rows::U8(rows) => readout.classify(rows)?,
            adam::Rows::F32(rows) => readout.classify(rows)?,
        };
        let train_accuracy = share(&predicted, &data.train.labels);
        Ok(Fitted {
            readout,
            seconds: Seconds { features, fit, ..Seconds::default() },
            train_accuracy,
            selection: vec![],
            curve,
        })
    }
}

impl Readout {
    /// Weights `[classes, features]` and bias `[classes]`.
    fn tensors(&self) -> (Vec<f32>, Vec<f32>) {
        match self {
            Self::Ridge(ridge) => (
                ridge.weights.iter().map(|&w| w as f32).collect(),
                ridge.bias.iter().map(|&b| b as f32).collect(),
            ),
            Self::Softmax(softmax) => softmax.tensors(),
        }
    }
}

/// How a closed-form readout is fitted.
struct RidgePlan<'a> {
    lambda: &'a [f64],
    select_rows: usize,
    /// Samples in the normal equations.
    rows: usize,
    /// Iterations of the refinement.
    hinge: usize,
    /// Its penalty.
    penalty: f64,
}

/// A trained readout and what it took.
struct Fitted {
    readout: Readout,
    seconds: Seconds,
    train_accuracy: f64,
    selection: Vec<(f64, Option<f64>, f64)>,
    curve: Vec<(usize, f64, f64)>,
}

/// Share of predictions that are right.
fn share(predicted: &[u16], labels: &[u16]) -> f64 {
    let right = predicted.iter().zip(labels).filter(|(a, b)| a == b).count();
    right as f64 / labels.len().max(1) as f64
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
    const COLUMNS: [&str; 8] =
        ["t", "seed", "step", "epoch", "split", "loss", "accuracy", "spikes_per_sample"];
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
