//! Changing attributes: chmod(2), chown(2), utimensat(2), truncate(2), access(2).

use super::file::OpenFile;
use super::inode::{Attr, S_IFMT, SetAttr, Time};
use super::notify;
use super::path::Path;
use super::perm::{self, MAY_EXEC, MAY_WRITE};
use crate::errno::{Errno, Result};
use crate::kernel::cred::{Cred, cap};
use linux_raw_sys::general as c;

/// Sets permission bits.
///
/// # Errors
/// EPERM, EROFS.
pub fn chmod(cred: &Cred, path: &Path, mode: u32) -> Result<()> {
    path.mnt.want_write()?;
    let attr = path.inode().attr();
    if attr.mode & S_IFMT == c::S_IFLNK {
        return Err(Errno::EOPNOTSUPP);
    }
    if !perm::is_owner(cred, &attr) {
        return Err(Errno::EPERM);
    }
    let mut mode = mode & 0o7777;
    if !cred.in_group(attr.gid) && !cred.has(cap::FSETID) {
        mode &= !c::S_ISGID;
    }
    path.inode().set_attr(&SetAttr { mode: Some(mode), ..SetAttr::default() })?;
    notify::dentry_event(&path.dentry, c::IN_ATTRIB);
    Ok(())
}

/// Sets owner and group; `u32::MAX` leaves one as it is.
///
/// # Errors
/// EPERM, EROFS.
pub fn chown(cred: &Cred, path: &Path, uid: u32, gid: u32) -> Result<()> {
    path.mnt.want_write()?;
    let attr = path.inode().attr();
    let (uid, gid) = ((uid != u32::MAX).then_some(uid), (gid != u32::MAX).then_some(gid));
    let all = cred.has(cap::CHOWN);
    if let Some(uid) = uid
        && !all
        && (cred.fsuid != attr.uid || uid != attr.uid)
    {
        return Err(Errno::EPERM);
    }
    if let Some(gid) = gid
        && !all
        && (cred.fsuid != attr.uid || gid != attr.gid && !cred.in_group(gid))
    {
        return Err(Errno::EPERM);
    }
    let mode = if attr.mode & S_IFMT == c::S_IFDIR { None } else { without_privileges(&attr) };
    path.inode().set_attr(&SetAttr { mode, uid, gid, ..SetAttr::default() })?;
    notify::dentry_event(&path.dentry, c::IN_ATTRIB);
    Ok(())
}

/// The permission bits without set-user-id and set-group-id, where that is a change.
fn without_privileges(attr: &Attr) -> Option<u32> {
    let mut mode = attr.mode & 0o7777 & !c::S_ISUID;
    if mode & c::S_IXGRP != 0 {
        mode &= !c::S_ISGID;
    }
    (mode != attr.mode & 0o7777).then_some(mode)
}

/// Takes set-user-id and set-group-id away before a file is written.
///
/// # Errors
/// What the file system says.
#[inline]
pub fn drop_privileges(cred: &Cred, file: &OpenFile) -> Result<()> {
    let attr = file.path.inode().attr();
    if attr.mode & (c::S_ISUID | c::S_ISGID) == 0 || attr.mode & S_IFMT != c::S_IFREG || cred.has(cap::FSETID)
    {
        return Ok(());
    }
    match without_privileges(&attr) {
        Some(mode) => file.path.inode().set_attr(&SetAttr { mode: Some(mode), ..SetAttr::default() }),
        None => Ok(()),
    }
}

/// A time to set: `None` to leave it, `Some(None)` for now.
pub type NewTime = Option<Option<Time>>;

/// Sets times.
///
/// # Errors
/// EPERM, EACCES, EROFS.
pub fn utimens(cred: &Cred, path: &Path, atime: NewTime, mtime: NewTime) -> Result<()> {
    if atime.is_none() && mtime.is_none() {
        return Ok(());
    }
    path.mnt.want_write()?;
    let attr = path.inode().attr();
    if !perm::is_owner(cred, &attr) {
        let both_now = matches!((atime, mtime), (Some(None), Some(None)));
        if !both_now {
            return Err(Errno::EPERM);
        }
        perm::permission(cred, &attr, MAY_WRITE)?;
    }
    let now = Time::now();
    let pick = |t: NewTime| t.map(|t| t.unwrap_or(now));
    path.inode().set_attr(&SetAttr { atime: pick(atime), mtime: pick(mtime), ..SetAttr::default() })?;
    notify::dentry_event(&path.dentry, c::IN_ATTRIB);
    Ok(())
}

/// Sets the length of a file by its path.
///
/// # Errors
/// EISDIR, EINVAL, EACCES, EROFS, ETXTBSY and what the file system says.
pub fn truncate(cred: &Cred, path: &Path, size: u64) -> Result<()> {
    match path.dentry.kind() {
        c::S_IFDIR => return Err(Errno::EISDIR),
        c::S_IFREG => {}
        _ => return Err(Errno::EINVAL),
    }
    path.mnt.want_write()?;
    let inode = path.inode();
    let attr = inode.attr();
    perm::permission(cred, &attr, MAY_WRITE)?;
    if let Some(extra) = inode.extra() {
        extra.leases.break_for(true, false)?;
        extra.get_write()?;
        extra.put_write();
    }
    if let Some(mode) = without_privileges(&attr).filter(|_| !cred.has(cap::FSETID)) {
        inode.set_attr(&SetAttr { mode: Some(mode), ..SetAttr::default() })?;
    }
    inode.truncate(size)?;
    notify::dentry_event(&path.dentry, c::IN_MODIFY);
    Ok(())
}

/// Checks access with given credentials, faccessat2(2). `mask` as access(2): R_OK 4, W_OK 2, X_OK 1.
///
/// # Errors
/// EACCES, EROFS.
pub fn access(cred: &Cred, path: &Path, mask: u32) -> Result<()> {
    let attr = path.inode().attr();
    let kind = attr.mode & S_IFMT;
    if mask & MAY_EXEC != 0 && kind == c::S_IFREG && path.mnt.flags() & c::MS_NOEXEC != 0 {
        return Err(Errno::EACCES);
    }
    if mask != 0 {
        perm::permission(cred, &attr, mask)?;
    }
    if mask & MAY_WRITE != 0 && matches!(kind, c::S_IFREG | c::S_IFDIR | c::S_IFLNK) {
        path.mnt.want_write()?;
    }
    Ok(())
}
