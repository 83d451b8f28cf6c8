//! UDP between sockets of the sandbox: udp(7).

use super::header::Header;
use super::options::{IpOptions, SOL_IP, SOL_IPV6};
use super::ports::{self, Binding, Claim, Ports};
use super::stats::{self, Counter};
use super::{address, lo};
use crate::errno::{Errno, Result};
use crate::kernel::cred::cap;
use crate::kernel::task::CurrentTask;
use crate::mm::io::{Sink, Source};
use crate::net::common::{BOTH, Common, DEFAULT_BUFFER, RECEIVE, SEND};
use crate::net::packets::{Packet, PacketQueue};
use crate::net::{Receive, Send, Socket, msg};
use crate::sync::{Events, SpinLock};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::net::{IpAddr, SocketAddr};
use linux_raw_sys::net as n;

/// Longest datagram over IPv4; over IPv6 the header of IP does not count.
const MAX_V4: usize = 65_507;
const MAX_V6: usize = 65_527;
/// Number of the loopback interface.
const LOOPBACK: i32 = 1;

/// All ports.
pub static PORTS: Ports<UdpSocket> = Ports::new();

/// What is kept of a datagram beside its bytes.
#[derive(Clone, Copy)]
struct Origin {
    from: SocketAddr,
    to: IpAddr,
    header: Header,
    /// CLOCK_REALTIME, ns.
    at: u64,
}

#[derive(Default)]
struct State {
    binding: Option<Arc<Binding<UdpSocket>>>,
    local: Option<SocketAddr>,
    remote: Option<SocketAddr>,
    /// bind(2) gave the port, not the kernel.
    bound: bool,
}

/// A socket.
pub struct UdpSocket {
    common: Common,
    me: Weak<UdpSocket>,
    state: SpinLock<State>,
    packets: PacketQueue<Origin>,
    ip: IpOptions,
}

impl UdpSocket {
    /// A socket of a domain, neither bound nor connected.
    pub fn create(domain: u32) -> Arc<dyn Socket> {
        Arc::new_cyclic(|me| Self {
            common: Common::new(domain, n::SOCK_DGRAM, super::UDP, DEFAULT_BUFFER, DEFAULT_BUFFER),
            me: me.clone(),
            state: SpinLock::new(State::default()),
            packets: PacketQueue::new(),
            ip: IpOptions::default(),
        })
    }

    fn take_port(&self, wanted: SocketAddr, by_name: bool) -> Result<()> {
        let binding = PORTS.bind(Claim {
            address: wanted,
            v6_only: self.ip.v6_only(),
            reuse_address: self.common.is_on(n::SO_REUSEADDR),
            reuse_port: self.common.is_on(n::SO_REUSEPORT),
            uid: self.common.uid,
            active: true,
            share_active: true,
            socket: self.me.clone(),
        })?;
        let mut state = self.state.lock();
        if state.binding.is_some() {
            return if by_name { Err(Errno::EINVAL) } else { Ok(()) };
        }
        state.local = Some(binding.address);
        state.binding = Some(binding);
        state.bound = by_name;
        Ok(())
    }

    /// Binds a port where there is none yet.
    fn bind_where_needed(&self) -> Result<()> {
        if self.state.lock().binding.is_none() {
            self.take_port(SocketAddr::new(address::any(self.common.domain), 0), false).map_err(
                |e| match e {
                    Errno::EADDRINUSE => Errno::EAGAIN,
                    e => e,
                },
            )?;
        }
        Ok(())
    }

    /// The address that data to `to` comes from.
    fn source(&self, to: IpAddr) -> Result<SocketAddr> {
        self.bind_where_needed()?;
        let local = self.state.lock().local.ok_or(Errno::EAGAIN)?;
        if local.ip().is_unspecified() {
            return Ok(SocketAddr::new(address::source_for(to), local.port()));
        }
        if local.is_ipv4() != to.is_ipv4() {
            return Err(Errno::ENETUNREACH);
        }
        Ok(local)
    }

    /// Takes an address that data is to go to.
    fn destination(&self, raw: &[u8]) -> Result<SocketAddr> {
        let domain = self.common.domain;
        let to = address::parse(raw, domain)?;
        if to.is_ipv4() && domain == n::AF_INET6 && self.ip.v6_only() {
            return Err(Errno::ENETUNREACH);
        }
        Ok(to)
    }

    /// The socket that gets a datagram: one that is connected to the sender before others.
    fn receiver(from: SocketAddr, to: SocketAddr) -> Option<Arc<Self>> {
        let found = PORTS.find(to);
        let remote = |s: &Arc<Self>| s.state.lock().remote;
        let connected = found.iter().find(|s| remote(s) == Some(from)).cloned();
        connected.or_else(|| {
            let open: Vec<_> = found.into_iter().filter(|s| remote(s).is_none()).collect();
            let at = usize::from(from.port()) % open.len().max(1);
            open.into_iter().nth(at)
        })
    }

    /// Bytes that wait, for /proc/net/udp.
    pub fn received(&self) -> usize {
        self.packets.cost()
    }

    /// Local and remote address.
    pub fn addresses(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        let state = self.state.lock();
        (state.local, state.remote)
    }

    /// Adds the control messages that the program has asked for.
    fn describe(&self, origin: &Origin, what: &mut Receive) {
        let more = &mut what.control.more;
        if self.common.is_on(n::SO_TIMESTAMP) {
            let parts = [origin.at / crate::time::NS, origin.at % crate::time::NS / 1000];
            let data = parts.iter().flat_map(|p| p.to_ne_bytes()).collect();
            more.push((n::SOL_SOCKET, n::SCM_TIMESTAMP, data));
        } else if self.common.is_on(n::SO_TIMESTAMPNS) {
            let parts = [origin.at / crate::time::NS, origin.at % crate::time::NS];
            let data = parts.iter().flat_map(|p| p.to_ne_bytes()).collect();
            more.push((n::SOL_SOCKET, n::SCM_TIMESTAMPNS, data));
        }
        if let (IpAddr::V4(to), true) = (origin.to, self.ip.v4_on(n::IP_PKTINFO)) {
            let mut data = LOOPBACK.to_ne_bytes().to_vec();
            data.extend_from_slice(&to.octets());
            data.extend_from_slice(&to.octets());
            more.push((SOL_IP, n::IP_PKTINFO, data));
        }
        let v4 = origin.to.is_ipv4();
        let (hops, class) = (i32::from(origin.header.hops), i32::from(origin.header.class));
        let int = |v: i32| v.to_ne_bytes().to_vec();
        if v4 && self.ip.v4_on(12) {
            more.push((SOL_IP, 2, int(hops))); // IP_TTL for IP_RECVTTL
        }
        if v4 && self.ip.v4_on(13) {
            more.push((SOL_IP, 1, alloc::vec![origin.header.class])); // IP_TOS for IP_RECVTOS
        }
        if self.common.domain == n::AF_INET6 {
            if self.ip.v6_on(49) {
                let mut data = address::in_v6(origin.to).octets().to_vec();
                data.extend_from_slice(&LOOPBACK.to_ne_bytes());
                more.push((SOL_IPV6, 50, data)); // IPV6_PKTINFO
            }
            if !v4 && self.ip.v6_on(51) {
                more.push((SOL_IPV6, 52, int(hops))); // IPV6_HOPLIMIT
            }
            if !v4 && self.ip.v6_on(66) {
                more.push((SOL_IPV6, 67, int(class))); // IPV6_TCLASS
            }
        }
    }
}

impl Socket for UdpSocket {
    fn common(&self) -> &Common {
        &self.common
    }

    fn bind(&self, task: &CurrentTask, raw: &[u8]) -> Result<()> {
        let wanted = address::parse(raw, self.common.domain)?;
        if wanted.is_ipv4() && self.common.domain == n::AF_INET6 && self.ip.v6_only() {
            return Err(Errno::EINVAL);
        }
        ports::may_bind(wanted, task.cred().has(cap::NET_BIND_SERVICE))?;
        if self.state.lock().binding.is_some() {
            return Err(Errno::EINVAL);
        }
        self.take_port(wanted, true)
    }

    fn connect(&self, _task: &CurrentTask, raw: &[u8], _nonblock: bool) -> Result<()> {
        if address::family(raw)? == n::AF_UNSPEC {
            let mut state = self.state.lock();
            state.remote = None;
            let old = if state.bound {
                state.local = state.binding.as_ref().map(|b| b.address);
                None
            } else {
                state.local = None;
                state.binding.take()
            };
            drop(state);
            drop(old);
            return Ok(());
        }
        let to = self.destination(raw)?;
        let to = SocketAddr::new(address::route(to.ip())?, to.port());
        let local = self.source(to.ip())?;
        let mut state = self.state.lock();
        state.local = Some(local);
        state.remote = Some(to);
        Ok(())
    }

    fn send(&self, source: &mut dyn Source, what: &mut Send<'_>) -> Result<usize> {
        if what.flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        self.bind_where_needed()?;
        let len = source.remaining();
        let to = match what.to.filter(|to| !to.is_empty()) {
            Some(raw) => self.destination(raw)?,
            None => self.state.lock().remote.ok_or(Errno::EDESTADDRREQ)?,
        };
        if len > if to.is_ipv4() { MAX_V4 } else { MAX_V6 } {
            return Err(Errno::EMSGSIZE);
        }
        if to.port() == 0 {
            return Err(Errno::EINVAL);
        }
        let header = Header::new(&self.ip, to.is_ipv6(), &what.control.more)?;
        let to = SocketAddr::new(address::route(to.ip())?, to.port());
        let from = self.source(to.ip())?;
        self.common.check_error()?;
        if self.common.shut() & SEND != 0 {
            return Err(Errno::EPIPE);
        }
        let origin = Origin { from, to: to.ip(), header, at: crate::time::realtime_ns() };
        let packet = Packet::read(source, origin)?;
        let family = if to.is_ipv4() { n::AF_INET } else { n::AF_INET6 };
        lo::count(family, len);
        stats::add(family, Counter::OutDatagrams, 1);
        match Self::receiver(from, to) {
            // Without room it is lost, as on any network.
            Some(receiver) => {
                let room = receiver.common.receive_buffer();
                let taken = receiver.packets.push(packet, room).is_ok();
                let counter = if taken { Counter::InDatagrams } else { Counter::RcvbufErrors };
                stats::add(family, counter, 1);
                receiver.common.queue.wake(Events::IN | Events::RDNORM);
            }
            None if self.state.lock().remote == Some(to) => {
                stats::add(family, Counter::NoPorts, 1);
                self.common.set_error(Errno::ECONNREFUSED);
                self.common.queue.wake(Events::ERR);
            }
            None => stats::add(family, Counter::NoPorts, 1),
        }
        Ok(len)
    }

    fn receive(&self, sink: &mut dyn Sink, what: &mut Receive) -> Result<usize> {
        if what.flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if what.flags & msg::ERRQUEUE != 0 {
            return Err(Errno::EAGAIN);
        }
        let peek = what.flags & msg::PEEK != 0;
        let received = self.common.receive(what.nonblock, || {
            self.common.check_error()?;
            let ended = self.common.shut() & RECEIVE != 0 && !what.nonblock;
            match self.packets.receive(sink, peek) {
                Err(Errno::EAGAIN) if ended => Ok(None),
                other => other.map(Some),
            }
        })?;
        let Some(received) = received else { return Ok(0) };
        if received.copied < received.len {
            what.out_flags |= msg::TRUNC;
        }
        what.from = address::bytes(received.from.from, self.common.domain);
        self.describe(&received.from, what);
        Ok(if what.flags & msg::TRUNC != 0 { received.len } else { received.copied })
    }

    fn shut_down(&self, directions: u8) -> Result<()> {
        let connected = self.state.lock().remote.is_some();
        self.common.shut_down(directions);
        self.common.queue.wake(Events::all());
        if connected { Ok(()) } else { Err(Errno::ENOTCONN) }
    }

    fn name(&self) -> Result<Vec<u8>> {
        let domain = self.common.domain;
        let local = self.state.lock().local;
        Ok(address::bytes(local.unwrap_or(SocketAddr::new(address::any(domain), 0)), domain))
    }

    fn peer_name(&self) -> Result<Vec<u8>> {
        let remote = self.state.lock().remote.ok_or(Errno::ENOTCONN)?;
        Ok(address::bytes(remote, self.common.domain))
    }

    fn poll(&self) -> Events {
        let shut = self.common.shut();
        let mut events = Events::OUT | Events::WRNORM | Events::WRBAND;
        if self.common.has_error() {
            events |= Events::ERR;
        }
        if shut & RECEIVE != 0 {
            events |= Events::RDHUP | Events::IN | Events::RDNORM;
        }
        if shut == BOTH {
            events |= Events::HUP;
        }
        if self.packets.count() != 0 {
            events |= Events::IN | Events::RDNORM;
        }
        events
    }

    fn get_option(&self, level: u32, name: u32) -> Result<Vec<u8>> {
        match level {
            n::SOL_SOCKET if name == n::SO_ACCEPTCONN => Ok(0i32.to_ne_bytes().to_vec()),
            n::SOL_SOCKET => self.common.get_option(name),
            super::UDP => Err(Errno::ENOPROTOOPT),
            _ => self.ip.get(self.common.domain, level, name),
        }
    }

    fn set_option(&self, level: u32, name: u32, value: &[u8]) -> Result<()> {
        match level {
            n::SOL_SOCKET => {
                self.common.set_option(name, value)?;
                if let Some(binding) = &self.state.lock().binding {
                    binding.set_reuse(self.common.is_on(n::SO_REUSEADDR), self.common.is_on(n::SO_REUSEPORT));
                }
                Ok(())
            }
            super::UDP => Err(Errno::ENOPROTOOPT),
            _ => {
                let bound = self.state.lock().local.is_some();
                self.ip.set(self.common.domain, level, name, value, bound)
            }
        }
    }

    fn readable(&self) -> Result<usize> {
        Ok(self.packets.first_len())
    }

    fn close(&self) {
        let old = core::mem::take(&mut *self.state.lock());
        drop(old);
        self.common.shut_down(BOTH);
        self.packets.clear();
        self.common.queue.wake(Events::all());
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
