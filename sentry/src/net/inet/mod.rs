//! Sockets of the internet domains: ip(7), ipv6(7), tcp(7), udp(7).
//!
//! The only interface is the loopback one, and what goes over it never becomes packets: a connection is two sockets
//! that know each other, each with the buffer in which it receives. A path to the outside would stand beside
//! [`address::route`], which says where a destination is.

pub mod address;
pub mod header;
pub mod lo;
pub mod options;
pub mod ports;
pub mod stats;
pub mod tcp;
pub mod udp;

use super::Socket;
use crate::errno::{Errno, Result};
use crate::kernel::cred::cap;
use crate::kernel::task::CurrentTask;
use alloc::sync::Arc;
use linux_raw_sys::net as n;

/// IPPROTO_TCP.
pub const TCP: u32 = 6;
/// IPPROTO_UDP.
pub const UDP: u32 = 17;
const ICMP: u32 = 1;
const ICMPV6: u32 = 58;
/// Highest protocol number, IPPROTO_MAX of the kernel's own.
const MAX_PROTOCOL: u32 = 263;

/// A new socket, socket(2).
///
/// # Errors
/// EPROTONOSUPPORT, ESOCKTNOSUPPORT, EPERM, EACCES, EINVAL.
pub fn create(task: &CurrentTask, domain: u32, kind: u32, protocol: u32) -> Result<Arc<dyn Socket>> {
    if protocol >= MAX_PROTOCOL {
        return Err(Errno::EINVAL);
    }
    match (kind, protocol) {
        (n::SOCK_STREAM, 0 | TCP) => Ok(tcp::TcpSocket::create(domain)),
        (n::SOCK_DGRAM, 0 | UDP) => Ok(udp::UdpSocket::create(domain)),
        (n::SOCK_DGRAM, ICMP) if domain == n::AF_INET => Err(Errno::EACCES),
        (n::SOCK_DGRAM, ICMPV6) if domain == n::AF_INET6 => Err(Errno::EACCES),
        (n::SOCK_RAW, 1..) if !task.cred().has(cap::NET_RAW) => Err(Errno::EPERM),
        (n::SOCK_STREAM | n::SOCK_DGRAM | n::SOCK_RAW, _) => Err(Errno::EPROTONOSUPPORT),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}
