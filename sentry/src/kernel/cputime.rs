//! Alarms on clocks of CPU time, and RLIMIT_CPU.
//!
//! Such a clock runs only while its process does, so its alarms are looked at where a task goes back to its program:
//! the vCPU's timer is armed for the earliest moment at which one can be due. A process without alarms and without a
//! limit pays one comparison.

use super::process::{INFINITY, ThreadGroup};
use super::sched;
use super::signal::{self, SigInfo};
use super::task::Task;
use crate::arch::cpu;
use crate::sync::{Events, SpinLock, Wake};
use crate::time::NS;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general as c;

/// Shortest time between two looks, ns.
const STEP_NS: u64 = 50_000;

/// A clock of CPU time.
#[derive(Clone)]
pub enum CpuClock {
    /// Of all tasks of a process.
    Process(Weak<ThreadGroup>),
    /// Of one task.
    Thread(Weak<Task>),
}

/// Names an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlarmId(u64);

struct Alarm {
    id: AlarmId,
    /// `None` for the clock of the process.
    task: Option<Weak<Task>>,
    at: u64,
    waker: Arc<dyn Wake>,
}

/// Alarms on the clocks of a process and its tasks.
pub struct Alarms {
    /// Nothing is due before this time of CLOCK_MONOTONIC, ns; `u64::MAX` where nothing ever is.
    look: AtomicU64,
    list: SpinLock<Vec<Alarm>>,
}

impl Alarms {
    /// None yet. A limit that was inherited is found at the first look.
    pub const fn new() -> Self {
        Self { look: AtomicU64::new(0), list: SpinLock::new(Vec::new()) }
    }
}

impl Default for Alarms {
    fn default() -> Self {
        Self::new()
    }
}

impl CpuClock {
    /// What it shows, ns; `None` where its process or task is gone.
    pub fn now(&self) -> Option<u64> {
        match self {
            Self::Process(group) => group.upgrade().map(|g| g.usage().user_ns),
            Self::Thread(task) => task.upgrade().map(|t| t.usage().user_ns),
        }
    }

    fn group(&self) -> Option<Arc<ThreadGroup>> {
        match self {
            Self::Process(group) => group.upgrade(),
            Self::Thread(task) => task.upgrade().map(|t| t.group.clone()),
        }
    }

    /// Calls `waker` once when the clock shows `at` or more.
    pub fn alarm(&self, at: u64, waker: Arc<dyn Wake>) -> Option<AlarmId> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let group = self.group()?;
        let id = AlarmId(NEXT.fetch_add(1, Ordering::Relaxed));
        let task = match self {
            Self::Process(_) => None,
            Self::Thread(task) => Some(task.clone()),
        };
        group.alarms.list.lock().push(Alarm { id, task, at, waker });
        look_again(&group);
        Some(id)
    }

    /// Takes an alarm back; one that has gone off is no error.
    pub fn cancel(&self, id: AlarmId) {
        let Some(group) = self.group() else { return };
        let gone = {
            let mut list = group.alarms.list.lock();
            list.iter().position(|a| a.id == id).map(|at| list.swap_remove(at))
        };
        drop(gone);
    }
}

/// An alarm or the limit of a process was set: its tasks look at their clocks when they go back to ring 3 next.
pub fn look_again(group: &ThreadGroup) {
    group.alarms.look.store(0, Ordering::SeqCst);
    for task in group.tasks() {
        if task.sched.running_on().is_some() {
            task.alert();
        }
    }
}

/// Before a task goes back to its program: what is due goes off, and the timer is armed for what comes next. `true`
/// where something went off.
#[inline]
pub fn look(task: &Task) -> bool {
    let next = task.group.alarms.look.load(Ordering::Relaxed);
    if next == u64::MAX {
        return false;
    }
    let now = crate::time::monotonic_ns();
    if now < next {
        sched::arm_for(next);
        return false;
    }
    look_now(&task.group, now)
}

#[cold]
fn look_now(group: &Arc<ThreadGroup>, now: u64) -> bool {
    // Set before the clocks are read: an alarm that comes meanwhile is not missed.
    group.alarms.look.store(u64::MAX, Ordering::SeqCst);
    let shown = group.usage().user_ns;
    let mut due: Vec<Arc<dyn Wake>> = Vec::new();
    let mut left = u64::MAX;
    // At most so many times faster than real time does the clock of the process run.
    let pace = group.task_count().clamp(1, cpu::count()) as u64;
    {
        let mut list = group.alarms.list.lock();
        list.retain(|alarm| {
            let (clock, pace) = match &alarm.task {
                None => (shown, pace),
                Some(task) => match task.upgrade() {
                    Some(task) => (task.usage().user_ns, 1),
                    // It will never go off.
                    None => return false,
                },
            };
            if clock >= alarm.at {
                due.push(alarm.waker.clone());
                return false;
            }
            left = left.min((alarm.at - clock) / pace);
            true
        });
    }
    let limited = limit(group, shown, pace, &mut left);
    if left != u64::MAX {
        let next = now.saturating_add(left.max(STEP_NS));
        group.alarms.look.fetch_min(next, Ordering::SeqCst);
        sched::arm_for(next);
    }
    let any = limited || !due.is_empty();
    for waker in due {
        waker.wake(Events::IN);
    }
    any
}

/// RLIMIT_CPU: SIGXCPU at the soft limit and each second after, SIGKILL at the hard one.
fn limit(group: &Arc<ThreadGroup>, shown: u64, pace: u64, left: &mut u64) -> bool {
    let at = |seconds: u64| seconds.saturating_mul(NS);
    let (signal, next) = {
        let mut limits = group.limits.lock();
        let (soft, hard) = &mut limits[c::RLIMIT_CPU as usize];
        if *soft == INFINITY {
            return false;
        }
        if shown >= at(*hard) {
            (Some(c::SIGKILL), u64::MAX)
        } else if shown >= at(*soft) {
            // As on Linux the limit itself moves.
            *soft = (shown / NS).max(*soft) + 1;
            (Some(c::SIGXCPU), at((*soft).min(*hard)))
        } else {
            (None, at((*soft).min(*hard)))
        }
    };
    *left = (*left).min(next.saturating_sub(shown) / pace);
    if let Some(signal) = signal {
        let _ = signal::send_group(group, SigInfo::kernel(signal));
    }
    signal.is_some()
}
