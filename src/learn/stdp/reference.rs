//! The same network written plainly: every neuron, synapse and trace in every step, inhibitory neurons included. The fast
//! loops have to give the same bits.

use super::diehl_cook::{DiehlCook, Merge, Plasticity, Retry};
use super::spikes::{Key, Spikes};
use super::trainer::Trainer;
use crate::engine::Input;
use crate::error::Result;
use crate::rng::Stream;
use crate::snn::neurons::Dynamics;
use crate::units::{Hz, Ms};
use rand::RngExt;

/// `[inputs][neurons]`
type Matrix = Vec<Vec<f32>>;

struct Plain {
    net: DiehlCook,
    seed: u64,
    weights: Matrix,
    theta: Vec<f32>,
    /// Who has fired since the weights were scaled.
    fired: Vec<bool>,
}

/// An inhibitory neuron: rest −60, threshold −40, reset −45 mV, 10 ms; refractory for 2 ms.
#[derive(Clone)]
struct Inhibitory {
    v: f32,
    g: f32,
    since: f32,
}

impl Inhibitory {
    fn step(&mut self, spike: bool, dynamics: Dynamics, dt: f32) -> bool {
        self.since += dt;
        match dynamics {
            Dynamics::Current => {
                self.v = (-dt / 10.0).exp() * (self.v + 60.0) - 60.0;
                if spike && self.since > 2.0 {
                    self.v += 22.5;
                }
            }
            Dynamics::Conductance { .. } => {
                self.g += if spike { 10.4 } else { 0.0 };
                if self.since >= 2.0 {
                    self.v += dt / 10.0 * ((-60.0 - self.v) + self.g * (0.0 - self.v));
                }
                self.g -= dt * self.g;
            }
        }
        let fires = self.v >= -40.0 && self.since > 2.0;
        if fires {
            (self.v, self.since) = (-45.0, 0.0);
        }
        fires
    }
}

impl Plain {
    /// Counts of the neurons on one presentation. `fires[t][i]`: whether input `i` fires.
    fn present(&mut self, fires: &[Vec<bool>], key: Key) -> Vec<u32> {
        let (net, n, inputs) = (self.net.clone(), self.net.neurons, self.weights.len());
        let dt = net.neuron.dt.0 as f32;
        let factor = |tau: Ms| (-net.neuron.dt.0 / tau.0).exp() as f32;
        let rest = net.neuron.rest as f32;
        let (mut v, mut g_e, mut g_i) = (vec![rest; n], vec![0.0f32; n], vec![0.0f32; n]);
        let mut ago = vec![1_000_000u32; n];
        let mut interneurons = vec![Inhibitory { v: -60.0, g: 0.0, since: 1e6 }; n];
        let (mut x_pre, mut x_1, mut x_2) = (vec![0.0f32; inputs], vec![0.0f32; n], vec![0.0f32; n]);
        let mut counts = vec![0; n];
        let (mut input_before, mut fired_before, mut inhibited) =
            (vec![false; inputs], vec![false; n], vec![false; n]);
        for (t, input) in fires.iter().enumerate() {
            let mut crosses = vec![false; n];
            for j in 0..n {
                let mut excitation = 0.0f32;
                for (row, _) in self.weights.iter().zip(&input_before).filter(|(_, fires)| **fires) {
                    excitation += row[j];
                }
                let others = (0..n).filter(|&k| k != j && inhibited[k]).count();
                let inhibition = net.inhibition * others as f32;
                ago[j] = (ago[j] + 1).min(1_000_000);
                let refractory = (net.neuron.refractory.0 / net.neuron.dt.0).round() as u32;
                match net.neuron.dynamics {
                    Dynamics::Current => {
                        v[j] = factor(net.neuron.tau_mem) * (v[j] - rest) + rest;
                        if ago[j] > refractory {
                            v[j] += excitation - inhibition;
                        }
                    }
                    Dynamics::Conductance { reversal, tau } => {
                        g_e[j] += excitation;
                        g_i[j] += inhibition;
                        if ago[j] >= refractory {
                            let pull =
                                g_e[j] * (reversal[0] as f32 - v[j]) + g_i[j] * (reversal[1] as f32 - v[j]);
                            v[j] += (net.neuron.dt.0 / net.neuron.tau_mem.0) as f32 * ((rest - v[j]) + pull);
                        }
                        g_e[j] *= (1.0 - net.neuron.dt.0 / tau[0].0) as f32;
                        g_i[j] *= (1.0 - net.neuron.dt.0 / tau[1].0) as f32;
                    }
                }
                let silence = (net.neuron.silence.0 / net.neuron.dt.0).round() as u32;
                crosses[j] = v[j] >= net.neuron.threshold as f32 + self.theta[j] && ago[j] > silence;
            }
            for j in (0..n).filter(|&j| crosses[j]) {
                (v[j], ago[j]) = (net.neuron.reset as f32, 0);
                self.theta[j] += net.threshold.plus;
            }
            let mut fired = crosses.clone();
            if net.one_winner {
                let candidates: Vec<usize> = (0..n).filter(|&j| crosses[j]).collect();
                if candidates.len() > 1 {
                    let word = key.block(&Stream::named(self.seed, "stdp/winner"), t as u32, 0)[0];
                    let winner = candidates[((u64::from(word) * candidates.len() as u64) >> 32) as usize];
                    fired = (0..n).map(|j| j == winner).collect();
                }
            }
            (0..n).for_each(|j| counts[j] += u32::from(fired[j]));
            (0..n).for_each(|j| self.fired[j] |= fired[j]);
            // The inhibitory neurons hear the spikes of the step before, and are heard in the next.
            inhibited =
                (0..n).map(|j| interneurons[j].step(fired_before[j], net.neuron.dynamics, dt)).collect();

            self.learn(input, &fired, &mut x_pre, &mut x_1, &mut x_2);
            input_before.clone_from(input);
            fired_before = fired;
        }
        counts
    }

    fn learn(&mut self, input: &[bool], fired: &[bool], x_pre: &mut [f32], x_1: &mut [f32], x_2: &mut [f32]) {
        let factor = |tau: Ms| (-self.net.neuron.dt.0 / tau.0).exp() as f32;
        let (tau_pre, tau_1, tau_2) = match self.net.plasticity {
            Plasticity::Pair { tau, .. } => (tau[0], tau[1], tau[1]),
            Plasticity::Triplet { tau_pre, tau_post, .. } => (tau_pre, tau_post[0], tau_post[1]),
            Plasticity::PostOnly { tau_pre, .. } => (tau_pre, tau_pre, tau_pre),
        };
        let decay = |x: &mut [f32], tau| x.iter_mut().for_each(|x| *x *= factor(tau));
        decay(x_pre, tau_pre);
        decay(x_1, tau_1);
        decay(x_2, tau_2);
        (0..input.len()).filter(|&i| input[i]).for_each(|i| x_pre[i] = 1.0);
        let set = |x: &mut [f32]| (0..x.len()).filter(|&j| fired[j]).for_each(|j| x[j] = 1.0);
        if matches!(self.net.plasticity, Plasticity::Pair { .. }) {
            set(x_1);
        }
        for (i, row) in self.weights.iter_mut().enumerate() {
            for (j, w) in row.iter_mut().enumerate() {
                let (pre, post) = (if input[i] { 1.0 } else { 0.0 }, if fired[j] { 1.0 } else { 0.0 });
                let changed = match self.net.plasticity {
                    Plasticity::Pair { rates, .. } => {
                        *w - rates[0] * x_1[j] * pre + rates[1] * x_pre[i] * post
                    }
                    Plasticity::Triplet { rates, .. } => {
                        *w - rates[0] * x_1[j] * pre + rates[1] * x_pre[i] * x_2[j] * post
                    }
                    Plasticity::PostOnly { rate, offset, .. } => {
                        *w + rate * (x_pre[i] - offset) * (self.net.most - *w) * post
                    }
                };
                *w = changed.max(0.0).min(self.net.most);
            }
        }
        set(x_1);
        set(x_2);
    }

    /// A sample with its repetitions.
    fn show(&mut self, intensities: &[f32], sample: u64) -> Vec<u32> {
        let chance = (self.net.rate.0 * self.net.neuron.dt.0 / 1000.0) as f32;
        let stream = Stream::named(self.seed, "stdp/input/train");
        for attempt in 0.. {
            let raised = self.net.retry.map_or(1.0, |retry| 1.0 + retry.raise * attempt as f32);
            let rows: Vec<u32> = (0..intensities.len() as u32).collect();
            let chances: Vec<f32> = intensities.iter().map(|x| (x * chance * raised).min(1.0)).collect();
            let key = Key { sample, attempt };
            let mut spikes = Spikes::default();
            spikes.draw(&stream, key, &rows, &chances, self.net.steps());
            let fires = |t| rows.iter().map(|i| spikes.step(t).contains(i)).collect();
            let fires: Vec<Vec<bool>> = (0..self.net.steps()).map(fires).collect();
            let counts = self.present(&fires, key);
            match self.net.retry {
                Some(retry) if counts.iter().sum::<u32>() < retry.least && attempt < retry.most => {}
                _ => return counts,
            }
        }
        unreachable!("the last try returns")
    }

    /// A batch of samples, numbered from `first`.
    fn batch(&mut self, samples: &[&[f32]], first: u64) -> Vec<Vec<u32>> {
        let (weights, theta) = (self.weights.clone(), self.theta.clone());
        let mut all = vec![];
        let (mut new_weights, mut new_theta) = (weights.clone(), theta.clone());
        for (b, sample) in samples.iter().enumerate() {
            (self.weights, self.theta) = (weights.clone(), theta.clone());
            all.push(self.show(sample, first + b as u64));
            if samples.len() == 1 {
                (new_weights, new_theta) = (self.weights.clone(), self.theta.clone());
                continue;
            }
            let share = if self.net.merge == Merge::Mean { 1.0 / samples.len() as f32 } else { 1.0 };
            for j in 0..theta.len() {
                for i in 0..weights.len() {
                    new_weights[i][j] += share * (self.weights[i][j] - weights[i][j]);
                }
                new_theta[j] += share * (self.theta[j] - theta[j]);
            }
        }
        (self.weights, self.theta) = (new_weights, new_theta);
        self.net.threshold.decay(&mut self.theta, Ms(self.net.presentation.0 + self.net.rest.0));
        let fired = std::mem::replace(&mut self.fired, vec![false; theta.len()]);
        for j in (0..theta.len()).filter(|&j| fired[j]) {
            self.weights.iter_mut().for_each(|row| row[j] = row[j].max(0.0).min(self.net.most));
            let sum: f32 = self.weights.iter().map(|row| row[j]).sum();
            if sum > 0.0 {
                let factor = self.net.total / sum;
                self.weights.iter_mut().for_each(|row| row[j] = (row[j] * factor).min(self.net.most));
            }
        }
        all
    }
}

/// Both, on the same samples in the same order; returns the spikes of all samples together.
fn compare(net: DiehlCook, inputs: usize, samples: usize) -> Result<u64> {
    let mut walk = Stream::named(5, "images").walk(0);
    let dark = |i: usize| i.is_multiple_of(3);
    let images: Vec<f32> =
        (0..inputs * samples).map(|i| if dark(i) { 0.0 } else { walk.random::<f32>() }).collect();
    let seed = 11;
    let mut fast = Trainer::new(net.clone(), inputs, seed)?;
    let weights = fast.weights().chunks(net.neurons).map(<[f32]>::to_vec).collect();
    let mut plain = Plain {
        net: net.clone(),
        seed,
        weights,
        theta: fast.shift().to_vec(),
        fired: vec![false; net.neurons],
    };
    let report = fast.train(Input::F32(&images), 1, &mut ())?;
    let order = fast.order(samples, 0);
    let mut spikes = 0;
    for (k, batch) in order.chunks(net.batch).enumerate() {
        let batch: Vec<&[f32]> = batch.iter().map(|&s| &images[s as usize * inputs..][..inputs]).collect();
        let counts = plain.batch(&batch, (k * net.batch) as u64);
        spikes += counts.iter().flatten().map(|&n| u64::from(n)).sum::<u64>();
    }
    assert_eq!(spikes, report.spikes, "{net:?}");
    let bits = |values: &[f32]| values.iter().map(|w| w.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(fast.shift()), bits(&plain.theta), "{net:?}");
    assert_eq!(bits(&fast.weights()), bits(&plain.weights.concat()), "{net:?}");
    Ok(spikes)
}

/// Small, driven hard: many spikes, many of them in the same step. 35 neurons do not fill the vectors.
fn hard(net: DiehlCook) -> DiehlCook {
    let threshold = crate::snn::plasticity::AdaptiveThreshold { plus: 0.02, tau: Ms(1e5) };
    DiehlCook { rate: Hz(600.0), presentation: Ms(60.0), total: 16.0, threshold, ..net }
}

fn rules() -> [Plasticity; 3] {
    let tau = [Ms(20.0), Ms(12.0)];
    [
        Plasticity::Pair { rates: [3e-2, 5e-2], tau },
        Plasticity::Triplet { rates: [3e-2, 8e-2], tau_pre: Ms(20.0), tau_post: [Ms(20.0), Ms(40.0)] },
        Plasticity::PostOnly { rate: 5e-2, offset: 0.4, tau_pre: Ms(20.0) },
    ]
}

#[test]
fn the_fast_loops_give_the_bits_of_the_plain_ones() -> Result<()> {
    for plasticity in rules() {
        for (batch, merge) in [(1, Merge::Sum), (4, Merge::Sum), (3, Merge::Mean)] {
            for one_winner in [true, false] {
                let net = DiehlCook { plasticity, batch, merge, one_winner, ..hard(DiehlCook::bindsnet(35)) };
                let weak = DiehlCook { inhibition: 2.0, ..net };
                let spikes = compare(weak, 40, 10)?;
                assert!(spikes > 10 * if one_winner { 20 } else { 60 }, "only {spikes}");
            }
            let net =
                DiehlCook { plasticity, batch, merge, inhibition: 0.05, ..hard(DiehlCook::original(35)) };
            let mut net = DiehlCook { first_shift: 8.0, total: 16.0, ..net };
            net.neuron.silence = Ms(6.0);
            let spikes = compare(net, 40, 10)?;
            assert!(spikes > 1000, "only {spikes}");
        }
    }
    Ok(())
}

#[test]
fn the_published_constants_give_the_bits_of_the_plain_loops() -> Result<()> {
    for net in [DiehlCook::original(20), DiehlCook::bindsnet(20)] {
        let spikes = compare(DiehlCook { total: 40.0, ..net }, 150, 6)?;
        assert!(spikes > 30, "only {spikes}");
    }
    Ok(())
}

#[test]
fn silent_samples_are_shown_again_as_in_the_plain_loops() -> Result<()> {
    let retry = Some(Retry { least: 30, raise: 0.7, most: 5 });
    let net = DiehlCook { retry, rate: Hz(60.0), ..hard(DiehlCook::bindsnet(35)) };
    assert!(compare(net, 40, 6)? > 0);
    Ok(())
}
