//! Opening files: open(2), openat2(2).

use super::file::{OpenFile, OpenRequest};
use super::inode::{Attr, Create, Owner, S_IFMT};
use super::notify;
use super::path::Path;
use super::perm::{self, MAY_EXEC, MAY_READ, MAY_WRITE};
use super::state::Ctx;
use super::walk::{self, FOLLOW, LastKind, Walker};
use crate::errno::{Errno, Result};
use crate::kernel::cred::{Cred, cap};
use alloc::sync::Arc;
use linux_raw_sys::general as c;

/// Flags that open(2) knows; it ignores others, openat2(2) does not.
pub const VALID_FLAGS: u32 = c::O_ACCMODE
    | c::O_CREAT
    | c::O_EXCL
    | c::O_NOCTTY
    | c::O_TRUNC
    | c::O_APPEND
    | c::O_NONBLOCK
    | c::O_SYNC
    | c::O_DSYNC
    | c::FASYNC
    | c::O_DIRECT
    | c::O_LARGEFILE
    | c::O_DIRECTORY
    | c::O_NOFOLLOW
    | c::O_NOATIME
    | c::O_CLOEXEC
    | c::O_PATH
    | c::O_TMPFILE;

const O_TMPFILE_BIT: u32 = c::O_TMPFILE & !c::O_DIRECTORY;

/// How to open.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenHow {
    /// O_* flags.
    pub flags: u32,
    /// Permissions of what is created, the umask not applied yet.
    pub mode: u32,
    /// RESOLVE_* flags.
    pub resolve: u64,
}

impl OpenHow {
    /// From the arguments of open(2), which ignores what it does not know.
    ///
    /// # Errors
    /// EINVAL.
    pub fn lenient(flags: u32, mode: u32) -> Result<Self> {
        let mut flags = flags & VALID_FLAGS;
        if flags & c::O_PATH != 0 {
            flags &= c::O_PATH | c::O_DIRECTORY | c::O_NOFOLLOW | c::O_CLOEXEC;
        }
        let creates = flags & (c::O_CREAT | O_TMPFILE_BIT) != 0;
        Self { flags, mode: if creates { mode & 0o7777 } else { 0 }, resolve: 0 }.checked()
    }

    /// Checks the combination, as openat2(2).
    ///
    /// # Errors
    /// EINVAL.
    pub fn checked(self) -> Result<Self> {
        let flags = self.flags;
        if flags & O_TMPFILE_BIT != 0 {
            if flags & c::O_DIRECTORY == 0 || flags & c::O_CREAT != 0 {
                return Err(Errno::EINVAL);
            }
            if flags & c::O_ACCMODE == c::O_RDONLY {
                return Err(Errno::EINVAL);
            }
        } else if flags & (c::O_CREAT | c::O_DIRECTORY) == c::O_CREAT | c::O_DIRECTORY {
            return Err(Errno::EINVAL);
        }
        Ok(self)
    }

    fn reads(&self) -> bool {
        self.flags & c::O_ACCMODE != c::O_WRONLY
    }

    fn writes(&self) -> bool {
        self.flags & c::O_ACCMODE != c::O_RDONLY
    }

    fn access(&self) -> u32 {
        let mut mask = 0;
        if self.reads() {
            mask |= MAY_READ;
        }
        if self.writes() || self.flags & c::O_TRUNC != 0 {
            mask |= MAY_WRITE;
        }
        mask
    }
}

/// Opens a path from `base` on.
///
/// # Errors
/// As open(2).
pub fn open(ctx: &Ctx, base: Path, path: &[u8], how: &OpenHow) -> Result<Arc<OpenFile>> {
    let mut walker = Walker::new(&ctx.cred, ctx.root.clone(), how.resolve);
    if how.resolve & u64::from(c::RESOLVE_BENEATH | c::RESOLVE_IN_ROOT) != 0 {
        walker.root = base.clone();
    }
    let base = if how.resolve & u64::from(c::RESOLVE_IN_ROOT) != 0 { walker.root.clone() } else { base };
    if how.flags & O_TMPFILE_BIT != 0 {
        let dir = walker.resolve(base, path, FOLLOW)?;
        return tmpfile(ctx, &dir, how);
    }
    if how.flags & c::O_CREAT != 0 {
        return create(ctx, &mut walker, base, path, how);
    }
    let nofollow = how.flags & c::O_NOFOLLOW != 0;
    let at = walker.resolve(base, path, if nofollow { 0 } else { FOLLOW })?;
    if how.flags & c::O_DIRECTORY != 0 && !at.dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    if how.flags & c::O_PATH != 0 {
        return Ok(OpenFile::new_path(at, how.flags));
    }
    open_found(ctx, at, how, false)
}

fn create(
    ctx: &Ctx,
    walker: &mut Walker<'_>,
    base: Path,
    path: &[u8],
    how: &OpenHow,
) -> Result<Arc<OpenFile>> {
    let mut last = walker.parent(base, path)?;
    loop {
        if last.kind != LastKind::Normal {
            // A directory, or what a magic link led to.
            if how.flags & c::O_EXCL != 0 {
                return Err(Errno::EEXIST);
            }
            if last.dir.dentry.is_dir() {
                return Err(Errno::EISDIR);
            }
            return open_found(ctx, last.dir, how, false);
        }
        if last.slash {
            return Err(Errno::EISDIR);
        }
        match walker.step(&last) {
            Ok(at) => {
                if how.flags & c::O_EXCL != 0 {
                    return Err(Errno::EEXIST);
                }
                if at.dentry.kind() == c::S_IFLNK {
                    if how.flags & c::O_NOFOLLOW != 0 {
                        return Err(Errno::ELOOP);
                    }
                    last = walker.follow_last(&last, &at)?;
                    continue;
                }
                if at.dentry.is_dir() {
                    return Err(Errno::EISDIR);
                }
                return open_found(ctx, at, how, false);
            }
            Err(Errno::ENOENT) => {}
            Err(e) => return Err(e),
        }
        let guard = last.dir.dentry.lock_dir();
        match walk::child_locked(&last.dir.dentry, &last.name) {
            // Another was quicker.
            Ok(_) => continue,
            Err(Errno::ENOENT) => {}
            Err(e) => return Err(e),
        }
        last.dir.mnt.want_write()?;
        let dir = last.dir.inode();
        let attr = dir.attr();
        perm::permission(&ctx.cred, &attr, MAY_WRITE | MAY_EXEC)?;
        if last.dir.dentry.is_unlinked() {
            return Err(Errno::ENOENT);
        }
        let owner = new_owner(&ctx.cred, &attr, how.mode & !ctx.fs.umask(), false);
        let inode = dir.create(&last.name, Create::File, &owner)?;
        let dentry = last.dir.dentry.add_child(&last.name, inode);
        drop(guard);
        notify::entry_event(&last.dir.dentry, &last.name, c::IN_CREATE, false, 0);
        return open_found(ctx, Path { mnt: last.dir.mnt.clone(), dentry }, how, true);
    }
}

/// Owner and mode of something new in a directory: a set-group-id directory hands its group on.
pub fn new_owner(cred: &Cred, dir: &Attr, mode: u32, is_dir: bool) -> Owner {
    let mut mode = mode;
    let mut gid = cred.fsgid;
    if dir.mode & c::S_ISGID != 0 {
        gid = dir.gid;
        if is_dir {
            mode |= c::S_ISGID;
        } else if mode & (c::S_ISGID | c::S_IXGRP) == c::S_ISGID | c::S_IXGRP
            && !cred.in_group(gid)
            && !cred.has(cap::FSETID)
        {
            mode &= !c::S_ISGID;
        }
    }
    Owner { mode, uid: cred.fsuid, gid }
}

fn tmpfile(ctx: &Ctx, dir: &Path, how: &OpenHow) -> Result<Arc<OpenFile>> {
    if !dir.dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    dir.mnt.want_write()?;
    let attr = dir.inode().attr();
    perm::permission(&ctx.cred, &attr, MAY_WRITE | MAY_EXEC)?;
    let owner = new_owner(&ctx.cred, &attr, how.mode & !ctx.fs.umask(), false);
    let inode = dir.inode().tmpfile(&owner)?;
    let name = alloc::format!("#{}", inode.stat()?.ino);
    let dentry = super::dentry::Dentry::loose(inode, &dir.dentry, name.as_bytes());
    dentry.set_unlinked();
    open_found(ctx, Path { mnt: dir.mnt.clone(), dentry }, how, true)
}

/// Opens an object that has been found; `created` by this call: then its permissions do not count.
///
/// # Errors
/// As open(2).
pub fn open_found(ctx: &Ctx, at: Path, how: &OpenHow, created: bool) -> Result<Arc<OpenFile>> {
    let inode = at.inode();
    let attr = inode.attr();
    let kind = attr.mode & S_IFMT;
    let special = matches!(kind, c::S_IFCHR | c::S_IFBLK | c::S_IFIFO | c::S_IFSOCK);
    match kind {
        c::S_IFLNK => return Err(Errno::ELOOP),
        c::S_IFDIR if how.access() & MAY_WRITE != 0 => return Err(Errno::EISDIR),
        c::S_IFCHR | c::S_IFBLK if at.mnt.flags() & c::MS_NODEV != 0 => return Err(Errno::EACCES),
        _ => {}
    }
    if !created {
        if how.access() & MAY_WRITE != 0 && !special {
            at.mnt.want_write()?;
        }
        perm::permission(&ctx.cred, &attr, how.access())?;
    }
    if how.flags & c::O_NOATIME != 0 && !perm::is_owner(&ctx.cred, &attr) {
        return Err(Errno::EPERM);
    }
    if how.flags & c::O_DIRECT != 0 && kind == c::S_IFDIR {
        return Err(Errno::EINVAL);
    }
    let break_leases = || match inode.extra() {
        Some(extra) if kind == c::S_IFREG && !created => {
            extra.leases.break_for(how.access() & MAY_WRITE != 0, how.flags & c::O_NONBLOCK != 0)
        }
        _ => Ok(()),
    };
    break_leases()?;
    let writer = how.writes() && kind == c::S_IFREG;
    let counted = match inode.extra() {
        Some(extra) if writer => {
            extra.get_write()?;
            true
        }
        _ => false,
    };
    let request = OpenRequest { flags: how.flags, path: &at, cred: &ctx.cred };
    let opened = inode.clone().open(&request).and_then(|ops| {
        if how.flags & c::O_TRUNC != 0 && kind == c::S_IFREG && !created {
            inode.truncate(0)?;
            notify::dentry_event(&at.dentry, c::IN_MODIFY);
        }
        Ok(ops)
    });
    let ops = match opened {
        Ok(ops) => ops,
        Err(e) => {
            if let (true, Some(extra)) = (counted, inode.extra()) {
                extra.put_write();
            }
            return Err(e);
        }
    };
    notify::dentry_event(&at.dentry, c::IN_OPEN);
    let at = at.clone();
    let file =
        if counted { OpenFile::new_writer(at, ops, how.flags) } else { OpenFile::new(at, ops, how.flags) };
    // One that was given meanwhile is broken too: from here on this description counts.
    break_leases()?;
    Ok(file)
}
