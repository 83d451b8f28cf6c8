//! Extended attributes, xattr(7).

use super::Args;
use super::path::resolve_at;
use crate::errno::{Errno, Result};
use crate::kernel::cred::{Cred, cap};
use crate::kernel::task::CurrentTask;
use crate::vfs::inode::{Attr, S_IFMT};
use crate::vfs::perm::{self, MAY_READ, MAY_WRITE};
use crate::vfs::{Ctx, Path, notify};
use alloc::vec::Vec;
use linux_raw_sys::general as c;

/// Where the path argument comes from.
#[derive(Clone, Copy)]
enum From {
    Path,
    Link,
    Fd,
}

fn place(task: &CurrentTask, ctx: &Ctx, args: &Args, from: From) -> Result<Path> {
    match from {
        From::Path => resolve_at(task, ctx, c::AT_FDCWD, args.u64(0), 0, true),
        From::Link => resolve_at(task, ctx, c::AT_FDCWD, args.u64(0), 0, false),
        From::Fd => Ok(task.files().get(args.i32(0))?.path.clone()),
    }
}

fn read_name(task: &CurrentTask, addr: u64) -> Result<Vec<u8>> {
    let max = c::XATTR_NAME_MAX as usize + 1;
    let name =
        task.read_cstr(addr, max).map_err(|e| if e == Errno::ENAMETOOLONG { Errno::ERANGE } else { e })?;
    if name.is_empty() { Err(Errno::ERANGE) } else { Ok(name) }
}

/// What xattr(7) says about who may use which attribute.
fn allowed(cred: &Cred, attr: &Attr, name: &[u8], write: bool) -> Result<()> {
    if name.starts_with(b"trusted.") {
        let missing = if write { Errno::EPERM } else { Errno::ENODATA };
        return if cred.has(cap::SYS_ADMIN) { Ok(()) } else { Err(missing) };
    }
    if name.starts_with(b"security.") {
        let needed = if name == b"security.capability" { cap::SETFCAP } else { cap::SYS_ADMIN };
        return if !write || cred.has(needed) { Ok(()) } else { Err(Errno::EPERM) };
    }
    if !name.starts_with(b"user.") || name.len() == b"user.".len() {
        return Err(Errno::EOPNOTSUPP);
    }
    match attr.mode & S_IFMT {
        c::S_IFREG | c::S_IFDIR => {}
        _ => return Err(if write { Errno::EPERM } else { Errno::ENODATA }),
    }
    if write && attr.mode & S_IFMT == c::S_IFDIR && attr.mode & c::S_ISVTX != 0 && !perm::is_owner(cred, attr)
    {
        return Err(Errno::EPERM);
    }
    perm::permission(cred, attr, if write { MAY_WRITE } else { MAY_READ })
}

fn get(task: &CurrentTask, args: &Args, from: From) -> Result<u64> {
    let name = read_name(task, args.u64(1))?;
    let ctx = Ctx::of(task);
    let at = place(task, &ctx, args, from)?;
    allowed(&ctx.cred, &at.inode().attr(), &name, false)?;
    let value = at.inode().get_xattr(&name)?;
    answer(task, &value, args.u64(2), args.u64(3))
}

fn answer(task: &CurrentTask, value: &[u8], addr: u64, size: u64) -> Result<u64> {
    if size != 0 {
        if (value.len() as u64) > size {
            return Err(Errno::ERANGE);
        }
        task.write_bytes(addr, value)?;
    }
    Ok(value.len() as u64)
}

fn set(task: &CurrentTask, args: &Args, from: From) -> Result<u64> {
    let (size, flags) = (args.u64(3), args.u32(4));
    if flags & !(c::XATTR_CREATE | c::XATTR_REPLACE) != 0 {
        return Err(Errno::EINVAL);
    }
    let name = read_name(task, args.u64(1))?;
    if size > u64::from(c::XATTR_SIZE_MAX) {
        return Err(Errno::E2BIG);
    }
    let mut value = alloc::vec![0; size as usize];
    task.read_bytes(args.u64(2), &mut value)?;
    let ctx = Ctx::of(task);
    let at = place(task, &ctx, args, from)?;
    at.mnt.want_write()?;
    allowed(&ctx.cred, &at.inode().attr(), &name, true)?;
    at.inode().set_xattr(&name, &value, flags)?;
    notify::dentry_event(&at.dentry, c::IN_ATTRIB);
    Ok(0)
}

fn list(task: &CurrentTask, args: &Args, from: From) -> Result<u64> {
    let ctx = Ctx::of(task);
    let at = place(task, &ctx, args, from)?;
    let mut names = at.inode().list_xattr()?;
    if !ctx.cred.has(cap::SYS_ADMIN) {
        let kept: Vec<&[u8]> =
            names.split_inclusive(|b| *b == 0).filter(|n| !n.starts_with(b"trusted.")).collect();
        names = kept.concat();
    }
    answer(task, &names, args.u64(1), args.u64(2))
}

fn remove(task: &CurrentTask, args: &Args, from: From) -> Result<u64> {
    let name = read_name(task, args.u64(1))?;
    let ctx = Ctx::of(task);
    let at = place(task, &ctx, args, from)?;
    at.mnt.want_write()?;
    allowed(&ctx.cred, &at.inode().attr(), &name, true)?;
    at.inode().remove_xattr(&name)?;
    notify::dentry_event(&at.dentry, c::IN_ATTRIB);
    Ok(0)
}

macro_rules! calls {
    ($($name:ident = $call:ident($from:ident)),* $(,)?) => {$(
        #[doc = concat!(stringify!($name), "(2).")]
        pub fn $name(task: &CurrentTask, args: &Args) -> Result<u64> {
            $call(task, args, From::$from)
        }
    )*};
}

calls! {
    getxattr = get(Path), lgetxattr = get(Link), fgetxattr = get(Fd),
    setxattr = set(Path), lsetxattr = set(Link), fsetxattr = set(Fd),
    listxattr = list(Path), llistxattr = list(Link), flistxattr = list(Fd),
    removexattr = remove(Path), lremovexattr = remove(Link), fremovexattr = remove(Fd),
}
