//! The time-stamp counter.

use core::arch::x86_64::{_mm_lfence, _rdtsc};

/// Reads the counter, not before earlier instructions are done.
#[inline]
pub fn read() -> u64 {
    // SAFETY: both instructions are in every x86-64 CPU and have no effect on memory.
    unsafe {
        _mm_lfence();
        _rdtsc()
    }
}
