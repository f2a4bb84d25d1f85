//! What a simulation means: every value in its range, every name known, the network sound, its size within memory. All
//! findings are reported together.

use super::build;
use super::config::{Clock, Config, Connectivity, MEMBRANE, Precision, Projection, Standard, Trace};
use super::plan;
use super::plastic::Plasticity;
use crate::error::{Error, Result};
use crate::experiment::check::Check;
use crate::experiment::config::Neuron;
use crate::experiment::diagnose::{Source, suggestion};
use crate::snn::{Network, standard};
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
    check.rewards(&config);
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
            ("its rule", "plasticity"),
            ("weights are normalised", "normalise"),
            ("weights that no rule", "normalise"),
            ("a weight is", "weights"),
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

    /// Rewards, and projections that wait for them.
    fn rewards(&mut self, config: &Config) {
        let s = &config.simulate;
        let waits = |p: &Projection| matches!(p.plasticity, Some(Plasticity::Reward(_)));
        let waiting = config.projection.iter().find(|(_, projection)| waits(projection));
        match (waiting, s.rewards.is_empty()) {
            (None, false) => {
                let help = Some("write `plasticity.reward` in one of `[projection.NAME]`".into());
                self.wrong("simulate.rewards", "no projection waits for a reward".into(), help);
            }
            (Some((name, _)), true) => {
                let help = Some("write `simulate.rewards = [{ at_ms = 1000.0, amount = 1.0 }]`".into());
                let path = format!("projection.{name}.plasticity.reward");
                self.wrong(&path, "it waits for a reward that never comes".into(), help);
            }
            _ => {}
        }
        for given in &s.rewards {
            let inside = given.at_ms > 0.0 && given.at_ms <= s.duration_ms;
            let (every, path) = (given.every_ms, "simulate.rewards");
            let mut wrong = |what: &str, help: &str| self.wrong(path, what.into(), Some(help.into()));
            if !inside {
                wrong(&format!("a reward at {} ms", given.at_ms), "above 0, up to `duration_ms`");
            }
            if every.is_some_and(|every| every.is_nan() || every <= 0.0) {
                wrong("`every_ms` of a reward is no time above 0", "leave it out to give it once");
            }
            if !given.amount.is_finite() {
                wrong(&format!("a reward of {}", given.amount), "a finite number");
            }
            for time in [Some(given.at_ms), every].into_iter().flatten() {
                self.on_grid(path, time, s.step_ms);
            }
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
        let known = match &config.simulate.network {
            Some(network) => self.standard(config, network),
            None => self.described(config),
        };
        if let Some(known) = &known {
            self.records(config, known);
        }
        let Ok(net) = build::network(config) else { return };
        if let Err(Error::Network(mut problems)) = build::runs_on_its_clock(config, &net) {
            // What has no source is told with its name by now.
            problems.retain(|what| !what.contains("has no source of spikes"));
            self.network_problems(problems);
        }
        if config.simulate.connectivity == Connectivity::Procedural {
            self.procedural(config, &net);
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

    /// Synapses that are drawn again: by a GPU's grid clock, and where they can be.
    fn procedural(&mut self, config: &Config, net: &Network) {
        let (path, s) = ("simulate.connectivity", &config.simulate);
        let mut only = |on: &str, help: &str| {
            let help = format!("{help}, or take `connectivity = \"stored\"`");
            self.wrong(path, format!("procedural connectivity is {on}"), Some(help));
        };
        if config.run.device == "cpu" {
            only("of GPUs, but `run.device` is `cpu`", "set `run.device = \"cuda\"`");
        }
        if s.clock == Clock::Lazy {
            only("of the grid clock", "set `clock = \"grid\"`");
        }
        if s.precision == Precision::F64 {
            only("in single precision", "set `precision = \"f32\"`");
        }
        match (build::connectivity(config).check(net), &s.network) {
            (Err(Error::Network(problems)), None) => self.network_problems(problems),
            (Err(error), _) => self.wrong(path, error.to_string(), None),
            (Ok(()), _) => {}
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
            Standard::VogelsAbbottCuba | Standard::VogelsAbbottCoba => {}
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
                neuron if neuron.unitless(dt).is_some() => {
                    let help = "`neuron.delta-lif`, `neuron.exp-lif` and `neuron.adaptive-lif` are in milliseconds and millivolts";
                    let what = "`lif`, `synaptic` and `alif` have no physical units".into();
                    self.wrong(&path, what, Some(help.into()));
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
        if let Err(error) = build::builder(config).check() {
            let problems = match error {
                Error::Network(problems) => problems,
                error => vec![error.to_string()],
            };
            self.network_problems(problems);
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
            self.name_of_record(&path, name);
        }
        let plastic: Vec<&str> = config
            .projection
            .iter()
            .filter(|(_, projection)| projection.plasticity.is_some())
            .map(|(name, _)| name.as_str())
            .collect();
        for (name, weights) in &config.record.weights {
            let path = format!("record.weights.{name}");
            if !plastic.contains(&weights.projection.as_str()) {
                let what = format!("`{}` is no plastic projection", weights.projection);
                let help = suggestion(&weights.projection, &plastic)
                    .or_else(|| Some("weights of others do not change".into()));
                self.wrong(&format!("{path}.projection"), what, help);
            }
            if weights.synapses.is_empty() {
                self.wrong(&format!("{path}.synapses"), "no synapse is recorded".into(), None);
            }
            let every = weights.every_ms;
            self.range(&format!("{path}.every_ms"), every, every > 0.0, "a time above 0");
            self.on_grid(&format!("{path}.every_ms"), every, config.simulate.step_ms);
            self.name_of_record(&path, name);
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

    /// It becomes a part of names of files.
    fn name_of_record(&mut self, path: &str, name: &str) {
        if name.contains(['/', '\\', '.']) || name.chars().any(char::is_whitespace) {
            self.wrong(path, format!("`{name}` is no name for a trace"), None);
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
            let help = format!("without a grid, only the {MEMBRANE} is");
            let what = format!("the {} cannot be recorded", trace.variable);
            self.wrong(&format!("{path}.variable"), what, Some(help));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Problem;

    const GOOD: &str = include_str!("../../../experiments/sim/two-populations.toml");

    fn problems(set: &[&str]) -> Vec<(String, Option<String>, String)> {
        let set: Vec<String> = set.iter().map(|s| (*s).to_string()).collect();
        let source = Source::new("x.toml", GOOD, &set).expect("parses");
        let text = |problem: &Problem| problem.span.clone().map(|span| source.text[span].to_string());
        match load(&source) {
            Ok(_) => vec![],
            Err(Error::Config { problems, .. }) => problems
                .iter()
                .map(|p| (p.message.clone(), text(p), p.help.clone().unwrap_or_default()))
                .collect(),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn every_mistake_underlines_its_value() {
        assert_eq!(problems(&[]), []);
        let mut elsewhere = vec![];
        for (set, underlined, says) in [
            ("projection.exc-inh.delay_ms=0.05", "0.05", "at least the time step, 0.1 ms"),
            ("projection.exc-inh.delay_ms=0.25", "0.25", "a multiple of the time step"),
            ("projection.exc-inh.delay_ms=nan", "nan", "delay is NaN"),
            ("projection.exc-exc.delay_ms={uniform={low=0.01, high=1.0}}", "delay_ms", "a delay is 0.01 ms"),
            ("projection.exc-inh.weights=nan", "nan", "weight is NaN"),
            ("projection.exc-exc.weights={normal={mean=1.0, std=-1.0}}", "weights", "standard deviation -1"),
            ("projection.exc-inh.connect={fixed-in-degree={k=900}}", "connect", "between 1 and"),
            ("projection.exc-exc.connect={fixed-probability={p=1.5}}", "connect", "probability is 1.5"),
            ("projection.volley-inh.connect={pairs=[[7,0],[0,0],[0,1],[0,2]]}", "connect", "edge (7, 0)"),
            ("projection.volley-inh.weights={listed=[1.0]}", "weights", "1 weights are listed; it has 4"),
            ("projection.exc-inh.receptor=fast", "\"fast\"", "`fast` is not a receptor of its target"),
            ("projection.exc-inh.from=exx", "\"exx\"", "there is no population `exx`"),
            ("projection.exc-inh.to=noise", "\"noise\"", "its target `noise` is an input"),
            ("population.inh.size=0", "0", "population `inh`"),
            ("population.inh.neuron={cond-lif={leak_ns=-1.0}}", "neuron", "leak is -1 nS"),
            ("population.inh.neuron=input", "\"input\"", "no samples"),
            ("population.inh.neuron={lif={beta=0.9}}", "neuron", "no physical units"),
            ("population.exc.initial_mv=inf", "inf", "the initial `membrane potential`"),
            ("population.exc.drive.background.poisson.rate_hz=1e9", "drive", "spikes a step"),
            ("population.volley.neuron={spikes={times_ms=[0.15], neurons=[0]}}", "[0.15]", "0.15 ms"),
            ("population.volley.neuron={spikes={times_ms=[1.0], neurons=[0,1]}}", "[0,1]", "1 times and 2"),
            ("population.volley.neuron={spikes={times_ms=[1.0], neurons=[5]}}", "neuron", "does not have"),
            ("simulate.duration_ms=0", "0", "`simulate.duration_ms` is 0"),
            ("simulate.duration_ms=100.05", "100.05", "`simulate.duration_ms`"),
            ("simulate.warmup_ms=2000", "2000", "`simulate.warmup_ms`"),
            ("simulate.step_ms=0", "0", "`simulate.step_ms` is 0"),
            ("simulate.clock=lazy", "neuron", "adex has no closed form"),
            ("simulate.network.brunel.g=5.0", "population", "its own populations"),
            ("record.spikes=[\"exc\", \"ihn\"]", "[\"exc\", \"ihn\"]", "`ihn`"),
            ("record.trace.membrane.neurons=[800]", "[800]", "no neuron 800 in `exc`"),
            ("record.trace.membrane.neurons=[]", "[]", "no neuron is recorded"),
            ("record.trace.membrane.every_ms=0.15", "0.15", "every_ms` is 0.15"),
            ("record.trace.current.variable=inhibitory", "\"inhibitory\"", "no state variable"),
            ("expect.exc.cv=[2.0, 1.0]", "[2.0, 1.0]", "no range"),
            ("projection.exc-inh.plasticity.pair.tau_plus_ms=0.0", "plasticity", "tau_plus is 0 ms"),
            ("projection.exc-inh.plasticity.pair.bounds=[0.0, 1.0]", "20.0", "a weight is 20"),
            ("projection.exc-inh.normalise={total=1.0, every_ms=10.0}", "normalise", "no rule of plasticity"),
            (
                "projection.exc-inh.plasticity.reward={bounds=[0.0, 40.0]}",
                "reward",
                "a reward that never comes",
            ),
            (
                "simulate.rewards=[{at_ms=9.0, amount=1.0}]",
                "[{at_ms=9.0, amount=1.0}]",
                "no projection waits",
            ),
            ("simulate.rewards=[{at_ms=0.0, amount=1.0}]", "[{at_ms=0.0, amount=1.0}]", "a reward at 0 ms"),
            (
                "simulate.rewards=[{at_ms=9.0, amount=1.0, every_ms=0.15}]",
                "[{at_ms=9.0, amount=1.0, every_ms=0.15}]",
                "`simulate.rewards` is 0.15",
            ),
            (
                "record.weights.w={projection=\"exc-inh\", synapses=[0], every_ms=1.0}",
                "\"exc-inh\"",
                "no plastic projection",
            ),
            ("expect.excc.cv=[0.0, 1.0]", "excc", "there is no population `excc`"),
            ("population.exc.size=4000000000", "connect", "bytes, but `run.memory_gib` allows 4294967296"),
            ("run.device=gpu", "\"gpu\"", "unknown device"),
        ] {
            let found = problems(&[set]);
            let hit = found.iter().find(|(message, _, help)| (message.clone() + help).contains(says));
            let (message, text, _) = hit.unwrap_or_else(|| panic!("{set}: {says} in {found:#?}"));
            if text.as_deref() != Some(underlined) {
                elsewhere.push(format!("{set}: {text:?} at `{message}`"));
            }
        }
        assert!(elsewhere.is_empty(), "{elsewhere:#?}");
    }

    #[test]
    fn what_cannot_be_drawn_again_is_told_at_its_place() {
        let again = "simulate.connectivity=procedural";
        let found = problems(&[again, "run.device=cuda"]);
        let at = |name: &str| {
            let of = format!("projection `{name}`");
            let mut found = found.iter().filter(|(message, ..)| message.starts_with(&of));
            let (message, text, _) = found.next().unwrap_or_else(|| panic!("{name} in {found:#?}"));
            assert!(found.next().is_none() && message.contains("no procedural connectivity"), "{message}");
            text.clone().unwrap_or_default()
        };
        for (name, key) in [
            ("exc-exc", "weights"),
            ("exc-inh", "connect"),
            ("inh-exc", "delay_ms"),
            ("inh-inh", "connect"),
            ("volley-inh", "connect"),
        ] {
            assert_eq!(at(name), key, "{name}");
        }
        assert_eq!(found.len(), 5, "{found:#?}");
        for (set, says) in [
            ("run.device=cpu", "`run.device` is `cpu`"),
            ("simulate.clock=lazy", "of the grid clock"),
            ("simulate.precision=f64", "in single precision"),
        ] {
            let found = problems(&[again, "run.device=cuda", set]);
            let (_, text, help) = found
                .iter()
                .find(|(message, ..)| message.contains(says))
                .unwrap_or_else(|| panic!("{found:#?}"));
            assert_eq!(text.as_deref(), Some("\"procedural\""), "{set}");
            assert!(help.contains("`connectivity = \"stored\"`"), "{help}");
        }
    }

    #[test]
    fn all_of_them_are_told_together() {
        let found = problems(&[
            "projection.exc-inh.delay_ms=0.05",
            "projection.inh-exc.from=inhh",
            "projection.noise-exc.weights=nan",
            "population.inh.size=0",
            "record.spikes=[\"x\"]",
            "simulate.warmup_ms=-1",
        ]);
        let all = found.iter().map(|(message, ..)| message.as_str()).collect::<Vec<_>>().join("\n");
        for part in [
            "delay is 0.05 ms",
            "no population `inhh`",
            "weight is NaN",
            "it has no neurons",
            "no population `x`",
            "`simulate.warmup_ms` is -1",
        ] {
            assert!(all.contains(part), "{part} in {all}");
        }
        let (_, _, help) = found.iter().find(|(m, ..)| m.contains("inhh")).expect("found");
        assert_eq!(help, "did you mean `inh`?");
    }

    #[test]
    fn standard_networks_have_their_own_mistakes() {
        let file = |network: &str| {
            format!("schema = 1\nname = \"x\"\n[simulate]\nduration_ms = 10.0\nstep_ms = 0.1\n{network}\n")
        };
        for (network, says) in [
            ("network = \"brunnel\"", "unknown choice `brunnel`"),
            ("network.brunel = { g = -1.0 }", "brunel.g` is -1"),
            ("network.microcircuit = { scale = 2.0 }", "scale` is 2"),
            ("network.feedforward = { size = 0 }", "size` is 0"),
            ("network.feedforward = { size = 1000000000 }", "the network needs"),
            (
                "network.brunel = {}\nconnectivity = \"procedural\"",
                "fixed-in-degree-multapses draws target by target",
            ),
            ("", "there is no network"),
        ] {
            let source = Source::new("x", &file(network), &[]).expect("parses");
            let Err(Error::Config { problems, .. }) = load(&source) else { panic!("{network} is wrong") };
            assert!(problems.iter().any(|p| p.message.contains(says)), "{says} in {problems:#?}");
        }
        let source = Source::new("x", &file("network.brunel = {}"), &[]).expect("parses");
        assert!(load(&source).is_ok());
    }
}
