//! The work of a block, compiled once for each instruction set, and hints about memory.
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

/// Asks for the cache line of an element; behind the end, for one that is not needed.
#[inline(always)]
pub(super) fn prefetch<T>(values: &[T], place: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64, and a hint reads nothing: it may have any address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, place);
}

/// Tables from this size on are worth large pages.
#[cfg(target_os = "linux")]
const LARGE: usize = 2 << 20;

/// The same values in memory that [`advise_large_pages`] has asked for.
pub(super) fn in_large_pages<T: Copy>(values: Vec<T>) -> Vec<T> {
    #[cfg(target_os = "linux")]
    if size_of_val(&values[..]) >= LARGE {
        let mut moved = Vec::with_capacity(values.len());
        advise_large_pages(moved.spare_capacity_mut());
        moved.extend_from_slice(&values);
        return moved;
    }
    values
}

/// Asks for pages of two megabytes, where the system has them, for memory that has not been written yet: rows of a large
/// table are read in any order, and there are fewer addresses to look up.
pub(super) fn advise_large_pages<T>(memory: &mut [T]) {
    #[cfg(target_os = "linux")]
    if size_of_val(memory) >= LARGE {
        const PAGE: usize = 4096;
        let start = (memory.as_ptr() as usize).next_multiple_of(PAGE);
        let end = memory.as_ptr() as usize + size_of_val(memory);
        // SAFETY: the range lies within `memory`; the hint changes no content, and it does not matter if it fails.
        unsafe { libc::madvise(start as *mut _, end - start, libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}
