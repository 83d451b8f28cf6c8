//! futex(2), set_robust_list(2), get_robust_list(2).

use super::{Args, time};
use crate::errno::{Errno, Result};
use crate::kernel::futex::{self, MATCH_ANY};
use crate::kernel::process;
use crate::kernel::task::CurrentTask;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;

/// Bytes of struct robust_list_head.
const ROBUST_HEAD: u64 = 24;

/// futex(2)
pub fn futex(task: &CurrentTask, args: &Args) -> Result<u64> {
    let address = args.u64(0);
    let op = args.u32(1);
    let shared = op & c::FUTEX_PRIVATE_FLAG == 0;
    let realtime = op & c::FUTEX_CLOCK_REALTIME != 0;
    let value = args.u32(2);
    let command = op & !(c::FUTEX_PRIVATE_FLAG | c::FUTEX_CLOCK_REALTIME);
    if realtime && !matches!(command, c::FUTEX_WAIT | c::FUTEX_WAIT_BITSET) {
        return Err(Errno::ENOSYS);
    }
    let mm = task.mm();
    match command {
        c::FUTEX_WAIT | c::FUTEX_WAIT_BITSET => {
            let bitset = if command == c::FUTEX_WAIT { MATCH_ANY } else { args.u32(5) };
            let deadline = match args.u64(3) {
                0 => None,
                at => {
                    let t = time::read_timespec(task, at)?;
                    Some(match (command, realtime) {
                        (c::FUTEX_WAIT, _) => time::deadline_in(t),
                        (_, true) => time::monotonic_of_realtime(t),
                        (_, false) => t,
                    })
                }
            };
            let result = futex::wait(&mm, address, value, bitset, shared, deadline);
            match result {
                // A relative wait that went on after a handler would begin anew.
                Err(Errno::RESTART_SYS) if command == c::FUTEX_WAIT && deadline.is_some() => {
                    Err(Errno::EINTR)
                }
                r => r.map(|()| 0),
            }
        }
        c::FUTEX_WAKE => futex::wake(&mm, address, value, MATCH_ANY, shared),
        c::FUTEX_WAKE_BITSET => futex::wake(&mm, address, value, args.u32(5), shared),
        c::FUTEX_REQUEUE | c::FUTEX_CMP_REQUEUE => {
            if args.i32(2) < 0 || args.i32(3) < 0 {
                return Err(Errno::EINVAL);
            }
            let expected = (command == c::FUTEX_CMP_REQUEUE).then(|| args.u32(5));
            let (woken, moved) =
                futex::requeue(&mm, address, value, args.u64(4), args.u32(3), expected, shared)?;
            Ok(if expected.is_some() { woken + moved } else { woken })
        }
        c::FUTEX_WAKE_OP => {
            futex::wake_op(&mm, address, value, args.u64(4), args.u32(3), args.u32(5), shared)
        }
        // Priority inheritance is not there yet: docs/limits.md.
        _ => Err(Errno::ENOSYS),
    }
}

/// set_robust_list(2)
pub fn set_robust_list(task: &CurrentTask, args: &Args) -> Result<u64> {
    if args.u64(1) != ROBUST_HEAD {
        return Err(Errno::EINVAL);
    }
    task.robust_list.store(args.u64(0), Ordering::Relaxed);
    Ok(0)
}

/// get_robust_list(2)
pub fn get_robust_list(task: &CurrentTask, args: &Args) -> Result<u64> {
    let head = match args.u32(0) {
        0 => task.robust_list.load(Ordering::Relaxed),
        tid => process::find_task(tid).ok_or(Errno::ESRCH)?.robust_list.load(Ordering::Relaxed),
    };
    task.write_obj(args.u64(2), &ROBUST_HEAD)?;
    task.write_obj(args.u64(1), &head)?;
    Ok(0)
}
