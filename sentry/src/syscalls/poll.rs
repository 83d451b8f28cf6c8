//! poll(2), ppoll(2), select(2), pselect6(2).

use super::Args;
use crate::errno::{Errno, Result};
use crate::kernel::task::CurrentTask;
use crate::kernel::wait::{self, WaitError};
use crate::sync::{Events, WaitQueue};
use crate::time;
use crate::vfs::uapi::{PollFd, Timespec, Timeval};
use crate::vfs::{OpenFile, hooks};
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as c;
use smallvec::SmallVec;
use zerocopy::IntoBytes;

/// The deadline of a timeout in milliseconds: negative for none, 0 to not wait.
pub fn deadline_ms(timeout: i32) -> Option<u64> {
    match u64::try_from(timeout) {
        Err(_) => None,
        Ok(0) => Some(0),
        Ok(ms) => Some(time::monotonic_ns().saturating_add(ms * 1_000_000)),
    }
}

fn deadline_ns(sec: i64, nsec: i64) -> Result<Option<u64>> {
    if sec < 0 || !(0..1_000_000_000).contains(&nsec) {
        return Err(Errno::EINVAL);
    }
    let ns = (sec as u64).saturating_mul(time::NS).saturating_add(nsec as u64);
    Ok(Some(if ns == 0 { 0 } else { time::monotonic_ns().saturating_add(ns) }))
}

/// The deadline of a struct timespec; none for a null pointer.
///
/// # Errors
/// EFAULT, EINVAL.
pub fn deadline_timespec(task: &CurrentTask, addr: u64) -> Result<Option<u64>> {
    if addr == 0 {
        return Ok(None);
    }
    let t: Timespec = task.read_obj(addr)?;
    deadline_ns(t.sec, t.nsec)
}

/// Does a call with another signal mask.
///
/// # Errors
/// EINVAL for a mask of another size, EFAULT; what the call says.
pub fn with_mask<T>(task: &CurrentTask, addr: u64, size: u64, call: impl FnOnce() -> Result<T>) -> Result<T> {
    if addr != 0 {
        if size != 8 {
            return Err(Errno::EINVAL);
        }
        let mask: u64 = task.read_obj(addr)?;
        hooks::kernel().temporary_mask(mask);
    }
    call()
}

/// A watched description, and what is wished for.
struct Watched {
    file: Option<Arc<OpenFile>>,
    events: u32,
    found: u32,
}

/// Looks at all descriptions; returns how many have something.
fn scan(list: &mut [Watched]) -> usize {
    let mut count = 0;
    for w in list.iter_mut() {
        let now = w.file.as_ref().map_or(0, |f| f.poll().bits());
        w.found = now & (w.events | c::POLLERR | c::POLLHUP);
        count += usize::from(w.found != 0);
    }
    count
}

fn wait_for(list: &mut [Watched], already: usize, deadline: Option<u64>) -> Result<usize> {
    let ready = scan(list);
    if ready + already > 0 || deadline == Some(0) {
        return Ok(ready);
    }
    let mut files: Vec<(Arc<OpenFile>, Events)> = Vec::new();
    files.try_reserve_exact(list.len()).map_err(|_| Errno::ENOMEM)?;
    files.extend(list.iter().filter_map(|w| Some((w.file.clone()?, Events::from_bits_truncate(w.events)))));
    let mut queues: SmallVec<[(&WaitQueue, Events); 8]> = SmallVec::new();
    queues.try_reserve(files.len()).map_err(|_| Errno::ENOMEM)?;
    for (file, events) in &files {
        let more = file.queues();
        queues.try_reserve(more.len()).map_err(|_| Errno::ENOMEM)?;
        queues.extend(more.into_iter().map(|queue| (queue, *events)));
    }
    let result = wait::wait_until(&queues, deadline, || match scan(list) {
        0 => None,
        n => Some(n),
    });
    match result {
        Ok(n) => Ok(n),
        Err(WaitError::TimedOut) => Ok(0),
        Err(WaitError::Interrupted) => Err(Errno::RESTART_NO_HAND),
    }
}

fn do_poll(task: &CurrentTask, addr: u64, count: u32, deadline: Option<u64>) -> Result<u64> {
    if u64::from(count) > task.rlimit(c::RLIMIT_NOFILE).0 {
        return Err(Errno::EINVAL);
    }
    let count = count as usize;
    let (mut fds, mut list): (Vec<PollFd>, Vec<Watched>) = (Vec::new(), Vec::new());
    fds.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    list.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    fds.resize(count, PollFd::default());
    task.read_bytes(addr, fds.as_mut_slice().as_mut_bytes())?;
    let files = task.files();
    let mut bad = 0;
    for fd in &mut fds {
        fd.revents = 0;
        let file = if fd.fd < 0 { None } else { files.get(fd.fd).ok() };
        if fd.fd >= 0 && file.is_none() {
            fd.revents = c::POLLNVAL as u16;
            bad += 1;
        }
        list.push(Watched { file, events: fd.events.into(), found: 0 });
    }
    let ready = wait_for(&mut list, bad, deadline)?;
    for (fd, w) in fds.iter_mut().zip(&list) {
        fd.revents |= w.found as u16;
    }
    task.write_bytes(addr, fds.as_slice().as_bytes())?;
    Ok((ready + bad) as u64)
}

/// poll(2).
pub fn poll(task: &CurrentTask, args: &Args) -> Result<u64> {
    let deadline = deadline_ms(args.i32(2));
    // Without a deadline it can simply be done again; with one, EINTR is what programs expect.
    match do_poll(task, args.u64(0), args.u32(1), deadline) {
        Err(Errno::RESTART_NO_HAND) if deadline.is_some() => Err(Errno::EINTR),
        other => other,
    }
}

/// Writes the time left back, as Linux does.
fn write_left(task: &CurrentTask, addr: u64, deadline: Option<u64>, micro: bool) {
    if let (Some(deadline), true) = (deadline, addr != 0) {
        let left = deadline.saturating_sub(time::monotonic_ns());
        let (sec, nsec) = ((left / time::NS) as i64, (left % time::NS) as i64);
        // A timeout in memory that can not be written is not an error.
        let _ = if micro {
            task.write_obj(addr, &Timeval { sec, usec: nsec / 1000 })
        } else {
            task.write_obj(addr, &Timespec { sec, nsec })
        };
    }
}

/// ppoll(2).
pub fn ppoll(task: &CurrentTask, args: &Args) -> Result<u64> {
    let deadline = deadline_timespec(task, args.u64(2))?;
    let result =
        with_mask(task, args.u64(3), args.u64(4), || do_poll(task, args.u64(0), args.u32(1), deadline));
    write_left(task, args.u64(2), deadline, false);
    result
}

const SELECT_IN: u32 = c::POLLIN | c::POLLRDNORM | c::POLLRDBAND | c::POLLHUP | c::POLLERR;
const SELECT_OUT: u32 = c::POLLOUT | c::POLLWRNORM | c::POLLWRBAND | c::POLLERR;
const SELECT_EX: u32 = c::POLLPRI;

fn do_select(task: &CurrentTask, args: &Args, deadline: Option<u64>) -> Result<u64> {
    let count = usize::try_from(args.i32(0)).map_err(|_| Errno::EINVAL)?;
    let files = task.files();
    let count = count.min(files.capacity());
    let bytes = count.div_ceil(64) * 8;
    let mut sets = [alloc::vec![0u8; bytes], alloc::vec![0u8; bytes], alloc::vec![0u8; bytes]];
    for (n, set) in sets.iter_mut().enumerate() {
        if args.u64(n + 1) != 0 {
            task.read_bytes(args.u64(n + 1), set)?;
        }
    }
    let has = |set: &[u8], fd: usize| set.get(fd / 8).is_some_and(|b| b & (1 << (fd % 8)) != 0);
    let masks = [SELECT_IN, SELECT_OUT, SELECT_EX];
    let mut list: Vec<Watched> = Vec::new();
    let mut fds: Vec<usize> = Vec::new();
    for fd in 0..count {
        let mut events = 0;
        for (set, mask) in sets.iter().zip(masks) {
            if has(set, fd) {
                events |= mask;
            }
        }
        if events != 0 {
            list.push(Watched { file: Some(files.get(fd as i32)?), events, found: 0 });
            fds.push(fd);
        }
    }
    wait_for(&mut list, 0, deadline)?;
    let mut total = 0;
    for (n, mask) in masks.into_iter().enumerate() {
        let Some(set) = sets.get_mut(n) else { continue };
        let mut out = alloc::vec![0u8; bytes];
        for (fd, w) in fds.iter().zip(&list) {
            if has(set, *fd) && w.found & mask != 0 {
                if let Some(byte) = out.get_mut(fd / 8) {
                    *byte |= 1 << (fd % 8);
                }
                total += 1;
            }
        }
        *set = out;
    }
    for (n, set) in sets.iter().enumerate() {
        if args.u64(n + 1) != 0 {
            task.write_bytes(args.u64(n + 1), set)?;
        }
    }
    Ok(total)
}

/// select(2).
pub fn select(task: &CurrentTask, args: &Args) -> Result<u64> {
    let addr = args.u64(4);
    let deadline = if addr == 0 {
        None
    } else {
        let t: Timeval = task.read_obj(addr)?;
        if t.sec < 0 || t.usec < 0 {
            return Err(Errno::EINVAL);
        }
        deadline_ns(t.sec.saturating_add(t.usec / 1_000_000), t.usec % 1_000_000 * 1000)?
    };
    let result = do_select(task, args, deadline);
    write_left(task, addr, deadline, true);
    result
}

/// pselect6(2).
pub fn pselect6(task: &CurrentTask, args: &Args) -> Result<u64> {
    let deadline = deadline_timespec(task, args.u64(4))?;
    let (mask, size) = if args.u64(5) == 0 {
        (0, 0)
    } else {
        let raw: [u64; 2] = task.read_obj(args.u64(5))?;
        (raw[0], raw[1])
    };
    let result = with_mask(task, mask, size, || do_select(task, args, deadline));
    write_left(task, args.u64(4), deadline, false);
    result
}
