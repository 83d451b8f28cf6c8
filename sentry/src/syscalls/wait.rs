//! Waiting for children and what they used: wait4(2), waitid(2), getrusage(2), times(2).

use super::Args;
use crate::errno::{Errno, Result};
use crate::kernel::exit::{self, Found, Which};
use crate::kernel::process::Usage;
use crate::kernel::signal::SigInfo;
use crate::kernel::task::CurrentTask;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

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
