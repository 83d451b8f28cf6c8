//! Directories: getdents64(2), mkdir(2), mknod(2), symlink(2), link(2), unlink(2), rename(2).

use super::Args;
use super::path::{read_path, resolve_at};
use crate::errno::{Errno, Result};
use crate::kernel::cred::cap;
use crate::kernel::task::CurrentTask;
use crate::vfs::file::DirSink;
use crate::vfs::inode::Create;
use crate::vfs::{Ctx, namei, notify};
use alloc::vec::Vec;
use linux_raw_sys::general as c;

/// Most bytes of entries gathered in one call.
const BATCH: usize = 64 << 10;

/// Packs entries as getdents(2) gives them.
struct Packer {
    out: Vec<u8>,
    limit: usize,
    position: u64,
    old_format: bool,
    too_small: bool,
}

impl DirSink for Packer {
    fn entry(&mut self, name: &[u8], ino: u64, kind: u8, next: u64) -> bool {
        // 64: ino, off, reclen, type, name, NUL. Old: ino, off, reclen, name, NUL, type as the last byte.
        let head = if self.old_format { 18 } else { 19 };
        let tail = if self.old_format { 2 } else { 1 };
        let len = (head + name.len() + tail).next_multiple_of(8);
        if self.out.len() + len > self.limit {
            self.too_small = self.out.is_empty();
            return false;
        }
        let end = self.out.len() + len;
        self.out.extend_from_slice(&ino.to_le_bytes());
        self.out.extend_from_slice(&next.to_le_bytes());
        self.out.extend_from_slice(&(len as u16).to_le_bytes());
        if !self.old_format {
            self.out.push(kind);
        }
        self.out.extend_from_slice(name);
        self.out.resize(end, 0);
        if let (true, Some(last)) = (self.old_format, self.out.last_mut()) {
            *last = kind;
        }
        self.position = next;
        true
    }
}

fn do_getdents(task: &CurrentTask, args: &Args, old_format: bool) -> Result<u64> {
    let file = task.files().get(args.i32(0))?;
    if !file.can_read() {
        return Err(Errno::EBADF);
    }
    if !file.path.dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    let limit = (args.u32(2) as usize).min(BATCH);
    let mut pos = file.position();
    let mut packer = Packer { out: Vec::new(), limit, position: *pos, old_format, too_small: false };
    file.ops().readdir(&file, *pos, &mut packer)?;
    if packer.too_small {
        return Err(Errno::EINVAL);
    }
    task.write_bytes(args.u64(1), &packer.out)?;
    *pos = packer.position;
    notify::dentry_event(&file.path.dentry, c::IN_ACCESS);
    Ok(packer.out.len() as u64)
}

/// getdents64(2).
pub fn getdents64(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_getdents(task, args, false)
}

/// getdents(2).
pub fn getdents(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_getdents(task, args, true)
}

fn make(task: &CurrentTask, dirfd: i32, path: u64, what: Create<'_>, mode: u32) -> Result<u64> {
    let ctx = Ctx::of(task);
    let path = read_path(task, path)?;
    let base = ctx.base(task, dirfd, &path)?;
    namei::make(&ctx, base, &path, what, mode)?;
    Ok(0)
}

/// mkdir(2).
pub fn mkdir(task: &CurrentTask, args: &Args) -> Result<u64> {
    make(task, c::AT_FDCWD, args.u64(0), Create::Dir, args.u32(1) & 0o1777)
}

/// mkdirat(2).
pub fn mkdirat(task: &CurrentTask, args: &Args) -> Result<u64> {
    make(task, args.i32(0), args.u64(1), Create::Dir, args.u32(2) & 0o1777)
}

/// mknod(2).
pub fn mknod(task: &CurrentTask, args: &Args) -> Result<u64> {
    let what = namei::node_kind(args.u32(1), args.u64(2))?;
    make(task, c::AT_FDCWD, args.u64(0), what, args.u32(1) & 0o7777)
}

/// mknodat(2).
pub fn mknodat(task: &CurrentTask, args: &Args) -> Result<u64> {
    let what = namei::node_kind(args.u32(2), args.u64(3))?;
    make(task, args.i32(0), args.u64(1), what, args.u32(2) & 0o7777)
}

fn do_symlink(task: &CurrentTask, target: u64, dirfd: i32, path: u64) -> Result<u64> {
    let target = read_path(task, target)?;
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    make(task, dirfd, path, Create::Symlink(&target), 0o777)
}

/// symlink(2).
pub fn symlink(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_symlink(task, args.u64(0), c::AT_FDCWD, args.u64(1))
}

/// symlinkat(2).
pub fn symlinkat(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_symlink(task, args.u64(0), args.i32(1), args.u64(2))
}

fn do_link(task: &CurrentTask, old: (i32, u64), new: (i32, u64), flags: u32) -> Result<u64> {
    if flags & !(c::AT_SYMLINK_FOLLOW | c::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let ctx = Ctx::of(task);
    if flags & c::AT_EMPTY_PATH != 0 && !ctx.cred.has(cap::DAC_READ_SEARCH) {
        return Err(Errno::ENOENT);
    }
    let target = resolve_at(task, &ctx, old.0, old.1, flags, flags & c::AT_SYMLINK_FOLLOW != 0)?;
    let path = read_path(task, new.1)?;
    let base = ctx.base(task, new.0, &path)?;
    namei::link(&ctx, &target, base, &path)?;
    Ok(0)
}

/// link(2).
pub fn link(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_link(task, (c::AT_FDCWD, args.u64(0)), (c::AT_FDCWD, args.u64(1)), 0)
}

/// linkat(2).
pub fn linkat(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_link(task, (args.i32(0), args.u64(1)), (args.i32(2), args.u64(3)), args.u32(4))
}

fn do_remove(task: &CurrentTask, dirfd: i32, path: u64, dir: bool) -> Result<u64> {
    let ctx = Ctx::of(task);
    let path = read_path(task, path)?;
    let base = ctx.base(task, dirfd, &path)?;
    namei::remove(&ctx, base, &path, dir)?;
    Ok(0)
}

/// unlink(2).
pub fn unlink(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_remove(task, c::AT_FDCWD, args.u64(0), false)
}

/// rmdir(2).
pub fn rmdir(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_remove(task, c::AT_FDCWD, args.u64(0), true)
}

/// unlinkat(2).
pub fn unlinkat(task: &CurrentTask, args: &Args) -> Result<u64> {
    let flags = args.u32(2);
    if flags & !c::AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    do_remove(task, args.i32(0), args.u64(1), flags & c::AT_REMOVEDIR != 0)
}

fn do_rename(task: &CurrentTask, old: (i32, u64), new: (i32, u64), flags: u32) -> Result<u64> {
    let ctx = Ctx::of(task);
    let (from, to) = (read_path(task, old.1)?, read_path(task, new.1)?);
    let from_base = ctx.base(task, old.0, &from)?;
    let to_base = ctx.base(task, new.0, &to)?;
    namei::rename(&ctx, (from_base, &from), (to_base, &to), flags)?;
    Ok(0)
}

/// rename(2).
pub fn rename(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_rename(task, (c::AT_FDCWD, args.u64(0)), (c::AT_FDCWD, args.u64(1)), 0)
}

/// renameat(2).
pub fn renameat(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_rename(task, (args.i32(0), args.u64(1)), (args.i32(2), args.u64(3)), 0)
}

/// renameat2(2).
pub fn renameat2(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_rename(task, (args.i32(0), args.u64(1)), (args.i32(2), args.u64(3)), args.u32(4))
}
