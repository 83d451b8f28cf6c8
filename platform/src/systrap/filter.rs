//! The system calls that stubs and the sentry process may make.

use std::collections::BTreeMap;

use abi::boot::{IMAGES_END, IMAGES_GPA, SYSTRAP_PHYSMAP};
use abi::systrap::{LISTENER_FD, STUB_AREA, STUB_CODE, STUB_KICK_SIGNAL, USER_ZONE_GPA};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use super::stub::{Entries, SPAWNER_CODE};
use crate::Error;

/// AUDIT_ARCH_X86_64.
const ARCH: u32 = 0xc000_003e;
/// Offsets in `struct seccomp_data`.
const DATA_NR: u32 = 0;
const DATA_ARCH: u32 = 4;
const DATA_IP_LOW: u32 = 8;
const DATA_IP_HIGH: u32 = 12;
const DATA_ARGS: u32 = 16;

const TRAP: u32 = 0x0003_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const ALLOW: u32 = 0x7fff_0000;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// What the spawner may call, each with its reason.
const SPAWNER: &[libc::c_long] = &[
    libc::SYS_sendmsg,           // the listener is handed over
    libc::SYS_close,             // descriptors that are not needed any more
    libc::SYS_recvfrom,          // commands
    libc::SYS_sendto,            // answers
    libc::SYS_clone,             // a stub
    libc::SYS_pidfd_send_signal, // the end of a stub
    libc::SYS_poll,              // waiting for it
    libc::SYS_exit_group,        // its own end
    libc::SYS_prctl,             // a fresh stub: dies with its spawner
    libc::SYS_close_range,       // a fresh stub: closes the spawner's descriptors
    libc::SYS_munmap,            // a fresh stub: drops the spawner's pages
];

/// How the sentry process maps zeros where an image has lost a page.
pub const ZEROS_PROT: i32 = libc::PROT_READ;
/// The flags of that.
pub const ZEROS_FLAGS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;

fn op(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Goes on if the loaded word is `value`; else the program ends with a trap.
fn require(program: &mut BpfProgram, value: u32) {
    program.extend([op(EQUAL, value, 1, 0), op(RETURN, TRAP, 0, 0)]);
}

/// Instructions that end with `action` where the system call is one of `calls`, and with a trap else.
fn one_of(calls: &[libc::c_long], action: u32) -> BpfProgram {
    let mut program = vec![op(LOAD, DATA_NR, 0, 0)];
    for (index, call) in calls.iter().enumerate() {
        // Over the rest of the list and the trap.
        program.push(op(EQUAL, *call as u32, (calls.len() - index) as u8, 0));
    }
    program.extend([op(RETURN, TRAP, 0, 0), op(RETURN, action, 0, 0)]);
    program
}

/// The filter of a spawner and its stubs. It goes by the address of the instruction: a stub has no spawner's page.
pub fn stub() -> BpfProgram {
    let entries = Entries::new();
    let operation = one_of(&[libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mprotect], NOTIFY);
    let sigreturn = one_of(&[libc::SYS_rt_sigreturn], ALLOW);
    // futex(2) on the state of the stub's own area, to wait (0) or to wake (1).
    let mut futex = vec![op(LOAD, DATA_NR, 0, 0)];
    require(&mut futex, libc::SYS_futex as u32);
    futex.push(op(LOAD, DATA_ARGS, 0, 0));
    require(&mut futex, STUB_AREA as u32);
    futex.push(op(LOAD, DATA_ARGS + 4, 0, 0));
    require(&mut futex, (STUB_AREA >> 32) as u32);
    futex.push(op(LOAD, DATA_ARGS + 8, 0, 0));
    futex.extend([op(GREATER, 1, 0, 1), op(RETURN, TRAP, 0, 0), op(RETURN, ALLOW, 0, 0)]);

    let mut program = vec![op(LOAD, DATA_ARCH, 0, 0)];
    require(&mut program, ARCH);
    program.push(op(LOAD, DATA_IP_HIGH, 0, 0));
    require(&mut program, (STUB_CODE >> 32) as u32);
    program.push(op(LOAD, DATA_IP_LOW, 0, 0));
    for (at, body) in [(entries.futex, futex), (entries.sigreturn, sigreturn), (entries.operation, operation)]
    {
        program.push(op(EQUAL, at as u32, 0, body.len() as u8));
        program.extend(body);
    }
    // The address is that of the next instruction: that of the spawner's last is the stub's first.
    program.extend([
        op(GREATER, STUB_CODE as u32, 0, 1),
        op(RETURN, TRAP, 0, 0),
        op(GREATER, SPAWNER_CODE as u32, 1, 0),
        op(RETURN, TRAP, 0, 0),
    ]);
    program.extend(one_of(SPAWNER, ALLOW));
    program
}

fn error(error: impl std::fmt::Display) -> Error {
    Error::Filter { reason: error.to_string() }
}

fn condition(argument: u8, is: SeccompCmpOp, value: u64) -> Result<SeccompCondition, Error> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, value).map_err(error)
}

/// The filter of the sentry process for `cpus` listeners. What it does not allow raises SIGSYS, whose handler says
/// so and ends the process.
pub fn sentry(cpus: u32) -> Result<BpfProgram, Error> {
    /// SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND.
    const NOTIFICATIONS: [u64; 2] = [0xc050_2100, 0xc018_2101];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = [
        libc::SYS_futex,             // host calls, stubs, idling, waking other vCPUs
        libc::SYS_futex_waitv,       // waiting for a stub or an interrupt, whichever comes first
        libc::SYS_poll,              // whether a notification of a stub is there
        libc::SYS_ppoll,             // the same
        libc::SYS_sched_yield,       // a lock whose holder is off its CPU
        libc::SYS_clock_nanosleep,   // the same
        libc::SYS_rt_sigreturn,      // return from a signal
        libc::SYS_restart_syscall,   // after a stop of the process
        libc::SYS_exit_group,        // its end, after a failure
        libc::SYS_sched_setaffinity, // a stub goes to another CPU, or back
    ]
    .into_iter()
    .map(|nr| (nr, Vec::new()))
    .collect();
    // The mappings of stubs are checked and let through.
    let last = LISTENER_FD + u64::from(cpus) - 1;
    let mut ioctls = Vec::new();
    for request in NOTIFICATIONS {
        let conditions = vec![
            condition(1, SeccompCmpOp::Eq, request)?,
            condition(0, SeccompCmpOp::Ge, LISTENER_FD)?,
            condition(0, SeccompCmpOp::Le, last)?,
        ];
        ioctls.push(SeccompRule::new(conditions).map_err(error)?);
    }
    rules.insert(libc::SYS_ioctl, ioctls);
    // A running stub is interrupted, or asked for whether it is there. The process sees its own namespace only.
    let mut kicks = Vec::new();
    for signal in [0, STUB_KICK_SIGNAL] {
        let conditions = vec![condition(2, SeccompCmpOp::Eq, signal)?];
        kicks.push(SeccompRule::new(conditions).map_err(error)?);
    }
    rules.insert(libc::SYS_tgkill, kicks);
    // It takes pages of its own memory away from itself: those below its kernel stacks.
    let own = |is, value| SeccompCondition::new(0, SeccompCmpArgLen::Qword, is, value).map_err(error);
    let conditions = vec![
        own(SeccompCmpOp::Ge, SYSTRAP_PHYSMAP)?,
        own(SeccompCmpOp::Lt, SYSTRAP_PHYSMAP + USER_ZONE_GPA)?,
        condition(1, SeccompCmpOp::Eq, abi::PAGE_SIZE)?,
        condition(2, SeccompCmpOp::Eq, libc::PROT_NONE as u64)?,
    ];
    rules.insert(libc::SYS_mprotect, vec![SeccompRule::new(conditions).map_err(error)?]);
    // Where an image has lost a page it maps zeros, and goes on.
    let conditions = vec![
        own(SeccompCmpOp::Ge, SYSTRAP_PHYSMAP + IMAGES_GPA)?,
        own(SeccompCmpOp::Lt, SYSTRAP_PHYSMAP + IMAGES_END)?,
        condition(1, SeccompCmpOp::Eq, abi::PAGE_SIZE)?,
        condition(2, SeccompCmpOp::Eq, ZEROS_PROT as u64)?,
        condition(3, SeccompCmpOp::Eq, ZEROS_FLAGS as u64)?,
    ];
    rules.insert(libc::SYS_mmap, vec![SeccompRule::new(conditions).map_err(error)?]);
    rules.insert(libc::SYS_rt_sigreturn, Vec::new());
    SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, TargetArch::x86_64)
        .map_err(error)?
        .try_into()
        .map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::PAGE_SIZE;

    /// Runs a filter as the kernel does.
    fn decide(program: &BpfProgram, nr: libc::c_long, arch: u32, ip: u64, args: [u64; 2]) -> u32 {
        let mut data = vec![nr as u32, arch, ip as u32, (ip >> 32) as u32];
        data.extend(args.iter().flat_map(|arg| [*arg as u32, (arg >> 32) as u32]));
        let (mut at, mut word) = (0, 0);
        loop {
            let op = &program[at];
            let jump = |taken: bool| at + 1 + usize::from(if taken { op.jt } else { op.jf });
            at = match op.code {
                LOAD => {
                    word = data[op.k as usize / 4];
                    at + 1
                }
                EQUAL => jump(word == op.k),
                GREATER => jump(word > op.k),
                RETURN => return op.k,
                code => panic!("instruction {code:#x}"),
            };
        }
    }

    #[test]
    fn a_stub_may_call_at_its_instructions_only() {
        let (filter, e) = (stub(), Entries::new());
        let at = |nr, ip, args| decide(&filter, nr, ARCH, ip, args);
        let area = STUB_AREA;
        for nr in [libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mprotect] {
            assert_eq!(at(nr, e.operation, [0; 2]), NOTIFY);
        }
        assert_eq!(at(libc::SYS_rt_sigreturn, e.sigreturn, [0; 2]), ALLOW);
        assert_eq!(at(libc::SYS_futex, e.futex, [area, 0]), ALLOW);
        assert_eq!(at(libc::SYS_futex, e.futex, [area, 1]), ALLOW);
        for args in [[area, 2], [area, 128], [area + 4, 0], [area + (1 << 32), 0]] {
            assert_eq!(at(libc::SYS_futex, e.futex, args), TRAP);
        }
        for ip in [0x1000, STUB_CODE + 2, STUB_CODE + PAGE_SIZE, e.operation + (1 << 32), e.operation + 1] {
            for nr in 0..500 {
                assert_eq!(at(nr, ip, [area, 0]), TRAP);
            }
        }
        for nr in 0..500 {
            for ip in [e.operation, e.sigreturn, e.futex] {
                let known = [libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mprotect];
                if !known.contains(&nr) && ![libc::SYS_rt_sigreturn, libc::SYS_futex].contains(&nr) {
                    assert_eq!(at(nr, ip, [area, 0]), TRAP);
                    // x32, and the 32-bit ABI.
                    assert_eq!(at(nr | 0x4000_0000, ip, [area, 0]), TRAP);
                }
                assert_eq!(decide(&filter, nr, 0x4000_0003, ip, [area, 0]), TRAP);
            }
        }
    }

    #[test]
    fn the_spawner_calls_from_its_page() {
        let filter = stub();
        for ip in [SPAWNER_CODE + 2, STUB_CODE] {
            assert_eq!(decide(&filter, libc::SYS_clone, ARCH, ip, [0; 2]), ALLOW);
            assert_eq!(decide(&filter, libc::SYS_execve, ARCH, ip, [0; 2]), TRAP);
        }
        assert_eq!(decide(&filter, libc::SYS_clone, ARCH, SPAWNER_CODE, [0; 2]), TRAP);
    }
}
