//! The end of tasks and processes: _exit(2), exit_group(2), wait4(2), waitid(2).

use super::futex;
use super::process::{self, Life, ThreadGroup, Usage};
use super::ptrace;
use super::signal::{self, SigInfo};
use super::task::CurrentTask;
use super::wait::{self};
use crate::errno::{Errno, Result};
use crate::sync::Events;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;
use linux_raw_sys::ptrace::PTRACE_EVENT_EXIT;

/// Ends the running task. `status`: wait status that counts where it is its process's last.
pub fn exit_task(current: &CurrentTask, status: i32) {
    if current.ended.replace(true) {
        return;
    }
    if status & 0x7f != c::SIGKILL as i32 {
        ptrace::event(current, PTRACE_EVENT_EXIT, u64::from(status as u32));
    }
    let group = current.group.clone();
    group.set_exit_status(status);
    release_memory(current);
    current.leave_undo_list();
    current.set_files(None);
    current.set_fs(None);
    let tid = current.tid();
    group.ended.lock().add(&current.usage());
    let last = group.remove_task(tid);
    if ptrace::traced_at_end(current) {
        let executes = group.exec_by.load(Ordering::SeqCst) != 0;
        if tid == group.pid && !last && !executes {
            *group.traced_leader.lock() = current.arc();
        } else {
            let status = if tid == group.pid { group.exit_status() } else { status };
            ptrace::ended(current.task(), status, tid == group.pid && !last);
        }
    }
    if tid != group.pid {
        process::forget_task(tid);
    }
    if last {
        let leader = group.traced_leader.lock().take();
        if let Some(leader) = leader {
            ptrace::ended(&leader, group.exit_status(), false);
        }
        ptrace::tracer_ended(&group);
        group.clear_timers(true);
        if group.sid() == group.pid {
            crate::fs::tty::session_ended(group.sid());
        }
        if group.is_init() {
            kill_everyone(&group);
        }
        group.become_zombie();
    }
}

/// Robust futexes, clear_child_tid, and the address space itself.
pub fn release_memory(current: &CurrentTask) {
    let mm = current.mm();
    futex::exit_robust_list(current);
    let clear = current.clear_tid.swap(0, Ordering::Relaxed);
    if clear != 0 && mm.write_bytes(clear, &0u32.to_le_bytes()).is_ok() {
        let _ = futex::wake(&mm, clear, 1, futex::MATCH_ANY, false);
    }
    current.set_mm(None);
    current.finish_vfork();
}

/// Init has ended: every other process of the container is killed, and waited for. None is added meanwhile: one that
/// is being made is among those that are killed, or gets no task.
fn kill_everyone(init: &Arc<ThreadGroup>) {
    process::close();
    let others =
        || process::all_groups().into_iter().filter(|g| !Arc::ptr_eq(g, init) && g.life() == Life::Alive);
    for group in others() {
        // The signal too: it ends stops for a tracer.
        let _ = signal::send_group(&group, SigInfo::kernel(c::SIGKILL));
        group.start_exit(c::SIGKILL as i32);
    }
    wait::wait_uninterruptible(&init.child_queue, || {
        for child in init.children() {
            child.reap();
        }
        others().next().is_none().then_some(())
    });
}

/// Which children a wait is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Any.
    Any,
    /// The one with this id.
    Pid(u32),
    /// Those of a process group.
    Group(u32),
}

/// What a wait found.
pub struct Found {
    /// The child.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Wait status.
    pub status: i32,
    /// What it used.
    pub usage: Usage,
}

/// A change of a task that the process traces. `any`: whether there is one that fits.
fn traced(group: &Arc<ThreadGroup>, which: Which, options: u32, any: &mut bool) -> Option<Found> {
    let keep = options & c::WNOWAIT != 0;
    let tasks: Vec<_> = group.tracees.lock().list.iter().map(|t| (t.task.clone(), t.dead)).collect();
    for (task, dead) in tasks {
        let fits = match which {
            Which::Any => true,
            Which::Pid(pid) => task.tid() == pid,
            Which::Group(pgid) => task.group.pgid() == pgid,
        };
        if !fits {
            continue;
        }
        *any = true;
        let found = |status| Found { pid: task.tid(), uid: task.cred().uid, status, usage: task.usage() };
        let Some(status) = dead else {
            let report = task.trace.lock().as_mut().and_then(|t| t.take_report(!keep));
            match report {
                Some(status) => return Some(found(status)),
                None => continue,
            }
        };
        if options & c::WEXITED == 0 {
            continue;
        }
        if !keep {
            let gone = group.tracees.lock().list.extract_if(.., |t| Arc::ptr_eq(&t.task, &task)).next();
            if gone.is_none() {
                continue;
            }
            if task.tid() == task.group.pid {
                task.group.let_reap();
            }
        }
        return Some(found(status));
    }
    None
}

/// Waits for a child's change as wait4(2) does with these W* options. `None`: WNOHANG, and nothing has changed.
///
/// # Errors
/// ECHILD, RESTART_SYS.
pub fn wait_child(current: &CurrentTask, which: Which, options: u32) -> Result<Option<Found>> {
    let group = current.group.clone();
    let look = || -> Option<Result<Option<Found>>> {
        let mut any = false;
        let keep = options & c::WNOWAIT != 0;
        if let Some(found) = traced(&group, which, options, &mut any) {
            return Some(Ok(Some(found)));
        }
        for child in group.children() {
            let fits = match which {
                Which::Any => true,
                Which::Pid(pid) => child.pid == pid,
                Which::Group(pgid) => child.pgid() == pgid,
            };
            let clone = child.exit_signal.load(Ordering::Relaxed) != c::SIGCHLD;
            if !fits || (options & c::__WALL == 0 && clone != (options & c::__WCLONE != 0)) {
                continue;
            }
            any = true;
            if options & c::WEXITED != 0
                && !child.is_held()
                && let Life::Zombie(status) = child.life()
            {
                let usage = child.usage();
                if keep || child.reap() {
                    return Some(Ok(Some(Found { pid: child.pid, uid: 0, status, usage })));
                }
                continue;
            }
            let own =
                child.leader().is_some_and(|t| t.trace.lock().as_ref().is_some_and(|t| t.is_by(&group)));
            if child.life() == Life::Alive
                && !own
                && let Some(status) =
                    child.take_report(options & c::WUNTRACED != 0, options & c::WCONTINUED != 0, !keep)
            {
                let uid = child.leader().map_or(0, |t| t.cred().uid);
                return Some(Ok(Some(Found { pid: child.pid, uid, status, usage: child.usage() })));
            }
        }
        if !any {
            return Some(Err(Errno::ECHILD));
        }
        (options & c::WNOHANG != 0).then_some(Ok(None))
    };
    wait::wait_until(&[(&group.child_queue, Events::IN)], None, look)?
}
