//! timerfd_create(2).

use crate::errno::{Errno, Result};
use crate::kernel::timer::{self, TimerId};
use crate::mm::io::Sink;
use crate::sync::{Events, SpinLock, WaitQueue, Wake};
use crate::time;
use crate::vfs::anon;
use crate::vfs::file::{FileOps, OpenFile, Queues};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use linux_raw_sys::general as c;

/// Shortest time between two wake-ups of one timer, ns; expirations in between are counted all the same.
const LEAST_INTERVAL: u64 = 50_000;

/// A timer that has expired wakes nobody again until it was read or looked at, as on Linux: what expires meanwhile is
/// counted then.
#[derive(Default)]
struct State {
    /// Next expiration, CLOCK_MONOTONIC ns; 0: not armed.
    next: u64,
    interval: u64,
    /// Expirations that were not read.
    ticks: u64,
    scheduled: Option<TimerId>,
    /// When it woke its waiters last, CLOCK_MONOTONIC ns.
    woke: u64,
}

impl State {
    /// Counts what has expired until now.
    fn advance(&mut self) {
        let now = time::monotonic_ns();
        if self.next == 0 || now < self.next {
            return;
        }
        if self.interval == 0 {
            self.ticks = self.ticks.saturating_add(1);
            self.next = 0;
            return;
        }
        let passed = (now - self.next) / self.interval + 1;
        self.ticks = self.ticks.saturating_add(passed);
        self.next = self.next.saturating_add(passed.saturating_mul(self.interval));
    }
}

/// A timer. One that has expired wakes nobody again until it was read or asked for the time left, as on Linux: what
/// expires meanwhile is counted then.
pub struct TimerFd {
    /// CLOCK_*.
    pub clock: u32,
    state: SpinLock<State>,
    queue: WaitQueue,
    me: Weak<TimerFd>,
}

/// A new timer; `flags` for the description.
pub fn new(clock: u32, flags: u32) -> Arc<OpenFile> {
    let timer = Arc::new_cyclic(|me| TimerFd {
        clock,
        state: SpinLock::new(State::default()),
        queue: WaitQueue::new(),
        me: me.clone(),
    });
    anon::file("timerfd", timer, c::O_RDWR | flags)
}

impl TimerFd {
    /// Now, on its clock.
    fn now(&self) -> u64 {
        match self.clock {
            c::CLOCK_REALTIME | c::CLOCK_REALTIME_ALARM => time::realtime_ns(),
            c::CLOCK_BOOTTIME | c::CLOCK_BOOTTIME_ALARM => time::boottime_ns(),
            _ => time::monotonic_ns(),
        }
    }

    /// Arms it: `value` 0 disarms; returns what was set, as time left and interval.
    pub fn set(&self, value: u64, interval: u64, absolute: bool) -> (u64, u64) {
        let next = match value {
            0 => 0,
            v if absolute => time::monotonic_ns().saturating_add(v.saturating_sub(self.now())).max(1),
            v => time::monotonic_ns().saturating_add(v),
        };
        let mut state = self.state.lock();
        let old = Self::left(&mut state);
        state.next = next;
        state.interval = interval;
        state.ticks = 0;
        self.schedule(&mut state);
        old
    }

    /// Lets it wake its waiters when it expires next.
    fn schedule(&self, state: &mut State) {
        if let Some(id) = state.scheduled.take() {
            timer::cancel(id);
        }
        if state.next != 0
            && let Some(me) = self.me.upgrade()
        {
            let soonest = if state.woke == 0 { 0 } else { state.woke.saturating_add(LEAST_INTERVAL) };
            state.scheduled = Some(timer::schedule(state.next.max(soonest), me));
        }
    }

    /// After its expirations were counted: it waits for the next.
    fn go_on(&self, state: &mut State) {
        if state.scheduled.is_none() {
            self.schedule(state);
        }
    }

    fn left(state: &mut State) -> (u64, u64) {
        state.advance();
        let left = if state.next == 0 { 0 } else { state.next.saturating_sub(time::monotonic_ns()).max(1) };
        (left, state.interval)
    }

    /// Time left and interval, timerfd_gettime(2).
    pub fn get(&self) -> (u64, u64) {
        let mut state = self.state.lock();
        let left = Self::left(&mut state);
        self.go_on(&mut state);
        left
    }

    fn take(&self) -> Result<u64> {
        let mut state = self.state.lock();
        state.advance();
        let ticks = core::mem::take(&mut state.ticks);
        self.go_on(&mut state);
        if ticks == 0 { Err(Errno::EAGAIN) } else { Ok(ticks) }
    }
}

impl Wake for TimerFd {
    fn wake(&self, _: Events) {
        {
            let mut state = self.state.lock();
            state.advance();
            if state.ticks == 0 {
                // It was set anew while this was on its way.
                return;
            }
            state.woke = time::monotonic_ns();
            // One that was set meanwhile and has expired too.
            if let Some(id) = state.scheduled.take() {
                timer::cancel(id);
            }
        }
        self.queue.wake(Events::IN | Events::RDNORM);
    }
}

impl FileOps for TimerFd {
    fn read(&self, file: &OpenFile, sink: &mut dyn Sink, _offset: u64) -> Result<usize> {
        if sink.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let ticks = file.block_on(Events::IN, || self.take())?;
        sink.put(&ticks.to_le_bytes())
    }

    fn poll(&self, _file: &OpenFile) -> Events {
        let mut state = self.state.lock();
        state.advance();
        if state.ticks > 0 { Events::IN | Events::RDNORM } else { Events::empty() }
    }

    fn queues<'a>(&'a self, _file: &OpenFile, queues: &mut Queues<'a>) {
        queues.push(&self.queue);
    }

    fn release(&self, _file: &OpenFile) {
        self.set(0, 0, false);
    }

    fn fdinfo(&self, out: &mut Vec<u8>) {
        let (left, interval) = self.get();
        let ticks = self.state.lock().ticks;
        let show = |ns: u64| alloc::format!("({}, {})", ns / time::NS, ns % time::NS);
        out.extend_from_slice(
            alloc::format!(
                "clockid: {}\nticks: {ticks}\nsettime flags: 00\nit_value: {}\nit_interval: {}\n",
                self.clock,
                show(left),
                show(interval)
            )
            .as_bytes(),
        );
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
