//! Closed-form ridge readout on features that stream past.
//!
//! Minimises `Σᵢ ‖yᵢ − b − W xᵢ‖² + λ ‖W D‖²` over weights `W` `[outputs, features]` and an unpenalised bias `b`,
//! where `D` holds the standard deviations of the features, so that λ counts on standardised features. Features and
//! targets are never stored: [`NormalEquations`] keeps `A = Σ x xᵀ`, `C = Σ y xᵀ` and the sums, and
//!
//! ```text
//! μ = Σx / n,   σ² = diag A / n − μ²,   D = diag σ
//! (D⁻¹ (A − n μ μᵀ) D⁻¹ + λ I) V = D⁻¹ (Cᵀ − n μ ȳᵀ),   W = (D⁻¹ V)ᵀ,   b = ȳ − W μ
//! ```
//!
//! Spike counts, or counts mapped to small codes by a table, are `u8`: their `A` is exact, in small integers
//! (`benches/ridge.rs` compares the speed), and half a matrix of 32-bit numbers. Features of 32 or 64 bits (membranes,
//! traces) go through the same interface. A solution costs `features³ / 6` multiplications and a second half matrix.
//! For classes, [`NormalEquations::refine`] goes on from there to the squared hinge loss.
//!
//! ```
//! use ransnn::learn::ridge::{Criterion, NormalEquations};
//! // Two features, two classes; codes up to 15.
//! let mut equations = NormalEquations::new(2, 2, 15)?.keep_rows(100, 7);
//! equations.add(&[9, 1, 8, 0, 1, 9, 2, 7][..], &[0u16, 0, 1, 1][..])?; // any number of calls
//! equations.add(&[7, 2, 0, 8][..], &[0u16, 1][..])?;
//! let (ridge, scores) = equations.select(&[0.1, 1.0, 10.0], Criterion::LeaveOneOutErrorRate)?;
//! assert_eq!(ridge.classify(&[9, 0, 0, 9][..])?, [0, 1]);
//! assert_eq!(scores.len(), 3);
//! # Ok::<(), ransnn::Error>(())
//! ```

mod factor;
mod gram;
mod hinge;
mod products;
mod select;
mod simd;
mod solve;
mod state;
mod sums;
mod tiles;

pub use hinge::Refine;
pub use select::{Criterion, Score};

use crate::error::{Error, Result};
use crate::tensor::Float;
use sums::Sums;

/// A number that matrices are made of.
trait Number: Float + nalgebra::RealField {
    /// Spacing of numbers near 1.
    const SPACING: f64;
}

impl Number for f32 {
    const SPACING: f64 = f32::EPSILON as f64;
}

impl Number for f64 {
    const SPACING: f64 = f64::EPSILON;
}

/// A number that features are made of.
trait Feature: bytemuck::Pod + Send + Sync {
    /// Precision of the Cholesky factor.
    type Factor: Number;
    /// How their products are added up.
    type Gram: gram::Gram<Self>;
    /// Exact.
    fn value(self) -> f64;
    /// Rounded to 32 bits.
    fn single(self) -> f32;
}

impl Feature for u8 {
    type Factor = f32;
    type Gram = gram::IntegerGram;
    #[inline]
    fn value(self) -> f64 {
        f64::from(self)
    }
    #[inline]
    fn single(self) -> f32 {
        f32::from(self)
    }
}

impl Feature for f32 {
    type Factor = f32;
    type Gram = gram::RealGram;
    #[inline]
    fn value(self) -> f64 {
        f64::from(self)
    }
    #[inline]
    fn single(self) -> f32 {
        self
    }
}

impl Feature for f64 {
    type Factor = f64;
    type Gram = gram::RealGram;
    #[inline]
    fn value(self) -> f64 {
        self
    }
    #[inline]
    fn single(self) -> f32 {
        self as f32
    }
}

/// Features of some samples, row-major `[samples, features]`.
#[derive(Clone, Copy, Debug)]
pub enum Features<'a> {
    /// Spike counts or other small codes.
    U8(&'a [u8]),
    /// Membranes, traces, rates.
    F32(&'a [f32]),
    /// The same, with products in 64 bits.
    F64(&'a [f64]),
}

/// What the readout should say for some samples.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// Class of each sample: the target is 1 for this output, 0 for the others.
    Labels(&'a [u16]),
    /// Row-major `[samples, outputs]`.
    F32(&'a [f32]),
    /// Row-major `[samples, outputs]`.
    F64(&'a [f64]),
}

macro_rules! from_slice {
    ($($into:ident :: $variant:ident ($number:ty)),*) => {$(
        impl<'a> From<&'a [$number]> for $into<'a> {
            fn from(values: &'a [$number]) -> Self {
                Self::$variant(values)
            }
        }
        impl<'a> From<&'a Vec<$number>> for $into<'a> {
            fn from(values: &'a Vec<$number>) -> Self {
                Self::$variant(values)
            }
        }
    )*};
}
from_slice!(
    Features::U8(u8),
    Features::F32(f32),
    Features::F64(f64),
    Targets::Labels(u16),
    Targets::F32(f32),
    Targets::F64(f64)
);

/// What is minimised, and how exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Form {
    /// Penalise weights of standardised features; otherwise of the features as they are.
    pub standardize: bool,
    /// Fit a bias, which is not penalised.
    pub intercept: bool,
    /// Relative error of the solution, in the norm of the problem, at which the iteration stops.
    pub tolerance: f64,
}

impl Default for Form {
    fn default() -> Self {
        Self { standardize: true, intercept: true, tolerance: 1e-9 }
    }
}

/// Sums over a stream of samples from which a readout is computed.
///
/// Integer features give the same sums in whatever order and blocks they come; real ones in whatever blocks.
#[derive(Debug)]
pub struct NormalEquations {
    features: usize,
    outputs: usize,
    form: Form,
    sums: AnySums,
}

#[derive(Debug)]
enum AnySums {
    U8(Sums<u8>),
    F32(Sums<f32>),
    F64(Sums<f64>),
}

/// The same code for each type of feature.
macro_rules! each {
    ($sums:expr, $name:ident => $body:expr) => {
        match $sums {
            AnySums::U8($name) => $body,
            AnySums::F32($name) => $body,
            AnySums::F64($name) => $body,
        }
    };
}
impl NormalEquations {
    /// For features that are integers `0..=code_max`: 31 or less is fastest, then 45, 63, 90, 255.
    ///
    /// # Errors
    /// No feature or output, more than 65,536 of either, `code_max` 0, or not enough memory.
    pub fn new(features: usize, outputs: usize, code_max: u8) -> Result<Self> {
        check_sizes(features, outputs)?;
        if code_max == 0 {
            return Err(Error::value("largest code", 0, "1 to 255"));
        }
        let gram = gram::IntegerGram::new(features, code_max)?;
        Ok(Self::with(features, outputs, AnySums::U8(Sums::new(gram, features, outputs))))
    }

    /// For features in 32 bits. Products of 256 samples are added up in 32 bits, then in 64.
    ///
    /// # Errors
    /// As [`NormalEquations::new`].
    pub fn with_f32(features: usize, outputs: usize) -> Result<Self> {
        check_sizes(features, outputs)?;
        let gram = gram::RealGram::new(features)?;
        Ok(Self::with(features, outputs, AnySums::F32(Sums::new(gram, features, outputs))))
    }

    /// For features in 64 bits.
    ///
    /// # Errors
    /// As [`NormalEquations::new`].
    pub fn with_f64(features: usize, outputs: usize) -> Result<Self> {
        check_sizes(features, outputs)?;
        let gram = gram::RealGram::new(features)?;
        Ok(Self::with(features, outputs, AnySums::F64(Sums::new(gram, features, outputs))))
    }

    fn with(features: usize, outputs: usize, sums: AnySums) -> Self {
        Self { features, outputs, form: Form::default(), sums }
    }

    /// Another form of the problem.
    pub fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// Keeps a random sample of `rows` rows for leave-one-out, the same for a seed however the rows are grouped into
    /// calls. Has to come before the first [`NormalEquations::add`].
    pub fn keep_rows(mut self, rows: usize, seed: u64) -> Self {
        each!(&mut self.sums, sums => sums.keep(rows, seed));
        self
    }

    /// Samples seen.
    pub fn samples(&self) -> u64 {
        each!(&self.sums, sums => sums.seen())
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Adds samples.
    ///
    /// # Errors
    /// Sizes that do not fit, a type of feature other than chosen, codes above `code_max`, labels outside
    /// `0..outputs`, values that are not finite. Nothing is added then.
    pub fn add<'a>(
        &mut self,
        features: impl Into<Features<'a>>,
        targets: impl Into<Targets<'a>>,
    ) -> Result<()> {
        let targets = targets.into();
        match (&mut self.sums, features.into()) {
            (AnySums::U8(sums), Features::U8(rows)) => {
                let code_max = sums.gram.code_max;
                // The maximum, unlike a search, is vectorised.
                let code = rows.iter().copied().max().unwrap_or(0);
                if code > code_max {
                    return Err(Error::value("a feature code", code, format!("0 to {code_max}")));
                }
                sums.add(rows, targets)
            }
            (AnySums::F32(sums), Features::F32(rows)) => {
                check_finite(rows.iter().map(|&x| f64::from(x)), "a feature")?;
                sums.add(rows, targets)
            }
            (AnySums::F64(sums), Features::F64(rows)) => {
                check_finite(rows.iter().copied(), "a feature")?;
                sums.add(rows, targets)
            }
            (sums, features) => Err(Error::Unsupported {
                op: "adding to normal equations",
                on: format!(
                    "with {} features: they were made for {}",
                    match features {
                        Features::U8(_) => "u8",
                        Features::F32(_) => "f32",
                        Features::F64(_) => "f64",
                    },
                    match sums {
                        AnySums::U8(_) => "u8",
                        AnySums::F32(_) => "f32",
                        AnySums::F64(_) => "f64",
                    }
                ),
            }),
        }
    }

    /// The readout for one λ. More samples may be added afterwards; with real features this ends a block of 256, so
    /// that later sums may differ in the last bits from those without the call.
    ///
    /// # Errors
    /// No samples, λ negative or not finite, not enough memory, or a problem too ill-conditioned to solve.
    pub fn solve(&mut self, lambda: f64) -> Result<Ridge> {
        each!(&mut self.sums, sums => sums.solve(lambda, self.form, None)).map(|(ridge, _)| ridge)
    }

    /// The readout for the best of several λ, and how each did, in the order given. One factorisation each.
    ///
    /// # Errors
    /// As [`NormalEquations::solve`]; no λ; no kept rows for leave-one-out.
    pub fn select(&mut self, lambdas: &[f64], criterion: Criterion) -> Result<(Ridge, Vec<Score>)> {
        let mut best: Option<(Ridge, Score)> = None;
        let mut scores = Vec::with_capacity(lambdas.len());
        for &lambda in lambdas {
            let (ridge, score) = self.evaluate(lambda, criterion)?;
            scores.push(score);
            if best.as_ref().is_none_or(|(_, best)| score.beats(best, criterion)) {
                best = Some((ridge, score));
            }
        }
        let (ridge, _) = best.ok_or_else(|| Error::value("number of lambdas", 0, "at least 1"))?;
        Ok((ridge, scores))
    }

    /// Golden-section search for λ between two bounds on a logarithmic scale, with a given number of factorisations
    /// (at least 2). Returns the best readout and all scores in the order of evaluation.
    ///
    /// # Errors
    /// As [`NormalEquations::select`]; bounds that are not `0 < low < high`.
    pub fn search(
        &mut self,
        low: f64,
        high: f64,
        solves: usize,
        by: Criterion,
    ) -> Result<(Ridge, Vec<Score>)> {
        if !(low > 0.0 && low < high && high.is_finite()) {
            return Err(Error::value(
                "range of lambda",
                format!("{low} to {high}"),
                "positive and increasing",
            ));
        }
        if solves < 2 {
            return Err(Error::value("number of lambdas to try", solves, "at least 2"));
        }
        let golden = (5f64.sqrt() - 1.0) / 2.0;
        let (mut a, mut b) = (low.ln(), high.ln());
        let (mut left, mut right) = (b - golden * (b - a), a + golden * (b - a));
        let mut left_end = self.evaluate(left.exp(), by)?;
        let mut right_end = self.evaluate(right.exp(), by)?;
        let mut scores = vec![left_end.1, right_end.1];
        while scores.len() < solves {
            if left_end.1.beats(&right_end.1, by) {
                (b, right, right_end) = (right, left, left_end);
                left = b - golden * (b - a);
                left_end = self.evaluate(left.exp(), by)?;
                scores.push(left_end.1);
            } else {
                (a, left, left_end) = (left, right, right_end);
                right = a + golden * (b - a);
                right_end = self.evaluate(right.exp(), by)?;
                scores.push(right_end.1);
            }
        }
        let best = if left_end.1.beats(&right_end.1, by) { left_end } else { right_end };
        Ok((best.0, scores))
    }

    fn evaluate(&mut self, lambda: f64, criterion: Criterion) -> Result<(Ridge, Score)> {
        let (ridge, score) = each!(&mut self.sums, sums => sums.solve(lambda, self.form, Some(criterion)))?;
        Ok((ridge, score.ok_or_else(|| Error::Internal("a criterion without a score".into()))?))
    }
}

/// A trained linear readout `y = W x + b`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ridge {
    /// `W` for raw (not standardised) features, row-major `[outputs, features]`.
    pub weights: Vec<f64>,
    /// `b`, `[outputs]`.
    pub bias: Vec<f64>,
    /// Number of features.
    pub features: usize,
    /// The penalty.
    pub lambda: f64,
    /// Features that never varied in training; their weights are zero.
    pub dead: Vec<usize>,
    /// Mean squared training error of each output; against targets −1 and 1 after [`NormalEquations::refine`].
    pub squared_error: Vec<f64>,
    /// Conjugate-gradient steps that the solution took, refinement included.
    pub steps: usize,
}

impl Ridge {
    /// Outputs for samples, `[samples, outputs]`, with weights and products in 32 bits.
    ///
    /// # Errors
    /// A length that is not a multiple of the number of features.
    pub fn predict<'a>(&self, features: impl Into<Features<'a>>) -> Result<Vec<f32>> {
        match features.into() {
            Features::U8(rows) => self.outputs_of(rows),
            Features::F32(rows) => self.outputs_of(rows),
            Features::F64(rows) => self.outputs_of(rows),
        }
    }

    /// The class of each sample: the first largest output.
    ///
    /// # Errors
    /// As [`Ridge::predict`].
    pub fn classify<'a>(&self, features: impl Into<Features<'a>>) -> Result<Vec<u16>> {
        let outputs = self.predict(features)?;
        Ok(outputs.chunks(self.bias.len()).map(|outputs| select::largest(outputs) as u16).collect())
    }

    fn outputs_of<T: Feature>(&self, rows: &[T]) -> Result<Vec<f32>> {
        if !rows.len().is_multiple_of(self.features) {
            return Err(Error::Shape {
                op: "ridge prediction",
                lhs: vec![rows.len()],
                rhs: vec![self.features],
                why: "whole rows of features are needed".into(),
            });
        }
        let single = |values: &[f64]| -> Vec<f32> { values.iter().map(|&x| x as f32).collect() };
        let mut out = vec![0.0; rows.len() / self.features * self.bias.len()];
        products::scores(rows, &single(&self.weights), &single(&self.bias), &mut out);
        Ok(out)
    }
}

fn check_sizes(features: usize, outputs: usize) -> Result<()> {
    for (what, got) in [("number of features", features), ("number of outputs", outputs)] {
        if got == 0 || got > 65_536 {
            return Err(Error::value(what, got, "1 to 65536"));
        }
    }
    Ok(())
}

fn check_finite(mut values: impl Iterator<Item = f64>, what: &str) -> Result<()> {
    match values.find(|x| !x.is_finite()) {
        Some(x) => Err(Error::value(what, x, "finite")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
