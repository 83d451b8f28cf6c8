//! Asynchronous input and output: io_setup(2), io_submit(2), io_getevents(2). An operation is served while it is
//! submitted, as Linux serves those on files that are in its cache.

use super::Args;
use super::path::read_iovecs;
use super::poll::{deadline_timespec, with_mask};
use crate::errno::{Errno, Result};
use crate::fs::eventfd::EventFd;
use crate::kernel::aio::{Context, MAX_NR};
use crate::kernel::task::CurrentTask;
use crate::kernel::wait::{self, WaitError};
use crate::mm::map::{Content, Placement};
use crate::mm::vma::{Prot, VmFlags};
use crate::sync::Events;
use crate::vfs::rw::{self, MAX_RW};
use abi::PAGE_SIZE;
use alloc::sync::Arc;
use linux_raw_sys::general as c;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

// linux/aio_abi.h is not in linux-raw-sys.
const IOCB_CMD_PREAD: u16 = 0;
const IOCB_CMD_PWRITE: u16 = 1;
const IOCB_CMD_FSYNC: u16 = 2;
const IOCB_CMD_FDSYNC: u16 = 3;
const IOCB_CMD_PREADV: u16 = 7;
const IOCB_CMD_PWRITEV: u16 = 8;
const IOCB_FLAG_RESFD: u32 = 1;
/// More results than any context may hold.
const IMPOSSIBLE: usize = 0x1000_0000 / 32;
/// Where an iocb has its key; the kernel writes 0 there.
const KEY_AT: u64 = 8;
/// RWF_* flags of an operation that are known.
const RWF_KNOWN: u32 = c::RWF_HIPRI | c::RWF_DSYNC | c::RWF_SYNC | c::RWF_NOWAIT | c::RWF_APPEND;

/// struct iocb.
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    fd: i32,
    buf: u64,
    nbytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    resfd: i32,
}

const _: () = assert!(size_of::<Iocb>() == 64);

/// io_setup(2).
pub fn io_setup(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (max, at) = (args.u32(0) as usize, args.u64(1));
    let old: u64 = task.read_obj(at)?;
    if old != 0 || max == 0 || max > IMPOSSIBLE {
        return Err(Errno::EINVAL);
    }
    if max > MAX_NR {
        return Err(Errno::EAGAIN);
    }
    let context = Context::new(max)?;
    // Libraries look for a ring of results at the address that is the id: they find none there, and call the kernel.
    let mm = task.mm();
    let prot = Prot::READ | Prot::WRITE;
    let limits = task.map_limits();
    let id = mm.mmap(Placement::Hint(0), PAGE_SIZE, prot, VmFlags::empty(), Content::Anon, &limits)?;
    if let Err(e) = task.write_obj(at, &id) {
        let _ = mm.munmap(id, PAGE_SIZE);
        return Err(e);
    }
    mm.aio.insert(id, context);
    Ok(0)
}

/// io_destroy(2).
pub fn io_destroy(task: &CurrentTask, args: &Args) -> Result<u64> {
    let mm = task.mm();
    mm.aio.remove(args.u64(0))?;
    // The program may have unmapped it.
    let _ = mm.munmap(args.u64(0), PAGE_SIZE);
    Ok(0)
}

/// Serves an operation. The outer error: it is not accepted; the inner one is its result.
fn serve(task: &CurrentTask, iocb: &Iocb) -> Result<Result<usize>> {
    if iocb.reserved != 0 || iocb.nbytes > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let file = task.files().get(iocb.fd)?;
    let writes = matches!(iocb.opcode, IOCB_CMD_PWRITE | IOCB_CMD_PWRITEV);
    match iocb.opcode {
        IOCB_CMD_PREAD | IOCB_CMD_PWRITE | IOCB_CMD_PREADV | IOCB_CMD_PWRITEV => {
            if iocb.rw_flags & !RWF_KNOWN != 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            let allowed = if writes { file.can_write() } else { file.can_read() };
            if !allowed {
                return Err(Errno::EBADF);
            }
            let vectored = matches!(iocb.opcode, IOCB_CMD_PREADV | IOCB_CMD_PWRITEV);
            let iov = if vectored {
                read_iovecs(task, iocb.buf, iocb.nbytes)?
            } else {
                let len = usize::try_from(iocb.nbytes).unwrap_or(usize::MAX).min(MAX_RW);
                smallvec::smallvec![(iocb.buf, len)]
            };
            let offset = if file.ops().can_seek() {
                Some(u64::try_from(iocb.offset).map_err(|_| Errno::EINVAL)?)
            } else {
                None
            };
            Ok(if writes {
                let append = iocb.rw_flags & c::RWF_APPEND != 0;
                rw::write(task, &file, &mut *task.source(&iov), offset, append)
            } else {
                rw::read(&file, &mut *task.sink(&iov), offset)
            })
        }
        IOCB_CMD_FSYNC | IOCB_CMD_FDSYNC => {
            if iocb.buf != 0 || iocb.offset != 0 || iocb.nbytes != 0 || iocb.rw_flags != 0 {
                return Err(Errno::EINVAL);
            }
            Ok(file.ops().fsync(&file).map(|()| 0))
        }
        _ => Err(Errno::EINVAL),
    }
}

fn submit(task: &CurrentTask, context: &Context, at: u64) -> Result<()> {
    let iocb: Iocb = task.read_obj(at)?;
    let counter = if iocb.flags & IOCB_FLAG_RESFD != 0 {
        let file = task.files().get(iocb.resfd)?;
        file.downcast::<EventFd>().ok_or(Errno::EINVAL)?;
        Some(file)
    } else {
        None
    };
    if !context.has_room() {
        return Err(Errno::EAGAIN);
    }
    task.write_obj(at.wrapping_add(KEY_AT), &0u32)?;
    let result = match serve(task, &iocb)? {
        Ok(done) => done as u64,
        // A call that a signal has interrupted cannot begin again here.
        Err(e) if e.0 >= Errno::RESTART_SYS.0 => Errno::EINTR.as_ret(),
        Err(e) => e.as_ret(),
    };
    context.complete([iocb.data, at, result, 0]);
    if let Some(counter) = counter.as_ref().and_then(|file| file.downcast::<EventFd>()) {
        counter.signal();
    }
    Ok(())
}

/// io_submit(2).
pub fn io_submit(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (count, list) = (args.i64(1), args.u64(2));
    let count = u64::try_from(count).map_err(|_| Errno::EINVAL)?;
    let context = task.mm_ref().aio.get(args.u64(0))?;
    for done in 0..count {
        let one = || {
            let at: u64 = task.read_obj(list.checked_add(done.saturating_mul(8)).ok_or(Errno::EFAULT)?)?;
            submit(task, &context, at)
        };
        match one() {
            Ok(()) => {}
            Err(e) if done == 0 => return Err(e),
            Err(_) => return Ok(done),
        }
    }
    Ok(count)
}

/// io_cancel(2): every operation is done when it is submitted, there is none to be cancelled.
pub fn io_cancel(task: &CurrentTask, args: &Args) -> Result<u64> {
    let key: u32 = task.read_obj(args.u64(1).wrapping_add(KEY_AT))?;
    if key != 0 {
        return Err(Errno::EINVAL);
    }
    task.mm_ref().aio.get(args.u64(0))?;
    Err(Errno::EINVAL)
}

fn get_events(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (least, most, out) = (args.i64(1), args.i64(2), args.u64(3));
    let deadline = deadline_timespec(task, args.u64(4))?;
    let context: Arc<Context> = task.mm_ref().aio.get(args.u64(0))?;
    if least < 0 || most < least {
        return Err(Errno::EINVAL);
    }
    let mut done = 0u64;
    loop {
        while done < most as u64 {
            let Some(event) = context.take() else { break };
            let at = out.wrapping_add(done * size_of_val(&event) as u64);
            if let Err(e) = task.write_obj(at, &event) {
                context.put_back(event);
                return if done == 0 { Err(e) } else { Ok(done) };
            }
            done += 1;
        }
        if done >= least as u64 {
            return Ok(done);
        }
        let gone = || task.mm_ref().aio.get(args.u64(0)).is_err();
        let ready = || (context.ready() != 0 || gone()).then_some(());
        match wait::wait_until(&[(context.queue(), Events::IN)], deadline, ready) {
            Ok(()) if gone() => return if done == 0 { Err(Errno::EINVAL) } else { Ok(done) },
            Ok(()) => {}
            Err(WaitError::TimedOut) => return Ok(done),
            Err(WaitError::Interrupted) if done == 0 => return Err(Errno::EINTR),
            Err(WaitError::Interrupted) => return Ok(done),
        }
    }
}

/// io_getevents(2).
pub fn io_getevents(task: &CurrentTask, args: &Args) -> Result<u64> {
    get_events(task, args)
}

/// io_pgetevents(2).
pub fn io_pgetevents(task: &CurrentTask, args: &Args) -> Result<u64> {
    let [mask, size]: [u64; 2] = match args.u64(5) {
        0 => [0, 0],
        at => task.read_obj(at)?,
    };
    with_mask(task, mask, size, || get_events(task, args))
}
