//! Tracing of tasks: ptrace(2). Who traces whom, how a tracee stops and goes on, and what its tracer hears.
//!
//! A tracer is a process here, not one of its threads: any of them may trace on. A stopped task waits in its own kernel
//! context; a copy of its registers lies in its [`Trace`] meanwhile.

mod attach;
mod regs;

pub use self::attach::{attach, detach, may_access, new_task, trace_me, tracer_ended};
pub use self::regs::{COUNT as REGISTERS, Regs};

use super::process::ThreadGroup;
use super::signal::{self, SigInfo, bit};
use super::task::{CurrentTask, Task, work};
use super::wait;
use crate::arch::fpu;
use crate::sync::{Events, SpinLock};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;
use linux_raw_sys::ptrace as p;

/// How a stop came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A signal is about to be delivered.
    Signal,
    /// The process is stopped: job control.
    Group,
    /// PTRACE_EVENT_*, PTRACE_EVENT_STOP.
    Event,
    /// A system call begins.
    Entry,
    /// A system call has ended.
    Exit,
    /// A filter answered SECCOMP_RET_TRACE with this.
    Seccomp(u16),
}

/// A stop.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    /// Bits 8 and up of the wait status: the signal, above it the event.
    pub code: u32,
    /// How it came about.
    pub kind: Kind,
    /// What comes with the signal, where one is about to be delivered or was made up for the stop.
    pub info: SigInfo,
    /// The tracer has waited for it.
    reported: bool,
    /// PTRACE_LISTEN: the tracer waits for something else to happen.
    listening: bool,
}

/// What a traced task has.
pub struct Trace {
    tracer: Weak<ThreadGroup>,
    /// By PTRACE_SEIZE.
    pub seized: bool,
    /// PTRACE_O_*.
    pub options: u32,
    /// For PTRACE_GETEVENTMSG.
    pub message: u64,
    stop: Option<Stop>,
    regs: Option<Box<Regs>>,
    /// Signal to go on with, and what its tracer made of what comes with it.
    signal: u32,
    set_info: Option<SigInfo>,
    /// Goes on for one instruction.
    step: bool,
    /// A PTRACE_EVENT_STOP is due.
    interrupt: bool,
    /// The tracer knows that the process is stopped.
    stop_told: bool,
    detached: bool,
}

/// A task that is traced, as its tracer keeps it.
pub struct Tracee {
    /// The task.
    pub task: Arc<Task>,
    /// Wait status with which it ended; it waits to be waited for.
    pub dead: Option<i32>,
}

/// The tasks that a process traces.
#[derive(Default)]
pub struct Tracees {
    /// Those that live, and those whose end it has not waited for.
    pub list: Vec<Tracee>,
    /// It has ended: none is added.
    closed: bool,
}

/// Held where a task's tracer and the tracer's list change together, and where either ends: what ends at the same time on
/// another vCPU must not be left waiting for the other.
static LINKS: SpinLock<()> = SpinLock::new(());

impl Trace {
    /// The stop that a request may work on, and the registers.
    pub fn stopped(&mut self) -> Option<(&mut Stop, &mut Regs)> {
        match (&mut self.stop, &mut self.regs) {
            (Some(stop), Some(regs)) if !stop.listening => Some((stop, regs)),
            _ => None,
        }
    }

    /// Whether this process traces.
    pub fn is_by(&self, group: &ThreadGroup) -> bool {
        core::ptr::eq(self.tracer.as_ptr(), group)
    }

    /// The status of a stop that was not waited for; `take`: it is now.
    pub fn take_report(&mut self, take: bool) -> Option<i32> {
        let stop = self.stop.as_mut().filter(|s| !s.reported && !s.listening)?;
        stop.reported = take;
        Some((stop.code << 8) as i32 | 0x7f)
    }
}

/// Whether a task that was just taken out of its process is traced. From here on nobody begins to.
pub fn traced_at_end(task: &Task) -> bool {
    let _links = LINKS.lock();
    task.traced()
}

/// SIGCHLD to the tracer, and a wake-up of its wait.
fn tell(tracer: &Arc<ThreadGroup>, task: &Task, code: u32, status: i32) {
    let action = tracer.handlers().get(c::SIGCHLD);
    if action.handler != signal::SIG_IGN && action.flags & u64::from(c::SA_NOCLDSTOP) == 0 {
        let usage = task.usage();
        let info =
            SigInfo::child(code as i32, task.tid(), task.cred().uid, status, usage.user_ns / 10_000_000, 0);
        let _ = signal::send_group(tracer, info);
    }
    tracer.child_queue.wake(Events::IN);
}

impl Task {
    /// Whether it is traced.
    pub fn traced(&self) -> bool {
        self.work.load(Ordering::SeqCst) & work::TRACED != 0
    }

    /// Whether a stop of its process is news to it: where its tracer let it go on, it is not.
    pub fn heeds_stop(&self) -> bool {
        self.group.stop_wanted()
            && (!self.traced() || !self.trace.lock().as_ref().is_some_and(|t| t.stop_told))
    }

    /// Whether its tracer wants it to stop.
    pub fn trace_pending(&self) -> bool {
        self.traced() && self.trace.lock().as_ref().is_some_and(|t| t.interrupt)
    }

    /// Process id of its tracer; 0 for none.
    pub fn tracer_pid(&self) -> u32 {
        let trace = self.trace.lock();
        trace.as_ref().and_then(|t| t.tracer.upgrade()).map_or(0, |g| g.pid)
    }

    /// Whether it is stopped for its tracer.
    pub fn trace_stopped(&self) -> bool {
        self.trace.lock().as_ref().is_some_and(|t| t.stop.is_some())
    }

    /// Whether it has to leave a stop whatever its tracer wants. `ending`: it is about to end anyway.
    pub fn must_die(&self, ending: bool) -> bool {
        let kill = bit(signal::SIGKILL);
        self.killed()
            || (self.group.exiting() && !ending)
            || self.signals.lock().pending.set() & kill != 0
            || self.group.pending.lock().set() & kill != 0
    }
}

/// Stops the running task for its tracer until that lets it go on. Returns the signal to go on with, 0 for none; `None`
/// where there is no tracer any more.
pub fn stop(current: &CurrentTask, code: u32, kind: Kind, info: Option<SigInfo>) -> Option<u32> {
    fpu::save(&mut current.fpu.lock());
    let regs = Box::new(Regs::of(current));
    let made_up = || {
        let mut info = SigInfo::user(code & 0x7f, code as i32, current.pid(), current.cred().uid);
        info.signo = (code & 0x7f) as i32;
        info
    };
    let tracer = {
        let mut trace = current.trace.lock();
        let trace = trace.as_mut()?;
        let tracer = trace.tracer.upgrade()?;
        trace.regs = Some(regs);
        trace.signal = 0;
        trace.step = false;
        let info = info.unwrap_or_else(made_up);
        trace.stop = Some(Stop { code, kind, info, reported: false, listening: false });
        tracer
    };
    // A process that ends by itself may be looked at once more.
    let ending = code >> 8 == p::PTRACE_EVENT_EXIT;
    let cld = if kind == Kind::Group { c::CLD_STOPPED } else { c::CLD_TRAPPED };
    tell(&tracer, current, cld, (code & 0x7f) as i32);
    drop(tracer);
    let go_on = || {
        let mut trace = current.trace.lock();
        let Some(trace) = trace.as_mut() else { return Some(()) };
        if trace.stop.is_some() && current.must_die(ending) {
            trace.stop = None;
        }
        trace.stop.is_none().then_some(())
    };
    wait::wait_uninterruptible(&current.group.change_queue, go_on);
    let (regs, signal, step, gone) = {
        let mut slot = current.trace.lock();
        let trace = slot.as_mut()?;
        let out = (trace.regs.take(), trace.signal, trace.step, trace.detached);
        let gone = if out.3 { slot.take() } else { None };
        (out.0, out.1, out.2, gone)
    };
    drop(gone);
    if let Some(regs) = regs {
        regs.put_back(current);
    }
    if step {
        current.ctx_mut().rflags |= crate::arch::context::FLAG_TF;
    }
    Some(signal)
}

/// What a traced task has to stop for before it looks at its signals.
pub fn attend(current: &CurrentTask) {
    let due = {
        let mut trace = current.trace.lock();
        let Some(trace) = trace.as_mut() else { return };
        let stop_signal = current.group.stop_signal();
        let interrupt = core::mem::take(&mut trace.interrupt);
        let news = stop_signal != 0 && !trace.stop_told;
        trace.stop_told |= news;
        let event = p::PTRACE_EVENT_STOP << 8;
        match (interrupt || news, trace.seized, stop_signal) {
            (false, ..) => None,
            (true, true, 0) => Some((event | c::SIGTRAP, Kind::Event)),
            (true, true, signal) => Some((event | signal, Kind::Group)),
            (true, false, 0) => None,
            (true, false, signal) => Some((signal, Kind::Group)),
        }
    };
    if let Some((code, kind)) = due {
        stop(current, code, kind, None);
    }
}

/// Lets the tracer see a signal that is about to be delivered. Returns what is to be delivered, if anything.
pub fn filter_signal(current: &CurrentTask, info: SigInfo) -> Option<SigInfo> {
    if info.signal() == signal::SIGKILL {
        return Some(info);
    }
    let Some(signal) = stop(current, info.signal(), Kind::Signal, Some(info)) else { return Some(info) };
    let set = current.trace.lock().as_mut().and_then(|t| t.set_info.take());
    let info = match signal {
        0 => return None,
        // PTRACE_SETSIGINFO may have put any number there: what counts is the one that it goes on with.
        taken => set
            .filter(|set| set.signal() == taken)
            .or((info.signal() == taken && set.is_none()).then_some(info))
            .unwrap_or_else(|| SigInfo::user(taken, 0, current.group.ppid(), current.cred().uid)),
    };
    let mut signals = current.signals.lock();
    if signals.blocked & bit(info.signal()) == 0 {
        return Some(info);
    }
    let _ = signals.pending.add(info);
    None
}

/// A stop for an event of `PTRACE_O_TRACE*`, where its tracer asked for it. Returns whether it did.
pub fn event(current: &CurrentTask, event: u32, message: u64) -> bool {
    if !current.traced() {
        return false;
    }
    {
        let mut trace = current.trace.lock();
        let Some(trace) = trace.as_mut().filter(|t| t.options & 1 << event != 0) else { return false };
        trace.message = message;
    }
    let kind = match event {
        p::PTRACE_EVENT_SECCOMP => Kind::Seccomp(message as u16),
        _ => Kind::Event,
    };
    stop(current, event << 8 | c::SIGTRAP, kind, None);
    true
}

/// A stop at the beginning or end of a system call.
pub fn syscall_stop(current: &CurrentTask, kind: Kind) {
    let good = current.trace.lock().as_ref().is_some_and(|t| t.options & p::PTRACE_O_TRACESYSGOOD != 0);
    let code = if good { c::SIGTRAP | 0x80 } else { c::SIGTRAP };
    let signal = stop(current, code, kind, None).unwrap_or(0);
    if signal != 0
        && let Some(me) = current.arc()
    {
        let info = SigInfo::user(signal, 0, current.group.ppid(), current.cred().uid);
        let _ = signal::send_task(&me, info);
    }
}

/// A new program was executed. `tid`: the task's id before.
pub fn executed(current: &CurrentTask, tid: u32) {
    if event(current, p::PTRACE_EVENT_EXEC, u64::from(tid)) || !current.traced() {
        return;
    }
    let seized = current.trace.lock().as_ref().is_none_or(|t| t.seized);
    if !seized && let Some(me) = current.arc() {
        let _ = signal::send_task(&me, SigInfo::user(c::SIGTRAP, 0, current.pid(), current.cred().uid));
    }
}

/// Lets a stopped tracee go on.
pub fn resume(task: &Task, trace: &mut Trace, signal: u32, calls: bool, step: bool) {
    trace.signal = signal;
    trace.step = step;
    trace.set_info = trace.stop.as_ref().map(|stop| stop.info);
    if calls {
        task.work.fetch_or(work::STOP_AT_CALLS, Ordering::SeqCst);
    } else {
        task.work.fetch_and(!work::STOP_AT_CALLS, Ordering::SeqCst);
    }
    trace.stop = None;
}

/// PTRACE_INTERRUPT. The caller wakes the task.
pub fn interrupt(trace: &mut Trace) {
    match &mut trace.stop {
        // It stops once more, for its tracer to see.
        Some(stop) if stop.listening => again(stop),
        _ => trace.interrupt = true,
    }
}

/// PTRACE_LISTEN. `false`: it is not in a stop that has this.
pub fn listen(trace: &mut Trace) -> bool {
    match &mut trace.stop {
        Some(stop) if trace.seized && stop.code >> 8 == p::PTRACE_EVENT_STOP => {
            stop.listening = true;
            true
        }
        _ => false,
    }
}

fn again(stop: &mut Stop) {
    stop.code = p::PTRACE_EVENT_STOP << 8 | c::SIGTRAP;
    stop.listening = false;
    stop.reported = false;
}

/// The process is stopped anew, or goes on: tracees that listen tell of it.
pub fn stop_changed(group: &ThreadGroup, stopped: bool) {
    for task in group.tasks() {
        if !task.traced() {
            continue;
        }
        let tracer = {
            let mut trace = task.trace.lock();
            let Some(trace) = trace.as_mut() else { continue };
            trace.stop_told = false;
            match &mut trace.stop {
                Some(stop) if stop.listening && !stopped => again(stop),
                _ => continue,
            }
            trace.tracer.upgrade()
        };
        if let Some(tracer) = tracer {
            tell(&tracer, &task, c::CLD_TRAPPED, c::SIGTRAP as i32);
        }
    }
}

/// A tracee has ended: its tracer can wait for it. `silent`: another thread that execs takes its id over. A process
/// whose parent is its tracer is waited for as a child.
pub fn ended(task: &Arc<Task>, status: i32, silent: bool) {
    let leader = task.tid() == task.group.pid;
    let parent = task.group.parent();
    // What is taken here goes when the locks are free again.
    let mut gone = None;
    let trace;
    let tracer;
    let told = {
        let _links = LINKS.lock();
        trace = task.trace.lock().take();
        task.work.fetch_and(!(work::TRACED | work::STOP_AT_CALLS), Ordering::SeqCst);
        tracer = trace.as_ref().and_then(|t| t.tracer.upgrade());
        let Some(tracer) = &tracer else { return };
        let child = leader && parent.as_ref().is_some_and(|parent| Arc::ptr_eq(parent, tracer));
        let mut tracees = tracer.tracees.lock();
        if tracees.closed {
            // Nobody would wait for it.
            return;
        }
        if silent || child {
            gone = tracees.list.extract_if(.., |t| Arc::ptr_eq(&t.task, task)).next();
        } else {
            if leader {
                task.group.hold();
            }
            for tracee in tracees.list.iter_mut().filter(|t| Arc::ptr_eq(&t.task, task)) {
                tracee.dead = Some(status);
            }
        }
        !silent && !child
    };
    drop(gone);
    let Some(tracer) = tracer else { return };
    if !told {
        tracer.child_queue.wake(Events::IN);
        return;
    }
    let (code, value) = match status & 0x7f {
        0 => (c::CLD_EXITED, status >> 8 & 0xff),
        signal => (c::CLD_KILLED, signal),
    };
    tell(&tracer, task, code, value);
}
