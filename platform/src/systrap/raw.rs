//! Requests of the operating system that make the bare processes of systrap.

use abi::boot::MAX_CPUS;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::Error;

/// An error with the last errno unless `done` is 0.
pub fn check(done: libc::c_int, operation: &'static str) -> Result<(), Error> {
    if done == 0 { Ok(()) } else { Err(Error::os(operation)) }
}

/// A pair of connected sockets that keep messages apart.
pub fn socket_pair() -> Result<(OwnedFd, OwnedFd), Error> {
    let mut fds = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `fds` is a valid place for two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) }, "making a socket pair")?;
    // SAFETY: descriptors that were just made and that nobody else knows of.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// Lets the kernel kill this process when the thread that forked it ends.
pub fn die_with_parent() -> Result<(), Error> {
    // SAFETY: takes numbers.
    check(
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) },
        "tying a process to its parent (prctl)",
    )
}

/// A copy of a descriptor, numbered `least` or above.
pub fn raise_fd(fd: libc::c_int, least: libc::c_int) -> Result<libc::c_int, Error> {
    // SAFETY: takes numbers.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, least) };
    if copy < 0 { Err(Error::os("copying a descriptor (fcntl)")) } else { Ok(copy) }
}

/// Copies a descriptor to a number. What had that number is closed: for processes in which no value owns any.
pub fn move_fd(fd: libc::c_int, to: libc::c_int) -> Result<(), Error> {
    // SAFETY: takes numbers.
    if unsafe { libc::dup2(fd, to) } < 0 { Err(Error::os("placing a descriptor (dup2)")) } else { Ok(()) }
}

/// Closes every descriptor from `first` to `last`: for processes in which no value owns any.
pub fn close_range(first: u32, last: u32) -> Result<(), Error> {
    // SAFETY: takes numbers.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    check(done as libc::c_int, "closing descriptors (close_range)")
}

/// A `struct sigaction` of the kernel.
#[repr(C)]
struct KernelAction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

/// Bytes of the kernel's signal set.
const SET_LEN: usize = 8;
/// SA_RESTORER: the `restorer` field counts.
const SA_RESTORER: u64 = 0x0400_0000;

/// Sets the handler of a signal to code that is not this program's; the signals of `mask` (bit 0 for signal 1) are
/// blocked while it runs.
pub fn set_handler(
    signal: libc::c_int,
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
) -> Result<(), Error> {
    let action = KernelAction { handler, flags: flags | SA_RESTORER, restorer, mask };
    let none = std::ptr::null_mut::<KernelAction>();
    // SAFETY: `action` is laid out as the kernel wants it. The process does not take the signal before it has become
    // one where that code is mapped; should it do so, it dies.
    let done = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const action, none, SET_LEN) };
    check(done as libc::c_int, "setting a signal handler (rt_sigaction)")
}

/// Blocks every signal but these.
pub fn block_all_but(signals: &[libc::c_int]) -> Result<(), Error> {
    let mask = signals.iter().fold(u64::MAX, |mask, signal| mask & !(1 << (signal - 1)));
    let none = std::ptr::null_mut::<u64>();
    // SAFETY: the set has the length that is passed.
    let done =
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, none, SET_LEN) };
    check(done as libc::c_int, "blocking signals (rt_sigprocmask)")
}

/// Maps zeroed memory for writing at an address where nothing is.
pub fn map_anonymous(at: u64, len: u64) -> Result<(), Error> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    map(at, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
}

/// Maps a file or memory at an address where nothing is.
pub fn map(at: u64, len: u64, prot: i32, flags: i32, fd: i32, offset: u64) -> Result<(), Error> {
    let flags = flags | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: a new mapping that replaces none.
    let got =
        unsafe { libc::mmap(at as *mut libc::c_void, len as usize, prot, flags, fd, offset as libc::off_t) };
    if got as u64 == at {
        Ok(())
    } else {
        Err(Error::os(format!("mapping {len:#x} bytes at {at:#x} (mmap)")))
    }
}

/// Turns a mapping made by [`map_anonymous`] into code.
pub fn make_code(at: u64, len: u64) -> Result<(), Error> {
    protect(at, len, libc::PROT_READ | libc::PROT_EXEC)
}

/// Changes the protection of a mapping made by [`map_anonymous`] or [`map`].
pub fn protect(at: u64, len: u64, prot: i32) -> Result<(), Error> {
    // SAFETY: only called for such mappings, to which no reference exists.
    check(
        unsafe { libc::mprotect(at as *mut libc::c_void, len as usize, prot) },
        "protecting memory (mprotect)",
    )
}

/// Takes back what the C library told the kernel of this thread's restartable sequences: the kernel would write
/// there after the memory is gone.
pub fn unregister_rseq() {
    /// Signature that the C library registers with on x86-64.
    const SIGNATURE: u32 = 0x5305_3053;
    const UNREGISTER: u32 = 1;
    // SAFETY: looks names up; the names are NUL-terminated. The symbols, where they exist, are a ptrdiff_t and an
    // unsigned int that are never written after the start. The request itself takes numbers, and fails where nothing
    // is registered so.
    unsafe {
        let offset = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()).cast::<isize>();
        let size = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_size".as_ptr()).cast::<u32>();
        if offset.is_null() || size.is_null() {
            return;
        }
        let thread: u64;
        std::arch::asm!("mov {}, fs:[0]", out(reg) thread, options(nostack, preserves_flags, readonly));
        let at = thread.wrapping_add_signed(*offset as i64);
        for len in [32, *size, size.read().next_multiple_of(32)] {
            if libc::syscall(libc::SYS_rseq, at, len, UNREGISTER, SIGNATURE) == 0 {
                return;
            }
        }
    }
}

/// CPUs that this process may run on, one for each vCPU in turn, as masks of the first 64.
pub fn cpu_masks() -> [u64; MAX_CPUS] {
    let mut allowed = [0u64; 16];
    // SAFETY: the kernel fills in at most the length that is passed.
    unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(&allowed), allowed.as_mut_ptr()) };
    // Where none is known, any will do.
    let first = if allowed[0] == 0 { u64::MAX } else { allowed[0] };
    let cpus: Vec<u64> = (0..64).map(|cpu| 1 << cpu).filter(|bit| first & bit != 0).collect();
    std::array::from_fn(|vcpu| cpus[vcpu % cpus.len()])
}

/// Lets the calling thread, and what it starts, run on these CPUs only; without the right it runs on.
pub fn run_on(mask: u64) {
    // SAFETY: the kernel reads the mask.
    unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of::<u64>(), &raw const mask) };
}
