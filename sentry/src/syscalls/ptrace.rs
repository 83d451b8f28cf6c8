//! Tracing: ptrace(2).

use super::Args;
use crate::arch::fpu;
use crate::errno::{Errno, Result};
use crate::kernel::process;
use crate::kernel::ptrace::{self as tracing, Kind, REGISTERS, Regs, Stop, Trace};
use crate::kernel::seccomp::ARCH;
use crate::kernel::signal::{self, SigInfo};
use crate::kernel::task::{CurrentTask, Task};
use crate::mm::Mm;
use crate::sync::Events;
use alloc::vec::Vec;
use linux_raw_sys::ptrace as p;
use zerocopy::IntoBytes;

/// Requests of sys/ptrace.h that are the architecture's own.
const PTRACE_GETREGS: u32 = 12;
const PTRACE_SETREGS: u32 = 13;
const PTRACE_GETFPREGS: u32 = 14;
const PTRACE_SETFPREGS: u32 = 15;
/// Parts of PTRACE_GETREGSET: elf.h.
const NT_PRSTATUS: u64 = 1;
const NT_PRFPREG: u64 = 2;
const NT_X86_XSTATE: u64 = 0x202;
/// Bytes of struct user and of its registers, and where its debug registers stand.
const USER_SIZE: u64 = 928;
const REGS_SIZE: u64 = 8 * REGISTERS as u64;
const DEBUG_REGS: core::ops::Range<u64> = 848..912;
/// Bytes of struct user_fpregs_struct.
const FPREGS_SIZE: usize = 512;
/// Options that are there: all but the suspension of filters.
const OPTIONS: u64 = (p::PTRACE_O_MASK & !p::PTRACE_O_SUSPEND_SECCOMP) as u64;

/// ptrace(2)
pub fn ptrace(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (request, pid, addr, data) = (args.u32(0), args.i32(1), args.u64(2), args.u64(3));
    if request == p::PTRACE_TRACEME {
        return tracing::trace_me(task).map(|()| 0);
    }
    let target = u32::try_from(pid).ok().and_then(process::find_task).ok_or(Errno::ESRCH)?;
    match request {
        p::PTRACE_ATTACH => return tracing::attach(task, &target, None).map(|()| 0),
        p::PTRACE_SEIZE => {
            if addr != 0 || data & !OPTIONS != 0 {
                return Err(Errno::EIO);
            }
            return tracing::attach(task, &target, Some(data as u32)).map(|()| 0);
        }
        _ => {}
    }
    let mut slot = target.trace.lock();
    let trace = slot.as_mut().filter(|t| t.is_by(&task.group)).ok_or(Errno::ESRCH)?;
    match request {
        p::PTRACE_KILL => {
            drop(slot);
            signal::send_task(&target, SigInfo::kernel(signal::SIGKILL))?;
            return Ok(0);
        }
        p::PTRACE_INTERRUPT => {
            if !trace.seized {
                return Err(Errno::EIO);
            }
            tracing::interrupt(trace);
            drop(slot);
            target.alert();
            target.group.change_queue.wake(Events::IN);
            task.group.child_queue.wake(Events::IN);
            return Ok(0);
        }
        _ => {}
    }
    if trace.stopped().is_none() {
        return Err(Errno::ESRCH);
    }
    if request == p::PTRACE_LISTEN {
        return if tracing::listen(trace) { Ok(0) } else { Err(Errno::EIO) };
    }
    if let Some(result) = go_on(&target, trace, request, data) {
        let detached = request == p::PTRACE_DETACH && result.is_ok();
        drop(slot);
        if detached {
            tracing::detach(&task.group, &target, data as u32);
        }
        target.group.change_queue.wake(Events::IN);
        return result;
    }
    // A stopped task stays stopped while its tracer, which is this process, does not let it go on, or it is killed:
    // what follows works on copies, and without the lock where memory of programs is touched.
    drop(slot);
    match request {
        p::PTRACE_PEEKTEXT | p::PTRACE_PEEKDATA => {
            let mut word = [0; 8];
            if target.try_mm()?.read_some(addr, &mut word) < word.len() {
                return Err(Errno::EIO);
            }
            task.write_bytes(data, &word).map(|()| 0)
        }
        p::PTRACE_POKETEXT | p::PTRACE_POKEDATA => {
            target.try_mm()?.poke(addr, &data.to_le_bytes()).map(|()| 0).map_err(|_| Errno::EIO)
        }
        p::PTRACE_PEEKUSR => peek_user(task, &target, addr, data),
        p::PTRACE_POKEUSR => poke_user(&target, addr, data),
        PTRACE_GETREGS => {
            let all = with_regs(&target, |_, regs| Ok(regs.all()))?;
            task.write_bytes(data, all.as_bytes()).map(|()| 0)
        }
        PTRACE_SETREGS => {
            let all: [u64; REGISTERS] = task.read_obj(data)?;
            set_regs(&target, &all)
        }
        PTRACE_GETFPREGS => {
            let state = extended(&target)?;
            task.write_bytes(data, &state[..FPREGS_SIZE]).map(|()| 0)
        }
        PTRACE_SETFPREGS => {
            let mut state = alloc::vec![0; FPREGS_SIZE];
            task.read_bytes(data, &mut state)?;
            set_extended(&target, &state)
        }
        p::PTRACE_GETREGSET | p::PTRACE_SETREGSET => {
            regset(task, &target, addr, data, request == p::PTRACE_SETREGSET)
        }
        p::PTRACE_GETEVENTMSG => {
            let message = target.trace.lock().as_ref().map_or(0, |t| t.message);
            task.write_obj(data, &message).map(|()| 0)
        }
        p::PTRACE_SETOPTIONS => {
            if data & !OPTIONS != 0 {
                return Err(Errno::EINVAL);
            }
            target.trace.lock().as_mut().ok_or(Errno::ESRCH)?.options = data as u32;
            Ok(0)
        }
        p::PTRACE_GETSIGINFO => {
            let info = with_stop(&target, |stop| {
                if stop.kind == Kind::Group { Err(Errno::EINVAL) } else { Ok(stop.info) }
            })?;
            task.write_obj(data, &info).map(|()| 0)
        }
        p::PTRACE_SETSIGINFO => {
            let info: SigInfo = task.read_obj(data)?;
            with_stop(&target, |stop| {
                if stop.kind == Kind::Group {
                    return Err(Errno::EINVAL);
                }
                stop.info = info;
                Ok(0)
            })
        }
        p::PTRACE_GETSIGMASK | p::PTRACE_SETSIGMASK if addr != 8 => Err(Errno::EINVAL),
        p::PTRACE_GETSIGMASK => {
            let mask = {
                let signals = target.signals.lock();
                signals.saved.unwrap_or(signals.blocked)
            };
            task.write_obj(data, &mask).map(|()| 0)
        }
        p::PTRACE_SETSIGMASK => {
            let mask: u64 = task.read_obj(data)?;
            target.signals.lock().blocked = mask & !signal::UNBLOCKABLE;
            Ok(0)
        }
        p::PTRACE_GET_SYSCALL_INFO => syscall_info(task, &target, addr, data),
        _ => Err(Errno::EIO),
    }
}

/// Requests that let a tracee go on; `None`: this is none.
fn go_on(target: &Task, trace: &mut Trace, request: u32, data: u64) -> Option<Result<u64>> {
    let (calls, step) = match request {
        p::PTRACE_CONT | p::PTRACE_DETACH => (false, false),
        p::PTRACE_SYSCALL => (true, false),
        p::PTRACE_SINGLESTEP => (false, true),
        _ => return None,
    };
    if data > signal::COUNT as u64 {
        return Some(Err(Errno::EIO));
    }
    if request != p::PTRACE_DETACH {
        tracing::resume(target, trace, data as u32, calls, step);
    }
    Some(Ok(0))
}

/// Works on the registers of a stopped tracee.
fn with_regs<R>(target: &Task, f: impl FnOnce(&mut Stop, &mut Regs) -> Result<R>) -> Result<R> {
    let mut slot = target.trace.lock();
    let (stop, regs) = slot.as_mut().and_then(|t| t.stopped()).ok_or(Errno::ESRCH)?;
    f(stop, regs)
}

fn with_stop<R>(target: &Task, f: impl FnOnce(&mut Stop) -> Result<R>) -> Result<R> {
    with_regs(target, |stop, _| f(stop))
}

fn user_top(target: &Task) -> Result<u64> {
    Ok(target.try_mm()?.user_top)
}

fn set_regs(target: &Task, all: &[u64]) -> Result<u64> {
    let top = user_top(target)?;
    with_regs(target, |_, regs| {
        for (index, value) in all.iter().enumerate() {
            regs.set(index, *value, top)?;
        }
        Ok(0)
    })
}

fn peek_user(task: &CurrentTask, target: &Task, at: u64, to: u64) -> Result<u64> {
    if !at.is_multiple_of(8) || at >= USER_SIZE {
        return Err(Errno::EIO);
    }
    let value = with_regs(target, |_, regs| Ok(regs.all().get(at as usize / 8).copied().unwrap_or(0)))?;
    task.write_obj(to, &value).map(|()| 0)
}

fn poke_user(target: &Task, at: u64, value: u64) -> Result<u64> {
    if !at.is_multiple_of(8) || at >= USER_SIZE {
        return Err(Errno::EIO);
    }
    if at < REGS_SIZE {
        let top = user_top(target)?;
        return with_regs(target, |_, regs| regs.set(at as usize / 8, value, top).map(|()| 0));
    }
    // There are no hardware breakpoints: they can be cleared, not set.
    if DEBUG_REGS.contains(&at) && value == 0 { Ok(0) } else { Err(Errno::EIO) }
}

/// The extended state of a stopped tracee.
fn extended(target: &Task) -> Result<Vec<u8>> {
    with_regs(target, |_, regs| Ok(target.fpu.lock().export(&regs.ctx)))
}

fn set_extended(target: &Task, state: &[u8]) -> Result<u64> {
    with_regs(
        target,
        |_, regs| {
            if target.fpu.lock().import(state, &mut regs.ctx) { Ok(0) } else { Err(Errno::EINVAL) }
        },
    )
}

/// PTRACE_GETREGSET and PTRACE_SETREGSET: `iov` names a struct iovec, of which the length is set to what there is.
fn regset(task: &CurrentTask, target: &Task, kind: u64, iov: u64, set: bool) -> Result<u64> {
    let [base, len]: [u64; 2] = task.read_obj(iov)?;
    let (size, unit) = match kind {
        NT_PRSTATUS => (REGS_SIZE as usize, 8),
        NT_PRFPREG => (FPREGS_SIZE, 4),
        NT_X86_XSTATE => (fpu::area_size(), 8),
        _ => return Err(Errno::EINVAL),
    };
    if !len.is_multiple_of(unit) {
        return Err(Errno::EINVAL);
    }
    let n = (len as usize).min(size);
    if set {
        let mut bytes = alloc::vec![0; n];
        task.read_bytes(base, &mut bytes)?;
        match kind {
            NT_PRSTATUS => {
                let words = bytes.as_chunks::<8>().0.iter().map(|w| u64::from_le_bytes(*w));
                set_regs(target, &words.collect::<Vec<_>>())?;
            }
            NT_PRFPREG if n < FPREGS_SIZE => return Err(Errno::EINVAL),
            NT_X86_XSTATE if n < size => return Err(Errno::EFAULT),
            _ => {
                set_extended(target, &bytes)?;
            }
        }
    } else if kind == NT_PRSTATUS {
        let all = with_regs(target, |_, regs| Ok(regs.all()))?;
        task.write_bytes(base, &all.as_bytes()[..n])?;
    } else {
        task.write_bytes(base, &extended(target)?[..n])?;
    }
    task.write_obj(iov.wrapping_add(8), &(n as u64))?;
    Ok(0)
}

/// PTRACE_GET_SYSCALL_INFO: fills struct ptrace_syscall_info as far as `size` goes; returns its whole length.
fn syscall_info(task: &CurrentTask, target: &Task, size: u64, to: u64) -> Result<u64> {
    let (bytes, len) = with_regs(target, |stop, regs| {
        let x = &regs.ctx;
        let mut words = [0u64; 11];
        words[1] = x.rip;
        words[2] = x.rsp;
        let (op, len) = match stop.kind {
            Kind::Entry | Kind::Seccomp(_) => {
                words[3] = regs.orig_rax;
                words[4..10].copy_from_slice(&x.args());
                if let Kind::Seccomp(value) = stop.kind {
                    words[10] = u64::from(value);
                    (p::PTRACE_SYSCALL_INFO_SECCOMP, 84)
                } else {
                    (p::PTRACE_SYSCALL_INFO_ENTRY, 80)
                }
            }
            Kind::Exit => {
                words[3] = x.rax;
                words[4] = u64::from(x.rax > (-4096i64) as u64);
                (p::PTRACE_SYSCALL_INFO_EXIT, 33)
            }
            _ => (p::PTRACE_SYSCALL_INFO_NONE, 24),
        };
        words[0] = u64::from(op) | u64::from(ARCH) << 32;
        Ok((words, len))
    })?;
    let n = len.min(size as usize);
    task.write_bytes(to, &bytes.as_bytes()[..n])?;
    Ok(len as u64)
}

impl Mm {
    /// Writes to memory of a program that may itself not write there, as debuggers set breakpoints: private pages
    /// become copies.
    ///
    /// # Errors
    /// EFAULT where nothing is mapped, or what is shared may not be written.
    pub fn poke(&self, address: u64, data: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < data.len() {
            let at = address.checked_add(done as u64).ok_or(Errno::EFAULT)?;
            let within = (at % abi::PAGE_SIZE) as usize;
            let n = (data.len() - done).min(abi::PAGE_SIZE as usize - within);
            let part = &data[done..done + n];
            if self.write_some(at, part) < n {
                self.private_copy(at)?.write(within, part);
            }
            done += n;
        }
        Ok(())
    }
}
