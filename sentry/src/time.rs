//! Clocks.

#[cfg(not(test))]
mod tsc {
    use crate::arch::tsc;
    use abi::boot::ClockSample;
    use core::sync::atomic::{AtomicU64, Ordering};

    /// Fraction bits of the scale.
    pub const SHIFT: u32 = 32;

    static SCALE: AtomicU64 = AtomicU64::new(0);
    static TSC_BASE: AtomicU64 = AtomicU64::new(0);
    static MONOTONIC_BASE: AtomicU64 = AtomicU64::new(0);
    static REALTIME_OFFSET: AtomicU64 = AtomicU64::new(0);
    static BOOTTIME_OFFSET: AtomicU64 = AtomicU64::new(0);
    /// CLOCK_MONOTONIC at the last freeze.
    static LAST: AtomicU64 = AtomicU64::new(0);

    /// Sets the clocks from a sample of the host's. CLOCK_MONOTONIC is the host's own, as containers see it.
    pub fn init(khz: u32, sample: &ClockSample) {
        let scale = (1_000_000u128 << SHIFT) / u128::from(khz.max(1));
        SCALE.store(scale as u64, Ordering::Relaxed);
        TSC_BASE.store(sample.tsc, Ordering::Relaxed);
        MONOTONIC_BASE.store(sample.monotonic_ns, Ordering::Relaxed);
        REALTIME_OFFSET.store(sample.realtime_ns.wrapping_sub(sample.monotonic_ns), Ordering::Relaxed);
        BOOTTIME_OFFSET.store(sample.boottime_ns.wrapping_sub(sample.monotonic_ns), Ordering::Relaxed);
    }

    /// Sets the clocks in a restored machine: CLOCK_MONOTONIC goes on where it stood at the freeze, CLOCK_REALTIME is
    /// the host's, and CLOCK_BOOTTIME has run on as long as CLOCK_REALTIME says.
    pub fn restore(khz: u32, sample: &ClockSample) {
        let frozen = LAST.load(Ordering::Relaxed);
        let realtime = frozen.wrapping_add(REALTIME_OFFSET.load(Ordering::Relaxed));
        let boottime = frozen.wrapping_add(BOOTTIME_OFFSET.load(Ordering::Relaxed));
        let away = sample.realtime_ns.saturating_sub(realtime);
        init(
            khz,
            &ClockSample {
                tsc: sample.tsc,
                realtime_ns: sample.realtime_ns,
                monotonic_ns: frozen,
                boottime_ns: boottime.wrapping_add(away),
            },
        );
    }

    /// Remembers the time of a freeze.
    pub fn frozen() {
        LAST.store(monotonic_ns(), Ordering::Relaxed);
    }

    /// What the vDSO needs: TSC base, scale, CLOCK_MONOTONIC at the base, CLOCK_REALTIME less CLOCK_MONOTONIC,
    /// CLOCK_BOOTTIME less CLOCK_MONOTONIC.
    pub fn vdso_data() -> [u64; 5] {
        [
            TSC_BASE.load(Ordering::Relaxed),
            SCALE.load(Ordering::Relaxed),
            MONOTONIC_BASE.load(Ordering::Relaxed),
            REALTIME_OFFSET.load(Ordering::Relaxed),
            BOOTTIME_OFFSET.load(Ordering::Relaxed),
        ]
    }

    /// Nanoseconds of CLOCK_MONOTONIC.
    #[inline]
    pub fn monotonic_ns() -> u64 {
        let ticks = tsc::read().wrapping_sub(TSC_BASE.load(Ordering::Relaxed));
        let ns = (u128::from(ticks) * u128::from(SCALE.load(Ordering::Relaxed))) >> SHIFT;
        MONOTONIC_BASE.load(Ordering::Relaxed).wrapping_add(ns as u64)
    }

    /// Nanoseconds of a difference of the time-stamp counter.
    pub fn ns_of(ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(SCALE.load(Ordering::Relaxed))) >> SHIFT) as u64
    }

    /// Nanoseconds of CLOCK_REALTIME since 1970.
    pub fn realtime_ns() -> u64 {
        monotonic_ns().wrapping_add(REALTIME_OFFSET.load(Ordering::Relaxed))
    }

    /// Nanoseconds of CLOCK_BOOTTIME.
    pub fn boottime_ns() -> u64 {
        monotonic_ns().wrapping_add(BOOTTIME_OFFSET.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
pub use native::*;
#[cfg(not(test))]
pub use tsc::*;

/// Nanoseconds of a second.
pub const NS: u64 = 1_000_000_000;
/// Nanoseconds of a microsecond.
pub const US: u64 = 1_000;

/// The host's own clocks, for unit tests.
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

    /// Nanoseconds of CLOCK_BOOTTIME.
    pub fn boottime_ns() -> u64 {
        monotonic_ns()
    }

    /// Nothing: the host's clocks need no setting.
    pub fn init(_khz: u32, _sample: &abi::boot::ClockSample) {}

    /// Nothing: no unit test restores a machine.
    pub fn restore(_khz: u32, _sample: &abi::boot::ClockSample) {}

    /// Nothing.
    pub fn frozen() {}

    /// A counter of one tick each nanosecond.
    pub fn ns_of(ticks: u64) -> u64 {
        ticks
    }

    /// What a vDSO would need.
    pub fn vdso_data() -> [u64; 5] {
        [0; 5]
    }
}
