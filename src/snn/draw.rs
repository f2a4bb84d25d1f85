//! Draws the weights of a projection from its named streams, row by row, so that no thread count shows in them.

use super::connect::Rule;
use super::init::{Base, Init, Recipe};
use super::weights::{Conv2d, Values, Weights};
use crate::rng::{Stream, Walk};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

/// Largest quantum of a dense or sparse table.
const LARGEST: f32 = 127.0;
/// Largest quantum of a kernel; see [`Values::Int8`].
const LARGEST_IN_KERNEL: f32 = 63.0;

/// Where a projection's random numbers come from, and what they are for.
pub(super) struct Draw<'a> {
    pub name: &'a str,
    pub seed: u64,
    pub rule: &'a Rule,
    pub pre: &'a [usize],
    pub post: &'a [usize],
}

impl Draw<'_> {
    fn stream(&self, of: &str) -> Stream {
        Stream::named(self.seed, &format!("projection/{}/{of}", self.name))
    }

    /// The weights. The description must have been checked.
    pub fn weights(&self, recipe: &Recipe<'_>, int8: bool) -> Weights {
        let (sources, targets): (usize, usize) = (self.pre.iter().product(), self.post.iter().product());
        let sampler = self.sampler(recipe);
        let stream = self.stream("weights");
        match *self.rule {
            Rule::Dense => {
                let mut values = vec![0.0; sources * targets];
                values
                    .par_chunks_mut(targets)
                    .enumerate()
                    .for_each(|(i, row)| sampler.fill(row, i * targets, i, &stream));
                if recipe.zero_mean {
                    remove_means(&mut values, targets, |place| place % targets);
                }
                let mut values = store(values, int8);
                if recipe.mirrored {
                    mirror(&mut values, targets);
                }
                Weights::Dense { sources, targets, values }
            }
            Rule::Conv2d { kernel, stride, padding, pool, max_pool } => {
                let (input, output) =
                    ([self.pre[0], self.pre[1], self.pre[2]], [self.post[0], self.post[1], self.post[2]]);
                let size = input[0] * kernel * kernel;
                let mut values = vec![0.0; output[0] * size];
                values.par_chunks_mut(size).enumerate().for_each(|(c, row)| match recipe.smooth {
                    None => sampler.fill(row, c * size, c, &stream),
                    Some(sigma) => sampler.fill_smooth(row, kernel, sigma, c, &stream),
                });
                if recipe.zero_mean {
                    remove_means(&mut values, output[0], |place| place / size);
                }
                let geometry = Conv2d { input, output, kernel, stride, padding, pool, max_pool };
                let mut values = store_kernels(values, size, int8, recipe.zero_mean);
                if recipe.mirrored {
                    let all = values.len();
                    mirror(&mut values, all);
                }
                Weights::Conv2d { geometry, values }
            }
            _ => {
                let rows = self.rule.rows(self.pre, self.post, &self.stream("connect"));
                let mut values = vec![0.0; rows.targets.len()];
                let mut slices = Vec::with_capacity(sources);
                let mut left = &mut values[..];
                for (i, ends) in rows.offsets.windows(2).enumerate() {
                    let (row, after) = left.split_at_mut(ends[1] - ends[0]);
                    slices.push((i, ends[0], row));
                    left = after;
                }
                slices.into_par_iter().for_each(|(i, start, row)| sampler.fill(row, start, i, &stream));
                if let (Base::ListedF64(listed), Some(order)) = (recipe.base, &rows.order) {
                    for (value, &edge) in values.iter_mut().zip(order) {
                        *value = sampler.finish(listed[edge], 0);
                    }
                }
                if let (Base::Listed(listed), Some(order)) = (recipe.base, &rows.order) {
                    for (value, &edge) in values.iter_mut().zip(order) {
                        *value = sampler.finish(listed[edge].into(), 0);
                    }
                }
                if recipe.zero_mean {
                    remove_means(&mut values, targets, |place| rows.targets[place] as usize);
                }
                Weights::Sparse { offsets: rows.offsets, targets: rows.targets, values: store(values, int8) }
            }
        }
    }

    /// One bias per target, or per channel of a convolution.
    pub fn bias(&self, init: &Recipe<'_>) -> Vec<f32> {
        let mut bias = vec![0.0; biases(self.rule, self.post)];
        self.sampler(init).fill(&mut bias, 0, 0, &self.stream("bias"));
        bias
    }

    fn sampler<'r>(&self, recipe: &Recipe<'r>) -> Sampler<'r> {
        let sources = self.pre.iter().product::<usize>();
        let fan_in = self.rule.fan_in(self.pre, self.post);
        let base = match recipe.base {
            Base::Kaiming => {
                let bound = 1.0 / fan_in.max(1.0).sqrt();
                Base::Uniform { low: -bound, high: bound }
            }
            other => other,
        };
        let scale = if recipe.scaled { (sources as f64 / fan_in.max(1.0)).sqrt() } else { 1.0 };
        let signs = recipe.dale.map(|share| signs(share, sources, &self.stream("signs")));
        Sampler { base, scale, signs, keep_sign: recipe.keep_sign }
    }
}

/// How many biases a projection has.
pub(super) fn biases(rule: &Rule, post: &[usize]) -> usize {
    if matches!(rule, Rule::Conv2d { .. }) { post[0] } else { post.iter().product() }
}

/// Excitatory sources among `sources` for Dale's law: at least one of each kind.
fn signs(share: f64, sources: usize, stream: &Stream) -> Vec<f64> {
    let excitatory = ((share * sources as f64).round() as usize).clamp(1, sources.max(2) - 1);
    let inhibitory = -(excitatory as f64) / (sources - excitatory).max(1) as f64;
    let mut signs: Vec<f64> = (0..sources).map(|i| if i < excitatory { 1.0 } else { inhibitory }).collect();
    let mut walk = stream.walk(0);
    for last in (1..sources).rev() {
        signs.swap(last, walk.random_range(0..=last));
    }
    signs
}

struct Sampler<'a> {
    base: Base<'a>,
    scale: f64,
    /// For Dale's law: factor per source.
    signs: Option<Vec<f64>>,
    keep_sign: bool,
}

impl Sampler<'_> {
    /// Fills the row of source (or output channel) `row`, whose first weight is number `start` of the table.
    fn fill(&self, values: &mut [f32], start: usize, row: usize, stream: &Stream) {
        let mut walk = stream.walk(row as u64);
        for (k, value) in values.iter_mut().enumerate() {
            *value = self.finish(self.draw(&mut walk, start + k), row);
        }
    }

    /// One number, before scale and signs.
    fn draw(&self, walk: &mut Walk, place: usize) -> f64 {
        if self.keep_sign { self.base.sample_signed(walk, place) } else { self.base.sample(walk, place) }
    }

    /// Fills the kernels of output channel `row` with a random field, smoothed with a Gaussian cut off at 3 σ.
    fn fill_smooth(&self, values: &mut [f32], kernel: usize, sigma: f64, row: usize, stream: &Stream) {
        let reach = (3.0 * sigma).ceil() as usize;
        let side = kernel + 2 * reach;
        let weight = |offset: usize| {
            let distance = offset as f64 - reach as f64;
            (-distance * distance / (2.0 * sigma * sigma)).exp()
        };
        let weights: Vec<f64> = (0..=2 * reach).map(weight).collect();
        let mut walk = stream.walk(row as u64);
        for plane in values.chunks_mut(kernel * kernel) {
            let field: Vec<f64> = (0..side * side).map(|place| self.base.sample(&mut walk, place)).collect();
            let across: Vec<f64> = (0..side * kernel)
                .map(|i| {
                    (0..weights.len()).map(|d| weights[d] * field[i / kernel * side + i % kernel + d]).sum()
                })
                .collect();
            for (i, value) in plane.iter_mut().enumerate() {
                let down = |d: usize| weights[d] * across[(i / kernel + d) * kernel + i % kernel];
                *value = self.finish((0..weights.len()).map(down).sum(), row);
            }
        }
    }

    fn finish(&self, value: f64, source: usize) -> f32 {
        let value = value * self.scale;
        self.signs.as_ref().map_or(value, |signs| signs[source] * value.abs()) as f32
    }
}

impl Base<'_> {
    /// Draws until the sign is that of the mean.
    pub(super) fn sample_signed(&self, walk: &mut Walk, place: usize) -> f64 {
        let mean = match *self {
            Self::Normal { mean, .. } => mean,
            Self::Uniform { low, high } => low + high,
            _ => return self.sample(walk, place),
        };
        loop {
            let value = self.sample(walk, place);
            if value * mean > 0.0 || mean == 0.0 {
                return value;
            }
        }
    }

    pub(super) fn sample(&self, walk: &mut Walk, place: usize) -> f64 {
        match *self {
            Self::Constant(value) => value,
            Self::Uniform { low, high } => low + (high - low) * walk.random::<f64>(),
            Self::Normal { mean, std } => {
                let z: f64 = StandardNormal.sample(walk);
                mean + std * z
            }
            Self::Listed(values) => values[place].into(),
            Self::ListedF64(values) => values[place],
            Self::Kaiming => 0.0, // resolved by `Draw::sampler`
        }
    }
}

/// Subtracts the mean of each group of weights, summed in `f64` in table order.
fn remove_means(values: &mut [f32], groups: usize, group: impl Fn(usize) -> usize) {
    let mut sums = vec![(0.0f64, 0usize); groups];
    for (place, &value) in values.iter().enumerate() {
        let (sum, count) = &mut sums[group(place)];
        *sum += f64::from(value);
        *count += 1;
    }
    for (place, value) in values.iter_mut().enumerate() {
        let (sum, count) = sums[group(place)];
        *value = (f64::from(*value) - sum / count as f64) as f32;
    }
}

/// The second half of each row becomes the first half, negated.
fn mirror(values: &mut Values, row: usize) {
    fn negate<T: Copy + std::ops::Neg<Output = T>>(values: &mut [T], row: usize) {
        for row in values.chunks_mut(row) {
            let (first, second) = row.split_at_mut(row.len() / 2);
            second.iter_mut().zip(first).for_each(|(to, from)| *to = -*from);
        }
    }
    match values {
        Values::F32(values) => negate(values, row),
        Values::Int8 { quanta, scale } => {
            negate(quanta, row);
            let half = scale.len() / 2;
            let (first, second) = scale.split_at_mut(half);
            if second.len() == first.len() {
                second.copy_from_slice(first);
            }
        }
    }
}

fn store(values: Vec<f32>, int8: bool) -> Values {
    if !int8 {
        return Values::F32(values);
    }
    let scale = quantum(&values, LARGEST);
    Values::Int8 { quanta: values.iter().map(|&v| quantise(v, scale)).collect(), scale: vec![scale] }
}

fn store_kernels(values: Vec<f32>, size: usize, int8: bool, zero_sum: bool) -> Values {
    if !int8 {
        return Values::F32(values);
    }
    let scale: Vec<f32> = values.chunks(size).map(|kernel| quantum(kernel, LARGEST_IN_KERNEL)).collect();
    let mut quanta = Vec::with_capacity(values.len());
    for (kernel, &scale) in values.chunks(size).zip(&scale) {
        let start = quanta.len();
        quanta.extend(kernel.iter().map(|&v| quantise(v, scale)));
        if zero_sum {
            make_zero_sum(&mut quanta[start..], kernel, scale);
        }
    }
    Values::Int8 { quanta, scale }
}

/// Weight of one quantum: the largest weight becomes `largest` quanta. Weights that all have the same magnitude
/// become ±1, so that a constant is kept exactly.
fn quantum(values: &[f32], largest: f32) -> f32 {
    let top = values.iter().fold(0.0f32, |top, v| top.max(v.abs()));
    let same = values.iter().all(|v| v.abs() == top);
    match (top == 0.0, same) {
        (true, _) => 1.0,
        (_, true) => top,
        // Not below the smallest normal number, whose reciprocal is finite.
        _ => (top / largest).max(f32::MIN_POSITIVE),
    }
}

fn quantise(value: f32, scale: f32) -> i8 {
    (value / scale).round() as i8
}

/// Rounding leaves a few quanta of mean, which a large bright area would add up: takes them from the weights that
/// were rounded furthest in that direction.
fn make_zero_sum(quanta: &mut [i8], kernel: &[f32], scale: f32) {
    let sum: i32 = quanta.iter().map(|&q| i32::from(q)).sum();
    let step = -sum.signum();
    let gained = |i: usize| step as f32 * (f32::from(quanta[i]) - kernel[i] / scale);
    let mut order: Vec<usize> = (0..quanta.len()).collect();
    order.sort_by(|&a, &b| gained(a).total_cmp(&gained(b)));
    let movable = |q: i8| f32::from(q.abs()) < LARGEST_IN_KERNEL;
    let places: Vec<usize> =
        order.into_iter().filter(|&i| movable(quanta[i])).take(sum.unsigned_abs() as usize).collect();
    places.iter().for_each(|&i| quanta[i] += step as i8);
}

/// Whether a bias may be drawn from this.
pub(super) fn fits_bias(init: &Init) -> bool {
    !matches!(
        init,
        Init::ZeroMean(_)
            | Init::Mirrored(_)
            | Init::Smoothed { .. }
            | Init::ScaledToFanIn(_)
            | Init::Dale { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snn::{Network, Precision, neurons::Lif};
    use crate::units::Ms;

    struct Described {
        pre: Vec<usize>,
        post: Vec<usize>,
        rule: Rule,
        init: Init,
        frozen: bool,
    }

    impl Described {
        fn build(&self, seed: u64) -> Network {
            let mut net = Network::builder(Ms(1.0));
            let pre = net.input("pre", self.pre.clone());
            let post = net.population("post", self.post.clone(), Lif::default());
            let edge = net
                .connect(pre, post, self.rule.clone())
                .weights(self.init.clone())
                .bias(Init::KaimingUniform);
            if self.frozen {
                edge.frozen();
            }
            net.build(seed).unwrap()
        }

        fn weights(&self) -> Vec<f32> {
            numbers(&self.build(1).projections[0].weights)
        }
    }

    fn described(
        pre: impl Into<Vec<usize>>,
        post: impl Into<Vec<usize>>,
        rule: Rule,
        init: Init,
    ) -> Described {
        Described { pre: pre.into(), post: post.into(), rule, init, frozen: false }
    }

    fn numbers(weights: &Weights) -> Vec<f32> {
        match weights.values() {
            Values::F32(values) => values.clone(),
            Values::Int8 { quanta, scale } => {
                let group = quanta.len() / scale.len();
                quanta.iter().enumerate().map(|(i, &q)| f32::from(q) * scale[i / group]).collect()
            }
        }
    }

    fn moments(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        (mean, (values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt())
    }

    const NORMAL: Init = Init::Normal { mean: 0.0, std: 1.0 };
    const CONV: Rule = Rule::Conv2d { kernel: 5, stride: 1, padding: 2, pool: 1, max_pool: 1 };

    #[test]
    fn distributions_have_their_moments() {
        let dense = |init| described([300], [200], Rule::Dense, init).weights();
        let n = 60_000f64;
        let (mean, std) = moments(&dense(Init::Normal { mean: 0.3, std: 2.0 }));
        assert!(
            (mean - 0.3).abs() < 4.0 * 2.0 / n.sqrt() && (std - 2.0).abs() < 4.0 * 2.0 / (2.0 * n).sqrt()
        );
        let uniform = dense(Init::Uniform { low: -1.0, high: 3.0 });
        let (mean, std) = moments(&uniform);
        assert!((mean - 1.0).abs() < 4.0 * std / n.sqrt() && (std - 4.0 / 12f64.sqrt()).abs() < 0.02);
        assert!(uniform.iter().all(|w| (-1.0..=3.0).contains(w)));
        let (mean, std) = moments(&dense(Init::KaimingUniform));
        assert!(mean.abs() < 1e-3 && (std - 1.0 / 900f64.sqrt()).abs() < 5e-4, "{mean} {std}");
        assert_eq!(dense(Init::Constant(0.7)), [0.7; 60_000]);
    }

    #[test]
    fn biases_have_the_fan_in_of_the_weights() {
        let net = described([2, 9, 9], [50, 9, 9], CONV, NORMAL).build(1);
        let bias = &net.projections[0].bias;
        let bound = 1.0 / 50f32.sqrt();
        assert_eq!(bias.len(), 50);
        assert!(bias.iter().all(|b| b.abs() <= bound) && bias.iter().any(|b| b.abs() > 0.8 * bound));
    }

    #[test]
    fn sparse_layers_are_driven_as_much_as_dense_ones() {
        let rule = Rule::FixedInDegree { k: 25 };
        let (_, std) = moments(&described([400], [300], rule, NORMAL.scaled_to_fan_in()).weights());
        assert!((std - 4.0).abs() < 4.0 * 4.0 / (2.0 * 7500f64).sqrt(), "{std}"); // √(400 / 25)
    }

    #[test]
    fn dales_law_gives_each_source_a_sign_and_the_layer_no_mean() {
        let init = Init::Dale { excitatory: 0.8, magnitude: Box::new(Init::Uniform { low: 0.5, high: 1.5 }) };
        let weights = described([50], [400], Rule::Dense, init).weights();
        let positive: Vec<bool> = weights.chunks(400).map(|row| row[0] > 0.0).collect();
        assert!(weights.chunks(400).zip(&positive).all(|(row, &p)| row.iter().all(|&w| (w > 0.0) == p)));
        assert_eq!(positive.iter().filter(|&&p| p).count(), 40);
        assert!(!positive[40..].iter().all(|p| !p), "the inhibitory sources are not simply the last");
        let (mean, std) = moments(&weights);
        assert!(mean.abs() < 4.0 * std / 20_000f64.sqrt(), "{mean}");
    }

    #[test]
    fn smoothed_kernels_correlate_with_their_neighbours() {
        let kernels = |init: Init| {
            let rule = Rule::Conv2d { kernel: 7, stride: 1, padding: 0, pool: 1, max_pool: 1 };
            let net =
                Described { pre: vec![1, 9, 9], post: vec![64, 3, 3], rule, init, frozen: false }.build(3);
            let Values::F32(values) = net.projections[0].weights.values().clone() else {
                panic!("trainable is f32")
            };
            values
        };
        let correlation = |values: &[f32]| {
            let pairs = values.chunks(7).flat_map(|row| row.windows(2));
            let squares: f32 = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
            pairs.map(|pair| pair[0] * pair[1]).sum::<f32>() / (values.len() as f32 * 6.0 / 7.0) / squares
        };
        // A field smoothed with σ has the correlation exp(−d² / 4σ²): 0.60 for neighbours at σ = 0.7.
        let smooth = correlation(&kernels(NORMAL.smoothed(0.7)));
        assert!((smooth - 0.60).abs() < 0.06, "{smooth}");
        assert!(correlation(&kernels(NORMAL)).abs() < 0.06);
    }

    #[test]
    fn mirrored_targets_are_negatives_of_each_other() {
        for (pre, post, rule) in [
            (vec![5], vec![6], Rule::Dense),
            (
                vec![1, 6, 6],
                vec![4, 4, 4],
                Rule::Conv2d { kernel: 3, stride: 1, padding: 0, pool: 1, max_pool: 1 },
            ),
        ] {
            let init = NORMAL.zero_mean().mirrored();
            let net = Described { pre, post: post.clone(), rule, init, frozen: true }.build(3);
            let weights = &net.projections[0].weights;
            let Values::Int8 { quanta, .. } = weights.values() else { panic!("frozen weights are int8") };
            assert!(quanta.iter().any(|&q| q != 0));
            let row = if post.len() == 1 { post[0] } else { quanta.len() };
            for row in quanta.chunks(row) {
                let (first, second) = row.split_at(row.len() / 2);
                assert!(first.iter().zip(second).all(|(a, b)| *a == -*b));
            }
        }
    }

    #[test]
    fn zero_mean_holds_for_each_target_of_every_rule() {
        let biased = || Init::Normal { mean: 0.5, std: 1.0 }.zero_mean();
        let dense = described([90], [70], Rule::Dense, biased()).weights();
        (0..70).for_each(|t| assert!((0..90).map(|s| dense[s * 70 + t]).sum::<f32>().abs() < 1e-4));
        let net = described([1, 12, 12], [80], Rule::LocalFields { min: 3, max: 6 }, biased()).build(1);
        let Weights::Sparse { targets, values: Values::F32(values), .. } = &net.projections[0].weights else {
            panic!()
        };
        let mut sums = [0.0f32; 80];
        targets.iter().zip(values).for_each(|(&t, v)| sums[t as usize] += v);
        assert!(sums.iter().all(|s| s.abs() < 1e-4) && moments(values).1 > 0.5);
        for frozen in [false, true] {
            let conv = Described { frozen, ..described([2, 8, 8], [30, 8, 8], CONV, biased()) }.build(1);
            let kernels = numbers(&conv.projections[0].weights);
            kernels.chunks(50).for_each(|kernel| assert!(kernel.iter().sum::<f32>().abs() < 1e-4));
        }
    }

    #[test]
    fn quanta_stay_in_range_and_near_the_weights() {
        for (rule, post, largest) in [(Rule::Dense, vec![40, 8, 8], 127), (CONV, vec![40, 8, 8], 63)] {
            for init in [NORMAL, NORMAL.zero_mean()] {
                let plain = described([1, 8, 8], post.clone(), rule.clone(), init);
                let exact = plain.weights();
                let net = Described { frozen: true, ..plain }.build(1);
                let Values::Int8 { quanta, scale } = net.projections[0].weights.values() else { panic!() };
                assert_eq!(quanta.iter().map(|q| q.unsigned_abs()).max(), Some(largest));
                let step = scale.iter().fold(0.0f32, |a, &b| a.max(b));
                let close = |(a, b): (f32, &f32)| (a - b).abs() <= 1.51 * step;
                assert!(numbers(&net.projections[0].weights).into_iter().zip(&exact).all(close));
            }
        }
    }

    #[test]
    fn constants_and_zeros_are_kept_exactly() {
        for value in [0.6, -0.9, 0.0] {
            let frozen =
                Described { frozen: true, ..described([7], [5], Rule::Dense, Init::Constant(value)) };
            assert_eq!(frozen.weights(), [value as f32; 35]);
        }
    }

    #[test]
    fn lists_go_where_they_say() {
        let list =
            |rule, n| described([2], [2], rule, Init::Listed((1..=n).map(|v| v as f32).collect())).weights();
        assert_eq!(list(Rule::Dense, 4), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(list(Rule::OneToOne, 2), [1.0, 2.0]);
        assert_eq!(list(Rule::Explicit { edges: vec![(1, 0), (0, 1), (0, 0)] }, 3), [3.0, 2.0, 1.0]);
    }

    #[test]
    fn no_thread_count_shows_and_every_seed_does() {
        let rules = [
            (Rule::Dense, [1, 6, 6]),
            (Rule::FixedProbability { p: 0.2 }, [1, 6, 6]),
            (Rule::FixedInDegree { k: 9 }, [1, 6, 6]),
            (Rule::LocalFields { min: 1, max: 4 }, [300, 1, 1]),
            (CONV, [40, 6, 6]),
        ];
        for (rule, post) in rules {
            let plain = described([1, 6, 6], post, rule, NORMAL.zero_mean());
            let with = |threads: usize, seed| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| plain.build(seed).projections.remove(0).weights)
            };
            let one = with(1, 5);
            assert_eq!(one, with(2, 5));
            assert_eq!(one, with(3, 5));
            assert_ne!(one, with(1, 6));
        }
    }

    #[test]
    fn other_projections_do_not_show() {
        let build = |more: bool| {
            let mut net = Network::builder(Ms(1.0));
            let a = net.input("a", 30);
            let b = net.population("b", 20, Lif::default());
            if more {
                let c = net.input("c", 9);
                net.connect(c, b, Rule::Dense);
            }
            net.connect(a, b, Rule::FixedProbability { p: 0.5 }).precision(Precision::F32);
            net.build(3).unwrap().projections.pop().unwrap().weights
        };
        assert_eq!(build(false), build(true));
    }
}
