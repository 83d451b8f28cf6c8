//! Timers: wakers to be called at a time of CLOCK_MONOTONIC.

use crate::sync::{Events, SpinLock, Wake};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

/// Names a scheduled timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerId {
    deadline: u64,
    number: u64,
}

static TIMERS: SpinLock<BTreeMap<TimerId, Arc<dyn Wake>>> = SpinLock::new(BTreeMap::new());
/// Earliest deadline; `u64::MAX` for none.
static NEXT: AtomicU64 = AtomicU64::new(u64::MAX);
static NUMBER: AtomicU64 = AtomicU64::new(0);

fn publish(timers: &BTreeMap<TimerId, Arc<dyn Wake>>) {
    NEXT.store(timers.first_key_value().map_or(u64::MAX, |(id, _)| id.deadline), Ordering::SeqCst);
}

/// Calls `waker` once when CLOCK_MONOTONIC reaches `deadline` (ns), or soon where it has passed.
pub fn schedule(deadline: u64, waker: Arc<dyn Wake>) -> TimerId {
    let id = TimerId { deadline, number: NUMBER.fetch_add(1, Ordering::Relaxed) };
    let mut timers = TIMERS.lock();
    timers.insert(id, waker);
    publish(&timers);
    id
}

/// Takes a timer back; one that has fired is no error.
pub fn cancel(id: TimerId) {
    let removed = {
        let mut timers = TIMERS.lock();
        let removed = timers.remove(&id);
        if removed.is_some() {
            publish(&timers);
        }
        removed
    };
    drop(removed);
}

/// Calls the wakers whose time has come.
pub fn run_expired(now: u64) {
    while NEXT.load(Ordering::Relaxed) <= now {
        let waker = {
            let mut timers = TIMERS.lock();
            let due = timers.first_key_value().is_some_and(|(id, _)| id.deadline <= now);
            let waker = if due { timers.pop_first().map(|(_, w)| w) } else { None };
            publish(&timers);
            waker
        };
        match waker {
            Some(waker) => waker.wake(Events::IN),
            None => return,
        }
    }
}

/// The earliest deadline, ns.
pub fn next_deadline() -> Option<u64> {
    match NEXT.load(Ordering::Relaxed) {
        u64::MAX => None,
        deadline => Some(deadline),
    }
}
