//! read(2), write(2) and their kin; lseek(2), truncate(2), fallocate(2), fsync(2).

use super::Args;
use super::path::{read_iovecs, read_path};
use crate::errno::{Errno, Result};
use crate::kernel::task::CurrentTask;
use crate::vfs::rw::{self, MAX_OFFSET, MAX_RW};
use crate::vfs::{Ctx, OpenFile, attr, notify};
use linux_raw_sys::general as c;

/// RWF_* flags that are known; RWF_ATOMIC and RWF_DONTCACHE are refused.
const RWF_KNOWN: u32 = c::RWF_HIPRI | c::RWF_DSYNC | c::RWF_SYNC | c::RWF_NOWAIT | c::RWF_APPEND;

fn offset_of(raw: i64) -> Result<u64> {
    u64::try_from(raw).map_err(|_| Errno::EINVAL)
}

fn length(raw: u64) -> usize {
    usize::try_from(raw).unwrap_or(usize::MAX).min(MAX_RW)
}

/// read(2).
pub fn read(task: &CurrentTask, args: &Args) -> Result<u64> {
    let file = task.files().get(args.i32(0))?;
    let mut sink = task.sink(&[(args.u64(1), length(args.u64(2)))]);
    Ok(rw::read(&file, &mut *sink, None)? as u64)
}

/// write(2).
pub fn write(task: &CurrentTask, args: &Args) -> Result<u64> {
    let file = task.files().get(args.i32(0))?;
    let mut source = task.source(&[(args.u64(1), length(args.u64(2)))]);
    Ok(rw::write(task, &file, &mut *source, None, false)? as u64)
}

/// pread64(2).
pub fn pread64(task: &CurrentTask, args: &Args) -> Result<u64> {
    let at = offset_of(args.i64(3))?;
    let file = task.files().get(args.i32(0))?;
    let mut sink = task.sink(&[(args.u64(1), length(args.u64(2)))]);
    Ok(rw::read(&file, &mut *sink, Some(at))? as u64)
}

/// pwrite64(2).
pub fn pwrite64(task: &CurrentTask, args: &Args) -> Result<u64> {
    let at = offset_of(args.i64(3))?;
    let file = task.files().get(args.i32(0))?;
    let mut source = task.source(&[(args.u64(1), length(args.u64(2)))]);
    Ok(rw::write(task, &file, &mut *source, Some(at), false)? as u64)
}

fn do_readv(task: &CurrentTask, args: &Args, at: Option<u64>) -> Result<u64> {
    let file = task.files().get(args.i32(0))?;
    let iov = read_iovecs(task, args.u64(1), args.u64(2))?;
    let mut sink = task.sink(&iov);
    Ok(rw::read(&file, &mut *sink, at)? as u64)
}

fn do_writev(task: &CurrentTask, args: &Args, at: Option<u64>, append: bool) -> Result<u64> {
    let file = task.files().get(args.i32(0))?;
    let iov = read_iovecs(task, args.u64(1), args.u64(2))?;
    let mut source = task.source(&iov);
    Ok(rw::write(task, &file, &mut *source, at, append)? as u64)
}

/// readv(2).
pub fn readv(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_readv(task, args, None)
}

/// writev(2).
pub fn writev(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_writev(task, args, None, false)
}

/// preadv(2).
pub fn preadv(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_readv(task, args, Some(offset_of(args.i64(3))?))
}

/// pwritev(2).
pub fn pwritev(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_writev(task, args, Some(offset_of(args.i64(3))?), false)
}

fn flags_of(raw: u32) -> Result<u32> {
    if raw & !RWF_KNOWN != 0 { Err(Errno::EOPNOTSUPP) } else { Ok(raw) }
}

fn maybe_offset(raw: i64) -> Result<Option<u64>> {
    if raw == -1 { Ok(None) } else { offset_of(raw).map(Some) }
}

/// preadv2(2).
pub fn preadv2(task: &CurrentTask, args: &Args) -> Result<u64> {
    flags_of(args.u32(5))?;
    do_readv(task, args, maybe_offset(args.i64(3))?)
}

/// pwritev2(2).
pub fn pwritev2(task: &CurrentTask, args: &Args) -> Result<u64> {
    let flags = flags_of(args.u32(5))?;
    do_writev(task, args, maybe_offset(args.i64(3))?, flags & c::RWF_APPEND != 0)
}

/// lseek(2).
pub fn lseek(task: &CurrentTask, args: &Args) -> Result<u64> {
    let file = task.files().get(args.i32(0))?;
    let (offset, whence) = (args.i64(1), args.u32(2));
    if whence > c::SEEK_MAX {
        return Err(Errno::EINVAL);
    }
    if let Some(result) = file.ops().seek(&file, offset, whence) {
        return result;
    }
    if !file.ops().can_seek() {
        return Err(Errno::ESPIPE);
    }
    let mut pos = file.position();
    let base = match whence {
        c::SEEK_SET => 0,
        c::SEEK_CUR => *pos as i64,
        c::SEEK_END => file.ops().size() as i64,
        _ => {
            let from = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
            *pos = file.ops().seek_data(from, whence == c::SEEK_HOLE)?;
            return Ok(*pos);
        }
    };
    let new = base.checked_add(offset).ok_or(Errno::EOVERFLOW)?;
    *pos = u64::try_from(new).map_err(|_| Errno::EINVAL)?;
    Ok(*pos)
}

/// truncate(2).
pub fn truncate(task: &CurrentTask, args: &Args) -> Result<u64> {
    let size = offset_of(args.i64(1))?;
    let ctx = Ctx::of(task);
    let path = ctx.lookup(&read_path(task, args.u64(0))?)?;
    rw::check_size(task, size)?;
    attr::truncate(&ctx.cred, &path, size)?;
    Ok(0)
}

/// ftruncate(2).
pub fn ftruncate(task: &CurrentTask, args: &Args) -> Result<u64> {
    let size = offset_of(args.i64(1))?;
    let file = task.files().get(args.i32(0))?;
    if !file.can_write() || file.path.dentry.kind() != c::S_IFREG {
        return Err(Errno::EINVAL);
    }
    rw::check_size(task, size)?;
    attr::drop_privileges(&task.cred(), &file)?;
    file.ops().truncate(&file, size)?;
    notify::dentry_event(&file.path.dentry, c::IN_MODIFY);
    Ok(0)
}

/// fallocate(2).
pub fn fallocate(task: &CurrentTask, args: &Args) -> Result<u64> {
    let file = task.files().get(args.i32(0))?;
    let (mode, offset, len) = (args.u32(1), args.i64(2), args.i64(3));
    if offset < 0 || len <= 0 {
        return Err(Errno::EINVAL);
    }
    if !file.can_write() {
        return Err(Errno::EBADF);
    }
    match file.path.dentry.kind() {
        c::S_IFIFO => return Err(Errno::ESPIPE),
        c::S_IFDIR => return Err(Errno::EISDIR),
        c::S_IFREG => {}
        _ => return Err(Errno::ENODEV),
    }
    let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
    if mode & c::FALLOC_FL_KEEP_SIZE == 0 {
        rw::check_size(task, end as u64)?;
    }
    file.ops().fallocate(&file, mode, offset as u64, len as u64)?;
    notify::dentry_event(&file.path.dentry, c::IN_MODIFY);
    Ok(0)
}

/// fsync(2) and fdatasync(2).
pub fn fsync(task: &CurrentTask, args: &Args) -> Result<u64> {
    let file = task.files().get(args.i32(0))?;
    file.ops().fsync(&file)?;
    Ok(0)
}

/// sync(2).
pub fn sync(_task: &CurrentTask, _args: &Args) -> Result<u64> {
    Ok(0)
}

/// syncfs(2).
pub fn syncfs(task: &CurrentTask, args: &Args) -> Result<u64> {
    task.files().get_any(args.i32(0))?;
    Ok(0)
}

/// sync_file_range(2).
pub fn sync_file_range(task: &CurrentTask, args: &Args) -> Result<u64> {
    let file = task.files().get(args.i32(0))?;
    if args.i64(1) < 0 || args.i64(2) < 0 || args.u32(3) & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    match file.path.dentry.kind() {
        c::S_IFREG | c::S_IFBLK | c::S_IFDIR | c::S_IFLNK => Ok(0),
        _ => Err(Errno::ESPIPE),
    }
}

/// posix_fadvise(2).
pub fn fadvise64(task: &CurrentTask, args: &Args) -> Result<u64> {
    let file = task.files().get(args.i32(0))?;
    if file.path.dentry.kind() == c::S_IFIFO {
        return Err(Errno::ESPIPE);
    }
    if args.i64(2) < 0 || args.u32(3) > c::POSIX_FADV_NOREUSE {
        return Err(Errno::EINVAL);
    }
    Ok(0)
}

/// A sink that counts: reading into it fills the page cache.
struct Discard(usize);

impl crate::mm::io::Sink for Discard {
    fn remaining(&self) -> usize {
        self.0
    }
    fn put(&mut self, data: &[u8]) -> Result<usize> {
        let n = data.len().min(self.0);
        self.0 -= n;
        Ok(n)
    }
    fn put_frame(
        &mut self,
        _frame: &crate::mm::frames::FrameRef,
        _offset: usize,
        len: usize,
    ) -> Result<usize> {
        let n = len.min(self.0);
        self.0 -= n;
        Ok(n)
    }
}

/// readahead(2).
pub fn readahead(task: &CurrentTask, args: &Args) -> Result<u64> {
    let file: alloc::sync::Arc<OpenFile> = task.files().get(args.i32(0))?;
    if !file.can_read() {
        return Err(Errno::EBADF);
    }
    if file.path.dentry.kind() != c::S_IFREG {
        return Err(Errno::EINVAL);
    }
    let at = offset_of(args.i64(1))?.min(MAX_OFFSET);
    file.ops().read(&file, &mut Discard(length(args.u64(2)).min(4 << 20)), at)?;
    Ok(0)
}
