//! signalfd(2), signalfd4(2).

use super::Args;
use crate::errno::{Errno, Result};
use crate::fs::signalfd::{self as fs, SignalFd};
use crate::kernel::task::CurrentTask;
use crate::vfs::hooks;
use linux_raw_sys::general as c;

/// signalfd4(2).
pub fn signalfd4(task: &CurrentTask, args: &Args) -> Result<u64> {
    let flags = args.u32(3);
    // SFD_CLOEXEC and SFD_NONBLOCK have the values of O_*.
    if flags & !(c::O_CLOEXEC | c::O_NONBLOCK) != 0 || args.u64(2) != 8 {
        return Err(Errno::EINVAL);
    }
    let mask: u64 = task.read_obj(args.u64(1))?;
    if args.i32(0) != -1 {
        let file = task.files().get(args.i32(0))?;
        file.downcast::<SignalFd>().ok_or(Errno::EINVAL)?.set_mask(mask);
        return Ok(args.u64(0));
    }
    let source = hooks::kernel().signals().ok_or(Errno::ENOSYS)?;
    let file = fs::new(mask, source, flags & c::O_NONBLOCK);
    Ok(task.files().install(file, flags & c::O_CLOEXEC != 0, task.rlimit(c::RLIMIT_NOFILE).0)? as u64)
}

/// signalfd(2).
pub fn signalfd(task: &CurrentTask, args: &Args) -> Result<u64> {
    signalfd4(task, &Args([args.u64(0), args.u64(1), args.u64(2), 0, 0, 0]))
}
