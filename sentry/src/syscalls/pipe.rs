//! pipe(2), splice(2), tee(2), vmsplice(2), sendfile(2), copy_file_range(2).

use super::Args;
use super::path::read_iovecs;
use crate::errno::{Errno, Result};
use crate::fs::pipe::{self, PipeEnd};
use crate::kernel::task::CurrentTask;
use crate::mm::io::{SliceSink, SliceSource};
use crate::vfs::OpenFile;
use crate::vfs::rw::{self, MAX_OFFSET, MAX_RW};
use alloc::sync::Arc;
use linux_raw_sys::general as c;

/// Bytes moved at once between two files.
const CHUNK: usize = 64 << 10;

fn do_pipe(task: &CurrentTask, addr: u64, flags: u32) -> Result<u64> {
    // O_NOTIFICATION_PIPE (O_EXCL) is refused, as where it is not configured.
    if flags & !(c::O_CLOEXEC | c::O_NONBLOCK | c::O_DIRECT) != 0 {
        return Err(Errno::EINVAL);
    }
    let cred = task.cred();
    let (read, write) = pipe::new(flags & (c::O_NONBLOCK | c::O_DIRECT), cred.fsuid, cred.fsgid);
    let (files, limit) = (task.files(), task.rlimit(c::RLIMIT_NOFILE).0);
    let cloexec = flags & c::O_CLOEXEC != 0;
    let first = files.install(read, cloexec, limit)?;
    let fds = match files.install(write, cloexec, limit) {
        Ok(second) => [first, second],
        Err(e) => {
            let _ = files.close(first);
            return Err(e);
        }
    };
    if let Err(e) = task.write_obj(addr, &fds) {
        for fd in fds {
            let _ = files.close(fd);
        }
        return Err(e);
    }
    Ok(0)
}

/// pipe(2).
pub fn pipe(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_pipe(task, args.u64(0), 0)
}

/// pipe2(2).
pub fn pipe2(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_pipe(task, args.u64(0), args.u32(1))
}

/// Where one side of a transfer is: its own position, or an offset of the program.
struct Side {
    file: Arc<OpenFile>,
    offset: Option<u64>,
    addr: u64,
}

impl Side {
    fn new(task: &CurrentTask, fd: i32, addr: u64) -> Result<Self> {
        let file = task.files().get(fd)?;
        let offset = if addr == 0 {
            None
        } else {
            let raw: i64 = task.read_obj(addr)?;
            Some(u64::try_from(raw).map_err(|_| Errno::EINVAL)?)
        };
        Ok(Self { file, offset, addr })
    }

    fn finish(&self, task: &CurrentTask) -> Result<()> {
        match self.offset {
            Some(offset) => task.write_obj(self.addr, &offset),
            None => Ok(()),
        }
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let n = rw::read(&self.file, &mut SliceSink::new(buf), self.offset)?;
        if let Some(offset) = &mut self.offset {
            *offset += n as u64;
        }
        Ok(n)
    }

    fn write(&mut self, task: &CurrentTask, data: &[u8]) -> Result<usize> {
        let n = rw::write(task, &self.file, &mut SliceSource::new(data), self.offset, false)?;
        if let Some(offset) = &mut self.offset {
            *offset += n as u64;
        }
        Ok(n)
    }

    /// Takes back what was read and not passed on.
    fn unread(&mut self, data: &[u8]) -> Result<()> {
        if let Some(end) = self.file.downcast::<PipeEnd>() {
            return end.pipe().unread(data);
        }
        match &mut self.offset {
            Some(offset) => *offset = offset.saturating_sub(data.len() as u64),
            None if self.file.ops().can_seek() => {
                let mut pos = self.file.position();
                *pos = pos.saturating_sub(data.len() as u64);
            }
            None => {}
        }
        Ok(())
    }
}

/// Moves up to `len` bytes; stops early once something was moved and the rest would wait.
fn transfer(task: &CurrentTask, from: &mut Side, to: &mut Side, len: usize, once: bool) -> Result<usize> {
    let mut buf = alloc::vec![0u8; len.clamp(1, CHUNK)];
    let mut done = 0;
    while done < len {
        let want = (len - done).min(buf.len());
        let Some(part) = buf.get_mut(..want) else { break };
        let got = match from.read(part) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        };
        let mut written = 0;
        while written < got {
            let Some(rest) = part.get(written..got) else { break };
            match to.write(task, rest) {
                Ok(0) => break,
                Ok(n) => written += n,
                Err(e) => {
                    from.unread(rest)?;
                    done += written;
                    return if done == 0 { Err(e) } else { Ok(done) };
                }
            }
        }
        done += written;
        if written < got {
            from.unread(part.get(written..got).unwrap_or_default())?;
            break;
        }
        if once {
            break;
        }
    }
    Ok(done)
}

/// sendfile(2).
pub fn sendfile(task: &CurrentTask, args: &Args) -> Result<u64> {
    let mut to = Side::new(task, args.i32(0), 0)?;
    let mut from = Side::new(task, args.i32(1), args.u64(2))?;
    if !from.file.can_read() || !to.file.can_write() {
        return Err(Errno::EBADF);
    }
    if to.file.flags() & c::O_APPEND != 0 {
        return Err(Errno::EINVAL);
    }
    if from.offset.is_some() && !from.file.ops().can_seek() {
        return Err(Errno::ESPIPE);
    }
    let len = usize::try_from(args.u64(3)).unwrap_or(MAX_RW).min(MAX_RW);
    let done = transfer(task, &mut from, &mut to, len, false)?;
    from.finish(task)?;
    Ok(done as u64)
}

/// copy_file_range(2).
pub fn copy_file_range(task: &CurrentTask, args: &Args) -> Result<u64> {
    if args.u32(5) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut from = Side::new(task, args.i32(0), args.u64(1))?;
    let mut to = Side::new(task, args.i32(2), args.u64(3))?;
    if !from.file.can_read() || !to.file.can_write() || to.file.flags() & c::O_APPEND != 0 {
        return Err(Errno::EBADF);
    }
    for side in [&from, &to] {
        match side.file.path.dentry.kind() {
            c::S_IFREG => {}
            c::S_IFDIR => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
    }
    let len = usize::try_from(args.u64(4)).unwrap_or(MAX_RW).min(MAX_RW);
    let at = |side: &Side| side.offset.unwrap_or_else(|| *side.file.position());
    let (in_at, out_at) = (at(&from), at(&to));
    if out_at.saturating_add(len as u64) > MAX_OFFSET || in_at.saturating_add(len as u64) > MAX_OFFSET {
        return Err(Errno::EOVERFLOW);
    }
    let same = crate::vfs::inode::same_inode(from.file.path.inode(), to.file.path.inode());
    if same && in_at < out_at + len as u64 && out_at < in_at + len as u64 {
        return Err(Errno::EINVAL);
    }
    let done = transfer(task, &mut from, &mut to, len, false)?;
    from.finish(task)?;
    to.finish(task)?;
    Ok(done as u64)
}

const SPLICE_FLAGS: u32 = c::SPLICE_F_MOVE | c::SPLICE_F_NONBLOCK | c::SPLICE_F_MORE | c::SPLICE_F_GIFT;

fn pipe_end(file: &OpenFile) -> Option<&PipeEnd> {
    file.downcast()
}

/// splice(2).
pub fn splice(task: &CurrentTask, args: &Args) -> Result<u64> {
    let flags = args.u32(5);
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let files = task.files();
    for (fd, addr) in [(args.i32(0), args.u64(1)), (args.i32(2), args.u64(3))] {
        if addr != 0 && pipe_end(&*files.get(fd)?).is_some() {
            return Err(Errno::ESPIPE);
        }
    }
    let mut from = Side::new(task, args.i32(0), args.u64(1))?;
    let mut to = Side::new(task, args.i32(2), args.u64(3))?;
    if !from.file.can_read() || !to.file.can_write() {
        return Err(Errno::EBADF);
    }
    let (source, target) = (pipe_end(&from.file), pipe_end(&to.file));
    if source.is_none() && target.is_none() {
        return Err(Errno::EINVAL);
    }
    if let (Some(a), Some(b)) = (source, target)
        && Arc::ptr_eq(a.pipe(), b.pipe())
    {
        return Err(Errno::EINVAL);
    }
    if to.file.flags() & c::O_APPEND != 0 {
        return Err(Errno::EINVAL);
    }
    for side in [&from, &to] {
        if side.offset.is_some() && !side.file.ops().can_seek() {
            return Err(Errno::EINVAL);
        }
    }
    if flags & c::SPLICE_F_NONBLOCK != 0 {
        let empty = source.is_some_and(|p| p.pipe().is_empty())
            && !from.file.poll().contains(crate::sync::Events::HUP);
        let full = target.is_some() && !to.file.poll().contains(crate::sync::Events::OUT);
        if empty || full {
            return Err(Errno::EAGAIN);
        }
    }
    let len = usize::try_from(args.u64(4)).unwrap_or(MAX_RW).min(MAX_RW);
    // What a full target pipe would make wait is not begun.
    let len = match target {
        Some(end) => len.min(end.pipe().size()),
        None => len,
    };
    let done = transfer(task, &mut from, &mut to, len, true)?;
    from.finish(task)?;
    to.finish(task)?;
    Ok(done as u64)
}

/// tee(2).
pub fn tee(task: &CurrentTask, args: &Args) -> Result<u64> {
    let flags = args.u32(3);
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let files = task.files();
    let (from, to) = (files.get(args.i32(0))?, files.get(args.i32(1))?);
    if !from.can_read() || !to.can_write() {
        return Err(Errno::EBADF);
    }
    let (Some(a), Some(b)) = (pipe_end(&from), pipe_end(&to)) else { return Err(Errno::EINVAL) };
    if Arc::ptr_eq(a.pipe(), b.pipe()) {
        return Err(Errno::EINVAL);
    }
    let nonblock = flags & c::SPLICE_F_NONBLOCK != 0 || from.nonblock() || to.nonblock();
    let len = usize::try_from(args.u64(2)).unwrap_or(MAX_RW).min(MAX_RW);
    if len == 0 {
        return Ok(0);
    }
    let done = a.pipe().tee(b.pipe(), len, nonblock);
    if done == Err(Errno::EPIPE) {
        task.send_signal(c::SIGPIPE);
    }
    Ok(done? as u64)
}

/// vmsplice(2): the pages are copied.
pub fn vmsplice(task: &CurrentTask, args: &Args) -> Result<u64> {
    let flags = args.u32(3);
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let file = task.files().get(args.i32(0))?;
    if pipe_end(&file).is_none() {
        return Err(Errno::EBADF);
    }
    let iov = read_iovecs(task, args.u64(1), args.u64(2))?;
    let done = if file.can_write() {
        if flags & c::SPLICE_F_NONBLOCK != 0 && !file.poll().contains(crate::sync::Events::OUT) {
            return Err(Errno::EAGAIN);
        }
        rw::write(task, &file, &mut *task.source(&iov), None, false)?
    } else {
        rw::read(&file, &mut *task.sink(&iov), None)?
    };
    Ok(done as u64)
}
