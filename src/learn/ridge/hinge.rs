//! From squares to margins: the squared-hinge refinement of a ridge readout.
//!
//! Least squares punishes outputs that are *too* right; the squared hinge (the L2-SVM: Chang, Hsieh & Lin, JMLR 9,
//! 2008) does not. One output against the rest, with `y = 1` for the label and −1 otherwise, on standardised features
//! `z = D⁻¹ (x − μ)`:
//!
//! ```text
//! f = V z + b,   m = max(0, 1 − y f)
//! L(V, b) = 1/n Σᵢ Σₖ ½ m²ᵢₖ + ρ/2 ‖V‖²          r = ∂/∂f = −y m
//! ∇V = D⁻¹ (Xᵀ r / n − μ r̄ᵀ) + ρ V,   ∇b = r̄
//! ```
//!
//! The ridge, moved from targets 0 and 1 to −1 and 1, is where it starts, and the ridge's own Cholesky factor of
//! `M / n ≈ cov z` is the preconditioner: where every margin is violated, that is the Hessian up to ρ. So few steps of
//! nonlinear conjugate gradients are needed (Polak & Ribière with restarts; Nocedal & Wright, *Numerical
//! Optimization*, §5.2):
//!
//! ```text
//! s = (M / n)⁻¹ g,   β = max(0, ⟨g − g', s⟩ / ⟨g', s'⟩),   d = −s + β d'      (primes: one step before)
//! ```
//!
//! Along a line, `L` is convex and piecewise quadratic, and depends on the data through `[samples, outputs]` scores
//! only. So the step is found by Newton's method on the derivative inside a bracket, almost always exactly and in a
//! few looks (Keerthi & DeCoste, JMLR 6, 2005). A step costs two passes over the codes, `X d` and `Xᵀ r`.

use super::gram::Gram;
use super::products::{scores, transposed};
use super::solve::{Problem, precondition};
use super::{AnySums, NormalEquations, Ridge};
use crate::error::{Error, Result};
use crate::parallel;

/// How a readout is refined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refine {
    /// Most conjugate-gradient steps.
    pub iterations: usize,
    /// `ρ`: the loss is a mean over samples, so unlike the ridge's λ this does not grow with their number.
    pub penalty: f64,
}

impl Default for Refine {
    fn default() -> Self {
        Self { iterations: 4, penalty: 3e-3 }
    }
}

/// Samples whose losses are added up by one thread.
const CHUNK: usize = 4096;

/// Looks along a line before the best place so far is taken.
const LOOKS: usize = 30;

impl NormalEquations {
    /// Lowers the squared hinge loss of a readout that these equations gave, over `labels.len()` samples with codes
    /// `[samples, features]`. The outputs then say `1` for a class and `−1` against it.
    ///
    /// The equations give means, scales and the preconditioner, so they may have seen fewer samples, for example the
    /// first part: the result is a minimum over the samples given here all the same. Features that are dead in the
    /// equations stay unused. The codes are never copied as a whole; memory is that of
    /// [`NormalEquations::solve`], which costs one more factorisation here, and 8 bytes a sample and output.
    ///
    /// Returns the readout, and the loss before the first and after each step. There are fewer steps than asked for
    /// when they lower the loss no more than rounding does.
    ///
    /// ```
    /// use ransnn::learn::ridge::{NormalEquations, Refine};
    /// let (codes, labels) = ([9, 1, 8, 0, 1, 9, 2, 7, 7, 2], [0, 0, 1, 1, 0]);
    /// let mut equations = NormalEquations::new(2, 2, 15)?;
    /// equations.add(&codes[..8], &labels[..4])?;
    /// let ridge = equations.solve(1.0)?;
    /// let (refined, losses) = equations.refine(&ridge, &codes, &labels, Refine::default())?;
    /// assert!(losses.last() < losses.first());
    /// assert_eq!(refined.classify(&codes[..])?, labels);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Equations of features other than u8 or without intercept; sizes that do not fit; no samples; labels outside
    /// `0..outputs`; a penalty that is negative or not finite; a readout whose loss is not finite; errors of
    /// [`NormalEquations::solve`].
    pub fn refine(
        &mut self,
        ridge: &Ridge,
        codes: &[u8],
        labels: &[u16],
        options: Refine,
    ) -> Result<(Ridge, Vec<f64>)> {
        let unsupported = |on: &str| Error::Unsupported { op: "the hinge refinement", on: on.into() };
        let (features, outputs, form) = (self.features, self.outputs, self.form);
        let AnySums::U8(sums) = &mut self.sums else {
            return Err(unsupported("on features that are not u8"));
        };
        if !form.intercept {
            return Err(unsupported("without an intercept"));
        }
        if !(options.penalty.is_finite() && options.penalty >= 0.0) {
            return Err(Error::value("the hinge penalty", options.penalty, "a finite number, 0 or more"));
        }
        let shape = |lhs: Vec<usize>, rhs: Vec<usize>, why: &str| {
            Err(Error::Shape { op: "the hinge refinement", lhs, rhs, why: why.into() })
        };
        if ridge.features != features
            || ridge.bias.len() != outputs
            || ridge.weights.len() != outputs * features
        {
            let got = vec![ridge.bias.len(), ridge.features];
            return shape(got, vec![outputs, features], "the readout must be one of these equations");
        }
        if labels.len().checked_mul(features) != Some(codes.len()) {
            return shape(vec![codes.len()], vec![labels.len(), features], "each label needs a row of codes");
        }
        let Some(&label) = labels.iter().max() else {
            return Err(Error::value("number of samples to refine on", 0, "at least 1"));
        };
        if usize::from(label) >= outputs {
            return Err(Error::value("a label", label, format!("below the number of classes, {outputs}")));
        }
        sums.flush()?;
        descend(&sums.problem(form)?, ridge, codes, labels, options)
    }
}

/// Weights on standardised features and a bias; also a gradient or a direction.
#[derive(Clone)]
struct Point {
    /// `[padded features, outputs]`
    weights: Vec<f64>,
    /// `[outputs]`
    bias: Vec<f64>,
}

impl Point {
    fn dot(&self, other: &Self) -> f64 {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(&self.weights, &other.weights) + dot(&self.bias, &other.bias)
    }

    /// `self = scale · self + step · other`
    fn combine(&mut self, scale: f64, step: f64, other: &Self) {
        let all = self.weights.iter_mut().chain(&mut self.bias);
        for (a, b) in all.zip(other.weights.iter().chain(&other.bias)) {
            *a = scale * *a + step * b;
        }
    }
}

/// The loss.
struct Objective<'a> {
    codes: &'a [u8],
    labels: &'a [u16],
    features: usize,
    outputs: usize,
    /// `[padded features]`
    mean: &'a [f64],
    /// `[padded features]`
    inverse_scale: &'a [f64],
    penalty: f64,
}

/// The loss at some place of a line, and its derivatives along the line.
#[derive(Clone, Copy)]
struct Look {
    value: f64,
    slope: f64,
    curvature: f64,
}

impl Objective<'_> {
    /// Weights for codes as they are, `[outputs, features]`, and their bias.
    fn raw(&self, point: &Point) -> (Vec<f64>, Vec<f64>) {
        let k = self.outputs;
        let (mut weights, mut bias) = (vec![0.0; k * self.features], point.bias.clone());
        for (f, standardised) in point.weights.chunks(k).take(self.features).enumerate() {
            for c in 0..k {
                let weight = standardised[c] * self.inverse_scale[f];
                weights[c * self.features + f] = weight;
                bias[c] -= weight * self.mean[f];
            }
        }
        (weights, bias)
    }

    /// `V z + b` of all samples.
    fn scores(&self, point: &Point, out: &mut [f32]) {
        let single = |values: Vec<f64>| -> Vec<f32> { values.into_iter().map(|x| x as f32).collect() };
        let (weights, bias) = self.raw(point);
        scores(self.codes, &single(weights), &single(bias), out);
    }

    /// The gradient at `point`, which has these scores; `residuals` is working memory of the same size.
    fn gradient(&self, point: &Point, scores: &[f32], residuals: &mut [f32]) -> Point {
        let (k, n) = (self.outputs, self.labels.len() as f64);
        let size = CHUNK * k;
        let mut sums = vec![0.0; self.labels.len().div_ceil(CHUNK) * k];
        let pieces = residuals.chunks_mut(size).zip(sums.chunks_mut(k)).collect();
        parallel::owned(pieces, |at, (residuals, sums): (&mut [f32], &mut [f64])| {
            let (scores, labels) = (&scores[at * size..], &self.labels[at * CHUNK..]);
            for ((r, f), &label) in residuals.chunks_mut(k).zip(scores.chunks(k)).zip(labels) {
                for c in 0..k {
                    let y = sign(c, label);
                    r[c] = -y * (1.0 - y * f[c]).max(0.0);
                    sums[c] += f64::from(r[c]);
                }
            }
        });
        let mut bias = vec![0.0; k];
        for sums in sums.chunks(k) {
            for (bias, sum) in bias.iter_mut().zip(sums) {
                *bias += sum / n;
            }
        }
        let mut weights = vec![0.0; point.weights.len()];
        transposed(self.codes, self.features, residuals, k, &mut weights);
        for (f, (gradient, at)) in weights.chunks_mut(k).zip(point.weights.chunks(k)).enumerate() {
            for c in 0..k {
                let along = (gradient[c] / n - self.mean[f] * bias[c]) * self.inverse_scale[f];
                gradient[c] = along + self.penalty * at[c];
            }
        }
        Point { weights, bias }
    }

    /// The loss at scores `at + step · moved` without the penalty.
    fn look(&self, at: &[f32], moved: &[f32], step: f64) -> Look {
        let (k, n) = (self.outputs, self.labels.len() as f64);
        let size = CHUNK * k;
        let looks = parallel::map(self.labels.len().div_ceil(CHUNK), |piece| {
            let labels = &self.labels[piece * CHUNK..self.labels.len().min((piece + 1) * CHUNK)];
            let (at, moved) = (&at[piece * size..], &moved[piece * size..]);
            let mut sum = Look { value: 0.0, slope: 0.0, curvature: 0.0 };
            for ((at, moved), &label) in at.chunks(k).zip(moved.chunks(k)).zip(labels) {
                for c in 0..k {
                    let y = f64::from(sign(c, label));
                    let moved = f64::from(moved[c]);
                    let margin = 1.0 - y * (f64::from(at[c]) + step * moved);
                    let active = if margin > 0.0 { 1.0 } else { 0.0 };
                    sum.value += active * 0.5 * margin * margin;
                    sum.slope -= active * y * margin * moved;
                    sum.curvature += active * moved * moved;
                }
            }
            sum
        });
        let sum = |part: fn(&Look) -> f64| looks.iter().map(part).sum::<f64>() / n;
        Look { value: sum(|l| l.value), slope: sum(|l| l.slope), curvature: sum(|l| l.curvature) }
    }

    /// The step along `direction` to the smallest loss, and that loss.
    fn line_search(&self, point: &Point, direction: &Point, at: &[f32], moved: &[f32]) -> (f64, f64) {
        let dot = |a: &[f64], b: &[f64]| self.penalty * a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let square = dot(&point.weights, &point.weights);
        let slope = dot(&point.weights, &direction.weights);
        let curvature = dot(&direction.weights, &direction.weights);
        let look = |step: f64| {
            let data = self.look(at, moved, step);
            Look {
                value: data.value + 0.5 * square + step * (slope + 0.5 * step * curvature),
                slope: data.slope + slope + step * curvature,
                curvature: data.curvature + curvature,
            }
        };
        let start = look(0.0);
        let (mut step, mut here) = (0.0, start);
        let mut best = (0.0, start.value);
        // The derivative grows with the step: below zero at `low`, above at `high`.
        let (mut low, mut high) = (0.0, f64::INFINITY);
        for _ in 0..LOOKS {
            if here.value < best.1 {
                best = (step, here.value);
            }
            if here.slope.abs() <= 1e-9 * start.slope.abs() || here.curvature <= 0.0 {
                break;
            }
            if here.slope < 0.0 {
                low = step;
            } else {
                high = step;
            }
            let newton = step - here.slope / here.curvature;
            step =
                if newton > low && newton < high { newton } else { 0.5 * (low + high.min(2.0 * low + 1.0)) };
            here = look(step);
        }
        best
    }
}

/// 1 for the class of a sample, −1 for the others.
fn sign(class: usize, label: u16) -> f32 {
    if class == usize::from(label) { 1.0 } else { -1.0 }
}

/// Preconditioned nonlinear conjugate gradients from the ridge.
fn descend<G: Gram<u8>>(
    problem: &Problem<'_, G>,
    ridge: &Ridge,
    codes: &[u8],
    labels: &[u16],
    options: Refine,
) -> Result<(Ridge, Vec<f64>)> {
    let (features, k) = (ridge.features, problem.outputs);
    let objective = Objective {
        codes,
        labels,
        features,
        outputs: k,
        mean: &problem.mean,
        inverse_scale: &problem.inverse_scale,
        penalty: options.penalty,
    };
    let mut point = start(problem, ridge);
    let mut scores = vec![0.0; labels.len() * k];
    objective.scores(&point, &mut scores);
    let square: f64 = point.weights.iter().map(|w| w * w).sum();
    let mut loss = objective.look(&scores, &scores, 0.0).value + 0.5 * options.penalty * square;
    if !loss.is_finite() {
        return Err(Error::Diverged("the squared hinge loss of the readout is not finite".into()));
    }
    let mut losses = vec![loss];
    let mut factor = None;
    // Holds residuals, then the scores of a direction.
    let mut moved = vec![0.0; scores.len()];
    let mut last: Option<(Point, f64, Point)> = None;
    for _ in 0..options.iterations {
        let gradient = objective.gradient(&point, &scores, &mut moved);
        let factor = match &mut factor {
            Some(factor) => factor,
            none => none.insert(problem.factor::<f32, u8>(ridge.lambda)?.0),
        };
        let mut weights = precondition(factor, &gradient.weights, k);
        weights.iter_mut().for_each(|w| *w *= problem.samples);
        let step = Point { weights, bias: gradient.bias.clone() };
        let energy = gradient.dot(&step);
        let mut direction = match last {
            Some((before, energy_before, direction)) => {
                let keep = ((energy - before.dot(&step)) / energy_before).max(0.0);
                let mut direction = direction;
                direction.combine(keep, -1.0, &step);
                direction
            }
            None => {
                let mut direction = step.clone();
                direction.combine(0.0, -1.0, &step);
                direction
            }
        };
        // A direction that does not go down carries more of the past than it should.
        if direction.dot(&gradient) >= 0.0 {
            direction.combine(0.0, -1.0, &step);
        }
        objective.scores(&direction, &mut moved);
        let (length, value) = objective.line_search(&point, &direction, &scores, &moved);
        // Scores have the precision of 32 bits: what is below it is no gain. NaN ends here as well.
        let better = loss - value > f64::from(f32::EPSILON) * loss;
        if !better {
            break;
        }
        point.combine(1.0, length, &direction);
        scores.iter_mut().zip(&moved).for_each(|(score, moved)| *score += length as f32 * moved);
        loss = value;
        losses.push(loss);
        last = Some((gradient, energy, direction));
    }
    let (weights, bias) = objective.raw(&point);
    let mut squares = vec![0.0; k];
    for (scores, &label) in scores.chunks(k).zip(labels) {
        for (c, (square, f)) in squares.iter_mut().zip(scores).enumerate() {
            *square += f64::from(f - sign(c, label)).powi(2);
        }
    }
    let refined = Ridge {
        weights,
        bias,
        squared_error: squares.iter().map(|s| s / labels.len() as f64).collect(),
        steps: ridge.steps + losses.len() - 1,
        ..ridge.clone()
    };
    Ok((refined, losses))
}

/// The ridge for targets −1 and 1 instead of 0 and 1, on standardised features.
fn start<G>(problem: &Problem<'_, G>, ridge: &Ridge) -> Point {
    let k = problem.outputs;
    let mut weights = vec![0.0; problem.mean.len() * k];
    let mut bias: Vec<f64> = ridge.bias.iter().map(|b| 2.0 * b - 1.0).collect();
    for (c, row) in ridge.weights.chunks(ridge.features).enumerate() {
        for (f, weight) in row.iter().enumerate().filter(|&(f, _)| problem.inverse_scale[f] > 0.0) {
            weights[f * k + c] = 2.0 * weight / problem.inverse_scale[f];
            bias[c] += 2.0 * weight * problem.mean[f];
        }
    }
    Point { weights, bias }
}

#[cfg(test)]
mod tests;
