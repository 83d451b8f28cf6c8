//! inotify_init(2), inotify_add_watch(2), inotify_rm_watch(2).

use super::Args;
use super::path::resolve_at;
use crate::errno::{Errno, Result};
use crate::fs::inotify::{self as fs, Inotify};
use crate::kernel::task::CurrentTask;
use crate::vfs::Ctx;
use crate::vfs::perm::{self, MAY_READ};
use linux_raw_sys::general as c;

/// inotify_init1(2).
pub fn inotify_init1(task: &CurrentTask, args: &Args) -> Result<u64> {
    let flags = args.u32(0);
    if flags & !(c::IN_CLOEXEC | c::IN_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = fs::new(flags & c::IN_NONBLOCK)?;
    Ok(task.files().install(file, flags & c::IN_CLOEXEC != 0, task.rlimit(c::RLIMIT_NOFILE).0)? as u64)
}

/// inotify_init(2).
pub fn inotify_init(task: &CurrentTask, _args: &Args) -> Result<u64> {
    inotify_init1(task, &Args::default())
}

/// inotify_add_watch(2).
pub fn inotify_add_watch(task: &CurrentTask, args: &Args) -> Result<u64> {
    let mask = args.u32(2);
    let file = task.files().get(args.i32(0))?;
    let inotify = file.downcast::<Inotify>().ok_or(Errno::EINVAL)?;
    let ctx = Ctx::of(task);
    let at = resolve_at(task, &ctx, c::AT_FDCWD, args.u64(1), 0, mask & c::IN_DONT_FOLLOW == 0)?;
    if mask & c::IN_ONLYDIR != 0 && !at.dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    perm::permission(&ctx.cred, &at.inode().attr(), MAY_READ)?;
    Ok(inotify.add(at.inode(), mask)? as u64)
}

/// inotify_rm_watch(2).
pub fn inotify_rm_watch(task: &CurrentTask, args: &Args) -> Result<u64> {
    let file = task.files().get(args.i32(0))?;
    let inotify = file.downcast::<Inotify>().ok_or(Errno::EINVAL)?;
    // What has happened so far is told.
    crate::fs::bind::watch::pull();
    inotify.remove(args.i32(1))?;
    Ok(0)
}
