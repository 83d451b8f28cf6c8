//! The processes of systrap with a sentry of a few instructions: it makes a stub, lets its first mapping through,
//! looks at its first stop, makes a forbidden system call where the test wants one, and ends the sandbox.

use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use abi::HOST_INTERFACE_VERSION;
use abi::boot::{CPU_AREAS_GPA, IMAGE_MAGIC, ImageHeader, SYSTRAP_IMAGE_BASE, SYSTRAP_PHYSMAP};
use abi::hostcall::{HostCall, SandboxExit, StubKill, StubSpawn};
use abi::systrap::{
    CALL_DONE, CALL_REQUEST, CPU_CALL_STATE, LISTENER_FD, STATE_RUN, STATE_STOPPED, USER_ZONE_GPA,
};
use platform::host::Parts;
use platform::jail::{self, Jail};
use platform::systrap::{self, SystrapMachine};
use platform::{Error, HostServices, Image, Machine, Outcome, process};
use zerocopy::IntoBytes;

/// Exit code of the sandbox if everything was as it has to be.
const GOOD: i32 = 42;
/// Exit code where the sentry process was ended for a crash or a forbidden call.
const CRASHED: i32 = 43;
/// Exit code where this user can make no namespaces here.
const NO_NAMESPACES: i32 = 44;
/// Time that a sandbox may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of the header before the code.
const HEADER: usize = size_of::<ImageHeader>();

// The sentry. r12: the vCPU's area; r13: the stub's area; both in the map of guest memory.
std::arch::global_asm!(
    ".pushsection .rodata.test_sentry, \"a\"",
    ".globl test_sentry_begin",
    "test_sentry_begin:",
    "movabs r12, {area}",
    "movabs r13, {stub}",
    "mov dword ptr [r13], {run}",
    "mov edi, {spawn}",
    "xor esi, esi",
    "movabs rdx, {user}",
    "call .Ltest_host_call",
    "test rax, rax",
    "jle .Ltest_bad",
    "mov r14, rax",
    // The notification of its first mapping, and the answer: go on.
    "sub rsp, 128",
    "mov rdi, rsp",
    "mov ecx, 16",
    "xor eax, eax",
    "rep stosq",
    "mov edi, {listener}",
    "mov esi, 0xc0502100",
    "mov rdx, rsp",
    "mov eax, {nr_ioctl}",
    "syscall",
    "test rax, rax",
    "jnz .Ltest_bad",
    "cmp [rsp + 8], r14d",
    "jne .Ltest_bad",
    "cmp dword ptr [rsp + 16], {nr_mmap}",
    "jne .Ltest_bad",
    "mov rax, [rsp]",
    "mov [rsp + 80], rax",
    "mov dword ptr [rsp + 100], 1",
    "mov edi, {listener}",
    "mov esi, 0xc0182101",
    "lea rdx, [rsp + 80]",
    "mov eax, {nr_ioctl}",
    "syscall",
    "test rax, rax",
    "jnz .Ltest_bad",
    ".Ltest_stopped:",
    "mov eax, {nr_sched_yield}",
    "syscall",
    "cmp dword ptr [r13], {stopped}",
    "jne .Ltest_stopped",
    "cmp dword ptr [r13 + 4], {sigsys}",
    "jne .Ltest_bad",
    "mov edi, {kill}",
    "mov rsi, r14",
    "call .Ltest_host_call",
    "test rax, rax",
    "jnz .Ltest_bad",
    // It is gone.
    "mov rdi, r14",
    "mov rsi, r14",
    "xor edx, edx",
    "mov eax, {nr_tgkill}",
    "syscall",
    "cmp rax, -3",
    "jne .Ltest_bad",
    "cmp dword ptr [rip + test_sentry_end - 4], 0",
    "je .Ltest_good",
    "mov eax, {nr_getpid}",
    "syscall",
    ".Ltest_good:",
    "mov esi, {good}",
    "jmp .Ltest_exit",
    ".Ltest_bad:",
    "mov esi, 0x100",
    ".Ltest_exit:",
    "mov edi, {exit}",
    "call .Ltest_host_call",
    "ud2",
    // Number in rdi, arguments in rsi and rdx.
    ".Ltest_host_call:",
    "mov [r12], rdi",
    "mov [r12 + 8], rsi",
    "mov [r12 + 16], rdx",
    "mov dword ptr [r12 + {state}], {request}",
    "lea rdi, [r12 + {state}]",
    "mov esi, 1",
    "mov edx, 1",
    "mov eax, {nr_futex}",
    "syscall",
    ".Ltest_wait:",
    "xor esi, esi",
    "mov edx, {request}",
    "xor r10d, r10d",
    "mov eax, {nr_futex}",
    "syscall",
    "cmp dword ptr [r12 + {state}], {done}",
    "jne .Ltest_wait",
    "mov dword ptr [r12 + {state}], 0",
    "mov rax, [r12 + 56]",
    "ret",
    ".balign 4",
    ".long 0",
    ".globl test_sentry_end",
    "test_sentry_end:",
    ".popsection",
    area = const SYSTRAP_PHYSMAP + CPU_AREAS_GPA,
    stub = const SYSTRAP_PHYSMAP + USER_ZONE_GPA,
    user = const USER_ZONE_GPA,
    run = const STATE_RUN,
    stopped = const STATE_STOPPED,
    listener = const LISTENER_FD,
    spawn = const StubSpawn::NR,
    kill = const StubKill::NR,
    exit = const SandboxExit::NR,
    state = const CPU_CALL_STATE,
    request = const CALL_REQUEST,
    done = const CALL_DONE,
    good = const GOOD << 8,
    sigsys = const libc::SIGSYS,
    nr_ioctl = const libc::SYS_ioctl,
    nr_mmap = const libc::SYS_mmap,
    nr_sched_yield = const libc::SYS_sched_yield,
    nr_tgkill = const libc::SYS_tgkill,
    nr_getpid = const libc::SYS_getpid,
    nr_futex = const libc::SYS_futex,
);

unsafe extern "C" {
    static test_sentry_begin: u8;
    static test_sentry_end: u8;
}

/// The image; `forbidden` says whether it makes a forbidden system call before it ends.
fn image(forbidden: bool) -> Vec<u8> {
    let header = ImageHeader {
        magic: IMAGE_MAGIC,
        version: u64::from(HOST_INTERFACE_VERSION),
        start: SYSTRAP_IMAGE_BASE + HEADER as u64,
        syscall_pvm: SYSTRAP_IMAGE_BASE,
        syscall_hw: SYSTRAP_IMAGE_BASE,
        end: SYSTRAP_IMAGE_BASE + abi::PAGE_SIZE,
        rodata: SYSTRAP_IMAGE_BASE + abi::PAGE_SIZE,
        data: SYSTRAP_IMAGE_BASE + abi::PAGE_SIZE,
    };
    let len = &raw const test_sentry_end as usize - &raw const test_sentry_begin as usize;
    // SAFETY: both symbols are defined above, in this order, around bytes that are never written.
    let code = unsafe { std::slice::from_raw_parts(&raw const test_sentry_begin, len) };
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(code);
    // The last word is the choice.
    let choice = bytes.len() - 4;
    bytes[choice] = u8::from(forbidden);
    bytes
}

/// Makes and runs the sandbox in this process.
fn sandbox(mount_point: &std::path::Path, forbidden: bool) -> Result<std::convert::Infallible, Error> {
    let stderr = std::io::stderr().as_raw_fd();
    let jail = Jail { mount_point, reads_files: false, writes_files: false, kvm: false, report: stderr };
    if jail::isolate(&jail).is_err() {
        process::exit_now(NO_NAMESPACES);
    }
    let memory = Arc::new(systrap::memory(128 << 20, 0)?);
    let bytes = image(forbidden);
    let image = Image::new(&bytes, SYSTRAP_IMAGE_BASE)?;
    let host = systrap::Host::new(1_000_000);
    let machine = SystrapMachine::new(&host, &image, b"", 2, Arc::clone(&memory))?;
    jail::lock(&jail)?;
    let services = HostServices::new(Parts {
        memory,
        directories: Vec::new(),
        streams: Vec::new(),
        listener: None,
        winch: None,
        sentry: "",
        log: Box::new(|_, text| eprintln!("{text}")),
        set_log: Box::new(|_| true),
        created: Box::new(|_| {}),
        finish: Box::new(|outcome| match outcome {
            Outcome::Exited(status) => status >> 8,
            Outcome::Failed(reason) if reason.contains("forbidden system call 39") => CRASHED,
            Outcome::Failed(reason) => {
                eprintln!("{reason}");
                process::FAILED
            }
        }),
    })?;
    Box::new(machine).run(services)
}

/// One at a time: what is forked should be a process whose other threads do nothing.
static TURN: Mutex<()> = Mutex::new(());

/// Runs it in a process of its own, and returns its exit code.
fn run(name: &str, forbidden: bool) -> Option<i32> {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Err(error) = systrap::probe() {
        eprintln!("skipped: {error}");
        return None;
    }
    let mount_point = std::env::temp_dir().join(format!("runsc-systrap-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&mount_point).expect("mkdir");
    let child = process::fork(false, || match sandbox(&mount_point, forbidden) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("{error}");
            process::FAILED
        }
    })
    .expect("fork");
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = process::ended(child) {
            break status;
        }
        if begin.elapsed() > PATIENCE {
            process::kill_child(child);
            panic!("the sandbox hangs");
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let _ = std::fs::remove_dir(&mount_point);
    assert!(libc::WIFEXITED(status), "{status:#x}");
    match libc::WEXITSTATUS(status) {
        NO_NAMESPACES => {
            eprintln!("skipped: no namespaces");
            None
        }
        code => Some(code),
    }
}

#[test]
fn a_stub_is_made_stopped_and_ended() {
    assert!(matches!(run("stub", false), None | Some(GOOD)));
}

#[test]
fn a_forbidden_call_ends_the_sandbox_with_a_report() {
    assert!(matches!(run("forbidden", true), None | Some(CRASHED)));
}
