//! Operations on a process or thread: prctl(2), arch_prctl(2).

use super::Args;
use crate::errno::{Errno, Result};
use crate::kernel::cred::cap;
use crate::kernel::task::CurrentTask;
use core::sync::atomic::Ordering;
use linux_raw_sys::prctl as p;
use linux_raw_sys::ptrace::{SECCOMP_MODE_FILTER, SECCOMP_MODE_STRICT};

/// The bits of securebits that lock the one below each.
const SECURE_LOCKS: u32 = 0xaa;
const SECURE_KEEP_CAPS_LOCKED: u32 = 1 << 5;
const SECURE_NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;

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
            if cred.securebits & SECURE_KEEP_CAPS_LOCKED != 0 {
                return Err(Errno::EPERM);
            }
            cred.securebits = cred.securebits & !(1 << 4) | (arg as u32) << 4;
            task.set_cred(cred);
            Ok(0)
        }
        p::PR_GET_SECUREBITS => Ok(u64::from(task.cred().securebits)),
        p::PR_SET_SECUREBITS => {
            let mut cred = (*task.cred()).clone();
            let (old, new) = (cred.securebits, u32::try_from(arg).map_err(|_| Errno::EPERM)?);
            let locked = (old & SECURE_LOCKS) >> 1;
            let refused = locked & (old ^ new) != 0
                || old & SECURE_LOCKS & !new != 0
                || new & !(SECURE_LOCKS | SECURE_LOCKS >> 1) != 0
                || !cred.has(cap::SETPCAP);
            if refused {
                return Err(Errno::EPERM);
            }
            cred.securebits = new;
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
        p::PR_GET_SECCOMP => Ok(u64::from(task.seccomp.lock().mode())),
        p::PR_SET_SECCOMP => match arg as u32 {
            SECCOMP_MODE_STRICT => super::seccomp::set_strict(task),
            SECCOMP_MODE_FILTER => super::seccomp::set_filter(task, 0, args.u64(2)),
            _ => Err(Errno::EINVAL),
        },
        p::PR_SET_THP_DISABLE => {
            if args.u64(2) | args.u64(3) | args.u64(4) != 0 {
                return Err(Errno::EINVAL);
            }
            task.group.thp_disabled.store(arg != 0, Ordering::Relaxed);
            Ok(0)
        }
        p::PR_GET_THP_DISABLE => {
            if arg | args.u64(2) | args.u64(3) | args.u64(4) != 0 {
                return Err(Errno::EINVAL);
            }
            Ok(u64::from(task.group.thp_disabled.load(Ordering::Relaxed)))
        }
        p::PR_SET_MM => super::prctl_mm::set_mm(task, args),
        p::PR_SET_VMA => super::prctl_mm::set_vma(task, args),
        p::PR_GET_AUXV => super::prctl_mm::get_auxv(task, args),
        p::PR_GET_TIMING => Ok(u64::from(p::PR_TIMING_STATISTICAL)),
        p::PR_SET_TIMING if arg == u64::from(p::PR_TIMING_STATISTICAL) => Ok(0),
        p::PR_GET_TSC => task.write_obj(arg, &p::PR_TSC_ENABLE).map(|()| 0),
        p::PR_SET_TSC if arg == u64::from(p::PR_TSC_ENABLE) => Ok(0),
        p::PR_TASK_PERF_EVENTS_DISABLE | p::PR_TASK_PERF_EVENTS_ENABLE => Ok(0),
        p::PR_MCE_KILL => mce_kill(task, args),
        p::PR_MCE_KILL_GET => {
            if arg | args.u64(2) | args.u64(3) | args.u64(4) != 0 {
                return Err(Errno::EINVAL);
            }
            Ok(u64::from(task.mce_kill.load(Ordering::Relaxed)))
        }
        p::PR_GET_SPECULATION_CTRL | p::PR_SET_SPECULATION_CTRL => speculation(args),
        p::PR_SET_IO_FLUSHER | p::PR_GET_IO_FLUSHER => io_flusher(task, args),
        p::PR_GET_TID_ADDRESS => task.write_obj(arg, &task.clear_tid.load(Ordering::Relaxed)).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

/// PR_MCE_KILL: kept and shown, since a guest meets no broken memory.
fn mce_kill(task: &CurrentTask, args: &Args) -> Result<u64> {
    if args.u64(3) | args.u64(4) != 0 {
        return Err(Errno::EINVAL);
    }
    let policy = match (args.u32(1), args.u64(2)) {
        (p::PR_MCE_KILL_CLEAR, 0) => p::PR_MCE_KILL_DEFAULT,
        (p::PR_MCE_KILL_SET, policy) if policy <= u64::from(p::PR_MCE_KILL_DEFAULT) => policy as u32,
        _ => return Err(Errno::EINVAL),
    };
    task.mce_kill.store(policy, Ordering::Relaxed);
    Ok(0)
}

/// PR_GET_SPECULATION_CTRL, PR_SET_SPECULATION_CTRL: there is no control for a process, as on a host without.
fn speculation(args: &Args) -> Result<u64> {
    let set = args.u32(0) == p::PR_SET_SPECULATION_CTRL;
    if args.u64(3) | args.u64(4) != 0 || (!set && args.u64(2) != 0) {
        return Err(Errno::EINVAL);
    }
    match args.u32(1) {
        p::PR_SPEC_STORE_BYPASS | p::PR_SPEC_INDIRECT_BRANCH if set => Err(Errno::ENXIO),
        p::PR_SPEC_L1D_FLUSH if set => Err(Errno::EPERM),
        p::PR_SPEC_STORE_BYPASS | p::PR_SPEC_INDIRECT_BRANCH => Ok(u64::from(p::PR_SPEC_ENABLE)),
        p::PR_SPEC_L1D_FLUSH => Ok(u64::from(p::PR_SPEC_FORCE_DISABLE)),
        _ => Err(Errno::ENODEV),
    }
}

/// PR_SET_IO_FLUSHER, PR_GET_IO_FLUSHER: kept and shown.
fn io_flusher(task: &CurrentTask, args: &Args) -> Result<u64> {
    let set = args.u32(0) == p::PR_SET_IO_FLUSHER;
    if !task.cred().has(cap::SYS_RESOURCE) {
        return Err(Errno::EPERM);
    }
    if args.u64(2) | args.u64(3) | args.u64(4) != 0 || args.u64(1) > u64::from(set) {
        return Err(Errno::EINVAL);
    }
    if set {
        task.io_flusher.store(args.u64(1) == 1, Ordering::Relaxed);
        return Ok(0);
    }
    Ok(u64::from(task.io_flusher.load(Ordering::Relaxed)))
}

fn cap_ambient(task: &CurrentTask, args: &Args) -> Result<u64> {
    let mut cred = (*task.cred()).clone();
    let number = args.u64(2);
    if args.u64(3) | args.u64(4) != 0 {
        return Err(Errno::EINVAL);
    }
    match args.u32(1) {
        p::PR_CAP_AMBIENT_CLEAR_ALL if number == 0 => cred.ambient = 0,
        p::PR_CAP_AMBIENT_IS_SET if number <= u64::from(cap::LAST) => return Ok(cred.ambient >> number & 1),
        p::PR_CAP_AMBIENT_RAISE if number <= u64::from(cap::LAST) => {
            if cred.permitted & cred.inheritable & (1 << number) == 0
                || cred.securebits & SECURE_NO_CAP_AMBIENT_RAISE != 0
            {
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
