//! Signals: signal(7). Pending sets, dispositions, and whom a signal goes to.

use super::process::{self, ThreadGroup};
use super::sched;
use super::task::Task;
use crate::errno::{Errno, Result};
use crate::sync::SpinLock;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as c;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Number of signals; they are 1 to 64.
pub const COUNT: usize = 64;
/// Most queued signals of one process: RLIMIT_SIGPENDING's default is larger, the sentry's own limit.
const MAX_QUEUED: usize = 4096;

/// SIGKILL
pub const SIGKILL: u32 = c::SIGKILL;
/// SIGSTOP
pub const SIGSTOP: u32 = c::SIGSTOP;
/// First real-time signal.
pub const SIGRTMIN: u32 = 32;

/// A set of signals, bit n-1 for signal n.
pub type SigSet = u64;

/// The bit of a signal; none for what is no signal.
pub fn bit(signal: u32) -> SigSet {
    1u64.checked_shl(signal.wrapping_sub(1)).unwrap_or(0)
}

/// Signals that cannot be blocked, caught or ignored.
pub const UNBLOCKABLE: SigSet = 1 << (c::SIGKILL - 1) | 1 << (c::SIGSTOP - 1);
const STOPPERS: SigSet =
    1 << (c::SIGSTOP - 1) | 1 << (c::SIGTSTP - 1) | 1 << (c::SIGTTIN - 1) | 1 << (c::SIGTTOU - 1);
/// Signals that the program's own instructions cause; they are taken first.
const SYNCHRONOUS: SigSet = 1 << (c::SIGSEGV - 1)
    | 1 << (c::SIGBUS - 1)
    | 1 << (c::SIGILL - 1)
    | 1 << (c::SIGTRAP - 1)
    | 1 << (c::SIGFPE - 1)
    | 1 << (c::SIGSYS - 1);

/// What comes with a signal: siginfo_t of sigaction(2), as the kernel lays it out.
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SigInfo {
    /// Signal.
    pub signo: i32,
    /// Error number.
    pub errno: i32,
    /// SI_* or a code of the signal.
    pub code: i32,
    pad: i32,
    /// The union: pid and uid, address, value, ...
    pub fields: [u64; 14],
}

impl SigInfo {
    /// A signal that the kernel sends.
    pub fn kernel(signal: u32) -> Self {
        Self { signo: signal as i32, errno: 0, code: c::SI_KERNEL as i32, pad: 0, fields: [0; 14] }
    }

    /// A signal from a process: kill(2), tgkill(2).
    pub fn user(signal: u32, code: i32, pid: u32, uid: u32) -> Self {
        let mut info = Self::kernel(signal);
        info.code = code;
        info.fields[0] = u64::from(pid) | u64::from(uid) << 32;
        info
    }

    /// A fault at an address.
    pub fn fault(signal: u32, code: i32, address: u64) -> Self {
        let mut info = Self::kernel(signal);
        info.code = code;
        info.fields[0] = address;
        info
    }

    /// SIGCHLD: the child, its user, its status and times in clock ticks.
    pub fn child(code: i32, pid: u32, uid: u32, status: i32, utime: u64, stime: u64) -> Self {
        let mut info = Self::user(c::SIGCHLD, code, pid, uid);
        info.fields[1] = u64::from(status as u32);
        info.fields[2] = utime;
        info.fields[3] = stime;
        info
    }

    /// The signal as a number that indexes.
    pub fn signal(&self) -> u32 {
        self.signo as u32
    }
}

/// Signals that wait for a task or a process.
#[derive(Debug, Default)]
pub struct Pending {
    set: SigSet,
    queue: VecDeque<SigInfo>,
}

impl Pending {
    /// The signals.
    pub fn set(&self) -> SigSet {
        self.set
    }

    /// Adds a signal; a standard one that waits already is not added again.
    ///
    /// # Errors
    /// EAGAIN where too many real-time signals wait.
    pub fn add(&mut self, info: SigInfo) -> Result<()> {
        let signal = info.signal();
        if signal < SIGRTMIN && self.set & bit(signal) != 0 {
            return Ok(());
        }
        // The signal of a timer waits once: timer_getoverrun(2).
        let same =
            |i: &SigInfo| i.signo == info.signo && i.code == info.code && i.fields[0] == info.fields[0];
        if info.code == c::SI_TIMER && self.queue.iter().any(same) {
            return Ok(());
        }
        if self.queue.len() >= MAX_QUEUED {
            // A standard signal is never lost, only what came with it.
            if signal >= SIGRTMIN && info.code <= 0 && info.code != c::SI_USER as i32 {
                return Err(Errno::EAGAIN);
            }
            self.set |= bit(signal);
            return Ok(());
        }
        self.set |= bit(signal);
        self.queue.push_back(info);
        Ok(())
    }

    /// Takes the next signal of `mask`: SIGKILL first, then synchronous ones, then by number.
    pub fn take(&mut self, mask: SigSet) -> Option<SigInfo> {
        let ready = self.set & mask;
        if ready == 0 {
            return None;
        }
        let urgent = [bit(SIGKILL), SYNCHRONOUS].into_iter().map(|first| ready & first).find(|s| *s != 0);
        let urgent = urgent.unwrap_or(ready);
        let signal = urgent.trailing_zeros() + 1;
        let at = self.queue.iter().position(|i| i.signal() == signal);
        let info = at.and_then(|at| self.queue.remove(at)).unwrap_or(SigInfo::user(signal, 0, 0, 0));
        if !self.queue.iter().any(|i| i.signal() == signal) {
            self.set &= !bit(signal);
        }
        Some(info)
    }

    /// Drops signals.
    pub fn discard(&mut self, mask: SigSet) {
        self.set &= !mask;
        self.queue.retain(|i| bit(i.signal()) & mask == 0);
    }
}

/// Disposition of a signal: struct sigaction as rt_sigaction(2) takes it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SigAction {
    /// Address of the handler, SIG_DFL (0) or SIG_IGN (1).
    pub handler: u64,
    /// SA_* flags.
    pub flags: u64,
    /// Where a handler returns to.
    pub restorer: u64,
    /// Signals blocked while it runs.
    pub mask: SigSet,
}

/// SIG_DFL
pub const SIG_DFL: u64 = 0;
/// SIG_IGN
pub const SIG_IGN: u64 = 1;

/// Dispositions, shared by tasks that were cloned with CLONE_SIGHAND.
pub struct SigHandlers {
    actions: SpinLock<[SigAction; COUNT]>,
}

impl SigHandlers {
    /// All at their defaults.
    pub fn new() -> Self {
        Self { actions: SpinLock::new([SigAction::default(); COUNT]) }
    }

    /// A copy, for fork.
    pub fn duplicate(&self) -> Self {
        Self { actions: SpinLock::new(*self.actions.lock()) }
    }

    /// One disposition.
    pub fn get(&self, signal: u32) -> SigAction {
        self.actions.lock()[signal as usize - 1]
    }

    /// Sets one disposition and returns the old.
    pub fn set(&self, signal: u32, action: SigAction) -> SigAction {
        core::mem::replace(&mut self.actions.lock()[signal as usize - 1], action)
    }

    /// For exec: handlers go back to the default, ignored signals stay ignored.
    pub fn reset(&self) {
        for action in self.actions.lock().iter_mut() {
            let handler = if action.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            *action = SigAction { handler, ..SigAction::default() };
        }
    }
}

impl Default for SigHandlers {
    fn default() -> Self {
        Self::new()
    }
}

/// What happens by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultAction {
    /// Nothing.
    Ignore,
    /// The process ends.
    Terminate,
    /// The process ends, with a core dump where that is set up.
    Core,
    /// The process stops.
    Stop,
    /// The process goes on.
    Continue,
}

/// The default of a signal: signal(7).
pub fn default_of(signal: u32) -> DefaultAction {
    match signal {
        c::SIGCHLD | c::SIGURG | c::SIGWINCH => DefaultAction::Ignore,
        c::SIGCONT => DefaultAction::Continue,
        c::SIGSTOP | c::SIGTSTP | c::SIGTTIN | c::SIGTTOU => DefaultAction::Stop,
        c::SIGQUIT
        | c::SIGILL
        | c::SIGTRAP
        | c::SIGABRT
        | c::SIGBUS
        | c::SIGFPE
        | c::SIGSEGV
        | c::SIGXCPU
        | c::SIGXFSZ
        | c::SIGSYS => DefaultAction::Core,
        _ => DefaultAction::Terminate,
    }
}

/// The part of a task's signal state that its lock guards.
#[derive(Debug, Default)]
pub struct TaskSignals {
    /// Signals sent to the task itself.
    pub pending: Pending,
    /// Blocked signals.
    pub blocked: SigSet,
    /// Mask to put back when a handler returns, set by sigsuspend and its like.
    pub saved: Option<SigSet>,
    /// Signals that sigtimedwait is taking.
    pub waiting: SigSet,
    /// Alternate stack: address, size, flags.
    pub alt_stack: AltStack,
}

/// stack_t of sigaltstack(2).
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct AltStack {
    /// Lowest address.
    pub sp: u64,
    /// SS_* flags.
    pub flags: i32,
    /// Padding.
    pub pad: u32,
    /// Bytes.
    pub size: u64,
}

impl Default for AltStack {
    fn default() -> Self {
        Self { sp: 0, flags: c::SS_DISABLE as i32, pad: 0, size: 0 }
    }
}

impl AltStack {
    /// Whether a stack pointer lies on it.
    pub fn holds(&self, sp: u64) -> bool {
        self.size != 0 && sp > self.sp && sp - self.sp <= self.size
    }
}

/// Whether a signal would be thrown away.
fn ignored(group: &ThreadGroup, signal: u32) -> bool {
    let action = group.handlers().get(signal);
    match action.handler {
        SIG_IGN => true,
        SIG_DFL => {
            // Init takes no signal that it has no handler for, except from outside its PID namespace.
            matches!(default_of(signal), DefaultAction::Ignore)
        }
        _ => false,
    }
}

/// What SIGCONT and the stop signals do when they are sent, before anyone handles them.
fn side_effects(group: &Arc<ThreadGroup>, signal: u32) {
    if signal == c::SIGCONT || signal == SIGKILL {
        group.discard(STOPPERS);
        group.resume(signal == c::SIGCONT);
    } else if bit(signal) & STOPPERS != 0 {
        group.discard(bit(c::SIGCONT));
    }
}

/// Sends a signal to a process. `info.signo` 0 only checks.
///
/// # Errors
/// EAGAIN where too many wait.
pub fn send_group(group: &Arc<ThreadGroup>, info: SigInfo) -> Result<()> {
    let signal = info.signal();
    side_effects(group, signal);
    let tasks = group.tasks();
    let blocked_by_all = tasks.iter().all(|t| t.signals.lock().blocked & bit(signal) != 0);
    let awaited = tasks.iter().any(|t| t.signals.lock().waiting & bit(signal) != 0);
    let traced = tasks.iter().any(|t| t.traced());
    let kept = blocked_by_all || awaited;
    if ignored(group, signal) && !kept && !traced {
        return Ok(());
    }
    let kills = info.code == c::SI_KERNEL as i32 && bit(signal) & UNBLOCKABLE != 0;
    if group.is_init() && !kills && (!kept || signal == SIGKILL) && protected_init(group, signal) {
        return Ok(());
    }
    group.pending.lock().add(info)?;
    group.signal_queue.wake(crate::sync::Events::IN);
    if signal == SIGKILL {
        // Its tracer cannot keep it.
        group.change_queue.wake(crate::sync::Events::IN);
    }
    // One task that does not block it is enough; SIGKILL is for all.
    if signal == SIGKILL {
        for task in &tasks {
            task.alert_to_end();
        }
        return Ok(());
    }
    let taker = tasks
        .iter()
        .find(|t| t.signals.lock().waiting & bit(signal) != 0)
        .or_else(|| tasks.iter().find(|t| t.signals.lock().blocked & bit(signal) == 0));
    if let Some(task) = taker {
        task.alert();
    }
    Ok(())
}

/// Init of the PID namespace gets only signals that it has a handler for: pid_namespaces(7).
fn protected_init(group: &ThreadGroup, signal: u32) -> bool {
    group.handlers().get(signal).handler == SIG_DFL
}

/// Sends a signal to one task.
///
/// # Errors
/// EAGAIN where too many wait.
pub fn send_task(task: &Arc<Task>, info: SigInfo) -> Result<()> {
    let signal = info.signal();
    side_effects(&task.group, signal);
    {
        let mut signals = task.signals.lock();
        let unhandled = signals.blocked & bit(signal) == 0 && signals.waiting & bit(signal) == 0;
        if ignored(&task.group, signal) && unhandled && !task.traced() {
            return Ok(());
        }
        if task.group.is_init()
            && info.code <= 0
            && (unhandled || signal == SIGKILL)
            && protected_init(&task.group, signal)
        {
            return Ok(());
        }
        signals.pending.add(info)?;
    }
    task.group.signal_queue.wake(crate::sync::Events::IN);
    if signal == SIGKILL {
        task.group.change_queue.wake(crate::sync::Events::IN);
        for task in task.group.tasks() {
            task.alert_to_end();
        }
    }
    task.alert();
    Ok(())
}

/// A fault of the program: it gets the signal even if it blocks or ignores it, and dies of it then.
pub fn force(task: &Arc<Task>, info: SigInfo) {
    let signal = info.signal();
    let blocked = {
        let mut signals = task.signals.lock();
        let was = signals.blocked & bit(signal) != 0;
        signals.blocked &= !bit(signal);
        was
    };
    let handlers = task.group.handlers();
    let action = handlers.get(signal);
    if blocked || action.handler == SIG_IGN {
        handlers.set(signal, SigAction::default());
    }
    let _ = task.signals.lock().pending.add(info);
    task.alert();
}

/// Sends a signal to every process of a group; `true` where there is one.
pub fn send_process_group(pgid: u32, info: SigInfo) -> bool {
    send_all(info.signal(), || process::members(pgid), |group| send_group(group, info)) != Err(Errno::ESRCH)
}

/// Sends a signal to the processes that `members` gives, by `send`. SIGKILL goes to those too that are made meanwhile by
/// members which it had not reached yet: none escapes.
///
/// # Errors
/// ESRCH where there are no members; what `send` answers where that was the same failure for all.
pub fn send_all(
    signal: u32,
    members: impl Fn() -> Vec<Arc<ThreadGroup>>,
    send: impl Fn(&Arc<ThreadGroup>) -> Result<()>,
) -> Result<()> {
    let mut result = Err(Errno::ESRCH);
    let mut seen = BTreeSet::new();
    loop {
        let mut sent = false;
        for group in members().iter().filter(|group| seen.insert(group.pid)) {
            match send(group) {
                Ok(()) => (result, sent) = (Ok(()), true),
                Err(e) if result.is_err() => result = Err(e),
                Err(_) => {}
            }
        }
        if !sent || signal != SIGKILL {
            return result;
        }
    }
}

impl Task {
    /// Whether a signal waits that the task does not block, or it must end or stop.
    pub fn has_signal(&self) -> bool {
        if self.group.exiting() || self.heeds_stop() || self.killed() || self.trace_pending() {
            return true;
        }
        let signals = self.signals.lock();
        let open = !signals.blocked;
        signals.pending.set() & open != 0 || self.group.pending.lock().set() & open != 0
    }

    /// Makes the task look at its signals soon.
    pub fn alert(self: &Arc<Self>) {
        self.attention.store(true, core::sync::atomic::Ordering::SeqCst);
        sched::notify(self);
    }

    /// As [`Task::alert`], for a task that is to end: it goes before others, since it has memory and locks to give.
    pub fn alert_to_end(self: &Arc<Self>) {
        sched::hasten(self);
        self.alert();
    }

    /// Takes the next signal of `mask`, the task's own first.
    pub fn take_signal(&self, mask: SigSet) -> Option<SigInfo> {
        let own = self.signals.lock().pending.take(mask);
        let mut info = own.or_else(|| self.group.pending.lock().take(mask))?;
        self.group.timer_signal_taken(&mut info);
        Some(info)
    }
}
