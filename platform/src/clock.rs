//! Clocks and random bytes of the host.

use abi::boot::ClockSample;

use crate::Error;

fn nanoseconds(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer. The clocks used exist on every Linux that has KVM.
    unsafe { libc::clock_gettime(clock, &mut time) };
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// Reads the host's clocks together.
pub fn sample() -> ClockSample {
    let mut best: Option<(u64, ClockSample)> = None;
    // The tightest of a few readings: the thread may be interrupted within one.
    for _ in 0..4 {
        let before = timestamp();
        let realtime_ns = nanoseconds(libc::CLOCK_REALTIME);
        let monotonic_ns = nanoseconds(libc::CLOCK_MONOTONIC);
        let boottime_ns = nanoseconds(libc::CLOCK_BOOTTIME);
        let width = timestamp().wrapping_sub(before);
        let tsc = before.wrapping_add(width / 2);
        if best.as_ref().is_none_or(|(least, _)| width < *least) {
            best = Some((width, ClockSample { tsc, realtime_ns, monotonic_ns, boottime_ns }));
        }
    }
    best.map_or(ClockSample { tsc: 0, realtime_ns: 0, monotonic_ns: 0, boottime_ns: 0 }, |(_, sample)| sample)
}

/// The time-stamp counter.
fn timestamp() -> u64 {
    // SAFETY: RDTSC is there on every x86-64 CPU and allowed in user mode unless a process forbids it to itself.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Fills `out` with random bytes of the host.
pub fn random(out: &mut [u8]) -> Result<(), Error> {
    let mut done = 0;
    while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
        // SAFETY: `rest` is a valid buffer of that length.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => done += got,
            Err(_) if crate::memory::errno() == libc::EINTR => {}
            Err(_) => return Err(Error::os("reading random bytes (getrandom)")),
        }
    }
    Ok(())
}

/// A seed for the sentry's generator.
pub fn random_seed() -> Result<[u8; 64], Error> {
    let mut seed = [0; 64];
    random(&mut seed)?;
    Ok(seed)
}
