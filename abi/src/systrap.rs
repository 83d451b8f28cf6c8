//! Platform `systrap`: who is who, and what they share.
//!
//! Three kinds of processes make a sandbox. The *broker* is the VMM: it holds the host's descriptors and serves the
//! host calls. The *sentry process* maps the image at [`SYSTRAP_IMAGE_BASE`](crate::boot::SYSTRAP_IMAGE_BASE) and all
//! guest memory at [`SYSTRAP_PHYSMAP`](crate::boot::SYSTRAP_PHYSMAP), and has one host thread for each vCPU.
//! A *stub* is a process that runs programs of one address space on one vCPU: it maps frames of the user zone only,
//! and acts as that vCPU's TLB: what it has mapped is a part of what the page tables say, and is unmapped before
//! the program runs on when the tables lose rights.
//!
//! Guest memory is two memfds: the kernel zone at guest-physical 0 up, the user zone at [`USER_ZONE_GPA`] up; the
//! offset in the memfd is the guest-physical address less the zone's start.
//!
//! A stub has one thread. Its signal handlers run on an alternate stack inside its area ([`STUB_AREA`]), so that the
//! kernel writes the program's registers where the sentry reads them. It talks through [`StubControl`]:
//!
//! * it stores the address of the `ucontext` and the signal, sets `state` to [`STATE_STOPPED`], wakes the sentry if
//!   `sentry_waits`, looks `spins` times for a new state, then sets `stub_waits` and waits in futex(2);
//! * [`STATE_RUN`]: it loads FS and GS base and returns from the signal: the program runs;
//! * [`STATE_OPERATE`]: it makes the system call in `operation` (number and six arguments) at the one instruction
//!   where the filter lets it. Whoever calls there goes on in the stub's own code: the result is stored, then it is
//!   stopped again; where `ucontext` is 0, by a signal, so that there is a new frame.
//!
//! The filter of a stub: at the stub's own system-call instructions futex(2) and rt_sigreturn(2) are let through,
//! mmap(2), munmap(2) and mprotect(2) go to the vCPU's listener (seccomp user notification), where the sentry checks
//! them against what it asked for; everything else raises SIGSYS. A program can jump to these instructions, so
//! whatever comes from a stub is hostile.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Start of the user zone in guest-physical space; the kernel zone lies below.
pub const USER_ZONE_GPA: u64 = 0x10_0000_0000;
/// First address that programs can not use under `systrap`: above lie the stub's code and area.
pub const STUB_USER_TOP: u64 = 0x7fff_0000_0000;
/// Address of the stub's code in its process: one page, read and execute.
pub const STUB_CODE: u64 = 0x7fff_1000_0000;
/// Address of a stub's area in its process.
pub const STUB_AREA: u64 = 0x7fff_2000_0000;
/// Bytes of a stub area: 2^3 frames of the user zone. The first page is [`StubControl`], the rest the alternate stack.
pub const STUB_AREA_SIZE: u64 = 8 * 4096;
/// Order of a stub area.
pub const STUB_AREA_ORDER: u8 = 3;
/// Descriptor of the user zone's memfd in every stub.
pub const STUB_MEMFD: u64 = 3;
/// First descriptor of an image of a file system in every stub: image n's is this plus n. They are open for reading only.
pub const STUB_IMAGE_FD: u64 = STUB_MEMFD + 1;
/// First descriptor of the sentry process that is a listener: vCPU n's is this plus n.
pub const LISTENER_FD: u64 = 10;
/// Signal that interrupts a stub (SIGURG): the sentry sends it with tgkill(2).
pub const STUB_KICK_SIGNAL: u64 = 23;

/// Signals that a stub takes, its own faults and the kick: SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGURG, SIGSYS.
pub const STUB_SIGNALS: [i32; 7] = [4, 5, 7, 8, 11, STUB_KICK_SIGNAL as i32, 31];
/// Signals that are blocked while a program runs: all others, bit 0 for signal 1.
pub const STUB_SIGNAL_MASK: u64 = {
    let (mut mask, mut i) = (u64::MAX, 0);
    while i < STUB_SIGNALS.len() {
        mask &= !(1 << (STUB_SIGNALS[i] - 1));
        i += 1;
    }
    mask
};

/// No number of a signal: what `signal` is set to before a stop is awaited.
pub const NO_SIGNAL: u32 = u32::MAX;

/// The stub waits for the sentry.
pub const STATE_STOPPED: u32 = 0;
/// The program runs.
pub const STATE_RUN: u32 = 1;
/// The stub makes the system call in `operation`.
pub const STATE_OPERATE: u32 = 2;

/// First page of a stub area.
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct StubControl {
    /// `STATE_*`; a futex.
    pub state: u32,
    /// Signal that stopped the program; 0 after an operation and at the start.
    pub signal: u32,
    /// Address (in the stub) of the `ucontext` on the alternate stack.
    pub ucontext: u64,
    /// Address of the `siginfo`.
    pub siginfo: u64,
    /// FS base, kept and loaded.
    pub fs_base: u64,
    /// GS base, kept and loaded.
    pub gs_base: u64,
    /// Number and arguments of an operation.
    pub operation: [u64; 7],
    /// Its result.
    pub result: i64,
    /// Turns that the stub looks for a new state before it waits in futex(2).
    pub spins: u64,
    /// Not 0: the stub waits in futex(2), or is about to look at `state` once more and then wait.
    pub stub_waits: u32,
    /// The same of the sentry.
    pub sentry_waits: u32,
}

/// Offset in a vCPU's area (in the page of the host-call block) of the word through which host calls go.
pub const CPU_CALL_STATE: u64 = 0x100;
/// No call.
pub const CALL_IDLE: u32 = 0;
/// The sentry has filled the block in; the broker's thread of this vCPU serves it.
pub const CALL_REQUEST: u32 = 1;
/// The answer is in the block.
pub const CALL_DONE: u32 = 2;
/// Offset of the word that is set to 1 and woken to interrupt a vCPU, by the broker or another vCPU.
pub const CPU_KICK: u64 = 0x104;
/// Offset of a quadword: the CPU that this vCPU's thread and stubs run on, as a mask.
pub const CPU_HOME: u64 = 0x108;
/// Offset of a quadword: another CPU, on which a stub can run while the vCPU's thread looks at its control words all
/// the time; 0 where there is none.
pub const CPU_AWAY: u64 = 0x110;
