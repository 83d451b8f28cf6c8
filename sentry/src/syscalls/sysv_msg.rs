//! System V message queues: msgget(2), msgsnd(2), msgrcv(2), msgctl(2).

use super::Args;
use crate::errno::{Errno, Result};
use crate::ipc::msg::{self, Message, QUEUES, Queue, Wanted};
use crate::ipc::{IPC_NOWAIT, READ, UserPerm, limits};
use crate::kernel::task::CurrentTask;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const MSG_NOERROR: u32 = 0o10_000;
const MSG_EXCEPT: u32 = 0o20_000;
const MSG_COPY: u32 = 0o40_000;

/// struct msqid64_ds.
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct MsqidDs {
    perm: UserPerm,
    stime: i64,
    rtime: i64,
    ctime: i64,
    bytes: u64,
    count: u64,
    limit: u64,
    lspid: i32,
    lrpid: i32,
    unused: [u64; 2],
}

/// msgget(2)
pub fn msgget(task: &CurrentTask, args: &Args) -> Result<u64> {
    msg::get(args.i32(0), args.u32(1), &task.cred()).map(|id| id as u64)
}

/// msgsnd(2)
pub fn msgsnd(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (id, at, size, flags) = (args.i32(0), args.u64(1), args.u64(2), args.u32(3));
    let kind: i64 = task.read_obj(at)?;
    if size > limits::get(&limits::MSGMAX) || id < 0 || kind < 1 {
        return Err(Errno::EINVAL);
    }
    let mut message = Message::new(kind, size as usize)?;
    task.read_bytes(at.wrapping_add(8), &mut message.data)?;
    QUEUES.find(id)?.send(message, task.pid(), &task.cred(), flags & IPC_NOWAIT == 0)?;
    Ok(0)
}

/// msgrcv(2)
pub fn msgrcv(task: &CurrentTask, args: &Args) -> Result<u64> {
    let (id, at, size, kind, flags) = (args.i32(0), args.u64(1), args.u64(2), args.i64(3), args.u32(4));
    if id < 0 || size > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    if flags & MSG_COPY != 0 && (flags & MSG_EXCEPT != 0 || flags & IPC_NOWAIT == 0) {
        return Err(Errno::EINVAL);
    }
    let wanted = match kind {
        n if flags & MSG_COPY != 0 => Wanted::CopyOf(n),
        0 => Wanted::Any,
        i64::MIN => Wanted::UpTo(i64::MAX),
        n if n < 0 => Wanted::UpTo(-n),
        n if flags & MSG_EXCEPT != 0 => Wanted::Other(n),
        n => Wanted::Kind(n),
    };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let cut = flags & MSG_NOERROR != 0;
    let wait = flags & IPC_NOWAIT == 0;
    let message = QUEUES.find(id)?.receive(wanted, size, cut, task.pid(), &task.cred(), wait)?;
    let text = &message.data[..message.data.len().min(size)];
    task.write_obj(at, &message.kind)?;
    task.write_bytes(at.wrapping_add(8), text)?;
    Ok(text.len() as u64)
}

fn stat(queue: &Queue) -> MsqidDs {
    let (perm, i) = queue.stat();
    MsqidDs {
        perm: perm.to_user(),
        stime: i.stime,
        rtime: i.rtime,
        ctime: i.ctime,
        bytes: i.bytes,
        count: i.count,
        limit: i.limit,
        lspid: i.lspid as i32,
        lrpid: i.lrpid as i32,
        unused: [0; 2],
    }
}

/// struct msginfo: MSG_INFO has numbers of queues, messages and bytes where IPC_INFO has constants.
fn info(used: bool) -> [i32; 8] {
    let limit = |l| limits::get(l).min(i32::MAX as u64) as i32;
    let (pool, map, total) = if used {
        let (messages, bytes) = msg::totals();
        (QUEUES.len() as i32, messages as i32, bytes as i32)
    } else {
        (512_000, 16_384, 16_384)
    };
    // The last is a 16-bit field and padding.
    let (max, bytes, queues) = (limit(&limits::MSGMAX), limit(&limits::MSGMNB), limit(&limits::MSGMNI));
    [pool, map, max, bytes, queues, 16, total, 0xffff]
}

/// msgctl(2)
pub fn msgctl(task: &CurrentTask, args: &Args) -> Result<u64> {
    const IPC_RMID: i32 = 0;
    const IPC_SET: i32 = 1;
    const IPC_STAT: i32 = 2;
    const IPC_INFO: i32 = 3;
    const MSG_STAT: i32 = 11;
    const MSG_INFO: i32 = 12;
    const MSG_STAT_ANY: i32 = 13;
    let (id, command, buf) = (args.i32(0), args.i32(1), args.u64(2));
    if id < 0 || command < 0 {
        return Err(Errno::EINVAL);
    }
    let cred = task.cred();
    match command {
        IPC_INFO | MSG_INFO => {
            task.write_obj(buf, &info(command == MSG_INFO))?;
            Ok(QUEUES.max_index())
        }
        IPC_STAT | MSG_STAT | MSG_STAT_ANY => {
            let (id, queue) = if command == IPC_STAT { (0, QUEUES.find(id)?) } else { QUEUES.at(id)? };
            if command != MSG_STAT_ANY {
                queue.stat().0.check(&cred, READ)?;
            }
            task.write_obj(buf, &stat(&queue))?;
            Ok(id as u64)
        }
        IPC_SET => {
            let new: MsqidDs = task.read_obj(buf)?;
            QUEUES.find(id)?.set(&cred, &new.perm, new.limit).map(|()| 0)
        }
        IPC_RMID => QUEUES.find(id)?.remove(&cred).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}
