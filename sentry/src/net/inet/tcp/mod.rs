//! TCP between sockets of the sandbox: tcp(7).

mod connect;
mod options;
mod transfer;

use super::address;
use super::options::IpOptions;
use super::ports::{Binding, Ports};
use crate::errno::{Errno, Result};
use crate::kernel::task::CurrentTask;
use crate::mm::io::{Sink, Source};
use crate::net::common::{BOTH, Common, RECEIVE, SEND};
use crate::net::inet::stats::{self, Counter};
use crate::net::stream::StreamBuffer;
use crate::net::{Accepted, Receive, Send, Socket};
use crate::sync::{Events, SpinLock};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use linux_raw_sys::net as n;
use options::TcpOptions;

/// SO_SNDBUF of a new socket, the middle of /proc/sys/net/ipv4/tcp_wmem.
const SEND_BUFFER: usize = 16_384;
/// SO_RCVBUF of a new socket, the middle of /proc/sys/net/ipv4/tcp_rmem.
const RECEIVE_BUFFER: usize = 131_072;

/// All ports.
pub static PORTS: Ports<TcpSocket> = Ports::new();

/// Where a socket stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not connected, or not any more.
    Closed,
    /// It listens.
    Listening,
    /// The listener's queue is full: it waits for a place.
    Connecting,
    /// It is connected, perhaps with directions shut.
    Connected,
}

#[derive(Default)]
struct State {
    binding: Option<Arc<Binding<TcpSocket>>>,
    local: Option<SocketAddr>,
    remote: Option<SocketAddr>,
    peer: Weak<TcpSocket>,
}

#[derive(Default)]
struct Queue {
    /// Connections that can be accepted.
    ready: VecDeque<Arc<TcpSocket>>,
    /// Sockets that found no room.
    waiting: VecDeque<Weak<TcpSocket>>,
}

/// A socket.
pub struct TcpSocket {
    common: Common,
    me: Weak<TcpSocket>,
    phase: AtomicU8,
    state: SpinLock<State>,
    buffer: StreamBuffer,
    /// The other side has sent all.
    finished: AtomicBool,
    /// The program has closed it.
    closed: AtomicBool,
    /// It has come to be connected once: it is not connected anew.
    attached: AtomicBool,
    /// connect(2) has been answered with EINPROGRESS, and its end was not told yet.
    untold: AtomicBool,
    queue: SpinLock<Queue>,
    backlog: AtomicUsize,
    options: TcpOptions,
    ip: IpOptions,
}

impl TcpSocket {
    fn make(domain: u32) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            common: Common::new(domain, n::SOCK_STREAM, super::TCP, SEND_BUFFER, RECEIVE_BUFFER),
            me: me.clone(),
            phase: AtomicU8::new(Phase::Closed as u8),
            state: SpinLock::new(State::default()),
            buffer: StreamBuffer::new(),
            finished: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            attached: AtomicBool::new(false),
            untold: AtomicBool::new(false),
            queue: SpinLock::new(Queue::default()),
            backlog: AtomicUsize::new(0),
            options: TcpOptions::default(),
            ip: IpOptions::default(),
        })
    }

    /// A socket of a domain, neither bound nor connected.
    pub fn create(domain: u32) -> Arc<dyn Socket> {
        Self::make(domain)
    }

    fn arc(&self) -> Result<Arc<Self>> {
        self.me.upgrade().ok_or(Errno::EBADF)
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            1 => Phase::Listening,
            2 => Phase::Connecting,
            3 => Phase::Connected,
            _ => Phase::Closed,
        }
    }

    fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::SeqCst);
    }

    /// The other side, as long as its program has it open.
    fn peer(&self) -> Option<Arc<Self>> {
        let peer = self.state.lock().peer.upgrade();
        peer.filter(|p| !p.closed.load(Ordering::SeqCst))
    }

    fn wake_all(&self) {
        self.common.queue.wake(Events::all());
    }

    /// The other side sends nothing any more.
    fn finish(&self) {
        self.finished.store(true, Ordering::SeqCst);
        self.common.shut_down(RECEIVE);
        self.end_where_both();
        self.wake_all();
    }

    /// Once both sides have sent all, there is no connection any more. What was received can still be read.
    fn end_where_both(&self) {
        if self.finished.load(Ordering::SeqCst) && self.common.shut() & SEND != 0 {
            self.set_phase(Phase::Closed);
        }
    }

    /// The connection is broken: as if a reset had come.
    fn reset(&self) {
        stats::add(self.common.domain, Counter::Resets, 1);
        let half = self.finished.load(Ordering::SeqCst);
        self.common.set_error(if half { Errno::EPIPE } else { Errno::ECONNRESET });
        self.set_phase(Phase::Closed);
        self.common.shut_down(BOTH);
        self.wake_all();
    }

    /// State as tcp(7) and /proc/net/tcp number it.
    pub fn state_number(&self) -> u8 {
        match self.phase() {
            Phase::Closed => 7,
            Phase::Listening => 10,
            Phase::Connecting => 2,
            Phase::Connected => {
                let (got, sent) = (self.finished.load(Ordering::SeqCst), self.common.shut() & SEND != 0);
                match (got, sent) {
                    (false, false) => 1,
                    (true, false) => 8,
                    (false, true) => 5,
                    (true, true) => 6,
                }
            }
        }
    }

    /// Local and remote address, for /proc/net/tcp.
    pub fn addresses(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        let state = self.state.lock();
        (state.local, state.remote)
    }

    /// Connections that wait to be accepted.
    pub fn waiting(&self) -> Vec<Arc<Self>> {
        self.queue.lock().ready.iter().cloned().collect()
    }

    /// Bytes that wait to be received.
    pub fn received(&self) -> usize {
        match self.phase() {
            Phase::Listening => self.queue.lock().ready.len(),
            _ => self.buffer.len(),
        }
    }

    /// The program does not have it any more.
    fn end(&self) {
        if self.phase() == Phase::Listening {
            self.stop_listening();
        }
        let abort = !self.buffer.is_empty() || self.common.linger() == Some(0);
        // Before the phase is looked at: a listener that gives this its place now sees one or the other.
        self.closed.store(true, Ordering::SeqCst);
        let connected = self.phase() == Phase::Connected;
        let peer = self.peer();
        if connected && let Some(peer) = peer {
            if abort {
                peer.reset();
            } else {
                peer.finish();
            }
        }
        self.set_phase(Phase::Closed);
        self.common.shut_down(BOTH);
        self.buffer.clear();
        let old = core::mem::take(&mut *self.state.lock());
        drop(old);
        self.wake_all();
    }
}

impl Socket for TcpSocket {
    fn common(&self) -> &Common {
        &self.common
    }

    fn bind(&self, task: &CurrentTask, raw: &[u8]) -> Result<()> {
        self.do_bind(task, raw)
    }

    fn connect(&self, _task: &CurrentTask, raw: &[u8], nonblock: bool) -> Result<()> {
        self.do_connect(raw, nonblock)
    }

    fn listen(&self, backlog: i32) -> Result<()> {
        self.do_listen(backlog)
    }

    fn accept(&self, nonblock: bool) -> Result<Accepted> {
        self.do_accept(nonblock)
    }

    fn send(&self, source: &mut dyn Source, what: &mut Send<'_>) -> Result<usize> {
        self.do_send(source, what)
    }

    fn receive(&self, sink: &mut dyn Sink, what: &mut Receive) -> Result<usize> {
        self.do_receive(sink, what)
    }

    fn shut_down(&self, directions: u8) -> Result<()> {
        match self.phase() {
            Phase::Closed => return Err(Errno::ENOTCONN),
            Phase::Listening => {
                if directions & RECEIVE != 0 {
                    self.stop_listening();
                }
                return Ok(());
            }
            Phase::Connecting => {
                self.set_phase(Phase::Closed);
                self.wake_all();
                return Ok(());
            }
            Phase::Connected => {}
        }
        let new = directions & SEND != 0 && self.common.shut() & SEND == 0;
        self.common.shut_down(directions);
        let peer = self.peer();
        if new && let Some(peer) = peer {
            peer.finish();
        }
        self.end_where_both();
        self.wake_all();
        Ok(())
    }

    fn name(&self) -> Result<Vec<u8>> {
        let domain = self.common.domain;
        let local = self.state.lock().local;
        Ok(address::bytes(local.unwrap_or(SocketAddr::new(address::any(domain), 0)), domain))
    }

    fn peer_name(&self) -> Result<Vec<u8>> {
        let remote = match self.phase() {
            Phase::Connected => self.state.lock().remote,
            _ => None,
        };
        Ok(address::bytes(remote.ok_or(Errno::ENOTCONN)?, self.common.domain))
    }

    fn poll(&self) -> Events {
        let phase = self.phase();
        if phase == Phase::Listening {
            let ready = !self.queue.lock().ready.is_empty();
            return if ready { Events::IN | Events::RDNORM } else { Events::empty() };
        }
        let shut = self.common.shut();
        let mut events = Events::empty();
        if shut == BOTH || phase == Phase::Closed {
            events |= Events::HUP;
        }
        if shut & RECEIVE != 0 {
            events |= Events::IN | Events::RDNORM | Events::RDHUP;
        }
        if phase != Phase::Connecting {
            let enough = self.common.low_water().min(self.common.receive_buffer());
            if self.buffer.len() >= enough {
                events |= Events::IN | Events::RDNORM;
            }
            if shut & SEND != 0 || self.has_room() {
                events |= Events::OUT | Events::WRNORM;
            }
            if self.buffer.has_urgent() {
                events |= Events::PRI;
            }
        }
        if self.common.has_error() {
            events |= Events::ERR;
        }
        events
    }

    fn get_option(&self, level: u32, name: u32) -> Result<Vec<u8>> {
        match level {
            n::SOL_SOCKET if name == n::SO_ACCEPTCONN => {
                Ok(i32::from(self.phase() == Phase::Listening).to_ne_bytes().to_vec())
            }
            n::SOL_SOCKET => self.common.get_option(name),
            super::TCP => self.get_tcp_option(name),
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
            super::TCP => self.options.set(name, value),
            _ => {
                let bound = self.state.lock().local.is_some();
                self.ip.set(self.common.domain, level, name, value, bound)
            }
        }
    }

    fn readable(&self) -> Result<usize> {
        match self.phase() {
            Phase::Listening => Err(Errno::EINVAL),
            _ => Ok(self.buffer.len()),
        }
    }

    fn unsent(&self) -> Result<usize> {
        match self.phase() {
            Phase::Listening => Err(Errno::EINVAL),
            // What the other side's buffer has taken is acknowledged.
            _ => Ok(0),
        }
    }

    fn at_mark(&self) -> Result<bool> {
        Ok(self.buffer.at_mark())
    }

    fn close(&self) {
        self.end();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
