//! The largest singular triplets of a matrix: one-sided Jacobi where the matrix is small, else subspace iteration
//! (Halko, Martinsson and Tropp, arXiv:0909.4061) that goes on until the triplets are right.

use rand_distr::{Distribution, StandardNormal};

use crate::rng::Stream;
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// Below this many columns (or rows) Jacobi takes the matrix as a whole.
const SMALL: usize = 96;
/// Subspace iterations end when no residual exceeds this share of the largest singular value …
const RESIDUAL: f64 = 1e-9;
/// … or after this many: what has not settled then is a cluster of values whose vectors are as good as any in it.
const ITERATIONS: usize = 60;

/// Singular triplets in falling order: `G ≈ Σ s_j u_j v_jᵀ`. Signs: the largest entry of each v is positive.
#[derive(Clone, Debug)]
pub struct Svd {
    /// Left vectors, each of `rows` numbers.
    pub u: Vec<Vec<f64>>,
    /// Values.
    pub s: Vec<f64>,
    /// Right vectors, each of `columns` numbers.
    pub v: Vec<Vec<f64>>,
}

impl Svd {
    /// The `count` largest triplets of a matrix `[rows, columns]`. Vectors of a value of zero are orthonormal, too.
    ///
    /// # Errors
    /// No matrix, values that are not finite, more triplets than the smaller side has.
    pub fn top(matrix: &Tensor, count: usize) -> Result<Self> {
        let &[rows, cols] = matrix.shape() else {
            return Err(Error::value("the shape of a matrix", format!("{:?}", matrix.shape()), "two sizes"));
        };
        let small = rows.min(cols);
        if count > small {
            return Err(Error::value("the number of singular values", count, format!("at most {small}")));
        }
        let g = matrix.detach()?.to_dtype(DType::F64)?;
        if !g.mul_scalar(0.0)?.sum_all()?.to_scalar()?.eq(&0.0) {
            return Err(Error::value("a matrix to be decomposed", "NaN or infinite", "finite"));
        }
        let mut svd = match small <= SMALL.max(2 * count) {
            true => whole(&g, rows, cols)?,
            false => iterate(&g, cols, count)?,
        };
        svd.u.truncate(count);
        svd.s.truncate(count);
        svd.v.truncate(count);
        for (u, v) in svd.u.iter_mut().zip(&mut svd.v) {
            let largest = v.iter().fold(0.0f64, |best, &x| if x.abs() > best.abs() { x } else { best });
            if largest < 0.0 {
                u.iter_mut().chain(v).for_each(|x| *x = -*x);
            }
        }
        Ok(svd)
    }
}

fn columns(values: &[f64], cols: usize) -> Vec<Vec<f64>> {
    (0..cols).map(|j| values[j..].iter().step_by(cols).copied().collect()).collect()
}

/// All triplets. Jacobi turns columns: of the matrix, or of its transpose if that has fewer.
fn whole(g: &Tensor, rows: usize, cols: usize) -> Result<Svd> {
    let values = g.to_f64()?;
    if cols <= rows {
        let (u, s, v) = jacobi(columns(&values, cols));
        Ok(Svd { u, s, v })
    } else {
        let (v, s, u) = jacobi(values.chunks(cols).map(<[f64]>::to_vec).collect());
        Ok(Svd { u, s, v })
    }
}

fn iterate(g: &Tensor, cols: usize, count: usize) -> Result<Svd> {
    let width = 2 * count;
    let mut walk = Stream::named(0, "peft/svd").walk(0);
    let mut v: Vec<Vec<f64>> =
        (0..width).map(|_| (0..cols).map(|_| StandardNormal.sample(&mut walk)).collect()).collect();
    let times = |transposed: bool, vectors: &[Vec<f64>]| -> Result<Vec<Vec<f64>>> {
        let flat = Tensor::from_f64(vectors.concat(), &[vectors.len(), vectors.first().map_or(0, Vec::len)])?;
        // Vectors are rows: X Gᵀ, or X G for the transpose.
        let product = if transposed { flat.matmul(g)? } else { flat.matmul_nt(g)? };
        let width = product.shape()[1];
        Ok(product.to_f64()?.chunks(width).map(<[f64]>::to_vec).collect())
    };
    let mut found: Option<Svd> = None;
    for _ in 0..ITERATIONS {
        let mut y = times(false, &v)?;
        if let Some(svd) = &found {
            let residual = |j: usize| {
                y[j].iter().zip(&svd.u[j]).map(|(y, u)| (y - svd.s[j] * u).powi(2)).sum::<f64>().sqrt()
            };
            if (0..count).map(residual).fold(0.0, f64::max) <= RESIDUAL * svd.s[0] {
                break;
            }
        }
        orthonormalise(&mut y);
        // With Q = y: QᵀG = W S Vᵀ, so that G ≈ (Q W) S Vᵀ.
        let (vectors, s, w) = jacobi(times(true, &y)?);
        let combine = |w: &Vec<f64>| {
            let mut u = vec![0.0; y[0].len()];
            for (y, w) in y.iter().zip(w) {
                u.iter_mut().zip(y).for_each(|(u, y)| *u += w * y);
            }
            u
        };
        v.clone_from(&vectors);
        found = Some(Svd { u: w.iter().map(combine).collect(), s, v: vectors });
    }
    found.ok_or_else(|| Error::Internal("no subspace iteration ran".into()))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Makes vectors orthonormal in order, twice for accuracy; one that depends on those before it is replaced.
fn orthonormalise(vectors: &mut [Vec<f64>]) {
    let largest = vectors.iter().map(|v| dot(v, v).sqrt()).fold(0.0, f64::max);
    for i in 0..vectors.len() {
        let (before, rest) = vectors.split_at_mut(i);
        let vector = &mut rest[0];
        let project = |vector: &mut Vec<f64>| {
            for _ in 0..2 {
                for other in &*before {
                    let along = dot(vector, other);
                    vector.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
                }
            }
            dot(vector, vector).sqrt()
        };
        let mut length = project(vector);
        let mut unit = i;
        while length <= 1e-12 * largest || length == 0.0 {
            // Some axis is not spanned, or there would be no room for another vector.
            let n = vector.len();
            vector.fill(0.0);
            vector[unit % n] = 1.0;
            length = project(vector);
            length = if length < 0.5 / (n as f64).sqrt() { 0.0 } else { length };
            unit += 1;
            if unit > i + n {
                return;
            }
        }
        vector.iter_mut().for_each(|x| *x /= length);
    }
}

/// One-sided Jacobi (Hestenes): turns pairs of columns until all are orthogonal. Returns the normalised columns, their
/// lengths in falling order and the turns W, so that `A = U S Wᵀ`.
fn jacobi(mut a: Vec<Vec<f64>>) -> (Vec<Vec<f64>>, Vec<f64>, Vec<Vec<f64>>) {
    let n = a.len();
    let mut w: Vec<Vec<f64>> =
        (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    for _ in 0..60 {
        let mut turned = false;
        for i in 0..n {
            for j in i + 1..n {
                let (alpha, beta, gamma) = (dot(&a[i], &a[i]), dot(&a[j], &a[j]), dot(&a[i], &a[j]));
                if gamma.abs() <= 1e-15 * (alpha * beta).sqrt() || gamma == 0.0 {
                    continue;
                }
                turned = true;
                let zeta = (beta - alpha) / (2.0 * gamma);
                let tangent = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                let cos = 1.0 / (1.0 + tangent * tangent).sqrt();
                let sin = cos * tangent;
                for columns in [&mut a, &mut w] {
                    let (left, right) = columns.split_at_mut(j);
                    for (x, y) in left[i].iter_mut().zip(&mut right[0]) {
                        (*x, *y) = (cos * *x - sin * *y, sin * *x + cos * *y);
                    }
                }
            }
        }
        if !turned {
            break;
        }
    }
    let lengths: Vec<f64> = a.iter().map(|column| dot(column, column).sqrt()).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| lengths[j].total_cmp(&lengths[i]));
    let mut u: Vec<Vec<f64>> = order.iter().map(|&i| a[i].clone()).collect();
    orthonormalise(&mut u);
    (u, order.iter().map(|&i| lengths[i]).collect(), order.iter().map(|&i| w[i].clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::check::random;

    fn product(svd: &Svd, rows: usize, cols: usize) -> Vec<f64> {
        let mut sum = vec![0.0; rows * cols];
        for ((u, s), v) in svd.u.iter().zip(&svd.s).zip(&svd.v) {
            for i in 0..rows {
                for j in 0..cols {
                    sum[i * cols + j] += s * u[i] * v[j];
                }
            }
        }
        sum
    }

    fn orthonormal(vectors: &[Vec<f64>]) -> bool {
        let n = vectors.len();
        (0..n).all(|i| {
            (0..n).all(|j| (dot(&vectors[i], &vectors[j]) - f64::from(u8::from(i == j))).abs() < 1e-10)
        })
    }

    #[test]
    fn all_triplets_give_the_matrix() {
        for (rows, cols) in [(7, 5), (5, 7), (1, 4), (6, 6)] {
            let g = random("g", &[rows, cols], -1.0, 1.0).expect("fits");
            let svd = Svd::top(&g, rows.min(cols)).expect("runs");
            assert!(orthonormal(&svd.u) && orthonormal(&svd.v) && svd.s.is_sorted_by(|a, b| a >= b));
            let (got, want) = (product(&svd, rows, cols), g.to_f64().expect("f64"));
            assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-12));
        }
        assert!(Svd::top(&random("g", &[3, 2], 0.0, 1.0).expect("fits"), 3).is_err());
        assert!(Svd::top(&Tensor::full(&[2, 2], f64::NAN, DType::F64).expect("fits"), 1).is_err());
    }

    #[test]
    fn subspace_iteration_finds_what_jacobi_finds() {
        // Values that fall as 1 / (1 + j / 4): neighbours are close.
        let (rows, cols) = (130, 110);
        let [u, v] = [rows, cols].map(|n| {
            let columns = columns(&random("a", &[n, n], -1.0, 1.0).expect("fits").to_f64().expect("f64"), n);
            let mut columns = columns[..100].to_vec();
            orthonormalise(&mut columns);
            columns
        });
        let s = (0..100).map(|j| 1.0 / (1.0 + f64::from(j) / 4.0)).collect::<Vec<_>>();
        let values = product(&Svd { u, s: s.clone(), v: v.clone() }, rows, cols);
        let g = Tensor::from_f64(values, &[rows, cols]).expect("fits");
        let svd = Svd::top(&g, 8).expect("runs");
        assert!(orthonormal(&svd.u) && orthonormal(&svd.v));
        for j in 0..8 {
            assert!((svd.s[j] - s[j]).abs() < 1e-9, "{j}: {} {}", svd.s[j], s[j]);
            assert!((dot(&svd.v[j], &v[j]).abs() - 1.0).abs() < 1e-9, "{j}");
        }
    }

    #[test]
    fn a_matrix_of_low_rank_still_has_orthonormal_vectors() {
        let values = (0..48).map(|i| f64::from(i / 6) * f64::from(i % 6)).collect();
        let svd = Svd::top(&Tensor::from_f64(values, &[8, 6]).expect("fits"), 4).expect("runs");
        assert!(svd.s[0] > 1.0 && svd.s[1] < 1e-12 && orthonormal(&svd.u) && orthonormal(&svd.v));
    }
}
