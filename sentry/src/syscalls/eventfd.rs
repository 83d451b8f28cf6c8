//! eventfd(2), eventfd2(2).

use super::Args;
use crate::errno::{Errno, Result};
use crate::fs::eventfd as fs;
use crate::kernel::task::CurrentTask;
use linux_raw_sys::general as c;

/// eventfd2(2).
pub fn eventfd2(task: &CurrentTask, args: &Args) -> Result<u64> {
    let flags = args.u32(1);
    if flags & !(c::EFD_SEMAPHORE | c::EFD_CLOEXEC | c::EFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = fs::new(args.u32(0), flags & c::EFD_SEMAPHORE != 0, flags & c::EFD_NONBLOCK);
    Ok(task.files().install(file, flags & c::EFD_CLOEXEC != 0, task.rlimit(c::RLIMIT_NOFILE).0)? as u64)
}

/// eventfd(2).
pub fn eventfd(task: &CurrentTask, args: &Args) -> Result<u64> {
    eventfd2(task, &Args([args.u64(0), 0, 0, 0, 0, 0]))
}
