//! Signals: kill(2), sigaction(2), sigprocmask(2), sigaltstack(2), sigsuspend(2), sigtimedwait(2).

use super::{Args, time};
use crate::errno::{Errno, Result};
use crate::kernel::cred::{Cred, cap};
use crate::kernel::deliver;
use crate::kernel::process::{self, ThreadGroup};
use crate::kernel::signal::{self, AltStack, COUNT, SIG_IGN, SigAction, SigInfo, UNBLOCKABLE, bit};
use crate::kernel::task::CurrentTask;
use crate::kernel::wait::{self, WaitError};
use crate::sync::Events;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;

fn check(signal: i32) -> Result<u32> {
    if (0..=COUNT as i32).contains(&signal) { Ok(signal as u32) } else { Err(Errno::EINVAL) }
}

fn check_set_size(size: u64) -> Result<()> {
    if size == 8 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Whether `sender` may signal a process: kill(2).
fn may_signal(sender: &Cred, group: &ThreadGroup, same_session: bool, signal: u32) -> bool {
    let Some(target) = group.leader() else { return true };
    let target = target.cred();
    sender.has(cap::KILL)
        || [target.uid, target.suid].contains(&sender.euid)
        || [target.uid, target.suid].contains(&sender.uid)
        || (signal == c::SIGCONT && same_session)
}

fn send(task: &CurrentTask, group: &Arc<ThreadGroup>, info: SigInfo) -> Result<()> {
    let signal = info.signal();
    if !may_signal(&task.cred(), group, group.sid() == task.group.sid(), signal) {
        return Err(Errno::EPERM);
    }
    if signal == 0 { Ok(()) } else { signal::send_group(group, info) }
}

fn info_of(task: &CurrentTask, signal: u32, code: i32) -> SigInfo {
    SigInfo::user(signal, code, task.pid(), task.cred().uid)
}

/// kill(2)
pub fn kill(task: &CurrentTask, args: &Args) -> Result<u64> {
    let pid = args.i32(0);
    let signal = check(args.i32(1))?;
    let info = info_of(task, signal, c::SI_USER as i32);
    if pid > 0 {
        let group = process::find_group(pid as u32)
            .or_else(|| process::find_task(pid as u32).map(|t| t.group.clone()))
            .ok_or(Errno::ESRCH)?;
        return send(task, &group, info).map(|()| 0);
    }
    let pgid = task.group.pgid();
    let targets = || match pid {
        -1 => {
            let mut all = process::all_groups();
            all.retain(|g| !g.is_init() && !Arc::ptr_eq(g, &task.group));
            all
        }
        0 => process::members(pgid),
        p => process::members(p.unsigned_abs()),
    };
    signal::send_all(signal, targets, |group| send(task, group, info)).map(|()| 0)
}

fn thread_kill(task: &CurrentTask, tgid: Option<i32>, tid: i32, info: SigInfo) -> Result<u64> {
    if tid <= 0 || tgid.is_some_and(|t| t <= 0) {
        return Err(Errno::EINVAL);
    }
    let target = process::find_task(tid as u32).ok_or(Errno::ESRCH)?;
    if tgid.is_some_and(|t| t as u32 != target.pid()) {
        return Err(Errno::ESRCH);
    }
    let same = target.group.sid() == task.group.sid();
    if !may_signal(&task.cred(), &target.group, same, info.signal()) {
        return Err(Errno::EPERM);
    }
    if info.signo != 0 {
        signal::send_task(&target, info)?;
    }
    Ok(0)
}

/// tkill(2)
pub fn tkill(task: &CurrentTask, args: &Args) -> Result<u64> {
    let signal = check(args.i32(1))?;
    thread_kill(task, None, args.i32(0), info_of(task, signal, c::SI_TKILL))
}

/// tgkill(2)
pub fn tgkill(task: &CurrentTask, args: &Args) -> Result<u64> {
    let signal = check(args.i32(2))?;
    thread_kill(task, Some(args.i32(0)), args.i32(1), info_of(task, signal, c::SI_TKILL))
}

fn queued_info(task: &CurrentTask, at: u64, signal: u32, own: bool) -> Result<SigInfo> {
    let mut info: SigInfo = task.read_obj(at)?;
    info.signo = signal as i32;
    // Only the kernel and kill() say SI_USER and the like of another process.
    if (info.code >= 0 || info.code == c::SI_TKILL) && !own {
        return Err(Errno::EPERM);
    }
    Ok(info)
}

/// rt_sigqueueinfo(2)
pub fn rt_sigqueueinfo(task: &CurrentTask, args: &Args) -> Result<u64> {
    let signal = check(args.i32(1))?;
    let group = process::find_group(args.u32(0)).ok_or(Errno::ESRCH)?;
    let info = queued_info(task, args.u64(2), signal, Arc::ptr_eq(&group, &task.group))?;
    send(task, &group, info).map(|()| 0)
}

/// rt_tgsigqueueinfo(2)
pub fn rt_tgsigqueueinfo(task: &CurrentTask, args: &Args) -> Result<u64> {
    let signal = check(args.i32(2))?;
    let info = queued_info(task, args.u64(3), signal, args.u32(0) == task.pid())?;
    thread_kill(task, Some(args.i32(0)), args.i32(1), info)
}

/// rt_sigaction(2)
pub fn rt_sigaction(task: &CurrentTask, args: &Args) -> Result<u64> {
    check_set_size(args.u64(3))?;
    let signal = args.i32(0);
    if !(1..=COUNT as i32).contains(&signal) {
        return Err(Errno::EINVAL);
    }
    let signal = signal as u32;
    let new = if args.u64(1) == 0 { None } else { Some(task.read_obj::<SigAction>(args.u64(1))?) };
    let handlers = task.group.handlers();
    let old = match new {
        Some(_) if bit(signal) & UNBLOCKABLE != 0 => return Err(Errno::EINVAL),
        Some(mut action) => {
            action.mask &= !UNBLOCKABLE;
            let old = handlers.set(signal, action);
            // A signal that is ignored from now on is not pending any more.
            let default_ignored = action.handler == signal::SIG_DFL
                && signal::default_of(signal) == signal::DefaultAction::Ignore;
            if action.handler == SIG_IGN || default_ignored {
                task.group.discard(bit(signal));
            }
            old
        }
        None => handlers.get(signal),
    };
    if args.u64(2) != 0 {
        task.write_obj(args.u64(2), &old)?;
    }
    Ok(0)
}

/// rt_sigprocmask(2)
pub fn rt_sigprocmask(task: &CurrentTask, args: &Args) -> Result<u64> {
    check_set_size(args.u64(3))?;
    let set = if args.u64(1) == 0 { None } else { Some(task.read_obj::<u64>(args.u64(1))?) };
    let old = {
        let mut signals = task.signals.lock();
        let old = signals.blocked;
        if let Some(set) = set {
            let set = set & !UNBLOCKABLE;
            signals.blocked = match args.u32(0) {
                c::SIG_BLOCK => old | set,
                c::SIG_UNBLOCK => old & !set,
                c::SIG_SETMASK => set,
                _ => return Err(Errno::EINVAL),
            };
            if old & !signals.blocked != 0 {
                task.attention.store(true, Ordering::SeqCst);
            }
        }
        old
    };
    if args.u64(2) != 0 {
        task.write_obj(args.u64(2), &old)?;
    }
    Ok(0)
}

/// rt_sigpending(2)
pub fn rt_sigpending(task: &CurrentTask, args: &Args) -> Result<u64> {
    if args.u64(1) > 8 {
        return Err(Errno::EINVAL);
    }
    let set = {
        let signals = task.signals.lock();
        (signals.pending.set() | task.group.pending.lock().set()) & signals.blocked
    };
    task.write_bytes(args.u64(0), &set.to_le_bytes()[..args.u64(1) as usize])?;
    Ok(0)
}

/// rt_sigreturn(2)
pub fn rt_sigreturn(task: &CurrentTask, _: &Args) -> Result<u64> {
    deliver::sigreturn(task).inspect_err(|_| {
        signal::force(task.task(), SigInfo::kernel(c::SIGSEGV));
    })
}

/// rt_sigsuspend(2)
pub fn rt_sigsuspend(task: &CurrentTask, args: &Args) -> Result<u64> {
    check_set_size(args.u64(1))?;
    let mask: u64 = task.read_obj(args.u64(0))?;
    deliver::set_temporary_mask(task, mask);
    pause(task, args)
}

/// pause(2)
pub fn pause(task: &CurrentTask, _: &Args) -> Result<u64> {
    let never = || None::<()>;
    match wait::wait_until(&[(&task.group.signal_queue, Events::IN)], None, never) {
        Ok(()) => Ok(0),
        Err(_) => Err(Errno::RESTART_NO_HAND),
    }
}

/// sigaltstack(2)
pub fn sigaltstack(task: &CurrentTask, args: &Args) -> Result<u64> {
    let rsp = task.ctx().rsp;
    let new = if args.u64(0) == 0 { None } else { Some(task.read_obj::<AltStack>(args.u64(0))?) };
    let old = {
        let mut signals = task.signals.lock();
        let mut old = signals.alt_stack;
        let on_it = old.holds(rsp);
        if on_it {
            old.flags |= c::SS_ONSTACK as i32;
        }
        if let Some(new) = new {
            if on_it && signals.alt_stack.flags & i32::MIN == 0 {
                return Err(Errno::EPERM);
            }
            match new.flags & !i32::MIN {
                f if f == c::SS_DISABLE as i32 => signals.alt_stack = AltStack::default(),
                f if f == 0 || f == c::SS_ONSTACK as i32 => {
                    if new.size < u64::from(c::MINSIGSTKSZ) {
                        return Err(Errno::ENOMEM);
                    }
                    signals.alt_stack = AltStack { flags: new.flags & i32::MIN, ..new };
                }
                _ => return Err(Errno::EINVAL),
            }
        }
        old
    };
    if args.u64(1) != 0 {
        task.write_obj(args.u64(1), &old)?;
    }
    Ok(0)
}

/// rt_sigtimedwait(2)
pub fn rt_sigtimedwait(task: &CurrentTask, args: &Args) -> Result<u64> {
    check_set_size(args.u64(3))?;
    let set = task.read_obj::<u64>(args.u64(0))? & !UNBLOCKABLE;
    let deadline = match args.u64(2) {
        0 => None,
        at => Some(time::deadline_in(time::read_timespec(task, at)?)),
    };
    task.signals.lock().waiting = set;
    let result =
        wait::wait_until(&[(&task.group.signal_queue, Events::IN)], deadline, || task.take_signal(set));
    task.signals.lock().waiting = 0;
    let info = match result {
        Ok(info) => info,
        Err(WaitError::TimedOut) => return Err(Errno::EAGAIN),
        Err(WaitError::Interrupted) => match task.take_signal(set) {
            Some(info) => info,
            None => return Err(Errno::EINTR),
        },
    };
    if args.u64(1) != 0 {
        task.write_obj(args.u64(1), &info)?;
    }
    Ok(u64::from(info.signal()))
}

/// pidfd_send_signal(2)
pub fn pidfd_send_signal(task: &CurrentTask, args: &Args) -> Result<u64> {
    if args.u32(3) != 0 {
        return Err(Errno::EINVAL);
    }
    let signal = check(args.i32(1))?;
    let file = task.files().get(args.i32(0))?;
    let group = crate::fs::pidfd::target(&file)?;
    let info = match args.u64(2) {
        0 => info_of(task, signal, c::SI_USER as i32),
        at => queued_info(task, at, signal, Arc::ptr_eq(&group, &task.group))?,
    };
    send(task, &group, info).map(|()| 0)
}
