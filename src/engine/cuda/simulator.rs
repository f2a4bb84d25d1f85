//! A simulation on a grid of time, on a GPU: the networks of [`clock`](crate::engine::clock) with the same seeds.
//!
//! A stretch of steps, as long as the shortest delay and at most 16, is two launches; many stretches are queued before
//! the host looks at anything. Spikes are recorded as bits in device memory, and fetched once for many steps.
//!
//! **Equal to the CPU**, to the last bit: random numbers, neurons, and spikes that share a weight and a delay, which are
//! counted. Individual weights are added up as 64-bit integers, exactly, where the CPU rounds after each addition: equal
//! where the CPU's sums are exact. Runs are equal on any GPU.

use super::layout::{BLOCK, Layout, lacks};
use super::plastic::{Plastic, Spikes};
use super::procedural::{Connectivity, Procedural};
use crate::engine::clock::{self, Activity, Input, SpikeTrain, Trace};
use crate::engine::{Connections, Options, Precision, whole_steps};
use crate::error::{Error, Result};
use crate::snn::{Network, Pop, Projection};
use crate::tensor::cuda::{Arg, Buffer, Geometry, Gpu};
use crate::tensor::kernels::{self, ElementType};
use crate::units::Ms;
use std::ops::Range;

/// Most steps between two looks of the host.
const MOST_STEPS: u64 = 1024;
/// Most bytes of recorded spikes between two looks.
const MOST_MASK_BYTES: u64 = 64 << 20;

/// A network that runs on a GPU.
pub struct Simulator<'n> {
    net: &'n Network,
    pub(super) gpu: Gpu,
    /// The tables, of which the large ones are on the GPU only.
    layout: Layout,
    tables: Tables,
    pub(super) moving: Moving,
    pub(super) plastic: Option<Plastic>,
    procedural: Option<Procedural>,
    pub(super) inputs: Vec<(usize, Input)>,
    pub(super) now: u64,
    /// Stretches done.
    stretches: u64,
    /// Steps between two looks of the host.
    batch: u64,
    /// Spikes of input populations so far.
    pub(super) input_spikes: Vec<u64>,
    trains: Vec<Option<SpikeTrain>>,
    traces: Vec<Trace>,
    probes: Option<Probes>,
}

/// What launches read.
struct Tables {
    words: Buffer,
    constants: Buffer,
    bases: Buffer,
    offsets: Buffer,
    targets: Buffer,
    weights: Buffer,
    delays: Buffer,
    long_delays: Buffer,
    none: Buffer,
}

/// What launches change.
pub(super) struct Moving {
    pub state: Buffer,
    pub counts: Buffer,
    pub sums: Buffer,
    fired: Buffer,
    pub fired_count: Buffer,
    pub spikes: Buffer,
    pub events: Buffer,
    /// `[steps of the batch, words]`: who fired; empty where nothing is recorded.
    masks: Buffer,
    /// One trace after the other, `[rows of a batch, neurons]`.
    traces: Buffer,
}

/// Which variables are recorded.
struct Probes {
    offsets: Buffer,
    entries: Buffer,
    /// Where each trace begins.
    first: Vec<usize>,
}

impl<'n> Simulator<'n> {
    /// Draws the synapses, sets the initial state and takes both to the GPU.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what has no kernel (models, rules of plasticity), by name; [`Error::Memory`] where the network is
    /// larger than what is free, before anything is allocated there; as [`clock::Simulator::new`].
    pub fn new(gpu: &Gpu, net: &'n Network) -> Result<Self> {
        Self::with_connectivity(gpu, net, Connectivity::Stored)
    }

    /// As [`Simulator::new`], with the synapses stored or drawn again whenever their source fires: the same spikes, and
    /// sums, in other memory. Those that are drawn again are counted here, and not kept on the host either; a network for
    /// whose tables [`NetworkBuilder::memory`](crate::snn::NetworkBuilder::memory) is too little has to raise it all the same.
    ///
    /// ```no_run
    /// use ransnn::engine::cuda::{Connectivity, Simulator};
    /// # use ransnn::snn::{Network, standard};
    /// # use ransnn::tensor::cuda::Gpu;
    /// let net = standard::vogels_abbott_cuba(1)?;
    /// let simulator = Simulator::with_connectivity(&Gpu::open(0, None)?, &net, Connectivity::Procedural)?;
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Simulator::new`], and as [`Connectivity::check`].
    pub fn with_connectivity(gpu: &Gpu, net: &'n Network, connectivity: Connectivity) -> Result<Self> {
        let options = Options { precision: Precision::Single, block: 0 };
        clock::check(net, &options)?;
        let mut layout = Layout::new(net, connectivity)?;
        let (needed, (available, _)) = (layout.bytes(net.dt), gpu.memory()?);
        if needed > available {
            let what = format!("the network on cuda:{} ({})", gpu.index(), gpu.name());
            return Err(Error::Memory { what, needed, available });
        }
        let tables = Tables {
            words: gpu.upload(&layout.words)?,
            constants: gpu.upload(&layout.constants)?,
            bases: gpu.upload(&layout.bases)?,
            offsets: gpu.upload(&std::mem::take(&mut layout.offsets))?,
            targets: gpu.upload(&std::mem::take(&mut layout.targets))?,
            weights: gpu.upload(&std::mem::take(&mut layout.weights))?,
            delays: gpu.upload(&std::mem::take(&mut layout.delays))?,
            long_delays: gpu.upload(&std::mem::take(&mut layout.long_delays))?,
            none: gpu.zeros(ElementType::U32, 1)?,
        };
        let specs = std::mem::take(&mut layout.plastic);
        let plastic = match specs.is_empty() {
            true => None,
            false => Some(Plastic::new(gpu, specs, net.dt, layout.slots)?),
        };
        let specs = std::mem::take(&mut layout.procedural);
        let procedural = match specs.is_empty() {
            true => None,
            false => Some(Procedural::new(gpu, specs, net)?),
        };
        let moving = Moving {
            state: gpu.upload(&std::mem::take(&mut layout.state))?,
            counts: gpu.zeros(ElementType::U32, layout.counts)?,
            sums: gpu.zeros(ElementType::U64, layout.sums)?,
            fired: gpu.zeros(ElementType::U64, layout.spikes())?,
            fired_count: gpu.zeros(ElementType::U32, 2)?,
            spikes: gpu.zeros(ElementType::U64, net.populations.len())?,
            events: gpu.zeros(ElementType::U64, 1)?,
            masks: gpu.zeros(ElementType::U32, 0)?,
            traces: gpu.zeros(ElementType::F32, 0)?,
        };
        let per_step = (layout.padded / 8) as u64;
        let batch = (MOST_MASK_BYTES / per_step.max(1)).clamp(1, MOST_STEPS).max(layout.stretch);
        Ok(Self {
            net,
            gpu: gpu.clone(),
            tables,
            moving,
            plastic,
            procedural,
            inputs: clock::inputs(net),
            now: 0,
            stretches: 0,
            batch: batch / layout.stretch * layout.stretch,
            input_spikes: vec![0; net.populations.len()],
            trains: net.populations.iter().map(|_| None).collect(),
            traces: Vec::new(),
            probes: None,
            layout,
        })
    }

    /// The network.
    pub fn network(&self) -> &'n Network {
        self.net
    }

    /// The GPU.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Keeps the spikes of a population from now on.
    ///
    /// # Errors
    /// A population that the network does not have.
    pub fn record_spikes(&mut self, pop: Pop) -> Result<()> {
        let Some(train) = self.trains.get_mut(pop.0) else {
            return Err(Error::value("population to record", pop.0, "one of the network"));
        };
        train.get_or_insert_with(SpikeTrain::default);
        Ok(())
    }

    /// Keeps a state variable of some neurons from now on, before every `every`-th step. Returns the trace's number.
    ///
    /// # Errors
    /// What is not there, by name; a stride of 0; not enough memory.
    pub fn record(&mut self, pop: Pop, variable: &str, neurons: &[u32], every: u64) -> Result<usize> {
        clock::variable_to_record(self.net, pop, variable, neurons, every)?;
        self.traces.push(Trace {
            population: pop,
            variable: variable.into(),
            neurons: neurons.to_vec(),
            every,
            first: self.now.next_multiple_of(every),
            values: Vec::new(),
        });
        self.place_probes()?;
        Ok(self.traces.len() - 1)
    }

    /// Runs for a time, a whole number of steps.
    ///
    /// # Errors
    /// A time that is not a multiple of the step; what went wrong on the GPU.
    pub fn run(&mut self, time: Ms) -> Result<()> {
        self.run_steps(whole_steps(time, self.net.dt)?)
    }

    /// Runs so many steps.
    ///
    /// # Errors
    /// What went wrong on the GPU.
    pub fn run_steps(&mut self, steps: u64) -> Result<()> {
        let end = self.now + steps;
        while self.now < end {
            self.run_batch(end.min(self.now + self.batch))?;
        }
        self.gpu.synchronize()
    }

    /// Steps done so far.
    pub fn steps(&self) -> u64 {
        self.now
    }

    /// Time simulated so far.
    pub fn time(&self) -> Ms {
        Ms(self.now as f64 * self.net.dt.0)
    }

    /// The recorded spikes of a population.
    pub fn spikes(&self, pop: Pop) -> Option<&SpikeTrain> {
        self.trains.get(pop.0)?.as_ref()
    }

    /// The recorded spikes of a population, taken out.
    pub fn take_spikes(&mut self, pop: Pop) -> Option<SpikeTrain> {
        Some(std::mem::take(self.trains.get_mut(pop.0)?.as_mut()?))
    }

    /// The recorded variables, by the number that [`Simulator::record`] gave.
    pub fn traces(&self) -> &[Trace] {
        &self.traces
    }

    /// The rows of a trace so far, taken out.
    pub fn take_trace(&mut self, number: usize) -> Option<Trace> {
        self.traces.get_mut(number).map(Trace::take)
    }

    /// A state variable of all neurons of a population, now; empty for what is not there.
    ///
    /// # Errors
    /// What went wrong on the GPU.
    pub fn state(&self, pop: Pop, variable: &str) -> Result<Vec<f64>> {
        let model = self.net.populations.get(pop.0).and_then(|p| p.model.as_ref());
        let index = model.and_then(|model| model.state().iter().position(|state| state.name == variable));
        let (Some(index), Some(Some(place))) = (index, self.layout.places.get(pop.0)) else {
            return Ok(Vec::new());
        };
        let all = self.moving.state.download::<f32>()?;
        let first = place.state + index * place.padded;
        Ok(all[first..first + place.size].iter().map(|&v| v.into()).collect())
    }

    /// What has happened so far. Synaptic events are counted when a spike is sent, all its delays ahead.
    ///
    /// # Errors
    /// What went wrong on the GPU.
    pub fn activity(&self) -> Result<Activity> {
        let mut spikes = self.moving.spikes.download::<u64>()?;
        spikes.iter_mut().zip(&self.input_spikes).for_each(|(all, inputs)| *all += inputs);
        let [synaptic_events] = self.moving.events.download::<u64>()?[..] else {
            return Err(Error::Internal("events are one number".into()));
        };
        Ok(Activity { spikes, synaptic_events })
    }

    /// The synapses of a plastic projection, with their weights now, as [`clock::Simulator::weights`] gives them.
    ///
    /// # Errors
    /// A projection that is not there or not plastic; what went wrong on the GPU.
    pub fn weights(&self, projection: &str) -> Result<Connections> {
        let plastic = |p: &Projection| p.name == projection && p.wiring.plasticity.is_some();
        let index = self.net.projections.iter().position(plastic);
        let missing = || Error::value("projection", projection, "a plastic one of the network");
        let index = index.ok_or_else(missing)?;
        self.plastic.as_ref().ok_or_else(missing)?.connections(index)
    }

    /// Number of synapses and bytes of their tables, of each projection.
    pub fn synapses(&self) -> &[(u64, u64)] {
        &self.layout.synapses
    }

    /// Launches for so many steps.
    pub fn launches(&self, steps: u64) -> u64 {
        let each = if self.plastic.is_some() { 4 } else { 2 };
        each * steps.div_ceil(self.layout.stretch)
    }

    fn mask_words(&self) -> usize {
        self.layout.padded / 32
    }

    /// Steps between two looks of the host.
    fn run_batch(&mut self, end: u64) -> Result<()> {
        let start = self.now;
        if self.trains.iter().any(Option::is_some) {
            let words = (end - start) as usize * self.mask_words();
            self.moving.masks = self.gpu.zeros(ElementType::U32, words)?;
        }
        let (lists, ends) = self.draw_inputs(start..end)?;
        let mut sent = 0;
        for ends in ends {
            let steps = self.now..end.min(self.now + self.layout.stretch);
            if let Some(plastic) = &mut self.plastic {
                plastic.arrive(steps.start, &mut self.moving.sums)?;
            }
            self.advance(start, &steps)?;
            if let Some(plastic) = &mut self.plastic {
                let moving = &mut self.moving;
                let spikes = Spikes {
                    fired: &moving.fired,
                    fired_count: &moving.fired_count,
                    list: (self.stretches % 2) as i32,
                    inputs: &lists,
                    range: sent..ends,
                };
                plastic.spikes(steps.start, spikes, &mut moving.events)?;
            }
            self.deliver(&steps, &lists, sent..ends)?;
            sent = ends;
            self.stretches += 1;
            self.now = steps.end;
        }
        if !self.moving.masks.is_empty() {
            self.collect_spikes(start..end)?;
        }
        self.collect_traces(start..end)
    }

    /// The spikes of input populations, as the kernel reads them, and where each stretch ends.
    fn draw_inputs(&mut self, steps: Range<u64>) -> Result<(Buffer, Vec<u32>)> {
        let (mut entries, mut ends, mut list) = (Vec::new(), Vec::new(), Vec::new());
        let stretch = self.layout.stretch;
        for from in (steps.start..steps.end).step_by(stretch as usize) {
            for step in from..steps.end.min(from + stretch) {
                for (population, input) in &mut self.inputs {
                    input.draw(step, &mut list);
                    let of = (*population as u64) << 32 | (step - from) << 48;
                    entries.extend(list.iter().map(|&neuron| u64::from(neuron) | of));
                    self.input_spikes[*population] += list.len() as u64;
                    if let Some(train) = &mut self.trains[*population] {
                        train.neurons.extend_from_slice(&list);
                        train.steps.resize(train.neurons.len(), step);
                    }
                }
            }
            ends.push(u32::try_from(entries.len()).map_err(|_| lacks("with that many input spikes".into()))?);
        }
        Ok((self.gpu.upload(&entries)?, ends))
    }

    /// All neurons through a stretch.
    fn advance(&mut self, batch: u64, steps: &Range<u64>) -> Result<()> {
        if self.layout.blocks == 0 {
            return Ok(());
        }
        let recorded = !self.moving.masks.is_empty();
        let row = if recorded { (steps.start - batch) as i32 } else { -1 };
        let words = self.mask_words() as i32;
        let (offsets, entries) = match &self.probes {
            Some(probes) => (&probes.offsets, &probes.entries),
            None => (&self.tables.none, &self.tables.none),
        };
        let moving = &mut self.moving;
        let mut args = [
            Arg::In(&self.tables.words),
            Arg::In(&self.tables.constants),
            Arg::In(offsets),
            Arg::In(entries),
            Arg::U64(batch),
            Arg::I32(i32::from(self.probes.is_some())),
            Arg::U64(steps.start),
            Arg::I32((steps.end - steps.start) as i32),
            Arg::I32(self.layout.slots as i32),
            Arg::I32((self.stretches % 2) as i32),
            Arg::I32(row),
            Arg::I32(words),
            Arg::Out(&mut moving.state),
            Arg::Out(&mut moving.counts),
            Arg::Out(&mut moving.sums),
            Arg::Out(&mut moving.fired),
            Arg::Out(&mut moving.fired_count),
            Arg::Out(&mut moving.spikes),
            Arg::Out(&mut moving.masks),
            Arg::Out(&mut moving.traces),
        ];
        let grid = [self.layout.blocks as u32, 1, 1];
        let geometry = Geometry { grid, block: [BLOCK as u32, 1, 1], shared_bytes: 0 };
        self.gpu.launch(&kernels::SIMULATE, &kernels::SIMULATE_ADVANCE, geometry, &mut args)
    }

    /// The spikes of a stretch into the rings.
    fn deliver(&mut self, steps: &Range<u64>, inputs: &Buffer, range: Range<u32>) -> Result<()> {
        let (tables, moving) = (&self.tables, &mut self.moving);
        if let Some(procedural) = &self.procedural {
            let (fired, fired_count, list) =
                (&moving.fired, &moving.fired_count, (self.stretches % 2) as i32);
            let spikes = Spikes { fired, fired_count, list, inputs, range: range.clone() };
            let slots = self.layout.slots;
            let into = [&mut moving.counts, &mut moving.sums, &mut moving.events];
            procedural.deliver(spikes, [steps.start % slots, slots], into)?;
        }
        if self.layout.fan == 0 {
            return Ok(());
        }
        let mut args = [
            Arg::In(&tables.words),
            Arg::In(&tables.bases),
            Arg::In(&tables.offsets),
            Arg::In(&tables.targets),
            Arg::In(&tables.weights),
            Arg::In(&tables.delays),
            Arg::In(&tables.long_delays),
            Arg::In(&moving.fired),
            Arg::In(&moving.fired_count),
            Arg::In(inputs),
            Arg::U32(range.start),
            Arg::U32(range.end),
            Arg::I32((self.stretches % 2) as i32),
            Arg::I32((steps.start % self.layout.slots) as i32),
            Arg::I32(self.layout.slots as i32),
            Arg::I32(self.layout.fan as i32),
            Arg::Out(&mut moving.counts),
            Arg::Out(&mut moving.sums),
            Arg::Out(&mut moving.events),
        ];
        // 8 blocks of 256 threads fill a multiprocessor.
        let grid = [8 * self.gpu.multiprocessors().max(1), 1, 1];
        let geometry = Geometry { grid, block: [256, 1, 1], shared_bytes: 0 };
        self.gpu.launch(&kernels::SIMULATE, &kernels::SIMULATE_DELIVER, geometry, &mut args)
    }

    /// Recorded bits to spike trains.
    fn collect_spikes(&mut self, steps: Range<u64>) -> Result<()> {
        let all = self.moving.masks.download::<u32>()?;
        for (row, step) in all.chunks(self.mask_words().max(1)).zip(steps) {
            for (place, train) in self.layout.places.iter().zip(&mut self.trains) {
                let (Some(place), Some(train)) = (place, train) else { continue };
                let words = &row[place.first / 32..][..place.size.div_ceil(32)];
                for (i, &word) in words.iter().enumerate().filter(|(_, word)| **word != 0) {
                    let bits = (0..32).filter(|bit| word >> bit & 1 == 1);
                    train.neurons.extend(bits.map(|bit| 32 * i as u32 + bit));
                }
                train.steps.resize(train.neurons.len(), step);
            }
        }
        Ok(())
    }

    /// Recorded variables to traces.
    fn collect_traces(&mut self, steps: Range<u64>) -> Result<()> {
        let Some(probes) = &self.probes else { return Ok(()) };
        let all = self.moving.traces.download::<f32>()?;
        for (trace, &first) in self.traces.iter_mut().zip(&probes.first) {
            let rows = steps.end.div_ceil(trace.every) - steps.start.div_ceil(trace.every);
            let values = &all[first..first + rows as usize * trace.neurons.len()];
            trace.values.extend(values.iter().map(|&value| f64::from(value)));
        }
        Ok(())
    }

    /// Tells the GPU what is recorded: for each neuron, its variables and where they go.
    fn place_probes(&mut self) -> Result<()> {
        let mut all: Vec<(usize, [u32; 4])> = Vec::new();
        let (mut first, mut at) = (Vec::new(), 0usize);
        for trace in &self.traces {
            first.push(at);
            let Some(Some(place)) = self.layout.places.get(trace.population.0) else { continue };
            let model = self.net.populations[trace.population.0].model.as_ref();
            let states = model.map_or_else(Vec::new, |model| model.state());
            let variable = states.iter().position(|state| state.name == trace.variable).unwrap_or(0);
            let width = trace.neurons.len();
            let every = u32::try_from(trace.every)
                .map_err(|_| Error::value("steps between records", trace.every, "below 2³² on a GPU"))?;
            for (column, &neuron) in trace.neurons.iter().enumerate() {
                let entry = [variable as u32, every, (at + column) as u32, width as u32];
                all.push((place.first + neuron as usize, entry));
            }
            at += (self.batch / trace.every + 1) as usize * width;
        }
        if u32::try_from(at).is_err() {
            return Err(Error::value("recorded numbers of a batch of steps", at, "below 2³² on a GPU"));
        }
        all.sort_by_key(|(neuron, _)| *neuron);
        let mut offsets = vec![0u32; self.layout.padded + 1];
        all.iter().for_each(|(neuron, _)| offsets[neuron + 1] += 1);
        (0..self.layout.padded).for_each(|i| offsets[i + 1] += offsets[i]);
        let entries: Vec<u32> = all.iter().flat_map(|(_, entry)| *entry).collect();
        self.moving.traces = self.gpu.zeros(ElementType::F32, at)?;
        self.probes =
            Some(Probes { offsets: self.gpu.upload(&offsets)?, entries: self.gpu.upload(&entries)?, first });
        Ok(())
    }
}

impl std::fmt::Debug for Simulator<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulator").field("gpu", &self.gpu).field("steps", &self.now).finish()
    }
}
