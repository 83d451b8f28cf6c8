//! Processes and threads: clone(2), execve(2), exit(2), ids, process groups, sessions.

use super::Args;
use crate::errno::{Errno, Result};
use crate::kernel::clone::{self, CloneArgs};
use crate::kernel::exit;
use crate::kernel::process::{self, Life, ThreadGroup};
use crate::kernel::task::CurrentTask;
use crate::loader::exec::{self, MAX_STRING, ProgramStrings};
use crate::vfs;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;

/// clone(2)
pub fn clone(task: &CurrentTask, args: &Args) -> Result<u64> {
    let flags = args.u64(0);
    clone::clone(
        task,
        &CloneArgs {
            flags: flags & !0xff & 0xffff_ffff,
            exit_signal: (flags & 0xff) as u32,
            stack: args.u64(1),
            parent_tid: args.u64(2),
            child_tid: args.u64(3),
            pidfd: args.u64(2),
            tls: args.u64(4),
        },
    )
}

/// clone3(2)
pub fn clone3(task: &CurrentTask, args: &Args) -> Result<u64> {
    const FIELDS: usize = 11;
    let size = args.u64(1) as usize;
    if size < 64 {
        return Err(Errno::EINVAL);
    }
    if size > abi::PAGE_SIZE as usize {
        return Err(Errno::E2BIG);
    }
    let mut raw = alloc::vec![0u8; size.max(FIELDS * 8)];
    task.read_bytes(args.u64(0), &mut raw[..size])?;
    if raw[FIELDS * 8..].iter().any(|b| *b != 0) {
        return Err(Errno::E2BIG);
    }
    let mut f = [0u64; FIELDS];
    for (value, bytes) in f.iter_mut().zip(raw.chunks_exact(8)) {
        *value = u64::from_le_bytes([
            bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
        ]);
    }
    let [
        flags,
        pidfd,
        child_tid,
        parent_tid,
        exit_signal,
        stack,
        stack_size,
        tls,
        set_tid,
        set_tid_size,
        _cgroup,
    ] = f;
    if flags & 0xff != 0 || flags & u64::from(c::CLONE_DETACHED) != 0 || exit_signal > 64 {
        return Err(Errno::EINVAL);
    }
    if (stack == 0) != (stack_size == 0) || (set_tid == 0) != (set_tid_size == 0) {
        return Err(Errno::EINVAL);
    }
    if set_tid != 0 {
        return Err(Errno::EPERM);
    }
    if flags & 0x2_0000_0000 != 0 {
        // CLONE_INTO_CGROUP: there is no cgroup2 of the guest to choose from.
        return Err(Errno::EBADF);
    }
    let thread = flags & u64::from(c::CLONE_THREAD | c::CLONE_PARENT) != 0;
    if thread && exit_signal != 0 {
        return Err(Errno::EINVAL);
    }
    let stack = stack.checked_add(stack_size).ok_or(Errno::EINVAL)?;
    clone::clone(
        task,
        &CloneArgs { flags, exit_signal: exit_signal as u32, stack, parent_tid, child_tid, pidfd, tls },
    )
}

/// fork(2)
pub fn fork(task: &CurrentTask, _: &Args) -> Result<u64> {
    clone::clone(task, &CloneArgs { exit_signal: c::SIGCHLD, ..CloneArgs::default() })
}

/// vfork(2)
pub fn vfork(task: &CurrentTask, _: &Args) -> Result<u64> {
    let flags = u64::from(c::CLONE_VFORK | c::CLONE_VM);
    clone::clone(task, &CloneArgs { flags, exit_signal: c::SIGCHLD, ..CloneArgs::default() })
}

/// Reads a NULL-terminated array of strings.
fn read_strings(task: &CurrentTask, at: u64, room: &mut usize) -> Result<Vec<Vec<u8>>> {
    let mut out = Vec::new();
    if at == 0 {
        return Ok(out);
    }
    let mut slot = at;
    loop {
        let pointer: u64 = task.read_obj(slot)?;
        if pointer == 0 {
            return Ok(out);
        }
        let text = task.read_cstr(pointer, MAX_STRING).map_err(|e| match e {
            Errno::ENAMETOOLONG => Errno::E2BIG,
            e => e,
        })?;
        *room = room.checked_sub(text.len() + 1 + 8).ok_or(Errno::E2BIG)?;
        out.push(text);
        slot = slot.checked_add(8).ok_or(Errno::EFAULT)?;
    }
}

fn do_exec(task: &CurrentTask, dirfd: i32, path: u64, argv: u64, envp: u64, flags: u32) -> Result<u64> {
    let path = task.read_cstr(path, c::PATH_MAX as usize)?;
    if path.is_empty() && flags & c::AT_EMPTY_PATH == 0 {
        return Err(Errno::ENOENT);
    }
    let file = vfs::exec::exec_open_at(task, dirfd, &path, flags)?;
    // A quarter of the stack's limit, at least 128 KiB and at most three quarters of 8 MiB: as Linux has it.
    let (stack, _) = task.rlimit(c::RLIMIT_STACK);
    let mut room = (stack / 4).clamp(128 << 10, 6 << 20) as usize;
    let mut args = read_strings(task, argv, &mut room)?;
    let env = read_strings(task, envp, &mut room)?;
    if args.is_empty() {
        args.push(Vec::new());
    }
    let name = if path.first() == Some(&b'/') || dirfd == c::AT_FDCWD {
        path
    } else {
        let mut name = alloc::format!("/dev/fd/{dirfd}").into_bytes();
        if !path.is_empty() {
            name.push(b'/');
            name.extend_from_slice(&path);
        }
        name
    };
    exec::exec(task, file, &name, ProgramStrings { args, env })?;
    Ok(0)
}

/// execve(2)
pub fn execve(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_exec(task, c::AT_FDCWD, args.u64(0), args.u64(1), args.u64(2), 0)
}

/// execveat(2)
pub fn execveat(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_exec(task, args.i32(0), args.u64(1), args.u64(2), args.u64(3), args.u32(4))
}

/// _exit(2)
pub fn exit(task: &CurrentTask, args: &Args) -> Result<u64> {
    exit::exit_task(task, (args.i32(0) & 0xff) << 8);
    Ok(0)
}

/// exit_group(2)
pub fn exit_group(task: &CurrentTask, args: &Args) -> Result<u64> {
    task.group.start_exit((args.i32(0) & 0xff) << 8);
    let status = task.group.exit_status();
    exit::exit_task(task, status);
    Ok(0)
}

/// getpid(2)
pub fn getpid(task: &CurrentTask, _: &Args) -> Result<u64> {
    Ok(u64::from(task.pid()))
}

/// gettid(2)
pub fn gettid(task: &CurrentTask, _: &Args) -> Result<u64> {
    Ok(u64::from(task.tid()))
}

/// getppid(2)
pub fn getppid(task: &CurrentTask, _: &Args) -> Result<u64> {
    Ok(u64::from(task.group.ppid()))
}

pub(super) fn group_of(task: &CurrentTask, pid: i32) -> Result<Arc<ThreadGroup>> {
    match pid {
        0 => Ok(task.group.clone()),
        p if p < 0 => Err(Errno::ESRCH),
        p => process::find_group(p as u32)
            .or_else(|| process::find_task(p as u32).map(|t| t.group.clone()))
            .ok_or(Errno::ESRCH),
    }
}

/// getpgid(2)
pub fn getpgid(task: &CurrentTask, args: &Args) -> Result<u64> {
    Ok(u64::from(group_of(task, args.i32(0))?.pgid()))
}

/// getpgrp(2)
pub fn getpgrp(task: &CurrentTask, _: &Args) -> Result<u64> {
    Ok(u64::from(task.group.pgid()))
}

/// getsid(2)
pub fn getsid(task: &CurrentTask, args: &Args) -> Result<u64> {
    Ok(u64::from(group_of(task, args.i32(0))?.sid()))
}

/// setpgid(2)
pub fn setpgid(task: &CurrentTask, args: &Args) -> Result<u64> {
    let pgid = args.i32(1);
    if pgid < 0 {
        return Err(Errno::EINVAL);
    }
    let pid = args.i32(0);
    let target =
        if pid == 0 { task.group.clone() } else { process::find_group(pid as u32).ok_or(Errno::ESRCH)? };
    let own = Arc::ptr_eq(&target, &task.group);
    if !own {
        if !target.parent().is_some_and(|p| Arc::ptr_eq(&p, &task.group)) {
            return Err(Errno::ESRCH);
        }
        if target.sid() != task.group.sid() {
            return Err(Errno::EPERM);
        }
        if target.executed.load(Ordering::Relaxed) {
            return Err(Errno::EACCES);
        }
    }
    if target.sid() == target.pid {
        return Err(Errno::EPERM);
    }
    let pgid = if pgid == 0 { target.pid } else { pgid as u32 };
    if pgid != target.pid && !process::group_in_session(pgid, task.group.sid()) {
        return Err(Errno::EPERM);
    }
    target.set_pgid(pgid);
    Ok(0)
}

/// setsid(2)
pub fn setsid(task: &CurrentTask, _: &Args) -> Result<u64> {
    let group = &task.group;
    let leads = process::all_groups().iter().any(|g| g.pgid() == group.pid && g.life() != Life::Gone);
    if leads {
        return Err(Errno::EPERM);
    }
    group.set_sid();
    Ok(u64::from(group.pid))
}

/// set_tid_address(2)
pub fn set_tid_address(task: &CurrentTask, args: &Args) -> Result<u64> {
    task.clear_tid.store(args.u64(0), Ordering::Relaxed);
    Ok(u64::from(task.tid()))
}

/// pidfd_open(2)
pub fn pidfd_open(task: &CurrentTask, args: &Args) -> Result<u64> {
    let flags = args.u32(1);
    if args.i32(0) <= 0 || flags & !c::O_NONBLOCK != 0 {
        return Err(Errno::EINVAL);
    }
    let group = match process::find_group(args.u32(0)) {
        Some(group) => group,
        // A thread that does not lead its group has an id but no pidfd.
        None if process::find_task(args.u32(0)).is_some() => return Err(Errno::ENOENT),
        None => return Err(Errno::ESRCH),
    };
    Ok(crate::fs::pidfd::install(task, &group, flags != 0)? as u64)
}
