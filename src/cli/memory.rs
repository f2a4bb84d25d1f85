//! Memory that was given back is kept for the next step: training frees and takes the same sizes over and over, and pages
//! that go back to the system come again as page faults, each of which clears a page. Unsafe because it sets up the C
//! library's allocator.
#![allow(unsafe_code)]

/// For the whole program; before threads are started.
pub(super) fn keep() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: only numbers are passed, and no other thread is there yet.
    unsafe {
        // The largest there is; beyond, memory is mapped and unmapped.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        // Arenas of other threads give back at once what is empty.
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
