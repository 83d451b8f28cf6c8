//! System calls: the table, and a file for each family of handlers.

pub mod aio;
pub mod dir;
pub mod epoll;
pub mod eventfd;
pub mod fcntl;
pub mod futex;
pub mod ids;
pub mod inotify;
pub mod ioctl;
pub mod memory;
pub mod misc;
pub mod mount;
pub mod mqueue;
pub mod open;
pub mod path;
pub mod pipe;
pub mod poll;
pub mod prctl;
pub mod prctl_mm;
pub mod process;
pub mod ptrace;
pub mod read_write;
pub mod rlimit;
pub mod sched;
pub mod seccomp;
pub mod signal;
pub mod signalfd;
pub mod socket;
pub mod socket_message;
pub mod stat;
pub mod sysv_msg;
pub mod sysv_sem;
pub mod sysv_shm;
pub mod table;
pub mod time;
pub mod timerfd;
pub mod wait;
pub mod xattr;

use crate::arch::context::FLAG_TF;
use crate::errno::{Errno, Result};
use crate::kernel::ptrace as tracing;
use crate::kernel::seccomp as seccomp_rules;
use crate::kernel::signal::{self as signal_rules, SigInfo};
use crate::kernel::task::{CurrentTask, work};
use crate::strace::{self, ring};
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general::{SIGTRAP, TRAP_TRACE};
use linux_raw_sys::ptrace::PTRACE_EVENT_SECCOMP;

/// The six arguments of a system call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Args(pub [u64; 6]);

impl Args {
    /// Argument `n` as it is: an address, a length.
    #[inline]
    pub fn u64(&self, n: usize) -> u64 {
        self.0[n]
    }

    /// Argument `n` as the C type int.
    #[inline]
    pub fn i32(&self, n: usize) -> i32 {
        self.0[n] as i32
    }

    /// Argument `n` as the C type unsigned int.
    #[inline]
    pub fn u32(&self, n: usize) -> u32 {
        self.0[n] as u32
    }

    /// Argument `n` as the C type long.
    #[inline]
    pub fn i64(&self, n: usize) -> i64 {
        self.0[n] as i64
    }
}

/// A handler.
pub type Handler = fn(&CurrentTask, &Args) -> Result<u64>;

/// Calls of each number that are not there.
static UNKNOWN: [AtomicU64; table::COUNT] = [const { AtomicU64::new(0) }; table::COUNT];

/// Serves the system call that the program has just made.
pub fn serve(current: &CurrentTask) {
    let (mut nr, mut args) = call_of(current);
    if crate::mm::frames::low() {
        crate::kernel::oom::relieve();
    }
    let worked = current.work.load(Ordering::Relaxed) != 0;
    if worked {
        match begin(current) {
            Some(call) => (nr, args) = call,
            None => return end(current),
        }
    }
    let rip = current.ctx().rip;
    let traced = strace::traces(nr);
    let start = if traced { strace::enter(current, nr, &args) } else { 0 };
    let noted = ring::begin(current, nr, &args);
    let result = match table::TABLE.get(nr as usize) {
        Some(Some(table::Entry { handler: Some(handler), .. })) => {
            current.call.begin(nr, &args, rip);
            let result = handler(current, &args);
            current.call.end();
            result
        }
        _ => unknown(nr),
    };
    ring::end(noted, &result);
    if traced {
        strace::leave(current, nr, &args, &result, start);
    }
    let mut ctx = current.ctx_mut();
    match result {
        Ok(value) => ctx.rax = value,
        Err(e) => {
            ctx.rax = e.as_ret();
            if e.0 >= Errno::RESTART_SYS.0 {
                // What comes before the program goes on sorts it out.
                current.attention.store(true, Ordering::SeqCst);
            }
        }
    }
    drop(ctx);
    if worked {
        end(current);
    }
}

/// The call that the program makes, as its registers have it.
fn call_of(current: &CurrentTask) -> (u64, Args) {
    let ctx = current.ctx();
    (ctx.error, Args(ctx.args()))
}

/// What comes before a call that is traced or filtered: the call that is to be served, which a tracer may have changed.
/// `None`: none is, its result stands.
#[cold]
fn begin(current: &CurrentTask) -> Option<(u64, Args)> {
    let has = |bits| current.work.load(Ordering::SeqCst) & bits != 0;
    let wanted = |(nr, args): (u64, Args)| ((nr as i32) >= 0).then_some((nr, args));
    if has(work::TRACED) {
        current.ctx_mut().rax = Errno::ENOSYS.as_ret();
    }
    if has(work::STOP_AT_CALLS) {
        tracing::syscall_stop(current, tracing::Kind::Entry);
        if current.must_die(false) {
            return None;
        }
    }
    let mut call = wanted(call_of(current))?;
    if !has(work::SECCOMP) {
        return Some(call);
    }
    let mut verdict = seccomp_rules::check(current, call.0, &call.1.0);
    if let seccomp_rules::Verdict::Trace(data) = verdict {
        if !tracing::event(current, PTRACE_EVENT_SECCOMP, u64::from(data)) {
            current.ctx_mut().rax = Errno::ENOSYS.as_ret();
            return None;
        }
        if current.must_die(false) {
            return None;
        }
        call = wanted(call_of(current))?;
        // What the tracer has made of it is filtered too; it is not asked twice.
        verdict = seccomp_rules::check(current, call.0, &call.1.0);
    }
    match verdict {
        seccomp_rules::Verdict::Allow | seccomp_rules::Verdict::Trace(_) => Some(call),
        seccomp_rules::Verdict::Skip(None) => None,
        seccomp_rules::Verdict::Skip(Some(e)) => {
            current.ctx_mut().rax = e.as_ret();
            None
        }
    }
}

/// What comes after a call that is traced.
#[cold]
fn end(current: &CurrentTask) {
    if current.work.load(Ordering::SeqCst) & work::STOP_AT_CALLS != 0 && !current.ended.get() {
        tracing::syscall_stop(current, tracing::Kind::Exit);
    }
    // A step over the instruction that makes a call ends here.
    let stepped = current.traced() && current.ctx().rflags & FLAG_TF != 0;
    if stepped {
        current.ctx_mut().rflags &= !FLAG_TF;
        let rip = current.ctx().rip;
        signal_rules::force(current.task(), SigInfo::fault(SIGTRAP, TRAP_TRACE as i32, rip));
    }
}

fn unknown(nr: u64) -> Result<u64> {
    let entry = table::TABLE.get(nr as usize);
    if let Some(count) = UNKNOWN.get(nr as usize)
        && count.fetch_add(1, Ordering::Relaxed) == 0
    {
        let name = entry.and_then(|e| e.as_ref()).map_or("?", |e| e.name);
        crate::info!("system call {name} ({nr}) is not there: ENOSYS");
    }
    Err(Errno::ENOSYS)
}
