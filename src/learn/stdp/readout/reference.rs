//! The same readout written plainly, all sources in every step; the fast loops have to give the same bits. And the
//! textbook's traces, which say that the windows are the rules.

use super::rule::{Reward, Rule, Supervised};
use super::trainer::{Options, Trainer};
use crate::engine::{Events, Input};
use crate::error::Result;
use crate::learn::surrogate::Data;
use crate::rng::Stream;
use crate::snn::builder::Precision;
use crate::snn::neurons::{Fires, Lif, ResetActs};
use crate::snn::{Encoding, Init, Network, Pop, Rule as Connect};
use crate::units::Ms;
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

const DT: Ms = Ms(1.0);
const SEED: u64 = 9;

/// 12 - `hidden` - `classes` with a frozen first projection.
fn network(hidden: usize, classes: usize, lif: Lif) -> Network {
    let mut net = Network::builder(DT);
    let pixels = net.input("pixels", 12);
    let middle = net.population("hidden", hidden, Lif { decay: 0.9, ..Lif::default() });
    let output = net.population("output", classes, lif);
    net.connect(pixels, middle, Connect::Dense).weights(Init::Normal { mean: 0.1, std: 0.4 }).frozen();
    net.connect(middle, output, Connect::Dense)
        .name("readout")
        .weights(Init::Normal { mean: 0.02, std: 0.1 })
        .bias(Init::Constant(0.05))
        .precision(Precision::F32);
    net.build(SEED).expect("a network")
}

/// Class `c` lights the inputs `i % classes = c`.
fn data(samples: usize, classes: usize) -> (Vec<u8>, Vec<u16>) {
    let labels: Vec<u16> = (0..samples).map(|i| (i * 7 % 13 % classes) as u16).collect();
    let bright = |i: usize, label: u16| if i % classes == usize::from(label) { 220 } else { 30 };
    (labels.iter().flat_map(|&l| (0..12).map(move |i| bright(i, l))).collect(), labels)
}

struct Plain {
    lif: Lif,
    options: Options,
    /// `[sources][neurons]`
    weights: Vec<Vec<f32>>,
    bias: Vec<f32>,
    mean_reward: f64,
    /// `[T, sources]`, or empty.
    means: Vec<f32>,
    iteration: usize,
    total: usize,
}

impl Plain {
    /// Whether each neuron fires in each step.
    fn present(&self, input: &[Vec<bool>], noise: &[f32]) -> Vec<Vec<bool>> {
        let n = self.bias.len();
        let (mut u, mut late) = (vec![0.0f32; n], vec![false; n]);
        let mut all = vec![];
        for (t, fires) in input.iter().enumerate() {
            let mut now = vec![false; n];
            for j in 0..n {
                let mut current = 0.0f32;
                for (row, _) in self.weights.iter().zip(fires).filter(|(_, fires)| **fires) {
                    current += row[j];
                }
                current += self.bias[j];
                if !noise.is_empty() {
                    current += noise[t * n + j];
                }
                u[j] = self.lif.decay * u[j] + current;
                if self.lif.acts == ResetActs::NextStep && late[j] {
                    u[j] -= self.lif.threshold;
                }
                now[j] = self.lif.fires.crosses(u[j], self.lif.threshold);
                if self.lif.acts == ResetActs::SameStep && now[j] {
                    u[j] -= self.lif.threshold;
                }
            }
            late.clone_from(&now);
            all.push(now);
        }
        all
    }

    fn factor(tau: Ms) -> f32 {
        (-DT.0 / tau.0).exp() as f32
    }

    fn batch(&mut self, samples: &[Vec<Vec<bool>>], labels: &[usize]) -> f64 {
        let (n, steps) = (self.bias.len(), samples[0].len());
        let mut windows = vec![];
        let (mut right, mut rewards, mut fired) = (0, 0.0, vec![0usize; n]);
        let of = |fires: bool| if fires { 1.0f32 } else { 0.0 };
        for (place, (input, &label)) in samples.iter().zip(labels).enumerate() {
            let mut z = vec![vec![0.0f32; n]; steps];
            let mut walk =
                Stream::named(SEED, "train/noise").walk((self.iteration * self.options.batch + place) as u64);
            let noise: Vec<f32> = match self.options.rule {
                Rule::Reward(rule) if rule.noise > 0.0 => (0..steps * n)
                    .map(|_| {
                        let z: f32 = StandardNormal.sample(&mut walk);
                        rule.noise * z
                    })
                    .collect(),
                _ => vec![],
            };
            let spikes = self.present(input, &noise);
            let counts: Vec<usize> = (0..n).map(|j| spikes.iter().filter(|s| s[j]).count()).collect();
            let most = counts.iter().copied().max().unwrap_or(0);
            let ties: Vec<usize> = (0..n).filter(|&j| counts[j] == most).collect();
            match self.options.rule {
                Rule::Supervised(rule) => {
                    for j in 0..n {
                        let mut later = 0.0;
                        for t in (0..steps).rev() {
                            let desired = j == label && (t + 1) % rule.every == 0;
                            later = of(desired) - of(spikes[t][j]) + Self::factor(rule.tau) * later;
                            z[t][j] = later;
                        }
                    }
                    right += usize::from(ties[0] == label);
                }
                Rule::Reward(rule) => {
                    let chosen = ties[walk.random_range(0..ties.len())];
                    let reward = if chosen == label { 1.0 } else { -1.0 };
                    rewards += reward;
                    right += usize::from(chosen == label);
                    let left = |t: usize| Self::factor(rule.tau_eligibility).powi((steps - 1 - t) as i32);
                    let all = counts.iter().sum::<usize>() as f32 + 0.1 * n as f32;
                    for j in 0..n {
                        let credit = of(j == chosen) - (counts[j] as f32 + 0.1) / all;
                        let mut later = 0.0;
                        for t in (0..steps).rev() {
                            let now = left(t) * credit * of(spikes[t][chosen]);
                            later = now + Self::factor(rule.tau) * later;
                            z[t][j] = (reward - self.mean_reward) as f32 * later;
                        }
                        fired[j] += counts[j];
                    }
                }
            }
            windows.push(z);
        }
        if let Rule::Reward(rule) = self.options.rule {
            let share = (samples.len() as f64 / rule.window as f64).min(1.0);
            self.mean_reward += share * (rewards / samples.len() as f64 - self.mean_reward);
        }
        let cosine = 0.01
            + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * (self.iteration as f64 / self.total as f64)).cos());
        let rate = (self.options.rate * cosine / samples.len() as f64) as f32;
        let [low, high] = self.options.bounds;
        for j in 0..n {
            for (i, row) in self.weights.iter_mut().enumerate() {
                let mut sum = 0.0f32;
                for (input, z) in samples.iter().zip(&windows) {
                    (0..steps).filter(|&t| input[t][i]).for_each(|t| sum += z[t][j]);
                }
                if !self.means.is_empty() {
                    let sources = self.means.len() / steps;
                    for t in 0..steps {
                        let total: f32 = windows.iter().fold(0.0, |total, z| total + z[t][j]);
                        sum -= self.means[t * sources + i] * total;
                    }
                }
                row[j] = (row[j] + rate * sum).max(low).min(high);
            }
            match self.options.rule {
                Rule::Supervised(_) => {
                    let mut sum = 0.0f32;
                    for t in 0..steps {
                        sum += windows.iter().fold(0.0, |total, z| total + z[t][j]);
                    }
                    self.bias[j] = (self.bias[j] + rate * sum).max(low).min(high);
                }
                Rule::Reward(rule) => {
                    let spikes = fired[j] as f32 / (samples.len() * steps) as f32;
                    self.bias[j] -= rule.homeostasis * (spikes - 1.0 / n as f32);
                }
            }
        }
        self.iteration += 1;
        right as f64 / samples.len() as f64
    }
}

/// Both on the same samples; returns the accuracies of the batches.
fn compare(rule: Rule, lif: Lif, [hidden, classes, steps, batch]: [usize; 4]) -> Result<Vec<f64>> {
    let (samples, labels) = data(6 * batch, classes);
    let options = Options { rule, rate: 5e-2, cosine: true, bounds: [-0.3, 0.4], batch, epochs: 3 };
    let net = network(hidden, classes, lif);
    let data = Data { samples: Input::U8(&samples), labels: &labels };
    let encoding = Encoding::Bernoulli { steps, gain: 0.9 };
    let mut fast = Trainer::new(net, encoding, Pop(2), data, options)?;
    let n = classes;
    let rows = |layer: &super::layer::Layer| -> Vec<Vec<f32>> {
        layer.weights.chunks(layer.stride).map(|row| row[..n].to_vec()).collect()
    };
    let mut plain = Plain {
        lif,
        options,
        weights: rows(&fast.layer),
        bias: fast.layer.bias[..n].to_vec(),
        mean_reward: fast.mean_reward,
        means: fast.means.clone(),
        iteration: 0,
        total: fast.total(),
    };
    let mut walk = Stream::named(4, "spikes").walk(0);
    let mut accuracies = vec![];
    for _ in 0..6 {
        let spikes: Vec<Vec<Vec<bool>>> = (0..batch)
            .map(|_| (0..steps).map(|_| (0..hidden).map(|_| walk.random_bool(0.3)).collect()).collect())
            .collect();
        let labels: Vec<usize> = (0..batch).map(|b| b % classes).collect();
        let events: Result<Vec<Events>> = spikes
            .iter()
            .map(|sample| {
                let list = |fires: &Vec<bool>| (0..hidden as u32).filter(|&i| fires[i as usize]).collect();
                Events::new(hidden, sample.iter().map(list))
            })
            .collect();
        let (_, accuracy) = fast.update(&events?, &labels)?;
        assert_eq!(accuracy, plain.batch(&spikes, &labels));
        let bits = |rows: &[Vec<f32>]| rows.concat().iter().map(|w| w.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&rows(&fast.layer)), bits(&plain.weights), "{rule:?}");
        assert_eq!(bits(&[fast.layer.bias[..n].to_vec()]), bits(&[plain.bias.clone()]), "{rule:?}");
        assert_eq!(fast.mean_reward.to_bits(), plain.mean_reward.to_bits());
        accuracies.push(accuracy);
    }
    Ok(accuracies)
}

fn rules() -> [Rule; 4] {
    let reward = Reward { tau_eligibility: Ms(7.0), noise: 0.2, window: 10, ..Reward::default() };
    [
        Rule::Supervised(Supervised::default()),
        Rule::Supervised(Supervised { tau: Ms(3.0), every: 3 }),
        Rule::Reward(reward),
        Rule::Reward(Reward { noise: 0.0, tau: Ms(5.0), window: 1, ..reward }),
    ]
}

#[test]
fn the_fast_loops_give_the_bits_of_the_plain_ones() -> Result<()> {
    let late = Lif { fires: Fires::Above, acts: ResetActs::NextStep, ..Lif::default() };
    for rule in rules() {
        for (lif, sizes) in [
            (Lif::default(), [130, 3, 9, 5]),
            (late, [64, 8, 7, 4]),
            (Lif::default(), [1, 9, 1, 1]),
            (late, [129, 2, 2, 13]),
        ] {
            compare(rule, lif, sizes)?;
        }
    }
    Ok(())
}

/// The online equations of the papers in f64, spike by spike.
#[test]
fn windows_sum_up_to_the_traces_of_the_papers() -> Result<()> {
    let (hidden, steps) = (40usize, 15usize);
    let lif = Lif { decay: 0.9, ..Lif::default() };
    for rule in rules() {
        let (samples, labels) = data(4, 3);
        let options = Options { rule, rate: 1e-2, cosine: false, bounds: [-9.0, 9.0], batch: 1, epochs: 1 };
        let data = Data { samples: Input::U8(&samples), labels: &labels };
        let encoding = Encoding::Bernoulli { steps, gain: 0.9 };
        let mut trainer = Trainer::new(network(hidden, 3, lif), encoding, Pop(2), data, options)?;
        let before = trainer.layer.clone();
        let mut walk = Stream::named(4, "spikes").walk(0);
        let list =
            |walk: &mut crate::rng::Walk| (0..hidden as u32).filter(|_| walk.random_bool(0.25)).collect();
        let lists: Vec<Vec<u32>> = (0..steps).map(|_| list(&mut walk)).collect();
        let input = Events::new(hidden, lists.clone())?;
        // The same noise, so the same spikes.
        let mut noise = Stream::named(SEED, "train/noise").walk(0);
        let drawn: Vec<f32> = match rule {
            Rule::Reward(Reward { noise: std, .. }) if std > 0.0 => (0..steps * 3)
                .map(|_| {
                    let z: f32 = StandardNormal.sample(&mut noise);
                    std * z
                })
                .collect(),
            _ => vec![],
        };
        let mut bench = super::layer::Bench::new(&lif);
        let spikes = before.present(&input, &drawn, &mut bench);
        assert!(spikes.iter().any(|&s| s > 0), "the output fires");
        let label = 1;
        trainer.update(&[input], &[label])?;
        let changed = |i: usize, j: usize| {
            let at = i * before.stride + j;
            f64::from(trainer.layer.weights[at]) - f64::from(before.weights[at])
        };
        let mut expected = vec![[0.0f64; 3]; hidden];
        match rule {
            Rule::Supervised(Supervised { tau, every }) => {
                let mut x = vec![0.0f64; hidden];
                for t in 0..steps {
                    x.iter_mut().for_each(|x| *x *= (-1.0 / tau.0).exp());
                    lists[t].iter().for_each(|&i| x[i as usize] += 1.0);
                    for j in 0..3 {
                        let desired = f64::from(u8::from(j == label && (t + 1) % every == 0));
                        let error = desired - f64::from(spikes[t * 3 + j]);
                        (0..hidden).for_each(|i| expected[i][j] += 1e-2 * error * x[i]);
                    }
                }
            }
            Rule::Reward(rule) => {
                let counts: Vec<u32> =
                    (0..3).map(|j| (0..steps).map(|t| u32::from(spikes[t * 3 + j])).sum()).collect();
                let most = counts.iter().max().copied().unwrap_or(0);
                let ties: Vec<usize> = (0..3).filter(|&j| counts[j] == most).collect();
                let chosen = ties[noise.random_range(0..ties.len())];
                let all: f64 = counts.iter().map(|&n| f64::from(n) + 0.1).sum();
                let reward = if chosen == label { 1.0 } else { -1.0 };
                let mut x = vec![0.0f64; hidden];
                let mut eligible = vec![[0.0f64; 3]; hidden];
                for t in 0..steps {
                    for i in 0..hidden {
                        x[i] = x[i] * (-1.0 / rule.tau.0).exp() - f64::from(trainer.means[t * hidden + i]);
                        eligible[i].iter_mut().for_each(|e| *e *= (-1.0 / rule.tau_eligibility.0).exp());
                    }
                    lists[t].iter().for_each(|&i| x[i as usize] += 1.0);
                    if spikes[t * 3 + chosen] == 0 {
                        continue;
                    }
                    for (eligible, x) in eligible.iter_mut().zip(&x) {
                        for (j, e) in eligible.iter_mut().enumerate() {
                            let own = if j == chosen { 1.0 } else { 0.0 };
                            *e += x * (own - (f64::from(counts[j]) + 0.1) / all);
                        }
                    }
                }
                // The mean reward is that of chance, 2/3 − 1.
                let surprise = reward - (2.0 / 3.0 - 1.0);
                for (expected, eligible) in expected.iter_mut().zip(&eligible) {
                    (0..3).for_each(|j| expected[j] = 1e-2 * surprise * eligible[j]);
                }
            }
        }
        let largest = expected.iter().flatten().fold(0.0f64, |a, b| a.max(b.abs()));
        assert!(largest > 1e-3, "{rule:?} changes something");
        for (i, expected) in expected.iter().enumerate() {
            for (j, expected) in expected.iter().enumerate() {
                // Sums of some tens of f32 numbers, and the rounding of the weight itself.
                let close = (changed(i, j) - expected).abs() < 1e-5 * largest + 2e-8;
                assert!(close, "{rule:?} {i} {j}: {} for {expected}", changed(i, j));
            }
        }
    }
    Ok(())
}

#[test]
fn both_rules_learn_and_the_engine_counts_the_same_spikes() -> Result<()> {
    let (samples, labels) = data(300, 3);
    let data = Data { samples: Input::U8(&samples), labels: &labels };
    for (rule, rate) in [
        (Rule::Supervised(Supervised::default()), 2e-2),
        (Rule::Reward(Reward { window: 100, ..Reward::default() }), 2e-2),
    ] {
        for encoding in [Encoding::Constant { steps: 10 }, Encoding::Bernoulli { steps: 10, gain: 0.8 }] {
            let options = Options { rule, rate, cosine: true, bounds: [-1.0, 1.0], batch: 10, epochs: 6 };
            let new = || Trainer::new(network(90, 3, Lif::default()), encoding, Pop(2), data, options);
            let mut whole = new()?;
            let file = tempfile::NamedTempFile::new().expect("a file");
            while whole.step()?.is_some() {
                if whole.iteration() == 47 {
                    whole.save(file.path())?;
                }
            }
            let found = whole.agreement(300)?;
            assert_eq!((found.differ, found.of), (0, 900));
            let last = whole.curve().iter().rev().take(30).map(|p| p.2).sum::<f64>() / 30.0;
            assert!(last > 0.9, "{rule:?} {encoding:?}: {last}");
            // Interrupted, and on other threads.
            let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads");
            let mut resumed = new()?;
            resumed.restore(file.path())?;
            pool.install(|| -> Result<()> {
                while resumed.step()?.is_some() {}
                Ok(())
            })?;
            assert_eq!((&resumed.layer, resumed.curve()), (&whole.layer, whole.curve()));
        }
    }
    Ok(())
}

#[test]
fn what_is_no_readout_is_refused_by_name() {
    let (samples, mut labels) = data(20, 3);
    let rule = Rule::Supervised(Supervised::default());
    let options = Options { rule, rate: 1e-2, cosine: false, bounds: [-1.0, 1.0], batch: 10, epochs: 1 };
    let encoding = Encoding::Constant { steps: 5 };
    let refused = |net: Network, output: Pop, labels: &[u16], options: Options| {
        let data = Data { samples: Input::U8(&samples), labels };
        Trainer::new(net, encoding, output, data, options).map(drop).unwrap_err().to_string()
    };
    let net = || network(20, 3, Lif::default());
    let mut frozen = net();
    frozen.projections[1].frozen = true;
    assert!(refused(frozen, Pop(2), &labels, options).contains("no projection is trained"));
    assert!(refused(net(), Pop(1), &labels, options).contains("`readout`: it learns, but does not end in"));
    assert!(refused(net(), Pop(0), &labels, options).contains("one with neurons"));
    let mut both = net();
    both.projections[0].frozen = false;
    assert!(refused(both, Pop(2), &labels, options).contains("only one can"));
    assert!(refused(net(), Pop(2), &labels, Options { batch: 21, ..options }).contains("mini-batch is 21"));
    assert!(refused(net(), Pop(2), &labels, Options { rate: 0.0, ..options }).contains("rate is 0"));
    let bounds = [1.0, -1.0];
    assert!(refused(net(), Pop(2), &labels, Options { bounds, ..options }).contains("smaller one first"));
    let mut unbiased = net();
    unbiased.projections[1].bias.clear();
    let rule = Rule::Reward(Reward::default());
    assert!(
        refused(unbiased, Pop(2), &labels, Options { rule, ..options }).contains("`readout`: it has no bias")
    );
    labels[4] = 3;
    assert!(refused(net(), Pop(2), &labels, options).contains("label of training sample 4 is 3"));
}
