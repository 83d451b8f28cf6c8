//! Addresses of ip(7) and ipv6(7).

use crate::errno::{Errno, Result};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use linux_raw_sys::net as n;

/// The family at the start of an address.
///
/// # Errors
/// EINVAL where it is too short.
pub fn family(raw: &[u8]) -> Result<u32> {
    raw.first_chunk().map(|f| u32::from(u16::from_ne_bytes(*f))).ok_or(Errno::EINVAL)
}

/// Takes a struct sockaddr_in or sockaddr_in6 apart, for a socket of a family. An IPv4 address in IPv6 form becomes
/// the plain one.
///
/// # Errors
/// EINVAL where it is too short; EAFNOSUPPORT for another family.
pub fn parse(raw: &[u8], domain: u32) -> Result<SocketAddr> {
    let found = family(raw)?;
    let port = |raw: &[u8]| raw.get(2..4).and_then(|p| p.try_into().ok()).map(u16::from_be_bytes);
    let wrong = if raw.len() < 16 { Errno::EINVAL } else { Errno::EAFNOSUPPORT };
    if domain == n::AF_INET {
        if raw.len() < 16 {
            return Err(Errno::EINVAL);
        }
        let ip: [u8; 4] = raw.get(4..8).and_then(|a| a.try_into().ok()).ok_or(Errno::EINVAL)?;
        // Old programs leave the family of the wildcard out.
        if found != n::AF_INET && (found != n::AF_UNSPEC || ip != [0; 4]) {
            return Err(wrong);
        }
        return Ok(SocketAddr::new(IpAddr::V4(ip.into()), port(raw).ok_or(Errno::EINVAL)?));
    }
    if found != n::AF_INET6 {
        return Err(wrong);
    }
    let ip: [u8; 16] = raw.get(8..24).and_then(|a| a.try_into().ok()).ok_or(Errno::EINVAL)?;
    Ok(SocketAddr::new(IpAddr::V6(ip.into()).to_canonical(), port(raw).ok_or(Errno::EINVAL)?))
}

/// An address as a socket of a family shows it.
pub fn bytes(address: SocketAddr, domain: u32) -> Vec<u8> {
    let mut out = (domain as u16).to_ne_bytes().to_vec();
    out.extend_from_slice(&address.port().to_be_bytes());
    if domain == n::AF_INET {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        out.extend_from_slice(&ip.octets());
        out.extend_from_slice(&[0; 8]);
    } else {
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&in_v6(address.ip()).octets());
        out.extend_from_slice(&[0; 4]);
    }
    out
}

/// An address in IPv6 form.
pub fn in_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// The wildcard of a family.
pub fn any(domain: u32) -> IpAddr {
    if domain == n::AF_INET { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Whether an address is the sandbox's own.
pub fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback()
}

/// Where a connection to an address goes: the wildcard means the sandbox itself.
///
/// # Errors
/// ENETUNREACH: there is nothing but the loopback interface.
pub fn route(ip: IpAddr) -> Result<IpAddr> {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ok(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => Ok(Ipv6Addr::LOCALHOST.into()),
        ip if is_local(ip) => Ok(ip),
        _ => Err(Errno::ENETUNREACH),
    }
}

/// The address that data to `to` comes from where the socket has none of its own.
pub fn source_for(to: IpAddr) -> IpAddr {
    match to {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}
