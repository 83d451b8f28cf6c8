//! What differs between the flavours: entering ring 3, address-space switch, invalidation, idling, kicks, timer.

use super::context::UserContext;
use super::fpu::FpuState;
use super::pgtable::Space;
use super::{Bases, apic, cpu, entry, systrap};
use abi::boot::PlatformKind;
use core::arch::asm;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

/// How this sandbox's ring 0 is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Flavour {
    /// Paravirtual hypervisor: ring 0 at CPL 3, events through software interrupts.
    Pvm = 1,
    /// VMX or SVM.
    Hardware = 2,
    /// A process of the host.
    Systrap = 3,
}

static FLAVOUR: AtomicU8 = AtomicU8::new(0);

/// The flavour that the sandbox booted with.
#[inline]
pub fn flavour() -> Flavour {
    match FLAVOUR.load(Ordering::Relaxed) {
        1 => Flavour::Pvm,
        2 => Flavour::Hardware,
        _ => Flavour::Systrap,
    }
}

pub(super) fn set_flavour(kind: PlatformKind) {
    FLAVOUR.store(kind as u8, Ordering::Relaxed);
}

const HC_SET_CR3: u64 = 0x1001;
const HC_FLUSH_ALL: u64 = 0x1007;
const HC_HALT: u64 = 0x1009;

/// A hypercall of the pvm flavour.
fn hypercall(nr: u64, arg: u64) {
    // SAFETY: the hypercalls used here change address space, flush or halt; every register that the hypervisor may
    // change is named.
    unsafe {
        asm!("xchg rbx, {arg}", "int 0x1b", "xchg rbx, {arg}", arg = inout(reg) arg => _, inout("rax") nr => _,
             out("rcx") _, out("rdx") _, out("rsi") _, out("rdi") _, out("r8") _, out("r9") _, out("r10") _,
             out("r11") _);
    }
}

/// Costly operations since boot, for figures.
pub struct Counters {
    /// Address spaces loaded.
    pub loads: AtomicU64,
    /// Own flushes.
    pub flushes: AtomicU64,
    /// Flushes of other vCPUs.
    pub remote_flushes: AtomicU64,
    /// Waits for other vCPUs to enter the kernel.
    pub waits: AtomicU64,
    /// Timers armed.
    pub arms: AtomicU64,
    /// Times that a vCPU went idle.
    pub idles: AtomicU64,
    /// Entries from ring 3 that were page faults.
    pub faults: AtomicU64,
}

/// The counters of this sandbox.
pub static COUNTERS: Counters = Counters {
    loads: AtomicU64::new(0),
    flushes: AtomicU64::new(0),
    remote_flushes: AtomicU64::new(0),
    waits: AtomicU64::new(0),
    arms: AtomicU64::new(0),
    idles: AtomicU64::new(0),
    faults: AtomicU64::new(0),
};

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Grows with each batch of frames that awaits its grace period.
static GENERATION: AtomicU64 = AtomicU64::new(1);

/// Starts a new generation and returns it.
pub fn next_generation() -> u64 {
    GENERATION.fetch_add(1, Ordering::SeqCst) + 1
}

/// The generation that is current.
pub(super) fn generation() -> u64 {
    GENERATION.load(Ordering::SeqCst)
}

/// Runs the program until it enters the kernel: `ctx.vector` says why.
///
/// Before that this vCPU runs a flush of its own if translations of `space` were taken away since its last one.
pub fn enter_user(ctx: &mut UserContext, space: &Space, fpu: &mut FpuState, bases: &Bases) {
    let this = cpu::this();
    // The generation is published first: whoever takes translations away after the check below sees that this vCPU
    // may use them, and kicks or waits.
    this.user_generation.store(generation(), Ordering::SeqCst);
    fence(Ordering::SeqCst);
    let invalidations = space.invalidations();
    if this.flushed.load(Ordering::Relaxed) != invalidations {
        flush_local(space);
        this.flushed.store(invalidations, Ordering::Relaxed);
    }
    // SAFETY: `ctx` is sanitised by those who let programs choose its contents, and stays where it is.
    unsafe {
        match flavour() {
            Flavour::Pvm => entry::runsc_enter_user_pvm(ctx),
            Flavour::Hardware => entry::runsc_enter_user_hw(ctx),
            Flavour::Systrap => systrap::enter(ctx, space, fpu, bases),
        }
    }
    this.user_generation.store(0, Ordering::SeqCst);
    if ctx.vector == 14 {
        count(&COUNTERS.faults);
        if flavour() == Flavour::Systrap {
            return;
        }
        ctx.cr2 = cpu::cr2();
    }
}

/// Loads an address space on this vCPU.
pub fn load_space(space: &Space) {
    let this = cpu::this();
    if this.space.load(Ordering::Relaxed) == space.id() {
        return;
    }
    count(&COUNTERS.loads);
    this.space.store(space.id(), Ordering::SeqCst);
    this.flushed.store(space.invalidations(), Ordering::Relaxed);
    match flavour() {
        Flavour::Pvm => hypercall(HC_SET_CR3, space.root()),
        // SAFETY: every top-level table has the kernel half.
        Flavour::Hardware => unsafe {
            asm!("mov cr3, {}", in(reg) space.root(), options(nostack, preserves_flags))
        },
        Flavour::Systrap => {}
    }
}

/// Loads the kernel's own tables: no program's are loaded any more.
pub fn load_kernel_space() {
    let this = cpu::this();
    this.space.store(0, Ordering::SeqCst);
    let root = super::pgtable::master_root();
    match flavour() {
        Flavour::Pvm => hypercall(HC_SET_CR3, root),
        // SAFETY: the boot tables have the kernel half.
        Flavour::Hardware => unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) },
        Flavour::Systrap => {}
    }
}

fn flush_local(space: &Space) {
    count(&COUNTERS.flushes);
    match flavour() {
        Flavour::Pvm => hypercall(HC_FLUSH_ALL, 0),
        // SAFETY: as in `load_space`.
        Flavour::Hardware => unsafe {
            asm!("mov cr3, {}", in(reg) space.root(), options(nostack, preserves_flags))
        },
        Flavour::Systrap => {}
    }
}

/// Whether a vCPU may still use translations of `space` that were taken away before `generation` began.
fn may_hold(cpu: usize, space: u64, generation: u64) -> bool {
    let area = cpu::area(cpu);
    let user = area.user_generation.load(Ordering::SeqCst);
    user != 0 && user < generation && (space == 0 || area.space.load(Ordering::SeqCst) == space)
}

/// Whether no vCPU holds translations of `space` (0: of any) from before `generation`: frames that they led to may
/// be used again.
pub fn grace_passed(space: u64, generation: u64) -> bool {
    let me = cpu::id();
    (0..cpu::count()).all(|cpu| cpu == me || !may_hold(cpu, space, generation))
}

/// Makes removals and downgrades of translations of `space`, already counted by
/// [`Space::invalidate`], visible to programs on every vCPU. On return other vCPUs see them, but on pvm one may
/// still complete a store through the old translation: see [`synchronize`].
pub fn flush_remote(space: &Space) {
    let generation = next_generation();
    if grace_passed(space.id(), generation) {
        return;
    }
    if flavour() != Flavour::Pvm {
        wait_for(space.id(), generation);
        return;
    }
    count(&COUNTERS.remote_flushes);
    let invalidations = space.invalidations();
    hypercall(HC_FLUSH_ALL, 0);
    let this = cpu::this();
    if this.space.load(Ordering::Relaxed) == space.id() {
        // It counts as this vCPU's own.
        this.flushed.store(invalidations, Ordering::Relaxed);
    }
}

/// Waits until every vCPU that runs programs of `space` has entered the kernel since; each runs a flush of its own
/// before it goes back.
pub fn synchronize(space: &Space) {
    let generation = next_generation();
    if !grace_passed(space.id(), generation) {
        wait_for(space.id(), generation);
    }
}

fn wait_for(space: u64, generation: u64) {
    count(&COUNTERS.waits);
    kick_holders(space, generation);
    let mut turns = 0u32;
    let start = crate::time::monotonic_ns();
    while !grace_passed(space, generation) {
        core::hint::spin_loop();
        turns += 1;
        if turns.is_multiple_of(20_000) {
            kick_holders(space, generation);
            super::hostcall::relax();
            crate::sync::stuck(start, "a vCPU that does not enter the kernel");
        }
    }
}

/// Interrupts the vCPUs that keep frames of `generation` from being used again.
pub fn kick_holders(space: u64, generation: u64) {
    let me = cpu::id();
    for cpu in 0..cpu::count() {
        if cpu != me && may_hold(cpu, space, generation) {
            kick(cpu);
        }
    }
}

/// Interrupts all other vCPUs.
pub fn kick_others() {
    let me = cpu::id();
    (0..cpu::count()).filter(|cpu| *cpu != me).for_each(kick);
}

/// Interrupts another vCPU, so that it enters the kernel or leaves its idle loop.
pub fn kick(cpu: usize) {
    match flavour() {
        Flavour::Systrap => systrap::kick(cpu),
        _ => apic::kick(cpu),
    }
}

/// Lets a timer interrupt come after this time; where that is longer than the timer can count (4 s under kvm), it
/// comes earlier.
pub fn arm_timer(ns: u64) {
    count(&COUNTERS.arms);
    match flavour() {
        Flavour::Systrap => systrap::arm(ns),
        _ => apic::arm(ns),
    }
}

/// Called for each interrupt vector taken.
pub fn end_of_interrupt(vector: u64) {
    // On pvm no acknowledgement is needed: the in-service register stays empty.
    if flavour() == Flavour::Hardware && vector != u64::from(abi::boot::VECTOR_SPURIOUS) {
        apic::eoi();
    }
}

/// Sleeps until an interrupt comes; returns at once where one is pending. `ready` is asked after interrupts have
/// been made possible: where it says so the vCPU does not sleep. Returns whether the timer has fired, which may be a
/// little before the time that it was armed for: its clock and the TSC are not in step.
pub fn idle(ready: impl Fn() -> bool) -> bool {
    count(&COUNTERS.idles);
    match flavour() {
        Flavour::Pvm => {
            // An interrupt that comes before the halt is held until the flag is set, and ends the halt then. Code
            // that may use a red zone does not run while the flag is set.
            if !ready() {
                cpu::set_pv_if(true);
                hypercall(HC_HALT, 0);
                cpu::set_pv_if(false);
            }
        }
        Flavour::Hardware => {
            if !ready() {
                // SAFETY: the interrupt shadow of STI makes the pair atomic; handlers of ring 0 only acknowledge.
                unsafe { asm!("sti", "hlt", "cli") };
            }
        }
        Flavour::Systrap => return systrap::idle(ready()),
    }
    cpu::this().timer_fired.swap(false, Ordering::Relaxed)
}
