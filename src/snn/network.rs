//! The description of a network: named populations and projections. It holds no state and no device memory.

use super::{
    NetworkBuilder, Neuron,
    connect::Rule,
    draw,
    init::Init,
    stimulus::{Stimulus, Wiring},
    synapses::{self, Delays},
    weights::{Values, Weights},
};
use crate::error::{Error, Result};
use crate::units::Ms;
use std::fmt::Write;

/// A population of a [`Network`], by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pop(pub usize);

/// A network: what there is, drawn from its seed and ready to run.
#[derive(Debug)]
pub struct Network {
    /// Length of a time step.
    pub dt: Ms,
    /// Seed of every random number in it.
    pub seed: u64,
    /// In the order of their declaration.
    pub populations: Vec<Population>,
    /// In the order of their declaration.
    pub projections: Vec<Projection>,
}

/// Neurons of one model, or an input.
#[derive(Debug)]
pub struct Population {
    /// Unique name.
    pub name: String,
    /// `[neurons]` or `[channels, height, width]`.
    pub shape: Vec<usize>,
    /// The model; `None` for an input.
    pub model: Option<Box<dyn Neuron>>,
    /// What a simulation adds.
    pub stimulus: Stimulus,
}

/// Synapses from one population to another.
#[derive(Debug)]
pub struct Projection {
    /// Unique name, by which its random streams are keyed.
    pub name: String,
    /// Source.
    pub pre: Pop,
    /// Target.
    pub post: Pop,
    /// Which pairs are connected.
    pub rule: Rule,
    /// What the weights are drawn from.
    pub init: Init,
    /// Delay; `None` delivers in the same step, from population to population in topological order.
    pub delay: Option<Ms>,
    /// Never trained: no gradient, no optimiser state, compact storage.
    pub frozen: bool,
    /// The weights.
    pub weights: Weights,
    /// Constant input to each target (one per target, or one per channel of a convolution); empty for none.
    pub bias: Vec<f32>,
    /// Factor on all weights and biases, set by calibration: one entry, one per target or one per channel.
    pub gain: Vec<f32>,
    /// What a simulation adds.
    pub wiring: Wiring,
}

/// How many numbers a network has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Weights and biases that training changes.
    pub trained: usize,
    /// Weights and biases that stay as they were drawn.
    pub frozen: usize,
}

/// A named array of a network that a checkpoint keeps.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorRef<'a> {
    /// Dotted path: "projection.random.gain".
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Numbers, row-major.
    pub values: &'a [f32],
}

impl Population {
    /// Number of neurons.
    pub fn size(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Projection {
    /// Sets the factor on weights and biases.
    ///
    /// # Errors
    /// [`Error::Value`] where it is neither one number nor one per target or channel, or where a number is not finite.
    pub fn set_gain(&mut self, gain: Vec<f32>, targets: &Population) -> Result<()> {
        let each = draw::biases(&self.rule, &targets.shape);
        if gain.len() != 1 && gain.len() != each {
            return Err(Error::value(
                format!("gains of `{}`", self.name),
                gain.len(),
                format!("1 or {each} numbers"),
            ));
        }
        if let Some(wrong) = gain.iter().find(|g| !g.is_finite()) {
            return Err(Error::value(format!("gain of `{}`", self.name), wrong, "a finite number"));
        }
        self.gain = gain;
        Ok(())
    }

    fn parameters(&self) -> usize {
        self.weights.values().len() + self.bias.len()
    }
}

impl Network {
    /// Describes a network with time steps of `dt`.
    ///
    /// ```
    /// use ransnn::snn::{Init, Network, Rule, neurons::Lif};
    /// use ransnn::units::Ms;
    ///
    /// let mut net = Network::builder(Ms(1.0));
    /// let pixels = net.input("pixels", 784);
    /// let exc = net.population("exc", 800, Lif::with_tau(Ms(20.0), Ms(1.0)));
    /// let inh = net.population("inh", 200, Lif::with_tau(Ms(10.0), Ms(1.0)));
    /// net.connect(pixels, exc, Rule::Dense).weights(Init::KaimingUniform).frozen();
    /// net.connect(exc, inh, Rule::FixedProbability { p: 0.1 }).weights(Init::Constant(0.6)).delay(Ms(2.0));
    /// net.connect(inh, exc, Rule::FixedProbability { p: 0.2 }).weights(Init::Constant(-0.9)).delay(Ms(1.0));
    /// let net = net.build(7)?;
    /// println!("{}", net.describe());
    /// # assert_eq!(net.parameters().frozen, 784 * 800);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    pub fn builder(dt: Ms) -> NetworkBuilder {
        NetworkBuilder::new(dt, false)
    }

    /// Describes a network that is simulated, not trained: its projections hold no weights. They are drawn when a
    /// simulator is made, straight into its compact tables, so that a network is never in memory twice.
    ///
    /// ```
    /// use ransnn::snn::{Drive, Init, Network, Rule, neurons::Iaf};
    /// use ransnn::units::{Hz, Ms};
    ///
    /// let mut net = Network::simulation(Ms(0.1));
    /// let exc = net.population("exc", 80, Iaf::delta(Ms(20.0), Ms(0.1)));
    /// let inh = net.population("inh", 20, Iaf::delta(Ms(20.0), Ms(0.1)));
    /// for pop in [exc, inh] {
    ///     net.initial(pop, "membrane potential", Init::Uniform { low: 0.0, high: 20.0 });
    ///     net.drive(pop, Drive::Poisson { receptor: "jump".into(), rate: Hz(20_000.0), weight: 0.1 });
    ///     net.connect(exc, pop, Rule::FixedInDegreeMultapses { k: 10 }).weights(Init::Constant(0.1)).delay(Ms(1.5));
    ///     net.connect(inh, pop, Rule::FixedInDegreeMultapses { k: 2 }).weights(Init::Constant(-0.5)).delay(Ms(1.5));
    /// }
    /// assert!(net.build(7).is_ok());
    /// ```
    pub fn simulation(dt: Ms) -> NetworkBuilder {
        NetworkBuilder::new(dt, true)
    }

    /// The population of that name.
    pub fn population(&self, name: &str) -> Option<Pop> {
        self.populations.iter().position(|p| p.name == name).map(Pop)
    }

    /// The projection of that name.
    pub fn projection(&self, name: &str) -> Option<&Projection> {
        self.projections.iter().find(|p| p.name == name)
    }

    /// The projections that end in `pop`, in the order of their declaration.
    pub fn incoming(&self, pop: Pop) -> impl Iterator<Item = &Projection> {
        self.projections.iter().filter(move |p| p.post == pop)
    }

    /// Sets the calibrated gain of a projection; see [`Projection::set_gain`].
    ///
    /// # Errors
    /// Names the projection if there is none of that name, and what is wrong with the gain.
    pub fn set_gain(&mut self, projection: &str, gain: Vec<f32>) -> Result<()> {
        let found = self.projections.iter_mut().find(|p| p.name == projection);
        let projection = found.ok_or_else(|| Error::value("projection", projection, "one of the network"))?;
        projection.set_gain(gain, &self.populations[projection.post.0])
    }

    /// The populations so that sources come before the targets they reach without delay; otherwise as declared.
    ///
    /// # Errors
    /// [`Error::Network`] with the names along a cycle of projections that have no delay. A network out of
    /// [`NetworkBuilder::build`] has none.
    pub fn order(&self) -> Result<Vec<Pop>> {
        let edges: Vec<_> =
            self.projections.iter().filter(|p| p.delay.is_none()).map(|p| (p.pre.0, p.post.0)).collect();
        sort(self.populations.len(), &edges)
            .map(|order| order.into_iter().map(Pop).collect())
            .map_err(|cycle| Error::Network(vec![describe_cycle(&cycle, |i| &self.populations[i].name)]))
    }

    /// Counts weights and biases.
    pub fn parameters(&self) -> Parameters {
        self.projections.iter().fold(Parameters::default(), |sum, p| match p.frozen {
            true => Parameters { frozen: sum.frozen + p.parameters(), ..sum },
            false => Parameters { trained: sum.trained + p.parameters(), ..sum },
        })
    }

    /// Synapses that each projection of a simulation is expected to have, and the bytes that they take: before they are
    /// drawn, rounded up.
    pub fn expected_synapses(&self) -> Vec<(u64, u64)> {
        let one = |p: &Projection| {
            let [pre, post] = [p.pre, p.post].map(|pop| &self.populations[pop.0]);
            let synapses = p.rule.weights(&pre.shape, &post.shape);
            let same = p.wiring.delays.as_ref().is_none_or(|delays| matches!(delays, Init::Constant(_)));
            let delays = if same { Delays::Same(1) } else { Delays::Each(Vec::new()) };
            let plastic = p.wiring.plasticity.as_ref();
            let bytes = synapses::bytes(&p.init, &delays, plastic, synapses, pre.size());
            (synapses.ceil() as u64, bytes as u64)
        };
        self.projections.iter().map(one).collect()
    }

    /// What a checkpoint keeps: weights and biases of trainable projections, and the gain of every projection, since
    /// calibration has seen data. Frozen weights come back from the seed.
    pub fn tensors(&self) -> Vec<TensorRef<'_>> {
        let mut tensors = Vec::new();
        for p in &self.projections {
            let mut push = |what: &str, shape: Vec<usize>, values| {
                tensors.push(TensorRef { name: format!("projection.{}.{what}", p.name), shape, values });
            };
            if let (false, Values::F32(values)) = (p.frozen, p.weights.values()) {
                push("weights", p.weights.shape(), values);
            }
            if !p.frozen && !p.bias.is_empty() {
                push("bias", vec![p.bias.len()], &p.bias);
            }
            push("gain", vec![p.gain.len()], &p.gain);
        }
        tensors
    }

    /// Puts back an array of [`Network::tensors`].
    ///
    /// # Errors
    /// Names what is not part of this network, or whose shape differs.
    pub fn set_tensor(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<()> {
        let unknown =
            || Error::value("tensor", name, "the weights, bias or gain of a projection of this network");
        let (projection, what) =
            name.strip_prefix("projection.").and_then(|rest| rest.rsplit_once('.')).ok_or_else(unknown)?;
        if what == "gain" {
            return self.set_gain(projection, values.to_vec());
        }
        let p =
            self.projections.iter_mut().find(|p| p.name == projection && !p.frozen).ok_or_else(unknown)?;
        let expected = if what == "weights" { p.weights.shape() } else { vec![p.bias.len()] };
        let place = match (what, p.weights.values_mut()) {
            ("weights", Values::F32(weights)) => weights,
            ("bias", _) if !p.bias.is_empty() => &mut p.bias,
            _ => return Err(unknown()),
        };
        if shape != expected || values.len() != place.len() {
            return Err(Error::value(
                format!("shape of `{name}`"),
                format!("{shape:?}"),
                format!("{expected:?}"),
            ));
        }
        place.copy_from_slice(values);
        Ok(())
    }

    /// A summary in text: a line for each population and each projection, then the totals.
    pub fn describe(&self) -> String {
        let width = |names: &mut dyn Iterator<Item = usize>| names.max().unwrap_or(0);
        let populations = width(&mut self.populations.iter().map(|p| p.name.len()));
        let projections = width(&mut self.projections.iter().map(|p| p.name.len()));
        let mut text = format!("network of {} steps, seed {}\n", self.dt, self.seed);
        for p in &self.populations {
            let shape: Vec<_> = p.shape.iter().map(usize::to_string).collect();
            let model = p.model.as_ref().map_or("input", |m| m.kind());
            let _ = writeln!(text, "  {:populations$}  {model}  {}", p.name, shape.join(" × "));
        }
        for p in &self.projections {
            let storage = match p.weights.values() {
                Values::Int8 { .. } => "int8",
                Values::F32(_) => "f32",
            };
            let _ = write!(
                text,
                "  {:projections$}  {} → {}  {}  {} synapses, {} weights in {} bytes  {} {storage}",
                p.name,
                self.populations[p.pre.0].name,
                self.populations[p.post.0].name,
                p.rule.kind(),
                p.weights.synapses(),
                p.weights.values().len(),
                p.weights.bytes(),
                if p.frozen { "frozen" } else { "trained" },
            );
            if let Some(delay) = p.delay {
                let _ = write!(text, "  delay {delay}");
            }
            if let Some(plasticity) = &p.wiring.plasticity {
                let _ = write!(text, "  plastic by the rule {}", plasticity.rule.kind());
            }
            text.push('\n');
        }
        let Parameters { trained, frozen } = self.parameters();
        let _ = writeln!(text, "  {trained} parameters trained, {frozen} frozen");
        text
    }
}

/// Topological order, the smallest number first wherever there is a choice; or a cycle.
pub(super) fn sort(nodes: usize, edges: &[(usize, usize)]) -> Result<Vec<usize>, Vec<usize>> {
    let mut waits = vec![0usize; nodes];
    edges.iter().for_each(|&(_, to)| waits[to] += 1);
    let mut ready: std::collections::BTreeSet<usize> = (0..nodes).filter(|&n| waits[n] == 0).collect();
    let mut order = Vec::with_capacity(nodes);
    while let Some(node) = ready.pop_first() {
        order.push(node);
        for &(_, to) in edges.iter().filter(|&&(from, _)| from == node) {
            waits[to] -= 1;
            if waits[to] == 0 {
                ready.insert(to);
            }
        }
    }
    if order.len() == nodes {
        return Ok(order);
    }
    // Whoever still waits has a source that waits: walking back must meet a node twice.
    let mut path: Vec<usize> = (0..nodes).find(|&n| waits[n] > 0).into_iter().collect();
    loop {
        let last = path[path.len() - 1];
        let Some(&(before, _)) = edges.iter().find(|&&(from, to)| to == last && waits[from] > 0) else {
            return Err(path); // cannot happen, see above
        };
        if let Some(start) = path.iter().position(|&n| n == before) {
            let mut cycle = path.split_off(start);
            cycle.reverse();
            let first = (0..cycle.len()).min_by_key(|&i| cycle[i]).unwrap_or(0);
            cycle.rotate_left(first);
            return Err(cycle);
        }
        path.push(before);
    }
}

pub(super) fn describe_cycle<'a>(cycle: &[usize], name: impl Fn(usize) -> &'a str) -> String {
    let names: Vec<_> = cycle.iter().chain(cycle.first()).map(|&i| name(i)).collect();
    format!("{} is a cycle without a delay; give one of its projections a delay", names.join(" → "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snn::neurons::Lif;

    fn network(seed: u64) -> Network {
        let mut net = Network::builder(Ms(1.0));
        let pixels = net.input("pixels", [1, 8, 8]);
        let maps = net.population("maps", [3, 8, 8], Lif::default());
        let out = net.population("out", 10, Lif::default());
        let conv = Rule::Conv2d { kernel: 3, stride: 1, padding: 1, pool: 1, max_pool: 1 };
        net.connect(pixels, maps, conv).name("random").frozen();
        net.connect(maps, out, Rule::Dense).name("readout").bias(Init::Constant(0.0));
        net.connect(out, out, Rule::FixedProbability { p: 0.5 }).delay(Ms(2.0)).frozen();
        net.build(seed).unwrap()
    }

    #[test]
    fn things_are_found_by_name() {
        let net = network(0);
        assert_eq!(net.population("out"), Some(Pop(2)));
        assert_eq!(net.population("in"), None);
        assert_eq!(net.projection("out->out").unwrap().delay, Some(Ms(2.0)));
        assert_eq!(
            net.incoming(Pop(2)).map(|p| p.name.as_str()).collect::<Vec<_>>(),
            ["readout", "out->out"]
        );
        let synapses = net.projections[2].weights.synapses();
        assert_eq!(net.parameters(), Parameters { trained: 192 * 10 + 10, frozen: 27 + synapses });
    }

    #[test]
    fn a_checkpoint_restores_what_was_trained() {
        let (mut trained, mut fresh) = (network(1), network(1));
        trained.set_gain("random", vec![0.1, 0.2, 0.3]).unwrap();
        let (Values::F32(weights), bias) = (&mut trained.projections[1].weights.values_mut(), [0.5; 10])
        else {
            panic!()
        };
        weights.iter_mut().for_each(|w| *w += 1.0);
        trained.projections[1].bias = bias.to_vec();
        let names: Vec<_> = trained.tensors().into_iter().map(|t| t.name).collect();
        let gains = ["projection.random.gain", "projection.readout.weights", "projection.readout.bias"];
        assert_eq!(names[..3], gains);
        assert_ne!(fresh.tensors(), trained.tensors());
        for t in trained.tensors() {
            fresh.set_tensor(&t.name, &t.shape, t.values).unwrap();
        }
        assert_eq!(fresh.tensors(), trained.tensors());
        assert_eq!(fresh.projections[0].weights, trained.projections[0].weights);
    }

    #[test]
    fn what_does_not_belong_is_refused() {
        let mut net = network(1);
        let fails = |net: &mut Network, name: &str, shape: &[usize], n| {
            net.set_tensor(name, shape, &vec![0.0; n]).is_err()
        };
        assert!(fails(&mut net, "projection.random.weights", &[3, 1, 3, 3], 27)); // frozen
        assert!(fails(&mut net, "projection.readout.weights", &[10, 192], 1920)); // transposed
        assert!(fails(&mut net, "projection.readout.bias", &[10], 9));
        assert!(fails(&mut net, "projection.none.weights", &[10], 10));
        assert!(fails(&mut net, "readout.bias", &[10], 10));
        assert!(net.set_gain("random", vec![1.0; 2]).is_err());
        assert!(net.set_gain("random", vec![f32::NAN]).is_err());
        assert!(net.set_gain("none", vec![1.0]).is_err());
        net.set_tensor("projection.readout.bias", &[10], &[1.0; 10]).unwrap();
    }

    #[test]
    fn order_or_the_cycle() {
        assert_eq!(sort(4, &[(2, 1), (3, 2), (3, 0)]), Ok(vec![3, 0, 2, 1]));
        assert_eq!(sort(5, &[(0, 1), (1, 2), (2, 3), (3, 1), (3, 4)]), Err(vec![1, 2, 3]));
        assert_eq!(sort(2, &[(1, 1)]), Err(vec![1]));
        assert_eq!(network(0).order().unwrap(), [Pop(0), Pop(1), Pop(2)]);
    }

    #[test]
    fn description_names_everything() {
        let text = network(7).describe();
        for part in [
            "1 ms",
            "seed 7",
            "maps    lif  3 × 8 × 8",
            "pixels → maps  conv2d",
            "int8",
            "delay 2 ms",
            "1930 parameters trained",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn synapses_of_a_convolution_are_those_inside() {
        // 8 rows with a kernel of 3 and padding 1 see 3·8 − 2 rows.
        assert_eq!(network(0).projections[0].weights.synapses(), 3 * 22 * 22);
    }
}
