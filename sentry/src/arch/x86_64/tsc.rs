//! The time-stamp counter.

use core::arch::x86_64::{__rdtscp, _mm_lfence, _rdtsc};

/// Reads the counter, not before earlier instructions are done.
#[inline]
pub fn read() -> u64 {
    // SAFETY: both instructions are in every x86-64 CPU and have no effect on memory.
    unsafe {
        _mm_lfence();
        _rdtsc()
    }
}

/// Unused on hosts without RDTSCP; kept for getcpu in ring 3.
pub fn read_with_cpu() -> (u64, u32) {
    let mut aux = 0;
    // SAFETY: callers are on CPUs with RDTSCP; the pointer is to a local.
    let tsc = unsafe { __rdtscp(&raw mut aux) };
    (tsc, aux)
}
