//! rtnetlink(7): what there is to say of the loopback interface, its addresses and their routes.

use crate::errno::Errno;
use crate::kernel::cred::cap;
use crate::net::inet::lo;
use crate::net::inet::options::MTU;
use crate::vfs::hooks;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use linux_raw_sys::net::{AF_INET, AF_INET6, AF_UNSPEC};

/// Length of struct nlmsghdr.
const HEADER: usize = 16;
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const FIRST_TYPE: u16 = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_MULTI: u16 = 2;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CAPPED: u16 = 0x100;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
/// IFF_LOWER_UP, beyond what ioctl(2) shows.
const LOWER_UP: u32 = 0x1_0000;
/// RT_SCOPE_HOST, and a route to the host itself.
const SCOPE_HOST: u8 = 254;
const TABLE_LOCAL: u8 = 255;
const PROTOCOL_KERNEL: u8 = 2;
const TYPE_LOCAL: u8 = 2;
const TYPE_BROADCAST: u8 = 3;
const SCOPE_LINK: u8 = 253;

/// A message that is being put together.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, seq: u32, port: u32) -> Self {
        let mut out = alloc::vec![0; 4];
        out.extend_from_slice(&kind.to_ne_bytes());
        out.extend_from_slice(&flags.to_ne_bytes());
        out.extend_from_slice(&seq.to_ne_bytes());
        out.extend_from_slice(&port.to_ne_bytes());
        Self(out)
    }

    fn with(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        self
    }

    fn attribute(mut self, kind: u16, data: &[u8]) -> Self {
        self.0.extend_from_slice(&((4 + data.len()) as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(data);
        let aligned = self.0.len().next_multiple_of(4);
        self.0.resize(aligned, 0);
        self
    }

    fn word(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    fn finish(mut self) -> Vec<u8> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0
    }
}

/// A request, its header taken apart.
struct Request<'a> {
    kind: u16,
    flags: u16,
    seq: u32,
    /// What follows the header.
    body: &'a [u8],
    /// All of it.
    whole: &'a [u8],
}

impl<'a> Request<'a> {
    /// The first request of a buffer, and what comes after it.
    fn split(data: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let word = |at: usize| Some(u32::from_ne_bytes(data.get(at..at + 4)?.try_into().ok()?));
        let half = |at: usize| Some(u16::from_ne_bytes(data.get(at..at + 2)?.try_into().ok()?));
        let len = word(0)? as usize;
        let whole = data.get(..len)?;
        let body = whole.get(HEADER..)?;
        let rest = data.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((Self { kind: half(4)?, flags: half(6)?, seq: word(8)?, body, whole }, rest))
    }

    /// An attribute behind a fixed part of `skip` bytes.
    fn attribute(&self, skip: usize, wanted: u16) -> Option<&'a [u8]> {
        let mut rest = self.body.get(skip..)?;
        loop {
            let len = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
            let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?) & 0x3fff;
            let data = rest.get(4..len)?;
            if kind == wanted {
                return Some(data);
            }
            rest = rest.get(len.next_multiple_of(4)..)?;
        }
    }

    fn family(&self) -> u32 {
        self.body.first().copied().unwrap_or(0).into()
    }

    fn dumps(&self) -> bool {
        self.flags & NLM_F_DUMP == NLM_F_DUMP
    }
}

/// A message of an answer: type, and what follows the header.
type Part = (u16, Message);

fn link() -> Part {
    let mut fixed = alloc::vec![0, 0];
    fixed.extend_from_slice(&lo::HARDWARE.to_ne_bytes());
    fixed.extend_from_slice(&lo::INDEX.to_ne_bytes());
    fixed.extend_from_slice(&(lo::FLAGS | LOWER_UP).to_ne_bytes());
    fixed.extend_from_slice(&[0; 4]);
    let (bytes, packets) = lo::traffic();
    // rtnl_link_stats64: received and sent packets and bytes, and 20 counters of errors and the like.
    let counters: Vec<u64> =
        [packets, packets, bytes, bytes].into_iter().chain(core::iter::repeat_n(0, 20)).collect();
    let wide: Vec<u8> = counters.iter().flat_map(|n| n.to_ne_bytes()).collect();
    let narrow: Vec<u8> = counters.iter().flat_map(|n| (*n as u32).to_ne_bytes()).collect();
    let body = Message(fixed)
        .attribute(3, b"lo\0") // IFLA_IFNAME
        .word(13, lo::QUEUE_LEN) // IFLA_TXQLEN
        .attribute(16, &[0]) // IFLA_OPERSTATE: unknown, as for any loopback interface
        .attribute(17, &[0]) // IFLA_LINKMODE
        .word(4, MTU as u32) // IFLA_MTU
        .word(50, 0) // IFLA_MIN_MTU
        .word(51, 0) // IFLA_MAX_MTU
        .word(27, 0) // IFLA_GROUP
        .word(30, 0) // IFLA_PROMISCUITY
        .word(31, 1) // IFLA_NUM_TX_QUEUES
        .word(32, 1) // IFLA_NUM_RX_QUEUES
        .attribute(33, &[1]) // IFLA_CARRIER
        .attribute(6, b"noqueue\0") // IFLA_QDISC
        .attribute(1, &[0; 6]) // IFLA_ADDRESS
        .attribute(2, &[0; 6]) // IFLA_BROADCAST
        .attribute(23, &wide) // IFLA_STATS64
        .attribute(7, &narrow); // IFLA_STATS
    (RTM_NEWLINK, body)
}

fn addresses(family: u32) -> Vec<Part> {
    // ifa_cacheinfo: for ever, made at boot.
    let cache: Vec<u8> = [u32::MAX, u32::MAX, 0, 0].iter().flat_map(|w| w.to_ne_bytes()).collect();
    let fixed = |family: u32, bits: u8| {
        let mut out = alloc::vec![family as u8, bits, 0x80, SCOPE_HOST];
        out.extend_from_slice(&lo::INDEX.to_ne_bytes());
        Message(out)
    };
    let mut out = Vec::new();
    if matches!(family, AF_UNSPEC | AF_INET) {
        let v4 = fixed(AF_INET, 8)
            .attribute(1, &Ipv4Addr::LOCALHOST.octets()) // IFA_ADDRESS
            .attribute(2, &Ipv4Addr::LOCALHOST.octets()) // IFA_LOCAL
            .attribute(3, b"lo\0") // IFA_LABEL
            .word(8, 0x80) // IFA_FLAGS: permanent
            .attribute(6, &cache); // IFA_CACHEINFO
        out.push((RTM_NEWADDR, v4));
    }
    if matches!(family, AF_UNSPEC | AF_INET6) {
        let v6 = fixed(AF_INET6, 128)
            .attribute(1, &Ipv6Addr::LOCALHOST.octets())
            .attribute(6, &cache)
            .word(8, 0x80)
            .attribute(11, &[3]); // IFA_PROTO: of the kernel, loopback
        out.push((RTM_NEWADDR, v6));
    }
    out
}

fn route(family: u32, to: &[u8], bits: u8, scope: u8, kind: u8, source: Option<&[u8]>) -> Part {
    let fixed = [family as u8, bits, 0, 0, TABLE_LOCAL, PROTOCOL_KERNEL, scope, kind, 0, 0, 0, 0];
    let mut body = Message(fixed.to_vec()).word(15, TABLE_LOCAL.into()).attribute(1, to);
    if let Some(source) = source {
        body = body.attribute(7, source);
    }
    (RTM_NEWROUTE, body.word(4, lo::INDEX))
}

fn routes(family: u32) -> Vec<Part> {
    let own = Ipv4Addr::LOCALHOST.octets();
    let mut out = Vec::new();
    if matches!(family, AF_UNSPEC | AF_INET) {
        out.push(route(AF_INET, &[127, 0, 0, 0], 8, SCOPE_HOST, TYPE_LOCAL, Some(&own)));
        out.push(route(AF_INET, &own, 32, SCOPE_HOST, TYPE_LOCAL, Some(&own)));
        let all = [127, 255, 255, 255];
        out.push(route(AF_INET, &all, 32, SCOPE_LINK, TYPE_BROADCAST, Some(&own)));
    }
    if matches!(family, AF_UNSPEC | AF_INET6) {
        out.push(route(AF_INET6, &Ipv6Addr::LOCALHOST.octets(), 128, 0, TYPE_LOCAL, None));
    }
    out
}

/// The route to one address.
fn route_to(request: &Request<'_>) -> Result<Vec<Part>, Errno> {
    let raw = request.attribute(12, 1).ok_or(Errno::EINVAL)?;
    let to = match (request.family(), raw.len()) {
        (AF_INET, 4) => IpAddr::from(<[u8; 4]>::try_from(raw).map_err(|_| Errno::EINVAL)?),
        (AF_INET6, 16) => IpAddr::from(<[u8; 16]>::try_from(raw).map_err(|_| Errno::EINVAL)?),
        _ => return Err(Errno::EINVAL),
    };
    if !to.is_loopback() {
        return Err(Errno::ENETUNREACH);
    }
    let (bits, own) = match to {
        IpAddr::V4(_) => (32, Ipv4Addr::LOCALHOST.octets().to_vec()),
        IpAddr::V6(_) => (128, Ipv6Addr::LOCALHOST.octets().to_vec()),
    };
    Ok(alloc::vec![route(request.family(), raw, bits, 0, TYPE_LOCAL, Some(&own))])
}

/// The one interface, where the request means it.
fn one_link(request: &Request<'_>) -> Result<Vec<Part>, Errno> {
    let index = request.body.get(4..8).and_then(|i| i.try_into().ok()).map(u32::from_ne_bytes);
    // IFLA_IFNAME or IFLA_ALT_IFNAME
    let name = request.attribute(16, 3).or_else(|| request.attribute(16, 53));
    match (index, name) {
        (Some(lo::INDEX), _) => Ok(alloc::vec![link()]),
        (Some(0), Some(name)) if name.strip_suffix(&[0]).unwrap_or(name) == lo::NAME => {
            Ok(alloc::vec![link()])
        }
        (Some(0), None) => Err(Errno::EINVAL),
        _ => Err(Errno::ENODEV),
    }
}

fn parts(request: &Request<'_>) -> Result<Vec<Part>, Errno> {
    match (request.kind, request.dumps()) {
        (RTM_GETLINK, true) => Ok(alloc::vec![link()]),
        (RTM_GETLINK, false) => one_link(request),
        (RTM_GETADDR, true) => Ok(addresses(request.family())),
        (RTM_GETROUTE, true) => Ok(routes(request.family())),
        (RTM_GETROUTE, false) => route_to(request),
        // Of each four types the third asks, the others change something.
        (kind, _) if kind % 4 != 2 => {
            let cred = hooks::kernel().current_cred();
            let may = cred.is_some_and(|c| c.has(cap::NET_ADMIN));
            Err(if may { Errno::EOPNOTSUPP } else { Errno::EPERM })
        }
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// Answers requests: packets for the socket with this port number. `capped`: errors do not repeat the request.
pub fn serve(data: &[u8], port: u32, capped: bool) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = data;
    while let Some((request, next)) = Request::split(rest) {
        rest = next;
        if request.flags & NLM_F_REQUEST == 0 || request.kind < FIRST_TYPE {
            if request.flags & NLM_F_ACK != 0 && request.kind == NLMSG_NOOP {
                out.push(acknowledge(&request, 0, port, capped));
            }
            continue;
        }
        match parts(&request) {
            Ok(parts) => {
                let multi = if request.dumps() { NLM_F_MULTI } else { 0 };
                let mut packet = Vec::new();
                for (kind, body) in parts {
                    packet.extend(Message::new(kind, multi, request.seq, port).with(&body.0).finish());
                }
                if request.dumps() {
                    let done = Message::new(NLMSG_DONE, NLM_F_MULTI, request.seq, port).with(&[0; 4]);
                    out.push(packet);
                    out.push(done.finish());
                } else {
                    out.push(packet);
                    if request.flags & NLM_F_ACK != 0 {
                        out.push(acknowledge(&request, 0, port, capped));
                    }
                }
            }
            Err(e) => out.push(acknowledge(&request, -i32::from(e.0), port, capped)),
        }
    }
    out.retain(|packet| !packet.is_empty());
    out
}

/// NLMSG_ERROR: an error, or an acknowledgement with 0.
fn acknowledge(request: &Request<'_>, error: i32, port: u32, capped: bool) -> Vec<u8> {
    let short = capped || error == 0;
    let flags = if short { NLM_F_CAPPED } else { 0 };
    let quoted = if short { request.whole.get(..HEADER).unwrap_or_default() } else { request.whole };
    let message = Message::new(NLMSG_ERROR, flags, request.seq, port);
    message.with(&error.to_ne_bytes()).with(quoted).finish()
}
