//! A network as the flat tables that `kernels/simulate.cu` reads.
//!
//! What a neuron receives is added up in channels, the same as on the CPU and in the same order: spikes that share one
//! weight and one delay are counted; individual weights, and individual delays, are summed.

use super::plastic::{self, Spec};
use super::procedural::{self, Connectivity};
use crate::engine::clock::{self, Poisson};
use crate::error::{Error, Result};
use crate::rng::Stream;
use crate::snn::plasticity;
use crate::snn::synapses::procedural::{self as rows, Numbers};
use crate::snn::synapses::{Block, Delays, MOST_TARGETS, Strengths};
use crate::snn::{Drive, GpuModel, Init, Network, Neuron, Population, Synapses, stimulus};
use crate::tensor::kernels::ElementType;
use crate::units::Ms;

/// Neurons of a block of threads: each population is padded to whole ones.
pub(super) const BLOCK: usize = 256;
/// Most steps of a stretch.
const LONGEST_STRETCH: u32 = 16;
/// A spike names its population in 16 bits.
const MOST_POPULATIONS: usize = 1 << 16;
/// The unit of a sum is 2⁻⁵⁴ of the largest one; the rest of 63 bits is for sources that fire several times in a step.
const BITS: i32 = 54;

/// Tables, and what is to be known of them.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Header, small tables, edges of Poisson distributions.
    pub words: Vec<u32>,
    /// Of models; amplitudes of currents.
    pub constants: Vec<f32>,
    /// State before the first step.
    pub state: Vec<f32>,
    /// Per table: where its targets, weights and delays begin.
    pub bases: Vec<u64>,
    pub offsets: Vec<u32>,
    pub targets: Vec<u16>,
    pub weights: Vec<f32>,
    pub delays: Vec<u8>,
    pub long_delays: Vec<u16>,
    /// Places of the rings.
    pub counts: usize,
    pub sums: usize,
    /// Of each population of the network; `None` for inputs.
    pub places: Vec<Option<Place>>,
    pub blocks: usize,
    /// Neurons with padding.
    pub padded: usize,
    /// Steps of a stretch.
    pub stretch: u64,
    /// Steps of the rings.
    pub slots: u64,
    /// Most tables that begin at one population.
    pub fan: usize,
    /// Number of synapses and bytes of their tables, of each projection.
    pub synapses: Vec<(u64, u64)>,
    /// The synapses whose weights change.
    pub plastic: Vec<Spec>,
    /// The projections that are drawn again and not stored.
    pub procedural: Vec<procedural::Spec>,
}

/// Where a population is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Its first neuron among all.
    pub first: usize,
    /// Its first number in the state.
    pub state: usize,
    pub size: usize,
    pub padded: usize,
}

/// A model and its kernel.
struct Model<'n> {
    neuron: &'n dyn Neuron,
    number: GpuModel,
    constants: Vec<f32>,
}

/// Where spikes are added up until the neurons take them.
struct Channel {
    receptor: u32,
    kind: Kind,
    /// Largest possible sum of a step, per neuron.
    most: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Spikes of one weight and one delay: their number.
    Count(f64),
    /// Individual weights, one delay.
    Sum,
    /// Individual delays.
    Ring,
}

/// The synapses of a projection onto a block of targets.
struct Table {
    pre: usize,
    post: usize,
    channel: usize,
    words: [u32; 7],
    bases: [u64; 3],
}

impl Layout {
    /// Draws the synapses, or counts them.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for models and rules that have no kernel, by name; what cannot be drawn, or drawn again.
    pub fn new(net: &Network, connectivity: Connectivity) -> Result<Self> {
        connectivity.check(net)?;
        let mut layout = Self::default();
        let mut channels: Vec<Vec<Channel>> = net.populations.iter().map(|_| Vec::new()).collect();
        let mut tables = Vec::new();
        let (mut shortest, mut longest) = (LONGEST_STRETCH, 1);
        if net.populations.len() > MOST_POPULATIONS {
            let expected = format!("at most {MOST_POPULATIONS} on a GPU");
            return Err(Error::value("number of populations", net.populations.len(), expected));
        }
        let models = net.populations.iter().map(model).collect::<Result<Vec<_>>>()?;
        for (index, p) in net.projections.iter().enumerate() {
            let source = net.populations[p.pre.0].stimulus.source.as_ref();
            let rule = p.wiring.plasticity.as_ref().map(|plasticity| Spec::rule(p, plasticity, source));
            let rule = rule.transpose()?;
            let size = net.populations[p.post.0].size();
            let mut within = |(least, most): (u32, u32)| {
                (shortest, longest) = (shortest.min(least), longest.max(most));
            };
            if connectivity == Connectivity::Procedural {
                layout.draw_again(net, index, &mut channels[p.post.0])?.map(&mut within);
                continue;
            }
            let synapses = Synapses::draw(net, index, &clock::cut(size, MOST_TARGETS, 1), false)?;
            layout.synapses.push((synapses.len(), synapses.bytes()));
            let Some(delays) = synapses.delay_range().filter(|_| !synapses.is_empty()) else { continue };
            within(delays);
            for block in synapses.blocks {
                let (pre, post) = (p.pre.0, p.post.0);
                let channel =
                    block_channel(&mut channels[post], p.wiring.receptor as u32, &block, size, rule);
                let Some(rule) = rule else {
                    tables.push(layout.table(pre, post, channel, block)?);
                    continue;
                };
                let (projection, ring, padded, scale) = (index, 0, 0, 0.0);
                layout.plastic.push(Spec {
                    projection,
                    pre,
                    post,
                    channel,
                    ring,
                    padded,
                    scale,
                    rule,
                    block,
                });
            }
        }
        // Weights may change in any step, and what arrives in the next one depends on them.
        let stretch = if layout.plastic.is_empty() { shortest } else { 1 };
        (layout.stretch, layout.slots) = (stretch.into(), u64::from(longest) + 1);
        layout.assemble(net, &models, &channels, tables)?;
        Ok(layout)
    }

    /// Bytes on a GPU in steps of `dt`, without what recording takes.
    pub fn bytes(&self, dt: Ms) -> u64 {
        let bytes = |n: usize, kind: ElementType| (n * kind.size()) as u64;
        bytes(self.words.len() + self.offsets.len() + self.counts, ElementType::U32)
            + bytes(self.constants.len() + self.state.len() + self.weights.len(), ElementType::F32)
            + bytes(self.bases.len() + self.sums + self.spikes(), ElementType::U64)
            + bytes(self.targets.len() + self.long_delays.len(), ElementType::U16)
            + bytes(self.delays.len(), ElementType::U8)
            + plastic::bytes(&self.plastic, self.slots, dt)
            + procedural::BYTES * self.procedural.len() as u64
    }

    /// Most spikes of a stretch.
    pub fn spikes(&self) -> usize {
        self.padded * self.stretch as usize
    }

    /// A projection whose synapses are counted, and drawn again by the kernel; its delays in steps, where it has any synapse.
    fn draw_again(
        &mut self,
        net: &Network,
        index: usize,
        channels: &mut Vec<Channel>,
    ) -> Result<Option<(u32, u32)>> {
        let (p, row) = (&net.projections[index], rows::Procedural::new(net, index)?);
        let kind = match (row.delays, row.weights) {
            (Numbers::Same(_), Numbers::Same(weight)) => Kind::Count(f64::from(weight as f32)),
            (Numbers::Same(_), _) => Kind::Sum,
            _ => Kind::Ring,
        };
        let (size, before) = (net.populations[p.post.0].size(), channels.len());
        let channel = channel(channels, p.wiring.receptor as u32, kind, size);
        let most = if let Kind::Count(_) = kind { &mut [][..] } else { &mut channels[channel].most };
        let survey = rows::survey(net, index, most)?;
        self.synapses.push((survey.synapses, procedural::BYTES));
        if survey.synapses == 0 {
            // Without a ring that nothing would be added to.
            channels.truncate(before);
            return Ok(None);
        }
        let (pre, post, sums, ring, padded, scale) = (p.pre.0, p.post.0, 0, 0, 0, 0.0);
        self.procedural.push(procedural::Spec { pre, post, channel, sums, ring, padded, scale, row });
        Ok(survey.delays)
    }

    /// Appends the synapses of a block.
    fn table(&mut self, pre: usize, post: usize, channel: usize, block: Block) -> Result<Table> {
        let bases = |n: usize| n as u64;
        let starts = [self.targets.len(), self.weights.len()].map(bases);
        let offsets = word(self.offsets.len(), "sources of all projections")?;
        let (own_weights, weight) = match &block.weights {
            Strengths::Same(weight) => (0, *weight as f32),
            Strengths::F32(weights) => {
                self.weights.extend_from_slice(weights);
                (1, 0.0)
            }
            Strengths::F64(weights) => {
                self.weights.extend(weights.iter().map(|&weight| weight as f32));
                (1, 0.0)
            }
        };
        let (kind, delay, start) = match &block.delays {
            Delays::Same(steps) => (0, *steps, 0),
            Delays::Short(steps) => {
                let start = self.delays.len();
                self.delays.extend_from_slice(steps);
                (1, 0, start)
            }
            Delays::Each(steps) => {
                let start = self.long_delays.len();
                self.long_delays.extend_from_slice(steps);
                (2, 0, start)
            }
        };
        self.offsets.extend_from_slice(&block.offsets);
        self.targets.extend_from_slice(&block.targets);
        let words = [own_weights, kind, delay, block.range.start, weight.to_bits(), offsets, 0];
        Ok(Table { pre, post, channel, words, bases: [starts[0], starts[1], bases(start)] })
    }

    /// The small tables.
    fn assemble(
        &mut self,
        net: &Network,
        models: &[Option<Model<'_>>],
        channels: &[Vec<Channel>],
        mut tables: Vec<Table>,
    ) -> Result<()> {
        let (mut blocks, mut populations, mut all_channels, mut drives) = (vec![], vec![], vec![], vec![]);
        // Where each population's channels begin among all.
        let mut first_channel = Vec::new();
        let (mut edges, mut drive_edges) = (Vec::new(), Vec::new());
        for (index, (p, model)) in net.populations.iter().zip(models).enumerate() {
            first_channel.push(all_channels.len() / CHANNEL_WORDS);
            let Some(Model { neuron, number, constants }) = model else {
                self.places.push(None);
                continue;
            };
            let (size, padded) = (p.size(), p.size().next_multiple_of(BLOCK));
            let place = Place { first: self.padded, state: self.state.len(), size, padded };
            for first in (0..padded).step_by(BLOCK) {
                blocks.extend([populations.len() as u32 / POPULATION_WORDS, first as u32]);
            }
            let constants_at = self.constants.len();
            self.constants.extend_from_slice(constants);
            let initial = clock::initial(net, index, *neuron)?;
            for values in &initial {
                self.state.extend(values.iter().map(|&v| v as f32));
                self.state.resize(self.state.len() + padded - size, 0.0);
            }
            for channel in &channels[index] {
                let places = padded * self.slots as usize;
                let (sums, factor, scale, ring) = match channel.kind {
                    Kind::Count(weight) => (0, weight as f32, 0.0, &mut self.counts),
                    Kind::Sum | Kind::Ring => {
                        let power = power(&channel.most);
                        (1, 2f32.powi(-power), 2f32.powi(power), &mut self.sums)
                    }
                };
                let at = word(*ring, "places of all delays")?;
                *ring += places;
                all_channels.extend([
                    channel.receptor,
                    sums,
                    at,
                    padded as u32,
                    factor.to_bits(),
                    scale.to_bits(),
                ]);
            }
            let first_drive = drives.len() / DRIVE_WORDS;
            for (i, drive) in p.stimulus.drives.iter().enumerate() {
                let words = self.drive(net, p, *neuron, (i, drive), &mut edges)?;
                drive_edges.push(drives.len());
                drives.extend(words);
            }
            let channels_end = all_channels.len() / CHANNEL_WORDS;
            populations.extend([
                size as u32,
                padded as u32,
                word(place.first, "neurons")?,
                index as u32,
                *number as u32,
                word(constants_at, "constants and amplitudes")?,
                word(place.state, "state variables")?,
                initial.len() as u32,
                first_channel[index] as u32,
                channels_end as u32,
                first_drive as u32,
                (drives.len() / DRIVE_WORDS) as u32,
            ]);
            self.padded += padded;
            self.places.push(Some(place));
        }
        for spec in &mut self.plastic {
            let words = &all_channels[CHANNEL_WORDS * (first_channel[spec.post] + spec.channel)..];
            (spec.ring, spec.padded, spec.scale) = (words[2], words[3], f32::from_bits(words[5]));
        }
        for spec in &mut self.procedural {
            let words = &all_channels[CHANNEL_WORDS * (first_channel[spec.post] + spec.channel)..];
            (spec.sums, spec.ring, spec.padded) = (words[1], words[2], words[3]);
            spec.scale = f32::from_bits(words[5]);
        }
        tables.sort_by_key(|table| table.pre); // stable
        let (mut fans, mut words) = (vec![0u32], Vec::new());
        for pre in 0..net.populations.len() {
            let from = fans[pre] as usize;
            let until = from + tables[from..].iter().take_while(|table| table.pre == pre).count();
            self.fan = self.fan.max(until - from);
            fans.push(until as u32);
        }
        for table in &tables {
            words.push((first_channel[table.post] + table.channel) as u32);
            words.extend(table.words);
            self.bases.extend(table.bases.into_iter().chain([0]));
        }
        self.blocks = blocks.len() / 2;
        let parts = [blocks, populations, all_channels, drives, fans, words];
        let mut at = parts.len();
        for part in &parts {
            self.words.push(at as u32);
            at += part.len();
        }
        // Edges are named by their place among all words.
        let drives_at = self.words[3] as usize;
        self.words.extend(parts.iter().flatten());
        for drive in drive_edges {
            for edge in [4, 5] {
                self.words[drives_at + drive + edge] += at as u32;
            }
        }
        self.words.extend(edges);
        word(self.words.len(), "words of the network's description")?;
        Ok(())
    }

    /// The words of a drive; its edges are counted from the first of all.
    fn drive(
        &mut self,
        net: &Network,
        p: &Population,
        model: &dyn Neuron,
        (i, drive): (usize, &Drive),
        edges: &mut Vec<u32>,
    ) -> Result<[u32; DRIVE_WORDS]> {
        let name = format!("population/{}/drive/{i}", p.name);
        let receptor = model.receptors().iter().position(|r| *r == drive.receptor()).unwrap_or(0) as u32;
        Ok(match drive {
            Drive::Poisson { rate, weight, .. } => {
                let poisson = Poisson::new(net.seed, &name, rate.0 * net.dt.0 / 1000.0);
                let from = edges.len() as u32;
                edges.extend(&poisson.cumulative);
                let ([key0, key1], weight) = (poisson.stream.key(), (*weight as f32).to_bits());
                [receptor, 1, key0, key1, from, edges.len() as u32, 0, weight, 0, 0, 0, 0]
            }
            Drive::Current { amplitude, from, until, .. } => {
                let at = word(self.constants.len(), "constants and amplitudes")?;
                let all = stimulus::drawn(amplitude, p.size(), &Stream::named(net.seed, &name))?;
                self.constants.extend(all.iter().map(|&a| a as f32));
                let step = |time: &Ms| (time.0 / net.dt.0).round() as u64;
                let [from, until] = [step(from), step(until)];
                let halves = |x: u64| [x as u32, (x >> 32) as u32];
                let ([from, from_high], [until, until_high]) = (halves(from), halves(until));
                [receptor, 0, 0, 0, 0, 0, at, 0, from, from_high, until, until_high]
            }
        })
    }
}

/// Bytes that a network with delays of at most `longest` steps is expected to take on a GPU, before anything is drawn;
/// without what recording takes.
pub fn planned_bytes(net: &Network, longest: u64, connectivity: Connectivity) -> u64 {
    let slots = longest.saturating_add(1);
    let mut bytes = 0u64;
    for (index, p) in net.populations.iter().enumerate() {
        let Some(model) = &p.model else { continue };
        let padded = p.size().next_multiple_of(BLOCK) as u64;
        let mut channels: Vec<(usize, Option<u64>)> = Vec::new();
        for edge in net.projections.iter().filter(|edge| edge.post.0 == index) {
            let counted = match (&edge.wiring.delays, &edge.init) {
                (None, Init::Constant(weight)) => Some(weight.to_bits()),
                _ => None,
            };
            let channel = (edge.wiring.receptor, counted);
            if !channels.contains(&channel) {
                channels.push(channel);
            }
        }
        let ring: u64 = channels.iter().map(|(_, counted)| if counted.is_some() { 4 } else { 8 }).sum();
        let each = 4 * model.state().len() as u64 + 8 * u64::from(LONGEST_STRETCH);
        bytes = bytes.saturating_add(padded.saturating_mul(slots.saturating_mul(ring).saturating_add(each)));
    }
    let each = net.expected_synapses().into_iter().map(|(_, synapses)| match connectivity {
        Connectivity::Stored => synapses,
        Connectivity::Procedural => procedural::BYTES,
    });
    each.fold(bytes, u64::saturating_add)
}

const POPULATION_WORDS: u32 = 12;
const CHANNEL_WORDS: usize = 6;
const DRIVE_WORDS: usize = 12;

/// The kernel of a population's model.
fn model(p: &Population) -> Result<Option<Model<'_>>> {
    let Some(model) = p.model.as_deref() else { return Ok(None) };
    model.validate()?;
    match model.on_gpu() {
        Some((number, constants)) => Ok(Some(Model { neuron: model, number, constants })),
        None => Err(lacks(format!("with neurons of the model `{}`, in `{}`", model.kind(), p.name))),
    }
}

/// A channel, found or made.
fn channel(channels: &mut Vec<Channel>, receptor: u32, kind: Kind, size: usize) -> usize {
    let found = channels.iter().position(|channel| channel.receptor == receptor && channel.kind == kind);
    found.unwrap_or_else(|| {
        channels.push(Channel { receptor, kind, most: vec![0.0; size] });
        channels.len() - 1
    })
}

/// The channel of a table, with the table's part in its largest sum.
fn block_channel(
    channels: &mut Vec<Channel>,
    receptor: u32,
    block: &Block,
    size: usize,
    rule: Option<plasticity::Rule>,
) -> usize {
    let kind = match (&block.delays, &block.weights) {
        (Delays::Same(_), Strengths::Same(weight)) => Kind::Count(f64::from(*weight as f32)),
        (Delays::Same(_), _) => Kind::Sum,
        _ => Kind::Ring,
    };
    let at = channel(channels, receptor, kind, size);
    if !matches!(kind, Kind::Count(_)) {
        let most = &mut channels[at].most[block.range.start as usize..];
        for (i, &target) in block.targets.iter().enumerate() {
            let bounds =
                rule.map(|rule| rule.bounds().into_iter().fold(0.0, |most: f64, b| most.max(b.abs())));
            most[usize::from(target)] += bounds.unwrap_or_else(|| block.weights.get(i).abs());
        }
    }
    at
}

/// The power of two by which sums are multiplied before they are rounded to integers.
fn power(most: &[f64]) -> i32 {
    let most = most.iter().copied().fold(0.0, f64::max);
    if most == 0.0 { 0 } else { (BITS - 1 - most.log2().floor() as i32).clamp(-126, 126) }
}

pub(super) fn word(value: usize, what: &str) -> Result<u32> {
    u32::try_from(value).map_err(|_| Error::value(format!("number of {what}"), value, "below 2³² on a GPU"))
}

pub(super) fn lacks(why: String) -> Error {
    Error::Unsupported { op: "a simulation", on: format!("on a GPU {why}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snn::Rule;
    use crate::snn::neurons::{Alpha, Iaf};
    use crate::tensor::kernels;

    #[test]
    fn models_have_the_numbers_of_the_kernels() {
        let (_, text) = kernels::HEADERS.iter().find(|(name, _)| *name == "neurons.cuh").expect("a header");
        let number = |name: &str| -> u32 {
            let define = format!("#define MODEL_{name} ");
            let line = text.lines().find_map(|line| line.strip_prefix(define.as_str()));
            line.and_then(|value| value.parse().ok()).expect("the kernel defines it")
        };
        use GpuModel::{AdEx, AdaptiveLif, AlphaLif, CondLif, IafDelta, IafOne, IafTwo, Izhikevich, Lif};
        let all = [
            ("IAF_DELTA", IafDelta),
            ("IAF_ONE", IafOne),
            ("IAF_TWO", IafTwo),
            ("LIF", Lif),
            ("COND_LIF", CondLif),
            ("ADAPTIVE_LIF", AdaptiveLif),
            ("IZHIKEVICH", Izhikevich),
            ("ALPHA_LIF", AlphaLif),
            ("ADEX", AdEx),
        ];
        all.iter().for_each(|&(name, model)| assert_eq!(number(name), model as u32, "{name}"));
    }

    #[test]
    fn the_unit_of_sums_leaves_room() {
        assert_eq!(power(&[]), 0);
        assert_eq!(power(&[1.0]), 53);
        assert_eq!(power(&[0.5, 3.9]), 52);
        assert_eq!(power(&[1e-40]), 126);
    }

    #[test]
    fn what_has_no_kernel_is_named() -> Result<()> {
        let dt = Ms(0.1);
        let mut net = Network::simulation(dt);
        net.population("cells", 3, Alpha::new(0.85, 0.6));
        let error = Layout::new(&net.build(1)?, Connectivity::Stored).expect_err("refused").to_string();
        assert!(
            error.contains("on a GPU") && error.contains("`alpha`") && error.contains("`cells`"),
            "{error}"
        );

        let mut net = Network::simulation(dt);
        let cells = net.population("cells", 3, Iaf::delta(Ms(20.0), dt));
        net.connect(cells, cells, Rule::Dense)
            .weights(Init::Constant(0.1))
            .delays(Init::Uniform { low: 0.1, high: 0.5 })
            .plasticity(plasticity::Pair::default());
        let error = Layout::new(&net.build(1)?, Connectivity::Stored).expect_err("refused").to_string();
        let what = "a delay for each synapse, in the plastic projection `cells->cells`";
        assert!(error.contains(what), "{error}");
        Ok(())
    }

    #[test]
    fn channels_are_shared_by_what_is_added_alike() -> Result<()> {
        let dt = Ms(0.1);
        let mut net = Network::simulation(dt);
        let cells = net.population("cells", 300, Iaf::delta(Ms(20.0), dt));
        let fixed = Rule::FixedInDegree { k: 2 };
        net.connect(cells, cells, fixed.clone()).name("a").weights(Init::Constant(0.1)).delay(Ms(0.3));
        net.connect(cells, cells, fixed.clone()).name("b").weights(Init::Constant(0.1)).delay(Ms(2.0));
        let drawn = Init::Uniform { low: 0.0, high: 0.1 };
        net.connect(cells, cells, fixed.clone()).name("c").weights(drawn).delay(Ms(0.3));
        let delays = Init::Uniform { low: 0.3, high: 1.0 };
        net.connect(cells, cells, fixed).name("d").weights(Init::Constant(0.1)).delays(delays);
        let layout = Layout::new(&net.build(1)?, Connectivity::Stored)?;
        assert_eq!((layout.stretch, layout.slots, layout.fan, layout.blocks), (3, 21, 4, 2));
        // One ring of counts for a and b; one of sums for c, another for d.
        assert_eq!((layout.counts, layout.sums), (21 * 512, 2 * 21 * 512));
        assert_eq!((layout.targets.len(), layout.weights.len(), layout.delays.len()), (2400, 600, 600));
        Ok(())
    }

    #[test]
    fn a_projection_without_synapses_takes_no_ring() -> Result<()> {
        let dt = Ms(0.1);
        let mut net = Network::simulation(dt);
        let cells = net.population("cells", 300, Iaf::delta(Ms(20.0), dt));
        net.connect(cells, cells, Rule::FixedProbability { p: 0.5 })
            .name("some")
            .weights(Init::Constant(0.1))
            .delay(Ms(0.3));
        net.connect(cells, cells, Rule::FixedProbability { p: 0.0 })
            .name("none")
            .weights(Init::Constant(0.2))
            .delay(Ms(5.0));
        let net = net.build(1)?;
        for connectivity in [Connectivity::Stored, Connectivity::Procedural] {
            let layout = Layout::new(&net, connectivity)?;
            assert_eq!((layout.slots, layout.counts), (4, 4 * 512), "{connectivity:?}");
        }
        Ok(())
    }
}
