//! The signal frame of a stopped stub: the program's registers, as the host's kernel left them and will load them.
//! A program can write there, so all of it is hostile.

use super::stub::Stub;
use crate::arch::x86_64::context::UserContext;
use crate::arch::x86_64::fpu::{self, FpuState};
use crate::mm::frames;
use abi::PAGE_SIZE;
use abi::systrap::{STUB_AREA, STUB_AREA_SIZE, STUB_SIGNAL_MASK, StubControl};
use core::mem::offset_of;

/// Offsets in a `ucontext`.
const UC_STACK: u64 = 16;
const UC_REGS: u64 = 40;
const UC_ERROR: u64 = UC_REGS + 152;
const UC_TRAP: u64 = UC_REGS + 160;
const UC_CR2: u64 = UC_REGS + 176;
const UC_FPSTATE: u64 = UC_REGS + 184;
const UC_MASK: u64 = UC_REGS + 256;
const UC_SIZE: u64 = UC_MASK + 8;
/// Bytes of a siginfo, and the offset of the architecture in that of a SIGSYS.
const SIGINFO_SIZE: u64 = 128;
const SI_ARCH: u64 = 28;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// Why a program stopped.
pub(super) struct Stop {
    /// Signal.
    pub signal: u32,
    /// A system call of the 64-bit ABI.
    pub native_call: bool,
    /// Number of an exception, error code, and the address of a page fault.
    pub trap: u64,
    pub error: u64,
    pub cr2: u64,
}

/// Offset of a frame in its stub's area.
#[derive(Clone, Copy)]
pub(super) struct Frame(u64);

impl Frame {
    /// The frame that the stub names, if it is where it can be.
    pub fn of(stub: &Stub) -> Option<Self> {
        let offset = stub.field(offset_of!(StubControl, ucontext)).checked_sub(STUB_AREA)?;
        (PAGE_SIZE..=STUB_AREA_SIZE - UC_SIZE).contains(&offset).then_some(Self(offset))
    }

    /// Offset in the area of the extended state, if it is where it can be.
    fn state(self, stub: &Stub) -> Option<u64> {
        let offset = stub.read(self.0 + UC_FPSTATE).checked_sub(STUB_AREA)?;
        let size = fpu::area_size() as u64;
        (offset >= PAGE_SIZE && offset <= STUB_AREA_SIZE.checked_sub(size)?).then_some(offset)
    }

    /// Puts a program's registers there. What a program before it may have left in the rest is set too: the signals
    /// that it takes, and the stack that they use.
    pub fn load(self, stub: &Stub, x: &UserContext, fpu: &FpuState) {
        let regs = [
            x.r8, x.r9, x.r10, x.r11, x.r12, x.r13, x.r14, x.r15, x.rdi, x.rsi, x.rbp, x.rbx, x.rdx, x.rax,
            x.rcx, x.rsp, x.rip, x.rflags,
        ];
        for (i, value) in regs.iter().enumerate() {
            stub.write(self.0 + UC_REGS + 8 * i as u64, *value);
        }
        for (i, value) in [STUB_AREA + PAGE_SIZE, 0, STUB_AREA_SIZE - PAGE_SIZE].into_iter().enumerate() {
            stub.write(self.0 + UC_STACK + 8 * i as u64, value);
        }
        stub.write(self.0 + UC_MASK, STUB_SIGNAL_MASK);
        if let Some(at) = self.state(stub) {
            // The marks of the host's kernel lie between the parts and stay as they are.
            fpu.export_parts(x, |offset, part| {
                // SAFETY: the range lies in the area.
                unsafe { frames::write_raw(stub.area() + at + offset as u64, part) };
            });
        }
    }

    /// Takes the program's registers from there.
    pub fn store(self, stub: &Stub, x: &mut UserContext, fpu: &mut FpuState) {
        let mut regs = [0; 18];
        for (i, slot) in regs.iter_mut().enumerate() {
            *slot = stub.read(self.0 + UC_REGS + 8 * i as u64);
        }
        let [r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags] =
            regs;
        (x.r8, x.r9, x.r10, x.r11, x.r12, x.r13, x.r14, x.r15) = (r8, r9, r10, r11, r12, r13, r14, r15);
        (x.rdi, x.rsi, x.rbp, x.rbx, x.rdx, x.rax, x.rcx) = (rdi, rsi, rbp, rbx, rdx, rax, rcx);
        (x.rsp, x.rip, x.rflags) = (rsp, rip, rflags);
        x.sanitize();
        if let Some(at) = self.state(stub) {
            // SAFETY: the range lies in the area.
            fpu.import_whole(x, |state| unsafe { frames::read_raw(stub.area() + at, state) });
        }
    }

    /// Why the program stopped.
    pub fn stop(self, stub: &Stub) -> Stop {
        let info = stub.field(offset_of!(StubControl, siginfo)).wrapping_sub(STUB_AREA);
        let native_call = (PAGE_SIZE..=STUB_AREA_SIZE - SIGINFO_SIZE).contains(&info)
            && stub.read(info + SI_ARCH) as u32 == AUDIT_ARCH_X86_64;
        Stop {
            signal: stub.signal_word(),
            native_call,
            trap: stub.read(self.0 + UC_TRAP),
            error: stub.read(self.0 + UC_ERROR),
            cr2: stub.read(self.0 + UC_CR2),
        }
    }
}
