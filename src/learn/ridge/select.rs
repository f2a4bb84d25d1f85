//! Choosing λ without a validation set.
//!
//! Leave-one-out: the residual of a sample by a model trained without it is `rᵢ / (1 − hᵢ)` with the leverage
//! `hᵢ = 1/n + ‖L⁻¹ zᵢ‖²` (exact: Allen's PRESS, 1974; means and scales of the standardisation count as fixed apart
//! from the bias). It is evaluated on rows that were kept aside in a random sample. Generalised cross-validation
//! (Golub, Heath & Wahba 1979) replaces each leverage by their mean and needs no rows:
//! `GCV = (RSS / n) / (1 − tr H / n)²`.

use super::gram::Gram;
use super::solve::{Problem, Solution};
use super::tiles::TILE;
use super::{Feature, Number};
use crate::error::{Error, Result};
use crate::tensor::Element;

/// What is minimised over λ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// Share of kept rows that are misclassified by the model trained without them; ties go to the smaller squared
    /// error.
    LeaveOneOutErrorRate,
    /// Mean squared error over kept rows and outputs of the model trained without them.
    LeaveOneOut,
    /// Generalised cross-validation. Costs as much as another Cholesky factorisation for each λ.
    Generalized,
}

/// How well one λ did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Penalty on standardised features.
    pub lambda: f64,
    /// Mean squared error over outputs: leave-one-out or generalised cross-validation.
    pub squared_error: f64,
    /// Share misclassified (largest output against largest target); not for generalised cross-validation.
    pub error_rate: Option<f64>,
}

impl Score {
    /// Whether this one is better.
    pub(super) fn beats(&self, other: &Self, criterion: Criterion) -> bool {
        let key = |score: &Self| match criterion {
            Criterion::LeaveOneOutErrorRate => {
                (score.error_rate.unwrap_or(f64::INFINITY), score.squared_error)
            }
            _ => (score.squared_error, 0.0),
        };
        key(self) < key(other)
    }
}

/// Scores a solution; `rows` are `[kept, features]`, `targets` `[kept, outputs]`.
pub(super) fn score<T: Feature, G: Gram<T>>(
    problem: &Problem<'_, G>,
    solution: &Solution<T::Factor>,
    lambda: f64,
    criterion: Criterion,
    rows: &[T],
    targets: &[f64],
    features: usize,
) -> Result<Score> {
    if !solution.exact_factor {
        return Err(Error::value(
            "lambda",
            lambda,
            "larger for this selection: the matrix is not positive definite in working precision",
        ));
    }
    if criterion == Criterion::Generalized {
        return Ok(generalized(problem, solution, lambda));
    }
    let (n, outputs) = (problem.samples, problem.outputs);
    let bias_leverage = if problem.form.intercept { 1.0 / n } else { 0.0 };
    let padded = problem.mean.len();
    let (mut squares, mut wrong, kept) = (0.0, 0usize, rows.len() / features);
    if kept == 0 {
        return Err(Error::value("number of kept rows", 0, "at least 1 for leave-one-out"));
    }
    let mut z = Vec::new();
    for (rows, targets) in rows.chunks(TILE * features).zip(targets.chunks(TILE * outputs)) {
        let width = rows.len() / features;
        z.clear();
        z.resize(padded * width, T::Factor::of_f64(0.0));
        let mut predicted = vec![0.0; width * outputs];
        for (i, row) in rows.chunks(features).enumerate() {
            let predicted = &mut predicted[i * outputs..][..outputs];
            predicted.copy_from_slice(&problem.target_mean);
            for (f, x) in row.iter().enumerate() {
                let value = (x.value() - problem.mean[f]) * problem.inverse_scale[f];
                z[f * width + i] = T::Factor::of_f64(value);
                for (sum, v) in predicted.iter_mut().zip(&solution.values[f * outputs..]) {
                    *sum += value * v;
                }
            }
        }
        solution.factor.solve_lower(&mut z, width, 0);
        let mut leverage = vec![bias_leverage; width];
        for z in z.chunks(width) {
            for (h, z) in leverage.iter_mut().zip(z) {
                *h += z.to_f64().powi(2);
            }
        }
        for ((h, predicted), target) in
            leverage.iter().zip(predicted.chunks_mut(outputs)).zip(targets.chunks(outputs))
        {
            for (predicted, target) in predicted.iter_mut().zip(target) {
                let residual = (target - *predicted) / (1.0 - h);
                squares += residual * residual;
                *predicted = target - residual;
            }
            wrong += usize::from(largest(predicted) != largest(target));
        }
    }
    Ok(Score {
        lambda,
        squared_error: squares / (kept * outputs) as f64,
        error_rate: Some(wrong as f64 / kept as f64),
    })
}

fn generalized<T: Number, G>(problem: &Problem<'_, G>, solution: &Solution<T>, lambda: f64) -> Score {
    let (n, outputs) = (problem.samples, problem.outputs);
    let idle = problem.inverse_scale.iter().filter(|&&s| s == 0.0).count();
    let live = (problem.inverse_scale.len() - idle) as f64;
    // Dead features and padding have a one on the diagonal of M, and so in the trace of its inverse.
    let freedom = live - lambda * (solution.factor.inverse_trace() - idle as f64)
        + if problem.form.intercept { 1.0 } else { 0.0 };
    let residual: f64 = residual_squares(problem, solution, lambda).iter().sum();
    let squared_error = residual / (n * outputs as f64) / (1.0 - freedom / n).powi(2);
    Score { lambda, squared_error, error_rate: None }
}

/// Residual sum of squares of each output: `Σ (y − ȳ)² − ⟨V, B⟩ − λ ‖V‖²`, because `M V = B`.
pub(super) fn residual_squares<T, G>(
    problem: &Problem<'_, G>,
    solution: &Solution<T>,
    lambda: f64,
) -> Vec<f64> {
    let mut squares = problem.target_squares.clone();
    let k = problem.outputs;
    for (v, b) in solution.values.chunks(k).zip(problem.right.chunks(k)) {
        for (square, (v, b)) in squares.iter_mut().zip(v.iter().zip(b)) {
            *square -= v * b + lambda * v * v;
        }
    }
    squares.iter().map(|s| s.max(0.0)).collect()
}

/// Index of the first largest value.
pub(super) fn largest<T: PartialOrd>(values: &[T]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}
