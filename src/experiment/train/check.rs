//! What the tables of the trainers mean: every value in its range.

use super::config::{Augment, Loss, Optimizer, Surrogate};
use crate::experiment::check::Check;
use crate::experiment::config::{Config, Neuron, Precision, Shape};

impl Check<'_> {
    pub(in crate::experiment) fn surrogate(&mut self, config: &Config, train: &Surrogate) {
        let path = |key: &str| format!("train.surrogate.{key}");
        let names: Vec<&str> = config.population.keys().map(String::as_str).collect();
        self.known(&path("output"), &train.output, &names);
        if config.population.get(&train.output).is_some_and(|p| p.neuron == Neuron::Input) {
            let what = format!("`{}` is the input, it learns nothing", train.output);
            self.wrong(&path("output"), what, None);
        }
        if !config.projection.values().any(|p| !p.frozen) {
            let help = "write `frozen = false` in the projections that are to learn";
            self.wrong("train.surrogate", "nothing can be trained: all is frozen".into(), Some(help.into()));
        }
        for (name, projection) in &config.projection {
            if !projection.frozen && projection.precision == Precision::Int8 {
                let help = "write `precision = \"f32\"`, or leave it out";
                let what = format!("`{name}` learns, and 8-bit integers cannot");
                self.wrong(&format!("projection.{name}.precision"), what, Some(help.into()));
            }
        }
        if !config.features.from.is_empty() {
            let help = "remove `[features]`: `train.surrogate.output` is read";
            self.wrong("features", "no features are recorded".into(), Some(help.into()));
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
        if let Some((key, value)) = train.surrogate.constant() {
            self.range(&path(&format!("surrogate.{key}")), value, value > 0.0, "more than 0");
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
        self.augment("train.surrogate.augment", config, &train.augment);
    }

    pub(super) fn augment(&mut self, path: &str, config: &Config, augment: &Augment) {
        let Augment { shift, rotation_degrees, elastic } = *augment;
        for (key, x) in [("shift", shift), ("rotation_degrees", rotation_degrees), ("elastic", elastic)] {
            self.range(&format!("{path}.{key}"), x, x >= 0.0, "0 or more");
        }
        let input = config.population.iter().find(|(_, p)| p.neuron == Neuron::Input);
        if let Some((name, population)) = input
            && *augment != Augment::default()
            && !matches!(population.shape, Shape::Image(_))
        {
            let help = format!("write `population.{name}.shape = [channels, height, width]`");
            self.wrong(path, "only images can be moved and turned".into(), Some(help));
        }
    }
}
