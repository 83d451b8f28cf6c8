//! Sending and receiving over unix sockets.

use super::{MAX_DATAGRAMS, Phase, UnixSocket, names};
use crate::errno::{Errno, Result};
use crate::mm::io::{Sink, Source};
use crate::net::common::{RECEIVE, SEND};
use crate::net::control::Creds;
use crate::net::packets::Packet;
use crate::net::stream::{Beside, Reading};
use crate::net::{Receive, Send, msg};
use crate::sync::Events;
use alloc::sync::Arc;
use linux_raw_sys::net as n;

const READABLE: Events = Events::IN.union(Events::RDNORM);
const WRITABLE: Events = Events::OUT.union(Events::WRNORM).union(Events::WRBAND);

impl UnixSocket {
    /// Whether something can be sent, as poll(2) says it.
    pub(super) fn has_room(&self) -> bool {
        match self.peer() {
            Some(Some(peer)) if self.is_stream() => peer.buffer.len() * 4 <= self.common.send_buffer(),
            Some(Some(peer)) => {
                self.fits_now(&peer) || {
                    peer.note_blocked(self);
                    self.fits_now(&peer)
                }
            }
            _ => true,
        }
    }

    fn fits_now(&self, peer: &Self) -> bool {
        if core::ptr::eq(peer, self) || peer.is_peer(self) {
            return peer.packets.cost() * 4 <= self.common.send_buffer();
        }
        peer.packets.count() <= MAX_DATAGRAMS
    }

    /// Remembers a socket that waits until something is taken from this one.
    fn note_blocked(&self, sender: &Self) {
        let mut blocked = self.blocked.lock();
        blocked.retain(|b| b.strong_count() > 0);
        if !blocked.iter().any(|b| core::ptr::eq(b.as_ptr(), sender)) {
            blocked.push(sender.me.clone());
        }
    }

    /// Wakes all that wait for room here.
    pub(super) fn wake_blocked(&self) {
        let blocked = core::mem::take(&mut *self.blocked.lock());
        for sender in blocked.iter().filter_map(alloc::sync::Weak::upgrade) {
            sender.common.queue.wake(WRITABLE);
        }
    }

    /// Whether this is connected to `other`.
    fn is_peer(&self, other: &Self) -> bool {
        self.state.lock().peer.as_ref().is_some_and(|p| core::ptr::eq(p.as_ptr(), other))
    }

    /// Credentials to attach: those that the program gives, or its own where one side asks for them.
    fn creds_for(&self, peer: &Self, given: Option<Creds>) -> Option<Creds> {
        let asked = self.common.is_on(n::SO_PASSCRED) || peer.common.is_on(n::SO_PASSCRED);
        given.or_else(|| asked.then(Creds::real))
    }

    pub(super) fn send_stream(&self, source: &mut dyn Source, what: &mut Send<'_>) -> Result<usize> {
        if what.flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if what.to.is_some_and(|to| !to.is_empty()) {
            return Err(if self.phase() == Phase::Connected { Errno::EISCONN } else { Errno::EOPNOTSUPP });
        }
        let peer = self.peer().ok_or(Errno::ENOTCONN)?;
        if self.common.shut() & SEND != 0 {
            return Err(Errno::EPIPE);
        }
        let peer = peer.ok_or(Errno::EPIPE)?;
        let creds = self.creds_for(&peer, what.control.creds);
        let (total, mut done) = (source.remaining(), 0);
        while done < total {
            let rights = &mut what.control.rights;
            let result = self.common.send(&self.common.queue, what.nonblock, || {
                if self.common.shut() & SEND != 0 {
                    return Err(Errno::EPIPE);
                }
                if peer.is_closed() || peer.common.shut() & RECEIVE != 0 {
                    return Err(Errno::EPIPE);
                }
                peer.buffer.push(source, self.common.send_buffer(), creds, rights)
            });
            match result {
                Ok(0) => break,
                Ok(moved) => {
                    done += moved;
                    peer.common.queue.wake(READABLE);
                }
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    pub(super) fn receive_stream(&self, sink: &mut dyn Sink, what: &mut Receive) -> Result<usize> {
        if what.flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.phase() != Phase::Connected {
            return Err(Errno::EINVAL);
        }
        let how = Reading {
            peek: what.flags & msg::PEEK != 0,
            by_sender: self.common.is_on(n::SO_PASSCRED),
            inline: true,
        };
        let want = sink.remaining();
        if want == 0 {
            return Ok(0);
        }
        let target = match what.flags & msg::WAITALL {
            0 => self.common.low_water().min(want),
            _ if how.peek => 1,
            _ => want,
        };
        let (mut done, mut beside) = (0, Beside::default());
        loop {
            let result = self.common.receive(what.nonblock, || {
                // Looked at first: what came before the end must be seen.
                let ended = self.common.shut() & RECEIVE != 0;
                match self.buffer.read(sink, how, &mut beside) {
                    Err(Errno::EAGAIN) => match self.common.take_error() {
                        Some(e) => Err(e),
                        None if ended => Ok(0),
                        None => Err(Errno::EAGAIN),
                    },
                    other => other,
                }
            });
            match result {
                Ok(0) => break,
                Ok(moved) => {
                    done += moved;
                    if !how.peek
                        && let Some(Some(peer)) = self.peer()
                    {
                        peer.common.queue.wake(WRITABLE);
                    }
                    if beside.rights.is_some() || done >= target || how.peek {
                        break;
                    }
                }
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        let creds = match beside.creds {
            Some(creds) => creds,
            // Nothing came: zeros, as on Linux.
            None => Some(Creds { pid: 0, uid: 0, gid: 0 }),
        };
        self.put_beside(what, creds, beside.rights);
        if done > 0 {
            let name = self.state.lock().peer_name.clone();
            what.from = name.map(|name| name.address()).unwrap_or_default();
        }
        Ok(done)
    }

    fn put_beside(
        &self,
        what: &mut Receive,
        creds: Option<Creds>,
        rights: Option<crate::net::control::Rights>,
    ) {
        if self.common.is_on(n::SO_PASSCRED) {
            what.control.creds = Some(creds.unwrap_or(Creds::UNKNOWN));
        }
        what.control.rights = rights;
    }

    /// Where a packet goes.
    fn destination(&self, what: &Send<'_>) -> Result<Arc<Self>> {
        match what.to.filter(|to| !to.is_empty()) {
            Some(_) if !self.is_datagram() => {
                Err(if self.phase() == Phase::Connected { Errno::EISCONN } else { Errno::EOPNOTSUPP })
            }
            Some(to) => {
                let found = names::find(what.task, to)?;
                if found.common.kind != self.common.kind {
                    return Err(Errno::EPROTOTYPE);
                }
                self.may_send(&found)?;
                Ok(found)
            }
            None => match self.peer() {
                None => Err(Errno::ENOTCONN),
                Some(Some(peer)) => {
                    self.may_send(&peer)?;
                    Ok(peer)
                }
                Some(None) if self.is_datagram() => {
                    // As after a refusal on a network: the next one says that it is not connected.
                    let old = core::mem::take(&mut self.state.lock().peer);
                    drop(old);
                    self.set_phase(Phase::Idle);
                    Err(Errno::ECONNREFUSED)
                }
                Some(None) => Err(Errno::EPIPE),
            },
        }
    }

    pub(super) fn send_packet(&self, source: &mut dyn Source, what: &mut Send<'_>) -> Result<usize> {
        if what.flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if !self.is_datagram() {
            if self.phase() != Phase::Connected {
                return Err(Errno::ENOTCONN);
            }
            // The peer's close comes as an error once, and then as EPIPE.
            self.common.check_error()?;
        }
        if self.common.is_on(n::SO_PASSCRED) && self.is_datagram() {
            self.bind_where_needed()?;
        }
        let len = source.remaining();
        if len > self.common.send_buffer().saturating_sub(32) {
            return Err(Errno::EMSGSIZE);
        }
        if self.common.shut() & SEND != 0 {
            return Err(Errno::EPIPE);
        }
        let peer = self.destination(what)?;
        let mut packet = Packet::read(source, self.bound_name())?;
        packet.creds = self.creds_for(&peer, what.control.creds);
        packet.rights = what.control.rights.take();
        let mut packet = Some(packet);
        self.common.send(&self.common.queue, what.nonblock, || {
            if peer.is_closed() {
                return Err(if self.is_datagram() { Errno::ECONNREFUSED } else { Errno::EPIPE });
            }
            if peer.common.shut() & RECEIVE != 0 || self.common.shut() & SEND != 0 {
                return Err(Errno::EPIPE);
            }
            // Twice: what is taken before this is on the list would wake nobody.
            for _ in 0..2 {
                let mutual = core::ptr::eq(&*peer, self) || peer.is_peer(self);
                if mutual || peer.packets.count() <= MAX_DATAGRAMS {
                    let Some(ready) = packet.take() else { return Ok(()) };
                    match peer.packets.push(ready, self.common.send_buffer()) {
                        Ok(()) => return Ok(()),
                        Err(back) => packet = Some(back),
                    }
                }
                peer.note_blocked(self);
            }
            Err(Errno::EAGAIN)
        })?;
        peer.common.queue.wake(READABLE);
        Ok(len)
    }

    pub(super) fn receive_packet(&self, sink: &mut dyn Sink, what: &mut Receive) -> Result<usize> {
        if what.flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if !self.is_datagram() && self.phase() != Phase::Connected {
            return Err(Errno::ENOTCONN);
        }
        let peek = what.flags & msg::PEEK != 0;
        let received = self.common.receive(what.nonblock, || {
            // A datagram socket that must not wait does not tell the end from a pause, as on Linux.
            let ended = self.common.shut() & RECEIVE != 0 && !(self.is_datagram() && what.nonblock);
            match self.packets.receive(sink, peek) {
                Err(Errno::EAGAIN) => match self.common.take_error() {
                    Some(e) => Err(e),
                    None if ended => Ok(None),
                    None => Err(Errno::EAGAIN),
                },
                other => other.map(Some),
            }
        })?;
        let Some(received) = received else { return Ok(0) };
        if !peek {
            self.wake_blocked();
            if let Some(Some(peer)) = self.peer() {
                peer.common.queue.wake(WRITABLE);
            }
        }
        if received.copied < received.len {
            what.out_flags |= msg::TRUNC;
        }
        what.from = received.from.map(|name| name.address()).unwrap_or_default();
        self.put_beside(what, received.creds, received.rights);
        let full = what.flags & msg::TRUNC != 0;
        Ok(if full { received.len } else { received.copied })
    }
}
