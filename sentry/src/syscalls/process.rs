//! Processes and threads: clone(2), execve(2), exit(2), wait4(2), ids, process groups, sessions, prctl(2).

use super::Args;
use crate::errno::{Errno, Result};
use crate::kernel::clone::{self, CloneArgs};
use crate::kernel::cred::cap;
use crate::kernel::exit::{self, Found, Which};
use crate::kernel::process::{self, Life, RLIMITS, ThreadGroup, Usage};
use crate::kernel::signal::SigInfo;
use crate::kernel::task::CurrentTask;
use crate::loader::exec::{self, MAX_STRING, ProgramStrings};
use crate::vfs;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;
use linux_raw_sys::prctl as p;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

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

/// struct rusage of getrusage(2).
#[repr(C)]
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct RUsage {
    utime: [i64; 2],
    stime: [i64; 2],
    maxrss: i64,
    ixrss: i64,
    idrss: i64,
    isrss: i64,
    minflt: i64,
    majflt: i64,
    nswap: i64,
    inblock: i64,
    oublock: i64,
    msgsnd: i64,
    msgrcv: i64,
    nsignals: i64,
    nvcsw: i64,
    nivcsw: i64,
}

fn rusage(usage: &Usage) -> RUsage {
    let time = |ns: u64| [(ns / 1_000_000_000) as i64, (ns % 1_000_000_000 / 1000) as i64];
    RUsage {
        utime: time(usage.user_ns),
        stime: time(usage.system_ns),
        maxrss: (usage.max_rss / 1024) as i64,
        minflt: usage.faults as i64,
        nvcsw: usage.voluntary as i64,
        nivcsw: usage.involuntary as i64,
        ..RUsage::default()
    }
}

/// wait4(2)
pub fn wait4(task: &CurrentTask, args: &Args) -> Result<u64> {
    let pid = args.i32(0);
    let options = args.u32(2);
    let known = c::WNOHANG | c::WUNTRACED | c::WCONTINUED | c::__WNOTHREAD | c::__WCLONE | c::__WALL;
    if options & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let which = match pid {
        i32::MIN => return Err(Errno::ESRCH),
        -1 => Which::Any,
        0 => Which::Group(task.group.pgid()),
        p if p < 0 => Which::Group(p.unsigned_abs()),
        p => Which::Pid(p as u32),
    };
    let Some(found) = exit::wait_child(task, which, options | c::WEXITED)? else { return Ok(0) };
    if args.u64(1) != 0 {
        task.write_obj(args.u64(1), &found.status)?;
    }
    if args.u64(3) != 0 {
        task.write_obj(args.u64(3), &rusage(&found.usage))?;
    }
    Ok(u64::from(found.pid))
}

/// waitid(2)
pub fn waitid(task: &CurrentTask, args: &Args) -> Result<u64> {
    let id = args.i32(1);
    let options = args.u32(3);
    let known = c::WNOHANG
        | c::WNOWAIT
        | c::WEXITED
        | c::WSTOPPED
        | c::WCONTINUED
        | c::__WNOTHREAD
        | c::__WCLONE
        | c::__WALL;
    if options & !known != 0 || options & (c::WEXITED | c::WSTOPPED | c::WCONTINUED) == 0 {
        return Err(Errno::EINVAL);
    }
    let which = match args.u32(0) {
        c::P_ALL => Which::Any,
        c::P_PID if id > 0 => Which::Pid(id as u32),
        c::P_PGID if id >= 0 => Which::Group(if id == 0 { task.group.pgid() } else { id as u32 }),
        c::P_PIDFD if id >= 0 => {
            let file = task.files().get(id)?;
            Which::Pid(crate::fs::pidfd::process_of(&file).ok_or(Errno::EBADF)?.pid)
        }
        _ => return Err(Errno::EINVAL),
    };
    let found = exit::wait_child(task, which, options)?;
    let info_at = args.u64(2);
    if let Some(Found { pid, uid, status, usage }) = &found {
        if info_at != 0 {
            let (code, value) = match *status {
                0xffff => (c::CLD_CONTINUED, c::SIGCONT as i32),
                s if s & 0xff == 0x7f => (c::CLD_STOPPED, s >> 8),
                s if s & 0x7f == 0 => (c::CLD_EXITED, s >> 8 & 0xff),
                s if s & 0x80 != 0 => (c::CLD_DUMPED, s & 0x7f),
                s => (c::CLD_KILLED, s & 0x7f),
            };
            task.write_obj(info_at, &SigInfo::child(code as i32, *pid, *uid, value, 0, 0))?;
        }
        if args.u64(4) != 0 {
            task.write_obj(args.u64(4), &rusage(usage))?;
        }
    } else if info_at != 0 {
        let mut info = SigInfo::child(0, 0, 0, 0, 0, 0);
        info.signo = 0;
        task.write_obj(info_at, &info)?;
    }
    Ok(0)
}

/// getrusage(2)
pub fn getrusage(task: &CurrentTask, args: &Args) -> Result<u64> {
    let peak = task.mm_ref().resident() * abi::PAGE_SIZE;
    let mut usage = match args.i32(0) {
        0 => task.group.usage(),
        1 => task.usage(),
        -1 => *task.group.children_usage.lock(),
        _ => return Err(Errno::EINVAL),
    };
    if args.i32(0) >= 0 {
        usage.max_rss = usage.max_rss.max(peak);
        usage.faults = task.mm_ref().faults.load(Ordering::Relaxed);
    }
    task.write_obj(args.u64(1), &rusage(&usage))?;
    Ok(0)
}

/// times(2)
pub fn times(task: &CurrentTask, args: &Args) -> Result<u64> {
    let ticks = |ns: u64| (ns / 10_000_000) as i64;
    if args.u64(0) != 0 {
        let own = task.group.usage();
        let children = *task.group.children_usage.lock();
        let out =
            [ticks(own.user_ns), ticks(own.system_ns), ticks(children.user_ns), ticks(children.system_ns)];
        task.write_obj(args.u64(0), &out)?;
    }
    Ok(crate::time::boottime_ns() / 10_000_000)
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

fn group_of(task: &CurrentTask, pid: i32) -> Result<Arc<ThreadGroup>> {
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

/// getrlimit(2), setrlimit(2) and prlimit64(2) all end here.
fn limit(task: &CurrentTask, pid: i32, resource: u32, new: Option<[u64; 2]>) -> Result<[u64; 2]> {
    if resource as usize >= RLIMITS {
        return Err(Errno::EINVAL);
    }
    let group = group_of(task, pid)?;
    let cred = task.cred();
    if !Arc::ptr_eq(&group, &task.group) {
        let other = group.leader().ok_or(Errno::ESRCH)?.cred();
        let same = cred.uid == other.euid
            && cred.uid == other.suid
            && cred.uid == other.uid
            && cred.gid == other.egid;
        if !same && !cred.has(cap::SYS_RESOURCE) {
            return Err(Errno::EPERM);
        }
    }
    let mut limits = group.limits.lock();
    let old = limits[resource as usize];
    if let Some([soft, hard]) = new {
        if soft > hard {
            return Err(Errno::EINVAL);
        }
        if hard > old.1 && !cred.has(cap::SYS_RESOURCE) {
            return Err(Errno::EPERM);
        }
        if resource == c::RLIMIT_NOFILE && hard > 1_048_576 {
            return Err(Errno::EPERM);
        }
        limits[resource as usize] = (soft, hard);
        drop(limits);
        if resource == c::RLIMIT_STACK
            && let Some(mm) = group.leader().and_then(|t| t.try_mm().ok())
        {
            mm.stack_limit.store(soft, Ordering::Relaxed);
        }
    }
    Ok([old.0, old.1])
}

/// getrlimit(2)
pub fn getrlimit(task: &CurrentTask, args: &Args) -> Result<u64> {
    let old = limit(task, 0, args.u32(0), None)?;
    task.write_obj(args.u64(1), &old)?;
    Ok(0)
}

/// setrlimit(2)
pub fn setrlimit(task: &CurrentTask, args: &Args) -> Result<u64> {
    let new: [u64; 2] = task.read_obj(args.u64(1))?;
    limit(task, 0, args.u32(0), Some(new))?;
    Ok(0)
}

/// prlimit64(2)
pub fn prlimit64(task: &CurrentTask, args: &Args) -> Result<u64> {
    let new = if args.u64(2) == 0 { None } else { Some(task.read_obj::<[u64; 2]>(args.u64(2))?) };
    let old = limit(task, args.i32(0), args.u32(1), new)?;
    if args.u64(3) != 0 {
        task.write_obj(args.u64(3), &old)?;
    }
    Ok(0)
}

/// arch_prctl(2)
pub fn arch_prctl(task: &CurrentTask, args: &Args) -> Result<u64> {
    const ARCH_SET_GS: u32 = 0x1001;
    const ARCH_SET_FS: u32 = 0x1002;
    const ARCH_GET_FS: u32 = 0x1003;
    const ARCH_GET_GS: u32 = 0x1004;
    let value = args.u64(1);
    match args.u32(0) {
        ARCH_SET_FS | ARCH_SET_GS if value >= task.mm_ref().user_top => Err(Errno::EPERM),
        ARCH_SET_FS => {
            task.bases.set_running_fs(value);
            Ok(0)
        }
        ARCH_SET_GS => {
            task.bases.set_running_gs(value);
            Ok(0)
        }
        ARCH_GET_FS => task.write_obj(value, &task.bases.running_fs()).map(|()| 0),
        ARCH_GET_GS => task.write_obj(value, &task.bases.running_gs()).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

/// prctl(2)
pub fn prctl(task: &CurrentTask, args: &Args) -> Result<u64> {
    let arg = args.u64(1);
    match args.u32(0) {
        p::PR_SET_PDEATHSIG => {
            if arg > 64 {
                return Err(Errno::EINVAL);
            }
            task.death_signal.store(arg as u32, Ordering::Relaxed);
            Ok(0)
        }
        p::PR_GET_PDEATHSIG => {
            task.write_obj(arg, &(task.death_signal.load(Ordering::Relaxed) as i32))?;
            Ok(0)
        }
        p::PR_GET_DUMPABLE => Ok(u64::from(task.group.dumpable.load(Ordering::Relaxed))),
        p::PR_SET_DUMPABLE => {
            if arg > 1 {
                return Err(Errno::EINVAL);
            }
            task.group.dumpable.store(arg as u32, Ordering::Relaxed);
            Ok(0)
        }
        p::PR_SET_NAME => {
            let mut name = [0; 16];
            let n = task.mm_ref().read_some(arg, &mut name);
            let end = name[..n].iter().position(|b| *b == 0).unwrap_or(n);
            if n == 0 {
                return Err(Errno::EFAULT);
            }
            task.set_comm(&name[..end]);
            Ok(0)
        }
        p::PR_GET_NAME => {
            task.write_bytes(arg, &task.comm())?;
            Ok(0)
        }
        p::PR_GET_KEEPCAPS => Ok(u64::from(task.cred().securebits >> 4 & 1)),
        p::PR_SET_KEEPCAPS => {
            if arg > 1 {
                return Err(Errno::EINVAL);
            }
            let mut cred = (*task.cred()).clone();
            cred.securebits = cred.securebits & !(1 << 4) | (arg as u32) << 4;
            task.set_cred(cred);
            Ok(0)
        }
        p::PR_GET_SECUREBITS => Ok(u64::from(task.cred().securebits)),
        p::PR_SET_SECUREBITS => {
            let mut cred = (*task.cred()).clone();
            if !cred.has(cap::SETPCAP) {
                return Err(Errno::EPERM);
            }
            cred.securebits = arg as u32 & 0xff;
            task.set_cred(cred);
            Ok(0)
        }
        p::PR_CAPBSET_READ if arg <= u64::from(cap::LAST) => Ok(task.cred().bounding >> arg & 1),
        p::PR_CAPBSET_DROP if arg <= u64::from(cap::LAST) => {
            let mut cred = (*task.cred()).clone();
            if !cred.has(cap::SETPCAP) {
                return Err(Errno::EPERM);
            }
            cred.bounding &= !(1 << arg);
            task.set_cred(cred);
            Ok(0)
        }
        p::PR_SET_NO_NEW_PRIVS => {
            if arg != 1 || args.u64(2) | args.u64(3) | args.u64(4) != 0 {
                return Err(Errno::EINVAL);
            }
            let mut cred = (*task.cred()).clone();
            cred.no_new_privs = true;
            task.set_cred(cred);
            Ok(0)
        }
        p::PR_GET_NO_NEW_PRIVS => Ok(u64::from(task.cred().no_new_privs)),
        p::PR_SET_CHILD_SUBREAPER => {
            task.group.subreaper.store(arg != 0, Ordering::Relaxed);
            Ok(0)
        }
        p::PR_GET_CHILD_SUBREAPER => {
            task.write_obj(arg, &i32::from(task.group.subreaper.load(Ordering::Relaxed)))?;
            Ok(0)
        }
        p::PR_SET_TIMERSLACK => {
            let slack = if arg == 0 { 50_000 } else { arg };
            task.timer_slack.store(slack, Ordering::Relaxed);
            Ok(0)
        }
        p::PR_GET_TIMERSLACK => Ok(task.timer_slack.load(Ordering::Relaxed)),
        p::PR_CAP_AMBIENT => cap_ambient(task, args),
        p::PR_GET_SECCOMP => Ok(0),
        p::PR_SET_THP_DISABLE | p::PR_SET_VMA => Ok(0),
        p::PR_GET_THP_DISABLE => Ok(0),
        p::PR_GET_TID_ADDRESS => task.write_obj(arg, &task.clear_tid.load(Ordering::Relaxed)).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

fn cap_ambient(task: &CurrentTask, args: &Args) -> Result<u64> {
    let mut cred = (*task.cred()).clone();
    let number = args.u64(2);
    match args.u32(1) {
        p::PR_CAP_AMBIENT_CLEAR_ALL if number == 0 => cred.ambient = 0,
        p::PR_CAP_AMBIENT_IS_SET if number <= u64::from(cap::LAST) => return Ok(cred.ambient >> number & 1),
        p::PR_CAP_AMBIENT_RAISE if number <= u64::from(cap::LAST) => {
            if cred.permitted & cred.inheritable & (1 << number) == 0 {
                return Err(Errno::EPERM);
            }
            cred.ambient |= 1 << number;
        }
        p::PR_CAP_AMBIENT_LOWER if number <= u64::from(cap::LAST) => cred.ambient &= !(1 << number),
        _ => return Err(Errno::EINVAL),
    }
    task.set_cred(cred);
    Ok(0)
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
