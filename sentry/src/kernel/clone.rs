//! clone(2), clone3(2), fork(2), vfork(2).

use super::process::{self, ThreadGroup};
use super::ptrace;
use super::signal::SigHandlers;
use super::task::{CurrentTask, Task, TaskParts, VforkWait};
use crate::arch::fpu;
use crate::errno::{Errno, Result};
use crate::mm::frames;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;
use linux_raw_sys::ptrace::{
    PTRACE_EVENT_CLONE, PTRACE_EVENT_FORK, PTRACE_EVENT_VFORK, PTRACE_EVENT_VFORK_DONE,
};

/// Namespace flags: the sandbox is one of each kind, further ones are not there yet.
const NAMESPACES: u64 = c::CLONE_NEWPID as u64
    | c::CLONE_NEWNET as u64
    | c::CLONE_NEWUSER as u64
    | c::CLONE_NEWUTS as u64
    | c::CLONE_NEWIPC as u64
    | c::CLONE_NEWCGROUP as u64
    | c::CLONE_NEWTIME as u64;

/// What a new task is to be.
#[derive(Debug, Clone, Copy, Default)]
pub struct CloneArgs {
    /// CLONE_* flags.
    pub flags: u64,
    /// Signal to the parent at the end.
    pub exit_signal: u32,
    /// Stack pointer; 0 keeps the parent's.
    pub stack: u64,
    /// Where the id goes in the parent's memory.
    pub parent_tid: u64,
    /// Where the id goes in the child's memory, or is cleared at its end.
    pub child_tid: u64,
    /// Where the pidfd goes.
    pub pidfd: u64,
    /// FS base with CLONE_SETTLS.
    pub tls: u64,
}

fn has(args: &CloneArgs, flag: u32) -> bool {
    args.flags & u64::from(flag) != 0
}

fn check(args: &CloneArgs) -> Result<()> {
    let invalid = (has(args, c::CLONE_THREAD) && !has(args, c::CLONE_SIGHAND))
        || (has(args, c::CLONE_SIGHAND) && !has(args, c::CLONE_VM))
        || (has(args, c::CLONE_FS) && has(args, c::CLONE_NEWNS))
        || (args.flags & 0x1_0000_0000 != 0 && has(args, c::CLONE_SIGHAND))
        || (has(args, c::CLONE_PIDFD) && has(args, c::CLONE_DETACHED))
        || args.exit_signal > 64;
    if invalid {
        return Err(Errno::EINVAL);
    }
    if args.flags & NAMESPACES != 0 {
        // As a kernel that has user namespaces switched off.
        return Err(if has(args, c::CLONE_NEWUSER) { Errno::ENOSPC } else { Errno::EPERM });
    }
    Ok(())
}

/// Makes a task. Returns its id.
///
/// # Errors
/// EINVAL, EAGAIN, ENOMEM, EFAULT, EPERM.
pub fn clone(current: &CurrentTask, args: &CloneArgs) -> Result<u64> {
    check(args)?;
    if current.policy.load(Ordering::Relaxed) == c::SCHED_DEADLINE {
        // Its bandwidth is its own; with SCHED_RESET_ON_FORK the child has another policy.
        return Err(Errno::EAGAIN);
    }
    let thread = has(args, c::CLONE_THREAD);
    if !thread {
        let (soft, _) = current.rlimit(c::RLIMIT_NPROC);
        if process::task_count() as u64 >= soft && !current.cred().has(super::cred::cap::SYS_RESOURCE) {
            return Err(Errno::EAGAIN);
        }
    }
    if frames::low() {
        // What a task is made of cannot be refused piece by piece.
        return Err(Errno::ENOMEM);
    }
    let tid = process::allocate_pid()?;
    let result = build(current, args, tid);
    if result.is_err() {
        process::release_pid(tid);
    }
    let (child, vfork) = result?;
    if current.must_die(false) {
        // Who kills the whole of a process group looks for new members once all others have the signal: either this child
        // is among them, or the signal is seen here.
        abandon(&child, thread);
        return Err(Errno::EAGAIN);
    }
    if has(args, c::CLONE_PIDFD) {
        let fd = crate::fs::pidfd::install(current, &child.group, false);
        match fd.and_then(|fd| current.write_obj(args.pidfd, &fd)) {
            Ok(()) => {}
            Err(e) => {
                abandon(&child, thread);
                return Err(e);
            }
        }
    }
    if has(args, c::CLONE_PARENT_SETTID) {
        let _ = current.write_obj(args.parent_tid, &tid);
    }
    if has(args, c::CLONE_CHILD_SETTID)
        && let Ok(mm) = child.try_mm()
    {
        let _ = mm.write_bytes(args.child_tid, &tid.to_le_bytes());
    }
    process::register_task(&child);
    let event = if has(args, c::CLONE_UNTRACED) {
        None
    } else if has(args, c::CLONE_VFORK) {
        Some(PTRACE_EVENT_VFORK)
    } else if thread || args.exit_signal != c::SIGCHLD {
        Some(PTRACE_EVENT_CLONE)
    } else {
        Some(PTRACE_EVENT_FORK)
    };
    ptrace::new_task(current, &child, event, has(args, c::CLONE_PTRACE));
    let mut ctx = (**current.ctx()).clone();
    ctx.rax = 0;
    ctx.vector = 0;
    if args.stack != 0 {
        ctx.rsp = args.stack;
    }
    child.start_program(ctx);
    if let Some(event) = event {
        ptrace::event(current, event, u64::from(tid));
    }
    if let Some(wait) = vfork {
        wait.wait(current);
        ptrace::event(current, PTRACE_EVENT_VFORK_DONE, u64::from(tid));
    }
    Ok(u64::from(tid))
}

fn abandon(child: &Arc<Task>, thread: bool) {
    child.group.remove_task(child.tid());
    process::release_pid(child.tid());
    if !thread {
        child.group.abandon();
    }
}

fn build(current: &CurrentTask, args: &CloneArgs, tid: u32) -> Result<(Arc<Task>, Option<Arc<VforkWait>>)> {
    let thread = has(args, c::CLONE_THREAD);
    let mm = if has(args, c::CLONE_VM) { current.mm() } else { current.mm().fork()? };
    let fs = if has(args, c::CLONE_FS) { current.fs() } else { current.fs().fork() };
    if has(args, c::CLONE_NEWNS) {
        if !current.cred().has(super::cred::cap::SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        fs.new_namespace();
    }
    let files = if has(args, c::CLONE_FILES) { current.files() } else { current.files().fork()? };
    let group = if thread {
        current.group.clone()
    } else {
        let handlers = if has(args, c::CLONE_SIGHAND) {
            current.group.handlers()
        } else {
            let copy = SigHandlers::duplicate(&current.group.handlers());
            if args.flags & 0x1_0000_0000 != 0 {
                copy.reset();
            }
            Arc::new(copy)
        };
        let parent = if has(args, c::CLONE_PARENT) { current.group.parent() } else { None };
        let parent = parent.unwrap_or_else(|| current.group.clone());
        ThreadGroup::new(tid, Some(&parent), handlers, args.exit_signal)
    };
    let child = Task::new(TaskParts {
        tid,
        group: group.clone(),
        mm: Some(mm),
        fs: Some(fs),
        files: Some(files),
        cred: current.cred(),
        comm: current.comm(),
        affinity: current.sched.affinity.load(Ordering::Relaxed),
    });
    let child = match child {
        Ok(child) => child,
        Err(e) => {
            if !thread {
                group.abandon();
            }
            return Err(e);
        }
    };
    {
        let mut state = current.fpu.lock();
        fpu::save(&mut state);
        *child.fpu.lock() = state.clone();
    }
    child.bases.copy_from_running(&current.bases);
    if has(args, c::CLONE_SETTLS) {
        if args.tls >= current.mm_ref().user_top {
            if !thread {
                group.abandon();
            }
            return Err(Errno::EPERM);
        }
        child.bases.set_fs(args.tls);
    }
    {
        let parent = current.signals.lock();
        let mut signals = child.signals.lock();
        signals.blocked = parent.saved.unwrap_or(parent.blocked);
        // Threads and vfork children with memory of their own stack start without the alternate one.
        if !has(args, c::CLONE_VM) || has(args, c::CLONE_VFORK) {
            signals.alt_stack = parent.alt_stack;
        }
    }
    if has(args, c::CLONE_CHILD_CLEARTID) {
        child.clear_tid.store(args.child_tid, Ordering::Relaxed);
    }
    if !has(args, c::CLONE_VM) {
        child.rseq.store(current.rseq.load(Ordering::Relaxed), Ordering::Relaxed);
        child.rseq_signature.store(current.rseq_signature.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    child.personality.store(current.personality.load(Ordering::Relaxed), Ordering::Relaxed);
    child.nice.store(current.nice.load(Ordering::Relaxed), Ordering::Relaxed);
    let policy = current.policy.load(Ordering::Relaxed);
    if policy & c::SCHED_RESET_ON_FORK == 0 {
        child.policy.store(policy, Ordering::Relaxed);
        child.rt_priority.store(current.rt_priority.load(Ordering::Relaxed), Ordering::Relaxed);
    } else {
        // Back to the usual policy, and to the nice value 0 where it was below.
        child.nice.fetch_max(20, Ordering::Relaxed);
    }
    super::seccomp::inherit(current, &child);
    child.timer_slack.store(current.timer_slack.load(Ordering::Relaxed), Ordering::Relaxed);
    if has(args, c::CLONE_SYSVSEM) {
        child.share_undo_list(current);
    }
    let vfork = has(args, c::CLONE_VFORK).then(|| Arc::new(VforkWait::new(current.group.clone())));
    *child.vfork_done.lock() = vfork.clone();
    if let Err(e) = group.add_task(&child) {
        if !thread {
            group.abandon();
        }
        return Err(e);
    }
    Ok((child, vfork))
}
