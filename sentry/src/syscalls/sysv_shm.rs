//! System V shared memory: shmget(2), shmat(2), shmdt(2), shmctl(2).

use super::Args;
use crate::errno::{Errno, Result};
use crate::ipc::shm::{self, SEGMENTS, SHM_LOCKED, Segment};
use crate::ipc::{READ, UserPerm, WRITE, limits};
use crate::kernel::cred::cap;
use crate::kernel::task::CurrentTask;
use crate::mm::map::{Content, Placement};
use crate::mm::vma::{Prot, VmFlags};
use abi::PAGE_SIZE;
use linux_raw_sys::general as c;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const SHM_RDONLY: u32 = 0o10_000;
const SHM_RND: u32 = 0o20_000;
const SHM_REMAP: u32 = 0o40_000;
const SHM_EXEC: u32 = 0o100_000;

/// struct shmid64_ds.
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct ShmidDs {
    perm: UserPerm,
    size: u64,
    atime: i64,
    dtime: i64,
    ctime: i64,
    cpid: i32,
    lpid: i32,
    attached: u64,
    unused: [u64; 2],
}

/// shmget(2)
pub fn shmget(task: &CurrentTask, args: &Args) -> Result<u64> {
    shm::get(args.i32(0), args.u64(1), args.u32(2), &task.cred()).map(|id| id as u64)
}

/// shmat(2)
pub fn shmat(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (id, mut at, flags) = (args.i32(0), args.u64(1), args.u32(2));
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    if !at.is_multiple_of(PAGE_SIZE) {
        if flags & SHM_RND == 0 {
            return Err(Errno::EINVAL);
        }
        at &= !(PAGE_SIZE - 1);
        if at == 0 && flags & SHM_REMAP != 0 {
            return Err(Errno::EINVAL);
        }
    }
    let placement = match (at, flags & SHM_REMAP != 0) {
        (0, true) => return Err(Errno::EINVAL),
        // Rounded down to nothing, it is still an address.
        (0, false) if args.u64(1) == 0 => Placement::Hint(0),
        (at, false) => Placement::FixedNoReplace(at),
        (at, true) => Placement::Fixed(at),
    };
    let (mut prot, mut wanted) = (Prot::READ, READ);
    let mut vm = VmFlags::SHARED;
    if flags & SHM_RDONLY == 0 {
        prot |= Prot::WRITE;
        wanted |= WRITE;
        vm |= VmFlags::MAYWRITE;
    }
    if flags & SHM_EXEC != 0 {
        prot |= Prot::EXEC;
        wanted |= 0o111;
    }
    let segment = SEGMENTS.find(id)?;
    segment.state().perm.check(&task.cred(), wanted)?;
    let content = Content::Object(segment.attach(), 0);
    task.mm_ref().mmap(placement, segment.size, prot, vm, content, &task.map_limits()).map_err(|e| match e {
        Errno::EEXIST => Errno::EINVAL,
        e => e,
    })
}

/// shmdt(2)
pub fn shmdt(task: &CurrentTask, args: &Args) -> Result<u64> {
    if !args.u64(0).is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    task.mm_ref().detach(args.u64(0)).map(|()| 0)
}

fn stat(segment: &Segment) -> ShmidDs {
    let s = segment.state();
    ShmidDs {
        perm: s.perm.to_user(),
        size: segment.size,
        atime: s.atime,
        dtime: s.dtime,
        ctime: s.ctime,
        cpid: s.cpid as i32,
        lpid: s.lpid as i32,
        attached: s.attached,
        unused: [0; 2],
    }
}

/// SHM_LOCK, SHM_UNLOCK: kept and shown, since nothing is ever paged out.
fn lock(task: &CurrentTask, segment: &Segment, on: bool) -> Result<()> {
    let cred = task.cred();
    segment.change(|state| {
        if !cred.has(cap::IPC_LOCK) {
            let owner = cred.euid == state.perm.uid || cred.euid == state.perm.cuid;
            if !owner || (on && task.rlimit(c::RLIMIT_MEMLOCK).0 < segment.size) {
                return Err(Errno::EPERM);
            }
        }
        state.perm.mode = if on { state.perm.mode | SHM_LOCKED } else { state.perm.mode & !SHM_LOCKED };
        Ok(())
    })
}

/// shmctl(2)
pub fn shmctl(task: &CurrentTask, args: &Args) -> Result<u64> {
    const IPC_RMID: i32 = 0;
    const IPC_SET: i32 = 1;
    const IPC_STAT: i32 = 2;
    const IPC_INFO: i32 = 3;
    const SHM_LOCK: i32 = 11;
    const SHM_UNLOCK: i32 = 12;
    const SHM_STAT: i32 = 13;
    const SHM_INFO: i32 = 14;
    const SHM_STAT_ANY: i32 = 15;
    let (id, command, buf) = (args.i32(0), args.i32(1), args.u64(2));
    if id < 0 || command < 0 {
        return Err(Errno::EINVAL);
    }
    let cred = task.cred();
    match command {
        IPC_INFO => {
            let (max, number) = (limits::get(&limits::SHMMAX), limits::get(&limits::SHMMNI));
            let all = limits::get(&limits::SHMALL);
            task.write_obj(buf, &[max, 1, number, number, all, 0, 0, 0, 0])?;
            Ok(SEGMENTS.max_index())
        }
        SHM_INFO => {
            let (pages, resident) = shm::totals();
            task.write_obj(buf, &[SEGMENTS.len() as u64, pages, resident, 0, 0, 0])?;
            Ok(SEGMENTS.max_index())
        }
        IPC_STAT | SHM_STAT | SHM_STAT_ANY => {
            let (id, segment) =
                if command == IPC_STAT { (0, SEGMENTS.find(id)?) } else { SEGMENTS.at(id)? };
            if command != SHM_STAT_ANY {
                segment.state().perm.check(&cred, READ)?;
            }
            task.write_obj(buf, &stat(&segment))?;
            Ok(id as u64)
        }
        IPC_SET => {
            let new: ShmidDs = task.read_obj(buf)?;
            SEGMENTS.find(id)?.change(|state| {
                state.perm.check_owner(&cred)?;
                state.perm.set(&new.perm);
                state.ctime = crate::ipc::now();
                Ok(())
            })?;
            Ok(0)
        }
        IPC_RMID => SEGMENTS.find(id)?.remove(&cred).map(|()| 0),
        SHM_LOCK | SHM_UNLOCK => lock(task, &*SEGMENTS.find(id)?, command == SHM_LOCK).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}
