//! Memory that was freed goes back to the host, once it was not wanted again for a while.

use crate::mm::frames;
use crate::sync::{Events, WaitQueue};
use core::sync::atomic::{AtomicU64, Ordering};

/// Free memory beyond which some goes back, bytes.
const ABOVE: u64 = 32 << 20;
/// What is kept of it, bytes.
const KEEP: u64 = 8 << 20;
/// How long it must be free, ns.
const DELAY_NS: u64 = 2 * crate::time::NS;

/// When memory goes back, ns of CLOCK_MONOTONIC; `u64::MAX` for never.
static DUE: AtomicU64 = AtomicU64::new(u64::MAX);
/// Woken when that was set.
pub static WANTED: WaitQueue = WaitQueue::new();

/// Looks whether enough is free, now and then: where a vCPU goes idle or its timer fires.
pub fn look() {
    if DUE.load(Ordering::Relaxed) == u64::MAX && frames::releasable() > ABOVE {
        DUE.store(crate::time::monotonic_ns() + DELAY_NS, Ordering::Relaxed);
        WANTED.wake(Events::IN);
    }
}

/// When [`run`] is due.
pub fn due() -> Option<u64> {
    Some(DUE.load(Ordering::Relaxed)).filter(|due| *due != u64::MAX)
}

/// Gives memory back if it is due.
pub fn run() {
    if due().is_some_and(|due| due <= crate::time::monotonic_ns()) {
        let bytes = frames::release(KEEP);
        crate::debug!("{} MiB went back to the host", bytes >> 20);
        DUE.store(u64::MAX, Ordering::Relaxed);
    }
}

/// Gives back at once what can be given.
pub fn give_back() {
    let bytes = frames::release(0);
    crate::debug!("{} MiB went back to the host", bytes >> 20);
}
