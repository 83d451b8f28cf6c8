//! What the header of a datagram says beside its addresses: hops that are left and the class of traffic, as a socket
//! has them or a message brings them along.

use super::options::{IpOptions, SOL_IP, SOL_IPV6};
use crate::errno::{Errno, Result};
use alloc::vec::Vec;

const IP_TOS: u32 = 1;
const IP_TTL: u32 = 2;
const IPV6_UNICAST_HOPS: u32 = 16;
const IPV6_2292HOPLIMIT: u32 = 8;
const IPV6_HOPLIMIT: u32 = 52;
const IPV6_TCLASS: u32 = 67;
/// IP_RETOPTS, IP_PKTINFO: allowed, without effect.
const V4_IGNORED: [u32; 2] = [7, 8];
/// IPV6_2292PKTINFO to IPV6_2292RTHDR; IPV6_FLOWINFO; IPV6_PKTINFO; IPV6_HOPOPTS, IPV6_RTHDRDSTOPTS, IPV6_RTHDR, IPV6_DSTOPTS;
/// IPV6_DONTFRAG: allowed, without effect.
const V6_IGNORED: [u32; 11] = [2, 3, 4, 5, 11, 50, 54, 55, 57, 59, 62];

/// The fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Time to live, or hop limit.
    pub hops: u8,
    /// Type of service, or traffic class.
    pub class: u8,
}

impl Header {
    /// The header of a datagram from a socket with these options, and a message with these control messages (level,
    /// type, data): ip(7), ipv6(7). `v6`: it is a datagram of IPv6, for which messages of IPv4 do not count, and the
    /// other way round.
    ///
    /// # Errors
    /// EINVAL for a value or a control message that is not known.
    pub fn new(options: &IpOptions, v6: bool, control: &[(u32, u32, Vec<u8>)]) -> Result<Self> {
        let own = if v6 {
            [options.v6_value(IPV6_UNICAST_HOPS), options.v6_value(IPV6_TCLASS)]
        } else {
            [options.v4_value(IP_TTL), options.v4_value(IP_TOS)]
        };
        let [mut hops, mut class] = own.map(|value| u8::try_from(value).unwrap_or(0));
        for (level, kind, data) in control {
            match (*level, *kind) {
                (SOL_IP, IP_TTL) if !v6 => {
                    hops = byte(int(data)?).filter(|ttl| *ttl != 0).ok_or(Errno::EINVAL)?;
                }
                (SOL_IP, IP_TOS) if !v6 => {
                    class = match data.as_slice() {
                        [tos] => *tos,
                        _ => byte(int(data)?).ok_or(Errno::EINVAL)?,
                    };
                }
                (SOL_IP, kind) if !v6 && !V4_IGNORED.contains(&kind) => return Err(Errno::EINVAL),
                (SOL_IPV6, IPV6_HOPLIMIT | IPV6_2292HOPLIMIT) if v6 => hops = byte_or(int(data)?, hops)?,
                (SOL_IPV6, IPV6_TCLASS) if v6 => class = byte_or(int(data)?, class)?,
                (SOL_IPV6, kind) if v6 && !V6_IGNORED.contains(&kind) => return Err(Errno::EINVAL),
                _ => {}
            }
        }
        Ok(Self { hops, class })
    }
}

fn int(data: &[u8]) -> Result<i32> {
    data.try_into().map(i32::from_ne_bytes).map_err(|_| Errno::EINVAL)
}

fn byte(value: i32) -> Option<u8> {
    u8::try_from(value).ok()
}

/// -1 stands for what the socket says.
fn byte_or(value: i32, own: u8) -> Result<u8> {
    if value == -1 { Ok(own) } else { byte(value).ok_or(Errno::EINVAL) }
}
