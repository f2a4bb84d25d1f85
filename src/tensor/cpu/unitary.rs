//! Rows of complex numbers through the stages of a structured unitary map, forth and back; what the map is stands with its
//! operation, `tensor/ops/unitary.rs`.

use crate::tensor::cpu::wide::{Width, Work};
use crate::tensor::dtype::Float;

/// Rows that are worked on together: number j of all of them lies side by side, so that loops over rows vectorise.
const LANES: usize = 8;
/// Rows of a piece of work; fixed, so that sums do not depend on the number of threads.
pub(crate) const ROWS: usize = 64;

/// `LANES` complex numbers, one of each row: real parts, imaginary parts.
type Lanes<T> = [[T; LANES]; 2];

/// What one row meets, in order.
#[derive(Clone, Copy)]
pub(crate) enum Stage {
    Phase(usize),
    Fourier(bool),
    Reflect(usize),
    Permute,
}

const STAGES: [Stage; 8] = [
    Stage::Phase(0),
    Stage::Fourier(false),
    Stage::Reflect(0),
    Stage::Permute,
    Stage::Phase(1),
    Stage::Fourier(true),
    Stage::Reflect(1),
    Stage::Phase(2),
];

/// Everything a row needs, computed once.
pub(crate) struct Plan<'a, T> {
    k: usize,
    /// cos θ and sin θ, `[3, k]`.
    phases: Vec<[T; 2]>,
    v: &'a [T],
    /// 2 / ‖v‖².
    gain: [T; 2],
    from: &'a [u32],
    roots: Vec<[T; 2]>,
    radices: Vec<usize>,
}

impl<'a, T: Float> Plan<'a, T> {
    pub fn new(theta: &[T], v: &'a [T], from: &'a [u32]) -> Self {
        let k = from.len();
        let turn = |angle: f64| {
            let (sin, cos) = sin_cos(angle);
            [T::of_f64(cos), T::of_f64(sin)]
        };
        let norm = |i: usize| v[i * 2 * k..(i + 1) * 2 * k].iter().map(|v| v.to_f64().powi(2)).sum::<f64>();
        Self {
            k,
            phases: theta.iter().map(|theta| turn(theta.to_f64())).collect(),
            v,
            gain: [0, 1].map(|i| T::of_f64(2.0 / norm(i))),
            from,
            roots: (0..k).map(|j| turn(-std::f64::consts::TAU * j as f64 / k as f64)).collect(),
            radices: radices(k),
        }
    }

    #[inline(always)]
    fn v(&self, i: usize, j: usize) -> [T; 2] {
        let at = 2 * (i * self.k + j);
        [self.v[at], self.v[at + 1]]
    }

    /// One stage; backwards its inverse, which is also its transpose for gradients.
    #[inline(always)]
    fn run(&self, stage: Stage, backwards: bool, z: &mut Vec<Lanes<T>>, spare: &mut Vec<Lanes<T>>) {
        match stage {
            Stage::Phase(i) => {
                for (z, &[cos, sin]) in z.iter_mut().zip(&self.phases[i * self.k..]) {
                    *z = times(z, [cos, if backwards { -sin } else { sin }]);
                }
            }
            Stage::Fourier(inverse) => {
                self.fourier(z, spare, inverse != backwards);
            }
            Stage::Reflect(i) => {
                // z − (2 / ‖v‖²) (z · v) v̄: its own inverse.
                let mut along = [[T::ZERO; LANES]; 2];
                for (j, z) in z.iter().enumerate() {
                    add(&mut along, &times(z, self.v(i, j)));
                }
                let gain = self.gain[i];
                for (j, z) in z.iter_mut().enumerate() {
                    let [re, im] = self.v(i, j);
                    add(z, &times(&along, [-gain * re, gain * im]));
                }
            }
            Stage::Permute => {
                for (j, &from) in self.from.iter().enumerate() {
                    match backwards {
                        true => spare[from as usize] = z[j],
                        false => spare[j] = z[from as usize],
                    }
                }
                std::mem::swap(z, spare);
            }
        }
    }

    /// The unitary discrete Fourier transform by mixed radices, each from one buffer into the other in an order that ends
    /// sorted (Stockham); a prime factor p costs k · p.
    #[inline(always)]
    fn fourier(&self, z: &mut Vec<Lanes<T>>, spare: &mut Vec<Lanes<T>>, inverse: bool) {
        let mut stride = 1;
        for &radix in &self.radices {
            match radix {
                2 => self.butterflies::<2>(z, stride, spare, inverse),
                3 => self.butterflies::<3>(z, stride, spare, inverse),
                4 => self.butterflies::<4>(z, stride, spare, inverse),
                _ => self.any_radix(radix, z, stride, spare, inverse),
            }
            std::mem::swap(z, spare);
            stride *= radix;
        }
        let scale = T::of_f64(1.0 / (self.k as f64).sqrt());
        for [re, im] in z.iter_mut() {
            for lane in 0..LANES {
                (re[lane], im[lane]) = (re[lane] * scale, im[lane] * scale);
            }
        }
    }

    /// `exp(∓2πi j / k)`.
    #[inline(always)]
    fn root(&self, j: usize, inverse: bool) -> [T; 2] {
        let [re, im] = self.roots[j];
        [re, if inverse { -im } else { im }]
    }

    /// One factor of the transform: R numbers that lie k / R apart become R neighbours, `stride` apart.
    #[inline(always)]
    fn butterflies<const R: usize>(
        &self,
        z: &[Lanes<T>],
        stride: usize,
        out: &mut [Lanes<T>],
        inverse: bool,
    ) {
        let apart = self.k / R;
        for q in 0..apart / stride {
            let turns: [[T; 2]; R] = std::array::from_fn(|t| self.root(q * t * stride, inverse));
            for j in 0..stride {
                let parts: [Lanes<T>; R] = std::array::from_fn(|i| z[j + stride * q + apart * i]);
                let sums = small(parts, inverse);
                let out = &mut out[j + stride * R * q..];
                out[0] = sums[0];
                for t in 1..R {
                    out[t * stride] = times(&sums[t], turns[t]);
                }
            }
        }
    }

    /// [`butterflies`](Self::butterflies) of a radix that has no code of its own.
    #[inline(always)]
    fn any_radix(&self, radix: usize, z: &[Lanes<T>], stride: usize, out: &mut [Lanes<T>], inverse: bool) {
        let apart = self.k / radix;
        for q in 0..apart / stride {
            for j in 0..stride {
                for t in 0..radix {
                    let mut sum = z[j + stride * q];
                    for i in 1..radix {
                        add(
                            &mut sum,
                            &times(&z[j + stride * q + apart * i], self.root(i * t % radix * apart, inverse)),
                        );
                    }
                    out[j + stride * (radix * q + t)] = times(&sum, self.root(q * t * stride, inverse));
                }
            }
        }
    }
}

/// The Fourier transform of two, three or four numbers.
#[inline(always)]
fn small<T: Float, const R: usize>(z: [Lanes<T>; R], inverse: bool) -> [Lanes<T>; R] {
    let sign = if inverse { -T::ONE } else { T::ONE };
    let mut out = z;
    match R {
        2 => (out[0], out[1]) = (plus(&z[0], &z[1]), minus(&z[0], &z[1])),
        3 => {
            let (sum, difference) = (plus(&z[1], &z[2]), minus(&z[1], &z[2]));
            let half = plus(&z[0], &times(&sum, [T::of_f64(-0.5), T::ZERO]));
            // exp(∓2πi/3) = −1/2 ∓ i √3/2
            let turned = times(&difference, [T::ZERO, -sign * T::of_f64(0.75f64.sqrt())]);
            out[0] = plus(&z[0], &sum);
            (out[1], out[2]) = (plus(&half, &turned), minus(&half, &turned));
        }
        _ => {
            let (even, odd) = (plus(&z[0], &z[2]), plus(&z[1], &z[3]));
            let turned = times(&minus(&z[1], &z[3]), [T::ZERO, -sign]);
            let rest = minus(&z[0], &z[2]);
            (out[0], out[2]) = (plus(&even, &odd), minus(&even, &odd));
            (out[1], out[3]) = (plus(&rest, &turned), minus(&rest, &turned));
        }
    }
    out
}

/// Sine and cosine; the standard library's, whose last bits may differ between platforms.
fn sin_cos(angle: f64) -> (f64, f64) {
    angle.sin_cos()
}

/// Factors: fours, then primes, ascending.
fn radices(mut n: usize) -> Vec<usize> {
    let (mut radices, mut prime) = (vec![], 2);
    while n.is_multiple_of(4) {
        radices.push(4);
        n /= 4;
    }
    while n > 1 {
        while n.is_multiple_of(prime) {
            radices.push(prime);
            n /= prime;
        }
        prime = if prime * prime > n { n } else { prime + 1 };
    }
    radices
}

/// Multiplies by a number.
#[inline(always)]
fn times<T: Float>(z: &Lanes<T>, [re, im]: [T; 2]) -> Lanes<T> {
    let mut out = [[T::ZERO; LANES]; 2];
    for lane in 0..LANES {
        out[0][lane] = z[0][lane] * re - z[1][lane] * im;
        out[1][lane] = z[0][lane] * im + z[1][lane] * re;
    }
    out
}

#[inline(always)]
fn add<T: Float>(to: &mut Lanes<T>, z: &Lanes<T>) {
    for part in 0..2 {
        for lane in 0..LANES {
            to[part][lane] += z[part][lane];
        }
    }
}

#[inline(always)]
fn plus<T: Float>(a: &Lanes<T>, b: &Lanes<T>) -> Lanes<T> {
    let mut sum = *a;
    add(&mut sum, b);
    sum
}

#[inline(always)]
fn minus<T: Float>(a: &Lanes<T>, b: &Lanes<T>) -> Lanes<T> {
    let mut out = *a;
    for part in 0..2 {
        for lane in 0..LANES {
            out[part][lane] = a[part][lane] - b[part][lane];
        }
    }
    out
}

/// Up to [`LANES`] rows side by side; missing rows are zero.
#[inline(always)]
fn load<T: Float>(rows: &[T], n: usize, z: &mut [Lanes<T>]) {
    let mut tiles = z.chunks_exact_mut(LANES / 2);
    for (i, z) in tiles.by_ref().enumerate() {
        let mut tile = [[T::ZERO; LANES]; LANES];
        for (tile, row) in tile.iter_mut().zip(rows.chunks_exact(n)) {
            tile.copy_from_slice(&row[i * LANES..(i + 1) * LANES]);
        }
        z.as_flattened_mut().copy_from_slice(&transpose(tile));
    }
    let rest = tiles.into_remainder();
    let first = n - 2 * rest.len();
    for (j, z) in rest.iter_mut().enumerate() {
        *z = [[T::ZERO; LANES]; 2];
        for (lane, row) in rows.chunks_exact(n).enumerate() {
            (z[0][lane], z[1][lane]) = (row[first + 2 * j], row[first + 2 * j + 1]);
        }
    }
}

/// The way back; missing rows are left out.
#[inline(always)]
fn save<T: Float>(z: &[Lanes<T>], n: usize, rows: &mut [T]) {
    let tiles = z.chunks_exact(LANES / 2);
    let rest = tiles.remainder();
    for (i, z) in tiles.enumerate() {
        let mut tile = [[T::ZERO; LANES]; LANES];
        tile.copy_from_slice(z.as_flattened());
        for (tile, row) in transpose(tile).iter().zip(rows.chunks_exact_mut(n)) {
            row[i * LANES..(i + 1) * LANES].copy_from_slice(tile);
        }
    }
    let first = n - 2 * rest.len();
    for (j, z) in rest.iter().enumerate() {
        for (lane, row) in rows.chunks_exact_mut(n).enumerate() {
            (row[first + 2 * j], row[first + 2 * j + 1]) = (z[0][lane], z[1][lane]);
        }
    }
}

/// Columns become rows: exchanges of halves, then quarters, which are moves within vectors and no single numbers.
#[inline(always)]
fn transpose<T: Float>(tile: [[T; LANES]; LANES]) -> [[T; LANES]; LANES] {
    exchange::<T, 1>(exchange::<T, 2>(exchange::<T, 4>(tile)))
}

/// Exchanges what is `STEP` to the right in one row with what is as far to the left in the row `STEP` below.
#[inline(always)]
fn exchange<T: Float, const STEP: usize>(tile: [[T; LANES]; LANES]) -> [[T; LANES]; LANES] {
    std::array::from_fn(|i| {
        std::array::from_fn(|j| match (i & STEP == 0, j & STEP == 0) {
            (true, false) => tile[i + STEP][j - STEP],
            (false, true) => tile[i - STEP][j + STEP],
            _ => tile[i][j],
        })
    })
}

/// Stages in the order in which a row meets them.
pub(crate) fn stages(inverse: bool) -> Vec<Stage> {
    match inverse {
        true => STAGES.into_iter().rev().collect(),
        false => STAGES.to_vec(),
    }
}

/// Rows through all stages.
pub(crate) struct Forward<'a, T> {
    pub plan: &'a Plan<'a, T>,
    pub stages: &'a [Stage],
    pub backwards: bool,
    pub x: &'a [T],
    pub y: &'a mut [T],
}

impl<T: Float> Work for Forward<'_, T> {
    type Out = ();
    // Wider ones are no faster: numbers of one place are eight.
    const WIDEST: Width = Width::of_memory::<T>();

    #[inline(always)]
    fn run(self) {
        let n = 2 * self.plan.k;
        let mut z = vec![[[T::ZERO; LANES]; 2]; self.plan.k];
        let mut spare = z.clone();
        for (y, x) in self.y.chunks_mut(LANES * n).zip(self.x.chunks(LANES * n)) {
            load(x, n, &mut z);
            for &stage in self.stages {
                self.plan.run(stage, self.backwards, &mut z, &mut spare);
            }
            save(&z, n, y);
        }
    }
}

/// Rows back through all stages, with their gradients. Gives the sums over rows: dθ `[3, k]`, dv `[2, k, 2]`.
pub(crate) struct Back<'a, T> {
    pub plan: &'a Plan<'a, T>,
    pub stages: &'a [Stage],
    pub backwards: bool,
    pub y: &'a [T],
    pub grad: &'a [T],
    pub dx: &'a mut [T],
}

impl<T: Float> Work for Back<'_, T> {
    type Out = Vec<f64>;
    const WIDEST: Width = Width::of_memory::<T>();

    #[inline(always)]
    fn run(self) -> Vec<f64> {
        let Self { plan, stages, backwards, y, grad, dx } = self;
        let (k, n) = (plan.k, 2 * plan.k);
        let mut z = vec![[[T::ZERO; LANES]; 2]; k];
        let (mut g, mut spare) = (z.clone(), z.clone());
        // By row of the lanes.
        let mut theta = vec![[T::ZERO; LANES]; 3 * k];
        let mut v = vec![[[T::ZERO; LANES]; 2]; 2 * k];
        let mut along = [0.0; 2];
        for (dx, (y, grad)) in dx.chunks_mut(LANES * n).zip(y.chunks(LANES * n).zip(grad.chunks(LANES * n))) {
            load(y, n, &mut z);
            load(grad, n, &mut g);
            for &stage in stages.iter().rev() {
                if let Stage::Phase(i) = stage {
                    // dθ = Re(ḡ i z), with z after the stage; the inverse turns the other way.
                    for (sum, (z, g)) in theta[i * k..].iter_mut().zip(z.iter().zip(&g)) {
                        for lane in 0..LANES {
                            sum[lane] += g[1][lane] * z[0][lane] - g[0][lane] * z[1][lane];
                        }
                    }
                }
                plan.run(stage, !backwards, &mut z, &mut spare);
                if let Stage::Reflect(i) = stage {
                    along[i] += reflect_gradient(plan, i, &z, &g, &mut v[i * k..(i + 1) * k]);
                }
                plan.run(stage, !backwards, &mut g, &mut spare);
            }
            save(&g, n, dx);
        }
        let sum = |lanes: &[T; LANES]| lanes.iter().map(|x| x.to_f64()).sum::<f64>();
        let sign = if backwards { -1.0 } else { 1.0 };
        let theta = theta.iter().map(|lanes| sign * sum(lanes));
        let v = v.iter().enumerate().flat_map(|(at, lanes)| {
            let (i, gain) = (at / k, plan.gain[at / k].to_f64());
            let [re, im] = plan.v(i, at % k).map(|v| gain * gain * along[i] * v.to_f64());
            [re - gain * sum(&lanes[0]), im - gain * sum(&lanes[1])]
        });
        theta.chain(v).collect()
    }
}

/// dv of a reflection, from z before it and g after it: with a = z · v and q = g · v,
/// `dv = −(2/N) q z̄ − (2/N) a ḡ + (4/N²) Re(a q̄) v` summed over rows, N = ‖v‖². Adds q z̄ + a ḡ to `dv`, gives Re(a q̄).
#[inline(always)]
fn reflect_gradient<T: Float>(
    plan: &Plan<'_, T>,
    i: usize,
    z: &[Lanes<T>],
    g: &[Lanes<T>],
    dv: &mut [Lanes<T>],
) -> f64 {
    let (mut a, mut q) = ([[T::ZERO; LANES]; 2], [[T::ZERO; LANES]; 2]);
    for (j, (z, g)) in z.iter().zip(g).enumerate() {
        add(&mut a, &times(z, plan.v(i, j)));
        add(&mut q, &times(g, plan.v(i, j)));
    }
    for (dv, (z, g)) in dv.iter_mut().zip(z.iter().zip(g)) {
        for l in 0..LANES {
            dv[0][l] += q[0][l] * z[0][l] + q[1][l] * z[1][l] + a[0][l] * g[0][l] + a[1][l] * g[1][l];
            dv[1][l] += q[1][l] * z[0][l] - q[0][l] * z[1][l] + a[1][l] * g[0][l] - a[0][l] * g[1][l];
        }
    }
    (0..LANES).map(|l| (a[0][l] * q[0][l] + a[1][l] * q[1][l]).to_f64()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fourier_transform_is_the_sum_it_stands_for() {
        for k in [1, 2, 5, 8, 12, 14, 27, 64, 86, 96] {
            let order: Vec<u32> = (0..k as u32).collect();
            let (theta, v) = (vec![0.0; 3 * k], vec![1.0; 4 * k]);
            let plan = Plan::<f64>::new(&theta, &v, &order);
            let z: Vec<Lanes<f64>> =
                (0..k).map(|j| [[(j * j % 11) as f64; LANES], [1.0 - (j % 5) as f64; LANES]]).collect();
            let (mut out, mut spare) = (z.clone(), z.clone());
            plan.fourier(&mut out, &mut spare, false);
            for (s, out) in out.iter().enumerate() {
                let (mut re, mut im) = (0.0, 0.0);
                for (j, z) in z.iter().enumerate() {
                    let (sin, cos) = (-std::f64::consts::TAU * (s * j) as f64 / k as f64).sin_cos();
                    re += z[0][0] * cos - z[1][0] * sin;
                    im += z[0][0] * sin + z[1][0] * cos;
                }
                let scale = (k as f64).sqrt();
                assert!(
                    (out[0][0] - re / scale).abs() < 1e-10 && (out[1][0] - im / scale).abs() < 1e-10,
                    "{k} {s}"
                );
            }
        }
    }
}
