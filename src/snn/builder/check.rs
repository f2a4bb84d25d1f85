//! What is wrong with a description: every mistake by name, and whether it fits in memory.

use super::{NetworkBuilder, Precision, Spec};
use crate::error::{Error, Result};
use crate::snn::connect::Rule;
use crate::snn::draw::{biases, fits_bias};
use crate::snn::init::Base;
use crate::snn::network::{Pop, Population, describe_cycle, sort};
use crate::snn::neuron::Param;
use crate::snn::synapses::{self, Delays};

impl NetworkBuilder {
    /// What [`NetworkBuilder::build`] checks, without drawing anything.
    ///
    /// # Errors
    /// As [`NetworkBuilder::build`].
    pub fn check(&self) -> Result<()> {
        let names = self.projection_names();
        let mut problems = self.population_problems();
        let mut bytes = 0.0;
        for (i, (spec, name)) in self.edges.iter().zip(&names).enumerate() {
            let mut found = Vec::new();
            if let Err(wrong) = check_name(name) {
                found.push(wrong);
            }
            if names[..i].contains(name) {
                found.push("there is another of that name".into());
            }
            bytes += self.projection_problems(spec, &mut found);
            problems.extend(found.into_iter().map(|what| format!("projection `{name}`: {what}")));
        }
        problems.extend(if self.simulation { None } else { self.cycle() });
        // Rounded up where it cannot be counted exactly; a f64 above u64::MAX becomes u64::MAX.
        let needed = bytes as u64;
        if needed > self.memory {
            if problems.is_empty() {
                let what = "drawing the weights of the network".into();
                return Err(Error::Memory { what, needed, available: self.memory });
            }
            problems.push(format!("its weights need {needed} bytes, but {} are available", self.memory));
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Network(problems)) }
    }

    fn population_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(self.dt.0 > 0.0 && self.dt.0.is_finite()) {
            problems.push(format!("the time step is {}; it must be above 0", self.dt));
        }
        for (i, p) in self.populations.iter().enumerate() {
            let mut push = |what: String| problems.push(format!("population `{}`: {what}", p.name));
            if let Err(wrong) = check_name(&p.name) {
                push(wrong);
            }
            if self.populations[..i].iter().any(|other| other.name == p.name) {
                push("there is another of that name".into());
            }
            match p.shape.iter().try_fold(1usize, |size, &side| size.checked_mul(side)) {
                _ if !matches!(p.shape.len(), 1 | 3) => {
                    push(format!(
                        "its shape is {:?}; it must be [neurons] or [channels, height, width]",
                        p.shape
                    ));
                }
                Some(0) => push("it has no neurons".into()),
                Some(size) if u32::try_from(size).is_ok() => {}
                _ => push(format!("it has more than {} neurons", u32::MAX)),
            }
            p.stimulus.problems(p, self.dt).into_iter().for_each(&mut push);
            if let Some(model) = &p.model {
                if let Some(step) = model.time_step()
                    && step != self.dt
                {
                    push(format!(
                        "its model was made for steps of {step}; those of the network are {}",
                        self.dt
                    ));
                }
                let wrong: Vec<_> = model.params().iter().map(Param::check).filter_map(Result::err).collect();
                wrong.iter().for_each(|e| push(e.to_string()));
                if wrong.is_empty()
                    && let Err(e) = model.validate()
                {
                    push(e.to_string());
                }
            }
        }
        problems
    }

    /// Adds what is wrong with a projection; returns the bytes it takes while it is drawn.
    fn projection_problems(&self, spec: &Spec, problems: &mut Vec<String>) -> f64 {
        if let Some(delay) = spec.delay {
            let steps = delay.0 / self.dt.0;
            if delay.0.is_nan() || delay.0 < self.dt.0 {
                problems.push(format!("delay is {delay}; it must be at least the time step, {}", self.dt));
            } else if (steps - steps.round()).abs() > 1e-6 * steps || steps > f64::from(u32::MAX) {
                problems
                    .push(format!("delay is {delay}; it must be a multiple of the time step, {}", self.dt));
            }
        }
        if self.simulation {
            self.wiring_problems(spec, problems);
        } else if spec.rule.simulation_only()
            || spec.delays.is_some()
            || spec.receptor.is_some()
            || !spec.autapses
            || spec.plasticity.is_some()
            || spec.normalise.is_some()
        {
            problems.push(format!(
                "the rule {}, delays, receptors, autapses and plasticity are of simulations: begin with Network::simulation",
                spec.rule.kind()
            ));
        }
        if !spec.frozen && spec.precision == Some(Precision::Int8) {
            problems.push("int8 weights cannot be trained; freeze it or store it as f32".into());
        }
        let recipe = spec.weights.recipe().map_err(|wrong| problems.extend(wrong)).ok();
        let bias = spec.bias.as_ref().map(|bias| {
            if !fits_bias(bias) {
                problems.push("a bias is drawn without modifiers".into());
            }
            bias.recipe()
                .map_err(|wrong| problems.extend(wrong.into_iter().map(|w| format!("bias: {w}"))))
                .ok()
        });
        let [pre, post] = [spec.pre, spec.post].map(|pop| self.populations.get(pop.0));
        let (Some(pre), Some(post)) = (pre, post) else {
            let side = if pre.is_none() { "source" } else { "target" };
            problems.push(format!("its {side} is not a population of this network"));
            return 0.0;
        };
        if post.model.is_none() {
            problems.push(format!("its target `{}` is an input", post.name));
        }
        let sound = |p: &Population| {
            matches!(p.shape.len(), 1 | 3)
                && p.shape
                    .iter()
                    .try_fold(1usize, |n, &side| n.checked_mul(side))
                    .is_some_and(|n| n > 0 && u32::try_from(n).is_ok())
        };
        if !(sound(pre) && sound(post)) {
            return 0.0; // said already
        }
        let misfits = spec.rule.problems(&pre.shape, &post.shape);
        if !misfits.is_empty() {
            problems.extend(misfits);
            return 0.0;
        }
        let count = spec.rule.weights(&pre.shape, &post.shape);
        if let Some(Some(Base::Listed(listed))) = bias.map(|bias| bias.map(|b| b.base))
            && listed.len() != biases(&spec.rule, &post.shape)
        {
            problems.push(format!(
                "{} biases are listed; it has {}",
                listed.len(),
                biases(&spec.rule, &post.shape)
            ));
        }
        if let Some(recipe) = recipe {
            let listed = match recipe.base {
                Base::Listed(listed) => Some(listed.len()),
                Base::ListedF64(listed) => Some(listed.len()),
                _ => None,
            };
            if let Some(listed) = listed {
                match spec.rule {
                    Rule::FixedProbability { .. } | Rule::LocalFields { .. } | Rule::Gaussian { .. } => {
                        problems.push(format!(
                            "weights of a {} rule cannot be listed: their number is drawn",
                            spec.rule.kind()
                        ));
                    }
                    _ if listed as f64 != count => {
                        problems.push(format!("{listed} weights are listed; it has {count}"));
                    }
                    _ => {}
                }
            }
            if recipe.dale.is_some() && matches!(spec.rule, Rule::Conv2d { .. }) {
                problems.push(
                    "Dale's law needs weights of their own for each source; a convolution shares them".into(),
                );
            }
            if recipe.dale.is_some() && pre.size() < 2 {
                problems.push("Dale's law needs at least two sources".into());
            }
            if recipe.smooth.is_some() && !matches!(spec.rule, Rule::Conv2d { .. }) {
                problems.push("only the kernels of a conv2d rule can be smoothed".into());
            }
            if recipe.mirrored {
                let halves = if let Rule::Conv2d { .. } = spec.rule { post.shape[0] } else { post.size() };
                if !matches!(spec.rule, Rule::Dense | Rule::Conv2d { .. }) || halves % 2 != 0 {
                    problems.push("mirrored weights need a dense or conv2d rule and an even number of targets or channels".into());
                }
            }
            if recipe.zero_mean && spec.rule.fan_in(&pre.shape, &post.shape) <= 1.0 {
                problems.push("with one weight per target, a mean of zero leaves nothing".into());
            }
        }
        self.bytes(spec, count, pre.size())
    }

    /// Bytes while a projection is drawn: weights in `f32`, the stored copy, and its connectivity.
    fn bytes(&self, spec: &Spec, weights: f64, sources: usize) -> f64 {
        let dense = matches!(spec.rule, Rule::Dense | Rule::Conv2d { .. });
        if self.simulation {
            let delays = if spec.delays.is_some() { Delays::Each(Vec::new()) } else { Delays::Same(1) };
            return synapses::bytes(&spec.weights, &delays, spec.wired().as_ref(), weights, sources);
        }
        // The number of synapses of a random rule varies; and sparse rows are drawn in pieces before they are joined.
        let connectivity = if dense { 0.0 } else { 8.0 * weights + 8.0 * (sources + 1) as f64 };
        (weights * if spec.precision_or_default() == Precision::Int8 { 5.0 } else { 4.0 } + connectivity)
            .ceil()
    }

    fn cycle(&self) -> Option<String> {
        let known = |pop: Pop| pop.0 < self.populations.len();
        let undelayed = self.edges.iter().filter(|s| s.delay.is_none() && known(s.pre) && known(s.post));
        let edges: Vec<_> = undelayed.map(|s| (s.pre.0, s.post.0)).collect();
        sort(self.populations.len(), &edges)
            .err()
            .map(|cycle| describe_cycle(&cycle, |i| &self.populations[i].name))
    }

    /// What is wrong with how a projection of a simulation is wired.
    fn wiring_problems(&self, spec: &Spec, problems: &mut Vec<String>) {
        match (&spec.delay, &spec.delays) {
            (None, None) => {
                problems.push(format!("it has no delay; it must be at least the time step, {}", self.dt));
            }
            (Some(_), Some(_)) => problems.push("it has one delay and a delay for each synapse".into()),
            (None, Some(delays)) => match delays.recipe() {
                Ok(recipe) => problems.extend(synapses::delay_problem(&recipe, self.dt)),
                Err(wrong) => problems.extend(wrong.into_iter().map(|w| format!("delays: {w}"))),
            },
            (Some(_), None) => {}
        }
        if matches!(spec.rule, Rule::Conv2d { .. } | Rule::LocalFields { .. }) {
            problems.push(format!("the rule {} is not of simulations", spec.rule.kind()));
        }
        if spec.bias.is_some() {
            problems.push("a bias is not of simulations; drive the population with a current".into());
        }
        if !synapses::fits(&spec.weights) {
            problems.push("weights of a simulation are constant, uniform, normal or listed, without modifiers but keep-sign".into());
        }
        match spec.wired() {
            Some(plasticity) => {
                let base = spec.weights.recipe().ok().map(|recipe| recipe.base);
                problems.extend(plasticity.problems(base, self.dt));
            }
            None if spec.normalise.is_some() => {
                problems.push("weights that no rule of plasticity changes are not normalised".into());
            }
            None => {}
        }
        let (pre, post) = (self.populations.get(spec.pre.0), self.populations.get(spec.post.0));
        if let Some(post) = post.and_then(|p| p.model.as_ref())
            && let Some(name) = &spec.receptor
            && !post.receptors().contains(&name.as_str())
        {
            problems.push(format!(
                "`{name}` is not a receptor of its target, which has {}",
                post.receptors().join(", ")
            ));
        }
        if !spec.autapses
            && spec.pre == spec.post
            && pre.is_some_and(|p| p.shape.iter().all(|&side| side == 1))
        {
            problems.push("one neuron without a connection to itself leaves nothing".into());
        }
        if !spec.autapses && matches!(spec.rule, Rule::OneToOne | Rule::Explicit { .. }) {
            problems.push(format!(
                "the rule {} says itself whether a neuron is connected to itself",
                spec.rule.kind()
            ));
        }
    }
}

/// Names become paths in files (`projection.random.gain`) and random streams (`projection/random/weights`).
fn check_name(name: &str) -> Result<(), String> {
    let wrong = |c: char| c.is_whitespace() || c.is_control() || c == '.' || c == '/';
    if name.is_empty() {
        return Err("it has no name".into());
    }
    match name.chars().find(|&c| wrong(c)) {
        Some(c) => Err(format!("{c:?} cannot stand in a name")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snn::Network;
    use crate::snn::builder::DEFAULT_MEMORY;
    use crate::snn::init::Init;
    use crate::snn::neurons::{Lif, Reset};
    use crate::units::Ms;

    fn messages(net: NetworkBuilder) -> Vec<String> {
        match net.build(1) {
            Err(Error::Network(problems)) => problems,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_mistake_is_reported_by_name() {
        let mut net = Network::builder(Ms(0.5));
        let pixels = net.input("pixels", [1, 6, 6]);
        let hidden = net.population("hidden", 10, Lif { decay: 1.5, rest: f32::NAN, ..Lif::default() });
        let again = net.population("hidden", 10, Lif { reset: Reset::To(2.0), ..Lif::default() });
        let empty = net.population("none", 0, Lif::default());
        net.population("flat", [2, 3], Lif::default());
        net.population("a b", 3, Lif::default());
        net.population("huge", [1 << 40, 1 << 40, 1], Lif::default());
        let maps = net.population("maps", [2, 4, 4], Lif::default());
        net.connect(pixels, hidden, Rule::OneToOne);
        net.connect(pixels, hidden, Rule::FixedInDegree { k: 37 });
        net.connect(pixels, hidden, Rule::FixedProbability { p: 1.5 }).name("p");
        net.connect(pixels, maps, Rule::Conv2d { kernel: 5, stride: 1, padding: 0, pool: 1, max_pool: 1 });
        net.connect(pixels, maps, Rule::Conv2d { kernel: 9, stride: 1, padding: 0, pool: 1, max_pool: 1 })
            .name("p");
        net.connect(hidden, pixels, Rule::Dense).delay(Ms(0.25));
        net.connect(hidden, again, Rule::Dense).delay(Ms(0.75)).precision(Precision::Int8);
        net.connect(again, hidden, Rule::Dense)
            .delay(Ms(f64::NAN))
            .name("nan")
            .weights(Init::Normal { mean: 0.0, std: -1.0 });
        net.connect(again, empty, Rule::Dense).name("dale").bias(Init::Constant(f64::INFINITY));
        net.connect(hidden, maps, Rule::LocalFields { min: 1, max: 2 }).name("local");
        net.connect(pixels, again, Rule::LocalFields { min: 3, max: 7 }).name("local7");
        net.connect(pixels, hidden, Rule::Explicit { edges: vec![(0, 0), (36, 0), (0, 10)] }).name("list");
        net.connect(pixels, hidden, Rule::Dense)
            .name("values")
            .weights(Init::Listed(vec![1.0; 5]))
            .bias(Init::Listed(vec![0.0; 2]));
        net.connect(pixels, Pop(99), Rule::Dense).name("nowhere");
        net.connect(hidden, maps, Rule::Dense).name("there");
        net.connect(maps, hidden, Rule::Dense).name("back");
        net.connect(pixels, hidden, Rule::OneToOne).name("");
        let problems = messages(net);
        let expected = [
            "population `hidden`: decay is 1.5; it must be between 0 and 1",
            "population `hidden`: rest is NaN; it must be a finite number",
            "population `hidden`: there is another of that name",
            "population `hidden`: reset is 2; it must be at most the threshold, 1",
            "population `none`: it has no neurons",
            "population `flat`: its shape is [2, 3]; it must be [neurons] or [channels, height, width]",
            "population `a b`: ' ' cannot stand in a name",
            "population `huge`: it has more than 4294967295 neurons",
            "projection `pixels->hidden`: one-to-one needs equal sizes, but they are 36 and 10",
            "projection `pixels->hidden#2`: fan-in is 37; it must be between 1 and the size of the source, 36",
            "projection `p`: probability is 1.5; it must be between 0 and 1",
            "projection `pixels->maps`: the target is 4 × 4; kernel 5, stride 1 and padding 0 make 6 × 6 into 2 × 2",
            "projection `p`: there is another of that name",
            "projection `p`: kernel 9, stride 1 and padding 0 do not fit a source of 6 × 6",
            "projection `hidden->pixels`: delay is 0.25 ms; it must be at least the time step, 0.5 ms",
            "projection `hidden->pixels`: its target `pixels` is an input",
            "projection `hidden->hidden`: delay is 0.75 ms; it must be a multiple of the time step, 0.5 ms",
            "projection `hidden->hidden`: int8 weights cannot be trained; freeze it or store it as f32",
            "projection `nan`: delay is NaN ms; it must be at least the time step, 0.5 ms",
            "projection `nan`: normal mean is 0 and standard deviation -1; they must be finite, the latter at least 0",
            "projection `dale`: bias: weight is inf; it must be a finite number",
            "projection `local`: local fields need a source [channels, height, width], not [10]",
            "projection `local7`: sides of the fields are 3 to 7; they must be in order, between 1 and 6",
            "projection `list`: edge (36, 0) is outside 36 sources and 10 targets, and 1 more",
            "projection `values`: 2 biases are listed; it has 10",
            "projection `values`: 5 weights are listed; it has 360",
            "projection `nowhere`: its target is not a population of this network",
            "projection ``: it has no name",
            "projection ``: one-to-one needs equal sizes, but they are 36 and 10",
            "hidden → maps → hidden is a cycle without a delay; give one of its projections a delay",
        ];
        assert_eq!(problems, expected);
    }

    #[test]
    fn modifiers_that_do_not_fit_are_refused() {
        let normal = || Box::new(Init::Normal { mean: 0.0, std: 1.0 });
        let mut net = Network::builder(Ms(1.0));
        let a = net.input("a", [1, 4, 4]);
        let b = net.population("b", [1, 4, 4], Lif::default());
        let dale = Init::Dale { excitatory: 0.8, magnitude: normal() };
        net.connect(a, b, Rule::Conv2d { kernel: 3, stride: 1, padding: 1, pool: 1, max_pool: 1 })
            .name("conv")
            .weights(dale.clone());
        net.connect(a, b, Rule::Dense).name("both").weights(dale.clone().zero_mean()).bias(dale);
        net.connect(a, b, Rule::OneToOne).name("one").weights(normal().zero_mean());
        net.connect(a, b, Rule::Dense)
            .name("share")
            .weights(Init::Dale { excitatory: 1.0, magnitude: normal() });
        net.connect(a, b, Rule::FixedProbability { p: 0.5 }).name("listed").weights(Init::Listed(vec![]));
        let problems = messages(net);
        assert_eq!(problems.len(), 6, "{problems:#?}");
        assert!(
            problems
                .iter()
                .zip(["conv", "both", "both", "one", "share", "listed"])
                .all(|(p, name)| p.contains(name))
        );
    }

    #[test]
    fn what_does_not_fit_in_memory_is_refused_before_it_is_allocated() {
        let mut net = Network::builder(Ms(1.0));
        let a = net.input("a", 3_000_000_000);
        let b = net.population("b", 2_000_000_000, Lif::default());
        net.connect(a, b, Rule::Dense).frozen();
        match net.build(1) {
            Err(Error::Memory { needed, available, .. }) => {
                assert_eq!(
                    (needed, available),
                    (30_000_000_000_000_000_000u128.min(u64::MAX.into()) as u64, DEFAULT_MEMORY)
                );
            }
            other => panic!("{other:?}"),
        }
        let mut net = Network::builder(Ms(1.0));
        net.memory(1000);
        let a = net.input("a", 10);
        let b = net.population("b", 26, Lif::default());
        net.connect(a, b, Rule::Dense);
        assert!(matches!(net.build(1), Err(Error::Memory { needed: 1040, available: 1000, .. })));
    }

    #[test]
    fn zero_time_step_is_refused() {
        for dt in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(messages(Network::builder(Ms(dt))).len(), 1);
        }
    }

    #[test]
    fn delayed_cycles_are_networks() {
        let mut net = Network::builder(Ms(0.1));
        let a = net.population("a", 2, Lif::default());
        let b = net.population("b", 2, Lif::default());
        net.connect(b, a, Rule::Dense);
        net.connect(a, b, Rule::Dense).delay(Ms(0.3)); // 0.3 / 0.1 is not 3 in floating point
        let net = net.build(1).unwrap();
        assert_eq!(net.order().unwrap(), [b, a]);
        assert_eq!(net.incoming(b).map(|p| p.name.as_str()).collect::<Vec<_>>(), ["a->b"]);
    }
}
