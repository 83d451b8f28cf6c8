//! Tasks, thread groups, the scheduler, signals, futexes, timers and credentials.

pub mod aio;
pub mod boot;
pub mod bpf;
pub mod clone;
pub mod cputime;
pub mod cred;
pub mod deliver;
pub mod events;
pub mod exit;
pub mod freeze;
pub mod futex;
pub mod itimer;
pub mod join;
pub mod oom;
pub mod process;
pub mod profile;
pub mod ptrace;
pub mod random;
pub mod reclaim;
pub mod resources;
pub mod rseq;
pub mod run;
pub mod sched;
#[cfg(test)]
mod sched_native;
pub mod seccomp;
pub mod signal;
pub mod task;
pub mod timer;
pub mod uts;
pub mod view;
pub mod wait;
pub mod watchdog;
