//! Connectivity rules: which neurons of two populations are connected.

use super::weights::Conv2d;
use crate::rng::Stream;
use crate::tensor::cpu::math::f64::ln;
use crate::tensor::cpu::wide::{self, Width, Work};
use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// A connectivity rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rule {
    /// Every source to every target.
    Dense,
    /// Source i to target i.
    OneToOne,
    /// Each pair independently with probability `p`.
    FixedProbability {
        /// Probability of a pair.
        p: f64,
    },
    /// Each target from `k` distinct random sources.
    FixedInDegree {
        /// Synapses per target (fan-in).
        k: usize,
    },
    /// Each target from `k` random sources, drawn with replacement: a source may be drawn more than once.
    FixedInDegreeMultapses {
        /// Synapses per target.
        k: usize,
    },
    /// Each source to `k` distinct random targets.
    FixedOutDegree {
        /// Synapses per source.
        k: usize,
    },
    /// Each source to `k` random targets, drawn with replacement.
    FixedOutDegreeMultapses {
        /// Synapses per source.
        k: usize,
    },
    /// `n` pairs drawn independently, with replacement (Potjans and Diesmann 2014).
    FixedTotal {
        /// Synapses.
        n: u64,
    },
    /// Neurons stand on grids of the populations' height and width that cover the unit torus; each pair is connected
    /// with probability `p_max · exp(−d² / 2σ²)` of its distance.
    Gaussian {
        /// Probability at distance 0.
        p_max: f64,
        /// Standard deviation, in sides of the torus.
        sigma: f64,
    },
    /// A convolution with square kernels; populations are `[channels, height, width]`.
    Conv2d {
        /// Side of the kernel.
        kernel: usize,
        /// Step between neighbouring targets.
        stride: usize,
        /// Zeros added on each side.
        padding: usize,
        /// Side of the windows over which the source is averaged first; 1 for none.
        pool: usize,
        /// Side of the windows whose largest current drives a target; 1 for none.
        max_pool: usize,
    },
    /// Each target from a random square window of the source image, with sides drawn from `min..=max`; the window
    /// spans all channels.
    LocalFields {
        /// Smallest side.
        min: usize,
        /// Largest side.
        max: usize,
    },
    /// The listed (source, target) pairs.
    Explicit {
        /// Pairs; a pair may stand more than once.
        edges: Vec<(u32, u32)>,
    },
}

/// Sparse connections by source, without weights.
pub(super) struct Rows {
    /// `[sources + 1]`
    pub offsets: Vec<usize>,
    /// `[synapses]`, ascending within a row.
    pub targets: Vec<u32>,
    /// For an explicit rule: which of its edges stands at each place.
    pub order: Option<Vec<usize>>,
}

impl Rule {
    /// Name in experiment files.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::OneToOne => "one-to-one",
            Self::FixedProbability { .. } => "fixed-probability",
            Self::FixedInDegree { .. } => "fixed-in-degree",
            Self::FixedInDegreeMultapses { .. } => "fixed-in-degree-multapses",
            Self::FixedOutDegree { .. } => "fixed-out-degree",
            Self::FixedOutDegreeMultapses { .. } => "fixed-out-degree-multapses",
            Self::FixedTotal { .. } => "fixed-total",
            Self::Gaussian { .. } => "gaussian",
            Self::Conv2d { .. } => "conv2d",
            Self::LocalFields { .. } => "local-fields",
            Self::Explicit { .. } => "explicit",
        }
    }

    /// The pairs of two arrays.
    pub fn from_arrays(sources: &[u32], targets: &[u32]) -> Self {
        Self::Explicit { edges: sources.iter().copied().zip(targets.iter().copied()).collect() }
    }

    /// Whether only simulations have this rule.
    pub fn simulation_only(&self) -> bool {
        matches!(
            self,
            Self::FixedInDegreeMultapses { .. }
                | Self::FixedOutDegree { .. }
                | Self::FixedOutDegreeMultapses { .. }
                | Self::FixedTotal { .. }
                | Self::Gaussian { .. }
        )
    }

    /// Why the rule does not fit populations of these shapes; empty where it does.
    pub(super) fn problems(&self, pre: &[usize], post: &[usize]) -> Vec<String> {
        let (sources, targets): (usize, usize) = (pre.iter().product(), post.iter().product());
        let mut problems = Vec::new();
        match *self {
            Self::Dense => {}
            Self::OneToOne if sources != targets => {
                problems.push(format!("one-to-one needs equal sizes, but they are {sources} and {targets}"));
            }
            Self::OneToOne => {}
            Self::FixedProbability { p } if !(0.0..=1.0).contains(&p) => {
                problems.push(format!("probability is {p}; it must be between 0 and 1"));
            }
            Self::FixedProbability { .. } => {}
            Self::FixedInDegree { k } if k > sources || k == 0 => {
                problems.push(format!(
                    "fan-in is {k}; it must be between 1 and the size of the source, {sources}"
                ));
            }
            Self::FixedInDegree { .. } => {}
            Self::FixedInDegreeMultapses { k } | Self::FixedOutDegreeMultapses { k } if k == 0 => {
                problems.push("degree is 0; it must be at least 1".into());
            }
            Self::FixedOutDegree { k } if k > targets || k == 0 => {
                problems.push(format!(
                    "fan-out is {k}; it must be between 1 and the size of the target, {targets}"
                ));
            }
            Self::FixedInDegreeMultapses { .. }
            | Self::FixedOutDegree { .. }
            | Self::FixedOutDegreeMultapses { .. }
            | Self::FixedTotal { .. } => {}
            Self::Gaussian { p_max, sigma } => {
                if !(0.0..=1.0).contains(&p_max) {
                    problems.push(format!("probability is {p_max}; it must be between 0 and 1"));
                }
                if !(sigma > 0.0 && sigma.is_finite()) {
                    problems.push(format!("sigma is {sigma}; it must be above 0"));
                }
            }
            Self::Conv2d { kernel, stride, padding, pool, max_pool } => {
                problems.extend(Conv2d::new(pre, post, kernel, stride, padding, pool, max_pool).err());
            }
            Self::LocalFields { min, max } => match *pre {
                [_, height, width] => {
                    let largest = height.min(width);
                    if min == 0 || min > max || max > largest {
                        problems.push(format!(
                            "sides of the fields are {min} to {max}; they must be in order, between 1 and {largest}"
                        ));
                    }
                }
                _ => problems
                    .push(format!("local fields need a source [channels, height, width], not {pre:?}")),
            },
            Self::Explicit { ref edges } => {
                let outside = |&&(i, j): &&(u32, u32)| i as usize >= sources || j as usize >= targets;
                let count = edges.iter().filter(outside).count();
                if let Some((i, j)) = edges.iter().find(outside) {
                    problems.push(format!(
                        "edge ({i}, {j}) is outside {sources} sources and {targets} targets{}",
                        if count > 1 { format!(", and {} more", count - 1) } else { String::new() }
                    ));
                }
            }
        }
        problems
    }

    /// Expected number of synapses, or of weights for a convolution. Only for shapes without [`Rule::problems`].
    pub(super) fn weights(&self, pre: &[usize], post: &[usize]) -> f64 {
        let targets = post.iter().product::<usize>() as f64;
        match self {
            Self::Conv2d { .. } => post[0] as f64 * self.fan_in(pre, post),
            Self::Explicit { edges } => edges.len() as f64,
            _ => targets * self.fan_in(pre, post),
        }
    }

    /// Expected number of synapses per target. Only for shapes without [`Rule::problems`].
    pub(super) fn fan_in(&self, pre: &[usize], post: &[usize]) -> f64 {
        let sources = pre.iter().product::<usize>() as f64;
        match *self {
            Self::Dense => sources,
            Self::OneToOne => 1.0,
            Self::FixedProbability { p } => p * sources,
            Self::FixedInDegree { k } | Self::FixedInDegreeMultapses { k } => k as f64,
            Self::FixedOutDegree { k } | Self::FixedOutDegreeMultapses { k } => {
                k as f64 * sources / post.iter().product::<usize>() as f64
            }
            Self::FixedTotal { n } => n as f64 / post.iter().product::<usize>() as f64,
            // The integral over the torus, where σ is well below its side; over a circle, where one population is a line.
            Self::Gaussian { p_max, sigma } => {
                let side = (2.0 * std::f64::consts::PI).sqrt() * sigma;
                let line = [pre, post].iter().any(|shape| !matches!(shape, [_, h, w] if *h > 1 && *w > 1));
                p_max * sources * (if line { side } else { side * side }).min(1.0)
            }
            Self::Conv2d { kernel, .. } => pre[0] as f64 * (kernel as f64).powi(2),
            Self::LocalFields { min, max } => {
                let squares: f64 = (min..=max).map(|side| (side * side) as f64).sum();
                pre[0] as f64 * squares / (max - min + 1) as f64
            }
            Self::Explicit { ref edges } => edges.len() as f64 / post.iter().product::<usize>() as f64,
        }
    }

    /// Draws who is connected, for the rules that are stored sparsely.
    pub(super) fn rows(&self, pre: &[usize], post: &[usize], stream: &Stream) -> Rows {
        let (sources, targets): (usize, usize) = (pre.iter().product(), post.iter().product());
        match *self {
            Self::FixedProbability { p } => {
                let rows: Vec<_> =
                    indices(sources).map(|i| with_probability(p, targets, stream, i as u64)).collect();
                by_source(&rows)
            }
            Self::FixedInDegree { k } => {
                let columns: Vec<_> = (0..targets)
                    .into_par_iter()
                    .with_min_len(64)
                    .map_init(|| vec![false; sources], |taken, j| distinct(k, taken, stream, j as u64))
                    .collect();
                transpose(&columns, sources)
            }
            Self::LocalFields { min, max } => {
                let &[channels, height, width] = pre else { return by_source(&vec![Vec::new(); sources]) };
                let columns: Vec<_> = indices(targets)
                    .map(|j| {
                        let mut walk = stream.walk(j as u64);
                        let side = walk.random_range(min..=max);
                        let (top, left) =
                            (walk.random_range(0..=height - side), walk.random_range(0..=width - side));
                        let rows = (0..channels).flat_map(|c| (top..top + side).map(move |y| c * height + y));
                        rows.flat_map(|row| (left..left + side).map(move |x| (row * width + x) as u32))
                            .collect()
                    })
                    .collect();
                transpose(&columns, sources)
            }
            Self::Explicit { ref edges } => {
                let mut order: Vec<usize> = (0..edges.len()).collect();
                order.sort_by_key(|&e| edges[e]); // stable: equal pairs stay in the order of the list
                let mut offsets = vec![0; sources + 1];
                edges.iter().for_each(|&(i, _)| offsets[i as usize + 1] += 1);
                (0..sources).for_each(|i| offsets[i + 1] += offsets[i]);
                Rows { offsets, targets: order.iter().map(|&e| edges[e].1).collect(), order: Some(order) }
            }
            // Only simulations have these, and they draw them themselves (`super::synapses`).
            Self::FixedInDegreeMultapses { .. }
            | Self::FixedOutDegree { .. }
            | Self::FixedOutDegreeMultapses { .. }
            | Self::FixedTotal { .. }
            | Self::Gaussian { .. } => {
                Rows { offsets: vec![0; sources + 1], targets: Vec::new(), order: None }
            }
            Self::OneToOne | Self::Dense | Self::Conv2d { .. } => {
                Rows { offsets: (0..=sources).collect(), targets: (0..sources as u32).collect(), order: None }
            }
        }
    }
}

fn indices(n: usize) -> impl IndexedParallelIterator<Item = usize> {
    (0..n).into_par_iter().with_min_len(64)
}

/// Targets of one source, each with probability `p`: jumps from hit to hit, whose lengths are geometric. The logarithm is
/// the one that `kernels/procedural.cu` has, too.
pub(crate) fn with_probability(p: f64, targets: usize, stream: &Stream, row: u64) -> Vec<u32> {
    if p <= 0.0 {
        return Vec::new();
    }
    if p >= 1.0 {
        return (0..targets as u32).collect();
    }
    let miss = (-p).ln_1p();
    let expected = p * targets as f64;
    let mut hits = Vec::with_capacity((expected * 1.1) as usize + 8);
    let mut next = 0.0;
    let mut land = |length: f64| {
        next += length;
        let within = next < targets as f64;
        if within {
            hits.push(next as u32);
            next += 1.0;
        }
        within
    };
    if expected < 0.25 * JUMPS as f64 {
        let mut walk = stream.walk(row);
        while land(jump(walk.random::<f64>(), miss)) {}
    } else {
        let mut lengths = [0.0; JUMPS];
        let mut first = 0;
        loop {
            wide::run(Jumps { lengths: &mut lengths, stream, row, first, miss });
            if !lengths.iter().all(|&length| land(length)) {
                break;
            }
            first += JUMPS as u64 / 2;
        }
    }
    hits
}

/// Jumps that are drawn at once where a row has many.
const JUMPS: usize = 64;

/// 1 − u lies in (0, 1], so the logarithm is finite.
#[inline(always)]
fn jump(u: f64, miss: f64) -> f64 {
    (ln(1.0 - u) / miss).floor()
}

/// The jumps of a row from its block `first` on: two a block, as a walk draws them.
struct Jumps<'a> {
    lengths: &'a mut [f64; JUMPS],
    stream: &'a Stream,
    row: u64,
    first: u64,
    miss: f64,
}

impl Work for Jumps<'_> {
    type Out = ();
    const WIDEST: Width = Width::Avx512;

    #[inline(always)]
    fn run(self) {
        self.stream.uniform(self.row, self.first, self.lengths);
        for length in self.lengths {
            *length = jump(*length, self.miss);
        }
    }
}

/// `k` distinct sources of one target, ascending (Floyd's algorithm). `taken` is all false before and after.
pub(super) fn distinct(k: usize, taken: &mut [bool], stream: &Stream, column: u64) -> Vec<u32> {
    let mut walk = stream.walk(column);
    let mut chosen = Vec::with_capacity(k);
    for last in taken.len() - k..taken.len() {
        let drawn = walk.random_range(0..=last);
        let source = if taken[drawn] { last } else { drawn };
        taken[source] = true;
        chosen.push(source as u32);
    }
    chosen.iter().for_each(|&source| taken[source as usize] = false);
    chosen.sort_unstable();
    chosen
}

fn by_source(rows: &[Vec<u32>]) -> Rows {
    let mut offsets = vec![0];
    rows.iter().for_each(|row| offsets.push(offsets[offsets.len() - 1] + row.len()));
    Rows { offsets, targets: rows.concat(), order: None }
}

fn transpose(columns: &[Vec<u32>], sources: usize) -> Rows {
    let mut offsets = vec![0usize; sources + 1];
    columns.iter().flatten().for_each(|&source| offsets[source as usize + 1] += 1);
    (0..sources).for_each(|i| offsets[i + 1] += offsets[i]);
    let mut next = offsets.clone();
    let mut targets = vec![0; offsets[sources]];
    for (target, column) in columns.iter().enumerate() {
        for &source in column {
            targets[next[source as usize]] = target as u32;
            next[source as usize] += 1;
        }
    }
    Rows { offsets, targets, order: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rows: &Rows, targets: usize) -> Vec<usize> {
        let mut counts = vec![0; targets];
        rows.targets.iter().for_each(|&t| counts[t as usize] += 1);
        counts
    }

    fn ascending(rows: &Rows) -> bool {
        rows.offsets.windows(2).all(|w| rows.targets[w[0]..w[1]].windows(2).all(|t| t[0] < t[1]))
    }

    #[test]
    fn fixed_probability_is_binomial() {
        for p in [0.0, 0.01, 0.1, 0.9, 1.0] {
            let rows = Rule::FixedProbability { p }.rows(&[300], &[500], &Stream::named(1, "c"));
            let (n, got) = (150_000.0f64, rows.targets.len() as f64);
            assert!((got - n * p).abs() <= 4.0 * (n * p * (1.0 - p)).sqrt(), "{p}: {got}");
            assert!(ascending(&rows));
        }
    }

    #[test]
    fn jumps_at_once_are_those_of_a_walk() {
        let stream = Stream::named(5, "c");
        for (p, targets) in [(0.02f64, 799), (0.02, 801), (0.02, 30_000), (0.3, 1), (0.3, 5000), (0.97, 400)]
        {
            for row in 0..20 {
                let (mut walk, mut wanted, mut next) = (stream.walk(row), vec![], 0.0);
                loop {
                    next += jump(walk.random::<f64>(), (-p).ln_1p());
                    if next >= targets as f64 {
                        break;
                    }
                    wanted.push(next as u32);
                    next += 1.0;
                }
                assert_eq!(with_probability(p, targets, &stream, row), wanted, "{p} of {targets}, row {row}");
            }
        }
    }

    #[test]
    fn fixed_in_degree_takes_distinct_sources_evenly() {
        for k in [1, 7, 50] {
            let rows = Rule::FixedInDegree { k }.rows(&[50], &[400], &Stream::named(1, "c"));
            assert!(counts(&rows, 400).iter().all(|&n| n == k));
            assert!(ascending(&rows)); // a source taken twice by a target would stand twice in its row
            let p = k as f64 / 50.0;
            let bound = 5.0 * (400.0 * p * (1.0 - p)).sqrt();
            assert!(rows.offsets.windows(2).all(|w| ((w[1] - w[0]) as f64 - 400.0 * p).abs() <= bound));
        }
    }

    #[test]
    fn local_fields_are_squares_inside_the_image() {
        let (pre, sides) = ([2, 9, 7], 2..=5usize);
        let rows = Rule::LocalFields { min: 2, max: 5 }.rows(&pre, &[300], &Stream::named(1, "c"));
        let mut fields = vec![Vec::new(); 300];
        for source in 0..126 {
            rows.targets[rows.offsets[source]..rows.offsets[source + 1]]
                .iter()
                .for_each(|&t| fields[t as usize].push(source));
        }
        let mut seen = [0; 6];
        for field in fields {
            let side = ((field.len() / 2) as f64).sqrt() as usize;
            assert!(sides.contains(&side) && side * side * 2 == field.len());
            let (y, x) = (field[0] / 7, field[0] % 7);
            assert!(
                field
                    .iter()
                    .all(|s| (y..y + side).contains(&(s / 7 % 9)) && (x..x + side).contains(&(s % 7)))
            );
            seen[side] += 1;
        }
        assert!(seen[2..].iter().all(|&n| n > 40), "{seen:?}");
    }

    #[test]
    fn explicit_edges_keep_multapses_and_know_their_order() {
        let edges = vec![(2, 1), (0, 3), (2, 0), (0, 3)];
        let rows = Rule::Explicit { edges }.rows(&[3], &[4], &Stream::named(1, "c"));
        assert_eq!((rows.offsets, rows.targets), (vec![0, 2, 2, 4], vec![3, 3, 0, 1]));
        assert_eq!(rows.order.unwrap(), [1, 3, 2, 0]);
    }
}
