//! The loop in which a task runs its program and serves what it asks for.

use super::sched;
use super::signal::{self, SigInfo};
use super::task::{CurrentTask, Task};
use super::{deliver, freeze};
use crate::arch::context::{VECTOR_NO_MEMORY, VECTOR_SYSCALL};
use crate::arch::{UserContext, cpu, fpu, port};
use crate::mm::{AccessKind, FaultError};
use crate::syscalls;
use abi::boot::{VECTOR_EVENT, VECTOR_IPI, VECTOR_TIMER};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;

/// Error-code bits of a page fault: a write, an instruction fetch.
const PF_WRITE: u64 = 2;
const PF_FETCH: u64 = 16;

/// Serves a program until its task ends.
pub fn serve(task: Arc<Task>, ctx: UserContext) {
    let Ok(current) = CurrentTask::new(task, ctx) else { return };
    while !current.ended.get() {
        if current.attention.load(Ordering::SeqCst) {
            // A handler's frame takes memory, and comes without a system call.
            if crate::mm::frames::low() && super::oom::may_wait() {
                super::oom::relieve();
            }
            deliver::handle(&current);
            continue;
        }
        if freeze::requested() {
            sched::stand_aside();
            continue;
        }
        if super::cputime::look(&current) {
            // Signals may have come of it.
            continue;
        }
        if current.mm_ref().drop_cut_images() {
            continue;
        }
        // What may wait comes before the last look at all of this: who waits may go on on another vCPU, where another
        // address space is loaded. The space goes first: the one that was loaded before may be the last of an ended
        // process, whose memory is needed now.
        if sched::activate(&current.mm_ref()) {
            continue;
        }
        if current.switched.swap(false, Ordering::Relaxed) {
            super::rseq::resume(&current);
            continue;
        }
        enter(&current);
        // What waited for this vCPU to let go of it, if anything did.
        crate::mm::quarantine::drain();
        handle(&current);
    }
}

/// Runs the program until something happens. Its address space is the loaded one; nothing here waits before it runs.
fn enter(current: &CurrentTask) {
    let mm = current.mm_ref();
    sched::arm();
    let mut fpu = current.fpu.lock();
    fpu::load(&mut fpu);
    let mut ctx = current.ctx_mut();
    cpu::set_frame(&ctx);
    port::enter_user(&mut ctx, mm.space(), &mut fpu, &current.bases);
}

/// Serves what brought the task into the kernel.
fn handle(current: &CurrentTask) {
    let (vector, error, cr2) = {
        let ctx = current.ctx();
        (ctx.vector, ctx.error, ctx.cr2)
    };
    match vector {
        VECTOR_SYSCALL => syscalls::serve(current),
        VECTOR_NO_MEMORY => super::oom::relieve_by_force(),
        14 => page_fault(current, error, cr2),
        v if v >= 32 => interrupt(v),
        v => exception(current, v, error),
    }
}

/// An interrupt of a vCPU that ran a program.
fn interrupt(vector: u64) {
    port::end_of_interrupt(vector);
    if vector == u64::from(VECTOR_TIMER) {
        sched::timer_fired();
        super::reclaim::look();
    }
    if vector == u64::from(VECTOR_EVENT) {
        super::events::poll();
    }
    if vector != u64::from(VECTOR_IPI) || super::events::pending() {
        super::events::poll();
    }
    crate::mm::quarantine::drain();
    if vector == u64::from(VECTOR_IPI) {
        // Another may have changed the affinity.
        sched::migrate();
    }
    sched::tick(true);
}

fn page_fault(current: &CurrentTask, error: u64, address: u64) {
    let kind = if error & PF_WRITE != 0 {
        AccessKind::Write
    } else if error & PF_FETCH != 0 {
        AccessKind::Exec
    } else {
        AccessKind::Read
    };
    let result = current.mm_ref().fault(address, kind);
    let info = match result {
        Ok(()) => return,
        Err(FaultError::NotMapped) => SigInfo::fault(c::SIGSEGV, c::SEGV_MAPERR as i32, address),
        Err(FaultError::NoAccess) => SigInfo::fault(c::SIGSEGV, c::SEGV_ACCERR as i32, address),
        Err(FaultError::Bus) => SigInfo::fault(c::SIGBUS, c::BUS_ADRERR as i32, address),
        Err(FaultError::NoMemory) => {
            super::oom::relieve();
            return;
        }
    };
    crate::debug!(
        "task {}: fault at {address:#x}, rip {:#x}, error {error:#x}",
        current.tid(),
        current.ctx().rip
    );
    signal::force(current.task(), info);
}

/// An exception of the program, as signal(7) has it.
fn exception(current: &CurrentTask, vector: u64, error: u64) {
    let rip = current.ctx().rip;
    let info = match vector {
        0 => SigInfo::fault(c::SIGFPE, c::FPE_INTDIV as i32, rip),
        1 => {
            current.ctx_mut().rflags &= !crate::arch::context::FLAG_TF;
            SigInfo::fault(c::SIGTRAP, c::TRAP_TRACE as i32, rip)
        }
        3 => SigInfo::kernel(c::SIGTRAP),
        4 => SigInfo::kernel(c::SIGSEGV),
        5 => SigInfo::kernel(c::SIGSEGV),
        6 => SigInfo::fault(c::SIGILL, c::ILL_ILLOPN as i32, rip),
        16 | 19 => SigInfo::fault(c::SIGFPE, c::FPE_FLTINV as i32, rip),
        17 => SigInfo::fault(c::SIGBUS, c::BUS_ADRALN as i32, 0),
        12 => SigInfo::kernel(c::SIGBUS),
        _ => SigInfo::kernel(c::SIGSEGV),
    };
    crate::debug!("task {}: exception {vector} error {error:#x} at {rip:#x}", current.tid());
    signal::force(current.task(), info);
}
