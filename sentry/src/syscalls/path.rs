//! Paths of system calls, and chdir(2), chroot(2), getcwd(2), umask(2).

use super::Args;
use crate::errno::{Errno, Result};
use crate::kernel::cred::cap;
use crate::kernel::task::CurrentTask;
use crate::vfs::perm::{self, MAY_EXEC};
use crate::vfs::{Ctx, Path};
use alloc::vec::Vec;
use linux_raw_sys::general as c;
use smallvec::SmallVec;

/// Copies a path of the program.
///
/// # Errors
/// EFAULT, ENAMETOOLONG.
pub fn read_path(task: &CurrentTask, addr: u64) -> Result<Vec<u8>> {
    task.read_cstr(addr, c::PATH_MAX as usize)
}

/// Resolves a path of an `*at` call. `flags` may have AT_EMPTY_PATH; `follow` a link at the end.
///
/// # Errors
/// As path_resolution(7).
pub fn resolve_at(
    task: &CurrentTask,
    ctx: &Ctx,
    dirfd: i32,
    addr: u64,
    flags: u32,
    follow: bool,
) -> Result<Path> {
    let path = if addr == 0 && flags & c::AT_EMPTY_PATH != 0 { Vec::new() } else { read_path(task, addr)? };
    if path.is_empty() {
        if flags & c::AT_EMPTY_PATH == 0 {
            return Err(Errno::ENOENT);
        }
        if dirfd == c::AT_FDCWD {
            return Ok(ctx.fs.cwd());
        }
        return Ok(task.files().get_any(dirfd)?.path.clone());
    }
    let base = ctx.base(task, dirfd, &path)?;
    ctx.resolve(base, &path, follow)
}

/// Reads an array of struct iovec; the lengths together are cut at what one call may move.
///
/// # Errors
/// EINVAL for too many or lengths that are negative; EFAULT.
pub fn read_iovecs(task: &CurrentTask, addr: u64, count: u64) -> Result<SmallVec<[(u64, usize); 8]>> {
    if count > 1024 {
        return Err(Errno::EINVAL);
    }
    let mut out = SmallVec::new();
    let mut left = crate::vfs::rw::MAX_RW;
    for i in 0..count {
        let at = addr.checked_add(i * 16).ok_or(Errno::EFAULT)?;
        let raw: [u64; 2] = task.read_obj(at)?;
        if raw[1] > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        let len = usize::try_from(raw[1]).map_err(|_| Errno::EINVAL)?.min(left);
        left -= len;
        out.push((raw[0], len));
    }
    Ok(out)
}

fn enter(ctx: &Ctx, path: &Path) -> Result<()> {
    if !path.dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    perm::permission(&ctx.cred, &path.inode().attr(), MAY_EXEC)
}

/// chdir(2).
pub fn chdir(task: &CurrentTask, args: &Args) -> Result<u64> {
    let ctx = Ctx::of(task);
    let path = ctx.lookup(&read_path(task, args.u64(0))?)?;
    enter(&ctx, &path)?;
    ctx.fs.set_cwd(path);
    Ok(0)
}

/// fchdir(2).
pub fn fchdir(task: &CurrentTask, args: &Args) -> Result<u64> {
    let ctx = Ctx::of(task);
    let file = task.files().get_any(args.i32(0))?;
    enter(&ctx, &file.path)?;
    ctx.fs.set_cwd(file.path.clone());
    Ok(0)
}

/// chroot(2).
pub fn chroot(task: &CurrentTask, args: &Args) -> Result<u64> {
    let ctx = Ctx::of(task);
    let path = ctx.lookup(&read_path(task, args.u64(0))?)?;
    enter(&ctx, &path)?;
    if !ctx.cred.has(cap::SYS_CHROOT) {
        return Err(Errno::EPERM);
    }
    ctx.fs.set_root(path);
    Ok(0)
}

/// getcwd(2).
pub fn getcwd(task: &CurrentTask, args: &Args) -> Result<u64> {
    let ctx = Ctx::of(task);
    let cwd = ctx.fs.cwd();
    if cwd.dentry.is_unlinked() {
        return Err(Errno::ENOENT);
    }
    let mut text = match cwd.to_bytes_reachable(&ctx.root) {
        Some(text) => text,
        None => [b"(unreachable)", cwd.to_bytes(&ctx.root).as_slice()].concat(),
    };
    text.push(0);
    if text.len() as u64 > args.u64(1) {
        return Err(Errno::ERANGE);
    }
    task.write_bytes(args.u64(0), &text)?;
    Ok(text.len() as u64)
}

/// umask(2).
pub fn umask(task: &CurrentTask, args: &Args) -> Result<u64> {
    Ok(u64::from(task.fs().set_umask(args.u32(0))))
}
