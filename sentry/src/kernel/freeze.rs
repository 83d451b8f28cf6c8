//! Freezing: every task is switched out, every vCPU stands at a barrier in its idle loop and holds nothing of its own.
//!
//! A task is frozen where it waits, where it gives its vCPU up, or before its program would run on: a system call that
//! is in progress stays on its kernel stack, in memory. So a copy of the machine's memory at this point is the whole
//! sandbox. The first vCPU tells the VMM and waits there for the thaw; in a machine that was made of a copy it begins
//! anew, and goes on in [`restored`].

use super::{boot, random, sched};
use crate::arch::{cpu, port};
use crate::mm::quarantine;
use abi::boot::BootInfo;
use abi::control::Reply;
use abi::hostcall::{CpuStart, Frozen};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);
/// The control command that asked.
static COMMAND: AtomicU64 = AtomicU64::new(0);
/// vCPUs at the barrier, but for the first.
static ARRIVED: AtomicUsize = AtomicUsize::new(0);
/// Thaws since boot; those who stand at the barrier wait for the next.
static THAWS: AtomicU64 = AtomicU64::new(0);
/// How often this memory went into a new machine.
static RESTORES: AtomicU64 = AtomicU64::new(0);

/// Whether no task may be switched in.
#[inline]
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// How often the sandbox was restored. What belongs to the host (handles of files) is good for one value of it.
pub fn restores() -> u64 {
    RESTORES.load(Ordering::Relaxed)
}

/// Freezes the sandbox for a control command, which the VMM answers. The calling task is frozen too: this returns
/// after the thaw.
pub fn freeze(command: u64) {
    // The host sees what was stored to its files so far.
    crate::fs::bind::pages::flush_all();
    COMMAND.store(command, Ordering::Relaxed);
    REQUESTED.store(true, Ordering::SeqCst);
    let me = cpu::id();
    (0..cpu::count()).filter(|cpu| *cpu != me).for_each(port::kick);
    sched::stand_aside();
}

/// In the idle loop while a freeze is requested: waits for the other vCPUs and for the thaw.
pub fn barrier() {
    sched::let_go();
    let thaws = THAWS.load(Ordering::SeqCst);
    if cpu::id() == 0 {
        let all = || ARRIVED.load(Ordering::SeqCst) + 1 >= cpu::count();
        while !all() {
            port::idle(all);
        }
        // No vCPU is in ring 3: nothing has to wait any more.
        quarantine::drain();
        crate::time::frozen();
        if let Err(e) = crate::host::call(&Frozen { command: COMMAND.load(Ordering::Relaxed) }) {
            crate::error!("the sandbox does not stay frozen: {}", e.name());
        }
        thaw();
    } else {
        ARRIVED.fetch_add(1, Ordering::SeqCst);
        port::kick(0);
        let thawed = || THAWS.load(Ordering::SeqCst) != thaws;
        while !thawed() {
            port::idle(thawed);
        }
    }
    sched::timer_fired();
}

fn thaw() {
    ARRIVED.store(0, Ordering::SeqCst);
    REQUESTED.store(false, Ordering::SeqCst);
    THAWS.fetch_add(1, Ordering::SeqCst);
    (1..cpu::count()).for_each(port::kick);
}

/// The first vCPU of a machine that was made of a frozen one's memory, on its boot stack. CLOCK_MONOTONIC goes on
/// where it stood, CLOCK_REALTIME is the host's, and CLOCK_BOOTTIME has run on between.
pub fn restored(info: &BootInfo) -> ! {
    RESTORES.fetch_add(1, Ordering::Relaxed);
    crate::time::restore(info.tsc_khz, &info.clock);
    crate::loader::vdso::update();
    random::seed(&info.random);
    crate::fs::proc::sysctl::new_boot_id();
    boot::set_memory_limit(info.memory_limit);
    sched::restored();
    crate::control::reply(&Reply::Created { result: Ok(()) });
    thaw();
    // Who waited for a stream, or watched host files, asked another VMM to be told.
    super::events::STREAMS.wake(crate::sync::Events::all());
    super::events::files();
    if cpu::count() > 1 {
        let _ = crate::host::call(&CpuStart {});
    }
    sched::idle_loop()
}
