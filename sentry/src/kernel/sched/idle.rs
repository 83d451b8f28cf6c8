//! vCPUs without a task: the idle loop, and the address space that a vCPU may still have loaded.

use super::{
    CPUS, IDLE_CPUS, arm, finish_switch, has_work, leave_to, online, pick, start_running, this, timer_fired,
};
use crate::arch::{cpu, port};
use crate::kernel::{events, freeze, reclaim, timer};
use crate::mm::quarantine;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

/// Lets idle vCPUs go round their loop, where they give up what nobody uses any more.
pub fn rouse_idle() {
    let me = cpu::id();
    let idle = |cpu: &usize| *cpu != me && CPUS[*cpu].idle.load(Ordering::SeqCst);
    (0..cpu::count()).filter(idle).for_each(port::kick);
}

/// Gives up the loaded address space, if nobody else uses it any more.
pub fn release_space() {
    let cpu = this();
    let mut active = cpu.active.lock();
    if active.as_ref().is_some_and(|mm| Arc::strong_count(mm) == 1) {
        port::load_kernel_space();
        let old = active.take();
        drop(active);
        drop(old);
    }
}

/// Gives up the loaded address space, whoever uses it: this vCPU is to hold nothing.
pub fn let_go() {
    let cpu = this();
    let mut active = cpu.active.lock();
    port::load_kernel_space();
    let old = active.take();
    drop(active);
    drop(old);
}

/// In a machine that was made of a frozen one's memory, before its vCPUs run: tasks that waited for a vCPU that is not
/// there any more go to the first.
pub fn restored() {
    for cpu in &CPUS {
        cpu.armed.store(u64::MAX, Ordering::Relaxed);
    }
    for gone in CPUS.iter().skip(cpu::count()) {
        let tasks = core::mem::take(&mut *gone.queue.lock());
        gone.queued.store(0, Ordering::SeqCst);
        let mut queue = CPUS[0].queue.lock();
        queue.extend(tasks);
        CPUS[0].queued.store(queue.len(), Ordering::SeqCst);
    }
}

/// The loop of a vCPU that has no task. Never returns.
pub fn idle_loop() -> ! {
    loop {
        finish_switch();
        if freeze::requested() {
            freeze::barrier();
            continue;
        }
        events::poll();
        timer::run_expired(crate::time::monotonic_ns());
        quarantine::drain();
        let cpu = this();
        if let Some(next) = pick() {
            let now = crate::time::monotonic_ns();
            start_running(&next, now);
            *cpu.current.lock() = Some(next.clone());
            leave_to(&cpu.idle_context, next);
            continue;
        }
        release_space();
        reclaim::look();
        cpu.idle.store(true, Ordering::SeqCst);
        // One that no task may run on is none that could take some.
        let counted = usize::from(cpu::id() < online());
        IDLE_CPUS.fetch_add(counted, Ordering::SeqCst);
        let start = crate::time::monotonic_ns();
        arm();
        let fired = port::idle(|| has_work(cpu::id()) || events::pending() || freeze::requested());
        IDLE_CPUS.fetch_sub(counted, Ordering::SeqCst);
        cpu.idle.store(false, Ordering::SeqCst);
        let now = crate::time::monotonic_ns();
        cpu.idle_ns.fetch_add(now.saturating_sub(start), Ordering::Relaxed);
        if fired {
            timer_fired();
        }
    }
}
