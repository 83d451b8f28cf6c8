//! The local APIC in x2APIC mode: timer and kicks.

use super::cpu;
use abi::boot::{VECTOR_IPI, VECTOR_SPURIOUS, VECTOR_TIMER};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

const X2APIC_EOI: u32 = 0x80b;
const X2APIC_SVR: u32 = 0x80f;
const X2APIC_ICR: u32 = 0x830;
const X2APIC_LVT_TIMER: u32 = 0x832;
const X2APIC_INITIAL_COUNT: u32 = 0x838;
const X2APIC_DIVIDE: u32 = 0x83e;

/// Longest time of the timer, in ticks, which are nanoseconds: KVM's APIC bus runs at 1 GHz, the divider is set to 1.
const MAX_COUNT: u64 = u32::MAX as u64;

fn write(register: u32, value: u64) {
    // SAFETY: x2APIC registers of this vCPU; none affects memory.
    unsafe {
        asm!("wrmsr", in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32,
             options(nostack, preserves_flags));
    }
}

/// Enables this vCPU's local APIC.
pub(super) fn init() {
    write(X2APIC_SVR, 0x100 | u64::from(VECTOR_SPURIOUS));
    write(X2APIC_DIVIDE, 0b1011);
    write(X2APIC_LVT_TIMER, u64::from(VECTOR_TIMER));
}

/// Lets the timer interrupt come after `ns` nanoseconds, once.
pub(super) fn arm(ns: u64) {
    write(X2APIC_INITIAL_COUNT, ns.clamp(1, MAX_COUNT));
}

/// Acknowledges an interrupt.
pub(super) fn eoi() {
    write(X2APIC_EOI, 0);
}

/// Interrupts another vCPU.
pub(super) fn kick(target: usize) {
    KICKS.fetch_add(1, Ordering::Relaxed);
    debug_assert!(target != cpu::id());
    write(X2APIC_ICR, (target as u64) << 32 | 0x4000 | u64::from(VECTOR_IPI));
}

/// Number of kicks sent since boot.
pub static KICKS: AtomicU64 = AtomicU64::new(0);
