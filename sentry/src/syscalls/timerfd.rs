//! timerfd_create(2), timerfd_settime(2), timerfd_gettime(2).

use super::Args;
use crate::errno::{Errno, Result};
use crate::fs::timerfd::{self as fs, TimerFd};
use crate::kernel::task::CurrentTask;
use crate::time::NS;
use crate::vfs::uapi::{Itimerspec, Timespec};
use linux_raw_sys::general as c;

/// timerfd_create(2).
pub fn timerfd_create(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (clock, flags) = (args.u32(0), args.u32(1));
    if flags & !c::TFD_CREATE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    match clock {
        c::CLOCK_REALTIME
        | c::CLOCK_MONOTONIC
        | c::CLOCK_BOOTTIME
        | c::CLOCK_REALTIME_ALARM
        | c::CLOCK_BOOTTIME_ALARM => {}
        _ => return Err(Errno::EINVAL),
    }
    let file = fs::new(clock, flags & c::TFD_NONBLOCK);
    Ok(task.files().install(file, flags & c::TFD_CLOEXEC != 0, task.rlimit(c::RLIMIT_NOFILE).0)? as u64)
}

fn to_ns(t: &Timespec) -> Result<u64> {
    if t.sec < 0 || !(0..NS as i64).contains(&t.nsec) {
        return Err(Errno::EINVAL);
    }
    Ok((t.sec as u64).saturating_mul(NS).saturating_add(t.nsec as u64))
}

fn from_ns((left, interval): (u64, u64)) -> Itimerspec {
    let t = |ns: u64| Timespec { sec: (ns / NS) as i64, nsec: (ns % NS) as i64 };
    Itimerspec { interval: t(interval), value: t(left) }
}

/// timerfd_settime(2).
pub fn timerfd_settime(task: &CurrentTask, args: &Args) -> Result<u64> {
    let flags = args.u32(1);
    if flags & !(c::TFD_TIMER_ABSTIME | c::TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let new: Itimerspec = task.read_obj(args.u64(2))?;
    let (value, interval) = (to_ns(&new.value)?, to_ns(&new.interval)?);
    let file = task.files().get(args.i32(0))?;
    let timer = file.downcast::<TimerFd>().ok_or(Errno::EINVAL)?;
    let old = timer.set(value, interval, flags & c::TFD_TIMER_ABSTIME != 0);
    if args.u64(3) != 0 {
        task.write_obj(args.u64(3), &from_ns(old))?;
    }
    Ok(0)
}

/// timerfd_gettime(2).
pub fn timerfd_gettime(task: &CurrentTask, args: &Args) -> Result<u64> {
    let file = task.files().get(args.i32(0))?;
    let timer = file.downcast::<TimerFd>().ok_or(Errno::EINVAL)?;
    task.write_obj(args.u64(1), &from_ns(timer.get()))?;
    Ok(0)
}
