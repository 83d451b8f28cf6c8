//! Interval timers of a process: setitimer(2), alarm(2), timer_create(2).

use super::cputime::{AlarmId, CpuClock};
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

/// Shortest time from one expiration to the next, ns.
const MIN_STEP_NS: u64 = 100_000;

/// While nobody takes its signal a timer looks again after twice the time, up to the shortest step times 2 to the power
/// of this: hundreds of timers of a microsecond, which Linux stops until their signals are taken, would leave no time.
const MAX_DOUBLINGS: u32 = 7;

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

/// What a timer goes by.
#[derive(Clone)]
pub enum Source {
    /// CLOCK_MONOTONIC; other clocks of real time are reckoned into it.
    Real,
    /// CPU time.
    Cpu(CpuClock),
}

impl Source {
    /// What it shows, ns. A clock of what is gone stands still.
    pub fn now(&self) -> u64 {
        match self {
            Self::Real => crate::time::monotonic_ns(),
            Self::Cpu(clock) => clock.now().unwrap_or(0),
        }
    }
}

/// How a timer is waiting.
enum Scheduled {
    Real(TimerId),
    Cpu(AlarmId),
}

/// One timer.
pub struct IntervalTimer {
    group: Weak<ThreadGroup>,
    id: i32,
    notify: Notify,
    code: i32,
    /// Clock that it was created for.
    pub clock: u32,
    /// What it goes by.
    pub source: Source,
    state: SpinLock<State>,
    overrun: AtomicU32,
    me: Weak<IntervalTimer>,
}

#[derive(Default)]
struct State {
    next: u64,
    interval: u64,
    scheduled: Option<Scheduled>,
    /// Number of the shot that counts: there is one at a time. One that was fired while the timer was set anew is
    /// ignored, or each of these would schedule a next one for good.
    shot: u64,
    /// Shots since its signal was taken last.
    unread: u32,
    /// Expirations since that signal was sent.
    missed: u64,
}

impl State {
    /// Lets the expirations until `now` pass and counts them. 0 where there is none.
    fn advance(&mut self, now: u64) -> u64 {
        if self.next == 0 || now < self.next {
            return 0;
        }
        let Some(missed) = (now - self.next).checked_div(self.interval) else {
            // It expires once.
            self.next = 0;
            return 1;
        };
        self.next = self.next.saturating_add(self.interval.saturating_mul(missed + 1));
        missed + 1
    }
}

/// What waits for a timer's time to come.
struct Shot {
    timer: Arc<IntervalTimer>,
    number: u64,
}

impl Wake for Shot {
    fn wake(&self, _: Events) {
        self.timer.expire(self.number);
    }
}

impl IntervalTimer {
    fn new(
        group: &Arc<ThreadGroup>,
        id: i32,
        notify: Notify,
        code: i32,
        clock: u32,
        source: Source,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            group: Arc::downgrade(group),
            id,
            notify,
            code,
            clock,
            source,
            state: SpinLock::new(State::default()),
            overrun: AtomicU32::new(0),
            me: me.clone(),
        })
    }

    /// Time left and interval, ns; both 0 where it is not armed.
    pub fn get(&self) -> (u64, u64) {
        let state = self.state.lock();
        let now = self.source.now();
        let left = match (state.next, now.checked_sub(state.next)) {
            (0, _) => 0,
            (next, None) => next - now,
            // It has expired, and nobody has looked yet.
            (_, Some(late)) => late.checked_rem(state.interval).map_or(1, |rest| state.interval - rest),
        };
        (left, state.interval)
    }

    /// Arms it for `next` (of its source, ns; 0 disarms) and then every `interval`.
    pub fn set(&self, next: u64, interval: u64) {
        let (old, shot) = {
            let mut state = self.state.lock();
            state.next = next;
            state.interval = interval;
            state.unread = 0;
            state.missed = 0;
            state.shot += 1;
            (state.scheduled.take(), state.shot)
        };
        self.unschedule(old);
        self.overrun.store(0, Ordering::Relaxed);
        self.schedule(next, shot);
    }

    /// Lets the shot with this number come at `next` (0: never), unless another counts by now.
    fn schedule(&self, next: u64, number: u64) {
        let Some(timer) = self.me.upgrade().filter(|_| next != 0) else { return };
        let shot = Arc::new(Shot { timer, number });
        let scheduled = match &self.source {
            Source::Real => Some(Scheduled::Real(timer::schedule(next, shot))),
            Source::Cpu(clock) => clock.alarm(next, shot).map(Scheduled::Cpu),
        };
        let stale = {
            let mut state = self.state.lock();
            if state.shot == number {
                state.scheduled = scheduled;
                None
            } else {
                scheduled
            }
        };
        self.unschedule(stale);
    }

    fn unschedule(&self, scheduled: Option<Scheduled>) {
        match (scheduled, &self.source) {
            (Some(Scheduled::Real(id)), _) => timer::cancel(id),
            (Some(Scheduled::Cpu(id)), Source::Cpu(clock)) => clock.cancel(id),
            _ => {}
        }
    }

    /// Its signal was taken: what has expired since that was sent is its overrun, which comes back. The next signal
    /// can be sent now: posixtimer_rearm of timer_getoverrun(2)'s "at delivery".
    fn taken(&self) -> u32 {
        let now = self.source.now();
        let (overrun, again) = {
            let mut state = self.state.lock();
            if state.interval != 0 {
                state.missed = state.missed.saturating_add(state.advance(now));
            }
            let overrun = core::mem::take(&mut state.missed).min(u64::from(i32::MAX as u32)) as u32;
            let slow = core::mem::take(&mut state.unread) > 1 && state.next != 0;
            let again = slow.then(|| {
                state.shot += 1;
                (state.scheduled.take(), state.next, state.shot)
            });
            (overrun, again)
        };
        self.overrun.store(overrun, Ordering::Relaxed);
        if let Some((old, next, shot)) = again {
            self.unschedule(old);
            self.schedule(next.max(now.saturating_add(MIN_STEP_NS)), shot);
        }
        overrun
    }

    /// Expirations beyond the one whose signal was taken last.
    pub fn overrun(&self) -> u32 {
        self.overrun.load(Ordering::Relaxed)
    }
}

impl IntervalTimer {
    fn expire(&self, number: u64) {
        let Some(group) = self.group.upgrade() else { return };
        let now = self.source.now();
        let (expired, next, shot) = {
            let mut state = self.state.lock();
            if state.shot != number {
                return;
            }
            let expired = state.advance(now);
            state.scheduled = None;
            state.shot += 1;
            let mut wait = 0;
            if expired != 0 {
                // The first of them is the signal's own.
                let beyond = if state.unread == 0 { expired - 1 } else { expired };
                state.missed = state.missed.saturating_add(beyond);
                wait = MIN_STEP_NS << state.unread.min(MAX_DOUBLINGS);
                state.unread = state.unread.saturating_add(1);
            }
            let next = if state.next == 0 { 0 } else { state.next.max(now.saturating_add(wait)) };
            (expired, next, state.shot)
        };
        if expired == 0 {
            // Whoever took the last signal has counted what this shot was for.
            return self.schedule(next, shot);
        }
        let info = |signal: u32, value: u64| {
            let mut info = SigInfo::kernel(signal);
            info.code = self.code;
            if self.code == c::SI_TIMER {
                info.fields[0] = u64::from(self.id as u32);
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
        // Shorter intervals would leave no time for the program; what is missed counts as overrun.
        self.schedule(next, shot);
    }
}

/// The timers of a process.
#[derive(Default)]
pub struct Timers {
    /// ITIMER_REAL, ITIMER_VIRTUAL and ITIMER_PROF, made when first used.
    intervals: [Option<Arc<IntervalTimer>>; 3],
    posix: BTreeMap<i32, Arc<IntervalTimer>>,
    next: i32,
}

impl Timers {
    /// None yet.
    pub const fn new() -> Self {
        Self { intervals: [const { None }; 3], posix: BTreeMap::new(), next: 0 }
    }
}

impl ThreadGroup {
    /// The interval timer of an ITIMER_* number; `None` for a number that there is not.
    pub fn interval_timer(&self, which: u32) -> Option<Arc<IntervalTimer>> {
        let group = self.arc()?;
        let cpu = || Source::Cpu(CpuClock::Process(Arc::downgrade(&group)));
        let (signal, clock, source) = match which {
            c::ITIMER_REAL => (c::SIGALRM, c::CLOCK_MONOTONIC, Source::Real),
            c::ITIMER_VIRTUAL => (c::SIGVTALRM, c::CLOCK_PROCESS_CPUTIME_ID, cpu()),
            c::ITIMER_PROF => (c::SIGPROF, c::CLOCK_PROCESS_CPUTIME_ID, cpu()),
            _ => return None,
        };
        let mut timers = self.timers.lock();
        let notify = Notify::Process(signal, 0);
        let new = || IntervalTimer::new(&group, 0, notify, c::SI_KERNEL as i32, clock, source);
        Some(timers.intervals.get_mut(which as usize)?.get_or_insert_with(new).clone())
    }

    /// Makes a POSIX timer and returns its id.
    ///
    /// # Errors
    /// EAGAIN.
    pub fn create_timer(
        &self,
        clock: u32,
        source: Source,
        notify: impl FnOnce(i32) -> Notify,
    ) -> Result<i32> {
        let group = self.arc().ok_or(Errno::ESRCH)?;
        let mut timers = self.timers.lock();
        if timers.posix.len() >= MAX_TIMERS {
            return Err(Errno::EAGAIN);
        }
        // Numbers come again after 2^31 timers.
        let taken = |id: &i32| timers.posix.contains_key(id);
        let id = (timers.next..=i32::MAX).chain(0..timers.next).find(|id| !taken(id)).ok_or(Errno::EAGAIN)?;
        timers.next = id.checked_add(1).unwrap_or(0);
        timers.posix.insert(id, IntervalTimer::new(&group, id, notify(id), c::SI_TIMER, clock, source));
        Ok(id)
    }

    /// A POSIX timer.
    ///
    /// # Errors
    /// EINVAL.
    pub fn posix_timer(&self, id: i32) -> Result<Arc<IntervalTimer>> {
        self.timers.lock().posix.get(&id).cloned().ok_or(Errno::EINVAL)
    }

    /// A signal was taken: the timer that sent it goes on, and tells how often it has expired meanwhile.
    pub fn timer_signal_taken(&self, info: &mut SigInfo) {
        if info.code == c::SI_TIMER {
            let id = info.fields[0] as u32;
            if let Ok(timer) = self.posix_timer(id as i32) {
                info.fields[0] = u64::from(id) | u64::from(timer.taken()) << 32;
            }
        } else if info.code == c::SI_KERNEL as i32 {
            let which = match info.signal() {
                c::SIGALRM => c::ITIMER_REAL,
                c::SIGVTALRM => c::ITIMER_VIRTUAL,
                c::SIGPROF => c::ITIMER_PROF,
                _ => return,
            };
            let timer = self.timers.lock().intervals.get(which as usize).cloned().flatten();
            if let Some(timer) = timer {
                timer.taken();
            }
        }
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

    /// At exec and at the end: POSIX timers go; at the end those of setitimer(2) too.
    pub fn clear_timers(&self, all: bool) {
        let (posix, intervals) = {
            let mut timers = self.timers.lock();
            let posix = core::mem::take(&mut timers.posix);
            (posix, if all { core::mem::take(&mut timers.intervals) } else { Default::default() })
        };
        for timer in posix.values().chain(intervals.iter().flatten()) {
            timer.set(0, 0);
        }
    }
}
