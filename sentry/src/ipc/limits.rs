//! Limits of System V IPC, as /proc/sys/kernel shows and sets them.

use core::sync::atomic::{AtomicU64, Ordering};

/// A limit that can be set.
pub type Limit = AtomicU64;

/// Largest segment of shared memory, bytes.
pub static SHMMAX: Limit = AtomicU64::new(u64::MAX - (1 << 24));
/// Most shared memory, pages.
pub static SHMALL: Limit = AtomicU64::new(u64::MAX - (1 << 24));
/// Most segments.
pub static SHMMNI: Limit = AtomicU64::new(4096);
/// Most semaphores of a set.
pub static SEMMSL: Limit = AtomicU64::new(32_000);
/// Most semaphores.
pub static SEMMNS: Limit = AtomicU64::new(1_024_000_000);
/// Most operations of a semop(2).
pub static SEMOPM: Limit = AtomicU64::new(500);
/// Most sets.
pub static SEMMNI: Limit = AtomicU64::new(32_000);
/// Largest message, bytes.
pub static MSGMAX: Limit = AtomicU64::new(8192);
/// Bytes of a queue.
pub static MSGMNB: Limit = AtomicU64::new(16_384);
/// Most queues.
pub static MSGMNI: Limit = AtomicU64::new(32_000);

/// Values of a limit for sysctl: the limit, and the largest value that it takes.
pub type Bounded = (&'static Limit, u64);

/// kernel.shmmax
pub static SHMMAX_FILE: [Bounded; 1] = [(&SHMMAX, u64::MAX)];
/// kernel.shmall
pub static SHMALL_FILE: [Bounded; 1] = [(&SHMALL, u64::MAX)];
/// kernel.shmmni
pub static SHMMNI_FILE: [Bounded; 1] = [(&SHMMNI, 32_768)];
/// kernel.sem
pub static SEM_FILE: [Bounded; 4] =
    [(&SEMMSL, i32::MAX as u64), (&SEMMNS, i32::MAX as u64), (&SEMOPM, i32::MAX as u64), (&SEMMNI, 32_768)];
/// kernel.msgmax
pub static MSGMAX_FILE: [Bounded; 1] = [(&MSGMAX, i32::MAX as u64)];
/// kernel.msgmnb
pub static MSGMNB_FILE: [Bounded; 1] = [(&MSGMNB, i32::MAX as u64)];
/// kernel.msgmni
pub static MSGMNI_FILE: [Bounded; 1] = [(&MSGMNI, 32_768)];

/// The value of a limit.
pub fn get(limit: &Limit) -> u64 {
    limit.load(Ordering::Relaxed)
}
