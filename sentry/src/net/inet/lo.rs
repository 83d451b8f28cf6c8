//! The loopback interface, as ioctl(2) requests of netdevice(7) show it.

use super::options::MTU;
use super::stats::{self, Counter};
use crate::errno::{Errno, Result};
use crate::kernel::cred::cap;
use crate::kernel::task::CurrentTask;
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::{ioctl as i, net as n};

/// Name of the interface.
pub const NAME: &[u8] = b"lo";
/// Number of the interface.
pub const INDEX: u32 = 1;
/// IFF_UP, IFF_LOOPBACK, IFF_RUNNING; what rtnetlink(7) shows has IFF_LOWER_UP as well.
pub const FLAGS: u32 = 0x49;
/// ARPHRD_LOOPBACK.
pub const HARDWARE: u16 = 772;
/// Length of its transmit queue.
pub const QUEUE_LEN: u32 = 1000;

const SIOCGSTAMP: u32 = 0x8906;
/// Bytes and packets that went over it.
static TRAFFIC: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// Counts what was sent, and returns how many packets it was; streams count as packets of the interface's size.
pub fn count(domain: u32, bytes: usize) -> u64 {
    let packets = bytes.div_ceil(MTU as usize).max(1) as u64;
    TRAFFIC[0].fetch_add(bytes as u64, Ordering::Relaxed);
    TRAFFIC[1].fetch_add(packets, Ordering::Relaxed);
    stats::add(domain, Counter::Packets, packets);
    stats::add(domain, Counter::Bytes, bytes as u64);
    packets
}

/// Bytes and packets that went over it.
pub fn traffic() -> (u64, u64) {
    (TRAFFIC[0].load(Ordering::Relaxed), TRAFFIC[1].load(Ordering::Relaxed))
}

/// Length of struct ifreq.
const IFREQ: usize = 40;
/// Requests that would change interfaces, addresses or routes.
const CHANGES: core::ops::RangeInclusive<u32> = 0x890b..=0x890c;

fn sockaddr(ip: [u8; 4]) -> [u8; 16] {
    let mut out = [0; 16];
    out[..2].copy_from_slice(&(n::AF_INET as u16).to_ne_bytes());
    out[4..8].copy_from_slice(&ip);
    out
}

/// struct ifconf: the list of addresses.
fn list(task: &CurrentTask, arg: u64) -> Result<u64> {
    let [len, buffer]: [u64; 2] = task.read_obj(arg)?;
    let room = i32::try_from(len & 0xffff_ffff).map_err(|_| Errno::EINVAL)?;
    let mut done = 0i32;
    if buffer == 0 {
        done = IFREQ as i32;
    } else if room >= IFREQ as i32 {
        let mut entry = [0; IFREQ];
        entry[..NAME.len()].copy_from_slice(NAME);
        entry[16..32].copy_from_slice(&sockaddr([127, 0, 0, 1]));
        task.write_bytes(buffer, &entry)?;
        done = IFREQ as i32;
    }
    task.write_obj(arg, &done)?;
    Ok(0)
}

/// SIOCSIFFLAGS: the interface is up and stays so.
fn set_flags(task: &CurrentTask, arg: u64) -> Result<u64> {
    let entry: [u8; IFREQ] = task.read_obj(arg)?;
    if !task.cred().has(cap::NET_ADMIN) {
        return Err(Errno::EPERM);
    }
    if entry[..16].split(|b| *b == 0).next() != Some(NAME) {
        return Err(Errno::ENODEV);
    }
    let up = u32::from(u16::from_ne_bytes([entry[16], entry[17]])) & FLAGS & 1 != 0;
    if up { Ok(0) } else { Err(Errno::EOPNOTSUPP) }
}

/// Serves requests that any socket takes.
///
/// # Errors
/// ENODEV for another interface; EPERM for changes; ENOTTY for what is not known.
pub fn ioctl(task: &CurrentTask, request: u32, arg: u64) -> Result<u64> {
    if request == i::SIOCGIFCONF {
        return list(task, arg);
    }
    let getter = matches!(
        request,
        i::SIOCGIFNAME
            | i::SIOCGIFINDEX
            | i::SIOCGIFFLAGS
            | i::SIOCGIFADDR
            | i::SIOCGIFDSTADDR
            | i::SIOCGIFBRDADDR
            | i::SIOCGIFNETMASK
            | i::SIOCGIFMETRIC
            | i::SIOCGIFMTU
            | i::SIOCGIFHWADDR
            | i::SIOCGIFTXQLEN
            | i::SIOCGIFMAP
    );
    if request == i::SIOCSIFFLAGS {
        return set_flags(task, arg);
    }
    if !getter {
        return match request {
            SIOCGSTAMP | 0x8907 => Err(Errno::ENOENT),
            // The others of netdevice(7) from SIOCSIFLINK on set something.
            0x8911..=0x8999 => {
                Err(if task.cred().has(cap::NET_ADMIN) { Errno::EOPNOTSUPP } else { Errno::EPERM })
            }
            _ if CHANGES.contains(&request) => Err(Errno::EPERM),
            _ => Err(Errno::ENOTTY),
        };
    }
    let mut entry: [u8; IFREQ] = task.read_obj(arg)?;
    if request == i::SIOCGIFNAME {
        let index = u32::from_ne_bytes([entry[16], entry[17], entry[18], entry[19]]);
        if index != INDEX {
            return Err(Errno::ENODEV);
        }
        entry[..16].fill(0);
        entry[..NAME.len()].copy_from_slice(NAME);
        task.write_obj(arg, &entry)?;
        return Ok(0);
    }
    let name = entry[..16].split(|b| *b == 0).next().unwrap_or_default();
    if name != NAME {
        return Err(Errno::ENODEV);
    }
    entry[16..].fill(0);
    let mut put = |bytes: &[u8]| entry[16..16 + bytes.len()].copy_from_slice(bytes);
    match request {
        i::SIOCGIFINDEX => put(&INDEX.to_ne_bytes()),
        i::SIOCGIFFLAGS => put(&(FLAGS as u16).to_ne_bytes()),
        i::SIOCGIFADDR | i::SIOCGIFDSTADDR => put(&sockaddr([127, 0, 0, 1])),
        i::SIOCGIFBRDADDR => put(&sockaddr([0; 4])),
        i::SIOCGIFNETMASK => put(&sockaddr([255, 0, 0, 0])),
        i::SIOCGIFMTU => put(&MTU.to_ne_bytes()),
        i::SIOCGIFHWADDR => put(&HARDWARE.to_ne_bytes()),
        i::SIOCGIFTXQLEN => put(&QUEUE_LEN.to_ne_bytes()),
        _ => {}
    }
    task.write_obj(arg, &entry)?;
    Ok(0)
}
