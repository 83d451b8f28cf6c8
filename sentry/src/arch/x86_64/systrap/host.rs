//! System calls of the sentry process: its own filter names the few that there are.

use core::arch::asm;
use core::sync::atomic::AtomicU32;
use linux_raw_sys::general as c;

/// seccomp_unotify(2): SECCOMP_IOCTL_NOTIF_RECV and SECCOMP_IOCTL_NOTIF_SEND.
const NOTIF_RECV: u64 = 0xc050_2100;
const NOTIF_SEND: u64 = 0xc018_2101;
const NOTIF_CONTINUE: u32 = 1;

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Notification {
    pub id: u64,
    pub pid: u32,
    flags: u32,
    pub nr: i32,
    arch: u32,
    rip: u64,
    pub args: [u64; 6],
}

#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

#[repr(C)]
struct FutexWaiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// A system call of the sentry process itself; its own filter names the few that there are.
pub(super) fn host_syscall(nr: u32, args: [u64; 6]) -> i64 {
    let ret: i64;
    // SAFETY: callers pass addresses of memory of their own that outlives the call.
    unsafe {
        asm!("syscall", inlateout("rax") i64::from(nr) => ret, in("rdi") args[0], in("rsi") args[1],
             in("rdx") args[2], in("r10") args[3], in("r8") args[4], in("r9") args[5],
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    ret
}

fn address<T>(value: &T) -> u64 {
    core::ptr::from_ref(value).expose_provenance() as u64
}

/// Wakes who waits at the word.
pub(super) fn futex_wake(word: &AtomicU32) {
    host_syscall(c::__NR_futex, [address(word), u64::from(c::FUTEX_WAKE), 1, 0, 0, 0]);
}

fn timespec(ns: u64) -> [u64; 2] {
    [ns / crate::time::NS, ns % crate::time::NS]
}

/// Waits while `word` is `value`, at most until a CLOCK_MONOTONIC time.
pub(super) fn futex_wait(word: &AtomicU32, value: u32, deadline: Option<u64>) {
    let limit = timespec(deadline.unwrap_or(0));
    let at = if deadline.is_some() { address(&limit) } else { 0 };
    let op = u64::from(c::FUTEX_WAIT_BITSET);
    host_syscall(c::__NR_futex, [address(word), op, u64::from(value), at, 0, u64::from(u32::MAX)]);
}

/// Waits while both words have their values, at most until a CLOCK_MONOTONIC time.
pub(super) fn futex_wait_two(a: (&AtomicU32, u32), b: (&AtomicU32, u32), deadline: Option<u64>) {
    const SIZE_U32: u32 = 2;
    let waiters = [a, b].map(|(word, value)| FutexWaiter {
        value: u64::from(value),
        address: address(word),
        flags: SIZE_U32,
        reserved: 0,
    });
    let limit = timespec(deadline.unwrap_or(0));
    let at = if deadline.is_some() { address(&limit) } else { 0 };
    host_syscall(c::__NR_futex_waitv, [address(&waiters), 2, 0, at, u64::from(c::CLOCK_MONOTONIC), 0]);
}

/// Waits for a notification at a listener, at most so long. `None`: none came, or it is gone again.
pub(super) fn receive(listener: u64, milliseconds: u64) -> Option<Notification> {
    // struct pollfd: descriptor, and POLLIN.
    let mut poll = listener | 1 << 32;
    let at = (&raw mut poll).expose_provenance() as u64;
    if host_syscall(c::__NR_poll, [at, 1, milliseconds, 0, 0, 0]) <= 0 {
        return None;
    }
    let mut notification = Notification::default();
    let at = (&raw mut notification).expose_provenance() as u64;
    if host_syscall(c::__NR_ioctl, [listener, NOTIF_RECV, at, 0, 0, 0]) < 0 {
        return None;
    }
    Some(notification)
}

/// Answers a notification: the call is made, or fails with EPERM. Returns whether its process still waited for that.
pub(super) fn answer(listener: u64, id: u64, let_through: bool) -> bool {
    let (error, flags) = if let_through { (0, NOTIF_CONTINUE) } else { (-1, 0) };
    let response = Response { id, value: 0, error, flags };
    host_syscall(c::__NR_ioctl, [listener, NOTIF_SEND, address(&response), 0, 0, 0]) == 0
}
