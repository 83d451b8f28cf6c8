//! Counters of the protocols, for /proc/net/snmp, snmp6 and netstat.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::net as n;

/// What is counted, for IPv4 and IPv6 apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Packets that went over the interface: each is sent and received.
    Packets,
    /// Their bytes.
    Bytes,
    /// Connections begun.
    ActiveOpens,
    /// Connections taken by a listener.
    PassiveOpens,
    /// Connections that nobody took.
    AttemptFails,
    /// Segments: packets of TCP.
    Segments,
    /// Connections ended by a reset.
    Resets,
    /// Datagrams sent.
    OutDatagrams,
    /// Datagrams put into a receiver's queue.
    InDatagrams,
    /// Datagrams to a port without receiver.
    NoPorts,
    /// Datagrams lost since the receiver's queue was full.
    RcvbufErrors,
}

const COUNTERS: usize = 11;

static COUNTS: [[AtomicU64; COUNTERS]; 2] = [const { [const { AtomicU64::new(0) }; COUNTERS] }; 2];

/// Counts `by` for AF_INET or AF_INET6.
pub fn add(domain: u32, counter: Counter, by: u64) {
    COUNTS[usize::from(domain == n::AF_INET6)][counter as usize].fetch_add(by, Ordering::Relaxed);
}

/// The count of a family.
fn of(domain: u32, counter: Counter) -> u64 {
    COUNTS[usize::from(domain == n::AF_INET6)][counter as usize].load(Ordering::Relaxed)
}

/// The count of both: TCP counts its connections together.
fn both(counter: Counter) -> u64 {
    of(n::AF_INET, counter) + of(n::AF_INET6, counter)
}

/// A heading and its line.
fn group(name: &str, fields: &[(&str, i64)]) -> String {
    let (mut heads, mut values) = (format!("{name}:"), format!("{name}:"));
    for (field, value) in fields {
        heads += &format!(" {field}");
        values += &format!(" {value}");
    }
    format!("{heads}\n{values}\n")
}

/// /proc/net/snmp; `established`: TCP connections that are up.
pub fn snmp(established: usize) -> String {
    let v4 = |counter| of(n::AF_INET, counter) as i64;
    let packets = v4(Counter::Packets);
    let ip = group(
        "Ip",
        &[
            ("Forwarding", 2),
            ("DefaultTTL", 64),
            ("InReceives", packets),
            ("InHdrErrors", 0),
            ("InAddrErrors", 0),
            ("ForwDatagrams", 0),
            ("InUnknownProtos", 0),
            ("InDiscards", 0),
            ("InDelivers", packets),
            ("OutRequests", packets),
            ("OutDiscards", 0),
            ("OutNoRoutes", 0),
            ("ReasmTimeout", 0),
            ("ReasmReqds", 0),
            ("ReasmOKs", 0),
            ("ReasmFails", 0),
            ("FragOKs", 0),
            ("FragFails", 0),
            ("FragCreates", 0),
            ("OutTransmits", packets),
        ],
    );
    // Each datagram that finds no port is answered by a message of ICMP.
    let unreachable = v4(Counter::NoPorts);
    let icmp = group(
        "Icmp",
        &[
            ("InMsgs", unreachable),
            ("InErrors", 0),
            ("InCsumErrors", 0),
            ("InDestUnreachs", unreachable),
            ("OutMsgs", unreachable),
            ("OutErrors", 0),
            ("OutDestUnreachs", unreachable),
        ],
    );
    let segments = both(Counter::Segments) as i64;
    let tcp = group(
        "Tcp",
        &[
            ("RtoAlgorithm", 1),
            ("RtoMin", 200),
            ("RtoMax", 120_000),
            ("MaxConn", -1),
            ("ActiveOpens", both(Counter::ActiveOpens) as i64),
            ("PassiveOpens", both(Counter::PassiveOpens) as i64),
            ("AttemptFails", both(Counter::AttemptFails) as i64),
            ("EstabResets", both(Counter::Resets) as i64),
            ("CurrEstab", established as i64),
            ("InSegs", segments),
            ("OutSegs", segments),
            ("RetransSegs", 0),
            ("InErrs", 0),
            ("OutRsts", both(Counter::Resets) as i64),
            ("InCsumErrors", 0),
        ],
    );
    let udp = |name: &str, real: bool| {
        let count = |counter| if real { v4(counter) } else { 0 };
        group(
            name,
            &[
                ("InDatagrams", count(Counter::InDatagrams)),
                ("NoPorts", count(Counter::NoPorts)),
                ("InErrors", count(Counter::RcvbufErrors)),
                ("OutDatagrams", count(Counter::OutDatagrams)),
                ("RcvbufErrors", count(Counter::RcvbufErrors)),
                ("SndbufErrors", 0),
                ("InCsumErrors", 0),
                ("IgnoredMulti", 0),
                ("MemErrors", 0),
            ],
        )
    };
    [ip, icmp, tcp, udp("Udp", true), udp("UdpLite", false)].concat()
}

/// /proc/net/snmp6
pub fn snmp6() -> String {
    let v6 = |counter| of(n::AF_INET6, counter);
    let packets = v6(Counter::Packets);
    let bytes = v6(Counter::Bytes);
    [
        ("Ip6InReceives", packets),
        ("Ip6InHdrErrors", 0),
        ("Ip6InTooBigErrors", 0),
        ("Ip6InNoRoutes", 0),
        ("Ip6InAddrErrors", 0),
        ("Ip6InUnknownProtos", 0),
        ("Ip6InTruncatedPkts", 0),
        ("Ip6InDiscards", 0),
        ("Ip6InDelivers", packets),
        ("Ip6OutForwDatagrams", 0),
        ("Ip6OutRequests", packets),
        ("Ip6OutDiscards", 0),
        ("Ip6OutNoRoutes", 0),
        ("Ip6InOctets", bytes),
        ("Ip6OutOctets", bytes),
        ("Icmp6InMsgs", v6(Counter::NoPorts)),
        ("Icmp6InErrors", 0),
        ("Icmp6OutMsgs", v6(Counter::NoPorts)),
        ("Icmp6OutErrors", 0),
        ("Icmp6InDestUnreachs", v6(Counter::NoPorts)),
        ("Icmp6OutDestUnreachs", v6(Counter::NoPorts)),
        ("Udp6InDatagrams", v6(Counter::InDatagrams)),
        ("Udp6NoPorts", v6(Counter::NoPorts)),
        ("Udp6InErrors", v6(Counter::RcvbufErrors)),
        ("Udp6OutDatagrams", v6(Counter::OutDatagrams)),
        ("Udp6RcvbufErrors", v6(Counter::RcvbufErrors)),
        ("Udp6SndbufErrors", 0),
        ("Udp6InCsumErrors", 0),
        ("UdpLite6InDatagrams", 0),
        ("UdpLite6NoPorts", 0),
        ("UdpLite6InErrors", 0),
        ("UdpLite6OutDatagrams", 0),
    ]
    .iter()
    .map(|(name, value)| format!("{name:<32}\t{value}\n"))
    .collect()
}

/// /proc/net/netstat: of its many counters those that can be other than 0 here, and those that programs look for.
pub fn netstat() -> String {
    let tcp = group(
        "TcpExt",
        &[
            ("SyncookiesSent", 0),
            ("SyncookiesRecv", 0),
            ("SyncookiesFailed", 0),
            ("TW", 0),
            ("ListenOverflows", 0),
            ("ListenDrops", 0),
            ("TCPTimeouts", 0),
            ("TCPSynRetrans", 0),
        ],
    );
    let (bytes, packets) = (of(n::AF_INET, Counter::Bytes) as i64, of(n::AF_INET, Counter::Packets) as i64);
    let ip = group(
        "IpExt",
        &[("InNoRoutes", 0), ("InOctets", bytes), ("OutOctets", bytes), ("InNoECTPkts", packets)],
    );
    tcp + &ip
}
