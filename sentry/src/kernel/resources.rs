//! What the container may use: given at its start, changed by `runsc update`, shown in /proc, /sys and by system calls.

use super::{process, sched};
use crate::errno::{Errno, Result};
use crate::fs::memfs;
use crate::mm::frames;
use crate::sync::SpinLock;
use abi::PAGE_SIZE;
use abi::resources::Resources;
use core::sync::atomic::{AtomicU64, Ordering};

static CURRENT: SpinLock<Option<Resources>> = SpinLock::new(None);
/// Memory limit in bytes; 0 for none. Apart from the rest, since it is asked for often.
static MEMORY: AtomicU64 = AtomicU64::new(0);

/// What the container may use now.
pub fn get() -> Resources {
    CURRENT.lock().clone().unwrap_or_default()
}

/// Sets what the container may use.
///
/// # Errors
/// EBUSY where more memory is in use than the new limit; nothing has changed then.
pub fn apply(new: Resources) -> Result<()> {
    if let Some(bytes) = new.machine_memory
        && !frames::set_limit(bytes)
    {
        // Pages of files can be read again.
        while memfs::shrink_all() != 0 {
            if frames::set_limit(bytes) {
                break;
            }
        }
        if !frames::set_limit(bytes) {
            return Err(Errno::EBUSY);
        }
    }
    sched::set_online(new.cpus.map_or(usize::MAX, |n| n as usize));
    process::set_task_limit(new.pids);
    MEMORY.store(new.memory.unwrap_or(0), Ordering::Relaxed);
    *CURRENT.lock() = Some(new);
    Ok(())
}

/// Memory of the container as programs see it, bytes: used and there. Of a limit, what the sentry and the sandbox process
/// keep for themselves counts as used.
pub fn memory() -> (u64, u64) {
    let (used, there) = frames::usage();
    let (used, there) = (used as u64 * PAGE_SIZE, there as u64 * PAGE_SIZE);
    match MEMORY.load(Ordering::Relaxed) {
        0 => (used, there),
        limit => (limit.saturating_sub(there.saturating_sub(used)), limit),
    }
}

/// Most memory that was in use at once, bytes, counted as [`memory`] does.
pub fn memory_peak() -> u64 {
    let (used, there) = memory();
    let free_at_peak = {
        let (_, frames_there) = frames::usage();
        frames_there.saturating_sub(frames::peak()) as u64 * PAGE_SIZE
    };
    there.saturating_sub(free_at_peak).max(used)
}
