//! The queue in which a socket receives packets: datagrams, records and messages of netlink(7).

use super::control::{self, Creds, InFlight, Rights};
use crate::errno::{Errno, Result};
use crate::mm::io::{Sink, Source};
use crate::sync::Mutex;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

/// What a packet costs beside its data, bytes: as much as Linux counts for a small one.
const OVERHEAD: usize = 768;

/// A packet.
pub struct Packet<A> {
    /// Its bytes.
    pub data: Vec<u8>,
    /// Where it came from, and what else the family keeps with it.
    pub from: A,
    /// Credentials of the sender.
    pub creds: Option<Creds>,
    /// Descriptions.
    pub rights: Option<Rights>,
}

impl<A> Packet<A> {
    /// A packet with the whole of a source.
    ///
    /// # Errors
    /// EFAULT, ENOMEM.
    pub fn read(source: &mut dyn Source, from: A) -> Result<Self> {
        let len = source.remaining();
        let mut data = Vec::new();
        data.try_reserve_exact(len).map_err(|_| Errno::ENOBUFS)?;
        data.resize(len, 0);
        let mut done = 0;
        while done < len {
            match source.take(data.get_mut(done..).unwrap_or_default())? {
                0 => return Err(Errno::EFAULT),
                n => done += n,
            }
        }
        Ok(Self { data, from, creds: None, rights: None })
    }
}

/// A packet as it was received.
pub struct Received<A> {
    /// Where it came from.
    pub from: A,
    /// Its whole length; more than was copied where it did not fit.
    pub len: usize,
    /// Bytes copied.
    pub copied: usize,
    /// Credentials of the sender.
    pub creds: Option<Creds>,
    /// Descriptions.
    pub rights: Option<Rights>,
}

/// The queue.
pub struct PacketQueue<A> {
    packets: Mutex<VecDeque<Packet<A>>>,
    count: AtomicUsize,
    bytes: AtomicUsize,
    cost: AtomicUsize,
}

impl<A: Clone> PacketQueue<A> {
    /// An empty one.
    pub const fn new() -> Self {
        Self {
            packets: Mutex::new(VecDeque::new()),
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            cost: AtomicUsize::new(0),
        }
    }

    /// Packets in it.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Bytes of data in it.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }

    /// What it holds, with what packets cost beside their data.
    pub fn cost(&self) -> usize {
        self.cost.load(Ordering::SeqCst)
    }

    /// Length of the first packet, FIONREAD.
    pub fn first_len(&self) -> usize {
        self.packets.lock().front().map_or(0, |p| p.data.len())
    }

    /// Adds a packet where no more than `limit` bytes are there already and it can come in (an empty queue takes any).
    ///
    /// # Errors
    /// The packet itself, where there is no room.
    pub fn push(&self, packet: Packet<A>, limit: usize) -> core::result::Result<(), Packet<A>> {
        let cost = packet.data.len() + OVERHEAD;
        let mut packets = self.packets.lock();
        let have = self.cost.load(Ordering::Relaxed);
        if have != 0 && have + cost > limit {
            return Err(packet);
        }
        self.cost.store(have + cost, Ordering::SeqCst);
        self.bytes.fetch_add(packet.data.len(), Ordering::SeqCst);
        if packet.rights.is_some() {
            control::note_move();
        }
        packets.push_back(packet);
        self.count.store(packets.len(), Ordering::SeqCst);
        Ok(())
    }

    /// Receives the first packet; what does not fit is lost, unless it is only peeked at.
    ///
    /// # Errors
    /// EAGAIN where there is none; EFAULT.
    pub fn receive(&self, sink: &mut dyn Sink, peek: bool) -> Result<Received<A>> {
        if self.count() == 0 {
            return Err(Errno::EAGAIN);
        }
        if peek {
            let packets = self.packets.lock();
            let packet = packets.front().ok_or(Errno::EAGAIN)?;
            let copied = copy(sink, &packet.data)?;
            let rights = packet.rights.as_ref().map(Rights::duplicate);
            let (from, creds) = (packet.from.clone(), packet.creds);
            return Ok(Received { from, len: packet.data.len(), copied, creds, rights });
        }
        let packet = {
            let mut packets = self.packets.lock();
            let packet = packets.pop_front().ok_or(Errno::EAGAIN)?;
            self.count.store(packets.len(), Ordering::SeqCst);
            self.bytes.fetch_sub(packet.data.len(), Ordering::SeqCst);
            self.cost.fetch_sub(packet.data.len() + OVERHEAD, Ordering::SeqCst);
            if packet.rights.is_some() {
                control::note_move();
            }
            packet
        };
        let copied = copy(sink, &packet.data)?;
        let Packet { data, from, creds, rights } = packet;
        Ok(Received { from, len: data.len(), copied, creds, rights })
    }

    /// Shows the descriptions in it.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn show_rights(&self, out: &mut Vec<InFlight>) -> Result<()> {
        let packets = self.packets.lock();
        packets.iter().filter_map(|p| p.rights.as_ref()).try_for_each(|rights| rights.show(out))
    }

    /// Throws everything away.
    pub fn clear(&self) {
        let old = {
            let mut packets = self.packets.lock();
            self.count.store(0, Ordering::SeqCst);
            self.bytes.store(0, Ordering::SeqCst);
            self.cost.store(0, Ordering::SeqCst);
            core::mem::take(&mut *packets)
        };
        drop(old);
    }
}

impl<A: Clone> Default for PacketQueue<A> {
    fn default() -> Self {
        Self::new()
    }
}

fn copy(sink: &mut dyn Sink, data: &[u8]) -> Result<usize> {
    let want = data.len().min(sink.remaining());
    let mut done = 0;
    while done < want {
        match sink.put(data.get(done..want).unwrap_or_default())? {
            0 => return Err(Errno::EFAULT),
            n => done += n,
        }
    }
    Ok(want)
}
