//! What a simulation does, in order: build, simulate in stretches, write, describe.

use super::clock::Clock;
use super::config::{Config, Export};
use super::streams::{self, Entry, Numbers, Rows, Spikes, Stream};
use super::summary::{Kind, Population, SCHEMA, Seconds, Summary};
use super::{build, config, page};
use crate::engine::clock::SpikeTrain;
use crate::engine::clock::statistics::Statistics;
use crate::engine::{Connections, SpikeTimes, whole_steps};
use crate::error::{Error, Result};
use crate::experiment::device::device;
use crate::experiment::execute::supervised;
use crate::experiment::run_dir::{RunDir, environment};
use crate::experiment::summary::{Memory, Status, peak_rss_bytes};
use crate::files::read_text;
use crate::progress::{Progress, Unit};
use crate::snn::{Network, Pop};
use crate::units::Ms;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a run needs from outside.
pub struct Context<'a> {
    /// Where everything is written.
    pub run_dir: &'a RunDir,
    /// Whether to go on from its last checkpoint.
    pub resume: bool,
    /// Threads.
    pub threads: usize,
    /// Where compiled kernels of a GPU are kept.
    pub kernels: Option<&'a Path>,
    /// Who listens.
    pub progress: &'a mut (dyn Progress + Send),
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("run_dir", &self.run_dir).finish_non_exhaustive()
    }
}

/// Simulated time between two looks at Ctrl-C, in milliseconds.
const PIECE_MS: f64 = 10.0;
/// The file by which a run is continued; written last, so that what it names is there.
const POSITION: &str = "checkpoints/position.json";

/// How far a run is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Position {
    steps: u64,
    /// The state after them.
    state: String,
    /// Bytes of each stream.
    streams: BTreeMap<String, u64>,
    seconds: Seconds,
    /// Spikes of each population at the end of the warm-up, once it is over.
    warm: Option<Vec<u64>>,
}

/// Runs a simulation, or the rest of one.
///
/// # Errors
/// Whatever goes wrong; [`Error::Interrupted`] after Ctrl-C, with a checkpoint written. The run directory's
/// `summary.json` says how it ended.
pub fn run(config: &Config, context: &mut Context<'_>) -> Result<Summary> {
    let (run_dir, threads) = (context.run_dir, context.threads);
    if let (true, Some(done)) = (context.resume, finished(run_dir)?) {
        return Ok(done);
    }
    let head = serde_json::json!({ "schema": SCHEMA, "kind": Kind::Simulation, "name": config.name });
    supervised(run_dir, threads, head, || simulate(config, context))
}

/// The result, where the run has ended well already.
fn finished(run_dir: &RunDir) -> Result<Option<Summary>> {
    let path = run_dir.file("summary.json");
    if !path.is_file() {
        return Ok(None);
    }
    let damaged = |e: serde_json::Error| Error::data(&path, format!("this is not a summary: {e}"));
    let value: serde_json::Value = serde_json::from_str(&read_text(&path)?).map_err(damaged)?;
    if value["status"] != "ok" {
        return Ok(None);
    }
    serde_json::from_value(value).map(Some).map_err(damaged)
}

/// A population whose spikes are kept, and where.
struct Kept {
    pop: Pop,
    times: Stream,
    neurons: Stream,
}

/// A variable that is kept, and where.
struct Variable<'c> {
    name: &'c str,
    number: usize,
    trace: &'c config::Trace,
    every: u64,
    values: Stream,
}

/// Weights that are kept, and where.
struct Kinetics<'c> {
    name: &'c str,
    number: usize,
    of: &'c config::Weights,
    every: u64,
    values: Stream,
}

struct Run<'c, 'n> {
    config: &'c Config,
    run_dir: &'c RunDir,
    net: &'n Network,
    clock: Clock<'n>,
    kept: Vec<Kept>,
    variables: Vec<Variable<'c>>,
    weights: Vec<Kinetics<'c>>,
    position: Position,
}

/// Most numbers of a plot of weights.
const PLOTTED: usize = 1 << 20;

fn simulate(config: &Config, context: &mut Context<'_>) -> Result<Summary> {
    let grid = config.simulate.clock == config::Clock::Grid;
    let work = if grid { "[simulate]" } else { "[simulate] on the lazy clock" };
    let device = device(&config.run.device, work, grid, context.kernels)?;
    let position = if context.resume { position(context.run_dir)? } else { Position::default() };
    let begun = Instant::now();
    context.progress.start("synapses", None, Unit::Steps);
    let net = build::network(config)?;
    let clock = Clock::new(&net, config, &device)?;
    context.run_dir.write_json("env.json", &environment(context.threads, &clock.device(), None))?;
    context.progress.finish();
    let mut run = Run::new(config, context.run_dir, &net, clock, position)?;
    run.position.seconds.build += begun.elapsed().as_secs_f64();
    run.steps(context.progress)?;
    context.progress.start("statistics", None, Unit::Steps);
    let summary = run.finish(context.threads)?;
    context.progress.finish();
    Ok(summary)
}

fn position(run_dir: &RunDir) -> Result<Position> {
    let path = run_dir.file(POSITION);
    if !path.is_file() {
        return Ok(Position::default());
    }
    serde_json::from_str(&read_text(&path)?)
        .map_err(|e| Error::data(&path, format!("this checkpoint is damaged: {e}; remove it to start again")))
}

impl<'c, 'n> Run<'c, 'n> {
    fn new(
        config: &'c Config,
        run_dir: &'c RunDir,
        net: &'n Network,
        mut clock: Clock<'n>,
        position: Position,
    ) -> Result<Self> {
        let folder = run_dir.file("streams");
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let stream = |name: String| {
            let bytes = position.streams.get(&name).copied().unwrap_or(0);
            Stream::open(folder.join(name), bytes)
        };
        let pop = |name: &str| {
            net.population(name).ok_or_else(|| Error::value("population", name, "one of the network"))
        };
        let mut kept = vec![];
        for (i, population) in net.populations.iter().enumerate() {
            let name = &population.name;
            if config.record.spikes.as_ref().is_none_or(|list| list.contains(name)) {
                clock.record_spikes(Pop(i))?;
                let (times, neurons) =
                    (stream(format!("spikes.{name}.times"))?, stream(format!("spikes.{name}.neurons"))?);
                kept.push(Kept { pop: Pop(i), times, neurons });
            }
        }
        let mut variables = vec![];
        for (name, trace) in &config.record.trace {
            let every = whole_steps(Ms(trace.every_ms.unwrap_or(net.dt.0)), net.dt)?;
            let number = clock.record(pop(&trace.population)?, &trace.variable, &trace.neurons, every)?;
            variables.push(Variable { name, number, trace, every, values: stream(format!("trace.{name}"))? });
        }
        let mut weights = vec![];
        for (name, of) in &config.record.weights {
            let every = whole_steps(Ms(of.every_ms), net.dt)?;
            let number = clock.record_weights(&of.projection, &of.synapses, every)?;
            weights.push(Kinetics { name, number, of, every, values: stream(format!("weights.{name}"))? });
        }
        if !position.state.is_empty() {
            clock.restore(&run_dir.file(&position.state))?;
            if clock.steps() != position.steps {
                let what = format!("it is {} steps on, where {} are recorded", clock.steps(), position.steps);
                return Err(Error::data(run_dir.file(&position.state), what));
            }
        }
        Ok(Self { config, run_dir, net, clock, kept, variables, weights, position })
    }

    fn in_steps(&self, ms: f64) -> Result<u64> {
        whole_steps(Ms(ms), self.net.dt)
    }

    fn steps(&mut self, progress: &mut (dyn Progress + Send)) -> Result<()> {
        let total = self.in_steps(self.config.simulate.duration_ms)?;
        let warm = self.in_steps(self.config.simulate.warmup_ms)?;
        let count = |ms: f64| (ms / self.net.dt.0).round().max(1.0) as u64;
        let piece = count(PIECE_MS);
        let every = match self.config.simulate.checkpoint_every_ms {
            0.0 => u64::MAX,
            ms => count(ms),
        };
        progress.start("simulate", Some(total), Unit::Steps);
        progress.advance(self.clock.steps());
        loop {
            let now = self.clock.steps();
            if now >= warm && self.position.warm.is_none() {
                self.position.warm = Some(self.clock.activity()?.spikes);
            }
            if now >= total {
                break;
            }
            if progress.interrupted() {
                self.checkpoint()?;
                return Err(Error::Interrupted { checkpoint: Some(self.run_dir.path().to_path_buf()) });
            }
            let mut end = (now + piece).min(total);
            if now < warm {
                end = end.min(warm);
            }
            let given = self.rewards_after(now)?;
            end = end.min(given.iter().map(|&(step, _)| step).min().unwrap_or(end));
            let begun = Instant::now();
            self.clock.run(end - now, self.net.dt)?;
            for &(_, amount) in given.iter().filter(|&&(step, _)| step == end) {
                self.clock.reward(amount)?;
            }
            self.position.seconds.simulate += begun.elapsed().as_secs_f64();
            let begun = Instant::now();
            self.write()?;
            if end / every > now / every && end < total {
                self.checkpoint()?;
            }
            self.position.seconds.write += begun.elapsed().as_secs_f64();
            progress.advance(end - now);
        }
        progress.finish();
        Ok(())
    }

    /// The next time of each of the file's rewards after a step, and its amount.
    fn rewards_after(&self, step: u64) -> Result<Vec<(u64, f64)>> {
        let mut next = vec![];
        for given in &self.config.simulate.rewards {
            let first = self.in_steps(given.at_ms)?;
            let at = match given.every_ms {
                _ if first > step => first,
                Some(every_ms) => {
                    let every = self.in_steps(every_ms)?.max(1);
                    first + ((step - first) / every + 1) * every
                }
                None => continue,
            };
            next.push((at, given.amount));
        }
        Ok(next)
    }

    /// Moves what was recorded to the disk.
    fn write(&mut self) -> Result<()> {
        for kept in &mut self.kept {
            if let Some((times, neurons)) = self.clock.take_spikes(kept.pop) {
                kept.times.append(&times)?;
                kept.neurons.append(&neurons)?;
            }
        }
        for variable in &mut self.variables {
            if let Some(trace) = self.clock.take_trace(variable.number) {
                variable.values.append(&trace.values)?;
            }
        }
        for weights in &mut self.weights {
            if let Some(trace) = self.clock.take_weights(weights.number) {
                weights.values.append(&trace.values)?;
            }
        }
        Ok(())
    }

    fn streams(&mut self) -> impl Iterator<Item = &mut Stream> {
        let spikes = self.kept.iter_mut().flat_map(|kept| [&mut kept.times, &mut kept.neurons]);
        let variables = self.variables.iter_mut().map(|variable| &mut variable.values);
        spikes.chain(variables).chain(self.weights.iter_mut().map(|weights| &mut weights.values))
    }

    fn checkpoint(&mut self) -> Result<()> {
        let mut lengths = BTreeMap::new();
        for stream in self.streams() {
            let name = stream.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
            lengths.insert(name, stream.flush()?);
        }
        let before = std::mem::take(&mut self.position.state);
        self.position.steps = self.clock.steps();
        self.position.state = format!("checkpoints/step-{:012}.safetensors", self.position.steps);
        self.position.streams = lengths;
        self.clock.checkpoint(&self.run_dir.file(&self.position.state))?;
        self.run_dir.write_json(POSITION, &self.position)?;
        if !before.is_empty() && before != self.position.state {
            let path = self.run_dir.file(&before);
            std::fs::remove_file(&path).map_err(Error::io("remove", path))?;
        }
        Ok(())
    }

    /// The recorded spikes of a population in steps.
    fn train(&self, kept: &Kept) -> Result<SpikeTrain> {
        let neurons = streams::read(kept.neurons.path())?;
        Ok(match self.clock {
            Clock::Grid(_) | Clock::Gpu(_) => {
                SpikeTrain { steps: streams::read(kept.times.path())?, neurons }
            }
            Clock::Lazy(_) => {
                SpikeTimes { times: streams::read(kept.times.path())?, neurons }.on_grid(self.net.dt)
            }
        })
    }

    /// The synapses of all plastic projections, as they are now.
    fn plastic(&self) -> Result<Vec<(&'n str, Connections)>> {
        let plastic = self.net.projections.iter().filter(|p| p.wiring.plasticity.is_some());
        plastic.map(|p| Ok((p.name.as_str(), self.clock.weights(&p.name)?))).collect()
    }

    fn finish(mut self, threads: usize) -> Result<Summary> {
        let begun = Instant::now();
        for stream in self.streams() {
            stream.flush()?;
        }
        let (config, net) = (self.config, self.net);
        let (from, until) =
            (self.in_steps(config.simulate.warmup_ms)?, self.in_steps(config.simulate.duration_ms)?);
        let bin = self.in_steps(config.record.rate_bin_ms)?.max(1);
        let seconds = (until - from) as f64 * net.dt.0 / 1000.0;
        let activity = self.clock.activity()?;
        let warm = self.position.warm.clone().unwrap_or_default();
        let mut populations = BTreeMap::new();
        for (i, p) in net.populations.iter().enumerate() {
            let spikes = activity.spikes[i] - warm.get(i).copied().unwrap_or(0);
            let rate_hz = spikes as f64 / p.size().max(1) as f64 / seconds;
            let neurons = p.size() as u64;
            populations
                .insert(p.name.clone(), Population { neurons, spikes, rate_hz, ..Population::default() });
        }
        let mut rates: Vec<(&str, Vec<f64>)> = vec![];
        let mut shown = vec![];
        for kept in &self.kept {
            let p = &net.populations[kept.pop.0];
            let train = self.train(kept)?;
            let statistics = Statistics::of(&train, p.size(), from, until, net.dt);
            let per_bin = train.per_bin(bin, until);
            let each = p.size() as f64 * bin as f64 * net.dt.0 / 1000.0;
            rates.push((&p.name, per_bin.iter().map(|&n| f64::from(n) / each).collect()));
            shown.push(page::Shown::new(&p.name, p.size(), &train, net.dt, from..until));
            if let Some(population) = populations.get_mut(&p.name) {
                let n = statistics.rates.len() as f64;
                let variance =
                    statistics.rates.iter().map(|r| (r - statistics.rate.0).powi(2)).sum::<f64>() / n;
                population.rate_std_hz = Some(variance.sqrt());
                population.cv = statistics.cv;
                population.correlation = statistics.correlation;
                population.fano = statistics.fano;
                population.oscillation_hz = statistics.oscillation.map(|frequency| frequency.0);
            }
        }
        let plastic = self.plastic()?;
        self.export(&rates, &plastic)?;
        let (synapses, bytes) = self.clock.synapses();
        let spent = self.position.seconds;
        let per_second = |amount: f64| if spent.simulate > 0.0 { amount / spent.simulate } else { 0.0 };
        let mut summary = Summary {
            schema: SCHEMA,
            kind: Kind::Simulation,
            name: config.name.clone(),
            status: Status::Ok,
            seed: config.seed,
            clock: config.simulate.clock,
            precision: match config.simulate.clock {
                config::Clock::Grid => config.simulate.precision,
                config::Clock::Lazy => config::Precision::F64,
            },
            step_ms: net.dt.0,
            duration_ms: config.simulate.duration_ms,
            warmup_ms: config.simulate.warmup_ms,
            neurons: net.populations.iter().map(|p| p.size() as u64).sum(),
            synapses,
            bytes_per_synapse: if synapses == 0 { 0.0 } else { bytes as f64 / synapses as f64 },
            spikes: activity.spikes.iter().sum(),
            synaptic_events: activity.synaptic_events,
            synaptic_events_per_second: per_second(activity.synaptic_events as f64),
            real_time_factor: 1000.0 * spent.simulate / config.simulate.duration_ms,
            seconds: spent,
            populations,
            memory: Memory { peak_rss_bytes: peak_rss_bytes() },
            device: self.clock.device(),
            threads,
            run_directory: self.run_dir.path().display().to_string(),
        };
        let mut traces = vec![];
        for variable in &self.variables {
            let every_ms = variable.every as f64 * net.dt.0;
            let (trace, rows) = (variable.trace, page::trace_rows(every_ms));
            let (values, first) = streams::read_last(variable.values.path(), trace.neurons.len(), rows)?;
            let title = format!("{}: {} of {}", variable.name, trace.variable, trace.population);
            let (what, columns) = (trace.variable.as_str(), trace.neurons.as_slice());
            traces.push(page::Drawn { title, what, columns, every_ms, first, values });
        }
        for weights in &self.weights {
            let (every_ms, columns) = (weights.of.every_ms, weights.of.synapses.as_slice());
            let rows = PLOTTED / columns.len();
            let (values, first) = streams::read_last(weights.values.path(), columns.len(), rows)?;
            let title = format!("{}: weights of {}", weights.name, weights.of.projection);
            traces.push(page::Drawn { title, what: "weight", columns, every_ms, first, values });
        }
        let histograms = plastic.iter().map(|(name, all)| page::weights_plot(name, &all.weights)).collect();
        let page = page::page(config, self.run_dir, &summary, shown, &rates, &traces, histograms);
        page.write_json(&self.run_dir.file("report.json"))?;
        page.write_html(&self.run_dir.file("report.html"))?;
        summary.seconds.write += begun.elapsed().as_secs_f64();
        let s = &mut summary.seconds;
        s.total = s.build + s.simulate + s.write;
        self.run_dir.write_json("summary.json", &summary)?;
        self.clean()?;
        Ok(summary)
    }

    /// Everything that was recorded, as files that others read.
    fn export(&self, rates: &[(&str, Vec<f64>)], plastic: &[(&str, Connections)]) -> Result<()> {
        let steps_of = match self.clock {
            Clock::Grid(_) | Clock::Gpu(_) => Some(self.net.dt),
            Clock::Lazy(_) => None,
        };
        let name = |kept: &Kept| self.net.populations[kept.pop.0].name.as_str();
        let rate_columns: Vec<(&str, &[f64])> =
            rates.iter().map(|(name, rates)| (*name, rates.as_slice())).collect();
        if Export::Csv.among(&self.config.record.export) {
            let spikes: Vec<_> = self
                .kept
                .iter()
                .map(|kept| Spikes {
                    population: name(kept),
                    times: kept.times.path(),
                    neurons: kept.neurons.path(),
                    steps_of,
                })
                .collect();
            streams::write_spikes_csv(&self.run_dir.file("spikes.csv"), &spikes)?;
            let bin = self.config.record.rate_bin_ms;
            streams::write_rates_csv(&self.run_dir.file("rates.csv"), &rate_columns, bin)?;
            if !self.variables.is_empty() {
                let all: Vec<Rows<'_>> = self
                    .variables
                    .iter()
                    .map(|variable| Rows {
                        name: variable.name,
                        values: variable.values.path(),
                        columns: &variable.trace.neurons,
                        every: variable.every,
                    })
                    .collect();
                streams::write_traces_csv(&self.run_dir.file("traces.csv"), "neuron", &all, self.net.dt)?;
            }
            if !self.weights.is_empty() {
                let all: Vec<Rows<'_>> = self
                    .weights
                    .iter()
                    .map(|weights| Rows {
                        name: weights.name,
                        values: weights.values.path(),
                        columns: &weights.of.synapses,
                        every: weights.every,
                    })
                    .collect();
                streams::write_traces_csv(&self.run_dir.file("weights.csv"), "synapse", &all, self.net.dt)?;
            }
            if !plastic.is_empty() {
                streams::write_synapses_csv(&self.run_dir.file("synapses.csv"), plastic)?;
            }
        }
        if Export::Npz.among(&self.config.record.export) {
            let mut entries = vec![];
            let (kind, unit) = if steps_of.is_some() { ("<u8", "steps") } else { ("<f8", "times_ms") };
            for kept in &self.kept {
                let file = |what: &str, kind, stream: &'_ Stream| -> (String, &'static str, PathBuf) {
                    (format!("{}.{what}", name(kept)), kind, stream.path().to_path_buf())
                };
                entries.push(file(unit, kind, &kept.times));
                entries.push(file("neurons", "<u4", &kept.neurons));
            }
            let mut all: Vec<Entry<'_>> = entries
                .iter()
                .map(|(name, kind, path)| Entry {
                    name: name.clone(),
                    kind,
                    width: 0,
                    numbers: Numbers::File(path),
                })
                .collect();
            for (name, rates) in &rate_columns {
                let numbers = Numbers::Here(bytemuck::cast_slice(rates));
                all.push(Entry { name: format!("{name}.rates_hz"), kind: "<f8", width: 0, numbers });
            }
            for variable in &self.variables {
                let (name, neurons) = (format!("trace.{}", variable.name), &variable.trace.neurons);
                let numbers = Numbers::Here(bytemuck::cast_slice(neurons));
                all.push(Entry { name: format!("{name}.neurons"), kind: "<u4", width: 0, numbers });
                let numbers = Numbers::File(variable.values.path());
                all.push(Entry { name, kind: "<f8", width: neurons.len(), numbers });
            }
            for weights in &self.weights {
                let (name, synapses) = (format!("weights.{}", weights.name), &weights.of.synapses);
                let numbers = Numbers::Here(bytemuck::cast_slice(synapses));
                all.push(Entry { name: format!("{name}.synapses"), kind: "<u4", width: 0, numbers });
                let numbers = Numbers::File(weights.values.path());
                all.push(Entry { name, kind: "<f8", width: synapses.len(), numbers });
            }
            for (name, Connections { sources, targets, weights }) in plastic {
                let mut entry = |what: &str, kind, bytes| {
                    let (name, numbers) = (format!("{name}.{what}"), Numbers::Here(bytes));
                    all.push(Entry { name, kind, width: 0, numbers });
                };
                entry("sources", "<u4", bytemuck::cast_slice(sources));
                entry("targets", "<u4", bytemuck::cast_slice(targets));
                entry("weights", "<f8", bytemuck::cast_slice(weights));
            }
            streams::write_npz(&self.run_dir.file("recordings.npz"), &all)?;
        }
        Ok(())
    }

    /// Removes what only an unfinished run needs.
    fn clean(&self) -> Result<()> {
        let streams = self.run_dir.file("streams");
        std::fs::remove_dir_all(&streams).map_err(Error::io("remove", streams))?;
        for name in [POSITION, self.position.state.as_str()] {
            let path = self.run_dir.file(name);
            if !name.is_empty() && path.is_file() {
                std::fs::remove_file(&path).map_err(Error::io("remove", path))?;
            }
        }
        Ok(())
    }
}
