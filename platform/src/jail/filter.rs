//! The system calls that a jailed VMM may make.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

use crate::Error;
use crate::host::changes::SYS_FCHMODAT2;

/// ioctl(2) direction bits.
const WRITE: u32 = 1 << 30;
const READ: u32 = 2 << 30;
/// Type byte of KVM requests.
const KVMIO: u32 = 0xae;

/// A KVM request number; `size` is that of its argument.
const fn kvm(direction: u32, number: u32, size: usize) -> u32 {
    direction | ((size as u32) << 16) | (KVMIO << 8) | number
}

/// Requests of ioctl(2), each with its reason.
fn requests() -> Vec<u32> {
    vec![
        libc::FIONBIO as u32, // control connections do not block
        libc::TCGETS as u32,  // the container's terminal
        libc::TCSETS as u32,
        libc::TCSETSW as u32,
        libc::TCSETSF as u32,
        libc::TIOCGWINSZ as u32, // its window size
        libc::TIOCSWINSZ as u32,
    ]
}

/// Requests of platform kvm.
fn kvm_requests() -> Vec<u32> {
    use kvm_bindings as kb;
    vec![
        kvm(0, 0x80, 0),                                                // KVM_RUN: the guest runs
        kvm(0, 0x01, 0),                                                // KVM_CREATE_VM: the machine
        kvm(0, 0x03, 0), // KVM_CHECK_EXTENSION: what this KVM offers
        kvm(0, 0x04, 0), // KVM_GET_VCPU_MMAP_SIZE: the shared page of a vCPU
        kvm(READ | WRITE, 0x05, size_of::<kb::kvm_cpuid2>()), // KVM_GET_SUPPORTED_CPUID: features of the vCPUs
        kvm(0, 0x41, 0), // KVM_CREATE_VCPU: started as the guest asks for them
        kvm(0, 0x44, 0), // KVM_SET_NR_MMU_PAGES: room for shadow page tables
        kvm(WRITE, 0x46, size_of::<kb::kvm_userspace_memory_region>()), // KVM_SET_USER_MEMORY_REGION: memory as it grows
        kvm(WRITE, 0x6a, size_of::<kb::kvm_irq_routing>()), // KVM_SET_GSI_ROUTING: route of the event interrupt
        kvm(WRITE, 0x76, size_of::<kb::kvm_irqfd>()),       // KVM_IRQFD: the event interrupt
        kvm(WRITE, 0xa5, size_of::<kb::kvm_msi>()),         // KVM_SIGNAL_MSI: a page of an image is gone
        kvm(READ, 0x81, size_of::<kb::kvm_regs>()), // KVM_GET_REGS: diagnosis of a machine that stopped
        kvm(WRITE, 0x82, size_of::<kb::kvm_regs>()), // KVM_SET_REGS: entry of a vCPU
        kvm(READ, 0x83, size_of::<kb::kvm_sregs>()), // KVM_GET_SREGS: before they are set; diagnosis
        kvm(WRITE, 0x84, size_of::<kb::kvm_sregs>()), // KVM_SET_SREGS: entry of a vCPU
        kvm(READ | WRITE, 0x88, size_of::<kb::kvm_msrs>()), // KVM_GET_MSRS: flavour of the hypervisor
        kvm(WRITE, 0x89, size_of::<kb::kvm_msrs>()), // KVM_SET_MSRS: SYSCALL entry
        kvm(READ, 0x8e, size_of::<kb::kvm_lapic_state>()), // KVM_GET_LAPIC: before it is set
        kvm(WRITE, 0x8f, size_of::<kb::kvm_lapic_state>()), // KVM_SET_LAPIC: local APIC of a vCPU
        kvm(WRITE, 0x90, size_of::<kb::kvm_cpuid2>()), // KVM_SET_CPUID2: features of a vCPU
        kvm(WRITE, 0x99, size_of::<kb::kvm_mp_state>()), // KVM_SET_MP_STATE: a vCPU may run
        kvm(0, 0xa3, 0),                            // KVM_GET_TSC_KHZ: for the boot information
        kvm(WRITE, 0xa3, size_of::<kb::kvm_enable_cap>()), // KVM_ENABLE_CAP: the split irqchip
        kvm(WRITE, 0xa7, size_of::<kb::kvm_xcrs>()), // KVM_SET_XCRS: extended state of a vCPU
    ]
}

/// System calls of platform systrap.
const SYSTRAP: &[libc::c_long] = &[
    libc::SYS_fallocate, // giving guest memory back
    libc::SYS_wait4,     // the end of the sentry process
];

/// System calls of a sandbox that may change host files: names, attributes, lengths, all by descriptors.
const WRITES: &[libc::c_long] = &[
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_renameat2,
    libc::SYS_fchmod,
    SYS_FCHMODAT2,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
];

/// System calls that are allowed whatever their arguments, each with its reason.
const ALWAYS: &[libc::c_long] = &[
    libc::SYS_futex,             // locks; waiting for threads
    libc::SYS_read,              // streams, event and signal descriptors
    libc::SYS_write,             // streams, log, event descriptors
    libc::SYS_preadv,            // files of the guest
    libc::SYS_pwritev,           // files of the guest
    libc::SYS_recvfrom,          // sockets as streams
    libc::SYS_recvmsg,           // control connections, with a descriptor to save memory to
    libc::SYS_sendto,            // control connections, sockets as streams
    libc::SYS_accept4,           // control connections
    libc::SYS_poll,              // input thread, readiness of streams
    libc::SYS_openat2,           // files beneath donated directories
    libc::SYS_close,             // the same
    libc::SYS_statx,             // the same
    libc::SYS_readlinkat,        // the same
    libc::SYS_getdents64,        // the same
    libc::SYS_inotify_init1,     // watches on them, made when the first is asked for
    libc::SYS_inotify_add_watch, // the same; takes a path only
    libc::SYS_inotify_rm_watch,  // the same
    libc::SYS_fchdir,            // to the directory of what is watched, and back to the empty root
    libc::SYS_fgetxattr,         // the same
    libc::SYS_ftruncate,         // the same
    libc::SYS_fsync,             // the same
    libc::SYS_fdatasync,         // the same
    libc::SYS_lseek,             // the same; streams that are files
    libc::SYS_munmap,            // memory of the VMM and its threads
    libc::SYS_mremap,            // the same, growing buffers
    libc::SYS_brk,               // the same
    libc::SYS_madvise,           // giving guest memory back; huge pages
    libc::SYS_getrandom,         // seeds for the guest; hash maps
    libc::SYS_clock_gettime,     // clocks, where the vDSO does not answer
    libc::SYS_sched_yield,       // a guest that spins on a lock
    libc::SYS_eventfd2,          // event descriptors
    libc::SYS_clone3, // answered ENOSYS by the second filter, so that clone with checked flags is used
    libc::SYS_set_robust_list, // start of a thread
    libc::SYS_rseq,   // start of a thread
    libc::SYS_sigaltstack, // start and end of a thread
    libc::SYS_rt_sigprocmask, // start of a thread
    libc::SYS_rt_sigreturn, // return from a signal handler
    libc::SYS_sched_getaffinity, // start of a thread
    libc::SYS_gettid, // abort
    libc::SYS_getpid, // abort
    libc::SYS_tgkill, // abort
    libc::SYS_rt_sigaction, // abort
    libc::SYS_restart_syscall, // after a stop of the process
    libc::SYS_exit,   // end of a thread
    libc::SYS_exit_group, // end of the sandbox
];

fn filter_error(error: impl std::fmt::Display) -> Error {
    Error::Filter { reason: error.to_string() }
}

/// A rule that holds if `argument` masked equals `value`.
fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompRule, Error> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask), value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(filter_error)
}

/// A rule that holds if the low 32 bits of `argument` equal `value`.
fn equals(argument: u8, value: u32) -> Result<SeccompRule, Error> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(value))
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(filter_error)
}

fn allowed(kvm: bool, writes: bool) -> Result<BpfProgram, Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALWAYS.iter().map(|&nr| (nr, Vec::new())).collect();
    if writes {
        rules.extend(WRITES.iter().map(|&nr| (nr, Vec::new())));
        // Never devices.
        let kinds = [libc::S_IFREG, libc::S_IFIFO, libc::S_IFSOCK];
        let kinds = kinds.iter().map(|&kind| masked(2, libc::S_IFMT.into(), kind.into()));
        rules.insert(libc::SYS_mknodat, kinds.collect::<Result<_, _>>()?);
    }
    let mut requests = requests();
    if kvm {
        requests.extend(kvm_requests());
    } else {
        rules.extend(SYSTRAP.iter().map(|&nr| (nr, Vec::new())));
        // The end of the sentry process.
        rules.insert(libc::SYS_pidfd_send_signal, vec![equals(1, libc::SIGKILL as u32)?]);
    }
    let ioctls = requests.into_iter().map(|request| equals(1, request)).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_ioctl, ioctls);
    // No new code: memory that can be executed is neither made nor turned into such.
    for nr in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(nr, vec![masked(2, libc::PROT_EXEC as u64, 0)?]);
    }
    // Threads, never processes.
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, vec![masked(0, thread, thread)?]);
    // Copies of descriptors of single files; debug builds look whether a descriptor is open before they close it.
    rules.insert(
        libc::SYS_fcntl,
        vec![
            equals(1, libc::F_DUPFD_CLOEXEC as u32)?,
            equals(1, libc::F_GETFD as u32)?,
            // Whether a descriptor that came with a command blocks.
            equals(1, libc::F_GETFL as u32)?,
        ],
    );
    // Names of threads; names of mappings, which the allocator may set.
    rules.insert(
        libc::SYS_prctl,
        vec![equals(0, libc::PR_SET_NAME as u32)?, equals(0, libc::PR_SET_VMA as u32)?],
    );
    SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, TargetArch::x86_64)
        .map_err(filter_error)?
        .try_into()
        .map_err(filter_error)
}

/// Answers clone3(2), whose flags a filter cannot see, as an old kernel would.
fn without_clone3() -> Result<BpfProgram, Error> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let errno = SeccompAction::Errno(libc::ENOSYS as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, errno, TargetArch::x86_64)
        .map_err(filter_error)?
        .try_into()
        .map_err(filter_error)
}

/// Installs the filter for this thread and all that it starts; `kvm` says for which platform, `writes`
/// whether host files may be changed.
pub fn install(kvm: bool, writes: bool) -> Result<(), Error> {
    let allowed = allowed(kvm, writes)?;
    let without_clone3 = without_clone3()?;
    // In this order: the first filter does not allow seccomp(2).
    apply_filter(&without_clone3).map_err(filter_error)?;
    apply_filter(&allowed).map_err(filter_error)
}
