//! Methods side by side: files that differ in their method, each with the same learning rates and seeds.
//!
//! Each run is an ordinary run directory. A finished one is found again by its configuration and its base model and is
//! not repeated. The learning rate of a method is the one with the lowest loss on the validation examples after the last
//! step, mean over seeds; what the method then achieves is judged on the test examples, where there are any.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::config::Config;
use super::{Curves, Summary};
use crate::document;
use crate::experiment::diagnose::Source;
use crate::experiment::run_dir::{RunDir, difference};
use crate::experiment::summary::Stat;
use crate::files::read_text;
use crate::report::number::{bytes, fixed, grouped, seconds, significant};
use crate::report::{Page, Plot, Point, Series, Table};
use crate::{Error, Result};

/// One run of a comparison.
#[derive(Clone, Debug)]
pub struct Run {
    /// What `train` is given.
    pub config: Config,
    /// The file.
    pub file: PathBuf,
    /// What is changed of it, as `--set` takes it.
    pub set: Vec<String>,
}

/// Every file with every learning rate and seed, file by file. All files are read and checked before anything runs.
///
/// # Errors
/// Mistakes in a file; two files of one name; files that differ in more than their name and their method.
pub fn runs(files: &[PathBuf], set: &[String], rates: &[f64], seeds: &[u64]) -> Result<Vec<Run>> {
    let mut all: Vec<Run> = vec![];
    for file in files {
        let text = read_text(file)?;
        for rate in rates {
            for seed in seeds {
                let own = [format!("train.learning_rate={rate:?}"), format!("seed={seed}")];
                let set = [set, &own].concat();
                let config = Config::load(&Source::new(&file.display().to_string(), &text, &set)?)?;
                all.push(Run { config, file: file.clone(), set });
            }
        }
    }
    let several = rates.len() * seeds.len();
    let firsts: Vec<&Run> = all.iter().step_by(several.max(1)).collect();
    let Some(first) = firsts.first() else {
        return Err(Error::value("the number of files, learning rates or seeds", 0, "at least 1"));
    };
    for (i, run) in firsts.iter().enumerate() {
        if firsts[..i].iter().any(|earlier| earlier.config.name == run.config.name) {
            let what =
                format!("`{}` is the name of another file, too; names tell methods apart", run.config.name);
            return Err(Error::data(&run.file, what));
        }
        let (name, adapt) = (first.config.name.clone(), first.config.adapt.clone());
        let same = Config { name, adapt, ..run.config.clone() };
        if same != first.config {
            let differ = difference(&first.config, &same);
            let what =
                format!("only name and method may differ from {}; here {differ}", first.file.display());
            return Err(Error::data(&run.file, what));
        }
    }
    Ok(all)
}

/// What there is of a run already.
#[derive(Debug)]
pub enum Kept {
    /// It came to its end, if only by diverging.
    Whole(Box<Outcome>),
    /// It was stopped; there is a checkpoint to go on from.
    Part(PathBuf),
    /// Nothing.
    None,
}

/// A run that came to its end.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Its learning rate.
    pub learning_rate: f64,
    /// Its seed.
    pub seed: u64,
    /// Its folder.
    pub run_directory: PathBuf,
    /// What came out.
    pub summary: Summary,
    /// How it came about.
    #[serde(skip)]
    pub curves: Curves,
}

impl Run {
    /// What there is of this run below a folder, on the model with the fingerprint `base`. Of several, the latest.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn kept(&self, folder: &Path, base: &str) -> Result<Kept> {
        let home = folder.join(&self.config.name);
        let Ok(entries) = std::fs::read_dir(&home) else { return Ok(Kept::None) };
        let wanted = document::text(&self.config).map_err(|e| Error::Internal(e.to_string()))?;
        // The link to the latest run is the same folder again.
        let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut paths: Vec<PathBuf> = folders.map(|entry| entry.path()).collect();
        paths.sort();
        let json = |path: PathBuf| -> serde_json::Value {
            let text = std::fs::read(path).unwrap_or_default();
            serde_json::from_slice(&text).unwrap_or_default()
        };
        let mut part = Kept::None;
        for path in paths.into_iter().rev() {
            let same = std::fs::read_to_string(path.join("config.toml")).is_ok_and(|text| text == wanted);
            if !same || json(path.join("env.json"))["base"] != base {
                continue;
            }
            let summary: Option<Summary> = serde_json::from_value(json(path.join("summary.json"))).ok();
            match summary {
                Some(summary) if ["done", "diverged"].contains(&summary.status.as_str()) => {
                    let curves = Curves::read(&RunDir::open(&path)?)?;
                    let (learning_rate, seed) = (self.config.train.learning_rate, self.config.seed);
                    let outcome = Outcome { learning_rate, seed, run_directory: path, summary, curves };
                    return Ok(Kept::Whole(Box::new(outcome)));
                }
                _ if path.join("checkpoints/latest.safetensors").is_file() => part = Kept::Part(path),
                _ => {}
            }
        }
        Ok(part)
    }
}

impl Outcome {
    /// Loss on the validation examples after the last step; infinite if it diverged.
    pub fn validation_loss(&self) -> f64 {
        match (&self.summary.after, self.summary.status.as_str()) {
            (Some(after), "done") => after.loss,
            _ => f64::INFINITY,
        }
    }
}

/// What came out of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Version of the layout.
    pub schema: u32,
    /// `test`, or `validation` where there are no test examples.
    pub judged_on: String,
    /// The loss on the validation examples that times are taken to.
    pub target: f64,
    /// One entry a file.
    pub methods: Vec<Method>,
}

/// A method with its learning rate; numbers are over its seeds.
#[derive(Clone, Debug, Serialize)]
pub struct Method {
    /// The name of its file.
    pub name: String,
    /// The learning rate with the lowest validation loss; none if all diverged.
    pub learning_rate: Option<f64>,
    /// Whether that is the lowest or the highest of several, so that the best one may lie outside.
    pub at_edge: bool,
    /// Loss on the validation examples after the last step.
    pub validation_loss: Option<Stat>,
    /// Loss, perplexity, accuracy, F1 and Matthews correlation on the examples of `judged_on`, those that there are.
    pub quality: BTreeMap<String, Stat>,
    /// Seeds that reached the target.
    pub reached: usize,
    /// Updates until the target, over those.
    pub steps_to_target: Option<Stat>,
    /// Seconds of training until the target, over those: with attaching, without judging.
    pub seconds_to_target: Option<Stat>,
    /// Seconds of an update: median of a run, mean over seeds.
    pub step_seconds: Option<Stat>,
    /// Seconds of the whole training.
    pub seconds: Option<Stat>,
    /// Numbers that were trained.
    pub trained: Option<u64>,
    /// Largest resident memory of the process, the largest of the seeds.
    pub peak_rss_bytes: Option<u64>,
    /// Every run, in the order of learning rates and seeds.
    pub runs: Vec<Outcome>,
}

/// The comparison of `outcomes`, which are those of [`runs`] in the same order. Times are taken to the loss `target`, or
/// to the worst final loss of any seed with the learning rate of its method, which all of them reach.
///
/// # Errors
/// Nothing was held out to choose learning rates by.
pub fn compare(runs: &[Run], outcomes: Vec<Outcome>, target: Option<f64>) -> Result<Comparison> {
    let mut grouped: Vec<(String, Vec<Outcome>)> = vec![];
    for (run, outcome) in runs.iter().zip(outcomes) {
        if outcome.summary.examples[1] == 0 {
            let what = "nothing is held out to choose a learning rate by; give `data.validation`, or a share";
            return Err(Error::data(&run.file, what));
        }
        match grouped.last_mut().filter(|(name, _)| *name == run.config.name) {
            Some((_, list)) => list.push(outcome),
            None => grouped.push((run.config.name.clone(), vec![outcome])),
        }
    }
    let finals = grouped.iter().flat_map(|(_, list)| best(list)).map(Outcome::validation_loss);
    let target = target.unwrap_or_else(|| finals.fold(f64::NEG_INFINITY, f64::max));
    let tested = grouped.iter().flat_map(|(_, list)| list).all(|outcome| outcome.summary.examples[2] > 0);
    let methods = grouped.into_iter().map(|(name, list)| method(name, list, tested, target)).collect();
    let judged_on = if tested { "test" } else { "validation" }.into();
    Ok(Comparison { schema: 1, judged_on, target, methods })
}

/// The runs with the learning rate that is best for the mean over seeds; none if no rate is free of divergence.
fn best(list: &[Outcome]) -> Vec<&Outcome> {
    let of_rate = |rate: f64| list.iter().filter(move |outcome| outcome.learning_rate == rate);
    let loss = |rate: f64| of_rate(rate).map(Outcome::validation_loss).sum::<f64>();
    let rates = list.iter().map(|outcome| outcome.learning_rate);
    let best = rates.filter(|&rate| loss(rate).is_finite()).min_by(|&a, &b| loss(a).total_cmp(&loss(b)));
    best.map(|rate| of_rate(rate).collect()).unwrap_or_default()
}

fn method(name: String, runs: Vec<Outcome>, tested: bool, target: f64) -> Method {
    let chosen = best(&runs);
    let learning_rate = chosen.first().map(|outcome| outcome.learning_rate);
    let outermost = |rate: f64| {
        let all = || runs.iter().map(|outcome| outcome.learning_rate);
        let several = all().any(|other| other != rate);
        several && (all().all(|other| other >= rate) || all().all(|other| other <= rate))
    };
    let over = |f: &dyn Fn(&Outcome) -> Option<f64>| {
        let values: Vec<f64> = chosen.iter().filter_map(|outcome| f(outcome)).collect();
        (!values.is_empty()).then(|| Stat::of(&values))
    };
    let judged = |outcome: &Outcome| match tested {
        true => outcome.summary.test.clone(),
        false => outcome.summary.after.clone(),
    };
    let quality = [
        ("loss", over(&|outcome| Some(judged(outcome)?.loss))),
        ("perplexity", over(&|outcome| judged(outcome)?.perplexity)),
        ("accuracy", over(&|outcome| judged(outcome)?.accuracy)),
        ("f1", over(&|outcome| judged(outcome)?.f1)),
        ("matthews", over(&|outcome| judged(outcome)?.matthews)),
    ];
    Method {
        name,
        learning_rate,
        at_edge: learning_rate.is_some_and(outermost),
        validation_loss: over(&|outcome| Some(outcome.validation_loss())),
        quality: quality.into_iter().filter_map(|(name, stat)| Some((name.to_string(), stat?))).collect(),
        reached: chosen.iter().filter(|outcome| outcome.curves.reaches(target).is_some()).count(),
        steps_to_target: over(&|outcome| Some(outcome.curves.reaches(target)?.step as f64)),
        seconds_to_target: over(&|outcome| Some(outcome.curves.reaches(target)?.seconds)),
        step_seconds: over(&|outcome| outcome.summary.step_seconds),
        seconds: over(&|outcome| Some(outcome.summary.seconds)),
        trained: runs.first().map(|outcome| outcome.summary.trained),
        peak_rss_bytes: chosen.iter().filter_map(|outcome| outcome.summary.peak_rss_bytes).max(),
        runs,
    }
}

/// `0.1234 ± 0.0012`; a dash for nothing.
fn number(stat: Option<&Stat>, format: &dyn Fn(f64) -> String) -> String {
    match stat {
        None => "–".into(),
        Some(Stat::One(value)) => format(*value),
        Some(Stat::Many { mean, std, .. }) => format!("{} ± {}", format(*mean), format(*std)),
    }
}

impl Comparison {
    /// Names of the scores that any method has, the loss first.
    fn scores(&self) -> Vec<&str> {
        let all = ["loss", "perplexity", "accuracy", "f1", "matthews"];
        let has = |name: &&str| self.methods.iter().any(|method| method.quality.contains_key(*name));
        all.into_iter().filter(has).collect()
    }

    /// One row a method, formatted.
    pub fn table(&self) -> Table {
        let scores = self.scores();
        let mut head = vec!["method".to_string(), "learning rate".into()];
        head.extend(scores.iter().map(|score| format!("{} {score}", self.judged_on)));
        let target = fixed(self.target, 4);
        head.extend([format!("steps to {target}"), format!("seconds to {target}")]);
        head.extend(["ms a step", "trained", "peak memory"].map(String::from));
        let row = |method: &Method| {
            let edge = if method.at_edge { " (edge)" } else { "" };
            let rate = method.learning_rate.map_or("all diverged".into(), |rate| format!("{rate:?}{edge}"));
            let mut row = vec![method.name.clone(), rate];
            row.extend(scores.iter().map(|score| number(method.quality.get(*score), &|x| fixed(x, 4))));
            let total =
                method.runs.iter().filter(|run| Some(run.learning_rate) == method.learning_rate).count();
            let some =
                if method.reached < total { format!(" ({} of {total})", method.reached) } else { "".into() };
            row.push(number(method.steps_to_target.as_ref(), &|x| fixed(x, 0)) + &some);
            row.push(number(method.seconds_to_target.as_ref(), &|x| fixed(x, 2)));
            row.push(number(method.step_seconds.as_ref(), &|x| fixed(1e3 * x, 1)));
            row.push(method.trained.map_or("–".into(), grouped));
            row.push(method.peak_rss_bytes.map_or("–".into(), |peak| bytes(peak as f64)));
            row
        };
        let caption = "Each method with its learning rate".into();
        Table { caption, head, rows: self.methods.iter().map(row).collect() }
    }

    /// The table as Markdown, and what the reader has to know.
    pub fn markdown(&self) -> String {
        let table = self.table();
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = vec!["---".to_string(); table.head.len()];
        let rows: String = table.rows.iter().map(|row| line(row)).collect();
        let notes: String = self.notes().iter().map(|note| format!("{note}\n")).collect();
        format!("{}{}{rows}\n{notes}", line(&table.head), line(&rule))
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![format!(
            "Learning rates were chosen on the validation loss after the last step; times are until the validation loss \
             is {} or lower, without judging.",
            fixed(self.target, 4)
        )];
        if self.judged_on == "validation" {
            notes.push(
                "There are no test examples: the scores are on those that chose the learning rates.".into(),
            );
        }
        let edges: Vec<&str> =
            self.methods.iter().filter(|method| method.at_edge).map(|method| method.name.as_str()).collect();
        if !edges.is_empty() {
            notes.push(format!(
                "At the edge of the learning rates, so that others may be better: {}.",
                edges.join(", ")
            ));
        }
        notes
    }

    /// The table with plain numbers.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn csv(&self) -> Result<String> {
        let fail = |e: csv::Error| Error::Internal(e.to_string());
        let scores = self.scores();
        let mut out = csv::Writer::from_writer(vec![]);
        let mut head = vec!["method".to_string(), "learning_rate".into(), "at_edge".into(), "seeds".into()];
        let mut columns = vec!["validation_loss".to_string()];
        columns.extend(scores.iter().map(|score| format!("{}_{score}", self.judged_on)));
        let times = ["steps_to_target", "seconds_to_target", "step_seconds", "seconds"];
        columns.extend(times.map(String::from));
        head.extend(columns.iter().flat_map(|column| [column.clone(), format!("{column}_std")]));
        head.extend(["reached", "trained", "peak_rss_bytes"].map(String::from));
        out.write_record(&head).map_err(fail)?;
        for method in &self.methods {
            let text = |value: Option<String>| value.unwrap_or_default();
            let seeds =
                method.runs.iter().filter(|run| Some(run.learning_rate) == method.learning_rate).count();
            let rate = text(method.learning_rate.map(|rate| format!("{rate:?}")));
            let mut row = vec![method.name.clone(), rate, method.at_edge.to_string(), seeds.to_string()];
            let mut stats = vec![method.validation_loss.as_ref()];
            stats.extend(scores.iter().map(|score| method.quality.get(*score)));
            let Method { steps_to_target, seconds_to_target, step_seconds, seconds, .. } = method;
            stats.extend([steps_to_target, seconds_to_target, step_seconds, seconds].map(Option::as_ref));
            for stat in stats {
                let std = match stat {
                    Some(Stat::Many { std, .. }) => Some(std.to_string()),
                    _ => None,
                };
                row.extend([text(stat.map(|stat| stat.mean().to_string())), text(std)]);
            }
            row.push(method.reached.to_string());
            row.extend([method.trained, method.peak_rss_bytes].map(|n| text(n.map(|n| n.to_string()))));
            out.write_record(&row).map_err(fail)?;
        }
        let bytes = out.into_inner().map_err(|e| Error::Internal(e.to_string()))?;
        String::from_utf8(bytes).map_err(|e| Error::Internal(e.to_string()))
    }

    /// Plots under the names of their files: loss against steps, against seconds and against learning rates, and λ of each
    /// hybrid, block by block.
    pub fn plots(&self) -> Vec<(String, Plot)> {
        let plot = |title: &str, x_label: &str, y_label: &str, log_x, series| Plot {
            title: title.into(),
            x_label: x_label.into(),
            y_label: y_label.into(),
            log_x,
            series,
        };
        let loss = "validation loss";
        let by_step = self.methods.iter().map(|method| method.course(|moment| moment.step as f64)).collect();
        let by_second = self.methods.iter().map(|method| method.course(|moment| moment.seconds)).collect();
        let by_rate = self.methods.iter().map(Method::losses).collect();
        let mut plots = vec![
            ("loss-steps.svg".to_string(), plot("Loss against steps", "step", loss, false, by_step)),
            (
                "loss-seconds.svg".into(),
                plot("Loss against time", "seconds of training", loss, false, by_second),
            ),
            (
                "loss-rates.svg".into(),
                plot("Loss against learning rate", "learning rate", "final validation loss", true, by_rate),
            ),
        ];
        for method in &self.methods {
            let series = method.lambdas();
            if !series.is_empty() {
                let title = format!("Share of LoRA in each block, {}", method.name);
                plots.push((format!("lambda-{}.svg", method.name), plot(&title, "step", "λ", false, series)));
            }
        }
        plots
    }

    /// The page of the report.
    pub fn page(&self) -> Page {
        Page {
            title: "Methods of fine-tuning".into(),
            subtitle: self.methods.iter().map(|method| method.name.as_str()).collect::<Vec<_>>().join(", "),
            status: "done".into(),
            details: self.notes(),
            tables: vec![self.table()],
            curves: self.plots().into_iter().map(|(_, plot)| plot).collect(),
            ..Page::default()
        }
    }
}

impl Method {
    fn chosen(&self) -> Vec<&Outcome> {
        self.runs.iter().filter(|run| Some(run.learning_rate) == self.learning_rate).collect()
    }

    /// Validation loss over `x`, both as means over seeds; all runs judge at the same steps.
    fn course(&self, x: fn(&super::Moment) -> f64) -> Series {
        let chosen = self.chosen();
        let moments = chosen.iter().map(|run| run.curves.validation.len()).min().unwrap_or(0);
        let mean = |i: usize, f: &dyn Fn(&super::Moment) -> f64| {
            chosen.iter().map(|run| f(&run.curves.validation[i])).sum::<f64>() / chosen.len() as f64
        };
        Series::new(&self.name, (0..moments).map(|i| (mean(i, &x), mean(i, &|moment| moment.loss))))
    }

    /// Final validation loss over learning rates; rates that diverged are left out.
    fn losses(&self) -> Series {
        let mut rates: Vec<f64> = self.runs.iter().map(|run| run.learning_rate).collect();
        rates.sort_by(f64::total_cmp);
        rates.dedup();
        let point = |rate: f64| {
            let of_rate = self.runs.iter().filter(|run| run.learning_rate == rate);
            let losses: Vec<f64> = of_rate.map(Outcome::validation_loss).collect();
            let (y, spread) = match Stat::of(&losses) {
                Stat::One(loss) => (loss, 0.0),
                Stat::Many { mean, std, .. } => (mean, std),
            };
            y.is_finite().then_some(Point { x: rate, y, spread })
        };
        Series { name: self.name.clone(), points: rates.into_iter().filter_map(point).collect() }
    }

    /// λ over steps, for each block the mean over its maps and the seeds.
    fn lambdas(&self) -> Vec<Series> {
        let mut sums: BTreeMap<usize, BTreeMap<u64, (f64, f64)>> = BTreeMap::new();
        for run in self.chosen() {
            for (path, points) in &run.curves.lambdas {
                let block = path.split('.').find_map(|part| part.parse().ok()).unwrap_or(0);
                let steps = sums.entry(block).or_default();
                for &(step, lambda) in points {
                    let (sum, count) = steps.entry(step as u64).or_default();
                    *sum += lambda;
                    *count += 1.0;
                }
            }
        }
        let series = |(block, steps): (usize, BTreeMap<u64, (f64, f64)>)| {
            let points = steps.into_iter().map(|(step, (sum, count))| (step as f64, sum / count));
            Series::new(format!("block {block}"), points)
        };
        sums.into_iter().map(series).collect()
    }
}

/// What a run was, for the log.
impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Summary { name, status, seconds: time, .. } = &self.summary;
        let result = match status.as_str() {
            "done" => format!("validation loss {}", significant(self.validation_loss(), 5)),
            _ => status.clone(),
        };
        write!(
            f,
            "{name}, learning rate {:?}, seed {}: {result}, {}",
            self.learning_rate,
            self.seed,
            seconds(*time)
        )
    }
}
