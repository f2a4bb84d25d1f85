//! Products of small unsigned integers: 16 × 16 features over a packed block of samples.
//!
//! A *line* of 64 bytes holds 16 features of a few consecutive samples: 4 samples of one byte, or 2 of 16 bits, so
//! that 32 bits belong to one feature. The kernels broadcast one such group from the rows' panel against whole lines
//! of the columns' panel. All of them do exact integer arithmetic and are therefore equal.
//!
//! Cost on AVX2, for 4 samples × 4 × 16 features (256 products): 8 `vpmaddubsw` + 8 `vpaddw` + 6 loads. Two
//! multiplications a cycle make the floor 64 products a cycle for codes whose pair sums may be added up in 16 bits;
//! `vpmaddwd` on 16-bit codes has half of it, 32. An f32 FMA unit pair does 16.
#![allow(unsafe_code)] // vector instructions chosen at run time; their cost is above, and `benches/ridge.rs` compares it
#![allow(clippy::needless_range_loop)] // indices of registers, side by side in several arrays

use bytemuck::{Pod, Zeroable};

/// Features of a panel.
pub(super) const LANES: usize = 16;

/// 16 features × 32 bits of samples, on its own cache line.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line(pub [u8; 64]);

/// Panels hold a multiple of this many lines, because the longest chain of 16-bit additions has this length.
pub(super) const LINES: usize = 16;

/// How codes are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// One byte a code, for codes up to 90: the sums of `chain` lines fit 16 bits.
    Bytes {
        /// 16, 8, 4 or 2.
        chain: usize,
    },
    /// Two bytes a code, for all codes.
    Words,
}

impl Packing {
    /// The fastest packing in which nothing can overflow. A pair sum is at most 2 · `code_max`², a signed
    /// 16-bit lane holds 32,767.
    pub fn of(code_max: u8) -> Self {
        let pair = 2 * u32::from(code_max).pow(2);
        match [16, 8, 4, 2].into_iter().find(|&chain| chain * pair <= i16::MAX as u32) {
            Some(chain) => Self::Bytes { chain: chain as usize },
            None => Self::Words,
        }
    }

    /// Samples in a line.
    pub fn samples(self) -> usize {
        match self {
            Self::Bytes { .. } => 4,
            Self::Words => 2,
        }
    }
}

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Simd {
    /// Plain Rust.
    Portable,
    /// 256 bits: `vpmaddubsw`, `vpmaddwd`.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512 bits: `vpdpbusd`, `vpdpwssd`.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Simd {
    /// What this processor has, best first.
    pub fn available() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
                all.push(Self::Avx512);
            }
            if is_x86_feature_detected!("avx2") {
                all.push(Self::Avx2);
            }
        }
        all.push(Self::Portable);
        all
    }

    /// `sums[r * stride + c] += Σ rows[r] · columns[c]` for 16 × 16 features.
    ///
    /// `rows` and `columns` are equally many lines, a multiple of [`LINES`], of at most 2¹⁴ samples in all.
    /// `self` must be one of [`Simd::available`].
    pub fn accumulate(
        self,
        packing: Packing,
        rows: &[Line],
        columns: &[Line],
        sums: &mut [u32],
        stride: usize,
    ) {
        assert!(rows.len() == columns.len() && rows.len().is_multiple_of(LINES));
        assert!(stride >= LANES && sums.len() >= (LANES - 1) * stride + LANES);
        match (self, packing) {
            (Self::Portable, Packing::Bytes { .. }) => portable::<4, 64, u8>(rows, columns, sums, stride),
            (Self::Portable, Packing::Words) => portable::<2, 32, u16>(rows, columns, sums, stride),
            // SAFETY: the instruction set was detected; lengths were checked above.
            #[cfg(target_arch = "x86_64")]
            (Self::Avx2, packing) => unsafe {
                match packing {
                    Packing::Bytes { chain: 16 } => avx2_bytes::<16>(rows, columns, sums, stride),
                    Packing::Bytes { chain: 8 } => avx2_bytes::<8>(rows, columns, sums, stride),
                    Packing::Bytes { chain: 4 } => avx2_bytes::<4>(rows, columns, sums, stride),
                    Packing::Bytes { .. } => avx2_bytes::<2>(rows, columns, sums, stride),
                    Packing::Words => avx2_words(rows, columns, sums, stride),
                }
            },
            // SAFETY: the instruction set was detected; lengths were checked above.
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512, Packing::Bytes { .. }) => unsafe {
                avx512::<true>(rows, columns, sums, stride);
            },
            // SAFETY: the instruction set was detected; lengths were checked above.
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512, Packing::Words) => unsafe {
                avx512::<false>(rows, columns, sums, stride);
            },
        }
    }
}

/// The specification: `GROUP` samples of each feature lie side by side, `CODES` codes fill a line.
fn portable<const GROUP: usize, const CODES: usize, C>(
    rows: &[Line],
    columns: &[Line],
    sums: &mut [u32],
    stride: usize,
) where
    C: Copy + Into<u32>,
    [C; CODES]: bytemuck::AnyBitPattern,
{
    let mut block = [0u32; LANES * LANES];
    for (row, column) in rows.iter().zip(columns) {
        let (row, column): (&[C; CODES], &[C; CODES]) =
            (bytemuck::from_bytes(&row.0), bytemuck::from_bytes(&column.0));
        for (r, sums) in block.chunks_exact_mut(LANES).enumerate() {
            for (c, sum) in sums.iter_mut().enumerate() {
                for s in 0..GROUP {
                    *sum += row[r * GROUP + s].into() * column[c * GROUP + s].into();
                }
            }
        }
    }
    for (block, sums) in block.chunks_exact(LANES).zip(sums.chunks_mut(stride)) {
        for (sum, block) in sums.iter_mut().zip(block) {
            *sum = sum.wrapping_add(*block);
        }
    }
}

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// The 32 bits of feature `index` of a line.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn group(line: &Line, index: usize) -> i32 {
    bytemuck::cast_ref::<Line, [i32; 16]>(line)[index]
}

/// Rows that a kernel of 256 bits keeps in registers: 4 × 2 sums, two halves of a line, one broadcast.
#[cfg(target_arch = "x86_64")]
const ROWS: usize = 4;

/// # Safety
/// AVX2; slices as checked by [`Simd::accumulate`]; codes such that `CHAIN` pair sums fit an `i16`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2_bytes<const CHAIN: usize>(rows: &[Line], columns: &[Line], sums: &mut [u32], stride: usize) {
    let ones = _mm256_set1_epi16(1);
    for first in (0..LANES).step_by(ROWS) {
        let mut wide = [[_mm256_setzero_si256(); 2]; ROWS];
        for (rows, columns) in rows.chunks_exact(CHAIN).zip(columns.chunks_exact(CHAIN)) {
            let mut narrow = [[_mm256_setzero_si256(); 2]; ROWS];
            for (row, column) in rows.iter().zip(columns) {
                // SAFETY: a line has 64 bytes, aligned to 64.
                let halves = unsafe { load(column) };
                for r in 0..ROWS {
                    let codes = _mm256_set1_epi32(group(row, first + r));
                    for half in 0..2 {
                        let pairs = _mm256_maddubs_epi16(halves[half], codes);
                        narrow[r][half] = _mm256_add_epi16(narrow[r][half], pairs);
                    }
                }
            }
            for r in 0..ROWS {
                for half in 0..2 {
                    // 16 bits to 32. These sums live on the stack: the registers are taken.
                    wide[r][half] = _mm256_add_epi32(wide[r][half], _mm256_madd_epi16(narrow[r][half], ones));
                }
            }
        }
        for r in 0..ROWS {
            for half in 0..2 {
                // SAFETY: row `first + r` has LANES = 16 sums, checked by the caller.
                unsafe { add(sums, (first + r) * stride + 8 * half, wide[r][half]) };
            }
        }
    }
}

/// # Safety
/// AVX2; slices as checked by [`Simd::accumulate`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2_words(rows: &[Line], columns: &[Line], sums: &mut [u32], stride: usize) {
    for first in (0..LANES).step_by(ROWS) {
        let mut wide = [[_mm256_setzero_si256(); 2]; ROWS];
        for (row, column) in rows.iter().zip(columns) {
            // SAFETY: a line has 64 bytes, aligned to 64.
            let halves = unsafe { load(column) };
            for r in 0..ROWS {
                let codes = _mm256_set1_epi32(group(row, first + r));
                for half in 0..2 {
                    wide[r][half] = _mm256_add_epi32(wide[r][half], _mm256_madd_epi16(halves[half], codes));
                }
            }
        }
        for r in 0..ROWS {
            for half in 0..2 {
                // SAFETY: row `first + r` has LANES = 16 sums, checked by the caller.
                unsafe { add(sums, (first + r) * stride + 8 * half, wide[r][half]) };
            }
        }
    }
}

/// # Safety
/// AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load(line: &Line) -> [__m256i; 2] {
    let bytes = line.0.as_ptr().cast::<__m256i>();
    // SAFETY: `Line` is 64 bytes, aligned to 64.
    unsafe { [_mm256_load_si256(bytes), _mm256_load_si256(bytes.add(1))] }
}

/// # Safety
/// AVX2; `place + 8 <= sums.len()`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn add(sums: &mut [u32], place: usize, wide: __m256i) {
    debug_assert!(place + 8 <= sums.len());
    // SAFETY: the caller promises that eight sums lie at `place`.
    unsafe {
        let sums = sums.as_mut_ptr().add(place).cast::<__m256i>();
        _mm256_storeu_si256(sums, _mm256_add_epi32(_mm256_loadu_si256(sums), wide));
    }
}

/// # Safety
/// AVX-512F and VNNI; slices as checked by [`Simd::accumulate`]; codes up to 127 when `BYTES`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn avx512<const BYTES: bool>(rows: &[Line], columns: &[Line], sums: &mut [u32], stride: usize) {
    let mut wide = [_mm512_setzero_si512(); LANES];
    for (row, column) in rows.iter().zip(columns) {
        // SAFETY: a line has 64 bytes, aligned to 64.
        let line = unsafe { _mm512_load_si512(column.0.as_ptr().cast()) };
        for (r, wide) in wide.iter_mut().enumerate() {
            let codes = _mm512_set1_epi32(group(row, r));
            *wide = match BYTES {
                true => _mm512_dpbusd_epi32(*wide, line, codes),
                false => _mm512_dpwssd_epi32(*wide, line, codes),
            };
        }
    }
    for (r, wide) in wide.into_iter().enumerate() {
        // SAFETY: row `r` has LANES = 16 sums, checked by the caller.
        unsafe {
            let sums = sums.as_mut_ptr().add(r * stride).cast::<__m512i>();
            _mm512_storeu_si512(sums, _mm512_add_epi32(_mm512_loadu_si512(sums), wide));
        }
    }
}
