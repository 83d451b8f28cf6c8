//! stat(2), statx(2), statfs(2), access(2), chmod(2), chown(2), utimensat(2), readlink(2).

use super::Args;
use super::path::resolve_at;
use crate::errno::{Errno, Result};
use crate::kernel::task::CurrentTask;
use crate::vfs::attr::{self, NewTime};
use crate::vfs::inode::{Stat, Time, major, minor};
use crate::vfs::uapi::{StatBuf, StatFsBuf, Statx, StatxTime, Timespec, Timeval};
use crate::vfs::{Ctx, Path, perm};
use alloc::sync::Arc;
use linux_raw_sys::general as c;

fn write_stat(task: &CurrentTask, addr: u64, s: &Stat) -> Result<u64> {
    let buf = StatBuf {
        dev: s.dev,
        ino: s.ino,
        nlink: s.nlink.into(),
        mode: s.mode,
        uid: s.uid,
        gid: s.gid,
        rdev: s.rdev,
        size: s.size as i64,
        blksize: i64::from(s.blksize),
        blocks: s.blocks as i64,
        atime: s.atime.sec,
        atime_nsec: s.atime.nsec.into(),
        mtime: s.mtime.sec,
        mtime_nsec: s.mtime.nsec.into(),
        ctime: s.ctime.sec,
        ctime_nsec: s.ctime.nsec.into(),
        ..StatBuf::default()
    };
    task.write_obj(addr, &buf)?;
    Ok(0)
}

fn do_stat(task: &CurrentTask, dirfd: i32, path: u64, buf: u64, flags: u32) -> Result<u64> {
    let ctx = Ctx::of(task);
    let at = resolve_at(task, &ctx, dirfd, path, flags, flags & c::AT_SYMLINK_NOFOLLOW == 0)?;
    write_stat(task, buf, &at.inode().stat()?)
}

/// stat(2).
pub fn stat(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_stat(task, c::AT_FDCWD, args.u64(0), args.u64(1), 0)
}

/// lstat(2).
pub fn lstat(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_stat(task, c::AT_FDCWD, args.u64(0), args.u64(1), c::AT_SYMLINK_NOFOLLOW)
}

/// fstat(2).
pub fn fstat(task: &CurrentTask, args: &Args) -> Result<u64> {
    let file = task.files().get_any(args.i32(0))?;
    write_stat(task, args.u64(1), &file.path.inode().stat()?)
}

/// newfstatat(2).
pub fn newfstatat(task: &CurrentTask, args: &Args) -> Result<u64> {
    let flags = args.u32(3);
    if flags & !(c::AT_SYMLINK_NOFOLLOW | c::AT_NO_AUTOMOUNT | c::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    do_stat(task, args.i32(0), args.u64(1), args.u64(2), flags)
}

/// statx(2).
pub fn statx(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (flags, mask) = (args.u32(2), args.u32(3));
    let known = c::AT_SYMLINK_NOFOLLOW | c::AT_NO_AUTOMOUNT | c::AT_EMPTY_PATH | c::AT_STATX_SYNC_TYPE;
    if flags & !known != 0
        || mask & c::STATX__RESERVED != 0
        || flags & c::AT_STATX_SYNC_TYPE == c::AT_STATX_SYNC_TYPE
    {
        return Err(Errno::EINVAL);
    }
    let ctx = Ctx::of(task);
    let at = resolve_at(task, &ctx, args.i32(0), args.u64(1), flags, flags & c::AT_SYMLINK_NOFOLLOW == 0)?;
    let s = at.inode().stat()?;
    let time = |t: Time| StatxTime { sec: t.sec, nsec: t.nsec, reserved: 0 };
    let is_root = Arc::ptr_eq(&at.dentry, &at.mnt.root);
    let buf = Statx {
        mask: c::STATX_BASIC_STATS | c::STATX_BTIME | c::STATX_MNT_ID,
        blksize: s.blksize,
        attributes: if is_root { u64::from(c::STATX_ATTR_MOUNT_ROOT) } else { 0 },
        nlink: s.nlink,
        uid: s.uid,
        gid: s.gid,
        mode: s.mode as u16,
        ino: s.ino,
        size: s.size,
        blocks: s.blocks,
        attributes_mask: u64::from(c::STATX_ATTR_MOUNT_ROOT),
        atime: time(s.atime),
        btime: time(s.btime),
        ctime: time(s.ctime),
        mtime: time(s.mtime),
        rdev_major: major(s.rdev),
        rdev_minor: minor(s.rdev),
        dev_major: major(s.dev),
        dev_minor: minor(s.dev),
        mnt_id: at.mnt.id,
        ..Statx::default()
    };
    task.write_obj(args.u64(4), &buf)?;
    Ok(0)
}

fn write_statfs(task: &CurrentTask, at: &Path, addr: u64) -> Result<u64> {
    /// ST_VALID of the kernel, which statvfs(3) looks for.
    const ST_VALID: u64 = 0x20;
    let sb = &at.mnt.sb;
    let s = sb.fs.statfs();
    // The ST_* flags of statvfs(3) have the values of MS_*, but for noatime and what follows.
    let mnt = at.mnt.flags();
    let mut flags = u64::from(mnt & (c::MS_RDONLY | c::MS_NOSUID | c::MS_NODEV | c::MS_NOEXEC));
    flags |= u64::from(mnt & (c::MS_NOATIME | c::MS_NODIRATIME));
    if mnt & c::MS_RELATIME != 0 {
        flags |= 0x1000;
    }
    if at.mnt.is_readonly() {
        flags |= u64::from(c::MS_RDONLY);
    }
    let buf = StatFsBuf {
        kind: sb.magic,
        bsize: 4096,
        blocks: s.blocks,
        bfree: s.free,
        bavail: s.free,
        files: s.files,
        ffree: s.files_free,
        fsid: [sb.dev as u32, 0],
        namelen: 255,
        frsize: 4096,
        flags: flags | ST_VALID,
        spare: [0; 4],
    };
    task.write_obj(addr, &buf)?;
    Ok(0)
}

/// statfs(2).
pub fn statfs(task: &CurrentTask, args: &Args) -> Result<u64> {
    let ctx = Ctx::of(task);
    let at = resolve_at(task, &ctx, c::AT_FDCWD, args.u64(0), 0, true)?;
    write_statfs(task, &at, args.u64(1))
}

/// fstatfs(2).
pub fn fstatfs(task: &CurrentTask, args: &Args) -> Result<u64> {
    let file = task.files().get_any(args.i32(0))?;
    write_statfs(task, &file.path, args.u64(1))
}

fn do_access(task: &CurrentTask, dirfd: i32, path: u64, mode: u32, flags: u32) -> Result<u64> {
    if mode & !7 != 0 || flags & !(c::AT_EACCESS | c::AT_SYMLINK_NOFOLLOW | c::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut ctx = Ctx::of(task);
    let cred = ctx.cred.clone();
    if flags & c::AT_EACCESS == 0 && (cred.fsuid != cred.uid || cred.fsgid != cred.gid || cred.effective != 0)
    {
        ctx.cred = Arc::new(perm::real(&cred));
    }
    let at = resolve_at(task, &ctx, dirfd, path, flags, flags & c::AT_SYMLINK_NOFOLLOW == 0)?;
    attr::access(&ctx.cred, &at, mode)?;
    Ok(0)
}

/// access(2).
pub fn access(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_access(task, c::AT_FDCWD, args.u64(0), args.u32(1), 0)
}

/// faccessat(2), which has no flags.
pub fn faccessat(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_access(task, args.i32(0), args.u64(1), args.u32(2), 0)
}

/// faccessat2(2).
pub fn faccessat2(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_access(task, args.i32(0), args.u64(1), args.u32(2), args.u32(3))
}

fn do_chmod(task: &CurrentTask, dirfd: i32, path: u64, mode: u32, flags: u32) -> Result<u64> {
    if flags & !(c::AT_SYMLINK_NOFOLLOW | c::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let ctx = Ctx::of(task);
    let at = resolve_at(task, &ctx, dirfd, path, flags, flags & c::AT_SYMLINK_NOFOLLOW == 0)?;
    attr::chmod(&ctx.cred, &at, mode)?;
    Ok(0)
}

/// chmod(2).
pub fn chmod(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_chmod(task, c::AT_FDCWD, args.u64(0), args.u32(1), 0)
}

/// fchmodat(2), which has no flags.
pub fn fchmodat(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_chmod(task, args.i32(0), args.u64(1), args.u32(2), 0)
}

/// fchmodat2(2).
pub fn fchmodat2(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_chmod(task, args.i32(0), args.u64(1), args.u32(2), args.u32(3))
}

/// fchmod(2).
pub fn fchmod(task: &CurrentTask, args: &Args) -> Result<u64> {
    let file = task.files().get(args.i32(0))?;
    attr::chmod(&task.cred(), &file.path, args.u32(1))?;
    Ok(0)
}

fn do_chown(task: &CurrentTask, dirfd: i32, path: u64, ids: (u32, u32), flags: u32) -> Result<u64> {
    if flags & !(c::AT_SYMLINK_NOFOLLOW | c::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let ctx = Ctx::of(task);
    let at = resolve_at(task, &ctx, dirfd, path, flags, flags & c::AT_SYMLINK_NOFOLLOW == 0)?;
    attr::chown(&ctx.cred, &at, ids.0, ids.1)?;
    Ok(0)
}

/// chown(2).
pub fn chown(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_chown(task, c::AT_FDCWD, args.u64(0), (args.u32(1), args.u32(2)), 0)
}

/// lchown(2).
pub fn lchown(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_chown(task, c::AT_FDCWD, args.u64(0), (args.u32(1), args.u32(2)), c::AT_SYMLINK_NOFOLLOW)
}

/// fchownat(2).
pub fn fchownat(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_chown(task, args.i32(0), args.u64(1), (args.u32(2), args.u32(3)), args.u32(4))
}

/// fchown(2).
pub fn fchown(task: &CurrentTask, args: &Args) -> Result<u64> {
    let file = task.files().get(args.i32(0))?;
    attr::chown(&task.cred(), &file.path, args.u32(1), args.u32(2))?;
    Ok(0)
}

fn new_time(t: &Timespec) -> Result<NewTime> {
    match t.nsec {
        n if n == i64::from(c::UTIME_NOW) => Ok(Some(None)),
        n if n == i64::from(c::UTIME_OMIT) => Ok(None),
        0..=999_999_999 => Ok(Some(Some(Time { sec: t.sec, nsec: t.nsec as u32 }))),
        _ => Err(Errno::EINVAL),
    }
}

fn do_utimes(
    task: &CurrentTask,
    dirfd: i32,
    path: u64,
    times: (NewTime, NewTime),
    flags: u32,
) -> Result<u64> {
    let ctx = Ctx::of(task);
    let at = if path == 0 && dirfd != c::AT_FDCWD {
        if flags & !c::AT_EMPTY_PATH != 0 {
            return Err(Errno::EINVAL);
        }
        task.files().get(dirfd)?.path.clone()
    } else {
        resolve_at(task, &ctx, dirfd, path, flags, flags & c::AT_SYMLINK_NOFOLLOW == 0)?
    };
    attr::utimens(&ctx.cred, &at, times.0, times.1)?;
    Ok(0)
}

/// utimensat(2).
pub fn utimensat(task: &CurrentTask, args: &Args) -> Result<u64> {
    let flags = args.u32(3);
    if flags & !(c::AT_SYMLINK_NOFOLLOW | c::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let times = if args.u64(2) == 0 {
        (Some(None), Some(None))
    } else {
        let a: Timespec = task.read_obj(args.u64(2))?;
        let m: Timespec = task.read_obj(args.u64(2).wrapping_add(16))?;
        (new_time(&a)?, new_time(&m)?)
    };
    do_utimes(task, args.i32(0), args.u64(1), times, flags)
}

fn timevals(task: &CurrentTask, addr: u64) -> Result<(NewTime, NewTime)> {
    if addr == 0 {
        return Ok((Some(None), Some(None)));
    }
    let read = |at: u64| -> Result<NewTime> {
        let t: Timeval = task.read_obj(at)?;
        if !(0..1_000_000).contains(&t.usec) {
            return Err(Errno::EINVAL);
        }
        Ok(Some(Some(Time { sec: t.sec, nsec: t.usec as u32 * 1000 })))
    };
    Ok((read(addr)?, read(addr.wrapping_add(16))?))
}

/// utimes(2).
pub fn utimes(task: &CurrentTask, args: &Args) -> Result<u64> {
    let times = timevals(task, args.u64(1))?;
    do_utimes(task, c::AT_FDCWD, args.u64(0), times, 0)
}

/// futimesat(2).
pub fn futimesat(task: &CurrentTask, args: &Args) -> Result<u64> {
    let times = timevals(task, args.u64(2))?;
    do_utimes(task, args.i32(0), args.u64(1), times, 0)
}

/// utime(2).
pub fn utime(task: &CurrentTask, args: &Args) -> Result<u64> {
    let times = if args.u64(1) == 0 {
        (Some(None), Some(None))
    } else {
        let t: [i64; 2] = task.read_obj(args.u64(1))?;
        let at = |sec| Some(Some(Time { sec, nsec: 0 }));
        (at(t[0]), at(t[1]))
    };
    do_utimes(task, c::AT_FDCWD, args.u64(0), times, 0)
}

fn do_readlink(task: &CurrentTask, dirfd: i32, path: u64, buf: u64, len: i32) -> Result<u64> {
    let len = usize::try_from(len).ok().filter(|l| *l > 0).ok_or(Errno::EINVAL)?;
    let ctx = Ctx::of(task);
    let raw = super::path::read_path(task, path)?;
    let at = if raw.is_empty() {
        // An empty path reads the link that an O_PATH descriptor names.
        if dirfd == c::AT_FDCWD {
            return Err(Errno::ENOENT);
        }
        let at = task.files().get_any(dirfd)?.path.clone();
        if at.dentry.kind() != c::S_IFLNK {
            return Err(Errno::ENOENT);
        }
        at
    } else {
        let base = ctx.base(task, dirfd, &raw)?;
        ctx.resolve(base, &raw, false)?
    };
    if at.dentry.kind() != c::S_IFLNK {
        return Err(Errno::EINVAL);
    }
    let target = at.inode().readlink()?;
    let out = target.get(..len.min(target.len())).unwrap_or_default();
    task.write_bytes(buf, out)?;
    Ok(out.len() as u64)
}

/// readlink(2).
pub fn readlink(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_readlink(task, c::AT_FDCWD, args.u64(0), args.u64(1), args.i32(2))
}

/// readlinkat(2).
pub fn readlinkat(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_readlink(task, args.i32(0), args.u64(1), args.u64(2), args.i32(3))
}
