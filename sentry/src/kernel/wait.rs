//! Blocking: a task is switched away until a condition holds.

#[cfg(not(test))]
use super::sched;
#[cfg(test)]
use super::sched_native as sched;
use crate::errno::Errno;
use crate::sync::{EntryId, Events, WaitQueue};
use smallvec::SmallVec;

/// Why a wait ended without its condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitError {
    /// A signal is pending that is not blocked, or the task must die.
    Interrupted,
    /// The deadline passed.
    TimedOut,
}

impl From<WaitError> for Errno {
    /// Interrupted waits restart (SA_RESTART); deadlines that pass are ETIMEDOUT.
    fn from(e: WaitError) -> Errno {
        match e {
            WaitError::Interrupted => Errno::RESTART_SYS,
            WaitError::TimedOut => Errno::ETIMEDOUT,
        }
    }
}

/// Waits until `ready` gives a value; not interrupted by anything.
pub fn wait_uninterruptible<T>(queue: &WaitQueue, mut ready: impl FnMut() -> Option<T>) -> T {
    let waker = sched::current_waker();
    let id = queue.add(waker, Events::all(), false);
    let value = loop {
        sched::prepare_park();
        if let Some(value) = ready() {
            break value;
        }
        sched::park(false, None);
    };
    queue.remove(id);
    value
}

/// Waits until `deadline` (CLOCK_MONOTONIC of the sandbox, ns), whatever signals come.
pub fn sleep_until(deadline: u64) {
    loop {
        sched::prepare_park();
        if crate::time::monotonic_ns() >= deadline {
            return;
        }
        sched::park(false, Some(deadline));
    }
}

/// Waits until `ready` gives a value, a signal comes or `deadline` (CLOCK_MONOTONIC of the sandbox, ns) passes.
///
/// `ready` is asked first, and again after each wake-up of one of `queues`.
///
/// # Errors
/// See [`WaitError`].
pub fn wait_until<T>(
    queues: &[(&WaitQueue, Events)],
    deadline: Option<u64>,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T, WaitError> {
    if let Some(value) = ready() {
        return Ok(value);
    }
    wait_registered(queues, deadline, false, ready)
}

/// As [`wait_until`], as an exclusive waiter: one event wakes only one of these.
///
/// # Errors
/// See [`WaitError`].
pub fn wait_exclusive<T>(
    queues: &[(&WaitQueue, Events)],
    deadline: Option<u64>,
    ready: impl FnMut() -> Option<T>,
) -> Result<T, WaitError> {
    wait_registered(queues, deadline, true, ready)
}

fn wait_registered<T>(
    queues: &[(&WaitQueue, Events)],
    deadline: Option<u64>,
    exclusive: bool,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T, WaitError> {
    let waker = sched::current_waker();
    let ids: SmallVec<[EntryId; 4]> =
        queues.iter().map(|(queue, events)| queue.add(waker.clone(), *events, exclusive)).collect();
    let result = loop {
        sched::prepare_park();
        if let Some(value) = ready() {
            break Ok(value);
        }
        if sched::interrupted() {
            break Err(WaitError::Interrupted);
        }
        if deadline.is_some_and(|d| crate::time::monotonic_ns() >= d) {
            break Err(WaitError::TimedOut);
        }
        sched::park(true, deadline);
    };
    for ((queue, _), id) in queues.iter().zip(ids) {
        queue.remove(id);
    }
    result
}
