//! Opening programs, execve(2).

use super::file::OpenFile;
use super::inode::S_IFMT;
use super::open::{OpenHow, open};
use super::path::Path;
use super::perm::{self, MAY_EXEC};
use super::state::Ctx;
use super::walk::FOLLOW;
use crate::errno::{Errno, Result};
use crate::kernel::task::CurrentTask;
use alloc::sync::Arc;
use linux_raw_sys::general as c;

/// Opens a program by a path from the working directory on.
///
/// # Errors
/// EACCES where it may not be executed or is no regular file; ETXTBSY while it is open for writing.
pub fn exec_open(task: &CurrentTask, path: &[u8]) -> Result<Arc<OpenFile>> {
    exec_open_at(task, c::AT_FDCWD, path, 0)
}

/// Opens a program as execveat(2) names it.
///
/// # Errors
/// As [`exec_open`]; ELOOP for a link with AT_SYMLINK_NOFOLLOW; EINVAL for unknown flags.
pub fn exec_open_at(task: &CurrentTask, dirfd: i32, path: &[u8], flags: u32) -> Result<Arc<OpenFile>> {
    if flags & !(c::AT_EMPTY_PATH | c::AT_SYMLINK_NOFOLLOW | c::AT_EXECVE_CHECK) != 0 {
        return Err(Errno::EINVAL);
    }
    let ctx = Ctx::of(task);
    let base = ctx.base(task, dirfd, path)?;
    exec_open_from(&ctx, base, path, flags)
}

/// Opens a program by a path from `base` on.
///
/// # Errors
/// As [`exec_open_at`].
pub fn exec_open_from(ctx: &Ctx, base: Path, path: &[u8], flags: u32) -> Result<Arc<OpenFile>> {
    let follow = flags & c::AT_SYMLINK_NOFOLLOW == 0;
    let at = if path.is_empty() && flags & c::AT_EMPTY_PATH != 0 {
        base
    } else {
        ctx.walker().resolve(base, path, if follow { FOLLOW } else { 0 })?
    };
    let attr = at.inode().attr();
    match attr.mode & S_IFMT {
        c::S_IFLNK => return Err(Errno::ELOOP),
        c::S_IFREG => {}
        _ => return Err(Errno::EACCES),
    }
    if at.mnt.flags() & c::MS_NOEXEC != 0 {
        return Err(Errno::EACCES);
    }
    perm::permission(&ctx.cred, &attr, MAY_EXEC)?;
    let request = super::file::OpenRequest { flags: c::O_RDONLY, path: &at, cred: &ctx.cred };
    let ops = at.inode().clone().open(&request)?;
    let file = OpenFile::new(at, ops, c::O_RDONLY);
    file.deny_write()?;
    Ok(file)
}

/// Opens a file for reading with the kernel's own rights, such as /etc/passwd for a user's name.
///
/// # Errors
/// As open(2).
pub fn kernel_open(ctx: &Ctx, path: &[u8]) -> Result<Arc<OpenFile>> {
    open(ctx, ctx.root.clone(), path, &OpenHow { flags: c::O_RDONLY | c::O_NOATIME, mode: 0, resolve: 0 })
}
