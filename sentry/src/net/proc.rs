//! Text of /proc/net.

use super::inet::tcp::TcpSocket;
use super::inet::udp::UdpSocket;
use super::inet::{address, lo, stats};
use super::unix::UnixSocket;
use super::{Socket, all};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use linux_raw_sys::net as n;

/// An address and port as hexadecimal digits: words of the machine's own order.
fn hex(address: Option<SocketAddr>, domain: u32) -> String {
    let address = address.unwrap_or(SocketAddr::new(address::any(domain), 0));
    let port = address.port();
    let words = |octets: &[u8]| -> String {
        let word = |w: &[u8]| w.try_into().map_or(0, u32::from_ne_bytes);
        octets.chunks(4).map(|w| format!("{:08X}", word(w))).collect()
    };
    match (domain, address.ip()) {
        (n::AF_INET, IpAddr::V4(ip)) => format!("{}:{port:04X}", words(&ip.octets())),
        (n::AF_INET, IpAddr::V6(_)) => format!("00000000:{port:04X}"),
        (_, ip) => format!("{}:{port:04X}", words(&address::in_v6(ip).octets())),
    }
}

/// Sockets as a family and type.
fn of<T: 'static>(domain: u32) -> Vec<Arc<dyn Socket>> {
    let mut sockets = all();
    sockets.retain(|s| s.common().domain == domain && s.as_any().is::<T>());
    sockets
}

fn tcp_line(at: usize, socket: &TcpSocket, ino: u64) -> String {
    let common = socket.common();
    let (local, remote) = socket.addresses();
    let (local, remote) = (hex(local, common.domain), hex(remote, common.domain));
    let (state, queued, uid) = (socket.state_number(), socket.received(), common.uid);
    let text = format!(
        "{at:4}: {local} {remote} {state:02X} {:08X}:{queued:08X} 00:00000000 00000000 {uid:5}        0 {ino} 1 0000000000000000 100 0 0 10 0",
        0
    );
    if common.domain == n::AF_INET { format!("{text:<149}\n") } else { text + "\n" }
}

fn tcp(domain: u32) -> String {
    let mut lines = String::new();
    let mut at = 0;
    let mut add = |socket: &TcpSocket, ino| {
        lines += &tcp_line(at, socket, ino);
        at += 1;
    };
    for socket in of::<TcpSocket>(domain) {
        let Some(socket) = socket.as_any().downcast_ref::<TcpSocket>() else { continue };
        // Neither bound nor connected: in no table.
        if socket.state_number() != 7 {
            add(socket, socket.common().ino);
        }
        for waiting in socket.waiting() {
            add(&waiting, 0);
        }
    }
    lines
}

fn udp(domain: u32) -> String {
    let mut lines = String::new();
    for (at, socket) in of::<UdpSocket>(domain).iter().enumerate() {
        let Some(socket) = socket.as_any().downcast_ref::<UdpSocket>() else { continue };
        let (local, remote) = socket.addresses();
        if local.is_none() {
            continue;
        }
        let state = if remote.is_some() { 1 } else { 7 };
        let common = socket.common();
        let text = format!(
            "{at:5}: {} {} {state:02X} {:08X}:{:08X} 00:00000000 00000000 {:5}        0 {} 2 0000000000000000 0",
            hex(local, domain),
            hex(remote, domain),
            0,
            socket.received(),
            common.uid,
            common.ino
        );
        lines += &if domain == n::AF_INET { format!("{text:<127}\n") } else { text + "\n" };
    }
    lines
}

fn unix() -> String {
    let sockets = of::<UnixSocket>(n::AF_UNIX);
    sockets.iter().filter_map(|s| s.as_any().downcast_ref::<UnixSocket>()).map(UnixSocket::describe).collect()
}

fn netlink() -> String {
    let line = |s: &Arc<dyn Socket>| {
        let name = s.name().unwrap_or_default();
        let port = name.get(4..8).and_then(|p| p.try_into().ok()).map_or(0, u32::from_ne_bytes);
        let (protocol, ino) = (s.common().protocol, s.common().ino);
        format!(
            "0000000000000000 {protocol:<3} {port:<10} 00000000 0        0        0        2        0        {ino}\n"
        )
    };
    of::<super::netlink::NetlinkSocket>(n::AF_NETLINK).iter().map(line).collect()
}

fn dev() -> String {
    let (bytes, packets) = lo::traffic();
    let half = |tail: &str| format!("{bytes:8} {packets:7}    0    0    0     0          {tail}");
    format!("    lo: {} {}\n", half("0         0"), half("0       0"))
}

/// Connections of TCP that are up.
fn established() -> usize {
    let up =
        |s: &&Arc<dyn Socket>| s.as_any().downcast_ref::<TcpSocket>().is_some_and(|t| t.state_number() == 1);
    all().iter().filter(up).count()
}

fn sockstat(domain: u32) -> String {
    let sockets = all();
    let count = |tcp: bool| {
        let is = |s: &&Arc<dyn Socket>| {
            s.common().domain == domain
                && if tcp { s.as_any().is::<TcpSocket>() } else { s.as_any().is::<UdpSocket>() }
        };
        sockets.iter().filter(is).count()
    };
    let (tcp, udp) = (count(true), count(false));
    if domain == n::AF_INET6 {
        return format!(
            "TCP6: inuse {tcp}\nUDP6: inuse {udp}\nUDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0\n"
        );
    }
    format!(
        "sockets: used {}\nTCP: inuse {tcp} orphan 0 tw 0 alloc {tcp} mem 0\nUDP: inuse {udp} mem 0\nUDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n",
        sockets.len()
    )
}

fn protocols() -> String {
    let sockets = all();
    let line = |name: &str, domain: u32, kind: Option<u32>| {
        let own =
            |s: &&Arc<dyn Socket>| s.common().domain == domain && kind.is_none_or(|k| s.common().kind == k);
        let count = sockets.iter().filter(own).count();
        format!(
            "{name:<9} {:4} {count:6}  {:6}   no       0   no   kernel      n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n\n",
            1024, -1
        )
    };
    let head = "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re sp bi br ha uh gp em\n";
    [
        head.into(),
        line("TCPv6", n::AF_INET6, Some(n::SOCK_STREAM)),
        line("UDPv6", n::AF_INET6, Some(n::SOCK_DGRAM)),
        line("TCP", n::AF_INET, Some(n::SOCK_STREAM)),
        line("UDP", n::AF_INET, Some(n::SOCK_DGRAM)),
        line("UNIX", n::AF_UNIX, None),
        line("NETLINK", n::AF_NETLINK, None),
    ]
    .concat()
}

/// What follows the heading of a file; for a few the whole text. `None` where there is nothing to add.
pub fn lines(name: &str) -> Option<String> {
    Some(match name {
        "tcp" => tcp(n::AF_INET),
        "tcp6" => tcp(n::AF_INET6),
        "udp" => udp(n::AF_INET),
        "udp6" => udp(n::AF_INET6),
        "unix" => unix(),
        "netlink" => netlink(),
        "dev" => dev(),
        "sockstat" => sockstat(n::AF_INET),
        "sockstat6" => sockstat(n::AF_INET6),
        "snmp" => stats::snmp(established()),
        "snmp6" => stats::snmp6(),
        "netstat" => stats::netstat(),
        "protocols" => protocols(),
        "if_inet6" => "00000000000000000000000000000001 01 80 10 80       lo\n".into(),
        "ipv6_route" => {
            let zero = "00000000000000000000000000000000";
            let one = "00000000000000000000000000000001";
            format!("{one} 80 {zero} 00 {zero} 00000000 00000002 00000000 80200001       lo\n")
        }
        _ => return None,
    })
}
