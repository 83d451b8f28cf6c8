//! Limits of resources: getrlimit(2), setrlimit(2), prlimit64(2).

use super::Args;
use crate::errno::{Errno, Result};
use crate::kernel::cred::cap;
use crate::kernel::process::RLIMITS;
use crate::kernel::task::CurrentTask;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;

/// getrlimit(2), setrlimit(2) and prlimit64(2) all end here.
fn limit(task: &CurrentTask, pid: i32, resource: u32, new: Option<[u64; 2]>) -> Result<[u64; 2]> {
    if resource as usize >= RLIMITS {
        return Err(Errno::EINVAL);
    }
    let group = super::process::group_of(task, pid)?;
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
        if resource == c::RLIMIT_CPU {
            crate::kernel::cputime::look_again(&group);
        }
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
