//! Reading and writing descriptions, read(2) and write(2).

use super::attr::drop_privileges;
use super::file::OpenFile;
use super::notify;
use crate::errno::{Errno, Result};
use crate::kernel::task::CurrentTask;
use crate::mm::io::{Sink, Source};
use linux_raw_sys::general as c;

/// Most bytes of one call.
pub const MAX_RW: usize = 0x7fff_f000;

/// Largest offset.
pub const MAX_OFFSET: u64 = i64::MAX as u64;

/// Reads at the description's position, which moves; or at a given offset.
///
/// # Errors
/// As read(2), pread(2).
pub fn read(file: &OpenFile, sink: &mut dyn Sink, offset: Option<u64>) -> Result<usize> {
    if !file.can_read() {
        return Err(Errno::EBADF);
    }
    let done = match offset {
        Some(at) => {
            if !file.ops().can_seek() {
                return Err(Errno::ESPIPE);
            }
            if at.checked_add(sink.remaining() as u64).is_none_or(|end| end > MAX_OFFSET) {
                return Err(Errno::EINVAL);
            }
            file.ops().read(file, sink, at)?
        }
        None if file.ops().can_seek() => {
            let mut pos = file.position();
            let done = file.ops().read(file, sink, *pos)?;
            *pos = pos.saturating_add(done as u64);
            done
        }
        None => file.ops().read(file, sink, 0)?,
    };
    if done != 0 {
        notify::dentry_event(&file.path.dentry, c::IN_ACCESS);
    }
    Ok(done)
}

/// A source that ends early, for RLIMIT_FSIZE.
struct Limited<'a> {
    inner: &'a mut dyn Source,
    left: usize,
}

impl Source for Limited<'_> {
    fn remaining(&self) -> usize {
        self.inner.remaining().min(self.left)
    }
    fn take(&mut self, buf: &mut [u8]) -> Result<usize> {
        let n = buf.len().min(self.left);
        let done = self.inner.take(buf.get_mut(..n).unwrap_or_default())?;
        self.left -= done.min(self.left);
        Ok(done)
    }
    fn take_to_frame(
        &mut self,
        frame: &crate::mm::frames::FrameRef,
        offset: usize,
        len: usize,
    ) -> Result<usize> {
        let done = self.inner.take_to_frame(frame, offset, len.min(self.left))?;
        self.left -= done.min(self.left);
        Ok(done)
    }
}

/// Writes at the description's position, which moves, or at a given offset; `append` at the end in any case.
///
/// # Errors
/// As write(2), pwrite(2).
pub fn write(
    task: &CurrentTask,
    file: &OpenFile,
    source: &mut dyn Source,
    offset: Option<u64>,
    append: bool,
) -> Result<usize> {
    if !file.can_write() {
        return Err(Errno::EBADF);
    }
    let seekable = file.ops().can_seek();
    if offset.is_some() && !seekable {
        return Err(Errno::ESPIPE);
    }
    let done = if !seekable {
        file.ops().write(file, source, 0)
    } else {
        if source.remaining() == 0 {
            return Ok(0);
        }
        drop_privileges(&task.cred(), file)?;
        let append = append || file.flags() & c::O_APPEND != 0;
        let mut pos = offset.is_none().then(|| file.position());
        let at = match (append, offset, &pos) {
            (true, ..) => file.ops().size(),
            (_, Some(at), _) => at,
            (_, _, Some(pos)) => **pos,
            _ => 0,
        };
        let allowed = room(task, at, source.remaining())?;
        let mut limited = Limited { left: allowed, inner: source };
        let done = if append {
            let (done, end) = file.ops().append(file, &mut limited)?;
            if let Some(pos) = &mut pos {
                **pos = end;
            }
            done
        } else {
            let done = file.ops().write(file, &mut limited, at)?;
            if let Some(pos) = &mut pos {
                **pos = at.saturating_add(done as u64);
            }
            done
        };
        Ok(done)
    };
    match done {
        Ok(0) => {}
        Ok(_) => notify::dentry_event(&file.path.dentry, c::IN_MODIFY),
        Err(Errno::EPIPE) if file.ops().signals_pipe() => task.send_signal(c::SIGPIPE),
        Err(_) => {}
    }
    done
}

/// How much of a write fits below the largest file size and RLIMIT_FSIZE.
fn room(task: &CurrentTask, at: u64, want: usize) -> Result<usize> {
    if at >= MAX_OFFSET {
        return Err(Errno::EFBIG);
    }
    let (limit, _) = task.rlimit(c::RLIMIT_FSIZE);
    if at >= limit {
        task.send_signal(c::SIGXFSZ);
        return Err(Errno::EFBIG);
    }
    let most = limit.min(MAX_OFFSET) - at;
    Ok(usize::try_from(most).map_or(want, |m| want.min(m)))
}

/// Checks a new length against RLIMIT_FSIZE.
///
/// # Errors
/// EFBIG, with SIGXFSZ.
pub fn check_size(task: &CurrentTask, size: u64) -> Result<()> {
    if size > task.rlimit(c::RLIMIT_FSIZE).0 {
        task.send_signal(c::SIGXFSZ);
        return Err(Errno::EFBIG);
    }
    Ok(())
}
