//! What every socket has: a queue of waiters, a pending error, shut directions and the options of socket(7).

use crate::errno::{Errno, Result};
use crate::kernel::cred::cap;
use crate::kernel::wait::{self, WaitError};
use crate::sync::{Events, WaitQueue};
use crate::vfs::{anon, hooks};
use alloc::vec::Vec;
use core::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
use linux_raw_sys::net as n;

/// The receiving direction is shut.
pub const RECEIVE: u8 = 1;
/// The sending direction is shut.
pub const SEND: u8 = 2;
/// Both directions are.
pub const BOTH: u8 = RECEIVE | SEND;

/// Buffers of a new socket, bytes: /proc/sys/net/core/wmem_default.
pub const DEFAULT_BUFFER: usize = 212_992;
/// Largest that SO_SNDBUF and SO_RCVBUF take before it is doubled.
const MAX_BUFFER: usize = 212_992;
/// Largest with SO_SNDBUFFORCE and SO_RCVBUFFORCE.
const MAX_FORCED: usize = 4 << 20;
const MIN_SEND: usize = 4608;
const MIN_RECEIVE: usize = 2304;

/// Options that are on or off, by their SO_* number; these are kept in a word of bits.
const SWITCHES: [u32; 17] = [
    n::SO_DEBUG,
    n::SO_REUSEADDR,
    n::SO_DONTROUTE,
    n::SO_BROADCAST,
    n::SO_KEEPALIVE,
    n::SO_OOBINLINE,
    n::SO_NO_CHECK,
    n::SO_REUSEPORT,
    n::SO_PASSCRED,
    n::SO_PASSSEC,
    n::SO_TIMESTAMP,
    n::SO_TIMESTAMPNS,
    n::SO_RXQ_OVFL,
    n::SO_ZEROCOPY,
    n::SO_SELECT_ERR_QUEUE,
    n::SO_LOCK_FILTER,
    n::SO_BUSY_POLL,
];

/// The common part of a socket.
pub struct Common {
    /// AF_*.
    pub domain: u32,
    /// SOCK_*.
    pub kind: u32,
    /// IPPROTO_* or NETLINK_*.
    pub protocol: u32,
    /// Inode number.
    pub ino: u64,
    /// Effective user that made it.
    pub uid: u32,
    /// Who waits for a change.
    pub queue: WaitQueue,
    error: AtomicU16,
    shut: AtomicU8,
    send_buffer: AtomicUsize,
    receive_buffer: AtomicUsize,
    receive_timeout: AtomicU64,
    send_timeout: AtomicU64,
    switches: AtomicU32,
    linger: AtomicI64,
    low_water: AtomicU32,
    priority: AtomicU32,
    mark: AtomicU32,
    /// A send found no room since O_ASYNC asked last.
    full: AtomicBool,
}

impl Common {
    /// For a new socket of the caller.
    pub fn new(domain: u32, kind: u32, protocol: u32, send_buffer: usize, receive_buffer: usize) -> Self {
        Self {
            domain,
            kind,
            protocol,
            ino: anon::new_ino(),
            uid: hooks::kernel().current_cred().map_or(0, |c| c.euid),
            queue: WaitQueue::new(),
            error: AtomicU16::new(0),
            shut: AtomicU8::new(0),
            send_buffer: AtomicUsize::new(send_buffer),
            receive_buffer: AtomicUsize::new(receive_buffer),
            receive_timeout: AtomicU64::new(0),
            send_timeout: AtomicU64::new(0),
            switches: AtomicU32::new(0),
            linger: AtomicI64::new(-1),
            low_water: AtomicU32::new(1),
            priority: AtomicU32::new(0),
            mark: AtomicU32::new(0),
            full: AtomicBool::new(false),
        }
    }

    /// Takes over the options of a listener, for a socket that it accepts.
    pub fn inherit(&self, from: &Common) {
        for (own, other) in
            [(&self.send_buffer, &from.send_buffer), (&self.receive_buffer, &from.receive_buffer)]
        {
            own.store(other.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        for (own, other) in
            [(&self.receive_timeout, &from.receive_timeout), (&self.send_timeout, &from.send_timeout)]
        {
            own.store(other.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        for (own, other) in [
            (&self.switches, &from.switches),
            (&self.low_water, &from.low_water),
            (&self.priority, &from.priority),
            (&self.mark, &from.mark),
        ] {
            own.store(other.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.linger.store(from.linger.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Sets the pending error.
    pub fn set_error(&self, error: Errno) {
        self.error.store(error.0, Ordering::SeqCst);
    }

    /// Whether an error is pending.
    pub fn has_error(&self) -> bool {
        self.error.load(Ordering::SeqCst) != 0
    }

    /// Takes the pending error, SO_ERROR.
    pub fn take_error(&self) -> Option<Errno> {
        match self.error.swap(0, Ordering::SeqCst) {
            0 => None,
            e => Some(Errno(e)),
        }
    }

    /// Fails with the pending error, which it takes.
    ///
    /// # Errors
    /// That one.
    pub fn check_error(&self) -> Result<()> {
        self.take_error().map_or(Ok(()), Err)
    }

    /// Directions that are shut: [`RECEIVE`], [`SEND`].
    pub fn shut(&self) -> u8 {
        self.shut.load(Ordering::SeqCst)
    }

    /// Shuts directions.
    pub fn shut_down(&self, directions: u8) {
        self.shut.fetch_or(directions, Ordering::SeqCst);
    }

    /// Opens all directions again: a socket that is to be connected anew.
    pub fn reopen(&self) {
        self.shut.store(0, Ordering::SeqCst);
    }

    /// Whether an option that is on or off (a number of [`SWITCHES`]) is on.
    pub fn is_on(&self, option: u32) -> bool {
        let at = SWITCHES.iter().position(|s| *s == option);
        at.is_some_and(|at| self.switches.load(Ordering::Relaxed) & (1 << at) != 0)
    }

    fn switch(&self, option: u32, on: bool) -> bool {
        let Some(at) = SWITCHES.iter().position(|s| *s == option) else { return false };
        if on {
            self.switches.fetch_or(1 << at, Ordering::Relaxed);
        } else {
            self.switches.fetch_and(!(1 << at), Ordering::Relaxed);
        }
        true
    }

    /// Bytes of SO_SNDBUF.
    pub fn send_buffer(&self) -> usize {
        self.send_buffer.load(Ordering::Relaxed)
    }

    /// Bytes of SO_RCVBUF.
    pub fn receive_buffer(&self) -> usize {
        self.receive_buffer.load(Ordering::Relaxed)
    }

    /// Bytes that a read waits for, SO_RCVLOWAT.
    pub fn low_water(&self) -> usize {
        self.low_water.load(Ordering::Relaxed) as usize
    }

    /// Seconds of SO_LINGER; `None` where it is off.
    pub fn linger(&self) -> Option<u64> {
        u64::try_from(self.linger.load(Ordering::Relaxed)).ok()
    }

    /// Tries to receive until it does something else than EAGAIN.
    ///
    /// # Errors
    /// What the attempt says; EAGAIN where it must not wait or SO_RCVTIMEO is over; EINTR.
    pub fn receive<T>(&self, nonblock: bool, attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let timeout = self.receive_timeout.load(Ordering::Relaxed);
        self.wait(&self.queue, Events::IN | Events::RDHUP, nonblock, timeout, attempt)
    }

    /// Tries to send until it does something else than EAGAIN, as [`Common::receive`]; waits at `queue`.
    ///
    /// # Errors
    /// As [`Common::receive`], with SO_SNDTIMEO.
    pub fn send<T>(
        &self,
        queue: &WaitQueue,
        nonblock: bool,
        attempt: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let timeout = self.send_timeout.load(Ordering::Relaxed);
        let result = self.wait(queue, Events::OUT, nonblock, timeout, attempt);
        if matches!(result, Err(Errno::EAGAIN)) {
            self.full.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Whether a send has found no room since this was asked last.
    pub fn ran_full(&self) -> bool {
        self.full.swap(false, Ordering::Relaxed)
    }

    fn wait<T>(
        &self,
        queue: &WaitQueue,
        events: Events,
        nonblock: bool,
        timeout: u64,
        mut attempt: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        match attempt() {
            Err(Errno::EAGAIN) if !nonblock => {}
            other => return other,
        }
        let deadline = (timeout != 0).then(|| crate::time::monotonic_ns().saturating_add(timeout));
        let result = wait::wait_until(&[(queue, events)], deadline, || match attempt() {
            Err(Errno::EAGAIN) => None,
            other => Some(other),
        });
        match result {
            Ok(result) => result,
            Err(WaitError::TimedOut) => Err(Errno::EAGAIN),
            Err(WaitError::Interrupted) if deadline.is_some() => Err(Errno::EINTR),
            Err(WaitError::Interrupted) => Err(Errno::RESTART_SYS),
        }
    }

    /// An option of SOL_SOCKET.
    ///
    /// # Errors
    /// ENOPROTOOPT where it is not known.
    pub fn get_option(&self, name: u32) -> Result<Vec<u8>> {
        let int = |v: i64| Ok((v as i32).to_ne_bytes().to_vec());
        let time = |ns: u64| {
            let parts = [(ns / crate::time::NS), (ns % crate::time::NS / 1000)];
            Ok(parts.iter().flat_map(|p| p.to_ne_bytes()).collect())
        };
        match name {
            n::SO_TYPE => int(self.kind.into()),
            n::SO_DOMAIN => int(self.domain.into()),
            n::SO_PROTOCOL => int(self.protocol.into()),
            n::SO_ERROR => int(self.take_error().map_or(0, |e| e.0.into())),
            n::SO_SNDBUF => int(self.send_buffer() as i64),
            n::SO_RCVBUF => int(self.receive_buffer() as i64),
            n::SO_RCVLOWAT => int(self.low_water() as i64),
            n::SO_SNDLOWAT => int(1),
            n::SO_PRIORITY => int(self.priority.load(Ordering::Relaxed).into()),
            n::SO_MARK => int(self.mark.load(Ordering::Relaxed).into()),
            n::SO_RCVTIMEO | n::SO_RCVTIMEO_NEW => time(self.receive_timeout.load(Ordering::Relaxed)),
            n::SO_SNDTIMEO | n::SO_SNDTIMEO_NEW => time(self.send_timeout.load(Ordering::Relaxed)),
            n::SO_LINGER => {
                let linger = self.linger();
                let parts = [i32::from(linger.is_some()), linger.unwrap_or(0) as i32];
                Ok(parts.iter().flat_map(|p| p.to_ne_bytes()).collect())
            }
            n::SO_COOKIE => Ok(self.ino.to_ne_bytes().to_vec()),
            n::SO_INCOMING_CPU => int(0),
            n::SO_PEEK_OFF => int(-1),
            n::SO_BINDTODEVICE => Ok(Vec::new()),
            _ if SWITCHES.contains(&name) => int(i64::from(self.is_on(name))),
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    /// Sets an option of SOL_SOCKET.
    ///
    /// # Errors
    /// EINVAL for a value that is too short or out of range; EPERM, EDOM; ENOPROTOOPT where it is not known.
    pub fn set_option(&self, name: u32, value: &[u8]) -> Result<()> {
        if name == n::SO_BINDTODEVICE {
            // There is one interface, and everything goes through it.
            return match value.split(|b| *b == 0).next().unwrap_or_default() {
                b"" | b"lo" => Ok(()),
                _ => Err(Errno::ENODEV),
            };
        }
        let int = int_of(value)?;
        let cred = hooks::kernel().current_cred();
        let capable = |c: u32| cred.as_ref().is_some_and(|cred| cred.has(c));
        let size = |most: usize| (int.max(0) as usize).min(most) * 2;
        match name {
            n::SO_SNDBUF => self.send_buffer.store(size(MAX_BUFFER).max(MIN_SEND), Ordering::Relaxed),
            n::SO_RCVBUF => self.receive_buffer.store(size(MAX_BUFFER).max(MIN_RECEIVE), Ordering::Relaxed),
            n::SO_SNDBUFFORCE | n::SO_RCVBUFFORCE if !capable(cap::NET_ADMIN) => return Err(Errno::EPERM),
            n::SO_SNDBUFFORCE => self.send_buffer.store(size(MAX_FORCED).max(MIN_SEND), Ordering::Relaxed),
            n::SO_RCVBUFFORCE => {
                self.receive_buffer.store(size(MAX_FORCED).max(MIN_RECEIVE), Ordering::Relaxed);
            }
            n::SO_RCVLOWAT if int < 0 => self.low_water.store(i32::MAX as u32, Ordering::Relaxed),
            n::SO_RCVLOWAT => self.low_water.store((int as u32).max(1), Ordering::Relaxed),
            n::SO_PRIORITY if !(0..=6).contains(&int) && !capable(cap::NET_ADMIN) => {
                return Err(Errno::EPERM);
            }
            n::SO_PRIORITY => self.priority.store(int as u32, Ordering::Relaxed),
            n::SO_MARK if !capable(cap::NET_ADMIN) => return Err(Errno::EPERM),
            n::SO_MARK => self.mark.store(int as u32, Ordering::Relaxed),
            n::SO_RCVTIMEO | n::SO_RCVTIMEO_NEW => {
                self.receive_timeout.store(time_of(value)?, Ordering::Relaxed);
            }
            n::SO_SNDTIMEO | n::SO_SNDTIMEO_NEW => {
                self.send_timeout.store(time_of(value)?, Ordering::Relaxed);
            }
            n::SO_LINGER => {
                let seconds = int_of(value.get(4..).unwrap_or_default())?;
                let linger = if int != 0 { i64::from(seconds.max(0)) } else { -1 };
                self.linger.store(linger, Ordering::Relaxed);
            }
            n::SO_TYPE | n::SO_DOMAIN | n::SO_PROTOCOL | n::SO_ERROR | n::SO_ACCEPTCONN | n::SO_PEERCRED => {
                return Err(Errno::ENOPROTOOPT);
            }
            n::SO_DEBUG if int != 0 && !capable(cap::NET_ADMIN) => return Err(Errno::EACCES),
            n::SO_BSDCOMPAT | n::SO_INCOMING_CPU | n::SO_MAX_PACING_RATE => {}
            n::SO_DETACH_FILTER => return Err(Errno::ENOENT),
            _ if self.switch(name, int != 0) => {}
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }
}

/// The int at the start of an option's value.
///
/// # Errors
/// EINVAL where it is too short.
pub fn int_of(value: &[u8]) -> Result<i32> {
    let raw = value.get(..4).and_then(|v| v.try_into().ok()).ok_or(Errno::EINVAL)?;
    Ok(i32::from_ne_bytes(raw))
}

/// Nanoseconds of a struct timeval; 0, or a negative time, for no limit.
fn time_of(value: &[u8]) -> Result<u64> {
    let part = |at: usize| -> Result<i64> {
        let raw = value.get(at..at + 8).and_then(|v| v.try_into().ok()).ok_or(Errno::EINVAL)?;
        Ok(i64::from_ne_bytes(raw))
    };
    let (sec, usec) = (part(0)?, part(8)?);
    if !(0..1_000_000).contains(&usec) {
        return Err(Errno::EDOM);
    }
    if sec < 0 {
        // As Linux: such a call does not wait at all.
        return Ok(1);
    }
    Ok((sec as u64).saturating_mul(crate::time::NS).saturating_add(usec as u64 * 1000))
}
