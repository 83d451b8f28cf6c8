//! Whether this host can run the platform, and what the sentry has to know of its CPU.

use std::time::{Duration, Instant};

use crate::{Error, clock};

/// Bit of AT_HWCAP2: programs may set FS and GS base.
const HWCAP2_FSGSBASE: u64 = 1 << 1;
/// Time over which the time-stamp counter is measured where the CPU does not tell its frequency.
const MEASURE: Duration = Duration::from_millis(20);

/// What is known of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Frequency of the time-stamp counter, kHz.
    pub tsc_khz: u32,
    /// What signal frames hold of XCR0.
    pub xcr0: u64,
    /// Bytes of a standard-format XSAVE area with all of it.
    pub xsave_size: u64,
}

impl Host {
    /// What the CPU says of itself, with the frequency that a [`probe`] found before.
    pub fn new(tsc_khz: u32) -> Self {
        let xcr0 = xcr0() & permitted();
        Self { tsc_khz, xcr0, xsave_size: xsave_size(xcr0) }
    }
}

/// Looks whether this host has what the platform needs; takes some 20 ms.
pub fn probe() -> Result<Host, Error> {
    let fail = |reason: &str| Err(Error::Unavailable { name: "systrap", reason: reason.into() });
    // SAFETY: takes a number.
    if unsafe { libc::getauxval(libc::AT_HWCAP2) } & HWCAP2_FSGSBASE == 0 {
        return fail("the kernel does not let programs set FS and GS base (FSGSBASE, Linux 5.9)");
    }
    // The kernel says which actions of a filter it knows.
    let action: u32 = libc::SECCOMP_RET_USER_NOTIF;
    const SECCOMP_GET_ACTION_AVAIL: libc::c_int = 2;
    // SAFETY: `action` is a valid word.
    let known = unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    if known != 0 {
        return fail("the kernel has no user notification of seccomp (Linux 5.0)");
    }
    // SAFETY: null arguments; answers EINVAL where the call exists.
    let waits = unsafe { libc::syscall(libc::SYS_futex_waitv, 0, 0, 0, 0, 0) };
    if waits < 0 && crate::memory::errno() == libc::ENOSYS {
        return fail("the kernel has no futex_waitv (Linux 5.16)");
    }
    super::memory(0, 0)?;
    Ok(Host::new(tsc_khz()))
}

fn xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: every CPU that the kernel lets programs set FS and GS base on has XSAVE, and the kernel enables it.
    unsafe {
        std::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack))
    };
    u64::from(low) | u64::from(high) << 32
}

/// Components that this process has without asking for them: not the large ones (AMX tile data), which signal frames
/// then do not have either.
fn permitted() -> u64 {
    const ARCH_GET_XCOMP_PERM: libc::c_int = 0x1022;
    let mut mask = 0u64;
    // SAFETY: `mask` is a valid place. Kernels that do not know the request (before Linux 5.16) have no such component.
    let done = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_GET_XCOMP_PERM, &raw mut mask) };
    if done == 0 { mask } else { u64::MAX }
}

/// Bytes of a standard-format XSAVE area with these components.
fn xsave_size(components: u64) -> u64 {
    /// The legacy region and the header.
    const LEGACY: u64 = 576;
    let end = |component: u32| {
        let leaf = core::arch::x86_64::__cpuid_count(0xd, component);
        u64::from(leaf.ebx) + u64::from(leaf.eax)
    };
    (2..63).filter(|component| components & (1 << component) != 0).map(end).fold(LEGACY, u64::max)
}

/// Frequency of the time-stamp counter: measured against the monotonic clock.
fn tsc_khz() -> u32 {
    let begin = Instant::now();
    let first = clock::sample();
    while let Some(left) = MEASURE.checked_sub(begin.elapsed()).filter(|left| !left.is_zero()) {
        std::thread::sleep(left);
    }
    let last = clock::sample();
    let ticks = u128::from(last.tsc.wrapping_sub(first.tsc));
    let ns = u128::from(last.monotonic_ns.wrapping_sub(first.monotonic_ns)).max(1);
    // Rounded, as the kernel's own figure is.
    u32::try_from((ticks * 1_000_000 + ns / 2) / ns).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_all_components_is_the_cpus() {
        let all = u64::from(core::arch::x86_64::__cpuid_count(0xd, 0).ebx);
        assert_eq!(xsave_size(xcr0()), all);
        assert_eq!(xsave_size(3), 576);
    }
}
