//! From sums to weights: analytic standardisation, a Cholesky factor in working precision, conjugate gradients on
//! the exact matrix.
//!
//! With means `μ`, scales `σ` and `n` samples, `M = D⁻¹ (A − n μ μᵀ) D⁻¹ + λ I` with `D = diag(σ)` is never stored:
//! it is applied from the exact sums `A` in 64 bits. Its Cholesky factor, in 32 bits for integer codes, is the
//! preconditioner (Golub & Van Loan, *Matrix Computations*, §11.5). So the solution has the quality of 64 bits while
//! memory holds two half matrices of 32.

use super::factor::Cholesky;
use super::gram::Gram;
use super::tiles::{TILE, Tiles, places};
use super::{Form, Number};
use crate::error::{Error, Result};
use crate::parallel;
use crate::tensor::gemm::{Matrix, add_product_here};

/// Conjugate-gradient steps before the problem is given up as too ill-conditioned.
const STEPS: usize = 300;

/// The standardised problem. Vectors over features are padded to whole tiles.
pub(super) struct Problem<'a, G> {
    pub gram: &'a G,
    pub form: Form,
    pub samples: f64,
    pub outputs: usize,
    /// μ, zero without a bias.
    pub mean: Vec<f64>,
    /// 1/σ; zero for dead features and padding.
    pub inverse_scale: Vec<f64>,
    pub target_mean: Vec<f64>,
    /// Σ (y − ȳ)² of each output.
    pub target_squares: Vec<f64>,
    /// `D⁻¹ (XᵀY − n μ ȳᵀ)`, `[padded features, outputs]`.
    pub right: Vec<f64>,
}

/// What the sums hold besides the Gram matrix.
pub(super) struct Moments<'a> {
    pub samples: u64,
    pub features: usize,
    pub outputs: usize,
    /// `[blocks][outputs + 1][TILE]`: `YᵀX`, and in the last row the sums of the features.
    pub cross: &'a [f64],
    pub target_sums: &'a [f64],
    pub target_squares: &'a [f64],
}

/// A solution on standardised features.
pub(super) struct Solution<T> {
    /// `[padded features, outputs]`
    pub values: Vec<f64>,
    pub factor: Cholesky<T>,
    /// Whether the factor belongs to the matrix itself, not to one with a raised diagonal.
    pub exact_factor: bool,
    pub steps: usize,
}

impl<'a, G> Problem<'a, G> {
    pub fn new<T>(gram: &'a G, moments: &Moments<'_>, form: Form) -> Result<Self>
    where
        G: Gram<T>,
    {
        let &Moments { samples, features, outputs, .. } = moments;
        if samples == 0 {
            return Err(Error::value("number of training samples", 0, "at least 1"));
        }
        let n = samples as f64;
        let padded = features.next_multiple_of(TILE);
        let centre = if form.intercept { 1.0 } else { 0.0 };
        let cross = |f: usize, k: usize| moments.cross[(f / TILE * (outputs + 1) + k) * TILE + f % TILE];
        let target_mean: Vec<f64> = moments.target_sums.iter().map(|sum| centre * sum / n).collect();
        let target_squares =
            moments.target_squares.iter().zip(&target_mean).map(|(s, m)| (s - n * m * m).max(0.0)).collect();
        let (mut mean, mut inverse_scale) = (vec![0.0; padded], vec![0.0; padded]);
        let mut right = vec![0.0; padded * outputs];
        let mut tile = vec![0.0; TILE * TILE];
        for f in 0..features {
            if f % TILE == 0 {
                gram.tile(f / TILE, f / TILE, &mut tile);
            }
            let square = tile[f % TILE * (TILE + 1)] / n;
            mean[f] = centre * cross(f, outputs) / n;
            let variance = square - mean[f] * mean[f];
            // Integers are exact here; of real numbers that are all equal, rounding leaves a trace of a variance.
            if variance <= 1e-13 * square {
                continue;
            }
            inverse_scale[f] = if form.standardize { 1.0 / variance.sqrt() } else { 1.0 };
            for k in 0..outputs {
                right[f * outputs + k] = inverse_scale[f] * (cross(f, k) - n * mean[f] * target_mean[k]);
            }
        }
        if !right.iter().chain(&inverse_scale).all(|x| x.is_finite()) {
            return Err(Error::value("a feature or target", "not finite", "finite and below 1e150"));
        }
        Ok(Self { gram, form, samples: n, outputs, mean, inverse_scale, target_mean, target_squares, right })
    }

    /// Features that never vary, and get the weight zero.
    pub fn dead(&self, features: usize) -> Vec<usize> {
        (0..features).filter(|&f| self.inverse_scale[f] == 0.0).collect()
    }

    /// `M` with `lambda + raise` on its diagonal, in working precision; ones for dead features.
    fn matrix<T: Number, U>(&self, lambda: f64, raise: f64) -> Result<Tiles<T>>
    where
        G: Gram<U>,
    {
        let mut matrix = Tiles::zeros(self.mean.len())?;
        let places = places(matrix.blocks());
        parallel::owned(matrix.all_mut().iter_mut().collect(), |at, tile: &mut Vec<T>| {
            let (i, j) = places[at];
            let mut sums = vec![0.0; TILE * TILE];
            self.gram.tile(i, j, &mut sums);
            for (r, (tile, sums)) in tile.chunks_mut(TILE).zip(sums.chunks(TILE)).enumerate() {
                let row = i * TILE + r;
                let (mean, scale) = (self.samples * self.mean[row], self.inverse_scale[row]);
                for (c, (out, sum)) in tile.iter_mut().zip(sums).enumerate() {
                    let column = j * TILE + c;
                    *out = T::of_f64((sum - mean * self.mean[column]) * scale * self.inverse_scale[column]);
                }
                if i == j {
                    let value = (sums[r] - mean * self.mean[row]) * scale * scale + lambda;
                    let dead = scale == 0.0;
                    tile[r] = T::of_f64(if dead { 1.0 } else { value + raise });
                }
            }
        });
        Ok(matrix)
    }

    /// `M x`, `[padded features, outputs]`.
    pub fn apply<U>(&self, lambda: f64, x: &[f64]) -> Vec<f64>
    where
        G: Gram<U>,
    {
        let (k, blocks) = (self.outputs, self.mean.len() / TILE);
        let scaled: Vec<f64> =
            x.chunks(k).zip(&self.inverse_scale).flat_map(|(x, s)| x.iter().map(move |x| x * s)).collect();
        let mut along_mean = vec![0.0; k];
        for (x, mean) in scaled.chunks(k).zip(&self.mean) {
            for (sum, x) in along_mean.iter_mut().zip(x) {
                *sum += self.samples * mean * x;
            }
        }
        let mut out = vec![0.0; x.len()];
        parallel::chunks_mut(&mut out, TILE * k, |i, out| {
            let mut sums = vec![0.0; TILE * TILE];
            for j in 0..blocks {
                self.gram.tile(i.max(j), i.min(j), &mut sums);
                let tile = Matrix::new(&sums, TILE, TILE);
                let tile = if j <= i { tile } else { tile.t() };
                let x = Matrix::new(&scaled[j * TILE * k..][..TILE * k], TILE, k);
                add_product_here(tile, x, 1.0, out);
            }
            for (r, out) in out.chunks_mut(k).enumerate() {
                let f = i * TILE + r;
                for ((out, along), x) in out.iter_mut().zip(&along_mean).zip(&x[f * k..]) {
                    *out = (*out - self.mean[f] * along) * self.inverse_scale[f] + lambda * x;
                }
            }
        });
        out
    }

    /// The Cholesky factor of `M`, and whether it is one of `M` itself: a matrix that is indefinite after rounding gets
    /// a larger diagonal, which changes a preconditioner but not the solution.
    pub fn factor<T: Number, U>(&self, lambda: f64) -> Result<(Cholesky<T>, bool)>
    where
        G: Gram<U>,
    {
        if !(lambda.is_finite() && lambda >= 0.0) {
            return Err(Error::value("lambda", lambda, "a finite number, 0 or more"));
        }
        let largest = self.right_scale();
        let mut raise = 0.0;
        for attempt in 0..6 {
            if let Some(factor) = Cholesky::<T>::new(self.matrix::<T, U>(lambda, raise)?) {
                return Ok((factor, raise == 0.0));
            }
            raise = largest * T::SPACING * 4f64.powi(attempt + 1);
        }
        Err(ill_conditioned(lambda))
    }

    /// Solves `M V = D⁻¹ (XᵀY − n μ ȳᵀ)`.
    pub fn solve<T: Number, U>(&self, lambda: f64) -> Result<Solution<T>>
    where
        G: Gram<U>,
    {
        let (factor, exact_factor) = self.factor::<T, U>(lambda)?;
        let (values, steps) =
            self.conjugate_gradients::<T, U>(lambda, &factor).ok_or_else(|| ill_conditioned(lambda))?;
        Ok(Solution { values, factor, exact_factor, steps })
    }

    /// The largest diagonal element of `M`, up to λ.
    fn right_scale<U>(&self) -> f64
    where
        G: Gram<U>,
    {
        let mut tile = vec![0.0; TILE * TILE];
        let mut largest = 0.0f64;
        for (f, scale) in self.inverse_scale.iter().enumerate() {
            if f % TILE == 0 {
                self.gram.tile(f / TILE, f / TILE, &mut tile);
            }
            let value = tile[f % TILE * (TILE + 1)] - self.samples * self.mean[f].powi(2);
            largest = largest.max(value * scale * scale);
        }
        largest
    }

    /// One conjugate-gradient run for each output, in step. `None` when they do not converge.
    fn conjugate_gradients<T: Number, U>(
        &self,
        lambda: f64,
        factor: &Cholesky<T>,
    ) -> Option<(Vec<f64>, usize)>
    where
        G: Gram<U>,
    {
        let k = self.outputs;
        let mut x = vec![0.0; self.right.len()];
        let mut residual = self.right.clone();
        let mut z = precondition(factor, &residual, k);
        let mut direction = z.clone();
        let start = dots(&residual, &z, k);
        let mut energy = start.clone();
        // Squares, because these are squared norms.
        let goal: Vec<f64> = start.iter().map(|start| start * self.form.tolerance.powi(2)).collect();
        for step in 0..STEPS {
            if energy.iter().zip(&goal).all(|(energy, goal)| energy <= goal) {
                return Some((x, step));
            }
            let moved = self.apply(lambda, &direction);
            let curvature = dots(&direction, &moved, k);
            // An output that has converged, or has none to go, stands still.
            let length: Vec<f64> =
                (0..k)
                    .map(|k| {
                        if energy[k] > goal[k] && curvature[k] > 0.0 { energy[k] / curvature[k] } else { 0.0 }
                    })
                    .collect();
            for (((x, residual), direction), moved) in
                x.chunks_mut(k).zip(residual.chunks_mut(k)).zip(direction.chunks(k)).zip(moved.chunks(k))
            {
                for c in 0..k {
                    x[c] += length[c] * direction[c];
                    residual[c] -= length[c] * moved[c];
                }
            }
            z = precondition(factor, &residual, k);
            let next = dots(&residual, &z, k);
            if !next.iter().all(|next| next.is_finite()) {
                return None;
            }
            for (direction, z) in direction.chunks_mut(k).zip(z.chunks(k)) {
                for c in 0..k {
                    let keep = if energy[c] > goal[c] { next[c] / energy[c] } else { 0.0 };
                    direction[c] = z[c] + keep * direction[c];
                }
            }
            energy = next;
        }
        None
    }
}

fn ill_conditioned(lambda: f64) -> Error {
    Error::Diverged(format!(
        "the ridge regression with lambda {lambda} is too ill-conditioned; a larger lambda helps"
    ))
}

/// `(L Lᵀ)⁻¹ r`
pub(super) fn precondition<T: Number>(factor: &Cholesky<T>, residual: &[f64], columns: usize) -> Vec<f64> {
    // Small residuals would underflow in 32 bits.
    let largest = residual.iter().fold(0.0f64, |max, r| max.max(r.abs()));
    if largest == 0.0 {
        return vec![0.0; residual.len()];
    }
    let mut z: Vec<T> = residual.iter().map(|r| T::of_f64(r / largest)).collect();
    factor.solve_lower(&mut z, columns, 0);
    factor.solve_upper(&mut z, columns);
    z.iter().map(|z| z.to_f64() * largest).collect()
}

/// Inner product of each column.
fn dots(a: &[f64], b: &[f64], columns: usize) -> Vec<f64> {
    let mut sums = vec![0.0; columns];
    for (a, b) in a.chunks(columns).zip(b.chunks(columns)) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums
}
