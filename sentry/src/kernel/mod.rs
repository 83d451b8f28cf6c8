//! Tasks, thread groups, the scheduler, signals, futexes, timers and credentials.

pub mod cred;
#[cfg(not(test))]
pub mod sched;
#[cfg(test)]
#[path = "sched_native.rs"]
pub mod sched;
pub mod task;
pub mod wait;
