//! The time-stamp counter.

use core::arch::x86_64::{_mm_lfence, _rdtsc};

/// Reads the counter, maybe a little before earlier instructions are done.
#[inline]
pub fn read_unordered() -> u64 {
    // SAFETY: the instruction is in every x86-64 CPU and has no effect on memory.
    unsafe { _rdtsc() }
}

/// Reads the counter, not before earlier instructions are done.
#[inline]
pub fn read() -> u64 {
    // SAFETY: both instructions are in every x86-64 CPU and have no effect on memory.
    unsafe {
        _mm_lfence();
        _rdtsc()
    }
}
