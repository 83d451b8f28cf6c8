//! How tracing begins and ends.

use super::{Kind, LINKS, Trace, Tracee};
use crate::errno::{Errno, Result};
use crate::kernel::cred::cap;
use crate::kernel::process::ThreadGroup;
use crate::kernel::signal::{self, SigInfo};
use crate::kernel::task::{CurrentTask, Task, work};
use crate::sync::Events;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;
use linux_raw_sys::ptrace as p;

/// Whether the caller may look into another task and change it: "Ptrace access mode checking" of ptrace(2).
///
/// # Errors
/// EPERM.
pub fn may_access(current: &CurrentTask, target: &Task) -> Result<()> {
    if Arc::ptr_eq(&current.group, &target.group) {
        return Ok(());
    }
    let (own, other) = (current.cred(), target.cred());
    if own.has(cap::SYS_PTRACE) {
        return Ok(());
    }
    let users = [other.uid, other.euid, other.suid].iter().all(|id| *id == own.uid);
    let groups = [other.gid, other.egid, other.sgid].iter().all(|id| *id == own.gid);
    let dumpable = target.group.dumpable.load(Ordering::Relaxed) == 1;
    let caps = other.permitted & !own.permitted == 0;
    if users && groups && dumpable && caps { Ok(()) } else { Err(Errno::EPERM) }
}

/// Makes `tracer` trace a task. `false`: another does already, or one of the two has ended.
fn begin(tracer: &Arc<ThreadGroup>, task: &Arc<Task>, seized: bool, options: u32, interrupt: bool) -> bool {
    // Made before locks are taken, which may not be held while memory is found.
    let new = Box::new(Trace {
        tracer: Arc::downgrade(tracer),
        seized,
        options,
        message: 0,
        stop: None,
        regs: None,
        signal: 0,
        set_info: None,
        step: false,
        interrupt,
        stop_told: false,
        detached: false,
    });
    let _links = LINKS.lock();
    let mut tracees = tracer.tracees.lock();
    if tracees.closed || !task.group.has_task(task) {
        return false;
    }
    {
        let mut slot = task.trace.lock();
        if slot.is_some() {
            return false;
        }
        *slot = Some(new);
    }
    task.work.fetch_or(work::TRACED, Ordering::SeqCst);
    tracees.list.push(Tracee { task: task.clone(), dead: None });
    true
}

/// PTRACE_TRACEME.
///
/// # Errors
/// EPERM: it is traced already, or its parent is outside of the container.
pub fn trace_me(current: &CurrentTask) -> Result<()> {
    let parent = current.group.parent().ok_or(Errno::EPERM)?;
    if begin(&parent, current.task(), false, 0, false) { Ok(()) } else { Err(Errno::EPERM) }
}

/// PTRACE_ATTACH and PTRACE_SEIZE.
///
/// # Errors
/// EPERM: no right to, its own process, or it is traced already.
pub fn attach(current: &CurrentTask, task: &Arc<Task>, seize: Option<u32>) -> Result<()> {
    if Arc::ptr_eq(&current.group, &task.group) {
        return Err(Errno::EPERM);
    }
    may_access(current, task)?;
    if !begin(&current.group, task, seize.is_some(), seize.unwrap_or(0), false) {
        return Err(Errno::EPERM);
    }
    if seize.is_none() {
        let _ = signal::send_task(task, SigInfo::user(c::SIGSTOP, 0, current.pid(), current.cred().uid));
    }
    // One that is stopped stops for its tracer instead.
    task.alert();
    task.group.change_queue.wake(Events::IN);
    Ok(())
}

/// A task was made by a traced one: where its tracer wants it, it is traced too, and begins with a stop.
pub fn new_task(current: &CurrentTask, child: &Arc<Task>, event: Option<u32>, always: bool) {
    if !current.traced() {
        return;
    }
    let (tracer, seized, options) = {
        let trace = current.trace.lock();
        let Some(trace) = trace.as_ref() else { return };
        if !always && event.is_none_or(|event| trace.options & 1 << event == 0) {
            return;
        }
        let Some(tracer) = trace.tracer.upgrade() else { return };
        (tracer, trace.seized, trace.options)
    };
    if begin(&tracer, child, seized, options, seized) && !seized {
        let _ = child.signals.lock().pending.add(SigInfo::kernel(c::SIGSTOP));
    }
    child.attention.store(true, Ordering::SeqCst);
}

/// Ends the tracing of a task. `signal`: what it goes on with; `None`: what it stopped for.
fn release(task: &Arc<Task>, signal: Option<u32>) {
    task.work.fetch_and(!(work::TRACED | work::STOP_AT_CALLS), Ordering::SeqCst);
    let gone = {
        let mut slot = task.trace.lock();
        match slot.as_mut() {
            // The task itself takes its registers back first.
            Some(trace) if trace.regs.is_some() => {
                let own = trace.stop.as_ref().map_or(0, |s| if s.kind == Kind::Signal { s.code } else { 0 });
                super::resume(task, trace, signal.unwrap_or(own), false, false);
                trace.detached = true;
                None
            }
            _ => slot.take(),
        }
    };
    drop(gone);
    task.attention.store(true, Ordering::SeqCst);
    task.group.change_queue.wake(Events::IN);
    task.alert();
}

/// The tracer of a task that has ended does not wait for it any more: where it was a process's first, the parent can.
fn reaped(task: &Task) {
    if task.tid() == task.group.pid {
        task.group.let_reap();
    }
}

/// PTRACE_DETACH of a stopped tracee, which goes on with a signal.
pub fn detach(tracer: &Arc<ThreadGroup>, task: &Arc<Task>, signal: u32) {
    let gone = {
        let _links = LINKS.lock();
        tracer.tracees.lock().list.extract_if(.., |t| Arc::ptr_eq(&t.task, task)).next()
    };
    match gone {
        // It was killed meanwhile.
        Some(Tracee { dead: Some(_), .. }) => reaped(task),
        Some(_) => release(task, Some(signal)),
        None => {}
    }
}

/// A process that may trace has ended: its tracees go on, or are killed where they were to be.
pub fn tracer_ended(tracer: &Arc<ThreadGroup>) {
    let tracees: Vec<Tracee> = {
        let _links = LINKS.lock();
        let mut tracees = tracer.tracees.lock();
        tracees.closed = true;
        core::mem::take(&mut tracees.list)
    };
    for Tracee { task, dead } in tracees {
        if dead.is_some() {
            reaped(&task);
            continue;
        }
        let kill = {
            let trace = task.trace.lock();
            trace.as_ref().is_some_and(|t| t.options & p::PTRACE_O_EXITKILL != 0)
        };
        if kill {
            let _ = signal::send_task(&task, SigInfo::kernel(signal::SIGKILL));
        }
        release(&task, None);
    }
}
