//! The registers of a program.

use abi::boot::{SEL_USER_CODE, SEL_USER_DATA};

/// Vector number that stands for SYSCALL in [`UserContext::vector`].
pub const VECTOR_SYSCALL: u64 = 256;
/// Stands for a program that could not run, since the host had no memory or process for it: it may be tried again.
pub const VECTOR_NO_MEMORY: u64 = 257;
/// Flags that a program may have set: the arithmetic flags, TF, DF, NT, RF, AC, ID.
pub const USER_FLAGS: u64 = 0x0025_4dd5;
/// Flags that are always set in ring 3: IF, and bit 1.
pub const FIXED_FLAGS: u64 = 0x202;
/// Flag TF.
pub const FLAG_TF: u64 = 0x100;

/// Registers of a program while its task is in the kernel. The assembler entries know this layout.
#[repr(C, align(64))]
#[derive(Clone)]
pub struct UserContext {
    /// General registers.
    pub r15: u64,
    /// R14.
    pub r14: u64,
    /// R13.
    pub r13: u64,
    /// R12.
    pub r12: u64,
    /// RBP.
    pub rbp: u64,
    /// RBX.
    pub rbx: u64,
    /// R11; after SYSCALL the flags.
    pub r11: u64,
    /// R10.
    pub r10: u64,
    /// R9.
    pub r9: u64,
    /// R8.
    pub r8: u64,
    /// RAX: number of a system call, then its result.
    pub rax: u64,
    /// RCX; after SYSCALL the return address.
    pub rcx: u64,
    /// RDX.
    pub rdx: u64,
    /// RSI.
    pub rsi: u64,
    /// RDI.
    pub rdi: u64,
    /// Why the kernel was entered: an exception or interrupt vector, or [`VECTOR_SYSCALL`].
    pub vector: u64,
    /// Error code of an exception; RAX at a system call.
    pub error: u64,
    /// Instruction pointer.
    pub rip: u64,
    /// Code segment.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
    /// XMM0 to XMM15 as they were at the entry.
    pub xmm: [u128; 16],
    /// MXCSR at the entry.
    pub mxcsr: u32,
    reserved: u32,
    /// FS base, valid while the task is switched out.
    pub fs_base: u64,
    /// GS base, valid while the task is switched out.
    pub gs_base: u64,
    /// Faulting address of the last page fault.
    pub cr2: u64,
}

/// Offset of the end of the part that the CPU and the entries push.
pub const FRAME_END: usize = core::mem::offset_of!(UserContext, xmm);

impl UserContext {
    /// Registers of a new program.
    pub fn new(rip: u64, rsp: u64) -> Self {
        Self {
            r15: 0,
            r14: 0,
            r13: 0,
            r12: 0,
            rbp: 0,
            rbx: 0,
            r11: 0,
            r10: 0,
            r9: 0,
            r8: 0,
            rax: 0,
            rcx: 0,
            rdx: 0,
            rsi: 0,
            rdi: 0,
            vector: 0,
            error: 0,
            rip,
            cs: u64::from(SEL_USER_CODE),
            rflags: FIXED_FLAGS,
            rsp,
            ss: u64::from(SEL_USER_DATA),
            xmm: [0; 16],
            mxcsr: 0x1f80,
            reserved: 0,
            fs_base: 0,
            gs_base: 0,
            cr2: 0,
        }
    }

    /// Makes what a program may have put into the frame (through a signal frame or a debugger) safe to return to.
    pub fn sanitize(&mut self) {
        self.cs = u64::from(SEL_USER_CODE);
        self.ss = u64::from(SEL_USER_DATA);
        self.rflags = (self.rflags & USER_FLAGS) | FIXED_FLAGS;
        self.mxcsr &= 0xffff;
    }

    /// System-call arguments.
    pub fn args(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }
}
