//! The scheduler's interface on host threads, for unit tests.

use crate::sync::{Events, Wake};
use alloc::sync::Arc;
use std::thread::{self, Thread};
use std::time::Duration;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(&self, _: Events) {
        self.0.unpark();
    }
}

/// The waker of the calling thread.
pub fn current_waker() -> Arc<dyn Wake> {
    Arc::new(Unpark(thread::current()))
}

/// Nothing: a thread's token is kept until it parks.
pub fn prepare_park() {}

/// Parks the thread until it is woken, or for a while.
pub fn park(_interruptible: bool, _deadline: Option<u64>) {
    thread::park_timeout(Duration::from_millis(20));
}

/// Test threads get no signals.
pub fn interrupted() -> bool {
    false
}
