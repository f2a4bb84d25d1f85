//! What a fine-tuning does, in order.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::config::{Config, Dtype};
use super::curves::{Curves, Moment};
use crate::document;
use crate::experiment::device::{Device, device};
use crate::experiment::run_dir::{RunDir, environment};
use crate::experiment::summary::peak_rss_bytes;
use crate::models::finetune::{Evaluation, Event, Example, Part, Trained, data, evaluate as judge};
use crate::models::{self, Family, Model, NewHead, Tokenizer};
use crate::peft::{self, Calibration, Modules, Targets};
use crate::progress::Progress;
use crate::report::{Page, Parameters, Plot, Series, Tile};
use crate::tensor::{self, DType};
use crate::{Error, Result};

/// Where a run takes place.
pub struct Context<'a> {
    /// Folder of data sets, for files that are not found as they stand.
    pub data: &'a Path,
    /// The run directory.
    pub run_dir: &'a RunDir,
    /// Whether to go on from its last checkpoint.
    pub resume: bool,
    /// Where compiled kernels of a GPU are kept.
    pub kernels: Option<&'a Path>,
    /// Listener.
    pub progress: &'a mut dyn Progress,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("run_dir", &self.run_dir).finish_non_exhaustive()
    }
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of the layout.
    pub schema: u32,
    /// Of the file.
    pub name: String,
    /// `done`, `interrupted`, `diverged` or `failed`.
    pub status: String,
    /// Weights of the model.
    pub parameters: u64,
    /// Numbers that were trained.
    pub trained: u64,
    /// Examples to learn from, to judge by on the way, and to judge by at the end.
    pub examples: [usize; 3],
    /// Updates.
    pub steps: u64,
    /// Loss of the last update.
    pub loss: Option<f64>,
    /// Before training, on what is held out.
    pub before: Option<Evaluation>,
    /// After it.
    pub after: Option<Evaluation>,
    /// The trained model on what it was never judged by before.
    pub test: Option<Evaluation>,
    /// Wall-clock seconds of training: attaching adapters, with the gradients that LoRA-GA begins by, and updates. Reading
    /// and judging are left out.
    pub seconds: f64,
    /// Median over updates.
    pub step_seconds: Option<f64>,
    /// Largest resident memory.
    pub peak_rss_bytes: Option<u64>,
    /// Folder with the model or the adapter.
    pub result: PathBuf,
}

/// A model with adapters attached, and its examples.
#[derive(Debug)]
pub struct Prepared {
    /// The model.
    pub model: Model,
    /// What of it is trained.
    pub part: Part,
    /// Examples to learn from, held out to be judged by on the way, and at the end.
    pub examples: [Vec<Example>; 3],
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Ends of paths that are trained as a whole.
    pub saved: Vec<String>,
    /// [`Model::fingerprint`] before training.
    pub base: String,
    /// Seconds of attaching adapters, with the gradients that some begin by.
    pub seconds: f64,
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_string())
}

/// The model before training, and whether its head is new.
fn base(config: &Config, path: &Path) -> Result<(Model, bool)> {
    let dtype = if config.model.dtype == Dtype::Bf16 { DType::Bf16 } else { DType::F32 };
    let head =
        (config.model.labels > 0).then_some(NewHead { labels: config.model.labels, seed: config.seed });
    let model = match config.model.random {
        true => Model::random(models::Config::open(path)?, config.seed)?,
        false => Model::open_with(path, dtype, head)?,
    };
    Ok((model, head.is_some()))
}

/// [`Model::fingerprint`] of the model that a file begins with.
///
/// # Errors
/// Files of the model that are missing or wrong.
pub fn fingerprint(config: &Config, data: &Path) -> Result<String> {
    Ok(base(config, &crate::data::find(&config.model.path, data))?.0.fingerprint())
}

/// Opens the model, reads the examples, attaches adapters. LoRA-GA and hybrids begin by gradients of the first batches.
///
/// # Errors
/// Files that are missing or wrong; targets that the model does not have.
pub fn prepare(config: &Config, data: &Path) -> Result<Prepared> {
    let path = crate::data::find(&config.model.path, data);
    let (mut model, new_head) = base(config, &path)?;
    model.must_be_finite()?;
    let base = model.fingerprint();
    let tokenizer = match config.data.tokenizer.as_str() {
        "bytes" => Tokenizer::bytes(),
        "" => Tokenizer::open(&path)?,
        other => Tokenizer::open(&crate::data::find(other, data))?,
    };
    if tokenizer.vocab() > model.config().vocab {
        let expected = format!("at most {}, that of the model", model.config().vocab);
        return Err(Error::value("the vocabulary of the tokenizer", tokenizer.vocab(), expected));
    }
    let examples = examples(config, data, &model, &tokenizer)?;
    let begun = Instant::now();
    // A new pooler is part of what has to be learned from nothing.
    let saved = if config.adapt.method().is_some() { model.class_head(new_head) } else { vec![] };
    let part = match config.adapt.method() {
        None => Part::All,
        Some(method) => {
            let batches = config.adapt.calibration_batches.unwrap_or(Calibration::default().batches);
            let calibration = Calibration { batches, ..Calibration::default() };
            let pad = pad(&model);
            let first: Vec<&Example> = examples[0].iter().collect();
            let size = config.train.batch.min(first.len());
            let mut loss = |model: &Model, i: usize| {
                let at = i * size % (first.len() - size + 1);
                let (batch, labels) = data::batch(&first[at..at + size], pad)?;
                model.loss(&batch, &labels)
            };
            let targets = targets(config, &saved);
            peft::attach_calibrated(
                &mut model,
                &method,
                &targets,
                NAME,
                config.seed,
                calibration,
                &mut loss,
            )?;
            model.train_whole(NAME, &saved)?;
            Part::Adapters
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Prepared { model, part, examples, tokenizer, saved, base, seconds })
}

/// The maps that get an adapter: what is trained as a whole does not.
fn targets(config: &Config, saved: &[String]) -> Targets {
    let exclude = (!saved.is_empty()).then(|| Modules::Names(saved.to_vec()));
    Targets { exclude, ..config.adapt.targets() }
}

/// The name of the adapter.
const NAME: &str = "default";

fn pad(model: &Model) -> i64 {
    i64::from(model.config().pad.unwrap_or(0))
}

fn examples(
    config: &Config,
    folder: &Path,
    model: &Model,
    tokenizer: &Tokenizer,
) -> Result<[Vec<Example>; 3]> {
    let keys = &config.data;
    let fields = data::Fields {
        text: some(&keys.text),
        second: some(&keys.second),
        prompt: some(&keys.prompt),
        completion: some(&keys.completion),
        label: some(&keys.label),
    };
    let read = |file: &str| -> Result<Vec<Example>> {
        let mut records = data::records(&crate::data::find(file, folder))?;
        if keys.limit > 0 && records.len() > 1 {
            records.truncate(keys.limit);
        }
        match model.config().family {
            Family::Bert => data::judged(&records, &fields, tokenizer, keys.length, model.config().labels),
            _ => {
                let mut examples = data::language(&records, &fields, tokenizer, keys.length)?;
                if keys.packing {
                    examples = data::pack(&examples, keys.length);
                }
                if keys.limit > 0 {
                    examples.truncate(keys.limit);
                }
                Ok(examples)
            }
        }
    };
    let mut train = read(&keys.train)?;
    let all = train.len() as f64;
    let mut held = |file: &str, share: f64| match some(file) {
        Some(file) => read(&file),
        None => {
            let held = (all * share).round() as usize;
            Ok(train.split_off(train.len() - held.min(train.len().saturating_sub(1))))
        }
    };
    let validation = held(&keys.validation, keys.validation_share)?;
    let test = held(&keys.test, keys.test_share)?;
    Ok([train, validation, test])
}

/// Moves a model where a run has it; without the kernels, where no GPU was asked for by name, to main memory.
fn place(model: &mut Model, device: &Device) -> Result<Device> {
    match device.try_gpu(|gpu| model.move_to(&tensor::Device::Cuda(gpu.clone())))? {
        Some(()) => Ok(device.clone()),
        None => model.move_to(&tensor::Device::Cpu).map(|()| Device::Cpu),
    }
}

/// Trains, writes metrics, checkpoints, the result, a summary and a report.
///
/// # Errors
/// As [`prepare`]; divergence; an interrupt, after a checkpoint; a folder that cannot be written.
pub fn train(config: &Config, cx: &mut Context<'_>) -> Result<Summary> {
    let device = device(&config.train.device, "fine-tuning", true, cx.kernels)?;
    let Prepared { mut model, part, examples, saved, base, seconds, .. } = prepare(config, cx.data)?;
    let device = place(&mut model, &device)?;
    let how = config.loop_of(pad(&model));
    let run_dir = cx.run_dir;
    let mut facts = environment(rayon::current_num_threads(), &device.to_string(), None);
    facts["base"] = base.into();
    run_dir.write_json("env.json", &facts)?;
    let checkpoint = run_dir.file("checkpoints").join("latest.safetensors");
    let judged = |model: &Model, examples: &[Example]| match examples.is_empty() {
        true => Ok(None),
        false => judge(model, examples, how.batch, how.pad).map(Some),
    };
    let before = judged(&model, &examples[1])?;
    let mut trained = Trained { model: &mut model, part };
    let count = trained.count();
    let mut state = how.start();
    if cx.resume && checkpoint.is_file() {
        state.load(&checkpoint, &mut trained)?;
        // What was loaded is in main memory.
        place(trained.model, &device)?;
    }
    run_dir.forget_metrics(config.seed, state.step as usize)?;
    let so_far = Curves::read(run_dir)?;
    let mut spent = so_far.seconds().unwrap_or(seconds);
    let evaluated = |step: u64, seconds: f64, evaluation: &Evaluation| {
        run_dir.metric(serde_json::json!({
            "seed": config.seed, "step": step, "split": "validation", "seconds": seconds,
            "loss": evaluation.loss, "accuracy": evaluation.accuracy, "f1": evaluation.f1,
            "matthews": evaluation.matthews,
        }))
    };
    let mut after = match state.step {
        0 => before.clone(),
        _ => judged(trained.model, &examples[1])?,
    };
    // A run that was killed may have a checkpoint of a step and not its judgement.
    let due = state.step == 0 || how.judges_after(state.step);
    let there = so_far.validation.last().is_some_and(|moment| moment.step == state.step);
    if let Some(after) = after.as_ref().filter(|_| due && !there) {
        evaluated(state.step, spent, after)?;
    }
    // The clock stands still while the model is judged and files are written.
    let mut clock = Instant::now();
    let result = how.run(
        &mut trained,
        [&examples[0], &examples[1]],
        &mut state,
        cx.progress,
        &mut |event, trained, state| {
            match event {
                Event::Step { step, loss, learning_rate, grad_norm, lambdas } => {
                    spent += clock.elapsed().as_secs_f64();
                    run_dir.metric(serde_json::json!({
                        "seed": config.seed, "step": step, "split": "train", "seconds": spent, "loss": loss,
                        "learning_rate": learning_rate, "grad_norm": grad_norm, "lambda": lambdas,
                    }))?;
                    if step.is_multiple_of(config.train.checkpoint_every) {
                        state.save(&checkpoint, trained)?;
                    }
                }
                Event::Evaluation { step, evaluation } => {
                    after = Some(evaluation.clone());
                    evaluated(*step, spent, evaluation)?;
                }
            }
            clock = Instant::now();
            Ok(())
        },
    );
    state.save(&checkpoint, &trained)?;
    let status = match &result {
        Ok(()) => "done",
        Err(Error::Interrupted { .. }) => "interrupted",
        Err(Error::Diverged(_)) => "diverged",
        Err(_) => "failed",
    };
    let folder = run_dir.file(if part == Part::All { "model" } else { "adapter" });
    let mut test = None;
    if result.is_ok() {
        test = judged(&model, &examples[2])?;
        write_result(config, &mut model, part, saved, &folder)?;
    }
    let curves = Curves::read(run_dir)?;
    let summary = Summary {
        schema: 1,
        name: config.name.clone(),
        status: status.into(),
        parameters: model.config().parameters().1,
        trained: count as u64,
        examples: examples.map(|examples| examples.len()),
        steps: state.step,
        loss: curves.training.last().map(|moment| moment.loss),
        before,
        after,
        test,
        seconds: spent,
        step_seconds: curves.step_seconds(),
        peak_rss_bytes: Some(peak_rss_bytes()),
        result: folder,
    };
    run_dir.write_json("summary.json", &summary)?;
    page(config, &summary, curves).write_json(&run_dir.file("report.json"))?;
    crate::experiment::execute::write_report(run_dir)?;
    match result {
        Ok(()) => Ok(summary),
        Err(Error::Interrupted { .. }) => Err(Error::Interrupted { checkpoint: Some(run_dir.path().into()) }),
        Err(error) => Err(error),
    }
}

fn write_result(
    config: &Config,
    model: &mut Model,
    part: Part,
    saved: Vec<String>,
    folder: &Path,
) -> Result<()> {
    let Some(method) = config.adapt.method().filter(|_| part == Part::Adapters) else {
        return model.save(folder);
    };
    let task = if model.config().labels > 0 { "SEQ_CLS" } else { "CAUSAL_LM" };
    let mut settings = peft::Config::new(method, targets(config, &saved));
    settings.base = Some(config.model.path.clone());
    settings.task = Some(task.into());
    settings.saved = saved;
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    peft::save(model, folder, NAME, &settings)
}

fn page(config: &Config, summary: &Summary, curves: Curves) -> Page {
    let plot = |title: &str, y: &str, series| Plot {
        title: title.into(),
        x_label: "step".into(),
        y_label: y.into(),
        log_x: false,
        series,
    };
    let losses = |name: &str, moments: &[Moment]| {
        Series::new(name, moments.iter().map(|moment| (moment.step as f64, moment.loss)))
    };
    let mut series = vec![losses("training", &curves.training)];
    if curves.validation.len() > 1 {
        series.push(losses("validation", &curves.validation));
    }
    let mut plots = vec![plot("Loss", "loss", series)];
    if !curves.lambdas.is_empty() {
        let series = curves.lambdas.into_iter().map(|(path, points)| Series::new(path, points)).collect();
        plots.push(plot("Share of LoRA in each map", "λ", series));
    }
    let tile = |label: &str, value: f64| Tile {
        label: label.into(),
        value: format!("{value:.4}"),
        note: String::new(),
    };
    let mut tiles: Vec<Tile> = summary.loss.map(|loss| tile("training loss", loss)).into_iter().collect();
    for (split, evaluation) in [("validation", &summary.after), ("test", &summary.test)] {
        if let Some(evaluation) = evaluation {
            tiles.push(tile(&format!("{split} loss"), evaluation.loss));
            tiles.extend(evaluation.accuracy.map(|accuracy| tile(&format!("{split} accuracy"), accuracy)));
        }
    }
    Page {
        title: config.name.clone(),
        subtitle: format!("{} trained of {}", summary.trained, summary.parameters),
        status: summary.status.clone(),
        dataset: config.data.train.clone(),
        tiles,
        parameters: Some(Parameters {
            trained: summary.trained,
            frozen: summary.parameters.saturating_sub(summary.trained),
        }),
        curves: plots,
        peak_rss_bytes: summary.peak_rss_bytes,
        config: document::text(config).unwrap_or_default(),
        ..Page::default()
    }
}

/// Judges the model of a run, as its last checkpoint has it, on what it held out.
///
/// # Errors
/// No such run, nothing held out.
pub fn evaluate(config: &Config, run_dir: &RunDir, data: &Path) -> Result<Evaluation> {
    let (prepared, how) = restored(config, run_dir, data)?;
    judge(&prepared.model, &prepared.examples[1], how.batch, how.pad)
}

/// Writes the model of a run, with its adapter computed into its weights, as an ordinary Hugging Face folder.
///
/// # Errors
/// No such run; weights that are not finite.
pub fn merge(config: &Config, run_dir: &RunDir, data: &Path, out: &Path) -> Result<usize> {
    let (mut prepared, _) = restored(config, run_dir, data)?;
    let merged = peft::merge_and_unload(&mut prepared.model)?;
    prepared.model.save(out)?;
    Ok(merged)
}

fn restored(
    config: &Config,
    run_dir: &RunDir,
    data: &Path,
) -> Result<(Prepared, models::finetune::FineTune)> {
    let mut prepared = prepare(config, data)?;
    let how = config.loop_of(pad(&prepared.model));
    let mut trained = Trained { model: &mut prepared.model, part: prepared.part };
    how.start().load(&run_dir.file("checkpoints").join("latest.safetensors"), &mut trained)?;
    Ok((prepared, how))
}
