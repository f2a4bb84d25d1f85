//! Populations that are sources: Poisson trains and lists of spikes, step by step.

use crate::rng::Stream;
use crate::snn::connect::with_probability;
use crate::snn::{Network, Source};
use crate::units::Ms;
use std::ops::Range;

/// Spikes of an input population.
pub(in crate::engine) enum Input {
    Poisson { stream: Stream, p: f64, size: usize, steps: Range<u64> },
    List { spikes: Vec<(u64, u32)>, next: usize },
}

impl Input {
    /// Writes the spikes of a step.
    pub(in crate::engine) fn draw(&mut self, step: u64, list: &mut Vec<u32>) {
        list.clear();
        match self {
            Self::Poisson { stream, p, size, steps } => {
                if steps.contains(&step) {
                    list.extend(with_probability(*p, *size, stream, step));
                }
            }
            Self::List { spikes, next } => {
                while let Some(&(at, neuron)) = spikes.get(*next)
                    && at <= step
                {
                    *next += 1;
                    if at == step {
                        list.push(neuron);
                    }
                }
            }
        }
    }

    /// Takes up a simulation before a step: what a list had for earlier ones is over.
    pub(in crate::engine) fn go_to(&mut self, step: u64) {
        if let Self::List { spikes, next } = self {
            *next = spikes.partition_point(|&(at, _)| at < step);
        }
    }
}

/// The populations that have a source of spikes.
pub(in crate::engine) fn inputs(net: &Network) -> Vec<(usize, Input)> {
    let per_step = |rate: f64| rate * net.dt.0 / 1000.0;
    let step = |time: Ms| (time.0 / net.dt.0).round() as u64;
    let mut inputs = Vec::new();
    for (index, p) in net.populations.iter().enumerate() {
        match &p.stimulus.source {
            Some(Source::Poisson { rate, from, until }) => {
                let stream = Stream::named(net.seed, &format!("population/{}/source", p.name));
                let steps = step(*from)..step(*until);
                inputs.push((index, Input::Poisson { stream, p: per_step(rate.0), size: p.size(), steps }));
            }
            Some(Source::Spikes(list)) => {
                let mut spikes = list.clone();
                spikes.sort_unstable();
                inputs.push((index, Input::List { spikes, next: 0 }));
            }
            None => {}
        }
    }
    inputs
}
