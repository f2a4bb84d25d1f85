//! Samples presented to a network, one chunk of them after another.
//!
//! The network is compiled into layers, sources before targets. A chunk of a few samples runs on one thread; it goes
//! through stretches of at most `STRETCH` (64) steps, and in each stretch through the layers: spikes of the sources are
//! delivered, the neurons advance, their spikes become lists for the layers after them. Layers in a loop take turns over
//! as few steps as the shortest delay back allows. Dense layers are worked on in tiles of 64 targets, so that the weights
//! and the state of a tile stay in the cache over all steps and samples.
//!
//! The current of a neuron is the sum over its projections of `sum · scale + bias`, constant inputs first, then in
//! the order of declaration, each product and sum rounded to f32. A spike acts in the same step on all layers after, and
//! by a projection with a delay so many steps later.

use super::{
    constant::{Place, Rows, Work},
    encoder::{Encoder, Sample},
    events::Events,
    layer::{self, Layer, Model},
    record::{Activity, Feature, Probe, Recording, Slice, What},
    simd::{Block, Currents, Simd, TILE},
    synapses::{Sums, Synapses},
};
use crate::{
    error::{Error, Result},
    rng::Stream,
    snn::{Component, Encoding, Network, Population, neurons::Lif},
};
use rayon::prelude::*;
use std::ops::Range;

/// Samples that run together on one thread.
pub(crate) const CHUNK: usize = 8;
/// Steps that a layer advances before the next one follows.
pub(crate) const STRETCH: usize = 64;

/// A network compiled for one encoding and some probes.
///
/// ```
/// use ransnn::engine::{Presentation, Input, Probe, Recording, Table, What};
/// use ransnn::snn::{Encoding, Init, Network, Pop, Population, Projection, Rule, Values, Weights, neurons::Lif};
/// use ransnn::units::Ms;
/// let population = |name: &str, model| Population { name: name.into(), shape: vec![2], model, stimulus: Default::default() };
/// let net = Network {
///     dt: Ms(1.0),
///     seed: 7,
///     populations: vec![population("pixels", None), population("hidden", Some(Box::new(Lif::default())))],
///     projections: vec![Projection {
///         name: "random".into(),
///         pre: Pop(0),
///         post: Pop(1),
///         rule: Rule::Dense,
///         init: Init::Constant(1.0),
///         delay: None,
///         frozen: true,
///         weights: Weights::Dense {
///             sources: 2,
///             targets: 2,
///             values: Values::Int8 { quanta: vec![100, 20, 10, 50], scale: vec![0.01] },
///         },
///         bias: vec![],
///         gain: vec![],
///         wiring: Default::default(),
///     }],
/// };
/// let probes = [Probe { population: Pop(1), what: What::Counts }];
/// let engine = Presentation::compile(&net, &Encoding::Constant { steps: 10 }, &probes)?;
/// let mut recording = Recording::default();
/// let activity = engine.run(Input::U8(&[255, 0]), &[0], &engine.stream("train", 0), &mut recording)?;
/// assert_eq!(recording.tables, [Table::U8(vec![10, 1])]); // currents 1.0 and 0.2, β = 0.95
/// assert_eq!(activity.spikes, [0, 11]);
/// # Ok::<(), ransnn::Error>(())
/// ```
#[derive(Debug)]
pub struct Presentation<'n> {
    pub(crate) net: &'n Network,
    pub(crate) encoding: Encoding,
    pub(crate) input: usize,
    /// Sources before targets.
    pub(crate) layers: Vec<Layer<'n>>,
    /// Which of the layers run together.
    components: Vec<(Component, Range<usize>)>,
    /// Of each population, the steps that spikes are remembered for delayed projections.
    remembered: Vec<usize>,
    pub(crate) features: Vec<Feature>,
    simd: Simd,
}

/// A batch of samples, all of the same form.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Intensities times 255, `[samples, numbers per sample]`.
    U8(&'a [u8]),
    /// Intensities within 0 to 1, `[samples, numbers per sample]`.
    F32(&'a [f32]),
    /// Spikes of the input population, one list per sample, in place of the encoder.
    Events(&'a [Events]),
}

/// Working memory of one thread.
#[derive(Default)]
struct Scratch {
    /// Per population: one list per sample, of the stretch.
    events: Vec<Vec<Events>>,
    /// The same of the last steps before the stretch.
    history: Vec<Vec<Events>>,
    /// Per layer.
    layers: Vec<LayerScratch>,
    encoder: Option<Encoder>,
    current: Vec<f32>,
    words: Vec<u64>,
    spikes: Vec<u8>,
    extra: Vec<Vec<(u32, u32)>>,
    sums: Sums,
    work: Work,
    small_counts: Vec<u8>,
    cell: Vec<u32>,
}

#[derive(Default)]
struct LayerScratch {
    /// `[state variables][samples, padded]`
    state: Vec<Vec<f32>>,
    /// `[samples, bins, padded]`
    counts: Vec<u32>,
    /// `[samples, padded]`
    drive: Vec<f32>,
    /// `[traces][samples, padded]`
    traces: Vec<Vec<f32>>,
    /// Per projection, per sample: the spikes that arrive late.
    late: Vec<Vec<Events>>,
}

impl<'n> Presentation<'n> {
    /// Compiles a network.
    ///
    /// # Errors
    /// A loop without a delay, delays of single synapses (a simulation has them) or of a constant current, not exactly one
    /// input population, tables that do not fit their populations, or a probe that makes no sense; each by name.
    pub fn compile(net: &'n Network, encoding: &Encoding, probes: &[Probe]) -> Result<Self> {
        encoding.validate()?;
        if encoding.steps() > usize::from(u16::MAX) {
            return Err(Error::value("steps", encoding.steps(), format!("at most {}", u16::MAX)));
        }
        let inputs: Vec<usize> =
            (0..net.populations.len()).filter(|&i| net.populations[i].model.is_none()).collect();
        let &[input] = inputs.as_slice() else {
            let what =
                format!("it has {} input populations, where samples are presented to one", inputs.len());
            return Err(Error::Network(vec![what]));
        };
        if let Encoding::Delta { off: true, .. } = encoding
            && !net.populations[input].size().is_multiple_of(2)
        {
            let what = format!("`{}` needs an even size: rises and falls", net.populations[input].name);
            return Err(Error::Network(vec![what]));
        }
        layer::check(net)?;
        let mut features = Vec::new();
        for probe in probes {
            let model = net.populations.get(probe.population.0).and_then(|p| p.model.as_deref());
            let most = if model.is_some_and(|model| model.as_any().is::<Lif>()) { 1 } else { 255 };
            features.push(Feature::new(net, probe, encoding.steps(), most)?);
        }
        let (mut layers, mut components) = (Vec::new(), Vec::new());
        for component in net.components()? {
            let first = layers.len();
            for population in component.populations.iter().map(|pop| pop.0).filter(|&i| i != input) {
                layers.push(Layer::compile(net, population, encoding, input, &features)?);
            }
            components.push((component, first..layers.len()));
        }
        let mut remembered = vec![0; net.populations.len()];
        for synapses in layers.iter().flat_map(|layer: &Layer| &layer.synapses) {
            remembered[synapses.pre] = synapses.delay.max(remembered[synapses.pre]);
        }
        let (encoding, simd) = (*encoding, Simd::best());
        Ok(Self { net, encoding, input, layers, components, remembered, features, simd })
    }

    /// Uses this instruction set; the results do not depend on it.
    pub fn with_simd(mut self, simd: Simd) -> Self {
        self.simd = simd;
        self
    }

    /// The random numbers of the encoder for a pass over a split ("train", "test").
    pub fn stream(&self, split: &str, epoch: u64) -> Stream {
        let name = &self.net.populations[self.input].name;
        Stream::named(self.net.seed, &format!("encode/{name}/{split}/{epoch}"))
    }

    /// Numbers per sample that [`Presentation::run`] takes.
    pub fn sample_len(&self) -> usize {
        self.encoding.sample_len(self.net.populations[self.input].size())
    }

    /// Width of each recorded table.
    pub fn widths(&self) -> Vec<usize> {
        self.features.iter().map(|feature| feature.width).collect()
    }

    /// Presents a batch. `sample_ids` key the random numbers of the encoder, so that a sample gives the same spikes
    /// in any batch. `recording` gets one row per sample.
    ///
    /// # Errors
    /// Input that does not fit, or that is not a number.
    pub fn run(
        &self,
        input: Input,
        sample_ids: &[u64],
        stream: &Stream,
        recording: &mut Recording,
    ) -> Result<Activity> {
        self.check(input, sample_ids.len())?;
        let mut old = std::mem::take(&mut recording.tables).into_iter();
        recording.tables = self.features.iter().map(|f| f.prepare(old.next(), sample_ids.len())).collect();
        recording.widths = self.widths();
        let chunks = sample_ids.len().div_ceil(CHUNK);
        let mut outputs: Vec<Vec<Slice>> = (0..chunks).map(|_| Vec::new()).collect();
        for (table, feature) in recording.tables.iter_mut().zip(&self.features) {
            let slices = table.chunks(CHUNK, feature.width);
            outputs.iter_mut().zip(slices).for_each(|(output, slice)| output.push(slice));
        }
        let work = outputs.into_par_iter().zip(sample_ids.par_chunks(CHUNK)).enumerate();
        let activities: Vec<Activity> = work
            .map_init(Scratch::default, |scratch, (chunk, (mut output, ids))| {
                let range = chunk * CHUNK..chunk * CHUNK + ids.len();
                self.run_chunk(input, range, ids, stream, scratch, &mut output)
            })
            .collect();
        let mut total = Activity { spikes: vec![0; self.net.populations.len()], ..Activity::default() };
        activities.iter().for_each(|activity| total += activity);
        Ok(total)
    }

    fn check(&self, input: Input, samples: usize) -> Result<()> {
        let name = &self.net.populations[self.input].name;
        let (len, numbers) = match input {
            Input::U8(x) => (x.len(), samples * self.sample_len()),
            Input::F32(x) => {
                if let Some(i) = x.iter().position(|x| !x.is_finite()) {
                    return Err(Error::value(format!("input {i} of `{name}`"), x[i], "a finite number"));
                }
                (x.len(), samples * self.sample_len())
            }
            Input::Events(lists) => {
                if self.encoding.is_constant() {
                    let expected = "intensities: the encoding is a constant current";
                    return Err(Error::value(format!("input of `{name}`"), "spike lists", expected));
                }
                let (size, steps) = (self.net.populations[self.input].size(), self.encoding.steps());
                if let Some(list) = lists.iter().find(|list| (list.sources(), list.steps()) != (size, steps))
                {
                    let got = format!("{} neurons over {} steps", list.sources(), list.steps());
                    return Err(Error::value(
                        format!("spike list for `{name}`"),
                        got,
                        format!("{size} neurons over {steps} steps"),
                    ));
                }
                (lists.len(), samples)
            }
        };
        if len != numbers {
            return Err(Error::value(format!("length of the input of `{name}`"), len, format!("{numbers}")));
        }
        Ok(())
    }

    fn run_chunk(
        &self,
        input: Input,
        range: Range<usize>,
        ids: &[u64],
        stream: &Stream,
        scratch: &mut Scratch,
        output: &mut [Slice],
    ) -> Activity {
        let (samples, len, total) = (ids.len(), self.sample_len(), self.encoding.steps());
        let rows = match input {
            Input::U8(x) => Rows::U8(&x[range.start * len..range.end * len]),
            Input::F32(x) => Rows::F32(&x[range.start * len..range.end * len]),
            Input::Events(_) => Rows::U8(&[]),
        };
        let mut activity = Activity {
            spikes: vec![0; self.net.populations.len()],
            samples: samples as u64,
            ..Activity::default()
        };
        self.prepare(scratch, samples);
        for (index, layer) in self.layers.iter().enumerate() {
            activity.analogue_operations +=
                layer.constant.iter().map(|constant| constant.operations * samples as u64).sum::<u64>();
            if layer.counts_only && layer.constant[0].by_position().is_some() {
                activity.spikes[layer.population] += self.convolve(layer, rows, samples, scratch, output);
            } else if !layer.constant.is_empty() {
                let LayerScratch { drive, .. } = &mut scratch.layers[index];
                drive.clear();
                drive.resize(samples * layer.padded, 0.0);
                for constant in &layer.constant {
                    constant.add_currents(self.simd, rows, samples, layer.padded, drive, &mut scratch.work);
                }
            }
        }
        for start in (0..total).step_by(STRETCH) {
            let steps = start..(start + STRETCH).min(total);
            for (row, &id) in ids.iter().enumerate() {
                let events = &mut scratch.events[self.input][row];
                match (input, &mut scratch.encoder) {
                    (Input::Events(lists), _) => {
                        events.clear();
                        events.push_steps(&lists[range.start + row], steps.clone());
                    }
                    (_, Some(encoder)) => {
                        let sample = Sample { samples: rows, row, id };
                        encoder.encode(self.simd, stream, sample, steps.clone(), events);
                    }
                    _ => {}
                }
                activity.spikes[self.input] += events.len() as u64;
            }
            for layer in &self.layers {
                scratch.events[layer.population].iter_mut().for_each(Events::clear);
            }
            for (component, layers) in &self.components {
                for piece in component.stretches(steps.clone()) {
                    for (index, layer) in self.layers[layers.clone()].iter().enumerate() {
                        if !layer.counts_only {
                            let index = layers.start + index;
                            activity.synaptic_operations +=
                                self.arrive(index, layer, start, piece.clone(), samples, scratch);
                            self.advance(index, layer, start, piece.clone(), samples, scratch);
                        }
                    }
                }
            }
            for layer in self.layers.iter().filter(|layer| !layer.counts_only) {
                for synapses in layer.synapses.iter().filter(|synapses| synapses.delay == 0) {
                    let lists = &scratch.events[synapses.pre][..samples];
                    let operations = lists.iter().map(|events| synapses.operations(layer.neurons, events));
                    activity.synaptic_operations += operations.sum::<u64>();
                }
            }
            self.remember(samples, scratch);
        }
        for (index, layer) in self.layers.iter().enumerate() {
            if layer.counts_only && layer.constant[0].by_position().is_some() {
                continue; // written by `convolve`
            }
            if layer.counts_only {
                self.count_constant(index, layer, samples, scratch);
            }
            let counts = &scratch.layers[index].counts;
            activity.spikes[layer.population] += counts
                .chunks_exact(layer.padded.max(1))
                .map(|row| row[..layer.neurons].iter().map(|&n| u64::from(n)).sum::<u64>())
                .sum::<u64>();
            self.write(layer, samples, &scratch.layers[index], output);
        }
        activity
    }

    /// Fresh state for a chunk.
    fn prepare(&self, scratch: &mut Scratch, samples: usize) {
        if scratch.events.is_empty() {
            let lists = |p: &Population| (0..CHUNK).map(|_| Events::empty(p.size())).collect();
            scratch.events = self.net.populations.iter().map(lists).collect();
            scratch.history = scratch.events.clone();
            for layer in &self.layers {
                let late = |s: &Synapses| if s.delay > 0 { scratch.events[s.pre].clone() } else { vec![] };
                let late = layer.synapses.iter().map(late).collect();
                scratch.layers.push(LayerScratch { late, ..LayerScratch::default() });
            }
            scratch.extra = vec![Vec::new(); CHUNK];
            scratch.encoder = Some(Encoder::new(self.encoding, self.net.populations[self.input].size()));
        }
        scratch.history.iter_mut().flatten().for_each(Events::clear);
        for (layer, own) in self.layers.iter().zip(&mut scratch.layers) {
            let n = samples * layer.padded;
            let filled = |buffer: &mut Vec<f32>, value: f32| {
                buffer.clear();
                buffer.resize(n, value);
            };
            let initial = layer.initial();
            own.state.resize_with(initial.len(), Vec::new);
            own.state.iter_mut().zip(initial).for_each(|(state, value)| filled(state, value));
            own.traces.resize_with(layer.traces.len(), Vec::new);
            own.traces.iter_mut().for_each(|trace| filled(trace, 0.0));
            own.counts.clear();
            if !(layer.counts_only && layer.constant[0].by_position().is_some()) {
                own.counts.resize(n * layer.bins, 0);
            }
        }
    }

    /// Lists the spikes that arrive late in some steps of the stretch that begins at `start`. Gives their synaptic operations.
    fn arrive(
        &self,
        index: usize,
        layer: &Layer,
        start: usize,
        steps: Range<usize>,
        samples: usize,
        scratch: &mut Scratch,
    ) -> u64 {
        let Scratch { events, history, layers, .. } = scratch;
        let mut operations = 0;
        for (synapses, late) in layer.synapses.iter().zip(&mut layers[index].late) {
            let sent = events[synapses.pre].iter().zip(&history[synapses.pre]);
            for ((now, before), late) in sent.zip(late).take(samples) {
                late.clear();
                for step in steps.clone() {
                    match step.checked_sub(synapses.delay) {
                        None => late.push_silence(),
                        Some(sent) if sent >= start => late.push_list(now.step(sent - start)),
                        Some(sent) => late.push_list(before.step(sent + before.steps() - start)),
                    }
                }
                operations += synapses.operations(layer.neurons, late);
            }
        }
        operations
    }

    /// Keeps what is still to arrive, at the end of a stretch.
    fn remember(&self, samples: usize, scratch: &mut Scratch) {
        let Scratch { events, history, .. } = scratch;
        let lists = events.iter().zip(history).zip(&self.remembered).filter(|(_, steps)| **steps > 0);
        for ((events, history), &steps) in lists {
            for (events, history) in events.iter().zip(history).take(samples) {
                history.push_steps(events, 0..events.steps());
                history.keep_last(steps);
            }
        }
    }

    /// One layer, some steps of the stretch that begins at `stretch`, all samples of the chunk.
    fn advance(
        &self,
        index: usize,
        layer: &Layer,
        stretch: usize,
        steps: Range<usize>,
        samples: usize,
        scratch: &mut Scratch,
    ) {
        let Scratch { events, layers, current, words, spikes, extra, sums, .. } = scratch;
        let own = &mut layers[index];
        let (padded, total) = (layer.padded, self.encoding.steps());
        let per_step = padded / TILE;
        // Spikes are kept for the layers after and for traces only.
        let keep = layer.sends || !layer.traces.is_empty();
        let stride = if keep { per_step } else { 0 };
        words.resize((samples * STRETCH * stride).max(per_step * STRETCH), 0);
        extra.iter_mut().for_each(Vec::clear);
        let block_len = if layer.tiled { TILE } else { padded };
        let at_once = (STRETCH * 256 / block_len.max(1)).clamp(1, STRETCH);
        current.resize(at_once * block_len, 0.0);
        for block in 0..padded.checked_div(block_len).unwrap_or(0) {
            for row in 0..samples {
                let mut start = steps.start;
                while start < steps.end {
                    // A piece ends where its bin does.
                    let bin = start * layer.bins / total;
                    let bin_end = ((bin + 1) * total).div_ceil(layer.bins);
                    let end = steps.end.min(start + at_once).min(bin_end);
                    let (piece, local) = (end - start, start - steps.start..end - steps.start);
                    let mut add = false;
                    if !layer.constant.is_empty() {
                        let drive = &own.drive[row * padded + block * block_len..][..block_len];
                        current
                            .chunks_exact_mut(block_len)
                            .take(piece)
                            .for_each(|x| x.copy_from_slice(drive));
                        add = true;
                    }
                    for (synapses, late) in layer.synapses.iter().zip(&own.late) {
                        let out = Currents { values: &mut current[..], stride: block_len, add };
                        let (list, at) = match synapses.delay {
                            0 => (&events[synapses.pre][row], start - stretch..end - stretch),
                            _ => (&late[row], local.clone()),
                        };
                        if layer.tiled {
                            synapses.deliver_tile(self.simd, block, list, at, out);
                        } else {
                            synapses.deliver(self.simd, list, at, out, sums);
                        }
                        add = true;
                    }
                    if !add {
                        current.fill(0.0);
                    }
                    let first = if keep {
                        (row * STRETCH + local.start) * stride + block * block_len / TILE
                    } else {
                        0
                    };
                    let word_stride = if keep { stride } else { block_len / TILE };
                    let counts =
                        &mut own.counts[(row * layer.bins + bin) * padded + block * block_len..][..block_len];
                    let at = row * padded + block * block_len;
                    match &layer.model {
                        Model::Lif(lif) => self.simd.lif(
                            lif,
                            Block {
                                current: &current[..piece * block_len],
                                membrane: &mut own.state[0][at..at + block_len],
                                counts,
                                words: &mut words[first..],
                                stride: word_stride,
                                steps: piece,
                            },
                        ),
                        Model::Other(model) => {
                            spikes.resize(layer.neurons, 0);
                            for step in 0..piece {
                                let words = &mut words[first + step * word_stride..][..per_step];
                                words.fill(0);
                                let mut state: Vec<&mut [f32]> = own
                                    .state
                                    .iter_mut()
                                    .map(|state| &mut state[at..at + layer.neurons])
                                    .collect();
                                model.step(&current[step * block_len..][..layer.neurons], &mut state, spikes);
                                for (i, &n) in spikes.iter().enumerate().filter(|(_, n)| **n > 0) {
                                    counts[i] += u32::from(n);
                                    words[i / TILE] |= 1 << (i % TILE);
                                    let again = ((start - stretch + step) as u32, i as u32);
                                    extra[row].extend(std::iter::repeat_n(again, usize::from(n) - 1));
                                }
                            }
                        }
                    }
                    start = end;
                }
            }
        }
        if keep {
            for row in 0..samples {
                let list = &mut events[layer.population][row];
                for step in 0..steps.len() {
                    list.push_mask(&words[(row * STRETCH + step) * stride..][..stride]);
                }
                list.insert(&extra[row]);
                for (trace, &decay) in own.traces.iter_mut().zip(&layer.traces) {
                    let trace = &mut trace[row * padded..][..padded];
                    for step in steps.clone() {
                        trace.iter_mut().for_each(|trace| *trace *= decay);
                        let neurons = list.step(step - stretch).chunk_by(|a, b| a == b);
                        neurons.for_each(|same| trace[same[0] as usize] += same.len() as f32);
                    }
                }
            }
        }
    }

    /// Counts of a layer whose current never changes, from `drive`.
    fn count_constant(&self, index: usize, layer: &Layer, samples: usize, scratch: &mut Scratch) {
        let Model::Lif(lif) = &layer.model else { return };
        let LayerScratch { state, counts, drive, .. } = &mut scratch.layers[index];
        let small = &mut scratch.small_counts;
        small.clear();
        small.resize(samples * layer.padded, 0);
        self.simd.lif_constant(lif, self.encoding.steps(), drive, small, &mut state[0]);
        counts.iter_mut().zip(small).for_each(|(count, &mut small)| *count = small.into());
    }

    /// A convolution of a constant input, from pixels to features, one image at a time. Gives the spikes.
    fn convolve(
        &self,
        layer: &Layer,
        rows: Rows,
        samples: usize,
        scratch: &mut Scratch,
        output: &mut [Slice],
    ) -> u64 {
        let Model::Lif(lif) = &layer.model else { return 0 };
        let constant = &layer.constant[0];
        let Some(geometry) = constant.by_position() else { return 0 };
        let Scratch { work, small_counts, cell, .. } = scratch;
        let [channels, height, width] = geometry.output;
        let columns = layer.blank.len();
        small_counts.clear();
        small_counts.resize(height * width * columns, 0);
        let mut batch = vec![0u8; 0];
        let mut total = 0;
        for row in 0..samples {
            constant.patches(self.simd, rows, row, work, |place, currents| match place {
                Place::Blank(p) => small_counts[p * columns..(p + 1) * columns].copy_from_slice(&layer.blank),
                Place::At(list) => {
                    batch.resize(currents.len(), 0);
                    self.simd.lif_constant(lif, self.encoding.steps(), currents, &mut batch, &mut []);
                    for (&p, counts) in list.iter().zip(batch.chunks_exact(columns)) {
                        small_counts[p * columns..(p + 1) * columns].copy_from_slice(counts);
                    }
                }
            });
            for counts in small_counts.chunks_exact(columns) {
                total += counts[..channels].iter().map(|&n| u32::from(n)).sum::<u32>() as u64;
            }
            for (feature, out) in self.features.iter().zip(output.iter_mut()) {
                if feature.population != layer.population {
                    continue;
                }
                let at = row * feature.width;
                if let What::Pool(_) = feature.what {
                    let cells = feature.rows.len() * feature.columns.len();
                    for (i, (ys, xs)) in feature.cells().enumerate() {
                        cell.clear();
                        cell.resize(channels, 0);
                        for p in ys.flat_map(|y| xs.clone().map(move |x| y * width + x)) {
                            let counts = &small_counts[p * columns..][..channels];
                            cell.iter_mut().zip(counts).for_each(|(sum, &n)| *sum += u32::from(n));
                        }
                        out.counts(at + i, cells, cell.iter().copied());
                    }
                } else {
                    for channel in 0..channels {
                        let counts = small_counts[channel..].iter().step_by(columns).map(|&n| u32::from(n));
                        out.counts(at + channel * height * width, 1, counts.take(height * width));
                    }
                }
            }
        }
        total
    }

    /// Writes the features of a layer from its state.
    fn write(&self, layer: &Layer, samples: usize, own: &LayerScratch, output: &mut [Slice]) {
        let mut trace = 0;
        for (feature, out) in self.features.iter().zip(output) {
            if feature.population != layer.population {
                continue;
            }
            for row in 0..samples {
                let at = row * feature.width;
                let state = row * layer.padded..row * layer.padded + layer.neurons;
                let binned = &own.counts[row * layer.bins * layer.padded..][..layer.bins * layer.padded];
                let count = |i: usize| binned[i..].iter().step_by(layer.padded.max(1)).sum::<u32>();
                match feature.what {
                    What::Counts => out.counts(at, 1, (0..layer.neurons).map(count)),
                    What::Bins(_) => {
                        for (bin, counts) in binned.chunks_exact(layer.padded.max(1)).enumerate() {
                            out.counts(at + bin * layer.neurons, 1, counts[..layer.neurons].iter().copied());
                        }
                    }
                    What::Pool(_) => {
                        let [channels, height, width] = feature.image;
                        let cells: Vec<_> = feature.cells().collect();
                        let sum = |channel: usize, ys: &Range<usize>, xs: &Range<usize>| {
                            let places = ys.clone().flat_map(|y| xs.clone().map(move |x| y * width + x));
                            places.map(|p| count(channel * height * width + p)).sum::<u32>()
                        };
                        for channel in 0..channels {
                            let sums = cells.iter().map(|(ys, xs)| sum(channel, ys, xs));
                            out.counts(at + channel * cells.len(), 1, sums);
                        }
                    }
                    What::Membrane => out.floats(at, &own.state[0][state]),
                    What::Trace { .. } => out.floats(at, &own.traces[trace][state]),
                }
            }
            trace += usize::from(matches!(feature.what, What::Trace { .. }));
        }
    }
}
