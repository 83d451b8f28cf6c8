//! mount(2), umount2(2), pivot_root(2).

use super::Args;
use super::path::{read_path, resolve_at};
use crate::errno::{Errno, Result};
use crate::fs;
use crate::kernel::cred::cap;
use crate::kernel::task::CurrentTask;
use crate::vfs::mount::MNT_FLAGS;
use crate::vfs::{Ctx, Mount};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;

const PROPAGATION: u32 = c::MS_SHARED | c::MS_PRIVATE | c::MS_SLAVE | c::MS_UNBINDABLE;

/// The data argument: up to a page, up to its NUL.
fn read_options(task: &CurrentTask, addr: u64) -> Result<Vec<u8>> {
    if addr == 0 { Ok(Vec::new()) } else { task.read_cstr(addr, 4096) }
}

/// mount(2).
pub fn mount(task: &CurrentTask, args: &Args) -> Result<u64> {
    let ctx = Ctx::of(task);
    let mut flags = args.u64(3) as u32;
    if flags & c::MS_MGC_MSK == c::MS_MGC_VAL {
        flags &= !c::MS_MGC_MSK;
    }
    let fstype = if args.u64(2) == 0 { Vec::new() } else { task.read_cstr(args.u64(2), 4096)? };
    let source = if args.u64(0) == 0 { Vec::new() } else { read_path(task, args.u64(0))? };
    let options = if flags & (c::MS_BIND | c::MS_MOVE) != 0 && flags & c::MS_REMOUNT == 0 {
        Vec::new()
    } else {
        read_options(task, args.u64(4))?
    };
    let at = resolve_at(task, &ctx, c::AT_FDCWD, args.u64(1), 0, true)?;
    if !ctx.cred.has(cap::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let ns = ctx.fs.ns();
    // Without another wish, times are kept as with relatime.
    let mnt_flags =
        if flags & (c::MS_NOATIME | c::MS_STRICTATIME) == 0 { flags | c::MS_RELATIME } else { flags };
    if flags & c::MS_REMOUNT != 0 {
        if !Arc::ptr_eq(&at.dentry, &at.mnt.root) {
            return Err(Errno::EINVAL);
        }
        if flags & c::MS_BIND == 0 {
            at.mnt.sb.fs.remount(&options)?;
            at.mnt.sb.readonly.store(flags & c::MS_RDONLY != 0, Ordering::Relaxed);
        }
        at.mnt.set_flags(mnt_flags & MNT_FLAGS);
    } else if flags & c::MS_BIND != 0 {
        let from = ctx.lookup(&source)?;
        ns.bind(&from, &at, flags & c::MS_REC != 0)?;
    } else if flags & PROPAGATION != 0 {
        // There is one peer group: nothing propagates anywhere.
        if (flags & PROPAGATION).count_ones() != 1 || !Arc::ptr_eq(&at.dentry, &at.mnt.root) {
            return Err(Errno::EINVAL);
        }
    } else if flags & c::MS_MOVE != 0 {
        let from = ctx.lookup(&source)?;
        ns.move_mount(&from, &at)?;
    } else {
        if !at.dentry.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        let sb = fs::make(&fstype, &options)?;
        let root = sb.root.clone();
        ns.attach(&Mount::new(sb, root, &source, mnt_flags), &at)?;
    }
    Ok(0)
}

/// umount2(2).
pub fn umount2(task: &CurrentTask, args: &Args) -> Result<u64> {
    let flags = args.u32(1);
    if flags & !(c::MNT_FORCE | c::MNT_DETACH | c::MNT_EXPIRE | c::UMOUNT_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & c::MNT_EXPIRE != 0 && flags & (c::MNT_FORCE | c::MNT_DETACH) != 0 {
        return Err(Errno::EINVAL);
    }
    let ctx = Ctx::of(task);
    let at = resolve_at(task, &ctx, c::AT_FDCWD, args.u64(0), 0, flags & c::UMOUNT_NOFOLLOW == 0)?;
    if !Arc::ptr_eq(&at.dentry, &at.mnt.root) {
        return Err(Errno::EINVAL);
    }
    if !ctx.cred.has(cap::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    if at.same(&ctx.root) && flags & c::MNT_DETACH == 0 {
        return Err(Errno::EBUSY);
    }
    let mount = at.mnt.clone();
    drop(at);
    if flags & c::MNT_EXPIRE != 0 {
        return Err(Errno::EAGAIN);
    }
    ctx.fs.ns().unmount(&mount, flags & c::MNT_DETACH != 0)?;
    Ok(0)
}

/// pivot_root(2).
pub fn pivot_root(task: &CurrentTask, args: &Args) -> Result<u64> {
    let ctx = Ctx::of(task);
    if !ctx.cred.has(cap::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let new_root = resolve_at(task, &ctx, c::AT_FDCWD, args.u64(0), 0, true)?;
    let put_old = resolve_at(task, &ctx, c::AT_FDCWD, args.u64(1), 0, true)?;
    if !new_root.dentry.is_dir() || !put_old.dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    ctx.fs.ns().pivot(&ctx.root, &new_root, &put_old)?;
    // Processes at the old root move to the new one.
    crate::vfs::state::moved_root(&ctx.fs, &ctx.root, &new_root);
    Ok(0)
}
