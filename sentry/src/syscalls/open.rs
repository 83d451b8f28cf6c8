//! open(2), openat(2), openat2(2), creat(2), close(2), close_range(2), memfd_create(2).

use super::Args;
use super::path::read_path;
use crate::errno::{Errno, Result};
use crate::kernel::task::CurrentTask;
use crate::vfs::Ctx;
use crate::vfs::open::{self, OpenHow, VALID_FLAGS};
use crate::vfs::uapi::OpenHowBuf;
use linux_raw_sys::general as c;
use zerocopy::IntoBytes;

// From linux/close_range.h; linux-raw-sys has no module for it.
const CLOSE_RANGE_UNSHARE: u32 = 2;
const CLOSE_RANGE_CLOEXEC: u32 = 4;

const RESOLVE_ALL: u32 = c::RESOLVE_NO_XDEV
    | c::RESOLVE_NO_MAGICLINKS
    | c::RESOLVE_NO_SYMLINKS
    | c::RESOLVE_BENEATH
    | c::RESOLVE_IN_ROOT
    | c::RESOLVE_CACHED;

fn do_open(task: &CurrentTask, dirfd: i32, addr: u64, how: &OpenHow) -> Result<u64> {
    let path = read_path(task, addr)?;
    let ctx = Ctx::of(task);
    // With a scope, an absolute path begins at the directory too.
    let scoped = how.resolve & u64::from(c::RESOLVE_IN_ROOT | c::RESOLVE_BENEATH) != 0;
    let base = if scoped { ctx.base(task, dirfd, b".")? } else { ctx.base(task, dirfd, &path)? };
    let limit = task.rlimit(c::RLIMIT_NOFILE).0;
    // No file is made or truncated that nobody gets.
    task.files().check_room(limit)?;
    let file = open::open(&ctx, base, &path, how)?;
    if how.flags & c::O_NOCTTY == 0 {
        crate::fs::tty::opened(task, &file);
    }
    Ok(task.files().install(file, how.flags & c::O_CLOEXEC != 0, limit)? as u64)
}

/// open(2).
pub fn open(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_open(task, c::AT_FDCWD, args.u64(0), &OpenHow::lenient(args.u32(1), args.u32(2))?)
}

/// openat(2).
pub fn openat(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_open(task, args.i32(0), args.u64(1), &OpenHow::lenient(args.u32(2), args.u32(3))?)
}

/// creat(2).
pub fn creat(task: &CurrentTask, args: &Args) -> Result<u64> {
    let how = OpenHow::lenient(c::O_CREAT | c::O_WRONLY | c::O_TRUNC, args.u32(1))?;
    do_open(task, c::AT_FDCWD, args.u64(0), &how)
}

/// openat2(2).
pub fn openat2(task: &CurrentTask, args: &Args) -> Result<u64> {
    let size = args.u64(3);
    if size < 24 {
        return Err(Errno::EINVAL);
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    let mut raw = alloc::vec![0u8; size as usize];
    task.read_bytes(args.u64(2), &mut raw)?;
    let (head, tail) = raw.split_at(24);
    if tail.iter().any(|b| *b != 0) {
        return Err(Errno::E2BIG);
    }
    let mut how = OpenHowBuf::default();
    how.as_mut_bytes().copy_from_slice(head);
    let flags = u32::try_from(how.flags).map_err(|_| Errno::EINVAL)?;
    if flags & !VALID_FLAGS != 0 || how.resolve & !u64::from(RESOLVE_ALL) != 0 || how.mode & !0o7777 != 0 {
        return Err(Errno::EINVAL);
    }
    let both = u64::from(c::RESOLVE_BENEATH | c::RESOLVE_IN_ROOT);
    if how.resolve & both == both {
        return Err(Errno::EINVAL);
    }
    let creates = flags & (c::O_CREAT | (c::O_TMPFILE & !c::O_DIRECTORY)) != 0;
    if how.mode != 0 && !creates {
        return Err(Errno::EINVAL);
    }
    if flags & c::O_PATH != 0 && flags & !(c::O_PATH | c::O_DIRECTORY | c::O_NOFOLLOW | c::O_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    if how.resolve & u64::from(c::RESOLVE_CACHED) != 0 && (creates || flags & c::O_TRUNC != 0) {
        return Err(Errno::EAGAIN);
    }
    let how = OpenHow { flags, mode: how.mode as u32, resolve: how.resolve }.checked()?;
    do_open(task, args.i32(0), args.u64(1), &how)
}

/// close(2).
pub fn close(task: &CurrentTask, args: &Args) -> Result<u64> {
    task.files().close(args.i32(0))?;
    Ok(0)
}

/// close_range(2).
pub fn close_range(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (first, last, flags) = (args.u32(0), args.u32(1), args.u32(2));
    if first > last || flags & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & CLOSE_RANGE_UNSHARE != 0 {
        task.set_files(Some(task.files().fork()?));
    }
    task.files().close_range(first, last, flags & CLOSE_RANGE_CLOEXEC != 0);
    Ok(0)
}

/// memfd_create(2).
pub fn memfd_create(task: &CurrentTask, args: &Args) -> Result<u64> {
    let flags = args.u32(1);
    let known = c::MFD_CLOEXEC | c::MFD_ALLOW_SEALING | c::MFD_HUGETLB | c::MFD_NOEXEC_SEAL | c::MFD_EXEC;
    let huge = c::MFD_HUGE_MASK << c::MFD_HUGE_SHIFT;
    if flags & !(known | if flags & c::MFD_HUGETLB != 0 { huge } else { 0 }) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & (c::MFD_NOEXEC_SEAL | c::MFD_EXEC) == c::MFD_NOEXEC_SEAL | c::MFD_EXEC {
        return Err(Errno::EINVAL);
    }
    // NAME_MAX less the prefix `memfd:`.
    let name = task
        .read_cstr(args.u64(0), 250)
        .map_err(|e| if e == Errno::ENAMETOOLONG { Errno::EINVAL } else { e })?;
    let file = crate::fs::memfd::create(&name, flags, &task.cred())?;
    let cloexec = flags & c::MFD_CLOEXEC != 0;
    Ok(task.files().install(file, cloexec, task.rlimit(c::RLIMIT_NOFILE).0)? as u64)
}
