//! Sockets of netlink(7), of the protocol NETLINK_ROUTE: programs ask for interfaces, addresses and routes.

mod route;

#[cfg(test)]
pub(super) use route::serve;

use super::common::{BOTH, Common, DEFAULT_BUFFER};
use super::packets::{Packet, PacketQueue};
use super::{Receive, Send, Socket, msg};
use crate::errno::{Errno, Result};
use crate::kernel::task::CurrentTask;
use crate::mm::io::{Sink, Source};
use crate::net::control::Creds;
use crate::sync::{Events, SpinLock};
use crate::vfs::hooks;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};
use linux_raw_sys::net as n;

/// SOL_NETLINK.
const SOL_NETLINK: u32 = 270;
/// Longest request.
const MAX_REQUEST: usize = 32 << 10;

/// Port numbers that are taken.
static PORTS: SpinLock<BTreeSet<u32>> = SpinLock::new(BTreeSet::new());

/// A socket.
pub struct NetlinkSocket {
    common: Common,
    /// Its own port number, 0 for none yet.
    port: AtomicU32,
    /// Groups that it listens to. Nothing changes that would be told to them.
    groups: AtomicU32,
    /// Options of this level that are on, by number.
    switches: AtomicU32,
    packets: PacketQueue<()>,
}

fn address(port: u32, groups: u32) -> Vec<u8> {
    let mut out = (n::AF_NETLINK as u16).to_ne_bytes().to_vec();
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&port.to_ne_bytes());
    out.extend_from_slice(&groups.to_ne_bytes());
    out
}

/// Port number and groups of a struct sockaddr_nl.
fn parse(raw: &[u8]) -> Result<(u32, u32)> {
    let word = |at: usize| -> Result<u32> {
        let raw = raw.get(at..at + 4).and_then(|w| w.try_into().ok()).ok_or(Errno::EINVAL)?;
        Ok(u32::from_ne_bytes(raw))
    };
    if raw.first_chunk().map(|f| u32::from(u16::from_ne_bytes(*f))) != Some(n::AF_NETLINK) {
        return Err(Errno::EINVAL);
    }
    Ok((word(4)?, word(8)?))
}

impl NetlinkSocket {
    /// A socket for NETLINK_ROUTE.
    pub fn create(kind: u32) -> Arc<dyn Socket> {
        Arc::new(Self {
            common: Common::new(n::AF_NETLINK, kind, 0, DEFAULT_BUFFER, DEFAULT_BUFFER),
            port: AtomicU32::new(0),
            groups: AtomicU32::new(0),
            switches: AtomicU32::new(0),
            packets: PacketQueue::new(),
        })
    }

    /// Its port number; where it has none, that of the process or another that is free.
    fn take_port(&self, wanted: u32) -> Result<u32> {
        let mut taken = PORTS.lock();
        let have = self.port.load(Ordering::Relaxed);
        if have != 0 {
            return if wanted == 0 || wanted == have { Ok(have) } else { Err(Errno::EINVAL) };
        }
        let port = if wanted != 0 {
            wanted
        } else {
            let (pid, _) = hooks::kernel().current().unwrap_or_default();
            let mut port = pid;
            while port == 0 || taken.contains(&port) {
                // As on Linux, what is no process number has the highest bit.
                port = (port | 0x8000_0000).wrapping_add(1);
            }
            port
        };
        if !taken.insert(port) {
            return Err(Errno::EADDRINUSE);
        }
        self.port.store(port, Ordering::Relaxed);
        Ok(port)
    }

    /// Queues an answer.
    fn answer(&self, data: Vec<u8>) -> Result<()> {
        let packet = Packet { data, from: (), creds: None, rights: None };
        self.packets.push(packet, self.common.receive_buffer()).map_err(|_| Errno::ENOBUFS)?;
        self.common.queue.wake(Events::IN | Events::RDNORM);
        Ok(())
    }

    /// Hands the socket bytes that the kernel sends on its own (mq_notify(3)); lost where it is full.
    pub fn deliver(&self, data: &[u8]) {
        let _ = self.answer(data.to_vec());
    }

    /// Whether an option of this level is on.
    fn is_on(&self, name: u32) -> bool {
        self.switches.load(Ordering::Relaxed) & (1 << name) != 0
    }
}

impl Socket for NetlinkSocket {
    fn common(&self) -> &Common {
        &self.common
    }

    fn bind(&self, _task: &CurrentTask, raw: &[u8]) -> Result<()> {
        let (port, groups) = parse(raw)?;
        self.take_port(port)?;
        self.groups.store(groups, Ordering::Relaxed);
        Ok(())
    }

    fn connect(&self, _task: &CurrentTask, raw: &[u8], _nonblock: bool) -> Result<()> {
        let (port, groups) = parse(raw)?;
        if port != 0 || groups != 0 {
            // Only the kernel answers.
            return Err(Errno::EPERM);
        }
        self.take_port(0).map(drop)
    }

    fn send(&self, source: &mut dyn Source, what: &mut Send<'_>) -> Result<usize> {
        if what.flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if let Some(to) = what.to.filter(|to| !to.is_empty()) {
            match parse(to)? {
                (0, 0) => {}
                (_, 0) => return Err(Errno::ECONNREFUSED),
                _ => return Err(Errno::EPERM),
            }
        }
        let len = source.remaining();
        if len > MAX_REQUEST {
            return Err(Errno::EMSGSIZE);
        }
        let port = self.take_port(0)?;
        let request = Packet::read(source, ())?.data;
        for answer in route::serve(&request, port, self.is_on(10)) {
            self.answer(answer)?;
        }
        Ok(len)
    }

    fn receive(&self, sink: &mut dyn Sink, what: &mut Receive) -> Result<usize> {
        if what.flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let peek = what.flags & msg::PEEK != 0;
        let received = self.common.receive(what.nonblock, || {
            self.common.check_error()?;
            self.packets.receive(sink, peek)
        })?;
        if received.copied < received.len {
            what.out_flags |= msg::TRUNC;
        }
        what.from = address(0, 0);
        if self.common.is_on(n::SO_PASSCRED) {
            what.control.creds = Some(Creds { pid: 0, uid: 0, gid: 0 });
        }
        if self.is_on(3) {
            // NETLINK_PKTINFO: the group, which is none.
            what.control.more.push((SOL_NETLINK, 3, 0u32.to_ne_bytes().to_vec()));
        }
        Ok(if what.flags & msg::TRUNC != 0 { received.len } else { received.copied })
    }

    fn shut_down(&self, _directions: u8) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    fn name(&self) -> Result<Vec<u8>> {
        Ok(address(self.port.load(Ordering::Relaxed), self.groups.load(Ordering::Relaxed)))
    }

    fn peer_name(&self) -> Result<Vec<u8>> {
        Ok(address(0, 0))
    }

    fn poll(&self) -> Events {
        let mut events = Events::OUT | Events::WRNORM | Events::WRBAND;
        if self.packets.count() != 0 {
            events |= Events::IN | Events::RDNORM;
        }
        if self.common.has_error() {
            events |= Events::ERR;
        }
        events
    }

    fn get_option(&self, level: u32, name: u32) -> Result<Vec<u8>> {
        match (level, name) {
            (n::SOL_SOCKET, n::SO_ACCEPTCONN) => Ok(0i32.to_ne_bytes().to_vec()),
            (n::SOL_SOCKET, _) => self.common.get_option(name),
            // NETLINK_PKTINFO, BROADCAST_ERROR, NO_ENOBUFS, CAP_ACK, EXT_ACK, GET_STRICT_CHK
            (SOL_NETLINK, 3 | 4 | 5 | 10 | 11 | 12) => Ok(i32::from(self.is_on(name)).to_ne_bytes().to_vec()),
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    fn set_option(&self, level: u32, name: u32, value: &[u8]) -> Result<()> {
        match (level, name) {
            (n::SOL_SOCKET, _) => self.common.set_option(name, value),
            (SOL_NETLINK, 3 | 4 | 5 | 10 | 11 | 12) => {
                if super::common::int_of(value)? != 0 {
                    self.switches.fetch_or(1 << name, Ordering::Relaxed);
                } else {
                    self.switches.fetch_and(!(1 << name), Ordering::Relaxed);
                }
                Ok(())
            }
            // NETLINK_ADD_MEMBERSHIP, NETLINK_DROP_MEMBERSHIP
            (SOL_NETLINK, 1 | 2) => {
                let group = super::common::int_of(value)?;
                if (1..=64).contains(&group) { Ok(()) } else { Err(Errno::EINVAL) }
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    fn readable(&self) -> Result<usize> {
        Err(Errno::EOPNOTSUPP)
    }

    fn close(&self) {
        let port = self.port.swap(0, Ordering::Relaxed);
        if port != 0 {
            PORTS.lock().remove(&port);
        }
        self.common.shut_down(BOTH);
        self.packets.clear();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
