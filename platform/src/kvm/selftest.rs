//! A self-test of the hypervisor: a machine that runs real instructions, SSE among them, in ring 0 and ring 3.
//!
//! There are hypervisors that open, answer every question, and then hang or compute wrongly. So before one is used,
//! once a boot, a payload of a few instructions runs on it the way that the sentry does: it enters ring 3, comes
//! back by SYSCALL, and reports a number that only a right machine computes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use abi::boot::{IMAGE_GPA, IMAGE_MAGIC, ImageHeader, KVM_IMAGE_BASE};
use abi::{HOST_INTERFACE_VERSION, PAGE_SIZE};
use kvm_ioctls::VcpuExit;
use zerocopy::IntoBytes;

use super::{Device, Flavour, KvmMachine};
use crate::memory::{BOOT_EXTENT, GuestMemory};
use crate::{Error, Image, process};

/// I/O port of the report.
const REPORT_PORT: u16 = 0x501;
/// What a right machine reports.
const EXPECTED: u32 = 0x7654_3210;
/// Ring-3 address of the payload's second page.
const USER_VA: u64 = 0x40_0000;
/// Time that the test may take.
const PATIENCE: Duration = Duration::from_secs(2);

// The payload is position-independent: it is copied to the link address of a sentry image. Its first page runs in
// ring 0, its second in ring 3. The number that is reported is built up in xmm0 across the rings.
std::arch::global_asm!(
    ".pushsection .rodata.selftest, \"a\"",
    ".balign 4096",
    ".globl runsc_selftest_begin",
    "runsc_selftest_begin:",
    ".skip 64",
    "2:", // start
    "test rcx, rcx",
    "mov r15, rcx",
    "jz 3f",
    "wrmsr",
    "3:",
    "mov eax, 0x06543210",
    "movd xmm0, eax",
    "pshufd xmm1, xmm0, 0",
    "pxor xmm2, xmm2",
    "paddd xmm0, xmm2",
    "mov rax, rsp",
    "mov qword ptr [rsp - 64], rax",
    "cmp qword ptr [rsp - 64], rax",
    "jne 5f",
    "push 0x2b",
    "push 0x400800",
    "push 0x202",
    "push 0x33",
    "push 0x400000",
    "test r15, r15",
    "jz 4f",
    "int 0x17",
    "4:",
    "iretq",
    ".balign 256",
    "6:", // SYSCALL entry, at offset 256
    "movd eax, xmm0",
    "mov edx, {port}",
    "out dx, eax",
    "5:",
    "hlt",
    "jmp 5b",
    ".balign 4096",
    // ring 3
    "mov eax, 0x70000000",
    "movd xmm3, eax",
    "por xmm0, xmm3",
    "syscall",
    ".balign 4096",
    ".globl runsc_selftest_end",
    "runsc_selftest_end:",
    ".popsection",
    port = const REPORT_PORT as u32,
);

unsafe extern "C" {
    static runsc_selftest_begin: [u8; 2 * PAGE_SIZE as usize];
}

/// Offset of the ring-0 entry in the payload.
const START: u64 = 64;
/// Offset of the SYSCALL entry: the next multiple of 256.
const SYSCALL: u64 = 256;

/// What the self-test found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Flavour of the hypervisor.
    pub flavour: Flavour,
    /// Time that the test took.
    pub took: Duration,
}

/// Runs the self-test in a process of its own, which is killed if it hangs.
pub fn run() -> Result<Verdict, Error> {
    let begin = Instant::now();
    let child = process::fork(false, || match Device::open().and_then(|device| attempt(&device)) {
        Ok(Flavour::Pvm) => 100,
        Ok(Flavour::Hardware) => 101,
        Err(Error::SelfTest { .. }) => 102,
        Err(_) => 103,
    })?;
    let status = loop {
        if let Some(status) = process::ended(child) {
            break Some(status);
        }
        if begin.elapsed() > PATIENCE {
            break None;
        }
        std::thread::sleep(Duration::from_micros(200));
    };
    let took = begin.elapsed();
    let fail = |reason: &str| Err(Error::SelfTest { reason: reason.into() });
    match status {
        None => {
            process::kill_child(child);
            fail("the machine hangs")
        }
        Some(status) if libc::WIFEXITED(status) => match libc::WEXITSTATUS(status) {
            100 => Ok(Verdict { flavour: Flavour::Pvm, took }),
            101 => Ok(Verdict { flavour: Flavour::Hardware, took }),
            102 => fail("the machine computes wrongly or stops at instructions that it must run"),
            // The same again in this process, for the error with its cause.
            _ => attempt(&Device::open()?).map(|flavour| Verdict { flavour, took }),
        },
        Some(_) => fail("the process that ran the machine was killed"),
    }
}

/// Runs the payload once.
fn attempt(device: &Device) -> Result<Flavour, Error> {
    // SAFETY: the symbol is defined above with exactly this size and is never written.
    let payload: &[u8] = unsafe { &runsc_selftest_begin };
    let header = ImageHeader {
        magic: IMAGE_MAGIC,
        version: u64::from(HOST_INTERFACE_VERSION),
        start: KVM_IMAGE_BASE + START,
        syscall_pvm: KVM_IMAGE_BASE + SYSCALL,
        syscall_hw: KVM_IMAGE_BASE + SYSCALL,
        end: KVM_IMAGE_BASE + 2 * PAGE_SIZE,
        rodata: KVM_IMAGE_BASE + 2 * PAGE_SIZE,
        data: KVM_IMAGE_BASE + 2 * PAGE_SIZE,
    };
    let mut bytes = payload.to_vec();
    bytes[..START as usize].copy_from_slice(header.as_bytes());
    let image = Image::new(&bytes, KVM_IMAGE_BASE)?;
    let memory = Arc::new(GuestMemory::new(BOOT_EXTENT, BOOT_EXTENT)?);
    let mut machine = KvmMachine::with_tables(device, &image, &[], 1, memory, |tables| {
        tables.map_user(USER_VA, IMAGE_GPA + PAGE_SIZE)
    })?;
    let reported = match machine.boot.run() {
        Ok(VcpuExit::IoOut(REPORT_PORT, data)) => data.try_into().map(u32::from_le_bytes).ok(),
        _ => None,
    };
    if reported == Some(EXPECTED) {
        Ok(machine.flavour())
    } else {
        Err(Error::SelfTest { reason: format!("the payload reported {reported:x?}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hypervisor_runs_the_payload() {
        if std::path::Path::new("/dev/kvm").exists() {
            let device = Device::open().expect("device");
            attempt(&device).expect("self-test");
        }
    }
}
