//! Everything that is added up over samples, for one type of feature.

use std::collections::BTreeMap;

use super::gram::Gram;
use super::select::{residual_squares, score};
use super::solve::{Moments, Problem};
use super::tiles::TILE;
use super::{Criterion, Feature, Form, Ridge, Score, Targets, check_finite};
use crate::error::{Error, Result};
use crate::parallel;
use crate::rng::Stream;

/// Sums, the rows of an unfinished block, and rows kept for leave-one-out.
#[derive(Debug)]
pub(super) struct Sums<T: Feature> {
    pub gram: T::Gram,
    pub features: usize,
    pub outputs: usize,
    /// Samples in the sums.
    pub samples: u64,
    /// `[blocks][outputs + 1][TILE]`: `YᵀX`, and in the last row the sums of the features.
    pub cross: Vec<f64>,
    pub target_sums: Vec<f64>,
    pub target_squares: Vec<f64>,
    /// Rows that do not fill a block yet.
    pub pending: Vec<T>,
    pub pending_targets: Vec<f64>,
    pub kept: Kept<T>,
}

/// A random sample of all rows so far: those with the smallest random numbers.
#[derive(Debug, Default)]
pub(super) struct Kept<T> {
    pub limit: usize,
    pub seed: u64,
    /// Random number and place of each kept row.
    pub places: BTreeMap<u64, usize>,
    pub rows: Vec<T>,
    pub targets: Vec<f64>,
}

impl<T: Feature> Sums<T> {
    pub fn new(gram: T::Gram, features: usize, outputs: usize) -> Self {
        Self {
            gram,
            features,
            outputs,
            samples: 0,
            cross: vec![0.0; features.div_ceil(TILE) * (outputs + 1) * TILE],
            target_sums: vec![0.0; outputs],
            target_squares: vec![0.0; outputs],
            pending: Vec::new(),
            pending_targets: Vec::new(),
            kept: Kept { limit: 0, seed: 0, places: BTreeMap::new(), rows: Vec::new(), targets: Vec::new() },
        }
    }

    pub fn keep(&mut self, limit: usize, seed: u64) {
        (self.kept.limit, self.kept.seed) = (limit, seed);
    }

    pub fn seen(&self) -> u64 {
        self.samples + (self.pending.len() / self.features) as u64
    }

    pub fn add(&mut self, rows: &[T], targets: Targets<'_>) -> Result<()> {
        let (features, outputs) = (self.features, self.outputs);
        let samples = rows.len() / features;
        let (given, wanted) = match targets {
            Targets::Labels(labels) => (labels.len(), samples),
            Targets::F32(values) => (values.len(), samples * outputs),
            Targets::F64(values) => (values.len(), samples * outputs),
        };
        if !rows.len().is_multiple_of(features) || given != wanted {
            return Err(Error::Shape {
                op: "adding to normal equations",
                lhs: vec![rows.len()],
                rhs: vec![given],
                why: format!(
                    "rows of {features} features and as many targets, of {outputs} outputs, are needed"
                ),
            });
        }
        let targets: Vec<f64> = match targets {
            Targets::Labels(labels) => {
                let mut one_hot = vec![0.0; samples * outputs];
                for (row, &label) in one_hot.chunks_mut(outputs).zip(labels) {
                    *row.get_mut(usize::from(label)).ok_or_else(|| {
                        Error::value("a label", label, format!("below the number of classes, {outputs}"))
                    })? = 1.0;
                }
                one_hot
            }
            Targets::F32(values) => values.iter().map(|&y| f64::from(y)).collect(),
            Targets::F64(values) => values.to_vec(),
        };
        check_finite(targets.iter().copied(), "a target")?;
        self.keep_some(rows, &targets);
        // Blocks end at multiples of BLOCK samples, whatever the calls; a whole block needs no copy.
        let block = <T::Gram as Gram<T>>::BLOCK;
        let (mut rows, mut targets) = (rows, &targets[..]);
        while !rows.is_empty() {
            let take = (block - self.pending.len() / features).min(rows.len() / features);
            let (now, later) = rows.split_at(take * features);
            let (now_targets, later_targets) = targets.split_at(take * outputs);
            (rows, targets) = (later, later_targets);
            if take == block {
                self.add_block(now, now_targets)?;
                continue;
            }
            self.pending.extend_from_slice(now);
            self.pending_targets.extend_from_slice(now_targets);
            if self.pending.len() == block * features {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Adds an unfinished block.
    pub fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let (rows, targets) = (std::mem::take(&mut self.pending), std::mem::take(&mut self.pending_targets));
        self.add_block(&rows, &targets)?;
        (self.pending, self.pending_targets) = (rows, targets);
        self.pending.clear();
        self.pending_targets.clear();
        Ok(())
    }

    fn add_block(&mut self, rows: &[T], targets: &[f64]) -> Result<()> {
        let (features, outputs) = (self.features, self.outputs);
        self.gram.add(rows)?;
        self.samples += (rows.len() / features) as u64;
        parallel::chunks_mut(&mut self.cross, (outputs + 1) * TILE, |block, sums| {
            let first = block * TILE;
            let width = TILE.min(features - first);
            for (row, target) in rows.chunks(features).zip(targets.chunks(outputs)) {
                let row = &row[first..first + width];
                for (sums, y) in sums.chunks_mut(TILE).zip(target.iter().chain([&1.0])) {
                    if *y != 0.0 {
                        for (sum, x) in sums.iter_mut().zip(row) {
                            *sum += y * x.value();
                        }
                    }
                }
            }
        });
        for target in targets.chunks(outputs) {
            for ((sum, square), y) in self.target_sums.iter_mut().zip(&mut self.target_squares).zip(target) {
                *sum += y;
                *square += y * y;
            }
        }
        Ok(())
    }

    fn keep_some(&mut self, rows: &[T], targets: &[f64]) {
        let (features, outputs, start) = (self.features, self.outputs, self.seen());
        let kept = &mut self.kept;
        if kept.limit == 0 {
            return;
        }
        let stream = Stream::named(kept.seed, "ridge/kept rows");
        for (i, (row, target)) in rows.chunks(features).zip(targets.chunks(outputs)).enumerate() {
            let sample = start + i as u64;
            let words = stream.block([sample as u32, (sample >> 32) as u32, 0, 0]);
            let draw = u64::from(words[0]) << 32 | u64::from(words[1]);
            if kept.places.contains_key(&draw) {
                continue; // two samples with the same 64 random bits: the first stays
            }
            if kept.places.len() < kept.limit {
                kept.places.insert(draw, kept.places.len());
                kept.rows.extend_from_slice(row);
                kept.targets.extend_from_slice(target);
            } else if let Some(last) = kept.places.last_entry().filter(|last| *last.key() > draw) {
                let place = last.remove();
                kept.places.insert(draw, place);
                kept.rows[place * features..][..features].copy_from_slice(row);
                kept.targets[place * outputs..][..outputs].copy_from_slice(target);
            }
        }
    }

    /// The regression on the samples in the sums.
    pub fn problem(&self, form: Form) -> Result<Problem<'_, T::Gram>> {
        let moments = Moments {
            samples: self.samples,
            features: self.features,
            outputs: self.outputs,
            cross: &self.cross,
            target_sums: &self.target_sums,
            target_squares: &self.target_squares,
        };
        Problem::new(&self.gram, &moments, form)
    }

    pub fn solve(
        &mut self,
        lambda: f64,
        form: Form,
        by: Option<Criterion>,
    ) -> Result<(Ridge, Option<Score>)> {
        self.flush()?;
        let (features, outputs) = (self.features, self.outputs);
        let problem = self.problem(form)?;
        let solution = problem.solve::<T::Factor, T>(lambda)?;
        let score = by
            .map(|by| {
                score::<T, _>(&problem, &solution, lambda, by, &self.kept.rows, &self.kept.targets, features)
            })
            .transpose()?;
        let squares = residual_squares(&problem, &solution, lambda);
        let mut weights = vec![0.0; outputs * features];
        let mut bias = problem.target_mean.clone();
        for f in 0..features {
            for k in 0..outputs {
                let weight = solution.values[f * outputs + k] * problem.inverse_scale[f];
                weights[k * features + f] = weight;
                bias[k] -= weight * problem.mean[f];
            }
        }
        let ridge = Ridge {
            weights,
            bias,
            features,
            lambda,
            dead: problem.dead(features),
            squared_error: squares.iter().map(|s| s / problem.samples).collect(),
            steps: solution.steps,
        };
        Ok((ridge, score))
    }
}
