//! Out of memory: clean pages of files go first, then the largest process dies, with 137 for whoever waits for it.

use super::process::{self, Life, ThreadGroup};
use super::signal::{self, SigInfo};
use super::{reclaim, sched, wait};
use crate::arch::pgtable;
use crate::arch::port::{self, Flavour};
use crate::fs::memfs;
use crate::mm::frames::{self, FrameRef};
use crate::sync::{Events, SpinLock};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How long a process that was killed gets to give its memory back before the next is chosen, ns.
const PATIENCE_NS: u64 = 2 * crate::time::NS;
/// The same before init is chosen, with which all end: on a busy host the dying may take long to get a CPU.
const PATIENCE_WITH_ALL_NS: u64 = 30 * crate::time::NS;
/// Frames that are enough to try again.
const ENOUGH: usize = 16;
/// Moments that are waited before a process is killed.
const MOMENTS: usize = 30;
/// Those that are waited even where they take long: behind hundreds of tasks that spin, a moment is a second.
const LEAST_MOMENTS: usize = 3;
/// A moment, ns.
const MOMENT_NS: u64 = 1_000_000;

/// Times that memory was short, and processes that were killed for it.
static SHORTAGES: AtomicU64 = AtomicU64::new(0);
static KILLS: AtomicU64 = AtomicU64::new(0);
/// Page tables that are kept for reuse while memory is short and there is somebody to be killed for more.
const KEPT_TABLES: usize = 256;
/// When a victim was last chosen, ns.
static VICTIM: SpinLock<Option<u64>> = SpinLock::new(None);
/// Somebody chooses a victim.
static CHOOSING: AtomicBool = AtomicBool::new(false);

/// How often memory was short, even after a look for what can be given back.
pub fn shortages() -> u64 {
    SHORTAGES.load(Ordering::Relaxed)
}

/// Processes that were killed for want of memory.
pub fn kills() -> u64 {
    KILLS.load(Ordering::Relaxed)
}

/// Whether the running task may wait for memory: not one that is dying itself.
pub fn may_wait() -> bool {
    sched::current().is_some_and(|task| !task.must_die(false))
}

/// A task needs memory that is not there: makes some, or waits a moment for a process that is dying. The task may be
/// the one that dies.
pub fn relieve() {
    crate::mm::quarantine::hurry();
    sched::release_space();
    frames::replenish();
    if room() || memfs::shrink_all() != 0 {
        return;
    }
    // Where a hypervisor shadows page tables, some are kept: what was one is slow to be used as anything else.
    pgtable::release_spares(if port::flavour() == Flavour::Systrap { 0 } else { KEPT_TABLES });
    if room() {
        return;
    }
    SHORTAGES.fetch_add(1, Ordering::Relaxed);
    // What a process had that has just ended may not be free yet: an idle vCPU has its tables loaded, or frames wait for
    // their grace period.
    let since = crate::time::monotonic_ns();
    let within = |ns: u64| crate::time::monotonic_ns().saturating_sub(since) < ns;
    // Those frames come back by themselves: nobody is killed for them, unless it takes for ever.
    let coming = || crate::mm::quarantine::waiting() >= ENOUGH && within(PATIENCE_NS);
    let mut moments = 0;
    while moments < LEAST_MOMENTS || moments < MOMENTS && within(2 * MOMENTS as u64 * MOMENT_NS) || coming() {
        moments += 1;
        sched::rouse_idle();
        wait_a_moment();
        crate::mm::quarantine::hurry();
        frames::replenish();
        // One that is dying itself has memory to give, not to take.
        if room() || !may_wait() {
            return;
        }
    }
    relieve_by_force();
}

/// The same where it is processes of the host that lack.
pub fn relieve_by_force() {
    // One chooses: a second that looked at the same moment would find the first's victim gone from the list already, and
    // take the next.
    if !CHOOSING.swap(true, Ordering::SeqCst) {
        choose();
        CHOOSING.store(false, Ordering::SeqCst);
    }
    wait_a_moment();
}

fn choose() {
    let now = crate::time::monotonic_ns();
    // Those that are on their way out, the last victim among them, have memory to give.
    let recent = |patience: u64| VICTIM.lock().is_some_and(|since| now.saturating_sub(since) < patience);
    let dying = process::all_groups().iter().any(|g| g.exiting() && g.life() == Life::Alive);
    if dying && recent(PATIENCE_NS) {
        return;
    }
    let Some(group) = largest() else {
        pgtable::release_spares(0);
        return tell(now);
    };
    // What the last ones had may be on its way back: their stubs end late on a busy host.
    if group.is_init() && recent(PATIENCE_WITH_ALL_NS) && (dying || resident(&group) < frames::usage().1 / 2)
    {
        return;
    }
    crate::warn!("out of memory: process {} is killed", group.pid);
    KILLS.fetch_add(1, Ordering::Relaxed);
    *VICTIM.lock() = Some(now);
    let _ = signal::send_group(&group, SigInfo::kernel(signal::SIGKILL));
    group.start_exit(signal::SIGKILL as i32);
    // The control task tells of it.
    reclaim::WANTED.wake(Events::IN);
}

/// Tells, once a second, that nobody can be killed any more.
fn tell(now: u64) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.load(Ordering::Relaxed);
    if now < next
        || NEXT.compare_exchange(next, now + crate::time::NS, Ordering::Relaxed, Ordering::Relaxed).is_err()
    {
        return;
    }
    let (used, limit) = frames::usage();
    let waiting = crate::mm::quarantine::waiting();
    crate::warn!(
        "out of memory, and no process is left to be killed: {used} of {limit} frames in use, {waiting} wait"
    );
}

/// Leaves the CPU to who is dying. A signal does not cut it short: a task that has one comes back at once, and would keep
/// the vCPU from those that have memory to give.
fn wait_a_moment() {
    if may_wait() {
        wait::sleep_until(crate::time::monotonic_ns() + MOMENT_NS);
    } else {
        sched::yield_now();
    }
}

/// Whether there is some memory again: of the kind that programs get, for their page tables, and none is lent to the sentry.
fn room() -> bool {
    let some: [_; ENOUGH] = core::array::from_fn(|_| FrameRef::alloc_uninit());
    some.iter().all(Result::is_ok) && frames::kernel_has_room() && !frames::low()
}

/// Pages that a process has.
fn resident(group: &ThreadGroup) -> usize {
    group.leader().and_then(|t| t.try_mm().ok()).map_or(0, |mm| mm.resident()) as usize
}

/// The process that uses most, weighed by its oom_score_adj; one that may not be killed (-1000) is left out.
fn largest() -> Option<Arc<ThreadGroup>> {
    let (_, limit) = frames::usage();
    let score = |group: &Arc<ThreadGroup>| {
        let adjust = i64::from(group.oom_score_adj.load(Ordering::Relaxed));
        resident(group) as i64 + adjust * limit as i64 / 1000
    };
    process::all_groups()
        .into_iter()
        .filter(|g| g.life() == Life::Alive && !g.exiting())
        .filter(|g| g.oom_score_adj.load(Ordering::Relaxed) > -1000)
        .max_by_key(score)
}
