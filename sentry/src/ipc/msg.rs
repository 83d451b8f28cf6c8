//! Message queues: msgget(2), msgsnd(2), msgrcv(2), msgctl(2).

use super::{Charge, Ids, Object, Perm, UserPerm, limits};
use crate::errno::{Errno, Result};
use crate::kernel::cred::{Cred, cap};
use crate::kernel::wait::{self, WaitError};
use crate::sync::{Events, SpinLock, WaitQueue};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;

/// All queues.
pub static QUEUES: Ids<Queue> = Ids::new();

/// A message.
pub struct Message {
    /// Its type, at least 1.
    pub kind: i64,
    /// Its text.
    pub data: Vec<u8>,
    _charge: Charge,
}

impl Message {
    /// A message with room for `len` bytes, all 0.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(kind: i64, len: usize) -> Result<Self> {
        let charge = Charge::new(core::mem::size_of::<Self>() + len.next_power_of_two())?;
        let mut data = Vec::new();
        data.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
        data.resize(len, 0);
        Ok(Self { kind, data, _charge: charge })
    }
}

/// A queue.
pub struct Queue {
    id: i32,
    state: SpinLock<State>,
    senders: WaitQueue,
    receivers: WaitQueue,
    _charge: Charge,
}

struct State {
    perm: Perm,
    messages: VecDeque<Message>,
    info: Info,
    removed: bool,
}

/// What programs see of a queue.
#[derive(Debug, Clone, Copy, Default)]
pub struct Info {
    /// Bytes of all messages.
    pub bytes: u64,
    /// Messages.
    pub count: u64,
    /// Most bytes.
    pub limit: u64,
    /// Process that sent last.
    pub lspid: u32,
    /// Process that received last.
    pub lrpid: u32,
    /// Last send, seconds.
    pub stime: i64,
    /// Last receive.
    pub rtime: i64,
    /// Last change.
    pub ctime: i64,
}

/// Which message is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The first.
    Any,
    /// The first of a type.
    Kind(i64),
    /// The first of another type.
    Other(i64),
    /// The first of the lowest type up to this.
    UpTo(i64),
    /// A copy of the one at this place.
    CopyOf(i64),
}

impl Object for Queue {
    fn perm(&self) -> Perm {
        self.state.lock().perm
    }
}

/// msgget(2)
///
/// # Errors
/// ENOENT, EEXIST, EACCES, ENOSPC, ENOMEM.
pub fn get(key: i32, flags: u32, cred: &Cred) -> Result<i32> {
    QUEUES.get(
        key,
        flags,
        limits::get(&limits::MSGMNI),
        cred,
        |_| Ok(()),
        |id| {
            let info = Info { limit: limits::get(&limits::MSGMNB), ctime: super::now(), ..Info::default() };
            Ok(Queue {
                id,
                state: SpinLock::new(State {
                    perm: Perm::new(key, id, cred, flags),
                    messages: VecDeque::new(),
                    info,
                    removed: false,
                }),
                senders: WaitQueue::new(),
                receivers: WaitQueue::new(),
                _charge: Charge::new(core::mem::size_of::<Queue>() + 128)?,
            })
        },
    )
}

/// Interrupted waits restart only where no handler ran: signal(7).
fn interrupted(_: WaitError) -> Errno {
    Errno::RESTART_NO_HAND
}

impl State {
    /// Place of the wanted message.
    fn find(&self, wanted: Wanted) -> Option<usize> {
        let mut messages = self.messages.iter();
        match wanted {
            Wanted::Any => messages.next().map(|_| 0),
            Wanted::Kind(kind) => messages.position(|m| m.kind == kind),
            Wanted::Other(kind) => messages.position(|m| m.kind != kind),
            Wanted::UpTo(most) => {
                let fitting = messages.enumerate().filter(|(_, m)| m.kind <= most);
                fitting.min_by_key(|(at, m)| (m.kind, *at)).map(|(at, _)| at)
            }
            Wanted::CopyOf(place) => usize::try_from(place).ok().filter(|p| *p < self.messages.len()),
        }
    }
}

impl Queue {
    /// msgsnd(2)
    ///
    /// # Errors
    /// EACCES, EAGAIN, EIDRM, RESTART_NO_HAND.
    pub fn send(&self, message: Message, pid: u32, cred: &Cred, wait: bool) -> Result<()> {
        let mut message = Some(message);
        let mut put = || {
            let mut state = self.state.lock();
            if state.removed {
                return Some(Err(Errno::EIDRM));
            }
            if let Err(e) = state.perm.check(cred, super::WRITE) {
                return Some(Err(e));
            }
            let len = message.as_ref().map_or(0, |m| m.data.len()) as u64;
            let info = state.info;
            if info.bytes + len > info.limit || info.count + 1 > info.limit {
                return if wait { None } else { Some(Err(Errno::EAGAIN)) };
            }
            state.info.bytes += len;
            state.info.count += 1;
            state.info.lspid = pid;
            state.info.stime = super::now();
            state.messages.extend(message.take());
            Some(Ok(()))
        };
        wait::wait_until(&[(&self.senders, Events::IN)], None, &mut put).map_err(interrupted)??;
        self.receivers.wake(Events::IN);
        Ok(())
    }

    /// msgrcv(2): takes a message of at most `size` bytes, or of any where it may be `cut`; `CopyOf` leaves it.
    /// Returns its type and text.
    ///
    /// # Errors
    /// EACCES, ENOMSG, E2BIG, EIDRM, ENOMEM, RESTART_NO_HAND.
    pub fn receive(
        &self,
        wanted: Wanted,
        size: usize,
        cut: bool,
        pid: u32,
        cred: &Cred,
        wait: bool,
    ) -> Result<Message> {
        let take = || {
            let mut state = self.state.lock();
            if state.removed {
                return Some(Err(Errno::EIDRM));
            }
            if let Err(e) = state.perm.check(cred, super::READ) {
                return Some(Err(e));
            }
            let Some(at) = state.find(wanted) else {
                return if wait { None } else { Some(Err(Errno::ENOMSG)) };
            };
            let message = state.messages.get(at)?;
            if message.data.len() > size && !cut {
                return Some(Err(Errno::E2BIG));
            }
            if matches!(wanted, Wanted::CopyOf(_)) {
                // Copies are never cut.
                if message.data.len() > size {
                    return Some(Err(Errno::EINVAL));
                }
                return Some(Message::new(message.kind, message.data.len()).map(|mut copy| {
                    copy.data.copy_from_slice(&message.data);
                    copy
                }));
            }
            let message = state.messages.remove(at)?;
            state.info.bytes -= message.data.len() as u64;
            state.info.count -= 1;
            state.info.lrpid = pid;
            state.info.rtime = super::now();
            Some(Ok(message))
        };
        let message =
            wait::wait_until(&[(&self.receivers, Events::IN)], None, take).map_err(interrupted)??;
        if !matches!(wanted, Wanted::CopyOf(_)) {
            self.senders.wake(Events::IN);
        }
        Ok(message)
    }

    /// Permissions and figures.
    pub fn stat(&self) -> (Perm, Info) {
        let state = self.state.lock();
        (state.perm, state.info)
    }

    /// IPC_SET: permissions and the most bytes.
    ///
    /// # Errors
    /// EPERM, EINVAL.
    pub fn set(&self, cred: &Cred, new: &UserPerm, limit: u64) -> Result<()> {
        {
            let mut state = self.state.lock();
            state.perm.check_owner(cred)?;
            if limit > limits::get(&limits::MSGMNB) && !cred.has(cap::SYS_RESOURCE) {
                return Err(Errno::EPERM);
            }
            state.perm.set(new);
            state.info.limit = limit;
            state.info.ctime = super::now();
        }
        // Permissions and room are looked at again.
        self.receivers.wake(Events::IN);
        self.senders.wake(Events::IN);
        Ok(())
    }

    /// IPC_RMID: all who wait get EIDRM.
    ///
    /// # Errors
    /// EPERM, EIDRM.
    pub fn remove(&self, cred: &Cred) -> Result<()> {
        let (key, messages) = {
            let mut state = self.state.lock();
            state.perm.check_owner(cred)?;
            if core::mem::replace(&mut state.removed, true) {
                return Err(Errno::EIDRM);
            }
            (state.perm.key, core::mem::take(&mut state.messages))
        };
        drop(messages);
        QUEUES.remove(self.id, key);
        self.receivers.wake(Events::IN);
        self.senders.wake(Events::IN);
        Ok(())
    }
}

/// Messages of all queues and their bytes.
pub fn totals() -> (u64, u64) {
    let stat = |q: &Arc<Queue>| q.stat().1;
    QUEUES.all().iter().map(|(_, q)| stat(q)).fold((0, 0), |(n, b), i| (n + i.count, b + i.bytes))
}

/// /proc/sysvipc/msg
pub fn list() -> Vec<u8> {
    let mut out = String::from(
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n",
    );
    for (id, queue) in QUEUES.all() {
        let (p, i) = queue.stat();
        let _ = writeln!(
            out,
            "{:10} {id:10}  {:4o}  {:10} {:10} {:5} {:5} {:5} {:5} {:5} {:5} {:10} {:10} {:10}",
            p.key,
            p.mode,
            i.bytes,
            i.count,
            i.lspid,
            i.lrpid,
            p.uid,
            p.gid,
            p.cuid,
            p.cgid,
            i.stime,
            i.rtime,
            i.ctime
        );
    }
    out.into_bytes()
}
