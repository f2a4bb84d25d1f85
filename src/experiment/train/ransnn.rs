//! `[train.ransnn]`: random frozen layers turn samples into features once; a readout is fitted to the features.

use super::{BATCH, CALIBRATION, Ending, JUDGED, Job, Outcome, Shown, curve_plots, input, share, show};
use crate::data::{Dataset, Samples, Split};
use crate::engine::{Activity, Recording, What};
use crate::error::{Error, Result};
use crate::experiment::config::Solver;
use crate::experiment::device::Device;
use crate::experiment::summary::{Parameters, Seconds};
use crate::experiment::{build, model_file};
use crate::learn::adam::{self, Softmax};
use crate::learn::ransnn::Reservoir;
use crate::learn::ridge::{Criterion, Features, NormalEquations, Refine, Score};
use crate::learn::surrogate::silent_or_saturated;
use crate::progress::Unit;
use crate::report::{Part, Plot, Series};
use crate::rng::Stream;
use crate::snn::Pop;
use std::ops::Range;
use std::time::Instant;

/// Codes of the training set are kept while they fit in this many bytes.
const KEPT_CODES: usize = 560_000_000;

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

impl Job<'_> {
    pub(super) fn ransnn(&mut self, solver: &Solver) -> Result<Outcome> {
        let begun = Instant::now();
        let (config, data) = (self.config, self.data);
        let net = self.network()?;
        let encoding = build::encoding(config);
        let probes = build::probes(config, &net);
        let samples = CALIBRATION.min(data.train.len());
        let batch = input(&data.train, data.features(), 0..samples);
        let reservoir =
            self.compile(|| Reservoir::new(&net, &encoding, &probes, build::coding(config), batch, samples))?;
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
        fitted.seconds.test = testing.elapsed().as_secs_f64();
        fitted.seconds.total = begun.elapsed().as_secs_f64();
        let parameters = Parameters { trained: fitted.readout.size(), frozen: net.parameters().frozen };
        let shown = if self.is_shown() {
            let population = probes[0].population;
            Shown {
                subtitle: subtitle(parameters),
                curves: fitted.curves(),
                layers: show::layers(&encoding, data, &net)?,
                examples: show::examples(&encoding, data, &net, population, &predicted)?,
                memory: memory(data, &reservoir, matches!(fitted.readout, Readout::Ridge(_))),
                ..Shown::default()
            }
        } else {
            Shown::default()
        };
        let counts = probes.iter().filter(|probe| probe.what != What::Membrane);
        let read: Vec<Pop> = counts.map(|probe| probe.population).collect();
        let notices = silent_or_saturated(&net, &activity, encoding.steps(), &read);
        // A spike that is only counted costs one addition, too.
        let counted: u64 = probes.iter().map(|probe| activity.spikes[probe.population.0]).sum();
        let lambda = match &fitted.readout {
            Readout::Ridge(ridge) => Some(ridge.lambda),
            Readout::Softmax(_) => None,
        };
        model_file::write(self.run_dir, self.seed, &net, &reservoir, &fitted.readout.tensors())?;
        self.outcome(Ending {
            predicted,
            train_accuracy: fitted.train_accuracy,
            lambda,
            spikes: activity.spikes.iter().sum(),
            synaptic_operations: activity.synaptic_operations + counted,
            analogue_operations: activity.analogue_operations,
            seconds: fitted.seconds,
            parameters,
            notices,
            details: vec![],
            shown,
        })
    }

    /// The frozen layers where the run has them computed; for a GPU, where it has the kernels.
    fn compile<'n>(&mut self, compiled: impl Fn() -> Result<Reservoir<'n>>) -> Result<Reservoir<'n>> {
        let bytes = matches!(self.data.train.samples, Samples::U8(_));
        let on_gpu = self.device.try_gpu(|gpu| {
            if !bytes {
                let on = format!("on a GPU: the samples of {} are no 8-bit numbers", self.data.name);
                return Err(Error::Unsupported { op: "[train.ransnn]", on });
            }
            compiled()?.on(gpu)
        })?;
        if let Some(reservoir) = on_gpu {
            return Ok(reservoir);
        }
        self.device = Device::Cpu;
        compiled()
    }

    /// Runs samples through the reservoir batch by batch and hands their features on. While a GPU works on a batch, the
    /// CPU does what is to be done with the one before.
    fn each_batch(
        &mut self,
        reservoir: &Reservoir<'_>,
        split: &Split,
        name: &str,
        samples: usize,
        mut take: impl FnMut(Features<'_>, Range<usize>) -> Result<()>,
    ) -> Result<Activity> {
        let stream = reservoir.engine().stream(name, 0);
        let mut activity = Activity::default();
        let mut recording = Recording::default();
        let codes = || vec![0u8; BATCH.min(samples) * reservoir.width()];
        let (mut done, mut next) = ((codes(), vec![], 0..0), (codes(), vec![], 0..0));
        let mut hand_on = |(codes, numbers, range): &(Vec<u8>, Vec<f32>, Range<usize>)| {
            if reservoir.code_max().is_some() {
                take(Features::U8(&codes[..range.len() * reservoir.width()]), range.clone())
            } else {
                take(Features::F32(numbers), range.clone())
            }
        };
        for start in (0..samples).step_by(BATCH) {
            self.check_interrupt()?;
            let range = start..(start + BATCH).min(samples);
            let ids: Vec<u64> = range.clone().map(|i| i as u64).collect();
            let started =
                reservoir.start(input(split, self.data.features(), range.clone()), &ids, &stream)?;
            if start > 0 {
                hand_on(&done)?;
            }
            if reservoir.code_max().is_some() {
                let codes = &mut next.0[..ids.len() * reservoir.width()];
                activity += &reservoir.collect_codes(started, &mut recording, codes)?;
            } else {
                let (numbers, one) = reservoir.collect_numbers(started, &mut recording)?;
                activity += &one;
                next.1 = numbers;
            }
            self.progress.advance(range.len() as u64);
            next.2 = range;
            std::mem::swap(&mut done, &mut next);
        }
        if samples > 0 {
            hand_on(&done)?;
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
            let some = samples.min(JUDGED);
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
                return Err(self.interrupted());
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

impl Fitted {
    /// Loss and accuracy by iteration; leave-one-out errors by strength.
    fn curves(&self) -> Vec<Plot> {
        let mut curves = curve_plots(&self.curve, &[]);
        let chosen: Vec<(f64, f64)> =
            self.selection.iter().filter_map(|(l, e, _)| e.map(|e| (*l, 100.0 * e))).collect();
        if chosen.len() > 1 {
            curves.push(Plot {
                title: "Choice of λ".into(),
                x_label: "λ".into(),
                y_label: "leave-one-out error / %".into(),
                log_x: true,
                series: vec![Series::new("kept training samples", chosen)],
            });
        }
        curves
    }
}

fn subtitle(Parameters { trained, frozen }: Parameters) -> String {
    format!("RanSNN: {frozen} random frozen weights, {trained} trained")
}

fn memory(data: &Dataset, reservoir: &Reservoir<'_>, ridge: bool) -> Vec<Part> {
    let width = reservoir.width();
    let parts = [
        ("training samples", show::sample_bytes(&data.train)),
        ("frozen weights, compiled", reservoir.engine().plan().table_bytes),
        ("features as codes", data.train.len() * width),
        ("normal equations and factor", if ridge { 4 * width * width } else { 0 }),
    ];
    show::parts(&parts)
}
