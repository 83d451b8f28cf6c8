//! The port to `systrap`: programs run in stub processes, see [`abi::systrap`].
//!
//! A stub is one vCPU's TLB for one address space: pages are mapped in it when the program faults on them, and
//! unmapped before the program runs on when the page tables have lost rights.

mod area;
mod frame;
mod host;
mod pace;
mod stub;
mod stubs;

pub use self::stub::Stub;
pub use self::stubs::{Holders, Stubs};

use self::frame::Frame;
use self::host::{futex_wait, futex_wait_two, futex_wake};
use super::bases::Bases;
use super::context::{UserContext, VECTOR_NO_MEMORY, VECTOR_SYSCALL};
use super::cpu;
use super::fpu::FpuState;
use super::pgtable::Space;
use super::port;
use crate::kernel::sched;
use crate::mm::frames::image;
use abi::boot::{CPU_HOSTCALL, MAX_CPUS, VECTOR_IPI, VECTOR_TIMER};
use abi::systrap::{
    CALL_DONE, CALL_IDLE, CALL_REQUEST, CPU_CALL_STATE, CPU_KICK, STATE_RUN, STUB_KICK_SIGNAL, StubControl,
};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use linux_raw_sys::general as c;

/// How long is looked for the stop of a stub on another CPU before this thread waits in futex(2).
const LOOK_NS: u64 = 20 * crate::time::US;

/// A word of a vCPU's area.
fn cpu_word(cpu: usize, offset: u64) -> &'static AtomicU32 {
    // SAFETY: the area is in guest memory for good, and the word is only used atomically by both sides.
    unsafe { &*((cpu::cpu_area_va(cpu) + CPU_HOSTCALL + offset) as *const AtomicU32) }
}

/// A quadword of this vCPU's area that does not change while it runs.
fn cpu_mask(offset: u64) -> u64 {
    // SAFETY: the area is in guest memory for good, the VMM has written the word before the vCPU began.
    unsafe { *((cpu::cpu_area_va(cpu::id()) + CPU_HOSTCALL + offset) as *const u64) }
}

/// Lets the broker serve this vCPU's host-call block.
pub(super) fn host_call() {
    let state = cpu_word(cpu::id(), CPU_CALL_STATE);
    state.store(CALL_REQUEST, Ordering::SeqCst);
    futex_wake(state);
    while state.load(Ordering::SeqCst) != CALL_DONE {
        futex_wait(state, CALL_REQUEST, None);
    }
    state.store(CALL_IDLE, Ordering::SeqCst);
}

/// Takes a page of the kernel zone away from this process, for good. `false`: the host refuses, for want of room.
pub(super) fn forbid_page(address: u64) -> bool {
    host::host_syscall(c::__NR_mprotect, [address, abi::PAGE_SIZE, u64::from(c::PROT_NONE), 0, 0, 0]) == 0
}

/// When each vCPU's timer fires, ns of CLOCK_MONOTONIC.
static ARMED: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(u64::MAX) }; MAX_CPUS];

pub(super) fn arm(ns: u64) {
    ARMED[cpu::id()].store(crate::time::monotonic_ns().saturating_add(ns), Ordering::SeqCst);
}

fn deadline() -> Option<u64> {
    match ARMED[cpu::id()].load(Ordering::SeqCst) {
        u64::MAX => None,
        at => Some(at),
    }
}

fn timer_expired() -> bool {
    let armed = &ARMED[cpu::id()];
    if armed.load(Ordering::SeqCst) <= crate::time::monotonic_ns() {
        armed.store(u64::MAX, Ordering::SeqCst);
        return true;
    }
    false
}

pub(super) fn kick(cpu: usize) {
    let word = cpu_word(cpu, CPU_KICK);
    word.store(1, Ordering::SeqCst);
    futex_wake(word);
}

pub(super) fn idle(ready: bool) -> bool {
    let word = cpu_word(cpu::id(), CPU_KICK);
    if !ready {
        futex_wait(word, 0, deadline());
    }
    word.store(0, Ordering::SeqCst);
    timer_expired()
}

/// Runs the program in this vCPU's stub of the space until it stops.
pub(super) fn enter(ctx: &mut UserContext, space: &Space, fpu: &mut FpuState, bases: &Bases) {
    let resolved = (ctx.vector == 14).then_some(ctx.cr2);
    let Some(stubs) = space.stubs() else { return died(ctx) };
    // Both are read before the stub is brought up to date: what is taken away later is of a later generation.
    let generation = port::generation();
    let Some(mut stub) = stubs.take(generation, space.invalidations()) else {
        // No process for it: the program cannot run until others end.
        ctx.vector = VECTOR_NO_MEMORY;
        return;
    };
    stub.flush(space);
    if !stub.is_dead() {
        stubs.set_clean(generation);
    }
    if let Some(address) = resolved
        && !stub.is_dead()
    {
        stub.map_around(space, address);
        stub.flush(space);
    }
    match Frame::of(&stub) {
        Some(frame) if !stub.is_dead() => run(&mut stub, frame, ctx, fpu, bases),
        _ => stub.give_up(),
    }
    if stub.is_dead() {
        died(ctx);
    }
    stubs.put(stub);
}

/// The program has destroyed its stub: it gets what a fault gives that nothing can mend.
fn died(ctx: &mut UserContext) {
    ctx.vector = 13;
    ctx.error = 0;
}

fn run(stub: &mut Stub, frame: Frame, ctx: &mut UserContext, fpu: &mut FpuState, bases: &Bases) {
    frame.load(stub, ctx, fpu);
    let (fs, gs) = bases.kept();
    stub.write(offset_of!(StubControl, fs_base) as u64, fs);
    stub.write(offset_of!(StubControl, gs_base) as u64, gs);
    let kick = cpu_word(cpu::id(), CPU_KICK);
    let mut vector = 0;
    let begin = crate::time::monotonic_ns();
    let away = stub.pace.is_away();
    stub.set_waits(!away);
    let mut slept = stub.command(STATE_RUN);
    if away && !look(stub, kick, begin) {
        slept = true;
        stub.set_waits(true);
    }
    while stub.state().load(Ordering::SeqCst) == STATE_RUN {
        let (timer, kicked) = (timer_expired(), kick.swap(0, Ordering::SeqCst) != 0);
        if timer || kicked {
            vector = if timer { VECTOR_TIMER } else { VECTOR_IPI };
            stub.signal(STUB_KICK_SIGNAL);
            stub.wait_stopped();
            break;
        }
        let second = crate::time::monotonic_ns() + crate::time::NS;
        let until = deadline().map_or(second, |d| d.min(second));
        futex_wait_two((stub.state(), STATE_RUN), (kick, 0), Some(until));
        if stub.state().load(Ordering::SeqCst) == STATE_RUN && stub.is_gone() {
            stub.give_up();
        }
        if stub.is_dead() {
            return;
        }
    }
    let Some(frame) = Frame::of(stub) else {
        stub.give_up();
        return;
    };
    frame.store(stub, ctx, fpu);
    bases.keep(stub.field(offset_of!(StubControl, fs_base)), stub.field(offset_of!(StubControl, gs_base)));
    let stop = frame.stop(stub);
    ctx.error = stop.error;
    ctx.cr2 = stop.cr2;
    ctx.vector = match stop.signal {
        c::SIGSYS => {
            ctx.error = ctx.rax;
            // 32-bit system calls are not there.
            if stop.native_call { VECTOR_SYSCALL } else { 13 }
        }
        s if u64::from(s) == STUB_KICK_SIGNAL => u64::from(if vector == 0 { VECTOR_IPI } else { vector }),
        // A page of an image that the host cannot read.
        c::SIGBUS if stop.trap == 14 && !image::check() => 12,
        _ if stop.trap < 32 => stop.trap,
        _ => 13,
    };
    let ns = crate::time::monotonic_ns() - begin;
    if let Some(to) = stub.pace.stopped(ns, ctx.vector == VECTOR_SYSCALL, slept, sched::any_idle) {
        stub.go(to);
    }
    if vector == VECTOR_TIMER && ctx.vector != u64::from(VECTOR_TIMER) {
        // The program stopped by itself first: the timer is still to be told of.
        ARMED[cpu::id()].store(0, Ordering::SeqCst);
    }
}

/// Looks for the stop of a stub for a while; `false`: it has not come.
fn look(stub: &Stub, kick: &AtomicU32, begin: u64) -> bool {
    loop {
        for _ in 0..32 {
            if stub.state().load(Ordering::SeqCst) != STATE_RUN {
                return true;
            }
            core::hint::spin_loop();
        }
        if kick.load(Ordering::Relaxed) != 0 || crate::time::monotonic_ns() - begin > LOOK_NS {
            return false;
        }
    }
}
