//! Filtering of system calls: seccomp(2).

use super::Args;
use crate::errno::{Errno, Result};
use crate::fs::seccomp_listener;
use crate::kernel::bpf::{Instruction, MAX_INSTRUCTIONS, Program};
use crate::kernel::cred::cap;
use crate::kernel::seccomp::{self, notify::Listener};
use crate::kernel::task::CurrentTask;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as c;
use linux_raw_sys::ptrace as p;
use zerocopy::IntoBytes;

/// struct sock_fprog: the number of instructions, and where they are.
type SockFprog = [u64; 2];
/// Sizes of struct seccomp_notif, seccomp_notif_resp and seccomp_data.
const NOTIF_SIZES: [u16; 3] = [80, 24, 64];

/// seccomp(2)
pub fn seccomp(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (flags, at) = (args.u32(1), args.u64(2));
    match args.u32(0) {
        p::SECCOMP_SET_MODE_STRICT if flags == 0 && at == 0 => set_strict(task),
        p::SECCOMP_SET_MODE_FILTER => set_filter(task, flags, at),
        p::SECCOMP_GET_ACTION_AVAIL if flags == 0 => {
            let action: u32 = task.read_obj(at)?;
            match action {
                p::SECCOMP_RET_KILL_PROCESS
                | p::SECCOMP_RET_KILL_THREAD
                | p::SECCOMP_RET_TRAP
                | p::SECCOMP_RET_ERRNO
                | p::SECCOMP_RET_USER_NOTIF
                | p::SECCOMP_RET_TRACE
                | p::SECCOMP_RET_LOG
                | p::SECCOMP_RET_ALLOW => Ok(0),
                _ => Err(Errno::EOPNOTSUPP),
            }
        }
        p::SECCOMP_GET_NOTIF_SIZES if flags == 0 => {
            task.write_bytes(at, NOTIF_SIZES.as_bytes())?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// SECCOMP_SET_MODE_STRICT, and PR_SET_SECCOMP with that mode.
pub fn set_strict(task: &CurrentTask) -> Result<u64> {
    seccomp::set_strict(task.task()).map(|()| 0)
}

/// SECCOMP_SET_MODE_FILTER, and PR_SET_SECCOMP with that mode. `at`: the address of a struct sock_fprog.
///
/// # Errors
/// EINVAL: the program or a flag is not valid (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is not there); EACCES without
/// no_new_privs and CAP_SYS_ADMIN; ESRCH where threads cannot be made alike and the flag asks for it; EBUSY: there is a
/// listener; EMFILE, EFAULT, ENOMEM.
pub fn set_filter(task: &CurrentTask, flags: u32, at: u64) -> Result<u64> {
    let known = p::SECCOMP_FILTER_FLAG_TSYNC
        | p::SECCOMP_FILTER_FLAG_LOG
        | p::SECCOMP_FILTER_FLAG_SPEC_ALLOW
        | p::SECCOMP_FILTER_FLAG_NEW_LISTENER
        | p::SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
    // The result of the call is a thread's number, or the listener's descriptor.
    let both = p::SECCOMP_FILTER_FLAG_TSYNC | p::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    if flags & !known != 0 || flags & (both | p::SECCOMP_FILTER_FLAG_TSYNC_ESRCH) == both {
        return Err(Errno::EINVAL);
    }
    let [len, code_at]: SockFprog = task.read_obj(at)?;
    let len = usize::from(len as u16);
    if len == 0 || len > MAX_INSTRUCTIONS {
        return Err(Errno::EINVAL);
    }
    let cred = task.cred();
    if !cred.no_new_privs && !cred.has(cap::SYS_ADMIN) {
        return Err(Errno::EACCES);
    }
    let mut code: Vec<Instruction> = Vec::new();
    code.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    code.resize(len, Instruction { code: 0, jt: 0, jf: 0, k: 0 });
    task.read_bytes(code_at, code.as_mut_bytes())?;
    let program = Program::new(code)?;
    let log = flags & p::SECCOMP_FILTER_FLAG_LOG != 0;
    if flags & p::SECCOMP_FILTER_FLAG_NEW_LISTENER == 0 {
        return install(task, flags, program, log, None);
    }
    let listener = Listener::new();
    let file = seccomp_listener::new(listener.clone());
    let fd = task.files().install(file, true, task.rlimit(c::RLIMIT_NOFILE).0)?;
    match install(task, flags, program, log, Some(listener)) {
        Ok(_) => Ok(fd as u64),
        Err(e) => {
            drop(task.files().close(fd));
            Err(e)
        }
    }
}

fn install(
    task: &CurrentTask,
    flags: u32,
    program: Program,
    log: bool,
    listener: Option<Arc<Listener>>,
) -> Result<u64> {
    if flags & p::SECCOMP_FILTER_FLAG_TSYNC == 0 {
        return seccomp::install(task.task(), program, log, listener).map(|()| 0);
    }
    match seccomp::install_for_all(task, program, log, listener)? {
        None => Ok(0),
        Some(_) if flags & p::SECCOMP_FILTER_FLAG_TSYNC_ESRCH != 0 => Err(Errno::ESRCH),
        Some(tid) => Ok(u64::from(tid)),
    }
}
