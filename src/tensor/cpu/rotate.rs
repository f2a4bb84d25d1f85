//! Rows times one factor of a butterfly, and the outer products that are its gradient, by vectors of f32; unsafe because of
//! vector instructions, chosen when the program runs.
//!
//! A vector holds neighbours in a row. What the blocks of its lanes read lies in it too (or half of it in a vector half a
//! group away), so that a product with b × b blocks is b permutations, each times b numbers that stay in registers for
//! all rows. In the same order as the plain loops, product by product: the bits are equal.
#![allow(unsafe_code)]

/// Factor `i` of a butterfly over rows of `n` by blocks of `b`, for vectors of so many lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factor {
    n: usize,
    b: usize,
    /// Neighbours that belong together: `b · 2ⁱ`.
    group: usize,
    lanes: usize,
    /// Which lane element `e` of the block of each lane stands in.
    sources: [[i32; 16]; 8],
}

impl Factor {
    /// `None` where the processor has no such vectors, or rows and blocks do not fit them.
    pub fn new(n: usize, b: usize, i: usize) -> Option<Self> {
        let lanes = lanes()?;
        Self::with_lanes(n, b, i, lanes)
    }

    fn with_lanes(n: usize, b: usize, i: usize, lanes: usize) -> Option<Self> {
        let group = b << i;
        // With two vectors to a group, each half of it is whole vectors.
        let fits = matches!(b, 2 | 4 | 8) && n.is_multiple_of(lanes) && n.is_multiple_of(group);
        let factor = Self { n, b, group, lanes, sources: [[0; 16]; 8] };
        fits.then(|| Self { sources: factor.sources(), ..factor })
    }

    /// Whether a group is wider than a vector.
    fn apart(self) -> bool {
        self.group > self.lanes
    }

    /// Block and place in it of each element of a row.
    fn place(self, p: usize) -> (usize, usize) {
        let (group, at, half) = (p / self.group, p % self.group, self.b / 2);
        let (side, at) = (at / (self.group / 2), at % (self.group / 2));
        (group * (self.group / self.b) + at / half, side * half + at % half)
    }

    /// The numbers in the order in which vectors take them, `[vector, e, lane]`: what element `e` of a block adds to the lane.
    pub fn pack(self, q: &[f32], transposed: bool) -> Vec<f32> {
        let mut packed = vec![0.0; self.n * self.b];
        self.each(|at, d, e, k| {
            packed[at] = q[d * self.b * self.b + if transposed { k * self.b + e } else { e * self.b + k }]
        });
        packed
    }

    /// Adds what [`outer`](Self::outer) gathered to `dq[d][e][k]`.
    pub fn unpack(self, packed: &[f32], dq: &mut [f32]) {
        self.each(|at, d, e, k| dq[(d * self.b + e) * self.b + k] += packed[at]);
    }

    /// Calls `f(place among packed numbers, block, e, k)` for all of them.
    fn each(self, mut f: impl FnMut(usize, usize, usize, usize)) {
        for p in 0..self.n {
            let (d, k) = self.place(p);
            let start = p / self.lanes * self.lanes * self.b + p % self.lanes;
            (0..self.b).for_each(|e| f(start + e * self.lanes, d, e, k));
        }
    }

    fn sources(self) -> [[i32; 16]; 8] {
        let half = self.b / 2;
        std::array::from_fn(|e| {
            std::array::from_fn(|lane| {
                let from = match self.apart() {
                    // In this vector or, for the other half of the block, in that half a group away.
                    true => lane / half * half + e % half,
                    false => {
                        let (start, at) = (lane / self.group * self.group, lane % (self.group / 2));
                        let side = usize::from(e >= half) * (self.group / 2);
                        start + side + at / half * half + e % half
                    }
                };
                from as i32
            })
        })
    }

    /// `z ← z Q` for rows, by packed numbers.
    pub fn rotate(&self, rows: &mut [f32], packed: &[f32]) {
        assert!(rows.len().is_multiple_of(self.n) && packed.len() == self.n * self.b, "whole rows");
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `lanes` says which instructions the processor has; the lengths were just asserted, and `new` refuses rows
        // that are not whole vectors and groups.
        unsafe {
            match (self.lanes, self.b) {
                (16, 2) => avx512::rotate::<2>(self, rows, packed),
                (16, 4) => avx512::rotate::<4>(self, rows, packed),
                (16, _) => avx512::rotate::<8>(self, rows, packed),
                (_, 2) => avx2::rotate::<2>(self, rows, packed),
                (_, 4) => avx2::rotate::<4>(self, rows, packed),
                (_, _) => avx2::rotate::<8>(self, rows, packed),
            }
        }
    }

    /// `packed[.., e, lane] += Σ z[e of the lane's block] g[lane]` over rows.
    pub fn outer(&self, z: &[f32], g: &[f32], packed: &mut [f32]) {
        let fits = z.len() == g.len() && z.len().is_multiple_of(self.n) && packed.len() == self.n * self.b;
        assert!(fits, "whole rows");
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as in `rotate`.
        unsafe {
            match (self.lanes, self.b) {
                (16, 2) => avx512::outer::<2>(self, z, g, packed),
                (16, 4) => avx512::outer::<4>(self, z, g, packed),
                (16, _) => avx512::outer::<8>(self, z, g, packed),
                (_, 2) => avx2::outer::<2>(self, z, g, packed),
                (_, 4) => avx2::outer::<4>(self, z, g, packed),
                (_, _) => avx2::outer::<8>(self, z, g, packed),
            }
        }
    }
}

/// Lanes of the widest vectors there are.
fn lanes() -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return Some(16);
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            return Some(8);
        }
    }
    None
}

/// Both loops for one instruction set.
#[cfg(target_arch = "x86_64")]
macro_rules! kernels {
    ($name:ident, $features:literal, $lanes:literal, $load:ident, $store:ident, $index:expr, $permute:expr, $mul:ident,
     $add:ident, $zero:ident) => {
        mod $name {
            use super::Factor;
            use std::arch::x86_64::*;

            const LANES: usize = $lanes;

            /// # Safety
            /// The processor has the instructions; rows are whole rows of whole vectors and groups; `packed` has b numbers for
            /// each element of a row.
            #[target_feature(enable = $features)]
            pub unsafe fn rotate<const B: usize>(factor: &Factor, rows: &mut [f32], packed: &[f32]) {
                let (n, count) = (factor.n, rows.len() / factor.n);
                // SAFETY: by the contract, every vector that is read or written lies inside of its slice.
                unsafe {
                    let mut index = [$index(factor.sources[0].as_ptr()); B];
                    for e in 1..B {
                        index[e] = $index(factor.sources[e].as_ptr());
                    }
                    let packed = packed.as_ptr();
                    if !factor.apart() {
                        for at in (0..n).step_by(LANES) {
                            let mut q = [$zero(); B];
                            for e in 0..B {
                                q[e] = $load(packed.add(at * B + e * LANES));
                            }
                            let mut row = rows.as_mut_ptr().add(at);
                            for _ in 0..count {
                                let z = $load(row);
                                let mut y = $mul($permute(z, index[0]), q[0]);
                                for e in 1..B {
                                    y = $add(y, $mul($permute(z, index[e]), q[e]));
                                }
                                $store(row, y);
                                row = row.wrapping_add(n);
                            }
                        }
                        return;
                    }
                    let distance = factor.group / 2;
                    for start in (0..n).step_by(factor.group) {
                        for at in (start..start + distance).step_by(LANES) {
                            let (mut qa, mut qb) = ([$zero(); B], [$zero(); B]);
                            for e in 0..B {
                                qa[e] = $load(packed.add(at * B + e * LANES));
                                qb[e] = $load(packed.add((at + distance) * B + e * LANES));
                            }
                            let mut row = rows.as_mut_ptr().add(at);
                            for _ in 0..count {
                                let (a, b) = ($load(row), $load(row.add(distance)));
                                let z = $permute(a, index[0]);
                                let (mut ya, mut yb) = ($mul(z, qa[0]), $mul(z, qb[0]));
                                for e in 1..B {
                                    let z = $permute(if e < B / 2 { a } else { b }, index[e]);
                                    ya = $add(ya, $mul(z, qa[e]));
                                    yb = $add(yb, $mul(z, qb[e]));
                                }
                                $store(row, ya);
                                $store(row.add(distance), yb);
                                row = row.wrapping_add(n);
                            }
                        }
                    }
                }
            }

            /// # Safety
            /// As [`rotate`], for both z and g.
            #[target_feature(enable = $features)]
            pub unsafe fn outer<const B: usize>(factor: &Factor, z: &[f32], g: &[f32], packed: &mut [f32]) {
                let (n, count) = (factor.n, z.len() / factor.n);
                let distance = if factor.apart() { factor.group / 2 } else { 0 };
                // SAFETY: by the contract, every vector that is read or written lies inside of its slice.
                unsafe {
                    let mut index = [$index(factor.sources[0].as_ptr()); B];
                    for e in 1..B {
                        index[e] = $index(factor.sources[e].as_ptr());
                    }
                    for at in (0..n).step_by(LANES) {
                        // Where the first and the second half of a block stand.
                        let (first, second) = match distance > 0 && at % factor.group >= distance {
                            true => (at - distance, at),
                            false => (at, at + distance),
                        };
                        let mut sums = [$zero(); B];
                        for row in 0..count {
                            let g = $load(g.as_ptr().add(row * n + at));
                            let a = $load(z.as_ptr().add(row * n + first));
                            let b = $load(z.as_ptr().add(row * n + second));
                            for e in 0..B {
                                let z = $permute(if e < B / 2 { a } else { b }, index[e]);
                                sums[e] = $add(sums[e], $mul(z, g));
                            }
                        }
                        for e in 0..B {
                            let to = packed.as_mut_ptr().add(at * B + e * LANES);
                            $store(to, $add($load(to), sums[e]));
                        }
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
kernels!(
    avx512,
    "avx512f",
    16,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    |from: *const i32| _mm512_loadu_si512(from.cast()),
    |z, index| _mm512_permutexvar_ps(index, z),
    _mm512_mul_ps,
    _mm512_add_ps,
    _mm512_setzero_ps
);

#[cfg(target_arch = "x86_64")]
kernels!(
    avx2,
    "avx2",
    8,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    |from: *const i32| _mm256_loadu_si256(from.cast()),
    |z, index| _mm256_permutevar8x32_ps(z, index),
    _mm256_mul_ps,
    _mm256_add_ps,
    _mm256_setzero_ps
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_gives_the_bits_of_the_plain_loops() {
        let numbers = |count: usize, seed: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * 7919 + seed) % 1013) as f32 * 1e-3 - 0.5).collect()
        };
        let widths: Vec<usize> =
            [8, 16].into_iter().filter(|&l| lanes().is_some_and(|most| l <= most)).collect();
        for (n, b, i) in
            [(64, 4, 0), (64, 4, 1), (64, 4, 2), (64, 4, 3), (96, 4, 3), (64, 2, 4), (64, 8, 0), (128, 8, 2)]
        {
            let (z, g, q) = (numbers(3 * n, 1), numbers(3 * n, 5), numbers(n * b, 9));
            for (&lanes, transposed) in widths.iter().flat_map(|l| [(l, false), (l, true)]) {
                let factor = Factor::with_lanes(n, b, i, lanes).expect("fits");
                let at =
                    |d: usize, e: usize, k: usize| d * b * b + if transposed { k * b + e } else { e * b + k };
                let places: Vec<(usize, usize)> = (0..n).map(|p| factor.place(p)).collect();
                let source = |d, e| places.iter().position(|&place| place == (d, e)).expect("there");
                let (mut want, mut slopes) = (vec![], vec![0.0; n * b]);
                for (z, g) in z.chunks(n).zip(g.chunks(n)) {
                    for (p, &(d, k)) in places.iter().enumerate() {
                        let mut y = z[source(d, 0)] * q[at(d, 0, k)];
                        (1..b).for_each(|e| y += z[source(d, e)] * q[at(d, e, k)]);
                        want.push(y);
                        (0..b).for_each(|e| slopes[(d * b + e) * b + k] += z[source(d, e)] * g[p]);
                    }
                }
                let mut rows = z.clone();
                factor.rotate(&mut rows, &factor.pack(&q, transposed));
                assert_eq!(rows, want, "{n} {b} {i} {lanes}");
                let (mut packed, mut dq) = (vec![0.0; n * b], vec![0.0; n * b]);
                factor.outer(&z, &g, &mut packed);
                factor.unpack(&packed, &mut dq);
                assert_eq!(dq, slopes, "{n} {b} {i} {lanes}");
            }
        }
        assert!(Factor::new(60, 4, 0).is_none() && Factor::new(64, 6, 0).is_none());
    }
}
