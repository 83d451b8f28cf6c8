//! /proc/PID/net.

use crate::errno::{Errno, Result};
use crate::fs::synth::{Dir, Entry, Synth};
use crate::vfs::inode::Inode;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as c;

/// Files, and their headings.
const FILES: &[(&str, &str)] = &[
    ("arp", "IP address       HW type     Flags       HW address            Mask     Device\n"),
    (
        "dev",
        "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n",
    ),
    ("dev_mcast", ""),
    ("if_inet6", ""),
    ("igmp", "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"),
    ("ipv6_route", ""),
    ("netlink", "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"),
    ("netstat", ""),
    ("packet", "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"),
    ("protocols", ""),
    ("psched", "000003e8 00000040 000f4240 3b9aca00\n"),
    ("ptype", "Type Device      Function\n"),
    (
        "raw",
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n",
    ),
    (
        "route",
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT                                                       \n",
    ),
    ("snmp", ""),
    ("snmp6", ""),
    ("sockstat", ""),
    ("sockstat6", ""),
    (
        "tcp",
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     \n",
    ),
    (
        "tcp6",
        "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n",
    ),
    (
        "udp",
        "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops            \n",
    ),
    (
        "udp6",
        "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n",
    ),
    ("unix", "Num       RefCount Protocol Flags    Type St Inode Path\n"),
];

/// The directory.
pub struct Net;

impl Dir for Net {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let (name, empty) = FILES.iter().find(|(n, _)| n.as_bytes() == name).ok_or(Errno::ENOENT)?;
        let text =
            move || Ok([*empty, &crate::net::proc::lines(name).unwrap_or_default()].concat().into_bytes());
        Ok(Synth::file(0o444, text).fleeting().inode())
    }
    fn list(&self) -> Result<Vec<Entry>> {
        Ok(FILES
            .iter()
            .enumerate()
            .map(|(at, (n, _))| (n.as_bytes().to_vec(), 0xF000 + at as u64, c::DT_REG as u8))
            .collect())
    }
}
