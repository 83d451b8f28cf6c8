//! Looks for tasks that are stuck in the kernel: on a vCPU, in one and the same system call, for longer than a limit.
//! Kernel code is not preempted, so such a task keeps its vCPU. It is a task itself: a sandbox with one vCPU that is
//! stuck cannot look.

use super::task::Task;
use super::{boot, process, wait};
use crate::strace::{ring, tasks};
use abi::spec::Watchdog;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;

/// Looks in the time of one limit.
const LOOKS: u64 = 4;
/// Least time between two looks, ns.
const LEAST_NS: u64 = 20_000_000;

/// What a task was seen in.
struct Seen {
    /// The call, and how often the task has given its vCPU up: it has not, if that stays the same.
    what: (u64, u64, u64),
    since: u64,
    told: bool,
}

/// Starts it.
pub fn start(settings: &Watchdog) {
    let (limit, panics) = (u64::from(settings.limit_ms) * 1_000_000, settings.panics);
    if let Err(e) = boot::spawn_kernel(Box::new(move || watch(limit, panics))) {
        crate::error!("no memory for the watchdog: {}", e.name());
    }
}

fn look(task: &Task) -> Option<(u64, u64, u64)> {
    use core::sync::atomic::Ordering::Relaxed;
    task.sched.running_on()?;
    let call = task.call.identity()?;
    Some((call, task.sched.voluntary.load(Relaxed), task.sched.preempted.load(Relaxed)))
}

fn watch(limit: u64, panics: bool) {
    let mut seen: BTreeMap<u32, Seen> = BTreeMap::new();
    loop {
        let next = crate::time::monotonic_ns() + (limit / LOOKS).max(LEAST_NS);
        let _ = wait::wait_until(&[], Some(next), || None::<()>);
        let now = crate::time::monotonic_ns();
        let mut still = BTreeMap::new();
        for task in process::all_groups().iter().flat_map(|group| group.tasks()) {
            let Some(what) = look(&task) else { continue };
            let before = seen.remove(&task.tid()).filter(|before| before.what == what);
            let mut entry = before.unwrap_or(Seen { what, since: now, told: false });
            if !entry.told && now - entry.since >= limit {
                entry.told = true;
                let ms = (now - entry.since) / 1_000_000;
                let line = tasks::line(&task);
                crate::error!("watchdog: a task has been in one system call on its CPU for {ms} ms: {line}");
                ring::dump(crate::log::Level::Warning, true);
                if panics {
                    panic!("watchdog: {line}");
                }
            }
            still.insert(task.tid(), entry);
        }
        seen = still;
    }
}
