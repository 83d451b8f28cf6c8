//! Which socket has which port.

use super::address;
use crate::errno::{Errno, Result};
use crate::sync::SpinLock;
use crate::vfs::hooks;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Ports that are given out, both ends included: /proc/sys/net/ipv4/ip_local_port_range.
pub const EPHEMERAL: (u16, u16) = (32768, 60999);

/// What a socket is bound to. Connections that a listener accepts share its own.
pub struct Binding<S> {
    /// Address and port.
    pub address: SocketAddr,
    /// An IPv6 wildcard takes IPv6 only.
    pub v6_only: bool,
    reuse_address: AtomicBool,
    reuse_port: AtomicBool,
    uid: u32,
    /// It takes connections, or datagrams.
    pub active: AtomicBool,
    /// The socket.
    pub socket: Weak<S>,
}

/// What a socket says of itself when it is bound.
pub struct Claim<S> {
    /// Address; port 0 for any.
    pub address: SocketAddr,
    /// IPV6_V6ONLY.
    pub v6_only: bool,
    /// SO_REUSEADDR.
    pub reuse_address: bool,
    /// SO_REUSEPORT.
    pub reuse_port: bool,
    /// Its owner.
    pub uid: u32,
    /// Takes data from the start (UDP).
    pub active: bool,
    /// Two that share an address by SO_REUSEADDR may both be active (UDP).
    pub share_active: bool,
    /// The socket.
    pub socket: Weak<S>,
}

/// The ports of a protocol.
pub struct Ports<S> {
    table: SpinLock<BTreeMap<u16, Vec<Weak<Binding<S>>>>>,
    next: AtomicU32,
}

fn overlap(a: IpAddr, a_only: bool, b: IpAddr, b_only: bool) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a == b || a.is_unspecified() || b.is_unspecified(),
        (IpAddr::V6(a), IpAddr::V6(b)) => a == b || a.is_unspecified() || b.is_unspecified(),
        (IpAddr::V6(a), IpAddr::V4(_)) => a.is_unspecified() && !a_only,
        (IpAddr::V4(_), IpAddr::V6(b)) => b.is_unspecified() && !b_only,
    }
}

impl<S> Binding<S> {
    /// Follows a change of SO_REUSEADDR and SO_REUSEPORT.
    pub fn set_reuse(&self, address: bool, port: bool) {
        self.reuse_address.store(address, Ordering::Relaxed);
        self.reuse_port.store(port, Ordering::Relaxed);
    }

    fn conflicts(&self, claim: &Claim<S>) -> bool {
        if !overlap(self.address.ip(), self.v6_only, claim.address.ip(), claim.v6_only) {
            return false;
        }
        let both_address = self.reuse_address.load(Ordering::Relaxed) && claim.reuse_address;
        let both_port = self.reuse_port.load(Ordering::Relaxed) && claim.reuse_port && self.uid == claim.uid;
        let shared = both_address && (claim.share_active || !self.active.load(Ordering::Relaxed));
        !shared && !both_port
    }

    /// How well it fits a destination: more is better.
    fn score(&self, to: IpAddr) -> Option<u32> {
        let own = self.address.ip();
        if own == to {
            return Some(3);
        }
        match (own, to) {
            (IpAddr::V4(own), IpAddr::V4(_)) if own.is_unspecified() => Some(2),
            (IpAddr::V6(own), IpAddr::V6(_)) if own.is_unspecified() => Some(2),
            (IpAddr::V6(own), IpAddr::V4(_)) if own.is_unspecified() && !self.v6_only => Some(1),
            _ => None,
        }
    }
}

impl<S> Default for Ports<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Ports<S> {
    /// None taken.
    pub const fn new() -> Self {
        Self { table: SpinLock::new(BTreeMap::new()), next: AtomicU32::new(0) }
    }

    fn live(list: Option<&Vec<Weak<Binding<S>>>>) -> Vec<Arc<Binding<S>>> {
        list.into_iter().flatten().filter_map(Weak::upgrade).collect()
    }

    fn enter(table: &mut BTreeMap<u16, Vec<Weak<Binding<S>>>>, claim: Claim<S>) -> Arc<Binding<S>> {
        let binding = Arc::new(Binding {
            address: claim.address,
            v6_only: claim.v6_only,
            reuse_address: AtomicBool::new(claim.reuse_address),
            reuse_port: AtomicBool::new(claim.reuse_port),
            uid: claim.uid,
            active: AtomicBool::new(claim.active),
            socket: claim.socket,
        });
        let list = table.entry(claim.address.port()).or_default();
        list.retain(|b| b.strong_count() > 0);
        list.push(Arc::downgrade(&binding));
        binding
    }

    /// Binds a socket; port 0 takes one that nobody has.
    ///
    /// # Errors
    /// EADDRINUSE.
    pub fn bind(&self, mut claim: Claim<S>) -> Result<Arc<Binding<S>>> {
        let port = claim.address.port();
        let mut table = self.table.lock();
        if port != 0 {
            let others = Self::live(table.get(&port));
            if others.iter().any(|b| b.conflicts(&claim)) {
                return Err(Errno::EADDRINUSE);
            }
            return Ok(Self::enter(&mut table, claim));
        }
        let (first, last) = EPHEMERAL;
        let count = u32::from(last - first) + 1;
        if self.next.load(Ordering::Relaxed) == 0 {
            let mut raw = [0; 4];
            hooks::kernel().random(&mut raw);
            self.next.store(u32::from_ne_bytes(raw) % count, Ordering::Relaxed);
        }
        for _ in 0..count {
            let port = first + (self.next.fetch_add(1, Ordering::Relaxed) % count) as u16;
            if table.get(&port).is_some_and(|list| list.iter().any(|b| b.strong_count() > 0)) {
                continue;
            }
            claim.address.set_port(port);
            return Ok(Self::enter(&mut table, claim));
        }
        Err(Errno::EADDRINUSE)
    }

    /// Lets a binding take connections.
    ///
    /// # Errors
    /// EADDRINUSE where another does already and does not share the port.
    pub fn activate(&self, binding: &Arc<Binding<S>>) -> Result<()> {
        let table = self.table.lock();
        let others = Self::live(table.get(&binding.address.port()));
        for other in others.iter().filter(|o| !Arc::ptr_eq(o, binding)) {
            let both = other.reuse_port.load(Ordering::Relaxed)
                && binding.reuse_port.load(Ordering::Relaxed)
                && other.uid == binding.uid;
            let meet = overlap(other.address.ip(), other.v6_only, binding.address.ip(), binding.v6_only);
            if meet && other.active.load(Ordering::Relaxed) && !both {
                return Err(Errno::EADDRINUSE);
            }
        }
        binding.active.store(true, Ordering::Relaxed);
        drop(table);
        Ok(())
    }

    /// Sockets that take what goes to an address, the best ones only.
    pub fn find(&self, to: SocketAddr) -> Vec<Arc<S>> {
        let list = {
            let table = self.table.lock();
            Self::live(table.get(&to.port()))
        };
        let active = list.iter().filter(|b| b.active.load(Ordering::Relaxed));
        let scored: Vec<_> = active.filter_map(|b| Some((b.score(to.ip())?, b))).collect();
        let best = scored.iter().map(|(score, _)| *score).max();
        scored
            .into_iter()
            .filter(|(score, _)| Some(*score) == best)
            .filter_map(|(_, b)| b.socket.upgrade())
            .collect()
    }
}

/// Checks an address that is to be bound.
///
/// # Errors
/// EADDRNOTAVAIL, EACCES.
pub fn may_bind(address: SocketAddr, privileged: bool) -> Result<()> {
    let ip = address.ip();
    if !ip.is_unspecified() && !address::is_local(ip) {
        return Err(Errno::EADDRNOTAVAIL);
    }
    let first = crate::fs::proc::sysctl::get_number("net/ipv4/ip_unprivileged_port_start").unwrap_or(1024);
    if address.port() != 0 && u64::from(address.port()) < first && !privileged {
        return Err(Errno::EACCES);
    }
    Ok(())
}
