//! Changing directories: mkdir(2), mknod(2), symlink(2), link(2), unlink(2), rmdir(2), rename(2).

use super::dentry::Dentry;
use super::inode::{Create, S_IFMT, same_inode};
use super::notify;
use super::open::new_owner;
use super::path::Path;
use super::perm::{self, MAY_EXEC, MAY_WRITE};
use super::state::Ctx;
use super::walk::{self, Last, LastKind};
use crate::errno::{Errno, Result};
use crate::kernel::cred::cap;
use crate::sync::Mutex;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use linux_raw_sys::general as c;

/// Serialises renames between directories, so that no circle can come to be.
static RENAME: Mutex<()> = Mutex::new(());
static NEXT_COOKIE: AtomicU32 = AtomicU32::new(1);

/// Checks that an entry can be made in a directory.
fn may_create(ctx: &Ctx, dir: &Path) -> Result<()> {
    dir.mnt.want_write()?;
    if dir.dentry.is_unlinked() {
        return Err(Errno::ENOENT);
    }
    perm::permission(&ctx.cred, &dir.inode().attr(), MAY_WRITE | MAY_EXEC)
}

/// Checks that an entry can be removed from a directory.
fn may_delete(ctx: &Ctx, dir: &Path, victim: &Arc<Dentry>, want_dir: Option<bool>) -> Result<()> {
    let attr = dir.inode().attr();
    perm::permission(&ctx.cred, &attr, MAY_WRITE | MAY_EXEC)?;
    perm::check_sticky(&ctx.cred, &attr, &victim.inode().attr())?;
    match (want_dir, victim.is_dir()) {
        (Some(true), false) => Err(Errno::ENOTDIR),
        (Some(false), true) => Err(Errno::EISDIR),
        _ if victim.is_mounted() => Err(Errno::EBUSY),
        _ => Ok(()),
    }
}

fn is_mount_here(dir: &Path, victim: &Arc<Dentry>) -> bool {
    victim.is_mounted() && dir.mnt.child_at(victim).is_some()
}

/// Makes an entry: directory, file, symbolic link or special file. `mode` without the umask.
///
/// # Errors
/// EEXIST, ENOENT, EROFS, EACCES, EPERM and what the file system says.
pub fn make(ctx: &Ctx, base: Path, path: &[u8], what: Create<'_>, mode: u32) -> Result<Path> {
    let is_dir = matches!(what, Create::Dir);
    let last = ctx.parent(base, path)?;
    if last.kind != LastKind::Normal {
        return Err(Errno::EEXIST);
    }
    let _guard = last.dir.dentry.lock_dir();
    match walk::child_locked(&last.dir.dentry, &last.name) {
        Ok(_) => return Err(Errno::EEXIST),
        Err(Errno::ENOENT) => {}
        Err(e) => return Err(e),
    }
    // Only directories can be made through a name with a slash behind it.
    if last.slash && !is_dir {
        return Err(Errno::ENOENT);
    }
    may_create(ctx, &last.dir)?;
    if let Create::Node(kind, rdev) = what {
        let device = matches!(kind, c::S_IFCHR | c::S_IFBLK);
        let whiteout = kind == c::S_IFCHR && rdev == 0;
        if device && !whiteout && !ctx.cred.has(cap::MKNOD) {
            return Err(Errno::EPERM);
        }
    }
    let mode = if matches!(what, Create::Symlink(_)) { 0o777 } else { mode & !ctx.fs.umask() };
    let dir = last.dir.inode();
    let owner = new_owner(&ctx.cred, &dir.attr(), mode, is_dir);
    let inode = dir.create(&last.name, what, &owner)?;
    let dentry = last.dir.dentry.add_child(&last.name, inode);
    notify::entry_event(&last.dir.dentry, &last.name, c::IN_CREATE, is_dir, 0);
    Ok(Path { mnt: last.dir.mnt.clone(), dentry })
}

/// Makes a hard link to a file.
///
/// # Errors
/// As link(2).
pub fn link(ctx: &Ctx, target: &Path, base: Path, path: &[u8]) -> Result<()> {
    let last = ctx.parent(base, path)?;
    if last.kind != LastKind::Normal {
        return Err(Errno::EEXIST);
    }
    let _guard = last.dir.dentry.lock_dir();
    match walk::child_locked(&last.dir.dentry, &last.name) {
        Ok(_) => return Err(Errno::EEXIST),
        Err(Errno::ENOENT) => {}
        Err(e) => return Err(e),
    }
    if last.slash {
        return Err(Errno::ENOENT);
    }
    if !Arc::ptr_eq(&target.mnt, &last.dir.mnt) {
        return Err(Errno::EXDEV);
    }
    may_create(ctx, &last.dir)?;
    if target.dentry.is_dir() {
        return Err(Errno::EPERM);
    }
    last.dir.inode().link(&last.name, target.inode())?;
    last.dir.dentry.add_child(&last.name, target.inode().clone());
    notify::self_event(&target.dentry, c::IN_ATTRIB);
    notify::entry_event(&last.dir.dentry, &last.name, c::IN_CREATE, false, 0);
    Ok(())
}

/// Removes a name, unlink(2); with `dir` a directory, rmdir(2).
///
/// # Errors
/// As there.
pub fn remove(ctx: &Ctx, base: Path, path: &[u8], dir: bool) -> Result<()> {
    let last = ctx.parent(base, path)?;
    match (last.kind, dir) {
        (LastKind::Normal, _) => {}
        (_, false) => return Err(Errno::EISDIR),
        (LastKind::Root, true) => return Err(Errno::EBUSY),
        (LastKind::Dot, true) => return Err(Errno::EINVAL),
        (LastKind::DotDot, true) => return Err(Errno::ENOTEMPTY),
    }
    let guard = last.dir.dentry.lock_dir();
    let victim = walk::child_locked(&last.dir.dentry, &last.name)?;
    if last.slash && !dir {
        return Err(if victim.is_dir() { Errno::EISDIR } else { Errno::ENOTDIR });
    }
    last.dir.mnt.want_write()?;
    may_delete(ctx, &last.dir, &victim, Some(dir))?;
    {
        // The victim's own lock keeps entries from being made in it meanwhile.
        let _inner = victim.lock_dir();
        last.dir.inode().unlink(&last.name, victim.inode())?;
        victim.set_unlinked();
    }
    let kept = last.dir.dentry.forget_child(&last.name);
    drop(guard);
    drop(kept);
    removed(&last.dir, &last.name, &victim);
    Ok(())
}

fn removed(dir: &Path, name: &[u8], victim: &Arc<Dentry>) {
    notify::entry_event(&dir.dentry, name, c::IN_DELETE, victim.is_dir(), 0);
    let gone = victim.inode().stat().is_ok_and(|s| s.nlink == 0 || victim.is_dir());
    notify::self_event(victim, if gone { c::IN_DELETE_SELF } else { c::IN_ATTRIB });
}

/// Renames, renameat2(2).
///
/// # Errors
/// As there.
pub fn rename(ctx: &Ctx, from: (Path, &[u8]), to: (Path, &[u8]), flags: u32) -> Result<()> {
    if flags & !(c::RENAME_NOREPLACE | c::RENAME_EXCHANGE) != 0
        || flags & (c::RENAME_NOREPLACE | c::RENAME_EXCHANGE) == c::RENAME_NOREPLACE | c::RENAME_EXCHANGE
    {
        return Err(Errno::EINVAL);
    }
    let from = ctx.parent(from.0, from.1)?;
    let to = ctx.parent(to.0, to.1)?;
    if !Arc::ptr_eq(&from.dir.mnt, &to.dir.mnt) {
        return Err(Errno::EXDEV);
    }
    if from.kind != LastKind::Normal {
        return Err(Errno::EBUSY);
    }
    if to.kind != LastKind::Normal {
        return Err(if flags & c::RENAME_NOREPLACE != 0 { Errno::EEXIST } else { Errno::EBUSY });
    }
    from.dir.mnt.want_write()?;
    let (from_dir, to_dir) = (&from.dir.dentry, &to.dir.dentry);
    let same = Arc::ptr_eq(from_dir, to_dir);
    let across = (!same).then(|| RENAME.lock());
    // Ancestors are locked first, else in the order of addresses.
    let from_first = from_dir.is_ancestor_of(to_dir)
        || !to_dir.is_ancestor_of(from_dir) && Arc::as_ptr(from_dir) < Arc::as_ptr(to_dir);
    let (first, second) = if from_first { (from_dir, to_dir) } else { (to_dir, from_dir) };
    let _first = first.lock_dir();
    let _second = (!same).then(|| second.lock_dir());
    let gone = rename_locked(ctx, &from, &to, flags)?;
    drop((_second, _first, across));
    if let Some(gone) = gone {
        let deleted = gone.is_dir() || gone.inode().stat().is_ok_and(|s| s.nlink == 0);
        notify::self_event(&gone, if deleted { c::IN_DELETE_SELF } else { c::IN_ATTRIB });
    }
    Ok(())
}

/// The rename proper; returns the dentry that was replaced.
fn rename_locked(ctx: &Ctx, from: &Last, to: &Last, flags: u32) -> Result<Option<Arc<Dentry>>> {
    let exchange = flags & c::RENAME_EXCHANGE != 0;
    let (from_dir, to_dir) = (&from.dir.dentry, &to.dir.dentry);
    let moved = walk::child_locked(from_dir, &from.name)?;
    let target = match walk::child_locked(to_dir, &to.name) {
        Ok(found) => Some(found),
        Err(Errno::ENOENT) => None,
        Err(e) => return Err(e),
    };
    if flags & c::RENAME_NOREPLACE != 0 && target.is_some() {
        return Err(Errno::EEXIST);
    }
    if exchange && target.is_none() {
        return Err(Errno::ENOENT);
    }
    if !moved.is_dir() && (from.slash || !exchange && to.slash) {
        return Err(Errno::ENOTDIR);
    }
    if exchange && to.slash && target.as_ref().is_some_and(|t| !t.is_dir()) {
        return Err(Errno::ENOTDIR);
    }
    // A directory can not be moved below itself, nor onto what holds it.
    if moved.is_dir() && moved.is_ancestor_of(to_dir) {
        return Err(Errno::EINVAL);
    }
    if let Some(target) = &target {
        if target.is_dir() && target.is_ancestor_of(from_dir) {
            return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        if same_inode(moved.inode(), target.inode()) {
            return Ok(None);
        }
    }
    may_delete(ctx, &from.dir, &moved, None)?;
    match &target {
        None => may_create(ctx, &to.dir)?,
        Some(target) if exchange => may_delete(ctx, &to.dir, target, None)?,
        Some(target) => {
            may_delete(ctx, &to.dir, target, Some(moved.is_dir()))?;
            if is_mount_here(&to.dir, target) {
                return Err(Errno::EBUSY);
            }
        }
    }
    // Moving a directory changes its `..`, so it must be writable itself.
    if !Arc::ptr_eq(from_dir, to_dir) {
        let targets = [Some(&moved), target.as_ref().filter(|_| exchange)];
        for dir in targets.into_iter().flatten().filter(|d| d.is_dir()) {
            perm::permission(&ctx.cred, &dir.inode().attr(), MAY_WRITE)?;
        }
    }
    {
        let _inner = target.as_ref().filter(|_| !exchange).map(|t| t.lock_dir());
        from.dir.inode().rename(
            &from.name,
            moved.inode(),
            to.dir.inode(),
            &to.name,
            target.as_ref().map(|t| t.inode()),
            exchange,
        )?;
        if let (Some(target), false) = (&target, exchange) {
            target.set_unlinked();
        }
    }
    let cookie = NEXT_COOKIE.fetch_add(1, Ordering::Relaxed);
    match &target {
        Some(target) if exchange => Dentry::exchange(from_dir, &moved, to_dir, target),
        _ => from_dir.move_child(&moved, to_dir, &to.name),
    }
    notify::entry_event(from_dir, &from.name, c::IN_MOVED_FROM, moved.is_dir(), cookie);
    notify::entry_event(to_dir, &to.name, c::IN_MOVED_TO, moved.is_dir(), cookie);
    notify::self_event(&moved, c::IN_MOVE_SELF);
    if let (Some(target), true) = (&target, exchange) {
        let cookie = NEXT_COOKIE.fetch_add(1, Ordering::Relaxed);
        notify::entry_event(to_dir, &to.name, c::IN_MOVED_FROM, target.is_dir(), cookie);
        notify::entry_event(from_dir, &from.name, c::IN_MOVED_TO, target.is_dir(), cookie);
    }
    Ok(target.filter(|_| !exchange))
}

/// Checks the type bits of mknod(2).
///
/// # Errors
/// EPERM for directories, EINVAL for what is no type.
pub fn node_kind(mode: u32, rdev: u64) -> Result<Create<'static>> {
    match mode & S_IFMT {
        0 | c::S_IFREG => Ok(Create::File),
        kind @ (c::S_IFCHR | c::S_IFBLK) => Ok(Create::Node(kind, rdev)),
        kind @ (c::S_IFIFO | c::S_IFSOCK) => Ok(Create::Node(kind, 0)),
        c::S_IFDIR => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}
