//! Takes a process's access to its host away.
//!
//! After [`isolate`] and [`lock`] the process has an empty root, namespaces of its own without network, no capability that is not
//! needed for the donated files, no way to gain any, few resources, and the system calls of [`filter`] alone. What
//! it works with, it holds as descriptors.

mod filter;

use std::ffi::CString;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::Error;

/// CAP_CHOWN.
const CAP_CHOWN: u32 = 0;
/// CAP_FOWNER.
const CAP_FOWNER: u32 = 3;
/// CAP_FSETID.
const CAP_FSETID: u32 = 4;
/// CAP_DAC_OVERRIDE.
const CAP_DAC_OVERRIDE: u32 = 1;
/// CAP_DAC_READ_SEARCH.
const CAP_DAC_READ_SEARCH: u32 = 2;
/// Version of the structs of capset(2): _LINUX_CAPABILITY_VERSION_3.
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// More than the last capability; dropping one that the kernel does not know answers EINVAL.
const CAP_END: libc::c_ulong = 64;
/// Most open files: handles of the guest, vCPUs and what the VMM itself needs.
const MAX_FILES: libc::rlim_t = 16384;

/// What a jail keeps.
pub struct Jail<'a> {
    /// An existing directory, over which the empty root is mounted in the new mount namespace.
    pub mount_point: &'a Path,
    /// Whether the container sees host files: then those of every owner must be readable.
    pub reads_files: bool,
    /// Whether it may write some of them.
    pub writes_files: bool,
    /// Whether it works with KVM's descriptors.
    pub kvm: bool,
    /// Where the number of a forbidden system call is written before the process ends.
    pub report: RawFd,
}

/// Goes into the namespaces and the empty root of the jail. The process must have one thread.
pub fn isolate(jail: &Jail<'_>) -> Result<(), Error> {
    enter_namespaces(jail.mount_point)
}

/// Gives up what is left, once [`isolate`]d: capabilities, resources, system calls. The process must have one thread.
pub fn lock(jail: &Jail<'_>) -> Result<(), Error> {
    let mut kept = 0u32;
    if jail.reads_files {
        kept |= 1 << CAP_DAC_READ_SEARCH;
    }
    if jail.writes_files {
        kept |= 1 << CAP_DAC_OVERRIDE | 1 << CAP_CHOWN | 1 << CAP_FOWNER | 1 << CAP_FSETID;
    }
    confine(kept)?;
    report_violations(jail.report)?;
    filter::install(jail.kvm, jail.writes_files)
}

/// Limits resources and keeps no capability but those of `kept` (a mask of the first 32).
pub(crate) fn confine(kept: u32) -> Result<(), Error> {
    limit()?;
    drop_capabilities(kept)
}

fn check(done: libc::c_int, operation: &'static str) -> Result<(), Error> {
    if done == 0 { Ok(()) } else { Err(Error::os(operation)) }
}

/// Namespaces and an empty root.
fn enter_namespaces(mount_point: &Path) -> Result<(), Error> {
    let flags = libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    // SAFETY: geteuid takes nothing and cannot fail.
    let flags = if unsafe { libc::geteuid() } == 0 { flags } else { flags | libc::CLONE_NEWUSER };
    // SAFETY: takes a number.
    check(unsafe { libc::unshare(flags) }, "making the namespaces of the sandbox (unshare)")?;
    let at = CString::new(mount_point.as_os_str().as_bytes()).map_err(|_| Error::Os {
        operation: "naming the empty root".into(),
        source: std::io::ErrorKind::InvalidInput.into(),
    })?;
    let (none, tmpfs) = (c"none".as_ptr(), c"tmpfs".as_ptr());
    let private = libc::MS_REC | libc::MS_PRIVATE;
    let empty = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_RDONLY;
    let options = c"size=4k,nr_inodes=2,mode=111".as_ptr();
    // SAFETY: all strings are NUL-terminated and outlive the calls; null is allowed where it is passed.
    unsafe {
        check(
            libc::mount(none, c"/".as_ptr(), none, private, std::ptr::null()),
            "making mounts private (mount)",
        )?;
        check(
            libc::mount(tmpfs, at.as_ptr(), tmpfs, empty, options.cast()),
            "mounting the empty root (mount)",
        )?;
        check(libc::chdir(at.as_ptr()), "entering the empty root (chdir)")?;
        let dot = c".".as_ptr();
        let pivoted = libc::syscall(libc::SYS_pivot_root, dot, dot) as libc::c_int;
        check(pivoted, "changing to the empty root (pivot_root)")?;
        check(libc::umount2(dot, libc::MNT_DETACH), "leaving the host's root (umount2)")?;
        check(libc::chdir(c"/".as_ptr()), "entering the empty root (chdir)")
    }
}

/// Resource limits, file mode mask, no privileges by exec, no core dump.
fn limit() -> Result<(), Error> {
    // SAFETY: the structs are valid places; the calls take numbers otherwise.
    unsafe {
        let mut files = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &mut files), "reading a limit (getrlimit)")?;
        let most = files.rlim_max.min(MAX_FILES);
        let files = libc::rlimit { rlim_cur: most, rlim_max: most };
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &files), "limiting open files (setrlimit)")?;
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        check(libc::setrlimit(libc::RLIMIT_CORE, &none), "forbidding core dumps (setrlimit)")?;
        libc::umask(0);
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "forbidding new privileges (prctl)")?;
        check(libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0), "forbidding dumps (prctl)")
    }
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Drops every capability but those of `kept` (a mask of the first 32).
fn drop_capabilities(kept: u32) -> Result<(), Error> {
    for cap in 0..CAP_END {
        // SAFETY: takes numbers. It answers EPERM where the process cannot change the set, which then is of no use
        // without CAP_SETPCAP anyway, and EINVAL beyond the last capability.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, cap, 0, 0, 0) };
    }
    let header = CapHeader { version: CAPABILITY_VERSION, pid: 0 };
    let mut now = [CapData { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: both structs are valid and laid out as capget(2) says for this version.
    let got = unsafe { libc::syscall(libc::SYS_capget, &raw const header, now.as_mut_ptr()) };
    check(got as libc::c_int, "reading capabilities (capget)")?;
    let kept = now[0].permitted & kept;
    let none = CapData { effective: 0, permitted: 0, inheritable: 0 };
    let data = [CapData { effective: kept, permitted: kept, inheritable: 0 }, none];
    // SAFETY: as above.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    check(set as libc::c_int, "dropping capabilities (capset)")
}

static REPORT: AtomicI32 = AtomicI32::new(-1);

/// Makes a forbidden system call say which it was before it ends the process.
fn report_violations(fd: RawFd) -> Result<(), Error> {
    REPORT.store(fd, Ordering::Relaxed);
    // SAFETY: `action` is filled in before it is used; the handler only formats on its stack and makes the system
    // calls write and exit_group, which the filter allows.
    let done = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_sigsys as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut())
    };
    check(done, "setting the handler of forbidden system calls (sigaction)")
}

extern "C" fn on_sigsys(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    /// Offset in `siginfo_t` of `si_syscall` for SIGSYS: after si_signo, si_errno, si_code, padding and si_call_addr.
    const SI_SYSCALL: usize = 24;
    // SAFETY: the kernel passes a valid siginfo_t of 128 bytes to a handler with SA_SIGINFO.
    let number = unsafe { info.cast::<u8>().add(SI_SYSCALL).cast::<i32>().read() };
    let mut text = *b"the sandbox process made a forbidden system call, number      \n";
    let mut at = text.len() - 2;
    let mut left = number.unsigned_abs();
    loop {
        text[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
        at -= 1;
    }
    // SAFETY: the buffer has the length that is passed; both calls are async-signal-safe.
    unsafe {
        libc::write(REPORT.load(Ordering::Relaxed), text.as_ptr().cast(), text.len());
        libc::_exit(crate::process::FAILED)
    }
}
