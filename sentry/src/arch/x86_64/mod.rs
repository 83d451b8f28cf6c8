//! x86-64.

pub mod apic;
mod bases;
pub mod boot;
pub mod context;
pub mod cpu;
mod entry;
pub mod fpu;
pub mod hostcall;
pub mod pgtable;
pub mod port;
pub mod stack;
pub mod systrap;
pub mod traps;
pub mod tsc;
pub mod vdso;

pub use bases::Bases;
pub use context::UserContext;
pub use entry::{runsc_start, runsc_syscall_hw, runsc_syscall_pvm};
pub use hostcall::{host_call, relax};

/// A word of guest memory that the VMM and the sentry share.
pub fn shared_word(gpa: u64) -> &'static core::sync::atomic::AtomicU64 {
    // SAFETY: callers pass the address of a page that the host interface sets aside, in guest memory for good.
    unsafe { &*crate::mm::frames::physmap(gpa).cast() }
}

/// Extends the map of guest memory by a piece of an image, to be read only. `None`: no memory for page tables.
pub fn map_image(gpa: u64, len: u64) -> Option<()> {
    pgtable::map_image(gpa, len)
}

/// Return addresses of the calling functions, innermost first, 0 where they end. The image is built with frame
/// pointers.
pub fn backtrace() -> [u64; 24] {
    let mut out = [0; 24];
    let mut frame: u64;
    // SAFETY: reads the frame pointer.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) frame, options(nostack, preserves_flags, nomem)) };
    for slot in &mut out {
        // Kernel addresses only: a damaged chain must not fault.
        if frame < abi::boot::SYSTRAP_IMAGE_BASE || !frame.is_multiple_of(8) {
            break;
        }
        // SAFETY: frame records of kernel stacks, which stay mapped.
        let (next, address) = unsafe { (*(frame as *const u64), *((frame + 8) as *const u64)) };
        *slot = address;
        if next <= frame {
            break;
        }
        frame = next;
    }
    out
}
