//! Sockets of the unix domain: unix(7).

pub mod collect;
mod names;
mod transfer;

use super::common::{BOTH, Common, DEFAULT_BUFFER, RECEIVE, SEND};
use super::control::{Creds, InFlight};
use super::packets::PacketQueue;
use super::stream::StreamBuffer;
use super::{Accepted, Receive, Send, Socket};
use crate::errno::{Errno, Result};
use crate::kernel::task::CurrentTask;
use crate::mm::io::{Sink, Source};
use crate::sync::{Events, Mutex, SpinLock};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use linux_raw_sys::net as n;
use names::{Name, Parsed};

/// Most connections that wait to be accepted, /proc/sys/net/core/somaxconn.
pub const MAX_BACKLOG: usize = 4096;
/// Datagrams that a socket takes from those it is not connected to, /proc/sys/net/unix/max_dgram_qlen.
const MAX_DATAGRAMS: usize = 10;

/// Everything that can become readable or writable.
pub const ALL_EVENTS: Events = Events::all();

/// Where a socket of connections stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Neither of the others.
    Idle,
    /// It listens.
    Listening,
    /// It is, or was, connected.
    Connected,
}

#[derive(Default)]
struct State {
    name: Option<Arc<Name>>,
    peer: Option<Weak<UnixSocket>>,
    peer_name: Option<Arc<Name>>,
    peer_creds: Option<Creds>,
}

/// A socket.
pub struct UnixSocket {
    common: Common,
    me: Weak<UnixSocket>,
    state: SpinLock<State>,
    /// Serialises bind(2) of this socket.
    binding: Mutex<()>,
    phase: AtomicU8,
    closed: AtomicBool,
    /// What was sent to it: bytes of streams,
    buffer: StreamBuffer,
    /// packets of the others.
    packets: PacketQueue<Option<Arc<Name>>>,
    /// Connections to be accepted.
    waiting: SpinLock<VecDeque<Arc<UnixSocket>>>,
    backlog: AtomicUsize,
    /// Sockets that send to this one, found it full, and are not its peer: woken when something is taken.
    blocked: SpinLock<Vec<Weak<UnixSocket>>>,
}

impl UnixSocket {
    fn make(kind: u32) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            common: Common::new(n::AF_UNIX, kind, 0, DEFAULT_BUFFER, DEFAULT_BUFFER),
            me: me.clone(),
            state: SpinLock::new(State::default()),
            binding: Mutex::new(()),
            phase: AtomicU8::new(Phase::Idle as u8),
            closed: AtomicBool::new(false),
            buffer: StreamBuffer::new(),
            packets: PacketQueue::new(),
            waiting: SpinLock::new(VecDeque::new()),
            backlog: AtomicUsize::new(0),
            blocked: SpinLock::new(Vec::new()),
        })
    }

    /// A socket of a kind (SOCK_*), neither bound nor connected.
    pub fn create(kind: u32) -> Arc<dyn Socket> {
        Self::make(kind)
    }

    /// Two that are connected to each other, socketpair(2).
    pub fn pair(kind: u32) -> (Arc<dyn Socket>, Arc<dyn Socket>) {
        let (a, b) = (Self::make(kind), Self::make(kind));
        let creds = Creds::effective();
        a.join(&b, None, creds);
        b.join(&a, None, creds);
        (a, b)
    }

    fn join(&self, peer: &Arc<Self>, peer_name: Option<Arc<Name>>, creds: Creds) {
        let mut state = self.state.lock();
        let old = state.peer.replace(Arc::downgrade(peer));
        let old_name = core::mem::replace(&mut state.peer_name, peer_name);
        state.peer_creds = Some(creds);
        drop(state);
        drop((old, old_name));
        self.set_phase(Phase::Connected);
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            1 => Phase::Listening,
            2 => Phase::Connected,
            _ => Phase::Idle,
        }
    }

    fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::SeqCst);
    }

    fn is_stream(&self) -> bool {
        self.common.kind == n::SOCK_STREAM
    }

    fn is_datagram(&self) -> bool {
        self.common.kind == n::SOCK_DGRAM
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn bound_name(&self) -> Option<Arc<Name>> {
        self.state.lock().name.clone()
    }

    /// The socket that this is connected to; `Some(None)` where that one is gone.
    fn peer(&self) -> Option<Option<Arc<Self>>> {
        let peer = self.state.lock().peer.clone()?;
        Some(peer.upgrade().filter(|p| !p.is_closed()))
    }

    fn arc(&self) -> Result<Arc<Self>> {
        self.me.upgrade().ok_or(Errno::EBADF)
    }

    /// Gives it a name of the kernel's choice where it needs one and has none.
    fn bind_where_needed(&self) -> Result<()> {
        let _guard = self.binding.lock();
        if self.bound_name().is_none() {
            let name = names::bind_auto(&self.arc()?)?;
            self.state.lock().name = Some(name);
        }
        Ok(())
    }

    /// connect(2) of datagram sockets.
    fn connect_datagram(&self, task: &CurrentTask, address: &[u8]) -> Result<()> {
        let family = address.first_chunk().map(|f| u32::from(u16::from_ne_bytes(*f)));
        let peer = if family == Some(n::AF_UNSPEC) { None } else { Some(names::find(Some(task), address)?) };
        let Some(peer) = peer else {
            let old = core::mem::take(&mut self.state.lock().peer);
            drop(old);
            self.set_phase(Phase::Idle);
            return Ok(());
        };
        if peer.common.kind != self.common.kind {
            return Err(Errno::EPROTOTYPE);
        }
        if self.common.is_on(n::SO_PASSCRED) {
            self.bind_where_needed()?;
        }
        self.may_send(&peer)?;
        let (name, own) = (peer.bound_name(), Creds::effective());
        self.join(&peer, name, own);
        Ok(())
    }

    /// A datagram socket that is connected takes nothing from others.
    fn may_send(&self, to: &Self) -> Result<()> {
        let peer = to.state.lock().peer.clone();
        match peer {
            Some(peer) if !core::ptr::eq(peer.as_ptr(), self) => Err(Errno::EPERM),
            _ => Ok(()),
        }
    }

    /// Puts a connection on the queue of a listener, once there is room.
    fn try_connect(&self, task: &CurrentTask, address: &[u8]) -> Result<()> {
        let listener = names::find(Some(task), address)?;
        if listener.common.kind != self.common.kind {
            return Err(Errno::EPROTOTYPE);
        }
        if listener.phase() != Phase::Listening || listener.is_closed() {
            return Err(Errno::ECONNREFUSED);
        }
        let (own_name, listener_name, me) = (self.bound_name(), listener.bound_name(), self.arc()?);
        let made = Self::make(self.common.kind);
        made.common.inherit(&listener.common);
        made.state.lock().name = listener_name.clone();
        made.join(&me, own_name, Creds::effective());
        let listener_creds = listener.state.lock().peer_creds.unwrap_or(Creds::NOBODY);
        {
            let mut waiting = listener.waiting.lock();
            // Looked at under the lock: closing takes what waits away under it.
            if listener.is_closed() || listener.common.shut() & RECEIVE != 0 {
                return Err(Errno::ECONNREFUSED);
            }
            if waiting.len() > listener.backlog.load(Ordering::Relaxed) {
                return Err(Errno::EAGAIN);
            }
            // Before anyone can accept it.
            self.join(&made, listener_name, listener_creds);
            waiting.push_back(made);
        }
        listener.common.queue.wake(Events::IN | Events::RDNORM);
        Ok(())
    }

    fn connect_stream(&self, task: &CurrentTask, address: &[u8], nonblock: bool) -> Result<()> {
        match self.phase() {
            Phase::Connected => return Err(Errno::EISCONN),
            Phase::Listening => return Err(Errno::EINVAL),
            Phase::Idle => {}
        }
        if self.common.is_on(n::SO_PASSCRED) {
            self.bind_where_needed()?;
        }
        match self.try_connect(task, address) {
            Err(Errno::EAGAIN) if !nonblock => {}
            other => return other,
        }
        // The queue is full: room comes when the listener accepts, or goes.
        let listener = names::find(Some(task), address)?;
        self.common.send(&listener.common.queue, false, || self.try_connect(task, address))
    }

    /// Tells the peer that this is closed.
    fn leave_peer(&self, unread: bool) {
        let Some(Some(peer)) = self.peer() else { return };
        if self.is_datagram() {
            peer.common.queue.wake(Events::OUT | Events::WRNORM);
            return;
        }
        if unread {
            peer.common.set_error(Errno::ECONNRESET);
        }
        peer.common.shut_down(BOTH);
        peer.common.queue.wake(ALL_EVENTS);
    }

    /// Shows the descriptions that wait to be received.
    fn in_flight(&self, out: &mut Vec<InFlight>) -> Result<()> {
        self.buffer.show_rights(out)?;
        self.packets.show_rights(out)
    }

    fn drop_queues(&self) {
        self.buffer.clear();
        self.packets.clear();
    }

    /// Line of /proc/net/unix.
    pub fn describe(&self) -> alloc::string::String {
        let name = self.bound_name().map(|n| n.text()).unwrap_or_default();
        let (flags, state) = match self.phase() {
            Phase::Listening => (0x10000, 1),
            Phase::Connected => (0, 3),
            Phase::Idle => (0, 1),
        };
        alloc::format!(
            "{:016x}: {:08X} 00000000 {flags:08X} {:04X} {state:02X} {:5}{}{}\n",
            0,
            2,
            self.common.kind,
            self.common.ino,
            if name.is_empty() { "" } else { " " },
            alloc::string::String::from_utf8_lossy(&name)
        )
    }
}

impl Socket for UnixSocket {
    fn common(&self) -> &Common {
        &self.common
    }

    fn bind(&self, task: &CurrentTask, address: &[u8]) -> Result<()> {
        let parsed = names::parse(address)?;
        let _guard = self.binding.lock();
        let bound = self.bound_name().is_some();
        let me = self.arc()?;
        let name = match parsed {
            Parsed::Unnamed if bound => return Ok(()),
            Parsed::Unnamed => names::bind_auto(&me)?,
            Parsed::Path(path) if bound => {
                let exists = crate::vfs::Ctx::of(task).lookup(path).is_ok();
                return Err(if exists { Errno::EADDRINUSE } else { Errno::EINVAL });
            }
            Parsed::Path(path) => names::bind_path(&me, task, path)?,
            Parsed::Abstract(_) if bound => return Err(Errno::EINVAL),
            Parsed::Abstract(text) => names::bind_abstract(&me, text)?,
        };
        self.state.lock().name = Some(name);
        Ok(())
    }

    fn connect(&self, task: &CurrentTask, address: &[u8], nonblock: bool) -> Result<()> {
        if self.is_datagram() {
            return self.connect_datagram(task, address);
        }
        if matches!(names::parse(address)?, Parsed::Unnamed) {
            return Err(Errno::EINVAL);
        }
        self.connect_stream(task, address, nonblock)
    }

    fn listen(&self, backlog: i32) -> Result<()> {
        if self.is_datagram() {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.bound_name().is_none() || self.phase() == Phase::Connected {
            return Err(Errno::EINVAL);
        }
        let backlog = if backlog < 0 { MAX_BACKLOG } else { (backlog as usize).min(MAX_BACKLOG) };
        self.backlog.store(backlog, Ordering::Relaxed);
        self.state.lock().peer_creds = Some(Creds::effective());
        self.set_phase(Phase::Listening);
        self.common.queue.wake(Events::OUT | Events::WRNORM);
        Ok(())
    }

    fn accept(&self, nonblock: bool) -> Result<Accepted> {
        if self.is_datagram() {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.phase() != Phase::Listening {
            return Err(Errno::EINVAL);
        }
        let made = self.common.receive(nonblock, || {
            let next = self.waiting.lock().pop_front();
            match next {
                Some(made) => Ok(made),
                None if self.common.shut() & RECEIVE != 0 => Err(Errno::EINVAL),
                None => Err(Errno::EAGAIN),
            }
        })?;
        self.common.queue.wake(Events::OUT | Events::WRNORM);
        let address = made.peer_name()?;
        Ok((made, address))
    }

    fn send(&self, source: &mut dyn Source, what: &mut Send<'_>) -> Result<usize> {
        if self.is_stream() { self.send_stream(source, what) } else { self.send_packet(source, what) }
    }

    fn receive(&self, sink: &mut dyn Sink, what: &mut Receive) -> Result<usize> {
        if self.is_stream() { self.receive_stream(sink, what) } else { self.receive_packet(sink, what) }
    }

    fn shut_down(&self, directions: u8) -> Result<()> {
        self.common.shut_down(directions);
        if !self.is_datagram()
            && let Some(Some(peer)) = self.peer()
        {
            // What one side does not send the other does not receive, and the other way round.
            let mirrored = match directions {
                RECEIVE => SEND,
                SEND => RECEIVE,
                _ => BOTH,
            };
            peer.common.shut_down(mirrored);
            peer.common.queue.wake(ALL_EVENTS);
        }
        self.common.queue.wake(ALL_EVENTS);
        Ok(())
    }

    fn name(&self) -> Result<Vec<u8>> {
        Ok(self.bound_name().map_or_else(|| names::address(b""), |name| name.address()))
    }

    fn peer_name(&self) -> Result<Vec<u8>> {
        let state = self.state.lock();
        if state.peer.is_none() {
            return Err(Errno::ENOTCONN);
        }
        let name = state.peer_name.clone();
        drop(state);
        Ok(name.map_or_else(|| names::address(b""), |name| name.address()))
    }

    fn poll(&self) -> Events {
        let (shut, phase) = (self.common.shut(), self.phase());
        let mut events = Events::empty();
        if self.common.has_error() {
            events |= Events::ERR;
        }
        if shut == BOTH {
            events |= Events::HUP;
        }
        if shut & RECEIVE != 0 {
            events |= Events::RDHUP | Events::IN | Events::RDNORM;
        }
        let queued = !self.buffer.is_empty() || self.packets.count() != 0;
        if queued || phase == Phase::Listening && !self.waiting.lock().is_empty() {
            events |= Events::IN | Events::RDNORM;
        }
        if phase == Phase::Idle && !self.is_datagram() {
            events |= Events::HUP;
        }
        if phase != Phase::Listening && self.has_room() {
            events |= Events::OUT | Events::WRNORM | Events::WRBAND;
        }
        events
    }

    fn get_option(&self, level: u32, name: u32) -> Result<Vec<u8>> {
        if level != n::SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        match name {
            n::SO_ACCEPTCONN => Ok(i32::from(self.phase() == Phase::Listening).to_ne_bytes().to_vec()),
            n::SO_PEERCRED => {
                let creds = self.state.lock().peer_creds.unwrap_or(Creds::NOBODY);
                Ok(creds.to_bytes().to_vec())
            }
            n::SO_PEERSEC => Err(Errno::ENOPROTOOPT),
            _ => self.common.get_option(name),
        }
    }

    fn set_option(&self, level: u32, name: u32, value: &[u8]) -> Result<()> {
        if level != n::SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        if name == n::SO_REUSEPORT && super::common::int_of(value)? != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        self.common.set_option(name, value)
    }

    fn readable(&self) -> Result<usize> {
        match self.phase() {
            Phase::Listening => Err(Errno::EINVAL),
            _ if self.is_stream() => Ok(self.buffer.len()),
            _ if self.is_datagram() => Ok(self.packets.first_len()),
            _ => Ok(self.packets.bytes()),
        }
    }

    fn unsent(&self) -> Result<usize> {
        Ok(match self.peer() {
            Some(Some(peer)) if self.is_stream() => peer.buffer.len(),
            Some(Some(peer)) => peer.packets.bytes(),
            _ => 0,
        })
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.common.shut_down(BOTH);
        let name = self.bound_name();
        if let (Some(name), Ok(me)) = (&name, self.arc()) {
            names::unbind(&me, name);
        }
        let unaccepted = core::mem::take(&mut *self.waiting.lock());
        for socket in unaccepted {
            socket.closed.store(true, Ordering::SeqCst);
            socket.leave_peer(true);
            socket.drop_queues();
        }
        let unread = !self.buffer.is_empty() || self.packets.count() != 0;
        self.leave_peer(unread);
        self.drop_queues();
        self.wake_blocked();
        self.common.queue.wake(ALL_EVENTS);
        collect::closed();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
