//! epoll_create(2), epoll_ctl(2), epoll_wait(2).

use super::Args;
use super::poll::{deadline_ms, deadline_timespec, with_mask};
use crate::errno::{Errno, Result};
use crate::fs::epoll::{self, Epoll};
use crate::kernel::task::CurrentTask;
use crate::vfs::uapi::EpollEvent;
use alloc::sync::Arc;
use linux_raw_sys::general as c;
use zerocopy::IntoBytes;

/// Most events that a program may ask for: what they take is an int.
const MAX_EVENTS: usize = i32::MAX as usize / size_of::<EpollEvent>();

/// epoll_create1(2).
pub fn epoll_create1(task: &CurrentTask, args: &Args) -> Result<u64> {
    let flags = args.u32(0);
    if flags & !c::EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let file = epoll::new(0);
    Ok(task.files().install(file, flags & c::EPOLL_CLOEXEC != 0, task.rlimit(c::RLIMIT_NOFILE).0)? as u64)
}

/// epoll_create(2).
pub fn epoll_create(task: &CurrentTask, args: &Args) -> Result<u64> {
    if args.i32(0) <= 0 {
        return Err(Errno::EINVAL);
    }
    epoll_create1(task, &Args::default())
}

/// epoll_ctl(2).
pub fn epoll_ctl(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (op, fd) = (args.u32(1), args.i32(2));
    let event: EpollEvent =
        if op == c::EPOLL_CTL_DEL { EpollEvent::default() } else { task.read_obj(args.u64(3))? };
    let files = task.files();
    let epoll_file = files.get(args.i32(0))?;
    let file = files.get(fd)?;
    if !file.ops().can_epoll() {
        return Err(Errno::EPERM);
    }
    let epoll =
        epoll_file.downcast::<Epoll>().filter(|_| !Arc::ptr_eq(&epoll_file, &file)).ok_or(Errno::EINVAL)?;
    match op {
        c::EPOLL_CTL_ADD => epoll.add(fd, &file, &event)?,
        c::EPOLL_CTL_MOD => epoll.modify(fd, &file, &event)?,
        c::EPOLL_CTL_DEL => epoll.delete(fd, &file)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn do_wait(task: &CurrentTask, args: &Args, deadline: Option<u64>) -> Result<u64> {
    let max =
        usize::try_from(args.i32(2)).ok().filter(|m| (1..=MAX_EVENTS).contains(m)).ok_or(Errno::EINVAL)?;
    let file = task.files().get(args.i32(0))?;
    let epoll = file.downcast::<Epoll>().ok_or(Errno::EINVAL)?;
    let events = epoll.wait(max, deadline)?;
    task.write_bytes(args.u64(1), events.as_slice().as_bytes())?;
    Ok(events.len() as u64)
}

/// epoll_wait(2).
pub fn epoll_wait(task: &CurrentTask, args: &Args) -> Result<u64> {
    do_wait(task, args, deadline_ms(args.i32(3)))
}

/// epoll_pwait(2).
pub fn epoll_pwait(task: &CurrentTask, args: &Args) -> Result<u64> {
    let deadline = deadline_ms(args.i32(3));
    with_mask(task, args.u64(4), args.u64(5), || do_wait(task, args, deadline))
}

/// epoll_pwait2(2).
pub fn epoll_pwait2(task: &CurrentTask, args: &Args) -> Result<u64> {
    let deadline = deadline_timespec(task, args.u64(3))?;
    with_mask(task, args.u64(4), args.u64(5), || do_wait(task, args, deadline))
}
