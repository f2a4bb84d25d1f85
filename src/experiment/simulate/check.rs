//! What a simulation means: every value in its range, every name known, the network sound, its size within memory. All
//! findings are reported together.

use super::build;
use super::config::{Clock, Config, MEMBRANE, Standard, Trace};
use super::plan;
use crate::error::{Error, Result};
use crate::experiment::check::Check;
use crate::experiment::config::Neuron;
use crate::experiment::diagnose::{Source, suggestion};
use crate::snn::standard;
use crate::units::Ms;

/// Reads and checks a simulation.
///
/// # Errors
/// [`crate::Error::Config`] with every mistake.
pub fn load(source: &Source) -> Result<Config> {
    let (config, places) = source.parse_as::<Config>()?;
    let mut check = Check { problems: vec![], places: &places };
    check.head(config.schema, &config.name);
    check.device(&config.run.device);
    check.times(&config);
    if check.problems.is_empty() || config.simulate.step_ms > 0.0 {
        check.simulated(&config);
    }
    if check.problems.is_empty() { Ok(config) } else { Err(source.fail(check.problems)) }
}

/// A population as records and expectations see it.
struct Known {
    name: String,
    size: usize,
    variables: Vec<&'static str>,
}

/// The kinds of projections' and populations' problems, by how the library's messages begin, and the keys that they are
/// about.
const PLACES: &[(&str, &[(&str, &str)])] = &[
    (
        "population",
        &[
            ("it has no neurons", "size"),
            ("it has more than", "size"),
            ("its shape", "size"),
            ("the initial", "initial_mv"),
            ("a drive", "drive"),
            ("the weight of a drive", "drive"),
            ("the current of a drive", "drive"),
            ("it acts from", "drive"),
            ("", "neuron"),
        ],
    ),
    (
        "projection",
        &[
            ("delay", "delay_ms"),
            ("a delay", "delay_ms"),
            ("it has no delay", "delay_ms"),
            ("weight", "weights"),
            ("uniform", "weights"),
            ("normal", "weights"),
            ("listed", "weights"),
            ("a distribution around zero", "keep_sign"),
            ("its target", "to"),
            ("one neuron without", "self_connections"),
            ("the rule", "self_connections"),
            ("", "connect"),
        ],
    ),
];

/// Where in the file a message of the library belongs: "projection `NAME`: delay is …" is about
/// `projection.NAME.delay_ms`.
fn place(message: &str) -> String {
    let mut quoted = message.splitn(3, '`');
    let (kind, name) = (quoted.next().unwrap_or_default().trim(), quoted.next().unwrap_or_default());
    let what = quoted.next().unwrap_or_default().trim_start_matches([':', ' ']);
    let Some((_, keys)) = PLACES.iter().find(|(known, _)| *known == kind) else { return "simulate".into() };
    let key = match keys.iter().find(|(start, _)| what.starts_with(start)) {
        _ if what.contains("receptor") && kind == "projection" => "receptor",
        _ if what.contains("one of its receptors") => "drive",
        _ if what.contains(" weights are listed") => "weights",
        Some((_, key)) => key,
        None => return format!("{kind}.{name}"),
    };
    format!("{kind}.{name}.{key}")
}

impl Check<'_> {
    fn times(&mut self, config: &Config) {
        let s = &config.simulate;
        self.range("simulate.step_ms", s.step_ms, s.step_ms > 0.0, "a time above 0");
        self.range("simulate.duration_ms", s.duration_ms, s.duration_ms > 0.0, "a time above 0");
        let inside = (0.0..s.duration_ms).contains(&s.warmup_ms);
        self.range("simulate.warmup_ms", s.warmup_ms, inside, "from 0 to below `duration_ms`");
        let every = s.checkpoint_every_ms;
        self.range("simulate.checkpoint_every_ms", every, every >= 0.0, "a time, or 0 for none");
        let gib = config.run.memory_gib;
        self.range("run.memory_gib", gib, gib > 0.0, "above 0");
        let bin = config.record.rate_bin_ms;
        self.range("record.rate_bin_ms", bin, bin > 0.0, "a time above 0");
        for (path, time) in [
            ("simulate.duration_ms", s.duration_ms),
            ("simulate.warmup_ms", s.warmup_ms),
            ("record.rate_bin_ms", bin),
        ] {
            self.on_grid(path, time, s.step_ms);
        }
    }

    /// A time that is not a whole number of steps.
    fn on_grid(&mut self, path: &str, time: f64, step: f64) {
        if time.is_finite() && step > 0.0 && crate::engine::whole_steps(Ms(time), Ms(step)).is_err() {
            let help = format!("it must be a multiple of the step, {step} ms");
            self.wrong(path, format!("`{path}` is {time}"), Some(help));
        }
    }

    fn simulated(&mut self, config: &Config) {
        let before = self.problems.len();
        let known = match &config.simulate.network {
            Some(network) => self.standard(config, network),
            None => self.described(config),
        };
        if let Some(known) = &known {
            self.records(config, known);
        }
        if self.problems.len() > before {
            return;
        }
        let Ok(net) = build::network(config) else { return };
        if let Err(Error::Network(problems)) = build::runs_on_its_clock(config, &net) {
            self.network_problems(problems);
        }
        let plan = plan::of_network(config, &net);
        let available = config.run.memory_gib * (1u64 << 30) as f64;
        if plan.bytes as f64 > available {
            // At the largest part of it.
            let parts = plan.populations.iter().map(|p| (p.bytes, format!("population.{}.size", p.name)));
            let edges = plan.projections.iter().map(|p| (p.bytes, format!("projection.{}.connect", p.name)));
            let largest = parts.chain(edges).max_by_key(|(bytes, _)| *bytes);
            let path = match config.simulate.network {
                Some(_) => "simulate.network".into(),
                None => largest.map_or_else(|| "population".into(), |(_, path)| path),
            };
            let what = format!(
                "the network needs {} bytes, but `run.memory_gib` allows {}",
                plan.bytes, available as u64
            );
            let help = "make it smaller, or raise `run.memory_gib` where there is as much";
            self.wrong(&path, what, Some(help.into()));
        }
    }

    fn network_problems(&mut self, problems: Vec<String>) {
        for what in problems {
            let path = place(&what);
            self.wrong(&path, what, None);
        }
    }

    /// A network of the literature.
    fn standard(&mut self, config: &Config, network: &Standard) -> Option<Vec<Known>> {
        let (path, step) = ("simulate.network", config.simulate.step_ms);
        if !config.population.is_empty() || !config.projection.is_empty() {
            let help = "leave out `simulate.network`, or the tables of populations and projections";
            let first = if config.population.is_empty() { "projection" } else { "population" };
            self.wrong(
                first,
                "a network of the literature has its own populations".into(),
                Some(help.into()),
            );
        }
        if step != standard::DT.0 {
            let help = format!("networks of the literature have steps of {}", standard::DT);
            self.wrong("simulate.step_ms", format!("`simulate.step_ms` is {step}"), Some(help));
        }
        let before = self.problems.len();
        match network {
            Standard::VogelsAbbottCuba => {}
            Standard::Brunel { g, eta } => {
                self.range(&format!("{path}.brunel.g"), *g, *g >= 0.0, "0 or more");
                // At most 64 spikes of the drive in a step.
                self.range(&format!("{path}.brunel.eta"), *eta, (0.0..=64.0).contains(eta), "from 0 to 64");
            }
            Standard::Microcircuit { scale } => {
                let fits = *scale > 0.0 && *scale <= 1.0;
                self.range(&format!("{path}.microcircuit.scale"), *scale, fits, "above 0 and at most 1");
            }
            Standard::Feedforward { size } => self.positive(&format!("{path}.feedforward.size"), *size),
        }
        if self.problems.len() > before {
            return None;
        }
        match build::network(config) {
            Ok(net) => Some(
                net.populations
                    .iter()
                    .map(|p| Known {
                        name: p.name.clone(),
                        size: p.size(),
                        variables: p.model.as_ref().map_or_else(Vec::new, |model| {
                            model.state().iter().map(|state| state.name).collect()
                        }),
                    })
                    .collect(),
            ),
            Err(error) => {
                self.wrong(path, error.to_string(), None);
                None
            }
        }
    }

    /// The file's own populations and projections.
    fn described(&mut self, config: &Config) -> Option<Vec<Known>> {
        if config.population.is_empty() {
            let help = "add `[population.NAME]`, or `simulate.network`";
            self.wrong("simulate", "there is no network".into(), Some(help.into()));
            return None;
        }
        let names: Vec<&str> = config.population.keys().map(String::as_str).collect();
        let dt = Ms(config.simulate.step_ms);
        let mut known = vec![];
        for (name, population) in &config.population {
            let path = format!("population.{name}.neuron");
            let model = population.neuron.physical(dt);
            match &population.neuron {
                Neuron::Input => {
                    let help = "`neuron.poisson` or `neuron.spikes` is a source of spikes";
                    self.wrong(&path, "a simulation has no samples to take".into(), Some(help.into()));
                }
                Neuron::Lif(_) => {
                    let help =
                        "`neuron.delta-lif` and `neuron.exp-lif` are LIF in milliseconds and millivolts";
                    self.wrong(&path, "`lif` has no physical units".into(), Some(help.into()));
                }
                Neuron::Spikes(list) => self.spikes(&path, list, dt.0),
                _ => {}
            }
            let variables =
                model.map_or_else(Vec::new, |model| model.state().iter().map(|s| s.name).collect());
            let size = population.size.dims().iter().fold(1usize, |a, &b| a.saturating_mul(b));
            known.push(Known { name: name.clone(), size, variables });
        }
        for (name, projection) in &config.projection {
            self.known(&format!("projection.{name}.from"), &projection.from, &names);
            self.known(&format!("projection.{name}.to"), &projection.to, &names);
            self.conductance(config, name, projection);
        }
        // An input in the place of a model would be complained about again.
        let sourceless = |what: &String| !what.contains("has no source of spikes");
        if let Err(error) = build::builder(config).check() {
            let problems = match error {
                Error::Network(problems) => problems,
                error => vec![error.to_string()],
            };
            self.network_problems(problems.into_iter().filter(sourceless).collect());
        }
        Some(known)
    }

    fn spikes(&mut self, path: &str, list: &super::config::SpikeList, step: f64) {
        if list.times_ms.len() != list.neurons.len() {
            let (times, neurons) = (list.times_ms.len(), list.neurons.len());
            let what = format!("there are {times} times and {neurons} neurons");
            let help = "each spike needs one of each";
            self.wrong(&format!("{path}.spikes.neurons"), what, Some(help.into()));
        }
        let path = format!("{path}.spikes.times_ms");
        let off = |time: &&f64| crate::engine::whole_steps(Ms(**time), Ms(step)).is_err();
        if let Some(time) = list.times_ms.iter().find(off) {
            let help = format!("it must be 0 or more and a multiple of the step, {step} ms");
            self.wrong(&path, format!("a spike is at {time} ms"), Some(help));
        }
    }

    /// Conductances have no sign: what is inhibitory ends on the receptor `inhibitory`.
    fn conductance(&mut self, config: &Config, name: &str, projection: &super::config::Projection) {
        use super::drawn::Drawn;
        let Some(target) = config.population.get(&projection.to) else { return };
        let negative = match &projection.weights {
            Drawn::Constant(weight) => *weight < 0.0,
            Drawn::Uniform { low, .. } => *low < 0.0,
            Drawn::Normal { mean, .. } => *mean < 0.0,
            Drawn::Listed(weights) => weights.iter().any(|&weight| weight < 0.0),
        };
        if negative && matches!(target.neuron, Neuron::CondLif(_) | Neuron::AdExCond(_)) {
            let help = "inhibition is a positive weight with `receptor = \"inhibitory\"`";
            let what = format!("conductances of `{name}` are negative");
            self.wrong(&format!("projection.{name}.weights"), what, Some(help.into()));
        }
    }

    fn records(&mut self, config: &Config, known: &[Known]) {
        let names: Vec<&str> = known.iter().map(|k| k.name.as_str()).collect();
        for name in config.record.spikes.iter().flatten() {
            self.known("record.spikes", name, &names);
        }
        for (name, trace) in &config.record.trace {
            let path = format!("record.trace.{name}");
            self.known(&format!("{path}.population"), &trace.population, &names);
            if let Some(known) = known.iter().find(|k| k.name == trace.population) {
                self.trace(&path, trace, known, config);
            }
            if name.contains(['/', '\\', '.']) || name.chars().any(char::is_whitespace) {
                self.wrong(&path, format!("`{name}` is no name for a trace"), None);
            }
        }
        for (name, expected) in &config.expect {
            self.known(&format!("expect.{name}"), name, &names);
            let recorded = config.record.spikes.as_ref().is_none_or(|list| list.contains(name));
            let more = [("cv", expected.cv), ("correlation", expected.correlation), ("fano", expected.fano)];
            for (key, range) in more.into_iter().chain([("rate_hz", expected.rate_hz)]) {
                let path = format!("expect.{name}.{key}");
                if let Some([low, high]) = range
                    && low.is_nan() | high.is_nan() | (low > high)
                {
                    self.wrong(&path, format!("{low} to {high} is no range"), None);
                }
                if range.is_some() && key != "rate_hz" && !recorded {
                    let help = format!("add `{name}` to `record.spikes`");
                    self.wrong(&path, format!("spikes of `{name}` are not recorded"), Some(help));
                }
            }
        }
    }

    fn trace(&mut self, path: &str, trace: &Trace, known: &Known, config: &Config) {
        if !known.variables.contains(&trace.variable.as_str()) {
            let help = suggestion(&trace.variable, &known.variables)
                .or_else(|| Some("a source of spikes has no state".into()));
            let what = format!("`{}` is no state variable of `{}`", trace.variable, known.name);
            self.wrong(&format!("{path}.variable"), what, help);
        }
        if config.simulate.clock == Clock::Lazy && trace.variable != MEMBRANE {
            let help = format!("without a grid, only the {MEMBRANE} is recorded");
            self.wrong(&format!("{path}.variable"), format!("`{}`", trace.variable), Some(help));
        }
        if trace.neurons.is_empty() {
            self.wrong(&format!("{path}.neurons"), "no neuron is recorded".into(), None);
        }
        if let Some(neuron) = trace.neurons.iter().find(|&&n| n as usize >= known.size) {
            let what = format!("there is no neuron {neuron} in `{}`", known.name);
            let help = format!("they are 0 to {}", known.size.saturating_sub(1));
            self.wrong(&format!("{path}.neurons"), what, Some(help));
        }
        if let Some(every) = trace.every_ms {
            self.range(&format!("{path}.every_ms"), every, every > 0.0, "a time above 0");
            self.on_grid(&format!("{path}.every_ms"), every, config.simulate.step_ms);
        }
    }
}
