//! Options of ip(7) and ipv6(7). What concerns packets is kept and shown.

use crate::errno::{Errno, Result};
use crate::net::common::int_of;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, Ordering};
use linux_raw_sys::net as n;

/// Level of IPv4 options.
pub const SOL_IP: u32 = 0;
/// Level of IPv6 options.
pub const SOL_IPV6: u32 = 41;
/// IPV6_V6ONLY.
const V6_ONLY: u32 = 26;

/// IPv4 options that are kept: number, default, least and largest value.
const V4: [(u32, i32, i32, i32); 15] = [
    (1, 0, 0, 255),   // IP_TOS
    (2, 64, -1, 255), // IP_TTL
    (6, 0, 0, 1),     // IP_RECVOPTS
    (7, 0, 0, 1),     // IP_RETOPTS
    (8, 0, 0, 1),     // IP_PKTINFO
    (10, 1, 0, 5),    // IP_MTU_DISCOVER
    (11, 0, 0, 1),    // IP_RECVERR
    (12, 0, 0, 1),    // IP_RECVTTL
    (13, 0, 0, 1),    // IP_RECVTOS
    (15, 0, 0, 1),    // IP_FREEBIND
    (20, 0, 0, 1),    // IP_RECVORIGDSTADDR
    (24, 0, 0, 1),    // IP_BIND_ADDRESS_NO_PORT
    (33, 1, -1, 255), // IP_MULTICAST_TTL
    (34, 1, 0, 1),    // IP_MULTICAST_LOOP
    (49, 1, 0, 1),    // IP_MULTICAST_ALL
];
/// IPv6 options that are kept.
const V6: [(u32, i32, i32, i32); 14] = [
    (16, 64, -1, 255),  // IPV6_UNICAST_HOPS
    (18, 1, -1, 255),   // IPV6_MULTICAST_HOPS
    (19, 1, 0, 1),      // IPV6_MULTICAST_LOOP
    (23, 1, 0, 5),      // IPV6_MTU_DISCOVER
    (25, 0, 0, 1),      // IPV6_RECVERR
    (V6_ONLY, 0, 0, 1), // IPV6_V6ONLY
    (33, 0, 0, 1),      // IPV6_FLOWINFO_SEND
    (49, 0, 0, 1),      // IPV6_RECVPKTINFO
    (51, 0, 0, 1),      // IPV6_RECVHOPLIMIT
    (66, 0, 0, 1),      // IPV6_RECVTCLASS
    (67, 0, -1, 255),   // IPV6_TCLASS
    (70, 0, 0, 1),      // IPV6_AUTOFLOWLABEL
    (72, 0, 0, 3),      // IPV6_ADDR_PREFERENCES
    (78, 0, 0, 1),      // IPV6_FREEBIND
];
/// IP_ADD_MEMBERSHIP, IP_ADD_SOURCE_MEMBERSHIP, MCAST_JOIN_GROUP, IP_MULTICAST_IF.
const V4_MULTICAST: [u32; 4] = [35, 39, 42, 32];
/// IPV6_JOIN_GROUP, IPV6_JOIN_ANYCAST, MCAST_JOIN_GROUP, IPV6_MULTICAST_IF.
const V6_MULTICAST: [u32; 4] = [20, 27, 42, 17];
/// IP_DROP_MEMBERSHIP and the like.
const V4_LEAVE: [u32; 2] = [36, 45];
const V6_LEAVE: [u32; 2] = [21, 45];
const IP_MTU: u32 = 14;
const IPV6_MTU: u32 = 24;
/// MTU of the loopback interface.
pub const MTU: i32 = 65_536;

/// Values of the options.
pub struct IpOptions {
    v4: [AtomicI32; V4.len()],
    v6: [AtomicI32; V6.len()],
}

type Kept = (u32, i32, i32, i32);

fn place<'a>(table: &'a [Kept], values: &'a [AtomicI32], name: u32) -> Option<(&'a Kept, &'a AtomicI32)> {
    table.iter().zip(values).find(|(k, _)| k.0 == name)
}

impl Default for IpOptions {
    fn default() -> Self {
        Self {
            v4: core::array::from_fn(|i| AtomicI32::new(V4.get(i).map_or(0, |k| k.1))),
            v6: core::array::from_fn(|i| AtomicI32::new(V6.get(i).map_or(0, |k| k.1))),
        }
    }
}

impl IpOptions {
    /// Takes over those of a listener.
    pub fn inherit(&self, from: &Self) {
        for (own, other) in self.v4.iter().chain(&self.v6).zip(from.v4.iter().chain(&from.v6)) {
            own.store(other.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Value of an IPv4 option; 0 of one that is not kept.
    pub fn v4_value(&self, name: u32) -> i32 {
        place(&V4, &self.v4, name).map_or(0, |(_, v)| v.load(Ordering::Relaxed))
    }

    /// Value of an IPv6 option; 0 of one that is not kept.
    pub fn v6_value(&self, name: u32) -> i32 {
        place(&V6, &self.v6, name).map_or(0, |(_, v)| v.load(Ordering::Relaxed))
    }

    /// Whether an IPv4 option is on.
    pub fn v4_on(&self, name: u32) -> bool {
        self.v4_value(name) != 0
    }

    /// Whether an IPv6 option is on.
    pub fn v6_on(&self, name: u32) -> bool {
        self.v6_value(name) != 0
    }

    /// IPV6_V6ONLY.
    pub fn v6_only(&self) -> bool {
        self.v6_on(V6_ONLY)
    }

    fn table(&self, domain: u32, level: u32) -> Result<(&[Kept], &[AtomicI32])> {
        match level {
            SOL_IP => Ok((&V4, &self.v4)),
            SOL_IPV6 if domain == n::AF_INET6 => Ok((&V6, &self.v6)),
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    /// getsockopt(2) at a level above the transport.
    ///
    /// # Errors
    /// ENOPROTOOPT; ENOTCONN for the MTU of no path.
    pub fn get(&self, domain: u32, level: u32, name: u32) -> Result<Vec<u8>> {
        let (table, values) = self.table(domain, level).map_err(|_| Errno::EOPNOTSUPP)?;
        if (level, name) == (SOL_IP, IP_MTU) || (level, name) == (SOL_IPV6, IPV6_MTU) {
            return Ok(MTU.to_ne_bytes().to_vec());
        }
        let (_, value) = place(table, values, name).ok_or(Errno::ENOPROTOOPT)?;
        Ok(value.load(Ordering::Relaxed).to_ne_bytes().to_vec())
    }

    /// setsockopt(2) at a level above the transport. `bound`: IPV6_V6ONLY is fixed.
    ///
    /// # Errors
    /// EINVAL; ENODEV for what needs an interface that does multicast; ENOPROTOOPT.
    pub fn set(&self, domain: u32, level: u32, name: u32, value: &[u8], bound: bool) -> Result<()> {
        let (table, values) = self.table(domain, level)?;
        let (join, leave) = if level == SOL_IP { (V4_MULTICAST, V4_LEAVE) } else { (V6_MULTICAST, V6_LEAVE) };
        if join.contains(&name) {
            return Err(Errno::ENODEV);
        }
        if leave.contains(&name) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        let (kept, place) = place(table, values, name).ok_or(Errno::ENOPROTOOPT)?;
        // IPv4 options may be a single byte.
        let int = match value {
            [byte, ..] if level == SOL_IP && value.len() < 4 => i32::from(*byte),
            _ => int_of(value)?,
        };
        if (level, name) == (SOL_IPV6, V6_ONLY) && bound {
            return Err(Errno::EINVAL);
        }
        let int = match (kept.2, kept.3) {
            (0, 1) => i32::from(int != 0),
            (-1, _) if int == -1 => kept.1,
            (0, 255) => int & 0xff,
            (least, most) if (least..=most).contains(&int) && (int != 0 || name != 2) => int,
            _ => return Err(Errno::EINVAL),
        };
        place.store(int, Ordering::Relaxed);
        Ok(())
    }
}
