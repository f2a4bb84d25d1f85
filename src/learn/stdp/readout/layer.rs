//! The neurons of a readout and the weights that lead to them.

use crate::engine::Events;
use crate::error::{Error, Result};
use crate::parallel;
use crate::snn::{Network, Neuron, Pop, Values, Weights};

/// Numbers in a row of weights are a multiple of this, so that loops over them become vectors.
const LANES: usize = 8;
/// Sources whose weights one task changes.
const TOGETHER: usize = 128;

/// Weights and biases. Numbers behind the last neuron of a row are 0.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layer {
    pub neurons: usize,
    pub stride: usize,
    /// `[sources, stride]`
    pub weights: Vec<f32>,
    /// `[stride]`, or empty. It learns as the weight of a source that fires in every step.
    pub bias: Vec<f32>,
}

/// Neurons over the steps of a presentation.
pub(super) struct Bench<'n> {
    model: &'n dyn Neuron,
    state: Vec<Vec<f32>>,
    current: Vec<f32>,
}

impl<'n> Bench<'n> {
    pub fn new(model: &'n dyn Neuron) -> Self {
        Self { model, state: vec![], current: vec![] }
    }
}

impl Layer {
    /// The weights of a projection, its gain included.
    pub fn of(net: &Network, projection: usize) -> Result<Self> {
        let p = &net.projections[projection];
        let neurons = net.populations[p.post.0].size();
        let refuse = |what: &str| {
            let on = format!("on `{}`: its {what}", p.name);
            Error::Unsupported { op: "training of a readout by spike times", on }
        };
        let values = match (&p.weights, p.weights.values()) {
            (Weights::Dense { .. }, Values::F32(values)) => values,
            (Weights::Dense { .. }, _) => {
                return Err(refuse("weights are 8-bit integers; write `precision = \"f32\"`"));
            }
            _ => return Err(refuse("connections are not dense")),
        };
        let gain = |j: usize| p.gain.get(j * p.gain.len() / neurons).copied().unwrap_or(1.0);
        let stride = neurons.next_multiple_of(LANES);
        let mut weights = vec![0.0; values.len() / neurons * stride];
        for (row, values) in weights.chunks_exact_mut(stride).zip(values.chunks_exact(neurons)) {
            row.iter_mut().zip(values).enumerate().for_each(|(j, (w, value))| *w = value * gain(j));
        }
        let mut bias = vec![0.0; if p.bias.is_empty() { 0 } else { stride }];
        for (j, bias) in bias.iter_mut().enumerate().take(neurons) {
            *bias = p.bias[j * p.bias.len() / neurons] * gain(j);
        }
        Ok(Self { neurons, stride, weights, bias })
    }

    /// Puts the weights into the network.
    pub fn write_back(&self, net: &mut Network, projection: usize) -> Result<()> {
        let name = net.projections[projection].name.clone();
        let biases = net.projections[projection].bias.len();
        net.projections[projection].gain = vec![1.0];
        let rows = self.weights.chunks_exact(self.stride);
        let weights: Vec<f32> = rows.flat_map(|row| &row[..self.neurons]).copied().collect();
        let shape = [weights.len() / self.neurons, self.neurons];
        net.set_tensor(&format!("projection.{name}.weights"), &shape, &weights)?;
        match biases {
            0 => Ok(()),
            _ => {
                net.projections[projection].bias.resize(self.neurons, 0.0);
                net.set_tensor(
                    &format!("projection.{name}.bias"),
                    &[self.neurons],
                    &self.bias[..self.neurons],
                )
            }
        }
    }

    /// Spikes `[T, neurons]` on a sample. `noise`, `[T, neurons]` or empty, is added to the currents.
    pub fn present(&self, input: &Events, noise: &[f32], bench: &mut Bench<'_>) -> Vec<u8> {
        let n = self.neurons;
        let Bench { model, state, current } = bench;
        *state = model.state().iter().map(|variable| vec![variable.initial; n]).collect();
        let mut spikes = vec![0; input.steps() * n];
        for (t, spikes) in spikes.chunks_exact_mut(n).enumerate() {
            current.clear();
            current.resize(self.stride, 0.0);
            for &i in input.step(t) {
                let row = &self.weights[i as usize * self.stride..][..self.stride];
                add(current, row);
            }
            add(current, &self.bias);
            if !noise.is_empty() {
                add(current, &noise[t * n..][..n]);
            }
            let mut state: Vec<&mut [f32]> = state.iter_mut().map(Vec::as_mut_slice).collect();
            model.step(&current[..n], &mut state, spikes);
        }
        spikes
    }

    /// `w ← w + rate Σ (s − s̄) z`, over the samples of a batch in their order, cut to `bounds`. Windows `z` are
    /// `[T, stride]`, means `s̄` `[T, sources]` or empty for 0. A bias is the weight of a source that always fires.
    pub fn learn(
        &mut self,
        batch: &[&Events],
        windows: &[Vec<f32>],
        means: &[f32],
        rate: f32,
        bounds: [f32; 2],
    ) {
        let stride = self.stride;
        let sources = self.weights.len() / stride;
        let mut total = vec![0.0f32; windows.first().map_or(0, Vec::len)];
        windows.iter().for_each(|windows| add(&mut total, windows));
        let change = |weights: &mut [f32], sum: &[f32]| {
            let changed = weights.iter_mut().zip(sum);
            changed.for_each(|(w, &sum)| *w = (*w + rate * sum).max(bounds[0]).min(bounds[1]));
        };
        parallel::chunks_mut(&mut self.weights, TOGETHER * stride, |piece, weights| {
            let first = (piece * TOGETHER) as u32;
            let last = first + (weights.len() / stride) as u32;
            let mut sums = vec![0.0f32; weights.len()];
            for (input, windows) in batch.iter().zip(windows) {
                for (t, window) in windows.chunks_exact(stride).enumerate() {
                    let fired = input.step(t);
                    let from = fired.partition_point(|&i| i < first);
                    for &i in fired[from..].iter().take_while(|&&i| i < last) {
                        add(&mut sums[(i - first) as usize * stride..][..stride], window);
                    }
                }
            }
            for (means, window) in means.chunks_exact(sources).zip(total.chunks_exact(stride)) {
                let means = &means[first as usize..last as usize];
                for (sum, &mean) in sums.chunks_exact_mut(stride).zip(means) {
                    sum.iter_mut().zip(window).for_each(|(sum, &z)| *sum -= mean * z);
                }
            }
            change(weights, &sums);
        });
        if !self.bias.is_empty() && means.is_empty() {
            let mut sum = vec![0.0f32; stride];
            total.chunks_exact(stride).for_each(|window| add(&mut sum, window));
            change(&mut self.bias, &sum);
        }
    }

    /// `b ← b − strength (rate − 1 / neurons)` for rates in spikes per step.
    pub fn balance(&mut self, rates: &[f32], strength: f32) {
        let share = 1.0 / self.neurons as f32;
        self.bias.iter_mut().zip(rates).for_each(|(bias, &rate)| *bias -= strength * (rate - share));
    }
}

fn add(sum: &mut [f32], part: &[f32]) {
    sum.iter_mut().zip(part).for_each(|(sum, &x)| *sum += x);
}

/// The one projection that learns, and where it comes from.
///
/// # Errors
/// Names what is not as [`Trainer`](super::Trainer) needs it.
pub(super) fn projection(net: &Network, output: Pop) -> Result<usize> {
    let wrong = |what: String| Err(Error::Network(vec![what]));
    let Some(population) = net.populations.get(output.0).filter(|p| p.model.is_some()) else {
        return Err(Error::value("output population", output.0, "one with neurons"));
    };
    let trained: Vec<usize> = (0..net.projections.len()).filter(|&i| !net.projections[i].frozen).collect();
    let &[only] = trained.as_slice() else {
        return wrong(match trained.get(1) {
            None => "no projection is trained: write `frozen = false` in the readout".into(),
            Some(&second) => format!(
                "projection `{}`: it learns besides `{}`, where only one can",
                net.projections[second].name, net.projections[trained[0]].name
            ),
        });
    };
    let p = &net.projections[only];
    if p.post != output {
        return wrong(format!(
            "projection `{}`: it learns, but does not end in `{}`",
            p.name, population.name
        ));
    }
    if net.incoming(output).count() > 1 {
        return wrong(format!(
            "population `{}`: the readout hears more than one projection",
            population.name
        ));
    }
    if net.populations[p.pre.0].model.is_none() {
        let input = &net.populations[p.pre.0].name;
        return wrong(format!("projection `{}`: it begins at the input `{input}`, not at neurons", p.name));
    }
    if p.delay.is_some() {
        return wrong(format!("projection `{}`: a readout has no delay", p.name));
    }
    if let Some(back) = net.projections.iter().find(|p| p.pre == output) {
        return wrong(format!(
            "projection `{}`: it begins at the readout, which is to be the last",
            back.name
        ));
    }
    Ok(only)
}
