//! What an experiment means: every value in its range, every name known. All findings are reported together.

use super::config::{Config, Connect, Encode, Gain, Neuron, Record, Shape, Solver, Train, Weights};
use super::diagnose::{Places, Source, suggestion};
use crate::error::{Error, Problem, Result};
use crate::units::Ms;

/// The newest schema that this program reads.
pub const SCHEMA: u32 = 1;

/// Reads and checks an experiment.
///
/// # Errors
/// [`crate::Error::Config`] with every mistake.
pub fn load(source: &Source) -> Result<Config> {
    let (config, places) = source.parse()?;
    let mut check = Check { problems: vec![], places: &places };
    check.config(&config);
    if check.problems.is_empty() {
        check.network(&config);
    }
    if check.problems.is_empty() { Ok(config) } else { Err(source.fail(check.problems)) }
}

pub(super) struct Check<'a> {
    pub(super) problems: Vec<Problem>,
    pub(super) places: &'a Places,
}

impl Check<'_> {
    pub(super) fn wrong(&mut self, path: &str, message: String, help: Option<String>) {
        self.problems.push(Problem { message, span: self.places.of(path), help });
    }

    pub(super) fn range(&mut self, path: &str, value: f64, ok: bool, expected: &str) {
        if !ok || !value.is_finite() {
            self.wrong(path, format!("`{path}` is {value}"), Some(format!("it must be {expected}")));
        }
    }

    pub(super) fn positive(&mut self, path: &str, value: usize) {
        if value == 0 {
            self.wrong(path, format!("`{path}` is 0"), Some("it must be at least 1".into()));
        }
    }

    pub(super) fn known(&mut self, path: &str, name: &str, names: &[&str]) {
        if !names.contains(&name) {
            self.wrong(path, format!("there is no population `{name}`"), suggestion(name, names));
        }
    }

    fn config(&mut self, config: &Config) {
        self.head(config.schema, &config.name);
        self.device(&config.run.device);
        self.data(config);
        match &config.train {
            Train::Ransnn { .. } | Train::Surrogate(_) | Train::StdpReadout(_) => self.description(config),
            Train::Convert(train) => self.convert(config, train),
            Train::Stdp(train) => self.stdp(config, train),
        }
        self.positive("eval.repeat", config.eval.repeat);
        if let Some(accuracy) = config.eval.expect_accuracy {
            self.range(
                "eval.expect_accuracy",
                accuracy,
                (0.0..=1.0).contains(&accuracy),
                "a fraction from 0 to 1",
            );
        }
        for (key, values) in &config.sweep {
            if values.is_empty() {
                self.wrong(&format!("sweep.{key}"), format!("no values for `{key}`"), None);
            }
        }
    }

    /// What describes the network, for trainers that take it from there.
    fn description(&mut self, config: &Config) {
        self.encode(&config.encode);
        let names: Vec<&str> = config.population.keys().map(String::as_str).collect();
        for (name, population) in &config.population {
            self.population(name, population, config);
        }
        match config.population.iter().filter(|(_, population)| population.neuron == Neuron::Input).nth(1) {
            Some((name, _)) => {
                let help = "one takes the samples; the others need `neuron.lif = { … }`";
                let path = format!("population.{name}.neuron");
                self.wrong(&path, "there is a second input".into(), Some(help.into()));
            }
            None if !config.population.values().any(|population| population.neuron == Neuron::Input) => {
                let help = "one population needs `neuron = \"input\"`";
                self.wrong("population", "no population takes the samples".into(), Some(help.into()));
            }
            None => {}
        }
        for (name, projection) in &config.projection {
            self.projection(name, projection, &names);
            let input = config.population.get(&projection.from).is_some_and(|p| p.neuron == Neuron::Input);
            if projection.delay_ms.is_some() && input && matches!(config.encode, Encode::Constant { .. }) {
                let help = "leave it out, or encode spikes, for example with `encode.poisson`";
                let what = format!("`{name}` carries a constant current, which has no delay");
                self.wrong(&format!("projection.{name}.delay_ms"), what, Some(help.into()));
            }
            if !projection.frozen && matches!(config.train, Train::Ransnn { .. }) {
                let help = "`train.ransnn` trains the readout only: write `frozen = true`";
                let what = format!("nothing trains the weights of `{name}`");
                self.wrong(&format!("projection.{name}.frozen"), what, Some(help.into()));
            }
        }
        match &config.train {
            Train::Surrogate(train) => self.surrogate(config, train),
            Train::StdpReadout(train) => self.stdp_readout(config, train),
            Train::Ransnn { solver } => {
                self.features(config, &names);
                self.solver(solver);
            }
            Train::Convert(_) | Train::Stdp(_) => {}
        }
    }

    /// What only shows when sizes are put together: kernels that do not fit, loops.
    fn network(&mut self, config: &Config) {
        let built = match &config.train {
            Train::Ransnn { .. } | Train::Surrogate(_) | Train::StdpReadout(_) => {
                super::build::builder(config).check()
            }
            Train::Convert(train) => train.untrained(config.seed).map(drop),
            Train::Stdp(train) => train.network().validate(),
        };
        let problems = match built {
            Ok(()) => vec![],
            Err(Error::Network(problems)) => problems,
            Err(error) => vec![error.to_string()],
        };
        for what in problems {
            if let Train::Convert(_) = config.train {
                self.wrong("train.convert.layer", what, None);
                continue;
            }
            // They begin with "population `NAME`" or "projection `NAME`".
            let mut quoted = what.splitn(3, '`');
            let kind = quoted.next().unwrap_or_default().trim();
            let path = quoted.next().map(|name| format!("{kind}.{name}")).unwrap_or_default();
            self.wrong(&path, what, None);
        }
    }

    /// What every experiment file begins with.
    pub(super) fn head(&mut self, schema: u32, name: &str) {
        if schema != SCHEMA {
            let help = format!("this program reads schema {SCHEMA}");
            self.wrong("schema", format!("schema {schema} is not known"), Some(help));
        }
        if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
            let help = "a name becomes a folder: letters, digits, `-`, `_`";
            self.wrong("name", format!("`{name}` is no name"), Some(help.into()));
        }
    }

    pub(super) fn device(&mut self, device: &str) {
        if !super::device::is_name(device) {
            let help = "expected `auto`, `cpu`, `cuda` or `cuda:N`";
            self.wrong("run.device", format!("unknown device `{device}`"), Some(help.into()));
        }
    }

    fn data(&mut self, config: &Config) {
        match (&config.data.dataset, &config.data.path) {
            (Some(_), Some(_)) => {
                let help = "give one of them";
                self.wrong("data.path", "both `dataset` and `path` are given".into(), Some(help.into()));
            }
            (None, None) => {
                let help = "give `dataset`, a name from `ransnn data list`, or `path`";
                self.wrong("data", "no data".into(), Some(help.into()));
            }
            (Some(name), None) => {
                if let Err(error) = crate::data::registry::find(name)
                    && name != "strokes"
                {
                    self.wrong("data.dataset", error.to_string(), None);
                }
            }
            (None, Some(_)) => {}
        }
        if matches!(config.encode, Encode::Events { .. }) && config.data.path.is_none() {
            let help = "give a folder of recordings as `data.path`, or encode intensities";
            self.wrong("encode.events", "the samples of a data set are no events".into(), Some(help.into()));
        }
        let share = config.data.test_share;
        self.range("data.test_share", share, share > 0.0 && share < 1.0, "between 0 and 1");
        if config.eval.on == super::config::On::Validation && config.data.validation == 0 {
            let help = "say how many samples: `data.validation = 10000`";
            self.wrong("eval.on", "no samples are held out for validation".into(), Some(help.into()));
        }
    }

    pub(super) fn encode(&mut self, encode: &Encode) {
        match *encode {
            Encode::Absent => {
                let help = "say how samples become input, for example `encode.constant = { steps = 8 }`";
                self.wrong("encode", "the key `encode` is missing".into(), Some(help.into()));
            }
            Encode::Constant { steps } => self.positive("encode.constant.steps", steps),
            Encode::Latency { steps } => self.positive("encode.latency.steps", steps),
            Encode::Events { steps, step_ms } => {
                self.positive("encode.events.steps", steps);
                self.range("encode.events.step_ms", step_ms, step_ms >= 1e-3, "a microsecond or more");
            }
            Encode::Poisson { steps, dt_ms, max_rate_hz } => {
                self.positive("encode.poisson.steps", steps);
                self.range("encode.poisson.dt_ms", dt_ms, dt_ms > 0.0, "more than 0");
                let p = max_rate_hz * dt_ms / 1000.0;
                let expected = "above 0 and at most one spike a step (1000 / dt_ms)";
                self.range("encode.poisson.max_rate_hz", max_rate_hz, p > 0.0 && p <= 1.0, expected);
            }
        }
    }

    fn population(&mut self, name: &str, population: &super::config::Population, config: &Config) {
        let takes_events =
            population.neuron == Neuron::Input && matches!(config.encode, Encode::Events { .. });
        if takes_events && !matches!(population.shape, Shape::Image([1 | 2, _, _])) {
            let help = "write [2, height, width], or [1, height, width] for falls and rises together";
            let what = format!("`{name}` takes events, which have a place");
            self.wrong(&format!("population.{name}.shape"), what, Some(help.into()));
        }
        if population.shape.dims().contains(&0) {
            self.wrong(
                &format!("population.{name}.shape"),
                format!("population `{name}` has no neurons"),
                None,
            );
        }
        if population.neuron != Neuron::Input && !config.projection.values().any(|p| p.to == name) {
            let help = format!("add a projection with `to = \"{name}\"`, or remove the population");
            self.wrong(&format!("population.{name}"), format!("nothing projects to `{name}`"), Some(help));
        }
        if let Neuron::Poisson(_) | Neuron::Spikes(_) = population.neuron {
            let help = "a file with a table `[simulate]` has such sources";
            let what = format!("`{name}` is a source of spikes, which samples are not");
            self.wrong(&format!("population.{name}.neuron"), what, Some(help.into()));
        }
        if let Some(model) = population.neuron.physical(Ms(config.encode.dt_ms()))
            && let Err(wrong) = model.validate()
        {
            self.wrong(&format!("population.{name}.neuron"), wrong.to_string(), None);
        }
        self.unitless(name, &population.neuron);
    }

    fn projection(&mut self, name: &str, projection: &super::config::Projection, names: &[&str]) {
        let path = format!("projection.{name}");
        self.known(&format!("{path}.from"), &projection.from, names);
        self.known(&format!("{path}.to"), &projection.to, names);
        match projection.connect {
            Connect::FixedProbability { p } => {
                let ok = (0.0..=1.0).contains(&p);
                self.range(
                    &format!("{path}.connect.fixed-probability.p"),
                    p,
                    ok,
                    "a probability from 0 to 1",
                );
            }
            Connect::FixedInDegree { k } => self.positive(&format!("{path}.connect.fixed-in-degree.k"), k),
            Connect::Conv2d { kernel, stride, pool, max_pool, .. } => {
                self.positive(&format!("{path}.connect.conv2d.pool"), pool);
                self.positive(&format!("{path}.connect.conv2d.max_pool"), max_pool);
                self.positive(&format!("{path}.connect.conv2d.kernel"), kernel);
                self.positive(&format!("{path}.connect.conv2d.stride"), stride);
            }
            Connect::LocalFields { min, max } => {
                self.positive(&format!("{path}.connect.local-fields.min"), min);
                if max < min {
                    self.wrong(
                        &format!("{path}.connect.local-fields.max"),
                        format!("`max` {max} is below `min` {min}"),
                        None,
                    );
                }
            }
            Connect::Dense | Connect::OneToOne => {}
        }
        self.weights(&format!("{path}.weights"), &projection.weights);
        if let Some(bias) = &projection.bias {
            self.weights(&format!("{path}.bias"), bias);
        }
        if let Some(delay) = projection.delay_ms {
            self.range(&format!("{path}.delay_ms"), delay, delay > 0.0, "more than 0");
        }
        let smooth = projection.smooth;
        self.range(&format!("{path}.smooth"), smooth, (0.0..=16.0).contains(&smooth), "from 0 to 16 pixels");
        if let Some(share) = projection.excitatory_share {
            self.range(
                &format!("{path}.excitatory_share"),
                share,
                share > 0.0 && share < 1.0,
                "between 0 and 1",
            );
        }
        match projection.gain {
            Gain::Fixed(gain) => self.range(&format!("{path}.gain"), gain, true, "a number"),
            Gain::RmsDrive(rms) => {
                self.range(&format!("{path}.gain.rms-drive"), rms, rms > 0.0, "more than 0")
            }
            Gain::FiringRate(rate) => {
                self.range(
                    &format!("{path}.gain.firing-rate"),
                    rate,
                    rate > 0.0 && rate < 1.0,
                    "between 0 and 1",
                );
            }
        }
    }

    fn weights(&mut self, path: &str, weights: &Weights) {
        match *weights {
            Weights::Normal { mean, std } => {
                self.range(&format!("{path}.normal.mean"), mean, true, "a number");
                self.range(&format!("{path}.normal.std"), std, std >= 0.0, "0 or more");
            }
            Weights::Uniform { low, high } => {
                self.range(&format!("{path}.uniform.low"), low, low <= high, "at most `high`");
            }
            Weights::Constant(value) => self.range(&format!("{path}.constant"), value, true, "a number"),
            Weights::KaimingUniform => {}
        }
    }

    fn features(&mut self, config: &Config, names: &[&str]) {
        let features = &config.features;
        if features.from.is_empty() {
            self.wrong("features.from", "no population is read".into(), None);
        }
        for name in &features.from {
            self.known("features.from", name, names);
            let Some(population) = config.population.get(name) else { continue };
            if population.neuron == Neuron::Input {
                self.wrong(
                    "features.from",
                    format!("`{name}` is an input, it has no spikes of its own"),
                    None,
                );
            }
            let Shape::Image([_, height, width]) = population.shape else {
                if features.pool.cells > 0 {
                    let help = "pooling needs `shape = [channels, height, width]`";
                    self.wrong("features.pool", format!("`{name}` is not an image"), Some(help.into()));
                }
                continue;
            };
            if features.pool.cells > height.min(width) {
                self.wrong(
                    "features.pool.cells",
                    format!("more windows than neurons along a side of `{name}`"),
                    None,
                );
            }
        }
        let width = features.pool.width;
        self.range("features.pool.width", width, width > 0.0 && width <= 8.0, "above 0 and at most 8");
        if features.pool.cells > 0 && features.record != Record::Counts {
            self.wrong("features.pool", "only counts can be pooled".into(), None);
        }
        match features.record {
            Record::Trace { decay } => {
                self.range(
                    "features.record.trace.decay",
                    decay,
                    (0.0..1.0).contains(&decay),
                    "from 0 to below 1",
                );
            }
            Record::Bins(n) => {
                self.positive("features.record.bins", n);
                if n > config.encode.steps() {
                    self.wrong("features.record.bins", "more bins than time steps".into(), None);
                }
            }
            Record::Counts | Record::Membrane => {}
        }
        if features.levels == 1 || features.levels > 256 {
            self.wrong(
                "features.levels",
                format!("`features.levels` is {}", features.levels),
                Some("it must be from 2 to 256, or 0 to keep counts".into()),
            );
        }
    }

    fn solver(&mut self, solver: &Solver) {
        match solver {
            Solver::Ridge { lambda, hinge_lambda, .. } => {
                let path = "train.ransnn.solver.ridge.lambda";
                if lambda.is_empty() {
                    self.wrong(path, "no strength is given".into(), None);
                }
                let strength = *hinge_lambda;
                self.range("train.ransnn.solver.ridge.hinge_lambda", strength, strength >= 0.0, "0 or more");
                for &value in lambda {
                    self.range(path, value, value > 0.0, "more than 0");
                }
            }
            Solver::Adam { lr, batch, epochs, .. } => {
                self.range("train.ransnn.solver.adam.lr", *lr, *lr > 0.0, "more than 0");
                self.positive("train.ransnn.solver.adam.batch", *batch);
                self.positive("train.ransnn.solver.adam.epochs", *epochs);
            }
        }
    }
}
