//! The work of a block, compiled once for each instruction set, and the hint that fetches memory ahead.
//!
//! The code is the same, and so are the results, bit for bit: nothing is fused or reordered. Unsafe, because whoever
//! calls code for an instruction set has to know that it is there.

#![allow(unsafe_code)]

use super::block::{Block, Number};
use super::history::History;
use std::ops::Range;

/// [`Block::run`] with the best instructions of this machine.
pub(super) fn run<F: Number>(block: &mut Block<'_, F>, steps: Range<u64>, fresh: u64, history: &History) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
    {
        // SAFETY: they are there, and with them what they stand on.
        return unsafe { run_avx512(block, steps, fresh, history) };
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 is there.
        return unsafe { run_avx2(block, steps, fresh, history) };
    }
    block.run(steps, fresh, history);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
fn run_avx512<F: Number>(block: &mut Block<'_, F>, steps: Range<u64>, fresh: u64, history: &History) {
    block.run(steps, fresh, history);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn run_avx2<F: Number>(block: &mut Block<'_, F>, steps: Range<u64>, fresh: u64, history: &History) {
    block.run(steps, fresh, history);
}

/// Asks for the cache line of an element; does nothing behind the end.
#[inline(always)]
pub(super) fn prefetch<T>(values: &[T], place: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(value) = values.get(place) {
        // SAFETY: SSE is part of x86-64, and the address is that of an element.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(
                std::ptr::from_ref(value).cast(),
            )
        };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, place);
}
