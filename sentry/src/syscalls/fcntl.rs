//! dup(2), fcntl(2), flock(2).

use super::Args;
use crate::errno::{Errno, Result};
use crate::fs::memfs::{Node, SEALS_ALL};
use crate::fs::pipe::PipeEnd;
use crate::kernel::cred::cap;
use crate::kernel::process;
use crate::kernel::task::CurrentTask;
use crate::vfs::OpenFile;
use crate::vfs::file::SignalOwner;
use crate::vfs::inode::S_IFMT;
use crate::vfs::leases::Kind;
use crate::vfs::locks::{LockOwner, RangeLock};
use crate::vfs::uapi::{Flock, OwnerEx};
use alloc::sync::Arc;
use linux_raw_sys::general as c;

/// dup(2).
pub fn dup(task: &CurrentTask, args: &Args) -> Result<u64> {
    let files = task.files();
    let file = files.get_any(args.i32(0))?;
    Ok(files.install(file, false, task.rlimit(c::RLIMIT_NOFILE).0)? as u64)
}

/// dup2(2).
pub fn dup2(task: &CurrentTask, args: &Args) -> Result<u64> {
    let files = task.files();
    let file = files.get_any(args.i32(0))?;
    if args.i32(0) != args.i32(1) {
        files.install_at(args.i32(1), file, false, task.rlimit(c::RLIMIT_NOFILE).0)?;
    }
    Ok(u64::from(args.u32(1)))
}

/// dup3(2).
pub fn dup3(task: &CurrentTask, args: &Args) -> Result<u64> {
    let flags = args.u32(2);
    if flags & !c::O_CLOEXEC != 0 || args.i32(0) == args.i32(1) {
        return Err(Errno::EINVAL);
    }
    let files = task.files();
    let file = files.get_any(args.i32(0))?;
    files.install_at(args.i32(1), file, flags & c::O_CLOEXEC != 0, task.rlimit(c::RLIMIT_NOFILE).0)?;
    Ok(u64::from(args.u32(1)))
}

/// flock(2).
pub fn flock(task: &CurrentTask, args: &Args) -> Result<u64> {
    let file = task.files().get(args.i32(0))?;
    let op = args.u32(1);
    let extra = file.extra().ok_or(Errno::EBADF)?;
    let wait = op & c::LOCK_NB == 0;
    match op & !c::LOCK_NB {
        c::LOCK_UN => extra.locks.unlock_flock(file.id),
        kind @ (c::LOCK_SH | c::LOCK_EX) => {
            file.note_locked();
            extra.locks.flock(file.id, kind == c::LOCK_EX, wait)?;
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// The bytes that a struct flock names: first and last.
fn range(file: &OpenFile, lock: &Flock) -> Result<(u64, u64)> {
    let base = match u32::try_from(lock.whence).map_err(|_| Errno::EINVAL)? {
        c::SEEK_SET => 0,
        c::SEEK_CUR if file.ops().can_seek() => *file.position() as i64,
        c::SEEK_CUR => 0,
        c::SEEK_END => i64::try_from(file.path.inode().stat()?.size).map_err(|_| Errno::EOVERFLOW)?,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(lock.start).ok_or(Errno::EOVERFLOW)?;
    let (start, end) = match lock.len {
        0 => (start, i64::MAX),
        n if n > 0 => (start, start.checked_add(n - 1).ok_or(Errno::EOVERFLOW)?),
        n => (start.checked_add(n).ok_or(Errno::EINVAL)?, start - 1),
    };
    let start = u64::try_from(start).map_err(|_| Errno::EINVAL)?;
    let end = u64::try_from(end).map_err(|_| Errno::EINVAL)?;
    Ok((start, if end == i64::MAX as u64 { u64::MAX } else { end }))
}

fn lock_owner(task: &CurrentTask, file: &OpenFile, ofd: bool, lock: &Flock) -> Result<(LockOwner, u32)> {
    if ofd {
        if lock.pid != 0 {
            return Err(Errno::EINVAL);
        }
        return Ok((LockOwner::Description(file.id), u32::MAX));
    }
    Ok((LockOwner::Process(task.files().id), task.pid()))
}

fn set_lock(task: &CurrentTask, file: &OpenFile, addr: u64, ofd: bool, wait: bool) -> Result<u64> {
    let lock: Flock = task.read_obj(addr)?;
    let (owner, pid) = lock_owner(task, file, ofd, &lock)?;
    let (start, end) = range(file, &lock)?;
    let extra = file.extra().ok_or(Errno::EBADF)?;
    match u32::try_from(lock.kind).map_err(|_| Errno::EINVAL)? {
        c::F_UNLCK => {
            extra.locks.unlock_range(owner, start, end);
            return Ok(0);
        }
        c::F_RDLCK if !file.can_read() => return Err(Errno::EBADF),
        c::F_WRLCK if !file.can_write() => return Err(Errno::EBADF),
        c::F_RDLCK | c::F_WRLCK => {}
        _ => return Err(Errno::EINVAL),
    }
    if ofd {
        file.note_locked();
    }
    let write = lock.kind == c::F_WRLCK as i16;
    extra.locks.lock_range(&RangeLock { owner, pid, write, start, end }, wait)?;
    Ok(0)
}

fn get_lock(task: &CurrentTask, file: &OpenFile, addr: u64, ofd: bool) -> Result<u64> {
    let mut lock: Flock = task.read_obj(addr)?;
    let write = match u32::try_from(lock.kind).map_err(|_| Errno::EINVAL)? {
        c::F_RDLCK => false,
        c::F_WRLCK => true,
        // An OFD request may ask about nothing, since Linux 6.13.
        _ => return Err(Errno::EINVAL),
    };
    let (owner, pid) = lock_owner(task, file, ofd, &lock)?;
    let (start, end) = range(file, &lock)?;
    let extra = file.extra().ok_or(Errno::EBADF)?;
    match extra.locks.conflict(&RangeLock { owner, pid, write, start, end }) {
        None => lock.kind = c::F_UNLCK as i16,
        Some(other) => {
            lock.kind = if other.write { c::F_WRLCK } else { c::F_RDLCK } as i16;
            lock.whence = c::SEEK_SET as i16;
            lock.start = other.start as i64;
            lock.len = if other.end == u64::MAX { 0 } else { (other.end - other.start + 1) as i64 };
            lock.pid = other.pid as i32;
        }
    }
    task.write_obj(addr, &lock)?;
    Ok(0)
}

/// F_SETOWN, FIOSETOWN: a process, or a process group where it is negative.
pub fn set_owner(task: &CurrentTask, file: &Arc<OpenFile>, raw: i32) -> Result<u64> {
    let kind = if raw < 0 { c::F_OWNER_PGRP } else { c::F_OWNER_PID };
    if raw == i32::MIN {
        return Err(Errno::EINVAL);
    }
    set_owner_kind(task, file, kind, raw.unsigned_abs())
}

fn set_owner_kind(task: &CurrentTask, file: &Arc<OpenFile>, kind: u32, pid: u32) -> Result<u64> {
    let known = match kind {
        _ if pid == 0 => true,
        c::F_OWNER_TID => process::find_task(pid).is_some(),
        c::F_OWNER_PGRP => !process::members(pid).is_empty(),
        _ => process::find_group(pid).is_some(),
    };
    if !known {
        return Err(Errno::ESRCH);
    }
    let cred = task.cred();
    file.set_signal_owner(SignalOwner { kind, pid, user: (cred.uid, cred.euid), ..file.signal_owner() });
    file.update_async();
    Ok(0)
}

/// F_GETOWN, FIOGETOWN.
pub fn get_owner(file: &OpenFile) -> i32 {
    let owner = file.signal_owner();
    let pid = owner.pid as i32;
    if owner.kind == c::F_OWNER_PGRP { -pid } else { pid }
}

/// F_SETFL: also notes the descriptor, which signals of O_ASYNC tell.
pub fn set_flags(file: &Arc<OpenFile>, fd: i32, flags: u32) -> Result<()> {
    if flags & c::FASYNC != 0 && file.flags() & c::FASYNC == 0 {
        file.set_signal_owner(SignalOwner { fd, ..file.signal_owner() });
    }
    file.set_flags(flags)
}

/// F_SETLEASE.
fn set_lease(task: &CurrentTask, file: &Arc<OpenFile>, fd: i32, kind: u32) -> Result<u64> {
    let kind = match kind {
        c::F_RDLCK => Some(Kind::Read),
        c::F_WRLCK => Some(Kind::Write),
        c::F_UNLCK => None,
        _ => return Err(Errno::EINVAL),
    };
    let attr = file.path.inode().attr();
    let cred = task.cred();
    if let Some(kind) = kind {
        if attr.uid != cred.fsuid && !cred.has(cap::LEASE) {
            return Err(Errno::EACCES);
        }
        let extra = file.extra().filter(|_| attr.mode & S_IFMT == c::S_IFREG).ok_or(Errno::EINVAL)?;
        let owner = file.signal_owner();
        if owner.pid == 0 {
            let (pid, user) = (task.pid(), (cred.uid, cred.euid));
            file.set_signal_owner(SignalOwner { kind: c::F_OWNER_PID, pid, user, fd, ..owner });
        } else {
            file.set_signal_owner(SignalOwner { fd, ..owner });
        }
        extra.leases.set(file, extra, kind)?;
    } else {
        file.extra().ok_or(Errno::EAGAIN)?.leases.remove(file.id)?;
    }
    Ok(0)
}

fn pipe_of(file: &OpenFile) -> Result<&PipeEnd> {
    file.downcast().ok_or(Errno::EBADF)
}

fn node_of(file: &OpenFile) -> Result<&Node> {
    file.downcast().filter(|n: &&Node| n.seals().is_some()).ok_or(Errno::EINVAL)
}

fn add_seals(file: &OpenFile, seals: u32) -> Result<u64> {
    if !file.can_write() {
        return Err(Errno::EPERM);
    }
    if seals & !SEALS_ALL != 0 {
        return Err(Errno::EINVAL);
    }
    node_of(file)?.add_seals(seals)?;
    Ok(0)
}

/// fcntl(2).
pub fn fcntl(task: &CurrentTask, args: &Args) -> Result<u64> {
    let files = task.files();
    let (fd, cmd, arg) = (args.i32(0), args.u32(1), args.u64(2));
    let file: Arc<OpenFile> = files.get_any(fd)?;
    match cmd {
        c::F_DUPFD | c::F_DUPFD_CLOEXEC => {
            let limit = task.rlimit(c::RLIMIT_NOFILE).0;
            let from = usize::try_from(arg as i32).map_err(|_| Errno::EINVAL)?;
            if from as u64 >= limit {
                return Err(Errno::EINVAL);
            }
            return Ok(files.install_from(file, cmd == c::F_DUPFD_CLOEXEC, from, limit)? as u64);
        }
        c::F_GETFD => return Ok(u64::from(files.cloexec(fd)?)),
        c::F_SETFD => {
            files.set_cloexec(fd, arg & u64::from(c::FD_CLOEXEC) != 0)?;
            return Ok(0);
        }
        c::F_GETFL => return Ok(u64::from(file.flags())),
        c::F_DUPFD_QUERY => return Ok(u64::from(Arc::ptr_eq(&file, &files.get_any(arg as i32)?))),
        _ if file.is_path() => return Err(Errno::EBADF),
        _ => {}
    }
    match cmd {
        c::F_SETFL => {
            set_flags(&file, fd, arg as u32)?;
            Ok(0)
        }
        c::F_GETLK => get_lock(task, &file, arg, false),
        c::F_SETLK => set_lock(task, &file, arg, false, false),
        c::F_SETLKW => set_lock(task, &file, arg, false, true),
        c::F_OFD_GETLK => get_lock(task, &file, arg, true),
        c::F_OFD_SETLK => set_lock(task, &file, arg, true, false),
        c::F_OFD_SETLKW => set_lock(task, &file, arg, true, true),
        c::F_SETOWN => set_owner(task, &file, arg as i32),
        c::F_GETOWN => Ok(i64::from(get_owner(&file)) as u64),
        c::F_SETOWN_EX => {
            let ex: OwnerEx = task.read_obj(arg)?;
            let kind = u32::try_from(ex.kind).ok().filter(|k| *k <= c::F_OWNER_PGRP).ok_or(Errno::EINVAL)?;
            let pid = u32::try_from(ex.pid).map_err(|_| Errno::EINVAL)?;
            set_owner_kind(task, &file, kind, pid)
        }
        c::F_GETOWN_EX => {
            let owner = file.signal_owner();
            task.write_obj(arg, &OwnerEx { kind: owner.kind as i32, pid: owner.pid as i32 })?;
            Ok(0)
        }
        c::F_SETSIG => {
            let signal = u32::try_from(arg).ok().filter(|s| *s <= 64).ok_or(Errno::EINVAL)?;
            file.set_signal_owner(SignalOwner { signal, ..file.signal_owner() });
            Ok(0)
        }
        c::F_GETSIG => Ok(u64::from(file.signal_owner().signal)),
        c::F_SETPIPE_SZ => {
            let size = u64::from(arg as u32);
            Ok(pipe_of(&file)?.pipe().set_size(size, task.cred().has(cap::SYS_RESOURCE))? as u64)
        }
        c::F_GETPIPE_SZ => Ok(pipe_of(&file)?.pipe().size() as u64),
        c::F_ADD_SEALS => add_seals(&file, arg as u32),
        c::F_GET_SEALS => Ok(u64::from(node_of(&file)?.seals().ok_or(Errno::EINVAL)?)),
        c::F_GETLEASE => Ok(u64::from(file.extra().map_or(c::F_UNLCK, |e| e.leases.get(file.id)))),
        c::F_SETLEASE => set_lease(task, &file, fd, arg as u32),
        c::F_GET_RW_HINT | c::F_GET_FILE_RW_HINT => {
            task.write_obj(arg, &0u64)?;
            Ok(0)
        }
        c::F_SET_RW_HINT | c::F_SET_FILE_RW_HINT => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}
