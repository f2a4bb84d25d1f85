//! What the tables of the trainers mean: every value in its range.

use super::config::{
    Augment, Checkpoint, Convert, Credit, Derivative, Fit, Loss, Optimizer, Rates, Rule, Stdp, StdpReadout,
    Storage, Surrogate, Thresholds,
};
use crate::experiment::check::Check;
use crate::experiment::config::{Config, Connect, Encode, Neuron, Precision, Shape};

impl Check<'_> {
    pub(in crate::experiment) fn surrogate(&mut self, config: &Config, train: &Surrogate) {
        let path = |key: &str| format!("train.surrogate.{key}");
        self.trained(config, "train.surrogate", &train.output);
        for (name, projection) in config.projection.iter().filter(|(_, p)| !p.frozen) {
            let convolution = matches!(projection.connect, Connect::Conv2d { .. });
            if convolution && train.gradient != Credit::Bptt {
                let help = "leave out `connect`, or write `gradient = \"bptt\"`";
                let what = format!("`{name}` is a convolution, which online gradients are not of");
                self.wrong(&format!("projection.{name}.connect"), what, Some(help.into()));
            }
            if train.batch_norm && projection.bias.is_none() && projection.to != train.output {
                let help = "write `bias.constant = 0.0`: it takes up what is normalised";
                let what = format!("`{name}` is normalised and has no bias");
                self.wrong(&format!("projection.{name}"), what, Some(help.into()));
            }
            self.delayed(config, train, name);
            let target = config.population.get(&projection.to).map(|population| &population.neuron);
            if target.is_some_and(|neuron| !neuron.has_gradient()) {
                let help = "give its target `neuron.lif = { … }`, `neuron.synaptic` or `neuron.alif`";
                let what = format!(
                    "`{name}` learns, and only what projects to `lif`, `synaptic` or `alif` neurons has a gradient"
                );
                self.wrong(&format!("projection.{name}.to"), what, Some(help.into()));
            }
        }
        if train.gradient != Credit::Bptt {
            self.online(train);
        }
        let bounded = train.rates.lower > 0.0 || train.rates.upper > 0.0;
        if (1..train.batch).contains(&train.micro_batch) && (train.batch_norm || bounded) {
            let other = if train.batch_norm { "batch_norm" } else { "rates" };
            let help = format!("leave it out, or `{other}`");
            self.wrong(
                &path("micro_batch"),
                format!("`{other}` needs the mini-batch as a whole"),
                Some(help),
            );
        }
        if train.checkpoint != Checkpoint::None && (train.batch_norm || bounded) {
            let other = if train.batch_norm { "batch_norm" } else { "rates" };
            let help = format!("leave it out, or `{other}`");
            self.wrong(&path("checkpoint"), format!("`{other}` needs all steps at once"), Some(help));
        }
        if let Checkpoint::Every(steps) = train.checkpoint {
            self.positive(&path("checkpoint.every"), steps);
        }
        let more_than_zero = [("lr", train.lr)];
        let zero_or_more = [
            ("weight_decay", train.weight_decay),
            ("clip", train.clip),
            ("rates.sparsity", train.rates.sparsity),
            ("rates.lower", train.rates.lower),
            ("rates.upper", train.rates.upper),
            ("rates.least", train.rates.least),
            ("rates.most", train.rates.most),
        ];
        more_than_zero.iter().for_each(|&(key, x)| self.range(&path(key), x, x > 0.0, "more than 0"));
        zero_or_more.iter().for_each(|&(key, x)| self.range(&path(key), x, x >= 0.0, "0 or more"));
        let dropout = train.dropout;
        self.range(&path("dropout"), dropout, (0.0..1.0).contains(&dropout), "from 0 to below 1");
        for (key, value) in train.surrogate.constants() {
            self.range(&path(&format!("surrogate.{key}")), value, value > 0.0, "more than 0");
        }
        if let Derivative::LeakyBoxcar { outside, .. } = train.surrogate {
            self.range(&path("surrogate.leaky-boxcar.outside"), outside, outside >= 0.0, "0 or more");
        }
        if let Loss::Tet { lambda, target } = train.loss {
            let path = path("loss.tet");
            self.range(&format!("{path}.lambda"), lambda, (0.0..=1.0).contains(&lambda), "from 0 to 1");
            self.range(&format!("{path}.target"), target, target.is_finite(), "a number");
        }
        if train.learn_beta && train.learn_tau {
            let help = "leave out one of the two";
            let what = "`learn_beta` is the same number: the leak of a population, as such";
            self.wrong(&path("learn_tau"), what.into(), Some(help.into()));
        }
        if let Loss::MseCount { correct, incorrect } = train.loss {
            let path = path("loss.mse-count");
            let expected = "from 0 to 1 spike a step";
            self.range(&format!("{path}.correct"), correct, (0.0..=1.0).contains(&correct), expected);
            self.range(&format!("{path}.incorrect"), incorrect, (0.0..=1.0).contains(&incorrect), expected);
        }
        if let Optimizer::Sgd { momentum } = train.optimizer {
            let ok = (0.0..1.0).contains(&momentum);
            self.range(&path("optimizer.sgd.momentum"), momentum, ok, "from 0 to below 1");
        }
        self.positive(&path("batch"), train.batch);
        self.positive(&path("epochs"), train.epochs);
        if train.patience > 0 && train.held_out == 0 {
            let help = "say how many training samples judge: `held_out = 5000`";
            self.wrong(&path("patience"), "nothing is held out to be judged".into(), Some(help.into()));
        }
        let input = config.population.iter().find(|(_, p)| p.neuron == Neuron::Input);
        if let Some((name, population)) = input {
            let image = matches!(population.shape, Shape::Image(_));
            self.augment(
                "train.surrogate.augment",
                &train.augment,
                image,
                &format!("population.{name}.shape"),
            );
        }
    }

    /// Gradients that are taken piece by piece know one delay: a step, from a population to itself.
    fn delayed(&mut self, config: &Config, train: &Surrogate, name: &str) {
        let projection = &config.projection[name];
        let one_step = projection.from == projection.to && projection.delay_ms == Some(config.encode.dt_ms());
        let other = match (train.gradient, train.checkpoint) {
            (Credit::Bptt, Checkpoint::None) => return,
            (Credit::Bptt, _) => "checkpoint",
            _ => "gradient",
        };
        if projection.delay_ms.is_some() && !one_step {
            let help = format!("leave out `train.surrogate.{other}`, or the delay");
            let what = format!(
                "`{other}` does not go with the delay of `{name}`: only with a step, from a population to itself"
            );
            self.wrong(&format!("projection.{name}.delay_ms"), what, Some(help));
        }
    }

    /// What gradients that go forward in time cannot do.
    fn online(&mut self, train: &Surrogate) {
        let path = |key: &str| format!("train.surrogate.{key}");
        if !matches!(train.loss, Loss::CeRate | Loss::CeMembrane) {
            let help = "write `loss = \"ce-rate\"` or `loss = \"ce-membrane\"`";
            self.wrong(&path("loss"), "online gradients need a loss of every step".into(), Some(help.into()));
        }
        for (key, wrong) in [
            ("detach_reset", !train.detach_reset),
            ("learn_beta", train.learn_beta),
            ("learn_tau", train.learn_tau),
            ("learn_threshold", train.learn_threshold),
            ("storage", train.storage != Storage::F32),
            ("dropout", train.dropout > 0.0),
            ("batch_norm", train.batch_norm),
            ("micro_batch", train.micro_batch > 0),
            ("checkpoint", train.checkpoint != Checkpoint::None),
            ("rates", train.rates != Rates::default()),
        ] {
            if wrong {
                let help = "leave it out, or write `gradient = \"bptt\"`";
                self.wrong(
                    &path(key),
                    format!("`{key}` cannot be as it is with online gradients"),
                    Some(help.into()),
                );
            }
        }
    }

    /// An output that is there, and f32 projections that learn.
    fn trained(&mut self, config: &Config, trainer: &str, output: &str) {
        let names: Vec<&str> = config.population.keys().map(String::as_str).collect();
        self.known(&format!("{trainer}.output"), output, &names);
        if config.population.get(output).is_some_and(|p| p.neuron == Neuron::Input) {
            let what = format!("`{output}` is the input, it learns nothing");
            self.wrong(&format!("{trainer}.output"), what, None);
        }
        if !config.projection.values().any(|p| !p.frozen) {
            let help = "write `frozen = false` in the projections that are to learn";
            self.wrong(trainer, "nothing can be trained: all is frozen".into(), Some(help.into()));
        }
        for (name, projection) in config.projection.iter().filter(|(_, p)| !p.frozen) {
            if projection.precision == Precision::Int8 {
                let help = "write `precision = \"f32\"`, or leave it out";
                let what = format!("`{name}` learns, and 8-bit integers cannot");
                self.wrong(&format!("projection.{name}.precision"), what, Some(help.into()));
            }
        }
        if !config.features.from.is_empty() {
            let help = format!("remove `[features]`: `{trainer}.output` is read");
            self.wrong("features", "no features are recorded".into(), Some(help));
        }
    }

    pub(in crate::experiment) fn stdp_readout(&mut self, config: &Config, train: &StdpReadout) {
        let path = |key: &str| format!("train.stdp-readout.{key}");
        self.trained(config, "train.stdp-readout", &train.output);
        for (name, projection) in config.projection.iter().filter(|(_, p)| !p.frozen) {
            if projection.connect != Connect::Dense {
                let help = "leave out `connect`, or write `frozen = true`";
                let what = format!("`{name}` learns, and only dense connections do");
                self.wrong(&format!("projection.{name}.connect"), what, Some(help.into()));
            }
            let help = "write `frozen = true`, or train whole networks with `[train.surrogate]`";
            if projection.to != train.output {
                let what = format!("`{name}` learns, and does not end in `{}`", train.output);
                self.wrong(&format!("projection.{name}.frozen"), what, Some(help.into()));
            }
            if config.population.get(&projection.from).is_some_and(|p| p.neuron == Neuron::Input) {
                let help = "put a frozen layer between them";
                let what = format!("`{name}` begins at the input, and a readout hears neurons");
                self.wrong(&format!("projection.{name}.from"), what, Some(help.into()));
            }
        }
        for (name, _) in config.projection.iter().filter(|(_, p)| p.to == train.output).skip(1) {
            let what = format!("`{name}` is a second projection to `{}`, which hears one", train.output);
            self.wrong(&format!("projection.{name}.to"), what, None);
        }
        self.range(&path("lr"), train.lr, train.lr > 0.0, "more than 0");
        let [low, high] = train.bounds;
        self.range(&path("bounds"), low, low < high && high.is_finite(), "below the second bound");
        self.positive(&path("batch"), train.batch);
        self.positive(&path("epochs"), train.epochs);
        match train.rule {
            Rule::Supervised { tau_ms, every } => {
                self.range(&path("rule.supervised.tau_ms"), tau_ms, tau_ms > 0.0, "more than 0");
                self.positive(&path("rule.supervised.every"), every);
            }
            Rule::Reward { tau_ms, tau_eligibility_ms, noise, window, homeostasis } => {
                let path = |key: &str| path(&format!("rule.reward.{key}"));
                for (key, x) in [("tau_ms", tau_ms), ("tau_eligibility_ms", tau_eligibility_ms)] {
                    self.range(&path(key), x, x > 0.0, "more than 0");
                }
                for (key, x) in [("noise", noise), ("homeostasis", homeostasis)] {
                    self.range(&path(key), x, x >= 0.0, "0 or more");
                }
                let unbiased = config.projection.iter().find(|(_, p)| !p.frozen && p.bias.is_none());
                if let Some((name, _)) = unbiased {
                    let help = "write `bias = { constant = 0.0 }`";
                    let what = format!(
                        "`{name}` has no bias, with which learning by rewards keeps rates in balance"
                    );
                    self.wrong(&format!("projection.{name}"), what, Some(help.into()));
                }
                self.positive(&path("window"), window);
            }
        }
    }

    pub(in crate::experiment) fn convert(&mut self, config: &Config, train: &Convert) {
        let path = |key: &str| format!("train.convert.{key}");
        self.no_description(config, "train.convert");
        self.encode(&config.encode);
        if !matches!(config.encode, Encode::Constant { .. } | Encode::Absent) {
            let help = "write `encode.constant = { steps = 16 }`";
            self.wrong("encode", "converted networks take constant currents".into(), Some(help.into()));
        }
        self.shape(&path("input"), &train.input);
        match train.fit {
            Fit::Gradient { lr, weight_decay, batch, epochs, augment } => {
                let path = |key: &str| format!("train.convert.fit.gradient.{key}");
                self.range(&path("lr"), lr, lr > 0.0, "more than 0");
                self.range(&path("weight_decay"), weight_decay, weight_decay >= 0.0, "0 or more");
                self.positive(&path("batch"), batch);
                self.positive(&path("epochs"), epochs);
                self.augment(&path("augment"), &augment, train.input.len() == 3, "train.convert.input");
            }
            Fit::Ridge { lambda } => {
                self.range(&path("fit.ridge.lambda"), lambda, lambda > 0.0, "more than 0");
            }
            // Its shapes are looked at with those of the layers.
            Fit::File { .. } => {}
        }
        if let Thresholds::Percentile { percent, factor } = train.thresholds {
            let path = path("thresholds.percentile");
            let ok = (0.0..=100.0).contains(&percent);
            self.range(&format!("{path}.percent"), percent, ok, "from 0 to 100");
            self.range(&format!("{path}.factor"), factor, factor > 0.0, "more than 0");
        }
        self.range(&path("start"), train.start, (0.0..1.0).contains(&train.start), "from 0 to below 1");
        self.positive(&path("calibration"), train.calibration);
        train.steps.iter().for_each(|&steps| self.positive(&path("steps"), steps));
        if train.layer.is_empty() {
            let help = "write tables `[[train.convert.layer]]`, the last one of them `linear`";
            self.wrong(&path("layer"), "the network has no layers".into(), Some(help.into()));
        }
    }

    pub(in crate::experiment) fn stdp(&mut self, config: &Config, train: &Stdp) {
        let path = |key: &str| format!("train.stdp.{key}");
        self.no_description(config, "train.stdp");
        if config.encode != Encode::Absent {
            let help = "remove it: rates and times are among the constants of Diehl & Cook";
            self.wrong("encode", "`train.stdp` encodes samples in its own way".into(), Some(help.into()));
        }
        self.shape(&path("input"), &train.input);
        self.positive(&path("neurons"), train.neurons);
        self.positive(&path("batch"), train.batch);
        self.positive(&path("passes"), train.passes);
    }

    /// Refuses tables that the trainer would not look at.
    fn no_description(&mut self, config: &Config, trainer: &str) {
        let given = [
            ("population", !config.population.is_empty()),
            ("projection", !config.projection.is_empty()),
            ("features", !config.features.from.is_empty()),
        ];
        for (table, _) in given.into_iter().filter(|(_, given)| *given) {
            let help = format!("remove `[{table}]`, or take another trainer");
            self.wrong(table, format!("`{trainer}` makes its own network"), Some(help));
        }
    }

    fn shape(&mut self, path: &str, shape: &[usize]) {
        if !matches!(shape.len(), 1 | 3) || shape.contains(&0) {
            let help = "expected [features] or [channels, height, width]";
            self.wrong(path, format!("`{path}` is {shape:?}"), Some(help.into()));
        }
    }

    fn augment(&mut self, path: &str, augment: &Augment, is_image: bool, shape: &str) {
        let Augment { shift, rotation_degrees, elastic } = *augment;
        for (key, x) in [("shift", shift), ("rotation_degrees", rotation_degrees), ("elastic", elastic)] {
            self.range(&format!("{path}.{key}"), x, x >= 0.0, "0 or more");
        }
        if *augment != Augment::default() && !is_image {
            let help = format!("write `{shape} = [channels, height, width]`");
            self.wrong(path, "only images can be moved and turned".into(), Some(help));
        }
    }
}
