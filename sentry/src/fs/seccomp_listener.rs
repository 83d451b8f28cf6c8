//! Listeners of filters of system calls: seccomp_unotify(2).

use crate::errno::{Errno, Result};
use crate::kernel::seccomp::notify::{ANSWER_FLAGS, Answer, Listener};
use crate::kernel::task::CurrentTask;
use crate::sync::Events;
use crate::vfs::anon;
use crate::vfs::file::{FileOps, OpenFile, Queues};
use crate::vfs::inode::Attr;
use alloc::sync::Arc;
use core::any::Any;
use linux_raw_sys::general as c;
use linux_raw_sys::ptrace as p;

/// Requests (linux/seccomp.h); the wrong one of two directions is what the header had at first.
const RECV: u32 = 0xc050_2100;
const SEND: u32 = 0xc018_2101;
const ID_VALID: u32 = 0x4008_2102;
const ID_VALID_WRONG: u32 = 0x8008_2102;
/// Without its size, which may grow.
const ADDFD: u32 = 0x4000_2103;
const SIZE_MASK: u32 = 0x3fff_0000;
/// Words of struct seccomp_notif, seccomp_notif_resp and seccomp_notif_addfd.
type Notif = [u64; 10];
type Resp = [u64; 3];
type AddFd = [u64; 3];
/// Bytes of the last one, and of the largest that is read.
const ADDFD_SIZE: usize = 24;
const MAX_SIZE: usize = 4096;

struct File(Arc<Listener>);

/// A description for a listener, whose end is that of the listener.
pub fn new(listener: Arc<Listener>) -> Arc<OpenFile> {
    let attr = Attr { mode: 0o600, uid: 0, gid: 0 };
    let path = anon::path(anon::new_ino(), attr, b"anon_inode:seccomp notify", None, None);
    OpenFile::new(path, Arc::new(File(listener)), c::O_RDWR)
}

impl Drop for File {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn receive(listener: &Listener, task: &CurrentTask, at: u64) -> Result<u64> {
    let there: Notif = task.read_obj(at)?;
    if there != Notif::default() {
        return Err(Errno::EINVAL);
    }
    let received = listener.receive()?;
    let data = &received.data;
    let [a, b, d, e, f, g] = data.args;
    let call = u64::from(data.nr as u32) | u64::from(data.arch) << 32;
    let notif: Notif = [received.id, received.tid.into(), call, data.instruction_pointer, a, b, d, e, f, g];
    task.write_obj(at, &notif).inspect_err(|_| listener.put_back(received.id))?;
    Ok(0)
}

fn send(listener: &Listener, task: &CurrentTask, at: u64) -> Result<u64> {
    let [id, value, rest]: Resp = task.read_obj(at)?;
    let (error, flags) = (rest as u32 as i32, (rest >> 32) as u32);
    if flags & !ANSWER_FLAGS != 0 || (flags != 0 && (error != 0 || value != 0)) {
        return Err(Errno::EINVAL);
    }
    let answer = match (flags, error) {
        (0, 0) => Answer::Result(value),
        (0, error) => Answer::Result(i64::from(error) as u64),
        _ => Answer::Continue,
    };
    listener.answer(id, answer).map(|()| 0)
}

fn add_file(listener: &Listener, task: &CurrentTask, at: u64, size: usize) -> Result<u64> {
    if !(ADDFD_SIZE..MAX_SIZE).contains(&size) {
        return Err(Errno::EINVAL);
    }
    let [id, flags_and_source, new]: AddFd = task.read_obj(at)?;
    let mut rest = alloc::vec![0; size - ADDFD_SIZE];
    task.read_bytes(at + ADDFD_SIZE as u64, &mut rest)?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    let (flags, source) = (flags_and_source as u32, (flags_and_source >> 32) as i32);
    let (target, target_flags) = (new as u32 as i32, (new >> 32) as u32);
    let (set, answers) = (flags & p::SECCOMP_ADDFD_FLAG_SETFD != 0, flags & p::SECCOMP_ADDFD_FLAG_SEND != 0);
    if target_flags & !c::O_CLOEXEC != 0
        || flags & !(p::SECCOMP_ADDFD_FLAG_SETFD | p::SECCOMP_ADDFD_FLAG_SEND) != 0
        || (target != 0 && !set)
    {
        return Err(Errno::EINVAL);
    }
    let file = task.files().get(source)?;
    let fd = listener.add_file(id, file, set.then_some(target), target_flags != 0, answers)?;
    Ok(fd as u64)
}

impl FileOps for File {
    fn poll(&self, _: &OpenFile) -> Events {
        self.0.readiness()
    }

    fn queues<'a>(&'a self, _: &OpenFile, queues: &mut Queues<'a>) {
        queues.push(&self.0.queue);
    }

    fn ioctl(&self, task: &CurrentTask, _: &OpenFile, request: u32, arg: u64) -> Result<u64> {
        match request {
            RECV => receive(&self.0, task, arg),
            SEND => send(&self.0, task, arg),
            ID_VALID | ID_VALID_WRONG => {
                let id: u64 = task.read_obj(arg)?;
                if self.0.is_valid(id) { Ok(0) } else { Err(Errno::ENOENT) }
            }
            _ if request & !SIZE_MASK == ADDFD => {
                add_file(&self.0, task, arg, (request >> 16 & 0x3fff) as usize)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
