//! What training forward in time keeps between two steps, and what a step does to it, on whatever device.

use std::collections::BTreeMap;

use super::super::current::Sent;
use super::super::{Layer, Model, bias_path, weights_path};
use super::Credit;
use crate::snn::scan::Parameters;
use crate::tensor::{DType, Device, Meta, Tensor};
use crate::{Error, Result};

/// A layer between two steps.
pub(super) struct State {
    /// `[B, N]`: potential that the step before left.
    pub carry: Tensor,
    /// Its spikes.
    pub spikes: Tensor,
    /// Synaptic current, where there is one.
    pub current: Tensor,
    /// What thresholds are raised by, where they adapt: a.
    pub adaptation: Tensor,
    /// Membrane as it is shown, of an output that is read so.
    pub membrane: Tensor,
    /// `σ'` of this step.
    pub slope: Tensor,
    /// Currents that are the same in every step, where the input is constant.
    pub held: Option<Tensor>,
    /// Weights `[N, N]` to itself.
    pub recurrent: Option<Tensor>,
    /// What is 1 in each step, and its traces.
    steady: (Tensor, Filter),
    /// Of everything that learns.
    pub traces: Vec<Trace>,
}

/// ι and ε of sources, `[B, K]`, or one number of what is the same in each step.
pub(super) struct Filter {
    /// Empty without a synaptic current.
    pub current: Tensor,
    pub trace: Tensor,
}

/// Eligibilities of weights or biases.
pub(super) struct Trace {
    /// Of the parameter.
    path: String,
    source: Source,
    /// Of sources that change from step to step.
    filter: Option<Filter>,
    /// Where e-prop needs it.
    synapses: Option<Eligibility>,
    sum: Sum,
}

/// What a trace follows.
enum Source {
    /// A bias: 1 in each step.
    Bias,
    /// The constant current of a population.
    Constant(usize),
    /// Spikes of a population.
    Spikes(usize),
    /// Spikes of its own, a step later.
    Itself,
}

/// `Σ_t L ē`.
pub(super) struct Sum {
    /// Sources, samples and neurons: a bias is a source of its own; of a constant current, the neurons of each sample are
    /// added up apart, as one sample with one source.
    pub sizes: [usize; 3],
    /// One number for each source and neuron.
    pub values: Tensor,
}

/// What e-prop keeps of each synapse and sample, `[sources, samples, neurons]`.
pub(super) struct Eligibility {
    /// ē
    pub filtered: Tensor,
    /// ε^a, empty where thresholds stay as they are.
    pub adaptation: Tensor,
}

/// What all steps add up to.
pub(super) struct Total {
    /// `[1, B, C]`
    pub outputs: Tensor,
    /// Parts of the loss in double precision, `[B]`.
    pub losses: Tensor,
}

/// The loops of a step, on one kind of device.
pub(super) trait Loops {
    /// Neurons on currents `[B, N]`: the equations of [`scan`](crate::snn::scan), in their order. Returns the spikes of the
    /// step before.
    fn advance(&self, layer: &Layer, state: &mut State, currents: &Tensor) -> Result<Tensor>;

    /// `ι ← α ι + s`, `ε ← β ε + ι`.
    fn filter(&self, numbers: &Parameters, spikes: &Tensor, filter: &mut Filter) -> Result<()>;

    /// `share` of the cross-entropy of scores `[B, C]`, of which both are added to the total; returns its gradient.
    fn loss(&self, scores: &Tensor, labels: &Tensor, share: f64, total: &mut Total) -> Result<Tensor>;

    /// `L σ' g`, or without a slope `L g`.
    fn delta(&self, signal: &Tensor, slope: Option<&Tensor>, gain: &Tensor) -> Result<Tensor>;

    /// `Σ += ε δ`.
    fn collect(&self, epsilon: &Tensor, delta: &Tensor, sum: &mut Sum) -> Result<()>;

    /// `ē ← κ ē + g σ' ε`, `Σ += L ē`, for L and σ', for κ and the numbers of the population.
    fn collect_filtered(
        &self,
        epsilon: &Tensor,
        spikes: [&Tensor; 2],
        numbers: (&Tensor, &Parameters),
        synapses: &mut Eligibility,
        sum: &mut Sum,
    ) -> Result<()>;
}

fn full(shape: &[usize], value: f64, device: &Device) -> Result<Tensor> {
    Tensor::full_on(&Meta::new(shape, DType::F32), value, device)
}

impl Total {
    pub fn new([batch, classes]: [usize; 2], device: &Device) -> Result<Self> {
        let losses = Tensor::full_on(&Meta::new([batch], DType::F64), 0.0, device)?;
        Ok(Self { outputs: full(&[1, batch, classes], 0.0, device)?, losses })
    }
}

impl Filter {
    fn new(shape: &[usize], numbers: &Parameters, device: &Device) -> Result<Self> {
        let current = if numbers.current_decay.is_some() { shape } else { &[0] };
        Ok(Self { current: full(current, 0.0, device)?, trace: full(shape, 0.0, device)? })
    }
}

impl Model {
    /// A layer before the first step, where a constant input is `sent` already.
    pub(super) fn begin(
        &self,
        layer: &Layer,
        sent: &BTreeMap<usize, Sent>,
        batch: usize,
        credit: Credit,
    ) -> Result<State> {
        let (device, numbers, neurons) = (&self.device, &layer.numbers, layer.neurons);
        let zeros = |shape: &[usize]| full(shape, 0.0, device);
        let where_there = |is: bool| zeros(&[if is { batch } else { 0 }, neurons]);
        let adapts = numbers.adaptation.is_some();
        let kept = credit == Credit::Eprop && layer.population != self.output;
        let trace = |path: String, source: Source| -> Result<Trace> {
            let sources = || self.parameters[&path].shape()[0];
            let (sizes, shape, filter) = match source {
                Source::Bias => ([1, batch, neurons], vec![neurons], None),
                Source::Constant(_) => ([1, 1, batch * neurons], vec![batch, neurons], None),
                Source::Spikes(_) | Source::Itself => {
                    let filter = Filter::new(&[batch, sources()], numbers, device)?;
                    ([sources(), batch, neurons], vec![sources(), neurons], Some(filter))
                }
            };
            let synapses = match kept {
                true => Some(Eligibility {
                    filtered: zeros(&sizes)?,
                    adaptation: zeros(if adapts { &sizes } else { &[0] })?,
                }),
                false => None,
            };
            Ok(Trace { path, source, filter, synapses, sum: Sum { sizes, values: zeros(&shape)? } })
        };
        let constant = |pre: usize| matches!(sent.get(&pre), Some(Sent::Held(_)));
        let mut traces = vec![];
        for from in layer.incoming.iter().filter(|from| from.frozen.is_none()) {
            let source =
                if constant(from.pre) { Source::Constant(from.pre) } else { Source::Spikes(from.pre) };
            traces.push(trace(weights_path(&from.name), source)?);
            if from.biased {
                traces.push(trace(bias_path(&from.name), Source::Bias)?);
            }
        }
        if let Some((name, None)) = &layer.recurrent {
            traces.push(trace(weights_path(name), Source::Itself)?);
        }
        let held = layer.incoming.iter().all(|from| constant(from.pre));
        Ok(State {
            carry: full(&[batch, neurons], layer.scan.rest, device)?,
            spikes: zeros(&[batch, neurons])?,
            current: where_there(numbers.current_decay.is_some())?,
            adaptation: where_there(adapts)?,
            membrane: where_there(layer.scan.membrane)?,
            slope: zeros(&[batch, neurons])?,
            held: if held { Some(self.total(layer, sent)?) } else { None },
            recurrent: self.numbers_of(layer)?.recurrent,
            steady: (full(&[1], 1.0, device)?, Filter::new(&[1], numbers, device)?),
            traces,
        })
    }
}

impl State {
    /// ι and ε of all that projects to it, where `before` are its own spikes of the step before.
    pub fn filter(
        &mut self,
        loops: &dyn Loops,
        numbers: &Parameters,
        sent: &BTreeMap<usize, Sent>,
        before: &Tensor,
    ) -> Result<()> {
        let device = before.device();
        if self.traces.iter().any(|trace| trace.filter.is_none()) {
            let (one, filter) = &mut self.steady;
            loops.filter(numbers, one, filter)?;
        }
        for Trace { source, filter, .. } in &mut self.traces {
            let Some(filter) = filter else { continue };
            match source {
                Source::Spikes(pre) => {
                    let sent = sent.get(pre).ok_or_else(|| Error::Internal("a source did not run".into()))?;
                    loops.filter(numbers, &sent.tensor(device)?, filter)?;
                }
                _ => loops.filter(numbers, before, filter)?,
            }
        }
        Ok(())
    }

    /// Signals by the current meet the traces of sources.
    pub fn collect(&mut self, loops: &dyn Loops, delta: &Tensor) -> Result<()> {
        for Trace { filter, sum, .. } in &mut self.traces {
            let Filter { trace: epsilon, .. } = filter.as_ref().unwrap_or(&self.steady.1);
            loops.collect(epsilon, delta, sum)?;
        }
        Ok(())
    }

    /// Signals by the spikes meet the traces of synapses, after these have gone on.
    pub fn collect_filtered(
        &mut self,
        loops: &dyn Loops,
        signal: &Tensor,
        numbers: (&Tensor, &Parameters),
    ) -> Result<()> {
        for Trace { filter, synapses, sum, .. } in &mut self.traces {
            let Some(synapses) = synapses else { continue };
            let Filter { trace: epsilon, .. } = filter.as_ref().unwrap_or(&self.steady.1);
            loops.collect_filtered(epsilon, [signal, &self.slope], numbers, synapses, sum)?;
        }
        Ok(())
    }
}

impl Trace {
    /// The path of the parameter and its gradient.
    pub fn finish(self, sent: &BTreeMap<usize, Sent>) -> Result<(String, Tensor)> {
        let Self { path, source, sum: Sum { values, .. }, .. } = self;
        let Source::Constant(pre) = source else { return Ok((path, values)) };
        let Some(Sent::Held(x)) = sent.get(&pre) else {
            return Err(Error::Internal("a constant input changed".into()));
        };
        let gradient = x.reshape(&x.shape()[1..])?.matmul_tn(&values)?;
        Ok((path, gradient))
    }
}
