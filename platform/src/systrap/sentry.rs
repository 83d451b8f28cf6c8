//! The sentry process: a bare one, in which the image runs with a host thread for each vCPU.
//!
//! It is the first process of a PID namespace and the ancestor of spawners and stubs, so that all of them end with
//! it. It has mapped guest memory, the image and two pages that bring it there; it has no descriptors but the
//! listeners.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use abi::PAGE_SIZE;
use abi::boot::{
    BOOT_INFO_GPA, CPU_AREA_SIZE, CPU_AREAS_GPA, CPU_STACK_TOP, IMAGE_CUTS_GPA, IMAGE_GPA, IMAGES_END,
    IMAGES_GPA, MAX_CPUS, MAX_IMAGES, SYSTRAP_CRASH_GPA, SYSTRAP_IMAGE_BASE, SYSTRAP_PHYSMAP,
    SYSTRAP_START_GPA, Zone,
};
use abi::systrap::{LISTENER_FD, USER_ZONE_GPA};

use super::stub::TASK_END;
use super::{filter, raw, spawner};
use crate::memory::GuestMemory;
use crate::memory::images::Images;
use crate::{Error, Image, jail, process};

/// Address of the page of code that brings a thread into the image; a page of data follows.
const GATE_CODE: u64 = 0x2000_0000;
/// Address of its data.
const GATE_DATA: u64 = GATE_CODE + PAGE_SIZE;
/// Descriptors from here up are used while the listeners are put in their places.
const SPARE_FD: libc::c_int = 100;
/// SECCOMP_IOCTL_NOTIF_SET_FLAGS and its flag SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP.
const NOTIFY_SET_FLAGS: libc::Ioctl = 0x4008_2104;
const NOTIFY_SYNC_WAKE_UP: u64 = 1;
/// Signals that tell of a bug of the sentry.
const FAULTS: [libc::c_int; 6] =
    [libc::SIGSYS, libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP];

/// Exit code of a sentry process that left a report of its crash.
pub const EXIT_CRASH: i32 = 98;
/// Exit code of one that could not become bare.
pub const EXIT_GATE: i32 = 97;

/// Most ranges that the gate unmaps: before and between what stays, and behind it.
const MAX_HOLES: usize = 5 + MAX_IMAGES;

/// What the gate works with.
#[repr(C)]
struct Gate {
    /// Number of ranges to unmap.
    holes: u64,
    /// They: address and length.
    hole: [[u64; 2]; MAX_HOLES],
    filter: libc::sock_fprog,
    cpus: u64,
    start: u64,
    info: u64,
    /// Top of the stack of vCPU 0; those of the others lie an area further each.
    stack: u64,
    /// Words of which each lets a vCPU begin.
    words: u64,
    /// CPU of each vCPU, as a mask.
    masks: [u64; MAX_CPUS],
    instructions: [seccompiler::sock_filter; 256],
}

const _: () = assert!(size_of::<Gate>() as u64 <= PAGE_SIZE && CPU_AREA_SIZE == 1 << 16);

std::arch::global_asm!(
    ".pushsection .rodata.runsc_gate, \"a\"",
    ".balign 4096",
    ".globl runsc_gate_begin",
    "runsc_gate_begin:",
    "mov ebp, {data}",
    "lea rbx, [rbp + {hole}]",
    "mov r12, [rbp + {holes}]",
    ".Lgate_unmap:",
    "test r12, r12",
    "jz .Lgate_bare",
    "mov rdi, [rbx]",
    "mov rsi, [rbx + 8]",
    "mov eax, {nr_munmap}",
    "syscall",
    "test rax, rax",
    "jnz .Lgate_failed",
    "add rbx, 16",
    "dec r12",
    "jmp .Lgate_unmap",
    ".Lgate_bare:",
    "mov r12d, 1",
    ".Lgate_threads:",
    "cmp r12, [rbp + {cpus}]",
    "jae .Lgate_filter",
    // The thread of a vCPU inherits the CPU that is set before it is made. Without that right it runs anywhere.
    "xor edi, edi",
    "mov esi, 8",
    "lea rdx, [rbp + r12 * 8 + {masks}]",
    "mov eax, {nr_sched_setaffinity}",
    "syscall",
    "mov edi, {thread_flags}",
    "mov rsi, r12",
    "shl rsi, 16",
    "add rsi, [rbp + {stack}]",
    "xor edx, edx",
    "xor r10d, r10d",
    "xor r8d, r8d",
    "mov eax, {nr_clone}",
    "syscall",
    "test rax, rax",
    "js .Lgate_failed",
    "jz .Lgate_thread",
    "inc r12",
    "jmp .Lgate_threads",
    ".Lgate_filter:",
    "xor edi, edi",
    "mov esi, 8",
    "lea rdx, [rbp + {masks}]",
    "mov eax, {nr_sched_setaffinity}",
    "syscall",
    "mov edi, 1",
    "mov esi, 1", // SECCOMP_FILTER_FLAG_TSYNC
    "lea rdx, [rbp + {filter}]",
    "mov eax, {nr_seccomp}",
    "syscall",
    "test rax, rax",
    "jnz .Lgate_failed",
    "xor r12d, r12d",
    ".Lgate_thread:",
    "lea rdi, [r12 * 4]",
    "add rdi, [rbp + {words}]",
    ".Lgate_wait:",
    "mov eax, [rdi]",
    "test eax, eax",
    "jnz .Lgate_go",
    "xor esi, esi",
    "xor edx, edx",
    "xor r10d, r10d",
    "mov eax, {nr_futex}",
    "syscall",
    "jmp .Lgate_wait",
    ".Lgate_go:",
    "mov rsp, r12",
    "shl rsp, 16",
    "add rsp, [rbp + {stack}]",
    "xor eax, eax",
    "wrfsbase rax",
    "wrgsbase rax",
    "mov rdi, [rbp + {info}]",
    "mov rsi, r12",
    "mov rax, [rbp + {start}]",
    "xor ecx, ecx",
    "xor edx, edx",
    "xor ebp, ebp",
    "jmp rax",
    ".Lgate_failed:",
    "mov edi, {exit_gate}",
    "mov eax, {nr_exit_group}",
    "syscall",
    "ud2",
    // A fault of the sentry: leaves a report and ends the process. rdi signal, rsi siginfo, rdx ucontext.
    ".balign 64",
    ".globl runsc_gate_crash",
    "runsc_gate_crash:",
    // A page of an image that its file has lost becomes zeros, and that is counted; then the sentry goes on.
    "cmp edi, {sigbus}",
    "jne .Lgate_report",
    "mov r12, rdi",
    "mov r13, rsi",
    "mov r14, rdx",
    "mov rdi, [rsi + 16]",
    "movabs rax, {images}",
    "cmp rdi, rax",
    "jb .Lgate_restore",
    "movabs rax, {images_end}",
    "cmp rdi, rax",
    "jae .Lgate_restore",
    "and rdi, -4096",
    "mov esi, 4096",
    "mov edx, {zeros_prot}",
    "mov r10d, {zeros_flags}",
    "mov r8, -1",
    "xor r9d, r9d",
    "mov eax, {nr_mmap}",
    "syscall",
    "test rax, rax",
    "js .Lgate_restore",
    "movabs rax, {image_cuts}",
    "lock inc qword ptr [rax]",
    "add rsp, 8",
    "mov eax, {nr_rt_sigreturn}",
    "syscall",
    "ud2",
    ".Lgate_restore:",
    "mov rdi, r12",
    "mov rsi, r13",
    "mov rdx, r14",
    ".Lgate_report:",
    "movabs r15, {crash}",
    "mov eax, 1",
    "xchg [r15], eax",
    "test eax, eax",
    "jnz .Lgate_second",
    "mov [r15 + 8], edi",
    "mov eax, [rsi + 8]",
    "mov [r15 + 16], eax",
    "mov rax, [rsi + 16]",
    "mov [r15 + 24], rax",
    "mov eax, [rsi + 24]",
    "mov [r15 + 32], eax",
    "lea rsi, [rdx + 40]",
    "lea rdi, [r15 + 64]",
    "mov ecx, 23",
    "cld",
    "rep movsq",
    "mov edi, {exit_crash}",
    "mov eax, {nr_exit_group}",
    "syscall",
    ".Lgate_second:",
    "pause",
    "jmp .Lgate_second",
    ".balign 4096, 0xcc",
    ".popsection",
    data = const GATE_DATA,
    holes = const std::mem::offset_of!(Gate, holes),
    hole = const std::mem::offset_of!(Gate, hole),
    cpus = const std::mem::offset_of!(Gate, cpus),
    stack = const std::mem::offset_of!(Gate, stack),
    filter = const std::mem::offset_of!(Gate, filter),
    words = const std::mem::offset_of!(Gate, words),
    masks = const std::mem::offset_of!(Gate, masks),
    nr_sched_setaffinity = const libc::SYS_sched_setaffinity,
    info = const std::mem::offset_of!(Gate, info),
    start = const std::mem::offset_of!(Gate, start),
    sigbus = const libc::SIGBUS,
    images = const SYSTRAP_PHYSMAP + IMAGES_GPA,
    images_end = const SYSTRAP_PHYSMAP + IMAGES_END,
    image_cuts = const SYSTRAP_PHYSMAP + IMAGE_CUTS_GPA,
    zeros_prot = const filter::ZEROS_PROT,
    zeros_flags = const filter::ZEROS_FLAGS,
    nr_mmap = const libc::SYS_mmap,
    nr_rt_sigreturn = const libc::SYS_rt_sigreturn,
    crash = const SYSTRAP_PHYSMAP + SYSTRAP_CRASH_GPA,
    exit_crash = const EXIT_CRASH,
    exit_gate = const EXIT_GATE,
    thread_flags = const libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD | libc::CLONE_SYSVSEM,
    nr_munmap = const libc::SYS_munmap,
    nr_clone = const libc::SYS_clone,
    nr_seccomp = const libc::SYS_seccomp,
    nr_futex = const libc::SYS_futex,
    nr_exit_group = const libc::SYS_exit_group,
);

unsafe extern "C" {
    static runsc_gate_begin: [u8; PAGE_SIZE as usize];
    static runsc_gate_crash: u8;
}

/// The sentry process, from the broker's side.
pub struct Child {
    /// Process id, in the broker's namespace.
    pub pid: libc::pid_t,
    /// Descriptor of the process.
    pub handle: OwnedFd,
}

/// Starts the process with its spawners, which take commands from `commands`, and waits until it is set up. Its
/// threads wait for their words at [`SYSTRAP_START_GPA`]. The process must have one thread.
pub fn start(image: &Image<'_>, memory: &GuestMemory, commands: &[OwnedFd]) -> Result<Child, Error> {
    let (ours, theirs) = raw::socket_pair()?;
    let mut handle: libc::c_int = -1;
    let flags = libc::CLONE_NEWPID | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: as fork(2): the process has one thread, so the child's copy of it is consistent; the child does not
    // return. `handle` is a valid place for a descriptor.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut handle, 0, 0) };
    if pid == 0 {
        drop(ours);
        let Err(error) = become_sentry(image, memory, commands, &theirs);
        send(&theirs, &error.to_string());
        process::exit_now(process::FAILED);
    }
    if pid < 0 {
        return Err(Error::os("starting the sentry process (clone)"));
    }
    drop(theirs);
    // SAFETY: a descriptor that was just made and that nobody else knows of.
    let child = Child { pid: pid as libc::pid_t, handle: unsafe { OwnedFd::from_raw_fd(handle) } };
    let mut text = [0u8; 512];
    // SAFETY: the buffer has the length that is passed.
    let got = unsafe { libc::recv(ours.as_raw_fd(), text.as_mut_ptr().cast(), text.len(), 0) };
    match usize::try_from(got).ok().and_then(|got| text.get(..got)) {
        Some(b"ready") => Ok(child),
        answer => {
            process::kill_child(child.pid);
            let reason = match answer {
                Some(text) if !text.is_empty() => String::from_utf8_lossy(text).into_owned(),
                _ => "the sentry process ended while it was set up".into(),
            };
            Err(Error::Unavailable { name: "systrap", reason })
        }
    }
}

fn send(socket: &OwnedFd, text: &str) -> bool {
    // SAFETY: the buffer has the length that is passed.
    let sent =
        unsafe { libc::send(socket.as_raw_fd(), text.as_ptr().cast(), text.len(), libc::MSG_NOSIGNAL) };
    sent == text.len() as isize
}

/// Turns this process, a fresh fork, into the sentry process.
fn become_sentry(
    image: &Image<'_>,
    memory: &GuestMemory,
    commands: &[OwnedFd],
    report: &OwnedFd,
) -> Result<std::convert::Infallible, Error> {
    jail::confine(0)?;
    raw::die_with_parent()?;
    let zones = memory.zones().ok_or(Error::Unavailable { name: "systrap", reason: "no zones".into() })?;
    // SAFETY: take nothing or numbers. A session of its own keeps the keys of a terminal away from stubs; ended
    // spawners and stubs are not waited for.
    unsafe {
        libc::setsid();
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
    }
    let (frames, frames_len) = zones.file(Zone::User);
    let images: Vec<_> = memory.images().into_iter().flat_map(Images::files).collect();
    let image_files: Vec<_> = images.iter().map(|(fd, _)| fd.as_fd()).collect();
    let mut listeners = Vec::new();
    // A vCPU and its stubs hand over to each other at every system call: on two CPUs that takes a wake-up between them.
    let masks = raw::cpu_masks();
    for (socket, mask) in commands.iter().zip(masks) {
        raw::run_on(mask);
        let listener = spawner::start(socket.as_fd(), frames.as_fd(), &image_files)?;
        // The stub waits while the sentry answers: both on one CPU. Older kernels do not know the request (Linux 6.6).
        // SAFETY: a request that takes numbers.
        unsafe { libc::ioctl(listener.as_raw_fd(), NOTIFY_SET_FLAGS, NOTIFY_SYNC_WAKE_UP) };
        listeners.push(raw::raise_fd(listener.as_raw_fd(), SPARE_FD)?);
    }
    let report = raw::raise_fd(report.as_raw_fd(), SPARE_FD)?;

    let (kernel, kernel_len) = zones.file(Zone::Kernel);
    let read_write = libc::PROT_READ | libc::PROT_WRITE;
    let shared = libc::MAP_SHARED | libc::MAP_NORESERVE;
    let mut mapped = vec![
        (GATE_CODE, 2 * PAGE_SIZE),
        (SYSTRAP_IMAGE_BASE, image.size()),
        (SYSTRAP_PHYSMAP, kernel_len),
        (SYSTRAP_PHYSMAP + USER_ZONE_GPA, frames_len),
    ];
    // No page of the image can be both written and run, nor written through the map of guest memory.
    let (rodata, data) = (image.header.rodata, image.header.data);
    for (start, end, prot) in [
        (SYSTRAP_IMAGE_BASE, rodata, libc::PROT_READ | libc::PROT_EXEC),
        (rodata, data, libc::PROT_READ),
        (data, SYSTRAP_IMAGE_BASE + image.size(), read_write),
    ] {
        if start < end {
            let offset = IMAGE_GPA + (start - SYSTRAP_IMAGE_BASE);
            raw::map(start, end - start, prot, shared, kernel.as_raw_fd(), offset)?;
        }
    }
    raw::map(mapped[2].0, mapped[2].1, read_write, shared, kernel.as_raw_fd(), 0)?;
    raw::protect(SYSTRAP_PHYSMAP + IMAGE_GPA, data - SYSTRAP_IMAGE_BASE, libc::PROT_READ)?;
    raw::map(mapped[3].0, mapped[3].1, read_write, shared, frames.as_raw_fd(), 0)?;
    for (fd, spec) in &images {
        let (at, len) = (SYSTRAP_PHYSMAP + spec.gpa, spec.len.next_multiple_of(PAGE_SIZE));
        raw::map(at, len, libc::PROT_READ, shared, fd.as_raw_fd(), 0)?;
        mapped.push((at, len));
    }
    fill_gate(image, commands.len() as u32, &mapped, masks)?;
    raw::block_all_but(&FAULTS)?;
    let crash = &raw const runsc_gate_crash as u64 - &raw const runsc_gate_begin as u64 + GATE_CODE;
    for signal in FAULTS {
        raw::set_handler(signal, crash, libc::SA_SIGINFO as u64, crash, u64::MAX)?;
    }
    raw::unregister_rseq();
    for (index, fd) in listeners.iter().enumerate() {
        raw::move_fd(*fd, LISTENER_FD as i32 + index as i32)?;
    }
    // The broker may be gone already: then nothing would end this process.
    // SAFETY: takes numbers.
    if unsafe { libc::send(report, c"ready".as_ptr().cast(), 5, libc::MSG_NOSIGNAL) } != 5 {
        process::exit_now(process::FAILED);
    }
    raw::close_range(0, LISTENER_FD as u32 - 1)?;
    raw::close_range(LISTENER_FD as u32 + listeners.len() as u32, u32::MAX)?;
    // SAFETY: the page holds the gate, which uses no stack and unmaps everything else; nothing of this program runs
    // in this process any more.
    unsafe {
        std::arch::asm!("jmp {entry}", entry = in(reg) GATE_CODE, options(noreturn));
    }
}

/// Puts the gate at its address; `mapped` is what stays mapped, in order.
fn fill_gate(
    image: &Image<'_>,
    cpus: u32,
    mapped: &[(u64, u64)],
    masks: [u64; MAX_CPUS],
) -> Result<(), Error> {
    raw::map_anonymous(GATE_CODE, 2 * PAGE_SIZE)?;
    let program = filter::sentry(cpus)?;
    let instructions = GATE_DATA + std::mem::offset_of!(Gate, instructions) as u64;
    let mut gate = Gate {
        holes: 0,
        hole: [[0; 2]; MAX_HOLES],
        filter: libc::sock_fprog {
            len: program.len() as u16,
            filter: instructions as *mut libc::sock_filter,
        },
        cpus: u64::from(cpus),
        start: image.header.start,
        info: SYSTRAP_PHYSMAP + BOOT_INFO_GPA,
        stack: SYSTRAP_PHYSMAP + CPU_AREAS_GPA + CPU_STACK_TOP,
        words: SYSTRAP_PHYSMAP + SYSTRAP_START_GPA,
        masks,
        instructions: [const { seccompiler::sock_filter { code: 0, jt: 0, jf: 0, k: 0 } }; 256],
    };
    match gate.instructions.get_mut(..program.len()) {
        Some(room) => room.clone_from_slice(&program),
        None => return Err(Error::Filter { reason: "it is too long".into() }),
    }
    let mut at = 0;
    for (start, len) in mapped.iter().copied().chain([(TASK_END, 0)]) {
        if start > at {
            gate.hole[gate.holes as usize] = [at, start - at];
            gate.holes += 1;
        }
        at = start + len;
    }
    // SAFETY: two pages were just mapped there for writing; the code fills the first exactly, and the data fits into
    // the second.
    unsafe {
        std::ptr::copy_nonoverlapping(
            (&raw const runsc_gate_begin).cast::<u8>(),
            GATE_CODE as *mut u8,
            PAGE_SIZE as usize,
        );
        (GATE_DATA as *mut Gate).write(gate);
    }
    raw::make_code(GATE_CODE, PAGE_SIZE)?;
    raw::protect(GATE_DATA, PAGE_SIZE, libc::PROT_READ)
}
