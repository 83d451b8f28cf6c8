//! Sending and receiving over TCP.

use super::{Phase, TcpSocket};
use crate::errno::{Errno, Result};
use crate::mm::io::{Sink, Source};
use crate::net::common::{RECEIVE, SEND};
use crate::net::inet::lo;
use crate::net::inet::stats::{self, Counter};
use crate::net::stream::{Beside, Reading};
use crate::net::{Receive, Send, msg};
use crate::sync::Events;
use core::sync::atomic::Ordering;
use linux_raw_sys::net as n;

impl TcpSocket {
    /// Most bytes that can be on their way to `peer`.
    fn capacity(&self, peer: &Self) -> usize {
        self.common.send_buffer() + peer.common.receive_buffer()
    }

    /// Whether a third of the buffers is free, as poll(2) asks.
    pub(super) fn has_room(&self) -> bool {
        match self.peer() {
            Some(peer) => peer.buffer.len() <= self.capacity(&peer) / 3 * 2,
            None => true,
        }
    }

    fn check_sendable(&self) -> Result<()> {
        match self.phase() {
            Phase::Connecting => return Err(Errno::EAGAIN),
            Phase::Connected if self.common.shut() & SEND == 0 => {}
            _ => {
                self.common.check_error()?;
                return Err(Errno::EPIPE);
            }
        }
        self.common.check_error()
    }

    /// Drops what cannot be delivered any more.
    fn swallow(source: &mut dyn Source) -> Result<usize> {
        let (mut buf, mut done) = ([0; 256], 0);
        while source.remaining() > 0 {
            let want = source.remaining().min(buf.len());
            match source.take(buf.get_mut(..want).unwrap_or_default())? {
                0 => break,
                n => done += n,
            }
        }
        Ok(done)
    }

    pub(super) fn do_send(&self, source: &mut dyn Source, what: &mut Send<'_>) -> Result<usize> {
        let (total, mut done) = (source.remaining(), 0);
        if total == 0 {
            return self.check_sendable().map(|()| 0);
        }
        while done < total {
            let result = self.common.send(&self.common.queue, what.nonblock, || {
                self.check_sendable()?;
                let Some(peer) = self.peer() else {
                    // It is taken, and answered by a reset.
                    let taken = Self::swallow(source)?;
                    self.reset();
                    return Ok(taken);
                };
                let taken = peer.buffer.push(source, self.capacity(&peer), None, &mut None)?;
                if what.flags & msg::OOB != 0 && source.remaining() == 0 {
                    peer.buffer.mark_urgent();
                    peer.common.queue.wake(Events::PRI);
                }
                peer.common.queue.wake(Events::IN | Events::RDNORM);
                let packets = lo::count(self.common.domain, taken);
                stats::add(self.common.domain, Counter::Segments, packets);
                Ok(taken)
            });
            match result {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn receive_urgent(&self, sink: &mut dyn Sink, what: &mut Receive) -> Result<usize> {
        if self.common.is_on(n::SO_OOBINLINE) {
            return Err(Errno::EINVAL);
        }
        let byte = self.buffer.read_urgent(what.flags & msg::PEEK != 0)?;
        what.out_flags |= msg::OOB;
        if sink.remaining() == 0 {
            what.out_flags |= msg::TRUNC;
            return Ok(0);
        }
        sink.put(&[byte])
    }

    pub(super) fn do_receive(&self, sink: &mut dyn Sink, what: &mut Receive) -> Result<usize> {
        if self.phase() == Phase::Listening {
            return Err(Errno::ENOTCONN);
        }
        if what.flags & msg::ERRQUEUE != 0 {
            return Err(Errno::EAGAIN);
        }
        if what.flags & msg::OOB != 0 {
            return self.receive_urgent(sink, what);
        }
        let want = sink.remaining();
        if want == 0 {
            return Ok(0);
        }
        let how = Reading {
            peek: what.flags & msg::PEEK != 0,
            by_sender: false,
            inline: self.common.is_on(n::SO_OOBINLINE),
        };
        let target = match what.flags & msg::WAITALL {
            0 => self.common.low_water().min(want),
            _ if how.peek => 1,
            _ => want,
        };
        let mut done = 0;
        // With MSG_TRUNC the bytes are counted and thrown away.
        let mut discard = Discard(want);
        let sink: &mut dyn Sink = if what.flags & msg::TRUNC != 0 { &mut discard } else { sink };
        loop {
            let result = self.common.receive(what.nonblock, || {
                // Looked at first: what came before the end must be seen.
                let (finished, shut, phase) =
                    (self.finished.load(Ordering::SeqCst), self.common.shut(), self.phase());
                match self.buffer.read(sink, how, &mut Beside::default()) {
                    Err(Errno::EAGAIN) if done > 0 && (finished || phase == Phase::Closed) => Ok(0),
                    Err(Errno::EAGAIN) if finished => Ok(0),
                    Err(Errno::EAGAIN) => match self.common.take_error() {
                        Some(e) => Err(e),
                        None if shut & RECEIVE != 0 => Ok(0),
                        None if phase == Phase::Closed => Err(Errno::ENOTCONN),
                        None => Err(Errno::EAGAIN),
                    },
                    other => other,
                }
            });
            match result {
                Ok(0) => break,
                Ok(n) => {
                    done += n;
                    if !how.peek
                        && let Some(peer) = self.peer()
                    {
                        peer.common.queue.wake(Events::OUT | Events::WRNORM);
                    }
                    if done >= target || how.peek {
                        break;
                    }
                }
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }
}

/// A sink that only counts.
struct Discard(usize);

impl Sink for Discard {
    fn remaining(&self) -> usize {
        self.0
    }

    fn put(&mut self, data: &[u8]) -> Result<usize> {
        let n = data.len().min(self.0);
        self.0 -= n;
        Ok(n)
    }

    fn put_frame(&mut self, _: &crate::mm::frames::FrameRef, _: usize, len: usize) -> Result<usize> {
        let n = len.min(self.0);
        self.0 -= n;
        Ok(n)
    }
}
