//! Sockets: socket(7). A family implements [`Socket`]; [`SocketFile`] makes it a file.
//!
//! Sockets hold nothing of the host: those of the sandbox are joined to each other directly. Locks: the port and
//! name tables are taken before the state of a socket, and never while a buffer is locked; buffers are `Mutex`es,
//! since user memory is copied under them, all else are spinning locks that nothing blocks under.

pub mod common;
pub mod control;
pub mod inet;
pub mod netlink;
pub mod packets;
pub mod proc;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod unix;

use crate::errno::{Errno, Result};
use crate::kernel::cred::cap;
use crate::kernel::task::CurrentTask;
use crate::mm::io::{Sink, Source};
use crate::sync::{Events, SpinLock};
use crate::vfs::file::{FileOps, OpenFile, Queues};
use crate::vfs::inode::Attr;
use crate::vfs::{anon, hooks};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use common::Common;
use control::Control;
use core::any::Any;
use linux_raw_sys::{general as c, ioctl, net as n};

/// MSG_* flags, which linux-raw-sys does not have all of.
pub mod msg {
    /// Urgent data.
    pub const OOB: u32 = 0x1;
    /// Leave what is received.
    pub const PEEK: u32 = 0x2;
    /// Control data did not fit.
    pub const CTRUNC: u32 = 0x8;
    /// A packet did not fit; as a request: give its real length.
    pub const TRUNC: u32 = 0x20;
    /// Do not wait.
    pub const DONTWAIT: u32 = 0x40;
    /// Wait for all that is asked for.
    pub const WAITALL: u32 = 0x100;
    /// Read the queue of errors.
    pub const ERRQUEUE: u32 = 0x2000;
    /// No SIGPIPE.
    pub const NOSIGNAL: u32 = 0x4000;
    /// recvmmsg(2): wait for the first only.
    pub const WAITFORONE: u32 = 0x1_0000;
    /// Received descriptors are close-on-exec.
    pub const CMSG_CLOEXEC: u32 = 0x4000_0000;
}

/// What is sent.
pub struct Send<'a> {
    /// MSG_* flags.
    pub flags: u32,
    /// Must not wait.
    pub nonblock: bool,
    /// Where to.
    pub to: Option<&'a [u8]>,
    /// What goes along.
    pub control: Control,
    /// The caller, for paths; none in a plain write(2), which has no address.
    pub task: Option<&'a CurrentTask>,
}

/// What is to be received, and what came beside the data.
#[derive(Default)]
pub struct Receive {
    /// MSG_* flags that were given.
    pub flags: u32,
    /// Must not wait.
    pub nonblock: bool,
    /// MSG_* flags of the answer.
    pub out_flags: u32,
    /// Where it came from; empty where that is not known.
    pub from: Vec<u8>,
    /// What came along.
    pub control: Control,
}

/// A socket that was accepted, and the address of the other side.
pub type Accepted = (Arc<dyn Socket>, Vec<u8>);

/// A socket of some family. Addresses are struct sockaddr as programs give them, at most 128 bytes.
pub trait Socket: core::marker::Send + Sync + Any {
    /// The common part.
    fn common(&self) -> &Common;
    /// bind(2).
    ///
    /// # Errors
    /// As there.
    fn bind(&self, task: &CurrentTask, address: &[u8]) -> Result<()>;
    /// connect(2).
    ///
    /// # Errors
    /// As there.
    fn connect(&self, task: &CurrentTask, address: &[u8], nonblock: bool) -> Result<()>;
    /// listen(2).
    ///
    /// # Errors
    /// As there.
    fn listen(&self, _backlog: i32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    /// accept(2).
    ///
    /// # Errors
    /// As there.
    fn accept(&self, _nonblock: bool) -> Result<Accepted> {
        Err(Errno::EOPNOTSUPP)
    }
    /// send(2). EPIPE is answered without the signal.
    ///
    /// # Errors
    /// As there.
    fn send(&self, source: &mut dyn Source, what: &mut Send<'_>) -> Result<usize>;
    /// recv(2).
    ///
    /// # Errors
    /// As there.
    fn receive(&self, sink: &mut dyn Sink, what: &mut Receive) -> Result<usize>;
    /// shutdown(2), the directions as in [`common`].
    ///
    /// # Errors
    /// As there.
    fn shut_down(&self, directions: u8) -> Result<()>;
    /// getsockname(2).
    ///
    /// # Errors
    /// As there.
    fn name(&self) -> Result<Vec<u8>>;
    /// getpeername(2).
    ///
    /// # Errors
    /// ENOTCONN.
    fn peer_name(&self) -> Result<Vec<u8>>;
    /// Readiness.
    fn poll(&self) -> Events;
    /// getsockopt(2).
    ///
    /// # Errors
    /// ENOPROTOOPT, EOPNOTSUPP.
    fn get_option(&self, level: u32, name: u32) -> Result<Vec<u8>>;
    /// setsockopt(2).
    ///
    /// # Errors
    /// ENOPROTOOPT, EOPNOTSUPP, EINVAL and others.
    fn set_option(&self, level: u32, name: u32, value: &[u8]) -> Result<()>;
    /// Bytes that can be received, FIONREAD.
    ///
    /// # Errors
    /// EINVAL for listeners.
    fn readable(&self) -> Result<usize>;
    /// Bytes sent that the other side has not taken, SIOCOUTQ.
    ///
    /// # Errors
    /// EINVAL for listeners.
    fn unsent(&self) -> Result<usize> {
        Ok(0)
    }
    /// Whether it is at the mark of urgent data, SIOCATMARK.
    ///
    /// # Errors
    /// ENOTTY where there is no such thing.
    fn at_mark(&self) -> Result<bool> {
        Err(Errno::ENOTTY)
    }
    /// Whether EPIPE brings SIGPIPE: for streams it does.
    fn signals_pipe(&self) -> bool {
        self.common().kind == n::SOCK_STREAM
    }
    /// The last description is gone.
    fn close(&self);
    /// For downcasts.
    fn as_any(&self) -> &dyn Any;
}

/// All sockets, by inode number: for /proc/net.
static ALL: SpinLock<BTreeMap<u64, Weak<dyn Socket>>> = SpinLock::new(BTreeMap::new());

/// Enters a socket into the list that /proc/net shows.
pub fn register(socket: &Arc<dyn Socket>) {
    ALL.lock().insert(socket.common().ino, Arc::downgrade(socket));
}

fn unregister(socket: &dyn Socket) {
    let gone = ALL.lock().remove(&socket.common().ino);
    drop(gone);
}

/// All sockets, in the order in which they were made.
pub fn all() -> Vec<Arc<dyn Socket>> {
    ALL.lock().values().filter_map(Weak::upgrade).collect()
}

/// Number of sockets that there are.
pub fn count() -> usize {
    ALL.lock().len()
}

/// The same as [`all`] for those who can do without.
///
/// # Errors
/// ENOMEM.
pub fn try_all() -> Result<Vec<Arc<dyn Socket>>> {
    let mut sockets = Vec::new();
    let all = ALL.lock();
    sockets.try_reserve_exact(all.len()).map_err(|_| Errno::ENOMEM)?;
    sockets.extend(all.values().filter_map(Weak::upgrade));
    Ok(sockets)
}

/// A socket as what serves a description.
pub struct SocketFile {
    socket: Arc<dyn Socket>,
}

impl SocketFile {
    /// The socket.
    pub fn socket(&self) -> &Arc<dyn Socket> {
        &self.socket
    }
}

/// A description of a socket. `flags`: O_NONBLOCK.
pub fn file(socket: Arc<dyn Socket>, flags: u32) -> Arc<OpenFile> {
    register(&socket);
    let ino = socket.common().ino;
    let cred = hooks::kernel().current_cred();
    let (uid, gid) = cred.map_or((0, 0), |c| (c.fsuid, c.fsgid));
    let name = alloc::format!("socket:[{ino}]");
    let path = anon::path(ino, Attr { mode: c::S_IFSOCK | 0o777, uid, gid }, name.as_bytes(), None, None);
    OpenFile::new(path, Arc::new(SocketFile { socket }), c::O_RDWR | flags)
}

/// A new socket, socket(2).
///
/// # Errors
/// EAFNOSUPPORT, ESOCKTNOSUPPORT, EPROTONOSUPPORT, EPERM.
pub fn create(task: &CurrentTask, domain: u32, kind: u32, protocol: u32) -> Result<Arc<dyn Socket>> {
    match domain {
        n::AF_UNIX => {
            if protocol != 0 && protocol != n::AF_UNIX {
                return Err(Errno::EPROTONOSUPPORT);
            }
            match kind {
                n::SOCK_STREAM | n::SOCK_DGRAM | n::SOCK_SEQPACKET => Ok(unix::UnixSocket::create(kind)),
                n::SOCK_RAW => Ok(unix::UnixSocket::create(n::SOCK_DGRAM)),
                _ => Err(Errno::ESOCKTNOSUPPORT),
            }
        }
        n::AF_INET | n::AF_INET6 => inet::create(task, domain, kind, protocol),
        n::AF_NETLINK => match kind {
            n::SOCK_RAW | n::SOCK_DGRAM if protocol == 0 => Ok(netlink::NetlinkSocket::create(kind)),
            n::SOCK_RAW | n::SOCK_DGRAM => Err(Errno::EPROTONOSUPPORT),
            _ => Err(Errno::ESOCKTNOSUPPORT),
        },
        n::AF_PACKET if !task.cred().has(cap::NET_RAW) => Err(Errno::EPERM),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

impl FileOps for SocketFile {
    fn read(&self, file: &OpenFile, sink: &mut dyn Sink, _offset: u64) -> Result<usize> {
        // read(2) of nothing takes no packet, recv(2) of nothing does.
        if sink.remaining() == 0 {
            return Ok(0);
        }
        let mut what = Receive { nonblock: file.nonblock(), ..Receive::default() };
        self.socket.receive(sink, &mut what)
    }

    fn write(&self, file: &OpenFile, source: &mut dyn Source, _offset: u64) -> Result<usize> {
        let mut what =
            Send { flags: 0, nonblock: file.nonblock(), to: None, control: Control::default(), task: None };
        self.socket.send(source, &mut what)
    }

    fn poll(&self, _file: &OpenFile) -> Events {
        self.socket.poll()
    }

    fn queues<'a>(&'a self, _file: &OpenFile, queues: &mut Queues<'a>) {
        queues.push(&self.socket.common().queue);
    }

    fn signals_pipe(&self) -> bool {
        self.socket.signals_pipe()
    }

    fn can_async(&self) -> bool {
        true
    }

    fn ran_full(&self) -> bool {
        self.socket.common().ran_full()
    }

    fn ioctl(&self, task: &CurrentTask, _file: &OpenFile, request: u32, arg: u64) -> Result<u64> {
        let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        match request {
            ioctl::FIONREAD => task.write_obj(arg, &number(self.socket.readable()?))?,
            ioctl::TIOCOUTQ => task.write_obj(arg, &number(self.socket.unsent()?))?,
            ioctl::SIOCATMARK => task.write_obj(arg, &i32::from(self.socket.at_mark()?))?,
            _ => return inet::lo::ioctl(task, request, arg),
        }
        Ok(0)
    }

    fn release(&self, _file: &OpenFile) {
        unregister(&*self.socket);
        self.socket.close();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + core::marker::Send + Sync> {
        self
    }
}
