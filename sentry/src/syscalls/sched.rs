//! Scheduling: sched(7), getpriority(2), getcpu(2), rseq(2).

use super::{Args, time};
use crate::errno::{Errno, Result};
use crate::kernel::cred::cap;
use crate::kernel::process;
use crate::kernel::sched;
use crate::kernel::task::{CurrentTask, Task};
use crate::kernel::view::cpu_mask;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const SCHED_RESET_ON_FORK: u32 = 0x4000_0000;

fn target(task: &CurrentTask, pid: i32) -> Result<Arc<Task>> {
    match pid {
        0 => Ok(task.task().clone()),
        p if p < 0 => Err(Errno::EINVAL),
        p => process::find_task(p as u32).ok_or(Errno::ESRCH),
    }
}

/// sched_yield(2)
pub fn sched_yield(_: &CurrentTask, _: &Args) -> Result<u64> {
    sched::yield_now();
    Ok(0)
}

/// The task whose affinity is meant. These calls look a negative identifier up, where the others refuse it.
fn affinity_target(task: &CurrentTask, pid: i32) -> Result<Arc<Task>> {
    if pid < 0 { Err(Errno::ESRCH) } else { target(task, pid) }
}

/// sched_getaffinity(2)
pub fn sched_getaffinity(task: &CurrentTask, args: &Args) -> Result<u64> {
    let size = args.u64(1);
    if size < 8 || !size.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let mask = affinity_target(task, args.i32(0))?.sched.affinity.load(Ordering::Relaxed) & cpu_mask();
    task.write_obj(args.u64(2), &mask)?;
    Ok(8)
}

/// sched_setaffinity(2)
pub fn sched_setaffinity(task: &CurrentTask, args: &Args) -> Result<u64> {
    let mut raw = [0; 8];
    let n = (args.u64(1) as usize).min(8);
    task.read_bytes(args.u64(2), &mut raw[..n])?;
    let mask = u64::from_le_bytes(raw) & cpu_mask();
    let target = affinity_target(task, args.i32(0))?;
    if mask == 0 {
        return Err(Errno::EINVAL);
    }
    target.sched.affinity.store(mask, Ordering::Relaxed);
    if target.tid() == task.tid() {
        sched::migrate();
    } else {
        sched::affinity_changed(&target);
    }
    Ok(0)
}

/// sched_getscheduler(2)
pub fn sched_getscheduler(task: &CurrentTask, args: &Args) -> Result<u64> {
    Ok(u64::from(target(task, args.i32(0))?.policy.load(Ordering::Relaxed)))
}

fn set_policy(task: &CurrentTask, pid: i32, policy: u32, priority: i32) -> Result<u64> {
    let plain = policy & !SCHED_RESET_ON_FORK;
    let valid = match plain {
        c::SCHED_NORMAL | c::SCHED_BATCH | c::SCHED_IDLE => priority == 0,
        c::SCHED_FIFO | c::SCHED_RR => (1..=99).contains(&priority),
        _ => false,
    };
    if !valid {
        return Err(Errno::EINVAL);
    }
    let target = target(task, pid)?;
    if matches!(plain, c::SCHED_FIFO | c::SCHED_RR) && !task.cred().has(cap::SYS_NICE) {
        return Err(Errno::EPERM);
    }
    target.policy.store(policy, Ordering::Relaxed);
    target.rt_priority.store(priority as u32, Ordering::Relaxed);
    Ok(0)
}

/// sched_setscheduler(2): policies are kept and shown; every task is scheduled alike.
pub fn sched_setscheduler(task: &CurrentTask, args: &Args) -> Result<u64> {
    let priority: i32 = task.read_obj(args.u64(2))?;
    set_policy(task, args.i32(0), args.u32(1), priority)
}

/// sched_setparam(2)
pub fn sched_setparam(task: &CurrentTask, args: &Args) -> Result<u64> {
    let priority: i32 = task.read_obj(args.u64(1))?;
    let policy = target(task, args.i32(0))?.policy.load(Ordering::Relaxed);
    set_policy(task, args.i32(0), policy, priority)
}

/// sched_getparam(2)
pub fn sched_getparam(task: &CurrentTask, args: &Args) -> Result<u64> {
    let priority = target(task, args.i32(0))?.rt_priority.load(Ordering::Relaxed);
    task.write_obj(args.u64(1), &priority)?;
    Ok(0)
}

/// sched_get_priority_max(2)
pub fn sched_get_priority_max(_: &CurrentTask, args: &Args) -> Result<u64> {
    match args.u32(0) {
        c::SCHED_FIFO | c::SCHED_RR => Ok(99),
        c::SCHED_NORMAL | c::SCHED_BATCH | c::SCHED_IDLE | c::SCHED_DEADLINE => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// sched_get_priority_min(2)
pub fn sched_get_priority_min(task: &CurrentTask, args: &Args) -> Result<u64> {
    sched_get_priority_max(task, args).map(|max| max.min(1))
}

/// sched_rr_get_interval(2)
pub fn sched_rr_get_interval(task: &CurrentTask, args: &Args) -> Result<u64> {
    target(task, args.i32(0))?;
    time::write_timespec(task, args.u64(1), 4_000_000)?;
    Ok(0)
}

/// Bytes of struct sched_attr that everybody knows, SCHED_ATTR_SIZE_VER0.
const ATTR_SIZE: u32 = 48;
/// The same with the bounds of utilisation, SCHED_ATTR_SIZE_VER1.
const ATTR_SIZE_NOW: u32 = 56;
/// Bits of its flags.
const FLAG_RESET_ON_FORK: u64 = 1;
const FLAG_KEEP_POLICY: u64 = 8;
const FLAG_KEEP_PARAMS: u64 = 16;
const FLAG_ALL: u64 = 0x7f;
/// Shortest run time of SCHED_DEADLINE, and bounds of its period, ns.
const RUNTIME_MIN: u64 = 1024;
const PERIODS: core::ops::RangeInclusive<u64> = 100_000..=(1 << 22) * 1000;

/// struct sched_attr as far as it is known here.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    deadline: [u64; 3],
}

/// sched_getattr(2)
pub fn sched_getattr(task: &CurrentTask, args: &Args) -> Result<u64> {
    if args.u32(2) < ATTR_SIZE || u64::from(args.u32(2)) > abi::PAGE_SIZE || args.u32(3) != 0 {
        return Err(Errno::EINVAL);
    }
    let target = target(task, args.i32(0))?;
    let policy = target.policy.load(Ordering::Relaxed);
    let mut attr = SchedAttr {
        size: ATTR_SIZE,
        policy: policy & !SCHED_RESET_ON_FORK,
        flags: if policy & SCHED_RESET_ON_FORK != 0 { FLAG_RESET_ON_FORK } else { 0 },
        nice: target.nice.load(Ordering::Relaxed) as i32 - 20,
        priority: target.rt_priority.load(Ordering::Relaxed),
        deadline: [0; 3],
    };
    if attr.policy == c::SCHED_DEADLINE {
        attr.deadline = *target.deadline.lock();
    }
    task.write_obj(args.u64(1), &attr)?;
    Ok(0)
}

/// sched_setattr(2): policies are kept and shown; every task is scheduled alike.
pub fn sched_setattr(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (at, flags) = (args.u64(1), args.u32(2));
    if at == 0 || args.i32(0) < 0 || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let size = match task.read_obj::<u32>(at)? {
        0 => ATTR_SIZE,
        size => size,
    };
    if size < ATTR_SIZE || u64::from(size) > abi::PAGE_SIZE {
        task.write_obj(at, &ATTR_SIZE_NOW)?;
        return Err(Errno::E2BIG);
    }
    let mut rest = alloc::vec![0; (size - ATTR_SIZE) as usize];
    let mut attr: SchedAttr = task.read_obj(at)?;
    task.read_bytes(at.wrapping_add(u64::from(ATTR_SIZE)), &mut rest)?;
    // The bounds of utilisation follow (they have no effect here); nothing is known of what comes behind them.
    if rest.iter().skip((ATTR_SIZE_NOW - ATTR_SIZE) as usize).any(|byte| *byte != 0) {
        task.write_obj(at, &ATTR_SIZE_NOW)?;
        return Err(Errno::E2BIG);
    }
    if (attr.policy as i32) < 0 || attr.flags & !FLAG_ALL != 0 {
        return Err(Errno::EINVAL);
    }
    let target = target(task, args.i32(0))?;
    if attr.flags & FLAG_KEEP_POLICY != 0 {
        attr.policy = target.policy.load(Ordering::Relaxed) & !SCHED_RESET_ON_FORK;
    }
    if attr.flags & FLAG_KEEP_PARAMS != 0 {
        attr.priority = target.rt_priority.load(Ordering::Relaxed);
        attr.nice = target.nice.load(Ordering::Relaxed) as i32 - 20;
        attr.deadline = *target.deadline.lock();
    }
    let reset = if attr.flags & FLAG_RESET_ON_FORK != 0 { SCHED_RESET_ON_FORK } else { 0 };
    if attr.policy == c::SCHED_DEADLINE {
        let [runtime, deadline, period] = attr.deadline;
        let period = if period == 0 { deadline } else { period };
        if runtime < RUNTIME_MIN || runtime > deadline || deadline > period || !PERIODS.contains(&period) {
            return Err(Errno::EINVAL);
        }
        if !task.cred().has(cap::SYS_NICE) {
            return Err(Errno::EPERM);
        }
        *target.deadline.lock() = [runtime, deadline, period];
        target.policy.store(attr.policy | reset, Ordering::Relaxed);
        target.rt_priority.store(0, Ordering::Relaxed);
        return Ok(0);
    }
    let priority = i32::try_from(attr.priority).map_err(|_| Errno::EINVAL)?;
    let nice = (attr.nice.clamp(-20, 19) + 20) as u32;
    let fair = matches!(attr.policy, c::SCHED_NORMAL | c::SCHED_BATCH);
    if fair && nice < target.nice.load(Ordering::Relaxed) && !task.cred().has(cap::SYS_NICE) {
        return Err(Errno::EPERM);
    }
    set_policy(task, args.i32(0), attr.policy | reset, priority)?;
    if fair {
        target.nice.store(nice, Ordering::Relaxed);
    }
    Ok(0)
}

fn priority_targets(task: &CurrentTask, which: u32, who: u32) -> Result<alloc::vec::Vec<Arc<Task>>> {
    let groups = match which {
        c::PRIO_PROCESS => return target(task, who as i32).map(|t| alloc::vec![t]).map_err(|_| Errno::ESRCH),
        c::PRIO_PGRP => process::members(if who == 0 { task.group.pgid() } else { who }),
        c::PRIO_USER => {
            let uid = if who == 0 { task.cred().uid } else { who };
            let mut all = process::all_groups();
            all.retain(|g| g.leader().is_some_and(|t| t.cred().uid == uid));
            all
        }
        _ => return Err(Errno::EINVAL),
    };
    let tasks: alloc::vec::Vec<_> = groups.iter().flat_map(|g| g.tasks()).collect();
    if tasks.is_empty() { Err(Errno::ESRCH) } else { Ok(tasks) }
}

/// getpriority(2): returns 20 minus the nice value, as the system call does.
pub fn getpriority(task: &CurrentTask, args: &Args) -> Result<u64> {
    let tasks = priority_targets(task, args.u32(0), args.u32(1))?;
    Ok(tasks.iter().map(|t| 40 - u64::from(t.nice.load(Ordering::Relaxed))).max().unwrap_or(20))
}

/// setpriority(2)
pub fn setpriority(task: &CurrentTask, args: &Args) -> Result<u64> {
    let nice = (args.i32(2).clamp(-20, 19) + 20) as u32;
    for target in priority_targets(task, args.u32(0), args.u32(1))? {
        if nice < target.nice.load(Ordering::Relaxed) && !task.cred().has(cap::SYS_NICE) {
            return Err(Errno::EACCES);
        }
        target.nice.store(nice, Ordering::Relaxed);
    }
    Ok(0)
}

/// ioprio_get(2)
pub fn ioprio_get(_: &CurrentTask, _: &Args) -> Result<u64> {
    Ok(4)
}

/// ioprio_set(2)
pub fn ioprio_set(_: &CurrentTask, _: &Args) -> Result<u64> {
    Ok(0)
}

/// getcpu(2)
pub fn getcpu(task: &CurrentTask, args: &Args) -> Result<u64> {
    if args.u64(0) != 0 {
        task.write_obj(args.u64(0), &task.sched.last_cpu.load(Ordering::Relaxed))?;
    }
    if args.u64(1) != 0 {
        task.write_obj(args.u64(1), &0u32)?;
    }
    Ok(0)
}

/// rseq(2)
pub fn rseq(task: &CurrentTask, args: &Args) -> Result<u64> {
    const UNREGISTER: u32 = 1;
    let (area, len, flags, signature) = (args.u64(0), args.u32(1), args.u32(2), args.u32(3));
    let current = task.rseq.load(Ordering::Relaxed);
    if flags & UNREGISTER != 0 {
        if flags != UNREGISTER || current != area || current == 0 {
            return Err(Errno::EINVAL);
        }
        if signature != task.rseq_signature.load(Ordering::Relaxed) {
            return Err(Errno::EPERM);
        }
        task.rseq.store(0, Ordering::Relaxed);
        return Ok(0);
    }
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    if current != 0 {
        let same = current == area && signature == task.rseq_signature.load(Ordering::Relaxed);
        return Err(if same { Errno::EBUSY } else { Errno::EINVAL });
    }
    if len != 32 || !area.is_multiple_of(32) {
        return Err(Errno::EINVAL);
    }
    if area >= task.mm_ref().user_top {
        return Err(Errno::EFAULT);
    }
    task.rseq_signature.store(signature, Ordering::Relaxed);
    task.rseq.store(area, Ordering::Relaxed);
    crate::kernel::rseq::resume(task);
    Ok(0)
}
