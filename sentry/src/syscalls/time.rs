//! Clocks and timers: clock_gettime(2), nanosleep(2), setitimer(2), timer_create(2).

use super::Args;
use crate::errno::{Errno, Result};
use crate::kernel::cputime::CpuClock;
use crate::kernel::itimer::{IntervalTimer, Notify, Source};
use crate::kernel::process;
use crate::kernel::task::CurrentTask;
use crate::kernel::wait::{self, WaitError};
use crate::sync::WaitQueue;
use crate::time::{self, NS};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;

/// Reads a struct timespec as nanoseconds.
///
/// # Errors
/// EFAULT; EINVAL where it is negative or not normalised.
pub fn read_timespec(task: &CurrentTask, at: u64) -> Result<u64> {
    let [seconds, ns]: [i64; 2] = task.read_obj(at)?;
    if seconds < 0 || !(0..NS as i64).contains(&ns) {
        return Err(Errno::EINVAL);
    }
    Ok((seconds as u64).saturating_mul(NS).saturating_add(ns as u64))
}

/// Writes nanoseconds as a struct timespec.
///
/// # Errors
/// EFAULT.
pub fn write_timespec(task: &CurrentTask, at: u64, ns: u64) -> Result<()> {
    task.write_obj(at, &[(ns / NS) as i64, (ns % NS) as i64])
}

/// The CLOCK_MONOTONIC time in `ns` nanoseconds.
pub fn deadline_in(ns: u64) -> u64 {
    time::monotonic_ns().saturating_add(ns)
}

/// The CLOCK_MONOTONIC time at which CLOCK_REALTIME is `ns`.
pub fn monotonic_of_realtime(ns: u64) -> u64 {
    time::monotonic_ns().saturating_add(ns.saturating_sub(time::realtime_ns()))
}

fn read_clock(task: &CurrentTask, clock: i32) -> Result<u64> {
    Ok(match clock as u32 {
        c::CLOCK_REALTIME | c::CLOCK_REALTIME_COARSE | c::CLOCK_TAI => time::realtime_ns(),
        c::CLOCK_MONOTONIC | c::CLOCK_MONOTONIC_RAW | c::CLOCK_MONOTONIC_COARSE => time::monotonic_ns(),
        c::CLOCK_BOOTTIME | c::CLOCK_BOOTTIME_ALARM => time::boottime_ns(),
        c::CLOCK_REALTIME_ALARM => time::realtime_ns(),
        _ => return cpu_clock(task, clock)?.now().ok_or(Errno::EINVAL),
    })
}

/// A clock of CPU time by its number: the caller's own, or another's as clock_getcpuclockid(3) makes it.
fn cpu_clock(task: &CurrentTask, clock: i32) -> Result<CpuClock> {
    let own_process = || CpuClock::Process(Arc::downgrade(&task.group));
    let own_thread = || CpuClock::Thread(Arc::downgrade(task.task()));
    match clock {
        _ if clock == c::CLOCK_PROCESS_CPUTIME_ID as i32 => Ok(own_process()),
        _ if clock == c::CLOCK_THREAD_CPUTIME_ID as i32 => Ok(own_thread()),
        _ if clock >= 0 || clock & 3 == 3 => Err(Errno::EINVAL),
        _ => match (!(clock >> 3) as u32, clock & 4 != 0) {
            (0, true) => Ok(own_thread()),
            (0, false) => Ok(own_process()),
            // Of tasks, only those of the caller's process.
            (id, true) => {
                let target = process::find_task(id).filter(|t| Arc::ptr_eq(&t.group, &task.group));
                Ok(CpuClock::Thread(Arc::downgrade(&target.ok_or(Errno::EINVAL)?)))
            }
            (id, false) => {
                Ok(CpuClock::Process(Arc::downgrade(&process::find_group(id).ok_or(Errno::EINVAL)?)))
            }
        },
    }
}

/// Sleeps until a clock of CPU time shows `at`.
fn cpu_sleep(clock: &CpuClock, at: u64) -> Result<(), WaitError> {
    let nobody = WaitQueue::new();
    let alarm = clock.alarm(at, crate::kernel::sched::current_waker());
    let due = || clock.now().is_none_or(|now| now >= at).then_some(());
    let result = wait::wait_until(&[(&nobody, crate::sync::Events::IN)], None, due);
    if let Some(alarm) = alarm {
        clock.cancel(alarm);
    }
    result
}

/// clock_nanosleep(2) on a clock of CPU time.
fn cpu_nanosleep(task: &CurrentTask, args: &Args) -> Result<u64> {
    let number = args.i32(0);
    // Clocks that can be read only.
    let unslept = [
        c::CLOCK_THREAD_CPUTIME_ID,
        c::CLOCK_MONOTONIC_RAW,
        c::CLOCK_MONOTONIC_COARSE,
        c::CLOCK_REALTIME_COARSE,
    ];
    if unslept.contains(&args.u32(0)) {
        return Err(Errno::EOPNOTSUPP);
    }
    let clock = cpu_clock(task, number)?;
    // It would never come.
    if let CpuClock::Thread(thread) = &clock
        && thread.as_ptr() == Arc::as_ptr(task.task())
    {
        return Err(Errno::EINVAL);
    }
    let ns = read_timespec(task, args.u64(2))?;
    if args.u32(1) & c::TIMER_ABSTIME != 0 {
        return cpu_sleep(&clock, ns).map(|()| 0).map_err(|_| Errno::RESTART_NO_HAND);
    }
    relative_cpu_sleep(task, number, &clock, clock.now().unwrap_or(0).saturating_add(ns), args.u64(3))
}

fn relative_cpu_sleep(
    task: &CurrentTask,
    number: i32,
    clock: &CpuClock,
    at: u64,
    left_at: u64,
) -> Result<u64> {
    if cpu_sleep(clock, at).is_ok() {
        return Ok(0);
    }
    if left_at != 0 {
        write_timespec(task, left_at, at.saturating_sub(clock.now().unwrap_or(at)))?;
    }
    task.restart_sleep.store(at, Ordering::Relaxed);
    task.restart_left.store(left_at, Ordering::Relaxed);
    task.restart_clock.store(number, Ordering::Relaxed);
    Err(Errno::RESTART_BLOCK)
}

/// clock_gettime(2)
pub fn clock_gettime(task: &CurrentTask, args: &Args) -> Result<u64> {
    let now = read_clock(task, args.i32(0))?;
    write_timespec(task, args.u64(1), now)?;
    Ok(0)
}

/// clock_getres(2)
pub fn clock_getres(task: &CurrentTask, args: &Args) -> Result<u64> {
    read_clock(task, args.i32(0))?;
    let coarse = matches!(args.u32(0), c::CLOCK_REALTIME_COARSE | c::CLOCK_MONOTONIC_COARSE);
    if args.u64(1) != 0 {
        write_timespec(task, args.u64(1), if coarse { 4_000_000 } else { 1 })?;
    }
    Ok(0)
}

/// clock_settime(2), settimeofday(2), adjtimex(2): the clock is the host's.
pub fn clock_settime(_: &CurrentTask, _: &Args) -> Result<u64> {
    Err(Errno::EPERM)
}

/// gettimeofday(2)
pub fn gettimeofday(task: &CurrentTask, args: &Args) -> Result<u64> {
    let now = time::realtime_ns();
    if args.u64(0) != 0 {
        task.write_obj(args.u64(0), &[(now / NS) as i64, (now % NS / 1000) as i64])?;
    }
    if args.u64(1) != 0 {
        task.write_obj(args.u64(1), &[0i32; 2])?;
    }
    Ok(0)
}

/// time(2)
pub fn time(task: &CurrentTask, args: &Args) -> Result<u64> {
    let now = time::realtime_ns() / NS;
    if args.u64(0) != 0 {
        task.write_obj(args.u64(0), &now)?;
    }
    Ok(now)
}

/// Sleeps until a CLOCK_MONOTONIC time.
fn sleep_until(deadline: u64) -> Result<(), WaitError> {
    let nobody = WaitQueue::new();
    match wait::wait_until(&[(&nobody, crate::sync::Events::IN)], Some(deadline), || None::<()>) {
        Ok(()) | Err(WaitError::TimedOut) => Ok(()),
        Err(e) => Err(e),
    }
}

/// nanosleep(2)
pub fn nanosleep(task: &CurrentTask, args: &Args) -> Result<u64> {
    let deadline = deadline_in(read_timespec(task, args.u64(0))?);
    relative_sleep(task, deadline, args.u64(1))
}

fn relative_sleep(task: &CurrentTask, deadline: u64, left_at: u64) -> Result<u64> {
    match sleep_until(deadline) {
        Ok(()) => Ok(0),
        Err(_) => {
            if left_at != 0 {
                write_timespec(task, left_at, deadline.saturating_sub(time::monotonic_ns()))?;
            }
            task.restart_sleep.store(deadline, Ordering::Relaxed);
            task.restart_left.store(left_at, Ordering::Relaxed);
            task.restart_clock.store(0, Ordering::Relaxed);
            Err(Errno::RESTART_BLOCK)
        }
    }
}

/// restart_syscall(2): a sleep that a stop interrupted goes on to its old deadline.
pub fn restart_syscall(task: &CurrentTask, _: &Args) -> Result<u64> {
    let deadline = task.restart_sleep.load(Ordering::Relaxed);
    if deadline == 0 {
        return Err(Errno::EINTR);
    }
    let (clock, left) =
        (task.restart_clock.load(Ordering::Relaxed), task.restart_left.load(Ordering::Relaxed));
    if clock != 0 {
        return relative_cpu_sleep(task, clock, &cpu_clock(task, clock)?, deadline, left);
    }
    relative_sleep(task, deadline, left)
}

/// clock_nanosleep(2)
pub fn clock_nanosleep(task: &CurrentTask, args: &Args) -> Result<u64> {
    let clock = args.u32(0);
    if !matches!(clock, c::CLOCK_REALTIME | c::CLOCK_MONOTONIC | c::CLOCK_BOOTTIME | c::CLOCK_TAI) {
        return cpu_nanosleep(task, args);
    }
    let ns = read_timespec(task, args.u64(2))?;
    if args.u32(1) & c::TIMER_ABSTIME == 0 {
        return relative_sleep(task, deadline_in(ns), args.u64(3));
    }
    let now = read_clock(task, args.i32(0))?;
    let deadline = deadline_in(ns.saturating_sub(now));
    sleep_until(deadline).map(|()| 0).map_err(|_| Errno::RESTART_NO_HAND)
}

fn read_itimer(task: &CurrentTask, at: u64) -> Result<(u64, u64)> {
    let [interval_s, interval_us, s, us]: [i64; 4] = task.read_obj(at)?;
    let ok = |s: i64, us: i64| s >= 0 && (0..1_000_000).contains(&us);
    if !ok(interval_s, interval_us) || !ok(s, us) {
        return Err(Errno::EINVAL);
    }
    let ns = |s: i64, us: i64| (s as u64).saturating_mul(NS).saturating_add(us as u64 * 1000);
    Ok((ns(s, us), ns(interval_s, interval_us)))
}

fn write_itimer(task: &CurrentTask, at: u64, (left, interval): (u64, u64)) -> Result<()> {
    let us = |ns: u64| ns.div_ceil(1000);
    let (l, i) = (us(left), us(interval));
    task.write_obj(
        at,
        &[(i / 1_000_000) as i64, (i % 1_000_000) as i64, (l / 1_000_000) as i64, (l % 1_000_000) as i64],
    )
}

fn interval_timer(task: &CurrentTask, which: u32) -> Result<Arc<IntervalTimer>> {
    task.group.interval_timer(which).ok_or(Errno::EINVAL)
}

/// The time of a timer's source in `ns` nanoseconds.
fn source_in(timer: &IntervalTimer, ns: u64) -> u64 {
    timer.source.now().saturating_add(ns)
}

/// setitimer(2)
pub fn setitimer(task: &CurrentTask, args: &Args) -> Result<u64> {
    let timer = interval_timer(task, args.u32(0))?;
    let (next, interval) = if args.u64(1) == 0 { (0, 0) } else { read_itimer(task, args.u64(1))? };
    let old = timer.get();
    timer.set(if next == 0 { 0 } else { source_in(&timer, next) }, interval);
    if args.u64(2) != 0 {
        write_itimer(task, args.u64(2), old)?;
    }
    Ok(0)
}

/// getitimer(2)
pub fn getitimer(task: &CurrentTask, args: &Args) -> Result<u64> {
    let timer = interval_timer(task, args.u32(0))?;
    write_itimer(task, args.u64(1), timer.get())?;
    Ok(0)
}

/// alarm(2)
pub fn alarm(task: &CurrentTask, args: &Args) -> Result<u64> {
    let timer = interval_timer(task, c::ITIMER_REAL)?;
    let (left, _) = timer.get();
    let seconds = u64::from(args.u32(0));
    timer.set(if seconds == 0 { 0 } else { deadline_in(seconds * NS) }, 0);
    Ok(left.div_ceil(NS))
}

/// timer_create(2)
pub fn timer_create(task: &CurrentTask, args: &Args) -> Result<u64> {
    let clock = args.u32(0);
    let mut source = Source::Real;
    if !matches!(clock, c::CLOCK_REALTIME | c::CLOCK_MONOTONIC | c::CLOCK_BOOTTIME | c::CLOCK_TAI) {
        // Coarse and raw clocks have no timers.
        let known = read_clock(task, args.i32(0)).is_ok();
        source = match cpu_clock(task, args.i32(0)) {
            Ok(clock) => Source::Cpu(clock),
            Err(_) => return Err(if known { Errno::EOPNOTSUPP } else { Errno::EINVAL }),
        };
    }
    let event = if args.u64(1) == 0 { None } else { Some(task.read_obj::<[u64; 8]>(args.u64(1))?) };
    let notify = match event {
        None => None,
        Some(e) => {
            let (value, signal, kind, tid) = (e[0], e[1] as u32, (e[1] >> 32) as u32, e[2] as u32);
            let valid_signal = (1..=64).contains(&signal);
            Some(match kind {
                c::SIGEV_NONE => Notify::None,
                c::SIGEV_SIGNAL | c::SIGEV_THREAD if valid_signal => Notify::Process(signal, value),
                k if k == c::SIGEV_THREAD_ID | c::SIGEV_SIGNAL && valid_signal => {
                    if !task.group.tasks().iter().any(|t| t.tid() == tid) {
                        return Err(Errno::EINVAL);
                    }
                    Notify::Task(signal, value, tid)
                }
                _ => return Err(Errno::EINVAL),
            })
        }
    };
    let id = task
        .group
        .create_timer(clock, source, |id| notify.unwrap_or(Notify::Process(c::SIGALRM, id as u64)))?;
    if let Err(e) = task.write_obj(args.u64(2), &id) {
        let _ = task.group.delete_timer(id);
        return Err(e);
    }
    Ok(0)
}

/// timer_settime(2)
pub fn timer_settime(task: &CurrentTask, args: &Args) -> Result<u64> {
    let timer = task.group.posix_timer(args.i32(0))?;
    let interval = read_timespec(task, args.u64(2))?;
    let value = read_timespec(task, args.u64(2).wrapping_add(16))?;
    let old = timer.get();
    let next = if value == 0 {
        0
    } else if args.u32(1) & c::TIMER_ABSTIME != 0 {
        match &timer.source {
            Source::Real => {
                let now = read_clock(task, timer.clock as i32)?;
                deadline_in(value.saturating_sub(now))
            }
            Source::Cpu(_) => value,
        }
    } else {
        source_in(&timer, value)
    };
    timer.set(next, interval);
    if args.u64(3) != 0 {
        write_timespec(task, args.u64(3), old.1)?;
        write_timespec(task, args.u64(3).wrapping_add(16), old.0)?;
    }
    Ok(0)
}

/// timer_gettime(2)
pub fn timer_gettime(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (left, interval) = task.group.posix_timer(args.i32(0))?.get();
    write_timespec(task, args.u64(1), interval)?;
    write_timespec(task, args.u64(1).wrapping_add(16), left)?;
    Ok(0)
}

/// timer_getoverrun(2)
pub fn timer_getoverrun(task: &CurrentTask, args: &Args) -> Result<u64> {
    Ok(u64::from(task.group.posix_timer(args.i32(0))?.overrun()))
}

/// timer_delete(2)
pub fn timer_delete(task: &CurrentTask, args: &Args) -> Result<u64> {
    task.group.delete_timer(args.i32(0)).map(|()| 0)
}
