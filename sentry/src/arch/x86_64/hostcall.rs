//! Leaving the machine for a host call.

use super::cpu;
use super::port::{self, Flavour};
use abi::boot::CPU_HOSTCALL;
use abi::hostcall::{HOSTCALL_PORT, HostCall, HostCallBlock};
use core::arch::asm;

/// Makes a host call and returns its answer: a non-negative result or a negated errno.
pub fn host_call<C: HostCall>(call: &C) -> i64 {
    let block = (cpu::cpu_area_va(cpu::id()) + CPU_HOSTCALL) as *mut HostCallBlock;
    // SAFETY: the block is this vCPU's own, in guest memory for good; the VMM reads and writes it only during the
    // exit. Volatile, since the other side is not seen by the compiler.
    unsafe {
        block.write_volatile(HostCallBlock { nr: C::NR, args: call.to_args(), ret: -38 });
        match port::flavour() {
            Flavour::Systrap => super::systrap::host_call(),
            _ => asm!("out dx, al", in("dx") HOSTCALL_PORT, in("al") 0u8, options(nostack)),
        }
        (&raw const (*block).ret).read_volatile()
    }
}

/// Waits a little for a lock whose holder's vCPU may be off its CPU.
pub fn relax() {
    // Unit tests run on host threads.
    #[cfg(test)]
    std::thread::yield_now();
    #[cfg(not(test))]
    host_call(&abi::hostcall::CpuYield {});
}

/// Offset of a buffer in the page of the block, and its size.
const BOUNCE: u64 = 0x400;
const BOUNCE_SIZE: usize = 0xc00;

/// Copies text to where the VMM can read it: this vCPU's buffer, until its next use. Returns its guest-physical
/// address and length.
pub fn bounce(data: &[u8]) -> (u64, u64) {
    let at = cpu::cpu_area_va(cpu::id()) + CPU_HOSTCALL + BOUNCE;
    let n = data.len().min(BOUNCE_SIZE);
    // SAFETY: the buffer is this vCPU's own.
    unsafe { core::ptr::copy_nonoverlapping(data.as_ptr(), at as *mut u8, n) };
    (crate::mm::frames::gpa_of(at as *const u8), n as u64)
}
