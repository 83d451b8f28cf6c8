//! Interval timers of a process: setitimer(2), alarm(2), timer_create(2).

use super::process::ThreadGroup;
use super::signal::{self, SigInfo};
use super::timer::{self, TimerId};
use crate::errno::{Errno, Result};
use crate::sync::{Events, SpinLock, Wake};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU32, Ordering};
use linux_raw_sys::general as c;

/// Most POSIX timers of a process.
const MAX_TIMERS: usize = 1024;

/// What a timer does when it expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notify {
    /// Nothing.
    None,
    /// A signal to the process, with a value.
    Process(u32, u64),
    /// A signal to one task.
    Task(u32, u64, u32),
}

/// One timer.
pub struct IntervalTimer {
    group: Weak<ThreadGroup>,
    id: i32,
    notify: Notify,
    code: i32,
    /// Clock that it was created for.
    pub clock: u32,
    state: SpinLock<State>,
    overrun: AtomicU32,
    me: Weak<IntervalTimer>,
}

#[derive(Default)]
struct State {
    next: u64,
    interval: u64,
    scheduled: Option<TimerId>,
}

impl IntervalTimer {
    fn new(group: &Arc<ThreadGroup>, id: i32, notify: Notify, code: i32, clock: u32) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            group: Arc::downgrade(group),
            id,
            notify,
            code,
            clock,
            state: SpinLock::new(State::default()),
            overrun: AtomicU32::new(0),
            me: me.clone(),
        })
    }

    /// Time left and interval, ns; both 0 where it is not armed.
    pub fn get(&self) -> (u64, u64) {
        let state = self.state.lock();
        if state.next == 0 {
            return (0, state.interval);
        }
        (state.next.saturating_sub(crate::time::monotonic_ns()).max(1), state.interval)
    }

    /// Arms it for `next` (CLOCK_MONOTONIC, ns; 0 disarms) and then every `interval`.
    pub fn set(&self, next: u64, interval: u64) {
        let old = {
            let mut state = self.state.lock();
            state.next = next;
            state.interval = interval;
            state.scheduled.take()
        };
        if let Some(old) = old {
            timer::cancel(old);
        }
        self.overrun.store(0, Ordering::Relaxed);
        self.schedule(next);
    }

    fn schedule(&self, next: u64) {
        if next != 0
            && let Some(me) = self.me.upgrade()
        {
            let id = timer::schedule(next, me);
            self.state.lock().scheduled = Some(id);
        }
    }

    /// Expirations beyond the one that was signalled last.
    pub fn overrun(&self) -> u32 {
        self.overrun.load(Ordering::Relaxed)
    }
}

impl Wake for IntervalTimer {
    fn wake(&self, _: Events) {
        let Some(group) = self.group.upgrade() else { return };
        let now = crate::time::monotonic_ns();
        let next = {
            let mut state = self.state.lock();
            if state.next == 0 || state.next > now {
                return;
            }
            match (now - state.next).checked_div(state.interval) {
                // It expires once.
                None => state.next = 0,
                Some(missed) => {
                    self.overrun.store(missed.min(u64::from(i32::MAX as u32)) as u32, Ordering::Relaxed);
                    state.next += (missed + 1) * state.interval;
                }
            }
            state.next
        };
        let info = |signal: u32, value: u64| {
            let mut info = SigInfo::kernel(signal);
            info.code = self.code;
            if self.code == c::SI_TIMER {
                info.fields[0] = u64::from(self.id as u32) | u64::from(self.overrun()) << 32;
                info.fields[1] = value;
            }
            info
        };
        match self.notify {
            Notify::None => {}
            Notify::Process(signal, value) => {
                let _ = signal::send_group(&group, info(signal, value));
            }
            Notify::Task(signal, value, tid) => {
                if let Some(task) = group.tasks().iter().find(|t| t.tid() == tid) {
                    let _ = signal::send_task(task, info(signal, value));
                }
            }
        }
        self.schedule(next);
    }
}

/// The timers of a process.
#[derive(Default)]
pub struct Timers {
    /// ITIMER_REAL, made when first used.
    real: Option<Arc<IntervalTimer>>,
    posix: BTreeMap<i32, Arc<IntervalTimer>>,
    next: i32,
}

impl Timers {
    /// None yet.
    pub const fn new() -> Self {
        Self { real: None, posix: BTreeMap::new(), next: 0 }
    }
}

impl ThreadGroup {
    /// ITIMER_REAL.
    pub fn real_timer(&self) -> Option<Arc<IntervalTimer>> {
        let group = self.arc()?;
        let mut timers = self.timers.lock();
        let new = || {
            let notify = Notify::Process(c::SIGALRM, 0);
            IntervalTimer::new(&group, 0, notify, c::SI_KERNEL as i32, c::CLOCK_MONOTONIC)
        };
        Some(timers.real.get_or_insert_with(new).clone())
    }

    /// Makes a POSIX timer and returns its id.
    ///
    /// # Errors
    /// EAGAIN.
    pub fn create_timer(&self, clock: u32, notify: impl FnOnce(i32) -> Notify) -> Result<i32> {
        let group = self.arc().ok_or(Errno::ESRCH)?;
        let mut timers = self.timers.lock();
        if timers.posix.len() >= MAX_TIMERS {
            return Err(Errno::EAGAIN);
        }
        let id = timers.next;
        timers.next += 1;
        timers.posix.insert(id, IntervalTimer::new(&group, id, notify(id), c::SI_TIMER, clock));
        Ok(id)
    }

    /// A POSIX timer.
    ///
    /// # Errors
    /// EINVAL.
    pub fn posix_timer(&self, id: i32) -> Result<Arc<IntervalTimer>> {
        self.timers.lock().posix.get(&id).cloned().ok_or(Errno::EINVAL)
    }

    /// Deletes a POSIX timer.
    ///
    /// # Errors
    /// EINVAL.
    pub fn delete_timer(&self, id: i32) -> Result<()> {
        let timer = self.timers.lock().posix.remove(&id).ok_or(Errno::EINVAL)?;
        timer.set(0, 0);
        Ok(())
    }

    /// At exec and at the end: POSIX timers go; at the end ITIMER_REAL too.
    pub fn clear_timers(&self, all: bool) {
        let (posix, real) = {
            let mut timers = self.timers.lock();
            let posix = core::mem::take(&mut timers.posix);
            (posix, if all { timers.real.take() } else { None })
        };
        for timer in posix.values().chain(real.iter()) {
            timer.set(0, 0);
        }
    }
}
