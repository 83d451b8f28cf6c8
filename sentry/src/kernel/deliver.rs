//! What happens before a program goes on: its end, stops, and signals to its handlers.

use super::exit;
use super::ptrace;
use super::signal::{self, AltStack, DefaultAction, SIG_DFL, SIG_IGN, SigAction, SigInfo, bit};
use super::task::{CurrentTask, Task};
use super::wait;
use crate::arch::context::VECTOR_SYSCALL;
use crate::arch::fpu;
use crate::errno::{Errno, Result};
use crate::log;
use crate::strace::ring;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Marks of an extended state in a signal frame.
const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
/// Where they stand in the legacy part.
const SW_RESERVED: usize = 464;
/// uc_flags: extended state, and SS is restored strictly.
const UC_FLAGS: u64 = 0x1 | 0x2 | 0x4;
/// Bytes below the stack pointer that a leaf function may use.
const RED_ZONE: u64 = 128;
/// Flags that a handler starts without: DF, TF, RF.
const CLEARED_FLAGS: u64 = 0x1_0500;

/// struct ucontext and siginfo as the kernel lays them on a program's stack: sigaction(2), rt_sigreturn(2).
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Frame {
    return_address: u64,
    uc_flags: u64,
    uc_link: u64,
    stack: AltStack,
    /// R8 to R15, RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP, RIP, flags.
    regs: [u64; 18],
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    error: u64,
    trap: u64,
    old_mask: u64,
    cr2: u64,
    fpstate: u64,
    reserved: [u64; 8],
    mask: u64,
    info: SigInfo,
}

/// Deals with everything that keeps the task from going on.
pub fn handle(current: &CurrentTask) {
    current.attention.store(false, Ordering::SeqCst);
    loop {
        if current.group.exiting() || current.killed() {
            let status = current.group.exit_status();
            exit::exit_task(current, status);
            return;
        }
        if current.traced() {
            ptrace::attend(current);
            if current.group.exiting() || current.killed() {
                continue;
            }
        } else if current.group.stop_wanted() && !current.must_die(false) {
            stay_stopped(current);
            continue;
        }
        let continues = current.group.continues();
        let blocked = current.signals.lock().blocked;
        let Some(mut info) = current.take_signal(!blocked) else { break };
        if current.traced() {
            match ptrace::filter_signal(current, info) {
                Some(kept) => info = kept,
                None => continue,
            }
        }
        if deliver(current, info, continues) {
            return;
        }
    }
    // No handler runs: a call that waited begins again, and a mask set for its length goes back.
    if let Some(error) = restart_error(current) {
        restart(current, error);
    }
    if current.restore_mask.swap(false, Ordering::Relaxed) {
        let mut signals = current.signals.lock();
        if let Some(mask) = signals.saved.take() {
            signals.blocked = mask;
            drop(signals);
            current.attention.store(true, Ordering::SeqCst);
        }
    }
}

fn stay_stopped(current: &CurrentTask) {
    let group = current.group.clone();
    // A SIGKILL that came between the signal that stops and the stop itself has not undone this one.
    let go_on = || (!group.stop_wanted() || current.must_die(false) || current.traced()).then_some(());
    wait::wait_uninterruptible(&group.change_queue, go_on);
}

/// The restart code in RAX, right after a system call.
fn restart_error(current: &CurrentTask) -> Option<Errno> {
    let ctx = current.ctx();
    if ctx.vector != VECTOR_SYSCALL {
        return None;
    }
    let value = (ctx.rax as i64).wrapping_neg();
    match value {
        512 => Some(Errno::RESTART_SYS),
        514 => Some(Errno::RESTART_NO_HAND),
        516 => Some(Errno::RESTART_BLOCK),
        _ => None,
    }
}

fn restart(current: &CurrentTask, error: Errno) {
    let mut ctx = current.ctx_mut();
    ctx.rax = if error == Errno::RESTART_BLOCK { u64::from(c::__NR_restart_syscall) } else { ctx.error };
    // SYSCALL is two bytes.
    ctx.rip = ctx.rip.wrapping_sub(2);
    ctx.vector = 0;
}

/// Does what a signal's disposition says. `true`: a handler is set up, the program goes on with it.
fn deliver(current: &CurrentTask, info: SigInfo, continues: u64) -> bool {
    let signal = info.signal();
    let handlers = current.group.handlers();
    let action = handlers.get(signal);
    match action.handler {
        SIG_IGN if signal != signal::SIGKILL && signal != signal::SIGSTOP => false,
        SIG_DFL | SIG_IGN => {
            default_action(current, &info, continues);
            false
        }
        _ => {
            if action.flags & u64::from(c::SA_RESETHAND) != 0 {
                handlers.set(signal, SigAction { handler: SIG_DFL, ..action });
            }
            if let Some(error) = restart_error(current) {
                let again = error == Errno::RESTART_SYS && action.flags & u64::from(c::SA_RESTART) != 0;
                if again {
                    restart(current, error);
                } else {
                    current.ctx_mut().rax = Errno::EINTR.as_ret();
                }
            }
            if push_frame(current, &info, &action).is_err() {
                // No room for the frame: the program dies of SIGSEGV.
                handlers.set(c::SIGSEGV, SigAction::default());
                current.group.start_exit(c::SIGSEGV as i32);
                return false;
            }
            true
        }
    }
}

fn default_action(current: &CurrentTask, info: &SigInfo, continues: u64) {
    let signal = info.signal();
    match signal::default_of(signal) {
        DefaultAction::Ignore | DefaultAction::Continue => {}
        DefaultAction::Stop => {
            if current.group.is_init() && signal != signal::SIGSTOP {
                return;
            }
            // An orphaned process group is not stopped by the terminal: nobody could let it go on.
            if signal != signal::SIGSTOP && orphaned(current) {
                return;
            }
            current.group.stop(signal, continues);
        }
        DefaultAction::Terminate | DefaultAction::Core => {
            // Init of the PID namespace dies of its own faults and of SIGKILL only, even where it had blocked what came:
            // pid_namespaces(7).
            let deadly = signal == signal::SIGKILL || faulty(signal) && info.code > 0;
            if current.group.is_init() && !deadly {
                return;
            }
            crate::debug!("process {} ends by signal {signal}", current.pid());
            if faulty(signal) && log::enabled(log::Level::Debug) {
                crate::debug!(
                    "it was at {:#x}, its last fault at {:#x}",
                    current.ctx().rip,
                    current.ctx().cr2
                );
                ring::dump(log::Level::Debug, true);
            }
            current.group.start_exit(signal as i32);
        }
    }
}

/// Whether a process that dies of a signal has made a mistake.
fn faulty(signal: u32) -> bool {
    matches!(signal, c::SIGSEGV | c::SIGBUS | c::SIGILL | c::SIGSYS | c::SIGFPE | c::SIGTRAP | c::SIGABRT)
}

/// Whether no member of the process group has a parent in another group of the same session.
fn orphaned(current: &CurrentTask) -> bool {
    let (pgid, sid) = (current.group.pgid(), current.group.sid());
    !super::process::members(pgid)
        .iter()
        .any(|g| g.parent().is_some_and(|p| p.pgid() != pgid && p.sid() == sid))
}

/// Puts a frame on the program's stack and lets it go on in the handler.
fn push_frame(current: &CurrentTask, info: &SigInfo, action: &SigAction) -> Result<()> {
    if action.flags & u64::from(c::SA_RESTORER) == 0 {
        return Err(Errno::EFAULT);
    }
    let state = {
        let mut fpu = current.fpu.lock();
        fpu::save(&mut fpu);
        fpu.export(&current.ctx())
    };
    let (mask, alt) = {
        let mut signals = current.signals.lock();
        let mask = signals.saved.take().unwrap_or(signals.blocked);
        (mask, signals.alt_stack)
    };
    current.restore_mask.store(false, Ordering::Relaxed);
    let rsp = current.ctx().rsp;
    let on_stack = action.flags & u64::from(c::SA_ONSTACK) != 0;
    let top = if on_stack && alt.size != 0 && !alt.holds(rsp) {
        alt.sp.checked_add(alt.size).ok_or(Errno::EFAULT)?
    } else {
        rsp.wrapping_sub(RED_ZONE)
    };
    let room = state.len() as u64 + 4;
    let fpstate = top.wrapping_sub(room) & !63;
    let at = (fpstate.wrapping_sub(size_of::<Frame>() as u64) & !15).wrapping_sub(8);
    if alt.holds(rsp) && on_stack && at < alt.sp {
        return Err(Errno::EFAULT);
    }
    let mut stack = alt;
    stack.flags = if alt.size == 0 {
        c::SS_DISABLE as i32
    } else if alt.holds(rsp) {
        c::SS_ONSTACK as i32
    } else {
        alt.flags
    };
    let frame = {
        let x = current.ctx();
        Frame {
            return_address: action.restorer,
            uc_flags: UC_FLAGS,
            uc_link: 0,
            stack,
            regs: [
                x.r8, x.r9, x.r10, x.r11, x.r12, x.r13, x.r14, x.r15, x.rdi, x.rsi, x.rbp, x.rbx, x.rdx,
                x.rax, x.rcx, x.rsp, x.rip, x.rflags,
            ],
            cs: x.cs as u16,
            gs: 0,
            fs: 0,
            ss: x.ss as u16,
            error: if x.vector == VECTOR_SYSCALL { 0 } else { x.error },
            trap: if x.vector == VECTOR_SYSCALL { 0 } else { x.vector },
            old_mask: mask,
            cr2: x.cr2,
            fpstate,
            reserved: [0; 8],
            mask,
            info: *info,
        }
    };
    current.write_bytes(fpstate, &frame_state(state))?;
    current.write_obj(at, &frame)?;
    {
        let mut ctx = current.ctx_mut();
        ctx.rip = action.handler;
        ctx.rsp = at;
        ctx.rdi = u64::from(info.signal());
        ctx.rsi = at + core::mem::offset_of!(Frame, info) as u64;
        ctx.rdx = at + core::mem::offset_of!(Frame, uc_flags) as u64;
        ctx.rax = 0;
        ctx.rflags &= !CLEARED_FLAGS;
        ctx.vector = 0;
        ctx.sanitize();
        if ctx.rip >= current.mm_ref().user_top {
            // The program jumps into nowhere: the fault is its own.
            ctx.rip = 0;
        }
    }
    let mut signals = current.signals.lock();
    signals.blocked |= action.mask;
    if action.flags & u64::from(c::SA_NODEFER) == 0 {
        signals.blocked |= bit(info.signal());
    }
    signals.blocked &= !signal::UNBLOCKABLE;
    if alt.flags & i32::MIN != 0 {
        // SS_AUTODISARM
        signals.alt_stack = AltStack::default();
    }
    drop(signals);
    current.attention.store(true, Ordering::SeqCst);
    Ok(())
}

/// The extended state with the marks that tell of it.
fn frame_state(mut state: Vec<u8>) -> Vec<u8> {
    let size = state.len() as u32;
    state[SW_RESERVED..SW_RESERVED + 4].copy_from_slice(&FP_XSTATE_MAGIC1.to_le_bytes());
    state[SW_RESERVED + 4..SW_RESERVED + 8].copy_from_slice(&(size + 4).to_le_bytes());
    state[SW_RESERVED + 8..SW_RESERVED + 16].copy_from_slice(&fpu::xcr0().to_le_bytes());
    state[SW_RESERVED + 16..SW_RESERVED + 20].copy_from_slice(&size.to_le_bytes());
    state.extend_from_slice(&FP_XSTATE_MAGIC2.to_le_bytes());
    state
}

/// rt_sigreturn(2): takes the registers back from the frame. Returns RAX.
///
/// # Errors
/// EFAULT where the frame cannot be read or is not valid: the program gets SIGSEGV.
pub fn sigreturn(current: &CurrentTask) -> Result<u64> {
    let at = current.ctx().rsp.wrapping_sub(8);
    let frame: Frame = current.read_obj(at)?;
    let mut state = Vec::new();
    if frame.fpstate != 0 {
        let mut legacy = [0u8; 512];
        current.read_bytes(frame.fpstate, &mut legacy)?;
        let word =
            |at: usize| u32::from_le_bytes([legacy[at], legacy[at + 1], legacy[at + 2], legacy[at + 3]]);
        let size = word(SW_RESERVED + 16) as usize;
        state.extend_from_slice(&legacy);
        if word(SW_RESERVED) == FP_XSTATE_MAGIC1 && size >= 576 && size <= fpu::area_size() {
            let mut rest = alloc::vec![0; size - 512];
            current.read_bytes(frame.fpstate + 512, &mut rest)?;
            state.extend_from_slice(&rest);
        }
    }
    {
        let mut ctx = current.ctx_mut();
        let [r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags] =
            frame.regs;
        (ctx.r8, ctx.r9, ctx.r10, ctx.r11) = (r8, r9, r10, r11);
        (ctx.r12, ctx.r13, ctx.r14, ctx.r15) = (r12, r13, r14, r15);
        (ctx.rdi, ctx.rsi, ctx.rbp, ctx.rbx) = (rdi, rsi, rbp, rbx);
        (ctx.rdx, ctx.rax, ctx.rcx, ctx.rsp) = (rdx, rax, rcx, rsp);
        (ctx.rip, ctx.rflags) = (rip, rflags);
        ctx.vector = 0;
        ctx.sanitize();
        let mut fpu = current.fpu.lock();
        if state.is_empty() {
            fpu.reset();
        } else if !fpu.import(&state, &mut ctx) {
            return Err(Errno::EFAULT);
        }
        if ctx.rip >= current.mm_ref().user_top {
            return Err(Errno::EFAULT);
        }
    }
    let mut signals = current.signals.lock();
    signals.blocked = frame.mask & !signal::UNBLOCKABLE;
    let flags = frame.stack.flags & !(c::SS_ONSTACK as i32);
    if frame.stack.size != 0 || flags & c::SS_DISABLE as i32 != 0 {
        signals.alt_stack = AltStack { flags, ..frame.stack };
        if flags & c::SS_DISABLE as i32 != 0 {
            signals.alt_stack = AltStack::default();
        }
    }
    drop(signals);
    current.attention.store(true, Ordering::SeqCst);
    let rax = current.ctx().rax;
    Ok(rax)
}

/// Sets the mask for the length of a call (sigsuspend, ppoll, ...): it goes back when the call ends or, where a
/// handler runs, when that returns.
pub fn set_temporary_mask(current: &Task, mask: u64) {
    let mut signals = current.signals.lock();
    let old = signals.blocked;
    if signals.saved.is_none() {
        signals.saved = Some(old);
    }
    signals.blocked = mask & !signal::UNBLOCKABLE;
    drop(signals);
    current.restore_mask.store(true, Ordering::Relaxed);
    current.attention.store(true, Ordering::SeqCst);
}
