//! Exceptions and interrupts taken in ring 0.

use super::{cpu, entry, port};
use abi::boot::VECTOR_TIMER;
use core::sync::atomic::Ordering;

/// What a trap of ring 0 leaves on its stack.
#[repr(C)]
pub struct KernelFrame {
    regs: [u64; 15],
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// Interrupts come in ring 0 only while a vCPU is idle; faults only at the instructions of the exception table.
/// Everything else is a bug.
pub(super) extern "C" fn kernel_trap(frame: &mut KernelFrame) {
    if frame.vector >= 32 {
        port::end_of_interrupt(frame.vector);
        if frame.vector == u64::from(VECTOR_TIMER) {
            cpu::this().timer_fired.store(true, Ordering::Relaxed);
        }
        return;
    }
    let rip = frame.rip;
    if rip == (&raw const entry::runsc_xrstor_insn).expose_provenance() as u64 {
        frame.rip = (&raw const entry::runsc_xrstor_fixup).expose_provenance() as u64;
        return;
    }
    panic!(
        "trap {} in the sentry: error {:#x} rip {:#x} rsp {:#x} cr2 {:#x} cpu {}",
        frame.vector,
        frame.error,
        rip,
        frame.rsp,
        cpu::cr2(),
        cpu::id()
    );
}
