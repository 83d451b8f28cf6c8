//! System V semaphores: semget(2), semop(2), semtimedop(2), semctl(2).

use super::{Args, time};
use crate::errno::{Errno, Result};
use crate::ipc::sem::{self, SEMVMX, SETS, SemOp, Set};
use crate::ipc::{READ, UserPerm, WRITE, limits};
use crate::kernel::task::CurrentTask;
use alloc::vec::Vec;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// struct semid64_ds.
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct SemidDs {
    perm: UserPerm,
    otime: i64,
    unused1: u64,
    ctime: i64,
    unused2: u64,
    count: u64,
    unused3: [u64; 2],
}

/// semget(2)
pub fn semget(task: &CurrentTask, args: &Args) -> Result<u64> {
    sem::get(args.i32(0), args.i32(1), args.u32(2), &task.cred()).map(|id| id as u64)
}

/// semop(2)
pub fn semop(task: &CurrentTask, args: &Args) -> Result<u64> {
    operate(task, args, None)
}

/// semtimedop(2)
pub fn semtimedop(task: &CurrentTask, args: &Args) -> Result<u64> {
    let deadline = match args.u64(3) {
        0 => None,
        at => Some(time::deadline_in(time::read_timespec(task, at)?)),
    };
    operate(task, args, deadline)
}

fn operate(task: &CurrentTask, args: &Args, deadline: Option<u64>) -> Result<u64> {
    let (id, at, count) = (args.i32(0), args.u64(1), args.u32(2));
    if count == 0 || id < 0 {
        return Err(Errno::EINVAL);
    }
    // The limit can be set high; no list is longer than what one call may take of the heap.
    if u64::from(count) > limits::get(&limits::SEMOPM).min(1 << 16) {
        return Err(Errno::E2BIG);
    }
    let mut ops = alloc::vec![SemOp { num: 0, change: 0, flags: 0 }; count as usize];
    task.read_bytes(at, ops.as_mut_slice().as_mut_bytes())?;
    let set = SETS.find(id)?;
    let undoes = ops.iter().any(|op| op.flags & sem::SEM_UNDO != 0 && op.change != 0);
    let list = if undoes { Some(task.undo_list()) } else { None };
    set.operate(ops, task.pid(), list.as_deref(), &task.cred(), deadline)?;
    Ok(0)
}

fn stat(set: &Set) -> SemidDs {
    let (perm, otime, ctime) = set.stat();
    SemidDs {
        perm: perm.to_user(),
        otime,
        unused1: 0,
        ctime,
        unused2: 0,
        count: set.count as u64,
        unused3: [0; 2],
    }
}

/// struct seminfo: SEM_INFO has numbers of sets and semaphores where IPC_INFO has constants.
fn info(used: bool) -> [i32; 10] {
    let limit = |l| limits::get(l).min(i32::MAX as u64) as i32;
    let (size, adjust) = if used { (SETS.len() as i32, sem::total() as i32) } else { (20, SEMVMX) };
    let (sets, per_set, ops) = (limit(&limits::SEMMNI), limit(&limits::SEMMSL), limit(&limits::SEMOPM));
    // semmap, semmnu and semume mean nothing on Linux, and are what its headers say.
    [1_024_000_000, sets, limit(&limits::SEMMNS), 1_024_000_000, per_set, ops, 500, size, SEMVMX, adjust]
}

/// semctl(2)
pub fn semctl(task: &CurrentTask, args: &Args) -> Result<u64> {
    const IPC_RMID: i32 = 0;
    const IPC_SET: i32 = 1;
    const IPC_STAT: i32 = 2;
    const IPC_INFO: i32 = 3;
    const GETPID: i32 = 11;
    const GETVAL: i32 = 12;
    const GETALL: i32 = 13;
    const GETNCNT: i32 = 14;
    const GETZCNT: i32 = 15;
    const SETVAL: i32 = 16;
    const SETALL: i32 = 17;
    const SEM_STAT: i32 = 18;
    const SEM_INFO: i32 = 19;
    const SEM_STAT_ANY: i32 = 20;
    let (id, num, command, arg) = (args.i32(0), args.i32(1), args.i32(2), args.u64(3));
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let cred = task.cred();
    match command {
        IPC_INFO | SEM_INFO => {
            task.write_obj(arg, &info(command == SEM_INFO))?;
            Ok(SETS.max_index())
        }
        IPC_STAT | SEM_STAT | SEM_STAT_ANY => {
            let (id, set) = if command == IPC_STAT { (0, SETS.find(id)?) } else { SETS.at(id)? };
            if command != SEM_STAT_ANY {
                set.stat().0.check(&cred, READ)?;
            }
            task.write_obj(arg, &stat(&set))?;
            Ok(id as u64)
        }
        GETALL => {
            let set = SETS.find(id)?;
            set.stat().0.check(&cred, READ)?;
            task.write_bytes(arg, set.values().as_slice().as_bytes())?;
            Ok(0)
        }
        GETVAL | GETPID | GETNCNT | GETZCNT => {
            let set = SETS.find(id)?;
            set.stat().0.check(&cred, READ)?;
            let num = usize::try_from(num).map_err(|_| Errno::EINVAL)?;
            let (value, pid) = set.value(num).ok_or(Errno::EINVAL)?;
            Ok(match command {
                GETVAL => u64::from(value),
                GETPID => u64::from(pid),
                _ => set.waiting(num, command == GETZCNT),
            })
        }
        SETVAL => {
            let value = arg as i32;
            if !(0..=SEMVMX).contains(&value) {
                return Err(Errno::ERANGE);
            }
            let set = SETS.find(id)?;
            let num = usize::try_from(num).ok().filter(|n| *n < set.count).ok_or(Errno::EINVAL)?;
            set.stat().0.check(&cred, WRITE)?;
            set.set_values(num, &[value as u16], task.pid());
            Ok(0)
        }
        SETALL => {
            let set = SETS.find(id)?;
            set.stat().0.check(&cred, WRITE)?;
            let mut values: Vec<u16> = alloc::vec![0; set.count];
            task.read_bytes(arg, values.as_mut_slice().as_mut_bytes())?;
            if values.iter().any(|v| i32::from(*v) > SEMVMX) {
                return Err(Errno::ERANGE);
            }
            set.set_values(0, &values, task.pid());
            Ok(0)
        }
        IPC_SET => {
            let new: SemidDs = task.read_obj(arg)?;
            SETS.find(id)?.set_perm(&cred, &new.perm).map(|()| 0)
        }
        IPC_RMID => SETS.find(id)?.remove(&cred).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}
