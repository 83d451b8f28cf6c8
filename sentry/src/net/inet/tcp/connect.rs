//! How TCP sockets come together: bind(2), listen(2), connect(2), accept(2).

use super::{PORTS, Phase, State, TcpSocket};
use crate::errno::{Errno, Result};
use crate::kernel::cred::cap;
use crate::kernel::task::CurrentTask;
use crate::net::Accepted;
use crate::net::common::BOTH;
use crate::net::inet::address;
use crate::net::inet::ports::{self, Claim};
use crate::net::inet::stats::{self, Counter};
use crate::net::unix::MAX_BACKLOG;
use crate::sync::Events;
use alloc::sync::Arc;
use core::net::SocketAddr;
use core::sync::atomic::Ordering;
use linux_raw_sys::net as n;

impl TcpSocket {
    fn claim(&self, wanted: SocketAddr) -> Claim<Self> {
        Claim {
            address: wanted,
            v6_only: self.ip.v6_only(),
            reuse_address: self.common.is_on(n::SO_REUSEADDR),
            reuse_port: self.common.is_on(n::SO_REUSEPORT),
            uid: self.common.uid,
            active: false,
            share_active: false,
            socket: self.me.clone(),
        }
    }

    fn take_port(&self, wanted: SocketAddr) -> Result<()> {
        let binding = PORTS.bind(self.claim(wanted))?;
        let mut state = self.state.lock();
        if state.binding.is_some() {
            // Another thread was quicker.
            return Err(Errno::EINVAL);
        }
        state.local = Some(binding.address);
        state.binding = Some(binding);
        Ok(())
    }

    pub(super) fn do_bind(&self, task: &CurrentTask, raw: &[u8]) -> Result<()> {
        let wanted = address::parse(raw, self.common.domain)?;
        if wanted.is_ipv4() && self.common.domain == n::AF_INET6 && self.ip.v6_only() {
            return Err(Errno::EINVAL);
        }
        ports::may_bind(wanted, task.cred().has(cap::NET_BIND_SERVICE))?;
        if self.phase() != Phase::Closed || self.state.lock().binding.is_some() {
            return Err(Errno::EINVAL);
        }
        self.take_port(wanted)
    }

    pub(super) fn do_listen(&self, backlog: i32) -> Result<()> {
        if !matches!(self.phase(), Phase::Closed | Phase::Listening) {
            return Err(Errno::EINVAL);
        }
        let backlog = if backlog < 0 { MAX_BACKLOG } else { (backlog as usize).min(MAX_BACKLOG) };
        self.backlog.store(backlog, Ordering::Relaxed);
        if self.phase() == Phase::Listening {
            return Ok(());
        }
        if self.state.lock().binding.is_none() {
            self.take_port(SocketAddr::new(address::any(self.common.domain), 0))?;
        }
        let binding = self.state.lock().binding.clone().ok_or(Errno::EINVAL)?;
        PORTS.activate(&binding)?;
        self.common.reopen();
        self.set_phase(Phase::Listening);
        self.wake_all();
        Ok(())
    }

    /// Turns away all that wait, and those that have come and were not accepted.
    pub(super) fn stop_listening(&self) {
        if let Some(binding) = &self.state.lock().binding {
            binding.active.store(false, Ordering::Relaxed);
        }
        let (ready, waiting) = {
            let mut queue = self.queue.lock();
            // Under the lock: who finds a place on the queue finds it listening.
            self.set_phase(Phase::Closed);
            (core::mem::take(&mut queue.ready), core::mem::take(&mut queue.waiting))
        };
        for made in ready {
            if let Some(client) = made.peer() {
                client.reset();
            }
            made.closed.store(true, Ordering::SeqCst);
            made.buffer.clear();
        }
        for client in waiting.iter().filter_map(alloc::sync::Weak::upgrade) {
            client.refuse();
        }
        self.wake_all();
    }

    /// Nobody takes the connection.
    fn refuse(&self) {
        if self.phase() == Phase::Connecting {
            self.fail(Errno::ECONNREFUSED);
        }
    }

    /// The connection could not be made.
    fn fail(&self, error: Errno) {
        stats::add(self.common.domain, Counter::AttemptFails, 1);
        self.common.set_error(error);
        self.common.shut_down(BOTH);
        self.set_phase(Phase::Closed);
        self.wake_all();
    }

    /// The listener for an address; where several share it, one after the other.
    fn listener(to: SocketAddr, from: SocketAddr) -> Result<Arc<Self>> {
        let found = PORTS.find(to);
        let at = usize::from(from.port()) % found.len().max(1);
        found.into_iter().nth(at).ok_or(Errno::ECONNREFUSED)
    }

    /// Makes the other end of a connection of `client`.
    fn offspring(&self, client: &Arc<Self>, local: SocketAddr, remote: SocketAddr) -> Arc<Self> {
        let made = Self::make(self.common.domain);
        made.common.inherit(&self.common);
        made.options.inherit(&self.options);
        made.ip.inherit(&self.ip);
        *made.state.lock() = State {
            binding: self.state.lock().binding.clone(),
            local: Some(local),
            remote: Some(remote),
            peer: Arc::downgrade(client),
        };
        made.attached.store(true, Ordering::SeqCst);
        made.set_phase(Phase::Connected);
        made
    }

    /// Connects this to a listener where that has room, else puts it on the list of those that wait.
    fn join(self: &Arc<Self>, listener: &Arc<Self>, to: SocketAddr, from: SocketAddr) -> Result<()> {
        let made = listener.offspring(self, to, from);
        {
            let mut queue = listener.queue.lock();
            if listener.phase() != Phase::Listening {
                return Err(Errno::ECONNREFUSED);
            }
            if queue.ready.len() > listener.backlog.load(Ordering::Relaxed) {
                self.set_phase(Phase::Connecting);
                queue.waiting.retain(|w| w.strong_count() > 0);
                queue.waiting.push_back(Arc::downgrade(self));
                return Ok(());
            }
            self.connected(&made);
            stats::add(self.common.domain, Counter::PassiveOpens, 1);
            if self.closed.load(Ordering::SeqCst) {
                // It has been closed while it waited.
                made.finish();
            }
            queue.ready.push_back(made);
        }
        listener.common.queue.wake(Events::IN | Events::RDNORM);
        Ok(())
    }

    /// Notes that it is connected to `peer`.
    fn connected(&self, peer: &Arc<Self>) {
        self.state.lock().peer = Arc::downgrade(peer);
        self.common.reopen();
        self.finished.store(false, Ordering::SeqCst);
        self.attached.store(true, Ordering::SeqCst);
        self.set_phase(Phase::Connected);
    }

    fn begin(&self, raw: &[u8]) -> Result<()> {
        let domain = self.common.domain;
        let to = address::parse(raw, domain)?;
        if to.is_ipv4() && domain == n::AF_INET6 && self.ip.v6_only() {
            return Err(Errno::ENETUNREACH);
        }
        let to = SocketAddr::new(address::route(to.ip())?, to.port());
        let me = self.arc()?;
        let source = address::source_for(to.ip());
        let local = self.state.lock().local;
        let local = match local {
            Some(local) if local.ip().is_unspecified() => SocketAddr::new(source, local.port()),
            // An IPv4 address cannot be reached from an IPv6 one, nor the other way round.
            Some(local) if local.is_ipv4() != to.is_ipv4() => return Err(Errno::ENETUNREACH),
            Some(local) => local,
            None => {
                self.take_port(SocketAddr::new(source, 0)).map_err(|e| match e {
                    Errno::EADDRINUSE => Errno::EADDRNOTAVAIL,
                    e => e,
                })?;
                self.state.lock().local.ok_or(Errno::EADDRNOTAVAIL)?
            }
        };
        {
            let mut state = self.state.lock();
            state.local = Some(local);
            state.remote = Some(to);
        }
        stats::add(self.common.domain, Counter::ActiveOpens, 1);
        let result = Self::listener(to, local).and_then(|listener| me.join(&listener, to, local));
        if let Err(e) = result {
            self.fail(e);
        }
        Ok(())
    }

    /// Dissolves a connection, connect(2) with AF_UNSPEC.
    fn disconnect(&self) {
        match self.phase() {
            Phase::Listening => self.stop_listening(),
            Phase::Connected => {
                if let Some(peer) = self.peer() {
                    peer.reset();
                }
                self.common.set_error(Errno::ECONNRESET);
            }
            _ => {}
        }
        self.set_phase(Phase::Closed);
        self.attached.store(false, Ordering::SeqCst);
        self.buffer.clear();
        self.common.reopen();
        let old = core::mem::take(&mut *self.state.lock());
        drop(old);
        self.wake_all();
    }

    pub(super) fn do_connect(&self, raw: &[u8], nonblock: bool) -> Result<()> {
        if address::family(raw)? == n::AF_UNSPEC {
            self.disconnect();
            return Ok(());
        }
        if !self.untold.load(Ordering::SeqCst) {
            match self.phase() {
                Phase::Closed if self.attached.load(Ordering::SeqCst) => return Err(Errno::EISCONN),
                Phase::Closed => {}
                Phase::Connecting => return Err(Errno::EALREADY),
                Phase::Listening | Phase::Connected => return Err(Errno::EISCONN),
            }
            self.begin(raw)?;
            self.untold.store(true, Ordering::SeqCst);
            if nonblock {
                // As over a network: how it ends is seen later, even where it has ended already.
                return Err(Errno::EINPROGRESS);
            }
        } else if nonblock && self.phase() == Phase::Connecting {
            return Err(Errno::EALREADY);
        }
        let done = self.common.send(&self.common.queue, false, || match self.phase() {
            Phase::Connecting => Err(Errno::EAGAIN),
            Phase::Connected => Ok(()),
            // It was connected, and the other side has ended it already.
            _ if self.attached.load(Ordering::SeqCst) && !self.common.has_error() => Ok(()),
            _ => Err(self.common.take_error().unwrap_or(Errno::ECONNABORTED)),
        });
        match done {
            // SO_SNDTIMEO is over, or a signal came: it goes on meanwhile.
            Err(Errno::EAGAIN) => Err(Errno::EINPROGRESS),
            Err(e) if e == Errno::EINTR || e == Errno::RESTART_SYS => Err(e),
            other => {
                self.untold.store(false, Ordering::SeqCst);
                if other.is_err() {
                    self.common.reopen();
                }
                other
            }
        }
    }

    /// Lets the first of those that wait have the place that has become free.
    fn admit(self: &Arc<Self>) {
        loop {
            let next = self.queue.lock().waiting.pop_front();
            let Some(next) = next else { return };
            let Some(client) = next.upgrade() else { continue };
            let (Some(from), Some(to)) = client.addresses() else { continue };
            if client.phase() != Phase::Connecting {
                continue;
            }
            if let Err(e) = client.join(self, to, from) {
                client.fail(e);
            }
            client.wake_all();
            return;
        }
    }

    pub(super) fn do_accept(&self, nonblock: bool) -> Result<Accepted> {
        let made = self.common.receive(nonblock, || {
            let next = self.queue.lock().ready.pop_front();
            match next {
                Some(made) => Ok(made),
                None if self.phase() != Phase::Listening => Err(Errno::EINVAL),
                None => Err(Errno::EAGAIN),
            }
        })?;
        self.arc()?.admit();
        // Even where it has been broken off meanwhile.
        let remote = made.addresses().1.ok_or(Errno::ECONNABORTED)?;
        Ok((made, address::bytes(remote, self.common.domain)))
    }
}
