//! POSIX message queues: mq_open(2), mq_unlink(2), mq_timedsend(2), mq_timedreceive(2), mq_notify(2),
//! mq_getsetattr(2).

use super::{Args, time};
use crate::errno::{Errno, Result};
use crate::fs::mqueue::{self, COOKIE, Message, Method, PRIORITIES, QueueFile, Registration, Shape};
use crate::kernel::task::CurrentTask;
use crate::net::netlink::NetlinkSocket;
use crate::vfs::{Ctx, OpenFile};
use alloc::sync::Arc;
use linux_raw_sys::general as c;

/// Longest name, with its NUL.
const PATH_MAX: usize = 4096;

fn context(task: &CurrentTask) -> Ctx {
    Ctx::new(task.cred(), task.fs())
}

fn queue_of(task: &CurrentTask, fd: i32) -> Result<Arc<OpenFile>> {
    let file = task.files().get(fd)?;
    if file.downcast::<QueueFile>().is_some() { Ok(file) } else { Err(Errno::EBADF) }
}

fn ops(file: &OpenFile) -> Result<&QueueFile> {
    file.downcast::<QueueFile>().ok_or(Errno::EBADF)
}

/// A time of CLOCK_REALTIME as a deadline.
fn deadline(task: &CurrentTask, at: u64) -> Result<Option<u64>> {
    if at == 0 {
        return Ok(None);
    }
    Ok(Some(time::monotonic_of_realtime(time::read_timespec(task, at)?)))
}

/// mq_open(2)
pub fn mq_open(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (flags, mode) = (args.u32(1), args.u32(2));
    let shape = if flags & c::O_CREAT != 0 && args.u64(3) != 0 {
        let attr: [i64; 8] = task.read_obj(args.u64(3))?;
        // What is negative is far too much.
        Some(Shape { messages: attr[1] as u64, size: attr[2] as u64 })
    } else {
        None
    };
    let name = task.read_cstr(args.u64(0), PATH_MAX)?;
    let file = mqueue::open(&context(task), &name, flags, mode, shape)?;
    // As on Linux, always closed by exec.
    Ok(task.files().install(file, true, task.rlimit(c::RLIMIT_NOFILE).0)? as u64)
}

/// mq_unlink(2)
pub fn mq_unlink(task: &CurrentTask, args: &Args) -> Result<u64> {
    let name = task.read_cstr(args.u64(0), PATH_MAX)?;
    mqueue::unlink(&context(task), &name).map(|()| 0)
}

/// mq_timedsend(2)
pub fn mq_timedsend(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (at, len, priority) = (args.u64(1), args.u64(2), args.u32(3));
    if priority >= PRIORITIES {
        return Err(Errno::EINVAL);
    }
    let deadline = deadline(task, args.u64(4))?;
    let file = queue_of(task, args.i32(0))?;
    let queue = &ops(&file)?.node.queue;
    if !file.can_write() {
        return Err(Errno::EBADF);
    }
    if len > queue.shape.size {
        return Err(Errno::EMSGSIZE);
    }
    let mut message = Message::new(len as usize)?;
    task.read_bytes(at, message.data_mut())?;
    queue.send(message, priority, !file.nonblock(), deadline)?;
    Ok(0)
}

/// mq_timedreceive(2)
pub fn mq_timedreceive(task: &CurrentTask, args: &Args) -> Result<u64> {
    let deadline = deadline(task, args.u64(4))?;
    let file = queue_of(task, args.i32(0))?;
    let queue = &ops(&file)?.node.queue;
    if !file.can_read() {
        return Err(Errno::EBADF);
    }
    if args.u64(2) < queue.shape.size {
        return Err(Errno::EMSGSIZE);
    }
    let (message, priority) = queue.receive(!file.nonblock(), deadline)?;
    if args.u64(3) != 0 {
        task.write_obj(args.u64(3), &priority)?;
    }
    task.write_bytes(args.u64(1), message.data())?;
    Ok(message.data().len() as u64)
}

/// mq_notify(2)
pub fn mq_notify(task: &CurrentTask, args: &Args) -> Result<u64> {
    if args.u64(1) == 0 {
        let file = queue_of(task, args.i32(0))?;
        ops(&file)?.node.queue.unregister(task.pid());
        return Ok(0);
    }
    let event: [u64; 8] = task.read_obj(args.u64(1))?;
    let (value, signal, kind) = (event[0], event[1] as u32, (event[1] >> 32) as u32);
    let method = match kind {
        c::SIGEV_NONE => Method::None,
        // Signal 0 is sent to nobody.
        c::SIGEV_SIGNAL if signal == 0 => Method::None,
        c::SIGEV_SIGNAL if signal <= 64 => Method::Signal(signal, value),
        c::SIGEV_THREAD => {
            // The value is a cookie, the signal a netlink socket that it is sent through.
            let cookie: [u8; COOKIE] = task.read_obj(value)?;
            let (_, socket) = super::socket::socket_of(task, signal as i32)?;
            if socket.as_any().downcast_ref::<NetlinkSocket>().is_none() {
                return Err(Errno::EINVAL);
            }
            Method::Socket(socket, cookie)
        }
        _ => return Err(Errno::EINVAL),
    };
    let file = queue_of(task, args.i32(0))?;
    ops(&file)?.node.queue.register(Registration { pid: task.pid(), method })?;
    Ok(0)
}

/// mq_getsetattr(2)
pub fn mq_getsetattr(task: &CurrentTask, args: &Args) -> Result<u64> {
    let new = match args.u64(1) {
        0 => None,
        at => Some(task.read_obj::<[i64; 8]>(at)?[0]),
    };
    let nonblock = i64::from(c::O_NONBLOCK);
    if new.is_some_and(|flags| flags & !nonblock != 0) {
        return Err(Errno::EINVAL);
    }
    let file = queue_of(task, args.i32(0))?;
    let queue = &ops(&file)?.node.queue;
    let old = [
        i64::from(file.flags()) & nonblock,
        queue.shape.messages as i64,
        queue.shape.size as i64,
        queue.count() as i64,
        0,
        0,
        0,
        0,
    ];
    if let Some(flags) = new {
        let on = if flags & nonblock != 0 { c::O_NONBLOCK } else { 0 };
        file.set_flags(file.flags() & !c::O_NONBLOCK | on)?;
    }
    if args.u64(2) != 0 {
        task.write_obj(args.u64(2), &old)?;
    }
    Ok(0)
}
