//! A slow simulator written to be read: every synapse of every neuron in every step, one neuron at a time.

use ransnn::{
    engine::{Input, Pool, What},
    rng::Stream,
    snn::{Encoding, Network, Neuron, Projection, Values, Weights, encode},
};

/// The result of one sample.
pub struct Run {
    /// `[populations][steps][neurons]`
    pub spikes: Vec<Vec<Vec<u32>>>,
    /// `[populations][neurons]`, empty for the input.
    pub membrane: Vec<Vec<f32>>,
    /// Spikes times targets reached.
    pub operations: u64,
}

/// A weight: an integer, or a plain number.
#[derive(Clone, Copy)]
enum Weight {
    Quantum(i64),
    Plain(f32),
}

/// The synapses `(source, weight)` of every target, ascending in the source; of a convolution before the largest are taken.
fn synapses(projection: &Projection, mut targets: usize) -> Vec<Vec<(usize, Weight)>> {
    let weight = |values: &Values, i: usize| match values {
        Values::Int8 { quanta, .. } => Weight::Quantum(quanta[i].into()),
        Values::F32(values) => Weight::Plain(values[i]),
    };
    let mut all = Vec::new();
    match &projection.weights {
        Weights::Dense { sources, targets, values } => {
            for i in 0..sources * targets {
                all.push((i / targets, i % targets, weight(values, i)));
            }
        }
        Weights::Sparse { offsets, targets, values } => {
            for source in 0..offsets.len() - 1 {
                for (i, &target) in targets.iter().enumerate().take(offsets[source + 1]).skip(offsets[source])
                {
                    all.push((source, target as usize, weight(values, i)));
                }
            }
        }
        Weights::Conv2d { geometry: g, values } => {
            let [channels, height, width] = g.before_max_pool().output;
            targets = channels * height * width;
            for target in 0..targets {
                let (c, y, x) = (target / (height * width), target / width % height, target % width);
                for tap in 0..g.input[0] * g.kernel * g.kernel {
                    let (input, ky, kx) =
                        (tap / (g.kernel * g.kernel), tap / g.kernel % g.kernel, tap % g.kernel);
                    let (iy, ix) = (y * g.stride + ky, x * g.stride + kx);
                    let inside = |at: usize, size: usize| (g.padding..size + g.padding).contains(&at);
                    if !inside(iy, g.input[1] / g.pool) || !inside(ix, g.input[2] / g.pool) {
                        continue;
                    }
                    let (top, left) = ((iy - g.padding) * g.pool, (ix - g.padding) * g.pool);
                    for pixel in 0..g.pool * g.pool {
                        let (row, column) = (top + pixel / g.pool, left + pixel % g.pool);
                        let source = (input * g.input[1] + row) * g.input[2] + column;
                        let index = c * g.input[0] * g.kernel * g.kernel + tap;
                        all.push((source, target, weight(values, index)));
                    }
                }
            }
        }
    }
    all.sort_by_key(|&(source, _, _)| source);
    let mut by_target = vec![Vec::new(); targets];
    all.into_iter().for_each(|(source, target, weight)| by_target[target].push((source, weight)));
    by_target
}

/// One entry, one per target, or one per channel.
fn entry(values: &[f32], target: usize, neurons: usize, default: f32) -> f32 {
    match values.len() {
        0 => default,
        n => values[target / neurons.div_ceil(n).max(1)],
    }
}

/// Runs one sample. The populations must stand in an order in which they can run, the input first.
pub fn run(net: &Network, encoding: &Encoding, input: Input, row: usize, id: u64, stream: &Stream) -> Run {
    let inputs = net.populations[0].size();
    let len = encoding.sample_len(inputs);
    let value = |i: usize| match input {
        Input::U8(x) => f32::from(x[row * len + i]) / 255.0,
        Input::F32(x) => x[row * len + i],
        Input::Events(_) => 0.0,
    };
    let tables: Vec<_> =
        net.projections.iter().map(|p| synapses(p, net.populations[p.post.0].size())).collect();
    let models: Vec<Option<&dyn Neuron>> = net.populations.iter().map(|p| p.model.as_deref()).collect();
    let mut state: Vec<Vec<Vec<f32>>> = net
        .populations
        .iter()
        .zip(&models)
        .map(|(p, model)| {
            model.map_or(vec![], |m| m.state().iter().map(|s| vec![s.initial; p.size()]).collect())
        })
        .collect();
    let mut result = Run { spikes: vec![Vec::new(); net.populations.len()], membrane: vec![], operations: 0 };
    for step in 0..encoding.steps() {
        let mut fired: Vec<Vec<u32>> = Vec::new();
        for (index, population) in net.populations.iter().enumerate() {
            let neurons = population.size();
            let Some(model) = models[index] else {
                fired.push(
                    (0..neurons)
                        .map(|j| u32::from(fires(encoding, &input, &value, row, id, step, j, inputs, stream)))
                        .collect(),
                );
                continue;
            };
            let mut current = vec![0f32; neurons];
            let constant = |p: &Projection| encoding.is_constant() && p.pre.0 == 0;
            // Spikes of a source that act in this step.
            let arrive = |p: &Projection, source: usize| match p.delay {
                None => fired[p.pre.0][source],
                Some(delay) => match step.checked_sub((delay.0 / net.dt.0).round() as usize) {
                    Some(sent) => result.spikes[p.pre.0][sent][source],
                    None => 0,
                },
            };
            let mut operations = 0;
            for pass in [true, false] {
                for (projection, table) in net.projections.iter().zip(&tables) {
                    if projection.post.0 != index || constant(projection) != pass {
                        continue;
                    }
                    let sums = (0..table.len()).map(|target| {
                        let (mut integer, mut plain) = (0i64, 0f32);
                        for &(source, weight) in &table[target] {
                            match (pass, weight, input) {
                                (true, Weight::Quantum(q), Input::U8(x)) => {
                                    integer += q * i64::from(x[row * len + source])
                                }
                                (true, Weight::Quantum(q), _) => plain += value(source) * q as f32,
                                (true, Weight::Plain(w), _) => plain += value(source) * w,
                                (false, weight, _) => {
                                    for _ in 0..arrive(projection, source) {
                                        operations += 1;
                                        match weight {
                                            Weight::Quantum(q) => integer += q,
                                            Weight::Plain(w) => plain += w,
                                        }
                                    }
                                }
                            }
                        }
                        let gain = entry(&projection.gain, target, table.len(), 1.0);
                        let bias = entry(&projection.bias, target, table.len(), 0.0) * gain;
                        let scale = match values(projection) {
                            Values::Int8 { scale, .. } => entry(scale, target, table.len(), 1.0) * gain,
                            Values::F32(_) => gain,
                        };
                        let scale = match projection.weights {
                            Weights::Conv2d { geometry, .. } => {
                                scale / (geometry.pool * geometry.pool) as f32
                            }
                            _ => scale,
                        };
                        match (values(projection), pass, input) {
                            (Values::Int8 { .. }, true, Input::U8(_)) => {
                                integer as f32 * (scale / 255.0) + bias
                            }
                            (Values::Int8 { .. }, false, _) => integer as f32 * scale + bias,
                            _ => plain * scale + bias,
                        }
                    });
                    let sums: Vec<f32> = sums.collect();
                    for (target, current) in current.iter_mut().enumerate() {
                        *current += largest(projection, &sums, target);
                    }
                }
            }
            result.operations += operations;
            let mut spikes = vec![0u8; neurons];
            let mut slices: Vec<&mut [f32]> = state[index].iter_mut().map(Vec::as_mut_slice).collect();
            model.step(&current, &mut slices, &mut spikes);
            fired.push(spikes.into_iter().map(u32::from).collect());
        }
        for (all, fired) in result.spikes.iter_mut().zip(fired) {
            all.push(fired);
        }
    }
    result.membrane =
        state.into_iter().map(|mut s| if s.is_empty() { vec![] } else { s.swap_remove(0) }).collect();
    result
}

/// The current of a target: the largest of its window, or its own.
fn largest(projection: &Projection, sums: &[f32], target: usize) -> f32 {
    let Weights::Conv2d { geometry: g, .. } = &projection.weights else { return sums[target] };
    let [_, height, width] = g.output;
    let (c, y, x) = (target / (height * width), target / width % height, target % width);
    let side = g.max_pool;
    let row = |i: usize| (c * height + y) * side + i / side;
    (0..side * side).map(|i| sums[row(i) * width * side + x * side + i % side]).fold(f32::MIN, f32::max)
}

fn values(projection: &Projection) -> &Values {
    match &projection.weights {
        Weights::Dense { values, .. } | Weights::Sparse { values, .. } | Weights::Conv2d { values, .. } => {
            values
        }
    }
}

#[allow(clippy::too_many_arguments)]
fn fires(
    encoding: &Encoding,
    input: &Input,
    value: &dyn Fn(usize) -> f32,
    row: usize,
    id: u64,
    step: usize,
    j: usize,
    inputs: usize,
    stream: &Stream,
) -> bool {
    if let Input::Events(lists) = input {
        return lists[row].step(step).contains(&(j as u32));
    }
    match *encoding {
        Encoding::Constant { .. } => false,
        Encoding::Bernoulli { gain, .. } => {
            let threshold = encode::bernoulli_threshold(value(j), gain);
            encode::bernoulli(stream, threshold, id, step as u32, j as u32)
        }
        Encoding::Latency { steps } => encode::latency(value(j), steps) == Some(step),
        Encoding::Frames { .. } => value(step * inputs + j) > 0.0,
        Encoding::Delta { threshold, off, .. } => {
            let signals = if off { inputs / 2 } else { inputs };
            let signal = j % signals.max(1);
            let before = if step == 0 { 0.0 } else { value((step - 1) * signals + signal) };
            let change = encode::delta(before, value(step * signals + signal), threshold);
            change == if j < signals { 1 } else { -1 }
        }
    }
}

/// A feature of one population.
pub fn feature(run: &Run, population: usize, shape: &[usize], what: What) -> Vec<f32> {
    let (spikes, neurons) = (&run.spikes[population], shape.iter().product::<usize>());
    let count = |i: usize| spikes.iter().map(|step| step[i]).sum::<u32>() as f32;
    match what {
        What::Counts => (0..neurons).map(count).collect(),
        What::Bins(n) => {
            let mut bins = vec![0f32; n * neurons];
            for (t, step) in spikes.iter().enumerate() {
                let bin = t * n / spikes.len();
                step.iter().enumerate().for_each(|(i, &s)| bins[bin * neurons + i] += s as f32);
            }
            bins
        }
        What::Membrane => run.membrane[population].clone(),
        What::Trace { decay } => {
            let mut trace = vec![0f32; neurons];
            for step in spikes {
                trace.iter_mut().zip(step).for_each(|(trace, &s)| *trace = *trace * decay + s as f32);
            }
            trace
        }
        What::Pool(pool) => {
            let (height, width) = (shape[1], shape[2]);
            let ranges = |size: usize, offset: isize| -> Vec<(isize, isize)> {
                match pool {
                    Pool::Grid { cells } => (0..cells)
                        .map(|i| ((i * size / cells) as isize, ((i + 1) * size).div_ceil(cells) as isize))
                        .collect(),
                    Pool::Overlapping { cells, percent } => {
                        let (cell, half) = (size as f64 / cells as f64, percent as f64 / 200.0);
                        let inside = |i: usize, y: usize| {
                            let distance = (y as f64 + 0.5) / cell - (i as f64 + 0.5);
                            distance >= -half - 1e-9 && distance < half - 1e-9
                        };
                        let range = |i: usize| {
                            let inside: Vec<usize> = (0..size).filter(|&y| inside(i, y)).collect();
                            let first = inside.first().copied().unwrap_or(0);
                            (first as isize, (first + inside.len()) as isize)
                        };
                        (0..cells).map(range).collect()
                    }
                    Pool::Windows { side, stride, .. } => (0..)
                        .map(|i| offset + i * stride as isize)
                        .take_while(|&start| start < size as isize)
                        .map(|start| (start, start + side as isize))
                        .collect(),
                }
            };
            let (dy, dx) = if let Pool::Windows { offset, .. } = pool { offset } else { (0, 0) };
            let mut out = Vec::new();
            for channel in 0..shape[0] {
                for &(top, bottom) in &ranges(height, dy) {
                    for &(left, right) in &ranges(width, dx) {
                        let mut sum = 0.0;
                        for p in 0..height * width {
                            let (y, x) = ((p / width) as isize, (p % width) as isize);
                            if (top..bottom).contains(&y) && (left..right).contains(&x) {
                                sum += count(channel * height * width + p);
                            }
                        }
                        out.push(sum);
                    }
                }
            }
            out
        }
    }
}
