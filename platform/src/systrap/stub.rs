//! The code of stubs and of the process that forks them, at fixed addresses.
//!
//! Three pages lie in a row: data of the spawner, code of the spawner, code of the stubs. The spawner's last
//! instruction, run by a fresh stub, unmaps the first two and so goes on at the first instruction of the third.
//! Nothing here uses a stack, except that the kernel puts signal frames on the alternate one.

use std::mem::offset_of;

use abi::PAGE_SIZE;
use abi::boot::MAX_IMAGES;
use abi::systrap::{STUB_AREA, STUB_AREA_SIZE, STUB_CODE, STUB_IMAGE_FD, STUB_MEMFD, StubControl};

/// Address of the spawner's code; the stub's follows.
pub const SPAWNER_CODE: u64 = STUB_CODE - PAGE_SIZE;
/// Address of the spawner's data.
pub const SPAWNER_DATA: u64 = SPAWNER_CODE - PAGE_SIZE;
/// Descriptor on which the spawner takes commands.
pub const COMMAND_FD: i32 = STUB_IMAGE_FD as i32 + MAX_IMAGES as i32;
/// Descriptor on which the spawner hands over its listener, once.
pub const HANDSHAKE_FD: i32 = COMMAND_FD + 1;
/// First address beyond what a process can map (four-level page tables).
pub const TASK_END: u64 = 0x7fff_ffff_f000;

/// Offset in the spawner's data of a command, two quadwords: kind and argument.
const COMMAND: u64 = 0;
/// Kind of command: fork a stub. The argument is the offset of its area in the user zone's file.
pub const COMMAND_SPAWN: u64 = 0;
/// Kind of command: kill a stub. The argument is its descriptor.
pub const COMMAND_KILL: u64 = 1;
/// Bytes of a command and of an answer.
pub const MESSAGE_LEN: usize = 16;
/// Offset of the answer, two quadwords: process id or negated errno; descriptor of the process.
const ANSWER: u64 = 16;
/// Offset of a `struct pollfd`.
const POLL: u64 = 32;
/// Offset of the filter's `struct sock_fprog`.
pub const PROGRAM: u64 = 64;
/// Offset of the message that hands over the listener, with its parts.
pub const MESSAGE: u64 = 128;
/// Offset of its vector.
pub const VECTOR: u64 = 192;
/// Offset of its control part, at whose end the descriptor goes.
pub const ANCILLARY: u64 = 224;
/// Offset of the filter's instructions.
pub const INSTRUCTIONS: u64 = 512;

/// Exit code of a spawner that cannot clear its address space.
pub const EXIT_UNMAP: i32 = 97;
/// Exit code of one that cannot install its filter or hand over the listener.
pub const EXIT_FILTER: i32 = 96;

std::arch::global_asm!(
    ".pushsection .rodata.runsc_stub, \"a\"",
    ".balign 4096",
    ".globl runsc_spawner_begin",
    "runsc_spawner_begin:",
    "movabs rbp, {data}",
    // Everything else goes.
    "xor edi, edi",
    "mov rsi, rbp",
    "mov eax, {nr_munmap}",
    "syscall",
    "test rax, rax",
    "jnz .Lspawner_unmapped_not",
    "movabs rdi, {stub_end}",
    "movabs rsi, {rest}",
    "mov eax, {nr_munmap}",
    "syscall",
    "test rax, rax",
    "jnz .Lspawner_unmapped_not",
    // The filter, from here on; its listener is handed over.
    "mov edi, 1",
    "mov esi, 8",
    "lea rdx, [rbp + {program}]",
    "mov eax, {nr_seccomp}",
    "syscall",
    "test rax, rax",
    "js .Lspawner_failed",
    "mov [rbp + {listener}], eax",
    "mov ebx, eax",
    "mov edi, {handshake}",
    "lea rsi, [rbp + {message}]",
    "mov edx, {no_signal}",
    "mov eax, {nr_sendmsg}",
    "syscall",
    "test rax, rax",
    "js .Lspawner_failed",
    "mov edi, ebx",
    "mov eax, {nr_close}",
    "syscall",
    "mov edi, {handshake}",
    "mov eax, {nr_close}",
    "syscall",
    ".Lspawner_loop:",
    "mov edi, {command_fd}",
    "lea rsi, [rbp + {command}]",
    "mov edx, {message_len}",
    "xor r10d, r10d",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "mov eax, {nr_recvfrom}",
    "syscall",
    "cmp rax, {message_len}",
    "jne .Lspawner_exit",
    "mov qword ptr [rbp + {answer} + 8], -1",
    "cmp qword ptr [rbp + {command}], {kill}",
    "je .Lspawner_kill",
    // A stub.
    "mov edi, {clone_flags}",
    "xor esi, esi",
    "lea rdx, [rbp + {answer} + 8]",
    "xor r10d, r10d",
    "xor r8d, r8d",
    "mov eax, {nr_clone}",
    "syscall",
    "test rax, rax",
    "jz .Lspawner_child",
    ".Lspawner_answer:",
    "mov [rbp + {answer}], rax",
    "mov edi, {command_fd}",
    "lea rsi, [rbp + {answer}]",
    "mov edx, {message_len}",
    "mov r10d, {no_signal}",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "mov eax, {nr_sendto}",
    "syscall",
    "test rax, rax",
    "jns .Lspawner_loop",
    ".Lspawner_exit:",
    "xor edi, edi",
    ".Lspawner_exit_with:",
    "mov eax, {nr_exit_group}",
    "syscall",
    "ud2",
    ".Lspawner_unmapped_not:",
    "mov edi, {exit_unmap}",
    "jmp .Lspawner_exit_with",
    ".Lspawner_failed:",
    "mov edi, {exit_filter}",
    "jmp .Lspawner_exit_with",
    // The end of a stub: killed, waited for, and its descriptor closed.
    ".Lspawner_kill:",
    "mov rbx, [rbp + {command} + 8]",
    "mov edi, ebx",
    "mov esi, 9",
    "xor edx, edx",
    "xor r10d, r10d",
    "mov eax, {nr_pidfd_send_signal}",
    "syscall",
    "mov [rbp + {poll}], ebx",
    "mov dword ptr [rbp + {poll} + 4], 1",
    "lea rdi, [rbp + {poll}]",
    "mov esi, 1",
    "mov edx, -1",
    "mov eax, {nr_poll}",
    "syscall",
    "mov edi, ebx",
    "mov eax, {nr_close}",
    "syscall",
    "xor eax, eax",
    "jmp .Lspawner_answer",
    // A fresh stub: it dies with its spawner, keeps the file of the user zone alone, and drops these pages.
    ".Lspawner_child:",
    "mov rbx, [rbp + {command} + 8]",
    "mov edi, 1",
    "mov esi, 9",
    "xor edx, edx",
    "xor r10d, r10d",
    "xor r8d, r8d",
    "mov eax, {nr_prctl}",
    "syscall",
    "mov edi, {command_fd}",
    "mov esi, -1",
    "xor edx, edx",
    "mov eax, {nr_close_range}",
    "syscall",
    "mov rdi, rbp",
    "mov esi, 8192",
    "mov eax, {nr_munmap}",
    "jmp .Lspawner_last",
    ".org runsc_spawner_begin + 4094",
    ".Lspawner_last:",
    "syscall",
    ".globl runsc_stub_begin",
    "runsc_stub_begin:",
    // A fresh stub: its area, then a first stop.
    "movabs rdi, {area}",
    "mov esi, {area_size}",
    "mov edx, 3",
    "mov r10d, 0x11",
    "mov r8d, {memfd}",
    "mov r9, rbx",
    "mov eax, {nr_mmap}",
    "jmp .Lstub_operation",
    ".Lstub_dies:",
    "ud2",
    // The handler of every signal: rdi signal, rsi siginfo, rdx ucontext.
    ".balign 64",
    ".globl runsc_stub_handler",
    "runsc_stub_handler:",
    "movabs r15, {area}",
    "mov [r15 + {ucontext}], rdx",
    "mov [r15 + {siginfo}], rsi",
    "rdfsbase rax",
    "mov [r15 + {fs_base}], rax",
    "rdgsbase rax",
    "mov [r15 + {gs_base}], rax",
    "mov [r15 + {signal}], edi",
    ".Lstub_stopped:",
    "mov r14, [r15 + {spins}]",
    "xor eax, eax",
    "xchg [r15], eax",
    "cmp dword ptr [r15 + {sentry_waits}], 0",
    "je .Lstub_spin",
    "mov esi, 1",
    "mov edx, 1",
    "lea r13, [rip + .Lstub_spin]",
    "jmp .Lstub_futex",
    ".Lstub_spin:",
    "mov eax, [r15]",
    "test eax, eax",
    "jnz .Lstub_go",
    "test r14, r14",
    "jz .Lstub_wait",
    "dec r14",
    "pause",
    "jmp .Lstub_spin",
    // Whoever sets a state looks at this word afterwards: one of the two sees the other.
    ".Lstub_wait:",
    "mov eax, 1",
    "xchg [r15 + {stub_waits}], eax",
    "lea r13, [rip + .Lstub_check]",
    ".Lstub_check:",
    "mov eax, [r15]",
    "xor esi, esi",
    "xor edx, edx",
    "test eax, eax",
    "jz .Lstub_futex",
    "mov dword ptr [r15 + {stub_waits}], 0",
    ".Lstub_go:",
    "cmp eax, {run}",
    "je .Lstub_run",
    "cmp eax, {operate}",
    "jne .Lstub_dies",
    "mov rax, [r15 + {operation}]",
    "mov rdi, [r15 + {operation} + 8]",
    "mov rsi, [r15 + {operation} + 16]",
    "mov rdx, [r15 + {operation} + 24]",
    "mov r10, [r15 + {operation} + 32]",
    "mov r8, [r15 + {operation} + 40]",
    "mov r9, [r15 + {operation} + 48]",
    ".Lstub_operation:",
    "syscall",
    ".globl runsc_stub_operation_end",
    "runsc_stub_operation_end:",
    // A program that has jumped to the call goes on here and nowhere else, too: what is stored now is true. Without an
    // area (the first call failed) this faults, and the stub dies for want of a stack.
    "movabs r15, {area}",
    "mov [r15 + {result}], rax",
    "mov dword ptr [r15 + {signal}], 0",
    "cmp qword ptr [r15 + {ucontext}], 0",
    "jne .Lstub_stopped",
    // There is no signal frame: the handler of this call's SIGSYS stops with a new one, at the top of its stack.
    "xor esp, esp",
    "mov eax, {nr_getpid}",
    "syscall",
    "ud2",
    ".Lstub_run:",
    "mov rax, [r15 + {fs_base}]",
    "wrfsbase rax",
    "mov rax, [r15 + {gs_base}]",
    "wrgsbase rax",
    "mov rsp, [r15 + {ucontext}]",
    ".globl runsc_stub_restorer",
    "runsc_stub_restorer:",
    "mov eax, {nr_rt_sigreturn}",
    "syscall",
    ".globl runsc_stub_sigreturn_end",
    "runsc_stub_sigreturn_end:",
    "ud2",
    ".Lstub_futex:",
    "mov rdi, r15",
    "xor r10d, r10d",
    "mov eax, {nr_futex}",
    "syscall",
    ".globl runsc_stub_futex_end",
    "runsc_stub_futex_end:",
    "jmp r13",
    ".globl runsc_stub_end",
    "runsc_stub_end:",
    ".balign 4096, 0xcc",
    ".popsection",
    data = const SPAWNER_DATA,
    stub_end = const STUB_CODE + PAGE_SIZE,
    rest = const TASK_END - STUB_CODE - PAGE_SIZE,
    program = const PROGRAM,
    message = const MESSAGE,
    listener = const ANCILLARY + 16,
    command = const COMMAND,
    answer = const ANSWER,
    poll = const POLL,
    handshake = const HANDSHAKE_FD,
    command_fd = const COMMAND_FD,
    message_len = const MESSAGE_LEN,
    kill = const COMMAND_KILL,
    no_signal = const libc::MSG_NOSIGNAL,
    clone_flags = const libc::CLONE_PIDFD | libc::SIGCHLD,
    exit_unmap = const EXIT_UNMAP,
    exit_filter = const EXIT_FILTER,
    area = const STUB_AREA,
    area_size = const STUB_AREA_SIZE,
    memfd = const STUB_MEMFD,
    ucontext = const offset_of!(StubControl, ucontext),
    siginfo = const offset_of!(StubControl, siginfo),
    signal = const offset_of!(StubControl, signal),
    fs_base = const offset_of!(StubControl, fs_base),
    gs_base = const offset_of!(StubControl, gs_base),
    operation = const offset_of!(StubControl, operation),
    result = const offset_of!(StubControl, result),
    spins = const offset_of!(StubControl, spins),
    stub_waits = const offset_of!(StubControl, stub_waits),
    sentry_waits = const offset_of!(StubControl, sentry_waits),
    run = const abi::systrap::STATE_RUN,
    operate = const abi::systrap::STATE_OPERATE,
    nr_mmap = const libc::SYS_mmap,
    nr_munmap = const libc::SYS_munmap,
    nr_seccomp = const libc::SYS_seccomp,
    nr_sendmsg = const libc::SYS_sendmsg,
    nr_sendto = const libc::SYS_sendto,
    nr_recvfrom = const libc::SYS_recvfrom,
    nr_close = const libc::SYS_close,
    nr_close_range = const libc::SYS_close_range,
    nr_clone = const libc::SYS_clone,
    nr_prctl = const libc::SYS_prctl,
    nr_poll = const libc::SYS_poll,
    nr_pidfd_send_signal = const libc::SYS_pidfd_send_signal,
    nr_exit_group = const libc::SYS_exit_group,
    nr_getpid = const libc::SYS_getpid,
    nr_futex = const libc::SYS_futex,
    nr_rt_sigreturn = const libc::SYS_rt_sigreturn,
);

// `state` is addressed without an offset above.
const _: () = assert!(offset_of!(StubControl, state) == 0);

unsafe extern "C" {
    static runsc_spawner_begin: [u8; 2 * PAGE_SIZE as usize];
    static runsc_stub_begin: u8;
    static runsc_stub_handler: u8;
    static runsc_stub_restorer: u8;
    static runsc_stub_sigreturn_end: u8;
    static runsc_stub_operation_end: u8;
    static runsc_stub_futex_end: u8;
}

/// Both pages of code: the spawner's and the stub's.
pub fn code() -> &'static [u8] {
    // SAFETY: the symbol is defined above, padded to exactly two pages, and is never written.
    unsafe { &runsc_spawner_begin }
}

/// Addresses in a stub that the filter and the signal handlers need.
#[derive(Debug, Clone, Copy)]
pub struct Entries {
    /// Handler of every signal.
    pub handler: u64,
    /// Where a handler returns to.
    pub restorer: u64,
    /// After the system call that returns from a signal.
    pub sigreturn: u64,
    /// After the system call of operations.
    pub operation: u64,
    /// After futex(2).
    pub futex: u64,
}

impl Entries {
    /// Those of the code above.
    pub fn new() -> Self {
        let begin = &raw const runsc_stub_begin as u64;
        let at = |symbol: *const u8| STUB_CODE + (symbol as u64 - begin);
        Self {
            handler: at(&raw const runsc_stub_handler),
            restorer: at(&raw const runsc_stub_restorer),
            sigreturn: at(&raw const runsc_stub_sigreturn_end),
            operation: at(&raw const runsc_stub_operation_end),
            futex: at(&raw const runsc_stub_futex_end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stub_begins_where_the_spawner_ends() {
        let begin = &raw const runsc_spawner_begin as u64;
        assert_eq!(&raw const runsc_stub_begin as u64, begin + PAGE_SIZE);
        assert_eq!(&code()[PAGE_SIZE as usize - 2..PAGE_SIZE as usize], b"\x0f\x05");
        let entries = Entries::new();
        for at in [entries.handler, entries.restorer, entries.sigreturn, entries.operation, entries.futex] {
            assert!((STUB_CODE..STUB_CODE + PAGE_SIZE).contains(&at));
        }
    }
}
